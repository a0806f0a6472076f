"""The operators and methods of Tensor, put there once all that they call is defined.

After this file the reader knows what ``a + b`` calls: a primitive itself, with no function of Python's in between. The
class stands below the page of derivatives, so it cannot name them.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from . import autodiff, functions, numpy_names, ops
from .tensor import FLOATS, NUMPY, Tensor, numpy_itself


def reshape(x: Tensor, *shape: Any) -> Any:
    """As `tinygrad_rnn.reshape`; the sizes may be separate arguments."""
    return functions.reshape(x, shape[0] if len(shape) == 1 else shape)


def transpose(x: Tensor, *axes: Any) -> Any:
    """As `tinygrad_rnn.transpose`; the axes may be separate arguments."""
    return functions.transpose(x, axes[0] if len(axes) == 1 else axes or None)


def astype(x: Tensor, dtype: Any) -> Any:
    """In another dtype. The gradient comes back in this one; through integers and booleans there is none.

    Raises
    ------
    TypeError
        If a gradient would be lost.
    """
    kind = np.dtype(dtype)
    if kind in FLOATS:
        return ops.cast(x, dtype=kind)
    why = f"no gradient flows through {kind}: stay with floats, which np.floor, np.rint and comparisons take too"
    return Tensor(numpy_itself(np.ndarray.astype, (x, kind), {}, why))


def _refuse_floor(*operands: Any) -> NoReturn:
    raise TypeError("a // b has the gradient 0 wherever it has one: write np.floor(a / b) if that is meant")


tensor: Any = Tensor  # to a type checker the operators are methods, of NumPy's mixin, which are not assigned to

tensor.__add__ = ops.add
tensor.__sub__ = ops.subtract
tensor.__mul__ = ops.multiply
tensor.__truediv__ = ops.divide
tensor.__pow__ = ops.power
tensor.__matmul__ = ops.matmul
tensor.__mod__ = numpy_names.remainder
tensor.__floordiv__ = tensor.__rfloordiv__ = _refuse_floor
tensor.__neg__ = ops.negative
tensor.__abs__ = ops.abs
# With a Tensor on the right only.
tensor.__radd__ = lambda x, other: ops.add(other, x)
tensor.__rsub__ = lambda x, other: ops.subtract(other, x)
tensor.__rmul__ = lambda x, other: ops.multiply(other, x)
tensor.__rtruediv__ = lambda x, other: ops.divide(other, x)
tensor.__rpow__ = lambda x, other: ops.power(other, x)
tensor.__rmatmul__ = lambda x, other: ops.matmul(other, x)
tensor.__rmod__ = lambda x, other: numpy_names.remainder(other, x)

tensor.__getitem__ = functions.getitem
tensor.T = property(functions.transpose, doc="All axes reversed, as in NumPy.")
for _name in "sum mean max min std squeeze dot".split():
    setattr(Tensor, _name, getattr(functions, _name))
for _name, _function in {"ravel": np.ravel, "flatten": np.ravel, "swapaxes": np.swapaxes, "copy": np.copy}.items():
    setattr(Tensor, _name, NUMPY[_function])
tensor.reshape = reshape
tensor.transpose = transpose
tensor.astype = astype
tensor.backward = autodiff.backward
