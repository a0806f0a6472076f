"""``tinygrad-rnn flow``: text, chart, JSON, and an exit code that a build can depend on."""

import json

import pytest

from tinygrad_rnn.cli import main


def run(capsys, *arguments):
    code = main(["flow", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_flow_prints_verdict_and_writes_files(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    chart, numbers = tmp_path / "flow.svg", tmp_path / "flow.json"
    code, out, err = run(capsys, "--cell", "lstm", "--forget-bias", 1, "--steps", 40, "--out", chart, "--json", numbers)
    assert (code, err) == (0, "") and "at initialisation" in out and "cause" in out
    assert chart.stat().st_size > 1000 and json.loads(numbers.read_text("utf-8"))["setting"]["steps"] == 40


def test_fail_on_ends_with_one(capsys):
    sigmoid = ("--cell", "rnn", "--nonlinearity", "sigmoid", "--steps", 30)
    assert run(capsys, *sigmoid, "--fail-on", "vanishing,exploding")[0] == 1
    assert run(capsys, *sigmoid, "--fail-on", "exploding")[0] == 0


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--cell", "rnn", "--fail-on", "boring"), "the verdicts are exploding"),
        (("--cell", "rnn", "--out", "a.txt"), ".svg"),
        ((), "name a cell"),
        (("--cell", "rnn", "--noise", "0"), "--noise"),
    ],
)
def test_mistakes_are_named(capsys, arguments, said):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and said in err


def test_weights_are_after_training(tmp_path, capsys):
    import tinygrad_rnn as tg
    from tinygrad_rnn.nn import save

    save(tmp_path / "a.npz", tg.LSTM(1, 4, rng=0).state_dict())
    code, out, _ = run(capsys, "--weights", tmp_path / "a.npz", "--steps", 30)
    assert code == 0 and "after training" in out
