"""The doctor's checks of the network and its optimiser: sizes and states from which no training starts.

After this file the reader knows that a threshold needs a number beside it: each was set where healthy networks never
are, and the decisions page tells how far away those were.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from .case import Case
from .mistakes import Finding, name_of
from .stepwise import tensors_of


def read_too_early(case: Case) -> Finding:
    """The loss reads a direction where it has seen next to nothing."""
    for name, (m, _, _, out, _) in case.stacks.items():
        if out.grad is None or out.dim() != 3:
            continue
        time = 1 if m.batch_first else 0
        steps = out.shape[time]
        for k, half in enumerate(out.grad.abs().amax(1 - time).chunk(1 + m.bidirectional, -1)):
            at = half.amax(-1).nonzero().flatten()
            if not len(at) or steps < 10:
                continue
            seen = int((at + 1).max() if k == 0 else (steps - at).max())
            if seen <= steps // 10:
                line = "out[:, -1]  # not out[:, 0]"
                if m.bidirectional:
                    line = "h = torch.cat([h_n[-2], h_n[-1]], -1)  # of out, (h_n, c_n) = lstm(x)"
                way = "reverse" if k else "forward"
                return f"{name}: the {way} direction is read only where it has seen {seen} of {steps} steps", line
    return None


def input_scale(case: Case) -> Finding:
    """Inputs so large that they saturate the gates, or what stands in front of them."""
    given = [(name, m, case.entry) for name, m in case.fronts]
    given += [(name, call.module, call.x) for name, (call, *_) in case.calls.items()]
    for name, m, x in given:
        (weight, *_) = (getattr(m, key) for key in ("weight", "weight_ih", "weight_ih_l0") if hasattr(m, key))
        size = float((x.detach() @ weight.detach().T).pow(2).mean().sqrt())
        if size > 5:
            mean = float(x.detach().reshape(-1, x.shape[-1]).mean(0).abs().max())
            what = f"inputs move the {'units' if hasattr(m, 'weight') else 'gates'} by {size:.3g}"
            line = "x = (x - x.mean((0, 1))) / x.std((0, 1))"
            return f"{name}: {what} (they saturate from 3 on); the largest column has mean {mean:.3g}", line
    return None


def weight_size(case: Case) -> Finding:
    """Recurrent weights that are all the same, or many times the usual size."""
    for name, m in case.recurrent:
        for key in [key for key in dir(m) if key.startswith("weight_hh")]:
            w = getattr(m, key)
            if not isinstance(w, torch.Tensor):
                continue
            w = w.detach()
            size = float(w.pow(2).mean().sqrt()) * math.sqrt(3 * m.hidden_size)
            same = w.numel() > 1 and bool((w == w[0, 0]).all())  # and so its units, for ever
            if same or size > 5:
                what = f"{float(w[0, 0]):g} everywhere" if same else f"{size:.0f} times its usual size"
                return f"{name}.{key} is {what}", f"model.{name}.reset_parameters()"
    return None


def closed(case: Case) -> Finding:
    """Nothing, or far too much, gets from the outputs of a stack back to its inputs."""
    for name, (m, _, x, out, _) in case.stacks.items():
        if out.grad is None or x.grad is None or float(out.grad.norm()) == 0:
            continue
        share = float(x.grad.norm() / out.grad.norm())
        if share < 1e-5 * min(1.0, float(m.weight_ih_l0.detach().norm())):
            line = f"model.{name}.reset_parameters()  # a gate is shut, or all is saturated"
            return f"{name}: nothing gets in or out: ∂L/∂inputs is {share:.0e} of ∂L/∂outputs", line
        if share > 1e3:
            line = f"nn.init.orthogonal_(model.{name}.weight_hh_l0)  # and clip_grad_norm_"
            return f"{name}: the gradient explodes: ∂L/∂inputs is {share:.0e} times ∂L/∂outputs", line
    return None


def depth(case: Case) -> Finding:
    """So many layers that the lowest gets next to nothing."""
    for name, m in case.recurrent:
        if isinstance(m, nn.RNNBase) and m.num_layers > 1 and m.weight_ih_l0.grad is not None:
            grads = [getattr(m, f"weight_hh_l{k}").grad for k in range(m.num_layers)]
            low, top = (0.0 if g is None else float(g.norm()) for g in (grads[0], grads[-1]))
            if low < 1e-3 * top:
                line = "fewer layers, or out = out + x between them"
                return f"{name}: layer 0 gets {low / top:.0e} of the gradient of layer {m.num_layers - 1}", line
    return None


def dead_relu(case: Case) -> Finding:
    """Units that are zero for everything in the batch; in a layer half of them may be so by chance, at the start."""
    found = [(name, call.out, 0.5) for name, call in case.stacks.items() if call.module.mode == "RNN_RELU"]
    results = [node._saved_result for node in case.nodes() if name_of(node) == "Relu"]
    found += [("a layer", y, 0.9) for y in results if y.dim() < 4 and y.shape[-1] >= 8]
    for name, out, most in found:
        rows = out.detach().reshape(-1, out.shape[-1])
        dead = float((rows <= 0).all(0).float().mean())
        if len(rows) >= 32 and dead > most:
            line = "nn.init.zeros_(layer.bias)  # of what feeds it; or a smaller lr, or nn.LeakyReLU()"
            return f"{name}: {dead:.0%} of its {rows.shape[1]} relu units are zero for all {len(rows)} rows", line
    return None


def dropout(case: Case) -> Finding:
    """Dropout that leaves next to nothing, or that stays on in evaluation mode."""
    most = max([p for p, training in case.dropouts if training], default=0.0)
    most = max([most, *[float(getattr(m, "dropout", 0.0)) for _, m in case.recurrent]])
    if most >= 0.9:
        return f"dropout leaves {1 - most:.0%} of the units", "p=0.2"
    with torch.no_grad():
        stays = [p for p, training in case.run(case.evaluated())[1].dropouts if training and p > 0]
    if not stays:
        return None
    return f"dropout of {stays[0]:g} stays on in evaluation mode", "F.dropout(x, p, training=self.training)"


def kept_history(case: Case) -> Finding:
    """A state that is kept from batch to batch with everything that it was computed from."""
    if held := histories(case.model):
        return keeps(held)
    if any(part.grad_fn is not None for given in case.inputs[1:] for part in tensors_of(given)):
        return "a state is given with its history, that of the batch before", "h = h.detach()"
    return None


def keeps(held: list[str]) -> tuple[str, str]:
    """What to say of such attributes."""
    key = held[0].rpartition(".")[2]
    return f"{', '.join(held)}: a history is kept from batch to batch", f"self.{key} = self.{key}.detach()"


def histories(model: Any) -> list[str]:
    """The attributes of a model that hold a tensor with a history."""
    found = []
    for name, m in model.named_modules():
        for key, value in vars(m).items():
            tensors = value if isinstance(value, (tuple, list)) else [value]
            if any(getattr(t, "grad_fn", None) is not None for t in tensors) and not _made_anew(m, key):
                found.append(f"{name or 'the model'}.{key}")
    return found


def _made_anew(module: Any, key: str) -> bool:
    """Whether an attribute is a weight that PyTorch computes before each pass: of weight_norm, or pruned."""
    return (
        parametrize.is_parametrized(module)
        or key.startswith("_")
        or f"{key}_orig" in module._parameters
        or (f"{key}_v" in module._parameters)
    )


def optimiser(case: Case) -> Finding:
    """Weights that no optimiser has, decay that outweighs the loss, a first update far too large or too small."""
    names = {id(p): name for name, p in case.own.named_parameters()}
    held = {id(p) for group in (case.optimizer.param_groups if case.optimizer else []) for p in group["params"]}
    known = [case.entry, *case.inputs, *case.model.parameters(), *getattr(case.loss_fn, "parameters", list)()]
    theirs = [node.variable for node in case.nodes() if hasattr(node, "variable")]
    strange = [p for p in theirs if id(p) not in names.keys() | held | set(map(id, known))]
    if strange and any(p.grad is not None for p in case.model.parameters()):
        line = "self.layers = nn.ModuleList(...)  # in __init__; not a list, and not made in forward"
        return f"a weight of shape {tuple(strange[0].shape)} is no parameter of the model: nothing trains it", line
    if case.optimizer is None:
        return None
    missing = [n for n, p in case.own.named_parameters() if p.requires_grad and id(p) not in held]
    if missing:
        line = "optimizer = torch.optim.Adam(model.parameters())  # after the model is complete"
        return f"the optimiser does not have {len(missing)} parameters, such as {missing[0]}", line
    twins = dict(case.model.named_parameters())
    groups = []
    for group in case.optimizer.param_groups:
        params = [twins[names[id(p)]] for p in group["params"] if id(p) in names]
        groups.append({**{key: value for key, value in group.items() if key != "params"}, "params": params})
        if decay := 0.0 if "AdamW" in type(case.optimizer).__name__ else group.get("weight_decay", 0.0):
            size, push = (
                math.hypot(*[float(t.detach().norm()) for t in ts if t is not None])
                for ts in (params, [p.grad for p in params])
            )
            if decay * size > 10 * push:
                line = f"weight_decay={push / size / 100:.0e}"
                return f"weight decay pulls {decay * size / push:.0f} times as strongly as the loss does", line
    moving = {n: p for n, p in twins.items() if p.dim() > 1 and p.grad is not None and float(p.detach().norm()) > 0}
    old = {name: p.detach().clone() for name, p in moving.items()}
    type(case.optimizer)(groups).step()
    moved = {name: float((p.detach() - old[name]).norm() / old[name].norm()) for name, p in moving.items()}
    with torch.no_grad():
        for name, p in moving.items():
            p.copy_(old[name])
    worst, lr = max(moved.values(), default=math.nan), case.optimizer.param_groups[0]["lr"]
    if worst > 0.5:
        what = f"the first update changes {max(moved, key=lambda name: moved[name])} by {worst:.0%} of its size"
        return what, f"lr={lr * 0.02 / worst:.1g}  # a few percent at most"
    if worst < 1e-6:
        line = f"lr={lr * min(1e-3 / max(worst, 1e-12), 1e6):.1g}"
        return f"the first update changes no matrix by more than {worst:.0e} of its size", line
    return None
