"""Random programs: directed acyclic graphs of every registered primitive, drawn step by step and evaluated while drawn.

Every step picks any earlier values, so that sharing is common: ``x * x``, fan-out, diamonds, dead ends. A step that
would leave the range in which differences can be trusted becomes a tame one instead; what that range is, is found by
moving each element a little, so that it holds for primitives that nobody has thought of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ...tensor import OPS
from ..oracles import Array
from .arrays import grid

LARGEST, MOST_ELEMENTS = 30.0, 36
NEAR = 0.02
TAME = ("sigmoid", "tanh", "sin")
TRIES = 3

Values = Sequence[Any]
Choice = tuple[tuple[int, ...], dict[str, Any]]
"""Operands, by their number among the values, and static parameters."""


@dataclass(frozen=True)
class Step:
    """One primitive applied to earlier values, which are counted from the first leaf.

    Attributes
    ----------
    name : str
        Of the primitive.
    operands : tuple of int
        Positions of earlier values.
    static : dict
        Its static parameters.
    """

    name: str
    operands: tuple[int, ...]
    static: dict[str, Any] = field(default_factory=dict)

    def apply(self, values: Values) -> Any:
        """The value of this step, given all earlier ones: Tensors or arrays."""
        return OPS[self.name](*(values[i] for i in self.operands), **self.static)


@dataclass(frozen=True)
class Program:
    """Leaves and what is computed from them; the last value is the result. Call it with Tensors or arrays.

    Attributes
    ----------
    leaves : tuple of array
    steps : tuple of Step
    """

    leaves: tuple[Array, ...]
    steps: tuple[Step, ...]

    def values(self, leaves: Values) -> list[Any]:
        """All values, leaves first."""
        values = list(leaves)
        for step in self.steps:
            values.append(step.apply(values))
        return values

    def __call__(self, *leaves: Any) -> Any:
        """The result."""
        return self.values(leaves)[-1]


def _axes(draw: Any, x: Array) -> dict[str, Any]:
    """A reduction of some axes."""
    axis = draw(st.lists(st.integers(0, x.ndim - 1), unique=True)) if x.ndim else []
    return {"axis": tuple(axis), "keepdims": draw(st.booleans())}


def _pick(draw: Any, x: Array) -> dict[str, Any]:
    n = len(x)
    positions = np.array(draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=3)))  # with repeats
    start = draw(st.integers(0, n - 1))
    simple: list[Any] = [(slice(None, None, -1),), (Ellipsis, 0), (slice(start, None), None)]
    return {"index": draw(st.sampled_from([(positions,), (positions,), *simple]))}


def _place(draw: Any, x: Array) -> dict[str, Any]:
    positions = draw(st.lists(st.integers(0, 2), min_size=len(x), max_size=len(x)))
    return {"index": (np.array(positions, int),), "shape": (3, *x.shape[1:])}


# Static parameters of unary primitives, given the operand; those that need an axis take no scalars.
UNARY: dict[str, Callable[[Any, Array], dict[str, Any]]] = {
    **{name: _axes for name in ("sum", "mean", "max", "min", "logsumexp")},
    "leaky_relu": lambda draw, x: {"slope": draw(st.sampled_from([0.25, -0.5]))},
    "clip": lambda draw, x: {"lo": -0.75, "hi": draw(st.sampled_from([0.5, 1.25]))},
    "reshape": lambda draw, x: {"shape": draw(st.sampled_from([(x.size,), x.shape[::-1], (1, *x.shape)]))},
    "transpose": lambda draw, x: {"axes": tuple(draw(st.permutations(range(x.ndim))))},
    "broadcast_to": lambda draw, x: {"shape": (2, *x.shape)},
    "cast": lambda draw, x: {"dtype": np.dtype(np.float64)},
    "cumsum": lambda draw, x: {"axis": draw(st.integers(0, x.ndim - 1))},
    "getitem": _pick,
    "scatter": _place,
}
NEEDS_AXIS = {"cumsum", "getitem", "scatter"}


def _unary(draw: Any, name: str, values: Values, a: int) -> Choice | None:
    if name in NEEDS_AXIS and not np.ndim(values[a]):
        return None
    return (a,), UNARY[name](draw, values[a]) if name in UNARY else {}


def _several(draw: Any, name: str, values: Values, a: int) -> Choice | None:
    """One operand, and others with which the operation takes it."""
    static = {}
    if name == "where":
        bits = draw(st.lists(st.booleans(), min_size=values[a].size, max_size=values[a].size))
        static["condition"] = np.array(bits, bool).reshape(values[a].shape)
    fitting = [*_fitting(name, values, (a,), static)]
    return (draw(st.sampled_from(fitting)), static) if fitting else None


def _fitting(name: str, values: Values, first: tuple[int, ...], static: dict[str, Any]) -> Iterator[tuple[int, ...]]:
    """All operands that begin so and that the operation takes."""
    for others in product(range(len(values)), repeat=len(OPS[name].rules) - len(first)):
        if _forward(Step(name, (*first, *others), static), values) is not None:
            yield (*first, *others)


def _affine(draw: Any, name: str, values: Values, a: int) -> Choice | None:
    """x Wᵀ + b + h Uᵀ + d: two of `linear` whose results have the same shape."""
    every = [*_fitting("linear", values, (), {})]
    shapes = {found: (len(values[found[0]]), values[found[2]].shape) for found in every}
    both = [(*s, *t) for s, t in product(every, repeat=2) if s[0] == a and shapes[s] == shapes[t]]
    return (draw(st.sampled_from(both)), {}) if both else None


def _join(draw: Any, name: str, values: Values, a: int) -> Choice | None:
    x = values[a]
    if name == "concatenate" and not x.ndim:
        return None
    fitting = [i for i, v in enumerate(values) if v.shape == x.shape]
    others = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=2))
    return (a, *others), {"axis": draw(st.integers(0, x.ndim - (name == "concatenate")))}


def _einsum(draw: Any, name: str, values: Values, a: int) -> Choice:
    """One operand, or two that have labels in common; any labels may be left in the result."""
    labels = "ijk"[: values[a].ndim]
    same = [i for i, v in enumerate(values) if v.shape == values[a].shape]
    others = draw(st.lists(st.sampled_from(same), max_size=1))
    terms = [labels, *("".join(draw(st.permutations(labels))) for _ in others)]  # which may not fit, and is drawn again
    kept = draw(st.lists(st.sampled_from(labels), unique=True)) if labels else []
    return (a, *others), {"subscripts": ",".join(terms) + "->" + "".join(kept)}


FORMS = {"affine": _affine, "concatenate": _join, "stack": _join, "einsum": _einsum}


def _forward(step: Step, values: Values) -> Array | None:
    """The result, if the operation takes these operands."""
    with np.errstate(all="ignore"), suppress(ValueError, IndexError, TypeError):
        return np.asarray(OPS[step.name].forward(*(values[i] for i in step.operands), **step.static))
    return None


def _trusted(step: Step, values: Values) -> bool:
    """Whether differences can be trusted here: nothing large, no kink or edge near, no explosion of sizes."""
    y = _forward(step, values)
    if y is None or y.dtype != np.float64 or y.size > MOST_ELEMENTS or y.ndim > 3 or not (np.abs(y) <= LARGEST).all():
        return False
    alone, operands = replace(step, operands=tuple(range(len(step.operands)))), [values[i] for i in step.operands]
    for i, x in enumerate(operands):
        for k in range(x.size):
            moved = np.zeros(x.size)
            moved[k] = NEAR
            beside = (x + sign * moved.reshape(x.shape) for sign in (1, -1))
            right, left = (_forward(alone, [*operands[:i], other, *operands[i + 1 :]]) for other in beside)
            # Of a smooth function this is NEAR² y'', at a kink NEAR times the jump of the slope.
            if right is None or left is None or not (np.abs(right - 2 * y + left) <= 0.4 * NEAR).all():
                return False
    return True


def _step(draw: Any, name: str, values: Values, a: int) -> Step | None:
    op = OPS[name]
    usual = _join if op.nary else _unary if len(op.rules) == 1 else _several
    choice = FORMS.get(name, usual)(draw, name, values, a)
    step = choice and Step(name, *choice)
    return step if step and _trusted(step, values) else None


def _alive(leaves: int, steps: Sequence[Step]) -> Iterator[Step]:
    """The steps on which the last one depends."""
    needed = {leaves + len(steps) - 1}
    for k in reversed(range(len(steps))):
        needed |= {*steps[k].operands} if leaves + k in needed else set()
    number = {old: new for new, old in enumerate(sorted(needed | {*range(leaves)}))}
    for k, step in enumerate(steps):
        if leaves + k in needed:
            yield replace(step, operands=tuple(number[i] for i in step.operands))


@st.composite
def programs(draw: Any, most: int = 8, ops: Sequence[str] | None = None) -> Program:
    """Programs of up to `most` steps on matrices, vectors and a scalar that fit each other.

    Parameters
    ----------
    most : int
        Steps at most, and what joins their loose ends; one more where a primitive needs operands between 0 and 1.
    ops : sequence of str, optional
        Names of primitives to draw from, yours too; by default all of the package.
    """
    own = sorted({name for name, op in OPS.items() if not op.replaceable} - {*TAME})
    names = [*TAME, *own] if ops is None else list(ops)
    n, m = draw(st.sampled_from([(2, 2), (2, 3)]))
    shapes = [(n, m), (m, m), (m,), *draw(st.lists(st.sampled_from([(), (n,), (1, m), (n, m), (m, n)]), max_size=2))]
    leaves = tuple(draw(grid(shape, -1.5, 1.5)) for shape in shapes)
    values: list[Any] = list(leaves)
    steps: list[Step] = []

    def take(step: Step) -> None:
        steps.append(step)
        values.append(np.asarray(step.apply(values)))

    # Where there are enough names none is drawn twice, and others left out for long; and a failure shrinks further.
    distinct = len(names) > 2 * most
    for name in draw(st.lists(st.sampled_from(names), min_size=min(4, most), max_size=most, unique=distinct)):
        a = draw(st.integers(0, len(values) - 1))
        tried = (_step(draw, name, values, (a + k) % len(values)) for k in range(min(TRIES, len(values))))
        step = next((step for step in tried if step is not None), None)
        if step is None:
            take(Step(draw(st.sampled_from(TAME)), (a,)))
            if len(steps) < most:  # perhaps what lies between 0 and 1, or -1 and 1, is what the primitive needs
                step = _step(draw, name, values, len(values) - 1)
        if step is not None:
            take(step)
    for k in range(len(leaves), len(values) - 1):  # loose ends that fit are joined, others dropped
        step = Step("add", (len(values) - 1, k))
        unused = not any(k in other.operands for other in steps)
        if unused and draw(st.sampled_from([False, *[True] * 4])) and _trusted(step, values):
            take(step)
    return Program(leaves, tuple(_alive(len(leaves), steps)))
