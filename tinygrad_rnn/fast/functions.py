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
HIGH, LOW = 355 / 512, -2.1219444005469058277e-4  # ln 2 in two parts, the first with few bits


@cache
def functions(dtype: Any) -> Any:
    """exp, tanh, σ and what else is no function of numba's, for one dtype."""
    limits = np.finfo(dtype)
    F, N, mantissa, bias = limits.dtype.type, np.dtype(f"i{limits.bits // 8}").type, limits.nmant, limits.maxexp - 1
    magic = F(1.5 * 2.0**mantissa)  # whose last bit is worth 1: what is added to it is rounded to an integer
    log2e, high, low, zero, one, two, infinite = map(F, (1 / math.log(2), HIGH, LOW, 0, 1, 2, np.inf))
    large = F(mantissa)  # beyond it tanh and σ are 1
    least, most = F(math.log(limits.smallest_subnormal) - 2), F(math.log(limits.max) + 1)
    last, *more = [F(1 / math.factorial(k)) for k in range(7 if mantissa < 52 else 13, 1, -1)]
    coefficients = tuple(more)

    @_inlined
    def power_of_two(n):  # type: ignore[no-untyped-def]
        return N(N(n + N(bias)) << N(mantissa)).view(F)

    @_inlined
    def parts(y):  # type: ignore[no-untyped-def]
        """n and e^r - 1, where y is n ln 2 + r."""
        t = y * log2e + magic
        k = t - magic
        r = (y - k * high) - k * low
        p = last
        for c in coefficients:
            p = p * r + c
        return N(F(t).view(N) - F(magic).view(N)), p * (r * r) + r

    @_inlined
    def exp(x):  # type: ignore[no-untyped-def]
        y = least if x < least else x
        n, m = parts(most if y > most else y)
        half = N(n >> N(1))  # in two factors: n may be beyond the range of one
        return (one + m) * power_of_two(half) * power_of_two(N(n - half))

    def sigmoid(x):  # type: ignore[no-untyped-def]
        e = exp(large if x > large else x)
        return e / (one + e)

    def tanh(x):  # type: ignore[no-untyped-def]
        y = two * abs(x)
        y = large if y > large else y
        n, m = parts(y)
        s = power_of_two(n)
        m = m * s + (s - one)  # e^y - 1
        q = (m if y < one else -two) / (m + two)
        return math.copysign(q if y < one else one + q, x)

    def softplus(x):  # type: ignore[no-untyped-def]
        return (x if x > zero or x != x else zero) + F(math.log1p(exp(-abs(x))))

    def clip(x, lo=-infinite, hi=infinite):  # type: ignore[no-untyped-def]
        y = x if x > lo or x != x else lo
        return y if y < hi or y != y else hi

    own: Any = {
        "maximum": lambda x, y: x if x > y or x != x else y,
        "minimum": lambda x, y: x if x < y or x != x else y,
        "where": lambda x, y, chosen: x if chosen else y,
        "relu": lambda x: x if x > zero or x != x else zero,
        "leaky_relu": lambda x, slope: x if x > zero else slope * x,
    }
    own |= {"sigmoid": sigmoid, "tanh": tanh, "softplus": softplus, "clip": clip}
    return SimpleNamespace(exp=exp, **{name: _inlined(function) for name, function in own.items()})
