"""Matrix products in register tiles, in vectors of the machine that runs them: no BLAS, so that numba's cache works.

After this file the reader knows that a tile reads its columns of a weight from top to bottom, and that the gradient of
a weight is the same product with the steps as its inner loop.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_FEATURES = binding.get_host_cpu_features()
_WIDE = bool(_FEATURES.get("avx512f"))
_BYTES = 64 if _WIDE else 32 if _FEATURES.get("avx") else 16
_ROWS = 8 if _WIDE else 6  # as many as registers hold, with two vectors in each row
BLOCK = 128  # rows of a gradient's product between two visits of its result


def lanes(dtype: Any) -> int:
    """How many numbers a vector holds."""
    return int(_BYTES // np.dtype(dtype).itemsize)


def padded(n: int, dtype: Any) -> int:
    """The length of a row with place for whole vectors."""
    return -(-n // lanes(dtype)) * lanes(dtype)


def panel(n: int, dtype: Any) -> int:
    """How wide a panel of such rows is, which a tile reads at once: two vectors, or one if their number is odd."""
    return lanes(dtype) * (2 - padded(n, dtype) // lanes(dtype) % 2)


@cache
def _tile(rows: int, vectors: int, wide: int, dtype: Any, add: bool) -> Any:
    """One tile of c, in registers: c[r, v] (+)= the sum over t and k of a[t, k, r] b[t, k, v].

    It takes a, b and c, and then where the tile begins in each, by how much a and b move with k and with t, a with r
    and c with r, and how many k and t there are.
    """
    double, integer = np.dtype(dtype) == np.float64, ir.IntType(64)
    number = ir.DoubleType() if double else ir.FloatType()
    vector, align = ir.VectorType(number, wide), np.dtype(dtype).itemsize
    spread = ir.Constant(ir.VectorType(ir.IntType(32), wide), [0] * wide)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, c = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in range(3))
        at, bt, ct, ka, kb, ta, tb, row, ldc, times, steps = cgutils.unpack_tuple(builder, args[3])

        def spot(base: Any, place: Any, *moves: tuple[Any, Any], kind: Any = vector) -> Any:
            for index, step in moves:
                place = builder.add(place, builder.mul(index, step))
            return builder.bitcast(builder.gep(base, [place], source_etype=number), kind.as_pointer())

        name = f"llvm.fmuladd.v{wide}f{64 if double else 32}"
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        across = [(integer(v), integer(wide)) for v in range(vectors)]
        cells = [spot(c, ct, (integer(r), ldc), v) for r in range(rows) for v in across]
        start = [builder.load(p, align=align, typ=vector) if add else vector([0.0] * wide) for p in cells]
        sums = [cgutils.alloca_once_value(builder, value) for value in start]  # which LLVM keeps in registers
        with cgutils.for_range(builder, steps) as outer, cgutils.for_range(builder, times) as inner:
            t, k = outer.index, inner.index
            read = [builder.load(spot(b, bt, (t, tb), (k, kb), v), align=align, typ=vector) for v in across]
            for r in range(rows):
                place = spot(a, at, (t, ta), (k, ka), (integer(r), row), kind=number)
                first = builder.insert_element(vector(ir.Undefined), builder.load(place, typ=number), ir.IntType(32)(0))
                same = builder.shuffle_vector(first, vector(ir.Undefined), spread)
                for part, total in zip(read, sums[r * vectors : (r + 1) * vectors], strict=True):
                    builder.store(builder.call(fma, [same, part, builder.load(total, typ=vector)]), total)
        for place, total in zip(cells, sums, strict=True):
            builder.store(builder.load(total, typ=vector), place, align=align)
        return context.get_dummy_value()

    numbers = types.UniTuple(types.int64, 11)
    return intrinsic(lambda context, a, b, c, where: (types.void(a, b, c, numbers), generate))


def product(rows: int, columns: int, dtype: Any, add: bool, a: tuple[int, ...], b: tuple[int, ...], c: int) -> Any:
    """c (+)= the sum over t and k of a[t, k, r] b[t, k, j], for so many rows r and columns j, tile by tile.

    It is how far in `a` the next r, k and t are, in `b` the next k, t and panel of columns, and in `c` the next r.
    """
    (row, ka, ta), (kb, tb, beside), ldc = a, b, c
    high, width, wide = min(_ROWS, rows), panel(columns, dtype), lanes(dtype)
    panels, rest = padded(columns, dtype) // width, rows % high
    main, last = (_tile(r, width // wide, wide, dtype, add) for r in (high, rest or 1))

    @njit
    def multiply(a, at, b, bt, c, ct, times, steps):  # type: ignore[no-untyped-def]
        for p in range(panels):
            bp, cp = bt + p * beside, ct + p * width
            for r in range(0, rows - rest, high):
                main(a, b, c, (at + r * row, bp, cp + r * ldc, ka, kb, ta, tb, row, ldc, times, steps))
            if rest:
                r = rows - rest
                last(a, b, c, (at + r * row, bp, cp + r * ldc, ka, kb, ta, tb, row, ldc, times, steps))

    return multiply
