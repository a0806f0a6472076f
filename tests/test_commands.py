"""Every command that a page shows works in a fresh clone, and leaves nothing there that git would take for source.

A command is a line of a shell block, or inline code with an option. Those of the package run as they stand; of those
that take minutes the options are tried.
"""

import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import lint
import numpy as np
import pytest
from pages import FENCE, blocks

import tinygrad_rnn as tg
from tinygrad_rnn import nn

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = [name for name in lint.files() if re.fullmatch(r"README\.md|CONTRIBUTING\.md|docs/.*\.md", name)]
PROGRAMS = r"(?:\.venv/bin/)?(tinygrad-rnn|python3?|pytest|pip|pipx|nox|ruff|mypy|dask|\.ci/run)"
COMMAND = re.compile(PROGRAMS + r" ?.*")
INLINE = re.compile(rf"`({PROGRAMS} [^`\n]*-[^`\n]*)`")
RULE = "import tinygrad_rnn as tg\n\ntwice = tg.primitive('twice', lambda x: 2 * x, lambda g, y, x: 2 * g)\n"


def commands(text):
    """The commands of a page, one for each part of `a && b` and of `a | b`, without comments."""
    shell = [
        line.strip() for language in ("sh", "text") for _, code in blocks(text, language) for line in code.split("\n")
    ]
    prose = FENCE.sub("", text)
    shell += re.findall(r"^    +(.*)$", prose, re.MULTILINE)
    found = [line for line in shell if COMMAND.fullmatch(line)] + [match[1] for match in INLINE.finditer(prose)]
    parts = [part for line in found for part in re.split(r"\s*(?:&&|\|)\s*", re.sub(r"\s+#.*", "", line))]
    return list(dict.fromkeys(part for part in parts if COMMAND.fullmatch(part)))


ALL = {name: commands((CHECKOUT / name).read_text(encoding="utf-8")) for name in PAGES}
RUN = [(name, command) for name, shown in ALL.items() for command in shown if command.startswith("tinygrad-rnn ")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The checkout as git would give it to somebody else, with the files that the pages assume there."""
    if shutil.which("git") is None:
        pytest.skip("no git")
    folder = tmp_path_factory.mktemp("clone")
    for name in lint.files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CHECKOUT / name, folder / name)
    git(folder, "init", "--quiet")
    for name in ("mine.csv", "series.csv"):
        np.savetxt(folder / name, np.random.default_rng(0).normal(size=100))
    np.save(folder / "batch.npy", np.random.default_rng(0).normal(size=(4, 100, 1)))
    (folder / "rules").mkdir()
    for name in ("my_module.py", "my_rules.py", "rules/more.py"):
        (folder / name).write_text(RULE, encoding="utf-8")
    cell = {"cell_type": "code", "source": RULE.replace("twice", "doubled")}
    (folder / "notebook.ipynb").write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
    git(folder, "add", "--all")
    return folder


def git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, encoding="utf-8", check=True)
    return done.stdout.split()


def run(folder, *arguments):
    """Run Python there; the commands of the package are those of its module."""
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, encoding="utf-8", timeout=3000)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("page", "command"), RUN, ids=[command[len("tinygrad-rnn ") :] for _, command in RUN])
def test_command_of_the_package_works_in_a_fresh_clone(page, command, clone, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    words = shlex.split(command)[1:]
    if "--out" in words and words[words.index("--out") + 1].rpartition(".")[2] == "svg":
        pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    if "model.safetensors" in words:
        pytest.importorskip("safetensors", reason="the extra torch-weights is not installed")
        prefix = words[words.index("--prefix") + 1] + "." if "--prefix" in words else ""
        weights = tg.LSTM(1, 4, rng=0).state_dict()
        nn.save(clone / "model.safetensors", {prefix + name: array for name, array in weights.items()})
    git(clone, "add", "--all")
    code, said = run(clone, "-P", "-m", "tinygrad_rnn", *words)
    assert code == 0 or (code == 1 and "--fail-on" in words), said
    named = {words[k + 1] for k, word in enumerate(words) if word in {"--out", "--json"}} - {"-"}
    assert all((clone / name).exists() for name in named)
    unknown = git(clone, "ls-files", "--others", "--exclude-per-directory=.gitignore")
    changed = git(clone, "diff", "--name-only")
    assert unknown == [], ".gitignore does not name what the command writes"
    assert set(changed) <= named, "the command changes what is in the repository"


def fault(command):
    """What is wrong with a command of another kind, or None: it is tried as far as seconds allow."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    match shlex.split(command.removeprefix(".venv/bin/")):
        case ["pip", "install", *what]:
            wanted = {extra for word in what for names in re.findall(r"\[(.+)\]", word) for extra in names.split(",")}
            unknown = wanted - set(project["project"]["optional-dependencies"])
            return f"no extra {unknown}" if unknown else None
        case ["pytest", *options]:
            paths = [word for word in options if "/" in word]
            marks = [f"{mark}:" for option, mark in itertools.pairwise(options) if option == "-m"]
            declared = "".join(project["tool"]["pytest"]["ini_options"]["markers"])
            there = all((CHECKOUT / path).exists() for path in paths) and all(mark in declared for mark in marks)
            return None if there else "no such file or mark"
        case ["nox", "-s", session]:
            known = f"def {session}(session: nox.Session)" in (CHECKOUT / "noxfile.py").read_text(encoding="utf-8")
            return None if known else "no such session"
        case [
            "python",
            "-m",
            (
                "benchmarks.unrolled"
                | "benchmarks.scaling"
                | "benchmarks.derived"
                | "benchmarks.compiled"
                | "benchmarks.drawing"
            ) as module,
            *options,
        ]:
            code, said = run(CHECKOUT, "-m", module, "--help")
            missing = [option for option in options if option.startswith("-") and option not in said]
            return said if code else f"no option {missing}" if missing else None
        case ["python", "-m", "tests.adapters"]:
            code, said = run(CHECKOUT, "-m", "tests.adapters", "none of them")
            return said if code else None
        case ["python", "-m", "tinygrad_rnn" | "tinygrad_rnn.torch" as module, *words]:
            if module == "tinygrad_rnn.torch" and run(CHECKOUT, "-c", "import torch")[0]:
                return None  # the tests of the doctor run it where PyTorch is
            code, said = run(CHECKOUT, "-m", module, *words[:1], "--help")
            return said if code else None
        case ["python", "docs/ext/notebooks.py" as program, page, name]:
            with tempfile.TemporaryDirectory() as folder:
                code, said = run(CHECKOUT, program, page, str(Path(folder, name)))
            return said if code else None
        case ["python", "-m", "build" | "zipfile" | "pip", *_]:
            return None  # CI builds and opens what a release has; the others' options are Python's and pip's own
        case ["python", "-m", "benchmarks.per_op" | "benchmarks.felt"] | ["python", "docs/ext/pages.py", *_]:
            code, said = run(CHECKOUT, *shlex.split(command)[1:])
            return said if code else None
        case ["python", "examples/blog_post.py", *_]:
            code, said = run(CHECKOUT, "examples/blog_post.py", "6")
            return said if code else None
        case ["python", ".ci/lint.py" | ".ci/lines.py", *_] | [".ci/run" | "ruff" | "mypy" | "dask", *_]:
            return None  # CI begins with these, or does what these do, or they are not ours
        case ["python3", "-m", "venv", _]:
            return None
        case ["python", *words] if {"sphinx", "tests.mutation", "docs/ext/check_site.py"} & set(words):
            return None
    return "nobody tries such a command"


OTHERS = sorted({c for shown in ALL.values() for c in shown if not c.removeprefix(".venv/bin/").startswith("tinygrad")})


@pytest.mark.slow
@pytest.mark.parametrize("command", OTHERS)
def test_command_of_another_kind_can_be_given(command):
    assert fault(command) is None


@pytest.mark.parametrize(
    "command",
    [
        "pip install 'tinygrad-rnn[nothing]'",
        "pytest -m nothing tests/test_commands.py",
        "pytest -m full tests/test_nothing.py",
        "nox -s nothing",
        "python -m benchmarks.nothing",
        "tox",
    ],
)
def test_command_that_does_not_work_is_noticed(command):
    assert fault(command)


def test_commands_are_found_in_blocks_and_in_prose():
    text = "Run `tinygrad-rnn draw --help`, or `tinygrad-rnn flow`.\n\n    tinygrad-rnn check a.py | wc -l  # checks\n"
    text += (
        "```sh\npython3 -m venv .venv && .venv/bin/pip install .\n```\n```python\npytest = 1\n```\nnox is another.\n"
    )
    shown = ["python3 -m venv .venv", ".venv/bin/pip install .", "tinygrad-rnn check a.py", "tinygrad-rnn draw --help"]
    assert commands(text) == shown
