"""What leaves the package: files that appear whole or not at all, and text that is nothing but text.

After this file the reader knows why an interrupted write never costs anybody the file that was there before, what
becomes of links, pipes and devices, how a file is kept from being written twice at once, and why a name cannot colour a
terminal, turn a line round or end one.
"""

from __future__ import annotations

import errno
import io
import os
import reprlib
import stat
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from os import PathLike
from pathlib import Path

AnyPath = str | PathLike[str]


def write_whole(path: AnyPath, content: str | bytes | Iterable[bytes]) -> None:
    """Write a file under a temporary name beside it and rename it: a reader sees the old file or the new, never half.

    A link stays a link, and what it leads to is replaced; the mode of an old file is kept. What is no file, a pipe or
    a device, is written to. When this returns, file and name are on the disk.

    Parameters
    ----------
    path : path
        Its folder must exist.
    content : str, bytes or iterable of bytes
        Text is written as UTF-8, its line ends as they are, on every platform. Half a pair of surrogates, which UTF-8
        cannot say, is written as JSON escapes it.

    Raises
    ------
    OSError
        Naming the path, if it cannot be written; the old file, if any, is unchanged.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    chunks = [data] if isinstance(data, bytes) else data
    try:
        status = _writable(path)
        standard = next((fd for fd in (1, 2) if status is not None and _is_open_as(fd, status)), None)
        if status is None or (stat.S_ISREG(status.st_mode) and standard is None):
            _replace(Path(os.path.realpath(path)), chunks, status)
            return
        if sys.stdout is not None:
            sys.stdout.flush()
        # A reader of a pipe may leave when it has seen enough.
        with suppress(BrokenPipeError), open(path if standard is None else os.dup(standard), "wb") as stream:
            stream.writelines(chunks)
    except OSError as error:
        raise _named(error, path) from error


def _replace(target: Path, chunks: Iterable[bytes], status: os.stat_result | None) -> None:
    temporary = target.with_name(f".{target.name[:40]}.{os.urandom(8).hex()}.tmp")
    # A new file is opened like any other, not by `tempfile`, whose files nobody else may read.
    mode = 0o666 if status is None else 0o600
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        if status is not None:
            with suppress(OSError, AttributeError):  # only who may; Windows has no owners of this kind
                os.chown(temporary, status.st_uid, status.st_gid)
            os.chmod(temporary, stat.S_IMODE(status.st_mode))
        os.replace(temporary, target)
        sync_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: AnyPath) -> None:
    """Have the names in a folder written to the disk, where folders can be opened (not on Windows)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def alone(path: AnyPath) -> Iterator[None]:
    """Have a file to oneself among the processes that ask so; the right ends with its process.

    It is an SQLite lock beside the file, since those work on every system.

    Raises
    ------
    OSError
        Naming the path, if another process has it, or no lock can be had.
    """
    import sqlite3

    target = Path(os.path.realpath(path))  # so that the lock is one by whatever link
    with ExitStack() as stack:
        try:
            lock = sqlite3.connect(target.with_name(f".{target.name}.lock"), timeout=0, isolation_level=None)
            stack.enter_context(closing(lock)).execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            busy = "another process is writing it: wait until that has ended, or choose another path"
            reason = busy if "locked" in str(error) else f"cannot be written (no lock beside it: {error})"
            raise OSError(errno.EBUSY, reason, os.fspath(path)) from None
        yield


def check_writable(path: AnyPath) -> None:
    """Find out before long work whether `write_whole` could write there.

    Raises
    ------
    OSError
        Naming the path, if not.
    """
    import tempfile

    try:
        status = _writable(path)
        if status is None or stat.S_ISREG(status.st_mode):
            with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))):
                pass
    except OSError as error:
        raise _named(error, path) from error


def _writable(path: AnyPath) -> os.stat_result | None:
    """The status of what a path leads to, None if nothing is there yet."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(path, os.W_OK):  # a file that is write-protected could still be replaced
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return status


def _is_open_as(descriptor: int, status: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), status)
    return False


def _named(error: OSError, path: AnyPath) -> OSError:
    return OSError(error.errno or errno.EIO, f"cannot be written: {error.strerror or error}", os.fspath(path))


def same_file(one: AnyPath, other: AnyPath) -> bool:
    """Whether two paths lead to one file, by whatever links; devices such as /dev/null are nobody's.

    Of files that are not there yet the names are compared, and names that differ in case only are one: they are on
    many systems.
    """
    try:
        status = os.stat(one)
        return os.path.samestat(status, os.stat(other)) and not stat.S_ISCHR(status.st_mode)
    except OSError:
        names = (unicodedata.normalize("NFC", os.path.realpath(path)).casefold() for path in (one, other))
        return len({*names}) == 1


def printable(text: object, keep: str = "") -> str:
    r"""Text from outside with control codes, marks of direction and line separators written as Python escapes them.

    Examples
    --------
    >>> print(printable("\x1b[31mred\nline"))
    \x1b[31mred\nline
    """
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in f"{text}")


def counted(number: int, what: str) -> str:
    """So many of something: "1 step", "2 steps"."""
    return f"{number} {what}{'s' * (number != 1)}"


def columns(rows: Sequence[Sequence[str]], right: bool = False) -> list[str]:
    """Rows of text as lines in aligned columns; with `right`, all but the first one aligned on that side."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = str.rjust if right else str.ljust
    return ["  ".join([row[0].ljust(widths[0]), *map(aligned, row[1:], widths[1:])]).rstrip() for row in rows]


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV; a number is written so that reading it gives the same number back."""
    import csv  # here, as few calls need it

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class Brief:
    """A dataclass that is one line at a prompt, whatever it holds; declared with ``repr=False``."""

    __slots__ = ()

    def __repr__(self) -> str:
        told = (f"{name}={reprlib.repr(getattr(self, name))}" for name in getattr(self, "__dataclass_fields__", ()))
        return f"{type(self).__name__}({', '.join(told)})"
