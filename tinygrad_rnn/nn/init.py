"""Initialisers: where a network's parameters begin, which decides how fast its gradient vanishes.

After this file the reader knows each initialiser's formula and which framework ships which. An initialiser is a
function ``(rng, shape) -> array``; the functions here make one from its parameters. Weights have shape
(gates · H, fan-in), as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import FINITE, NOT_NEGATIVE, flag, generator, number, one_of, refusal, whole

Array = NDArray[Any]
Initialiser = Callable[["np.random.Generator", tuple[int, ...]], Array]


def uniform(bound: float) -> Initialiser:
    """U(-bound, bound). PyTorch's default for recurrent layers has the bound 1/√H."""
    bound = number("bound", bound, NOT_NEGATIVE)
    return lambda rng, shape: rng.uniform(-bound, bound, shape)


def gaussian(std: float) -> Initialiser:
    """N(0, std²)."""
    std = number("std", std, NOT_NEGATIVE)
    return lambda rng, shape: rng.normal(0.0, std, shape)


def constant(value: float) -> Initialiser:
    """The same number everywhere."""
    value = number("value", value, FINITE)
    return lambda rng, shape: np.full(shape, value)


def xavier(gain: float = 1.0) -> Initialiser:
    """U(-b, b) with b = gain √(6 / (fan-in + fan-out)) (Glorot and Bengio 2010)."""
    gain = number("gain", gain, NOT_NEGATIVE)
    return lambda rng, shape: uniform(gain * np.sqrt(6 / sum(_matrix(shape))))(rng, shape)


def orthogonal(gain: float = 1.0, each_gate: bool = False) -> Initialiser:
    """gain Q with orthonormal columns (rows, if there are fewer), drawn evenly (Saxe et al. 2013).

    Parameters
    ----------
    gain : float
    each_gate : bool
        Whether each gate has a square Q of its own. Else the weights of several gates are one tall Q, as in PyTorch and
        Keras: each gate's own block is not orthogonal.

    Returns
    -------
    Initialiser
    """
    gain = number("gain", gain, FINITE)

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        rows, columns = _matrix(shape)
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # without it QR prefers some directions (Mezzadri 2007)
        tall: Array = gain * q
        return tall if rows >= columns else tall.T

    return _each_gate(lambda rng, n: draw(rng, (n, n))) if flag("each_gate", each_gate) else draw


def identity(scale: float = 1.0) -> Initialiser:
    """scale · I for each gate (IRNN: Le, Jaitly and Hinton 2015)."""
    scale = number("scale", scale, FINITE)
    return _each_gate(lambda rng, n: scale * np.eye(n))


def spectral_radius(radius: float) -> Initialiser:
    """A Gaussian matrix for each gate, scaled so that its largest eigenvalue has the modulus `radius`."""
    radius = number("radius", radius, NOT_NEGATIVE)

    def draw(rng: np.random.Generator, n: int) -> Array:
        matrix = rng.normal(size=(n, n))
        matrix *= radius / np.abs(np.linalg.eigvals(matrix)).max()
        return matrix

    return _each_gate(draw)


def chrono(rng: np.random.Generator | int | None, hidden_size: int, t_max: int) -> tuple[Array, Array]:
    """An LSTM's gate biases for memories of up to `t_max` steps (Tallec and Ollivier 2018).

    Parameters
    ----------
    rng : numpy.random.Generator or int, optional
    hidden_size : int
        H.
    t_max : int
        The longest lag that the task needs, at least 2.

    Returns
    -------
    forget_bias, input_bias : arrays of shape (H,)
        b_f = log u with u from U(1, t_max - 1), and b_i = -b_f: unit k forgets with the time constant u_k.

    Examples
    --------
    >>> from tinygrad_rnn.nn import LSTMCell, init
    >>> forget, closed = init.chrono(0, 4, t_max=100)
    >>> cell = LSTMCell(3, 4, forget_bias=forget, input_bias=closed, rng=0)
    """
    hidden_size, t_max = whole("hidden_size", hidden_size, 1), whole("t_max", t_max, 2)
    forget = np.log(generator("rng", rng).uniform(1.0, t_max - 1.0, hidden_size))
    return forget, -forget


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError(f"this initialiser is for matrices, not for shape {shape}")
    return shape


def _each_gate(square: Callable[[np.random.Generator, int], Array]) -> Initialiser:
    """A square matrix for each gate, one above the other."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        rows, n = _matrix(shape)
        if rows % n:
            raise ValueError(f"this initialiser is for square matrices, one per gate, not for shape {shape}")
        return np.concatenate([square(rng, n) for _ in range(rows // n)])

    return draw


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
PRESETS: dict[str, dict[str, Initialiser]] = {
    "pytorch": {},
    # Keras, which also sets an LSTM's forget bias to 1: see LSTMCell.
    "keras": dict(zip(WEIGHTS, (xavier(), orthogonal(), constant(0.0), constant(0.0)), strict=True)),
    "chrono": {},  # PyTorch's weights; the gate biases are set by the cell, which has the gates
}


def initialisers(init: str | Mapping[str, Any], hidden_size: int) -> dict[str, Initialiser]:
    """What draws each parameter of a cell: a preset's, or those given by name; PyTorch's for the rest.

    An array stands for itself, and "bias" for both biases.

    Raises
    ------
    TypeError, ValueError
        If there is no such preset or parameter, or what is given for one is no initialiser.
    """
    chosen = dict(init if isinstance(init, Mapping) else PRESETS[one_of("init", init, PRESETS)])
    if "bias" in chosen:
        chosen = dict.fromkeys(WEIGHTS[2:], chosen.pop("bias")) | chosen
    for name, draw in chosen.items():
        if isinstance(draw, (np.ndarray, list)):
            chosen[name] = lambda rng, shape, array=draw: array
        elif not callable(draw):
            raise refusal(f"init[{name!r}]", draw, "an initialiser, such as init.constant(0.0), or an array")
    if unknown := [name for name in chosen if name not in WEIGHTS]:
        raise ValueError(f"init names {', '.join(unknown)}: a cell has {', '.join(WEIGHTS)}")
    return dict.fromkeys(WEIGHTS, uniform(1 / np.sqrt(hidden_size))) | chosen
