"""``tinygrad-rnn train``: what it leaves behind, what it refuses, and that it can be killed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygrad_rnn import nn
from tinygrad_rnn.cli import main
from tinygrad_rnn.files import alone
from tinygrad_rnn.train import Adam, Adding, SequenceModel, fit

SMALL = ("--length", "8", "--hidden", "4", "--batch", "4", "--updates", "12", "--evaluate-every", "5")
FILES = {"checkpoint.npz", "history.json", "weights.npz"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinygrad_rnn.cli.train.find_spec", lambda name: None)  # no chart, which takes the most time
    return tmp_path


def train(*arguments):
    return main(["train", *arguments])


def left(folder="run"):
    return {path.name for path in Path(folder).iterdir() if not path.name.startswith(".")} - {"loss.svg"}


def contents(folder):
    return {name: (Path(folder) / name).read_bytes() for name in FILES}


def test_what_it_leaves_is_what_the_package_does(capsys):
    assert train("--task", "adding", "--cell", "lstm", "--init", "chrono", "--seed", "3", *SMALL, "--out", "run/") == 0
    said = capsys.readouterr()
    assert left() == FILES and "adding, T=8: baseline 0.1667" in said.err
    task = Adding(8)
    cell = nn.LSTMCell(2, 4, init="chrono", t_max=8, rng=3)
    model = SequenceModel(cell, task, rng=np.random.default_rng([3, 2]))
    history = fit(
        model, task, Adam(model, lr=0.01), 12, batch_size=4, clip_norm=1.0, seed=3, evaluate_every=5, progress=False
    )
    for name, array in nn.load("run/weights.npz").items():
        np.testing.assert_array_equal(array, model.state_dict()[name])
    assert json.loads(Path("run/history.json").read_text(encoding="utf-8"))["losses"] == history.losses
    for line in ("cell    LSTM, hidden 4, float64", "gate biases chrono up to lag 8, seed 3", "by      Adam(lr=0.01"):
        assert line in said.out
    assert history.table() in said.out and "result  not solved: MSE" in said.out


@pytest.mark.parametrize(
    "options",
    [
        ("--task", "adding-minimal-lag", "--cell", "gru", "--optimiser", "rmsprop", "--window", "3"),
        ("--task", "copying", "--cell", "rnn", "--nonlinearity", "relu", "--init", "keras", "--clip-value", "5"),
        ("--task", "temporal-order", "--length", "10", "--dtype", "float32", "--forget-bias", "2"),
        ("--task", "text", "--cell", "rnn", "--optimiser", "adagrad", "--clip-value", "5", "--data", "mine.txt"),
        ("--task", "series", "--optimiser", "sgd", "--lr", "0.05", "--data", "mine.csv", "--column", "y"),
        ("--task", "series", "--until-solved"),
    ],
    ids=lambda options: options[1],
)
def test_every_task(options, capsys):
    Path("mine.txt").write_text("to be or not to be, that is the question", encoding="utf-8")
    Path("mine.csv").write_text("x,y\n" + "".join(f"{i},{i % 7}\n" for i in range(60)), encoding="utf-8")
    assert train(*SMALL, *options) == 0
    assert left() == FILES and "baseline" in capsys.readouterr().err


def test_chart_where_matplotlib_is_installed(monkeypatch):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    assert train("--task", "adding", *SMALL, "--out", "plain") == 0 and not Path("plain/loss.svg").exists()
    monkeypatch.setattr("tinygrad_rnn.cli.train.find_spec", importlib.util.find_spec)
    assert train("--task", "adding", *SMALL) == 0
    assert "baseline" in Path("run/loss.svg").read_text(encoding="utf-8")


def test_resumed_is_the_same(capsys):
    options = ("--task", "adding", "--cell", "gru", *SMALL)
    assert train(*options, "--out", "whole") == 0
    assert train(*options, "--updates", "7", "--out", "part") == 0
    assert train(*options, "--out", "part", "--resume") == 0
    assert contents("part") == contents("whole")
    assert train(*options, "--out", "new", "--resume") == 0  # nothing there yet: it begins
    assert contents("new") == contents("whole")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_repaired_network_is_trained(kind, capsys):
    network = kind(2, 3, num_layers=2, rng=0)
    nn.save("model.npz", {f"encoder.{name}": array for name, array in network.state_dict().items()})
    assert train("--task", "adding", *SMALL[:2], *SMALL[4:], "--weights", "model.npz", "--lr", "1e-12") == 0
    assert "weights of model.npz, encoder" in capsys.readouterr().out
    for name, array in nn.load("run/weights.npz", "network").items():
        np.testing.assert_allclose(array, network.state_dict()[name], atol=1e-10)
    assert main(["draw", "--weights", "run/weights.npz"]) == 2
    assert "takes 2 values a step" in capsys.readouterr().err


# --- what it refuses ---


def refused(capsys, *arguments):
    before = sorted(Path.cwd().rglob("*"))
    assert train(*arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("tinygrad-rnn: error: ")
    assert sorted(Path.cwd().rglob("*")) == before, "something was left behind"
    return said[-1]


MISUSE = {
    "no task": ((), "--task"),
    "unknown task": (("--task", "chess"), "'chess'"),
    "short": (("--task", "adding", "--length", "3"), "--length 3: give a whole number, at least 4"),
    "data": (("--task", "adding", "--data", "x.csv"), "--data belongs to the tasks text and series"),
    "column": (("--task", "text", "--column", "x"), "--column belongs to the task series"),
    "missing": (("--task", "text", "--data", "no.txt"), "no.txt"),
    "kind": (("--task", "series", "--data", "no.xlsx"), "expected a .csv, .tsv, .txt or .npy file"),
    "rate": (("--task", "adding", "--lr", "0"), "--lr: expected a positive number"),
    "no rate": (("--task", "adding", "--lr", "inf"), "error: --lr inf: give a finite number, zero or more"),
    "clip": (("--task", "adding", "--clip-norm", "-1"), "--clip-norm"),
    "chrono": (("--task", "adding", "--cell", "rnn", "--init", "chrono"), "an rnn has none"),
    "weights": (("--task", "adding", "--weights", "no.npz"), "no.npz"),
    "prefix": (("--task", "adding", "--prefix", "a"), "--prefix belongs to --weights"),
}


@pytest.mark.parametrize(("arguments", "reason"), MISUSE.values(), ids=MISUSE)
def test_misuse(arguments, reason, capsys):
    assert reason in refused(capsys, *arguments)


def test_what_a_kill_leaves_is_nobodys_file(capsys):
    Path("run").mkdir()
    Path("run/.checkpoint.npz.0123.tmp").touch()
    assert train("--task", "adding", *SMALL) == 0
    Path("other").mkdir()
    Path("other/notes.").touch()
    assert "has other files" in refused(capsys, "--task", "adding", *SMALL, "--out", "other")


def test_one_run_at_a_time_writes_a_folder(capsys):
    options = ("--task", "adding", *SMALL)
    assert train(*options) == 0
    before = contents("run")
    with alone("run/checkpoint.npz"):
        assert train(*options, "--updates", "20", "--resume") == 2
    assert "run/checkpoint.npz: another process is writing it" in capsys.readouterr().err.replace(os.sep, "/")
    assert contents("run") == before
    assert train(*options, "--updates", "20", "--resume") == 0 and contents("run") != before


def test_a_foreign_folder_is_left_alone(capsys):
    options = ("--task", "adding", *SMALL)
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("years of work", encoding="utf-8")
    for more in ((), ("--resume",)):
        assert "mine: has other files, and no run" in refused(capsys, *options, "--out", "mine", *more)
    Path("file").write_text("", encoding="utf-8")
    assert "file: is no folder" in refused(capsys, *options, "--out", "file")
    assert train(*options) == 0
    before = contents("run")
    assert "run: has a run already: go on with --resume" in refused(capsys, *options)
    assert "belongs to another run: seed was 0, now 1" in refused(capsys, *options, "--resume", "--seed", "1")
    assert contents("run") == before
    Path("run/checkpoint.npz").write_bytes(before["checkpoint.npz"][:-9])
    assert "checkpoint.npz is damaged" in refused(capsys, *options, "--resume")
    Path("run/checkpoint.npz").write_bytes(b"not ours")
    assert "checkpoint.npz is damaged" in refused(capsys, *options, "--resume")


@pytest.mark.parametrize("name", ["checkpoint.npz", "history.json", "weights.npz", "loss.svg"])
def test_what_cannot_be_written_is_found_out_before_training(name, capsys, monkeypatch):
    options = ("--task", "adding", *SMALL)
    assert train(*options) == 0
    Path("run", name).unlink(missing_ok=True)
    Path("run", name).mkdir()
    monkeypatch.setattr("tinygrad_rnn.train.fit", lambda *a, **k: pytest.fail("it was trained"))
    assert f"{name}: cannot be written: Is a directory" in refused(capsys, *options, "--updates", "20", "--resume")


def test_divergence_is_one_line_and_leaves_the_history(capsys):
    options = ("--cell", "rnn", "--nonlinearity", "identity", "--optimiser", "sgd", "--lr", "1e200")
    assert train("--task", "adding", *SMALL, *options) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: step 2: " in last and "history.json" in last
    assert json.loads(Path("run/history.json").read_text(encoding="utf-8"))["steps"] == 1


# --- killed, interrupted ---

LONG = ("--task", "adding", *SMALL, "--updates", "50", "--checkpoint-every", "1")


HELD = """
import sys
from tinygrad_rnn.cli import main
from tinygrad_rnn.train.run import Run
step = Run.train_step
def held(self, *arguments):
    if self.step == 20:
        print("here", flush=True)
        sys.stdin.readline()
    step(self, *arguments)
Run.train_step = held
sys.exit(main(sys.argv[1:]))
"""


def halfway(*arguments):
    """A process that trains, and has stopped after 20 of 50 updates until it reads a line."""
    command = [sys.executable, "-P", "-c", HELD, "train", *LONG, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, encoding="utf-8", env=environment, **pipes)
    assert "here\n" in iter(process.stdout.readline, ""), process.communicate()
    return process


def test_killed_and_resumed(capsys):
    process = halfway("--out", "killed")
    process.kill()
    process.communicate()
    assert process.returncode != 0 and left("killed") == {"checkpoint.npz"}
    assert train(*LONG, "--out", "killed", "--resume") == 0
    assert train(*LONG, "--out", "whole") == 0
    assert contents("killed") == contents("whole")


def test_ctrl_c_leaves_a_checkpoint(capsys, monkeypatch):
    from tinygrad_rnn.train.run import Run

    step = Run.train_step

    def interrupted(self, *arguments):
        if self.step == 4:
            signal.raise_signal(signal.SIGINT)
        step(self, *arguments)

    monkeypatch.setattr(Run, "train_step", interrupted)
    assert train(*LONG, "--checkpoint-every", "1000") == 130
    assert "stopped after step 5: the same command with --resume" in capsys.readouterr().err
    assert left() == {"checkpoint.npz", "history.json"}
    monkeypatch.setattr(Run, "train_step", step)
    assert train(*LONG, "--checkpoint-every", "1000", "--resume") == 0 and left() == FILES


def test_ctrl_c_after_the_training_tells_what_is_written_and_where_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr("tinygrad_rnn.train.History.to_json", lambda *a: signal.raise_signal(signal.SIGINT))
    assert train("--task", "adding", *SMALL) == 130
    checkpoint = Path("run", "checkpoint.npz")
    left = f"{checkpoint} written; the same command with --resume goes on from {checkpoint}"
    assert capsys.readouterr().err.splitlines()[-1] == f"tinygrad-rnn: interrupted; {left}"


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C goes to the whole console there")
def test_ctrl_c_of_a_process():
    process = halfway()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate("\n")
    assert process.returncode == 130 and "--resume" in said and "Traceback" not in said
