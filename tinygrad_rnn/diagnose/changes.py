"""What can be changed: how it is called, what is asked of its value, what it does, and the lines of Python that do it.

After this file the reader knows that a change is a name and a value, as `what_if` takes them, and why what a report
prints can be pasted: what is done to an array stands beside the line that says so.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
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
SCALES = {
    "weight_scale": r"weight_hh\w*$",
    "input_scale": r"weight_ih(_l0)?(_reverse)?$",
    "layer_scale": r"weight_ih_l[1-9]\w*$",
}
BIASES: dict[str, dict[str, float]] = {
    "gate_bias": {"f": 1.0, "i": -1.0},
    "forget_bias": {"f": 1.0},
    "input_bias": {"i": 1.0},
    "output_bias": {"o": 1.0},
    "update_bias": {"z": 1.0},
    "bias": {"": 1.0},
}
WORDS = {
    "standardise": "inputs standardised",
    "input_scale": "inputs, or their weights, × {:.3g}",
    "layer_scale": "weights between layers × {:.3g}",
    "weight_scale": "recurrent weights × {:.3g}",
    "orthogonal": "recurrent weights orthogonal, × {:.3g}",
    "redraw": "{} drawn anew",
    "nonlinearity": "{} as activation",
    "chrono": "gate biases for lags to {} (chrono)",
    "gate_bias": "forget bias {0:.3g}, input bias -{0:.3g}",
    "forget_bias": "forget bias {:.3g} alone",
    "input_bias": "input bias {:.3g}",
    "output_bias": "output bias {:.3g}",
    "update_bias": "update bias {:.3g}",
    "bias": "bias {:.3g}",
    "scale": "{}",
}
SEED = 7
"""Draws what a change draws anew."""


def checked(changes: Changes) -> dict[str, Any]:
    """The changes, if all are known.

    Raises
    ------
    TypeError
        If there are none, or an unknown one.
    ValueError
        If one is given a wrong value.
    """
    if not changes or (unknown := [name for name in changes if name not in WORDS]):
        raise TypeError(f"change one or more of {', '.join(WORDS)}; not {', '.join(unknown) if changes else 'nothing'}")
    return {name: _checked(name, value) for name, value in changes.items()}


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
        said.append(", ".join(factors) or WORDS[name].format(value))
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
        found = [edit for key, v in value.items() for edit in _scaled(f"^{re.escape(key)}$", v)]
    elif name in SCALES:
        found = _scaled(SCALES[name], value)
    elif name == "orthogonal":
        line = f"a[...] = tg.nn.init.orthogonal({value!r})(np.random.default_rng(0), a.shape)"
        draw = init.orthogonal(value)
        found = [Edit(SCALES["weight_scale"], lambda name, a: draw(np.random.default_rng(0), a.shape), line)]
    elif name == "redraw":
        found = _redrawn(model, [value], np.random.default_rng(SEED))
    else:
        found = _biases(_cells_with(model, name)[0], name, value)
    own = model.parameters()
    if not found or not all(any(re.search(edit.pattern, key) for key in own) for edit in found):
        raise ValueError(f"{name}: no such parameters to change were found; there are {', '.join(own)}")
    return found


def _scaled(pattern: str, factor: float) -> list[Edit]:
    return [Edit(pattern, lambda name, a: a * factor, f"a[...] = a * {factor!r}")]


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
    needed = {"nonlinearity": {""}, "chrono": {"f", "i"}}.get(name) or BIASES[name].keys()
    cells = cells_of(model)
    for cell in cells:
        if missing := [letter for letter in needed if letter not in gates(cell)]:
            what = f"no gate {missing[0]}" if missing[0] else "gates, and so no bias or activation of its own"
            raise ValueError(f"{name} is not for {cell!r}, which has {what}")
    if len(layouts := {gates(cell) for cell in cells}) != 1:
        raise ValueError(f"{name} is for cells of one kind, and there are {len(layouts)}")
    return layouts.pop(), cells


def _biases(letters: tuple[str, ...], name: str, value: Any) -> list[Edit]:
    """Biases of gates: of the two of each gate, b_ih is the whole, and b_hh zero."""
    n, chrono = len(letters), name == "chrono"
    values = {"f": value, "i": value} if chrono else {letter: sign * value for letter, sign in BIASES[name].items()}

    def to(key: str, a: Array) -> Array:
        rows = a.reshape(n, -1)
        drawn = dict(zip("fi", init.chrono(0, rows.shape[1], value), strict=True)) if chrono else values
        for letter in values:
            rows[letters.index(letter)] = drawn[letter] * ("bias_ih" in key)
        return a

    rows, lines = f"a.reshape({n}, -1)", []
    if chrono:
        lines.append(f"f, i = tg.nn.init.chrono(0, {rows}.shape[1], {value})")
    for letter, bias in values.items():
        said = letter if chrono else repr(bias)
        lines.append(f'{rows}[{letters.index(letter)}] = {said} * ("bias_ih" in name)')
    return [Edit(PARTS["biases"], to, "\n".join(lines))]


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
