"""What a traced program holds beside arrays: names from outside, and numbers that go by the number of steps.

After this file the reader knows why a name that somebody else chose never becomes source, and how one program holds for
any T: its numbers say how they follow from it.
"""

from __future__ import annotations

import re
from typing import Any, Self

import numpy as np


def identifier(name: object, otherwise: str = "") -> str:
    """A name from outside as it may stand in source: a short plain word; anything else is data, and is not written.

    Examples
    --------
    >>> identifier("layer 0.weight"), identifier("2nd"), identifier('w": [evil()]', "p")
    ('layer_0_weight', '_2nd', 'p')
    """
    if not isinstance(name, str) or not re.fullmatch(r"_?[A-Za-z0-9][A-Za-z0-9_. -]{0,59}", name):
        return otherwise
    word = re.sub(r"[. -]", "_", str.__str__(name))
    return f"_{word}" if word[0].isdigit() else word


class TInt(int):
    """An integer of the example that is `slope` T + `offset` for T steps, and prints so."""

    slope: int
    offset: int

    @classmethod
    def of(cls, value: int, slope: int, offset: int = 0) -> Self:
        """The integer that this function of T is for the example."""
        number = cls(value)
        number.slope, number.offset = slope, offset
        return number

    def at(self, steps: int) -> int:
        """For another number of steps."""
        return self.slope * steps + self.offset

    def __repr__(self) -> str:
        text = "T" if self.slope == 1 else f"{self.slope} * T"
        return text + (f" {'+' if self.offset > 0 else '-'} {abs(self.offset)}" if self.offset else "")


class TFloat(float):
    """A number of the example that is `top` over such an integer, and prints so."""

    top: float
    bottom: TInt

    @classmethod
    def of(cls, top: float, bottom: TInt) -> Self:
        """The number that this function of T is for the example."""
        number = cls(top / bottom)
        number.top, number.bottom = top, bottom
        return number

    def at(self, steps: int) -> float:
        """For another number of steps."""
        return self.top / self.bottom.at(steps)

    def __repr__(self) -> str:
        top, below = self.top, repr(self.bottom)
        return f"{int(top) if top.is_integer() else repr(top)} / {below if below == 'T' else f'({below})'}"


def at_steps(value: Any, steps: int) -> Any:
    """A number, a static parameter or a shape for another number of steps than the example's."""
    if isinstance(value, (TInt, TFloat)):
        return value.at(steps)
    if type(value) is tuple:
        return tuple([at_steps(v, steps) for v in value])
    if type(value) is slice:
        return slice(*(at_steps(v, steps) for v in (value.start, value.stop, value.step)))
    return value


def static_key(value: Any) -> Any:
    """A static parameter or a constant, in a form that can be compared and hashed."""
    if isinstance(value, (tuple, list)):
        return tuple([static_key(v) for v in value])
    if isinstance(value, dict):
        return tuple([(k, static_key(v)) for k, v in value.items()])
    if isinstance(value, slice):
        return "slice", *(static_key(v) for v in (value.start, value.stop, value.step))
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, float):  # 0.0 is not -0.0, NaN is NaN, and a function of T is more than what it is here
        return type(value).__name__, repr(value)
    try:
        hash(value)
    except TypeError:
        return type(value).__name__, id(value)
    return type(value).__name__, repr(value) if type(value) is TInt else value
