"""From a table of boxes to a picture: every edge runs in channels between the columns and the rows.

After this file the reader knows why no number touches another, whatever the cell: each edge comes in at a height of its
own, its number stands before its target in a strip of the channel in which nothing runs upright, and what runs upright
or along a channel has a track of its own. Channels are as wide as they need, equal in all steps.

Lengths are points, y downwards until the scene is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..graph.parts import Node
from .geometry import Curve, Point, Rect, packed
from .marks import Anchor
from .style import Look

HEAD, TRACK, BAR, STRIP, RISER = 13.0, 7.0, 9.0, 34.0, 10.0
"""Lengths of a head with its stub, between two tracks, of a bar, least width of a number, between two risers."""

LANE_PITCH = 52.0
"""Between two states that a box of a whole step hands on."""


class Seat(NamedTuple):
    """A node at its place in a table, or one of several copies of a leaf.

    `way` is 1 where time runs to the right, else -1. `ports` are the names of the states that it hands on at heights of
    their own. A box `beside` stands in the channel before its column, below what uses it. `wide` and `deep` are room
    that it takes, if that is more than its look.
    """

    id: str
    node: Node
    look: Look
    band: int
    slot: int
    column: int
    row: int
    way: int = 1
    ports: tuple[str, ...] = ()
    beside: bool = False
    wide: float = 0.0
    deep: float = 0.0

    def port(self, name: str) -> float | None:
        """The height at which a state comes in and goes out, from the middle; None if it is none of its states."""
        return (self.ports.index(name) - (len(self.ports) - 1) / 2) * LANE_PITCH if name in self.ports else None


class Wire(NamedTuple):
    """An edge between two boxes, by their numbers, with the width of its number; or, without a source, from below.

    `state` is the name of the state that it carries; an upright one joins two boxes of one column.
    """

    source: int | None
    target: int
    room: float
    state: str = ""
    upright: bool = False


class Way(NamedTuple):
    """How a wire runs: from channel `a` to channel `b`, the last piece at its port; between them above row `level`."""

    a: int
    b: int
    level: int | None = None


class Run(NamedTuple):
    """The curve of a wire from border to border, and where its number stands; its room there, if that is little."""

    curve: Curve
    label: Point
    anchor: Anchor
    room: float = 0.0


@dataclass(frozen=True)
class Routed:
    """The answer: centres, runs, bars, feet of wires from below, what runs upright, borders of channels, heights."""

    centres: list[Point]
    runs: list[Run]
    bars: list[Rect]
    feet: dict[int, Point]
    posts: list[tuple[float, float, float]]
    lefts: list[float]
    rights: list[float]
    boxes: dict[int, float]
    bottoms: dict[int, float]
    width: float


class Channels:
    """How every wire runs: through which channels, and at which heights it leaves, comes in, and has its number.

    `risers` come straight up from below, so far from the middle of their target. Of wires that have a way, `starts` and
    `ends` are the heights of both ends, `numbers` those of their numbers, `tracks` those along a row. `rows` are the
    middles of the rows, `strips` where the number of an upright wire stands above a row, `boxes` how high a box is,
    `bottoms` where a band ends; `bars` belong to boxes that hand on to many.
    """

    def __init__(
        self, items: Sequence[Seat], wires: Sequence[Wire], below: Mapping[int, float], size: float, fan: int
    ) -> None:
        self.items, self.wires, self.size = items, wires, size
        self.risers = self._risers()
        widest = Counter(wires[w].target for w in self.risers)
        wide = {k: RISER * count + 6.0 for k, count in widest.items() if RISER * count + 6.0 > items[k].look.width}
        self.items = [
            item._replace(look=item.look._replace(width=wide[k])) if k in wide else item for k, item in enumerate(items)
        ]
        standing: dict[int, set[int]] = {}
        for item in items:
            standing.setdefault(item.row, set()).add(item.column)
        self.ways = [self._way(w, standing) for w in range(len(wires))]
        ports, heights = self._coming_in()
        self.boxes = {k: item.look.height for k, item in enumerate(items)}
        for w, port in ports.items():
            self.boxes[wires[w].target] = max(self.boxes[wires[w].target], 2 * abs(port) + 12.0)
        self.rows, self.tracks, self.strips, self.bottoms = self._heights(heights, below)
        self.middles = [self.rows[items[wire.target].row] for wire in wires]
        self.ends = {w: self.middles[w] + port for w, port in ports.items()}
        self.numbers = {w: self.middles[w] + height for w, height in heights.items()}
        leaving: dict[int, list[int]] = {}
        for w, way in enumerate(self.ways):
            source = wires[w].source
            if way is not None and source is not None and not items[source].beside:
                leaving.setdefault(source, []).append(w)
        self.bars = {s for s, out in leaving.items() if len(out) >= fan and not items[s].ports}
        self.starts = self._leaving(leaving)

    def _risers(self) -> dict[int, float]:
        """Wires that come straight up from below, where nothing stands in their way: how far from the middle."""
        lowest: dict[tuple[int, int], int] = {}
        for item in self.items:
            if not item.beside:
                lowest[item.band, item.column] = max(lowest.get((item.band, item.column), 0), item.row)
        coming: dict[int, list[int]] = {}
        for w, wire in enumerate(self.wires):
            target = self.items[wire.target]
            if wire.source is None and target.row == lowest[target.band, target.column]:
                coming.setdefault(wire.target, []).append(w)
        return {w: RISER * (k - (len(of) - 1) / 2) for of in coming.values() for k, w in enumerate(of)}

    def _way(self, w: int, standing: Mapping[int, set[int]]) -> Way | None:
        """The channels of a wire; None for one that is upright. In each row some columns are taken (`standing`)."""
        wire, target = self.wires[w], self.items[self.wires[w].target]
        b = target.column + (target.way < 0)
        if w in self.risers or wire.upright:
            return None
        if wire.source is None or self.items[wire.source].beside:
            return Way(b, b)
        source = self.items[wire.source]
        a = source.column + (source.way > 0)
        if standing[target.row].isdisjoint(range(min(a, b), max(a, b))):
            return Way(a, b)
        return Way(a, b, target.row + (source.row > target.row))

    def _rank(self, w: int) -> tuple[float, ...]:
        """From above to below, in which order wires come in; the first number is the side from which one comes."""
        wire, way = self.wires[w], self.ways[w]
        if wire.source is None or self.items[wire.source].beside:  # which comes up under all numbers
            return 2.0, float(w)
        source, target = self.items[wire.source], self.items[wire.target]
        side = float((source.row > target.row) - (source.row < target.row))
        if way is not None and way.level is not None:
            side = (way.level - target.row) * 2.0 - 1.0
        return side, float(source.row), -source.column * target.way * (1 if side >= 0 else -1), float(w)

    def _coming_in(self) -> tuple[dict[int, float], dict[int, float]]:
        """The height at which each wire comes in, from the middle of its target, and that of its number."""
        port, lift = self.size + 8.0, self.size / 2 + 4.0
        coming: dict[int, list[int]] = {}
        for w, wire in enumerate(self.wires):
            if self.ways[w] is not None:
                coming.setdefault(wire.target, []).append(w)
        heights: dict[int, float] = {}
        numbers: dict[int, float] = {}
        for t, all_of in coming.items():
            fixed = {w: self.items[t].port(self.wires[w].state) for w in all_of}
            known = {w: y for w, y in fixed.items() if y is not None}
            if len(set(known.values())) < len(known):  # two uses of one state
                known = {}
            free = sorted((w for w in all_of if w not in known), key=self._rank)
            numbered = [self.wires[w].room > 0.0 and self.wires[w].source is not None for w in free]
            pair = not known and numbered == [True, True]  # one number above both lines, one below
            at = [0.0]
            for with_number in numbered[1:]:  # a number stands above its line
                at.append(at[-1] + (14.0 if pair else port if with_number else 10.0))
            level = [y for w, y in zip(free, at, strict=False) if self._rank(w)[0] == 0.0]
            base = max(known.values()) + port if known else -level[0] if len(level) == 1 else -at[-1] / 2
            heights |= known | {w: base + y for w, y in zip(free, at, strict=False)}
            numbers |= {w: heights[w] - lift for w in all_of}
            if pair:
                numbers[free[1]] = heights[free[1]] + lift
        return heights, numbers

    def _heights(
        self, numbers: Mapping[int, float], below: Mapping[int, float]
    ) -> tuple[dict[int, float], dict[int, float], dict[int, float], dict[int, float]]:
        """The middles of rows, the heights of what runs along them and of numbers above them, the ends of bands."""
        items, size = self.items, self.size
        up: dict[int, float] = {}
        down: dict[int, float] = {}
        for w, number in numbers.items():
            wire, row = self.wires[w], items[self.wires[w].target].row
            if wire.room and wire.source is not None:
                up[row] = max(up.get(row, 0.0), size / 2 + 1.5 - number)
                down[row] = max(down.get(row, 0.0), size / 2 + 1.5 + number)
        for k, item in enumerate(items):
            up[item.row] = max(up.get(item.row, 0.0), self.boxes[k] / 2)
            down[item.row] = max(down.get(item.row, 0.0), self.boxes[k] / 2 + item.deep)
        along = {w: way for w, way in enumerate(self.ways) if way is not None and way.level is not None}
        lanes = coloured(((way.level, min(way.a, way.b), max(way.a, way.b)), w) for w, way in along.items())
        lines = Counter[int]()
        for w, way in along.items():
            lines[way.level or 0] = max(lines[way.level or 0], lanes[w] + 1)
        tall = set[int]()  # rows above which the number of an upright wire stands
        for wire in self.wires:
            if wire.upright and wire.source is not None:
                tall.add(min(items[wire.source].row, items[wire.target].row) + 1)
        bands = {item.row: item.band for item in items}
        rows: dict[int, float] = {}
        first: dict[int, float] = {}
        strips: dict[int, float] = {}
        bottoms: dict[int, float] = {}
        y = 0.0
        for row in range(max(bands, default=0) + 2):
            above = bands.get(row - 1)
            if above is not None and above != bands.get(row):
                bottoms[above] = y
                y += below.get(above, 0.0)
            strips[row] = y + size / 2 + 3.5
            y += (size + 7.0) * (row in tall) + 5.0
            first[row] = y + 3.0
            y += TRACK * lines[row]
            rows[row] = y
            if row in bands:
                rows[row] = y + 3.0 + up[row]
                y = rows[row] + down[row] + 3.0
        tracks = {w: first[way.level or 0] + TRACK * lanes[w] for w, way in along.items()}
        return rows, tracks, strips, bottoms

    def _leaving(self, leaving: Mapping[int, list[int]]) -> dict[int, float]:
        """The height at which each wire leaves its source, straight on where that can be."""
        busy: dict[int, list[float]] = {}  # by channel, where something runs level through its left half
        for w, way in enumerate(self.ways):
            if way is not None:
                through = range(min(way.a, way.b), max(way.a, way.b) + 1) if way.level is None else (way.b,)
                for channel in through:
                    busy.setdefault(channel, []).append(self.ends[w])
        starts: dict[int, float] = {}
        for s, out in leaving.items():
            taken: list[float] = []
            targets = {w: self.items[self.wires[w].target] for w in out}
            ahead = {w for w in out if targets[w].row == self.items[s].row}
            handed = {w for w in out if targets[w].port(self.wires[w].state) is not None}
            for w in sorted(out, key=lambda w: (w not in handed, w not in ahead, self.ends[w])):
                way = self.ways[w]
                assert way is not None
                straight = way.level is None and w in ahead
                others = [y for y in busy.get(way.a, ()) if y != self.ends[w]]
                starts[w] = self._start(s, w, straight, taken, others)
                taken.append(starts[w])
        return starts

    def _start(self, s: int, w: int, straight: bool, taken: Sequence[float], busy: Sequence[float]) -> float:
        """The height at which a wire leaves a box: that of its state, of its end, or the next one that is free."""
        middle, end, reach = self.rows[self.items[s].row], self.ends[w], self.boxes[s] / 2 - 5.0
        port = self.items[s].port(self.wires[w].state)
        if port is not None and _free(middle + port, taken, 4.0):
            return middle + port
        if straight and abs(end - middle) <= reach and _free(end, taken, 0.85 * self.size - 0.5):
            return end
        side = 2.0 if end > middle else -2.0
        spots = [middle + k * way for k in range(int(reach / 2) + 1) for way in (side, -side)]
        clear = [y for y in spots if _free(y, (*busy, end), 4.0)]
        apart = (0.85 * self.size, 5.0, 2.0, 0.0)
        return next((y for room in apart for y in clear if _free(y, taken, room)), middle)


def _free(y: float, taken: Iterable[float], apart: float) -> bool:
    """Whether a height is so far from others."""
    return all(abs(y - other) >= apart for other in taken)


def coloured(spans: Iterable[tuple[tuple[Any, float, float], int]]) -> dict[int, int]:
    """A track for each span (channel, from, to), long ones farther out."""
    of: dict[object, list[tuple[tuple[float, float], int]]] = {}
    for (channel, low, high), key in sorted(spans, key=lambda item: (item[0][2] - item[0][1], item[1])):
        of.setdefault(channel, []).append(((low, high), key))
    return {
        key: track for group in of.values() for (_, key), track in zip(group, packed(s for s, _ in group), strict=True)
    }
