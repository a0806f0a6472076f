"""What to write where a function of NumPy has no derivative here: the text of an error message.

After this file the reader knows that the message sends nobody out of the graph: it names what is the same, or the
function whose name comes closest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# fmt: off
INSTEAD = {
    "average": "np.sum(w * x) / np.sum(w)",        "cbrt": "np.sign(x) * np.abs(x) ** (1 / 3)",
    "floor_divide": "np.floor(x / y)",             "fmod": "x - y * np.trunc(x / y)",
    "gradient": "(x[2:] - x[:-2]) / 2",            "hypot": "np.sqrt(x * x + y * y)",
    "kron": "np.ravel(np.outer(x, y))",            "logaddexp2": "np.log2(2**x + 2**y)",
    "nan_to_num": "np.where(x == x, x, 0.0)",      "nansum": "np.sum(np.where(x == x, x, 0.0))",
    "ptp": "np.max(x) - np.min(x)",                "select": "np.where(x > y, x, y)",
    "sinc": "np.sin(np.pi * x) / (np.pi * x)",     "trapezoid": "np.sum(x[1:] + x[:-1]) / 2",
    "resize": "np.take(x, np.arange(6), mode='wrap')",
    "median": "np.mean(np.sort(x)[(len(x) - 1) // 2 : len(x) // 2 + 1])",
}
# fmt: on
"""The same, or the usual case of it, for vectors x, y and w."""


def no_rule(function: Any, known: Iterable[Any]) -> str:
    """Why a function of NumPy is refused, and what comes closest."""
    where, name = getattr(function, "__module__", "numpy").replace("numpy", "np", 1), function.__name__  # np.linalg
    if where == "np.fft":
        return f"{where}.{name} has no derivative: there are no complex numbers here"
    # Its name without nan, v or un is likely meant; what is only spelt alike, as cos and cross are, is not.
    close = sorted({g.__name__ for g in known if g.__name__ in name and len(name) < 2 * len(g.__name__)}, key=len)
    remedy = INSTEAD.get(name) or (f"np.{close[-1]} if that is meant" if close else "what it is made of")
    return f"{where}.{name} has no derivative rule: use {remedy}, or add a primitive of your own"
