"""Chapter 0: its engine equals ours, its tests fail until a gap is filled rightly, and its notebook has them all."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from notebooks import cells_of, notebook, script
from pages import FENCE, run

import tinygrad_rnn as tg

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "chapters" / "00-build-it.md"
TEXT = PAGE.read_text(encoding="utf-8")
STEPS = TEXT.split("\n## Step ")[1:]
SOLUTION = re.compile(r"^:::\{dropdown\} One solution\n```python\n(.*?)^```\n:::$", re.MULTILINE | re.DOTALL)
DRAWS = re.compile(r"^picture\(.*\n", re.MULTILINE)
SOLUTIONS = [SOLUTION.search(step)[1] for step in STEPS]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """What the page has defined when its last block has run."""
    return run(TEXT, str(PAGE), tmp_path_factory.mktemp("page")).namespace


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_gradients_equal_ours_on_any_unrolled_lstm(engine, steps, batch, inputs, hidden, seed):
    rng = np.random.default_rng(seed)
    cell = tg.LSTMCell(inputs, hidden, rng=seed)
    difference = engine["largest_difference"](cell, rng.normal(size=(steps, batch, inputs)))
    assert difference < 1e-12


def test_every_step_leaves_its_picture(engine, tmp_path):
    run(TEXT, str(PAGE), tmp_path)
    assert len(list(tmp_path.glob("*.svg"))) == len(STEPS) == 5


def test_picture_shows_the_gradients_of_the_engine(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = engine["Value"](3.0, name="x")
    loss = x * x + x
    engine["picture"](loss, "a.svg", *engine["sweep"](loss))
    labels = [element.text for element in ElementTree.parse("a.svg").iter() if element.tag.endswith("text")]
    assert sorted(label for label in labels if label in {"+1", "+3"}) == ["+1", "+1", "+3", "+3"]
    assert "+3 + 3 + 1 = 7" in labels


def page_until(k, solution):
    """The page up to the test of step k, with another solution there."""
    before, step, _ = DRAWS.sub("", TEXT).partition(DRAWS.sub("", STEPS[k]))
    assert SOLUTIONS[k] in step
    end = re.compile(r"^:::\{dropdown\} Test \d$.*?^:::$", re.MULTILINE | re.DOTALL).search(step).end()
    return before + step[:end].replace(SOLUTIONS[k], solution)


@pytest.mark.parametrize("k", range(5))
def test_gap_that_is_not_filled_is_noticed(k, tmp_path):
    with pytest.raises((AssertionError, NotImplementedError, AttributeError, ValueError)):
        run(page_until(k, "pass\n"), "page", tmp_path)


WRONG = [  # step, what stands in the solution, what a learner may have written instead
    (0, "next(born)", "-next(born)"),
    (0, "next(born)", "0"),
    (0, "self.op, self.operands, self.age = op, operands,", "self.op, self.operands, self.age = op, operands[:1],"),
    (0, "Value(result, op, operands, name)", "Value(result, op, operands)"),
    (0, "Value(result, op, operands, name)", "Value(result, op, [Value(x.data) for x in operands], name)"),
    (0, "Value(result, op, operands, name)", "result"),
    (1, "g * b, lambda g, y, a, b: g * a", "g * a, lambda g, y, a, b: g * b"),
    (1, "g * b, lambda g, y, a, b: g * a", "b, lambda g, y, a, b: a"),
    (1, "g * (1 - y * y)", "g * (1 - x * x)"),
    (1, "g * (1 - y * y)", "1 - y * y"),
    (1, "RULES.get(node.op, [])", "RULES[node.op]"),
    (2, "total.get(x, 0.0) + part", "part"),
    (2, "sorted(found, key=lambda x: x.age, reverse=True)", "sorted(found, key=lambda x: x.age)"),
    (2, "sorted(found, key=lambda x: x.age, reverse=True)", "list(dict.fromkeys([result, *found]))"),
    (2, "sent[node] = send_back(node, total[node])", "sent[node] = send_back(node, total[loss])"),
    (2, "found, waiting = {result}, [result]", "found, waiting = set(), [result]"),
    (3, "np.ndim(g) - len(shape)", "0"),
    (3, "if n == 1", "if n == 0"),
    (3, "keepdims=True", "keepdims=False"),
    (3, "g * y * (1 - y)", "g * (1 - y)"),
    (3, "g @ W, ", "g @ W.T, "),
    (3, "g.T @ x", "x.T @ g"),
    (3, "g * np.ones_like(x)", "g * x"),
    (3, "[unbroadcast(*pair) for pair in zip(parts, shapes, strict=True)]", "parts"),
    (4, "f * c + i *", "i * c + f *"),
    (4, 'o * apply("tanh", c)', "o * c"),
    (4, 'gate("o", "sigmoid")', 'gate("o", "tanh")'),
    (4, ' + apply("linear", h, w["U_" + name])', ""),
    (4, 'z + w["b_" + name]', "z"),
    (4, "h, c = lstm(", "h, _ = lstm("),
]


@pytest.mark.parametrize(("k", "right", "wrong"), WRONG)
def test_gap_that_is_filled_wrongly_is_noticed(k, right, wrong, tmp_path):
    assert SOLUTIONS[k].count(right) == 1
    with pytest.raises((AssertionError, ValueError, AttributeError, KeyError, RuntimeError, TypeError)):
        run(page_until(k, SOLUTIONS[k].replace(right, wrong)), "page", tmp_path)


# --- as a notebook, and as a script ---


def test_notebook_hides_tests_and_folds_solutions():
    cells = json.loads(notebook(cells_of(TEXT)))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    hidden = [cell for cell in code if "hide-input" in cell["metadata"].get("tags", [])]
    tests = [cell for cell in code if re.match(r"def test_|def compare|def weights", cell["source"])]
    assert len(tests) == 5 and all(cell in hidden for cell in tests)
    for solution in SOLUTIONS:
        (folded,) = (cell for cell in cells if solution.strip() in cell["source"])
        assert folded["cell_type"] == "markdown" and folded["source"].startswith("<details>")
    text = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    text = FENCE.sub("", text)
    assert not re.search(r"^:::|\{\w+\}|\]\((?!https)", text, re.MULTILINE), "what only the site understands"


def test_notebook_is_the_page_when_its_gaps_are_filled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace, solutions = {"__name__": "__main__"}, iter(SOLUTIONS)
    for cell in json.loads(notebook(cells_of(TEXT)))["cells"]:
        if cell["cell_type"] == "code":
            gap = "your turn" in cell["source"].lower()
            exec(compile(next(solutions) if gap else cell["source"], "cell", "exec"), namespace)
            if gap and "import" in cell["source"]:
                pytest.fail("what the rest needs stands in a cell that the reader changes")
    assert len(list(tmp_path.glob("*.svg"))) == 5


def test_script_stops_at_the_first_gap_and_runs_when_all_are_filled(tmp_path):
    text = script(cells_of(TEXT))
    command = [sys.executable, "build_it.py"]
    how = {"cwd": tmp_path, "capture_output": True, "encoding": "utf-8", "check": False}
    (tmp_path / "build_it.py").write_text(text, encoding="utf-8")
    done = subprocess.run(command, **how)
    assert done.returncode == 1 and done.stderr.endswith("NotImplementedError: step 1: your turn\n")
    gaps = [cell.source for cell in cells_of(TEXT) if cell.kind == "code" and "your turn" in cell.source.lower()]
    for gap, solution in zip(gaps, SOLUTIONS, strict=True):
        text = text.replace(gap, solution)
    (tmp_path / "build_it.py").write_text(text, encoding="utf-8")
    done = subprocess.run(command, **how)
    assert done.returncode == 0 and done.stdout.count(" is right.") == 5, done.stderr


def test_work_is_not_overwritten(tmp_path):
    command = [sys.executable, str(CHECKOUT / "docs" / "ext" / "notebooks.py"), str(PAGE)]
    for name, code in (("a.ipynb", 0), ("a.ipynb", 2), ("a.py", 0), ("a.txt", 2)):
        done = subprocess.run([*command, str(tmp_path / name)], capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == code, done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.ipynb", "a.py"]
