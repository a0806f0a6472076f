"""From a table of boxes to a picture: every edge runs in channels between the columns and the rows.

After this file the reader knows why no number touches another, whatever the cell: each edge comes in at a height of its
own, its number stands before its target in a strip of the channel in which nothing runs upright, and what runs upright
or along a channel has a track of its own. Channels are as wide as they need, equal in all steps.

Lengths are points, y downwards until the scene is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .geometry import Curve, Point, Rect
from .marks import Anchor

HEAD, TRACK, BAR, STRIP, RISER = 13.0, 7.0, 9.0, 34.0, 10.0
"""Lengths of a head with its stub, between two tracks, of a bar, least width of a number, between two risers."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Item:
    """A box in a table, with its size. `way` is 1 where time runs to the right, else -1.

    `ports` are the names of the states that it hands on at heights of their own, `pitch` apart. A box `beside` stands
    in the channel before its column, below what uses it. `wide` and `deep` are room that it takes, if that is more.
    """

    width: float
    height: float
    band: int
    column: int
    row: int
    way: int = 1
    ports: tuple[str, ...] = ()
    beside: bool = False
    wide: float = 0.0
    deep: float = 0.0

    def port(self, name: str, pitch: float) -> float | None:
        """The height at which a state comes in and goes out, from the middle; None if it is none of its states."""
        return (self.ports.index(name) - (len(self.ports) - 1) / 2) * pitch if name in self.ports else None


@dataclass(frozen=True)
class Wire:
    """An edge between two boxes, by their numbers, with the width of its number; or, without a source, from below.

    `state` is the name of the state that it carries; an upright one joins two boxes of one column.
    """

    source: int | None
    target: int
    room: float
    state: str = ""
    upright: bool = False


@dataclass(frozen=True)
class Way:
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
    """The answer: centres of boxes, runs, bars, feet of wires from below, what runs upright, left ends, heights."""

    centres: list[Point]
    runs: list[Run]
    bars: list[Rect]
    feet: dict[int, Point]
    posts: list[tuple[float, float, float]]
    lefts: list[float]
    boxes: dict[int, float]
    bottoms: dict[int, float]
    width: float
    widths: dict[object, float]
    spare: float


def risers_of(items: Sequence[Item], wires: Sequence[Wire]) -> dict[int, float]:
    """Wires that come straight up from below, where nothing stands in their way: how far from the middle."""
    lowest: dict[tuple[int, int], int] = {}
    for item in items:
        if not item.beside:
            lowest[item.band, item.column] = max(lowest.get((item.band, item.column), 0), item.row)
    coming: dict[int, list[int]] = {}
    for w, wire in enumerate(wires):
        target = items[wire.target]
        if wire.source is None and target.row == lowest[target.band, target.column]:
            coming.setdefault(wire.target, []).append(w)
    return {w: RISER * (k - (len(of) - 1) / 2) for of in coming.values() for k, w in enumerate(of)}


def ways_of(items: Sequence[Item], wires: Sequence[Wire], risers: Collection[int]) -> list[Way | None]:
    """The channels of each wire; None for one that is upright."""
    rows: dict[int, set[int]] = {}
    for item in items:
        rows.setdefault(item.row, set()).add(item.column)
    found: list[Way | None] = []
    for w, wire in enumerate(wires):
        target = items[wire.target]
        b = target.column + (target.way < 0)
        if w in risers:
            found.append(None)
            continue
        if wire.source is None or items[wire.source].beside:
            found.append(Way(b, b))
            continue
        source = items[wire.source]
        a = source.column + (source.way > 0)
        if wire.upright:
            found.append(None)
        elif a == b or not rows[target.row] & set(range(min(a, b), max(a, b))):
            found.append(Way(a, b))
        else:
            found.append(Way(a, b, target.row + (source.row > target.row)))
    return found


def _rank(w: int, items: Sequence[Item], wire: Wire, way: Way | None) -> tuple[float, ...]:
    """From above to below, in which order wires come in; the first number is the side from which one comes."""
    assert way is not None
    if wire.source is None or items[wire.source].beside:  # which comes up under all numbers
        return 2.0, float(w)
    source, target = items[wire.source], items[wire.target]
    side = (
        (way.level - target.row) * 2.0 - 1.0
        if way.level is not None
        else float((source.row > target.row) - (source.row < target.row))
    )
    return (side, float(source.row), -source.column * target.way * (1 if side >= 0 else -1), float(w))


def coming_in(
    items: Sequence[Item], wires: Sequence[Wire], ways: Sequence[Way | None], pitch: float, size: float
) -> tuple[dict[int, float], dict[int, float]]:
    """The height at which each wire comes in, from the middle of its target, and that of its number."""
    port, lift = size + 8.0, size / 2 + 4.0
    coming: dict[int, list[int]] = {}
    for w, wire in enumerate(wires):
        if ways[w] is not None:
            coming.setdefault(wire.target, []).append(w)
    heights: dict[int, float] = {}
    numbers: dict[int, float] = {}

    def rank(w: int) -> tuple[float, ...]:
        return _rank(w, items, wires[w], ways[w])

    for t, all_of in coming.items():
        fixed = {w: items[t].port(wires[w].state, pitch) for w in all_of}
        known = {w: y for w, y in fixed.items() if y is not None}
        free = sorted((w for w in all_of if w not in known), key=rank)
        taken = set(known.values())
        if len(taken) < len(known):  # two uses of one state
            known, free = {}, sorted(all_of, key=rank)
        heights |= known
        numbers |= {w: y - lift for w, y in known.items()}
        numbered = [w for w in free if wires[w].room and wires[w].source is not None]
        level = [w for w in free if rank(w)[0] == 0.0]
        if len(level) == 1 and not known and wires[level[0]].source is not None:
            k = free.index(level[0])
            sides = free[:k][::-1], free[k + 1 :]
            few = len(numbered) == len(free) == 2
            heights[level[0]] = 0.0
            numbers[level[0]] = lift if few and sides[0] else -lift
            for side, others in zip((-1.0, 1.0), sides, strict=True):
                y, before = 0.0, level[0] in numbered
                for w in others:  # a number stands above its line: of those above, room is left for the one below
                    y += 14.0 if few else port if (before if side < 0 else w in numbered) else 10.0
                    before = w in numbered
                    heights[w] = side * y
                    numbers[w] = side * (y + lift) if few else side * y - lift
            continue
        if len(numbered) == 2 and not known and len(free) == 2:
            heights |= {free[0]: -8.0, free[1]: 8.0}
            numbers |= {free[0]: -8.0 - lift, free[1]: 8.0 + lift}
            continue
        y, placed = 0.0, list[float]()
        for w in free:
            y += port if w in numbered and placed else 10.0 if placed else 0.0
            placed.append(y)
        base = max(known.values()) + port if known else -y / 2
        for w, at in zip(free, placed, strict=True):
            heights[w], numbers[w] = base + at, base + at - lift
    return heights, numbers


@dataclass(frozen=True)
class Heights:
    """The middle of each row, the height of each track above a row, and how high each box is."""

    rows: dict[int, float]
    tracks: dict[int, float]
    boxes: dict[int, float]
    strips: dict[int, float]
    bottoms: dict[int, float]


def heights_of(
    items: Sequence[Item],
    wires: Sequence[Wire],
    ways: Sequence[Way | None],
    ports: Mapping[int, float],
    numbers: Mapping[int, float],
    below: Mapping[int, float],
    size: float,
) -> Heights:
    """Rows are as high as their boxes and numbers, with room above for what runs along; `below` each band is room."""
    boxes = {k: item.height for k, item in enumerate(items)}
    up: dict[int, float] = {}
    down: dict[int, float] = {}
    for w, wire in enumerate(wires):
        if w in ports:
            boxes[wire.target] = max(boxes[wire.target], 2 * abs(ports[w]) + 12.0)
            row = items[wire.target].row
            if wire.room and wire.source is not None:
                up[row] = max(up.get(row, 0.0), size / 2 + 1.5 - numbers[w])
                down[row] = max(down.get(row, 0.0), size / 2 + 1.5 + numbers[w])
    for k, item in enumerate(items):
        up[item.row] = max(up.get(item.row, 0.0), boxes[k] / 2)
        down[item.row] = max(down.get(item.row, 0.0), boxes[k] / 2 + item.deep)
    along = [(w, way) for w, way in enumerate(ways) if way is not None and way.level is not None]
    lanes = _coloured([((way.level, min(way.a, way.b), max(way.a, way.b)), w) for w, way in along])
    lines = Counter[int]()
    for w, way in along:
        lines[way.level or 0] = max(lines[way.level or 0], lanes[w] + 1)
    tall = {
        min(items[wire.source].row, items[wire.target].row) + 1
        for wire in wires
        if wire.upright and wire.source is not None
    }
    bands = {item.row: item.band for item in items}
    rows: dict[int, float] = {}
    first: dict[int, float] = {}
    strips: dict[int, float] = {}
    bottoms: dict[int, float] = {}
    y = 0.0
    last = max(bands, default=0)
    for row in range(last + 2):
        if row in bands and row and bands.get(row - 1) != bands[row]:
            bottoms[bands[row - 1]] = y
            y += below.get(bands[row - 1], 0.0)
        if row == last + 1:
            bottoms[bands[last]] = y
        strips[row] = y + size / 2 + 3.5
        y += (size + 7.0) * (row in tall) + 5.0
        first[row] = y + 3.0
        y += TRACK * lines[row]
        if row in bands:
            rows[row] = y + 3.0 + up[row]
            y = rows[row] + down[row] + 3.0
        else:
            rows[row] = y
    tracks = {w: first[way.level] + TRACK * lanes[w] for w, way in along if way.level is not None}
    return Heights(rows, tracks, boxes, strips, bottoms)


def _coloured(spans: Iterable[tuple[tuple[Any, float, float], int]]) -> dict[int, int]:
    """A track for each span (channel, from, to), the first in which nothing touches it; long ones stand farther out."""
    taken: dict[object, list[list[Span]]] = {}
    found: dict[int, int] = {}
    for (channel, lo, hi), key in sorted(spans, key=lambda item: (item[0][2] - item[0][1], item[1])):
        tracks = taken.setdefault(channel, [])
        free = (k for k, track in enumerate(tracks) if all(hi < a or b < lo for a, b in track))
        found[key] = next(free, len(tracks))
        if found[key] == len(tracks):
            tracks.append([])
        tracks[found[key]].append((lo, hi))
    return found


def leaving(
    items: Sequence[Item],
    wires: Sequence[Wire],
    ways: Sequence[Way | None],
    ends: Mapping[int, float],
    high: Heights,
    pitch: float,
    size: float,
    fan: int,
) -> tuple[dict[int, float], set[int]]:
    """The height at which each wire leaves its source, straight on where that can be; and the boxes that have a bar."""
    leaving: dict[int, list[int]] = {}
    busy: dict[int, list[float]] = {}  # by channel, where something runs level through its left half
    for w, way in enumerate(ways):
        source = wires[w].source
        if way is None:
            continue
        if source is not None and not items[source].beside:
            leaving.setdefault(source, []).append(w)
        for channel in range(min(way.a, way.b), max(way.a, way.b) + 1) if way.level is None else (way.b,):
            busy.setdefault(channel, []).append(ends[w])
    starts: dict[int, float] = {}
    bars: set[int] = set()
    for s, out in leaving.items():
        item, middle, taken = items[s], high.rows[items[s].row], list[float]()
        fixed = {w: item.port(wires[w].state, pitch) for w in out}
        if len(out) >= fan and not item.ports:
            bars.add(s)
        reach = high.boxes[s] / 2 - 5.0
        ahead = {w for w in out if items[wires[w].target].row == item.row}
        handed = {w for w in out if items[wires[w].target].port(wires[w].state, pitch) is not None}
        for w in sorted(out, key=lambda w: (w not in handed, w not in ahead, ends[w])):
            port, way = fixed[w], ways[w]
            assert way is not None
            straight = way.level is None and abs(ends[w] - middle) <= reach and items[wires[w].target].row == item.row
            if port is not None and not any(abs(middle + port - y) < 4.0 for y in taken):
                starts[w] = middle + port
            elif straight and not any(abs(ends[w] - y) < 0.85 * size - 0.5 for y in taken):
                starts[w] = ends[w]
            else:
                down = ends[w] > middle
                others = [y for y in busy.get(way.a, ()) if y != ends[w]]
                steps = [k * 2.0 * side for k in range(int(reach / 2) + 1) for side in ((1, -1) if down else (-1, 1))]
                for apart in (0.85 * size, 5.0, 2.0, -1.0):
                    spot = next(
                        (
                            middle + dy
                            for dy in steps
                            if all(abs(middle + dy - y) >= apart for y in taken)
                            and all(abs(middle + dy - y) >= 4.0 for y in (*others, ends[w]))
                        ),
                        None,
                    )
                    if spot is not None or apart < 0:
                        break
                starts[w] = middle if spot is None else spot
            taken.append(starts[w])
    return starts, bars


def upright_of(
    items: Sequence[Item],
    wires: Sequence[Wire],
    ways: Sequence[Way | None],
    starts: Mapping[int, float],
    ends: Mapping[int, float],
    high: Heights,
    bars: set[int],
    feet: Mapping[int, float],
) -> dict[tuple[int, int], tuple[int, int]]:
    """Where each wire runs upright: its channel and its track there, for its beginning (0) and for its end (1)."""
    spans: list[tuple[tuple[int, float, float], int]] = []
    keys: list[tuple[int, int]] = []
    for w, way in enumerate(ways):
        if way is None:
            continue
        source = wires[w].source
        barred = source in bars
        if source is not None and items[source].beside:
            continue
        if w in feet:
            pieces = [(1, way.b, ends[w], feet[w])]
        elif way.level is None:
            pieces = [(0, way.a, starts[w], ends[w])] if not barred else []
        else:
            pieces = [(0, way.a, starts[w], high.tracks[w])] if not barred else []
            pieces.append((1, way.b, high.tracks[w], ends[w]))
        for part, channel, y0, y1 in pieces:
            if abs(y0 - y1) > 0.5:
                spans.append(((channel, min(y0, y1) - 2.0, max(y0, y1) + 2.0), len(keys)))
                keys.append((w, part))
    tracks = _coloured(spans)
    return {key: (spans[n][0][0], tracks[n]) for n, key in enumerate(keys)}
