"""Faults in what a rule of the page of derivatives returns: what no change of its text would say so simply."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn import OPS
from tinygrad_rnn.gathering import Uses
from tinygrad_rnn.primitive import EachOperand, Gathered
from tinygrad_rnn.tensor import Tensor, raw

SLIGHTLY = 1 + 1e-5

# Faults of a result: `fault(value, x)` gets what a rule returned and its operand, and returns something wrong.
# It answers Tensors as well as arrays, as the rule does, so that only what is meant to be wrong is.


def _times(value: Any, weights: Any) -> Any:
    return value * np.asarray(weights).astype(value.dtype)


def _only_if(condition: Callable[[Any, Any], bool], factor: float = SLIGHTLY) -> Callable[[Any, Any], Any]:
    return lambda value, x: _times(value, factor) if condition(raw(value), raw(x)) else value


def _last_element_off(value: Any, x: Any) -> Any:
    weights = np.ones(value.shape)
    if weights.size:
        weights.flat[-1] = 1.01
    return _times(value, weights)


def _transposed(value: Any, x: Any) -> Any:
    if value.ndim < 2 or value.shape[-1] != value.shape[-2]:
        return value
    return np.transpose(value, (*range(value.ndim - 2), value.ndim - 1, value.ndim - 2))


def _stretched_axes(value: Any, x: Any) -> int:
    """Along how many axes the operand was repeated, those that it does not have included."""
    lead = value.ndim - x.ndim
    return lead + sum(n == 1 != m for n, m in zip(np.shape(x), value.shape[lead:], strict=True))


def _mean_over_stretched(value: Any, x: Any) -> Any:
    return _times(value, x.size / value.size) if value.size and _stretched_axes(value, x) else value


def _first_of_stretched(value: Any, x: Any) -> Any:
    weights, lead = np.ones(value.shape), value.ndim - x.ndim
    for axis, m in enumerate(value.shape):
        if m > 1 and (axis < lead or x.shape[axis - lead] == 1):
            weights[(slice(None),) * axis + (slice(1, None),)] = 0
    return _times(value, weights)


FAULTS: dict[str, Callable[[Any, Any], Any]] = {
    "sign": lambda value, x: -value,
    "factor 1.001": lambda value, x: _times(value, 1.001),
    "factor 1 + 1e-5": lambda value, x: _times(value, SLIGHTLY),
    "zero": lambda value, x: _times(value, 0),
    "last element off by 1 %": _last_element_off,
    "transposed where square": _transposed,
    "second order only": lambda value, x: _times(value, SLIGHTLY) if isinstance(value, Tensor) else value,
    "float32 only": _only_if(lambda value, x: x.dtype == np.float32, 1.01),
    "0-d operand only": _only_if(lambda value, x: x.ndim == 0),
    "1-d operand only": _only_if(lambda value, x: x.ndim == 1),
    "2-d square operand only": _only_if(lambda value, x: x.ndim == 2 and x.shape[0] == x.shape[1] > 1),
    "3-d operand only": _only_if(lambda value, x: x.ndim == 3),
    "stretched: mean for sum": _mean_over_stretched,
    "stretched: first for sum": _first_of_stretched,
    "stretched twice only": _only_if(lambda value, x: _stretched_axes(value, x) >= 2),
}

RANKS = {"0-d": 0, "1-d": 1, "2-d": 2, "3-d": 3}
STRETCHED = "add subtract multiply divide power maximum minimum where matmul broadcast_to".split()
FEWEST = {"cumsum": 1, "concatenate": 1, "matmul": 1, "scatter": 0}
"""The smallest rank of an operand, where it is not 0."""
OF_RANK = {("linear", 1): 2, ("linear", 2): 1} | {("affine", i): 2 - (i % 3 == 2) for i in (1, 2, 4, 5)}
"""Operands that have one rank only."""


def sensible(op: str, operand: int, fault: str) -> bool:
    """Whether an operand can be such that the fault shows."""
    rank = RANKS.get(fault.split()[0])
    if fault.startswith("stretched"):
        return op in STRETCHED or (
            (op, operand) in {("linear", 2), ("affine", 2), ("affine", 5)} and "twice" not in fault
        )
    if fault == "transposed where square":
        return OF_RANK.get((op, operand)) != 1
    if rank is None:
        return True
    if (op, operand) in OF_RANK:
        return rank == OF_RANK[op, operand]
    return rank >= (1 if op in ("linear", "affine") else FEWEST.get(op, 0))


# How a fault gets at each kind of rule


def faulty(rule: Any, fault: Callable[[Any, Any], Any], operand: int) -> Any:
    """The rule, with a fault in what it returns."""
    if isinstance(rule, Gathered):
        return Gathered(
            faulty(rule.__wrapped__, fault, operand),
            lambda uses: fault(rule.total(uses), uses[0][0][2 + operand]),
            rule.each and (lambda uses: np.array([fault(g, uses[0][0][2 + operand]) for g in rule.each(uses)])),
        )
    return lambda g, y, *xs, **static: fault(rule(g, y, *xs, **static), xs[operand])


def heedless(rule: Any, operand: int) -> Any:
    """The rule, with a cotangent of ones whatever arrives."""
    ones = lambda g: np.ones(g.shape, g.dtype)  # noqa: E731
    if isinstance(rule, Gathered):
        alike = lambda uses: Uses([((ones(g), *xs), static, node) for (g, *xs), static, node in uses])  # noqa: E731
        each = rule.each and (lambda uses: rule.each(alike(uses)))
        return Gathered(heedless(rule.__wrapped__, operand), lambda uses: rule.total(alike(uses)), each)
    return lambda g, *xs, **static: rule(ones(g), *xs, **static)


def constant_cotangent(rule: Any, operand: int) -> Any:
    """The rule, through whose cotangent nobody can differentiate again."""
    if isinstance(rule, Gathered):  # without `recorded`: nothing is gathered where somebody differentiates again
        return Gathered(constant_cotangent(rule.__wrapped__, operand), rule.total, rule.each)
    return lambda g, *xs, **static: rule(raw(g), *xs, **static)


class _LastOperand:
    """Faults of an n-ary rule, in the contribution to the last of several operands."""

    def __init__(self, rules: Any, change: Callable[[Any, int], Any]) -> None:
        self.rules, self.change = rules, change

    def __getitem__(self, which: int) -> Any:
        rule = self.rules[which]
        return self.change(rule, which) if which else rule

    def of(self, inputs: tuple[Any, ...], static: dict[str, Any]) -> Any:
        return EachOperand(lambda **_: lambda which: self[which](*inputs, **static))


def every_fault() -> dict[str, tuple[str, Callable[[], None]]]:
    """Every fault in the result of every rule: by its name the op, and what plants it, for good."""
    changes = {name: partial(lambda fault, rule, i: faulty(rule, fault, i), fault) for name, fault in FAULTS.items()}
    changes |= {"cotangent ignored": heedless, "cotangent held constant": constant_cotangent}
    found: dict[str, tuple[str, Callable[[], None]]] = {}
    for op in OPS.values():
        for fault, change in changes.items():
            for i in [0] if op.nary else range(len(op.rules)):
                if sensible(op.name, i, fault):
                    place = "last" if op.nary else i
                    found[f"{op.name}.{place}: {fault}"] = op.name, partial(_replace, op, i, change)
        if not op.nary and len(op.rules) > 1:
            found[f"{op.name}: rules swapped"] = op.name, partial(_swap, op)
    return found


def planted(name: str) -> None:
    """Plant a fault for good, in a process that is of no further use."""
    every_fault()[name][1]()


def _replace(op: Any, operand: int, change: Callable[[Any, int], Any]) -> None:
    if op.nary:
        op.rules = _LastOperand(op.rules, change)
    else:
        op.rules = tuple(change(rule, i) if i == operand else rule for i, rule in enumerate(op.rules))


def _swap(op: Any) -> None:
    rules = tuple(op.rules)
    if len(rules) == 3:
        op.rules = rules[0], rules[2], rules[1]
    else:
        op.rules = rules[::-1] if len(rules) == 2 else (*rules[3:], *rules[:3])
