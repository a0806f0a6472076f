"""Derived BPTT: the program that an expert would write by hand, derived from a cell and shown as source."""

from ..symbolic.trace import TraceError
from .passes import REWRITES
from .program import Program, derive_bptt

__all__ = ["REWRITES", "Program", "TraceError", "derive_bptt"]
