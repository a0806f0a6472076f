"""Watching the gradient during training: a probe for `fit`, and the chart of the forget gate opening.

After this file the reader knows what learning to remember looks like: the loss stands at its baseline, then within some
hundred steps the slope goes to zero, the forget gate opens, and only now does the loss fall.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import whole
from ..draw.film import Film
from ..figure import COLOURS, check_format, new_figure, plain, save_figure
from ..functions import mean
from ..nn.stacks import run_sequence
from ..tensor import Tensor
from .chain import in_float64, sequences_of
from .measure import Share
from .report import gradient_flow

if TYPE_CHECKING:
    from ..train.history import History
    from ..train.run import Run


class FlowProbe:
    """What `fit` calls back to measure the gradient flow of the network as it stands; give it as ``every(k, probe)``.

    Parameters
    ----------
    inputs : array_like, shape (T, B, I)
        The same sequences each time, such as ``task.batch(rng, 16, 1)[0]``.
    rng : int
        Draws v, the same each time. Where a single answer is read off h by a linear layer (`SequenceModel`), v is that
        layer's direction: the gradient that the task sends back, but for its size.
    film : path, optional
        Ending in .html or .svg: also draw the network each time, as a `tinygrad_rnn.draw.Film`, which is written when
        the run has ended, also by Ctrl-C. What flows is that of the mean of v·h_T over the sequences.
    **options
        Of the film: as for `draw`.

    Notes
    -----
    Each record has "slope" (of ∂L/∂h, decades a step) and "ratio" (log10 of ‖∂L/∂·‖ at lag T over that at lag 0, of c
    where there is one); "carried" (the share at lag T - 5) where a state is carried; "gate f" and so on, the mean of
    each gate, and "largest gate f", the largest over the units of its average over time.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.diagnose import FlowProbe
    >>> from tinygrad_rnn.train import Adam, Adding, SequenceModel, every, fit
    >>> task = Adding(10)
    >>> model = SequenceModel(tg.LSTMCell(2, 4, rng=0), task, rng=0)
    >>> probe = FlowProbe(task.batch(np.random.default_rng(0), 4, 1)[0])
    >>> history = fit(model, task, Adam(model), steps=4, callbacks=[every(2, probe)], progress=False)
    >>> [step for step, record in history.records]
    [2, 4]
    """

    def __init__(self, inputs: Any, rng: int = 0, film: str | os.PathLike[str] | None = None, **options: Any) -> None:
        sequences_of(inputs)  # found out here, not when it is called back
        self.inputs, self.rng = np.array(inputs), whole("rng", rng)
        self.film = Film(film, **options)

    def __call__(self, run: Run) -> dict[str, float]:
        """Measure."""
        network, head = getattr(run.model, "network", run.model), getattr(run.model, "head", None)
        reads = getattr(head, "weight", None)
        one = reads is not None and reads.shape == (1, getattr(network, "hidden_size", -1))
        v = reads.data[0] / np.linalg.norm(reads.data[0]) if reads is not None and one else None
        if self.film.path is not None:
            self.film.add(f"after {run.step} updates", self._loss(network, v))
        return self.measure(network, f"after {run.step} updates", v)

    def close(self) -> None:
        """Write the film, if there is one; warn if one was asked for and the run ended before its first frame."""
        if self.film.labels:
            self.film.save()
        elif self.film.path is not None:
            warnings.warn(
                f"no film was written to {self.film.path}: the run ended before the first frame", stacklevel=2
            )

    def _loss(self, network: Any, direction: Any) -> Tensor:
        _, last, _ = run_sequence(in_float64(network), self.inputs)
        drawn = np.random.default_rng(self.rng).standard_normal(last.shape[1])
        v = Tensor(drawn / np.linalg.norm(drawn) if direction is None else direction, name="v")
        found: Tensor = mean(last @ v)
        return found

    def measure(self, network: Any, when: str = "at initialisation", direction: Any = None) -> dict[str, float]:
        """The record of a network."""
        flow = gradient_flow(network, self.inputs, direction=direction, rng=self.rng, when=when)
        share: Share | None = next(iter(flow.shares.values()), None)
        lane = flow.main if share is None else flow.lanes[share.layer, share.name]
        record = {"slope": flow.slope, "ratio": float(np.median(lane.logs[-1] - lane.logs[0]))}
        if share is not None:
            record["carried"] = float(share.mean[max(flow.setting.steps - 5, 0)])
        for activation in flow.activations.values():
            if activation.op == "sigmoid":
                label = f"gate {activation.name} {activation.layer}".strip()
                record |= {label: activation.mean, f"largest {label}": float(activation.by_unit.max())}
        return record


def probe_chart(history: History, path: str | os.PathLike[str], title: str | None = None) -> None:
    """Write the chart of a probed run: the loss, the slope, and the gates, over the same steps.

    Parameters
    ----------
    history : History
        Of a `fit` with ``callbacks=[every(k, FlowProbe(inputs))]``.
    path : path
        Ending in .svg, .png or .pdf.
    title : str, optional
        Default: the task.

    Raises
    ------
    ValueError
        If the history has no records of a `FlowProbe`.
    """
    check_format(path)
    records = [(step, record) for step, record in history.records if "slope" in record]
    if not records:
        raise ValueError("no records of a FlowProbe: give fit callbacks=[every(k, FlowProbe(inputs))]")
    steps = [step for step, _ in records]
    names = [name for name in records[0][1] if name == "carried" or name.startswith("largest gate")]
    labels = {"slope": "slope of ∂L/∂h", "carried": "share carried at lag T - 5"}
    figure = new_figure(8.0, 7.6)
    upper, middle, lower = figure.subplots(3, 1, sharex=True)
    history.plot(upper).set(xlabel="")
    upper.set_title(plain(title or history.task), loc="left")
    middle.axhline(0.0, color="0.3", linewidth=0.8)
    for axes, shown, what in ((middle, ["slope"], "decades a step"), (lower, names, "openness, share")):
        for k, name in enumerate(shown):
            style = {"color": COLOURS[k % len(COLOURS)], "markersize": 4}
            label = labels.get(name, f"{name} (average over time)")
            axes.plot(steps, [record[name] for _, record in records], "os^vD"[k % 5] + "-", label=label, **style)
        axes.set_ylabel(what, fontsize=11)
        axes.grid(alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=10)
    lower.set_xlabel("training step", fontsize=11)
    save_figure(figure, path)
