"""NumPy's calls of a Tensor: how ``np.sum(a=x, dtype=None)`` reaches the function of the package.

After this file the reader knows that an argument means what it means to NumPy, by its name or in its place, or is
refused; and that questions about values are answered by NumPy itself.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from . import functions, ops
from .arguments import meaningful
from .tensor import NUMPY, numpy_itself, raw


def _on_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function that answers a question about values: it sees the arrays, and its answer has no gradient."""
    return lambda *args, **options: function(*map(raw, args), **{name: raw(value) for name, value in options.items()})


RENAMED = {"newshape": "shape", "min": "a_min", "max": "a_max"}
"""What NumPy 2.0, or 2.1 and newer, call an argument that has the other's name here."""

BEFORE_2_4 = {"concatenate": ["arrays", "axis", "out"], "dot": ["a", "b", "out"], "inner": ["a", "b"]}
"""The arguments of functions that did not say theirs before NumPy 2.4."""


def in_its_places(theirs: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """Our function for calls in NumPy's way: each argument means what it means there, or is refused."""
    if isinstance(theirs, np.ufunc) or theirs is np.where:  # which take operands only
        return ours

    def call(*args: Any, **options: Any) -> Any:
        places, names, same, renamed = _compared(theirs, ours)
        if len(args) <= same and names.keys() >= options.keys():
            return ours(*args, **options)
        given = dict(zip(places[same:], args[same:], strict=False)) | options
        given = {renamed.get(name, name): value for name, value in given.items()}
        extra = {name: given.pop(name) for name in given.keys() - names.keys()}
        if refused := meaningful(extra):
            why = f"np.{theirs.__name__} on a Tensor takes no {'=, '.join(refused)}="
            return numpy_itself(theirs, args, options, why)
        return ours(*args[:same], **given)

    call.__doc__ = f"As `{theirs.__module__}.{theirs.__name__}`."
    return call


@cache
def _compared(theirs: Any, ours: Any) -> tuple[list[str], Mapping[str, Any], int, dict[str, str]]:
    """NumPy's places by our names, our names, how many stand in the same place, and what NumPy calls otherwise.

    Read at the first call, and not while the package is imported.
    """
    names = inspect.signature(ours).parameters
    try:
        places = [RENAMED.get(name, name) for name in inspect.signature(theirs).parameters]
    except ValueError:
        places = BEFORE_2_4[theirs.__name__]
    same = 1 + [name in names for name in (*places[1:], "")].index(False)
    return places, names, same, RENAMED | {places[0]: next(iter(names))}


_QUESTIONS = """
    equal not_equal less less_equal greater greater_equal isnan isfinite isinf signbit logical_and logical_or
    logical_not logical_xor sign floor ceil trunc rint round around fix any all nonzero flatnonzero argwhere
    count_nonzero size array_equal array_equiv allclose isclose argmax argmin argsort searchsorted zeros_like ones_like
    empty_like array_repr array_str array2string
""".split()
QUESTIONS = frozenset(getattr(np, name) for name in _QUESTIONS)
"""NumPy's functions that ask about values."""

for _name in (*ops.__all__, *functions.__all__):
    if (_theirs := getattr(np, _name, None)) is not None:
        NUMPY[_theirs] = in_its_places(_theirs, getattr(functions if _name in functions.__all__ else ops, _name))
NUMPY.update({np.amax: NUMPY[np.max], np.amin: NUMPY[np.min], np.positive: operator.pos})
NUMPY.update({np.shape: lambda a: a.shape, np.ndim: lambda a: a.ndim})
NUMPY.update({function: _on_values(function) for function in QUESTIONS})
