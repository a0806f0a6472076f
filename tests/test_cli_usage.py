"""The command line's own words: what ``--help`` tells, what holds where nothing is said, what a terminal shows."""

import contextlib
import io
import re
import sys

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import atlas, figure
from tinygrad_rnn.cli import COMMANDS, main
from tinygrad_rnn.cli.options import OPTIONS

SMALL = "--steps 4 --hidden 2 --out x.dot"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "10000")  # so that no help is broken into lines


@pytest.fixture
def said(capsys):
    """What a command line that ends with a code tells, on both streams."""

    def run(words, code=0):
        assert main(words.split()) == code
        told = capsys.readouterr()
        return told.out + told.err

    return run


def line(told, name):
    return next(line for line in told.splitlines() if line.startswith(f"{name} ")).split(maxsplit=1)[1]


# --- what --help says ---


def helped(name, capsys):
    with contextlib.suppress(SystemExit):
        main([name, "--help"])
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("option", OPTIONS)
def test_what_options_say_of_themselves_looks_alike(option):
    """A phrase without a full stop, and a name in capitals for the value."""
    how = OPTIONS[option]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", option) and not how["help"].endswith(tuple(".?!;:, "))
    assert "?" not in how["help"] and "_" not in how["help"].partition("derive_bptt")[0]
    assert re.fullmatch(r"[A-Z]+(=[A-Z:]+)?", how["metavar"]) if "type" in how else "metavar" not in how


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_tells_what_a_command_is_for_and_all_its_options_with_their_defaults(command, capsys):
    told = helped(command.name, capsys)
    about = " ".join(command.run.__doc__.split())
    assert about in told and about.partition(". ")[0] in helped("--help", capsys)
    for name in command.options.split():
        flag = f"--{name.replace('_', '-')}"
        assert f"{flag} " in told or f"{flag}," in told
    assert set(command.defaults) <= set(command.options.split())
    for name, default in command.defaults.items():
        value = f"; default: {', '.join(map(str, default)) if isinstance(default, list) else default}"
        assert value in told and f"{value}; default:" not in told, name
    for name, how in command.says.items():
        assert how.get("help", "") in told, name
    assert not re.search(r"None|\?", told)
    if command.name in ("train", "sweep"):
        assert " a folder; default: " in told


@pytest.mark.parametrize(
    "command, options",
    [
        ("draw", {"fold": "2, ", "parameters": "auto", "norm": "l2", "heads": "gradient", "view": "unrolled"}),
        ("sweep", {"recurrent": "orthogonal"}),
        ("check", {"order": "2, or what the file says", "seed": "0, or what the file says"}),
    ],
)
def test_defaults_that_the_package_has_are_told_too(command, options, capsys):
    told = helped(command, capsys)
    for name, default in options.items():
        assert re.search(rf"--{name} [A-Z,.]+ [^-]*; default: {default}", told), name


@pytest.mark.parametrize(
    "words, told",
    {
        "flow lstm --out y.dot": "the name must end in .svg, .png, .pdf, .csv, .html",
        "flow lstm --read 200": "--read 200: there are 100 steps: take one from 1 to 100",
        "draw lstm --page 600": "--page: expected slide, notebook or WIDTHxHEIGHT, found '600'",
        "draw lstm --colours 1:2:3": "--colours: expected fixed or LO:HI, found '1:2:3'",
        "draw lstm --film forget-bias": "--film: expected NAME=FROM:TO:COUNT, ",
        "draw lstm --view rolled --parameters step": "--parameters 'step': a rolled view has them once, or none",
        "sweep --scale 0.5:1.5": "--scale: expected a number, or A:B:N for N from A to B, found '0.5:1.5'",
        "sweep --steps 1": "--steps: expected a whole number from 2 to ",
    }.items(),
)
def test_an_error_is_one_line_that_says_what_would_be_right(words, told, said):
    assert told in (line := said(words, code=2)) and line.count("\n") == 1


# --- what holds where nothing is said ---


def test_draw_and_flow_begin_with_the_same_network_and_the_same_loss(said):
    for cell, kind in (("rnn", "RNN (tanh)"), ("lstm", "LSTM"), ("gru", "GRU")):
        drawn, measured = said(f"draw {cell} --out x.dot"), said(f"flow {cell} --steps 12")
        assert line(drawn, "init") == line(measured, "init") and line(drawn, "init").endswith(", seed 0")
        assert f"{kind}, hidden 8, float64" in drawn and f"{kind.split()[0]}Cell(1, 8)" in measured
        loss = line(drawn, "loss").partition(":")[0]
        assert loss == "L = v·h at the last step, v a random unit vector" and loss in measured
    assert "mean over the sequences: " in said(f"draw rnn --windows 2 {SMALL}")


def test_a_sweep_measures_what_the_page_says_where_nothing_is_said(said, monkeypatch):
    asked = []
    monkeypatch.setattr(figure, "new_figure", lambda *a: None)
    monkeypatch.setattr(atlas, "draw_atlas", lambda *a, **k: None)
    sweep = atlas.sweep
    monkeypatch.setattr(atlas, "sweep", lambda jobs, *a, **k: asked.extend(jobs) or sweep(list(jobs)[:1], *a, **k))
    said("sweep")
    one = {"cell": "rnn", "nonlinearity": "tanh", "scale": 1.0, "hidden": 64, "steps": 100}
    assert asked == [{**one, "seed": seed} for seed in range(5)]


@pytest.mark.parametrize("words", ["--x cell --cell lstm,gru", "--x nonlinearity", "--y scale", "--y cell --cell gru"])
def test_the_axis_that_is_not_named_is_another_than_the_one_that_is(words, said, monkeypatch):
    drawn = []
    monkeypatch.setattr(figure, "new_figure", lambda *a: None)
    monkeypatch.setattr(atlas, "draw_atlas", lambda table, path, x, y: drawn.append({x, y}))
    told = said(f"sweep {words} --steps 3 --hidden 2 --seeds 1")
    assert len(drawn[0]) == 2 and words.split()[1] in drawn[0]
    # Of one network there is no deviation.
    assert "nan" not in told and all(row.split()[-3] == "-" for row in told.splitlines()[1:-1])


def test_noise_is_another_at_another_seed_and_none_of_it_makes_the_network(said):
    first, other = (said(f"draw rnn --noise 2 --seed {seed} {SMALL}") for seed in (1, 2))
    assert line(first, "loss") != line(other, "loss") and "steps: 4, values a step: 2; sequences: 16" in first
    assert "steps: 5, values a step: 1" in said("draw rnn --noise 1 --hidden 2 --out x.dot")


# --- what a terminal shows ---


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_the_parts_of_a_long_piece_of_work_in_their_order(monkeypatch, said):
    monkeypatch.setattr(sys, "stderr", Terminal())
    said(f"draw rnn {SMALL}")
    shown = [part.strip() for part in sys.stderr.getvalue().split("\r") if "," in part]
    parts = ["unrolling", "gradients", "picture", "numbers"]
    assert list(dict.fromkeys(shown)) == [f"draw: {k} of 4, {part}" for k, part in enumerate(parts, 1)]
    assert sys.stderr.getvalue().endswith("\r"), "the bar is taken away"


def test_an_error_tells_of_the_option_as_it_is_spelt_here(said):
    told = said("train --task copying --updates 1 --length 0", 2)
    assert "--length: expected a whole number from 1 to 100000, found '0'" in told
    assert "error: --length 3: give a whole number, at least 10\n" in said("train --task temporal-order --length 3", 2)
    np.save("three.npy", np.ones((2, 30, 1)))
    np.save("lengths.npy", [1.5, 2.0])
    wrong = "lengths.npy: expected one whole number for each sequence\n"
    assert wrong in said("draw rnn --data three.npy --lengths lengths.npy", 2)
    np.save("lengths.npy", np.ones((2, 2)))
    assert wrong in said("draw rnn --data three.npy --lengths lengths.npy", 2)
    assert "--out: expected a value, found '--'\n" in said("draw rnn --out=--", 2)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ((28, "No space left on device"), "No space left on device"),
        ((28, "No space left on device", "a\nb"), "a\\nb: No space left on device"),
        (("all is lost",), "all is lost"),
    ],
)
def test_an_error_of_the_machine_is_told_in_its_words(reason, told, said, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(*reason)

    monkeypatch.setattr("tinygrad_rnn.nn.stacks.unroll", fail)
    assert said(f"draw rnn {SMALL}", 2) == f"tinygrad-rnn: error: {told}\n"


def test_a_loaded_network_is_told_as_it_is_built(said):
    for module, told in (
        (tg.RNN(1, 3, rng=0), "RNN (relu), hidden 3"),
        (tg.GRU(1, 3, 2, bidirectional=True, rng=0), "GRU, hidden 3, 2 layers, both ways"),
        (tg.LSTM(1, 3, rng=0), "LSTM, hidden 3"),
    ):
        tg.nn.save("a.npz", module.state_dict())
        more = "--nonlinearity relu" if isinstance(module, tg.RNN) else ""
        assert line(said(f"draw --weights a.npz {more} --steps 2 --out x.dot"), "cell") == f"{told}, float64"


def test_a_failed_job_is_told_with_what_failed(said, monkeypatch):
    monkeypatch.setattr(figure, "new_figure", lambda *a: None)
    monkeypatch.setattr(atlas, "draw_atlas", lambda *a, **k: None)
    told = said("sweep --hidden 4 --steps 12 --seeds 1 --scale 1,1e200 --nonlinearity identity --bias 1e300", 1)
    assert re.search(r"^1 of 2 failed, the first with [A-Z]\w+", told, re.MULTILINE)


PROMISED = {
    "draw": "hidden 8, seed 0, loss last, theme light, parameters auto, norm l2, heads gradient, view unrolled",
    "flow": "hidden 8, seed 0, loss last",
    "train": "hidden 32, seed 0, updates 600, optimiser adam, evaluate_every 50, checkpoint_every 100, out run",
    "sweep": "cell rnn, scale 1.0, hidden 64, steps 100, seeds 5, out atlas, format svg, workers 1",
}
"""What whoever leaves an option out relies on: a change of it belongs into the changelog, and here."""


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_default_is_a_promise(command):
    told = [f"{name} {v[0] if isinstance(v, list) else v}" for name, v in command.defaults.items()]
    assert ", ".join(told) == PROMISED.get(command.name, "")
