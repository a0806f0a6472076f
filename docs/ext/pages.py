"""Run the Python of a page: what the site shows and what the tests check come from this one place.

After this file the reader knows why no number on the site is pasted. A page is Markdown; its ``python`` blocks run from
top to bottom in one namespace, and a number in its prose is an expression in that namespace, written
``{value}`slope:.3f```. From the shell, with other seeds if you like:

    python docs/ext/pages.py docs/chapters/03-vanish.md --set "seeds=range(10, 20)"

prints every value the page would show.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import doctest
import io
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^(?P<ticks>```+)(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=ticks)$", re.MULTILINE | re.DOTALL)
VALUE = re.compile(r"\{value\}`([^`]+)`")
LIGHT_TO_DARK = {
    "#ffffff": "#131416",  # the page's own background
    "#1f2328": "#e6edf3",
    "#000000": "#e6edf3",  # arrows
    "#d0d7de": "#3a424c",
    "#0072b2": "#56b4e9",
}
"""What a chart's colours become on a dark page; the others are legible on both."""

STYLE = {
    "figure.figsize": (5.2, 3.6),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "#ffffff",
    "axes.facecolor": "#ffffff",
    # Okabe and Ito's colours, which the colour-blind tell apart; lines differ in dashes as well where they cross.
    "axes.prop_cycle": "cycler('color', ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#7f7f7f'])",
    "axes.edgecolor": "#1f2328",
    "axes.labelcolor": "#1f2328",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#d0d7de",
    "grid.linewidth": 0.6,
    "text.color": "#1f2328",
    "xtick.color": "#1f2328",
    "ytick.color": "#1f2328",
    "font.size": 11,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.hashsalt": "tinygrad_rnn",
}


def blocks(text: str, language: str) -> Iterator[tuple[int, str]]:
    """The fenced blocks of a language, each with the number of the line on which its code begins."""
    for found in FENCE.finditer(text):
        if found["language"] == language:
            yield text.count("\n", 0, found.start("code")) + 1, found["code"]


PREDICT = re.compile(r"^:::\{predict\}\n((?:^:[^\n]*\n)+)\n(.*?)^:::$", re.MULTILINE | re.DOTALL)


def predictions(text: str) -> list[dict[str, str]]:
    """The options of each prediction in a page's Markdown, and its text."""
    found = []
    for block in PREDICT.finditer(text):
        options = dict(re.findall(r"^:(\w+): (.*)$", block[1], re.MULTILINE))
        found.append(options | {"text": block[2].strip()})
    return found


class Page:
    """The namespace in which one page runs, and the folder that its pictures go to."""

    def __init__(self, filename: str, folder: Path, instead: Mapping[str, str] | None = None) -> None:
        self.filename, self.folder = filename, folder
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.quoted: dict[str, str] = {}
        self.instead = dict(instead or {})

    def run(self, code: str, line: int) -> str:
        """Run a block that begins on this line of the file; return what it printed. A session is compared as well."""
        if code.lstrip().startswith(">>>"):
            return self._session(code, line)
        # Blank lines in front, so that a traceback names the page's own line.
        tree = ast.parse("\n" * (line - 1) + code, self.filename)
        printed = io.StringIO()
        with self._inside(), contextlib.redirect_stdout(printed):
            exec(compile(_replaced(tree, self.instead), self.filename, "exec"), self.namespace)
        return printed.getvalue()

    def _session(self, code: str, line: int) -> str:
        test = doctest.DocTestParser().get_doctest(code, self.namespace, self.filename, self.filename, line - 1)
        report: list[str] = []
        with self._inside():
            doctest.DocTestRunner().run(test, out=report.append, clear_globs=False)
        assert not report, "".join(report)
        self.namespace |= test.globs
        return ""

    def value(self, text: str) -> str:
        """An expression with a format, such as ``slope:.3f``, as text."""
        return str(eval(f'f"""{{{text}}}"""', self.namespace))

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """In the page's folder, with every warning an error: a page that warns would teach a warning."""
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                yield
        finally:
            os.chdir(before)


def _replaced(tree: ast.Module, instead: Mapping[str, str]) -> ast.Module:
    """The program with other right-hand sides for some top-level names, also in ``a, b = 1, 2``."""
    for node in tree.body:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Name) and target.id in instead:
            node.value = ast.parse(instead[target.id], mode="eval").body
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for k, part in enumerate(target.elts):
                if isinstance(part, ast.Name) and part.id in instead:
                    value.elts[k] = ast.parse(instead[part.id], mode="eval").body
    return ast.fix_missing_locations(tree)


def run(text: str, filename: str, folder: Path, instead: Mapping[str, str] | None = None) -> Page:
    """Run every Python block of a page and evaluate every value, in order; `instead` overrides top-level names."""
    page = Page(filename, folder, instead)
    for found in re.finditer(f"(?ms:{FENCE.pattern})|{VALUE.pattern}", text):
        if found["language"] == "python":
            page.run(found["code"], text.count("\n", 0, found.start("code")) + 1)
        elif expression := found[found.re.groups]:
            page.quoted[expression] = page.value(expression)
    return page


@contextlib.contextmanager
def chart_style() -> Iterator[None]:
    """The looks of every chart on the site: no window, large type, colours for everybody."""
    os.environ["MPLBACKEND"] = "Agg"
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    with mpl.rc_context(STYLE):
        try:
            yield
        finally:
            plt.close("all")


def darker(svg: str) -> str:
    """The same chart for a dark page."""
    return re.sub("|".join(LIGHT_TO_DARK), lambda found: LIGHT_TO_DARK[found[0]], svg)


def light_and_dark(file: Path) -> None:
    """Write the dark version of a picture that a page saved."""
    if not file.exists():
        raise FileNotFoundError(file.name)
    dark = file.with_suffix(".dark.svg")  # `tg.draw` has drawn it; for a chart, that of an earlier build is older
    if file.suffix == ".svg" and not (dark.exists() and dark.stat().st_mtime_ns >= file.stat().st_mtime_ns):
        dark.write_text(darker(file.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> None:
    """Run one page and print its values."""
    parser = argparse.ArgumentParser(description="Run one page and print every value that its prose quotes.")
    parser.add_argument("page", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=EXPRESSION", help='"seeds=range(10, 20)"')
    arguments = parser.parse_args()
    text = arguments.page.read_text(encoding="utf-8")
    instead = {name.strip(): value for name, _, value in (item.partition("=") for item in arguments.set)}
    lefts = (line for _, code in blocks(text, "python") for line in re.findall(r"^([\w, ]+) = ", code, re.MULTILINE))
    known = {name.strip() for left in lefts for name in left.split(",")}
    if missing := sorted(instead.keys() - known):
        parser.error(f"{arguments.page} sets no {', '.join(missing)}; it sets {', '.join(sorted(known))}")
    with tempfile.TemporaryDirectory() as folder, chart_style():
        page = run(text, str(arguments.page), Path(folder), instead)
    for expression, value in page.quoted.items():
        print(f"{value:>16}  {expression}")


if __name__ == "__main__":
    main()
