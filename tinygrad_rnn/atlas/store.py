"""The table of a sweep on disk: lines appended as results arrive, so that a kill costs nothing but the last one.

After this file the reader knows what makes an append-only file safe to resume: a first line that says which experiment
it belongs to, one line of JSON a result, half a last line that is cut off, and a lock that dies with its process. Of
each result only its place in the file is kept in memory.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..files import alone, printable, sync_folder, write_whole
from ..norms import json_ready
from .table import Scalar

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
        result = outcome.result or {}
        record["result"] = {k: {"text": v} if v in _NUMBERS else json_ready(v) for k, v in result.items()}
    return _encoded(record)


def _encoded(record: Mapping[str, object]) -> bytes:
    """A line of the file; half a pair of surrogates, which UTF-8 cannot say, stays as JSON escapes it."""
    return json.dumps(record, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""What JSON cannot hold, as texts; the same texts as values are marked as such."""


def _parse(path: Path | None, number: int, line: bytes) -> Outcome:
    try:
        record = json.loads(line.decode("utf-8", "surrogatepass"))
        configuration, result, error = record["configuration"], record.get("result"), record.get("error")
        if (result is None) == (error is None):
            raise ValueError("neither result nor error, or both")
        if result is not None:
            for name, value in result.items():
                if isinstance(value, (str, dict)):
                    result[name] = value["text"] if isinstance(value, dict) else _NUMBERS.get(value, value)
        return Outcome(dict(configuration), result, error)
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise TableError(
            f"{path}, line {number}: is damaged ({fault}); delete the line, and it is measured anew"
        ) from None


class Store:
    """A table that grows; without a path, in a temporary file.

    Attributes
    ----------
    places : dict of str to int
        Where the last outcome of each configuration begins in the file, by `key_of`.
    failed : set of str
        Those whose outcome is an error.
    """

    def __init__(self, path: Path | None = None, file: IO[bytes] | None = None, header: bytes = b"") -> None:
        self.path, self.header = path, header
        self.file: IO[bytes] = tempfile.TemporaryFile() if file is None else file
        self.places: dict[str, int] = {}
        self.failed: set[str] = set()
        self.lines = self.end = 0
        self._synced = time.monotonic()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.file.close()
        except OSError:  # a disk that is full is so once more
            if exception[0] is None:
                raise

    def read(self) -> None:
        """Find the outcomes in the file, behind its first line; half a last line is no outcome."""
        self.end = self.file.seek(len(self.header))
        for line in self.file:
            if line.endswith(b"\n"):
                outcome = _parse(self.path, self.lines + 2, line)
                self._note(key_of(outcome.configuration), outcome.error is not None, len(line))

    def _note(self, key: str, failed: bool, size: int) -> None:
        self.places[key] = self.end
        (self.failed.add if failed else self.failed.discard)(key)
        self.lines, self.end = self.lines + 1, self.end + size

    def append(self, outcomes: Iterable[tuple[str, Outcome]]) -> None:
        """Add outcomes, and hand them to the operating system: from here on a kill does not lose them."""
        self.file.seek(self.end)
        lines = []
        for key, outcome in outcomes:
            lines.append(_line(outcome))
            self._note(key, outcome.error is not None, len(lines[-1]))
        try:
            self.file.write(b"".join(lines))
            self.file.flush()
            if (
                self.path is not None and time.monotonic() > self._synced + 1.0
            ):  # at once would take longer than most jobs
                os.fsync(self.file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise OSError(error.errno, f"cannot be written: {error.strerror}", str(self.path or "table")) from error

    def outcomes(self, keys: Iterable[str]) -> Iterator[Outcome]:
        """What became of these configurations, one after the other from the file."""
        for key in keys:
            self.file.seek(self.places[key])
            yield _parse(self.path, 0, self.file.readline())

    def sort(self) -> None:
        """Rewrite the file in the order of the keys, so that its bytes do not tell who computed what when."""
        order = sorted(self.places)
        places = [self.places[key] for key in order]
        if self.path is None:
            return
        if self.lines == len(order) and places == sorted(places):
            os.fsync(self.file.fileno())
            sync_folder(self.path.parent)
            return

        def lines() -> Iterator[bytes]:
            yield self.header
            with self.file:  # closed before it is replaced, which Windows asks for
                end = len(self.header)
                for key, place in zip(order, places, strict=True):
                    self.file.seek(place)
                    line = self.file.readline()
                    self.places[key] = end
                    end += len(line)
                    yield line

        write_whole(self.path, lines())
        self.file = open(self.path, "rb")


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
    header = _encoded({"format": FORMAT, **experiment})
    path = Path(os.path.realpath(path))  # so that the lock is one by whatever link
    if path.exists() and not path.is_file():
        raise TableError(f"{printable(path)}: is no file that could grow; choose another path")
    with ExitStack() as held:
        try:
            held.enter_context(alone(path))
        except OSError as error:
            raise TableError(f"{path}: {error.strerror}") from None
        file = held.enter_context(open(path, "r+b" if path.exists() else "x+b"))
        first = file.readline()
        whole = first.endswith(b"\n")
        if first != header and (whole or not header.startswith(first)):
            raise TableError(_another(path, first, header))
        if not whole:
            file.seek(0)
            file.write(header)
            file.flush()
        with Store(path, file, header) as store:
            store.read()
            file.truncate(store.end)
            yield store


def _header(line: bytes) -> dict[str, Any]:
    """What the first line of a table says; nothing, if it is that of something else."""
    try:
        found: dict[str, Any] = json.loads(line)
        return found if found["format"] == FORMAT else {}
    except (ValueError, KeyError, TypeError):
        return {}


def _another(path: Path, first: bytes, header: bytes) -> str:
    if not (found := _header(first)):
        return f"{path}: is not the table of a sweep, and is left as it is; choose another path"
    expected = json.loads(header)
    differs = [
        f"{k} is {found.get(k)!r}, not {expected.get(k)!r}" for k in expected | found if found.get(k) != expected.get(k)
    ]
    return f"{path}: is the table of another experiment ({'; '.join(differs)}); choose another path, or delete it"


@contextmanager
def reading(path: Path) -> Iterator[Store]:
    """A table to look at, even while a sweep is writing it."""
    with open(path, "rb") as file:
        first = file.readline()
        if not _header(first):
            raise TableError(f"{path}: is not the table of a sweep")
        with Store(path, file, first) as store:
            store.read()
            yield store
