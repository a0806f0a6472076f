"""The lines of a page: as many steps on each as have room, with copies of what they begin with, and rows of parameters.

After this file the reader knows that a step is as wide on every line, and where the number of a parameter's use stands:
right of where it leaves its row, clear of all that runs upright there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain, pairwise

from ..graph.model import GradientGraph
from ..graph.parts import Edge
from ..graph.steps import states
from ..norms import Norm, norm_of
from . import grid
from .channels import Routed, Seat, Wire
from .cut import Place, cut
from .geometry import Point, Rect
from .marks import SCALE
from .routes import Columns, columns
from .scene import Frame, PlacedEdge, PlacedNode, Scene
from .style import Look, number, number_room, text_width
from .table import Table, check_size, grown

LEVEL, TOTAL_HEIGHT = 21.0, 18.0
"""From one parameter's row to the next."""
DROP, HEADROOM = 24.0, 22.0
MOST_ONCE = 5
"""Up to so many steps parameters are rows of a table by default."""

SLIDE = 1280.0
"""Of a page in pixels, unless another is asked for."""

_START, _END = -1, 1_000_000  # slots of copies, before and after all others
_TITLES = 90.0


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
    return _scene(table, cell, parameters == "once", width * SCALE - 24.0)


def _scene(table: Table, cell: grid.Cell | None, once: bool, width: float) -> Scene:
    """All lines, below each other: as many slots on each as have room."""
    width -= _TITLES if any(table.parts.bands) else 0.0
    whole = _Line(table, cell, once, sorted({place[1] for place in table.parts.blocks}))
    broken = _broken(whole, width)
    lines = [whole] if len(broken) == 1 else [_Line(table, cell, once, slots) for slots in broken]
    least: dict[object, float] = {}  # a step is as wide on every line
    for key, wide in chain.from_iterable(line_of.columns.widths.items() for line_of in lines):
        least[key] = max(least.get(key, 0.0), wide)
    spare = min(line_of.columns.spare(width, least) for line_of in lines)
    found = [line_of.columns.route(least, spare) for line_of in lines]
    scene, y = Scene(), 0.0
    for line_of, routed in zip(lines, found, strict=True):
        put = _PutLine(scene, line_of, routed, y + HEADROOM)
        put.frames()
        put.boxes(line_of.items, line_of.edges, line_of.wires)
        put.parameters()
        put.titles()
        y = put.down + put.bottom(line_of.bands[-1], with_rows=True) + 6.0
    drawn = Counter(placed.node.id for placed in scene.nodes if not placed.look.shape == "again")
    scene.shared = {id: count for id, count in drawn.items() if count > 1 and not table.graph.nodes[id].members}
    scene.edges.sort(key=lambda placed: (placed.edge.target, placed.edge.operand, placed.edge.source))
    return scene


def _broken(whole: _Line, room: float) -> list[Sequence[int]]:
    """The slots of each line: as many steps on each as fit, equally many if that can be."""
    routed = whole.columns.route({}, 0.0)
    feet = [x for x, _ in routed.feet.values()]
    if max(routed.width, max(feet) + 52.0 + whole.table.total if feet and whole.once else 0.0) <= room:
        return [whole.slots]
    lefts = [routed.lefts[whole.offsets[slot]] for slot in whole.slots] + [routed.width]
    wide = {slot: after - left for slot, (left, after) in zip(whole.slots, pairwise(lefts), strict=True)}
    room -= 70.0  # for the copies that a line begins with
    count = len(_filled(whole, wide, room))
    widths = (room * k / 16 for k in range(1, 17))
    return next(lines for w in widths if len(lines := _filled(whole, wide, w)) <= count)


def _filled(whole: _Line, wide: Mapping[int, float], room: float) -> list[Sequence[int]]:
    """The slots of each line, where lines are so wide; what is no step stays with the next one, or the last."""
    slots, found = whole.slots, list[list[int]]([[]])
    ends = [k + 1 for k, slot in enumerate(slots) if whole.table.parts.steps[slot]]
    for start, end in pairwise([0, *ends[:-1], len(slots)]):
        if found[-1] and sum(wide[slot] for slot in (*found[-1], *slots[start:end])) > room:
            found.append([])
        found[-1] += slots[start:end]
    return [*found]


class _Line:
    """What stands on a line, with copies of what it uses from other lines.

    `feet` are the wires of parameters: the band, and how deep below it they begin. `rows` are the parameters of each
    band, `below` its room for them; `offsets` the first column of a slot, and `wide` how many it has.
    """

    def __init__(self, table: Table, cell: grid.Cell | None, once: bool, slots: Sequence[int]) -> None:
        self.table, self.cell, self.once, self.slots = table, cell, once, slots
        self.items: list[Seat] = []
        self.edges: list[Edge] = []
        self.wires: list[Wire] = []
        self.feet: dict[int, tuple[int, float]] = {}
        parts, index = table.parts, dict[tuple[int, Place], int]()
        for key, item in table.boxes.items():
            if item.slot in slots:
                index[key] = len(self.items)
                self.items.append(item)
        for edge, home, place in parts.uses:
            if place[1] in slots:
                if (edge.source, home) not in index:
                    index[edge.source, home] = len(self.items)
                    self.items.append(self._copy(table.boxes[edge.source, home]))
                s, t = index[edge.source, home], index[edge.target, place]
                up = (edge.source, edge.target, place) in table.joined and home == place
                self._add(edge, Wire(s, t, 0.0, table.state_of(edge, self.items[t]), up))
        there = [(edge, place) for edge, place in parts.parameters if place[1] in slots]
        used = {(place[0], edge.source) for edge, place in there}
        self.final = {band for band in table.rows if once and max(s for b, s in parts.blocks if b == band) in slots}
        kept = {
            band: [id for id in ids if band in self.final or (band, id) in used] for band, ids in table.rows.items()
        }
        self.rows = {band: ids for band, ids in kept.items() if ids}
        high, left = {band: len(ids) for band, ids in self.rows.items()}, Counter(place for _, place in there)
        if not once:  # boxes have a row each, and the first is the leftmost and the lowest: no line crosses another
            there.sort(key=lambda use: self.rows[use[1][0]].index(use[0].source), reverse=True)
            high = {band: max(left[place] for place in left if place[0] == band) for band in self.rows}
        for edge, place in there:
            left[place] -= 1
            level = self.rows[place[0]].index(edge.source) if once else left[place]
            self.feet[len(self.wires)] = place[0], DROP + LEVEL * level
            box = 0.0 if once else table.look(table.graph.nodes[edge.source], state=False).width + 12.0
            self._add(edge, Wire(None, index[edge.target, place], box))
        self.bands = sorted({item.band for item in self.items})
        self.below = {
            band: HEADROOM + 14.0 + (LEVEL * high[band] + DROP if band in self.rows else 0.0) for band in self.bands
        }
        self.offsets: dict[int, int] = {}
        self.wide: dict[int, int] = {}
        for slot in sorted({item.slot for item in self.items}):
            self.offsets[slot] = sum(self.wide.values())
            columns = max(item.column for item in self.items if item.slot == slot) + 1
            self.wide[slot] = columns if cell is None else 1

    def _add(self, edge: Edge, wire: Wire) -> None:
        room = wire.room + number_room(edge, self.table.graph.nodes[edge.source], self.table.norm)
        self.edges.append(edge)
        self.wires.append(wire._replace(room=room))

    def _copy(self, item: Seat) -> Seat:
        """What stands on another line, once more at the beginning or at the end of this one."""
        slot, row = (_START if item.slot < self.slots[0] else _END), item.row
        taken = {(other.band, other.row) for other in self.items if other.slot == slot}
        while (item.band, row) in taken:
            row += 1
        shape = item.look._replace(shape="again")
        return item._replace(id=f"{item.id}_again{self.slots[0]}", slot=slot, column=0, row=row, look=shape)

    @cached_property
    def columns(self) -> Columns | grid.Slots:
        """The columns and channels of the line, equal ones in all steps; of a known cell its slots."""
        if self.cell is not None:
            return grid.Slots(self.cell, self.items, self.wires, {w: y for w, (_, y) in self.feet.items()}, self.once)
        rank = {key: k for k, key in enumerate(sorted({(item.band, item.row) for item in self.items}))}
        moved = []
        for item in self.items:
            column = item.column if item.way > 0 else self.wide[item.slot] - 1 - item.column
            moved.append(item._replace(column=self.offsets[item.slot] + column, row=rank[item.band, item.row]))
        alike: dict[int, object] = {}
        for slot, wide in self.wide.items():
            stepped = slot in self.slots and bool(self.table.parts.steps[slot])
            for k in range(wide):
                alike[self.offsets[slot] + k] = (wide, k) if stepped else (slot, k, "alone")
        return columns(moved, self.wires, alike, self.below, self.feet)


class Put:
    """Routed boxes, put into a scene: y points up there."""

    def __init__(self, scene: Scene, routed: Routed, down: float = 0.0) -> None:
        self.page, self.routed, self.down = scene, routed, down

    def at(self, point: Point) -> Point:
        """A place in the scene."""
        return point[0], -(point[1] + self.down)

    def rect(self, r: Rect) -> Rect:
        """The same of a rectangle."""
        return Rect(r.left, -(r.top + self.down), r.right, -(r.bottom + self.down))

    def boxes(self, items: Sequence[Seat], edges: Sequence[Edge], wires: Sequence[Wire]) -> None:
        """Boxes, edges between them, and bars."""
        for k in sorted(range(len(items)), key=lambda k: -items[k].band):  # from below
            item, shape = items[k], grown(items[k].look, self.routed.boxes[k])
            self.page.nodes.append(PlacedNode(item.id, item.node, shape, self.at(self.routed.centres[k])))
        for edge, wire, run in zip(edges, wires, self.routed.runs, strict=True):
            if wire.source is not None:
                ends = items[wire.source].id.partition("_again")[0], items[wire.target].id
                curve = tuple(self.at(point) for point in run.curve)
                self.page.edges.append(PlacedEdge(edge, *ends, curve, self.at(run.label), run.anchor, run.room))
        self.page.spines += [self.rect(bar) for bar in self.routed.bars]


class _PutLine(Put):
    """The same of a line, with panels, parameters and titles."""

    def __init__(self, scene: Scene, line_of: _Line, routed: Routed, down: float) -> None:
        super().__init__(scene, routed, down)
        self.line, self.table = line_of, line_of.table

    def bottom(self, band: int, with_rows: bool = False) -> float:
        """Where a band ends."""
        return self.routed.bottoms[band] + (self.line.below[band] if with_rows else 0.0)

    def top(self, band: int) -> float:
        """Where a band begins."""
        k = self.line.bands.index(band)
        return self.bottom(self.line.bands[k - 1], with_rows=True) if k else 0.0

    def frames(self) -> None:
        """A panel for each block that is a time step of several boxes."""
        steps, lefts = self.table.parts.steps, self.routed.lefts
        for band in self.line.bands:
            for slot in self.line.slots:
                inside = [item for item in self.line.items if (item.band, item.slot) == (band, slot)]
                if not steps[slot] or not inside or (len(inside) == 1 and inside[0].node.members):
                    continue
                a = self.line.offsets[slot]
                b = a + self.line.wide[slot]
                low = self.bottom(band) + 5.0
                if not self.line.once and band in self.line.rows:
                    low += self.line.below[band] - HEADROOM - 26.0
                left, right = lefts[a] + 15.0, lefts[b] + 7.0
                if inside[0].way < 0:  # what a step is given comes from the right
                    left, right = self.routed.rights[a] - 7.0, self.routed.rights[b] - 15.0
                rect = Rect(left, self.top(band) - HEADROOM, right, low)
                self.page.frames.append(Frame(f"t = {steps[slot][2:]}", self.rect(rect), steps[slot]))

    def parameters(self) -> None:
        """Each parameter's row, with a number at every use, and at its end the whole gradient; or a box at each use."""
        reach: dict[tuple[int, int], list[float]] = {}
        right, feet, lefts = 0.0, self.routed.feet.items(), dict[int, float]()
        posts, taken = self.routed.posts, list[tuple[float, float, float]]()
        for w, (x, y) in sorted(feet, key=lambda foot: foot[1]):  # two numbers of a row stand as their dots do
            left, wide = x + 6.0, self.line.wires[w].room
            for other, top, deep in sorted([*posts, *taken]):
                if top < y + 9.0 and deep > y - 14.0 and left - 4.0 < other < left + wide + 3.0:
                    left = other + 6.0
            taken += [(left + part * wide, y - 1.0, y + 1.0) for part in (0.0, 0.5, 1.0)]
            lefts[w], right = left, max(right, left + wide)
        for w, (x, y) in feet if self.line.once else reversed(feet):
            edge, wire, run, left = self.line.edges[w], self.line.wires[w], self.routed.runs[w], lefts[w]
            target, node = self.line.items[wire.target], self.table.graph.nodes[edge.source]
            reach.setdefault((target.band, node.id), []).append(x)
            if self.line.once:
                curve, label = run.curve, (left, y - 8.0)
                tail = self.name(node.id, target.band)
                self.page.dots.append((self.at((x, y)), edge))
            else:
                left += 6.0
                tail = f"{self.table.prefix}n{node.id}_{target.id.partition('n')[2]}_{edge.operand}"
                shape = self.table.look(node, state=False)._replace(height=18.0)
                self.page.nodes.append(PlacedNode(tail, node, shape, self.at((left + shape.width / 2, y))))
                curve = ((left, y), *run.curve)
                label = left + shape.width + 4.0, y
            curve = tuple(self.at(point) for point in curve)
            self.page.edges.append(PlacedEdge(edge, tail, target.id, curve, self.at(label), "start"))
        if self.line.once:
            self.rows(reach, right)

    def rows(self, reach: Mapping[tuple[int, int], list[float]], right: float) -> None:
        """The lines of the rows, and their sums."""
        wide, norm = self.table.total, self.table.norm
        right = max(right + 8.0, self.routed.width - wide)
        for band, ids in self.line.rows.items():
            last = band in self.line.final
            for k, id in enumerate(ids):
                y = self.bottom(band) + DROP + LEVEL * k
                node = self.table.graph.nodes[id]
                if (band, id) in reach or (last and node.gradient is not None):
                    start = min(reach.get((band, id), [right - 20.0]))
                    self.page.lanes.append((self.at((start, y)), self.at((right, y))))
                if last and node.gradient is not None:
                    name, total = self.table.title(id), norm_of(node.gradient, norm)
                    shape = Look("parameter", "total", wide, TOTAL_HEIGHT, name, number(total), 11.0)
                    at = self.at((right + wide / 2, y))
                    self.page.nodes.append(PlacedNode(self.name(id, band), node, shape, at))

    def name(self, id: int, band: int) -> str:
        """The name of a parameter's row; one that several layers share has one in each."""
        several = sum(id in ids for ids in self.table.rows.values()) > 1
        return f"{self.table.prefix}n{id}" + (f"_b{band}" if several else "")

    def titles(self) -> None:
        """The layers' names at the left, one word below the other where they are long."""
        names = self.table.parts.bands
        words = {band: names[band].split(" reverse") for band in self.line.bands if names[band]}
        parts = {band: [w[0], "reverse"] if len(w) > 1 else w for band, w in words.items()}
        left = -16.0 - max((text_width(part, 12.0) * 1.06 for lines in parts.values() for part in lines), default=0.0)
        for band, lines in sorted(parts.items(), reverse=True):
            middle = (self.top(band) + self.bottom(band)) / 2
            for n, part in enumerate(lines):
                self.page.titles.append((self.at((left, middle + (n - (len(lines) - 1) / 2) * 15.0)), part))
