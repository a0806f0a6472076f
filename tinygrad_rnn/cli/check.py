"""``tinygrad-rnn check``: the battery on the primitives and cells of one's own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..start import tidy_first
from .options import Command, Problem, chosen, file
from .outputs import claim, put_json


def files_in(folder: Path) -> list[Path]:
    """Python files and notebooks, not those of hidden folders."""
    found = [path for kind in ("*.py", "*.ipynb") for path in folder.rglob(kind)]
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def run(arguments: argparse.Namespace) -> int:
    """Check the primitives and cells of your own that a file declares.

    Import Python files, all in a folder, or notebooks, and check every primitive and every recurrent cell that they
    declare: gradients against differences, and the rest of the battery of tinygrad_rnn.testing. Ends with 0 if all are
    right, 1 if not, 2 if a file cannot be used.
    """
    from ..testing.command import EmptyError, UnusableError, check_file

    tidy_first()
    options = chosen(arguments, "order") | ({"rng": arguments.seed} if "seed" in arguments.given else {})
    files = [one for path in arguments.operands for one in (files_in(path) if path.is_dir() else [path])]
    if not files:
        raise Problem(f"{arguments.operands[0]}: no Python file and no notebook in it")
    claim(arguments, {"--json": arguments.json}, files)
    worst, ended = 0, list[dict[str, str]]()

    def say(word: str, name: str, said: str) -> None:
        print(f"{word:<7} {name}: {said}")
        ended.append({"file": str(path), "name": name, "verdict": word.lower(), "report": said})

    passed_over = None
    for k, path in enumerate(files):
        arguments.after = lambda k=k: f"{k} of {len(files)} files checked"
        try:
            worst = max(worst, check_file(path, say, **options))
        except UnusableError as error:
            if path in arguments.operands or not isinstance(error, EmptyError):
                raise Problem(str(error)) from error
            passed_over = error  # of a folder, not every file need declare something
    if passed_over and not ended:
        raise Problem(str(passed_over))
    put_json(arguments, lambda: json.dumps(ended, indent=1) + "\n")
    return worst


COMMAND = Command(
    "check",
    run,
    "order seed json",
    says={"seed": {"help": "of operands and cotangents; default: 0, or what the file says"}},
    operand=("FILE.py", file, "+"),
)
