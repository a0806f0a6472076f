"""Code lines of the package, folder by folder, beside those of the last release; above its budget this fails.

    python .ci/lines.py                   the table
    python .ci/lines.py --release NAME    what stands under [release] in lines.toml from that release on

Docstrings, comments and blank lines are free, so that nobody saves on them. The budget stands in `lines.toml`.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = ("scope", "tensor", "primitive", "ops", "autodiff")  # what one must read to understand the engine
DATA = {".csv", ".txt", ".typed", ".pyc"}  # every other kind of file is code


def lines_of_code(source: str) -> int:
    """Physical lines of Python that hold code: no docstring, comment or blank line."""
    tree = ast.parse(source)
    documented = [
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
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


def lines_of_text(source: str) -> int:
    """Lines of JavaScript, CSS or a template that hold more than a comment."""
    bare = re.sub(r"/\*.*?\*/|<!--.*?-->", "", source, flags=re.DOTALL)
    return sum(not re.match(r"\s*(//|$)", line) for line in bare.splitlines())


def measure(package: Path) -> Counter[str]:
    """Code lines by folder of the package; "." is what lies in none, "pages" the part of it that is the engine."""
    sizes: Counter[str] = Counter()
    for path in package.rglob("*"):
        if path.is_file() and path.suffix not in DATA:
            source = path.read_text(encoding="utf-8")
            lines = lines_of_code(source) if path.suffix == ".py" else lines_of_text(source)
            folder, *inside = path.relative_to(package).parts
            sizes[folder if inside else "."] += lines
            sizes["pages"] += lines if not inside and path.stem in PAGES else 0
    return sizes


def table(now: Counter[str], known: dict[str, Any]) -> tuple[str, bool]:
    """The table as text, and whether the package is within its budget."""
    before, optional = Counter(known["release"]["lines"]), set(known["budget"]["folders"])
    folders = sorted((now | before).keys() - {"pages"})
    groups = {folder: [folder] for folder in folders} | {
        "engine's pages, in .": ["pages"],
        "core": [folder for folder in folders if folder not in optional],
        "optional": sorted(optional),
    }
    rows, within = [f"{'code lines':24}{'now':>8}{known['release']['name']:>10}{'change':>8}"], True
    for name, members in groups.items():
        lines, old = (sum(sizes[folder] for folder in members) for sizes in (now, before))
        rows.append(f"{name:24}{lines:8,}{old:10,}{lines - old:+8,}")
        if (limit := known["budget"].get(name)) is not None:
            rows[-1] += f"  of {limit:,}" + (f": ABOVE THE BUDGET by {lines - limit:,}" if lines > limit else "")
            within &= lines <= limit
    return "\n".join(rows), within


def main(arguments: list[str]) -> int:
    """Print the table, or the lines of a release."""
    now = measure(CHECKOUT / "tinygrad_rnn")
    if arguments[:1] == ["--release"]:
        print(f'[release]\nname = "{arguments[1]}"\n\n[release.lines]')
        print(*(f'"{folder}" = {lines}' for folder, lines in sorted(now.items())), sep="\n")
        return 0
    text, within = table(now, tomllib.loads((CHECKOUT / ".ci" / "lines.toml").read_text(encoding="utf-8")))
    print(text)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
