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
from numba.core.caching import FunctionCache

from ..bptt.program import Unsupported
from ..files import write_whole
from .functions import FLAGS

MOST_KEPT = 1 << 26  # bytes of memory that a program keeps from call to call


def keep(source: str) -> str:
    """The file of a program in numba's cache, if it is set, or else in the user's; "" if it cannot be written."""
    if numba.config.DISABLE_JIT:  # said before anything is made that stays what it is
        raise Unsupported("NUMBA_DISABLE_JIT is set")
    ours = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]  # what is compiled into it
    key = hashlib.sha256(b"\0".join([source.encode(), numba.__version__.encode(), *ours])).hexdigest()[:20]
    users = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        path = Path(numba.config.CACHE_DIR or users).expanduser() / "tinygrad-rnn" / f"bptt_{key}.py"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, source)
    except (OSError, RuntimeError):  # no such folder may be made, or there is no home
        return ""
    return str(path)


def compiled(dtype: Any, given: int, written: int) -> Callable[[Any], Any]:
    """Compile a function of the number of steps, of two arrays to work in, and of so many more, of one axis each.

    What is given need not be writable. What was compiled before is taken, if it was kept.
    """
    read, write = (types.Array(numba.from_dtype(np.dtype(dtype)), 1, "C", readonly=only) for only in (True, False))
    signature = types.void(types.int64, write, write, *[read] * given, *[write] * written)

    def decorate(function: Any) -> Any:
        try:
            with suppress(Exception):  # of a program without a file, or where no machine code can be kept
                return njit(signature, cache=True, **FLAGS)(function)
            with suppress(Exception):  # what was kept may be damaged: it is compiled anew, and replaced
                FunctionCache(function).flush()
                return njit(signature, cache=True, **FLAGS)(function)
            return njit(signature, **FLAGS)(function)
        except Exception as error:  # whatever it is: the NumPy program is there, and right
            said = f"{type(error).__name__}: {str(error).strip()}"
            raise Unsupported(f"numba says {said.splitlines()[-1]}") from error

    return decorate


class Space:
    """Memory for one run: numbers that all steps share, and a record for each step and the one before the first."""

    def __init__(self, shared: int, record: int, dtype: Any) -> None:
        self.shared, self.record, self.dtype = shared, record, dtype
        self.free: dict[int, tuple[Any, Any]] = {}  # that of the last run, by its steps

    def take(self, steps: int) -> tuple[Any, Any]:
        """Arrays that nobody else uses; those of the last run, if it was as long."""
        kept = self.free.pop(steps, None)
        return kept or (np.zeros(self.shared, self.dtype), np.zeros((steps + 1) * self.record, self.dtype))

    def give(self, w: Any, r: Any) -> None:
        """Leave them to the next run."""
        if w.nbytes + r.nbytes <= MOST_KEPT:
            self.free = {len(r) // self.record - 1: (w, r)}
