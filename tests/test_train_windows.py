"""Truncated BPTT: how much of the gradient a window recovers, exactly, and that nothing is counted twice."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.unroll import window_starts


class Linear:
    """h' = a h + x: what can be worked out with a pencil."""

    def __init__(self, a):
        self.a = tg.Tensor(a, requires_grad=True, name="a")

    def parameters(self):
        return {"a": self.a}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, 1)), name="h0")

    def __call__(self, x, h):
        return self.a * h + x


def share(a, k, steps, start):
    """d h_T / d a with a window, beside that without."""

    def derivative(window):
        cell = Linear(a)
        _, h = tg.unroll(cell, np.ones((steps, 1, 1)), tg.Tensor([[start]]), window=window)
        return float(tg.grad(tg.sum(h), cell.a))

    return derivative(k) / derivative(None)


@pytest.mark.parametrize(
    ("a", "k", "recovered"), [(0.9, 5, 0.40951), (0.9, 10, 0.65132), (0.9, 20, 0.87842), (0.9, 50, 0.99485)]
)
def test_a_window_recovers_one_minus_a_to_the_k(a, k, recovered):
    at_rest = share(a, k, steps=400, start=1 / (1 - a))
    assert at_rest == pytest.approx(1 - a**k, rel=1e-9) and at_rest == pytest.approx(recovered, abs=5e-6)


def test_nothing_is_counted_twice():
    # x_3 = w³ x_0: the recipe that keeps old graphs and goes back through them each time gives 0.288.
    for window, expected in ((None, 0.108), (3, 0.108), (5, 0.108), (2, 0.072), (1, 0.036)):
        cell = Linear(0.2)
        _, h = tg.unroll(cell, np.zeros((3, 1, 1)), tg.Tensor([[0.9]]), window=window)
        tg.sum(h).backward()
        assert float(cell.a.grad) == pytest.approx(expected, rel=1e-14)


def test_windows_end_with_the_sequence():
    assert sorted(window_starts(10, 4)) == [2, 6]
    assert window_starts(10, 10) == window_starts(10, 99) == window_starts(10, None) == frozenset()
    assert sorted(window_starts(3, 1)) == [1, 2]
    for window in (0, -1, True):
        with pytest.raises(ValueError, match="at least 1"):
            window_starts(3, window)
    with pytest.raises(TypeError):
        window_starts(3, 2.5)


def by_hand(cell, x, k, weights):
    """The same cut by the user: windows from the end, each begun from a detached state."""
    first = len(x) % k or k
    state, outputs = cell.initial_state(x.shape[1]), []
    for start, stop in [(0, first), *((s, s + k) for s in range(first, len(x), k))]:
        y, state = tg.unroll(cell, x[start:stop], state)
        outputs.append(y)
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
    tg.sum(tg.concatenate(outputs) * weights).backward()
    return [p.grad.data for p in cell.parameters().values()]


@pytest.mark.parametrize("kind", [tg.RNNCell, tg.LSTMCell, tg.GRUCell])
@pytest.mark.parametrize("k", [1, 3, 7, 12])
def test_losses_at_all_steps(kind, k):
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(7, 2, 3)), rng.normal(size=(7, 2, 4))
    cell, same = kind(3, 4, rng=1), kind(3, 4, rng=1)
    outputs, _ = tg.unroll(cell, x, window=k)
    plain, _ = tg.unroll(cell, x)
    np.testing.assert_array_equal(outputs.data, plain.data)  # values do not change
    tg.sum(outputs * weights).backward()
    for got, want in zip(cell.parameters().values(), by_hand(same, x, min(k, 7), weights), strict=True):
        np.testing.assert_allclose(got.grad.data, want, rtol=1e-12, atol=1e-15)


def test_in_a_stack_no_gradient_passes_a_cut():
    x = tg.Tensor(np.random.default_rng(0).normal(size=(8, 1, 3)), requires_grad=True)
    stack = nn.LSTM(3, 4, num_layers=3, rng=1)
    outputs, _ = stack(x, window=3)
    g = tg.grad(tg.sum(outputs[-1]), x).data
    assert not g[:5].any() and np.abs(g[5:]).min() > 0
    both = nn.GRU(3, 4, bidirectional=True, rng=1)
    outputs, _ = both(x, window=3)
    forward, backward = (tg.grad(tg.sum(outputs[t][:, half]), x).data for t, half in ((-1, slice(4)), (0, slice(4, 8))))
    assert not forward[:5].any() and np.abs(forward[5:]).min() > 0
    assert not backward[3:].any() and np.abs(backward[:3]).min() > 0
