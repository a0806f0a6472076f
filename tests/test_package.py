"""The house: what is installed, how light it is, which module may know which. How files are written: `.ci/lint.py`.

Each guard is a function from sources to complaints, and is itself shown a planted fault, since a guard that cannot
complain guards nothing.
"""

import ast
import doctest
import functools
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import architecture
import lines
import lint
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import pullback
from tinygrad_rnn.extras import how_to_install

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = Path(tg.__file__).resolve().parent
MODULES = sorted(PACKAGE.rglob("*.py"))


# --- what is installed ---


def test_what_is_imported_late_is_listed_and_found_as_the_rest_is():
    names = dir(tg)
    assert names == sorted(names) and {"bptt", "derive_bptt", "Tensor", "unroll", "OPS"} <= {*names}
    assert tg.bptt.derive_bptt is tg.derive_bptt and tg.bptt.__name__ == "tinygrad_rnn.bptt"
    with pytest.raises(AttributeError, match="module 'tinygrad_rnn' has no attribute 'derived_bptt'"):
        _ = tg.derived_bptt


def test_tests_import_the_installed_package_not_the_checkout():
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    on_purpose = editable() or any(entry and Path(entry).resolve() == CHECKOUT for entry in path)
    assert on_purpose or PACKAGE != CHECKOUT / "tinygrad_rnn", (
        "run pytest, not python -m pytest, which puts the current folder on the path"
    )


APART = "tinygrad_rnn_pytest.py"
"""Where the plugin of pytest is installed, so that a run of pytest does not load the package: see pyproject.toml."""


def stale(installed, checkout):
    """Files of the package that are not the same in both places."""
    contents = [
        {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        for folder in (installed, checkout)
    ]
    return sorted(name for name in set().union(*contents) if contents[0].get(name) != contents[1].get(name))


def test_what_is_tested_is_what_the_checkout_holds():
    apart = {"testing/plugin.py"} if (PACKAGE.parent / APART).exists() else set()
    assert set(stale(PACKAGE, CHECKOUT / "tinygrad_rnn")) <= apart, (
        "an older copy is installed, and no change is seen: pip install --editable '.[dev]'"
    )


def test_stale_copy_is_noticed(tmp_path):
    for name, text in {"old/a.py": "1", "old/b.js": "1", "new/a.py": "2", "new/b.js": "1", "new/sub/c.py": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert stale(tmp_path / "old", tmp_path / "new") == ["a.py", "sub/c.py"]


def test_header_names_the_package_that_is_tested(pytestconfig):
    said = pytestconfig.hook.pytest_report_header(config=pytestconfig, start_path=CHECKOUT)
    assert any(str(PACKAGE) in line for line in said)


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
    files = [file for file in files if "__pycache__" not in file or "tinygrad_rnn/" in file]
    for expected in ("py.typed", "data/nile.csv", "data/NILE.txt"):
        assert f"tinygrad_rnn/{expected}" in files
    stray = [file for file in files if not re.match(r"tinygrad_rnn[/-]|(\.\./)+(bin|Scripts)/tinygrad-rnn", file)]
    assert stray == [APART]
    sources = {path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "tinygrad_rnn").rglob("*.py")}
    assert sources - {"tinygrad_rnn/testing/plugin.py"} == {file for file in files if file.endswith(".py")} - {APART}


def test_version_has_one_source():
    assert re.fullmatch(r"\d+\.\d+\.\d+", tg.__version__)
    try:
        installed = importlib.metadata.version("tinygrad-rnn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed")
    # An editable installation keeps the number under which it was made; .ci/run looks at one of the wheel.
    assert editable() or installed == tg.__version__


HEAVY = ("matplotlib", "hypothesis", "tqdm", "safetensors", "graphviz", "torch", "numba", "distributed")


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


WHEN_NEEDED = ("importlib.metadata", "json", "html", "subprocess", "tempfile", "zipfile", "numpy.random")
WHEN_NEEDED += ("csv", "shutil", "random", "lzma", "bz2", "tinygrad_rnn.bptt")


def test_import_leaves_for_later_what_only_some_calls_need(tmp_path):
    look = f"{{name for name in {WHEN_NEEDED} if name in sys.modules}}"
    program = f"import sys, numpy\nbefore = {look}\nimport tinygrad_rnn\nprint(sorted({look} - before))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"


# --- what is in the checkout ---


def test_checkout_holds_no_output():
    assert [name for name in lint.files() if lint.output(name, b"")] == []


@pytest.mark.parametrize("name", ["run/weights.npz", "loss.svg", "docs/history.json", "tinygrad_rnn/draw/a.html"])
def test_output_guard_sees_a_fault(name):
    assert lint.output(name, b"")


def test_without_git_files_are_those_that_are_not_ignored(tmp_path):
    names = ["a.py", "a.svg", "docs/a.svg", "docs/_build/a.html", "run/weights.npz", "tests/run/a.py", ".git/x"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    patterns = ["/*.svg", "/docs/_build/", "/run/", "__pycache__/"]
    assert sorted(lint.walk(tmp_path, patterns)) == ["a.py", "docs/a.svg", "tests/run/a.py"]
    assert set(lint.walk(tmp_path, [])) == set(names) - {".git/x"}


def test_lines_of_code_are_counted():
    documented = '"""Doc\n\nstring."""\n\n# comment\nasync def f():\n    "Doc."\n    return (\n        0\n    )\n'
    assert lines.lines_of_code(documented) == 4
    assert lines.lines_of_code('x = """two\nlines"""  # comment\n') == 2
    assert lines.lines_of_text("/* a\n b */\n// c\nx = 1; // d\n\n<!-- e\n -->\n<p>\n") == 2


@pytest.mark.golden
def test_the_sweep_is_a_page():
    assert lines.lines_of_code(inspect.getsource(pullback)) <= 30


def test_lines_above_the_budget_are_noticed(tmp_path):
    for name, text in {
        "ops.py": "x = 1\n",
        "draw/page.html": "<p>\n" * 3,
        "draw/a.csv": "1\n",
        "torch/a.py": "y\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    now = lines.measure(tmp_path)
    assert now == {".": 1, "pages": 1, "draw": 3, "torch": 1}
    known = {"release": {"name": "before", "lines": {"draw": 1, "gone": 2}}}
    for core, optional, within in [(4, 1, True), (3, 1, False), (4, 0, False)]:
        budget = {"core": core, "optional": optional, "folders": ["torch"]}
        text, answer = lines.table(now, {**known, "budget": budget})
        assert answer is within and ("ABOVE THE BUDGET by 1" in text) is not within
    rows = {row[:24].strip(): row[24:].split()[:3] for row in text.splitlines()}
    assert rows["draw"] == ["3", "1", "+2"] and rows["gone"] == ["0", "2", "-2"] and rows["core"] == ["4", "3", "+1"]


# --- who may import whom ---

FLOORS = architecture.ORDER


@functools.cache  # several guards ask for them
def imports(source, for_types=False):
    """The imports of a module, those inside functions included; those that only a type checker sees `for_types`."""
    todo, found = [ast.parse(source)], []
    for node in todo:  # which grows while it is walked
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        only_types = not for_types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        todo += node.orelse if only_types else [n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.expr)]
    return found


def climbs(parts, source):
    """Imports of a module (its path in the package as parts) from a floor above its own."""
    here = FLOORS.index(parts[0].removesuffix(".py"))
    wrong = []
    for node in imports(source):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        else:
            base = ["tinygrad_rnn", *parts[:-1]][: len(parts) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            # What is imported from the root itself may be a module or one of the public names.
            names = [alias.name if alias.name in FLOORS else "__init__" for alias in node.names]
            targets = [[*module, name] for name in names] if module == ["tinygrad_rnn"] else [module]
        for target in targets:
            if target[0] == "tinygrad_rnn" and FLOORS.index((*target, "__init__")[1]) > here:
                wrong.append(f"{'/'.join(parts)}:{node.lineno} imports {'.'.join(target)}")
    return wrong


@pytest.mark.golden
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
        (("graph", "build.py"), "from .parts import Node\nfrom ..autodiff import pullback", True),
        (("cli", "draw.py"), "from tinygrad_rnn import draw, unroll\nfrom tinygrad_rnn.data import load", True),
        (("graph", "build.py"), "from ..cli import main", False),
        (("tensor.py",), "if TYPE_CHECKING:\n    from .ops import tanh", True),
        (("tensor.py",), "if TYPE_CHECKING:\n    pass\nelse:\n    from .ops import tanh", False),
    ],
)
def test_layering_guard_sees_a_climb(parts, source, allowed):
    assert (climbs(parts, source) == []) is allowed


CIRCLES: dict[str, str] = {}
"""Files that import each other, imports inside functions included: why they may."""

CIRCLES_OF_TYPES = {
    "primitive.py tensor.py": "a Tensor remembers the primitive that made it, and a primitive makes Tensors",
}
"""The same with the imports that only a type checker sees."""


def imported_files(path, root, for_types):
    """The files of a package that a file of it imports."""
    folder = path.parent
    for node in imports(path.read_text("utf-8"), for_types):
        if isinstance(node, ast.Import):
            dotted = [alias.name.split(".") for alias in node.names]
            targets = [root.joinpath(*names[1:]) for names in dotted if names[0] == root.name]
        else:
            base = ([folder, *folder.parents][node.level - 1] if node.level else root.parent) / (
                node.module or ""
            ).replace(".", "/")
            targets = [base / alias.name for alias in node.names]
            targets = [base if not file_of(target) else target for target in targets]
        yield from filter(None, map(file_of, targets))


def file_of(module):
    """The file of a module, given as a path without suffix."""
    found = [path for path in (module.with_suffix(".py"), module / "__init__.py") if path.is_file()]
    return found[0] if found else None


def circles(root, for_types=False):
    """Groups of files each of which can be reached from each other by imports."""
    every = {*root.rglob("*.py")}
    files = {path: set(imported_files(path, root, for_types)) & every for path in every}
    reached = {path: set(found) for path, found in files.items()}
    for middle in files:
        for path in files:
            if middle in reached[path]:
                reached[path] |= reached[middle]
    groups = {
        frozenset(other for other in files if other in reached[path] and path in reached[other]) for path in files
    }
    return sorted(" ".join(sorted(path.relative_to(root).as_posix() for path in group)) for group in groups if group)


@pytest.mark.golden
def test_every_file_of_the_package_has_its_sentence_for_the_map():
    """Whether the map shows them as they are, `.ci/lint.py` says."""
    files = [path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".js", ".css"}]
    sentences = {path.name: architecture.sentence(path) for path in files}
    assert not [name for name, sentence in sentences.items() if not sentence.endswith((".", "?"))]


def test_a_file_without_a_sentence_is_seen(tmp_path):
    (tmp_path / "graph").mkdir()
    for name, text in {
        "ops.py": '"""The page."""',
        "graph/__init__.py": '"""A graph."""',
        "graph/x.py": "x = 1",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    page = architecture.BEGIN + architecture.table(tmp_path) + architecture.END
    assert architecture.stale(page, tmp_path) == ["a file has no sentence at its top: x.py"]
    (tmp_path / "graph" / "x.py").write_text('"""New."""', encoding="utf-8")
    assert ["run python docs/ext/architecture.py" in problem for problem in architecture.stale(page, tmp_path)] == [
        True
    ]


@pytest.mark.golden
def test_no_files_import_each_other():
    assert circles(PACKAGE) == sorted(CIRCLES), "a circle is new, or an entry of CIRCLES is needed no longer"
    assert circles(PACKAGE, for_types=True) == sorted(CIRCLES_OF_TYPES), "the same for CIRCLES_OF_TYPES"


@pytest.mark.parametrize(
    "b, found",
    [
        ("from . import a", ["a.py b.py"]),
        ("def f():\n    from .a import x", ["a.py b.py"]),
        ("import house.a", ["a.py b.py"]),
        ("from .sub import x", ["a.py b.py sub/__init__.py"]),
        ("if TYPE_CHECKING:\n    from .a import x", []),
        ("import a", []),
    ],
)
def test_circle_guard_sees_a_circle(tmp_path, b, found):
    (tmp_path / "house/sub").mkdir(parents=True)
    for name, text in {"a": "from .b import x", "b": b, "sub/__init__": "from .. import a", "__init__": ""}.items():
        (tmp_path / f"house/{name}.py").write_text(text, encoding="utf-8")
    assert circles(tmp_path / "house") == found
    assert circles(tmp_path / "house", for_types=True) == (found or ["a.py b.py"] * ("from .a" in b))


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


def test_a_star_brings_every_function_and_operation():
    exec("from tinygrad_rnn import *", names := {})
    for part in (tg.functions, tg.ops):
        assert {*part.__all__} <= names.keys() & {*tg.__all__} and len(part.__all__) > 20


def test_public_names_are_listed_once():
    assert len(set(tg.__all__)) == len(tg.__all__) and all(hasattr(tg, name) for name in tg.__all__)


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.stem != "__main__"],  # which runs the command line
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_docstring_examples(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if path.parent.name == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed: nothing to run")
    if path.parent.name == "fast":
        pytest.importorskip("numba", reason="the extra [fast] is not installed")
    dotted = ".".join(("tinygrad_rnn", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    # Not import_module's attribute walk: the function `draw` hides the module `draw` in the package's namespace.
    importlib.import_module(dotted)
    result = doctest.testmod(sys.modules[dotted], optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, 'pip install "tinygrad-rnn[plot]"'),  # from an index, which needs no such record
        ('{"url": "file:///a", "dir_info": {}}', 'pip install ".[plot]" in your copy of the repository'),
        ('{"url": "file:///a.whl", "archive_info": {}}', 'pip install ".[plot]" in your copy of the repository'),
        (
            '{"url": "file:///a", "dir_info": {"editable": true}}',
            'pip install --editable ".[plot]" in your copy of the repository',
        ),
    ],
)
def test_hint_of_a_missing_extra_fits_the_way_of_installation(origin, command, monkeypatch):
    # What finds a distribution may be a library's own, so the class of what is found is nobody's to know.
    found = type(importlib.metadata.distribution("tinygrad-rnn"))
    monkeypatch.setattr(found, "read_text", lambda self, name: origin)
    assert how_to_install("plot") == command


def test_hints_name_extras_that_there_are():
    """And nowhere is one written by hand: the package is on no index yet, and one day it will be."""
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    sources = {path: path.read_text(encoding="utf-8") for path in (CHECKOUT / "tinygrad_rnn").rglob("*.py")}
    named = {extra for text in sources.values() for extra in re.findall(r"how_to_install\(['\"](\S+?)['\"]\)", text)}
    assert named and named <= set(extras)
    by_hand = [path.name for path, text in sources.items() if re.search(r"pip install ['\"]?tinygrad-rnn\b", text)]
    assert by_hand == ["extras.py"]
