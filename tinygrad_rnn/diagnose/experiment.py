"""The experiment: a model, its inputs, and the loss that is read, run in float64 on a copy.

After this file the reader knows what is measured: the loss is v·h at the last step alone, v a random unit vector,
unless told otherwise, and each sequence is measured on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import generator, lengths_of, numbers, refusal, whole
from ..autodiff import history, pullback
from ..files import Brief
from ..functions import sum, transpose
from ..nn.cells import CELLS
from ..nn.sequences import in_one_array
from ..nn.stacks import Stack, run_sequence, where_running
from ..nn.state import parts_of, state_of
from ..scope import no_grad, recorded
from ..tensor import GradientError, Tensor, as_array, raw
from .chain import Array, Chain, batched, in_float64, is_chain, place, sequences_of

Loss = str | Callable[[Tensor], Tensor]
NAMED = ("last", "all")
NO_DIRECTION = "direction= is v of the losses 'last' and 'all': a loss of your own has none"


@dataclass(frozen=True, repr=False)
class Experiment(Brief):
    """What is measured.

    Attributes
    ----------
    model : cell, RNN, LSTM, GRU, Module, or a loss Tensor of a network that is unrolled already
    inputs : array
        Of shape (T, B, I) for a cell or a stack; for a `Module` whatever it takes.
    loss : {"last", "all"} or callable
    state : optional
        Before the first step, as the model takes it.
    v : array or int
        The direction of the losses "last" and "all", or the seed that draws it.
    read, lag : int, optional
        The step, counted from 1, from which the verdict looks back, and how far the task needs to look.
    lengths : array of int, shape (B,), optional
        Of a cell or a stack: how long each of B padded sequences is.
    told : bool
        Whether lengths are an argument of one's own, and not those of a list or a PackedSequence.
    """

    model: Any
    inputs: Any = None
    loss: Loss = "last"
    state: Any = None
    v: Any = 0
    read: int | None = None
    lag: int | None = None
    lengths: Any = None
    told: bool = True

    def __post_init__(self) -> None:
        if any(base.__module__.startswith("torch.") for base in type(self.model).__mro__):
            raise TypeError("a PyTorch module: give nn.from_torch(module), or its model to tinygrad_rnn.torch.doctor")

    @property
    def is_module(self) -> bool:
        """Whether the model is neither a cell nor a stack, so that only it knows what its inputs and outputs are."""
        return not isinstance(self.model, (Stack, Tensor)) and not callable(getattr(self.model, "initial_state", None))

    @property
    def batch_first(self) -> bool:
        """Whether recurrent layers of a Module have the sequences before the steps."""
        return self.is_module and any(getattr(layer, "batch_first", False) for layer in layers_of(self.model))

    @property
    def is_chain(self) -> bool:
        """Whether it is one step, repeated, with sequences of one length."""
        return self.lengths is None and not isinstance(self.model, Tensor) and is_chain(self.model)

    def cut(self, steps: int) -> Experiment:
        """The first steps alone, read at the last of them."""
        lengths = None if self.lengths is None else np.minimum(self.lengths, steps)
        return replace(self, inputs=self.inputs[:steps], lengths=lengths, loss="last", read=None)

    def few(self, sequences: int) -> Experiment:
        """The first sequences alone, where nothing else has to be cut with them."""
        whole = self.state is not None or self.lengths is not None or callable(self.loss) or self.is_module
        return self if whole else replace(self, inputs=self.inputs[:, :sequences])

    @recorded()
    def value(self) -> Tensor:
        """The loss, with its graph, also inside `no_grad`.

        Raises
        ------
        ValueError
            If the loss is a function that does not give one number.
        """
        if isinstance(self.model, Tensor):
            return self.model
        outputs, last = self._outputs()
        if callable(self.loss):
            return one_number(self.loss(outputs))
        if self.read is not None and (outputs.ndim > 2 or not self.is_module):
            last = outputs[check_read(self.read, len(outputs)) - 1]
        read: Tensor = outputs if self.loss == "all" else last
        return one_number(sum(read * unit(self.v, last.shape[-1:])))

    @no_grad()
    def direction(self) -> Array:
        """v, of which the network knows how wide it is.

        Raises
        ------
        ValueError
            If the loss has none.
        """
        if isinstance(self.model, Tensor) or callable(self.loss):
            raise ValueError(NO_DIRECTION)
        return unit(self.v, self._outputs()[1].shape[-1:])

    def _outputs(self) -> tuple[Any, Any]:
        """What the model gives, with the steps first, and the last of it; of a Module, only one's own loss knows."""
        if not self.is_module:
            return self._run(in_float64(self.model, gradients=True))
        result = self._result()
        if callable(self.loss):
            return result, result
        if not isinstance(result, Tensor):
            raise ValueError(
                f"{name_of(self.model)} returns {type(result).__name__}: give loss=, which makes it a number"
            )
        if result.ndim < 3:
            return result, result
        outputs = transpose(result, (1, 0, *range(2, result.ndim))) if self._axis(result) else result
        return outputs, outputs[-1]

    @np.errstate(over="ignore", invalid="ignore")  # the verdict says it
    def _result(self) -> Any:
        """Whatever a Module returns."""
        given = (self.inputs,) if self.state is None else (self.inputs, self.state)
        return in_float64(self.model, gradients=True)(*given)

    def _axis(self, outputs: Tensor) -> int:
        """Which axis of a Module's outputs are the steps: that with as many as were run, or as its layers have them."""
        run = {place(node.scope)[0] for node in history([outputs])} - {None}
        fits = [axis for axis in (0, 1) if outputs.ndim > 2 and outputs.shape[axis] == len(run)]
        if len(fits) > 1 and self.batch_first:
            size = " × ".join(map(str, outputs.shape))
            raise ValueError(f"outputs of {size}: which axis are the {len(run)} steps? Give loss=, a function of them")
        return fits[0] if len(fits) == 1 else int(self.batch_first)

    def _run(self, model: Any) -> tuple[Tensor, Tensor]:
        """All outputs of a cell or a stack, and what is known at the end; the first state is followed as the others."""
        state = batched(self.state, model, self.inputs.shape[1])
        if isinstance(model, Stack):
            model.batch_first = False  # as the inputs here
            return run_sequence(model, self.inputs, state, lengths=self.lengths)[:2]
        state = model.initial_state(self.inputs.shape[1]) if state is None else state
        state = state_of([Tensor(a, requires_grad=a.dtype.kind == "f") for a in map(as_array, parts_of(state))], state)
        return run_sequence(model if self.lengths is None else _Ending(model, self.lengths), self.inputs, state)[:2]

    def seeds(self, chain: Chain) -> Mapping[int, Array]:
        """∂L/∂output at the steps that the loss reads, for a chain of steps."""
        shape = chain.first[chain.output].shape
        if not callable(self.loss):
            last = np.broadcast_to(unit(self.v, shape[1:]), shape)
            reads = range(1, len(chain) + 1) if self.loss == "all" else [self.read or len(chain)]
            return dict.fromkeys(reads, last)
        array = np.stack([state[chain.output] for state in chain.states[1:]])
        outputs = Tensor(array, requires_grad=True, name="outputs")
        value = one_number(self.loss(outputs))
        if not math.isfinite(value.item()):
            raise GradientError(f"the loss is {value.item()}, so no gradient is finite")
        if not value.requires_grad:
            return {}
        found = pullback({value: np.ones(value.shape)}, [outputs]).get(outputs, np.zeros(outputs.shape))
        return {t + 1: g for t, g in enumerate(found) if g.any()}

    @recorded()
    def describe(self) -> str:
        """The loss in words."""
        if isinstance(self.model, Tensor):
            return "L = yours"
        if callable(self.loss):
            return f"L = {getattr(self.loss, '__name__', 'yours')}"
        v = f"v {'as given' if isinstance(self.v, np.ndarray) else 'a random unit vector'}"
        if self.is_module:  # which alone knows what its axes are: so it is told what was read
            step = ":, " * self._axis(self._result()) + str((self.read or 0) - 1)
            read = f"the output, or its [{step}] where it has 3 axes or more" if self.loss == "last" else "all outputs"
            return f"L = {'Σ ' * (self.loss == 'all')}v·y, {v}, y {read}"
        each = ["direction"] * getattr(self.model, "bidirectional", False) + ["sequence"] * (self.lengths is not None)
        last = "at the last step" + f" of each {' and '.join(each)}" * bool(each)
        step = last if self.read is None else f"at step {self.read}"
        return f"L = v·h {step}, {v}" if self.loss == "last" else f"L = Σ v·h over all steps, {v}"


def experiment_of(
    model: Any, inputs: Any, loss: Loss, *, state: Any, direction: ArrayLike | None, rng: Any, **looks: Any
) -> Experiment:
    """An experiment whose parts fit together.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that does not.
    """
    drawn = generator("rng", rng)
    # A number, so that v is always the same.
    seed = int(rng) if isinstance(rng, (int, np.integer)) else int(drawn.integers(2**32))
    for name, least in (("read", 1), ("lag", 1)):
        if looks[name] is not None:
            looks[name] = whole(name, looks[name], least)
    if not callable(loss) and loss not in NAMED:
        raise refusal("loss", loss, "'last', 'all', or a function of the outputs")
    if callable(loss) and direction is not None:
        raise ValueError(NO_DIRECTION)
    if isinstance(model, Tensor):
        given = {"inputs": inputs, "loss": None if loss == "last" else loss, "state": state, "direction": direction}
        if told := [name for name, value in (given | {"lengths": looks["lengths"]}).items() if value is not None]:
            raise TypeError(f"{', '.join(told)}: only for a network that is still to be unrolled; a loss has been")
        return Experiment(one_number(model), **looks)
    if inputs is None:
        raise TypeError("give the inputs too, an array of shape (T, B, I)")
    if looks["lengths"] is None:
        inputs, looks["lengths"] = in_one_array(inputs, getattr(model, "batch_first", False))
        looks["told"] = looks["lengths"] is None
    found = Experiment(model, inputs, loss, state, **looks)
    if looks["lengths"] is not None:
        inputs, lengths = _padded(found)
        found = replace(found, lengths=lengths)
    if not found.is_module:
        found = replace(found, inputs=sequences_of(inputs, model))
        if looks["read"] is not None:
            check_read(looks["read"], len(found.inputs))
        last = looks["read"] or len(found.inputs)
        if looks["lag"] is not None and looks["lag"] >= last > 1:
            raise ValueError(f"lag={looks['lag']}: no step lies so far before step {last}: at most {last - 1}")
    elif isinstance(a := raw(inputs), np.ndarray) and a.dtype.kind == "f" and not np.isfinite(a).all():
        raise ValueError("the inputs are not finite")
    check_finite(model)
    if direction is not None:
        direction = numbers("direction", as_array(direction), np.shape(direction)).astype(np.float64)
    return replace(found, v=seed if direction is None else direction)


def check_read(read: int, steps: int) -> int:
    """The step to look back from, if there are so many."""
    if read > steps:
        raise ValueError(f"read={read}: there are {steps} steps: take one from 1 to {steps}")
    return read


def _padded(experiment: Experiment) -> tuple[Array, Array]:
    """Inputs in which padding is zero, since it may hold anything, and how long each sequence is."""
    array, lengths = as_array(experiment.inputs), experiment.lengths
    if array.ndim != 3 or experiment.is_module:
        raise refusal("lengths", lengths, "them to a cell or a stack, and inputs with an axis of sequences")
    time = int(getattr(experiment.model, "batch_first", False))
    lengths = lengths_of(lengths, array.shape[1 - time], array.shape[time])
    running = np.arange(array.shape[time])[:, None] < lengths
    return np.where((running.T if time else running)[..., None], array, 0.0), lengths


class _Ending:
    """A cell that leaves the state of a sequence as it is once that has ended."""

    def __init__(self, cell: Any, lengths: Array) -> None:
        self.cell, self.lengths, self.t = cell, lengths, 0
        self.parameters = cell.parameters

    def __call__(self, x: Any, state: Any) -> Any:
        self.t += 1
        after, running = self.cell(x, state), self.t <= self.lengths
        return after if running.all() else state_of(where_running(running, parts_of(after), parts_of(state)), after)


class NotFinite(GradientError):
    """A parameter is not finite: training has lost the network."""


def check_finite(model: Any) -> None:
    """Refuse a network that training has destroyed.

    Raises
    ------
    NotFinite
        If a parameter is not, naming it.
    """
    for name, tensor in model.parameters().items():
        if broken := int((~np.isfinite(tensor.data)).sum()):
            raise NotFinite(
                f"{name} holds {broken} of {tensor.size} numbers that are not finite: this network is lost, "
                "go back to a checkpoint before it"
            )


def unit(v: Any, shape: tuple[int, ...]) -> Array:
    """v as given, or a random unit vector, so that the loss favours no unit and ∂L/∂h_T has norm 1."""
    if isinstance(v, np.ndarray):
        if v.shape != shape:
            raise ValueError(f"direction of shape {v.shape} for a state of shape {shape}")
        return v
    drawn = np.random.default_rng(v).standard_normal(shape)
    return np.asarray(drawn / np.linalg.norm(drawn))


def one_number(value: Any) -> Tensor:
    """The loss, if it is one number."""
    if getattr(value, "size", 0) != 1 or not hasattr(value, "backward"):
        raise ValueError("the loss must give a Tensor with one number: reduce it with sum() or mean()")
    found: Tensor = value
    return found


def layers_of(model: Any, seen: set[int] | None = None) -> list[Any]:
    """The cells and stacks of a model, the lowest first, wherever they are."""
    seen = set() if seen is None else seen
    if id(model) in seen:
        return []
    seen.add(id(model))
    if isinstance(model, Stack) or callable(getattr(model, "initial_state", None)):
        return [model]
    own = [part for name, part in getattr(model, "__dict__", {}).items() if not name.startswith("_")]
    inside = model.values() if isinstance(model, Mapping) else model if isinstance(model, (list, tuple)) else ()
    parts = [p for p in (*inside, *own) if hasattr(p, "parameters") or isinstance(p, (list, tuple, Mapping))]
    return [layer for part in parts for layer in layers_of(part, seen)]


def cells_of(model: Any) -> list[Any]:
    """The cells of a model, the lowest layer first."""
    layers = layers_of(model)
    return [cell for layer in layers for cell in (layer._cells.values() if isinstance(layer, Stack) else [layer])]


def name_of(model: Any) -> str:
    """What a model is called: its repr, or its class, where the repr tells no more than where in memory it lies."""
    said = repr(model)
    return type(model).__name__ if said == object.__repr__(model) else said


def is_ours(model: Any) -> bool:
    """Whether all recurrent cells of a model are the package's, whose default initialisation is known."""
    cells = cells_of(model)
    return bool(cells) and all(isinstance(cell, CELLS) for cell in cells)
