"""How large an array is, and what that number means.

After this file the reader knows when a zero is exact and when it is a gradient that float32 or float64 could not hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Norm = Literal["l2", "rms", "max"]
State = Literal["finite", "zero", "underflow", "nan", "inf", "none"]


def norm_of(array: NDArray[Any], norm: Norm = "l2") -> float:
    """Size of an array of numbers: ``l2`` (default), ``rms`` or ``max``.

    Computed in float64 and scaled before squaring, so that neither ``1e-200`` reads as zero nor ``1e200`` as infinite.

    Parameters
    ----------
    array : array_like
    norm : {"l2", "rms", "max"}

    Returns
    -------
    float
    """
    values = np.abs(np.asarray(array, dtype=np.float64))
    largest = float(values.max(initial=0.0)) if values.size else 0.0
    if norm == "max" or largest == 0.0 or not math.isfinite(largest):
        return largest
    # A subnormal `largest` has an infinite reciprocal, but dividing by it is exact enough.
    total = math.sqrt(((values / largest) ** 2).sum())
    return largest * (total / math.sqrt(values.size) if norm == "rms" else total)


def statistics(array: NDArray[Any]) -> dict[str, Any]:
    """Norm, smallest, largest and mean of an array, JSON-ready."""
    if not array.size:
        return {"norm": 0.0, "min": None, "max": None, "mean": None}
    least, most, mean = map(json_ready, range_of(array))
    return {"norm": json_ready(norm_of(array)), "min": least, "max": most, "mean": mean}


def range_of(array: NDArray[Any]) -> tuple[float, float, float]:
    """The smallest, the largest and the mean of an array with elements, in float64."""
    wide = np.asarray(array, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return float(wide.min()), float(wide.max()), float(wide.mean())


def json_ready(value: Any) -> Any:
    """Numbers, arrays and data classes as JSON has them; it has no NaN and no infinity, so these become strings.

    A key that is a tuple, (layer, name), becomes one name.
    """
    if is_dataclass(value):
        return {f.name: json_ready(getattr(value, f.name)) for f in fields(value) if not f.name.startswith("_")}
    if isinstance(value, Mapping):
        names = {key: " ".join(key[::-1]).strip() if isinstance(key, tuple) else str(key) for key in value}
        return {names[key]: json_ready(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def state_of(array: NDArray[Any], lost: bool) -> State:
    """What the norm of an array means; `lost` says that something in it had underflowed."""
    smallest = smallest_normal(array.dtype)
    if smallest * array.size < np.vdot(array, array) < math.inf:  # told at a third of the cost: the mean of squares is
        return "finite"  # above `smallest`, so the largest square is, and the largest number all the more
    largest = largest_of(array)
    if not largest < math.inf:
        return "nan" if math.isnan(largest) else "inf"
    return "zero" if largest == 0.0 and not lost else "underflow" if largest < smallest else "finite"


def largest_of(array: NDArray[Any]) -> float:
    """The largest element, in size; 0 of an array without any."""
    return float(np.abs(array).max(initial=0.0))


@lru_cache
def smallest_normal(dtype: np.dtype[Any]) -> float:
    """Below it, a number of this dtype loses digits."""
    return float(np.finfo(dtype).tiny)
