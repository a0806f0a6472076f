"""Small experiments of the textbook, each a few lines on the engine: the latch, the hump, the ladder.

After this file the reader knows three things that a slope does not tell: large weights can saturate and so vanish; a
spectral radius below 1 does not keep a product small; float32 ends before the sequence does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinygrad_rnn import RNNCell, Tensor, grad, sigmoid, unroll
from tinygrad_rnn.nn.init import constant

Array = NDArray[Any]


def scalar_cell(nonlinearity: str, weight: float, dtype: Any = np.float64) -> RNNCell:
    """h' = φ(w h): one unit, no bias, and an input that counts for nothing."""
    init = dict.fromkeys(("weight_ih", "bias_ih", "bias_hh"), constant(0.0)) | {"weight_hh": constant(weight)}
    return RNNCell(1, 1, nonlinearity, dtype, init=init)


def through_time(cell: Any, steps: int, start: ArrayLike, seed: ArrayLike) -> Array:
    """∂(seed · h_T)/∂h_t without inputs, newest first: shape (T + 1, B, H), by lag.

    Parameters
    ----------
    cell : RNNCell
    steps : int
        T.
    start, seed : array_like, shape (B, H)
        h₀, and the gradient at h_T.
    """
    states = [Tensor(np.asarray(start, cell.dtype), requires_grad=True)]
    nothing = np.zeros((steps, len(states[0]), cell.input_size), cell.dtype)
    for x in nothing:
        states.append(cell(x, states[-1]))
    with np.errstate(over="ignore"):
        found = grad(states[-1], states, np.asarray(seed, cell.dtype))
    return np.stack([g.data for g in found[::-1]])


def latch(weight: float, start: float = 0.5, steps: int = 200) -> float:
    """By what h' = tanh(w h) multiplies a gradient each step, once h has settled (Bengio, Simard and Frasconi 1994).

    Above w = 1 it holds a bit, + or -, and to hold it must contract: the larger w, the faster the gradient vanishes.

    Examples
    --------
    >>> from blog_post_experiments import latch
    >>> round(latch(3.0), 4)
    0.0305
    """
    settled, _ = unroll(scalar_cell("tanh", weight), np.zeros((steps, 1)), Tensor([start]))
    lags = through_time(scalar_cell("tanh", weight), 1, [[settled.data[-1, 0]]], [[1.0]])
    return float(lags[1, 0, 0])


def hump(matrix: ArrayLike, steps: int) -> Array:
    """‖∂h_T/∂h_{T-k}‖ of the linear network h' = W h, for k = 0 ... steps: the norm of Wᵏ, through the engine.

    Examples
    --------
    >>> from blog_post_experiments import hump
    >>> norms = hump([[0.9, 10.0], [0.0, 0.9]], 100)
    >>> int(norms.argmax()), round(float(norms.max()), 3)
    (9, 38.746)
    """
    weights = np.array(matrix, dtype=float)
    n = len(weights)
    init = dict.fromkeys(("weight_ih", "bias_ih", "bias_hh"), constant(0.0)) | {"weight_hh": lambda rng, shape: weights}
    jacobians = through_time(RNNCell(1, n, "identity", init=init), steps, np.zeros((n, n)), np.eye(n))
    return np.asarray(np.linalg.norm(jacobians, 2, axis=(1, 2)))


def sigmoid_chain(weights: Sequence[float], x: float = 1.0) -> tuple[list[float], list[float]]:
    """The post's own example: a_k = σ(w_k a_{k-1}), a_0 = x, L = the last a.

    Returns
    -------
    gradients : list of float
        ∂L/∂w_k.
    slopes : list of float
        σ′ at each layer.

    Examples
    --------
    >>> from blog_post_experiments import sigmoid_chain
    >>> [round(g, 6) for g in sigmoid_chain([1.0] * 4)[0]]
    [0.002164, 0.008046, 0.03387, 0.148726]
    """
    layers = [Tensor(w, requires_grad=True) for w in weights]
    a, values = Tensor(x), []
    for w in layers:
        a = sigmoid(w * a)
        values.append(a.item())
    return [g.item() for g in grad(a, layers)], [value * (1 - value) for value in values]


def first_lag(dtype: Any, factor: float, steps: int, found: Any) -> int:
    """The first lag at which `found` is true of a gradient that is multiplied by `factor` each step; -1 if none."""
    lags = through_time(scalar_cell("identity", factor, dtype), steps, [[0.0]], [[1.0]])[:, 0, 0]
    hits = np.flatnonzero([found(g) for g in lags])
    return int(hits[0]) if len(hits) else -1
