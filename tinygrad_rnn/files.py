"""Files that appear whole or not at all.

After this file the reader knows why an interrupted write never costs anybody the file that was there before.
"""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path


def write_whole(path: str | PathLike[str], content: str | bytes) -> None:
    """Write a file under a temporary name beside it and rename it: a reader sees the old file or the new, never half.

    Parameters
    ----------
    path : path
        Its folder must exist.
    content : str or bytes
        Text is written as UTF-8, its line ends as they are, on every platform.

    Raises
    ------
    OSError
        If the folder is missing or not writable; the old file, if any, is unchanged.
    """
    path = Path(path)
    # Opened like any new file rather than by `tempfile`, whose files nobody else may read.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        file = open(temporary, "xb")
    except OSError as error:
        raise type(error)(error.errno, f"cannot write in the folder {path.parent}: {error.strerror}") from error
    try:
        with file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
