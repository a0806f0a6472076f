"""How a gradient check ends: passed, failed with the place and the likely cause, or inconclusive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .oracles import Element


@dataclass(eq=False)
class GradcheckError(AssertionError):
    """A gradient is wrong.

    Attributes
    ----------
    message : str
    order : int
        1 for the gradient, 2 for the gradient of the gradient.
    input : int or None
        Position of the input among the arguments; in order 2 the cotangents of the outputs follow the inputs.
    element : tuple of int or None
        Index of the worst element.
    analytic, numeric, relative_error : float
        What the rules say there, what the differences say, and how far apart they are.
    cause : str
        The likely cause in a word or two, as ``docs/testing.md`` lists them; the message says it at length.
    again : callable or None
        Finds the line that shows the same on small operands; asked when the message is.
    """

    message: str
    order: int = 1
    input: int | None = None
    element: Element | None = None
    analytic: float = np.nan
    numeric: float = np.nan
    cause: str = "unknown"
    again: Callable[[], str] | None = None

    relative_error = property(lambda self: relative_error(self.analytic, self.numeric), doc="How far apart they are.")

    def __str__(self) -> str:
        if self.again is not None:
            line, self.again = self.again(), None
            self.message += f"\n  again: {line}" if line else ""
        return f"order {self.order}: {self.message}" if self.order > 1 else self.message


class InconclusiveError(GradcheckError):
    """The gradient could not be checked: a kink, a jump or the domain's edge is near, or differences do not settle."""


@dataclass(frozen=True, slots=True)
class GradcheckResult:
    """What a passed check has seen.

    Attributes
    ----------
    mode : str
        ``element`` or ``direction``.
    order : int
    compared : int
        How many derivatives were compared; 0 only if all inputs are empty.
    worst : float
        Largest error among them, relative to the largest derivative of the same input (in a direction: to their sum).
    precision : float
        The largest relative error, common to all elements of some input, that could have passed unseen; infinite if
        there was nothing to compare.
    """

    mode: str
    order: int
    compared: int
    worst: float
    precision: float


def relative_error(analytic: float, numeric: float) -> float:
    """|a - n| / max(|a|, |n|), and 0 if both are 0."""
    return abs(analytic - numeric) / (max(abs(analytic), abs(numeric)) or 1.0)
