"""NumPy's further names: composed of what is there, with a rule of their own where nothing composes.

After this file the reader knows how ``np.roll(x, 1)`` of a Tensor comes by its gradient. What NumPy does by a
transpose, a reshape or a concatenation is one here too. What moves numbers in another way is done by NumPy itself to
the numbers of their places, and then one `getitem` picks from these places. They are NumPy's names only, none of the
package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from inspect import signature
from itertools import accumulate
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import numpy as np

from . import functions as f
from . import ops
from .arguments import meaningful, whole
from .functions import concatenate, getitem, operand, reshape, where
from .numpy_calls import in_its_places
from .ops import primitive
from .tensor import NUMPY, OPS, Tensor, numpy_itself, raw

# What is composed of nothing else without losing digits. The 1.0 is for integers, whose squares would wrap round.
# fmt: off
primitive("tan",     np.tan,     lambda g, y, x: g * (1 + y * y))
primitive("sinh",    np.sinh,    lambda g, y, x: g * np.cosh(x))
primitive("cosh",    np.cosh,    lambda g, y, x: g * np.sinh(x))
primitive("arcsin",  np.arcsin,  lambda g, y, x: g / np.sqrt((1 - x) * (1 + x)))
primitive("arccos",  np.arccos,  lambda g, y, x: -g / np.sqrt((1 - x) * (1 + x)))
primitive("arctan",  np.arctan,  lambda g, y, x: g / (1 + x * x))
primitive("arcsinh", np.arcsinh, lambda g, y, x: g / np.sqrt(1 + x * x))
primitive("arccosh", np.arccosh, lambda g, y, x: g / np.sqrt((x - 1) * (x + 1)))
primitive("arctanh", np.arctanh, lambda g, y, x: g / ((1 - x) * (1 + x)))
primitive("log2",    np.log2,    lambda g, y, x: g / (x * math.log(2)))
primitive("log10",   np.log10,   lambda g, y, x: g / (x * math.log(10)))
primitive("logaddexp", np.logaddexp, lambda g, y, a, b: g * ops.sigmoid(a - b),
                                     lambda g, y, a, b: g * ops.sigmoid(b - a))
primitive("arctan2", np.arctan2, lambda g, y, a, b: g * b / (1.0 * a * a + 1.0 * b * b),
                                 lambda g, y, a, b: -g * a / (1.0 * a * a + 1.0 * b * b))
remainder = primitive("remainder", np.remainder, lambda g, y, a, b: g,  # y = a - b × floor(a / b)
                                                 lambda g, y, a, b: -g * (a - y) / b, symbol="%")
# fmt: on

# -- By the numbers of places, and by shapes ---------------------------------------------------------------------------


_signature = cache(signature)


def _of_first(rule: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    """``rule(x, move)`` of the first operand, and of what NumPy was asked to do, as a function of an array."""

    def call(*args: Any, **options: Any) -> Any:
        given = _signature(theirs).bind(*args, **options).arguments
        x = operand(given.pop(next(iter(given))))
        return rule(x, lambda array: theirs(array, **{name: raw(value) for name, value in given.items()}))

    call.__doc__ = f"As `numpy.{theirs.__name__}`."
    return call


def _places(x: Any) -> Any:
    """The number of each place, from 1 on: 0 is left for what a function puts between."""
    return np.arange(1, math.prod(x.shape) + 1).reshape(x.shape)


def _picked(x: Any, places: Any) -> Any:
    """The elements at these places; 0 where there is none."""
    flat, index = reshape(x, (math.prod(x.shape),)), np.asarray(places) - 1
    if (index < 0).any():  # -1 is the last
        flat = concatenate([flat, np.zeros(1, x.dtype)])
    return getitem(flat, index)


def _moved(x: Any, move: Callable[[Any], Any]) -> Any:
    """What NumPy makes of the places: one array of them, or several."""
    places = move(_places(x))
    return [_picked(x, part) for part in places] if isinstance(places, list) else _picked(x, places)


def _permuted(x: Any, move: Callable[[Any], Any]) -> Any:
    """Axis k of an empty array has the size k, so that the new shape names the old axes."""
    return f.transpose(x, move(np.empty(range(x.ndim))).shape)


def _in_steps(x: Any, step: Callable[[Any], Any]) -> Any:
    """What is constant between its steps: its values, and the gradient 0."""
    return where(False, x, step(raw(x)))


def _along(a: Any, axis: Any) -> tuple[Any, int]:
    """An array and one of its axes, counted from the front; without axis, all elements in a row."""
    return (reshape(a, (-1,)), 0) if axis is None else (operand(a), f.axis_of(operand(a), axis))


def pad(array: Any, pad_width: Any, mode: Any = "constant", constant_values: Any = None) -> Any:
    """As `numpy.pad`, where numbers or elements are put around; refused where a number is computed for the rim."""
    x = operand(array)
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise TypeError(f"np.pad of a Tensor has the modes constant, edge, reflect, symmetric and wrap, not {mode!r}")
    if mode != "constant" and constant_values is not None:
        raise ValueError(f"np.pad takes constant_values= in the mode constant only, not in {mode}")
    y = _picked(x, places := np.pad(_places(x), pad_width, mode))
    if mode != "constant" or constant_values is None:
        return y
    return where(places > 0, y, np.pad(np.zeros(x.shape, x.dtype), pad_width, constant_values=constant_values))


def sort(a: Any, axis: Any = -1, kind: Any = None, stable: Any = None) -> Any:
    """As `numpy.sort`; of equal elements each keeps its own gradient."""
    np.sort(np.empty(0), kind=kind, stable=stable)  # NumPy says what it knows; of all kinds the result is the same
    x, axis = _along(a, axis)
    return _picked(x, np.take_along_axis(_places(x), np.argsort(x, axis=axis, kind="stable"), axis))


def take(a: Any, indices: Any, axis: Any = None, mode: Any = "raise") -> Any:
    """As `numpy.take`."""
    x, axis = _along(a, axis)
    return getitem(x, (slice(None),) * axis + (np.take(np.arange(x.shape[axis]), raw(indices), mode=mode),))


def flip(m: Any, axis: Any = None) -> Any:
    """As `numpy.flip`."""
    axes = f.axes_of(x := operand(m), axis)
    return getitem(x, tuple([slice(None, None, -1 if i in axes else None) for i in range(x.ndim)]))


def atleast(theirs: Callable[[Any], Any], *arrays: Any) -> Any:
    """As `theirs`, which is `numpy.atleast_1d`, `numpy.atleast_2d` or `numpy.atleast_3d`, of one or several."""
    each = [reshape(x, theirs(np.broadcast_to(0.0, x.shape)).shape) for x in map(operand, arrays)]
    return each[0] if len(each) == 1 else tuple(each)


def hstack(tup: Any) -> Any:
    """As `numpy.hstack`: along the second axis, or the only one."""
    rows = [atleast(np.atleast_1d, x) for x in tup]
    return concatenate(rows, axis=0 if rows and rows[0].ndim == 1 else 1)


def full_like(a: Any, fill_value: Any) -> Any:
    """As `numpy.full_like`; where it is filled with a Tensor, that gets the gradient of all elements."""
    a, fill = operand(a), operand(fill_value)
    if a.dtype.kind != "f" or isinstance(fill, (np.ndarray, np.generic)):
        return numpy_itself(np.full, (a.shape, fill, a.dtype), {}, "no gradient flows through integers: fill floats")
    return ops.cast(f.broadcast_to(fill, a.shape), dtype=a.dtype)


def inner(a: Any, b: Any) -> Any:
    """As `numpy.inner`: over the last axes of both."""
    a, b = operand(a), operand(b)
    return a * b if a.ndim == 0 or b.ndim == 0 else f.tensordot(a, b, (-1, -1))


def cumprod(a: Any, axis: Any = None) -> Any:
    """As `numpy.cumprod`, one product after the other as there: in another order one may leave the range of floats."""
    y, axis = _along(a, axis)
    parts = f.split(f.widened(y), y.shape[axis], axis) if y.shape[axis] else [f.widened(y)]
    return concatenate(list(accumulate(parts, ops.multiply)), axis)


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """As `numpy.diff`."""
    prepend, append = (prepend, append) if whole("n", n) else (None, None)  # NumPy puts them to differences only
    x, axis = operand(a), f.axis_of(operand(a), axis)
    one = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    parts = [x if part is x else operand(part) for part in (prepend, x, append) if part is not None]
    if len(parts) > 1:
        x = concatenate([f.broadcast_to(part, one) if part.ndim == 0 else part for part in parts], axis)
    later, earlier = ((slice(None),) * axis + (part,) for part in (slice(1, None), slice(None, -1)))
    for _ in range(n):
        x = getitem(x, later) - getitem(x, earlier)
    return x


def _einsum(*operands: Any, optimize: Any = False, **options: Any) -> Any:
    """`numpy.einsum` with axes as letters or as numbers; in which order it takes the products changes no value."""
    if options := meaningful(options):
        return numpy_itself(np.einsum, operands, options, f"np.einsum on a Tensor takes no {'=, '.join(options)}=")
    if isinstance(operands[0], str):
        return f.einsum(*operands)
    n = len(operands) // 2
    terms = ",".join(map(_labels, operands[1 : 2 * n : 2]))
    return f.einsum(terms + ("->" + _labels(operands[-1]) if len(operands) % 2 else ""), *operands[: 2 * n : 2])


def _labels(axes: Any) -> str:
    """The letters of numbered axes, in an order in which their numbers are."""
    return "".join(["..." if k is ... else (ascii_uppercase + ascii_lowercase)[whole("axis", k)] for k in axes])


# -- The table ---------------------------------------------------------------------------------------------------------

OF_FIRST = {
    _moved: "repeat tile roll diag diagonal tril triu rot90 take_along_axis array_split hsplit vsplit dsplit",
    _permuted: "swapaxes moveaxis rollaxis matrix_transpose",
    _in_steps: "round around fix",
}
# fmt: off
COMPOSED: dict[Any, Any] = {
    **{getattr(np, g.__name__): g for g in (pad, sort, take, flip, hstack)},
    **{getattr(np, g.__name__): g for g in (inner, cumprod, diff, full_like, f.tensordot)},
    np.linalg.norm: f.norm,
    np.vstack:    lambda tup: concatenate([atleast(np.atleast_2d, x) for x in tup]),
    np.dstack:    lambda tup: concatenate([atleast(np.atleast_3d, x) for x in tup], axis=2),
    np.column_stack: lambda tup: concatenate([x if x.ndim > 1 else reshape(x, (-1, 1)) for x in map(operand, tup)], 1),
    np.append:    lambda arr, values, axis=None: concatenate([arr, values], axis),
    np.ravel:     lambda a: reshape(a, (-1,)),
    np.flipud:    lambda m: flip(m, 0),
    np.fliplr:    lambda m: flip(m, 1),
    np.trace:     lambda a, offset=0, axis1=0, axis2=1: f.sum(np.diagonal(a, offset, axis1, axis2), -1),
    np.copy:      lambda a: ops.cast(a, dtype=a.dtype),
    np.fabs:      lambda x: ops.abs(ops.as_floats(x)),
    np.exp2:      lambda x: ops.power(2.0, x),
    np.reciprocal: lambda x: 1 / x if x.dtype.kind == "f" else Tensor(np.reciprocal(raw(x))),
    **dict.fromkeys((np.deg2rad, np.radians), lambda x: x * (math.pi / 180)),
    **dict.fromkeys((np.rad2deg, np.degrees), lambda x: x * (180 / math.pi)),
    np.fmax:      lambda a, b: ops.maximum(where(a != a, b, a), where(b != b, a, b)),
    np.fmin:      lambda a, b: ops.minimum(where(a != a, b, a), where(b != b, a, b)),
}
# fmt: on
for _rule, _names in OF_FIRST.items():
    NUMPY.update({theirs: _of_first(_rule, theirs) for theirs in [getattr(np, name) for name in _names.split()]})
NUMPY.update({theirs: in_its_places(theirs, ours) for theirs, ours in COMPOSED.items()})
NUMPY.update({op.forward: op for op in OPS.values() if isinstance(op.forward, np.ufunc)})
NUMPY.update({ufunc: partial(_in_steps, step=ufunc) for ufunc in (np.sign, np.floor, np.ceil, np.trunc, np.rint)})
NUMPY.update({theirs: partial(atleast, theirs) for theirs in (np.atleast_1d, np.atleast_2d, np.atleast_3d)})
NUMPY[np.einsum] = _einsum
