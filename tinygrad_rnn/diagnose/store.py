"""The table of a sweep on disk: lines appended as results arrive, so that a kill costs nothing but the last one.

After this file the reader knows what makes an append-only file safe to resume: a first line that says which experiment
it belongs to, one line of JSON a result, half a last line that is cut off, and a lock that dies with its process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..files import write_whole
from .table import Scalar, plain

Configuration = dict[str, Scalar]
FORMAT = "tinygrad_rnn.sweep/1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one configuration: the measured values, or the error that ended its job.

    Attributes
    ----------
    configuration : dict
    result : dict or None
    error : str or None
    """

    configuration: Configuration
    result: dict[str, Scalar] | None = None
    error: str | None = None


class TableError(ValueError):
    """The file cannot serve as the table of this sweep; the message names the remedy."""


def key_of(configuration: Mapping[str, Scalar]) -> str:
    """The same text for equal configurations: 1 and 1.0 are equal, as is the order of the settings."""
    numbers = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in configuration.items()
    }
    return json.dumps(numbers, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def scalars(mapping: Mapping[Any, Any], what: str) -> dict[str, Scalar]:
    """A mapping of names to scalars, those of NumPy as Python's own.

    Raises
    ------
    TypeError
        If a name is no text, or a value no scalar.
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{what} is a mapping of names to scalars, not {type(mapping).__name__}")
    found: dict[str, Scalar] = {}
    for name, value in mapping.items():
        if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
            value = value.item()
        if not isinstance(name, str) or not isinstance(value, str | int | float | bool | None):
            raise TypeError(f"{what}: {name!r} is {type(value).__name__}, not text, a number, a truth value or None")
        found[name] = value
    return found


def _line(outcome: Outcome) -> bytes:
    record: dict[str, object] = {"configuration": outcome.configuration}
    if outcome.error is not None:
        record["error"] = outcome.error
    else:
        record["result"] = {name: plain(value) for name, value in (outcome.result or {}).items()}
    return json.dumps(record, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _parse(path: Path, number: int, line: bytes) -> Outcome:
    numbers = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
    try:
        record = json.loads(line)
        configuration, result, error = record["configuration"], record.get("result"), record.get("error")
        if (result is None) == (error is None):
            raise ValueError("neither result nor error, or both")
        if result is not None:
            result = {name: numbers.get(v, v) if isinstance(v, str) else v for name, v in result.items()}
        return Outcome(dict(configuration), result, error)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise TableError(
            f"{path}, line {number}: is damaged ({fault}); delete the line, and it is measured anew"
        ) from None


@dataclass
class Store:
    """An open table: what is known, and the file that grows; without a path, in memory only.

    Attributes
    ----------
    known : dict
        The last outcome of each configuration, by `key_of`.
    """

    path: Path | None = None
    header: bytes = b""
    file: BinaryIO | None = None
    known: dict[str, Outcome] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Add outcomes, and hand them to the operating system: from here on a kill does not lose them."""
        lines = []
        for outcome in outcomes:
            key = key_of(outcome.configuration)
            self.known[key] = outcome
            self.written.append(key)
            lines.append(_line(outcome))
        if self.file is not None:
            self.file.write(b"".join(lines))
            self.file.flush()

    def sort(self) -> None:
        """Rewrite the file in canonical order, so that its bytes do not tell who computed what when."""
        order = sorted(self.known, key=lambda key: _order(self.known[key].configuration))
        if self.path is not None and self.file is not None and order != self.written:
            self.file.close()
            write_whole(self.path, self.header + b"".join(_line(self.known[key]) for key in order))


def _order(configuration: Configuration) -> list[tuple[str, bool, float, str]]:
    """A sort key in which numbers go by size and everything else by its text."""
    number = {k: isinstance(v, int | float) for k, v in configuration.items()}
    return [
        (k, number[k], float(v) if isinstance(v, int | float) else 0.0, "" if number[k] else str(v))
        for k, v in sorted(configuration.items())
    ]


@contextmanager
def opened(path: Path, experiment: Mapping[str, str]) -> Iterator[Store]:
    """Open the table of an experiment, or begin it; nobody else can while it is open.

    Parameters
    ----------
    path : path
    experiment : mapping of str to str
        What every row of the table has in common; a table with another one is refused.

    Raises
    ------
    TableError
        If the file is no table, belongs to another experiment, is damaged, or is open in another process.
    """
    header = json.dumps({"format": FORMAT, **experiment}, ensure_ascii=False).encode() + b"\n"
    with _alone(path):
        known, written = _read(path, header)
        with open(path, "ab") as file:
            if file.tell() == 0:
                file.write(header)
                file.flush()
            store = Store(path, header, file, known, written)
            yield store
            store.sort()


def _read(path: Path, header: bytes) -> tuple[dict[str, Outcome], list[str]]:
    """The outcomes in a table; half a last line, which a kill leaves, is cut off the file."""
    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    first, *lines = content[:end].splitlines(keepends=True) or [b""]
    if first != header and not (end == 0 and header.startswith(content)):
        raise TableError(_another(path, first or content, header))
    if end < len(content):
        with open(path, "r+b") as file:
            file.truncate(end)
    known: dict[str, Outcome] = {}
    written = []
    for number, line in enumerate(lines, 2):
        outcome = _parse(path, number, line)
        written.append(key_of(outcome.configuration))
        known[written[-1]] = outcome
    return known, written


def _another(path: Path, first: bytes, header: bytes) -> str:
    try:
        found = json.loads(first)
        if found["format"] != FORMAT:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        return f"{path}: is not the table of a sweep, and is left as it is; choose another path"
    expected = json.loads(header)
    differs = [
        f"{k} is {found.get(k)!r}, not {expected.get(k)!r}" for k in expected | found if found.get(k) != expected.get(k)
    ]
    return f"{path}: is the table of another experiment ({'; '.join(differs)}); choose another path, or delete it"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock beside a table. It is an SQLite lock, since those work on every system and end with the process."""
    import sqlite3

    lock = path.with_name(f".{path.name}.lock")
    try:
        held = sqlite3.connect(lock, timeout=0, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise TableError(f"{path}: cannot be written ({lock}: {error})") from None
    with closing(held):
        try:
            held.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            reason = "another sweep is writing it; wait for that one" if "locked" in str(error) else f"no lock: {error}"
            raise TableError(f"{path}: {reason}, or choose another path") from None
        yield


def read_outcomes(path: Path) -> list[Outcome]:
    """The outcomes in a table, the last of each configuration, even while a sweep is writing it."""
    content = path.read_bytes()
    first, *lines = content[: content.rfind(b"\n") + 1].splitlines(keepends=True) or [b""]
    try:
        if json.loads(first)["format"] != FORMAT:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise TableError(f"{path}: is not the table of a sweep") from None
    outcomes = [_parse(path, number, line) for number, line in enumerate(lines, 2)]
    return list({key_of(outcome.configuration): outcome for outcome in outcomes}.values())
