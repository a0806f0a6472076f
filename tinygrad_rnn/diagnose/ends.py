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
from functools import cached_property
from itertools import pairwise
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

    Parameters
    ----------
    value : Tensor
        The loss.
    lengths : array of int, shape (B,), or infinity, optional
        How long each of padded sequences is, where that is known; infinity: none is padded.

    Attributes
    ----------
    values : dict of (layer, name) to dict of int to Tensor
        What has a name within the steps, by step: states and gates. What is handed on without a name is called by its
        operation and its place in the step.
    states : set of (layer, name)
        Those of them that a step hands on to the next.
    inputs : dict of int to Tensor
        x of each step; of a network on top of another one, that of the lower one.
    steps : list of int
        The numbers of the time steps, in order.
    batch : int
        B; 0 if nothing is handed on.
    longer : bool
        Whether a second run has steps that the first has not, as a decoder on top of a shorter encoder.
    running : dict of int to array of bool, shape (B,)
        Which sequences have a step, and no padding in its place.

    Raises
    ------
    ValueError
        If nothing is handed from step to step.
    """

    def __init__(self, value: Tensor, lengths: Array | float | None = None) -> None:
        self.value = value
        self.nodes = history([value]) if value.requires_grad else []
        self.layered = any(place(node.scope)[1] for node in self.nodes)
        self.values: dict[Key, dict[int, Tensor]] = defaultdict(dict)
        self.states: set[Key] = set()
        self.inputs: dict[int, Tensor] = {}
        masks = self._sort()
        handed_on = {t: node for key in self.states for t, node in self.values[key].items()}
        self.inputs = self.inputs or self._inputs_without_a_name(handed_on)
        if self.nodes and not handed_on and not self.inputs:
            raise ValueError(
                "no time steps that hand on a state: unroll a cell over two steps or more, in scopes t=1, t=2, ..."
            )
        self.steps = sorted(self.inputs or handed_on)
        known = [*self.inputs.values(), *handed_on.values()][:1]
        self.batch = sum(len(node.data) if node.ndim > 1 else 1 for node in known)
        runs = {t: masks.get(t, True) if lengths is None else t <= lengths for t in {*self.steps, *handed_on}}
        self.running = {t: np.broadcast_to(run, self.batch) for t, run in runs.items()}

    def inside(self, node: Tensor) -> bool:
        """Whether a tensor is made within a step of a recurrent layer, and not by what reads it."""
        step, layer = place(node.scope)
        return node.op is not None and step is not None and (bool(layer) or not self.layered)

    @cached_property
    def products(self) -> list[Tensor]:
        """Where something meets a weight."""
        return [node for node in self.nodes if node.op is not None and node.op.name in PRODUCTS]

    def _sort(self) -> dict[int, Array]:
        """Find values, states, and inputs with their name; gives which sequences have a padded step."""
        keys: dict[Tensor, Key] = {}
        latest: dict[Key, tuple[int, int]] = {}
        counts, beyond = Counter[Any](), set[Key]()
        for node in self.nodes:
            step, layer = place(node.scope)
            if step is None or node.op is None:
                continue
            for operand in node.operands:
                if operand is not None and operand.name == "x":
                    self.inputs.setdefault(step, operand)
                elif operand in keys and place(operand.scope)[0] != step and place(operand.scope)[1] == layer:
                    self.states.add(keys[operand])
            if node.name == "x" or not self.inside(node):
                continue
            counts[layer, step] += 1
            name = node.name or f"{node.op.name}#{counts[layer, step]}"
            # A network that runs a second time, as on top of another one, has the same scopes.
            before, run = latest.get((layer, name), (step, 1))
            run += before != step and step in self.values[_key(layer, name, run)]
            latest[layer, name] = step, run
            keys[node] = key = _key(layer, name, run)
            self.values[key].setdefault(step, node)
            if run > 1 and step not in self.values[_key(layer, name, 1)]:
                beyond.add(key)
        self.values = {key: lane for key, lane in self.values.items() if key in self.states or "#" not in key[1]}
        self.longer = bool(beyond & self.states)
        lanes: dict[Key, dict[int, Tensor]] = defaultdict(dict)
        for node, key in keys.items():
            lanes[key][place(node.scope)[0] or 0] = node  # the last one is handed on
        return self._padding(lanes)

    def _padding(self, lanes: Mapping[Key, Mapping[int, Tensor]]) -> dict[int, Array]:
        """Which sequences have a step, where others have ended: their states change no more, and nothing new is read.

        A state that is reset, or that is kept for some steps, is none of this: then no step is called padded.
        """
        chosen, given = list[tuple[int, Tensor, Array]](), dict[int, Array]()
        for lane in (lanes[key] for key in self.states):
            for before, (t, node) in zip((None, *lane.values()), lane.items(), strict=False):
                new, running = _chosen(node, before, t)
                chosen.append((t, new, running))
                if new is node and t == [*lane][-1]:  # handed on to no other: how it is read will tell
                    continue
                if not np.array_equal(given.setdefault(t, running), running):
                    return {}
        if all(running.all() for running in given.values()) or len({len(running) for *_, running in chosen}) > 1:
            return {}
        found = pullback({self.value: np.ones(self.value.shape)}, [new for _, new, _ in chosen])
        read = {t: np.zeros_like(running) for t, _, running in chosen}
        for t, new, running in chosen:
            read[t] |= found.get(new, np.zeros(new.shape)).reshape(len(running), -1).any(axis=1)
        masks = dict.fromkeys((t for lane in lanes.values() for t in lane), np.array(True)) | read | given
        ended = all((masks[s] >= masks[t]).all() for s, t in pairwise(sorted(masks)))
        return masks if ended and not any((read[t] & ~masks[t]).any() for t in read) else {}

    def _inputs_without_a_name(self, steps: Iterable[int]) -> dict[int, Tensor]:
        """Constants that meet one weight at every step, if they are the only ones: of a recurrence by hand."""
        uses: dict[Any, list[tuple[int, Tensor]]] = defaultdict(list)
        for node in self.products:
            (x, weight, *_), step = node.operands, place(node.scope)[0]
            if step is not None and x is not None and x.op is None and not x.requires_grad:
                uses[weight].append((step, x))
        found = [dict(of) for of in uses.values() if len(dict(of)) == len(of) and dict(of).keys() >= set(steps)]
        return found[0] if len(found) == 1 else {}

    def reads(self) -> dict[Tensor, Array]:
        """∂L/∂ of what the loss reads of the steps, along the ways that go through no step."""
        outside = [self.value, *(node for node in self.nodes if not self.inside(node))]
        read = {operand for node in outside for operand in (node, *node.operands) if operand is not None}
        seeds = {self.value: np.ones(self.value.shape)}
        wanted = [tensor for tensor in read if self.inside(tensor)]
        found = pullback(seeds, wanted, lambda node, i, g: np.zeros_like(g) if self.inside(node) else g)
        return {tensor: g for tensor, g in found.items() if g.any()}


def _chosen(node: Tensor, before: Tensor | None, step: int) -> tuple[Tensor, Array]:
    """What is new in a state, and which sequences have it, where the others have the very state before."""
    every = np.ones(len(node.data) if node.ndim > 1 else 1, bool)
    if (
        node.op is not None
        and node.op.name == "where"
        and node.static["condition"].shape == (len(every), *[1] * (node.ndim - 1))
    ):
        running = node.static["condition"].reshape(-1)
        for of, new, old in zip((running, ~running), node.operands, reversed(node.operands), strict=True):
            kept = old is before if before is not None else old is None or place(old.scope)[0] is None
            if kept and new is not None and new.op is not None and place(new.scope)[0] == step:
                return new, of
    return node, every


def _key(layer: str, name: str, run: int) -> Key:
    return f"{layer} run {run}".strip() if run > 1 else layer, name


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
    apart : str
        What is said if the steps that the loss reads are no steps of the inputs.
    cut : str
        What is said if the loss does not see the inputs of the first steps.
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
    apart: str = ""
    cut: str = ""

    @property
    def curve(self) -> Array:
        """x, or where that is unknown the first state of the lowest layer."""
        return self.x if self.x is not None else next(iter(self.states.values()))

    @property
    def of(self) -> str:
        """What it is the curve of: x, or a state."""
        return "x" if self.x is not None else " ".join(reversed(next(iter(self.states)))).strip()

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
    graph = Unrolled(experiment.value(), np.inf if experiment.is_chain else experiment.lengths)
    states = [(t, node) for key in graph.states for t, node in graph.values[key].items()]
    if beyond := [t for t, node in states if not np.isfinite(node.data).all()]:
        overflow = f"overflow: the state leaves float64 at step {(t := min(beyond))}"
        if not experiment.is_module and not isinstance(experiment.model, Tensor) and t > 2:
            return measure_ends(experiment.cut(t - 1), f"{overflow}, and the steps before it are measured")
        unknown = np.full((len(graph.steps), graph.batch), np.nan)
        return [End("", t, unknown, {}, unknown, unknown[0], overflow=overflow)]
    if not np.isfinite(graph.value.data).all():
        raise GradientError(f"the loss is {graph.value.item()}, so no gradient is finite")
    reads, reverse = graph.reads(), any(key[0].endswith("reverse") for key in graph.states)
    read = _steps_of(reads)
    if experiment.read is not None and read and experiment.read not in read:
        steps = f"step {read[0]}" if len(read) == 1 else f"{len(read)} steps from {read[0]} to {read[-1]}"
        raise ValueError(f"read={experiment.read}: the loss reads {steps}, and not that one")
    cut = ""
    if not isinstance(experiment.model, Tensor) and len(graph.steps) > 1 and graph.steps[0] > 1:
        seen = f"steps {graph.steps[0]} to {graph.steps[-1]}"
        cut = f"the loss sees {seen} alone: its graph begins at t={graph.steps[0]} (a detach, say)"
    ends = []
    for name in ("forward", "reverse") if reverse else ("",):
        own = {x: g for x, g in reads.items() if place(x.scope)[1].endswith("reverse") is (name == "reverse")}
        if own:
            ends.append(_end(graph, name, own, experiment.read, overflow, cut))
        else:
            batch = graph.batch or (*np.shape(experiment.inputs), 1, 1)[1]
            nothing = np.full((max(len(graph.steps), 1), batch), -np.inf)
            ends.append(End(name, 0, nothing, {}, nothing, nothing[0], overflow=overflow))
    return ends


def _end(graph: Unrolled, name: str, reads: Mapping[Tensor, Array], wanted: int | None, overflow: str, cut: str) -> End:
    """Follow what is read at one step, against the direction in which the state was handed on."""
    read, batch, reverse = _steps_of(reads), graph.batch, name == "reverse"
    step = wanted if wanted in read else read[0] if reverse else read[-1]
    ends = np.full(batch, step)
    if wanted not in read and not reverse:  # each at its own end, where the loss reads it there
        ends = np.array([max((t for t in read if graph.running[t][b]), default=step) for b in range(batch)])
    at = {}
    for tensor, g in reads.items():
        if (here := ends == place(tensor.scope)[0]).any():
            at[tensor] = here[:, None] * g.reshape(batch, -1)
    size = log_rows([np.concatenate(list(at.values()), axis=1)], batch)[0][0]
    scale = np.where(np.isfinite(size), 10.0**size, 1.0)[:, None]
    order = [t for t in graph.steps if t >= step] if reverse else [t for t in reversed(graph.steps) if t <= step]
    lanes = {key: lane for key, lane in graph.values.items() if key in graph.states}
    nodes = [lane[t] for lane in (graph.inputs, *lanes.values()) for t in (order if name else graph.steps) if t in lane]
    found = pullback({tensor: (g / scale).reshape(tensor.shape) for tensor, g in at.items()}, nodes)
    running = np.array([graph.running[t] for t in order])
    later = [t for t in graph.inputs if not name and t > step and found.get(graph.inputs[t], np.zeros(1)).any()]
    apart = "the loss reads a second run, whose steps are not those of the inputs (a decoder, say): give each alone"

    def logs(lane: Mapping[int, Tensor]) -> tuple[Array, Array]:
        nothing = np.zeros(next(iter(lane.values())).shape)
        rows = [found.get(lane[t], nothing) if t in lane else nothing for t in order]
        norms, largest = log_rows(rows, batch)
        return _aligned(norms, running), _aligned(largest, running)

    states = {key: logs(lane)[0] for key, lane in lanes.items()}
    states = {key: curve for key, curve in states.items() if (curve > -np.inf).any()}
    x, peak, drive, told = None, next(iter(states.values()), np.full(running.shape, -np.inf)), 0.0, ""
    if graph.inputs:
        (x, peak), (dev, drive, told) = logs(graph.inputs), _drive(graph, reverse)
        x = x + dev
    notes = [said for said in (told, cut) if said]
    if len(read) > 1:
        before = ", or the last of a sequence" * bool((ends != step).any())
        notes.append(f"the loss reads {len(read)} steps; judged is what it sees from step {step}{before}")
    known = [peak, *states.values(), *([] if x is None else [x])]
    unread = ~np.any([curve > -np.inf for curve in known], axis=(0, 1))  # not even the output itself is reached
    if unread.any() and not unread.all():
        notes.append(f"of {batch} sequences the loss reads {np.sum(~unread)} there")
        for curve in known:
            curve[:, unread] = np.nan
    hidden = [(t, node) for key, lane in lanes.items() if key[1] != "c" for t, node in lane.items()]
    h = np.concatenate([[0.0], *(node.data.reshape(batch, -1)[graph.running[t]].ravel() for t, node in hidden)])
    largest, saturated = float(np.abs(h).max()), float((np.abs(h[1:]) > SATURATED).mean()) if len(h) > 1 else 0.0
    return End(
        name,
        step,
        x,
        states,
        peak + size,
        size,
        drive,
        largest,
        saturated,
        told,
        tuple(notes),
        overflow,
        apart * (graph.longer or bool(later)),
        cut,
    )


def _steps_of(reads: Iterable[Tensor]) -> list[int]:
    return sorted({place(tensor.scope)[0] or 0 for tensor in reads})


def _aligned(curve: Array, running: Array) -> Array:
    """A curve in which each padded sequence begins at its own end, and is unknown before its beginning."""
    own = np.argsort(~running, axis=0, kind="stable")  # the steps that a sequence has, then the others
    return np.where(np.take_along_axis(running, own, 0), np.take_along_axis(curve, own, 0), np.nan)


def _drive(graph: Unrolled, reverse: bool) -> tuple[float, float, str]:
    """Log10 of rms(x - mean x), of rms(W_ih (x - mean x)) in one direction, and what is to be said of such inputs.

    Padding is no input: of each step, only the sequences that have it count.
    """
    rows = [np.atleast_2d(graph.inputs[t].data)[graph.running[t]] for t in graph.steps]
    xs = np.concatenate(rows, dtype=float)
    dev = xs - xs.mean(axis=tuple(range(xs.ndim - 1)))
    told = "" if dev.any() else "the inputs are constant" if xs.any() else "the inputs are all zero"
    x, drive = graph.inputs[graph.steps[-1]], 0.0
    for node in graph.products:
        if node.operands[0] is x and place(node.scope)[1].endswith("reverse") is reverse:
            weight = node.arrays[1] if node.op is not None and node.op.name == "matmul" else node.arrays[1].T
            drive = min(_log_rms(dev @ weight), 0.0)
            break
    return _log_rms(dev), drive, told


def _log_rms(a: Array) -> float:
    return float(log_norms(a[None])[0] - 0.5 * np.log10(a.size))
