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
from .step import Step, static_key, topological
from .text import REDUCTIONS, is_elementwise
from .trace import Node, Part, TFloat, computed

MOVES = {"sum", "mean", "reshape", "broadcast_to", "cast", "transpose", "getitem", "scatter"}
"""What changes nothing but where numbers stand, or adds them: of −x it is minus that of x."""

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


def _transposed(x: Node) -> Node:
    return computed("transpose", (x,), {"axes": tuple(range(x.ndim))[::-1]})


def joined(op: str, *args: Node) -> Node:
    """An operation without static parameters."""
    return computed(op, args, {})


def simplify(step: Step) -> None:
    """Equations without those that change nothing, and affine maps as the products and sums that they are."""
    rebuild(step, lambda node, old, new: simplest(node))
    remember(step)


def remember(step: Step) -> None:
    """From now on the comments say of each equation what it is now."""
    for node in topological([*step.traced, *step.roots()]):
        node.origins = (node,)


def simplest(node: Node) -> Node:
    """One equation, simplified; its operands are already."""
    op, args, static = node.op, node.args, node.static
    if op == "linear":
        x, W, b = args
        return simplest(joined("add", joined("matmul", x, _transposed(W)), b))
    if op == "affine":
        x, W, b, h, U, d = args
        products = joined("add", joined("matmul", x, _transposed(W)), joined("matmul", h, _transposed(U)))
        return simplest(joined("add", products, simplest(joined("add", b, d))))
    if op == "einsum":
        return _as_product(node)
    if not args:
        return node
    if is_elementwise(node) and not node.keywords:
        kinds = {a.op if a.op != "number" else type(a.value) for a in args}  # what depends on T is none of these
        if op == "multiply" and not node.shape and {"constant"} < kinds <= {"constant", int, float}:
            return Node("constant", value=node.value)
        bare = _unstretched(node)
        if bare is not node:
            return simplest(bare)
    first = args[0]
    same = first.form == node.form
    if same and op in ("reshape", "broadcast_to", "cast", "detach"):
        return first
    if op in MOVES and first.op == "negative":
        return _negative(simplest(computed(op, first.args, static)))
    if op == "at_t" and first.op == "broadcast_to" and first.args[0].ndim < first.ndim:  # the same at every t
        return simplest(computed("broadcast_to", first.args, {"shape": node.shape}))
    if op == "total" and first.op == "negative":
        return _negative(Node(op, first.args, value=first.args[0].value))
    if op == "scatter" and all(
        i is None or i is Ellipsis or (isinstance(i, slice) and i == slice(None)) for i in static["index"]
    ):
        return simplest(computed("reshape", args, {"shape": static["shape"]}))
    if op == "reshape" and first.op in REDUCTIONS:
        other = computed(first.op, first.args, first.static | {"keepdims": not first.static["keepdims"]})
        return other if other.shape == node.shape else node
    if same and op == "sum" and static["axis"] == ():
        return first
    if op == "reshape" and first.op == "reshape":
        return simplest(computed("reshape", first.args, static))
    if op == "broadcast_to" and first.op == "reshape" and first.args[0].shape == ():
        return computed("broadcast_to", first.args, static)
    if op == "getitem" and first.op == "matmul" and first.args[1].op == "reshape" and static["index"] == (..., 0):
        a, (column,) = first.args[0], first.args[1].args
        if a.ndim == 2 and (*column.shape, 1) == first.args[1].shape:  # a vector that was made a column
            return joined("matmul", a, column)
    if op == "transpose":
        if static["axes"] == tuple(range(node.ndim)):
            return first
        if first.op == "transpose" and tuple(np.argsort(first.static["axes"])) == static["axes"]:
            return first.args[0]
        if first.op == "total" and first.args[0].op == "matmul" and node.ndim == 2:  # (Σ a b)ᵀ = Σ bᵀ aᵀ
            a, b = first.args[0].args
            product = joined("matmul", simplest(_transposed(b)), simplest(_transposed(a)))
            return Node("total", (product,), value=product.value)
    return _arithmetic(node, same)


def _arithmetic(node: Node, same: bool) -> Node:
    """A sum, product, power or choice, simplified; `same` says whether its first operand has its form."""
    op, args = node.op, node.args
    first = args[0]
    if op in ("multiply", "divide", "matmul") and "negative" in (first.op, args[1].op):
        left, right = (a.args[0] if a.op == "negative" else a for a in args)
        product = simplest(joined(op, left, right))
        return product if first.op == args[1].op else _negative(product)
    if op in ("add", "subtract") and args[1].op == "negative":
        return simplest(joined("subtract" if op == "add" else "add", first, args[1].args[0]))
    if op == "add" and first.op == "negative":
        return simplest(joined("subtract", args[1], first.args[0]))
    if op == "power" and args[1].op == "number":
        if args[1].value == 1 and same:
            return first
        if args[1].value == 2:
            return computed("square", (first,), {})
    if op == "logical_and" and any(_is(a, False) for a in args):
        return Node("number", value=False)
    if op == "where" and node.keywords and args[2].op == "number":
        chosen = args[0] if args[2].value else args[1]
        return chosen if chosen.form == node.form else node
    if op in ("add", "multiply"):
        for one, other in (args, args[::-1]):
            unit = 0 if op == "add" else 1
            if one.form == node.form and _is(other, unit):
                return one
    return node


def _negative(node: Node) -> Node:
    return node.args[0] if node.op == "negative" else joined("negative", node)


def _bare(node: Node) -> Node:
    """What a stretched array or number was before, if it has a form to be stretched from."""
    while node.op == "broadcast_to" and node.args[0].dtype == node.dtype:
        (node,) = node.args
    return node


def _unstretched(node: Node) -> Node:
    """An element-wise function of what is stretched as the function, stretched: it may be so for nothing."""
    args = [_bare(a) for a in node.args]
    wide = [a.dtype for a in args if a.op not in ("number", "constant")]
    for i, arg in enumerate(args):
        if arg.op == "constant" and not arg.shape and arg.dtype == node.dtype in wide:
            value = float(str(arg.value))
            args[i] = Node("number", value=int(value) if value.is_integer() else value)
    if tuple(args) == node.args:
        return node
    small = simplest(computed(node.op, tuple(args), node.static))
    whole = [a.static for a in node.args if a.op == "broadcast_to" and a.shape == node.shape]  # T may be in it
    if small.shape == node.shape:
        return small
    return computed("broadcast_to", (small,), whole[0]) if whole else node


def _as_product(node: Node) -> Node:
    """An einsum that is a matrix product as that product."""
    terms, _, result = node.static["subscripts"].partition("->")
    left, _, right = terms.partition(",")
    shared = set(left) & set(right)
    if len(node.args) == 2 and len(shared) == 1 and max(len(left), len(right)) < 3 and not shared & set(result):
        (k,) = shared
        for (p, a), (q, b) in (
            zip((left, right), node.args, strict=True),
            zip((right, left), node.args[::-1], strict=True),
        ):
            if result == p.replace(k, "") + q.replace(k, "") and len(p + q) == len(result) + 2:
                a, b = a if p[-1] == k else _transposed(a), b if q[0] == k else _transposed(b)
                return simplest(joined("matmul", simplest(a), simplest(b)))
    return node


def _is(node: Node, number: float) -> bool:
    """Whether a node is a constant with this number everywhere."""
    while node.op in ("reshape", "broadcast_to", "cast"):
        (node,) = node.args
    return (
        node.op in ("number", "constant")
        and type(node.value) in (bool, int, float, np.ndarray)
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
        return _transposed(beside([a.args[0] for a in parts], 1 - axis))
    return computed("concatenate", tuple(parts), {"axis": axis})


def _folded(factors: list[Node]) -> list[Node]:
    """Factors with all numbers among them as one."""
    numbers = [f.value for f in factors if f.op == "number"]
    plain = [n for n in numbers if type(n) in (int, float)]
    varying = [n for n in numbers if type(n) is TFloat and n.text.startswith("1 / ")]
    if len(plain) + len(varying) != len(numbers) or len(varying) > 1 or len(numbers) < 2:
        return factors
    product = float(np.prod(plain)) if plain else 1.0
    text = f"{product:.17g}" if product != int(product) else str(int(product))
    one = TFloat.of(product * varying[0], f"{text}{varying[0].text[1:]}") if varying else product
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
