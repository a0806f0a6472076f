"""Tasks on data that people have: the next character of a text, the next value of a series.

After this file the reader knows how a long text is read in windows: batch after batch in order, the state carried over
from one to the next, its history left behind.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..data import DataError, load
from ..functions import cross_entropy
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
        The text itself, or a file in UTF-8 that holds it (a Path, or a str ending in .txt); default: the Zen of
        Python.
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
        name = "the Zen of Python" if text is None else "text"
        if text is None:
            text = zen_of_python()
        elif isinstance(text, PathLike) or text.endswith(".txt"):
            name = Path(text).name
            try:
                text = Path(text).read_text(encoding="utf-8-sig")
            except UnicodeDecodeError:
                raise DataError(f"{text}: is not UTF-8 text") from None
            except OSError as error:
                raise DataError(f"{text}: {error.strerror or error}") from None
        if length < 1 or len(text) <= length:
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
        return np.eye(self.inputs)[symbols[:-1]], symbols[1:]

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
        rng = np.random.default_rng(rng)
        symbol, state, written = int(self.symbols[0]), None, []
        with no_grad():
            for _ in range(length):
                written.append(self.alphabet[symbol])
                outputs, state = model(np.eye(self.inputs)[[[symbol]]], state)
                logits = np.asarray(outputs.data[-1, 0], np.float64)
                odds = np.exp(logits - logits.max())
                symbol = int(rng.choice(len(odds), p=odds / odds.sum()))
        return "".join(written)


class Series(Task):
    """The next values of a series of numbers, at each step.

    Trained on random windows of its first four fifths; the metric is taken on the rest.

    Parameters
    ----------
    path : path, optional
        As in `tinygrad_rnn.data.load`, .csv or .npy; the annual flow of the Nile by default.
    columns : sequence of str
    length : int
        Steps in a window.

    Raises
    ------
    DataError
        If the file cannot be read, or has too few steps for such windows.
    """

    last = False
    metric_name = "MSE on the last fifth"

    def __init__(self, path: str | PathLike[str] | None = None, columns: Sequence[str] = (), length: int = 20) -> None:
        self.values, described = load(None if path is None else Path(path), columns=columns)
        cut = len(self.values) * 4 // 5
        self.known, self.held = self.values[:cut], self.values[cut:]
        if length < 1 or len(self.known) <= length or len(self.held) < 2:
            raise DataError(f"{described}: {len(self.values)} steps are too few for windows of {length}")
        self.name, self.length = f"next values of {described}", length
        self.inputs = self.outputs = self.values.shape[1]
        spread, change = float(np.mean(self.known**2)), float(np.mean(np.diff(self.known, axis=0) ** 2))
        self.baseline = min(spread, change)
        self.baseline_means = "always answer the mean" if spread <= change else "always answer the last value again"
        held = np.mean(self.held[1:] ** 2), np.mean(np.diff(self.held, axis=0) ** 2)
        self.solved_below = 0.9 * float(held[spread > change])

    def batch(self, rng: np.random.Generator, size: int, step: int = 1) -> Batch:
        """Random windows, and the same one step later."""
        at = rng.integers(0, len(self.known) - self.length, size) + np.arange(self.length + 1)[:, None]
        windows = self.known[at]
        return windows[:-1], windows[1:]

    def test_batch(self) -> Batch:
        """The last fifth, as one sequence."""
        return self.held[:-1, None], self.held[1:, None]
