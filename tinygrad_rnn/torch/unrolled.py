"""nn.RNN, LSTM, GRU and their cells, step by step in PyTorch: what a recording runs instead of the fused kernels.

After this file the reader knows that unrolling is no approximation: the same weights and the same function, one
operation after the other, each in the scope of its time step and gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import is_dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import PackedSequence

from ..scope import current, scope

Parts = tuple[Any, ...]  # (h,) or (h, c): inside, a state has one form
Note = Callable[[str, Any], Any]  # is told what a tensor is called, and gives it back

STACKS = (torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU)
CELLS = (torch.nn.RNNCell, torch.nn.LSTMCell, torch.nn.GRUCell)
RECURRENT = STACKS + CELLS


def kind_of(module: Any) -> str:
    """One of RNN, LSTM and GRU, also of a subclass or a parametrised module."""
    return next(str(kind.__name__) for kind in RECURRENT if isinstance(module, kind)).removesuffix("Cell")


def weights_of(module: Any, suffix: str = "") -> list[Any]:
    """The weights that compute, whatever they are made from: W_ih, W_hh, b_ih, b_hh, W_hr; None for what is missing."""
    names = [f"{name}{suffix}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")]
    return [getattr(module, name, None) for name in names]


def tensors_of(result: Any) -> list[Any]:
    """The tensors of whatever a module returns, in order: also in a dict or a dataclass."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, PackedSequence):
        return [result.data]
    if not isinstance(result, (tuple, list)):
        result = vars(result) if is_dataclass(result) else result
        result = result.values() if isinstance(result, Mapping) else ()
    return [tensor for part in result for tensor in tensors_of(part)]


def steps_of(module: Any, x: Any) -> int:
    """How many time steps a stack is given."""
    return len(x.batch_sizes) if isinstance(x, PackedSequence) else int(x.shape[module.batch_first and x.dim() == 3])


def values_of(gradient: Any) -> Any:
    """The numbers of a gradient, of a sparse one those that it holds."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def size_of(tensors: Iterable[Any]) -> float:
    """The norm of all of them together."""
    norm = torch.linalg.vector_norm  # of each, which takes no memory for all of them
    return math.hypot(*[norm(values_of(t)).item() for t in tensors if t is not None])


def checked(model: Any) -> Any:
    """The model, if it is one."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"the model must be a torch.nn.Module, not {type(model).__name__}")
    return model


def original(name: str) -> str:
    """A name in a model without what `torch.compile` has put before it."""
    return name.replace("_orig_mod.", "").removesuffix("_orig_mod").rstrip(".")


def named_modules(model: Any) -> list[tuple[str, Any]]:
    """The parts of a model by name; the model itself by its type."""
    return [(original(name) or type(module).__name__, module) for name, module in model.named_modules()]


def named_parameters(model: Any) -> dict[str, Any]:
    """The parameters of a model by name."""
    return {original(name): parameter for name, parameter in model.named_parameters()}


def first_not_finite(model: Any) -> str:
    """The first parameter with a gradient that is not finite; empty if there is none."""
    gradients = [(name, p.grad) for name, p in named_parameters(model).items() if p.grad is not None]
    return next((name for name, g in gradients if not bool(values_of(g).isfinite().all())), "")


def _silent(name: str, tensor: Any) -> Any:
    return tensor


def one_step(module: Any, x: Any, state: Parts, weights: Sequence[Any], note: Note = _silent) -> Parts:
    """One step of a cell, from state to state."""
    (w_ih, w_hh, b_ih, b_hh, w_hr), kind, n = weights, kind_of(module), module.hidden_size
    a, b, h = F.linear(x, w_ih, b_ih), F.linear(state[0], w_hh, b_hh), state[0]
    if kind == "RNN":
        return (note("h", torch.relu(a + b) if module.nonlinearity == "relu" else torch.tanh(a + b)),)

    def gate(k: int, name: str, letter: str, function: Any = torch.sigmoid, reset: Any = None) -> Any:
        with scope(name):
            left, right = a[..., k * n : (k + 1) * n], b[..., k * n : (k + 1) * n]
            return note(letter, function(left + (right if reset is None else reset * right)))

    if kind == "GRU":
        r, z = gate(0, "reset", "r"), gate(1, "update", "z")
        new = gate(2, "candidate", "n", torch.tanh, r)
        return (note("h", (1 - z) * new + z * h),)
    i, f = gate(0, "input", "i"), gate(1, "forget", "f")
    g, o = gate(2, "candidate", "g", torch.tanh), gate(3, "output", "o")
    c = note("c", f * state[1] + i * g)
    y = o * torch.tanh(c)
    return note("h", y if w_hr is None else F.linear(y, w_hr)), c


def step_scope(number: int) -> AbstractContextManager[None]:
    """The scope of a time step, unless the user has opened one."""
    return nullcontext() if "t=" in current()[0] else scope(f"t={number}")


def _lane(
    module: Any, xs: list[Any], start: Parts, weights: Sequence[Any], path: str, reverse: bool, first: int, note: Note
) -> tuple[list[Any], Parts]:
    """One layer in one direction; rows whose sequence has ended (packed) wait outside."""
    outputs: list[Any] = [None] * len(xs)
    ended: list[Parts] = []
    state = tuple(part[: len(xs[-1 if reverse else 0])] for part in start)
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        rows, have = len(xs[t]), len(state[0])
        with step_scope(first + t), scope(path) if path else nullcontext():
            if rows < have:
                ended.append(tuple(part[rows:] for part in state))
                state = tuple(part[:rows] for part in state)
            elif rows > have:
                state = tuple(torch.cat([now, new[have:rows]]) for now, new in zip(state, start, strict=True))
            state = one_step(module, xs[t], state, weights, note)
        outputs[t] = state[0]
    if ended:
        state = tuple(torch.cat(parts) for parts in zip(state, *reversed(ended), strict=True))
    return outputs, state


def _entry(module: Any, x: Any, first: int, note: Note) -> tuple[list[Any], bool]:
    """The input of each step, of shape (rows, I), and whether there is a batch."""
    if isinstance(x, PackedSequence):
        return list(x.data.split(x.batch_sizes.tolist())), True
    batched = x.dim() == 3
    x = x if batched else x.unsqueeze(1)
    x = x.transpose(0, 1) if module.batch_first and batched else x
    xs = []
    for t in range(len(x)):
        with step_scope(first + t):
            xs.append(note("x", x[t]))
    return xs, batched


def _start(module: Any, x: Any, hx: Any, xs: list[Any], batched: bool) -> Parts:
    """The states before the first step, each of shape (layers · directions, B, H), rows in the order of the steps."""
    pair = kind_of(module) == "LSTM"
    if hx is None:
        rows = module.num_layers * (1 + module.bidirectional)
        sizes = (getattr(module, "proj_size", 0) or module.hidden_size, module.hidden_size)[: 1 + pair]
        return tuple(xs[0].new_zeros(rows, len(xs[0]), size) for size in sizes)
    if isinstance(x, PackedSequence):
        hx = module.permute_hidden(hx, x.sorted_indices)
    parts = tuple(hx) if pair else (hx,)
    return parts if batched else tuple(part.unsqueeze(1) for part in parts)


def unroll(module: Any, x: Any, hx: Any = None, note: Note = _silent, first: int = 1) -> tuple[Any, Any]:
    """What ``module(x, hx)`` returns, computed step by step, in scopes ``t=1``, ``t=2``, ...

    Parameters
    ----------
    module : torch.nn.RNN, LSTM or GRU
        Also a subclass, parametrised, bidirectional, of several layers, with a projection.
    x : torch.Tensor or PackedSequence
        As the module takes it.
    hx : torch.Tensor, or (h, c) for an LSTM, optional
    note : callable, optional
        ``note(name, tensor)`` is told which tensor is x, h, c or a gate, and returns the tensor to go on with.
    first : int
        The number of the first time step.

    Returns
    -------
    output, state
        With the gradients of the fused module, up to rounding. On a CPU dropout between layers draws the same mask.

    Examples
    --------
    >>> import torch
    >>> from tinygrad_rnn.torch import unroll
    >>> lstm = torch.nn.LSTM(3, 4)
    >>> output, (h, c) = unroll(lstm, torch.ones(5, 2, 3))
    >>> bool(torch.allclose(output, lstm(torch.ones(5, 2, 3))[0], atol=1e-6))
    True
    """
    xs, batched = _entry(module, x, first, note)
    start, ways = _start(module, x, hx, xs, batched), ("", "_reverse")[: 1 + module.bidirectional]
    finals: list[Parts] = []
    for k in range(module.num_layers):
        outputs = []
        for way in ways:
            path = f"layer {k}{way.replace('_', ' ')}" if module.num_layers * len(ways) > 1 else ""
            weights, before = weights_of(module, f"_l{k}{way}"), tuple(part[len(finals)] for part in start)
            steps, final = _lane(module, xs, before, weights, path, bool(way), first, note)
            outputs.append(steps)
            finals.append(final)
        xs = _joined(outputs, module.dropout if module.training and k < module.num_layers - 1 else 0.0, first)
    last = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
    if "t=" in current()[0]:  # in a step of the user's, this is what he hands on
        last = tuple(note(name, part) for name, part in zip(("h", "c"), last, strict=False))
    last, pair = last if batched else tuple(part.squeeze(1) for part in last), kind_of(module) == "LSTM"
    state = last if pair else last[0]
    if isinstance(x, PackedSequence):
        output = PackedSequence(torch.cat(xs), x.batch_sizes, x.sorted_indices, x.unsorted_indices)
        return output, module.permute_hidden(state, x.unsorted_indices)
    steps = torch.stack(xs) if batched else torch.cat(xs)
    return steps.transpose(0, 1) if module.batch_first and batched else steps, state


def _joined(outputs: list[list[Any]], dropout: float, first: int) -> list[Any]:
    """What a layer gives to the next: both directions side by side, after dropout."""
    masks: Sequence[Any] = [None] * len(outputs[0])
    if dropout:  # one draw for the layer, as PyTorch does: on a CPU the mask is then its own
        lengths = [len(step) for step in outputs[0]]
        ones = torch.ones(sum(lengths), sum(steps[0].shape[-1] for steps in outputs)).to(outputs[0][0])
        masks = F.dropout(ones, dropout).split(lengths)
    xs = []
    for t, (mask, *parts) in enumerate(zip(masks, *outputs, strict=True)):
        with step_scope(first + t):
            y = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
            xs.append(y if mask is None else y * mask)
    return xs


def cell_step(module: Any, x: Any, hx: Any = None, note: Note = _silent) -> Any:
    """What the call of an nn.RNNCell, LSTMCell or GRUCell returns."""
    pair, zeros = kind_of(module) == "LSTM", x.new_zeros(*x.shape[:-1], module.hidden_size)
    state = (zeros, zeros) if hx is None else hx if pair else (hx,)
    after = one_step(module, x, state, weights_of(module), note)
    return after if pair else after[0]
