"""How a gradient check ends: passed, failed with the place and the likely cause, or inconclusive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .diagnosis import CAUSES
from .oracles import Element


class GradcheckError(AssertionError):
    """A gradient is wrong.

    Attributes
    ----------
    order : int
        1 for the gradient, 2 for the gradient of the gradient.
    input : int or None
        Position of the input among the arguments; in order 2 the cotangents of the outputs follow the inputs.
    element : tuple of int or None
        Index of the worst element.
    analytic, numeric, relative_error : float
        What the rules say there, what the differences say, and how far apart they are.
    cause : str
        The likely cause in a word or two, one of `diagnosis.CAUSES`; the message says it at length.
    """

    def __init__(
        self,
        message: str,
        order: int = 1,
        input: int | None = None,
        element: Element | None = None,
        analytic: float = np.nan,
        numeric: float = np.nan,
        cause: str = "unknown",
    ) -> None:
        assert cause in CAUSES
        super().__init__(message if order == 1 else f"order {order}: {message}")
        self.order = order
        self.input = input
        self.element = element
        self.analytic = analytic
        self.numeric = numeric
        self.cause = cause
        self.relative_error = relative_error(analytic, numeric)


class InconclusiveError(GradcheckError):
    """The gradient could not be checked: a kink, a jump or the domain's edge is near, or differences do not settle."""


@dataclass(frozen=True, slots=True)
class GradcheckResult:
    """What a passed check has seen.

    Attributes
    ----------
    mode : str
        ``element``, ``direction`` or ``complex``.
    order : int
    compared : int
        How many derivatives were compared; 0 only if all inputs are empty.
    worst : float
        Largest error among them, relative to the largest derivative of the same input (in a direction: to their sum).
    precision : float
        The largest relative error, common to all elements of some input, that could have passed unseen.
    """

    mode: str
    order: int
    compared: int
    worst: float
    precision: float


def relative_error(analytic: float, numeric: float) -> float:
    """|a - n| / max(|a|, |n|), and 0 if both are 0."""
    return abs(analytic - numeric) / (max(abs(analytic), abs(numeric)) or 1.0)
