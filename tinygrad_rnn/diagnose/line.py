"""The straight line through a gradient's logarithm: how many decades it loses or gains a step.

After this file the reader knows what is fitted, over which lags, and what is left out: exact zeros have no logarithm,
so they are counted, not fitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FIRST_LAG = 10
"""The fit begins here: over the first lags the gradient is still turning into the directions that last."""

FLOAT32_ZERO = math.log10(2.0**-150)
"""Log10 of the largest number that float32 rounds to zero: half of its smallest subnormal, 1.4e-45."""


@dataclass(frozen=True)
class Line:
    """Least squares of log10 ‖∂L/∂·‖ against the lag, a line for each sequence.

    Attributes
    ----------
    slopes, intercepts : arrays, shape (B,)
        Decades per step back in time, and log10 at lag 0; NaN with fewer than two numbers that are not zero.
    r2 : array, shape (B,)
        Share of the variance that the line explains; 1 where there is none.
    rms : array, shape (B,)
        Root mean square of the distances from the line, in decades.
    first, last : int
        The lags over which it was fitted.
    """

    slopes: Array
    intercepts: Array
    r2: Array
    rms: Array
    first: int
    last: int

    @property
    def slope(self) -> float:
        """Median over the sequences, in decades per step back in time: negative where the gradient vanishes."""
        return median(self.slopes)

    @property
    def spread(self) -> float:
        """Standard deviation of the slope over the sequences; NaN for a single one."""
        known = self.slopes[np.isfinite(self.slopes)]
        return float(known.std(ddof=1)) if len(known) > 1 else math.nan

    @property
    def half_life(self) -> float:
        """Steps in which the gradient halves (doubles, if the slope is positive): log10(2) / |slope|."""
        return math.log10(2.0) / abs(self.slope) if self.slope else math.inf

    @property
    def intercept(self) -> float:
        """Log10 of the norm at lag 0 on the line; median over the sequences."""
        return median(self.intercepts)


def median(values: Array) -> float:
    """The median of what is known; NaN if nothing is."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else math.nan


def window(lags: int) -> tuple[int, int]:
    """The lags to fit over, where the last one is `lags`: from 10 on, or from the middle of a short one."""
    return min(FIRST_LAG, lags // 2), lags


def fit(logs: Array, first: int | None = None, last: int | None = None) -> Line:
    """Fit a line to each column.

    Parameters
    ----------
    logs : array, shape (K, B)
        Log10 of norms by lag, from lag 0; -inf where the norm is zero.
    first, last : int, optional
        The lags to fit over, both included; default: 10 to the last.
    """
    begin, end = window(len(logs) - 1)
    first, last = begin if first is None else first, end if last is None else min(last, end)
    lags = np.arange(first, last + 1, dtype=float)
    found = [_line(lags, column) for column in np.asarray(logs)[first : last + 1].T]
    slopes, intercepts, r2, rms = np.array(found).reshape(-1, 4).T
    return Line(slopes, intercepts, r2, rms, first, last)


def _line(lags: Array, logs: Array) -> tuple[float, float, float, float]:
    known = np.isfinite(logs)
    if known.sum() < 2:
        return (math.nan,) * 4
    x, y = lags[known], logs[known]
    dx, dy = x - x.mean(), y - y.mean()
    slope = dx @ dy / (dx @ dx)
    rest, total = np.square(dy - slope * dx).sum(), np.square(dy).sum()
    # Rounding alone is no variance that a line could leave unexplained.
    r2 = 1.0 if rest <= len(x) * 1e-24 else 1.0 - rest / total
    return float(slope), float(y.mean() - slope * x.mean()), float(r2), math.sqrt(rest / len(x))


def first_below(logs: Array, limit: float) -> Array:
    """The first lag, in each column, from which on everything stays at or below a limit; -1 where nothing does."""
    above = logs > limit
    lags = len(logs) - np.argmax(above[::-1], axis=0)
    lags[~above.any(axis=0)] = 0
    return np.where(lags < len(logs), lags, -1)
