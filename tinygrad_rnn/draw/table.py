"""Any network on the grid: its blocks laid out by the grammar, its edges by the channels, its parameters as rows.

After this file the reader knows how a cell of one's own, a stack, a decoder after its encoder, or attention over all
outputs becomes one picture: they are blocks of one table, and a line of the page that is full ends; the next begins
with the same nodes once more, dashed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from ..graph.model import GradientGraph
from ..graph.parts import Edge, Node
from ..norms import Norm, norm_of
from .channels import LANE_PITCH, Seat
from .cut import Cut, Place, part_of_symbol
from .grammar import Pair, Sentence, Spots, parse
from .style import MAX_PLAIN, Look, clean, look, narrow, number, number_text, short, text_width, undated

TOTAL = 88.0
LAYER = re.compile(r"_l\d+(_reverse)?$")


def check_size(edges: int, what: str) -> None:
    """Refuse what nobody could read; the message says what to do instead."""
    if edges > MAX_PLAIN:
        raise ValueError(
            f"{what} has {edges} edges, too many to be laid out (limit: {MAX_PLAIN}): name its parts by "
            'tg.scope("...") and draw them as one with level="gate", level="step" or level=1'
        )


def grown(shape: Look, height: float) -> Look:
    """A shape as high as its edges need: what is no longer round is a box."""
    return shape._replace(height=height, shape="pill" if shape.shape == "ellipse" and height > 26.0 else shape.shape)


class Table:
    """The boxes of a graph, by node and block, each at its place in the table; and what stands in rows below."""

    def __init__(
        self, graph: GradientGraph, parts: Cut, lanes: Mapping[str, Mapping[int, Node]], prefix: str, norm: Norm
    ) -> None:
        self.graph, self.parts, self.prefix, self.norm = graph, parts, prefix, norm
        self.order = list(lanes)
        self.lanes = {node.id: name for name, lane in lanes.items() for node in lane.values()}
        self.copies = Counter(n.id for block in parts.blocks.values() for n in block.leaves)
        self.copies.update({edge.source for edge, _ in parts.parameters})  # which have a row
        self.joined: set[tuple[int, int, Place]] = set()  # source, target: above each other
        self.boxes: dict[tuple[int, Place], Seat] = {}
        self.uses_of: dict[int, list[tuple[Edge, Place, Place]]] = {}  # by source
        for use in parts.uses:
            self.uses_of.setdefault(use[0].source, []).append(use)
        self.symbols = self._symbols()
        spots, self.states = self._parsed()
        order = sorted(spots, key=lambda place: (not parts.steps[place[1]], place[1], place[0]))
        for place in order:
            self._put(place, *spots[place])
        for place, block in parts.blocks.items():
            for leaf in block.leaves:
                if (leaf.id, place) not in self.boxes:
                    self._put_before(leaf, place)
        self.rows: dict[int, list[int]] = {}  # parameters by band, as they are first used
        for edge, (band, _) in parts.parameters:
            row = self.rows.setdefault(band, [])
            if edge.source not in row:
                row.append(edge.source)
        names = {self.title(id) for ids in self.rows.values() for id in ids}
        self.total = max([TOTAL, *(text_width(name, 11.0) + 50.0 for name in names)])  # a row's end, in points

    def title(self, id: int) -> str:
        """The name of a parameter's row."""
        return str(short(LAYER.sub("", clean(self.graph.nodes[id].name or "", 24))))

    def _symbols(self) -> dict[int, str]:
        """Symbols of operations with their constants: ``1−``, ``×0.5``."""
        found: dict[int, str] = {}
        for edge in self.graph.edges:
            target = self.graph.nodes[edge.target]
            if not edge.internal and not target.members and part_of_symbol(edge, self.graph.nodes):
                value, symbol = self.graph.nodes[edge.source].value, found.get(target.id, target.symbol or "")
                if value is not None and len(symbol) <= 2:
                    text, symbol = number_text(value).replace("-", "−"), symbol.replace("-", "−")
                    found[target.id] = f"{symbol}{text}" if edge.operand else f"{text}{symbol}"
        return found

    def _parsed(self) -> tuple[dict[Place, tuple[list[Node], Spots]], set[tuple[int, Place]]]:
        """What a block holds, and where it stands, alike in blocks that are alike; and which nodes are states."""
        parts, rank = self.parts, dict[tuple[int, Place], int]()
        inner: dict[Place, list[Pair]] = {place: [] for place in parts.blocks}
        given: dict[Place, dict[int, list[int]]] = {place: {} for place in parts.blocks}
        for place, block in parts.blocks.items():
            rank |= {(node.id, place): k for k, node in enumerate(block.nodes)}
        between: list[tuple[Edge, Place, Place]] = []
        for edge, home, target in parts.uses:
            t = rank[edge.target, target]
            if home != target:
                between.append((edge, home, target))
            elif (edge.source, home) in rank:
                inner[target].append((rank[edge.source, home], t))
            else:
                given[target].setdefault(edge.source, []).append(t)
        read = {
            place: Sentence(tuple((n.op or n.kind, n.name or "") for n in block.nodes), tuple(inner[place]))
            for place, block in parts.blocks.items()
            if block.nodes
        }
        fed: dict[Place, set[int]] = {}
        for edge, place in parts.parameters:
            fed.setdefault(place, set()).add(rank[edge.target, place])
        carried: dict[Sentence, set[Pair]] = {sentence: set() for sentence in read.values()}
        for edge, home, target in between:
            t = rank[edge.target, target]
            if not parts.steps[target[1]]:  # towards the last one, the loss
                carried[read[target]].add((len(read[target].nodes) - 1, t))
            elif home[0] == target[0] and home in read and read[home] == read[target]:
                carried[read[target]].add((rank[edge.source, home], t))
            elif home not in read and self.graph.nodes[edge.source].name:
                name = undated(self.graph.nodes[edge.source].name or "")
                made = [k for k, (_, other) in enumerate(read[target].nodes) if other == name]
                carried[read[target]] |= {(k, t) for k in made[-1:]}
        found: dict[Place, tuple[list[Node], Spots]] = {}
        known: dict[Sentence, Spots] = {}
        marked: set[tuple[int, Place]] = set()
        for place, sentence in read.items():
            steps = parts.steps[place[1]]
            out = frozenset(p for p, _ in carried[sentence]) if steps else frozenset[int]()
            marked |= {(parts.blocks[place].nodes[p].id, place) for p in out}
            inside = [leaf for leaf in parts.blocks[place].leaves if leaf.id in given[place]]
            quiet = frozenset(k for k, leaf in enumerate(inside) if leaf.gradient is None)
            whole = replace(
                sentence,
                given=tuple(tuple(given[place][leaf.id]) for leaf in inside),
                quiet=quiet,
                out=out,
                fed=frozenset(fed.get(place, ())),
            )
            if whole not in known:
                known[whole] = parse(whole, carried[sentence])
            found[place] = [*parts.blocks[place].nodes, *inside], known[whole]
        return found, marked

    def _way(self, place: Place) -> int:
        """Which way time runs in a block."""
        block = self.parts.blocks[place]
        return -1 if self.parts.backwards[place[0]] and (self.parts.steps[place[1]] or not block.nodes) else 1

    def _put(self, place: Place, inside: list[Node], spots: Spots) -> None:
        """Boxes for a block; what is no time step stands at the height of what it follows."""
        shift, at = 0, {node.id: spot for node, spot in zip(inside, spots.at, strict=True)}
        if not self.parts.steps[place[1]]:
            links = [
                (home[1], self.boxes[edge.source, home].row - at[edge.target][1])
                for edge, home, target in self.parts.uses
                if target == place and home != place and home[0] == place[0] and (edge.source, home) in self.boxes
            ]
            shift = max(0, max(links)[1]) if links else 0
        for k, node in enumerate(inside):
            column, row = at[node.id]
            self._box(node, place, column, row + shift, k in spots.beside)
        self.joined |= {(inside[a].id, inside[b].id, place) for a, b in spots.upright}

    def _put_before(self, leaf: Node, place: Place) -> None:
        """An initial state stands beside the first step, at the height at which it comes in."""
        users = [self.boxes[e.target, to].row for e, home, to in self.uses_of.get(leaf.id, ()) if home == place]
        there = {(item.column, item.row) for (_, home), item in self.boxes.items() if home == place}
        inside = [self.boxes[node.id, place].column for node in self.parts.blocks[place].nodes]
        column, row = max(inside, default=-1) + 1, min(users, default=0)
        while (column, row) in there:
            row += 1
        self._box(leaf, place, column, row)

    def _box(self, node: Node, place: Place, column: int, row: int, beside: bool = False) -> None:
        step = self.parts.steps[place[1]]
        mark = f"_{step[2:].split('.')[0]}" if step else f"_s{place[1]}"
        mark += f"b{place[0]}" if len(self.parts.bands) > 1 else ""
        name = f"{self.prefix}n{node.id}" + (mark if self.copies[node.id] > 1 else "")
        left_out = node in self.parts.blocks[place].leaves and node.op is not None
        shape, ports = self.look(node, left_out or (node.id, place) in self.states), tuple[str, ...]()
        if left_out:
            shape = shape._replace(shape="again")
        if node.members and step and node.scope.rpartition("/")[2] == node.step:
            mine = dict.fromkeys(self.lanes[member.id] for member in node.members if member.id in self.lanes)
            ports = tuple(sorted(sorted(mine, key=self.order.index), key=lambda name: name.split(" ")[0] == "h"))
            shape = shape._replace(height=max(50.0, LANE_PITCH * (len(ports) - 1) + 34.0))
        self.boxes[node.id, place] = Seat(
            name, node, shape, place[0], place[1], column, row, self._way(place), ports, beside=beside
        )

    def look(self, node: Node, state: bool) -> Look:
        """How a node is drawn; a state with its whole gradient."""
        if node.kind == "parameter" and node.name:
            node = replace(node, name=LAYER.sub("", node.name) or node.name)
        if node.id in self.symbols:
            node = replace(node, symbol=self.symbols[node.id])
        shape = look(node)
        if state and node.name and node.gradient is not None and not node.members and node.kind != "loss":
            total = narrow(number(norm_of(node.gradient, self.norm)), 34.0)
            return shape._replace(small=total, width=max(shape.width, 40.0))
        return shape

    def state_of(self, edge: Edge, target: Seat) -> str:
        """The name of the state that an edge carries."""
        name = None if edge.tensor is None else self.lanes.get(edge.tensor.id)
        if name is None and edge.tensor is not None and target.ports:
            first = (edge.tensor.name or "").rstrip("0123456789")
            name = next((port for port in target.ports if first and port.split(" ")[0] == first), None)
        return name or ""
