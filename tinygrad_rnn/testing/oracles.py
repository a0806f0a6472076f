"""Derivatives without derivative rules: what an analytic gradient is compared with.

After this file the reader knows three ways to differentiate a program from outside: central differences made exact to
sixth order by two Richardson steps, the same along one random direction, and the complex step, which has no rounding
error at all but asks for an analytic function. Nothing here knows the engine: functions take arrays and give arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Values = Callable[[Sequence[Array]], Array]
"""From the inputs to all outputs, flattened into one vector."""
Element = tuple[int, ...]

STEPS = (1e-2, 1e-3, 1e-4, 1e-5)
COMPLEX_STEP = 1e-20


@dataclass(frozen=True, slots=True)
class Estimate:
    """A derivative found by differencing.

    Attributes
    ----------
    value : float
    error : float
        How far the last two Richardson orders differ: an upper estimate of the error.
    kink : bool
        Whether the slopes to the left and to the right differ, so that there is no derivative to compare with.
    """

    value: float
    error: float = 0.0
    kink: bool = False


def slope(
    line: Callable[[float], Array], seed: Array, step: float, floor: float = 0.0, here: Array | None = None
) -> Estimate:
    """d <seed, line(t)> / dt at t = 0 by central differences with two Richardson steps.

    Parameters
    ----------
    line : callable
        From t to a vector.
    seed : array
        Weights of the vector's elements.
    step : float
        Largest distance from 0; half and a quarter of it are used too.
    floor : float
        Differences between the one-sided slopes below this are noise, not a kink.
    here : array, optional
        The vector at t = 0, if it is known: the same for every direction.
    """
    here = line(0.0) if here is None else here
    noise = 64 * float(np.finfo(float).eps) * float(np.abs(seed) @ np.abs(here)) / step
    central, gap = [], []
    for h in (step, step / 2, step / 4):
        # Differencing before weighting: elements that do not move cancel exactly.
        right, left = line(h) - here, here - line(-h)
        central.append(float(seed @ (right + left)) / (2 * h))
        gap.append(abs(float(seed @ (right - left))) / h)
        if len(gap) == 2 and max(*gap, abs(central[1] - central[0])) <= noise:  # straight: a third step adds nothing
            return Estimate(central[1], abs(central[1] - central[0]))
    first, second = (4 * central[1] - central[0]) / 3, (4 * central[2] - central[1]) / 3
    value = (16 * second - first) / 15
    # Of a smooth function the gap falls with h; central differences alone do not see the kink of abs at exactly 0.
    kink = gap[2] > 0.5 * gap[0] and gap[2] > floor + noise
    return Estimate(value, abs(value - second), kink)


def settled_slope(
    line: Callable[[float], Array],
    seed: Array,
    steps: Sequence[float],
    rtol: float,
    atol: float,
    here: Array | None = None,
) -> Estimate:
    """The first `slope` that is precise enough and has no kink, over ever smaller steps; else the most precise one.

    Whether it settled is for the caller to see: ``estimate.kink`` or ``estimate.error > atol + rtol * abs(value)``.
    """
    best: Estimate | None = None
    with np.errstate(all="ignore"):  # a step may leave the domain; then the next one is tried
        for step in steps:
            estimate = slope(line, seed, step, atol, here)
            if settled(estimate, rtol, atol):
                return estimate
            if best is None or not np.isfinite(best.error) or estimate.error < best.error:
                best = estimate
    assert best is not None
    return best


def settled(estimate: Estimate, rtol: float, atol: float) -> bool:
    """Whether an estimate can decide anything at this tolerance. An infinite one, at the edge of a domain, cannot."""
    finite = bool(np.isfinite(estimate.value))
    return finite and not estimate.kink and estimate.error <= atol + rtol * abs(estimate.value)


def shifted(arrays: Sequence[Array], which: int, direction: Array) -> Callable[[float], list[Array]]:
    """The line through the inputs on which only one of them moves."""
    return lambda t: [array + t * direction if i == which else array for i, array in enumerate(arrays)]


def unit(array: Array, element: tuple[int, ...]) -> Array:
    """The direction in which a single element moves."""
    direction = np.zeros(array.shape)
    direction[element] = 1.0
    return direction


def numeric_derivatives(
    values: Values,
    arrays: Sequence[Array],
    seed: Array,
    which: int,
    elements: Iterable[Element],
    rtol: float,
    atol: float,
) -> list[Estimate]:
    """Partial derivatives of <seed, values> with respect to some elements of one input, one at a time."""
    estimates = []
    with np.errstate(all="ignore"):
        here = values(arrays)
    for element in elements:
        line = shifted(arrays, which, unit(arrays[which], element))
        scale = max(1.0, abs(float(arrays[which][element])))
        steps = [h * scale for h in STEPS]
        # 0.1: the estimate must be clearly more precise than the comparison it is made for.
        estimates.append(settled_slope(lambda t, at=line: values(at(t)), seed, steps, 0.1 * rtol, 0.1 * atol, here))  # type: ignore[misc]
    return estimates


def numeric_directional(
    values: Values, arrays: Sequence[Array], seed: Array, which: int, direction: Array, tolerance: float
) -> Estimate:
    """Derivative of <seed, values> when one whole input moves along a direction."""
    line = shifted(arrays, which, direction)
    # Many elements move at once, so the steps start smaller.
    return settled_slope(lambda t: values(line(t)), seed, STEPS[1:], 0.0, tolerance)


def repeated_directional(
    values: Values, arrays: Sequence[Array], seed: Array, which: int, direction: Array
) -> tuple[float, float]:
    """The same with other steps, several times: the median and the spread, which is an error nobody had to estimate."""
    line = shifted(arrays, which, direction)
    found = [slope(lambda t: values(line(t)), seed, step).value for step in (4e-3, 2.9e-3, 2.1e-3, 1.3e-3, 0.7e-3)]
    return float(np.median(found)), float(np.ptp(found))


def numeric_jacobian(values: Values, arrays: Sequence[Array], which: int, elements: Sequence[Element]) -> Array:
    """Derivatives of every output (columns) with respect to some elements of one input (rows)."""
    rows = []
    for element in elements:
        line = shifted(arrays, which, unit(arrays[which], element))
        h = 1e-3 * max(1.0, abs(float(arrays[which][element])))
        with np.errstate(all="ignore"):
            wide, narrow = (values(line(h)) - values(line(-h)), values(line(h / 2)) - values(line(-h / 2)))
        rows.append((8 * narrow - wide) / (6 * h))
    return np.array(rows)


def complex_derivative(values: Values, arrays: Sequence[Array], seed: Array, which: int, direction: Array) -> Estimate:
    """The same by the complex step, Im f(x + ih) / h, exact to rounding for analytic functions.

    Lyness and Moler, SIAM J. Numer. Anal. 4 (1967) 202. The function must compute with complex arrays all the way.
    """
    moved = [array.astype(complex) for array in arrays]
    moved[which] = arrays[which] + 1j * COMPLEX_STEP * direction
    result = values(moved)
    if result.dtype.kind != "c":
        # Not an error of its own: NaN is never settled, so this can only end as inconclusive.
        return Estimate(np.nan, np.nan)
    return Estimate(float(seed @ (result.imag / COMPLEX_STEP)))
