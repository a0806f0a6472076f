"""Forward and backward through an unrolled network: this package beside hand-written NumPy and its peers.

``python -m benchmarks.unrolled`` runs six workloads in float32 on one thread. All programs get the same arrays, their
gradients are compared before anything is timed, and they take turns within one process, so that a machine that slows
down slows all of them. ``--peers`` names the ones wanted; one that is not installed is reported as missing.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from time import perf_counter, process_time

import numpy as np

from benchmarks.handwritten import plain_lstm, plain_rnn
from benchmarks.peers import BASELINE, FLOOR, PROGRAMS, Problem, Run

# name: T, B, I, H
SIZES = {"tiny": (20, 1, 4, 8), "small": (50, 8, 16, 32), "medium": (100, 32, 64, 128)}
WORKLOADS = [(kind, size) for kind in ("rnn", "lstm") for size in SIZES]
TOLERANCE = 1e-4  # of the largest element of a gradient: some hundred additions in float32

Times = dict[str, list[float]]


def prepare(problem: Problem, names: Sequence[str]) -> tuple[dict[str, Run], dict[str, str]]:
    """Programs ready to run on this problem, and the missing ones with the reason."""
    runs, missing = {}, {}
    for name in names:
        try:
            runs[name] = PROGRAMS[name](problem)
        except ImportError as error:
            missing[name] = str(error)
    return runs, missing


def check(problem: Problem, runs: Mapping[str, Run]) -> None:
    """Raise AssertionError unless all programs agree with plain NumPy in float64 on all four gradients."""
    program = {"rnn": plain_rnn, "lstm": plain_lstm}[problem.kind]
    wide = [array.astype(np.float64) for array in (problem.x, *problem.weights, problem.v)]
    expected = program(*wide)[1]
    for name, run in runs.items():
        if name == FLOOR:
            continue
        for key, want, got in zip(("W", "U", "b", "d"), expected, run(), strict=True):
            error = np.abs(got - want).max() / np.abs(want).max()
            assert got.dtype == np.float32 and error < TOLERANCE, f"{name}: gradient of {key} is off by {error:.1e}"


def measure(runs: Mapping[str, Run], seconds: float, clock: Callable[[], float] = perf_counter) -> Times:
    """Seconds per run of every program: they take turns until the time is up, each at least five times.

    In a new order each round: what ran before leaves the caches to its liking, and nobody is to follow the same always.
    """
    times: Times = {name: [] for name in runs}
    rng = np.random.default_rng(0)
    end = perf_counter() + seconds
    gc.collect()
    gc.disable()  # as timeit does: one program must not pay for the garbage of another
    try:
        while perf_counter() < end or min(map(len, times.values())) < 5:
            for name in rng.permutation(list(runs)):
                start = clock()
                runs[name]()
                times[name].append(clock() - start)
            if len(times[BASELINE]) % 100 == 0:
                gc.collect()
    finally:
        gc.enable()
    return times


def table(results: Mapping[str, Times], statistic: str) -> str:
    """One row a workload: milliseconds and, in brackets, the ratio to plain NumPy; the last row has mean ratios."""
    summary = {"median": statistics.median, "minimum": min}[statistic]
    names = list(next(iter(results.values())))
    ratios: dict[str, list[float]] = {name: [] for name in names}
    rows = [[f"{statistic}, ms (ratio)", *names]]
    for workload, times in results.items():
        value = {name: summary(times[name]) for name in names}
        for name in names:
            ratios[name].append(value[name] / value[BASELINE])
        rows.append([workload, *(f"{value[name] * 1e3:.2f} ({ratios[name][-1]:.2f})" for name in names)])
    rows.append(["geometric mean", *(f"({statistics.geometric_mean(ratios[name]):.2f})" for name in names)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def chart(results: Mapping[str, Times], path: str) -> None:
    """Least time over plain NumPy's, one row a workload, one mark a program, on a logarithmic axis."""
    from matplotlib.figure import Figure

    names = [name for name in next(iter(results.values())) if name != BASELINE]
    figure = Figure(figsize=(9, 1.2 + 0.62 * len(results)), layout="constrained")
    axes = figure.subplots()
    for k, name in enumerate(names):
        ratios = [min(times[name]) / min(times[BASELINE]) for times in results.values()]
        rows = [row + (k - (len(names) - 1) / 2) * 0.07 for row in range(len(results))]
        axes.plot(ratios, rows, "osD^vPX<>h"[k % 10], color=f"C{k % 10}", label=name, markersize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel=f"time / time of {BASELINE} (left is faster)", yticks=range(len(results)))
    axes.set_yticklabels(list(results))
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.tick_params(axis="x", which="minor", labelbottom=False)
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.85")
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: check, time, print two tables, draw a chart."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unrolled", description=__doc__.splitlines()[0])
    known = list(PROGRAMS)
    chosen = f"programs beside plain NumPy (default all): {', '.join(map(repr, known))}"
    parser.add_argument("--peers", nargs="*", choices=known, default=known, metavar="NAME", help=chosen)
    parser.add_argument("--seconds", type=float, default=6.0, help="time per workload (default 6)")
    parser.add_argument(
        "--chart", metavar="FILE", help="also draw the ratios, as .svg, .png or .pdf (needs matplotlib)"
    )
    parser.add_argument("--cpu", action="store_true", help="processor time, for a machine that others use too")
    options = parser.parse_args(arguments)
    if options.chart and find_spec("matplotlib") is None:
        parser.error('--chart needs matplotlib: pip install "tinygrad-rnn[plot]"')
    names = [name for name in PROGRAMS if name in options.peers or name == BASELINE]
    results, missing = {}, {}
    for kind, size in WORKLOADS:
        problem = Problem.random(kind, *SIZES[size])
        runs, missing = prepare(problem, names)
        check(problem, runs)
        results[f"{kind} {size}"] = measure(runs, options.seconds, process_time if options.cpu else perf_counter)
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {sys.platform}; float32, one thread", end="")
    print(f"; {'processor' if options.cpu else 'wall-clock'} time")
    for name, reason in missing.items():
        print(f"{name}: missing ({reason})")
    print(f"\n{table(results, 'median')}\n\n{table(results, 'minimum')}")
    if options.chart:
        chart(results, options.chart)


if __name__ == "__main__":
    main()
