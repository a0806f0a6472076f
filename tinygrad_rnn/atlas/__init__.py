"""Many networks: a measurement for every combination of settings, in a table that survives a kill, and as a map."""

from .map import Boundary, boundaries, draw_atlas
from .networks import network, slope_of
from .store import TableError
from .sweep import Grid, grid, process_pool, read_table, rng_of, sweep
from .table import Table

__all__ = [
    "Boundary",
    "Grid",
    "Table",
    "TableError",
    "boundaries",
    "draw_atlas",
    "grid",
    "network",
    "process_pool",
    "read_table",
    "rng_of",
    "slope_of",
    "sweep",
]
