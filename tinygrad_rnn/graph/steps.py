"""Time in a gradient graph: which time steps there are, and what each of them hands on to the next.

After this file the reader knows that a state is found by its use, not by its name: it is what one step makes and the
next one consumes. So a cell of one's own is folded and charted like the built-in ones.
"""

from __future__ import annotations

from collections import Counter

from .model import GradientGraph, Node


def step_number(step: str) -> int | None:
    """The k of ``t=k``, the first of ``t=4..47``; None if that is no number."""
    digits = step[2:].split("..", 1)[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def run_of(first: int, last: int) -> str:
    """The scope of consecutive steps that were folded into one node: ``t=4..47``."""
    return f"t={first}..{last}"


def is_folded(node: Node) -> bool:
    """Whether a node stands for a run of time steps."""
    return bool(node.members) and ".." in (node.step or "")


def steps_of(graph: GradientGraph) -> list[int]:
    """The numbers of the time steps, in order; none if some step is not numbered."""
    numbers = {step_number(step) for step in {node.step for node in graph.nodes if node.step}}
    return [] if None in numbers else sorted(number for number in numbers if number is not None)


def states(graph: GradientGraph) -> dict[str, dict[int, Node]]:
    """What each time step hands on to the next: by name, the tensor of every step.

    Parameters
    ----------
    graph : GradientGraph
        A collapsed one is looked at as it was before.

    Returns
    -------
    dict
        ``{"h": {1: node, 2: node, ...}, "c": {...}}``, h first; only tensors with a gradient. A state without a name is
        called after its operation and its place in the step: ``tanh#3``.
    """
    graph = graph.origin or graph
    order = {number: k for k, number in enumerate(steps_of(graph))}
    keys: dict[int, tuple[str, int]] = {}
    counts: Counter[int] = Counter()
    for node in graph.nodes:
        number = step_number(node.step) if node.step else None
        if node.op is not None and number in order:
            counts[number] += 1
            keys[node.id] = (node.name or f"{node.op}#{counts[number]}", number)
    lanes: dict[str, dict[int, Node]] = {}
    for edge in graph.edges:
        if edge.source in keys and edge.target in keys:
            (name, made), (_, used) = keys[edge.source], keys[edge.target]
            if order[used] == order[made] + 1:
                lanes.setdefault(name, {})
    for node in graph.nodes:
        if node.id in keys and keys[node.id][0] in lanes and node.gradient is not None:
            lanes[keys[node.id][0]][keys[node.id][1]] = node
    return {name: lanes[name] for name in sorted(lanes, key=lambda name: (name != "h", name)) if lanes[name]}
