"""Training with the derived program instead of the engine: the same numbers to rounding, in less time.

After this file the reader knows what is left for the engine to do: the first batch, beside the program, to see that
both say the same; then the linear layer and the loss, once a batch. The T steps of the cell run as a program of plain
NumPy, or of machine code where compiling it pays.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..bptt import Program, derive_bptt
from ..bptt.contents import Contents, rewinding
from ..bptt.loss import disagreeing
from ..extras import how_to_install
from ..files import printable
from ..nn.cells import CELLS
from ..nn.stacks import Stack
from ..nn.state import parts_of, state_of
from ..symbolic.trace import TraceError
from ..tensor import GradientError, Tensor
from .model import SequenceModel
from .run import Run
from .tasks import Batch

ENGINE, NUMPY, COMPILED = "the engine", "the derived program", "the derived program, compiled"

COMPILING = 8.0
"""Seconds that compiling a cell of a new size takes at most."""

CALL, ELEMENT = 6e-7, 6e-10
"""Seconds that machine code saves for each NumPy call in a loop, and for each number that one works on, at least."""


class DerivedGradients:
    """Gradients of a `SequenceModel` by the program of `derive_bptt`, derived again where the batch size changes.

    A program is used from the first batch of its shape on if the loss and every gradient of that batch are what the
    engine says; it is compiled if all batches together are expected to save more time than compiling takes.

    Parameters
    ----------
    run : Run
    steps : int
        How many there will be at the end.
    say : callable
        Is given the line that says what computes the gradients.

    Raises
    ------
    TypeError
        If the model is another, or is called in a way of its own, or its network is a stack: programs are derived of
        cells.
    """

    def __init__(self, run: Run, steps: int, say: Callable[[str], None]) -> None:
        if type(run.model).__call__ is not SequenceModel.__call__ or isinstance(run.model.network, Stack):
            raise TypeError("derived=True is for a SequenceModel of one cell: leave it out, and the engine does it")
        if run.settings["window"] is not None:
            raise ValueError("derived=True has no window: give the task the length of the window instead")
        self.run, self.steps, self.say = run, steps, say
        self.programs: dict[Any, Program] = {}  # by the shape of a step
        self.checked: set[Any] = set()
        self.cell = self._cell()

    def _cell(self) -> Any:
        """What the cell is but for its parameters; of the package's own, the repr says it, and in less time."""
        cell = self.run.model.network
        if type(cell) in CELLS:
            return repr(cell)
        return {path: value for path, value in Contents(cell).found.items() if path != "random"}

    def __call__(self, batch: Batch, state: Any) -> tuple[float, Any]:
        """Leave the gradients in ``.grad``; returns the loss and the state after the batch."""
        if self.run.gradients_by == ENGINE and self.checked:  # for good: nothing is looked at again
            return self.run.by_engine(batch, state)
        key = np.shape(batch[0]), self.run.task.loss
        if (now := self._cell()) != self.cell:  # a setting of it was changed, by a callback say
            self.cell, self.checked, self.programs = now, set(), {}
        if key not in self.checked:
            self.checked.add(key)
            self._choose(batch, state)
            self.run.optimiser.zero_grad()
        if self.run.gradients_by == ENGINE:
            return self.run.by_engine(batch, state)
        return self._by(self.programs[key[0][1:]], batch, state, self.run)

    def _by(self, program: Program, batch: Batch, state: Any, run: Run) -> tuple[float, Any]:
        model, (inputs, targets) = run.model, batch

        def loss(outputs: Tensor, state: Any) -> Tensor:
            return run.task.loss(model.head(parts_of(state)[0] if model.last else outputs), targets)

        parameters = model.network.parameters()
        value, gradients, last = program(*self._example(inputs, state), parameters, loss=loss, return_state=True)
        for name, parameter in parameters.items():  # added, as the loss may read it too
            parameter.grad = gradients[name] if parameter.grad is None else parameter.grad + gradients[name]
        return value, state_of(map(Tensor, parts_of(last)), last)

    def _example(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        cell = self.run.model.network
        inputs = np.asarray(inputs, cell.dtype)
        return inputs, cell.initial_state(inputs.shape[1]) if state is None else state

    # -- Which program, at the first batch of a shape --

    def _choose(self, batch: Batch, state: Any) -> None:
        """Take the fastest program that says of this batch what the engine says; the engine, for good, if none does."""
        cell, reason, engine = repr(self.run.model.network), "as before", dict[str, Any]()
        # What is tried draws no numbers from the run.
        rewind = rewinding(self.run.model.network, self.run.model.head, self.run.task.loss)
        try:
            if self.run.gradients_by != ENGINE:
                for program, why in self._programs(batch, state):  # of a cell that keeps nothing, or there is none
                    engine = engine or self._numbers(lambda run: run.by_engine(batch, state))
                    wrong = disagreeing(self._numbers(partial(self._by, program, batch, state)), engine)
                    if not wrong:
                        self.run.gradients_by = COMPILED if program.compiled else NUMPY
                        if not self.programs:
                            self.say(printable(f"{cell}: gradients by {self.run.gradients_by}{why}"))
                        self.programs[np.shape(batch[0])[1:]] = program
                        return
                    reason = f"the derived program does not agree with it on {', '.join(wrong)}"
        except (GradientError, TraceError) as error:
            reason = str(error)
        finally:
            if not rewind():
                warnings.warn("trying a program changed what the loss reads: leave derived=True out", stacklevel=2)
        self.run.gradients_by = ENGINE
        warnings.warn(printable(f"{cell}: gradients by {ENGINE}: {reason}"), stacklevel=2)

    def _programs(self, batch: Batch, state: Any) -> Iterator[tuple[Program, str]]:
        """Programs of the cell, the fastest first, and why it is this one."""
        cell, example, wanted = self.run.model.network, self._example(batch[0], state), self.run.gradients_by
        program = self.programs.get(example[0].shape[1:]) or derive_bptt(cell, example=example)
        each = CALL + ELEMENT * parts_of(example[1])[0].size
        saved = (self.steps - self.run.step) * len(example[0]) * program.calls * each
        reason = f" (machine code would save {saved:.1f} s, and take up to {COMPILING:g} s to make)"
        if not program.compiled and (wanted == COMPILED or (wanted != NUMPY and saved > COMPILING)):
            try:
                yield derive_bptt(cell, example=example, compiled=True), ""
                reason = " (the compiled one does not agree with the engine)"
            except ImportError:
                reason = f" (machine code would save {saved:.0f} s: {how_to_install('fast')})"
        yield program, "" if wanted == NUMPY else reason

    def _numbers(self, gradients: Callable[[Run], tuple[float, Any]]) -> dict[str, Any]:
        """The loss and every gradient, as arrays; of copies with the same parameters, which may count their calls."""
        self.run.optimiser.zero_grad()
        run, parameters = copy.copy(self.run), self.run.optimiser.parameters.values()
        try:
            run.model, run.task = copy.deepcopy((run.model, run.task), {id(p): p for p in parameters})
        except Exception as error:
            raise GradientError(f"to try a program, the model and its task must be copied: {error}") from error
        loss, _ = gradients(run)
        named = self.run.model.parameters().items()
        return {"the loss": np.asarray(loss)} | {name: np.array(p.grad.data) for name, p in named if p.grad is not None}
