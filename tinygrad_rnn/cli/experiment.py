"""What several commands run: a cell or a network from a file, and the sequences that it is fed with.

After this file the reader knows which experiment a command runs, since everything that decides about its numbers (data,
initialisation, seed) is described in words by what is built from it, and what cannot matter is refused.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import counted, printable
from .options import NAMES, Problem, chosen, in_options, one_of, refuse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data import Data
    from ..train import Task

CELL = "cell hidden seed dtype init nonlinearity forget_bias input_bias update_bias weights prefix"
WHICH = ("CELL", one_of(*NAMES), "?")  # the same without --cell
READING = "data column sep decimal header batch_first lengths standardise"
FEEDING = f"{READING} noise steps windows"
OF_CELL = {
    "rnn": "nonlinearity recurrent bias input_scale centred",
    "lstm": "forget_bias input_bias chrono",
    "gru": "update_bias chrono",
}
"""Options that some cells have."""


def refuse_of_others(arguments: argparse.Namespace, cells: Sequence[str], chrono: str = "") -> None:
    """Refuse the options that none of these cells has, and `chrono`, if it is asked for, where its biases are given."""
    for name in dict.fromkeys(itertools.chain(*map(str.split, OF_CELL.values()))):
        owners = [cell for cell, own in OF_CELL.items() if name in own.split()]
        if not {*owners} & {*cells}:
            refuse(arguments, name, f"belongs to {' or '.join(owners)}, and the cell is {', '.join(cells)}")
    for cell, biases in (("lstm", {"forget_bias", "input_bias"}), ("gru", {"update_bias"})):
        if chrono and cell in cells and biases <= arguments.given:
            reason = f"sets the biases of the {cell}'s gates, and they are given: it would change nothing"
            raise Problem(f"{chrono} {reason}")


# --- what it is fed with ---


def task_of(name: str, **options: Any) -> Task:
    """A task by its name on the command line, which is its class's in small letters."""
    from .. import train

    kind, minimal_lag, _ = name.partition("-minimal-lag")
    task: type[Task] = getattr(train, kind.title().replace("-", ""))
    with in_options():
        return task(**options, **({"minimal_lag": True} if minimal_lag else {}))


def read_inputs(arguments: argparse.Namespace, most: int) -> Data:
    """Sequences, from a file or noise; `most` steps of them if their number is not given."""
    from ..data import Data

    if arguments.noise is None:
        return read_data(arguments, most)
    import numpy as np

    refuse(arguments, f"{READING} windows", "belongs to data, and --noise is given instead")
    shape = (arguments.steps or most, 16, arguments.noise)
    return Data(np.random.default_rng([arguments.seed, 2]).standard_normal(shape), "standard normal noise")


def read_data(arguments: argparse.Namespace, most: int | None = None) -> Data:
    """Sequences from a file, or from the packaged one."""
    from ..data import Dialect, read
    from ..data.table import TooFewSteps

    if arguments.data is None:
        refuse(arguments, "sep decimal header lengths", "belongs to --data")
    how = chosen(arguments, "steps windows batch_first standardise")
    if arguments.weights is not None and arguments.data is not None:
        # What loaded weights are fed with is theirs: nobody but the user knows whether they have seen it scaled.
        how = {"standardise": False} | how
    written = chosen(arguments, "sep decimal header")
    try:
        with in_options():
            how["dialect"] = Dialect(**written) if written else None
            how["lengths"] = None if arguments.lengths is None else _whole_numbers(arguments.lengths)
            data = read(arguments.data, columns=arguments.column or (), most=most, **how)
    except Problem as error:
        if not isinstance(error.__cause__, TooFewSteps):
            raise
        raise Problem(f"{error}: take fewer with --steps, or give a longer file with --data, or --noise") from None
    if data.alphabet:
        refuse(arguments, "standardise", "belongs to numbers, and this is text")
    if not data.axes:
        refuse(arguments, "batch_first", "belongs to data of three axes")
    if arguments.lengths is not None:  # the longer ones have more, and nothing of it is looked at
        data = replace(data, name=f"{data.name}, each cut to its first {counted(len(data.values), 'step')}")
    return data


def _whole_numbers(path: Path) -> NDArray[np.int64]:
    from ..data import DataError, read

    values = read(path, standardise=False).values
    if values.size != len(values) or (values % 1).any():
        raise DataError(f"{printable(path)}: expected one whole number for each sequence")
    return values[:, 0, 0].astype("int64")


def told(data: Data) -> str:
    """What was read, in a few words, and whether it was changed."""
    return data.description + (", as in the file" if data.columns and data.mean is None else "")


# --- what is unrolled ---


@dataclass(frozen=True)
class Network:
    """What a command unrolls: a cell or a stack, and what is said about it.

    Attributes
    ----------
    module : cell or stack
    name : str
        Which network it is, in a few words.
    initialised : str
        Where its parameters come from.
    when : str
        At which moment of its training.
    trained : bool
        Whether they are what training has made of them, as far as one can tell.
    """

    module: Any
    name: str
    initialised: str
    when: str = "at initialisation"
    trained: bool = False


def _name_of(module: Any, nonlinearity: str) -> str:
    kind = type(module).__name__.removesuffix("Cell")
    words = [f"{kind} ({nonlinearity})" if kind == "RNN" else kind, f"hidden {module.hidden_size}"]
    if (layers := getattr(module, "num_layers", 1)) > 1:
        words.append(f"{layers} layers")
    if getattr(module, "bidirectional", False):
        words.append("both ways")
    return ", ".join(words)


def build_network(arguments: argparse.Namespace, features: int, t_max: int) -> Network:
    """The network of the options `CELL`, for `features` values a step; `t_max` is the longest lag, for chrono."""
    if arguments.operands is not None:
        refuse(arguments, "cell", f"is given, and so is {arguments.operands}: once is enough")
        arguments.cell = arguments.operands
    if arguments.weights is not None:
        return _load_network(arguments, features)
    refuse(arguments, "prefix", "belongs to --weights")
    if arguments.cell is None:
        raise Problem(f"name a cell ({', '.join(NAMES)}), or a file with --weights (see tinygrad-rnn --help)")
    return _begin_network(arguments, features, max(t_max, 3))


def _begin_network(arguments: argparse.Namespace, features: int, t_max: int) -> Network:
    """A new cell, and how its parameters were drawn."""
    from .. import nn

    kind, init, hidden, seed = arguments.cell, arguments.init or "pytorch", arguments.hidden, arguments.seed
    if (kind, init) == ("rnn", "chrono"):
        raise Problem("--init chrono sets the biases of gates, and an rnn has none")
    refuse_of_others(arguments, [kind], "--init chrono" if init == "chrono" else "")
    own = chosen(arguments, f"dtype {OF_CELL[kind]}") | ({"t_max": t_max} if init == "chrono" else {})
    cell = getattr(nn, f"{NAMES[kind]}Cell")(features, hidden, rng=seed, init=init, **own)
    uniform = f"uniform within ±1/√{hidden} (PyTorch's default)"
    said = {
        "pytorch": f"weights and both biases {uniform}",
        "keras": "weights Xavier and orthogonal, biases zero (Keras's default)",
        "chrono": f"weights {uniform}, gate biases chrono up to lag {t_max}",
    }[init]
    if (kind, init) == ("lstm", "keras") and "forget_bias" not in own:
        said += " but forget bias 1"
    varied = (getattr(arguments, "film", None) or ("",))[0]  # which each frame has its own value of
    given = [name for name in own if name.endswith("_bias") and name != varied]
    biases = (f", {name.replace('_', ' ')} set to {own[name]:g}" for name in given)
    name = _name_of(cell, own.get("nonlinearity", "tanh"))
    return Network(cell, name, f"{said}, seed {seed}{''.join(biases)}")


def _load_network(arguments: argparse.Namespace, features: int) -> Network:
    """The network in the file of --weights; what its shapes tell is not asked for."""
    from ..nn import from_state_dict, load
    from ..nn.weights import recurrent_parts
    from ..train.run import updates_of

    file, prefix = printable(arguments.weights), (arguments.prefix or "").rstrip(".")
    reason = f"is for a cell that begins here: {file} has its own parameters"
    refuse(arguments, "hidden init forget_bias input_bias update_bias", reason)
    with in_options():
        arrays = load(arguments.weights, prefix)
        parts = recurrent_parts(arrays)
        only = parts[0] if len(parts) == 1 else ""  # which needs no asking for
        module: Any = from_state_dict(arrays, prefix=only, **chosen(arguments, "nonlinearity dtype"))
    kind = type(module).__name__
    prefix = ".".join(filter(None, [prefix, only]))
    if not hasattr(module, "hidden_size"):
        raise Problem(f"{file}: {prefix or 'it'} is a {kind}, which has no steps to unroll: choose with --prefix")
    if arguments.cell not in (None, kind.removesuffix("Cell").lower()):
        raise Problem(f"the network of {file} is of the kind {kind}, not {arguments.cell}: leave out {arguments.cell}")
    if module.input_size != features:
        raise Problem(
            f"the {kind} of {file} takes {module.input_size} values a step, and the data has {features}: give it a "
            "file of its own with --data, or choose columns with --column"
        )
    updates = updates_of(arrays)
    when = "as loaded" if updates is None else f"after {updates} updates"
    where = f", {prefix}" if prefix else ""
    said, name = f"weights of {printable(arguments.weights.name)}{where}", _name_of(module, arguments.nonlinearity)
    return Network(module, name, said, when, updates != 0)
