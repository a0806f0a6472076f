"""How a node is written: as NumPy for one step, and as mathematics.

After this file the reader knows that a derived program, the comment beside each of its lines, the formula on an edge
and the text of ``help`` are the same traced nodes, written by one of two functions. Both share one table of operators.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

import numpy as np

from ..tensor import OPS
from .trace import QUESTIONS, Node, chosen
from .values import TFloat, TInt, identifier

CHOICE, OR, AND, COMPARE, SUM, PRODUCT, SIGN, POWER, ATOM = range(9)
"""How tightly an operator binds its operands: "a where c, else b" least, a name or a call most."""

INFIX = {
    "logical_or": ("", "or", OR),
    "logical_and": ("", "and", AND),
    "greater": (">", ">", COMPARE),
    "greater_equal": (">=", "≥", COMPARE),
    "less": ("<", "<", COMPARE),
    "less_equal": ("<=", "≤", COMPARE),
    "equal": ("==", "=", COMPARE),
    "not_equal": ("!=", "≠", COMPARE),
    "add": ("+", "+", SUM),
    "subtract": ("-", "−", SUM),
    "multiply": ("*", "×", PRODUCT),
    "divide": ("/", "/", PRODUCT),
    "matmul": ("@", "@", PRODUCT),
    "power": ("**", "^", POWER),
}
"""Operators as NumPy and as mathematics write them, and how tightly they bind; the first two are functions in NumPy."""

UFUNCS = {name for name in (*OPS, *QUESTIONS.values()) if isinstance(getattr(np, name, None), np.ufunc)}
UFUNCS -= {"matmul"}

Write = Callable[[Any, int], str]
"""Writes an operand, in parentheses if it binds less tightly than a level; or names what cannot be typed: an array or
object among the static parameters, or a primitive that NumPy does not have, given by its name."""


def index_text(index: Any, write: Write) -> str:
    """An index as it is typed."""

    def item(x: Any) -> str:
        if type(x) is slice:
            start, stop, step = ("" if v is None else value_text(v, write) for v in (x.start, x.stop, x.step))
            return f"{start}:{stop}" + (f":{step}" if step else "")
        return value_text(x, write)

    return ", ".join(map(item, index)) if index else "()"


def value_text(value: Any, write: Write | None = None) -> str:
    """A static parameter as it is typed; what is no plain number or text by the name that `write` gives it.

    What an object says of itself is never asked for: its ``repr`` may be any code.
    """
    if type(value) in (TInt, TFloat):
        return repr(value)
    if type(value) is float and not np.isfinite(value):
        return f'float("{value}")'
    if type(value) in (bool, int, float, bytes, type(None)):
        return repr(value)
    if type(value) is str:
        return quoted(value)
    if type(value) is tuple:
        return "(" + ", ".join(value_text(v, write) for v in value) + ("," if len(value) == 1 else "") + ")"
    if type(value) is slice:
        return f"slice({', '.join(value_text(v, write) for v in (value.start, value.stop, value.step))})"
    if isinstance(value, np.dtype) and value.kind in "biuf":
        return f"np.{value.name}{'_' * (value.kind == 'b')}"
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return f"{value_text(value.dtype)}({value_text(value.item())})"
    if value is Ellipsis:
        return "..."
    if write is None:
        raise TypeError(f"a {type(value).__name__} cannot be typed")
    return write(value, 0)


def quoted(text: str) -> str:
    """Text from outside as data, in ASCII, whatever class of text it is."""
    typed = ascii(str.__str__(text))
    return typed if '"' in typed else f'"{typed[1:-1]}"'


def number_level(text: str) -> int:
    """How tightly a number binds as it is written: T - 1, 8 * T, 1 / (3 * T), -2, 5."""
    if " + " in text or " - " in text:
        return SUM
    return PRODUCT if " / " in text or " * " in text else SIGN if text.startswith("-") else ATOM


def in_brackets(text: str, level: int, needed: int) -> str:
    """The text, in parentheses if it binds less tightly than needed."""
    return text if level >= needed else f"({text})"


def infix(node: Node, write: Write, mathematics: bool) -> tuple[str, int]:
    """An operator between its two operands."""
    *signs, level = INFIX[node.op]
    # NumPy computes from left to right: a + (b + c), where b + c is known before, keeps its brackets there.
    free = mathematics and node.op in ("add", "multiply")
    levels = [level + (node.op == "power" or level == COMPARE), level + (not free)]
    if mathematics and level == PRODUCT:  # a × b @ c would be read in two ways
        mixed = [("matmul" in (node.op, a.op)) and node.op != a.op for a in node.args]
        levels = [max(own, level + other) for own, other in zip(levels, mixed, strict=True)]
    left, right = map(write, node.args, levels)
    return f"{left} {signs[mathematics]} {right}", level


def step_text(node: Node, write: Write) -> tuple[str, int]:
    """NumPy for one step, and how tightly it binds."""
    op, args, static = node.op, node.args, node.static
    if op == "square" or (op == "multiply" and args[0] is args[1]):
        return _squared(write(args[0], ATOM)), POWER
    if INFIX.get(op, ("",))[0]:
        return infix(node, write, False)
    if op == "negative":
        return f"-{write(args[0], PRODUCT)}", SIGN
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
        return f"np.einsum({', '.join([value_text(static['subscripts'], write), *(write(x, 0) for x in args)])})", ATOM
    if op in ("sum", "mean", "max", "min"):
        axes = static["axis"]
        axis = "" if axes == tuple(range(args[0].ndim)) else f", axis={axes[0] if len(axes) == 1 else axes}"
        keep = ", keepdims=True" if static["keepdims"] else ""
        return f"np.{op}({write(args[0], 0)}{axis}{keep})", ATOM
    if op in UFUNCS | {"reshape", "transpose", "broadcast_to", "cumsum", "clip"}:
        rest = [value_text(v, write) for v in static.values()]
        return f"np.{op}({', '.join([*(write(x, 0) for x in args), *rest])})", ATOM
    options = {k: value_text(v, write) for k, v in static.items()} | {k: write(x, 0) for k, x in node.traced.items()}
    given = [
        f"{k}={v}" if identifier(k, "?") == k and k not in keyword.kwlist else f"**{{{k!a}: {v}}}"
        for k, v in options.items()
    ]
    return f"{write(op, 0)}({', '.join([*(write(x, 0) for x in node.operands), *given])})", ATOM


def _squared(text: str) -> str:
    """A square, spaced as formatters space it."""
    return f"{text}**2" if text.isidentifier() else f"{text} ** 2"


def math_text(node: Node, write: Write) -> tuple[str, int]:
    """Mathematics, and how tightly it binds."""
    op, args = node.op, node.args
    if op == "number":
        text = repr(node.value) if type(node.value) in (TInt, TFloat) else f"{float(node.value):g}"
        return text.replace("-", "−"), number_level(text)
    if op == "square" or (op == "multiply" and args[0] is args[1]):
        return f"{write(args[0], ATOM)}²", POWER
    if op == "where":
        if (certain := chosen(node)) is not None:
            return write(certain, ATOM), ATOM
        a, b, *condition = (write(x, CHOICE) for x in args)
        return f"{a} where {condition[0] if condition else 'condition'}, else {b}", CHOICE
    if op == "concatenate":
        return f"[{', '.join(write(x, CHOICE) for x in args)}]", ATOM
    if op in ("reshape", "broadcast_to", "cast", "detach"):
        return write(args[0], CHOICE), ATOM
    if op == "transpose":
        text = write(args[0], ATOM)
        return text[:-1] if text.endswith("ᵀ") else f"{text}ᵀ", ATOM
    if op in ("sum", "total"):
        return f"Σ{'ₜ' * (op == 'total')} {write(args[0], PRODUCT)}", PRODUCT
    if op == "negative":
        return f"−{write(args[0], PRODUCT)}", SIGN
    if op in INFIX:
        return infix(node, write, True)
    if op == "getitem":
        return write(args[0], ATOM) + f"[{index_text(node.static['index'], write)}]", ATOM
    symbol = OPS[op].symbol if op in OPS and OPS[op].symbol.isalpha() else identifier(op, "f")
    return f"{symbol}({', '.join(write(a, CHOICE) for a in args)})", ATOM
