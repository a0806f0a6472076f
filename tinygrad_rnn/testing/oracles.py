"""Derivatives without derivative rules: what an analytic gradient is compared with.

After this file the reader knows how to differentiate a program from outside, and how far to believe the result: central
differences made exact to sixth order by two Richardson steps, with an error that follows from the rounding of the
values that are differenced, and the same with other steps, whose spread is an error that nobody has to estimate.
Nothing here knows the engine: functions take arrays and give arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Values = Callable[[Sequence[Array]], Array]
"""From the inputs to all outputs, flattened into one vector."""
Element = tuple[int, ...]

STEPS = (1e-2, 1e-3, 1e-4, 1e-5)
AGAIN = (0.83, 0.61, 0.47, 0.37, 0.29)
"""Other steps, as shares of the one that was used: no two of them have a common sample."""
EPS = float(np.finfo(float).eps)
TINY = float(np.finfo(float).smallest_subnormal)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A derivative found by differencing.

    Attributes
    ----------
    value : float
    error : float
        How far it may be off: by what the last two Richardson orders differ, or by what the values are rounded.
    sides : tuple of two floats, or None
        The slopes to the left and to the right, smaller first, where they differ: at a kink. Infinite at a jump.
    step : float
        The largest distance that was used.
    rounding : float
        The part of the error that rounding alone makes.
    motion : float
        How fast the outputs move, of which none cancels another: Σ |seed| |f(x + h) - f(x)| / h.
    """

    value: float
    error: float = 0.0
    sides: tuple[float, float] | None = None
    step: float = 0.0
    rounding: float = 0.0
    motion: float = 0.0

    @property
    def finite(self) -> bool:
        """Whether it is a number at all; at the edge of a domain it is none."""
        return bool(np.isfinite(self.value) and np.isfinite(self.error))

    @property
    def resolved(self) -> bool:
        """Whether more is known than that the outputs move; beside a pole, or in an oscillation, it may not be."""
        return not self.motion or self.error <= max(0.05 * self.motion, 2 * self.rounding)


class Line:
    """<seed, f> along a line through the inputs, on which one of them moves.

    Parameters
    ----------
    values : callable
        From the inputs to all outputs, as one vector.
    arrays : sequence of arrays
        The inputs.
    which : int
        The one that moves.
    direction : array
        Along which.
    seed : array
        Weights of the outputs.
    noise : float
        How exact the values are, relative to their size.
    here : array, optional
        The outputs where the line begins, if they are known.
    """

    def __init__(
        self, values: Values, arrays: Sequence[Array], which: int, direction: Array, seed: Array,
        noise: float = EPS, here: Array | None = None,
    ) -> None:  # fmt: skip
        self._values, self._arrays, self._which, self._direction = values, arrays, which, direction
        self._seed, self._weight, self._noise = seed, np.abs(seed), noise
        self._here = self(0.0) if here is None else here
        # How large, in steps, are the numbers that x + h is rounded to?
        moved = direction != 0
        self.reach = float(np.abs(arrays[which][moved] / direction[moved]).max(initial=0.0))

    def __call__(self, t: float) -> Array:
        """All outputs at a distance."""
        at = [a + t * self._direction if i == self._which else a for i, a in enumerate(self._arrays)]
        return self._values(at)

    def slope(self, step: float, sharp: float = 0.0) -> Estimate:
        """The derivative by central differences with two Richardson steps, from `step`, half and a quarter of it.

        Parameters
        ----------
        step : float
        sharp : float
            Slopes to the left and right that differ by less are the same.
        """
        seed, here = self._seed, self._here
        central, right, left = [], [], []
        size = np.zeros(len(here))
        for h in (step, step / 2, step / 4):
            above, below = self(h), self(-h)
            # Differencing before weighting: elements that do not move cancel exactly, and are not rounded.
            up, down = above - here, here - below
            size = np.maximum(size, (np.maximum(np.abs(above), np.abs(below)) + TINY) * ((up != 0) | (down != 0)))
            motion = float(self._weight @ np.maximum(np.abs(up), np.abs(down))) / h
            central.append(float(seed @ (up + down)) / (2 * h))
            right.append(float(seed @ up) / h)
            left.append(float(seed @ down) / h)
            lost = float(self._weight @ size)
            rounding = 4 * (max(self._noise * lost, TINY * (lost > 0)) + EPS * self.reach * abs(central[-1])) / step
            gap = [abs(r - d) for r, d in zip(right, left, strict=True)]
            change = abs(central[-1] - central[0])
            if len(gap) == 2 and max(*gap, change) <= rounding:  # straight: a third step adds nothing
                return Estimate(central[1], max(change, rounding), None, step, rounding, motion)
        first, second = (4 * central[1] - central[0]) / 3, (4 * central[2] - central[1]) / 3
        value = (16 * second - first) / 15
        error = max(abs(value - second), rounding)
        if abs(central[2] - central[1]) > max(0.5 * abs(central[1] - central[0]), rounding):
            error = max(error, float(np.ptp(central)))  # they do not converge: noise, or a scale below the step
        sides = None
        # Of a smooth function the gap between the sides falls with h. That it does not is a kink, which central
        # differences alone do not see at exactly 0 of abs, if it stays the same, a jump if it grows as 1 / h, and
        # noise that no rounding of the result explains if it does neither.
        if gap[2] > 0.5 * gap[0] and gap[2] > min(sharp, 0.01 * motion) + 16 * rounding:
            ratios = gap[1] / (gap[0] or np.inf), gap[2] / (gap[1] or np.inf)
            if gap[2] > 1e-3 * motion and all(0.7 < ratio < 1.4 for ratio in ratios):
                sides = min(left[2], right[2]), max(left[2], right[2])
            elif gap[2] > 1e-3 * motion and all(1.7 < ratio < 2.3 for ratio in ratios):
                sides = -np.inf, np.inf
            else:  # a cusp, noise, or too little to tell, and to matter
                error = max(error, *gap)
        return Estimate(value, error, sides, step, rounding, motion)

    def derivative(self, steps: Sequence[float], goal: float) -> Estimate:
        """The first `slope` that is precise enough and has no kink, over these steps; else the most precise one.

        Parameters
        ----------
        steps : sequence of float
            Where rounding hides everything, one ten times as large as the first is tried too.
        goal : float
            The error that is wanted.
        """
        estimates: list[Estimate] = []
        for step in steps:
            estimate = self.slope(step, goal)
            if estimates and not estimate.motion:  # perhaps what moved before is only rounded
                estimate = replace(estimate, error=self.resolution(step))
            estimates.append(estimate)
            if not estimate.finite or estimate.sides:
                continue
            # The goal may follow from a wrong number, however large: that the outputs move must be seen as well.
            if estimate.error <= goal and estimate.resolved:
                return estimate
            if estimate.error <= 2 * estimate.rounding:
                estimates.append(self.slope(10 * step, goal))  # smaller steps are only noisier
                break
        return min(estimates, key=lambda e: (not e.finite, e.sides is not None, e.error / (e.motion or 1.0)))

    def again(self, estimate: Estimate) -> Estimate:
        """The same with other steps, several times: the median, and the spread, which nobody had to estimate."""
        found = [self.slope(share * estimate.step) for share in AGAIN]
        values = [e.value for e in found if e.finite and not e.sides]
        if len(values) < len(AGAIN):
            return Estimate(np.nan, np.inf)
        spread = max(float(np.ptp(values)), max(e.rounding for e in found))
        return Estimate(float(np.median(values)), spread, None, estimate.step, 0.0, estimate.motion)

    def resolution(self, step: float) -> float:
        """What may be lost in outputs that do not seem to move, because they are rounded."""
        return 4 * max(self._noise * self.size, TINY) / step

    @property
    def dust(self) -> float:
        """How large a derivative rounding alone may make, where terms of the size of f / x cancel."""
        return 4 * EPS * self.size / (min(1.0, self.reach) or 1.0)

    @property
    def size(self) -> float:
        """Σ |seed · f|."""
        return float(self._weight @ np.abs(self._here))


def steps_at(x: float) -> tuple[float, ...]:
    """How far to move an element of this size: as far as its size, then on the scale of 1 or on its own."""
    scale = 0.973 * max(1.0, abs(x))  # whole steps would keep whole numbers whole
    own = [h * abs(x) for h in STEPS[:2]] if 1e-305 < abs(x) < 0.1 else []
    unit = list(STEPS[1:]) if scale > 100 else []
    return (*(h * scale for h in STEPS), *own, *unit)


def unit(array: Array, element: tuple[int, ...]) -> Array:
    """The direction in which a single element moves."""
    direction = np.zeros(array.shape)
    direction[element] = 1.0
    return direction


def numeric_jacobian(values: Values, arrays: Sequence[Array], which: int, elements: Sequence[Element]) -> Array:
    """Derivatives of every output (columns) with respect to some elements of one input (rows)."""
    rows = []
    for element in elements:
        direction = unit(arrays[which], element)
        h = 3e-4 * max(1.0, abs(float(arrays[which][element])))  # small, since an edge of the domain may be near
        line = Line(values, arrays, which, direction, np.zeros(0), here=np.zeros(0))
        wide, narrow = line(h) - line(-h), line(h / 2) - line(-h / 2)
        rows.append((8 * narrow - wide) / (6 * h))
    return np.array(rows)
