"""Where in the program a tensor is made, and whether its history is recorded.

After this file the reader knows the only ambient state the engine has: one immutable pair in one `ContextVar`. A
scope is a path such as ``t=3/forget``; every tensor remembers the path that was open when it was made, which is how a
picture can later group what belongs to one time step or one gate. Each thread starts with no scope and recording on.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar
from copy import copy
from typing import Any

# (path, recording). One variable for both, and a bare tuple, because every operation reads it.
CONTEXT: ContextVar[tuple[str, bool]] = ContextVar("tinygrad_rnn", default=("", True))


class _Inside(ContextDecorator):
    """Puts back the context that it found, also after an exception.

    A plain class rather than ``@contextlib.contextmanager``: half the cost, and the same object can be entered twice.
    The outer context is set again instead of resetting a token, since a token dies with its generator.
    """

    __slots__ = ("_outer",)

    _outer: Any  # (context to put back, what was here before) for each entry

    def _recreate_cm(self) -> Any:  # as a decorator: a new one per call, since calls may overlap in threads
        return copy(self)

    def __exit__(self, *exception: object) -> None:
        context, self._outer = self._outer
        CONTEXT.set(context)


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
        self._outer = None
        self.name = name

    def __enter__(self) -> None:
        outer = path, recording = CONTEXT.get()
        self._outer = (outer, self._outer)
        CONTEXT.set((f"{path}/{self.name}" if path else self.name, recording))


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

    def __init__(self) -> None:
        self._outer = None

    def __enter__(self) -> None:
        outer = CONTEXT.get()
        self._outer = (outer, self._outer)
        CONTEXT.set((outer[0], False))
