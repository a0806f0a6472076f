"""Primitive: one operation and its derivatives, declared once.

After this file the reader knows how a graph comes about. Calling a primitive on tensors computes the array and
*remembers* the call: which primitive, which operands in which order (``x * x`` remembers ``x`` twice), the operands'
arrays as they were at that moment, and where in the program it happened.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np

from .scope import CONTEXT
from .tensor import NO_STATIC, OPS, SCALARS, Primitive, Tensor, as_array, constant, new_tensor, next_serial

Rule = Callable[..., Any]


class EachOperand:
    """The rules of an n-ary primitive: one function, told which operand it is for."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __getitem__(self, which: int) -> Rule:
        return partial(self.rule, which=which)


class Gathered:
    """A rule whose contributions over many uses of one operand are cheaper to add up than to compute one by one.

    The gradient of a weight that is used at every step is Σ gₜᵀ xₜ: one product of two long matrices instead of T
    small ones. While nobody watches the edges, the sweep keeps the uses and asks for their total once.

    Parameters
    ----------
    rule : callable
        The rule for one use, as any other.
    total : callable
        ``total(uses) -> contribution`` for a list of uses, each ``((g, y, *operands), static)``.
    """

    __slots__ = ("__wrapped__", "total")

    def __init__(self, rule: Rule, total: Callable[[list[Any]], Any]) -> None:
        self.__wrapped__ = rule  # so that its signature is the rule's
        self.total = total

    def __call__(self, *inputs: Any, **static: Any) -> Any:
        """The contribution of one use."""
        return self.__wrapped__(*inputs, **static)


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
    for rule in rules:
        parameters = inspect.signature(rule).parameters.values()
        positional = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if nary and not (variadic and any(p.name == "which" for p in parameters)):
            raise ValueError(f"{name}: the rule of an n-ary primitive takes (g, y, *operands, which, ...)")
        if not nary and not variadic and positional != 2 + len(rules):
            raise ValueError(
                f"{name}: {len(rules)} rules mean {len(rules)} operands, so a rule takes (g, y) and {len(rules)} more"
            )
    make = _any_number if nary else {1: _unary, 2: _binary}.get(len(rules), _any_number)
    op = cast(Primitive, make(forward))
    op.name = op.__name__ = op.__qualname__ = name
    op.symbol, op.phrase, op.nary = symbol or name, phrase, nary
    op.forward, op.rules = forward, EachOperand(rules[0]) if nary else rules
    op.__doc__ = f"{_first_line(forward) or name} One of the primitives: differentiable in its positional parameters."
    OPS[name] = op
    return op


def _first_line(function: Any) -> str:
    """What NumPy's own documentation says a function does."""
    lines = (line.strip() for line in (inspect.getdoc(function) or "").splitlines())
    return next((line for line in lines if line.endswith(".")), "")


# The three ways to call a primitive. They do the same; those for one and two Tensors do it in half the time, because a
# plain function with the bookkeeping written out is what Python calls fastest.


def _any_number(forward: Callable[..., Any]) -> Callable[..., Any]:
    def call(*operands: Any, **static: Any) -> Any:
        return _record(call, forward, operands, static)

    return call


def _record(op: Any, forward: Callable[..., Any], operands: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """Compute, and remember the call where an operand needs a gradient."""
    for x in operands:
        if type(x) is not np.ndarray:
            break
    else:  # arrays only, as in a rule that the sweep runs
        return forward(*operands, **static)
    if not op.nary and len(operands) != len(op.rules):
        raise TypeError(f"{op.name} takes {len(op.rules)} operands, not {len(operands)}")
    tensors: tuple[Tensor | None, ...] = operands
    try:  # most calls have Tensors only
        arrays = tuple([x._data for x in operands])
        needs = True in [x._requires_grad for x in operands]
    except AttributeError:
        tensors = tuple([x if type(x) is Tensor else None for x in operands])
        needs = any([x is not None and x._requires_grad for x in tensors])
        if all([x is None for x in tensors]) or any([hasattr(x, "__primitive__") for x in operands]):
            return _bare(op, operands, static)
        # Referred to twice: else NumPy takes a large array for a temporary, and `operator.mul` writes its result there.
        held = [x._data if type(x) is Tensor else lift(x) for x in operands]
        arrays = tuple(held)
    path, recording, _ = CONTEXT.get()
    try:
        data = forward(*arrays, **static)
    except Exception as error:
        explain(error, op, arrays, path)
        raise
    out = constant(data if type(data) is np.ndarray else np.asarray(data))
    if recording and needs:
        out._op = op
        out._operands = tensors
        out._arrays = arrays
        out._static = static
        out._requires_grad = True
    return out


def _unary(forward: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: Any, **static: Any) -> Any:
        if type(x) is not Tensor:
            return _record(call, forward, (x,), static)
        array = x._data
        path, recording, _ = CONTEXT.get()
        try:
            data = forward(array, **static) if static else forward(array)
        except Exception as error:
            explain(error, cast(Primitive, call), (array,), path)
            raise
        out = new_tensor(Tensor)
        out._data = data if type(data) is np.ndarray else np.asarray(data)
        out._serial = next_serial()
        out._grad = out.name = None
        out.scope = path
        out._static = static or NO_STATIC
        out._requires_grad = recording = recording and x._requires_grad
        out._op = call if recording else None  # type: ignore[assignment]
        out._operands = (x,) if recording else ()
        out._arrays = (array,) if recording else ()
        return out

    return call


def _binary(forward: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, b: Any, **static: Any) -> Any:
        if type(a) is not Tensor or type(b) is not Tensor:
            return _record(call, forward, (a, b), static)
        left, right = a._data, b._data
        path, recording, _ = CONTEXT.get()
        try:
            data = forward(left, right, **static) if static else forward(left, right)
        except Exception as error:
            explain(error, cast(Primitive, call), (left, right), path)
            raise
        out = new_tensor(Tensor)
        out._data = data if type(data) is np.ndarray else np.asarray(data)
        out._serial = next_serial()
        out._grad = out.name = None
        out.scope = path
        out._static = static or NO_STATIC
        out._requires_grad = recording = recording and (a._requires_grad or b._requires_grad)
        out._op = call if recording else None  # type: ignore[assignment]
        out._operands = (a, b) if recording else ()
        out._arrays = (left, right) if recording else ()
        return out

    return call


def _bare(op: Primitive, operands: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """What a primitive does where no operand is a Tensor: compute, and remember nothing."""
    for x in operands:
        if hasattr(x, "__primitive__"):  # a symbol or a tracer, which has its own idea of computing
            return x.__primitive__(op, operands, static)
    weak = any([isinstance(x, np.ndarray) for x in operands])  # beside an array a number does not decide the dtype
    try:
        return op.forward(*[x if weak and type(x) in SCALARS else np.asarray(x) for x in operands], **static)
    except Exception as error:
        explain(error, op, operands, CONTEXT.get()[0])
        raise


def explain(error: Exception, op: Primitive, arrays: Any, path: str) -> None:
    """Add the place to NumPy's own words: primitive, operand shapes, scope."""
    joint = f" {op.symbol} " if op.symbol in ("@", "+", "-", "×", "/") else ", "
    error.add_note(f"in {op.name} {joint.join(str(np.shape(a)) for a in arrays)}" + (f" at {path}" if path else ""))


def lift(value: Any) -> Any:
    """A bare operand as a graph may keep it: arrays checked and copied, numbers as they are, to not upcast float32."""
    return value if type(value) in SCALARS else as_array(value)
