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
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

FLAGS: Any = {"fastmath": {"contract"}, "error_model": "numpy"}
_inlined = njit(forceinline=True, **FLAGS)


def _times_power(double: bool, limit: int) -> Any:
    """An intrinsic: x 2ⁿ for the n in the low bits of t; in two factors, if n may be beyond the range of one."""
    number, integer = (ir.DoubleType(), ir.IntType(64)) if double else (ir.FloatType(), ir.IntType(32))
    mantissa, bias, kind = (52, 1023, types.float64) if double else (23, 127, types.float32)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def factor(n: Any) -> Any:
            return builder.bitcast(builder.shl(builder.add(n, integer(bias)), integer(mantissa)), number)

        n = builder.sub(builder.bitcast(args[1], integer), builder.bitcast(number(_magic(double)), integer))
        if not limit:
            return builder.fmul(args[0], factor(n))
        one = builder.select(builder.icmp_signed("<", n, integer(-limit)), integer(-limit), n)
        one = builder.select(builder.icmp_signed(">", one, integer(limit)), integer(limit), one)
        return builder.fmul(builder.fmul(args[0], factor(one)), factor(builder.sub(n, one)))

    return intrinsic(lambda context, x, t: (kind(kind, kind), generate))


def _magic(double: bool) -> float:
    """1.5 times a power of two so large that its last bit is worth 1: what is added to it is rounded to an integer."""
    return 1.5 * 2.0 ** (52 if double else 23)


def _series(c: tuple[Any, ...], double: bool) -> Any:
    """e^r - 1 for a small r."""

    def short(r):  # type: ignore[no-untyped-def]
        p = (((c[7] * r + c[6]) * r + c[5]) * r + c[4]) * r + c[3]
        return (p * r + c[2]) * (r * r) + r

    def long(r):  # type: ignore[no-untyped-def]
        p = (((c[13] * r + c[12]) * r + c[11]) * r + c[10]) * r + c[9]
        p = ((((p * r + c[8]) * r + c[7]) * r + c[6]) * r + c[5]) * r + c[4]
        return ((p * r + c[3]) * r + c[2]) * (r * r) + r

    return _inlined(long if double else short)


@cache
def functions(dtype: Any) -> Any:
    """exp, tanh, σ and what else is no function of numba's, for one dtype."""
    double = np.dtype(dtype) == np.float64
    F: Any = np.float64 if double else np.float32
    magic, log2e, zero, one, two = F(_magic(double)), F(1 / math.log(2)), F(0), F(1), F(2)
    high = F(6.93145751953125e-1 if double else 0.693359375)  # ln 2 in two parts, the first with few bits
    low = F(1.42860682030941723212e-6 if double else -2.12194440e-4)
    least, most, large = (F(-746), F(710), F(44)) if double else (F(-105), F(89), F(20))
    series = _series(tuple([F(1 / math.factorial(k)) for k in range(14)]), double)
    once, twice = _times_power(double, 0), _times_power(double, 1000 if double else 120)

    def exp(x):  # type: ignore[no-untyped-def]
        y = least if x < least else x
        y = most if y > most else y
        t = y * log2e + magic
        k = t - magic
        return twice(one + series((y - k * high) - k * low), t)

    e_to: Any = _inlined(exp)

    def sigmoid(x):  # type: ignore[no-untyped-def]
        e = e_to(large if x > large else x)
        return e / (one + e)

    def tanh(x):  # type: ignore[no-untyped-def]
        y = two * abs(x)
        y = large if y > large else y
        t = y * log2e + magic
        k = t - magic
        s = once(one, t)
        m = series((y - k * high) - k * low) * s + (s - one)  # e^y - 1
        q = (m if y < one else -two) / (m + two)
        return math.copysign(q if y < one else one + q, x)

    def softplus(x):  # type: ignore[no-untyped-def]
        return (x if x > zero or x != x else zero) + F(math.log1p(e_to(-abs(x))))

    rest: Any = {
        "larger": lambda x, y: x if x > y or x != x else y,
        "smaller": lambda x, y: x if x < y or x != x else y,
        "leaky": lambda x, slope: x if x > zero else slope * x,
        "squared": lambda x: x * x,
    }
    rest |= {"sigmoid": sigmoid, "tanh": tanh, "softplus": softplus}
    return SimpleNamespace(exp=e_to, **{name: _inlined(function) for name, function in rest.items()})
