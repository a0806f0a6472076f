"""A real series as an array: from a file, or the packaged one.

After this file the reader knows what the command line feeds a network with: numbers (``.csv``, ``.tsv``, ``.txt``,
``.npy``), brought to mean 0 and standard deviation 1 if that is wanted, so that gates are neither saturated nor idle
whatever the unit was, and text (``.txt``) one-hot by character; one sequence, several, or several windows of one.
Whatever cannot be read ends in one `DataError` that says why in one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import ArgumentError, flag, lengths_of, refusal, whole
from ..files import printable
from .table import DataError, Dialect, TooFewSteps, is_table, read_table, several

__all__ = ["Data", "DataError", "Dialect", "load", "read"]

Array = NDArray[np.float64]

LARGEST = 2**30
"""Bytes that one-hot rows may take."""
_MARKS = {b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Data:
    """Sequences that were read, and what there is to say about them.

    Attributes
    ----------
    values : ndarray of float64, shape (T, N, F)
        N sequences of T steps.
    name : str
        The file and its columns.
    columns : tuple of str
        What the F values of a step are called; empty for characters.
    mean, spread : ndarray of shape (F,), or None
        What was subtracted and divided by; None if nothing was.
    axes : str
        How the axes of an array of several sequences were read; "" for one sequence.
    alphabet : int
        How many different characters there are; 0 for numbers.

    Examples
    --------
    >>> read(steps=20, windows=5).values.shape
    (20, 5, 1)
    """

    values: Array
    name: str
    columns: tuple[str, ...] = ()
    mean: Array | None = None
    spread: Array | None = None
    axes: str = ""
    alphabet: int = 0

    @property
    def description(self) -> str:
        """What was read, in a few words."""
        return self.name + (", standardised" if self.mean is not None else "")

    def scale(self) -> str:
        """What was standardised, with its numbers, or between which numbers the values lie; "" for characters."""
        told = []
        for k, name in enumerate(self.columns):
            column = self.values[:, :, k]
            if self.mean is None or self.spread is None:
                told.append(f"{name} from {column.min():.6g} to {column.max():.6g}")
            elif self.spread[k]:
                told.append(f"{name}: mean {self.mean[k]:.6g}, standard deviation {self.spread[k]:.6g}")
            else:
                told.append(f"{name}: constant {self.mean[k]:.6g}")
        return several(told, 6, "; ")


def load(path: str | PathLike[str] | None = None, **how: Any) -> tuple[Array, str]:
    """Read a series and say in a few words what it is.

    Parameters
    ----------
    path, **how
        As `read` takes them.

    Returns
    -------
    values : ndarray of float64, shape (T, F), or (T, N, F) for several sequences
    description : str

    Raises
    ------
    DataError
        As `read`.

    Examples
    --------
    >>> values, description = load(steps=5)
    >>> values.shape
    (5, 1)
    >>> description
    'annual flow of the Nile at Aswan, 1871-1970 (public domain), standardised'
    """
    data = read(path, **how)
    return data.values[:, 0] if data.values.shape[1] == 1 else data.values, data.description


def read(
    path: str | PathLike[str] | None = None,
    *,
    columns: Sequence[str] = (),
    steps: int | None = None,
    most: int | None = None,
    windows: int | None = None,
    standardise: bool = True,
    dialect: Dialect | None = None,
    batch_first: bool = True,
    lengths: ArrayLike | None = None,
) -> Data:
    """Read sequences from a file.

    Parameters
    ----------
    path : path, optional
        A ``.csv`` or ``.tsv`` file; a ``.txt`` file, of numbers as `numpy.savetxt` writes them, or of prose; both in
        UTF-8, or in UTF-16 or UTF-32 with a byte order mark. Or a ``.npy`` file of shape (T,), (T, F) or (N, T, F).
        Without it: the annual flow of the Nile at Aswan, 1871 to 1970, in the public domain.
    columns : sequence of str
        Which columns of a text file become features, by name, or by number from 1. Default: every numeric one.
    steps : int, optional
        Only the first `steps` rows or characters. The scale and the alphabet remain those of the whole file, so that
        a value means the same however many steps are taken.
    most : int, optional
        If `steps` is not given: so many, or as many as there are.
    windows : int, optional
        So many windows of `steps` rows, evenly spaced over the whole file, as sequences.
    standardise : bool
        Subtract each numeric column's mean and divide by its standard deviation (a constant column becomes zeros).
    dialect : Dialect, optional
        How the columns of a text file are written; default: found out.
    batch_first : bool
        Whether three axes are (N, T, F), as most people have them, or (T, N, F).
    lengths : integers, shape (N,), optional
        How long each of N padded sequences is. What is beyond is not looked at; all must have `steps` steps.

    Returns
    -------
    Data

    Raises
    ------
    DataError
        If the file cannot be read, has no such column, holds no data, something that is no finite number (line and
        column are told), or fewer than `steps` rows; if what a cell means would have to be guessed.

    Examples
    --------
    >>> read(most=1000).scale()
    'volume: mean 919.35, standard deviation 168.379'
    """
    standardise, batch_first = flag("standardise", standardise), flag("batch_first", batch_first)
    steps, most, windows = (
        None if given is None else whole(name, given, 1)
        for name, given in (("steps", steps), ("most", most), ("windows", windows))
    )
    if isinstance(columns, str) or not all(isinstance(column, str) for column in columns):
        raise refusal("columns", columns, "a list of names, or of numbers from 1 as text")
    if dialect is not None and not isinstance(dialect, Dialect):
        raise refusal("dialect", dialect, "a Dialect, such as Dialect(sep=';')")
    with _naming("the packaged series" if path is None else printable(path)):
        found = _packaged(columns) if path is None else _from_file(Path(path), columns, dialect, batch_first)
        longest, valid = _lengths(found, lengths)
        if lengths is not None:
            found = replace(found, name=f"{found.name}, padded after {longest} or more")
        if steps is None:
            steps = longest if most is None else min(most, longest)
        if steps > longest:
            which = f", in the shortest of its {found.values.shape[1]} sequences" if found.axes else ""
            raise TooFewSteps(f": {steps} steps asked for, but there are only {longest}{which}")
        values = found.values[:steps]
        if windows is not None:
            values = _windows(found.values, steps, windows)
            overlap = " that overlap" if windows * steps > len(found.values) else ""
            found = replace(found, name=f"{found.name}, {windows} windows of {steps} steps{overlap}")
        if (size := 8 * values.size * found.alphabet) > LARGEST:
            raise DataError(
                f": {values.size} characters one-hot, {found.alphabet} different ones, take {size:.1e} bytes: "
                "read fewer steps"
            )
    if found.alphabet:
        return replace(found, values=one_hot(values[:, :, 0], found.alphabet))
    return _scaled(found, values, found.values[valid]) if standardise else replace(found, values=values)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Begin with its name what is said of a file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{what}: {error.strerror or error}") from None
    except DataError as error:
        raise type(error)(f"{what}{error}") from None


def one_hot(symbols: NDArray[Any], size: int) -> Array:
    """Rows of `size` numbers, all 0 but a 1 at the symbol, for symbols of any shape."""
    rows = np.zeros((*symbols.shape, size))
    np.put_along_axis(rows, symbols[..., None].astype(np.intp), 1.0, axis=-1)
    return rows


def read_text(path: str | PathLike[str]) -> str:
    """The characters of a text file, every end of line as one newline.

    Raises
    ------
    DataError
        If it cannot be read, or is empty.
    """
    with _naming(printable(path)):
        return _prose(_decoded(Path(path)))


def _prose(text: str) -> str:
    if not text:
        raise DataError(": holds no data")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        where = f", line {line}" if encoding == "utf-8-sig" else ""
        raise DataError(f"{where}: is not {encoding.removesuffix('-sig').upper()} text: save it as UTF-8") from None
    if "\0" in text:
        raise DataError(": is no text, or UTF-16 without its byte order mark: save it as UTF-8")
    return text


def _packaged(columns: Sequence[str]) -> Data:
    with resources.as_file(resources.files(__name__) / "nile.csv") as path:
        values, names, _ = read_table(_decoded(path), columns or ("volume",), Dialect(), spaces=False)
    return Data(values[:, None], "annual flow of the Nile at Aswan, 1871-1970 (public domain)", tuple(names))


def _from_file(path: Path, columns: Sequence[str], dialect: Dialect | None, batch_first: bool) -> Data:
    """All that is in a file; what is wrong is told from behind the path on."""
    kind, name = path.suffix.lower(), printable(path.name)
    if kind == ".npy":
        if columns or dialect:
            raise DataError(": only a text file has columns to choose and a way in which they are written")
        return _from_npy(path, name, batch_first)
    if kind not in (".csv", ".tsv", ".txt"):
        raise DataError(": expected a .csv, .tsv, .txt or .npy file")
    text = _decoded(path)
    if kind == ".txt" and not (dialect or is_table(text)):
        if columns:
            raise DataError(": holds prose, which has no columns")
        codes = np.frombuffer(_prose(text).encode("utf-32-le"), "<u4")
        used = np.bincount(codes) > 0
        symbols, different = (np.cumsum(used, dtype=np.float64) - 1.0)[codes], int(used.sum())
        told = f"{name}, one-hot by character ({different} different)"
        return Data(symbols[:, None, None], told, alphabet=different)
    values, names, remarks = read_table(text, columns, dialect or Dialect(), spaces=kind == ".txt")
    told = ("columns " if "no header" in remarks else "") + several(names)
    return Data(values[:, None], f"{name} ({'; '.join([told, *remarks])})", tuple(names))


def _from_npy(path: Path, name: str, batch_first: bool) -> Data:
    if not path.is_file() and path.exists():
        raise DataError(": is no file: an array is not read from a pipe or a device")
    try:
        # Mapped, not read: a header that promises more than the file holds is refused before anything is allocated,
        # and so are pickled objects.
        with np.errstate(over="ignore"):
            array = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # A damaged header ends NumPy's parser in ValueError, TokenError, OverflowError, ...
        raise DataError(f": is not an array of numbers ({' '.join(str(error).split())})") from None
    if array.dtype.kind not in "biuf":
        raise DataError(f": holds {array.dtype}, not real numbers")
    if not 1 <= array.ndim <= 3:
        raise DataError(f": expected shape (T,), (T, F) or (N, T, F), found {array.shape}")
    if not array.size:
        raise DataError(": holds no data")
    with np.errstate(over="ignore"):  # A long double may be too large for float64: then it is found below.
        values = np.array(array, dtype=np.float64)
    if values.ndim < 3:
        values, axes = values.reshape(len(values), 1, -1), ""
    else:
        values, axes = (values.transpose(1, 0, 2), "(N, T, F)") if batch_first else (values, "(T, N, F)")
        name += f", {values.shape[1]} sequences of {len(values)} steps, read as {axes}"
    return Data(values, name, tuple(f"column {k}" for k in range(values.shape[2])), axes=axes)


def _lengths(data: Data, lengths: ArrayLike | None) -> tuple[int, NDArray[np.bool_]]:
    """How many steps all sequences have, and which steps are no padding; these must be finite."""
    steps, count = data.values.shape[:2]
    valid = np.ones((steps, count), bool)
    if lengths is not None:
        if not data.axes:
            raise DataError(": lengths are those of padded sequences, an array of shape (N, T, F)")
        try:
            given = lengths_of(lengths, count, steps)
        except ArgumentError:
            raise DataError(f": lengths are {count} whole numbers from 1 to {steps}, one for each sequence") from None
        steps, valid = int(given.min()), np.arange(steps)[:, None] < given
    if not (bad := ~np.isfinite(data.values) & valid[:, :, None]).any():
        return steps, valid
    t, n, f = np.argwhere(bad)[0]
    place = f"sequence {n}, row {t}, column {f}" if data.axes else f"row {t}, column {f}"
    remedy = "fill the gap" + (", or, if shorter sequences are padded, say their lengths" if data.axes else "")
    found = data.values[t, n, f]
    raise DataError(f", {place}: expected a finite number, found {found}: {remedy}")


def _windows(values: Array, steps: int, windows: int) -> Array:
    """So many windows of one sequence, as sequences: the first begins at its start, the last ends at its end."""
    if values.shape[1] > 1:
        raise DataError(f": windows are cut from one sequence, and there are {values.shape[1]}")
    places = len(values) - steps + 1
    if windows > places:
        raise TooFewSteps(f": {windows} different windows of {steps} steps asked for, but {len(values)} hold {places}")
    starts = np.linspace(0, places - 1, windows).round().astype(int)
    return np.asarray(values[starts + np.arange(steps)[:, None], 0])


def _scaled(data: Data, part: Array, whole: Array) -> Data:
    # Scaled to at most 1 first, so that the squares of very large or very small values neither overflow nor vanish.
    largest = np.abs(whole).max(axis=0)
    largest[largest == 0.0] = 1.0
    unit = whole / largest
    mean, spread = unit.mean(axis=0), unit.std(axis=0)
    values = (part / largest - mean) / np.where(spread == 0.0, 1.0, spread)  # 0: a constant column, all ±1 here
    return replace(data, values=values, mean=mean * largest, spread=spread * largest)
