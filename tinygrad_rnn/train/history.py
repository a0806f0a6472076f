"""History: what happened during training, as numbers, a table and a chart.

After this file the reader knows how to tell learning from standing still: by the dashed line, which is the loss of the
best answer that remembers nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import FROM_0_TO_1, number
from ..figure import COLOURS, check_format, new_figure, plain, save_figure
from ..files import columns, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass
class History:
    """A training run as numbers.

    Attributes
    ----------
    task, baseline_means, metric_name : str
    baseline : float
        The loss of the best answer that remembers nothing.
    solved_below : float
    losses, norms : list of float
        Loss and norm of the gradient (before clipping) at each step, from step 1.
    metrics : list of (int, float)
        The metric after these steps.
    records : list of (int, dict)
        What callbacks returned after these steps.
    """

    task: str
    baseline: float
    baseline_means: str
    metric_name: str
    solved_below: float
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    metrics: list[tuple[int, float]] = field(default_factory=list)
    records: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps there were."""
        return len(self.losses)

    @property
    def solved_at(self) -> int | None:
        """The first step after which the metric was found below `solved_below`; None if it never was."""
        return next((step for step, value in self.metrics if value < self.solved_below), None)

    def last(self) -> str:
        """What is known of the last step, in a few words."""
        known = [("loss", self.losses[-1:]), (self.metric_name, [value for _, value in self.metrics[-1:]])]
        return ", ".join(f"{name} {values[0]:.4g}" for name, values in known if values) or "no step yet"

    def smooth(self, rate: float = 0.001) -> NDArray[np.float64]:
        """The running mean s ← (1 - rate) s + rate · loss, from the baseline on, as min-char-rnn prints it."""
        rate = number("rate", rate, FROM_0_TO_1)
        smoothed, s = np.empty(self.steps), self.baseline
        for k, loss in enumerate(self.losses):
            s += rate * (loss - s)
            smoothed[k] = s
        return smoothed

    def table(self) -> str:
        """One line for each step at which the metric was taken or a callback recorded something.

        The loss is the mean over the steps since the line before.
        """
        extra = dict(self.records)
        names = list(dict.fromkeys(name for _, record in self.records for name in record))
        metrics, rows, before = dict(self.metrics), [["step", "loss", self.metric_name, "gradient", *names]], 0
        for step in sorted({*metrics, *extra} or {self.steps} - {0}):
            values = [np.mean(self.losses[before:step]), metrics.get(step), np.mean(self.norms[before:step])]
            values += [extra.get(step, {}).get(name) for name in names]
            rows.append([str(step), *("" if v is None else f"{v:.4g}" if np.ndim(v) == 0 else "…" for v in values)])
            before = step
        return "\n".join(columns(rows))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data; `from_dict` takes it back exactly."""
        own = {name: list(value) if isinstance(value, list) else value for name, value in vars(self).items()}
        return own | {"steps": self.steps, "solved_at": self.solved_at}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> History:
        """The history that `to_dict` told."""
        own = {name: data[name] for name in cls.__dataclass_fields__}
        for name in ("metrics", "records"):
            own[name] = [(step, value) for step, value in own[name]]
        return cls(**own)

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` to a file, whole or not at all."""
        write_whole(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw loss and metric with the baseline as a dashed line; needs ``tinygrad-rnn[plot]``.

        The loss of each step is pale; beside it stands its mean over a fortieth of the run.
        """
        axes = axes or new_figure().add_subplot()
        losses, width = np.array(self.losses), max(1, self.steps // 40)
        axes.plot(np.arange(1, self.steps + 1), losses, color=COLOURS[0], alpha=0.25, linewidth=0.8)
        if self.steps:
            means = np.convolve(losses, np.full(width, 1 / width), "valid")
            axes.plot(np.arange(width, self.steps + 1), means, color=COLOURS[0], linewidth=1.8, label="loss")
        if self.metrics:
            steps, values = zip(*self.metrics, strict=True)
            axes.plot(steps, values, "o", color=COLOURS[1], label=plain(self.metric_name))
        if self.solved_at is not None:
            axes.axvline(self.solved_at, color="0.4", linestyle=":", label=f"solved at {self.solved_at}")
        label = plain(f"baseline {self.baseline:.4g}: {self.baseline_means.partition(':')[0]}")
        axes.axhline(self.baseline, color="0.2", linestyle="--", linewidth=1.2, label=label)
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # 0.2, not 2 × 10⁻¹
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if high < 20 * low else "")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.legend(frameon=False, fontsize="small")
        axes.grid(alpha=0.25)
        return axes

    def save(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write the chart; the suffix decides the format (.svg, .png, .pdf). Needs ``tinygrad-rnn[plot]``."""
        check_format(path)
        figure = new_figure()
        self.plot(figure.add_subplot()).set_title(plain(title or self.task))
        save_figure(figure, path)

    def __repr__(self) -> str:
        last = f", last loss {self.losses[-1]:.4g}" if self.losses else ""
        solved = "" if self.solved_at is None else f", solved at {self.solved_at}"
        return f"History({self.task!r}, {self.steps} steps, baseline {self.baseline:.4g}{last}{solved})"
