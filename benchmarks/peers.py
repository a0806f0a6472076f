"""The programs that `benchmarks.unrolled` compares: ours, hand-written NumPy, and the peers.

`PROGRAMS` maps a name to a factory. The factory gets a `Problem`, does what a user does once (make tensors, make a
cell), and returns a function without arguments that runs forward and backward and returns the four gradients. A factory
imports its own library, so a peer that is not installed raises ImportError there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import handwritten
from benchmarks.handwritten import Array

Run = Callable[[], Sequence[Array]]


class Problem(NamedTuple):
    """An unrolled network and its loss: ``kind`` is "rnn" or "lstm"; see `benchmarks.handwritten` for the arrays."""

    kind: str
    x: Array
    weights: tuple[Array, ...]
    v: Array

    @classmethod
    def random(cls, kind: str, steps: int, batch: int, inputs: int, hidden: int) -> Problem:
        """Standard normal inputs; weights and biases uniform in +-1/sqrt(H), as in PyTorch; float32."""
        rng = np.random.default_rng(0)
        rows = hidden * (4 if kind == "lstm" else 1)
        shapes = [(rows, inputs), (rows, hidden), (rows,), (rows,)]
        weights = tuple(rng.uniform(-1, 1, shape).astype("f4") / np.float32(np.sqrt(hidden)) for shape in shapes)
        x, v = rng.standard_normal((steps, batch, inputs)), rng.standard_normal((batch, hidden))
        return cls(kind, x.astype("f4"), weights, v.astype("f4"))


def _textbook_step(kind: str, n: int, affine: Any, tanh: Any, sigmoid: Any) -> Any:
    """One step in the formulas of a textbook, for libraries that differ only in what the functions are called."""

    def rnn(x: Any, state: Any, *weights: Any) -> Any:
        return (tanh(affine(x, state[0], *weights)),)

    def lstm(x: Any, state: Any, *weights: Any) -> Any:
        h, c = state
        z = affine(x, h, *weights)
        i, f, g, o = z[:, :n], z[:, n : 2 * n], z[:, 2 * n : 3 * n], z[:, 3 * n :]
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    return lstm if kind == "lstm" else rnn


def _zeros(problem: Problem) -> tuple[Array, ...]:
    return tuple(np.zeros_like(problem.v) for _ in range(2 if problem.kind == "lstm" else 1))


def tinygrad_rnn(problem: Problem) -> Run:
    """This package: its own cells, unrolled, scopes on."""
    import tinygrad_rnn as tg

    cells: dict[str, Any] = {"rnn": tg.RNNCell, "lstm": tg.LSTMCell}
    _, _, inputs = problem.x.shape
    cell = cells[problem.kind](inputs, problem.v.shape[1], dtype=np.float32)
    cell.load_state_dict(dict(zip(cell.parameters(), problem.weights, strict=True)))
    parameters = list(cell.parameters().values())

    def run() -> Sequence[Array]:
        _, state = tg.unroll(cell, problem.x)
        h = state[0] if isinstance(state, tuple) else state
        for parameter in parameters:
            parameter.grad = None
        (h * problem.v).sum().backward()
        return [parameter.grad.data for parameter in parameters]

    return run


def plain_numpy(problem: Problem) -> Run:
    program = {"rnn": handwritten.plain_rnn, "lstm": handwritten.plain_lstm}[problem.kind]
    return lambda: program(problem.x, *problem.weights, problem.v)[1]


def expert_numpy(problem: Problem) -> Run:
    program = {"rnn": handwritten.expert_rnn, "lstm": handwritten.expert_lstm}[problem.kind]
    return lambda: program(problem.x, *problem.weights, problem.v)[1]


def torch_ops(problem: Problem) -> Run:
    """PyTorch, eager, one operation per formula."""
    import torch
    from torch.nn.functional import linear

    def affine(x: Any, h: Any, W: Any, U: Any, b: Any, d: Any) -> Any:
        return linear(x, W, b) + linear(h, U, d)

    torch.set_num_threads(1)
    weights = [torch.tensor(w, requires_grad=True) for w in problem.weights]
    x, v, initial = torch.tensor(problem.x), torch.tensor(problem.v), [torch.tensor(z) for z in _zeros(problem)]
    step = _textbook_step(problem.kind, problem.v.shape[1], affine, torch.tanh, torch.sigmoid)

    def run() -> Sequence[Array]:
        state: Any = initial
        for x_t in x:
            state = step(x_t, state, *weights)
        for weight in weights:
            weight.grad = None
        (state[0] * v).sum().backward()
        return [weight.grad.numpy() for weight in weights]  # type: ignore[union-attr]

    return run


def torch_cells(problem: Problem) -> Run:
    """PyTorch's own cells in a loop."""
    import torch

    torch.set_num_threads(1)
    make = torch.nn.LSTMCell if problem.kind == "lstm" else torch.nn.RNNCell
    cell: Any = make(problem.x.shape[2], problem.v.shape[1])
    cell.load_state_dict({key: torch.tensor(w) for key, w in zip(cell.state_dict(), problem.weights, strict=True)})
    x, v, initial = torch.tensor(problem.x), torch.tensor(problem.v), [torch.tensor(z) for z in _zeros(problem)]

    def run() -> Sequence[Array]:
        state: Any = tuple(initial) if problem.kind == "lstm" else initial[0]
        for x_t in x:
            state = cell(x_t, state)
        cell.zero_grad()
        ((state[0] if problem.kind == "lstm" else state) * v).sum().backward()
        return [parameter.grad.numpy() for parameter in cell.parameters()]

    return run


def mygrad(problem: Problem) -> Run:
    """MyGrad, with its memory guard off, as its manual advises for speed."""
    import mygrad as mg
    from mygrad.nnet.activations import sigmoid

    def affine(x: Any, h: Any, W: Any, U: Any, b: Any, d: Any) -> Any:
        return mg.matmul(x, W.T) + b + mg.matmul(h, U.T) + d

    weights = [mg.tensor(w) for w in problem.weights]
    initial = [mg.tensor(z, constant=True) for z in _zeros(problem)]
    step = _textbook_step(problem.kind, problem.v.shape[1], affine, mg.tanh, sigmoid)

    def run() -> Sequence[Array]:
        with mg.mem_guard_off:
            state: Any = initial
            for x_t in problem.x:
                state = step(x_t, state, *weights)
            for weight in weights:
                weight.null_grad()
            (state[0] * problem.v).sum().backward()
            return [weight.grad for weight in weights]

    return run


def hips_autograd(problem: Problem) -> Run:
    """HIPS autograd."""
    import autograd.numpy as anp
    from autograd import grad

    def affine(x: Any, h: Any, W: Any, U: Any, b: Any, d: Any) -> Any:
        return anp.dot(x, W.T) + b + anp.dot(h, U.T) + d

    step = _textbook_step(problem.kind, problem.v.shape[1], affine, anp.tanh, lambda z: 1 / (1 + anp.exp(-z)))

    def loss(weights: Any) -> Any:
        state: Any = _zeros(problem)
        for x_t in problem.x:
            state = step(x_t, state, *weights)
        return anp.sum(state[0] * problem.v)

    gradient: Any = grad(loss)
    return lambda: gradient(problem.weights)


BASELINE = "plain NumPy"
PROGRAMS: dict[str, Callable[[Problem], Run]] = {
    "tinygrad_rnn": tinygrad_rnn,
    BASELINE: plain_numpy,
    "expert NumPy": expert_numpy,
    "torch ops": torch_ops,
    "torch cells": torch_cells,
    "MyGrad": mygrad,
    "HIPS autograd": hips_autograd,
}
