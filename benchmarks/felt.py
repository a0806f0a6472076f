"""What a user waits for or pays in memory, each beside its goal: ``python -m benchmarks.felt``.

Processor time, the least of some runs; programs that are compared take turns. What happens once in a process (import,
the first picture) is measured in new processes.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.atlas import slope_of
from tinygrad_rnn.diagnose import FlowProbe
from tinygrad_rnn.train import Adam, Adding, History, Run, SequenceModel
from tinygrad_rnn.train.derived import DerivedGradients

Program = Callable[[], Any]


def least(programs: Mapping[str, Program], rounds: int) -> dict[str, float]:
    """Least milliseconds of each, in turns."""
    times = {name: float("inf") for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            start = process_time()
            program()
            times[name] = min(times[name], 1e3 * (process_time() - start))
    return times


def in_new_process(code: str, before: str = "pass", rounds: int = 7) -> float:
    """Least milliseconds of some code in a process of its own, after other code; byte code is kept, as for any user."""
    text = f"from time import process_time\n{before}\nstart = process_time()\n{code}\nprint(process_time() - start)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    options: dict[str, Any] = {"capture_output": True, "check": True, "env": environment}
    found = [subprocess.run([sys.executable, "-c", text], **options) for _ in range(rounds)]
    return 1e3 * min(float(done.stdout) for done in found)


def first_draw() -> float:
    """The first picture of a process: an LSTM of five steps."""
    with TemporaryDirectory() as folder:
        before = "import numpy as np, tinygrad_rnn as tg\n"
        before += "outputs, _ = tg.unroll(tg.LSTMCell(2, 3, rng=0), np.ones((5, 1, 2)))\nloss = tg.sum(outputs[-1])"
        return in_new_process(f"tg.draw(loss, {str(Path(folder, 'lstm.svg'))!r})", before, 5)


def microseconds_per_node() -> float:
    """A gradient graph of an LSTM of a thousand steps."""
    outputs, _ = tg.unroll(tg.LSTMCell(4, 8, rng=0), np.ones((1000, 1, 4)))
    loss, found = tg.sum(outputs[-1]), []
    times = least({"graph": lambda: found.append(len(tg.gradient_graph(loss).nodes))}, 5)
    return 1e3 * times["graph"] / found[0]


def peaks(steps: int = 10_000) -> dict[bool, float]:
    """Most megabytes in use during backward through an LSTM, the graph included, with ``retain_graph`` and without."""
    found = {}
    for retain in (True, False):
        gc.collect()
        tracemalloc.start()
        outputs, _ = tg.unroll(tg.LSTMCell(4, 8, rng=0), np.ones((steps, 1, 4)))
        loss = tg.sum(outputs[-1])
        del outputs, _
        tracemalloc.reset_peak()
        loss.backward(retain_graph=retain)
        found[retain] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        del loss
    return found


def step_of(kind: str, task: Adding) -> Program:
    """One step of training of an LSTM of 32 units on batches of 32, in float32."""
    model = SequenceModel(tg.LSTMCell(2, 32, dtype=np.float32, rng=0), task, rng=1)
    history = History(repr(task), task.baseline, task.baseline_means, task.metric_name, task.solved_below)
    settings = {"batch_size": 32, "clip_norm": 1.0, "clip_value": None, "window": None}
    run = Run(model, task, Adam(model, lr=0.01), np.random.default_rng(0), history, settings)
    run.gradients_by = kind  # as a run that is resumed knows it
    gradients = DerivedGradients(run, 10**6, print)
    return lambda: run.train_step(gradients)


def step_of_torch(task: Adding) -> Program:
    """The same in PyTorch."""
    import torch

    torch.set_num_threads(1)
    network, head, rng = torch.nn.LSTM(2, 32), torch.nn.Linear(32, 1), np.random.default_rng(0)
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=0.01)

    def step() -> None:
        inputs, targets = (torch.from_numpy(a.astype(np.float32)) for a in task.batch(rng, 32))
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(head(network(inputs)[0][-1]), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        loss.item()

    return step


def steps_of_training() -> dict[str, float]:
    """Adding, T = 50, by everything that there is."""
    task, programs = Adding(50), {}
    for kind in ("the engine", "the derived program", "the derived program, compiled"):
        programs[kind] = step_of(kind, task)
    try:
        programs["torch"] = step_of_torch(task)
    except ImportError:
        print("PyTorch is not installed")
    return least(programs, 100)


def watched_steps(kind: str, steps: int, rounds: int = 300) -> dict[str, float]:
    """A training step that `tinygrad_rnn.torch.watch` writes to a file, over a plain one: medians of pairs in turns."""
    import torch

    from tinygrad_rnn.torch import watch

    torch.set_num_threads(1)
    x, y = torch.randn(32, steps, 2), torch.randn(32, 1)

    def trained(**options: int) -> Program:
        network, head = getattr(torch.nn, kind)(2, 32, batch_first=True), torch.nn.Linear(32, 1)
        model = torch.nn.ModuleList([network, head])
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
        if options:
            opened.enter_context(watch(model, optimiser, Path(folder, f"{len(programs)}.csv"), alarm=str, **options))

        def five() -> None:
            for _ in range(5):
                loss = torch.nn.functional.mse_loss(head(network(x)[0][:, -1]), y)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()

        return five

    programs: dict[str, Program] = {}
    with TemporaryDirectory() as folder, ExitStack() as opened:
        programs["plain"] = trained()
        for every in (1, 10):
            programs[f"every={every}"] = trained(every=every)
        turns = [least(programs, 1) for _ in range(rounds)]
    return {name: median(turn[name] / turn["plain"] for turn in turns) for name in programs if name != "plain"}


def probe_of(cell: Any, batch: int) -> Program:
    """A probe of a network that is trained, T = 100."""
    task = Adding(100)
    model, run = SequenceModel(cell, task, rng=0), Run.__new__(Run)
    run.model, run.step = model, 1
    probe = FlowProbe(task.batch(np.random.default_rng(0), batch)[0])
    return lambda: probe(run)


def networks_per_minute(cell: str, count: int = 50) -> float:
    """Networks of the map in a minute of one core, each with weights of its own, T = 100 and 64 units."""
    start = process_time()
    for seed in range(count):
        slope_of({"cell": cell, "seed": seed})
    return 60 * count / (process_time() - start)


def main() -> None:
    """Print a line for each."""
    beyond = in_new_process("import tinygrad_rnn", "import numpy", 15)
    print(f"import, after NumPy: {beyond:.0f} ms  (goal 45)")
    print(f"first draw of a process: {first_draw():.0f} ms  (goal 250)")
    print(f"gradient graph: {microseconds_per_node():.1f} µs a node  (goal 25)")
    kept, freed = peaks().values()
    print(f"peak of backward at T = 10,000: {kept:.1f} MB, {freed:.1f} MB with retain_graph=False  (goal: less)")
    for name, time in steps_of_training().items():
        print(f"step of training, adding, T = 50, by {name}: {time:.2f} ms")
    for kind, steps in (("LSTM", 50), ("LSTM", 100), ("GRU", 100), ("RNN", 100)) if find_spec("torch") else ():
        for name, ratio in watched_steps(kind, steps).items():
            what = f"step of PyTorch's {kind}, H = 32, T = {steps}, watched, {name}"
            print(f"{what}: {ratio:.2f} of a plain one  (goal 1.1)")
    probes = {f"LSTM, {batch} sequences": probe_of(tg.LSTMCell(2, 64, rng=0), batch) for batch in (1, 16)}
    for name, time in least(probes, 10).items():
        print(f"probe, T = 100, H = 64, {name}: {time:.1f} ms  (goal 5)")
    for cell in ("rnn", "lstm", "gru"):
        print(f"the map, {cell}: {networks_per_minute(cell):.0f} networks a minute  (goal 10,000)")


if __name__ == "__main__":
    main()
