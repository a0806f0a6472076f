"""Charts by matplotlib, which is the extra ``[plot]``: a figure without a window, and the file it ends in.

After this file the reader knows why two runs write the same bytes: no date, no random ids, no global state of pyplot.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .extras import how_to_install
from .files import printable, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = ("-", "--", ":", "-.")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito (2008)
FORMATS = (".svg", ".png", ".pdf")


def new_figure(width: float = 8.0, height: float = 4.5) -> Figure:
    """An empty figure outside of pyplot, sizes in inches.

    Raises
    ------
    ImportError
        Naming the remedy, if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"the chart needs matplotlib: {how_to_install('plot')}") from error
    return Figure(figsize=(width, height), layout="constrained")


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: a dollar sign begins no formula, and SVG has no place for control codes."""
    return printable(text, keep="\n").replace("$", r"\$")


def check_format(path: str | os.PathLike[str], *more: str) -> Path:
    """The path, if its suffix is that of a chart, or one more that is taken; ask before long work.

    Raises
    ------
    ValueError
        If not.
    """
    target = Path(path)
    if target.suffix.lower() not in (*FORMATS, *more):
        formats = ", ".join((*FORMATS, *more))
        raise ValueError(f"cannot write a chart to {target.name!r}: the name must end in {formats}")
    return target


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as "svg", "png" or "pdf": the same figure, the same bytes."""
    from matplotlib import rc_context

    metadata: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "tinygrad-rnn"}):  # else every file has ids of its own
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata.get(kind, {}))
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure, whole or not at all; the suffix decides the format (.svg, .png, .pdf)."""
    target = check_format(path)
    write_whole(target, figure_bytes(figure, target.suffix[1:].lower()))
