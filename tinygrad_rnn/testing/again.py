"""A failure once more: on operands as small and as round as they may be, in a line that can be pasted.

After this file the reader knows that the line is tried before it is printed: it fails, in the same input and for the
same cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..tensor import Tensor
from .outcome import GradcheckError, InconclusiveError

LONGEST = 600
"""Characters of a line."""


def again(run: Callable[..., Any], f: Any, inputs: Sequence[Any], options: Mapping[str, Any], error: Any) -> str:
    """The line, or "" if there is none that is short.

    Parameters
    ----------
    run : callable
        What raises the error: ``run(f, *inputs, **options)``.
    f, inputs, options
        How it was called.
    error : GradcheckError
    """

    def fails(candidate: Sequence[Any]) -> bool:
        try:
            run(f, *candidate, **options)
        except GradcheckError as found:
            same = (found.order, found.input, found.cause) == (error.order, error.input, error.cause)
            return same and not isinstance(found, InconclusiveError)
        except Exception:  # a shape that f does not take, say
            return False
        return False

    found = [x.numpy() if isinstance(x, Tensor) else np.array(x) if isinstance(x, (list, float)) else x for x in inputs]
    line = name_of(f)
    if not line or not fails(found):
        return ""
    for size in sorted({n for x in found for n in np.shape(x) if n > 1}, reverse=True):
        # Axes of the same length are cut together, so that operands still fit each other.
        cuts = ([cut(x, size, kept) for x in found] for kept in (slice(1), slice(-1, None), slice(2), slice(-2, None)))
        found = next(filter(fails, cuts), found)
    found = next(filter(fails, ([rounded(x, digits) for x in found] for digits in range(4))), found)
    given = [f"{key}={value!r}" for key, value in options.items()]
    line = f"gradcheck({', '.join([line, *map(written, found), *given])})"
    return line if len(line) <= LONGEST else ""


def cut(x: Any, size: int, kept: slice) -> Any:
    """Part of an array, along its axes of that length."""
    return np.array(x[tuple(kept if n == size else slice(None) for n in x.shape)]) if isinstance(x, np.ndarray) else x


def rounded(x: Any, digits: int) -> Any:
    """An array with few digits, and without -0."""
    return np.asarray(np.round(x, digits) + 0) if isinstance(x, np.ndarray) else x


def name_of(f: Any, static: Mapping[str, Any] = {}) -> str:
    """How a function is called in the line."""
    if hasattr(f, "rules"):
        given = "".join(f", {key}={written(value)}" for key, value in static.items())
        name = getattr(f, "line", f"tg.OPS[{f.name!r}]")
        return f"partial({name}{given})" if given else name
    name = getattr(f, "__name__", "f")
    return str(f.line) if hasattr(f, "line") else name if name.isidentifier() else "f"


def written(x: Any) -> str:
    """A value as an expression."""
    if isinstance(x, tuple):
        return f"({''.join(written(one) + ', ' for one in x)})"
    if not isinstance(x, np.ndarray):
        return repr(x)
    kind = "" if x.dtype in (np.float64, np.int64, bool) else f", np.{x.dtype}"
    numbers = re.sub("(nan|inf)", r"np.\1", repr(x.tolist()))
    return f"np.array({numbers}{kind})"
