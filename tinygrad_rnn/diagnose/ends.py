"""What the loss sees of each input and state, by lag: the measurement under the verdict.

After this file the reader knows why one sweep from one step is enough. A loss may read many steps, and what it reads
from the last of them hides what has come from far. So only what it reads from *one* step is followed: the gradient of
the output there is kept, made a unit for each sequence, and sent back through the graph. What arrives is free of the
loss's scale, and is known for a cell, a stack, a Module, or a graph that is there already. A network in both directions
has two ends, each followed against its own direction.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autodiff import history, pullback
from ..files import Brief
from ..graph.line import median
from ..tensor import GradientError, Tensor
from .chain import Array, log_norms, place
from .experiment import Experiment

Key = tuple[str, str]  # layer ("" for the only one), name
SATURATED = 0.99
"""|h| above which a unit counts as saturated."""
PRODUCTS = {"affine", "linear", "matmul"}


class Unrolled:
    """The graph of a loss, sorted by time steps and layers.

    Attributes
    ----------
    value : Tensor
        The loss.
    values : dict of (layer, name) to dict of int to Tensor
        What has a name within the steps, by step: states and gates. What is handed on without a name is called by its
        operation and its place in the step.
    states : set of (layer, name)
        Those of them that a step hands on to the next.
    inputs : dict of int to Tensor
        x of each step; of a network on top of another one, that of the lower one.
    running : dict of int to array of bool, shape (B,)
        Of padded steps: which sequences have them.

    Raises
    ------
    ValueError
        If nothing is handed from step to step.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value
        self.nodes = history([value]) if value.requires_grad else []
        self.layered = any(place(node.scope)[1] for node in self.nodes)
        self.values: dict[Key, dict[int, Tensor]] = {}
        self.states: set[Key] = set()
        self.inputs: dict[int, Tensor] = {}
        self.running: dict[int, Array] = {}
        self._sort()
        if self.nodes and not self.states and not self.inputs:
            raise ValueError(
                "no time steps that hand on a state: unroll a cell over two steps or more, in scopes t=1, t=2, ..."
            )

    def inside(self, node: Tensor) -> bool:
        """Whether a tensor is made within a step of a recurrent layer, and not by what reads it."""
        step, layer = place(node.scope)
        return node.op is not None and step is not None and (bool(layer) or not self.layered)

    def _sort(self) -> None:
        keys: dict[Tensor, Key] = {}
        latest: dict[Key, tuple[int, int]] = {}
        counts: dict[Any, int] = defaultdict(int)
        unnamed: dict[Tensor | None, list[tuple[int, Tensor]]] = defaultdict(list)
        for node in self.nodes:
            step, layer = place(node.scope)
            if step is None or node.op is None:
                continue
            for k, operand in enumerate(node.operands):
                if operand is None:
                    continue
                if operand.name == "x":
                    self.inputs.setdefault(step, operand)
                elif operand.op is None and not operand.requires_grad and k == 0 and node.op.name in PRODUCTS:
                    unnamed[node.operands[1]].append((step, operand))
                elif operand in keys and place(operand.scope)[0] != step and place(operand.scope)[1] == layer:
                    self.states.add(keys[operand])
            if node.name == "x" or not self.inside(node):
                continue
            counts[layer, step] += 1
            key = layer, node.name or f"{node.op.name}#{counts[layer, step]}"
            # A network that runs a second time, as on top of another one, has the same scopes.
            before, run = latest.get(key, (step, 0))
            run += before != step and step in self.values.get(_of_run(key, run), ())
            latest[key] = step, run
            keys[node] = key = _of_run(key, run)
            if step not in self.values.setdefault(key, {}):
                self.values[key][step] = node
            elif node.op.name == "where":  # a state that stands still past the end of a padded sequence
                self.running[step] = np.reshape(node.static["condition"], (-1, 1))[:, 0]
        self.values = {key: lane for key, lane in self.values.items() if key in self.states or "#" not in key[1]}
        if not self.inputs:  # a first state that is constant meets its weight once, an input meets it at every step
            most = max(map(len, unnamed.values()), default=0)
            uses = [use for uses in unnamed.values() if len(uses) == most for use in uses]
            times = Counter(step for step, _ in uses)
            found = {step: x for step, x in uses if times[step] == 1}
            handed_on = {step for key in self.states for step in self.values[key]}
            self.inputs = found if found.keys() >= handed_on else {}  # else they are plain arrays, and not in the graph

    @property
    def steps(self) -> list[int]:
        """The numbers of the time steps, in order."""
        return sorted(self.inputs or {t for key in self.states for t in self.values[key]})

    @property
    def shape(self) -> tuple[int, int]:
        """T and B, as far as anything is handed on; B is 0 if nothing is known of it."""
        known = [*self.inputs.values(), *(node for key in self.states for node in self.values[key].values())]
        batch = [node.shape[0] if node.ndim > 1 else 1 for node in known[:1]]
        return len(self.steps), batch[0] if batch else 0

    def reads(self) -> dict[Tensor, Array]:
        """∂L/∂ of what the loss reads of the steps, along the ways that go through no step."""
        read: set[Tensor] = set()
        seen, outside = {self.value}, [self.value]
        for node in outside:  # which grows while it is walked
            for operand in () if self.inside(node) else node.operands:
                if operand is not None and operand.requires_grad and operand not in seen:
                    seen.add(operand)
                    (read.add if self.inside(operand) else outside.append)(operand)
        if self.inside(self.value):
            return {self.value: np.ones(self.value.shape)}
        found: dict[Tensor, Array] = {}

        def through(node: Tensor, i: int, g: Array) -> Array:
            operand = node.operands[i]
            if operand in read and not self.inside(node):
                assert operand is not None
                found[operand] = found[operand] + g if operand in found else g
            return np.zeros_like(g) if operand in read else g

        if read:
            pullback({self.value: np.ones(self.value.shape)}, read, through)
        return {tensor: g for tensor, g in found.items() if g.any()}

    def first_overflow(self) -> int | None:
        """The first step at which a state leaves float64."""
        lanes = [self.values[key].items() for key in self.states]
        return min((t for lane in lanes for t, node in lane if not np.isfinite(node.data).all()), default=None)


def _of_run(key: Key, run: int) -> Key:
    return (f"{key[0]} run {run + 1}".strip(), key[1]) if run else key


@dataclass(repr=False)
class End(Brief):
    """What one end of the network sees, as log10 by (lag, sequence); NaN before the beginning of a sequence.

    Attributes
    ----------
    name : {"", "forward", "reverse"}
    step : int
        Where the loss reads it, counted from 1.
    x : array, shape (K, B), or None
        What an input of its own size moves the output by: ‖∂L/∂x‖ rms(x - mean x) / ‖∂L/∂output‖; None where no input
        is found in the graph.
    states : dict of (layer, name) to array, shape (K, B)
        ‖∂L/∂state‖ / ‖∂L/∂output‖.
    peak : array, shape (K, B)
        The largest entry of ∂L/∂x as it is: for what float32 would hold.
    size : array, shape (B,)
        ‖∂L/∂output‖; -inf where the loss does not depend on it.
    drive : float
        rms(W_ih (x - mean x)), at most 0: small input weights are no wall, since they grow.
    largest, saturated : float
        max |h|, and the share of |h| above 0.99.
    inputs : str
        What is said of inputs that are constant.
    notes : tuple of str
    overflow : str
        What is said if a state has left float64.
    """

    name: str
    step: int
    x: Array | None
    states: dict[Key, Array]
    peak: Array
    size: Array
    drive: float = 0.0
    largest: float = 0.0
    saturated: float = 0.0
    inputs: str = ""
    notes: tuple[str, ...] = ()
    overflow: str = ""

    @property
    def curve(self) -> Array:
        """x, or where that is unknown the first state of the lowest layer."""
        return self.x if self.x is not None else next(iter(self.states.values()))

    @property
    def unread(self) -> str:
        """What is said if the loss does not read it."""
        name = f"{self.name} " * bool(self.name)
        return f"the loss does not depend on the {name}output" if np.isneginf(self.size).all() else ""


def median_by_lag(curve: Array) -> Array:
    """The median over the sequences that are that long; NaN where none is."""
    return np.array([median(row) for row in curve])


def log_rows(arrays: list[Array], batch: int) -> tuple[Array, Array]:
    """Log10 of the norm and of the largest entry of each sequence's share of arrays; inf beyond float64."""
    a = np.array([np.abs(array.reshape(batch, -1)) for array in arrays])
    a[~np.isfinite(a)] = np.inf
    top = a.max(axis=-1)
    return log_norms(a.reshape(-1, a.shape[-1])).reshape(top.shape), np.log10(top)


@np.errstate(all="ignore")
def measure_ends(experiment: Experiment, overflow: str = "") -> list[End]:
    """Run once, and go back once from each end that the loss reads.

    Raises
    ------
    ValueError
        If nothing is handed from step to step, or the loss does not read the step to look back from.
    GradientError
        If the loss is not finite, though every state is.
    """
    graph = Unrolled(experiment.value())
    if (t := graph.first_overflow()) is not None:
        overflow = f"overflow: the state leaves float64 at step {t}"
        if not experiment.is_module and not isinstance(experiment.model, Tensor) and t > 2:
            return measure_ends(experiment.cut(t - 1), f"{overflow}, and the steps before it are measured")
        unknown = np.full((len(graph.steps), graph.shape[1]), np.nan)
        return [End("", t, unknown, {}, unknown, unknown[0], overflow=overflow)]
    if not np.isfinite(graph.value.data).all():
        raise GradientError(f"the loss is {graph.value.item()}, so no gradient is finite")
    reads, reverse = graph.reads(), any(key[0].endswith("reverse") for key in graph.states)
    read = sorted({place(tensor.scope)[0] or 0 for tensor in reads})
    if experiment.read is not None and read and experiment.read not in read:
        steps = f"step {read[0]}" if len(read) == 1 else f"{len(read)} steps from {read[0]} to {read[-1]}"
        raise ValueError(f"read={experiment.read}: the loss reads {steps}, and not that one")
    ends = []
    for name in ("forward", "reverse") if reverse else ("",):
        own = {x: g for x, g in reads.items() if place(x.scope)[1].endswith("reverse") is (name == "reverse")}
        ends.append(_end(experiment, graph, name, own, overflow))
    return ends


def _end(experiment: Experiment, graph: Unrolled, name: str, reads: Mapping[Tensor, Array], overflow: str) -> End:
    """Follow what is read at one step, against the direction in which the state was handed on."""
    steps, batch = graph.steps, graph.shape[1] or (*np.shape(experiment.inputs), 1, 1)[1]
    read = sorted({place(tensor.scope)[0] or 0 for tensor in reads})
    if not read:
        nothing = np.full((max(len(steps), 1), batch), -np.inf)
        return End(name, 0, nothing, {}, nothing, nothing[0], overflow=overflow)
    step = read[0] if name == "reverse" else read[-1]
    runs = {t: np.broadcast_to(graph.running.get(t, True), batch) for t in steps}
    if experiment.lengths is not None:
        runs = {t: t <= experiment.lengths for t in steps}
    ends = np.full(batch, step)
    if experiment.read is not None and experiment.read in read:
        ends[:] = step = experiment.read
    elif name != "reverse":  # each at its own end, where the loss reads it there
        ends = np.array([max((t for t in read if runs[t][b]), default=step) for b in range(batch)])
    at = {}
    for tensor, g in reads.items():
        if (here := ends == place(tensor.scope)[0]).any():
            at[tensor] = here[:, None] * g.reshape(batch, -1)
    size = log_rows([np.concatenate(list(at.values()), axis=1)], batch)[0][0]
    scale = np.where(np.isfinite(size), 10.0**size, 1.0)[:, None]
    seeds = {tensor: (g / scale).reshape(tensor.shape) for tensor, g in at.items()}
    order = [t for t in steps if t >= step] if name == "reverse" else [t for t in reversed(steps) if t <= step]
    xs = [graph.inputs[t] for t in order if t in graph.inputs]
    lanes = {key: graph.values[key] for key in graph.values if key in graph.states}
    found = pullback(seeds, [*xs, *(node for lane in lanes.values() for node in lane.values())])
    running = np.array([runs[t] for t in order])

    def logs(tensors: Iterable[Tensor | None], like: Tensor) -> tuple[Array, Array]:
        nothing = np.zeros(like.shape)
        rows = log_rows([nothing if x is None else found.get(x, nothing) for x in tensors], batch)
        return _aligned(rows[0], running), _aligned(rows[1], running)

    states = {key: logs(map(lane.get, order), next(iter(lane.values())))[0] for key, lane in lanes.items()}
    states = {key: a for key, a in states.items() if (a > -np.inf).any()}
    x, peak, drive, told = None, next(iter(states.values()), np.full((len(order), batch), -np.inf)), 0.0, ""
    if xs:
        x, peak = logs(xs, xs[0])
        dev, drive, told = _drive(graph, runs, name == "reverse")
        x = x + dev
    notes = [told] * bool(told)
    if len(read) > 1:
        before = ", or the last of a sequence" * bool((ends != step).any())
        notes.append(f"the loss reads {len(read)} steps; judged is what it sees from step {step}{before}")
    curves = [peak, *states.values(), *([] if x is None else [x])]
    unread = np.all([~(a > -np.inf) for a in curves], axis=(0, 1))  # not even the output itself, a state, is reached
    if unread.any() and not unread.all():
        notes.append(f"of {batch} sequences the loss reads {np.sum(~unread)} there")
        for a in curves:
            a[:, unread] = np.nan
    hs = ((n, runs.get(t, True)) for (_, part), lane in lanes.items() if part != "c" for t, n in lane.items())
    h = np.concatenate([[0.0], *(n.data.reshape(batch, -1)[running].ravel() for n, running in hs)])
    largest, saturated = float(np.abs(h).max()), float((np.abs(h[1:]) > SATURATED).mean()) if len(h) > 1 else 0.0
    return End(name, step, x, states, peak + size, size, drive, largest, saturated, told, tuple(notes), overflow)


def _aligned(curve: Array, running: Array) -> Array:
    """A curve in which each padded sequence begins at its own end, and is unknown before its beginning."""
    found = np.full(curve.shape, np.nan)
    for b, own in enumerate(running.T):
        found[: own.sum(), b] = curve[own, b]
    return found


def _drive(graph: Unrolled, runs: Mapping[int, Array], reverse: bool) -> tuple[float, float, str]:
    """Log10 of rms(x - mean x), of rms(W_ih (x - mean x)) in one direction, and what is to be said of such inputs.

    Padding is no input: of each step, only the sequences that have it count.
    """
    xs = np.concatenate([np.atleast_2d(graph.inputs[t].data)[runs[t]] for t in runs if t in graph.inputs], dtype=float)
    dev = xs - xs.mean(axis=tuple(range(xs.ndim - 1)))
    told = "" if dev.any() else "the inputs are constant" if xs.any() else "the inputs are all zero"
    x, drive = graph.inputs[max(runs)], 0.0
    for node in graph.nodes:
        product = node.op is not None and node.op.name in PRODUCTS and node.operands[0] is x
        if product and node.operands[1] is not None and place(node.scope)[1].endswith("reverse") is reverse:
            weight = node.operands[1].data
            drive = min(_log_rms(dev @ (weight if node.op.name == "matmul" else weight.T)), 0.0)
            break
    return _log_rms(dev), drive, told


def _log_rms(a: Array) -> float:
    return float(log_norms(a[None])[0] - 0.5 * np.log10(a.size))
