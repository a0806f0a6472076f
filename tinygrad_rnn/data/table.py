"""Columns of numbers in a text file: what separates them, what they are called, which cells are numbers.

After this file the reader knows why no number is guessed and no column lost in passing. A cell is a number, missing, a
label (a name, a date), or a number in another dress ($5, 12 %, 1 234). Columns of labels are left out, and named; a
number in another dress is refused. Decimal commas and thousands are read where the file proves which mark is which.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..arguments import flag
from ..files import printable

SEPARATORS = "\t;|, "
LONGEST_LINE = 2**20  # characters: books and corpora come without line ends, tables do not
SAMPLE = 100  # rows that are looked at to find out how a file is made
MISSING = frozenset(
    "|?|-|--|.|NA|N/A|n/a|NaN|nan|NAN|null|NULL|None|none|#N/A|#NA|#DIV/0!|#NAME?|#NULL!|#NUM!|#REF!|#VALUE!".split("|")
)
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)", re.ASCII | re.IGNORECASE)
_BEGINS = frozenset("0123456789+-.,iI")
_GROUPED = {  # with thousands set off, by decimal mark
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", re.ASCII),
    ",": re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?", re.ASCII),
}
_PLAIN = dict.fromkeys(map(ord, "0123456789+-.eE"))
_WORDLIKE = re.compile(r"[^\W\d]|\d[-/:]\d|^\d+(\.\d+){2,}$")  # a letter or underscore, a date or time, a version
_DRESSED = re.compile(
    r"[+-]?[\d.,]*\d\s*(?!st|nd|rd|th)[^\W\d_]{1,3}(/[^\W\d_]{1,3})?"  # with a unit
    r"|[+-]?[\d.,]*\d[dD][+-]?\d+|0[xX][\da-fA-F]+"  # as Fortran writes it, hexadecimal
    r"|\(?[+-]?[\d.,]*\d(e[+-]?\d+)?\s*[+-]\s*[\d.,]*\d(e[+-]?\d+)?[ij]\)?"  # complex
)

Row = tuple[int, list[str]]
"""The number of its line, and its cells."""


class DataError(ValueError):
    """A file that cannot serve as a series; the message is one line."""


class TooFewSteps(DataError):
    """A file with fewer steps than were asked for."""


@dataclass(frozen=True)
class Dialect:
    """How a text is read; what is None is found out.

    Attributes
    ----------
    sep : str or None
        What stands between columns: one character, a space for any white space.
    decimal : {".", ","} or None
        The decimal mark; the other one then sets off thousands.
    header : bool or None
        Whether the first line names the columns.

    Raises
    ------
    DataError
        If no text could be written so.

    Examples
    --------
    >>> Dialect(sep=";", decimal=",")
    Dialect(sep=';', decimal=',', header=None)
    """

    sep: str | None = None
    decimal: str | None = None
    header: bool | None = None

    def __post_init__(self) -> None:
        if self.sep is not None and not re.fullmatch(r"[^\w\"'#.+\r\n-]|_", str(self.sep)):
            raise DataError(f"sep={self.sep!r}: columns are separated by one character, such as ';'")
        if self.decimal not in (None, ".", ",") or self.sep == self.decimal is not None:
            raise DataError(f"decimal={self.decimal!r}: it is '.' or ',', and not the separator")
        if self.header is not None:
            flag("header", self.header)


# --- what a cell is ---


def _number(cell: str, mark: str, grouped: bool = False) -> float | None:
    """The number in a cell, written with this decimal mark, thousands set off only if `grouped`."""
    other = "," if mark == "." else "."
    if (other in cell and not (grouped and _GROUPED[mark].fullmatch(cell))) or cell.endswith(","):
        return None
    plain = cell.replace(other, "").replace(mark, ".")
    return float(plain) if _NUMBER.fullmatch(plain) else None


def _is_number(cell: str) -> bool:
    return cell[:1] in _BEGINS and any(_number(cell, mark, grouped=True) is not None for mark in ".,")


def _is_label(cell: str) -> bool:
    """Whether a cell that is no number is text, and not a number in another dress."""
    return not re.search(r"\d", cell) or bool(_WORDLIKE.search(cell) and not _DRESSED.fullmatch(cell))


def _is_quantity(cell: str) -> bool:
    return _is_number(cell) or not _is_label(cell)


# --- lines ---


def _rows(text: str, sep: str) -> Iterator[Row]:
    if sep == " ":
        lines = enumerate(io.StringIO(text, newline=None), 1)
        yield from ((number, line.split()) for number, line in lines if line.strip())
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sep, skipinitialspace=True, strict=True)
    for row in reader:
        cells = [cell.strip() for cell in row]
        if len(cells) > 1 or any(cells):
            yield reader.line_num, cells


def _is_comment(cells: list[str]) -> bool:
    return cells[0].startswith("#") and cells[0] not in MISSING


def _fitting(text: str, separators: str) -> str | None:
    """The separator that makes as many cells of every line, and a column of numbers; None if none does.

    Better than one that leaves numbers in another dress, or other separators, is one that leaves none.

    Raises
    ------
    DataError
        If two are as good.
    """
    clean: dict[str, list[list[str]]] = {}
    other = None
    for sep in separators:
        try:
            sample = [cells for _, cells in islice(_rows(text, sep), SAMPLE) if not _is_comment(cells)]
        except csv.Error:  # it stands within quotes only
            continue
        if len({*map(len, sample)}) == 1 and len(sample[0]) > 1:
            columns = [{*column} - MISSING for column in zip(*(sample[1:] or sample), strict=True)]
            good = [bool(column) and all(map(_is_quantity, column)) for column in columns]
            if any(good) if len(sample) > 1 else all(good):
                cells = {cell for column in columns for cell in column}
                if all((_is_number(cell) or _is_label(cell)) and not {*cell} & {*";|\t"} for cell in cells):
                    clean[sep] = sample
                other = other or sep
    if any(sample != next(iter(clean.values())) for sample in clean.values()):
        raise DataError(f": columns may be separated by {' or '.join(map(repr, clean))}: say sep=")
    return next(iter(clean), other)


def _declared(text: str) -> tuple[str | None, str]:
    """The separator that a first line such as ``sep=;`` tells spreadsheets, and the text without it."""
    found = re.match(r'"?sep=(\W)"?(?=\r?\n)', text)
    return (found[1], text[found.end() :]) if found else (None, text)


def is_table(text: str) -> bool:
    """Whether a text holds columns of numbers rather than prose."""
    if len(text) > LONGEST_LINE and not re.search(r"[\r\n]", text[:LONGEST_LINE]):
        return False
    try:
        if _declared(text)[0] or _fitting(text, SEPARATORS) is not None:
            return True
    except DataError:  # whichever it is
        return True
    words = [re.split(r"[\s,;|]+", line.strip()) for line in islice(io.StringIO(text), SAMPLE) if line.strip(" \r\n")]
    quantities = [all(map(_is_quantity, line)) for line in words if not _is_comment(line)]
    return 2 * sum(quantities) > len(quantities)


def _table(text: str, sep: str) -> tuple[list[Row], list[str]]:
    """The rows, all of one width, and the last comment above them, which may be a heading (`np.savetxt` writes one)."""
    try:
        every = list(_rows(text, sep))
    except csv.Error as error:
        raise DataError(f": {error}") from None
    rows: list[Row] = []
    comment: list[str] = []
    for line, cells in every:
        width = len(rows[0][1]) if rows else len(cells)
        if not _is_comment(cells):
            rows.append((line, cells))
            if len(cells) != width:
                hint = " (if the comma is a decimal one, separate the columns by ';')" if sep == "," else ""
                raise DataError(f", line {line}: {len(cells)} fields where the first line has {width}{hint}")
        elif not rows:
            comment = [name for name in (cells[0].lstrip("# "), *cells[1:]) if name or sep != " "]
        elif len(cells) == width:
            raise DataError(f", line {line}: begins with '#': is it a comment? then take the line out")
    while rows and not any(rows[-1][1]):  # spreadsheets leave such lines
        rows.pop()
    return rows, comment


# --- columns ---


def read_table(
    text: str, columns: Sequence[str], dialect: Dialect, spaces: bool
) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """The numbers in a text, the names of their columns, and what else has to be said about them.

    Parameters
    ----------
    text : str
    columns : sequence of str
        Names, or numbers from 1; none: every column of numbers.
    dialect : Dialect
    spaces : bool
        Whether white space may separate columns though nobody said so.

    Returns
    -------
    values : ndarray of float64, shape (T, F)
    names, remarks : list of str

    Raises
    ------
    DataError
        Its message begins behind the path, which the caller knows.
    """
    declared, text = _declared(text)
    separators = SEPARATORS if spaces else SEPARATORS[:-1]
    sep = dialect.sep or declared or _fitting(text, separators)
    if sep is None:  # the line at fault will be told
        first = next((line for line in io.StringIO(text) if line.strip()), "")
        sep = next((sep for sep in separators if sep in first), separators[-1])
    rows, comment = _table(text, sep)
    if not rows:
        raise DataError(": holds no data")
    header = _has_header(rows) if dialect.header is None else dialect.header
    given = rows.pop(0)[1] if header else comment if len(comment) == len(rows[0][1]) else []
    if not rows:
        raise DataError(": holds no data")
    names = [name or str(i) for i, name in enumerate(given or [""] * len(rows[0][1]), 1)]
    cells = list(zip(*(row for _, row in rows), strict=True))
    lines = [line for line, _ in rows]
    chosen = [_position(given, names, column) for column in columns] or _numeric(lines, cells, names)
    plain = [_plain(cells[i]) for i in chosen]
    if dialect.decimal == "," or not all(plain):
        marks = (dialect.decimal, True) if dialect.decimal else _marks(cell for i in chosen for cell in cells[i])
        plain = [[_float(*at, names[i], *marks) for at in zip(lines, cells[i], strict=True)] for i in chosen]
    values = np.array(plain).T
    remarks = [] if given else ["no header"]
    if left_out := [] if columns else [name for i, name in enumerate(names) if i not in chosen]:
        remarks.append(f"not numeric: {several(left_out)}")
    if not columns:
        remarks += filter(None, (_doubt(names[i], column) for i, column in zip(chosen, values.T, strict=True)))
    return values, [names[i] for i in chosen], remarks


def _has_header(rows: list[Row]) -> bool:
    """Whether the first line has a name above a column of numbers, and no number or gap in their place."""
    first, body = rows[0][1], rows[1:]
    above = [cell for i, cell in enumerate(first) if any(_is_number(row[i]) for _, row in body)] or first
    return not any(map(_is_number, first)) and all(map(_is_label, above)) and not {*above} <= MISSING


def _numeric(lines: list[int], cells: list[tuple[str, ...]], names: list[str]) -> list[int]:
    """The columns with a number in them; one number makes it a column of numbers with a bad cell, not of labels."""
    chosen = []
    for i, column in enumerate(cells):
        if any(map(_is_number, column)):
            chosen.append(i)
        elif not {*column} <= MISSING and not any(cell not in MISSING and _is_label(cell) for cell in column):
            line, cell = next(at for at in zip(lines, column, strict=True) if at[1] not in MISSING)
            raise DataError(
                f", line {line}, column {names[i]!r}: {_short(cell)} is no plain number: write it without signs, units "
                "and spaces, or choose other columns"
            )
    if not chosen:
        raise DataError(": has no numeric column; if its columns are separated in an unusual way, say sep=")
    return chosen


def _position(given: list[str], names: list[str], column: str) -> int:
    if given.count(column) > 1:
        raise DataError(f": has {given.count(column)} columns named {column!r}: choose one by number")
    if column in given:
        return given.index(column)
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return int(column) - 1
    raise DataError(f": has no column {column!r}, only {', '.join(map(repr, names[:20]))}")


def _doubt(name: str, column: NDArray[np.float64]) -> str:
    """A remark on a column that may be no measurement: an index, or labels that are numbers."""
    if len(column) < 3 or np.abs(column).max() > 2**53:
        return ""
    steps = np.diff(column)
    if steps[0] and np.allclose(steps, steps[0], rtol=1e-6, atol=0.0):
        return f"{name} counts by {steps[0]:.6g}: an index?"
    if (column % 1).any():
        return ""
    if len(column) > 4 and (steps > 0).all():
        return f"{name} has whole numbers that only rise: an index?"
    different = len({*column.tolist()})
    return f"{name} has {different} different whole numbers: labels?" if 1 < different <= len(column) / 10 else ""


# --- numbers ---


def _plain(column: Sequence[str]) -> list[float] | None:
    """A column in which nothing but digits, points, signs and exponents stands, as most are; None for another."""
    if "".join(column).translate(_PLAIN):
        return None
    try:
        numbers = list(map(float, column))
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _marks(cells: Iterable[str]) -> tuple[str, bool]:
    """The decimal mark that the cells of a file prove, and whether they prove that the other one sets off thousands."""
    proof: dict[str, str] = {}
    doubtful: dict[str, str] = {}
    grouped = False
    for cell in cells:
        for mark, other in (".,", ",."):
            if _GROUPED[mark].fullmatch(cell) and (mark in cell or cell.count(other) > 1):
                proof[mark], grouped = cell, True
            elif mark in cell and _number(cell, mark) is not None:
                (doubtful if _GROUPED[other].fullmatch(cell) else proof)[mark] = cell
    if len(proof) == 2:
        raise DataError(
            f": the decimal marks of {proof['.']!r} and {proof[',']!r} differ: say decimal='.' or decimal=','"
        )
    mark, other = ",." if "," in proof else ".,"
    if other in doubtful and not grouped:
        cell = doubtful[other]
        raise DataError(
            f": {cell!r} is {cell.replace(other, '')} or {cell.replace(other, '.')}: say decimal='.' or decimal=','"
        )
    return mark, grouped


def _float(line: int, cell: str, name: str, mark: str, grouped: bool) -> float:
    value = _number(cell, mark, grouped)
    if value is None or not np.isfinite(value):
        found, remedy = _short(cell) if cell else "nothing", ""
        if cell in MISSING:
            remedy = ": fill the gap, cut the file before it, or choose other columns"
        raise DataError(f", line {line}, column {name!r}: expected a finite number, found {found}{remedy}")
    return value


def several(names: Sequence[str], most: int = 8, between: str = ", ") -> str:
    """Some of the names, and how many there are more."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return between.join([*map(printable, names[:most]), *more])


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else f"{cell[:40]}...")
