"""The doctor's checks: of data, loss and axes, which no choice of network would cure; then of network and optimiser.

After this file the reader knows that many of them are exact: PyTorch's graph itself says that a softmax is applied
twice, that a loss broadcasts, that one sample's output depends on another sample. Where a threshold is needed, it lies
where healthy networks never are; the decisions page tells how far away those were. Each check yields what is wrong,
with the number that shows it, and a line to change; nothing if there is nothing, or if it cannot tell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from .case import Case, as_dtype, copied, histories
from .unrolled import first_not_finite, named_parameters, size_of, steps_of, tensors_of, weights_of

Found = Iterator[tuple[str, str]]

RESHAPES = {"View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "T", "Transpose", "Permute"}
RESHAPES |= {"Select", "Slice", "Clone"}
LOSSES = {"MseLoss", "L1Loss", "SmoothL1Loss", "HuberLoss"}
RANGES = {"Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Relu": (0.0, math.inf)}
LOGITS = {
    "LogSoftmax": ("Softmax", "cross_entropy"),
    "BinaryCrossEntropyWithLogits": ("Sigmoid", "binary_cross_entropy_with_logits"),
}
"""By a node of the loss: what it squashes with, and what PyTorch calls it."""


def name_of(node: Any) -> str:
    """AddmmBackward0 as Addmm; a clamp at zero is a relu."""
    name = type(node).__name__.split("Backward")[0]
    low, high = (getattr(node, f"_saved_{end}", None) for end in ("min", "max")) if "Clamp" in name else (None, None)
    return "Relu" if high is None and isinstance(low, (int, float)) and low == 0 else name


def bare(node: Any, also: str = "") -> Any:
    """What made a node's value, reshaping aside."""
    while node is not None and (name_of(node) in RESHAPES or name_of(node) == also):
        node = node.next_functions[0][0]
    return node


def before(node: Any) -> Any:
    """What made the first operand of a node, reshaping aside."""
    return bare(node.next_functions[0][0]) if node is not None and node.next_functions else None


# --- data, loss and axes ---


def not_finite(case: Case) -> Found:
    """NaN or infinity in what the model is given, in the loss, or in a gradient."""
    drop, safe = "x = torch.nan_to_num(x)  # or drop these rows", "(x + 1e-8).sqrt()  # so of norm, std, log and /"
    for what, t, line in (("inputs", case.inputs[0], drop), ("targets", case.targets, drop), ("loss", case.loss, safe)):
        if what == "targets" and bool(case.loss.isfinite()):  # it leaves them out
            continue
        if isinstance(t, torch.Tensor) and t.is_floating_point() and (count := int((~t.isfinite()).sum())):
            yield f"{count} of {t.numel()} numbers in the {what} are NaN or infinite", line
    if name := first_not_finite(case.model):
        yield f"the loss is finite, but the gradient of {name} is not", safe


def constant_data(case: Case) -> Found:
    """A column of the inputs that never changes, or targets that are all the same."""
    x, y, axis = case.inputs[0], case.targets, case.batch_axis
    one_hot = bool(((x == 0) | (x == 1)).all())  # in which a rare token's column may well be empty
    if x.is_floating_point() and x.dim() > 1 and x.shape[0] > 1 and not one_hot:
        if dead := (x.reshape(-1, x.shape[-1]).std(0) == 0).nonzero().flatten().tolist():
            line = f"x = x[..., [k for k in range({x.shape[-1]}) if k not in {dead[:5]}]]"
            yield f"input columns {dead[:5]} never change in this batch ({len(dead)} of {x.shape[-1]})", line
    if x.dim() > axis and x.shape[axis] > 1 and bool((x == x.narrow(axis, 0, 1)).all()):
        yield f"all {x.shape[axis]} sequences of this batch are the same", "x = x.clone()  # before it is written again"
    if isinstance(y, torch.Tensor) and y.numel() >= 8 and bool((y == y.flatten()[0]).all()):
        yield f"all {y.numel()} targets are {y.flatten()[0].item():g}", "DataLoader(..., shuffle=True)"


def _differences(case: Case) -> list[Any]:
    """The nodes that subtract targets, which have no history, from the output, or the other way round."""
    nodes = [node for node in case.nodes if name_of(node) in {"Sub", "Rsub"}]
    given = [(node, [f for f, _ in node.next_functions if f is not None]) for node in nodes]
    return [n for n, made in given if len(made) == 1 and bare(made[0], "Expand") is bare(case.output.grad_fn)]


def broadcast_loss(case: Case) -> Found:
    """Output (B, 1) against targets (B,), which makes B × B differences."""
    spread = [node for node in case.nodes if name_of(node) in LOSSES and name_of(before(node)) == "Expand"]
    spread += [n for n in _differences(case) if math.prod(n._input_metadata[0].shape) > case.output.numel()]
    if spread:
        shapes = f"{tuple(case.output.shape)} against the targets {tuple(case.targets.shape)}"
        yield f"the loss broadcasts the output {shapes}", "loss_fn(output.squeeze(-1), targets)"


def twice(case: Case) -> Found:
    """A squashing that the loss has in it already, lacks, or cannot do with."""
    for node in case.nodes:
        first, (own, loss) = name_of(before(node)), LOGITS.get(name_of(node), ("", ""))
        without = f"return logits  # without {first.lower()}"
        if loss == "cross_entropy" and not bool(node._saved_result.any()):
            yield "cross_entropy over one class is always zero", "F.binary_cross_entropy_with_logits(logits, targets)"
        if first == own:
            yield f"{own.lower()} is applied twice: by the model, and by {loss}", without
        elif loss and first in RANGES:
            yield f"the logits pass a {first.lower()}, though they have to be able to take any value", without
        if name_of(node) in ("NllLoss", "NllLoss2D"):
            total = node._saved_self.detach().exp().sum(-1 if node._saved_self.dim() == 1 else 1)
            if not bool((total - 1).abs().max() < 0.1):
                sums = f"their exponentials sum to {float(total.min()):.2g} ... {float(total.max()):.2g}"
                line = "F.cross_entropy(logits, targets)  # which has the log_softmax, over the classes, in it"
                yield f"nll_loss gets numbers that are no log-probabilities of its classes: {sums}", line


def _cross_entropies(case: Case) -> list[Any]:
    return [node for node in case.nodes if name_of(node).startswith("BinaryCrossEntropy")]


def _compared(case: Case) -> tuple[Any, Any]:
    """The targets that the loss sets against the outputs as they are, and these: of regression, and what is not masked.

    If the outputs were a little off the targets, then each would have a gradient of the sign of what it is off, and
    the other way round. So it is not if the loss compares with other numbers, such as a logarithm of the targets.
    """
    y, out = case.targets, case.output
    alike = isinstance(y, torch.Tensor) and y.is_floating_point() and y.numel() == out.numel()
    if not (alike and out.requires_grad and case.loss.requires_grad) or _cross_entropies(case):
        return out[:0], out[:0]
    y, own = y.detach().reshape(out.shape).to(out.dtype), out.detach().clone()
    off = 0.01 * (y.abs() + y[y != 0].abs().nanmedian()) * torch.randn_like(own)
    used = torch.ones_like(own, dtype=torch.bool)
    try:
        for way in (off, -off):
            out.data.copy_(torch.where(y.isfinite(), y + way, own))  # of whatever the model returns it in
            loss = case.loss_fn(case.result, case.targets)
            g = torch.autograd.grad(loss, out, retain_graph=True, materialize_grads=True)[0]
            used &= (g != 0) & bool((g * way >= 0)[y.isfinite()].all())
    finally:
        out.data.copy_(own)
    return y[used], own[used]


def target_scale(case: Case) -> Found:
    """Targets so far from what the model puts out that its head has to grow or shrink first; for regression only."""
    y, out = _compared(case)
    if y.numel() > 1:
        far, size = float(y.mean().abs() + y.std()), float(out.abs().mean() + out.std())
        if far > 100 * max(size, 0.1) or 0 < far < 1e-3 * size:
            line = f"y = (y - {float(y.mean()):.4g}) / {float(y.std()):.4g}  # and back for the prediction"
            yield f"targets of size {far:.3g}, outputs of size {size:.3g}: the head has to get there first", line


def out_of_reach(case: Case) -> Found:
    """Targets that the output cannot take: it is squashed, or is a recurrent state itself."""
    last = name_of(bare(case.output.grad_fn))
    low, high = RANGES.get(last, (-math.inf, math.inf))
    for name, call in [(name, call) for name, calls in case.calls.items() for call in calls]:
        if case.output.untyped_storage().data_ptr() == call.out.untyped_storage().data_ptr():
            relu = getattr(call.module, "nonlinearity", "") == "relu"
            last, (low, high) = f"state of {name}", RANGES["Relu" if relu else "Tanh"]
    line = "return self.fc(h)  # as it is, for numbers of any size"
    y, _ = _compared(case)
    for node in _cross_entropies(case):
        last, low, high, line = "loss", 0.0, 1.0, "y = (y > 0).float()"
        edge = torch.autograd.graph.GradientEdge(*node.next_functions[0])
        y = node._saved_target[torch.autograd.grad(case.loss, edge, retain_graph=True)[0] != 0]  # not what is masked
    if y.numel() and (beyond := float(((y < low) | (y > high)).float().mean())):
        reach = f"{low:g} ... {high:g}, beyond what the {last.lower()} can take"
        yield f"{beyond:.0%} of the targets lie outside {reach}", line


def pairs(case: Case) -> Found:
    """The loss sets outputs beside others, or beside the targets of others."""
    for node in case.nodes:
        if name_of(node) == "LogSoftmax" and bare(node.next_functions[0][0]) is bare(case.output.grad_fn):
            told, given = node._saved_result, case.output.detach()
            classes = {told.shape[k] for k in range(told.dim()) if torch.allclose(told.exp().sum(k), torch.ones(()))}
            ways = [given.log_softmax(k).sum() for k, n in enumerate(given.shape) if {n} == classes]
            if ways and told.numel() == given.numel() and not any(torch.isclose(told.sum(), way) for way in ways):
                what = f"outputs {tuple(given.shape)} reach cross_entropy as {tuple(told.shape)}, their classes mixed"
                yield what, "F.cross_entropy(output.transpose(1, 2), targets)  # not view or reshape"
    out, y, x = case.result, case.targets, case.inputs[0]
    if not all(isinstance(t, torch.Tensor) and t.dim() for t in (out, y)) or x.dim() < 2 or x.shape[0] == x.shape[1]:
        return
    axes = [[k for k, n in enumerate(t.shape[:2]) if n == x.shape[case.batch_axis]] for t in (out, y)]
    if [len(found) for found in axes] != [1, 1]:
        return
    (a,), (b,) = axes
    with torch.no_grad():
        first, again, turned = (float(case.loss_fn(*p)) for p in ((out, y), (out, y), (out.flip(a), y.flip(b))))
    if first == again and abs(first - turned) > 1e-5 * abs(first) and _reaches_others(case, a, b):
        what = f"outputs {tuple(out.shape)} meet the targets {tuple(y.shape)} of other samples"
        when = f"turned round, the batch has the loss {turned:.6g} and not {first:.6g}"
        yield f"{what}: {when}", "y = y.transpose(0, 1)  # before reshape"


def _reaches_others(case: Case, a: int, b: int) -> bool:
    """Whether other targets of the first sample turn the gradient at others: a mask or weights of their own do not."""
    given, other = case.result.detach().requires_grad_(), case.targets.clone()
    other.select(b, 0).copy_(case.targets.select(b, -1))
    losses = [case.loss_fn(given, y) for y in (case.targets, other)]
    g, h = (torch.autograd.grad(loss, given)[0].narrow(a, 1, given.shape[a] - 1).flatten() for loss in losses)
    return bool((h - h.dot(g) / g.dot(g) * g).norm() > 1e-3 * h.norm())  # but for a factor, as of a mean over fewer


def samples_mix(case: Case) -> Found:
    """The output of one sample depends on the input of another."""
    if case.entry is None:
        raise LookupError("the inputs are whole numbers, and no nn.Embedding takes them as they are")
    if case.entry.dim() < 2:
        return
    # In evaluation mode, where batch norm does not mix; a cuDNN kernel would have no backward then.
    with torch.backends.cudnn.flags(enabled=False):
        seen = case.run(copied(case.own).eval())[1]
    (x, output), shares = (seen.entry, seen.output), []
    for a, b in [(a, b) for a in range(min(2, output.dim())) for b in (0, 1) if output.shape[a] == x.shape[b] > 1]:
        i, seed = output.shape[a] // 2, output.select(a, output.shape[a] // 2).pow(2).sum()
        g = torch.autograd.grad(seed, x, retain_graph=True, materialize_grads=True)[0] if seed.requires_grad else 0 * x
        sizes = [float(part.abs().max()) for part in g.unbind(b)]  # of each sample
        shares.append(max(sizes[:i] + sizes[i + 1 :]) / max(sizes) if any(sizes) else 0.0)
    if (worst := min(shares, default=0.0)) > 0:
        names = [n for n, m in case.recurrent if isinstance(m, nn.RNNBase) and not m.batch_first]
        line = f"model.{names[0]}.batch_first = True" if names else "x.transpose(0, 1)  # not view or reshape"
        yield f"samples see each other: an output depends on the inputs of others ({worst:.0e} of its own)", line


def cut(case: Case) -> Found:
    """The gradient is not the slope of the output: a detach, .data or no_grad on the way."""
    if not any(p.requires_grad for p in case.model.parameters()):
        yield "all parameters are frozen", "model.requires_grad_(True)"
    elif not any(p.grad is not None for p in case.model.parameters()):
        line = "loss_fn(output, targets)  # no .item(), .argmax(), .detach(), .numpy() or torch.tensor() on the way"
        yield "no parameter gets a gradient: the loss was computed from bare numbers", line
    x, b = case.entry, case.batch_axis
    if any(samples_mix(case)) or x.dim() != 3:  # then no slope is that of a sample alone
        return
    model, rows, steps = copied(case.own).eval().double(), x.shape[b], x.shape[1 - b]  # so that differences tell
    for module in model.modules():  # a state that it keeps is no parameter
        vars(module).update(as_dtype(vars(module), torch.float64))
    seen = case.run(copied(model))[1]
    output, entry = seen.output, seen.entry
    if output.shape[:1] != (rows,) or not output.requires_grad:
        return
    seed = torch.linspace(0.5, 1.5, output.numel(), dtype=torch.float64, device=x.device).reshape(output.shape)
    gradient = torch.autograd.grad((output * seed).sum(), entry, materialize_grads=True)[0]
    row, probes = torch.arange(rows, device=x.device), max(rows, 8)  # each sample probes a step of its own

    def score(move: Any) -> Any:
        return (case.run(copied(model), lambda e: e.detach() + move)[1].output * seed).reshape(rows, -1).sum(1)

    found: list[tuple[float, int, float]] = []
    with torch.no_grad():
        for start in range(0, probes, rows):
            t = ((start + row) * (steps - 1) // max(probes - 1, 1)).clamp_max(steps - 1)
            place, one = (row, t) if b == 0 else (t, row), torch.zeros_like(entry)
            one[place] = 1.0
            wide, close = ((score(e * one) - score(-e * one)) / (2 * e) for e in (1e-3, 1e-4))
            told = gradient[place].sum(-1)
            off = (close - told).abs() > 0.1 * torch.maximum(close.abs(), told.abs())
            sure = (close.abs() > 1e-8) & ((wide - close).abs() < 0.02 * close.abs())  # and no kink, as of a maximum
            found += [(abs(float(close[k])), int(t[k]), float(told[k])) for k in (off & sure).nonzero()]
    if found:
        slope, at, said = max(found)
        line = "h = h  # no .detach(), .data, .item() or no_grad between the steps"
        what = f"step {at + 1} of {steps} moves the output by {slope:.1e} a unit, its gradient says {said:.1e}"
        yield f"the graph is cut: {what}", line


def one_step(case: Case) -> Found:
    """A recurrent part that only ever runs one step, from zero: nothing is remembered."""
    for name, calls in case.calls.items():
        steps = steps_of(calls[0].module, calls[0].given) if name in case.stacks else 1
        if steps == 1 and all(call.fresh for call in calls):
            line = "h = cell(x_t, h)  # or the whole sequence, (B, T, I), in one call"
            yield f"{name} runs one step at a time ({len(calls)} in this pass), each from a state of zeros", line


def padding(case: Case) -> Found:
    """Sequences that end in rows of padding, and the loss reads them.

    It is padding if such rows are the same in all sequences, stand nowhere else in them, begin at different steps, and
    most rows before them differ from the one before: so they do not in a step, after a cue, or where events are rare.
    """
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
    if share > 0.2 and reads > 0.2 and int(padded.sum()) > 1:  # one sequence may end so by chance
        ends, rows_of = tail[padded], x[padded].reshape(int(padded.sum()), x.shape[1], -1)
        elsewhere = bool(((rows_of == rows_of[0, -1]).all(-1) != ends).any())
        steady = float(same[padded][~ends[:, 1:]].float().mean()) > 0.5
        if elsewhere or steady or len(ends.sum(1).unique()) == 1:
            return
        rows = f"on average {float(tail.sum(1)[padded].float().mean()):.0f} of {x.shape[1]}"
        line = "x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)"
        yield f"the loss reads padding: {share:.0%} of the sequences end in rows that repeat, {rows}", line


# --- the network and its optimiser ---


def read_too_early(case: Case) -> Found:
    """The loss reads a direction where it has seen next to nothing."""
    for name, (m, _, _, out, _) in case.stacks.items():
        if out.grad is None or out.dim() != 3 or out.shape[m.batch_first] < 10:
            continue
        steps, both = out.shape[m.batch_first], "h = torch.cat([h_n[-2], h_n[-1]], -1)  # of out, (h_n, c_n) = lstm(x)"
        for k, half in enumerate(out.grad.abs().amax(1 - m.batch_first).chunk(1 + m.bidirectional, -1)):
            at = half.amax(-1).nonzero().flatten()
            seen = steps if not len(at) else int((steps - at).max() if k else (at + 1).max())
            if seen <= steps // 10:
                way, line = "reverse" if k else "forward", both if m.bidirectional else "out[:, -1]  # not out[:, 0]"
                yield f"{name}: the {way} direction is read only where it has seen {seen} of {steps} steps", line


def input_scale(case: Case) -> Found:
    """Inputs so large that they saturate the gates, or what stands in front of them."""
    given = [(name, m.weight, case.entry, "units") for name, m in case.fronts]
    first = [(name, call, "_l0" if name in case.stacks else "") for name, (call, *_) in case.calls.items()]
    given += [(name, weights_of(call.module, suffix)[0], call.x, "gates") for name, call, suffix in first]
    for name, weight, x, what in given:
        size = float((x.detach() @ weight.detach().T).pow(2).mean().sqrt())
        if size > 5:
            mean = float(x.detach().reshape(-1, x.shape[-1]).mean(0).abs().max())
            moved = f"inputs move the {what} by {size:.3g} (they saturate from 3 on)"
            yield f"{name}: {moved}; the largest column has mean {mean:.3g}", "x = (x - x.mean((0, 1))) / x.std((0, 1))"


def weight_size(case: Case) -> Found:
    """Recurrent weights that are all the same, or many times the usual size."""
    for name, m in case.recurrent:
        for key in filter(re.compile(r"weight_hh(_l\d+(_reverse)?)?").fullmatch, dir(m)):  # what computes, and no mask
            w = getattr(m, key).detach()
            size = float(w.pow(2).mean().sqrt()) * math.sqrt(3 * m.hidden_size)
            same = w.numel() > 1 and bool((w == w[0, 0]).all())  # and so its units, for ever
            what = f"{float(w[0, 0]):g} everywhere" if same else f"{size:.0f} times its usual size"
            if same or size > 5:
                yield f"{name}.{key} is {what}", f"model.{name}.reset_parameters()"


def closed(case: Case) -> Found:
    """Nothing, or far too much, gets from the outputs of a stack back to its inputs."""
    for name, (m, _, x, out, _) in case.stacks.items():
        if out.grad is not None and x.grad is not None and float(out.grad.norm()):
            share = float(x.grad.norm() / out.grad.norm())
            if share < 1e-5 * min(1.0, float(m.weight_ih_l0.detach().norm())):
                line = f"model.{name}.reset_parameters()  # a gate is shut, or all is saturated"
                yield f"{name}: nothing gets in or out: ∂L/∂inputs is {share:.0e} of ∂L/∂outputs", line
            if share > 1e3:
                line = f"nn.init.orthogonal_(model.{name}.weight_hh_l0)  # and clip_grad_norm_"
                yield f"{name}: the gradient explodes: ∂L/∂inputs is {share:.0e} times ∂L/∂outputs", line


def depth(case: Case) -> Found:
    """So many layers that the lowest gets next to nothing."""
    for name, m in case.recurrent:
        if isinstance(m, nn.RNNBase) and m.num_layers > 1 and m.weight_ih_l0.grad is not None:
            low, top = (size_of([getattr(m, f"weight_hh_l{k}").grad]) for k in (0, m.num_layers - 1))
            if low < 1e-3 * top:
                what = f"layer 0 gets {low / top:.0e} of the gradient of layer {m.num_layers - 1}"
                yield f"{name}: {what}", "fewer layers, or out = out + x between them"


def dead_relu(case: Case) -> Found:
    """Units that are zero for everything in the batch; in a layer half of them may be so by chance, at the start."""
    found = [(name, call.out, 0.5) for name, call in case.stacks.items() if call.module.mode == "RNN_RELU"]
    results = [node._saved_result for node in case.nodes if type(node).__name__.startswith("Relu")]
    found += [("a layer", y, 0.9) for y in results if y.dim() < 4 and y.shape[-1] >= 8]
    for name, out, most in found:
        rows = out.detach().reshape(-1, out.shape[-1])
        dead = float((rows <= 0).all(0).float().mean())
        if len(rows) >= 32 and dead > most:
            line = "nn.init.zeros_(layer.bias)  # of what feeds it; or a smaller lr, or nn.LeakyReLU()"
            yield f"{name}: {dead:.0%} of its {rows.shape[1]} relu units are zero for all {len(rows)} rows", line


def dropout(case: Case) -> Found:
    """Dropout that leaves next to nothing, or that stays on in evaluation mode."""
    between = [float(getattr(m, "dropout", 0.0)) for _, m in case.recurrent]
    most = max([0.0, *between, *[p for p, training in case.dropouts if training]])
    if most >= 0.9:
        yield f"dropout leaves {1 - most:.0%} of the units", "p=0.2"
    with torch.no_grad():
        stays = [p for p, training in case.run(copied(case.own).eval())[1].dropouts if training and p > 0]
    if stays:
        yield f"dropout of {stays[0]:g} stays on in evaluation mode", "F.dropout(x, p, training=self.training)"


def kept_history(case: Case) -> Found:
    """A state that is kept from batch to batch with everything that it was computed from."""
    for name, m, key, _ in [*histories(case.own), *histories(case.model)]:  # but for weights computed before each pass
        computed = parametrize.is_parametrized(m) or {f"{key}_orig", f"{key}_v"} & m._parameters.keys()
        if key not in ("_buffers", "_flat_weights") and not computed:
            yield f"{name}.{key}: a history is kept from batch to batch", f"self.{key} = self.{key}.detach()"
    if any(part.grad_fn is not None for given in case.inputs[1:] for part in tensors_of(given)):
        yield "a state is given with its history, that of the batch before", "h = h.detach()"


def optimiser(case: Case) -> Found:
    """Weights that no optimiser has, decay that outweighs the loss, a first update far too large or too small."""
    groups = case.optimizer.param_groups if case.optimizer is not None else []
    twins = named_parameters(case.model)
    names = {id(p): name for name, p in named_parameters(case.own).items()}
    held = {id(p) for group in groups for p in group["params"]}
    known = [case.entry, *case.inputs, *twins.values(), *getattr(case.loss_fn, "parameters", list)()]
    theirs = [node.variable for node in case.nodes if hasattr(node, "variable")]
    strange = [p for p in theirs if id(p) not in names.keys() | held | set(map(id, known))]
    if strange and any(p.grad is not None for p in twins.values()):
        line = "self.layers = nn.ModuleList(...)  # in __init__; not a list, and not made in forward"
        yield f"a weight of shape {tuple(strange[0].shape)} is no parameter of the model: nothing trains it", line
    if not groups:
        return
    if missing := [n for n, p in named_parameters(case.own).items() if p.requires_grad and id(p) not in held]:
        line = "optimizer = torch.optim.Adam(model.parameters())  # after the model is complete"
        yield f"the optimiser does not have {len(missing)} parameters, such as {missing[0]}", line
    copies = {name: nn.Parameter(p.detach().clone(), p.requires_grad) for name, p in twins.items()}
    for name, p in twins.items():
        copies[name].grad = p.grad
    groups = [{**g, "params": [copies[names[id(p)]] for p in g["params"] if id(p) in names]} for g in groups]
    for group in groups:
        size, push = size_of(group["params"]), size_of(p.grad for p in group["params"])
        decay = 0.0 if "AdamW" in type(case.optimizer).__name__ else group.get("weight_decay", 0.0)
        if decay * size > 10 * push:
            what = f"weight decay pulls {decay * size / push:.0f} times as strongly as the loss does"
            yield what, f"weight_decay={push / size / 100:.0e}"
    type(case.optimizer)(groups).step()
    moving = {name: p for name, p in twins.items() if p.dim() > 1 and p.grad is not None and size_of([p]) > 0}
    moved = {name: size_of([copies[name] - p]) / size_of([p]) for name, p in moving.items()}
    worst, lr = max(moved.values(), default=math.nan), groups[0]["lr"]
    if worst > 0.5:
        what = f"the first update changes {max(moved, key=lambda name: moved[name])} by {worst:.0%} of its size"
        yield what, f"lr={lr * 0.02 / worst:.1g}  # a few percent at most"
    if worst < 1e-6:
        line = f"lr={lr * min(1e-3 / max(worst, 1e-12), 1e6):.1g}"
        yield f"the first update changes no matrix by more than {worst:.0e} of its size", line


CHECKS = (
    *(not_finite, constant_data, broadcast_loss, twice, target_scale, out_of_reach, pairs, samples_mix, cut, one_step),
    *(padding, read_too_early, input_scale, weight_size, closed, depth, dead_relu, dropout, kept_history, optimiser),
)
