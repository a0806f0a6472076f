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


def tinygrad_rnn(problem: Problem, every: bool = False) -> Run:
    """This package: its own cells, unrolled, scopes on; the loss reads the last output, or every one."""
    import tinygrad_rnn as tg

    cells: dict[str, Any] = {"rnn": tg.RNNCell, "lstm": tg.LSTMCell}
    _, _, inputs = problem.x.shape
    cell = cells[problem.kind](inputs, problem.v.shape[1], dtype=np.float32)
    cell.load_state_dict(dict(zip(cell.parameters(), problem.weights, strict=True)))
    parameters = list(cell.parameters().values())

    def run() -> Sequence[Array]:
        outputs, state = tg.unroll(cell, problem.x)
        h = state[0] if isinstance(state, tuple) else state
        for parameter in parameters:
            parameter.grad = None
        ((outputs if every else h) * problem.v).sum().backward()
        return [parameter.grad.data for parameter in parameters]

    return run


def plain_numpy(problem: Problem) -> Run:
    program = {"rnn": handwritten.plain_rnn, "lstm": handwritten.plain_lstm}[problem.kind]
    return lambda: program(problem.x, *problem.weights, problem.v)[1]


def expert_numpy(problem: Problem) -> Run:
    program = {"rnn": handwritten.expert_rnn, "lstm": handwritten.expert_lstm}[problem.kind]
    return lambda: program(problem.x, *problem.weights, problem.v)[1]


def blas_products(problem: Problem) -> Run:
    """The matrix products alone, by BLAS and from Python, each as large as it may be, and no floor."""
    x, (W, U, _, _), v = problem.x, problem.weights, problem.v
    steps, (batch, n) = len(x), v.shape
    rows, z = x.reshape(steps * batch, -1), np.ones((steps * batch, len(W)), "f4")
    h, transposed = np.ones((steps * batch, n), "f4"), np.ascontiguousarray(U.T)
    forward, back, inputs = np.empty((batch, len(W)), "f4"), np.empty_like(v), np.empty_like(z)

    def run() -> Sequence[Array]:
        np.matmul(rows, W.T, out=inputs)
        for _ in range(steps):
            np.matmul(v, transposed, out=forward)
        for _ in range(steps):
            np.matmul(forward, U, out=back)
        return [z.T @ rows, z.T @ h]

    return run


def derived(problem: Problem, compiled: bool = False) -> Run:
    """This package: the program that `derive_bptt` writes for the cell, as NumPy or compiled."""
    import tinygrad_rnn as tg

    cells: dict[str, Any] = {"rnn": tg.RNNCell, "lstm": tg.LSTMCell}
    cell = cells[problem.kind](problem.x.shape[2], problem.v.shape[1], dtype=np.float32)
    state = _zeros(problem) if problem.kind == "lstm" else _zeros(problem)[0]
    weights = dict(zip(cell.parameters(), problem.weights, strict=True))
    cell.load_state_dict(weights)

    def loss(state: Any) -> Any:
        return tg.sum((state[0] if problem.kind == "lstm" else state) * problem.v)

    program = tg.derive_bptt(cell, loss=loss, example=(problem.x, state), compiled=compiled)

    def run() -> Sequence[Array]:
        gradients = program(problem.x, state, weights)[1]
        return [gradients[name] for name in weights]

    return run


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


def torch_nn(problem: Problem) -> Run:
    """PyTorch's nn.LSTM or nn.RNN: one call, which is a fused kernel for the LSTM in float32 only."""
    import torch

    torch.set_num_threads(1)
    make = torch.nn.LSTM if problem.kind == "lstm" else torch.nn.RNN
    net: Any = make(problem.x.shape[2], problem.v.shape[1])
    net.load_state_dict({key: torch.tensor(w) for key, w in zip(net.state_dict(), problem.weights, strict=True)})
    x, v = torch.tensor(problem.x), torch.tensor(problem.v)

    def run() -> Sequence[Array]:
        net.zero_grad()
        (net(x)[0][-1] * v).sum().backward()
        return [parameter.grad.numpy() for parameter in net.parameters()]

    return run


def jax_scan(problem: Problem) -> Run:
    """JAX: `lax.scan` over the steps, compiled by XLA; compilation is not timed."""
    import jax
    from jax import numpy as jnp

    def affine(x: Any, h: Any, W: Any, U: Any, b: Any, d: Any) -> Any:
        return x @ W.T + b + h @ U.T + d

    step = _textbook_step(problem.kind, problem.v.shape[1], affine, jnp.tanh, jax.nn.sigmoid)
    initial = _zeros(problem)

    def loss(weights: Any, x: Any, v: Any) -> Any:
        state, _ = jax.lax.scan(lambda state, x_t: (step(x_t, state, *weights), None), initial, x)
        return jnp.sum(state[0] * v)

    gradient = jax.jit(jax.grad(loss))
    weights, x, v = (jax.device_put(arrays) for arrays in (problem.weights, problem.x, problem.v))
    return lambda: [np.asarray(g) for g in gradient(weights, x, v)]


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
FLOOR = "BLAS products"  # computes no gradients, so there is nothing to check
PROGRAMS: dict[str, Callable[[Problem], Run]] = {
    "tinygrad_rnn": tinygrad_rnn,
    "derived BPTT": derived,
    "compiled": lambda problem: derived(problem, compiled=True),
    BASELINE: plain_numpy,
    "expert NumPy": expert_numpy,
    FLOOR: blas_products,
    "torch ops": torch_ops,
    "torch cells": torch_cells,
    "torch nn": torch_nn,
    "jax.jit(scan)": jax_scan,
    "MyGrad": mygrad,
    "HIPS autograd": hips_autograd,
}
