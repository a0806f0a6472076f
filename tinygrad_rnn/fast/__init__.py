"""Derived BPTT compiled to machine code, by numba: the extra ``fast``."""

from ..extras import how_to_install

try:
    import numba  # noqa: F401
except ImportError as error:
    raise ImportError(f"compiled=True needs numba: {how_to_install('fast')}") from error

from ..bptt.program import COMPILED
from .emit import USED, FastSource
from .functions import functions
from .products import product
from .store import Space, compiled

COMPILED.uses, COMPILED.source = USED, FastSource

__all__ = ["FastSource", "Space", "compiled", "functions", "product"]
