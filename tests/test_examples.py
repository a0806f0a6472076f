"""Each example runs and leaves a picture; README shows the one that it leaves. As scripts the gallery runs them."""

import re
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import tinygrad_rnn as tg

CHECKOUT = Path(__file__).resolve().parent.parent
# The blog post has tests of its own, test_claims.py.
EXAMPLES = [path for path in sorted((CHECKOUT / "examples").glob("*.py")) if not path.stem.startswith("blog_post")]


def texts(path):
    """Every label of an SVG picture, in order."""
    return [element.text for element in ElementTree.parse(path).iter() if element.tag.endswith("text")]


# What an example says, beyond leaving a picture.


def exploding(folder, printed):
    fading, growing = (float(re.search(r"× (\S+) per step", line)[1]) for line in printed.splitlines())
    assert fading < 1 < growing


def film(folder, printed):
    closed, opened = (float(re.search(r"at t=1: (\S+)", line)[1]) for line in printed.splitlines())
    assert closed < 0.001 and opened > 0.1
    assert texts(CHECKOUT / "docs" / "images" / "film.svg") == texts(folder / "film.svg")


def rnn_beside_lstm(folder, printed):
    rnn, lstm, opened = (float(re.search(r"at t=1: (\S+)", line)[1]) for line in printed.splitlines())
    assert rnn < 1e-8 and lstm < 1e-8 and opened > 1e-3
    assert texts(CHECKOUT / "docs" / "images" / "rnn_beside_lstm.svg") == texts(folder / "rnn_beside_lstm.svg")


def temporal_order(folder, printed):
    assert re.search(r"PyTorch's: not solved", printed) and re.search(r"chrono: solved", printed)


def training_opens_the_gates(folder, printed):
    found = re.findall(r"untrained ([\d.]+) .*? gate ([\d.]+); trained for \d+ updates (-?[\d.]+), ([\d.]+)", printed)
    assert len(found) == 3
    for before, closed, after, opened in (map(float, row) for row in found):
        assert 17 < before < 21 and closed < 0.7 and -1 < after < 4 and opened > 0.85


def two_biases(folder, printed):
    assert re.search(r"forget bias 1, input bias 0: not solved", printed)
    assert re.search(r"forget bias 5, input bias -3: solved", printed)


def zen_of_python(folder, printed):
    before, *_, after = (
        float(x) for x in re.findall(r"(?:back': |^\d+ +\S+ +\S+ +\S+ +)(-[\d.]+)", printed, re.MULTILINE)
    )
    assert before < -0.9 < after


SAYS = {
    f.__name__: f
    for f in (exploding, film, rnn_beside_lstm, temporal_order, training_opens_the_gates, two_biases, zen_of_python)
}


def test_what_examples_say_is_read_from_examples():
    assert set(SAYS) <= {path.stem for path in EXAMPLES}


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_leaves_a_picture(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    known = set(tg.OPS)
    try:
        runpy.run_path(str(path), run_name="__main__")
    except ImportError as error:
        if "the chart needs matplotlib" not in str(error):
            raise
        pytest.skip("its chart needs the extra [plot]")
    finally:
        for name in set(tg.OPS) - known:
            del tg.OPS[name]
    printed = capsys.readouterr().out
    pictures = [file for file in tmp_path.iterdir() if file.suffix in {".svg", ".png", ".html"}]
    assert pictures and printed.strip()
    assert all(len(texts(file)) > 10 for file in pictures if file.suffix == ".svg")
    SAYS.get(path.stem, lambda folder, printed: None)(tmp_path, printed)
