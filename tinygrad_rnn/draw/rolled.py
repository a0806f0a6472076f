"""The rolled view: one cell, loops for what it hands on, and on every edge a small curve of its gradient over time.

After this file the reader knows that it is the picture of the last time step alone, and that its edges are found again
in every other step by the rank of their operation and the operand: all steps must have one form, or it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from ..graph.model import GradientGraph
from ..graph.parts import Array, Edge, Node
from ..graph.steps import loops_of, rows_of, step_number, steps_of
from ..norms import Norm, State, norm_of
from . import lines, long, paint
from .geometry import Curve, Point, Rect, samples, union
from .marks import Box, Drawing, Group, Mark, Text
from .scene import PlacedNode, Scene
from .sight import DECADES, Given, Sight, options_of
from .style import LABEL_SIZE, Options, Told, clean, edge_style, number, short, subscript, text_width
from .view import View, level_for

WIDE, HIGH, BARS = 62.0, 23.0, 60
"""A curve in points, and of how many bars it is at most."""

NUMBER, GAP = 46.0, 4.0
"""Room for a number unless one is wider, and between it and its curve."""

UNROLLED = 'draw it with view="unrolled"'

Key = tuple[int, int]
Series = Sequence[tuple[int, float, State]]
"""(t, size, state) of one edge, first step first; steps in which it carries no gradient are left out."""


def series_of(edges: Mapping[int, Edge], norm: Norm) -> Series:
    """The sizes of one edge's contributions, by time step."""
    return [(t, size, e.state) for t, e in sorted(edges.items()) if (size := e.size(norm)) is not None]


@dataclass
class Steps:
    """The edges of a graph over time, each by (rank of its operation in the step, operand).

    Those that leave the steps are (-1, rank of what made them). `before` has the rank of the operation that made what
    an edge brings from the step before. ValueError if the steps are not all of one form.
    """

    graph: GradientGraph
    numbers: Sequence[int] = ()
    edges: dict[Key, dict[int, Edge]] = field(default_factory=dict)
    before: dict[Key, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rank, several = self._ranks(), set[Key]()
        forms: dict[int, dict[Key, tuple[int, int]]] = {t: {} for t in self.numbers}
        for edge in self.graph.edges:
            t, k = rank.get(edge.target, (-1, -1))
            if edge.internal or (k < 0 and edge.source not in rank):
                continue
            if k < 0:
                t, k = rank[edge.source]
                several |= {(-1, k)} if t in self.edges.setdefault((-1, k), {}) else set()
                self.edges[-1, k][t] = edge
                continue
            key, (made, origin) = (k, edge.operand), rank.get(edge.source, (t, -1))
            self.edges.setdefault(key, {})[t] = edge
            forms[t][key] = t - made, origin
        for edges in self.edges.values():
            leaves = [self.graph.nodes[e.source] for e in edges.values() if e.source not in rank]
            weights = {n.id for n in leaves if n.kind == "parameter" and not n.step}
            numbers = {
                n.value.item() for n in leaves if n.kind == "constant" and n.value is not None and n.value.ndim == 0
            }
            if len(weights) > 1 or len(numbers) > 1:
                raise ValueError(f"one cell cannot stand for steps with weights or constants of their own: {UNROLLED}")
        for key in several:  # what leaves a step twice is told as it leaves the last one
            del self.edges[key]
        first, last = self.numbers[0], self.numbers[-1]
        self.before = {key: origin for key, (back, origin) in forms[last].items() if back}
        there = {k for t, k in rank.values() if t == first}
        known = {k: v if v[1] in there and not v[0] else (0, -1) for k, v in forms[last].items() if k[0] in there}
        odd = [t for t, form in forms.items() if form != (forms[last] if t > first else known)]
        if odd or any(back not in (0, 1) for back, _ in forms[last].values()):
            raise ValueError(
                f"one cell cannot stand for t = {(odd or [last])[0]}, which has edges of its own: {UNROLLED}"
            )

    def _ranks(self) -> dict[int, Key]:
        """(time step, rank in it) of every operation; the first step may lack what an initial state has no use for."""
        made: dict[int, list[Node]] = {}
        for id in sorted({edge.target for edge in self.graph.edges if self.graph.nodes[edge.target].step}):
            node = self.graph.nodes[id]
            made.setdefault(step_number(node.step or "") or 0, []).append(node)
        self.numbers, found = sorted(made), dict[int, Key]()
        model = [node.op for node in made[self.numbers[-1]]]
        for t, nodes in made.items():
            k = len(model)
            for node in reversed(nodes):
                k = next((j for j in range(k - 1, -1, -1) if model[j] == node.op), -1)
                found[node.id] = t, k
            if k < 0 or (t > self.numbers[0] and len(nodes) < len(model)):
                raise ValueError(f"one cell cannot stand for t = {t}, which has operations of its own: {UNROLLED}")
        return found

    def parameters(self) -> dict[int, list[dict[int, Edge]]]:
        """The uses of each parameter, each by time step."""
        found: dict[int, list[dict[int, Edge]]] = {}
        for edges in self.edges.values():
            sources = {edge.source for edge in edges.values()}
            if len(sources) == 1 and self.graph.nodes[min(sources)].kind == "parameter" and len(edges) > 1:
                found.setdefault(min(sources), []).append(edges)
        return found


def rolled(whole: Mapping[str, GradientGraph], view: View, given: Given) -> Sight:
    """The cell of one graph, with its edges over time."""
    graph, *more = whole.values()
    numbers = steps_of(graph)
    if more:
        raise ValueError(f"a rolled view is of one graph, not of {len(whole)}: {UNROLLED}")
    if view.fold != "auto" or view.steps is not None:
        raise ValueError(f"a rolled view has all steps in one cell, so there is nothing to fold or choose: {UNROLLED}")
    if len(numbers) < 2 or graph.origin is not None:
        raise ValueError(f"a rolled view is of single operations in at least two time steps: {UNROLLED}")
    if len(set(loops_of(graph.nodes, graph.edges).values())) > 1 or rows_of(graph) is not None:
        raise ValueError(f"a rolled view is of one cell, and this graph has several layers or loops: {UNROLLED}")
    if view.level not in ("auto", "op", "gate"):
        raise ValueError(f'level={view.level!r}: a rolled view has level "op" or "gate": {UNROLLED}')
    if view.parameters == "step":
        raise ValueError(f"parameters='step': a rolled view has them once, or none: {UNROLLED}")
    alone = replace(view, steps=(numbers[-1],), level="op", parameters="none")
    level = view.level if view.level != "auto" else level_for(alone.of([graph])[0])
    alone = replace(alone, level="gate" if level == "step" else level)
    seen, every = alone.of([graph])[0], replace(alone, steps=None, fold=None, parameters="once")
    steps, operations = (Steps(each.of([graph])[0]) for each in (every, replace(every, level="op")))
    uses = operations.parameters() if view.parameters != "none" else {}
    rows = [series_of(edges, given[2]) for each in ([*steps.edges.values()], *uses.values()) for edges in each]
    options = options_of(given, [size for row in rows for _, size, state in row if state == "finite"], 0, DECADES)
    # At level "op" boxes stand so near each other that their curves need more height; gates fit a slide as they are.
    ends = [edge_style(size, state, options.scale).label for row in rows for _, size, state in (*row[:1], *row[-1:])]
    room = WIDE + max([NUMBER, *(text_width(text, LABEL_SIZE) for text in ends)])
    scene = _placed(seen, options.norm, room).moved(0.0, 0.0, high=1.2 if alone.level == "op" else 1.0)
    picture = _Rolled(steps, scene, seen, options, room)
    drawing = picture.drawing(
        {row.name: long.rate_of(row) for row in long.rows_of(whole, options.norm)}, uses, graph.nodes
    )
    notes = [f"curve: t = {numbers[0]} … {numbers[-1]}; number: at t = {numbers[-1]}, below at the first"]
    notes += ["bold: the whole gradient"] * bool(uses)
    return Sight((seen,), (("", picture.scene),), drawing, tuple(notes))


def _placed(graph: GradientGraph, norm: Norm, room: float) -> Scene:
    """The last step, with room for a curve on each edge."""
    wide = [
        e if e.carried is None else replace(e, carried=Told(np.zeros(1), e.carried.shape, room - 16.0))
        for e in graph.edges
    ]
    scene = lines.arrange(replace(graph, edges=tuple(wide)), "", "none", norm, lines.SLIDE)
    if scene is None or not scene.frames:
        raise ValueError(f"the last time step cannot be drawn alone: {UNROLLED}")
    mine = {(e.source, e.target, e.operand): e for e in graph.edges}
    scene.edges = [p._replace(edge=mine[p.edge.source, p.edge.target, p.edge.operand]) for p in scene.edges]
    return scene


class _Rolled:
    """Loops, curves and parameters around the scene of the last step."""

    def __init__(self, steps: Steps, scene: Scene, seen: GradientGraph, options: Options, room: float) -> None:
        self.scene, self.options, self.numbers, self.room = scene, options, steps.numbers, room
        self.taken, self.states, self.series = list[Rect](), dict[str, PlacedNode](), list[Series]()
        made = sorted({e.target for e in seen.edges if seen.nodes[e.target].step})
        ranks, boxes = {id: k for k, id in enumerate(made)}, {p.node.id: p for p in scene.nodes}
        inside = [p.rect for p in scene.nodes if p.node.step] + scene.spines
        for p in scene.edges:
            e = p.edge
            key = (ranks[e.target], e.operand) if e.target in ranks else (-1, ranks.get(e.source, -1))
            self.series.append(series_of(steps.edges.get(key, {self.numbers[-1]: e}), options.norm))
            if key in steps.before:
                self.states[p.tail] = boxes[made[steps.before[key]]]
            if e.target in ranks:
                inside += [Rect(x, y, x, y) for x, y in p.curve[key in steps.before :]]
        rect = union(inside)
        room, ways = room + 12.0, [p.curve for p in scene.edges if p.edge.target in ranks]
        upright = any(a[0] == b[0] > rect.right - 30.0 for way in ways for a, b in pairwise(way))
        right = rect.right + (room - 14.0 if upright else 14.0)
        self.panel = Rect(rect.left - room, rect.bottom - 14.0, right, rect.top + 40.0)
        after = [p for p in scene.nodes if not p.node.step and p.id not in self.states and p.centre[0] > rect.right]
        leaving = [s for p, s in zip(scene.edges, self.series, strict=True) if p.edge.target not in ranks]
        beside = room + 10.0 if any(len(series) > 1 for series in leaving) else 46.0
        shift = max(0.0, right + beside - min((p.rect.left for p in after), default=math.inf))

        def moved(at: Point) -> Point:
            return at[0] + shift * (at[0] > rect.right + 0.1), at[1]

        scene.nodes = [p._replace(centre=moved(p.centre)) if p in after else p for p in scene.nodes]
        scene.edges = [
            p if p.edge.target in ranks else p._replace(curve=tuple(map(moved, p.curve)), label=moved(p.label))
            for p in scene.edges
        ]

    def drawing(
        self, rates: Mapping[str, str], uses: Mapping[int, list[dict[int, Edge]]], nodes: Sequence[Node]
    ) -> Drawing:
        """Everything as marks."""
        texts, scene, end = self.loops(), self.scene, subscript(str(self.numbers[-1]))
        kept = [p._replace(look=p.look._replace(big=p.look.big.removesuffix(end))) for p in scene.nodes]
        scene.nodes, scene.frames = [p for p in kept if p.id not in self.states], []
        found = Drawing(self.options, [Box(self.panel, "panel", "frame", radius=10.0)], [self.panel])
        corner = self.panel.left + 12.0, self.panel.top - 14.0
        texts.append(Text(corner, f"× {len(self.numbers)}", 14.0, True, anchor="start"))
        self.taken = [*(p.rect.grown(3.0) for p in scene.nodes), *scene.spines, *(t.rect.grown(3.0) for t in texts)]
        paint.add_scene(Drawing(replace(self.options, labels=False), found.items, found.extents), scene)
        ends = {p.id: p.node for p in scene.nodes}
        spots = np.array([point for p in scene.edges for point in samples(p.curve, 3.0)])
        ways = enumerate(zip(scene.edges, self.series, strict=True))
        for k, (p, series) in sorted(ways, key=lambda way: len(samples(way[1][0].curve, 3.0))):  # the shortest first
            if series:
                state = ends[p.tail].name or ""
                rate = rates.get(state, "") if p.tail in {s.id for s in self.states.values()} else ""
                tip = paint.edge_tooltip(p.edge, ends[p.tail], ends[p.head], self.options.norm).splitlines()[0]
                tip += f"\n‖∂L/∂{state}‖{rate}" * bool(rate)
                near = max(p.label[0], self.panel.left + self.room / 2), p.label[1]
                at = self.free(p.curve, near, self.size(series), spots)
                found.add(replace(self.block(at, series, f"curve{k}", tip), edge=p.edge))
        for text in texts:
            found.add(text)
        self.rows(found, uses, nodes)
        return found

    def loops(self) -> list[Text]:
        """Each state on its way from its box round to where the step before handed it on; and what is written there."""
        texts, count, scene = [], {1: 0, -1: 0}, self.scene
        blocks = [p.rect for p in scene.nodes] + scene.spines
        spots = [point for p in scene.edges for point in samples(p.curve, 3.0)]
        for tail, box in self.states.items():
            found = []
            for side, edge in ((1, self.panel.top), (-1, self.panel.bottom)):
                end = box.centre[1] + side * box.look.height / 2
                for x in (box.centre[0], box.rect.right + 16.0):
                    upright = Rect(x - 5.0, min(end, edge) + 1.0, x + 5.0, max(end, edge) - 1.0)
                    met = sum(upright.overlap(r) > 0 for r in blocks)
                    along = sum(map(upright.holds, spots))
                    found.append((1000.0 * met + 20.0 * along + abs(edge - end) / 10.0, x, side, edge, end))
            _, x, side, level, end = min(found)
            level += side * (16.0 + 24.0 * count[side])
            left = self.panel.left - 20.0 - 12.0 * sum(count.values())
            count[side] += 1
            out = [(x, end)] if x == box.centre[0] else [(box.rect.right, y := end - side * 10.0), (x, y)]
            for k, p in enumerate(scene.edges):
                if p.tail == tail:
                    way = (*out, (x, level), (left, level), (left, p.curve[0][1]), *p.curve[1:])
                    scene.edges[k] = p._replace(curve=way, tail=box.id)
            words = f"{clean(box.node.name or box.node.op or '', 12)}, from step t − 1 to t = {self.numbers[1]}"
            words += f" … {self.numbers[-1]}" * (len(self.numbers) > 2)
            texts.append(Text(((left + x) / 2, level + side * 10.0), words, LABEL_SIZE, colour="muted"))
        return texts

    def size(self, series: Series) -> Point:
        """How wide and high the block of a curve and its numbers is."""
        ends = [edge_style(size, state, self.options.scale).label for _, size, state in (series[0], series[-1])]
        wide = max(text_width(text, LABEL_SIZE) for text in ends)
        return (wide + WIDE + GAP, HIGH) if len(series) > 1 else (wide, LABEL_SIZE)

    def free(self, curve: Curve, near: Point, size: Point, spots: Array) -> Point:
        """The left middle of the place beside a line, nearest to that of its number, where a block touches least."""
        wide, high = size
        aside = [
            (way * (wide / 2 + far), dy) for way in (1, -1) for far in (6.0, 20.0, 34.0) for dy in (0.0, high, -high)
        ]
        steps = aside + [(0.0, way * (high / 2 + far)) for way in (1, -1) for far in (4.0, 18.0, 32.0, 46.0)]
        x, y = (np.array(samples(curve, 4.0))[:, None] + np.array(steps)).reshape(-1, 2).T
        left, right, bottom, top = x - wide / 2, x + wide / 2, y - high / 2, y + high / 2
        cut = [(left < end) & (end < right) for end in (self.panel.left, self.panel.right)]
        cost = np.hypot(x - near[0], y - near[1]) + 300.0 * np.any(cut, axis=0)
        for r in self.taken:
            cost += 1000.0 * ((left < r.right) & (r.left < right) & (bottom < r.top) & (r.bottom < top))
        least, at = math.inf, (0.0, 0.0)
        for k in cost.argsort(kind="stable"):
            if cost[k] >= least:  # as much as all that are left cost at least
                break
            inside = (abs(spots[:, 0] - x[k]) < wide / 2 + 2.0) & (abs(spots[:, 1] - y[k]) < high / 2 + 1.5)
            if (found := cost[k] + 200.0 * inside.sum()) < least:
                least, at = found, (float(x[k]), float(y[k]))
        self.taken.append(Rect.around(at, wide, high).grown(1.5))
        return at[0] - wide / 2, at[1]

    def block(self, at: Point, series: Series, name: str, tip: str, total: str | None = None) -> Group:
        """A curve from a left middle on, right of it what there is at the last step and below that at the first."""
        (x, y), scale, marks = at, self.options.scale, list[Mark]()
        (_, size0, state0), (_, size1, state1) = series[0], series[-1]
        if len(series) > 1:
            places = np.unique(np.linspace(0, len(self.numbers) - 1, BARS).round().astype(int))
            chosen, known = [self.numbers[k] for k in places], {t: (size, state) for t, size, state in series}
            marks.append(Box(Rect(x, y - HIGH / 2, x + WIDE, y + HIGH / 2), "background", "frame", pen=0.6))
            step, foot = (WIDE - 2.0) / len(chosen), y - HIGH / 2 + 1.0
            for k, (size, state) in ((k, known[t]) for k, t in enumerate(chosen) if t in known):
                style = edge_style(size, state, scale)
                part = 1.0 if state in ("nan", "inf") else 0.0 if state == "zero" else max(0.04, scale.fraction(size))
                bar = Rect(x + 1.0 + k * step, foot, x + 1.0 + (k + 1) * step, foot + part * (HIGH - 2.0))
                if part:
                    marks.append(Box(bar, style.color))
            x += WIDE + GAP
        if total is not None:
            marks += [Text((x, y), total, LABEL_SIZE, True, anchor="start")] * bool(total)
        elif self.options.labels:
            last, first = (edge_style(size, state, scale).label for size, state in ((size1, state1), (size0, state0)))
            both = len(series) > 1
            marks.append(Text((x, y + 6.5 * both), last, LABEL_SIZE, anchor="start"))
            marks += [Text((x, y - 6.5), first, LABEL_SIZE, colour="muted", anchor="start")] * both
        told = [f"t = {t}: {long.told(size, state)}" for t, size, state in (series[-1], series[0])]
        return Group("detail", name, tuple(marks), "\n".join([tip, *dict.fromkeys(told)]))

    def rows(self, found: Drawing, uses: Mapping[int, list[dict[int, Edge]]], nodes: Sequence[Node]) -> None:
        """The parameters in lines below: each with a curve for each of its uses, and with its whole gradient."""
        rect, norm = found.rect, self.options.norm
        x, y = rect.left, rect.bottom - 24.0
        for id, edges in uses.items():
            node = nodes[id]
            name = str(short(clean(node.name or "", 24))) or "×".join(map(str, node.shape))
            total = "" if node.gradient is None else number(norm_of(node.gradient, norm))
            box = text_width(name, LABEL_SIZE) + 12.0
            wide = box + (WIDE + 2 * GAP) * len(edges) + NUMBER + 16.0
            if x + wide > max(rect.right, rect.left + 900.0) and x > rect.left:
                x, y = rect.left, y - HIGH - 10.0
            shape = Box(Rect(x, y - 10.0, x + box, y + 10.0), "fill parameter", "line parameter", radius=5.0)
            label = Text((x + box / 2, y), name, LABEL_SIZE)
            found.add(Group("node", f"n{id}", (shape, label), paint.node_tooltip(node, norm), node))
            for k, use in enumerate(edges):
                at, series = (x + box + GAP + k * (WIDE + GAP), y), series_of(use, norm)
                found.add(self.block(at, series, f"use{id}_{k}", name, total if k == len(edges) - 1 else ""))
            x += wide
