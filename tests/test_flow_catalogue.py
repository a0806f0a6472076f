"""The catalogue of facts about gradients through time, measured: initialisers, gates, paths, losses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.diagnose import gradient_flow
from tinygrad_rnn.nn import init

SEEDS = [
    pytest.param(1, id="one seed", marks=pytest.mark.slow),
    pytest.param(10, id="ten seeds", marks=pytest.mark.full),
]


def simple(phi, W, seed, n=64, m=8, steps=100, sx=1.0, bias=False):
    rng = np.random.default_rng(seed)
    weights = {"weight_hh": W, "weight_ih": init.gaussian(sx / math.sqrt(m))}
    cell = tg.RNNCell(m, n, phi, rng=rng, bias=bias, init=weights)
    return cell, rng.standard_normal((steps, 1, m))


def mean(measure, seeds):
    return np.mean([measure(seed) for seed in range(seeds)], axis=0)


def gated(kind, seed, n=64, m=8, steps=100, **options):
    rng = np.random.default_rng(seed)
    return kind(m, n, rng=rng, **options), rng.standard_normal((steps, 1, m))


@pytest.mark.slow
@pytest.mark.parametrize("g, theory", [(0.5, -0.4758), (1.0, -0.1996), (1.5, -0.0616), (2.0, 0.02)])
def test_p3_mean_field(g, theory):
    flow = gradient_flow(*simple("tanh", init.gaussian(g / 16), 0, n=256, steps=40))
    line = next(line for line in flow.theory if line.kind == "estimate")
    assert line.slope == pytest.approx(theory, abs=0.012) and flow.slope == pytest.approx(theory, abs=0.03)


@pytest.mark.parametrize(
    "g, expected",
    [
        (1, -0.6022),
        pytest.param(4, -0.0083, marks=pytest.mark.slow),
        (6, 0.0249),
        pytest.param(10, 0.0957, marks=pytest.mark.full),
    ],
)
def test_p4_a_centred_sigmoid_can_explode(g, expected):
    def measured(seed):
        cell, x = simple("sigmoid", init.orthogonal(g), seed, sx=0.01, bias=True)
        cell.bias_ih.data = -cell.weight_hh.data.sum(axis=1) / 2
        cell.bias_hh.data = np.zeros(64)
        state = np.full((1, 64), 0.5)
        return gradient_flow(cell, x, state=state if g < 4 else None).slope

    assert mean(measured, 2) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda seed: gated(tg.RNNCell, seed), -0.241),
        (lambda seed: gated(tg.RNNCell, seed, init="keras"), -0.112),
        (lambda seed: gated(tg.LSTMCell, seed), -0.203),
        (lambda seed: gated(tg.LSTMCell, seed, init="keras"), -0.078),
        (lambda seed: gated(tg.GRUCell, seed), -0.195),
    ],
)
def test_p8_what_frameworks_ship(make, expected, seeds):
    slope = mean(lambda seed: gradient_flow(*make(seed)).slope, seeds)
    assert slope == pytest.approx(expected, abs=0.02 if seeds == 10 else 0.05)


def test_p10_the_carousel_of_1997():
    flow = gradient_flow(*gated(tg.LSTMCell, 0, forget_gate=False))
    assert abs(flow.without("gates").line.slope) < 1e-15
    assert flow["c"].line.slope == pytest.approx(0.0207, abs=0.015)
    assert flow.theory[0].kind == "exact"


@pytest.mark.parametrize(
    "scale, expected",
    [(2, 0.035), *(pytest.param(s, v, marks=pytest.mark.full) for s, v in ((0.5, -0.035), (1, -0.028), (4, 0.136)))],
)
def test_p11_large_weights_explode(scale, expected):
    seeds = 2 if scale == 2 else 10  # n = 32: with 64 units, weights of ±2 grow three times as fast
    draw = dict.fromkeys(("weight_ih", "weight_hh"), init.uniform(scale))
    flows = [gradient_flow(*gated(tg.LSTMCell, seed, n=32, forget_bias=1.0, init=draw)) for seed in range(seeds)]
    assert np.mean([flow["c"].line.slope for flow in flows]) == pytest.approx(expected, abs=0.03)


GRU = [pytest.param(0, -0.195, 1, marks=pytest.mark.slow), (5, -0.0029, 1)]
GRU += [
    pytest.param(b, e, 10, marks=pytest.mark.full) for b, e in ((0, -0.195), (1, -0.097), (2, -0.042), (5, -0.0029))
]


@pytest.mark.parametrize("bias, expected, seeds", GRU)
def test_p12_gru(bias, expected, seeds):
    def measured(seed):
        flow = gradient_flow(*gated(tg.GRUCell, seed, update_bias=bias))
        return flow.slope, flow.theory[0].slope

    slope, alone = mean(measured, seeds)
    assert slope == pytest.approx(expected, abs=0.012 if seeds == 10 else 0.025)
    assert alone == pytest.approx(-math.log10(1 + math.exp(-bias)), abs=1e-12)


def test_p14_half_the_units_of_an_irnn_die_at_once():
    rng = np.random.default_rng(0)
    weights = {"weight_hh": init.identity(), "weight_ih": init.gaussian(0.001)}
    weights |= dict.fromkeys(("bias_ih", "bias_hh"), init.constant(0.0))
    cell = tg.RNNCell(2, 100, "relu", rng=rng, init=weights)
    x = np.zeros((150, 4, 2))
    x[..., 0] = rng.random((150, 4))
    for b in range(4):
        x[rng.integers(0, 75), b, 1] = x[rng.integers(75, 150), b, 1] = 1.0
    flow = gradient_flow(cell, x)
    squared = (100.0 ** (flow["h"].logs - flow["h"].logs[0])).mean(axis=1)
    assert squared[[1, 50, 150]] == pytest.approx([0.508, 0.496, 0.482], abs=0.12)
    assert flow.word == "healthy" and 0.1 < flow.activations["", "h"].dead < 0.5


@pytest.mark.parametrize(
    "phi, g, share, total",
    [
        pytest.param("sigmoid", 1, 2e-14, 0.9, marks=pytest.mark.slow),
        pytest.param("tanh", 1, 1e-4, 4.5, marks=pytest.mark.slow),
        ("identity", 1, 0.767, None),
    ],
)
def test_p16_the_weights_gradient_hides_it(phi, g, share, total):
    flows = [gradient_flow(*simple(phi, init.orthogonal(g), seed)) for seed in range(3)]
    shares = [flow.by_lag.share_beyond("weight_hh", 20) for flow in flows]
    assert np.exp(np.mean(np.log(shares))) == pytest.approx(share, rel=0.2 if share > 0.1 else 1.5)
    if total:
        assert np.mean([10 ** flow.by_lag.log_norm("weight_hh") for flow in flows]) == pytest.approx(total, rel=0.35)


def test_p17_a_loss_at_all_steps_hides_it():
    cell, x = simple("tanh", init.orthogonal(1), 0)
    every, last = (10.0 ** gradient_flow(cell, x, loss).lanes["", "h"].logs[:, 0] for loss in ("all", "last"))
    assert every[[10, 50, 99]] == pytest.approx([1.2, 1.2, 1.2], abs=0.35)
    assert last[50] < 1e-9 and last[99] < 1e-18
    assert gradient_flow(cell, x, "all").word == "vanishing"  # which follows what one step reads


@pytest.mark.parametrize(
    "a, window, expected",
    [(0.9, 5, 0.40951), (0.9, 20, 0.87842), pytest.param(0.99, 50, 0.39499, marks=pytest.mark.slow)],
)
def test_p18_a_window_recovers_one_minus_a_to_the_k(a, window, expected):
    cell = tg.RNNCell(1, 1, "identity", bias=True, rng=0)
    for name, value in (("weight_hh", [[a]]), ("weight_ih", [[0.0]]), ("bias_ih", [1.0]), ("bias_hh", [0.0])):
        getattr(cell, name).data = value
    steps = 300 if a == 0.9 else 1500
    by_lag = gradient_flow(
        cell, np.zeros((steps, 1, 1)), state=[[1 / (1 - a)]], direction=[1.0], edges=(window - 1,)
    ).by_lag
    recovered = by_lag.within("weight_hh", window).item() / by_lag.within("weight_hh").item()
    assert recovered == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("g, cosines", [(1.0, (0.46, 0.79, 0.90, 0.97, 0.999)), (1.2, (0.15, 0.28, 0.36, 0.48, 0.70))])
def test_p18_truncation_turns_the_gradient(g, cosines):
    windows = (1, 5, 10, 20, 50)

    def measured(seed):
        cell, x = simple("tanh", init.orthogonal(g), seed, n=32, sx=0.1)
        by_lag = gradient_flow(cell, x, rng=seed, edges=tuple(w - 1 for w in windows)).by_lag
        whole = by_lag.within("weight_hh").ravel()
        parts = [by_lag.within("weight_hh", w).ravel() for w in windows]
        return [p @ whole / np.linalg.norm(p) / np.linalg.norm(whole) for p in parts]

    assert mean(measured, 6) == pytest.approx(cosines, abs=0.16)


def test_p28_four_sigmoids():
    w = tg.Tensor([1.0, 1.0, 1.0, 1.0], requires_grad=True)
    a = tg.Tensor(1.0)
    for k in range(4):
        a = tg.sigmoid(w[k] * a)
    assert tg.grad(a, w).data[::-1] == pytest.approx([0.148726, 0.033870, 0.008046, 0.002164], abs=1e-6)


@given(
    st.sampled_from(["tanh", "relu", "sigmoid", "identity"]),
    st.integers(1, 8),
    st.integers(1, 30),
    st.floats(-2, 1),
    st.integers(0, 2**16),
)
def test_p29_the_bound_is_never_exceeded(phi, n, steps, log_scale, seed):
    cell, x = simple(phi, init.gaussian(10**log_scale), seed, n=n, m=2, steps=steps)
    flow = gradient_flow(cell, x)
    line = next(line for line in flow.theory if line.kind in ("bound", "exact"))
    excess = flow["h"].logs[:, 0] - flow["h"].logs[0, 0] - line.logs
    assert excess.max() <= 1e-9
