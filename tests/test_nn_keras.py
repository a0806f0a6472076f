"""Keras's arrays: each layer beside its formulas in plain NumPy, as Keras's documentation has them."""

import numpy as np
import pytest

from tinygrad_rnn import nn

T, B, I, H = 6, 3, 2, 4  # noqa: E741
DEFAULTS = {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True, "use_bias": True}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lstm(x, kernel, recurrent, bias):
    h, c, found = np.zeros((B, H)), np.zeros((B, H)), []
    for step in x:
        i, f, g, o = np.split(step @ kernel + h @ recurrent + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.array(found)


def gru(x, kernel, recurrent, bias):
    h, found = np.zeros((B, H)), []
    for step in x:
        z, r, n = np.split(step @ kernel + bias[0], 3, axis=1)
        uz, ur, un = np.split(h @ recurrent + bias[1], 3, axis=1)
        z, r = sigmoid(z + uz), sigmoid(r + ur)
        h = z * h + (1 - z) * np.tanh(n + r * un)
        found.append(h)
    return np.array(found)


def simple(x, kernel, recurrent, bias, function=np.tanh):
    h, found = np.zeros((B, H)), []
    for step in x:
        h = function(step @ kernel + h @ recurrent + bias)
        found.append(h)
    return np.array(found)


KINDS = {"RNN": (simple, 1), "GRU": (gru, 3), "LSTM": (lstm, 4)}


def arrays(kind, seed=0, bias=True):
    rng, (_, gates) = np.random.default_rng(seed), KINDS[kind]
    shape = (2, gates * H) if kind == "GRU" else (gates * H,)
    found = [rng.normal(size=(I, gates * H)), rng.normal(size=(H, gates * H)), rng.normal(size=shape)]
    return found if bias else [*found[:2], np.zeros(shape)]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_keras_s_formulas(kind, bias):
    given, x = arrays(kind, bias=bias), np.random.default_rng(1).normal(size=(T, B, I))
    net = nn.from_keras(given if bias else given[:2], DEFAULTS)
    assert type(net).__name__ == kind and net.batch_first
    np.testing.assert_allclose(
        net(x.transpose(1, 0, 2))[0].numpy().transpose(1, 0, 2), KINDS[kind][0](x, *given), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_both_directions(bias):
    there, back = arrays("LSTM", 0, bias), arrays("LSTM", 1, bias)
    x = np.random.default_rng(1).normal(size=(T, B, I))
    config = {"merge_mode": "concat", "layer": {"class_name": "LSTM", "config": DEFAULTS}}
    kept = 3 if bias else 2
    got = nn.from_keras([*there[:kept], *back[:kept]], config)(x.transpose(1, 0, 2))[0].numpy().transpose(1, 0, 2)
    want = np.concatenate([lstm(x, *there), lstm(x[::-1], *back)[::-1]], axis=-1)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def test_a_simple_rnn_of_another_activation():
    given, x = arrays("RNN"), np.random.default_rng(1).normal(size=(T, B, I))
    for name, function in {"relu": lambda z: np.maximum(z, 0), "linear": lambda z: z}.items():
        got = nn.from_keras(given, {"activation": name})(x.transpose(1, 0, 2))[0].numpy().transpose(1, 0, 2)
        np.testing.assert_allclose(got, simple(x, *given, function), rtol=1e-12)


def test_activations_that_nobody_told_are_warned_about():
    with pytest.warns(UserWarning, match="tanh and sigmoid are assumed; config="):
        nn.from_keras(arrays("LSTM"))


@pytest.mark.parametrize(
    "given, config, says",
    [
        (arrays("LSTM"), {"recurrent_activation": "hard_sigmoid"}, "'recurrent_activation': 'hard_sigmoid'"),
        (arrays("LSTM"), {"activation": "relu"}, "'activation': 'relu'"),
        (arrays("LSTM"), {"go_backwards": True}, "go_backwards"),
        (arrays("GRU")[:2], {}, "reset_after=True"),
        (arrays("GRU")[:2], {"reset_after": False}, "computes something else"),
        ([*arrays("GRU")[:2], np.zeros(3 * H)], {}, "a GRU with reset_after=False"),
        ([*arrays("LSTM")[:2], np.zeros(8 * H)], {}, "CuDNN's layout"),
        ([*arrays("GRU")[:2], np.zeros(6 * H)], {}, "CuDNN's layout"),
        (arrays("LSTM")[::-1], {}, "not the arrays of"),
        ([np.ones((2, 3))], {}, "not the arrays of"),
        ([np.ones((I, 4 * H)), np.ones(4 * H)], {}, "not the arrays of"),
        ([np.ones((I, 4 * H)), np.ones((H, 4 * H, 1))], {}, "not the arrays of"),
        ([np.ones(4 * H), np.ones((H, 4 * H))], {}, "not the arrays of"),
        ([np.ones((I, 4 * H)), np.ones((H, 3 * H))], {}, "not the arrays of"),
        ([np.ones((I, 2 * H)), np.ones((H, 2 * H)), np.ones(2 * H)], {}, "not the arrays of"),
        ([*arrays("LSTM")[:2], np.zeros(3)], {}, "not the arrays of"),
        (arrays("RNN"), {"activation": "gelu"}, "nonlinearity"),
    ],
)
def test_what_is_another_function_is_refused(given, config, says):
    with pytest.raises(ValueError, match=says):
        nn.from_keras(given, config)
