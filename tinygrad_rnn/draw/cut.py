"""A graph as a table: time steps are its columns, layers its rows, and each of their crossings is a small graph.

After this file the reader knows when something follows in time and when it stands above: a layer, or a second loop that
takes what the first one made in the same step, is a row of its own; what only follows stands to the right. What is
computed at every step besides (the loss) is the row on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..graph.model import GradientGraph
from ..graph.parts import Edge, Node, grouped
from ..graph.steps import loops_of, rows_of, step_number
from .style import undated

Place = tuple[int, int]
"""Band (from above) and slot (from the left) of a block."""


@dataclass
class Block:
    """What stands at one crossing: operations, oldest first, and leaves that only they use."""

    nodes: list[Node] = field(default_factory=list)
    leaves: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Cut:
    """A graph cut into blocks; `steps` names the time step of each slot, "" before, between and after them.

    `bands` are the names of the layers from above, `backwards` tells which run from right to left. `uses` are the drawn
    edges, each with the block of its source and of its target; a leaf is in the block of what uses it, an initial state
    in the slot before. `parameters` are the uses of what stands in rows below a band.
    """

    blocks: Mapping[Place, Block]
    steps: Sequence[str]
    bands: Sequence[str]
    backwards: Sequence[bool]
    uses: Sequence[tuple[Edge, Place, Place]]
    parameters: Sequence[tuple[Edge, Place]]


def part_of_symbol(edge: Edge, nodes: Sequence[Node]) -> bool:
    """Whether the source is an unnamed number: it is written into the symbol of its operation."""
    source = nodes[edge.source]
    return source.kind == "constant" and not source.name and source.value is not None and source.value.size == 1


def cut(graph: GradientGraph) -> Cut | None:
    """The table of a graph; None if it has no time steps, or if time does not order it."""
    drawn = [e for e in graph.edges if not e.internal and not part_of_symbol(e, graph.nodes)]
    made = {e.target for e in graph.edges} | {n.id for n in graph.nodes if n.members or n.kind == "loss"}
    touched = {end for e in drawn for end in (e.source, e.target)} | {graph.nodes[-1].id}
    nodes = [node for node in graph.nodes if node.id in made & touched]
    timed = _timed(graph, nodes, drawn)
    if timed is None:
        return None
    places, steps, names, backwards = timed
    for e in drawn:
        (band, slot), (other, goal) = places.get(e.source, places[e.target]), places[e.target]
        way = -1 if backwards[band] and steps[slot] and steps[goal] else 1
        if band == other and (goal - slot) * way < 0 and not (backwards[band] and way > 0):
            return None
    blocks: dict[Place, Block] = {}
    for node in nodes:
        blocks.setdefault(places[node.id], Block()).nodes.append(node)
    initial = _initial(graph, drawn, places, blocks, backwards, steps)
    uses: list[tuple[Edge, Place, Place]] = []
    parameters: list[tuple[Edge, Place]] = []
    starts: dict[int, Place] = {}
    for edge in initial:
        band, slot = places[edge.target]
        starts[edge.source] = band, slot + (1 if backwards[band] else -1)
    for edge in drawn:
        target = places[edge.target]
        if edge.source in places:
            uses.append((edge, places[edge.source], target))
            continue
        source = graph.nodes[edge.source]
        if edge in initial:
            home = target[0], target[1] + (1 if backwards[target[0]] else -1)
        elif edge.source in starts and not steps[target[1]]:  # a loss that reads a first state reads it there
            home = starts[edge.source]
        elif source.kind == "parameter" and not source.step:  # one that a step has made is given to it
            parameters.append((edge, target))
            continue
        else:
            home = target
        block = blocks.setdefault(home, Block())
        if source not in block.leaves:
            block.leaves.append(source)
        uses.append((edge, home, target))
    return Cut(blocks, steps, names, backwards, uses, parameters)


def _timed(
    graph: GradientGraph, nodes: Sequence[Node], drawn: Sequence[Edge]
) -> tuple[dict[int, Place], list[str], list[str], list[bool]] | None:
    """Band and slot of every operation, the steps of the slots, names and directions of the bands."""
    keys: dict[int, tuple[int, int, int]] = {}  # loop, number, row
    rows = rows_of(graph)
    stepped = [node for node in nodes if node.step]
    if not stepped or any(step_number(node.step or "") is None for node in stepped):
        return None
    numbers = {node.id: step_number(node.step or "") or 0 for node in stepped}
    if rows is not None:
        keys = {node.id: (0, numbers[node.id], rows.of[node.id]) for node in stepped if node.id in rows.of}
        if len(keys) < len(stepped):
            return None
        names, backwards = list(rows.names), list(rows.backwards)
    else:
        keys = {id: (loop, numbers[id], row) for id, (loop, row) in loops_of(stepped, drawn).items()}
        names = [""] * (1 + max(row for _, _, row in keys.values()))
        backwards = [False] * len(names)
    order = sorted({key[:2] for key in keys.values()})
    into = grouped(drawn, "target")
    late: dict[int, int] = {}
    for node in nodes:  # the last step that each thing follows from
        sources = [late[e.source] for e in into.get(node.id, ()) if e.source in late]
        late[node.id] = order.index(keys[node.id][:2]) if node.id in keys else max(sources, default=-1)
    leads: set[int] = set()
    for node in reversed(nodes):
        if node.id in keys or node.id in leads:
            leads |= {e.source for e in into.get(node.id, ())}
    # Slots: before, then each step, and after it what lies between it and the next.
    slot = {node.id: 1 + 2 * late[node.id] + (node.id not in keys) for node in nodes}
    last = len(order) - 1
    every = {node.id for node in nodes if node.id not in keys and node.id not in leads and 0 <= late[node.id] < last}
    rise = int(bool(every))
    count = len(names) + rise
    places: dict[int, Place] = {}
    for node in nodes:
        if node.id in keys:
            places[node.id] = count - 1 - keys[node.id][2], slot[node.id]
        elif node.id in every:
            places[node.id] = 0, slot[node.id] - 1
        else:
            near = [places[e.source] for e in into.get(node.id, ()) if e.source in places]
            users = [count - 1 - keys[e.target][2] for e in drawn if e.source == node.id and e.target in keys]
            band = (
                0
                if rise and node.id not in leads
                else min(users, default=0)
                if not near
                else max(near, key=lambda place: (place[1], -place[0]))[0]
            )
            places[node.id] = band, slot[node.id]
    steps = [""]
    for key in order:
        steps += [f"t={key[1]}", ""]
    return places, steps, [""] * rise + names[::-1], [False] * rise + backwards[::-1]


def _initial(
    graph: GradientGraph,
    drawn: Sequence[Edge],
    places: Mapping[int, Place],
    blocks: Mapping[Place, Block],
    backwards: Sequence[bool],
    steps: Sequence[str],
) -> set[Edge]:
    """The uses of initial states: leaves named like what a step hands on, or where later steps have it.

    With one step only, everything that is not a parameter and is named like a state counts.
    """
    rank = {node.id: k for block in blocks.values() for k, node in enumerate(block.nodes)}
    slots: dict[int, set[tuple[int, int]]] = {}
    names: dict[int, set[str]] = {}  # of what is handed on: a box of several operations counts its operands anew
    ends: dict[int, list[int]] = {}
    for (band, slot), block in blocks.items():
        if any(node.step for node in block.nodes):
            ends.setdefault(band, []).append(slot)
    start = {band: (max if backwards[band] else min)(found) for band, found in ends.items()}
    leaves: dict[tuple[int, str], set[int]] = {}  # by band and name, in which steps there are such
    for edge in drawn:
        (band, slot), source = places[edge.target], graph.nodes[edge.source]
        near = abs(places[edge.source][1] - slot) == 2 if edge.source in places else source.op is not None
        if near and places.get(edge.source, (band, 0))[0] == band:
            slots.setdefault(band, set()).add((rank[edge.target], edge.operand))
            names.setdefault(band, set()).add(undated((edge.tensor.name if edge.tensor else source.name) or ""))
        if source.op is None and steps[slot]:
            leaves.setdefault((band, undated(source.name or "")), set()).add(slot)
    made = {m.name for block in blocks.values() for n in block.nodes for m in (n, *n.members) if m.name}
    uses, known, found = grouped(drawn, "source"), set[Place](), set[Edge]()
    for edge in drawn:
        (band, slot), source = places[edge.target], graph.nodes[edge.source]
        if edge.source in places or band not in ends:
            continue
        if source.op is not None:  # what comes from a step that is left out is given, like an initial state
            found.add(edge)
            continue
        places_of = [places[use.target] for use in uses[edge.source]]
        several = len({there for row, there in places_of if row == band and steps[there]}) > 1
        if slot != start[band] or (several and source.kind == "parameter"):
            continue
        name = undated(source.name or "")
        named = name and name in names.get(band, ()) and not source.step and len(leaves[band, name]) == 1
        if len(ends[band]) == 1 and band not in names:
            known |= {(edge.source, band)} if name[:1] in ("h", "c") or name in made else set()
        elif named or (rank[edge.target], edge.operand) in slots.get(band, ()):
            known.add((edge.source, band))
    for edge in drawn:  # all uses in one step together
        band, slot = places[edge.target]
        if (edge.source, band) in known and slot == start[band]:
            found.add(edge)
    return found
