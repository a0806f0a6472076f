"""In a notebook a picture shows itself, and its page can be put into a frame."""

import sys
from html.parser import HTMLParser

import pytest

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


def test_executed_notebook_shows_picture_and_page(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat, nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="needs nbformat, nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbformat, nbclient and ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.create_kernel_manager().kernel_spec.argv[0] = sys.executable
    client.execute()
    (shown,), (frame,) = (cell.outputs for cell in notebook.cells[1:])
    assert set(shown.data) == {"image/svg+xml", "text/plain"}
    assert "&lt;b&gt;x&lt;/b&gt; &amp;" in shown.data["image/svg+xml"] and "<b>" not in shown.data["image/svg+xml"]
    found = Frame(frame.data["text/html"])
    assert found.tags == ["iframe"]
    assert found.page.startswith("<!DOCTYPE html>") and found.page.rstrip().endswith("</html>")
