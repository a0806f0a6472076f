"""Where columns and channels lie, and the corners of every wire in them.

After this file the reader knows how wide a channel is: as its heads, bars, tracks and numbers need, from left to right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .channels import (
    BAR,
    HEAD,
    RISER,
    STRIP,
    TRACK,
    Heights,
    Item,
    Routed,
    Run,
    Span,
    Way,
    Wire,
    coming_in,
    heights_of,
    leaving,
    risers_of,
    upright_of,
    ways_of,
)
from .geometry import Curve, Point, Rect, line, rounded
from .grammar import FAN
from .marks import Anchor
from .style import LABEL_SIZE


@dataclass(frozen=True)
class Wide:
    """How wide columns and channels must be, by key: boxes, tracks, numbers by side, bars by side, heads."""

    half: dict[object, float]
    tracks: dict[object, int]
    zone: dict[tuple[object, int], float]
    barred: dict[tuple[object, int], int]
    rank: dict[int, int]
    plain: set[object]

    def channel(self, key: object) -> float:
        """The width of a channel."""
        sides = self.zone.get((key, 1), 0.0) + self.zone.get((key, -1), 0.0)
        bars = self.barred.get((key, 1), 0) + self.barred.get((key, -1), 0)
        head = HEAD if key in self.plain or key in self.tracks else 0.0
        return head + 6.0 + sides + TRACK * self.tracks.get(key, 0) + (BAR + HEAD) * bars


def _measured(
    items: Sequence[Item],
    wires: Sequence[Wire],
    ways: Sequence[Way | None],
    alike: Mapping[int, object],
    upright: Mapping[tuple[int, int], tuple[int, int]],
    bars: Collection[int],
) -> Wide:
    """What stands in each column and channel."""
    half: dict[object, float] = {}
    for item in items:
        if not item.beside:
            half[alike[item.column]] = max(half.get(alike[item.column], 0.0), max(item.width, item.wide) / 2)
    tracks: dict[object, int] = {}
    zone: dict[tuple[object, int], float] = {}
    barred: dict[tuple[object, int], int] = {}
    for channel, track in upright.values():
        key = alike.get(channel, "end")
        tracks[key] = max(tracks.get(key, 0), track + 1)
    for wire, way in zip(wires, ways, strict=True):
        target = items[wire.target]
        key = alike.get(target.column + (target.way < 0), "end"), target.way
        if way is None and wire.room:
            zone[key] = max(zone.get(key, STRIP), wire.room + 2.0 - half[alike[target.column]])
        elif wire.source is not None and wire.room:
            zone[key] = max(zone.get(key, STRIP), wire.room)
        elif wire.source is not None and items[wire.source].beside:
            zone[key] = max(zone.get(key, STRIP), items[wire.source].width + 8.0)
    rank: dict[int, int] = {}
    per: dict[tuple[int, int], int] = {}
    for s in sorted(bars, key=lambda s: (items[s].row, s), reverse=True):
        channel, side = items[s].column + (items[s].way > 0), items[s].way
        rank[s] = per.get((channel, side), 0)
        per[channel, side] = rank[s] + 1
        key = alike.get(channel, "end"), side
        barred[key] = max(barred.get(key, 0), rank[s] + 1)

    plain = {
        alike.get(items[s].column + (items[s].way > 0), "end")
        for s in {w.source for w in wires if not w.upright}
        if s is not None and s not in bars
    }
    return Wide(half, tracks, zone, barred, rank, plain)


@dataclass(frozen=True)
class Put:
    """Everything at its place, for the runs of the wires."""

    items: Sequence[Item]
    wires: Sequence[Wire]
    upright: Mapping[tuple[int, int], tuple[int, int]]
    bars: Collection[int]
    risers: Mapping[int, float]
    high: Heights
    wide: Wide
    keys: list[object]
    lefts: list[float]
    columns: list[Span]
    rights: list[float]
    spare: float
    centres: list[Point]

    def track(self, w: int, part: int) -> float:
        """Where a wire runs upright."""
        channel, track = self.upright[w, part]
        key, wide = self.keys[channel], self.wide
        left = self.lefts[channel] + wide.zone.get((key, -1), 0.0) + HEAD + (BAR + HEAD) * wide.barred.get((key, 1), 0)
        return left + self.spare * 0.3 + TRACK * track

    def bar(self, s: int) -> float:
        """Where the bar of a box stands."""
        way, out = self.items[s].way, (BAR + HEAD) * self.wide.rank[s] + 3.0
        channel = self.items[s].column + (way > 0)
        if way > 0:
            return self.lefts[channel] + self.wide.zone.get((self.keys[channel], -1), 0.0) + out
        return self.rights[channel] - self.wide.zone.get((self.keys[channel], 1), 0.0) - out - BAR

    def corners(self, w: int, way: Way | None, start: float, end: float, foot: float) -> list[Point]:
        """The corners of a wire, from where it leaves to where it comes in."""
        wire, high = self.wires[w], self.high
        target, (tx, ty) = self.items[wire.target], self.centres[wire.target]
        if w in self.risers:
            x = tx + self.risers[w]
            return [(x, foot), (x, ty + high.boxes[wire.target] / 2)]
        if way is None:
            assert wire.source is not None
            (sx, sy), side = self.centres[wire.source], 1 if self.centres[wire.source][1] < ty else -1
            return [(sx, sy + side * high.boxes[wire.source] / 2), (tx, ty - side * high.boxes[wire.target] / 2)]
        border = tx - target.way * target.width / 2
        if wire.source is None:
            x = self.track(w, 1) if (w, 1) in self.upright else border - HEAD
            return [(x, foot), (x, end), (border, end)]
        source, (sx, sy) = self.items[wire.source], self.centres[wire.source]
        level = end if way.level is None else high.tracks[w]
        if source.beside:
            found = [(sx, sy - high.boxes[wire.source] / 2), (sx, end)]
        elif wire.source in self.bars:
            found = [(self.bar(wire.source) + (BAR if source.way > 0 else 0.0), level)]
        else:
            found = [(sx + source.way * source.width / 2, start)]
            if (w, 0) in self.upright:
                found += [(self.track(w, 0), start), (self.track(w, 0), level)]
        if (w, 1) in self.upright:
            found += [(self.track(w, 1), level), (self.track(w, 1), end)]
        return [*found, (border, end)]

    def label(self, w: int, way: Way | None, height: float, corners: list[Point]) -> tuple[Point, Anchor]:
        """Where the number of a wire stands."""
        wire = self.wires[w]
        target = self.items[wire.target]
        if w in self.risers:
            return corners[0], "middle"
        if way is None:
            assert wire.source is not None
            row = min(self.items[wire.source].row, target.row) + 1
            return (self.centres[wire.target][0] - 6.0, self.high.strips[row]), "end"
        edge = self.columns[target.column][0 if target.way > 0 else 1]
        aside = self.wide.zone.get((self.keys[way.b], target.way), STRIP) / 2 + 3.0
        return (edge - target.way * aside, height), "middle"

    def bars_drawn(self, levels: Mapping[int, list[float]]) -> list[Rect]:
        """The bars, each with what joins it to its box."""
        found = []
        for s, ys in levels.items():
            left, y = self.bar(s), self.high.rows[self.items[s].row]
            found.append(Rect(left, min(ys) - 6.0, left + BAR, max(ys) + 6.0))
            near = self.centres[s][0] + self.items[s].way * self.items[s].width / 2
            if abs(left - near) > 1.0:
                found.append(Rect(min(near, left + 1.0), y - 3.0, max(near, left + 1.0), y + 3.0))
        return found


def route(
    items: Sequence[Item],
    wires: Sequence[Wire],
    alike: Mapping[int, object],
    below: Mapping[int, float],
    feet: Mapping[int, tuple[int, float]],
    pitch: float,
    *,
    page: float = 0.0,
    least: Mapping[object, float] | None = None,
    stretch: float | None = None,
    size: float = LABEL_SIZE,
    fan: int = FAN,
) -> Routed:
    """Places for everything.

    Columns of one key in `alike` are equally wide, with their channels. `below` is the room below each band; a wire
    without a source begins there, `feet` lower than the band ends. `least` are widths of channels, by key. If all
    is narrower than `page`, it is stretched, or by `stretch` a channel.
    Numbers are of this `size`; what goes to at least `fan` places leaves along a bar.
    """
    risers = risers_of(items, wires)
    widest = Counter(wires[w].target for w in risers)
    items = [replace(item, width=max(item.width, RISER * widest[k] + 6.0)) for k, item in enumerate(items)]
    ways = ways_of(items, wires, risers)
    ports, numbers = coming_in(items, wires, ways, pitch, size)
    high = heights_of(items, wires, ways, ports, numbers, below, size)
    middle = {w: high.rows[items[wire.target].row] for w, wire in enumerate(wires)}
    ends = {w: middle[w] + y for w, y in ports.items()}
    deep = {w: high.bottoms[band] + y for w, (band, y) in feet.items()}
    starts, bars = leaving(items, wires, ways, ends, high, pitch, size, fan)
    upright = upright_of(items, wires, ways, starts, ends, high, bars, deep)
    wide = _measured(items, wires, ways, alike, upright, bars)
    count = 1 + max((item.column for item in items), default=0)
    keys = [alike.get(c, "end") for c in range(count + 1)]
    widths = [max(wide.channel(key), (least or {}).get(key, 0.0)) for key in keys]
    total = sum(widths) + sum(2 * wide.half.get(key, 0.0) for key in keys[:-1])
    spare = stretch if stretch is not None else min(40.0, max(0.0, page - total) / (count + 1))
    columns, lefts, rights, x = list[Span](), list[float](), list[float](), 0.0
    for key, width in zip(keys, widths, strict=True):
        lefts.append(x)
        rights.append(x + width + spare)
        x = rights[-1] + 2 * wide.half.get(key, 0.0)
        columns.append((rights[-1], x))
    centres = []
    for item in items:
        (left, right), key = columns[item.column], alike.get(item.column + (item.way < 0), "end")
        aside = wide.zone.get((key, item.way), STRIP) / 2 + 2.0
        beside = left - aside if item.way > 0 else right + aside
        centres.append((beside if item.beside else (left + right) / 2, high.rows[item.row]))
    put = Put(items, wires, upright, bars, risers, high, wide, keys, lefts, columns, rights, spare, centres)
    runs, posts, rooted = list[Run](), list[tuple[float, float, float]](), dict[int, Point]()
    levels: dict[int, list[float]] = {s: [high.rows[items[s].row]] for s in bars}
    for w, (wire, way) in enumerate(zip(wires, ways, strict=True)):
        corners = put.corners(w, way, starts.get(w, 0.0), ends.get(w, 0.0), deep.get(w, 0.0))
        runs.append(Run(_curve(corners), *put.label(w, way, middle[w] + numbers.get(w, 0.0), corners)))
        posts += [(x0, min(y0, y1), max(y0, y1)) for (x0, y0), (x1, y1) in pairwise(corners) if x0 == x1]
        if wire.source is None:
            rooted[w] = corners[0]
        elif wire.source in bars and way is not None:
            levels[wire.source].append(corners[0][1])
    wides = dict(zip(keys, widths, strict=True))
    drawn = put.bars_drawn(levels)
    return Routed(centres, runs, drawn, rooted, posts, lefts, high.boxes, high.bottoms, rights[-1], wides, spare)


def _curve(corners: list[Point]) -> Curve:
    way = [corners[0]]
    for corner in corners[1:]:
        if abs(corner[0] - way[-1][0]) + abs(corner[1] - way[-1][1]) > 0.1:
            way.append(corner)
    return rounded(way, 5.0) if len(way) > 2 else line(way[0], way[-1])
