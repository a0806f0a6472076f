"""What of a graph is drawn: at which level, which time steps in full, and whether parameters and constants are shown.

After this file the reader knows how ``draw(loss)`` chooses. Nothing here changes a number: what is left out of a
picture stays in the graph, and what is put together is summed by `collapse`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from ..arguments import flag, one_of, whole
from ..graph.collapse import collapse
from ..graph.contributions import Slice
from ..graph.model import GradientGraph
from ..graph.parts import Edge, Level, Node, grouped
from ..graph.steps import states, step_number, steps_of
from .style import MAX_PLAIN, subscript, undated

FULL, SMALL, ENDS = 5, 20, 2
"""Up to so many time steps are drawn in full by default, in small cells, and of more at each end on request."""

OP_NODES, GATE_NODES = 12, 40
"""A time step of at most so many boxes is drawn at level "op" by default, at level "gate" (else at level "step")."""

MAX_EDGES = 50_000
"""More are refused: no viewer opens such a picture."""

Parameters = Literal["auto", "step", "once", "none"]
_COARSER: tuple[Level, ...] = ("op", "gate", "step")


@dataclass(frozen=True)
class View:
    """What the caller chose to see; see `draw`."""

    level: Level | Literal["auto"] = "auto"
    fold: int | Literal["auto"] | None = "auto"
    steps: tuple[int, ...] | None = None
    parameters: Parameters = "auto"
    constants: bool = True

    def __post_init__(self) -> None:
        one_of("parameters", self.parameters, get_args(Parameters))
        flag("constants", self.constants)
        if not (self.fold is None or (isinstance(self.fold, str) and self.fold == "auto")):
            whole("fold", self.fold, 1, or_else=', "auto" or None')

    def of(self, graphs: Iterable[GradientGraph]) -> list[GradientGraph]:
        """The graphs as they are drawn: all at one level, the coarsest that one of them asks for."""
        graphs = [self._part(graph) for graph in graphs]
        if self.level != "auto":
            return [self._one(graph, self.level) for graph in graphs]
        level = max(map(level_for, graphs), key=_COARSER.index)
        return [self._one(graph, level) for graph in graphs]

    def long(self, graphs: Sequence[GradientGraph]) -> bool:
        """Whether the steps are too many to be drawn in full, and all that is drawn was left to us."""
        ours = (self.level, self.fold, self.parameters) == ("auto",) * 3 and self.steps is None and self.constants
        count = max(len(steps_of(graph)) for graph in graphs)
        return ours and count > FULL and all(graph.origin is None and states(graph) for graph in graphs)

    def _part(self, graph: GradientGraph) -> GradientGraph:
        """The graph of the steps that are drawn; what comes to them from the others is like an initial state."""
        numbers = steps_of(graph) if graph.origin is None else []
        gone = set(numbers) - kept(numbers, self.fold, self.steps)
        if not gone:
            return graph
        away = {n.id for n in graph.nodes if n.step and step_number(n.step) in gone}
        edges = [
            e for e in graph.edges if e.target not in away and (e.source not in away or graph.nodes[e.target].step)
        ]
        touched = {end for e in edges for end in (e.source, e.target)} | {graph.nodes[-1].id}
        nodes = [node for node in graph.nodes if node.id in touched]
        rank = {node.id: k for k, node in enumerate(nodes)}
        cut = {
            n.id: replace(n, scope="", name=f"{n.name or n.op}{subscript((n.step or '')[2:])}")
            for n in nodes
            if n.id in away
        }
        return replace(
            graph,
            nodes=tuple(replace(cut.get(n.id, n), id=rank[n.id]) for n in nodes),
            edges=tuple(replace(e, source=rank[e.source], target=rank[e.target]) for e in edges),
            by_tensor={},
        )

    def _one(self, graph: GradientGraph, level: Level) -> GradientGraph:
        seen = collapse(graph, level)
        origin = graph.origin or graph
        dropped, uses = _dropped(origin), grouped(origin.edges, "source")
        hidden = _beside_steps(seen) if level == "step" else set()
        for node in seen.nodes:
            unnamed = node.kind == "constant" and not node.name
            if (unnamed and not self.constants) or (node.kind == "parameter" and self.parameters == "none"):
                hidden.add(node.id)

        def left(edge: Edge) -> bool:
            return edge.source in hidden or _shared(edge, seen) or _is_dropped(edge, seen, dropped, uses)

        edges = tuple(replace(edge, internal=True) if left(edge) else edge for edge in seen.edges)
        return seen if edges == seen.edges else replace(seen, edges=edges)


def level_for(graph: GradientGraph) -> Level:
    """The finest level at which each time step is a small picture, and the whole graph no large one."""
    if graph.origin is not None:
        return "op"
    steps = len(steps_of(graph))
    if steps > SMALL:
        return "step"
    if not steps:
        return "op" if len(graph.edges) <= MAX_PLAIN else "gate"
    boxes = {level: _largest_step(collapse(graph, level)) for level in ("op", "gate")}
    if boxes["op"] <= OP_NODES and boxes["op"] != boxes["gate"]:
        return "op"
    return "gate" if boxes["gate"] <= GATE_NODES else "step"  # of a cell without gates, what follows it is one box


def _largest_step(graph: GradientGraph) -> int:
    """How many boxes the largest time step has, with its leaves."""
    boxes: dict[str, set[int]] = {}
    for edge in graph.edges:
        step = graph.nodes[edge.target].step
        if step and not edge.internal:
            boxes.setdefault(step, set()).update((edge.source, edge.target))
    return max(map(len, boxes.values()), default=0)


def kept(numbers: Sequence[int], fold: int | str | None, steps: Sequence[int] | None) -> set[int]:
    """Which time steps are drawn: `steps`, or `fold` of them at each end."""
    if steps is not None:
        unknown = sorted(set(steps) - set(numbers))
        if unknown:
            there = f"{numbers[0]} to {numbers[-1]}" if numbers else "none"
            raise ValueError(f"steps {unknown} are not in the graph, which has {there}")
        return set(steps)
    ends = (ENDS if len(numbers) > SMALL else None) if fold == "auto" else fold
    if ends is None or len(numbers) <= 2 * int(ends):
        return set(numbers)
    return {*numbers[: int(ends)], *numbers[-int(ends) :]}


def _beside_steps(graph: GradientGraph) -> set[int]:
    """Of whole steps, only what runs between them is drawn, and the initial state: leaves are left out."""
    steps = {node.step for node in graph.nodes if node.step and node.members}
    if not steps:
        return set()
    made, uses = {edge.target for edge in graph.edges}, grouped(graph.edges, "source")
    leaves = [node for node in graph.nodes if node.id in uses.keys() - made and not node.members]
    given = Counter(undated(node.name or "") for node in leaves)
    made_of = {member.name for node in graph.nodes for member in node.members if member.name}
    between = [edge for edge in graph.edges if graph.nodes[edge.source].members and graph.nodes[edge.target].members]
    handed_on, numbers = {edge.tensor.shape for edge in between if edge.tensor is not None}, steps_of(graph)
    ends = {f"t={number}" for number in (*numbers[:1], *numbers[-1:])}

    def initial(node: Node) -> bool:
        """Given to one step alone, and named like what a step makes, or else to an end, in the form of a state."""
        name, by = undated(node.name or ""), {graph.nodes[edge.target].step for edge in uses[node.id]} & steps
        if len(by) != 1 or node.step:
            return False
        first = by.pop() in ends and given[name] == 1
        return name in made_of or (first and len(numbers) > 1 and bool(name) and node.shape in handed_on)

    return {node.id for node in leaves if not initial(node)}


def _shared(edge: Edge, graph: GradientGraph) -> bool:
    """Whether an edge brings an input from one layer's step, which holds it, to the same step of another."""
    source, target = graph.nodes[edge.source], graph.nodes[edge.target]
    given = edge.tensor is not None and edge.tensor.op is None
    return given and bool(source.members) and edge.source != edge.target and source.step == target.step


def _dropped(graph: GradientGraph) -> set[tuple[int, int]]:
    """(source, target) of what is stacked and then left out by an index: ``outputs[-1]`` uses one of all outputs."""
    uses = grouped(graph.edges, "source")
    stacked = grouped((edge for edge in graph.edges if graph.nodes[edge.target].op == "stack"), "target")
    found: set[tuple[int, int]] = set()
    for id, edges in stacked.items():
        node, slices = graph.nodes[id], [edge.carried for edge in uses.get(id, ())]
        along_first = node.shape[1:] == graph.nodes[edges[0].source].shape
        if along_first and slices and all(isinstance(part, Slice) for part in slices):
            kept: set[int] = set()
            for part in slices:
                assert isinstance(part, Slice)
                kept.update(np.ravel(np.arange(node.shape[0])[_first(part.index)]).tolist())
            found |= {(edge.source, id) for edge in edges if edge.operand not in kept and edge.state == "zero"}
    return found


def _first(index: Any) -> Any:
    """What an index says about the first axis."""
    first = index[0] if isinstance(index, tuple) and index else index
    return first if isinstance(first, (int, np.integer, slice)) else slice(None)


def _is_dropped(edge: Edge, graph: GradientGraph, dropped: set[tuple[int, int]], uses: dict[int, list[Edge]]) -> bool:
    if edge.tensor is None:
        return (edge.source, edge.target) in dropped
    target = graph.nodes[edge.target]
    inside = {member.id for member in target.members or (target,)}
    within = [e for e in uses.get(edge.tensor.id, ()) if e.target in inside] if dropped else []
    return bool(within) and all((e.source, e.target) in dropped for e in within)
