"""Known cells on a page: rows of steps on their grid, parameters as the rows of a table, what follows the last step.

After this file the reader knows why a slide is filled and its numbers do not touch: the cells are as wide as the page
allows, what does not fit begins a new row with the same states once more, and a number that is wider than its place
loses its second digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..graph.model import GradientGraph
from ..graph.parts import Edge, Node
from ..norms import Norm, norm_of
from .cells import GRU, RNN, Plan, Step, Way, read
from .geometry import Curve, Point, Rect, join, line
from .marks import SCALE
from .scene import Frame, PlacedEdge, PlacedNode, Scene
from .style import Look, clean, look, narrow, number, short, subscript, text_width

SLIDE, MOST_WIDE = 1280.0, 380.0  # of a page, and of a step
MOST_ONCE = 5
"""Up to so many steps parameters are rows of a table by default."""

ROW = 27.0  # from one parameter to the next
BAND = 94.0  # where the panels of the steps begin
GAP = 170.0  # where steps are left out


@dataclass
class Grid:
    """Cells on a page: everything of them is put into a scene."""

    plan: Plan
    steps: list[Step]
    tail: list[Edge]
    graph: GradientGraph
    prefix: str
    parameters: str
    norm: Norm
    width: float = SLIDE
    most: float = MOST_WIDE
    scene: Scene = field(default_factory=Scene)

    def draw(self) -> Scene:
        """All rows of steps, one below the other."""
        plan, count = self.plan, len(self.steps)
        self.left, self.right = 58.0, max(72.0, self._tail_width() - 8.0) + 10.0 * (plan is GRU)
        room = self.width - self.left - self.right
        runs = self._runs()
        beside = count * plan.least + (len(runs) - 1) * GAP <= room
        if beside:
            room -= (len(runs) - 1) * GAP
        elif max(map(len, runs)) * plan.least > room or len(runs) > 1:  # a row begins with the states before it
            self.left = 92.0
            room = self.width - self.left - self.right
            most = max(1, int(room // plan.least))
            per = -(-max(map(len, runs)) // -(-max(map(len, runs)) // most))
            runs = [run[k : k + per] for run in runs for k in range(0, len(run), per)]
        per = count if beside else max(map(len, runs))
        self.pitch = min(room / per, self.most)
        self.gap, self.gutter = plan.metrics(self.pitch)
        if plan is GRU:
            self.gutter = 30 + (self.pitch - 234) / 3
            self.gap = (self.pitch - 112 - self.gutter) / 2
        self.x0 = start = self.left + (room - self.pitch * per) / 2
        self.names = list(dict.fromkeys(e.source for step in self.steps for _, e in sorted_taps(step)))
        ends = [self.graph.nodes[edge.source] for edge in self.tail if edge.operand]
        leaves = [node for node in ends if node.op is None and not node.members]
        below = 52.0 * (plan is RNN and len(leaves) > 1)  # for what is used below the lane of h
        self.foot = plan.foot + below + (56 if self.parameters != "none" else 26)
        self.high = self.foot + ROW * len(self.names) * (self.parameters != "none") - BAND + 34
        for n, run in enumerate(runs):
            self.down = 0.0 if beside else n * self.high
            if n and beside:
                self.x0 += len(runs[n - 1]) * self.pitch + GAP
                between = f"t = {runs[n - 1][-1].number + 1} … {run[0].number - 1}"
                self.scene.titles.append((self._at(self.x0 - GAP + 4, BAND + 14), between))
            self._row(run)
        self.x0 = start
        self.scene.edges.sort(key=lambda placed: (placed.edge.target, placed.edge.operand, placed.edge.source))
        return self.scene

    def _runs(self) -> list[list[Step]]:
        """The steps, cut where others between them are left out."""
        runs = [[self.steps[0]]]
        for before, step in pairwise(self.steps):
            if any(self._source(step, state).id != before.roles[state].id for state in self.plan.states):
                runs.append([])
            runs[-1].append(step)
        return runs

    # Pixels to points.

    def _at(self, x: float, y: float) -> Point:
        return x * SCALE, -(y + self.down) * SCALE

    def _box(self, x: float, y: float, w: float, h: float) -> Rect:
        return Rect.around(self._at(x, y), w * SCALE, h * SCALE)

    def _node(
        self,
        node: Node,
        place: tuple[float, float, float, float],
        shape: Look,
        frame: int | None = None,
        mark: str = "",
    ) -> str:
        x, y, w, h = place
        name = f"{self.prefix}n{node.id}{mark}"
        sized = Look(shape.role, shape.shape, w * SCALE, h * SCALE, shape.big, shape.small, 11.0)
        self.scene.nodes.append(PlacedNode(name, node, sized, self._at(x, y), frame))
        return name

    def _edge(self, edge: Edge, ends: tuple[str, str], way: Way, room: float = 0.0) -> None:
        points, label = way
        corners = [self._at(x, y) for x, y in points]
        curve: Curve = join(*(line(a, b) for a, b in pairwise(corners)))
        at, anchor = (self._at(*label[:2]), label[2]) if label is not None else (corners[0], "middle")
        self.scene.edges.append(PlacedEdge(edge, *ends, curve, at, anchor, room * SCALE))

    def _row(self, steps: Sequence[Step]) -> None:
        first = steps[0]
        names: dict[int, str] = {}
        before = {}
        for state, y in self.plan.states.items():
            source = self._source(first, state)
            continued = first is not self.steps[0]
            w, h, x = (46.0, 40.0, self.x0 - 56) if continued else (30.0, 24.0, self.x0 - 27)
            shape = self._state(source) if continued else _initial(source)
            kind = Look(shape.role, "again" if continued else "box", 0, 0, shape.big, shape.small)
            drawn = self._node(source, (x, y, w, h), kind, mark="_again" if continued and source.scope else "")
            names[source.id] = drawn.removesuffix("_again")
            before[state] = x + w / 2
        for k, step in enumerate(steps):
            self._step(step, self.x0 + k * self.pitch, before, names)
            places = self.plan.places(self.x0 + k * self.pitch, self.gap, self.gutter)
            before = {state: places[state][0] + 23 for state in self.plan.states}
        if self.parameters == "once":
            self._table(steps, names)
        if steps[-1] is self.steps[-1]:
            self._tail(before["h"], names)

    def _source(self, step: Step, state: str) -> Node:
        edge = next(edge for (origin, _), edge in step.edges.items() if origin == f"{state}-")
        return self.graph.nodes[edge.source]

    def _state(self, node: Node) -> Look:
        total = "" if node.gradient is None else narrow(number(norm_of(node.gradient, self.norm)), 44.0 * SCALE)
        return Look("value", "box", 0, 0, f"{node.name}{subscript((node.step or '')[2:])}", total)

    def _step(self, step: Step, x: float, before: Mapping[str, float], names: dict[int, str]) -> None:
        """The panel of a step, its nodes and edges, and the risers of its parameters."""
        frame, plan = len(self.scene.frames), self.plan
        below = self.foot - 26 + (ROW * len(self.names) + 10) * (self.parameters == "step")
        rect = Rect.around(
            self._at(x + self.pitch / 2, (BAND + below) / 2), (self.pitch - 6) * SCALE, (below - BAND) * SCALE
        )
        self.scene.frames.append(Frame(f"t = {step.number}", rect, (), f"t={step.number}"))
        self.scene.spines += [
            Rect(r.left * SCALE, -(r.top + self.down) * SCALE, r.right * SCALE, -(r.bottom + self.down) * SCALE)
            for r in plan.spines(x, self.gap, self.gutter)
        ]
        places = plan.places(x, self.gap, self.gutter)
        for role, node in step.roles.items():
            names[node.id] = self._node(node, places[role], self._look(role, node), frame)
        local = {role: names[node.id] for role, node in step.roles.items()}
        for (origin, role), edge in step.edges.items():
            way = plan.ways(x, self.gap, self.gutter, before)[origin, role]
            (start, _), (end, _) = way[0][:2]
            room = min(abs(end - start), self.gap) if len(way[0]) == 2 and start != end else 0.0
            if role == "i g" or (way[1] is not None and way[1][2] == "end" and role != "h"):
                room = self.gap  # beside a vertical line, between the gates and the lane to c
            self._edge(edge, (names[edge.source], local[role]), way, max(0.0, room - 2))
        if step.input is not None:
            source = self.graph.nodes[step.input.source]
            shape = look(source)
            text = (
                clean(source.name or "x", 4) + subscript(str(step.number)) if source.kind != "parameter" else shape.big
            )
            tail = self._node(source, places["x"], Look(shape.role, "box", 0, 0, text), frame, f"_{step.number}")
            role = next(r for r, node in step.roles.items() if node.id == step.input.target)
            self._edge(step.input, (tail, local[role]), plan.ways(x, self.gap, self.gutter, before)["x", role])
        if self.parameters != "none":
            self._taps(step, x, local, frame)

    def _look(self, role: str, node: Node) -> Look:
        if role in self.plan.states:
            return self._state(node)
        name = f"{role}{subscript((node.step or '')[2:])}"
        if len(role) == 1:
            return Look("value", "box", 0, 0, name, clean(node.symbol or "", 5))
        if role == "1−z":
            return Look("op", "box", 0, 0, "1−")
        if role.startswith("linear"):
            return Look("op", "box", 0, 0, "lin")
        return Look("op", "ellipse" if node.op == "multiply" else "box", 0, 0, clean(node.symbol or "", 7))

    def _taps(self, step: Step, x: float, local: Mapping[str, str], frame: int) -> None:
        """Risers from the rows of the parameters into what uses them, each with its number in its own row."""
        at, taken = self.plan.taps(x, self.gap, self.gutter), dict[str, int]()
        half = 14.0 if self.plan is RNN else 12.0
        risers: list[tuple[int, float, str, Edge]] = []
        for role, edge in sorted_taps(step):
            k = taken[role] = taken.get(role, -1) + 1
            spot = at[role][k] if k < len(at[role]) else at[role][-1] + 13.0 * (k - len(at[role]) + 1)
            risers.append((self.names.index(edge.source), spot, role, edge))
        beside = max(spot for _, spot, _, _ in risers) + 9
        if self.parameters == "step":  # the lowest box takes the riser farthest from it: no line crosses a head
            spots = sorted((spot for _, spot, _, _ in risers), reverse=True)
            feet = {spot: role for _, spot, role, _ in risers}
            if len(set(feet.values())) == 1:
                risers = [
                    (row, spots[k], role, edge)
                    for k, (row, _, role, edge) in enumerate(sorted(risers, key=lambda r: r[0]))
                ]
            beside += 12
        for row, spot, role, edge in risers:
            y = self.foot + ROW * row
            top = self.plan.foot + half
            node = self.graph.nodes[edge.source]
            if self.parameters == "once":
                self.scene.dots.append((self._at(spot, y), edge))
                self._edge(
                    edge,
                    (f"{self.prefix}n{node.id}", local[role]),
                    ([(spot, y - 4), (spot, top)], (beside, y - 10, "start")),
                )
            else:
                tail = self._node(node, (beside + 24, y, 50.0, 22.0), look(node), frame, f"_{step.number}")
                way = [(beside - 1, y), (spot, y), (spot, top)]
                self._edge(edge, (tail, local[role]), (way, (beside + 54, y, "start")))

    def _table(self, steps: Sequence[Step], names: dict[int, str]) -> None:
        """The rows of the parameters, and at their end what all steps add up to."""
        spots = [
            min(x for xs in self.plan.taps(self.x0 + k * self.pitch, self.gap, self.gutter).values() for x in xs)
            for k in range(len(steps))
        ]
        end = self.x0 + self.pitch * len(steps)
        last = steps[-1] is self.steps[-1]
        right = min(max(end - 30.0, spots[-1] + 130.0), self.width - 126.0) if last else end - 6
        for row, id in enumerate(self.names):
            y, node = self.foot + ROW * row, self.graph.nodes[id]
            self.scene.lanes.append((self._at(spots[0], y), self._at(right, y)))
            if last and node.gradient is not None:
                total = number(norm_of(node.gradient, self.norm))
                shape = Look("parameter", "total", 0, 0, str(short(clean(node.name or "", 24))), total)
                names[id] = self._node(node, (right + 55, y, 110.0, 23.0), shape)

    def _after(self) -> list[tuple[Node, Look, float]]:
        """What follows the last step: nodes, shapes and widths."""
        found = []
        for target in dict.fromkeys(edge.target for edge in self.tail):
            node = self.graph.nodes[target]
            shape, loss = look(node), node.kind == "loss"
            big = clean(node.name or "L", 7) if loss else shape.big
            width = 24.0 if shape.shape == "ellipse" else max(34.0, text_width(big, 14.0) * 1.06 + 16.0)
            found.append((node, Look(shape.role, shape.shape, 0, 0, big, "" if loss else shape.small), width))
        return found

    def _tail_width(self) -> float:
        after = self._after()
        beside = any(e.carried is not None and e.operand for e in self.tail if e.target == after[-1][0].id)
        return sum(46.0 + width for _, _, width in after) + max(0.0, 56.0 - after[-1][2] / 2) * beside

    def _tail(self, x: float, names: dict[int, str]) -> None:
        """What follows the last step, one operation after the other, its other operands above and below."""
        y, at = self.plan.states["h"], x
        for node, shape, width in self._after():
            middle, high = at + 46.0 + width / 2, 40.0 if node.kind == "loss" or shape.small else 24.0
            names[node.id] = self._node(node, (middle, y, width, high), shape)
            side = -1
            for edge in (edge for edge in self.tail if edge.target == node.id):
                source = self.graph.nodes[edge.source]
                if source.id in names:
                    way: Way = [(at, y), (middle - width / 2, y)], (at + 24, y - 13, "middle")
                    self._edge(edge, (names[source.id], names[node.id]), way, 44.0)
                    continue
                leaf = look(source)
                wide = min(max(30.0, text_width(leaf.big, 14.0) + 12.0), width + 60.0)
                tail = self._node(source, (middle, y + side * 62.0, wide, 22.0), leaf)
                ends = [(middle, y + side * 51.0), (middle, y + side * high / 2)]
                self._edge(edge, (tail, names[node.id]), (ends, (middle + 8, y + side * 36.0, "start")))
                side = 1
            at = middle + width / 2


def sorted_taps(step: Step) -> list[tuple[str, Edge]]:
    """The uses of parameters in a step, in the order of the rows: those of the input before those of the state."""
    return sorted(step.parameters, key=lambda tap: (tap[0] == "linear h", tap[1].operand))


def _initial(node: Node) -> Look:
    shape = look(node)
    return Look(shape.role, "box", 0, 0, shape.big[:4])


def arrange(
    graph: GradientGraph,
    prefix: str,
    parameters: str,
    norm: Norm,
    width: float = SLIDE,
    most: float = MOST_WIDE,
) -> Scene | None:
    """The scene of a graph whose steps are one of these cells; None for any other."""
    found = read(graph)
    if found is None:
        return None
    if parameters == "auto":
        parameters = "once" if len(found[1]) <= MOST_ONCE else "step"
    return Grid(*found, graph, prefix, parameters, norm, width, most).draw()
