"""What leaves the graph while a function runs, and at which line.

After this file the reader knows how a lost gradient is proved: let whatever left the graph leave as it did the first
time, and differences find just what the rules find, because for both it is a constant.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import RLock, get_ident
from typing import Any
from unittest.mock import patch

from ..scope import current
from ..tensor import LIBRARIES, Tensor, new_node

RECORDING = [import_module(f"tinygrad_rnn.{name}") for name in ("primitive", "functions")]
"""Where results are made, which under `no_grad` leave the graph."""
ONE_AT_A_TIME = RLock()
"""Methods of Tensor are replaced while a function runs: for its own thread only, and never by two at once."""


class WaysOut:
    """A function, and what left the graph when it was first called: from then on that is all that leaves it."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f
        self.first: list[tuple[str, Any]] = []
        self.free = ""
        """A line at which things leave as ever."""

    def __call__(self, *values: Any, **options: Any) -> Any:
        """As f."""
        known, seen, thread = iter(self.first), list[tuple[str, Any]](), get_ident()

        def left(value: Callable[[], Any], counts: bool, how: str = "") -> Any:
            if get_ident() != thread:  # what other threads do meanwhile is none of our business
                return value()
            line, given = next(known, ("", None))
            given = value() if given is None or line == self.free else given
            seen.append((_line() + how if counts else line, given))
            return given

        def leave(way: Callable[..., Any]) -> Callable[[Any], Any]:
            return lambda tensor: left(partial(way, tensor), tensor.requires_grad)

        made, data = vars(Tensor)["__init__"], vars(Tensor)["data"]

        def make(self: Any, data: Any, *more: Any, **named: Any) -> None:
            given = left(lambda: data, data.requires_grad) if isinstance(data, Tensor) else data
            made(self, given, *more, **named)

        def unrecorded(op: Any, data: Any, operands: Any, arrays: Any, static: Any, needs: bool) -> Any:
            given = left(lambda: data, True, " (no_grad)") if needs and not current()[1] else data
            return new_node(op, given, operands, arrays, static, needs)

        # numpy() reads `data`, and the module copy asks __reduce__.
        ways: dict[str, Any] = {n: leave(vars(Tensor)[n]) for n in ("item", "tolist", "detach", "__reduce__")}
        with ONE_AT_A_TIME, ExitStack() as patched:
            for module in RECORDING:
                patched.enter_context(patch.object(module, "new_node", unrecorded))
            whole = property(leave(data.fget), data.fset)
            patched.enter_context(patch.multiple(Tensor, data=whole, __init__=make, **ways))
            result = self.f(*values, **options)
        self.first = self.first or seen
        return result

    @property
    def lines(self) -> list[str]:
        """Where something left the graph."""
        return [*dict.fromkeys(line for line, _ in self.first if line)]


def _line() -> str:
    """The innermost line that is not in Python's library, NumPy or this package."""
    frame: Any = sys._getframe(2)
    while frame and str(frame.f_globals.get("__name__")).partition(".")[0] in LIBRARIES:
        frame = frame.f_back
    if frame is None:
        return ""
    file, number = frame.f_code.co_filename, frame.f_lineno
    linecache.checkcache(file)  # the file may have been changed since it was read for another report
    return f"{Path(file).name}:{number}: {linecache.getline(file, number).strip()}".rstrip(": ")
