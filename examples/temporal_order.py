"""Which came first? An LSTM that begins as PyTorch's does is still guessing when one with other gate biases knows.

Two of T symbols matter, and the answer at the end is which they were, in which order: four classes, so that chance is
wrong in 75 % of the cases. Before any training one can see who will learn: whose gradient comes back to the first
symbols. A plain RNN learns it too if its recurrent matrix begins orthogonal: docs/training.md has the success rates.
"""

from importlib.util import find_spec

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.nn import init
from tinygrad_rnn.train import Adam, SequenceModel, TemporalOrder, fit

T, HIDDEN, STEPS, SEED = 30, 32, 150, 0
task = TemporalOrder(T)
inputs, targets = task.batch(np.random.default_rng(SEED), 16)
single, W = {"dtype": "float32", "rng": SEED}, init.orthogonal()
CELLS = {
    "LSTM, PyTorch's": tg.LSTMCell(task.inputs, HIDDEN, **single),
    "LSTM, chrono": tg.LSTMCell(
        task.inputs, HIDDEN, init="chrono", t_max=T, **single
    ),
    "RNN, orthogonal": tg.RNNCell(
        task.inputs, HIDDEN, init={"weight_hh": W}, rng=SEED
    ),
}
how = {"clip_norm": 1.0, "evaluate_every": 25, "until_solved": True}
quick = {"derived": True, "progress": False}

histories, graphs = {}, {}
for name, cell in CELLS.items():
    model = SequenceModel(cell, task, rng=SEED)
    outputs, _ = model(inputs)
    graphs[name] = graph = tg.gradient_graph(task.loss(outputs, targets))
    states = [node.gradient for node in graph.nodes if node.name == "h"]
    left = np.linalg.norm(states[0]) / np.linalg.norm(states[-1])
    print(f"{name}: before training, |dL/dh| at t=1 is {left:.1e} of that at t={T}")
    if name.startswith("LSTM"):
        history = fit(model, task, Adam(model, lr=0.01), STEPS, **how, **quick)
        histories[name], solved = history, f"not solved in {STEPS} steps"
        if history.solved_at:
            solved = f"solved after {history.solved_at} steps"
        wrong = history.metrics[-1][1]
        print(f"{name}: {solved}, wrong in {wrong:.0%} of 500 cases")

tg.draw(
    graphs,
    "temporal_order.svg",
    title="Before any training: what comes back to the first symbols",
    subtitle=f"{task!r}, 16 sequences, seed {SEED}",
)
if find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    for name, history in histories.items():
        plt.semilogy(history.losses, label=name)
    plt.axhline(task.baseline, color="k", linestyle="--", label="chance")
    plt.title(repr(task))
    plt.legend()
    plt.savefig("temporal_order.png")
