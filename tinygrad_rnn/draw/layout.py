"""Where everything stands: a row of time steps, the rows of a stack, or one graph as the engine likes it.

After this file the reader knows which of the three a graph gets, and that each of its edges has a place in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..graph.model import Edge, GradientGraph, Node
from ..graph.steps import rows_of
from . import engine
from .geometry import Curve, Grid, Rect, place_labels
from .row import Row, place_row
from .scene import Frame, PlacedEdge, PlacedNode, Scene
from .stacked import arrange_rows
from .style import Look, look
from .template import LABEL, check_size, parse_curve
from .tiles import apart, cut, shown


def arrange(
    graph: GradientGraph, prefix: str = "", copies: bool = True, count: int | Literal["auto"] | None = None
) -> Scene:
    """Place a graph: by time steps where it has them (`count` to a line), layer by layer, as a whole where it has not.

    Parameters are drawn in every step that uses them, or (no `copies`) once, on rails below the steps. Rails run along
    one line: then "auto" is one line, and a number of steps to a line is refused.
    """
    rows = rows_of(graph)
    scene = arrange_rows(graph, rows, prefix, copies) if rows is not None else None
    if scene is not None:
        if isinstance(count, int):
            raise ValueError("the layers of a stack have their steps in common columns: draw it without wrap=")
        return scene
    rest, uses = (graph, []) if copies else apart(graph)
    tiles = cut(rest)
    if tiles is None:
        return _plain(graph, prefix)
    if uses and isinstance(count, int):
        raise ValueError(
            'parameters="once" needs all time steps in one line: draw them without wrap=, or parameters="step"'
        )
    return place_row(Row(rest, tiles, prefix), None if uses else count, uses)


SPACINGS = (1.0, 1.3, 1.7, 2.2)
MOST_SPACED = 60
"""With more edges than this, more room makes a picture that is too wide rather than one with legible numbers."""


def _plain(graph: GradientGraph, prefix: str) -> Scene:
    """A graph without (usable) time steps: placed by the engine as a whole, with as much room as its numbers need."""
    drawn = [edge for edge in graph.edges if not edge.internal]
    check_size(len(drawn), "the graph, which no time steps order,")
    best: tuple[int, Scene] | None = None
    for spacing in SPACINGS if len(drawn) <= MOST_SPACED else SPACINGS[:1]:
        scene = _engine_scene(graph, drawn, prefix, spacing)
        hidden = _add_plain_edges(*scene, drawn, prefix)
        if best is None or hidden < best[0]:
            best = hidden, scene[0]
        if not hidden:
            break
    assert best is not None
    return best[1]


def _engine_scene(
    graph: GradientGraph, drawn: list[Edge], prefix: str, spacing: float
) -> tuple[Scene, dict[int, Curve]]:
    """Boxes, framed by scope, and the curves of the edges."""
    operands: dict[int, int] = {}
    for edge in drawn:
        operands[edge.target] = operands.get(edge.target, 0) + 1
    nodes = shown(graph)
    looks = {node.id: look(node, operands.get(node.id, 0)) for node in nodes}
    paths: dict[str, list[Node]] = {}
    for node in nodes:
        paths.setdefault(node.scope, []).append(node)
    rows = [
        f"graph [rankdir=LR nodesep={0.28 * spacing:.3g} ranksep={0.62 * spacing:.3g}]",
        "edge [arrowhead=none]",
        'node [fixedsize=true label=""]',
    ]
    if len(drawn) > 300:  # quality that no one sees in a graph of this size
        rows.append("graph [nslimit=1 nslimit1=1 mclimit=0.3]")
    frames: dict[str, int] = {}
    rows += _clusters("", paths, looks, frames)
    rows += [f"n{edge.source} -> n{edge.target} [id={e}]" for e, edge in enumerate(drawn)]
    found = engine.layout("digraph {\n" + "\n".join(rows) + "\n}\n")
    scene = Scene()
    boxes = {o["name"]: tuple(map(float, o["bb"].split(","))) for o in found["objects"] if "bb" in o}
    for path, number in frames.items():
        inside = tuple(node for node in nodes if node.scope == path)
        name = path.rsplit("/", 1)[-1]
        step = name if "/" not in path and name.startswith("t=") else None
        parent = frames.get(path.rsplit("/", 1)[0]) if "/" in path else None
        scene.frames.append(Frame(name.replace("t=", "t = "), Rect(*boxes[f"cluster_{number}"]), inside, step, parent))
    places = {o["name"]: o["pos"].split(",") for o in found["objects"] if "pos" in o}
    for node in nodes:
        x, y = map(float, places[f"n{node.id}"])
        scene.nodes.append(PlacedNode(f"{prefix}n{node.id}", node, looks[node.id], (x, y), frames.get(node.scope)))
    return scene, {int(e["id"]): parse_curve(e["pos"]) for e in found.get("edges", ())}


def _clusters(
    path: str, paths: Mapping[str, list[Node]], looks: Mapping[int, Look], frames: dict[str, int]
) -> list[str]:
    """The nodes of a scope, and the clusters of the scopes inside it, as rows of DOT."""
    rows = []
    for node in paths.get(path, ()):
        shape = looks[node.id]
        outline = "ellipse" if shape.shape == "ellipse" else "box"
        rows.append(f"n{node.id} [width={shape.width / 72:.4f} height={shape.height / 72:.4f} shape={outline}]")
    start = f"{path}/" if path else ""
    names = dict.fromkeys(p[len(start) :].split("/", 1)[0] for p in paths if p.startswith(start) and p != path)
    for name in names:
        inner = start + name
        frames[inner] = len(frames)
        room = '<<TABLE BORDER="0" FIXEDSIZE="TRUE" WIDTH="96" HEIGHT="26"><TR><TD></TD></TR></TABLE>>'
        rows.append(f"subgraph cluster_{frames[inner]} {{ margin=10 label={room}")
        rows += [*_clusters(inner, paths, looks, frames), "}"]
    return rows


def _add_plain_edges(scene: Scene, curves: Mapping[int, Curve], drawn: list[Edge], prefix: str) -> int:
    """The edges and their numbers; how many of these touch something."""
    grid = Grid()
    for placed in scene.nodes:
        grid.add_rect(placed.rect.grown(1.0))
    for e, curve in curves.items():
        grid.add_curve(curve, e)
    numbered = {e: curves[e] for e, edge in enumerate(drawn) if edge.contribution is not None}
    labels = place_labels(numbered, LABEL, grid)
    for e, edge in enumerate(drawn):
        ends = f"{prefix}n{edge.source}", f"{prefix}n{edge.target}"
        scene.edges.append(PlacedEdge(edge, *ends, curves[e], labels.get(e, curves[e][0])))
    return sum(not grid.free(Rect.around(place, *LABEL)) for place in labels.values())
