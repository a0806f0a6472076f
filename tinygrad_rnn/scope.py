"""Where in the program a tensor is made, and whether its history is recorded.

After this file the reader knows the only ambient state the engine has: one immutable `Context` in one `ContextVar`. A
scope is a path such as ``t=3/forget``; every tensor remembers the path that was open when it was made, which is how a
picture can later group what belongs to one time step or one gate. Each thread starts with no scope and recording on.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import Final


class Context:
    """What an operation needs to know about the place it runs in: immutable, so that sharing it is safe."""

    __slots__ = ("path", "recording")

    def __init__(self, path: str, recording: bool) -> None:
        self.path: Final = path
        self.recording: Final = recording


# One variable for both facts, because reading a ContextVar is the dearest part of knowing them.
CONTEXT: ContextVar[Context] = ContextVar("tinygrad_rnn", default=Context("", True))


class _Inside(ContextDecorator):
    """Sets the context on entry and puts back the one it found, also after an exception.

    A plain class with a stack rather than ``@contextlib.contextmanager``: half the cost, and the same object can be
    entered twice. The outer context is set again instead of resetting a token, since a token dies with its generator.
    """

    __slots__ = ("_outer",)

    def __init__(self) -> None:
        self._outer: list[Context] = []

    def _inner(self, outer: Context) -> Context:
        raise NotImplementedError

    def __enter__(self) -> None:
        outer = CONTEXT.get()
        self._outer.append(outer)
        CONTEXT.set(self._inner(outer))

    def __exit__(self, *exception: object) -> None:
        CONTEXT.set(self._outer.pop())


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
        self._outer: list[Context] = []
        self.name = name

    def _inner(self, outer: Context) -> Context:
        return Context(f"{outer.path}/{self.name}" if outer.path else self.name, outer.recording)


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

    def _inner(self, outer: Context) -> Context:
        return Context(outer.path, False)
