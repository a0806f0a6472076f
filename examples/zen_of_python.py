"""Karpathy's min-char-rnn on the Zen of Python, watched: why does a network learn whose gradient begins at 1e-25?

Its weights begin at 0.01 times a normal: one step back costs a whole decade. Short-range errors still arrive; they make
the recurrent matrix grow, and with it the gradient reaches further back. This is a short version, 400 steps; after
5,000 the network knows most of the text by heart (docs/training.md).
"""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.nn import init
from tinygrad_rnn.train import Adagrad, SequenceModel, Text, every, fit

HIDDEN, STEPS, SEED = 100, 400, 0
task = Text(length=25)
small, zero = init.gaussian(0.01), init.constant(0.0)
start = {"weight_ih": small, "weight_hh": small, "bias_ih": zero, "bias_hh": zero}
cell = tg.RNNCell(task.inputs, HIDDEN, init=start, rng=SEED)
model = SequenceModel(cell, task, rng=SEED)
model.head.weight.data = small(np.random.default_rng(SEED), model.head.weight.shape)
model.head.bias.data = np.zeros(task.outputs)


def last_character():
    """The graph of what the last of 25 characters loses."""
    inputs, targets = task.batch(np.random.default_rng(SEED), 1)
    outputs, _ = model(inputs)
    return tg.gradient_graph(task.loss(outputs[-1:], targets[-1:]))


def watch(run=None):
    slope = tg.gradient_through_time(last_character())["h"].slope
    radius = np.abs(np.linalg.eigvals(cell.weight_hh.data)).max()
    return {"decades per step back": slope, "spectral radius": float(radius)}


graphs = {"before": last_character()}
means = task.baseline_means.partition(": ")[2]
print(f"{task!r}: baseline {task.baseline:.2f} = {means}; at the start", watch())
how = {"batch_size": 1, "clip_value": 5.0, "evaluate_every": 100}
how |= {"callbacks": [every(100, watch)], "derived": True, "progress": False}
history = fit(model, task, Adagrad(model, lr=0.1), STEPS, **how)
graphs["after"] = last_character()
print(history.table())
print("It writes:", task.sample(model, 80, SEED))
title = f"The last character's gradient, before and after {STEPS} steps"
tg.draw(graphs, "zen_of_python.svg", title=title)
