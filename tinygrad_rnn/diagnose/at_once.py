"""The walk back through time, for all steps at once: the derived program goes from step to step, the engine never does.

After this file the reader knows why a report of a hundred steps takes no hundred sweeps. What has to wait for the step
after, the gradient of the state, comes out of the program of `derive_bptt`. All else is one step of the engine, with
the T steps as its batch: gates, slopes, what is carried. That one step also says whether the program was right, at
every step, forwards and back; where it was not, or numbers leave the range in which it is, the walk is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autodiff import Through
from ..bptt import Program, derive_bptt
from ..functions import sum
from ..nn.cells import CELLS
from ..nn.state import parts_of, state_of
from ..ops import ACTIVATIONS
from ..scope import recorded
from ..tensor import constant
from .chain import Array, Chain, Reached, Scaled, Step, alone, carry_nodes, log_norms, only, pull, pulled, scale_rows
from .measure import ALL, Activation, Lane, Measured, Share, activations_of, learned, measure, share_of

EXACT = ("dead_code", "share", "only_last", "tiles", "merge", "factor", "hoist_slopes", "buffers")
"""Rewrites that leave the loop forwards as the engine computes it, bit for bit: a chaotic network is the same one."""
SMALLEST, LARGEST = 1e-200, 1e200
PRECISE = 1e-8
PROGRAMS: dict[Any, Program | None] = {}
"""Of the package's own cells, by repr and shapes; None where none can be derived."""
MOST_PROGRAMS = 64
MOST_NUMBERS = 1 << 18
"""Of one part of the state at all steps: where there are more, the walk takes less memory."""


@np.errstate(all="ignore")
def measure_at_once(chain: Chain, seeds: Mapping[int, Array], what: Any = ALL, edges: Any = None) -> Measured | None:
    """What `measure` gives, to rounding; None where it has to be asked. Enters the states into the chain.

    Parameters
    ----------
    chain, seeds, what, edges
        As for `measure`.
    """
    steps, batch = chain.inputs.shape[:2]
    program = _program(chain) if steps * chain.first[0].size <= MOST_NUMBERS and not chain.output else None
    if program is None:
        return None
    given = np.zeros((steps, *chain.first[0].shape))
    for t, g in seeds.items():
        given[t - 1] = g
    first = state_of(chain.first, chain.form)
    _, gradients = program(chain.inputs, first, chain.cell.parameters(), loss=lambda outputs: sum(outputs * given))
    after, back = zip(*gradients["steps"].values(), strict=True)
    whole = [np.concatenate([g[None], rows]) for g, rows in zip(parts_of(gradients["state"]), back, strict=True)]
    if not (all(np.isfinite(a).all() for a in after) and all(map(_in_range, whole))):
        return None
    before = [np.concatenate([first[None], rows[:-1]]) for first, rows in zip(chain.first, after, strict=True)]
    with recorded():
        step = chain.at_once([_rows(a) for a in before], _rows(chain.inputs))
    if not all(np.allclose(out.data, _rows(a), PRECISE, PRECISE) for out, a in zip(step.outs, after, strict=True)):
        return None
    read = [n for n in step.values if n.op is not None and (n.name or n.op.name in ACTIVATIONS)]
    if any(node.shape[:1] != (steps * batch,) for node in read):  # of an array that the cell holds, say
        return None
    seeds_of = total = [_rows(g[1:]) for g in whole]
    for _ in step.outs[1:]:  # less what one part of a state sends to another within the step
        sent = pull(step, Scaled(seeds_of), step.outs)
        seeds_of = [t - (sent.get(out, 0.0) - g) for t, out, g in zip(total, step.outs, seeds_of, strict=True)]
    top = Scaled(seeds_of).normalised()
    named = step.named() if "gates" in what else {}
    reached = Reached(step, top, pull(step, top, [*step.leaves, *step.outs, *named.values()]))
    for k, (g, own, part) in enumerate(zip(whole, seeds_of, reached.before.parts, strict=True)):
        found = scale_rows(part, top.exponents).reshape(steps, *g.shape[1:])
        found[1:] += given[:-1] if k == chain.output else 0.0
        wanted = np.concatenate([g[:1], own.reshape(found.shape)[:-1]])  # what each step sends to the one before
        if (np.abs(found - wanted) > PRECISE * _peaks(g[:-1])).any():
            return None
    chain.states = [chain.first, *zip(*after, strict=True)]

    def per_lag(array: Array, exponents: Array) -> Array:
        return log_norms(array, exponents).reshape(-1, batch)[::-1]

    labels, zero = chain.labels(step), np.zeros((steps + 1) * batch, np.int64)
    logs = {key: per_lag(_rows(g), zero) for key, g in zip(labels, whole, strict=True)}
    logs |= {key: per_lag(reached.of(node), top.exponents) for key, node in named.items()}
    lanes = {key: Lane(*key, array, key in set(labels), steps) for key, array in logs.items()}
    shares: dict[Any, Share] = {}
    for k, key in enumerate(labels):
        if "paths" in what and (carry := carry_nodes(step, k)):
            carried = _carried(step, k, only(carry), whole[k], given)
            if not _in_range(carried):
                return None
            of = share_of(Scaled([_rows(carried)]), _rows(whole[k]), zero)
            shares[key] = Share(*key, *(rows.reshape(-1, batch)[::-1] for rows in of))
    values = activations_of(step, steps) if "gates" in what else {}
    if any(len(rows) > 1 for rows in values.values()) or len(logs) < len(labels) + len(named):
        return None  # several of one name
    activations = {key[:2]: Activation.of(*key, rows) for key, rows in values.items()}
    by_walk = "weights" in what and learned(chain)  # a sum over lags is no faster at once
    weights = (lambda: measure(chain, seeds, ("weights",), edges).by_lag) if by_walk else None
    return Measured(lanes, shares, activations, weights)


def _program(chain: Chain) -> Program | None:
    """The program of a cell; those of the package's own cells are kept, as their repr says all that they are."""
    cell = chain.cell
    kept = PROGRAMS if type(cell) in CELLS else {}
    key = (type(cell), repr(cell), *[(n, p.shape) for n, p in cell.parameters().items()], chain.inputs.shape[1:])
    if key not in kept:
        if len(kept) == MOST_PROGRAMS:
            kept.clear()
        example = chain.inputs[:1], state_of([constant(part) for part in chain.first], chain.form)
        try:
            kept[key] = derive_bptt(chain.frozen(), example=example, rewrites=EXACT, steps=())
        except Exception:  # it cannot be derived, whatever its own code says of being traced: the walk runs it as it is
            kept[key] = None
    return kept[key]


def _rows(array: Array) -> Array:
    """All steps as one batch."""
    return array.reshape(-1, *array.shape[2:])


def _peaks(array: Array) -> Array:
    """The largest number of each step and sequence, with as many axes as the array."""
    found: Array = np.abs(array).max(axis=tuple(range(2, array.ndim)), keepdims=True, initial=0.0)
    return found


def _in_range(array: Array) -> bool:
    """Whether no row has lost digits, or been lost, for want of range; false for what is not finite, too."""
    peaks = _peaks(array)
    return bool(((peaks == 0) | ((peaks > SMALLEST) & (peaks < LARGEST))).all())


def _carried(step: Step, k: int, through: Through, whole: Array, given: Array) -> Array:
    """What of the gradient of part k is only carried, at every step from the first state on; NaN if it is mixed."""
    shape, outs = whole[1:].shape, Scaled(out.data for out in step.outs)

    def reached(part: Array) -> Array:
        return pulled(step, alone(outs, k, _rows(part)), step.leaves[k], through).reshape(shape)

    noise = np.random.default_rng(0).normal(size=shape)
    factor, direct = reached(np.ones(shape)), np.zeros(shape)
    if not np.allclose(reached(noise), noise * factor, PRECISE, 0):  # not each number for itself
        return np.full_like(whole, np.nan)
    if given[:-1].any():  # what the loss reads of earlier steps arrives there without a detour
        direct = pulled(step, alone(outs, 0, _rows(given)), step.outs[k]).reshape(shape)
    carried = whole.copy()
    for t in reversed(range(len(factor))):
        carried[t] = carried[t + 1] * factor[t] + (direct[t - 1] if t else 0.0)
    return carried
