"""The doctor's checks of the network and its optimiser: sizes and states from which no training starts.

After this file the reader knows that a threshold needs a number beside it: each was set where healthy networks never
are, and the decisions page tells how far away those were.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from .case import Case
from .mistakes import Found, name_of
from .unrolled import tensors_of


def read_too_early(case: Case) -> Found:
    """The loss reads a direction where it has seen next to nothing."""
    for name, (m, _, _, out, _) in case.stacks.items():
        if out.grad is None or out.dim() != 3 or out.shape[m.batch_first] < 10:
            continue
        steps, time = out.shape[m.batch_first], int(m.batch_first)
        both = "h = torch.cat([h_n[-2], h_n[-1]], -1)  # of out, (h_n, c_n) = lstm(x)"
        for way, half in zip(
            ("forward", "reverse"), out.grad.abs().amax(1 - time).chunk(1 + m.bidirectional, -1), strict=False
        ):
            at = half.amax(-1).nonzero().flatten()
            seen = [int((at + 1).max() if way == "forward" else (steps - at).max())] if len(at) else [steps]
            if seen[0] <= steps // 10:
                line = both if m.bidirectional else "out[:, -1]  # not out[:, 0]"
                yield f"{name}: the {way} direction is read only where it has seen {seen[0]} of {steps} steps", line


def input_scale(case: Case) -> Found:
    """Inputs so large that they saturate the gates, or what stands in front of them."""
    given = [(name, m.weight, case.entry, "units") for name, m in case.fronts]
    for name, (call, *_) in case.calls.items():
        weight = getattr(call.module, "weight_ih" if hasattr(call.module, "weight_ih") else "weight_ih_l0")
        given.append((name, weight, call.x, "gates"))
    for name, weight, x, what in given:
        size = float((x.detach() @ weight.detach().T).pow(2).mean().sqrt())
        if size > 5:
            mean = float(x.detach().reshape(-1, x.shape[-1]).mean(0).abs().max())
            moved = f"inputs move the {what} by {size:.3g} (they saturate from 3 on)"
            yield f"{name}: {moved}; the largest column has mean {mean:.3g}", "x = (x - x.mean((0, 1))) / x.std((0, 1))"


def weight_size(case: Case) -> Found:
    """Recurrent weights that are all the same, or many times the usual size."""
    for name, m in case.recurrent:
        for key, w in [(key, getattr(m, key)) for key in dir(m) if key.startswith("weight_hh")]:
            if isinstance(w, torch.Tensor):
                w = w.detach()
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
            grads = [getattr(m, f"weight_hh_l{k}").grad for k in (0, m.num_layers - 1)]
            low, top = (0.0 if g is None else float(g.norm()) for g in grads)
            if low < 1e-3 * top:
                what = f"layer 0 gets {low / top:.0e} of the gradient of layer {m.num_layers - 1}"
                yield f"{name}: {what}", "fewer layers, or out = out + x between them"


def dead_relu(case: Case) -> Found:
    """Units that are zero for everything in the batch; in a layer half of them may be so by chance, at the start."""
    found = [(name, call.out, 0.5) for name, call in case.stacks.items() if call.module.mode == "RNN_RELU"]
    results = [node._saved_result for node in case.nodes if name_of(node) == "Relu"]
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
        stays = [p for p, training in case.run(case.evaluated())[1].dropouts if training and p > 0]
    if stays:
        line = "F.dropout(x, p, training=self.training)"
        yield f"dropout of {stays[0]:g} stays on in evaluation mode", line


def kept_history(case: Case) -> Found:
    """A state that is kept from batch to batch with everything that it was computed from."""
    yield from keeps(case.model)
    if any(part.grad_fn is not None for given in case.inputs[1:] for part in tensors_of(given)):
        yield "a state is given with its history, that of the batch before", "h = h.detach()"


def keeps(model: Any) -> Found:
    """The attributes of a model that hold a tensor with a history."""
    for name, m in model.named_modules():
        for key, value in vars(m).items():
            tensors = value if isinstance(value, (tuple, list)) else [value]
            if any(getattr(t, "grad_fn", None) is not None for t in tensors) and not _made_anew(m, key):
                what = f"{name or 'the model'}.{key}: a history is kept from batch to batch"
                yield what, f"self.{key} = self.{key}.detach()"


def _made_anew(module: Any, key: str) -> bool:
    """Whether an attribute is a weight that PyTorch computes before each pass: of weight_norm, or pruned."""
    hidden = key.startswith("_") or parametrize.is_parametrized(module)
    return hidden or bool({f"{key}_orig", f"{key}_v"} & module._parameters.keys())


def optimiser(case: Case) -> Found:
    """Weights that no optimiser has, decay that outweighs the loss, a first update far too large or too small."""
    groups = case.optimizer.param_groups if case.optimizer is not None else []
    names, twins = {id(p): n for n, p in case.own.named_parameters()}, dict(case.model.named_parameters())
    held = {id(p) for group in groups for p in group["params"]}
    known = [case.entry, *case.inputs, *twins.values(), *getattr(case.loss_fn, "parameters", list)()]
    theirs = [node.variable for node in case.nodes if hasattr(node, "variable")]
    strange = [p for p in theirs if id(p) not in names.keys() | held | set(map(id, known))]
    if strange and any(p.grad is not None for p in twins.values()):
        line = "self.layers = nn.ModuleList(...)  # in __init__; not a list, and not made in forward"
        yield f"a weight of shape {tuple(strange[0].shape)} is no parameter of the model: nothing trains it", line
    if case.optimizer is None:
        return
    if missing := [n for n, p in case.own.named_parameters() if p.requires_grad and id(p) not in held]:
        line = "optimizer = torch.optim.Adam(model.parameters())  # after the model is complete"
        yield f"the optimiser does not have {len(missing)} parameters, such as {missing[0]}", line
    copies = [{**g, "params": [twins[names[id(p)]] for p in g["params"] if id(p) in names]} for g in groups]
    for group in copies:
        size, push = _size(group["params"]), _size(p.grad for p in group["params"])
        decay = 0.0 if "AdamW" in type(case.optimizer).__name__ else group.get("weight_decay", 0.0)
        if decay * size > 10 * push:
            what = f"weight decay pulls {decay * size / push:.0f} times as strongly as the loss does"
            yield what, f"weight_decay={push / size / 100:.0e}"
    moving = {n: p for n, p in twins.items() if p.dim() > 1 and p.grad is not None and _size([p]) > 0}
    old = {name: p.detach().clone() for name, p in moving.items()}
    type(case.optimizer)(copies).step()
    moved = {name: _size([p - old[name]]) / _size([old[name]]) for name, p in moving.items()}
    with torch.no_grad():
        for name, p in moving.items():
            p.copy_(old[name])
    worst, lr = max(moved.values(), default=math.nan), case.optimizer.param_groups[0]["lr"]
    if worst > 0.5:
        what = f"the first update changes {max(moved, key=lambda name: moved[name])} by {worst:.0%} of its size"
        yield what, f"lr={lr * 0.02 / worst:.1g}  # a few percent at most"
    if worst < 1e-6:
        line = f"lr={lr * min(1e-3 / max(worst, 1e-12), 1e6):.1g}"
        yield f"the first update changes no matrix by more than {worst:.0e} of its size", line


def _size(tensors: Iterable[Any]) -> float:
    return math.hypot(*[float(t.detach().norm()) for t in tensors if t is not None])
