"""Diagnosis: where the gradient goes, measured through time and over many configurations."""

from .store import TableError
from .sweep import Grid, grid, process_pool, read_table, rng_of, sweep
from .table import Table

__all__ = ["Grid", "Table", "TableError", "grid", "process_pool", "read_table", "rng_of", "sweep"]
