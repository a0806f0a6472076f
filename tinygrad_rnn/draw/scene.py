"""A placed graph: everything of it at its place, in points, y up.

After this file the reader knows what the layout hands to the DOT writer, and that a scene is moved or mirrored as a
whole, so that no part of it need know where it will stand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..graph.model import Edge, Node
from .geometry import Curve, Point, Rect, moved, union
from .rails import Rail
from .strip import Strip
from .style import Look, text_width
from .template import LABEL


@dataclass(frozen=True)
class PlacedNode:
    """A node at its place; `id` is its name in the DOT source, `frame` the frame that holds it."""

    id: str
    node: Node
    look: Look
    centre: Point
    frame: int | None = None

    @property
    def rect(self) -> Rect:
        """Its box."""
        return Rect.around(self.centre, self.look.width, self.look.height)


@dataclass(frozen=True)
class PlacedEdge:
    """An edge with its curve, border to border, and the centre of its label."""

    edge: Edge
    tail: str
    head: str
    curve: Curve
    label: Point


@dataclass(frozen=True)
class Frame:
    """A rounded panel around a scope; `step` if it is a time step, whose head then tells its gradient."""

    title: str
    rect: Rect
    nodes: tuple[Node, ...] = ()
    step: str | None = None
    parent: int | None = None


@dataclass
class Scene:
    """Everything of one graph at its place, in points, y up.

    `shared` counts the copies of leaves drawn per step; `strips` has what is drawn inside the box of folded steps,
    `rails` the lines from parameters that are drawn once; `titles` are the names of the rows, by their left ends.
    """

    nodes: list[PlacedNode] = field(default_factory=list)
    edges: list[PlacedEdge] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    shared: dict[int, int] = field(default_factory=dict)
    strips: list[Strip] = field(default_factory=list)
    rails: list[Rail] = field(default_factory=list)
    titles: list[tuple[Point, str]] = field(default_factory=list)

    @property
    def rect(self) -> Rect:
        """The box around all of it."""
        points = [Rect(x, y, x, y) for edge in self.edges for x, y in edge.curve]
        labels = [Rect.around(edge.label, *LABEL) for edge in self.edges]
        titles = [Rect(x, y - 8.0, x + 1.06 * text_width(text, 12.0), y + 8.0) for (x, y), text in self.titles]
        return union([*(n.rect for n in self.nodes), *(f.rect for f in self.frames), *points, *labels, *titles])

    def moved(self, dx: float, dy: float) -> Scene:
        """The same at another place."""
        return self._map(
            lambda curve: moved(curve, dx, dy),
            lambda r: Rect(r.left + dx, r.bottom + dy, r.right + dx, r.top + dy),
            [rail.moved(dx, dy) for rail in self.rails],
        )

    def mirrored(self) -> Scene:
        """The same with left and right exchanged, its texts as legible as before."""
        return self._map(
            lambda curve: tuple((-x, y) for x, y in curve),
            lambda r: Rect(-r.right, r.bottom, -r.left, r.top),
            [rail.mirrored() for rail in self.rails],
        )

    def _map(self, curve: Callable[[Curve], Curve], rect: Callable[[Rect], Rect], rails: list[Rail]) -> Scene:
        dy = curve(((0.0, 0.0),))[0][1]
        return Scene(
            [replace(n, centre=curve((n.centre,))[0]) for n in self.nodes],
            [replace(e, curve=curve(e.curve), label=curve((e.label,))[0]) for e in self.edges],
            [replace(f, rect=rect(f.rect)) for f in self.frames],
            self.shared,
            [Strip(s.node, rect(s.rect), tuple(replace(a, y=a.y + dy) for a in s.lanes)) for s in self.strips],
            rails,
            [(curve((at,))[0], text) for at, text in self.titles],
        )

    def add(self, other: Scene) -> None:
        """Put another scene on the same page; its frames have no parents."""
        count = len(self.frames)
        self.nodes += [replace(n, frame=None if n.frame is None else n.frame + count) for n in other.nodes]
        self.edges += other.edges
        self.frames += other.frames
        self.strips += other.strips
        self.rails += other.rails
        self.titles += other.titles
        for node, copies in other.shared.items():
            self.shared[node] = self.shared.get(node, 0) + copies
