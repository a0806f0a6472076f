"""Where in the program a tensor is made, and whether its history is recorded.

After this file the reader knows the only ambient state the engine has: one immutable tuple in one `ContextVar`. A scope
is a path such as ``t=3/forget``; every tensor remembers the path that was open when it was made, which is how a picture
can later group what belongs to one time step or one gate. Each thread starts with no scope and recording on.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import Any

# (path, recording, the context outside). One variable for all, and a bare tuple, because every operation reads it.
# What to go back to is part of it, so that a scope object has no state of its own and may be shared by threads.
CONTEXT: ContextVar[tuple[str, bool, Any]] = ContextVar("tinygrad_rnn", default=("", True, None))

current, enter = CONTEXT.get, CONTEXT.set


class _Inside(ContextDecorator):
    """Leaves the context that it entered, also after an exception.

    A plain class rather than ``@contextlib.contextmanager``, at a third of the cost.
    """

    __slots__ = ()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        enter(current()[2])


class scope(_Inside):
    """Name the part of the program that runs inside, for pictures, tables and error messages.

    Parameters
    ----------
    name : str
        One path component, such as ``"t=3"`` or ``"forget"``. Scopes nest: their names are joined by ``/``.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> with tg.scope("t=1"), tg.scope("forget"):
    ...     tg.Tensor(1.0).scope
    't=1/forget'
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        path, recording, _ = outer = current()
        enter((f"{path}/{self.name}" if path else self.name, recording, outer))


class no_grad(_Inside):
    """Compute without recording: results inside need no gradient and keep no history.

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
        enter((outer[0], self.recording, outer))


class recorded(no_grad):
    """The opposite: for a derivative that is asked for inside `no_grad`, and has to record to be computed."""

    __slots__ = ()
    recording = True
