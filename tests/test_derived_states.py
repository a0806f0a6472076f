"""Derived BPTT on states that go unusual ways: handed on, swapped, shifted, reversed, accumulated, never changed."""

import numpy as np
import pytest
from derived_cells import assert_equal, by_engine

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.bptt import REWRITES


def parameter(*shape):
    return tg.Tensor(np.random.default_rng(len(shape)).normal(size=shape) / 2, requires_grad=True)


def zeros(count):
    return tuple(tg.Tensor(np.zeros((2, 3))) for _ in range(count))


class Cell:
    """One step, given as a function of the cell, the input and two states."""

    states = 2

    def __init__(self, step, states=2):
        self.W, self.b, self.a, self.step, self.states = parameter(3, 3), parameter(3), parameter(), step, states
        self.fixed, self.mask = tg.Tensor(np.eye(3)), np.tril(np.ones((3, 3)))

    def parameters(self):
        return {"W": self.W, "b": self.b, "a": self.a, "fixed": self.fixed}

    def initial_state(self, batch):
        return zeros(self.states)

    def __call__(self, x, state):
        return self.step(self, x, *state)


class Nested(nn.Module):
    """Parameters in modules, dicts and lists; a state that is a tuple of one."""

    def __init__(self):
        self.from_x, self.from_h = nn.Linear(3, 3, rng=0), nn.Linear(3, 3, rng=1)
        self.more = {"a": parameter(3), "b": [parameter(3)]}

    def initial_state(self, batch):
        return zeros(1)

    def __call__(self, x, state):
        (h,) = state
        return (tg.tanh(self.from_x(x) + self.from_h(h) * self.more["a"]) + 0.1 * self.more["b"][0],)


def attention(cell, x, h, M):
    k = tg.tanh(x @ cell.W)
    M = 0.9 * M + k
    return 0.1 * h + tg.softmax(tg.sum(M * k, axis=-1, keepdims=True), axis=0) * M, M


def reshaped(cell, x, h, c):
    u = tg.reshape(h + x, (3, 2))
    w = tg.reshape(c - x, (3, 2))
    return tg.reshape(u + 2.0 * w, (2, 3)), tg.tanh(c @ cell.W)


CELLS = {
    "delayed input": Cell(lambda cell, x, h, c: (tg.tanh((h + c) @ cell.W + x), x)),
    "input reversed": Cell(lambda cell, x, h, c: (tg.tanh(h @ cell.W + c[:, ::-1]), x[:, ::-1])),
    "swapped": Cell(lambda cell, x, h, c: (c, tg.tanh(h @ cell.W + x))),
    "rotated": Cell(lambda cell, x, a, b, c: (b[:, ::-1] + 0, c, tg.tanh(a @ cell.W + x) + a), 3),
    "exchanged": Cell(lambda cell, x, h, c: (c, h)),
    "handed round": Cell(lambda cell, x, a, b, c: (b, c, a), 3),
    "unchanged": Cell(lambda cell, x, h, c: (h, c)),
    "one unchanged": Cell(lambda cell, x, h, c: (tg.tanh(h @ cell.W + x) + tg.multiply(cell.fixed[0], c), c)),
    "a parameter": Cell(lambda cell, x, h, c: (0.5 * h, tg.broadcast_to(cell.W[0], h.shape))),
    "added up": Cell(lambda cell, x, h, c: (h + cell.b + c @ cell.W, c[..., ::-1] * x + cell.b)),
    "scalars": Cell(
        lambda cell, x, h, c: (
            tg.sigmoid(cell.a * h + x + cell.b),
            0.1 * tg.sum(h) + (1 - tg.sigmoid(cell.a)) * c,
        )
    ),
    "input in the gradient": Cell(lambda cell, x, h, c: (tg.tanh(h @ cell.W + x @ cell.fixed), h * c + x)),
    "masked weights": Cell(
        lambda cell, x, h, c: (tg.tanh(x @ tg.softmax(cell.W, axis=0)), tg.maximum(c, h @ (cell.W * cell.mask)))
    ),
    "attention": Cell(attention),
    "input times input": Cell(lambda cell, x, h, c: (tg.tanh((x @ x[0])[:, None] * (h @ cell.W)), c + x[1] * h)),
    "reshaped": Cell(reshaped),
    "nested": Nested(),
}
LOSSES = {
    "outputs": lambda outputs: tg.mean(outputs**2),
    "state": lambda state: tg.sum(state[-1] ** 3),
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_the_engines(name, kind):
    cell, loss, rng = CELLS[name], LOSSES[kind], np.random.default_rng(0)
    state = cell.initial_state(2)
    example = tg.Tensor(rng.normal(size=(3, 2, 3)), requires_grad=True), state
    inputs, first = rng.normal(size=(5, 2, 3)), tuple(rng.normal(size=(2, 3)) for _ in state)
    value, gradients = by_engine(cell, loss, inputs, first)
    constant = [name for name, p in cell.parameters().items() if not p.requires_grad]
    want = value, {key: g for key, g in gradients.items() if key not in constant}
    for rewrites in (REWRITES, ()) if kind == "outputs" else [("buffers",)]:
        program = tg.derive_bptt(cell, loss, example, rewrites)
        found = program(inputs, first, cell.parameters())
        assert_equal(found, want, "f8")
        _, _, last = program(inputs, first, cell.parameters(), return_state=True)
        for form in (found[1]["state"], last):
            assert isinstance(form, tuple) and len(form) == len(state)


def test_a_state_that_is_a_list_is_refused():
    cell = Cell(lambda cell, x, h, c: [h, c])
    with pytest.raises(tg.bptt.TraceError, match="goes in as a tuple of 2 and comes out in another form"):
        tg.derive_bptt(cell, LOSSES["outputs"], (np.ones((3, 2, 3)), cell.initial_state(2)))


def test_a_state_may_be_made_of_tuples():
    flat = Cell(lambda cell, x, h, c, m: (tg.tanh(h @ cell.W + x) * m, c * 0.5 + h, tg.sigmoid(c + m)), 3)

    class Grouped(Cell):
        def __call__(self, x, state):
            h, (c, m) = state
            h, c, m = self.step(self, x, h, c, m)
            return h, (c, m)

    def grouped(state):
        h, c, m = state
        return h, (c, m)

    grouped_cell, rng = Grouped(flat.step), np.random.default_rng(0)
    x, first = rng.normal(size=(5, 2, 3)), tuple(rng.normal(size=(2, 3)) for _ in range(3))
    of_flat = tg.derive_bptt(flat, lambda state: tg.sum(state[0] * state[1]), (x, first))
    program = tg.derive_bptt(grouped_cell, lambda state: tg.sum(state[0] * state[1][0]), (x, grouped(first)))
    loss, gradients, last = program(x, grouped(first), grouped_cell.parameters(), return_state=True)
    want, expected, flat_last = of_flat(x, first, flat.parameters(), return_state=True)
    expected["state"] = grouped(expected["state"])
    np.testing.assert_equal((loss, dict(gradients), last), (want, dict(expected), grouped(flat_last)))
    given_later = tg.derive_bptt(grouped_cell, None, (x, grouped(first)))
    loss, gradients = given_later(
        x, grouped(first), grouped_cell.parameters(), loss=lambda state: tg.sum(state[0] * state[1][0])
    )
    np.testing.assert_allclose(gradients["state"][1][1], expected["state"][1][1])
