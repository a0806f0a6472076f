"""Arrays, shapes, axes and indices that nobody picked by hand.

Values lie on the grid k/64, which shrinks to 0 and has no denormals. Where a derivative jumps, `distinct` values keep
away from the jump, so that differences can be trusted. Square shapes get a share of their own: only on them does a
transposed gradient have the right shape.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ..oracles import Array

Shape = tuple[int, ...]

SQUARES: list[Shape] = [(2, 2), (3, 3), (2, 3, 3), (2, 2, 2)]
EMPTY: list[Shape] = [(0,), (2, 0), (0, 3), (1, 0, 2)]


# Values


@cache  # validating new ones is a third of what drawing from them takes
def grid(shape: Shape, low: float = -2.0, high: float = 2.0) -> st.SearchStrategy[Array]:
    """Multiples of 1/64 between two bounds.

    Parameters
    ----------
    shape : tuple of int
    low, high : float
    """
    elements = st.integers(int(low * 64), int(high * 64)).map(lambda k: k / 64)
    return hnp.arrays(np.float64, shape, elements=elements, fill=st.nothing())


@cache
def cotangents(shape: Shape) -> st.SearchStrategy[Array]:
    """Weights of a result, or divisors: of both signs, from 1/2 to 3/2 in size.

    Parameters
    ----------
    shape : tuple of int
        Of the result.
    """
    elements = st.integers(-64, 63).map(lambda k: (k + 32 if k >= 0 else k - 31) / 64)
    return hnp.arrays(np.float64, shape, elements=elements, fill=st.nothing())


@st.composite
def distinct(draw: Any, *shapes: Shape) -> tuple[Array, ...]:
    """Arrays whose elements, all together, are pairwise at least 1/4 apart and at least 1/8 away from 0.

    Parameters
    ----------
    *shapes : tuple of int
        One array for each.
    """
    sizes = [prod(shape) for shape in shapes]
    order = np.array(draw(st.permutations(range(sum(sizes)))), dtype=float)
    values = (order - sum(sizes) // 2) / 4 + 1 / 8
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))


@st.composite
def matrices(draw: Any, n: int, condition: float = 10.0) -> Array:
    """Square matrices with singular values between 1 and 1 / condition, the simplest of which is that of ones.

    Parameters
    ----------
    n : int
        Rows and columns.
    condition : float
        Largest singular value over the smallest, at most.
    """
    left, right = (np.linalg.qr(np.eye(n) + draw(grid((n, n))))[0] for _ in range(2))
    return np.asarray(left * condition ** -draw(grid((n,), 0.0, 1.0)) @ right)


# Shapes


@cache
def shapes(min_dims: int = 0, max_dims: int = 3, empty: bool = True) -> st.SearchStrategy[Shape]:
    """Of any rank, with explicit shares of square and, if wanted, of empty ones.

    Parameters
    ----------
    min_dims, max_dims : int
        Bounds of the rank.
    empty : bool
        Whether an axis may have the size 0.
    """
    squares = [s for s in SQUARES if min_dims <= len(s) <= max_dims] or [(3,) * min_dims]
    general = hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=1, max_side=3)
    rare = st.sampled_from([s for s in EMPTY if min_dims <= len(s) <= max_dims] if empty else squares)
    return st.one_of(general, general, st.sampled_from(squares), rare)


@st.composite
def broadcastable(draw: Any, count: int = 2) -> tuple[Shape, ...]:
    """Shapes that fit each other: equal and square, or stretched in either direction, sometimes empty.

    Parameters
    ----------
    count : int
        How many shapes.
    """
    kind = draw(st.sampled_from(["any", "any", "any", "square", "empty"]))
    if kind == "square":
        square = draw(st.sampled_from(SQUARES))
        return tuple(square[draw(st.sampled_from([0, 0, 1])) :] for _ in range(count))
    smallest = 0 if kind == "empty" else 1
    drawn = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=count, min_dims=0, max_dims=3, min_side=smallest, max_side=3)
    )
    return tuple(drawn.input_shapes)


# Axes and indices


@cache
def axes(ndim: int, one: bool = False) -> st.SearchStrategy[Any]:
    """What a reduction takes: None, an integer of either sign, or a tuple.

    Parameters
    ----------
    ndim : int
        Axes of the array.
    one : bool
        Without tuples, for functions that take a single axis.
    """
    if ndim == 0:
        return st.sampled_from([None]) if one else st.sampled_from([None, ()])
    single = st.integers(-ndim, ndim - 1)
    return st.one_of(st.none(), single) if one else st.one_of(st.none(), single, hnp.valid_tuple_axes(ndim))


@st.composite
def _masks(draw: Any, shape: Shape) -> Any:
    """A boolean mask over the first axes, alone or followed by something else."""
    rank = draw(st.integers(1, len(shape)))
    mask = draw(hnp.arrays(bool, shape[:rank], elements=st.booleans(), fill=st.nothing()))
    return mask if rank == len(shape) or draw(st.booleans()) else (mask, draw(st.slices(shape[rank])))


@cache
def indices(shape: Shape) -> st.SearchStrategy[Any]:
    """Basic indices, arrays of integers, lists with repeats, and masks.

    Parameters
    ----------
    shape : tuple of int
    """
    basic = hnp.basic_indices(shape, allow_newaxis=True, max_dims=5)
    if not shape or 0 in shape:
        return basic
    arrays = hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3))
    repeated = st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=4)
    return st.one_of(basic, arrays, _masks(shape), repeated)
