"""``tinygrad-rnn check``: the battery on the primitives and cells of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import Problem


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "check",
        help="check the primitives and cells of your own that a file declares",
        description="Import a Python file and check every primitive and every recurrent cell that it declares: "
        "gradients against differences, and the rest of the battery of tinygrad_rnn.testing. "
        "Ends with 0 if all are right, 1 if not, 2 if the file cannot be used.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.py")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the files one after the other; the worst decides."""
    from ..testing.command import UnusableError, check_file

    try:
        return max([check_file(path) for path in arguments.files])
    except UnusableError as error:
        raise Problem(str(error)) from error
