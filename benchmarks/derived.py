"""What each rewrite of derived BPTT is worth: ``python -m benchmarks.derived``.

The workloads are those of `benchmarks.unrolled`. Rewrites are added one at a time in the order in which they are
applied; all programs take turns in one process, after their gradients were compared, and count processor time.
``--sizes`` measures instead what is left out by default where it does not pay, in both dtypes and at sizes in between.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from itertools import product
from operator import itemgetter
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np

import tinygrad_rnn as tg
from benchmarks.handwritten import Array, expert_lstm, expert_rnn
from benchmarks.peers import BASELINE, PROGRAMS, Problem, Run
from benchmarks.unrolled import SIZES, WORKLOADS, check, measure
from tinygrad_rnn.bptt import REWRITES, emit
from tinygrad_rnn.bptt.passes import SAVE_CALLS

TOGETHER = [("dead_code", "share"), ("buffers", "contiguous")]
STAGES = [TOGETHER[0], *((name,) for name in REWRITES if name not in {*TOGETHER[0], *TOGETHER[1]}), TOGETHER[1]]
BESIDE = ("plain NumPy", "expert NumPy", "tinygrad_rnn")


def derived(problem: Problem, rewrites: Sequence[str] = REWRITES) -> Run:
    """The program that `derive_bptt` derives of this package's cell and the loss ``sum(h_T * v)``."""
    kinds = {"rnn": tg.RNNCell, "lstm": tg.LSTMCell}
    cell = kinds[problem.kind](problem.x.shape[2], problem.v.shape[1], dtype=np.float32)
    cell.load_state_dict(dict(zip(cell.parameters(), problem.weights, strict=True)))
    state, v = cell.initial_state(len(problem.v)), problem.v
    program = tg.derive_bptt(cell, lambda outputs: tg.sum(outputs[-1] * v), (problem.x, state), rewrites)

    def run() -> Sequence[Array]:
        _, gradients = program(problem.x, state, cell.parameters())
        return [gradients[name] for name in cell.parameters()]

    return run


# T, B, I, H
BETWEEN = [(20, 1, 4, 8), (50, 8, 16, 32), (50, 8, 16, 128), (50, 16, 32, 128), (50, 32, 32, 64), (50, 32, 64, 96)]
BETWEEN += [(100, 32, 64, 128), (50, 8, 16, 256)]


def at_size(kind: str, size: tuple[int, int, int, int], dtype: str, seconds: float) -> dict[str, float]:
    """Medians in ms: expert NumPy, the program as it is, and with what is left out where arrays are large."""
    drawn = Problem.random(kind, *size)
    x, v, *weights = (array.astype(dtype) for array in (drawn.x, drawn.v, *drawn.weights))
    cells: dict[str, Any] = {"rnn": (tg.RNNCell, expert_rnn), "lstm": (tg.LSTMCell, expert_lstm)}
    make, expert = cells[kind]
    cell = make(*size[2:], dtype=np.dtype(dtype))
    cell.load_state_dict(dict(zip(cell.parameters(), weights, strict=True)))
    state, parameters = cell.initial_state(len(v)), cell.parameters()
    chosen = itemgetter(*parameters)

    def program(rewrites: Sequence[str] | None = None) -> Run:
        derived = tg.derive_bptt(cell, lambda outputs: tg.sum(outputs[-1] * v), (x, state), rewrites)
        return lambda: chosen(derived(x, state, parameters)[1])

    runs: dict[str, Run] = {BASELINE: lambda: expert(x, *weights, v)[1], "as it is": program()}
    runs |= {"with": program(REWRITES), "without": program([n for n in REWRITES if n not in SAVE_CALLS])}
    with patch.object(emit, "LARGE", np.inf):
        runs["copies"] = program()
    for name, run in runs.items():
        for got, want in zip(run(), runs[BASELINE](), strict=True):
            assert np.abs(got - want).max() <= 1e3 * np.finfo(dtype).eps * np.abs(want).max(), f"{name} is off"
    return {name: statistics.median(found) * 1e3 for name, found in measure(runs, seconds, process_time).items()}


def at_sizes(seconds: float) -> None:
    """Print a row for each, as ratios to expert NumPy."""
    heads = ["", "h, kB", "W_hh, kB", "expert, ms", "as it is", "with merge ...", "without them", "weights copied"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for kind, (steps, batch, inputs, hidden), dtype in product(("rnn", "lstm"), BETWEEN, ("float32", "float64")):
        times = at_size(kind, (steps, batch, inputs, hidden), dtype, seconds)
        expert, row = times.pop(BASELINE), np.dtype(dtype).itemsize * hidden / 1024
        weight = row * hidden * (4 if kind == "lstm" else 1)
        shown = [f"{batch * row:.2g}", f"{weight:,.4g}", f"{expert:.3g}"]
        shown += [f"{time / expert:.2f}" for time in times.values()]
        print(f"| {kind} {steps}, {batch}x{inputs}x{hidden}, {dtype} | {' | '.join(shown)} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: one table, as ratios to expert NumPy, in the form that the documentation shows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.derived", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="time per workload (default 10)")
    parser.add_argument("--sizes", action="store_true", help="instead: what is left out by default, at many sizes")
    options = parser.parse_args(arguments)
    if options.sizes:
        return at_sizes(options.seconds)
    columns: dict[str, dict[str, float]] = {}
    for kind, size in WORKLOADS:
        problem = Problem.random(kind, *SIZES[size])
        runs = {name: PROGRAMS[name](problem) for name in BESIDE}
        chosen: list[str] = []
        runs["as traced"] = derived(problem, ())
        for names in STAGES:
            chosen += names
            runs["+ " + ", ".join(names)] = derived(problem, tuple(chosen))
        check(problem, runs)
        times = measure(runs, options.seconds, process_time)
        columns[f"{kind} {size}"] = {name: min(values) * 1e3 for name, values in times.items()}
    expert = [column["expert NumPy"] for column in columns.values()]
    print(f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    print(f"| expert NumPy, ms | {' | '.join(f'{time:.2f}' for time in expert)} |")
    for name in next(iter(columns.values())):
        ratios = [column[name] / time for column, time in zip(columns.values(), expert, strict=True)]
        print(f"| {name} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")


if __name__ == "__main__":
    main()
