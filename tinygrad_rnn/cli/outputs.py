"""What a command leaves behind: no output in place of an input, and one line that says what there is after Ctrl-C."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path

from ..files import check_writable, printable, same_file, write_whole
from ..start import tidy_first
from .options import STANDARD_OUTPUT, Problem


def claim(arguments: argparse.Namespace, outputs: Mapping[str, Path | None], read: Iterable[Path] = ()) -> None:
    """Find out before long work that outputs can be written, and that none of them is an input or another output.

    Parameters
    ----------
    arguments : Namespace
        Whose --data, --lengths and --weights are inputs.
    outputs : mapping of str to path or None
        By the option that names them, or by what they are.
    read : iterable of path
        What is read besides.

    Raises
    ------
    Problem
        If not.
    """
    written = [(option, path) for option, path in outputs.items() if path is not None and path != STANDARD_OUTPUT]
    inputs = [(printable(path), path) for path in read]
    for name in ("data", "lengths", "weights"):
        given = getattr(arguments, name, None) or []
        inputs += [(f"--{name}", path) for path in (given if isinstance(given, list) else [given])]
    pairs = itertools.chain(itertools.combinations(written, 2), itertools.product(written, inputs))
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


def stages(what: str, *names: str) -> Generator[str, None, None]:
    """In a terminal: which part of a long piece of work is under way; each begins when it is asked for."""
    from tqdm import tqdm

    form = "{desc}: {n_fmt} of {total_fmt}{postfix}"
    with tqdm(total=len(names), desc=what, leave=False, disable=None, bar_format=form) as bar:
        for name in names:
            bar.set_postfix_str(name, refresh=False)
            bar.update()
            bar.refresh()
            yield name


def left(arguments: argparse.Namespace, path: Path) -> None:
    """Note that a file is written."""
    arguments.written = [*getattr(arguments, "written", []), path]


def wrote(arguments: argparse.Namespace) -> str:
    """The files that are written, between commas."""
    return ", ".join(map(printable, getattr(arguments, "written", [])))
