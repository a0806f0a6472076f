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


@pytest.fixture(scope="module")
def left_by(tmp_path_factory):
    """The folder that an example leaves behind, and what it printed; run once, with warnings as errors."""
    done = {}

    def run(path):
        if path not in done:
            folder = tmp_path_factory.mktemp(path.stem)
            command = [sys.executable, "-P", "-W", "error", str(path)]
            environment = os.environ | {"PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg"}
            told = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
            assert told.returncode == 0, told.stderr
            done[path] = folder, told.stdout
        return done[path]

    return run


def texts(path):
    """Every label of an SVG picture, in order."""
    return [element.text for element in ElementTree.parse(path).iter() if element.tag.endswith("text")]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_leaves_a_picture(path, left_by):
    folder, printed = left_by(path)
    pictures = [file for file in folder.iterdir() if file.suffix in {".svg", ".png", ".html"}]
    assert pictures and printed.strip()
    assert all(len(texts(file)) > 10 for file in pictures if file.suffix == ".svg")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


def test_readme_shows_what_the_example_draws(left_by):
    folder, _ = left_by(CHECKOUT / "examples" / "rnn_beside_lstm.py")
    assert texts(CHECKOUT / "docs" / "images" / "rnn_beside_lstm.svg") == texts(folder / "rnn_beside_lstm.svg")


def test_examples_say_what_they_show(left_by):
    _, printed = left_by(CHECKOUT / "examples" / "rnn_beside_lstm.py")
    rnn, lstm, opened = (float(re.search(r"at t=1: (\S+)", line)[1]) for line in printed.splitlines())
    assert rnn < 1e-8 and lstm < 1e-8 and opened > 1e-3
    _, printed = left_by(CHECKOUT / "examples" / "exploding.py")
    fading, growing = (float(re.search(r"× (\S+) per step", line)[1]) for line in printed.splitlines())
    assert fading < 1 < growing
    _, printed = left_by(CHECKOUT / "examples" / "two_biases.py")
    assert re.search(r"forget bias 1, input bias 0: not solved", printed)
    assert re.search(r"forget bias 5, input bias -3: solved", printed)
    _, printed = left_by(CHECKOUT / "examples" / "temporal_order.py")
    assert re.search(r"PyTorch's: not solved", printed) and re.search(r"chrono: solved", printed)
    _, printed = left_by(CHECKOUT / "examples" / "zen_of_python.py")
    before, *_, after = (
        float(x) for x in re.findall(r"(?:back': |^\d+ +\S+ +\S+ +\S+ +)(-[\d.]+)", printed, re.MULTILINE)
    )
    assert before < -0.9 < after
