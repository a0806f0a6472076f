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
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from importlib.resources import files
from typing import Any, Literal

import graphviz

from ..graph.model import Edge, GradientGraph, Node, norm_of
from ..graph.steps import is_folded, rows_of, states
from .dot import edge_tooltip, write
from .geometry import Rect, union
from .layout import arrange
from .legend import FLOW, legend
from .sheet import Sheet
from .style import THEMES, Options, number
from .svg import Dot, Drawing, Palette, elements, plain, read
from .view import View

MAX_EDGES = 6_000
"""Edges on one page, all levels together (about 900 bytes each); a level that does not fit is folded."""

MAX_NUMBERS = 3_000
"""A level with more edges leaves their numbers to the tooltips."""

_LEVELS: tuple[Literal["step", "gate", "op"], ...] = ("step", "gate", "op")
_NAMES = {"view": "Overview", "step": "Steps", "gate": "Gates", "op": "Operations"}
_NODE = re.compile(r"(?:g(\d+))?(?:r\d+)?n(\d+)(?:_\d+)?")
_ROW = re.compile(r"(?:g\d+)?r\d+")
_BAR = re.compile(r"\w*strip\d+_\d+_(\d+)")


@dataclass(frozen=True)
class Sight:
    """What is seen at one level: the graphs as drawn, and their picture in both themes as DOT."""

    graphs: tuple[GradientGraph, ...]
    light: str
    dark: str


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
        light, dark = read(sight.light), read(sight.dark)
        drawing = elements(light, dark, palette, f"{name}-", titles=False, keep=_keeper(light))
        tables[name] = _table(sight, light, drawing, options)
        pictures.append(_picture(name, drawing, _description(sources, options), hidden=name != first))
    key = _legend(options, palette)
    style = _text("viewer.css") + palette.css(".g")
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
        found = {name: other for name, other in found.items() if other.light != sight.light}
        found[level] = sight  # of a cell without gates, the gate level is the level of operations
        room -= _count(graphs)
    chosen = view.of(sources.values())
    sight = _sight(sources, chosen, view, options, labels)
    for name, other in found.items():
        if other.light == sight.light:
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
    pairs = zip(sources, graphs, strict=True)
    rows = [
        (name, arrange(g, f"g{k}" if len(graphs) > 1 else "", view.parameters != "once"))
        for k, (name, g) in enumerate(pairs)
    ]
    numbers = _count(graphs) <= MAX_NUMBERS if labels == "auto" else labels
    light, dark = (write(rows, replace(options, theme=t, labels=numbers), "", None, ())[0] for t in THEMES.values())
    return Sight(tuple(graphs), light, dark)


def _keeper(dot: Dot) -> Any:
    """What belongs to the graphs themselves: the page has a heading and a legend of its own."""
    ends: list[float] = []
    for name, a in dot.nodes.items():
        if _NODE.fullmatch(name):
            y, half = float(a["pos"].split(",")[1]), 36.0 * float(a["height"])
            ends += [y - half, y + half]
    for group in dot.groups:
        ends += [float(v) for v in group.attributes.get("bb", "").split(",")[1::2]]
    low, high = min(ends) - 6.0, max(ends) + 6.0

    def keep(rect: Rect) -> bool:
        return low < (rect.bottom + rect.top) / 2 < high

    return keep


def _description(sources: Mapping[str, GradientGraph], options: Options) -> str:
    """In words, for those who do not see it."""
    parts = [FLOW + "."]
    for name, graph in sources.items():
        parts.append(f"{name or 'The graph'}: {len(graph.nodes)} tensors, {len(graph.edges)} edges.")
        for state, lane in states(graph).items():
            (start, one), *_, (end, other) = [*lane.items(), *lane.items()]
            sizes = [number(norm_of(n.gradient, options.norm)) for n in (other, one) if n.gradient is not None]
            if len(lane) > 1:
                parts.append(f"The gradient of {state} is {sizes[0]} at t={end} and {sizes[1]} at t={start}.")
    return " ".join(parts)


# --- the table of a picture ------------------------------------------------------------------------------------------


def _table(sight: Sight, light: Dot, drawing: Drawing, options: Options) -> dict[str, Any]:
    """For the viewer: of every node its text and time, of every edge its ends, norm, state, time and text."""
    rank = {name: k for k, name in enumerate(drawing.nodes)}
    nodes = {name: _node(name, sight) for name in rank}
    links = [(tail, head, a) for tail, head, a in drawing.edges]
    times, labels = _times(nodes, [(tail, head) for tail, head, _ in links], _backwards(sight))
    edges, into = [], _drawn(sight.graphs)
    reached = {name: times[name] if _BAR.fullmatch(name) else min(labels) for name in rank}
    for tail, head, attributes in links:
        tip = plain(attributes["edgetooltip"])
        edge = _edge(into, sight, tail, head, tip, options)
        norm = None if edge is None or edge.contribution is None else _plain(norm_of(edge.contribution, options.norm))
        edges.append([rank[tail], rank[head], norm, edge.state if edge else None, times[head], tip])
        reached[tail] = max(reached[tail], times[head])
    loss = next((n for n, node in nodes.items() if node is not None and node.kind == "loss"), drawing.nodes[-1])
    reached[loss] = max(labels)
    return {
        "nodes": [[plain(light.nodes[name]["tooltip"]), reached[name], times[name]] for name in rank],
        "edges": edges,
        "loss": rank[loss],
        "times": sorted(labels.items()),
    }


def _node(name: str, sight: Sight) -> Node | None:
    match = _NODE.fullmatch(name)
    return sight.graphs[int(match[1] or 0)].nodes[int(match[2])] if match else None


def _edge(
    into: Mapping[tuple[int, int, int], list[Edge]], sight: Sight, tail: str, head: str, tip: str, options: Options
) -> Edge | None:
    """The edge that was drawn between two boxes; of several, the one with this text."""
    source, target, match = _node(tail, sight), _node(head, sight), _NODE.fullmatch(head)
    if source is None or target is None or match is None:
        return None
    found = into.get((int(match[1] or 0), source.id, target.id), [])
    if len(found) > 1:
        text = [plain(graphviz.escape(edge_tooltip(e, source, target, options.norm))) for e in found]
        return found[text.index(tip)] if tip in text else None
    return found[0] if found else None


def _drawn(graphs: Sequence[GradientGraph]) -> dict[tuple[int, int, int], list[Edge]]:
    """The drawn edges, by graph, source and target."""
    found: dict[tuple[int, int, int], list[Edge]] = {}
    for k, graph in enumerate(graphs):
        for edge in graph.edges:
            if not edge.internal:
                found.setdefault((k, edge.source, edge.target), []).append(edge)
    return found


def _backwards(sight: Sight) -> set[str]:
    """How the names of nodes begin in the rows that run from the last time step to the first."""
    found = set()
    for k, graph in enumerate(sight.graphs):
        rows = rows_of(graph)
        if rows is not None:
            prefix = f"g{k}" if len(sight.graphs) > 1 else ""
            found |= {f"{prefix}r{r}" for r, back in enumerate(rows.backwards) if back}
    return found


def _times(
    nodes: Mapping[str, Node | None], edges: Sequence[tuple[str, str]], backwards: Collection[str] = ()
) -> tuple[dict[str, int], dict[int, str]]:
    """When backward goes through each node, as a time step, and the names of these times.

    What comes after all steps has the time after the last, what leads to them the one before the first. Through a row
    that runs `backwards` in time the gradient flows from the first step to the last, at the same pace.
    """
    steps: dict[str, list[int]] = {}
    for name, node in nodes.items():
        bar = _BAR.fullmatch(name)
        found = [bar[1]] if bar else re.findall(r"\d+", (node.step or "") if node else "")
        if found:
            steps[name] = [int(k) for k in found]
    ends = sorted(k for found in steps.values() for k in found)
    times: dict[str, int] = {}
    for name, of in steps.items():  # of folded steps the one at which what stands before them is reached
        row = _ROW.match(name)
        times[name] = ends[0] + ends[-1] - max(of) if row is not None and row[0] in backwards else min(of)
    labels = {k: f"t = {k}" + f", reverse t = {ends[0] + ends[-1] - k}" * bool(backwards) for k in times.values()}
    before, after = min(labels, default=1) - 1, max(labels, default=0) + 1
    users: dict[str, list[str]] = {}
    for tail, head in edges:
        users.setdefault(tail, []).append(head)
    ages = {name: node.id if node else 0 for name, node in nodes.items()}
    for name in sorted(nodes, key=lambda name: -ages[name]):
        if name not in times:
            times[name] = before if any(times.get(user, after) < after for user in users.get(name, ())) else after
    used = {*(times[head] for _, head in edges), *labels, after}
    labels |= {before: "the start", after: "the loss"}
    return times, {k: text for k, text in labels.items() if k in used}


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


def _picture(name: str, drawing: Drawing, description: str, hidden: bool) -> str:
    markup = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="g" data-level="{name}" viewBox="{_margin(drawing)}" '
        f'role="group" aria-label="gradient graph" aria-describedby="{name}-desc">'
        f'<desc id="{name}-desc">{escape(description)}</desc>\n{drawing.markup}\n</svg>'
    )
    return f'<template data-level="{name}">{markup}</template>' if hidden else markup


def _margin(drawing: Drawing) -> str:
    return Drawing("", drawing.box.grown(14.0), [], []).view


def _legend(options: Options, palette: Palette) -> str:
    """The legend of the pictures, by the very function that draws it there."""
    found = []
    for theme in THEMES.values():
        sheet = Sheet(replace(options, theme=theme), graphviz.Digraph("legend"))
        legend(sheet, Rect(0.0, 0.0, 1000.0, 0.0), [])
        found.append(read(str(sheet.source.source)))
    drawing = elements(found[0], found[1], palette, "legend-", titles=False)
    box = union([drawing.box]).grown(2.0)
    size = f'width="{(box.right - box.left) * 1.1:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="g" viewBox="{Drawing("", box, [], []).view}" {size} '
        f'role="img" aria-label="colour scale and kinds of edges">{drawing.markup}</svg>'
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
<p>{FLOW}.<br/>
Wheel, + and − zoom; dragging and arrow keys move; 0 fits. Tab to a node: arrow keys walk along the edges.</p>
</details>
</footer>
<script type="application/json" id="data">{parts["data"]}</script>
<script>{script}</script>
</body>
</html>
"""
