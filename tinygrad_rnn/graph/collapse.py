"""A gradient graph seen from further away: one node per gate, or per time step.

After this file the reader knows why such a view may not add up norms: what flows back along a collapsed edge is the sum
of arrays, which can cancel, and its norm is taken after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

from ..arguments import whole
from ..norms import State
from .contributions import Contribution, summed
from .parts import Edge, Graph, Level, Node, grouped
from .steps import Rows, layer_of, loops_of, rows_of

G = TypeVar("G", bound=Graph)


@dataclass
class _Group:
    """Nodes that become one, and the scope they have in common; None for a lone node outside every group."""

    scope: str | None
    members: list[Node] = field(default_factory=list)


def collapse(graph: G, level: Level) -> G:
    """Put all nodes of one gate, or of one time step, into one node.

    There is one edge for each tensor and each group that uses it: its contribution is the sum of that tensor's
    contributions into the group, and `Edge.tensor` is the tensor, so that h and c stay two edges. Edges inside a group
    are kept and marked `internal`. So the contributions of each tensor still sum to its gradient. A group's ``value``
    and ``gradient`` are those of its last tensor that is used outside. At levels "gate" and "step" what follows the
    last step becomes one node with the loss. The graph is not changed; a collapsed one is collapsed anew from its
    `origin`.

    Parameters
    ----------
    graph : Graph
    level : {"op", "gate", "step"} or int
        "op" gives the graph back as it is; "step" collapses each time step (or, outside of all, each outermost scope),
        "gate" the scopes one deeper (``t=3/forget``), a number those of that depth. In a stack every layer has steps
        and gates of its own: ``t=3/layer 0/forget`` then belongs to ``layer 0/t=3``.

    Returns
    -------
    Graph
        Of the same class.

    Raises
    ------
    ValueError
        Unknown level.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> with tg.scope("t=1"):
    ...     x = tg.Tensor(3.0, requires_grad=True, name="x")
    ...     y = x * x + x
    >>> [(e.norm, e.internal) for e in tg.gradient_graph(y * y).collapse("step").edges if e.tensor.name == "x"]
    [(168.0, True)]
    """
    if not (isinstance(level, str) and level in ("op", "gate", "step")):
        level = whole("level", level, 1, or_else=', a depth of scopes; or "op", "gate" or "step"')
    if level == "op":
        return graph
    graph = cast(G, graph.origin or graph)
    groups = _groups(graph, level)
    # A group is as old as its newest member, whose value leaves it.
    ordered = sorted(groups.values(), key=lambda group: group.members[-1].id)
    home = {member.id: rank for rank, group in enumerate(ordered) for member in group.members}
    used_outside = {edge.source for edge in graph.edges if home[edge.source] != home[edge.target]}
    # A step is named after all states that some step hands on; the last one has them too, if no one to hand them to.
    states = {node.name for node in graph.nodes if node.id in used_outside}
    nodes = tuple(_node(rank, group, used_outside, states) for rank, group in enumerate(ordered))
    by_tensor = {serial: nodes[home[node.id]] for serial, node in graph.by_tensor.items()}
    return replace(graph, nodes=nodes, edges=_edges(graph, home, ordered), by_tensor=by_tensor, origin=graph)


def _groups(graph: Graph, level: Level) -> dict[object, _Group]:
    groups: dict[object, _Group] = {}
    tail = _tail(graph) if level in ("gate", "step") else set()
    rows = rows_of(graph) if level in ("gate", "step") else None
    loops = {} if rows is not None else {id: loop for id, (loop, _) in loops_of(graph.nodes, graph.edges).items()}
    for edge in reversed(graph.edges):  # what is given to a step goes with what uses it first
        if graph.nodes[edge.source].op is None and edge.target in loops:
            loops[edge.source] = loops[edge.target]
    for node in graph.nodes:
        scope = _scope(node, level, rows)
        if scope is not None:
            row = rows.of[node.id] if rows is not None and node.step else loops.get(node.id, 0)
            group = groups.setdefault((scope, row), _Group(scope))
        elif node.id in tail:
            group = groups.setdefault("", _Group("" if len(tail) > 1 else None))
        else:
            group = groups.setdefault(node.id, _Group(None))
        group.members.append(node)
    return groups


def _scope(node: Node, level: Level, rows: Rows | None) -> str | None:
    """The scope whose group a node joins; None if it stays alone. Each layer of a stack has steps of its own."""
    if not node.scope or level == "op":
        return None
    parts = node.scope.split("/")
    if rows is not None and node.step and level in ("gate", "step"):
        layer = rows.names[rows.of[node.id]]
        if layer:  # as if the layer were around the steps
            inside = parts[parts.index(node.step) + 1 :] if layer_of(node) == layer else [layer]
            parts = [layer, node.step, *inside[1:]]
        elif level == "step":
            return None  # what stands between layers stays as it is
    outermost = parts.index(node.step) + 1 if node.step else 1
    depth = outermost if level == "step" else outermost + 1 if level == "gate" else level
    return "/".join(parts[:depth]) if len(parts) >= depth else None


def _tail(graph: Graph) -> set[int]:
    """The loss and what leads to it from the last scope: operations outside of all scopes, and data only they use."""
    made, uses = {edge.target for edge in graph.edges}, grouped(graph.edges, "source")
    tail: set[int] = set()
    for node in reversed(graph.nodes):
        ends = node.kind == "loss" or (node.id in uses and all(edge.target in tail for edge in uses[node.id]))
        leaf_with_gradient = node.id not in made and node.gradient is not None
        if not node.scope and ends and not leaf_with_gradient:
            tail.add(node.id)
    return tail


def _node(rank: int, group: _Group, used_outside: set[int], states: set[str | None]) -> Node:
    last = group.members[-1]
    if group.scope is None:
        return replace(last, id=rank)
    exits = [member for member in group.members if member.id in used_outside] or [last]
    main = last if last.kind == "loss" else exits[-1]
    names = dict.fromkeys(m.name for m in group.members if m.name in states and m.kind != "input")
    return replace(
        main,
        id=rank,
        name=last.name if last.kind == "loss" else ", ".join(filter(None, names)) or None,
        kind="loss" if last.kind == "loss" else "op",
        scope=group.scope,
        members=tuple(group.members),
    )


def _edges(graph: Graph, home: dict[int, int], ordered: list[_Group]) -> tuple[Edge, ...]:
    """One edge per tensor and consuming group; the edges into a node that is no group stay as they are."""
    merged: dict[tuple[int, int, int], list[Edge]] = {}
    real = [group.scope is not None for group in ordered]
    for edge in graph.edges:
        target = home[edge.target]
        merged.setdefault((target, edge.source, 0 if real[target] else edge.operand), []).append(edge)
    found: list[Edge] = []
    count = [0] * len(ordered)
    for (target, source, operand), edges in sorted(merged.items(), key=lambda item: (item[0][0], item[1][0].target)):
        carried, state = total(edges)
        found.append(
            Edge(
                source=home[source],
                target=target,
                operand=count[target] if real[target] else operand,
                carried=carried,
                state=state,
                formula=edges[0].formula if len(edges) == 1 else f"sum over {len(edges)} uses",
                tensor=graph.nodes[source],
                internal=home[source] == target,
            )
        )
        count[target] += 1
    return tuple(sorted(found, key=lambda edge: (edge.target, edge.operand)))


def total(edges: Sequence[Edge]) -> tuple[Contribution | None, State]:
    """The contribution of several uses of one tensor together, and what its number means."""
    parts = [edge.carried for edge in edges if edge.carried is not None]
    if not parts:
        return None, "none"
    if len(edges) == 1:
        return parts[0], edges[0].state
    together = summed(parts)
    return together, together.state(any(edge.state == "underflow" for edge in edges))
