"""A graph cut into cells: what comes before the first time step, one cell per step, what comes after the last.

After this file the reader knows when two time steps are drawn alike: when their operations, names and connections are
the same, each cell counted from its own first node. It also knows which graphs cannot be cut, and are drawn as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from ..graph.model import Edge, GradientGraph, Node
from ..graph.steps import step_number
from .style import Look, look, undated
from .template import Out, Plan


@dataclass
class Tile:
    """One cell with its nodes in local order: `inner`, `arrivals` as in `Plan`; `rails` come from an earlier cell.

    An edge is kept with the local number of its target.
    """

    step: str | None
    nodes: list[Node] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    leaves: set[int] = field(default_factory=set)
    local: dict[int, int] = field(default_factory=dict)
    inner: list[tuple[Edge, int, int]] = field(default_factory=list)
    arrivals: list[tuple[Edge, int, int]] = field(default_factory=list)
    rails: list[tuple[Edge, int]] = field(default_factory=list)
    outs: list[Out] = field(default_factory=list)
    exits: list[Out] = field(default_factory=list)
    ports: dict[tuple[int, int], int] = field(default_factory=dict)


def shown(graph: GradientGraph, also: Collection[int] | None = None) -> list[Node]:
    """The nodes that are drawn: those that a drawn edge touches, the loss, and `also` these."""
    touched = {end for edge in graph.edges if not edge.internal for end in (edge.source, edge.target)}.union(also or ())
    everything = not graph.edges and also is None
    return [node for node in graph.nodes if node.id in touched or node.kind == "loss" or everything]


def tensor_rank(edge: Edge, nodes: tuple[Node, ...]) -> int:
    """Which of the source's tensors flows along this edge: 0, unless the graph was collapsed.

    States come first, in the order in which the box names them, so that all steps hand them on at the same height
    whatever else they compute; then the others, counted within the tensor's time step, so that folded steps hand on the
    same tensors as a single one.
    """
    members, states = nodes[edge.source].members, (nodes[edge.source].name or "").split(", ")
    if edge.tensor is None or not members:
        return 0
    step = edge.tensor.step
    same = [member for member in members if member.step == step] if members[0].step != members[-1].step else members
    place = next((k for k, member in enumerate(same) if member is edge.tensor), 0)
    named = edge.tensor.name in states and all(member.name != edge.tensor.name for member in same[place + 1 :])
    rank = states.index(edge.tensor.name or "") if named else len(states) + place
    return rank if members[-1].step == step else len(members) + members.index(edge.tensor)


def apart(graph: GradientGraph, backwards: bool = False) -> tuple[GradientGraph, list[Edge]]:
    """The graph without the parameters that would be drawn in a time step, or in several cells; and their edges."""
    zones = _zones(graph, backwards)
    if zones is None:
        return graph, []
    drawn = [edge for edge in graph.edges if not edge.internal]
    ends = 0, max([0, *(zones[node.id] for node in graph.nodes if node.step)]) + 1
    chosen = {
        source
        for source, cells in _copies(graph, drawn, zones).items()
        if graph.nodes[source].kind == "parameter" and (len(cells) > 1 or not cells <= set(ends))
    }
    hidden = tuple(replace(e, internal=True) if e.source in chosen else e for e in graph.edges)
    return replace(graph, edges=hidden), [edge for edge in drawn if edge.source in chosen]


def cut(graph: GradientGraph, backwards: bool = False, also: Collection[int] | None = None) -> list[Tile] | None:
    """The cells of an unrolled graph, in the order of time; None if time does not order it (or it has no steps).

    A leaf from outside the steps is drawn in every cell that uses it. A layer that runs `backwards` begins with the
    last step. Nodes that no drawn edge touches are left out, but for the loss and `also`.
    """
    zones = _zones(graph, backwards)
    if zones is None:
        return None
    steps = {node.step for node in graph.nodes if node.step}
    names = sorted(steps, key=lambda step: step_number(step) or 0, reverse=backwards)
    tiles = [Tile(None), *(Tile(step) for step in names), Tile(None)]
    drawn = [edge for edge in graph.edges if not edge.internal]
    operands: dict[int, int] = {}
    for edge in drawn:
        operands[edge.target] = operands.get(edge.target, 0) + 1
    uses = _copies(graph, drawn, zones)
    for node in shown(graph, also):
        for zone in sorted(uses.get(node.id, {zones[node.id]})):
            tile = tiles[zone]
            tile.local[node.id] = len(tile.nodes)
            tile.nodes.append(node)
            tile.looks.append(look(node, operands.get(node.id, 0)))
    if not _connect(graph, drawn, tiles, zones, uses):
        return None
    return tiles


def _zones(graph: GradientGraph, backwards: bool = False) -> dict[int, int] | None:
    """Number of the cell of every node: 0 before the steps, 1 .. T, T + 1 after; None if there is no such order."""
    steps = {node.step for node in graph.nodes if node.step}
    if not steps or any(step_number(step) is None for step in steps):
        return None
    ordered = sorted(steps, key=lambda step: step_number(step) or 0, reverse=backwards)
    order = {step: k for k, step in enumerate(ordered, 1)}
    if len({step_number(step) for step in steps}) < len(steps):
        return None
    last = len(order) + 1
    into: dict[int, list[int]] = {}
    for edge in graph.edges:
        if not edge.internal:
            into.setdefault(edge.target, []).append(edge.source)
    # Only what follows from a step can stand after the steps, only what leads to one before them.
    after: set[int] = set()
    before: set[int] = set()
    for node in graph.nodes:
        if any(s in after or graph.nodes[s].step for s in into.get(node.id, ())):
            after.add(node.id)
    for node in reversed(graph.nodes):
        if node.step or node.id in before:
            before.update(into.get(node.id, ()))
    zones = {}
    for node in graph.nodes:
        if node.step:
            zones[node.id] = order[node.step]
        elif node.id in after and node.id in before:
            return None
        else:
            zones[node.id] = 0 if node.id in before else last
    return zones


def _copies(graph: GradientGraph, drawn: list[Edge], zones: Mapping[int, int]) -> dict[int, set[int]]:
    """In which cells each leaf from outside the steps is drawn: one array, but one box per step that uses it.

    An initial state keeps its one place before the first step: it is used by that step alone, in the very operand
    that later steps fill with something of the step before.
    """
    made = {edge.target for edge in graph.edges}
    slots = _state_slots(graph, drawn, zones)
    found: dict[int, set[int]] = {}
    first_number = _numbering(graph, zones)
    for edge in drawn:
        source = graph.nodes[edge.source]
        if source.id in made or source.step:
            continue
        zone = zones[edge.target]
        initial = zone == 1 and (first_number[edge.target], edge.operand) in slots
        if source.members:  # a collapsed box has no copies
            initial = zone <= 1
        found.setdefault(source.id, set()).add(0 if initial else zone)
    return found


def _numbering(graph: GradientGraph, zones: Mapping[int, int]) -> dict[int, int]:
    """Each operation's number within its cell."""
    made = {edge.target for edge in graph.edges}
    counts: dict[int, int] = {}
    numbers = {}
    for node in graph.nodes:
        if node.id in made:
            numbers[node.id] = counts.get(zones[node.id], 0)
            counts[zones[node.id]] = numbers[node.id] + 1
    return numbers


def _state_slots(graph: GradientGraph, drawn: list[Edge], zones: Mapping[int, int]) -> set[tuple[int, int]]:
    """(number of the operation, operand) of what the second step receives from the first.

    With one step only, everything that is not a parameter and is named like a state counts.
    """
    numbers = _numbering(graph, zones)
    if any(node.step and zones[node.id] == 2 for node in graph.nodes):
        return {(numbers[e.target], e.operand) for e in drawn if zones[e.target] == 2 and zones[e.source] == 1}
    return {
        (numbers[e.target], e.operand)
        for e in drawn
        if zones[e.target] == 1
        and graph.nodes[e.source].kind != "parameter"
        and (graph.nodes[e.source].name or "")[:1] in ("h", "c")
    }


def _connect(
    graph: GradientGraph, drawn: list[Edge], tiles: list[Tile], zones: Mapping[int, int], uses: Mapping[int, set[int]]
) -> bool:
    """Sort the edges into inner ones, those between neighbours and those that skip; False if one runs backwards."""
    made = {edge.target for edge in drawn}
    for edge in drawn:
        zone = zones[edge.target]
        tile = tiles[zone]
        target = tile.local[edge.target]
        if edge.source in tile.local:
            tile.inner.append((edge, tile.local[edge.source], target))
            continue
        origin = 0 if edge.source in uses else zones[edge.source]
        if origin > zone:
            return False
        source, out = tiles[origin], (tiles[origin].local[edge.source], tensor_rank(edge, graph.nodes))
        neighbours = origin == zone - 1 or not any(t.nodes for t in tiles[origin + 1 : zone])
        if neighbours:
            port = tile.ports.setdefault((edge.source, out[1]), len(tile.ports))
            tile.arrivals.append((edge, port, target))
            source.outs += [out] if out not in source.outs else []
        else:
            tile.rails.append((edge, target))
            source.exits += [out] if out not in source.exits else []
    for tile in tiles:
        tile.leaves = {n for n, node in enumerate(tile.nodes) if node.id not in made}
    return True


def plans(tiles: list[Tile]) -> list[Plan]:
    """The plan of every cell; equal plans where cells are alike, also the first and the last step among equals."""
    Pairs = tuple[tuple[int, int], ...]
    ways: dict[
        tuple[tuple[Look, ...], frozenset[int], Pairs, Pairs], tuple[set[Out], set[Out], set[tuple[int, Out]]]
    ] = {}
    keys = []
    for tile in tiles:
        structure = tuple((s, t) for _, s, t in tile.inner), tuple((p, t) for _, p, t in tile.arrivals)
        key = (_signature(tile), frozenset(tile.leaves), *structure)
        keys.append(key)
        outs, exits, _ = ways.setdefault(key, (set(), set(), set()))
        outs.update(tile.outs)
        exits.update(tile.exits)
    for tile, key, before, before_key in zip(tiles[1:], keys[1:], tiles, keys, strict=False):
        for (source, rank), port in tile.ports.items():
            alike = key == before_key or (len(tile.nodes) == 1 and bool(tile.nodes[0].members))
            if source in before.local and before.step and alike:
                ways[key][2].add((port, (before.local[source], rank)))
    found = []
    for key in keys:
        outs, exits, tracks = ways[key]
        found.append(Plan(*key, tuple(sorted(outs)), tuple(sorted(exits)), tuple(sorted(tracks))))
    return found


def _signature(tile: Tile) -> tuple[Look, ...]:
    """The looks without the number of the time step: sizes, roles, names and symbols."""
    named = []
    for node, shape in zip(tile.nodes, tile.looks, strict=True):
        big = shape.big if not tile.step else undated(node.name) if node.name else shape.small
        named.append(replace(shape, big=big))
    return tuple(named)
