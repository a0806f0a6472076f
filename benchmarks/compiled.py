"""Compiled programs beside the NumPy program, PyTorch's modules and XLA, on rows that `benchmarks.unrolled` lacks.

``python -m benchmarks.compiled`` runs a GRU, a stack of two layers, a cell of a user, sizes that fill no vectors, long
sequences, both dtypes and both kinds of loss, on one thread. All get the same arrays, their gradients are compared
before anything is timed, and they take turns. A row is wall-clock time; processor time stands behind a slash where the
two differ by more than a tenth. ``--narrow`` compiles for vectors of 32 bytes, without AVX-512; ``--compiling`` times
instead what the first process and the next one pay for a program, with an empty cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from benchmarks.handwritten import Array

Run = Callable[[], dict[str, Array]]

SIZES = ((20, 1, 4, 8), (50, 8, 16, 32), (100, 32, 64, 128))  # T, B, I, H
# kind, T, B, I, H, loss
ROWS = [
    *((kind, *size, "last") for kind in ("rnn", "lstm") for size in SIZES),
    *(("lstm", 50, 8, 16, 32, "all"), ("gru", 50, 8, 16, 32, "last"), ("two lstm", 50, 8, 16, 32, "last")),
    *(("mgu", 50, 8, 16, 32, "last"), ("lstm", 50, 7, 13, 37, "last"), ("lstm", 10_000, 1, 4, 8, "all")),
    ("lstm", 100, 32, 64, 128, "all"),
]
SKIPPED = 3  # rounds in which caches and frequencies settle


class Two:
    """Two LSTM layers as one cell."""

    def __init__(self, inputs: int, hidden: int, rng: int, dtype: Any) -> None:
        self.cells = [tg.LSTMCell(n, hidden, rng=rng + k, dtype=dtype) for k, n in enumerate((inputs, hidden))]

    def parameters(self) -> dict[str, tg.Tensor]:
        return {f"{name}_l{k}": p for k, cell in enumerate(self.cells) for name, p in cell.parameters().items()}

    def initial_state(self, batch: int) -> Any:
        return tuple(part for cell in self.cells for part in cell.initial_state(batch))[::-1]

    def __call__(self, x: Any, state: Any) -> Any:
        c1, h1, c0, h0 = state[1], state[0], state[3], state[2]
        h0, c0 = self.cells[0](x, (h0, c0))
        h1, c1 = self.cells[1](h0, (h1, c1))
        return h1, c1, h0, c0


class MGU:
    """A minimal gated unit, as a user writes it."""

    def __init__(self, inputs: int, hidden: int, rng: int, dtype: Any) -> None:
        generator = np.random.default_rng(rng)
        shapes = {"W": (2 * hidden, inputs), "U": (hidden, hidden), "V": (hidden, hidden), "b": (2 * hidden,)}
        drawn = {n: generator.uniform(-1, 1, shape) / np.sqrt(hidden) for n, shape in shapes.items()}
        self.own = {name: tg.Tensor(array.astype(dtype), requires_grad=True) for name, array in drawn.items()}
        self.hidden, self.dtype = hidden, dtype

    def parameters(self) -> dict[str, tg.Tensor]:
        return self.own

    def initial_state(self, batch: int) -> Any:
        return tg.Tensor(np.zeros((batch, self.hidden), self.dtype))

    def __call__(self, x: Any, h: Any) -> Any:
        return mgu(self.own, x, h, tg.tanh, tg.sigmoid)


def mgu(p: Any, x: Any, h: Any, tanh: Any, sigmoid: Any) -> Any:
    """A step of the minimal gated unit, for any library."""
    n = h.shape[-1]
    z = x @ p["W"].T + p["b"]
    f = sigmoid(z[:, :n] + h @ p["U"].T)
    return (1 - f) * h + f * tanh(z[:, n:] + (f * h) @ p["V"].T)


CELLS: dict[str, Any] = {"rnn": tg.RNNCell, "lstm": tg.LSTMCell, "gru": tg.GRUCell, "two lstm": Two, "mgu": MGU}


def ours(cell: Any, x: Array, v: Array, every: bool, compiled: bool) -> Run:
    """The derived program, as NumPy or compiled."""
    state = cell.initial_state(x.shape[1])

    def loss(outputs: Any) -> Any:
        return tg.sum((outputs if every else outputs[-1]) * v)

    program = tg.derive_bptt(cell, loss, (x, state), compiled=compiled)

    def run() -> dict[str, Array]:
        gradients = program(x, state, cell.parameters())[1]
        return {name: gradients[name] for name in cell.parameters()}

    return run


def torch_nn(kind: str, cell: Any, x: Array, v: Array, every: bool) -> Run:
    """PyTorch's module, which is a fused kernel for the LSTM in float32 only."""
    import torch

    torch.set_num_threads(1)
    modules = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "two lstm": torch.nn.LSTM}
    if kind not in modules:
        raise ImportError("no such module")
    net: Any = modules[kind](x.shape[2], v.shape[1], 1 + (kind == "two lstm"))
    named = {n if n[-3:-1] == "_l" else f"{n}_l0": (n, torch.tensor(p.numpy())) for n, p in cell.parameters().items()}
    net = net.to(named["weight_ih_l0"][1].dtype)
    net.load_state_dict({name: tensor for name, (_, tensor) in named.items()})
    given, target = torch.tensor(x), torch.tensor(v)

    def run() -> dict[str, Array]:
        net.zero_grad()
        outputs = net(given)[0]
        ((outputs if every else outputs[-1]) * target).sum().backward()
        return {named[name][0]: p.grad.numpy() for name, p in net.named_parameters()}

    return run


def jax_scan(kind: str, cell: Any, x: Array, v: Array, every: bool) -> Run:
    """JAX: `lax.scan` over the steps, compiled by XLA, on one thread; compilation is not timed."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    import jax
    from jax import numpy as jnp

    jax.config.update("jax_enable_x64", True)
    sigmoid, tanh = jax.nn.sigmoid, jnp.tanh

    def lstm(p: Any, x: Any, h: Any, c: Any, end: str = "") -> Any:
        z = x @ p[f"weight_ih{end}"].T + h @ p[f"weight_hh{end}"].T + p[f"bias_ih{end}"] + p[f"bias_hh{end}"]
        i, f, g, o = jnp.split(z, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def step(p: Any, x: Any, state: Any) -> Any:
        if kind == "lstm":
            return lstm(p, x, *state)
        if kind == "two lstm":
            below = lstm(p, x, state[2], state[3], "_l0")
            return *lstm(p, below[0], state[0], state[1], "_l1"), *below
        if kind == "mgu":
            return (mgu(p, x, state[0], tanh, sigmoid),)
        a, b = x @ p["weight_ih"].T + p["bias_ih"], state[0] @ p["weight_hh"].T + p["bias_hh"]
        if kind == "rnn":
            return (tanh(a + b),)
        (r, z, n), (s, y, m) = jnp.split(a, 3, -1), jnp.split(b, 3, -1)
        z = sigmoid(z + y)
        return ((1 - z) * tanh(n + sigmoid(r + s) * m) + z * state[0],)

    def loss(p: Any, x: Any, v: Any, first: Any) -> Any:
        def body(state: Any, x_t: Any) -> Any:
            new = step(p, x_t, state)
            return new, new[0] if every else None

        last, outputs = jax.lax.scan(body, first, x)
        return jnp.sum((outputs if every else last[0]) * v)

    gradient = jax.jit(jax.grad(loss))
    state = cell.initial_state(x.shape[1])
    first = tuple(s.numpy() for s in (state if isinstance(state, tuple) else (state,)))
    arrays = jax.device_put(({n: p.numpy() for n, p in cell.parameters().items()}, x, v, first))
    return lambda: {name: np.asarray(g) for name, g in gradient(*arrays).items()}


def measured(runs: dict[str, Run], seconds: float) -> dict[str, tuple[float, float]]:
    """Least wall-clock and processor time of each, in ms: they take turns, in a new order each round."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    rng, end, rounds = np.random.default_rng(0), perf_counter() + seconds, 0
    while perf_counter() < end or rounds < SKIPPED + 5:
        for name in rng.permutation(list(runs)):
            wall, cpu = perf_counter(), process_time()
            runs[name]()
            times[name].append(((perf_counter() - wall) * 1e3, (process_time() - cpu) * 1e3))
        rounds += 1
    return {n: tuple(min(column) for column in zip(*found[SKIPPED:], strict=True)) for n, found in times.items()}  # type: ignore[misc]


STARTED = """
import sys
from time import process_time
import numpy as np
import tinygrad_rnn as tg
from benchmarks.compiled import CELLS, ours
kind, dtype, *size = sys.argv[1:]
steps, batch, inputs, hidden = map(int, size)
start = process_time()
import tinygrad_rnn.fast
imported = process_time()
cell, v = CELLS[kind](inputs, hidden, rng=0, dtype=np.dtype(dtype)), np.ones((batch, hidden), dtype)
ours(cell, np.ones((steps, batch, inputs), dtype), v, False, True)
print(imported - start, process_time() - imported)
"""


def compiling(kind: str, size: Sequence[int], dtype: str) -> list[tuple[float, float]]:
    """Seconds of processor time for numba's import and for deriving: in a process with an empty cache, in the next."""
    with TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-c", STARTED, kind, dtype, *map(str, size)]
        said = [subprocess.run(command, env=environment, capture_output=True, check=True, text=True) for _ in range(2)]
    return [tuple(map(float, done.stdout.split())) for done in said]  # type: ignore[misc]


def narrow() -> None:
    """From now on, compile for vectors of 32 bytes, as of a machine without AVX-512."""
    os.environ |= {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}  # read when numba is imported
    from tinygrad_rnn.fast import products

    products._BYTES, products._ROWS = 32, 6


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: one table, in the form that the documentation shows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="time per row (default 4)")
    parser.add_argument("--dtypes", nargs="*", default=["float32", "float64"], help="which dtypes (default both)")
    parser.add_argument("--rows", default="", help="only rows that begin so, such as 'LSTM 100' (default all)")
    parser.add_argument("--narrow", action="store_true", help="compile without AVX-512")
    parser.add_argument("--compiling", action="store_true", help="instead: seconds until a program is there")
    options = parser.parse_args(arguments)
    if options.compiling:
        print(
            "| processor time, s | compiling, first process | import of numba, next process | deriving, next process |"
        )
        print("|---|---|---|---|")
        for dtype in options.dtypes:
            for kind, *size, reads in ROWS:
                name = f"{kind.upper()} {size[0]:,}, {'x'.join(map(str, size[1:]))}, {reads}, {dtype}"
                if name.startswith(options.rows) and reads == "last":
                    (_, first), (imported, later) = compiling(kind, size, dtype)
                    print(f"| {name} | {first:.1f} | {imported:.2f} | {later:.2f} |", flush=True)
        return
    if options.narrow:
        narrow()
    names = ["compiled", "derived", "torch nn", "jax.jit(scan)"]
    print(f"| ms | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    ratios: dict[str, list[float]] = {name: [] for name in names[1:]}
    for dtype in options.dtypes:
        for kind, steps, batch, inputs, hidden, reads in ROWS:
            row = f"{kind.upper()} {steps:,}, {batch}x{inputs}x{hidden}, {reads}, {dtype}"
            if not row.startswith(options.rows):
                continue
            cell, rng = CELLS[kind](inputs, hidden, rng=0, dtype=np.dtype(dtype)), np.random.default_rng(1)
            x, v = (rng.normal(size=s).astype(dtype) for s in ((steps, batch, inputs), (batch, hidden)))
            every, runs, missing = reads == "all", dict[str, Run](), dict[str, str]()
            for name in names:
                try:
                    if name in ("compiled", "derived"):
                        runs[name] = ours(cell, x, v, every, name == "compiled")
                    else:
                        runs[name] = {"torch nn": torch_nn}.get(name, jax_scan)(kind, cell, x, v, every)
                except ImportError as error:
                    missing[name] = f"({error})"
            want = runs["derived"]()
            for name, run in runs.items():
                for key, g in run().items():
                    error = np.abs(g - want[key]).max() / np.abs(want[key]).max()
                    assert g.dtype == dtype and error < 2e4 * np.finfo(dtype).eps, (
                        f"{name}: {key} is off by {error:.1e}"
                    )
            times = measured(runs, options.seconds)
            for name in ratios.keys() & times.keys():
                ratios[name].append(times["compiled"][0] / times[name][0])
            shown = [
                f"{wall:.3g}" + (f" / {cpu:.3g}" if abs(cpu / wall - 1) > 0.1 else "")
                for wall, cpu in (times.get(name, (np.nan, np.nan)) for name in names)
            ]
            print(f"| {row} | {' | '.join(shown).replace('nan', '–')} |", flush=True)
    means = " | ".join(f"{statistics.geometric_mean(found):.2f}" if found else "–" for found in ratios.values())
    print(f"| compiled, to it | 1.00 | {means} |")


if __name__ == "__main__":
    main()
