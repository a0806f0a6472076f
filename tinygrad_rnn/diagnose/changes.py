"""What can be changed: how it is called, what is asked of its value, what it does, and the lines of Python that do it.

After this file the reader knows that a change is a name and a value, as `what_if` takes them, and why what a report
prints can be pasted: what is done to an array stands beside the line that says so.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..arguments import flag, number, one_of, refusal, whole
from ..nn import init
from ..nn.cells import NONLINEARITIES, GRUCell, LSTMCell, RNNCell
from ..tensor import Tensor
from .chain import Array
from .experiment import Experiment, cells_of, networks_of

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
    if name == "standardise" and not flag(name, value):
        raise refusal(name, value, "True")
    if name == "scale":
        if not isinstance(value, Mapping):
            raise refusal(name, value, "a mapping of names of parameters to factors")
        return {key: number(f"{name}[{key!r}]", factor) for key, factor in value.items()}
    if name == "chrono":
        return whole(name, value, 2)
    if name in ("redraw", "nonlinearity"):
        return one_of(name, value, PARTS if name == "redraw" else NONLINEARITIES)
    return True if name == "standardise" else number(name, value)


def label_of(changes: Changes) -> str:
    """Changes in words."""
    said = []
    for name, value in changes.items():
        factors = [f"{key} × {factor:.3g}" for key, factor in value.items()] if name == "scale" else []
        said.append(", ".join(factors) or KINDS[name].words.format(value))
    return "; ".join(said)


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
    for name, value in changes.items():
        if name == "standardise":
            inputs = _standardised(experiment)
        elif name == "nonlinearity":
            _activate(model, value)
        else:
            for edit in _edits(model, name, value):
                edit.do(model)
    return replace(experiment, model=model, inputs=inputs)


def _activate(model: Any, value: str) -> Any:
    """Give all cells of a model another activation."""
    for cell in _cells_with(model, "nonlinearity")[1]:
        cell.nonlinearity = value
    return model


def put_back(experiment: Experiment, seed: int) -> Experiment:
    """The same experiment with default weights: all parts of a copy of its model drawn anew."""
    model = copy.deepcopy(experiment.model)
    for edit in _redrawn(model, PARTS, np.random.default_rng(seed)):
        edit.do(model)
    return replace(experiment, model=model)


def _standardised(experiment: Experiment) -> Array:
    """The inputs with mean 0 and variance 1 in each feature."""
    if experiment.is_module and np.asarray(experiment.inputs).dtype.kind != "f":
        raise ValueError("only inputs that are numbers can be standardised")
    inputs, lengths = np.asarray(experiment.inputs, np.float64), experiment.lengths
    kept = (
        inputs.reshape(-1, inputs.shape[-1]) if lengths is None else inputs[np.arange(len(inputs))[:, None] < lengths]
    )
    top = np.abs(kept).max() or 1.0  # so that no square overflows
    sd = (kept / top).std(axis=0)
    return np.asarray((inputs / top - (kept / top).mean(axis=0)) / (sd + (sd == 0)))


@dataclass(frozen=True)
class Edit:
    """What is done to each parameter of such names, a tied one once: to the array, and as a line for an array ``a``."""

    pattern: str
    to: Callable[[str, Array], Array]
    line: str

    def do(self, model: Any) -> None:
        """Edit a model itself."""
        for p, name in {p: name for name, p in model.parameters().items() if re.search(self.pattern, name)}.items():
            p.data = self.to(name, np.array(p.data))


def _edits(model: Any, name: str, value: Any) -> list[Edit]:
    if name == "scale":
        found = [_scaled(f"^{re.escape(key)}$", v) for key, v in value.items()]
    elif KINDS[name].names:
        found = [_scaled(KINDS[name].names, value)]
    elif name == "orthogonal":
        line = f"a[...] = tg.nn.init.orthogonal({value!r})(np.random.default_rng(0), a.shape)"
        draw = init.orthogonal(value)
        found = [Edit(RECURRENT, lambda name, a: draw(np.random.default_rng(0), a.shape), line)]
    elif name == "redraw":
        found = _redrawn(model, [value], np.random.default_rng(SEED))
    else:
        found = [_biases(_cells_with(model, name)[0], name, value)]
    own = model.parameters()
    if not found or not all(any(re.search(edit.pattern, key) for key in own) for edit in found):
        raise ValueError(f"{name}: no such parameters to change were found; there are {', '.join(own)}")
    return found


def _scaled(pattern: str, factor: float) -> Edit:
    return Edit(pattern, lambda name, a: a * factor, f"a[...] = a * {factor!r}")


def _redrawn(model: Any, parts: Iterable[str], rng: np.random.Generator) -> list[Edit]:
    """Parts of the cells as PyTorch draws them by default, U(-1/√H, 1/√H)."""
    pattern, cells = "|".join(PARTS[part] for part in parts), cells_of(model)
    names = {id(p): name for name, p in model.parameters().items()}
    edits = []
    for size in dict.fromkeys(getattr(cell, "hidden_size", 0) for cell in cells):
        alike = [cell for cell in cells if getattr(cell, "hidden_size", 0) == size]
        own = [names[id(p)] for cell in alike for name, p in cell.parameters().items() if re.match(pattern, name)]
        only = pattern if len(alike) == len(cells) else "|".join(f"^{re.escape(name)}$" for name in own)
        line = f"a[...] = rng.uniform(-1, 1, a.shape) / {size}**0.5"

        def draw(name: str, a: Array, size: int = size) -> Array:
            return np.asarray(rng.uniform(-1, 1, a.shape) / size**0.5)

        edits += [Edit(only, draw, line)] if own else []
    return edits


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
    rows, chrono = f"a.reshape({len(letters)}, -1)", name == "chrono"
    values = {letter: sign * value for letter, sign in KINDS[name].gates.items()}

    def to(key: str, a: Array) -> Array:
        blocks = a.reshape(len(letters), -1)
        drawn = dict(zip("fi", init.chrono(0, blocks.shape[1], value), strict=True)) if chrono else values
        for letter in values:
            blocks[letters.index(letter)] = drawn[letter] * ("bias_ih" in key)
        return a

    lines = [f"f, i = tg.nn.init.chrono(0, {rows}.shape[1], {value})"] * chrono
    for letter, bias in values.items():
        said = letter if chrono else repr(bias)
        lines.append(f'{rows}[{letters.index(letter)}] = {said} * ("bias_ih" in name)')
    return Edit(PARTS["biases"], to, "\n".join(lines))


def gates(cell: Any) -> tuple[str, ...]:
    """The blocks of rows of a cell's parameters: "" for that of a simple RNN, which has one; none of a foreign cell."""
    if isinstance(cell, LSTMCell):
        return ("i", "f", "g", "o") if cell.forget_gate else ("i", "g", "o")
    return ("r", "z", "n") if isinstance(cell, GRUCell) else ("",) if isinstance(cell, RNNCell) else ()


# --- the lines to paste ---


def lines_of(model: Any, changes: Changes, torch: bool = False, running: str = "") -> str:
    """Python that makes the changes to ``model`` and ``inputs``: a network of ours, or with ``torch`` of PyTorch's.

    Names of parameters stand in it as texts, whatever they are. `running` tells which steps of padded inputs there are.

    Raises
    ------
    ValueError
        If this network has no such thing.
    """
    lines = [*(["import torch"] * torch), "import re", "import numpy as np", "import tinygrad_rnn as tg", ""]
    every = "model.named_parameters()" if torch else "model.parameters().items()"
    for name, value in changes.items():
        if name == "standardise":
            lines += [
                f"kept = inputs[{running}]" if running else "kept = inputs.reshape(-1, inputs.shape[-1])",
                "top = abs(kept).max() or 1.0  # so that no square overflows",
                "inputs, kept = inputs / top, kept / top",
                "sd = ((kept - kept.mean(0)) ** 2).mean(0) ** 0.5",
                "inputs = (inputs - kept.mean(0)) / (sd + (sd == 0))",
            ]
        elif name == "nonlinearity":
            for path, part in networks_of(_activate(copy.deepcopy(model), value)):
                made, dtype = repr(part), f", dtype={str(part.dtype)!r})"
                made = f"torch.nn.{made}.to(next({path}.parameters()))" if torch else f"tg.nn.{made[:-1]}{dtype}"
                lines += [f"new = {made}", f"new.load_state_dict({path}.state_dict())", f"{path} = new"]
        else:
            lines += [f"rng = np.random.default_rng({SEED})"] * (name == "redraw")
            for edit in _edits(model, name, value):
                lines += [
                    f"for p, name in {{p: n for n, p in {every} if re.search({edit.pattern!r}, n)}}.items():",
                    f"    a = {'p.detach().cpu().numpy().copy()' if torch else 'np.array(p.data)'}",
                    *(f"    {line}" for line in edit.line.splitlines()),
                    f"    p.data = {'torch.as_tensor(a).to(p)' if torch else 'a'}",
                ]
    return "\n".join(lines)
