"""What leaves the graph while a function runs, and at which line.

After this file the reader knows how a lost gradient is proved: let whatever left the graph leave as it did the first
time, and differences find just what the rules find, because for both it is a constant.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ..tensor import LIBRARIES, Tensor


class WaysOut:
    """A function, and what left the graph when it was first called: from then on that is all that leaves it."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f
        self.first: list[tuple[str, Any]] = []
        self.free = ""
        """A line at which things leave as ever."""

    def __call__(self, *values: Any, **options: Any) -> Any:
        """As f."""
        known, seen = iter(self.first), list[tuple[str, Any]]()

        def leave(way: Callable[..., Any]) -> Callable[[Any], Any]:
            def method(tensor: Any) -> Any:
                line, given = next(known, ("", None))
                given = way(tensor) if given is None or (line and line == self.free) else given
                seen.append((_line() if tensor.requires_grad and not self.first else line, given))
                return given

            return method

        copied, made, data = leave(lambda tensor: tensor), vars(Tensor)["__init__"], vars(Tensor)["data"]

        def make(self: Any, data: Any, *more: Any, **named: Any) -> None:
            made(self, copied(data) if isinstance(data, Tensor) else data, *more, **named)

        # numpy() reads `data`, and the module copy asks __reduce__.
        ways: dict[str, Any] = {n: leave(vars(Tensor)[n]) for n in ("item", "tolist", "detach", "__reduce__")}
        with patch.multiple(Tensor, data=property(leave(data.fget), data.fset), __init__=make, **ways):
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
    return f"{Path(file).name}:{number}: {linecache.getline(file, number).strip()}".rstrip(": ")
