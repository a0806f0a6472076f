"""The command line: unroll a cell over a real series, run backpropagation through time, write the picture.

After this file the reader knows which experiment ``tinygrad-rnn draw`` runs, since everything that decides about its
numbers (data, initialisation, loss, seed) is said here and printed. Whether the files can be written is found out
before any work, and each is written whole or not at all.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tinygrad_rnn import GradientGraph, LSTMCell, RNNCell, Tensor

# Heavy modules are imported where they are used: --help and a mistyped option answer at once.


class _Problem(Exception):
    """What the user can mend; the message is the one line that is printed."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Problem(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; default: those of the process.

    Returns
    -------
    int
        Exit code: 0; 1 if `check` found a fault; 2 after an error, of which one line on standard error tells.
    """
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a file's name is no reason to fail.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("default")
        try:
            arguments = _parser().parse_args(argv)
            code, problem = arguments.run(arguments), None
        except (_Problem, OSError, MemoryError) as error:
            problem = _describe(error)
    for message in dict.fromkeys(str(warning.message) for warning in noted):
        print("tinygrad-rnn: warning:", " ".join(message.split()), file=sys.stderr)
    if problem is not None:
        print("tinygrad-rnn: error:", " ".join(problem.split()), file=sys.stderr)
    return int(code or 0) if problem is None else 2


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}; choose a smaller --hidden or --steps"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    import tinygrad_rnn
    from tinygrad_rnn.draw.picture import FORMATS

    parser = _Parser(prog="tinygrad-rnn", description="See the gradients of an unrolled recurrent network.")
    parser.add_argument("--version", action="version", version=f"tinygrad-rnn {tinygrad_rnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    draw = commands.add_parser(
        "draw",
        help="unroll a cell over a series and draw the gradient along every edge",
        description="Unroll a cell over a series, run backpropagation through time, and draw the unrolled graph with "
        "the gradient that flows along every edge.",
    )
    add = draw.add_argument
    add("cell", choices=("rnn", "lstm"))
    add("--steps", type=_whole(1, 100_000), default=5, metavar="T", help="time steps; default: %(default)s")
    add("--hidden", type=_whole(1, 10_000), default=8, metavar="H", help="hidden units; default: %(default)s")
    add("--data", type=Path, metavar="FILE", help=".csv, .npy or .txt, read from its start; default: the Nile's flow")
    add("--column", action="append", default=[], metavar="NAME", help="column of a .csv file (again for more)")
    add("--loss", choices=("last", "all"), default="last", help="of which steps; default: %(default)s")
    add("--seed", type=_whole(0, 2**63 - 1), default=0, metavar="N", help="default: %(default)s")
    add("--dtype", choices=("float32", "float64"), default="float64", help="default: %(default)s")
    add("--nonlinearity", choices=("tanh", "relu", "sigmoid", "identity"), help="of the rnn cell; default: tanh")
    add("--forget-bias", type=_finite, metavar="B", help="open (> 0) or close the lstm's forget gate from the start")
    add("--input-bias", type=_finite, metavar="B", help="the same for its input gate")
    add("--out", type=Path, metavar="FILE", help=f"{', '.join(FORMATS)}; default: CELL.svg")
    add("--json", type=Path, metavar="FILE", help="also write the numbers, as JSON")
    add("--theme", choices=("light", "dark"), default="light", help="default: %(default)s")
    add("--title", help="default: what the picture shows")
    draw.set_defaults(run=_draw)
    check = commands.add_parser(
        "check",
        help="check the primitives and cells of your own that a file declares",
        description="Import a Python file and check every primitive and every recurrent cell that it declares: "
        "gradients against differences, and the rest of the battery of tinygrad_rnn.testing. "
        "Ends with 0 if all are right, 1 if not, 2 if the file cannot be used.",
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE.py")
    check.set_defaults(run=_check)
    return parser


def _whole(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, found {text!r}")
        return int(text)

    return convert


def _finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number, found {text!r}")
    return value


def _draw(arguments: argparse.Namespace) -> None:
    from tinygrad_rnn import draw, gradient_graph, unroll
    from tinygrad_rnn.data import DataError, load
    from tinygrad_rnn.draw.engine import NoRenderer
    from tinygrad_rnn.draw.picture import FORMATS

    picture: Path = arguments.out or Path(f"{arguments.cell}.svg")
    if picture.suffix.lower() not in FORMATS:
        raise _Problem(f"{picture}: expected a name that ends in {', '.join(FORMATS)}")
    targets = [picture, arguments.json] if arguments.json else [picture]
    if arguments.json and arguments.json.resolve() == picture.resolve():
        raise _Problem(f"{picture}: cannot be both the picture and --json")
    for target in targets:
        _check_writable(target)
    try:
        values, described = load(arguments.data, columns=arguments.column, steps=arguments.steps)
    except DataError as error:
        raise _Problem(str(error)) from None

    features = values.shape[1]
    cell, initialised = _cell(arguments, features)
    outputs, state = unroll(cell, values[:, None, :])
    last = state if arguments.cell == "rnn" else state[0]
    loss, meaning = _loss(arguments, last if arguments.loss == "last" else outputs)
    graph = gradient_graph(loss)
    kind = "LSTM" if arguments.cell == "lstm" else f"RNN ({arguments.nonlinearity or 'tanh'})"
    name = f"{kind}, hidden {arguments.hidden}"
    title = arguments.title or f"{name}, over {described}"
    try:
        draw(graph, picture, title=title, subtitle=f"{meaning}; {initialised}", theme=arguments.theme)
    except (NoRenderer, ValueError) as error:
        raise _Problem(str(error)) from error
    if arguments.json:
        graph.to_json(arguments.json)

    print(f"data    {described}; steps: {arguments.steps}, values a step: {features}")
    print(f"cell    {name}, {arguments.dtype}")
    print(f"init    {initialised}")
    print(f"loss    {meaning}: {loss.item():.6g}")
    for line in _through_time(graph):
        print(line)
    print(f"wrote   {', '.join(map(str, targets))}")


def _cell(arguments: argparse.Namespace, features: int) -> tuple[RNNCell | LSTMCell, str]:
    """Build the cell, and say how its parameters were drawn."""
    from tinygrad_rnn import LSTMCell, RNNCell

    said = f"weights and both biases uniform within ±1/√{arguments.hidden} (PyTorch's default), seed {arguments.seed}"
    sizes = (features, arguments.hidden)
    common = {"dtype": arguments.dtype, "rng": arguments.seed}
    if arguments.cell == "rnn":
        if arguments.forget_bias is not None or arguments.input_bias is not None:
            raise _Problem("--forget-bias and --input-bias belong to lstm: an rnn has no gates")
        return RNNCell(*sizes, nonlinearity=arguments.nonlinearity or "tanh", **common), said
    if arguments.nonlinearity is not None:
        raise _Problem("--nonlinearity belongs to rnn: an lstm's are fixed")
    biases = {"forget": arguments.forget_bias, "input": arguments.input_bias}
    changed = "".join(f", {gate} bias set to {bias:g}" for gate, bias in biases.items() if bias is not None)
    cell = LSTMCell(*sizes, forget_bias=arguments.forget_bias, input_bias=arguments.input_bias, **common)
    return cell, said + changed


def _loss(arguments: argparse.Namespace, hidden: Tensor) -> tuple[Tensor, str]:
    """Take the hidden state in one random direction: no unit is favoured, and ∂L/∂h at the last step has norm 1."""
    import numpy as np

    from tinygrad_rnn import Tensor

    # A stream of its own: the direction is not made of the numbers that made the parameters.
    direction = np.random.default_rng([arguments.seed, 1]).standard_normal(arguments.hidden)
    v = Tensor((direction / np.linalg.norm(direction)).astype(arguments.dtype), name="v")
    if arguments.loss == "last":
        return (hidden @ v).mean(), "L = v·h at the last step, v a random unit vector"
    return (hidden @ v).mean(), "L = mean of v·h over all steps, v a random unit vector"


def _check(arguments: argparse.Namespace) -> int:
    """Check the files one after the other; the worst decides."""
    from tinygrad_rnn.testing.command import UnusableError, check_file

    try:
        return max([check_file(path) for path in arguments.files])
    except UnusableError as error:
        raise _Problem(str(error)) from error


def _through_time(graph: GradientGraph) -> Iterator[str]:
    from tinygrad_rnn.graph.model import norm_of

    for name in ("h", "c"):
        steps = [n for n in graph.nodes if n.name == name and n.step]
        norms = [f"{n.step}: {norm_of(n.gradient):.3g}" for n in steps if n.gradient is not None]
        if norms:
            yield f"‖∂L/∂{name}‖ {', '.join(norms[:1] + norms[1:][-1:])}"


def _check_writable(target: Path) -> None:
    """Find out before long work whether a file can be put there."""
    if target.is_dir():
        raise _Problem(f"{target}: is a folder")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise _Problem(f"{target}: cannot be written: {error.strerror or error}") from None
