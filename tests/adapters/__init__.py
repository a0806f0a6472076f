"""Other libraries, behind the one face that our checks need: a value, and the gradients for a cotangent.

``python -m tests.adapters`` points the same cases and the same checker at each library that is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Library:
    """A library of derivatives.

    ``functions`` maps our names to its functions, on its own arrays, with our keywords. ``vjp(f, arrays, u)`` is the
    value of f there and the gradients for the cotangent u, all as NumPy arrays.
    """

    name: str
    version: str
    functions: dict[str, Callable[..., Any]]
    vjp: Callable[..., tuple[np.ndarray, list[np.ndarray]]]

    def value(self, f: Callable[..., Any], *arrays: Any) -> np.ndarray:
        """The value alone."""
        return self.vjp(f, arrays, None)[0]


MODULES = {"autograd": "hips", "mygrad": "mygrad_", "torch": "torch_"}


def installed(package: str) -> str | None:
    """The version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def library(package: str) -> Library:
    """The adapter of an installed package; ours too, so that the way through an adapter is itself checked."""
    if package == "tinygrad_rnn":
        return ours()
    return import_module(f"{__name__}.{MODULES[package]}").LIBRARY


def ours() -> Library:
    """This package, as if it were another."""
    from cases import CASES

    import tinygrad_rnn as tg

    def vjp(f: Any, arrays: Any, u: Any) -> Any:
        y, pull = tg.vjp(f, *arrays)
        return y.numpy(), [] if u is None else [g.numpy() for g in pull(u)]

    return Library("tinygrad_rnn", tg.__version__, {name: spec.call for name, spec in CASES.items()}, vjp)
