"""A network and its inputs from a few settings: what a sweep varies, and what every figure has to state.

After this file the reader knows all that decides how a gradient behaves at initialisation: the cell, its activation,
the scale and kind of its weights, its biases, how strongly the input drives it, the number of steps, and the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..arguments import NOT_NEGATIVE, flag, generator, number, one_of, whole
from ..diagnose.at_once import measure_at_once
from ..diagnose.chain import Array, Chain
from ..diagnose.measure import Measured, measure
from ..nn import GRUCell, LSTMCell, RNNCell
from ..nn.cells import NONLINEARITIES
from ..nn.init import Initialiser, constant, gaussian, identity, orthogonal, spectral_radius, uniform
from .table import Scalar

KINDS: dict[str, Callable[[float, int], Initialiser]] = {
    "orthogonal": lambda g, n: orthogonal(g),
    "gaussian": lambda g, n: gaussian(g / np.sqrt(n)),
    "radius": lambda g, n: spectral_radius(g),
    "identity": lambda g, n: identity(g),
    "uniform": lambda g, n: uniform(g / np.sqrt(n)),
}
DEFAULTS: dict[str, Scalar] = {
    "cell": "rnn",
    "nonlinearity": "tanh",
    "weights": "orthogonal",
    "scale": 1.0,
    "bias": 0.0,
    "centred": False,
    "forget_bias": None,
    "input_bias": None,
    "update_bias": None,
    "chrono": None,
    "forget_gate": True,
    "hidden": 64,
    "features": 8,
    "input_scale": 1.0,
    "steps": 100,
    "seed": 0,
}


def settings_of(settings: Mapping[str, Scalar]) -> dict[str, Any]:
    """All settings of a network: those that are given, and `DEFAULTS`.

    Raises
    ------
    ValueError
        If one is unknown or has no such value.
    """
    if unknown := [name for name in settings if name not in DEFAULTS]:
        raise ValueError(f"{', '.join(unknown)}: no setting of a network; there are {', '.join(DEFAULTS)}")
    chosen: dict[str, Any] = DEFAULTS | dict(settings)
    one_of("cell", chosen["cell"], ("rnn", "lstm", "gru"))
    one_of("weights", chosen["weights"], KINDS)
    one_of("nonlinearity", chosen["nonlinearity"], NONLINEARITIES)
    chosen |= {name: flag(name, chosen[name]) for name in ("centred", "forget_gate")}
    chosen |= {name: whole(name, chosen[name], 1) for name in ("hidden", "features", "steps")}
    chosen["input_scale"] = number("input_scale", chosen["input_scale"], NOT_NEGATIVE)
    return chosen | {name: number(name, chosen[name]) for name in ("scale", "bias")}


def network(settings: Mapping[str, Scalar]) -> tuple[Any, Array]:
    """A cell and a random sequence for it.

    Parameters
    ----------
    settings : mapping
        Whatever is missing is as in `DEFAULTS`. ``cell``: rnn, lstm or gru; ``steps``, ``hidden``, ``features`` (the
        inputs' m), ``seed``.
        Of an rnn: ``nonlinearity``; ``weights`` is orthogonal (g Q), gaussian (g N(0, 1)/√n), radius (rescaled to the
        spectral radius g), identity (g I) or uniform (U(-g/√n, g/√n)) with g = ``scale``; ``bias``, a number, or
        ``centred``: b = -W/2 · 1, which keeps a sigmoid's operands around 0. The input weights are ``input_scale`` ×
        N(0, 1)/√m and the inputs N(0, 1).
        Of an lstm or gru: everything U(-g/√n, g/√n), so that ``scale`` 1 is PyTorch's default; ``forget_bias``,
        ``input_bias``, ``update_bias``; ``chrono``, the longest lag, instead; ``forget_gate``.

    Returns
    -------
    cell : RNNCell, LSTMCell or GRUCell
    inputs : ndarray, shape (T, 1, m)

    Raises
    ------
    ValueError
        If a setting is unknown or has no such value.

    Examples
    --------
    >>> from tinygrad_rnn.atlas import network
    >>> cell, inputs = network({"nonlinearity": "relu", "scale": 1.5, "hidden": 16, "steps": 30})
    >>> cell, inputs.shape
    (RNNCell(8, 16, nonlinearity='relu'), (30, 1, 8))
    """
    chosen = settings_of(settings)
    rng, hidden, features = generator("seed", chosen["seed"]), chosen["hidden"], chosen["features"]
    if chosen["cell"] == "rnn":
        init = {
            "weight_hh": KINDS[chosen["weights"]](chosen["scale"], hidden),
            "weight_ih": gaussian(chosen["input_scale"] / np.sqrt(features)),
            "bias_ih": constant(chosen["bias"]),
            "bias_hh": constant(0.0),
        }
        cell: Any = RNNCell(features, hidden, chosen["nonlinearity"], rng=rng, init=init)
        if chosen["centred"]:
            cell.bias_hh.data = -cell.weight_hh.data.sum(axis=1) / 2
    else:
        everything = dict.fromkeys(
            ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), uniform(chosen["scale"] / np.sqrt(hidden))
        )
        cell = _gated(chosen, everything, rng)
    return cell, rng.standard_normal((chosen["steps"], 1, features))


def _gated(chosen: Mapping[str, Any], init: dict[str, Initialiser], rng: np.random.Generator) -> Any:
    names = ("forget_bias", "input_bias") if chosen["cell"] == "lstm" else ("update_bias",)
    given = {name: chosen[name] for name in names if chosen[name] is not None}
    if chosen["chrono"] is not None:
        from ..nn.init import chrono

        forget, closed = chrono(rng, chosen["hidden"], chosen["chrono"])
        given = dict(zip(names, (forget, closed), strict=False)) | given
    if chosen["cell"] == "gru":
        return GRUCell(chosen["features"], chosen["hidden"], rng=rng, init=init, **given)
    return LSTMCell(
        chosen["features"], chosen["hidden"], rng=rng, init=init, forget_gate=chosen["forget_gate"], **given
    )


def measured(
    cell: Any, inputs: Array, seed: int = 0, *, size: float = 1.0, edges: Any = None, what: Any = ("gates",)
) -> Measured:
    """The gradient of L = v·h at the last step through time, v a random vector of the given size.

    Parameters
    ----------
    cell : cell
    inputs : ndarray, shape (T, B, m)
    seed : int
        Of v.
    size : float
        ‖v‖.
    edges : tuple of int, optional
        Lags at which to cut the sum that ∂L/∂W is; without, it is not measured.
    what : collection of str
        See `diagnose.measure`.
    """
    chain = Chain(cell, inputs)
    v = np.random.default_rng([seed, 1]).standard_normal((1, cell.hidden_size))
    seeds = {len(chain): np.broadcast_to(size * v / np.linalg.norm(v), (inputs.shape[1], cell.hidden_size))}
    what = what if edges is None else (*what, "weights")
    found = measure_at_once(chain, seeds, what, edges) or measure(chain, seeds, what, edges)
    _ = found.by_lag  # now, while the cell is what it is
    return found


def slope_of(settings: Mapping[str, Scalar]) -> dict[str, float]:
    """What `tinygrad-rnn sweep` measures: how fast the gradient of each state falls or grows on the way back.

    Parameters
    ----------
    settings : mapping
        See `network`.

    Returns
    -------
    dict
        ``slope``: decades per step back, fitted to log10 ‖∂L/∂h‖ (of an lstm ‖∂L/∂c‖) over the lags from 10 on, with
        L = v·h at the last step and v a random unit vector; ``decades``: slope × T, what is lost (< 0) or gained over
        the sequence.

    Examples
    --------
    >>> from tinygrad_rnn.atlas import slope_of
    >>> round(slope_of({"nonlinearity": "identity", "scale": 0.1, "steps": 40, "hidden": 8})["slope"], 6)
    -1.0
    """
    cell, inputs = network(settings)
    lanes = measured(cell, inputs, int(settings.get("seed") or 0), what=()).lanes
    slope = lanes["", "c" if isinstance(cell, LSTMCell) else "h"].line.slope
    return {"slope": slope, "decades": slope * len(inputs)}
