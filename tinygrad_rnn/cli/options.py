"""One table of options for all commands: a name means the same wherever it stands.

After this file the reader knows how a command line is read: no abbreviations, and whoever gives an option that could
change nothing is told so. Which options were given is known, so that a default is never mistaken for a wish.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, get_args

from ..arguments import FINITE, POSITIVE, Range
from ..draw.style import Heads
from ..draw.view import Parameters
from ..nn.cells import NONLINEARITIES
from ..norms import Norm

NAMES = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
TASKS = ("adding", "adding-minimal-lag", "copying", "temporal-order", "text", "series")
RATES = {"sgd": 0.1, "adagrad": 0.1, "rmsprop": 0.01, "adam": 0.01}
MOST_VALUES = 1000
STANDARD_OUTPUT = Path("/dev/stdout")

Convert = Callable[[str], Any]


class Problem(Exception):
    """What the user can mend; the message is the one line that is printed."""


# --- values ---


def whole(least: int, most: int) -> Convert:
    """The type of an option that is a whole number within bounds."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, found {text!r}")
        return int(text)

    return convert


def number(within: Range) -> Convert:
    """The type of an option that is a number in such a range."""
    wanted, test = within

    def convert(text: str) -> float:
        try:
            value = float(text) if "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if not test(value):
            raise argparse.ArgumentTypeError(f"expected {wanted}, found {text!r}")
        return value

    return convert


finite, positive = number(FINITE), number(POSITIVE)


def one_of(*names: str) -> Convert:
    """The type of an option that is one of several words."""

    def convert(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text

    return convert


def level(text: str) -> str | int:
    """The type of ``--level``."""
    found: str | int = whole(1, 99)(text) if text.isdecimal() else one_of("auto", "op", "gate", "step")(text)
    return found


def fold(text: str) -> int | None:
    """The type of ``--fold``."""
    return None if text == "none" else _count(text)


def pair(form: str, sign: str, convert: Convert, *words: str) -> Convert:
    """The type of an option that is two values with a sign between them, or a word; `form` shows the two."""

    def parse(text: str) -> str | tuple[Any, Any]:
        if text in words:
            return text
        if text.count(sign) != 1:
            raise argparse.ArgumentTypeError(f"expected {', '.join(words)} or {form}, found {text!r}")
        one, other = text.split(sign)
        return convert(one), convert(other)

    return parse


def file(text: str) -> Path:
    """The type of an option that is a path; ~ is the home also where the shell leaves it, as in --data=~/a.csv."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, found nothing")
    return Path(text).expanduser() if text.startswith("~/") else Path(text)


def file_or_output(text: str) -> Path:
    """The type of an option that is a path, or - for standard output."""
    return STANDARD_OUTPUT if text == "-" else file(text)


def mark(text: str) -> str:
    r"""The type of an option that is one character, which the shell may make hard to type (``\t``, tab, space)."""
    return {r"\t": "\t", "tab": "\t", "space": " "}.get(text, text)


def several(convert: Convert) -> Convert:
    """The type of an option with values between commas; of numbers also ``a:b:n``, n of them evenly from a to b."""

    def parse(text: str) -> list[Any]:
        values: list[Any] = []
        for part in text.split(","):
            if convert is not finite or ":" not in part:
                values.append(convert(part.strip()))
                continue
            if part.count(":") != 2:
                raise argparse.ArgumentTypeError(f"expected a number, or A:B:N for N from A to B, found {part!r}")
            first, last, count = part.split(":")
            a, b, n = finite(first), finite(last), whole(2, MOST_VALUES)(count.strip())
            # Rounded, so that 1 is 1 whatever it lies between: the table finds a value again by its digits.
            values += [float(f"{a + (b - a) * k / (n - 1):.12g}") for k in range(n)]
        if len(values) > MOST_VALUES:
            raise argparse.ArgumentTypeError(f"more than {MOST_VALUES} values")
        return list(dict.fromkeys(values))

    return parse


FILMED = ("forget_bias", "input_bias", "update_bias", "scale")


def setting(text: str) -> tuple[str, list[float]]:
    """The type of ``--film``."""
    name, _, values = text.partition("=")
    if (name := name.replace("-", "_")) not in FILMED or not values:
        names = ", ".join(FILMED).replace("_", "-")
        raise argparse.ArgumentTypeError(f"expected NAME=FROM:TO:COUNT, the name one of {names}; found {text!r}")
    found = several(finite)(values)
    if len(found) < 2 or not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(f"expected at least two different numbers, FROM:TO:COUNT; found {values!r}")
    return name, found


# --- the table ---


def _option(what: str, convert: Convert, metavar: str, **how: Any) -> dict[str, Any]:
    """An option that takes a value: what it says of itself, the value's type, and what the value is called."""
    return {"help": what, "type": convert, "metavar": metavar, **how}


def _word(what: str, *names: str, metavar: str = "NAME", after: str = "") -> dict[str, Any]:
    """An option that takes one of several words."""
    return _option(f"{what}{', '.join(names[:-1])} or {names[-1]}{after}", one_of(*names), metavar)


def _switch(what: str, action: Any = "store_true") -> dict[str, Any]:
    """An option that takes no value."""
    return {"help": what, "action": action}


def _yes_or_no(what: str) -> dict[str, Any]:
    """A switch with an opposite, ``--no-...``."""
    return _switch(what, argparse.BooleanOptionalAction)


_count, _many = whole(1, 100_000), whole(1, 10**9)
_colours = pair("LO:HI", ":", positive, "fixed")
_pixels = pair("WIDTHxHEIGHT", "x", _count, "slide", "notebook")
OPTIONS: dict[str, dict[str, Any]] = {
    # the network
    "cell": _word("", *NAMES, metavar="CELL"),
    "hidden": _option("hidden units", whole(1, 10_000), "H"),
    "seed": _option("of parameters, batches, noise and the loss's v", whole(0, 2**63 - 1), "N"),
    "dtype": _word("", "float32", "float64", metavar="TYPE", after="; default: float64, or that of --weights"),
    "init": _word("", "pytorch", "keras", "chrono", metavar="KIND", after="; default: pytorch"),
    "nonlinearity": _word("of an rnn: ", *NONLINEARITIES, after="; default: tanh"),
    "forget_bias": _option("open (> 0) or close the lstm's forget gate from the start", finite, "B"),
    "input_bias": _option("the same for its input gate", finite, "B"),
    "update_bias": _option("of the gru's update gate: a high one (> 0) remembers", finite, "B"),
    "weights": _option("a network's parameters, .safetensors or .npz, instead of a cell", file, "FILE"),
    "prefix": _option("of the recurrent part in a bigger model, such as encoder.lstm", str, "P"),
    # what it is fed with
    "data": _option(".csv, .tsv, .txt or .npy, read from its start; default: the Nile's annual flow", file, "FILE"),
    "column": _option("column of a text file, by name or number (again for more)", str, "NAME", action="append"),
    "sep": _option("what separates the columns, such as ';' or tab; default: found out", mark, "C"),
    "decimal": _option("the decimal mark, '.' or ','; default: found out", one_of(".", ","), "C"),
    "header": _yes_or_no("whether the first line names the columns; default: found out"),
    "batch_first": _yes_or_no("of data: three axes are (N, T, F); default: yes"),
    "lengths": _option("of padded sequences, one whole number each: .npy, .csv or .txt", file, "FILE"),
    "standardise": _yes_or_no("bring columns to mean 0, deviation 1; default: yes, but not for --weights"),
    "noise": _option("instead of data, I standard normal values a step, 16 sequences", whole(1, 10_000), "I"),
    "steps": _option("time steps", _count, "T"),
    "windows": _option("so many windows of --steps, spread over the whole file, as sequences", _count, "N"),
    # what is asked
    "loss": _word("v·h at the last step, or summed over all: ", "last", "all", metavar="STEPS"),
    "lag": _option("how far back the task needs to look; default: as far as there are steps", _count, "K"),
    "read": _option("the step, from 1, from which the verdict looks back; default: the last that is read", _count, "T"),
    "cure": _word("train it as it is and with the first changes on this task: ", *TASKS[:4], metavar="TASK"),
    "fail_on": _option("end with 1 on these verdicts, or bounds such as 'D>4' and 'reach<50'", str, "WORDS"),
    "order": _option("highest order of derivatives; default: 2, or what the file says", whole(1, 4), "N"),
    "film": _option(
        f"a frame for each value of one setting ({', '.join(FILMED)})".replace("_", "-"), setting, "NAME=A:B:N"
    ),
    # what is written
    "out": _option("where the result goes", file, "PATH"),
    "json": _option(
        "also write the numbers, as JSON; - is standard output, and then alone there", file_or_output, "FILE"
    ),
    "theme": _word("", "light", "dark"),
    "title": _option("default: what the picture shows", str, "TEXT"),
    "level": _option("a box for each op, gate or step, or for each scope of a depth; default: auto", level, "LEVEL"),
    "fold": _option("steps at each end, those between left out; or none; default: 2, if there are over 20", fold, "N"),
    "parameters": _word("in each step, in rows below the steps, or not at all: ", *get_args(Parameters)),
    "norm": _word("of a gradient: ", *get_args(Norm)),
    "heads": _word("which way heads point: as the gradient flows, or as ", *get_args(Heads)),
    "colours": _option("range of the colours, LO:HI, or fixed (1e-12:1); default: fitted", _colours, "RANGE"),
    "page": _option("slide, notebook or WIDTHxHEIGHT in pixels; default: as high as it must be", _pixels, "PAGE"),
    "view": _word("every step, or one cell with its gradients over time: ", "unrolled", "rolled"),
    # training
    "task": _word("", *TASKS, metavar="TASK"),
    "length": _option("time steps of a sequence; default: 50, of a text 25, of a series 20", _count, "T"),
    "updates": _option("so many batches, one update each", _many, "N"),
    "batch": _option("sequences an update; default: 32, of a text 1", _count, "B"),
    "optimiser": _word("", *RATES),
    "lr": _option(f"learning rate; default: {', '.join(f'{k} {v}' for k, v in RATES.items())}", positive, "R"),
    "clip_norm": _option("shorten longer gradients; default: 1, if no --clip-value", positive, "C"),
    "clip_value": _option("bring every element of the gradients into ±C", positive, "C"),
    "window": _option("truncated BPTT: so many steps back at most", _count, "K"),
    "derived": _switch("by the program that derive_bptt writes, which takes less time"),
    "until_solved": _switch("stop as soon as the task is found solved"),
    "evaluate_every": _option("updates between two looks at the task's metric", _many, "N"),
    "checkpoint_every": _option("updates between two checkpoints", _many, "N"),
    "resume": _switch("go on from the folder's checkpoint, with the same options"),
    # many networks
    "recurrent": _word(
        "weights of the rnn: ", "orthogonal", "gaussian", "radius", "uniform", after="; default: orthogonal"
    ),
    "scale": _option("of the recurrent weights", finite, "G"),
    "bias": _option("of the rnn; default: 0", finite, "B"),
    "centred": _switch("of the rnn: b = -W/2, which keeps a sigmoid's operands around 0"),
    "input_scale": _option("of the rnn's input weights; default: 1", finite, "S"),
    "chrono": _option("of lstm and gru: gate biases for lags up to this", _count, "LAG"),
    "seeds": _option("networks and inputs each", _count, "N"),
    "x": _option("along the map's horizontal axis; default: scale, if it varies", str, "SETTING"),
    "y": _option("along its vertical axis; default: the first other one that varies", str, "SETTING"),
    "format": _word("of the map: ", "svg", "png", "pdf", metavar="KIND"),
    "workers": _option("processes", whole(1, 1024), "N"),
    "retry": _switch("measure again what failed"),
}


@dataclass(frozen=True)
class Command:
    """A command: which of the options it takes, and what it does.

    Attributes
    ----------
    name : str
    run : callable
        Given the arguments: all options by name, None if neither given nor with a default, and the set ``given``. Its
        docstring is what ``--help`` says of the command.
    options : str
        Their names in the table, between spaces.
    defaults : dict
    lists : str
        Of these options: those that take several values between commas.
    says : mapping of str to dict
        Of these options: what is different here from the table.
    operand : tuple of str, type and number
        Words that stand without a name.
    moved : mapping of str to str
        Options that one may look for here, and what to say then.
    """

    name: str
    run: Callable[[argparse.Namespace], int | None]
    options: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    lists: str = ""
    says: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    operand: tuple[str, Convert, str] | None = None
    moved: Mapping[str, str] = field(default_factory=dict)

    def add_to(self, commands: Any) -> None:
        """Declare the command."""
        about = inspect.getdoc(self.run) or ""  # which python -OO leaves out
        parser = commands.add_parser(
            self.name, help=about.partition("\n")[0], description=about, argument_default=argparse.SUPPRESS
        )
        parser.set_defaults(command=self)
        if self.operand:
            metavar, convert, count = self.operand
            parser.add_argument("operands", metavar=metavar, type=convert, nargs=count, default=None)
        for name in self.options.split():
            how = {**OPTIONS[name], **self.says.get(name, {})}
            if name in self.lists.split():
                how |= {"type": several(how["type"]), "metavar": f"{how['metavar']},..."}
            if (default := self.defaults.get(name)) is not None:
                told = ", ".join(map(str, default)) if isinstance(default, list) else default
                how["help"] += f"; default: {told}"
            parser.add_argument(f"--{name.replace('_', '-')}", **how)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are a `Problem`."""

    def error(self, message: str) -> NoReturn:
        """Name the help that would have told."""
        raise Problem(f"{message} (see {self.prog} --help)")


def parse(commands: Sequence[Command], version: str, words: list[str]) -> argparse.Namespace:
    """Read a command line: every option of its command by name, and which of them were given."""
    parser = _Parser(prog="tinygrad-rnn", description="See the gradients of an unrolled recurrent network.")
    parser.add_argument("--version", action="version", version=f"tinygrad-rnn {version}")
    choices = parser.add_subparsers(required=True, metavar="command", dest="command")
    for command in commands:
        command.add_to(choices)
        if words[:1] == [command.name]:
            _check_names(command, words)
    given = vars(parser.parse_args(words))
    command = given.pop("command")
    if without := [name for name, value in given.items() if name in OPTIONS and value in ([], [[]])]:
        raise Problem(f"--{without[0].replace('_', '-')}: expected a value, found '--'")  # which argparse swallows
    every = dict.fromkeys([*command.options.split(), "operands"])
    return argparse.Namespace(**{**every, **command.defaults, **given}, run=command.run, given=frozenset(given))


def _check_names(command: Command, words: list[str]) -> None:
    """Tell of an option that is not there, before its value is taken for something else."""
    known = {f"--{sign}{name.replace('_', '-')}" for name in (*command.options.split(), "help") for sign in ("", "no-")}
    for word in itertools.takewhile("--".__ne__, words):
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            reason = command.moved.get(flag, f"unrecognized arguments: {flag}")
            raise Problem(f"{reason} (see tinygrad-rnn {command.name} --help)")


def refuse(arguments: argparse.Namespace, names: str | Iterable[str], reason: str) -> None:
    """Refuse options that were given and can change nothing; the reason says what they belong to."""
    for name in names.split() if isinstance(names, str) else names:
        if name in arguments.given:
            raise Problem(f"--{name.replace('_', '-')} {reason}")


def chosen(arguments: argparse.Namespace, names: str) -> dict[str, Any]:
    """Of these options those that were given, or have a default here, to be handed on by name."""
    values = {name: getattr(arguments, name, None) for name in names.split()}
    return {name: value for name, value in values.items() if value is not None or name in arguments.given}


@contextmanager
def in_options() -> Iterator[None]:
    """What the package says about its arguments is said about the options of the command line."""
    try:
        yield
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        message = re.sub(rf"\b({'|'.join(OPTIONS)})=", lambda name: f"--{name[1].replace('_', '-')} ", str(error))
        raise Problem(message.replace("'tanh' or 'relu'", "tanh or relu")) from error
