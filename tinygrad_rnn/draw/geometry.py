"""Curves and the places of their labels.

After this file the reader knows how a picture keeps its numbers legible: every label tries a few places beside its own
curve and takes the one that touches no box, no other label and no other curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]
Curve = tuple[Point, ...]
"""A chain of cubic Bezier pieces: 3 k + 1 control points."""


@dataclass(frozen=True)
class Rect:
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
    rects = list(rects)
    return Rect(
        min(r.left for r in rects),
        min(r.bottom for r in rects),
        max(r.right for r in rects),
        max(r.top for r in rects),
    )


def line(start: Point, end: Point) -> Curve:
    """A straight piece."""
    (x0, y0), (x1, y1) = start, end
    return (start, (x0 + (x1 - x0) / 3, y0 + (y1 - y0) / 3), (x0 + (x1 - x0) * 2 / 3, y0 + (y1 - y0) * 2 / 3), end)


def sweep(start: Point, end: Point) -> Curve:
    """An S that leaves and arrives horizontally."""
    middle = (start[0] + end[0]) / 2
    return (start, (middle, start[1]), (middle, end[1]), end)


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


def moved(curve: Curve, dx: float, dy: float) -> Curve:
    """The curve at another place."""
    return tuple((x + dx, y + dy) for x, y in curve)


def _split(piece: Sequence[complex], at: float) -> tuple[complex, ...]:
    """The first part of a cubic, by de Casteljau's construction; complex numbers are the quickest points."""
    p0, p1, p2, p3 = piece
    a, b, c = p0 + at * (p1 - p0), p1 + at * (p2 - p1), p2 + at * (p3 - p2)
    d, e = a + at * (b - a), b + at * (c - b)
    return p0, a, d, d + at * (e - d)


def trimmed(curve: Curve, length: float) -> Curve:
    """The curve without its last `length` points, where the arrowhead goes."""
    end = curve[-1]
    while len(curve) > 4 and math.dist(curve[-4], end) <= length:
        curve = curve[:-3]
    piece, tip = [complex(*point) for point in curve[-4:]], complex(*end)
    low, high = 0.05, 1.0
    for _ in range(14):
        middle = (low + high) / 2
        if abs(_split(piece, middle)[3] - tip) > length:
            low = middle
        else:
            high = middle
    return curve[:-4] + tuple((p.real, p.imag) for p in _split(piece, low))


def at(curve: Curve, fraction: float) -> tuple[Point, Point]:
    """Point and direction at a fraction of the curve's pieces."""
    pieces = (len(curve) - 1) // 3
    place = min(fraction * pieces, pieces - 1e-9)
    k, t = int(place), place - int(place)
    p = curve[3 * k : 3 * k + 4]
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    slopes = (-3 * (1 - t) ** 2, 3 * (1 - t) ** 2 - 6 * t * (1 - t), 6 * t * (1 - t) - 3 * t * t, 3 * t * t)
    point = (
        sum(w * q[0] for w, q in zip(weights, p, strict=True)),
        sum(w * q[1] for w, q in zip(weights, p, strict=True)),
    )
    dx, dy = (sum(s * q[axis] for s, q in zip(slopes, p, strict=True)) for axis in (0, 1))
    return point, (dx, dy)


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


def crossing(ends: Sequence[Point], polyline: Sequence[Point]) -> bool:
    """Whether the straight line from the first to the last point crosses a polyline."""
    a, b = ends[0], ends[-1]

    def side(a: Point, b: Point, p: Point) -> bool:
        return (b[0] - a[0]) * (p[1] - a[1]) > (b[1] - a[1]) * (p[0] - a[0])

    return any(side(a, b, c) != side(a, b, d) and side(c, d, a) != side(c, d, b) for c, d in pairwise(polyline))


class Grid:
    """Points and rectangles by place, so that a look around costs the same in any picture."""

    def __init__(self, cell: float = 48.0) -> None:
        self.cell = cell
        self._points: dict[tuple[int, int], list[tuple[Point, int]]] = {}
        self._rects: dict[tuple[int, int], list[Rect]] = {}

    def _cells(self, rect: Rect) -> Iterable[tuple[int, int]]:
        for i in range(math.floor(rect.left / self.cell), math.floor(rect.right / self.cell) + 1):
            for j in range(math.floor(rect.bottom / self.cell), math.floor(rect.top / self.cell) + 1):
                yield i, j

    def add_curve(self, curve: Curve, owner: int) -> None:
        """Remember the points of a curve."""
        for x, y in samples(curve):
            cell = (math.floor(x / self.cell), math.floor(y / self.cell))
            self._points.setdefault(cell, []).append(((x, y), owner))

    def add_rect(self, rect: Rect) -> None:
        """Remember a box or a label."""
        for cell in self._cells(rect):
            self._rects.setdefault(cell, []).append(rect)

    def cost(self, rect: Rect, owner: int) -> float:
        """How much of what was remembered lies in this rectangle, or (cheaper) near it and belongs to another owner."""
        inside = near = 0
        covered = 0.0
        around = rect.grown(5.0)
        for cell in self._cells(around):
            points = self._points.get(cell, ())
            inside += sum(rect.holds(point) for point, _ in points)
            near += sum(other != owner and around.holds(point) for point, other in points)
            covered += sum(rect.overlap(other) for other in self._rects.get(cell, ()))
        return 10.0 * inside + 1.2 * near + 3.0 * covered

    def free(self, rect: Rect) -> bool:
        """Whether nothing that was remembered lies in this rectangle, but itself."""
        return not any(
            any(rect.holds(point) for point, _ in self._points.get(cell, ()))
            or any(rect.overlap(other) > 1e-6 and other != rect for other in self._rects.get(cell, ()))
            for cell in self._cells(rect)
        )


FRACTIONS = (0.44, 0.38, 0.5, 0.32, 0.56, 0.26, 0.64, 0.2, 0.72, 0.8, 0.88, 0.97)


def place_labels(curves: Mapping[int, Curve], size: tuple[float, float], grid: Grid) -> dict[int, Point]:
    """A place for the label of each curve, in turn, by the curve's owner number.

    `grid` holds the boxes and the curves; labels are added to it as they find their place.
    """
    places: dict[int, Point] = {}
    for owner, curve in curves.items():
        best: tuple[float, Point] | None = None
        for rank, fraction in enumerate(FRACTIONS):
            for side, centre in enumerate(_beside(*at(curve, fraction), size)):
                cost = grid.cost(Rect.around(centre, *size), owner) + 0.6 * rank + 5.0 * side
                if best is None or cost < best[0]:
                    best = (cost, centre)
        assert best is not None
        grid.add_rect(Rect.around(best[1], *size))
        places[owner] = best[1]
    return places


def _beside(point: Point, direction: Point, size: tuple[float, float]) -> tuple[Point, Point]:
    """The two places beside a curve where a box of this size just clears it: above (or right) first."""
    dx, dy = direction
    length = math.hypot(dx, dy) or 1.0
    nx, ny = -dy / length, dx / length
    if ny < -0.2 or (abs(ny) <= 0.2 and nx < 0):  # above; right of a vertical curve
        nx, ny = -nx, -ny
    clear = abs(nx) * size[0] / 2 + abs(ny) * size[1] / 2 + 3.6
    x, y = point
    return (x + nx * clear, y + ny * clear), (x - nx * clear, y - ny * clear)
