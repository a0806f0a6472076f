"""The page of derivatives: every primitive once, with one rule per operand, and NumPy's names for them.

After this file the reader knows every derivative the package has. In a rule, ``g`` is the cotangent that arrives, ``y`` the
result, then come the operands; positional means differentiable, keyword means static. A rule never undoes broadcasting
and never casts: the sweep does both, once per edge. The public functions below the table keep NumPy's signatures and
translate: they normalise axes, copy indices and masks, and call a primitive.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from .scope import CONTEXT
from .tensor import FUNCTIONS, NUMPY, OPS, Gathered, Tensor, primitive, raw

# -- Helpers that several rules share --------------------------------------------------------------------------------


def _kept(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a reduction over `axis` with its axes kept as ones."""
    return tuple([1 if i in axis else n for i, n in enumerate(shape)])


def _spread(g: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """A reduction's cotangent, repeated over the axes that were reduced."""
    return broadcast_to(reshape(g, _kept(x.shape, axis)), x.shape)


def _count(x: Any, axis: tuple[int, ...]) -> int:
    """How many elements one result of a reduction gathers."""
    count = 1
    for i in axis:
        count *= x.shape[i]
    return count


def _is_largest(x: Any, y: Any, axis: tuple[int, ...]) -> Any:
    """Each element's share in a max or min: ties share equally; where the result is NaN, the NaNs do."""
    chosen = raw((x == reshape(y, _kept(x.shape, axis))) | (x != x))  # noqa: PLR0124
    return chosen / np.maximum(chosen.sum(axis=axis, keepdims=True), 1)


def _sigmoid(x: Any) -> Any:
    # e / (1 + e) keeps its digits in the lower tail, where 1 - something would lose them. From 37 on it is 1 in float64, so
    # that the limit changes nothing but the overflow of exp.
    e = np.exp(np.minimum(x, 88.0))
    return e / (1.0 + e)


def _logsumexp(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    largest = np.max(x, axis=axis, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0.0).astype(x.dtype, copy=False)
    with np.errstate(divide="ignore"):  # log 0 = -inf is what a sum of no probability means
        y = largest + np.log(np.sum(np.exp(x - largest), axis=axis, keepdims=True))
    return y if keepdims else np.squeeze(y, axis=axis)


def _reverse_cumsum(g: Any, axis: int) -> Any:
    backwards = (slice(None),) * axis + (slice(None, None, -1),)
    return getitem(_cumsum(getitem(g, backwards), axis=axis), backwards)


def _swap_last(x: Any) -> Any:
    """Transpose of a matrix or of each matrix in a stack."""
    return transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _matmul_left(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:  # y = a b is one number per row of a: each row of a gets b
        return expand_dims(g, -1) * b if a.ndim > 1 else g * b
    if a.ndim == 1:  # a is a single row: its axis was dropped from y
        return matmul(b, expand_dims(g, -1))[..., 0]
    return matmul(g, _swap_last(b))


def _matmul_right(g: Any, y: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return expand_dims(a, -1) * expand_dims(g, -2) if b.ndim > 1 else g * a
    if b.ndim == 1:  # b is a single column: its axis was dropped from y
        return matmul(_swap_last(a), expand_dims(g, -1))[..., 0]
    return matmul(_swap_last(a), g)


def _matmul(a: Any, b: Any) -> Any:
    if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
        return a.dot(b)  # the same product, with half of matmul's overhead
    return a @ b


def _linear_forward(x: Any, W: Any, b: Any) -> Any:
    if W.ndim != 2 or b.shape != W.shape[:1]:
        raise ValueError(f"x Wᵀ + b needs W of shape (O, I) and b of shape (O,), not {W.shape} and {b.shape}")
    return _matmul(x, W.T) + b


def _affine_forward(x: Any, W: Any, b: Any, h: Any, U: Any, d: Any) -> Any:
    left, right = _linear_forward(x, W, b), _linear_forward(h, U, d)
    if left.shape != right.shape:
        raise ValueError(f"x Wᵀ + b of shape {left.shape} and h Uᵀ + d of shape {right.shape} must have the same shape")
    return left + right


def _rows(x: Any) -> Any:
    """All leading axes as one: a matrix with one row per element of the batch."""
    return x if x.ndim == 2 else reshape(x, (_count(x, tuple(range(x.ndim - 1))), x.shape[-1]))


def _outer(pairs: Any, W: Any) -> Any:
    """Σ gᵀ x over the rows of all uses: the gradient of a weight W in x Wᵀ."""
    if len(pairs) == 1:
        ((g, x),) = pairs
        return matmul(transpose(_rows(g)), _rows(x))
    return np.concatenate([_rows(g) for g, _ in pairs]).T.dot(np.concatenate([_rows(x) for _, x in pairs]))


def _sum_rows(cotangents: Any, b: Any) -> Any:
    """Σ g over the rows of all uses: the gradient of a bias."""
    if len(cotangents) == 1:
        return cotangents[0]  # the sweep sums it
    return np.add.reduce(np.concatenate([_rows(g) for g in cotangents]))


def _in_place(picks: Any, x: Any) -> Any:
    """Each cotangent added at its index, among zeros: the gradient of what was indexed."""
    if len(picks) == 1:
        ((g, index),) = picks
        return _scatter_op(g, index=index, shape=x.shape)
    out = np.zeros(x.shape, x.dtype)
    for g, index in picks:
        if is_basic(index):
            out[index] += g
        else:
            np.add.at(out, index, g)
    return out


def _scatter(g: Any, index: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape, np.asarray(g).dtype)
    if is_basic(index):
        out[index] = g  # a basic index meets each element at most once
    else:
        np.add.at(out, index, g)
    return out


def _slice_of(g: Any, xs: Any, which: int, axis: int) -> Any:
    """The part of a concatenation that one operand contributed."""
    start = builtins.sum(x.shape[axis] for x in xs[:which])
    return getitem(g, (slice(None),) * axis + (slice(start, start + xs[which].shape[axis]),))


def _einsum_rule(g: Any, y: Any, *xs: Any, which: int, subscripts: str) -> Any:
    """The cotangent takes the result's place among the operands, and this operand the result's."""
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    others = [i for i in range(len(xs)) if i != which]
    known = set(output).union(*(terms[i] for i in others))
    kept = "".join(label for label in terms[which] if label in known)
    operands = [terms[i] for i in others]
    partial = _einsum(g, *(xs[i] for i in others), subscripts=",".join([output, *operands]) + "->" + kept)
    # A label that only this operand has was summed over: its gradient is the same all along that axis.
    x = xs[which]
    partial = reshape(partial, tuple([partial.shape[kept.index(label)] if label in kept else 1 for label in terms[which]]))
    return broadcast_to(partial, np.broadcast_shapes(partial.shape, x.shape))


# -- The table --------------------------------------------------------------------------------------------------------
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
# 0 ** (b - 1) is kept out where b = 0, and log 0 where the base is 0: both products are 0 there.
power    = primitive("power",    operator.pow,
                     lambda g, y, a, b: g * b * where((a == 0) & (b == 0), 1.0, a) ** (b - 1),
                     lambda g, y, a, b: where((a == 0) & (b >= 0), 0.0, g * y * log(where(a == 0, 1.0, a))), symbol="^")
negative = primitive("negative", operator.neg,     lambda g, y, x: -g, symbol="-")
maximum  = primitive("maximum",  np.maximum,       lambda g, y, a, b: where(a == b, 0.5 * g, where(a > b, g, 0.0)),
                                                   lambda g, y, a, b: where(a == b, 0.5 * g, where(b > a, g, 0.0)), symbol="max")
minimum  = primitive("minimum",  np.minimum,       lambda g, y, a, b: where(a == b, 0.5 * g, where(a < b, g, 0.0)),
                                                   lambda g, y, a, b: where(a == b, 0.5 * g, where(b < a, g, 0.0)), symbol="min")

# Functions of one variable
exp      = primitive("exp",      np.exp,           lambda g, y, x: g * y)
expm1    = primitive("expm1",    np.expm1,         lambda g, y, x: g * exp(x))
log      = primitive("log",      np.log,           lambda g, y, x: g / x)
log1p    = primitive("log1p",    np.log1p,         lambda g, y, x: g / (1 + x))
sqrt     = primitive("sqrt",     np.sqrt,          lambda g, y, x: g / (2 * y), symbol="√")
square   = primitive("square",   np.square,        lambda g, y, x: 2 * g * x, symbol="x²")
abs      = primitive("abs",      operator.abs,     lambda g, y, x: where(x > 0, g, where(x < 0, -g, 0.0)))
sin      = primitive("sin",      np.sin,           lambda g, y, x: g * cos(x))
cos      = primitive("cos",      np.cos,           lambda g, y, x: -g * sin(x))
tanh     = primitive("tanh",     np.tanh,          lambda g, y, x: g * (1 - y * y))
sigmoid  = primitive("sigmoid",  _sigmoid,         lambda g, y, x: g * (y * (1 - y)), symbol="σ")
softplus = primitive("softplus", lambda x: np.logaddexp(0.0, x),   lambda g, y, x: g * sigmoid(x))
relu     = primitive("relu",     lambda x: np.maximum(x, 0.0),     lambda g, y, x: where(x > 0, g, 0.0))
_leaky_relu = primitive("leaky_relu", lambda x, *, slope: np.where(x >= 0, x, slope * x),
                        lambda g, y, x, *, slope: where(x > 0, g, slope * g))
_clip    = primitive("clip",     lambda x, *, lo, hi: np.clip(x, lo, hi),
                     lambda g, y, x, *, lo, hi: where((x >= lo) & (x <= hi), g, 0.0))
_where   = primitive("where",    lambda a, b, *, condition: np.where(condition, a, b),
                     lambda g, y, a, b, *, condition: where(condition, g, 0.0),
                     lambda g, y, a, b, *, condition: where(condition, 0.0, g))

# Reductions
_sum     = primitive("sum",      lambda x, *, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims),
                     lambda g, y, x, *, axis, keepdims: _spread(g, x, axis), symbol="Σ", phrase="g spread over axis {axis}")
_mean    = primitive("mean",     lambda x, *, axis, keepdims: np.mean(x, axis=axis, keepdims=keepdims),
                     lambda g, y, x, *, axis, keepdims: _spread(g / _count(x, axis), x, axis), phrase="g / n spread over axis {axis}")
_max     = primitive("max",      lambda x, *, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims),
                     lambda g, y, x, *, axis, keepdims: _spread(g, x, axis) * _is_largest(x, y, axis),
                     phrase="g to the largest, ties share equally")
_min     = primitive("min",      lambda x, *, axis, keepdims: np.min(x, axis=axis, keepdims=keepdims),
                     lambda g, y, x, *, axis, keepdims: _spread(g, x, axis) * _is_largest(x, y, axis),
                     phrase="g to the smallest, ties share equally")
_logsumexp = primitive("logsumexp", _logsumexp,
                     lambda g, y, x, *, axis, keepdims: _spread(g, x, axis) * exp(x - _spread(y, x, axis)),
                     phrase="g × softmax(x) over axis {axis}")
_cumsum  = primitive("cumsum",   lambda x, *, axis: np.cumsum(x, axis),
                     lambda g, y, x, *, axis: _reverse_cumsum(g, axis), phrase="g summed from the end of axis {axis}")

# Shape
_reshape = primitive("reshape",  lambda x, *, shape: np.reshape(x, shape),
                     lambda g, y, x, *, shape: reshape(g, x.shape), phrase="g reshaped back")
_transpose = primitive("transpose", lambda x, *, axes: np.transpose(x, axes),
                     lambda g, y, x, *, axes: transpose(g, tuple(np.argsort(axes).tolist())), symbol="ᵀ", phrase="g with its axes back in order")
_broadcast_to = primitive("broadcast_to", lambda x, *, shape: np.broadcast_to(x, shape),
                     lambda g, y, x, *, shape: g, phrase="g")
_getitem = primitive("getitem",  lambda x, *, index: x[index],
                     Gathered(lambda g, y, x, *, index: (g, index), _in_place), symbol="[ ]", phrase="g in its place among zeros")
_scatter_op = primitive("scatter", _scatter,
                     lambda g, y, x, *, index, shape: _getitem(g, index=index), phrase="g picked from its place")
_cast    = primitive("cast",     lambda x, *, dtype: x.astype(dtype),
                     lambda g, y, x, *, dtype: g, phrase="g in the operand's dtype")
_concatenate = primitive("concatenate", lambda *xs, axis: np.concatenate(xs, axis=axis),
                     lambda g, y, *xs, which, axis: _slice_of(g, xs, which, axis), nary=True, phrase="this operand's part of g")
_stack   = primitive("stack",    lambda *xs, axis: np.stack(xs, axis=axis),
                     lambda g, y, *xs, which, axis: getitem(g, (slice(None),) * axis + (which,)), nary=True, phrase="this operand's part of g")

# Products
matmul   = primitive("matmul",   _matmul, _matmul_left, _matmul_right, symbol="@")
_einsum  = primitive("einsum",   lambda *xs, subscripts: np.einsum(subscripts, *xs), _einsum_rule, nary=True, phrase="g for this operand in {subscripts}")
# What a recurrent cell computes is one node: x Wᵀ + b, and x Wᵀ + b + h Uᵀ + d.
linear   = primitive("linear",   _linear_forward,
                     lambda g, y, x, W, b: matmul(g, W),
                     Gathered(lambda g, y, x, W, b: (g, x), _outer, 1),
                     Gathered(lambda g, y, x, W, b: g, _sum_rows, 2))
affine   = primitive("affine",   _affine_forward,
                     lambda g, y, x, W, b, h, U, d: matmul(g, W),
                     Gathered(lambda g, y, x, W, b, h, U, d: (g, x), _outer, 1),
                     Gathered(lambda g, y, x, W, b, h, U, d: g, _sum_rows, 2),
                     lambda g, y, x, W, b, h, U, d: matmul(g, U),
                     Gathered(lambda g, y, x, W, b, h, U, d: (g, h), _outer, 4),
                     Gathered(lambda g, y, x, W, b, h, U, d: g, _sum_rows, 5))
# fmt: on

# -- NumPy's signatures -----------------------------------------------------------------------------------------------

def _operand(x: Any) -> Any:
    """Something with a shape: lists and numbers become arrays."""
    return x if hasattr(x, "ndim") else np.asarray(x)


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    """All axes for None, or the given one or several, counted from the front."""
    try:
        return tuple(range(x.ndim)) if axis is None else tuple(normalize_axis_tuple(axis, x.ndim))
    except ValueError as error:
        path = CONTEXT.get()[0]
        error.add_note(f"for shape {x.shape}" + (f" at {path}" if path else ""))
        raise


def _axis(x: Any, axis: int, extra: int = 0) -> int:
    """One axis, counted from the front, of an array to which `extra` axes are added."""
    return _axes(np.broadcast_to(0, (1,) * (x.ndim + extra)) if extra else x, axis)[0]


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum over all axes, one, or a tuple of them, as `numpy.sum`."""
    x = _operand(x)
    return _sum(x, axis=_axes(x, axis), keepdims=keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Arithmetic mean, as `numpy.mean`."""
    x = _operand(x)
    return _mean(x, axis=_axes(x, axis), keepdims=keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest element, as `numpy.max`. Tied elements share the gradient equally."""
    x = _operand(x)
    return _max(x, axis=_axes(x, axis), keepdims=keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Smallest element, as `numpy.min`. Tied elements share the gradient equally."""
    x = _operand(x)
    return _min(x, axis=_axes(x, axis), keepdims=keepdims)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log Σ exp x, without overflow."""
    x = _operand(x)
    return _logsumexp(x, axis=_axes(x, axis), keepdims=keepdims)


def cumsum(x: Any, axis: int | None = None) -> Any:
    """Cumulative sum along an axis, or of the flattened array, as `numpy.cumsum`."""
    x = _operand(x)
    if axis is None:
        return _cumsum(reshape(x, (-1,)), axis=0)
    return _cumsum(x, axis=_axis(x, axis))


def reshape(x: Any, shape: Any) -> Any:
    """The same elements in C order in another shape; one size may be -1, as `numpy.reshape`."""
    return _reshape(_operand(x), shape=tuple(shape) if isinstance(shape, Sequence) else (shape,))


def transpose(x: Any, axes: Any = None) -> Any:
    """Axes permuted, or reversed by default, as `numpy.transpose`."""
    x = _operand(x)
    axes = range(x.ndim)[::-1] if axes is None else [axes] if isinstance(axes, int) else axes
    # Normalised before the rule inverts the permutation: the argsort of negative axes is another permutation.
    axes = tuple([operator.index(a) + (x.ndim if a < 0 else 0) for a in axes])
    return _transpose(x, axes=axes)


def broadcast_to(x: Any, shape: Any) -> Any:
    """Repeated to a larger shape without copying, as `numpy.broadcast_to`."""
    return _broadcast_to(_operand(x), shape=tuple(shape) if isinstance(shape, Sequence) else (shape,))


def squeeze(x: Any, axis: Any = None) -> Any:
    """Without axes of size one, as `numpy.squeeze`."""
    x = _operand(x)
    axes = [i for i, n in enumerate(x.shape) if n == 1] if axis is None else _axes(x, axis)
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return reshape(x, tuple([n for i, n in enumerate(x.shape) if i not in axes]))


def expand_dims(x: Any, axis: Any) -> Any:
    """With new axes of size one, as `numpy.expand_dims`."""
    x = _operand(x)
    extra = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = normalize_axis_tuple(extra, x.ndim + len(extra))
    sizes = iter(x.shape)
    return reshape(x, tuple([1 if i in axes else next(sizes) for i in range(x.ndim + len(extra))]))


_BASIC = frozenset({int, slice, type(None), type(Ellipsis)})


def is_basic(index: tuple[Any, ...]) -> bool:
    """Whether an index has only integers, slices, Ellipsis and None, so that it meets each element at most once."""
    return _BASIC.issuperset(map(type, index))


def _frozen(item: Any) -> Any:
    """A copy of one item of an index that nobody else can change: arrays and masks copied, integers as Python's."""
    item = raw(item)
    if type(item) in _BASIC or isinstance(item, bool):
        return item
    if isinstance(item, (int, np.integer)):
        return int(item)
    array = np.array([raw(i) for i in item] if isinstance(item, list) else item)
    return array.astype(np.intp) if array.size == 0 and array.dtype.kind == "f" else array


def getitem(x: Any, index: Any) -> Any:
    """x[index] with all of NumPy's indexing: slices, steps, Ellipsis, None, integer arrays, boolean masks.

    An element that is picked twice gets both gradients.
    """
    items = index if type(index) is tuple else (index,)
    return _getitem(x, index=items if is_basic(items) else tuple([_frozen(item) for item in items]))


def concatenate(tensors: Sequence[Any], axis: int | None = 0) -> Any:
    """Joined along an existing axis, or flattened first where it is None, as `numpy.concatenate`."""
    operands = [_operand(x) if axis is not None else reshape(x, (-1,)) for x in tensors]
    if not operands:
        raise ValueError("need at least one array to concatenate")
    return _concatenate(*operands, axis=_axis(operands[0], axis or 0))


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """Joined along a new axis, as `numpy.stack`."""
    operands = [_operand(x) for x in tensors]
    if not operands:
        raise ValueError("need at least one array to stack")
    return _stack(*operands, axis=_axis(operands[0], axis, 1))


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y, as `numpy.where`. The branch not taken gets exactly zero."""
    if hasattr(condition, "__primitive__"):
        return _where(x, y, condition=condition)
    return _where(x, y, condition=np.array(raw(condition), dtype=bool))


def clip(x: Any, a_min: Any = None, a_max: Any = None) -> Any:
    """Limited to [a_min, a_max], as `numpy.clip`. The gradient passes where a_min <= x <= a_max."""
    bounds = [-np.inf if a_min is None else a_min, np.inf if a_max is None else a_max]
    if any(isinstance(bound, Tensor) and bound.requires_grad for bound in bounds):
        raise TypeError("clip has no derivative with respect to its bounds: use minimum(maximum(x, a_min), a_max)")
    lo, hi = (bound if type(bound) in (int, float) else np.array(raw(bound)) for bound in bounds)
    return _clip(_operand(x), lo=lo, hi=hi)


def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """x where x > 0, else slope times x; the derivative at 0 is the slope."""
    return _leaky_relu(x, slope=float(slope))


def einsum(subscripts: str, *tensors: Any) -> Any:
    """Einstein summation as `numpy.einsum`, with Ellipsis and repeated labels; subscripts as a string."""
    if not isinstance(subscripts, str):
        raise TypeError("einsum takes its subscripts as a string, such as 'ij,jk->ik'")
    operands = [_operand(x) for x in tensors]
    inputs, _, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum {subscripts!r} names {len(terms)} operands, got {len(operands)}")
    # Ellipsis becomes ordinary labels, as many as the operand with the most axes under it has.
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in subscripts]
    under = [x.ndim - len(t.replace("...", "")) for t, x in zip(terms, operands, strict=True) if "..." in t]
    dots = "".join(spare[: builtins.max(under, default=0)])
    if "->" not in subscripts:
        labels = "".join(terms).replace("...", "")
        output = "..." * ("..." in inputs) + "".join(sorted(c for c in set(labels) if labels.count(c) == 1))
    for i, (term, x) in enumerate(zip(terms, operands, strict=True)):
        width = x.ndim - len(term.replace("...", ""))
        terms[i] = term.replace("...", dots[len(dots) - width :] if width else "")
        operands[i], terms[i] = _diagonal(x, terms[i])
    return _einsum(*operands, subscripts=",".join(terms) + "->" + output.replace("...", dots))


def _diagonal(x: Any, term: str) -> tuple[Any, str]:
    """Take the diagonal over labels that repeat inside one operand, so that the rule never meets them."""
    for label in dict.fromkeys(term):
        axes = [i for i, c in enumerate(term) if c == label]
        if len(axes) > 1 and len(term) == x.ndim:
            rest = [i for i in range(x.ndim) if i not in axes]
            along = np.arange(x.shape[axes[0]])
            if any(x.shape[i] != len(along) for i in axes):
                raise ValueError(f"dimensions in operand for collapsing index {label!r} don't match: {x.shape}")
            x = getitem(transpose(x, (*axes, *rest)), (along,) * len(axes))
            term = label + "".join(term[i] for i in rest)
    return x, term


FUNCTIONS.update(sum=sum, mean=mean, reshape=reshape, transpose=transpose, getitem=getitem)

# NumPy's functions by their own name; those whose name is another one here follow.
for _name in (
    "add subtract multiply divide power negative maximum minimum exp expm1 log log1p sqrt square abs sin cos tanh matmul "
    "sum mean max min cumsum reshape transpose broadcast_to squeeze expand_dims concatenate stack where clip einsum"
).split():
    NUMPY[getattr(np, _name)] = globals()[_name]
NUMPY.update({np.amax: max, np.amin: min, np.positive: operator.pos})


def _on_values(function: Any) -> Any:
    """A NumPy function that answers a question about values: it sees the arrays, and its answer has no gradient."""
    return lambda *args, **options: function(*map(raw, args), **options)


for _name in (
    "equal not_equal less less_equal greater greater_equal isnan isfinite isinf signbit logical_and logical_or logical_not "
    "shape ndim size array_equal allclose isclose argmax argmin argsort zeros_like ones_like"
).split():
    NUMPY[getattr(np, _name)] = _on_values(getattr(np, _name))

__all__ = sorted(set(OPS) - {"scatter", "cast"} | {"squeeze", "expand_dims"})
