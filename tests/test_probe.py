"""The gradient watched during training (P21)."""

import math
from functools import partial

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.diagnose import FlowProbe, gradient_flow, probe_chart
from tinygrad_rnn.train import Adam, Adding, SequenceModel, every, fit


def watched(length, hidden, steps, k):
    task = Adding(length)
    model = SequenceModel(tg.LSTMCell(2, hidden, init="chrono", t_max=length, rng=0), task, rng=1)
    probe = FlowProbe(task.batch(np.random.default_rng(0), 16, 1)[0])
    return fit(model, task, Adam(model, lr=0.01), steps, clip_norm=1.0, callbacks=[every(k, probe)], progress=False)


def test_probe_records_and_draws(tmp_path):
    history = watched(12, 4, 4, 2)
    assert [step for step, _ in history.records] == [2, 4]
    assert {"slope", "ratio", "carried", "gate f", "largest gate f"} <= history.records[0][1].keys()
    pytest.importorskip("matplotlib")
    probe_chart(history, tmp_path / "probe.svg")
    history.records.clear()
    with pytest.raises(ValueError, match="FlowProbe"):
        probe_chart(history, tmp_path / "b.svg")


@pytest.mark.parametrize("forget_bias", [0.0, 2.0])
def test_every_number_of_a_record_is_that_of_the_network_by_hand(forget_bias):
    """A gate is averaged over time and sequences: the largest is of its units, and not of its steps."""
    steps, x = 9, 2.0 * np.random.default_rng(0).normal(size=(9, 3, 2))
    cell = tg.LSTMCell(2, 4, forget_bias=forget_bias, rng=0)
    record = FlowProbe(x).measure(cell)
    w, u, b, d = (p.numpy() for p in cell.parameters().values())
    h, c, found = np.zeros((3, 4)), np.zeros((3, 4)), []
    for row in x:
        i, f, g, o = np.split(row @ w.T + h @ u.T + b + d, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-a)) for a in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        found.append((i, f, o))
    for name, values in zip("ifo", map(np.array, zip(*found, strict=True)), strict=True):
        assert record[f"gate {name}"] == pytest.approx(values.mean())
        assert record[f"largest gate {name}"] == pytest.approx(values.mean(axis=(0, 1)).max())
    flow = gradient_flow(cell, x)
    newest, first = (np.median(row) for row in flow["c"].logs[[0, -1]])
    assert np.median(flow["c"].logs[-1] - flow["c"].logs[0]) == pytest.approx(record["ratio"])
    assert record["ratio"] < 0 and newest > first  # what is left at the first step, and not the other way round
    assert record["slope"] == flow["h"].line.slope and record["carried"] == flow.shares["", "c"].mean[steps - 5]


@pytest.mark.parametrize("ends", ["well", "by Ctrl-C", "by an error"])
def test_a_film_is_written_when_the_run_has_ended_however(ends, tmp_path):
    task = Adding(4)
    model = SequenceModel(tg.LSTMCell(2, 3, rng=0), task, rng=1)
    inputs = task.batch(np.random.default_rng(0), 2, 1)[0]
    probe, path = FlowProbe(inputs, film=tmp_path / "film.svg", title="While it learns"), tmp_path / "film.svg"

    def stop(run):
        assert not path.exists()
        if run.step == 5 and ends != "well":
            raise {"by Ctrl-C": KeyboardInterrupt, "by an error": RuntimeError}[ends]

    run = partial(fit, model, task, Adam(model), 6, callbacks=[every(2, probe), stop], progress=False)
    if ends == "well":
        run()
    else:
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            run()
    steps = (2, 4, 6) if ends == "well" else (2, 4)
    assert probe.film.labels == [f"after {step} updates" for step in steps]
    assert all(f">{label}</text>" in path.read_text() for label in probe.film.labels)


def test_a_run_that_ends_before_the_first_frame_says_that_there_is_no_film(tmp_path):
    task = Adding(4)
    model = SequenceModel(tg.RNNCell(2, 3, rng=0), task, rng=1)
    probe = FlowProbe(task.batch(np.random.default_rng(0), 2, 1)[0], film=tmp_path / "film.svg")
    with pytest.warns(UserWarning, match=r"no film was written to .*film\.svg: the run ended"):
        fit(model, task, Adam(model), 3, callbacks=[every(5, probe)], progress=False)
    assert not list(tmp_path.iterdir())


def test_the_frames_of_a_run_are_of_the_network_as_it_was(tmp_path):
    task = Adding(4)
    model = SequenceModel(tg.RNNCell(2, 3, rng=0), task, rng=1)
    inputs = task.batch(np.random.default_rng(0), 2, 1)[0]
    probe, seen = FlowProbe(inputs, film=tmp_path / "film.html"), []

    def look(run):
        head = run.model.head.weight.data[0]
        h = tg.unroll(run.model.network, inputs)[1]
        seen.append(tg.gradient_graph(tg.mean(h @ (head / np.linalg.norm(head)))))

    fit(model, task, Adam(model), 3, callbacks=[probe, look], progress=False)
    for frame, graph in zip(probe.film._frames.values(), seen, strict=True):
        sizes = [e.norm for e in frame.edges if e.carried is not None and frame.nodes[e.target].step]
        assert sizes == pytest.approx([e.norm for e in graph.edges if e.carried is not None][: len(sizes)])
        assert len(sizes) > 20


def test_a_film_that_cannot_be_written_is_refused_before_the_run(tmp_path):
    with pytest.raises(ValueError, match="must end in"):
        FlowProbe(np.ones((3, 1, 2)), film=tmp_path / "film.gif")
    with pytest.raises(OSError, match="nowhere"):
        FlowProbe(np.ones((3, 1, 2)), film=tmp_path / "nowhere" / "film.html")


@pytest.mark.full
def test_p21_learning_is_the_slope_going_to_zero():
    history = watched(50, 32, 450, 50)
    (_, before), (_, after) = history.records[0], history.records[-1]
    assert np.mean(history.losses[-50:]) < 0.01
    assert -0.02 < before["slope"] < -0.002 and abs(after["slope"]) < 0.004
    assert 0.0 <= after["ratio"] < math.log10(2.0) and after["largest gate f"] > 0.99 and 0.2 < after["carried"] < 0.7
