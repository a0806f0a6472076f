"""Functions are called with traced names, and what they did is written as mathematics or as NumPy."""

from ..primitive import EXPLAINED_BY
from ..tensor import OPS
from .explain import explain_primitive, formula, mathematics, placeholders

__all__ = ["explain_primitive", "formula", "mathematics", "placeholders"]

EXPLAINED_BY.append(explain_primitive)  # what is declared from now on; what was declared before, here
for _op in OPS.values():
    _op.__doc__ = explain_primitive(_op)
