"""Checks for gradients, the ones this package is tested with and for your own functions and primitives.

`gradcheck` compares the gradient of any function of Tensors with differences; `oracles` has the differences themselves.
"""

from .checker import GradcheckError, GradcheckResult, InconclusiveError, gradcheck

__all__ = ["GradcheckError", "GradcheckResult", "InconclusiveError", "gradcheck"]
