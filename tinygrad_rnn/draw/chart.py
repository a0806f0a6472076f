"""Gradient through time: how fast the gradient of each state falls, or grows, on the way back from the loss.

After this file the reader knows what "the gradient vanishes" means as a number: the slope of a straight line through
log10 ‖∂L/∂h_t‖ against the lag, in decades per step, and the number of steps in which the gradient halves.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..arguments import one_of
from ..graph.line import line_through
from ..graph.model import GradientGraph
from ..graph.steps import states
from ..norms import Norm, State, norm_of
from .figure import COLOURS, LINES, check_format, new_figure, plain, save_figure
from .style import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..tensor import Tensor


@dataclass(frozen=True)
class Decay:
    """The gradient of one state through time.

    Attributes
    ----------
    network, state : str
        Title of the graph it comes from ("" for a single one), and the state's name: ``h``, or ``h layer 0 reverse``.
    table : tuple of (int, int, float)
        (time step, lag, norm of the gradient), latest step first; the lag counts steps back from the last one, which
        for a reverse direction is the first of the sequence.
    slope : float
        Decades per step back in time, as `diagnose.gradient_flow` has it: by least squares over the lags from 10 on
        (of a short sequence from the middle on), zeros and infinities left out, the median over the sequences;
        negative where the gradient vanishes. NaN with fewer than two norms.
    intercept : float
        Log10 of the norm at lag 0 on that line.
    """

    network: str
    state: str
    table: tuple[tuple[int, int, float], ...] = field(repr=False)  # as long as the sequence
    slope: float
    intercept: float

    @property
    def half_life(self) -> float:
        """Steps in which the gradient halves (doubles, if the slope is positive): log10(2) / |slope|."""
        return math.log10(2.0) / abs(self.slope) if self.slope else math.inf

    @property
    def label(self) -> str:
        """One line for a legend."""
        name = f"{self.network} " if self.network else ""
        half = "halves" if self.slope < 0 else "doubles"
        if math.isnan(self.slope):
            return f"{name}{self.state}"
        return f"{name}{self.state}: {self.slope:+.3g} decades per step, {half} in {self.half_life:.3g} steps"


@dataclass(frozen=True)
class GradientThroughTime:
    """The decays of all states of one or several networks: numbers; `plot` and `save` need matplotlib.

    Attributes
    ----------
    decays : tuple of Decay
    norm : {"l2", "rms", "max"}
    """

    decays: tuple[Decay, ...]
    norm: Norm

    def __getitem__(self, key: str | tuple[str, str]) -> Decay:
        """The decay of a state: ``["h"]`` of a single network, ``["LSTM", "c"]`` of several."""
        network, state = ("", key) if isinstance(key, str) else key
        for decay in self.decays:
            if (decay.network, decay.state) == (network, state):
                return decay
        known = ", ".join(repr((d.network, d.state) if d.network else d.state) for d in self.decays)
        remedy = "; where a cell gives its state no name, that of the operation stands: h.name = 'h'" * ("#" in known)
        raise KeyError(f"no {key!r} among {known}{remedy}")

    def _repr_html_(self) -> str:
        """In a notebook: the lines on an axis of decades, and a row of colours for each."""
        from .sight import shown
        from .svg import svg

        kinds: dict[bool, State] = {True: "finite", False: "zero"}
        lanes = [
            (decay.network, decay.state, [(t, x, kinds[x > 0.0] if x < math.inf else "nan") for t, _, x in decay.table])
            for decay in self.decays
        ]
        return svg(shown(lanes, self.norm, [10.0**decay.slope for decay in self.decays]), inline=True)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw log10 of the norms against the lag, with the fitted lines; needs ``tinygrad-rnn[plot]``."""
        if axes is None:
            axes = new_figure().add_subplot()
        networks = list(dict.fromkeys(decay.network for decay in self.decays))
        names = list(dict.fromkeys(decay.state for decay in self.decays))
        for decay in self.decays:
            points = [(lag, math.log10(size)) for _, lag, size in decay.table if 0.0 < size < math.inf]
            colour = COLOURS[(networks.index(decay.network) * len(names) + names.index(decay.state)) % len(COLOURS)]
            axes.plot(*zip(*points, strict=True), ".", color=colour, markersize=5) if points else None
            ends = np.array([decay.table[0][1], decay.table[-1][1]])
            line = LINES[names.index(decay.state) % len(LINES)]
            label = plain(clean(decay.label, 80))
            axes.plot(ends, decay.intercept + decay.slope * ends, line, color=colour, linewidth=1.5, label=label)
        axes.set_xlabel("lag: steps back from the last one")
        axes.set_ylabel("log₁₀ ‖∂L/∂state‖" + ("" if self.norm == "l2" else f" ({self.norm})"))
        axes.legend(frameon=False, fontsize="small")
        axes.grid(alpha=0.25)
        return axes

    def save(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write the chart; the suffix decides the format (.svg, .png, .pdf). Needs ``tinygrad-rnn[plot]``."""
        check_format(path)
        figure = new_figure()
        axes = self.plot(figure.add_subplot())
        if title:
            axes.set_title(plain(title))
        save_figure(figure, path)


def gradient_through_time(
    graph: GradientGraph | Tensor | Mapping[str, GradientGraph | Tensor],
    path: str | os.PathLike[str] | None = None,
    *,
    norm: Norm = "l2",
    title: str | None = None,
) -> GradientThroughTime:
    """Measure how the gradient of each state changes with the lag; with a path, also draw it.

    Parameters
    ----------
    graph : Tensor, GradientGraph, or mapping of str to these
        Losses of unrolled networks, or their graphs.
    path : path-like, optional
        Where to save the chart: .svg, .png or .pdf.
    norm : {"l2", "rms", "max"}
    title : str, optional

    Returns
    -------
    GradientThroughTime
        The numbers; computing them needs no matplotlib.

    Raises
    ------
    ValueError
        If a graph has no time steps that hand on a state, or for an unknown suffix.
    ImportError
        If the chart is wanted and matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.draw import gradient_through_time
    >>> outputs, h = tg.unroll(tg.RNNCell(1, 4, rng=0), np.ones((30, 1)))
    >>> measured = gradient_through_time(tg.sum(h))
    >>> f"{measured['h'].slope:.2f} decades per step, halves in {measured['h'].half_life:.1f} steps"
    '-0.37 decades per step, halves in 0.8 steps'
    """
    from .picture import graph_of

    one_of("norm", norm, get_args(Norm))
    sources = graph if isinstance(graph, Mapping) else {"": graph}
    decays: list[Decay] = []
    for name, source in sources.items():
        found = states(graph_of(source))
        if not found:
            raise ValueError(
                f"{name or 'the graph'} has no time steps that hand on a state: unroll a cell, or open scopes t=1, t=2"
            )
        for state, lane in found.items():
            found_in = {t: node.gradient for t, node in lane.items() if node.gradient is not None}
            decays.append(_decay(str(name), state, found_in, norm))
    measured = GradientThroughTime(tuple(decays), norm)
    if path is not None:
        measured.save(path, title)
    return measured


def _decay(network: str, state: str, gradients: Mapping[int, NDArray[Any]], norm: Norm) -> Decay:
    newest = list(gradients)[::-1]  # of a reverse direction, the first step of time
    table = tuple((t, abs(newest[0] - t), norm_of(gradients[t], norm)) for t in newest)
    line = line_through([gradients[t] for t in newest])
    points = [(lag, math.log10(size)) for _, lag, size in table[line.first :] if 0.0 < size < math.inf]
    lag, log = np.mean(points, axis=0) if points else (math.nan, math.nan)
    return Decay(network, state, table, line.slope, float(log - line.slope * lag))
