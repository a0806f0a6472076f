"""A state that is carried from batch to batch: detached, or, where that was forgotten, said once."""

import sys
import warnings
from collections import namedtuple

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import pullback

INPUTS = np.random.default_rng(0).normal(size=(3, 1, 2))
Pair = namedtuple("Pair", "h c")


class Own:
    """A cell of one's own, with a state in a form of its own."""

    def __init__(self):
        self.w = tg.Tensor(0.5, requires_grad=True)

    def parameters(self):
        return {"w": self.w}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((1, 2))), [tg.Tensor(np.zeros((1, 2)))]

    def __call__(self, x, state):
        h, [c] = state
        return tg.tanh(self.w * h + x), [c + h]


class Bare(Own):
    def initial_state(self, batch):
        return tg.Tensor(np.zeros((1, 2)))

    def __call__(self, x, h):
        return tg.tanh(self.w * h + x)


NETWORKS = {
    "RNNCell": lambda: tg.RNNCell(2, 3, rng=0),
    "LSTMCell": lambda: tg.LSTMCell(2, 3, rng=0),
    "GRUCell": lambda: tg.GRUCell(2, 3, rng=0),
    "own": Bare,
    "own, nested": Own,
    "RNN": lambda: tg.RNN(2, 3, rng=0),
    "LSTM of two layers": lambda: tg.LSTM(2, 3, num_layers=2, rng=0),
    "GRU both ways": lambda: tg.GRU(2, 3, bidirectional=True, rng=0),
}


def through(network, state, inputs=INPUTS):
    if isinstance(network, (tg.RNN, tg.LSTM, tg.GRU)):
        return network(inputs, state)
    return tg.unroll(network, inputs, state)


def by_hand(network, state, inputs=INPUTS):
    """Step by step, as in a loop of one's own."""
    outputs, state = [], network.initial_state(1) if state is None else state
    for x in inputs:
        state = network(x, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return tg.stack(outputs), state


def said(run):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    assert all("state = tg.detach(state)" in str(w.message) for w in caught)
    assert all(w.filename == __file__ for w in caught), "at the line of the caller"
    return len(caught)


def carried(
    network, *, unroll=through, read=lambda outputs: outputs, after=lambda loss: loss.backward(), keep=lambda s: s
):
    """Four batches of one long sequence; what is done with each loss, and with each state."""
    state = None
    for _ in range(4):
        outputs, state = unroll(network, state)
        after(tg.sum(tg.square(read(outputs))))
        state = keep(state)


READ = {
    "all outputs": lambda outputs: outputs,
    "all but the last": lambda outputs: outputs[:-1],
    "the last": lambda outputs: outputs[-1],
    "step by step": lambda outputs: tg.stack([outputs[t] for t in range(len(outputs) - 1)]),
}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_forgotten_detach_is_said_once(make, read):
    network = make()
    assert said(lambda: carried(network, read=read)) == 1
    assert said(lambda: carried(network, read=read)) == 0, "of this network; another is told again"
    assert said(lambda: carried(make(), read=read, after=lambda loss: loss.backward(create_graph=True))) == 1
    assert said(lambda: carried(make(), read=read, keep=tg.detach)) == 0


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_so_it_is_where_a_cell_is_called_step_by_step(name):
    make = NETWORKS[name]
    assert said(lambda: carried(make(), unroll=by_hand)) == 1
    assert said(lambda: carried(make(), unroll=by_hand, keep=tg.detach)) == 0
    cell = make()
    arrays = tuple(np.zeros((1, 3)) for _ in range(2))
    assert said(lambda: cell(INPUTS[0], arrays if name == "LSTMCell" else arrays[0])) == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_said_before_a_backward_or_where_no_graph_grows(name):
    make = NETWORKS[name]
    losses = []
    network = make()
    assert said(lambda: carried(network, after=losses.append)) == 0, "a sequence in parts"
    assert said(lambda: sum(losses).backward()) == 0, "and one backward() at the end"
    for look in (
        tg.gradient_graph,
        lambda loss: pullback({loss: np.ones(())}, through=lambda node, i, g: g),
        lambda loss: tg.grad(loss, next(iter(network.parameters().values()))),
        lambda loss: tg.grad(loss, next(iter(network.parameters().values())), create_graph=True),
    ):
        assert said(lambda look=look: carried(network, after=look)) == 0, "which look, and change nothing"
    _, state = through(network, None)
    tg.sum(through(network, state)[0]).backward()
    with tg.no_grad():
        assert said(lambda: through(network, state)) == 0
    assert said(lambda: through(network, state)) == 1


def test_a_graph_that_was_freed_is_one_that_was_gone_through():
    cell = tg.LSTMCell(2, 3, rng=0)

    def run():
        _, state = tg.unroll(cell, INPUTS)
        tg.sum(state[0]).backward(retain_graph=False)
        outputs, _ = tg.unroll(cell, INPUTS, state)
        with pytest.raises(tg.GradientError, match=r"freed.*detach the state"):
            tg.sum(outputs).backward()

    assert said(run) == 1


def test_the_graph_of_another_sequence_is_not_this_ones():
    """Two sequences side by side, of which one is done: the other's state may go on."""
    cell = tg.LSTMCell(2, 3, rng=0)

    def run():
        _, mine = tg.unroll(cell, INPUTS)
        outputs, _ = tg.unroll(cell, INPUTS[::-1])
        tg.sum(outputs).backward()
        outputs, _ = tg.unroll(cell, INPUTS, mine)
        tg.sum(outputs).backward()

    assert said(run) == 0


def test_a_state_that_is_learned_is_a_leaf():
    cell = tg.RNNCell(2, 3, rng=0)
    h0 = tg.Tensor(np.zeros((1, 3)), requires_grad=True)
    assert said(lambda: [tg.sum(tg.unroll(cell, INPUTS, h0)[0]).backward() for _ in range(3)]) == 0


def test_the_mark_is_no_gradient():
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    h = x * 2.0
    tg.sum(h).backward()
    with pytest.warns(UserWarning, match=r"grad\(loss, h\)"):
        assert h.grad is None
    assert x.grad.data.tolist() == [2.0, 2.0]


def test_only_the_last_steps_of_a_history_are_looked_at(monkeypatch):
    """So that a long sequence in many pieces is not walked again for each of them."""

    def run():
        cell = tg.RNNCell(2, 3, rng=0)
        _, first = tg.unroll(cell, INPUTS[:1])
        _, state = tg.unroll(cell, INPUTS[1:], first)
        tg.sum(first).backward()
        tg.unroll(cell, INPUTS, state)

    assert said(run) == 1
    monkeypatch.setattr(sys.modules["tinygrad_rnn.nn.unroll"], "LOOKED_AT", 3)
    assert said(run) == 0
    assert said(lambda: carried(tg.RNNCell(2, 3, rng=0))) == 1


@pytest.mark.parametrize(
    "state",
    [
        tg.Tensor([1.0]),
        (tg.Tensor([1.0]), tg.Tensor([2.0])),
        [tg.Tensor([1.0]), (tg.Tensor([2.0]), [tg.Tensor([3.0])])],
        Pair(tg.Tensor([1.0]), tg.Tensor([2.0])),
        (),
        (tg.Tensor([1.0]), None, np.ones(2), 0.0),
        None,
    ],
    ids=str,
)
def test_detach_keeps_form_values_and_names(state):
    w = tg.Tensor(2.0, requires_grad=True)

    def mapped(part, f):
        if isinstance(part, (tuple, list)):
            parts = [mapped(p, f) for p in part]
            return Pair(*parts) if isinstance(part, Pair) else type(part)(parts)
        return f(part) if isinstance(part, tg.Tensor) else part

    def named(part):
        part = w * part
        part.name = "h"
        return part

    def compare(found, given):
        assert type(found) is type(given)
        if isinstance(given, (tuple, list)):
            assert len(found) == len(given)
            for a, b in zip(found, given, strict=True):
                compare(a, b)
        elif isinstance(given, tg.Tensor):
            assert not found.requires_grad and found.is_leaf and found.name == "h"
            np.testing.assert_array_equal(found.data, given.data)
        else:
            assert found is given

    carrying = mapped(state, named)
    compare(tg.detach(carrying), carrying)


@pytest.mark.parametrize("state", [{"h": tg.Tensor([1.0])}, "h", object(), {1.0}, iter(())])
def test_detach_refuses_what_might_keep_its_history(state):
    with pytest.raises(TypeError, match="a state is a Tensor, or a tuple or list of these"):
        tg.detach(state)
    with pytest.raises(TypeError, match="a state is a Tensor"):
        tg.detach((tg.Tensor(1.0), state))


def test_the_window_of_unroll_detaches_in_any_form():
    cell = Own()
    outputs, (h, [c]) = tg.unroll(cell, np.ones((6, 1, 2)), window=2)
    cut = tg.grad(tg.sum(h) + tg.sum(c), cell.w)
    _, state = tg.unroll(cell, np.ones((4, 1, 2)))
    _, (h, [c]) = tg.unroll(cell, np.ones((2, 1, 2)), tg.detach(state))
    assert cut.item() == tg.grad(tg.sum(h) + tg.sum(c), cell.w).item()
    assert outputs.shape == (6, 1, 2)


def test_what_has_no_history_is_carried_on_as_it_is():
    state = (np.ones(2), None, 3, 0.5, np.float32(2))
    assert all(a is b for a, b in zip(tg.detach(state), state, strict=True))
    with pytest.raises(TypeError, match="not str"):
        tg.detach("state")
