"""The loss: traced twice, for two numbers of steps, so that its program holds for any number of steps.

After this file the reader knows how a program can be specialised on shapes and yet leave T free: what differs between
the two traces is a function of T (an axis of T rows, a mean's 1 / (T n)), and is written into the source as such.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from ..scope import recorded
from ..tensor import Tensor
from .step import Step, state_of, static_key, sweep
from .trace import Node, TFloat, TInt, Trace, TraceError, Tracer, naming

Loss = Callable[..., Any]


def arguments(loss: Loss) -> list[str]:
    """What a loss takes, in order: "outputs", "state" or, for any other parameter, "extra".

    A parameter named ``state`` or ``last...`` gets the last state, the first of the others the outputs h₁ ... h_T.
    """
    kinds: list[str] = []
    for parameter in inspect.signature(loss).parameters.values():
        if (
            parameter.kind in (parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY)
            or parameter.default is not parameter.empty
        ):
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise TypeError("the loss takes named parameters: outputs, state, and what else is given at each call")
        of_state = parameter.name == "state" or parameter.name.startswith("last")
        kinds.append("state" if of_state else "extra" if "outputs" in kinds else "outputs")
    return kinds


def call(loss: Loss, given: dict[str, Any], extras: Sequence[Any]) -> Any:
    """Call a loss with the outputs, the state and the extras, as its parameters ask for them."""
    kinds, remaining = arguments(loss), iter(extras)
    if kinds.count("extra") != len(extras):
        names = ", ".join(inspect.signature(loss).parameters)
        raise ValueError(
            f"the loss takes ({names}), so {kinds.count('extra')} argument(s) beside outputs and state, and was given "
            f"{len(extras)}: they come after the state, in the example and at each call"
        )
    return loss(*(next(remaining) if kind == "extra" else given[kind] for kind in kinds))


def trace_loss(
    step: Step, loss: Loss, outputs: Any, last: Sequence[Any], extras: Sequence[Any]
) -> tuple[list[Node], bool, bool]:
    """Trace a loss and its cotangents into `step`; returns its nodes, whether T is free, and whether extras go by T.

    Traced are two lengths that no other axis has: at 1, or at that of the batch, an axis could be taken for another.

    Parameters
    ----------
    outputs : array, shape (T, ..., H)
    last : arrays of the last state
    extras : arrays that the loss takes beside them; those as long as the outputs go by T, unless it is an accident
    """
    steps = len(outputs)
    sizes = {n for a in (outputs[0], *last, *extras) for n in a.shape}
    short, long = (next(n for n in count(start) if n not in sizes) for start in (5, 13))
    for by_steps in (True, False):
        try:
            longer, nodes = [
                _trace(step, loss, np.resize(outputs, (n, *outputs.shape[1:])), last, resized(extras, steps, m))
                for n, m in ((long, long if by_steps else steps), (short, short if by_steps else steps))
            ]
            _unite(nodes, longer, short, long)
        except Exception:  # such as a target of the example's length that the loss holds: then T is not free
            continue
        return nodes, True, by_steps
    return _trace(step, loss, outputs, last, extras), False, False


def resized(arrays: Sequence[Any], old: int, new: int) -> list[Any]:
    """Arrays with one row per step for another number of steps."""
    return [np.resize(a, (new, *a.shape[1:])) if a.ndim and len(a) == old else a for a in arrays]


def leave_out(step: Step, outputs: Any) -> None:
    """Leave the loss to the call: the program is given the cotangents of the outputs and of the last state."""
    step.back_outputs = Node("given", value=np.asarray(outputs), name="d_outputs")
    for state in step.states:
        state.seed = Node("given", value=state.leaf.value, name=f"d_{state.name}")


def eager(loss: Loss, form: Any, extras: Sequence[Any]) -> Callable[..., Any]:
    """What a program derived without a loss calls between its loops: the engine differentiates the loss."""

    def loss_of(outputs: Any, *last: Any) -> tuple[Any, ...]:
        h = Tensor(outputs, requires_grad=True, name="outputs")
        finals = [Tensor(a, requires_grad=True) for a in last]
        value = call(loss, {"outputs": h, "state": state_of(finals, form)}, extras)
        value.backward(retain_graph=False)
        return value.data, *(np.zeros(x.shape, x.dtype) if x.grad is None else x.grad.data for x in (h, *finals))

    return loss_of


def _trace(step: Step, loss: Loss, outputs: Any, last: Sequence[Any], extras: Sequence[Any]) -> list[Node]:
    """Trace the loss once, forwards and backwards."""
    trace = Trace("the loss", "is not the cell's: derive with loss=None, and pass such a loss at each call")
    h = trace.leaf("outputs", outputs, step.states[0].name, needs=True)
    finals = [trace.leaf("last", a, s.name, needs=True) for a, s in zip(last, step.states, strict=True)]
    more = [trace.leaf("extra", a, f"extra_{i}" if i else "target") for i, a in enumerate(extras)]
    with recorded(), naming():
        value = call(loss, {"outputs": h, "state": state_of(finals, step.form)}, more)
    if not isinstance(value, Tracer) or value.size != 1 or value.dtype.kind != "f":
        got = f"{value.dtype} of shape {value.shape}" if isinstance(value, (Tracer, Tensor)) else type(value).__name__
        raise TraceError(f"the loss must be one number that depends on the outputs or the last state, not {got}")
    value.node.name = "loss"
    ones = trace.leaf("constant", np.ones(value.shape, value.dtype), "one")
    found = sweep(trace, list(trace.nodes), {value.node: [ones]})
    step.outputs, step.last, step.extras = h.node, [f.node for f in finals], [m.node for m in more]
    step.loss, step.back_outputs = value.node, found.get(h.node)
    for state, final in zip(step.states, finals, strict=True):
        state.seed = found.get(final.node)
    return trace.nodes


def _unite(nodes: list[Node], longer: list[Node], short: int, long: int) -> None:
    """Write functions of T where the two traces differ; TraceError if they differ in any other way."""
    place = {n: i for i, n in enumerate(nodes)} | {n: i for i, n in enumerate(longer)}
    for a, b in zip(nodes, longer, strict=True):
        a.static = {key: united(value, b.static[key], short, long) for key, value in a.static.items()}
        for p, q in zip((a, *a.args), (b, *b.args), strict=True):
            constant = static_key(p.value) if p.op == "constant" else ""
            if p.op == "number":
                p.value = united(p.value, q.value, short, long)
            elif (p.op, place.get(p), constant) != (q.op, place.get(q), static_key(q.value) if constant else ""):
                raise TraceError(f"the loss does {p!r}, then {q!r}")


def united(a: Any, b: Any, short: int, long: int) -> Any:
    """The one function of T that is `a` for `short` steps and `b` for `long` ones.

    Examples
    --------
    >>> united((4, 8), (9, 8), 4, 9), united(1 / 12, 1 / 27, 4, 9), united(3, 8, 4, 9)
    ((T, 8), 1 / (3 * T), T - 1)
    """
    if static_key(a) == static_key(b):
        return a
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return tuple([united(p, q, short, long) for p, q in zip(a, b, strict=True)])
    if isinstance(a, slice) and isinstance(b, slice):
        return slice(*(united(getattr(a, k), getattr(b, k), short, long) for k in ("start", "stop", "step")))
    if type(a) is int and type(b) is int:
        if a % short == 0 and b == a // short * long:
            return TInt.of(a, "T" if a == short else f"{a // short} * T")
        if a - short == b - long:
            return TInt.of(a, f"T {'+' if a > short else '-'} {abs(a - short)}")
    if isinstance(a, float) and isinstance(b, float) and np.isclose(a * short, b * long, rtol=1e-14, atol=0):
        inverse = 1 / (a * short)
        if abs(inverse - round(inverse)) < 1e-9 * abs(inverse):
            n = round(inverse)
            return TFloat.of(a, "1 / T" if n == 1 else f"1 / ({n} * T)")
        return TFloat.of(a, f"{a * short!r} / T")
    raise TraceError(f"the loss depends on the number of steps in a way that cannot be followed: {a!r}, then {b!r}")
