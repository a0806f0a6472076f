"""What one operation costs over NumPy's own, forward and backward, and the memory of one node of a graph.

``python -m benchmarks.per_op``: microseconds for float32 arrays of 4 x 16, where the arithmetic itself costs next to
nothing, so that what remains is the engine's overhead. The backward time is per operation of a chain of them.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from time import process_time
from timeit import repeat
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from benchmarks.peers import Problem
from benchmarks.unrolled import SIZES, WORKLOADS
from tinygrad_rnn.autodiff import pullback

CHAIN = 100
OPERATIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda m, x, w: x + x,
    "multiply": lambda m, x, w: x * x,
    "tanh": lambda m, x, w: m.tanh(x),
    "matmul": lambda m, x, w: x @ w,
    "getitem": lambda m, x, w: x[::-1],
}


def microseconds(run: Callable[[], Any], times: int) -> float:
    """Least processor time of one call, as `timeit` advises: more than that is another process."""
    return min(repeat(run, number=times, repeat=7, timer=process_time)) / times * 1e6


def forward_and_backward(f: Callable[[Any, Any, Any], Any]) -> tuple[float, float, float]:
    """Microseconds of one operation in NumPy, in the engine, and of its share of a backward sweep."""
    rng = np.random.default_rng(0)
    x, w = rng.uniform(0, 0.5, (4, 16)).astype("f4"), np.eye(16, dtype="f4")
    leaf, weight = tg.Tensor(x, requires_grad=True), tg.Tensor(w, requires_grad=True)
    y = leaf
    for _ in range(CHAIN):
        y = f(tg, y, weight)
    seed = np.zeros(y.shape, "f4")  # so that a chain of doublings stays finite
    backward = microseconds(lambda: tg.grad(y, leaf, seed), 20) / CHAIN
    return microseconds(lambda: f(np, x, w), 5000), microseconds(lambda: f(tg, leaf, weight), 5000), backward


def bytes_per_node(length: int = 100_000) -> float:
    """Memory that a chain of scalar operations holds, its arrays included, divided by its length."""
    y = tg.Tensor(0.5, requires_grad=True)
    tracemalloc.start()
    for _ in range(length):
        y = tg.sin(y)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / length


def hook_ratio(kind: str, size: str) -> float:
    """Time of a sweep watched by a hook that does nothing, over that of an unwatched one; they take turns."""
    problem = Problem.random(kind, *SIZES[size])
    cell = {"rnn": tg.RNNCell, "lstm": tg.LSTMCell}[kind](problem.x.shape[2], problem.v.shape[1], dtype=np.float32)
    _, state = tg.unroll(cell, problem.x)
    h = state[0] if kind == "lstm" else state
    sweeps = [partial(pullback, {h: problem.v}), partial(pullback, {h: problem.v}, through=lambda node, i, g: g)]
    turns = [[repeat(sweep, number=1, repeat=1, timer=process_time)[0] for sweep in sweeps] for _ in range(12)]
    unwatched, watched = map(min, zip(*turns, strict=True))
    return watched / unwatched


def main() -> None:
    """Print one row an operation, the memory of a node, and what a hook costs."""
    print(f"{'us per operation':18}{'NumPy':>9}{'forward':>9}{'over':>7}{'backward':>10}")
    for name, f in OPERATIONS.items():
        numpy, forward, backward = forward_and_backward(f)
        print(f"{name:18}{numpy:9.2f}{forward:9.2f}{forward - numpy:7.2f}{backward:10.2f}")
    print(f"\n{bytes_per_node():.0f} bytes per node, array included\n")
    for kind, size in WORKLOADS:
        print(f"{kind} {size}: a hook that does nothing makes the sweep {hook_ratio(kind, size):.2f} times as long")


if __name__ == "__main__":
    main()
