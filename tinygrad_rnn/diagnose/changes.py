"""What can be changed: how it is called, what is asked of its value, and what it does to a network or its inputs.

After this file the reader knows that a change is a name and a value, as `what_if` takes them, and why what a report
prints can be pasted: the lines call `change`, which does what the report did before it measured.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..arguments import flag, lengths_of, mapping, number, one_of, refusal, whole
from ..nn import init
from ..nn.cells import CELLS, NONLINEARITIES, GRUCell, LSTMCell, RNNCell
from ..nn.module import once
from ..nn.sequences import in_one_array
from ..tensor import Tensor, as_array
from .chain import Array
from .experiment import Experiment, cells_of, is_ours

Changes = Mapping[str, Any]
Edit = Callable[[str, Array], Array]  # of a parameter's name and its array
PARTS = {"recurrent weights": "weight_hh", "input weights": "weight_ih", "biases": "bias_[ih]h"}


@dataclass(frozen=True)
class Kind:
    """A kind of change.

    Attributes
    ----------
    part : str
        What it changes: of two changes that are tried together each has another.
    words : str
        What it is called, with the value in it.
    tried : tuple
        The values that a search begins with, the gentlest first.
    names : str
        Of the parameters that it multiplies: a pattern.
    gates : dict of str to float
        Those that a cell must have; a bias is set to so many times the value. "" is the whole of a simple RNN.
    """

    part: str
    words: str
    tried: tuple[Any, ...] = ()
    names: str = ""
    gates: Mapping[str, float] = field(default_factory=dict)


def _factors(low: float, high: float, n: int) -> tuple[float, ...]:
    """From 10^low to 10^high, the gentlest first."""
    return tuple(float(f"{10.0**v:.3g}") for v in sorted(np.linspace(low, high, n), key=abs) if abs(v) > 0.01)


OPEN = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, -1.0)
RECURRENT, ONE = r"weight_hh\w*$", {"": 1.0}
KINDS = {
    "chrono": Kind("gate biases", "gate biases for lags to {} (chrono)", (1, 2, 4), gates={"f": 1.0, "i": 1.0}),
    "gate_bias": Kind(
        "gate biases", "forget bias {0:.3g}, input bias -{0:.3g}", OPEN[2:6], gates={"f": 1.0, "i": -1.0}
    ),
    "forget_bias": Kind("gate biases", "forget bias {:.3g} alone", OPEN, gates={"f": 1.0}),
    "input_bias": Kind("input bias", "input bias {:.3g}", (0.0, -2.0, -4.0), gates={"i": 1.0}),
    "output_bias": Kind("output bias", "output bias {:.3g}", (0.0, 2.0), gates={"o": 1.0}),
    "update_bias": Kind("update bias", "update bias {:.3g}", OPEN, gates={"z": 1.0}),
    "bias": Kind("biases", "bias {:.3g}", (0.0, 0.5), gates=ONE),
    "standardise": Kind("inputs", "inputs standardised", (True,)),
    "input_scale": Kind(
        "inputs", "inputs, or their weights, × {:.3g}", _factors(-5, 2, 15), r"weight_ih(_l0)?(_reverse)?$"
    ),
    "layer_scale": Kind(
        "weights between layers", "weights between layers × {:.3g}", _factors(-0.5, 1.25, 8), r"weight_ih_l[1-9]\w*$"
    ),
    "weight_scale": Kind("recurrent weights", "recurrent weights × {:.3g}", _factors(-1.5, 1, 11), RECURRENT),
    "orthogonal": Kind(
        "recurrent weights", "recurrent weights orthogonal, × {:.3g}", (1.0, 0.95, 1.1, 1.4, 0.8), gates=ONE
    ),
    "nonlinearity": Kind("activation", "{} as activation", ("tanh", "relu"), gates=ONE),
    "redraw": Kind("", "{} drawn anew", tuple(PARTS)),
    "scale": Kind("", "{}", _factors(-2, 1.5, 15)),
}
SEED = 7
"""Draws what a change draws anew."""


def checked(changes: Changes) -> dict[str, Any]:
    """The changes, if all are known, in the order in which they are made: what is drawn anew is drawn first.

    Raises
    ------
    TypeError
        If there are none, or an unknown one.
    ValueError
        If one is given a wrong value.
    """
    if not changes or (unknown := [name for name in changes if name not in KINDS]):
        raise TypeError(f"change one or more of {', '.join(KINDS)}; not {', '.join(unknown) if changes else 'nothing'}")
    return {name: _checked(name, changes[name]) for name in ("redraw", *KINDS) if name in changes}


def _checked(name: str, value: Any) -> Any:
    if name == "standardise":
        if not flag(name, value):
            raise refusal(name, value, "True")
        return True
    if name == "scale":
        factors = mapping(name, value, "a mapping of names of parameters to factors")
        return {key: number(f"{name}[{key!r}]", factor) for key, factor in factors.items()}
    if name == "chrono":
        return whole(name, value, 2)
    choices: dict[str, Iterable[str]] = {"redraw": PARTS, "nonlinearity": NONLINEARITIES}
    return one_of(name, value, choices[name]) if name in choices else number(name, value)


def label_of(changes: Changes) -> str:
    """Changes in words."""
    said = []
    for name, value in changes.items():
        factors = [f"{key} × {factor:.3g}" for key, factor in value.items()] if name == "scale" else []
        said.append(", ".join(factors) or KINDS[name].words.format(value))
    return "; ".join(said)


def change(model: Any, inputs: Any = None, *, lengths: Any = None, **changes: Any) -> tuple[Any, Any]:
    """Make changes that a report prints: its lines to paste call this.

    Parameters
    ----------
    model : cell, stack or Module
    inputs : array_like, list of sequences, or PackedSequence, optional
        Of ``standardise=True`` only.
    lengths : integers, shape (B,), optional
        How long each of padded sequences is.
    **changes
        As `GradientFlow.what_if` takes them.

    Returns
    -------
    model, inputs
        A changed copy of the model; the inputs, as they were or standardised.

    Raises
    ------
    TypeError, ValueError
        If there is nothing to change, no change is given, or one with a wrong value.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.diagnose import change
    >>> model, _ = change(tg.LSTMCell(2, 1, rng=0), forget_bias=3.0, input_bias=-3.0)
    >>> (model.bias_ih.data + model.bias_hh.data)[:2].tolist()
    [-3.0, 3.0]
    """
    if hasattr(inputs, "batch_sizes"):  # which holds the steps of all sequences in one array, and no padding
        model, data = change(model, inputs.data, **changes)
        return model, inputs._replace(data=inputs.data.new_tensor(as_array(data)))
    if lengths is None and in_one_array(inputs, False)[1] is not None:
        model, data = change(model, np.concatenate([as_array(row) for row in inputs]), **changes)
        return model, np.split(data, np.cumsum([len(row) for row in inputs])[:-1])
    turn = lengths is not None and getattr(model, "batch_first", False)
    turned = np.swapaxes(inputs, 0, 1) if turn else inputs
    lengths = None if lengths is None else lengths_of(lengths, *np.shape(turned)[1::-1])
    found = changed(Experiment(model, turned, lengths=lengths), checked(changes))
    return found.model, np.swapaxes(found.inputs, 0, 1) if turn else found.inputs


def changed(experiment: Experiment, changes: Changes) -> Experiment:
    """The same experiment with a changed copy of its model, or with other inputs.

    Raises
    ------
    ValueError
        If this network has no such thing.
    """
    if isinstance(experiment.model, Tensor):
        raise ValueError("a graph that is there already cannot be changed: give the model and its inputs")
    model, inputs = copy.deepcopy(experiment.model), experiment.inputs
    own = once(model.parameters().items())
    for name, value in changes.items():
        if name == "standardise":
            inputs = _standardised(experiment)
        elif name == "redraw":
            _redraw(model, [value], SEED)
        elif name == "nonlinearity":
            for cell in _cells_with(model, name)[1]:
                cell.nonlinearity = value
        elif name == "scale":
            for key, factor in value.items():
                _edit(own, name, f"^{re.escape(key)}$", _times(factor))
        elif KINDS[name].names:
            _edit(own, name, KINDS[name].names, _times(value))
        elif name == "orthogonal":
            _edit(own, name, RECURRENT, _orthogonal(value))
        else:
            _edit(own, name, PARTS["biases"], _biases(_cells_with(model, name)[0], name, value))
    return replace(experiment, model=model, inputs=inputs)


def _times(factor: float) -> Edit:
    return lambda name, a: a * factor


def _orthogonal(gain: float) -> Edit:
    return lambda name, a: init.orthogonal(gain)(np.random.default_rng(0), a.shape)


def _edit(own: Mapping[str, Tensor], change: str, pattern: str, to: Edit) -> None:
    """Change each parameter of such names."""
    if not (found := [name for name in own if re.search(pattern, name)]):
        raise ValueError(f"{change}: no such parameters to change were found; there are {', '.join(own)}")
    for name in found:
        own[name].data = to(name, np.array(own[name].data))


def put_back(experiment: Experiment, seed: int) -> Experiment:
    """The same experiment with default weights: all parts of a copy of its model drawn anew."""
    model = copy.deepcopy(experiment.model)
    _redraw(model, PARTS, seed)
    return replace(experiment, model=model)


def _redraw(model: Any, parts: Iterable[str], seed: int) -> None:
    """Draw parts of the cells as PyTorch does by default, from U(-1/√H, 1/√H)."""
    rng, cells = np.random.default_rng(seed), [cell for cell in cells_of(model) if isinstance(cell, CELLS)]
    own = once((f"{k} {name}", p) for k, cell in enumerate(cells) for name, p in cell.parameters().items())

    def draw(name: str, a: Array) -> Array:
        return np.asarray(rng.uniform(-1, 1, a.shape) / cells[int(name.split()[0])].hidden_size ** 0.5)

    _edit(own, "redraw", "|".join(PARTS[part] for part in parts), draw)


def _standardised(experiment: Experiment) -> Array:
    """The inputs with mean 0 and variance 1 in each feature."""
    given, lengths = np.asarray(experiment.inputs), experiment.lengths
    if given.dtype.kind not in ("f" if experiment.is_module else "fiub"):
        raise ValueError("only inputs that are numbers can be standardised")
    inputs = given.astype(np.float64)
    running = slice(None) if lengths is None else np.arange(len(inputs))[:, None] < lengths
    kept = inputs[running].reshape(-1, inputs.shape[-1])
    top = np.abs(kept).max() or 1.0  # so that no square overflows
    sd = (kept / top).std(axis=0)
    found: Array = (inputs / top - (kept / top).mean(axis=0)) / (sd + (sd == 0))
    return found.astype(given.dtype if given.dtype.kind == "f" else np.float64)


def _cells_with(model: Any, name: str) -> tuple[tuple[str, ...], list[Any]]:
    """The gates of a model's cells, and the cells, if all have what a change is for."""
    cells = cells_of(model)
    for cell in cells:
        if missing := [letter for letter in KINDS[name].gates if letter not in gates(cell)]:
            what = f"no gate {missing[0]}" if missing[0] else "gates, and so no bias or activation of its own"
            raise ValueError(f"{name} is not for {cell!r}, which has {what}")
    if len(layouts := {gates(cell) for cell in cells}) != 1:
        raise ValueError(f"{name} is for cells of one kind, and there are {len(layouts)}")
    return layouts.pop(), cells


def _biases(letters: tuple[str, ...], name: str, value: Any) -> Edit:
    """Biases of gates: of the two of each gate, b_ih is the whole, and b_hh zero."""

    def to(key: str, a: Array) -> Array:
        blocks = a.reshape(len(letters), -1)
        drawn = dict(zip("fi", init.chrono(0, blocks.shape[1], value), strict=True)) if name == "chrono" else {}
        for letter, sign in KINDS[name].gates.items():
            blocks[letters.index(letter)] = drawn.get(letter, sign * value) * ("bias_ih" in key)
        return a

    return to


def gates(cell: Any) -> tuple[str, ...]:
    """The blocks of rows of a cell's parameters: "" for that of a simple RNN, which has one; none of a foreign cell."""
    if isinstance(cell, LSTMCell):
        return ("i", "f", "g", "o") if cell.forget_gate else ("i", "g", "o")
    return ("r", "z", "n") if isinstance(cell, GRUCell) else ("",) if isinstance(cell, RNNCell) else ()


def lines_of(experiment: Experiment, changes: Changes, torch: bool = False) -> str:
    """Python that makes the changes to ``model`` and ``inputs``, or with ``torch`` to those of PyTorch's.

    Raises
    ------
    ValueError
        If PyTorch has no such network.
    """
    standardise = "standardise" in changes
    given = ["inputs", *["lengths=lengths"] * (experiment.lengths is not None and experiment.told)] * standardise
    asked = ", ".join([*given, *(f"{name}={value!r}" for name, value in changes.items())])
    made, known = "inputs" if standardise else "_", "from tinygrad_rnn.diagnose import change\n"
    if not torch:
        return f"{known}\nmodel, {made} = change(model, {asked})"
    if not in_torch(experiment):
        raise ValueError(f"PyTorch has no {experiment.model!r}")
    lines = [
        "import torch",
        "from tinygrad_rnn import nn",
        known,
        f"ours, {made} = change(nn.from_torch(model), {asked})",
    ]
    if "nonlinearity" in changes:
        lines += [f"model = torch.nn.{changed(experiment, changes).model!r}.to(next(model.parameters()))"]
    lines += ["model.load_state_dict({name: torch.as_tensor(a) for name, a in ours.state_dict().items()})"]
    return "\n".join(lines + ["inputs = torch.as_tensor(inputs)"] * (standardise and experiment.told))


def in_torch(experiment: Experiment) -> bool:
    """Whether PyTorch has the same network."""
    same = [
        getattr(cell, "forget_gate", True) and getattr(cell, "nonlinearity", "tanh") in ("tanh", "relu")
        for cell in cells_of(experiment.model)
    ]
    return is_ours(experiment.model) and all(same) and not experiment.is_module
