"""A model that came from PyTorch: load one part of it, see how its gradient fares, repair it, draw both."""

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.data import load

STEPS, HIDDEN = 60, 16

# Stands in for a file from PyTorch: a bigger model's parameters, by PyTorch's
# names, at its initial values. Yours, and then nn.load("model.safetensors", ...):
#     safetensors.torch.save_file(model.state_dict(), "model.safetensors")
theirs = nn.LSTM(1, HIDDEN, num_layers=2, rng=0).state_dict()
theirs = {f"encoder.lstm.{name}": array for name, array in theirs.items()}
nn.save("model.npz", theirs | {"head.bias": np.zeros(1)})

lstm = nn.from_state_dict(nn.load("model.npz", prefix="encoder.lstm"))
print("read off the shapes:", lstm)

# The repair: two numbers per gate and layer. b_hh is set to zero, and b_ih to what
# both are to add up to.
repaired = lstm.state_dict()
for k in range(lstm.num_layers):
    forget, closed = nn.init.chrono(k, HIDDEN, t_max=STEPS)
    repaired[f"bias_ih_l{k}"][: 2 * HIDDEN] = np.concatenate([closed, forget])
    repaired[f"bias_hh_l{k}"][: 2 * HIDDEN] = 0.0
again = nn.from_state_dict(repaired)

series, description = load(steps=STEPS)
direction = np.random.default_rng(0).normal(size=HIDDEN) / np.sqrt(HIDDEN)
graphs = {}
for name, model in {"as it came": lstm, "repaired": again}.items():
    outputs, (h, c) = model(series[:, None, :])
    last_step_only = tg.sum(outputs[-1] * direction)
    graphs[name] = graph = tg.gradient_graph(last_step_only)
    upper = [
        n for n in graph.nodes if n.name == "c" and n.scope.endswith("/layer 1")
    ]
    first, last = (np.linalg.norm(upper[k].gradient) for k in (0, -1))
    print(f"{name:11}|dL/dc| of the upper layer at t={STEPS}: {last:.2g},", end=" ")
    print(f"at t=1: {first:.2g}")
tg.draw(
    graphs,
    "torch_weights.svg",
    title="An LSTM from PyTorch, and what its gate biases do",
    subtitle=description,
)
