"""A recurrent state in one form: the arrays that it is made of, h first.

After this file the reader knows why a state looks different to a cell and to whoever works on it: a cell takes and
gives what it likes, one tensor, a tuple, tuples in a tuple; inside the package a state is the tuple of its parts, and
only where a cell is called does it get its form back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np


def parts_of(state: Any) -> tuple[Any, ...]:
    """The tensors or arrays of a state in their order, h first; a list of numbers is an array."""
    if isinstance(state, tuple) or (isinstance(state, list) and not _is_numbers(state)):
        return tuple([part for inner in state for part in parts_of(inner)])
    return (state,)


def state_of(parts: Iterable[Any], form: Any) -> Any:
    """The state of the same form as another, made of other parts.

    Raises
    ------
    ValueError
        If there are too few.
    """
    try:
        return _filled(form, iter(parts))
    except StopIteration:
        raise ValueError("a state of this form is made of more parts") from None


def _filled(form: Any, parts: Iterator[Any]) -> Any:
    if isinstance(form, tuple) or (isinstance(form, list) and not _is_numbers(form)):
        inner = [_filled(part, parts) for part in form]
        return form._make(inner) if hasattr(form, "_make") else type(form)(inner)  # a named tuple stays one
    return next(parts)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, (int, float, np.generic)) or (isinstance(value, list) and all(map(_is_numbers, value)))
