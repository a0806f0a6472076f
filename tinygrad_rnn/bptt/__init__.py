"""Derived BPTT: the program that an expert would write by hand, derived from a cell and shown as source."""

from .passes import REWRITES
from .program import Program, derive_bptt
from .trace import TraceError

__all__ = ["REWRITES", "Program", "TraceError", "derive_bptt"]
