"""Your own PyTorch model: the gradient on every edge.

This folder is imported only when asked for; the rest of the package neither needs PyTorch nor knows of it.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("tinygrad_rnn.torch needs PyTorch, which you have if you have a model for it") from error

from .build import gradient_graph
from .examination import doctor
from .recording import record
from .unrolled import unroll
from .watching import watch

__all__ = ["doctor", "gradient_graph", "record", "unroll", "watch"]
