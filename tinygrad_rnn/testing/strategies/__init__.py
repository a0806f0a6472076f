"""Hypothesis strategies for tests of derivative rules and cells of your own.

Arrays (`grid`, `distinct`, `matrices`), `shapes` and mutually `broadcastable` ones, `axes`,
`indices`, `cotangents`, and `programs`: random graphs of every registered primitive, with sharing. Hypothesis is
imported here, and for `operands=` of `check_primitive`.
"""

from ...extras import how_to_install

try:
    import hypothesis as _hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError(f"strategies need Hypothesis: {how_to_install('test')}") from error

from .arrays import axes, broadcastable, cotangents, distinct, grid, indices, matrices, shapes
from .programs import Program, Step, programs

__all__ = [
    "Program", "Step", "axes", "broadcastable", "cotangents", "distinct", "grid", "indices", "matrices", "programs",
    "shapes",
]  # fmt: skip
