"""Charts of the reports: log10 of the gradient against the lag, measured and from theory, on one scale.

After this file the reader knows how a chart is read: dots are measured (the median over the sequences, a band holds the
middle 80 %), the line through them is the fit, grey lines are theory, a cross marks an exact zero.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..draw.figure import COLOURS, LINES, check_format, figure_bytes, new_figure, plain, save_figure
from .line import FLOAT32_ZERO
from .measure import Lane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .compare import Comparison
    from .report import GradientFlow

GREY = "#59636e"
LABEL = 11


def _lane(axes: Axes, lane: Lane, colour: str, label: str, marker: str = "o") -> None:
    """Dots, band and fitted line of one state."""
    lags = np.arange(len(lane.logs))
    middle = np.median(lane.logs, axis=1)
    known = np.isfinite(middle)
    every = slice(None, None, max(1, len(lags) // 50))
    axes.plot(lags[known][every], middle[known][every], marker, color=colour, markersize=4, alpha=0.8)
    if lane.logs.shape[1] > 1 and np.isfinite(lane.logs).all():
        low, high = np.quantile(lane.logs, [0.1, 0.9], axis=1)
        axes.fill_between(lags, low, high, color=colour, alpha=0.15, linewidth=0)
    line = lane.line
    if np.isfinite(line.slope):
        ends = np.array([line.first, line.last])
        axes.plot(ends, line.intercept + line.slope * ends, color=colour, linewidth=2.2, label=plain(label))
    else:
        axes.plot([], [], marker, color=colour, label=plain(label))
    if not known.all():
        zeros = lags[~known]
        bottom = min(middle[known], default=0.0)
        axes.plot(
            zeros[every], np.full(len(zeros[every]), bottom), "x", color=colour, markersize=5, label="exactly zero"
        )


def _rate(lane: Lane) -> str:
    line = lane.line
    if not np.isfinite(line.slope):
        return "no slope"
    return f"{line.slope:+.3g} decades a step"


def _frame(axes: Axes, title: str) -> None:
    axes.set_xlabel("lag: steps back from the last one", fontsize=LABEL)
    axes.set_ylabel("log₁₀ ‖∂L/∂state‖", fontsize=LABEL)
    axes.grid(alpha=0.25)
    axes.set_title(plain(title), fontsize=LABEL, loc="left")
    low, high = axes.get_ylim()
    if low < FLOAT32_ZERO:
        axes.axhline(FLOAT32_ZERO, color=GREY, linewidth=0.8)
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "bottom", "ha": "right"}
        axes.annotate("float32 reads zero", (1.0, FLOAT32_ZERO), fontsize=9, color=GREY, **place)
    axes.set_ylim(low, high)
    # Below the axes no legend can cover a dot.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=1, frameon=False, fontsize=10)


def _theory(axes: Axes, flow: GradientFlow) -> None:
    main = flow.main
    start = float(np.median(main.logs[0]))
    if not np.isfinite(start):
        return
    for k, line in enumerate(flow.theory):
        label = f"{line.kind}: {line.name}, {line.slope:+.3g}"
        style = LINES[(k + 1) % len(LINES)]
        axes.plot(np.arange(len(line.logs)), start + line.logs, style, color=GREY, linewidth=1.4, label=plain(label))


def plot_flow(flow: GradientFlow, axes: Axes | None = None) -> Axes:
    """The states of one network, with theory."""
    if axes is None:
        axes = new_figure(8.0, 5.4).add_subplot()
    lanes = [lane for lane in flow.lanes.values() if lane.state]
    for k, lane in enumerate(lanes):
        _lane(axes, lane, COLOURS[k % len(COLOURS)], f"∂L/∂{lane.label}: {_rate(lane)}", "os^v"[k // len(COLOURS) % 4])
    _theory(axes, flow)
    judged = flow.judgement
    _frame(axes, f"{flow.setting.model}, {flow.setting.when}\n{judged.word.upper()}: {judged.reason}")
    return axes


def flow_figure(flow: GradientFlow) -> Figure:
    """The chart of a report; beneath it, where a state is carried, the share that came that way."""
    if not flow.shares:
        figure = new_figure(8.0, 5.8)
        plot_flow(flow, figure.add_subplot())
        return figure
    figure = new_figure(8.0, 7.6)
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1.2])
    plot_flow(flow, upper)
    for k, share in enumerate(flow.shares.values()):
        name = f"{share.name} {share.layer}".strip()
        lag = min(10, len(share.mean) - 1)
        label = f"carried along {name}: {share.mean[lag]:.2f} at lag {lag}"
        lower.plot(np.arange(len(share.mean)), share.mean, color=COLOURS[k % len(COLOURS)], linewidth=2.2, label=label)
    lower.axhline(0.0, color=GREY, linewidth=0.8)
    lower.axhline(1.0, color=GREY, linewidth=0.8)
    lower.set_xlabel("lag: steps back from the last one", fontsize=LABEL)
    lower.set_ylabel("share carried", fontsize=LABEL)
    lower.grid(alpha=0.25)
    lower.legend(loc="upper center", bbox_to_anchor=(0.5, -0.32), ncols=1, frameon=False, fontsize=10)
    return figure


def plot_comparison(compared: Comparison, axes: Axes | None = None) -> Axes:
    """∂L/∂h of every network, on one scale."""
    if axes is None:
        axes = new_figure(8.0, 5.4).add_subplot()
    for k, (name, flow) in enumerate(compared.flows.items()):
        label = f"{name}: {flow.word}, {_rate(flow.main)}"
        _lane(axes, flow.main, COLOURS[k % len(COLOURS)], label, "os^v"[k // len(COLOURS) % 4])
    first = next(iter(compared.flows.values()))
    _frame(axes, f"∂L/∂h, {first.setting.when}\n{first.setting.loss}")
    return axes


def comparison_figure(compared: Comparison) -> Figure:
    """The chart of a comparison."""
    figure = new_figure(8.0, 5.8)
    plot_comparison(compared, figure.add_subplot())
    return figure


def save_flow(flow: GradientFlow, path: str | os.PathLike[str], title: str | None = None) -> None:
    """Write the chart of a report."""
    _save(flow_figure, flow, path, title)


def save_comparison(compared: Comparison, path: str | os.PathLike[str], title: str | None = None) -> None:
    """Write the chart of a comparison."""
    _save(comparison_figure, compared, path, title)


def _save(figure_of: Callable[..., Figure], report: object, path: str | os.PathLike[str], title: str | None) -> None:
    check_format(path)
    figure = figure_of(report)
    if title:
        figure.axes[0].set_title(plain(title), fontsize=LABEL, loc="left")
    save_figure(figure, path)


def bundle(text: str, figure: Callable[[], Figure]) -> dict[str, str]:
    """What a notebook shows: the chart where matplotlib is installed, and the text."""
    try:
        picture = figure_bytes(figure(), "png")
    except ImportError:
        return {"text/plain": text}
    return {"text/plain": text, "image/png": base64.b64encode(picture).decode("ascii")}
