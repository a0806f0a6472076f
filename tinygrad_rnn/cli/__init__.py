"""The command line: one module a command, each with what it asks for and what it does.

After this file the reader knows how every command ends: with its exit code, with one line on standard error, or, after
Ctrl-C, with the line that says what is left. The modules import what is heavy where they use it, so that --help and a
mistyped option answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from typing import IO, Any, cast

from ..draw.engine import NoRenderer
from ..files import printable
from ..start import give_up
from . import check, demo, draw, flow, sweep, train
from .options import STANDARD_OUTPUT, Problem, parse
from .outputs import wrote

STANDARD_ERROR = "standard error"
COMMANDS = tuple(module.COMMAND for module in (demo, draw, flow, train, sweep, check))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; default: those of the process, whose Ctrl-C is then this function's as well.

    Returns
    -------
    int
        Exit code: 0; 1 if what the command looks for was found; 2 after an error, of which one line on standard error
        tells; 130 after Ctrl-C.
    """
    own = argv is None and signal.getsignal(signal.SIGINT) in (signal.default_int_handler, give_up)
    if own:
        signal.signal(signal.SIGINT, give_up)
    with ExitStack() as streams:
        if sys.stdout is not None:
            streams.enter_context(redirect_stdout(_Stream(sys.stdout, "standard output")))
        nowhere = streams.enter_context(open(os.devnull, "w", encoding="utf-8"))
        streams.enter_context(redirect_stderr(_Stream(sys.stderr or nowhere, STANDARD_ERROR)))
        try:
            code = _run(argv)
        except KeyboardInterrupt:  # while it told how it ended
            code = 130
    if own:  # all is done, and the interpreter only has to end
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


def _run(argv: Sequence[str] | None) -> int:
    """One command, and what is to be told of its end."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments, problem, code = None, "", 0
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("default")
        try:
            import tinygrad_rnn

            with suppress(SystemExit):  # of --help and --version
                arguments = parse(COMMANDS, tinygrad_rnn.__version__, words)
            alone = getattr(arguments, "json", None) == STANDARD_OUTPUT
            if alone and sys.stdout is None:
                raise Problem("--json -: standard output is closed")
            if arguments is not None:
                with redirect_stdout(sys.stderr if alone else sys.stdout):
                    code = arguments.run(arguments) or 0
                if alone:
                    cast(_Stream, sys.stdout).write_as_it_is(arguments.printed)
            if sys.stdout is not None:
                sys.stdout.flush()
        except (Problem, OSError, MemoryError, NoRenderer) as error:
            code, problem = 2, f"error: {_describe(error)}"
        except KeyboardInterrupt:
            code, problem = 130, f"interrupted; {_left(arguments)}"
    for message in dict.fromkeys(str(warning.message) for warning in noted):
        print("tinygrad-rnn: warning:", " ".join(message.split()), file=sys.stderr)
    if problem:
        print("tinygrad-rnn:", _in_lines(problem), file=sys.stderr)
    return code


def _left(arguments: Any) -> str:
    """What there is after an interruption."""
    files = f"{wrote(arguments)} written" if arguments is not None and wrote(arguments) else ""
    after = getattr(arguments, "after", str)()
    return "; ".join(filter(None, [files, after])) or "nothing was written"


class _Stream:
    """A standard stream whose reader may leave: what is said after that goes nowhere, and the work goes on.

    So does what cannot be said on standard error, since there is no other place to say why.
    """

    def __init__(self, stream: IO[str], name: str) -> None:
        self._stream, self._name = stream, name
        if hasattr(stream, "reconfigure"):  # a console that cannot show a file's name is no reason to fail
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if somebody reads; names of files and columns are somebody else's, and a terminal obeys codes."""
        return self.write_as_it_is(printable(text, keep="\n\t\r"))  # with a carriage return a progress bar moves

    def write_as_it_is(self, text: str) -> int:
        """The same for what is no message but a file's content."""
        return self._heard(self._stream.write, text) or 0

    def flush(self) -> None:
        """Flush, if somebody reads."""
        self._heard(self._stream.flush)

    def _heard(self, say: Any, *text: str) -> Any:
        try:
            return say(*text)
        except OSError as error:
            if not isinstance(error, BrokenPipeError) and self._name != STANDARD_ERROR:
                raise OSError(error.errno, error.strerror, self._name) from error
            # What is left in the buffer goes nowhere too, now and when the process ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def _in_lines(text: str) -> str:
    """One line, but for indented ones: they are there to be copied."""
    return "\n    ".join(" ".join(line.split()) for line in text.split("\n    "))


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{printable(error.filename)}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}; choose a smaller --hidden or --steps"
    return str(error)
