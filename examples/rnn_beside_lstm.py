"""Three cells on the same data under one scale: a tanh RNN, an LSTM as it starts, and an LSTM with its gates opened.

What vanishes is visible, and so is what does not: at its default initialisation the LSTM loses its gradient about as
fast as the plain RNN; with its forget gates open and its input gates closed, nearly all of it arrives along c.
"""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.data import load

T, HIDDEN, SEED = 50, 16, 0
series, _ = load(steps=T)  # annual flow of the Nile, standardised, shape (T, 1)
direction = np.random.default_rng(SEED).normal(size=HIDDEN)
direction /= np.linalg.norm(direction)

biases = {"forget_bias": 5.0, "input_bias": -3.0}
cells = {
    "tanh RNN": tg.RNNCell(1, HIDDEN, rng=SEED),
    "LSTM": tg.LSTMCell(1, HIDDEN, rng=SEED),
    "LSTM, gates opened": tg.LSTMCell(1, HIDDEN, **biases, rng=SEED),
}
graphs = {}
for name, cell in cells.items():
    _, state = tg.unroll(cell, series[:, None, :])
    h = state[0] if isinstance(state, tuple) else state
    last_step_only = tg.sum(h * direction)
    graphs[name] = tg.gradient_graph(last_step_only)

title = "How much gradient arrives at an earlier step?"
about = f"flow of the Nile, H = {HIDDEN}, seed {SEED}, weights U(−1/√H, 1/√H)"
about += "; opened: forget bias 5, input −3"
words = {"title": title, "subtitle": about}
tg.draw(graphs, "rnn_beside_lstm.svg", **words)

for name, graph in graphs.items():
    states = [node.gradient for node in graph.nodes if node.name == "h"]
    first, last = np.linalg.norm(states[0]), np.linalg.norm(states[-1])
    print(f"{name:20}|dL/dh| at t={T}: {last:.2g}, at t=1: {first:.2g}")
