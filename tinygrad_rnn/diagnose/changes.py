"""A network with one thing changed: a bias, the scale of weights, the activation, the number of steps, clipping.

After this file the reader knows exactly what each change does to a copy of the network; the network itself stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autodiff import history
from ..nn.cells import NONLINEARITIES, GRUCell, LSTMCell, RNNCell
from ..nn.init import chrono, identity
from ..tensor import Tensor
from .chain import Array, Chain, in_float64

CHANGES = {
    "weight_scale": "recurrent weights × {:.3g}",
    "weight_identity": "recurrent weights set to {:.3g} × the identity",
    "input_scale": "inputs, or their weights, × {:.3g}",
    "nonlinearity": "{} instead",
    "forget_bias": "forget bias {:.3g}",
    "input_bias": "input bias {:.3g}",
    "update_bias": "update bias {:.3g}",
    "bias": "bias {:.3g}",
    "chrono": "chrono gate biases up to lag {}",
    "revive": "dead units revived",
    "steps": "{} steps",
    "clip": "gradient clipped to norm {:.3g}",
}
"""What can be changed, and what the changed line is called."""


def describe(change: Mapping[str, Any]) -> str:
    """The one change, in words.

    Raises
    ------
    TypeError
        Unless it is exactly one that is known.
    """
    if len(change) != 1 or next(iter(change)) not in CHANGES:
        raise TypeError(f"change one thing at a time: {', '.join(CHANGES)}; not {', '.join(change) or 'nothing'}")
    ((name, value),) = change.items()
    return CHANGES[name].format(value)


def changed(model: Any, chain: Chain, name: str, value: Any) -> Any:
    """A float64 copy of the model with one change to its parameters or its nonlinearity.

    Raises
    ------
    ValueError
        If this network has no such thing.
    """
    twin = in_float64(model)
    cells = list(getattr(twin, "_cells", {}).values()) or [twin]
    if name == "weight_scale":
        _scale(recurrent_weights(twin, chain), float(value), "recurrent weights")
    elif name == "weight_identity":
        weights = _found(recurrent_weights(twin, chain), "recurrent weights")
        for tensor in weights.values():
            tensor.data = identity(float(value))(np.random.default_rng(0), tensor.shape)
    elif name == "input_scale":
        _scale(input_weights(twin), float(value), "input weights by the name of weight_ih")
    elif name == "nonlinearity":
        _of_kind(cells, RNNCell, name)
        if value not in NONLINEARITIES:
            raise ValueError(f"nonlinearity {value!r} is none of {', '.join(NONLINEARITIES)}")
        for cell in cells:
            cell.nonlinearity = value
    elif name in ("forget_bias", "input_bias", "chrono"):
        _of_kind(cells, LSTMCell, name)
        for cell in cells:
            _gate_biases(cell, name, value)
    elif name == "update_bias":
        _of_kind(cells, GRUCell, name)
        for cell in cells:
            cell._set_bias(cell._z, value)
    elif name == "bias":
        _of_kind(cells, RNNCell, name)
        for cell in cells:
            cell._set_bias((..., slice(None)), value)
    elif name == "revive":
        _revive(cells, chain)
    return twin


def _gate_biases(cell: LSTMCell, name: str, value: Any) -> None:
    if name != "input_bias" and not cell.forget_gate:
        raise ValueError("this LSTM has no forget gate, and so no forget bias to change")
    if name == "chrono":
        forget, closed = chrono(0, cell.hidden_size, max(int(value), 3))
        cell._set_bias(cell._f, forget)
        cell._set_bias(cell._i, closed)
    else:
        cell._set_bias(cell._f if name == "forget_bias" else cell._i, value)


def _of_kind(cells: list[Any], kind: type, name: str) -> None:
    if not all(isinstance(cell, kind) for cell in cells):
        raise ValueError(f"{name} is for {kind.__name__.removesuffix('Cell')}, not for {cells[0]!r}")


def _scale(parameters: Mapping[str, Tensor], factor: float, what: str) -> None:
    for tensor in _found(parameters, what).values():
        tensor.data = tensor.data * factor


def _found(parameters: Mapping[str, Tensor], what: str) -> Mapping[str, Tensor]:
    if not parameters:
        raise ValueError(f"no {what} to change were found")
    return parameters


def input_weights(model: Any) -> dict[str, Tensor]:
    """What the inputs are multiplied with, by name: of a stack, in its first layer."""
    return {name: p for name, p in model.parameters().items() if name in ("weight_ih", "weight_ih_l0")}


def recurrent_weights(model: Any, chain: Chain | None = None) -> dict[str, Tensor]:
    """The weights that multiply the state: weight_hh of ours, in another cell what meets the state in a product."""
    own: dict[str, Tensor] = model.parameters()
    by_name = {name: p for name, p in own.items() if name.rpartition(".")[2].startswith("weight_hh")}
    if by_name or chain is None:
        return by_name
    step = Chain(model, chain.inputs[:1], chain.states[0]).recorded_step(1)
    from_state: set[Tensor | None] = set(step.leaves)
    found: set[Tensor] = set()
    pairs = {"matmul": [(0, 1), (1, 0)], "multiply": [(0, 1), (1, 0)], "linear": [(0, 1)], "affine": [(0, 1), (3, 4)]}
    for node in step.nodes:
        if node._op is None or from_state.isdisjoint(node._operands):
            continue
        from_state.add(node)
        for a, b in pairs.get(node._op.name, []):
            state, weight = node._operands[a], node._operands[b]
            if state in from_state and weight is not None and weight.requires_grad and weight not in from_state:
                found.update(history([weight]))
    return {name: p for name, p in own.items() if p in found}


def preactivations(cell: RNNCell, chain: Chain) -> Array:
    """W h + U x + b of a simple RNN at every step, shape (T, B, H)."""
    h = np.stack([state[0] for state in chain.states[:-1]])
    bias = np.asarray(cell.bias_ih.data if isinstance(cell.bias_ih, Tensor) else cell.bias_ih, np.float64)
    bias = bias + (cell.bias_hh.data if isinstance(cell.bias_hh, Tensor) else cell.bias_hh)
    return np.asarray(chain.inputs @ cell.weight_ih.data.T + h @ cell.weight_hh.data.T + bias)


def _revive(cells: list[Any], chain: Chain) -> None:
    """Move the bias of every unit that never fires so that half of its pre-activations are positive."""
    if len(cells) != 1 or not isinstance(cells[0], RNNCell) or not isinstance(cells[0].bias_ih, Tensor):
        raise ValueError("dead units are revived by their bias, in a single layer of a simple RNN that has one")
    (cell,) = cells
    z = preactivations(cell, chain).reshape(-1, cell.hidden_size)
    dead = (z <= 0).all(axis=0)
    bias = np.array(cell.bias_ih.data)
    bias[dead] -= np.median(z, axis=0)[dead]
    cell.bias_ih.data = bias
