"""The verdict in a word: exploding, growing, healthy, fading, vanishing, or that one cannot tell.

After this file the reader knows what each word means in decades, and when no word is given. D = -slope × T is how many
decades the fitted line loses over the sequence; the verdict is that of the median sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .line import FLOAT32_ZERO, Line, first_below, median

Array = NDArray[Any]

WORDS = ("exploding", "growing", "healthy", "fading", "vanishing", "cannot tell")
BOUNDS = (-6.0, -1.0, 1.0, 6.0)  # decades lost, between the first five words
FEWEST_STEPS = 20
POOREST_FIT = 0.8
FLAT = 1.0
"""Where a gradient stays within so many decades over all fitted lags, no fit could be bad enough to change the word."""


def word_of(decades: float) -> str:
    """The word for a loss of so many decades."""
    return WORDS[sum(decades > bound for bound in BOUNDS[2:]) + sum(decades >= bound for bound in BOUNDS[:2])]


@dataclass(frozen=True)
class Judgement:
    """One state's verdict.

    Attributes
    ----------
    word : str
        One of `WORDS`.
    decades : float
        D, lost over the sequence; negative if gained, inf if the gradient becomes exactly zero at once.
    reason : str
        The number behind the word, or why one cannot tell.
    zero_lag : int or None
        The first lag at which float32 reads zero (in the median sequence); None if none within the sequence.
    """

    word: str
    decades: float
    reason: str
    zero_lag: int | None


def zero_lags(peaks: Array) -> Array:
    """For each sequence the first lag from which on float32 holds nothing but zeros; inf where there is none."""
    lags = first_below(peaks, FLOAT32_ZERO).astype(float)
    return np.where(lags < 0, math.inf, lags)


def judge(line: Line, logs: Array, peaks: Array, steps: int) -> Judgement:
    """Decide on the word.

    Parameters
    ----------
    line : Line
    logs, peaks : arrays, shape (K, B)
        Log10 of the gradient's norm and of its largest entry, by lag.
    steps : int
        T.
    """
    zeros = zero_lags(peaks)
    lost = np.where(np.isnan(line.slopes) & np.isfinite(zeros), math.inf, -line.slopes * steps)
    first_zero = float(np.median(zeros))
    zero_lag = int(first_zero) if math.isfinite(first_zero) else None
    decades = median(lost)
    if steps < FEWEST_STEPS:
        return Judgement("cannot tell", decades, f"T = {steps} steps are fewer than {FEWEST_STEPS}", zero_lag)
    if np.isneginf(peaks).all(axis=0).mean() > 0.5:  # nothing set out, so nothing can have vanished on the way
        reason = "the gradient is exactly zero from the last step on: the loss does not depend on this state"
        return Judgement("cannot tell", decades, reason, zero_lag)
    if zero_lag is not None:
        return Judgement("vanishing", decades, f"zero in float32 from lag {zero_lag} on", zero_lag)
    if math.isnan(decades):
        return Judgement("cannot tell", decades, "no two lags have a gradient", zero_lag)
    inner = (
        np.quantile(lost, [0.1, 0.9]) if np.isfinite(lost).all() else np.quantile(lost, [0.1, 0.9], method="nearest")
    )
    words = list(dict.fromkeys(map(word_of, inner)))
    fitted = logs[line.first : line.last + 1]
    flat = bool((fitted.max(axis=0) - fitted.min(axis=0) <= FLAT).all()) if np.isfinite(fitted).all() else False
    r2 = median(line.r2)
    if r2 < POOREST_FIT and not flat:
        return Judgement("cannot tell", decades, f"the line fits badly: R² = {r2:.2f} < {POOREST_FIT}", zero_lag)
    if len(words) > 1:
        low, high = sorted(inner)
        return Judgement(
            "cannot tell",
            decades,
            f"between {words[0]} and {words[1]}: the middle 80 % of the sequences lose {low:.2g} to {high:.2g} decades",
            zero_lag,
        )
    return Judgement(word_of(decades), decades, f"D = {decades:+.1f} decades over T = {steps} steps", zero_lag)
