"""Tracing: call a function with placeholders that write down every primitive applied to them.

After this file the reader knows what a trace is: a list of nodes, each a primitive, its operands and the line of the
function (a cell, a loss, a rule) that asked for it. A `Tracer` stands where a Tensor would stand. Whatever would need
its numbers (``if``, ``float``, ``.numpy()``) is refused, since a trace that took one branch would be wrong for the
other.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from traceback import walk_stack
from typing import Any, NoReturn

import numpy as np

from .. import methods, numpy_calls  # noqa: F401  # by which a Tensor has its methods, too
from ..files import printable
from ..primitive import Primitive
from ..scope import CONTEXT
from ..tensor import NUMPY, OPS, SCALARS, Tensor, as_array
from .values import identifier

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ENGINE = "tensor primitive ops gathering autodiff functions numpy_calls numpy_names methods symbolic bptt".split()
_OURS = tuple(PACKAGE + name for name in _ENGINE)
_NOT_A_CELL = (*_OURS, os.path.dirname(np.__file__) + os.sep)

# Questions about values: their answers are boolean, have no gradient, and may choose in `where`.
QUESTIONS: dict[Any, str] = {
    **{f: f.__name__ for f in (np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal)},
    **{f: f.__name__ for f in (np.isfinite, np.isnan, np.isinf, np.signbit)},
    **{f: f.__name__ for f in (np.logical_and, np.logical_or, np.logical_not)},
    **{np.bitwise_and: "logical_and", np.bitwise_or: "logical_or", np.invert: "logical_not"},
}


class TraceError(TypeError):
    """The cell or the loss does something that no program for all inputs can be derived from; names the line."""


class _Missing(TraceError, AttributeError):
    """An attribute that a Tracer does not have: `hasattr` is False, anything else names the line."""


class Part(IntEnum):
    """A part of the program, in the order in which they run."""

    ONCE = 0
    BEFORE = 1
    FORWARD = 2
    BETWEEN = 3
    BACKWARD = 4
    AFTER = 5
    END = 6


KNOWN = {
    **{"input": Part.BEFORE, "state": Part.FORWARD, "carry": Part.BACKWARD, "total": Part.END},
    **dict.fromkeys(("outputs", "last", "given", "at_t"), Part.BETWEEN),
}
"""When the leaves are known that are not so from the beginning."""
STEPPED = {"input", "state", "carry", "at_t"}
MARKS = {*KNOWN, *STEPPED, *QUESTIONS.values(), "parameter", "constant", "number", "extra", "detach", "kept"}
"""What a node may be called that is no primitive."""


class Node:
    """One value of a traced step: a leaf, or a primitive applied to earlier nodes.

    Attributes
    ----------
    op : str
        Name of a primitive or of a question about values, or the kind of a leaf: "input", "state", "parameter",
        "constant", "number", ...
    args : tuple of Node
    static : dict
        Static parameters of the primitive.
    keywords : tuple of str
        Names of static parameters that are traced themselves (the condition of `where`): the last of `args`.
    value : array or number
        What it is for the example; shape and dtype are read off it.
    needs : bool
        Whether a gradient flows to it.
    name : str
        What the cell calls it, or "" where that is no plain word (`identifier`): names get into the source.
    line : str
        The line of the cell that computed it.
    origins : tuple of Node
        What it was before any rewrite.
    known : Part
        The first part of the program in which all is known that it is made of.
    stepped : bool
        Whether it differs from step to step.
    """

    __slots__ = (
        *("_name", "args", "dtype", "keywords", "known", "line", "needs", "op", "origins", "shape", "static"),
        *("stepped", "value"),
    )

    def __init__(
        self,
        op: str,
        args: tuple[Node, ...] = (),
        static: dict[str, Any] | None = None,
        *,
        value: Any,
        needs: bool = False,
        name: str = "",
        line: str = "",
        keywords: tuple[str, ...] = (),
    ) -> None:
        self.op, self.args, self.static, self.keywords = op, args, static or {}, keywords
        self.value, self.needs, self.name, self.line = value, needs, name, line
        array = np.asarray(value)
        self.shape, self.dtype = array.shape, array.dtype
        self.origins: tuple[Node, ...] = ()
        self.known: Part = max([KNOWN.get(op, Part.ONCE), *(a.known for a in args)])
        self.stepped: bool = op in STEPPED or (op != "total" and any(a.stepped for a in args))

    @property
    def name(self) -> str:
        """A word that may stand in source, or nothing, whatever it is set to."""
        return self._name

    @name.setter
    def name(self, name: object) -> None:
        self._name = identifier(name) if name else ""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def operands(self) -> tuple[Node, ...]:
        """Its arguments without those that are static parameters."""
        return self.args[: len(self.args) - len(self.keywords)]

    @property
    def traced(self) -> dict[str, Node]:
        """Static parameters that are traced themselves."""
        return dict(zip(self.keywords, self.args[len(self.operands) :], strict=True))

    @property
    def form(self) -> tuple[Any, ...]:
        """Shape and dtype."""
        return self.shape, self.dtype

    def __repr__(self) -> str:
        return f"{self.op}{self.shape}" + (f" {self.name}" if self.name else "")


def computed(op: str, args: tuple[Node, ...], static: dict[str, Any], keywords: tuple[str, ...] = ()) -> Node:
    """A node for a primitive or a question, with what it is for the example."""
    value = run(op, [a.value for a in args], static, keywords)
    needs = op in OPS and any(a.needs for a in args[: len(args) - len(keywords)])
    return Node(op, args, static, value=value, needs=needs, keywords=keywords)


def run(op: str, values: list[Any], static: Mapping[str, Any], keywords: tuple[str, ...]) -> Any:
    """What a primitive or a question gives for arrays, of which the last are named by `keywords`."""
    if op == "detach":
        return values[0]
    count = len(values) - len(keywords)
    options = {**static, **dict(zip(keywords, values[count:], strict=True))}
    forward = OPS[op].forward if op in OPS else getattr(np, op)
    with np.errstate(all="ignore"):
        return np.asarray(forward(*values[:count], **options))


def chosen(node: Node) -> Node | None:
    """The operand of a `where` that a plain True or False decides for."""
    condition = node.args[2].value if node.keywords and node.args[2].op == "number" else node.static.get("condition")
    return None if condition is None or np.ndim(condition) else node.args[0 if condition else 1]


class Trace:
    """What was traced so far, oldest first; `tensors` says which node stands for a Tensor that may be met."""

    def __init__(self, subject: str, remedy: str) -> None:
        self.subject, self.remedy = subject, remedy
        self.nodes: list[Node] = []
        self.line = ""  # set while rules run: a derivative belongs to the line of what it is the derivative of
        self.refused: TraceError | None = None

    def leaf(self, op: str, value: Any, name: str = "", needs: bool = False) -> Tracer:
        """A placeholder for something given from outside."""
        return Tracer(self, Node(op, value=value, name=name, needs=needs))

    def node_of(self, value: Any) -> Node:
        """The node of an operand: a tracer's own, or a constant."""
        if isinstance(value, Tracer):
            if value.trace is not self:
                self.refuse("a value of an earlier step or call was kept and is used again: pass it on in the state")
            return value.node
        if isinstance(value, Tensor):
            if value.requires_grad:
                who = f"{value.name!r} " if value.name else ""
                self.refuse(f"a tensor {who}that requires a gradient {self.remedy}")
            return Node("constant", value=np.asarray(value.numpy(), order="C"), name=value.name or variable_of(value))
        if isinstance(value, np.ndarray) and value.dtype == np.float32 and value.ndim == 0:
            value = value.item()  # widens as little as a number of Python's: the constants of rules are such arrays
            value = int(value) if value.is_integer() else value
        if type(value) in SCALARS:
            return Node("number", value=value)
        return Node("constant", value=np.asarray(as_array(value), order="C"), name=variable_of(value))

    def apply(self, op: str, operands: tuple[Any, ...], static: dict[str, Any]) -> Tracer:
        """Write down one application of a primitive or a question."""
        traced = tuple(key for key, value in static.items() if isinstance(value, Tracer))
        args = tuple([self.node_of(x) for x in (*operands, *(static[key] for key in traced))])
        node = computed(op, args, {k: v for k, v in static.items() if k not in traced}, traced)
        node.line = self.line or where()
        node.needs = node.needs and CONTEXT.get()[1]  # as in the engine: nothing flows through what `no_grad` holds
        self.nodes.append(node)
        return Tracer(self, node)

    def mark(self, op: str, node: Node, value: Any = None) -> Tracer:
        """Write down what happens to a value that is no primitive, such as that it is summed over all steps."""
        marked = Node(op, (node,), value=node.value if value is None else value, line=self.line)
        self.nodes.append(marked)
        return Tracer(self, marked)

    def error(self, why: str) -> TraceError:
        """What says why, with the line at fault."""
        at = self.line or where()
        return TraceError(printable(f"no program can be derived of {self.subject}: {why}; at {at}"))

    def refuse(self, why: str) -> NoReturn:
        """Raise TraceError with the line at fault."""
        self.refused = self.refused or self.error(why)
        raise self.refused

    def check(self) -> None:
        """Refuse again what was refused, and went on in an ``except``: it did not go the way that the numbers say."""
        if self.refused is not None:
            raise self.refused


class Tracer:
    """Stands for a Tensor while a cell is traced, and writes down what is done to it."""

    __slots__ = ("node", "trace")

    def __init__(self, trace: Trace, node: Node) -> None:
        self.trace, self.node = trace, node

    shape = property(lambda self: self.node.shape)
    dtype = property(lambda self: self.node.dtype)
    ndim = property(lambda self: len(self.node.shape))
    size = property(lambda self: int(np.prod(self.node.shape)))
    requires_grad = property(lambda self: self.node.needs)

    @property
    def name(self) -> str:
        """What pictures, and here the source, call it."""
        return self.node.name

    @name.setter
    def name(self, name: str) -> None:
        self.node.name = name

    @property  # type: ignore[misc]  # what `isinstance` asks: to a cell it is a Tensor, as in the engine
    def __class__(self) -> Any:
        ours = sys._getframe(1).f_code.co_filename.startswith(_OURS)
        return Tracer if ours else np.ndarray if self.node.dtype == bool else Tensor

    def __primitive__(self, op: Primitive, operands: tuple[Any, ...], static: dict[str, Any]) -> Tracer:
        if OPS.get(op.name) is not op or op.name in MARKS:
            self.trace.refuse(f"a primitive of one's own is called {printable(op.name)!r}, as is another: rename it")
        return self.trace.apply(op.name, operands, static)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            self.trace.refuse(f"np.{ufunc.__name__} with {method} or options has no derivative")
        if ufunc in QUESTIONS:
            return self.trace.apply(QUESTIONS[ufunc], inputs, {})
        return self._numpy(ufunc, inputs, {})

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is np.where and len(args) == 3:
            return self.trace.apply("where", args[1:], {"condition": args[0]})
        return self._numpy(function, args, options)

    def _numpy(self, function: Any, args: Any, options: Any) -> Any:
        if function not in NUMPY or function in numpy_calls.QUESTIONS:
            self.trace.refuse(f"np.{function.__name__} of a traced value has no derivative rule")
        return NUMPY[function](*args, **options)

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """In another dtype; rules ask for it."""
        return self if dtype == self.dtype else OPS["cast"](self, dtype=np.dtype(dtype))

    def dot(self, other: Any) -> Any:
        """The matrix product, as rules write it."""
        return OPS["matmul"](self, other)

    def detach(self) -> Tracer:
        """The same values, through which no gradient flows."""
        detached = self.trace.mark("detach", self.node)
        detached.node.line = self.node.line
        return detached

    data = property(detach)
    numpy = detach

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a traced scalar")
        return int(self.shape[0])

    def __invert__(self) -> Tracer:
        return self.trace.apply("logical_not", (self,), {})

    __hash__ = object.__hash__

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        self.trace.refuse("tensors are values and are never changed in place")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") or name in Tracer.__slots__:  # what Python itself asks for
            raise AttributeError(name)
        why = f"a traced value has no attribute {name!r}"
        if hasattr(Tensor, name) or hasattr(np.ndarray, name):  # then `hasattr` must not say no
            self.trace.refuse(why)
        raise _Missing(*self.trace.error(why).args)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        given = "; derive with loss=None, and pass such a loss, and its labels, at each call"
        self.trace.refuse(
            "a traced value is used as a plain array, which would freeze the example's numbers"
            + given * (self.node.op == "extra")
        )

    def __repr__(self) -> str:
        return f"Tracer({self.node!r})"


# What a Tensor passes on to functions and primitives, a Tracer passes on in the same way.
for _name in "T sum mean max min std ravel flatten squeeze swapaxes copy reshape transpose".split():
    setattr(Tracer, _name, vars(Tensor)[_name])
for _name in ("getitem", "iter", "neg", "pos", "abs"):
    setattr(Tracer, f"__{_name}__", vars(Tensor)[f"__{_name}__"])
for _name in ("add", "sub", "mul", "truediv", "mod", "pow", "matmul"):
    setattr(Tracer, f"__{_name}__", vars(Tensor)[f"__{_name}__"])
    setattr(Tracer, f"__r{_name}__", vars(Tensor)[f"__r{_name}__"])


def _question(name: str) -> Callable[[Tracer, Any], Any]:
    def ask(self: Tracer, other: Any) -> Any:
        if name in ("logical_and", "logical_or") and isinstance(other, (bool, np.bool_)):  # decided without the numbers
            return self if bool(other) is (name == "logical_and") else other
        return self.trace.apply(name, (self, other), {})

    return ask


for _name, _op in {
    **dict(gt="greater", ge="greater_equal", lt="less", le="less_equal", eq="equal", ne="not_equal"),
    **{"and": "logical_and", "or": "logical_or", "rand": "logical_and", "ror": "logical_or"},
}.items():
    setattr(Tracer, f"__{_name}__", _question(_op))


def _refused(does: str) -> Callable[..., NoReturn]:
    def method(self: Tracer, *args: Any) -> NoReturn:
        self.trace.refuse(f"{does} asks for the numbers of a traced value, on which the program must not depend")

    return method


for _name, _does in {
    **{name: f"{name}()" for name, of in vars(Tensor).items() if callable(of) and not hasattr(Tracer, name)},
    **{"__bool__": "a condition (if, while, and, or)", "__float__": "float()", "__int__": "int()"},
    **{"__index__": "an index", "item": ".item()", "backward": ".backward()", "__str__": "str() or print()"},
    **{"__format__": "a format"},
}.items():
    setattr(Tracer, _name, _refused(_does))


def _caller() -> Any:
    """The innermost frame that is not the engine's: the cell's or the loss's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    return frame


def variable_of(value: Any) -> str:
    """The variable, or attribute of `self`, that holds an array where it was used; "" if there is none."""
    frame = _caller()
    for names in (frame.f_locals, getattr(frame.f_locals.get("self"), "__dict__", {}), frame.f_globals):
        for name, held in list(names.items()):
            if held is value:
                return str(name)
    return ""


def where() -> str:
    """File, line and text of the innermost line that is not the engine's."""
    frame = _caller()
    path, number = frame.f_code.co_filename, frame.f_lineno
    return f"{os.path.basename(path)}:{number}: {linecache.getline(path, number).strip()}"


@contextmanager
def naming() -> Iterator[None]:
    """Let values that got no name take that of the first local variable which holds them.

    Of several functions the outermost decides: what a helper calls ``x`` is a gate to the cell that called it.
    """
    found: dict[Node, tuple[int, str]] = {}  # with how deep the function was
    given: dict[int, dict[str, Any]] = {}  # to each function that runs: what a helper calls its argument is no name

    def on_event(frame: Any, event: str, _: Any) -> None:
        if event == "call":  # such as that of an operation: what the caller holds now it may forget later
            given[id(frame)], frame = dict(frame.f_locals), frame.f_back
        elif event != "return":
            return
        if frame is None or frame.f_code.co_filename.startswith(_NOT_A_CELL) or frame.f_code.co_name[0] == "<":
            return
        depth = len(list(walk_stack(frame)))
        arguments = given.get(id(frame), {})
        for name, value in frame.f_locals.items():
            if not isinstance(value, Tracer) or not name.isidentifier() or not name.strip("_"):
                continue
            passed = value.node.args and arguments.get(name) is value
            if not passed and depth < found.get(value.node, (sys.maxsize,))[0]:
                found[value.node] = depth, name

    if sys.getprofile() is not None:  # somebody profiles this: C profilers cannot be put back, so values go unnamed
        yield
        return
    sys.setprofile(on_event)
    try:
        yield
    finally:
        sys.setprofile(None)
        for node, (_, name) in found.items():
            node.name = node.name or name
