"""The doctor's checks of data, loss and axes: mistakes that no choice of network would cure.

After this file the reader knows that many of them are exact: PyTorch's graph itself says that a softmax is applied
twice, that a loss broadcasts, that one sample's output depends on another sample. Each check yields what is wrong, with
the number that shows it, and a line to change; nothing if there is nothing, or if it cannot tell.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .case import Case
from .unrolled import tensors_of

Found = Iterator[tuple[str, str]]

RESHAPES = {"View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "T", "Transpose", "Permute"}
RESHAPES |= {"Select", "Slice", "Clone"}
LOSSES = {"MseLoss", "L1Loss", "SmoothL1Loss", "HuberLoss"}
RANGES = {"Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Relu": (0.0, math.inf)}
SQUASHED = {
    (loss, last): (
        f"the logits pass a {last.lower()}, though they have to be able to take any value",
        f"return self.fc(h)  # without {last.lower()}",
    )
    for loss in ("LogSoftmax", "BinaryCrossEntropyWithLogits")
    for last in ("Relu", "Sigmoid", "Tanh")
} | {
    (loss, last.title()): (
        f"{last} is applied twice: by the model, and by {theirs}",
        f"return logits  # without {last}",
    )
    for loss, last, theirs in (
        ("LogSoftmax", "softmax", "cross_entropy"),
        ("BinaryCrossEntropyWithLogits", "sigmoid", "binary_cross_entropy_with_logits"),
    )
}
"""By a node of the loss and what its operand comes from: what is wrong with that."""


def name_of(node: Any) -> str:
    """AddmmBackward0 as Addmm."""
    return type(node).__name__.split("Backward")[0]


def before(node: Any) -> Any:
    """What made the first operand of a node, reshaping aside."""
    node = node.next_functions[0][0] if node is not None and node.next_functions else None
    while node is not None and name_of(node) in RESHAPES:
        node = node.next_functions[0][0]
    return node


def _differences(case: Case) -> list[Any]:
    """The nodes that subtract targets from the output, or the other way round."""
    end = case.output.grad_fn
    ends = {end, before(end) if name_of(end) in RESHAPES else end} - {None}
    return [n for n in case.nodes if name_of(n) in {"Sub", "Rsub"} and ends & {f for f, _ in n.next_functions}]


def not_finite(case: Case) -> Found:
    """NaN or infinity in what the model is given, or in the loss."""
    drop = "x = torch.nan_to_num(x)  # or drop these rows"
    log = "torch.log(p + 1e-8)  # or a division, an exp, a root: at 0, or far from it, they are not finite"
    for what, t, line in (("inputs", case.inputs[0], drop), ("targets", case.targets, drop), ("loss", case.loss, log)):
        if isinstance(t, torch.Tensor) and t.is_floating_point() and (count := int((~t.isfinite()).sum())):
            yield f"{count} of {t.numel()} numbers in the {what} are NaN or infinite", line
    for name, p in case.model.named_parameters():
        if p.grad is not None and not bool(p.grad.isfinite().all()):
            line = "(x + 1e-8).sqrt()  # and so of a norm, a std or a log: at 0 they have no finite slope"
            yield f"the loss is finite, but the gradient of {name} is not", line


def constant_data(case: Case) -> Found:
    """A column of the inputs that never changes, or targets that are all the same."""
    x, y, axis = case.inputs[0], case.targets, case.batch_axis
    one_hot = bool(((x == 0) | (x == 1)).all())  # in which a rare token's column may well be empty
    if x.is_floating_point() and x.dim() > 1 and x.shape[0] > 1 and not one_hot:
        dead = (x.reshape(-1, x.shape[-1]).std(0) == 0).nonzero().flatten().tolist()
        line = f"x = x[..., [k for k in range({x.shape[-1]}) if k not in {dead[:5]}]]"
        if dead:
            yield f"input columns {dead[:5]} never change in this batch ({len(dead)} of {x.shape[-1]})", line
    if x.dim() > axis and x.shape[axis] > 1 and bool((x == x.narrow(axis, 0, 1)).all()):
        yield f"all {x.shape[axis]} sequences of this batch are the same", "x = x.clone()  # before it is written again"
    if isinstance(y, torch.Tensor) and y.numel() >= 8 and bool((y == y.flatten()[0]).all()):
        yield f"all {y.numel()} targets are {y.flatten()[0].item():g}", "DataLoader(..., shuffle=True)"


def twice(case: Case) -> Found:
    """A squashing that the loss has in it already, lacks, or cannot do with."""
    for node in case.nodes:
        if found := SQUASHED.get((name_of(node), name_of(before(node)))):
            yield found
        if name_of(node) in ("NllLoss", "NllLoss2D"):
            total = node._saved_self.detach().exp().sum(-1 if node._saved_self.dim() == 1 else 1)
            if not bool((total - 1).abs().max() < 0.1):
                line = "F.cross_entropy(logits, targets)  # which has the log_softmax, over the classes, in it"
                what = "nll_loss gets numbers that are no log-probabilities of its classes"
                yield f"{what}: their exponentials sum to {float(total.min()):.2g} ... {float(total.max()):.2g}", line


def broadcast_loss(case: Case) -> Found:
    """Output (B, 1) against targets (B,), which makes B × B differences."""
    spread = [node for node in case.nodes if name_of(node) in LOSSES and name_of(before(node)) == "Expand"]
    spread += [n for n in _differences(case) if math.prod(n._input_metadata[0].shape) > case.output.numel()]
    if spread:
        shapes = f"{tuple(case.output.shape)} against the targets {tuple(case.targets.shape)}"
        yield f"the loss broadcasts the output {shapes}", "loss_fn(output.squeeze(-1), targets)"


def _regression(case: Case) -> bool:
    y, differences = case.targets, any(name_of(node) in LOSSES for node in case.nodes) or _differences(case)
    return bool(differences) and isinstance(y, torch.Tensor) and y.is_floating_point() and y.numel() > 1


def target_scale(case: Case) -> Found:
    """Targets so far from what the model puts out that its head has to grow or shrink first; for regression only."""
    if _regression(case):
        y, out = case.targets, case.output.detach()
        far, size = float(y.mean().abs() + y.std()), float(out.abs().mean() + out.std())
        if far > 100 * max(size, 0.1) or 0 < far < 1e-3 * size:
            line = f"y = (y - {float(y.mean()):.4g}) / {float(y.std()):.4g}  # and back for the prediction"
            yield f"targets of size {far:.3g}, outputs of size {size:.3g}: the head has to get there first", line


def out_of_reach(case: Case) -> Found:
    """Targets that the output cannot take: it is squashed, or is a recurrent state itself."""
    last = case.output.grad_fn
    last = name_of(before(last) if name_of(last) in RESHAPES else last)
    low, high = RANGES.get(last, (-math.inf, math.inf))
    for name, module, out in [(name, call.module, call.out) for name, calls in case.calls.items() for call in calls]:
        if case.output.untyped_storage().data_ptr() == out.untyped_storage().data_ptr():
            relu = getattr(module, "nonlinearity", "") == "relu"
            last, (low, high) = f"state of {name}", RANGES["Relu" if relu else "Tanh"]
    line = "return self.fc(h)  # as it is, for numbers of any size"
    if any(name_of(node).startswith("BinaryCrossEntropy") for node in case.nodes):
        last, low, high, line = "loss", 0.0, 1.0, "y = (y > 0).float()"
    elif not _regression(case):
        return
    if beyond := float(((case.targets < low) | (case.targets > high)).float().mean()):
        where = f"{low:g} ... {high:g}, beyond what the {last.lower()} can take"
        yield f"{beyond:.0%} of the targets lie outside {where}", line


def pairs(case: Case) -> Found:
    """The loss sets outputs beside the targets of other samples: it changes with the order of the batch."""
    (x, *others), y, axis = case.inputs, case.targets, case.batch_axis
    if others or not isinstance(y, torch.Tensor) or x.dim() < 2 or x.shape[0] == x.shape[1]:
        return
    axes = [k for k, n in enumerate(y.shape) if n == x.shape[axis]]
    if len(axes) != 1:
        return
    with torch.no_grad():
        one, other = case.evaluated()(x), case.evaluated()(x.flip(axis))
        losses = [float(case.loss_fn(one, y)), float(case.loss_fn(other, y.flip(axes)))]
    out, turned = tensors_of(one)[0], tensors_of(other)[0]
    along = [k for k, n in enumerate(out.shape) if n == x.shape[axis]][:1]
    alone = bool(along) and torch.allclose(turned.flip(along), out, 1e-3, 1e-5)  # else samples see each other
    if alone and abs(losses[0] - losses[1]) > 1e-3 * max(map(abs, losses)):
        shapes = f"outputs {tuple(out.shape)}, targets {tuple(y.shape)}"
        what = f"the loss changes from {losses[0]:.4g} to {losses[1]:.4g} when the batch is turned round"
        line = "y = y.transpose(0, 1)  # before reshape"
        yield f"{what}: outputs meet the targets of other samples ({shapes})", line


def samples_mix(case: Case) -> Found:
    """The output of one sample depends on the input of another."""
    if case.entry is None or case.entry.dim() < 2:
        return
    # In evaluation mode, where batch norm does not mix; a cuDNN kernel would have no backward then.
    with torch.backends.cudnn.flags(enabled=False):
        _, (output, x, *_) = case.run(case.evaluated())
    axes = [(a, b) for a in range(min(2, output.dim())) for b in range(min(2, x.dim()))]
    shares = [_share_of_others(output, a, x, b) for a, b in axes if output.shape[a] == x.shape[b] > 1]
    if worst := min(shares, default=0.0):
        names = [n for n, m in case.recurrent if isinstance(m, nn.RNNBase) and not m.batch_first]
        line = f"model.{names[0]}.batch_first = True" if names else "x.transpose(0, 1)  # not view or reshape"
        share = f"{worst:.0e} of its own"
        yield f"samples see each other: the output of one depends on the input of another ({share})", line


def _share_of_others(output: Any, a: int, x: Any, b: int) -> float:
    """How much the middle output along axis a depends on the other inputs along axis b, beside all."""
    i = output.shape[a] // 2
    seed = output.select(a, i).pow(2).sum()
    g = torch.autograd.grad(seed, x, retain_graph=True, allow_unused=True)[0] if seed.requires_grad else None
    if g is None or float(g.abs().max()) == 0:
        return 0.0
    others = torch.tensor([j for j in range(x.shape[b]) if j != i], device=g.device)
    return float(g.index_select(b, others).abs().max() / g.abs().max())


def cut(case: Case) -> Found:
    """The gradient is not the slope of the output: a detach, .data or no_grad on the way."""
    if not any(p.grad is not None for p in case.model.parameters()):
        line = "loss_fn(output, targets)  # no .item(), .argmax(), .detach(), .numpy() or torch.tensor() on the way"
        yield "no parameter gets a gradient: the loss was computed from bare numbers", line
    x, b = case.entry, case.batch_axis
    if x is None or x.dim() != 3:
        return
    model, (rows, steps) = case.double(), (x.shape[b], x.shape[1 - b])
    _, (output, entry, *_) = case.run(copy.deepcopy(model))
    if output.shape[:1] != (rows,) or not output.requires_grad:
        return
    seed = torch.linspace(0.5, 1.5, output.numel(), dtype=torch.float64, device=x.device).reshape(output.shape)
    found = torch.autograd.grad((output * seed).sum(), entry, allow_unused=True)[0]
    gradient = torch.zeros_like(entry) if found is None else found
    row, probes = torch.arange(rows, device=x.device), max(rows, 8)  # each sample probes a step of its own

    def score(move: Any) -> Any:
        return (case.run(copy.deepcopy(model), lambda e: e.detach() + move)[1].output * seed).reshape(rows, -1).sum(1)

    worst = (0.0, 0, 0.0)
    with torch.no_grad():
        for start in range(0, probes, rows):
            t = ((start + row) * (steps - 1) // max(probes - 1, 1)).clamp_max(steps - 1)
            place = (row, t) if b == 0 else (t, row)
            one = torch.zeros_like(entry)
            one[place] = 1.0
            wide, close = ((score(e * one) - score(-e * one)) / (2 * e) for e in (1e-3, 1e-4))
            told = gradient[place].sum(-1)
            off = (close - told).abs() > 0.1 * torch.maximum(close.abs(), told.abs())
            sure = (close.abs() > 1e-8) & ((wide - close).abs() < 0.02 * close.abs())  # and no kink, as of a maximum
            for k in (off & sure).nonzero().flatten().tolist():
                worst = max(worst, (abs(float(close[k])), int(t[k]), float(told[k])))
    if worst[0]:
        slopes = f"moves the output by {worst[0]:.1e} a unit, its gradient says {worst[2]:.1e}"
        line = "h = h  # no .detach(), .data, .item() or no_grad between the steps"
        yield f"the graph is cut: step {worst[1] + 1} of {steps} {slopes}", line


def one_step(case: Case) -> Found:
    """A recurrent part that only ever runs one step, from zero: nothing is remembered."""
    for name, calls in case.calls.items():
        module, given, x, _, _ = calls[0]
        steps = 1
        if isinstance(module, nn.RNNBase):
            axis = int(module.batch_first and x.dim() == 3)
            steps = len(given.batch_sizes) if x is not given else x.shape[axis]
        if steps == 1 and all(call.fresh for call in calls):
            line = "h = cell(x_t, h)  # or the whole sequence, (B, T, I), in one call"
            yield f"{name} runs one step at a time ({len(calls)} in this pass), each from a state of zeros", line


def padding(case: Case) -> Found:
    """Sequences that end in rows that repeat, and the loss reads them."""
    x, entry = case.inputs[0], case.entry
    if x.dim() < 2 or entry is None or entry.grad is None or entry.dim() != 3:
        return
    x, g = x.transpose(0, case.batch_axis), entry.grad.transpose(0, case.batch_axis).abs().amax(-1)
    same = (x[:, 1:] == x[:, :-1]) if x.dim() == 2 else (x[:, 1:] == x[:, :-1]).all(-1)
    tail = torch.cat([same.flip(1).cumprod(1).flip(1), same[:, -1:]], 1).bool()  # rows that repeat up to the end
    padded = tail.sum(1) >= max(3, x.shape[1] // 10)
    share = float(padded.float().mean())
    reads = float((g * tail)[padded].amax(1).gt(0).float().mean()) if padded.any() else 0.0
    out, packed = case.output, any(call.given is not call.x for call in case.stacks.values())
    if packed and out.grad is not None and out.shape[:1] == g.shape[:1] and len(g) > 1:
        deaf = (g.amax(1) == 0) & (out.grad.reshape(len(g), -1).abs().amax(1) > 0)
        if float(deaf.float().mean()) > 0.2:
            line = "h_n[-1]  # or out[torch.arange(B), lengths - 1]: beyond the end of a sequence, out is zero"
            yield f"of {int(deaf.sum())} of {len(g)} sequences the output does not depend on the input", line
    if share > 0.2 and reads > 0.2:
        rows = f"on average {float(tail.sum(1)[padded].float().mean()):.0f} of {x.shape[1]}"
        line = "x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)"
        yield f"the loss reads padding: {share:.0%} of the sequences end in rows that repeat, {rows}", line
