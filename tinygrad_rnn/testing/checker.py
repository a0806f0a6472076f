"""`gradcheck`: is this gradient right? Analytic gradients against derivatives found without any rule.

After this file the reader knows how a gradient is tested so that neither a wrong one passes nor a right one is accused:
random cotangents (ones hide what cancels in a sum), every element of small inputs and random ±1 directions of large
ones (which give no element a small weight), one more direction in which nothing cancels; tolerances that follow from
the rounding of the very values that are differenced; a second look with other steps before anything is called wrong;
and *inconclusive* as an outcome that is not a pass. What a failure looks like is for `diagnosis` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import numpy as np

from ..tensor import Tensor
from .again import again
from .comparison import MOST_ELEMENTS, Comparison, Measured, Mode
from .diagnosis import diagnose
from .evidence import SAME, Evidence, same
from .oracles import EPS, STEPS, Array, Element, Estimate, steps_at, unit
from .outcome import GradcheckError, GradcheckResult, InconclusiveError, relative_error
from .subject import Subject, as_one, random_like
from .ways_out import WaysOut

__tracebackhide__ = True  # pytest shows the caller's line

DIRECTIONS = 4
REPORTED = 200
MOST_NUMBERS = 2**21
"""How many numbers of a Jacobian are computed to explain a failure."""


def gradcheck(
    f: Callable[..., Any],
    *inputs: Any,
    order: int = 1,
    mode: Mode = "auto",
    rtol: float | None = None,
    atol: float = 0.0,
    noise: float | None = None,
    rng: int | np.random.Generator = 0,
) -> GradcheckResult:
    """Check the gradient of f against differences, with a random cotangent.

    A derivative is *confirmed* to so many digits, *refuted* if several independent differences refute it, or else
    *inconclusive*. How precise differences can be follows from the rounding of the values of f and from the step.

    Parameters
    ----------
    f : callable
        From Tensors to a Tensor, or to a tuple, list or dict of Tensors.
    *inputs : array_like
        Where to check. Floats are differentiated, anything else is handed on.
    order : int
        2 checks the gradient of the gradient as well, in inputs and cotangents; and so on.
    mode : {"auto", "element", "direction"}
        ``element``: every element; ``direction``: four ±1 directions per input; ``auto``: elements up to 400 of them,
        else directions.
    rtol : float, optional
        By how much the gradient may differ: of an element relative to it, or in a sum relative to the sum of their
        sizes. Default: by 1e-6 and 1e-10 (in float32 1e-3 and 1e-5), or by four times what the differences themselves
        may be off, if that is more.
    atol : float
        The same, absolutely.
    noise : float, optional
        How exact the values of f are, relative to their size: 1e-9 if it is iterated until it moves by no more.
        Default: to the last bit.
    rng : int or Generator
        For cotangents and directions; the same number gives the same check.

    Returns
    -------
    GradcheckResult

    Raises
    ------
    GradcheckError
        If a derivative is wrong (with the likely cause, found by trying), a gradient has a wrong shape or dtype or is
        not finite, a cotangent of zero gives anything but zero, anything is changed in place, or f is random.
    InconclusiveError
        If nothing was found wrong, but something could not be confirmed to three digits.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.testing import gradcheck
    >>> gradcheck(lambda x, W: tg.tanh(x @ W), np.ones((2, 3)), np.full((3, 2), 0.1), order=2).compared
    28
    """
    if mode not in ("auto", "element", "direction"):
        raise ValueError(f"mode is 'auto', 'element' or 'direction', not {mode!r}")
    if order < 1:
        raise ValueError(f"order is 1, 2 or more, not {order!r}")
    generator = np.random.default_rng(rng)
    worst, compared, precision, function, at = 0.0, 0, 0.0, f, inputs
    try:
        with np.errstate(all="ignore"):  # what matters is what is returned
            for level in range(1, order + 1):
                check = Check(function, at, level, generator, mode, rtol, atol, noise)
                check.run()
                worst, compared = max(worst, check.worst), compared + check.compared
                precision = max(precision, check.precision)
                if level < order:
                    function, at = check.gradient_function(generator)
    except InconclusiveError as error:
        raise error.with_traceback(None) from error.__cause__
    except GradcheckError as error:
        options = {"order": order, "mode": mode, "rtol": rtol, "atol": atol, "noise": noise}
        given = {key: value for key, value in options.items() if value not in (1, "auto", None, 0.0)}
        error.again = partial(again, gradcheck, f, inputs, given, error)
        raise error.with_traceback(None) from error.__cause__
    return GradcheckResult(check.mode, order, compared, worst, precision if compared else np.inf)


def first(wanted: Array) -> Element:
    """The index of the first element that is true."""
    return tuple(map(int, np.argwhere(wanted)[0]))


class Check(Measured):
    """One order of one gradcheck: the function, where it is checked, and what was found."""

    def run(self) -> None:
        """Raise if anything is wrong, or else if anything could not be checked."""
        outputs = self.begin()
        for k in range(1 if self.elementwise else DIRECTIONS):
            self.sweep(random_like(self.generator, *outputs))
            for i, gradient in enumerate(self.gradients):
                if self.check_finite(i) and gradient.size:
                    self.check_input(i, gradient, sharp=k == 0 and not self.single)
        self.check_zero(outputs)
        if self.short:
            self.unsettled(0, None, np.nan, Estimate(np.nan), short=True)
        if self.inconclusive:
            raise self.inconclusive[0]

    def check_zero(self, outputs: Sequence[Tensor]) -> None:
        """The gradient for a cotangent of zero is zero, which shows what is too small for differences."""
        self.sweep([np.zeros(y.shape, y.dtype) for y in outputs])
        for i, g in enumerate(self.gradients):
            if self.check_finite(i) and g.any():
                element = first(g != 0)
                message = f"the gradient of {self.name(i)} for a cotangent of zero is not zero at element {element}"
                self.fail(message, i, element, float(g[element]), 0.0, cause="cotangent ignored")

    def check_input(self, i: int, gradient: Array, sharp: bool) -> None:
        """Compare the gradient of one input, and note how sharply that was possible."""
        summed = self.check_sum(i, gradient) if sharp else np.inf
        if self.elementwise:
            summed = min(summed, self.check_elements(i, gradient, list(np.ndindex(gradient.shape))))
        else:
            direction = self.generator.choice([-1.0, 1.0], gradient.shape) * self.scale(i)  # all have the same weight
            summed = min(summed, self.check_along(i, gradient, direction, "along a random ±1 direction"))
        if np.isfinite(summed):
            self.precision = max(self.precision, summed)

    def check_finite(self, i: int) -> bool:
        """NaN and infinity are wrong where differences settle; at the edge of a domain they may be right."""
        wrong = ~np.isfinite(self.gradients[i])
        if wrong.any():
            element = first(wrong)
            estimate = self.infinite(i, element, kinks=True)
            self.unsettled(i, element, float(self.gradients[i][element]), estimate)
        return not wrong.any()

    # One derivative

    def check_elements(self, i: int, gradient: Array, elements: Sequence[Element]) -> float:
        """Compare one input's gradient element by element; the share of its sizes that might be wrong unseen."""
        largest = float(np.abs(gradient).max(initial=0.0))
        found: list[Comparison] = []
        for element in elements:
            analytic = float(gradient[element])
            tolerance = self.atol + self.rtol * abs(analytic) + self.beside * largest
            steps = steps_at(float(self.arrays[i][element]))
            found.append(self.compare(i, unit(self.arrays[i], element), steps, analytic, tolerance))
        wrong = [k for k, c in enumerate(found) if c.verdict == "wrong"]
        right = [k for k, c in enumerate(found) if c.verdict in ("right", "zero")]
        self.compared += len(right) + len(wrong)
        for k in sorted(wrong, key=lambda k: -found[k].error / (found[k].allowed or EPS)):
            found[k] = self.reconsidered(i, unit(gradient, elements[k]), found[k])
            if found[k].verdict == "wrong":
                place = f"in {len(wrong)} of {len(right) + len(wrong)} checked elements; worst element {elements[k]}"
                self.wrong(i, place, elements, found[k], elements[k])
        largest = max([abs(found[k].estimate.value) for k in right], default=0.0)
        self.worst = max([self.worst, *(found[k].error / (largest or np.inf) for k in right)])
        for k, c in enumerate(found):
            size = max(abs(c.estimate.value), 1e-3 * largest)
            if c.verdict in ("kink", "open") or not self.confirmed(c, size):
                self.unsettled(i, elements[k], c.analytic, c.estimate)
                break
        shares = [c.allowed / abs(c.analytic) for c in found if c.verdict == "right" and c.analytic]
        return min(shares, default=EPS if right else np.inf)

    def confirmed(self, c: Comparison, size: float) -> bool:
        """Whether so little may differ that something is known beside the sizes, or of a zero beside how f moves."""
        known = c.allowed <= 2 * max(self.coarsest, self.rtol) * size + self.atol
        moves = c.estimate.motion
        if c.verdict == "zero":  # something beside other inputs, and usual in the gradient of a gradient
            largest = max(float(np.abs(g).max(initial=0.0)) for g in self.gradients)
            return abs(c.analytic) <= 1e-9 * largest
        return known or (not c.analytic and (c.allowed <= 1e-9 * moves or not moves))

    def check_sum(self, i: int, gradient: Array) -> float:
        """Compare the sum of one input's gradient, each element with its own sign.

        A factor of 1 + 1e-9 is invisible in single elements, and along random directions it shrinks as they cancel.
        """
        direction = np.where(gradient < 0, -1.0, 1.0) * self.scale(i)
        place = "in the sum of all elements, each with its own sign"
        return self.check_along(i, gradient, direction, place, needed=False)

    def scale(self, i: int) -> Array:
        """How far to move each element: as far as it is large, if it is."""
        return np.asarray(np.maximum(1.0, np.abs(self.arrays[i])), float)

    def check_along(self, i: int, gradient: Array, direction: Array, place: str, needed: bool = True) -> float:
        """Compare one input's gradient along a direction; the share of its size that might be wrong unseen."""
        analytic = float((gradient.astype(float) * direction).sum())
        total = float(np.abs(gradient * direction).astype(float).sum())
        c = self.compare(i, direction, STEPS, analytic, self.atol + self.along * total)
        if c.verdict == "wrong":
            # Which element? Looked for only now, because it takes many more differences.
            elements = self.suspects(i, gradient)
            self.check_elements(i, gradient, elements)
            c = self.reconsidered(i, direction, c)
            if c.verdict == "wrong":
                self.wrong(i, place, elements, c)
        if c.verdict in ("kink", "open") or not self.confirmed(c, total):
            if needed:  # else a kink between the elements, say, is no reason to doubt them
                self.unsettled(i, None, analytic, c.estimate)
            return np.inf
        if needed:
            self.compared += 1
            self.worst = max(self.worst, c.error / (total or np.inf))
        return c.allowed / total if total else EPS

    def suspects(self, i: int, gradient: Array) -> list[Element]:
        """All elements if they are few, else those among which halving finds the largest error, and random ones."""
        if gradient.size <= MOST_ELEMENTS:
            return list(np.ndindex(gradient.shape))
        most = int(np.clip(MOST_NUMBERS // max(self.seed.size, 1), 8, REPORTED))
        rest = np.arange(gradient.size)
        signs = self.generator.choice([-1.0, 1.0], gradient.size)

        def error(chosen: Array) -> float:
            direction = np.zeros(gradient.size)
            direction[chosen] = signs[chosen]
            line = self.line(i, direction.reshape(gradient.shape))
            return float(gradient.reshape(-1) @ direction) - line.derivative(STEPS, 0.0).value

        total = error(rest)
        while len(rest) > most // 2:
            halves = np.array_split(rest, 2)
            second = error(halves[1])  # errors add up, so that the first half has what is missing
            rest, total = (halves[1], second) if abs(second) > abs(total - second) else (halves[0], total - second)
        chosen = np.concatenate([rest[: most // 2], self.generator.permutation(gradient.size)])[:most]
        found = np.stack(np.unravel_index(np.unique(chosen), gradient.shape), axis=-1).tolist()
        return list(map(tuple, found))

    # What is said about it.

    def wrong(
        self, i: int, place: str, elements: Sequence[Element], c: Comparison, element: Element | None = None
    ) -> NoReturn:
        """Fail, with the likely cause."""
        numeric, sure = c.estimate.value, ""
        if c.estimate.sides:
            numeric = min(c.estimate.sides, key=lambda side: abs(side - c.analytic))
            cause, said = "kink", "at a kink any number between the slopes to its sides is right, and this one is not"
        else:
            cause, said = self.explained(i, elements, c.analytic / (numeric or np.inf), element)
            digits = int(-np.log10(max(c.allowed / abs(numeric or c.analytic), EPS)))
            sure = f" (confirmed to {digits} digits)" if digits else ""  # a wrong sign is seen with none
        message = (
            f"the gradient of {self.name(i)} is wrong {place}: analytic {c.analytic:.10g}, "
            f"numeric {numeric:.10g}{sure}, relative error {relative_error(c.analytic, numeric):.2e}; "
            f"likely cause: {said}"
        )
        if c.error <= 1e-6 * abs(numeric):
            message += "; if f is iterated to a tolerance, pass noise="
        self.fail(message, i, element, c.analytic, numeric, cause=cause)

    def explained(self, i: int, elements: Sequence[Element], ratio: float, element: Element | None) -> tuple[str, str]:
        """The likely cause, found from differences along all the elements: in a word, and in a sentence."""
        elements = list(elements)[: max(8, MOST_NUMBERS // max(self.seed.size, 1))]
        if element is not None and element not in elements:
            elements.append(element)
        evidence = Evidence(self, i, elements, self.seed, element, ratio)
        rounded = self.line(i, np.ones(self.arrays[i].shape)).resolution(1e-3)
        vague = float(np.clip(rounded / evidence.largest, SAME, 1e-2))
        evidence = replace(evidence, share=vague)
        out = WaysOut(self.f)
        frozen = Subject(out, self.inputs, 1)
        frozen.values(evidence.inputs)

        def explained_without(line: str) -> bool:
            out.free = line
            return same(evidence.analytic, replace(evidence, subject=frozen).numeric, vague)

        if out.lines and explained_without(""):
            # What may leave as well as not, such as a mask, is not to blame.
            guilty = [line for line in out.lines if not explained_without(line)] or out.lines
            return "detached", f"something left the graph here: {'; '.join(guilty[:3])}"
        fresh: list[Evidence] = []
        large = not same(evidence.numeric, evidence.analytic, 10 * SAME) or evidence.together
        for _ in range(2 * large):  # a smaller mistake is not seen again for sure
            with suppress(Exception):  # where f is not defined
                fresh.append(self.drawn_anew(evidence))
        return diagnose(evidence, fresh, self.rtol)

    def drawn_anew(self, evidence: Evidence) -> Evidence:
        """Evidence at random inputs, to confirm a cause: at 0, 1 and -1 a mistake looks like many others."""
        rng, near = self.generator, Subject(self.f, self.inputs, self.order)
        for k, a in enumerate(self.arrays):
            near.arrays[k] = np.asarray(a + 0.1 * self.scale(k) * rng.uniform(-1, 1, a.shape), a.dtype)
        outputs = self.tensors_out([Tensor(a) for a in near.arrays])
        if not all(np.isfinite(y.numpy()).all() for y in outputs):
            raise ValueError("not defined there")
        seed = as_one(random_like(rng, *outputs))
        found = replace(evidence, subject=near, cotangent=seed, ratio=1.0, fresh=True)
        found.analytic  # noqa: B018  # which raises where there is none
        return found

    def unsettled(
        self, i: int, element: Element | None, analytic: float, estimate: Estimate, short: bool = False
    ) -> None:
        """Keep what could not be checked: where, why, and what would settle it."""
        place = "along a random ±1 direction" if element is None else f"at element {element}"
        cause, remedy = "unsettled", "move the inputs away"
        if short:
            place, cause = f"beyond {np.finfo(self.short).precision + 1} digits", "not float64"
            why = f"f computes in {self.short}, whose rounding hides what differences look for"
            digits = int(-np.log10(max(self.precision, EPS)))
            remedy = f"as far as that lets one see it is right to {digits} digits; compute in float64"
        elif element is not None and not np.isfinite(self.arrays[i][element]):
            why, remedy = f"the input is {self.arrays[i][element]} there", "pass finite numbers"
        elif not estimate.finite:
            edge = "f is not finite here or nearby: the edge of its domain?"
            why = f"nearby f raises {self.raised}" if self.raised else edge
        elif estimate.sides:
            cause, why = "kink", "there is a kink" if np.isfinite(estimate.sides).all() else "there is a jump"
            if element is not None and np.count_nonzero(self.arrays[i] == self.arrays[i][element]) > 1:
                why += ", perhaps a tie: another element is equal to it"
        elif estimate.error <= 2 * estimate.rounding:
            given = f"{estimate.value:.2g} ± {estimate.error:.1g}"
            why = f"the values of f are rounded, so that the differences give {given}"
            remedy = "leave out what is large and constant in f, or move the inputs to where its slope is larger"
            remedy = f"f computes in {self.short}: compute in float64" if self.short else remedy
        else:
            why = f"the differences do not settle (error {estimate.error:.1e})"
            remedy = "move the inputs away, or pass noise= if f is iterated, or computed in few digits"
        message = f"inconclusive: the gradient of {self.name(i)} cannot be checked {place}: {why}; {remedy}"
        where = self.where[i]
        error = InconclusiveError(message, self.order, where, element, analytic, estimate.value, cause)
        self.inconclusive.append(error)
