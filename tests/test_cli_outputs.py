"""What the command line leaves: no output over an input, streams that end early, and one line after Ctrl-C."""

import ast
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.cli import main
from tinygrad_rnn.start import is_command_line

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and signals of POSIX")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("x\n" + "".join(f"{k % 7}\n" for k in range(60)), encoding="utf-8")
    np.save("three.npy", np.ones((2, 30, 1)))
    Path("lengths.txt").write_text("30\n9\n", encoding="utf-8")
    nn.save("w.npz", tg.LSTM(1, 2, rng=0).state_dict())


def contents():
    return {path.as_posix(): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


# --- outputs and inputs ---

TWICE = {
    "json over data": "draw rnn --data in.csv --json in.csv",
    "by another name": "draw rnn --data ./in.csv --json sub/../in.csv",
    "by a link": "draw rnn --data in.csv --json soft.json",
    "by a link to the input": "draw rnn --data soft.csv --json in.csv",
    "by a second name": "draw rnn --data in.csv --json hard.json",
    "by a folder's link": "draw rnn --data here/in.csv --json in.csv",
    "json over weights": "draw --weights w.npz --json w.npz",
    "json over lengths": "flow --cell lstm --data three.npy --lengths lengths.txt --json lengths.txt",
    "picture over weights": "draw --weights w.npz --out w.svg",
    "two outputs": "draw rnn --out a.svg --json a.svg",
    "two outputs, one a link that leads nowhere yet": "draw rnn --out b.svg --json dangling.json",
    "two outputs that differ in case": "draw rnn --out a.svg --json A.SVG",
    "two outputs of flow": "flow --cell lstm --out a.svg --json a.svg",
    "what training writes": "train --task series --weights run/weights.npz --resume --updates 2",
}


@posix
@pytest.mark.parametrize("words", TWICE.values(), ids=TWICE)
def test_no_output_takes_the_place_of_an_input_or_another_output(words, capsys):
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    for link, target in (
        ("soft.json", "in.csv"),
        ("soft.csv", "in.csv"),
        ("dangling.json", "b.svg"),
        ("w.svg", "w.npz"),
    ):
        Path(link).symlink_to(target)
    os.link("in.csv", "hard.json")
    Path("here").symlink_to(".")
    for folder in ("sub", "run"):
        Path(folder).mkdir()
    if words.startswith("train"):
        nn.save("run/checkpoint.npz", {"a": np.ones(1)})
        nn.save("run/weights.npz", tg.LSTM(1, 2, rng=0).state_dict())
    before = contents()
    assert main(words.split()) == 2
    said = capsys.readouterr()
    assert "cannot be both" in said.err and said.err.count("\n") == 1 and said.out == ""
    assert contents() == before


def test_a_folder_with_files_of_others_gets_no_map(capsys):
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    for name in ("table.csv", "map.svg"):
        Path("atlas").mkdir(exist_ok=True)
        Path("atlas", name).write_text("mine", encoding="utf-8")
        assert main("sweep --hidden 4 --steps 12 --seeds 1".split()) == 2
        assert f"{name}: is there already" in capsys.readouterr().err and contents()[f"atlas/{name}"] == b"mine"
        Path("atlas", name).unlink()


def test_a_path_is_told_in_one_line_and_the_home_is_known(capsys, monkeypatch):
    name = "two\nlines\x1b[31m.csv"
    Path(name).write_bytes(Path("in.csv").read_bytes())
    assert main(["draw", "rnn", "--data", name, "--out", "x.svg"]) == 0
    said = capsys.readouterr().out
    assert r"data    two\nlines\x1b[31m.csv (x), standardised" in said and "<svg" in Path("x.svg").read_text("utf-8")
    assert main(["draw", "rnn", "--data", name, "--column", "y"]) == 2
    assert r"error: two\nlines\x1b[31m.csv: has no column 'y'" in capsys.readouterr().err
    monkeypatch.setenv("HOME" if os.name == "posix" else "USERPROFILE", str(Path.cwd()))
    assert main(["draw", "rnn", "--data=~/in.csv", "--out=~/y.dot"]) == 0 and Path("y.dot").exists()


# --- streams ---


def process(*words, **options):
    command = [sys.executable, "-P", "-X", "utf8", "-m", "tinygrad_rnn", *words]
    return subprocess.run(command, **{"stderr": subprocess.PIPE, "timeout": 600, **options})


def test_json_to_standard_output_is_alone_there(capsys):
    for words in ("draw rnn --steps 2 --out x.dot", "flow --cell gru --steps 20"):
        assert main([*words.split(), "--json", "x.json"]) == 0
        told = capsys.readouterr().out
        assert main([*words.split(), "--json", "-"]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out) is not None and (
            "seconds" in said.out or said.out == Path("x.json").read_text("utf-8")
        )
        assert said.err == told.replace(", x.json", "").replace("wrote     x.json\n", "").replace("wrote x.json\n", "")


@posix
def test_a_reader_that_leaves_is_no_error_and_the_work_is_done():
    reader, writer = os.pipe()
    os.close(reader)
    done = process("draw", "rnn", "--steps", "2", "--json", "x.json", stdout=writer)
    assert (done.returncode, done.stderr) == (0, b"") and json.loads(Path("x.json").read_text("utf-8"))
    done = process("flow", "--help", stdout=writer)
    assert (done.returncode, done.stderr) == (0, b"")
    os.close(writer)


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_is_told(capsys):
    with open("/dev/full", "wb") as full:
        done = process("draw", "rnn", "--steps", "2", stdout=full)
        assert done.returncode == 2
        assert done.stderr == b"tinygrad-rnn: error: standard output: No space left on device\n"
        assert process("draw", "rnn", "--steps", "2", stdout=full, stderr=full).returncode == 2
        # What cannot be said on standard error is no reason to leave the work.
        done = process("train", *"--task adding --updates 1 --length 6".split(), stdout=subprocess.PIPE, stderr=full)
        assert done.returncode == 0 and b"wrote   run" in done.stdout
    assert main(["draw", "rnn", "--steps", "2", "--json", "/dev/full"]) == 2
    assert "error: /dev/full: cannot be written: No space left on device\n" in capsys.readouterr().err


def test_without_standard_output_the_work_is_done(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["draw", "rnn", "--steps", "2", "--out", "x.dot"]) == 0 and Path("x.dot").exists()
    assert main(["draw", "rnn", "--steps", "2", "--out", "y.dot", "--json", "-"]) == 2 and not Path("y.dot").exists()
    assert capsys.readouterr().err == "tinygrad-rnn: error: --json -: standard output is closed\n"


@posix
@pytest.mark.slow
def test_standard_output_that_is_closed():
    command = ["sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, "-P", "-m", "tinygrad_rnn"]
    for words in ("draw rnn --steps 2", "train --task adding --updates 1 --length 6"):
        assert subprocess.run([*command, *words.split()], stdout=subprocess.PIPE).returncode == 0
    assert subprocess.run([*command, "draw", "no"], stdout=subprocess.PIPE).returncode == 2
    command = [*command[:2], 'exec "$0" "$@" >&-', *command[3:], "draw", "rnn", "--steps", "2"]
    done = subprocess.run(command, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"") and Path("rnn.svg").exists()
    done = subprocess.run([*command, "--json", "-"], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, b"tinygrad-rnn: error: --json -: standard output is closed\n")


@posix
def test_the_file_that_standard_output_goes_to_is_no_other_output():
    with open("out.json", "wb") as out:
        done = process("draw", "rnn", "--steps", "2", "--json", "out.json", stdout=out)
    assert done.returncode == 2 and b"standard output goes there already" in done.stderr
    assert Path("out.json").read_bytes() == b""


# --- Ctrl-C ---

EARLY = ("numpy", "tinygrad_rnn.tensor")  # modules during whose import it comes


def interrupt(*arguments, **options):
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("SIGINT was not raised here")


DEEP = {  # where each command is interrupted, and what it says is left
    "draw rnn": ("tinygrad_rnn.nn.stacks", "unroll", "nothing was written"),
    "flow --cell rnn": ("tinygrad_rnn.diagnose.chain", "pullback", "nothing was written"),
    "check a.py b.py": ("tinygrad_rnn.testing.command", "check_primitive", "0 of 2 files checked"),
    "sweep --steps 12": (
        "tinygrad_rnn.atlas.networks",
        "network",
        f"the same command goes on from the 0 of 5 rows in {Path('atlas', 'table.jsonl')}",
    ),
    "sweep --steps 12 --scale 1,2,3 --cell rnn,lstm --seeds 2": (
        "tinygrad_rnn.atlas.networks",
        "network",
        f"the same command goes on from the 0 of 12 rows in {Path('atlas', 'table.jsonl')}",
    ),
    "train --task adding --resume": (
        "tinygrad_rnn.train.tasks",
        "Adding.test_batch",
        "nothing was written",
    ),
}


@pytest.mark.parametrize("words", DEEP)
def test_ctrl_c_ends_with_130_and_one_line(words, monkeypatch, capsys):
    module, name, left = DEEP[words]
    if words.startswith("sweep"):
        pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    for file in ("a.py", "b.py"):
        Path(file).write_text(
            'import numpy as np, tinygrad_rnn as tg\ntg.primitive("mine", np.tanh, lambda g, y, x: g)\n',
            encoding="utf-8",
        )
    __import__(module)
    owner = sys.modules[module]
    for part in name.split(".")[:-1]:
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, name.split(".")[-1], interrupt)
    assert main(words.split()) == 130
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("sweep:", "mine:"))]
    assert [line for line in said if line] == [f"tinygrad-rnn: interrupted; {left}"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupted_sweep_tells_how_many_rows_there_are(monkeypatch, capsys):
    figure = importlib.import_module("tinygrad_rnn.figure")
    monkeypatch.setattr(figure, "new_figure", str)  # needs matplotlib, and is asked for before the work begins
    networks, made = importlib.import_module("tinygrad_rnn.atlas.networks"), []
    network = networks.network

    def third(*arguments, **options):
        made.append(network(*arguments, **options))
        if len(made) == 3:
            raise KeyboardInterrupt
        return made[-1]

    monkeypatch.setattr(networks, "network", third)
    assert main("sweep --steps 12 --hidden 2 --seeds 5".split()) == 130
    assert f"goes on from the 2 of 5 rows in {Path('atlas', 'table.jsonl')}" in capsys.readouterr().err


def test_what_is_written_already_is_told(monkeypatch, capsys):
    monkeypatch.setattr(tg.gradient_graph(tg.sum(tg.Tensor([1.0], requires_grad=True))).__class__, "to_json", interrupt)
    assert main(["draw", "rnn", "--steps", "2", "--out", "x.dot", "--json", "x.json"]) == 130
    assert capsys.readouterr().err == "tinygrad-rnn: interrupted; x.dot written\n" and not Path("x.json").exists()


@posix
def test_ctrl_c_twice_and_before_anything_is_imported():
    start = "import sys, signal; sys.argv = ['tinygrad-rnn']; sys.orig_argv = []; import tinygrad_rnn; "
    twice = (
        "import tinygrad_rnn.cli as cli\n"
        "def run(arguments):\n"
        "    cli.outputs.tidy_first()\n"
        "    try: signal.raise_signal(signal.SIGINT)\n"
        "    finally: signal.raise_signal(signal.SIGINT)\n"
        "cli.COMMANDS = tuple(__import__('dataclasses').replace(c, run=run) for c in cli.COMMANDS)\n"
        "sys.argv = ['tinygrad-rnn', 'draw', 'rnn']; sys.exit(cli.main())"
    )
    once = twice.replace("    finally: signal.raise_signal(signal.SIGINT)\n", "    finally: pass\n")
    done = subprocess.run([sys.executable, "-c", start + once], capture_output=True, timeout=600)
    assert (done.returncode, done.stderr) == (130, b"tinygrad-rnn: interrupted; nothing was written\n")
    while_importing = (
        "import sys, signal\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == sys.argv[1]: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    imports = [while_importing + start.replace("'tinygrad-rnn'", f"'tinygrad-rnn', '{name}'") for name in EARLY]
    for code in (f"{start}signal.raise_signal(signal.SIGINT)", start + twice, *imports):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=600)
        assert (done.returncode, done.stderr) == (130, b"tinygrad-rnn: interrupted\n")


def test_nothing_of_the_package_is_imported_before_it_knows_of_ctrl_c():
    tree = ast.parse(Path(tg.__file__).read_text("utf-8"))
    first = next(node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    assert [name.name for name in first.names] == ["start"]


@pytest.mark.parametrize(
    "argv, original, ours",
    [
        (["/usr/bin/tinygrad-rnn", "draw"], [], True),
        (["C:\\tinygrad-rnn.exe"], [], os.name == "nt"),
        (["-m"], ["python", "-m", "tinygrad_rnn"], True),
        (["-m"], ["python", "-m", "pytest"], False),
        (["/usr/bin/tinygrad-rnn.exe"], [], True),
        (["mine.py", "tinygrad-rnn"], [], False),
        (["mine.py"], ["python", "mine.py", "tinygrad_rnn"], False),
        ([""], [], False),
        ([], [], False),
    ],
)
def test_only_the_command_line_takes_signals_to_itself(argv, original, ours):
    assert is_command_line(argv, original) is ours
