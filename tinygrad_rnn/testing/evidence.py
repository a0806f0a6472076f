"""What a failed check knows about one input: gradients, cotangent, and differences in every direction.

After this file the reader knows on what every cause that a report may name is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..tensor import Tensor
from .oracles import TINY, Array, Element, numeric_jacobian
from .subject import Subject

SAME = 1e-7
"""Gradients that differ by less, relative to the largest element, are the same here; the Jacobian is good to 1e-10."""


@dataclass(frozen=True)
class Evidence:
    """What a failed check knows about one input.

    Attributes
    ----------
    subject : Subject
        The function, at the inputs at which it is looked at.
    which : int
        The input, among those that are differentiated.
    elements : list
        Which of its elements are looked at.
    cotangent : array
        For all outputs, as one vector.
    worst : tuple of int or None
    ratio : float
        Analytic over numeric, where they were compared.
    share : float
        By how much gradients that are the same may differ, where the values of f are rounded to few digits.
    fresh : bool
        Whether the inputs are random ones, drawn to confirm a cause.
    """

    subject: Subject
    which: int
    elements: list[Element]
    cotangent: Array
    worst: Element | None
    ratio: float = 1.0
    share: float = SAME
    fresh: bool = False

    @cached_property
    def inputs(self) -> list[Array]:
        """All inputs."""
        return [a.astype(float) for a in self.subject.arrays]

    @cached_property
    def outputs(self) -> list[Array]:
        """All outputs."""
        return [y.numpy() for y in self.subject.call([Tensor(a) for a in self.subject.arrays])]

    def jacobian(self, which: int, inputs: Sequence[Array] | None = None) -> Array:
        """Derivatives of all outputs (columns) with respect to these elements (rows) of an input."""
        return numeric_jacobian(self.subject.values, inputs or self.inputs, which, self.elements)

    def rule(self, cotangent: Array) -> Array:
        """The analytic gradient for a cotangent."""
        parts = np.split(cotangent, np.cumsum([y.size for y in self.outputs])[:-1])
        seeds = [np.asarray(s.reshape(y.shape), y.dtype) for s, y in zip(parts, self.outputs, strict=True)]
        return self.at(self.subject.analytic(seeds)[self.which])

    def at(self, array: Array) -> Array:
        """An array of the input's shape at the elements looked at, as a vector."""
        return np.array([array[e] for e in self.elements], float)

    def full(self, vector: Array) -> Array:
        """Numbers at the elements looked at, which are all, in the shape of the input."""
        full = np.zeros(self.inputs[self.which].shape)
        for element, value in zip(self.elements, vector, strict=True):
            full[element] = value
        return full

    @property
    def complete(self) -> bool:
        """Whether every element of the input was looked at."""
        return len(self.elements) == self.inputs[self.which].size

    @cached_property
    def slopes(self) -> Array:
        """The Jacobian at these elements."""
        return self.jacobian(self.which)

    @cached_property
    def numeric(self) -> Array:
        """The gradient that follows from it."""
        return self.slopes @ self.cotangent

    @cached_property
    def analytic(self) -> Array:
        """What the rules say."""
        return self.rule(self.cotangent)

    @property
    def largest(self) -> float:
        """The largest derivative, or the smallest number."""
        return float(np.abs(self.numeric).max(initial=TINY))

    @property
    def mixed(self) -> bool:
        """Whether some elements are right, and not because they are zero."""
        right = np.abs(self.analytic - self.numeric) <= SAME * np.abs(self.numeric)
        return bool((right & (self.numeric != 0)).any())

    @property
    def together(self) -> bool:
        """Whether every element is right alone, and the sum of all is wrong."""
        return self.complete and abs(self.ratio - 1) > 1e-3 and same(self.analytic, self.numeric)

    @property
    def single(self) -> Array:
        """The cotangent of a single output, in its shape; of several, nothing."""
        return self.cotangent.reshape(self.outputs[0].shape) if len(self.outputs) == 1 else np.zeros(0)

    @property
    def seed(self) -> Array | None:
        """The cotangent that belongs to each element, if one does."""
        if self.single.shape == self.inputs[self.which].shape:
            return self.at(self.single)
        one = self.slopes.size and (np.count_nonzero(self.slopes, axis=1) == 1).all()
        return self.cotangent[np.abs(self.slopes).argmax(1)] if one else None

    def axes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Along what one may have summed: each axis, and all of them."""
        count = self.inputs[self.which].ndim
        if count > 1:  # first: of what is the same along all, that along one is true as well
            yield "over all axes", tuple(range(count))
        yield from ((f"over axis {k}", (k,)) for k in range(count))


def same(a: Array, b: Array, share: float = SAME) -> bool:
    """Equal up to the precision of the numeric Jacobian; nothing is equal to infinity."""
    largest = float(np.abs(b).max(initial=0.0))
    return bool(np.isfinite(largest) and np.abs(a - b).max(initial=0.0) <= share * largest)
