"""The Jacobian of many steps: its singular values, its rank, and Lyapunov exponents, in logarithms.

After this file the reader knows how a product of 10,000 Jacobians is known to many digits although its numbers lie far
beyond float64. The product is never formed. Walking back, the rows that are pulled through a step are made orthogonal
again after every step, J = Rᵀ Qᵀ with R = D U, of which D is kept as logarithms; QR steps on that small factor turn its
diagonal into the singular values.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import whole, wholes
from ..tensor import GradientError
from .chain import Array, Chain, Scaled, chain_of, in_float64, pull

RANK = 1e-10
"""Singular values above this share of the largest one count for the numerical rank."""


@dataclass(frozen=True)
class Spectrum:
    """Singular values of ∂h_T/∂h_{T-k}, for one sequence.

    Attributes
    ----------
    lag : int
        k.
    logs : array, shape (H,)
        Log10 of the singular values, largest first; -inf for an exact zero.
    """

    lag: int
    logs: Array

    @property
    def rank(self) -> int:
        """How many singular values lie above 1e-10 of the largest."""
        top = self.logs[0]
        return 0 if top == -math.inf else int((self.logs > top + math.log10(RANK)).sum())


class _Product:
    """The transposed product Jᵀ = Q D U: Q orthonormal columns, D a diagonal as logarithms, U upper triangular."""

    def __init__(self, rows: Array) -> None:
        self.q = rows.T
        self.d = np.zeros(len(rows))
        self.u = np.eye(len(rows))
        self.growth = np.zeros(len(rows))  # Σ log |r_ii|: the Lyapunov exponents, times the steps
        self.absorb(self.q)

    def absorb(self, columns: Array) -> None:
        """Take in the columns that came out of a step, with `q` as what went in."""
        self.q, r = np.linalg.qr(columns)
        self.d, self.u = _times(r, self.d, self.u)
        with np.errstate(divide="ignore"):
            self.growth = self.growth + np.log(np.abs(np.diag(r)))


def _times(r: Array, d: Array, u: Array) -> tuple[Array, Array]:
    """R D U as D′ U′ with the rows of U′ near 1; d and d′ are natural logarithms, -inf for a row of zeros."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(r)) + d[None, :]
    top = logs.max(axis=1)
    shift = np.where(np.isfinite(top), top, 0.0)
    product = np.sign(r) * np.exp(logs - shift[:, None]) @ u
    size = np.abs(product).max(axis=1)
    with np.errstate(divide="ignore"):
        return top + np.log(size), product / np.where(size > 0, size, 1.0)[:, None]


def _values(d: Array, u: Array, sweeps: int = 200) -> Array:
    """Log10 of the singular values of D U, by QR steps on the transpose, largest first."""
    known = d[np.isfinite(d)]
    if not len(known):
        return np.full(len(d), -math.inf)
    with np.errstate(divide="ignore"):
        if known.max() - known.min() < 25.0:  # within reach of float64
            values = np.linalg.svd(np.exp(d - known.max())[:, None] * u, compute_uv=False)
            return np.asarray((np.log(values) + known.max()) / math.log(10.0))
        for _ in range(sweeps):
            # (D U)ᵀ = Uᵀ D = Q R D; in R D what is above the diagonal is damped by d_j / d_i, sweep by sweep.
            d, u = _times(np.linalg.qr(u.T)[1], d, np.eye(len(d)))
            if np.abs(np.triu(u, 1)).max(initial=0.0) < 1e-13:
                break
        return np.asarray(np.sort((d + np.log(np.abs(np.diag(u)))) / math.log(10.0))[::-1])


def _walk(chain: Chain, rows: Array, sequence: int, keep: Iterable[int]) -> tuple[_Product, dict[int, _Product]]:
    """Pull rows (cotangents of the whole state after the last step) back to the first, orthogonal at every step."""
    if whole("sequence", sequence) >= (count := chain.inputs.shape[1]):
        raise ValueError(f"sequence={sequence}: there are {count}, counted from 0")
    product, kept, wanted = _Product(rows), {}, set(keep)
    shapes = [part.shape[1:] for part in chain.states[0]]
    sizes = np.cumsum([0, *(math.prod(shape) for shape in shapes)])
    for t in range(len(chain), 0, -1):
        step = chain.record(t, repeat=len(rows), sequence=sequence)
        seeds = [product.q.T[:, sizes[k] : sizes[k + 1]].reshape(-1, *shape) for k, shape in enumerate(shapes)]
        found = pull(step, Scaled(seeds), step.leaves)
        parts = [found.get(leaf, np.zeros(leaf.shape)).reshape(len(rows), -1) for leaf in step.leaves]
        columns = np.concatenate(parts, axis=1).T
        if not np.isfinite(columns).all():
            raise GradientError(f"the Jacobian is not finite at step t={t}, lag {len(chain) - t + 1}")
        product.absorb(columns)
        lag = len(chain) - t + 1
        if lag in wanted:
            kept[lag] = copy.copy(product)
    return product, kept


def jacobian_spectrum(
    model: Any, inputs: Any, *, lags: Iterable[int] | None = None, state: Any = None, sequence: int = 0
) -> list[Spectrum]:
    """Singular values of ∂h_T/∂h_{T-k}: how many directions still carry a gradient, and how strongly.

    Parameters
    ----------
    model : cell, or RNN, LSTM, GRU in one direction
        Of a stack, h is the output's: the highest layer's.
    inputs : array_like, shape (T, B, I) or (T, I)
    lags : iterable of int, optional
        Values of k, from 1 to T; default: T alone, ∂h_T/∂h₀.
    state : optional
        Before the first step.
    sequence : int
        Which of the B sequences.

    Returns
    -------
    list of Spectrum
        One for each lag.

    Raises
    ------
    ValueError
        If a lag lies outside of 1 to T.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.diagnose import jacobian_spectrum
    >>> cell = tg.RNNCell(2, 16, rng=0)
    >>> (spectrum,) = jacobian_spectrum(cell, np.random.default_rng(0).normal(size=(50, 1, 2)))
    >>> spectrum.rank < 16
    True
    """
    chain = chain_of(in_float64(model), inputs, state)
    wanted = [len(chain)] if lags is None else wholes("lags", lags, 1)
    if wrong := [lag for lag in wanted if not 1 <= lag <= len(chain)]:
        raise ValueError(f"lags {wrong} lie outside of 1 ... {len(chain)}")
    sizes = [math.prod(part.shape[1:]) for part in chain.states[0]]
    start = sum(sizes[: chain.output])
    place = slice(start, start + sizes[chain.output])
    rows = np.zeros((sizes[chain.output], sum(sizes)))
    rows[:, place] = np.eye(sizes[chain.output])
    _, kept = _walk(chain, rows, sequence, wanted)
    found = []
    for lag in wanted:
        product = kept[lag]
        r = np.linalg.qr(product.q[place])[1]  # of the state only h counts, at this end too
        found.append(Spectrum(lag, _values(*_times(r, product.d, product.u))))
    return found


def lyapunov(
    model: Any, inputs: Any, *, k: int | None = None, state: Any = None, sequence: int = 0, discard: int | None = None
) -> Array:
    """Lyapunov exponents of the whole state, in nats per step, largest first, by QR at every step.

    Parameters
    ----------
    model, inputs, state, sequence
        As `jacobian_spectrum`. An autonomous network is one whose inputs are zeros; begin it on its attractor.
    k : int, optional
        How many, the largest; each costs as much as a sequence. Default: all.
    discard : int, optional
        Lags not counted, over which directions are still turning; default: a tenth.

    Returns
    -------
    array, shape (S,) or (k,)
        S is the size of the whole state: H, or 2 H for an LSTM. -inf for a direction that is lost exactly.

    Raises
    ------
    ValueError
        If no step is left to count.

    Notes
    -----
    Benettin et al. 1980. Their sum is the mean of log abs(det) over the steps counted; times log10(e) the largest is
    where the slope of `gradient_flow` ends for long sequences.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.diagnose import lyapunov
    >>> exponents = lyapunov(tg.RNNCell(1, 8, "identity", rng=0), np.zeros((200, 1)))
    >>> exponents.shape
    (8,)
    """
    chain = chain_of(in_float64(model), inputs, state)
    size = sum(math.prod(part.shape[1:]) for part in chain.states[0])
    skip = len(chain) // 10 if discard is None else whole("discard", discard)
    if skip >= len(chain):
        raise ValueError(f"discard={discard} of {len(chain)} steps leaves none")
    rows = np.eye(size)
    if k is not None:  # in directions of no special kind, which turn into those that grow most
        if whole("k", k, 1) > size:
            raise ValueError(f"k={k}: the state has {size} numbers, and so many exponents")
        rows = np.linalg.qr(np.random.default_rng(0).normal(size=(size, k)))[0].T
    product, kept = _walk(chain, rows, sequence, {skip})
    before = kept[skip].growth if skip else np.zeros(len(rows))
    grown = np.where(np.isfinite(product.growth), product.growth - before, -math.inf)
    return np.sort(grown / (len(chain) - skip))[::-1]
