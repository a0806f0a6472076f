"""The training loop: it learns where theory says so, says where NaN began, and calls back; its history is the run's."""

import signal
import threading

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import gradient_flow
from tinygrad_rnn.train import (
    SGD,
    Adagrad,
    Adam,
    Adding,
    Copying,
    Diverged,
    SequenceModel,
    Task,
    Text,
    every,
    fit,
)
from tinygrad_rnn.train.origin import origin

QUIET = {"progress": False}


def short(steps=30, network=None, task=None, optimiser=Adam, lr=0.01, **options):
    task = task or Adding(8)
    network = network or tg.LSTMCell(task.inputs, 6, rng=0)
    model = SequenceModel(network, task, rng=1)
    history = fit(model, task, optimiser(model, lr=lr), steps, **({"batch_size": 8} | QUIET | options))
    return model, history


# --- it learns ---


def test_minimal_lag_is_learnt_where_both_biases_move():
    def run(**biases):
        _, history = short(
            250,
            tg.LSTMCell(2, 16, rng=0, **biases),
            Adding(16, minimal_lag=True),
            lr=0.02,
            batch_size=32,
            clip_norm=1.0,
            until_solved=True,
            derived=True,
        )
        return history

    solved = run(forget_bias=4.0, input_bias=-2.0)
    assert solved.solved_at is not None and solved.steps == solved.solved_at and solved.metrics[-1][1] < 0.01


@pytest.mark.parametrize("derived", [False, True])
def test_the_history_has_the_norm_before_clipping(derived):
    """So that it tells what the network does, not what was done to it."""
    norms = [
        fit(model, Adding(5), SGD(model, lr=0.0), 3, derived=derived, **options, **QUIET).norms
        for options in ({}, {"clip_norm": 1e-3}, {"clip_value": 1e-3}, {"clip_norm": np.inf})
        for model in [SequenceModel(tg.RNNCell(2, 3, rng=0), Adding(5), rng=1)]
    ]
    assert norms[0][0] > 0.1 and norms == [norms[0]] * 4


@pytest.mark.parametrize("network", [nn.LSTM(2, 4, num_layers=2, dropout=0.5, rng=0), nn.GRU(2, 4, bidirectional=True)])
def test_stacks_are_trained(network):
    model, history = short(12, network, window=3)
    assert history.steps == 12 and np.isfinite(history.losses).all() and model.training


def test_dropout_is_off_where_the_metric_is_taken():
    def metric(dropout):
        network = nn.LSTM(2, 4, num_layers=2, dropout=dropout, rng=0)
        return short(1, network, optimiser=SGD, lr=0.0)[1].metrics

    assert metric(0.5) == metric(0.0)


class Parity(Task):
    """A task of one's own, in a few lines."""

    name, inputs, outputs = "sign of the sum", 1, 1
    baseline, baseline_means = 1.0, "always answer 0"
    metric_name, solved_below = "MSE", 0.1

    def batch(self, rng, size, step=1):
        inputs = rng.choice([-1.0, 1.0], (3, size, 1))
        return inputs, np.sign(inputs.sum(0))


class OwnModel:
    """A model of one's own: no Module, no window."""

    def __init__(self):
        self.w = tg.Tensor([[0.0]], requires_grad=True)

    def parameters(self):
        return {"w": self.w}

    def __call__(self, inputs, state=None):
        return tg.sum(tg.Tensor(inputs), axis=0) @ self.w, None


def test_task_and_model_of_ones_own():
    task, model = Parity(), OwnModel()
    history = fit(model, task, SGD(model, lr=0.1), 50, **QUIET)
    # Least squares: E[s sign s] / E[s²] = 1.5 / 3.
    assert float(model.w.data[0, 0]) == pytest.approx(0.5, abs=0.05) and history.metrics[-1][1] < 0.3


# --- it stops where something is NaN or infinite, and says where that began ---


class Breaks:
    """A cell whose forget-like gate divides by zero at one step."""

    input_size, hidden_size, dtype = 2, 1, np.dtype("float64")

    def __init__(self, step):
        self.step, self.w, self.calls = step, tg.Tensor(np.ones((2, 1)), requires_grad=True), 0

    def parameters(self):
        return {"w": self.w}

    def initial_state(self, batch):
        self.calls = 0
        return tg.Tensor(np.zeros((batch, 1)))

    def __call__(self, x, h):
        self.calls += 1
        with tg.scope("gate"):
            h = tg.tanh(x @ self.w + h)
            return tg.log(h - h) if self.calls == self.step else h


def test_origin_of_an_infinity_in_the_forward_pass():
    with pytest.raises(
        Diverged, match=r"step 1: infinity began in log at t=4/gate, of operands \(8, 1\) up to 0"
    ) as told:
        short(3, Breaks(4))
    assert (told.value.step, told.value.op, told.value.scope) == (1, "log", "t=4/gate")
    assert told.value.history.steps == 0


def test_origin_names_the_layer():
    network = nn.RNN(2, 4, num_layers=2, nonlinearity="identity", rng=0)
    for name, p in network.parameters().items():
        if name == "weight_hh_l1":
            p.data = np.full(p.shape, 1e200)
    with pytest.raises(Diverged) as told:
        short(3, network)
    assert told.value.scope.startswith("t=3/layer 1") and told.value.op == "affine"


def test_origin_of_a_gradient_that_is_infinite_though_the_loss_is_not():
    class Cliff(Breaks):
        def __call__(self, x, h):
            self.calls += 1
            with tg.scope("cliff"):
                h = h + x @ self.w
                return h * 0.0 + tg.sqrt(h * 0.0) if self.calls == self.step else h

    with pytest.raises(Diverged, match=r"step 1: the gradient became (infinity|NaN) in the derivative of sqrt") as told:
        short(3, Cliff(5))
    assert told.value.op == "sqrt" and told.value.scope == "t=5/cliff"


def test_origin_of_a_gradient_is_the_edge_nearest_to_the_loss():
    """The sweep shows the edges of weights later, in blocks: h's gradient becomes infinite three steps further back."""
    W, U, b = (
        tg.Tensor(np.full(s, v, np.float32), requires_grad=True) for s, v in [((1, 1), 0), ((1, 1), 1e10), (1, 0)]
    )
    h = tg.Tensor(np.zeros((1, 1), np.float32), requires_grad=True)
    for t in range(8):
        with tg.scope(f"t={t + 1}"):
            h = tg.affine(np.full((1, 1), 1e30, np.float32), W, b, h, U, b)
    with np.errstate(all="ignore"):
        told = origin(1, tg.sum(h), {"W": W, "U": U, "b": b})
    assert told.scope == "t=7" and "infinity in the derivative of affine, operand 1" in str(told)


def test_origin_in_a_parameter_or_an_input():
    with pytest.raises(Diverged, match=r"step 2: (NaN|infinity) .*") as told:
        short(5, tg.RNNCell(2, 4, nonlinearity="identity", rng=0), optimiser=SGD, lr=1e200)
    assert told.value.history.steps == 1

    class Bad(Adding):
        def batch(self, rng, size, step=1):
            inputs, targets = super().batch(rng, size)
            inputs[2, 0, 0] = np.nan if step == 3 else inputs[2, 0, 0]
            return inputs, targets

    with pytest.raises(Diverged, match="step 3: NaN in x, an input of affine at t=3"):
        short(5, tg.RNNCell(2, 4, rng=0), Bad(8))
    model = SequenceModel(tg.RNNCell(2, 4, rng=0), Adding(8), rng=1)
    model.head.weight.data = np.full(model.head.weight.shape, np.inf)
    with pytest.raises(Diverged, match=r"infinity in the parameter head\.weight"):
        fit(model, Adding(8), SGD(model), 1, **QUIET)


def test_parameters_are_those_before_the_step_that_diverged():
    network = Breaks(99)
    model = SequenceModel(network, Adding(8), rng=1)

    def plant(run):
        if run.step == 3:
            network.step = 2
            plant.kept = {name: np.array(p.data) for name, p in model.parameters().items()}

    with pytest.raises(Diverged, match="step 4"):
        fit(model, Adding(8), Adam(model), 9, callbacks=[plant], **QUIET)
    for name, p in model.parameters().items():
        np.testing.assert_array_equal(p.data, plant.kept[name])


# --- callbacks and history ---


def test_callbacks_and_what_they_return():
    seen = []
    probe = every(4, lambda run: {"half": run.step / 2, "gates": np.ones(2)})
    _, history = short(10, callbacks=[lambda run: seen.append((run.step, run.loss)), probe])
    assert [step for step, _ in seen] == list(range(1, 11)) and [loss for _, loss in seen] == history.losses
    assert history.records == [(4, {"half": 2.0, "gates": [1.0, 1.0]}), (8, {"half": 4.0, "gates": [1.0, 1.0]})]
    with pytest.raises(ValueError, match="k=0: give a whole number, at least 1"):
        every(0, print)


def test_the_gradient_is_watched_while_a_network_learns():
    probe, _ = Adding(8).batch(np.random.default_rng(1), 4)
    watch = every(5, lambda run: {"slope": gradient_flow(run.model.network, probe).slope})
    model, history = short(10, callbacks=[watch])
    _, same = short(10)
    assert history.losses == same.losses  # looking changes nothing
    assert [step for step, _ in history.records] == [5, 10]
    assert history.records[1][1]["slope"] == pytest.approx(gradient_flow(model.network, probe).slope, rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"steps": 2.5}, {"batch_size": 0}, {"evaluate_every": 0}, {"checkpoint_every": 0}, {"window": 0}],
)
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match="at least 1"):
        short(**options)


@pytest.mark.parametrize("options", [{"clip_norm": -1.0}, {"clip_norm": np.nan}, {"clip_value": 0.0}])
def test_refused_before_there_is_a_checkpoint(options, tmp_path):
    with pytest.raises(ValueError, match="give a positive number"):
        short(checkpoint=tmp_path / "run.npz", **options)
    assert not list(tmp_path.iterdir())


def test_optimiser_of_another_model_is_refused():
    task = Adding(8)
    one, other = (SequenceModel(tg.LSTMCell(2, 3, rng=0), task, rng=1) for _ in range(2))
    with pytest.raises(ValueError, match=r"of another model.*head\.weight"):
        fit(one, task, Adam(other), 1, **QUIET)
    fit(one, task, Adam({"head.weight": one.parameters()["head.weight"]}), 1, **QUIET)  # a part of it may be trained


def test_network_that_begins_with_nan_is_not_blamed_on_an_update():
    cell = tg.LSTMCell(2, 3, rng=0)
    cell.bias_hh.data = np.full(12, np.nan)
    with pytest.raises(Diverged, match=r"step 1: NaN in the parameter network\.bias_hh; it began so"):
        short(2, cell)


# --- Ctrl-C ---


def test_ctrl_c_waits_for_the_step_and_is_then_raised(tmp_path):
    path = tmp_path / "run.npz"
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="after step 3"):
        short(callbacks=[lambda run: run.step == 3 and signal.raise_signal(signal.SIGINT)], checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is handler
    _, history = short(6, checkpoint=path, resume=True)
    assert history == short(6)[1]


def test_a_second_ctrl_c_is_at_once():
    def twice(run):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        short(callbacks=[twice])


def test_fit_runs_in_another_thread():
    done = []
    thread = threading.Thread(target=lambda: done.append(short(2)[1].steps))
    thread.start()
    thread.join()
    assert done == [2]


def test_copying_is_learnt_to_its_baseline_first():
    _, history = short(40, tg.GRUCell(10, 12, rng=0), Copying(5), lr=0.02, clip_norm=1.0)
    assert history.losses[0] > 2 > history.losses[-1]


# --- beside a program written by hand ---


def min_char_rnn(task, wxh, whh, bh, why, by, steps):
    """Karpathy's program in NumPy, with one symbol at a time and the gradients by hand: its losses."""
    parameters, losses = [wxh, whh, bh, why, by], []
    squares = [np.zeros_like(p) for p in parameters]
    for step in range(steps):
        at = step % ((len(task.symbols) - 1) // task.length) * task.length
        h = np.zeros(len(bh)) if at == 0 else h  # noqa: F821
        inputs, targets = task.symbols[at : at + task.length], task.symbols[at + 1 : at + task.length + 1]
        hs, odds, loss = [h], [], 0.0
        for x, t in zip(inputs, targets, strict=True):
            hs.append(np.tanh(wxh[:, x] + whh @ hs[-1] + bh))
            p = np.exp(why @ hs[-1] + by)
            odds.append(p / p.sum())
            loss -= np.log(odds[-1][t])
        dwxh, dwhh, dbh, dwhy, dby = gradients = [np.zeros_like(p) for p in parameters]
        back = np.zeros(len(bh))
        for k in reversed(range(task.length)):
            dy = odds[k]
            dy[targets[k]] -= 1
            dwhy += np.outer(dy, hs[k + 1])
            dby += dy
            raw = (why.T @ dy + back) * (1 - hs[k + 1] ** 2)
            dbh += raw
            dwxh[:, inputs[k]] += raw
            dwhh += np.outer(raw, hs[k])
            back = whh.T @ raw
        h = hs[-1]
        losses.append(loss)
        for p, g, s in zip(parameters, gradients, squares, strict=True):
            g = np.clip(g, -5, 5)
            s += g * g
            p -= 0.1 * g / (np.sqrt(s) + 1e-10)
    return losses


class OneBias(tg.RNNCell):
    """An RNN with a single bias, as there is one in min-char-rnn."""

    def __init__(self, *sizes):
        super().__init__(*sizes, rng=0)
        self.bias_hh = np.zeros_like(self.bias_ih.data)


@pytest.mark.parametrize("derived", [False, True])
def test_as_min_char_rnn_by_hand(derived):
    rng, task = np.random.default_rng(0), Text("to be or not to be, that is the question. " * 2, 25)
    model = SequenceModel(OneBias(task.inputs, 20), task, rng=0)
    for p in model.parameters().values():
        p.data = 0.1 * rng.normal(size=p.shape) if p.ndim == 2 else np.zeros(p.shape)
    names = ("network.weight_ih", "network.weight_hh", "network.bias_ih", "head.weight", "head.bias")
    by_hand = min_char_rnn(task, *(model.state_dict()[name] for name in names), steps=9)
    optimiser = Adagrad(model, lr=0.1)
    history = fit(model, task, optimiser, 9, batch_size=1, clip_value=5.0, derived=derived, **QUIET)
    np.testing.assert_allclose(history.losses, by_hand, rtol=1e-9)


def test_what_is_not_finite_from_the_start_is_told_by_its_name_if_it_has_one():
    for named, told in (({"weights": 0}, "weights"), ({}, "mine"), ({}, "a leaf")):
        leaf = tg.Tensor([1.0, np.nan], requires_grad=True, name=None if told == "a leaf" else "mine")
        found = origin(1, tg.sum(leaf * 2.0), dict.fromkeys(named, leaf))
        assert str(found).startswith(f"step 1: NaN in the parameter {told}; it began so")
