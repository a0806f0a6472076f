"""While a recording lasts, recurrent modules run step by step; afterwards nothing is left of it.

After this file the reader knows how a fused kernel is replaced without touching the user's model: `forward` is another
function on PyTorch's classes, in one thread and for the time of a `with`.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from ..scope import scope
from .unrolled import CELLS, RECURRENT, Note, cell_step, step_scope, unroll

_ONE_AT_A_TIME = threading.Lock()


class Stepwise:
    """Inside, the recurrent modules that this thread calls run step by step.

    Parameters
    ----------
    note : callable
        Is told what each tensor is called.
    paths : dict
        The name of each module within the user's model, by its id.
    modules : list
        The modules of the user's model.
    """

    def __init__(self, note: Note, paths: dict[int, str], modules: list[Any]) -> None:
        self.note, self.paths = note, paths
        self.cells = sum(isinstance(module, CELLS) for module in modules)
        self.stacks = sum(isinstance(module, RECURRENT) for module in modules) - self.cells
        self.steps: Counter[int] = Counter()  # by module: how many it has run
        self.calls: Counter[int] = Counter()
        self.worst = 0.0

    def __enter__(self) -> None:
        if not _ONE_AT_A_TIME.acquire(blocking=False):
            raise RuntimeError("another recording is under way, here or in another thread: one at a time")
        self.thread = threading.get_ident()
        self.theirs = [(kind, kind.forward) for kind in RECURRENT]
        for kind, forward in self.theirs:
            kind.forward = self._replacement(forward)

    def __exit__(self, *error: object) -> None:
        for kind, forward in self.theirs:
            kind.forward = forward
        _ONE_AT_A_TIME.release()

    def _replacement(self, forward: Any) -> Any:
        def run(module: Any, input: Any, hx: Any = None) -> Any:  # named as PyTorch names them
            if threading.get_ident() != self.thread:
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
        path, first = self.paths.get(id(module), type(module).__name__), self.steps[id(module)] + 1
        self.calls[id(module)] += 1
        with ExitStack() as places:
            if isinstance(module, CELLS):
                self.steps[id(module)] += 1
                if self.stacks:  # whose steps have numbers too
                    places.enter_context(scope(path.rpartition(".")[0] or path))
                places.enter_context(step_scope(first))
                if self.cells > 1:
                    places.enter_context(scope(path.replace("/", ".")))
                return cell_step(module, x, hx, self.note)
            if self.stacks > 1 or self.cells:
                places.enter_context(scope(path.replace(".", "/")))
            if first > 1 and hx is None:  # another sequence, not the next part of the one before
                places.enter_context(scope(f"call {self.calls[id(module)]}"))
                first = 1
            data = len(x.batch_sizes) if isinstance(x, PackedSequence) else x.shape[module.batch_first and x.dim() == 3]
            self.steps[id(module)] = first - 1 + data
            return unroll(module, x, hx, self.note, first)

    def _compare(self, module: Any, ours: list[Any], theirs: list[Any]) -> None:
        """Refuse to go on with a result that is not the kernel's."""
        for a, b in zip(ours, theirs, strict=True):
            error = float((a.detach() - b).abs().max() / b.abs().max().clamp_min(1e-6)) if a.numel() else 0.0
            self.worst = max(self.worst, error)
            if error > (1e-4 if min(a.element_size(), b.element_size()) > 2 else 3e-2):
                by = f"by {error:.0e} of its largest value: please report it"
                raise ArithmeticError(f"unrolled, {module} gives another result than PyTorch's own kernel, {by}")


def tensors_of(result: Any) -> list[Any]:
    """The tensors of whatever a module returns, in order."""
    if isinstance(result, PackedSequence):
        return [result.data]
    return [result] if isinstance(result, torch.Tensor) else [t for part in result for t in tensors_of(part)]
