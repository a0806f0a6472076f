"""``tinygrad-rnn check my_module.py``: the battery on every primitive and every cell that a file declares.

After this file the reader knows how they are found: a primitive is what importing the file adds to `OPS`; a cell is a
class of that file with ``__call__``, ``parameters`` and ``initial_state``, taken from an instance in the file or made
without arguments. What the battery cannot guess, the file says in a dict ``CHECK``, by name.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

from ..tensor import OPS
from .adapters import library_of
from .battery import CheckError, Report
from .cells import check_cell
from .primitives import check_primitive

CELL = ("__call__", "parameters", "initial_state")

Job = tuple[str, Callable[[], Report]]
Say = Callable[[str, str, str], object]


class UnusableError(Exception):
    """The file cannot be checked at all; the message is one line."""


class EmptyError(UnusableError):
    """The file declares nothing that can be checked."""


def check_file(path: Path, say: Say, **options: Any) -> int:
    """Check everything that a file declares.

    Parameters
    ----------
    path : Path
        A Python file; it is imported, which runs it.
    say : callable
        What is called with how each object ended (ok, FAILED or unsure), its name, and the report.
    **options
        For every check, unless the file says otherwise: `order`, `rng`.

    Returns
    -------
    int
        0 if everything is right, 1 if not.

    Raises
    ------
    UnusableError
        If the file cannot be imported, or declares nothing.
    """
    known = dict(OPS)
    try:
        module = _imported(path)
        asked = getattr(module, "CHECK", {})
        each = asked.values() if isinstance(asked, dict) else [asked]
        if not all(isinstance(one, dict) and all(isinstance(key, str) for key in one) for one in each):
            raise UnusableError(f'{path}: CHECK is a dict of dicts, such as CHECK = {{"name": {{"order": 1}}}}')
        jobs = list(_jobs(module, [name for name in OPS if OPS[name] is not known.get(name)], asked, options))
        if not jobs:
            raise EmptyError(f"{path}: declares neither a primitive nor a cell ({', '.join(CELL)})")
        if unknown := {*map(str, asked)} - {name for name, _ in jobs}:
            raise UnusableError(f"{path}: CHECK has {', '.join(sorted(unknown))}, which the file does not declare")
        return int(sum([not _passes(name, run, say) for name, run in jobs]) > 0)
    finally:  # so that a file can be checked twice by one process
        OPS.clear()
        OPS.update(known)


def _imported(path: Path) -> ModuleType:
    if not path.is_file():
        raise UnusableError(f"{path}: no such file")
    if path.suffix not in (".py", ".ipynb"):
        raise UnusableError(f"{path}: neither a Python file nor a notebook")
    # Under its own name, as if it were imported from its folder: what it declares knows its module by that name.
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    before, folder = sys.modules.get(path.stem), str(path.resolve().parent)
    sys.modules[path.stem] = module
    sys.path.insert(0, folder)
    try:
        exec(compile(_source(path), path, "exec"), vars(module))
    except Exception as error:
        raise UnusableError(f"{path}{_line(error, path)}: {type(error).__name__}: {error}") from error
    except SystemExit as error:
        raise UnusableError(f"{path}: ends the process when it is imported") from error
    finally:
        sys.path.remove(folder)
        if before is None:
            del sys.modules[path.stem]
        else:
            sys.modules[path.stem] = before
    return module


def _source(path: Path) -> bytes | str:
    """The code of a file; of a notebook without the lines that are for IPython."""
    if path.suffix == ".py":
        return path.read_bytes()
    cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in "".join(cell["source"]).split("\n")]
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def _line(error: BaseException, path: Path) -> str:
    """Where in the file an error came from, as ``:12``."""
    here = [f.lineno for f in extract_tb(error.__traceback__) if Path(f.filename).resolve() == path.resolve()]
    return f":{here[-1]}" if here else ""


def _jobs(module: ModuleType, primitives: list[str], asked: dict[str, Any], options: dict[str, Any]) -> Iterator[Job]:
    """A check of every rule of another library, every primitive, and every cell that the file declares."""
    found: list[tuple[str, Callable[..., Report], Any]] = []
    for name, value in vars(module).items():
        if library_of(value) and getattr(value, "fun", value).__module__ == module.__name__:
            found.append((name, check_primitive, value))
    found += [(name, check_primitive, name) for name in primitives]
    for value in vars(module).values():
        if inspect.isclass(value) and value.__module__ == module.__name__:
            if all(callable(getattr(value, method, None)) for method in CELL):
                found.append((value.__name__, partial(_check_class, module), value))
    for name, check, what in found:
        yield name, partial(check, what, **options | asked.get(name, {}))


def _check_class(module: ModuleType, cls: type, **options: Any) -> Report:
    """The battery on a cell of the class that the file made, or on one made without arguments."""
    made = [value for value in vars(module).values() if type(value) is cls]
    if not made:
        try:
            inspect.signature(cls).bind()
        except TypeError as error:
            raise ValueError(f"{error}: make an instance in the file, such as cell = {cls.__name__}(...)") from error
    return check_cell(made[0] if made else cls(), **options)


def _passes(name: str, run: Callable[[], Report], say: Say) -> bool:
    """Run one job and say how it ended: one line, and what was found below it."""
    try:
        report = run()
    except CheckError as error:
        word, said = "unsure" if error.inconclusive else "FAILED", str(error).removeprefix(f"{error.name}: ")
    except Exception as error:  # it could not be checked, which is not a pass either
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        word, said = "FAILED", f"not checked: {kind}{str(error).removeprefix(f'{name}: ').removeprefix(f'{name} ')}"
    else:
        say("ok", name, str(report).partition(": ok, ")[2])
        return True
    if argument := re.search(r"\bpass (\w+)=", said):  # of a file that is checked, arguments stand in the file
        said += f'\n  in the file: CHECK = {{"{name}": {{"{argument[1]}": ...}}}}'
    say(word, name, said)
    return False
