"""The gradient strip: folded time steps as one box, with a bar per step and state.

After this file the reader knows what a bar tells: the gradient of the state that this step makes, on the scale of the
colours, so that a bar half as high is a gradient of half as many decades above the weak end. The strip's lanes continue
the tracks of the states on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..graph.line import line_through
from ..graph.model import GradientGraph
from ..graph.parts import Edge, Node
from ..graph.steps import is_folded, states
from ..norms import Norm, State, norm_of, state_of
from .geometry import Rect
from .style import STRIP_SIDE, clean, steps_in

LANE = 30.0
"""Height of the strongest bar."""

LANE_PITCH = 52.0


@dataclass(frozen=True)
class Lane:
    """One state through the folded steps: its name, the height of its bars' middle, and its tensor in every step.

    `factor` is by what its gradient changes per step back in time, over all steps, folded or not.
    """

    name: str
    y: float
    tensors: tuple[tuple[int, Node, State], ...]
    factor: float

    @property
    def symbol(self) -> str:
        """The state's name without its layer, which the row tells."""
        return self.tensors[0][1].name or self.name

    def sizes(self, norm: Norm) -> list[tuple[int, float, State]]:
        """(step, size of the gradient, what that number means), in order."""
        return [(t, norm_of(x.gradient, norm), state) for t, x, state in self.tensors if x.gradient is not None]


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

    def of(self, edge: Edge) -> str | None:
        """The name of the state that flows along an edge."""
        return None if edge.tensor is None else self.names.get(edge.tensor.id)

    def factor(self, name: str) -> float:
        """By what the gradient of a state changes per step back in time; NaN where that has no meaning."""
        gradients = [x.gradient for x in list(self.states[name].values())[::-1] if x.gradient is not None]
        return float(10.0 ** line_through(gradients).slope) if all(g.any() for g in gradients) else math.nan

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
