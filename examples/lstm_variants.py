"""Three cells of one's own, a dozen lines each: peephole, coupled gates, antisymmetric; unrolled, drawn, compared."""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.testing import check_cell

T, SIZES = 30, (2, 8)


class Peephole(nn.LSTMCell):
    """The gates see the cell state as well (Gers and Schmidhuber 2000): i and f the old one, o the new one."""

    def __init__(self, *sizes, rng):
        super().__init__(*sizes, rng=rng)
        self.peep = tg.Tensor(rng.normal(size=(3, self.hidden_size)) / 4, requires_grad=True, name="peep")

    def __call__(self, x, state):
        h, c = state
        i, f, g, o = tg.split(tg.affine(x, self.weight_ih, self.bias_ih, h, self.weight_hh, self.bias_hh), 4, axis=-1)
        i, f, g = tg.sigmoid(i + self.peep[0] * c), tg.sigmoid(f + self.peep[1] * c), tg.tanh(g)
        c = f * c + i * g
        h = tg.sigmoid(o + self.peep[2] * c) * tg.tanh(c)
        f.name, c.name, h.name = "f", "c", "h"
        return h, c


class Coupled(nn.LSTMCell):
    """What is forgotten makes room for what is new: i = 1 - f (Greff et al. 2017), so three gates remain."""

    def __call__(self, x, state):
        h, c = state
        f, g, o = tg.split(tg.affine(x, self.weight_ih, self.bias_ih, h, self.weight_hh, self.bias_hh), 3, axis=-1)
        f = tg.sigmoid(f)
        c = f * c + (1 - f) * tg.tanh(g)
        h = tg.sigmoid(o) * tg.tanh(c)
        f.name, c.name, h.name = "f", "c", "h"
        return h, c


class Antisymmetric(nn.RNNCell):
    """h' = h + ε tanh((W - Wᵀ - γ I) h + V x + b): a step neither grows nor fades (Chang et al. 2019)."""

    def __call__(self, x, h):
        rotation = self.weight_hh - self.weight_hh.T - 0.01 * np.eye(self.hidden_size, dtype=h.dtype)
        h = h + 0.01 * tg.tanh(tg.affine(x, self.weight_ih, self.bias_ih, h, rotation, self.bias_hh))
        h.name = "h"
        return h


rng = np.random.default_rng(0)
x, direction = rng.normal(size=(T, 1, SIZES[0])), rng.normal(size=SIZES[1]) / np.sqrt(SIZES[1])
graphs = {}
for cell in Peephole(*SIZES, rng=rng), Coupled(*SIZES, forget_gate=False, rng=rng), Antisymmetric(*SIZES, rng=rng):
    check_cell(cell, order=1)  # derivatives against differences, batches, unrolling: raises if anything is wrong
    graphs[name := type(cell).__name__] = graph = tg.gradient_graph(tg.sum(tg.unroll(cell, x)[0][-1] * direction))
    norms = [np.linalg.norm(node.gradient) for node in graph.nodes if node.name == "h"]  # h at t=1, ..., at t=T
    print(f"{name:14}|dL/dh| falls by {np.log10(norms[-1] / norms[0]):5.2f} decades from t={T} to t=1")
tg.draw(graphs, "lstm_variants.svg", level="step", title="Three cells of one's own")
