"""Recurrent cells and layers with PyTorch's parameters, and `unroll`."""

from . import init
from .cells import GRUCell, LSTMCell, RNNCell
from .keras import from_keras
from .layers import Embedding, Linear
from .losses import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from .module import Module
from .stacks import GRU, LSTM, RNN
from .unroll import detach, unroll
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
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "mse_loss",
    "from_keras",
    "from_state_dict",
    "from_torch",
    "init",
    "load",
    "save",
    "detach",
    "unroll",
]
