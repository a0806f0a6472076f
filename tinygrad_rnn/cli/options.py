"""What several commands ask for: a series, a cell and how it is initialised, a file to write to.

After this file the reader knows which experiment a command runs, since everything that decides about its numbers (data,
initialisation, seed) is an option here, and is described in words by what is built from it.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..nn import GRUCell, LSTMCell, RNNCell
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


def add_cell(parser: argparse.ArgumentParser) -> None:
    """Options for a cell and how it is initialised; which cell is `arguments.cell`, one of `NAMES`."""
    add = parser.add_argument
    add("--hidden", type=whole(1, 10_000), default=8, metavar="H", help="hidden units; default: %(default)s")
    add("--seed", type=whole(0, 2**63 - 1), default=0, metavar="N", help="default: %(default)s")
    add("--dtype", choices=("float32", "float64"), default="float64", help="default: %(default)s")
    add("--init", choices=("pytorch", "keras", "chrono"), default="pytorch", help="default: %(default)s")
    add("--nonlinearity", choices=("tanh", "relu", "sigmoid", "identity"), help="of the rnn cell; default: tanh")
    add("--forget-bias", type=finite, metavar="B", help="open (> 0) or close the lstm's forget gate from the start")
    add("--input-bias", type=finite, metavar="B", help="the same for its input gate")
    add("--update-bias", type=finite, metavar="B", help="of the gru's update gate: a high one (> 0) remembers")


BELONGS_TO = {"nonlinearity": "rnn", "forget_bias": "lstm", "input_bias": "lstm", "update_bias": "gru"}


def build_cell(arguments: argparse.Namespace, features: int) -> tuple[RNNCell | LSTMCell | GRUCell, str]:
    """Build the cell of `add_cell`, and say how its parameters were drawn."""
    from .. import nn

    own = {name: getattr(arguments, name) for name in BELONGS_TO if getattr(arguments, name) is not None}
    for name in own:
        if BELONGS_TO[name] != arguments.cell:
            raise Problem(f"--{name.replace('_', '-')} belongs to {BELONGS_TO[name]}, and the cell is {arguments.cell}")
    if arguments.init == "chrono":
        if arguments.cell == "rnn":
            raise Problem("--init chrono sets the biases of gates, and an rnn has none")
        own["t_max"] = max(arguments.steps, 3)
    kind = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[arguments.cell]
    cell = kind(features, arguments.hidden, dtype=arguments.dtype, rng=arguments.seed, init=arguments.init, **own)
    uniform = f"uniform within ±1/√{arguments.hidden} (PyTorch's default)"
    said = {
        "pytorch": f"weights and both biases {uniform}",
        "keras": "weights Xavier and orthogonal, biases zero (Keras's default)",
        "chrono": f"weights {uniform}, gate biases chrono up to lag {own.get('t_max')}",
    }[arguments.init]
    if arguments.cell == "lstm" and arguments.init == "keras" and "forget_bias" not in own:
        said += " but forget bias 1"
    biases = {name: value for name, value in own.items() if name.endswith("_bias")}
    changed = "".join(f", {name.replace('_', ' ')} set to {value:g}" for name, value in biases.items())
    return cell, f"{said}, seed {arguments.seed}{changed}"


def describe_cell(arguments: argparse.Namespace) -> str:
    """Which cell it is, in a few words."""
    kind = f" ({arguments.nonlinearity or 'tanh'})" if arguments.cell == "rnn" else ""
    return f"{NAMES[arguments.cell]}{kind}, hidden {arguments.hidden}"


def random_direction(arguments: argparse.Namespace) -> Tensor:
    """A random unit vector v of shape (H,): the loss v·h favours no unit, and ∂L/∂h at the last step has norm 1."""
    import numpy as np

    from ..tensor import Tensor

    # A stream of its own: the direction is not made of the numbers that made the parameters.
    direction = np.random.default_rng([arguments.seed, 1]).standard_normal(arguments.hidden)
    return Tensor((direction / np.linalg.norm(direction)).astype(arguments.dtype), name="v")
