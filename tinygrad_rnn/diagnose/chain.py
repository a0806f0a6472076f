"""A recurrent network as a chain of steps, each with a small graph of its own, walked forwards and backwards.

After this file the reader knows how a gradient is followed over 10,000 steps without underflow and without keeping
10,000 graphs. Forwards only the states are kept. Backwards each step is recorded again from the state it began with,
the one sweep of the engine pulls the cotangent through it, and where a row becomes very small or very large it is
multiplied by a power of two, which is exact and is written down: true value = array × 2^exponent, row by row.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..autodiff import Through, history, pullback
from ..graph.steps import step_number
from ..nn.stacks import Stack, one_step
from ..nn.state import parts_of, state_of
from ..scope import no_grad, recorded, scope
from ..tensor import GradientError, Tensor, as_array, constant, raw

Array = NDArray[Any]

CARRYING = frozenset(
    ("add", "subtract", "multiply", "negative", "getitem", "reshape", "transpose", "concatenate", "stack", "where")
)
"""What a state may pass through and still be carried: no matrix, no nonlinearity."""

FAR = 256
"""Rows are rescaled once their largest number is beyond 2^±FAR."""


def in_float64(model: Any, gradients: bool | None = None) -> Any:
    """A copy of a model that computes in float64 and drops nothing; the model itself is left as it is.

    Parameters
    ----------
    model : cell, stack or Module
    gradients : bool, optional
        Whether gradients are followed to all parameters of the copy, or to none; by default as in the model.

    Raises
    ------
    TypeError
        If its parameters do not get copied with it, being no attributes of it.
    """
    twin = copy.deepcopy(model)
    own = {id(tensor) for tensor in model.parameters().values()}
    for tensor in twin.parameters().values():
        if id(tensor) in own:
            raise TypeError(
                f"{type(model).__name__}: parameters must be attributes of the model, so that it can be copied; "
                "here a copy shares them with the original"
            )
        tensor._value = tensor._value.astype(np.float64)
        tensor._requires_grad = tensor.requires_grad if gradients is None else gradients
    for part in (twin, *getattr(twin, "_cells", {}).values()):
        if hasattr(part, "dtype"):
            part.dtype = np.dtype(np.float64)
    return twin.eval() if callable(getattr(twin, "eval", None)) else twin


def is_chain(model: Any) -> bool:
    """Whether a model is one step, repeated: a cell, or a stack in one direction."""
    if isinstance(model, Stack):
        return not model.bidirectional
    return callable(getattr(model, "initial_state", None))


def sequences_of(inputs: Any, model: Any = None) -> Array:
    """The inputs of a model as float64 of shape (T, B, I).

    Raises
    ------
    ValueError
        If they have another rank or width, no steps or no sequences, or hold something that is not finite.
    """
    array, width = as_array(inputs).astype(np.float64), getattr(model, "input_size", None)
    if array.ndim == 2:
        array = array[:, None]
    elif array.ndim == 3 and getattr(model, "batch_first", False):
        array = array.transpose(1, 0, 2)
    if array.ndim != 3 or 0 in array.shape[:2] or array.shape[2] != (width or array.shape[2]):
        shapes = "(T, B, I) or (T, I), with at least one step" + (f" and I = {width}" if width else "")
        ids = "; token ids go through their embedding first" if as_array(inputs).dtype.kind in "iu" else ""
        raise ValueError(f"inputs of shape {tuple(np.shape(raw(inputs)))}: sequences have shape {shapes}{ids}")
    if not np.isfinite(array).all():
        t = int(np.argmin(np.isfinite(array).all(axis=(1, 2)))) + 1
        raise ValueError(f"the inputs are not finite at step t={t}")
    return array


def batched(state: Any, model: Any, batch: int) -> Any:
    """A state as float64, in the form in which a model takes it, with its axis of sequences.

    One sequence may come without that axis.

    Raises
    ------
    ValueError
        If it has other parts, or another number of sequences.
    """
    if state is None:
        return None
    stacked = isinstance(model, Stack)  # which checks the shapes itself
    form = state if stacked else model.initial_state(batch)
    given, own = parts_of(state), parts_of(form)
    if len(given) != len(own):
        raise ValueError(f"the state of {model!r} is made of {len(own)} array(s), not of {len(given)}")
    parts = []
    for part, like in zip(given, own, strict=True):
        array = as_array(part).astype(np.float64)
        if batch == 1 and array.ndim == (2 if stacked else like.ndim - 1):
            array = np.expand_dims(array, int(stacked))
        if not stacked and (array.ndim < 1 or len(array) != batch):
            raise ValueError(f"state of shape {array.shape} for {batch} sequences: its first axis is the sequence")
        parts.append(Tensor(array))
    return state_of(parts, form)


def chain_of(model: Any, inputs: Any, state: Any = None) -> Chain:
    """A model that computes in float64 (`in_float64`), on inputs and from a state in whatever form it takes them.

    Raises
    ------
    TypeError
        If it is not one step, repeated.
    """
    if not is_chain(model):
        raise TypeError(f"{model!r}: the Jacobian of a step is that of a cell, or of a stack in one direction")
    sequences = sequences_of(inputs, model)
    before = batched(state, model, sequences.shape[1])
    if before is not None and isinstance(model, Stack):
        before = tuple(model.states(before, sequences.shape[1]).values())
    return Chain(model, sequences, before)


class Overflow(GradientError):
    """A state has left the range of float64, at a step counted from 1."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(
            f"the state is not finite from step t={step} of {steps} on, so no gradient is: "
            "give fewer steps, smaller weights or smaller inputs"
        )
        self.step = step


class LayeredCell:
    """A stack in one direction as one cell: its state is the states of all layers, the lowest first.

    Parameters
    ----------
    stack : RNN, LSTM or GRU, not bidirectional
    """

    def __init__(self, stack: Stack) -> None:
        self.stack, self.cells = stack, list(stack._cells.values())
        self.parameters: Callable[[], dict[str, Tensor]] = stack.parameters

    def initial_state(self, batch: int | None) -> tuple[tuple[Tensor, ...], ...]:
        """The initial states of all layers."""
        return tuple(self.stack.states(None, batch).values())

    def __call__(self, x: Any, state: tuple[tuple[Tensor, ...], ...]) -> tuple[tuple[Tensor, ...], ...]:
        """One step of every layer, each fed with the one below."""
        after: list[tuple[Tensor, ...]] = []
        for k, (cell, own) in enumerate(zip(self.cells, state, strict=True)):
            with scope(f"layer {k}") if len(self.cells) > 1 else nullcontext():
                after.append(one_step(cell, x, own))
            x = after[-1][0]
        return tuple(after)


@lru_cache(maxsize=1 << 14)
def place(scope: str) -> tuple[int | None, str]:
    """The time step of a scope, and its layer; None and "" where there is none."""
    parts = scope.split("/")
    step = next((part for part in parts if part.startswith("t=")), "t=")
    return step_number(step), next((part for part in parts if part.startswith("layer ")), "")


@dataclass(frozen=True)
class Step:
    """One step, recorded: its graph from the state before (`leaves`) to the state after (`outs`)."""

    number: int
    leaves: tuple[Tensor, ...]
    outs: tuple[Tensor, ...]

    @cached_property
    def nodes(self) -> list[Tensor]:
        """All tensors of the step that need a gradient, oldest first."""
        return history(list(dict.fromkeys(out for out in self.outs if out.requires_grad)))

    @cached_property
    def values(self) -> list[Tensor]:
        """Those that a sequence has of its own: made of the state before or of an array, not of weights alone."""
        own, found = set(self.leaves), list[Tensor]()  # a set looks for the very tensor; == would compare numbers
        for node in self.nodes:
            operands = zip(node.operands, node.arrays, strict=True) if node.op is not None else ()
            if any(np.ndim(array) if operand is None else operand in own for operand, array in operands):
                own.add(node)
                found.append(node)
        return found

    def refuse_other(self, after: Iterable[Array]) -> None:
        """Raise GradientError if the state after the step is not what it was when the step was run before."""
        for out, part in zip(self.outs, after, strict=True):
            rounding = 1e-12 + 1e-8 * np.abs(part).max(initial=0.0)  # of a batch of another size, say
            if not (np.abs(out.data - part) <= rounding).all():
                raise GradientError(
                    "a step that is run again gives another state: its cell draws, counts, or was changed"
                )

    def named(self) -> dict[tuple[str, str], Tensor]:
        """Gates and other intermediate values with a name, by (layer, name)."""
        outs = set(self.outs)
        return {(place(node.scope)[1], node.name): node for node in self.values if node.name and node not in outs}


class Chain:
    """A cell, or a stack in one direction, ready to be unrolled over sequences.

    Parameters
    ----------
    model : cell or RNN, LSTM, GRU
        A `Stack` with several directions is no chain.
    inputs : array, shape (T, B, I)
    state : optional
        Before the first step, in the model's form (of a stack, layer after layer). Default: the model's own.

    Attributes
    ----------
    first : tuple of arrays
        h₀, each part of shape (B, ...).
    output : int
        Which part of the state the network puts out.
    """

    def __init__(self, model: Any, inputs: Array, state: Any = None) -> None:
        self.cell: Any = LayeredCell(model) if isinstance(model, Stack) else model
        self.inputs = inputs
        with no_grad():
            self.form = self.cell.initial_state(inputs.shape[1])
        before = parts_of(self.form if state is None else state)
        self.first = tuple(as_array(part).astype(np.float64) for part in before)
        self.output = len(before) - len(self.form[-1]) if isinstance(model, Stack) else 0

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def states(self) -> list[tuple[Array, ...]]:
        """h₀ ... h_T, each part of shape (B, ...); computed when they are asked for."""
        states = [self.first]
        with no_grad(), np.errstate(over="ignore", invalid="ignore"):
            for t in _with_bar(range(1, len(self) + 1), "forwards"):
                step = self._recorded(t, states[-1], self.inputs[t - 1])
                after = tuple(out.data for out in step.outs)
                if [a.shape for a in after] != [a.shape for a in self.first]:
                    raise ValueError(
                        f"the cell turns a state of shapes {[a.shape for a in self.first]} into one of shapes "
                        f"{[a.shape for a in after]}: they must be the same"
                    )
                if not all(np.isfinite(a).all() for a in after):
                    raise Overflow(t, len(self))
                states.append(after)
        return states

    @recorded()
    def record(self, t: int, repeat: int | None = None, sequence: int = 0) -> Step:
        """Step t (from 1) with its graph, even in `no_grad`; with `repeat`, copies of one sequence as the batch."""
        rows = slice(None) if repeat is None else [sequence] * repeat
        before, after = (tuple(part[rows] for part in state) for state in self.states[t - 1 : t + 1])
        step = self._recorded(t, before, self.inputs[t - 1][rows])
        step.refuse_other(after)
        return step

    def _recorded(self, t: int, before: tuple[Array, ...], x: Array) -> Step:
        leaves = tuple(Tensor(part, requires_grad=True) for part in before)
        with scope(f"t={t}"):
            outs = parts_of(self.cell(constant(x, "x"), state_of(leaves, self.form)))
            # What another part is already, or was before the step, gets a tensor with a gradient of its own.
            own = [o.reshape(o.shape) if o in {*leaves, *outs[:k]} else o for k, o in enumerate(outs)]
        return Step(t, leaves, tuple(own))

    def at_once(self, before: Iterable[Array], inputs: Array) -> Step:
        """One step from many states at once, those of all steps, say."""
        return self._recorded(len(self), tuple(before), inputs)

    def frozen(self) -> Any:
        """A copy of the cell for which no gradient of a parameter is computed."""
        return in_float64(self.cell, gradients=False)

    def labels(self, step: Step | None = None) -> list[tuple[str, str]]:
        """(layer, name) of each part of the state: by the names that the cell gave them, or by their place."""
        step = step or self.record(1)
        found = [
            (place(out.scope)[1], out.name or ("h" if k == 0 else f"state {k}")) for k, out in enumerate(step.outs)
        ]
        if len(set(found)) < len(found):
            found = [(layer, f"{name} {k}") for k, (layer, name) in enumerate(found)]
        return found


class Scaled:
    """Cotangents of all parts of the state, row by row with an exponent: true value = array × 2^exponent."""

    def __init__(self, parts: Iterable[Array], exponents: Array | None = None) -> None:
        self.parts = list(parts)
        self.exponents = np.zeros(len(self.parts[0]), np.int64) if exponents is None else exponents

    def normalised(self) -> Scaled:
        """The same cotangents with every row near 1, if one has gone far from it."""
        largest = np.max([np.abs(part).reshape(len(part), -1).max(axis=1, initial=0.0) for part in self.parts], axis=0)
        shift = np.frexp(largest)[1]
        shift = np.where((largest > 0) & (np.abs(shift) > FAR), shift, 0)
        if not shift.any():
            return self
        return Scaled([scale_rows(part, -shift) for part in self.parts], self.exponents + shift)

    def plus(self, k: int, seed: Array) -> Scaled:
        """With a cotangent added to part k: that of a loss which reads the state at this step."""
        parts = list(self.parts)
        parts[k] = parts[k] + scale_rows(seed, -self.exponents)
        return Scaled(parts, self.exponents)


def scale_rows(array: Array, exponents: Array) -> Array:
    """Each row times 2^exponent, exactly."""
    if not exponents.any():
        return array
    rows = np.clip(exponents, -4000, 4000).reshape(-1, *[1] * (array.ndim - 1))
    return np.asarray(np.ldexp(array, rows))


def log_norms(array: Array, exponents: Any = 0) -> Array:
    """Log10 of each row's Euclidean norm; -inf for a row of zeros, inf for one beyond float64."""
    rows = np.abs(array).reshape(len(array), -1)
    peak = rows.max(axis=1, initial=0.0)
    unit = rows / np.where((peak > 0) & np.isfinite(peak), peak, 1.0)[:, None]
    with np.errstate(divide="ignore"):
        norms = np.log10(peak) + 0.5 * np.log10(np.square(unit).sum(axis=1))
    return np.asarray(norms + exponents * np.log10(2.0))


@dataclass(frozen=True)
class Reached:
    """What the backward walk has when it has pulled through a step: cotangents of whatever in it was wanted."""

    step: Step
    seeds: Scaled  # of the state after the step, from later steps and from the loss itself
    found: Mapping[Tensor, Array]  # total cotangents, of outs, leaves and named values; × 2^seeds.exponents

    def of(self, tensor: Tensor) -> Array:
        """The cotangent of a tensor; zeros where nothing arrives."""
        found = self.found.get(tensor)
        return np.zeros(tensor.shape) if found is None else found

    @property
    def before(self) -> Scaled:
        """The cotangents of the state before the step."""
        return Scaled([self.of(leaf) for leaf in self.step.leaves], self.seeds.exponents)


def pull(step: Step, seeds: Scaled, wanted: Iterable[Tensor], through: Through | None = None) -> dict[Tensor, Array]:
    """One step backwards: the engine's sweep, seeded at the state after the step."""
    cotangents = {out: g for out, g in zip(step.outs, seeds.parts, strict=True) if out.requires_grad}
    return pullback(cotangents, wanted, through) if cotangents else {}


def alone(seeds: Scaled, k: int, part: Array) -> Scaled:
    """Cotangents of the state of which all but part k are zero."""
    return Scaled(part if j == k else np.zeros_like(other) for j, other in enumerate(seeds.parts))


def pulled(step: Step, seeds: Scaled, tensor: Tensor, through: Through | None = None) -> Array:
    """What arrives at one tensor of a step; zeros if nothing does."""
    return pull(step, seeds, [tensor], through).get(tensor, np.zeros(tensor.shape))


def _with_bar(steps: range, what: str) -> Iterable[int]:
    """Steps; in a terminal with a bar, if they take more than a second."""
    if sys.stderr is None or not sys.stderr.isatty():
        return steps
    from tqdm import tqdm

    bar: Iterable[int] = tqdm(steps, desc=what, unit="step", delay=1, leave=False)
    return bar


def backwards(
    chain: Chain,
    seeds: Mapping[int, Array],
    cut: Callable[[Step], Through] | None = None,
    named: bool = True,
    also: tuple[Tensor, ...] = (),
) -> Iterator[Reached]:
    """Walk from the last step to the first, with what `seeds` gives the output at each step added on the way.

    Parameters
    ----------
    chain : Chain
    seeds : dict of int to array
        ∂L/∂output of the steps that the loss reads, each of the output's shape.
    cut : callable, optional
        Makes the `through` hook of a step; see `autodiff.pullback`.
    named : bool
        Whether the gradients of gates are wanted too.
    also : tuple of Tensor
        Parameters whose gradients are wanted.

    Raises
    ------
    GradientError
        At the first step where the gradient is not finite.
    """
    running = Scaled(np.zeros_like(part) for part in chain.states[-1])
    for t in _with_bar(range(len(chain), 0, -1), "backwards"):
        step = chain.record(t)
        if t in seeds:
            running = running.plus(chain.output, seeds[t])
        running = running.normalised()
        wanted = [*step.leaves, *step.outs, *(step.named().values() if named else ()), *also]
        with np.errstate(over="ignore", invalid="ignore"):
            reached = Reached(step, running, pull(step, running, wanted, cut and cut(step)))
        running = reached.before
        if not all(np.isfinite(part).all() for part in running.parts):
            raise GradientError(f"the gradient is not finite from step t={t} back, at lag {len(chain) - t}")
        yield reached


def carry_nodes(step: Step, k: int) -> set[Tensor]:
    """What part k of the state passes through on its way to itself if it is only carried: multiplied and added to.

    Neither a matrix nor a nonlinearity lies on that way: in an LSTM it is f × c + i × g, in a GRU z × h + ...; in a
    simple RNN there is none, and the set is empty.
    """
    forward: set[Tensor] = {step.leaves[k]}
    nodes = step.nodes
    for node in nodes:
        if node.op is not None and node.op.name in CARRYING and not forward.isdisjoint(node.operands):
            forward.add(node)
    if step.outs[k] not in forward:
        return set()
    on_way: set[Tensor | None] = {step.outs[k]}
    for node in reversed(nodes):
        if node in on_way:
            on_way.update(operand for operand in node.operands if operand in forward)
    return {node for node in on_way if node is not None}


def only(carry: set[Tensor]) -> Through:
    """A hook that lets through nothing but what is carried."""
    return lambda node, i, g: g if node in carry and node.operands[i] in carry else np.zeros_like(g)


def without(carry: set[Tensor], leaf: Tensor) -> Through:
    """A hook that cuts what is carried where it arrives at the state before the step."""
    return lambda node, i, g: np.zeros_like(g) if node in carry and node.operands[i] is leaf else g
