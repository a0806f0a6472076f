"""What can be changed: how it is called, what is asked of its value, and what it does to a network or its inputs.

After this file the reader knows that a change is a name and a value, as `what_if` takes them, and why what a report
prints can be pasted: the lines call `change`, which does what the report did before it measured.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..arguments import flag, lengths_of, mapping, number, one_of, refusal, whole
from ..nn import init
from ..nn.cells import CELLS, NONLINEARITIES, GRUCell, LSTMCell, RNNCell
from ..nn.module import once
from ..nn.sequences import in_one_array
from ..tensor import Tensor, as_array
from .chain import Array
from .experiment import Experiment, cells_of, is_ours, name_of

Changes = Mapping[str, Any]
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
        Of the parameters that it changes: a pattern.
    gates : dict of str to float
        Those that a cell must have; a bias is set to so many times the value. "" is the whole of a simple RNN.
    check : callable
        Gives the value, if it is one that this kind may have, and its name are given to it.
    """

    part: str
    words: str
    tried: tuple[Any, ...] = ()
    names: str = ""
    gates: Mapping[str, float] = field(default_factory=dict)
    check: Callable[[str, Any], Any] = number

    def suits(self, cells: Iterable[Any]) -> bool:
        """Whether all cells have its gates."""
        return all(self.gates.keys() <= set(gates(cell)) for cell in cells)


def _factors(low: float, high: float, n: int) -> tuple[float, ...]:
    """From 10^low to 10^high, the gentlest first."""
    return tuple(float(f"{10.0**v:.3g}") for v in sorted(np.linspace(low, high, n), key=abs) if abs(v) > 0.01)


def _true(name: str, value: Any) -> bool:
    if not flag(name, value):
        raise refusal(name, value, "True")
    return True


def _by_name(name: str, value: Any) -> dict[str, float]:
    factors = mapping(name, value, "a mapping of names of parameters to factors")
    return {key: number(f"{name}[{key!r}]", factor) for key, factor in factors.items()}


OPEN = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, -1.0)
RECURRENT, BETWEEN, LOWEST = r"weight_hh\w*$", r"weight_ih_l[1-9]\w*$", r"weight_ih(_l0)?(_reverse)?$"
BIASES, ONE = PARTS["biases"], {"": 1.0}
BOTH = {"f": 1.0, "i": -1.0}
KINDS = {
    "chrono": Kind(
        "gate biases", "gate biases for lags to {} (chrono)", (1, 2, 4), BIASES, BOTH, partial(whole, least=2)
    ),
    "gate_bias": Kind("gate biases", "forget bias {0:.3g}, input bias -{0:.3g}", OPEN[2:6], BIASES, BOTH),
    "forget_bias": Kind("gate biases", "forget bias {:.3g} alone", OPEN, BIASES, {"f": 1.0}),
    "input_bias": Kind("input bias", "input bias {:.3g}", (0.0, -2.0, -4.0), BIASES, {"i": 1.0}),
    "output_bias": Kind("output bias", "output bias {:.3g}", (0.0, 2.0), BIASES, {"o": 1.0}),
    "update_bias": Kind("update bias", "update bias {:.3g}", OPEN, BIASES, {"z": 1.0}),
    "bias": Kind("biases", "bias {:.3g}", (0.0, 0.5), BIASES, ONE),
    "standardise": Kind("inputs", "inputs standardised", (True,), check=_true),
    "input_scale": Kind("inputs", "inputs, or their weights, × {:.3g}", _factors(-5, 2, 15), LOWEST),
    "layer_scale": Kind("weights between layers", "weights between layers × {:.3g}", _factors(-0.5, 1.25, 8), BETWEEN),
    "weight_scale": Kind("recurrent weights", "recurrent weights × {:.3g}", _factors(-1.5, 1, 11), RECURRENT),
    "orthogonal": Kind(
        "recurrent weights", "recurrent weights orthogonal, × {:.3g}", (1.0, 0.95, 1.1, 1.4, 0.8), RECURRENT, ONE
    ),
    "nonlinearity": Kind(
        "activation", "{} as activation", ("tanh", "relu"), gates=ONE, check=partial(one_of, choices=NONLINEARITIES)
    ),
    "redraw": Kind("", "{} drawn anew", tuple(PARTS), check=partial(one_of, choices=PARTS)),
    "scale": Kind("", "{}", _factors(-2, 1.5, 15), check=_by_name),
}
DEFAULT = {"redraw": None}
"""All parts drawn anew: not asked for by anybody, but what a network is compared with."""
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
    return {name: KINDS[name].check(name, changes[name]) for name in ("redraw", *KINDS) if name in changes}


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


def changed(experiment: Experiment, changes: Changes, seed: int = SEED) -> Experiment:
    """The same experiment with a changed copy of its model, or with other inputs; the seed is of what is drawn anew.

    Raises
    ------
    ValueError
        If this network has no such thing.
    """
    if isinstance(experiment.model, Tensor):
        raise ValueError("a graph that is there already cannot be changed: give the model and its inputs")
    model, inputs, rng = copy.deepcopy(experiment.model), experiment.inputs, np.random.default_rng(seed)
    cells = cells_of(model)
    every = [(key, p, None) for key, p in once(model.parameters().items()).items()]
    of_cells = [(key, p, cell) for cell in cells if isinstance(cell, CELLS) for key, p in cell.parameters().items()]
    for name, value in changes.items():
        kind = KINDS[name]
        if name != "orthogonal" and not kind.suits(cells):  # which is tried of those alone, and may be asked of any
            those = "simple RNN cells" if "" in kind.gates else f"cells with gate {' and '.join(kind.gates)}"
            other = next(cell for cell in cells if not kind.suits([cell]))
            raise ValueError(f"{name} is for {those}: not for {name_of(other)}")
        if name == "standardise":
            inputs = _standardised(experiment)
        elif name == "nonlinearity":
            for cell in cells:
                cell.nonlinearity = value
        else:
            names = kind.names or "|".join(names for part, names in PARTS.items() if value in (part, None))
            wanted = {f"^{re.escape(key)}$": v for key, v in value.items()} if name == "scale" else {names: value}
            own = of_cells if name == "redraw" or kind.names == BIASES else every
            for pattern, amount in wanted.items():
                if not (found := [place for place in own if re.search(pattern, place[0])]):
                    there = ", ".join(key for key, *_ in every)
                    raise ValueError(f"{name}: no such parameters to change were found; there are {there}")
                if name == "input_scale" and len({re.sub(pattern, "", key) for key, *_ in found}) > 1:
                    some = ", ".join(key for key, *_ in found)
                    raise ValueError(
                        f"{name}: which of {some} the inputs enter is not known: give scale={{name: factor}}"
                    )
                for key, p, cell in found:
                    p.data = _edited(name, amount, np.array(p.data), key, cell, rng)
    return replace(experiment, model=model, inputs=inputs)


def _edited(name: str, value: Any, a: Array, key: str, cell: Any, rng: np.random.Generator) -> Array:
    """What a change makes of one parameter, which a cell of the package's has or none."""
    if name == "redraw":  # as PyTorch does by default, from U(-1/√H, 1/√H)
        return np.asarray(rng.uniform(-1, 1, a.shape) / cell.hidden_size**0.5)
    if name == "orthogonal":
        return np.asarray(init.orthogonal(value)(np.random.default_rng(0), a.shape))
    if KINDS[name].names != BIASES:
        return np.asarray(a * value)
    bias = init.chrono(0, cell.hidden_size, value)[0] if name == "chrono" else value
    for gate, sign in KINDS[name].gates.items():  # of its two biases b_ih is the whole, and b_hh zero
        a[getattr(cell, f"_{gate}") if gate else ...] = sign * bias * ("bias_ih" in key)
    return a


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
        raise ValueError(f"PyTorch has no {name_of(experiment.model)}")
    lines = ["import torch", "from tinygrad_rnn import nn", known]
    lines += [f"ours, {made} = change(nn.from_torch(model), {asked})"]
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
