"""What theory says about the slope, beside what is measured: each line is a bound, an estimate, or exact.

After this file the reader knows which formula belongs to which network, and on what it depends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..autodiff import vjp
from ..files import Brief
from ..nn.cells import NONLINEARITIES, GRUCell, LSTMCell, RNNCell
from ..ops import ACTIVATIONS
from ..tensor import raw
from .chain import Array, Chain

Kind = Literal["bound", "estimate", "exact", "exact if its weights are 0"]

# Averages over N(0, 1). Evenly spaced points: Gauss's own are too few where φ′ is a step, or narrow beside √q; none
# is 0, so that half of them lie on either side of relu's step.
_POINTS = np.linspace(-8.0, 8.0, 1600)
_WEIGHTS = np.exp(-0.5 * _POINTS**2) / np.exp(-0.5 * _POINTS**2).sum()


@dataclass(frozen=True, repr=False)
class Theory(Brief):
    """One line of theory: log10 of the gradient's norm relative to lag 0, at every lag.

    Attributes
    ----------
    name : str
        The formula.
    kind : {"bound", "estimate", "exact", "exact if its weights are 0"}
    logs : array, shape (T + 1,)
    """

    name: str
    kind: Kind
    logs: Array

    @property
    def slope(self) -> float:
        """Decades per step, over the whole line."""
        return float(self.logs[-1] - self.logs[0]) / max(len(self.logs) - 1, 1)


LARGEST = 1e12
"""The largest variance of a pre-activation that the mean field goes on to."""


def _straight(name: str, kind: Any, slope: float, steps: int) -> Theory:
    return Theory(name, kind, slope * np.arange(steps + 1))


def theory_of(chain: Chain) -> tuple[Theory, ...]:
    """The lines for a chain of our own cells; none for a cell whose formula is not known, or for several layers."""
    cell = chain.cell
    if hasattr(cell, "cells"):
        if len(cell.cells) > 1:
            return ()
        cell = cell.cells[0]
    if isinstance(cell, RNNCell):
        return tuple(_simple(cell, chain))
    if isinstance(cell, (LSTMCell, GRUCell)):
        return tuple(_gated(cell, len(chain)))
    return ()


def _simple(cell: RNNCell, chain: Chain) -> list[Theory]:
    W, steps, phi = raw(cell.weight_hh), len(chain), cell.nonlinearity
    sigma = float(np.linalg.norm(W, 2))
    lines = []
    if sigma > 0:
        name = "(γ σ_max)^k, γ = 1/4" if phi == "sigmoid" else "σ_max^k"
        lines.append(_straight(name, "bound", math.log10(ACTIVATIONS.get(phi, 1.0) * sigma), steps))
    g = math.sqrt(float(np.square(W).mean() * W.shape[1]))
    if (
        phi == "identity"
        and sigma > 0
        and np.allclose(W.T @ W, sigma**2 * np.eye(len(W)), rtol=0, atol=1e-9 * sigma**2)
    ):
        return [_straight("g^k, W = g Q", "exact", math.log10(sigma), steps)]
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float64 the estimate is that of its largest drive
        drive = np.einsum("tbi,hi->tbh", chain.inputs, raw(cell.weight_ih)) + raw(cell.bias_ih) + raw(cell.bias_hh)
        rate = mean_field(phi, g, float(np.fmin(np.square(drive).mean(), LARGEST)))
    if rate > 0:
        lines.append(_straight("mean field, g √E φ′²", "estimate", math.log10(rate), steps))
    return lines


def mean_field(phi: str, g: float, drive: float, *, mean: float = 0.0, centre: float = 0.0) -> float:
    """The factor per step, g √E[φ′(z)²], for a wide random W with entries of variance g² / n.

    Parameters
    ----------
    phi : {"tanh", "relu", "sigmoid", "identity"}
    g : float
    drive : float
        Variance of what inputs and biases add to the pre-activation, s².
    mean : float
        Its mean, the same for all units.
    centre : float
        What the biases take off every activation: with b = -W c · 1 the pre-activation is W (h - c · 1) + ...

    Notes
    -----
    The pre-activation is N(m, q) with q = g² E[(φ(√q z + m) - c)²] + s², iterated to its fixed point (Sompolinsky,
    Crisanti and Sommers 1988; Poole et al. 2016). Where q grows without bound, its last value is used.
    """
    value = NONLINEARITIES[phi]
    scaled = phi in ("relu", "identity") and mean == 0.0
    q = 1.0 if scaled else drive  # of a scaled z their slopes are the same
    for _ in range(0 if scaled else 500):
        active = value(math.sqrt(q) * _POINTS + mean) - centre
        before, q = q, min(g * g * float(_WEIGHTS @ np.square(active)) + drive, LARGEST)
        if abs(q - before) <= 1e-10 * q:
            break
    z = math.sqrt(q) * _POINTS + mean
    (slope,) = vjp(value, z)[1](np.ones_like(z))
    return g * math.sqrt(float(_WEIGHTS @ np.square(slope.data)))


def _gated(cell: Any, steps: int) -> list[Theory]:
    lags = np.arange(steps + 1)
    if isinstance(cell, LSTMCell) and not cell.forget_gate:
        return [Theory("1^k: the carousel of 1997, the cell path alone", "exact", np.zeros(steps + 1))]
    gate, letter = (cell._f, "b_f") if isinstance(cell, LSTMCell) else (cell._z, "b_z")
    bias = (raw(cell.bias_ih) + raw(cell.bias_hh))[gate[1:]].astype(np.float64)
    log_open = -np.logaddexp(0.0, -bias) / math.log(10.0)
    # Norm over units that each decay at a rate of their own, as of a gradient that begins equal in all.
    logs = 2 * lags[:, None] * log_open
    top = logs.max(axis=1)
    mean = top + np.log10(np.mean(10.0 ** (logs - top[:, None]), axis=1))
    return [Theory(f"σ({letter})^k: the gate's bias alone", "exact if its weights are 0", mean / 2)]
