"""What a command leaves behind: no output in place of an input, and one line that says what there is after Ctrl-C."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

from ..files import check_writable, printable, same_file, write_whole
from ..start import tidy_first
from .options import STANDARD_OUTPUT, Problem


def claim(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Find out before long work that outputs can be written, and that none of them is an input or another output.

    Parameters
    ----------
    outputs, inputs : mapping of str to path or None
        By the option that names them, or by what they are.

    Raises
    ------
    Problem
        If not.
    """
    written = [(option, path) for option, path in outputs.items() if path is not None and path != STANDARD_OUTPUT]
    read = [(option, path) for option, path in inputs.items() if path is not None]
    pairs = itertools.chain(itertools.combinations(written, 2), itertools.product(written, read))
    for (one, path), (other, second) in pairs:
        if same_file(path, second):
            raise Problem(f"{printable(path)}: cannot be both {one} and {other}")
    for option, path in written:
        check_writable(path)
        if path.is_file() and same_file(path, "/dev/stdout"):
            raise Problem(f"{printable(path)}: cannot be {option}: standard output goes there already")
    tidy_first()


def put_json(arguments: argparse.Namespace, text: Callable[[], str]) -> None:
    """Write JSON where --json says; what is meant for standard output is kept until all else is done."""
    if arguments.json == STANDARD_OUTPUT:
        arguments.printed = text()
    elif arguments.json is not None:
        write_whole(arguments.json, text())
        left(arguments, arguments.json)


class Stages:
    """In a terminal: which part of a long piece of work is under way.

    Parameters
    ----------
    what : str
    *names : str
        Of the parts; each begins with a call of `begin`.
    """

    def __init__(self, what: str, *names: str) -> None:
        from tqdm import tqdm

        form = "{desc}: {n_fmt} of {total_fmt}{postfix}"
        self._bar = tqdm(total=len(names), desc=what, leave=False, disable=None, bar_format=form)
        self._names = iter(names)

    def begin(self) -> None:
        """The next part begins."""
        self._bar.set_postfix_str(next(self._names), refresh=False)
        self._bar.update()
        self._bar.refresh()

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()


def left(arguments: argparse.Namespace, path: Path) -> None:
    """Note that a file is written."""
    arguments.written = [*getattr(arguments, "written", []), path]


def wrote(arguments: argparse.Namespace) -> str:
    """The files that are written, between commas."""
    return ", ".join(map(printable, getattr(arguments, "written", [])))
