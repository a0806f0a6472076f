"""The lines of a page: as many steps on each as have room, with copies of what they begin with, and rows of parameters.

After this file the reader knows that a step is as wide on every line, and where the number of a parameter's use stands:
right of where it leaves its row, clear of all that runs upright there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from ..graph.model import GradientGraph
from ..graph.parts import Edge
from ..graph.steps import states
from ..norms import Norm, norm_of
from . import grid
from .channels import Routed, Wire
from .cut import Place, cut
from .geometry import Point, Rect, line
from .marks import SCALE
from .routes import route
from .scene import Frame, PlacedEdge, PlacedNode, Scene
from .style import (
    Look,
    clean,
    number,
    number_room,
    short,
    text_width,
)
from .table import LANE_PITCH, LAYER, Seat, Table, check_size, grown

LEVEL, TOTAL_HEIGHT = 21.0, 18.0
"""From one parameter's row to the next."""
TOTAL, DROP, HEADROOM = 88.0, 24.0, 22.0
MOST_ONCE = 5
"""Up to so many steps parameters are rows of a table by default."""

SLIDE = 1280.0
"""Of a page in pixels, unless another is asked for."""

_START, _END = -1, 1_000_000
_Line = tuple[list[Seat], list[Edge], list[Wire], dict[int, tuple[int, float]], dict[int, list[int]]]
"""Boxes, edges, wires, where parameters come up, and the rows of these."""


def arrange(graph: GradientGraph, prefix: str, parameters: str, norm: Norm, width: float) -> Scene | None:
    """The scene of a graph that time orders, with lines as wide as the page; None for any other."""
    parts = cut(graph)
    if parts is None:
        return None
    counts = Counter([*(target for *_, target in parts.uses), *(target for _, target in parts.parameters)])
    check_size(max(counts.values(), default=0), "a time step")
    if parameters == "auto":
        parameters = "once" if sum(map(bool, parts.steps)) <= MOST_ONCE else "step"
    lanes = states(graph) if any(node.members for node in graph.nodes) else {}
    cell = grid.read(parts, graph)
    table = Table(graph, cell.parts if cell is not None else parts, lanes, prefix, norm)
    if cell is not None:
        table.boxes = {key: cell.sized(seat) for key, seat in table.boxes.items()}
    return _Lines(table, cell, parameters == "once").scene(width * SCALE - 24.0)


class _Lines:
    """A table on a page: as many slots on a line as have room, the lines below each other."""

    def __init__(self, table: Table, cell: grid.Cell | None, once: bool) -> None:
        self.table, self.cell, self.once = table, cell, once
        self.page = Scene()
        self.least: dict[object, float] = {}
        self.stretch: float | None = None
        self.found = cache(self._found)

    def scene(self, width: float) -> Scene:
        """All lines."""
        slots = sorted({place[1] for place in self.table.parts.blocks})
        lines = self._broken(slots, width)
        width -= 90.0 if any(self.table.parts.bands) else 0.0
        drafts = [self._routed(slots, width).routed for slots in lines]
        for draft in drafts:  # a step is as wide on every line
            for key, wide in draft.widths.items():
                self.least[key] = max(self.least.get(key, 0.0), wide)
        if len(lines) > 1:
            drafts = [self._routed(slots, width).routed for slots in lines]
        self.stretch, y = min(draft.spare for draft in drafts), 0.0
        for k, line_of in enumerate(lines):
            y = self._line(line_of, y, k == len(lines) - 1)
        parts = self.table
        drawn = Counter(placed.node.id for placed in self.page.nodes if not placed.look.shape == "again")
        self.page.shared = {id: count for id, count in drawn.items() if count > 1 and not parts.graph.nodes[id].members}
        self.page.edges.sort(key=lambda placed: (placed.edge.target, placed.edge.operand, placed.edge.source))
        return self.page

    def _broken(self, slots: list[int], width: float) -> list[list[int]]:
        """The slots of each line: as many steps on each as fit, equally many if that can be."""
        measured = self._routed(slots, 0.0)
        first: dict[int, float] = {}
        for item in measured.items:
            first.setdefault(item.slot, measured.routed.lefts[measured.offsets[item.slot]])
        ends = [*sorted(first.values()), measured.routed.width]
        wide = {slot: ends[ends.index(x) + 1] - x for slot, x in first.items()}
        room = width - (90.0 if any(self.table.parts.bands) else 0.0)
        feet = [x for x, _ in measured.routed.feet.values()]
        whole = max(measured.routed.width, max(feet) + 52.0 + TOTAL if feet and self.once else 0.0)
        if whole <= room:
            return [slots]
        room -= 70.0  # for the copies that a line begins with
        count = len(self._filled(slots, wide, room))
        widths = (room * k / 16 for k in range(1, 17))
        return next(lines for w in widths if len(lines := self._filled(slots, wide, w)) <= count)

    def _filled(self, slots: Sequence[int], wide: Mapping[int, float], room: float) -> list[list[int]]:
        """The slots of each line, where lines are so wide; what is no step stays with the one before."""
        steps, found, used = self.table.parts.steps, list[list[int]]([[]]), 0.0
        for k, slot in enumerate(slots):
            following = wide[slots[k + 1]] if k + 1 < len(slots) and not steps[slots[k + 1]] else 0.0
            if steps[slot] and used + wide[slot] + following > room and any(steps[other] for other in found[-1]):
                found.append([])
                used = 0.0
            found[-1].append(slot)
            used += wide[slot]
        return found

    def _routed(self, slots: Sequence[int], page: float) -> _Routed:
        """A line, routed; what stands on it is found once."""
        return self._numbered(*self.found(tuple(slots)), page)

    def _found(self, slots: Sequence[int]) -> _Line:
        """What stands on a line, with copies of what it uses from other lines."""
        table, parts = self.table, self.table.parts
        there = set(slots)
        items: list[Seat] = []
        index: dict[tuple[int, Place], int] = {}
        for key, item in table.boxes.items():
            if item.slot in there:
                index[key] = len(items)
                items.append(item)
        wires: list[Wire] = []
        edges: list[Edge] = []
        seats: set[tuple[int, int, int]] = set()
        for edge, home, place in parts.uses:
            if place[1] not in there:
                continue
            key = edge.source, home
            if key not in index:
                item = table.boxes[key]
                slot, row = (_START if item.slot < slots[0] else _END), item.row
                while (item.band, slot, row) in seats:
                    row += 1
                seats.add((item.band, slot, row))
                shape = replace(item.look, shape="again")
                index[key] = len(items)
                items.append(
                    replace(item, id=f"{item.id}_again{slots[0]}", slot=slot, column=0, row=row, look=shape, again=True)
                )
            s, t = index[key], index[edge.target, place]
            up = (edge.source, edge.target, place) in table.joined and home == place
            room = number_room(edge, items[s].node, table.norm)
            edges.append(edge)
            wires.append(Wire(s, t, room, table.state_of(edge, items[t]), up))
        feet: dict[int, tuple[int, float]] = {}
        used = {(place[0], edge.source) for edge, place in parts.parameters if place[1] in there}
        everything = self.once and slots[-1] == max(place[1] for place in parts.blocks)
        rows = {
            band: kept
            for band, ids in table.rows.items()
            if (kept := [id for id in ids if everything or (band, id) in used])
        }
        for edge, place in parts.parameters:
            if place[1] in there:
                feet[len(wires)] = place[0], DROP + LEVEL * rows[place[0]].index(edge.source)
                edges.append(edge)
                wires.append(
                    Wire(
                        None,
                        index[edge.target, place],
                        number_room(edge, self.table.graph.nodes[edge.source], table.norm),
                    )
                )
        return items, edges, wires, feet, rows

    def _numbered(
        self,
        items: list[Seat],
        edges: list[Edge],
        wires: list[Wire],
        feet: Mapping[int, tuple[int, float]],
        under: Mapping[int, Sequence[int]],
        page: float,
    ) -> _Routed:
        """The same with the columns and rows of the whole line."""
        table = self.table
        slots = sorted({item.slot for item in items})
        bands = sorted({item.band for item in items})
        below = {band: HEADROOM + 14.0 + (LEVEL * len(under.get(band, ())) + DROP) * (band in under) for band in bands}
        if self.cell is not None:
            deep = {w: y for w, (_, y) in feet.items()}
            routed = grid.route(self.cell, items, wires, deep, once=self.once, page=page, stretch=self.stretch)
            return _Routed(
                items,
                edges,
                wires,
                routed,
                {slot: k for k, slot in enumerate(slots)},
                dict.fromkeys(slots, 1),
                below,
                bands,
                under,
            )
        wide = {slot: 1 + max(item.column for item in items if item.slot == slot) for slot in slots}
        offsets: dict[int, int] = {}
        column = 0
        for slot in slots:
            offsets[slot] = column
            column += wide[slot]
        rows = sorted({(item.band, item.row) for item in items})
        rank = {key: k for k, key in enumerate(rows)}
        moved = [
            item.item(
                offsets[item.slot] + (item.column if item.way > 0 else wide[item.slot] - 1 - item.column),
                rank[item.band, item.row],
            )
            for item in items
        ]
        alike: dict[int, object] = {}
        for slot in slots:
            stepped = slot not in (_START, _END) and bool(table.parts.steps[slot])
            for k in range(wide[slot]):
                alike[offsets[slot] + k] = (wide[slot], k) if stepped else (slot, k, "alone")
        routed = route(moved, wires, alike, below, feet, LANE_PITCH, page=page, least=self.least, stretch=self.stretch)
        return _Routed(items, edges, wires, routed, offsets, wide, below, bands, under)

    def _line(self, slots: Sequence[int], y: float, last: bool) -> float:
        """Put a line into the scene; returns where the next one begins."""
        found = self._routed(slots, 0.0)
        top = y + HEADROOM
        put = _Put(self, found, top, last)
        put.frames(slots)
        put.boxes()
        put.parameters()
        put.titles()
        bottom = max(found.routed.bottoms[found.bands[-1]], 0.0)
        return top + bottom + found.below[found.bands[-1]] + 6.0


@dataclass(frozen=True)
class _Routed:
    items: list[Seat]
    edges: list[Edge]
    wires: list[Wire]
    routed: Routed
    offsets: Mapping[int, int]
    wide: Mapping[int, int]
    below: Mapping[int, float]
    bands: Sequence[int]
    rows: Mapping[int, Sequence[int]]


class _Put:
    """A routed line, put into the scene: y points up there."""

    def __init__(self, lines: _Lines, found: _Routed, top: float, last: bool) -> None:
        self.lines, self.found, self.last = lines, found, last
        self.table, self.page, self.down = lines.table, lines.page, top

    def at(self, point: Point) -> Point:
        """A place in the scene."""
        return point[0], -(point[1] + self.down)

    def rect(self, r: Rect) -> Rect:
        """The same of a rectangle."""
        return Rect(r.left, -(r.top + self.down), r.right, -(r.bottom + self.down))

    def band_top(self, band: int) -> float:
        """Where a band begins."""
        k = self.found.bands.index(band)
        before = self.found.bands[k - 1] if k else None
        return 0.0 if before is None else self.found.routed.bottoms[before] + self.found.below[before]

    def frames(self, slots: Sequence[int]) -> None:
        """A panel for each block that is a time step of several boxes."""
        parts, lefts = self.table.parts, self.found.routed.lefts
        for band in self.found.bands:
            for slot in slots:
                inside = [item for item in self.found.items if (item.band, item.slot) == (band, slot)]
                if not parts.steps[slot] or not inside or (len(inside) == 1 and inside[0].node.members):
                    continue
                a = self.found.offsets[slot]
                b = a + self.found.wide[slot]
                low = self.found.routed.bottoms[band] + 5.0
                if not self.lines.once and band in self.found.rows:
                    low += self.found.below[band] - HEADROOM - 26.0
                rect = Rect(lefts[a] + 15.0, self.band_top(band) - HEADROOM, lefts[b] + 7.0, low)
                step = parts.steps[slot]
                self.page.frames.append(Frame(f"t = {step[2:]}", self.rect(rect), tuple(i.node for i in inside), step))

    def boxes(self) -> None:
        """Boxes, edges between them, and bars."""
        frames = {frame.step: k for k, frame in enumerate(self.page.frames)}
        high = self.found.routed.boxes
        for k in sorted(range(len(high)), key=lambda k: -self.found.items[k].band):  # from below
            item, centre = self.found.items[k], self.found.routed.centres[k]
            shape = grown(item.look, high[k])
            placed = PlacedNode(item.id, item.node, shape, self.at(centre), frames.get(item.node.step))
            self.page.nodes.append(placed)
        found = self.found
        for edge, wire, run in zip(found.edges, found.wires, found.routed.runs, strict=True):
            if wire.source is not None:
                ends = found.items[wire.source].id.partition("_again")[0], found.items[wire.target].id
                curve = tuple(self.at(point) for point in run.curve)
                self.page.edges.append(PlacedEdge(edge, *ends, curve, self.at(run.label), run.anchor, run.room))
        self.page.spines += [self.rect(bar) for bar in self.found.routed.bars]

    def parameters(self) -> None:
        """Each parameter's row, with a number at every use, and at its end the whole gradient; or a box at each use."""
        found, feet = self.found, self.found.routed.feet
        reach: dict[tuple[int, int], list[float]] = {}
        right, posts, taken = 0.0, found.routed.posts, list[tuple[float, float, float]]()
        for w, (x, y) in feet.items():
            edge, wire, run = found.edges[w], found.wires[w], found.routed.runs[w]
            target = found.items[wire.target]
            node = self.table.graph.nodes[edge.source]
            shape = self.table.look(node, state=False)
            wide = wire.room + (0.0 if self.lines.once else shape.width + 12.0)
            left = x + 6.0
            for other, top, deep in sorted([*posts, *taken]):
                if top < y + 9.0 and deep > y - 14.0 and left - 4.0 < other < left + wide + 3.0:
                    left = other + 6.0
            taken += [(left + part * wide, y - 1.0, y + 1.0) for part in (0.0, 0.5, 1.0)]
            right = max(right, left + wide)
            reach.setdefault((target.band, node.id), []).append(x)
            if self.lines.once:
                curve, label = run.curve, (left, y - 8.0)
                tail = self.name(node.id, target.band)
                self.page.dots.append((self.at((x, y)), edge))
            else:
                left += 6.0
                tail = f"{self.table.prefix}n{node.id}_{target.id.partition('n')[2]}"
                if any(placed.id == tail for placed in self.page.nodes[-80:]):
                    tail += f"_{edge.operand}"
                shape = replace(shape, height=18.0)
                self.page.nodes.append(PlacedNode(tail, node, shape, self.at((left + shape.width / 2, y))))
                curve = (*line((left, y), (x, y)), *run.curve[1:])
                label = left + shape.width + 4.0, y
            curve = tuple(self.at(point) for point in curve)
            self.page.edges.append(PlacedEdge(edge, tail, target.id, curve, self.at(label), "start"))
        if self.lines.once:
            self.rows(reach, right)

    def rows(self, reach: Mapping[tuple[int, int], list[float]], right: float) -> None:
        """The lines of the rows, and their sums."""
        right = max(right + 8.0, self.found.routed.width - TOTAL)
        for band, ids in self.found.rows.items():
            for k, id in enumerate(ids):
                y = self.found.routed.bottoms[band] + DROP + LEVEL * k
                node = self.table.graph.nodes[id]
                if (band, id) in reach or (self.last and node.gradient is not None):
                    start = min(reach.get((band, id), [right - 20.0]))
                    self.page.lanes.append((self.at((start, y)), self.at((right, y))))
                if self.last and node.gradient is not None:
                    name = str(short(LAYER.sub("", clean(node.name or "", 24))))
                    shape = Look(
                        "parameter",
                        "total",
                        TOTAL,
                        TOTAL_HEIGHT,
                        name,
                        number(norm_of(node.gradient, self.table.norm)),
                        11.0,
                    )
                    self.page.nodes.append(
                        PlacedNode(self.name(id, band), node, shape, self.at((right + TOTAL / 2, y)))
                    )

    def name(self, id: int, band: int) -> str:
        """The name of a parameter's row; one that several layers share has one in each."""
        several = sum(id in ids for ids in self.table.rows.values()) > 1
        return f"{self.table.prefix}n{id}" + (f"_b{band}" if several else "")

    def titles(self) -> None:
        """The layers' names at the left, one word below the other where they are long."""
        names = self.table.parts.bands
        words = {band: names[band].split(" reverse") for band in self.found.bands if names[band]}
        parts = {band: [w[0], "reverse"] if len(w) > 1 else w for band, w in words.items()}
        left = -16.0 - max((text_width(part, 12.0) * 1.06 for lines in parts.values() for part in lines), default=0.0)
        for band, lines in sorted(parts.items(), reverse=True):
            middle = (self.band_top(band) + self.found.routed.bottoms[band]) / 2
            for n, part in enumerate(lines):
                self.page.titles.append((self.at((left, middle + (n - (len(lines) - 1) / 2) * 15.0)), part))
