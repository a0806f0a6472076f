"""A film: how the gradient of an LSTM comes back while its forget gate opens.

At a bias of -2 the gate lets a ninth of the memory through, and the gradient fades on its way back along c; at 4 nearly
all of it arrives. Every frame has one layout and one scale; the picture moves by itself, and the page has a slider.
"""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.data import load

T, HIDDEN, SEED = 5, 8, 0
series, _ = load(steps=T)  # annual flow of the Nile, standardised, shape (T, 1)
direction = np.random.default_rng(SEED).normal(size=HIDDEN)
direction /= np.linalg.norm(direction)


def loss(bias):
    cell = tg.LSTMCell(1, HIDDEN, forget_bias=bias, rng=SEED)
    _, (h, _) = tg.unroll(cell, series[:, None, :])
    return tg.sum(h * direction)


biases = np.linspace(-2.0, 4.0, 13)
losses = {
    f"forget bias {bias:.1f}".replace("-", "−"): loss(bias) for bias in biases
}
title = "What comes back while the forget gate opens"
film = tg.film(losses, "film.svg", title=title, page="slide")
film.save("film.html")

for caption in (film.labels[0], film.labels[-1]):
    graph = tg.gradient_graph(losses[caption])
    first, last = (
        np.linalg.norm([n.gradient for n in graph.nodes if n.name == "c"][k])
        for k in (0, -1)
    )
    print(f"{caption:17} |dL/dc| at t={T}: {last:.2g}, at t=1: {first:.2g}")
