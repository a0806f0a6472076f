"""NumPy's signatures for the primitives, and what is composed of them: variance, product, norm, split, softmax.

After this file the reader knows how a call such as ``sum(x, axis=-1)`` reaches the page of derivatives: axes are
counted from the front, indices and masks copied, and a primitive is called. What is composed needs no derivative of
its own.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from . import ops
from .ops import BASIC, as_floats, exp, is_basic, kept, log, multiply, sqrt, square
from .scope import CONTEXT
from .tensor import Tensor, as_array, new_node, raw, unmasked

__all__ = [
    "broadcast_to",
    "clip",
    "concatenate",
    "cumsum",
    "dot",
    "einsum",
    "expand_dims",
    "getitem",
    "leaky_relu",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "outer",
    "prod",
    "reshape",
    "softmax",
    "split",
    "squeeze",
    "stack",
    "std",
    "sum",
    "transpose",
    "var",
    "where",
]
"""Names of the package, too; NumPy's function of such a name computes with Tensors."""


def operand(x: Any) -> Any:
    """Something with a shape: numbers and lists become arrays, and a list that holds Tensors a stack of them."""
    if hasattr(getattr(x, "dtype", None), "kind"):  # PyTorch's arrays have another dtype
        return x
    return stack(x) if _holds_tensors(x) else np.asarray(x)


def _holds_tensors(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return any(map(_holds_tensors, x))
    return isinstance(x, Tensor) or hasattr(x, "__primitive__")


def axes_of(x: Any, axis: Any) -> tuple[int, ...]:
    """All axes for None, or the given one or several, counted from the front."""
    n = x.ndim
    if axis is None:
        return tuple(range(n))
    if type(axis) is int and -n <= axis < n:
        return (axis % n,)
    if isinstance(axis, (bool, np.bool_)):
        raise TypeError("an axis is counted, not True or False")
    try:
        return normalize_axis_tuple(axis, n)
    except TypeError as error:
        raise TypeError(f"axis={axis!r}: give a whole number, or a tuple of them") from error
    except ValueError as error:
        path = CONTEXT.get()[0]
        error.add_note(f"for shape {x.shape}" + (f" at {path}" if path else ""))
        raise


def axis_of(x: Any, axis: int, extra: int = 0) -> int:
    """One axis, counted from the front, of an array to which `extra` axes are added."""
    if type(axis) is int and 0 <= axis < x.ndim + extra:
        return axis
    return axes_of(np.broadcast_to(0, (1,) * (x.ndim + extra)) if extra else x, operator.index(axis))[0]


def _flag(keepdims: Any) -> bool:
    """True or False: anything else is what NumPy takes in that place, a dtype or an array for the result."""
    if type(keepdims) is not bool and type(keepdims) is not np.bool_:
        raise TypeError(f"keepdims is True or False, not {keepdims!r}")
    return bool(keepdims)


def _reduced(op: Any, x: Any, axis: Any, keepdims: Any) -> Any:
    x = operand(x)
    return op(x, axis=axes_of(x, axis), keepdims=_flag(keepdims))


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum over all axes, one, or a tuple of them, as `numpy.sum`."""
    return _reduced(ops.sum, x, axis, keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Arithmetic mean, as `numpy.mean`."""
    return _reduced(ops.mean, x, axis, keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest element, as `numpy.max`. Tied elements share the gradient equally."""
    return _reduced(ops.max, x, axis, keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Smallest element, as `numpy.min`. Tied elements share the gradient equally."""
    return _reduced(ops.min, x, axis, keepdims)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log Σ exp x, without overflow; of no elements -inf, the logarithm of 0."""
    return _reduced(ops.logsumexp, x, axis, keepdims)


def cumsum(x: Any, axis: int | None = None) -> Any:
    """Cumulative sum along an axis, or of the flattened array, as `numpy.cumsum`."""
    x = operand(x)
    if axis is None:
        return ops.cumsum(reshape(x, (-1,)), axis=0)
    return ops.cumsum(x, axis=axis_of(x, axis))


def _tuple(sizes: Any) -> tuple[Any, ...]:
    """Sizes or axes, of which one may stand alone."""
    return tuple(raw(sizes)) if np.iterable(sizes) else (sizes,)


def reshape(x: Any, shape: Any) -> Any:
    """The same elements in C order in another shape; one size may be -1, as `numpy.reshape`."""
    return ops.reshape(operand(x), shape=_tuple(shape))


def transpose(x: Any, axes: Any = None) -> Any:
    """Axes permuted, or reversed by default, as `numpy.transpose`."""
    x = operand(x)
    axes = range(x.ndim)[::-1] if axes is None else _tuple(axes)
    # Normalised before the rule inverts the permutation: the argsort of negative axes is another permutation.
    axes = tuple([operator.index(a) + (x.ndim if a < 0 else 0) for a in axes])
    return ops.transpose(x, axes=axes)


def broadcast_to(x: Any, shape: Any) -> Any:
    """Repeated to a larger shape without copying, as `numpy.broadcast_to`."""
    return ops.broadcast_to(operand(x), shape=_tuple(shape))


def squeeze(x: Any, axis: Any = None) -> Any:
    """Without axes of size one, as `numpy.squeeze`.

    Raises
    ------
    ValueError
        If an axis is named whose size is not one.
    """
    x = operand(x)
    axes = [i for i, n in enumerate(x.shape) if n == 1] if axis is None else axes_of(x, axis)
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return reshape(x, tuple([n for i, n in enumerate(x.shape) if i not in axes]))


def expand_dims(x: Any, axis: Any) -> Any:
    """With new axes of size one, as `numpy.expand_dims`."""
    x = operand(x)
    extra = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = normalize_axis_tuple(extra, x.ndim + len(extra))
    sizes = iter(x.shape)
    return reshape(x, tuple([1 if i in axes else next(sizes) for i in range(x.ndim + len(extra))]))


def _copied(value: Any, dtype: Any = None) -> Any:
    """What is not differentiable, such as labels or a mask, as an array that nobody else can change."""
    return np.array(unmasked(value), dtype)


def _frozen(item: Any) -> Any:
    """A copy of one item of an index that nobody else can change: arrays and masks copied, integers as Python's."""
    if isinstance(item, (np.ndarray, Tensor, np.bool_)):
        return _copied(item)
    if is_basic((item,)) or isinstance(item, bool):
        return item
    if hasattr(item, "__index__"):
        return operator.index(item)
    array = _copied(item)
    return array.astype(np.intp) if array.size == 0 and array.dtype.kind == "f" else array


def getitem(x: Any, index: Any) -> Any:
    """x[index] with all of NumPy's indexing: slices, steps, Ellipsis, None, integer arrays, boolean masks.

    An element that is picked twice gets both gradients.
    """
    items = index if type(index) is tuple else (index,)
    if not BASIC.issuperset(map(type, items)):
        items = tuple([_frozen(item) for item in (index if isinstance(index, tuple) else items)])
    if type(x) is not Tensor:
        return ops.getitem(x, index=items)
    try:  # what `ops.getitem` does, without its way for any primitive: gates are cut out at every step
        return new_node(ops.getitem, x._value[items], (x,), (x._value,), {"index": items}, x._requires_grad)
    except Exception:
        return ops.getitem(x, index=items)  # says where


def concatenate(tensors: Sequence[Any], axis: int | None = 0) -> Any:
    """Joined along an existing axis, or flattened first where it is None, as `numpy.concatenate`.

    Raises
    ------
    ValueError
        If there is nothing to join, or shapes differ elsewhere.
    """
    operands = [operand(x) if axis is not None else reshape(x, (-1,)) for x in tensors]
    if not operands:
        raise ValueError("need at least one array to concatenate")
    return ops.concatenate(*operands, axis=axis_of(operands[0], 0 if axis is None else axis))


def stack(tensors: Sequence[Any], axis: int = 0) -> Any:
    """Joined along a new axis, as `numpy.stack`.

    Raises
    ------
    ValueError
        If there is nothing to join, or shapes differ.
    """
    operands = [operand(x) for x in tensors]
    if not operands:
        raise ValueError("need at least one array to stack")
    return ops.stack(*operands, axis=axis_of(operands[0], axis, 1))


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y, as `numpy.where`. The branch not taken gets exactly zero."""
    if hasattr(condition, "__primitive__"):
        return ops.where(x, y, condition=condition)
    return ops.where(x, y, condition=_copied(condition, bool))


def clip(x: Any, a_min: Any = None, a_max: Any = None) -> Any:
    """Limited to [a_min, a_max], as `numpy.clip`. The gradient passes where a_min <= x <= a_max.

    Raises
    ------
    TypeError
        If a bound requires a gradient.
    """
    bounds = [-np.inf if a_min is None else a_min, np.inf if a_max is None else a_max]
    if any(isinstance(bound, Tensor) and bound._is_recorded() for bound in bounds):
        raise TypeError("clip has no derivative with respect to its bounds: use minimum(maximum(x, a_min), a_max)")
    lo, hi = (bound if type(bound) in (int, float) else as_array(bound) for bound in bounds)
    return ops.clip(operand(x), lo=lo, hi=hi)


def leaky_relu(x: Any, slope: Any = 0.01) -> Any:
    """x where x > 0, else slope times x; the derivative at 0 is the slope.

    Raises
    ------
    TypeError
        If the slope requires a gradient.
    """
    if isinstance(slope, Tensor) and slope._is_recorded():
        raise TypeError("leaky_relu has no derivative with respect to its slope: use where(x > 0, x, slope * x)")
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
    operands = [operand(x) for x in tensors]
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
    x = operand(x)
    axes = axes_of(x, axis)
    count = math.prod([x.shape[i] for i in axes])
    off = ddof.item() if isinstance(ddof, np.generic) else ddof  # unsigned ones would wrap round
    return sum(square(x - mean(x, axes, keepdims=True)), axes, keepdims) / builtins.max(count - off, 0)


def widened(x: Any) -> Any:
    """Narrow integers as wide as NumPy multiplies them."""
    return ops.cast(x, dtype=np.prod(np.empty(0, x.dtype)).dtype) if x.dtype.kind in "biu" else x


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Product of elements, as `numpy.prod`: a balanced tree of products, so that zeros are no special case."""
    x = widened(operand(x))
    axes = axes_of(x, axis)
    rest = [i for i in range(x.ndim) if i not in axes]
    shape = tuple([x.shape[i] for i in rest])
    y = reshape(transpose(x, (*rest, *axes)), (*shape, math.prod([x.shape[i] for i in axes])))
    if y.shape[-1] == 0:  # the empty product; `sum` keeps it in the graph
        return sum(x, axes, keepdims) + 1
    while (n := y.shape[-1]) > 1:
        pairs = multiply(getitem(y, (..., slice(0, n - n % 2, 2))), getitem(y, (..., slice(1, n, 2))))
        y = concatenate([pairs, getitem(y, (..., slice(n - 1, n)))], axis=-1) if n % 2 else pairs
    return reshape(y, kept(x.shape, axes) if _flag(keepdims) else shape)


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """As `numpy.tensordot`: one product of two matrices."""
    a, b = operand(a), operand(b)
    pair = axes if np.ndim(axes) else (range(a.ndim - axes, a.ndim), range(axes))
    left, right = (axes_of(x, tuple(np.atleast_1d(of))) for x, of in zip((a, b), pair, strict=True))
    shared = [a.shape[i] for i in left]
    if shared != [b.shape[i] for i in right]:
        raise ValueError(f"shape-mismatch for sum: axes {left} of {a.shape} and axes {right} of {b.shape}")
    rows, columns = ([i for i in range(x.ndim) if i not in of] for x, of in ((a, left), (b, right)))
    before, after = [a.shape[i] for i in rows], [b.shape[i] for i in columns]
    A = reshape(transpose(a, (*rows, *left)), (math.prod(before), math.prod(shared)))
    B = reshape(transpose(b, (*right, *columns)), (math.prod(shared), math.prod(after)))
    return reshape(ops.matmul(A, B), before + after)


def dot(a: Any, b: Any) -> Any:
    """Product of vectors, matrices or numbers, as `numpy.dot`: over the last axis of a and the last but one of b.

    Parameters
    ----------
    a : Tensor or array, shape (..., K)
    b : Tensor or array, shape (..., K, M) or (K,)

    Raises
    ------
    ValueError
        If the two axes differ in length.
    """
    a, b = operand(a), operand(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return ops.matmul(a, b) if b.ndim == 1 or a.ndim <= 2 >= b.ndim else tensordot(a, b, (-1, -2))


def outer(a: Any, b: Any) -> Any:
    """Each element of a times each of b, as `numpy.outer`: a matrix of shape (a.size, b.size)."""
    return reshape(a, (-1, 1)) * reshape(b, (1, -1))


def _root(x: Any) -> Any:
    """√x with the gradient 0 at 0, where the root has none, and infinity times 0 would be NaN."""
    return where(x == 0, 0.0, sqrt(where(x == 0, 1.0, x)))


def std(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Standard deviation, as `numpy.std`. Where all elements are equal, its gradient is 0."""
    return _root(var(x, axis, ddof, keepdims))


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Norm of a vector or a matrix, as `numpy.linalg.norm`. Where it is 0, its gradient is 0.

    Parameters
    ----------
    x : Tensor or array
    ord : number or "fro", optional
        Of a vector any but 0, of a matrix 1, -1, inf, -inf or "fro". Without, the root of the sum of squares.
    axis : int or tuple of int, optional
        One axis for norms of vectors, two for those of matrices; all by default.
    keepdims : bool

    Raises
    ------
    ValueError
        For other norms, such as those that are made of singular values.
    """
    if isinstance(ord, Tensor) and ord._is_recorded():
        raise TypeError("norm has no derivative with respect to ord: use sum(abs(x) ** ord) ** (1 / ord)")
    x, ord = as_floats(operand(x)), ord.item() if isinstance(ord, (np.generic, np.ndarray, Tensor)) else ord
    if axis is not None and np.size(axis) not in (1, 2):
        raise ValueError("improper number of dimensions to norm: axis is one or two")
    axes, largest = axes_of(x, axis), max if isinstance(ord, (int, float)) and ord > 0 else min
    if ord is None or (len(axes) == 1 and ord == 2) or (len(axes) == 2 and ord in ("fro", "f")):
        return _root(sum(square(x), axes, keepdims))
    if len(axes) == 2 and ord in (1, -1, np.inf, -np.inf):  # of the sums of columns, or of rows
        return largest(sum(ops.abs(x), axes[builtins.abs(ord) != 1], keepdims=True), axes, keepdims)
    if len(axes) != 1 or isinstance(ord, str) or ord == 0:
        raise ValueError(f"norm has no derivative here for ord={ord!r} over {len(axes)} axes")
    if ord in (np.inf, -np.inf):
        return largest(ops.abs(x), axes, keepdims)
    total = sum(ops.abs(x) ** ord, axes, keepdims)
    if ord < 0:
        return total ** (1 / ord)
    return where(total == 0, 0.0, where(total == 0, 1.0, total) ** (1 / ord))


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Parts along an axis: so many equal ones, or cut at the given indices, as `numpy.split`.

    Raises
    ------
    ValueError
        If the axis cannot be divided into so many equal parts.
    """
    x = operand(x)
    axis = axis_of(x, axis)
    n = x.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        sections = operator.index(indices_or_sections)
        if sections < 1 or n % sections:
            raise ValueError("array split does not result in an equal division")
        cuts = [n // sections * i for i in range(1, sections)]
    else:
        cuts = [operator.index(i) for i in indices_or_sections]
    return [getitem(x, (slice(None),) * axis + (slice(a, b),)) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


def _shifted(x: Any, axis: Any) -> Any:
    """Subtract the largest element along an axis, a constant that softmax does not see: exp cannot overflow."""
    x = as_floats(operand(x))
    if x.size == 0:
        return x
    largest = np.max(raw(x.detach() if hasattr(x, "detach") else x), axis=axis, keepdims=True)
    return x - np.where(np.isfinite(largest), largest, 0.0).astype(x.dtype, copy=False)


def log_softmax(x: Any, axis: Any = -1) -> Any:
    """x - log Σ exp x along an axis, without overflow."""
    z = _shifted(x, axis)
    if z.size == 0:  # nothing of either; log 0 would warn
        return softmax(z, axis)
    return z - log(sum(exp(z), axis, keepdims=True))


def softmax(x: Any, axis: Any = -1) -> Any:
    """exp x / Σ exp x along an axis, without overflow."""
    e = exp(_shifted(x, axis))
    return e / sum(e, axis, keepdims=True)
