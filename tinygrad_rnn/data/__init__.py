"""A real series as an array of shape (T, I): from a file, or the packaged one.

After this file the reader knows what a cell of the command line is fed with: numbers (``.csv``, ``.npy``) column by
column standardised, so that a cell's gates are neither saturated nor idle whatever the unit was, and text (``.txt``)
one-hot by character. Whatever cannot be read ends in one `DataError` that says why in one line.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataError", "load"]

Array = NDArray[np.float64]


class DataError(ValueError):
    """A file that cannot serve as a series; the message is one line."""


def load(
    path: str | Path | None = None,
    *,
    columns: Sequence[str] = (),
    steps: int | None = None,
    standardise: bool = True,
) -> tuple[Array, str]:
    """Read a series and say in a few words what it is.

    Parameters
    ----------
    path : path, optional
        A ``.csv`` file (header optional; comma, semicolon or tab), a ``.npy`` file of shape (T,) or (T, I), or a
        ``.txt`` file in UTF-8. Without it: the annual flow of the Nile at Aswan, 1871 to 1970, in the public domain.
    columns : sequence of str
        Which columns of a CSV file become features, by name, or by number from 1. Default: every numeric one.
    steps : int, optional
        Only the first `steps` rows or characters. The scale and the alphabet remain those of the whole file, so that
        a value means the same however many steps are taken.
    standardise : bool
        Subtract each numeric column's mean and divide by its standard deviation (a constant column becomes zeros).

    Returns
    -------
    values : ndarray of float64, shape (T, I)
    description : str

    Raises
    ------
    DataError
        If the file cannot be read, has no such column, holds no data, something that is no finite number, or fewer than
        `steps` rows.

    Examples
    --------
    >>> values, description = load(steps=5)
    >>> values.shape
    (5, 1)
    >>> description
    'annual flow of the Nile at Aswan, 1871-1970 (public domain), standardised'
    """
    if path is None:
        with resources.as_file(resources.files(__name__) / "nile.csv") as packaged:
            values, _ = _read_csv(packaged, columns or ("volume",))
        description = "annual flow of the Nile at Aswan, 1871-1970 (public domain)"
        return _scaled(_first(values, steps), values, description, standardise)

    path = Path(path)
    kind = path.suffix.lower()
    if kind != ".csv" and columns:
        raise DataError(f"{path}: only a .csv file has named columns")
    try:
        if kind == ".csv":
            values, described = _read_csv(path, columns)
        elif kind == ".npy":
            values, described = _read_npy(path), ""
        elif kind == ".txt":
            return _read_text(path, steps)
        else:
            raise DataError(f"{path}: expected a .csv, .npy or .txt file")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text") from None
    return _scaled(_first(values, steps, path), values, f"{path.name}{described}", standardise)


def _read_csv(path: Path, columns: Sequence[str]) -> tuple[Array, str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first_line = file.readline()
        file.seek(0)
        delimiter = next((d for d in "\t;" if d in first_line), ",")
        try:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
        except csv.Error as error:
            raise DataError(f"{path}: {error}") from None
    has_header = bool(rows) and not any(_is_number(cell) for cell in rows[0][1])
    names = (
        [c.strip() for c in rows[0][1]] if has_header else [str(i + 1) for i in range(len(rows[0][1]) if rows else 0)]
    )
    body = rows[has_header:]
    if not body:
        raise DataError(f"{path}: holds no data")
    for line, row in body:
        if len(row) != len(names):
            raise DataError(f"{path}, line {line}: {len(row)} fields where the first line has {len(names)}")
    chosen = [_position(path, names, column) for column in columns] or [
        # A column of dates or labels has no number in it; one number makes it a column of numbers with a bad cell.
        i
        for i in range(len(names))
        if any(_is_number(row[i]) for _, row in body)
    ]
    if not chosen:
        raise DataError(f"{path}: has no numeric column")
    values = np.array([[_number(path, line, names[i], row[i]) for i in chosen] for line, row in body])
    described = ", ".join(names[i] for i in chosen)
    if not columns and len(chosen) < len(names):
        described += f"; not numeric: {', '.join(name for i, name in enumerate(names) if i not in chosen)}"
    return values, f" ({described})" if has_header else ""


def _position(path: Path, names: list[str], column: str) -> int:
    if names.count(column) > 1:
        raise DataError(f"{path}: has {names.count(column)} columns named {column!r}: choose one by number")
    if column in names:
        return names.index(column)
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return int(column) - 1
    raise DataError(f"{path}: has no column {column!r}, only {', '.join(map(repr, names))}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, name: str, cell: str) -> float:
    if not _is_number(cell) or not np.isfinite(float(cell)):
        found = repr(cell) if cell.strip() else "nothing"
        raise DataError(f"{path}, line {line}, column {name!r}: expected a finite number, found {found}")
    return float(cell)


def _read_npy(path: Path) -> Array:
    try:
        # Mapped, not read: a header that promises more than the file holds is refused before anything is allocated,
        # and so are pickled objects.
        with np.errstate(over="ignore"):
            array = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # A damaged header ends NumPy's parser in ValueError, TokenError, OverflowError, ...
        raise DataError(f"{path}: is not an array of numbers ({' '.join(str(error).split())})") from None
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: holds {array.dtype}, not real numbers")
    if array.ndim not in (1, 2):
        raise DataError(f"{path}: expected shape (T,) or (T, I), found {array.shape}")
    if not array.size:
        raise DataError(f"{path}: holds no data")
    with np.errstate(over="ignore"):  # A long double may be too large for float64: then it is found below.
        values = np.array(array, dtype=np.float64).reshape(len(array), -1)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"{path}, row {row}, column {column}: expected a finite number, found {values[row, column]}")
    return values


def _read_text(path: Path, steps: int | None) -> tuple[Array, str]:
    text = path.read_text(encoding="utf-8-sig")
    if not text:
        raise DataError(f"{path}: holds no data")
    alphabet = {character: i for i, character in enumerate(sorted(set(text)))}
    part = _first(np.array([alphabet[character] for character in text[:steps]]), steps, path)
    return np.eye(len(alphabet))[part], f"{path.name}, one-hot by character ({len(alphabet)} different)"


def _first(values: NDArray[Any], steps: int | None, path: Path | None = None) -> NDArray[Any]:
    if steps is not None and len(values) < steps:
        where = f"{path}: " if path else ""
        raise DataError(f"{where}{steps} steps asked for, but there are only {len(values)}")
    return values[:steps]


def _scaled(part: Array, whole: Array, description: str, standardise: bool) -> tuple[Array, str]:
    if not standardise:
        return part, description
    # Scaled to at most 1 first, so that the squares of very large or very small values neither overflow nor vanish.
    largest = np.abs(whole).max(axis=0)
    largest[largest == 0.0] = 1.0
    unit = whole / largest
    spread = unit.std(axis=0)
    spread[unit.max(axis=0) == unit.min(axis=0)] = 1.0
    return (part / largest - unit.mean(axis=0)) / spread, f"{description}, standardised"
