"""The gradient strip: folded time steps as one box, with a bar per step and state.

After this file the reader knows what a bar tells: the gradient of the state that this step makes, on the scale of the
colours, so that a bar half as high is a gradient of half as many decades above the weak end. The strip's lanes continue
the tracks of the states on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..graph.collapse import state_of
from ..graph.model import Edge, GradientGraph, Node, Norm, State, norm_of
from ..graph.steps import is_folded, states
from .geometry import Point, Rect, line
from .style import STRIP_SIDE, clean, steps_in, text_width
from .template import LABEL, Out, Plan, Template
from .tiles import Tile, tensor_rank

LANE = 30.0
"""Height of the strongest bar."""

LANE_PITCH = 52.0
_TITLE, _CAPTION = 24.0, 18.0
_LEAF_DROP = 34.0


@dataclass(frozen=True)
class Lane:
    """One state through the folded steps: its name, the height of its bars' middle, and its tensor in every step."""

    name: str
    y: float
    tensors: tuple[tuple[int, Node, State], ...]

    @property
    def symbol(self) -> str:
        """The state's name without its layer, which the row tells."""
        return self.tensors[0][1].name or self.name

    def sizes(self, norm: Norm) -> list[tuple[int, float, State]]:
        """(step, size of the gradient, what that number means), in order."""
        return [(t, norm_of(x.gradient, norm), state) for t, x, state in self.tensors if x.gradient is not None]

    def factor(self, norm: Norm) -> float | None:
        """By what the gradient changes per step back in time, as geometric mean; None where that has no meaning."""
        sizes = self.sizes(norm)
        (first, weak, one), (last, strong, other) = sizes[0], sizes[-1]
        if first == last or {one, other} != {"finite"}:
            return None
        return math.exp((math.log(weak) - math.log(strong)) / (last - first))


@dataclass(frozen=True)
class Strip:
    """A placed strip: the box, and its lanes from above."""

    node: Node
    rect: Rect
    lanes: tuple[Lane, ...]

    @property
    def bars(self) -> tuple[float, float]:
        """Left end and pitch of the bars."""
        first, last = steps_in(self.node)
        inside = self.rect.right - self.rect.left - 2 * STRIP_SIDE
        return self.rect.left + STRIP_SIDE, inside / (last - first + 1)

    @property
    def steps(self) -> tuple[int, int]:
        """The first and the last of the folded steps."""
        return steps_in(self.node)


def title_of(node: Node) -> str:
    """Which steps were folded; of what hands on no state, also what it is."""
    first, last = steps_in(node)
    if node.name is None:
        return f"{clean(node.op or '')}, t = {first} … {last}"
    return f"t = {first}" if first == last else f"t = {first} … {last}, {last - first + 1} steps folded"


class Lanes:
    """What the strips of one graph show: the states, and to which of them each tensor belongs."""

    def __init__(self, graph: GradientGraph, known: Mapping[str, Mapping[int, Node]] | None = None) -> None:
        folded = any(is_folded(node) for node in graph.nodes)
        self.states = known if known is not None else states(graph) if folded else {}
        self.names = {node.id: name for name, lane in self.states.items() for node in lane.values()}
        # A zero is an underflow if something on the way was lost below the smallest number.
        self.lost = {e.tensor.id for e in graph.edges if e.state == "underflow" and e.tensor is not None}
        self.outs: dict[int, dict[Out, str]] = {}
        for edge in graph.edges if folded else ():
            if not edge.internal and is_folded(graph.nodes[edge.source]) and edge.tensor is not None:
                name = self.names.get(edge.tensor.id)
                if name is not None:
                    out = (0, tensor_rank(edge, graph.nodes))
                    self.outs.setdefault(edge.source, {}).setdefault(out, name)

    def of(self, edge: Edge) -> str | None:
        """The name of the state that flows along an edge."""
        return None if edge.tensor is None else self.names.get(edge.tensor.id)

    def inside(self, node: Node) -> dict[str, tuple[tuple[int, Node, State], ...]]:
        """The states of a folded node: step, tensor, and what its gradient's size means."""
        members = {member.id for member in node.members}
        found = {}
        for name, lane in self.states.items():
            tensors = tuple(
                (t, x, state_of(x.gradient, x.id in self.lost))
                for t, x in sorted(lane.items())
                if x.id in members and x.gradient is not None
            )
            if tensors:
                found[name] = tensors
        return found


def strip_template(
    tile: Tile, plan: Plan, lanes: Lanes, before: Mapping[str, float]
) -> tuple[Template, tuple[Lane, ...]]:
    """The cell of a strip: lanes at the heights (`before`) at which their states come in, leaves in a row below.

    The strip's look in the tile is replaced by the one that fits.
    """
    local = next(n for n, node in enumerate(tile.nodes) if is_folded(node))
    node = tile.nodes[local]
    inside = lanes.inside(node)
    heights = _heights(list(inside), before)
    top = max(heights.values(), default=0.0) + LANE / 2 + _TITLE
    bottom = min(heights.values(), default=0.0) - LANE / 2 - _CAPTION
    look = replace(tile.looks[local], height=top - bottom)
    if not inside:  # what joins two layers: only a title
        top, bottom = 13.0, -13.0
        look = replace(look, width=text_width(title_of(node), 11.0) * 1.06 + 2 * STRIP_SIDE, height=top - bottom)
    tile.looks[local] = look
    template = Template(centres={local: (look.width / 2, (top + bottom) / 2)})
    for out in plan.outs:
        name = lanes.outs.get(node.id, {}).get((0, out[1]))
        template.outs[out] = ((look.width, heights.get(name or "", bottom + 12.0)),)
    for k, out in enumerate(plan.exits):
        template.exits[out] = ((look.width, bottom + 6.0 + 3.0 * k),)
    for a, (edge, _, _) in enumerate(tile.arrivals):
        template.arrivals[a] = ((0.0, heights.get(lanes.of(edge) or "", bottom + 12.0)),)
    lowest = _shelve(tile, plan, template, local, bottom)
    template.box = Rect(0.0, lowest, look.width, top)
    downwards = sorted(inside, key=lambda name: -heights[name])
    return template, tuple(Lane(name, heights[name], inside[name]) for name in downwards)


def _heights(names: Sequence[str], before: Mapping[str, float]) -> dict[str, float]:
    """A height for each lane: where its state comes in, but no two closer than they need."""
    # What comes in below another stays below; h is the lowest, as in the cells.
    lowest = {name: name.split(" ")[0] != "h" for name in names}
    order = sorted(names, key=lambda name: (before.get(name, 0.0 if lowest[name] else -1e9), lowest[name]))
    found: dict[str, float] = {}
    floor = -1e9
    for name in order:
        y = max(before.get(name, 0.0 if floor < -1e8 else floor), floor)
        found[name], floor = y, y + LANE_PITCH
    wanted = [before[name] for name in order if name in before]
    if wanted:  # spread to both sides
        shift = (sum(wanted) - sum(found[name] for name in order if name in before)) / len(wanted)
        found = {name: y + shift for name, y in found.items()}
    return found


def _shelve(tile: Tile, plan: Plan, template: Template, local: int, bottom: float) -> float:
    """Put the leaves of the folded steps in a row below the box; returns where that ends."""
    leaves = [(e, source) for e, (_, source, target) in enumerate(tile.inner) if target == local and source != local]
    others = [n for n in range(len(tile.nodes)) if n != local]
    total = sum(plan.looks[n].width for n in others) + (LABEL[0] + 8.0) * (len(others) - 1)
    x = template.centres[local][0] - total / 2
    y = bottom - _LEAF_DROP
    for n in others:
        look = plan.looks[n]
        template.centres[n] = (x + look.width / 2, y - look.height / 2)
        x += look.width + LABEL[0] + 8.0
    for e, source in leaves:
        centre: Point = template.centres[source]
        template.inner[e] = line((centre[0], y), (centre[0], bottom))
        template.inner_labels[e] = (centre[0] + LABEL[0] / 2 + 5.0, (y + bottom) / 2)
    return min([bottom, *(template.centres[n][1] - plan.looks[n].height / 2 for n in others)])
