"""exp, tanh and σ without a branch, so that a loop over many of them becomes vector instructions.

After this file the reader knows how exp is had: e^y = 2ⁿ e^r with |r| ≤ ln 2 / 2, and e^r by its series; and why tanh
comes from e^y - 1: for small numbers that keeps all digits, and for large ones 1 - 2 / (e^y + 1) rounds as it should,
to 1 where the true value does and never beyond.
"""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import njit

FLAGS: Any = {"fastmath": {"contract"}, "error_model": "numpy"}
_inlined = njit(forceinline=True, **FLAGS)


def _pieces(F: Any, N: Any, mantissa: int, bias: int) -> list[Any]:
    """2ⁿ; n, of a number with n in its low bits; and e^r - 1 for a small r, of its series."""
    least_of_n = F(_magic(mantissa))
    last, *more = [F(1 / math.factorial(k)) for k in range(7 if mantissa < 52 else 13, 1, -1)]
    coefficients = tuple(more)

    def power_of_two(n):  # type: ignore[no-untyped-def]
        return N(N(n + N(bias)) << N(mantissa)).view(F)

    def integer(t):  # type: ignore[no-untyped-def]
        return N(F(t).view(N) - F(least_of_n).view(N))

    def series(r):  # type: ignore[no-untyped-def]
        p = last
        for c in coefficients:
            p = p * r + c
        return p * (r * r) + r

    return [_inlined(function) for function in (power_of_two, integer, series)]


def _magic(mantissa: int) -> float:
    """1.5 times a power of two so large that its last bit is worth 1: what is added to it is rounded to an integer."""
    return float(1.5 * 2.0**mantissa)


@cache
def functions(dtype: Any) -> Any:
    """exp, tanh, σ and what else is no function of numba's, for one dtype."""
    double = np.dtype(dtype) == np.float64
    F: Any = np.float64 if double else np.float32
    N, mantissa, bias = (np.int64, 52, 1023) if double else (np.int32, 23, 127)
    power_of_two, integer, series = _pieces(F, N, mantissa, bias)
    magic, log2e, zero, one, two, infinite = map(F, (_magic(mantissa), 1 / math.log(2), 0, 1, 2, np.inf))
    high = F(6.93145751953125e-1 if double else 0.693359375)  # ln 2 in two parts, the first with few bits
    low = F(1.42860682030941723212e-6 if double else -2.12194440e-4)
    least, most, large = (F(-746), F(710), F(44)) if double else (F(-105), F(89), F(20))

    def exp(x):  # type: ignore[no-untyped-def]
        y = least if x < least else x
        y = most if y > most else y
        t = y * log2e + magic
        k = t - magic
        n = integer(t)
        half = N(n >> N(1))  # in two factors: n may be beyond the range of one
        return (one + series((y - k * high) - k * low)) * power_of_two(half) * power_of_two(N(n - half))

    e_to: Any = _inlined(exp)

    def sigmoid(x):  # type: ignore[no-untyped-def]
        e = e_to(large if x > large else x)
        return e / (one + e)

    def tanh(x):  # type: ignore[no-untyped-def]
        y = two * abs(x)
        y = large if y > large else y
        t = y * log2e + magic
        k = t - magic
        s = power_of_two(integer(t))
        m = series((y - k * high) - k * low) * s + (s - one)  # e^y - 1
        q = (m if y < one else -two) / (m + two)
        return math.copysign(q if y < one else one + q, x)

    def softplus(x):  # type: ignore[no-untyped-def]
        return (x if x > zero or x != x else zero) + F(math.log1p(e_to(-abs(x))))

    def clip(x, lo=-infinite, hi=infinite):  # type: ignore[no-untyped-def]
        y = x if x > lo or x != x else lo
        return y if y < hi or y != y else hi

    own: Any = {
        "maximum": lambda x, y: x if x > y or x != x else y,
        "minimum": lambda x, y: x if x < y or x != x else y,
        "where": lambda x, y, chosen: x if chosen else y,
        "relu": lambda x: x if x > zero or x != x else zero,
        "leaky_relu": lambda x, slope: x if x > zero else slope * x,
        "square": lambda x: x * x,
    }
    own |= {"sigmoid": sigmoid, "tanh": tanh, "softplus": softplus, "clip": clip}
    return SimpleNamespace(exp=e_to, **{name: _inlined(function) for name, function in own.items()})
