"""The command line at its edges: bounds of values, what a default is, and sentences to their last sign."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from test_cli import refused

import tinygrad_rnn as tg
from tinygrad_rnn import atlas, nn
from tinygrad_rnn.cli import COMMANDS, main
from tinygrad_rnn.cli.draw import left_of
from tinygrad_rnn.cli.options import finite, several
from tinygrad_rnn.draw.chart import Decay
from tinygrad_rnn.train import History


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "10000")  # so that no help is broken into lines
    monkeypatch.setattr("tinygrad_rnn.cli.train.find_spec", lambda name: None)


@pytest.fixture
def said(capsys):
    """What a command line that ends well tells."""

    def run(words):
        assert main(words.split()) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def maps(monkeypatch):
    """The maps that are drawn, by their files' names, each with its axes; nothing is drawn."""
    drawn = {}
    monkeypatch.setattr(sys.modules["tinygrad_rnn.figure"], "new_figure", lambda *a: None)
    monkeypatch.setattr(atlas, "draw_atlas", lambda table, path, x, y: drawn.update({path.name: (x, y)}))
    return drawn


# --- values ---


@pytest.mark.parametrize(
    ("words", "told"),
    {
        "draw rnn --init x": "--init: 'x' is none of pytorch, keras, chrono",
        "draw rnn --level x": "--level: 'x' is none of auto, op, gate, step",
        "sweep --format x": "--format: 'x' is none of svg, png, pdf",
        "draw rnn --noise 10001": "--noise: expected a whole number from 1 to 10000, found '10001'",
        "draw rnn --hidden 10001": "--hidden: expected a whole number from 1 to 10000, found '10001'",
        "sweep --workers 0": "--workers: expected a whole number from 1 to 1024, found '0'",
        "sweep --steps 1": "--steps: expected a whole number from 2 to 100000, found '1'",
        "check --order 5 a.py": "--order: expected a whole number from 1 to 4, found '5'",
        "train --seed -1": "--seed: expected a whole number from 0 to 9223372036854775807, found '-1'",
        "train --updates 0": "--updates: expected a whole number from 1 to 1000000000, found '0'",
    }.items(),
)
def test_who_gives_what_does_not_fit_is_told_all_that_would(words, told, capsys):
    assert refused(capsys, *words.split()) == (
        f"tinygrad-rnn: error: argument {told} (see tinygrad-rnn {words.split()[0]} --help)\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    {
        "flow rnn --updates 3": "--updates belongs to --cure",
        "draw lstm --film forget-bias=1,2 --forget-bias 1": "--forget-bias is what --film varies",
        "draw lstm --film forget-bias=1,2 --json a.json": "--json is of one picture, and --film draws many",
        "train --task adding --length 8 --window 8": "--window 8 cuts nothing: a sequence has 8 steps",
        "train --task text --column a": "--column belongs to the task series, and the task is text",
    }.items(),
)
def test_who_gives_what_would_change_nothing_is_told_why(words, told, capsys):
    assert refused(capsys, *words.split()) == f"tinygrad-rnn: error: {told}\n"


def test_as_many_values_as_are_allowed():
    assert len(several(finite)("0:1:1000")) == len(several(finite)(",".join(map(str, range(1000))))) == 1000


def test_one_worker_is_a_number_of_workers(maps, said):
    assert "wrote" in said("sweep --hidden 2 --steps 3 --seeds 1 --workers 1")


def test_both_ends_of_the_colours_are_those_that_were_given(said):
    said("draw rnn --steps 2 --hidden 2 --colours 1e-9:1 --out a.svg")
    said("draw rnn --steps 2 --hidden 2 --colours 1e-9:2 --out b.svg")
    assert Path("a.svg").read_bytes() != Path("b.svg").read_bytes()


def test_help_without_docstrings_is_empty_of_them(capsys, monkeypatch):
    """As under python -OO, which leaves them out."""
    for command in COMMANDS:
        monkeypatch.setattr(command.run, "__doc__", None)
    for words in (["--help"], ["draw", "--help"]):
        assert main(words) == 0
        told = capsys.readouterr().out
        assert "usage: tinygrad-rnn" in told and "None" not in told and "?" not in told


# --- draw ---


def test_a_thousandth_is_a_share_and_less_is_a_number():
    sizes = {0.001: "0.1 % of", 0.0009: "0.0009 times"}
    for left, told in sizes.items():
        decay = Decay("", "h", ((2, 0, 1.0), (1, 1, left)), 0.0)
        assert left_of([decay]) == f"∂L/∂h at t=1 is {told} that at t=2, on average × {left:.3g} a step"


@pytest.mark.parametrize(("fold", "drawn"), {"none": {1, 2, 3, 4, 5, 6, 7}, "2": {1, 2, 6, 7}, "1": {1, 7}}.items())
def test_so_many_steps_at_each_end_are_drawn(fold, drawn, said):
    said(f"draw rnn --steps 7 --hidden 2 --level step --fold {fold} --out a.dot")
    assert {int(t) for t in re.findall(r"t=(\d+)", Path("a.dot").read_text("utf-8"))} - {0} == drawn


def test_a_film_scales_the_recurrent_weights_and_tells_the_numbers_of_its_last_frame(said):
    """At scale 1 they are those of the picture without a film, and they come last if it does."""
    small = "draw rnn --steps 3 --hidden 2"
    alone = said(f"{small} --out a.svg")
    numbers = [line for line in alone.splitlines() if line.startswith(("loss", "‖", "found"))]
    ends_at_1, ends_at_2 = (said(f"{small} --film scale={ab} --out a.svg") for ab in ("2,1", "1,2"))
    assert "film    2 frames; the numbers here are those of scale 1\n" in ends_at_1
    assert all(line in ends_at_1 for line in numbers)
    assert "the numbers here are those of scale 2\n" in ends_at_2
    assert not any(line in ends_at_2 for line in numbers)


def test_noise_is_of_a_stream_of_the_seed_that_is_no_other(said):
    module = tg.RNN(2, 3, rng=0)
    nn.save("w.npz", module.state_dict())
    for seed in (1, 2):
        told = said(f"draw --weights w.npz --nonlinearity tanh --noise 2 --steps 3 --seed {seed} --out x.dot")
        inputs = np.random.default_rng([seed, 2]).standard_normal((3, 16, 2))
        v = np.random.default_rng([seed, 1]).standard_normal(3)
        expected = np.mean(module(inputs)[1].numpy()[-1] @ (v / np.linalg.norm(v)))
        assert f"mean over the sequences: {expected:.6g}\n" in told


# --- check, flow ---


def test_the_result_of_a_check_does_not_take_the_place_of_what_is_checked(capsys):
    Path("mine.py").write_text("import numpy\n", encoding="utf-8")
    for words in (("check", "mine.py"), ("check", ".")):
        assert "mine.py: cannot be both --json and mine.py" in refused(capsys, *words, "--json", "mine.py")


def test_a_task_has_as_many_steps_as_are_asked_for_and_else_fifty(said):
    for more, steps in (("--steps 12", 12), ("", 50)):
        told = said(f"flow rnn --hidden 2 --cure adding --updates 1 {more}")
        assert f"16 sequences of the task adding, T={steps}\n" in told and f"T = {steps} steps, 16 sequences" in told


def test_a_network_is_told_with_the_moment_of_its_training(said):
    said("train lstm --task adding --length 8 --hidden 2 --updates 3 --batch 2")
    told = said("flow --weights run/checkpoint.npz --noise 2 --steps 9")
    assert "LSTMCell(2, 2), after 3 updates: T = 9 steps" in told


# --- train ---


def test_every_optimiser_begins_with_the_rate_that_help_tells(said, capsys):
    rates = {"sgd": 0.1, "adagrad": 0.1, "rmsprop": 0.01, "adam": 0.01}
    for name, rate in rates.items():
        told = said(f"train --task adding --length 8 --hidden 2 --updates 1 --optimiser {name} --out {name}")
        assert f"(lr={rate}" in next(line for line in told.splitlines() if line.startswith("by ")).replace(")", "(")
    assert f"learning rate; default: {', '.join(f'{k} {v}' for k, v in rates.items())}" in " ".join(
        said("train --help").split()
    )


def test_folders_on_the_way_to_the_result_are_made_and_empty_ones_are_used(maps, said):
    small = "train --task adding --length 8 --hidden 2 --updates 1 --out"
    assert Path("far/away/weights.npz").as_posix() in said(f"{small} far/away").replace("\\", "/")
    Path("empty").mkdir()
    said(f"{small} empty")
    said("sweep --hidden 2 --steps 3 --seeds 1 --out as/far/away")
    assert Path("empty/weights.npz").exists() and Path("as/far/away/table.csv").exists()


def test_where_charts_can_be_drawn_the_loss_is_one_if_there_is_any(monkeypatch, said, capsys):
    monkeypatch.setattr("tinygrad_rnn.cli.train.find_spec", lambda name: name)
    monkeypatch.setattr(History, "save", lambda history, path: Path(path).write_text(f"{history.steps} steps"))
    small = "train --task adding --length 8 --hidden 2 --batch 2 --updates 2"
    files = [str(Path("run", name)) for name in ("checkpoint.npz", "history.json", "loss.svg", "weights.npz")]
    assert said(small).endswith(f"wrote   {', '.join(files)}\n")
    assert Path("run/loss.svg").read_text() == "2 steps"
    # Where the loss is infinite at once there is no step whose loss could be drawn.
    Path("big.csv").write_text("x\n" + "1e200\n2e200\n" * 30, encoding="utf-8")
    series = "train --task series --data big.csv --no-standardise --length 8 --hidden 2 --updates 2 --out lost"
    assert main(series.split()) == 2 and "error: step 1: " in capsys.readouterr().err
    assert json.loads(Path("lost/history.json").read_text("utf-8"))["steps"] == 0 and not Path("lost/loss.svg").exists()


# --- sweep ---


@pytest.mark.parametrize(
    ("words", "axes"),
    {
        "--scale 1,2 --hidden 2,3": ("scale", "hidden"),
        "--hidden 2,3 --bias 0,1": ("bias", "hidden"),
        "--cell rnn,lstm --hidden 2,3": ("hidden", "cell"),
        "--cell rnn,lstm": ("scale", "cell"),
        "--nonlinearity tanh,relu": ("scale", "nonlinearity"),
        "--y scale --cell lstm": ("cell", "scale"),
        "--y scale": ("nonlinearity", "scale"),
        "": ("scale", "nonlinearity"),
    }.items(),
)
def test_the_axes_of_a_map_are_what_varies(words, axes, maps, said):
    said(f"sweep --steps 3 --seeds 1 {'' if '--hidden' in words else '--hidden 2'} {words}")
    assert maps == {"map.svg": axes}


def test_what_no_network_has_gets_no_map(maps, said):
    """An rnn has no forget bias, so of each forget bias there is the map of the lstm alone."""
    said("sweep --cell rnn,lstm --forget-bias 1,2 --x scale --y hidden --steps 3 --hidden 2 --seeds 1")
    biases = ("forget_bias=None-cell=rnn", "forget_bias=1.0-cell=lstm", "forget_bias=2.0-cell=lstm")
    assert maps == {f"map-{name}.svg": ("scale", "hidden") for name in biases}


def test_what_somebody_else_put_where_the_table_goes_is_left_alone(maps, capsys):
    Path("atlas").mkdir()
    Path("atlas/table.csv").write_text("mine", encoding="utf-8")
    assert "is there already, but no table it could be of" in refused(capsys, "sweep", "--hidden", "2", "--steps", "3")


def test_a_sweep_goes_on_and_counts_what_failed(maps, capsys):
    words = "sweep --hidden 4 --steps 12 --seeds 1 --scale 1,2,1e200 --nonlinearity identity --bias 1e300".split()
    for _ in range(2):
        assert main(words) == 1 and "1 of 3 failed, the first with " in capsys.readouterr().out


def test_a_report_ends_with_the_files_that_are_written(said):
    assert said("flow rnn --steps 9 --json a.json").endswith("\nwrote     a.json\n")
