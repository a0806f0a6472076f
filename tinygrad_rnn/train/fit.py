"""fit: the training loop, short enough to be read.

After this file the reader knows what happens between a model that has learnt nothing and one that has: batch, loss,
gradient, clipping, update, over and over, and from time to time a look at how far it is.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from os import PathLike
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from ..arguments import POSITIVE, flag, number, refusal, whole
from .derived import DerivedGradients
from .history import History
from .optimisers import Optimiser
from .run import Run
from .tasks import Task

Callback = Callable[[Run], Any]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, which waited for the end of a step; it has the `history`."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"stopped after step {run.step}")
        self.history = run.history


class every:
    """A callback that is called after every k-th step only.

    Parameters
    ----------
    k : int
    callback : callable
        Is given the `Run`; a dict that it returns is kept in ``history.records``.

    Raises
    ------
    TypeError, ValueError
        If k is no whole number, at least 1, or the callback cannot be called.

    Examples
    --------
    >>> from tinygrad_rnn.train import every
    >>> every(50, lambda run: {"spectral radius": max(abs(np.linalg.eigvals(run.model.network.weight_hh.data)))}).k
    50
    """

    def __init__(self, k: int, callback: Callback) -> None:
        if not callable(callback):
            raise refusal("callback", callback, "a function that takes the Run")
        self.k, self.callback = whole("k", k, 1), callback

    def __call__(self, run: Run) -> Any:
        """Call back, if it is time."""
        return self.callback(run) if run.step % self.k == 0 else None

    def close(self) -> None:
        """Tell the callback that the run has ended."""
        getattr(self.callback, "close", lambda: None)()


def fit(
    model: Any,
    task: Task,
    optimiser: Optimiser,
    steps: int,
    *,
    batch_size: int = 32,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    window: int | None = None,
    seed: np.random.Generator | int = 0,
    evaluate_every: int = 50,
    until_solved: bool = False,
    callbacks: Iterable[Callback] = (),
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int = 100,
    resume: bool = False,
    derived: bool = False,
    progress: bool = True,
) -> History:
    """Train a model on a task.

    Parameters
    ----------
    model : callable ``model(inputs, state=None) -> (outputs, state)`` with ``parameters()``
        A `SequenceModel`, or one of your own.
    task : Task
    optimiser : Optimiser
        Of the model's parameters.
    steps : int
        Batches, one update each; counted from the first, also where a run is resumed.
    batch_size : int
    clip_norm, clip_value : float, optional
        Clip the gradient by its norm over all parameters, and by its elements.
    window : int, optional
        Truncated BPTT: see `unroll`. The model is then called with ``window=`` as well.
    seed : int or numpy.random.Generator
        Draws the batches.
    evaluate_every : int
        Steps between two looks at the task's metric.
    until_solved : bool
        Stop as soon as one of them finds the task solved.
    callbacks : iterable of callables
        Each is given the `Run` after each step, or through `every`; a dict that it returns is kept in the history. One
        with a method ``close`` has it called at the end, however the run ends.
    checkpoint : path, optional
        Ending in .npz: where everything that the run depends on is kept, every `checkpoint_every` steps, at the end,
        and on Ctrl-C. Always a whole file, whenever the process is killed.
    checkpoint_every : int
    resume : bool
        Go on from the checkpoint if there is one, as if nothing had happened, bit for bit.
    derived : bool
        Compute the gradients of a `SequenceModel` of one cell by the program that `derive_bptt` writes: the same
        numbers to rounding. The first batch is computed by the engine as well, and a program that does not agree on
        the loss and every gradient is not used. It is compiled if numba is installed (the extra ``fast``) and the steps
        that are left will save more time than that takes. One line says what was chosen; a resumed run goes on with it.
    progress : bool
        Print the baseline, and show a progress bar where standard error is a terminal.

    Returns
    -------
    History

    Raises
    ------
    Diverged
        If the loss or a gradient becomes NaN or infinite, naming the step, layer and operation in which that began.
    TypeError, ValueError
        If a setting is given a wrong value, naming it, if the optimiser is of another model,
        if there is a checkpoint already and `resume` is not asked for, or one that is damaged or of another run.
    Interrupted
        A KeyboardInterrupt: on Ctrl-C, after the step that it fell into, and after the checkpoint.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.train import Adam, Adding, SequenceModel, fit
    >>> task = Adding(length=10)
    >>> model = SequenceModel(tg.LSTMCell(2, 8, init="chrono", t_max=10, rng=0), task, rng=1)
    >>> history = fit(model, task, Adam(model, lr=0.03), steps=60, clip_norm=1.0, progress=False)
    >>> history.losses[0] > history.baseline > history.losses[-1]
    True
    """
    from tqdm import tqdm

    seed = seed if isinstance(seed, np.random.Generator) else whole("seed", seed)
    settings: dict[str, Any] = {
        "batch_size": whole("batch_size", batch_size, 1),
        "clip_norm": None if clip_norm is None else number("clip_norm", clip_norm, POSITIVE),
        "clip_value": None if clip_value is None else number("clip_value", clip_value, POSITIVE),
        "window": None if window is None else whole("window", window, 1),
        "seed": seed if isinstance(seed, int) else "a generator",
        "evaluate_every": whole("evaluate_every", evaluate_every, 1),
        "derived": flag("derived", derived),
        "lr": optimiser.lr,
    }
    steps, checkpoint_every = whole("steps", steps, 1), whole("checkpoint_every", checkpoint_every, 1)
    until_solved, resume = flag("until_solved", until_solved), flag("resume", resume)
    progress = flag("progress", progress)
    callbacks = _callbacks(callbacks)
    _refuse_foreign(model, optimiser)
    history = History(repr(task), task.baseline, task.baseline_means, task.metric_name, task.solved_below)
    run = Run(model, task, optimiser, np.random.default_rng(seed), history, settings)
    say = partial(tqdm.write, file=sys.stderr) if progress else lambda line: None
    gradients = DerivedGradients(run, steps, say) if derived else None
    path = _begin(run, checkpoint, resume)
    if run.step == steps and run.step % evaluate_every:
        run.look()

    def done() -> bool:
        return run.step >= steps or (until_solved and run.history.solved_at is not None)

    with ExitStack() as after:
        interrupted = after.enter_context(_Interrupt())
        say(f"{task!r}: baseline {task.baseline:.4g} ({task.baseline_means})")
        options: dict[str, Any] = {"unit": "step", "disable": None if progress else True, "dynamic_ncols": True}
        bar = after.enter_context(tqdm(total=steps, initial=run.step, **options))
        after.enter_context(np.errstate(all="ignore"))
        for callback in callbacks:
            after.callback(getattr(callback, "close", lambda: None))
        while not done():
            run.train_step(gradients)
            if run.step % evaluate_every == 0 or run.step == steps:
                run.look()
            _call_back(run, callbacks)
            if progress:  # else a step would be put into words that nobody sees
                bar.set_postfix_str(run.history.last(), refresh=False)
                bar.update()
            if path and (run.step % checkpoint_every == 0 or interrupted or done()):
                run.save(path)
            if interrupted and not done():
                raise Interrupted(run)
    return run.history


def _callbacks(callbacks: Any) -> list[Callback]:
    """The callbacks, found to be some before the first step."""
    found: list[Any] = list(callbacks) if isinstance(callbacks, Iterable) else [None]
    if not all(map(callable, found)):
        raise refusal("callbacks", callbacks, "a list of functions that take the Run")
    return found


def _refuse_foreign(model: Any, optimiser: Optimiser) -> None:
    """Find out before the first step, and before a file is written, whether the optimiser would train another model."""
    own = {id(tensor) for tensor in model.parameters().values()}
    if foreign := [name for name, tensor in optimiser.parameters.items() if id(tensor) not in own]:
        raise ValueError(f"the optimiser is of another model: this one has no such {', '.join(foreign)}")


def _begin(run: Run, checkpoint: str | PathLike[str] | None, resume: bool) -> Path | None:
    """Load the checkpoint, or write the first one, so that it is known before long work that it can be written."""
    if checkpoint is None:
        if resume:
            raise ValueError("resume=True needs to know the checkpoint")
        return None
    path = Path(checkpoint)
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{path}: a checkpoint's name ends in .npz")
    if path.exists() and not resume:
        raise ValueError(f"{path} is there already: resume=True goes on from it")
    if path.exists():
        run.load(path)
    else:
        run.save(path)
    return path


def _call_back(run: Run, callbacks: Iterable[Callback]) -> None:
    record: dict[str, Any] = {}
    for callback in callbacks:
        told = callback(run)
        if isinstance(told, dict):
            record |= {name: np.asarray(value).tolist() for name, value in told.items()}
    if record:
        run.history.records.append((run.step, record))


class _Interrupt:
    """Ctrl-C between two steps: one that falls into a step is true once the step is done; a second one is at once."""

    def __enter__(self) -> _Interrupt:
        self.asked = False
        # Only the main thread may say what a signal does; elsewhere nobody is interrupted either.
        self.main = threading.current_thread() is threading.main_thread()
        self.old = signal.getsignal(signal.SIGINT)
        self.main = self.main and self.old is not None
        if self.main:
            signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __bool__(self) -> bool:
        return self.asked

    def __exit__(self, *exception: object) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.old)
