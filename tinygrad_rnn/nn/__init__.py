"""Recurrent cells with PyTorch's parameters, and `unroll`."""

from .cells import LSTMCell, RNNCell
from .unroll import unroll

__all__ = ["LSTMCell", "RNNCell", "unroll"]
