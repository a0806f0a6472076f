"""The plan: in which part of the program each equation is computed, and where its value stands.

After this file the reader knows the seven parts of a program for backpropagation through time: what is computed once,
what needs only the inputs and is computed before the loop for all steps at once, the loop forwards, what needs only
values of the loop forwards (the loss, slopes) and again is computed for all steps at once, the loop backwards, what
nothing in it waits for (gradients of the inputs), and the sums over all steps (gradients of the parameters).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..symbolic.trace import KNOWN, Node, Part
from .step import Step, topological, users_of
from .text import for_all_steps, seen_through


@dataclass
class Place:
    """Where a value stands: in a variable, or in row t of an array with one row per step, or t + 1 of a state's."""

    name: str
    step: str = ""  # how one step writes it: by the name, if nothing else is said
    all: str = ""  # how all steps at once are written
    cut: bool = False  # a part of an array, which need not be contiguous

    def __post_init__(self) -> None:
        self.step, self.all = self.step or self.name, self.all or self.name


LOOPS = (Part.FORWARD, Part.BACKWARD)


class Plan:
    """Order, part and, as the program is written, place of every node.

    Parameters
    ----------
    step : Step
    rewrites : collection of str
        "hoist_inputs", "hoist_slopes" and "batch_weights" allow the three parts for all steps at once.
    """

    def __init__(self, step: Step, rewrites: Collection[str]) -> None:
        self.order = step.order()
        self.users = users_of(self.order)
        self.places: dict[Node, Place] = {}
        self.rewrites = rewrites
        self.forward = set(topological(s.root for s in step.states))
        loop = set(topological(s.root for s in step.states if s.leaf in self.forward))
        outputs = [n for n in self.forward - loop if n.args and n.stepped]  # which no step reads
        if loop and "hoist_slopes" in rewrites and all(map(for_all_steps, outputs)):
            self.forward = loop
        self.backward = set(topological(s.back for s in step.states if s.back is not None))
        while True:
            self.part: dict[Node, Part] = {}
            late = [node for node in self.order if self._place(node)]
            if not late:
                break
            self.backward |= set(topological(late))

    def _place(self, node: Node) -> bool:
        """Choose the part of a node; true if it needs, in a loop, what was put off until after the loops."""
        part = max([KNOWN.get(node.op, Part.ONCE), *(self.part[a] for a in node.args)])
        if not node.stepped or not node.args or node.op == "at_t":
            self.part[node] = part
            return False
        at_once = for_all_steps(node)
        if part is Part.BEFORE and not (at_once and "hoist_inputs" in self.rewrites):
            part = Part.FORWARD
        if part is Part.FORWARD and node not in self.forward:
            part = Part.BETWEEN
        if part is Part.BETWEEN and not (at_once and "hoist_slopes" in self.rewrites):
            part = Part.BACKWARD
        carried = any(seen_through(a).op == "carry" for a in node.args)  # of which nothing is left after its step
        if part is Part.BACKWARD and node not in self.backward and "batch_weights" in self.rewrites:
            part = Part.AFTER
        self.part[node] = part
        return part is Part.AFTER and (carried or not at_once)

    def of(self, part: Part) -> list[Node]:
        """The nodes that are computed in a part, in order."""
        return [node for node in self.order if self.part[node] is part and node.args]
