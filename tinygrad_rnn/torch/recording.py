"""Watching a PyTorch model's forward pass: what each operation had, in which module, time step and gate.

After this file the reader knows how the backward graph gets its values: every operation that makes a node of it passes
the recording with its operands still knowing which node made them, so that nothing has to be matched by guess.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode

from ..graph import GradientGraph
from ..scope import current
from .build import graph_of
from .seen import Operation, Seen
from .stepwise import Stepwise
from .unrolled import RECURRENT


class record(TorchDispatchMode):  # type: ignore[misc]
    """Watch a forward pass: ``with record(model) as run: loss = ...``, then ``run.graph(loss)``.

    Inside, fused recurrent kernels are off, so that PyTorch itself makes one node per operation and step, and whatever
    `torch.compile` has compiled runs as it was before. Neither ``.grad`` nor the graph of the loss is changed, and
    `backward` works afterwards.

    Parameters
    ----------
    model : torch.nn.Module, optional
        Its parameters, buffers and modules give the graph their names.
    names : dict of str to torch.Tensor, optional
        Names for tensors of yours, such as ``{"x": x}``.

    Attributes
    ----------
    residual : float
        After `graph`: by how much the contributions that leave a tensor, summed, differ from PyTorch's gradient at it,
        relative to the largest element; the worst tensor counts.
    unrolled : float
        By how much unrolled recurrent modules differed from PyTorch's kernels, in the same measure.

    Examples
    --------
    >>> import torch
    >>> from tinygrad_rnn.torch import record
    >>> _ = torch.manual_seed(0)
    >>> lstm = torch.nn.LSTM(3, 4)
    >>> x = torch.randn(6, 2, 3)
    >>> with record(lstm, names={"x": x}) as run:
    ...     output, (h, c) = lstm(x)
    ...     loss = h.square().mean()
    >>> graph = run.graph(loss)
    >>> graph.node_of(lstm.weight_hh_l0).shape, len(list(graph.edges_from(graph.node_of(lstm.weight_hh_l0))))
    ((16, 4), 6)
    """

    def __init__(self, model: Any = None, names: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        model, self.residual = torch.nn.Module() if model is None else model, 0.0
        self.seen = Seen(names={id(tensor): name for name, tensor in (names or {}).items()})
        every = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        for name, tensor in every:  # a shared weight has all its names
            before, name = self.seen.names.get(id(tensor)), _original(name)
            self.seen.names[id(tensor)] = f"{before} = {name}" if before else name
        modules = list(model.modules())
        self.seen.kept += [modules, every, *(names or {}).values()]
        self._paths = {id(module): _original(name) for name, module in model.named_modules()}
        self._steps = Stepwise(self._note, self._paths, modules)
        self._modules: list[str] = []

    @property
    def unrolled(self) -> float:
        """See the class."""
        return self._steps.worst

    def __enter__(self) -> record:
        with ExitStack() as opened:
            opened.enter_context(self._steps)
            _run_uncompiled(opened)
            self._thread, self._next = threading.get_ident(), torch.autograd._get_sequence_nr()
            opened.callback(hooks.register_module_forward_pre_hook(self._enter).remove)
            opened.callback(hooks.register_module_forward_hook(self._leave, always_call=True).remove)
            super().__enter__()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._opened.close()

    def _enter(self, module: Any, arguments: Any) -> None:
        if threading.get_ident() == self._thread:
            path = self._paths.get(id(module), type(module).__name__).replace(".", "/")
            self._modules.append("" if isinstance(module, RECURRENT) else path)

    def _leave(self, module: Any, arguments: Any, output: Any) -> None:
        if threading.get_ident() == self._thread and self._modules:
            self._modules.pop()

    def _note(self, name: str, tensor: Any) -> Any:
        """Give a tensor its name."""
        if tensor.grad_fn is not None:
            self.seen.labels[tensor.grad_fn, tensor.output_nr] = name
        else:
            self.seen.names.setdefault(id(tensor), name)
            self.seen.scopes.setdefault(id(tensor), current()[0])
            self.seen.kept.append(tensor)
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        number = torch.autograd._get_sequence_nr()
        operands = list(_operands(func, args))
        for _, value in operands:
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                key = value.grad_fn, value.output_nr
                if key not in self.seen.values:  # copied at once, since PyTorch's own composites compute in place
                    self.seen.values[key] = value.detach().clone()
        if number > self._next:  # this operation has just got a node of its own
            self._next = number
            path = "/".join(filter(None, (current()[0], self._modules[-1] if self._modules else "")))
            kept = [(name, value, _copy(value)) for name, value in operands if _differentiable(value)]
            self.seen.operations[number - 1] = Operation(path, kept, not kwargs)
        return func(*args, **(kwargs or {}))

    def graph(self, loss: Any, gradient: Any = None) -> GradientGraph:
        """The gradient graph of a loss that was computed inside; before ``loss.backward()``.

        Parameters
        ----------
        loss : torch.Tensor
            A scalar, or any shape if `gradient` is given.
        gradient : torch.Tensor, optional
            Cotangent of the loss, of its shape; one by default.

        Returns
        -------
        GradientGraph
            For `draw`, `collapse`, `table`, `to_json` and `node_of`. A value that was not seen is None.

        Raises
        ------
        ValueError, TypeError, RuntimeError
            As `tinygrad_rnn.torch.gradient_graph`.
        """
        graph, self.residual = graph_of(loss, gradient, self.seen)
        return graph


def _run_uncompiled(opened: ExitStack) -> None:
    """Whatever is compiled runs as it was written; otherwise `torch.compile` would give up on it for good."""
    if "torch._dynamo" in sys.modules:
        opened.enter_context(torch.compiler.set_stance("force_eager"))
        opened.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global hooks")


def _original(name: str) -> str:
    """A name without what `torch.compile`, which does not compile under a recording, has put before it."""
    return name.replace("_orig_mod.", "").removesuffix("_orig_mod").rstrip(".")


def _operands(func: Any, args: Any) -> Iterator[tuple[str, Any]]:
    """The tensors that an operation is given, by the names of its schema."""
    for argument, value in zip(func._schema.arguments, args, strict=False):
        if "Tensor" in str(argument.type):
            for part in value if isinstance(value, (list, tuple)) else [value]:
                yield argument.name, part


def _differentiable(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) or value.is_floating_point() or value.is_complex()


def _copy(value: Any) -> Any:
    bare = isinstance(value, torch.Tensor) and not value.requires_grad
    return value.detach().clone() if bare else None
