"""Where columns and channels lie, and the corners of every wire in them.

After this file the reader knows how wide a channel is: as its heads, bars, tracks and numbers need, from left to right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from .channels import BAR, HEAD, STRIP, TRACK, Channels, Routed, Run, Seat, Wire, coloured
from .geometry import Curve, Point, Rect
from .grammar import FAN
from .style import LABEL_SIZE


class Columns:
    """Channels with their widths: columns and channels of one key in `alike` are equally wide.

    By key: `half` the width of the boxes, and the `least` width of a channel for parameters below the column before it;
    by key and side of the channel, `zones` for numbers, and how many `bars`.
    All of this is known before it is known how wide the page is.
    """

    def __init__(self, all_of: Channels, alike: Mapping[int, object], feet: Mapping[int, float]) -> None:
        self.all_of, self.alike, self.feet, items = all_of, alike, feet, all_of.items
        self.half: dict[object, float] = {}
        for item in items:
            if not item.beside:
                key = self.key(item.column)
                self.half[key] = max(self.half.get(key, 0.0), max(item.look.width, item.wide) / 2)
        spans = self._upright()
        tracks = coloured((span, n) for n, (_, span) in enumerate(spans))
        self.upright = {key: tracks[n] for n, (key, _) in enumerate(spans)}
        self.tracks: dict[object, int] = {}
        for n, (_, (channel, *_)) in enumerate(spans):
            self.tracks[self.key(channel)] = max(self.tracks.get(self.key(channel), 0), tracks[n] + 1)
        self.zones: dict[tuple[object, int], float] = {}
        for wire, way in zip(all_of.wires, all_of.ways, strict=True):
            if wire.source is None:
                continue
            target = items[wire.target]
            side = self.key(target.column + (target.way < 0)), target.way
            if way is None and wire.room:
                need = wire.room + 2.0 - self.half[self.key(target.column)]
            elif wire.room or items[wire.source].beside:
                need = wire.room or items[wire.source].look.width + 8.0
            else:
                continue
            self.zones[side] = max(self.zones.get(side, STRIP), need)
        self.rank: dict[int, int] = {}  # of the bars of a channel, from its side on
        self.bars: dict[tuple[object, int], int] = {}
        per: dict[tuple[int, int], int] = {}
        for s in sorted(all_of.bars, key=lambda s: (items[s].row, s), reverse=True):
            channel, way_of = self.out_of(s), items[s].way
            self.rank[s] = per.get((channel, way_of), 0)
            per[channel, way_of] = self.rank[s] + 1
            key = self.key(channel), way_of
            self.bars[key] = max(self.bars.get(key, 0), self.rank[s] + 1)
        level = {w.source for w in all_of.wires if not w.upright and w.source is not None}
        self.headed = {self.key(self.out_of(s)) for s in level - all_of.bars} | set(self.tracks)
        self.least = self._beside_feet(spans)
        self.keys = [self.key(channel) for channel in range(2 + max((item.column for item in items), default=0))]
        self.widths = {key: self._width(key) for key in self.keys}

    def key(self, channel: int) -> object:
        """What a channel, or the column right of it, is alike to."""
        return self.alike.get(channel, channel)

    def out_of(self, s: int) -> int:
        """The channel into which a box hands on."""
        return self.all_of.items[s].column + (self.all_of.items[s].way > 0)

    def _upright(self) -> list[tuple[tuple[int, int], tuple[int, float, float]]]:
        """What runs upright: a wire, its beginning (0) or its end (1); the channel, from where to where."""
        found = []
        for w, way in enumerate(self.all_of.ways):
            source, end = self.all_of.wires[w].source, self.all_of.ends.get(w, 0.0)
            if way is None or (source is not None and self.all_of.items[source].beside):
                continue
            level = self.feet.get(w, self.all_of.tracks.get(w))
            pieces = []
            if source is not None and source not in self.all_of.bars:
                pieces.append((0, way.a, self.all_of.starts[w], end if level is None else level))
            if level is not None:
                pieces.append((1, way.b, level, end))
            for part, channel, y0, y1 in pieces:
                if abs(y0 - y1) > 0.5:
                    found.append(((w, part), (channel, min(y0, y1) - 2.0, max(y0, y1) + 2.0)))
        return found

    def _beside_feet(self, spans: Sequence[tuple[tuple[int, int], tuple[int, float, float]]]) -> dict[object, float]:
        """The least width of channels, for what stands below their left column; what runs upright is right of that."""
        items, wires = self.all_of.items, self.all_of.wires
        risers, rooms = dict[int, float](), dict[tuple[int, int, float], float]()
        for w, y in self.feet.items():
            column, band = items[wires[w].target].column, items[wires[w].target].band
            if w not in self.all_of.risers and items[wires[w].target].way < 0:  # it runs in the channel right of it
                side = self.key(column + 1), 1
                self.zones[side] = max(self.zones.get(side, STRIP), wires[w].room + 8.0)
            else:
                risers[column] = max(risers.get(column, 0.0), self.all_of.risers.get(w, 0.0))
                rooms[column, band, y] = rooms.get((column, band, y), 4.0) + wires[w].room + 4.0
        upright = [span for _, span in spans]
        for s in self.all_of.bars:
            ends = [self.all_of.tracks.get(w, y) for w, y in self.all_of.ends.items() if wires[w].source == s]
            upright.append((self.out_of(s), min(ends), max(ends)))
        least: dict[object, float] = {}
        for (column, band, _), room in rooms.items():
            key, low = self.key(column + 1), self.all_of.bottoms[band]
            need = risers[column] + room - self.half[self.key(column)]
            least[key] = max(least.get(key, 0.0), need)
            if any(channel == column + 1 and y0 < low + 30.0 and y1 > low for channel, y0, y1 in upright):
                self.zones[key, -1] = max(self.zones.get((key, -1), 0.0), need)
        return least

    def ending(self, key: object) -> float:
        """How far into a channel reaches what belongs to the column left of it."""
        return max(self.zones.get((key, -1), 0.0), self.least.get(key, 0.0))

    def spare(self, page: float, least: Mapping[object, float]) -> float:
        """What of a page is left for each channel, none of which is narrower than `least` says."""
        boxes = sum(2 * self.half.get(key, 0.0) for key in self.keys)
        total = sum(max(self.widths[key], least.get(key, 0.0)) for key in self.keys) + boxes
        return min(40.0, max(0.0, page - total) / len(self.keys))

    def route(self, least: Mapping[object, float], spare: float) -> Routed:
        """Places for everything: channels have their widths, but at least these (by key), and so much more each."""
        return _Places(self, [max(self.widths[key], least.get(key, 0.0)) for key in self.keys], spare).routed()

    def _width(self, key: object) -> float:
        sides = self.zones.get((key, 1), 0.0) + self.zones.get((key, -1), 0.0)
        bars = self.bars.get((key, 1), 0) + self.bars.get((key, -1), 0)
        wide = HEAD * (key in self.headed) + 6.0 + sides + TRACK * self.tracks.get(key, 0) + (BAR + HEAD) * bars
        return max(wide, self.least.get(key, 0.0))


class _Places:
    """Everything at its place in channels of some widths, and from that the runs of the wires."""

    def __init__(self, wide: Columns, widths: Sequence[float], spare: float) -> None:
        self.wide, self.all_of, self.items, self.spare = wide, wide.all_of, wide.all_of.items, spare
        self.lefts, self.rights, x = list[float](), list[float](), 0.0  # of the channels
        for channel, width in enumerate(widths):
            self.lefts.append(x)
            self.rights.append(x + width + spare)
            x = self.rights[-1] + 2 * wide.half.get(wide.key(channel), 0.0)
        self.lefts.append(x)
        self.centres: list[Point] = []
        for item in self.items:
            left, right = self.rights[item.column], self.lefts[item.column + 1]
            x = (left + right) / 2
            if item.beside:
                key = wide.key(item.column + (item.way < 0))
                aside = wide.zones.get((key, item.way), STRIP) / 2 + 2.0
                x = left - aside if item.way > 0 else right + aside
            self.centres.append((x, self.all_of.rows[item.row]))

    def inner(self, channel: int) -> float:
        """Where a channel begins, right of the numbers of what runs to the left."""
        return self.lefts[channel] + self.wide.zones.get((self.wide.key(channel), -1), 0.0)

    def track(self, w: int, part: int, channel: int) -> float | None:
        """Where a wire runs upright in a channel; None if it does not."""
        if (w, part) not in self.wide.upright:
            return None
        bars = (BAR + HEAD) * self.wide.bars.get((self.wide.key(channel), 1), 0)
        return self.inner(channel) + HEAD + bars + self.spare * 0.3 + TRACK * self.wide.upright[w, part]

    def bar(self, s: int) -> float:
        """The left of the bar of a box."""
        channel, out = self.wide.out_of(s), (BAR + HEAD) * self.wide.rank[s] + 3.0
        if self.items[s].way > 0:
            return self.inner(channel) + out
        return self.rights[channel] - self.wide.zones.get((self.wide.key(channel), 1), 0.0) - out - BAR

    def corners(self, w: int) -> list[Point]:
        """The corners of a wire, from where it leaves to where it comes in."""
        all_of, wire, way = self.all_of, self.all_of.wires[w], self.all_of.ways[w]
        target, (tx, ty) = self.items[wire.target], self.centres[wire.target]
        if w in all_of.risers:
            x = tx + all_of.risers[w]
            return [(x, self.wide.feet[w]), (x, ty + all_of.boxes[wire.target] / 2)]
        if way is None:
            assert wire.source is not None
            (sx, sy), side = self.centres[wire.source], 1 if self.centres[wire.source][1] < ty else -1
            return [(sx, sy + side * all_of.boxes[wire.source] / 2), (tx, ty - side * all_of.boxes[wire.target] / 2)]
        border, end, last = tx - target.way * target.look.width / 2, all_of.ends[w], self.track(w, 1, way.b)
        if wire.source is None:
            x = border - HEAD if last is None else last
            return [(x, self.wide.feet[w]), (x, end), (border, end)]
        source, (sx, sy) = self.items[wire.source], self.centres[wire.source]
        level = all_of.tracks.get(w, end)
        if source.beside:
            found = [(sx, sy - all_of.boxes[wire.source] / 2), (sx, end)]
        elif wire.source in all_of.bars:
            found = [(self.bar(wire.source) + (BAR if source.way > 0 else 0.0), level)]
        else:
            first, start = self.track(w, 0, way.a), all_of.starts[w]
            found = [(sx + source.way * source.look.width / 2, start)]
            found += [] if first is None else [(first, start), (first, level)]
        found += [] if last is None else [(last, level), (last, end)]
        return [*found, (border, end)]

    def run(self, w: int, corners: list[Point]) -> Run:
        """The curve of a wire, and where its number stands."""
        wire, way, curve = self.all_of.wires[w], self.all_of.ways[w], _curve(corners)
        target = self.items[wire.target]
        if w in self.all_of.risers:
            return Run(curve, corners[0], "middle")
        if way is None:
            assert wire.source is not None
            row = min(self.items[wire.source].row, target.row) + 1
            return Run(curve, (self.centres[wire.target][0] - 6.0, self.all_of.strips[row]), "end")
        edge = self.rights[target.column] if target.way > 0 else self.lefts[target.column + 1]
        aside = self.wide.zones.get((self.wide.key(way.b), target.way), STRIP) / 2 + 3.0
        return Run(curve, (edge - target.way * aside, self.all_of.numbers[w]), "middle")

    def routed(self) -> Routed:
        """All of it."""
        wide, all_of = self.wide, self.all_of
        corners = [self.corners(w) for w in range(len(all_of.wires))]
        return Routed(
            self.centres,
            [self.run(w, way) for w, way in enumerate(corners)],
            self.bars(corners),
            {w: corners[w][0] for w in wide.feet},
            [(a, min(b, d), max(b, d)) for way in corners for (a, b), (c, d) in pairwise(way) if a == c],
            [left + wide.ending(key) for left, key in zip(self.lefts, wide.keys, strict=False)],
            self.rights,
            all_of.boxes,
            all_of.bottoms,
            self.rights[-1],
        )

    def bars(self, runs: Sequence[Sequence[Point]]) -> list[Rect]:
        """The bars, each with what joins it to its box."""
        found = []
        for s in sorted(self.all_of.bars):
            left, y = self.bar(s), self.all_of.rows[self.items[s].row]
            ways = zip(runs, self.all_of.wires, self.all_of.ways, strict=True)
            ys = [y, *(corners[0][1] for corners, wire, way in ways if wire.source == s and way is not None)]
            found.append(Rect(left, min(ys) - 6.0, left + BAR, max(ys) + 6.0))
            near = self.centres[s][0] + self.items[s].way * self.items[s].look.width / 2
            if abs(left - near) > 1.0:
                found.append(Rect(min(near, left + 1.0), y - 3.0, max(near, left + 1.0), y + 3.0))
        return found


def columns(
    items: Sequence[Seat],
    wires: Sequence[Wire],
    alike: Mapping[int, object],
    below: Mapping[int, float],
    feet: Mapping[int, tuple[int, float]],
    *,
    size: float = LABEL_SIZE,
    fan: int = FAN,
) -> Columns:
    """How wide everything is.

    Columns of one key in `alike` are equally wide, with their channels; others are on their own. `below` is the room
    below each band; a wire without a source begins there, `feet` lower than the band ends. Numbers are of this `size`;
    what goes to at least `fan` places leaves along a bar.
    """
    all_of = Channels(items, wires, below, size, fan)
    return Columns(all_of, alike, {w: all_of.bottoms[band] + y for w, (band, y) in feet.items()})


def _curve(corners: list[Point]) -> Curve:
    """The corners without those that are the same as the one before."""
    way = [corners[0]]
    for corner in corners[1:]:
        if abs(corner[0] - way[-1][0]) + abs(corner[1] - way[-1][1]) > 0.1:
            way.append(corner)
    return *way[:-1], corners[-1]
