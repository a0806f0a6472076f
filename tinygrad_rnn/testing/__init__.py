"""Checks for gradients, the ones this package is tested with and for your own functions and primitives.

`gradcheck` compares the gradient of any function of Tensors with differences and names the likely cause of a failure;
`check_primitive` and `check_cell` run a whole battery on an operation or a cell of your own; `operands` constructs what
cannot be drawn between two bounds; `strategies`, which needs Hypothesis, draws arrays, shapes, indices and whole
programs; `oracles` has the differences themselves.
"""

from .battery import CheckError, Report
from .cells import check_cell
from .checker import gradcheck
from .outcome import GradcheckError, GradcheckResult, InconclusiveError
from .primitives import check_primitive

__all__ = [
    "CheckError",
    "GradcheckError",
    "GradcheckResult",
    "InconclusiveError",
    "Report",
    "check_cell",
    "check_primitive",
    "gradcheck",
]
