"""The gradient watched during training (P21)."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.diagnose import FlowProbe, probe_chart
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


@pytest.mark.full
def test_p21_learning_is_the_slope_going_to_zero():
    history = watched(50, 32, 450, 50)
    (_, before), (_, after) = history.records[0], history.records[-1]
    assert np.mean(history.losses[-50:]) < 0.01
    assert -0.02 < before["slope"] < -0.002 and abs(after["slope"]) < 0.004
    assert 0.0 <= after["ratio"] < math.log10(2.0) and after["largest gate f"] > 0.99 and 0.2 < after["carried"] < 0.7
