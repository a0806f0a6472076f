"""A gradient graph seen from further away: one node per gate, or per time step.

After this file the reader knows why such a view may not add up norms: what flows back along a collapsed edge is the sum
of arrays, which can cancel, and its norm is taken after.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from .model import Array, Edge, GradientGraph, Node, State

Level = Literal["op", "gate", "step"]
DEPTH = {"gate": 2, "step": 1}


@dataclass
class _Group:
    """Nodes that become one; a lone node outside every group is not `real`."""

    real: bool
    members: list[Node] = field(default_factory=list)


def collapse(graph: GradientGraph, level: Level) -> GradientGraph:
    """Put all nodes of one gate, or one time step, into one node.

    There is one edge for each tensor and each group that uses it: its contribution is the sum of that tensor's
    contributions into the group, and `Edge.tensor` is the tensor, so that h and c stay two edges. Edges inside a group
    are kept and marked `internal`. So the contributions of each tensor still sum to its gradient. A group's ``value``
    and ``gradient`` are those of its last tensor that is used outside. At level "step" what follows the last step
    becomes one node with the loss.

    Parameters
    ----------
    graph : GradientGraph
    level : {"op", "gate", "step"}
        "op" gives the graph back; "gate" collapses scopes of depth 2 (``t=3/forget``), "step" those of depth 1.

    Returns
    -------
    GradientGraph

    Raises
    ------
    ValueError
        Unknown level.
    """
    if level == "op":
        return graph
    if level not in DEPTH:
        raise ValueError(f'level must be "op", "gate" or "step", not {level!r}')
    groups = _groups(graph, DEPTH[level], level == "step")
    # A group is as old as its newest member, whose value leaves it.
    ordered = sorted(groups.values(), key=lambda group: group.members[-1].id)
    home = {member.id: rank for rank, group in enumerate(ordered) for member in group.members}
    used_outside = {edge.source for edge in graph.edges if home[edge.source] != home[edge.target]}
    # A step is named after all states that some step hands on; the last one has them too, if no one to hand them to.
    states = {node.name for node in graph.nodes if node.id in used_outside and node.name}
    nodes = tuple(_node(rank, group, used_outside, states, DEPTH[level]) for rank, group in enumerate(ordered))
    by_tensor = {serial: nodes[home[node.id]] for serial, node in graph.by_tensor.items()}
    return GradientGraph(nodes, _edges(graph, home, ordered), by_tensor)


def _groups(graph: GradientGraph, depth: int, with_loss: bool) -> dict[object, _Group]:
    groups: dict[object, _Group] = {}
    tail = _tail(graph) if with_loss else set()
    for node in graph.nodes:
        parts = node.scope.split("/") if node.scope else []
        if len(parts) >= depth:
            group = groups.setdefault("/".join(parts[:depth]), _Group(True))
        elif node.id in tail:
            group = groups.setdefault("", _Group(len(tail) > 1))
        else:
            group = groups.setdefault(node.id, _Group(False))
        group.members.append(node)
    return groups


def _tail(graph: GradientGraph) -> set[int]:
    """The loss and what leads to it from the last scope: operations outside of all scopes, and data only they use."""
    into: dict[int, list[int]] = {}
    uses: dict[int, list[int]] = {}
    for edge in graph.edges:
        into.setdefault(edge.target, []).append(edge.source)
        uses.setdefault(edge.source, []).append(edge.target)
    tail: set[int] = set()
    for node in reversed(graph.nodes):
        ends = node.kind == "loss" or (node.id in uses and all(user in tail for user in uses[node.id]))
        leaf_with_gradient = node.id not in into and node.gradient is not None
        if not node.scope and ends and not leaf_with_gradient:
            tail.add(node.id)
    return tail


def _node(rank: int, group: _Group, used_outside: set[int], states: set[str], depth: int) -> Node:
    last = group.members[-1]
    if not group.real:
        return replace(last, id=rank)
    exits = [member for member in group.members if member.id in used_outside] or [last]
    main = last if last.kind == "loss" else exits[-1]
    names = dict.fromkeys(m.name for m in group.members if m.name in states and m.kind != "input")
    return replace(
        main,
        id=rank,
        name=last.name if last.kind == "loss" else ", ".join(filter(None, names)) or None,
        kind="loss" if last.kind == "loss" else "op",
        scope="/".join(main.scope.split("/")[:depth]),
        members=tuple(group.members),
    )


def _edges(graph: GradientGraph, home: dict[int, int], ordered: list[_Group]) -> tuple[Edge, ...]:
    """One edge per tensor and consuming group; the edges into a node that is no group stay as they are."""
    merged: dict[tuple[int, int, int], list[Edge]] = {}
    for edge in graph.edges:
        target = home[edge.target]
        operand = 0 if ordered[target].real else edge.operand
        merged.setdefault((target, edge.source, operand), []).append(edge)
    found: list[Edge] = []
    count = dict.fromkeys(range(len(ordered)), 0)
    for (target, source, operand), edges in sorted(merged.items(), key=lambda item: (item[0][0], item[1][0].target)):
        contribution, state = _sum(edges)
        found.append(
            Edge(
                source=home[source],
                target=target,
                operand=count[target] if ordered[target].real else operand,
                contribution=contribution,
                state=state,
                formula=edges[0].formula if len(edges) == 1 else f"sum over {len(edges)} uses",
                tensor=graph.nodes[source],
                internal=home[source] == target,
            )
        )
        count[target] += 1
    return tuple(sorted(found, key=lambda edge: (edge.target, edge.operand)))


def _sum(edges: list[Edge]) -> tuple[Array | None, State]:
    """The contribution of several uses of one tensor together, and what its number means."""
    parts = [edge.contribution for edge in edges if edge.contribution is not None]
    if not parts:
        return None, "none"
    if len(edges) == 1:
        return parts[0], edges[0].state
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.sum(parts, axis=0, dtype=parts[0].dtype)
    largest = float(np.max(np.abs(total), initial=0.0))
    if np.isnan(largest):
        return total, "nan"
    if np.isinf(largest):
        return total, "inf"
    if largest == 0.0:
        return total, "underflow" if any(edge.state == "underflow" for edge in edges) else "zero"
    return total, "underflow" if largest < np.finfo(total.dtype).tiny else "finite"
