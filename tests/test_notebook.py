"""In a notebook a picture shows itself, and its page can be put into a frame; the gallery's notebooks run."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from notebooks import cells_of, notebook

import tinygrad_rnn as tg
from tinygrad_rnn.draw import draw

CELLS = [
    "import tinygrad_rnn as tg\nx = tg.Tensor([1.0, 2.0], requires_grad=True, name='<b>x</b> & co')",
    "picture = tg.draw(tg.sum(x * x), title='In a notebook')\npicture",
    "from html import escape\nfrom IPython.display import display\n"
    'frame = f\'<iframe srcdoc="{escape(picture.html())}" width="100%" height="500"></iframe>\'\n'
    "display({'text/html': frame}, raw=True)",
]


class Frame(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.page, self.tags = "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.page = self.page or dict(attrs).get("srcdoc", "")


def picture():
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name='"><script>alert(1)</script>')
    return draw(tg.sum(x * x), title="A & B")


def test_bundle_has_svg_and_text():
    bundle = picture()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/svg+xml"}
    assert bundle["image/svg+xml"].rstrip().endswith("</svg>") and "<script" not in bundle["image/svg+xml"]
    assert bundle["text/plain"].startswith("Picture(")


def test_page_of_a_picture_is_the_file(tmp_path):
    drawn = picture()
    drawn.save(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == drawn.html()
    assert drawn.html().startswith("<!DOCTYPE html>") and "<title>A &amp; B</title>" in drawn.html()


@pytest.fixture
def execute(tmp_path):
    """Run a notebook in an empty folder, with this Python, and return it."""
    reason = "needs nbformat, nbclient and ipykernel"
    nbformat = pytest.importorskip("nbformat", reason=reason)
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)

    def run(text):
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
        client = nbclient.NotebookClient(notebook, timeout=3000, resources={"metadata": {"path": str(tmp_path)}})
        client.create_kernel_manager().kernel_spec.argv[0] = sys.executable
        return client.execute()

    return run


def test_executed_notebook_shows_picture_and_page(execute):
    cells = [
        {"id": f"c{k}", "cell_type": "code", "source": cell, "outputs": [], "execution_count": None, "metadata": {}}
        for k, cell in enumerate(CELLS)
    ]
    notebook = execute(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    (shown,), (frame,) = (cell.outputs for cell in notebook.cells[1:])
    assert set(shown.data) == {"image/svg+xml", "text/plain"}
    assert "&lt;b&gt;x&lt;/b&gt; &amp;" in shown.data["image/svg+xml"] and "<b>" not in shown.data["image/svg+xml"]
    found = Frame(frame.data["text/html"])
    assert found.tags == ["iframe"]
    assert found.page.startswith("<!DOCTYPE html>") and found.page.rstrip().endswith("</html>")


FOLDER = Path(__file__).resolve().parent.parent / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("blog_post"))
# As scripts all run when the site is built; these leave pictures, charts or a page only.
SOME = {"check_my_rule", "cliff", "derived_bptt", "draw_lstm", "lstm_page", "rnn_beside_lstm"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SOME else pytest.mark.full) for n in EXAMPLES]
)
def test_notebook_of_the_gallery_runs_and_shows_its_pictures(name, execute, tmp_path):
    """The pictures named in the source are those it is given when the site is built; a missing one fails to show."""
    pytest.importorskip("matplotlib", reason="some charts need tinygrad-rnn[plot]")
    gallery = pytest.importorskip("gallery", reason="needs tinygrad-rnn[docs]")
    shows, example = gallery.SHOWN, next(e for e in gallery.examples() if e.name == name)
    names = re.findall(rf'"(\w+(?:{"|".join(shows)}))"', example.source)
    notebook = execute(example.notebook(names))
    assert names and sorted(names) == sorted(file.name for file in tmp_path.iterdir() if file.suffix in shows)
    shown = [output for cell in notebook.cells[-len(names) :] for output in cell.outputs]
    kinds = {".svg": "image/svg+xml", ".png": "image/png", ".html": "text/html"}
    assert all(kinds[name[name.index(".") :]] in output.data for name, output in zip(names, shown, strict=True))
    assert "name" in notebook.cells[2].outputs[0] and notebook.cells[2].outputs[0].text.strip()


@pytest.mark.slow
def test_notebook_of_chapter_0_stops_at_its_first_gap(execute):
    """As it is handed out; `test_build_it` fills the gaps."""
    page = FOLDER.parent / "docs" / "chapters" / "00-build-it.md"
    with pytest.raises(Exception, match="step 1: your turn"):
        execute(notebook(cells_of(page.read_text(encoding="utf-8"))))
