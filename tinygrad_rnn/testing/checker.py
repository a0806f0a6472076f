"""`gradcheck`: is this gradient right? Analytic gradients against derivatives found without any rule.

After this file the reader knows how a gradient is tested so that a wrong one cannot pass: random cotangents (ones hide
what cancels in a sum), every element of small inputs and random ±1 directions of large ones (which give no element a
small weight), one more direction in which nothing cancels, tolerances near the precision of the differences, and
*inconclusive* as an outcome that is not a pass. What a failure looks like is for `diagnosis` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Literal, NoReturn

import numpy as np

from ..autodiff import grad
from ..tensor import Tensor
from .diagnosis import Evidence, diagnose
from .oracles import (
    Array,
    Element,
    Estimate,
    complex_derivative,
    numeric_derivatives,
    numeric_directional,
    numeric_jacobian,
    repeated_directional,
    settled,
    unit,
)
from .outcome import GradcheckError, GradcheckResult, InconclusiveError, relative_error

Mode = Literal["auto", "element", "direction", "complex"]

MOST_ELEMENTS = 400
"""Inputs with more elements than this in all are checked along directions."""
DIRECTIONS = 4
REPORTED = 200
MOST_NUMBERS = 2**21
"""How many numbers of a Jacobian are computed to explain a failure."""

# Tolerances follow from errors measured on tanh, exp, log, softplus, logsumexp and an LSTM step, against 60 digits:
# two Richardson steps are off by up to 2e-9 of an element (log at 0.1), so 1e-6 leaves a wide margin, and nothing that
# differs by more is accepted. Along a direction rounding averages out and 3e-13 of sum|g| was the worst, so 1e-10 is
# accepted there; the complex step is off by 3e-13 of an element and 1e-16 of the sum.
TOLERANCES = {"differences": (1e-6, 1e-9), "complex": (1e-10, 1e-12), "float32": (1e-3, 1e-4)}
ALONG = 1e-4
"""How much finer a direction is compared than an element: relative to the sum of all elements."""
SHARP = 1e-10, 1e-12
"""What is accepted along the direction of the gradient's own signs, where an error of all elements cannot cancel."""


def gradcheck(
    f: Callable[..., Any],
    *inputs: Any,
    order: int = 1,
    mode: Mode = "auto",
    rtol: float | None = None,
    atol: float | None = None,
    rng: int | np.random.Generator = 0,
) -> GradcheckResult:
    """Check the gradient of f against differences, with a random cotangent.

    Parameters
    ----------
    f : callable
        From Tensors to a Tensor, or to a tuple or list of Tensors.
    *inputs : array_like
        Where to check. Floats are differentiated, anything else is handed on.
    order : int
        2 checks the gradient of the gradient as well, in inputs and cotangents; and so on.
    mode : {"auto", "element", "direction", "complex"}
        ``element``: every element; ``direction``: four ±1 directions per input; ``auto``: elements up to 400 of them,
        else directions; ``complex``: complex step, for analytic f which also accepts bare arrays.
    rtol, atol : float, optional
        Accepted: ``|a - n| <= atol + rtol * (|n| + 1e-3 * max|n|)``, and in a direction
        ``atol + 1e-4 * rtol * sum|a|``; by default as in `TOLERANCES`. Besides, the sum of all elements must be right
        to 1e-10 wherever differences are that precise, which shows a factor of 1 + 1e-9.
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
        If nothing was found wrong, but something could not be checked.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.testing import gradcheck
    >>> gradcheck(lambda x, W: tg.tanh(x @ W), np.ones((2, 3)), np.full((3, 2), 0.1), order=2).compared
    28
    """
    _require_mode(mode, order)
    generator = np.random.default_rng(rng)
    worst, compared, precision = 0.0, 0, 0.0
    with np.errstate(all="ignore"):  # what matters is what is returned
        for level in range(1, order + 1):
            check = _Check(f, inputs, level, mode, rtol, atol, generator)
            check.run()
            worst, compared = max(worst, check.worst), compared + check.compared
            precision = max(precision, check.precision)
            if level < order:
                f, inputs = check.gradient_function()
    return GradcheckResult(check.mode, order, compared, worst, precision)


def _require_mode(mode: str, order: int) -> None:
    if mode not in ("auto", "element", "direction", "complex"):
        raise ValueError(f"mode is 'auto', 'element', 'direction' or 'complex', not {mode!r}")
    if order < 1:
        raise ValueError(f"order is 1, 2 or more, not {order!r}")
    if mode == "complex" and order != 1:
        raise ValueError("the complex step checks order 1 only: gradients are not computed with complex numbers")


class _Check:
    """One order of one gradcheck: the function, where it is checked, and what was found."""

    def __init__(
        self,
        f: Callable[..., Any],
        inputs: Sequence[Any],
        order: int,
        mode: Mode,
        rtol: float | None,
        atol: float | None,
        generator: np.random.Generator,
    ) -> None:
        self.f, self.order, self.generator = f, order, generator
        self.inputs = [x.numpy() if isinstance(x, Tensor) else x for x in inputs]
        self.where = [i for i, x in enumerate(self.inputs) if np.asarray(x).dtype.kind == "f"]
        if not self.where:
            raise ValueError("nothing to check: no input consists of floats (1.0 is one, 1 is not)")
        self.arrays = [np.array(self.inputs[i]) for i in self.where]
        small = sum(array.size for array in self.arrays) <= MOST_ELEMENTS
        self.elementwise = mode == "element" or (mode in ("auto", "complex") and small)
        self.mode = mode if mode != "auto" else "element" if small else "direction"
        self.single = any(array.dtype == np.float32 for array in self.arrays)
        default = TOLERANCES["float32" if self.single else "complex" if mode == "complex" else "differences"]
        self.rtol, self.atol = default[0] if rtol is None else rtol, default[1] if atol is None else atol
        self.worst, self.compared, self.precision = 0.0, 0, 0.0
        self.gradients: list[Array] = []
        self.inconclusive: list[GradcheckError] = []

    # What is checked.

    def call(self, values: Sequence[Any], **options: bool) -> list[Any]:
        """The outputs of f, whose float inputs are replaced by these."""
        arguments = list(self.inputs)
        for i, value in zip(self.where, values, strict=True):
            arguments[i] = value
        result = self.f(*arguments, **options)
        return list(result) if isinstance(result, (tuple, list)) else [result]

    def tensors_out(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of f, which must be Tensors."""
        ys = self.call(values)
        for y in ys:
            if not isinstance(y, Tensor):
                remedy = "compose it of functions of Tensors, or declare a `primitive`"
                raise TypeError(
                    f"f must return a Tensor, or a tuple or list of Tensors, not {type(y).__name__}: {remedy}"
                )
        return ys

    def values(self, arrays: Sequence[Array]) -> Array:
        """All outputs as one vector, computed in float64; by f on bare arrays for the complex step."""
        if self.mode == "complex":
            outputs = [np.asarray(y) for y in self.call(arrays)]
        else:
            xs = [Tensor(a.astype(float, copy=False), requires_grad=True) for a in arrays]
            # Of a gradient no graph is made, since its values are all that is needed: quicker, and a rule that differs
            # where a graph is made shows.
            outputs = [y.numpy() for y in (self.call(xs, create_graph=False) if self.order > 1 else self.call(xs))]
        return np.concatenate([np.zeros(0), *(y.reshape(-1) for y in outputs)])

    def analytic(self, seeds: Sequence[Array]) -> list[Array]:
        """The gradients that the engine computes for these cotangents, after everything but their values is checked."""
        xs = [Tensor(a, requires_grad=True) for a in self.arrays]
        ys = self.tensors_out(xs)
        before = [y.numpy().copy() for y in ys]
        totals = [np.zeros(a.shape, a.dtype) for a in self.arrays]
        for y, seed in zip(ys, seeds, strict=True):
            if not y.requires_grad:
                continue
            # The rules of f see the very cotangent that `beside` receives: were it changed in place, that would show.
            beside = Tensor(np.zeros(y.shape, y.dtype), requires_grad=True)
            *found, passed = self.swept(y + beside, [*xs, beside], seed)
            if not np.array_equal(passed.numpy(), seed.astype(y.dtype)):
                self.fail("a rule changes its cotangent in place", cause="mutation")
            for i, (g, total) in enumerate(zip(found, totals, strict=True)):
                if g.shape != total.shape or g.dtype != total.dtype:
                    self.fail(f"the gradient of {self.name(i)} is {g.dtype} of shape {g.shape}", i, cause="shape")
                total += g.numpy()
        for i, (x, array) in enumerate(zip(xs, self.arrays, strict=True)):
            if not np.array_equal(x.numpy(), array, equal_nan=True):
                self.fail(f"{self.name(i)} is changed in place", i, cause="mutation")
        if not all(np.array_equal(y.numpy(), b, equal_nan=True) for y, b in zip(ys, before, strict=True)):
            self.fail("a rule changes the result in place", cause="mutation")
        return totals

    def swept(self, y: Tensor, inputs: Sequence[Tensor], seed: Array) -> Any:
        """The gradients of one output; an array that a rule returns in an impossible shape is the rule's fault."""
        try:
            return grad(y, inputs, seed, allow_unused=True)
        except ValueError as error:
            notes = getattr(error, "__notes__", [])
            if not any(note.startswith("in the derivative") for note in notes):
                raise
            message = f"a rule's shapes do not fit: {error}, {', '.join(notes)}"
            raise GradcheckError(message, self.order, cause="shape") from error

    def check_finite(self, i: int, g: Array, seed: Array) -> None:
        """NaN and infinity are wrong; whether the rule's fault or the function's, the differences say."""
        if np.isfinite(g).all():
            return
        element = tuple(map(int, np.argwhere(~np.isfinite(g))[0]))
        value = float(g[element])
        message = f"the gradient of {self.name(i)} is {value} at element {element}"
        if not np.isfinite(x := float(self.arrays[i][element])):
            self.fail(f"{message}, and so is the input: {x}", i, element, value, cause="not finite")
        (estimate,) = self.estimates(i, seed, [element])
        if settled(estimate, 0.1 * self.rtol, 0.1 * self.atol):
            message += f", where the differences give {estimate.value:.10g}: 0 / 0, inf - inf or 0 * inf in a rule?"
            self.fail(message, i, element, value, estimate.value, "not finite")
        message += ", where the differences do not settle either: the edge of the domain?"
        self.fail(message, i, element, value, cause="not finite")

    def gradient_function(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """(inputs, cotangents) -> gradients, the function that the next order checks."""
        count = len(self.inputs)

        def gradients(*values: Any, create_graph: bool = True) -> list[Any]:
            xs = [values[i] for i in self.where]
            totals: list[Any] = [None] * len(xs)
            for y, u in zip(self.call(xs), values[count:], strict=True):
                if y.requires_grad:
                    found = grad(y, xs, u, create_graph=create_graph, allow_unused=True)
                    totals = [g if total is None else total + g for g, total in zip(found, totals, strict=True)]
            return [Tensor(np.zeros(x.shape, x.dtype)) if g is None else g for g, x in zip(totals, xs, strict=True)]

        return gradients, (*self.inputs, *self.seeds(self.call([Tensor(a) for a in self.arrays])))

    # How it is checked.

    def seeds(self, outputs: Sequence[Any]) -> list[Array]:
        """Random cotangents: no weight is small, and no two are the same."""
        random = self.generator
        cotangents = [random.choice([-1.0, 1.0], y.shape) * random.uniform(0.5, 1.5, y.shape) for y in outputs]
        return [np.asarray(u, y.dtype) for u, y in zip(cotangents, outputs, strict=True)]

    def run(self) -> None:
        """Raise if anything is wrong, or else if anything could not be checked."""
        outputs = self.tensors_out([Tensor(a, requires_grad=True) for a in self.arrays])
        if not np.array_equal(self.values(self.arrays), self.values(self.arrays), equal_nan=True):
            self.fail("two calls of f with the same inputs differ: fix what is random in it", cause="random")
        at_zero = self.analytic([np.zeros(y.shape, y.dtype) for y in outputs])
        for i, g in enumerate(at_zero):
            if g.any() and np.isfinite(g).all():
                element = tuple(map(int, np.argwhere(g)[0]))
                message = f"the gradient of {self.name(i)} for a cotangent of zero is not zero at element {element}"
                self.fail(message, i, element, float(g[element]), 0.0, "cotangent ignored")
        for k in range(1 if self.elementwise else DIRECTIONS):
            seeds = self.seeds(outputs)
            gradients = self.gradients = self.analytic(seeds)
            seed = np.concatenate([np.zeros(0), *(s.reshape(-1) for s in seeds)]).astype(float)
            sharp = k == 0 and self.mode != "complex" and not self.single
            for i, gradient in enumerate(gradients):
                if k == 0 and self.mode == "complex":
                    self.require_analytic(i, seed)
                self.check_finite(i, gradient, seed)
                self.check_finite(i, at_zero[i], 0 * seed)
                summed = sharp and self.check_sum(i, gradient, seed)
                if self.elementwise:
                    self.check_elements(i, gradient, seed, list(product(*map(range, gradient.shape))))
                elif summed:
                    self.compared += 1
                else:
                    self.check_direction(i, gradient, seed)
        if self.inconclusive:
            raise self.inconclusive[0]

    def require_analytic(self, i: int, seed: Array) -> None:
        """Of abs(x) or x * abs(x) the complex step gives another number, without a word: differences must agree."""
        direction = self.generator.choice([-1.0, 1.0], self.arrays[i].shape)
        try:
            step = complex_derivative(self.values, self.arrays, seed, i, direction)
        except TypeError as error:
            step, why = Estimate(np.nan), f"f takes no complex numbers ({error})"
        else:
            why = "f is not analytic: what it gives for complex numbers is not complex, or not its derivative"
        differences = numeric_directional(self.values, self.arrays, seed, i, direction, 1e-9)
        slack = 1e-6 * abs(differences.value) + 1e-8 + 10 * differences.error
        if not np.isfinite(step.value) or (not differences.kink and abs(step.value - differences.value) > slack):
            message = f"inconclusive: the complex step says nothing about {self.name(i)}: {why}; use mode='auto'"
            where = self.where[i]
            raise InconclusiveError(message, self.order, where, None, np.nan, step.value, "unsettled")

    def estimates(self, i: int, seed: Array, elements: Sequence[Element]) -> list[Estimate]:
        """Numeric derivatives at some elements of one input."""
        arrays = [a.astype(float) for a in self.arrays]
        if self.mode == "complex":
            return [complex_derivative(self.values, arrays, seed, i, unit(arrays[i], e)) for e in elements]
        return numeric_derivatives(self.values, arrays, seed, i, elements, self.rtol, self.atol)

    def check_elements(self, i: int, gradient: Array, seed: Array, elements: Sequence[Element]) -> None:
        """Compare one input's gradient element by element."""
        estimates = self.estimates(i, seed, elements)
        analytic = np.array([gradient[e] for e in elements], float)
        good = np.array([settled(e, 0.1 * self.rtol, 0.1 * self.atol) for e in estimates], bool)
        numeric = np.where(good, [e.value for e in estimates], analytic)
        largest = float(np.abs(numeric).max(initial=0.0))
        error = np.abs(analytic - numeric)
        excess = error - (self.atol + self.rtol * (np.abs(numeric) + 1e-3 * largest))
        self.compared += int(good.sum())
        if (wrong := excess > 0).any():
            k = int(excess.argmax())
            place = f"in {wrong.sum()} of {good.sum()} checked elements; worst element {elements[k]}"
            self.wrong(i, place, elements, seed, float(analytic[k]), float(numeric[k]), elements[k])
        self.worst = max(self.worst, float(error.max(initial=0.0)) / (largest or 1.0))
        for k in np.flatnonzero(~good)[:1]:
            self.unsettled(i, elements[k], float(analytic[k]), estimates[k])

    def check_direction(self, i: int, gradient: Array, seed: Array) -> None:
        """Compare one input's gradient along a random ±1 direction, in which every element has the same weight."""
        if not gradient.size:
            return
        direction = self.generator.choice([-1.0, 1.0], gradient.shape)
        analytic = float((gradient.astype(float) * direction).sum())
        tolerance = self.atol + 1e-4 * self.rtol * float(np.abs(gradient).astype(float).sum())
        arrays = [a.astype(float) for a in self.arrays]
        if self.mode == "complex":
            estimate = complex_derivative(self.values, arrays, seed, i, direction)
        else:
            estimate = numeric_directional(self.values, arrays, seed, i, direction, tolerance)
        if not settled(estimate, 0.0, tolerance):
            self.unsettled(i, None, analytic, estimate)
            return
        self.compared += 1
        if not abs(analytic - estimate.value) <= tolerance:
            # Which element? Looked for only now, because it takes many more differences.
            elements = self.suspects(i, gradient, seed)
            self.check_elements(i, gradient, seed, elements)
            self.wrong(i, "along a random ±1 direction", elements, seed, analytic, estimate.value)
        self.worst = max(self.worst, abs(analytic - estimate.value) / (float(np.abs(gradient).sum()) or 1.0))

    def check_sum(self, i: int, gradient: Array, seed: Array) -> bool:
        """Compare the sum of one input's gradient, each element with its own sign; false if nothing could be compared.

        A factor of 1 + 1e-9 is invisible in single elements, and along random directions it shrinks as they cancel.
        """
        total = float(np.abs(gradient).sum())
        if not total:
            return False
        signs = np.where(gradient < 0, -1.0, 1.0)
        tolerance = SHARP[0] * total + SHARP[1]
        estimate = numeric_directional(self.values, self.arrays, seed, i, signs, tolerance)
        if not settled(estimate, 0.0, tolerance):  # a kink between the elements, say: no reason to doubt them
            self.precision = max(self.precision, self.rtol)
            return False
        self.precision = max(self.precision, tolerance / total)
        if abs(total - estimate.value) <= tolerance:
            return True
        # An error this small is believed only if other steps show it too, and clearly.
        value, spread = repeated_directional(self.values, self.arrays, seed, i, signs)
        if abs(total - value) > max(tolerance, 4 * spread):
            elements = self.suspects(i, gradient, seed)
            self.check_elements(i, gradient, seed, elements)
            self.wrong(i, "in the sum of all elements, each with its own sign", elements, seed, total, value)
        return False

    def suspects(self, i: int, gradient: Array, seed: Array) -> list[Element]:
        """All elements if they are few, else those among which halving finds the largest error, and random ones."""
        if gradient.size <= MOST_ELEMENTS:
            return list(product(*map(range, gradient.shape)))
        most = int(np.clip(MOST_NUMBERS // max(seed.size, 1), 8, REPORTED))
        rest = np.arange(gradient.size)
        signs = self.generator.choice([-1.0, 1.0], gradient.size)

        def error(chosen: Array) -> float:
            direction = np.zeros(gradient.size)
            direction[chosen] = signs[chosen]
            found = numeric_directional(self.values, self.arrays, seed, i, direction.reshape(gradient.shape), self.atol)
            return float(gradient.reshape(-1) @ direction) - found.value

        if self.mode != "complex":
            total = error(rest)
            while len(rest) > most // 2:
                halves = np.array_split(rest, 2)
                second = error(halves[1])  # errors add up, so that the first half has what is missing
                rest, total = (halves[1], second) if abs(second) > abs(total - second) else (halves[0], total - second)
        chosen = np.concatenate([rest[: most // 2], self.generator.permutation(gradient.size)])[:most]
        found = np.stack(np.unravel_index(np.unique(chosen), gradient.shape), axis=-1).tolist()
        return list(map(tuple, found))

    # What is said about it.

    def name(self, i: int) -> str:
        return f"input {self.where[i]} (shape {self.arrays[i].shape})"

    def fail(
        self,
        message: str,
        i: int | None = None,
        element: Element | None = None,
        analytic: float = np.nan,
        numeric: float = np.nan,
        cause: str = "unknown",
    ) -> NoReturn:
        which = None if i is None else self.where[i]
        raise GradcheckError(message, self.order, which, element, analytic, numeric, cause)

    def wrong(
        self,
        i: int,
        place: str,
        elements: Sequence[Element],
        seed: Array,
        analytic: float,
        numeric: float,
        element: Element | None = None,
    ) -> NoReturn:
        """Fail, with the likely cause."""
        cause, said = self.explained(i, elements, seed, analytic, numeric, element)
        message = (
            f"the gradient of {self.name(i)} is wrong {place}: analytic {analytic:.10g}, numeric {numeric:.10g}, "
            f"relative error {relative_error(analytic, numeric):.2e}; likely cause: {said}"
        )
        self.fail(message, i, element, analytic, numeric, cause)

    def explained(
        self,
        i: int,
        elements: Sequence[Element],
        seed: Array,
        analytic: float,
        numeric: float,
        element: Element | None,
    ) -> tuple[str, str]:
        """The likely cause, found from differences along all the elements: in a word, and in a sentence."""
        if self.in_float32():
            return "not float64", "f computes in float32 inside, whose rounding hides what differences look for"
        elements = list(elements)[: max(8, MOST_NUMBERS // max(seed.size, 1))]
        if element is not None and element not in elements:
            elements.append(element)
        outputs = [y.numpy() for y in self.call([Tensor(a) for a in self.arrays])]
        arrays = [a.astype(float) for a in self.arrays]
        values = _Check(self.f, self.inputs, 1, "element", None, None, self.generator).values

        def jacobian(which: int) -> Array:
            return numeric_jacobian(values, arrays, which, elements)

        evidence = Evidence(
            i, self.where, elements, self.gradients, arrays, outputs, seed, jacobian, element, analytic / (numeric or 1)
        )
        return diagnose(evidence, self.rtol, self.atol)

    def unsettled(self, i: int, element: Element | None, analytic: float, estimate: Estimate) -> None:
        place = "along a random ±1 direction" if element is None else f"at element {element}"
        cause, why = "kink" if estimate.kink else "unsettled", "there is a kink"
        if self.in_float32():
            cause, why = "not float64", "f computes in float32, whose rounding hides what differences look for"
        elif not np.isfinite([estimate.value, estimate.error]).all():
            why = "f is not finite here or nearby: the edge of its domain?"
        elif not estimate.kink:
            why = f"the differences do not settle (error {estimate.error:.1e})"
        elif element is not None and np.count_nonzero(self.arrays[i] == self.arrays[i][element]) > 1:
            why += ", perhaps a tie: another element is equal to it"
        remedy = "compute in float64" if cause == "not float64" else "move the inputs away"
        message = f"inconclusive: the gradient of {self.name(i)} cannot be checked {place}: {why}; {remedy}"
        where = self.where[i]
        error = InconclusiveError(message, self.order, where, element, analytic, estimate.value, cause)
        self.inconclusive.append(error)

    def in_float32(self) -> bool:
        """Whether f, given float64, has results with no more digits than float32 has."""
        with np.errstate(all="ignore"):
            values = self.values(self.arrays)
        rounded = bool((values == values.astype(np.float32)).all()) if values.dtype.kind == "f" else False
        return rounded and not (values * 2**12 == np.round(values * 2**12)).all()  # 0.5 is short, not rounded
