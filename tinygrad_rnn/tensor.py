"""Tensor: an array and how it was computed.

After this file the reader knows what a computation graph is made of: tensors that remember the primitive that made them
and their operands, and nothing else. No tensor refers to its consumers, so there are no reference cycles: whoever drops
the loss drops the graph. A tensor is younger than its operands, so the serial number is already the topological order
that the backward sweep needs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NoReturn, Protocol, cast, final
from warnings import warn

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike, NDArray

from .scope import CONTEXT, current

Array = NDArray[Any]

OPS: dict[str, Primitive] = {}
"""Every primitive by name. `ops.py`, the page of derivatives, fills it; users may add their own with `primitive`."""

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""What the methods of Tensor call: public functions by name, registered by the floors above."""

NUMPY: dict[Any, Callable[..., Any]] = {}
"""What a NumPy function or ufunc does when it meets a Tensor, registered by the floors above."""

next_serial = count().__next__
new_tensor = object.__new__
NO_STATIC: dict[str, Any] = {}  # shared, so that the many nodes without static parameters keep no dict each
SCALARS = frozenset({float, int, bool})


class GradientError(RuntimeError, ValueError):
    """A gradient was asked for that does not exist or would be wrong; the message names the remedy."""


def as_array(data: object) -> Array:
    """Check that numbers are ones the engine computes with, and copy them, so that nobody can change them later."""
    if isinstance(data, np.ma.MaskedArray):
        raise TypeError("a masked array would lose its mask: call .filled(value) first")
    if isinstance(data, (list, tuple)) and any(isinstance(item, Tensor) for item in data):
        raise TypeError("a list of tensors would lose their gradients: use stack(...) or concatenate(...)")
    try:
        array = np.array(data._data if isinstance(data, Tensor) else data)
    except ValueError as error:
        raise TypeError(f"cannot make a Tensor of {type(data).__name__}: {error}") from error
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "biuf" or (kind == "f" and size not in (4, 8)):
        remedy = "convert it with .astype(np.float64)" if kind == "f" else "give real numbers"
        raise TypeError(f"a Tensor holds float32, float64, integers or booleans, not {array.dtype}: {remedy}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _turned(name: str) -> Callable[[Any, Any], Any]:
    """The method of a binary operator for a Tensor on the right."""
    return lambda self, other: OPS[name](other, self)


def _comparison(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: compare(self._data, raw(other))


@final
class Tensor:
    """An array, and how it was computed.

    Parameters
    ----------
    data : array_like
        Numbers; copied. Python floats become float64, float32 stays float32; integers and booleans may be constants.
    requires_grad : bool, default False
        Whether `backward` accumulates a gradient for it in ``.grad``.
    name : str, optional
        What pictures and messages call it.

    Raises
    ------
    TypeError
        For integers or booleans that require a gradient, and for float16, longdouble, complex, strings, objects, ragged
        lists.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).backward(gradient=[1.0, 1.0])
    >>> x.grad
    Tensor([2., 4.])
    """

    _data: Array
    _grad: Tensor | None
    _op: Primitive | None  # what computed it; None for a leaf
    _operands: tuple[Tensor | None, ...]  # None where a bare array or a number was given
    _arrays: tuple[Any, ...]  # the operands' arrays as they were in the forward pass
    _static: dict[str, Any]
    _requires_grad: bool
    _serial: int
    name: str | None
    scope: str
    __slots__ = (*__annotations__, "__weakref__")

    def __init__(self, data: ArrayLike | Tensor, requires_grad: bool = False, name: str | None = None) -> None:
        array = as_array(data)
        if requires_grad and array.dtype.kind != "f":
            raise TypeError(f"only floats can require a gradient, not {array.dtype}: convert with .astype(np.float64)")
        self._data, self._serial, self._grad = array, next_serial(), None
        self.name, self.scope = name, CONTEXT.get()[0]
        self._op, self._operands, self._arrays, self._static = None, (), (), {}
        self._requires_grad = bool(requires_grad)

    # What goes out is read-only, so that no graph changes behind its own back.

    @property
    def data(self) -> Array:
        """The array, read-only. Assigning to it rebinds a leaf; graphs built before keep the old values."""
        view = self._data.view()
        view.flags.writeable = False
        return view

    @data.setter
    def data(self, value: ArrayLike) -> None:
        if self._op is not None:
            raise GradientError(f"only a leaf can be rebound: this tensor is the result of {self._op.name}")
        array = as_array(value)
        if array.shape != self._data.shape:
            raise ValueError(f"new data of shape {array.shape} for shape {self._data.shape}: make a new Tensor")
        self._data = array.astype(self._data.dtype, copy=False)

    @property
    def grad(self) -> Tensor | None:
        """Accumulated gradient of a leaf, a Tensor of its shape and dtype; None before any `backward`."""
        if self._op is not None and self._requires_grad:
            warn("only leaves keep a .grad: for the gradient at this tensor call grad(loss, h)", stacklevel=2)
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None and np.shape(raw(value)) != self.shape:
            raise ValueError(f".grad is None or of shape {self.shape}")
        self._grad = value if value is None or isinstance(value, Tensor) else Tensor(value)

    def numpy(self) -> Array:
        """The array, read-only, without history. Use it where you mean to leave the graph."""
        return self.data

    def item(self) -> float:
        """The one number inside, as a Python number. Raises ValueError for any other size."""
        return cast(float, self._data.item())

    def detach(self) -> Tensor:
        """A constant with the same values and no history."""
        return constant(self._data, self.name)

    requires_grad = property(operator.attrgetter("_requires_grad"), doc="Whether a gradient flows to it; fixed.")
    is_leaf = property(lambda self: self._op is None, doc="Whether it was made by hand, not computed.")
    shape = property(operator.attrgetter("_data.shape"), doc="As in NumPy.")
    ndim = property(operator.attrgetter("_data.ndim"), doc="As in NumPy.")
    size = property(operator.attrgetter("_data.size"), doc="As in NumPy.")
    dtype = property(operator.attrgetter("_data.dtype"), doc="As in NumPy.")
    T = property(lambda self: FUNCTIONS["transpose"](self), doc="All axes reversed, as in NumPy.")

    def backward(
        self, gradient: ArrayLike | Tensor | None = None, *, retain_graph: bool = True, create_graph: bool = False
    ) -> None:
        """Accumulate d self / d leaf into ``.grad`` of every leaf that requires it: see `autodiff.backward`."""
        FUNCTIONS["backward"](self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    # Python's operators. Those for a Tensor on the left *are* primitives: the page of derivatives puts them here, and
    # no function of Python's stands in between. Those for one on the right turn the operands round.

    __add__ = __sub__ = __mul__ = __truediv__ = __pow__ = __matmul__ = __neg__ = __abs__ = cast(Any, None)
    __getitem__: Any

    __radd__, __rsub__, __rmul__ = map(_turned, ("add", "subtract", "multiply"))
    __rtruediv__, __rpow__, __rmatmul__ = map(_turned, ("divide", "power", "matmul"))

    def __pos__(self) -> Tensor:
        return self

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError("tensors are values and are never changed in place: build a new one with where or concatenate")

    # NumPy's most used methods.

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        """As `tinygrad_rnn.sum`."""
        return FUNCTIONS["sum"](self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        """As `tinygrad_rnn.mean`."""
        return FUNCTIONS["mean"](self, axis, keepdims)

    def reshape(self, *shape: Any) -> Any:
        """As `tinygrad_rnn.reshape`; the sizes may be separate arguments."""
        return FUNCTIONS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """As `tinygrad_rnn.transpose`; the axes may be separate arguments."""
        return FUNCTIONS["transpose"](self, axes[0] if len(axes) == 1 else axes or None)

    # Comparisons are answers about values, not part of a graph: boolean arrays. Identity is what `is` and hashing see.

    __eq__, __ne__, __lt__ = map(_comparison, (operator.eq, operator.ne, operator.lt))
    __le__, __gt__, __ge__ = map(_comparison, (operator.le, operator.gt, operator.ge))

    __hash__ = object.__hash__

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self._data.__index__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self._requires_grad and CONTEXT.get()[1]:
            raise GradientError("a plain array would lose the gradient: call .numpy() or .detach() if that is meant")
        return np.array(self.data, dtype, copy=copy is not False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method} has no derivative here: use sum, prod, max or cumsum")
        return _numpy_call(ufunc, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return _numpy_call(function, args, options)

    def __repr__(self) -> str:
        body = np.array2string(self._data, precision=6, separator=", ", prefix="Tensor(", threshold=60)
        if self._op is not None:
            tail = f", op={self._op.name}"
        else:
            tail = ", requires_grad=True" if self._requires_grad else ""
        name = f", name={self.name!r}" if self.name else ""
        kind = "" if self._data.dtype == np.float64 else f", dtype={self._data.dtype}"
        return f"Tensor({body}{kind}{tail}{name})"

    def __reduce__(self) -> Any:
        if self._op is not None:
            raise TypeError("a Tensor is not copied or pickled with its graph: take .detach() first")
        return Tensor, (self._data, self._requires_grad, self.name)


def new_node(op: Any, data: Any, operands: Any, arrays: Any, static: dict[str, Any], needs: bool) -> Tensor:
    """The result of a primitive: it remembers the call if an operand `needs` a gradient and recording is on."""
    tensor = new_tensor(Tensor)
    tensor.scope, recording, _ = current()
    if not (needs and recording):
        op, operands, arrays, static, needs = None, (), (), NO_STATIC, False
    tensor._data = data if type(data) is ndarray else np.asarray(data)
    tensor._serial = next_serial()
    tensor._grad = tensor.name = None
    tensor._op = op
    tensor._operands = operands
    tensor._arrays = arrays
    tensor._static = static
    tensor._requires_grad = needs
    return tensor


def constant(data: Array, name: str | None = None) -> Tensor:
    """Wrap an array that the engine owns, without copying it."""
    tensor = new_node(None, data, (), (), NO_STATIC, False)
    tensor.name = name
    return tensor


def raw(value: Any) -> Any:
    """The array inside a Tensor; anything else as it is."""
    return value._data if isinstance(value, Tensor) else value


def _numpy_call(function: Any, args: Any, options: dict[str, Any]) -> Any:
    """What NumPy's own functions do with a Tensor: the function of the same name here, or an error that says so."""
    if options.get("out") is not None or not options.keys().isdisjoint(("where", "dtype", "order", "initial")):
        raise TypeError(f"np.{function.__name__} on a Tensor takes no out=, where=, dtype=, order= or initial=")
    if function not in NUMPY:
        remedy = "use the functions of tinygrad_rnn, add a primitive, or call .numpy() to leave the graph"
        where = getattr(function, "__module__", "numpy").replace("numpy", "np", 1)  # np.linalg, for instance
        raise TypeError(f"{where}.{function.__name__} has no derivative rule: {remedy}")
    return NUMPY[function](*args, **{key: value for key, value in options.items() if key != "out"})


class Primitive(Protocol):
    """One operation: a function with a forward part on arrays, and one rule per operand for the way back.

    A rule gets the cotangent ``g``, the result ``y``, the operands, and the static parameters by keyword, and returns
    the contribution to its operand. The same rule runs on arrays (fast), on Tensors (double backward), on a symbol
    that prints itself (the formula on an edge), so it is written only with operators and other primitives.
    """

    name: str
    symbol: str  # how a picture writes it
    phrase: str  # what an edge says instead of a formula
    forward: Callable[..., Any]
    rules: Any  # one per operand
    nary: bool
    gathers: list[int]  # for which operands the sweep may gather uses
    computing: tuple[Any, Any]  # for the sweep: whose contributions to compute at once (None: all operands'),
    gathering: tuple[Any, Any]  # and who receives what is gathered (None: nobody)
    watching: tuple[Any, Any]  # the same where `through` is shown each contribution
    __name__: str
    __qualname__: str

    def __call__(self, *operands: Any, **static: Any) -> Any:
        """Compute, and remember the call where an operand needs a gradient."""
