"""What the doctor looks at: one forward and one backward pass of a copy of somebody's model.

After this file the reader knows what a check may ask: the output, the loss and its graph, the tensor in which the batch
enters with its gradient, and what each recurrent part got and gave.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.overrides import TorchFunctionMode

from .sweep import walk
from .unrolled import RECURRENT, named_modules, tensors_of


class Call(NamedTuple):
    """One call of a recurrent part: what it was given, its input and output bare of packing, how it began."""

    module: Any
    given: Any
    x: Any
    out: Any
    fresh: bool  # from a state of zeros


@dataclass
class Pass(TorchFunctionMode):  # type: ignore[misc]
    """One forward pass, which as a mode of PyTorch's notes dropouts: how much each drops, and whether it does.

    `entry` is the tensor in which the batch enters: the input, or of tokens the first embedding that takes them.
    """

    output: Any = None
    entry: Any = None
    calls: dict[str, list[Call]] = field(default_factory=dict)  # by the name of the recurrent part
    fronts: list[tuple[str, Any]] = field(default_factory=list)  # each nn.Linear that is given the entry itself
    dropouts: list[tuple[float, bool]] = field(default_factory=list)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "").endswith("dropout"):
            given = dict(zip(("x", "p", "training"), args, strict=False)) | (kwargs or {})
            self.dropouts.append((float(given.get("p", 0.5)), bool(given.get("training", True))))
        return func(*args, **(kwargs or {}))


def histories(model: Any) -> list[tuple[str, Any, str, Any]]:
    """The tensors with a history that the parts of a model hold: name of the part, the part, attribute, tensor."""
    parts = [(name, m, vars(m) | m._buffers) for name, m in named_modules(model)]
    held = [(name, m, key, t) for name, m, values in parts for key, v in values.items() for t in tensors_of(v)]
    return [(name, m, key, t) for name, m, key, t in held if t.grad_fn is not None]


def copied(model: Any) -> Any:
    """A deep copy, also where weights are computed before each pass: PyTorch copies no tensor with a history."""
    return copy.deepcopy(model, {id(t): t.detach().clone() for *_, t in histories(model)})


class Case:
    """A model, a batch and a loss, and one forward and backward pass of a copy in training mode."""

    def __init__(self, model: Any, loss_fn: Callable[..., Any], inputs: Any, targets: Any, optimizer: Any) -> None:
        self.own, self.loss_fn, self.targets, self.optimizer = model, loss_fn, targets, optimizer
        self.inputs = inputs if type(inputs) is tuple and inputs else (inputs,)
        self.packed = isinstance(self.inputs[0], PackedSequence)
        if not self.packed and not isinstance(self.inputs[0], torch.Tensor):
            what = f"inputs are a tensor or a tuple that begins with one, not {type(self.inputs[0]).__name__}"
            raise TypeError(f"{what}: wrap the model in one that takes such")
        if self.packed:
            self.inputs = (*pad_packed_sequence(self.inputs[0], batch_first=True), *self.inputs[1:])
        self.model = copied(model).train()
        self.result, seen = self.run(self.model)
        self.output, self.entry, self.calls = seen.output, seen.entry, seen.calls
        self.fronts, self.dropouts, self.loss = seen.fronts, seen.dropouts, loss_fn(self.result, targets)
        if not isinstance(self.loss, torch.Tensor) or self.loss.numel() != 1:
            what = str(tuple(self.loss.shape)) if isinstance(self.loss, torch.Tensor) else type(self.loss).__name__
            raise TypeError(f"the loss is a tensor of one number, such as a mean, not {what}")
        inner = [tensor for calls in self.calls.values() for call in calls for tensor in (call.x, call.out)]
        known = [*self.model.parameters(), self.entry, self.output, *inner]
        wanted = {id(t): t for t in known if t is not None and t.requires_grad}
        for tensor in wanted.values():
            tensor.retain_grad()
        if self.loss.requires_grad and wanted:  # and nothing of the user's, which the loss may know of too
            self.loss.backward(retain_graph=True, inputs=list(wanted.values()))
        self.nodes = walk(self.loss.grad_fn)[::-1]  # from the loss on
        self.recurrent = [(name, m) for name, m in named_modules(self.model) if isinstance(m, RECURRENT)]
        self.stacks = {name: calls[0] for name, calls in self.calls.items() if isinstance(calls[0].module, nn.RNNBase)}

    @property
    def batch_axis(self) -> int:
        """Which axis of the entry counts the sequences."""
        if self.entry is None or self.output.shape[:2] == self.entry.shape[:2]:  # an output at every step
            return int(any(not call.module.batch_first for call in self.stacks.values()))
        return int(self.output.shape[:1] != self.entry.shape[:1])

    def run(self, model: Any, change: Callable[[Any], Any] = lambda entry: entry) -> tuple[Any, Pass]:
        """Run a copy: what it returns, and the pass; `change` makes another entry of the one that there is."""
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
        inputs, seen = list(as_dtype(self.inputs, dtype)), Pass()
        inputs[0] = given = inputs[0].detach().clone()  # whose memory is its own: views of it are made from it
        tokens = not given.is_floating_point()

        def enter(tensor: Any) -> Any:
            if not tensor.requires_grad:  # of an embedding that is frozen
                tensor = tensor.detach().requires_grad_()
            seen.entry = change(tensor)
            return seen.entry

        def note(name: str, m: Any, args: Any, kwargs: Any, out: Any) -> Any:
            if isinstance(m, nn.Linear) and args and args[0] is seen.entry:
                seen.fronts.append((name, m))
            elif isinstance(m, RECURRENT):
                taken: list[Any] = [*args, *kwargs.values(), None]
                fresh = not any(bool(part.any()) for part in tensors_of(taken[1]))
                call = Call(m, taken[0], tensors_of(taken[0])[0], tensors_of(out)[0], fresh)
                seen.calls.setdefault(name, []).append(call)
            elif isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and tokens and seen.entry is None and not self.packed:
                memory = [t.untyped_storage().data_ptr() for t in ([*args, *kwargs.values()][0], given)]
                return enter(out) if memory[0] == memory[1] else None  # and not of positions, or of other inputs
            return None

        with ExitStack() as opened:
            if not tokens:
                inputs[0] = enter(given)
            for name, module in named_modules(model):
                opened.callback(module.register_forward_hook(partial(note, name), with_kwargs=True).remove)
            opened.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(dtype)  # of zeros that a model makes
            opened.enter_context(seen)
            if self.packed:
                inputs[:2] = [pack_padded_sequence(*inputs[:2], batch_first=True, enforce_sorted=False)]
            result = model(*inputs)
        told = pad_packed_sequence(result, batch_first=True) if isinstance(result, PackedSequence) else result
        if not (found := tensors_of(told)):
            raise TypeError(f"the model returns no tensor, but {type(result).__name__}: wrap it in one that does")
        seen.output = found[0]
        return result, seen


def as_dtype(value: Any, dtype: Any) -> Any:
    """The tensors of tuples, lists and dictionaries in another dtype; all else as it is."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if type(value) is dict:
        return {key: as_dtype(part, dtype) for key, part in value.items()}
    return type(value)(as_dtype(part, dtype) for part in value) if type(value) in (tuple, list) else value
