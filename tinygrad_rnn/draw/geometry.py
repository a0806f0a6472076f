"""Points, rectangles and curves.

After this file the reader knows that every line is a chain of cubic pieces, also where it is straight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

Point = tuple[float, float]
Curve = tuple[Point, ...]
"""A chain of cubic Bezier pieces: 3 k + 1 control points."""


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


def line(start: Point, end: Point) -> Curve:
    """A straight piece."""
    (x0, y0), (x1, y1) = start, end
    return (start, (x0 + (x1 - x0) / 3, y0 + (y1 - y0) / 3), (x0 + (x1 - x0) * 2 / 3, y0 + (y1 - y0) * 2 / 3), end)


def join(*curves: Curve) -> Curve:
    """Curves one after the other; where one does not begin at the end of the last, a straight piece is put between."""
    points: list[Point] = list(curves[0])
    for curve in curves[1:]:
        if math.dist(points[-1], curve[0]) > 0.5:
            points += line(points[-1], curve[0])[1:]
        points += curve[1:]
    return tuple(points)


def rounded(corners: Sequence[Point], radius: float = 9.0) -> Curve:
    """A polyline with rounded corners."""
    pieces: list[Curve] = []
    start = corners[0]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        enter = _towards(corner, before, min(radius, math.dist(before, corner) / 2))
        leave = _towards(corner, after, min(radius, math.dist(corner, after) / 2))
        pieces += [line(start, enter), (enter, corner, corner, leave)]
        start = leave
    return join(*pieces, line(start, corners[-1]))


def _towards(start: Point, end: Point, length: float) -> Point:
    whole = math.dist(start, end) or 1.0
    return start[0] + (end[0] - start[0]) * length / whole, start[1] + (end[1] - start[1]) * length / whole


def trimmed(curve: Curve, length: float) -> Curve:
    """The curve without its last `length` points, where the arrowhead goes: straight from the piece before on."""
    end = curve[-1]
    while len(curve) > 4 and math.dist(curve[-4], end) <= length:
        curve = curve[:-3]
    before = curve[-4]
    return curve[:-4] + line(before, _towards(end, before, min(length, 0.95 * math.dist(before, end))))


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
    """Points along the curve, close enough together that no box slips between two."""
    found: list[Point] = []
    for k in range(0, len(curve) - 1, 3):
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = piece = curve[k : k + 4]
        length = sum(math.dist(a, b) for a, b in pairwise(piece))
        count = max(2, int(length / spacing))
        for i in range(count + 1):
            t = i / count
            s = 1 - t
            a, b, c, d = s * s * s, 3 * t * s * s, 3 * t * t * s, t * t * t
            found.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
    return found
