"""In a notebook a picture shows itself, and its page can be put into a frame; the gallery's notebooks run."""

import codecs
import gzip
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from notebooks import cells_of, notebook

import tinygrad_rnn as tg
from tinygrad_rnn.diagnose import gradient_flow
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
    assert set(bundle) == {"text/plain", "text/html", "image/svg+xml"}
    assert bundle["text/html"] == picture()._repr_html_() and "<script" not in bundle["text/html"]
    assert bundle["image/svg+xml"].rstrip().endswith("</svg>") and "<script" not in bundle["image/svg+xml"]
    assert bundle["text/plain"].startswith("Picture(")


def test_page_of_a_picture_is_the_file(tmp_path):
    drawn = picture()
    drawn.save(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == drawn.html()
    assert drawn.html().startswith("<!DOCTYPE html>") and "<title>A &amp; B</title>" in drawn.html()


def network(steps, kind="LSTM"):
    _, state = tg.unroll(getattr(tg, f"{kind}Cell")(1, 8, rng=0), np.sin(np.arange(float(steps)))[:, None, None])
    return tg.gradient_graph(tg.sum(state[0] if kind == "LSTM" else state))


@pytest.mark.parametrize("steps", [2, 12, 30])
def test_pictures_graphs_and_rates_show_themselves_as_wide_as_a_cell(steps):
    graph = network(steps)
    shown = [draw(graph)._repr_html_(), graph._repr_html_(), tg.gradient_through_time(graph)._repr_html_()]
    assert shown[0] == shown[1]
    for text in shown:
        root = ElementTree.fromstring(text)
        style = dict(part.split(":") for part in root.get("style").split(";"))
        assert style["width"] == "100%" and 600 < int(style["max-width"][:-2]) < 1000 and root.get("width") is None
        smallest = min(float(e.get("font-size")) for e in root.iter() if e.tag.endswith("}text"))
        pixels = int(style["max-width"][:-2]) / float(root.get("viewBox").split()[2])
        assert smallest * pixels > 13.9
        assert sum(e.tag.endswith("}title") for e in root.iter()) > 3  # a text for every box, edge and row
    assert "svg" not in str(draw(graph)) and len(draw(graph, theme="dark")._repr_html_()) < len(shown[0])


def test_a_graph_too_large_for_a_picture_is_text(monkeypatch):
    monkeypatch.setattr(sys.modules["tinygrad_rnn.draw.sight"], "MAX_EDGES", 3)
    assert network(3)._repr_html_() is None


def test_the_style_of_a_picture_ends_at_its_border():
    """Every rule begins with the picture's own name, or with what a page says of itself before that."""
    for text in (draw(network(2))._repr_html_(), draw(network(30))._repr_html_()):
        own = "#" + re.search(r'id="(p\w+)"', text)[1]
        style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1].replace("@media(prefers-color-scheme:dark){", "")
        selectors = [part for rule in re.findall(r"([^{}]+)\{", style) for part in rule.strip().split(",")]
        assert selectors and all(own in part.split() for part in selectors)
        assert "light-dark" not in style and re.search(r"\.f\d+\{fill:var\(--c\d+\)\}", style)
    assert "var(" not in draw(network(2)).svg() + draw(network(2), theme="dark")._repr_html_().replace("var(--c", "")


@pytest.fixture
def browse(tmp_path):
    """Opens a page in headless Chromium and gives back the document as it then is."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no browser is on PATH")

    def run(text):
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}", "--dump-dom"]
        done = subprocess.run([program, *flags, path.as_uri()], capture_output=True, timeout=600)
        return done.stdout.decode("utf-8")

    return run


@pytest.mark.slow
def test_two_pictures_follow_their_page_and_leave_each_other_alone(browse):
    one, other = draw(network(2))._repr_html_(), draw(network(30))._repr_html_()
    page = f"<!doctype html><meta charset=utf-8><body><div id=a>{one}</div><div id=b class=dark>{other}</div>"
    drive = """<pre id=found></pre><script>
    const ink = (q) => getComputedStyle(document.querySelector(q + " svg > rect")).fill;
    const before = [ink("#a"), ink("#b")];
    document.body.setAttribute("data-jp-theme-light", "false");
    const after = [ink("#a"), ink("#b")], wide = document.querySelector("#a svg").getBoundingClientRect().width;
    document.querySelector("#found").textContent = JSON.stringify([before, after, wide <= innerWidth]);
    </script>"""
    before, after, fits = json.loads(re.search(r"<pre id=\"?found\"?>(.*?)</pre>", browse(page + drive))[1])
    assert before[0] != before[1] and after == [before[1]] * 2 and fits


PUBLIC = {
    "loss": lambda graph: graph.nodes[-1],
    "graph": lambda graph: graph,
    "steps": lambda graph: graph.collapse("step"),
    "node": lambda graph: max(graph.nodes, key=lambda node: 0 if node.value is None else node.value.size),
    "step": lambda graph: graph.collapse("step").nodes[-2],
    "edge": lambda graph: graph.collapse("step").edges[-2],
    "contribution": lambda graph: next(e.carried for e in graph.edges if e.carried is not None),
    "picture": draw,
    "drawing": lambda graph: draw(graph).drawing,
    "group": lambda graph: next(item for item in draw(graph).drawing.items if hasattr(item, "marks")),
    "scale": lambda graph: draw(graph).scale,
    "rates": tg.gradient_through_time,
    "rate": lambda graph: tg.gradient_through_time(graph)["h"],
}


@pytest.fixture(scope="module")
def thousand():
    return network(1000, "RNN")


@pytest.mark.parametrize("what", PUBLIC)
def test_nothing_is_long_at_a_prompt(thousand, what):
    assert 10 < len(repr(PUBLIC[what](thousand))) < 2000


def test_nor_is_a_graph_of_pytorch():
    torch = pytest.importorskip("torch")
    from tinygrad_rnn.torch import gradient_graph, record

    lstm = torch.nn.LSTM(2, 3)
    with record(lstm) as run:
        loss = lstm(torch.ones(30, 1, 2))[0][-1].square().sum()
    for graph in (run.graph(loss), run.graph(loss).collapse("step"), gradient_graph(loss)):
        assert len(repr(graph)) < 100


def test_no_part_of_a_report_is_long_at_a_prompt():
    report = gradient_flow(tg.RNN(1, 8, rng=0), np.sin(np.arange(150.0))[:, None, None])
    assert len(repr(report)) < 2000
    for name in (name for name in dir(report) if not name.startswith("_")):
        value = getattr(report, name)
        for part in (
            value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        ):
            assert len(repr(part)) < 2000 or isinstance(part, np.ndarray), name


# --- files that are open already -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["svg", "html", "dot"])
def test_a_file_of_text_or_of_bytes_is_written_and_left_open(kind, tmp_path):
    graph = network(2)
    draw(graph, tmp_path / f"a.{kind}")
    expected = (tmp_path / f"a.{kind}").read_bytes().decode()
    text, data = io.StringIO(), io.BytesIO()
    draw(graph, text, format=kind)
    draw(graph, data, format=kind)
    assert text.getvalue() == data.getvalue().decode() == expected
    with (tmp_path / f"b.{kind}").open("w", encoding="utf-8", newline="") as file:
        draw(graph, file)  # by its name
        assert not file.closed
    with (tmp_path / f"c.{kind}").open("wb") as file:
        draw(graph).save(file)
    assert {(tmp_path / f"{name}.{kind}").read_bytes().decode() for name in "bc"} == {expected}


class Kept:
    """A file of one's own, of what it is given first."""

    def __init__(self, what):
        self.parts = what

    def write(self, part):
        self.parts += part


def test_what_a_file_takes_decides_whether_it_is_of_text_or_of_bytes(tmp_path):
    """Also of what is no instance of what `io` calls a file of text."""
    picture, text, data = draw(network(1)), Kept(""), Kept(b"")
    with (
        codecs.getwriter("utf-8")((tmp_path / "a").open("wb")) as coded,
        tempfile.NamedTemporaryFile("w", encoding="utf-8") as named,
        tempfile.SpooledTemporaryFile(mode="w", encoding="utf-8") as spooled,
        tempfile.NamedTemporaryFile() as binary,
        gzip.open(tmp_path / "b", "wb") as packed,
    ):
        for file in (text, data, coded, named, spooled, binary, packed):
            picture.save(file, "svg")
        for file in (text, coded, named, spooled):
            with pytest.raises(ValueError, match="is bytes"):
                picture.save(file, "png")
    written = (tmp_path / "a").read_bytes(), gzip.decompress((tmp_path / "b").read_bytes())
    assert {text.parts.encode(), data.parts, *written} == {picture.svg().encode()}


def test_files_that_say_no_format_or_cannot_hold_it_are_refused(tmp_path):
    graph, data = network(1), io.BytesIO()
    draw(graph, data, format="png")
    assert data.getvalue().startswith(b"\x89PNG")
    for file, format, words in (
        (io.StringIO(), None, 'format="svg" say which'),
        (io.StringIO(), "png", "is bytes"),
        (io.BytesIO(), "jpg", "give one of 'svg'"),
        (tmp_path / "a.jpg", None, r"end in one of \.svg"),
    ):
        with pytest.raises(ValueError, match=words):
            draw(graph, file, format=format)
    draw(graph, tmp_path / "picture", format="svg")
    assert (tmp_path / "picture").read_text().startswith("<svg")


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
    assert set(shown.data) == {"image/svg+xml", "text/plain", "text/html"}
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
