"""Charts of the reports: log10 of the gradient against the lag, measured and from theory, on one scale.

After this file the reader knows how a chart is read: dots are measured (the median over the sequences, a band holds the
middle 80 %), a cross marks an exact zero, grey lines are theory, a grey band is what default networks do on the same
data. In a comparison the line through the dots is the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..figure import COLOURS, LINES, new_figure, plain
from ..graph.line import FLOAT16_ZERO, FLOAT32_ZERO
from .flow import Flow
from .measure import Lane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


GREY = "#59636e"
LABEL = 11


def _dots(axes: Axes, logs: Any, colour: str, label: str, marker: str) -> None:
    """The median over the sequences, and the band that holds the middle 80 % of them."""
    logs = logs[~np.isnan(logs).all(axis=1)]
    lags, middle = np.arange(len(logs)), np.nanmedian(logs, axis=1)
    known = np.isfinite(middle)
    every = slice(None, None, max(1, len(lags) // 50))
    axes.plot(
        lags[known][every], middle[known][every], marker, color=colour, markersize=4, alpha=0.8, label=plain(label)
    )
    if logs.shape[1] > 1 and np.isfinite(logs).all():
        low, high = np.quantile(logs, [0.1, 0.9], axis=1)
        axes.fill_between(lags, low, high, color=colour, alpha=0.15, linewidth=0)
    if (zeros := lags[np.isneginf(middle)]).size:
        bottom = np.full(len(zeros[every]), min(middle[known], default=0.0))
        axes.plot(zeros[every], bottom, "x", color=colour, markersize=5, label="exactly zero")


def _lane(axes: Axes, lane: Lane, colour: str, label: str, marker: str) -> None:
    """Dots, band and fitted line of one state."""
    line, fitted = lane.line, bool(np.isfinite(lane.line.slope))
    _dots(axes, lane.logs, colour, "" if fitted else label, marker)
    if fitted:
        ends = np.array([line.first, line.last])
        axes.plot(ends, line.intercept + line.slope * ends, color=colour, linewidth=2.2, label=plain(label))


def _rate(lane: Lane) -> str:
    slope = lane.line.slope
    return f"{slope:+.3g} decades a step" if np.isfinite(slope) else "no slope"


def _below(axes: Axes, what: str, drop: float) -> None:
    """What stands along the axes, and below them the legend: there it covers no dot."""
    axes.set_xlabel("lag: steps back from the last one", fontsize=LABEL)
    axes.set_ylabel(what, fontsize=LABEL)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -drop), ncols=1, frameon=False, fontsize=10)


def _frame(axes: Axes, title: str, what: str, size: float = 0.0) -> None:
    """Names, and where float16 and float32 end; `size` is log10 of what the axis is relative to."""
    axes.set_title(plain(title), fontsize=LABEL, loc="left")
    low, high = axes.get_ylim()
    for name, limit in (("float16", FLOAT16_ZERO - size), ("float32", FLOAT32_ZERO - size)):
        if low < limit < high:
            axes.axhline(limit, color=GREY, linewidth=0.8)
            place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "bottom", "ha": "right"}
            axes.annotate(f"{name} reads zero", (1.0, limit), fontsize=9, color=GREY, **place)
    axes.set_ylim(low, high)
    _below(axes, what, 0.13)


def _theory(axes: Axes, flow: Flow) -> None:
    start = next((float(np.median(a[0])) for (_, name), a in flow.end.states.items() if name == "h"), -np.inf)
    for k, line in enumerate(flow.theory if np.isfinite(start) else ()):
        label = f"{line.kind}: {line.name}, {line.slope:+.3g}"
        style = LINES[(k + 1) % len(LINES)]
        axes.plot(np.arange(len(line.logs)), start + line.logs, style, color=GREY, linewidth=1.4, label=plain(label))


def _flow(axes: Axes, flow: Flow) -> None:
    """What reaches the inputs and the states of one network, beside theory and default networks."""
    end, judged = flow.end, flow.judgement
    band = [curve for curve in flow.verdict.curves if len(curve) == len(end.curve)]
    if band:
        low, high = np.min(band, axis=0), np.max(band, axis=0)
        shown = np.isfinite(low) & np.isfinite(high)
        label = f"inputs, default weights, {len(band)} seeds"
        axes.fill_between(np.arange(len(low))[shown], low[shown], high[shown], color=GREY, alpha=0.25, label=label)
    if end.x is not None:
        _dots(axes, end.x, "black", "inputs: what one of its own size moves the output by", "d")
    for k, (key, logs) in enumerate(end.states.items()):
        label = f"{key[1]} {key[0]}".strip()
        rate = f": {_rate(flow.lanes[key])}" if key in flow.lanes else ""
        _dots(axes, logs, COLOURS[k % len(COLOURS)], f"∂L/∂{label}{rate}", "os^v"[k // len(COLOURS) % 4])
    _theory(axes, flow)
    title = f"{flow.setting.model}, {flow.setting.when}\n{judged.word.upper()}: {judged.reason}"
    size = float(np.median(end.size))
    _frame(axes, title, "log₁₀ of what is left of ‖∂L/∂output‖", size if np.isfinite(size) else 0.0)


def flow_figure(flow: Flow) -> Figure:
    """The chart of a report; beneath it, where a state is carried, the share that came that way."""
    figure = new_figure(8.0, 7.6 if flow.shares else 5.8)
    if not flow.shares:
        _flow(figure.add_subplot(), flow)
        return figure
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1.2])
    _flow(upper, flow)
    for k, share in enumerate(flow.shares.values()):
        name = f"{share.name} {share.layer}".strip()
        lag = min(10, len(share.mean) - 1)
        label = f"carried along {name}: {share.mean[lag]:.2f} at lag {lag}"
        lower.plot(np.arange(len(share.mean)), share.mean, color=COLOURS[k % len(COLOURS)], linewidth=2.2, label=label)
    lower.axhline(0.0, color=GREY, linewidth=0.8)
    lower.axhline(1.0, color=GREY, linewidth=0.8)
    _below(lower, "share carried", 0.32)
    return figure


def comparison_figure(flows: Mapping[str, Flow]) -> Figure:
    """∂L/∂h of every network, on one scale."""
    figure = new_figure(8.0, 5.8)
    axes = figure.add_subplot()
    for k, (name, flow) in enumerate(flows.items()):
        label = f"{name}: {flow.word}, {_rate(flow.main)}"
        _lane(axes, flow.main, COLOURS[k % len(COLOURS)], label, "os^v"[k // len(COLOURS) % 4])
    first = next(iter(flows.values()))
    _frame(axes, f"∂L/∂h, {first.setting.when}\n{first.setting.loss}", "log₁₀ ‖∂L/∂state‖")
    return figure
