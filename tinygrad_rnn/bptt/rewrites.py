"""Rewrites: equations into equal equations that cost less, each one short function that can be switched off.

After this file the reader knows what an expert does to a program for backpropagation through time before running it.
A rewrite changes a `Step` in place and never what it computes. Those that only decide *when* something is computed
(before the loops, in them, or after) are names that `plan` looks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import reduce
from types import MappingProxyType

import numpy as np

from ..ops import is_basic
from ..symbolic.trace import Node, Part, computed
from ..symbolic.values import TFloat, static_key
from .identities import joined, simplest, transposed
from .step import Step, topological

Rule = Callable[[Node, Node, dict[Node, Node]], Node]
"""From a node with new operands, the same node with its old ones, and what became of the nodes before."""


def rebuild(step: Step, rule: Rule, instead: Mapping[Node, Node] = MappingProxyType({})) -> None:
    """Replace every node, operands first, by what stands `instead` of it or by what the rule makes of it."""
    new: dict[Node, Node] = {}
    for node in topological([*step.traced, *step.roots()], instead):
        if node in instead:
            made = new[instead[node]]
        else:
            args, fresh = tuple([new[a] for a in node.args]), node
            if args != node.args:
                fresh = Node(node.op, args, node.static, value=node.value, name=node.name, keywords=node.keywords)
                fresh.line, fresh.origins = node.line, node.origins
            made = rule(fresh, node, new)
        if node.name and not made.name and made.args:
            made.name = node.name
        made.line = made.line or node.line
        made.origins = made.origins or (node.origins if made.args else ())
        new[node] = made
    step.replace(new)


def replace(step: Step, instead: Mapping[Node, Node]) -> None:
    """Replace some nodes, everywhere: also among the operands of what stands instead of others."""
    rebuild(step, lambda node, old, new: node, instead)


def simplify(step: Step) -> None:
    """Equations without those that change nothing, and affine maps as the products and sums that they are."""
    rebuild(step, lambda node, old, new: simplest(node))
    remember(step)


def remember(step: Step) -> None:
    """From now on the comments say of each equation what it is now."""
    for node in topological(step.traced):
        node.origins = (node,)


def dead_code(step: Step) -> None:
    """Forget the equations that nothing needs."""
    step.keep_dead = False


def share(step: Step) -> None:
    """Compute equal expressions once."""
    known: dict[object, Node] = {}

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if node.op in ("number", "constant"):
            return known.setdefault((node.op, static_key(node.value)), node)
        if not node.args:
            return node
        args = [id(a) for a in node.args]
        if node.op in ("add", "multiply"):
            args.sort()
        return known.setdefault((node.op, static_key(node.static), node.keywords, *args), node)

    rebuild(step, rule)


def only_last(step: Step) -> None:
    """A loss of the last output alone is a loss of the last state: no array of cotangents that are zero but for one."""

    def last_one(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if node.op != "getitem" or node.args[0] is not step.outputs or not of_last(node):
            return node
        rest, last = node.static["index"][1:], step.last[0]
        return computed("getitem", (last,), {"index": rest}) if rest else last

    def without(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        kept = [a for a in node.args if a.op != "at_t"]
        return kept[0] if node.op == "add" and len(kept) == 1 else node

    def of_last(node: Node) -> bool:
        index = node.static["index"]
        return bool(is_basic(index)) and index[:1] == (-1,)

    rebuild(step, last_one)
    g, first = step.back_outputs, step.states[0]
    if g is not None and g.op == "scatter" and of_last(g) and first.carry in topological(step.roots()):
        (part,) = g.args
        rest = g.static["index"][1:]
        part = computed("scatter", (part,), {"index": rest, "shape": first.leaf.shape}) if rest else part
        first.seed = part if first.seed is None else joined("add", first.seed, part)
        step.back_outputs = None
        rebuild(step, without)


def read_once(step: Step) -> set[Node]:
    """What one other node needs, and nobody else."""
    roots = step.roots()
    count = Counter([*roots, *(arg for node in topological(roots) for arg in node.args)])
    return {node for node, times in count.items() if times == 1}


def whole_sums(step: Step, once: set[Node]) -> set[Node]:
    """The sums that are no terms of other sums."""
    sums = {n for n in topological(step.roots()) if n.op == "add"}
    return sums - {a for n in sums for a in n.args if a in once}


def terms_of(node: Node, op: str, once: Collection[Node] | None = None) -> list[Node]:
    """The terms of a sum or the factors of a product; of the inner ones only those that are read `once` are opened."""
    if node.op != op:
        return [node]
    found: list[Node] = []
    for arg in node.args:
        inner = arg.op == op and arg.dtype == node.dtype and (once is None or arg in once)
        found += terms_of(arg, op, once) if inner else [arg]
    return found


def total(terms: Iterable[Node]) -> Node:
    """The sum of some terms."""
    return reduce(lambda a, b: joined("add", a, b), terms)


def spans(parts: Iterable[Node], axis: int = -1) -> Iterator[tuple[Node, int, int]]:
    """Parts that stand side by side, with where each starts and stops."""
    at = 0
    for part in parts:
        yield part, at, (at := at + part.shape[axis])


def beside(parts: Collection[Node], axis: int) -> Node:
    """Arrays side by side; transposed ones are joined first and transposed then."""
    if all(a.op == "transpose" and a.ndim == 2 for a in parts):
        return transposed(beside([a.args[0] for a in parts], 1 - axis))
    return computed("concatenate", tuple(parts), {"axis": axis})


def _folded(factors: list[Node]) -> list[Node]:
    """Factors with all numbers among them as one."""
    numbers = [f.value for f in factors if f.op == "number"]
    plain = [n for n in numbers if type(n) in (int, float)]
    varying = [n for n in numbers if type(n) is TFloat]
    if len(plain) + len(varying) != len(numbers) or len(varying) > 1 or len(numbers) < 2:
        return factors
    product = float(np.prod(plain)) if plain else 1.0
    one = TFloat.of(product * varying[0].top, varying[0].bottom) if varying else product
    others = [f for f in factors if f.op != "number"]
    return others if one == 1 and others else [*others, Node("number", value=one)]


def regroup(step: Step) -> None:
    """Sums and products begin with what is known first, so that all that is known before a loop is computed there."""
    once = read_once(step)

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if old.op not in ("add", "multiply"):
            return node
        given = [new[t] for t in terms_of(old, old.op, once)]
        terms = _folded(given) if old.op == "multiply" else given
        if len(terms) == len(given) < 3 or any(t.dtype != node.dtype and t.op != "number" for t in terms):
            return node
        groups: dict[Part, Node] = {}
        for term in terms:
            groups[term.known] = joined(old.op, groups[term.known], term) if term.known in groups else term
        # x Wᵀ before the bias, as people write it; a cotangent before what it is multiplied with.
        whole, *rest = [groups[k] for k in sorted(groups, key=lambda part: part or 1.5)]
        for group in rest:
            whole = joined("add", whole, group) if old.op == "add" else joined("multiply", group, whole)
        return whole

    rebuild(step, rule)
