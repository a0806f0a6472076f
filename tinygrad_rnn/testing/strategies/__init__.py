"""Hypothesis strategies for tests of derivative rules and cells of your own.

Arrays (`grid`, `away_from_zero`, `distinct`, `matrices`), `shapes` and mutually `broadcastable` ones, `axes`,
`indices`, `cotangents`, and `programs`: random graphs of every registered primitive, with sharing. Hypothesis is
imported here and nowhere else in the package.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError('strategies need Hypothesis: pip install "tinygrad-rnn[test]"') from error

from ..battery import LAYOUTS, laid_out
from .arrays import (
    EMPTY,
    SQUARES,
    away_from_zero,
    axes,
    broadcastable,
    cotangents,
    distinct,
    grid,
    indices,
    leading,
    masks,
    matrices,
    mixed_indices,
    shapes,
)
from .programs import Program, Step, programs

__all__ = [
    "EMPTY",
    "LAYOUTS",
    "SQUARES",
    "Program",
    "Step",
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
    "matrices",
    "mixed_indices",
    "programs",
    "shapes",
]
