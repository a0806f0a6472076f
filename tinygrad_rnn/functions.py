"""NumPy's signatures for the primitives, and what is composed of them: variance, product, split, softmax, losses.

After this file the reader knows how a call such as ``sum(x, axis=-1)`` reaches the page of derivatives: axes are
counted from the front, indices and masks copied, and a primitive is called. What is composed needs no derivative of
its own.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from . import ops
from .ops import BASIC, exp, is_basic, kept, log, multiply, square
from .scope import CONTEXT
from .tensor import FUNCTIONS, NUMPY, OPS, Tensor, new_node, raw


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
    if type(axis) is int and 0 <= axis < x.ndim + extra:
        return axis
    return _axes(np.broadcast_to(0, (1,) * (x.ndim + extra)) if extra else x, axis)[0]


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum over all axes, one, or a tuple of them, as `numpy.sum`."""
    x = _operand(x)
    return ops.sum(x, axis=_axes(x, axis), keepdims=keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Arithmetic mean, as `numpy.mean`."""
    x = _operand(x)
    return ops.mean(x, axis=_axes(x, axis), keepdims=keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest element, as `numpy.max`. Tied elements share the gradient equally."""
    x = _operand(x)
    return ops.max(x, axis=_axes(x, axis), keepdims=keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Smallest element, as `numpy.min`. Tied elements share the gradient equally."""
    x = _operand(x)
    return ops.min(x, axis=_axes(x, axis), keepdims=keepdims)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log Σ exp x, without overflow."""
    x = _operand(x)
    return ops.logsumexp(x, axis=_axes(x, axis), keepdims=keepdims)


def cumsum(x: Any, axis: int | None = None) -> Any:
    """Cumulative sum along an axis, or of the flattened array, as `numpy.cumsum`."""
    x = _operand(x)
    if axis is None:
        return ops.cumsum(reshape(x, (-1,)), axis=0)
    return ops.cumsum(x, axis=_axis(x, axis))


def reshape(x: Any, shape: Any) -> Any:
    """The same elements in C order in another shape; one size may be -1, as `numpy.reshape`."""
    return ops.reshape(_operand(x), shape=tuple(shape) if isinstance(shape, Sequence) else (shape,))


def transpose(x: Any, axes: Any = None) -> Any:
    """Axes permuted, or reversed by default, as `numpy.transpose`."""
    x = _operand(x)
    axes = range(x.ndim)[::-1] if axes is None else [axes] if isinstance(axes, int) else axes
    # Normalised before the rule inverts the permutation: the argsort of negative axes is another permutation.
    axes = tuple([operator.index(a) + (x.ndim if a < 0 else 0) for a in axes])
    return ops.transpose(x, axes=axes)


def broadcast_to(x: Any, shape: Any) -> Any:
    """Repeated to a larger shape without copying, as `numpy.broadcast_to`."""
    return ops.broadcast_to(_operand(x), shape=tuple(shape) if isinstance(shape, Sequence) else (shape,))


def squeeze(x: Any, axis: Any = None) -> Any:
    """Without axes of size one, as `numpy.squeeze`.

    Raises
    ------
    ValueError
        If an axis is named whose size is not one.
    """
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


def _frozen(item: Any) -> Any:
    """A copy of one item of an index that nobody else can change: arrays and masks copied, integers as Python's."""
    item = raw(item)
    if is_basic((item,)) or isinstance(item, bool):
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
    if not BASIC.issuperset(map(type, items)):
        items = tuple([_frozen(item) for item in items])
    if type(x) is not Tensor:
        return ops.getitem(x, index=items)
    try:  # what `ops.getitem` does, without its way for any primitive: gates are cut out at every step
        return new_node(ops.getitem, x._data[items], (x,), (x._data,), {"index": items}, x._requires_grad)
    except Exception:
        return ops.getitem(x, index=items)  # says where


def concatenate(tensors: Sequence[Any], axis: int | None = 0) -> Any:
    """Joined along an existing axis, or flattened first where it is None, as `numpy.concatenate`.

    Raises
    ------
    ValueError
        If there is nothing to join, or shapes differ elsewhere.
    """
    operands = [_operand(x) if axis is not None else reshape(x, (-1,)) for x in tensors]
    if not operands:
        raise ValueError("need at least one array to concatenate")
    return ops.concatenate(*operands, axis=_axis(operands[0], axis or 0))


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """Joined along a new axis, as `numpy.stack`.

    Raises
    ------
    ValueError
        If there is nothing to join, or shapes differ.
    """
    operands = [_operand(x) for x in tensors]
    if not operands:
        raise ValueError("need at least one array to stack")
    return ops.stack(*operands, axis=_axis(operands[0], axis, 1))


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y, as `numpy.where`. The branch not taken gets exactly zero."""
    if hasattr(condition, "__primitive__"):
        return ops.where(x, y, condition=condition)
    return ops.where(x, y, condition=np.array(raw(condition), dtype=bool))


def clip(x: Any, a_min: Any = None, a_max: Any = None) -> Any:
    """Limited to [a_min, a_max], as `numpy.clip`. The gradient passes where a_min <= x <= a_max.

    Raises
    ------
    TypeError
        If a bound requires a gradient.
    """
    bounds = [-np.inf if a_min is None else a_min, np.inf if a_max is None else a_max]
    if any(isinstance(bound, Tensor) and bound.requires_grad for bound in bounds):
        raise TypeError("clip has no derivative with respect to its bounds: use minimum(maximum(x, a_min), a_max)")
    lo, hi = (bound if type(bound) in (int, float) else np.array(raw(bound)) for bound in bounds)
    return ops.clip(_operand(x), lo=lo, hi=hi)


def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """x where x > 0, else slope times x; the derivative at 0 is the slope."""
    return ops.leaky_relu(x, slope=float(slope))


def einsum(subscripts: str, *tensors: Any) -> Any:
    """Einstein summation as `numpy.einsum`, with Ellipsis and repeated labels.

    Raises
    ------
    TypeError
        If the subscripts are not a string.
    ValueError
        If they do not fit the operands.
    """
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
    return ops.einsum(*operands, subscripts=",".join(terms) + "->" + output.replace("...", dots))


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


def var(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Variance, Σ (x - mean)² / (n - ddof), as `numpy.var`."""
    x = _operand(x)
    axes = _axes(x, axis)
    count = int(np.prod([x.shape[i] for i in axes]))
    return sum(square(x - mean(x, axes, keepdims=True)), axes, keepdims) / (count - ddof)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Product of elements, as `numpy.prod`: a balanced tree of products, so that zeros are no special case."""
    x = _operand(x)
    axes = _axes(x, axis)
    rest = [i for i in range(x.ndim) if i not in axes]
    shape = tuple([x.shape[i] for i in rest])
    y = reshape(transpose(x, (*rest, *axes)), (*shape, int(np.prod([x.shape[i] for i in axes]))))
    if y.shape[-1] == 0:  # the empty product; `sum` keeps it in the graph
        return sum(x, axes, keepdims) + 1
    while (n := y.shape[-1]) > 1:
        pairs = multiply(getitem(y, (..., slice(0, n - n % 2, 2))), getitem(y, (..., slice(1, n, 2))))
        y = concatenate([pairs, getitem(y, (..., slice(n - 1, n)))], axis=-1) if n % 2 else pairs
    return reshape(y, kept(x.shape, axes) if keepdims else shape)


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Parts along an axis: so many equal ones, or cut at the given indices, as `numpy.split`.

    Raises
    ------
    ValueError
        If the axis cannot be divided into so many equal parts.
    """
    x = _operand(x)
    (axis,) = _axes(x, axis)
    n = x.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        if n % int(indices_or_sections):
            raise ValueError("array split does not result in an equal division")
        size = n // int(indices_or_sections)
        cuts = [size * i for i in range(1, int(indices_or_sections))]
    else:
        cuts = [int(i) for i in indices_or_sections]
    return [getitem(x, (slice(None),) * axis + (slice(a, b),)) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


def _shifted(x: Any, axis: Any) -> Any:
    """Subtract the largest element along an axis, a constant that softmax does not see: exp cannot overflow."""
    x = _operand(x)
    largest = np.max(raw(x.detach() if hasattr(x, "detach") else x), axis=axis, keepdims=True)
    return x - np.where(np.isfinite(largest), largest, 0.0).astype(x.dtype, copy=False)


def log_softmax(x: Any, axis: Any = -1) -> Any:
    """x - log Σ exp x along an axis, without overflow."""
    z = _shifted(x, axis)
    return z - log(sum(exp(z), axis, keepdims=True))


def softmax(x: Any, axis: Any = -1) -> Any:
    """exp x / Σ exp x along an axis, without overflow."""
    e = exp(_shifted(x, axis))
    return e / sum(e, axis, keepdims=True)


def mse_loss(prediction: Any, target: Any) -> Any:
    """Mean of (prediction - target)² over all elements; both of the same shape.

    Parameters
    ----------
    prediction, target : Tensor or array, of one shape

    Returns
    -------
    Tensor, a scalar

    Raises
    ------
    ValueError
        If the shapes differ: (N, 1) against (N,) would silently average N² differences.
    """
    prediction, target = _operand(prediction), _operand(target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction {prediction.shape} and target {target.shape} must have the same shape: reshape one"
        )
    return mean(square(prediction - target))


def cross_entropy(logits: Any, labels: Any) -> Any:
    """Mean of -log softmax(logits)[label], in nats.

    Parameters
    ----------
    logits : Tensor or array, shape (..., C)
    labels : integer array, shape (...)
        Class indices from 0 to C - 1.

    Returns
    -------
    Tensor, a scalar

    Raises
    ------
    ValueError
        If the labels are not integers of the logits' leading shape, or lie outside of 0 ... C - 1.
    """
    logits = _operand(logits)
    index = np.array(raw(labels))
    if index.shape != logits.shape[:-1] or index.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape {logits.shape[:-1]}, not {index.dtype} of shape {index.shape}"
        )
    classes = logits.shape[-1]
    if index.size and not (0 <= index.min() and index.max() < classes):
        raise ValueError(f"labels must lie in 0 ... {classes - 1}, not in {index.min()} ... {index.max()}")
    rows = reshape(log_softmax(logits), (index.size, classes))
    return -mean(getitem(rows, (np.arange(index.size), index.reshape(-1))))


FUNCTIONS.update(sum=sum, mean=mean, reshape=reshape, transpose=transpose)
Tensor.__getitem__ = getitem


def _on_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function that answers a question about values: it sees the arrays, and its answer has no gradient."""
    return lambda *args, **options: function(*map(raw, args), **options)


_DIFFERENTIABLE = """
    add subtract multiply divide power negative maximum minimum matmul exp expm1 log log1p sqrt square abs sin cos tanh
    sum mean max min var prod cumsum reshape transpose broadcast_to squeeze expand_dims concatenate stack split where
    clip einsum
""".split()
_QUESTIONS = """
    equal not_equal less less_equal greater greater_equal isnan isfinite isinf signbit logical_and logical_or
    logical_not shape ndim size array_equal allclose isclose argmax argmin argsort zeros_like ones_like
""".split()
_PUBLIC = {name: globals().get(name, OPS.get(name)) for name in {*_DIFFERENTIABLE, *OPS} - {"scatter", "cast"}}

NUMPY.update({getattr(np, name): _PUBLIC[name] for name in _DIFFERENTIABLE})
NUMPY.update({getattr(np, name): _on_values(getattr(np, name)) for name in _QUESTIONS})
NUMPY.update({np.amax: max, np.amin: min, np.positive: operator.pos})
