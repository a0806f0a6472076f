"""The formula of a derivative, read off the rule itself.

After this file the reader knows why a rule is written only with operators and primitives: call it with a `Symbol`,
which prints what is done to it, and the rule writes its own formula. Nothing is typed a second time, so nothing can
disagree.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ..tensor import NUMPY, OPS, Primitive

SUM, PRODUCT, SIGN, POWER, ATOM = range(5)
_INFIX = {
    "add": ("+", SUM),
    "subtract": ("−", SUM),
    "multiply": ("×", PRODUCT),
    "divide": ("/", PRODUCT),
    "matmul": ("@", PRODUCT),
    "power": ("^", POWER),
}
_INVISIBLE = {"reshape", "getitem", "broadcast_to", "cast"}  # they move numbers and do not change them


class Symbol:
    """A name with a shape that answers operators and primitives by writing down what they would compute.

    Parameters
    ----------
    text : str
    shape : tuple of int
    level : int
        How tightly the outermost operator binds, so that parentheses appear only where they are needed.
    """

    __slots__ = ("level", "shape", "text")

    def __init__(self, text: str, shape: tuple[int, ...], level: int = ATOM) -> None:
        self.text, self.shape, self.level = text, shape, level

    ndim = property(lambda self: len(self.shape))
    T = property(lambda self: OPS["transpose"](self, axes=tuple(range(self.ndim))[::-1]))

    def at(self, level: int) -> str:
        """The text, in parentheses if it binds less tightly than its surroundings."""
        return self.text if self.level >= level else f"({self.text})"

    def __primitive__(self, op: Primitive, operands: tuple[Any, ...], static: dict[str, Any]) -> Symbol:
        parts = [as_symbol(x) for x in operands]
        ones = [np.broadcast_to(1.0, p.shape) for p in parts]
        plain = {k: np.broadcast_to(True, v.shape) if isinstance(v, Symbol) else v for k, v in static.items()}
        with np.errstate(all="ignore"):
            shape = np.shape(op.forward(*ones, **plain))
        if op.name in _INVISIBLE:
            return Symbol(parts[0].text, shape, parts[0].level)
        if op.name == "transpose":
            return Symbol(parts[0].at(ATOM) + "ᵀ", shape)
        if op.name == "negative":
            return Symbol("−" + parts[0].at(PRODUCT), shape, SIGN)
        if op.name == "where":
            chosen = static["condition"]
            if not isinstance(chosen, Symbol) and np.ndim(chosen) == 0:  # decided by plain numbers
                return parts[0] if chosen else parts[1]
            condition = chosen.text if isinstance(chosen, Symbol) else "condition"
            return Symbol(f"{parts[0].text} where {condition}, else {parts[1].text}", shape, SUM)
        if op.name == "multiply" and parts[0].text == parts[1].text:
            return Symbol(parts[0].at(ATOM) + "²", shape, POWER)
        if op.name in _INFIX:
            sign, level = _INFIX[op.name]
            tighter = level + (op.name in ("subtract", "divide", "power", "matmul"))
            return Symbol(f"{parts[0].at(level)} {sign} {parts[1].at(tighter)}", shape, level)
        return Symbol(f"{op.name}({', '.join(p.text for p in parts)})", shape)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return NUMPY[function](*args, **options)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any) -> Any:
        return NUMPY[ufunc](*inputs)

    def _compare(self, sign: str, other: Any) -> Symbol:
        other = as_symbol(other)
        return Symbol(f"{self.text} {sign} {other.text}", np.broadcast_shapes(self.shape, other.shape), SUM)

    def __eq__(self, other: object) -> Any:
        return self._compare("=", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("≠", other)

    def __gt__(self, other: Any) -> Symbol:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Symbol:
        return self._compare("≥", other)

    def __lt__(self, other: Any) -> Symbol:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Symbol:
        return self._compare("≤", other)

    def __and__(self, other: Any) -> Any:
        return self._compare("and", other) if isinstance(other, Symbol) else other and self

    __rand__ = __and__

    def __or__(self, other: Any) -> Any:
        return self._compare("or", other) if isinstance(other, Symbol) else other or self

    __ror__ = __or__

    __hash__ = object.__hash__

    def __neg__(self) -> Any:
        return OPS["negative"](self)

    def __getitem__(self, index: Any) -> Any:
        return OPS["getitem"](self, index=index)


def _operator(name: str, swapped: bool) -> Any:
    return lambda self, other: OPS[name](other, self) if swapped else OPS[name](self, other)


for _name, _dunder in {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "truediv",
    "power": "pow",
    "matmul": "matmul",
}.items():
    setattr(Symbol, f"__{_dunder}__", _operator(_name, False))
    setattr(Symbol, f"__r{_dunder}__", _operator(_name, True))


def as_symbol(value: Any) -> Symbol:
    """A Symbol as it is; a number as its digits; an array as an anonymous constant."""
    if isinstance(value, Symbol):
        return value
    return Symbol(f"{float(value):g}".replace("-", "−") if np.ndim(value) == 0 else "const", np.shape(value))


def formula(
    op: Primitive, operand: int, arrays: tuple[Any, ...], result_shape: tuple[int, ...], static: dict[str, Any]
) -> str:
    """What the rule of one operand computes, in g (what arrives), y (the result) and the operands.

    Parameters
    ----------
    op : Primitive
    operand : int
        Whose rule.
    arrays : tuple of arrays and numbers
        The operands; only their shapes are used, and the values of plain numbers.
    result_shape : tuple of int
    static : dict
        The primitive's static parameters.

    Returns
    -------
    str
        Such as ``g × (1 − y²)``, with ``, Σ over (0,)`` where broadcasting is undone; a phrase for structural
        primitives.
    """
    symbols = [
        a if isinstance(a, (int, float)) else Symbol(name, np.shape(a))
        for name, a in zip(_names(op, len(arrays)), arrays, strict=True)
    ]
    own = np.shape(arrays[operand])
    if op.phrase:
        text, shape = op.phrase.format(**static), own
        shape = result_shape if op.name == "broadcast_to" else shape
    else:
        g, y = Symbol("g", result_shape), Symbol("y", result_shape)
        try:
            result = as_symbol(op.rules[operand](g, y, *symbols, **static))
        except Exception:  # a rule that does more than a symbol can follow is no reason to draw nothing
            return f"rule {operand} of {op.name}"
        text, shape = result.text, result.shape
    lead = len(shape) - len(own)
    axes = (*range(lead), *[lead + i for i, n in enumerate(own) if n == 1 and shape[lead + i] != 1])
    return text + (f", Σ over {axes}" if axes else "")


def _names(op: Primitive, count: int) -> list[str]:
    if op.nary:
        return [f"x{i}" for i in range(count)]
    names = list(inspect.signature(op.rules[0]).parameters)[2:]
    return names[:count]
