"""Time in a gradient graph: which time steps there are, what each hands on to the next, and in which layers.

After this file the reader knows that a state is found by its use, not by its name: it is what one step makes and the
next one consumes. So a cell of one's own is folded and charted like the built-in ones, and a layer is any scope within
the time steps that hands its states on to itself alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from .parts import Edge, Graph, Node
from .remembered import remembered


def step_number(step: str) -> int | None:
    """The k of ``t=k``; None if that is no number."""
    digits = step[2:]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


@remembered
def steps_of(graph: Graph) -> Sequence[int]:
    """The numbers of the time steps, in order; none if some step is not numbered."""
    numbers = {step_number(step) for step in {node.step for node in graph.nodes if node.step}}
    return () if None in numbers else tuple(sorted(number for number in numbers if number is not None))


def layer_of(node: Node) -> str:
    """The outermost scope of a node besides its time step: ``layer 0`` of ``t=3/layer 0/forget``."""
    return next((part for part in node.scope.split("/") if not part.startswith("t=")), "")


def before_step(node: Node) -> str:
    """The scope around a node's time step: ``decoder`` of ``decoder/t=3``."""
    parts = node.scope.split("/")
    return "/".join(parts[: parts.index(node.step)]) if node.step else ""


@dataclass(frozen=True)
class Rows:
    """The layers of a stack, as rows from below.

    `names` are their scopes, "" for what stands between layers; `backwards` tells which run from the last step to the
    first; `of` gives the row of every node that lies in a time step.
    """

    names: tuple[str, ...]
    backwards: tuple[bool, ...]
    of: Mapping[int, int]


@remembered
def rows_of(graph: Graph) -> Rows | None:
    """The rows of a graph; None if its time steps are not made of several layers, or of one that runs backwards.

    A scope within the steps is a layer if it alone receives the states that it hands on, all in one direction of time.
    A row is as high as the longest way to it: both directions of a layer lie below what joins them.
    """
    order = {number: k for k, number in enumerate(steps_of(graph))}
    place = {n.id: order[step_number(n.step) or 0] for n in graph.nodes if order and n.step}
    ways: dict[str, set[bool]] = {}
    for edge in graph.edges:
        if edge.source in place and edge.target in place and place[edge.source] != place[edge.target]:
            layer = layer_of(graph.nodes[edge.source])
            if not layer or layer != layer_of(graph.nodes[edge.target]):
                return None
            ways.setdefault(layer, set()).add(place[edge.target] < place[edge.source])
    if any(len(way) > 1 for way in ways.values()) or (len(ways) < 2 and {True} not in ways.values()):
        return None
    ranks = _ranks(graph, place, set(ways))
    if ranks is None:
        return None
    first: dict[tuple[float, str], int] = {}
    for id, key in ranks.items():
        first.setdefault(key, id)
    rows = sorted(first, key=lambda key: (key[0], first[key]))
    of = {id: rows.index(key) for id, key in ranks.items()}
    for edge in reversed(graph.edges):  # what is given to the steps goes with what uses it first
        if edge.source in place and edge.source not in ranks and edge.target in ranks:
            of[edge.source] = min(of[edge.target], of.get(edge.source, len(rows)))
    names = tuple(layer for _, layer in rows)
    return Rows(names, tuple(ways.get(name) == {True} for name in names), of)


def _ranks(graph: Graph, place: Mapping[int, int], layers: set[str]) -> dict[int, tuple[float, str]] | None:
    """Rank and layer of every operation in the steps: a layer's rank is whole, between them lie halves."""
    made = {edge.target for edge in graph.edges}
    key: dict[int, int | str] = {
        id: layer if (layer := layer_of(graph.nodes[id])) in layers else id for id in place if id in made
    }
    before: dict[int | str, set[int | str]] = {k: set() for k in key.values()}
    for edge in graph.edges:
        if edge.source in key and edge.target in key and key[edge.source] != key[edge.target]:
            before[key[edge.target]].add(key[edge.source])
    ranks: dict[int | str, float] = {}
    try:
        for k in TopologicalSorter(before).static_order():
            highest = max((ranks[s] for s in before[k]), default=-1.0)
            ranks[k] = highest // 1 + (1.0 if isinstance(k, str) else 0.5)
    except CycleError:
        return None
    return {id: (ranks[k], k if isinstance(k, str) else "") for id, k in key.items()}


def loops_of(nodes: Iterable[Node], edges: Iterable[Edge]) -> dict[int, tuple[int, int]]:
    """(which loop over the time steps, row in it) of each operation in a step; nodes are given oldest first.

    A loop begins where another scope surrounds it, or time begins again. One that takes things from another at equal
    steps alone is no later one: it stands above it, in the same loop.
    """
    latest: dict[str, tuple[int, int]] = {}
    count, found, numbers = 0, dict[int, int](), dict[int, int]()
    for node in nodes:
        number = step_number(node.step) if node.step and node.op else None
        if number is None:
            continue
        around = before_step(node)
        run, before = latest.get(around, (-1, 0))
        if run < 0 or number < before:
            run, count = count, count + 1
        latest[around] = run, number
        found[node.id], numbers[node.id] = run, number
    equal: dict[tuple[int, int], set[int]] = {}
    ahead: set[tuple[int, int]] = set()
    for edge in edges:
        if edge.source in found and edge.target in found and found[edge.source] != found[edge.target]:
            pair = found[edge.source], found[edge.target]
            if numbers[edge.source] == numbers[edge.target]:
                equal.setdefault(pair, set()).add(numbers[edge.source])
            elif numbers[edge.source] > numbers[edge.target]:
                ahead.add(pair)
    homes: dict[int, tuple[int, int]] = {}
    for run in range(count):
        below = [a for (a, b), at in equal.items() if b == run and a in homes and len(at) > 1 and (a, b) not in ahead]
        after = 1 + max((loop for loop, _ in homes.values()), default=-1)
        loop, row = max((homes[a] for a in below), default=(after, -1))
        homes[run] = loop, row + 1
    return {id: homes[run] for id, run in found.items()}


@remembered
def states(graph: Graph) -> Mapping[str, Mapping[int, Node]]:
    """What each time step hands on to the next: by name, the tensor of every step.

    Parameters
    ----------
    graph : Graph
        A collapsed one is looked at as it was before.

    Returns
    -------
    dict
        ``{"h": {1: node, 2: node, ...}, "c": {...}}``, h first; only tensors with a gradient. Where there are several
        layers, or sequences of steps, the name tells which: ``h layer 0 reverse``, ``h decoder``, ``h run 2`` (a second
        one in the same scope). The steps of each come in the order in which it ran: for a reverse direction, the last
        one first. A state without a name is called after its operation and its place in the step: ``tanh#3``.
    """
    graph = graph.origin or graph
    order = {number: k for k, number in enumerate(steps_of(graph))}
    rows = rows_of(graph)
    loops = loops_of(graph.nodes, graph.edges) if rows is None else {}
    outer: dict[tuple[str, int], str] = {}  # the loops: each is called by the scope around it, and which run it is
    for id, (loop, _) in loops.items():
        around = before_step(graph.nodes[id])
        again = sum(scope == around for scope, _ in outer) + 1
        outer.setdefault((around, loop), around if again == 1 else f"{around} run {again}".strip())
    keys: dict[int, tuple[str, str, int]] = {}
    counts: Counter[tuple[int, str]] = Counter()
    for node in graph.nodes:
        number = step_number(node.step) if node.step else None
        if node.op is not None and number in order:
            own = outer[before_step(node), loops[node.id][0]] if len(outer) > 1 else ""
            layer = own if rows is None else layer_of(node)
            counts[number, layer] += 1
            keys[node.id] = layer, node.name or f"{node.op}#{counts[number, layer]}", number
    backwards = dict(zip(rows.names, rows.backwards, strict=True)) if rows is not None else {}
    lanes: dict[tuple[str, str], dict[int, Node]] = {}
    for edge in graph.edges:
        if edge.source in keys and edge.target in keys:
            (layer, name, made), (*_, used) = keys[edge.source], keys[edge.target]
            if order[used] - order[made] == (-1 if backwards.get(layer) else 1):
                lanes.setdefault((layer, name), {})
    for node in graph.nodes:
        if node.id in keys and keys[node.id][:2] in lanes and node.gradient is not None:
            lanes[keys[node.id][:2]][keys[node.id][2]] = node
    # From below, and in each layer h before the others.
    heights = {name: rank for rank, name in enumerate(rows.names if rows is not None else outer.values())}
    ordered = sorted(lanes, key=lambda key: (heights.get(key[0], 0), key[1] != "h", key[1]))
    return {f"{name} {layer}".strip(): lanes[layer, name] for layer, name in ordered if lanes[layer, name]}
