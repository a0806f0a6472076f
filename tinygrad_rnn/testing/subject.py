"""What `gradcheck` looks at: a function of Tensors, where it is checked, and the gradients that the engine gives.

After this file the reader knows what is wrong with a gradient before any number is compared: a shape, an array
that is changed in place, a result that is no Tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

from ..autodiff import grad
from ..tensor import Tensor
from .oracles import Array
from .outcome import GradcheckError

__tracebackhide__ = True  # pytest shows the caller's line


def random_like(random: np.random.Generator, *outputs: Any) -> list[Array]:
    """Random cotangents or weights, one for each output: of both signs, none small, and no two the same."""
    found = [random.choice([-1.0, 1.0], y.shape) * random.uniform(0.5, 1.5, y.shape) for y in outputs]
    return [np.asarray(u, y.dtype) for u, y in zip(found, outputs, strict=True)]


def as_one(arrays: Sequence[Array]) -> Array:
    """All numbers as one vector."""
    return np.concatenate([np.zeros(0), *(a.reshape(-1) for a in arrays)]).astype(float)


def outputs_of(result: Any) -> list[Any]:
    """What a function returned, one after the other: what stands in tuples, lists and dicts."""
    if isinstance(result, (tuple, list, dict)):
        return [y for one in (result.values() if isinstance(result, dict) else result) for y in outputs_of(one)]
    return [result]


class Subject:
    """A function at some inputs.

    Parameters
    ----------
    f : callable
    inputs : sequence
        Floats are differentiated, anything else is handed on.
    order : int
        For reports: 2 if f itself is a gradient.
    """

    def __init__(self, f: Callable[..., Any], inputs: Sequence[Any], order: int) -> None:
        self.f, self.order = f, order
        self.inputs = [x.numpy() if isinstance(x, Tensor) else x for x in inputs]
        self.where = [i for i, x in enumerate(self.inputs) if np.asarray(x).dtype.kind == "f"]
        if not self.where:
            raise ValueError("nothing to check: no input consists of floats (1.0 is one, 1 is not)")
        self.arrays = [np.array(self.inputs[i]) for i in self.where]

    def call(self, values: Sequence[Any], **options: bool) -> list[Any]:
        """The outputs of f, whose float inputs are replaced by these."""
        arguments = list(self.inputs)
        for i, value in zip(self.where, values, strict=True):
            arguments[i] = value
        try:
            result = self.f(*arguments, **options)
        except ValueError as error:
            if "read-only" not in str(error):  # as NumPy says it
                raise
            said = f"f changes in place what it is given: {error}"
            raise GradcheckError(said, self.order, cause="mutation") from error
        return outputs_of(result)

    def tensors_out(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of f, which must be Tensors."""
        ys = self.call(values)
        for y in ys:
            if not isinstance(y, Tensor):
                remedy, kind = "compose it of functions of Tensors, or declare a `primitive`", type(y).__name__
                raise TypeError(f"f must return a Tensor, or a tuple, list or dict of Tensors, not {kind}: {remedy}")
        return ys

    def values(self, arrays: Sequence[Array]) -> Array:
        """All outputs as one vector, computed in float64."""
        xs = [Tensor(a.astype(float, copy=False), requires_grad=True) for a in arrays]
        # Of a gradient no graph is made, since its values are all that is needed: quicker, and a rule that differs
        # where a graph is made shows.
        outputs = self.call(xs, create_graph=False) if self.order > 1 else self.call(xs)
        return np.concatenate([np.zeros(0), *(y.numpy().reshape(-1) for y in outputs)])

    def analytic(self, seeds: Sequence[Array], called_between: bool = False) -> list[Array]:
        """The gradients that the engine computes for these cotangents, after everything but their values is checked."""
        xs = [Tensor(a, requires_grad=True) for a in self.arrays]
        ys = self.tensors_out(xs)
        for share in (0.9, -0.9) if called_between else ():  # of either sign, since what is kept may be a mask
            with suppress(Exception):  # there it need not be defined
                self.call([Tensor(share * a + 0.01, requires_grad=True) for a in self.arrays])
        before = [y.numpy().copy() for y in ys]
        totals = [np.zeros(a.shape, a.dtype) for a in self.arrays]
        for y, seed in zip(ys, seeds, strict=True):
            if not y.requires_grad:
                continue
            # The rules of f see the very cotangent that `beside` receives: were it changed in place, that would show.
            beside = Tensor(np.zeros_like(seed))
            *found, passed = self.swept(y + beside, [*xs, beside], seed)
            if not np.array_equal(passed.numpy(), seed):
                self.fail("a rule changes its cotangent in place", cause="mutation")
            for g, total in zip(found, totals, strict=True):
                total += g.numpy()
        if not all(np.array_equal(y.numpy(), b, equal_nan=True) for y, b in zip(ys, before, strict=True)):
            self.fail("a rule changes the result in place", cause="mutation")
        return totals

    def swept(self, y: Tensor, inputs: Sequence[Tensor], seed: Array) -> Any:
        """The gradients of one output; an impossible shape, or a write to what others hold, is the rule's fault."""
        try:
            return grad(y, inputs, seed, allow_unused=True)
        except ValueError as error:
            notes = getattr(error, "__notes__", [])
            written = "read-only" in str(error)
            shapes = any(word in str(error) for word in ("shape", "dimension", "axes", "axis"))
            if not (written or shapes) or not any(note.startswith("in the derivative") for note in notes):
                raise
            said = "a rule changes in place what it is given" if written else "a rule's shapes do not fit"
            cause = "mutation" if written else "shape"
            raise GradcheckError(f"{said}: {error}, {', '.join(notes)}", self.order, cause=cause) from error

    def gradient_function(self, generator: np.random.Generator) -> tuple[Callable[..., Any], tuple[Any, ...]]:
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

        return gradients, (*self.inputs, *random_like(generator, *self.call([Tensor(a) for a in self.arrays])))

    def name(self, i: int) -> str:
        """What a report calls an input."""
        return f"input {self.where[i]} (shape {self.arrays[i].shape})"

    def fail(self, message: str, i: int | None = None, *found: Any, cause: str) -> NoReturn:
        """Raise: this is wrong; found are the element, the analytic and the numeric derivative."""
        raise GradcheckError(message, self.order, None if i is None else self.where[i], *found, cause=cause)  # type: ignore[misc]
