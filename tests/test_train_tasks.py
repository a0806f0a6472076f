"""Tasks: what is asked is what the papers ask, and the baseline is the loss of the answer that it names."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.data import DataError, read
from tinygrad_rnn.train import Adding, Copying, SequenceModel, Series, Task, TemporalOrder, Text, zen_of_python

TASKS = [Adding(20), Adding(20, minimal_lag=True), Copying(7), TemporalOrder(20), Text(length=9), Series(length=8)]


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_interface(task):
    inputs, targets = task.batch(rng(), 3)
    again, _ = task.batch(rng(), 3)
    np.testing.assert_array_equal(inputs, again)
    assert inputs.shape[1:] == (3, task.inputs) and len(inputs) >= task.length
    model = SequenceModel(tg.GRUCell(task.inputs, 4, rng=0), task, rng=1)
    outputs, _ = model(inputs)
    assert outputs.shape == ((3, task.outputs) if task.last else (len(inputs), 3, task.outputs))
    loss = task.loss(outputs, targets)
    assert loss.shape == () and loss.requires_grad and np.isfinite(loss.data)
    assert np.isfinite(task.metric(outputs.numpy(), targets))
    np.testing.assert_array_equal(task.test_batch()[0], task.test_batch()[0])
    assert task.baseline_means and task.metric_name and 0 < task.solved_below < task.baseline
    narrow = SequenceModel(tg.GRUCell(task.inputs, 4, rng=0, dtype=np.float32), task, rng=1)
    assert task.loss(narrow(inputs)[0], targets).dtype == np.float32


def answered(task, answer, size=4000):
    """The loss of an answer that looks at nothing."""
    _, targets = task.batch(rng(1), size)
    outputs = np.broadcast_to(answer, (*targets.shape[: 1 if task.last else 2], task.outputs))
    return float(task.loss(tg.Tensor(outputs), targets).data)


def test_baselines_are_losses_of_the_answers_that_they_name():
    for task in (Adding(40), Adding(40, minimal_lag=True)):
        assert answered(task, [1.0]) == pytest.approx(1 / 6, rel=0.05)
        assert min(answered(task, [a]) for a in (0.9, 1.1)) > answered(task, [1.0])
    assert answered(TemporalOrder(20), np.zeros(4)) == pytest.approx(math.log(4), rel=1e-12)
    assert answered(Text(length=25), np.zeros(45), 1) == pytest.approx(25 * math.log(45), rel=1e-12)
    for length in (100, 200, 500, 1000):
        task = Copying(length)
        blank = np.zeros((length + 20, 1, 9))
        blank[:-10, :, :8] = blank[-10:, :, 8] = -1e3
        assert answered(task, blank, 20) == pytest.approx(task.baseline, rel=1e-9)
    assert [round(Copying(t).baseline, 5) for t in (100, 200, 500, 1000)] == [0.17329, 0.09452, 0.03999, 0.02039]
    nile = Series()
    assert nile.baseline == min(np.mean(nile.known**2), np.mean(np.diff(nile.known, axis=0) ** 2))


@pytest.mark.parametrize("length", [4, 7, 50, 51])
@pytest.mark.parametrize("minimal_lag", [False, True])
def test_adding(length, minimal_lag):
    inputs, targets = Adding(length, minimal_lag).batch(rng(), 2000)
    values, marks = inputs[..., 0], inputs[..., 1]
    assert ((values >= 0) & (values < 1)).all() and set(np.unique(marks)) == {0.0, 1.0} and (marks.sum(0) == 2).all()
    np.testing.assert_allclose((values * marks).sum(0), targets[:, 0])
    first, last = marks.argmax(0), length - 1 - marks[::-1].argmax(0)
    ends = (length // 4, length // 2) if minimal_lag else (length // 2, length)
    assert (first.min(), first.max()) == (0, ends[0] - 1) and (last.min(), last.max()) == (ends[0], ends[1] - 1)


def test_copying():
    inputs, targets = Copying(6).batch(rng(), 300)
    seen = inputs.argmax(-1)
    assert inputs.shape == (26, 300, 10) and (inputs.sum(-1) == 1).all()
    np.testing.assert_array_equal(targets[-10:], seen[:10])
    assert (targets[:16] == 8).all() and (seen[10:15] == 8).all() and (seen[15] == 9).all() and (seen[16:] == 8).all()
    assert set(np.unique(seen[:10])) == set(range(8))
    task, perfect = Copying(6), np.eye(9)[targets]
    assert task.metric(perfect, targets) == 0.0
    assert task.metric(np.zeros_like(perfect), targets) == pytest.approx(7 / 8, abs=0.02)


def test_temporal_order():
    inputs, classes = TemporalOrder(50).batch(rng(), 1000)
    symbols = inputs.argmax(-1)
    relevant = symbols >= 4
    assert inputs.shape == (50, 1000, 6) and (relevant.sum(0) == 2).all()
    first, second = relevant.argmax(0), 49 - relevant[::-1].argmax(0)
    assert (first.min(), first.max(), second.min(), second.max()) == (5, 9, 20, 24)
    rows = np.arange(1000)
    np.testing.assert_array_equal(classes, 2 * (symbols[first, rows] - 4) + symbols[second, rows] - 4)
    assert np.bincount(classes).min() > 200


def test_zen_of_python(capsys):
    zen = zen_of_python()
    assert len(zen) == 856 and len(set(zen)) == 45 and zen.startswith("The Zen of Python, by Tim Peters")
    assert zen_of_python() == zen and capsys.readouterr().out == ""
    assert Text().baseline == pytest.approx(95.17, abs=0.01)


def test_text_is_read_in_order_and_the_state_carried_on():
    task = Text("abcdefghijk", length=3)
    read = []
    for step in range(1, 8):
        inputs, targets = task.batch(rng(), 1, step)
        read.append("".join(task.alphabet[i] for i in inputs[:, 0].argmax(-1)))
        assert "".join(task.alphabet[i] for i in targets[:, 0]) == "abcdefghijk"[3 * ((step - 1) % 3) + 1 :][:3]
    assert read == ["abc", "def", "ghi", "abc", "def", "ghi", "abc"]
    assert [task.fresh(step) for step in range(1, 8)] == [True, False, False, True, False, False, True]
    inputs, targets = task.batch(rng(), 2, 1)
    assert ["".join(task.alphabet[i] for i in inputs[:, k].argmax(-1)) for k in (0, 1)] == ["abc", "fgh"]


def test_text_of_a_file(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("ä" * 20 + "b" * 20, encoding="utf-8-sig")
    for given in (path, str(path)):
        assert Text(given, length=5).alphabet == "bä" and Text(given).name == "characters of mine.txt"
    path.write_bytes(b"\xc3\x28" * 100)
    for text, words in (
        (path, "UTF-8"),
        (tmp_path / "no.txt", "no.txt"),
        ("abc", "need at least"),
        ("a" * 99, "only one"),
    ):
        with pytest.raises(DataError, match=words):
            Text(text)


def test_text_is_written_by_what_a_model_predicts():
    task = Text("abcabcabcabcabcabcabcabcabcabc", length=6)

    def next_letter(inputs, state=None):
        return tg.Tensor(1e3 * np.roll(inputs, 1, axis=-1)), None

    assert task.sample(next_letter, 7, 0) == "abcabca"
    model = SequenceModel(tg.RNNCell(3, 4, rng=0), task, rng=1)
    assert task.sample(model, 9, 5) == task.sample(model, 9, 5) and len(task.sample(model, 9)) == 9


def test_series(tmp_path):
    path = tmp_path / "wave.csv"
    t = np.arange(60)
    path.write_text("a,b\n" + "".join(f"{np.sin(i)},{np.cos(i)}\n" for i in t), encoding="utf-8")
    task = Series(path, length=7)
    assert task.inputs == task.outputs == 2 and Series(read(path, columns=["b"]), length=7).inputs == 1
    inputs, targets = task.batch(rng(), 5)
    assert inputs.shape == targets.shape == (7, 5, 2)
    np.testing.assert_array_equal(inputs[1:], targets[:-1])
    held, after = task.test_batch()
    np.testing.assert_array_equal(held[1:, 0], after[:-1, 0])
    assert len(held) + len(task.known) + 1 == 60
    with pytest.raises(DataError, match="too few"):
        Series(path, length=48)
    (tmp_path / "prose.txt").write_text("to be or not to be " * 9, encoding="utf-8")
    with pytest.raises(DataError, match="predicts numbers"):
        Series(tmp_path / "prose.txt")
    for wrong in (3, [1.0, 2.0], np.ones((30, 1))):
        with pytest.raises(ValueError, match=r"data=.*: give a path, or Data"):
            Series(wrong)


def test_several_series_and_numbers_as_they_are(tmp_path):
    values = np.random.default_rng(0).normal(5.0, 3.0, size=(4, 30, 2))
    np.save(tmp_path / "x.npy", values)
    task = Series(read(tmp_path / "x.npy", standardise=False), length=7)
    inputs, _ = task.batch(rng(), 50)
    assert inputs.shape == (7, 50, 2)
    known = {tuple(row) for row in values[:, :24].reshape(-1, 2)}
    assert {tuple(row) for row in inputs.reshape(-1, 2)} <= known and len({*inputs[0, :, 0]} & {*values[3, :, 0]}) > 1
    np.testing.assert_array_equal(task.test_batch()[0], values[:, 24:-1].transpose(1, 0, 2))
    mean = values.reshape(-1, 2).mean(axis=0)
    assert task.baseline == pytest.approx(np.mean((values[:, :24] - mean) ** 2))
    scaled = Series(read(tmp_path / "x.npy"), length=7)
    assert scaled.baseline < 2 < task.baseline
    with pytest.raises(DataError, match=r"no\.csv"):
        Series(tmp_path / "no.csv")


def test_what_is_tested_on():
    for task in (Adding(20), Adding(20, minimal_lag=True), Copying(7), TemporalOrder(20)):
        inputs, targets = task.test_batch()
        assert inputs.shape[1] == 500 and 500 in targets.shape[:2]
    for text, count in ((None, 855), ("ab" * 900, 1000)):
        task = Text(text)
        inputs, targets = task.test_batch()
        np.testing.assert_array_equal(inputs[:, 0].argmax(-1), task.symbols[:count])
        np.testing.assert_array_equal(targets[:, 0], task.symbols[1 : count + 1])
        assert len(inputs) == count


@pytest.mark.parametrize("steps", [6, 50])
def test_the_baseline_of_a_series_is_the_better_of_two_answers(steps, tmp_path):
    """Of noise it is the mean, of a walk the last value again; solved is a tenth below both answers on the rest."""
    noise = np.resize([1.0, -1.0, 0.5, -0.5, 1.0], steps)
    for values, words in ((noise, "mean"), (np.linspace(0, 1, steps) ** 2, "last value again")):
        path = tmp_path / "series.csv"
        path.write_text("\n".join(map(repr, values.tolist())), encoding="utf-8")
        task = Series(path, length=2)
        x = read(path).values[:, 0]
        known, held = x[: steps * 4 // 5], x[steps * 4 // 5 :]
        mean, last = (
            [np.mean(error**2) for error in errors]
            for errors in ((known, held[1:]), (np.diff(known, axis=0), np.diff(held, axis=0)))
        )
        baseline, rest = (mean if words == "mean" else last)[0], min(mean[1], last[1])
        assert task.baseline_means == f"always answer the {words}" and baseline == min(mean[0], last[0])
        assert task.baseline == pytest.approx(baseline) and task.solved_below == pytest.approx(0.9 * rest)
        windows = {tuple(w) for w in np.squeeze(task.batch(rng(), 200)[0]).T.tolist()}
        assert windows == {tuple(known[k : k + 2, 0].tolist()) for k in range(len(known) - 2)}


def test_tasks_as_they_are_without_being_asked():
    names = [repr(kind()) for kind in (Adding, Copying, TemporalOrder, Text, Series)]
    assert names[:3] == ["adding, T=50", "copying, T=50", "temporal order, T=50"]
    assert names[3] == "characters of the Zen of Python, T=25" and names[4].endswith(", T=20")
    assert repr(Adding(minimal_lag=True)) == "adding, minimal lag T/2, T=50"


def test_the_shortest_that_there_can_be(tmp_path):
    path = tmp_path / "series.npy"
    np.save(path, np.arange(6.0)[:, None] ** 2)
    assert len(Series(path, length=3).test_batch()[0]) == 1
    for steps, length in ((6, 4), (5, 1)):
        np.save(path, np.arange(float(steps))[:, None] ** 2)
        with pytest.raises(DataError, match=f"{steps} steps are too few for windows of {length}"):
            Series(path, length=length)
    assert Text("ab", length=1).batch(rng(), 1)[0].tolist() == [[[1.0, 0.0]]]
    with pytest.raises(DataError, match="has 2 characters: windows of 2 need at least 3"):
        Text("ab", length=2)
    for kind in (Text, Series):
        with pytest.raises(ValueError, match="length=0"):
            kind(length=0)


@pytest.mark.parametrize("kind, length", [(Adding, 3), (Copying, 0), (TemporalOrder, 9)])
def test_lengths_that_make_no_task(kind, length):
    with pytest.raises(ValueError, match=f"length={length}: give a whole number, at least"):
        kind(length)


def test_a_task_of_ones_own_and_a_model_that_does_not_fit():
    with pytest.raises(NotImplementedError):
        Task().batch(rng(), 1)
    with pytest.raises(ValueError, match=r"adding, T=20 gives 2 values a step, and RNNCell\(3, 4\) takes 3"):
        SequenceModel(tg.RNNCell(3, 4), Adding(20))
    with pytest.raises(ValueError, match="batch_first"):
        SequenceModel(tg.GRU(2, 4, batch_first=True), Adding(20))
