"""Random programs: directed acyclic graphs of primitives, drawn step by step and evaluated while drawn.

Every step picks any earlier values, so that sharing is common: `x * x`, fan-out, diamonds, dead ends. A step that would
leave the range in which differences can be trusted (large values, a kink nearby) becomes a tame one instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from strategies import grid

import tinygrad_rnn as tg

LARGEST = 30.0
NEAR = 0.02

CALLS: dict[str, Any] = {
    "concatenate": lambda *xs, axis: tg.concatenate(xs, axis),
    "stack": lambda *xs, axis: tg.stack(xs, axis),
}
TAME = ["tanh", "sin", "sigmoid"]
UNARY = [*TAME, "square", "exp", "negative", "relu", "abs"]
BINARY = ["add", "subtract", "multiply", "maximum"]
KINDS = ["unary", "binary", "binary", "binary", "matmul", "linear", "reduce", "shape", "getitem", "join"]


@dataclass(frozen=True)
class Step:
    """One primitive applied to earlier values, which are counted from the first leaf."""

    name: str
    operands: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def apply(self, values: list[Any]) -> Any:
        call = CALLS.get(self.name) or getattr(tg, self.name)
        return call(*(values[i] for i in self.operands), **self.options)


@dataclass(frozen=True)
class Program:
    """Leaves and what is computed from them; the last value is the result."""

    leaves: tuple[Any, ...]
    steps: tuple[Step, ...]

    def values(self, leaves: Any) -> list[Any]:
        values = list(leaves)
        for step in self.steps:
            values.append(step.apply(values))
        return values

    def __call__(self, *leaves: Any) -> Any:
        return self.values(leaves)[-1]

    def uses(self) -> dict[int, int]:
        """How often each value on which the result depends is an operand of one on which it depends too."""
        first = len(self.leaves)
        counts = {first + len(self.steps) - 1: 0}
        for k in reversed(range(len(self.steps))):
            if first + k in counts:
                for i in self.steps[k].operands:
                    counts[i] = counts.get(i, 0) + 1
        return counts


def _unary(draw: Any, values: list[Any], a: int) -> Step:
    return Step(draw(st.sampled_from(UNARY)), (a,))


def _binary(draw: Any, values: list[Any], a: int) -> Step:
    fitting = [i for i, v in enumerate(values) if _broadcasts(v.shape, values[a].shape)]
    return Step(draw(st.sampled_from(BINARY)), (a, draw(st.sampled_from(fitting))))


def _matmul(draw: Any, values: list[Any], a: int) -> Step | None:
    x = values[a]
    fitting = [i for i, v in enumerate(values) if x.ndim and v.ndim in (1, 2) and v.shape[0] == x.shape[-1]]
    return Step("matmul", (a, draw(st.sampled_from(fitting)))) if fitting else None


def _linear(draw: Any, values: list[Any], a: int) -> Step | None:
    x = values[a]
    weights = [i for i, v in enumerate(values) if x.ndim and v.ndim == 2 and v.shape[1] == x.shape[-1]]
    biases = [i for i, v in enumerate(values) if any(v.shape == values[w].shape[:1] for w in weights)]
    if not biases:
        return None
    b = draw(st.sampled_from(biases))
    w = draw(st.sampled_from([w for w in weights if values[w].shape[:1] == values[b].shape]))
    return Step("linear", (a, w, b))


def _reduce(draw: Any, values: list[Any], a: int) -> Step:
    axis = draw(st.sampled_from([None, *range(-values[a].ndim, values[a].ndim)]))
    name = draw(st.sampled_from(["sum", "mean", "logsumexp"]))
    return Step(name, (a,), {"axis": axis, "keepdims": draw(st.booleans())})


def _shape(draw: Any, values: list[Any], a: int) -> Step:
    steps = [Step("transpose", (a,)), Step("reshape", (a,), {"shape": (-1,)})]
    if values[a].ndim == 1:
        steps.append(Step("broadcast_to", (a,), {"shape": (2, *values[a].shape)}))
    if values[a].ndim:
        steps.append(Step("cumsum", (a,), {"axis": 0}))
    return draw(st.sampled_from(steps))


def _getitem(draw: Any, values: list[Any], a: int) -> Step | None:
    indices: list[Any] = [([0, 0, -1],), (slice(None, None, -1),), (Ellipsis, 0), (None, slice(1, None))]
    return Step("getitem", (a,), {"index": draw(st.sampled_from(indices))}) if values[a].ndim else None


def _join(draw: Any, values: list[Any], a: int) -> Step:
    fitting = [i for i, v in enumerate(values) if v.shape == values[a].shape]
    others = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=2))
    name = draw(st.sampled_from(["stack", "concatenate"] if values[a].ndim else ["stack"]))
    return Step(name, (a, *others), {"axis": draw(st.sampled_from([0, -1]))})


DRAWN = {
    "unary": _unary,
    "binary": _binary,
    "matmul": _matmul,
    "linear": _linear,
    "reduce": _reduce,
    "shape": _shape,
    "getitem": _getitem,
    "join": _join,
}


def _broadcasts(*shapes: tuple[int, ...]) -> bool:
    try:
        return len(np.broadcast_shapes(*shapes)) <= 3
    except ValueError:
        return False


def _trusted(step: Step, values: list[Any]) -> bool:
    """Whether differences can be trusted at this step: nothing large, no kink near, no explosion of sizes."""
    operands = [values[i] for i in step.operands]
    if step.name in ("relu", "abs") and np.abs(operands[0]).min(initial=1) < NEAR:
        return False
    if step.name == "maximum" and np.abs(operands[0] - operands[1]).min(initial=1) < NEAR:
        return False
    if step.name in ("mean", "logsumexp") and not operands[0].size:
        return False
    y = step.apply(values)
    return y.size <= 36 and y.ndim <= 3 and float(np.abs(y).max(initial=0)) <= LARGEST


@st.composite
def programs(draw: Any, most: int = 8) -> Program:
    """Programs of up to `most` steps on matrices, vectors and a scalar that fit each other."""
    square = draw(st.booleans())
    n, m = (2, 2) if square else (2, 3)
    possible = [(n, m), (m, n), (m,), (n,), (), (1, m), (m, m)]
    shapes = [(n, m), *draw(st.lists(st.sampled_from(possible), min_size=1, max_size=3))]
    leaves = tuple(draw(grid(shape, -1.5, 1.5)) for shape in shapes)
    values: list[Any] = list(leaves)
    steps: list[Step] = []
    for _ in range(draw(st.integers(2, most))):
        a = draw(st.integers(0, len(values) - 1))
        step = DRAWN[draw(st.sampled_from(KINDS))](draw, values, a)
        if step is None or not _trusted(step, values):
            step = Step(draw(st.sampled_from(TAME)), (len(values) - 1,))
        steps.append(step)
        values.append(step.apply(values))
    return Program(leaves, tuple(steps))
