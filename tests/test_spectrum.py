"""Singular values and Lyapunov exponents against NumPy's own, closed forms, and the catalogue (P13, P15)."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.diagnose import gradient_flow, jacobian_spectrum, lyapunov
from tinygrad_rnn.nn import init


def simple(phi, W, seed=0, n=64, m=8, steps=50, sx=1.0):
    rng = np.random.default_rng(seed)
    weights = {"weight_hh": W, "weight_ih": init.gaussian(sx / math.sqrt(m))}
    return tg.RNNCell(m, n, phi, rng=rng, bias=False, init=weights), rng.standard_normal((steps, 1, m))


def dense(cell, x):
    """dh_T/dh_0 as one matrix, by the engine's own jacobian of the whole sequence."""
    batch = x.shape[1]
    begin = cell.initial_state(batch)

    def run(h):
        state = (h, begin[1]) if isinstance(begin, tuple) else h
        for row in x:
            state = cell(tg.Tensor(row), state)
        return state[0] if isinstance(state, tuple) else state

    h = begin[0] if isinstance(begin, tuple) else begin
    return tg.jacobian(run, h).data.reshape(h.size, h.size)


@pytest.mark.parametrize("kind", [tg.RNNCell, tg.LSTMCell, tg.GRUCell])
def test_singular_values_are_those_of_the_dense_jacobian(kind):
    cell, x = kind(3, 6, rng=1), np.random.default_rng(2).standard_normal((4, 1, 3))
    (spectrum,) = jacobian_spectrum(cell, x)
    expected = np.log10(np.linalg.svd(dense(cell, x), compute_uv=False))
    np.testing.assert_allclose(spectrum.logs, expected, atol=1e-6)


@pytest.mark.parametrize(
    "phi, W, ranks",
    [
        ("identity", init.orthogonal(1.0), range(64, 65)),
        ("tanh", init.orthogonal(1.0), range(33, 40)),
        ("tanh", init.gaussian(1 / 8), range(20, 27)),
        ("relu", init.gaussian(math.sqrt(2) / 8), range(14, 25)),
    ],
)
def test_p13_rank(phi, W, ranks):
    (spectrum,) = jacobian_spectrum(*simple(phi, W))
    assert spectrum.rank in ranks
    if phi == "identity":
        np.testing.assert_allclose(spectrum.logs, 0.0, atol=1e-12)


def test_values_far_beyond_float64():
    scales = np.array([0.01, 0.1, 0.5, 2.0])
    cell = tg.RNNCell(1, 4, "identity", bias=False, rng=0)
    cell.weight_hh.data = np.diag(scales)
    (spectrum,) = jacobian_spectrum(cell, np.zeros((1000, 1)))
    np.testing.assert_allclose(spectrum.logs, 1000 * np.log10(scales)[::-1], rtol=1e-9)


def test_lyapunov_of_a_linear_network_is_log_of_its_eigenvalues():
    cell, x = simple("identity", init.gaussian(1 / math.sqrt(12)), n=12, m=1, steps=1500)
    found = lyapunov(cell, 0 * x)
    matrix = cell.weight_hh.data
    np.testing.assert_allclose(found, np.sort(np.log(np.abs(np.linalg.eigvals(matrix))))[::-1], atol=5e-3)
    assert found.sum() == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-9)


@pytest.mark.full
def test_p13_lyapunov_t_5000():
    cell, x = simple("identity", init.gaussian(1 / math.sqrt(32)), n=32, m=1, steps=5000)
    expected = np.sort(np.log(np.abs(np.linalg.eigvals(cell.weight_hh.data))))[::-1]
    np.testing.assert_allclose(lyapunov(cell, 0 * x), expected, atol=1e-3)


@pytest.mark.full
@pytest.mark.parametrize("g, expected", [(0.5, -0.61), (2, 0.111), (3, 0.282), (5, 0.492)])
def test_p13_autonomous_tanh(g, expected):
    tops = []
    for seed in range(3):
        cell, _ = simple("tanh", init.gaussian(g / 10), n=100, m=1, steps=1, seed=seed)
        state = np.random.default_rng(seed).standard_normal((1, 100))
        burnt = state
        for _ in range(200):
            burnt = np.tanh(burnt @ cell.weight_hh.data.T)
        tops.append(lyapunov(cell, np.zeros((1000, 1)), state=burnt)[0])
    assert np.mean(tops) == pytest.approx(expected, abs=0.08 if g == 0.5 else 0.05)


class Antisymmetric:
    """h + eps tanh((A - Aᵀ - gamma I) h + V x) (Chang et al. 2019): a cell of one's own."""

    def __init__(self, n, eps, gamma, rng):
        a = rng.standard_normal((n, n)) / math.sqrt(n)
        self.W = tg.Tensor(a - a.T - gamma * np.eye(n), requires_grad=True)
        self.V = tg.Tensor(rng.standard_normal((n, 4)) / 2, requires_grad=True)
        self.eps, self.n = eps, n

    def parameters(self):
        return {"W": self.W, "V": self.V}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, self.n)))

    def __call__(self, x, h):
        return h + self.eps * tg.tanh(h @ self.W.T + x @ self.V.T)


def test_p15_antisymmetric_cell_of_ones_own():
    rng = np.random.default_rng(0)
    cell, x = Antisymmetric(32, 0.01, 0.01, rng), rng.standard_normal((100, 1, 4))
    (spectrum,) = jacobian_spectrum(cell, x)
    assert (10**spectrum.logs).mean() == pytest.approx(1.0007, abs=0.01)
    flow = gradient_flow(cell, x)
    assert flow.word == "healthy" and flow.shares["", "h"].mean[50] == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("kind", [tg.RNNCell, tg.LSTMCell])
def test_the_largest_exponents_alone_are_those_among_all(kind):
    cell, x = kind(2, 4, rng=0), np.random.default_rng(0).normal(size=(400, 1, 2))
    every = lyapunov(cell, x)
    for k in (1, 3):
        found = lyapunov(cell, x, k=k)
        assert found.shape == (k,) and found == pytest.approx(every[:k], abs=0.02)
    with pytest.raises(ValueError, match="and so many exponents"):
        lyapunov(cell, x, k=99)


@pytest.mark.parametrize("kind", [tg.RNNCell, tg.LSTMCell])
def test_the_sequence_that_is_asked_for_is_measured_as_if_it_were_alone(kind):
    cell, x = kind(2, 4, rng=0), np.random.default_rng(0).normal(size=(30, 3, 2))
    seen = []
    for k in range(3):
        one, found = x[:, k : k + 1], jacobian_spectrum(cell, x, sequence=k)[0].logs
        np.testing.assert_allclose(found, jacobian_spectrum(cell, one)[0].logs, rtol=1e-9)
        np.testing.assert_allclose(lyapunov(cell, x, sequence=k), lyapunov(cell, one), rtol=1e-9)
        seen.append(found[0])
    assert np.unique(np.round(seen, 3)).size == 3  # each has values of its own
