"""Unroll an LSTM over a real series and draw every operation with the gradient on every edge."""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.data import load

series, description = load(steps=4)  # shape (T, 1)
cell = tg.LSTMCell(input_size=1, hidden_size=8, rng=0)
inputs = series[:, None, :]  # T steps, a batch of one, one input
outputs, (h, c) = tg.unroll(cell, inputs)
direction = np.random.default_rng(0).normal(size=8)
loss = tg.sum(h * (direction / np.linalg.norm(direction)))

graph = tg.gradient_graph(loss)
words = {"title": "LSTM, four steps", "subtitle": f"{description}; H = 8, seed 0"}
tg.draw(graph, "draw_lstm.svg", level="op", **words)

# The number on an edge is the norm of what one consumer sends back; a tensor's
# gradient is the sum over its edges.
weight = graph.node_of(cell.weight_hh)
edges = list(graph.edges_from(weight))
total = sum(edge.contribution for edge in edges)
print("weight_hh has one edge per step:", [round(edge.norm, 4) for edge in edges])
print("their sum is its gradient:", np.allclose(total, weight.gradient))
