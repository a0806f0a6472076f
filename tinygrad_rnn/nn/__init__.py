"""Recurrent cells and layers with PyTorch's parameters, and `unroll`."""

from . import init
from .cells import GRUCell, LSTMCell, RNNCell
from .layers import Embedding, Linear
from .module import Module
from .stacks import GRU, LSTM, RNN
from .unroll import unroll
from .weights import from_state_dict, from_torch, load, save

__all__ = [
    "GRU",
    "GRUCell",
    "LSTM",
    "LSTMCell",
    "RNN",
    "RNNCell",
    "Embedding",
    "Linear",
    "Module",
    "from_state_dict",
    "from_torch",
    "init",
    "load",
    "save",
    "unroll",
]
