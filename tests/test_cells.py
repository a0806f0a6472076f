"""The cells against backpropagation through time derived by hand; `unroll`; parameters in and out."""

import sys
import tracemalloc

import numpy as np
import pytest

import tinygrad_rnn as tg

T, B, INPUT, HIDDEN = 6, 3, 2, 4
DERIVATIVE = {
    "tanh": (np.tanh, lambda h, z: 1 - h * h),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda h, z: h * (1 - h)),
    "relu": (lambda z: np.maximum(z, 0), lambda h, z: (z > 0).astype(float)),
    "identity": (lambda z: z, lambda h, z: np.ones_like(z)),
}


def data(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(T, B, INPUT)), rng.normal(size=(T, B, HIDDEN)), rng.normal(size=(B, HIDDEN))


def rnn_by_hand(parameters, nonlinearity, x, h0, v):
    """Loss Σ v h and all its gradients; v has one cotangent per step."""
    W, U, b, d = parameters
    phi, slope = DERIVATIVE[nonlinearity]
    h, z = [h0], []
    for t in range(T):
        z.append(x[t] @ W.T + b + h[t] @ U.T + d)
        h.append(phi(z[t]))
    dW, dU, db, dx, dh = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b), np.zeros_like(x), np.zeros_like(h0)
    for t in reversed(range(T)):
        dz = (dh + v[t]) * slope(h[t + 1], z[t])
        dW, dU, db = dW + dz.T @ x[t], dU + dz.T @ h[t], db + dz.sum(0)
        dx[t], dh = dz @ W, dz @ U
    return np.stack(h[1:]), (dW, dU, db, db), dx, dh


def lstm_by_hand(parameters, x, h0, c0, v):
    W, U, b, d = parameters
    sigmoid = DERIVATIVE["sigmoid"][0]
    h, c, kept = h0, c0, []
    outputs = []
    for t in range(T):
        z = x[t] @ W.T + b + h @ U.T + d
        i, f, g, o = (part for part in np.split(z, 4, axis=1))
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        before, c = c, f * c + i * g
        kept.append((h, before, i, f, g, o, c))
        h = o * np.tanh(c)
        outputs.append(h)
    dW, dU, db, dx = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b), np.zeros_like(x)
    dh, dc = np.zeros_like(h0), np.zeros_like(c0)
    for t in reversed(range(T)):
        h, before, i, f, g, o, c = kept[t]
        dh = dh + v[t]
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        dz = np.concatenate(
            [dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - g * g), dh * np.tanh(c) * o * (1 - o)],
            axis=1,
        )
        dW, dU, db = dW + dz.T @ x[t], dU + dz.T @ h, db + dz.sum(0)
        dx[t], dh, dc = dz @ W, dz @ U, dc * f
    return np.stack(outputs), (dW, dU, db, db), dx, dh, dc


@pytest.mark.parametrize("nonlinearity", DERIVATIVE)
def test_rnn_equals_bptt_by_hand(nonlinearity):
    x, v, h0 = data()
    cell = tg.RNNCell(INPUT, HIDDEN, nonlinearity, rng=1)
    inputs, state = tg.Tensor(x, requires_grad=True), tg.Tensor(h0, requires_grad=True)
    outputs, last = tg.unroll(cell, inputs, state)
    tg.sum(outputs * v).backward()
    values, parameters, dx, dh = rnn_by_hand(cell.state_dict().values(), nonlinearity, x, h0, v)
    np.testing.assert_allclose(outputs.numpy(), values, rtol=1e-12)
    np.testing.assert_array_equal(last.numpy(), outputs.numpy()[-1])
    for tensor, expected in zip([*cell.parameters().values(), inputs, state], [*parameters, dx, dh], strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-10, atol=1e-13)


def test_lstm_equals_bptt_by_hand():
    x, v, h0 = data()
    c0 = np.random.default_rng(5).normal(size=h0.shape)
    cell = tg.LSTMCell(INPUT, HIDDEN, rng=1)
    inputs = tg.Tensor(x, requires_grad=True)
    state = tg.Tensor(h0, requires_grad=True), tg.Tensor(c0, requires_grad=True)
    outputs, (h, _) = tg.unroll(cell, inputs, state)
    tg.sum(outputs * v).backward()
    values, parameters, dx, dh, dc = lstm_by_hand(cell.state_dict().values(), x, h0, c0, v)
    np.testing.assert_allclose(outputs.numpy(), values, rtol=1e-12)
    np.testing.assert_array_equal(h.numpy(), outputs.numpy()[-1])
    for tensor, expected in zip([*cell.parameters().values(), inputs, *state], [*parameters, dx, dh, dc], strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("make", [tg.RNNCell, tg.LSTMCell])
def test_unrolling_composes_and_batches_are_independent(make):
    x, _, _ = data()
    cell = make(INPUT, HIDDEN, rng=2)
    outputs, _ = tg.unroll(cell, x)
    first, state = tg.unroll(cell, x[:2])
    second, _ = tg.unroll(cell, x[2:], state)
    np.testing.assert_allclose(outputs.numpy(), tg.concatenate([first, second]).numpy(), rtol=1e-13)
    alone, _ = tg.unroll(cell, x[:, 1])  # without a batch axis
    assert alone.shape == (T, HIDDEN)
    np.testing.assert_allclose(outputs.numpy()[:, 1], alone.numpy(), rtol=1e-12)


def test_scopes_and_names_are_those_of_the_textbook():
    cell = tg.LSTMCell(INPUT, HIDDEN, rng=0)
    _, (h, _) = tg.unroll(cell, data()[0][:2])
    graph = tg.gradient_graph(tg.sum(h))
    named = {(node.name, node.scope) for node in graph.nodes if node.name}
    gates = {"i": "input", "f": "forget", "g": "candidate", "o": "output"}
    expected = {(name, f"t={t}/{gate}") for t in (1, 2) for name, gate in gates.items()}
    expected |= {(name, f"t={t}") for t in (1, 2) for name in "xch"}
    expected |= {(name, "") for name in ("h0", "c0", "weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    assert named == expected
    assert {node.step for node in graph.nodes} == {None, "t=1", "t=2"}


def test_default_initialisation_is_pytorchs():
    for cell in (tg.RNNCell(3, 400, rng=0), tg.LSTMCell(3, 100, rng=0)):
        bound = 1 / np.sqrt(cell.hidden_size)
        for name, p in cell.parameters().items():
            values = p.numpy()
            assert np.abs(values).max() <= bound
            # Mean and standard deviation of U(-b, b) are 0 and b / √3; six standard errors of each.
            assert abs(values.mean()) < 6 * bound / np.sqrt(3 * values.size), name
            assert abs(values.std() - bound / np.sqrt(3)) < 6 * bound / np.sqrt(values.size), name
    shapes = {name: p.shape for name, p in tg.LSTMCell(3, 5, rng=0).parameters().items()}
    assert shapes == {"weight_ih": (20, 3), "weight_hh": (20, 5), "bias_ih": (20,), "bias_hh": (20,)}


def test_seeds_decide_the_weights():
    same = [tg.LSTMCell(2, 3, rng=rng).state_dict()["weight_hh"] for rng in (7, np.random.default_rng(7))]
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], tg.LSTMCell(2, 3, rng=8).state_dict()["weight_hh"])


def test_gate_biases_are_what_the_two_biases_add_up_to():
    cell = tg.LSTMCell(2, 3, forget_bias=[1.0, 2.0, 3.0], input_bias=-3.0, rng=0)
    total = cell.bias_ih.numpy() + cell.bias_hh.numpy()
    np.testing.assert_array_equal(total[:6], [-3, -3, -3, 1, 2, 3])
    plain = tg.LSTMCell(2, 3, rng=0)
    np.testing.assert_array_equal(total[6:], (plain.bias_ih.numpy() + plain.bias_hh.numpy())[6:])
    np.testing.assert_array_equal(cell.weight_hh.numpy(), plain.weight_hh.numpy())
    with pytest.raises(ValueError):
        tg.LSTMCell(2, 3, forget_bias=[1.0, 2.0])


def test_state_dict_goes_out_and_in():
    a, b = tg.LSTMCell(2, 3, rng=0), tg.LSTMCell(2, 3, rng=1)
    state = a.state_dict()
    b.load_state_dict(state)
    state["weight_ih"][:] = 9.0
    for p, q in zip(a.parameters().values(), b.parameters().values(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_state_dict_that_does_not_fit_changes_nothing():
    cell = tg.RNNCell(2, 3, rng=0)
    before = cell.state_dict()
    state = {"weight_ih": np.zeros((3, 2)), "weight_hh": np.zeros((3, 4)), "bias_ih": np.zeros(3), "extra": np.zeros(1)}
    with pytest.raises(ValueError) as caught:
        cell.load_state_dict(state)
    for words in ("missing bias_hh (3,)", "unexpected extra (1,)", "weight_hh has shape (3, 4), not (3, 3)"):
        assert words in str(caught.value)
    for name, array in cell.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: tg.RNNCell(2, 3, "softmax"), "one of 'tanh', 'relu', 'sigmoid', 'identity'"),
        (lambda: tg.RNNCell(0, 3), "input_size=0: give a whole number, at least 1"),
        (lambda: tg.unroll(tg.RNNCell(2, 3), np.ones(5)), r"\(T, B, I\)"),
        (lambda: tg.unroll(tg.RNNCell(2, 3), np.ones((0, 1, 2))), "at least one step"),
        (lambda: tg.unroll(tg.RNNCell(2, 3), np.ones((4, 1, 5))), "not aligned"),
        (lambda: tg.RNNCell(2, 3)(np.ones((4, 2)), tg.Tensor(np.zeros((1, 3)))), "same leading axes"),
        (lambda: tg.affine(*[tg.Tensor(np.ones(3))] * 6), "needs the shapes"),
        (lambda: tg.affine(*[tg.Tensor(np.ones(s)) for s in [(), (3, 3), 3, 3, (3, 3), 3]]), "needs the shapes"),
        # A weight without rows: what it gives would be stretched to the right shape.
        (lambda: tg.affine(*[tg.Tensor(np.ones(s)) for s in [(2, 3), (4, 3), 4, (2, 5), 5, 4]]), "needs the shapes"),
        (lambda: tg.affine(*[tg.Tensor(np.ones(s)) for s in [(2, 3), 3, 4, (2, 5), (4, 5), 4]]), "needs the shapes"),
        (lambda: tg.linear(tg.Tensor(np.ones(2)), np.ones((3, 2)), np.ones(1)), r"shape \(O,\)"),
    ],
)
def test_what_does_not_fit_is_refused(ask, words):
    with pytest.raises(ValueError, match=words):
        ask()


def test_float32_cells_compute_in_float32():
    cell = tg.LSTMCell(INPUT, HIDDEN, dtype=np.float32, rng=0)
    outputs, (h, c) = tg.unroll(cell, data()[0])
    tg.sum(outputs).backward()
    gradients = [p.grad.dtype for p in cell.parameters().values()]
    assert {outputs.dtype, h.dtype, c.dtype, *gradients} == {np.dtype(np.float32)}


def test_a_cell_of_ones_own_is_a_full_citizen():
    class Leaky:
        """h' = (1 - a) h + a tanh(W x)."""

        def __init__(self):
            self.W = tg.Tensor(np.random.default_rng(0).normal(size=(3, 2)), requires_grad=True, name="W")

        def parameters(self):
            return {"W": self.W}

        def initial_state(self, batch):
            return tg.Tensor(np.zeros((batch, 3)))

        def __call__(self, x, h):
            return 0.9 * h + 0.1 * tg.tanh(x @ self.W.T)

    outputs, _ = tg.unroll(Leaky(), np.ones((4, 1, 2)))
    graph = tg.gradient_graph(tg.sum(outputs))
    assert outputs.shape == (4, 1, 3) and sum(node.op == "tanh" for node in graph.nodes) == 4


class Peeping(tg.RNNCell):
    """Uses its new state within the step, and returns what it computes with it."""

    def __call__(self, x, state):
        h = super().__call__(x, state[0])
        return h, tg.tanh(h * h + state[1])

    def initial_state(self, batch):
        return super().initial_state(batch), super().initial_state(batch)


class Resting(tg.RNNCell):
    """Returns the state that it was given, at first a leaf."""

    def __call__(self, x, h):
        return super().__call__(x, h) if x.numpy().sum() > 0 else h


class Widening(tg.RNNCell):
    """float32 at first, float64 from the second step on."""

    def __call__(self, x, h):
        h = super().__call__(x, h)
        return h if h.dtype == np.float64 else h + np.zeros(h.shape, "f8") if self.began() else h

    calls = 0

    def began(self):
        self.calls += 1
        return self.calls > 1


CELLS = [tg.RNNCell, tg.LSTMCell, tg.GRUCell, Peeping, Resting, Widening]


@pytest.mark.parametrize("shape", [(T, B, INPUT), (T, INPUT), (1, B, INPUT)])
@pytest.mark.parametrize("make", CELLS)
def test_large_outputs_are_those_of_small_ones(make, shape, monkeypatch):
    """From a certain size on they are kept in one array as they come: the same numbers, to the second derivative."""

    def run(large):
        monkeypatch.setattr(sys.modules[tg.unroll.__module__], "LARGE_OUTPUT", large)
        dtype = np.float32 if make is Widening else np.float64
        cell = make(INPUT, HIDDEN, rng=3, dtype=dtype)
        x = tg.Tensor(data()[0].reshape(-1)[: np.prod(shape)].reshape(shape).astype(dtype), requires_grad=True)
        state = cell.initial_state(B if len(shape) == 3 else None)
        first = state[0] if isinstance(state, tuple) else state
        leaf = tg.Tensor(first, requires_grad=True)
        before = leaf.data
        outputs, state = tg.unroll(cell, x, (leaf, *state[1:]) if isinstance(state, tuple) else leaf)
        parts = state if isinstance(state, tuple) else (state,)
        assert np.shares_memory(leaf.data, before)
        assert make is Resting or not np.shares_memory(parts[0].data, outputs.data)
        loss = tg.sum(outputs * outputs) + sum(tg.sum(tg.sin(part)) for part in parts)
        leaves = [*cell.parameters().values(), x, leaf]
        g = tg.grad(loss, leaves, create_graph=True, allow_unused=True)
        second = tg.grad(sum(tg.sum(part * part) for part in g if part.requires_grad), leaves, allow_unused=True)
        graph = tg.gradient_graph(loss)
        values = [node.value for node in graph.nodes] + [edge.contribution for edge in graph.edges]
        return outputs, [outputs, *parts, *g, *second, *[v for v in values if v is not None]]

    (kept, one), (apart, other) = run(0), run(2**60)
    assert kept.dtype == apart.dtype and len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(np.asarray(tg.Tensor(a).detach()), np.asarray(tg.Tensor(b).detach()))


@pytest.mark.parametrize("large", [0, 2**60])
@pytest.mark.parametrize("change", [lambda h: tg.concatenate([h, h]), lambda h: h[:-1]])
def test_outputs_of_several_shapes_are_refused(change, large, monkeypatch):
    """One row would fit several too, stretched."""
    monkeypatch.setattr(sys.modules[tg.unroll.__module__], "LARGE_OUTPUT", large)

    class Changing(tg.RNNCell):
        def __call__(self, x, h):
            return change(h)

    with pytest.raises(ValueError, match="shape"):
        tg.unroll(Changing(INPUT, HIDDEN, rng=0), data()[0][:2])


def test_outputs_take_no_memory_beside_the_states():
    """A step of a simple network holds what came in, z and h; the outputs hold h, not a copy."""
    cell, x = tg.RNNCell(INPUT, 64, rng=0), np.ones((50, 32, INPUT))
    with tg.no_grad():
        tg.unroll(cell, x)
    tracemalloc.start()
    outputs, h = tg.unroll(cell, x)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 1.15 * (x.nbytes + 2 * outputs.data.nbytes)
    assert h.data.base is not None and h.data.base.nbytes < outputs.data.nbytes  # nor does the last state hold them
