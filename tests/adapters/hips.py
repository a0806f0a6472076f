"""HIPS autograd."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np

from tinygrad_rnn.testing.adapters import autograd_vjp

from . import Library, installed

SAME = """
    negative exp expm1 log log1p sqrt square sin cos tanh abs add subtract multiply divide power maximum minimum sum
    mean max min var prod cumsum squeeze expand_dims matmul
""".split()


LIBRARY = Library(
    "HIPS autograd",
    installed("autograd") or "",
    {name: getattr(anp, name) for name in SAME}
    | {
        "clip": lambda x, a_min, a_max: anp.clip(x, -np.inf if a_min is None else a_min, a_max),
        "where": lambda a, b, condition: anp.where(condition, a, b),
        "broadcast_to": lambda x, shape: anp.broadcast_to(x, shape),
        "reshape": lambda x, shape: anp.reshape(x, shape),
        "transpose": lambda x, axes=None: anp.transpose(x, axes),
        "getitem": lambda x, index: x[index],
        "concatenate": lambda *xs, axis: anp.concatenate(xs, axis),
        "stack": lambda *xs, axis: anp.stack(xs, axis),
        "einsum": lambda *xs, subscripts: anp.einsum(subscripts, *xs),
    },
    autograd_vjp,
)
