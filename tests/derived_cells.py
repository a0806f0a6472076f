"""Random recurrent cells, composed of primitives, and the engine's answer for any cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinygrad_rnn as tg

H, I = 4, 3  # noqa: E741
CONSTANT = np.linspace(-0.5, 0.5, H)


def _halves(a: Any, b: Any) -> Any:
    return tg.concatenate([a[..., : H // 2], tg.tanh(b[..., H // 2 :])], axis=-1)


def _gates(cell: Any, a: Any, b: Any) -> Any:
    z = tg.linear(a, cell.V, cell.v)
    i, g = z[..., :H], z[..., H:]
    return tg.sigmoid(i) * tg.tanh(g) + (1 - tg.sigmoid(i)) * b


def _rotated(cell: Any, a: Any, b: Any) -> Any:
    return a @ (cell.U - cell.U.T - 0.1 * np.eye(H, dtype=cell.U.dtype))


def _named(cell: Any, a: Any, b: Any) -> Any:
    gate = tg.sigmoid(a + b)
    gate.name = "gate"
    return gate * a


MOVES: dict[str, Any] = {
    "add": lambda cell, a, b: a + b,
    "subtract": lambda cell, a, b: a - b,
    "multiply": lambda cell, a, b: a * b,
    "divide": lambda cell, a, b: a / (2 + b * b),
    "twice": lambda cell, a, b: a + a * 0.5 + a * b,
    "tanh": lambda cell, a, b: tg.tanh(a),
    "np.tanh": lambda cell, a, b: np.tanh(a),
    "sigmoid": lambda cell, a, b: tg.sigmoid(a),
    "relu": lambda cell, a, b: tg.relu(a),
    "leaky_relu": lambda cell, a, b: tg.leaky_relu(a, 0.2),
    "softplus": lambda cell, a, b: tg.softplus(a),
    "sin": lambda cell, a, b: tg.sin(a) * tg.cos(b),
    "exp": lambda cell, a, b: tg.exp(-(a**2)),
    "sqrt": lambda cell, a, b: tg.sqrt(1 + tg.square(a)) - tg.log(1 + b * b) - tg.log1p(b * b) + tg.expm1(0.1 * a),
    "abs": lambda cell, a, b: abs(a) - tg.maximum(a, b) + tg.minimum(a, b),
    "clip": lambda cell, a, b: tg.clip(a, -0.3, 0.4),
    "where": lambda cell, a, b: tg.where(a > b, a, 0.5 * b),
    "mask": lambda cell, a, b: tg.where(CONSTANT > 0, a, b),
    "detach": lambda cell, a, b: a * b.detach(),
    "softmax": lambda cell, a, b: tg.softmax(a) * b,
    "norm": lambda cell, a, b: (a - tg.mean(a, -1, keepdims=True)) / tg.sqrt(tg.var(a, -1, keepdims=True) + 1e-2),
    "sum": lambda cell, a, b: a * tg.sum(b, -1, keepdims=True),
    "max": lambda cell, a, b: a - tg.max(a, -1, keepdims=True),
    "logsumexp": lambda cell, a, b: a - tg.logsumexp(b, -1, keepdims=True),
    "mean of all": lambda cell, a, b: a * tg.mean(b),
    "bias": lambda cell, a, b: a * cell.p + cell.v[:H],
    "constant": lambda cell, a, b: a * CONSTANT.astype(cell.U.dtype) + cell.fixed,
    "linear": lambda cell, a, b: tg.linear(a, cell.U, cell.p),
    "matmul": lambda cell, a, b: a @ cell.U.T + b @ cell.U,
    "rotated": _rotated,
    "einsum": lambda cell, a, b: tg.einsum("...i,ij->...j", a, cell.U),
    "gates": _gates,
    "halves": lambda cell, a, b: _halves(a, b),
    "named": _named,
    "flip": lambda cell, a, b: a[..., ::-1],
    "pick": lambda cell, a, b: a[..., [1, 0, 1, 3]],
    "cumsum": lambda cell, a, b: tg.cumsum(a, -1) * 0.3,
    "stack": lambda cell, a, b: tg.sum(tg.stack([a, b], 0), 0),
    "reshape": lambda cell, a, b: tg.reshape(tg.reshape(a, (-1, 2)) * 0.5, a.shape) + b,
    "transpose": lambda cell, a, b: (a.T * 0.5).T,
    "broadcast": lambda cell, a, b: a + tg.broadcast_to(cell.p, a.shape),
    "outer": lambda cell, a, b: tg.sum(a[..., :, None] * b[..., None, :], -1),
    "peep": lambda cell, a, b: a + cell.P[0] * b,
}


@dataclass(repr=False)
class RandomCell:
    """Values are computed one after the other, each from any two earlier ones; the last ones are the new state."""

    moves: tuple[tuple[str, int, int], ...]
    states: int
    dtype: str = "f8"

    def __post_init__(self) -> None:
        rng = np.random.default_rng(len(self.moves))
        shapes = {"W": (H, I), "U": (H, H), "b": (H,), "p": (H,), "V": (2 * H, H), "v": (2 * H,), "P": (2, H)}
        for name, shape in shapes.items():
            setattr(self, name, tg.Tensor(rng.uniform(-0.7, 0.7, shape).astype(self.dtype), requires_grad=True))
        self.fixed = tg.Tensor(np.full(H, 0.1, self.dtype))

    def __repr__(self) -> str:
        return f"RandomCell({self.moves}, {self.states}, {self.dtype!r})"

    def parameters(self) -> dict[str, tg.Tensor]:
        return {name: getattr(self, name) for name in ("W", "U", "b", "p", "V", "v", "P")}

    def initial_state(self, batch: int | None) -> Any:
        rng = np.random.default_rng(9)
        shape = (H,) if batch is None else (batch, H)
        first = [tg.Tensor(rng.uniform(-1, 1, shape).astype(self.dtype)) for _ in range(self.states)]
        return tuple(first) if self.states > 1 else first[0]

    def __call__(self, x: Any, state: Any) -> Any:
        values = [tg.affine(x, self.W, self.b, state[0] if self.states > 1 else state, self.U, self.p)]
        values += list(state) if self.states > 1 else [state]
        for name, a, b in self.moves:
            values.append(MOVES[name](self, values[a % len(values)], values[b % len(values)]))
        new = [tg.tanh(v) for v in values[-1 : -1 - self.states : -1]]
        return tuple(new) if self.states > 1 else new[0]


def random_cells(dtype: str = "f8") -> st.SearchStrategy[RandomCell]:
    """Cells of up to six moves and one to three states."""
    moves = st.lists(st.tuples(st.sampled_from(sorted(MOVES)), st.integers(0, 8), st.integers(0, 8)), max_size=6)
    return st.builds(RandomCell, moves.map(tuple), st.integers(1, 3), st.just(dtype))


LOSSES: dict[str, Any] = {
    "last output": lambda outputs: tg.sum(outputs[-1] * 0.5),
    "all outputs": lambda outputs: tg.mean(tg.square(outputs)),
    "state": lambda state: tg.sum(tg.square(state[-1] if isinstance(state, tuple) else state)),
    "both": lambda outputs, state: (
        tg.sum(outputs[-1]) * tg.mean(outputs) + tg.sum(state[-1] if isinstance(state, tuple) else state)
    ),
    "target": lambda outputs, target: tg.mse_loss(outputs, target),
}


def by_engine(
    cell: Any, loss: Any, inputs: Any, state: Any, extras: tuple[Any, ...] = ()
) -> tuple[float, dict[str, Any]]:
    """Loss and gradients as the engine has them, in the form in which a program returns them."""
    nested = isinstance(state, tuple)
    x = tg.Tensor(inputs, requires_grad=True)
    first = [tg.Tensor(s, requires_grad=True) for s in (state if nested else (state,))]
    outputs, last = tg.unroll(cell, x, tuple(first) if nested else first[0])
    names = loss.__code__.co_varnames[: loss.__code__.co_argcount]
    rest = iter(extras)
    value = loss(*(last if n == "state" else outputs if n == "outputs" else next(rest) for n in names))
    parameters = cell.parameters()
    found = tg.grad(value, [*parameters.values(), x, *first], allow_unused=True)
    gradients: dict[str, Any] = dict(zip([*parameters, "inputs"], (g.data for g in found), strict=False))
    states = tuple(g.data for g in found[len(parameters) + 1 :])
    return value.item(), gradients | {"state": states if nested else states[0]}


def assert_equal(got: tuple[float, dict[str, Any]], want: tuple[float, dict[str, Any]], dtype: Any) -> None:
    """Equal to rounding: some hundred units in the last place of the largest element."""
    eps = 500 * np.finfo(dtype).eps
    np.testing.assert_allclose(got[0], want[0], rtol=eps, atol=eps)
    assert got[1].keys() == want[1].keys()
    for name, expected in want[1].items():
        for a, b in zip(*(v if isinstance(v, tuple) else (v,) for v in (got[1][name], expected)), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), name
            np.testing.assert_allclose(a, b, rtol=0, atol=eps * max(1, np.abs(b).max(initial=0)), err_msg=name)
