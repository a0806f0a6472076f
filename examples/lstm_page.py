"""An interactive page of an unrolled LSTM, and how fast its gradient falls on the way back, as numbers.

Open ``lstm_page.html`` in any browser: it needs no network. Click a node to see its way back to the loss, choose a
level, move the slider to replay the backward pass.
"""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.data import load

series, description = load(steps=30)
graphs = {}
for forget_bias in (None, 1.0, 3.0):
    cell = tg.LSTMCell(input_size=1, hidden_size=8, forget_bias=forget_bias, rng=0)
    outputs, (h, c) = tg.unroll(cell, series[:, None, :])
    direction = np.random.default_rng(0).normal(size=8)
    name = "default" if forget_bias is None else f"forget bias {forget_bias:g}"
    loss = tg.sum(h * (direction / np.linalg.norm(direction)))
    graphs[name] = tg.gradient_graph(loss)

title = "LSTM at its default initialisation"
tg.draw(graphs["default"], "lstm_page.html", title=title, subtitle=description)
tg.draw(graphs, "lstm_page.svg")

for decay in tg.gradient_through_time(graphs).decays:
    print(
        f"{decay.network:14} {decay.state}: {decay.slope:+.3f} decades a step,",
        end=" ",
    )
    print(f"halves in {decay.half_life:.1f} steps")
