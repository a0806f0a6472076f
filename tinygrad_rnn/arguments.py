"""What a caller may give: each kind of option is checked by one function, where it is given, and not at its first use.

After this file the reader knows what every refusal says: the option, the value, and what to give instead. What NumPy's
scalars and arrays without axes hold counts as Python's numbers do; a truth value is never taken for a number, nor a
text or a number for a truth value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

Range = tuple[str, Callable[[float], bool]]

FINITE: Range = "a finite number", math.isfinite
NOT_NEGATIVE: Range = "a finite number, zero or more", lambda v: 0 <= v < math.inf
POSITIVE: Range = "a positive number", lambda v: v > 0
FROM_0_TO_1: Range = "a number from 0 to 1", lambda v: 0 <= v <= 1
BELOW_1: Range = "a number from 0 to below 1", lambda v: 0 <= v < 1


class ArgumentError(TypeError, ValueError):
    """An option was given a wrong value: of another type, or outside of its range."""


def refusal(name: str, value: Any, wanted: str) -> ArgumentError:
    """The error for an option that was given a wrong value, in one line."""
    text = " ".join(repr(value).split())
    return ArgumentError(f"{name}={text if len(text) <= 60 else text[:57] + '...'}: give {wanted}")


def _plain(value: Any) -> Any:
    """Python's own number or truth value in place of NumPy's."""
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 else value


NEUTRAL = {"order": "C", "where": True, "casting": "same_kind", "subok": False}
"""What changes nothing in a call of NumPy's, so that it may be given where we take no such argument; as may None."""


def meaningful(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call of NumPy's that change something."""
    return {name: v for name, v in options.items() if v is not None and v is not NEUTRAL.get(name)}


def flag(name: str, value: Any) -> bool:
    """True or False; no number, text or None is taken for one of them."""
    found = _plain(value)
    if not isinstance(found, bool):
        raise refusal(name, value, "True or False")
    return found


def whole(name: str, value: Any, least: int = 0, *, or_else: str = "") -> int:
    """A whole number, at least `least`; `or_else` is what the caller takes beside."""
    try:
        index = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        index = None
    if index is None or index < least:
        raise refusal(name, value, f"a whole number, at least {least}{or_else}")
    return index


def wholes(name: str, values: Any, least: int = 0) -> tuple[int, ...]:
    """Several whole numbers, each at least `least`."""
    if isinstance(values, str) or not np.iterable(values):
        raise refusal(name, values, f"whole numbers, each at least {least}")
    return tuple(whole(name, value, least) for value in values)


def number(name: str, value: Any, within: Range = FINITE) -> float:
    """A real number within a range; NaN is in none."""
    (wanted, test), found = within, _plain(value)
    try:
        real = float(found) if not isinstance(found, bool) and isinstance(found, Real) else math.nan
    except OverflowError:  # an integer beyond the largest float
        real = math.nan
    if not test(real):
        raise refusal(name, value, wanted)
    return real


def numbers(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """A finite number for all elements, or an array of them."""
    wanted = f"a finite number, or an array of them of shape {shape}"
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise refusal(name, value, wanted) from error
    if array.dtype.kind not in "iuf" or array.shape not in ((), shape) or not np.isfinite(array).all():
        raise refusal(name, value, wanted)
    return array


def lengths_of(value: Any, count: int, steps: int) -> NDArray[Any]:
    """How long each of `count` sequences is that are padded to so many steps."""
    wanted = f"{count} whole numbers from 1 to {steps}, one for each sequence"
    try:
        found = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise refusal("lengths", value, wanted) from error
    if found.shape != (count,) or found.dtype.kind not in "iu" or not ((found >= 1) & (found <= steps)).all():
        raise refusal("lengths", value, wanted)
    return found


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of some words."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise refusal(name, value, f"one of {', '.join(map(repr, choices))}")
    return value


def mapping(
    name: str, value: Any, wanted: str = "a mapping of names to arrays, such as state_dict() gives"
) -> Mapping[Any, Any]:
    """Things by name."""
    if not isinstance(value, Mapping):
        raise refusal(name, value, wanted)
    return value


def float_type(name: str, value: Any) -> np.dtype[Any]:
    """float32 or float64, by whatever NumPy calls them, in this machine's byte order."""
    try:
        found: np.dtype[Any] | None = np.dtype(value).newbyteorder("=")
    except (TypeError, ValueError):
        found = None
    if found is None or found not in (np.float32, np.float64):
        raise refusal(name, value, "float32 or float64")
    return found


def generator(name: str, value: Any) -> np.random.Generator:
    """A random generator: the very one that is given, or one from a seed; without, unpredictable."""
    seed = _plain(value)
    try:
        return np.random.default_rng("no seed" if isinstance(seed, bool) else seed)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise refusal(name, value, "a whole number, at least 0, or a numpy.random.Generator") from None
