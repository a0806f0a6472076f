"""The house: what is installed, how light it is, which module may know which, and how long one may be.

Each guard is a function from sources to complaints, and is itself shown a planted fault, since a guard that cannot
complain guards nothing.
"""

import ast
import doctest
import importlib
import importlib.metadata
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import tinygrad_rnn as tg

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = Path(tg.__file__).resolve().parent
MODULES = sorted(PACKAGE.rglob("*.py"))
OURS = [
    path
    for folder in ("tinygrad_rnn", "tests", "examples", "benchmarks", "docs", ".ci")
    for path in sorted((CHECKOUT / folder).rglob("*"))
    if path.is_file() and {"__pycache__", "_build", "gallery"}.isdisjoint(path.parts)
] + sorted(path for path in CHECKOUT.iterdir() if path.suffix in {".md", ".toml", ".cfg"} or path.name == "LICENSE")
PYTHON = [path for path in OURS if path.suffix == ".py"]


def name_of(path):
    return path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else CHECKOUT).as_posix()


# --- what is installed ---


def test_tests_import_the_installed_package_not_the_checkout():
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if editable() or any(entry and Path(entry).resolve() == CHECKOUT for entry in path):
        pytest.skip("the checkout was put on the path on purpose")
    assert PACKAGE != CHECKOUT / "tinygrad_rnn", (
        "run pytest, not python -m pytest, which puts the current folder on the path"
    )


def editable():
    try:
        origin = importlib.metadata.distribution("tinygrad-rnn").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return False
    return json.loads(origin or "{}").get("dir_info", {}).get("editable", False)


def test_wheel_holds_the_package_and_nothing_else():
    if PACKAGE == CHECKOUT / "tinygrad_rnn":
        pytest.skip("not installed from a wheel")
    files = [path.as_posix() for path in importlib.metadata.files("tinygrad-rnn") or ()]
    for expected in ("py.typed", "data/nile.csv", "data/NILE.txt"):
        assert f"tinygrad_rnn/{expected}" in files
    stray = [file for file in files if not re.match(r"tinygrad_rnn[/-]|(\.\./)+(bin|Scripts)/tinygrad-rnn", file)]
    assert stray == []
    sources = {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "tinygrad_rnn").rglob("*.py")}
    assert sources == {file for file in files if file.endswith(".py")}


def test_version_has_one_source():
    assert re.fullmatch(r"\d+\.\d+\.\d+", tg.__version__)
    try:
        installed = importlib.metadata.version("tinygrad-rnn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed")
    assert installed == tg.__version__


HEAVY = ("matplotlib", "hypothesis", "tqdm", "safetensors", "graphviz", "torch", "distributed")


def loaded_after(statement, cwd):
    program = f"{statement}\nimport sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=cwd, capture_output=True, encoding="utf-8", check=True
    )
    return done.stdout.strip()


def test_import_is_light(tmp_path):
    assert loaded_after("import tinygrad_rnn, tinygrad_rnn.cli", tmp_path) == "[]"


def test_import_guard_sees_a_heavy_import(tmp_path):
    assert loaded_after("import tinygrad_rnn, graphviz", tmp_path).startswith("['graphviz'")


# --- the size of the engine ---


def lines_of_code(source):
    """Physical lines that hold code: no docstring, comment or blank line."""
    tree = ast.parse(source)
    documented = [
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and ast.get_docstring(node, clean=False) is not None
    ]
    prose = {line for text in documented for line in range(text.lineno, text.end_lineno + 1)}
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in silent
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - prose)


def test_engine_is_read_in_one_sitting():
    engine = ("scope", "tensor", "primitive", "ops", "autodiff")
    assert sum(lines_of_code((PACKAGE / f"{name}.py").read_text(encoding="utf-8")) for name in engine) <= 800


def test_lines_of_code_are_counted():
    documented = '"""Doc\n\nstring."""\n\n# comment\ndef f():\n    "Doc."\n    return (\n        0\n    )\n'
    assert lines_of_code(documented) == 4
    assert lines_of_code('x = """two\nlines"""  # comment\n') == 2


def overlong(path, limit=500):
    return len(path.read_text(encoding="utf-8").splitlines()) > limit


def test_no_file_is_longer_than_500_lines(tmp_path):
    assert [name_of(path) for path in PYTHON if overlong(path)] == []
    (tmp_path / "planted.py").write_text("x = 1\n" * 501, encoding="utf-8")
    assert overlong(tmp_path / "planted.py")


# --- who may import whom ---

FLOORS = (
    *("files", "scope", "tensor", "primitive", "ops", "autodiff", "functions"),
    *("graph", "draw", "nn", "bptt", "data", "train", "testing", "diagnose"),
    *("__init__", "cli", "__main__"),
)


def climbs(parts, source):
    """Imports of a module (its path in the package as parts) from a floor above its own."""
    here = FLOORS.index(parts[0].removesuffix(".py"))
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["tinygrad_rnn", *parts[:-1]][: len(parts) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            # What is imported from the root itself may be a module or one of the public names.
            names = [alias.name if alias.name in FLOORS else "__init__" for alias in node.names]
            targets = [[*module, name] for name in names] if module == ["tinygrad_rnn"] else [module]
        else:
            continue
        for target in targets:
            if target[0] == "tinygrad_rnn" and FLOORS.index((*target, "__init__")[1]) > here:
                wrong.append(f"{'/'.join(parts)}:{node.lineno} imports {'.'.join(target)}")
    return wrong


def test_modules_import_only_from_floors_below():
    assert [c for path in MODULES for c in climbs(path.relative_to(PACKAGE).parts, path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    "parts, source, allowed",
    [
        (("tensor.py",), "from .ops import tanh", False),
        (("tensor.py",), "def f():\n    import tinygrad_rnn.ops", False),
        (("tensor.py",), "from . import ops", False),
        (("tensor.py",), "from tinygrad_rnn import Tensor", False),
        (("tensor.py",), "import numpy\nfrom .scope import CONTEXT", True),
        (("graph", "build.py"), "from ..draw.dot import x", False),
        (("graph", "build.py"), "from .. import nn", False),
        (("graph", "build.py"), "from .model import Node\nfrom ..autodiff import pullback", True),
        (("cli", "draw.py"), "from tinygrad_rnn import draw, unroll\nfrom tinygrad_rnn.data import load", True),
        (("graph", "build.py"), "from ..cli import main", False),
    ],
)
def test_layering_guard_sees_a_climb(parts, source, allowed):
    assert (climbs(parts, source) == []) is allowed


# --- runs everywhere ---

POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt"}
POSIX_NAMES = {"fork", "forkpty", "getuid", "geteuid", "mkfifo", "uname", "SIGALRM", "SIGKILL", "setitimer", "alarm"}


def demanded(path, seen=()):
    """What must be installed for a test module to be imported, by way of its helpers in tests/ and docs/ext/ too."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        for name in [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else names:
            top = name.partition(".")[0]
            helpers = [folder / f"{top}.py" for folder in (CHECKOUT / "tests", CHECKOUT / "docs" / "ext")]
            helper = next((h for h in helpers if h.exists()), None)
            found |= {top} if helper is None else set() if helper in seen else demanded(helper, (*seen, path))
    return found - sys.stdlib_module_names


def test_tests_can_be_collected_with_the_extra_test_alone():
    allowed = {"tinygrad_rnn", "numpy", "graphviz", "tqdm", "hypothesis", "pytest", "mutation", "adapters"}
    wrong = {path.name: more for path in (CHECKOUT / "tests").glob("*.py") if (more := demanded(path) - allowed)}
    assert wrong == {}
    assert "docutils" in demanded(CHECKOUT / "docs" / "ext" / "gallery.py")  # which nobody may import at the top


def posix_only(source):
    if not re.search(rf"\b({'|'.join(POSIX_MODULES | POSIX_NAMES)})\b", source):  # quicker than to parse it
        return []
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            wrong += [a.name for a in node.names if a.name in POSIX_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in POSIX_MODULES:
            wrong.append(node.module)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in POSIX_NAMES:
            wrong += [f"{node.value.id}.{node.attr}"] if node.value.id in {"os", "signal"} else []
        elif isinstance(node, ast.Call) and [getattr(a, "value", None) for a in node.args] == ["fork"]:
            wrong.append(ast.unparse(node))
    return wrong


def test_nothing_is_posix_only():
    found = {name_of(p): posix_only(p.read_text(encoding="utf-8")) for p in PYTHON}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    "source", ["import fcntl", "from resource import getrusage", "import os\nos.fork()", "get_context('fork')"]
)
def test_posix_guard_sees_a_fault(source):
    assert posix_only(source)


def text_fault(content):
    """Say what is wrong with the bytes of a text file."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "not UTF-8"
    return "byte order mark" if text.startswith("\ufeff") else "CR" if "\r" in text else ""


def test_files_are_utf8():
    binary = {".png", ".pdf", ".npy"}
    faults = {name_of(path): text_fault(path.read_bytes()) for path in OURS if path.suffix not in binary}
    assert {name: fault for name, fault in faults.items() if fault} == {}


@pytest.mark.parametrize("content", [b"\xe4", b"\xef\xbb\xbfa", b"a\r\n"])
def test_text_guard_sees_a_fault(content):
    assert text_fault(content)


# --- explained ---


def undocumented(names):
    """Public names, and public methods of public classes, without a docstring of their own."""
    wrong = []
    for name, value in names.items():
        if name.startswith("_") or isinstance(value, dict):
            continue
        # An instance, such as a primitive, shows its class's docstring if it has none.
        if not getattr(value, "__doc__", None) or value.__doc__ is type(value).__doc__:
            wrong.append(name)
        if inspect.isclass(value):
            members = {n: m for n, m in vars(value).items() if callable(m) or isinstance(m, property)}
            wrong += [f"{name}.{n}" for n, m in members.items() if not n.startswith("_") and not inspect.getdoc(m)]
    return wrong


def test_every_public_name_has_a_docstring():
    assert undocumented(vars(tg)) == []


def test_docstring_guard_sees_a_fault():
    class Documented:
        """Doc."""

        def bare(self): ...

    assert undocumented({"f": lambda: 0, "C": Documented, "c": Documented()}) == ["f", "C.bare", "c"]


def test_public_names_are_listed_once():
    assert len(set(tg.__all__)) == len(tg.__all__) and all(hasattr(tg, name) for name in tg.__all__)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_docstring_examples(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dotted = ".".join(("tinygrad_rnn", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    if dotted.endswith("__main__"):
        pytest.skip("runs the command line")
    # Not import_module's attribute walk: the function `draw` hides the module `draw` in the package's namespace.
    importlib.import_module(dotted)
    result = doctest.testmod(sys.modules[dotted], optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
