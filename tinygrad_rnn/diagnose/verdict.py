"""The verdict: how far back this loss sees, in a word and the numbers behind it.

After this file the reader knows what each word means. D is how many decades lie between what the newest input moves the
output by and what the input does that is as far back as the task needs. Nothing is fitted: both ends are measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..files import counted
from ..graph.line import FLOAT32_ZERO
from ..tensor import Tensor
from .chain import Array, in_float64
from .ends import End, measure_ends, median_by_lag
from .experiment import Experiment

HEALTHY, SEVERE = 2.0, 6.0
"""Decades lost or gained: up to the first a loss sees far enough, beyond the second it does not see so far at all."""
BLOCKED = -4.0
"""Log10 of what an input of its own size moves the output by; below it nothing gets through."""
EPS, DIGITS = np.finfo(np.float64).eps, 12
"""The last digit of float64, and after how many decades of growth rounding may show in a number."""
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
    about : {"", "loss", "inputs", "steps"}
        What the reason is about, where it is nothing of the network's: a loss that does not read it, inputs that are
        constant, too few steps.
    """

    word: str
    decades: float = math.nan
    level: float = -math.inf
    lag: int = 0
    reach: int = 0
    zero_lag: int | None = None
    reason: str = ""
    end: str = ""
    about: str = ""

    @property
    def far(self) -> float:
        """Decades from healthy: what a change has to bring to zero."""
        lost = 1e3 if math.isnan(self.decades) else min(abs(self.decades), 1e3)
        blocked = max(BLOCKED - max(self.level, -1e3), 0.0)
        return max(lost - HEALTHY, 0.0) + blocked + (self.word != "healthy") * 0.1


def word_of(decades: float) -> str:
    """The word for a loss of so many decades."""
    return BY_DECADES[2 + sum(decades > b for b in (HEALTHY, SEVERE)) - sum(decades < -b for b in (HEALTHY, SEVERE))]


def in_decades(decades: float) -> str:
    """Decades with as many digits as it takes to get the same word: where 2.0 is healthy, 2.003 is not called 2.0."""
    texts = (f"{decades:.{digits}f}" for digits in range(1, 18))
    return next(text for text in texts if word_of(float(text)) == word_of(decades))


@np.errstate(all="ignore")
def judge(end: End, lag: int | None = None) -> Judgement:
    """The word for one end, where the task needs to look back so many steps; None: as far as there are any."""
    seen = np.sum(~np.isnan(end.curve), axis=0)
    most = int(seen.max())
    asked = lag if lag is not None else (len(end.curve) if end.overflow else most) - 1
    told = partial(Judgement, lag=asked, zero_lag=zero_lag(end), end=end.name)
    if end.overflow:
        return told("exploding", -math.inf, math.inf, reach=reach(end.curve, HEALTHY), reason=end.overflow)
    if end.unread:
        return told("nothing leaves", reason=end.unread, about="loss")
    if not 1 <= asked < most:
        alone = "1 step is seen, as there is no other, or no state is handed on to it (a detach, say)"
        reason = alone if most == 1 else f"{most} steps are seen, and a lag of {max(asked, 1)} is asked for"
        return told("cannot tell", reason=reason, about="steps")
    if end.apart or (end.cut and lag is None):
        return told("cannot tell", reason=end.apart or end.cut, about="steps")
    rows = end.curve[: asked + 1, seen > asked].T
    newest, top = np.max(rows[:, :2], axis=1), np.max(rows, axis=1)
    # The median over the last tenth, since real inputs ripple; zeros count where there is nothing else.
    tail = rows[:, -max(asked // 10, 1) :]
    oldest = np.fmax(median_by_lag(np.where(tail > -np.inf, tail, np.nan)), -np.inf)
    lost = np.where(np.isposinf(oldest), -np.inf, newest - oldest)
    lost[np.isnan(lost)] = np.inf
    D, level, far = _middle(lost), float(np.median(top) - max(end.drive, -1e3)), reach(rows.T, HEALTHY)
    if level < BLOCKED and end.x is not None:
        word, reason = _blocked(end, float(np.median(top)), level)
        return told(word, D, level, reason=reason, about="inputs" if reason == end.inputs else "")
    low, high = (float(v) for v in np.quantile(lost, [0.1, 0.9], method="nearest"))
    partly = (abs(low) <= HEALTHY) != (abs(high) <= HEALTHY) and high - low > 2 * HEALTHY
    hump, fall = float(np.median(top - np.fmax(newest, oldest))), float(np.median(top - oldest))
    many = f"{in_decades(abs(D))} decades are" if math.isfinite(D) else "all is" if D > 0 else "beyond float64 is"
    what = "input" if end.x is not None else end.of
    between = f"between the newest {f'{end.name} ' * bool(end.name)}{what} and that {counted(asked, 'step')} before"
    word, reason = word_of(D), f"{many} {'lost' if D >= 0 else 'gained'} {between}"
    if partly or low < -HEALTHY < HEALTHY < high:
        good = int(np.sum(np.abs(lost) <= HEALTHY))
        told_of = f"sequences disagree: {good} of {len(lost)} are healthy, D = {in_decades(low)} ... {in_decades(high)}"
        word, reason = "cannot tell", told_of
    elif D > -HEALTHY and min(hump, fall) > HEALTHY:
        word, reason = "grows then dies", f"{in_decades(hump)} decades up, then {in_decades(fall)} down"
    elif word == "healthy" and end.x is None:
        word, reason = "cannot tell", f"{reason}, but no inputs are found in this graph: give the model and its inputs"
    return told(word, D, level, reach=far, reason=reason)


def zero_lag(end: End) -> int | None:
    """The first lag from which on float32 holds nothing but zeros, in the median sequence."""
    held = end.peak > FLOAT32_ZERO
    steps = (~np.isnan(end.peak)).sum(axis=0)
    first = np.where(held.any(axis=0), len(held) - np.argmax(held[::-1], axis=0), 0)
    known = np.where(first < steps, first, math.inf)[steps > 0]
    middle = _middle(known) if len(known) else math.inf
    return int(middle) if math.isfinite(middle) else None


def _middle(values: Array) -> float:
    """The median, as one of the values: those between them may be infinite."""
    return float(np.sort(values)[len(values) // 2])


@np.errstate(invalid="ignore")
def reach(curve: Array, decades: float) -> int:
    """The lag up to which a curve loses or gains no more than so many decades, in the median sequence."""
    rows = curve.T
    away = ~(np.abs(np.max(rows[:, :2], axis=1)[:, None] - rows[:, 1:]) <= decades)
    return int(np.median(np.argmax(np.c_[away, np.ones(len(rows), bool)], axis=1)))


def _blocked(end: End, most: float, level: float) -> tuple[str, str]:
    """Where nothing gets through: the wall is at the output, between the layers, or at the inputs."""
    name = f"{end.name} " * bool(end.name)
    kept = {key: float(np.nanmax(median_by_lag(a[1:]))) for key, a in end.states.items()}
    held = max(kept.values(), default=-math.inf)
    if held < BLOCKED / 2:
        return "nothing leaves", f"no more than {power(held)} of ∂L/∂{name}output is left at any step before"
    lowest = [v for (layer, _), v in kept.items() if layer.removesuffix(" reverse") in ("", "layer 0")]
    depth = -max(lowest, default=-math.inf)
    if depth > HEALTHY and depth >= -level / 2:
        many = f"{depth:.1f} decades are" if math.isfinite(depth) else "all is"
        return "dies in depth", f"{many} lost from the top layer down to the lowest"
    return "nothing enters", end.inputs or f"no input of its own size moves the {name}output by more than {power(most)}"


def power(log: float) -> str:
    """A power of ten."""
    return f"10^{log:z.1f}" if math.isfinite(log) else "beyond float64" if log > 0 else "0"


@np.errstate(invalid="ignore")
def rounded(experiment: Experiment, ends: list[End]) -> Judgement | None:
    """The verdict with every weight changed in its last digit; None where nothing grows enough to show it.

    In chaos what is lost in rounding is, after enough steps, as large as the state itself.
    """
    curves = [a for end in ends for a in end.states.values()]
    rises = [np.max(a - np.fmin.accumulate(a), initial=0.0, where=np.isfinite(a)) for a in curves]
    if isinstance(experiment.model, Tensor) or max(rises, default=0.0) < DIGITS:
        return None
    model = in_float64(experiment.model)
    for p in model.parameters().values():
        p.data = p.data * (1 + EPS)
    return verdict(replace(experiment, model=model))[0]


def verdict(experiment: Experiment) -> tuple[Judgement, list[End]]:
    """The worst end's word; an end that the loss does not read, or after one step only, has none beside another."""
    ends = measure_ends(experiment)
    read = [end for end in ends if not end.unread] or ends[:1]
    seen = [end for end in read if len(end.curve) > 1] or read
    judged: Any = max((judge(end, experiment.lag) for end in seen), key=lambda j: j.far)
    return judged, ends
