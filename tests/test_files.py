"""Files: whole or not at all, where links and pipes lead, what is one file; and a renderer that misbehaves."""

import csv
import errno
import math
import os
import re
import stat
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.draw import NoRenderer, engine
from tinygrad_rnn.files import Brief, alone, check_writable, columns, csv_text, printable, same_file, write_whole

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and modes of POSIX")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def left():
    return sorted(path.name for path in Path.cwd().iterdir())


# --- writing ---


WRITTEN = [("é\r\n", b"\xc3\xa9\r\n"), ("\udcff", b"\\udcff"), (b"\x00", b"\x00"), ([b"a", b"b"], b"ab")]


@pytest.mark.parametrize("content, expected", WRITTEN)
def test_what_is_written_is_there_and_nothing_else(content, expected):
    for _ in range(2):
        write_whole("a", content)
        assert Path("a").read_bytes() == expected and left() == ["a"]


@pytest.mark.parametrize("name", ["a.svg", "x" * 80 + ".json"])
def test_while_it_is_written_it_has_a_hidden_name_beside_the_other(name):
    Path(name).write_text("old", encoding="utf-8")

    def chunks():
        seen.extend(set(left()) - {name})
        yield b"new"

    seen = []
    write_whole(name, chunks())
    assert len(seen) == 1 and re.fullmatch(re.escape(f".{name[:40]}.") + "[0-9a-f]{16}[.]tmp", seen[0])
    assert Path(name).read_bytes() == b"new" and left() == [name]


def test_an_old_file_keeps_its_owner_where_that_is_allowed(monkeypatch):
    """Only root may give a file away; for everybody else the new file is his own, and nothing fails."""
    given_to = []

    def refuse(path, *owner):
        given_to.append(owner)
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse, raising=False)
    for content in (b"old", b"new"):
        write_whole("a", content)
    status = os.stat("a")
    assert given_to == [(status.st_uid, status.st_gid)] and Path("a").read_bytes() == b"new"


@posix
def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(stat.S_ISDIR(os.fstat(fd).st_mode)) or sync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: done.append("named") or replace(a, b))
    write_whole("n" * 250, "x")  # a temporary name is no longer than the system takes
    assert done == [False, "named", True] and left() == ["n" * 250]


@posix
def test_a_link_is_followed_and_stays_one():
    Path("folder").mkdir()
    Path("folder/target").write_text("old")
    Path("link").symlink_to("folder/target")
    Path("chain").symlink_to("link")
    Path("new").symlink_to("folder/made")
    write_whole("chain", "one")
    write_whole("new", "two")
    assert Path("folder/target").read_text() == "one" and Path("folder/made").read_text() == "two"
    assert all(Path(name).is_symlink() for name in ("chain", "link", "new"))
    assert sorted(p.name for p in Path("folder").iterdir()) == ["made", "target"]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o775])
def test_the_mode_of_an_old_file_is_kept_and_a_new_one_has_the_usual(mode):
    Path("old").write_text("old")
    Path("old").chmod(mode)
    Path("usual").write_text("")
    write_whole("old", "new")
    write_whole("fresh", "new")
    assert stat.S_IMODE(Path("old").stat().st_mode) == mode
    assert Path("fresh").stat().st_mode == Path("usual").stat().st_mode


@posix
def test_what_replaces_an_old_file_is_nobody_elses_to_read_before_it_has_its_mode():
    Path("old").write_text("old")
    Path("old").chmod(0o666)

    def chunks():
        (new,) = set(left()) - {"old"}
        seen.append(stat.S_IMODE(Path(new).stat().st_mode))
        yield b"new"

    seen = []
    write_whole("old", chunks())
    assert seen == [0o600] and stat.S_IMODE(Path("old").stat().st_mode) == 0o666


def test_all_is_handed_to_the_system_before_it_is_asked_to_write_it_to_the_disk(monkeypatch):
    sizes, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size) or sync(fd))
    write_whole("a", b"12345")
    assert sizes[0] == 5


@posix
def test_with_standard_output_closed_a_file_is_written_as_ever():
    code = "from tinygrad_rnn.files import write_whole; write_whole('a', 'new')"
    for closed in ("1", "2"):
        Path("a").write_text("old")
        subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}>&-', sys.executable, code], check=True)
        assert Path("a").read_text() == "new" and left() == ["a"]


@posix
def test_a_pipe_is_written_to_and_may_close_early():
    getattr(os, "mkfifo")("pipe")  # noqa: B009
    check_writable("pipe")
    received = []
    for take, size in ((None, 10), (1, 10**6)):

        def read(take=take):
            with open("pipe", "rb") as pipe:
                received.append(pipe.read(take) if take else pipe.read())

        reader = threading.Thread(target=read)
        reader.start()
        write_whole("pipe", b"x" * size)
        reader.join()
    assert received == [b"x" * 10, b"x"] and Path("pipe").is_fifo() and left() == ["pipe"]


@posix
def test_standard_output_in_a_file_is_not_replaced_under_the_writer():
    code = (
        "import sys; from tinygrad_rnn.files import write_whole; "
        "say = getattr(sys, sys.argv[1]); print('before', file=say); "
        "write_whole('/dev/' + sys.argv[1], 'x\\n'); print('on', file=say)"
    )
    for stream in ("stdout", "stderr"):
        with open("out", "wb") as file:
            subprocess.run([sys.executable, "-c", code, stream], check=True, **{stream: file})
        assert Path("out").read_text() == "before\nx\non\n"


@posix
def test_a_device_is_written_to_without_standard_output_too(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    write_whole(os.devnull, "x")


class Broken:
    """What a full disk does, in the middle of a file."""

    def __iter__(self):
        yield b"half of it"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "path, content, problem",
    [
        ("no/a", "", "No such file or directory"),
        ("file/a", "", "Not a directory"),
        ("folder", "", "Is a directory"),
        ("x" * 300, "", "File name too long"),
        ("file", Broken(), "No space left on device"),
        pytest.param("/dev/full", "x", "No space left on device", marks=posix),
        pytest.param("loop", "", "symbolic links", marks=posix),
    ],
)
def test_what_cannot_be_written_is_named_and_nothing_is_lost(path, content, problem):
    if path == "/dev/full" and not os.path.exists(path):
        pytest.skip("no such device")
    if path == "loop":
        os.symlink("loop", "loop")
    Path("folder").mkdir()
    Path("file").write_text("old")
    before = left()
    with pytest.raises(OSError, match=problem) as caught:
        write_whole(path, content)
    assert caught.value.filename == path and "cannot be written" in str(caught.value)
    assert left() == before and Path("file").read_text() == "old"
    if content == "":
        with pytest.raises(OSError, match=problem):
            check_writable(path)


@posix
def test_what_is_protected_is_refused():
    Path("file").write_text("old")
    Path("file").chmod(0o444)
    if os.access("file", os.W_OK):
        pytest.skip("to this user nothing is protected")
    for write in (check_writable, lambda path: write_whole(path, "new")):
        with pytest.raises(PermissionError, match="file"):
            write("file")
    assert Path("file").read_text() == "old"


def test_what_may_not_be_written_is_refused_though_it_could_be_replaced(monkeypatch):
    Path("file").write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # to root nothing is protected
    for write in (check_writable, lambda path: write_whole(path, "new")):
        with pytest.raises(PermissionError, match="file"):
            write("file")
    assert Path("file").read_text() == "old" and left() == ["file"]


def test_two_writers_at_once_leave_one_of_their_files():
    contents = [bytes([65 + k]) * 10**5 for k in range(4)]
    threads = [threading.Thread(target=lambda c=c: [write_whole("a", c) for _ in range(5)]) for c in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if Path("a").exists():
            assert Path("a").read_bytes() in contents
    assert left() == ["a"]


# --- which files are one ---


@posix
@posix
def test_a_file_is_had_alone_by_any_name_until_it_is_given_back():
    """Between processes, and also of one that is killed."""
    Path("link").symlink_to("a")
    holder = "import time; from tinygrad_rnn.files import alone\nwith alone('a'): print(flush=True); time.sleep(1000)"
    other = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        for name in ("a", "./a", "link"):
            with pytest.raises(OSError, match="another process is writing it") as caught, alone(name):
                pass
            assert caught.value.filename == name
        with alone("b"):
            pass
    finally:
        other.kill()
        other.communicate()
    with alone("a"), pytest.raises(OSError, match="another process"), alone("link"):
        pass
    with pytest.raises(ZeroDivisionError), alone("a"):
        raise ZeroDivisionError
    with alone("a"):
        pass
    with pytest.raises(OSError, match="no lock beside it"), alone("no/a"):
        pass
    assert left() == [".a.lock", ".b.lock", "link"]


def test_one_file_by_any_name():
    Path("a").write_text("")
    Path("soft").symlink_to("a")
    os.link("a", "hard")
    Path("folder").mkdir()
    Path("here").symlink_to(".")
    for other in ("a", "./a", "soft", "hard", "folder/../a", "here/a", str(Path("a").resolve())):
        assert same_file("a", other) and same_file(other, "a")
    assert same_file("here/new", "new") and same_file("new", "New") and same_file("\u00e9", "e\u0301")
    for one, other in (("a", "b"), ("b", "c"), ("a", "folder"), (os.devnull, os.devnull)):
        assert not same_file(one, other)


@given(st.text(st.characters(exclude_characters="\0/"), min_size=1))
def test_a_path_is_one_printable_line(name):
    text = printable(name)
    assert text.isprintable() and text.encode("utf-8")
    assert text == "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    assert printable(f"{name}\n\t", keep="\n") == f"{text}\n\\t" or "\n" in name


# --- tables and short forms ---

CELLS = st.lists(st.tuples(*[st.text("abc", min_size=1, max_size=6)] * 3), min_size=1, max_size=5)


@given(CELLS)
def test_columns_are_as_wide_as_what_is_widest_and_two_blanks_apart(rows):
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    left_ends, right_ends = [0, widths[0] + 2, widths[0] + widths[1] + 4], [*np.cumsum(np.add(widths, [0, 2, 2]))]
    for row, line, other in zip(rows, columns(rows), columns(rows, right=True), strict=True):
        assert line.split() == [*row] == other.split() and "\n" not in line + other
        for k, cell in enumerate(row):
            assert line[left_ends[k] :].startswith(cell) and other.startswith(row[0])
            assert k == 0 or other[: right_ends[k]].endswith(cell)


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.text("a,\" '", max_size=4)), min_size=1))
def test_what_is_read_from_csv_is_what_was_written(rows):
    text = csv_text(rows)
    assert text.count("\n") == len(rows) and text.endswith("\n") and "\r" not in text
    assert [(float(number), word) for number, word in csv.reader(text.splitlines())] == rows
    assert csv_text([(math.nan, None)]) == "nan,\n"


def test_a_brief_one_says_its_class_and_fields_in_little_room():
    @dataclass(repr=False)
    class Held(Brief):
        name: str
        values: list

    assert repr(Held("a", [1, 2])) == f"{Held.__name__}(name='a', values=[1, 2])"
    assert len(repr(Held("a" * 999, [*range(999)]))) < 120


# --- a renderer that misbehaves ---

GRAPH = tg.gradient_graph(tg.sum(tg.Tensor([1.0], requires_grad=True) * 2.0))
RENDERERS = {
    "nothing": ("", "0 bytes of output"),
    "rubbish": ("echo rubbish", "was asked for png and answered something else: b'rubbish"),
    "the question": ("cat", "answered something else"),
    "an error": ("echo what a pity >&2; exit 3", "failed on format 'png': what a pity"),
    "a signal": ("kill -9 $$", "ended by signal 9"),
    "endless": ("yes", "wrote more than"),
    "endless complaints": ("exec yes >&2", "wrote more than"),
    "hanging": ("sleep 1000", "did not finish within"),
    "a child": ("sleep 1000 & echo $! > child; echo '{}'", "left a process behind"),
    "a silent child": ("sleep 1000 >&- 2>&- & echo $! > child; echo '{}'", "answered something else"),
}


def alive(pid):
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
    return subprocess.run(["ps", "-p", pid], capture_output=True).returncode == 0


@posix
@pytest.mark.parametrize("script, words", RENDERERS.values(), ids=RENDERERS)
def test_a_renderer_that_misbehaves_is_named(script, words, monkeypatch):
    Path("renderer").write_text(f"#!/bin/sh\n{script}\n")
    Path("renderer").chmod(0o755)
    monkeypatch.setenv("TINYGRAD_RNN_DOT", str(Path("renderer").resolve()))
    monkeypatch.setattr(engine, "TIMEOUT", 0.3 if "did not finish" in words else 20.0)
    if "did not finish" in words or "left a process" in words:  # else it is looked at once, whatever that takes
        monkeypatch.setattr(engine, "_LOOK", 0.05)
    monkeypatch.setattr(engine, "MOST_BYTES", 10**6)
    Path("a.dot").write_text("mine")
    with pytest.raises(NoRenderer) as caught:
        tg.draw(GRAPH, "a.png")
    message = str(caught.value)
    assert words in message and "renderer" in message and "\n" not in message
    assert "a.dot is there already" in message and Path("a.dot").read_text() == "mine" and not Path("a.png").exists()
    if Path("child").exists():
        pid = Path("child").read_text().strip()
        for _ in range(6000):  # a killed process is gone at once; on a machine that is busy, a little later
            if not alive(pid):
                break
            time.sleep(0.01)
        assert not alive(pid)


@posix
@pytest.mark.parametrize("answer", ["<svg>", "\\211PNG", "rubbish </svg>"])
def test_half_a_picture_is_none(answer, monkeypatch):
    picture = tg.draw(GRAPH)
    Path("renderer").write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    Path("renderer").chmod(0o755)
    monkeypatch.setenv("TINYGRAD_RNN_DOT", str(Path("renderer").resolve()))
    for suffix in ("png", "pdf"):
        with pytest.raises(NoRenderer, match="answered something else"):
            picture.save(f"a.{suffix}")
    assert left() == ["a.dot", "renderer"]
