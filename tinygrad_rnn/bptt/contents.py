"""What a cell or a loss holds and refers to, so that one which changes from call to call is noticed.

After this file the reader knows where a function can keep something: in an attribute, in a variable of the function
around it, in a global one, in a default, in its class, in a generator of random numbers.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from ..symbolic.trace import Trace, Tracer
from ..symbolic.values import static_key
from ..tensor import Tensor, raw

_PLAIN = {"builtins", "collections", "itertools", "_random", "random", "numpy", "types"}
MOST_COMPARED = 1024
MOVED = itertools.count()


class Contents:
    """What a cell or a loss holds, by path, in a form that can be compared; tensors, tracers and None do not count.

    Of what it finds in variables, it looks into plain containers and into what the same package defines.
    """

    def __init__(self, subject: Any) -> None:
        self.subject = subject
        home = _package(subject if hasattr(subject, "__code__") else type(subject))
        self.home = "nobody's" if home == _package(Contents) else home  # ours keeps nothing
        self.seen: dict[int, Any] = {}
        # First the generators that any function can draw from.
        self.found: dict[str, Any] = {
            "random": (random.getstate(), static_key(np.random.get_state(legacy=True)))  # noqa: NPY002
        }
        self._visit(subject, "")

    def refuse_change(self, trace: Trace, who: str, remedy: str) -> None:
        """Raise TraceError if anything is not now what it was."""
        now = Contents(self.subject).found
        for path in sorted(self.found.keys() | now.keys()):
            if self.found.get(path) != now.get(path):
                name = re.split(r"\.\d", path)[0].rpartition(".")[2]  # not what is in it
                word = re.compile(rf"\b{re.escape(name)}\b")
                code = _function(self.subject).__code__
                begins = f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"
                trace.line = next((n.line for n in trace.nodes if word.search(n.line)), begins)
                if path == "random":
                    trace.refuse(f"{who} draws random numbers: draw them before, and pass them in")
                trace.refuse(f"{who}'s {name} changes {remedy}")

    def _visit(self, value: Any, path: str) -> None:
        if isinstance(value, (int, float, str, bytes, np.ndarray)):
            self.found[path] = hash(static_key(value))
        elif value is not None and not isinstance(value, (Tensor, Tracer, ModuleType)) and id(value) not in self.seen:
            self.seen[id(value)] = value
            parts = list(self._parts(value))
            self.found[path] = len(parts) or id(value)
            for key, part in parts:
                self._visit(part, f"{path}.{key}".strip("."))

    def _parts(self, value: Any) -> Iterable[tuple[Any, Any]]:
        if isinstance(value, Mapping):
            return value.items()
        if isinstance(value, (list, tuple)):
            return enumerate(value)
        if isinstance(value, FunctionType):
            return self._variables(value) if _package(value) == self.home else ()
        if isinstance(value, type):
            return [*vars(value).items(), *(("", c) for c in value.__bases__)] if _package(value) == self.home else ()
        try:
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of itertools, before 3.14
                _, *made = value.__reduce_ex__(4)  # what Python would need to make it anew
        except Exception:
            # Where itertools do not say where they stand, they are taken to have moved.
            made = [next(MOVED)] if type(value).__module__ == "itertools" else []
        return [("", type(value)), *enumerate(list(p) if hasattr(p, "__next__") else p for p in made)]

    def _variables(self, function: FunctionType) -> Iterator[tuple[str, Any]]:
        """What a function's variables hold that are not its own, its defaults and its attributes."""
        found = {name: read() for name, read in _outer(function).items()} | vars(function)
        found |= {"default": function.__defaults__, "default by name": function.__kwdefaults__}
        for name, value in found.items():
            code = isinstance(value, (type, FunctionType))
            package = _package(value if code else type(value))
            if package == self.home or (package in _PLAIN and not code):
                yield name, value


def rewinding(*subjects: Any) -> Callable[[], bool]:
    """What puts the generators of random numbers that some objects hold or can reach back to where they stand now.

    It says whether all else that they hold or can reach is then as it is now, too.
    """
    contents = [Contents(subject) for subject in subjects]
    ways: list[Any] = [(random.getstate, random.setstate), (np.random.get_state, np.random.set_state)]
    for held in (value for content in contents for value in content.seen.values()):
        if isinstance(held, random.Random):
            ways.append((held.getstate, held.setstate))
        elif isinstance(held, np.random.RandomState):
            ways.append((held.get_state, held.set_state))
        elif isinstance(held, np.random.Generator):
            bits = held.bit_generator
            ways.append((partial(getattr, bits, "state"), partial(setattr, bits, "state")))
    stood = [(put, get()) for get, put in ways]

    def rewind() -> bool:
        for put, state in stood:
            put(state)
        return all(content.found == Contents(content.subject).found for content in contents)

    return rewind


class Outside:
    """What the variables of a loss hold that are not its own, to see quickly at each call whether it is that still.

    Looked at is what they hold, the elements of an array (some, if there are many), and of any other object what stands
    in it: entries, and the attributes that the loss speaks of.
    """

    def __init__(self, loss: Any) -> None:
        function = _function(loss)
        self.names = _names(function.__code__) if isinstance(function, FunctionType) else set()
        self.reads = _outer(function) if isinstance(function, FunctionType) else {}
        if loss is not function:
            self.reads["self"] = lambda: getattr(loss, "__self__", loss)
        self.held = {name: self._inside(read()) for name, read in self.reads.items()}

    def changed(self) -> str:
        """The first variable that is not what it was, or ""."""
        for name, read in self.reads.items():
            now, was = self._inside(read()), self.held[name]
            same = (a is b or (type(a) is bytes and a == b) for a, b in zip(now, was, strict=False))
            if len(now) != len(was) or not all(same):
                return name
        return ""

    def _inside(self, value: Any) -> list[Any]:
        if type(value) is np.ndarray:
            few = value if value.size <= MOST_COMPARED else value.flat[:: value.size // MOST_COMPARED]
            return [value, few.tobytes()]
        if isinstance(value, (dict, list)):
            return [value, *(value.values() if isinstance(value, dict) else value)]
        if isinstance(value, (Tensor, ModuleType, FunctionType, type)) or not hasattr(value, "__dict__"):
            return [value, raw(value)]
        return [value, *(part for name, part in vars(value).items() if name in self.names)]


def _function(loss: Any) -> Any:
    """The function that runs where an object is called."""
    return getattr(loss, "__func__", loss if isinstance(loss, FunctionType) else type(loss).__call__)


def _outer(function: FunctionType) -> dict[str, Callable[[], Any]]:
    """How to read the variables of a function that are not its own, by name."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    space = function.__globals__
    found: dict[str, Callable[[], Any]] = {n: partial(space.get, n) for n in _names(function.__code__) if n in space}
    return found | {name: partial(getattr, cell, "cell_contents", None) for name, cell in cells}


def _names(code: CodeType) -> set[str]:
    """Every name that a function and the functions within it speak of."""
    return {*code.co_names}.union(*(_names(value) for value in code.co_consts if isinstance(value, CodeType)))


def _package(of: Any) -> str:
    return str(getattr(of, "__module__", "")).partition(".")[0]
