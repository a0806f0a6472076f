"""The public strategies of the kit, batch axes, and `Case`: one call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_rnn.testing import strategies as public
from tinygrad_rnn.testing.strategies import axes, broadcastable, cotangents, distinct, grid, shapes

__all__ = ["Case", "axes", "broadcastable", "cotangents", "distinct", "grid", "indices", "leading", "shapes"]


def leading():
    """Batch axes."""
    return st.sampled_from([(), (1,), (2,), (3,), (2, 3), (0,)])


@st.composite
def mixed_indices(draw, shape):
    """Per axis a slice, an integer, an array with repeats or a mask, with Ellipsis and newaxis thrown in."""
    common = draw(st.sampled_from([(2,), (3,), (1,), (2, 2)]))
    index = []
    front = draw(st.integers(0, len(shape)))
    back = draw(st.integers(front, len(shape)))  # behind the Ellipsis, if there are any axes left
    for n in shape[:front] + shape[back:]:
        kind = draw(st.sampled_from(["slice", "array", "array", "integer", "list"]))
        if kind == "slice" or n == 0:
            index.append(draw(st.slices(n)))
        elif kind == "integer":
            index.append(draw(st.integers(-n, n - 1)))
        else:
            positions = draw(hnp.arrays(np.intp, common, elements=st.integers(-n, n - 1)))
            index.append(positions.tolist() if kind == "list" else positions)
    if back < len(shape) or draw(st.booleans()):
        index.insert(front, Ellipsis)
    if draw(st.booleans()):
        index.insert(draw(st.integers(0, len(index))), None)
    return tuple(index)


def indices(shape):
    """All of NumPy's indexing."""
    if not shape or 0 in shape:
        return public.indices(shape)
    return st.one_of(public.indices(shape), public.indices(shape), mixed_indices(shape))


@dataclass(frozen=True)
class Case:
    """One call: differentiable arrays, and everything else by keyword."""

    arrays: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def cast(self, dtype: str) -> Case:
        return Case(tuple(a.astype(dtype) for a in self.arrays), self.options)
