"""Time and memory of one training step against the number of steps T and the size H, as slopes.

``python -m benchmarks.scaling``: forward and backward of an RNN and of an LSTM, by the engine, with a loss on the last
output and on all of them, and by the program that `derive_bptt` writes. A slope is that of the straight line through
the logarithms: 1 means proportional. Below it, the peak of memory on the six workloads of `benchmarks.unrolled`, beside
the bytes of the distinct arrays that the graph consists of: below that no engine that keeps its graph can go.
"""

from __future__ import annotations

import argparse
import gc
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from time import process_time

import numpy as np

import tinygrad_rnn as tg
from benchmarks.peers import PROGRAMS, Problem, Run, tinygrad_rnn
from benchmarks.unrolled import SIZES, WORKLOADS
from tinygrad_rnn.autodiff import history

MEASURED: dict[str, Callable[[Problem], Run]] = {
    "engine": PROGRAMS["tinygrad_rnn"],
    "all outputs": partial(tinygrad_rnn, every=True),
    "derived": PROGRAMS["derived BPTT"],
}


def seconds(run: Run, repeats: int) -> float:
    """Least processor time of some runs."""
    times = []
    for _ in range(repeats):
        start = process_time()
        run()
        times.append(process_time() - start)
    return min(times)


def peak(run: Run) -> int:
    """Most bytes in use at once during a run, beyond what was in use before."""
    run()  # what is made once, such as gradients that later runs replace
    gc.collect()
    tracemalloc.start()
    run()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Exponent p of the power law y = c x^p that fits best."""
    return float(np.polyfit(np.log(xs), np.log(ys), 1)[0])


def distinct(problem: Problem) -> tuple[int, int]:
    """Nodes of the graph of a workload, and bytes of the distinct arrays behind its results and parameters."""
    cells = {"rnn": tg.RNNCell, "lstm": tg.LSTMCell}
    cell = cells[problem.kind](problem.x.shape[2], problem.v.shape[1], dtype=np.float32)
    _, state = tg.unroll(cell, problem.x)
    nodes = history([tg.sum((state[0] if problem.kind == "lstm" else state) * problem.v)])
    blocks = {}
    for node in nodes:
        array = node._value
        while isinstance(array.base, np.ndarray):  # a gate is a view of what all gates have in common
            array = array.base
        blocks[id(array)] = array.nbytes
    return len(nodes), sum(blocks.values())


def against(what: str, values: Sequence[int], sizes: Sequence[tuple[int, int, int, int]]) -> None:
    """One table: a row for each size, and slopes over the last three, where constant costs no longer count."""
    columns = [(kind, name) for kind in ("rnn", "lstm") for name in MEASURED]
    print(f"\n| {what} | {' | '.join(f'{kind}, {name}: ms | MB' for kind, name in columns)} |")
    print(f"|{'---|' * (1 + 2 * len(columns))}")
    rows: list[list[float]] = []
    for value, size in zip(values, sizes, strict=True):
        row = []
        for kind, name in columns:
            run = MEASURED[name](Problem.random(kind, *size))
            row += [seconds(run, 1 if size[0] > 10_000 else 3) * 1e3, peak(run) / 1e6]
        rows.append(row)
        print(f"| {value:,} | {' | '.join(f'{number:,.2f}' for number in row)} |", flush=True)
    slopes = [slope(values[-3:], column[-3:]) for column in zip(*rows, strict=True)]
    print(f"| slope | {' | '.join(f'{number:.2f}' for number in slopes)} |")


def collector(steps: int, turns: int = 5) -> None:
    """What Python's collector of cycles costs the forward pass of an LSTM, as it is and if it were left alone."""
    cell, inputs = tg.LSTMCell(4, 8, rng=0), np.zeros((steps, 1, 4))
    ways = {"as it is": tg.unroll, "with all collections": tg.unroll.__wrapped__, "with none": tg.unroll}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, unroll in ways.items():
            gc.collect()
            if name == "with none":
                gc.disable()
            start = process_time()
            kept = unroll(cell, inputs)
            times[name].append(process_time() - start)
            gc.enable()
            del kept
    print(
        f"\nforward pass of an LSTM, T = {steps:,}, seconds: "
        + ", ".join(f"{n} {min(t):.2f}" for n, t in times.items())
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: three tables, the first two in the form that the documentation shows, and the collector."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", nargs="+", type=int, default=[10, 100, 1_000, 10_000, 100_000], metavar="T")
    parser.add_argument("--hidden", nargs="+", type=int, default=[8, 16, 32, 64, 128, 256, 512], metavar="H")
    options = parser.parse_args(arguments)
    print("float32, one thread, processor time; peak of memory in use beyond the parameters and inputs")
    against("T", options.steps, [(steps, 1, 4, 8) for steps in options.steps])
    against("H", options.hidden, [(20, 8, 16, hidden) for hidden in options.hidden])
    print(f"\n{'':>12}  {'nodes':>6}  {'arrays, MB':>10}  {'peak, MB':>9}  {'ratio':>6}  {'bytes a node':>12}")
    for kind, size in WORKLOADS:
        problem = Problem.random(kind, *SIZES[size])
        (nodes, held), most = distinct(problem), peak(PROGRAMS["tinygrad_rnn"](problem))
        row = f"{nodes:>6}  {held / 1e6:>10.3f}  {most / 1e6:>9.3f}  {most / held:>6.2f}  {most / nodes:>12.0f}"
        print(f"{kind + ' ' + size:>12}  {row}")
    collector(min(10_000, max(options.steps)))


if __name__ == "__main__":
    main()
