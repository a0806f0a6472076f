"""Matrix products in register tiles, in vectors of the machine that runs them: no BLAS, so that numba's cache works.

After this file the reader knows why a weight is packed once (a tile reads its columns one after the other), and that
the gradient of a weight is the same tile with the steps as its inner loop.
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


def lanes(n: int, dtype: Any) -> int:
    """How many numbers a vector holds where a row has n of them."""
    return int(min(_BYTES // np.dtype(dtype).itemsize, max(4, 1 << (n - 1).bit_length())))


def padded(n: int, dtype: Any) -> int:
    """The length of a row with place for whole vectors."""
    return -(-n // lanes(n, dtype)) * lanes(n, dtype)


def panels(n: int, dtype: Any) -> tuple[int, int, int]:
    """(how many panels of two vectors, how wide one is, how wide the last one is that has one vector, or 0)."""
    wide = lanes(n, dtype)
    pairs, single = divmod(padded(n, dtype) // wide, 2)
    return pairs, 2 * wide, single * wide


@cache
def _tile(rows: int, width: int, wide: int, double: bool, add: bool) -> Any:
    """One tile of c, in registers: c[r, v] (+)= the sum over t and k of a[t, k, r] b[t, k, v].

    It takes a, b and c, and then where the tile begins in each, by how much a and b move with k and with t, a with r
    and c with r, and how many k and t there are.
    """
    number, integer, count = ir.DoubleType() if double else ir.FloatType(), ir.IntType(64), width // wide
    vector, align = ir.VectorType(number, wide), 8 if double else 4
    spread = ir.Constant(ir.VectorType(ir.IntType(32), wide), [0] * wide)

    def loop(builder: Any, times: Any, given: list[Any], body: Any) -> list[Any]:
        before, inside = builder.block, builder.append_basic_block("body")
        builder.branch(inside)
        builder.position_at_end(inside)
        index, sums = builder.phi(integer), [builder.phi(vector) for _ in given]
        new: list[Any] = body(index, sums)
        following, last = builder.add(index, integer(1)), builder.block
        for phi, start, value in zip([index, *sums], [integer(0), *given], [following, *new], strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(value, last)
        after = builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", following, times), inside, after)
        builder.position_at_end(after)
        return new

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, c = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in range(3))
        at, bt, ct, ka, kb, ta, tb, row, rc, times, steps = cgutils.unpack_tuple(builder, args[3])

        def spot(base: Any, place: Any, index: Any = None, step: Any = None) -> Any:
            moved = place if index is None else builder.add(place, builder.mul(index, step))
            return moved if base is None else builder.gep(base, [moved], source_etype=number)

        def load(place: Any) -> Any:
            return builder.load(builder.bitcast(place, vector.as_pointer()), align=align, typ=vector)

        def multiply(a_at: Any, b_at: Any, sums: list[Any]) -> list[Any]:
            vectors, new = [load(spot(b, b_at, integer(v), integer(wide))) for v in range(count)], []
            for r in range(rows):
                one = builder.load(spot(a, a_at, integer(r), row), typ=number)
                first = builder.insert_element(vector(ir.Undefined), one, ir.IntType(32)(0))
                same = builder.shuffle_vector(first, vector(ir.Undefined), spread)
                new += [builder.call(fma, [same, vectors[v], sums[r * count + v]]) for v in range(count)]
            return new

        def step(t: Any, sums: list[Any]) -> list[Any]:
            i, j = spot(None, at, t, ta), spot(None, bt, t, tb)
            return loop(
                builder, times, sums, lambda k, inner: multiply(spot(None, i, k, ka), spot(None, j, k, kb), inner)
            )

        rows_of_c = [spot(None, ct, integer(r), rc) for r in range(rows)]
        cells = [spot(c, place, integer(v), integer(wide)) for place in rows_of_c for v in range(count)]
        name = f"llvm.fmuladd.v{wide}f{64 if double else 32}"
        fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        zero = ir.Constant(vector, [0.0] * wide)
        result = loop(builder, steps, [load(p) if add else zero for p in cells], step)
        for place, value in zip(cells, result, strict=True):
            builder.store(value, builder.bitcast(place, vector.as_pointer()), align=align)
        return context.get_dummy_value()

    numbers = types.UniTuple(types.int64, 11)
    return intrinsic(lambda context, a, b, c, where: (types.void(a, b, c, numbers), generate))


@cache
def _panels(rows: int, columns: int, dtype: Any, add: bool, a: tuple[int, ...], b: tuple[int, ...], ldc: int) -> Any:
    """c (+)= a b, tile by tile, for how a moves with r, k and t, and b with k, with t and from panel to panel.

    A packed b, which lies in panels, moves with k by their width: 0.
    """
    (row, ka, ta), (ldb, tb, inner) = a, b
    double, wide, high = np.dtype(dtype).itemsize == 8, lanes(columns, dtype), min(_ROWS, rows)
    pairs, width, single = panels(columns, dtype)
    rest, whole = rows % high, rows - rows % high
    main, last, main_1, last_1 = (
        _tile(r, n * wide, wide, double, add) for n in (2, 1) for r in (high, rows % high or 1)
    )
    kb, step = ldb or width, inner * width

    @njit
    def multiply(a, at, b, bt, c, ct, times, steps):  # type: ignore[no-untyped-def]
        for _ in range(pairs):
            for r in range(0, whole, high):
                main(a, b, c, (at + r * row, bt, ct + r * ldc, ka, kb, ta, tb, row, ldc, times, steps))
            if rest:
                last(a, b, c, (at + whole * row, bt, ct + whole * ldc, ka, kb, ta, tb, row, ldc, times, steps))
            bt += step
            ct += width
        if single:
            k = ldb or single
            for r in range(0, whole, high):
                main_1(a, b, c, (at + r * row, bt, ct + r * ldc, ka, k, ta, tb, row, ldc, times, steps))
            if rest:
                last_1(a, b, c, (at + whole * row, bt, ct + whole * ldc, ka, k, ta, tb, row, ldc, times, steps))

    return multiply


def pack(rows: int, columns: int, dtype: Any) -> Any:
    """Write a weight, in which an element is so far from that below and beside it, panel by panel to w.

    A panel is all rows of two vectors, the last one of what is left.
    """
    pairs, width, single = panels(columns, dtype)

    begun = columns // width * width  # in whole panels: loops of a length that is known become vectors
    wide = width if columns // width < pairs else single

    @njit(forceinline=True)
    def write(weight, begin, down, right, w, at):  # type: ignore[no-untyped-def]
        for k in range(rows):
            for p in range(0, begun, width):
                for j in range(width):
                    w[p * rows + k * width + j + at] = weight[begin + k * down + (p + j) * right]
            for j in range(columns - begun):
                w[begun * rows + k * wide + j + at] = weight[begin + k * down + (begun + j) * right]

    return write


def product(rows: int, inner: int, columns: int, lda: int, ldc: int, dtype: Any, add: bool) -> Any:
    """c (+)= a w for a weight that is packed: panel by panel, each ``inner`` rows of one or two vectors."""
    return _panels(rows, columns, dtype, add, (lda, 1, 0), (0, 0, inner), ldc)


def outer(rows: int, columns: int, lda: int, ldb: int, record: int, dtype: Any) -> Any:
    """c += the sum over some steps of aᵀ b, for a and b in the records of the steps."""
    return _panels(rows, columns, dtype, True, (1, lda, record), (ldb, record, 1), padded(columns, dtype))
