"""What the doctor looks at: one forward and one backward pass of a copy of somebody's model.

After this file the reader knows what a check may ask: the output, the loss and its graph, the tensor in which the batch
enters with its gradient, and what each recurrent part got and gave.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.overrides import TorchFunctionMode

from .sweep import walk
from .unrolled import RECURRENT, tensors_of


class Call(NamedTuple):
    """One call of a recurrent part: what it was given, its input and output bare of packing, how it began."""

    module: Any
    given: Any
    x: Any
    out: Any
    fresh: bool  # from a state of zeros


@dataclass
class Pass:
    """One forward pass.

    `entry` is the tensor in which the batch enters: the input, or of tokens their embedding.
    """

    output: Any = None
    entry: Any = None
    calls: dict[str, list[Call]] = field(default_factory=dict)  # by the name of the recurrent part
    fronts: list[tuple[str, Any]] = field(default_factory=list)  # each nn.Linear that is given the entry itself
    dropouts: list[tuple[float, bool]] = field(default_factory=list)  # how much each drops, and whether it does


class _Dropouts(TorchFunctionMode):  # type: ignore[misc]
    """Notes dropouts."""

    def __init__(self, found: list[tuple[float, bool]]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "").endswith("dropout"):
            given = (
                {"p": 0.5, "training": True} | dict(zip(("x", "p", "training"), args, strict=False)) | (kwargs or {})
            )
            self.found.append((float(given["p"]), bool(given["training"])))
        return func(*args, **(kwargs or {}))


def histories(model: Any) -> list[tuple[str, Any, str, Any]]:
    """The tensors with a history that the parts of a model hold: name of the part, the part, attribute, tensor."""
    held = [(name, m, key, value) for name, m in model.named_modules() for key, value in vars(m).items()]
    each = [(*at, t) for *at, value in held for t in (value if isinstance(value, (tuple, list)) else [value])]
    return [(name, m, key, t) for name, m, key, t in each if getattr(t, "grad_fn", None) is not None]


def copied(model: Any) -> Any:
    """A deep copy, also where weights are computed before each pass: PyTorch copies no tensor with a history."""
    return copy.deepcopy(model, {id(t): t.detach().clone() for *_, t in histories(model)})


class Case:
    """A model, a batch and a loss, and one forward and backward pass of a copy in training mode."""

    def __init__(self, model: Any, loss_fn: Callable[..., Any], inputs: Any, targets: Any, optimizer: Any) -> None:
        self.own, self.loss_fn, self.targets, self.optimizer = model, loss_fn, targets, optimizer
        self.inputs = inputs if type(inputs) is tuple else (inputs,)
        self.packed = isinstance(self.inputs[0], PackedSequence)
        if self.packed:
            self.inputs = (*pad_packed_sequence(self.inputs[0], batch_first=True), *self.inputs[1:])
        self.model = copied(model).train()
        result, seen = self.run(self.model)
        self.output, self.entry, self.calls = seen.output, seen.entry, seen.calls
        self.fronts, self.dropouts, self.loss = seen.fronts, seen.dropouts, loss_fn(result, targets)
        inner = [tensor for calls in self.calls.values() for call in calls for tensor in (call.x, call.out)]
        wanted = {id(t): t for t in [*self.model.parameters(), self.entry, self.output, *inner] if t is not None}
        wanted = {key: tensor for key, tensor in wanted.items() if tensor.requires_grad}
        for tensor in wanted.values():
            tensor.retain_grad()
        if self.loss.requires_grad and wanted:  # and nothing of the user's, which the loss may know of too
            self.loss.backward(retain_graph=True, inputs=list(wanted.values()))
        self.nodes = walk(self.loss.grad_fn)[::-1]  # from the loss on
        modules = [(name or type(m).__name__, m) for name, m in self.model.named_modules()]
        self.recurrent = [(name, m) for name, m in modules if isinstance(m, RECURRENT)]
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
        inputs, seen = list(_like(self.inputs, dtype)), Pass()
        tokens = not inputs[0].is_floating_point()

        def enter(tensor: Any) -> Any:
            if not tensor.requires_grad:  # of an embedding that is frozen
                tensor = tensor.detach().requires_grad_()
            tensor = change(tensor)
            seen.entry = tensor if seen.entry is None else seen.entry
            return tensor

        def noting(name: str) -> Callable[..., Any]:
            def note(m: Any, args: Any, kwargs: Any, out: Any) -> Any:
                if isinstance(m, nn.Linear) and args and args[0] is seen.entry:
                    seen.fronts.append((name, m))
                elif isinstance(m, RECURRENT):
                    given: list[Any] = [*args, *kwargs.values(), None]
                    fresh = given[1] is None or not any(bool(part.any()) for part in tensors_of(given[1]))
                    call = Call(m, given[0], tensors_of(given[0])[0], tensors_of(out)[0], fresh)
                    seen.calls.setdefault(name, []).append(call)
                return (
                    enter(out)
                    if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and tokens and not self.packed
                    else None
                )

            return note

        with ExitStack() as opened:
            if not tokens:
                inputs[0] = enter(inputs[0].detach().clone())
            for name, module in model.named_modules():
                hook = noting(name or type(module).__name__)
                opened.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
            opened.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(dtype)  # of zeros that a model makes
            opened.enter_context(_Dropouts(seen.dropouts))
            if self.packed:
                x, lengths, *inputs = inputs
                inputs.insert(0, pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
            result = model(*inputs)
        told = pad_packed_sequence(result, batch_first=True) if isinstance(result, PackedSequence) else result
        if not (found := tensors_of(told)):
            raise TypeError(f"the model returns no tensor, but {type(result).__name__}: wrap it in one that does")
        seen.output = found[0]
        return result, seen

    def double(self) -> Any:
        """A copy in float64 and evaluation mode, for differences."""
        model = self.evaluated().double()
        for module in model.modules():  # a state that it keeps is no parameter
            vars(module).update({key: _like(value, torch.float64) for key, value in vars(module).items()})
        return model

    def evaluated(self) -> Any:
        """A copy in evaluation mode."""
        return copied(self.own).eval()


def _like(value: Any, dtype: Any) -> Any:
    """The tensors of a tuple in another dtype."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    return tuple(_like(part, dtype) for part in value) if type(value) is tuple else value
