"""What tells one measure from another: all that its numbers can depend on, as one short text.

After this file the reader knows why a table never mixes two programs. A function is its instructions and constants
and, wherever they come from, its defaults, what it closes over, and what it calls or reads by a global name; the same
holds for methods, classes, partials and instances. Of what is installed, the name is enough.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import importlib.util
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

STANDARD = Path(sysconfig.get_path("stdlib")).resolve()
OURS = Path(__file__).resolve().parent.parent
_ABOUT_A_CLASS = {"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__firstlineno__", "_abc_impl"}
_ABOUT_A_CLASS |= {"__annotations__", "__annotate_func__", "__annotations_cache__", "__static_attributes__"}


def digest(value: Any) -> tuple[str, bool]:
    """Sixteen hexadecimal digits that differ if anything differs that a callable computes with.

    Parameters
    ----------
    value : callable

    Returns
    -------
    digits : str
    compiled : bool
        Whether CPython's instructions are part of it, so that another version gives other digits.

    Raises
    ------
    ValueError
        If something that it uses cannot be told from another in the next run: an open file, a lock, a generator.

    Notes
    -----
    Comments, docstrings and the place in the file do not count. What is looked up under a name made while it runs
    (``globals()[...]``, ``eval``) is not seen.
    """
    walk = _Walk()
    return walk.of(value).hex()[:16], walk.compiled


def _is_installed(module: types.ModuleType | None) -> bool:
    """Whether a module is Python's, this package's or another installed one's, and not the user's own."""
    if module is None or module.__name__ == "__main__":  # made at a prompt, in a notebook, in a script
        return False
    file = getattr(module, "__file__", None)
    return all(map(_is_place_of_installed, [file] if file else getattr(module, "__path__", ())))  # none: built in


def _is_place_of_installed(place: str) -> bool:
    path = Path(place).resolve()
    return bool({STANDARD, OURS} & {*path.parents} or {"site-packages", "dist-packages"} & {*path.parts})


def _module_of(value: Any) -> types.ModuleType | None:
    return sys.modules.get(getattr(value, "__module__", None) or "")


class _Walk:
    """One walk over all that hangs on a value: what was met before is known, and circles end."""

    def __init__(self) -> None:
        self.done: dict[int, bytes] = {}
        self.under_way: dict[int, int] = {}
        self.kept: list[Any] = []  # so that no identity is used again
        self.compiled = False

    def of(self, value: Any) -> bytes:
        """The digest of a value: that of its type and its parts."""
        if isinstance(value, (bytes, str, int, float, complex, types.NoneType, types.EllipsisType)):
            return _hash([type(value).__name__.encode(), repr(value).encode()])
        key = id(value)
        if key not in self.done:
            if key in self.under_way:
                return _hash([b"circle", str(self.under_way[key]).encode()])
            self.under_way[key] = len(self.under_way)
            self.kept.append(value)
            self.done[key] = _hash([self.of(part) for part in (type(value).__qualname__, *self._parts(value))])
            del self.under_way[key]
        return self.done[key]

    def _parts(self, value: Any) -> Iterable[Any]:
        kind = type(value)
        if kind in (list, tuple):
            return value  # type: ignore[no-any-return]
        if kind in (dict, types.MappingProxyType):
            return value.items()  # type: ignore[no-any-return]
        if kind in (set, frozenset):  # whose order is another one in every run
            return sorted(self.of(item) for item in value)
        if kind is np.ndarray and value.dtype != object:
            return value.dtype.str, value.shape, value.tobytes()
        if kind is types.CodeType:
            self.compiled = True
            consts = [None if k == 0 and isinstance(const, str) else const for k, const in enumerate(value.co_consts)]
            arguments = value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags
            names = value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars
            return value.co_code, value.co_exceptiontable, consts, arguments, names
        if kind is types.FunctionType:
            return self._function(value)
        if kind is types.MethodType:
            return value.__func__, value.__self__
        if kind is functools.cached_property:  # which has a lock in Python 3.11
            return value.func, value.attrname
        if kind is property:
            return value.fget, value.fset, value.fdel
        if kind is types.ModuleType:
            return value.__name__, *([] if _is_installed(value) else [Path(value.__file__ or "").read_bytes()])
        if isinstance(value, type):
            return self._class(value)
        if hasattr(value, "__wrapped__"):  # a static method, a cache, or what a compiler made of a function
            return (value.__wrapped__,)
        return self._instance(value)

    def _class(self, cls: type) -> Iterator[Any]:
        yield f"{cls.__module__}.{cls.__qualname__}"
        if not _is_installed(_module_of(cls)):
            yield from (type(cls), cls.__bases__)
            yield {name: part for name, part in vars(cls).items() if name not in _ABOUT_A_CLASS}

    def _function(self, function: types.FunctionType) -> Iterator[Any]:
        filled = [cell for cell in function.__closure__ or () if cell != types.CellType()]
        yield from (function.__defaults__, function.__kwdefaults__, function.__dict__)
        yield [cell.cell_contents for cell in filled]
        if _is_installed(_module_of(function)):
            yield f"{function.__module__}.{function.__qualname__}"
            return
        yield function.__code__
        looked_up, imported = _globals(function)
        names = {name for code in _codes(function.__code__) for name in code.co_names}
        for name in looked_up:
            if name in function.__globals__:
                yield from (name, _used(function.__globals__[name], names))
        for module in imported:
            yield _used(module, names)

    def _instance(self, value: Any) -> Iterable[Any]:
        """What pickle would need to make it again: a class or function, its arguments, a state, items."""
        try:
            known = copyreg.dispatch_table.get(type(value))
            made: Any = known(value) if known else value.__reduce_ex__(4)
            if isinstance(made, str):  # its name in a module, where it must be
                module = sys.modules[getattr(value, "__module__", None) or "numpy"]
                if functools.reduce(getattr, made.split("."), module) is not value:
                    raise LookupError(made)
                made = (module, made)
        except Exception as error:  # whatever it likes
            raise ValueError(
                f"the table cannot tell what the {type(value).__name__} {value!r:.60} is in the next run: "
                "pass experiment='a name'"
            ) from error
        return type(value), *(list(part) if k > 2 and part is not None else part for k, part in enumerate(made))


def _hash(parts: Iterable[bytes]) -> bytes:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8) + part)
    return whole.digest()


def _used(value: Any, names: set[str], inside: tuple[types.ModuleType, ...] = ()) -> Any:
    """A global value; of a module of the user's only what one of the names in the code may mean, if any does."""
    if not isinstance(value, types.ModuleType) or _is_installed(value) or value in inside:
        return value
    found = sorted(names & vars(value).keys())
    return [(name, _used(vars(value)[name], names, (*inside, value))) for name in found] or value


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and that of everything that is defined inside of it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)


def _globals(function: types.FunctionType) -> tuple[list[str], list[types.ModuleType]]:
    """The global names that a function looks up, and the modules of the user's that it imports while it runs."""
    names: dict[str, None] = {}
    modules = []
    for code in _codes(function.__code__):
        before: list[Any] = [0, 0]
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                names[instruction.argval] = None
            elif instruction.opname == "IMPORT_NAME":  # after its level and the names that are wanted
                modules.append(_own_module(instruction.argval, before, function.__globals__.get("__package__")))
            if instruction.opname != "EXTENDED_ARG":
                before = [before[1], instruction.argval]
    return list(names), [module for module in modules if module is not None]


def _imported(name: str, wanted: tuple[str, ...]) -> types.ModuleType:
    """A module, and what is wanted of it: of a package that may be a module which nobody has imported yet."""
    module = importlib.import_module(name)
    for part in wanted:
        if not hasattr(module, part):
            importlib.import_module(f"{name}.{part}")
    return module


def _own_module(name: str, said: Sequence[Any], package: str | None) -> types.ModuleType | None:
    """The module that an import statement means, if it is the user's own: only then it is imported to look at.

    `said` are the level of the import, as many as it has dots, and what is wanted of the module, if that is said.
    """
    level, wanted = said
    try:
        full = importlib.util.resolve_name("." * level + name, package)
        top = full.partition(".")[0]
        if top in sys.modules:
            own = not _is_installed(sys.modules[top])
        else:
            spec = importlib.util.find_spec(top)
            own = spec is not None and spec.has_location and not _is_place_of_installed(str(spec.origin))
        return _imported(full, wanted or ()) if own else None
    except Exception:  # the measure will meet it as well, and tell
        return None
