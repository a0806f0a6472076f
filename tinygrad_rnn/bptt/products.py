"""Rewrites of matrix products: few large ones where a cell writes many small ones.

After this file the reader knows that a gate of its own, ``[h, x] Wᵀ``, costs no more than a slice of all gates: what is
joined only to be multiplied is multiplied in parts, and products of one array with several weights are one product
with the weights side by side.
"""

from __future__ import annotations

from ..symbolic.trace import Node, Part, computed
from .gates import cut_of, take
from .identities import joined
from .rewrites import beside, read_once, rebuild, replace, spans, terms_of, total, whole_sums
from .step import Step, topological


def split(step: Step) -> None:
    """[a, b] W is a W₁ + b W₂, so that the part of the input can be computed before the loop."""

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if node.op == "getitem":  # a slice of products is the products with slices
            terms = terms_of(node.args[0], "add")
            cut = cut_of(node.static["index"], node.args[0].shape)
            if cut and cut[0] == node.ndim - 1 and all(map(_is_product, terms)):
                return total(joined("matmul", t.args[0], take(t.args[1], *cut[1:])) for t in terms)
        if _is_product(node) and old.known <= Part.FORWARD:
            whole, W = node.args
            if whole.op == "concatenate" and whole.static["axis"] == whole.ndim - 1:
                return total(joined("matmul", part, _rows(W, *cut)) for part, *cut in spans(whole.args))
        return node

    rebuild(step, rule)


def _rows(W: Node, start: int, stop: int) -> Node:
    """Rows of a weight; of a transposed one the columns, transposed."""
    if W.op == "transpose":
        return computed("transpose", (take(W.args[0], start, stop),), {"axes": (1, 0)})
    return computed("getitem", (W,), {"index": (slice(start, stop),)})


def _is_product(node: Node) -> bool:
    """Whether a node is what changes from step to step, times a weight."""
    if node.op != "matmul":
        return False
    a, W = node.args
    return W.ndim == 2 and W.known is Part.ONCE is not a.known


def join(step: Step) -> None:
    """Products of one array with several weights are one product with the weights side by side.

    On the way back their sum, Σ dzₖ Wₖ, is one product of the cotangents side by side, [dz₁ dz₂ ...], with the weights
    on top of one another.
    """
    forward = set(topological(s.root for s in step.states))
    found: dict[Node, list[Node]] = {}
    for node in step.order():
        if node in forward and _is_product(node):
            found.setdefault(node.args[0], []).append(node)
    new: dict[Node, Node] = {}
    for array, products in found.items():
        if len(products) > 1:
            whole = joined("matmul", array, beside([p.args[1] for p in products], 1))
            new |= {product: take(whole, *cut) for product, *cut in spans(products)}
    replace(step, new)
    _join_sums(step)


def _join_sums(step: Step) -> None:
    once = read_once(step)
    sums = whole_sums(step, once)
    place = {node: i for i, node in enumerate(topological([*step.traced, *step.roots()]))}

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if old not in sums or old.ndim > 2:
            return node
        terms = terms_of(old, "add", once)
        products = [t for t in terms if t in once and t.known is Part.BACKWARD and _is_product(t)]
        products = [t for t in products if t.shape == old.shape]
        if len(products) < 2:
            return node
        products.sort(key=lambda p: place[p.args[1]])  # as forwards, so that it is the same weight
        left, right = (beside([new[p.args[k]] for p in products], (old.ndim - 1, 0)[k]) for k in (0, 1))
        return total([*(new[t] for t in terms if t not in products), joined("matmul", left, right)])

    rebuild(step, rule)


def factor(step: Step) -> None:
    """g a + g b is g (a + b) where a and b are known before g, as are the slopes of two ways into one gate."""
    once = read_once(step)

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if old.op not in ("add", "subtract") or any(
            a.op != "multiply" or a not in once or a.known is not Part.BACKWARD for a in old.args
        ):
            return node
        left, right = old.args
        for i in (0, 1):
            for j in (0, 1):
                g, a, b = left.args[i], left.args[1 - i], right.args[1 - j]
                alike = g is right.args[j] and g.known is Part.BACKWARD > max(a.known, b.known)
                if alike and a.shape == b.shape == g.shape == old.shape:
                    return joined("multiply", new[g], joined(old.op, new[a], new[b]))
        return node

    rebuild(step, rule)
