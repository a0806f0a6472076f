"""The command line: one module a command, each with what it asks for and what it does.

After this file the reader knows how every command ends: with its exit code, or with one line on standard error. The
modules import what is heavy where they use it, so that --help and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from . import check, claims, draw, flow, sweep, train
from .options import Parser, Problem

COMMANDS = (draw, flow, train, sweep, claims, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; default: those of the process.

    Returns
    -------
    int
        Exit code: 0; 1 if what the command looks for was found; 2 after an error, of which one line on standard error
        tells; 130 after Ctrl-C.
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
        except (Problem, OSError, MemoryError) as error:
            problem = _describe(error)
        except KeyboardInterrupt as error:  # the code that shells know for it
            print("tinygrad-rnn:", str(error) or "interrupted", file=sys.stderr)
            code, problem = 130, None
    for message in dict.fromkeys(str(warning.message) for warning in noted):
        print("tinygrad-rnn: warning:", " ".join(message.split()), file=sys.stderr)
    if problem is not None:
        print("tinygrad-rnn: error:", _in_lines(problem), file=sys.stderr)
    return int(code or 0) if problem is None else 2


def _in_lines(text: str) -> str:
    """One line, but for indented ones: they are there to be copied."""
    return "\n    ".join(" ".join(line.split()) for line in text.split("\n    "))


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}; choose a smaller --hidden or --steps"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    import tinygrad_rnn

    parser = Parser(prog="tinygrad-rnn", description="See the gradients of an unrolled recurrent network.")
    parser.add_argument("--version", action="version", version=f"tinygrad-rnn {tinygrad_rnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in COMMANDS:
        command.add_to(commands)
    return parser
