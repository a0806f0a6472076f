"""What a reader does in a page: predict before the result is shown, and move a slider through measured pictures.

After this file the reader knows why a page needs no server for it. All pictures are made while the site is built;
`static/live.js` hides what was not asked for yet, and without it, or on paper, everything is there.

``{predict}`` asks a question with three choices. Which is right is said by ``:right:``, and must hold by what the page
has measured (``:holds:``, an expression that is evaluated when the page is done). ``{slider} NAME`` shows NAME-0.svg,
NAME-1.svg, ... that the code saved, under the texts that the expression ``:labels:`` gives.
"""

from __future__ import annotations

from html import escape
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from pages import Page, light_and_dark
from run_python import figure_of, images
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

logger = getLogger(__name__)
CHOICES = 3


def html(text: str) -> nodes.raw:
    """A piece of a page."""
    return nodes.raw("", text, format="html")


class Predict(SphinxDirective):
    """A question, and three choices as the last list."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "right": directives.positive_int,
        "holds": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """A group of buttons of which one can be on."""
        found = self.parse_content_to_nodes()
        choices = found.pop() if found and isinstance(found[-1], nodes.bullet_list) else nodes.bullet_list()
        right = self.options.get("right", 0)
        if len(choices) != CHOICES or not 1 <= right <= CHOICES or "holds" not in self.options:
            logger.warning("a prediction has three choices, :right: and :holds:", location=self.get_location())
            return []
        self.env.temp_data.setdefault("predictions", []).append((self.options["holds"], self.get_location()))
        key = escape(self.env.docname)
        shown: list[nodes.Node] = [
            html(f'<fieldset class="predict" data-key="{key}" data-right="{right}"><legend>Predict first</legend>'),
            *found,
        ]
        for k, choice in enumerate(choices, 1):
            line = nodes.paragraph(classes=["choice"])
            line += html(f'<label><input type="radio" name="predict" value="{k}"> <span>')
            line += choice[0].children
            line += html("</span></label>")
            shown.append(line)
        said = '<p class="said" role="status"></p>'
        buttons = (
            '<p class="skip"><button type="button">Show the rest without an answer</button></p>'
            '<p class="again"><button type="button">Ask me again</button></p>'
        )
        return [*shown, html(f"{said}{buttons}</fieldset>")]


def check_predictions(app: Sphinx, doctree: nodes.document) -> None:
    """After a page was read: what it calls right is what it has measured."""
    data = app.env.temp_data
    for holds, location in data.get("predictions", []):
        try:
            truth = bool(eval(holds, data["python"].namespace))
        except Exception as error:
            truth = False
            logger.warning("a prediction cannot be judged: %s", error, location=location)
        if not truth:
            logger.warning("what is called right was not measured: %s", holds, location=location)


class Slider(SphinxDirective):
    """Pictures of which one is shown at a time; its caption is the content."""

    has_content = True
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
        "labels": directives.unchanged_required,
        "of": directives.unchanged_required,
        "wide": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """A figure with a range below."""
        page: Page = self.env.temp_data["python"]
        name, options = self.arguments[0], self.options
        try:
            labels = [str(label) for label in eval(options["labels"], page.namespace)]
            alt = str(eval(f"f{options['alt']!r}", page.namespace))
            what = escape(options["of"])
            for k in range(len(labels)):
                light_and_dark(page.folder / f"{name}-{k}.svg")
        except Exception as error:
            logger.warning("no slider %s: %r", name, error, location=self.get_location())
            return []
        docname = self.env.docname
        frames = "".join(
            frame(label, images(docname, f"{name}-{k}.svg", f"{label}. {alt}")) for k, label in enumerate(labels)
        )
        control = (
            f'<div class="control"><label>{what} <input type="range" min="0" max="{len(labels) - 1}" value="0" '
            f'aria-label="{what}"></label></div>'
        )
        return [figure_of(self, f'{control}<div class="frames">{frames}</div>', "picture", "slider")]


def frame(label: str, pictures: str) -> str:
    """One picture with its text, which is read out when it is chosen."""
    return f'<div class="frame" data-label="{escape(label)}"><p class="label">{escape(label)}</p>{pictures}</div>'


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives and the check."""
    app.add_directive("predict", Predict)
    app.add_directive("slider", Slider)
    app.connect("doctree-read", check_predictions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
