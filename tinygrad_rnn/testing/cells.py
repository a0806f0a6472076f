"""`check_cell`: the whole battery on one recurrent cell, ours or yours, in one line.

After this file the reader knows what must hold for any cell that `unroll` can repeat: a state goes in and one of the
same form comes out, examples of a batch do not see each other, T steps are T calls, and every gradient is right: that
of each parameter, of the inputs, and of the first state.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..autodiff import history
from ..nn import unroll
from ..nn.module import refuse_twice
from ..nn.state import parts_of, state_of
from ..tensor import Tensor
from . import battery
from .battery import Report, gradients, require, require_close, tensors
from .oracles import Array
from .outcome import GradcheckError, InconclusiveError
from .subject import random_like

__tracebackhide__ = True  # pytest shows the caller's line

MOST_INPUTS = 64


def check_cell(
    cell: Any,
    *,
    input_size: int | None = None,
    batch: int = 3,
    steps: int = 3,
    order: int = 2,
    rtol: float | None = None,
    noise: float | None = None,
    skip: Collection[str] = (),
    rng: int = 0,
) -> Report:
    """Run the whole battery on a recurrent cell.

    Form of states and parameters, unrolling as composition, independence of the examples of a batch, gradients of
    parameters, inputs and states against differences through time, contributions along edges, and float32. The cell
    is left as it was.

    Parameters
    ----------
    cell : callable ``cell(x, state) -> state`` with ``parameters()`` and ``initial_state(batch)``
        Its parameters must be found in its attributes, also inside lists, dicts and other objects.
    input_size : int, optional
        Default: the cell's ``input_size``, or the first size that it accepts.
    batch, steps : int
        Size of the batch, and length of the sequence.
    order : int
        Highest order of derivatives.
    rtol, noise : float, optional
        By how much numbers may differ, and how exact a step is, as in `check_primitive`.
    skip : collection of str
        Checks to leave out, by the names that the report uses; ``("batch",)`` for a cell that mixes its examples on
        purpose.
    rng : int
        The same number gives the same check.

    Returns
    -------
    Report

    Raises
    ------
    CheckError
        With a report of what failed.
    ValueError
        If the cell accepts no input, or its parameters are nowhere to be found in it.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.testing import check_cell
    >>> print(check_cell(tg.RNNCell(2, 3, rng=0)))
    RNNCell(2, 3): ok, 7 checks on 1 example, 104 derivatives compared
    """
    subject = _Subject(cell, input_size, batch, steps, rng, rtol, noise)
    example = f"batch {batch}, {steps} steps, input size {subject.points[subject.count].shape[-1]}"
    return battery.run_all(subject.name, subject.checks(order), [example], skip)


class _Subject:
    """A cell, and what it is checked on: a function of first states, inputs and parameters."""

    def __init__(
        self, cell: Any, input_size: int | None, batch: int, steps: int, rng: int,
        rtol: float | None, noise: float | None,
    ) -> None:  # fmt: skip
        self.cell, self.batch, self.steps, self.rng, self.rtol, self.noise = cell, batch, steps, rng, rtol, noise
        said = repr(cell)
        self.name = type(cell).__name__ if said.startswith("<") else said
        parameters = cell.parameters()
        if not isinstance(parameters, Mapping):
            kind = type(parameters).__name__
            raise ValueError(f"{self.name}: parameters() gives a dict of name to Tensor, not a {kind}")
        self.parameters: dict[str, Any] = dict(parameters)
        refuse_twice(self.parameters.items())
        self.state = cell.initial_state(batch)
        first = parts_of(self.state)
        self.dtype, self.count = first[0].dtype, len(first)
        generator = self.generator()
        inputs = generator.normal(size=(steps, batch, self.input_size(input_size)))
        # Not the initial state, which is zero as a rule: a wrong gradient times zero cannot be seen. States come
        # first: of a fault in the recurrence their gradients tell most.
        start = [generator.normal(size=s.shape) / 2 for s in first]
        self.points = [*start, inputs, *(p.numpy().astype(float) for p in self.parameters.values())]
        values = tensors(self.points)[self.count + 1 :]
        found = self.with_parameters(values).parameters()
        if lost := [name for name, v in zip(self.parameters, values, strict=True) if found[name] is not v]:
            raise ValueError(f"{self.name}: parameters() has {', '.join(lost)}, but no attribute of the cell does")

    def generator(self) -> np.random.Generator:
        """Not of `rng` alone: a cell made with the same number would have the same values, and ties by accident."""
        return np.random.default_rng([self.rng, len("check_cell")])

    def input_size(self, given: int | None) -> int:
        """How many inputs the cell takes: as it says, or else as it accepts."""
        known = given or getattr(self.cell, "input_size", None)
        if isinstance(known, int):
            return known
        for size in range(1, MOST_INPUTS + 1):
            try:
                self.cell(Tensor(np.ones((self.batch, size), self.dtype)), self.state)
            except (ValueError, IndexError):
                continue
            return size
        raise ValueError(f"{self.name}: no input of 1 to {MOST_INPUTS} numbers is accepted: pass input_size=")

    def with_parameters(self, values: Sequence[Tensor]) -> Any:
        """A copy of the cell, with other tensors wherever its parameters were."""
        return copy.deepcopy(self.cell, {id(p): v for p, v in zip(self.parameters.values(), values, strict=True)})

    def __call__(self, *values: Tensor) -> list[Tensor]:
        """All outputs of a sequence, and the tensors of the last state."""
        state, inputs, parameters = values[: self.count], values[self.count], values[self.count + 1 :]
        outputs, last = unroll(self.with_parameters(parameters), inputs, state_of(state, self.state))
        return [outputs, *parts_of(last)]

    def close(self, actual: Array, expected: Array, what: str, tolerance: float = battery.ROUNDING) -> None:
        """Equal up to the tolerance, or what the cell is known to be off by."""
        require_close(actual, expected, max(tolerance, self.rtol or 0.0, 10 * (self.noise or 0.0)), what)

    # The checks

    def checks(self, order: int) -> dict[str, Callable[[], int | None]]:
        """The battery, in its order."""
        return {
            "form": self.form,
            "unrolling": self.unrolling,
            "batch": self.batches,
            "first order": partial(self.gradients, 1),
            **{f"order {k}": partial(self.gradients, k) for k in range(2, order + 1)},
            "contributions": partial(battery.contributions, self, self.generator()),
            "float32": partial(battery.float32, self, self.generator()),
        }

    def form(self) -> None:
        """States keep their form, calls repeat, and the parameters are all that is learned, each of which matters."""
        x = Tensor(self.points[self.count][0].astype(self.dtype))
        first, *again = [self.cell(x, self.state) for _ in range(4)]  # a mask of few bits may well be drawn twice
        before, after = parts_of(self.state), parts_of(first)
        require(len(before) == len(after), "the state that comes out has another form than the initial one: "
                f"{len(after)} tensors for {len(before)}")  # fmt: skip
        for old, new, *same in zip(before, after, *map(parts_of, again), strict=True):
            require(isinstance(new, Tensor), f"a state is a {type(new).__name__}, not a Tensor")
            require(old.shape == new.shape, f"a state of shape {old.shape} becomes one of shape {new.shape}")
            require(old.dtype == new.dtype, f"a state of {old.dtype} becomes one of {new.dtype}")
            repeated = all(np.array_equal(new.numpy(), other.numpy()) for other in same)
            require(repeated, "two calls with the same input and state differ: is there a random number in the cell, "
                    "or does it remember something beside the state?")  # fmt: skip
        for batch in (self.batch, self.batch + 1):  # of one batch alone, any axis of that size might be the batch
            for old in parts_of(self.cell.initial_state(batch)):
                require(old.shape[:1] == (batch,), f"a state of shape {old.shape} for a batch of {batch}: "
                        "the batch is the first axis")  # fmt: skip
        for name, p in self.parameters.items():
            require(isinstance(p, Tensor) and p.requires_grad, f"parameter {name} needs no gradient")
        values = tensors(self.points)
        outputs = self(*values)
        known = {id(v) for v in values}
        strange = [node for node in history(outputs) if node.is_leaf and id(node) not in known]
        said = ", ".join(node.name or f"a tensor of shape {node.shape}" for node in strange)
        require(not strange, f"something that needs a gradient is used but is not in parameters(): {said}")
        loss = battery.weighted(outputs, random_like(np.random.default_rng(self.rng), *outputs))
        for name, g in zip(self.parameters, gradients(loss, values[self.count + 1 :]), strict=True):
            require(g.any(), f"parameter {name} has no influence: its gradient is zero "
                    "(is it not used, or only through .detach() or .numpy()?)")  # fmt: skip

    def unrolling(self) -> None:
        """T steps are k steps and then T - k more."""
        *state, inputs, parameters = self.parts()
        outputs, *last = self(*state, inputs, *parameters)
        middle = max(1, self.steps // 2)
        first, *between = self(*state, inputs[:middle], *parameters)
        second, *after = self(*between, inputs[middle:], *parameters) if middle < self.steps else (first[:0], *between)
        joined = np.concatenate([first.numpy(), second.numpy()])
        self.close(joined, outputs.numpy(), "outputs of a sequence in one and in two parts")
        for a, b in zip(after, last, strict=True):
            self.close(a.numpy(), b.numpy(), "the last state after a sequence in one and in two parts")

    def batches(self) -> None:
        """Examples of a batch do not see each other."""
        *state, inputs, parameters = self.parts()
        outputs = self(*state, inputs, *parameters)[0].numpy()
        for b in range(self.batch):
            rows = slice(b, b + 1)
            alone = self(*(s[rows] for s in state), inputs[:, rows], *parameters)[0].numpy()
            what = f"outputs of example {b} alone and in a batch (if they are meant to, pass skip=('batch',))"
            self.close(alone, outputs[:, rows], what)

    def parts(self) -> tuple[Any, ...]:
        """As Tensors: the first states one by one, the inputs, and the list of parameters."""
        values = tensors(self.points)
        return (*values[: self.count + 1], values[self.count + 1 :])

    def gradients(self, order: int) -> int:
        """All gradients through time."""
        try:  # a second sweep through time for each element is slow
            return battery.right_gradients(self, self.generator(), order, "auto" if order == 1 else "direction")
        except InconclusiveError:
            raise
        except GradcheckError as error:
            error.again = None  # what a cell computes is no function that can be called in a line
            if error.input is not None:
                name = dict(enumerate(self.names())).get(error.input, f"cotangent {error.input - len(self.points)}")
                error.message = error.message.replace(f"input {error.input} (", f"{name} (", 1)
            nodes = history(self(*tensors(self.points)))
            theirs = sorted({n.op.name for n in nodes if n.op is not None and n.op.replaceable})
            if theirs:
                error.add_note(f"the cell uses {', '.join(theirs)}: check with check_primitive first")
            raise

    def names(self) -> list[str]:
        """What a report calls each of the `points`."""
        several = self.count > 1
        states = [f"the first state {n}" if several else "the first state" for n in range(self.count)]
        return [*states, "the inputs", *self.parameters]
