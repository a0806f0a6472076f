"""PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from tinygrad_rnn.testing.adapters import torch_vjp

from . import Library, installed

SAME = """
    negative exp expm1 log log1p sqrt square sin cos tanh sigmoid abs add subtract multiply divide maximum minimum sum
    mean matmul relu
""".split()


def along(function: Any) -> Any:
    """A reduction that takes `dim`; all axes by default."""
    return lambda x, axis=None, keepdims=False: function(x, tuple(range(x.ndim)) if axis is None else axis, keepdims)


LIBRARY = Library(
    "PyTorch",
    installed("torch") or "",
    {name: getattr(torch, name) for name in SAME}
    | {
        "power": torch.pow,
        "leaky_relu": lambda x, slope=0.01: functional.leaky_relu(x, slope),
        "softplus": functional.softplus,
        "softmax": lambda x, axis=-1: torch.softmax(x, axis),
        "log_softmax": lambda x, axis=-1: torch.log_softmax(x, axis),
        "logsumexp": along(torch.logsumexp),
        "max": along(torch.amax),
        "min": along(torch.amin),
        "clip": lambda x, a_min, a_max: torch.clip(x, a_min, a_max),
        "where": lambda a, b, condition: torch.where(torch.tensor(condition), a, b),
        "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
        "reshape": lambda x, shape: torch.reshape(x, (shape,) if isinstance(shape, int) else shape),
        "transpose": lambda x, axes=None: torch.permute(x, axes or tuple(range(x.ndim))[::-1]),
        "stack": lambda *xs, axis: torch.stack(xs, axis),
        "einsum": lambda *xs, subscripts: torch.einsum(subscripts, *xs),
        "prod": lambda x, axis=None, keepdims=False: torch.prod(x) if axis is None else torch.prod(x, axis, keepdims),
    },
    torch_vjp,
)
