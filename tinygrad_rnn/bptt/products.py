"""Rewrites of matrix products: few large ones where a cell writes many small ones.

After this file the reader knows that a gate of its own, ``[h, x] Wᵀ``, costs no more than a slice of all gates: what is
joined only to be multiplied is multiplied in parts, and products of one array with several weights are one product
with the weights side by side.
"""

from __future__ import annotations

from .gates import cut_of, take
from .rewrites import Known, joined, rebuild, replace, terms_of, users_of, whole_sums
from .step import Step, topological
from .trace import Node, computed


def split(step: Step) -> None:
    """[a, b] W is a W₁ + b W₂, so that the part of the input can be computed before the loop."""
    known = Known()

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if node.op == "matmul" and known(old) < 3:
            whole, W = node.args
            if whole.op == "concatenate" and whole.static["axis"] == whole.ndim - 1 and W.ndim == 2 and known(W) == 0:
                at, products = 0, []
                for part in whole.args:
                    products.append(joined("matmul", part, _rows(W, at, at + part.shape[-1])))
                    at += part.shape[-1]
                return _sum(products)
        if node.op == "getitem":
            terms = terms_of(node.args[0], "add", {})
            cut = cut_of(node.static["index"], node.args[0].shape)
            if cut and cut[0] == node.ndim - 1 and all(_is_product(t, known) for t in terms):
                return _sum([joined("matmul", t.args[0], take(t.args[1], *cut[1:])) for t in terms])
        return node

    rebuild(step, rule)


def _sum(terms: list[Node]) -> Node:
    total = terms[0]
    for term in terms[1:]:
        total = joined("add", total, term)
    return total


def _rows(W: Node, start: int, stop: int) -> Node:
    """Rows of a weight; of a transposed one the columns, transposed."""
    if W.op == "transpose":
        return computed("transpose", (take(W.args[0], start, stop),), {"axes": (1, 0)})
    return computed("getitem", (W,), {"index": (slice(start, stop),)})


def _is_product(node: Node, known: Known) -> bool:
    """Whether a node is what changes from step to step, times a weight."""
    return node.op == "matmul" and node.args[1].ndim == 2 and known(node.args[1]) == 0 < known(node.args[0])


def join(step: Step) -> None:
    """Products of one array with several weights are one product with the weights side by side.

    On the way back their sum, Σ dzₖ Wₖ, is one product of the cotangents side by side, [dz₁ dz₂ ...], with the weights
    on top of one another.
    """
    known = Known()
    forward = set(topological(s.root for s in step.states))
    found: dict[Node, list[Node]] = {}
    for node in step.order():
        if node in forward and _is_product(node, known):
            found.setdefault(node.args[0], []).append(node)
    new: dict[Node, Node] = {}
    for array, products in found.items():
        if len(products) > 1:
            weights = _beside([p.args[1] for p in products])
            whole, at = joined("matmul", array, weights), 0
            for product in products:
                new[product] = take(whole, at, at + product.shape[-1])
                at += product.shape[-1]
    replace(step, new)
    _join_sums(step)


def _beside(weights: list[Node]) -> Node:
    if all(W.op == "transpose" for W in weights):
        return computed(
            "transpose", (computed("concatenate", tuple(W.args[0] for W in weights), {"axis": 0}),), {"axes": (1, 0)}
        )
    return computed("concatenate", tuple(weights), {"axis": 1})


def _join_sums(step: Step) -> None:
    known, users = Known(), users_of(step)
    sums = whole_sums(users)
    place = {node: i for i, node in enumerate(topological([*step.traced, *step.roots()]))}

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if old not in sums or old.ndim > 2:
            return node
        terms = terms_of(old, "add", users)
        products = [
            t for t in terms if known(t) == 4 and _is_product(t, known) and users.get(t, 2) < 2 and t.shape == old.shape
        ]
        if len(products) < 2:
            return node
        products.sort(key=lambda p: place[p.args[1]])  # as forwards, so that it is the same weight
        pairs = [(new[p.args[0]], new[p.args[1]]) for p in products]
        left = computed("concatenate", tuple(a for a, _ in pairs), {"axis": old.ndim - 1})
        right = computed("concatenate", tuple(W for _, W in pairs), {"axis": 0})
        return _sum([*(new[t] for t in terms if t not in products), joined("matmul", left, right)])

    rebuild(step, rule)


def factor(step: Step) -> None:
    """g a + g b is g (a + b) where a and b are known before g, as are the slopes of two ways into one gate."""
    users, known = users_of(step), Known()

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if old.op not in ("add", "subtract") or any(
            a.op != "multiply" or users.get(a, 2) > 1 or known(a) != 4 for a in old.args
        ):
            return node
        left, right = old.args
        for i in (0, 1):
            for j in (0, 1):
                g, a, b = left.args[i], left.args[1 - i], right.args[1 - j]
                alike = g is right.args[j] and known(g) == 4 > max(known(a), known(b))
                if alike and a.shape == b.shape == g.shape == old.shape:
                    return joined("multiply", new[g], joined(old.op, new[a], new[b]))
        return node

    rebuild(step, rule)
