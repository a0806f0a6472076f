"""One LSTM, one task, four beginnings: it learns in seconds or never, and what differs is two biases of its gates.

The adding problem with a lag of at least T/2: two of T numbers are marked, and their sum is asked for at the end.
Always answering 1 has the loss 1/6, and there three of these runs stay. Opening the forget gate alone keeps everything,
noise included; closing the input gate alone forgets what little comes in. Both together solve it. This is a short
version, one seed; docs/training.md has the table at T = 50, with success rates.
"""

from importlib.util import find_spec

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.train import Adam, Adding, SequenceModel, fit

T, HIDDEN, STEPS, SEED = 22, 16, 200, 2
task = Adding(T, minimal_lag=True)
inputs, targets = task.batch(np.random.default_rng(SEED), 16)
print(f"{task!r}: always answering 1 has the loss {task.baseline:.3f}")

how = {
    "batch_size": 16,
    "clip_norm": 1.0,
    "evaluate_every": 25,
    "until_solved": True,
}
quick = {"derived": True, "progress": False}
histories, graphs = {}, {}
for forget, entry in (1.0, 0.0), (1.0, -3.0), (5.0, 0.0), (5.0, -3.0):
    name = f"forget bias {forget:g}, input bias {entry:g}"
    biases = {"forget_bias": forget, "input_bias": entry}
    cell = tg.LSTMCell(2, HIDDEN, **biases, dtype="float32", rng=SEED)
    model = SequenceModel(cell, task, rng=SEED)
    history = fit(model, task, Adam(model, lr=0.03), STEPS, **how, **quick)
    histories[name], solved = history, f"not solved in {STEPS} steps"
    if history.solved_at:
        solved = f"solved after {history.solved_at} steps"
    print(f"{name}: {solved}, MSE {history.metrics[-1][1]:.4f}")
    if (forget > 1) == (entry < 0):  # the two ends of the story
        graphs[name] = tg.gradient_graph(tg.sum(model(inputs)[0]))

title = (
    "How much of the answer's gradient reaches the first numbers, after training"
)
about = f"{task!r}, 16 sequences, seed {SEED}"
tg.draw(graphs, "two_biases.svg", title=title, subtitle=about)
if find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    for name, history in histories.items():
        plt.semilogy(history.losses, label=name)
    plt.axhline(task.baseline, color="k", linestyle="--", label="always 1")
    plt.title(f"{task!r}: where the two gate biases begin")
    plt.legend()
    plt.savefig("two_biases.png")
