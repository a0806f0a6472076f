"""Watching a PyTorch model's forward pass: what each operation had, in which module, time step and gate.

After this file the reader knows how the backward graph gets its values: every operation that makes a node of it passes
the recording with its operands still knowing which node made them, so that nothing has to be matched by guess. And how
a fused recurrent kernel runs step by step without touching the user's model: `forward` is another function on PyTorch's
classes, in one thread and for the time of a `with`.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch.nn.modules import module as hooks
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence
from torch.utils._python_dispatch import TorchDispatchMode

from ..graph import GradientGraph
from ..scope import current, scope
from .build import Builder, Operation, Seen
from .unrolled import CELLS, RECURRENT, cell_step, checked, original, step_scope, steps_of, tensors_of, unroll

_ONE_AT_A_TIME = threading.Lock()
under_way = _ONE_AT_A_TIME.locked
_saved_elsewhere = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda traced: None)


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

    Raises
    ------
    TypeError
        If the model is no module of PyTorch's.
    RuntimeError
        On entering, while another recording is under way.

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
        model = torch.nn.Module() if model is None else checked(model)
        self.residual = self.unrolled = 0.0
        self.seen = Seen(names={tensor: (name, "") for name, tensor in (names or {}).items()})
        every = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        for name, tensor in every:  # a shared weight has all its names
            before = self.seen.names[tensor][0] + " = " if tensor in self.seen.names else ""
            self.seen.names[tensor] = before + original(name), ""
        self._paths = {module: original(name) for name, module in model.named_modules()}
        self._cells = sum(isinstance(module, CELLS) for module in self._paths)
        self._stacks = sum(isinstance(module, RECURRENT) for module in self._paths) - self._cells
        self._steps, self._calls = Counter[Any](), Counter[Any]()  # by module
        self._modules: list[str] = []

    def __enter__(self) -> record:
        if not _ONE_AT_A_TIME.acquire(blocking=False):
            raise RuntimeError("another recording is under way, here or in another thread: one at a time")
        with ExitStack() as opened:
            opened.callback(_ONE_AT_A_TIME.release)
            self._thread, self._next = threading.get_ident(), torch.autograd._get_sequence_nr()
            for kind in RECURRENT:
                opened.callback(setattr, kind, "forward", kind.forward)
                kind.forward = self._step_by_step(kind.forward)
            if "torch._dynamo" in sys.modules:
                # What is compiled runs as it was written; otherwise `torch.compile` would give up on it for good.
                opened.enter_context(torch.compiler.set_stance("force_eager"))
                opened.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global hooks")
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
            path = self._paths.get(module, type(module).__name__).replace(".", "/")
            self._modules.append("" if isinstance(module, RECURRENT) else path)

    def _leave(self, module: Any, arguments: Any, output: Any) -> None:
        if threading.get_ident() == self._thread and self._modules:
            self._modules.pop()

    def _note(self, name: str, tensor: Any) -> Any:
        """Give a tensor its name."""
        if tensor.grad_fn is not None:
            self.seen.labels[tensor.grad_fn, tensor.output_nr] = name
        else:
            self.seen.names.setdefault(tensor, (name, current()[0]))
        return tensor

    def _step_by_step(self, forward: Any) -> Any:
        def run(module: Any, input: Any, hx: Any = None) -> Any:  # named as PyTorch names them
            # A checkpoint computes again what is in it, without us: there the kernel stays whole.
            if threading.get_ident() != self._thread or _saved_elsewhere(True):
                return forward(module, input, hx)
            with parametrize.cached():  # a spectral norm goes on a step each time that its weight is read
                for name in getattr(module, "parametrizations", ()):
                    getattr(module, name)  # here, where it gets a history
                on = (input.data if isinstance(input, PackedSequence) else input).device.type
                # A GPU draws another dropout mask.
                comparable = on == "cpu" or not (module.training and getattr(module, "dropout", 0.0))
                # The kernel first: what is wrong with the call, it says in PyTorch's words.
                with torch.no_grad(), torch.random.fork_rng([]):
                    kernel = tensors_of(forward(module, input, hx)) if comparable else []
                result = self._run(module, input, hx)
                if comparable:
                    self._compare(module, tensors_of(result), kernel)
            return result

        return run

    def _run(self, module: Any, x: Any, hx: Any) -> Any:
        path, first = self._paths.get(module, type(module).__name__), self._steps[module] + 1
        self._calls[module] += 1
        with ExitStack() as places:
            if isinstance(module, CELLS):
                self._steps[module] += 1
                if self._stacks:  # whose steps have numbers too
                    places.enter_context(scope(path.rpartition(".")[0] or path))
                places.enter_context(step_scope(first))
                if self._cells > 1:
                    places.enter_context(scope(path.replace("/", ".")))
                return cell_step(module, x, hx, self._note)
            if self._stacks > 1 or self._cells:
                places.enter_context(scope(path.replace(".", "/")))
            if first > 1 and hx is None:  # another sequence, not the next part of the one before
                places.enter_context(scope(f"call {self._calls[module]}"))
                first = 1
            self._steps[module] = first - 1 + steps_of(module, x)
            return unroll(module, x, hx, self._note, first)

    def _compare(self, module: Any, ours: list[Any], theirs: list[Any]) -> None:
        """Refuse to go on with a result that is not the kernel's."""
        for a, b in zip(ours, theirs, strict=True):
            error = float((a.detach() - b).abs().max() / b.abs().max().clamp_min(1e-6)) if a.numel() else 0.0
            self.unrolled = max(self.unrolled, error)
            narrow = min(a.element_size(), b.element_size()) < 4 or torch.is_autocast_enabled(a.device.type)
            if error > (3e-2 if narrow else 1e-4):
                by = f"by {error:.0e} of its largest value: please report it"
                raise ArithmeticError(f"unrolled, {module} gives another result than PyTorch's own kernel, {by}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        number, operands = torch.autograd._get_sequence_nr(), list[tuple[str, Any]]()
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if "Tensor" in str(argument.type):
                operands += [(argument.name, v) for v in (value if isinstance(value, (list, tuple)) else [value])]
        for _, value in operands:
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                key = value.grad_fn, value.output_nr
                if key not in self.seen.values:  # copied at once, since PyTorch's own composites compute in place
                    self.seen.values[key] = value.detach().clone()
        if number > self._next:  # this operation has just got a node of its own
            self._next = number
            path = "/".join(filter(None, (current()[0], *self._modules[-1:])))
            real = [(name, v, getattr(v, "dtype", torch.float64)) for name, v in operands]
            kept = [(name, v, _copy(v)) for name, v, dtype in real if dtype.is_floating_point or dtype.is_complex]
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
        graph, self.residual = Builder(loss, gradient, self.seen).graph()
        return graph


def _copy(value: Any) -> Any:
    bare = isinstance(value, torch.Tensor) and not value.requires_grad
    return value.detach().clone() if bare else None
