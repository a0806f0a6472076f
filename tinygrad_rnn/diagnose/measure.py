"""What is measured on the walk back through time: gradients of states and gates, shares of paths, weights by lag.

After this file the reader knows how each number of the report is taken. All are by *lag*, k = T - t: how many steps
before the last one. States have the lags 0 ... T (h_T ... h₀), gates 0 ... T - 1.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

import numpy as np

from ..autodiff import pullback
from ..files import Brief
from ..graph.line import Line, fit
from ..nn.module import once
from ..ops import ACTIVATIONS
from ..tensor import GradientError, Tensor
from .chain import (
    Array,
    Chain,
    Reached,
    Scaled,
    Step,
    alone,
    backwards,
    carry_nodes,
    log_norms,
    only,
    place,
    pull,
    pulled,
    scale_rows,
    without,
)
from .ends import Key, Unrolled

ALL = ("paths", "weights", "gates")
SATURATED = 0.1
"""A unit is saturated where φ′ is below this share of its largest value."""


@dataclass(frozen=True, repr=False)
class Lane(Brief):
    """The gradient of one state or gate through time.

    Attributes
    ----------
    layer, name : str
    logs : array, shape (K, B)
        Log10 ‖∂L/∂·‖ by lag, for each sequence; -inf where it is exactly zero.
    state : bool
        Whether this is handed from step to step; else it is a gate or another value within a step.
    steps : int, optional
        How many of the lags are steps: the state before the first is none, and takes no part in the line.
    """

    layer: str
    name: str
    logs: Array
    state: bool
    steps: int | None = None

    @cached_property
    def line(self) -> Line:
        """The line through `logs`."""
        return fit(self.logs[: self.steps])

    @property
    def label(self) -> str:
        """What tables and charts call it."""
        return f"{self.name} {self.layer}".strip()


@dataclass(frozen=True)
class Share:
    """How much of a state's gradient came along the state itself, carried from step to step.

    Attributes
    ----------
    layer, name : str
        The state: c of an LSTM, h of a GRU.
    carried : array, shape (K, B)
        ⟨g_carried, g⟩ / ‖g‖² by lag, where g_carried follows only what is carried (in an LSTM ∂L/∂c_{t-1} = f_t
        ∂L/∂c_t). A projection: it and the rest sum to 1, and either may lie outside of [0, 1]. NaN where g is zero.
    logs : array, shape (K, B)
        Log10 ‖g_carried‖.
    """

    layer: str
    name: str
    carried: Array
    logs: Array

    @property
    def mean(self) -> Array:
        """`carried`, averaged over the sequences where it is defined; shape (K,)."""
        known = ~np.isnan(self.carried)
        total = np.where(known, self.carried, 0.0).sum(axis=1)
        return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)

    @property
    def rest(self) -> Array:
        """What came through gates and matrices: 1 - carried."""
        return 1.0 - self.carried


@dataclass(frozen=True)
class Activation:
    """Values of one nonlinearity and its slope φ′, over all steps, sequences and units.

    Attributes
    ----------
    layer, name, op : str
    mean, least, most : float
        Of its values: a gate's openness.
    slope_mean, slope_least, slope_most : float
        Of φ′.
    saturated : float
        Share of values where φ′ is below a tenth of its maximum.
    dead : float
        Share of units with φ′ = 0 at every step of every sequence.
    by_step, by_unit : array
        Mean value at each step t = 1 ... T; of each unit over time and sequences.
    """

    layer: str
    name: str
    op: str
    mean: float
    least: float
    most: float
    slope_mean: float
    slope_least: float
    slope_most: float
    saturated: float
    dead: float
    by_step: Array = field(repr=False)
    by_unit: Array = field(repr=False)

    @classmethod
    def of(cls, layer: str, name: str, op: str, rows: list[tuple[Any, ...]]) -> Activation:
        """Of what `activations_of` gives of each recorded step, newest first."""
        by_step, units, alive, *numbers = zip(*rows, strict=True)
        least, most, slope, flattest, steepest, saturated = map(np.array, numbers)
        mean, openness = np.concatenate(by_step)[::-1], np.array(units).mean(axis=0)
        told = mean.mean(), least.min(), most.max(), slope.mean(), flattest.min(), steepest.max(), saturated.mean()
        return cls(layer, name, op, *told, 1 - np.any(alive, axis=0).mean(), mean, openness)


class ByLag:
    """The gradient of each parameter as a sum over lags, kept in bins: how much of it comes from how far back.

    A step's use of a weight contributes through the state that it made, so that the lag is that of this state.

    Parameters
    ----------
    edges : sequence of int
        Bin j holds the lags from edges[j - 1] + 1 to edges[j]; the last one all that are larger.

    Attributes
    ----------
    mean : bool
        Whether L is the mean over the sequences.
    """

    def __init__(self, edges: tuple[int, ...]) -> None:
        self.edges, self.mean = edges, True
        self._bins: list[dict[str, tuple[Array, int]]] = [{} for _ in range(len(edges) + 1)]

    def add(self, lag: int, exponent: int, terms: Mapping[str, Array]) -> None:
        """Take in one step's contributions × 2^exponent."""
        sums = self._bins[int(np.searchsorted(self.edges, lag))]
        for name, term in terms.items():
            sums[name] = _plus(sums.get(name), (term, exponent))

    def whole(self, sequences: int) -> ByLag:
        """The same of a loss that is one number, and no mean over so many sequences."""
        found = copy.copy(self)
        found.mean = False
        found._bins = [{name: (a * sequences, k) for name, (a, k) in sums.items()} for sums in self._bins]
        return found

    @property
    def names(self) -> list[str]:
        """The parameters that get a gradient."""
        return list(dict.fromkeys(name for sums in self._bins for name in sums))

    def _sum(self, name: str, first: int, last: float) -> tuple[Any, int]:
        """What comes from the lags first ... last, each the first or last one of a bin."""
        if {first - 1, last} - {-1, math.inf, *self.edges}:
            raise ValueError(f"lags are kept in bins that end at {', '.join(map(str, self.edges))}")
        ends = zip((*self.edges, math.inf), self._bins, strict=True)
        found = [sums[name] for end, sums in ends if first <= end <= last and name in sums]
        return reduce(_plus, found, None) or (np.zeros(1), 0)

    @np.errstate(all="ignore")
    def log_norm(self, name: str, beyond: int = -1) -> float:
        """Log10 of the norm of ∂L/∂name, only from lags larger than `beyond`; -inf if that is zero.

        Raises
        ------
        ValueError
            If `beyond` is no edge of a bin.
        """
        total, exponent = self._sum(name, beyond + 1, math.inf)
        return float(log_norms(np.atleast_1d(total)[None], np.array([exponent]))[0])

    def share_beyond(self, name: str, lag: int) -> float:
        """‖what comes from lags larger than `lag`‖ / ‖the whole‖: tiny where only the last steps teach."""
        return float(10.0 ** (self.log_norm(name, lag) - self.log_norm(name)))

    def within(self, name: str, window: float = math.inf) -> Array:
        """∂L/∂name as truncated backpropagation sees it, with a window of so many steps: lags 0 ... window - 1."""
        total, exponent = self._sum(name, 0, window - 1)
        return np.asarray(np.ldexp(total, exponent))


def _plus(one: tuple[Array, int] | None, other: tuple[Array, int]) -> tuple[Array, int]:
    """The sum of two arrays, each × 2^exponent."""
    if one is None:
        return other
    top = max(one[1], other[1])
    rows = [np.ldexp(array, max(exponent - top, -4000)) for array, exponent in (one, other)]
    return rows[0] + rows[1], top


def edges_up_to(last: int) -> tuple[int, ...]:
    """Lags 0, 1, 2, 5, 10, 20, 50 ... as far as there are any."""
    series = [0, *(digit * 10**k for k in range(9) for digit in (1, 2, 5))]
    return tuple(edge for edge in series if edge < last) or (0,)


@dataclass(frozen=True, repr=False)
class Measured(Brief):
    """Everything that one walk back through time gives."""

    lanes: dict[Key, Lane]
    shares: dict[Key, Share]
    activations: dict[Key, Activation]
    weights: Callable[[], ByLag | None] | None = None

    @cached_property
    def by_lag(self) -> ByLag | None:
        """∂L/∂W, split by the lag that it comes from; computed when it is asked for, if it was to be measured."""
        return None if self.weights is None else self.weights()


class _Walk:
    """Collects what the backward walk passes."""

    def __init__(self, chain: Chain, seeds: Mapping[int, Array], edges: tuple[int, ...] | None) -> None:
        self.chain, self.seeds = chain, seeds
        self.labels = chain.labels()
        self.logs: dict[Key, list[Array]] = defaultdict(list)
        self.carried: dict[int, Scaled] = {}
        self.shares: dict[int, list[tuple[Array, Array]]] = defaultdict(list)
        self.activations: dict[tuple[str, str, str], list[tuple[Any, ...]]] = defaultdict(list)
        self.by_lag = ByLag(edges or edges_up_to(len(chain)))

    def paths(self, reached: Reached) -> None:
        """Follow, beside the whole gradient, what is only carried."""
        step, exponents = reached.step, reached.seeds.exponents
        for k in range(len(step.outs)):
            carry = carry_nodes(step, k)
            if not carry:
                continue
            total = reached.of(step.outs[k])
            if k not in self.carried:
                if reached.step.number != len(self.chain):
                    continue
                self.carried[k] = Scaled([total], exponents)
            elif step.number in self.seeds:  # the loss reads this step: that arrives without a detour
                direct = alone(reached.seeds, self.chain.output, self.seeds[step.number])
                self.carried[k] = self.carried[k].plus(0, pulled(step, direct, step.outs[k]))
            self.shares[k].append(share_of(self.carried[k], total, exponents))
            carried = alone(reached.seeds, k, self.carried[k].parts[0])
            before = pulled(step, carried, step.leaves[k], only(carry))
            self.carried[k] = Scaled([before], self.carried[k].exponents).normalised()

    def weights(self, reached: Reached, parameters: Mapping[str, Tensor]) -> None:
        """What this step's use of each parameter contributes to the gradient of the mean loss over the sequences."""
        exponents, found = reached.seeds.exponents, reached.found
        top = int(exponents.max())
        if (exponents != top).any():  # rows on different scales cannot be added up
            rows = [scale_rows(part, exponents - top) for part in reached.seeds.parts]
            found = pull(reached.step, Scaled(rows), parameters.values())
        terms = {name: found[p] / len(exponents) for name, p in parameters.items() if p in found}
        self.by_lag.add(len(self.chain) - reached.step.number, top, terms)


def share_of(carried: Scaled, total: Array, exponents: Array) -> tuple[Array, Array]:
    """Of each row, the share of the whole that is only carried (see `Share`), and log10 of its norm."""
    rows, whole = (a.reshape(len(a), -1) for a in (carried.parts[0], total))
    size = np.abs(whole).max(axis=1, initial=0.0)
    unit = whole / np.where(size > 0, size, 1.0)[:, None]
    inner = (rows * unit).sum(axis=1) / np.maximum(np.square(unit).sum(axis=1), 1.0)
    shift = np.clip(carried.exponents - exponents, -4000, 4000)
    with np.errstate(over="ignore"):
        share = np.ldexp(inner, shift) / np.where(size > 0, size, 1.0)
    return np.where(size > 0, share, np.nan), log_norms(carried.parts[0], carried.exponents)


def activations_of(step: Step, steps: int = 1) -> dict[tuple[str, str, str], list[tuple[Any, ...]]]:
    """Openness of gates and slopes of nonlinearities; the batch is so many steps of sequences, the oldest first."""
    found: dict[tuple[str, str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for node in step.values:
        op = node.op
        if op is None or op.name not in ACTIVATIONS:
            continue
        operand = node.operands[0]
        inside = operand.name if operand is not None and operand.name else ""
        name = node.name or (f"{op.name}({inside})" if inside else op.name)
        slopes = op.rules[0](np.ones_like(node.data), node.data, *node.arrays, **node.static)
        y, flat = node.data, np.abs(slopes) < SATURATED * ACTIVATIONS[op.name]
        rows = y.reshape(steps, -1).mean(axis=1)[::-1], y.mean(axis=0), (slopes != 0).any(axis=0)
        numbers = y.min(), y.max(), slopes.mean(), slopes.min(), slopes.max(), flat.mean()
        found[place(node.scope)[1], name, op.name].append((*rows, *numbers))
    return found


def learned(chain: Chain) -> dict[str, Tensor]:
    """The parameters of which a gradient is wanted, each once."""
    return once((name, p) for name, p in chain.cell.parameters().items() if p.requires_grad)


def measure(chain: Chain, seeds: Mapping[int, Array], what: Any = ALL, edges: Any = None) -> Measured:
    """Walk back once and measure.

    Parameters
    ----------
    chain : Chain
    seeds : dict of int to array
        ∂L/∂output at the steps that the loss reads.
    what : collection of str
        What to measure beside the states: shares of "paths", "weights" by lag, and "gates" and all else in a step.
    edges : tuple of int, optional
        Where the bins of lags end.
    """
    walk = _Walk(chain, seeds, edges)
    parameters, gates = learned(chain) if "weights" in what else {}, "gates" in what
    reached = None
    for reached in backwards(chain, seeds, named=gates, also=tuple(parameters.values())):
        step, exponents = reached.step, reached.seeds.exponents
        for key, out in zip(walk.labels, step.outs, strict=True):
            walk.logs[key].append(log_norms(reached.of(out), exponents))
        for key, node in step.named().items() if gates else ():
            walk.logs[key].append(log_norms(reached.of(node), exponents))
        for where, rows in activations_of(step).items() if gates else ():
            walk.activations[where] += rows
        if "paths" in what:
            walk.paths(reached)
        if parameters:
            walk.weights(reached, parameters)
    assert reached is not None
    for k, (key, g) in enumerate(zip(walk.labels, reached.before.parts, strict=True)):
        walk.logs[key].append(log_norms(g, reached.seeds.exponents))
        if k in walk.carried:
            walk.shares[k].append(share_of(walk.carried[k], g, reached.seeds.exponents))
    lanes = {key: Lane(*key, np.array(logs), key in walk.labels, len(chain)) for key, logs in walk.logs.items()}
    shares = {}
    for k, pairs in walk.shares.items():
        shares[walk.labels[k]] = Share(*walk.labels[k], *map(np.array, zip(*pairs, strict=True)))
    activations = {key[:2]: Activation.of(*key, rows) for key, rows in walk.activations.items()}
    return Measured(lanes, shares, activations, (lambda: walk.by_lag) if parameters else None)


def measure_graph(graph: Unrolled) -> Measured:
    """The same of a graph that is there already, in the range of float64: no path is told from another.

    Raises
    ------
    GradientError
        If a gradient is not finite, naming the step.
    """
    nodes = [node for lane in graph.values.values() for node in lane.values()]
    found = pullback({graph.value: np.ones(graph.value.shape)}, nodes)
    steps = sorted({t for lane in graph.values.values() for t in lane})
    lanes = {}
    for key, lane in graph.values.items():
        for t, node in lane.items():
            if node in found and not np.isfinite(found[node]).all():
                raise GradientError(f"the gradient of {key[1]} is not finite at step t={t}")
        nothing = np.zeros(next(iter(lane.values())).shape)
        order = steps if key[0].endswith("reverse") else reversed(steps)
        rows = [np.atleast_2d(found.get(lane[t], nothing) if t in lane else nothing) for t in order]
        lanes[key] = Lane(*key, np.array([log_norms(row) for row in rows]), key in graph.states)
    first = {key[0]: k for k, key in reversed([*enumerate(lanes)])}
    order_of = sorted(lanes, key=lambda key: (first[key[0]], key[1] != "h"))
    return Measured({key: lanes[key] for key in order_of}, {}, {})


def measure_without_carry(chain: Chain, seeds: Mapping[int, Array], k: int) -> Array:
    """Logs of part k's gradient if nothing were carried in it: what is left comes through gates and h."""

    def cut(step: Step) -> Any:
        return without(carry_nodes(step, k), step.leaves[k])

    logs = []
    for reached in backwards(chain, seeds, cut, named=False):
        logs.append(log_norms(reached.of(reached.step.outs[k]), reached.seeds.exponents))
    return np.array([*logs, log_norms(reached.before.parts[k], reached.seeds.exponents)])
