"""The interactive page: one file with the picture at every level, and a viewer that needs no network.

After this file the reader knows what travels in the page: pictures that were laid out here, their elements in the order
of a table that tells each edge's ends, norm and time, and a viewer (``viewer.js``) that only shows and hides.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any, Literal

from ..graph.model import GradientGraph
from ..graph.steps import rows_of, states, steps_of
from ..norms import norm_of
from . import paint
from .geometry import Rect
from .marks import Drawing, Group
from .page import document
from .sight import Sight, drawn, placed, shape_of
from .style import THEMES, Options, number
from .svg import Palette, elements, view_of
from .view import ENDS, FULL, SMALL, View

MAX_EDGES = 6_000
"""Edges on one page, all levels together (about 900 bytes each); a level that does not fit is left out."""

_LEVELS: tuple[Literal["step", "gate", "op"], ...] = ("step", "gate", "op")
_NAMES = {"view": "Overview", "step": "Steps", "gate": "Gates", "op": "Operations"}


def page(
    sources: Mapping[str, GradientGraph],
    view: View,
    first: Sight,
    labels: bool | Literal["auto"] = "auto",
    title: str = "",
    subtitle: str = "",
) -> str:
    """A self-contained interactive page of one or several graphs.

    Parameters
    ----------
    sources : mapping of str to GradientGraph
        The whole graphs, by title.
    view : View
        What is shown first.
    first : Sight
        The same as it was drawn. Its theme counts if it is dark, else the page follows the reader's preference.
    labels : bool or "auto"
        Numbers on the edges of what is not shown first.
    title, subtitle : str

    Returns
    -------
    str
        HTML that references nothing outside of itself.
    """
    options = first.drawing.options
    sights, chosen = _sights(sources, view, first, labels)
    palette, description = Palette(), _description(sources, options)
    pictures = {name: _picture(name, sight.drawing, palette, description) for name, sight in sights.items()}
    # What is not seen at first is packed: most of a page would be pictures that nobody looks at.
    levels = {name: _table(sight) | {"picture": pictures[name] * (name != chosen)} for name, sight in sights.items()}
    words = {name: _NAMES[name] + _left_out(sources, sights[name]) for name in _NAMES if name in sights}
    buttons = "".join(
        f'<button type="button" data-level="{name}" aria-pressed="false">{text}</button>'
        for name, text in words.items()
    )
    title = title or "Gradient graph"
    body = _body(title, subtitle, buttons, pictures[chosen], _legend(options, palette, sights))
    style, data = palette.css(".g", list(THEMES.values())), {"first": chosen, "levels": levels}
    return document("viewer", title, options.theme, style, body, data)


# --- what is shown ---------------------------------------------------------------------------------------------------


def _sights(
    sources: Mapping[str, GradientGraph], view: View, first: Sight, labels: bool | Literal["auto"]
) -> tuple[dict[str, Sight], str]:
    """Every level, coarsest first, of long sequences both ends; and the name of the first, whose marks are there."""
    count = max(len(steps_of(graph)) for graph in sources.values())
    room, found = MAX_EDGES, dict[str, list[GradientGraph]]()
    for level in _LEVELS[count > FULL :]:  # boxes of whole steps would be no more than the chart
        ends = 1 if level == "op" and count > FULL else ENDS if count > SMALL else None
        graphs = replace(view, level=level, fold=ends, steps=None).of(sources.values())
        if len(drawn(graphs)) <= room:
            room -= len(drawn(graphs))
            found = {name: other for name, other in found.items() if shape_of(other) != shape_of(graphs)}
            found[level] = graphs  # of a cell without gates, the gate level is the level of operations
    same = [
        name for name, graphs in found.items() if first.series is None and shape_of(graphs) == shape_of(first.graphs)
    ]
    chosen = same[0] if same else "view"
    options = replace(first.drawing.options, labels=labels is not False)  # a page can be looked at from near
    sights = {} if same else {"view": first}
    for name, graphs in found.items():
        sights[name] = first if name == chosen else placed(sources, graphs, view, options)
    return sights, chosen


def _left_out(sources: Mapping[str, GradientGraph], sight: Sight) -> str:
    pairs = zip(sources.values(), sight.graphs, strict=False)
    count = max((len(steps_of(graph)) - len(steps_of(seen)) for graph, seen in pairs), default=0)
    return f", {count} steps left out" * bool(count)


def _description(sources: Mapping[str, GradientGraph], options: Options) -> str:
    """In words, for those who do not see it."""
    parts = [paint.FLOW + "."]
    for name, graph in sources.items():
        parts.append(f"{name or 'The graph'}: {len(graph.nodes)} tensors, {len(graph.edges)} edges.")
        for state, lane in states(graph).items():
            (start, one), *_, (end, other) = [*lane.items(), *lane.items()]
            sizes = ["none" if n.gradient is None else number(norm_of(n.gradient, options.norm)) for n in (other, one)]
            if len(lane) > 1:
                parts.append(f"The gradient of {state} is {sizes[0]} at t={end} and {sizes[1]} at t={start}.")
    return " ".join(parts)


# --- the table of a picture ------------------------------------------------------------------------------------------


def _table(sight: Sight) -> dict[str, Any]:
    """For the viewer: of every node its text and time, of every edge its ends, norm, state, time and text."""
    groups = [item for item in sight.drawing.items if isinstance(item, Group)]
    nodes = [group for group in groups if group.kind != "edge"]
    links = [group for group in groups if group.kind == "edge"]
    rank = {group.name: k for k, group in enumerate(nodes)}
    times, labels = _times(nodes, links, _backwards(sight), [t for t, _ in sight.series or ()])
    kept = {group.name for group in nodes if group.kind == "detail" and group.step is not None}
    reached = {group.name: times[group.name] if group.name in kept else min(labels) for group in nodes}
    edges = []
    for link in links:
        assert link.edge is not None
        size = link.edge.size(sight.drawing.options.norm)
        norm = None if size is None else _plain(size)
        edges.append([rank[link.tail], rank[link.head], norm, link.edge.state, times[link.head], link.tip])
        reached[link.tail] = max(reached[link.tail], times[link.head])
    loss = next((g.name for g in nodes if g.node is not None and g.node.kind == "loss"), nodes[-1].name)
    reached[loss] = max(labels)
    return {
        "nodes": [[group.tip, reached[group.name], times[group.name]] for group in nodes],
        "edges": edges,
        "loss": rank[loss],
        "times": sorted(labels.items()),
        **({"chart": _chart(sight)} if sight.series else {}),
    }


def _chart(sight: Sight) -> dict[str, Any]:
    """For the viewer: where each step stands, and of every row its name and its sizes, step by step."""
    assert sight.series is not None
    rows = [(row.label, {t: _plain(size) for t, size, _ in row.sizes}) for row in sight.lanes]
    steps = [t for t, _ in sight.series]
    return {
        "steps": steps,
        "x": [round(x, 1) for _, x in sight.series],
        "rows": [[label, [sizes.get(t) for t in steps]] for label, sizes in rows],
    }


def _backwards(sight: Sight) -> set[tuple[int, int]]:
    """(graph, node) of what lies in a row that runs from the last time step to the first."""
    found = set()
    for k, graph in enumerate(sight.graphs):
        rows = rows_of(graph)
        if rows is not None:
            found |= {(k, id) for id, row in rows.of.items() if rows.backwards[row]}
    return found


def _times(
    nodes: Sequence[Group], edges: Sequence[Group], backwards: Collection[tuple[int, int]], more: Sequence[int]
) -> tuple[dict[str, int], dict[int, str]]:
    """When backward goes through each node, as a time step, and the names of these times.

    What comes after all steps has the time after the last, what leads to them the one before the first. Through a row
    that runs `backwards` in time the gradient flows from the first step to the last, at the same pace.
    """
    steps = {group.name: group.step for group in nodes if group.step is not None}
    numbers = {*steps.values(), *more}
    turn = min(numbers, default=0) + max(numbers, default=0)
    mirrored = {group.name for group in nodes if group.node and (group.graph, group.node.id) in backwards}
    times = {name: turn - t if name in mirrored else t for name, t in steps.items()}
    labels = {k: f"t = {k}" + f", reverse t = {turn - k}" * bool(backwards) for k in (*times.values(), *more)}
    before, after = min(labels, default=1) - 1, max(labels, default=0) + 1
    users: dict[str, list[str]] = {}
    for edge in edges:
        users.setdefault(edge.tail, []).append(edge.head)
    for group in sorted(nodes, key=lambda group: -(group.node.id if group.node else 0)):
        if group.name not in times:
            late = any(times.get(user, after) < after for user in users.get(group.name, ()))
            times[group.name] = before if late else after
    used = {*(times[edge.head] for edge in edges), *labels, after}
    labels |= {before: "the start", after: "the loss"}
    return times, {k: text for k, text in labels.items() if k in used}


def _plain(x: float) -> float | str:
    """A number with six digits, or what JSON has no number for as text."""
    return float(f"{x:.6g}") if math.isfinite(x) else str(x)


def _picture(name: str, drawing: Drawing, palette: Palette, description: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="g" data-level="{name}" viewBox="{view_of(drawing.page)}" '
        f'role="group" aria-label="gradient graph" aria-describedby="{name}-desc">'
        f'<desc id="{name}-desc">{escape(description)}</desc>\n{elements(drawing, palette, f"{name}-", False)}\n</svg>'
    )


def _legend(options: Options, palette: Palette, sights: Mapping[str, Sight]) -> str:
    """The legend of the pictures, by the very function that draws it there."""
    drawing, rows = Drawing(options), [row for sight in sights.values() for row in sight.rows]
    paint.legend(drawing, Rect(0.0, 0.0, 1000.0, 0.0), rows, [])
    box = drawing.rect.grown(2.0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="g" viewBox="{view_of(box)}" '
        f'width="{(box.right - box.left) * 1.1:.0f}" role="img" aria-label="colour scale and kinds of edges">'
        f"{elements(drawing, palette)}</svg>"
    )


def _body(title: str, subtitle: str, buttons: str, picture: str, legend: str) -> str:
    return f"""<header>
<div class="heading"><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></div>
<div class="bar" role="toolbar" aria-label="View">
<span role="group" aria-label="Level">{buttons}</span>
<span role="group" aria-label="Zoom"><button type="button" id="out" aria-label="Zoom out">−</button>
<button type="button" id="in" aria-label="Zoom in">+</button>
<button type="button" id="fit" aria-label="Fit all into the window">Fit</button></span>
<button type="button" id="theme" aria-label="Light or dark">◐</button>
</div>
<div id="clock"><button type="button" id="play" aria-label="Replay backward">▶</button>
<label for="time">backward has reached</label>
<input type="range" id="time" min="0" max="0" step="1" value="0"/><output id="reached" for="time"></output></div>
</header>
<main id="stage" tabindex="0" aria-label="Graph. Arrow keys move it, plus and minus zoom, 0 fits it, Tab enters it.">
{picture}
</main>
<footer>
<div id="status" role="status" aria-live="polite"></div>
<details id="legend" open="open"><summary>Legend and keys</summary>
<div class="legend">{legend}</div>
<p>{paint.FLOW}.<br/>
Wheel, + and − zoom; dragging and arrow keys move; 0 fits. Tab to a node: arrow keys walk along the edges.</p>
</details>
</footer>"""
