"""Ctrl-C in the command line, from the first import on: exit code 130 and one line.

After this file the reader knows why the package looks at how its process was started, and that a program which merely
imports it keeps its own ways with signals.
"""

import os
import signal
import sys


def give_up(number: int, frame: object) -> None:
    """End at once, as after a kill: what is written is whole, whenever it happens."""
    os.write(2, b"tinygrad-rnn: interrupted\n")
    os._exit(130)


def tidy_first() -> None:
    """From now on let the first Ctrl-C be raised, so that what is under way is ended in order; a second is at once."""
    if signal.getsignal(signal.SIGINT) is give_up:
        signal.signal(signal.SIGINT, _raise)


def _raise(number: int, frame: object) -> None:
    signal.signal(signal.SIGINT, give_up)
    raise KeyboardInterrupt


def is_command_line(argv: list[str], original: list[str]) -> bool:
    """Whether a process was started as ``tinygrad-rnn ...`` or ``python -m tinygrad_rnn ...``."""
    script = os.path.basename(argv[0]).removesuffix(".exe") if argv else ""
    return script == "tinygrad-rnn" or (script == "-m" and "tinygrad_rnn" in original)


if is_command_line(sys.argv, sys.orig_argv) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, give_up)
