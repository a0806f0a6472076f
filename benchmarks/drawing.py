"""Drawing an unrolled network: laid out once and repeated, beside plain ``dot`` on the very same graph and engine.

``python -m benchmarks.drawing`` draws an LSTM at level "gate" with every time step in full, as SVG. Plain ``dot`` gets
the same nodes, sizes, scopes and edge labels without positions, in the same run, and is stopped after ``--timeout``
seconds. The first row of each number of steps is the layout alone, the second all the way from gradient graph to SVG.
Last, what the interactive page costs beside the SVG of the same loss, both by ``draw(loss, path)``: processor time,
medians of runs in turns, and of a graph that is there already.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from time import perf_counter, process_time

import graphviz
import numpy as np

from tinygrad_rnn import GradientGraph, GRUCell, LSTMCell, RNNCell, Tensor, gradient_graph, sum, unroll
from tinygrad_rnn.draw import draw, engine
from tinygrad_rnn.draw.layout import arrange
from tinygrad_rnn.draw.style import number
from tinygrad_rnn.draw.view import View

CELLS = {"RNN": RNNCell, "LSTM": LSTMCell, "GRU": GRUCell}


def loss_of(steps: int, cell: str = "LSTM") -> Tensor:
    """A loss that is the last state's."""
    rng = np.random.default_rng(0)
    outputs, _ = unroll(CELLS[cell](3, 4, rng=0), rng.normal(size=(steps, 2, 3)))
    return sum(outputs[-1] * outputs[-1])


def unrolled(steps: int) -> GradientGraph:
    """The gradient graph of an LSTM."""
    return gradient_graph(loss_of(steps))


def unplaced(graph: GradientGraph) -> str:
    """What ``draw`` shows, as DOT without positions: one cluster per time step, a label on every edge."""
    scene = arrange(graph)
    source = graphviz.Digraph("plain", graph_attr={"rankdir": "LR"}, node_attr={"fixedsize": "true", "shape": "box"})
    frames: dict[int | None, list[tuple[str, str, str, str]]] = {}
    for placed in scene.nodes:
        row = placed.id, placed.look.big, f"{placed.look.width / 72:.3f}", f"{placed.look.height / 72:.3f}"
        frames.setdefault(placed.frame, []).append(row)
    for frame, rows in frames.items():
        inner = graphviz.Digraph(name=f"cluster_{frame}") if frame is not None else source
        for name, label, width, height in rows:
            inner.node(name, label, width=width, height=height)
        if frame is not None:
            source.subgraph(inner)
    for edge in scene.edges:
        norm = edge.edge.norm
        source.edge(edge.tail, edge.head, "" if norm is None else number(norm))
    return str(source.source)


def svg(graph: GradientGraph) -> str:
    """From the gradient graph to SVG."""
    return draw(graph, level="gate", fold=None).svg()


def seconds(call: Callable[[], object]) -> float:
    """The shorter of two runs."""
    times = []
    for _ in range(2):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)


def plain(source: str, format: str, timeout: float) -> float | None:
    """Seconds for the engine's ``dot`` to place (format "dot") or to draw ("svg") a graph; None if it was stopped."""
    command = [engine.find("svg"), "-q", "-Kdot", f"-T{format}"]
    start = perf_counter()
    try:
        subprocess.run(command, input=source.encode(), capture_output=True, timeout=timeout, check=True)
    except subprocess.TimeoutExpired:
        return None
    return perf_counter() - start


def in_turns(calls: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """The median processor time of each, which are called one after the other, again and again."""
    times: list[list[float]] = [[] for _ in calls]
    for k in range(runs + 1):
        for found, call in zip(times, calls, strict=True):
            start = process_time()
            call()
            found += [process_time() - start] * (k > 0)  # the first run fills caches
    return [median(found) for found in times]


def pages(steps: Sequence[int]) -> None:
    """A row for each cell and number of steps: the page beside the SVG."""
    print("\npage / SVG      T   SVG, ms  page, ms   ratio  of a graph   bytes")
    for cell in CELLS:
        for number_of in steps:
            loss = loss_of(number_of, cell)
            graph = gradient_graph(loss)
            sources: list[Tensor | GradientGraph] = [loss, graph]
            calls = [call for of in sources for call in (partial(picture, of), partial(page, of))]
            svg_time, page_time, svg_only, page_only = in_turns(calls, 3 if number_of > 100 else 9)
            times = f"{1e3 * svg_time:>8.1f}  {1e3 * page_time:>8.1f}  {page_time / svg_time:>6.2f}"
            size = len(page(graph)) / len(picture(graph))
            print(f"{cell:>10}  {number_of:>5}  {times}  {page_only / svg_only:>10.2f}  {size:>6.2f}", flush=True)


def picture(source: Tensor | GradientGraph) -> str:
    """The default picture as SVG."""
    return draw(source).svg()


def page(source: Tensor | GradientGraph) -> str:
    """The interactive page of it."""
    return draw(source).html()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: one row for each number of time steps."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawing", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", nargs="+", type=int, default=[10, 50, 100, 200], metavar="T")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for plain dot (default 60)")
    parser.add_argument("--pages", nargs="*", type=int, default=[3, 5, 10, 20, 40, 200], metavar="T")
    options = parser.parse_args(arguments)
    print(f"LSTM, level gate, all steps, SVG; Python {sys.version.split()[0]}, {sys.platform}; {engine.find('svg')}")
    print(f"{'T':>5}  {'edges':>6}  {'':>6}  {'draw, s':>8}  {'plain dot, s':>12}  {'ratio':>7}")
    for steps in options.steps:
        graph = unrolled(steps)
        seen = View("gate", None).of([graph])[0]
        edges = len([edge for edge in seen.edges if not edge.internal])
        source = unplaced(seen)
        calls = {
            "layout": ("dot", partial(arrange, seen)),
            "SVG": ("svg", partial(svg, graph)),
        }
        for what, (format, call) in calls.items():
            mine, theirs = seconds(call), plain(source, format, options.timeout)
            told = f">{options.timeout:.0f}" if theirs is None else f"{theirs:.2f}"
            ratio = f">{options.timeout / mine:.1f}" if theirs is None else f"{theirs / mine:.1f}"
            print(f"{steps:>5}  {edges:>6}  {what:>6}  {mine:>8.2f}  {told:>12}  {ratio:>7}", flush=True)
    pages(options.pages)


if __name__ == "__main__":
    main()
