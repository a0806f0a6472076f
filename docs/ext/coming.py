"""The page "Coming from NumPy, autograd or PyTorch": what you write, what it is here, what is missing and why.

    python docs/ext/coming.py       write the tables into docs/coming.md

After this file the reader knows why the page cannot be out of date: the names of NumPy are read off the table that a
Tensor answers by, what to write instead is what the error message says, and each call in the other two tables is made
by a test.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn.instead import INSTEAD
from tinygrad_rnn.numpy_calls import QUESTIONS
from tinygrad_rnn.tensor import NUMPY, OPS

PAGE = Path(__file__).resolve().parent.parent / "coming.md"
BEGIN, END = "<!-- tables: python docs/ext/coming.py -->\n", "<!-- end of the tables -->"

AUTOGRAD = [
    ("import autograd.numpy as np", "import numpy as np", "NumPy itself, called with Tensors"),
    ("grad(f)(x)", "tg.jacobian(f, x)", "of a number; or `tg.grad(y, x)` of a result that you have"),
    ("value_and_grad(f)(x)", "tg.vjp(f, x)[0], tg.vjp(f, x)[1](1.0)[0]", ""),
    ("elementwise_grad(f)(x)", "tg.jvp(f, (x,), (np.ones(3),))[1]", "where f works element by element"),
    ("jacobian(f)(x)", "tg.jacobian(f, x)", ""),
    ("hessian(f)(x)", "tg.hessian(f, x)", ""),
    ("hessian_vector_product(f)(x, v)", "tg.hvp(f, (x,), (v,))[0]", ""),
    ("make_vjp(f)(x)", "tg.vjp(f, x)", "the other way round: first the value, then the function"),
    ("make_jvp(f)(x)(v)", "tg.jvp(f, (x,), (v,))", "made of two sweeps back"),
    ("@primitive and defvjp(f, rule)", "tg.primitive", "[a rule of your own](howto/own-rule.md)"),
    ("check_grads(f)(x)", "gradcheck(f, v)", "`from tinygrad_rnn.testing import gradcheck`"),
    ("np.array([x, x])", "np.stack([x, x])", "NumPy asks a list for plain numbers; so it is for `np.mean([x, x])`"),
]
PYTORCH = [
    ("torch.tensor(v, requires_grad=True)", "tg.Tensor(v, requires_grad=True)", "a list of floats is float64 here"),
    ("loss.backward(); x.grad", "f(x).backward() or x.grad", "adds up in `.grad`, as there"),
    ("torch.autograd.grad(y, x)[0]", "tg.grad(f(x), x)", "a Tensor for a Tensor, a tuple for a tuple"),
    ("with torch.no_grad():", "tg.no_grad()", "also as a decorator"),
    ("x.detach().numpy(), x.item()", "x.numpy()", "no `detach` is needed: the array is read-only"),
    (
        "torch.as_tensor(array)",
        "tg.Tensor(v)",
        "copied, from `__array__` or DLPack; back: `torch.as_tensor(x)`",
    ),
    ("x.clone(), x.to(torch.float32)", "x.copy(), x.astype(np.float32)", ""),
    ("torch.cat, torch.stack", "np.concatenate([x, x]), np.stack([x, x])", "axis= for dim=, keepdims= for keepdim="),
    ("x[0] = 1.0, x += 1", "np.where([True, False, False], 1.0, x)", "tensors are values; `x += 1` makes a new one"),
    ("nn.LSTM(3, 4, num_layers=2)", "nn.LSTM(3, 4, num_layers=2)", "the same names, shapes and gate order"),
    ("net.weight_hh_l0", "net.weight_hh_l0", "also to assign to"),
    ("net.load_state_dict(torch.load(...))", "net.load_state_dict(net.state_dict())", "or `nn.from_torch(module)`"),
    ("for name, p in net.named_parameters()", "net.parameters().items()", "a mapping by name"),
    (
        "F.cross_entropy(y, t, weight, ignore_index=-100)",
        "nn.cross_entropy(np.eye(2), [0, -100], ignore_index=-100)",
        "",
    ),
    ("F.mse_loss(y, t, reduction='sum')", "nn.mse_loss(x, v, reduction='sum')", ""),
    ("torch.optim.Adam(net.parameters())", "train.Adam(net.parameters())", "`from tinygrad_rnn import train`"),
    ("nn.utils.clip_grad_norm_(p, 1.0)", "train.clip_grad_norm({'x': y}, 1.0)", ""),
]
"""What they write, what it is here, and what to know; each call here is made by a test."""

WHY = {
    "complex numbers, `np.fft`, `np.real`": "gradients are of real numbers here",
    "`np.linalg.solve`, `inv`, `det`, `svd`, `eigh`": "rarely needed here: [declare one](howto/add-an-op.md)",
    "`x[0] = 1.0`, `out=`, `np.add.at`": "what a graph keeps must not change: `np.where`, `np.concatenate`",
    "`x // y`": "its gradient is 0 wherever it has one: `np.floor(x / y)` says so",
    "`dtype=`, `order='F'`, `where=[...]`": "on a Tensor only where they change nothing: `x.astype(...)`, `np.where`",
    "`np.add.reduce`, `np.vectorize`, `np.r_[...]`": "they ask for plain numbers: `np.sum`, `np.concatenate`",
    "arrays of dtype object, float16, longdouble": "float32 and float64 only",
    "a GPU, `jit`, `vmap`": "NumPy only; a derived program ([`derive_bptt`](derived.md)) is the fast way",
}


STEPS = {"sign", "floor", "ceil", "trunc", "rint", "round", "around", "fix"}
"""Constant between their steps: of a Tensor they are Tensors, whose gradient is 0."""


def names() -> dict[str, list[str]]:
    """NumPy's names that a Tensor answers, by what comes out."""
    found: dict[str, list[str]] = {"a Tensor, by one primitive": [], "a Tensor, composed": [], "a plain answer": []}
    for where, module in (("", np), ("linalg.", np.linalg)):
        for name in sorted(vars(module)):
            function: Any = vars(module)[name]
            if getattr(function, "__name__", "") != name or NUMPY.get(function) is None:
                continue
            asks = (function in QUESTIONS or name in ("shape", "ndim")) and name not in STEPS
            own = name == "absolute" or name in OPS
            found["a plain answer" if asks else "a Tensor, by one primitive" if own else "a Tensor, composed"] += [
                where + name
            ]
    return found


def rows(heading: str, table: list[tuple[str, str, str]]) -> list[str]:
    """A table of what they write beside what it is here."""
    lines = [f"## From {heading}", "", f"| {heading} | here | |", "|---|---|---|"]
    return [*lines, *[f"| `{theirs}` | `{ours}` | {said} |" for theirs, ours, said in table], ""]


def tables() -> str:
    """All that the page shows between its two marks."""
    lines = ["## From NumPy", "", "| of a Tensor | functions |", "|---|---|"]
    lines += [f"| {kind} | {', '.join(f'`{name}`' for name in listed)} |" for kind, listed in names().items()]
    lines += ["", *rows("autograd", AUTOGRAD), *rows("PyTorch", PYTORCH), "## What is missing, and why", ""]
    lines += ["| missing | why, and what instead |", "|---|---|"]
    lines += [f"| {what} | {why} |" for what, why in WHY.items()]
    lines += [f"| `np.{name}` | `{instead}` |" for name, instead in INSTEAD.items()]
    return "\n".join(lines) + "\n"


def stale(page: str) -> bool:
    """Whether the tables on the page are not those of the package."""
    return page.partition(BEGIN)[2].partition(END)[0] != tables()


def main() -> int:
    """Write the tables into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + tables() + END + rest.partition(END)[2], encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
