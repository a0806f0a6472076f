"""A small table: what `sweep` returns, grouped over seeds and written as CSV or JSON.

After this file the reader knows all that a map of many configurations needs of a data frame: columns with names, rows
that are kept or dropped by their settings, and statistics of one column within groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import columns, csv_text, write_whole

Scalar = str | int | float | bool | None
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Rows of scalars under named columns; where a row has nothing to say, there is None.

    Attributes
    ----------
    columns : tuple of str
    rows : tuple of tuples of str, int, float, bool or None
        In the order of the configurations they belong to.

    Examples
    --------
    >>> from tinygrad_rnn.atlas import Table
    >>> table = Table.of([{"g": g, "seed": s, "slope": g + s / 10} for g in (1, 2) for s in range(3)])
    >>> print(table.summary("slope", by=["g"]))
    g  count  mean  median  sd   least  most
    1  3      1.1   1.1     0.1  1      1.2
    2  3      2.1   2.1     0.1  2      2.2
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Scalar]]) -> Table:
        """A table from one mapping a row; the columns stand in the order in which they first appear."""
        columns = tuple(dict.fromkeys(name for record in records for name in record))
        return cls(columns, tuple(tuple(record.get(name) for name in columns) for record in records))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Scalar]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __getitem__(self, column: str) -> list[Scalar]:
        """The values of a column, one a row."""
        i = self._position(column)
        return [row[i] for row in self.rows]

    def values(self, column: str) -> list[Scalar]:
        """The different values of a column, in the order in which they first appear."""
        return list(dict.fromkeys(self[column]))

    def where(self, **settings: Scalar) -> Table:
        """The rows in which each named column has the given value."""
        wanted = [(self._position(name), value) for name, value in settings.items()]
        return Table(self.columns, tuple(row for row in self.rows if all(row[i] == value for i, value in wanted)))

    def summary(self, column: str, by: Sequence[str]) -> Table:
        """Count, mean, median, standard deviation (n - 1), least and most of one column within groups.

        Parameters
        ----------
        column : str
            Of numbers. Rows where it is None (a job that failed) or NaN are left out, and not counted.
        by : sequence of str
            Rows with the same values of these columns make a group.

        Returns
        -------
        Table
            One row a group, in the order in which the groups first appear; a group of which nothing is left has the
            count 0 and NaN.
        """
        i, keys = self._position(column), [self._position(name) for name in by]
        groups: dict[tuple[Scalar, ...], list[float]] = {}
        for row in self.rows:
            values, value = groups.setdefault(tuple(row[k] for k in keys), []), row[i]
            if isinstance(value, str):
                raise ValueError(f"column {column!r} holds the text {value!r}: there is no mean of texts")
            if value is not None and not math.isnan(value):
                values.append(float(value))
        names = (*by, "count", "mean", "median", "sd", "least", "most")
        return Table(names, tuple((*key, *_statistics(values)) for key, values in groups.items()))

    def pivot(self, row: str, column: str, value: str, statistic: str = "median") -> tuple[list[Any], list[Any], Array]:
        """One statistic of a column, as a matrix over the values of two others.

        Parameters
        ----------
        row, column : str
            Whose different values become rows and columns.
        value : str
        statistic : {"mean", "median", "sd", "least", "most", "count"}

        Returns
        -------
        rows, columns : list
            The labels: numbers by size, anything else in the order in which it first appears.
        matrix : ndarray, shape (len(rows), len(columns))
            NaN where no row of the table is.
        """
        rows, columns = (_sorted(self.values(name)) for name in (row, column))
        matrix = np.full((len(rows), len(columns)), np.nan)
        for group in self.summary(value, by=[row, column]):
            matrix[rows.index(group[row]), columns.index(group[column])] = group[statistic]
        return rows, columns, matrix

    def to_csv(self, path: str | PathLike[str] | None = None) -> str:
        """The table as CSV, for a spreadsheet (a number is written so that reading it gives the same number back).

        Parameters
        ----------
        path : path, optional
            Where to write it, whole or not at all.
        """
        text = csv_text([self.columns, *self.rows])
        if path is not None:
            write_whole(path, text)
        return text

    def __str__(self) -> str:
        """Aligned text; of a long table the first and the last ten rows."""
        shown = list(self.rows) if len(self) <= 24 else [*self.rows[:10], *self.rows[-10:]]
        text = columns([self.columns, *([_short(value) for value in row] for row in shown)])
        if len(self) > len(shown):
            text.insert(11, f"... {len(self) - len(shown)} rows more ...")
        return "\n".join(text)

    def _position(self, column: str) -> int:
        try:
            return self.columns.index(column)
        except ValueError:
            raise KeyError(f"no column {column!r} among {', '.join(self.columns)}") from None


def _statistics(values: list[float]) -> tuple[float, ...]:
    if not values:
        return 0, *[math.nan] * 5
    array = np.array(values)
    with np.errstate(invalid="ignore"):  # infinities have no spread
        sd = float(array.std(ddof=1)) if len(values) > 1 else math.nan
        mean, median = float(array.mean()), float(np.median(array))
    return len(values), mean, median, sd, float(array.min()), float(array.max())


def _sorted(labels: list[Any]) -> list[Any]:
    return sorted(labels) if all(isinstance(label, int | float) for label in labels) else labels


def _short(value: Scalar) -> str:
    if value is None:
        return ""
    if value != value:  # NaN: there is no such number, as of one value no deviation
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
