"""What several commands ask for: a series, a cell and how it is initialised, or a file of parameters; where to write.

After this file the reader knows which experiment a command runs, since everything that decides about its numbers (data,
initialisation, seed) is an option here, and is described in words by what is built from it.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..tensor import Tensor

NAMES = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}


class Problem(Exception):
    """What the user can mend; the message is the one line that is printed."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are a `Problem`."""

    def error(self, message: str) -> NoReturn:
        """Name the help that would have told."""
        raise Problem(f"{message} (see {self.prog} --help)")


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of an option that is a whole number within bounds."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, found {text!r}")
        return int(text)

    return convert


def finite(text: str) -> float:
    """The type of an option that is a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number, found {text!r}")
    return value


def positive(text: str) -> float:
    """The type of an option that is a positive number."""
    value = finite(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, found {text!r}")
    return value


def check_writable(target: Path) -> None:
    """Find out before long work whether a file can be put there."""
    if target.is_dir():
        raise Problem(f"{target}: is a folder")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise Problem(f"{target}: cannot be written: {error.strerror or error}") from None


def add_data(parser: argparse.ArgumentParser, steps: int) -> None:
    """Options for a series: a file, its columns, how many steps of it."""
    add = parser.add_argument
    add("--steps", type=whole(1, 100_000), default=steps, metavar="T", help="time steps; default: %(default)s")
    add("--data", type=Path, metavar="FILE", help=".csv, .npy or .txt, read from its start; default: the Nile's flow")
    add("--column", action="append", default=[], metavar="NAME", help="column of a .csv file (again for more)")


def read_data(arguments: argparse.Namespace) -> tuple[NDArray[np.float64], str]:
    """The series of `add_data`, of shape (T, I), and what it is."""
    from ..data import DataError, load

    try:
        return load(arguments.data, columns=arguments.column, steps=arguments.steps)
    except DataError as error:
        raise Problem(str(error)) from None


def add_cell(parser: argparse.ArgumentParser, hidden: int = 8) -> None:
    """Options for a cell and how it is initialised; which cell is `arguments.cell`, one of `NAMES`."""
    add = parser.add_argument
    parser.set_defaults(usual_hidden=hidden)
    add("--hidden", type=whole(1, 10_000), metavar="H", help=f"hidden units; default: {hidden}")
    add("--seed", type=whole(0, 2**63 - 1), default=0, metavar="N", help="default: %(default)s")
    add("--dtype", choices=("float32", "float64"), help="default: float64, or that of --weights")
    add("--init", choices=("pytorch", "keras", "chrono"), help="default: pytorch")
    add("--nonlinearity", choices=("tanh", "relu", "sigmoid", "identity"), help="of an rnn; default: tanh")
    add("--forget-bias", type=finite, metavar="B", help="open (> 0) or close the lstm's forget gate from the start")
    add("--input-bias", type=finite, metavar="B", help="the same for its input gate")
    add("--update-bias", type=finite, metavar="B", help="of the gru's update gate: a high one (> 0) remembers")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Options for a network from a file, instead of a cell that is initialised here."""
    add = parser.add_argument
    add("--weights", type=Path, metavar="FILE", help="a network's parameters, .safetensors or .npz, instead of a cell")
    add("--prefix", metavar="P", help="of the recurrent part in a bigger model, such as encoder.lstm")
    add("--batch-first", action="store_true", help="how PyTorch's module was made: its parameters do not tell")


BELONGS_TO = {"nonlinearity": "rnn", "forget_bias": "lstm", "input_bias": "lstm", "update_bias": "gru"}


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
    """

    module: Any
    name: str
    initialised: str
    width: int

    def run(self, values: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Unroll over a series of shape (T, I): the outputs of all T steps, K last, and the last h, of shape (1, K).

        Of a stack in both directions the last h is what each direction knows at its own end.
        """
        from ..nn.stacks import run_sequence

        first = getattr(self.module, "batch_first", False)
        return run_sequence(self.module, values[None] if first else values[:, None, :])[:2]


def build_network(arguments: argparse.Namespace, features: int, t_max: int | None = None) -> Network:
    """The network of `add_cell` or, where a command has it, `add_weights`, for `features` values a step.

    `t_max` is the longest lag that chrono provides for: by default, the steps that are unrolled.
    """
    if getattr(arguments, "weights", None) is not None:
        return _load_network(arguments, features)
    for name in ("prefix", "batch_first"):
        if getattr(arguments, name, None):
            raise Problem(f"--{name.replace('_', '-')} belongs to --weights")
    if arguments.cell is None:
        raise Problem(f"name a cell ({', '.join(NAMES)}), or a file with --weights (see tinygrad-rnn --help)")
    cell, initialised = build_cell(arguments, features, t_max=t_max or arguments.steps)
    kind = f" ({cell.nonlinearity})" if arguments.cell == "rnn" else ""
    return Network(cell, f"{NAMES[arguments.cell]}{kind}, hidden {cell.hidden_size}", initialised, cell.hidden_size)


def build_cell(arguments: argparse.Namespace, features: int, t_max: int) -> tuple[Any, str]:
    """Build the cell of `add_cell`, and say how its parameters were drawn; `t_max` is the longest lag, for chrono."""
    from .. import nn

    init, hidden = arguments.init or "pytorch", arguments.hidden or arguments.usual_hidden
    own = {name: getattr(arguments, name) for name in BELONGS_TO if getattr(arguments, name) is not None}
    for name in own:
        if BELONGS_TO[name] != arguments.cell:
            raise Problem(f"--{name.replace('_', '-')} belongs to {BELONGS_TO[name]}, and the cell is {arguments.cell}")
    if init == "chrono":
        if arguments.cell == "rnn":
            raise Problem("--init chrono sets the biases of gates, and an rnn has none")
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
    """The network in the file of `add_weights`; what its shapes tell is not asked for."""
    from ..nn import from_state_dict, load
    from ..nn.weights import recurrent_parts

    path, prefix = arguments.weights, (arguments.prefix or "").rstrip(".")
    for name in ("hidden", "init", "forget_bias", "input_bias", "update_bias"):
        if getattr(arguments, name) is not None:
            raise Problem(f"--{name.replace('_', '-')} is for a cell that begins here: {path} has its own parameters")
    try:
        arrays = load(path, prefix)
        parts = recurrent_parts(arrays)
        if len(parts) == 1:  # the only one there is needs no asking for
            prefix = ".".join(filter(None, [prefix, parts[0]]))
        module: Any = from_state_dict(
            arrays,
            prefix=parts[0] if len(parts) == 1 else "",
            nonlinearity=arguments.nonlinearity,
            batch_first=arguments.batch_first,
            dtype=arguments.dtype,
        )
    except (ValueError, ImportError) as error:
        raise Problem(_in_options(str(error))) from error
    kind = type(module).__name__
    if not hasattr(module, "hidden_size"):
        raise Problem(f"{path}: {prefix or 'it'} is a {kind}, which has no steps to unroll: choose with --prefix")
    if arguments.cell not in (None, kind.removesuffix("Cell").lower()):
        raise Problem(f"{path} holds an {kind}, not a {arguments.cell}: leave out {arguments.cell}")
    if module.input_size != features:
        raise Problem(
            f"the {kind} of {path} takes {module.input_size} values a step, and the data has {features}: "
            "give it a file of its own with --data, or choose columns with --column"
        )
    layers, directions = getattr(module, "num_layers", 1), 1 + getattr(module, "bidirectional", False)
    name = kind.removesuffix("Cell") + (f" ({arguments.nonlinearity})" if arguments.nonlinearity else "")
    name += f", hidden {module.hidden_size}" + f", {layers} layers" * (layers > 1) + ", both ways" * (directions == 2)
    where = f", {prefix}" if prefix else ""
    return Network(module, name, f"weights of {path.name}{where}", module.hidden_size * directions)


def _in_options(message: str) -> str:
    """What the package says about its arguments, said about the options of the command line."""
    for said, option in (("say nonlinearity='tanh' or 'relu'", "say --nonlinearity tanh or relu"),):
        message = message.replace(said, option)
    return message


def random_direction(arguments: argparse.Namespace, network: Network) -> Tensor:
    """A random unit vector v of shape (K,): the loss v·h favours no unit, and ∂L/∂h at the last step has norm 1."""
    import numpy as np

    from ..tensor import Tensor

    # A stream of its own: the direction is not made of the numbers that made the parameters.
    direction = np.random.default_rng([arguments.seed, 1]).standard_normal(network.width)
    return Tensor((direction / np.linalg.norm(direction)).astype(network.module.dtype), name="v")
