"""Derived BPTT: the program that an expert would write by hand, derived from a cell and shown as source."""

from .program import REWRITES, Program, derive_bptt
from .trace import TraceError

__all__ = ["REWRITES", "Program", "TraceError", "derive_bptt"]
