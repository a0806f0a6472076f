"""Training opens the gates: an untrained LSTM loses its gradient as a plain RNN does, and a trained one does not.

Then why do LSTMs work at all? Because training can open a forget gate, where the task offers something easy on the
way. Three LSTMs of one shape learn the adding problem over 12 steps, from PyTorch's initial weights. Before and after,
the gradient of their answer is sent back over 100 steps, which they have never seen.
"""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.train import Adam, Adding, SequenceModel, fit

T, HIDDEN, STEPS, SEEDS = 100, 16, 600, range(3)
task = Adding(12)  # the marks fall anywhere, so some lags are short
inputs, _ = Adding(T).batch(np.random.default_rng(1), 8)
how = {"batch_size": 16, "clip_norm": 1.0, "evaluate_every": 25}
quick = {"until_solved": True, "derived": True, "progress": False}


def look(model):
    """The graph of the answer, the decades that ∂/∂c loses, the most open gate."""
    answer = tg.sum(model(inputs)[0])
    graph = tg.gradient_graph(answer)
    decades = -(T - 1) * tg.gradient_through_time(answer)["c"].slope
    gates = [node.value for node in graph.nodes if node.name == "f"]
    return graph, decades, np.mean(gates, axis=(0, 1)).max()


graphs = {}
for seed in SEEDS:
    model = SequenceModel(tg.LSTMCell(2, HIDDEN, rng=seed), task, rng=seed)
    untrained, lost, gate = look(model)
    words = f"seed {seed}: untrained {lost:.1f} decades in {T} steps"
    words += f", most open forget gate {gate:.2f}"
    history = fit(
        model, task, Adam(model, lr=0.03), STEPS, seed=seed, **how, **quick
    )
    trained, lost, gate = look(model)
    words += f"; trained for {history.steps} updates {lost:.1f}, {gate:.2f}"
    print(words)
    if seed == SEEDS[0]:
        graphs = {
            "untrained": untrained,
            f"trained for {history.steps} updates": trained,
        }

title = "Training opens the gates"
about = f"one LSTM, H = {HIDDEN}, {task!r}; its answer's gradient over {T} steps"
words = {"title": title, "subtitle": about}
scale = (1e-20, 100)
tg.draw(graphs, "training_opens_the_gates.svg", scale=scale, **words)
