"""A guard: a function from a file's name and bytes to complaints, with faults that it must see."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "docs" / "ext"))

Guard = Callable[[str, bytes], list[str]]
GUARDS: list[tuple[Guard, tuple[tuple[str, str | bytes], ...]]] = []


def guard(*planted: tuple[str, str | bytes]) -> Callable[[Guard], Guard]:
    """Register a guard with files (name, content) in which it must find fault."""

    def register(check: Guard) -> Guard:
        GUARDS.append((check, planted))
        return check

    return register
