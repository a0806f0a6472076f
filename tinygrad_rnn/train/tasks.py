"""Tasks that need memory, each with the loss of the best answer that remembers nothing.

After this file the reader knows what a task is (batches, a loss, a measure of success) and why each comes with a
baseline: a network whose gradient vanishes learns the short-range part, then sits at a height that can be predicted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import flag, whole
from ..nn.losses import cross_entropy, mse_loss
from ..tensor import Tensor

Array = NDArray[Any]
Batch = tuple[Array, Array]

TEST_SEED, TEST_SIZE = 12345, 500


class Task:
    """What `fit` asks of a task. For one of your own: give these attributes, `batch` and `loss`.

    Attributes
    ----------
    name : str
    inputs, outputs : int
        Values per step in, and values out.
    last : bool
        Whether the answer is read off at the last step only; otherwise at every step.
    baseline : float
        The loss of the best answer that remembers nothing.
    baseline_means : str
        What that answer is.
    metric_name : str
        What `metric` measures, smaller is better.
    solved_below : float
        The task is solved where the metric is below this.
    """

    name: str
    inputs: int
    outputs: int
    last: bool = True
    baseline: float
    baseline_means: str
    metric_name: str
    solved_below: float
    _test: Batch | None = None

    def batch(self, rng: np.random.Generator, size: int, step: int = 1) -> Batch:
        """Inputs of shape (T, size, inputs) and their targets; the same generator gives the same batch.

        `step` counts the batches from 1, for a task that goes through a text in order.
        """
        raise NotImplementedError

    def fresh(self, step: int) -> bool:
        """Whether the state begins anew with this batch, rather than being carried over from the one before."""
        return True

    def loss(self, outputs: Tensor, targets: Array) -> Tensor:
        """The loss, a scalar, from the model's outputs."""
        loss: Tensor = mse_loss(outputs, targets.astype(outputs.dtype))
        return loss

    def metric(self, outputs: Array, targets: Array) -> float:
        """What decides whether the task is solved."""
        return float(np.mean((outputs - targets) ** 2))

    def test_batch(self) -> Batch:
        """The sequences on which the metric is taken: 500, always the same."""
        if self._test is None:
            self._test = self.batch(np.random.default_rng(TEST_SEED), TEST_SIZE)
        return self._test

    def __repr__(self) -> str:
        return f"{self.name}, T={self.length}" if self.length else self.name

    length: int = 0


class Adding(Task):
    """The adding problem: two of T numbers are marked; say their sum at the end.

    Inputs at each step: a number from U[0, 1], and a marker, 0 or 1 (Hochreiter and Schmidhuber 1997, in the form of
    Arjovsky, Shah and Bengio 2016).

    Parameters
    ----------
    length : int
        T, at least 4.
    minimal_lag : bool
        Without: one marker in each half, so that short lags occur and lead on to the long ones. With: one in [0, T/4)
        and one in [T/4, T/2), so that nothing can be learnt without a memory of T/2 steps.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.train import Adding
    >>> inputs, targets = Adding(length=8).batch(np.random.default_rng(0), size=3)
    >>> inputs.shape, targets.shape
    ((8, 3, 2), (3, 1))
    """

    inputs, outputs = 2, 1
    baseline, baseline_means = 1 / 6, "always answer 1: the variance of the sum of two numbers from U[0, 1]"
    metric_name, solved_below = "MSE", 0.01

    def __init__(self, length: int = 50, minimal_lag: bool = False) -> None:
        self.length, self.minimal_lag = whole("length", length, 4), flag("minimal_lag", minimal_lag)
        self.name = "adding, minimal lag T/2" if self.minimal_lag else "adding"

    def batch(self, rng: np.random.Generator, size: int, step: int = 1) -> Batch:
        """Numbers and markers, and the sums."""
        first, last = (self.length // 4, self.length // 2) if self.minimal_lag else (self.length // 2, self.length)
        inputs = np.zeros((self.length, size, 2))
        inputs[:, :, 0] = rng.random((self.length, size))
        rows = np.arange(size)
        marked = rng.integers(0, first, size), rng.integers(first, last, size)
        for at in marked:
            inputs[at, rows, 1] = 1.0
        return inputs, sum(inputs[at, rows, 0] for at in marked)[:, None]


class _OfClasses:
    """Loss and metric of a task whose answers are classes."""

    def loss(self, outputs: Tensor, targets: Array) -> Tensor:
        """Mean cross-entropy, in nats."""
        loss: Tensor = cross_entropy(outputs, targets)
        return loss

    def metric(self, outputs: Array, targets: Array) -> float:
        """Share of classes that are wrong."""
        return float(np.mean(outputs.argmax(-1) != targets))


class Copying(_OfClasses, Task):
    """The copying problem: ten symbols, a pause of T steps, then say them again.

    Eight symbols, a blank, and a sign that it is time to answer, one-hot; T + 20 steps (Hochreiter and Schmidhuber
    1997; Arjovsky, Shah and Bengio 2016).

    Parameters
    ----------
    length : int
        T, at least 1.
    """

    inputs, outputs, last = 10, 9, False
    baseline_means = "blanks, then one of the eight symbols by chance: 10 ln 8 / (T + 20)"
    metric_name, solved_below = "share of symbols wrong", 0.01

    def __init__(self, length: int = 50) -> None:
        self.length, self.name = whole("length", length, 1), "copying"
        self.baseline = 10 * math.log(8) / (self.length + 20)

    def batch(self, rng: np.random.Generator, size: int, step: int = 1) -> Batch:
        """One-hot sequences, and at each step the class to name (8 is the blank)."""
        symbols = rng.integers(0, 8, (10, size))
        seen = np.full((self.length + 20, size), 8)
        seen[:10] = symbols
        seen[self.length + 9] = 9
        targets = np.full((self.length + 20, size), 8)
        targets[-10:] = symbols
        return np.eye(10)[seen], targets

    def metric(self, outputs: Array, targets: Array) -> float:
        """Only the ten steps count at which there is something to remember."""
        return super().metric(outputs[-10:], targets[-10:])


class TemporalOrder(_OfClasses, Task):
    """Temporal order: two of T symbols matter; say at the end which they were, and in which order.

    X or Y stands somewhere in [T/10, 2T/10) and in [4T/10, 5T/10), one of four distractors everywhere else; four
    classes (Hochreiter and Schmidhuber 1997, task 6a; Pascanu, Mikolov and Bengio 2013).

    Parameters
    ----------
    length : int
        T, at least 10.
    """

    inputs, outputs = 6, 4
    baseline, baseline_means = math.log(4), "one of the four classes by chance: ln 4"
    metric_name, solved_below = "error rate", 0.01

    def __init__(self, length: int = 50) -> None:
        self.length, self.name = whole("length", length, 10), "temporal order"

    def batch(self, rng: np.random.Generator, size: int, step: int = 1) -> Batch:
        """One-hot sequences, and their classes."""
        tenth, rows = self.length / 10, np.arange(size)
        seen = rng.integers(0, 4, (self.length, size))
        which = rng.integers(0, 2, (2, size))
        for k, (start, stop) in enumerate(((1, 2), (4, 5))):
            seen[rng.integers(int(start * tenth), int(stop * tenth), size), rows] = 4 + which[k]
        return np.eye(6)[seen], 2 * which[0] + which[1]
