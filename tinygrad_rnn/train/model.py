"""What `fit` trains: a recurrent network and a linear layer that reads its answer off.

After this file the reader knows what `fit` asks of a model of one's own: to be called as ``model(inputs, state)``, to
give back its outputs and the state to carry on, and to have ``parameters()``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..nn.layers import Linear
from ..nn.module import Module
from ..nn.stacks import Stack, run_sequence
from ..scope import scope
from ..tensor import Tensor
from .tasks import Task


class SequenceModel(Module):
    """A cell or a stack, and a linear layer on its outputs, for a task.

    Parameters
    ----------
    network : cell, or RNN, LSTM, GRU with the time first
        Of the task's input size. One of your own needs ``input_size``, ``hidden_size`` and ``dtype``.
    task : Task
        Which decides how many values come out, and whether at the last step only.
    rng : numpy.random.Generator or int, optional
        Draws the linear layer's parameters.

    Raises
    ------
    ValueError
        If the network takes another number of values than the task gives, or has batch_first.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.train import Adding, SequenceModel
    >>> model = SequenceModel(tg.LSTMCell(2, 4, rng=0), Adding(10), rng=1)
    >>> outputs, state = model(np.ones((10, 3, 2)))
    >>> outputs.shape
    (3, 1)
    """

    def __init__(self, network: Any, task: Task, rng: np.random.Generator | int | None = None) -> None:
        if network.input_size != task.inputs:
            raise ValueError(f"{task!r} gives {task.inputs} values a step, and {network!r} takes {network.input_size}")
        if getattr(network, "batch_first", False):
            raise ValueError(f"{network!r}: tasks give their batches time first, so build it without batch_first")
        width = network.hidden_size * (1 + (isinstance(network, Stack) and network.bidirectional))
        self.network, self.last = network, task.last
        self.head = Linear(width, task.outputs, dtype=network.dtype, rng=rng)

    def __call__(self, inputs: Any, state: Any = None, window: int | None = None) -> tuple[Tensor, Any]:
        """Inputs of shape (T, B, I) give (B, O), or (T, B, O) if every step answers, and the state after the last."""
        outputs, last, state = run_sequence(self.network, inputs, state, window)
        with scope("head"):
            return self.head(last if self.last else outputs), state

    def __repr__(self) -> str:
        return f"SequenceModel({self.network!r}, {self.head!r})"
