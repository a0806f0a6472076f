"""What a primitive and its rules compute, as formulas: on the edges of pictures, and in ``help``.

After this file the reader knows why no formula is typed: the forward function and the rules are called with traced
names in place of arrays, and what was traced is written as mathematics. Nothing is said twice, so nothing can disagree.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .notation import ATOM, in_brackets, math_text
from .trace import Node, Trace, Tracer

if TYPE_CHECKING:
    from ..primitive import Primitive

LONGEST = 2000
"""Characters of a formula."""
_INVISIBLE = {"reshape", "getitem", "broadcast_to", "cast", "detach"}  # they move numbers and do not change them


def placeholders(shapes: dict[str, tuple[int, ...]]) -> list[Tracer]:
    """What a function is called with to write itself down: a name with a shape each, all of one trace."""
    trace = Trace("a formula", "has no name in it")
    trace.line = "a formula"
    return [trace.leaf("input", _ones(shape), name) for name, shape in shapes.items()]


_ones = lru_cache(lambda shape: np.broadcast_to(1.0, shape))  # few shapes, again and again, while we are imported


def mathematics(value: Any, level: int = 0, written: dict[int, tuple[str, int]] | None = None) -> str:
    """A traced value as mathematics; a number as its digits, an array as an anonymous constant.

    What is used several times stands in `written`, and what is too long to be read is left out: a formula
    that doubles with each step of a loop would have no end.
    """
    node = value.node if isinstance(value, Tracer) else value if isinstance(value, Node) else None
    if node is None:
        node = Node("number" if np.ndim(value) == 0 else "constant", value=value)
    while node.op in _INVISIBLE:
        node = node.args[0]
    if not node.args and node.op != "number":
        return node.name or "const"
    written = {} if written is None else written
    found = written.get(id(node)) or math_text(node, partial(mathematics, written=written))
    if len(found[0]) > LONGEST:
        found = "...", ATOM
    if node.args:  # others are made for the moment
        written[id(node)] = found
    return in_brackets(*found, level)


def formula(
    op: Primitive, operand: int, arrays: Sequence[Any], result_shape: tuple[int, ...], static: dict[str, Any] | None
) -> str:
    """What the rule of one operand computes, in g (what arrives), y (the result) and the operands.

    Parameters
    ----------
    op : Primitive
    operand : int
        Whose rule.
    arrays : sequence of arrays and numbers
        The operands; only their shapes are used, and the values of plain numbers.
    result_shape : tuple of int
    static : dict, optional
        The primitive's static parameters; None writes their names.

    Returns
    -------
    str
        Such as ``g × (1 − y²)``, with ``, Σ over (0,)`` where broadcasting is undone; a phrase for structural
        primitives.
    """
    own = np.shape(arrays[operand])
    if op.phrase:
        shape = result_shape if op.name == "broadcast_to" else own
        try:
            text = op.phrase.format(**(static or {}))
        except Exception:  # braces of another kind
            text = op.phrase
    else:
        operands = [f"x{i}" for i in range(len(arrays))] if op.nary else op.operand_names
        shapes = {name: np.shape(a) for name, a in zip(operands, arrays, strict=True)}
        named = static_names(op) if static is None else []
        g, y, *traced = placeholders({"g": result_shape, "y": result_shape} | shapes | dict.fromkeys(named, ()))
        plain = [a if isinstance(a, (int, float)) else x for a, x in zip(arrays, traced, strict=False)]
        options = static or dict(zip(named, traced[len(arrays) :], strict=True))
        try:
            result = op.rules[operand](g, y, *plain, **options)
            text, shape = mathematics(result), getattr(result, "shape", ())
        except Exception:  # a rule that does more than can be traced is no reason to draw nothing
            return f"rule {operand} of {op.name}"
    lead = len(shape) - len(own)
    axes = (*range(lead), *[lead + i for i, n in enumerate(own) if n == 1 and shape[lead + i] != 1])
    return text + (f", Σ over {axes}" if axes else "")


def explain_primitive(op: Primitive) -> str:
    """The value of a primitive, the derivative in each operand, and the shapes: the text of ``help(op)``."""
    parameters = op.__signature__.parameters.values()
    call = f"{op.name}({', '.join([str(p.replace(annotation=p.empty)) for p in parameters])})"
    heading = "Derivatives of a loss L, where g = dL/dy"
    if op.nary or op.phrase:
        phrase = re.sub(r"[{}]", "`", op.phrase) or "what its rule says"
        return f"{call}\n\n{heading}: each operand receives {phrase}."
    *shapes, result = shapes_of(op)
    static, count = static_names(op), len(shapes)
    traced = placeholders(dict(zip(op.operand_names, shapes, strict=True)) | dict.fromkeys(static, ()))
    value = call
    try:
        computed = op.forward(*traced[:count], **dict(zip(static, traced[count:], strict=True)))
        value = mathematics(computed) if computed.shape == result else call
    except Exception:  # a function that does more than can be traced is called by its name
        pass
    ones = [np.broadcast_to(1.0, shape) for shape in shapes]
    rules = [f"    dL/d{name} = {formula(op, i, ones, result, None)}" for i, name in enumerate(op.operand_names)]
    of = f", of shapes {op.shapes}" if op.shapes else ", elementwise" if is_elementwise(op) else ""
    return "\n".join([f"{call}: y = {value}{of}.", "", f"{heading}:", "", *rules])


def static_names(op: Primitive) -> list[str]:
    """The static parameters, as its rules call them."""
    return [p.name for p in op.__signature__.parameters.values() if p.kind is p.KEYWORD_ONLY]


def is_elementwise(op: Primitive) -> bool:
    """Whether it is certain that each element is computed on its own: of functions of NumPy, Python and our own."""
    ours = getattr(op.forward, "__module__", "") == "tinygrad_rnn.ops"
    known = ours or isinstance(op.forward, np.ufunc) or op.forward in vars(operator).values()
    return known and not (op.nary or op.phrase or op.shapes)


def shapes_of(op: Primitive) -> list[tuple[int, ...]]:
    """A shape for each operand and for the result, in which each letter of ``op.shapes`` has a size of its own."""
    if not op.shapes:
        return [()] * (len(op.operand_names) + 1)
    sizes: dict[str, tuple[int, ...]] = {"...": (2, 3)}
    groups = [re.findall(r"\w+|\.\.\.", group) for group in re.findall(r"\(([^)]*)\)", op.shapes)]
    return [sum([sizes.setdefault(axis, (4 + len(sizes),)) for axis in group], ()) for group in groups]
