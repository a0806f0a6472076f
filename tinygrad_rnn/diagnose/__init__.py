"""Diagnosis: where the gradient goes, measured through time and over many configurations."""

from .compare import Comparison, compare
from .flow import gradient_flow
from .report import GradientFlow
from .store import TableError
from .sweep import Grid, grid, process_pool, read_table, rng_of, sweep
from .table import Table
from .whatif import Verdict, what_if

__all__ = [
    "Comparison",
    "GradientFlow",
    "Grid",
    "Table",
    "TableError",
    "Verdict",
    "compare",
    "gradient_flow",
    "grid",
    "process_pool",
    "read_table",
    "rng_of",
    "sweep",
    "what_if",
]
