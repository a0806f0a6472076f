"""How a node is written: as NumPy for one step, as NumPy for all steps at once, and as mathematics for a comment.

After this file the reader knows what "for all steps at once" means: a value of shape (B, H) at one step is an array of
shape (T, B, H), so every axis of a primitive moves one to the right. A primitive for which that is not possible has no
such text, and is computed step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops import is_basic
from ..tensor import OPS
from .trace import QUESTIONS, Node, TFloat, TInt

COMPARE, SUM, PRODUCT, SIGN, POWER, ATOM = range(6)

INFIX = {
    "add": ("+", SUM),
    "subtract": ("-", SUM),
    "multiply": ("*", PRODUCT),
    "divide": ("/", PRODUCT),
    "matmul": ("@", PRODUCT),
    "power": ("**", POWER),
    "greater": (">", COMPARE),
    "greater_equal": (">=", COMPARE),
    "less": ("<", COMPARE),
    "less_equal": ("<=", COMPARE),
    "equal": ("==", COMPARE),
    "not_equal": ("!=", COMPARE),
}
UFUNCS = {name for name in (*OPS, *QUESTIONS.values()) if isinstance(getattr(np, name, None), np.ufunc)} - {"matmul"}
OURS = {"sigmoid", "softplus", "leaky_relu"}
ELEMENTWISE = UFUNCS | OURS | {"relu", "clip", "where", "cast", "detach"}
REDUCTIONS = {"sum", "mean", "max", "min", "logsumexp"}
AXIS_FREE = {"reshape", "transpose", "broadcast_to", "cumsum", "concatenate", "stack"}
VIEWS = {"getitem", "transpose", "detach"}
RESHAPES = {"reshape", "broadcast_to"}
FRESH = ELEMENTWISE | REDUCTIONS | {"cumsum", "concatenate", "stack", "scatter", "matmul"}  # never a view of an operand

_T = TInt.of(1, "T")

Write = Callable[[Any, int], str]
"""Writes an operand, or an array among the static parameters, in parentheses if it binds less tightly than a level."""


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


def index_text(index: Any, write: Write) -> str:
    """An index as it is typed."""

    def item(x: Any) -> str:
        if isinstance(x, slice):
            start, stop = ("" if v is None else repr(v) for v in (x.start, x.stop))
            return f"{start}:{stop}" + (f":{x.step!r}" if x.step is not None else "")
        return "..." if x is Ellipsis else value_text(x, write)

    return ", ".join(map(item, index)) if index else "()"


def value_text(value: Any, write: Write | None = None) -> str:
    """A static parameter as it is typed; an array by the name that `write` gives it."""
    if isinstance(value, np.ndarray) and write is not None:
        return write(value, 0)
    if isinstance(value, np.dtype):
        return f"np.{value.name}{'_' * (value.kind == 'b')}"
    if isinstance(value, float) and type(value) is float and not np.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, tuple):
        return "(" + ", ".join(value_text(v, write) for v in value) + ("," if len(value) == 1 else "") + ")"
    return "..." if value is Ellipsis else repr(value)


def array_text(kind: str, node: Node, steps: str = "") -> str:
    """A new array ("empty", "zeros") of the form of a node, with an axis of so many steps before its own."""
    shape = f"({', '.join([steps, *map(repr, node.shape)])}{',' * (not node.shape)})" if steps else node.shape
    return f"np.{kind}({shape}, {value_text(node.dtype)})"


def identifier(name: str) -> str:
    """A name that Python accepts."""
    name = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name) or "a"
    return f"_{name}" if name[0].isdigit() else name


def number_level(text: str) -> int:
    """How tightly a number binds as it is written: T - 1, 8 * T, 1 / (3 * T), -2, 5."""
    if " + " in text or " - " in text:
        return SUM
    return PRODUCT if " / " in text or " * " in text else SIGN if text.startswith("-") else ATOM


def in_brackets(text: str, level: int, needed: int) -> str:
    """The text, in parentheses if it binds less tightly than needed."""
    return text if level >= needed else f"({text})"


def step_text(node: Node, write: Write) -> tuple[str, int]:
    """NumPy for one step, and how tightly it binds."""
    op, args, static = node.op, node.args, node.static
    if op in INFIX:
        sign, level = INFIX[op]
        right = level + (op not in ("add", "multiply"))
        left = level + (op in ("power",) or level == COMPARE)
        if op == "multiply" and args[0] is args[1]:
            return _squared(write(args[0], ATOM)), POWER
        return f"{write(args[0], left)} {sign} {write(args[1], right)}", level
    if op == "negative":
        return f"-{write(args[0], PRODUCT)}", SIGN
    if op == "square":
        return _squared(write(args[0], ATOM)), POWER
    if op in ("detach", "kept"):
        return write(args[0], ATOM), ATOM
    if op == "cast":
        return f"{write(args[0], ATOM)}.astype({value_text(static['dtype'])})", ATOM
    if op == "getitem":
        return f"{write(args[0], ATOM)}[{index_text(static['index'], write)}]", ATOM
    if op == "transpose" and static["axes"] == tuple(range(node.ndim))[::-1]:
        return f"{write(args[0], ATOM)}.T", ATOM
    if op == "broadcast_to" and not args[0].shape and args[0].op in ("number", "constant"):
        text = write(args[0], 0) if args[0].op == "number" else str(args[0].value)
        shape = value_text(static["shape"])
        filled = {"0.0": f"zeros({shape}", "1.0": f"ones({shape}"}.get(text) or f"full({shape}, {text}"
        return f"np.{filled}, {value_text(node.dtype)})", ATOM
    if op == "relu":
        return f"np.maximum({write(args[0], 0)}, 0.0)", ATOM
    if op == "where":
        a, b, *condition = [write(x, 0) for x in args]
        return f"np.where({condition[0] if condition else value_text(static['condition'], write)}, {a}, {b})", ATOM
    if op in ("concatenate", "stack"):
        return f"np.{op}([{', '.join(write(x, 0) for x in args)}], axis={static['axis']})", ATOM
    if op == "einsum":
        return f'np.einsum("{static["subscripts"]}", {", ".join(write(x, 0) for x in args)})', ATOM
    if op in ("sum", "mean", "max", "min"):
        axes = static["axis"]
        axis = "" if axes == tuple(range(args[0].ndim)) else f", axis={axes[0] if len(axes) == 1 else axes}"
        keep = ", keepdims=True" if static["keepdims"] else ""
        return f"np.{op}({write(args[0], 0)}{axis}{keep})", ATOM
    if op in UFUNCS | {"reshape", "transpose", "broadcast_to", "cumsum", "clip"}:
        rest = [value_text(v, write) for v in static.values()]
        return f"np.{op}({', '.join([*(write(x, 0) for x in args), *rest])})", ATOM
    options = [f"{k}={value_text(v, write)}" for k, v in static.items()]
    options += [f"{k}={write(x, 0)}" for k, x in node.traced.items()]
    return f"{identifier(op)}({', '.join([*(write(x, 0) for x in node.operands), *options])})", ATOM


def _squared(text: str) -> str:
    """A square, spaced as formatters space it."""
    return f"{text}**2" if text.isidentifier() else f"{text} ** 2"


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

    def rank(x: Node, n: int, level: int) -> str:
        """An operand whose own axes line up with those of a result of rank n."""
        if not x.stepped or x.ndim == n:
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


_SIGNS = {"subtract": "−", "multiply": "×", "matmul": "@", "power": "^"}


def math_text(node: Node, write: Write) -> tuple[str, int]:
    """Mathematics, for the comment beside the code."""
    op, args = node.op, node.args
    if op == "number":
        text = repr(node.value) if type(node.value) in (TInt, TFloat) else f"{float(node.value):g}"
        return f"−{text[1:]}" if text[0] == "-" else text, number_level(text)
    if (op == "multiply" and args[0] is args[1]) or op == "square":
        return f"{write(args[0], ATOM)}²", POWER
    if op == "where":
        a, b, *condition = (write(x, 0) for x in args)
        return f"where({', '.join([*(condition or ['const']), a, b])})", ATOM
    if op == "concatenate":
        return f"[{', '.join(write(x, 0) for x in args)}]", ATOM
    if op in ("reshape", "broadcast_to", "cast", "detach"):
        return write(args[0], 0), ATOM
    if op == "transpose":
        text = write(args[0], ATOM)
        return text[:-1] if text.endswith("ᵀ") else f"{text}ᵀ", ATOM
    if op == "total":
        return f"Σₜ {write(args[0], PRODUCT)}", PRODUCT
    if op == "sigmoid":
        return f"σ({write(args[0], 0)})", ATOM
    if op == "sum":
        return f"Σ {write(args[0], PRODUCT)}", PRODUCT
    if op == "negative":
        return f"−{write(args[0], PRODUCT)}", SIGN
    if op in _SIGNS:
        level = INFIX[op][1]
        mixed = [level + ("matmul" in (op, a.op) and op != a.op) for a in args]  # a × b @ c would be read in two ways
        left, right = write(args[0], mixed[0]), write(args[1], max(mixed[1], level + (op not in ("add", "multiply"))))
        return f"{left} {_SIGNS[op]} {right}", level
    if op in INFIX:
        return step_text(node, write)
    if op == "getitem":
        return write(args[0], ATOM) + f"[{index_text(node.static['index'], write)}]", ATOM
    symbol = OPS[op].symbol if op in OPS and OPS[op].symbol.isalpha() else op
    return f"{symbol}({', '.join(write(a, 0) for a in args)})", ATOM
