"""A Sphinx extension: a page's Python runs while the site is built, and the page shows what it did.

After this file the reader knows what a page can write. A ``python`` block is run, and what it prints stands
below it. ``{value}`slope:.3f``` is a number of this build. ``{picture}`` shows a picture that the code saved, in a
light and a dark version, with a text for those who cannot see it; ``{notebook}`` links to the page as a notebook.
"""

from __future__ import annotations

import re
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from notebooks import cells_of, notebook, script
from pages import Page, chart_style, light_and_dark
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.logging import getLogger

import tinygrad_rnn as tg

logger = getLogger(__name__)


def page_of(env: Any) -> Page:
    """The page that is being read, with what its earlier blocks have left."""
    if "python" not in env.temp_data:
        folder = Path(env.app.outdir) / "_pictures" / env.docname
        folder.mkdir(parents=True, exist_ok=True)
        env.temp_data["python"] = Page(str(env.doc2path(env.docname)), folder)
    page: Page = env.temp_data["python"]
    return page


class PythonBlock(SphinxDirective):
    """Run a block and show it, with what it prints."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The code and its output."""
        code = "\n".join(self.content) + "\n"
        printed = ""
        try:
            with chart_style():
                printed = page_of(self.env).run(code, self.content_offset + 1)
        except BaseException as error:
            logger.warning("this code fails: %s: %s", type(error).__name__, error, location=self.get_location())
        session = code.lstrip().startswith(">>>")
        code = code.rstrip() + "\n"
        shown: list[nodes.Node] = [nodes.literal_block(code, code, language="pycon" if session else "python")]
        if printed.strip():
            shown.append(nodes.literal_block(printed, printed, language="text", classes=["output"]))
        return shown


class Value(SphinxRole):
    """A number of this build."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The value of an expression in the page's namespace."""
        try:
            text = page_of(self.env).value(self.text)
        except Exception as error:
            logger.warning("no value of %s: %s", self.text, error, location=self.get_location())
            text = "?"
        return [nodes.strong(text, re.sub(r"(?<![\d.])-(?=\d)", "−", text), classes=["measured"])], []


class PictureOf(SphinxDirective):
    """A picture that the page's code saved; ``{expressions}`` in its alt text are filled in."""

    has_content = True
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required, "wide": directives.flag}

    def run(self) -> list[nodes.Node]:
        """A figure that links to the file itself, for those who want to zoom."""
        page, name = page_of(self.env), self.arguments[0]
        file = page.folder / name
        if not file.exists() or "alt" not in self.options:
            logger.warning("no picture %s, or no alt text for it", name, location=self.get_location())
            return []
        try:
            alt = str(eval(f"f{self.options['alt']!r}", page.namespace))
        except Exception as error:
            logger.warning("alt text of %s: %s", name, error, location=self.get_location())
            return []
        light_and_dark(file)
        return [figure_of(self, images(self.env.docname, name, alt), "picture")]


def figure_of(directive: SphinxDirective, inside: str, *classes: str) -> nodes.figure:
    """A figure of this HTML, as wide as the directive says; its content is the caption."""
    figure = nodes.figure(classes=[*classes, *(["wide"] if "wide" in directive.options else [])])
    figure += nodes.raw("", inside, format="html")
    if directive.content:
        caption = nodes.caption("", "")
        text, _ = directive.state.inline_text(" ".join(directive.content), directive.lineno)
        caption += text
        figure += caption
    return figure


def images(docname: str, name: str, alt: str) -> str:
    """A picture of the page, in both versions if it has them, each a link to its file."""
    place = "../" * docname.count("/") + f"_pictures/{docname}/{name}"
    quoted = escape(alt)

    def image(source: str, kind: str) -> str:
        return f'<a class="{kind}" href="{source}"><img src="{source}" alt="{quoted}" loading="lazy"></a>'

    if not name.endswith(".svg"):
        return image(place, "both")
    return image(place, "only-light") + image(place.removesuffix("svg") + "dark.svg", "only-dark")


class NotebookOf(SphinxDirective):
    """The page that is being read as a notebook and as a script, with a link to each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The links."""
        cells = cells_of(Path(self.env.doc2path(self.env.docname)).read_text(encoding="utf-8"))
        folder, name = page_of(self.env).folder, self.arguments[0]
        place = "../" * self.env.docname.count("/") + f"_pictures/{self.env.docname}/{name}"
        (folder / f"{name}.ipynb").write_text(notebook(cells), encoding="utf-8")
        (folder / f"{name}.py").write_text(script(cells), encoding="utf-8")
        links = f'<a href="{place}.ipynb" download>a notebook</a>, or <a href="{place}.py" download>a script</a>'
        return [nodes.raw("", f"<p>To work in: {links}, with all that stands here.</p>", format="html")]


def draw_twice(plain: Any) -> Any:
    """A `tg.draw` that also draws the dark version of what a page saves as SVG."""

    @wraps(plain)  # the reference shows its text
    def draw(graph: Any, path: Any = None, **options: Any) -> Any:
        picture = plain(graph, path, **options)
        if path is not None and str(path).endswith(".svg") and "theme" not in options:
            plain(graph, str(path).removesuffix("svg") + "dark.svg", **options, theme="dark")
        return picture

    return draw


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives and the role."""
    app.add_directive("python", PythonBlock)
    app.add_directive("picture", PictureOf)
    app.add_directive("notebook", NotebookOf)
    app.add_role("value", Value())
    tg.draw = draw_twice(tg.draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
