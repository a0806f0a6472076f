"""Run: a training run as it stands, one step, and its checkpoint.

After this file the reader knows everything that a step of training depends on: parameters, what the optimiser
remembers, the generators, the number of the step, the state that is carried over. Whoever saves all of it can be killed
and goes on as if nothing had happened, bit for bit.
"""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from ..nn.state import parts_of, state_of
from ..nn.unroll import detach
from ..nn.weights import load, save
from ..scope import no_grad
from ..tensor import Tensor, raw
from .history import History
from .optimisers import Optimiser, clip_grad_norm, clip_grad_value, grad_norm
from .origin import Diverged, origin
from .tasks import Batch, Task

Gradients = Callable[[Batch, Any], tuple[float, Any]]
"""``(batch, state) -> (loss, state)``, which leaves the gradients in the parameters' ``.grad``."""


@dataclass
class Run:
    """A training run as it stands, which is what callbacks are given; they may look at all of it.

    Attributes
    ----------
    model, task, optimiser
        As given to `fit`.
    rng : numpy.random.Generator
        Draws the batches.
    history : History
    settings : dict
        What else `fit` was told and the numbers depend on.
    step : int
        Steps done.
    state : Any
        Of the model after the last batch, without history.
    gradients_by : str
        With `derived`, what computes the gradients, once the first batch has decided.
    """

    model: Any
    task: Task
    optimiser: Optimiser
    rng: np.random.Generator
    history: History
    settings: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    state: Any = None
    gradients_by: str = ""

    @property
    def loss(self) -> float:
        """The loss of the last step; NaN before the first."""
        return self.history.losses[-1] if self.history.losses else math.nan

    def train_step(self, derived: Gradients | None = None) -> None:
        """One batch, forward and back, and one update.

        Raises
        ------
        Diverged
            If the loss or a gradient is not finite; the parameters are then those before the step.
        """
        number, settings = self.step + 1, self.settings
        batch = self.task.batch(self.rng, settings["batch_size"], number)
        first = None if self.task.fresh(number) else self.state
        before = [generator.bit_generator.state for _, generator in generators(self.model)]
        self.optimiser.zero_grad()
        loss, state = (derived or self.by_engine)(batch, first)
        norm = grad_norm(self.optimiser.parameters)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            for (_, generator), old in zip(generators(self.model), before, strict=True):
                generator.bit_generator.state = old  # so that dropout drops the same again
            raise self._diverged(self.forward(batch, first)[0])  # the same step again, watched
        if settings["clip_norm"] is not None:
            clip_grad_norm(self.optimiser.parameters, settings["clip_norm"])
        if settings["clip_value"] is not None:
            clip_grad_value(self.optimiser.parameters, settings["clip_value"])
        self.optimiser.step()
        self.step, self.state = number, detach(state)
        self.history.losses.append(loss)
        self.history.norms.append(norm)

    def forward(self, batch: Batch, state: Any) -> tuple[Tensor, Any]:
        """The loss of a batch, with its graph, and the state after it."""
        window = self.settings["window"]
        outputs, state = self.model(batch[0], state, **({} if window is None else {"window": window}))
        return self.task.loss(outputs, batch[1]), state

    def by_engine(self, batch: Batch, state: Any) -> tuple[float, Any]:
        """The loss and the state after the batch; leaves the gradients in the parameters' ``.grad``."""
        loss, state = self.forward(batch, state)
        value = float(loss.item())
        if not math.isfinite(value):
            raise self._diverged(loss)
        loss.backward(retain_graph=False)
        return value, state

    def _diverged(self, loss: Tensor) -> Diverged:
        """Where what is not finite began in the step that was to be done."""
        error = origin(self.step + 1, loss, self.optimiser.parameters)
        error.history = self.history
        return error

    def look(self) -> None:
        """Add the task's metric to the history."""
        self.history.metrics.append((self.step, self.evaluate()))

    def evaluate(self) -> float:
        """The task's metric on its test sequences, without dropout, without a graph."""
        inputs, targets = self.task.test_batch()
        training = getattr(self.model, "training", None)
        if training:
            self.model.eval()
        with no_grad():
            outputs, _ = self.model(inputs)
        if training:
            self.model.train()
        return self.task.metric(np.asarray(raw(outputs)), targets)

    # --- checkpoints ---

    def identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on where another stopped."""
        inputs, _ = self.task.test_batch()
        return {
            "task": repr(self.task),
            "its data": zlib.crc32(np.ascontiguousarray(inputs).tobytes()),
            "model": repr(self.model),
            "parameters": {name: f"{p.dtype} {p.shape}" for name, p in self.optimiser.parameters.items()},
            "optimiser": repr(self.optimiser).replace(f"lr={self.optimiser.lr}, ", ""),
            **self.settings,
        }

    def save(self, path: str | PathLike[str]) -> None:
        """Write a checkpoint, whole or not at all: an .npz file of plain arrays."""
        states = () if self.state is None else parts_of(self.state)
        history = self.history.to_dict()
        long = {name: np.array(history.pop(name), np.float64) for name in ("losses", "norms")}
        about = {
            "step": self.step,
            "identity": self.identity(),
            "rng": [generator.bit_generator.state for _, generator in self._generators()],
            "history": history,
            "state": state_of(itertools.repeat(None), self.state),
            "gradients by": self.gradients_by,
        }
        text = json.dumps(about, default=lambda numbers: numbers.tolist()).encode()  # of NumPy's, in some generators
        arrays = {f"model/{name}": np.array(p.data) for name, p in self.optimiser.parameters.items()}
        arrays |= {f"optimiser/{name}": array for name, array in self.optimiser.state_dict().items()}
        arrays |= {f"state/{k}": np.array(raw(state)) for k, state in enumerate(states)}
        arrays |= {f"history/{name}": array for name, array in long.items()}
        save(path, arrays | {"about": np.frombuffer(text, np.uint8)})

    def load(self, path: str | PathLike[str]) -> None:
        """Go on where a checkpoint was written.

        Raises
        ------
        ValueError
            If it is damaged, or belongs to another run: the message lists what differs.
        """
        arrays = load(path)
        try:
            about = json.loads(arrays.pop("about").tobytes().decode("utf-8"))
            parts: dict[str, dict[str, Any]] = {"model": {}, "optimiser": {}, "state": {}, "history": {}}
            for key, array in arrays.items():
                part, _, name = key.partition("/")
                parts[part][name] = array
            long = {name: array.tolist() for name, array in parts["history"].items()}
            history, step, theirs = History.from_dict(about["history"] | long), int(about["step"]), about["identity"]
            states, seen = [Tensor(a) for a in parts["state"].values()], about["rng"]
            form = _tuples(about["state"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no checkpoint of a training run: {error!r}") from error
        ours = json.loads(json.dumps(self.identity()))
        differ = [
            f"{name} was {theirs.get(name)!r}, now {now!r}" for name, now in ours.items() if theirs.get(name) != now
        ]
        own = self.optimiser.parameters
        if differ:
            raise ValueError(f"{path} belongs to another run: {'; '.join(differ)}")
        try:
            fits = {name: own[name].data.shape == array.shape for name, array in parts["model"].items()}
            if fits.keys() != own.keys() or not all(fits.values()):
                raise ValueError("the parameters do not fit")
            fresh = [type(generator.bit_generator)() for _, generator in self._generators()]
            for bits, told in zip(fresh, seen, strict=True):
                bits.state = told  # whether it fits is seen before anything is changed
            state = state_of(states, form) if states else None
            self.optimiser.load_state_dict(parts["optimiser"])
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is no checkpoint of this run: {error!r}") from error
        for (_, generator), bits in zip(self._generators(), fresh, strict=True):
            generator.bit_generator.state = bits.state
        for name, array in parts["model"].items():
            own[name].data = array
        self.history, self.step = history, step
        # A shorter run looked at its last step out of turn; one that goes on would not have.
        every = self.settings["evaluate_every"]
        history.metrics = [(at, value) for at, value in history.metrics if at % every == 0]
        self.state, self.gradients_by = state, about.get("gradients by", "")

    def _generators(self) -> list[tuple[str, np.random.Generator]]:
        return [("batches", self.rng), *generators(self.model)]


def updates_of(arrays: Mapping[str, Any]) -> int | None:
    """After how many updates a file of arrays was written; None if it is no checkpoint of a run."""
    losses = arrays.get("history/losses") if "about" in arrays else None
    return None if losses is None else len(losses)


def generators(model: Any, path: str = "") -> Iterator[tuple[str, np.random.Generator]]:
    """The random generators among a model's attributes, and those of its parts: dropout draws from them."""
    for name, value in getattr(model, "__dict__", {}).items():
        if isinstance(value, np.random.Generator):
            yield f"{path}{name}", value
        elif hasattr(value, "parameters"):
            yield from generators(value, f"{path}{name}.")


def _tuples(form: Any) -> Any:
    """The form of a state as JSON keeps it, in tuples again."""
    return tuple(map(_tuples, form)) if isinstance(form, list) else None
