"""Where the values of a program stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Place:
    """Where a value stands: in a variable, or in row t of an array with one row per step, or t + 1 of a state's."""

    name: str
    step: str  # how one step writes it
    all: str  # how all steps at once are written
    cut: bool = False  # a part of an array, which need not be contiguous
