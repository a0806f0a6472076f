"""Parameters drawn once: each on a rail of its own below the time steps, with a stub up into every step that uses it.

After this file the reader knows why the steps look as if there were no parameters: their layout is made without them,
and the stubs then look for free ways between what stands there. A rail further below enters its consumer further left,
so that right of a stub, above its rail, there is always room for its number.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..graph.model import Array, Edge, Node
from .geometry import Curve, Point, Rect, line, moved, rounded, samples
from .style import Look, look
from .template import LABEL, Template
from .tiles import Tile

PITCH = 24.0
"""From rail to rail: a number and the dots fit between."""

_DROP = 26.0
_CLEAR = 4.2  # from the middle of a stub to a box or a number
_SPACING = 7.2  # of stubs that rise side by side
_MARGIN = 5.5  # a stub may rise so far beside the cell's box, but inside of its frame
_TIP = 11.0  # the last piece is straight, so that arrowheads stand side by side
_HEIGHTS = (0.0, 4.0, 9.0, 15.0, 22.0, 30.0, 45.0, 70.0)
Way = tuple[Point, ...]
Group = list["Use"]


@dataclass(frozen=True)
class Use:
    """An edge from a parameter, with the cell in which it ends and the consumer's number there."""

    edge: Edge
    cell: int
    target: int


@dataclass(frozen=True)
class Place:
    """A cell as the stubs see it: its layout, its nodes' looks, where it stands, which of its inner edges have numbers.

    The last is what any cell of this layout has, so that equal cells get equal stubs.
    """

    template: Template
    looks: Sequence[Look]
    offset: Point
    numbered: Collection[int]


@dataclass(frozen=True)
class Rail:
    """The line from a parameter's box, where it has its `start`, to its last stub; `taps` are where stubs leave it."""

    node: Node
    look: Look
    y: float
    start: float
    taps: tuple[float, ...]

    @property
    def ends(self) -> tuple[float, float]:
        """Left and right end of the line."""
        return min(self.start, *self.taps), max(self.start, *self.taps)

    @property
    def centre(self) -> Point:
        """Of the parameter's box."""
        side = -1.0 if self.start < self.taps[0] else 1.0
        return self.start + side * self.look.width / 2, self.y

    def moved(self, dx: float, dy: float) -> Rail:
        """The same at another place."""
        return replace(self, y=self.y + dy, start=self.start + dx, taps=tuple(x + dx for x in self.taps))

    def mirrored(self) -> Rail:
        """The same with left and right exchanged."""
        return replace(self, start=-self.start, taps=tuple(-x for x in reversed(self.taps)))


@dataclass(frozen=True)
class Stub:
    """The way of one use, from its rail to the consumer's border, and the place of its number."""

    use: Use
    curve: Curve
    label: Point


def lay_rails(
    places: Sequence[Place],
    uses: Sequence[Use],
    nodes: Sequence[Node],
    floor: float,
    walls: Sequence[float],
    before: float = 0.0,
) -> tuple[list[Rail], list[Stub]]:
    """Rails below `floor`, and their stubs; at `walls` something else runs down, which numbers keep clear of.

    Something may pass within `before` of the first cell: the parameters' boxes stand further out.
    """
    ranks = _ranks(places, uses)
    heights = {source: floor - _DROP - PITCH * rank for source, rank in ranks.items()}
    groups: dict[int, Group] = {}
    for use in uses:
        groups.setdefault(use.cell, []).append(use)
    made: dict[tuple[int, tuple[int, ...]], list[Way]] = {}
    found: list[tuple[Use, Curve]] = []
    for k, group in sorted(groups.items()):
        place = places[k]
        # By consumer, from left to right; the lowest rail first.
        group.sort(key=lambda u: (place.template.centres[u.target], u.target, -ranks[u.edge.source], u.edge.operand))
        key = id(place.template), tuple(use.target for use in group)
        if key not in made:  # equal steps get equal stubs
            made[key] = _ways(place, key[1])
        for use, way in zip(group, made[key], strict=True):
            found.append((use, _curve(moved(way, *place.offset), heights[use.edge.source])))
    labels = _labels([(ranks[use.edge.source], curve[0]) for use, curve in found], walls)
    stubs = [Stub(use, curve, label) for (use, curve), label in zip(found, labels, strict=True)]
    left = min([-10.0, *(min(stub.curve[0][0], stub.label[0] - LABEL[0] / 2 + 8.0) for stub in stubs)])
    left -= 12.0 + before
    rails = []
    for source in ranks:
        taps = tuple(sorted(stub.curve[0][0] for stub in stubs if stub.use.edge.source == source))
        rails.append(Rail(nodes[source], look(nodes[source]), heights[source], left, taps))
    return rails, stubs


def _ranks(places: Sequence[Place], uses: Sequence[Use]) -> dict[int, int]:
    """The order of the rails from above: first those whose consumer is the rightmost of its step, then by operand."""
    first: dict[int, tuple[int, float, int, int]] = {}
    for use in sorted(uses, key=lambda use: (use.cell, use.edge.target, use.edge.operand)):
        x, _ = places[use.cell].template.centres[use.target]
        first.setdefault(use.edge.source, (use.cell, -x, use.target, use.edge.operand))
    return {source: rank for rank, source in enumerate(sorted(first, key=lambda source: (first[source], source)))}


def _curve(way: Way, y: float) -> Curve:
    start = (way[0][0], y)
    return line(start, way[-1]) if abs(start[0] - way[-1][0]) < 0.1 else rounded([start, *way], 6.0)


def places_of(templates: Sequence[Template], tiles: Sequence[Tile], offsets: Sequence[Point]) -> list[Place]:
    """The cells of a row as the stubs see them."""
    numbered: dict[int, set[int]] = {}
    for template, tile in zip(templates, tiles, strict=True):
        found = {e for e, (edge, _, _) in enumerate(tile.inner) if edge.contribution is not None}
        numbered.setdefault(id(template), set()).update(found)
    cells = zip(templates, tiles, offsets, strict=True)
    return [Place(template, tile.looks, offset, numbered[id(template)]) for template, tile, offset in cells]


def step_aside(templates: Sequence[Template], tiles: Sequence[Tile], uses: Sequence[tuple[int, Edge]]) -> None:
    """Without its parameters a box may stand on the shelf, its number below it: there make way for the stub."""
    for k, use in uses:
        template, tile = templates[k], tiles[k]
        target = tile.local[use.target]
        for e, (_, source, _) in enumerate(tile.inner):
            if source == target and source in tile.leaves and e in template.inner_labels:
                (x, y), (middle, height) = template.inner_labels[e], template.centres[source]
                if y < height:
                    template.inner_labels[e] = max(x, middle + LABEL[0] / 2 + 6.0), y


# --- ways through a cell ---------------------------------------------------------------------------------------------


class _Field:
    """What stands in a cell: boxes and numbers, which a stub never touches, and lines, which it avoids."""

    def __init__(self, place: Place) -> None:
        template = place.template
        self.box = template.box
        self.rects = {
            n: Rect.around(c, place.looks[n].width, place.looks[n].height) for n, c in template.centres.items()
        }
        labels = [label for e, label in template.inner_labels.items() if e in place.numbered]
        labels += template.arrival_labels.values()
        solid = [*self.rects.values(), *(Rect.around(label, *LABEL) for label in labels)]
        # Numbers between the cells reach a little into them.
        gaps = [(curve[0], -30.0, 4.0) for a, curve in template.arrivals.items() if a not in template.arrival_labels]
        gaps += [(curve[-1], -4.0, 30.0) for curve in template.outs.values()]
        solid += [Rect(x + low, y + 3.0, x + high, y + 18.0) for (x, y), low, high in gaps]
        self.solid = np.array([(r.left, r.bottom, r.right, r.top) for r in solid]) + _CLEAR * np.array((-1, -1, 1, 1))
        self.curves = [*template.inner.values(), *template.arrivals.values()]
        self.curves += [*template.outs.values(), *template.exits.values()]
        sides = [line((x - 12.0, y), (x, y)) for (x, y), *_ in template.arrivals.values()]
        self.lines = np.array([point for curve in [*self.curves, *sides] for point in samples(curve)] or [(0.0, 1e9)])

    def add(self, way: Way) -> None:
        """Remember a stub: others avoid it like any line."""
        points = samples(_curve(way, self.box.bottom - 40.0))
        self.lines = np.concatenate([self.lines, points])

    def costs(self, x: Array, y: Array, entry: Point, border: float) -> Array:
        """Of ways from below through each (x, y) to the entry, then up to the border; inf if something stands there."""
        (e, f), end = entry, border - _CLEAR - 0.1  # the consumer itself may be near a slanted piece, but not in it
        left, bottom, right, top = self.solid.T
        if ((left < e) & (e < right) & (bottom < end) & (f < top)).any():
            return np.full(x.shape, np.inf)
        x, y = x[:, None], y[:, None]
        blocked = ((left < x) & (x < right) & (bottom < y)).any(axis=1)
        # Where the slanted piece passes the height of a box, from one side of that to the other.
        a, b = (np.clip((level - y) / (f - y), 0.0, 1.0) * (e - x) + x for level in (bottom, top))
        passes = (bottom < f) & (y < top)
        blocked |= (passes & (np.minimum(a, b) < right) & (left < np.maximum(a, b))).any(axis=1)
        costs = np.where(blocked, np.inf, abs(x - e)[:, 0] + 0.3 * abs(f - y)[:, 0])
        x, y = x[~blocked], y[~blocked]
        low, high = x.min(initial=e) - 4.0, x.max(initial=e) + 4.0
        lx, ly = self.lines[(low < self.lines[:, 0]) & (self.lines[:, 0] < high)].T
        along = np.clip(((lx - x) * (e - x) + (ly - y) * (f - y)) / ((e - x) ** 2 + (f - y) ** 2), 0.0, 1.0)
        near = np.hypot(x + along * (e - x) - lx, y + along * (f - y) - ly) < 4.0
        near |= ((abs(lx - x) < 4.0) & (ly < y)) | ((abs(lx - e) < 4.0) & (f < ly) & (ly < end))
        costs[~blocked] += 8.0 * near.sum(axis=1)
        return costs


def _ways(place: Place, targets: Sequence[int]) -> list[Way]:
    """A way for each stub of a cell, given by their consumers; those of one consumer from left to right."""
    field = _Field(place)
    found: list[Way] = []
    for target in dict.fromkeys(targets):
        options = []
        for entries in _entries(field, place.looks[target], target, targets.count(target)):
            ways = _fan(field, entries)
            if ways is not None:
                options.append(ways)
        if not options:
            raise ValueError(
                'no free way from a rail to all that uses the parameters: draw them with parameters="step"'
            )
        best = min(options, key=lambda option: option[0])[1]
        for way in best:
            field.add(way)
        found += best
    return found


def _entries(field: _Field, shape: Look, target: int, count: int) -> Iterator[tuple[float, list[Point], int]]:
    """Ways to spread the stubs over the bottom of a box, beside what is there: cost, points, how many at the left."""
    rect = field.rects[target]
    (middle, half), depth = ((rect.left + rect.right) / 2, shape.width / 2), shape.height / 2
    room = 0.75 * half if shape.shape == "ellipse" else half - 3.0
    ends = [end for curve in field.curves for end in (curve[0], curve[-1])]
    taken = [x for x, y in ends if abs(x - middle) < half and rect.bottom - 1.0 < y < rect.bottom + 0.5 * depth]

    def border(x: float) -> Point:
        if shape.shape != "ellipse":
            return x, rect.bottom
        return x, rect.bottom + depth * (1 - (1 - ((x - middle) / half) ** 2) ** 0.5)

    if not taken:
        pitch = min(12.0, 2 * room / max(1, count - 1))
        xs = [middle + (n - (count - 1) / 2) * pitch for n in range(count)]
        yield 6.0 * count * max(0.0, 8.0 - pitch), [border(x) for x in xs], (count + 1) // 2
        return
    first, last = min(taken), max(taken)
    for left in range(count + 1):
        sides = (left, first - middle + room, first, -1), (count - left, middle + room - last, last, 1)
        if any(n and space < 2.0 for n, space, *_ in sides):
            continue
        xs, cost = [], 0.0
        for n, space, start, sign in sides:
            pitch = min(10.0, space / max(1, n))
            xs += [start + sign * pitch * (k + 1) for k in range(n)]
            cost += 6.0 * n * max(0.0, 8.0 - pitch)
        yield cost, [border(x) for x in sorted(xs)], left


def _fan(field: _Field, entries: tuple[float, list[Point], int]) -> tuple[float, list[Way]] | None:
    """The cheapest ways to these entries, uncrossed, found from the middle outwards; None if one has none."""
    total, points, left = entries
    ways: dict[int, Way] = {}
    low, high = field.box.left - _MARGIN, field.box.right + _MARGIN
    for n in (*range(left - 1, -1, -1), *range(left, len(points))):
        bounds = (low, ways[n + 1][0][0] - _SPACING) if n + 1 in ways and n < left else (low, high)
        if n >= left and n - 1 in ways:
            bounds = ways[n - 1][0][0] + _SPACING, high
        found = _cheapest(field, points[n], bounds)
        if found is None:
            return None
        total, ways[n] = total + found[0], found[1]
    return total, [ways[n] for n in range(len(points))]


def _cheapest(field: _Field, end: Point, bounds: tuple[float, float]) -> tuple[float, Way] | None:
    """The cheapest way up to a point, rising at an x within the bounds."""
    low, high = bounds
    aside = np.arange(0.5, high - low + abs(end[0] - low), 0.5)
    aside = np.concatenate([-aside, aside])
    aside = aside[(low <= end[0] + aside) & (end[0] + aside <= high)]
    # Not steeper than it need be: an arrow that comes almost level looks like an edge of its own.
    rise = (np.maximum(0.7 * abs(aside), 2.0)[:, None] + np.array(_HEIGHTS)).ravel()
    aside = np.repeat(aside, len(_HEIGHTS))
    if low <= end[0] <= high:  # straight up
        aside, rise = np.concatenate([[0.0], aside]), np.concatenate([[2.0], rise])
    least = abs(aside) + 0.3 * rise  # what a way costs if it meets nothing
    order = np.argsort(least, kind="stable")
    best: tuple[float, Way] | None = None
    entry = end[0], end[1] - _TIP
    for chunk in (order[k : k + 64] for k in range(0, len(order), 64)):
        if best is not None and best[0] <= least[chunk[0]]:
            break
        costs = field.costs(end[0] + aside[chunk], entry[1] - rise[chunk], entry, end[1])
        k = int(np.argmin(costs))
        if np.isfinite(costs[k]) and (best is None or costs[k] < best[0]):
            start = float(end[0] + aside[chunk[k]]), float(entry[1] - rise[chunk[k]])
            best = float(costs[k]), (start, entry, end)
    return best


# --- numbers ---------------------------------------------------------------------------------------------------------


def _labels(starts: Sequence[tuple[int, Point]], walls: Sequence[float]) -> list[Point]:
    """Places for the numbers of stubs, which leave the rail of a rank at a point: above it, clear of what passes."""
    count = max(rank for rank, _ in starts) + 1
    passing = [sorted([*walls, *(x for other, (x, _) in starts if other >= rank)]) for rank in range(count)]
    taken: list[list[float]] = [[] for _ in range(count)]
    found = []
    for rank, (x, y) in starts:
        places = [x + sign * (4.5 + LABEL[0] / 2 + 6.0 * n) for n in range(17) for sign in (1.0, -1.0)]
        free = (p for p in places if _free(p, passing[rank], 3.5) and _free(p, taken[rank], LABEL[0] / 2))
        place = next(free, places[0])
        insort(taken[rank], place)
        found.append((place, y + LABEL[1] / 2 + 3.0))
    return found


def _free(centre: float, sorted_xs: Sequence[float], clear: float) -> bool:
    reach = LABEL[0] / 2 + clear
    return bisect_left(sorted_xs, centre + reach) == bisect_right(sorted_xs, centre - reach)
