"""Arrays of Keras's recurrent layers: the same functions in another layout.

After this file the reader knows what such arrays tell (kind, sizes, whether the reset gate comes after the product) and
what they do not (the activations), so that one has to say it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from .module import Module
from .weights import from_state_dict

_KINDS = {1: "RNN", 3: "GRU", 4: "LSTM"}
_CONFIG = {
    **{"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True},
    **{"go_backwards": False, "merge_mode": "concat", "unit_forget_bias": None},
}
"""By option: the value with which a layer is one of ours; None for any."""


def from_keras(
    weights: Sequence[Any], config: Mapping[str, Any] | None = None, *, reset_after: bool | None = None
) -> Module:
    """The stack with the weights of Keras's SimpleRNN, LSTM or GRU; Keras itself is not imported.

    Parameters
    ----------
    weights : sequence of array_like
        ``layer.get_weights()``: kernel of shape (I, gates · H), recurrent kernel (H, gates · H) and bias; those of a
        Bidirectional twice. Its gates are i, f, c, o, or z, r, h.
    config : mapping, optional
        ``layer.get_config()``, which tells the activations; without it tanh and sigmoid are assumed, with a warning.
    reset_after : bool, optional
        Needed for a GRU without bias, which does not tell it.

    Returns
    -------
    Module
        RNN, LSTM or GRU with ``batch_first``, as Keras has its inputs.

    Raises
    ------
    ValueError
        If these are no such arrays, or of a layer that computes something else: a hard sigmoid, a GRU whose reset gate
        comes before the product, CuDNN's layout.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.nn import from_keras
    >>> config = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    >>> from_keras([np.ones((3, 16)), np.ones((4, 16)), np.zeros(16)], config)
    LSTM(3, 4, batch_first=True)
    """
    arrays = [np.asarray(array) for array in weights]
    if config is None:
        warn(
            "the arrays do not tell the activations: tanh and sigmoid are assumed; config=layer.get_config() tells",
            stacklevel=2,
        )
    layer = dict(config or {})
    layer |= layer.get("layer", {}).get("config", {})  # of a Bidirectional
    rnn = len(arrays) > 1 and arrays[0].ndim == 2 and arrays[0].shape[1:] == arrays[1].shape[:1]
    allowed = _CONFIG | ({"activation": layer.get("activation")} if rnn else {})
    if wrong := {k: layer[k] for k, v in allowed.items() if v is not None and k in layer and layer[k] != v}:
        raise ValueError(f"a layer with {wrong} computes something else than any of ours")
    ways = 2 if len(arrays) in (4, 6) else 1
    size = len(arrays) // ways
    state: dict[str, NDArray[Any]] = {}
    for way in range(ways):
        found = _layer(arrays[way * size : (way + 1) * size], layer.get("reset_after", reset_after))
        state |= {f"{name}_l0{'_reverse' * way}": array for name, array in found.items()}
    kind = _KINDS[state["weight_hh_l0"].shape[0] // state["weight_hh_l0"].shape[1]]
    activation = {"linear": "identity"}.get(layer.get("activation", "tanh"), layer.get("activation", "tanh"))
    return from_state_dict(state, kind, batch_first=True, nonlinearity=activation if kind == "RNN" else None)


def _layer(arrays: Sequence[NDArray[Any]], reset_after: bool | None) -> dict[str, NDArray[Any]]:
    """One direction: kernels transposed, the gates of a GRU in PyTorch's order, and two biases."""
    shapes = ", ".join(str(array.shape) for array in arrays)
    fits = len(arrays) in (2, 3) and arrays[0].ndim == arrays[1].ndim == 2 and arrays[0].shape[1] == arrays[1].shape[1]
    hidden, columns = arrays[1].shape if fits else (1, 0)
    gates = columns // hidden if hidden else 0
    if not fits or gates not in _KINDS or columns != gates * hidden:
        raise ValueError(f"not the arrays of a SimpleRNN, LSTM or GRU of Keras's: shapes {shapes}")
    bias = arrays[2] if len(arrays) == 3 else None
    if bias is not None and bias.shape == (2 * columns,):
        raise ValueError("CuDNN's layout: load its file into keras.layers.LSTM or GRU, and take the weights of that")
    if bias is not None and bias.shape != (columns,) and not (gates == 3 and bias.shape == (2, columns)):
        raise ValueError(f"not the arrays of a SimpleRNN, LSTM or GRU of Keras's: shapes {shapes}")
    if gates == 3 and bias is None and reset_after is None:
        raise ValueError(
            "a GRU without bias does not tell whether its reset gate comes after the product: reset_after=True"
        )
    if gates == 3 and (bias.ndim == 1 if bias is not None else not reset_after):
        raise ValueError("a GRU with reset_after=False computes something else than PyTorch's and ours")
    order = [1, 0, 2] if gates == 3 else range(gates)

    def rows(columns: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([np.split(columns.T, gates)[k] for k in order])

    found = {"weight_ih": rows(arrays[0]), "weight_hh": rows(arrays[1])}
    if bias is not None:
        both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        found |= {"bias_ih": rows(both[0]), "bias_hh": rows(both[1])}
    return found
