"""Tensor: an array and how it was computed.

After this file the reader knows what a computation graph is made of: tensors that remember the primitive that made them
and their operands, and nothing else. No tensor refers to its consumers, so there are no reference cycles: whoever drops
the loss drops the graph. A tensor is younger than its operands, so the serial number is already the topological order
that the backward sweep needs.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterator
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, cast, final
from warnings import warn, warn_explicit

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike, NDArray

from .arguments import meaningful
from .instead import no_rule
from .scope import CONTEXT, current

if TYPE_CHECKING:
    from numpy.lib.mixins import NDArrayOperatorsMixin as Operators  # for whoever reads types

    from .primitive import Primitive
else:
    Operators = object

Array = NDArray[Any]

OPS: dict[str, Primitive] = {}
"""Every primitive by name. `ops.py`, the page of derivatives, fills it; users may add their own with `primitive`."""

NUMPY: dict[Any, Callable[..., Any]] = {}
"""What a NumPy function or ufunc does when it meets a Tensor, registered by the modules above."""

next_serial = count().__next__
new_tensor = object.__new__
NO_STATIC: dict[str, Any] = {}  # shared, so that the many nodes without static parameters keep no dict each
SCALARS = frozenset({float, int, bool})
SWEPT: Any = object()  # the mark, in place of a gradient, of what `backward` has been through
FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})  # what a gradient can flow through


class GradientError(RuntimeError, ValueError):
    """A gradient was asked for that does not exist or would be wrong; the message names the remedy."""


class GraphLeftWarning(UserWarning):
    """A number of a Tensor that needs a gradient became a plain number: no gradient flows back through it.

    ``float(x)``, ``math.exp(x)`` and ``array[0] = x`` do so. Python shows it once for each line; ``x.item()`` says that
    it is meant.
    """


LIBRARIES = sys.stdlib_module_names | {"numpy", __name__.partition(".")[0]}


def _warn_that_it_left() -> None:
    """Warn at the line of the caller: the innermost one that is not in Python's library, NumPy or this package."""
    frame = sys._getframe(2)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in LIBRARIES:
        frame = frame.f_back
    code, names = frame.f_code, frame.f_globals
    remedy = "compute with the Tensor itself, or call .item() if that is meant"
    message = f"a number left the graph, and no gradient flows back through it: {remedy}"
    registry = names.setdefault("__warningregistry__", {})
    warn_explicit(message, GraphLeftWarning, code.co_filename, frame.f_lineno, names.get("__name__"), registry)


def unmasked(data: Any) -> Any:
    """The array inside a Tensor, anything else as it is; masked arrays are refused, since their masks would be lost."""
    if type(data) is ndarray:
        return data
    if "numpy.ma" in sys.modules and isinstance(data, np.ma.MaskedArray):  # else none can be there
        raise TypeError("a masked array would lose its mask: call .filled(value) first")
    if isinstance(data, (list, tuple)) and not SCALARS.issuperset(map(type, data)):
        for item in data:
            unmasked(item)
    return raw(data)


def as_array(data: object) -> Array:
    """Check that numbers are ones the engine computes with, and copy them, so that nobody can change them later."""
    if isinstance(data, np.matrix):
        raise TypeError("a matrix has a * of its own: call np.asarray(matrix) first")
    if hasattr(data, "detach") and hasattr(data, "cpu"):  # a tensor of PyTorch's, wherever it lies
        theirs: Any = data.detach().cpu()
        data = (theirs.float() if str(theirs.dtype) in ("torch.bfloat16", "torch.float16") else theirs).numpy()
    if hasattr(data, "__dlpack__") and not hasattr(data, "__array__"):
        data = np.from_dlpack(data)
    try:
        array = np.array(unmasked(data))
    except ValueError as error:
        raise TypeError(f"cannot make a Tensor of {type(data).__name__}: {error}") from error
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind not in "biuf" or (kind == "f" and size not in (4, 8)):
        remedy = "convert it with .astype(np.float64)" if kind == "f" else "give real numbers, and stack(...) tensors"
        what = f"objects such as {next(iter(array.flat), None)!r:.40}" if kind == "O" else array.dtype
        raise TypeError(f"a Tensor holds float32, float64, integers or booleans, not {what}: {remedy}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _unchanged(array: Array, dtype: Any) -> Array:
    """The same numbers in another dtype. Floats may be rounded; integers and booleans are never cut or wrapped."""
    if dtype.kind != "f" and (array.dtype.kind == "f" or not np.array_equal(array, array.astype(dtype))):
        raise TypeError(f"these {array.dtype} numbers would be changed by {dtype}: make a new Tensor")
    return array.astype(dtype, copy=False)


def _comparison(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: compare(self._value, raw(other))


def _silently(convert: Any) -> Any:
    return lambda self, *digits: convert(self.item(), *digits)


def _with_a_warning(convert: Any) -> Any:
    def number_of(self: Tensor) -> Any:
        number = convert(self.item())
        if self._is_recorded():
            _warn_that_it_left()
        return number

    return number_of


@final
class Tensor(Operators):
    """An array, and how it was computed.

    Parameters
    ----------
    data : array_like
        Numbers; copied, of a Tensor without its history. Python floats become float64, float32 stays float32; integers
        and booleans may be constants.
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

    _value: Array
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
        self._value, self._serial, self._grad = array, next_serial(), None
        self.name, self.scope = name, CONTEXT.get()[0]
        self._op, self._operands, self._arrays, self._static = None, (), (), {}
        self._requires_grad = bool(requires_grad)

    def __init_subclass__(cls, **options: Any) -> NoReturn:
        raise TypeError(
            "a Tensor has no subclasses: keep one in your class, as cells keep Tensor(..., requires_grad=True)"
        )

    def _is_recorded(self) -> bool:
        """Whether a gradient would be lost with what is computed from this tensor's bare numbers."""
        return self._requires_grad and CONTEXT.get()[1]

    # What goes out is read-only, so that no graph changes behind its own back.

    @property
    def data(self) -> Array:
        """The array, read-only. Assigning to it rebinds a leaf; graphs built before keep the old values."""
        return read_only(self._value)

    @data.setter
    def data(self, value: ArrayLike) -> None:
        if self._op is not None:
            raise GradientError(f"only a leaf can be rebound: this tensor is the result of {self._op.name}")
        array = as_array(value)
        if array.shape != self._value.shape:
            raise ValueError(f"new data of shape {array.shape} for shape {self._value.shape}: make a new Tensor")
        self._value = _unchanged(array, self._value.dtype)

    @property
    def grad(self) -> Tensor | None:
        """Accumulated gradient of a leaf, a Tensor of its shape and dtype; None before any `backward`."""
        if self._op is not None and self._requires_grad:
            warn("only leaves keep a .grad: for the gradient at this tensor call grad(loss, h)", stacklevel=2)
        return None if self._grad is SWEPT else self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                value = constant(_unchanged(as_array(value), self.dtype))
            if value.shape != self.shape or value.dtype != self.dtype:
                raise ValueError(f".grad is None, or {self.dtype} of shape {self.shape}: not {value!r}")
        self._grad = value

    def numpy(self) -> Array:
        """The array, read-only, without history. Use it where you mean to leave the graph."""
        return self.data

    def item(self) -> float:
        """The one number inside, as a Python number. Raises ValueError for any other size."""
        return cast(float, self._value.item())

    def tolist(self) -> Any:
        """The numbers as nested lists, or one number, as in NumPy."""
        return self._value.tolist()

    def detach(self) -> Tensor:
        """A constant with the same values and no history."""
        return constant(self._value, self.name)

    requires_grad = property(operator.attrgetter("_requires_grad"), doc="Whether a gradient flows to it; fixed.")
    is_leaf = property(lambda self: self._op is None, doc="Whether it was made by hand, not computed.")
    op = property(operator.attrgetter("_op"), doc="The primitive that computed it; None for a leaf.")
    operands = property(operator.attrgetter("_operands"), doc="What it was computed from: None for a bare array.")
    arrays = property(lambda self: tuple(map(_as_seen, self._arrays)), doc="The operands' numbers at that moment.")
    static = property(lambda self: MappingProxyType(self._static), doc="The primitive's static parameters.")
    serial = property(operator.attrgetter("_serial"), doc="Its number in order of creation: operands are older.")
    shape = property(operator.attrgetter("_value.shape"), doc="As in NumPy.")
    ndim = property(operator.attrgetter("_value.ndim"), doc="As in NumPy.")
    size = property(operator.attrgetter("_value.size"), doc="As in NumPy.")
    dtype = property(operator.attrgetter("_value.dtype"), doc="As in NumPy.")

    # The operators, and the methods that are functions of the package: `methods.py` puts them here.

    __getitem__: Any
    T: Any
    astype: Callable[..., Any]
    backward: Callable[..., None]
    copy: Callable[..., Any]
    dot: Callable[..., Any]
    flatten: Callable[..., Any]
    max: Callable[..., Any]
    mean: Callable[..., Any]
    min: Callable[..., Any]
    ravel: Callable[..., Any]
    reshape: Callable[..., Any]
    squeeze: Callable[..., Any]
    std: Callable[..., Any]
    sum: Callable[..., Any]
    swapaxes: Callable[..., Any]
    transpose: Callable[..., Any]

    def __pos__(self) -> Tensor:
        return self

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError("tensors are values and are never changed in place: build a new one with where or concatenate")

    # Comparisons are answers about values, not part of a graph: boolean arrays. Identity is what `is` and hashing see.

    __eq__, __ne__, __lt__ = map(_comparison, (operator.eq, operator.ne, operator.lt))
    __le__, __gt__, __ge__ = map(_comparison, (operator.le, operator.gt, operator.ge))

    __hash__ = object.__hash__

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    # Numbers that leave the graph. Questions, rounding and formats say themselves that they do; what else asks, warns.

    __round__, __floor__, __ceil__, __trunc__ = map(_silently, (round, math.floor, math.ceil, math.trunc))
    __float__, __int__ = map(_with_a_warning, (float, int))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __format__(self, form: str) -> str:
        return format(self.item(), form) if form else repr(self)

    def __index__(self) -> int:
        return self._value.__index__()

    # Arrays that leave it. Other libraries get a copy by DLPack, so that they cannot change what a graph has kept.

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self._is_recorded():
            remedy = "compute with Tensors (stack(...) joins several), or call .numpy() or .detach() if that is meant"
            raise GradientError(f"a plain array would lose the gradient: {remedy}")
        return np.array(self.data, dtype, copy=copy is not False)

    def __dlpack__(self, **options: Any) -> Any:
        if options.get("copy") is False:
            raise BufferError("a Tensor gives a copy of its numbers: leave out copy=False")
        return np.array(self._value).__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._value.__dlpack_device__()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__":
            why = f"np.{ufunc.__name__}.{method} has no derivative here: use sum, prod, max or cumsum"
            return numpy_itself(getattr(ufunc, method), inputs, options, why)
        if options := meaningful(options):
            remedy = ": an array keeps no gradient, so write a = a + x for a += x" * ("out" in options)
            why = f"np.{ufunc.__name__} on a Tensor takes no {'=, '.join(options)}={remedy}"
            return numpy_itself(ufunc, inputs, options, why)
        return self.__array_function__(ufunc, (), inputs, {})

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return NUMPY[function](*args, **options) if function in NUMPY else numpy_itself(function, args, options)

    def __repr__(self) -> str:
        body = np.array2string(self._value, precision=6, separator=", ", prefix="Tensor(", threshold=60)
        if self._op is not None:
            tail = f", op={self._op.name}"
        else:
            tail = ", requires_grad=True" if self._requires_grad else ""
        name = f", name={self.name!r}" if self.name else ""
        kind = "" if self._value.dtype == np.float64 else f", dtype={self._value.dtype}"
        return f"Tensor({body}{kind}{tail}{name})"

    def __reduce__(self) -> Any:
        if self._op is not None:
            raise TypeError("a Tensor is not copied or pickled with its graph: take .detach() first")
        return Tensor, (self._value, self._requires_grad, self.name), (None, {"grad": self._grad})


def new_node(op: Any, data: Any, operands: Any, arrays: Any, static: dict[str, Any], needs: bool) -> Tensor:
    """The result of a primitive: it remembers the call if an operand `needs` a gradient and recording is on."""
    tensor = new_tensor(Tensor)
    tensor.scope, recording, _, _ = current()
    if not (needs and recording):
        op, operands, arrays, static, needs = None, (), (), NO_STATIC, False
    tensor._value = data if type(data) is ndarray else as_result(data, op)
    tensor._serial = next_serial()
    tensor._grad = tensor.name = None
    tensor._op = op
    tensor._operands = operands
    tensor._arrays = arrays
    tensor._static = static
    tensor._requires_grad = needs
    return tensor


def as_result(data: Any, op: Any) -> Array:
    """What a forward function returned that is no array; where a gradient is to flow, `op` says through what."""
    if op is not None and not hasattr(data, "dtype") and type(data) is not float:
        remedy = "return an array of floats, such as np.asarray(result, x.dtype)"
        raise TypeError(f"the forward function of {op.name} returned {type(data).__name__}: {remedy}")
    return np.asarray(data)


def read_only(array: Array) -> Array:
    """A view that cannot be made writeable again, neither itself nor by its base, which is a read-only buffer."""
    return np.asarray(memoryview(cast(Any, array)).toreadonly())


def _as_seen(x: Any) -> Any:
    """An array read-only, a number as it is."""
    return read_only(x) if type(x) is ndarray else x


def constant(data: Array, name: str | None = None) -> Tensor:
    """Wrap an array that the engine owns, without copying it."""
    tensor = new_node(None, data, (), (), NO_STATIC, False)
    tensor.name = name
    return tensor


def raw(value: Any) -> Any:
    """The array inside a Tensor; anything else as it is."""
    return value._value if isinstance(value, Tensor) else value


def numpy_itself(function: Any, args: Any, options: Any, why: str = "") -> Any:
    """What NumPy makes of the arrays, where no Tensor among them needs a gradient; else an error that says why."""
    try:
        args, options = _arrays_of(args), dict(zip(options, _arrays_of(options.values()), strict=True))
    except GradientError:
        raise TypeError(why or no_rule(function, NUMPY)) from None
    return function(*args, **options)


def _arrays_of(values: Any) -> Any:
    """The arguments with arrays in place of Tensors."""
    arrays = []
    for value in values:
        if hasattr(value, "__primitive__"):
            raise GradientError("a placeholder has no array")
        value = value.__array__(copy=False) if isinstance(value, Tensor) else value
        arrays.append(_arrays_of(value) if isinstance(value, (list, tuple)) else value)
    return tuple(arrays) if isinstance(values, tuple) else arrays
