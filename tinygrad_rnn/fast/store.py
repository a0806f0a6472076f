"""Where compiled programs are kept, so that the next process need not compile; and the memory they work in.

After this file the reader knows that a program is a file in the user's cache, named after what is in it: numba keeps
its machine code beside it. A folder that cannot be written only means that every process compiles anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import njit, types

from ..bptt.program import Unsupported
from ..files import write_whole
from .functions import FLAGS

MOST_KEPT = 1 << 26  # bytes of memory that a program keeps from call to call


def folder() -> Path:
    """Where compiled programs are kept: numba's cache if it is set, or else the user's."""
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR) / "tinygrad-rnn"
    home = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "tinygrad-rnn"


def keep(source: str) -> str:
    """The file of a program, written if it is not there; "" if it cannot be."""
    if numba.config.DISABLE_JIT:  # said before anything is made that stays what it is
        raise Unsupported("NUMBA_DISABLE_JIT is set")
    ours = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]  # what is compiled into it
    key = hashlib.sha256(b"\0".join([source.encode(), numba.__version__.encode(), *ours])).hexdigest()[:20]
    try:
        path = folder() / f"bptt_{key}.py"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, source)
        if path.read_text(encoding="utf-8") != source:
            return ""
    except (OSError, RuntimeError):  # no such folder may be made, or there is no home
        return ""
    return str(path)


def compiled(dtype: Any, *ranks: int) -> Callable[[Any], Any]:
    """Compile a function of the number of steps and of arrays with so many axes, or take what was kept of it.

    Whatever array is passed is in C order; it need not be writable. Ranks below zero are of arrays that are written to.
    """
    kind = numba.from_dtype(np.dtype(dtype))
    arrays = [types.Array(kind, abs(n), "C", readonly=n > 0) for n in ranks]
    signature = types.void(types.int64, *arrays)

    def decorate(function: Any) -> Any:
        try:
            if os.path.exists(function.__code__.co_filename):
                with suppress(OSError, RuntimeError):  # where no machine code can be written
                    return njit(signature, cache=True, **FLAGS)(function)
            return njit(signature, **FLAGS)(function)
        except (numba.NumbaError, RuntimeError) as error:
            raise Unsupported(f"numba says {str(error).strip().splitlines()[-1]}") from error

    return decorate


class Space:
    """Memory for one run: numbers that all steps share, and a record for each step and the one before the first."""

    def __init__(self, shared: int, record: int, dtype: Any) -> None:
        self.shared, self.record, self.dtype = shared, record, dtype
        self.free: list[tuple[Any, Any]] = []

    def take(self, steps: int) -> tuple[Any, Any]:
        """Arrays that nobody else uses; those of the last run, if it was as long."""
        try:
            w, r = self.free.pop()
        except IndexError:
            w, r = np.zeros(self.shared, self.dtype), np.zeros(0, self.dtype)
        size = (steps + 1) * self.record
        return w, r if len(r) == size else np.zeros(size, self.dtype)

    def give(self, w: Any, r: Any) -> None:
        """Leave them to the next run."""
        if not self.free and w.nbytes + r.nbytes <= MOST_KEPT:
            self.free.append((w, r))
