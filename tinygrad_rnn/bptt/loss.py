"""The loss: traced twice, for two numbers of steps, so that its program holds for any number of steps.

After this file the reader knows how a program can be specialised on shapes and yet leave T free: what differs between
the two traces is a function of T (an axis of T rows, a mean's 1 / (T n)), and is written into the source as such.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count, product
from typing import Any

import numpy as np

from ..nn.state import state_of
from ..scope import recorded
from ..symbolic.trace import Node, Trace, TraceError, Tracer, naming, run
from ..symbolic.values import TFloat, TInt, at_steps, static_key
from ..tensor import Tensor
from .contents import Contents, Outside
from .step import Step, sweep, topological

Loss = Callable[..., Any]

MOST_ROWS = 16


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
) -> tuple[list[Node], LossCheck]:
    """Trace a loss and its cotangents into `step`; returns its nodes, and what checks them.

    T is free if two traces differ by functions of T only, and what they say is what the engine does. Traced are two
    lengths that no other axis has, since at that of the batch an axis could be taken for another: short ones, then some
    like the example's, which a loss of the last 20 outputs needs. Else the loss is traced as it is for the example.

    Parameters
    ----------
    outputs : array, shape (T, ..., H)
    last : arrays of the last state
    extras : arrays that the loss takes beside them; those as long as the outputs go by T, unless it is an accident
    """
    steps = len(outputs)
    sizes = {n for a in (*last, *extras) for n in a.shape}  # an output has the shape of a state
    ways = (True, False) if any(a.ndim and len(a) == steps for a in extras) else (True,)
    for least, by_steps in product((5, steps + 1), ways):
        lengths = [next(n for n in count(start) if n not in sizes) for start in (least, least + 8)]
        given = [resized(extras, steps, n if by_steps else steps) for n in lengths]
        try:
            with warnings.catch_warnings(action="ignore"):
                longer, nodes = [
                    _trace(step, loss, np.resize(outputs, (n, *outputs.shape[1:])), last, more)
                    for n, more in zip(lengths[::-1], given[::-1], strict=True)
                ]
            _unite(nodes, longer, *lengths)
            for extra, array in zip(step.extras, given[1], strict=True):
                extra.shape = united(extra.shape, array.shape, *lengths)
        except Exception:  # such as a target of the example's length that the loss holds: then T is not free
            continue
        check = LossCheck(step, loss, outputs, last, extras, True)
        if check.all():
            return nodes, check
    nodes = _trace(step, loss, outputs, last, extras)
    return nodes, LossCheck(step, loss, outputs, last, extras, False)


def resized(arrays: Sequence[Any], old: int, new: int) -> list[Any]:
    """Arrays with one row per step for another number of steps."""
    return [np.resize(a, (new, *a.shape[1:])) if a.ndim and len(a) == old else a for a in arrays]


class LossCheck:
    """Whether what is derived of a loss is what the engine does, at one number of steps after the other.

    Attributes
    ----------
    steps : int
        As many as the example has.
    free : bool
        Whether it may be right for others too.
    lengths : set of int
        For which it is.
    """

    def __init__(
        self, step: Step, loss: Loss, outputs: Any, last: Sequence[Any], extras: Sequence[Any], free: bool
    ) -> None:
        self.step, self.loss, self.steps, self.free = step, loss, len(outputs), free
        self.rows, self.last, self.extras = np.array(outputs[:MOST_ROWS]), [np.array(a) for a in last], extras
        self.lengths, self.outside = {self.steps}, Outside(loss)

    def all(self) -> bool:
        """Whether it is right for the example's number of steps, for the next one and for a larger one.

        Right for the example's or not: whoever derives compares the whole program at those with the engine.
        """
        n, self.lengths = self.steps, {self.steps}
        return all([self.at(n, self.given(n)) for n in (n, n + 1, 2 * n + 1)])

    def given(self, steps: int) -> list[Any]:
        """The extras of the example for another number of steps."""
        return [np.resize(a, at_steps(e.shape, steps)) for a, e in zip(self.extras, self.step.extras, strict=True)]

    def at(self, steps: int, extras: Sequence[Any]) -> bool:
        """Compare the value and every cotangent; remembered where right.

        On outputs between those of the example, where the loss makes sense, and on others, as those may all be zero.
        """
        rng = np.random.default_rng(steps)
        weight = rng.random((steps, *(1,) * (self.rows.ndim - 1)))
        one, other = (self.rows[rng.integers(len(self.rows), size=steps)] for _ in range(2))
        inner = [weight * one + (1 - weight) * other, *self.last[1:]]
        outer = [rng.normal(size=a.shape) for a in inner]
        try:
            with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
                right = self._same(inner, extras) and self._same(outer, extras, only_finite=True)
        except Exception:  # of the engine as well: where it says what is wrong, the program says only this
            right = False
        self.lengths |= {steps} if right else set()
        return right

    def _same(self, numbers: Sequence[Any], extras: Sequence[Any], only_finite: bool = False) -> bool:
        outputs, *others = (a.astype(b.dtype) for a, b in zip(numbers, (self.rows, *self.last[1:]), strict=True))
        step, last, eps = self.step, [outputs[-1], *others], rounding([outputs, *others, *extras])

        def by_engine(numbers: Sequence[Any]) -> dict[Any, Any]:
            found = eager(self.loss, step.form, extras)(numbers[0], numbers[0][-1], *numbers[1:])
            return dict(enumerate(_at_last([*found])))

        want = by_engine([outputs, *others])
        if only_finite and not all(np.isfinite(b).all() for b in want.values()):
            return True
        leaves = [step.outputs, *step.last, *step.extras]
        given = {n: a for n, a in zip(leaves, (outputs, *last, *extras), strict=True) if n is not None}
        roots = [step.loss, step.back_outputs, *(s.seed for s in step.states)]
        known = _evaluated([r for r in roots if r is not None], given, len(outputs))
        zeros = [outputs[0], outputs, *last]
        got = _at_last([np.zeros_like(z) if r is None else known[r] for r, z in zip(roots, zeros, strict=True)])
        if all(close(a, want[i], 100 * eps) for i, a in enumerate(got)):
            return True
        slack = jitter(by_engine, want, [outputs, *others])
        return all(close(a, want[i], 100 * eps, slack.get(i, 0.0)) for i, a in enumerate(got))


def _at_last(cotangents: list[Any]) -> list[Any]:
    """The value and its cotangents, where that of the first of the last states is one of the last output."""
    value, outputs, h, *rest = cotangents
    return [value, np.concatenate([outputs[:-1], outputs[-1:] + h]), *rest]


def nudged(array: Any, eps: float) -> Any:
    """An array that differs by some roundings."""
    if array.dtype.kind != "f":
        return array
    noise = 2 * eps * np.random.default_rng(0).normal(size=array.shape)
    return (array + noise * (np.abs(array) + (array == 0))).astype(array.dtype)


def jitter(
    by_engine: Callable[..., dict[Any, Any]], expected: dict[Any, Any], arrays: Sequence[Any]
) -> dict[Any, float]:
    """How far apart two right programs may be: a hundred times as far as the engine is from itself, some roundings on.

    That is the scale of what cancels in a result which is zero but for rounding, and of what grows in a chaotic one.
    Of what is something else each time, nothing is said.
    """
    again, near = by_engine(arrays), [by_engine([nudged(a, k * rounding(arrays)) for a in arrays]) for k in (1, 2, 3)]
    steady = {name: a for name, a in expected.items() if np.array_equal(a, again[name], equal_nan=True)}
    return {name: 100 * largest(a - other[name] for other in near) for name, a in steady.items()}


def largest(arrays: Iterable[Any]) -> float:
    """The largest of all elements that are finite, in size."""
    return max((np.abs(a[np.isfinite(a)]).max(initial=0.0) for a in map(np.asarray, arrays)), default=0.0)


def _evaluated(roots: Iterable[Node], given: Mapping[Node, Any], steps: int) -> dict[Node, Any]:
    """What nodes are for another number of steps than the example's, from what their leaves are."""
    known = dict(given)
    for node in topological(roots):
        if node not in known:
            static = {key: at_steps(value, steps) for key, value in node.static.items()}
            values = [known[a] for a in node.args]
            known[node] = run(node.op, values, static, node.keywords) if values else at_steps(node.value, steps)
    return known


def rounding(arrays: Iterable[Any]) -> float:
    """The relative error of the least precise of some arrays."""
    return max(float(np.finfo(a.dtype).eps) for a in arrays if a.dtype.kind == "f")


def close(got: Any, want: Any, part: float, slack: float = 0.0) -> bool:
    """Equal up to a part of the largest element, or to some slack, and not finite in the same places."""
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.isclose(got, want, rtol=0, atol=part * largest([want]) + slack + np.finfo(want.dtype).tiny)
        near |= ~(np.isfinite(got) | np.isfinite(want))
    return np.shape(got) == want.shape and bool(near.all())


def disagreeing(
    found: Mapping[str, Any], wanted: Mapping[str, Any], slack: Mapping[str, float] | None = None
) -> list[str]:
    """Which gradients are not what is wanted but for rounding, each on its own scale, or are missing.

    One that is zero but for rounding agrees with any other rounding of the largest; `slack` allows some of them more.
    """
    eps = rounding(wanted.values())
    noise = 100 * eps * largest(g for name, g in wanted.items() if name != "the loss")
    return [
        name
        for name, g in wanted.items()
        if name not in found or not close(found[name], g, 1000 * eps, noise + (slack or {}).get(name, 0.0))
    ]


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
        with recorded():
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
    before = Contents(loss)
    with recorded(), naming():
        value = call(loss, {"outputs": h, "state": state_of(finals, step.form)}, more)
    trace.check()
    before.refuse_change(trace, "the loss", "from call to call: pass it as an argument")
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
    """Write functions of T where the two traces differ; whether that is all is seen by comparing with the engine."""
    for a, b in zip(nodes, longer, strict=True):
        a.static = {key: united(value, b.static[key], short, long) for key, value in a.static.items()}
        for p, q in zip((a, *a.args), (b, *b.args), strict=True):
            if p.op == "number":
                p.value = united(p.value, q.value, short, long)


def united(a: Any, b: Any, short: int, long: int) -> Any:
    """The one function of T that is `a` for `short` steps and `b` for `long` ones; ValueError if none is known.

    Examples
    --------
    >>> united((4, 8), (9, 8), 4, 9), united(1 / 12, 1 / 27, 4, 9), united(3, 8, 4, 9), united(1 / 9, 1 / 24, 4, 9)
    ((T, 8), 1 / (3 * T), T - 1, 1 / (3 * T - 3))
    """
    if static_key(a) == static_key(b):
        return a
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return tuple([united(p, q, short, long) for p, q in zip(a, b, strict=True)])
    if isinstance(a, slice) and isinstance(b, slice):
        return slice(*(united(getattr(a, k), getattr(b, k), short, long) for k in ("start", "stop", "step")))
    if type(a) is int and type(b) is int:
        slope, rest = divmod(b - a, long - short)
        if not rest:
            return TInt.of(a, slope, a - slope * short)
    if type(a) is float and type(b) is float:
        if np.isclose(a * short, b * long, rtol=1e-14, atol=0) and not (1 / a).is_integer():
            return TFloat.of(a * short, TInt.of(short, 1))
        one, other = (round(1 / x) for x in (a, b))
        if np.allclose((one * a, other * b), 1, rtol=1e-9, atol=0):
            return TFloat.of(1.0, united(one, other, short, long))
    raise ValueError(f"the loss depends on the number of steps in a way that cannot be followed: {a!r}, then {b!r}")
