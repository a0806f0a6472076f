"""What each rewrite of derived BPTT is worth: ``python -m benchmarks.derived``.

The workloads are those of `benchmarks.unrolled`. Rewrites are added one at a time in the order in which they are
applied; all programs take turns in one process, after their gradients were compared, and count processor time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from time import process_time

import numpy as np

import tinygrad_rnn as tg
from benchmarks.handwritten import Array
from benchmarks.peers import PROGRAMS, Problem, Run
from benchmarks.unrolled import SIZES, WORKLOADS, check, measure
from tinygrad_rnn.bptt import REWRITES

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: one table, as ratios to expert NumPy, in the form that the documentation shows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.derived", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="time per workload (default 10)")
    options = parser.parse_args(arguments)
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
