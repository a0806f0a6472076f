"""What the doctor looks at: one forward and one backward pass of a copy of somebody's model.

After this file the reader knows what a check may ask: the output, the loss and its graph, the tensor in which the batch
enters with its gradient, and what each recurrent part got and gave.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
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


class Pass(NamedTuple):
    """One forward pass.

    `entry` is the tensor in which the batch enters: the input, or of tokens their embedding.
    """

    output: Any
    entry: Any
    calls: dict[str, list[Call]]  # by the name of the recurrent part
    fronts: list[tuple[str, Any]]  # each nn.Linear that is given the entry itself
    dropouts: list[tuple[float, bool]]  # how much each drops, and whether it does


class _Functions(TorchFunctionMode):  # type: ignore[misc]
    """Notes dropouts, and makes zeros that a model asks for in the dtype of the model."""

    def __init__(self, dtype: Any, dropouts: list[tuple[float, bool]]) -> None:
        super().__init__()
        self.dtype, self.dropouts = dtype, dropouts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options, name = kwargs or {}, getattr(func, "__name__", "")
        if name in ("zeros", "ones", "empty", "rand", "randn"):
            options = {"dtype": self.dtype, **options}
        elif name.endswith("dropout"):
            told = {"p": 0.5, "training": True} | dict(zip(("x", "p", "training"), args, strict=False)) | options
            self.dropouts.append((float(told["p"]), bool(told["training"])))
        return func(*args, **options)


class Case:
    """A model, a batch and a loss, and one forward and backward pass of a copy in training mode."""

    def __init__(self, model: Any, loss_fn: Callable[..., Any], inputs: Any, targets: Any, optimizer: Any) -> None:
        self.own, self.loss_fn, self.targets, self.optimizer = model, loss_fn, targets, optimizer
        self.inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        self.model = copy.deepcopy(model).train()
        result, self.seen = self.run(self.model)
        self.output, self.entry, self.calls, self.fronts, self.dropouts = self.seen
        self.loss = loss_fn(result, targets)
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
        inputs, entries = list(_like(self.inputs, dtype)), []
        calls: dict[str, list[Call]] = {}
        fronts: list[tuple[str, Any]] = []
        dropouts: list[tuple[float, bool]] = []
        tokens = not inputs[0].is_floating_point()

        def enter(tensor: Any) -> Any:
            if not tensor.requires_grad:  # of an embedding that is frozen
                tensor = tensor.detach().requires_grad_()
            entries.append(change(tensor))
            return entries[-1]

        def noting(name: str) -> Callable[..., Any]:
            def note(m: Any, args: Any, kwargs: Any, out: Any) -> Any:
                if isinstance(m, nn.Linear) and args and entries and args[0] is entries[0]:
                    fronts.append((name, m))
                elif isinstance(m, RECURRENT):
                    given: list[Any] = [*args, *kwargs.values(), None]
                    x, hx = given[:2]
                    fresh = hx is None or not any(bool(part.any()) for part in tensors_of(hx))
                    bare = x.data if isinstance(x, PackedSequence) else x
                    calls.setdefault(name, []).append(Call(m, x, bare, tensors_of(out)[0], fresh))
                return enter(out) if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and tokens else None

            return note

        with ExitStack() as opened:
            if not tokens:
                inputs[0] = enter(inputs[0].detach().clone())
            for name, module in model.named_modules():
                hook = noting(name or type(module).__name__)
                opened.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
            opened.enter_context(_Functions(dtype, dropouts))
            result = model(*inputs)
        return result, Pass(tensors_of(result)[0], entries[0] if entries else None, calls, fronts, dropouts)

    def double(self) -> Any:
        """A copy in float64 and evaluation mode, for differences."""
        model = self.evaluated().double()
        for module in model.modules():  # a state that it keeps is no parameter
            vars(module).update({key: _like(value, torch.float64) for key, value in vars(module).items()})
        return model

    def evaluated(self) -> Any:
        """A copy in evaluation mode."""
        return copy.deepcopy(self.own).eval()


def _like(value: Any, dtype: Any) -> Any:
    """The tensors of a tuple in another dtype."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    return tuple(_like(part, dtype) for part in value) if type(value) is tuple else value
