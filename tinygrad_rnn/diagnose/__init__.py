"""Diagnosis: where the gradient goes on its way back through time, in numbers and in words; one network, or many."""

from .atlas import Boundary, boundaries, draw_atlas
from .claims import Finding, check_claims
from .compare import Comparison, compare
from .flow import gradient_flow
from .probe import FlowProbe, probe_chart
from .report import GradientFlow
from .spectrum import Spectrum, jacobian_spectrum, lyapunov
from .store import TableError
from .sweep import Grid, grid, process_pool, read_table, rng_of, sweep
from .table import Table
from .whatif import Verdict, what_if

__all__ = [
    "Boundary",
    "Comparison",
    "Finding",
    "FlowProbe",
    "GradientFlow",
    "Grid",
    "Spectrum",
    "Table",
    "TableError",
    "Verdict",
    "boundaries",
    "check_claims",
    "compare",
    "draw_atlas",
    "gradient_flow",
    "grid",
    "jacobian_spectrum",
    "lyapunov",
    "probe_chart",
    "process_pool",
    "read_table",
    "rng_of",
    "sweep",
    "what_if",
]
