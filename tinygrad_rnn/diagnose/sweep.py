"""Many configurations, each measured once: in this process, on all cores, or on a cluster, and on after a kill.

After this file the reader knows how thousands of small independent jobs are spread over any
`concurrent.futures.Executor`: a bounded number in flight, several to a future so that the overhead stays small, each
outcome on disk as soon as it arrives, and random numbers that depend on the configuration and on nothing else.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import itertools
import math
import os
import pickle
import textwrap
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .store import Configuration, Outcome, Store, key_of, opened, read_outcomes, scalars
from .table import Scalar, Table

if TYPE_CHECKING:
    from tqdm import tqdm

Measure = Callable[[Configuration], Mapping[str, Any] | float]

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
    >>> from tinygrad_rnn.diagnose import grid
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
    >>> from tinygrad_rnn.diagnose import rng_of
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

    Parameters
    ----------
    workers : int, optional
        Default: one a core.

    Yields
    ------
    concurrent.futures.Executor
    """
    from multiprocessing import get_context

    # Read by the children when they import NumPy: on small matrices more threads than cores only get in the way.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_with_parent) as pool:
            yield pool
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _end_with_parent() -> None:
    """Let a worker end when the process that started it is killed; else it would wait for its next job for ever."""
    import threading
    from multiprocessing import parent_process

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
        What the file is about, compared when it is resumed. Default: the measure's name, a digest of its source
        (comments do not count) and the arguments of a `partial`.
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
    >>> from tinygrad_rnn.diagnose import grid, sweep
    >>> def square(configuration):
    ...     return {"square": configuration["x"] ** 2}
    >>> print(sweep(grid(x=[1, 2, 3]), square))
    x  square
    1  1
    2  4
    3  9
    """
    if isinstance(executor, ProcessPoolExecutor):
        _check_sendable(measure)
    about = {"experiment": experiment} if experiment is not None else describe(measure)
    with opened(Path(path), about) if path is not None else nullcontext(Store()) as store:
        run = _Run(store, measure, executor, retry, progress)
        run.begin(configurations)
        try:
            if executor is None:
                run.here()
            else:
                run.spread(executor, in_flight or 4 * getattr(executor, "_max_workers", 64))
        finally:
            run.bar.close()
    return _table(store.known[key] for key in run.asked)


def read_table(path: str | PathLike[str]) -> Table:
    """The table in a sweep's file, also while the sweep is running.

    Parameters
    ----------
    path : path

    Returns
    -------
    Table
    """
    return _table(read_outcomes(Path(path)))


def describe(measure: Measure) -> dict[str, str]:
    """What tells one measure from another: its name, its source without comments, the arguments of a `partial`."""
    arguments = ""
    if isinstance(measure, partial):
        given = [*map(repr, measure.args), *(f"{k}={v!r}" for k, v in sorted(measure.keywords.items()))]
        arguments, measure = ", ".join(given), measure.func
    named = measure if hasattr(measure, "__qualname__") else type(measure)
    if named is not measure:
        arguments = repr(measure)
    if " at 0x" in arguments:  # an address, which is another one in every run
        raise ValueError(f"the table cannot tell what {arguments} is in the next run: pass experiment='a name'")
    try:
        source = ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(named))))
    except (OSError, TypeError, SyntaxError):  # typed at a prompt, built in, or a lambda in the middle of a line
        source = ""
    said = {"experiment": f"{named.__module__}.{named.__qualname__}({arguments})"}
    return said | ({"source": hashlib.sha256(source.encode()).hexdigest()[:16]} if source else {})


@dataclass
class _Run:
    """One sweep under way: which configurations are still to be done, and where their outcomes go."""

    store: Store
    measure: Measure
    executor: Executor | None
    retry: bool
    progress: bool | None
    asked: list[str] = field(default_factory=list)
    failed: int = 0

    def begin(self, configurations: Iterable[Mapping[str, Scalar]]) -> None:
        from tqdm import tqdm

        total = len(configurations) if isinstance(configurations, Sized) else None
        disable = None if self.progress is None else not self.progress
        self.bar: tqdm[Any] = tqdm(total=total, disable=disable, unit="job", desc="sweep")
        self.todo = self._missing(configurations)

    def _missing(self, configurations: Iterable[Mapping[str, Scalar]]) -> Iterator[Configuration]:
        """Those that have to be measured, in order, each once."""
        seen = set()
        for given in configurations:
            configuration = scalars(given, "a configuration")
            for name, value in configuration.items():
                if isinstance(value, float) and not math.isfinite(value):
                    raise ValueError(f"a setting must be finite to be found again, and {name} is {value}")
            key = key_of(configuration)
            if key in seen:
                self.bar.update()
                continue
            seen.add(key)
            self.asked.append(key)
            known = self.store.known.get(key)
            if known is None or (self.retry and known.error is not None):
                yield configuration
            else:
                self._count(known)

    def _count(self, outcome: Outcome) -> None:
        self.bar.update()
        if outcome.error is not None:
            self.failed += 1
            self.bar.set_postfix(failed=self.failed)

    def _keep(self, outcomes: Iterable[Outcome]) -> None:
        outcomes = list(outcomes)
        self.store.append(outcomes)
        for outcome in outcomes:
            self._count(outcome)

    def here(self) -> None:
        """One after the other, in this process."""
        for configuration in self.todo:
            self._keep([_attempt(self.measure, configuration)])

    def spread(self, executor: Executor, in_flight: int) -> None:
        """Over the workers of an executor, at most `in_flight` futures at a time."""
        pending: dict[Future[tuple[list[Outcome], float]], list[Configuration]] = {}
        alone: list[Configuration] = []  # came back from a future that failed: one at a time, to find the culprit
        size = 1
        try:
            while True:
                while len(pending) < in_flight:
                    jobs = [alone.pop()] if alone else list(itertools.islice(self.todo, size))
                    if not jobs:
                        break
                    pending[executor.submit(_attempt_all, self.measure, jobs)] = jobs
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    jobs = pending.pop(future)
                    try:
                        outcomes, seconds = future.result()
                    except BrokenExecutor as error:
                        raise RuntimeError(_broken(self.store.path)) from error
                    except Exception as error:
                        # Not the measure, whose errors are caught beside it, but the way there and back.
                        if len(jobs) > 1:
                            alone += jobs
                        else:
                            self._keep([Outcome(jobs[0], error=_told(error))])
                        continue
                    self._keep(outcomes)
                    # As many as fill the time, but no more than twice as many as were tried.
                    size = min(max(1, int(SECONDS * len(jobs) / max(seconds, 1e-9))), 2 * len(jobs), LONGEST)
        finally:
            for future in pending:
                future.cancel()


def _attempt_all(measure: Measure, jobs: list[Configuration]) -> tuple[list[Outcome], float]:
    """What a worker does with one future: its outcomes, and how long they took."""
    started = time.perf_counter()
    return [_attempt(measure, configuration) for configuration in jobs], time.perf_counter() - started


def _attempt(measure: Measure, configuration: Configuration) -> Outcome:
    """Measure one configuration; an error is an outcome too."""
    try:
        measured = measure(dict(configuration))
        result = scalars(measured if isinstance(measured, Mapping) else {"value": measured}, "what was measured")
        if taken := [name for name in result if name in configuration or name == "error"]:
            raise ValueError(f"{', '.join(taken)}: measured under the name of a setting, or of the column of errors")
    except Exception as error:
        return Outcome(configuration, error=_told(error))
    return Outcome(configuration, result)


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


def _table(outcomes: Iterable[Outcome]) -> Table:
    """Settings first, then what was measured, then errors, if there are any."""
    outcomes = list(outcomes)
    settings = dict.fromkeys(name for outcome in outcomes for name in outcome.configuration)
    measured = dict.fromkeys(name for outcome in outcomes for name in outcome.result or ())
    failed = ("error",) if any(outcome.error is not None for outcome in outcomes) else ()
    rows = [
        (
            *(outcome.configuration.get(name) for name in settings),
            *((outcome.result or {}).get(name) for name in measured),
            *(outcome.error for _ in failed),
        )
        for outcome in outcomes
    ]
    return Table((*settings, *measured, *failed), tuple(rows))
