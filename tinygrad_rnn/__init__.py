"""A minimal reverse-mode autodiff engine on NumPy that shows the gradient on every edge of an unrolled network.

The tour, in the order in which data flows. A Tensor remembers how it was computed:

>>> import numpy as np
>>> import tinygrad_rnn as tg
>>> x = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True, name="x")
>>> loss = tg.sum(x * x + x)
>>> loss
Tensor(20., op=sum)

The sweep walks back from the loss and adds up what arrives at each leaf:

>>> loss.backward()
>>> x.grad
Tensor([3., 5., 7.])

The gradient graph has what flows along every edge. ``x`` is used three times; its gradient is the sum of three
contributions:

>>> graph = tg.gradient_graph(loss)
>>> for edge in graph.edges_from(graph.node_of(x)):
...     print(graph.nodes[edge.target].op, edge.contribution, edge.formula)
multiply [1. 2. 3.] g × b
multiply [1. 2. 3.] g × a
add [1. 1. 1.] g

A cell is one step of a recurrent network; `unroll` repeats it over a sequence of shape (T, B, I):

>>> cell = tg.LSTMCell(input_size=2, hidden_size=4, forget_bias=1.0, rng=0)
>>> outputs, (h, c) = tg.unroll(cell, np.ones((5, 1, 2)))
>>> graph = tg.gradient_graph(tg.sum(h))
>>> len(graph.nodes), len(graph.edges)
(82, 116)

``tg.draw(tg.sum(h), "lstm.svg")`` draws it, each edge with the gradient that flows along that very edge.
"""

from . import start as _start  # noqa: F401  # before what takes its time, so that Ctrl-C is known while it does

# isort: split
from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from . import functions, methods, ops  # noqa: F401  # `methods` puts them on Tensor
from .autodiff import grad, hessian, hvp, jacobian, jvp, vjp
from .draw import draw, draw_side_by_side, film, gradient_through_time
from .functions import *  # what each of these two files lists as public
from .graph import GradientGraph, gradient_graph
from .nn import (
    GRU,
    LSTM,
    RNN,
    Embedding,
    GRUCell,
    Linear,
    LSTMCell,
    Module,
    RNNCell,
    cross_entropy,
    detach,
    from_state_dict,
    from_torch,
    mse_loss,
    unroll,
)
from .ops import *
from .primitive import Primitive, primitive
from .scope import no_grad, scope
from .tensor import OPS, GradientError, GraphLeftWarning, Tensor

if TYPE_CHECKING:
    from .bptt import derive_bptt

__version__ = "0.2.0"

__all__ = [
    "GRU",
    "LSTM",
    "OPS",
    "RNN",
    "Embedding",
    "GRUCell",
    "GradientError",
    "GradientGraph",
    "GraphLeftWarning",
    "LSTMCell",
    "Linear",
    "Module",
    "Primitive",
    "RNNCell",
    "Tensor",
    "cross_entropy",
    "derive_bptt",
    "detach",
    "draw",
    "draw_side_by_side",
    "film",
    "from_state_dict",
    "from_torch",
    "grad",
    "gradient_graph",
    "gradient_through_time",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "mse_loss",
    "no_grad",
    "primitive",
    "scope",
    "unroll",
    "vjp",
]
__all__ += functions.__all__
__all__ += ops.__all__


def __getattr__(name: str) -> Any:
    """`bptt` and `derive_bptt`, when somebody asks: a sixth of the time that the package takes to import is theirs."""
    if name not in ("bptt", "derive_bptt"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    bptt = _import_module(".bptt", __name__)
    return bptt if name == "bptt" else bptt.derive_bptt


def __dir__() -> list[str]:
    return sorted({*globals(), "bptt", "derive_bptt"})
