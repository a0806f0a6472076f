"""Three cells of one's own, a dozen lines each: peephole, coupled gates, antisymmetric; unrolled, drawn, compared."""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.testing import check_cell

T, SIZES = 30, (2, 8)


def gates(cell, x, h, number):
    """W x + U h and both biases, cut into the operands of the gates."""
    weights = cell.weight_hh, cell.bias_hh
    z = tg.affine(x, cell.weight_ih, cell.bias_ih, h, *weights)
    return tg.split(z, number, axis=-1)


class Peephole(nn.LSTMCell):
    """Gates see c: i and f the old one, o the new (Gers, Schmidhuber 2000)."""

    def __init__(self, *sizes, rng):
        super().__init__(*sizes, rng=rng)
        peep = rng.normal(size=(3, self.hidden_size)) / 4
        self.peep = tg.Tensor(peep, requires_grad=True, name="peep")

    def __call__(self, x, state):
        h, c = state
        i, f, g, o = gates(self, x, h, 4)
        i = tg.sigmoid(i + self.peep[0] * c)
        f = tg.sigmoid(f + self.peep[1] * c)
        c = f * c + i * tg.tanh(g)
        h = tg.sigmoid(o + self.peep[2] * c) * tg.tanh(c)
        f.name, c.name, h.name = "f", "c", "h"
        return h, c


class Coupled(nn.LSTMCell):
    """What is forgotten makes room: i = 1 - f (Greff 2017). Three gates remain."""

    def __call__(self, x, state):
        h, c = state
        f, g, o = gates(self, x, h, 3)
        f = tg.sigmoid(f)
        c = f * c + (1 - f) * tg.tanh(g)
        h = tg.sigmoid(o) * tg.tanh(c)
        f.name, c.name, h.name = "f", "c", "h"
        return h, c


class Antisymmetric(nn.RNNCell):
    """h' = h + ε tanh((W - Wᵀ - γ I) h + V x + b): no decay (Chang 2019)."""

    def __call__(self, x, h):
        friction = 0.01 * np.eye(self.hidden_size, dtype=h.dtype)
        rotation = self.weight_hh - self.weight_hh.T - friction
        z = tg.affine(x, self.weight_ih, self.bias_ih, h, rotation, self.bias_hh)
        h = h + 0.01 * tg.tanh(z)
        h.name = "h"
        return h


rng = np.random.default_rng(0)
x = rng.normal(size=(T, 1, SIZES[0]))
direction = rng.normal(size=SIZES[1]) / np.sqrt(SIZES[1])
cells = {
    "Peephole": Peephole(*SIZES, rng=rng),
    "Coupled": Coupled(*SIZES, forget_gate=False, rng=rng),
    "Antisymmetric": Antisymmetric(*SIZES, rng=rng),
}
graphs = {}
for name, cell in cells.items():
    check_cell(cell, order=1)  # derivatives, batches, unrolling: raises if wrong
    outputs, _ = tg.unroll(cell, x)
    graphs[name] = tg.gradient_graph(tg.sum(outputs[-1] * direction))
    states = [node for node in graphs[name].nodes if node.name == "h"]
    first, last = (np.linalg.norm(states[k].gradient) for k in (0, -1))
    fall = np.log10(last / first)
    print(f"{name:14}|dL/dh| falls by {fall:5.2f} decades from t={T} to t=1")
tg.draw(graphs, "lstm_variants.svg", level="step", title="Three cells of one's own")
