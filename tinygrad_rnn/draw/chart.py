"""Gradient through time: how fast the gradient of each state falls, or grows, on the way back from the loss.

After this file the reader knows what "the gradient vanishes" means as a number: the slope of a straight line through
log10 ‖∂L/∂h_t‖ against the lag, in decades per step, and the number of steps in which the gradient halves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

import numpy as np

from ..arguments import one_of
from ..graph.line import half_life, line_through
from ..graph.model import GradientGraph
from ..graph.steps import states
from ..norms import Norm, norm_of, state_of
from .style import clean

if TYPE_CHECKING:
    from ..tensor import Tensor
    from .picture import Picture


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
    """

    network: str
    state: str
    table: tuple[tuple[int, int, float], ...] = field(repr=False)  # as long as the sequence
    slope: float

    @property
    def half_life(self) -> float:
        """Steps in which the gradient halves (doubles, if the slope is positive): log10(2) / |slope|."""
        return half_life(self.slope)


@dataclass(frozen=True)
class GradientThroughTime:
    """The decays of all states of one or several networks: numbers, and a chart of them.

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
        return self._picture("")._repr_html_()

    def _picture(self, title: str) -> Picture:
        from .long import Row
        from .picture import PAGES, Picture
        from .sight import DECADES, charted, options_of

        rows = []
        for decay in self.decays:
            sizes = [(t, x, state_of(np.array(x), False)) for t, _, x in decay.table]
            rows.append(Row(clean(decay.network), clean(decay.state), tuple(sorted(sizes)), decay.slope, sizes[0][0]))
        finite = [size for row in rows for _, size, state in row.sizes if state == "finite"]

        options = options_of(("light", None, self.norm, "auto", "gradient", PAGES["notebook"]), finite, 0, DECADES)
        return Picture(charted(rows, options), (title, None))

    def save(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write the chart, as `draw` draws a long sequence; the suffix decides the format, as in `Picture.save`."""
        self._picture(clean(title or "", 120)).save(path)


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
        Where to save the chart: .svg, .png, .pdf or .dot.
    norm : {"l2", "rms", "max"}
    title : str, optional

    Returns
    -------
    GradientThroughTime
        The numbers; in a notebook it shows its chart.

    Raises
    ------
    ValueError
        If a graph has no time steps that hand on a state, or for an unknown suffix.

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
            gradients = {t: node.gradient for t, node in lane.items() if node.gradient is not None}
            newest = list(gradients)[::-1]  # of a reverse direction, the first step of time
            table = tuple((t, abs(newest[0] - t), norm_of(gradients[t], norm)) for t in newest)
            slope = line_through([gradients[t] for t in newest]).slope
            decays.append(Decay(str(name), state, table, slope))
    measured = GradientThroughTime(tuple(decays), norm)
    if path is not None:
        measured.save(path, title)
    return measured
