"""One derivative as the rules give it and as differences do, and how far either is to be believed.

After this file the reader knows when a number is called right, wrong or open: tolerances follow from the rounding of
the very values that are differenced, and differences are doubted before the rules are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..tensor import Tensor
from .oracles import AGAIN, EPS, Array, Element, Estimate, Line, steps_at, unit
from .outcome import InconclusiveError
from .subject import Subject, as_one

__tracebackhide__ = True  # pytest shows the caller's line

Mode = Literal["auto", "element", "direction"]

MOST_ELEMENTS = 400
"""Inputs with more elements than this in all are checked along directions."""

# What is accepted of an element, and along a direction relative to the sum of all elements, if differences are as
# precise as that. Measured on tanh, exp, log, softplus, logsumexp and an LSTM step against 60 digits: two Richardson
# steps are off by up to 2e-9 of an element (log at 0.1), and by 3e-13 of sum|g| along a direction, where rounding
# averages out.
TOLERANCES = {"differences": (1e-6, 1e-10), "float32": (1e-3, 1e-5)}
MARGIN = 4
"""How many times their estimated error differences may be off."""
PLACES = 32
"""At how many places beside a point slopes are looked at, at most."""
COARSEST = 1e-3
"""A derivative that is known to fewer digits is not confirmed, unless it was said how vague the values are."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One derivative as the rules give it and as differences do.

    `verdict` is "right", "wrong", "kink" (there is no derivative, and the rule's number lies between the slopes),
    "zero" (as far as rounding lets one see) or "open"; `allowed` is by how much the two may differ.
    """

    analytic: float
    estimate: Estimate
    allowed: float
    verdict: str

    @property
    def error(self) -> float:
        """By how much they differ."""
        return abs(self.analytic - self.estimate.value)


class Measured(Subject):
    """A function whose gradients are compared with differences, one derivative at a time."""

    def __init__(
        self, f: Callable[..., Any], inputs: Sequence[Any], order: int, generator: np.random.Generator,
        mode: Mode = "auto", rtol: float | None = None, atol: float = 0.0, noise: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(f, inputs, order)
        self.generator, self.atol = generator, atol
        small = sum(array.size for array in self.arrays) <= MOST_ELEMENTS
        self.mode = mode if mode != "auto" else "element" if small else "direction"
        self.elementwise = self.mode == "element"
        self.single = any(array.dtype == np.float32 for array in self.arrays)
        usual = TOLERANCES["float32" if self.single else "differences"]
        self.rtol, self.along = usual if rtol is None else (rtol, rtol)
        # Beside the largest element a small one is not known to as many digits, where rules round or values are vague.
        self.beside = self.rtol * (1e-3 if self.single or rtol else 1e-6)
        self.noise, self.coarsest = noise or EPS, 0.1 if noise else COARSEST
        self.worst, self.compared, self.precision = 0.0, 0, 0.0
        self.gradients: list[Array] = []
        self.seed: Array = np.zeros(0)
        self.inconclusive: list[InconclusiveError] = []
        self.raised = ""

    def defined(self, arrays: Sequence[Array]) -> Array:
        """All outputs; NaN where f raises an error, which may well be beside the inputs and not at them."""
        try:
            return self.values(arrays)
        except Exception as error:
            self.raised = f"{type(error).__name__}: {error}"
            return np.full(len(self.here), np.nan)

    def begin(self) -> list[Tensor]:
        """The outputs, which are the same twice."""
        outputs = self.tensors_out([Tensor(a, requires_grad=True) for a in self.arrays])
        self.here = self.values(self.arrays)
        if not np.array_equal(self.here, self.values(self.arrays), equal_nan=True):
            self.fail("two calls of f with the same inputs differ: fix what is random or kept in it", cause="random")
        self.short = self.computes_in()
        if self.short:
            self.noise = max(self.noise, float(np.finfo(self.short).eps))
        return outputs

    def sweep(self, seeds: Sequence[Array]) -> None:
        """Cotangents of all outputs, whose gradients are now those that are looked at."""
        self.gradients = self.analytic(seeds)
        for i, (g, later) in enumerate(zip(self.gradients, self.analytic(seeds, called_between=True), strict=True)):
            if not np.array_equal(g, later, equal_nan=True):
                said = "changes if f is called once more before backward: is what a rule reads kept outside the call?"
                self.fail(f"the gradient of {self.name(i)} {said}", i, cause="stale")
        self.seed = as_one(seeds)

    def line(self, i: int, direction: Array) -> Line:
        """What is differenced: f along a direction of one input."""
        arrays = [a.astype(float) for a in self.arrays]
        return Line(self.defined, arrays, i, direction, self.seed, self.noise, self.here)

    def infinite(self, i: int, element: Element, kinks: bool = False) -> Estimate:
        """What differences give where the rules give NaN or infinity, which is wrong if they settle, or at kinks."""
        x, value = float(self.arrays[i][element]), float(self.gradients[i][element])
        line = self.line(i, unit(self.arrays[i], element))
        estimate = line.derivative(steps_at(x), 1e-9) if np.isfinite(x) else Estimate(np.nan)
        settled = estimate.finite and not estimate.sides and estimate.error <= 1e-4 * estimate.motion
        settled = settled and line.again(estimate).error <= 0.01 * estimate.motion
        if settled or (kinks and estimate.sides and np.isfinite(estimate.sides).all()):
            sides = [f"{slope:.4g}" for slope in estimate.sides or ()]
            given = f"{estimate.value:.10g}" if settled else f"slopes {' and '.join(sides)}"
            said = f"is {value} at element {element} = {x:.6g}, where the differences give {given}"
            message = f"the gradient of {self.name(i)} {said}: 0 / 0, inf - inf or 0 * inf in a rule?"
            self.fail(message, i, element, value, estimate.value, cause="not finite")
        return estimate

    def compare(
        self, i: int, direction: Array, steps: Sequence[float], analytic: float, tolerance: float
    ) -> Comparison:
        """What the rules say of one direction, beside what differences say, which is doubted before the rules are."""
        line = self.line(i, direction)
        estimate = line.derivative(steps, 0.1 * tolerance)
        if not estimate.finite:
            return Comparison(analytic, estimate, np.inf, "open")
        if estimate.sides:
            low, high = estimate.sides
            slack = 0.01 * (high - low) + tolerance if np.isfinite(high) else np.inf
            if not low - slack <= analytic <= high + slack:
                other = line.slope(AGAIN[1] * estimate.step, tolerance)
                if other.sides and not other.sides[0] - slack <= analytic <= other.sides[1] + slack:
                    return Comparison(analytic, estimate, slack, "wrong")
            return Comparison(analytic, estimate, slack, "kink")
        allowed = max(tolerance, MARGIN * estimate.error)
        if abs(analytic - estimate.value) > allowed:
            # It is called wrong only if differences with other steps agree, among themselves and on that, and if
            # much smaller steps do not tell of a faster oscillation, of which large ones see nothing.
            again, finer = line.again(estimate), line.slope(min(estimate.step / 10, 1e-3), tolerance)
            doubt = max(allowed, MARGIN * max(again.error, line.resolution(estimate.step)))
            apart = max(tolerance, MARGIN * finer.error)
            if finer.motion and not finer.sides and abs(analytic - finer.value) <= apart:
                estimate, allowed = finer, apart
            else:
                # In an oscillation that is too fast for a step the outputs move faster, the smaller the step.
                near = line.slope(1e-3 * estimate.step)
                steady = near.motion <= 10 * estimate.motion + 4 * line.resolution(near.step) or not near.finite
                refuted = estimate.resolved and steady and again.finite and abs(analytic - again.value) > doubt
                if refuted and not self.stands_still(line, steps[0], analytic, again.value):
                    if self.between_jumps(line, direction, estimate, analytic, tolerance):
                        return Comparison(analytic, replace(estimate, sides=(-np.inf, np.inf)), np.inf, "open")
                    return Comparison(analytic, estimate, allowed, "wrong")
                allowed = max(doubt, abs(analytic - estimate.value))
        if abs(analytic) <= line.dust and estimate.motion <= 16 * line.resolution(estimate.step):
            # Nothing moves, and what the rules give is rounding.
            return Comparison(analytic, estimate, allowed, "zero")
        return Comparison(analytic, estimate, allowed, "right" if np.isfinite(allowed) else "open")

    def stands_still(self, line: Line, step: float, analytic: float, numeric: float) -> bool:
        """Whether larger steps side with the rules: what is rounded within f moves in stairs, and not in between."""
        wide = [line.slope(share * max(30 * step, 0.3)) for share in AGAIN]
        off = max(abs(analytic - e.value) for e in wide)
        return off <= 0.3 * abs(analytic) < 0.5 * abs(analytic - numeric) and not all(e.sides for e in wide)

    def between_jumps(self, line: Line, direction: Array, wide: Estimate, analytic: float, tolerance: float) -> bool:
        """Whether on one stair of many the rules are right, and what larger steps saw is the slope of it all.

        A stair is wider than what float32 rounds to, of which one cannot tell that it is meant; and with many elements
        that move one of them is soon at its end.
        """
        near = line.slope(1e-4 * wide.step / np.count_nonzero(direction))
        apart = max(tolerance, MARGIN * near.error, line.resolution(near.step))
        return not near.sides and abs(analytic - near.value) <= apart < 0.5 * abs(analytic - wide.value)

    def reconsidered(self, i: int, direction: Array, c: Comparison) -> Comparison:
        """What is wrong on this line may lie between the slopes beside it, if they jump: it is a kink.

        Where three numbers are equal the median is constant along each of them, and yet its derivative is 0 or 1
        wherever no two are equal; and so it is with equal eigenvalues.
        """
        random, low, high, lost = np.random.default_rng(0), np.inf, -np.inf, 0.0
        arrays = [a.astype(float) for a in self.arrays]
        sizes = [np.where(np.abs(a) > 1e-290, np.abs(a), 1.0) for a in arrays]
        step = float(sizes[i][direction != 0].min())
        for place in range(PLACES):
            near = [a + 1e-7 * s * random.normal(size=s.shape) for a, s in zip(arrays, sizes, strict=True)]
            e = Line(self.defined, near, i, direction, self.seed, self.noise).slope(1e-9 * step)
            if e.finite and not e.sides and e.resolved:
                low, high, lost = min(low, e.value), max(high, e.value), max(lost, e.rounding)
            if lost < 0.003 * (high - low) and abs(c.analytic - (low + high) / 2) <= 0.6 * (high - low):
                return replace(c, estimate=replace(c.estimate, sides=(low, high)), verdict="kink")
            if place > 6 and high - low < 1e-3 * max(-low, high):
                break  # a slope that is not zero, and the same everywhere
        return c

    def computes_in(self) -> str:
        """What f computes in, given numbers with all digits of float64, if its results have fewer.

        Numbers of few digits may as well be whole, or fixed-point ones. These lie equally far from each other wherever
        they are; of a float type those of each binade have all its bits, and lie twice as far apart in the next one.
        """
        at = [a.astype(float) for a in self.arrays]  # of float32 f would compute in float32, and rightly
        moved = np.array([self.defined([a + h for a in at]) for h in (3e-4, 1e-3, 23e-4, 41e-4, 7e-3)])
        moved = moved[(moved != self.here) & np.isfinite(moved)]
        bits, binades = np.frexp(moved)
        for kind in (np.float16, np.float32):
            whole = {*binades[bits * 2.0 ** np.finfo(kind).nmant % 1 != 0].tolist()}
            fine = kind is np.float32 and (moved * 2**12 % 1).any()  # no fixed-point numbers are as fine as that
            if (moved == moved.astype(kind)).all() and (len(whole) > 1 or fine):
                return kind.__name__
        return ""
