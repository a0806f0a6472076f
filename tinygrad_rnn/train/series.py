"""Tasks on data that people have: the next character of a text, the next value of a series.

After this file the reader knows how a long text is read in windows: batch after batch in order, the state carried over
from one to the next, its history left behind.
"""

from __future__ import annotations

import contextlib
import io
import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import generator, refusal, whole
from ..data import Data, DataError, one_hot, read, read_text
from ..files import printable
from ..nn.losses import cross_entropy
from ..scope import no_grad
from ..tensor import Tensor
from .tasks import Array, Batch, Task


def zen_of_python() -> str:
    """Tim Peters' Zen of Python, which ships with Python: 856 characters, 45 of them different.

    Returns
    -------
    str
    """
    with contextlib.redirect_stdout(io.StringIO()):  # importing it prints it, the first time
        import this
    table: dict[str, str] = this.d
    return "".join(table.get(character, character) for character in this.s)


class Text(Task):
    """The next character of a text, read in order and around again (Karpathy's min-char-rnn, 2015).

    Parameters
    ----------
    text : str or path, optional
        The text itself, or a file that holds it (a Path, or a str ending in .txt; see `tinygrad_rnn.data.read`);
        default: the Zen of Python.
    length : int
        Characters per batch; the gradient goes back so far, while the state is carried on.

    Raises
    ------
    DataError
        If the file cannot be read, or its text is too short or has one character only.

    Notes
    -----
    The loss is the *sum* over the characters of a batch, in nats, which is length · ln V if all V are equally likely.
    With a batch of several sequences each reads the text from a place of its own.

    Examples
    --------
    >>> from tinygrad_rnn.train import Text
    >>> task = Text("hello world", length=5)
    >>> task.alphabet, round(task.baseline, 3)
    (' dehlorw', 10.397)
    """

    last = False
    metric_name = "nats per character"

    def __init__(self, text: str | PathLike[str] | None = None, length: int = 25) -> None:
        name, length = "the Zen of Python" if text is None else "text", whole("length", length, 1)
        if text is None:
            text = zen_of_python()
        elif not isinstance(text, (str, PathLike)):
            raise refusal("text", text, "a text, or the path of one")
        elif isinstance(text, PathLike) or text.endswith(".txt"):
            name, text = printable(Path(text).name), read_text(text)
        if len(text) <= length:
            raise DataError(f"{name} has {len(text)} characters: windows of {length} need at least {length + 1}")
        self.alphabet = "".join(sorted(set(text)))
        if len(self.alphabet) < 2:
            raise DataError(f"{name} has only one character, again and again: there is nothing to predict")
        index = {character: i for i, character in enumerate(self.alphabet)}
        self.text, self.symbols = text, np.array([index[character] for character in text])
        self.name, self.length = f"characters of {name}", length
        self.inputs = self.outputs = len(self.alphabet)
        self.baseline = length * math.log(len(self.alphabet))
        self.baseline_means = f"all {len(self.alphabet)} characters equally likely: {length} ln {len(self.alphabet)}"
        self.solved_below = math.log(len(self.alphabet)) / 4
        self._windows = (len(text) - 1) // length  # until the text begins anew

    def batch(self, rng: np.random.Generator, size: int, step: int = 1) -> Batch:
        """The next window of each of `size` readers; nothing here is random."""
        at = (step - 1) % self._windows * self.length + np.arange(self.length + 1)[:, None]
        if size == 1:
            return self._pairs(self.symbols[at])
        places = np.arange(size) * len(self.symbols) // size
        return self._pairs(self.symbols[(at + places) % len(self.symbols)])

    def fresh(self, step: int) -> bool:
        """Whether the text begins anew."""
        return (step - 1) % self._windows == 0

    def _pairs(self, symbols: Array) -> Batch:
        return one_hot(symbols[:-1], self.inputs), symbols[1:]

    def loss(self, outputs: Tensor, targets: Array) -> Tensor:
        """Cross-entropy in nats, summed over time, averaged over the readers."""
        loss: Tensor = cross_entropy(outputs, targets) * float(len(targets))
        return loss

    def metric(self, outputs: Array, targets: Array) -> float:
        """Mean cross-entropy."""
        return float(cross_entropy(outputs, targets))

    def test_batch(self) -> Batch:
        """The text from its beginning, its first 1,000 characters; this is about memory, not about unseen texts."""
        return self._pairs(self.symbols[:1001, None])

    def sample(self, model: Any, length: int, rng: np.random.Generator | int | None = None) -> str:
        """Let a model write: each character is drawn from what it predicts, and is its next input.

        Parameters
        ----------
        model : callable
            As `fit` takes it.
        length : int
        rng : numpy.random.Generator or int, optional
        """
        rng, length = generator("rng", rng), whole("length", length)
        symbol, state, written = int(self.symbols[0]), None, []
        with no_grad():
            for _ in range(length):
                written.append(self.alphabet[symbol])
                outputs, state = model(one_hot(np.array([[symbol]]), self.inputs), state)
                logits = np.asarray(outputs.data[-1, 0], np.float64)
                odds = np.exp(logits - logits.max())
                symbol = int(rng.choice(len(odds), p=odds / odds.sum()))
        return "".join(written)


class Series(Task):
    """The next values of a series of numbers, or of several, at each step.

    Trained on random windows of the first four fifths of its steps; the metric is taken on the rest.

    Parameters
    ----------
    data : path or Data, optional
        As `tinygrad_rnn.data.read` takes it, or, where it is to be read otherwise, as that function gave it; the annual
        flow of the Nile by default.
    length : int
        Steps in a window.

    Raises
    ------
    DataError
        If the file cannot be read, holds prose, or has too few steps for such windows.
    """

    last = False
    metric_name = "MSE on the last fifth"

    def __init__(self, data: str | PathLike[str] | Data | None = None, length: int = 20) -> None:
        length = whole("length", length, 1)
        if data is None or isinstance(data, (str, PathLike)):
            data = read(data)
        elif not isinstance(data, Data):
            raise refusal("data", data, "a path, or Data(values, name) with values of shape (T, N, F)")
        if data.alphabet:
            raise DataError(f"{data.description}: this task predicts numbers; characters are those of Text")
        self.values, self.scale = data.values, data.scale()
        cut = len(self.values) * 4 // 5
        self.known, self.held = self.values[:cut], self.values[cut:]
        if len(self.known) <= length or len(self.held) < 2:
            raise DataError(f"{data.description}: {len(self.values)} steps are too few for windows of {length}")
        self.name, self.length = f"next values of {data.description}", length
        self.inputs = self.outputs = self.values.shape[2]
        mean = 0.0 if data.mean is not None else self.values.mean(axis=(0, 1))
        spread, change = float(np.mean((self.known - mean) ** 2)), float(np.mean(np.diff(self.known, axis=0) ** 2))
        self.baseline = min(spread, change)
        self.baseline_means = "always answer the mean" if spread <= change else "always answer the last value again"
        held = np.mean((self.held[1:] - mean) ** 2), np.mean(np.diff(self.held, axis=0) ** 2)
        self.solved_below = 0.9 * float(min(held))  # of the rest either answer may be the better one

    def batch(self, rng: np.random.Generator, size: int, step: int = 1) -> Batch:
        """Random windows, and the same one step later."""
        at = rng.integers(0, len(self.known) - self.length, size) + np.arange(self.length + 1)[:, None]
        windows = self.known[at, rng.integers(0, self.values.shape[1], size)]  # of one sequence nothing is drawn
        return windows[:-1], windows[1:]

    def test_batch(self) -> Batch:
        """The last fifth of every sequence."""
        return self.held[:-1], self.held[1:]
