"""What is seen of one or several graphs at one level: a chart of a long sequence, or placed graphs, as marks.

After this file the reader knows what pictures and pages share: a page shows the very marks of its picture, and further
sights of the same graphs beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from ..arguments import flag, one_of
from ..graph.model import GradientGraph
from ..graph.parts import Edge, Level
from ..graph.steps import steps_of
from ..norms import Norm
from . import long, paint
from .layout import arrange
from .lines import SLIDE
from .marks import Drawing
from .scene import Scene
from .style import MAX_LABELS, THEMES, Heads, Options, clean, scale_of, short
from .view import MAX_EDGES, SMALL, View, level_for

Given = tuple[str, Any, Norm, "bool | str", Heads, "tuple[float, float] | None"]
"""The looks as a caller gives them: theme, scale, norm, labels, heads, page."""

MOST_SMALL = 600
"""Edges of small cells: more would be a file of half a megabyte that shows a carpet."""

DECADES = 45
"""The colours of a long sequence go down to 1e-45, where float32 ends."""


@dataclass(frozen=True)
class Sight:
    """The graphs as drawn, at their places, and as marks; `notes` say what these leave unsaid.

    Of a chart, `series` has the place of every time step, and `lanes` what is drawn over them.
    """

    graphs: tuple[GradientGraph, ...]
    rows: tuple[tuple[str, Scene], ...]
    drawing: Drawing
    notes: tuple[str, ...] = ()
    series: tuple[tuple[int, float], ...] | None = None
    lanes: tuple[long.Row, ...] = ()

    @property
    def edges(self) -> list[Edge]:
        """All edges that are drawn."""
        return [placed.edge for _, scene in self.rows for placed in scene.edges]

    def framed(self, title: str, subtitle: str | None) -> Drawing:
        """The marks under a title and above a legend."""
        return paint.framed(self.drawing, self.rows, title, subtitle, self.notes)


def sight(whole: Mapping[str, GradientGraph], view: View, given: Given) -> Sight:
    """What `view` shows of the graphs, in the looks that were asked for."""
    for name, value, known in (("theme", given[0], THEMES), ("norm", given[2], get_args(Norm))):
        one_of(name, value, known)
    one_of("heads", given[4], get_args(Heads))
    if view.long(list(whole.values())):
        return _long(whole, view, given)
    graphs = view.of(whole.values())
    edges = drawn(graphs)
    if len(edges) > MAX_EDGES:
        raise ValueError(
            f"{len(edges)} edges are too many for a picture (limit: {MAX_EDGES}): fold time steps (fold=3), choose "
            'them (steps=[1, 2, 3]), or use level="step"'
        )
    return placed(whole, graphs, view, options_of(given, _sizes(edges, given[2]), len(edges)))


def placed(whole: Mapping[str, GradientGraph], graphs: Sequence[GradientGraph], view: View, options: Options) -> Sight:
    """Graphs as they are, each under its name."""
    width = options.page[0] if options.page else SLIDE
    rows = [
        (name, arrange(graph, f"g{k}" * (len(graphs) > 1), view.parameters, options.norm, width))
        for k, (name, graph) in enumerate(zip(whole, graphs, strict=True))
    ]
    return Sight(
        tuple(graphs), tuple(rows), paint.graphs(rows, options), tuple(_notes(rows, whole, graphs, options.norm))
    )


def _long(whole: Mapping[str, GradientGraph], view: View, given: Given) -> Sight:
    """Lines and rows of colours, and for few steps of one graph the network in small cells."""
    norm, page = given[2], given[5]
    rows = long.rows_of(whole, norm)
    sizes = [size for row in rows for _, size, state in row.sizes if state == "finite"]
    options = options_of(given, sizes, 0, DECADES)
    graphs: list[GradientGraph] = []
    scenes: list[tuple[str, Scene]] = []
    if len(whole) == 1 and len(steps_of(*whole.values())) <= SMALL:
        level: Level = "op" if level_for(*whole.values()) == "op" else "gate"
        graphs = replace(view, parameters="none", level=level).of(whole.values())
        scene = arrange(graphs[0], "", "none", norm, 1e9) if len(drawn(graphs)) <= MOST_SMALL else None
        if scene is not None and long.fits(scene, page[0] if page else SLIDE):
            scenes = [("", scene)]
            sizes += _sizes([p.edge for p in scene.edges], norm)
            options = options_of(given, sizes, 0, DECADES)
    return charted(rows, options, scenes, graphs if scenes else [])


def charted(
    rows: Sequence[long.Row],
    options: Options,
    scenes: Sequence[tuple[str, Scene]] = (),
    graphs: Sequence[GradientGraph] = (),
) -> Sight:
    """States through time as marks, with these graphs in small cells."""
    drawing, series = long.chart(rows, options, scenes[0][1] if scenes else None)
    above = any(size > options.scale.exploding for row in rows for _, size, _ in row.sizes)
    notes = ["whole gradient of each state"]
    if above and not scenes:
        notes.append("red: above 1000" if options.scale.exploding == 1e3 else "red: above the scale")
    if any(long.class_of(size, state, options.scale) == "panel" for row in rows for _, size, state in row.sizes):
        notes.append("empty: zero in float32")
    return Sight(tuple(graphs), tuple(scenes), drawing, ("; ".join(notes),), tuple(series.items()), tuple(rows))


def shape_of(graphs: Sequence[GradientGraph]) -> list[tuple[Any, ...]]:
    """The same for two levels that show the same."""
    return [(e.source, e.target, e.operand, e.internal) for graph in graphs for e in graph.edges]


def drawn(graphs: Sequence[GradientGraph]) -> list[Edge]:
    """The edges of some graphs that are drawn."""
    return [edge for graph in graphs for edge in graph.edges if not edge.internal]


def _sizes(edges: Sequence[Edge], norm: Norm) -> list[float]:
    return [size for e in edges if e.state == "finite" and (size := e.size(norm)) is not None]


def options_of(given: Given, sizes: Sequence[float], edges: int, most: int = 12) -> Options:
    """The looks for so many edges, whose gradients have these sizes."""
    theme, scale, norm, labels, heads, page = given
    numbered = edges <= MAX_LABELS if isinstance(labels, str) and labels == "auto" else flag("labels", labels)
    return Options(THEMES[theme], scale_of(scale, sizes, most), norm, numbered, heads, page)


def _notes(
    rows: Sequence[tuple[str, Scene]], whole: Mapping[str, GradientGraph], graphs: Sequence[GradientGraph], norm: Norm
) -> list[str]:
    """What the picture leaves unsaid: leaves that are drawn several times are still one array."""
    notes: list[str] = []
    shared = {
        p.node.id: p.node for _, scene in rows for p in scene.nodes if scene.shared.get(p.node.id) and p.node.name
    }
    leaves = [node for node in shared.values() if node.kind == "parameter"]
    names = list(dict.fromkeys(str(short(clean(node.name or ""))) for node in leaves))
    if names:
        what = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
        notes.append(f"{what}: one array each, drawn wherever it is used; its gradient is the sum over these")
    if any(scene.lanes for _, scene in rows):
        notes.append("boxes: the whole gradient; bold: the sum over all steps, as vectors")
    for graph, seen in zip(whole.values(), graphs, strict=True):
        left_out = len(steps_of(graph)) - len(steps_of(seen))
        if left_out:
            notes.append(f"{left_out} steps between are left out; what comes from them is dashed")
            rates = [row.label + rate for row in long.rows_of({"": graph}, norm) if (rate := long.rate_of(row))]
            notes += ["gradient of " + ", ".join(rates[: long.FEW_LINES])] * bool(rates)
    return list(dict.fromkeys(notes))
