"""What a report says of its numbers: each on its word's side of the bounds, and what rounding decides."""

import re

import numpy as np
import pytest
from hand_made_ends import end, straight
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import gradient_flow
from tinygrad_rnn.diagnose.verdict import BY_DECADES, in_decades, judge, word_of
from tinygrad_rnn.nn import init


def noise(steps, batch, size, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, batch, size))


@given(st.floats(-20, 20) | st.sampled_from([b + e for b in (-6, -2, 2, 6) for e in (-0.04, -1e-9, 0, 1e-15, 0.003)]))
def test_a_number_that_is_printed_is_on_its_words_side_of_the_bounds(lost):
    """No report says HEALTHY of 2.0 and "still fading" of 2.0."""
    assert word_of(float(in_decades(lost))) == word_of(lost) and abs(float(in_decades(lost)) - lost) < 0.0501
    found = judge(end(straight(lost)))
    printed = re.match(r"(\S+) decades are (lost|gained)", found.reason)
    if found.word in BY_DECADES:
        assert printed and word_of(float(printed[1]) * (1 if printed[2] == "lost" else -1)) == found.word


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_inputs_that_say_nothing_have_no_decades_to_lose(value):
    text = gradient_flow(nn.LSTM(3, 4, rng=0), np.full((20, 2, 3), value)).text()
    assert "seeds: nothing enters\n" in text and "inf" not in text


def test_of_a_loss_that_reads_nothing_no_lag_is_asked():
    for net in (nn.RNN(3, 4, rng=0), nn.RNN(3, 4, bidirectional=True, rng=0)):
        text = gradient_flow(net, noise(9, 2, 3), lambda y: tg.Tensor(1.0)).text()
        assert "the loss does not depend on the output" in text and "asked" not in text and "T = 0" not in text


@settings(max_examples=12)
@given(
    st.sampled_from(["RNN", "RNN", "LSTM", "GRU"]), st.integers(0, 99), st.floats(0.4, 1.2), st.sampled_from([30, 300])
)
def test_what_rounding_changes_is_said(kind, seed, gain, steps):
    """The same network with its units in another order, so that sums are rounded otherwise, has the same verdict."""
    rng, H, x = np.random.default_rng(seed), 48, 0.1 * noise(steps, 2, 2, seed)
    net, twin = (getattr(nn, kind)(2, H, rng=seed) for _ in range(2))
    state = {name: a * 10**gain if "hh" in name and a.ndim > 1 else a for name, a in net.state_dict().items()}
    net.load_state_dict(state)
    order = rng.permutation(H)
    rows = np.concatenate([order + k * H for k in range(len(state["bias_ih_l0"]) // H)])
    turned = {name: a[rows][:, order] if "weight_hh" in name else a[rows] for name, a in state.items()}
    twin.load_state_dict(turned)
    v = rng.normal(size=H)
    one, other = (
        gradient_flow(net, x, direction=v, trained=True),
        gradient_flow(twin, x, direction=v[order], trained=True),
    )
    pair = [(in_decades(flow.decades_lost), flow.word) for flow in (one, other)]
    assert pair[0] == pair[1] or any("chaos, in which rounding grows" in flow.text() for flow in (one, other))


def test_chaos_is_said_and_growth_is_none():
    wild = nn.RNN(1, 80, rng=3, init={"weight_hh": init.gaussian(3 / 80**0.5), "weight_ih": init.gaussian(0.05)})
    flow = gradient_flow(wild, noise(300, 5, 1), trained=True)
    assert (
        flow.rounded is not None
        and "chaos, in which rounding grows: with each weight × (1 + 2⁻⁵²) D is -" in flow.text()
    )
    linear = nn.RNN(3, 8, nonlinearity="identity", rng=0, init={"weight_hh": init.orthogonal(1.5)})
    flow = gradient_flow(linear, noise(120, 3, 3), trained=True)
    assert flow.rounded is not None and flow.word == "exploding" and "chaos" not in flow.text()
    assert gradient_flow(nn.LSTM(3, 4, rng=0), noise(20, 2, 3)).rounded is None


def test_what_is_lost_whole_in_depth_is_no_number_of_decades():
    states = {("layer 1", "h"): np.zeros((20, 1)), ("layer 0", "h"): np.full((20, 1), -np.inf)}
    found = judge(end(np.full(20, -np.inf), states=states))
    assert (found.word, found.reason) == ("dies in depth", "all is lost from the top layer down to the lowest")


def cut_off(model, **arrays):
    model.load_state_dict(model.state_dict() | arrays)
    return model


@pytest.mark.parametrize(
    "model",
    [
        cut_off(tg.RNNCell(2, 4, "relu", rng=0), bias_ih=np.full(4, -50.0)),  # dead
        cut_off(tg.RNNCell(2, 4, rng=0), weight_hh=np.zeros((4, 4))),  # one step alone
        tg.LSTMCell(2, 4, forget_bias=15.0, input_bias=-15.0, rng=0),  # shut: little gets in, from however far
    ],
)
def test_a_report_of_what_is_cut_off_is_written_without_a_warning(model):
    """Warnings are errors in these tests."""
    flow = gradient_flow(model, np.random.default_rng(0).standard_normal((30, 3, 2)))
    assert flow.reach() == flow.verdict.healthy_up_to == 0 and flow.word in flow.text().lower()
    assert flow.to_dict()["verdict"]["healthy_up_to"] == 0
