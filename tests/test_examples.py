"""Each example runs as a stranger runs it and leaves a picture; README shows the one that it leaves."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((CHECKOUT / "examples").glob("*.py"))


def texts(path):
    """Every label of an SVG picture, in order."""
    return [element.text for element in ElementTree.parse(path).iter() if element.tag.endswith("text")]


# What an example says, beyond leaving a picture.


def exploding(folder, printed):
    fading, growing = (float(re.search(r"× (\S+) per step", line)[1]) for line in printed.splitlines())
    assert fading < 1 < growing


def rnn_beside_lstm(folder, printed):
    rnn, lstm, opened = (float(re.search(r"at t=1: (\S+)", line)[1]) for line in printed.splitlines())
    assert rnn < 1e-8 and lstm < 1e-8 and opened > 1e-3
    assert texts(CHECKOUT / "docs" / "images" / "rnn_beside_lstm.svg") == texts(folder / "rnn_beside_lstm.svg")


def temporal_order(folder, printed):
    assert re.search(r"PyTorch's: not solved", printed) and re.search(r"chrono: solved", printed)


def two_biases(folder, printed):
    assert re.search(r"forget bias 1, input bias 0: not solved", printed)
    assert re.search(r"forget bias 5, input bias -3: solved", printed)


def zen_of_python(folder, printed):
    before, *_, after = (
        float(x) for x in re.findall(r"(?:back': |^\d+ +\S+ +\S+ +\S+ +)(-[\d.]+)", printed, re.MULTILINE)
    )
    assert before < -0.9 < after


SAYS = {f.__name__: f for f in (exploding, rnn_beside_lstm, temporal_order, two_biases, zen_of_python)}


def test_what_examples_say_is_read_from_examples():
    assert set(SAYS) <= {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_leaves_a_picture(path, tmp_path):
    command = [sys.executable, "-P", "-W", "error", str(path)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg"}
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    if told.returncode and "ImportError: the chart needs matplotlib" in told.stderr:
        pytest.skip("its chart needs the extra [plot]")
    assert told.returncode == 0, told.stderr
    pictures = [file for file in tmp_path.iterdir() if file.suffix in {".svg", ".png", ".html"}]
    assert pictures and told.stdout.strip()
    assert all(len(texts(file)) > 10 for file in pictures if file.suffix == ".svg")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60
    SAYS.get(path.stem, lambda folder, printed: None)(tmp_path, told.stdout)
