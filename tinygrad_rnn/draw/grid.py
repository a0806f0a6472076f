"""Known cells on a line of the page: which cell a graph is of, and where its steps and all around them stand.

After this file the reader knows why a slide is filled and its numbers do not touch: cells are as wide as the page
allows, and a number that is wider than its place loses its second digit. Whatever differs from a known cell, in one
edge, is laid out by the grammar instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..graph.model import GradientGraph
from ..graph.parts import Edge, Node, grouped
from .cells import GRU, LSTM, LSTM_1997, RNN, Key, Plan, Ways
from .channels import Routed, Run, Seat, Wire
from .cut import Block, Cut, Place
from .geometry import Point, Rect
from .marks import SCALE, Anchor
from .style import clean, text_width

MOST_WIDE, WIDEST = 380.0, 72.0
"""Of a step, and of a number; what is wider than any number is a block with a curve, and steps are wider with it."""
HEAD, ASIDE = 122.0, 66.0
"""The height 0 of a line, below the head of its panels; from what follows the steps to its other operands."""


@dataclass(frozen=True)
class Cell:
    """A graph whose every step is such a cell: the plan, the roles of its nodes, and the graph cut into blocks."""

    plan: Plan
    roles: Mapping[int, str]
    parts: Cut

    def sized(self, seat: Seat) -> Seat:
        """A box as large as the plan has it; the loss is slim, so that five steps have room beside it."""
        role = self.roles.get(seat.node.id, "x" if self.parts.steps[seat.slot] else "")
        if seat.node.kind == "loss":
            slim = max(26.0, text_width(seat.look.big, 11.0) * 1.06 + 13.0)
            return seat._replace(look=seat.look._replace(width=slim, height=32.0, small=""))
        if not role:
            return seat
        *_, width, height = self.plan.narrow.places[role]
        shape = seat.look._replace(width=width * SCALE, height=height * SCALE)
        if role == "x":
            shape = shape._replace(big=clean(shape.big, 5), small="")
        return seat._replace(look=shape._replace(big="lin") if role.startswith("linear") else shape)


def read(parts: Cut, graph: GradientGraph) -> Cell | None:
    """The cell of a graph; None if it is none of these in its plainest form, or more than a chain follows the steps."""
    parts = _beside_tail(parts, graph)
    into = grouped([edge for edge, *_ in parts.uses], "target")
    by_role = {place: _roles(block.nodes, into) for place, block in parts.blocks.items() if parts.steps[place[1]]}
    names = {frozenset(found) | {"x"} for found in by_role.values()}
    plan = next((p for p in (LSTM, LSTM_1997, GRU, RNN) if names == {frozenset(p.narrow.places)}), None)
    if plan is None or len(parts.bands) > 1 or parts.backwards[0]:
        return None
    roles = {node.id: role for found in by_role.values() for role, node in found.items()}
    edges: dict[Place, Counter[Key]] = {place: Counter() for place in by_role}
    for edge, home, target in parts.uses:
        if target in edges:
            edges[target][_origin(edge, home, target, roles, plan), roles[edge.target]] += 1
    expected = Counter(key for key in plan.narrow.ways if key[0] != "x")
    inputs = Counter(("x", role) for role in plan.taps)
    if any(found - inputs != expected for found in edges.values()):
        return None
    if any(roles[edge.target] not in plan.taps for edge, place in parts.parameters if place in edges):
        return None
    after = sorted(place for place, block in parts.blocks.items() if place not in edges and block.nodes)
    if not after or after[0] < max(edges) or not _is_chain(parts, after, roles):
        return None
    return Cell(plan, roles, parts)


def _roles(nodes: Sequence[Node], into: Mapping[int, list[Edge]]) -> dict[str, Node]:
    """The role of each node of a step, by its name or by what it is computed from; no roles if two have the same."""
    found: dict[str, Node] = {}
    names: dict[int, str] = {}
    for node in nodes:
        operands = {names.get(edge.source, "") for edge in into.get(node.id, ())}
        role = node.name or {"affine": "affine", "tanh": "tanh", "subtract": "1−z"}.get(node.op or "", "")
        if not node.name and node.op == "multiply":
            pairs = (("f", "f c"), ("i", "i g"), ("z", "z h"), ("n", "n z"))
            role = next((role for gate, role in pairs if gate in operands), "")
        elif not node.name and node.op == "linear":
            role = "linear h" if "linear x" in found else "linear x"
        if not role or role in found:
            return {}
        found[role], names[node.id] = node, role
    return found


def _origin(edge: Edge, home: Place, target: Place, roles: Mapping[int, str], plan: Plan) -> str:
    """The role of an edge's source: a node of the step, a state of the one before, or the input; "" is none of them."""
    role, source = roles[edge.target], roles.get(edge.source)
    if home == target:
        return source or ("x" if edge.operand == 0 and role != "linear h" and edge.carried is None else "")
    if source is not None:
        return f"{source}-" if target[1] - home[1] == 2 else ""
    return _handed(plan, role)


def _handed(plan: Plan, role: str) -> str:
    """Which state of the step before comes in here."""
    return next((origin for origin, to in plan.narrow.ways if to == role and origin.endswith("-")), "")


def _is_chain(parts: Cut, after: Sequence[Place], roles: Mapping[int, str]) -> bool:
    """Whether what follows the last step is one operation after the other, each with at most two other operands."""
    nodes = [node.id for place in after for node in parts.blocks[place].nodes]
    made, at = {*roles, *nodes}, max(id for id, role in roles.items() if role == "h")
    every = [(edge, home == target) for edge, home, target in parts.uses] + [(e, True) for e, _ in parts.parameters]
    given = Counter(edge.source for edge, _ in every if edge.target in nodes and edge.source not in made)
    for node in nodes:
        sources = [(edge.source, near) for edge, near in every if edge.target == node]
        leaves = [near and given[id] == 1 for id, near in sources if id not in made]
        if [id for id, _ in sources if id in made] != [at] or len(leaves) > 2 or not all(leaves):
            return False
        at = node
    return True


def _beside_tail(parts: Cut, graph: GradientGraph) -> Cut:
    """The same with the parameters of what follows the steps, and first states, as boxes beside it."""
    blocks, kept = dict(parts.blocks), [(edge, place) for edge, place in parts.parameters if parts.steps[place[1]]]
    given = [(edge, home, place) for edge, home, place in parts.uses if not parts.steps[place[1]]]
    given = [use for use in given if graph.nodes[use[0].source] in blocks[use[1]].leaves and use[1] < use[2]]
    beside = [*(use for use in parts.parameters if use not in kept), *((edge, place) for edge, _, place in given)]
    for edge, place in beside:
        blocks[place] = Block(blocks[place].nodes, [*blocks[place].leaves, graph.nodes[edge.source]])
    uses = [use for use in parts.uses if use not in given] + [(edge, place, place) for edge, place in beside]
    return replace(parts, blocks=blocks, uses=uses, parameters=kept)


class Slots:
    """How wide the slots of a line are: before the first step, the steps, all alike, and after the last one.

    `feet` tells for the wires from below in which depth under the panels they start. Where they end in rows (`once`),
    the numbers stand right of all; else in boxes, and none crosses another if the leftmost is the longest.
    """

    widths: Mapping[object, float] = {}  # no channels

    def __init__(
        self, cell: Cell, items: Sequence[Seat], wires: Sequence[Wire], feet: Mapping[int, float], once: bool
    ) -> None:
        self.cell, self.items, self.wires, self.feet, self.once = cell, items, wires, feet, once
        self.wide = [item.look.width / SCALE for item in items]
        self.steps = sorted({item.slot for item in items if cell.parts.steps[item.slot]})
        self.numbered, made = {w.source for w in wires if w.room}, {w.target for w in wires}
        self.leaves = [k for k, item in enumerate(items) if item.slot > self.steps[-1] and k not in made]
        self.tail = [k for k, item in enumerate(items) if item.slot > self.steps[-1] and k in made]
        self.first = [k for k, item in enumerate(items) if item.slot not in self.steps and item.slot < self.steps[-1]]
        self.around = {items[k].slot: 0.0 for k in self.tail}
        for k in self.first:
            need = self.wide[k] + (33.0 if k in self.numbered else 12.0)
            self.around[items[k].slot] = max(self.around.get(items[k].slot, 0.0), need)

    def spare(self, page: float, least: Mapping[object, float]) -> float:
        """What a page leaves for each step, up to a width that is the same whatever the numbers."""
        plan = self.cell.plan
        after = sum(46.0 + self.wide[k] for k in self.tail) + plan.narrow.places["h"][0] + 23.0 - plan.least
        after += max(0.0, 52.0 - self.wide[self.tail[-1]] / 2) if self.numbered & {*self.leaves} else 0.0
        inside = [w.room / SCALE for w in self.wires if w.source is not None and w.target not in self.tail]
        room = (page / SCALE - sum(self.around.values()) - max(0.0, after)) / len(self.steps)
        most = MOST_WIDE if max(inside, default=0.0) < WIDEST else 2.2 * MOST_WIDE
        return max(0.0, min(room, most) - plan.least)

    def route(self, least: Mapping[object, float], spare: float) -> Routed:
        """Places for everything, as the columns of any other table have them; each step is wider by `spare`."""
        whole = _Line(self, spare)
        taps = whole.taps(self.feet, self.once)
        runs = [taps[w] if w in taps else whole.way(w) for w in range(len(self.wires))]
        ways = [pair for run in runs for pair in pairwise(run.curve)]
        posts = [(x0, min(y0, y1), max(y0, y1)) for (x0, y0), (x1, y1) in ways if x0 == x1]
        # A post right of all, so that numbers and boxes stand below each other.
        each = sorted(taps.items(), key=lambda tap: tap[1].curve)
        rights = {self.items[self.wires[w].target].slot: run.curve[0][0] for w, run in each}
        posts += [(x, 0.0, math.inf) for x in rights.values()]
        return Routed(
            [_at(*centre) for centre in whole.centres],
            runs,
            whole.spines(),
            {w: run.curve[0] for w, run in taps.items()},
            posts,
            [x * SCALE - 11.0 for x in (*whole.lefts.values(), whole.end)],
            [],
            {k: item.look.height for k, item in enumerate(self.items)},
            {0: (whole.bottom - HEAD) * SCALE},
            whole.end * SCALE,
        )


def _at(x: float, y: float) -> Point:
    return x * SCALE, (y - HEAD) * SCALE


def _run(corners: Sequence[Point], label: Point, anchor: Anchor = "middle", room: float = 0.0) -> Run:
    """A wire in points, from its corners, the place of its number, and the room there, if that is little."""
    return Run(tuple(_at(*corner) for corner in corners), _at(*label), anchor, max(0.0, room - 2.0) * SCALE)


class _Line:
    """Steps beside each other, what they begin with before them, and after the last one what follows."""

    def __init__(self, slots: Slots, spare: float) -> None:
        self.cell, self.plan, self.items, self.wires = slots.cell, slots.cell.plan, slots.items, slots.wires
        self.wide, self.steps, self.leaves, items = slots.wide, slots.steps, slots.leaves, slots.items
        pitch = self.plan.least + spare
        self.lefts, self.end = dict[int, float](), 0.0
        for slot in sorted({item.slot for item in items}):
            self.lefts[slot] = self.end
            self.end += slots.around.get(slot, pitch)
        self.gap, places, _ = self.plan.laid(pitch, {"c": 0.0, "h": 0.0})
        states = [role for role in places if role in ("c", "h")]
        before = {slot: {state: places[state][0] + 23.0 - pitch for state in states} for slot in self.steps}
        self.centres = [(0.0, 0.0)] * len(items)
        for w, wire in enumerate(self.wires):
            if wire.source in slots.first:
                slot, state = items[wire.target].slot, self.origin(w)[:-1]
                before[slot][state] = -33.0 if wire.source in slots.numbered else -12.0
                x = self.lefts[slot] + before[slot][state] - self.wide[wire.source] / 2
                self.centres[wire.source] = x, places[state][1]
        self.ways: dict[int, Ways] = {slot: self.plan.laid(pitch, before[slot]).ways for slot in self.steps}
        self.places = places
        for k, item in enumerate(items):
            if item.slot in self.steps:
                x, y, *_ = places[self.cell.roles.get(item.node.id, "x")]
                self.centres[k] = self.lefts[item.slot] + x, y
        self.foot = max(places[role][1] + places[role][3] / 2 for role in self.plan.taps)
        self.bottom = self.foot + 10.0
        at = self.lefts[self.steps[-1]] + max(places["h"][0] + 23.0, pitch - 34.0)
        for k in slots.tail:
            at = self.follow(k, at)

    def follow(self, k: int, at: float) -> float:
        """Place what follows the last step, its other operands above and below; returns its right end."""
        y, middle = self.places["h"][1], at + 46.0 + self.wide[k] / 2
        self.centres[k] = middle, y
        right = middle + self.wide[k] / 2
        self.end = max(self.end, right)
        given = [wire for wire in self.wires if wire.target == k and wire.source in self.leaves]
        for wire, side in zip(given, (1, -1) if self.plan is GRU else (-1, 1), strict=False):
            leaf = wire.source or 0
            self.centres[leaf] = middle, y + side * ASIDE
            self.end = max(self.end, middle + self.wide[leaf] / 2, middle + 52.0 * bool(wire.room))
            self.bottom = max(self.bottom, y + side * ASIDE + 20.0)
        return right

    def origin(self, w: int) -> str:
        """The role of a wire's source, as the plan of its target's step has it."""
        source, target = self.items[self.wires[w].source or 0], self.items[self.wires[w].target]
        if source.slot == target.slot:
            return self.cell.roles.get(source.node.id, "x")
        return _handed(self.plan, self.cell.roles[target.node.id])

    def way(self, w: int) -> Run:
        """A wire between two boxes."""
        source, target = self.wires[w].source or 0, self.wires[w].target
        seat, (x, y) = self.items[target], self.centres[target]
        if seat.slot in self.steps:
            role, left = self.cell.roles[seat.node.id], self.lefts[seat.slot]
            corners, label = self.ways[seat.slot][self.origin(w), role]
            corners = [(left + a, b) for a, b in corners]
            if label is None:
                return _run(corners, corners[0])
            across = abs(corners[1][0] - corners[0][0]) if len(corners) == 2 else 0.0
            beside = role == "i g" or (label[2] == "end" and role != "h")
            return _run(corners, (left + label[0], label[1]), label[2], self.gap if beside else min(across, self.gap))
        if source in self.leaves:
            side = 1 if self.centres[source][1] > y else -1
            near, far = (self.items[k].look.height / SCALE / 2 for k in (target, source))
            corners = [(x, y + side * (ASIDE - far)), (x, y + side * near)]
            return _run(corners, (x + 8.0, y + side * (ASIDE + near - far) / 2), "start")
        start, end = self.centres[source][0] + self.wide[source] / 2, x - self.wide[target] / 2
        return _run([(start, y), (end, y)], ((start + end) / 2 + 1.0, y - 13.0), room=44.0)

    def taps(self, feet: Mapping[int, float], once: bool) -> dict[int, Run]:
        """The wires from below, side by side in the order of their rows."""
        found, used = dict[int, Run](), dict[int, list[int]]()
        for w in sorted(feet, key=lambda w: feet[w]):
            used.setdefault(self.wires[w].target, []).append(w)
        for target, ways in used.items():
            first, apart = self.plan.taps[self.cell.roles[self.items[target].node.id]]
            for k, w in enumerate(ways if once else ways[::-1]):
                x = self.centres[target][0] + first + k * apart
                found[w] = _run([(x, self.bottom + feet[w] / SCALE), (x, self.foot)], (x, self.foot))
        return found

    def spines(self) -> list[Rect]:
        """The bars of what several gates use."""
        found = []
        for left in (self.lefts[slot] for slot in self.steps):
            for role, (aside, top) in self.plan.spines.items():
                x, y, _, height = self.places[role]
                low, high = _at(left + x + aside - 5.0, top), _at(left + x + aside + 5.0, y - height / 2 + 1.0)
                found.append(Rect(*low, *high))
        return found
