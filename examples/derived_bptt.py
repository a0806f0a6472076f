"""Derived BPTT: an LSTM's backpropagation through time as NumPy source, and how it trains beside the engine."""

import time

import numpy as np

import tinygrad_rnn as tg

# Which of two numbers in a noisy sequence was larger? The last output must say it.
rng = np.random.default_rng(0)
T, B, H = 20, 16, 16


def batch():
    x = rng.normal(size=(T, B, 2)) * [0.1, 0]
    first, second = rng.integers(0, T // 2, B), rng.integers(T // 2, T, B)
    values = rng.uniform(-1, 1, (2, B))
    for when, value in zip((first, second), values, strict=True):
        x[when, np.arange(B)] = np.stack([value, np.ones(B)], axis=1)
    return x, np.sign(values[0] - values[1])


def loss(outputs, target):
    return tg.mean(tg.square(outputs[-1, :, 0] - target))


cell = tg.LSTMCell(2, H, forget_bias=1.0, rng=1)
x, target = batch()
state = cell.initial_state(B)
program = tg.derive_bptt(cell, loss, (x, state, target))
print(program.source)

# The same gradients as the engine's.
value, gradients = program(x, state, cell.parameters(), target)
outputs, _ = tg.unroll(cell, x, state)
loss(outputs, target).backward()
pairs = [(gradients[name], p.grad.data) for name, p in cell.parameters().items()]
worst = max(np.abs(ours - theirs).max() for ours, theirs in pairs)
print(f"largest difference from the engine's gradients: {worst:.1e}")
title = "What the program computes"
tg.draw(loss(outputs, target), "derived_bptt.svg", title=title)

# Gradient descent with momentum; the program takes the parameters as they are now.
velocity = {name: np.zeros(p.shape) for name, p in cell.parameters().items()}
losses, start = [], time.perf_counter()
for _step in range(400):
    x, target = batch()
    value, gradients = program(x, state, cell.parameters(), target)
    losses.append(value)
    for name, p in cell.parameters().items():
        velocity[name] = 0.9 * velocity[name] - 0.1 * gradients[name]
        p.data = p.data + velocity[name]
first, last, took = losses[:50], losses[-50:], time.perf_counter() - start
print(f"loss from {np.mean(first):.2f} to {np.mean(last):.2f}, {took:.1f} s")
