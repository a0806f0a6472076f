"""HIPS autograd."""

from __future__ import annotations

from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np

from . import Library, installed

SAME = """
    negative exp expm1 log log1p sqrt square sin cos tanh abs add subtract multiply divide power maximum minimum sum
    mean max min var prod cumsum squeeze expand_dims matmul
""".split()


def vjp(f: Any, arrays: Any, u: Any) -> Any:
    pull, y = autograd.make_vjp(lambda xs: f(*xs))(tuple(map(np.asarray, arrays)))
    return np.asarray(y), [] if u is None else [np.asarray(g) for g in pull(u)]


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
    vjp,
)
