"""The interactive page: one file with the picture at every level, and a viewer that needs no network.

After this file the reader knows what travels in the page: pictures that were laid out here, their elements in the order
of a table that tells each edge's ends, norm and time, and a viewer (``viewer.js``) that only shows and hides. Names
that users chose reach the page as escaped text alone, and its content policy lets no script run but the viewer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from importlib.resources import files
from typing import Any, Literal

from ..graph.model import GradientGraph
from ..graph.parts import Node
from ..graph.steps import is_folded, rows_of, states, step_number
from ..norms import norm_of
from . import paint
from .geometry import Rect
from .layout import arrange_all
from .marks import Drawing, Group
from .scene import Scene
from .style import THEMES, Options, number, steps_in
from .svg import Palette, elements, view_of
from .view import View

MAX_EDGES = 6_000
"""Edges on one page, all levels together (about 900 bytes each); a level that does not fit is folded."""

MAX_NUMBERS = 3_000
"""A level with more edges leaves their numbers to the tooltips."""

_LEVELS: tuple[Literal["step", "gate", "op"], ...] = ("step", "gate", "op")
_NAMES = {"view": "Overview", "step": "Steps", "gate": "Gates", "op": "Operations"}


@dataclass(frozen=True)
class Sight:
    """What is seen at one level: the graphs as drawn, at their places, and as marks."""

    graphs: tuple[GradientGraph, ...]
    rows: tuple[tuple[str, Scene], ...]
    drawing: Drawing

    @property
    def shape(self) -> list[tuple[Any, ...]]:
        """The same for two levels that show the same."""
        return [(e.source, e.target, e.operand, e.internal) for graph in self.graphs for e in graph.edges]


def page(
    sources: Mapping[str, GradientGraph],
    view: View,
    options: Options,
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
    options : Options
        Scale and norm; its theme counts if it is dark, else the page follows the reader's preference.
    labels : bool or "auto"
        Numbers on the edges; "auto" up to 3000 edges.
    title, subtitle : str

    Returns
    -------
    str
        HTML that references nothing outside of itself.
    """
    sights, first = _sights(sources, view, options, labels)
    palette, pictures, tables = Palette(), [], {}
    for name, sight in sights.items():
        tables[name] = _table(sight)
        pictures.append(_picture(name, sight.drawing, palette, _description(sources, options), hidden=name != first))
    key = _legend(options, palette, sights)
    style = _text("viewer.css") + palette.css(".g", list(THEMES.values()))
    return _document(
        title=escape(title or "Gradient graph"),
        subtitle=escape(subtitle),
        style=style,
        theme=' data-theme="dark"' if options.theme.name == "dark" else "",
        buttons="".join(
            f'<button type="button" data-level="{name}" aria-pressed="false">{text}{_folded(sights[name])}</button>'
            for name, text in _NAMES.items()
            if name in sights
        ),
        pictures="\n".join(pictures),
        legend=key,
        data=_json({"first": first, "levels": tables}),
    )


# --- what is shown ---------------------------------------------------------------------------------------------------


def _sights(
    sources: Mapping[str, GradientGraph], view: View, options: Options, labels: bool | Literal["auto"]
) -> tuple[dict[str, Sight], str]:
    """Every level, coarsest first, folded where it would not fit; and the one to begin with."""
    room, found = MAX_EDGES, dict[str, Sight]()
    for level in _LEVELS:
        whole = replace(view, level=level, fold=None, steps=None)
        graphs = whole.of(sources.values())
        if _count(graphs) > room:
            graphs = replace(whole, fold=3).of(sources.values())
        if _count(graphs) > room:
            continue
        sight = _sight(sources, graphs, view, options, labels)
        found = {name: other for name, other in found.items() if other.shape != sight.shape}
        found[level] = sight  # of a cell without gates, the gate level is the level of operations
        room -= _count(graphs)
    chosen = view.of(sources.values())
    sight = _sight(sources, chosen, view, options, labels)
    for name, other in found.items():
        if other.shape == sight.shape:
            return found, name
    return {"view": sight, **found}, "view"


def _folded(sight: Sight) -> str:
    return ", folded" if any(is_folded(node) for graph in sight.graphs for node in graph.nodes) else ""


def _count(graphs: Sequence[GradientGraph]) -> int:
    return sum(not edge.internal for graph in graphs for edge in graph.edges)


def _sight(
    sources: Mapping[str, GradientGraph],
    graphs: Sequence[GradientGraph],
    view: View,
    options: Options,
    labels: bool | Literal["auto"],
) -> Sight:
    rows = arrange_all(dict(zip(sources, graphs, strict=True)), view.parameters, options)
    numbers = _count(graphs) <= MAX_NUMBERS if labels == "auto" else labels
    return Sight(tuple(graphs), tuple(rows), paint.graphs(rows, replace(options, labels=numbers)))


def _description(sources: Mapping[str, GradientGraph], options: Options) -> str:
    """In words, for those who do not see it."""
    parts = [paint.FLOW + "."]
    for name, graph in sources.items():
        parts.append(f"{name or 'The graph'}: {len(graph.nodes)} tensors, {len(graph.edges)} edges.")
        for state, lane in states(graph).items():
            (start, one), *_, (end, other) = [*lane.items(), *lane.items()]
            sizes = [number(norm_of(n.gradient, options.norm)) for n in (other, one) if n.gradient is not None]
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
    times, labels = _times(nodes, links, _backwards(sight))
    reached = {group.name: times[group.name] if group.step is not None else min(labels) for group in nodes}
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
    nodes: Sequence[Group], edges: Sequence[Group], backwards: Collection[tuple[int, int]] = ()
) -> tuple[dict[str, int], dict[int, str]]:
    """When backward goes through each node, as a time step, and the names of these times.

    What comes after all steps has the time after the last, what leads to them the one before the first. Through a row
    that runs `backwards` in time the gradient flows from the first step to the last, at the same pace.
    """
    steps: dict[str, list[int]] = {}
    for group in nodes:
        found = [group.step] if group.step is not None else _steps(group.node)
        if found:
            steps[group.name] = found
    ends = sorted(k for found in steps.values() for k in found)
    of = {group.name: group for group in nodes}
    times: dict[str, int] = {}
    for name, found in steps.items():  # of folded steps the one at which what stands before them is reached
        node = of[name].node
        back = node is not None and (of[name].graph, node.id) in backwards
        times[name] = ends[0] + ends[-1] - max(found) if back else min(found)
    labels = {k: f"t = {k}" + f", reverse t = {ends[0] + ends[-1] - k}" * bool(backwards) for k in times.values()}
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


def _steps(node: Node | None) -> list[int]:
    """The time step of a node, or the first and the last of a folded one."""
    if node is None or node.step is None:
        return []
    number = step_number(node.step)
    return list(steps_in(node)) if is_folded(node) else [] if number is None else [number]


def _plain(x: float) -> float | str:
    """A number with six digits, or what JSON has no number for as text."""
    return float(f"{x:.6g}") if math.isfinite(x) else str(x)


def _json(data: Any) -> str:
    """JSON that a script element can hold: without ``<`` nothing in it can end the element, or begin a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


# --- markup ----------------------------------------------------------------------------------------------------------


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _script() -> str:
    """The viewer without its comments and indents."""
    rows = (row.strip() for row in _text("viewer.js").splitlines())
    return "\n".join(row for row in rows if row and not row.startswith("//"))


def _picture(name: str, drawing: Drawing, palette: Palette, description: str, hidden: bool) -> str:
    markup = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="g" data-level="{name}" viewBox="{view_of(drawing.page)}" '
        f'role="group" aria-label="gradient graph" aria-describedby="{name}-desc">'
        f'<desc id="{name}-desc">{escape(description)}</desc>\n{elements(drawing, palette, f"{name}-", False)}\n</svg>'
    )
    return f'<template data-level="{name}">{markup}</template>' if hidden else markup


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


def _document(**parts: str) -> str:
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"""<!DOCTYPE html>
<html lang="en"{parts["theme"]}>
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="{policy}"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{parts["title"]}</title>
<style>
{parts["style"]}
</style>
</head>
<body>
<header>
<div class="heading"><h1>{parts["title"]}</h1><p>{parts["subtitle"]}</p></div>
<div class="bar" role="toolbar" aria-label="View">
<span role="group" aria-label="Level">{parts["buttons"]}</span>
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
<div class="track" hidden="hidden"><i id="where"></i></div>
{parts["pictures"]}
</main>
<div id="tip" role="tooltip" hidden="hidden"></div>
<footer>
<div id="status" role="status" aria-live="polite"></div>
<details id="legend" open="open"><summary>Legend and keys</summary>
<div class="legend">{parts["legend"]}</div>
<p>{paint.FLOW}.<br/>
Wheel, + and − zoom; dragging and arrow keys move; 0 fits. Tab to a node: arrow keys walk along the edges.</p>
</details>
</footer>
<script type="application/json" id="data">{parts["data"]}</script>
<script>{script}</script>
</body>
</html>
"""
