"""Primitive: one operation and its derivatives, declared once.

After this file the reader knows how a graph comes about. Calling a primitive on tensors computes the array and
*remembers* the call: which primitive, which operands in which order (``x * x`` remembers ``x`` twice), the operands'
arrays as they were at that moment, and where in the program it happened.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cache, wraps
from typing import Any, Protocol, cast

import numpy as np
from numpy import ndarray

from .scope import current
from .tensor import FLOATS, NO_STATIC, OPS, SCALARS, GradientError, Tensor, as_array, new_node, unmasked

Rule = Callable[..., Any]

EXPLAINED_BY: list[Callable[[Primitive], str]] = []
"""Who writes the documentation of what is declared: `symbolic`, which stands above, puts itself here."""


class Primitive(Protocol):
    """One operation: a function with a forward part on arrays, and one rule per operand for the way back.

    A rule gets the cotangent ``g``, the result ``y``, the operands, and the static parameters by keyword, and returns
    the contribution to its operand. The same rule runs on arrays (fast), on Tensors (double backward), on
    placeholders that write down what is done to them (formulas, derived programs), so it is written only with operators
    and other primitives.
    """

    name: str
    symbol: str  # how a picture writes it
    phrase: str  # what an edge says instead of a formula
    shapes: str  # of operands and result, where they are not all alike
    operand_names: tuple[str, ...]  # as its rules call them
    forward: Callable[..., Any]
    rules: Any  # one per operand
    nary: bool
    gathers: list[int]  # for which operands the sweep may gather uses
    replaceable: bool
    at_once: list[int] | None  # all operands, where nothing is gathered; else `Gathering.plan` says which
    __name__: str
    __qualname__: str
    __signature__: inspect.Signature

    def __call__(self, *operands: Any, **static: Any) -> Any:
        """Compute, and remember the call where an operand needs a gradient."""


class EachOperand:
    """The rules of an n-ary primitive, by the number of the operand; they look at the n operands once.

    Parameters
    ----------
    at_once : callable
        ``at_once(g, y, *operands, **static)`` returns the function from the number of an operand to its contribution.
    """

    __slots__ = ("at_once",)

    def __init__(self, at_once: Rule) -> None:
        self.at_once = at_once

    def __getitem__(self, which: int) -> Rule:
        return lambda *inputs, **static: self.at_once(*inputs, **static)(which)

    def of(self, inputs: tuple[Any, ...], static: dict[str, Any]) -> EachOperand:
        """The rules for one call of the primitive, which look at its operands when the first of them is asked."""
        contribution = cache(lambda: self.at_once(*inputs, **static))
        return EachOperand(lambda **static_again: contribution())


def _at_once(rule: Rule) -> Rule:
    """The same, of a rule that is told the number of the operand by the keyword ``which``."""
    return lambda *inputs, **static: lambda which: rule(*inputs, which=which, **static)


class Gathered:
    """A rule whose contributions are cheaper to compute for many uses of one operand together than one by one.

    The gradient of a weight that is used at every step is Σ gₜᵀ xₜ: one product of two long matrices instead of T
    small ones. The sweep keeps the uses, and asks for their total, or for a stack if somebody watches the edges.

    Parameters
    ----------
    rule : callable
        The rule for one use, as any other.
    total : callable
        ``total(uses) -> contribution`` for `gathering.Uses`.
    each : callable, optional
        ``each(uses) -> contributions``, stacked, for uses whose results have one shape. Without it nothing is gathered
        while somebody watches.
    recorded : bool
        Whether the total can be computed with Tensors too, so that it is gathered where the sweep itself is recorded.
    """

    __slots__ = ("__wrapped__", "each", "recorded", "total")

    def __init__(
        self, rule: Rule, total: Callable[[Any], Any], each: Callable[[Any], Any] | None = None, recorded: bool = False
    ) -> None:
        self.__wrapped__ = rule  # so that its signature is the rule's
        self.total, self.each, self.recorded = total, each, recorded

    def __call__(self, *inputs: Any, **static: Any) -> Any:
        """The contribution of one use."""
        return self.__wrapped__(*inputs, **static)


def by_rows(rule: Rule, of_rows: Callable[[Callable[[int], Any]], Any]) -> Gathered:
    """A rule for a weight, which adds up over rows, so that it is the same for those of many uses.

    ``of_rows(rows)`` asks ``rows(k)`` for the rows of one of (g, y, *operands): of all uses, or a stack of each use's.
    """
    return Gathered(rule, lambda uses: of_rows(uses.rows), lambda uses: of_rows(lambda k: uses.rows(k, apart=True)))


def as_rows(x: Any) -> Any:
    """All leading axes as one: a matrix with one row per element of the batch."""
    return x if x.ndim == 2 else np.reshape(x, (int(np.prod(x.shape[:-1])), x.shape[-1]))


def primitive(
    name: str,
    forward: Callable[..., Any],
    *rules: Rule,
    nary: bool = False,
    symbol: str = "",
    phrase: str = "",
    shapes: str = "",
    guarded: bool = True,
    replace: bool = False,
) -> Primitive:
    """Declare a primitive: its forward function and one derivative rule per operand, and enter it in `OPS`.

    Parameters
    ----------
    name : str
        Taken once, unless it is replaced.
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
    shapes : str
        Of operands and result where they are not all alike: ``"(..., I), (O, I), (O,) -> (..., O)"``.
    guarded : bool
        Whether its functions get arrays that they cannot write to, and what they return is looked at, which takes one
        or two microseconds a call.
    replace : bool
        Whether it takes the place of one of the same name that was declared so before: a cell of a notebook runs twice.

    Returns
    -------
    Primitive
        A function of the operands, and of the static parameters by keyword. Its documentation is made of the
        declaration: ``help`` shows the operands as the rules name them, and the formula of the value and of each
        derivative.

    Raises
    ------
    ValueError
        If the name is taken, or the number of rules or of their parameters does not fit. When it is called: if one of
        the functions writes to an array that it was given, or that it returned before.
    TypeError
        When it is called: if the result is to have a gradient, and is not made of float32 or float64.

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
    if name in OPS and not (replace and OPS[name].replaceable):
        raise ValueError(f"a primitive named {name!r} exists already")
    if not rules or (nary and len(rules) > 1):
        raise ValueError(f"{name}: one rule per operand, and exactly one where nary=True")
    n, plain = len(rules), not nary  # plain: operands only, no static parameters
    for rule in rules:
        parameters = inspect.signature(rule).parameters.values()
        positional = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        plain = plain and not any(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)
        told = any(p.name == "which" for p in parameters)
        if nary and not (variadic and (told or not guarded)):
            raise ValueError(f"{name}: the rule of an n-ary primitive takes (g, y, *operands, which, ...)")
        if not nary and not variadic and positional != 2 + n:
            raise ValueError(f"{name}: {n} rules mean {n} operands, so a rule takes (g, y) and {n} more")
    make = _guarded_call if guarded else {1: _unary, 2: _binary}.get(n * plain, _any_number)
    if guarded:
        rules = tuple([_guarded_rule(name, i, rule, nary) for i, rule in enumerate(rules)])
    elif nary and told:
        rules = (_at_once(rules[0]),)
    op = cast(Primitive, make(forward, None if nary else n))
    op.name = op.__name__ = op.__qualname__ = name
    op.symbol, op.phrase, op.shapes, op.nary = symbol or name, phrase, shapes, nary
    op.__signature__ = _signature(forward if nary else rules[0], n, nary)
    op.operand_names = tuple([p.name for p in op.__signature__.parameters.values() if p.kind is p.POSITIONAL_ONLY])
    op.replaceable = guarded or replace  # those of the package are not
    op.forward, op.rules = forward, EachOperand(rules[0]) if nary else rules
    op.gathers = [] if nary else [i for i, rule in enumerate(rules) if type(rule) is Gathered]
    op.at_once = None if nary or op.gathers else list(range(n))
    OPS[name] = op
    for explained in EXPLAINED_BY:
        op.__doc__ = explained(op)
    return op


def _signature(function: Any, n: int, nary: bool) -> inspect.Signature:
    """Of a call: operands by position, as a rule names them after g and y; static parameters by keyword."""
    parameters = list(inspect.signature(function).parameters.values())
    static = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    if nary:
        return inspect.Signature([*[p for p in parameters if p.kind is p.VAR_POSITIONAL], *static])
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][2:]
    names = [*named, *[f"x{i}" for i in range(len(named), n)]]
    return inspect.Signature([*[inspect.Parameter(x, inspect.Parameter.POSITIONAL_ONLY) for x in names], *static])


# The three ways to call a primitive. They do the same; those for one and two operands are a plain function with the
# operands written out, which is what Python calls fastest.


def _unary(forward: Callable[..., Any], arity: int | None) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        if type(x) is not Tensor:
            return _record(call, forward, (x,), NO_STATIC)
        array = x._value
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
            if type(a) is ndarray is type(b):  # as in a rule that the sweep runs
                return forward(a, b)
            return _record(call, forward, (a, b), NO_STATIC)
        left, right = a._value, b._value
        try:
            data = forward(left, right)
        except Exception as error:
            explain(error, call, (left, right), current()[0])
            raise
        return new_node(call, data, (a, b), (left, right), NO_STATIC, a._requires_grad or b._requires_grad)

    return call


def _refuse_other_arity(op: Any, arity: int | None, operands: tuple[Any, ...]) -> None:
    if arity is not None and len(operands) != arity:
        raise TypeError(f"{op.__name__}{op.__signature__} takes {arity} operands, not {len(operands)}")


def _any_number(forward: Callable[..., Any], arity: int | None) -> Callable[..., Any]:
    def call(*operands: Any, **static: Any) -> Any:
        _refuse_other_arity(call, arity, operands)
        return _record(call, forward, operands, static)

    return call


# What others declare is guarded: it cannot write to the graph, whose arrays it is given read-only, and a gradient meets
# nothing but floats. The page of derivatives goes without, since a guard costs one or two microseconds.


def _guarded_call(forward: Callable[..., Any], arity: int | None) -> Callable[..., Any]:
    def reading(*arrays: Any, **static: Any) -> Any:
        return _kept(_plain(_run(forward, _locked(arrays), static)), arrays)

    def call(*operands: Any, **static: Any) -> Any:
        _refuse_other_arity(call, arity, operands)
        if Tensor not in map(type, operands):
            return _record(call, forward, operands, static)
        for name, value in static.items():
            if isinstance(value, np.ndarray):  # which may change later
                static[name] = _plain(value).copy()
        y = _record(call, reading, operands, static)
        if y._requires_grad and y._value.dtype not in FLOATS:
            remedy = "let its forward function return .astype(x.dtype)"
            error = TypeError(f"{call.__name__} gave {y._value.dtype}, through which no gradient can flow: {remedy}")
            explain(error, call, y._arrays, y.scope)
            raise error
        return y

    return call


def _guarded_rule(name: str, i: int, rule: Any, nary: bool) -> Any:
    def checked(which: int, inputs: list[Any], static: dict[str, Any]) -> Any:
        result = _run(rule, inputs, static)
        if hasattr(result, "shape"):
            return _kept(_plain(result), inputs)
        if type(result) is float:
            return np.float64(result)
        returned = type(result).__name__
        raise TypeError(
            f"the rule of {name} for operand {which} returned {returned}: it must return an array of floats"
        )

    def at_once(*inputs: Any, **static: Any) -> Any:
        given = _locked(inputs)
        return lambda which: checked(which, given, {**static, "which": which})

    @wraps(rule)
    def contribution(*inputs: Any, **static: Any) -> Any:
        return checked(i, _locked(inputs), static)

    if isinstance(rule, Gathered):
        return Gathered(_guarded_rule(name, i, rule.__wrapped__, nary), rule.total, rule.each, rule.recorded)
    return at_once if nary else contribution


def _locked(given: tuple[Any, ...]) -> list[Any]:
    """The same arrays, read-only."""
    views = [x.view() if type(x) is np.ndarray else x for x in given]
    for x in views:
        if type(x) is np.ndarray:
            x.setflags(False)  # type: ignore[call-arg]  # `write`: by name it takes three times as long
    return views


def _kept(result: Any, given: Iterable[Any]) -> Any:
    """A result as a graph or a sweep keeps it: not an array into which the function writes again at its next call.

    One of its own is locked. A view is copied, unless it is of what the function was given: what belongs to no operand
    may be a buffer.
    """
    if type(result) is np.ndarray:
        base = result.base
        if base is not None and not any([base is x or base is getattr(x, "base", None) for x in given]):
            result = result.copy()
        result.setflags(write=False)
    return result


def _run(function: Callable[..., Any], given: list[Any], static: dict[str, Any]) -> Any:
    try:
        return function(*given, **static)
    except ValueError as error:
        if "read-only" in str(error):
            error.add_note("what a graph keeps is not written to: compute a new array, each time")
        raise


def _plain(result: Any) -> Any:
    """Not a subclass of array, which may understand operators in its own way."""
    if type(result) is np.ndarray or not isinstance(result, np.ndarray):
        return result
    if isinstance(result, np.ma.MaskedArray):
        raise TypeError("a masked array would lose its mask: return .filled(value)")
    return np.asarray(result)


def _record(op: Any, forward: Callable[..., Any], operands: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """Compute, and remember the call where an operand needs a gradient."""
    if operands and type(operands[0]) is ndarray and {*map(type, operands)} == {ndarray}:
        return forward(*operands, **static)  # as in a rule that the sweep runs
    arrays, needs, bare = [], False, 0
    for x in operands:
        if type(x) is Tensor:
            arrays.append(x._value)
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
        arrays = [x._value if type(x) is Tensor else lift(x) for x in operands]
    try:
        data = forward(*arrays, **static) if static else forward(*arrays)
    except Exception as error:
        explain(error, op, arrays, current()[0])
        raise
    return new_node(op, data, tensors, tuple(arrays), static or NO_STATIC, needs)


def _bare(op: Primitive, operands: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """What a primitive does where no operand is a Tensor: compute, and remember nothing."""
    for x in operands:
        if hasattr(x, "__primitive__"):  # a placeholder, which writes down the call
            return x.__primitive__(op, operands, static)
    weak = any([hasattr(x, "dtype") for x in operands])  # beside an array a number does not decide the dtype
    try:
        return op.forward(*[x if weak and type(x) in SCALARS else np.asarray(unmasked(x)) for x in operands], **static)
    except Exception as error:
        explain(error, op, operands, current()[0])
        raise


def explain(error: Exception, op: Any, arrays: Any, path: str) -> None:
    """Add the place to NumPy's own words: primitive, operand shapes, scope."""
    joint = f" {op.symbol} " if op.symbol in ("@", "+", "-", "×", "/") else ", "
    names = [""] * len(arrays) if op.nary or joint != ", " else [f"{name} " for name in op.operand_names]
    shapes = joint.join([f"{name}{np.shape(a)}" for name, a in zip(names, arrays, strict=True)])
    error.add_note(f"in {op.name} {shapes}" + (f" at {path}" if path else ""))


def lift(value: Any) -> Any:
    """A bare operand as a graph may keep it: arrays checked and copied, numbers as they are, to not upcast float32."""
    if getattr(value, "requires_grad", False):  # PyTorch's: in its own graph, which ends here
        raise GradientError("an operand of PyTorch's that requires a gradient would lose it: give a Tensor or an array")
    return value if type(value) in SCALARS else as_array(value)
