"""`gradcheck`: is this gradient right? Analytic gradients against derivatives found without any rule.

After this file the reader knows how a gradient is tested so that a wrong one cannot pass: random cotangents (ones hide
what cancels in a sum), every element of small inputs and random ±1 directions of large ones (which give no element a
small weight), tolerances near the precision of the differences, and *inconclusive* as an outcome that is not a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np

from ..autodiff import grad
from ..tensor import Tensor
from .oracles import (
    Array,
    Estimate,
    complex_derivative,
    numeric_derivatives,
    numeric_directional,
    settled,
    unit,
)

Mode = Literal["auto", "element", "direction", "complex"]
Element = tuple[int, ...]

MOST_ELEMENTS = 400
"""Inputs with more elements than this in all are checked along directions."""
DIRECTIONS = 4
REPORTED = 200


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
    """

    def __init__(
        self,
        message: str,
        order: int = 1,
        input: int | None = None,
        element: Element | None = None,
        analytic: float = np.nan,
        numeric: float = np.nan,
    ) -> None:
        super().__init__(message if order == 1 else f"order {order}: {message}")
        self.order = order
        self.input = input
        self.element = element
        self.analytic = analytic
        self.numeric = numeric
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
    """

    mode: str
    order: int
    compared: int
    worst: float


def relative_error(analytic: float, numeric: float) -> float:
    """|a - n| / max(|a|, |n|), and 0 if both are 0."""
    return abs(analytic - numeric) / (max(abs(analytic), abs(numeric)) or 1.0)


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
        Where to check. Inputs of floats are differentiated, anything else is handed on as it is.
    order : int
        2 checks the gradient of the gradient as well, with respect to inputs and cotangents; and so on.
    mode : {"auto", "element", "direction", "complex"}
        ``element``: every element; ``direction``: four random ±1 directions per input; ``auto``: elements
        up to 400 of them, else directions; ``complex``: complex step instead of differences, for analytic f which also
        accepts bare arrays.
    rtol, atol : float, optional
        Accepted: ``|a - n| <= atol + rtol * (|n| + 1e-3 * max|n|)``, and in a direction
        ``atol + 1e-4 * rtol * sum|a|``. Defaults for float64: 1e-6 and 1e-9 (complex: 1e-10 and 1e-12); for float32,
        whose analytic gradient is compared with differences in float64: 1e-3 and 1e-4.
    rng : int or Generator
        For cotangents and directions; the same number gives the same check.

    Returns
    -------
    GradcheckResult

    Raises
    ------
    GradcheckError
        If a derivative is wrong; if a gradient has another shape or dtype than its input, or is not finite; if a
        cotangent of zero gives anything but zero; if f or a rule changes an operand or a cotangent in place; if f is
        random.
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
    if mode not in ("auto", "element", "direction", "complex"):
        raise ValueError(f"mode is 'auto', 'element', 'direction' or 'complex', not {mode!r}")
    if mode == "complex" and order != 1:
        raise ValueError("the complex step checks order 1 only: gradients are not computed with complex numbers")
    generator = np.random.default_rng(rng)
    worst, compared = 0.0, 0
    for level in range(1, order + 1):
        check = _Check(f, inputs, level, mode, rtol, atol, generator)
        check.run()
        worst, compared = max(worst, check.worst), compared + check.compared
        if level < order:
            f, inputs = check.gradient_function()
    return GradcheckResult(check.mode, order, compared, worst)


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
            raise ValueError("nothing to check: no input consists of floats")
        self.arrays = [np.array(self.inputs[i]) for i in self.where]
        small = sum(array.size for array in self.arrays) <= MOST_ELEMENTS
        self.elementwise = mode == "element" or (mode in ("auto", "complex") and small)
        self.mode = mode if mode != "auto" else "element" if small else "direction"
        single = any(array.dtype == np.float32 for array in self.arrays)
        default = (1e-3, 1e-4) if single else (1e-10, 1e-12) if mode == "complex" else (1e-6, 1e-9)
        self.rtol, self.atol = default[0] if rtol is None else rtol, default[1] if atol is None else atol
        self.worst, self.compared = 0.0, 0
        self.inconclusive: list[GradcheckError] = []

    # What is checked.

    def call(self, values: Sequence[Any]) -> list[Any]:
        """The outputs of f, whose float inputs are replaced by these."""
        arguments = list(self.inputs)
        for i, value in zip(self.where, values, strict=True):
            arguments[i] = value
        result = self.f(*arguments)
        return list(result) if isinstance(result, (tuple, list)) else [result]

    def values(self, arrays: Sequence[Array]) -> Array:
        """All outputs as one vector, computed in float64; by f on bare arrays for the complex step."""
        if self.mode == "complex":
            outputs = [np.asarray(y) for y in self.call(arrays)]
        else:
            outputs = [y.numpy() for y in self.call([Tensor(a.astype(float), requires_grad=True) for a in arrays])]
        return np.concatenate([np.zeros(0), *(y.reshape(-1) for y in outputs)])

    def analytic(self, seeds: Sequence[Array]) -> list[Array]:
        """The gradients that the engine computes for these cotangents, after everything but their values is checked."""
        xs = [Tensor(a, requires_grad=True) for a in self.arrays]
        ys = self.call(xs)
        if not all(isinstance(y, Tensor) for y in ys):
            raise TypeError("f must return a Tensor, or a tuple or list of Tensors")
        before = [y.numpy().copy() for y in ys]
        totals = [np.zeros(a.shape, a.dtype) for a in self.arrays]
        for y, seed in zip(ys, seeds, strict=True):
            if not y.requires_grad:
                continue
            # The rules of f see the very cotangent that `beside` receives: were it changed in place, that would show.
            beside = Tensor(np.zeros(y.shape, y.dtype), requires_grad=True)
            *found, passed = grad(y + beside, [*xs, beside], seed, allow_unused=True)
            if not np.array_equal(passed.numpy(), seed.astype(y.dtype)):
                self.fail("a rule changes its cotangent in place")
            for i, (g, total) in enumerate(zip(found, totals, strict=True)):
                self.check_form(i, g.numpy(), total)
                total += g.numpy()
        for i, (x, array) in enumerate(zip(xs, self.arrays, strict=True)):
            if not np.array_equal(x.numpy(), array, equal_nan=True):
                self.fail(f"{self.name(i)} is changed in place", i)
        if not all(np.array_equal(y.numpy(), b, equal_nan=True) for y, b in zip(ys, before, strict=True)):
            self.fail("a rule changes the result in place")
        return totals

    def check_form(self, i: int, g: Array, like: Array) -> None:
        """Shape, dtype and finiteness of the gradient of one input."""
        if g.shape != like.shape or g.dtype != like.dtype:
            self.fail(f"the gradient of {self.name(i)} is {g.dtype} of shape {g.shape}", i)
        if not np.isfinite(g).all():
            element = tuple(map(int, np.argwhere(~np.isfinite(g))[0]))
            value = float(g[element])
            self.fail(f"the gradient of {self.name(i)} is {value} at element {element}", i, element, value)

    def gradient_function(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """(inputs, cotangents) -> gradients, the function that the next order checks."""
        count = len(self.inputs)

        def gradients(*values: Any) -> list[Any]:
            xs = [values[i] for i in self.where]
            totals: list[Any] = [None] * len(xs)
            for y, u in zip(self.call(xs), values[count:], strict=True):
                if y.requires_grad:
                    found = grad(y, xs, u, create_graph=True, allow_unused=True)
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
        outputs = self.call([Tensor(a, requires_grad=True) for a in self.arrays])
        if not all(isinstance(y, Tensor) for y in outputs):
            raise TypeError("f must return a Tensor, or a tuple or list of Tensors")
        if not np.array_equal(self.values(self.arrays), self.values(self.arrays), equal_nan=True):
            self.fail("two calls of f with the same inputs differ")
        for i, g in enumerate(self.analytic([np.zeros(y.shape, y.dtype) for y in outputs])):
            if g.any():
                element = tuple(map(int, np.argwhere(g)[0]))
                message = f"the gradient of {self.name(i)} for a cotangent of zero is not zero at element {element}"
                self.fail(message, i, element, float(g[element]), 0.0)
        for _ in range(1 if self.elementwise else DIRECTIONS):
            seeds = self.seeds(outputs)
            gradients = self.analytic(seeds)
            seed = np.concatenate([np.zeros(0), *(s.reshape(-1) for s in seeds)]).astype(float)
            for i, gradient in enumerate(gradients):
                if self.elementwise:
                    self.check_elements(i, gradient, seed, list(product(*map(range, gradient.shape))))
                else:
                    self.check_direction(i, gradient, seed)
        if self.inconclusive:
            raise self.inconclusive[0]

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
            self.wrong(i, elements[k], float(analytic[k]), float(numeric[k]), int(wrong.sum()), int(good.sum()))
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
            # Which element? Looked for only now, because it takes as many differences as there are elements.
            chosen = self.generator.permutation(gradient.size)[:REPORTED]
            elements = np.stack(np.unravel_index(chosen, gradient.shape), axis=-1).tolist()
            self.check_elements(i, gradient, seed, list(map(tuple, elements)))
            self.wrong(i, None, analytic, estimate.value, 1, 1)
        self.worst = max(self.worst, abs(analytic - estimate.value) / (float(np.abs(gradient).sum()) or 1.0))

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
    ) -> None:
        raise GradcheckError(message, self.order, None if i is None else self.where[i], element, analytic, numeric)

    def wrong(self, i: int, element: Element | None, analytic: float, numeric: float, count: int, of: int) -> None:
        if element is None:
            place = "along a random ±1 direction"
        else:
            place = f"in {count} of {of} checked elements; worst element {element}"
        self.fail(
            f"the gradient of {self.name(i)} is wrong {place}: analytic {analytic:.10g}, numeric {numeric:.10g}, "
            f"relative error {relative_error(analytic, numeric):.2e}",
            i, element, analytic, numeric,
        )  # fmt: skip

    def unsettled(self, i: int, element: Element | None, analytic: float, estimate: Estimate) -> None:
        why = "there is a kink" if estimate.kink else f"the differences do not settle (error {estimate.error:.1e})"
        place = "along a random ±1 direction" if element is None else f"at element {element}"
        message = f"inconclusive: the gradient of {self.name(i)} cannot be checked {place}: {why}; move the inputs away"
        where = self.where[i]
        self.inconclusive.append(InconclusiveError(message, self.order, where, element, analytic, estimate.value))
