"""An RNN that explodes, and why it is not ReLU's slope: that is 0 or 1, never more. What grows is the recurrent weight.

Two ReLU networks that differ in one factor: W_hh is 1 or 2 times the same orthogonal matrix. Under one scale, the first
loses gradient on the way back and the second gains it, past 1000, from where on an edge is drawn in red.
"""

import numpy as np

import tinygrad_rnn as tg

T, HIDDEN, SEED = 60, 32, 0
rng = np.random.default_rng(SEED)
inputs = rng.normal(size=(T, 1, 4))
direction = rng.normal(size=HIDDEN) / np.sqrt(HIDDEN)
orthogonal, _ = np.linalg.qr(rng.normal(size=(HIDDEN, HIDDEN)))

graphs = {}
for gain in (1.0, 2.0):
    cell = tg.RNNCell(4, HIDDEN, nonlinearity="relu", rng=SEED)
    cell.weight_hh.data = gain * orthogonal
    _, h = tg.unroll(cell, inputs)
    graphs[f"W_hh = {gain:g} Q"] = graph = tg.gradient_graph(tg.sum(h * direction))
    states = [node.gradient for node in graph.nodes if node.name == "h"]
    first, last = np.linalg.norm(states[0]), np.linalg.norm(states[-1])
    per_step = (first / last) ** (1 / (T - 1))
    print(
        f"gain {gain:g}: |dL/dh| at t={T} is {last:.2g}, at t=1 {first:.2g}:",
        end=" ",
    )
    print(f"× {per_step:.2f} per step back")

about = (
    f"H = {HIDDEN}, normal inputs, loss at the last step, seed {SEED}; Q orthogonal"
)
title = "A ReLU network explodes by its recurrent weights"
tg.draw(graphs, "exploding.svg", title=title, subtitle=about)
