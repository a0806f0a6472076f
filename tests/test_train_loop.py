"""The training loop beside one written by hand: every number of a run, every file it leaves, everything it shows."""

import inspect
import io
import json
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, train
from tinygrad_rnn.train import SGD, Adam, Adding, Diverged, History, SequenceModel, Task, Text, every, fit
from tinygrad_rnn.train.fit import Interrupted

QUIET = {"progress": False}
READ = "the quick brown fox jumps over the lazy dog"


def made(task, network=None):
    return SequenceModel(network or tg.LSTMCell(task.inputs, 3, rng=0), task, rng=1)


def by_hand(
    model, task, steps, lr, batch_size=32, clip_norm=None, clip_value=None, window=None, seed=0, evaluate_every=50
):
    """Gradient descent as the documentation of `fit` tells it: losses, norms and metrics."""
    rng, state = np.random.default_rng(seed), None
    losses, norms, metrics = [], [], []
    for step in range(1, steps + 1):
        inputs, targets = task.batch(rng, batch_size, step)
        outputs, state = model(inputs, None if task.fresh(step) else state, **({"window": window} if window else {}))
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        parameters = list(model.parameters().values())
        loss = task.loss(outputs, targets)
        gradients = [g.data for g in tg.grad(loss, parameters)]
        losses.append(loss.item())
        norms.append(np.sqrt(sum(np.sum(g**2) for g in gradients)))
        if clip_norm:
            gradients = [g * min(1.0, clip_norm / norms[-1]) for g in gradients]
        if clip_value:
            gradients = [np.clip(g, -clip_value, clip_value) for g in gradients]
        for p, g in zip(parameters, gradients, strict=True):
            p.data = p.data - lr * g
        if step % evaluate_every == 0 or step == steps:
            inputs, targets = task.test_batch()
            metrics.append((step, task.metric(model(inputs)[0].numpy(), targets)))
    return losses, norms, metrics


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 5, "clip_norm": 0.05, "evaluate_every": 2},
        {"batch_size": 1, "clip_value": 0.01, "seed": 7, "evaluate_every": 3},
        {"batch_size": 3, "clip_norm": 0.1, "clip_value": 0.02, "window": 3, "evaluate_every": 7},
        {"batch_size": 2, "clip_norm": 1e3, "window": 1, "seed": 2, "evaluate_every": 1},
    ],
    ids=repr,
)
@pytest.mark.parametrize("task", [Adding(6), Text(READ, 4)], ids=repr)
def test_every_number_of_a_run_is_that_of_a_loop_by_hand(task, options):
    model, other = made(task), made(task)
    states = []
    history = fit(model, task, SGD(model, lr=0.1), 7, **options, **QUIET, callbacks=[lambda run: states.append(run)])
    losses, norms, metrics = by_hand(other, task, 7, 0.1, **options)
    np.testing.assert_allclose(history.losses, losses, rtol=1e-10)
    np.testing.assert_allclose(history.norms, norms, rtol=1e-9)
    np.testing.assert_allclose(history.metrics, metrics, rtol=1e-9)
    for name, p in other.parameters().items():
        np.testing.assert_allclose(model.parameters()[name].data, p.data, rtol=1e-9, atol=1e-14)
    assert history.task == repr(task) and history.steps == 7 and states[0].step == 7 and states[0].task is task
    told = (task.baseline, task.baseline_means, task.metric_name, task.solved_below)
    assert (history.baseline, history.baseline_means, history.metric_name, history.solved_below) == told


DEFAULTS = {
    fit: {
        "batch_size": 32,
        "clip_norm": None,
        "clip_value": None,
        "window": None,
        "seed": 0,
        "evaluate_every": 50,
        "until_solved": False,
        "callbacks": (),
        "checkpoint": None,
        "checkpoint_every": 100,
        "resume": False,
        "derived": False,
        "progress": True,
    },
    Adding: {"length": 50, "minimal_lag": False},
    train.Copying: {"length": 50},
    train.TemporalOrder: {"length": 50},
    Text: {"text": None, "length": 25},
    train.Series: {"data": None, "length": 20},
    SequenceModel: {"rng": None},
    History.smooth: {"rate": 0.001},
    History.save: {"title": None},
    History.plot: {"axes": None},
}


@pytest.mark.parametrize("kind", DEFAULTS, ids=lambda f: f.__qualname__)
def test_defaults(kind):
    own = {n: p.default for n, p in inspect.signature(kind).parameters.items() if p.default is not p.empty}
    assert own == DEFAULTS[kind]


WHOLE, FLAG, POSITIVE = "give a whole number, at least 1", "give True or False", "give a positive number"
OPTIONS = {
    **dict.fromkeys(("steps", "batch_size", "window", "evaluate_every", "checkpoint_every"), (0, WHOLE)),
    **dict.fromkeys(("until_solved", "resume", "derived", "progress"), (2, FLAG)),
    **dict.fromkeys(("clip_norm", "clip_value"), (-1, POSITIVE)),
    "seed": (-1, "give a whole number, at least 0"),
    "callbacks": (3, "give a list of functions that take the Run"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_wrong_setting_is_named_before_the_first_step(option):
    wrong, words = OPTIONS[option]
    model = Height()
    with pytest.raises(ValueError, match=rf"^{option}={wrong}: {words}$"):
        fit(model, Countdown(), SGD(model), **({"steps": 3} | QUIET | {option: wrong}))
    assert not model.calls and model.w.item() == 1.0
    for wrong, words in ((0, WHOLE), (1.5, WHOLE)):
        with pytest.raises(ValueError, match=rf"^k={wrong}: {words}$"):
            every(wrong, print)
    with pytest.raises(ValueError, match=r"^callback=3: give a function that takes the Run$"):
        every(2, 3)


# --- when it stops, what it calls, what it writes ---


class Countdown(Task):
    """Solved once the one parameter is below 0.5: each step takes 0.1 from it."""

    name, inputs, outputs, baseline, baseline_means = "countdown", 1, 1, 2.0, "always answer 1: no change"
    metric_name, solved_below = "height", 0.55

    def batch(self, rng, size, step=1):
        return np.ones((1, size, 1)), np.zeros(size)

    def loss(self, outputs, targets):
        return tg.sum(outputs)

    def metric(self, outputs, targets):
        return float(outputs)


class Height:
    """Its output is its parameter, and it remembers how it was called."""

    def __init__(self):
        self.w, self.training, self.calls = tg.Tensor(1.0, requires_grad=True), True, []

    def __repr__(self):
        return "Height()"

    def parameters(self):
        return {"w": self.w}

    def eval(self):
        self.training = False

    def train(self):
        self.training = True

    def __call__(self, inputs, state=None):
        y = self.w * 1.0
        self.calls.append((self.training, y.requires_grad))
        return y, None


def descend(steps=20, **options):
    model = Height()
    history = fit(model, Countdown(), SGD(model, lr=0.1), steps, **QUIET, **options)
    return model, history


@pytest.mark.parametrize(("look", "found"), [(1, 5), (2, 6), (5, 5), (7, 7), (50, 20)])
def test_until_solved_stops_at_the_first_look_that_finds_it_so(look, found, tmp_path):
    _, history = descend(evaluate_every=look, until_solved=True, checkpoint=tmp_path / "c.npz")
    assert history.steps == found and history.solved_at == found
    assert [step for step, _ in history.metrics] == sorted({*range(look, found + 1, look), found})
    assert [value for _, value in history.metrics] == pytest.approx([1 - 0.1 * step for step, _ in history.metrics])
    assert step_of(tmp_path / "c.npz") == found  # the end is always kept
    _, again = descend(evaluate_every=look, until_solved=True, checkpoint=tmp_path / "c.npz", resume=True)
    assert again.losses == history.losses
    assert descend(9, evaluate_every=look)[1].steps == 9


def test_a_look_is_taken_without_dropout_and_without_a_graph():
    model, _ = descend(3, evaluate_every=2)
    steps, looks = (True, True), (False, False)
    assert model.calls == [steps, steps, looks, steps, looks] and model.training
    model = Height()
    model.eval()
    fit(model, Countdown(), SGD(model), 2, **QUIET)
    assert model.calls == [(False, True)] * 2 + [looks] and not model.training


def step_of(path):
    return json.loads(nn.load(path)["about"].tobytes())["step"]


@pytest.mark.parametrize("often", [1, 3, 4, 100])
def test_a_checkpoint_is_written_at_the_start_every_so_many_steps_and_at_the_end(often, tmp_path):
    path, seen = tmp_path / "c.npz", []
    descend(10, checkpoint=str(path), checkpoint_every=often, callbacks=[lambda run: seen.append(step_of(path))])
    assert seen == [(step - 1) // often * often for step in range(1, 11)] and step_of(path) == 10


def test_what_a_checkpoint_holds(tmp_path):
    path, task = tmp_path / "c.npz", Text(READ, 4)
    model = made(task)
    optimiser = Adam(model, lr=0.01)
    last = []
    history = fit(model, task, optimiser, 5, batch_size=2, checkpoint=path, callbacks=[last.append], **QUIET)
    arrays = nn.load(path)
    about = json.loads(arrays.pop("about").tobytes())
    want = {f"model/{name}": p.data for name, p in model.parameters().items()}
    want |= {f"optimiser/{name}": array for name, array in optimiser.state_dict().items()}
    want |= {f"state/{k}": part.data for k, part in enumerate(last[0].state)}
    want |= {"history/losses": history.losses, "history/norms": history.norms}
    assert arrays.keys() == want.keys()
    for name, array in want.items():
        np.testing.assert_array_equal(arrays[name], array)
    assert (about["step"], about["history"]["metrics"]) == (5, [list(pair) for pair in history.metrics])
    assert about["identity"] == {
        "task": repr(task),
        "its data": about["identity"]["its data"],
        "model": f"SequenceModel({model.network!r}, {model.head!r})",
        "parameters": {name: f"{p.dtype} {p.shape}" for name, p in model.parameters().items()},
        "optimiser": "Adam(betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)",  # its learning rate may change on the way
        "batch_size": 2,
        "clip_norm": None,
        "clip_value": None,
        "window": None,
        "seed": 0,
        "evaluate_every": 50,
        "derived": False,
        "lr": 0.01,
    }
    assert not any(part.requires_grad for part in last[0].state)


@pytest.mark.parametrize("options", [{"derived": True}, {"window": 2}, {"clip_value": 1.0}, {"evaluate_every": 3}])
def test_a_run_goes_on_only_under_the_settings_it_was_begun_with(options, tmp_path):
    task, path = Adding(6), tmp_path / "c.npz"

    def go(steps, **options):
        model = made(task)
        return fit(model, task, SGD(model, lr=0.1), steps, checkpoint=path, resume=True, **QUIET, **options)

    go(2, batch_size=2, **options)
    (name,) = options
    with pytest.raises(ValueError, match=f"belongs to another run: {name} was "):
        go(4, batch_size=2)
    assert go(4, batch_size=2, **options).steps == 4


def test_a_schedule_of_the_learning_rate_goes_on_where_it_was(tmp_path):
    def halve(run):
        run.optimiser.lr *= 0.5

    def go(steps, **options):
        model = Height()
        fit(model, Countdown(), SGD(model, lr=0.1), steps, callbacks=[halve], **QUIET, **options)
        return float(model.w.data)

    go(3, checkpoint=tmp_path / "c.npz")
    assert go(6, checkpoint=tmp_path / "c.npz", resume=True) == go(6) == pytest.approx(1 - 0.1 * (2 - 0.5**5))


def test_callbacks_are_taken_from_any_iterable_and_called_at_every_step():
    seen = []
    descend(4, callbacks=(lambda run, k=k: seen.append((run.step, k)) for k in "ab"))
    assert seen == [(step, k) for step in (1, 2, 3, 4) for k in "ab"]
    for k, steps in ((1, [1, 2, 3, 4]), (3, [3])):
        seen = []
        assert descend(4, callbacks=[every(k, lambda run: seen.append(run.step))]) and seen == steps  # noqa: B023
    _, history = descend(2, callbacks=[lambda run: {"a": np.float32(1)}, lambda run: {"b": [run.step]}, lambda run: 3])
    assert history.records == [(1, {"a": 1.0, "b": [1]}), (2, {"a": 1.0, "b": [2]})]


def test_the_graph_of_a_step_is_set_free():
    kept = []

    class Keeps(Countdown):
        def loss(self, outputs, targets):
            kept.append(tg.sum(outputs * outputs))
            return kept[-1]

    model = Height()
    fit(model, Keeps(), SGD(model), 1, **QUIET)
    with pytest.raises(RuntimeError, match="retain_graph"):
        kept[0].backward()


def test_ctrl_c_in_the_last_step_is_the_end_as_any_other(tmp_path):
    def stop(at):
        return lambda run: run.step == at and signal.raise_signal(signal.SIGINT)

    assert descend(4, callbacks=[stop(4)])[1].steps == 4
    assert descend(9, callbacks=[stop(5)], until_solved=True, evaluate_every=1)[1].steps == 5
    with pytest.raises(Interrupted, match="stopped after step 2") as told:
        descend(9, callbacks=[stop(2)], checkpoint=tmp_path / "c.npz")
    assert told.value.history.steps == step_of(tmp_path / "c.npz") == 2


# --- divergence ---


def test_a_step_that_diverges_is_watched_with_the_same_units_dropped():
    """The gradient is infinite, the loss is not: the step is done once more, and as if for the first time."""

    class Cliff(Adding):
        def loss(self, outputs, targets):
            zero = tg.sum(outputs) * 0.0
            return super().loss(outputs, targets) + (tg.sqrt(zero) if self.steep else zero)

        def batch(self, rng, size, step=1):
            self.steep = step == 3
            return super().batch(rng, size)

    task = Cliff(5)
    network = nn.LSTM(2, 3, num_layers=2, dropout=0.5, rng=0)
    model, states = made(task, network), []
    look = lambda run: states.append(network.rng.bit_generator.state)  # noqa: E731
    with pytest.raises(
        Diverged, match="step 3: the gradient became infinity in the derivative of sqrt, operand 0;"
    ) as told:
        fit(model, task, SGD(model), 9, callbacks=[look], **QUIET)
    once = nn.LSTM(2, 3, num_layers=2, dropout=0.5, rng=0)
    once.rng.bit_generator.state = states[-1]
    once(np.ones((5, 32, 2)))
    assert network.rng.bit_generator.state == once.rng.bit_generator.state != states[-1] != states[0]
    assert told.value.history.steps == 2 and told.value.op == "sqrt"


def test_what_diverged_only_once_is_told_all_the_same():
    """Of a model that draws what nobody can draw again, the graph at hand tells where it began."""

    class Once(Height):
        def __call__(self, inputs, state=None):
            y, _ = super().__call__(inputs)
            return (tg.log(y * 0.0) if len(self.calls) == 2 else y), None

    model = Once()
    with pytest.raises(Diverged, match=r"step 2: infinity began in log, of operands \(\) up to 0; a smaller") as told:
        fit(model, Countdown(), SGD(model), 3, **QUIET)
    assert (told.value.step, told.value.op, told.value.scope) == (2, "log", "")


def test_gradients_that_overflow_only_where_they_are_added_up():
    class Steep(Countdown):
        def loss(self, outputs, targets):
            return model.w * 1.5e308 + model.w * 1.5e308

    model = Height()
    model.w.data = np.array(0.1)
    with pytest.raises(Diverged, match=r"the gradients add up to more than there are numbers for; use float64$"):
        fit(model, Steep(), SGD(model), 1, **QUIET)


def test_an_input_without_a_name_is_called_a_constant():
    class Bad(Countdown):
        def loss(self, outputs, targets):
            with tg.scope("end"):
                return outputs * np.nan

    model = Height()
    with pytest.raises(Diverged, match=r"step 1: NaN in a constant, an input of multiply at end$") as told:
        fit(model, Bad(), SGD(model), 1, **QUIET)
    assert (told.value.op, told.value.scope) == ("", "end")


# --- what is shown ---


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Bar:
    """What is told to the progress bar."""

    def __init__(self, **options):
        self.options, self.told = options, []
        Bar.made.append(self)

    def set_postfix_str(self, text, refresh):
        self.told.append((text, refresh))

    def update(self):
        self.told.append("update")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.told.append("close")

    @staticmethod
    def write(line, file):
        print(line, file=file)


def test_the_progress_bar_is_told_what_happens(monkeypatch, capsys, tmp_path):
    Bar.made = []
    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(tqdm=Bar))
    for steps in (2, 4):
        model = Height()
        fit(model, Countdown(), SGD(model, lr=0.1), steps, evaluate_every=3, checkpoint=tmp_path / "c.npz", resume=True)
    assert capsys.readouterr().err == "countdown: baseline 2 (always answer 1: no change)\n" * 2
    shared = {"unit": "step", "disable": None, "dynamic_ncols": True}
    assert [bar.options for bar in Bar.made] == [
        {"total": 2, "initial": 0} | shared,
        {"total": 4, "initial": 2} | shared,
    ]
    texts = ["loss 1", "loss 0.9, height 0.8"], ["loss 0.8, height 0.7", "loss 0.7, height 0.6"]
    for bar, two in zip(Bar.made, texts, strict=True):
        assert bar.told == [entry for text in two for entry in ((text, False), "update")] + ["close"]
    descend(2)
    assert Bar.made[2].options["disable"] is True and capsys.readouterr().err == ""


def test_a_bar_is_shown_on_terminals_only(monkeypatch):
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        model = Height()
        fit(model, Countdown(), SGD(model, lr=0.1), 3)
        assert ("3/3" in stream.getvalue() and "height 0.7" in stream.getvalue()) is shown
