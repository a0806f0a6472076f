"""`check_cell`: the whole battery on one recurrent cell, ours or yours, in one line.

After this file the reader knows what must hold for any cell that `unroll` can repeat: a state goes in and one of the
same form comes out, examples of a batch do not see each other, T steps are T calls, and every gradient is right: that
of each parameter, of the inputs, and of the first state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import ops
from ..autodiff import history
from ..nn import unroll
from ..tensor import Tensor
from .battery import (
    Report,
    contributions_add_up,
    gradients,
    random_like,
    require,
    require_close,
    run_all,
    weighted,
)
from .checker import gradcheck
from .oracles import Array
from .outcome import GradcheckError, InconclusiveError

TRIES = 8
MOST_INPUTS = 64


def check_cell(
    cell: Any,
    *,
    input_size: int | None = None,
    batch: int = 3,
    steps: int = 3,
    order: int = 2,
    skip: Collection[str] = (),
    rng: int = 0,
) -> Report:
    """Run the whole battery on a recurrent cell.

    Form of states and parameters, unrolling as composition, independence of the examples of a batch, gradients of
    parameters, inputs and states against differences through time, contributions along edges, and float32. The cell
    is left as it was.

    Parameters
    ----------
    cell : callable ``cell(x, state) -> state`` with ``parameters()`` and ``initial_state(batch)``
        Its parameters must be found in its attributes, also inside lists, dicts and other objects.
    input_size : int, optional
        Default: the cell's ``input_size``, or the first size that it accepts.
    batch, steps : int
        Size of the batch, and length of the sequence.
    order : int
        Highest order of derivatives.
    skip : collection of str
        Checks to leave out, by the names that the report uses; ``("batch",)`` for a cell that mixes its examples on
        purpose.
    rng : int
        The same number gives the same check.

    Returns
    -------
    Report

    Raises
    ------
    CheckError
        With a report of what failed.
    ValueError
        If the cell accepts no input, or its parameters are nowhere to be found in it.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.testing import check_cell
    >>> print(check_cell(tg.RNNCell(2, 3, rng=0)))
    RNNCell(2, 3): ok, 7 checks on 1 example, 104 derivatives compared
    """
    subject = _Subject(cell, input_size, batch, steps, rng)
    example = f"batch {batch}, {steps} steps, input size {subject.inputs.shape[-1]}"
    return run_all(subject.name, subject.checks(order), [example], skip)


def leaves(state: Any) -> list[Any]:
    """The tensors of a state, which is a Tensor or a tuple of states."""
    return [x for part in state for x in leaves(part)] if isinstance(state, (tuple, list)) else [state]


def rebuilt(state: Any, values: Iterator[Any]) -> Any:
    """A state of the same form with other tensors."""
    if isinstance(state, (tuple, list)):
        return tuple([rebuilt(part, values) for part in state])
    return next(values)


Place = tuple[Any, Any, int]
"""(container, key, which parameter)."""


def _places(found: Any, wanted: dict[int, int], seen: set[int]) -> Iterator[Place]:
    """Where an object, its attributes and what they contain refer to some tensors, given by their ids."""
    if id(found) in seen or isinstance(found, (Tensor, np.ndarray, str, bytes, int, float, type)):
        return
    seen.add(id(found))
    if isinstance(found, dict):
        items: Any = list(found.items())
    elif isinstance(found, (list, tuple)):
        items = list(enumerate(found))
    else:
        items = [(vars(found), None)] if hasattr(found, "__dict__") else []
        for attributes, _ in items:
            yield from _places(attributes, wanted, seen)
        return
    for key, value in items:
        if id(value) in wanted and not isinstance(found, tuple):
            yield found, key, wanted[id(value)]
        else:
            yield from _places(value, wanted, seen)


class _Subject:
    """A cell, and what it is checked on."""

    def __init__(self, cell: Any, input_size: int | None, batch: int, steps: int, rng: int) -> None:
        self.cell, self.batch, self.steps, self.rng = cell, batch, steps, rng
        # Not of `rng` alone: a cell made with the same number would have the same values, and ties by accident.
        generator = np.random.default_rng([rng, len("check_cell")])
        said = repr(cell)
        self.name = type(cell).__name__ if said.startswith("<") else said
        parameters = cell.parameters()
        if not isinstance(parameters, Mapping):
            raise ValueError(
                f"{self.name}: parameters() gives a dict of name to Tensor, not a {type(parameters).__name__}"
            )
        self.parameters: dict[str, Any] = dict(parameters)
        self.state = cell.initial_state(batch)
        self.dtype = leaves(self.state)[0].dtype
        self.inputs = generator.normal(size=(steps, batch, self.input_size(input_size)))
        # Not the initial state, which is zero as a rule: a wrong gradient times zero cannot be seen.
        self.start = [generator.normal(size=s.shape) / 2 for s in leaves(self.state)]
        wanted = {id(p): k for k, p in enumerate(self.parameters.values())}
        self.places = list(_places(cell, wanted, set()))
        if lost := set(range(len(wanted))) - {k for *_, k in self.places}:
            names = ", ".join(name for k, name in enumerate(self.parameters) if k in lost)
            raise ValueError(f"{self.name}: parameters() has {names}, but no attribute of the cell does")

    def input_size(self, given: int | None) -> int:
        """How many inputs the cell takes: as it says, or else as it accepts."""
        known = given or getattr(self.cell, "input_size", None)
        if isinstance(known, int):
            return known
        for size in range(1, MOST_INPUTS + 1):
            try:
                self.cell(Tensor(np.ones((self.batch, size), self.dtype)), self.state)
            except (ValueError, IndexError):
                continue
            return size
        raise ValueError(f"{self.name}: no input of 1 to {MOST_INPUTS} numbers is accepted: pass input_size=")

    @contextmanager
    def bound(self, values: Sequence[Tensor]) -> Iterator[None]:
        """The cell with other tensors for its parameters, for a while."""
        before = list(self.parameters.values())
        try:
            for container, key, which in self.places:
                container[key] = values[which]
            yield
        finally:
            for container, key, which in self.places:
                container[key] = before[which]

    def run(self, parameters: Sequence[Tensor], inputs: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, and the tensors of the last state."""
        with self.bound(parameters):
            outputs, last = unroll(self.cell, inputs, rebuilt(self.state, iter(state)))
        return [outputs, *leaves(last)]

    def arrays(self) -> list[Array]:
        """What is differentiated: first state, inputs, parameters; in float64 whatever the cell is in.

        States first: of a fault in the recurrence their gradients tell most.
        """
        return [*self.start, self.inputs, *(p.numpy().astype(float) for p in self.parameters.values())]

    def split(self, values: Sequence[Tensor]) -> tuple[Sequence[Tensor], Tensor, Sequence[Tensor]]:
        """Parameters, inputs, first state."""
        count = len(self.start)
        return values[count + 1 :], values[count], values[:count]

    def tensors(self, dtype: Any = float) -> list[Tensor]:
        """The same as Tensors."""
        return [Tensor(a.astype(dtype), requires_grad=True) for a in self.arrays()]

    # The checks

    def checks(self, order: int) -> dict[str, Callable[[], int | None]]:
        """The battery, in its order."""
        return {
            "form": self.form,
            "unrolling": self.unrolling,
            "batch": self.batches,
            "first order": lambda: self.gradcheck(1),
            **{f"order {k}": lambda k=k: self.gradcheck(k) for k in range(2, order + 1)},  # type: ignore[misc]
            "contributions": self.contributions,
            "float32": self.float32,
        }

    def form(self) -> None:
        """States keep their form, calls repeat, and the parameters are all that is learned, each of which matters."""
        x = Tensor(self.inputs[0].astype(self.dtype))
        first, *again = [self.cell(x, self.state) for _ in range(4)]  # a mask of few bits may well be drawn twice
        before, after = leaves(self.state), leaves(first)
        require(len(before) == len(after), "the state that comes out has another form than the initial one: "
                f"{len(after)} tensors for {len(before)}")  # fmt: skip
        for old, new, *same in zip(before, after, *map(leaves, again), strict=True):
            require(isinstance(new, Tensor), f"a state is a {type(new).__name__}, not a Tensor")
            require(old.shape == new.shape, f"a state of shape {old.shape} becomes one of shape {new.shape}")
            require(old.dtype == new.dtype, f"a state of {old.dtype} becomes one of {new.dtype}")
            repeated = all(np.array_equal(new.numpy(), other.numpy()) for other in same)
            require(repeated, "two calls with the same input and state differ: is there a random number in the cell, "
                    "or does it remember something beside the state?")  # fmt: skip
        for batch in (self.batch, self.batch + 1):  # of one batch alone, any axis of that size might be the batch
            for old in leaves(self.cell.initial_state(batch)):
                require(old.shape[:1] == (batch,), f"a state of shape {old.shape} for a batch of {batch}: "
                        "the batch is the first axis")  # fmt: skip
        for name, p in self.parameters.items():
            require(isinstance(p, Tensor) and p.requires_grad, f"parameter {name} needs no gradient")
        values = self.tensors()
        outputs = self.run(*self.split(values))
        learned = {id(node) for node in history(outputs) if node.is_leaf}
        known = {id(v) for v in values}
        strange = [node for node in history(outputs) if node.is_leaf and id(node) in learned - known]
        said = ", ".join(node.name or f"a tensor of shape {node.shape}" for node in strange)
        require(not strange, f"something that needs a gradient is used but is not in parameters(): {said}")
        loss = weighted(outputs, [random_like(np.random.default_rng(self.rng), y) for y in outputs])
        for name, g in zip(self.parameters, gradients(loss, self.split(values)[0]), strict=True):
            require(g.any(), f"parameter {name} has no influence: its gradient is zero "
                    "(is it not used, or only through .detach() or .numpy()?)")  # fmt: skip

    def unrolling(self) -> None:
        """T steps are k steps and then T - k more."""
        parameters, inputs, state = self.split(self.tensors())
        whole = self.run(parameters, inputs, state)
        middle = max(1, self.steps // 2)
        first, *between = self.run(parameters, inputs[:middle], state)
        second, *last = self.run(parameters, inputs[middle:], between) if middle < self.steps else (first[:0], *between)
        joined = np.concatenate([first.numpy(), second.numpy()])
        require_close(joined, whole[0].numpy(), 1e-12, "outputs of a sequence in one and in two parts")
        for a, b in zip(last, whole[1:], strict=True):
            require_close(a.numpy(), b.numpy(), 1e-12, "the last state after a sequence in one and in two parts")

    def batches(self) -> None:
        """Examples of a batch do not see each other, and their order does not matter."""
        parameters, inputs, state = self.split(self.tensors())
        outputs = self.run(parameters, inputs, state)[0]
        for b in range(self.batch):
            rows = slice(b, b + 1)
            self_state = [Tensor(s.numpy()[rows]) for s in state]
            alone = self.run(parameters, Tensor(inputs.numpy()[:, rows]), self_state)[0]
            what = f"outputs of example {b} alone and in a batch (if they are meant to, pass skip=('batch',))"
            require_close(alone.numpy(), outputs.numpy()[:, rows], 1e-11, what)
        weight = random_like(np.random.default_rng(self.rng), outputs.numpy())
        weight[:, 1:] = 0
        for g, what in zip(
            gradients(outputs, [inputs, *state], weight), ["input", *["state"] * len(state)], strict=True
        ):
            others = g[:, 1:] if what == "input" else g[1:]
            require(not others.any(), f"the output of example 0 has a gradient at the {what} of another example")
        order = np.random.default_rng(self.rng).permutation(self.batch)
        weight = random_like(np.random.default_rng(self.rng), outputs.numpy())
        expected = gradients(outputs, parameters, weight)
        permuted = self.run(parameters, inputs[:, order], [s[order] for s in state])[0]
        for name, g, want in zip(
            self.parameters, gradients(permuted, parameters, weight[:, order]), expected, strict=True
        ):
            require_close(g, want, 1e-11, f"the gradient of {name} and that for the batch in another order")

    def gradcheck(self, order: int) -> int:
        """All gradients through time; where a kink is in the way, other inputs are tried."""
        arrays = self.arrays()
        generator = np.random.default_rng([self.rng, len("gradcheck")])
        count = len(self.start) + 1
        for k in range(TRIES):
            try:
                return gradcheck(
                    lambda *v: self.run(*self.split(v)),
                    *arrays,
                    order=order,
                    mode="auto" if order == 1 else "direction",  # a second sweep through time for each element is slow
                    rng=self.rng,
                ).compared
            except InconclusiveError:
                if k == TRIES - 1:
                    raise
                fresh = [generator.normal(size=a.shape) for a in arrays[:count]]
                arrays = [*fresh, *arrays[count:]]
            except GradcheckError as error:
                if error.input is not None:
                    name = dict(enumerate(self.names())).get(error.input, f"cotangent {error.input - len(arrays)}")
                    error.args = (str(error).replace(f"input {error.input} (", f"{name} (", 1),)
                for note in self.cut():
                    error.add_note(note)
                raise
        raise AssertionError

    def names(self) -> list[str]:
        """What a report calls each of the `arrays`."""
        several = len(self.start) > 1
        states = [f"the first state {n}" if several else "the first state" for n in range(len(self.start))]
        return [*states, "the inputs", *self.parameters]

    def cut(self) -> Iterator[str]:
        """Where a step computes with a copy of something that it should differentiate; and rules that are not ours."""
        values = self.tensors()
        parameters, inputs, state = self.split(values)
        nodes, named = history(self.run(parameters, inputs[:1], state)), dict(zip(values, self.names(), strict=True))
        for node in nodes:
            for i, (operand, array) in enumerate(zip(node._operands, node._arrays, strict=True)):
                if (operand is None or not operand.requires_grad) and np.ndim(array) and np.any(array):
                    for copied in [n for n in (*values, *nodes) if np.array_equal(n._data, array)][:1]:
                        what = named.get(copied) or copied.name or f"a result of {copied._op and copied._op.name}"
                        where = f"operand {i} of {node._op and node._op.name}"
                        yield f"no gradient passes {where}, a copy of {what}: .detach() or .numpy()?"
        theirs = sorted({n._op.name for n in nodes if n._op is not None and n._op not in vars(ops).values()})
        if theirs:
            yield f"the cell uses {', '.join(theirs)}: check with check_primitive first"

    def contributions(self) -> None:
        """On the whole unrolled graph, every gradient is the sum of what arrives along the edges."""
        values = self.tensors()
        outputs = self.run(*self.split(values))
        weights = [random_like(np.random.default_rng(self.rng), y) for y in outputs]
        contributions_add_up(weighted(outputs, weights), values)

    def float32(self) -> None:
        """A cell of float32 computes in float32, and what float64 does to 4 digits."""
        short, wide = self.tensors(np.float32), self.tensors(float)
        ys, zs = self.run(*self.split(short)), self.run(*self.split(wide))
        weights = [random_like(np.random.default_rng(self.rng), y) for y in ys]
        for y, z in zip(ys, zs, strict=True):
            require(z.dtype == np.float64, f"parameters, inputs and states of float64 give {z.dtype}")
            require(y.dtype == np.float32, f"parameters, inputs and states of float32 give {y.dtype}")
            require_close(y.numpy(), z.numpy(), 1e-3, "results in float32 and in float64")
        wanted = gradients(weighted(zs, [w.astype(float) for w in weights]), wide)
        for g, h in zip(gradients(weighted(ys, weights), short), wanted, strict=True):
            require_close(g, h, 1e-3, "gradients in float32 and in float64")
