"""``tinygrad-rnn check``: what it finds in a file, what it says, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.cli import main
from tinygrad_rnn.extras import how_to_install
from tinygrad_rnn.testing.command import UnusableError, check_file

HEAD = "import numpy as np\nimport tinygrad_rnn as tg\n"
RIGHT = (
    'swish = tg.primitive("swish", lambda x: x / (1 + np.exp(-x)), lambda g, y, x: g * (y + (1 - y) * tg.sigmoid(x)))\n'
)
WRONG = 'cube = tg.primitive("cube", lambda x: x**3, lambda g, y, x: 2 * g * x * x)\n'
STATIC = 'bell = tg.primitive("bell", lambda x, *, s: np.exp(-x * x / s), lambda g, y, x, *, s: -2 * g * y * x / s)\n'
CELL = """
class Leaky:
    def __init__(self, leak{default}):
        self.leak = leak
        self.W = tg.Tensor(np.random.default_rng(0).normal(size=(3, 2)), requires_grad=True, name="W")

    def parameters(self):
        return {{"W": self.W}}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, 3)))

    def __call__(self, x, h):
        return {step}
"""
RIGHT_STEP = "(1 - self.leak) * h + self.leak * tg.tanh(x @ self.W.T)"


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Write a module and check it: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*sources, name="mine"):
        (tmp_path / f"{name}.py").write_text(HEAD + "".join(sources), encoding="utf-8")
        before = dict(tg.OPS), list(sys.path)
        code = main(["check", f"{name}.py"])
        assert before == (tg.OPS, sys.path) and name not in sys.modules
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_right_primitive(check):
    code, out, err = check(RIGHT)
    assert (code, err) == (0, "")
    assert out == "ok      swish: 10 checks on 10 examples, 368 derivatives compared\n"


def test_an_error_is_told_with_the_line_that_raised_it_and_not_the_one_that_called(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def inner():\n    return 1 / 0\n\n\ndef outer():\n    return inner()\n\n\nouter()\n")
    with pytest.raises(UnusableError, match=r"mine\.py:2: ZeroDivisionError"):
        check_file(path, print)


def test_one_line_for_each_object_and_the_report_of_what_failed(check):
    code, out, err = check(RIGHT, WRONG, CELL.format(default="=0.3", step=RIGHT_STEP))
    assert (code, err) == (1, "")
    lines = [line for line in out.splitlines() if not line.startswith(" ")]
    assert [line.split(":")[0] for line in lines] == ["ok      swish", "FAILED  cube", "ok      Leaky"]
    assert "likely cause: off by a constant factor of 0.666667 = 2/3 (for shapes (3,))\n" in out


def test_the_same_file_can_be_checked_again(check):
    assert check(RIGHT, WRONG) == check(RIGHT, WRONG)


def test_a_wrong_cell(check):
    step = "tg.tanh(x @ self.W.T) + h.detach()"
    code, out, _ = check(CELL.format(default="=0.3", step=step))
    assert code == 1 and out.startswith("FAILED  Leaky: ")
    assert "the gradient of the first state (shape" in out and "something left the graph here: mine.py:" in out
    assert "return tg.tanh(x @ self.W.T) + h.detach()" in out


def test_a_cell_is_taken_from_the_file_or_made_without_arguments(check):
    needs = CELL.format(default="", step=RIGHT_STEP)
    code, out, _ = check(needs)
    assert code == 1 and out == (
        "FAILED  Leaky: not checked: missing a required argument: 'leak': "
        "make an instance in the file, such as cell = Leaky(...)\n"
    )
    code, out, _ = check(needs, "\ncell = Leaky(0.5)\n")
    assert code == 0 and out.startswith("ok      Leaky: 7 checks")


def test_what_cannot_be_guessed_is_said_in_the_file(check):
    code, out, _ = check(STATIC)
    assert code == 1 and out == (
        "FAILED  bell: not checked: has static parameters: pass static={'s': ...}\n"
        '  in the file: CHECK = {"bell": {"static": ...}}\n'
    )
    code, out, _ = check(STATIC, 'CHECK = {"bell": {"static": {"s": 2.0}, "domain": (-1, 1)}}\n')
    assert code == 0 and out.startswith("ok      bell: ")


def test_only_what_the_file_declares_is_checked(check, tmp_path):
    (tmp_path / "helper.py").write_text(HEAD + CELL.format(default="", step=RIGHT_STEP), encoding="utf-8")
    code, out, _ = check("from helper import Leaky\nfrom tinygrad_rnn import LSTMCell\n", RIGHT)
    del sys.modules["helper"]
    assert code == 0 and out.count("\n") == 1


@pytest.mark.parametrize(
    "source, words",
    [
        ("x = 1\n", "mine.py: declares neither a primitive nor a cell (__call__, parameters, initial_state)"),
        ("1 / 0\n", "mine.py:3: ZeroDivisionError: division by zero"),
        ("def f(:\n", "mine.py: SyntaxError: "),
        ("raise SystemExit\n", "mine.py: ends the process when it is imported"),
        (
            'tg.primitive("tanh", np.tanh, lambda g, y, x: g)\n',
            "mine.py:3: ValueError: a primitive named 'tanh' exists",
        ),
        (RIGHT + 'CHECK = {"swosh": {}}\n', "mine.py: CHECK has swosh, which the file does not declare"),
        (RIGHT + "CHECK = {3: {}}\n", "mine.py: CHECK has 3, which the file does not declare"),
        *(
            (RIGHT + f"CHECK = {given}\n", 'mine.py: CHECK is a dict of dicts, such as CHECK = {"name": {"order": 1}}')
            for given in ("3", '[("swish", {})]', '{"swish": 3}', '{"swish": {3: 4}}')
        ),
    ],
)
def test_files_that_cannot_be_used(check, source, words):
    code, out, err = check(source)
    assert (code, out) == (2, "")
    assert err.startswith(f"tinygrad-rnn: error: {words}") and err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["missing.py"], ["."], []])
def test_paths_that_cannot_be_used(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", *arguments]) == 2
    assert capsys.readouterr().err.startswith("tinygrad-rnn: error: ")


def test_what_is_no_code_is_not_run(tmp_path):
    (tmp_path / "mine.txt").write_text("1 / 0", encoding="utf-8")
    with pytest.raises(UnusableError, match=r"mine\.txt: neither a Python file nor a notebook"):
        check_file(tmp_path / "mine.txt", print)


def test_a_report_quotes_the_file_as_it_is_now(check):
    """Checked, changed, and checked again in one process."""
    step = "tg.tanh(x @ self.W.T) + h.detach()"
    for padding in ("", "# moved\n" * 7):
        code, out, _ = check(padding, CELL.format(default="=0.3", step=step))
        assert code == 1 and f"return {step}" in out


def test_without_hypothesis_the_battery_runs_and_strategies_say_what_to_install(tmp_path):
    (tmp_path / "mine.py").write_text(HEAD + RIGHT, encoding="utf-8")
    (tmp_path / "theirs.py").write_text("from tinygrad_rnn.testing.strategies import programs\n", encoding="utf-8")
    code = (
        "import sys; sys.modules['hypothesis'] = None; from tinygrad_rnn.cli import main; sys.exit(main(sys.argv[1:]))"
    )

    def run(file):
        command = [sys.executable, "-c", code, "check", file]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")

    assert run("mine.py").returncode == 0
    done = run("theirs.py")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.endswith(f"ImportError: strategies need Hypothesis: {how_to_install('test')}\n")


def test_a_folder_order_seed_and_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules").mkdir()
    arrays_only = 'bend = tg.primitive("bend", np.arctan, lambda g, y, x: np.asarray(g) / np.hypot(1, x) ** 2)\n'
    (tmp_path / "rules" / "a.py").write_text(HEAD + arrays_only, encoding="utf-8")
    (tmp_path / "rules" / "b.py").write_text(HEAD + WRONG, encoding="utf-8")
    assert main(["check", "rules", "--seed", "1", "--json", "-"]) == 1
    ended = json.loads(capsys.readouterr().out)
    assert [(Path(e["file"]).name, e["name"], e["verdict"]) for e in ended] == [
        ("a.py", "bend", "unsure"),
        ("b.py", "cube", "failed"),
    ]
    assert main(["check", "rules/a.py", "--order", "1", "--json", "out.json"]) == 0
    assert json.loads((tmp_path / "out.json").read_text())[0]["verdict"] == "ok"
    assert capsys.readouterr().out.startswith("ok      bend: 8 checks")
    (tmp_path / "empty").mkdir()
    assert main(["check", "empty"]) == 2 and "no Python file and no notebook in it" in capsys.readouterr().err
    (tmp_path / "empty" / "helpers.py").write_text("", encoding="utf-8")
    assert main(["check", "empty"]) == 2 and "helpers.py: declares neither" in capsys.readouterr().err
    # Beside a file that declares something it is passed over; it is named only if it was given by name.
    (tmp_path / "rules" / "helpers.py").write_text("", encoding="utf-8")
    (tmp_path / "rules" / ".hidden").mkdir()
    (tmp_path / "rules" / ".hidden" / "c.py").write_text("raise ValueError", encoding="utf-8")
    (tmp_path / "rules" / "b.py").unlink()
    assert main(["check", "rules", "--order", "1"]) == 0 and capsys.readouterr().out.count("\n") == 1
    assert main(["check", "rules/a.py", "rules/helpers.py"]) == 2 and "declares neither" in capsys.readouterr().err


def test_a_notebook(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cells = [
        {"cell_type": "markdown", "source": ["# My rules"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", HEAD]},
        {"cell_type": "code", "source": [WRONG]},
    ]
    (tmp_path / "mine.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert main(["check", "mine.ipynb"]) == 1 and capsys.readouterr().out.startswith("FAILED  cube: ")
    assert "cube" not in tg.OPS
