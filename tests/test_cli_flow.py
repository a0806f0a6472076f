"""``tinygrad-rnn flow``: text, chart, JSON, and an exit code that a build can depend on."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.cli import main
from tinygrad_rnn.nn import load, save
from tinygrad_rnn.train import Adam, SequenceModel


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


def test_what_the_task_needs_can_be_asked_for(capsys):
    told = [run(capsys, "--cell", "rnn", "--steps", 60, *more)[1] for more in ((), ("--lag", 3), ("--read", 20))]
    assert ["lag 59 is", "lag 3 is", "lag 19 is"] == [
        text.split("; ")[1][: len("lag 59 is")].strip(" a") for text in told
    ]
    assert "VANISHING" in told[0] and "HEALTHY" in told[1]


def test_one_page_and_a_table(tmp_path, capsys):
    for name in ("flow.html", "flow.csv"):
        assert run(capsys, "--cell", "rnn", "--steps", 20, "--out", tmp_path / name)[0] == 0
    assert "lag,log10" in (tmp_path / "flow.csv").read_text() and "verdict" in (tmp_path / "flow.html").read_text(
        "utf-8"
    )
    pytest.importorskip("matplotlib")
    assert "<svg" in (tmp_path / "flow.html").read_text("utf-8")


def test_a_task_tells_which_changes_learn(capsys):
    cell = ("--cell", "lstm", "--hidden", 4, "--steps", 30, "--updates", 3)
    code, out, _ = run(capsys, *cell, "--cure", "adding-minimal-lag")
    assert code == 0 and "16 sequences of the task adding, minimal lag" in out and out.count("does not learn") >= 3
    for wrong in (("--noise", 2), ("--data", "x.csv"), ("--weights", "a.npz")):
        code, _, err = run(capsys, *cell, "--cure", "adding", *wrong)
        assert code == 2 and f"{wrong[0]} is not asked with --cure" in err
    assert "--updates belongs to --cure" in run(capsys, "--cell", "rnn", "--updates", 3)[2]


@pytest.mark.parametrize(("seed", "updates"), [(0, None), (3, 7)])
def test_what_is_trained_for_a_cure_is_drawn_by_the_seed_and_trained_as_often_as_is_said(
    seed, updates, capsys, monkeypatch
):
    seen = []

    def fit(model, task, optimiser, steps, **options):
        seen.append((model, task, optimiser, steps, options))
        return SimpleNamespace(losses=[1.0])

    def cure(flow, train, below):
        train(flow.experiment.model)
        return f"below {below:.6g}"

    monkeypatch.setattr("tinygrad_rnn.train.fit", fit)
    monkeypatch.setattr("tinygrad_rnn.diagnose.cure", cure)
    often = () if updates is None else ("--updates", updates)
    code, out, _ = run(
        capsys, *("--cell", "rnn", "--hidden", 3, "--steps", 12, "--cure", "adding", "--seed", seed), *often
    )
    ((model, task, optimiser, steps, options),) = seen
    network = tg.RNNCell(2, 3, rng=seed)
    wanted = SequenceModel(network, task, rng=np.random.default_rng([seed, 2]))
    assert code == 0 and "below 0.133333" in out and repr(task) == "adding, T=12"
    assert {n: p.numpy().tolist() for n, p in model.parameters().items()} == {
        n: p.numpy().tolist() for n, p in wanted.parameters().items()
    }
    assert (steps, optimiser.lr, type(optimiser)) == (updates or 500, 0.01, Adam)
    assert (options["seed"], options["clip_norm"]) == (seed, 1.0)


def test_several_weights_are_compared(tmp_path, capsys):
    for name, init in (("a", "pytorch"), ("b", "chrono")):
        save(tmp_path / f"{name}.npz", tg.LSTM(1, 4, rng=0, init=init, t_max=60).state_dict())
    files = [word for name in "ab" for word in ("--weights", tmp_path / f"{name}.npz")]
    code, out, _ = run(capsys, *files, "--steps", 60, "--fail-on", "vanishing", "--json", tmp_path / "both.json")
    assert code == 1 and "a.npz" in out and "b.npz" in out and "spread" in out
    both = json.loads((tmp_path / "both.json").read_text("utf-8"))
    assert both["a.npz"]["verdict"]["word"] != both["b.npz"]["verdict"]["word"]
    assert both["a.npz"]["measured"]["file"].endswith("a.npz")
    assert "a.npz is given twice: give each file once" in run(capsys, *files[:2], *files[:2])[2]


def test_files_of_one_name_are_told_apart_by_their_folders_and_the_lost_one_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = tg.LSTM(1, 4, rng=0).state_dict()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "w.npz", state)
    files = ["--weights", "one/w.npz", "--weights", "two/w.npz"]
    code, out, _ = run(capsys, *files, "--steps", 20)
    assert code == 0 and all(re.search(rf"^{folder}/w\.npz +20 ", out, re.MULTILINE) for folder in ("one", "two"))
    state["weight_hh_l0"][0, 0] = np.nan
    save(tmp_path / "two" / "w.npz", state)
    code, out, _ = run(capsys, *files, "--steps", 20)
    assert code == 3 and "NO NETWORK: two/w.npz: weight_hh_l0 holds 1 of" in out


def test_one_step_is_spoken_of_in_the_singular(capsys):
    assert "T = 1 step, " in (one := run(capsys, "gru", "--steps", 1)[1]) and ": 1 step is seen, " in one
    assert "and that 1 step before\n" in run(capsys, "gru", "--steps", 3, "--read", 2)[1]


def test_a_network_that_is_lost_has_a_code_of_its_own(tmp_path, capsys):
    state = tg.LSTM(1, 4, rng=0).state_dict()
    state["weight_hh_l0"][0, 0] = np.nan
    save(tmp_path / "lost.npz", state)
    asked = ("--weights", tmp_path / "lost.npz", "--steps", 20)
    code, out, _ = run(capsys, *asked, "--json", tmp_path / "lost.json")
    assert code == 3 and "NO NETWORK: lost.npz: weight_hh_l0 holds 1 of 64 numbers that are not finite" in out
    told = json.loads((tmp_path / "lost.json").read_text("utf-8"))["verdict"]
    assert told["word"] == "no network" and f"NO NETWORK: {told['reason']}\n" in out
    assert json.loads(run(capsys, *asked, "--json", "-")[1])["verdict"] == told


@pytest.mark.parametrize(
    "bound, code", [("D>6", 1), ("D>600", 0), ("reach<50", 1), ("reach < 2", 0), ("D<-2, reach>1", 1)]
)
def test_a_bound_of_its_own(capsys, bound, code):
    assert run(capsys, "--cell", "rnn", "--steps", 60, "--fail-on", bound)[0] == code


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


def test_a_file_says_what_is_known_of_its_weights(tmp_path, capsys):
    save(tmp_path / "a.npz", tg.LSTM(1, 4, rng=0).state_dict())
    code, out, _ = run(capsys, "--weights", tmp_path / "a.npz", "--steps", 30)
    assert code == 0 and "as loaded" in out and "does your task need more than" in out and "change " not in out
    assert (
        main([*"train lstm --task adding --hidden 4 --length 9 --updates 3 --out".split(), str(tmp_path / "run")]) == 0
    )
    checkpoint = tmp_path / "run" / "checkpoint.npz"
    code, out, _ = run(capsys, "--weights", checkpoint, "--noise", 2, "--steps", 60)
    assert code == 0 and "after 3 updates" in out and "does your task need more than" in out
    arrays = load(checkpoint)
    save(tmp_path / "first.npz", arrays | {"history/losses": np.zeros(0)})
    code, out, _ = run(capsys, "--weights", tmp_path / "first.npz", "--noise", 2, "--steps", 60)
    assert code == 0 and "after 0 updates" in out and "change    " in out and "does your task" not in out


def test_every_sign_in_the_report_is_explained_there(capsys):
    """A reader who meets D, φ′, "carried" or "beyond 5" finds in the same report what it means."""
    assert main(["flow", "lstm", "--steps", "30"]) == 0
    said = capsys.readouterr().out
    explained = {
        " D ": " D (decades lost) ",
        "φ′ mean": "\nφ′: ",
        "carried in": "\ncarried: ",
        "beyond 5": "\nbeyond k: ",
    }
    for sign, words in explained.items():
        assert sign in said and words in said, sign


@pytest.mark.parametrize("asked, taken", [((), "7 steps"), (("--steps", 3), "3 steps"), (("--steps", 1), "1 step")])
def test_padded_sequences_are_cut_and_the_output_says_so(tmp_path, capsys, asked, taken):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(3, 12, 2)))
    np.save(tmp_path / "lengths.npy", [12, 7, 9])
    given = "--cell", "gru", "--data", tmp_path / "x.npy"
    said, plain = (run(capsys, *given, *more, *asked)[1] for more in (("--lengths", tmp_path / "lengths.npy"), ()))
    assert f"padded after 7 or more, each cut to its first {taken}" in said and "cut" not in plain
