"""The map of the package: which part imports which, and one sentence a file, read off the files themselves.

    python docs/ext/architecture.py       write the sentences into docs/architecture.md

After this file the reader knows why the map cannot be out of date: a sentence is the first one of a module's docstring
(a lint compares them), and the drawing is made of the imports while the site is built.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PACKAGE = CHECKOUT / "tinygrad_rnn"
PAGE = CHECKOUT / "docs" / "architecture.md"
BEGIN, END = "<!-- sentences: python docs/ext/architecture.py -->\n", "<!-- end of the sentences -->"

ORDER = """
    start extras arguments instead files figure norms scope tensor primitive ops gathering autodiff functions
    numpy_calls numpy_names methods symbolic graph draw nn bptt fast data train testing diagnose atlas torch __init__
    cli __main__
""".split()
"""Modules and folders of the package from the ground up: each imports only from what stands before it."""

ENGINE = ("scope", "tensor", "primitive", "ops", "autodiff")
"""What one must read to understand the engine."""


def sentence(path: Path) -> str:
    """The first sentence of a file: of a module's docstring, or of the comment at the top."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        words = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
    else:
        found = re.match(r"/\*\s*(.*?)\s*\*/|//\s*([^\n]*)", text, re.DOTALL)
        words = (found[1] or found[2]) if found else ""
    return " ".join(words.replace("``", "`").split())


def table(package: Path) -> str:
    """A heading for each folder, and a line for each file."""
    lines: list[str] = []
    files = sorted(path for path in package.rglob("*") if path.suffix in {".py", ".js", ".css"})
    alone = [path for path in files if path.parent == package and path.stem in ORDER]
    lines += ["### The files at the top", "", "| file | |", "|---|---|"]
    for path in sorted(alone, key=lambda path: ORDER.index(path.stem)):
        lines.append(f"| `{path.name}` | {sentence(path)} |")
    folders = {path.parent for path in files if path.parent != package}
    for folder in sorted(folders, key=lambda f: (ORDER.index(f.relative_to(package).parts[0]), f)):
        name = folder.relative_to(package).as_posix()
        lines += ["", f"### `{name}/`", "", sentence(folder / "__init__.py"), "", "| file | |", "|---|---|"]
        lines += [f"| `{f.name}` | {sentence(f)} |" for f in files if f.parent == folder and f.stem != "__init__"]
    return "\n".join(lines) + "\n"


def stale(page: str, package: Path = PACKAGE) -> list[str]:
    """What is wrong with the sentences on the page."""
    shown = page.partition(BEGIN)[2].partition(END)[0]
    silent = [line for line in table(package).splitlines() if re.fullmatch(r"\| `\S+` \|\s*\|", line)]
    found = [f"a file has no sentence at its top: {line.split('`')[1]}" for line in silent]
    if shown != table(package):
        found.append("the sentences are not those of the files: run python docs/ext/architecture.py")
    return found


def imported(part: str) -> Iterator[str]:
    """The parts of the package that a part imports from; not for types alone."""
    files = sorted((PACKAGE / part).rglob("*.py")) or [PACKAGE / f"{part}.py"]
    for file in files:
        depth, tree = len(file.relative_to(PACKAGE).parts), ast.parse(file.read_text(encoding="utf-8"))
        blocks = [b for b in ast.walk(tree) if isinstance(b, ast.If) and ast.unparse(b.test) == "TYPE_CHECKING"]
        for_types = {node for block in blocks for node in ast.walk(block)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == depth and node not in for_types:
                yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]


def drawing() -> str:
    """The parts as DOT, with an arrow from a part to each that imports it; what follows from others is left out."""
    import graphviz

    parts = [part for part in ORDER if part not in ("start", "__init__", "__main__")]
    uses = {part: {other for other in imported(part) if other in parts and other != part} for part in parts}

    def below(part: str) -> set[str]:
        return uses[part].union(*(below(other) for other in uses[part]))

    ink = "#1f2328"
    dot = graphviz.Digraph(graph_attr={"rankdir": "BT", "bgcolor": "#ffffff", "ranksep": "0.35", "nodesep": "0.15"})
    dot.attr("node", shape="box", style="rounded", fontname="Helvetica", fontsize="11", color=ink, fontcolor=ink)
    dot.attr("edge", color=ink, arrowsize="0.6")
    for part in parts:
        dot.node(
            part, part if (PACKAGE / f"{part}.py").exists() else f"{part}/", penwidth="2.5" if part in ENGINE else "1"
        )
        for other in sorted(uses[part] - set().union(*(below(between) for between in uses[part]))):
            dot.edge(other, part)
    return str(dot.source)


def main() -> int:
    """Write the sentences into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(PACKAGE) + END + rest.partition(END)[2], encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
