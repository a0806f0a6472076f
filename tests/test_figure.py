"""Charts as they are asked of matplotlib, which need not be there: sizes, formats, bytes that are always the same."""

import contextlib
import re
import sys
import types

import numpy as np
import pytest

from tinygrad_rnn.figure import COLOURS, LINES, check_format, figure_bytes, new_figure, plain, save_figure


class Figure:
    """What is asked of a figure of matplotlib's."""

    def __init__(self, **options):
        self.options, self.saved = options, []

    def savefig(self, buffer, **options):
        self.saved.append({**options, "rc": dict(Figure.rc)})
        buffer.write(b"<a picture>")


@pytest.fixture
def matplotlib(monkeypatch):
    """A matplotlib that notes how it is called."""
    Figure.rc = {}

    @contextlib.contextmanager
    def rc_context(settings):
        Figure.rc.update(settings)
        yield
        Figure.rc.clear()

    for name, holds in (("matplotlib", {"rc_context": rc_context}), ("matplotlib.figure", {"Figure": Figure})):
        made = types.ModuleType(name)
        vars(made).update(holds)
        monkeypatch.setitem(sys.modules, name, made)


def test_a_figure_has_a_size_and_lays_itself_out(matplotlib):
    assert new_figure().options == {"figsize": (8.0, 4.5), "layout": "constrained"}
    assert new_figure(3, 2).options["figsize"] == (3, 2)


def test_without_matplotlib_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"^the chart needs matplotlib: pip install .*plot"):
        new_figure()


@pytest.mark.parametrize(("kind", "metadata"), [("svg", {"Date": None}), ("pdf", {"CreationDate": None}), ("png", {})])
def test_no_date_and_no_chance_is_in_a_file(matplotlib, kind, metadata):
    figure = Figure()
    assert figure_bytes(figure, kind) == b"<a picture>"
    rc = {"svg.hashsalt": "tinygrad-rnn"}
    assert figure.saved == [{"format": kind, "dpi": 150, "metadata": metadata, "rc": rc}]


@pytest.mark.parametrize("name", ["a.svg", "a.png", "A.PDF", "a.b.Svg"])
def test_the_suffix_decides_the_format(matplotlib, name, tmp_path):
    figure = Figure()
    save_figure(figure, tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"<a picture>"
    assert [said["format"] for said in figure.saved] == [name.rpartition(".")[2].lower()]


@pytest.mark.parametrize("name", ["a.jpg", "a", "svg", "a.svg.txt", "a.html"])
def test_another_suffix_is_refused_before_anything_is_drawn(matplotlib, name, tmp_path):
    figure = Figure()
    said = re.escape(f"cannot write a chart to '{name}': the name must end in .svg, .png, .pdf")
    for ask in (lambda: save_figure(figure, tmp_path / name), lambda: check_format(tmp_path / name)):
        with pytest.raises(ValueError, match=f"^{said}$"):
            ask()
    assert not figure.saved and not [*tmp_path.iterdir()]
    with pytest.raises(ValueError, match=r"must end in \.svg, \.png, \.pdf, \.csv$"):
        check_format(tmp_path / name, ".csv")


def test_one_more_suffix_may_be_taken(tmp_path):
    assert check_format("a.CSV", ".csv").name == "a.CSV"
    assert check_format(str(tmp_path / "a.svg")) == tmp_path / "a.svg"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("costs $5 or $6", r"costs \$5 or \$6"),
        ("two\nlines", "two\nlines"),
        ("a\x00b\x1bc", None),
        ("x² − 1", "x² − 1"),
    ],
)
def test_text_is_shown_as_it_is(text, shown):
    found = plain(text)
    assert found == shown if shown else not re.search(r"[\x00-\x09\x0b-\x1f]", found)


def test_lines_are_told_apart_by_colour_and_by_form():
    assert len({*COLOURS}) == len(COLOURS) == 6 and len({*LINES}) == len(LINES) == 4
    assert {*LINES} == {"-", "--", ":", "-."} and LINES[0] == "-"
    channels = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS])
    apart = [np.abs(a - b).max() for i, a in enumerate(channels) for b in channels[:i]]
    assert min(apart) > 60 and all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in COLOURS)
