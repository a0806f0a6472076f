"""Where in the program a tensor is made, and whether its history is recorded.

After this file the reader knows the only ambient state the engine has: one immutable tuple in one `ContextVar`. A scope
is a path such as ``t=3/forget``; every tensor remembers the path that was open when it was made, which is how a picture
can later group what belongs to one time step or one gate. Each thread starts with no scope and recording on.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Generator
from contextvars import ContextVar
from functools import wraps
from threading import Lock
from typing import Any, TypeVar, cast
from warnings import warn

# (path, recording, the context outside, who entered). One variable for all, and a bare tuple, because every operation
# reads it. What to go back to is part of it, so that a scope has no state of its own and may be shared by threads.
CONTEXT: ContextVar[tuple[str, bool, Any, Any]] = ContextVar("tinygrad_rnn", default=("", True, None, None))

current, enter = CONTEXT.get, CONTEXT.set

Function = TypeVar("Function", bound=Callable[..., Any])


class _Inside:
    """Leaves the context that it entered, and only that, also after an exception; as a decorator, for each call.

    A plain class rather than ``@contextlib.contextmanager``, at a third of the cost.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        raise NotImplementedError

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        context = current()
        if context[3] is self:
            enter(context[2])
            return
        # A generator that waits inside of it, or was closed late, has put entries of its own on top: they stay.
        above = []
        while context[3] is not self:
            above.append(context[3])
            context = context[2]
            if context is None:
                name = type(self).__name__
                warn(f"a {name} is left in another thread than it was entered in: there it stays open", stacklevel=2)
                return
        enter(context[2])
        for other in reversed(above):
            other.__enter__()

    def __call__(self, function: Function) -> Function:
        """Run every call of a function inside; of a generator or a coroutine, whatever runs between two waits."""
        called = function, type(function).__call__  # of an object this is its method, which may be a generator
        if any(map(inspect.isasyncgenfunction, called)):
            raise TypeError("an asynchronous generator cannot be decorated: write `with` inside of it")

        def inside(*args: Any, **options: Any) -> Any:
            with self:
                return function(*args, **options)

        def generator(*args: Any, **options: Any) -> Any:
            return (yield from _Resumed(function(*args, **options), self))

        async def coroutine(*args: Any, **options: Any) -> Any:
            return await _Resumed(function(*args, **options).__await__(), self)

        run: Callable[..., Any] = inside
        if any(map(inspect.isgeneratorfunction, called)):
            run = generator
        elif any(map(inspect.iscoroutinefunction, called)):
            run = coroutine
        return cast(Function, wraps(function)(run))


class _Resumed(Generator[Any, Any, Any]):
    """A generator, or a coroutine that waits, each part of which runs inside of a context: its caller never does."""

    def __init__(self, parts: Any, inside: _Inside) -> None:
        self.parts, self.inside = parts, inside

    def send(self, value: Any) -> Any:
        with self.inside:
            return self.parts.send(value)

    def throw(self, *error: Any) -> Any:
        with self.inside:
            return self.parts.throw(*error)

    def __await__(self) -> _Resumed:
        return self


class scope(_Inside):
    """Name the part of the program that runs inside, for pictures, tables and error messages.

    Parameters
    ----------
    name : str
        One path component, such as ``"t=3"`` or ``"forget"``. Scopes nest: their names are joined by ``/``.

    Raises
    ------
    TypeError
        If the name is no text, or empty.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> with tg.scope("t=1"), tg.scope("forget"):
    ...     tg.Tensor(1.0).scope
    't=1/forget'
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not name or str(name) != name:
            raise TypeError(f"name={name!r}: a scope has a text as its name, such as 't=3'")
        self.name = name

    def __enter__(self) -> None:
        path, recording, _, _ = outer = current()
        enter((f"{path}/{self.name}" if path else self.name, recording, outer, self))


class no_grad(_Inside):
    """Compute without recording: results inside need no gradient and keep no history.

    As a decorator, of functions, generators and coroutines, it holds while they run. Written inside of a generator, as
    any ``with``, it holds for whoever goes on while the generator waits.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> w = tg.Tensor(2.0, requires_grad=True)
    >>> with tg.no_grad():
    ...     (w * w).requires_grad
    False
    """

    __slots__ = ()
    recording = False

    def __enter__(self) -> None:
        outer = current()
        enter((outer[0], self.recording, outer, self))


class recorded(no_grad):
    """The opposite: for a derivative that is asked for inside `no_grad`, and has to record to be computed."""

    __slots__ = ()
    recording = True


_LOCK, _NEVER = Lock(), 2**30
_unrolling, _threshold = 0, 0  # how many are at it, in all threads, and what to go back to afterwards


def few_collections(function: Function) -> Function:
    """Let Python's cyclic collector look at young objects only, in this process, while a function builds a graph.

    A graph has no cycles, yet the collector walks all of it again whenever it has grown by a quarter: two thirds of the
    time that an LSTM takes for 10,000 steps. Cycles that a cell makes and drops are found while they are young.
    """

    @wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        global _unrolling, _threshold
        with _LOCK:
            if not _unrolling:
                first, second, _threshold = gc.get_threshold()
                gc.set_threshold(first, second, _NEVER)
            _unrolling += 1
        try:
            return function(*args, **options)
        finally:
            with _LOCK:
                _unrolling -= 1
                first, second, third = gc.get_threshold()
                if not _unrolling and third == _NEVER:  # else somebody has set another one meanwhile
                    gc.set_threshold(first, second, _threshold)

    return cast(Function, run)
