"""Training with the derived program instead of the engine: the same numbers to rounding, in less time.

After this file the reader knows what is left for the engine to do: the linear layer and the loss, once a batch. The T
steps of the cell run as a program of plain NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bptt import Program, derive_bptt
from ..nn.stacks import Stack
from ..nn.state import parts_of, state_of
from ..tensor import Tensor
from .model import SequenceModel
from .tasks import Batch, Task


class DerivedGradients:
    """Gradients of a `SequenceModel` by the program of `derive_bptt`, derived again where the batch size changes.

    Raises
    ------
    TypeError
        If the model is another, or its network a stack: programs are derived of cells.
    """

    def __init__(self, model: Any, task: Task, window: int | None) -> None:
        if not isinstance(model, SequenceModel) or isinstance(model.network, Stack):
            raise TypeError("derived=True is for a SequenceModel of one cell: leave it out, and the engine does it")
        if window is not None:
            raise ValueError("derived=True has no window: give the task the length of the window instead")
        self.model, self.task = model, task
        self.programs: dict[tuple[int, ...], Program] = {}

    def __call__(self, batch: Batch, state: Any) -> tuple[float, Any]:
        """Leave the gradients in ``.grad``; returns the loss and the state after the batch."""
        cell, (inputs, targets) = self.model.network, batch
        inputs = np.asarray(inputs, cell.dtype)
        first = cell.initial_state(inputs.shape[1]) if state is None else state
        parameters = cell.parameters()
        program = self.programs.get(inputs.shape[1:])
        if program is None:
            self.programs[inputs.shape[1:]] = program = derive_bptt(cell, example=(inputs, first))

        def loss(outputs: Tensor, state: Any) -> Tensor:
            return self.task.loss(self.model.head(parts_of(state)[0] if self.model.last else outputs), targets)

        value, gradients, last = program(inputs, first, parameters, loss=loss, return_state=True)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        return value, state_of(map(Tensor, parts_of(last)), last)
