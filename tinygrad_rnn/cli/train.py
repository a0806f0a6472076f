"""``tinygrad-rnn train``: train a cell, or a network from a file, on a task that needs memory.

Everything is kept in one folder: a checkpoint, from which the same command with --resume goes on bit for bit; at the
end the parameters, the history as numbers and, where matplotlib is installed, as a chart.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import alone, printable
from .experiment import CELL, READING, WHICH, build_network, read_data, task_of
from .options import RATES, Command, Problem, chosen, in_options, refuse
from .outputs import claim, left, wrote

if TYPE_CHECKING:
    from ..train import History, Task

CHECKPOINT, WEIGHTS, HISTORY, CHART = "checkpoint.npz", "weights.npz", "history.json", "loss.svg"


def run(arguments: argparse.Namespace) -> None:
    """Train a cell on a task that needs memory.

    Beside its loss stands that of the best answer that remembers nothing. The folder gets checkpoint.npz, weights.npz,
    history.json and, with matplotlib, loss.svg.
    """
    import numpy as np

    from .. import nn
    from ..train import SequenceModel, Series
    from ..train.optimisers import OPTIMISERS

    folder: Path = arguments.out
    task = _task(arguments)
    steps = len(task.batch(np.random.default_rng(0), 1)[0])
    if arguments.window is not None and arguments.window >= steps:
        raise Problem(f"--window {arguments.window} cuts nothing: a sequence has {steps} steps")
    if not (arguments.weights or arguments.cell):  # CELL as a word comes before it
        arguments.cell = "lstm"
    network = build_network(arguments, task.inputs, t_max=task.length)
    with in_options():
        model = SequenceModel(network.module, task, rng=np.random.default_rng([arguments.seed, 2]))
        optimiser = OPTIMISERS[arguments.optimiser](model, lr=arguments.lr or RATES[arguments.optimiser])
    _claim(folder, arguments)
    print(f"task    {task!r}")
    if isinstance(task, Series):
        print(f"scale   {task.scale}")
    print(f"cell    {network.name}, {network.module.dtype}")
    print(f"init    {network.initialised}")
    print(f"by      {optimiser!r}", flush=True)
    with alone(folder / CHECKPOINT):
        history = _fit(arguments, model, task, optimiser)
        left(arguments, folder / CHECKPOINT)
        _write_history(arguments, history)
        nn.save(folder / WEIGHTS, model.state_dict())
        left(arguments, folder / WEIGHTS)
    print(history.table())
    solved = "not solved" if history.solved_at is None else f"solved at step {history.solved_at}"
    print(f"result  {solved}: {task.metric_name} {history.metrics[-1][1]:.4g}, solved below {task.solved_below:.4g}")
    print(f"wrote   {wrote(arguments)}")


def _fit(arguments: argparse.Namespace, model: Any, task: Task, optimiser: Any) -> History:
    """Train; what ends it early leaves the history that there is."""
    from ..train import Diverged, Interrupted, fit

    options = chosen(
        arguments, "clip_norm clip_value window seed evaluate_every until_solved checkpoint_every resume derived"
    )
    if "clip_value" not in options:
        options = {"clip_norm": 1.0} | options
    batch = arguments.batch or (1 if arguments.task == "text" else 32)
    where = arguments.out / CHECKPOINT
    try:
        with in_options():
            return fit(model, task, optimiser, arguments.updates, batch_size=batch, checkpoint=where, **options)
    except Diverged as error:
        _write_history(arguments, error.history)
        raise Problem(f"{error}. What came before is in {arguments.out / HISTORY}") from error
    except Interrupted as stopped:
        _write_history(arguments, stopped.history)
        told = f"{stopped}: the same command with --resume goes on from there"
        arguments.after = lambda: told
        raise KeyboardInterrupt from None


COMMAND = Command(
    "train",
    run,
    f"task length {CELL} {READING} updates batch optimiser lr clip_norm clip_value window derived until_solved "
    "evaluate_every checkpoint_every out resume",
    {
        "hidden": 32,
        "seed": 0,
        "updates": 600,
        "optimiser": "adam",
        "evaluate_every": 50,
        "checkpoint_every": 100,
        "out": Path("run"),
    },
    says={"out": {"help": "a folder"}, "data": {"help": "of the tasks text and series; default: packaged ones"}},
    operand=WHICH,
    moved={"--steps": "--steps are time steps: here say --length for these, and --updates for how long to train"},
)


def _task(arguments: argparse.Namespace) -> Task:
    name, options = arguments.task, chosen(arguments, "length")
    if name is None:
        raise Problem("what is to be learnt? name it with --task (see tinygrad-rnn train --help)")
    if name not in ("text", "series"):
        refuse(arguments, READING, f"belongs to the tasks text and series, and the task is {name}")
    if name != "series":
        refuse(arguments, READING.replace("data", ""), f"belongs to the task series, and the task is {name}")
    if name == "series":
        options["data"] = read_data(arguments)
    if name == "text":
        options["text"] = arguments.data
    return task_of(name, **options)


def _claim(folder: Path, arguments: argparse.Namespace) -> None:
    """Make the folder, or find out that it is ours to go on with: what somebody else put there is left alone."""
    if folder.exists() and not folder.is_dir():
        raise Problem(f"{folder}: is no folder")
    # What begins with a dot may be left of a file that was being written when the process was killed.
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.exists() else set()
    if CHECKPOINT in there and not arguments.resume:
        raise Problem(f"{folder}: has a run already: go on with --resume, or choose another --out")
    if there and CHECKPOINT not in there:
        raise Problem(f"{folder}: has other files, and no run to go on with: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    claim(arguments, {f"the {name} of --out": folder / name for name in (CHECKPOINT, WEIGHTS, HISTORY, CHART)})
    again = f"the same command with --resume goes on from {printable(folder / CHECKPOINT)}"
    arguments.after = lambda: again if (folder / CHECKPOINT).exists() else ""


def _write_history(arguments: argparse.Namespace, history: History) -> None:
    """The history as numbers and, if it can be drawn, as a chart."""
    folder = arguments.out
    history.to_json(folder / HISTORY)
    left(arguments, folder / HISTORY)
    if find_spec("matplotlib") is not None and history.steps:
        history.save(folder / CHART)
        left(arguments, folder / CHART)
