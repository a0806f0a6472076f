"""Rewrites: equations into equal equations that cost less, each one short function that can be switched off.

After this file the reader knows what an expert does to a program for backpropagation through time before running it.
A rewrite changes a `Step` in place and never what it computes. Those that only decide *when* something is computed
(before the loops, in them, or after) are names that `plan` looks for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ops import is_basic
from .step import Step, static_key, topological
from .trace import Node, computed

Rule = Callable[[Node, Node, dict[Node, Node]], Node]
"""From a node with new operands, the same node with its old ones, and what became of the nodes before."""


def rebuild(step: Step, rule: Rule) -> None:
    """Replace every node, operands first, by what the rule makes of it."""
    new: dict[Node, Node] = {}
    for node in topological([*step.traced, *step.roots()]):
        args = tuple([new[a] for a in node.args])
        made = node if args == node.args else _with(node, args)
        made = rule(made, node, new)
        if node.name and not made.name and made.args:
            made.name = node.name
        made.line = made.line or node.line
        new[node] = made
    step.replace(new)


def _with(node: Node, args: tuple[Node, ...]) -> Node:
    static, line = node.static, node.line
    return Node(node.op, args, static, value=node.value, name=node.name, line=line, keywords=node.keywords)


def _transposed(x: Node) -> Node:
    return computed("transpose", (x,), {"axes": tuple(range(x.ndim))[::-1]})


def _joined(op: str, *args: Node) -> Node:
    return computed(op, args, {})


def simplify(step: Step) -> None:
    """Equations without those that change nothing, and affine maps as the products and sums that they are."""
    rebuild(step, lambda node, old, new: simplest(node))


def simplest(node: Node) -> Node:
    """One equation, simplified; its operands are already."""
    op, args, static = node.op, node.args, node.static
    if op == "linear":
        x, W, b = args
        return simplest(_joined("add", _joined("matmul", x, _transposed(W)), b))
    if op == "affine":
        x, W, b, h, U, d = args
        products = _joined("add", _joined("matmul", x, _transposed(W)), _joined("matmul", h, _transposed(U)))
        return simplest(_joined("add", products, simplest(_joined("add", b, d))))
    if not args:
        return node
    first = args[0]
    same = (first.shape, first.dtype) == (node.shape, node.dtype)
    if same and op in ("reshape", "broadcast_to", "cast", "detach"):
        return first
    if same and op == "sum" and static["axis"] == ():
        return first
    if op == "reshape" and first.op == "reshape":
        return simplest(computed("reshape", first.args, static))
    if op == "transpose":
        if static["axes"] == tuple(range(node.ndim)):
            return first
        if first.op == "transpose" and tuple(first.static["axes"][a] for a in static["axes"]) == tuple(
            range(node.ndim)
        ):
            return first.args[0]
    if op == "multiply" and first.op == "negative":
        return computed("negative", (_joined("multiply", first.args[0], args[1]),), {})
    if op == "add" and args[1].op == "negative":
        return _joined("subtract", first, args[1].args[0])
    if op in ("add", "multiply"):
        for one, other in (args, args[::-1]):
            unit = 0 if op == "add" else 1
            if (one.shape, one.dtype) == (node.shape, node.dtype) and _is(other, unit):
                return one
    return node


def _is(node: Node, number: float) -> bool:
    """Whether a node is a constant with this number everywhere."""
    while node.op in ("reshape", "broadcast_to", "cast"):
        (node,) = node.args
    return (
        node.op in ("number", "constant")
        and type(node.value) in (int, float, np.ndarray)
        and bool(np.all(node.value == number))
    )


def dead_code(step: Step) -> None:
    """Forget the equations that nothing needs."""
    step.keep_dead = False


def share(step: Step) -> None:
    """Compute equal expressions once."""
    known: dict[object, Node] = {}

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if node.op in ("number", "constant"):
            return known.setdefault((node.op, static_key(node.value), repr(node.value)), node)
        if not node.args:
            return node
        args = [id(a) for a in node.args]
        if node.op in ("add", "multiply"):
            args.sort()
        return known.setdefault((node.op, static_key(node.static), node.keywords, *args), node)

    rebuild(step, rule)


def only_last(step: Step) -> None:
    """A loss of the last output alone is a loss of the last state: no array of cotangents that are zero but for one."""
    g, first = step.back_outputs, step.states[0]

    def last_one(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        of_outputs = node.op == "getitem" and node.args[0] is step.outputs
        return step.last[0] if of_outputs and node.static["index"] == (-1,) else node

    def without(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        kept = [a for a in node.args if a.op != "at_t"]
        return kept[0] if node.op == "add" and len(kept) == 1 else node

    rebuild(step, last_one)
    if g is not None and g.op == "scatter" and g.static["index"] == (-1,):
        (part,) = g.args
        first.seed = part if first.seed is None else _joined("add", first.seed, part)
        step.back_outputs = None
        rebuild(step, without)


def _slice(node: Node) -> tuple[int, int, int] | None:
    """(axis, start, stop) of a scatter that puts its operand into a slice of one axis, whole along all others."""
    shape, index = node.static["shape"], node.static["index"]
    if Ellipsis in index:
        k = index.index(Ellipsis)
        index = index[:k] + (slice(None),) * (len(shape) - len(index) + 1) + index[k + 1 :]
    whole = slice(None)
    cut = [axis for axis, item in enumerate(index) if not (isinstance(item, slice) and item == whole)]
    if len(cut) != 1 or not isinstance(index[cut[0]], slice):
        return None
    start, stop, stride = index[cut[0]].indices(shape[cut[0]])
    return (cut[0], start, stop) if stride == 1 and stop > start else None


def tiles(step: Step) -> None:
    """Cotangents of slices that tile one array (gates) are joined, not each put among zeros and added."""
    users = _users(step)
    inner = {a for n in users if n.op == "add" for a in n.args if a.op == "add" and users[a] < 2}

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if old.op != "add" or old in inner:
            return node
        terms = [new[t] for t in _terms(old, "add", users)]
        if not all(t.op == "scatter" and is_basic(t.static["index"]) for t in terms):
            return node
        parts: dict[tuple[int, int, int], Node] = {}
        for term in terms:
            where = _slice(term)
            if where is None:
                return node
            part = term.args[0]
            parts[where] = part if where not in parts else _joined("add", parts[where], part)
        axis = next(iter(parts))[0]
        at, pieces = 0, []
        for where in sorted(parts):
            if where[0] != axis or where[1] < at:
                return node
            pieces += [_zeros(node, axis, where[1] - at)] if where[1] > at else []
            pieces.append(parts[where])
            at = where[2]
        pieces += [_zeros(node, axis, node.shape[axis] - at)] if at < node.shape[axis] else []
        return computed("concatenate", tuple(pieces), {"axis": axis})

    rebuild(step, rule)


def _zeros(node: Node, axis: int, size: int) -> Node:
    shape = [size if i == axis else n for i, n in enumerate(node.shape)]
    return Node("constant", value=np.zeros(shape, node.dtype), name="zeros")


def _users(step: Step) -> dict[Node, int]:
    """How often each node is used; once more where it is a result."""
    roots = step.roots()
    count: dict[Node, int] = dict.fromkeys(roots, 1)
    for node in topological(roots):
        for arg in node.args:
            count[arg] = count.get(arg, 0) + 1
    return count


def _terms(node: Node, op: str, users: dict[Node, int]) -> list[Node]:
    """The terms of a sum or the factors of a product; what is used elsewhere too is kept whole."""
    if node.op != op:
        return [node]
    found: list[Node] = []
    for arg in node.args:
        inner = arg.op == op and arg.dtype == node.dtype and users.get(arg, 1) < 2
        found += _terms(arg, op, users) if inner else [arg]
    return found


_LATE = {"input": 1, "state": 2, "outputs": 3, "last": 3, "given": 3, "at_t": 3, "carry": 4}


def regroup(step: Step) -> None:
    """Sums and products begin with what is known first, so that all that is known before a loop is computed there."""
    users = _users(step)
    late: dict[Node, int] = {}

    def lateness(node: Node) -> int:
        if node not in late:
            for n in topological([node]):
                late[n] = max([0 if n.op == "total" else _LATE.get(n.op, 0), *(late[a] for a in n.args)])
        return late[node]

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if old.op not in ("add", "multiply"):
            return node
        terms = [new[t] for t in _terms(old, old.op, users)]
        if len(terms) < 3 or any(t.dtype != node.dtype and t.op != "number" for t in terms):
            return node
        groups: dict[int, Node] = {}
        for term in terms:
            when = lateness(term)
            groups[when] = _joined(old.op, groups[when], term) if when in groups else term
        # x Wᵀ before the bias, as people write it; a cotangent before what it is multiplied with.
        whole, *rest = [groups[k] for k in sorted(groups, key=lambda k: (k == 0) * 1.5 or k)]
        for group in rest:
            whole = _joined("add", whole, group) if old.op == "add" else _joined("multiply", group, whole)
        return whole

    rebuild(step, rule)


STEP_REWRITES: dict[str, Callable[[Step], None]] = {
    "dead_code": dead_code,
    "share": share,
    "only_last": only_last,
    "tiles": tiles,
    "regroup": regroup,
}
