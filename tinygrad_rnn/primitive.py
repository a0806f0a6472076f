"""Primitive: one operation and its derivatives, declared once.

After this file the reader knows how a graph comes about. Calling a primitive on tensors computes the array and
*remembers* the call: which primitive, which operands in which order (``x * x`` remembers ``x`` twice), the operands'
arrays as they were at that moment, and where in the program it happened.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any, cast

import numpy as np

from .scope import current
from .tensor import NO_STATIC, OPS, SCALARS, Primitive, Tensor, as_array, new_node

Rule = Callable[..., Any]


class EachOperand:
    """The rules of an n-ary primitive: one function, told which operand it is for."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __getitem__(self, which: int) -> Rule:
        return partial(self.rule, which=which)


class Gathered:
    """A rule whose contributions are cheaper to compute for many uses of one operand together than one by one.

    The gradient of a weight that is used at every step is Σ gₜᵀ xₜ: one product of two long matrices instead of T
    small ones. The sweep keeps the uses, and asks for their total, or for a stack if somebody watches the edges.

    Parameters
    ----------
    rule : callable
        The rule for one use, as any other.
    total : callable
        ``total(uses) -> contribution`` for `Uses`.
    each : callable, optional
        ``each(uses) -> contributions``, stacked, for uses whose results have one shape. Without it nothing is gathered
        while somebody watches.
    """

    __slots__ = ("__wrapped__", "each", "total")

    def __init__(self, rule: Rule, total: Callable[[Uses], Any], each: Callable[[Uses], Any] | None = None) -> None:
        self.__wrapped__ = rule  # so that its signature is the rule's
        self.total, self.each = total, each

    def __call__(self, *inputs: Any, **static: Any) -> Any:
        """The contribution of one use."""
        return self.__wrapped__(*inputs, **static)


MOST_GATHERED = 2**14
"""How many numbers the sweep gathers for an operand before it adds them up: some hundred rows, or as many as it has.

More make a matrix product no faster and keep memory."""


class Uses(list[Any]):
    """Calls of one primitive on the same weights, not yet differentiated: each ``(g, y, *operands), static, node``."""

    def rows(self, k: int, apart: bool = False) -> Any:
        """All rows of one of (g, y, *operands), or a stack of each use's; put together once for all weights."""
        together: dict[Any, Any] = vars(self)
        if (k, apart) not in together:
            rows = [as_rows(inputs[k]) for inputs, _, _ in self]
            together[k, apart] = np.array(rows) if apart else np.concatenate(rows) if len(rows) > 1 else rows[0]
        return together[k, apart]


def by_rows(rule: Rule, of_rows: Callable[[Callable[[int], Any]], Any]) -> Gathered:
    """A rule for a weight, which adds up over rows, so that it is the same for those of many uses.

    ``of_rows(rows)`` asks ``rows(k)`` for the rows of one of (g, y, *operands): of all uses, or a stack of each use's.
    """
    return Gathered(rule, lambda uses: of_rows(uses.rows), lambda uses: of_rows(lambda k: uses.rows(k, apart=True)))


def as_rows(x: Any) -> Any:
    """All leading axes as one: a matrix with one row per element of the batch."""
    return x if x.ndim == 2 else np.reshape(x, (int(np.prod(x.shape[:-1])), x.shape[-1]))


def primitive(
    name: str, forward: Callable[..., Any], *rules: Rule, nary: bool = False, symbol: str = "", phrase: str = ""
) -> Primitive:
    """Declare a primitive: its forward function and one derivative rule per operand, and enter it in `OPS`.

    Parameters
    ----------
    name : str
        Taken once.
    forward : callable
        ``forward(*arrays, **static) -> array``; positional means differentiable, keyword means static.
    *rules : callable
        ``rule(g, y, *operands, **static) -> contribution``, one per operand.
    nary : bool
        For any number of operands: a single rule, told which operand by the keyword ``which``.
    symbol : str
        How a picture writes it; the name by default.
    phrase : str
        For structural primitives, what the edge says instead of a formula; may use the static parameters in braces.

    Returns
    -------
    Primitive
        A function of the operands, and of the static parameters by keyword.

    Raises
    ------
    ValueError
        If the name is taken, or the number of rules or of their parameters does not fit.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> cube = tg.primitive("cube", lambda x: x * x * x, lambda g, y, x: 3 * g * x * x)
    >>> x = tg.Tensor(2.0, requires_grad=True)
    >>> cube(x).backward()
    >>> float(x.grad)
    12.0
    >>> del tg.OPS["cube"]
    """
    if name in OPS:
        raise ValueError(f"a primitive named {name!r} exists already")
    if not rules or (nary and len(rules) > 1):
        raise ValueError(f"{name}: one rule per operand, and exactly one where nary=True")
    n, plain = len(rules), not nary  # plain: operands only, no static parameters
    for rule in rules:
        parameters = inspect.signature(rule).parameters.values()
        positional = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        plain = plain and not any(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)
        if nary and not (variadic and any(p.name == "which" for p in parameters)):
            raise ValueError(f"{name}: the rule of an n-ary primitive takes (g, y, *operands, which, ...)")
        if not nary and not variadic and positional != 2 + n:
            raise ValueError(f"{name}: {n} rules mean {n} operands, so a rule takes (g, y) and {n} more")
    make = {1: _unary, 2: _binary}.get(n * plain, _any_number)
    op = cast(Primitive, make(forward, None if nary else n))
    op.name = op.__name__ = op.__qualname__ = name
    op.symbol, op.phrase, op.nary = symbol or name, phrase, nary
    op.forward, op.rules = forward, EachOperand(rules[0]) if nary else rules
    op.gathers = [i for i, rule in enumerate(rules) if type(rule) is Gathered]
    op.computing = op.gathering = op.watching = None if nary else list(range(n)), None
    if op.gathers and not nary:
        op.gathering = [i for i in range(n) if i not in op.gathers], itemgetter(*op.gathers)
        op.watching = op.gathering if all(cast(Any, rules[i]).each for i in op.gathers) else op.computing
    op.__doc__ = f"{_first_line(forward) or name} One of the primitives: differentiable in its positional parameters."
    OPS[name] = op
    return op


def _first_line(function: Any) -> str:
    """What NumPy's own documentation says a function does."""
    lines = (line.strip() for line in (inspect.getdoc(function) or "").splitlines())
    return next((line for line in lines if line.endswith(".")), "")


# The three ways to call a primitive. They do the same; those for one and two operands are a plain function with the
# operands written out, which is what Python calls fastest.


def _unary(forward: Callable[..., Any], arity: int | None) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        if type(x) is not Tensor:
            return _record(call, forward, (x,), NO_STATIC)
        array = x._data
        try:
            data = forward(array)
        except Exception as error:
            explain(error, call, (array,), current()[0])
            raise
        return new_node(call, data, (x,), (array,), NO_STATIC, x._requires_grad)

    return call


def _binary(forward: Callable[..., Any], arity: int | None) -> Callable[..., Any]:
    def call(a: Any, b: Any) -> Any:
        if type(a) is not Tensor or type(b) is not Tensor:
            if type(a) is np.ndarray is type(b):  # as in a rule that the sweep runs
                return forward(a, b)
            return _record(call, forward, (a, b), NO_STATIC)
        left, right = a._data, b._data
        try:
            data = forward(left, right)
        except Exception as error:
            explain(error, call, (left, right), current()[0])
            raise
        return new_node(call, data, (a, b), (left, right), NO_STATIC, a._requires_grad or b._requires_grad)

    return call


def _any_number(forward: Callable[..., Any], arity: int | None) -> Callable[..., Any]:
    def call(*operands: Any, **static: Any) -> Any:
        if arity is not None and len(operands) != arity:
            raise TypeError(f"{call.__name__} takes {arity} operands, not {len(operands)}")
        return _record(call, forward, operands, static)

    return call


def _record(op: Any, forward: Callable[..., Any], operands: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """Compute, and remember the call where an operand needs a gradient."""
    if operands and type(operands[0]) is np.ndarray and {*map(type, operands)} == {np.ndarray}:
        return forward(*operands, **static)  # as in a rule that the sweep runs
    arrays, needs, bare = [], False, 0
    for x in operands:
        if type(x) is Tensor:
            arrays.append(x._data)
            needs = needs or x._requires_grad
        else:
            bare += 1
    tensors: tuple[Tensor | None, ...] = operands
    if bare:
        if bare == len(operands) or any([hasattr(x, "__primitive__") for x in operands]):
            return _bare(op, operands, static)
        tensors = tuple([x if type(x) is Tensor else None for x in operands])
        # A list, from which the call below makes a tuple, so that each array is referred to twice: else NumPy takes a
        # large one for a temporary, and `operator.mul` writes its result there.
        arrays = [x._data if type(x) is Tensor else lift(x) for x in operands]
    try:
        data = forward(*arrays, **static) if static else forward(*arrays)
    except Exception as error:
        explain(error, op, arrays, current()[0])
        raise
    return new_node(op, data, tensors, tuple(arrays), static or NO_STATIC, needs)


def _bare(op: Primitive, operands: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """What a primitive does where no operand is a Tensor: compute, and remember nothing."""
    for x in operands:
        if hasattr(x, "__primitive__"):  # a symbol or a tracer, which has its own idea of computing
            return x.__primitive__(op, operands, static)
    weak = any([isinstance(x, np.ndarray) for x in operands])  # beside an array a number does not decide the dtype
    try:
        return op.forward(*[x if weak and type(x) in SCALARS else np.asarray(x) for x in operands], **static)
    except Exception as error:
        explain(error, op, operands, current()[0])
        raise


def explain(error: Exception, op: Any, arrays: Any, path: str) -> None:
    """Add the place to NumPy's own words: primitive, operand shapes, scope."""
    joint = f" {op.symbol} " if op.symbol in ("@", "+", "-", "×", "/") else ", "
    error.add_note(f"in {op.name} {joint.join(str(np.shape(a)) for a in arrays)}" + (f" at {path}" if path else ""))


def lift(value: Any) -> Any:
    """A bare operand as a graph may keep it: arrays checked and copied, numbers as they are, to not upcast float32."""
    return value if type(value) in SCALARS else as_array(value)
