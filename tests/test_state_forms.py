"""A state has one form inside: whatever a cell's state looks like, and whatever a stack makes of it, numbers agree.

The same weights in a cell, in a stack of one layer, and in cells of one's own whose state is bare, a tuple of one, a
list, a named tuple or nested, measured by every function of the diagnosis, with and without a batch.
"""

import itertools
import json
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.cli import main
from tinygrad_rnn.diagnose import compare, gradient_flow, jacobian_spectrum, lyapunov
from tinygrad_rnn.nn.state import parts_of, state_of
from tinygrad_rnn.testing import check_cell

KINDS = {"rnn": (nn.RNNCell, nn.RNN), "lstm": (nn.LSTMCell, nn.LSTM), "gru": (nn.GRUCell, nn.GRU)}
HC = namedtuple("HC", "h c")
FORMS = {  # how a cell of one's own packs what our cell gives, and unpacks it
    "bare": ("rnn", lambda h: h, lambda h: h),
    "tuple of one": ("gru", lambda h: (h,), lambda s: s[0]),
    "list of one": ("rnn", lambda h: [h], lambda s: s[0]),
    "tuple in a tuple": ("rnn", lambda h: ((h,),), lambda s: s[0][0]),
    "pair": ("lstm", lambda s: s, lambda s: s),
    "list": ("lstm", list, tuple),
    "named tuple": ("lstm", lambda s: HC(*s), lambda s: (s.h, s.c)),
    "nested": ("lstm", lambda s: (s[0], (s[1],)), lambda s: (s[0], s[1][0])),
    "nested lists": ("lstm", lambda s: [[s[0]], [s[1]]], lambda s: (s[0][0], s[1][0])),
}


class Own:
    """A cell of one's own: ours, with its state in another form."""

    def __init__(self, cell, pack, unpack):
        self.cell, self.pack, self.unpack = cell, pack, unpack
        self.hidden_size, self.dtype = cell.hidden_size, cell.dtype

    def parameters(self):
        return self.cell.parameters()

    def initial_state(self, batch):
        return self.pack(self.cell.initial_state(batch))

    def __call__(self, x, state):
        return self.pack(self.cell(x, self.unpack(state)))

    def __repr__(self):
        return "Own()"


def changed(model, inputs, **change):
    return list(gradient_flow(model, inputs).what_if(**change).flows.values())[1]


def lanes(flow):
    return [lane.logs for lane in flow.lanes.values()] + [share.carried for share in flow.shares.values()]


MEASURES = {
    "gradient_flow": lambda m, x: lanes(gradient_flow(m, x)),
    "gradient_flow, all steps": lambda m, x: lanes(gradient_flow(m, x, "all")),
    "gradient_flow, a loss": lambda m, x: lanes(gradient_flow(m, x, lambda y: tg.mean(y * y))),
    "gradient_flow, named": lambda m, x: [gradient_flow(m, x)["h"].logs],
    "weights by lag": lambda m, x: [flow.by_lag.within(n) for flow in [gradient_flow(m, x)] for n in flow.by_lag.names],
    "without": lambda m, x: [gradient_flow(m, x).without("carried").logs] if gradient_flow(m, x).shares else [],
    "compare": lambda m, x: lanes(compare({"it": m}, x)["it"]),
    "what_if, scaled": lambda m, x: lanes(changed(m, x, weight_scale=1.5)),
    "verdict": lambda m, x: [end.x for end in gradient_flow(m, x).ends] + [gradient_flow(m, x).decades_lost],
    "jacobian_spectrum": lambda m, x: [s.logs for s in jacobian_spectrum(m, x, lags=range(1, len(x) + 1))],
    "lyapunov": lambda m, x: [lyapunov(m, x)],
}


def same(one, other, measure, x):
    first, second = (MEASURES[measure](model, x) for model in (one, other))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def twins(kind, size, hidden):
    """A cell, and a stack of one layer with its weights."""
    cell, stack = (made(size, hidden, rng=k) for k, made in enumerate(KINDS[kind]))
    stack.load_state_dict({f"{name}_l0": array for name, array in cell.state_dict().items()})
    return cell, stack


SHAPES = [(1, 1, 1, None), (1, 2, 2, 1), (3, 1, 2, None), (3, 2, 2, 3)]  # hidden, inputs, steps, batch


def sequences(steps, batch, size):
    return np.random.default_rng(0).normal(size=(steps, size) if batch is None else (steps, batch, size))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_of_one_layer_is_its_cell(kind, measure):
    for hidden, size, steps, batch in SHAPES if measure == "gradient_flow" else SHAPES[-2:]:
        same(*twins(kind, size, hidden), measure, sequences(steps, batch, size))


@pytest.mark.parametrize("measure", ["gradient_flow", "without", "what_if, scaled", "jacobian_spectrum", "lyapunov"])
@pytest.mark.parametrize("form", FORMS)
def test_a_cell_of_ones_own_is_the_cell_in_it(form, measure):
    kind, pack, unpack = FORMS[form]
    for hidden, batch in ((1, None), (2, 2)):
        cell, _ = twins(kind, 2, hidden)
        same(cell, Own(cell, pack, unpack), measure, sequences(2, batch, 2))


@pytest.mark.parametrize("form", FORMS)
def test_the_report_and_the_check_of_such_a_cell(form):
    kind, pack, unpack = FORMS[form]
    cell = KINDS[kind][0](2, 3, rng=0)
    x = sequences(9, 2, 2)
    own, flow = gradient_flow(Own(cell, pack, unpack), x), gradient_flow(cell, x)
    assert own.decades_lost == pytest.approx(flow.decades_lost) and own.word == flow.word
    if form in ("tuple of one", "named tuple"):
        assert check_cell(Own(cell, pack, unpack), order=1)


# --- a state that is given ---


def given_states(kind, layers, batch, hidden):
    """A state in the form of a stack, and the same for a cell where there is one layer."""
    rng = np.random.default_rng(1)
    axes = (() if batch is None else (batch,)) + (hidden,)
    parts = [rng.normal(size=(layers, *axes)) for _ in range(2 if kind == "lstm" else 1)]
    stacked = tuple(parts) if kind == "lstm" else parts[0]
    return stacked, tuple(part[0] for part in parts) if kind == "lstm" else parts[0][0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [None, 1, 2])
def test_a_stack_takes_its_own_form_of_a_state(kind, batch):
    cell, stack = twins(kind, 2, 3)
    x = sequences(4, batch, 2)
    of_stack, of_cell = given_states(kind, 1, batch, 3)
    one, two = gradient_flow(cell, x, state=of_cell), gradient_flow(stack, x, state=of_stack)
    for a, b in zip(lanes(one), lanes(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    for a, b in zip(lanes(list(two.what_if(weight_scale=1.0).flows.values())[1]), lanes(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    changes = [list(flow.what_if(weight_scale=2.0).flows.values())[1] for flow in (one, two)]
    np.testing.assert_allclose(changes[0].main.logs, changes[1].main.logs, rtol=1e-12)
    assert np.abs(one.main.logs - gradient_flow(cell, x).main.logs).max() > 1e-3
    for measure in (jacobian_spectrum, lyapunov):
        found, other = measure(cell, x, state=of_cell), measure(stack, x, state=of_stack)
        np.testing.assert_allclose(getattr(found[0], "logs", found), getattr(other[0], "logs", other), rtol=1e-12)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_walk_through_a_stack_is_its_whole_graph(kind, layers):
    """In particular the loss reads the highest layer's h."""
    stack, v, x = KINDS[kind][1](2, 3, layers, rng=0), np.array([0.5, -1.0, 2.0]), sequences(4, 2, 2)
    walked = gradient_flow(stack, x, direction=v)
    whole = gradient_flow(tg.sum(stack(x)[0][-1] * v))
    assert set(walked.lanes) == set(whole.lanes) and len(whole.lanes) >= layers
    for key, lane in whole.lanes.items():
        np.testing.assert_allclose(walked.lanes[key].logs[:4], lane.logs, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_two_layers_go_on_from_the_state_they_ended_with(kind):
    """As one long sequence does, whose gradient at its end is the same."""
    stack = KINDS[kind][1](2, 3, 2, rng=0)
    x = sequences(9, 2, 2)
    _, state = stack(x[:4])
    whole, rest = gradient_flow(stack, x), gradient_flow(stack, x[4:], state=state)
    for key, lane in rest.lanes.items():
        # The last but for what the state given has passed up within its own step.
        np.testing.assert_allclose(lane.logs[:-1], whole.lanes[key].logs[: len(lane.logs) - 1], rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_both_directions_begin_with_the_state_that_is_given(kind):
    stack = KINDS[kind][1](2, 3, bidirectional=True, rng=0)
    x, (state, _) = sequences(5, 2, 2), given_states(kind, 2, 2, 3)
    flow = gradient_flow(stack, x, tg.sum, state=state)
    outputs, _ = stack(x, state)
    np.testing.assert_allclose(flow.main.logs, gradient_flow(tg.sum(outputs)).main.logs, rtol=1e-12)


@pytest.mark.parametrize(
    ("model", "state", "words"),
    [
        (
            tg.LSTMCell(2, 3, rng=0),
            np.zeros((2, 3)),
            r"the state of LSTMCell\(2, 3\) is made of 2 array\(s\), not of 1",
        ),
        (tg.RNNCell(2, 3, rng=0), (np.zeros((2, 3)),) * 2, "made of 1 array.s., not of 2"),
        (tg.RNNCell(2, 3, rng=0), np.zeros((3, 3)), "for 2 sequences: its first axis"),
        (tg.RNNCell(2, 3, rng=0), np.zeros(3), "for 2 sequences: its first axis"),
        (nn.RNN(2, 3, 2, rng=0), np.zeros((1, 2, 3)), r"takes \(num_layers · directions, B, H\) = \(2, 2, 3\)"),
        (nn.LSTM(2, 3, rng=0), np.zeros((1, 2, 3)), r"takes a pair \(h, c\)"),
    ],
)
def test_a_state_of_another_form_is_refused(model, state, words):
    for measure in (gradient_flow, jacobian_spectrum, lyapunov):
        with pytest.raises(ValueError, match=words):
            measure(model, sequences(4, 2, 2), state=state)


# --- taking apart and putting together ---


@given(st.recursive(st.integers(), lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple), max_leaves=6))
def test_what_is_taken_apart_is_put_together(form):
    state = state_of(map(np.array, itertools.count()), form)
    parts = parts_of(state)
    assert [int(part) for part in parts] == list(range(len(parts)))
    assert state_of(parts, form) == state and parts_of(state_of(parts, state)) == parts
    with pytest.raises(ValueError, match="more parts"):
        state_of(parts[:-1], form)


def test_a_list_of_numbers_is_an_array():
    assert parts_of([[1.0, 2.0], [3.0, 4.0]]) == ([[1.0, 2.0], [3.0, 4.0]],)
    h, c = np.zeros(2), np.ones(2)
    assert parts_of([h, [c]]) == (h, c) and isinstance(state_of((c, h), HC(h, c)), HC)
    cell = tg.RNNCell(1, 2, rng=0)
    logs = [
        gradient_flow(cell, np.ones((3, 1)), state=s).main.logs
        for s in ([[0.5, 0.1]], [0.5, 0.1], np.array([0.5, 0.1]))
    ]
    assert (logs[0] == logs[1]).all() and (logs[1] == logs[2]).all()


# --- the command ---


@pytest.mark.parametrize(("kind", "layers"), [("rnn", 1), ("rnn", 2), ("gru", 1)])
def test_flow_reads_weights_of_one_sequence(kind, layers, tmp_path, capsys):
    stack = KINDS[kind][1](1, 4, layers, rng=0)
    nn.save(tmp_path / "net.npz", stack.state_dict())
    series = sequences(15, None, 1)
    np.savetxt(tmp_path / "series.csv", series, delimiter=",", header="a", comments="")
    phi = ["--nonlinearity", "tanh"] if kind == "rnn" else []
    data = ["--data", str(tmp_path / "series.csv"), "--steps", "15", "--json", str(tmp_path / "flow.json")]
    assert main(["flow", "--weights", str(tmp_path / "net.npz"), *data, *phi]) == 0
    flow = gradient_flow(stack, series)  # weights that were loaded see their data as they are
    found = json.loads((tmp_path / "flow.json").read_text(encoding="utf-8"))
    assert found["lanes"][0]["slope"] == pytest.approx(next(iter(flow.lanes.values())).line.slope, rel=1e-6)
    assert "h layer 1" in capsys.readouterr().out or layers == 1


def test_a_program_is_derived_of_a_named_tuple_too():
    kind, pack, unpack = FORMS["named tuple"]
    cell, x = KINDS[kind][0](2, 3, rng=0), sequences(5, 2, 2)
    own = Own(cell, pack, unpack)
    program = tg.derive_bptt(own, lambda outputs, state: tg.sum(outputs * state.h), example=(x, own.initial_state(2)))
    value, gradients = program(x, own.initial_state(2), own.parameters())
    outputs, state = tg.unroll(own, x)
    loss = tg.sum(outputs * state.h)
    assert value == pytest.approx(loss.item())
    for name, gradient in zip(own.parameters(), tg.grad(loss, list(own.parameters().values())), strict=True):
        np.testing.assert_allclose(gradients[name], gradient.numpy(), rtol=1e-9, atol=1e-12)
