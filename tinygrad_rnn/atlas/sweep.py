"""Many configurations, each measured once: in this process, on all cores, or on a cluster, and on after a kill.

After this file the reader knows how thousands of small independent jobs are spread over any
`concurrent.futures.Executor`: a bounded number in flight, several to a future so that the overhead stays small, each
outcome on disk as soon as it arrives, and random numbers that depend on the configuration and on nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import flag, refusal, whole
from .digest import digest
from .store import Configuration, Outcome, Store, key_of, opened, reading, scalars
from .table import Scalar, Table

if TYPE_CHECKING:
    from tqdm import tqdm

Measure = Callable[[Configuration], Mapping[str, Any] | float]
Measured = tuple[dict[str, Scalar] | None, str | None]
"""A result, or the text of an error."""

SECONDS = 0.5  # how long the jobs of one future should take together
LONGEST = 1000  # and how many they may be


@dataclass(frozen=True)
class Grid:
    """Every combination of some settings, one after the other, never all in memory; see `grid`.

    Attributes
    ----------
    settings : dict of str to tuple
        The values of each.
    """

    settings: Mapping[str, tuple[Scalar, ...]]

    def __len__(self) -> int:
        return math.prod(map(len, self.settings.values()))

    def __iter__(self) -> Iterator[Configuration]:
        return (dict(zip(self.settings, values, strict=True)) for values in itertools.product(*self.settings.values()))


def grid(**settings: Scalar | Iterable[Scalar]) -> Grid:
    """Every combination of settings; the last one changes fastest.

    Parameters
    ----------
    **settings : scalar or iterable of scalars
        A scalar (a text is one) is the same in all combinations.

    Returns
    -------
    Grid
        An iterable of configurations that knows its length.

    Examples
    --------
    >>> from tinygrad_rnn.atlas import grid
    >>> list(grid(cell="rnn", scale=[0.5, 1.0], seed=range(2)))[1]
    {'cell': 'rnn', 'scale': 0.5, 'seed': 1}
    >>> len(grid(cell="rnn", scale=[0.5, 1.0], seed=range(2)))
    4
    """
    several = {
        name: (values,) if isinstance(values, str) or not isinstance(values, Iterable) else tuple(values)
        for name, values in settings.items()
    }
    return Grid(several)


def rng_of(configuration: Mapping[str, Scalar], *names: str) -> np.random.Generator:
    """A generator that depends on a configuration alone: not on the worker, nor on what was drawn before.

    Parameters
    ----------
    configuration : mapping
    *names : str
        Only these settings count: with ``"seed"`` all scales see the same draws, so that they are compared with less
        noise. Default: all settings.

    Returns
    -------
    numpy.random.Generator

    Examples
    --------
    >>> from tinygrad_rnn.atlas import rng_of
    >>> a, b = {"scale": 1.0, "seed": 3}, {"scale": 2.0, "seed": 3}
    >>> bool(rng_of(a, "seed").random() == rng_of(b, "seed").random()), bool(rng_of(a).random() == rng_of(b).random())
    (True, False)
    """
    chosen = {name: configuration[name] for name in names} if names else configuration
    digest = hashlib.sha256(key_of(chosen).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))


@contextmanager
def process_pool(workers: int | None = None) -> Iterator[Executor]:
    """Processes on this machine, one BLAS thread each, started afresh (`spawn`) as on every operating system.

    An error in the block, Ctrl-C for one, ends them at once.

    Parameters
    ----------
    workers : int, optional
        Default: one a core.

    Yields
    ------
    concurrent.futures.Executor
    """
    workers = None if workers is None else whole("workers", workers, 1)
    # Read by the children when they import NumPy: on small matrices more threads than cores only get in the way.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        pool = _Pool(workers, _Context(), initializer=_end_with_parent)
        try:
            yield pool
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.kill()
            with suppress(RuntimeError):  # of a pool that was interrupted while it started
                pool.shutdown()
            raise
        pool.shutdown()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


class _Worker(SpawnProcess):
    """A process that Ctrl-C does not reach, not even while it starts: whoever started it decides."""

    def start(self) -> None:
        """Start it with the signal blocked, which it inherits; what comes meanwhile counts afterwards."""
        if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
            return super().start()  # Windows; or somebody's thread, which no signal interrupts
        resource_tracker.ensure_running()  # whose start would let the signal through again
        seen: list[object] = []
        handler = signal.signal(signal.SIGINT, lambda *signal_and_frame: seen.append(signal_and_frame))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            signal.signal(signal.SIGINT, handler)
            if seen:
                self.kill()  # of which the pool does not know yet
                signal.raise_signal(signal.SIGINT)


class _Context(SpawnContext):
    Process = _Worker


class _Pool(ProcessPoolExecutor):
    """That of `process_pool`."""


def _end_with_parent() -> None:
    """Let a worker end when the process that started it is killed; else it would wait for its next job for ever."""
    from multiprocessing import parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def sweep(
    configurations: Iterable[Mapping[str, Scalar]],
    measure: Measure,
    executor: Executor | None = None,
    *,
    path: str | PathLike[str] | None = None,
    experiment: str | None = None,
    retry: bool = False,
    in_flight: int | None = None,
    progress: bool | None = None,
) -> Table:
    """Measure every configuration once, and return the table of all.

    Parameters
    ----------
    configurations : iterable of mappings of str to scalars
        For example a `grid`. Of equal ones only the first counts. It is read as jobs are handed out.
    measure : callable
        ``measure(configuration)`` gives a number, or a mapping of names to scalars; its random numbers should come
        from `rng_of`, or from a seed in the configuration. For processes it must be importable: a function at the top
        of a module, or a `functools.partial` of one.
    executor : concurrent.futures.Executor, optional
        Threads, processes (`process_pool`), or ``Client(...).get_executor()`` of dask.distributed. It is not shut down.
        Default: one job after the other in this process.
    path : path, optional
        A file of JSON lines that grows as results arrive. If it exists, what is in it is not measured again. Its
        finished bytes depend on neither the executor nor the number of interruptions.
    experiment : str, optional
        What the file is about, compared when it is resumed. Default: the measure's name, a digest of all that it
        computes with (its code, what that calls, reads and closes over, defaults, the arguments of a `partial`;
        comments do not count), and the version of this package. With a name of your own that is up to you.
    retry : bool
        Measure again what failed in an earlier run.
    in_flight : int, optional
        How many futures are submitted at once. Default: four for each worker; 256 where their number is unknown.
    progress : bool, optional
        Show a bar. Default: on a terminal.

    Returns
    -------
    Table
        One row a configuration, in the order in which they were given: settings, measured values and, if any job
        failed, the column ``error``.

    Raises
    ------
    TableError
        If the file belongs to another experiment, is damaged, or is being written by another sweep.
    TypeError, ValueError
        If a configuration holds what is no finite scalar, or the measure cannot be sent to other processes.
    RuntimeError
        If a process of the pool died: what had arrived is safe, and the same call goes on from there.

    Examples
    --------
    >>> from tinygrad_rnn.atlas import grid, sweep
    >>> def square(configuration):
    ...     return {"square": configuration["x"] ** 2}
    >>> print(sweep(grid(x=[1, 2, 3]), square))
    x  square
    1  1
    2  4
    3  9
    """
    retry, progress = flag("retry", retry), None if progress is None else flag("progress", progress)
    in_flight = None if in_flight is None else whole("in_flight", in_flight, 1)
    if not callable(measure):
        raise refusal("measure", measure, "a function of one configuration")
    if isinstance(executor, ProcessPoolExecutor):
        _check_sendable(measure)
    if path is None:
        place: AbstractContextManager[Store] = Store()
    else:
        place = opened(Path(path), {"experiment": experiment} if experiment is not None else describe(measure))
    with place as store:
        run = _Run(store, measure, executor, retry, progress)
        run.begin(configurations)
        try:
            if executor is None:
                run.here()
            else:
                usual = 4 * getattr(executor, "_max_workers", 64)
                run.spread(executor, usual if in_flight is None else in_flight)
        finally:
            run.bar.close()
        store.sort()
        return _table(store, run.asked)


def read_table(path: str | PathLike[str]) -> Table:
    """The table in a sweep's file, also while the sweep is running.

    Parameters
    ----------
    path : path

    Returns
    -------
    Table
    """
    with reading(Path(path)) as store:
        return _table(store, store.places)


def describe(measure: Measure) -> dict[str, str]:
    """What tells one measure from another: its name, a digest of all that it computes with, the package's version."""
    inner, arguments = measure, ""
    if isinstance(measure, partial):
        given = [*map(repr, measure.args), *(f"{k}={v!r}" for k, v in sorted(measure.keywords.items()))]
        arguments, inner = ", ".join(given), measure.func
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    name = f"{named.__module__}.{named.__qualname__}({'...' if ' at 0x' in arguments else arguments:.200})"
    source, compiled = digest(measure)
    version = sys.modules[__name__.partition(".")[0]].__version__  # which stands at the top, above this file
    python = {"python": ".".join(map(str, sys.version_info[:2]))} if compiled else {}
    return {"experiment": name, "source": source, "package": version, **python}


Job = tuple[str, Configuration]
"""A configuration and its key."""


@dataclass
class _Run:
    """One sweep under way: which configurations are still to be done, and where their outcomes go."""

    store: Store
    measure: Measure
    executor: Executor | None
    retry: bool
    progress: bool | None
    asked: dict[str, None] = field(default_factory=dict)
    failed: int = 0

    def begin(self, configurations: Iterable[Mapping[str, Scalar]]) -> None:
        from tqdm import tqdm

        total = len(configurations) if isinstance(configurations, Sized) else None
        disable = None if self.progress is None else not self.progress
        self.bar: tqdm[Any] = tqdm(total=total, disable=disable, unit="job", desc="sweep")
        self.todo = self._missing(configurations)

    def _missing(self, configurations: Iterable[Mapping[str, Scalar]]) -> Iterator[Job]:
        """Those that have to be measured, in order, each once."""
        for given in configurations:
            configuration = scalars(given, "a configuration")
            for name, value in configuration.items():
                if isinstance(value, float) and not math.isfinite(value):
                    raise ValueError(f"a setting must be finite to be found again, and {name} is {value}")
            key = key_of(configuration)
            if key in self.asked:
                self.bar.update()
                continue
            self.asked[key] = None
            failed = key in self.store.failed
            if key not in self.store.places or (self.retry and failed):
                yield key, configuration
            else:
                self._count(failed)

    def _count(self, failed: bool) -> None:
        self.bar.update()
        if failed:
            self.failed += 1
            self.bar.set_postfix(failed=self.failed)

    def _keep(self, jobs: Iterable[Job], measured: Iterable[Measured]) -> None:
        self.store.append([(key, Outcome(given, *found)) for (key, given), found in zip(jobs, measured, strict=True)])
        for _, error in measured:
            self._count(error is not None)

    def here(self) -> None:
        """One after the other, in this process."""
        for job in self.todo:
            self._keep([job], [_attempt(self.measure, job[1])])

    def spread(self, executor: Executor, in_flight: int) -> None:
        """Over the workers of an executor, at most `in_flight` futures at a time."""
        pending: dict[Future[tuple[list[Measured], float]], list[Job]] = {}
        alone: list[Job] = []  # came back from a future that failed: one at a time, to find the culprit
        size = 1
        try:
            while True:
                while len(pending) < in_flight:
                    jobs = [alone.pop()] if alone else list(itertools.islice(self.todo, size))
                    if not jobs:
                        break
                    pending[executor.submit(_attempt_all, self.measure, [given for _, given in jobs])] = jobs
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    jobs = pending.pop(future)
                    try:
                        measured, seconds = future.result()
                    except BrokenExecutor as error:
                        raise RuntimeError(_broken(self.store.path)) from error
                    except Exception as error:
                        # Not the measure, whose errors are caught beside it, but the way there and back.
                        if len(jobs) > 1:
                            alone += jobs
                        else:
                            self._keep(jobs, [(None, _told(error))])
                        continue
                    self._keep(jobs, measured)
                    # As many as fill the time, but no more than twice as many as were tried.
                    size = min(max(1, int(SECONDS * len(jobs) / max(seconds, 1e-9))), 2 * len(jobs), LONGEST)
        finally:
            if not isinstance(
                executor, _Pool
            ):  # which ends its processes; Python 3.11 trips over cancelled futures then
                for future in pending:
                    future.cancel()


def _attempt_all(measure: Measure, configurations: list[Configuration]) -> tuple[list[Measured], float]:
    """What a worker does with one future: what became of each, and how long they took."""
    started = time.perf_counter()
    return [_attempt(measure, given) for given in configurations], time.perf_counter() - started


def _attempt(measure: Measure, configuration: Configuration) -> Measured:
    """Measure one configuration: a result or the text of an error."""
    try:
        measured = measure(dict(configuration))
        result = scalars(measured if isinstance(measured, Mapping) else {"value": measured}, "what was measured")
        if taken := [name for name in result if name in configuration or name == "error"]:
            raise ValueError(f"{', '.join(taken)}: measured under the name of a setting, or of the column of errors")
    except Exception as error:
        return None, _told(error)
    return result, None


def _told(error: BaseException) -> str:
    """An error in one line: its type, its text, and the line of code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


def _broken(path: Path | None) -> str:
    safe = (
        f"what had arrived is safe in {path}: run the same sweep again, and it goes on" if path else "nothing was kept"
    )
    return (
        f"a process of the pool died, perhaps for want of memory, or because the script that starts it has no "
        f'`if __name__ == "__main__":` around the sweep; {safe}'
    )


def _check_sendable(measure: Measure) -> None:
    try:
        pickle.dumps(measure)
    except Exception as error:  # pickle raises whatever it likes
        raise TypeError(
            f"{measure!r} cannot be sent to other processes ({error}): define it at the top of a module, or use threads"
        ) from None


def _table(store: Store, keys: Iterable[str]) -> Table:
    """Settings first, then what was measured, then errors, if there are any."""
    settings: dict[str, None] = {}
    measured: dict[str, None] = {}
    failed: tuple[str, ...] = ()
    for outcome in store.outcomes(keys):
        settings |= dict.fromkeys(outcome.configuration)
        measured |= dict.fromkeys(outcome.result or {})
        failed = ("error",) if outcome.error is not None else failed
    rows = [
        (
            *(outcome.configuration.get(name) for name in settings),
            *((outcome.result or {}).get(name) for name in measured),
            *(outcome.error for _ in failed),
        )
        for outcome in store.outcomes(keys)  # once more, now that all columns are known
    ]
    return Table((*settings, *measured, *failed), tuple(rows))
