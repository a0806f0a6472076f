"""Which of the changes learn: the network as it is and changed, trained on the user's own loss and data.

After this file the reader knows why a report promises nothing: that a gradient arrives is measured at once, that a
network learns only by training it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import POSITIVE, number, whole
from ..tensor import Tensor
from .changes import changed
from .flow import Flow


@dataclass(frozen=True)
class Trained:
    """One network, trained.

    Attributes
    ----------
    label : str
        "as it is", or the changes in words.
    changes : dict
        As `what_if` takes them; empty for the network as it is.
    first, last : float
        The median loss over the first and over the last tenth of the steps.
    learns : bool
        Whether the last is below what counts as learnt.
    """

    label: str
    changes: dict[str, Any]
    first: float
    last: float
    learns: bool


@dataclass(frozen=True)
class Cure:
    """What `cure` found; prints itself.

    Attributes
    ----------
    runs : tuple of Trained
        The network as it is, then the changes.
    below : float
        The loss below which a network counts as having learnt.
    """

    runs: tuple[Trained, ...]
    below: float

    @property
    def cures(self) -> tuple[Trained, ...]:
        """The changes that learn, where the network as it is does not."""
        return () if self.runs[0].learns else tuple(run for run in self.runs[1:] if run.learns)

    def __str__(self) -> str:
        rows = [
            f"cure      {r.label}: loss {r.last:.3g}, {'LEARNS' if r.learns else 'does not learn'}" for r in self.runs
        ]
        return "\n".join(
            [*rows, f"          learns: the last tenth of the losses has its median below {self.below:.3g}"]
        )


def cure(flow: Flow, train: Callable[[Any], Sequence[float]], most: int = 3, *, below: float | None = None) -> Cure:
    """Train the network as it is, and with the first changes that heal.

    Parameters
    ----------
    flow : GradientFlow
        Of a network, not of a graph that was there already.
    train : callable
        ``train(model)`` trains a model, a copy of its own, on your loss and data, and gives the losses of its steps.
    most : int
        How many of the changes to train.
    below : float, optional
        The loss that counts as learnt, such as 0.8 times the best that an answer without memory can reach; default:
        0.8 times the loss over the first tenth of the steps of the network as it is.

    Returns
    -------
    Cure

    Raises
    ------
    ValueError
        If there is nothing to train, or no losses come back.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.diagnose import cure, gradient_flow
    >>> flow = gradient_flow(tg.LSTMCell(2, 16, rng=0), np.random.default_rng(0).normal(size=(40, 4, 2)))
    >>> found = cure(flow, lambda model: [1.0, 0.5], most=1)  # your training in its place
    >>> [list(run.changes) for run in found.runs]  # the network as it is, and its first change
    [[], ['chrono']]
    """
    if isinstance(flow.experiment.model, Tensor):
        raise ValueError("a graph that is there already cannot be trained: give the model and its inputs")
    most, limit = whole("most", most, 1), None if below is None else number("below", below, POSITIVE)
    healing = [(trial.label, trial.changes) for trial in flow.verdict.trials if trial.heals][:most]
    runs: list[Trained] = []
    for label, changes in [("as it is", {}), *healing]:
        losses = np.array(train(copy.deepcopy(changed(flow.experiment, changes).model)), float)
        if losses.ndim != 1 or not losses.size:
            raise ValueError("train(model) gives the losses of its steps, one number each")
        tenth = max(len(losses) // 10, 1)
        first, last = float(np.median(losses[:tenth])), float(np.median(losses[-tenth:]))
        limit = 0.8 * first if limit is None else limit
        runs.append(Trained(label, dict(changes), first, last, bool(last < limit)))
    assert limit is not None
    return Cure(tuple(runs), limit)
