"""What flows back along an edge, kept as what it is made of where it would be large.

After this file the reader knows why a graph of a thousand steps does not hold a thousand arrays as large as the weight:
one use of a weight sends back δᵀ x, whose norm two short rows tell, and one step of a sequence sends back zeros around
what it used. The array is computed when somebody asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import Brief
from ..gathering import contribute
from ..norms import Norm, State, largest_of, norm_of, state_of
from ..ops import is_basic
from ..primitive import as_rows
from ..tensor import Tensor
from .remembered import remembered

Array = NDArray[Any]

KEPT_SMALL = {"linear", "affine", "matmul", "getitem"}
"""The primitives that may have an `Outer` or a `Slice`."""
FACTORS = {("linear", 1): 0, ("affine", 1): 0, ("affine", 4): 3}
"""(primitive, operand): the operand x for which that operand is a weight W, which the primitive uses as x Wᵀ."""


@dataclass(frozen=True, slots=True, eq=False, repr=False, weakref_slot=True)
class Outer(Brief):
    """The matrix δᵀ x, a sum over the rows of both, as those rows."""

    delta: Array
    x: Array
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix."""
        return self.delta.shape[1], self.x.shape[1]

    def array(self) -> Array:
        """The matrix, computed anew."""
        product: Array = self.delta.T @ self.x
        return product.astype(self.dtype, copy=False)

    def norm(self, norm: Norm) -> float:
        """Its size; of the matrix itself where the rows cannot tell it to rounding."""
        length = self._length() if norm != "max" else None
        if length is None:
            return norm_of(self.array(), norm)
        return length / math.sqrt(math.prod(self.shape)) if norm == "rms" else length

    def state(self, lost: bool) -> State:
        """As `state_of` the matrix."""
        length = self._length()
        return (
            "finite" if length else state_of(self.array(), lost) if length is None else "underflow" if lost else "zero"
        )

    def _length(self) -> float | None:
        """‖δᵀ x‖ by ‖δᵀ x‖² = Σ (δ δᵀ) ∘ (x xᵀ), in float64.

        None where the matrix must be looked at: if the rows cancel, if there are so many that it is cheaper, or if a
        number of its dtype might not hold an element.
        """
        if len(self.delta) * sum(self.shape) > math.prod(self.shape):
            return None
        largest = largest_of(self.delta), largest_of(self.x)
        if not all(map(math.isfinite, largest)):
            return None
        if 0.0 in largest:
            return 0.0
        delta, x = self.delta / np.float64(largest[0]), self.x / np.float64(largest[1])
        products = (delta @ delta.T) * (x @ x.T)
        total = float(products.sum())
        if total < 1e-3 * float(np.abs(products).sum()):
            return None
        length = math.sqrt(total) * largest[0] * largest[1]
        limits, spread = np.finfo(self.dtype), 4.0 * math.sqrt(math.prod(self.shape))
        return length if float(limits.tiny) * spread < length < float(limits.max) / 4.0 else None


@dataclass(frozen=True, slots=True, eq=False, repr=False, weakref_slot=True)
class Slice(Brief):
    """Zeros but for one place, where each element lies once."""

    part: Array
    index: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def array(self) -> Array:
        """The whole array, made anew."""
        whole = np.zeros(self.shape, self.dtype)
        whole[self.index] = self.part
        return whole

    def norm(self, norm: Norm) -> float:
        """Its size."""
        size = norm_of(self.part, norm)
        return size * math.sqrt(self.part.size / math.prod(self.shape)) if norm == "rms" and size else size

    def state(self, lost: bool) -> State:
        """As `state_of` the array."""
        return state_of(self.part, lost)


@dataclass(frozen=True, slots=True, eq=False, repr=False, weakref_slot=True)
class Whole(Brief):
    """An array as it is."""

    kept: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.kept.shape

    def array(self) -> Array:
        """The array itself."""
        return self.kept

    def norm(self, norm: Norm) -> float:
        """Its size."""
        return norm_of(self.kept, norm)

    def state(self, lost: bool) -> State:
        """As `state_of` it."""
        return state_of(self.kept, lost)


Contribution = Outer | Slice | Whole


@remembered
def size_of(part: Contribution, norm: Norm) -> float:
    """Its size. From then on nobody can write to what it is made of."""
    for name in part.__dataclass_fields__:
        if isinstance(array := getattr(part, name), np.ndarray):
            array.setflags(write=False)
    return part.norm(norm)


def contributions_of(node: Tensor, gradients: Any) -> dict[int, Contribution]:
    """What a node sends back to each operand that has a gradient, by the rules that the sweep used."""
    op, found = node.op, dict[int, Contribution]()
    if op is None:
        return found
    inputs: Any = (gradients[node], node._value, *node._arrays)
    rules = op.rules
    if op.nary:
        rules, inputs = op.rules.of(inputs, node.static), ()
    for i, operand in enumerate(node.operands):
        if operand in gradients:
            small = _small(op.name, i, inputs, node.static) if op.name in KEPT_SMALL else None
            found[i] = small or Whole(np.array(contribute(rules[i], inputs, node, i, None)))
    return found


def _small(name: str, i: int, inputs: Sequence[Any], static: Any) -> Contribution | None:
    """A contribution as its factors or its slice, if it is one: views, since these arrays are others' too."""
    g, array = inputs[0], inputs[2 + i]
    if (name, i) in FACTORS:
        return Outer(as_rows(g)[...], as_rows(inputs[2 + FACTORS[name, i]])[...], array.dtype)
    if name == "matmul" and i == 1 and inputs[2].ndim == array.ndim == 2:
        return Outer(inputs[2][...], g[...], array.dtype)
    if name == "getitem":
        return Slice(g[...], static["index"], array.shape, array.dtype) if is_basic(static["index"]) else None
    return None


def summed(parts: Sequence[Contribution]) -> Contribution:
    """The contribution of several uses of one tensor together."""
    if len(parts) == 1:
        return parts[0]
    outers = [part for part in parts if isinstance(part, Outer)]
    if len(outers) == len(parts):
        rows = (np.concatenate([part.delta for part in outers]), np.concatenate([part.x for part in outers]))
        return Outer(*rows, outers[0].dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.array(parts[0].array())
        for part in parts[1:]:
            if isinstance(part, Slice):
                total[part.index] += part.part
            else:
                total += part.array()
    return Whole(total)
