"""How a node is written as NumPy for all steps at once, and what can be so written.

After this file the reader knows what "for all steps at once" means: a value of shape (B, H) at one step is an array of
shape (T, B, H), so every axis of a primitive moves one to the right. A primitive for which that is not possible has no
such text, and is computed step by step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import is_basic
from ..symbolic.explain import is_elementwise as by_elements
from ..symbolic.notation import ATOM, PRODUCT, SIGN, Write, step_text, value_text
from ..symbolic.trace import QUESTIONS, Node
from ..symbolic.values import TInt
from ..tensor import OPS

ELEMENTWISE = {name for name, op in OPS.items() if by_elements(op)} | {*QUESTIONS.values(), "cast", "detach"}
OURS = {name for name in OPS if name in ELEMENTWISE and not hasattr(np, name)} - {"relu"}
REDUCTIONS = {"sum", "mean", "max", "min", "logsumexp"}
AXIS_FREE = {"reshape", "transpose", "broadcast_to", "cumsum", "concatenate", "stack"}
VIEWS = {"getitem", "transpose", "detach"}
RESHAPES = {"reshape", "broadcast_to"}
FRESH = ELEMENTWISE | REDUCTIONS | {"cumsum", "concatenate", "stack", "scatter", "matmul"}  # never a view of an operand

_T = TInt.of(1, 1)


def is_elementwise(node: Node) -> bool:
    """Whether each element of the result depends on one element of each operand."""
    return node.op in ELEMENTWISE


def is_view(node: Node) -> bool:
    """Whether NumPy computes it without touching a number."""
    return node.op in VIEWS and (node.op != "getitem" or is_basic(node.static["index"]))


def seen_through(node: Node) -> Node:
    """What a node is a view of, or the node itself."""
    while is_view(node):
        node = node.args[0]
    return node


def for_all_steps(node: Node) -> bool:
    """Whether a node can be computed for all steps at once."""
    if node.op in ELEMENTWISE | REDUCTIONS | AXIS_FREE:
        return all(np.ndim(v) == 0 for k, v in node.static.items() if k in ("condition", "lo", "hi"))
    if node.op in ("getitem", "scatter"):
        return bool(is_basic(node.static["index"]))
    if node.op == "matmul":
        a, b = node.args
        if a.stepped and b.stepped:
            return a.ndim == 2 >= b.ndim
        return max(a.ndim, b.ndim) < 3 if a.stepped else a.ndim == 2 and b.ndim == 1
    return False


def array_text(kind: str, node: Node, steps: str = "") -> str:
    """A new array ("empty", "zeros") of the form of a node, with an axis of so many steps before its own."""
    shape = f"({', '.join([steps, *map(repr, node.shape)])}{',' * (not node.shape)})" if steps else node.shape
    return f"np.{kind}({shape}, {value_text(node.dtype)})"


def moved(node: Node) -> Node:
    """The same primitive with its axes one further right, behind the axis of the steps."""
    static = dict(node.static)
    rank = node.args[0].ndim if node.args else 0
    if "axis" in static:
        axis = static["axis"]
        static["axis"] = tuple(a + 1 for a in axis) if isinstance(axis, tuple) else axis + 1
    if "shape" in static:
        static["shape"] = (_T, *static["shape"])
    if "axes" in static:
        static["axes"] = (0, *(a + 1 for a in static["axes"]))
    if "index" in static and Ellipsis not in static["index"][:1]:
        static["index"] = (slice(None), *static["index"])
    copy = Node(node.op, node.args, static, value=node.value, keywords=node.keywords)
    if node.op in ("sum", "mean", "max", "min", "logsumexp") and rank == 0:
        copy.op, copy.static = "detach", {}
    return copy


def all_text(node: Node, write: Write) -> tuple[str, int]:
    """NumPy for all steps at once, and how tightly it binds."""

    def rank(x: Any, n: int, level: int) -> str:
        """An operand whose own axes line up with those of a result of rank n."""
        if not isinstance(x, Node) or not x.stepped or x.ndim == n:
            return write(x, level)
        return f"{write(x, ATOM)}[:{', None' * (n - x.ndim)}]"

    def full(x: Node) -> str:
        return write(x, 0) if x.stepped else f"np.broadcast_to({write(x, 0)}, {value_text((_T, *x.shape))})"

    op, args = node.op, node.args
    if is_elementwise(node):
        return step_text(node, lambda x, level: rank(x, node.ndim, level))
    if op == "matmul":
        a, b = args
        if a.stepped and not b.stepped and a.ndim == b.ndim == 2:
            rows = f"{write(a, ATOM)}.reshape(-1, {a.shape[-1]}) @ {write(b, SIGN)}"
            return f"({rows}).reshape({value_text((_T, *node.shape))[1:-1]})", ATOM
        if not a.stepped:
            return f"{write(b, PRODUCT)} @ {write(a, ATOM)}.T", PRODUCT
        if b.stepped and b.ndim == 1:
            return f"({write(a, PRODUCT)} @ {write(b, ATOM)}[..., None])[..., 0]", ATOM
        return step_text(node, write)
    if op == "broadcast_to":
        return f"np.broadcast_to({rank(args[0], node.ndim, 0)}, {value_text((_T, *node.shape))})", ATOM
    if op in ("concatenate", "stack"):
        return f"np.{op}([{', '.join(map(full, args))}], axis={node.static['axis'] + 1})", ATOM
    return step_text(moved(node), write)
