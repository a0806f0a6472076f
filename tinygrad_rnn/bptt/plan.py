"""The plan: in which part of the program each equation is computed.

After this file the reader knows the seven parts of a program for backpropagation through time: what is computed once,
what needs only the inputs and is computed before the loop for all steps at once, the loop forwards, what needs only
values of the loop forwards (the loss, slopes) and again is computed for all steps at once, the loop backwards, what
nothing in it waits for (gradients of the inputs), and the sums over all steps (gradients of the parameters).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import IntEnum

from .step import Step, topological
from .text import for_all_steps, seen_through
from .trace import Node


class Part(IntEnum):
    """A part of the program, in the order in which they run."""

    ONCE = 0
    BEFORE = 1
    FORWARD = 2
    BETWEEN = 3
    BACKWARD = 4
    AFTER = 5
    END = 6


LEAVES = {
    "input": Part.BEFORE,
    "state": Part.FORWARD,
    "outputs": Part.BETWEEN,
    "last": Part.BETWEEN,
    "given": Part.BETWEEN,
    "at_t": Part.BETWEEN,
    "carry": Part.BACKWARD,
    "total": Part.END,
}
STEPPED = {"input", "state", "carry", "at_t"}


class Plan:
    """Order and part of every node.

    Parameters
    ----------
    step : Step
    rewrites : collection of str
        "hoist_inputs", "hoist_slopes" and "batch_weights" allow the three parts for all steps at once.
    """

    def __init__(self, step: Step, rewrites: Collection[str]) -> None:
        self.order = step.order()
        self.stepped: set[Node] = set()
        for node in self.order:
            if node.op in STEPPED or (node.op not in ("total",) and not self.stepped.isdisjoint(node.args)):
                self.stepped.add(node)
        self.rewrites = rewrites
        self.forward = set(topological(s.root for s in step.states))
        self.backward = set(topological(s.back for s in step.states if s.back is not None))
        while True:
            self.part: dict[Node, Part] = {}
            late = [node for node in self.order if self._place(node)]
            if not late:
                break
            self.backward |= set(topological(late))

    def changing(self, node: Node) -> bool:
        """Whether it differs from step to step."""
        return node in self.stepped

    def _place(self, node: Node) -> bool:
        """Choose the part of a node; true if it needs, in a loop, what was put off until after the loops."""
        part = LEAVES.get(node.op, Part.ONCE)
        if node.op == "total":
            self.part[node] = Part.END
            return False
        part = max([part, *(self.part[a] for a in node.args)])
        if node not in self.stepped or not node.args or node.op == "at_t":
            self.part[node] = part
            return False
        at_once = for_all_steps(node, self.changing)
        if part is Part.BEFORE and not (at_once and "hoist_inputs" in self.rewrites):
            part = Part.FORWARD
        if part is Part.FORWARD and node not in self.forward:
            part = Part.BETWEEN
        if part is Part.BETWEEN and not (at_once and "hoist_slopes" in self.rewrites):
            part = Part.BACKWARD
        carried = any(seen_through(a).op == "carry" for a in node.args)  # of which nothing is left after its step
        if part is Part.BACKWARD and node not in self.backward and "batch_weights" in self.rewrites and not carried:
            part = Part.AFTER
        self.part[node] = part
        return part is Part.AFTER and (carried or not at_once)

    def users(self) -> dict[Node, list[Node]]:
        """Who needs each node."""
        found: dict[Node, list[Node]] = {node: [] for node in self.order}
        for node in self.order:
            for arg in node.args:
                found[arg].append(node)
        return found

    def of(self, *parts: Part) -> Iterable[Node]:
        """The nodes that are computed in these parts, in order."""
        return [node for node in self.order if self.part[node] in parts and node.args]
