"""The verdict: how far back this loss sees, in a word and the numbers behind it.

After this file the reader knows what each word means. D is how many decades lie between what the newest input moves the
output by and what the input does that is as far back as the task needs. Nothing is fitted: both ends are measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.line import FLOAT32_ZERO
from .chain import Array
from .ends import End, measure_ends
from .experiment import Experiment

HEALTHY, SEVERE = 2.0, 6.0
"""Decades lost or gained: up to the first a loss sees far enough, beyond the second it does not see so far at all."""
BLOCKED = -4.0
"""Log10 of what an input of its own size moves the output by; below it nothing gets through."""
BY_DECADES = ("exploding", "growing", "healthy", "fading", "vanishing")
WORDS = (*BY_DECADES, "grows then dies", "nothing enters", "nothing leaves", "dies in depth", "cannot tell")


@dataclass(frozen=True)
class Judgement:
    """A word and its numbers.

    Attributes
    ----------
    word : str
        One of `WORDS`.
    decades : float
        D, lost between the newest input and the one at the lag asked for; negative if gained.
    level : float
        Log10 of the most that any input moves the output by, relative to what it moves the pre-activations by if that
        is little.
    lag, reach : int
        The lag asked for; the one up to which no more than two decades are lost or gained.
    zero_lag : int or None
        From which lag on float32 reads zero; None if from none.
    reason : str
        The number behind the word, or why one cannot tell.
    end : {"", "forward", "reverse"}
        Which direction this is about.
    """

    word: str
    decades: float
    level: float
    lag: int
    reach: int
    zero_lag: int | None
    reason: str
    end: str = ""

    @property
    def far(self) -> float:
        """Decades from healthy: what a change has to bring to zero."""
        lost = 1e3 if math.isnan(self.decades) else min(abs(self.decades), 1e3)
        blocked = max(BLOCKED - max(self.level, -1e3), 0.0)
        return max(lost - HEALTHY, 0.0) + blocked + (self.word != "healthy") * 0.1


def word_of(decades: float) -> str:
    """The word for a loss of so many decades."""
    return BY_DECADES[2 + sum(decades > b for b in (HEALTHY, SEVERE)) - sum(decades < -b for b in (HEALTHY, SEVERE))]


@dataclass(frozen=True)
class _Curve:
    """The numbers of one end, a value for each sequence that is long enough."""

    lost: Array  # D
    most: Array  # the largest of the curve
    newest: Array
    oldest: Array
    reach: int


@np.errstate(all="ignore")
def judge(end: End, lag: int | None = None) -> Judgement:
    """The word for one end, where the task needs to look back so many steps; None: as far as there are any."""
    seen = [int(n) for n in np.sum(~np.isnan(end.curve), axis=0)]
    asked = max(seen) - 1 if lag is None else lag
    name = f"{end.name} " * bool(end.name)

    def told(word: str, reason: str, D: float = math.nan, level: float = -math.inf, reach: int = 0) -> Judgement:
        return Judgement(word, D, level, asked, reach, zero_lag(end), reason, end.name)

    if end.overflow:
        return told("exploding", end.overflow, -math.inf)
    if np.isneginf(end.size).mean() > 0.5:
        return told("nothing leaves", f"the loss does not depend on the {name}output")
    if asked >= max(seen) or asked < 1:
        steps = f"{max(seen)} step{' is' if max(seen) == 1 else 's are'}"
        return told("cannot tell", f"{steps} seen, and a lag of {max(asked, 1)} is asked for")
    curve = _curve(end.curve, seen, asked)
    D, level = _middle(curve.lost), float(np.median(curve.most) - max(end.drive, -1e3))
    if level < BLOCKED and end.x is not None:
        return told(*_blocked(end, float(np.median(curve.most)), level), D, level)
    word, reason = _by_curve(curve, D, asked, name)
    if word == "healthy" and end.x is None:
        word, reason = "cannot tell", f"{reason}, but no inputs are found in this graph: give the model and its inputs"
    return told(word, reason, D, level, curve.reach)


def zero_lag(end: End) -> int | None:
    """The first lag from which on float32 holds nothing but zeros, in the median sequence."""
    held = end.peak > FLOAT32_ZERO
    steps = (~np.isnan(end.peak)).sum(axis=0)
    first = np.where(held.any(axis=0), len(held) - np.argmax(held[::-1], axis=0), 0)
    middle = _middle(np.where(first < steps, first, math.inf))
    return int(middle) if math.isfinite(middle) else None


def _middle(values: Array) -> float:
    """The median, as one of the values: those between them may be infinite."""
    return float(np.sort(values)[len(values) // 2])


def _curve(x: Array, seen: list[int], lag: int) -> _Curve:
    rows = x[: lag + 1, np.array(seen) > lag].T
    newest, most = np.max(rows[:, :2], axis=1), np.max(rows, axis=1)
    oldest = np.full(len(rows), -np.inf)
    for b, row in enumerate(rows):  # the median over the last tenth, since real inputs ripple
        tail = row[-max(lag // 10, 1) :]
        oldest[b] = np.median(tail[tail > -np.inf]) if (tail > -np.inf).any() else -np.inf
    lost = newest - oldest
    lost[np.isneginf(newest) & np.isneginf(oldest)] = np.inf
    lost[np.isposinf(oldest)] = -np.inf
    return _Curve(lost, most, newest, oldest, reach(rows.T, HEALTHY))


def reach(curve: Array, decades: float) -> int:
    """The lag up to which a curve loses or gains no more than so many decades, in the median sequence."""
    rows = curve.T
    away = ~(np.abs(np.max(rows[:, :2], axis=1)[:, None] - rows[:, 1:]) <= decades)
    return int(np.median(np.argmax(np.c_[away, np.ones(len(rows), bool)], axis=1)))


def _blocked(end: End, most: float, level: float) -> tuple[str, str]:
    """Where nothing gets through: the wall is at the output, between the layers, or at the inputs."""
    name = f"{end.name} " * bool(end.name)
    kept = {key: float(np.nanmax(np.nanmedian(a[1:], axis=1))) for key, a in end.states.items()}
    held = max(kept.values(), default=-math.inf)
    if held < BLOCKED / 2:
        return "nothing leaves", f"{power(held)} of ∂L/∂{name}output is left one step before"
    lowest = [v for (layer, _), v in kept.items() if layer.removesuffix(" reverse") in ("", "layer 0")]
    depth = -max(lowest, default=-math.inf)
    if depth > HEALTHY and depth >= -level / 2:
        return "dies in depth", f"{depth:.1f} decades are lost from the top layer down to the lowest"
    why = f"no input of its own size moves the {name}output by more than {power(most)}"
    return "nothing enters", next((note for note in end.notes if note.startswith("the inputs")), why)


def power(log: float) -> str:
    """A power of ten."""
    return f"10^{log:.1f}" if math.isfinite(log) else "0"


def _by_curve(curve: _Curve, D: float, asked: int, name: str) -> tuple[str, str]:
    low, high = (float(v) for v in np.quantile(curve.lost, [0.1, 0.9], method="nearest"))
    partly = (abs(low) <= HEALTHY) != (abs(high) <= HEALTHY) and high - low > 2 * HEALTHY
    if partly or low < -HEALTHY < HEALTHY < high:
        good = int(np.sum(np.abs(curve.lost) <= HEALTHY))
        return (
            "cannot tell",
            f"sequences disagree: {good} of {len(curve.lost)} are healthy, D = {low:.1f} ... {high:.1f}",
        )
    hump = float(np.median(curve.most - np.fmax(curve.newest, curve.oldest)))
    fall = float(np.median(curve.most - curve.oldest))
    if D > -HEALTHY and min(hump, fall) > HEALTHY:
        return "grows then dies", f"{hump:.1f} decades up, then {fall:.1f} down"
    many = f"{abs(D):.1f} decades are" if math.isfinite(D) else "all is" if D > 0 else "beyond float64 is"
    before = f"{asked} step{'s' * (asked != 1)} before"
    what = f"{many} {'lost' if D >= 0 else 'gained'} between the newest {name}input and that {before}"
    return word_of(D), what


def verdict(experiment: Experiment) -> tuple[Judgement, list[End]]:
    """The worst end's word; an end that the loss does not read, or after one step only, has none."""
    ends = measure_ends(experiment)
    seen = [end for end in ends if len(end.curve) > 1 and np.isfinite(end.size).any()] or ends[:1]
    judged: Any = max((judge(end, experiment.lag) for end in seen), key=lambda j: j.far)
    return judged, ends
