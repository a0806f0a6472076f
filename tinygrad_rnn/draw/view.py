"""What of a graph is drawn: at which level, which time steps in full, and whether parameters and constants are shown.

After this file the reader knows how ``draw(loss)`` chooses. Nothing here changes a number: what is left out of a
picture stays in the graph, and what is put together is summed by `collapse`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, get_args

import numpy as np

from ..arguments import flag, one_of, whole
from ..graph.collapse import Run, collapse
from ..graph.contributions import Slice, Whole
from ..graph.model import GradientGraph
from ..graph.parts import Edge, Level, Node, grouped
from ..graph.steps import is_folded, steps_of
from ..norms import state_of
from .style import MAX_PLAIN

ALL_STEPS = 8
"""Up to this many time steps are drawn in full by default, more are folded and drawn at level "step"."""

OP_NODES, GATE_NODES = 12, 40
"""A time step of at most so many boxes is drawn at level "op" by default, at level "gate" (else at level "step")."""

MAX_EDGES = 50_000
"""More are refused: no viewer opens such a picture."""

SIDE_BY_SIDE = "tensors side by side"
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
            whole("fold", self.fold, or_else=', "auto" or None')

    def of(self, graphs: Iterable[GradientGraph]) -> list[GradientGraph]:
        """The graphs as they are drawn: all at one level, the coarsest that one of them asks for."""
        graphs = list(graphs)
        if self.level != "auto":
            return [self._one(graph, self.level) for graph in graphs]
        level = max((level_for(graph) for graph in graphs), key=_COARSER.index)
        return [self._one(graph, level) for graph in graphs]

    def _one(self, graph: GradientGraph, level: Level) -> GradientGraph:
        folded = folds(steps_of(graph), self.fold, self.steps) if graph.origin is None else []
        seen = collapse(graph, level, folded)
        dropped = _dropped(graph.origin or graph)
        out = [_shared(edge, seen) or _is_dropped(edge, seen, dropped) for edge in seen.edges]
        if any(out):
            pairs = zip(seen.edges, out, strict=True)
            seen = replace(seen, edges=tuple(replace(e, internal=True) if gone else e for e, gone in pairs))
        if folded:
            seen = _bundle(seen)
        hidden = _beside_steps(seen) if level == "step" else set()
        for edge in seen.edges:
            source = seen.nodes[edge.source]
            unnamed = source.kind == "constant" and not source.name
            if (unnamed and not self.constants) or (source.kind == "parameter" and self.parameters == "none"):
                hidden.add(source.id)
        if not hidden:
            return seen
        edges = tuple(replace(e, internal=True) if e.source in hidden else e for e in seen.edges)
        return replace(seen, edges=edges)


def level_for(graph: GradientGraph) -> Level:
    """The finest level at which each time step is a small picture, and the whole graph no large one."""
    if graph.origin is not None:
        return "op"
    steps = len(steps_of(graph))
    if steps > ALL_STEPS:
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


def folds(numbers: Sequence[int], fold: int | str | None, steps: Sequence[int] | None) -> list[Run]:
    """Which runs of time steps are folded, so that only `steps`, or `fold` steps at each end, are drawn in full."""
    if steps is not None:
        unknown = sorted(set(steps) - set(numbers))
        if unknown:
            there = f"{numbers[0]} to {numbers[-1]}" if numbers else "none"
            raise ValueError(f"steps {unknown} are not in the graph, which has {there}")
        kept = set(steps)
    else:
        ends = (3 if len(numbers) > ALL_STEPS else None) if fold == "auto" else fold
        if ends is None or len(numbers) <= 2 * int(ends):
            return []
        kept = {*numbers[: int(ends)], *numbers[len(numbers) - int(ends) :]}
    between = [list(run) for shown, run in groupby(numbers, kept.__contains__) if not shown]
    return [(run[0], run[-1]) for run in between]


def _beside_steps(graph: GradientGraph) -> set[int]:
    """Of whole steps, only what runs between them is drawn, and the initial state: leaves are left out."""
    if not any(node.step and node.members for node in graph.nodes):
        return set()
    made = {edge.target for edge in graph.edges}
    uses = Counter(edge.source for edge in graph.edges)

    def initial(node: Node) -> bool:
        return (node.name or "")[:1] in ("h", "c") and uses[node.id] == 1

    sources = {edge.source for edge in graph.edges}
    return {n.id for n in graph.nodes if n.id in sources - made and not n.members and not initial(n)}


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
        along_first = node.shape == (len(edges), *graph.nodes[edges[0].source].shape)
        if along_first and slices and all(isinstance(part, Slice) for part in slices):
            kept: set[int] = set()
            for part in slices:
                assert isinstance(part, Slice)
                kept.update(np.ravel(np.arange(len(edges))[_first(part.index)]).tolist())
            found |= {(edge.source, id) for edge in edges if edge.operand not in kept and edge.state == "zero"}
    return found


def _first(index: Any) -> Any:
    """What an index says about the first axis."""
    first = index[0] if isinstance(index, tuple) and index else index
    return first if isinstance(first, (int, np.integer, slice)) else slice(None)


def _is_dropped(edge: Edge, graph: GradientGraph, dropped: set[tuple[int, int]]) -> bool:
    if edge.tensor is None:
        return (edge.source, edge.target) in dropped
    target = graph.nodes[edge.target]
    inside = {member.id for member in target.members or (target,)}
    uses = [e for e in (graph.origin or graph).edges_from(edge.tensor) if e.target in inside] if dropped else []
    return bool(uses) and all((e.source, e.target) in dropped for e in uses)


def _bundle(graph: GradientGraph) -> GradientGraph:
    """Draw all that folded steps send to one place outside of time, or to another row, as one edge.

    Its contribution is the tensors side by side, as one vector.
    """
    bundles: dict[tuple[int, int], list[Edge]] = {}
    for edge in graph.edges:
        source, target = graph.nodes[edge.source], graph.nodes[edge.target]
        if not edge.internal and is_folded(source) and target.step in (None, source.step):
            bundles.setdefault((edge.source, edge.target), []).append(edge)
    large = {key: edges for key, edges in bundles.items() if len(edges) > 1}
    if not large:
        return graph
    kept = [edge for edge in graph.edges if edge.internal or (edge.source, edge.target) not in large]
    kept += [_together(edges) for edges in large.values()]
    return replace(graph, edges=tuple(sorted(kept, key=lambda edge: (edge.target, edge.operand))))


def _together(edges: Sequence[Edge]) -> Edge:
    parts = [edge.carried.array().ravel() for edge in edges if edge.carried is not None]
    formula = f"{len(edges)} {SIDE_BY_SIDE}"
    if not parts:
        return replace(edges[0], formula=formula, tensor=None)
    array = np.concatenate(parts)
    state = state_of(array, any(edge.state == "underflow" for edge in edges))
    return replace(edges[0], carried=Whole(array), state=state, formula=formula, tensor=None)
