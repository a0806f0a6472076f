"""What reports have in common: text, JSON, CSV, a chart, and one HTML file that needs nothing beside it."""

from __future__ import annotations

import json
import os
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ..figure import check_format, figure_bytes, plain, save_figure
from ..files import csv_text, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>:root {{ color-scheme: light dark }} body {{ font: 15px/1.5 sans-serif; max-width: 62em; margin: 2em auto }}
pre {{ overflow-x: auto }} svg {{ max-width: 100%; height: auto; background: white }}</style>
{body}
<details><summary>All numbers, as JSON</summary><pre>{data}</pre></details></html>
"""


class Shown:
    """A report that is printed, drawn and written."""

    def text(self) -> str:
        """The report in words and numbers."""
        raise NotImplementedError

    def table(self) -> list[dict[str, Any]]:
        """Rows for spreadsheets."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        raise NotImplementedError

    def _figure(self) -> Figure:
        raise NotImplementedError

    def _pasted(self) -> dict[str, str]:
        """Code by what it does."""
        return {}

    def __str__(self) -> str:
        return self.text()

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON; with a path, also written there, whole or not at all."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        if path is not None:
            write_whole(path, text)
        return text

    def to_csv(self) -> str:
        """The table as CSV."""
        rows = self.table()
        names = list(dict.fromkeys(name for row in rows for name in row))
        return csv_text([names, *([row.get(name) for name in names] for row in rows)])

    def _repr_html_(self) -> str:
        try:
            figure = self._figure()
            chart = figure_bytes(figure, "svg").decode("utf-8")
            chart = chart[chart.index("<svg") :]
        except ImportError:
            chart = ""
        lines = [
            f"<details><summary>{escape(what)}: the lines to paste</summary><pre>{escape(code)}</pre></details>"
            for what, code in self._pasted().items()
        ]
        return "\n".join([f"<pre>{escape(self.text())}</pre>", chart, *lines])

    def save(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write the chart, the table, or all of it.

        Parameters
        ----------
        path : path
            The suffix decides: .csv is the table, .html one file with text, chart, lines to paste and all numbers;
            .svg, .png and .pdf are the chart, which needs ``tinygrad-rnn[plot]``.
        title : str, optional
            Above the chart, or of the page.
        """
        suffix = PurePath(path).suffix.lower()
        if suffix == ".csv":
            write_whole(path, self.to_csv())
        elif suffix == ".html":
            head = escape(title or repr(self))
            write_whole(path, PAGE.format(title=head, body=self._repr_html_(), data=escape(self.to_json())))
        else:
            check_format(path, ".csv", ".html")
            figure = self._figure()
            if title:
                figure.axes[0].set_title(plain(title), fontsize=11, loc="left")
            save_figure(figure, path)
