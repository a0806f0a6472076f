"""Which equation may stand for which: a table of identities, from the left-hand side to the right.

After this file the reader knows how the equations of a trace become those that a person would write: a row says that
``a + -b`` is ``a - b``. Some identities hold for certain axes or indices only; they are the functions below the table.
What stands instead has the shape and dtype of what it replaces.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from ..symbolic.trace import Node, chosen, computed
from .text import ELEMENTWISE, REDUCTIONS

Identity = Callable[[Node], Node | None]
"""What stands instead of an equation whose operands are simplified already; None if the identity does not apply."""

OPERATORS: dict[type, str] = {
    **{ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"},
    **{ast.MatMult: "matmul", ast.Pow: "power", ast.USub: "negative"},
}


def simplest(node: Node) -> Node:
    """One equation, simplified; its operands are already."""
    for identity in IDENTITIES.get(node.op, ()):
        instead = identity(node)
        if instead is not None and instead.form == node.form:
            return instead
    return node


def joined(op: str, *args: Node) -> Node:
    """An operation without static parameters."""
    return computed(op, args, {})


def transposed(x: Node) -> Node:
    """All axes reversed."""
    return computed("transpose", (x,), {"axes": tuple(range(x.ndim))[::-1]})


# -- The table: written in Python, ``.T`` for a transpose; what has static parameters keeps those of the left side --

MOVES = ("sum", "mean", "reshape", "broadcast_to", "cast", "transpose", "getitem", "scatter", "total")
"""What changes nothing but where numbers stand, or adds them: of −x it is minus that of x."""

TABLE = {
    "linear(x, W, b)": "x @ W.T + b",
    "affine(x, W, b, h, U, d)": "x @ W.T + h @ U.T + (b + d)",
    **{f"{op}(x)": "x" for op in ("reshape", "broadcast_to", "cast", "detach")},
    **{f"{op}(-x)": f"-{op}(x)" for op in MOVES},
    "reshape(reshape(x))": "reshape(x)",
    **{f"-a {sign} b": f"-(a {sign} b)" for sign in "*/@"},
    **{f"a {sign} -b": f"-(a {sign} b)" for sign in "*/@"},
    "a + -b": "a - b",
    "a - -b": "a + b",
    "-a + b": "b - a",
    "x ** 1": "x",
    "x ** 2": "square(x)",
    **{"x + 0": "x", "0 + x": "x", "x * 1": "x", "1 * x": "x"},
}


def _call(tree: ast.AST) -> tuple[str, list[ast.expr]]:
    """The operation and the operands of a side of a row."""
    if isinstance(tree, ast.BinOp):
        return OPERATORS[type(tree.op)], [tree.left, tree.right]
    if isinstance(tree, ast.UnaryOp):
        return OPERATORS[type(tree.op)], [tree.operand]
    assert isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)
    return tree.func.id, tree.args


def _matches(tree: ast.AST, node: Node, names: dict[str, Node]) -> bool:
    """Whether a node has the form of a left-hand side; enters what its names stand for."""
    if isinstance(tree, ast.Name):
        names[tree.id] = node
        return True
    if isinstance(tree, ast.Constant):
        return _is(node, tree.value)
    op, args = _call(tree)
    return op == node.op and all(_matches(a, b, names) for a, b in zip(args, node.args, strict=True))


def _built(tree: ast.AST, whole: Node, names: dict[str, Node]) -> Node:
    """A right-hand side, simplified, with what its names stand for."""
    if isinstance(tree, ast.Name):
        return names[tree.id]
    if isinstance(tree, ast.Constant):
        return Node("number", value=tree.value)
    if isinstance(tree, ast.Attribute):
        return simplest(transposed(_built(tree.value, whole, names)))
    op, operands = _call(tree)
    args = tuple([_built(a, whole, names) for a in operands])
    if op == "negative":  # not simplified: minus moves outwards, and what is stretched does, too
        return args[0].args[0] if args[0].op == "negative" else joined(op, *args)
    if op == "total":
        return Node(op, args, value=args[0].value)
    return simplest(computed(op, args, whole.static if op == whole.op else {}))


def _is(node: Node, number: Any) -> bool:
    """Whether a node is a constant with this number everywhere."""
    while node.op in ("reshape", "broadcast_to", "cast"):
        (node,) = node.args
    return (
        node.op in ("number", "constant")
        and type(node.value) in (bool, int, float, np.ndarray)
        and bool(np.all(node.value == number))
    )


def _row(left: str, right: str) -> tuple[str, Identity]:
    """A row as an identity, and the operation that it applies to."""
    pattern, instead = (ast.parse(side, mode="eval").body for side in (left, right))

    def identity(node: Node) -> Node | None:
        names: dict[str, Node] = {}
        return _built(instead, node, names) if _matches(pattern, node, names) else None

    return _call(pattern)[0], identity


# -- Identities that hold for certain numbers, axes or indices --


def of_constants(node: Node) -> Node | None:
    """A product of two numbers is a number; what depends on T is none of these."""
    kinds = {a.op if a.op != "number" else type(a.value) for a in node.args}
    constant = not node.shape and {"constant"} < kinds <= {"constant", int, float}
    return Node("constant", value=node.value) if constant else None


def unstretched(node: Node) -> Node | None:
    """An element-wise function of what is stretched is the function, stretched: it may be so for nothing."""
    if node.keywords:
        return None
    args = [_bare(a) for a in node.args]
    wide = [a.dtype for a in args if a.op not in ("number", "constant")]
    for i, arg in enumerate(args):
        if arg.op == "constant" and not arg.shape and arg.dtype == node.dtype in wide:
            value = float(str(arg.value))
            args[i] = Node("number", value=int(value) if value.is_integer() else value)
    if tuple(args) == node.args:
        return None
    small = simplest(computed(node.op, tuple(args), node.static))
    whole = [a.static for a in node.args if a.op == "broadcast_to" and a.shape == node.shape]  # T may be in it
    if small.shape != node.shape:
        small = computed("broadcast_to", (small,), whole[0]) if whole else small
    return simplest(small)


def _bare(node: Node) -> Node:
    """What a stretched array or number was before, if it has a form to be stretched from."""
    while node.op == "broadcast_to" and node.args[0].dtype == node.dtype:
        (node,) = node.args
    return node


def as_product(node: Node) -> Node | None:
    """An einsum that is a matrix product is that product."""
    terms, _, result = node.static["subscripts"].partition("->")
    left, _, right = terms.partition(",")
    shared = set(left) & set(right)
    if len(node.args) == 2 and len(shared) == 1 and max(len(left), len(right)) < 3 and not shared & set(result):
        (k,) = shared
        pairs = [(left, node.args[0]), (right, node.args[1])]
        for (p, a), (q, b) in (pairs, pairs[::-1]):
            if result == p.replace(k, "") + q.replace(k, "") and len(p + q) == len(result) + 2:
                a, b = a if p[-1] == k else transposed(a), b if q[0] == k else transposed(b)
                return simplest(joined("matmul", simplest(a), simplest(b)))
    return None


def of_all_steps(node: Node) -> Node | None:
    """What is stretched over the steps is the same at every t."""
    (x,) = node.args
    stretched = x.op == "broadcast_to" and x.args[0].ndim < x.ndim
    return simplest(computed("broadcast_to", x.args, {"shape": node.shape})) if stretched else None


def into_all_places(node: Node) -> Node | None:
    """What is put among zeros where no zero is left has another shape at most."""
    index = node.static["index"]
    everywhere = all(i is None or i is Ellipsis or (isinstance(i, slice) and i == slice(None)) for i in index)
    return simplest(computed("reshape", node.args, {"shape": node.static["shape"]})) if everywhere else None


def kept_axes(node: Node) -> Node | None:
    """A reduction whose axes are kept, or no longer kept."""
    (x,) = node.args
    return computed(x.op, x.args, x.static | {"keepdims": not x.static["keepdims"]}) if x.op in REDUCTIONS else None


def stretched_number(node: Node) -> Node | None:
    """A number is stretched to any shape at once."""
    (x,) = node.args
    return computed(node.op, x.args, node.static) if x.op == "reshape" and x.args[0].shape == () else None


def with_a_column(node: Node) -> Node | None:
    """A product with a vector that was made a column."""
    (x,) = node.args
    if x.op != "matmul" or x.args[1].op != "reshape" or node.static["index"] != (..., 0):
        return None
    a, (column,) = x.args[0], x.args[1].args
    return joined("matmul", a, column) if a.ndim == 2 and (*column.shape, 1) == x.args[1].shape else None


def axes_in_order(node: Node) -> Node | None:
    """A transpose that changes nothing, or undoes another."""
    (x,), axes = node.args, node.static["axes"]
    if axes == tuple(range(node.ndim)):
        return x
    return x.args[0] if x.op == "transpose" and tuple(np.argsort(x.static["axes"])) == axes else None


def transposed_product(node: Node) -> Node | None:
    """(Σ a b)ᵀ = Σ bᵀ aᵀ, summed over all steps."""
    product = node.args[0].args[0] if node.args[0].op == "total" else node
    if product.op != "matmul" or any(a.ndim != 2 for a in product.args):
        return None
    a, b = (simplest(transposed(x)) for x in product.args)
    whole = joined("matmul", b, a)
    return Node("total", (whole,), value=whole.value)


ALL: list[tuple[str, Identity]] = [
    ("multiply", of_constants),
    *((op, unstretched) for op in sorted(ELEMENTWISE)),
    *(_row(left, right) for left, right in TABLE.items()),
    *(("einsum", as_product), ("at_t", of_all_steps), ("scatter", into_all_places), ("reshape", kept_axes)),
    *(("broadcast_to", stretched_number), ("getitem", with_a_column), ("where", chosen)),
    *(("transpose", axes_in_order), ("transpose", transposed_product)),
]
IDENTITIES = {op: [identity for of, identity in ALL if of == op] for op, _ in ALL}
"""By the operation that they apply to, in the order in which they are tried."""
