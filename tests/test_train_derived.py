"""Training with the derived program: the engine's numbers, a line that says who computes, no use of what is wrong."""

import random
import threading
import warnings

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.extras import how_to_install
from tinygrad_rnn.train import SGD, Adam, Adding, Diverged, SequenceModel, Text, fit


def short(steps=30, network=None, task=None, optimiser=Adam, lr=0.01, **options):
    task = task or Adding(8)
    network = network or tg.LSTMCell(task.inputs, 6, rng=0)
    model = SequenceModel(network, task, rng=1)
    options = {"batch_size": 8, "progress": False} | options
    return model, fit(model, task, optimiser(model, lr=lr), steps, **options)


@pytest.mark.parametrize("kind", [tg.RNNCell, tg.LSTMCell, tg.GRUCell])
@pytest.mark.parametrize("task", [Adding(9), Text("the quick brown fox jumps over the lazy dog", 6)], ids=repr)
def test_derived_program_gives_the_same_numbers(kind, task):
    def train(derived):
        return short(8, kind(task.inputs, 5, rng=0), task, derived=derived, clip_norm=1.0, batch_size=3)

    (model, history), (other, program) = train(False), train(True)
    np.testing.assert_allclose(program.losses, history.losses, rtol=1e-9)
    np.testing.assert_allclose(program.norms, history.norms, rtol=1e-8)
    for name, p in model.parameters().items():
        np.testing.assert_allclose(other.parameters()[name].data, p.data, rtol=1e-7, atol=1e-9)


def test_derived_program_says_where_nan_began_too():
    with pytest.raises(Diverged, match="step 2") as told:
        short(5, tg.RNNCell(2, 4, nonlinearity="identity", rng=0), optimiser=SGD, lr=1e200, derived=True)
    assert told.value.history.steps == 1


def test_what_cannot_be_derived_is_said():
    with pytest.raises(TypeError, match="one cell"):
        short(1, nn.LSTM(2, 3), derived=True)
    with pytest.raises(ValueError, match="no window"):
        short(1, derived=True, window=3)


class Lengths(Adding):
    """Sequences of 8 and of 5 steps, in turn."""

    def batch(self, rng, size, step=1):
        inputs, targets = super().batch(rng, size, step)
        return (inputs if step % 2 else inputs[:5]), targets


class Moody(tg.RNNCell):
    """Looks at the numbers, so that no program can be derived of it."""

    def __call__(self, x, h):
        h = super().__call__(x, h)
        return h if h.data.sum() > -1e9 else -h


class Doctored:
    """A program that says it is compiled, and is wrong by a hair where it is told to be."""

    def __init__(self, program, compiled, wrong):
        self.program, self.compiled, self.calls, self.wrong = program, compiled, program.calls, wrong

    def __call__(self, inputs, *args, **options):
        value, gradients, state = self.program(inputs, *args, **options)
        if self.wrong(len(inputs), self.compiled):
            gradients["weight_hh"] = gradients["weight_hh"] * (1 + 1e-9)
        return value, gradients, state


@pytest.fixture
def doctor(monkeypatch):
    """Let programs be wrong where ``wrong(steps, compiled)``; without a compiler, and with none too slow."""

    def doctor(wrong=lambda steps, compiled: False, seconds=0.0):
        def derive(cell, *, example, compiled=False):
            return Doctored(tg.derive_bptt(cell, example=example), compiled, wrong)

        monkeypatch.setattr("tinygrad_rnn.train.derived.derive_bptt", derive)
        monkeypatch.setattr("tinygrad_rnn.train.derived.COMPILING", seconds)

    return doctor


def who(capsys, steps=4, **options):
    """What computes the gradients, as `fit` says; the losses; whether there was a warning instead of a line."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        _, history = short(steps, derived=True, progress=True, **options)
    told = [line for line in capsys.readouterr().err.splitlines() if "gradients by" in line]
    return told, [str(w.message) for w in warned], history.losses


PROGRAM = "LSTMCell(2, 6): gradients by the derived program"


@pytest.mark.parametrize(
    ("wrong", "seconds", "said"),
    [
        (lambda steps, compiled: False, 0.0, f"{PROGRAM}, compiled"),
        (lambda steps, compiled: False, 8.0, f"{PROGRAM} (machine code would save 0.0 s, and take up to 8 s to make)"),
        (lambda steps, compiled: compiled, 0.0, f"{PROGRAM} (the compiled one does not agree with the engine)"),
    ],
)
def test_a_line_says_which_program_computes_the_gradients(wrong, seconds, said, doctor, capsys):
    doctor(wrong, seconds)
    assert who(capsys)[:2] == ([said], [])


class Spare(tg.RNNCell):
    """Has a parameter that takes part in nothing, so that the engine gives it no gradient."""

    def __init__(self):
        super().__init__(2, 6, rng=0)
        self.spare = tg.Tensor(np.ones(3), requires_grad=True)

    def parameters(self):
        return super().parameters() | {"spare": self.spare}


def test_a_parameter_without_a_part_is_no_disagreement(capsys):
    told, warned, losses = who(capsys, network=Spare())
    assert len(told) == 1 and not warned
    np.testing.assert_allclose(losses, short(4, Spare())[1].losses, rtol=1e-12)


class Enough(Exception):
    """Ends a run."""


def enough(run):
    raise Enough


def test_what_machine_code_would_save_grows_with_the_steps_and_with_the_network(doctor, capsys):
    """For each step by as much; a small network's calls cost time, however few numbers they work on."""

    def saved(steps, hidden, length=8):
        task = Adding(length)
        with pytest.raises(Enough):
            short(steps, tg.LSTMCell(2, hidden, rng=0), task, derived=True, progress=True, callbacks=[enough])
        return float(capsys.readouterr().err.partition("would save ")[2].partition(" s")[0])

    doctor(seconds=1e9)
    one = saved(10**6, 4)
    assert saved(3 * 10**6, 4) == pytest.approx(3 * one, rel=0.01)
    assert saved(10**6, 4, 16) == pytest.approx(2 * one, rel=0.2)
    assert one < saved(10**6, 8) < 1.2 * one  # of both the calls take most
    assert saved(10**6, 400) > 2 * one


def test_without_a_compiler_it_says_how_to_get_one(monkeypatch, capsys):
    def derive(cell, *, example, compiled=False):
        if compiled:
            raise ImportError("no numba")
        return tg.derive_bptt(cell, example=example)

    monkeypatch.setattr("tinygrad_rnn.train.derived.derive_bptt", derive)
    monkeypatch.setattr("tinygrad_rnn.train.derived.COMPILING", 0.0)
    said = f"{PROGRAM} (machine code would save 0 s: {how_to_install('fast')})"
    assert who(capsys)[:2] == ([said], [])


def test_a_program_that_does_not_agree_on_every_gradient_is_not_used(doctor, capsys):
    doctor(lambda steps, compiled: True)
    told, warned, losses = who(capsys)
    assert not told and warned == [
        "LSTMCell(2, 6): gradients by the engine: the derived program does not agree with it on network.weight_hh"
    ]
    assert losses == short(4)[1].losses  # bit for bit


def test_another_length_is_checked_again(doctor, capsys):
    doctor(lambda steps, compiled: steps == 5)
    told, warned, losses = who(capsys, task=Lengths(8))
    assert told == [f"{PROGRAM}, compiled"] and len(warned) == 1 and "by the engine" in warned[0]
    np.testing.assert_allclose(losses, short(4, task=Lengths(8))[1].losses, rtol=1e-12)


def test_a_cell_that_cannot_be_derived_is_trained_by_the_engine(capsys):
    told, warned, losses = who(capsys, network=Moody(2, 6, rng=0))
    assert not told and "asks for the numbers" in warned[0] and len(warned) == 1
    assert losses == short(4, tg.RNNCell(2, 6, rng=0))[1].losses


@pytest.mark.parametrize("before", ["the engine", "the derived program", "the derived program, compiled"])
def test_a_resumed_run_goes_on_with_what_was_chosen(before, doctor, tmp_path, capsys):
    always, never = (lambda steps, compiled: True), (lambda steps, compiled: False)
    doctor(always if before == "the engine" else never, 0.0 if before.endswith("compiled") else 1e9)
    seen = []
    options = {
        "derived": True,
        "checkpoint": tmp_path / "c.npz",
        "callbacks": [lambda run: seen.append(run.gradients_by)],
    }
    with warnings.catch_warnings(action="ignore"):
        short(3, **options)
        doctor(never, 1e9 if before.endswith("compiled") else 0.0)  # now it would choose another
        short(5, resume=True, **options)
    assert seen == [before] * 5


OF_ALL = np.random.default_rng(5)


class Drops(tg.RNNCell):
    """Drops a part of its state at random, by numbers from somewhere; and counts, which changes what it drops."""

    def __init__(self, source):
        super().__init__(2, 6, rng=0)
        own = {
            "its own": np.random.default_rng(5),
            "its own, old": np.random.RandomState(5),
            "python's": random.Random(5),
        }
        self.source, self.own, self.calls = source, own.get(source), 0

    def __call__(self, x, h):
        if self.source == "a count":
            self.calls += 1
            return super().__call__(x, h * (1.0 if self.calls % 3 else 0.5))
        source = {"the module's": OF_ALL, "NumPy's": np.random, "the library's": random}.get(self.source, self.own)
        drawn = source.random(h.shape) if hasattr(source, "normal") else [[source.random() for _ in range(6)]]
        return super().__call__(x, h * (np.array(drawn) > 0.3))


@pytest.mark.parametrize(
    "source",
    ["its own", "its own, old", "python's", "the module's", "NumPy's", "the library's", "a count", "the loss"],
)
def test_what_is_random_is_trained_as_if_no_program_had_been_tried(source):
    class Noisy(Adding):
        def __init__(self):
            super().__init__(8)
            self.noise = np.random.default_rng(3)

        def loss(self, outputs, targets):
            return super().loss(outputs + self.noise.normal(size=outputs.shape), targets)

    def losses(derived):
        OF_ALL.bit_generator.state = np.random.default_rng(5).bit_generator.state
        np.random.seed(3)  # noqa: NPY002
        random.seed(3)
        noisy = source == "the loss"
        network, task = (tg.RNNCell(2, 6, rng=0), Noisy()) if noisy else (Drops(source), Adding(8))
        with warnings.catch_warnings(action="ignore"):
            return short(5, network, task, derived=derived)[1].losses

    if source == "the loss":  # which is given the same numbers in both trials, so that there is a program
        np.testing.assert_allclose(losses(True), losses(False), rtol=1e-12)
    else:
        assert losses(True) == losses(False)


CALLS = []


class Counting(Adding):
    """A loss that grows with the number of times it was asked for; or is another one each third time."""

    def __init__(self, third):
        super().__init__(8)
        self.calls, self.third = [], third

    def loss(self, outputs, targets):
        self.calls.append(1)
        factor = (1.0 if len(self.calls) % 3 else 0.25) if self.third else 1 + 0.1 * len(self.calls)
        return super().loss(outputs, targets) * factor


class CountingHead(nn.Linear):
    calls = 0

    def __call__(self, x):
        self.calls += 1
        return super().__call__(x) * (1.0 if self.calls % 3 else 0.25)


@pytest.mark.parametrize("third", [False, True])
@pytest.mark.parametrize("where", ["its own", "the head"])
def test_trying_a_program_does_not_count(where, third):
    def losses(derived):
        task = Counting(third) if where == "its own" else Adding(8)
        model = SequenceModel(tg.RNNCell(2, 6, rng=0), task, rng=1)
        if where == "the head":
            model.head = CountingHead(6, 1, rng=1)
        return fit(model, task, Adam(model, lr=0.01), 5, batch_size=8, progress=False, derived=derived).losses

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-12)


def test_what_is_counted_where_no_copy_reaches_is_told():
    class Outside(Adding):
        def loss(self, outputs, targets):
            CALLS.append(1)
            return super().loss(outputs, targets) * (1.0 if len(CALLS) % 3 else 0.25)

    CALLS.clear()
    with pytest.warns(UserWarning, match="changed what the loss reads"):
        short(2, tg.RNNCell(2, 6, rng=0), Outside(8), derived=True)


def test_a_task_that_cannot_be_copied_is_trained_by_the_engine():
    class Locked(Adding):
        def __init__(self):
            super().__init__(8)
            self.lock = threading.Lock()

    with pytest.warns(UserWarning, match="the engine: to try a program, the model and its task must be copied"):
        _, history = short(3, tg.RNNCell(2, 6, rng=0), Locked(), derived=True)
    assert history.losses == short(3, tg.RNNCell(2, 6, rng=0), Adding(8))[1].losses


def test_where_the_engine_does_it_that_is_said_once():
    with pytest.warns(UserWarning) as told:
        short(5, Drops("its own"), Adding(8), derived=True)
    assert len(told) == 1


def test_a_model_that_is_called_in_a_way_of_its_own_is_refused():
    class Halved(SequenceModel):
        calls = 0

        def __call__(self, inputs, state=None, window=None):
            self.calls += 1
            outputs, state = super().__call__(inputs, state, window)
            return outputs * (1.0 if self.calls < 3 else 0.5), state

    model = Halved(tg.RNNCell(2, 6, rng=0), Adding(8), rng=1)
    with pytest.raises(TypeError, match="SequenceModel of one cell"):
        fit(model, Adding(8), Adam(model), 1, progress=False, derived=True)


class Leaky(tg.RNNCell):
    """Keeps a part of its state that can be changed while it is trained."""

    leak = 0.0

    def __call__(self, x, h):
        return self.leak * h + (1 - self.leak) * super().__call__(x, h)


class Penalty(Adding):
    """A loss that reads the recurrent weights once it is told to."""

    network, much = None, 0.0

    def loss(self, outputs, targets):
        return super().loss(outputs, targets) + self.much * tg.sum(self.network.weight_hh**2)


@pytest.mark.parametrize("change", ["a setting of a cell", "a setting of ours", "what the loss reads"])
def test_what_changes_between_two_batches_changes_the_program_too(change):
    def train(derived):
        task = Penalty(5)
        task.network = network = (Leaky if change == "a setting of a cell" else tg.RNNCell)(2, 4, rng=0)

        def changed(run):
            if change == "a setting of a cell":
                network.leak = run.step / 10
            elif change == "a setting of ours":
                network.nonlinearity = "relu"
            else:
                task.much = 0.5

        options = {"optimiser": SGD, "lr": 0.1, "batch_size": 3, "callbacks": [changed]}
        return short(6, network, task, derived=derived, **options)[1]

    np.testing.assert_allclose(train(True).losses, train(False).losses, rtol=1e-9)
