"""Watching a recurrent model train, in its own loop and with its own loss.

After this file the reader knows what one hook on the input of a recurrent module tells at nearly no cost: the exact
gradient of the loss with respect to every x_t, and so how far back the loss reaches at this moment of training.
"""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Callable, Sized
from contextlib import ExitStack
from html import escape
from itertools import accumulate
from operator import or_
from os import PathLike, fspath
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from ..arguments import refusal, whole
from ..draw.chart import Decay, GradientThroughTime
from ..files import columns, write_whole
from ..graph.line import line_through
from . import unrolled
from .recording import under_way
from .unrolled import CELLS, RECURRENT, checked, named_modules, named_parameters, size_of, tensors_of, unroll, values_of

_SATURATED = {**dict.fromkeys("iforz", (0.05, 0.95)), **dict.fromkeys("gnh", (-0.95, 0.95))}
"""By the letter of a gate or state: outside of these it hardly moves any more."""

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Training, watched</title><h1>Training, watched</h1>
<style>body{font:15px system-ui;margin:2em;max-width:62em}pre{overflow-x:auto}</style>"""


class watch:
    """Watch a training loop: ``with watch(model, optimizer, to="run.csv") as w:`` around it.

    Each step of the optimiser makes a record: the norm of the gradient as the optimiser gets it, so after any clipping,
    and for each recurrent module ‖∂L/∂x_t‖ by time step, before it, the mean over the batch. Of several forward passes
    for one update it is the last one's that brought a gradient; all that `backward` brings through one is added up,
    what `torch.autograd.grad` computes is not, and ``backward(inputs=...)`` brings no curve. Calls are one sequence
    where the state of one goes to the next; another sequence that gets a gradient in the same pass is "call 2". Every
    `weights` steps there is the update of each matrix relative to the matrix, every `gates` steps the means and the
    saturated shares of the gates, from eight of the sequences at most. The gradient is that of your loss, with your
    mask, detach and truncation; a loss at every step gives a sum over lags. The norms by time step are computed ten
    updates at a time, or when `records` is read; until then the gradients of the inputs are kept.

    Parameters
    ----------
    model : torch.nn.Module
    optimizer : torch.optim.Optimizer
    to : path, callable or writer, optional
        A .csv file with rows of step, key, value, at most ten updates behind; ``to(record)``; or anything with
        ``add_scalar(tag, value, step)``, as TensorBoard's writer, or with ``log(values, step=)``.
    every, weights, gates : int
        How many steps apart; 0 for never.
    alarm : callable
        Gets a line of text when the gradient is not finite, or 100 times its usual size and twice its largest so far
        (clipping hides that, but `clip_grad_norm_` returns the norm from before it), when one update changes more than
        half of a matrix or none changes any, when no `zero_grad` was called, when dropout is off, since the model is in
        evaluation mode, and when no recurrent module is seen at work.

    Attributes
    ----------
    alarms : list of str

    Raises
    ------
    TypeError
        If the model is no module of PyTorch's, or the optimiser none of its optimisers.
    ValueError
        If `to` is nothing that records can go to, or a number of steps is none.

    Examples
    --------
    >>> import torch
    >>> from tinygrad_rnn.torch import watch
    >>> model = torch.nn.LSTM(3, 4)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> with watch(model, optimizer) as w:
    ...     for _ in range(2):
    ...         loss = model(torch.ones(5, 2, 3))[0][-1].square().mean()
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         optimizer.step()
    >>> len(w.records), len(w.records[0]["LSTM/by step"])
    (2, 5)
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        to: str | PathLike[str] | Callable[[dict[str, Any]], Any] | Any = None,
        *,
        every: int = 1,
        weights: int = 50,
        gates: int = 200,
        alarm: Callable[[str], Any] = warnings.warn,
    ) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"the optimizer must be one of PyTorch's, not {type(optimizer).__name__}")
        writer = to is None or callable(to) or hasattr(to, "add_scalar") or hasattr(to, "log")
        if not (fspath(to).endswith(".csv") if isinstance(to, (str, PathLike)) else writer):
            raise refusal("to", to, "a path that ends in .csv, a callable, or what has add_scalar or log")
        self.model, self.optimizer, self.to, self.alarm = checked(model), optimizer, to, alarm
        self.every, self.weights, self.gates = whole("every", every), whole("weights", weights), whole("gates", gates)
        self._records, self.alarms = list[dict[str, Any]](), list[str]()
        self._waiting: list[Any] = []  # of the last updates: the record, and the gradients by module, sequence and call
        self._step, self._norms, self._largest, self._moved, self._seen = 0, list[float](), 0.0, 0.0, False
        self._calls: dict[str, list[list[Any]]] = {}  # by module: of the last passes the sequences, each of its calls
        self._inputs: dict[str, Any] = {}  # by module: a few sequences for the gates
        self._before: dict[str, Any] = {}  # by name: the parameter, and its numbers before this update
        self._kept: Any = None  # the gradient of the update before
        self._told = list[Any]()  # hooks, if it was still there at the next one
        self._modules = {name: m for name, m in named_modules(model) if isinstance(m, RECURRENT)}

    def __enter__(self) -> watch:
        with ExitStack() as opened:
            if isinstance(self.to, (str, PathLike)):
                self._file = opened.enter_context(open(self.to, "w", encoding="utf-8", newline=""))
                self._rows = csv.writer(self._file, lineterminator="\n")
                self._rows.writerow(("step", "key", "value"))
            opened.callback(self._settle)
            handles = [self.optimizer.register_step_pre_hook(self._pre)]
            for name, m in self._modules.items():
                before, after = map(torch.compiler.disable, self._hooks(name))
                handles += [m.register_forward_pre_hook(before, with_kwargs=True), m.register_forward_hook(after)]
            for handle in (*handles, self.optimizer.register_step_post_hook(self._post)):
                opened.callback(handle.remove)
            self._last = [p for p in self._held() if p.requires_grad][-1:]
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    @property
    def records(self) -> list[dict[str, Any]]:
        """All that was seen, with ``step`` in each."""
        self._settle()
        return self._records

    def _held(self) -> list[Any]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def page(self, path: str | PathLike[str], film: Any = None) -> None:
        """Write one HTML file: alarms, the gradient by time step at up to five updates, and the numbers at up to ten.

        Parameters
        ----------
        path : path
        film : Film, optional
            Of graphs that you have recorded on the way, to stand at the head of the page.
        """
        chosen = _some(range(len(self.records)), 10)
        told = [now for k, now in enumerate(accumulate(self.records, or_)) if k in chosen]  # each as last seen by then
        last = told[-1] if told else {}
        parts = [f"<ul>{''.join(f'<li>{escape(alarm)}</li>' for alarm in self.alarms)}</ul>"]
        parts += [] if film is None else [film._repr_html_()]
        for name in [name for name, value in last.items() if isinstance(value, list)]:
            found = [(record["step"], record[name]) for record in self.records if name in record]
            chart = GradientThroughTime(tuple(_decay(*found[k]) for k in _some(found, 5)), "l2")
            parts += [f"<h2>{escape(name)}: ‖∂L/∂x_t‖, the mean over the sequences</h2>", chart._repr_html_()]
        names = [name for name, value in last.items() if not isinstance(value, list)]
        rows = [[name, *(f"{now[name]:.6g}" if name in now else "" for now in told)] for name in names]
        numbers = escape("\n".join(columns(rows)))
        parts.append(f"<h2>What was last seen by the update</h2><pre>{numbers}</pre></html>\n")
        write_whole(path, "\n".join([_HEAD, *parts]))

    def _due(self, every: int) -> bool:
        return bool(every) and self._step % every == 0

    def _hooks(self, name: str) -> Any:
        """Hooks before and after a module: its input's gradient is kept, and which calls are one sequence is seen."""
        call: Any = None  # the lengths of a batch that is packed, the input's gradient, what was returned

        def before(module: Any, args: Any, kwargs: Any) -> Any:
            nonlocal call
            x, call = args[0] if args else kwargs.get("input"), None
            if x is None or under_way() or not (module.training and torch.is_grad_enabled() and self._due(self.every)):
                return None
            packed = isinstance(x, PackedSequence)
            data = x.data if packed else x
            # A leaf, which only `backward` fills, and not `torch.autograd.grad`, nor another use of x. For an x that
            # needs a gradient itself it is a zero that takes no memory.
            leaf = (data.new_zeros(()).expand(data.shape) if data.requires_grad else data.detach()).requires_grad_(True)
            data = data + leaf if data.requires_grad else leaf
            passes = self._calls.setdefault(name, [[]])
            if any(end[1].grad is not None for calls in passes[-1] for end in (calls[0], calls[-1])):
                passes[:] = [passes[-1], []]
            calls = _handed_on(args[1] if len(args) > 1 else kwargs.get("hx"), passes[-1][-8:]) if passes[-1] else None
            if calls is None:
                passes[-1].append(calls := [])
                for old in passes[-1][-9:-8]:  # whose graph would be kept
                    old[-1][2] = ()
            self._seen = True
            calls.append(call := [x.batch_sizes.tolist() if packed else None, leaf, ()])
            if self._due(self.gates) and not packed and not isinstance(module, CELLS):
                few = data.detach()
                self._inputs[name] = few if few.dim() == 2 else few[:8] if module.batch_first else few[:, :8]
            x = x._replace(data=data) if packed else data
            return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "input": x})

        def after(module: Any, args: Any, result: Any) -> None:
            if call is not None:
                call[2] = tensors_of(result)

        return before, after

    def _stale(self, parameter: Any) -> list[Any]:
        """Hooks on one parameter that see, in the first backward pass after an update, whether it begins at zero."""
        seen, old = 0, False  # the update after which it looked last, and what it saw

        def look(gradient: Any) -> None:
            nonlocal old
            old = parameter.grad is not None and bool(values_of(parameter.grad).any())

        def tell(parameter: Any) -> None:  # only if something was added: `torch.autograd.grad` adds nothing
            nonlocal seen
            if seen < self._step and old:
                self._alarm("the gradients of the update before are added to these: optimizer.zero_grad()", True)
            seen = self._step

        return [parameter.register_hook(look), parameter.register_post_accumulate_grad_hook(tell)]

    def _alarm(self, text: str, once: bool = False) -> None:
        if not (once and any(told.endswith(text) for told in self.alarms)):
            self.alarms.append(f"step {self._step}: {text}")
            self.alarm(self.alarms[-1])

    def _pre(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._measure()
        for parameter in self._last:
            if self._kept is not None and parameter.grad is self._kept and not self._told:
                self._told = [self._opened.callback(handle.remove) for handle in self._stale(parameter)]
            self._kept = parameter.grad
        if self._due(self.weights):
            named = named_parameters(self.model).items()
            self._before = {n: (p, p.detach().clone()) for n, p in named if p.dim() > 1 and p.requires_grad}

    def _measure(self) -> None:
        gradients = [p.grad for p in self._held()] if self._due(self.every) else []
        self._norm = size_of(gradients) if any(g is not None for g in gradients) else None

    def _post(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if any(map(callable, (*args[1:], *kwargs.values()))):  # a closure, which makes the gradient within the step
            self._measure()
        record: dict[str, Any] = {"step": self._step} | ({} if self._norm is None else {"gradient": self._norm})
        known = self._modules or {"a recurrent module (TorchScript hides its own)": self.model}
        if self._norm is not None and not self._seen and any(m.training for m in known.values()):
            seen = f"no call of {', '.join(known)} was seen before this update"
            self._alarm(f"{seen}: what is compiled runs as it first did, so enter watch before that", True)
        moved = {n: float((p.detach() - a).norm() / a.norm()) for n, (p, a) in self._before.items() if a.any()}
        record |= {f"{name}/update": share for name, share in moved.items()}
        for name, x in self._inputs.items():
            record |= {f"{name}/{key}": value for key, value in _gates(self._modules[name], x).items()}
        self._waiting.append((record, {name: _arrived(passes) for name, passes in self._calls.items()}))
        self._calls, self._inputs, self._before = {}, {}, {}
        self._warn(record, moved)
        # Ten at a time where nobody waits for them: one alone finds all caches cold, and takes three times as long.
        if self._step % 10 == 0 or not (self.to is None or isinstance(self.to, (str, PathLike))):
            self._settle()
        self._step += 1

    def _settle(self) -> None:
        """Complete the records that wait, and write them."""
        waiting, self._waiting = self._waiting, []
        for record, arrived in waiting:
            for name, sequences in arrived.items():
                for k, parts in enumerate(sequences, 1):
                    norms = torch.cat([_by_step(self._modules[name], *part) for part in parts]).tolist()
                    record |= _lost(name if k == 1 else f"{name}/call {k}", norms)
            self._records.append(record)
            self._write(record)

    def _write(self, record: dict[str, Any]) -> None:
        """To a file, a writer as TensorBoard and others have, or a callable."""
        step, numbers = record["step"], {k: v for k, v in record.items() if k != "step" and not isinstance(v, list)}
        if isinstance(self.to, (str, PathLike)):
            self._rows.writerows([(step, key, value) for key, value in numbers.items()])
            self._file.flush()  # to be read at any time
        elif hasattr(self.to, "add_scalar"):
            for key, value in numbers.items():
                self.to.add_scalar(key, value, step)
        elif hasattr(self.to, "log"):
            self.to.log(numbers, step=step)
        elif self.to is not None:
            self.to(record)

    def _warn(self, record: dict[str, Any], moved: dict[str, float]) -> None:
        """Alarms, of what deserves one; `moved` says how far this update moved each matrix."""
        norms, norm = self._norms, record.get("gradient", 0.0)
        new = not norm <= 2 * self._largest  # a bump after convergence is not
        usual = median(norms[-50:]) if new and len(norms) >= 10 else 0.0
        if not math.isfinite(norm) and all(map(math.isfinite, norms[-1:])):
            bad, told = unrolled.first_not_finite(self.model), f"; its usual norm was {usual:.2g}" if usual else ""
            what = f"not finite, first in {bad}" if bad else "so large that its norm overflows"
            self._alarm(f"the gradient is {what}{told}")
        elif usual and 100 * usual < norm < math.inf:
            line = f"clip_grad_norm_(model.parameters(), {10 ** math.floor(math.log10(usual)):g})"
            self._alarm(f"the gradient's norm is {norm:.2g}, {norm / usual:.0f} times its usual {usual:.2g}: {line}")
        norms += [norm] if "gradient" in record else []
        self._largest = max(self._largest, norm)
        largest, fastest = max(((share, name) for name, share in moved.items()), default=(math.nan, ""))
        self._moved = max(self._moved, largest)
        if largest > 0.5 and not isinstance(self.optimizer, torch.optim.LBFGS):  # whose steps are many in one
            self._alarm(f"one update changes {fastest} by {largest:.0%} of its size: a smaller lr")
        elif largest < 1e-6 and self._step and self._moved < 1e-6:
            self._alarm("no update has changed any matrix by a millionth: lr, clipping, or what is frozen", True)
        if not self.model.training and any(getattr(m, "dropout", getattr(m, "p", 0)) for m in self.model.modules()):
            self._alarm("dropout is off while the model trains, as it is in evaluation mode: model.train()", True)


def _some(many: Sized, most: int) -> list[int]:
    """The places of so many at most, from the first to the last."""
    return sorted({round(k * (len(many) - 1) / (most - 1)) for k in range(most) if len(many)})


def _decay(step: int, norms: list[float]) -> Decay:
    """The gradient by time step at one update, as the charts of the package have it."""
    newest = [(len(norms) - lag, lag, norm) for lag, norm in enumerate(reversed(norms))]
    return Decay(f"update {step}", "x", tuple(newest), line_through([np.array(norm) for *_, norm in newest]).slope)


def _handed_on(hx: Any, sequences: list[Any]) -> Any:
    """The sequence whose state this is, or was made of by a few operations; None if it begins anew."""
    known = {key: calls for calls in sequences for t in calls[-1][2] for key in (t.grad_fn, t.data_ptr())}
    near = [key for t in tensors_of(hx) for key in (t.data_ptr(), t.grad_fn)]  # a detached one has the same numbers
    for key in near:
        if key in known:
            return known[key]
        near += [node for node, _ in getattr(key, "next_functions", ()) if node and len(near) < 100]
    return None


def _arrived(passes: list[Any]) -> list[Any]:
    """Of the last pass that brought a gradient what each call got, by sequence; a validation may come after it."""
    for sequences in reversed(passes):
        got = [[(sizes, x.grad.detach()) for sizes, x, _ in calls if x.grad is not None] for calls in sequences]
        if any(got):
            return [calls for calls in got if calls]
    return []


def _by_step(module: Any, sizes: Any, g: Any) -> Any:
    """‖∂L/∂x_t‖ for each step, the mean over the sequences that have it."""
    norms = torch.linalg.vector_norm(g, dim=-1)
    if sizes:  # of a PackedSequence
        return torch.stack([part.mean() for part in norms.split(sizes)])
    if isinstance(module, CELLS):
        return norms.mean().reshape(1)
    return norms.mean(0 if module.batch_first else 1) if norms.dim() == 2 else norms


def _lost(name: str, norms: list[float]) -> dict[str, Any]:
    """The gradient by time step, and by how many decades the first step's is below the largest."""
    first, largest = norms[0], max(norms)
    lost = math.log10(largest / first) if first > 0 and math.isfinite(largest) else math.inf
    return {f"{name}/by step": norms, f"{name}/decades lost": lost, f"{name}/steps at zero": norms.count(0.0)}


def _gates(module: Any, x: Any) -> dict[str, float]:
    """Mean and saturated share of each gate and state, over steps, sequences and units."""
    seen: dict[str, list[Any]] = {}
    training = module.training

    def note(name: str, value: Any) -> Any:
        if name in _SATURATED and (name != "h" or isinstance(module, nn.RNN)):
            seen.setdefault(name, []).append(value.reshape(-1))
        return value

    module.eval()
    try:
        with torch.no_grad():
            unroll(module, x, None, note)
    finally:
        module.train(training)
    found: dict[str, float] = {}
    for name, parts in seen.items():
        values, (low, high) = torch.cat(parts), _SATURATED[name]
        outside = ((values < low) | (values > high)).float().mean()
        found |= {f"{name} mean": float(values.mean()), f"{name} saturated": float(outside)}
    return found
