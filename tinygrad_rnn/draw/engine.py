"""The engine: the one module that knows which program turns placed DOT into pixels and pages.

After this file the reader knows where the engine comes from (``TINYGRAD_RNN_DOT``, else the embedded `graphviz-pure`,
else a system ``dot``), that it runs as a subprocess with a time-out, and that it is asked for PNG and PDF only. To
replace the engine is to replace this file.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import time
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

TIMEOUT = 60.0
MOST_BYTES = 2**28
_LOOK = 0.2  # seconds between two looks at a program that has not ended
PNG_DPI = 110
MAX_PIXELS = 40_000_000
_PDF_DPI = 300
_EXE = ".exe" if os.name == "nt" else ""
_MARKS = {  # what an answer has near its beginning and at its end
    "png": (b"\x89PNG", b"IEND"),
    "pdf": (b"%PDF", b"%%EOF"),
    "jpg": (b"\xff\xd8", b"\xff\xd9"),
}


class NoRenderer(RuntimeError):
    """No engine was found, or it failed; the message names the remedy."""


REMEDY = 'run "pip install graphviz-pure", or install Graphviz so that "dot" is on PATH'


@lru_cache(maxsize=1)
def embedded() -> str | None:
    """Path of the engine that was installed with the package, or None."""
    import importlib.metadata  # here and below: not while the package is imported, which a picture may never follow

    name = f"graphviz-pure{_EXE}"
    places = [Path(sysconfig.get_path("scripts"))]
    try:
        distribution = importlib.metadata.distribution("graphviz-pure")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        places[:0] = [Path(str(f.locate())).parent for f in distribution.files or () if f.name == name]
        # `pip install --target` writes a RECORD that points elsewhere.
        places.append(Path(str(distribution.locate_file("bin"))))
    for place in places:
        if (place / name).is_file():
            return str((place / name).resolve())
    from shutil import which  # here, as it brings every compression that Python has

    return which("graphviz-pure")


def find(format: str) -> str:
    """Path of the program that can write `format`; `NoRenderer` if there is none."""
    from shutil import which

    if sys.platform in ("emscripten", "wasi"):
        raise NoRenderer("in WebAssembly no program can be started, so no PNG or PDF: save as .svg or .html")
    chosen = os.environ.get("TINYGRAD_RNN_DOT")
    if chosen:
        found = which(chosen)
        if found is None:
            raise NoRenderer(f"TINYGRAD_RNN_DOT names {chosen!r}, which is not a program: unset it, or {REMEDY}")
        return found
    # The embedded engine first: the same bytes on every machine. It writes no PDF.
    program = (None if format == "pdf" else embedded()) or which("dot")
    if program is None:
        raise NoRenderer(f"no Graphviz renderer found: {REMEDY}")
    return program


def run(source: str, format: str, *options: str) -> bytes:
    """Give DOT to the engine and return what it writes."""
    import subprocess

    program = find(format)
    try:
        # In a group of its own, so that what it has started can be ended with it.
        process = subprocess.Popen(
            [program, "-q", f"-T{format}", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise NoRenderer(f"{program} cannot be run ({error}): {REMEDY}") from error
    try:
        answer, told = _communicate(process, program, source.encode())
    finally:
        _end(process)
    if process.returncode or not answer:
        code = process.returncode
        how = f"ended by signal {-code}" if code < 0 else f"exit status {code}, {len(answer)} bytes of output"
        said = " ".join(told.decode(errors="replace").split())[:500] or how
        raise NoRenderer(f"{program} failed on format {format!r}: {said}")
    begins, ends = _MARKS.get(format, (b"", b""))
    if begins not in answer[:1000] or ends not in answer[-20:]:
        raise NoRenderer(f"{program} was asked for {format} and answered something else: {answer[:60]!r}")
    return answer


def _communicate(process: Any, program: str, source: bytes) -> tuple[bytes, bytes]:
    """What a program writes, looked at in between: it may never end, never stop writing, or leave children behind."""
    import subprocess

    deadline, given, ended = time.monotonic() + TIMEOUT, source, False
    while True:
        try:
            return process.communicate(given, timeout=_LOOK)  # type: ignore[no-any-return]
        except subprocess.TimeoutExpired as waiting:
            written = len(waiting.output or b"") + len(waiting.stderr or b"")
        if written > MOST_BYTES:
            raise NoRenderer(f"{program} was stopped: it wrote more than {MOST_BYTES >> 20} MB")
        if ended:
            raise NoRenderer(f"{program} ended, but left a process behind that keeps its output open")
        if time.monotonic() > deadline:
            raise NoRenderer(
                f"{program} did not finish within {TIMEOUT:.0f} s: draw fewer time steps, or a coarser level"
            )
        given, ended = b"", process.poll() is not None


def _end(process: Any) -> None:
    """End a program and whatever it has started."""
    with suppress(OSError, AttributeError):  # no groups on Windows
        os.killpg(process.pid, 9)
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()


def render(source: str, format: str, size: tuple[float, float]) -> bytes:
    """A placed graph as PNG or PDF.

    Parameters
    ----------
    source : str
        DOT in which every node and edge has its position.
    format : {"png", "pdf"}
    size : tuple of float
        Width and height in points, to refuse a bitmap that would eat the memory before it is made.
    """
    if format == "pdf":
        return _pdf(source, size)
    _check_pixels(size, PNG_DPI, "PNG")
    return run(source, "png", "-Kneato", "-n2", f"-Gdpi={PNG_DPI}")


def _check_pixels(size: tuple[float, float], dpi: int, what: str) -> None:
    width, height = (side * dpi / 72 for side in size)
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"a {what} of {width:.0f} x {height:.0f} pixels is too large (limit: {MAX_PIXELS // 10**6} megapixels): "
            'save as .svg, draw fewer time steps, or use level="step"'
        )


def _pdf(source: str, size: tuple[float, float]) -> bytes:
    """Vector PDF by a system ``dot``; without one, a page that holds a 300 dpi JPEG, with a warning."""
    try:
        return run(source, "pdf", "-Kneato", "-n2")
    except NoRenderer:
        _check_pixels(size, _PDF_DPI, "raster PDF")
    jpeg = run(source, "jpg", "-Kneato", "-n2", f"-Gdpi={_PDF_DPI}")
    warnings.warn("raster PDF: install Graphviz for vector output", stacklevel=2)
    return jpeg_page(jpeg, _PDF_DPI)


def jpeg_page(jpeg: bytes, dpi: int) -> bytes:
    """A PDF of one page that shows a baseline JPEG: PDF can hold JPEG data as they are (``/DCTDecode``)."""
    at = 2
    while jpeg[at + 1] not in (0xC0, 0xC1, 0xC2):  # walk the segments to the frame header, which has the size
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    height, width = (int.from_bytes(jpeg[at + k : at + k + 2], "big") for k in (5, 7))
    space = {1: "DeviceGray", 3: "DeviceRGB", 4: "DeviceCMYK"}[jpeg[at + 9]]
    w, h = (f"{side * 72 / dpi:.2f}" for side in (width, height))
    content = f"q {w} 0 0 {h} 0 0 cm /I Do Q".encode()
    image = f"/Type/XObject/Subtype/Image/Width {width}/Height {height}/ColorSpace/{space}/BitsPerComponent 8"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {w} {h}]/Resources<</XObject<</I 4 0 R>>>>/Contents 5 0 R>>".encode(),
        f"<<{image}/Filter/DCTDecode/Length {len(jpeg)}>>\nstream\n".encode() + jpeg + b"\nendstream",
        f"<</Length {len(content)}>>\nstream\n".encode() + content + b"\nendstream",
    ]
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n{len(out)}\n%%EOF\n"
    return bytes(out) + f"xref\n0 6\n0000000000 65535 f \n{table}{trailer}".encode()
