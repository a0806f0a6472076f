"""The rows of a stack: each layer as if it were alone, all with the same columns of time, and the links between them.

After this file the reader knows how two layers become one picture. Every row is laid out like a network of one layer,
the first one lowest; one that runs backwards is made like the others and mirrored. A link leaves its tensor upwards, or
beside the cell where something stands above, and runs in the channel between two rows. What follows the last step
stands at the right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..graph.model import Edge, GradientGraph, Node
from ..graph.steps import Rows, is_folded, states, step_number
from .geometry import Curve, Point, join, line, rounded, samples
from .row import GAP, STEP_GAP, Column, Row, place_row
from .scene import PlacedEdge, PlacedNode, Scene
from .style import look, text_width
from .template import LABEL, Plan, Template
from .tiles import Tile, apart, cut

_LAYER = re.compile(r"_l\d+(_reverse)?$")
_TRACK = 9.0
_LANE = 7.0
_BEFORE, _TAIL = -1, 1_000_000


@dataclass
class _Link:
    """An edge from one row to another, or to the tail; what is known of its way, from its beginning on.

    `stand_in` is the node that keeps a place for it on the shelf of its cell; `out` and `into` are where it ends,
    `lane` is the x at which it passes beside its cell, `tracks` has its places in channels, by the row below; `room` is
    the width of its number, and `several` tells that others leave the same node, `low` that the number stands below the
    row.
    """

    edge: Edge
    row: int
    goal: int
    step: str
    stand_in: int | None = None
    beside: bool = False
    lane: float | None = None
    out: Point = (0.0, 0.0)
    into: Point = (0.0, 0.0)
    rest: Curve = ()
    label: Point = (0.0, 0.0)
    tracks: dict[int, int] = field(default_factory=dict)
    names: tuple[str, str] = ("", "")
    room: float = LABEL[0]
    several: bool = False
    low: bool = False

    def spans(self) -> list[tuple[int, float, float]]:
        """(channel, from x, to x) of its level pieces."""
        last = self.row if self.goal == _TAIL else self.goal - 1
        start = self.lane if self.beside and self.lane is not None else self.out[0]
        if self.lane is None or self.beside or last == self.row:
            ways = [(last, start, self.into[0])]
        else:
            ways = [(self.row, start, self.lane), (last, self.lane, self.into[0])]
        return [(c, min(a, b), max(a, b)) for c, a, b in ways if abs(a - b) > 0.5]


def arrange_rows(graph: GradientGraph, rows: Rows, prefix: str, copies: bool) -> Scene | None:
    """Place a stack; None if something before its steps belongs to several rows."""
    sections = _sections(graph, rows)
    if sections is None:
        return None
    count = len(rows.names)
    drawn = [edge for edge in graph.edges if not edge.internal]
    made = {edge.target for edge in drawn} | {node.id for node in graph.nodes if node.members or node.op is not None}
    links: list[_Link] = []
    local: dict[int, list[Edge]] = {section: [] for section in (*range(count), _TAIL)}
    for edge in drawn:
        section = sections[edge.target]
        if edge.source not in made or sections[edge.source] == section:
            local[section].append(edge)
        else:
            step = graph.nodes[edge.source].step or ""
            several = edge.tensor is not None and "," in (graph.nodes[edge.source].name or "")
            room = LABEL[0] + (text_width(f"{(edge.tensor or graph.nodes[edge.source]).name} ", 11.0) if several else 0)
            links.append(_Link(edge, sections[edge.source], section, step, room=room))
    inside = {r: [id for id, section in sections.items() if section == r and id in made] for r in local}
    made_templates: dict[Plan, Template] = {}
    known = states(graph) if any(is_folded(node) for node in graph.nodes) else {}
    lines: list[Row] = []
    uses: list[list[Edge]] = []
    for r in range(count):
        coming = [link for link in links if link.goal == r]
        built = _row(graph, local[r], inside[r], coming, rows.backwards[r], copies)
        if built is None:
            return None
        seen, tiles, apart_edges = built
        lines.append(Row(seen, tiles, f"{prefix}r{r}", made_templates, known))
        lines[-1].stand_ins = frozenset(link.stand_in for link in coming if link.stand_in is not None)
        uses.append(apart_edges)
    _find_ways_out(lines, links)
    columns = _columns(graph, rows, lines, links)
    scenes = []
    for r, row in enumerate(lines):
        back = rows.backwards[r]
        scene = place_row(
            row, None, uses[r], {s: column.mirrored() for s, column in columns.items()} if back else columns
        )
        scenes.append(scene.mirrored() if back else scene)
    tail = _tail(graph, local[_TAIL], inside[_TAIL], links, prefix, made_templates)
    return _compose(graph, scenes, tail, links, rows)


def _sections(graph: GradientGraph, rows: Rows) -> dict[int, int] | None:
    """The row of every node, or the tail; what leads to one row alone goes with that."""
    found = dict(rows.of)
    into: dict[int, list[int]] = {}
    for edge in graph.edges:
        into.setdefault(edge.target, []).append(edge.source)
    for node in graph.nodes:
        if node.id not in found and any(found.get(source, _BEFORE) != _BEFORE for source in into.get(node.id, ())):
            found[node.id] = _TAIL
        elif not node.step and node.id in into:
            found[node.id] = _BEFORE
    for node in reversed(graph.nodes):
        section = found.get(node.id, _TAIL)
        for source in into.get(node.id, ()):
            if found.get(source) == _TAIL and section != _TAIL:
                return None
            if not graph.nodes[source].step and found.get(source, _TAIL) != _TAIL:
                if found[source] not in (_BEFORE, section):
                    return None
                found[source] = section
    return {id: _TAIL if section == _BEFORE else section for id, section in found.items()} | {
        node.id: _TAIL for node in graph.nodes if node.id not in found
    }


def _row(
    graph: GradientGraph, local: list[Edge], inside: list[int], coming: list[_Link], backwards: bool, copies: bool
) -> tuple[GradientGraph, list[Tile], list[Edge]] | None:
    """The graph of one row alone, its cells, and the edges from its parameters, if these are drawn once.

    A link into a cell of several nodes gets a stand-in there: a leaf at whose place it comes in.
    """
    nodes = [_plain(node) for node in graph.nodes]
    seen = GradientGraph(tuple(nodes), tuple(local), {}, graph.origin)
    tiles = cut(seen, backwards, inside)
    if tiles is None:
        return None
    alone = {tile.step for tile in tiles if len(tile.nodes) == 1}
    more = []
    for link in coming:
        if link.step not in alone:
            link.stand_in, target = len(nodes), graph.nodes[link.edge.target]
            name = "from below" if copies else "x"  # as wide as its number needs, or as narrow as stubs need
            nodes.append(replace(target, id=link.stand_in, kind="input", name=name, op=None, members=(), gradient=None))
            more.append(replace(link.edge, source=link.stand_in, tensor=None))
    ordered = sorted([*local, *more], key=lambda edge: (edge.target, edge.operand))
    seen = GradientGraph(tuple(nodes), tuple(ordered), {}, graph.origin)
    rest, uses = (seen, []) if copies else apart(seen, backwards)
    again = cut(rest, backwards, inside)
    return None if again is None else (rest, again, uses)


def _plain(node: Node) -> Node:
    """A node as its row shows it: a parameter's name need not tell the layer, and the loss is not part of it."""
    if node.kind == "parameter" and node.name:
        return replace(node, name=_LAYER.sub("", node.name) or node.name)
    return replace(node, kind="op") if node.kind == "loss" else node


def _find_ways_out(lines: list[Row], links: list[_Link]) -> None:
    """Which links leave their node at its side: something stands above it in its cell, or the head of its frame."""
    for link in links:
        row = lines[link.row]
        k = row.homes[link.edge.source]
        template, me = row.templates[k], row.tiles[k].local[link.edge.source]
        rects = template.rects(row.plans[k])
        x, top = template.centres[me][0], rects[me].top
        solid = [rect for n, rect in rects.items() if n != me and rect.top > top]
        points = [point for curve in template.inner.values() for point in samples(curve)]
        head = 54.0 * sum(node.name in ("c", "h") for node in row.tiles[k].nodes) if row.framed[k] else -1e9
        link.beside = abs(x - (template.box.left + template.box.right) / 2) < head
        link.beside |= any(rect.left < x + 6.0 and x - 6.0 < rect.right for rect in solid) or any(
            abs(px - x) < 5.0 and py > top + 2.0 for px, py in points
        )


def _columns(graph: GradientGraph, rows: Rows, lines: list[Row], links: list[_Link]) -> dict[str, Column]:
    """Left and right end of every step, the same in all rows, with room between them for what passes; sets lanes."""
    widths: dict[str, float] = {}
    wide: set[str] = set()
    over: dict[tuple[str, bool], float] = {}  # how far a number reaches out of a cell, before it (True) or after
    for row, back in zip(lines, rows.backwards, strict=True):
        for k, tile in enumerate(row.tiles):
            if tile.step:
                reach = row.left(k) - row.offsets[k][0] + LABEL[0] / 2 + 2.0
                reach -= min([1e9, *(x for x, _ in row.templates[k].arrival_labels.values())])
                over[tile.step, not back] = max(over.get((tile.step, not back), 0.0), reach)
                widths[tile.step] = max(widths.get(tile.step, 0.0), row.right(k) - row.left(k))
                if not row.framed[k] and (tile.arrivals or tile.outs):
                    wide.add(tile.step)
    order = sorted(widths, key=lambda step: step_number(step) or 0)
    taken: dict[tuple[str, bool], list[list[tuple[int, int]]]] = {}
    lanes: dict[int, int] = {}
    for n, link in enumerate(links):
        if not link.beside and (link.goal == _TAIL or link.goal == link.row + 1):
            continue
        # Row r is at 2 r, the channel above it at 2 r + 1: two that meet in a channel do not share a lane.
        span = 2 * link.row + (not link.beside), 2 * (link.row if link.goal == _TAIL else link.goal - 1) + 1
        slots = taken.setdefault((link.step, rows.backwards[link.row]), [])
        free = (k for k, slot in enumerate(slots) if all(span[1] < a or b < span[0] for a, b in slot))
        lanes[n] = next(free, len(slots))
        if lanes[n] == len(slots):
            slots.append([])
        slots[lanes[n]].append(span)
    columns: dict[str, Column] = {}
    x = 0.0
    for step, following in zip(order, [*order[1:], ""], strict=True):
        # Numbers stand beside what passes, not on it.
        before, after, following_before = (
            (6.0 + over.get(key, 0.0) + _LANE * len(taken[key])) if key in taken else 0.0
            for key in ((step, True), (step, False), (following, True))
        )
        columns[step] = Column(x, x + widths[step], before, after)
        passing = after + following_before
        x += widths[step] + passing + (STEP_GAP if {step, following} & wide else LABEL[0] + 4.0 if passing else GAP)
    for n, lane in lanes.items():
        column, back = columns[links[n].step], rows.backwards[links[n].row]
        aside = 6.0 + over.get((links[n].step, back), 0.0) + _LANE * lane
        links[n].lane = column.left - aside if back else column.right + aside
    return columns


def _tail(
    graph: GradientGraph,
    local: list[Edge],
    inside: list[int],
    links: Iterable[_Link],
    prefix: str,
    made: dict[Plan, Template],
) -> Scene:
    """What follows the steps, as one cell."""
    operands: dict[int, int] = {}
    for edge in (*local, *(link.edge for link in links if link.goal == _TAIL)):
        operands[edge.target] = operands.get(edge.target, 0) + 1
    tile = Tile(None)
    for id in sorted({*inside, *(end for edge in local for end in (edge.source, edge.target))}):
        tile.local[id] = len(tile.nodes)
        tile.nodes.append(graph.nodes[id])
        tile.looks.append(look(graph.nodes[id], operands.get(id, 0)))
    tile.inner = [(edge, tile.local[edge.source], tile.local[edge.target]) for edge in local]
    tile.leaves = {n for n, node in enumerate(tile.nodes) if node.id not in inside}
    return place_row(Row(graph, [tile], prefix, made, {}), None, ())


def _compose(graph: GradientGraph, scenes: list[Scene], tail: Scene, links: list[_Link], rows: Rows) -> Scene:
    """All rows on one page, the first lowest, with the links between them."""
    places = [{placed.node.id: placed for placed in scene.nodes} for scene in scenes]
    right = max(scene.rect.right for scene in scenes)
    top = len(scenes) - 1
    straight = _straight(links, places, top, rows)
    tail = tail.moved(right + (46.0 if straight else 2 * GAP) - tail.rect.left, 0.0)
    ends = {placed.node.id: placed for placed in tail.nodes}
    waiting = [link for link in links if link is not straight]
    _leave(waiting, places)
    for goal in (*range(len(scenes)), _TAIL):
        coming = [link for link in waiting if link.goal == goal]
        _arrive(coming, scenes[goal] if goal != _TAIL else tail, ends if goal == _TAIL else places[goal], top)
    heights = _channels(waiting, len(scenes))
    page, floors, y = Scene(), list[float](), 0.0
    ups: list[float] = []
    for r, scene in enumerate(scenes):
        ups.append(y - scene.rect.bottom)
        y += scene.rect.top - scene.rect.bottom
        floors.append(y)
        y += heights[r]
        page.add(_without(scene, waiting, r, graph).moved(0.0, ups[-1]))
    page.titles = _titles(scenes, ups, rows)
    if straight is not None:
        source, target = places[top][straight.edge.source], ends[straight.edge.target]
        drop = source.centre[1] + ups[top] - target.centre[1]
    else:
        drop = (scenes[top].rect.bottom + scenes[top].rect.top) / 2 + ups[top] - (tail.rect.bottom + tail.rect.top) / 2
    page.add(tail.moved(0.0, drop))
    if straight is not None:
        height, a, b = target.centre[1] + drop, source.rect.right, target.rect.left
        label = (max(a + 18.0, b - 30.0), height + LABEL[1] / 2 + 4.0)
        curve = line((a, height), (b, height))
        page.edges.append(PlacedEdge(straight.edge, source.id, target.id, curve, label))
    for link in waiting:
        page.edges.append(_drawn(link, floors, ups, drop))
    page.edges.sort(key=lambda placed: (placed.edge.target, placed.edge.operand, placed.edge.source))
    return page


def _straight(links: list[_Link], places: list[dict[int, PlacedNode]], top: int, rows: Rows) -> _Link | None:
    """The link from the last step of the upper row to the tail, which needs no channel."""
    ends = [link for link in links if link.goal == _TAIL and link.row == top and not rows.backwards[top]]
    for link in sorted(ends, key=lambda link: -places[top][link.edge.source].centre[0])[:1]:
        source = places[top][link.edge.source]
        beyond = [p.rect for p in places[top].values() if p.rect.left >= source.rect.right]
        if not any(rect.bottom - 3.0 < source.centre[1] < rect.top + 3.0 for rect in beyond):
            return link
    return None


def _leave(links: list[_Link], places: list[dict[int, PlacedNode]]) -> None:
    """Where links leave their nodes: side by side at the top, or at the side that the states leave by."""
    groups: dict[tuple[int, int], list[_Link]] = {}
    for link in links:
        groups.setdefault((link.row, link.edge.source), []).append(link)
    for (row, source), group in groups.items():
        placed = places[row][source]
        rect, (x, y) = placed.rect, placed.centre
        pitch = min(9.0, (rect.right - rect.left) / (len(group) + 1))
        for n, link in enumerate(group):
            link.names, link.several = (placed.id, ""), len(group) > 1
            if link.beside and link.lane is not None:
                side = rect.right if link.lane > x else rect.left
                link.out = side, y + (rect.top - rect.bottom) * 0.28 - 2.5 * n
            else:
                link.out = x + (n - (len(group) - 1) / 2) * pitch, rect.top


def _arrive(links: list[_Link], scene: Scene, places: Mapping[int, PlacedNode], top: int) -> None:
    """Where links end: at the place of their stand-in, or side by side at the border of their target."""
    stands = {placed.edge.source: placed for placed in scene.edges}
    groups: dict[tuple[int, bool], list[_Link]] = {}
    for link in links:
        link.names = link.names[0], places[link.edge.target].id
        if link.stand_in is not None:
            way, centre = stands[link.stand_in].curve, places[link.stand_in].centre
            link.into, link.rest = way[0], way
            # Beside the other numbers of the shelf; below the rails, if there are some.
            y = scene.rect.bottom - 11.0 if scene.rails else stands[link.stand_in].label[1]
            link.label, link.low = (centre[0] + LABEL[0] / 2 + 4.5, y), bool(scene.rails)
        else:
            groups.setdefault((link.edge.target, link.goal == _TAIL and link.row == top), []).append(link)
    for (target, above), group in groups.items():
        rect, (x, _) = places[target].rect, places[target].centre
        # From the left to the right as they come; of those that come along a channel, the longest way at the far end.
        group.sort(key=lambda link: link.out[0] if link.lane is None else link.lane, reverse=group[0].goal == _TAIL)
        pitch = min(20.0, (rect.right - rect.left - 12.0) / max(1, len(group) - 1))
        for n, link in enumerate(group):
            at = x + (n - (len(group) - 1) / 2) * pitch
            link.into = (at, rect.top if above else rect.bottom)
            side, link.low = -1.0 if n < len(group) // 2 else 1.0, True
            link.label = at + side * (link.room / 2 + 4.5), link.into[1] - 15.0
            if link.lane is None and abs(link.out[0] - at) < 12.0:  # straight up: both ends have some room
                if len(group) == 1:
                    link.into = (link.out[0], link.into[1])
                elif not link.several:
                    link.out = (at, link.out[1])


def _channels(links: list[_Link], count: int) -> list[float]:
    """Give every level piece a track, the short ones the lowest; returns the height of the channel above each row."""
    # What leaves a row runs below what only passes, and so never on the way down from it.
    pieces = [(link.row < c, b - a, n, c, a, b) for n, link in enumerate(links) for c, a, b in link.spans()]
    taken: list[list[list[tuple[float, float]]]] = [[] for _ in range(count)]
    for *_, n, channel, a, b in sorted(pieces):
        tracks = taken[channel]
        free = (k for k, track in enumerate(tracks) if all(b + 5.0 < c or d < a - 5.0 for c, d in track))
        rank = next(free, len(tracks))
        if rank == len(tracks):
            tracks.append([])
        tracks[rank].append((a, b))
        links[n].tracks[channel] = rank
    heights = []
    for r in range(count):
        to_tail = any(link.row == r and link.goal == _TAIL for link in links)
        landing = any(link.goal == r + 1 and link.low for link in links)
        heights.append(_base(links, r) + _TRACK * len(taken[r]) + (30.0 if landing else 6.0 if taken[r] else 12.0))
        if r == count - 1 and not to_tail:
            heights[-1] = 0.0
    return heights


def _base(links: list[_Link], row: int) -> float:
    """Height of the first track above a row; what runs to the tail has its number below it."""
    return 18.0 if any(link.row == row and link.goal == _TAIL for link in links) else 7.0


def _drawn(link: _Link, floors: list[float], ups: list[float], drop: float) -> PlacedEdge:
    """The link with its curve, once the heights of the rows are known."""
    rise = drop if link.goal == _TAIL else ups[link.goal]
    start = (link.out[0], link.out[1] + ups[link.row])
    end = (link.into[0], link.into[1] + rise)
    base = 18.0 if link.goal == _TAIL else 7.0
    level = {c: floors[c] + max(base, 7.0) + _TRACK * track for c, track in link.tracks.items()}
    corners = [start]
    x = start[0]
    if link.beside and link.lane is not None:
        x = link.lane
        corners.append((x, start[1]))
    for c in sorted(level):
        corners.append((x, level[c]))
        last = c == max(level)
        x = end[0] if last else link.lane if link.lane is not None else x
        corners.append((x, level[c]))
    corners.append(end)
    way = rounded(corners, 6.0) if len(corners) > 2 else line(start, end)
    label = (link.label[0], link.label[1] + rise)
    if link.goal == _TAIL:
        label = (corners[1][0] + link.room / 2 + 5.0, level[link.row] - LABEL[1] / 2 - 2.0)
    if link.rest:
        way = join(way, tuple((px, py + rise) for px, py in link.rest))
    return PlacedEdge(link.edge, *link.names, way, label)


def _without(scene: Scene, links: Iterable[_Link], row: int, graph: GradientGraph) -> Scene:
    """A row without its stand-ins, and with its nodes as they are."""
    gone = {link.stand_in for link in links if link.goal == row and link.stand_in is not None}
    kept = [placed for placed in scene.nodes if placed.node.id not in gone]
    nodes = [replace(placed, node=graph.nodes[placed.node.id]) for placed in kept]
    edges = [placed for placed in scene.edges if placed.edge.source not in gone]
    frames = [replace(frame, nodes=tuple(n for n in frame.nodes if n.id not in gone)) for frame in scene.frames]
    return replace(scene, nodes=nodes, edges=edges, frames=frames)


def _titles(scenes: list[Scene], ups: list[float], rows: Rows) -> list[tuple[Point, str]]:
    """The layers' names at the left, one word below the other where they are long."""
    found = []
    words = [[name] if not name.endswith(" reverse") else [name[:-8], "reverse"] for name in rows.names]
    width = max(text_width(part, 12.0) * 1.06 for parts in words for part in parts)
    left = min(scene.rect.left for scene in scenes) - 16.0 - width
    for scene, up, parts in zip(scenes, ups, words, strict=True):
        middle = (scene.rect.bottom + scene.rect.top) / 2 + up
        found += [((left, middle + ((len(parts) - 1) / 2 - n) * 15.0), part) for n, part in enumerate(parts) if part]
    return found
