"""One row of cells, side by side in the order of time: a network of one layer, or one layer of a stack.

After this file the reader knows why the same step looks the same everywhere (its layout is made once and repeated), why
the cost grows with the number of steps and no faster, and how an edge runs that skips steps: on a rail below the cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from ..graph.model import Edge, GradientGraph, Node
from ..graph.steps import is_folded
from . import wrap
from .geometry import Curve, Point, Rect, join, line, moved, rounded, sweep
from .rails import Use, lay_rails, places_of, step_aside
from .scene import Frame, PlacedEdge, PlacedNode, Scene
from .strip import LANE_PITCH, Lane, Lanes, Strip, strip_template
from .template import LABEL, Plan, Template, lay_out
from .tiles import Tile, plans, tensor_rank

PAD = 8.0
HEAD = 38.0
"""Height of a frame's head, with the step and its gradient."""
GAP = 11.0
STEP_GAP = 62.0


class Column(NamedTuple):
    """Left and right end of a time step, where several rows share it, and the room that is taken before and after."""

    left: float
    right: float
    before: float = 0.0
    after: float = 0.0

    def mirrored(self) -> Column:
        """The same with left and right exchanged."""
        return Column(-self.right, -self.left, self.after, self.before)


Columns = Mapping[str, Column]


class Row:
    """The cells of one graph, side by side: offsets, frames, and the names of the drawn nodes."""

    def __init__(
        self,
        graph: GradientGraph,
        tiles: list[Tile],
        prefix: str,
        made: dict[Plan, Template] | None = None,
        known: Mapping[str, Mapping[int, Node]] | None = None,
    ) -> None:
        self.graph, self.prefix, self.columns = graph, prefix, dict[str, Column]()
        self.stand_ins: frozenset[int] = frozenset()  # leaves at whose places something comes in from below
        made = {} if made is None else made
        lanes = Lanes(graph, known)
        pairs = [(tile, plan) for tile, plan in zip(tiles, plans(tiles), strict=True) if tile.nodes]
        self.tiles = [tile for tile, _ in pairs]
        self.plans = [plan for _, plan in pairs]
        self.templates: list[Template] = []
        self.lanes: dict[int, tuple[Lane, ...]] = {}
        for k, (tile, plan) in enumerate(pairs):
            if any(is_folded(node) for node in tile.nodes):
                template, self.lanes[k] = strip_template(tile, plan, lanes, self._heights(k, lanes))
            else:
                template = _template(plan, tile, made)
            self.templates.append(template)
        self.framed = [bool(tile.step) and k not in self.lanes and not _lone(tile) for k, tile in enumerate(self.tiles)]
        self.offsets: list[Point] = []
        self.homes: dict[int, int] = {}
        self.copies = Counter(node.id for tile in self.tiles for node in tile.nodes)
        for k, tile in enumerate(self.tiles):
            for node in tile.nodes:
                self.homes.setdefault(node.id, k)
        self._shift()

    def align(self, columns: Columns) -> None:
        """Move the cells into columns, each into the middle of its own; of the others, those before go with the first.

        What comes after the last step is not moved.
        """
        self.columns = dict(columns)
        for k, (tile, template) in enumerate(zip(self.tiles, self.templates, strict=True)):
            if tile.step:
                column = self.columns[tile.step]
                x = (column.left + column.right - template.box.left - template.box.right) / 2
                self.offsets[k] = (x, self.offsets[k][1])
        if not self.tiles[0].step and len(self.tiles) > 1:
            self.offsets[0] = (self.free(1) - GAP - self.templates[0].box.right, self.offsets[0][1])

    def free(self, k: int) -> float:
        """Where, before a cell, nothing passes."""
        column = self.columns.get(self.tiles[k].step or "")
        return self.left(k) if column is None else min(self.left(k), column.left - column.before)

    def _heights(self, k: int, lanes: Lanes) -> dict[str, float]:
        """At what heights the cell before hands on the states, in its own coordinates."""
        found: dict[str, float] = {}
        for edge, _, _ in self.tiles[k].arrivals if k and self.tiles[k - 1].step else ():
            name = lanes.of(edge)
            if name is not None:
                out = (self.tiles[k - 1].local[edge.source], tensor_rank(edge, self.graph.nodes))
                found[name] = self.templates[k - 1].outs[out][-1][1]
        return found

    def _shift(self) -> None:
        x, levels = 0.0, dict[Plan, float]()
        for k, (tile, template) in enumerate(zip(self.tiles, self.templates, strict=True)):
            y = 0.0
            if self.plans[k] in levels:  # time runs on one level
                y = levels[self.plans[k]]
            elif k and tile.arrivals:
                edge, port, _ = tile.arrivals[0]
                before = self.out_curve(k - 1, edge)
                y = before[-1][1] - self.port_y(k, port)
            elif k:
                y = self.offsets[k - 1][1]
            levels.setdefault(self.plans[k], y)
            side = PAD if self.framed[k] else 0.0
            self.offsets.append((x + side - template.box.left, y))
            following = self.framed[k + 1] if k + 1 < len(self.tiles) else False
            x += template.box.right - template.box.left + 2 * side
            strip = k in self.lanes or k + 1 in self.lanes  # its numbers stand in the gap
            near = self.framed[k] or following
            x += STEP_GAP if strip or not near else GAP if self.framed[k] and following else GAP + 10.0

    def left(self, k: int) -> float:
        """The left end of a cell."""
        if self.framed[k] and self.columns:
            return self.columns[self.tiles[k].step or ""].left
        return self.offsets[k][0] + self.templates[k].box.left - (PAD if self.framed[k] else 0.0)

    def right(self, k: int) -> float:
        """The right end of a cell."""
        if self.framed[k] and self.columns:
            return self.columns[self.tiles[k].step or ""].right
        return self.offsets[k][0] + self.templates[k].box.right + (PAD if self.framed[k] else 0.0)

    def crossing(self, n: int) -> int:
        """How many edges come over the line break before line n."""
        return len(self.tiles[self.line.index(n)].arrivals) if n in self.line and n else 0

    def break_lines(self, count: int | Literal["auto"] | None) -> None:
        """Move the cells into lines of `count` time steps, the first step of each below that of the first."""
        cells = range(len(self.tiles))
        steps = [bool(tile.step) for tile in self.tiles]
        boxes = [self.templates[k].box.grown(PAD if self.framed[k] else 0.0) for k in cells]
        top = max(boxes[k].top + self.offsets[k][1] + (HEAD - PAD if self.framed[k] else 0.0) for k in cells)
        bottom = min(boxes[k].bottom + self.offsets[k][1] for k in cells)
        rails = Counter(self.homes[e.source] for tile in self.tiles for e, _ in tile.rails)
        if count == "auto":
            many = bool(self.lanes) or rails.total() > wrap.MOST_RAILS or not any(steps)
            lefts, rights = [self.left(k) for k in cells], [self.right(k) for k in cells]
            count = None if many else wrap.best_count(lefts, rights, steps, top - bottom + 50.0)
        self.line, self.drops = wrap.lines_of(steps, count), [0.0 for _ in cells]
        self.floors = {0: bottom}
        first = self.left(steps.index(True)) if True in steps else 0.0
        drop, shift = 0.0, 0.0
        for k in cells:
            n = self.line[k]
            if n not in self.floors:
                skipping = sum(rails[j] for j in cells if self.line[j] == n - 1)
                drop -= top - bottom + wrap.lane_room(self.crossing(n)) + wrap.RAIL_PITCH * skipping + 24.0
                shift = first - self.left(k)
                self.floors[n] = bottom + drop
            x, y = self.offsets[k]
            self.offsets[k], self.drops[k] = (x + shift, y + drop), drop

    def port_y(self, k: int, port: int) -> float:
        """The height of a port of a cell, in the cell's own coordinates."""
        return next(
            self.templates[k].arrivals[a][0][1] for a, (_, p, _) in enumerate(self.tiles[k].arrivals) if p == port
        )

    def name(self, k: int, local: int) -> str:
        """A node's name in the DOT source; of several copies, each has the number of its cell."""
        node = self.tiles[k].nodes[local]
        return f"{self.prefix}n{node.id}" + (f"_{k}" if self.copies[node.id] > 1 else "")

    def out_curve(self, k: int, edge: Edge, rail: bool = False) -> Curve:
        """The way of an edge out of its cell, to the next one or to a rail."""
        out = (self.tiles[k].local[edge.source], tensor_rank(edge, self.graph.nodes))
        curves = self.templates[k].exits if rail else self.templates[k].outs
        return moved(curves[out], *self.offsets[k])


def _lone(tile: Tile) -> bool:
    """Whether a step is one box, which needs no frame."""
    return len(tile.nodes) == 1 and (bool(tile.nodes[0].members) or not (tile.inner or tile.arrivals))


def _template(plan: Plan, tile: Tile, made: dict[Plan, Template]) -> Template:
    if plan not in made:
        box = len(plan.looks) == 1 and (bool(tile.nodes[0].members) or tile.nodes[0].kind == "loss")
        alone = box and len({port for port, _ in plan.arrivals}) == len(plan.arrivals)
        made[plan] = _box_template(plan) if alone else lay_out(plan)
    return made[plan]


def _box_template(plan: Plan) -> Template:
    """A collapsed step: one box, with a port per state, c above h, on both sides."""
    look = plan.looks[0]
    lanes = sorted({out for out in (*plan.outs, *(out for _, out in plan.tracks))})
    pitch = min(LANE_PITCH, (look.height - 14.0) / max(1, len(lanes) - 1))
    heights = {out: ((len(lanes) - 1) / 2 - k) * pitch for k, out in enumerate(lanes)}
    template = Template(centres={0: (look.width / 2, 0.0)})
    right, tracks = look.width, dict(plan.tracks)
    for out, y in heights.items():
        template.outs[out] = ((right, y),)
    for out in plan.exits:
        template.exits[out] = ((right, -look.height / 2 + 6.0),)
    ports = sorted({port for port, _ in plan.arrivals})
    for a, (port, _) in enumerate(plan.arrivals):
        spare = ((len(ports) - 1) / 2 - ports.index(port)) * pitch
        template.arrivals[a] = ((0.0, heights[tracks[port]] if port in tracks else spare),)
    template.box = Rect(0.0, -look.height / 2, right, look.height / 2)
    return template


def place_row(
    row: Row, count: int | Literal["auto"] | None, uses: Sequence[Edge], columns: Columns | None = None
) -> Scene:
    """Everything of a row at its place; `uses` are the edges from parameters that are drawn once."""
    scene = Scene()
    if columns is not None:
        row.align(columns)
    _align_head(row)
    step_aside(row.templates, row.tiles, [(row.homes[edge.target], edge) for edge in uses])
    tops = [row.templates[k].box.top + row.offsets[k][1] for k in range(len(row.tiles)) if row.framed[k]]
    bottoms = [row.templates[k].box.bottom + row.offsets[k][1] for k in range(len(row.tiles)) if row.framed[k]]
    row.break_lines(count)
    for k, (tile, template) in enumerate(zip(row.tiles, row.templates, strict=True)):
        frame = None
        dx, dy = row.offsets[k]
        if row.framed[k]:
            frame = len(scene.frames)
            bottom, top = min(bottoms) - PAD + row.drops[k], max(tops) + HEAD + row.drops[k]
            rect = Rect(row.left(k), bottom, row.right(k), top)
            scene.frames.append(Frame(f"t = {(tile.step or '')[2:]}", rect, tuple(tile.nodes), tile.step))
        for local, (node, shape) in enumerate(zip(tile.nodes, tile.looks, strict=True)):
            x, y = template.centres[local]
            scene.nodes.append(PlacedNode(row.name(k, local), node, shape, (x + dx, y + dy), frame))
        for e, (edge, source, target) in enumerate(tile.inner):
            curve = moved(template.inner[e], dx, dy)
            label = moved((template.inner_labels[e],), dx, dy)[0]
            scene.edges.append(PlacedEdge(edge, row.name(k, source), row.name(k, target), curve, label))
        if k in row.lanes:
            strip = next(p for p in scene.nodes[-len(tile.nodes) :] if is_folded(p.node))
            lanes = tuple(replace(lane, y=lane.y + dy) for lane in row.lanes[k])
            scene.strips.append(Strip(strip.node, strip.rect, lanes))
        if k:
            _add_arrivals(row, k, scene)
    scene.shared = {node: count for node, count in row.copies.items() if count > 1}
    _add_parameters(row, scene, uses)
    _add_rails(row, scene)
    scene.edges.sort(key=lambda placed: (placed.edge.target, placed.edge.operand, placed.edge.source))
    return scene


def _align_head(row: Row) -> None:
    """Initial states stand at the height where they enter the first step, if nothing was computed before it."""
    if row.tiles[0].step or row.tiles[0].inner or len(row.tiles) < 2:
        return
    tile, template, first = row.tiles[0], row.templates[0], row.tiles[1]
    width = max(shape.width for shape in tile.looks)
    heights = {}
    for edge, port, _ in first.arrivals:
        heights[tile.local[edge.source]] = row.port_y(1, port) + row.offsets[1][1]
    order = sorted(range(len(tile.nodes)), key=lambda n: -heights.get(n, 0.0))
    aligned = Template(box=template.box)
    y = 1e9
    for n in order:
        y = min(heights.get(n, y - 26.0), y - 26.0)
        aligned.centres[n] = (width / 2, y)
        for out in row.plans[0].outs:
            if out[0] == n:
                aligned.outs[out] = line((width / 2 + tile.looks[n].width / 2, y), (width, y))
        for out in row.plans[0].exits:
            if out[0] == n:
                aligned.exits[out] = line((width / 2 + tile.looks[n].width / 2, y), (width, y))
    aligned.box = Rect(0.0, y - 15.0, width, max(c[1] for c in aligned.centres.values()) + 15.0)
    row.templates[0], row.offsets[0] = aligned, (row.free(1) - GAP - width, 0.0)


def _add_arrivals(row: Row, k: int, scene: Scene) -> None:
    """Edges from the cell before: through its port, over the gap, through the port of this cell."""
    tile, template = row.tiles[k], row.templates[k]
    over = row.line[k] != row.line[k - 1]
    heights = sorted(((-row.out_curve(k - 1, edge)[-1][1], a) for a, (edge, _, _) in enumerate(tile.arrivals)))
    for a, (edge, _, target) in enumerate(tile.arrivals):
        start, end = row.out_curve(k - 1, edge), moved(template.arrivals[a], *row.offsets[k])
        bridge = sweep(start[-1], end[0]) if abs(start[-1][1] - end[0][1]) > 0.5 else line(start[-1], end[0])
        if over:
            rank = next(n for n, (_, b) in enumerate(heights) if b == a)
            sides, floor = (row.right(k - 1), row.left(k)), row.floors[row.line[k - 1]]
            bridge, label = wrap.lane_route(start[-1], end[0], rank, len(heights), sides, floor)
        curve = join(*(c for c in (start, bridge, end) if len(c) > 1))
        if over and a not in template.arrival_labels:
            pass
        elif a in template.arrival_labels:
            label = moved((template.arrival_labels[a],), *row.offsets[k])[0]
        else:
            x0, x1 = row.right(k - 1), row.free(k)
            if tile.step in row.columns and row.tiles[k - 1].step:
                column = row.columns[row.tiles[k - 1].step or ""]
                x0 = max(x0, column.right + column.after)
            if not row.framed[k]:  # clear of the box, which may be nearer than the number is wide
                x1 = min(x1 - 9.0, 2 * x1 - LABEL[0] - 2.0 - x0)
            label = ((x0 + x1) / 2, (start[-1][1] + end[0][1]) / 2 + LABEL[1] / 2 + 4.0)
        source = row.tiles[k - 1].local[edge.source]
        scene.edges.append(PlacedEdge(edge, row.name(k - 1, source), row.name(k, target), curve, label))


def _add_parameters(row: Row, scene: Scene, edges: Sequence[Edge]) -> None:
    """Parameters that are drawn once, right below the cells: what skips cells runs below them."""
    if not edges:
        return
    homes = [row.homes[edge.target] for edge in edges]
    uses = [Use(edge, k, row.tiles[k].local[edge.target]) for edge, k in zip(edges, homes, strict=True)]
    places = places_of(row.templates, row.tiles, row.offsets)
    turns = sorted({row.right(row.homes[edge.source]) + 7.0 for tile in row.tiles for edge, _ in tile.rails})
    turns += [p.centre[0] for p in scene.nodes if p.node.id in row.stand_ins]
    first = next(k for k, tile in enumerate(row.tiles) if tile.step)
    before = row.left(first) - row.free(first)
    scene.rails, stubs = lay_rails(places, uses, row.graph.nodes, scene.rect.bottom, sorted(turns), before)
    for rail in scene.rails:
        scene.nodes.append(PlacedNode(f"{row.prefix}n{rail.node.id}", rail.node, rail.look, rail.centre))
    for stub in stubs:
        tail, head = f"{row.prefix}n{stub.use.edge.source}", row.name(stub.use.cell, stub.use.target)
        scene.edges.append(PlacedEdge(stub.use.edge, tail, head, stub.curve, stub.label))


def _add_rails(row: Row, scene: Scene) -> None:
    """Edges that skip cells run below them, the earliest lowest, so that each number has its place on its own rail."""
    waiting = [(row.homes[e.source], k, e, target) for k, tile in enumerate(row.tiles) for e, target in tile.rails]
    if not waiting:
        return
    waiting.sort(key=lambda item: (item[0], -item[1], item[2].target, item[2].operand))
    line_of = row.line
    floors = {n: row.floors[n] - wrap.lane_room(row.crossing(n + 1)) - 10.0 for n in row.floors}
    floors[line_of[-1]] = scene.rect.bottom - (14.0 if row.framed[-2:] != [False, False] else 22.0)
    pitch = min(wrap.RAIL_PITCH, 150.0 / len(waiting))
    arriving = Counter((k, target) for _, k, _, target in waiting)
    leaving = Counter(origin for origin, _, _, _ in waiting)
    below = Counter(line_of[origin] for origin, *_ in waiting)  # rails in the channel below each line
    # From right to left where they arrive: first what comes down the margin, the innermost, highest and earliest first.
    far = [n for n in range(len(waiting)) if line_of[waiting[n][0]] != line_of[waiting[n][1]]]
    far.sort(key=lambda n: (-line_of[waiting[n][0]], n))
    order = [*far, *(n for n in range(len(waiting)) if n not in set(far))]
    places: dict[int, int] = {}
    counts: Counter[tuple[int, int]] = Counter()
    for n in order:
        _, k, _, target = waiting[n]
        counts[k, target] += 1
        places[n] = arriving[k, target] - counts[k, target]
    margin = max(row.right(k) for k in range(len(row.tiles))) + 17.0 + 9.0 * row.crossing(1) + 6.0
    for n, (origin, k, edge, target) in enumerate(waiting):
        start = row.out_curve(origin, edge, rail=True)
        turn = max(start[-1][0], row.right(origin)) + 7.0
        below[line_of[origin]] -= 1
        rail = floors[line_of[origin]] - below[line_of[origin]] * pitch
        end = _landing(row, k, target, places[n], arriving[k, target])
        if n in far:
            nth = far.index(n)
            way = wrap.rail_route(start[-1], turn, rail, margin + nth * pitch, floors[line_of[k]] - nth * pitch, end)
        else:
            way = rounded([start[-1], (turn, start[-1][1]), (turn, rail), (end[0], rail), end])
        # At its beginning, where no later rail runs above; or at its end, if it began together with others.
        label = ((turn + 9.0 if leaving[origin] == 1 else end[0] - 9.0 - LABEL[0]) + LABEL[0] / 2, rail + 7.5)
        tail = row.name(origin, row.tiles[origin].local[edge.source])
        curve = join(start, way) if len(start) > 1 else way
        scene.edges.append(PlacedEdge(edge, tail, row.name(k, target), curve, label))


def _landing(row: Row, k: int, target: int, index: int, count: int) -> Point:
    """Where the index-th of `count` rails meets its target from below: the latest leftmost, so that none cross."""
    (x, y), shape = row.templates[k].centres[target], row.tiles[k].looks[target]
    dx, dy = row.offsets[k]
    spread = 0.0 if shape.shape == "ellipse" else min(20.0, (shape.width - 12.0) / max(1, count - 1))
    return x + dx + (index - (count - 1) / 2) * spread, y + dy - shape.height / 2
