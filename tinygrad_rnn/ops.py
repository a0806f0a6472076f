"""The page of derivatives: every primitive once, with one rule per operand.

After this file the reader knows every derivative the package has. In a rule, ``g`` is the cotangent that arrives,
``y`` the result, then come the operands; positional means differentiable, keyword means static. Rules are written in
NumPy, which a Tensor and a placeholder answer too. A rule never undoes broadcasting and never casts: the sweep does
both, once per edge.
"""

from __future__ import annotations

import operator
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from . import primitive as _primitive
from .primitive import Gathered, as_rows, by_rows
from .tensor import Tensor, raw

__all__ = [
    "abs",
    "add",
    "affine",
    "cos",
    "divide",
    "exp",
    "expm1",
    "linear",
    "log",
    "log1p",
    "matmul",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "power",
    "relu",
    "sigmoid",
    "sin",
    "softplus",
    "sqrt",
    "square",
    "subtract",
    "tanh",
]
"""Names of the package, too; NumPy's function of such a name computes with Tensors."""

primitive = partial(_primitive.primitive, guarded=False)  # what is declared here is known to behave

# As arrays without axes: beside one, NumPy needs a third of the time that it needs beside a number of Python's. Of the
# narrower dtype, so that they widen nothing.
ZERO, ONE, LARGE = (np.array(number, np.float32) for number in (0.0, 1.0, 88.0))

# -- Helpers that several rules share --------------------------------------------------------------------------------


def kept(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a reduction over `axis` with its axes kept as ones."""
    return tuple([1 if i in axis else n for i, n in enumerate(shape)])


def _spread(g: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """A reduction's cotangent, repeated over the axes that were reduced."""
    return np.broadcast_to(np.reshape(g, kept(x.shape, axis)), x.shape)


def _is_extreme(x: Any, y: Any, axis: tuple[int, ...]) -> Any:
    """Each element's share in a max or min: ties share equally; where the result is NaN, the NaNs do."""
    chosen = raw((x == np.reshape(y, kept(x.shape, axis))) | (x != x))
    return chosen / np.maximum(chosen.sum(axis=axis, keepdims=True), 1)


def as_floats(x: Any) -> Any:
    """The same numbers; of arrays, integers as floats, since narrow ones wrap round."""
    return x * 1.0 if getattr(x, "dtype", ONE.dtype).kind in "biu" else x


def _sigmoid(x: Any) -> Any:
    # e / (1 + e) keeps its digits in the lower tail, where 1 - something would lose them. From 37 on it is 1 in
    # float64, so that the limit changes nothing but the overflow of exp.
    e = np.exp(np.minimum(x, LARGE))
    return e / (ONE + e)


def _logsumexp(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    x = as_floats(x)
    largest = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    largest = np.where(np.isfinite(largest), largest, 0.0).astype(x.dtype, copy=False)
    with np.errstate(divide="ignore"):  # log 0 = -inf is what a sum of no probability means
        y = largest + np.log(np.sum(np.exp(x - largest), axis=axis, keepdims=True))
    return y if keepdims else np.squeeze(y, axis=axis)


def _reverse_cumsum(g: Any, axis: int) -> Any:
    backwards = (slice(None),) * axis + (slice(None, None, -1),)
    return np.cumsum(g[backwards], axis)[backwards]


def _swap_last(x: Any) -> Any:
    """Transpose of a matrix or of each matrix in a stack."""
    return np.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _matmul(a: Any, b: Any) -> Any:
    try:
        if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
            return a.dot(b)  # the same product, with half of matmul's overhead
    except AttributeError:  # a number of Python's, which NumPy's matmul refuses in its own words
        pass
    return a @ b


def _matmul_left(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:  # y = a b is one number per row of a: each row of a gets b
        return np.expand_dims(g, -1) * b if a.ndim > 1 else g * b
    if a.ndim == 1:  # a is a single row: its axis was dropped from y
        return (b @ np.expand_dims(g, -1))[..., 0]
    return g @ _swap_last(b)


def _matmul_right(g: Any, y: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return np.expand_dims(a, -1) * np.expand_dims(g, -2) if b.ndim > 1 else g * a
    if b.ndim == 1:  # b is a single column: its axis was dropped from y
        return (_swap_last(a) @ np.expand_dims(g, -1))[..., 0]
    return _swap_last(a) @ g


def _linear_forward(x: Any, W: Any, b: Any) -> Any:
    try:
        fits = W.ndim == 2 and b.shape == W.shape[:1]
    except AttributeError:  # a number of Python's
        fits = False
    if not fits:
        raise ValueError(f"x Wᵀ + b needs W of shape (O, I) and b of shape (O,), not {np.shape(W)} and {np.shape(b)}")
    return _matmul(x, W.T) + b


def _affine_forward(x: Any, W: Any, b: Any, h: Any, U: Any, d: Any) -> Any:
    try:
        bias = b + d
        fits = bias.ndim == 1 and W.ndim == U.ndim == 2 and 1 <= x.ndim == h.ndim and x.shape[:-1] == h.shape[:-1]
    except AttributeError:
        fits = False
    if not fits:
        shapes = "(..., I), (O, I), (O,), (..., H), (O, H), (O,)"
        raise ValueError(f"x Wᵀ + b + h Uᵀ + d needs the shapes {shapes}, with the same leading axes for x and h")
    if bias.dtype.kind != "f":
        bias = as_floats(b) + d
    if x.ndim > 2:
        return x @ W.T + h @ U.T + bias
    # BLAS is faster on W xᵀ than on x Wᵀ; the order is C again since gates will be cut out of the rows.
    return np.add((W.dot(x.T) + U.dot(h.T)).T, bias, order="C")


def _outer(g: Any, x: Any) -> Any:
    """Σ gᵀ x over the rows: the gradient of a weight W in x Wᵀ."""
    return matmul(as_rows(g).T, as_rows(x))


def _outers(rows: Any, k: int) -> Any:
    """The same for the rows of many uses, or for a stack with the rows of each."""
    return _matmul(rows(0).swapaxes(-1, -2), rows(k))


def _in_place(uses: Any) -> Any:
    """Each cotangent added at its index, among zeros: the gradient of what was indexed."""
    x, gs, indices = uses[0][0][2], [inputs[0] for inputs, _, _ in uses], [static["index"] for _, static, _ in uses]
    if len(gs) == 1:
        return scatter(gs[0], index=indices[0], shape=x.shape)
    if _are_tiles(indices, x):
        return np.concatenate(gs[::-1], axis=-1)
    if Tensor in map(type, gs):  # one operation for all of them, to be differentiated again
        places = np.arange(x.size).reshape(x.shape)
        flat = np.concatenate([np.reshape(g, (g.size,)) for g in gs])
        index = np.concatenate([np.ravel(places[index]) for index in indices])
        return np.reshape(scatter(flat, index=(index,), shape=(x.size,)), x.shape)
    out = np.zeros(x.shape, x.dtype)
    for g, index in zip(gs, indices, strict=True):
        if is_basic(index):
            out[index] += g
        else:
            np.add.at(out, index, g)
    return out


def _are_tiles(indices: list[Any], x: Any) -> bool:
    """Whether the indices, from last to first, cut the last axis into parts, as the gates of a cell do."""
    try:
        n = end = x.shape[-1]
        for lead, part in indices:
            start, stop = part.start or 0, n if part.stop is None else part.stop
            whole = lead is Ellipsis or (x.ndim == 2 and lead == slice(None))
            if not whole or stop != end or start > stop or part.step is not None:
                return False
            end = start
    except (AttributeError, IndexError, TypeError, ValueError):  # no axis, no pair, no slice, or arrays in it
        return False
    return bool(end == 0)


def _scatter(g: Any, index: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape, np.asarray(g).dtype)
    if is_basic(index):
        out[index] = g  # a basic index meets each element at most once
    else:
        np.add.at(out, index, g)
    return out


BASIC = frozenset({int, slice, type(None), type(Ellipsis)})


def is_basic(index: tuple[Any, ...]) -> bool:
    """Whether an index has only integers, slices, Ellipsis and None, so that it meets each element at most once."""
    return BASIC.issuperset(map(type, index))


def _slices_of(g: Any, xs: Any, axis: int) -> Any:
    """The parts of a concatenation that the operands contributed, by their number."""
    ends = list(accumulate(x.shape[axis] for x in xs))
    before = (slice(None),) * axis
    return lambda which: g[(*before, slice(ends[which] - xs[which].shape[axis], ends[which]))]


def _einsum_rule(g: Any, y: Any, *xs: Any, which: int, subscripts: str) -> Any:
    """The cotangent takes the result's place among the operands, and this operand the result's."""
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    others = [i for i in range(len(xs)) if i != which]
    known = set(output).union(*(terms[i] for i in others))
    found = "".join(label for label in terms[which] if label in known)
    spec = ",".join([output, *(terms[i] for i in others)]) + "->" + found
    partial = np.einsum(spec, g, *(xs[i] for i in others))
    # A label that only this operand has was summed over: its gradient is the same all along that axis.
    shape = tuple([partial.shape[found.index(label)] if label in found else 1 for label in terms[which]])
    return np.broadcast_to(np.reshape(partial, shape), np.broadcast_shapes(shape, xs[which].shape))


# -- The table -------------------------------------------------------------------------------------------------------
# fmt: off
# Arithmetic
add      = primitive("add",      operator.add,     lambda g, y, a, b: g,
                                                   lambda g, y, a, b: g, symbol="+")
subtract = primitive("subtract", operator.sub,     lambda g, y, a, b: g,
                                                   lambda g, y, a, b: -g, symbol="-")
multiply = primitive("multiply", operator.mul,     lambda g, y, a, b: g * b,
                                                   lambda g, y, a, b: g * a, symbol="×")
divide   = primitive("divide",   operator.truediv, lambda g, y, a, b: g / b,
                                                   lambda g, y, a, b: -g * y / b, symbol="/")
# 0 ** (b - 1) is kept out where b = 0, and log 0 where 0 ** b is constant in b: both products are 0 there.
power    = primitive("power",    operator.pow,
    lambda g, y, a, b: g * b * np.where((a == 0) & (b == 0), 1.0, a) ** (as_floats(b) - 1),
    lambda g, y, a, b: g * y * np.log(np.where((a == 0) & (b >= 0), 1.0, a)), symbol="^")
matmul   = primitive("matmul",   _matmul, _matmul_left, _matmul_right, symbol="@",
    shapes="(..., N, K), (..., K, M) -> (..., N, M)")
maximum  = primitive("maximum",  np.maximum,
    lambda g, y, a, b: np.where(a == b, 0.5 * g, np.where(a > b, g, 0.0)),
    lambda g, y, a, b: np.where(a == b, 0.5 * g, np.where(b > a, g, 0.0)), symbol="max")
minimum  = primitive("minimum",  np.minimum,
    lambda g, y, a, b: np.where(a == b, 0.5 * g, np.where(a < b, g, 0.0)),
    lambda g, y, a, b: np.where(a == b, 0.5 * g, np.where(b < a, g, 0.0)), symbol="min")

# Functions of one variable
negative = primitive("negative", operator.neg,     lambda g, y, x: -g, symbol="-")
exp      = primitive("exp",      np.exp,           lambda g, y, x: g * y)
expm1    = primitive("expm1",    np.expm1,         lambda g, y, x: g * np.exp(x))
log      = primitive("log",      np.log,           lambda g, y, x: g / x)
log1p    = primitive("log1p",    np.log1p,         lambda g, y, x: g / (1 + x))
sqrt     = primitive("sqrt",     np.sqrt,          lambda g, y, x: g / (2 * y), symbol="√")
square   = primitive("square",   np.square,        lambda g, y, x: 2 * g * x, symbol="x²")
sin      = primitive("sin",      np.sin,           lambda g, y, x: g * np.cos(x))
cos      = primitive("cos",      np.cos,           lambda g, y, x: -g * np.sin(x))
tanh     = primitive("tanh",     np.tanh,          lambda g, y, x: g * (ONE - y * y))
sigmoid  = primitive("sigmoid",  _sigmoid,         lambda g, y, x: g * (y * (ONE - y)), symbol="σ")
softplus = primitive("softplus", lambda x: np.logaddexp(ZERO, x), lambda g, y, x: g * sigmoid(x))
relu     = primitive("relu",     lambda x: np.maximum(x, ZERO),  lambda g, y, x: np.where(x > ZERO, g, ZERO))
abs      = primitive("abs",      operator.abs,     lambda g, y, x: np.where(x > 0, g, np.where(x < 0, -g, 0.0)))
leaky_relu = primitive("leaky_relu", lambda x, *, slope: np.where(x > 0, x, slope * x),
    lambda g, y, x, *, slope: np.where(x > 0, g, slope * g))

# Choices
clip     = primitive("clip",     lambda x, *, lo, hi: np.clip(x, lo, hi),
    lambda g, y, x, *, lo, hi: np.where((x >= lo) & (x <= hi), g, 0.0))
where    = primitive("where",    lambda a, b, *, condition: np.where(condition, a, b),
    lambda g, y, a, b, *, condition: np.where(condition, g, 0.0),
    lambda g, y, a, b, *, condition: np.where(condition, 0.0, g))

# Reductions: axis is a tuple, counted from the front
sum      = primitive("sum",      lambda x, *, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims),
    lambda g, y, x, *, axis, keepdims: _spread(g, x, axis),
    symbol="Σ", phrase="g spread over axis {axis}")
mean     = primitive("mean",     lambda x, *, axis, keepdims: np.mean(x, axis=axis, keepdims=keepdims),
    lambda g, y, x, *, axis, keepdims: _spread(g, x, axis) * (y.size / (x.size or 1)),
    phrase="g / n spread over axis {axis}")
max      = primitive("max",      lambda x, *, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims),
    lambda g, y, x, *, axis, keepdims: _spread(g, x, axis) * _is_extreme(x, y, axis),
    phrase="g to the largest, ties share equally")
min      = primitive("min",      lambda x, *, axis, keepdims: np.min(x, axis=axis, keepdims=keepdims),
    lambda g, y, x, *, axis, keepdims: _spread(g, x, axis) * _is_extreme(x, y, axis),
    phrase="g to the smallest, ties share equally")
logsumexp = primitive("logsumexp", _logsumexp,
    lambda g, y, x, *, axis, keepdims: _spread(g, x, axis) * np.exp(x - _spread(y, x, axis)),
    phrase="g × softmax(x) over axis {axis}")
cumsum   = primitive("cumsum",   lambda x, *, axis: np.cumsum(x, axis),
    lambda g, y, x, *, axis: _reverse_cumsum(g, axis),
    phrase="g summed from the end of axis {axis}")

# Shape
reshape  = primitive("reshape",  lambda x, *, shape: np.reshape(x, shape),
    lambda g, y, x, *, shape: np.reshape(g, x.shape),
    phrase="g reshaped back")
transpose = primitive("transpose", lambda x, *, axes: np.transpose(x, axes),
    lambda g, y, x, *, axes: np.transpose(g, tuple(np.argsort(axes).tolist())),
    symbol="ᵀ", phrase="g with its axes back in order")
broadcast_to = primitive("broadcast_to", lambda x, *, shape: np.broadcast_to(x, shape),
    lambda g, y, x, *, shape: g,
    phrase="g")
cast     = primitive("cast",     lambda x, *, dtype: x.astype(dtype),
    lambda g, y, x, *, dtype: g,
    phrase="g in the operand's dtype")
scatter  = primitive("scatter",  _scatter,
    lambda g, y, x, *, index, shape: g[index],
    phrase="g picked from its place")
getitem  = primitive("getitem",  lambda x, *, index: x[index],
    Gathered(lambda g, y, x, *, index: scatter(g, index=index, shape=x.shape), _in_place, recorded=True),
    symbol="[ ]", phrase="g in its place among zeros")
concatenate = primitive("concatenate", lambda *xs, axis: np.concatenate(xs, axis=axis),
    lambda g, y, *xs, axis: _slices_of(g, xs, axis),
    nary=True, phrase="this operand's part of g")
stack    = primitive("stack",    lambda *xs, axis: np.stack(xs, axis) if axis else np.array(xs),
    lambda g, y, *xs, axis: lambda which: g[(slice(None),) * axis + (which,)],
    nary=True, phrase="this operand's part of g")

# Sums of products
einsum   = primitive("einsum",   lambda *xs, subscripts: np.einsum(subscripts, *xs),
    _einsum_rule,
    nary=True, phrase="g for this operand in {subscripts}")
# What a recurrent cell computes is one node: x Wᵀ + b, and x Wᵀ + b + h Uᵀ + d.
linear   = primitive("linear",   _linear_forward,
    lambda g, y, x, W, b: matmul(g, W),
    by_rows(lambda g, y, x, W, b: _outer(g, x), lambda rows: _outers(rows, 2)),
    by_rows(lambda g, y, x, W, b: g, lambda rows: rows(0).sum(axis=-2)),
    shapes="(..., I), (O, I), (O,) -> (..., O)")
affine   = primitive("affine",   _affine_forward,
    lambda g, y, x, W, b, h, U, d: matmul(g, W),
    by_rows(lambda g, y, x, W, b, h, U, d: _outer(g, x), lambda rows: _outers(rows, 2)),
    by_rows(lambda g, y, x, W, b, h, U, d: g, lambda rows: rows(0).sum(axis=-2)),
    lambda g, y, x, W, b, h, U, d: matmul(g, U),
    by_rows(lambda g, y, x, W, b, h, U, d: _outer(g, h), lambda rows: _outers(rows, 5)),
    by_rows(lambda g, y, x, W, b, h, U, d: g, lambda rows: rows(0).sum(axis=-2)),
    shapes="(..., I), (O, I), (O,), (..., H), (O, H), (O,) -> (..., O)")
# fmt: on

ACTIVATIONS = {"tanh": 1.0, "sigmoid": 0.25, "relu": 1.0, "leaky_relu": 1.0, "softplus": 1.0}
"""The functions that networks put between their layers, with the largest slope of each: at most by that factor does a
gradient change on its way through one."""
