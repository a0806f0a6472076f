"""Points, rectangles and lines.

After this file the reader knows that every line is a chain of corners, which are rounded only when it is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

Point = tuple[float, float]
Curve = tuple[Point, ...]
"""The corners of a line, from end to end."""


class Rect(NamedTuple):
    """An upright rectangle; y points up, as in DOT."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, centre: Point, width: float, height: float) -> Rect:
        """The rectangle of this size with this centre."""
        (x, y), w, h = centre, width / 2, height / 2
        return cls(x - w, y - h, x + w, y + h)

    def grown(self, by: float) -> Rect:
        """The same, larger on all sides."""
        return Rect(self.left - by, self.bottom - by, self.right + by, self.top + by)

    def overlap(self, other: Rect) -> float:
        """Area in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return width * height if width > 0 and height > 0 else 0.0

    def holds(self, point: Point) -> bool:
        """Whether the point lies inside."""
        return self.left < point[0] < self.right and self.bottom < point[1] < self.top


def union(rects: Iterable[Rect]) -> Rect:
    """The smallest rectangle around all of these."""
    left, bottom, right, top = zip(*rects, strict=True)
    return Rect(min(left), min(bottom), max(right), max(top))


def around(points: Iterable[Point]) -> Rect:
    """The smallest rectangle around all of these."""
    x, y = zip(*points, strict=True)
    return Rect(min(x), min(y), max(x), max(y))


def rounded(corners: Curve, radius: float) -> list[Curve]:
    """A line in pieces: straight ones have two points, round corners the four of a cubic Bezier curve."""
    pieces: list[Curve] = []
    start = corners[0]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        enter = _towards(corner, before, min(radius, math.dist(before, corner) / 2))
        leave = _towards(corner, after, min(radius, math.dist(corner, after) / 2))
        pieces.append((start, enter))
        if radius:
            pieces.append((enter, corner, corner, leave))
        start = leave
    return [*pieces, (start, corners[-1])]


def _towards(start: Point, end: Point, length: float) -> Point:
    whole = math.dist(start, end) or 1.0
    return start[0] + (end[0] - start[0]) * length / whole, start[1] + (end[1] - start[1]) * length / whole


def trimmed(curve: Curve, length: float) -> Curve:
    """The line without its last `length` points, where the arrowhead goes; a shorter last piece is left out whole."""
    end = curve[-1]
    while len(curve) > 2 and math.dist(curve[-2], end) <= length:
        curve = curve[:-1]
    return *curve[:-1], _towards(end, curve[-2], min(length, 0.95 * math.dist(curve[-2], end)))


def packed(spans: Iterable[tuple[float, float]]) -> list[int]:
    """A row for each span, from 0 on, the first in which nothing touches it."""
    taken: list[list[tuple[float, float]]] = []
    found = []
    for low, high in spans:
        free = (k for k, row in enumerate(taken) if all(high < a or b < low for a, b in row))
        found.append(next(free, len(taken)))
        if found[-1] == len(taken):
            taken.append([])
        taken[found[-1]].append((low, high))
    return found


def samples(curve: Curve, spacing: float = 4.0) -> list[Point]:
    """Points along a line, close enough together that no box slips between two."""
    found: list[Point] = []
    for (ax, ay), (bx, by) in pairwise(curve):
        count = max(2, int(math.dist((ax, ay), (bx, by)) / spacing))
        found += [(ax + (bx - ax) * k / count, ay + (by - ay) * k / count) for k in range(count + 1)]
    return found
