"""``tinygrad-rnn train``: train a cell, or a network from a file, on a task that needs memory.

Everything is kept in one folder: a checkpoint, from which the same command with --resume goes on bit for bit; at the
end the parameters, the history as numbers and, where matplotlib is installed, as a chart.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import NAMES, Problem, add_cell, add_weights, build_network, positive, whole

if TYPE_CHECKING:
    from ..train import History, Task

TASKS = ("adding", "adding-minimal-lag", "copying", "temporal-order", "text", "series")
RATES = {"sgd": 0.1, "adagrad": 0.1, "rmsprop": 0.01, "adam": 0.01}
CHECKPOINT, WEIGHTS, HISTORY, CHART = "checkpoint.npz", "weights.npz", "history.json", "loss.svg"


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "train",
        help="train a cell on a task that needs memory",
        description="Train a cell on a task that needs memory, beside the loss of the best answer that remembers "
        f"nothing. The folder gets {CHECKPOINT}, {WEIGHTS}, {HISTORY} and, with matplotlib, {CHART}.",
    )
    add, steps = parser.add_argument, whole(1, 10**9)
    add("--task", choices=TASKS, required=True)
    add("--cell", choices=tuple(NAMES), help="default: lstm, or as --weights")
    add("--length", type=whole(1, 100_000), metavar="T", help="time steps; default: 50, of a text 25, of a series 20")
    add("--data", type=Path, metavar="FILE", help="for text: .txt; for series: .csv or .npy; default: packaged ones")
    add("--column", action="append", default=[], metavar="NAME", help="column of a .csv file (again for more)")
    add_cell(parser, hidden=32)
    add_weights(parser)
    add("--steps", type=steps, default=600, metavar="N", help="updates; default: %(default)s")
    add("--batch", type=whole(1, 100_000), metavar="B", help="sequences an update; default: 32, of a text 1")
    add("--optimiser", choices=tuple(RATES), default="adam", help="default: %(default)s")
    rates = ", ".join(f"{name} {rate}" for name, rate in RATES.items())
    add("--lr", type=positive, help=f"learning rate; default: {rates}")
    add("--clip-norm", type=positive, metavar="C", help="shorten longer gradients; default: 1, if no --clip-value")
    add("--clip-value", type=positive, metavar="C", help="bring every element of the gradients into ±C")
    add("--window", type=whole(1, 100_000), metavar="K", help="truncated BPTT: so many steps back at most")
    add("--derived", action="store_true", help="by the program that derive_bptt writes, which takes less time")
    add("--until-solved", action="store_true", help="stop as soon as the task is found solved")
    add("--evaluate-every", type=steps, default=50, metavar="N", help="steps; default: %(default)s")
    add("--checkpoint-every", type=steps, default=100, metavar="N", help="steps; default: %(default)s")
    add("--out", type=Path, default=Path("run"), metavar="FOLDER", help="default: %(default)s")
    add("--resume", action="store_true", help="go on from the folder's checkpoint, with the same options")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Train, and write what came of it."""
    import numpy as np

    from .. import nn
    from ..data import DataError
    from ..train import Diverged, Interrupted, SequenceModel, fit
    from ..train.optimisers import OPTIMISERS

    if arguments.cell is None and arguments.weights is None:
        arguments.cell = "lstm"
    try:
        task = _task(arguments)
    except (DataError, ValueError) as error:
        raise Problem(str(error)) from None
    network = build_network(arguments, task.inputs, t_max=task.length)
    try:
        model = SequenceModel(network.module, task, rng=np.random.default_rng([arguments.seed, 2]))
    except ValueError as error:
        raise Problem(str(error)) from None
    optimiser = OPTIMISERS[arguments.optimiser](model, lr=arguments.lr or RATES[arguments.optimiser])
    clip_norm = arguments.clip_norm or (None if arguments.clip_value else 1.0)
    folder: Path = arguments.out
    _claim(folder, arguments.resume)
    print(f"task    {task!r}")
    print(f"cell    {network.name}, {network.module.dtype}")
    print(f"init    {network.initialised}")
    print(f"by      {optimiser!r}", flush=True)
    try:
        history = fit(
            model,
            task,
            optimiser,
            arguments.steps,
            batch_size=arguments.batch or (1 if arguments.task == "text" else 32),
            clip_norm=clip_norm,
            clip_value=arguments.clip_value,
            window=arguments.window,
            seed=arguments.seed,
            evaluate_every=arguments.evaluate_every,
            until_solved=arguments.until_solved,
            checkpoint=folder / CHECKPOINT,
            checkpoint_every=arguments.checkpoint_every,
            resume=arguments.resume,
            derived=arguments.derived,
        )
    except (ValueError, TypeError) as error:
        raise Problem(str(error)) from error
    except Diverged as error:
        _write_history(folder, error.history)
        raise Problem(f"{error}. What came before is in {folder / HISTORY}") from error
    except Interrupted as stopped:
        _write_history(folder, stopped.history)
        raise KeyboardInterrupt(f"{stopped}: the same command with --resume goes on from there") from None
    written = [CHECKPOINT, *_write_history(folder, history), WEIGHTS]
    nn.save(folder / WEIGHTS, model.state_dict())
    print(history.table())
    solved = "not solved" if history.solved_at is None else f"solved at step {history.solved_at}"
    print(f"result  {solved}: {task.metric_name} {history.metrics[-1][1]:.4g}, solved below {task.solved_below:.4g}")
    print(f"wrote   {', '.join(str(folder / name) for name in written)}")


def _task(arguments: argparse.Namespace) -> Task:
    from .. import train

    name, given = arguments.task, {"length": arguments.length} if arguments.length else {}
    if name not in ("text", "series") and arguments.data:
        raise Problem(f"--data belongs to the tasks text and series, and the task is {name}")
    if name != "series" and arguments.column:
        raise Problem(f"--column belongs to the task series, and the task is {name}")
    if name == "text":
        return train.Text(arguments.data, **given)
    if name == "series":
        return train.Series(arguments.data, arguments.column, **given)
    if name == "copying":
        return train.Copying(**given)
    if name == "temporal-order":
        return train.TemporalOrder(**given)
    return train.Adding(minimal_lag=name.endswith("minimal-lag"), **given)


def _claim(folder: Path, resume: bool) -> None:
    """Make the folder, or find out that it is ours to go on with: what somebody else put there is left alone."""
    if folder.exists() and not folder.is_dir():
        raise Problem(f"{folder}: is no folder")
    # What begins with a dot may be left of a file that was being written when the process was killed.
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.exists() else set()
    if CHECKPOINT in there and not resume:
        raise Problem(f"{folder}: has a run already: go on with --resume, or choose another --out")
    if there and CHECKPOINT not in there:
        raise Problem(f"{folder}: has other files, and no run to go on with: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)


def _write_history(folder: Path, history: History) -> list[str]:
    """The history as numbers and, if it can be drawn, as a chart; what was written."""
    history.to_json(folder / HISTORY)
    if find_spec("matplotlib") is None or not history.steps:
        return [HISTORY]
    history.save(folder / CHART)
    return [HISTORY, CHART]
