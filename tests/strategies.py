"""The public strategies of the kit, and `Case`: one call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tinygrad_rnn.testing.strategies import (
    EMPTY,
    LAYOUTS,
    SQUARES,
    away_from_zero,
    axes,
    broadcastable,
    cotangents,
    distinct,
    grid,
    indices,
    laid_out,
    leading,
    masks,
    mixed_indices,
    shapes,
)

__all__ = [
    "EMPTY",
    "LAYOUTS",
    "SQUARES",
    "Case",
    "away_from_zero",
    "axes",
    "broadcastable",
    "cotangents",
    "distinct",
    "grid",
    "indices",
    "laid_out",
    "leading",
    "masks",
    "mixed_indices",
    "shapes",
]


@dataclass(frozen=True)
class Case:
    """One call: differentiable arrays, and everything else by keyword."""

    arrays: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def cast(self, dtype: str) -> Case:
        return Case(tuple(a.astype(dtype) for a in self.arrays), self.options)
