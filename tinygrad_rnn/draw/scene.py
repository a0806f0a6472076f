"""A placed graph: everything of it at its place, in points, y up.

After this file the reader knows what the layout hands to those who paint, and that a scene is moved as a whole, so that
no part of it need know where it will stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..graph.parts import Edge, Node
from .geometry import Curve, Point, Rect, around, union
from .marks import Anchor
from .style import Look, text_width

LABEL = (34.0, 12.0)
"""Room for the number of an edge."""


class PlacedNode(NamedTuple):
    """A node at its place; `id` is its name in the DOT source."""

    id: str
    node: Node
    look: Look
    centre: Point

    @property
    def rect(self) -> Rect:
        """Its box."""
        return Rect.around(self.centre, self.look.width, self.look.height)


class PlacedEdge(NamedTuple):
    """An edge with its curve, border to border, and where its label stands: its centre, or an end of it.

    Where `room` is given, a number that is wider loses its second digit.
    """

    edge: Edge
    tail: str
    head: str
    curve: Curve
    label: Point
    anchor: Anchor = "middle"
    room: float = 0.0


@dataclass(frozen=True)
class Frame:
    """A rounded panel around a scope; `step` if it is a time step."""

    title: str
    rect: Rect
    step: str | None = None
    parent: int | None = None


@dataclass
class Scene:
    """Everything of one graph at its place, in points, y up.

    `shared` counts the copies of leaves drawn per step, `titles` are the names of the rows, by their left ends. Where
    all tensors are numbers, it is `signed`. Of cells on the grid, `spines` are bars that belong to a node, `lanes` the
    rows of parameters, `dots` where a use leaves its row.
    """

    nodes: list[PlacedNode] = field(default_factory=list)
    edges: list[PlacedEdge] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    shared: dict[int, int] = field(default_factory=dict)
    titles: list[tuple[Point, str]] = field(default_factory=list)
    signed: bool = False
    spines: list[Rect] = field(default_factory=list)
    lanes: list[tuple[Point, Point]] = field(default_factory=list)
    dots: list[tuple[Point, Edge]] = field(default_factory=list)

    @property
    def rect(self) -> Rect:
        """The box around all of it."""
        curves = [around(edge.curve) for edge in self.edges]
        labels = [Rect.around(edge.label, *LABEL) for edge in self.edges]
        titles = [Rect(x, y - 8.0, x + 1.06 * text_width(text, 12.0), y + 8.0) for (x, y), text in self.titles]
        return union([*(n.rect for n in self.nodes), *(f.rect for f in self.frames), *curves, *labels, *titles])

    def moved(self, dx: float, dy: float, part: float = 1.0, high: float = 1.0) -> Scene:
        """The same at another place, after it was made smaller, and so much higher for its width."""

        def at(point: Point) -> Point:
            return part * point[0] + dx, part * high * point[1] + dy

        def rect(r: Rect) -> Rect:
            return Rect(*at((r.left, r.bottom)), *at((r.right, r.top)))

        def look(old: Look) -> Look:
            scaled = part != 1.0 or high != 1.0
            return old._replace(width=part * old.width, height=part * high * old.height) if scaled else old

        return Scene(
            [n._replace(centre=at(n.centre), look=look(n.look)) for n in self.nodes],
            [e._replace(curve=tuple(map(at, e.curve)), label=at(e.label)) for e in self.edges],
            [replace(f, rect=rect(f.rect)) for f in self.frames],
            self.shared,
            [(at(point), text) for point, text in self.titles],
            self.signed,
            [rect(spine) for spine in self.spines],
            [(at(a), at(b)) for a, b in self.lanes],
            [(at(point), edge) for point, edge in self.dots],
        )
