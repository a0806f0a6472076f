"""What several commands run: a cell or a network from a file, and the sequences that it is fed with.

After this file the reader knows which experiment a command runs, since everything that decides about its numbers (data,
initialisation, seed) is described in words by what is built from it, and what cannot matter is refused.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import printable
from .options import NAMES, OPTIONS, Problem, one_of, refuse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data import Data

CELL = "cell hidden seed dtype init nonlinearity forget_bias input_bias update_bias weights prefix"
WHICH = ("CELL", one_of(*NAMES), "?")  # the same without --cell
READING = "data column sep decimal header batch_first lengths standardise"
FEEDING = f"{READING} noise steps windows"
BELONGS_TO = {"nonlinearity": "rnn", "forget_bias": "lstm", "input_bias": "lstm", "update_bias": "gru"}


def in_options(error: Exception) -> Problem:
    """What the package says about its arguments, said about the options of the command line."""
    names = "|".join(OPTIONS)
    message = re.sub(rf"\b({names})=", lambda found: f"--{found[1].replace('_', '-')} ", str(error))
    return Problem(message.replace("'tanh' or 'relu'", "tanh or relu"))


# --- what it is fed with ---


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
    from ..data import DataError, Dialect, read
    from ..data.table import TooFewSteps

    if arguments.data is None:
        refuse(arguments, "sep decimal header lengths", "belongs to --data")
    try:
        said = (arguments.sep, arguments.decimal, arguments.header)
        lengths = None if arguments.lengths is None else _whole_numbers(arguments.lengths)
        # What loaded weights are fed with is theirs: nobody but the user knows whether they have seen it scaled.
        loaded = arguments.weights is not None and arguments.data is not None
        data = read(
            arguments.data,
            columns=arguments.column or (),
            steps=getattr(arguments, "steps", None),
            most=most,
            windows=getattr(arguments, "windows", None),
            standardise=not loaded if arguments.standardise is None else arguments.standardise,
            dialect=None if said == (None, None, None) else Dialect(*said),
            batch_first=arguments.batch_first is not False,
            lengths=lengths,
        )
    except TooFewSteps as error:
        noise = ", or --noise" if hasattr(arguments, "noise") else ""
        raise Problem(f"{error}: take fewer with --steps, or give a longer file with --data{noise}") from None
    except DataError as error:
        raise in_options(error) from None
    if data.alphabet:
        refuse(arguments, "standardise", "belongs to numbers, and this is text")
    if not data.axes:
        refuse(arguments, "batch_first", "belongs to data of three axes")
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
    width : int
        K, values that it puts out at each step.
    when : str
        At which moment of its training.
    trained : bool
        Whether they are what training has made of them, as far as one can tell.
    """

    module: Any
    name: str
    initialised: str
    width: int
    when: str = "at initialisation"
    trained: bool = False


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
    cell, initialised = build_cell(arguments, features, t_max)
    kind = f" ({cell.nonlinearity})" if arguments.cell == "rnn" else ""
    return Network(cell, f"{NAMES[arguments.cell]}{kind}, hidden {cell.hidden_size}", initialised, cell.hidden_size)


def build_cell(arguments: argparse.Namespace, features: int, t_max: int) -> tuple[Any, str]:
    """Build a cell, and say how its parameters were drawn."""
    from .. import nn

    init, hidden = arguments.init or "pytorch", arguments.hidden
    for name, owner in BELONGS_TO.items():
        if owner != arguments.cell:
            refuse(arguments, name, f"belongs to {owner}, and the cell is {arguments.cell}")
    own = {name: getattr(arguments, name) for name in BELONGS_TO if name in arguments.given}
    if init == "chrono":
        if arguments.cell == "rnn":
            raise Problem("--init chrono sets the biases of gates, and an rnn has none")
        if {"forget_bias", "input_bias"} <= arguments.given or "update_bias" in arguments.given:
            raise Problem("--init chrono sets the biases of the gates, and they are given: it would change nothing")
        own["t_max"] = max(t_max, 3)
    kind: Any = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[arguments.cell]
    cell = kind(features, hidden, dtype=arguments.dtype or "float64", rng=arguments.seed, init=init, **own)
    uniform = f"uniform within ±1/√{hidden} (PyTorch's default)"
    said = {
        "pytorch": f"weights and both biases {uniform}",
        "keras": "weights Xavier and orthogonal, biases zero (Keras's default)",
        "chrono": f"weights {uniform}, gate biases chrono up to lag {own.get('t_max')}",
    }[init]
    if arguments.cell == "lstm" and init == "keras" and "forget_bias" not in own:
        said += " but forget bias 1"
    biases = {name: value for name, value in own.items() if name.endswith("_bias")}
    changed = "".join(f", {name.replace('_', ' ')} set to {value:g}" for name, value in biases.items())
    return cell, f"{said}, seed {arguments.seed}{changed}"


def _load_network(arguments: argparse.Namespace, features: int) -> Network:
    """The network in the file of --weights; what its shapes tell is not asked for."""
    from ..nn import from_state_dict, load
    from ..nn.weights import recurrent_parts
    from ..train.run import updates_of

    path, prefix = arguments.weights, (arguments.prefix or "").rstrip(".")
    refuse(
        arguments,
        "hidden init forget_bias input_bias update_bias",
        f"is for a cell that begins here: {printable(path)} has its own parameters",
    )
    try:
        arrays = load(path, prefix)
        parts, updates = recurrent_parts(arrays), updates_of(arrays)
        if len(parts) == 1:  # the only one there is needs no asking for
            prefix = ".".join(filter(None, [prefix, parts[0]]))
        module: Any = from_state_dict(
            arrays,
            prefix=parts[0] if len(parts) == 1 else "",
            nonlinearity=arguments.nonlinearity,
            dtype=arguments.dtype,
        )
    except (ValueError, ImportError) as error:
        raise in_options(error) from error
    kind = type(module).__name__
    if not hasattr(module, "hidden_size"):
        raise Problem(
            f"{printable(path)}: {prefix or 'it'} is a {kind}, which has no steps to unroll: choose with --prefix"
        )
    if arguments.cell not in (None, kind.removesuffix("Cell").lower()):
        raise Problem(f"{printable(path)} holds an {kind}, not a {arguments.cell}: leave out {arguments.cell}")
    if module.input_size != features:
        raise Problem(
            f"the {kind} of {printable(path)} takes {module.input_size} values a step, and the data has {features}: "
            "give it a file of its own with --data, or choose columns with --column"
        )
    layers, directions = getattr(module, "num_layers", 1), 1 + getattr(module, "bidirectional", False)
    name = kind.removesuffix("Cell") + (f" ({arguments.nonlinearity})" if arguments.nonlinearity else "")
    name += f", hidden {module.hidden_size}" + f", {layers} layers" * (layers > 1) + ", both ways" * (directions == 2)
    where = f", {prefix}" if prefix else ""
    when = "as loaded" if updates is None else f"after {updates} updates"
    said = f"weights of {printable(path.name)}{where}"
    return Network(module, name, said, module.hidden_size * directions, when, updates != 0)
