"""From a page, or an example, to a notebook: the same text and code, and what a page folds away is folded there too.

After this file the reader knows how a chapter of gaps and tests becomes something to work in. A solution is text,
so that running all cells does not run it; a test is a cell whose code is hidden. Without the site:

    python docs/ext/notebooks.py docs/chapters/00-build-it.md build_it.ipynb

The same as a script of cells, without the solutions, for an editor or a plain ``python build_it.py``: build_it.py.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SOLUTION = "One solution"
DROPDOWN = re.compile(r"^:::\{dropdown\} ([^\n]*)\n(.*?)^:::$\n?", re.MULTILINE | re.DOTALL)
ADMONITION = re.compile(r"^:::\{admonition\} ([^\n]*)\n(?::class:[^\n]*\n)?\n?(.*?)^:::$", re.MULTILINE | re.DOTALL)
PREDICT = re.compile(r"^:::\{predict\}\n(?::[^\n]*\n)*\n?(.*?)^:::$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```py(?:thon)?\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(r"^```\{(\w+)\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]+\)")


@dataclass(frozen=True)
class Cell:
    """A cell: text, code, code that is folded away, or the text of a solution."""

    kind: Literal["text", "code", "folded", "solution"]
    source: str


def cells_of(page: str) -> list[Cell]:
    """A page, cut into cells in its own order."""
    found: list[Cell] = []
    end = 0
    for fold in DROPDOWN.finditer(page):
        found += _plain(page[end : fold.start()], "code")
        if fold[1] == SOLUTION:
            found.append(Cell("solution", fold[2].strip()))
        else:
            found += _plain(fold[2], "folded")
        end = fold.end()
    return [*found, *_plain(page[end:], "code")]


def _plain(part: str, code: Literal["code", "folded"]) -> Iterator[Cell]:
    """The cells of a part that folds nothing away."""
    for k, piece in enumerate(PYTHON.split(part)):
        if k % 2:
            yield Cell(code, piece.strip())
        elif text := _text(piece):
            yield Cell("text", text)


def _text(part: str) -> str:
    """Markdown as a notebook shows it: a caption without the picture, which a cell shows; no links to other pages."""

    def caption(found: re.Match[str]) -> str:
        words = re.sub(r"^:.*\n", "", found[2], flags=re.MULTILINE).strip()
        return f"*{words}*" if found[1] == "picture" and words else ""

    part = PREDICT.sub(lambda found: f"**Predict first**\n\n{found[1].strip()}\n", part)
    part = ADMONITION.sub(lambda found: f"**{found[1]}**\n\n{found[2].strip()}\n", DIRECTIVE.sub(caption, part))
    return re.sub(r"\n{3,}", "\n\n", LINK.sub(r"\1", part)).strip()


def notebook(cells: Iterable[Cell]) -> str:
    """A Jupyter notebook as text."""
    page: list[dict[str, Any]] = []
    for k, cell in enumerate(cells):
        hidden = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"]} if cell.kind == "folded" else {}
        source = cell.source
        if cell.kind == "solution":
            source = f"<details><summary>{SOLUTION}</summary>\n\n{source}\n\n</details>"
        kind = "code" if cell.kind in ("code", "folded") else "markdown"
        empty = {"outputs": [], "execution_count": None} if kind == "code" else {}
        page.append({"id": f"cell{k}", "cell_type": kind, "metadata": hidden, "source": source} | empty)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    whole = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": page}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def script(cells: Iterable[Cell]) -> str:
    """The same as Python with cells that editors know, each headed by ``# %%``; the solutions stay on the page."""
    parts = []
    for cell in cells:
        if cell.kind == "text":
            lines = (f"# {line}".rstrip() for line in cell.source.splitlines())
            parts.append("\n".join(["# %% [markdown]", *lines]))
        elif cell.kind != "solution":
            parts.append(f"# %%\n{cell.source}")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write a page as a notebook or a script."""
    parser = argparse.ArgumentParser(description="Write a page as a notebook, .ipynb, or as a script of cells, .py.")
    parser.add_argument("page", type=Path)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    form = {".ipynb": notebook, ".py": script}.get(arguments.file.suffix)
    if form is None:
        parser.error(f"{arguments.file}: expected a name that ends in .ipynb or .py")
    if arguments.file.exists():
        parser.error(f"{arguments.file} exists, and may hold your work: choose another name")
    cells = cells_of(arguments.page.read_text(encoding="utf-8"))
    arguments.file.write_text(form(cells), encoding="utf-8")
    print(f"wrote {arguments.file}: {len(cells)} cells")


if __name__ == "__main__":
    main()
