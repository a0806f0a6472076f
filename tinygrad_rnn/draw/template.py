"""One cell of the picture: the layout of one time step, made once and used for all steps of the same structure.

After this file the reader knows how a step is laid out: the engine's ``dot`` places the operations, states come in at
ports on the left border and leave at ports on the right, each state's way through the cell is kept straight, and the
leaves (parameters, input) stand on a shelf below, in the order of the operands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import engine
from .geometry import Curve, Grid, Point, Rect, crossing, join, line, moved, place_labels, samples, union
from .style import MAX_PLAIN, Look

LABEL = (32.0, 12.0)
"""Room for the number of an edge, the same for all, so that all cells are identical."""

RANK_GAP = 35.0
_NODE_GAP = 25.0
_SHELF_DROP = 38.0
_STUB = 3.0
_SHELF_GAP = 5.0
Out = tuple[int, int]
"""A tensor that leaves the cell: the node, and which of the node's tensors (0 unless the graph was collapsed)."""


@dataclass(frozen=True)
class Plan:
    """The structure of a cell: what its layout depends on, and nothing else. Nodes are numbered within the cell.

    `inner` are (source, target), `arrivals` (port, target); `outs` leave to the next cell, `exits` to a later one;
    `tracks` are (port, out): this port is fed by that out of the cell before. `leaves` may stand on the shelf.
    """

    looks: tuple[Look, ...]
    leaves: frozenset[int]
    inner: tuple[tuple[int, int], ...]
    arrivals: tuple[tuple[int, int], ...] = ()
    outs: tuple[Out, ...] = ()
    exits: tuple[Out, ...] = ()
    tracks: tuple[tuple[int, Out], ...] = ()

    def after(self) -> dict[int, list[int]]:
        """Which nodes consume each node."""
        found: dict[int, list[int]] = {}
        for source, target in self.inner:
            found.setdefault(source, []).append(target)
        return found


@dataclass
class Template:
    """Where everything in a cell is; `box` is around the nodes, ports lie on its left and right side.

    Curves end at the border of a node or at a port. Places of labels are given for inner edges, and for arrivals whose
    port feeds several edges (a lone one is labelled between the cells).
    """

    centres: dict[int, Point] = field(default_factory=dict)
    inner: dict[int, Curve] = field(default_factory=dict)
    arrivals: dict[int, Curve] = field(default_factory=dict)
    outs: dict[Out, Curve] = field(default_factory=dict)
    exits: dict[Out, Curve] = field(default_factory=dict)
    inner_labels: dict[int, Point] = field(default_factory=dict)
    arrival_labels: dict[int, Point] = field(default_factory=dict)
    box: Rect = field(default_factory=lambda: Rect(0.0, 0.0, 0.0, 0.0))

    def rects(self, plan: Plan) -> dict[int, Rect]:
        """The box of every node that has a place."""
        return {n: Rect.around(c, plan.looks[n].width, plan.looks[n].height) for n, c in self.centres.items()}


def check_size(edges: int, what: str) -> None:
    """Refuse what the engine would work on for minutes; the message says what to do instead."""
    if edges > MAX_PLAIN:
        raise ValueError(
            f"{what} has {edges} edges, too many to be laid out (limit: {MAX_PLAIN}): name its parts by "
            'tg.scope("...") and draw them as one with level="gate", level="step" or level=1'
        )


def lay_out(plan: Plan) -> Template:
    """The layout of a cell: operations by the engine, leaves on shelves where their way is free, labels last."""
    check_size(len(plan.inner) + len(plan.arrivals), "a time step")
    shelved = {n for n in plan.leaves if sum(s == n for s, _ in plan.inner) == 1}
    if len(shelved) == len(plan.looks):
        shelved = set()
    ports: list[Out] = []
    for attempt in range(5):
        template = _place_core(plan, shelved, ports)
        blocked = _fill_shelves(plan, template, shelved, force=attempt == 4)
        more = _add_exits(plan, template, force=attempt == 4)
        if not blocked and not more:
            break
        shelved -= blocked
        ports += more
    _spread(plan, template)
    _fit_ports(plan, template)
    _label(plan, template)
    return template


def _path(plan: Plan, starts: Iterable[int], goal: int) -> list[int]:
    """The shortest way from any of the starts to the goal along inner edges; empty if there is none."""
    after = plan.after()
    came: dict[int, int | None] = dict.fromkeys(starts)
    queue = deque(came)
    while queue:
        node = queue.popleft()
        if node == goal:
            way: list[int] = []
            step: int | None = node
            while step is not None:
                way.append(step)
                step = came[step]
            return way[::-1]
        for following in after.get(node, ()):
            if following not in came:
                came[following] = node
                queue.append(following)
    return []


def _groups(plan: Plan) -> dict[str, str]:
    """Nodes and ports that lie on one straight track, from the port a state enters to the port it leaves by."""
    found: dict[str, str] = {}
    for port, out in plan.tracks:
        way = _path(plan, [t for p, t in plan.arrivals if p == port], out[0])
        track = [f"i{port}", *(f"n{n}" for n in way), f"o{out[0]}_{out[1]}"]
        if way and out in plan.outs and not any(name in found for name in track):
            found.update(dict.fromkeys(track, f"track{port}"))
    return found


def _columns(plan: Plan) -> list[list[int]]:
    """Ways from one state to another within the cell (c -> tanh -> h), drawn as a vertical column."""
    states = list(dict.fromkeys(out[0] for _, out in plan.tracks))
    found: list[list[int]] = []
    for one in states:
        for other in states:
            way = _path(plan, [one], other) if one != other else []
            if 2 <= len(way) <= 4 and not any(set(way) & set(column) for column in found):
                found.append(way)
    return found


def _place_core(plan: Plan, shelved: set[int], exits: Sequence[Out]) -> Template:
    """Let ``dot`` place all but the shelved leaves; `exits` get ports of their own."""
    groups = _groups(plan)
    rows = [f"graph [rankdir=LR nodesep={_NODE_GAP / 72:.3f} ranksep={RANK_GAP / 72:.3f}]", "edge [arrowhead=none]"]
    rows.append('node [fixedsize=true label="" shape=box]')

    def node(name: str, width: float, height: float, shape: str = "box") -> str:
        group = f" group={groups[name]}" if name in groups else ""
        return f"{name} [width={width / 72:.4f} height={height / 72:.4f} shape={shape}{group}]"

    for n, look in enumerate(plan.looks):
        if n not in shelved:
            rows.append(node(f"n{n}", look.width, look.height, "ellipse" if look.shape == "ellipse" else "box"))
    ports = sorted({port for port, _ in plan.arrivals})
    ends = [*(f"o{n}_{k}" for n, k in plan.outs), *(f"x{n}_{k}" for n, k in exits)]
    for rank, names in (("min", [f"i{port}" for port in ports]), ("max", ends)):
        rows += [node(name, 1, 10) for name in names]
        rows += [f"{{rank={rank}; {'; '.join(names)}}}"] if names else []
    rows += [f"{{rank=same; {'; '.join(f'n{n}' for n in column)}}}" for column in _columns(plan)]
    for e, (s, t) in enumerate(plan.inner):
        if s not in shelved:
            track = f"n{s}" in groups and groups[f"n{s}"] == groups.get(f"n{t}")
            rows.append(f"n{s} -> n{t} [id=e{e} weight={20 if track else 1}]")
    for a, (port, target) in enumerate(plan.arrivals):
        rows.append(f"i{port} -> n{target} [id=a{a} weight=20]")
    rows += [f"n{n} -> o{n}_{k} [id=o{n}_{k} weight=20]" for n, k in plan.outs]
    rows += [f"n{n} -> x{n}_{k} [id=x{n}_{k}]" for n, k in exits]
    return _read(plan, engine.layout("digraph {\n" + ";\n".join(rows) + "\n}\n"), shelved)


def _add_exits(plan: Plan, template: Template, force: bool = False) -> list[Out]:
    """Lead what skips cells straight to the right, just below what goes to the next cell; returns the blocked ones."""
    rects, blocked = template.rects(plan), []
    right = max(rect.right for rect in rects.values())
    for rank, out in enumerate(out for out in plan.exits if out not in template.exits):
        rect = rects[out[0]]
        y = rect.bottom + max(4.0, (rect.top - rect.bottom) * 0.2)
        way = line((rect.right, y - 2.0 * rank), (max(right, rect.right + 1.0), y - 2.0 * rank))
        if force or not any(
            r.grown(4.0).overlap(Rect(rect.right, y - 1, right, y + 1)) for n, r in rects.items() if n != out[0]
        ):
            template.exits[out] = way
        else:
            blocked.append(out)
    return blocked


def parse_curve(pos: str) -> Curve:
    """The control points of an edge's ``pos`` (no arrowheads)."""
    points = (pair.split(",") for pair in pos.split() if pair[0] not in "es")
    return tuple((float(x), float(y)) for x, y in points)


def _read(plan: Plan, found: Mapping[str, Any], shelved: set[int]) -> Template:
    """Read the engine's layout; mirrored, if that brings the consumers of the shelf down to it."""
    template = Template()
    heights = {o["name"]: tuple(float(v) for v in o["pos"].split(",")) for o in found["objects"] if "pos" in o}
    consumers = [heights[f"n{t}"][1] for s, t in plan.inner if s in shelved]
    every = [y for name, (_, y) in heights.items() if name[0] == "n"]
    middle = (min(every) + max(every)) / 2
    sign = -1.0 if consumers and sum(consumers) / len(consumers) > middle + 1.0 else 1.0
    for name, (x, y) in heights.items():
        if name[0] == "n":
            template.centres[int(name[1:])] = (x, sign * y)
    for edge in found.get("edges", ()):
        curve = tuple((x, sign * y) for x, y in parse_curve(edge["pos"]))
        kind, key = edge["id"][0], edge["id"][1:]
        if kind in "ea":
            (template.inner if kind == "e" else template.arrivals)[int(key)] = curve
        else:
            n, k = key.split("_")
            (template.outs if kind == "o" else template.exits)[int(n), int(k)] = curve
    return template


def _fill_shelves(plan: Plan, template: Template, shelved: set[int], force: bool = False) -> set[int]:
    """Put each consumer's leaves below it, or above if that way is freer; returns those with no free way."""
    core = template.rects(plan)
    extent = union(core.values())
    consumers: dict[int, list[tuple[int, int]]] = {}
    for e, (source, target) in enumerate(plan.inner):
        if source in shelved:
            consumers.setdefault(target, []).append((e, source))
    ways = [samples(curve) for curves in (template.inner, template.arrivals) for curve in curves.values()]
    blocked: set[int] = set()
    taken = {1: -1e9, -1: -1e9}
    for target in sorted(consumers, key=lambda n: template.centres[n][0]):
        obstacles = [rect.grown(3.0) for n, rect in core.items() if n != target]
        options = []
        for down, y in ((1, extent.bottom - _SHELF_DROP), (-1, extent.top + _SHELF_DROP)):
            placed = _shelve(plan, template, target, consumers[target], y, down, taken[down], extent.left)
            rays = [samples(curve) for _, curve in placed.values()]
            hits = sum(rect.holds(point) for rect in obstacles for ray in rays for point in ray)
            crossings = sum(crossing(ray, way) for ray in rays for way in ways)
            options.append((hits, crossings, -down, placed))
        hits, _, up, placed = min(options, key=lambda option: option[:3])
        if hits and not force:
            blocked |= {source for _, source in consumers[target]}
            continue
        for e, (centre, curve) in placed.items():
            look = plan.looks[plan.inner[e][0]]
            template.centres[plan.inner[e][0]], template.inner[e] = centre, curve
            template.inner_labels[e] = (centre[0], centre[1] + up * (look.height / 2 + LABEL[1] / 2 + 1.5))
            taken[-up] = centre[0] + max(look.width + _SHELF_GAP, LABEL[0] + 3.0) / 2
    return blocked


def _shelve(
    plan: Plan,
    template: Template,
    target: int,
    edges: Sequence[tuple[int, int]],
    y: float,
    down: int,
    left: float,
    edge: float,
) -> dict[int, tuple[Point, Curve]]:
    """Places and curves of the leaves of one consumer, side by side from `left` on, with their inner edge at `y`."""
    looks = [plan.looks[source] for _, source in edges]
    (cx, cy), goal = template.centres[target], plan.looks[target]
    # Wide enough for the numbers, which stand at the leaves: there each has a place of its own.
    slots = [max(look.width + _SHELF_GAP, LABEL[0] + 3.0) for look in looks]
    width = sum(slots)
    x = max(left, min(edge, cx), cx - width / 2) if width > goal.width else max(left, cx - width / 2)
    spread = min(32.0, (goal.width - 16.0) / max(1, len(edges) - 1))
    placed: dict[int, tuple[Point, Curve]] = {}
    for k, ((e, _), look) in enumerate(zip(edges, looks, strict=True)):
        centre = (x + slots[k] / 2, y - down * look.height / 2)
        offset = (k - (len(edges) - 1) / 2) * spread if len(edges) > 1 else 0.0
        depth = goal.height / 2
        if goal.shape == "ellipse":
            offset = max(-0.8 * goal.width / 2, min(0.8 * goal.width / 2, offset))
            depth *= (1 - (2 * offset / goal.width) ** 2) ** 0.5
        end, start = (cx + offset, cy - down * depth), (centre[0], y)
        placed[e] = (centre, line(start, end))
        x += slots[k]
    return placed


def _fit_ports(plan: Plan, template: Template) -> None:
    """Bring the ports to the sides of the box around all nodes, and the box to x = 0."""
    rects = template.rects(plan)
    box = union([*rects.values(), *(Rect(x, y, x, y) for curve in template.inner.values() for x, y in curve)])
    leaving = [*template.outs.items(), *template.exits.items()]
    # A way out that runs straight needs no room beyond the last node.
    bent = [curve[-1][0] for _, curve in leaving if max(y for _, y in curve) - min(y for _, y in curve) > 0.5]
    right = max([box.right + (8.0 if leaving else 0.0), *bent])
    template.arrivals = {a: _shortened(curve, box.left - _STUB) for a, curve in template.arrivals.items()}
    left = min([box.left, *(curve[0][0] for curve in template.arrivals.values())])
    places = [*template.inner_labels.values()]
    bottom = min([box.bottom, *(y - LABEL[1] / 2 for _, y in places)])
    top = max([box.top, *(y + LABEL[1] / 2 for _, y in places)])
    template.inner_labels = {e: (x - left, y) for e, (x, y) in template.inner_labels.items()}
    for ends in (template.outs, template.exits):
        for out, curve in ends.items():
            end = (right, curve[-1][1])
            way = join(curve, line(curve[-1], end)) if curve[-1][0] < right else line(curve[0], end)
            ends[out] = moved(way, -left, 0.0)
    for a, curve in template.arrivals.items():
        way = join(line((left, curve[0][1]), curve[0]), curve) if curve[0][0] > left + 0.5 else curve
        template.arrivals[a] = moved(way, -left, 0.0)
    template.inner = {e: moved(curve, -left, 0.0) for e, curve in template.inner.items()}
    template.centres = {n: (x - left, y) for n, (x, y) in template.centres.items()}
    template.box = Rect(0.0, bottom, right - left, top)


def _spread(plan: Plan, template: Template) -> None:
    """Let a fan of edges leave all along the top of its box: further apart there is room for their numbers."""
    rects = template.rects(plan)
    for n, rect in rects.items():
        fan = [e for e, (s, _) in enumerate(plan.inner) if s == n and template.inner[e][-1][1] > rect.top]
        if len(fan) < 2 or plan.looks[n].shape == "ellipse":
            continue
        fan.sort(key=lambda e: (template.inner[e][-1][0] - rect.left) / (template.inner[e][-1][1] - rect.top))
        room = rect.right - rect.left - 6.0
        for k, e in enumerate(fan):
            way = line((rect.left + 3.0 + room * k / (len(fan) - 1), rect.top), template.inner[e][-1])
            others = [r.grown(3.0) for m, r in rects.items() if m not in plan.inner[e]]
            if not any(other.holds(point) for other in others for point in samples(way)):
                template.inner[e] = way


def _shortened(curve: Curve, left: float) -> Curve:
    """A curve that comes straight from its port, with the port moved to the right."""
    straight = max(y for _, y in curve) - min(y for _, y in curve) < 0.5
    return line((left, curve[0][1]), curve[-1]) if straight and curve[0][0] < left < curve[-1][0] else curve


def _label(plan: Plan, template: Template) -> None:
    """Find the labels' places. Curves are numbered for this: inner ones, then arrivals, then what leaves."""
    grid = Grid()
    for rect in template.rects(plan).values():
        grid.add_rect(rect.grown(1.0))
    first = len(plan.inner)
    ways = [*template.outs.values(), *template.exits.values()]
    curves = {**template.inner, **{first + a: curve for a, curve in template.arrivals.items()}}
    curves |= {first + len(plan.arrivals) + k: curve for k, curve in enumerate(ways)}
    for owner, curve in curves.items():
        grid.add_curve(curve, owner)
    feeds = [port for port, _ in plan.arrivals]
    several = [first + a for a in template.arrivals if feeds.count(feeds[a]) > 1]
    found = dict(template.inner_labels)
    for place in found.values():
        grid.add_rect(Rect.around(place, *LABEL))
    waiting = [e for e in sorted(template.inner) if e not in found]
    places = found | place_labels({owner: curves[owner] for owner in (*waiting, *several)}, LABEL, grid)
    template.inner_labels = {owner: place for owner, place in places.items() if owner < first}
    template.arrival_labels = {owner - first: place for owner, place in places.items() if owner >= first}
