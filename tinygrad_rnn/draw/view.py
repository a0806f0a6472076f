"""What of a graph is drawn: at which level, which time steps in full, and whether parameters and constants are shown.

After this file the reader knows how ``draw(loss)`` chooses. Nothing here changes a number: what is left out of a
picture stays in the graph, and what is put together is summed by `collapse`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..graph.collapse import Run, collapse, state_of
from ..graph.model import Edge, GradientGraph, Level, Node
from ..graph.steps import is_folded, steps_of
from .style import MAX_PLAIN

ALL_STEPS = 8
"""Up to this many time steps are drawn in full by default, more are folded and drawn at level "step"."""

OP_NODES, GATE_NODES = 12, 40
"""A time step of at most so many boxes is drawn at level "op" by default, at level "gate" (else at level "step")."""

MAX_EDGES = 50_000
"""More are refused: no viewer opens such a picture."""

SIDE_BY_SIDE = "tensors side by side"
Parameters = Literal["step", "once", "none"]
_COARSER: tuple[Level, ...] = ("op", "gate", "step")


@dataclass(frozen=True)
class View:
    """What the caller chose to see; see `draw`."""

    level: Level | Literal["auto"] = "auto"
    fold: int | Literal["auto"] | None = "auto"
    steps: tuple[int, ...] | None = None
    parameters: Parameters = "step"
    constants: bool = True

    def __post_init__(self) -> None:
        if self.parameters not in ("step", "once", "none"):
            raise ValueError(f'parameters must be "step", "once" or "none", not {self.parameters!r}')
        whole = isinstance(self.fold, int) and not isinstance(self.fold, bool) and self.fold >= 0
        if self.fold is not None and self.fold != "auto" and not whole:
            raise ValueError(f'fold must be a number of steps, "auto" or None, not {self.fold!r}')

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
        if any(_shared(edge, seen) for edge in seen.edges):
            seen = replace(seen, edges=tuple(replace(e, internal=True) if _shared(e, seen) else e for e in seen.edges))
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
    limits: tuple[tuple[Level, int], ...] = (("op", OP_NODES), ("gate", GATE_NODES))
    for level, limit in limits:
        seen = collapse(graph, level)
        if (_largest_step(seen) <= limit) if steps else (len(seen.edges) <= MAX_PLAIN):
            return level
    return "step"


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
    runs: list[Run] = []
    open_run = False
    for number in numbers:
        if number in kept:
            open_run = False
        elif open_run:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
            open_run = True
    return runs


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
    parts = [edge.contribution.ravel() for edge in edges if edge.contribution is not None]
    formula = f"{len(edges)} {SIDE_BY_SIDE}"
    if not parts:
        return replace(edges[0], formula=formula, tensor=None)
    array = np.concatenate(parts)
    state = state_of(array, any(edge.state == "underflow" for edge in edges))
    return replace(edges[0], contribution=array, state=state, formula=formula, tensor=None)
