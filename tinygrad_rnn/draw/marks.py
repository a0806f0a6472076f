"""Marks: what a picture is made of before anybody writes it as a file. Lines of text, boxes and edges at their places.

After this file the reader knows why nothing that was written is ever read back: a mark holds the node or the edge that
it shows, and names its colour, so that each writer (SVG, DOT, the page) can say what it needs about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ..files import Brief
from ..graph.parts import Edge, Node
from .geometry import Curve, Point, Rect, around, trimmed, union
from .style import EdgeStyle, Options, text_width

SCALE = 11.0 / 14.0
"""Points to a pixel of a page: the smallest text, 11 pt, is then 14 pixels high."""

Anchor = Literal["start", "middle", "end"]


class Text(NamedTuple):
    """One line, whose anchor is at a point, its middle at that height; y points up."""

    at: Point
    text: str
    size: float
    bold: bool = False
    colour: str = "ink"
    anchor: Anchor = "middle"

    @property
    def rect(self) -> Rect:
        """The box around it, by an estimate of its width."""
        width = text_width(self.text, self.size) * (1.06 if self.bold else 1.0)
        left = self.at[0] - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor]
        return Rect(left, self.at[1] - 0.4 * self.size, left + width, self.at[1] + 0.4 * self.size)


class Box(NamedTuple):
    """A filled shape: corners of a radius, or an ellipse; a second border where it is doubled."""

    rect: Rect
    fill: str | None
    line: str | None = None
    pen: float = 1.1
    radius: float = 0.0
    ellipse: bool = False
    dotted: bool = False
    double: bool = False


class Way(NamedTuple):
    """The line of an edge from operand to consumer, in the style that says what flows back along it."""

    curve: Curve
    style: EdgeStyle
    radius: float = 0.0

    @property
    def head_size(self) -> tuple[float, float]:
        """Length and half width of its head."""
        side = 3.3 + 1.15 * self.style.width
        return (1.5 * side, 0.72 * side) if self.style.head != "bar" else (3.0, 5.0)

    def stem(self) -> Curve:
        """The line without the room of its head."""
        if self.style.head == "none":
            return self.curve
        length = {"open": 1.0, "bar": 3.0}.get(self.style.head, self.head_size[0] - 1.0)
        if self.style.head in ("open", "forward"):
            return trimmed(self.curve, length)
        return trimmed(self.curve[::-1], length)[::-1]

    def head(self) -> tuple[Point, ...]:
        """The corners of its head: of a triangle, of a bar, of an open angle."""
        if self.style.head == "none":
            return ()
        length, half = self.head_size
        if self.style.head == "open":
            length, half = 6.0, 3.5
        curve = self.curve if self.style.head in ("open", "forward") else self.curve[::-1]
        tip, base = curve[-1], trimmed(curve, length)[-1]
        span = math.dist(tip, base) or 1.0
        nx, ny = -(tip[1] - base[1]) / span * half, (tip[0] - base[0]) / span * half
        ends = (base[0] + nx, base[1] + ny), (base[0] - nx, base[1] - ny)
        return ends if self.style.head == "bar" else (ends[0], tip, ends[1])


Mark = Text | Box | Way


@dataclass(frozen=True, repr=False)
class Group(Brief):
    """Marks that are one thing: a node, an edge with its number, a detail that has only a text (`tip`).

    `name` is unique in its picture; `tail` and `head` of an edge name the groups of its ends.
    """

    kind: Literal["node", "edge", "detail"]
    name: str
    marks: tuple[Mark, ...]
    tip: str = ""
    node: Node | None = None
    edge: Edge | None = None
    tail: str = ""
    head: str = ""
    graph: int = 0
    step: int | None = None


@dataclass(repr=False)
class Drawing(Brief):
    """A picture as marks, from behind to the front, and the room that all of them take."""

    options: Options
    items: list[Group | Mark] = field(default_factory=list)
    extents: list[Rect] = field(default_factory=list)

    def add(self, item: Group | Mark) -> None:
        """Put something in front of what is there."""
        self.items.append(item)
        for mark in marks_of((item,)):
            if isinstance(mark, Way):
                self.extents.append(around(mark.curve).grown(mark.style.width / 2))
            else:
                self.extents.append(mark.rect.grown(4.0) if isinstance(mark, Box) and mark.double else mark.rect)

    @property
    def rect(self) -> Rect:
        """The box around all of it."""
        return union(self.extents)

    @property
    def page(self) -> Rect:
        """The same with a margin; or a page of the asked shape around it, larger if it must be, or as high."""
        rect = self.rect.grown(10.0)
        if self.options.page is None:
            return rect
        (width, height), (x, y) = self.options.page, ((rect.left + rect.right) / 2, (rect.bottom + rect.top) / 2)
        high = rect.top - rect.bottom
        part = max((rect.right - rect.left) / width, high / height if height else 0.0, SCALE)
        return Rect.around((x, y), width * part, max(height * part, high))


def marks_of(items: Sequence[Group | Mark]) -> Iterable[Mark]:
    """All marks, those of groups too."""
    for item in items:
        yield from item.marks if isinstance(item, Group) else (item,)
