"""Cells in several lines, like words on a page: where a line ends, and how edges get from one line to the next.

After this file the reader knows how a long picture gets the shape of a screen. States leave a line at its right, return
in the channel below it and enter the next line from the left; what skips steps runs below them, then down the right
margin. Ways that run side by side are nested, so that they do not cross each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from .geometry import Curve, Point, rounded
from .template import LABEL

PAGE = 4.0, 3.0
"""The shape that a picture is fitted to: in a wider one text would be too small, a higher one would be scrolled."""

MOST_RAILS = 24
"""With more edges that skip steps than this, the cells stay in one line unless told otherwise."""

LANE_PITCH = 15.0
RAIL_PITCH = 9.0
LEGIBLE = 1280.0
"""A line up to this width is not broken: shown 1280 pixels wide, its smallest text has the size it was drawn with."""

_FURNITURE = 30.0, 125.0  # width and height of margins, heading and legend
_BETTER = 1.15  # a line break must pay for the reader's jump


def lines_of(steps: Sequence[bool], count: int | None) -> list[int]:
    """The line of each cell, if `count` time steps (the cells where `steps` is true) go into a line."""
    found, seen = [], 0
    for step in steps:
        seen += step
        found.append(0 if count is None else max(0, seen - 1) // count)
    return found


def best_count(lefts: Sequence[float], rights: Sequence[float], steps: Sequence[bool], height: float) -> int | None:
    """How many time steps to a line make a wide picture as large as can be on a page; None for all in one line."""
    total = sum(steps)
    sizes = {}
    for lines in range(1, min(total, 64) + 1):
        count = -(-total // lines)
        line = lines_of(steps, count)
        ends = [(min(lefts[k] for k in ks), max(rights[k] for k in ks)) for ks in _groups(line)]
        width = max(right - left for left, right in ends) + _FURNITURE[0]
        if lines == 1 and width <= LEGIBLE:
            return None
        sizes[count] = min(PAGE[0] / width, PAGE[1] / (len(ends) * height + _FURNITURE[1]))
    best = max(sizes, key=lambda count: (sizes[count], count))
    return best if sizes and sizes[best] > _BETTER * sizes[max(sizes)] else None


def _groups(line: Sequence[int]) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    for k, number in enumerate(line):
        found.setdefault(number, []).append(k)
    return list(found.values())


def lane_room(count: int) -> float:
    """Height that this many returning states take below a line."""
    return 4.0 + LANE_PITCH * count if count else 0.0


def lane_route(
    start: Point, end: Point, rank: int, count: int, sides: tuple[float, float], floor: float
) -> tuple[Curve, Point]:
    """The way of a state to the next line, and the place of its number; `rank` counts the `count` states from above.

    `sides` are the right end of the line that it leaves and the left end of the one that it enters, `floor` is the
    bottom of the line that it leaves.
    """
    right = sides[0] + 17.0 + 9.0 * (count - 1 - rank)  # the highest turns outermost, and so runs lowest
    left = sides[1] - 16.0 - 9.0 * rank
    y = floor - lane_room(count - rank)
    way = rounded([start, (right, start[1]), (right, y), (left, y), (left, end[1]), end], 7.0)
    return way, (sides[1] + 16.0 + LABEL[0] / 2, y + LABEL[1] / 2 + 2.0)


def rail_route(start: Point, turn: float, level: float, margin: float, final: float, end: Point) -> Curve:
    """The way of an edge that skips lines: below its own line, down the margin, below the last line, up."""
    return rounded(
        [start, (turn, start[1]), (turn, level), (margin, level), (margin, final), (end[0], final), end], 7.0
    )
