"""What is measured for each claim of the blog post: one function a claim, numbers by name, everything seeded.

After this file the reader knows, claim by claim, which experiment could have shown the opposite. Each function returns
the numbers that `claims` judges; none of them knows the verdict.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from blog_post_experiments import first_lag, hump, latch, sigmoid_chain
from cliff import cliff, descend

from tinygrad_rnn import (
    RNN,
    GRUCell,
    RNNCell,
    Tensor,
    grad,
    gradient_graph,
    jacobian,
    matmul,
    no_grad,
    sigmoid,
    sum,
    unroll,
)
from tinygrad_rnn.diagnose import gradient_flow
from tinygrad_rnn.atlas.networks import measured, network, slope_of
from tinygrad_rnn.nn import LSTMCell
from tinygrad_rnn.nn.init import orthogonal
from tinygrad_rnn.testing.oracles import numeric_jacobian
from tinygrad_rnn.train import Adam, Adding, SequenceModel, fit

Numbers = dict[str, float]
STEPS = 100


@cache
def slope(**settings: Any) -> float:
    """Decades per step, see `networks.slope_of`, averaged over two seeds."""
    return float(np.mean([slope_of({**settings, "seed": seed})["slope"] for seed in range(2)]))


def forward_then_back() -> Numbers:
    """1: a graph of T copies with one W, and its gradient against finite differences."""
    cell, inputs = network({"hidden": 4, "features": 2, "steps": 5})
    w = cell.weight_hh
    graph = gradient_graph(sum(unroll(cell, inputs)[1]))
    node = graph.node_of(w)
    before = w.data.copy()

    def loss(arrays: Any) -> Any:
        w.data = arrays[0]
        return np.atleast_1d(sum(unroll(cell, inputs)[1]).item())

    elements = list(np.ndindex(before.shape))
    numeric = numeric_jacobian(loss, [before], 0, elements).reshape(before.shape)
    return {
        "uses": len(list(graph.edges_from(node))),
        "steps": len(inputs),
        "error": float(np.linalg.norm(node.gradient - numeric) / np.linalg.norm(numeric)),
    }


def backward_updates() -> Numbers:
    """2: whether backward changes W, and whether its gradient is the sum over the copies."""
    cell, inputs = network({"hidden": 8, "steps": 20})
    before, loss = cell.weight_hh.data.copy(), sum(unroll(cell, inputs)[1])
    graph = gradient_graph(loss)
    loss.backward()
    copies = [np.asarray(edge.contribution) for edge in graph.edges_from(graph.node_of(cell.weight_hh))]
    total = cell.weight_hh.grad.data
    return {
        "changed": float(np.abs(cell.weight_hh.data - before).max()),
        "copies": len(copies),
        "error": float(np.abs(np.sum(copies, axis=0) - total).max() / np.abs(total).max()),
    }


def weight_gradient_by_lag() -> Numbers:
    """3: ∂L/∂W of a sigmoid RNN, and the share of it from more than 20 steps back."""
    cell, inputs = network({"nonlinearity": "sigmoid"})
    by_lag = measured(cell, inputs, edges=(20,)).by_lag
    assert by_lag is not None
    return {
        "total": 10.0 ** by_lag.log_norm("weight_hh"),
        "share": by_lag.share_beyond("weight_hh", 20),
    }


def longer_is_worse() -> Numbers:
    """4: decades lost in sequences, and in feed-forward networks of sigmoid layers, against their length."""
    cell, inputs = network({"nonlinearity": "sigmoid"})
    lane = measured(cell, inputs).lanes["", "h"]
    depths = np.array([5, 10, 20, 40])
    lost = np.array([-_decades_through_layers(depth) for depth in depths])
    return {
        "per_step": lane.line.slope,
        "r2": float(lane.line.r2[0]),
        "at_25": -float(lane.logs[25, 0]),
        "at_100": -float(lane.logs[100, 0]),
        "per_layer": -float(np.polyfit(depths, lost, 1)[0]),
    }


def _decades_through_layers(depth: int, width: int = 32) -> float:
    rng = np.random.default_rng(0)
    first = a = Tensor(rng.standard_normal(width), requires_grad=True)
    for _ in range(depth):
        a = sigmoid(matmul(orthogonal()(rng, (width, width)), a))
    v = rng.standard_normal(width)
    return math.log10(np.linalg.norm(grad(a, first, v / np.linalg.norm(v)).data))


def product_of_jacobians() -> Numbers:
    """5: the gradient at h₀ against the product of the steps' Jacobians."""
    cell, inputs = network({"hidden": 6, "features": 2, "steps": 12})
    state = begin = Tensor(np.zeros((1, 6)), requires_grad=True)
    product = np.eye(6)
    for x in inputs:
        with no_grad():  # nobody differentiates it with respect to the cell's parameters
            step = jacobian(lambda h, x=x: cell(x, h), state).data.reshape(6, 6)
        product, state = step @ product, cell(x, state)
    v = np.random.default_rng(0).standard_normal((1, 6))
    swept = grad(state, begin, v).data
    return {
        "error": float(np.linalg.norm(swept - v @ product) / np.linalg.norm(swept)),
        "steps": len(inputs),
    }


def sigmoid_slopes() -> Numbers:
    """6: the derivative of σ over a wide range, and the largest in a whole run."""
    z = Tensor(np.linspace(-10, 10, 2001), requires_grad=True)
    slopes = grad(sum(sigmoid(z)), z).data
    cell, inputs = network({"nonlinearity": "sigmoid", "input_scale": 0.1, "centred": True})
    run = measured(cell, inputs).activations["", "h"]
    return {
        "most": float(slopes.max()),
        "least": float(slopes.min()),
        "at": float(z.data[slopes.argmax()]),
        "in_a_run": run.slope_most,
    }


def product_of_slopes() -> Numbers:
    """7: ∂L/∂w₁ in the post's chain of four, over the product of slopes alone, for two sizes of weight."""
    ratios = {}
    for weight in (1.0, 5.0):
        gradients, slopes = sigmoid_chain([weight] * 4)
        ratios[weight] = gradients[0] / math.prod(slopes)
    first = sigmoid_chain([1.0] * 4)[0]
    return {
        "ratio_1": ratios[1.0],
        "ratio_5": ratios[5.0],
        "w4": first[3],
        "w3": first[2],
        "w2": first[1],
        "w1": first[0],
    }


def sigmoid_that_grows() -> Numbers:
    """8: decades per step of a sigmoid RNN whose operands stay around 0, for small and large weights."""
    common = {"nonlinearity": "sigmoid", "input_scale": 0.01, "centred": True}
    return {f"slope_{g}": slope(**common, scale=float(g)) for g in (1, 4, 6)}


@cache
def _adding(length: int, updates: int = 200) -> tuple[float, float, float]:
    """First loss, test MSE at the end, and relative change of the parameters, of a tanh RNN on the adding task."""
    task = Adding(length, minimal_lag=True)
    model = SequenceModel(RNNCell(2, 16, rng=1), task, rng=2)
    before = {name: p.data.copy() for name, p in model.parameters().items()}
    history = fit(
        model,
        task,
        Adam(model, lr=0.02),
        updates,
        clip_norm=1.0,
        seed=1,
        until_solved=True,
        progress=False,
    )
    moved = sum_of_squares({name: p.data - before[name] for name, p in model.parameters().items()})
    return (
        history.losses[0],
        history.metrics[-1][1],
        math.sqrt(moved / sum_of_squares(before)),
    )


def sum_of_squares(arrays: dict[str, Any]) -> float:
    """Over all entries of all arrays."""
    return float(np.sum([np.square(array).sum() for array in arrays.values()]))


def plateau() -> Numbers:
    """9: how far the weights of an RNN that does not learn the adding task move, and where its loss ends."""
    first, last, moved = _adding(50)
    return {
        "moved": moved,
        "first": first,
        "last": last,
        "baseline": Adding(50).baseline,
    }


def vanishing_yet_solved() -> Numbers:
    """10: a GRU whose gradient vanishes at initialisation, trained all the same."""
    task = Adding(36)
    cell = GRUCell(2, 16, rng=0)
    probe, _ = task.batch(np.random.default_rng(0), 10)

    def lost() -> float:
        return -measured(cell, probe).lanes["", "h"].line.slope * task.length

    at_first, model = lost(), SequenceModel(cell, task, rng=1)
    history = fit(
        model,
        task,
        Adam(model, lr=0.03),
        300,
        batch_size=16,
        clip_norm=1.0,
        until_solved=True,
        progress=False,
    )
    end = history.metrics[-1][1]
    return {
        "lost": at_first,
        "updates": history.steps,
        "end": end,
        "baseline": task.baseline,
        "lost_after": lost(),
    }


def short_against_long() -> Numbers:
    """11: the same RNN on the adding task, with a short and a long minimal lag."""
    return {
        "short": _adding(6)[1],
        "long": _adding(50)[1],
        "baseline": Adding(50).baseline,
    }


def layers_and_steps() -> Numbers:
    """12: decades lost from the upper layer to the lower at the last step, and over the steps in either layer."""
    stack = RNN(8, 64, num_layers=2, rng=0)
    inputs = np.random.default_rng(0).standard_normal((STEPS, 1, 8))
    lanes = measured(stack, inputs).lanes
    lower, upper = (lanes[f"layer {k}", "h"].logs[:, 0] for k in (0, 1))
    return {
        "depth": float(upper[0] - lower[0]),
        "time": float(lower[0] - lower[-1]),
        "steps": STEPS,
    }


def large_weight_that_vanishes() -> Numbers:
    """13: by what a latched tanh unit multiplies the gradient, for growing weights."""
    return {f"w_{w:g}".replace(".", "_"): latch(w) for w in (1.5, 2.0, 3.0, 5.0)}


def relu_slopes() -> Numbers:
    """14: the largest derivative in any ReLU run, growing ones included."""
    most, growth = 0.0, []
    for seed in range(3):
        for scale in (0.5, 1.5, 2.0):
            cell, inputs = network({"nonlinearity": "relu", "scale": scale, "seed": seed})
            found = measured(cell, inputs, seed)
            most = max(most, found.activations["", "h"].slope_most)
            growth += [found.lanes["", "h"].line.slope] if scale == 1.5 else []
    return {"most": most, "growth": 10.0 ** float(np.mean(growth))}


def value_or_singular_values() -> Numbers:
    """15: decades over 100 steps for large and small gradients, small and large weights; and a hump."""
    ends = {}
    for size, scale in ((1000.0, 0.5), (0.001, 1.5)):
        cell, inputs = network({"nonlinearity": "identity", "scale": scale})
        logs = measured(cell, inputs, size=size).lanes["", "h"].logs[:, 0]
        ends[scale] = float(logs[-1] - logs[0])
    norms = hump([[0.9, 10.0], [0.0, 0.9]], STEPS)
    return {
        "lost": -ends[0.5],
        "ratio": 10.0 ** ends[1.5],
        "expected": 1.5**STEPS,
        "peak": float(norms.max()),
        "peak_at": int(norms.argmax()),
    }


@cache
def over_the_cliff() -> Numbers:
    """16: one update from the top of the cliff, and where 100 of them end, clipped and not."""
    thrown, held = descend(), descend(clip=1.0)
    return {
        "gradient": thrown.norms[0],
        "step": float(np.linalg.norm(thrown.points[1] - thrown.points[0])),
        "before": thrown.losses[0],
        "after": thrown.losses[1],
        "end": float(thrown.losses[-10:].mean()),
        "clipped": float(held.losses[-10:].mean()),
    }


def overflow() -> Numbers:
    """17: the lag at which a gradient that grows 1.5-fold a step is infinite in float32, and its sum of squares."""
    with np.errstate(over="ignore"):
        return {
            "gradient": first_lag(np.float32, 1.5, 230, np.isinf),
            "squares": first_lag(np.float32, 1.5, 230, lambda g: np.isinf(g * g)),
        }


def lstm_cures() -> Numbers:
    """18: decades per step of an LSTM as it comes, opened for long lags, and with large weights."""
    return {
        "default": slope(cell="lstm"),
        "chrono": slope(cell="lstm", chrono=STEPS),
        "large": slope(cell="lstm", scale=16.0, forget_bias=1.0),  # U(-2, 2)
    }


def forgetting() -> Numbers:
    """19: what the cell state of the LSTM of 1997 carries over 100 steps, and that of 2000; ratio of the whole."""
    found = {}
    for forget_gate in (False, True):
        cell, inputs = network({"cell": "lstm", "forget_gate": forget_gate})
        measure = measured(cell, inputs, what=("paths",))
        logs = measure.shares["", "c"].logs[:, 0]
        found[forget_gate] = (
            float(logs[0] - logs[-1]),
            measure.lanes["", "c"].logs[:, 0],
        )
    whole = found[False][1]
    return {
        "lost_1997": found[False][0],
        "lost_2000": found[True][0],
        "growth": 10.0 ** float(whole[-1] - whole[0]),
    }


def gates_preserve() -> Numbers:
    """20: decades an LSTM loses over 100 steps, for a few biases of its gates, beside a plain RNN."""
    return {
        "rnn": -STEPS * slope(),
        "default": -STEPS * slope(cell="lstm"),
        "forget_1": -STEPS * slope(cell="lstm", forget_bias=1.0),
        "chrono": -STEPS * slope(cell="lstm", chrono=STEPS),
        "gate_alone": float(sigmoid(np.float64(1.0))) ** STEPS,
    }


def what_helps() -> Numbers:
    """21: three remedies that the post does not name: clipping, initialisation, biases."""
    cell, inputs = network({"nonlinearity": "identity"})
    logs = measured(cell, inputs).lanes["", "h"].logs[:, 0]
    cliff = over_the_cliff()
    return {
        "thrown": cliff["end"],
        "clipped": cliff["clipped"],
        "orthogonal": 10.0 ** float(logs[-1] - logs[0]),
        "forget_0": -STEPS * slope(cell="lstm", forget_bias=0.0),
        "forget_1": -STEPS * slope(cell="lstm", forget_bias=1.0),
    }


def size_of_an_update() -> Numbers:
    """22: how far the first update from the top of the cliff moves, by plain descent, clipped, and by Adam."""
    at = Tensor((4.5, -2.303), requires_grad=True)
    cliff(at[0], at[1]).backward()
    Adam([at], lr=0.05).step()
    return {
        "gradient": float(descend().norms[0]),
        "plain": float(np.linalg.norm(np.diff(descend().points[:2], axis=0))),
        "clipped": float(np.linalg.norm(np.diff(descend(clip=1.0).points[:2], axis=0))),
        "adam": float(np.linalg.norm(at.data - (4.5, -2.303))),
    }


def no_convergence() -> Numbers:
    """23: the loss on the cliff after 100 updates; the update at which a linear network's loss is above 10¹²."""
    w, diverged = Tensor(1.5, requires_grad=True), -1
    for update in range(20):
        h: Any = 1.0
        for _ in range(30):
            h = w * h
        loss = (h - 2.0) ** 2
        if not loss.item() < 1e12:
            diverged = update
            break
        w.grad = None
        loss.backward()
        w.data = w.data - 1e-11 * w.grad.data
    return {
        "stuck": float(descend().losses[-1]),
        "clipped": float(descend(clip=1.0).losses[-10:].mean()),
        "diverged": float(diverged),
    }


def three_gates() -> Numbers:
    """24: what each gate of an LSTM lets through when its bias shuts it: decades, and the level of what enters."""
    inputs, found = np.random.default_rng(0).standard_normal((40, 8, 4)), {}
    for gate, shut in (
        ("input", {"input_bias": -14.0}),
        ("forget", {"forget_bias": -6.0}),
        ("output", {}),
    ):
        cell = LSTMCell(4, 16, **{"forget_bias": 4.0, "input_bias": -2.0, **shut}, rng=0)
        if gate == "output":
            bias = cell.bias_ih.data.copy()
            bias[48:] = -14.0
            cell.bias_ih.data = bias
        judged = gradient_flow(cell, inputs).judgement
        found |= {f"{gate}_level": judged.level, f"{gate}_lost": judged.decades}
    judged = gradient_flow(LSTMCell(4, 16, forget_bias=4.0, input_bias=-2.0, rng=0), inputs).judgement
    return {**found, "open_level": judged.level, "open_lost": judged.decades}
