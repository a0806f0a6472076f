"""The straight line through a gradient's logarithm: how many decades it loses or gains per step, the one rate of decay.

After this file the reader knows what is fitted, over which lags, and what is left out: exact zeros have no logarithm,
so they are counted, not fitted. Picture, chart, report and command line take the rate from here, so that they print the
same number for the same loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..norms import norm_of

Array = NDArray[Any]

FIRST_LAG = 10
"""The fit begins here: over the first lags the gradient is still turning into the directions that last."""

FLOAT32_ZERO, FLOAT16_ZERO = math.log10(2.0**-150), math.log10(2.0**-25)
"""Log10 of the largest number that float32 rounds to zero: half of its smallest subnormal, 1.4e-45; of float16."""


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
        return half_life(self.slope)

    @property
    def intercept(self) -> float:
        """Log10 of the norm at lag 0 on the line; median over the sequences."""
        return median(self.intercepts)


def half_life(slope: float) -> float:
    """Steps in which what changes by so many decades a step halves or doubles."""
    return math.log10(2.0) / abs(slope) if slope else math.inf


def median(values: Array) -> float:
    """The median of what is known; NaN if nothing is."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else math.nan


def window(lags: int) -> tuple[int, int]:
    """The lags to fit over, where the last one is `lags`: from 10 on, or from the middle of a short one."""
    return min(FIRST_LAG, lags // 2), lags


def fit(logs: Array) -> Line:
    """Fit a line to each column.

    Parameters
    ----------
    logs : array, shape (K, B)
        Log10 of norms by lag, from lag 0; -inf where the norm is zero. Those of the `window` count; all, if fewer than
        two norms there are not zero.
    """
    first, last = window(len(logs) - 1)
    whole, found = np.arange(len(logs), dtype=float), []
    for column in np.asarray(logs).T:
        # Where the gradient is zero before the window begins, what comes before it is all there is.
        part = slice(first, None) if np.isfinite(column[first:]).sum() > 1 else slice(None)
        found.append(_line(whole[part], column[part]))
    slopes, intercepts, r2, rms = np.array(found).reshape(-1, 4).T
    return Line(slopes, intercepts, r2, rms, first, last)


def line_through(gradients: Sequence[Array]) -> Line:
    """The line of one state, from its gradients at every step, newest first; a row for each sequence if there are."""
    rows = [g if g.ndim > 1 else g[None] for g in gradients]
    with np.errstate(divide="ignore"):
        return fit(np.log10([[norm_of(row) for row in step] for step in rows]))


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
