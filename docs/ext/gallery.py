"""The gallery: each example is run as a reader runs it, and its page shows what it printed and what it saved.

After this file the reader knows how a script that only writes files comes to have a picture, a page and a notebook.
Sphinx-gallery runs scripts inside the build, in their own folder; here each is a process of its own in an empty one,
with warnings as errors, so that the page shows what a stranger gets, and the checkout stays clean.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from pathlib import Path

from docutils import nodes
from notebooks import Cell, notebook
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

logger = getLogger(__name__)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PICTURES = (".svg", ".png")
SHOWN = {".svg": "SVG({!r})", ".png": "Image({!r})", ".html": 'IFrame({!r}, "100%", 500)'}
"""How a notebook shows what an example saved, by IPython.display."""


@dataclass(frozen=True)
class Example:
    """A script, taken apart: its docstring's first sentence, the rest of it, and the code below."""

    name: str
    source: str

    @property
    def _docstring(self) -> str:
        return ast.get_docstring(ast.parse(self.source)) or self.name

    @property
    def title(self) -> str:
        """The first clause of the docstring."""
        return re.split(r"[:;.]\s|\.$", " ".join(self._docstring.split()))[0]

    @property
    def text(self) -> str:
        """The docstring."""
        return self._docstring

    @property
    def code(self) -> str:
        """What follows the docstring."""
        first = ast.parse(self.source).body[0]
        return "\n".join(self.source.splitlines()[first.end_lineno or 0 :]).strip() + "\n"

    def notebook(self, pictures: list[str]) -> str:
        """The same as a Jupyter notebook: text, imports, program, and the pictures that it saves."""
        body = ast.parse(self.code).body
        lines = self.code.splitlines()
        last = max(node.end_lineno or 0 for node in body if isinstance(node, ast.Import | ast.ImportFrom))
        cells = ["\n".join(lines[:last]), "\n".join(lines[last:]).strip()]
        for name in pictures:
            show = SHOWN[Path(name).suffix].format(name)
            cells.append(f"from IPython.display import {show.partition('(')[0]}\n\n{show}")
        text = Cell("text", f"# {self.title}\n\n{self.text}")
        return notebook([text, *(Cell("code", cell) for cell in cells)])


def examples() -> list[Example]:
    """Every example, by name, but for the blog post, which is longer and has a page of its own."""
    paths = [path for path in sorted(EXAMPLES.glob("*.py")) if not path.stem.startswith("blog_post")]
    return [Example(path.stem, path.read_text(encoding="utf-8")) for path in paths]


def run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run an example in an empty folder, as its reader does, with warnings as errors."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-P", "-W", "error", str(EXAMPLES / f"{name}.py")]
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False)


def saved(folder: Path) -> list[Path]:
    """The pictures in a folder, oldest first."""
    files = [file for file in folder.iterdir() if file.suffix in PICTURES]
    return sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name))


def said(picture: Path, example: Example) -> str:
    """The text for those who cannot see a picture: what the example is about, and what it printed."""
    printed = " ".join((picture.parent / "printed.txt").read_text(encoding="utf-8").split())
    return escape(f"{example.title}. It printed: {printed[:400]}")


def prepare(app: Sphinx) -> None:
    """Before pages are read: run all examples, two at a time, and write a page for each and one for all."""
    out, pages = Path(app.outdir), Path(app.srcdir) / "gallery"
    pages.mkdir(exist_ok=True)
    found = examples()
    with ThreadPoolExecutor(max_workers=2) as pool:
        runs = list(pool.map(lambda e: run(e.name, out / "_pictures" / "gallery" / e.name), found))
    cards = []
    for example, done in zip(found, runs, strict=True):
        folder = out / "_pictures" / "gallery" / example.name
        (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
        left = saved(folder) or sorted(folder.glob("*.html"))
        if done.returncode or not left:
            logger.warning("examples/%s.py fails or leaves no picture: %s", example.name, done.stderr)
            continue
        notebook = example.notebook([file.name for file in left])
        (folder / f"{example.name}.ipynb").write_text(notebook, encoding="utf-8")
        shutil.copy(EXAMPLES / f"{example.name}.py", folder)
        (pages / f"{example.name}.md").write_text(f"# {example.title}\n\n```{{example}} {example.name}\n```\n", "utf-8")
        cards.append(example.name)
    names = "\n".join(cards)
    intro = (
        "Each is a script of at most eighty lines that needs no window and leaves a picture. The pages show what these"
    )
    (pages / "index.md").write_text(
        f"# Gallery\n\n{intro}\nprinted and drew when this site was built; each is there as a notebook too.\n\n"
        f"```{{example-cards}}\n{names}\n```\n\n```{{toctree}}\n:hidden:\n\n{names}\n```\n",
        encoding="utf-8",
    )
    for stale in {page.stem for page in pages.glob("*.md")} - {"index", *cards}:
        (pages / f"{stale}.md").unlink()


def image(source: str, alt: str) -> str:
    """An image that links to its file."""
    return f'<a class="both" href="{source}"><img class="paper" src="{source}" alt="{alt}" loading="lazy"></a>'


class ExamplePage(SphinxDirective):
    """One example: text, pictures, what it printed, its source, and the notebook."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The body of the page."""
        name = self.arguments[0]
        example = next(e for e in examples() if e.name == name)
        folder = Path(self.env.app.outdir) / "_pictures" / "gallery" / name
        place = f"../_pictures/gallery/{name}"
        shown = "".join(
            f'<figure class="picture wide">{image(f"{place}/{file.name}", said(file, example))}</figure>'
            for file in saved(folder)
        )
        pages = "".join(
            f'<p><a href="{place}/{file.name}">Open {file.name}</a>, the interactive page.</p>'
            for file in sorted(folder.glob("*.html"))
        )
        links = f'<a href="{place}/{name}.py">{name}.py</a> · <a href="{place}/{name}.ipynb">as a notebook</a>'
        printed = (folder / "printed.txt").read_text(encoding="utf-8")
        self.env.note_dependency(str(EXAMPLES / f"{name}.py"))
        return [
            *self.parse_text_to_nodes(example.text),
            nodes.raw("", f"{shown}{pages}<p>Download {links}</p>", format="html"),
            nodes.literal_block(printed, printed, language="text", classes=["output"]),
            nodes.literal_block(example.code, example.code, language="python"),
        ]


class Cards(SphinxDirective):
    """A card with a thumbnail for each example named."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The grid."""
        known = {example.name: example for example in examples()}
        cards = []
        for name in self.content:
            thumbnail = ""  # an example may leave a page only
            for picture in saved(Path(self.env.app.outdir) / "_pictures" / "gallery" / name)[:1]:
                alt = said(picture, known[name])
                thumbnail = f'<img src="../_pictures/gallery/{name}/{picture.name}" alt="{alt}" loading="lazy">'
            cards.append(f'<a class="card" href="{name}.html">{thumbnail}<span>{known[name].title}</span></a>')
        return [nodes.raw("", f'<div class="cards">{"".join(cards)}</div>', format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the two directives and the run before reading."""
    app.connect("builder-inited", prepare)
    app.add_directive("example", ExamplePage)
    app.add_directive("example-cards", Cards)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
