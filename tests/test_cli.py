"""The command line as a user meets it: what it writes, what it says, and how it fails."""

import json
import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.cli import main
from tinygrad_rnn.cli.draw import left_of
from tinygrad_rnn.data import load
from tinygrad_rnn.draw.chart import Decay

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "rnn_beside_lstm.svg"
EXPECTED_CELLS = ["tanh RNN", "LSTM", "LSTM, gates opened"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(capsys, *arguments):
    assert main(["draw", *arguments]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def refused(capsys, *arguments):
    before = sorted(Path.cwd().iterdir())
    assert main(list(arguments)) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("tinygrad-rnn: error: ") and said.err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == before, "something was left behind"
    return said.err


# --- what it writes and says ---


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_default_picture(cell, capsys, elsewhere):
    said = ran(capsys, cell)
    assert [file.name for file in elsewhere.iterdir()] == [f"{cell}.svg"]
    picture = (elsewhere / f"{cell}.svg").read_text(encoding="utf-8")
    assert "</svg>" in picture and "the Nile at Aswan" in picture and "seed 0" in picture
    assert (
        "annual flow of the Nile at Aswan, 1871-1970 (public domain), standardised; steps: 5, values a step: 1" in said
    )
    assert "uniform within ±1/√8 (PyTorch's default), seed 0" in said
    assert f"wrote   {cell}.svg" in said


@pytest.mark.parametrize("suffix, start", [("svg", b"<svg"), ("png", b"\x89PNG"), ("dot", b""), ("gv", b"")])
def test_formats(suffix, start, capsys, elsewhere):
    ran(capsys, "rnn", "--steps", "2", "--hidden", "2", "--out", f"x.{suffix}")
    assert (elsewhere / f"x.{suffix}").read_bytes().startswith(start)
    assert [file.name for file in elsewhere.iterdir()] == [f"x.{suffix}"]


def test_a_film_of_a_setting(capsys, elsewhere):
    for name, cell in (("forget-bias=-2:6:3", "lstm"), ("scale=0.5:2:3", "rnn")):
        said = ran(capsys, cell, "--steps", "2", "--hidden", "2", "--film", name, "--out", "film.svg")
        text = (elsewhere / "film.svg").read_text(encoding="utf-8")
        captions = ["forget bias −2", "forget bias 2", "forget bias 6"] if cell == "lstm" else ["scale 0.5", "scale 2"]
        assert all(f">{caption}</text>" in text for caption in captions)
        assert "seed 0" in text and "set to" not in text  # one subtitle for all frames, so it names no value of one
        assert "film    3 frames" in said and f"next    tinygrad-rnn flow {cell}" in said
    ran(capsys, "gru", "--steps", "2", "--hidden", "2", "--film", "update-bias=0,1")
    assert "<input" in (elsewhere / "gru.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words, said",
    [
        (("lstm", "--film", "hidden=2:6:5"), "the name one of forget-bias"),
        (("lstm", "--film", "forget-bias=1:2"), "A:B:N for N from A to B"),
        (("lstm", "--film", "forget-bias=1"), "at least two different numbers"),
        (("lstm", "--film", "forget-bias=1e308:-1e308:3"), "at least two different numbers"),
        (("rnn", "--film", "forget-bias=1:2:3"), "belongs to lstm"),
        (("lstm", "--film", "forget-bias=1:2:3", "--forget-bias=1"), "--forget-bias is what --film varies"),
        (("lstm", "--film", "forget-bias=1:2:3", "--json", "a.json"), "--json is of one picture"),
        (("lstm", "--film", "forget-bias=1:2:3", "--out", "a.png"), "ends in .html, .svg"),
    ],
)
def test_a_film_that_is_none_is_refused(words, said, capsys):
    assert said in refused(capsys, "draw", *words)


def test_same_command_same_bytes(capsys, elsewhere):
    for name in ("a", "b"):
        ran(capsys, "lstm", "--steps", "3", "--out", f"{name}.svg", "--json", f"{name}.json", "--title", "T")
    assert (elsewhere / "a.svg").read_bytes() == (elsewhere / "b.svg").read_bytes()
    assert (elsewhere / "a.json").read_bytes() == (elsewhere / "b.json").read_bytes()


def expected(cell, steps, last):
    """The experiment again, from its description, in the package's public names."""
    values, _ = load(steps=steps)
    outputs, state = tg.unroll(cell, values[:, None, :])
    direction = np.random.default_rng([3, 1]).standard_normal(cell.hidden_size)
    v = direction / np.linalg.norm(direction)
    h = (state[0] if isinstance(state, tuple) else state) if last else outputs
    return tg.mean(tg.matmul(h, v)) * (1.0 if last else steps)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    "options, cell",
    [
        (["rnn"], lambda: tg.RNNCell(1, 4, rng=3)),
        (["rnn", "--nonlinearity", "relu"], lambda: tg.RNNCell(1, 4, nonlinearity="relu", rng=3)),
        (["rnn", "--dtype", "float32"], lambda: tg.RNNCell(1, 4, dtype="float32", rng=3)),
        (["lstm"], lambda: tg.LSTMCell(1, 4, rng=3)),
        (["lstm", "--init", "keras"], lambda: tg.LSTMCell(1, 4, rng=3, init="keras")),
        (["gru", "--init", "chrono"], lambda: tg.GRUCell(1, 4, rng=3, init="chrono", t_max=6)),
        (["gru", "--update-bias", "2"], lambda: tg.GRUCell(1, 4, update_bias=2, rng=3)),
        (
            ["lstm", "--forget-bias", "3", "--input-bias", "-2"],
            lambda: tg.LSTMCell(1, 4, forget_bias=3, input_bias=-2, rng=3),
        ),
    ],
)
def test_numbers_are_those_of_the_experiment_it_describes(options, cell, last, capsys, elsewhere):
    loss = expected(cell(), 6, last)
    which = [] if last else ["--loss", "all"]
    said = ran(capsys, *options, *which, *"--steps 6 --hidden 4 --seed 3 --out x.dot --json x.json".split())
    shown = next(line for line in said.splitlines() if line.startswith("loss"))
    assert float(shown.rpartition(" ")[2]) == pytest.approx(loss.item(), rel=1e-4)
    nodes = json.loads((elsewhere / "x.json").read_text(encoding="utf-8"))["nodes"]
    graph = tg.gradient_graph(loss)
    steps = [node for node in graph.nodes if node.name == "h" and node.step]
    gradients = [f"{node.step}: {np.linalg.norm(node.gradient):.3g}" for node in steps]
    assert f"‖∂L/∂h‖ {gradients[0]}, {gradients[-1]}" in said
    assert ("‖∂L/∂c‖" in said) == (options[0] == "lstm")
    assert [node["scope"] for node in nodes if node["name"] == "h"] == [f"t={t}" for t in range(1, 7)]
    if last:
        assert gradients[-1] == "t=6: 1"
    assert ("no rate to tell" in said) != last


# --- what it found, and the next command ---


@pytest.mark.parametrize(
    "options",
    ["rnn", "lstm --steps 20", "gru --steps 3", "rnn --init keras --nonlinearity identity --noise 3 --steps 9"],
)
def test_sentence_is_that_of_the_state_that_keeps_most(options, capsys):
    said = ran(capsys, *options.split(), "--out", "x.dot", "--json", "x.json")
    nodes = json.loads(Path("x.json").read_text(encoding="utf-8"))["nodes"]
    shares = {}
    for name in ("h", "c"):
        sizes = [node["gradient"]["norm"] for node in nodes if node["name"] == name and node["scope"].startswith("t=")]
        if sizes:
            shares[name] = sizes[0] / sizes[-1], len(sizes) - 1
    name, (share, lag) = max(shares.items(), key=lambda item: item[1])
    sentence = next(line for line in said.splitlines() if line.startswith("found   "))
    found = re.fullmatch(
        r"found   ∂L/∂(.) at t=1 is (\S+) (% of|times) that at t=(\d+), on average × (\S+) a step", sentence
    )
    assert (found[1], int(found[4])) == (name, lag + 1)
    assert float(found[2]) / (100 if found[3] == "% of" else 1) == pytest.approx(share, rel=0.06)
    assert float(found[5]) ** lag == pytest.approx(share, rel=0.01 * lag)


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        ([1.0, 0.5], "∂L/∂h at t=1 is 50 % of that at t=2, on average × 0.5 a step"),
        ([1.0, 0.9999], "∂L/∂h at t=1 is 100 % of that at t=2, on average × 1 a step"),
        ([1.0, 3.0], "∂L/∂h at t=1 is 300 % of that at t=2, on average × 3 a step"),
        ([1.0, 10.0], "∂L/∂h at t=1 is 1e+01 times that at t=2, on average × 10 a step"),
        ([1e-3, 1e-2, 1e2], "∂L/∂h at t=1 is 1e+05 times that at t=3, on average × 316 a step"),
        ([1.0, 1e-13], "∂L/∂h at t=1 is 1e-13 times that at t=2, on average × 1e-13 a step"),
        ([1.0, 0.0], "∂L/∂h at t=1 is 0 times that at t=2"),
        ([1.0, np.inf], "∂L/∂h at t=1 is inf times that at t=2"),
        ([1.0, np.nan], "∂L/∂h at t=1 is nan times that at t=2"),
        ([0.0, 0.0], "∂L/∂h at t=1 is 0 times that at t=2"),
    ],
)
def test_sentence_at_the_edges(norms, said):
    table = tuple((len(norms) - lag, lag, size) for lag, size in enumerate(norms))
    assert left_of([Decay("", "h", table, 0.0)]) == said


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ("lstm --hidden 3 --forget-bias -2 --steps 4", ["forget bias set to -2", "seed 0"]),
        ("rnn --noise 2 --seed 5 --steps 3 --dtype float32", ["standard normal noise", "seed 5"]),
        ("--cell gru --data 'my data.csv' --column b --column a --no-standardise", ["my data.csv", "(b, a), as in"]),
        ("rnn --windows 3", ["3 windows of 5 steps"]),
        ("lstm --windows 8 --steps 20 --data x.csv --column a", ["8 windows of 20 steps that overlap"]),
        ("rnn --data three.npy --lengths lengths.npy --no-batch-first", ["read as (T, N, F), padded after 7 or more"]),
        ("--weights w.npz --data x.csv --column a --standardise", ["weights of w.npz", "(a), standardised"]),
    ],
)
def test_next_command_asks_about_the_same_network_and_data(options, same, capsys, elsewhere):
    rows = "".join(f"{x:.3f},{y:.3f}\n" for x, y in np.random.default_rng(0).normal(3.0, 2.0, size=(60, 2)))
    for name in ("x.csv", "my data.csv"):
        (elsewhere / name).write_text("a,b\n" + rows, encoding="utf-8")
    nn.save(elsewhere / "w.npz", tg.LSTM(1, 3, rng=1).state_dict())
    np.save(elsewhere / "three.npy", np.random.default_rng(0).normal(size=(9, 2, 1)))
    np.save(elsewhere / "lengths.npy", [9, 7])
    said = ran(capsys, *shlex.split(options), "--out", "x.dot")
    program, *words = shlex.split(said.splitlines()[-1].removeprefix("next    "))
    assert (program, words[0]) == ("tinygrad-rnn", "flow")
    assert main(words) == 0
    flow = capsys.readouterr().out
    for text in same:
        assert text in said and text in flow


def test_demo_draws_the_picture_of_the_readme_and_opens_nothing(capsys, elsewhere, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda *a: pytest.fail("a browser was opened"))
    assert main(["demo"]) == 0
    said = capsys.readouterr().out
    assert [file.name for file in elsewhere.iterdir()] == ["demo.svg"]
    texts = [
        [element.text for element in ElementTree.parse(file).iter() if element.tag.endswith("text")]
        for file in (elsewhere / "demo.svg", PICTURE)
    ]
    assert texts[0] == texts[1]
    assert [line[:18].strip() for line in said.splitlines()] == [*EXPECTED_CELLS, "wrote", "next"]


def test_biases_are_said(capsys):
    said = ran(capsys, "lstm", "--steps", "1", "--forget-bias", "2.5", "--input-bias", "-1", "--out", "x.dot")
    assert "forget bias set to 2.5, input bias set to -1" in said
    keras = ("lstm", "--steps", "1", "--init", "keras", "--out", "x.dot")
    assert "biases zero (Keras's default) but forget bias 1, seed 0" in ran(capsys, *keras)
    said = ran(capsys, *keras, "--forget-bias", "2")
    assert "biases zero (Keras's default), seed 0, forget bias set to 2" in said and "but" not in said


def test_title_and_theme(capsys, elsewhere):
    ran(capsys, "rnn", "--steps", "2", "--title", "A <title> & more", "--out", "light.svg")
    ran(capsys, "rnn", "--steps", "2", "--title", "A <title> & more", "--out", "dark.svg", "--theme", "dark")
    light, dark = ((elsewhere / f"{name}.svg").read_text(encoding="utf-8") for name in ("light", "dark"))
    assert "A &lt;title&gt; &amp; more" in light and light != dark


def test_data_of_every_kind(capsys, elsewhere):
    (elsewhere / "a b.csv").write_text("day,x,y\nmon,1,2\ntue,3,5\nwed,4,1\n", encoding="utf-8")
    np.save(elsewhere / "x.npy", np.arange(12.0).reshape(4, 3))
    (elsewhere / "x.txt").write_text("hello", encoding="utf-8")
    few = ("--steps", "3", "--hidden", "2", "--out", "x.dot", "--data")
    assert "a b.csv (x, y; not numeric: day), standardised; steps: 3, values a step: 2" in ran(
        capsys, "rnn", *few, "a b.csv"
    )
    assert "a b.csv (y), standardised; steps: 3, values a step: 1" in ran(
        capsys, "rnn", *few, "a b.csv", "--column", "y"
    )
    assert "(y, x)" in ran(capsys, "rnn", *few, "a b.csv", "--column", "y", "--column", "x")
    assert "x.npy, standardised; steps: 3, values a step: 3" in ran(capsys, "lstm", *few, "x.npy")
    assert "one-hot by character (4 different); steps: 3, values a step: 4" in ran(capsys, "lstm", *few, "x.txt")


def test_an_old_file_is_replaced(capsys, elsewhere):
    (elsewhere / "rnn.svg").write_text("old", encoding="utf-8")
    ran(capsys, "rnn", "--steps", "1")
    assert "old" != (elsewhere / "rnn.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", [False, True])
def test_as_a_process(module, elsewhere):
    start = ["-m", "tinygrad_rnn"] if module else ["-c", "import sys, tinygrad_rnn.cli as c; sys.exit(c.main())"]

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-P", "-X", "utf8", *start, *arguments], capture_output=True, encoding="utf-8"
        )

    assert run("--version").stdout == f"tinygrad-rnn {tg.__version__}\n"
    if module:
        return
    assert "--steps T" in run("draw", "--help").stdout
    done = run("draw", "rnn", "--steps", "2")
    assert (done.returncode, done.stderr) == (0, "") and (elsewhere / "rnn.svg").exists()
    done = run("draw", "rnn", "--data", "missing.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tinygrad-rnn: error: missing.csv: ")


def test_a_console_that_cannot_show_the_text_is_no_error(elsewhere):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tinygrad_rnn", "draw", "rnn", "--steps", "1", "--out", "é.svg"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
    )
    assert done.returncode == 0 and b"wrote" in done.stdout and (elsewhere / "é.svg").exists()


# --- how it fails ---

MISUSE = {
    "nothing": ([], "required: command (see tinygrad-rnn --help)"),
    "no cell": (["draw"], "name a cell (rnn, lstm, gru), or a file with --weights (see"),
    "unknown cell": (["draw", "transformer"], "'transformer'"),
    "unknown option": (["draw", "rnn", "--nonsense"], "--nonsense"),
    "no steps": (["draw", "rnn", "--steps", "0"], "--steps: expected a whole number from 1 to 100000, found '0'"),
    "half a step": (["draw", "rnn", "--steps", "2.5"], "found '2.5'"),
    "negative": (["draw", "rnn", "--hidden=-1"], "--hidden"),
    "huge": (["draw", "rnn", "--hidden", "9" * 5000], "--hidden"),
    "seed": (["draw", "rnn", "--seed=-1"], "--seed"),
    "bias": (["draw", "lstm", "--forget-bias", "nan"], "--forget-bias: expected a finite number, found 'nan'"),
    "underscore": (["draw", "lstm", "--forget-bias", "1_0"], "--forget-bias: expected a finite number, found '1_0'"),
    "bias of an rnn": (["draw", "rnn", "--forget-bias", "1"], "--forget-bias belongs to lstm, and the cell is rnn"),
    "nonlinearity of an lstm": (
        ["draw", "lstm", "--nonlinearity", "relu"],
        "--nonlinearity belongs to rnn, and the cell is lstm",
    ),
    "chrono rnn": (["draw", "rnn", "--init", "chrono"], "an rnn has none"),
    "too few": (["draw", "rnn", "--steps", "101"], "101 steps asked for, but there are only 100"),
    "no data": (["draw", "rnn", "--data", "missing.npy"], "missing.npy: "),
    "other data": (["draw", "rnn", "--data", "x.xlsx"], "x.xlsx: expected a .csv, .tsv, .txt or .npy file"),
    "no column": (["draw", "rnn", "--column", "flow"], "has no column 'flow', only 'year', 'volume'"),
    "format": (["draw", "rnn", "--out", "x.jpg"], "x.jpg: expected a name that ends in .svg, .png, .pdf"),
    "no suffix": (["draw", "rnn", "--out", "x"], "x: expected a name that ends in"),
    "no folder": (["draw", "rnn", "--out", "no/x.svg"], "x.svg: cannot be written: "),
    "no folder for numbers": (["draw", "rnn", "--json", "no/x.json"], "x.json: cannot be written: "),
    "one name twice": (["draw", "rnn", "--json", "./rnn.svg"], "rnn.svg: cannot be both --out and --json"),
}


@pytest.mark.parametrize("arguments, reason", MISUSE.values(), ids=MISUSE)
def test_misuse(arguments, reason, capsys):
    assert reason in refused(capsys, *arguments)


def test_a_folder_is_no_file(capsys, elsewhere):
    (elsewhere / "x.svg").mkdir()
    assert "x.svg: cannot be written: Is a directory" in refused(capsys, "draw", "rnn", "--out", "x.svg")


def test_bad_files_leave_an_old_picture_alone(capsys, elsewhere):
    (elsewhere / "rnn.svg").write_text("old", encoding="utf-8")
    for content in ("", "a\n", "a\nx\n", "a\n1\n\nnan\n", "a,b\n1\n"):
        (elsewhere / "x.csv").write_text(content, encoding="utf-8")
        assert "x.csv" in refused(capsys, "draw", "rnn", "--data", "x.csv", "--steps", "1")
    assert (elsewhere / "rnn.svg").read_text(encoding="utf-8") == "old"


def test_no_engine_names_the_remedy(capsys, monkeypatch, elsewhere):
    monkeypatch.setenv("TINYGRAD_RNN_DOT", "no-such-program")
    assert main(["draw", "rnn", "--steps", "1", "--out", "rnn.png"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tinygrad-rnn: error: ") and said.count("\n") == 1 and "no-such-program" in said
    assert not list(elsewhere.glob("*.svg"))


def test_demo_finds_out_first_whether_it_can_write(capsys, elsewhere, monkeypatch):
    (elsewhere / "demo.svg").mkdir()
    monkeypatch.setattr("tinygrad_rnn.unroll", None)
    assert "demo.svg: cannot be written: " in refused(capsys, "demo")


def test_out_of_memory_is_said(capsys, monkeypatch):
    def no_memory(*arguments, **options):
        raise MemoryError("Unable to allocate 1 TiB")

    monkeypatch.setattr("tinygrad_rnn.nn.stacks.unroll", no_memory)
    assert "not enough memory: Unable to allocate 1 TiB" in refused(capsys, "draw", "rnn")


def test_numerical_warnings_are_one_line(capsys, elsewhere):
    np.save(elsewhere / "x.npy", np.array([1.0, 2.0]))
    assert main(["draw", "lstm", "--steps", "2", "--data", "x.npy", "--forget-bias", "1e308", "--out", "x.dot"]) == 0
    assert all(line.startswith("tinygrad-rnn: warning: ") for line in capsys.readouterr().err.splitlines())
