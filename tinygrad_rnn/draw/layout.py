"""Where everything stands: a table of time steps, or where time is no order, one graph as a whole.

After this file the reader knows which of the two a graph gets, and that each of its edges has a place in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..graph.model import GradientGraph
from ..norms import Norm
from . import cards, lines, table
from .channels import Seat, Wire
from .geometry import Rect, union
from .grammar import FAN, Sentence, parse
from .routes import columns
from .scene import Frame, PlacedNode, Scene
from .style import LABEL_SIZE, look, number_room
from .view import Parameters


def arrange(
    graph: GradientGraph,
    prefix: str = "",
    parameters: Parameters = "auto",
    norm: Norm = "l2",
    width: float = lines.SLIDE,
) -> Scene:
    """Place a graph: in a table of steps and layers, or as a whole where time is no order.

    `parameters` are rows below the steps ("once") or boxes in every step; a line of steps is at most `width` pixels of
    a slide wide.
    """
    scene = lines.arrange(graph, prefix, parameters, norm, width)
    return _whole(graph, prefix, norm) if scene is None else scene


def _whole(graph: GradientGraph, prefix: str, norm: Norm) -> Scene:
    """A graph without (usable) time steps; of numbers alone, as cards."""
    drawn = [edge for edge in graph.edges if not edge.internal]
    touched = {end for edge in drawn for end in (edge.source, edge.target)} | {graph.nodes[-1].id}
    nodes = [node for node in graph.nodes if node.id in touched]
    table.check_size(len(drawn), "the graph, which no time steps order,")
    signed = cards.all_numbers(nodes) and len(nodes) <= cards.MOST
    looks = cards.looks(graph, nodes, drawn) if signed else {node.id: look(node) for node in nodes}
    rank = {node.id: k for k, node in enumerate(nodes)}
    inner = tuple((rank[edge.source], rank[edge.target]) for edge in drawn)
    spots = parse(Sentence((("", ""),) * len(nodes), inner))
    items = []
    for node, spot in zip(nodes, spots.at, strict=True):
        shape = looks[node.id]
        wide, high = cards.room(shape) if signed else (0.0, shape.height)
        seat = Seat(f"{prefix}n{node.id}", node, shape, 0, 0, *spot, wide=wide, deep=high - shape.height)
        items.append(seat)
    rooms = [cards.number_room(e) if signed else number_room(e, graph.nodes[e.source], norm) for e in drawn]
    wires = [Wire(*pair, room) for pair, room in zip(inner, rooms, strict=True)]
    size, fan = (cards.NUMBER, len(drawn) + 1) if signed else (LABEL_SIZE, FAN)
    found = columns(items, wires, {}, {0: 0.0}, {}, size=size, fan=fan).route({}, 0.0)
    scene = Scene(signed=signed)
    lines.Put(scene, found).boxes(items, drawn, wires)
    scene.frames = _frames(scene.nodes)
    return scene


def _frames(placed: Sequence[PlacedNode]) -> list[Frame]:
    """A frame around each scope that stands apart from all that is not in it, those around others first."""
    paths = [node.node.scope.split("/") for node in placed if node.node.scope]
    scopes = dict.fromkeys("/".join(path[: k + 1]) for path in paths for k in range(len(path)))
    found: dict[str, Frame] = {}
    for scope in scopes:
        inside = [p for p in placed if f"{p.node.scope}/".startswith(f"{scope}/")]
        depth = max(p.node.scope.count("/") for p in inside) - scope.count("/")
        r = union(p.rect for p in inside).grown(10.0 + 8.0 * depth)
        rect = Rect(r.left, r.bottom, r.right, r.top + 22.0 * (depth + 1))
        if not any(rect.overlap(p.rect) for p in placed if p not in inside):
            outer, _, name = scope.rpartition("/")
            step = name if not outer and name.startswith("t=") else None
            parent = list(found).index(outer) if outer in found else None
            found[scope] = Frame(name.replace("t=", "t = "), rect, step, parent)
    return list(found.values())
