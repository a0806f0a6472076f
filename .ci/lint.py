"""What ruff does not know: what lies in the checkout, how long files and functions are, how pages are written.

    python .ci/lint.py                    complaints, one a line; Python alone is needed

Each guard is a function from a file's name and bytes to complaints. Before it looks at a file it is shown planted
faults, since a guard that cannot complain guards nothing.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).resolve().parent))

from guards import CHECKOUT, GUARDS, guard
from page_guards import UNREADABLE, grade, reading, syllables

# --- what lies in the checkout ---

TOP = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "PKG-INFO", "pyproject.toml", "setup.cfg"}
TOP |= {"noxfile.py", ".gitignore", ".gitattributes", "CITATION.cff", "SECURITY.md"}
KINDS = {  # by folder; those of the folder above are allowed as well
    ".ci": {"", ".py", ".toml"},
    ".github": {".md", ".yml"},
    "benchmarks": {".py"},
    "docs": {".py", ".md"},
    "docs/chapters": {".toml"},
    "docs/howto": {".toml"},
    "docs/images": {".svg"},
    "docs/static": {".css", ".js"},
    "examples": {".py", ".toml"},
    "tests": {".py"},
    "tests/golden": {".dot", ".json"},
    "tests/mutation": {".toml", ".md"},
    "tinygrad_rnn": {".py", ".typed", ".js", ".css"},
    "tinygrad_rnn/data": {".csv", ".txt"},
}


def files() -> list[str]:
    """The files of the checkout by name: what git has or would add; without git, what .gitignore does not name."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        # A copy inside somebody else's repository is not that repository.
        listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True) if own_repository() else None
    except (OSError, subprocess.CalledProcessError):
        listed = None
    if listed:
        names = set(listed.stdout.decode("utf-8", "surrogateescape").split("\0")) - {""}
    else:
        patterns = (CHECKOUT / ".gitignore").read_text(encoding="utf-8").splitlines()
        names = set(walk(CHECKOUT, [line for line in patterns if line and not line.startswith("#")]))
    return sorted(name for name in names if (CHECKOUT / name).is_file())


def own_repository() -> bool:
    """A worktree has a file `.git`, a clone a folder."""
    return (CHECKOUT / ".git").exists()


def walk(root: Path, patterns: list[str]) -> Iterator[str]:
    """Files below a folder that no pattern names."""
    for folder, inside, found in os.walk(root):
        here = Path(folder).relative_to(root)
        inside[:] = [name for name in inside if name != ".git" and not ignored(here / name, patterns, folder=True)]
        yield from ((here / name).as_posix() for name in found if not ignored(here / name, patterns))


def ignored(path: Path, patterns: list[str], folder: bool = False) -> bool:
    """Whether a pattern names it; `/x` is x at the top, `x/` a folder."""
    absolute = PurePosixPath("/") / path.as_posix()
    return any(absolute.match(pattern.rstrip("/")) for pattern in patterns if folder or not pattern.endswith("/"))


@guard(("run/checkpoint.npz", ""), ("loss.svg", ""), ("docs/loss.png", ""), ("tests/history.json", ""), ("a/b.py", ""))
def output(name: str, content: bytes) -> list[str]:
    """Only what is source lies in the checkout: what a run writes does not."""
    path = PurePosixPath(name)
    allowed = {kind for folder in path.parents for kind in KINDS.get(folder.as_posix(), ())}
    return [] if name in TOP or path.suffix in allowed else ["is the output of a run, or of a kind new in this place"]


# --- files ---


@guard(("a.md", b"\xe4"), ("a.md", b"\xef\xbb\xbfa"), ("a.md", b"a\r\n"))
def bytes_of_a_text(name: str, content: bytes) -> list[str]:
    """UTF-8 with line feeds."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return ["is not UTF-8"]
    return ["begins with a byte order mark"] * text.startswith("\ufeff") + ["holds CR"] * ("\r" in text)


FUNCTION = "def f():\n" + "    x = 1\n" * 61


@guard(("a.py", "x = 1\n" * 501), ("a.py", FUNCTION), ("examples/a.py", "x = 1\n" * 81))
def length(name: str, content: bytes) -> list[str]:
    """A file is read in one sitting, a function on one screen, an example in a minute; the blog post is an exhibit."""
    if not name.endswith(".py"):
        return []
    short = name.startswith("examples/") and not name.startswith("examples/blog_post")
    lines, limit = content.count(b"\n"), 80 if short else 500
    found = [f"has {lines} lines, more than {limit}"] * (lines > limit)
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[ast.get_docstring(node) is not None :] or node.body
            size = (body[-1].end_lineno or 0) - body[0].lineno + 1
            found += [f"{node.name} has {size} lines, more than 60"] * (size > 60)
    return found


@guard(("tinygrad_rnn/a.py", "def f(a, b, c, d, e, f, g, h, i): ..."))
def parameters(name: str, content: bytes) -> list[str]:
    """Nobody remembers the order of nine parameters: further ones are given by name."""
    if not name.startswith("tinygrad_rnn/") or not name.endswith(".py"):
        return []
    found = []
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.FunctionDef):
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")]
            found += [f"{node.name} takes {len(names)} parameters by position, more than 8"] * (len(names) > 8)
    return found


POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "crypt"}
POSIX_NAMES = {"fork", "forkpty", "getuid", "geteuid", "mkfifo", "uname", "SIGALRM", "SIGKILL", "setitimer", "alarm"}
POSIX = re.compile(rf"\b({'|'.join(POSIX_MODULES | POSIX_NAMES)})\b")


@guard(
    ("a.py", "import fcntl"),
    ("a.py", "from resource import getrusage"),
    ("a.py", "import os\nos.fork()"),
    ("a.py", "get_context('fork')"),
)
def posix_only(name: str, content: bytes) -> list[str]:
    """Windows has neither. The mutation run forks; nobody needs it to use the package or to run the tests."""
    text = content.decode("utf-8", "replace")
    if (
        not name.endswith(".py") or name.startswith("tests/mutation/") or not POSIX.search(text)
    ):  # quicker than to parse
        return []
    wrong = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            wrong += [a.name for a in node.names if a.name in POSIX_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in POSIX_MODULES:
            wrong.append(node.module)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in POSIX_NAMES:
            wrong += [f"{node.value.id}.{node.attr}"] if node.value.id in {"os", "signal"} else []
        elif isinstance(node, ast.Call) and [getattr(a, "value", None) for a in node.args] == ["fork"]:
            wrong.append(ast.unparse(node))
    return [f"{what} is POSIX only" for what in wrong]


ENGINE = {"scope", "tensor", "primitive", "ops", "gathering", "autodiff", "functions", "methods"}
PRIVATE_ALLOWED = {
    "tinygrad_rnn/nn/unroll.py": (
        {"_value", "_grad", "_op", "_operands"},
        "once a step; the rows of a long output are moved, unseen; the mark that a sweep leaves is looked for",
    ),
    "tinygrad_rnn/nn/cells.py": ({"_grad"}, "the mark that a sweep leaves on a state, at every step"),
    "tinygrad_rnn/graph/build.py": ({"_value", "_arrays"}, "twice a node: read-only views cost a graph 13 % more time"),
    "tinygrad_rnn/graph/contributions.py": ({"_value", "_arrays"}, "as in build.py"),
    "tinygrad_rnn/diagnose/chain.py": (
        {"_value", "_requires_grad"},
        "a copy of a network changes its dtype, which .data refuses, and where gradients flow, which is fixed",
    ),
}
"""Attributes of Tensor that a file outside of the engine may use, and why."""


def private_of_tensor() -> set[str]:
    """What the class Tensor keeps to itself."""
    tree = ast.parse((CHECKOUT / "tinygrad_rnn/tensor.py").read_text(encoding="utf-8"))
    (tensor,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Tensor")
    names = [ast.unparse(node.target) for node in tensor.body if isinstance(node, ast.AnnAssign)]
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


@guard(
    ("tinygrad_rnn/nn/cells.py", "def f(h):\n    return h._op"),
    ("tinygrad_rnn/norms.py", "def f(h):\n    h._value += 1"),
    ("tinygrad_rnn/nn/unroll.py", "x = h._value, h._serial"),
    ("tinygrad_rnn/nn/unroll.py", "x = 1"),
    ("tinygrad_rnn/graph/model.py", "key = attrgetter('_serial')"),
)
def private(name: str, content: bytes) -> list[str]:
    """Only the engine uses what is private in Tensor: others use op, operands, arrays, static, serial and data."""
    path = PurePosixPath(name)
    if path.suffix != ".py" or path.parts[0] != "tinygrad_rnn" or (len(path.parts) == 2 and path.stem in ENGINE):
        return []
    used: dict[str, int] = {}
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) != "self":
            used.setdefault(node.attr, node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            used.setdefault(node.value, node.lineno)
    of_tensor, (allowed, _) = private_of_tensor() & used.keys(), PRIVATE_ALLOWED.get(name, (set(), ""))
    found = [f"line {used[what]} uses Tensor.{what}" for what in sorted(of_tensor - allowed)]
    return found + [f"needs no exception for {what} any more" for what in sorted(allowed - of_tensor)]


HELPERS = [CHECKOUT / "tests", CHECKOUT / "docs" / "ext", CHECKOUT / "examples", CHECKOUT / ".ci"]
WITH_TEST = {"tinygrad_rnn", "numpy", "graphviz", "tqdm", "hypothesis", "pytest", "mutation", "adapters"}


def demanded(source: str, seen: tuple[Path, ...] = ()) -> set[str]:
    """What must be installed for a module to be imported, by way of its helpers too."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        for name in [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else names:
            top = name.partition(".")[0]
            helper = next((folder / f"{top}.py" for folder in HELPERS if (folder / f"{top}.py").exists()), None)
            if helper is None:
                found.add(top)
            elif helper not in seen:
                found |= demanded(helper.read_text(encoding="utf-8"), (*seen, helper))
    return found - sys.stdlib_module_names


@guard(("tests/test_a.py", "import torch"), ("tests/test_a.py", "from gallery import x"))
def needs_an_extra(name: str, content: bytes) -> list[str]:
    """Tests can be collected with the extra `test` alone."""
    if not re.fullmatch(r"tests/\w+\.py", name):
        return []
    return [f"imports {what} at the top" for what in sorted(demanded(content.decode()) - WITH_TEST)]


@guard(("CONTRIBUTING.md", '    .venv/bin/pip install ".[docs]" && make'), ("CONTRIBUTING.md", "`pip install .`"))
def frozen_copy(name: str, content: bytes) -> list[str]:
    """Installing without --editable silently replaces the editable install by a copy, and tests then see no change."""
    found = re.findall(r"pip install (?!.*--editable)[\"'.\[].*", content.decode("utf-8", "replace"))
    return [f"replaces the editable install: {line}" for line in found if name == "CONTRIBUTING.md"]


@guard(("README.md", 'Then `pip install "tinygrad-rnn[plot]"`.'), ("docs/a.md", "    pip install tinygrad-rnn"))
def on_no_index(name: str, content: bytes) -> list[str]:
    """Pages install from a copy of the repository, as long as no index has the package: take this away when one has."""
    found = re.findall(r"pip install ['\"]?tinygrad-rnn\S*", content.decode("utf-8", "replace"))
    return [f"no index has the package: {command}" for command in found if name.endswith(".md")]


def bytes_of(content: str | bytes) -> bytes:
    """Planted faults are mostly text."""
    return content.encode("utf-8") if isinstance(content, str) else content


def blind() -> list[str]:
    """Guards that do not see what was planted; what is measured must be what the formula says."""
    found = [
        f"lint.py: {check.__name__} does not see the fault planted in {name}: {content[:40]!r}"
        for check, planted in GUARDS
        for name, content in planted
        if not check(name, bytes_of(content))
    ]
    words = ("a", "the", "gate", "little", "network", "added", "learned", "idea")
    level, count = grade("The cat sat on the mat. It was warm there.")
    if [syllables(word) for word in words] != [1, 1, 1, 2, 2, 2, 1, 2] or abs(level + 1.84) > 0.01 or count != 10:
        found.append("lint.py: the grade of a page is not that of the formula")
    if reading("docs/a.md", f"A.\n\n```text\n{UNREADABLE}\n```\n\nThe `color` is red.\n".encode()):
        found.append("lint.py: code is judged as if it were prose")
    return found


def main() -> int:
    """Print the complaints."""
    names = files()
    found = blind()
    found += [
        f"{name}: {what}"
        for name in names
        for check, _ in GUARDS
        for what in check(name, (CHECKOUT / name).read_bytes())
    ]
    print(*found, f"{len(names)} files, {len(GUARDS)} guards, {len(found)} complaints", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
