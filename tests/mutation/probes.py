"""A copy of the package in which every block of statements notes that it is entered: which test enters which.

Cheaper than a tracer (a store for each block, not a call for each line), and seen through processes that a test starts:
they import the same copy, and all write into one file that is mapped into memory.
"""

from __future__ import annotations

import ast
import hashlib
import shutil
from collections import Counter
from pathlib import Path

NOTES = "_entered"  # the module that is added to the copy
VARIABLE = "MUTATION_ENTERED"  # names the file, for the process and all that it starts
NOTES_SOURCE = """
import mmap, os
entered = bytearray({size})
if os.environ.get("{variable}"):
    with open(os.environ["{variable}"], "r+b") as file:
        entered = mmap.mmap(file.fileno(), {size})
"""
COMPOUND = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.Match)


class Blocks:
    """The blocks of a file: statements of which each is reached if the first is, unless something is raised.

    Attributes
    ----------
    of : dict
        The number of the block that a statement, or the body of a lambda, belongs to.
    names : list of str
        A name for each block that stays when another function changes: the function, and which block of it.
    hashes : list of str
        What the function says in which the block stands; a docstring counts, a comment does not.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.of: dict[ast.AST, int] = {}
        self.names: list[str] = []
        self.hashes: list[str] = []
        self._counts: Counter[str] = Counter()
        self._body(tree.body, "", "")

    def _new(self, where: str, digest: str) -> int:
        self.names.append(f"{where}#{self._counts[where]}")
        self.hashes.append(digest)
        self._counts[where] += 1
        return len(self.names) - 1

    def _body(self, statements: list[ast.stmt], where: str, digest: str) -> None:
        block = None
        for statement in statements:
            if block is None:
                block = self._new(where, digest)
            self.of[statement] = block
            self._inside(statement, where, digest)
            if isinstance(statement, COMPOUND):
                block = None

    def _inside(self, node: ast.AST, where: str, digest: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            where = f"{where}.{node.name}".lstrip(".")
            if not isinstance(node, ast.ClassDef):
                digest = hashlib.sha256(ast.dump(node).encode()).hexdigest()[:12]
        if isinstance(node, ast.Lambda):
            self.of[node] = self._new(where, digest)
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self._body(value, where, digest)
            else:
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        self._inside(child, where, digest)


class _Noting(ast.NodeTransformer):
    """Put a note at the beginning of every block."""

    def __init__(self, blocks: Blocks, first: int) -> None:
        self.blocks, self.first = blocks, first
        self.noted: set[int] = set()

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                value[:] = [part for statement in value for part in self._noted(statement)]
            else:
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        self.visit(child)
        if isinstance(node, ast.Lambda):
            note = f"({NOTES}.__setitem__({self.first + self.blocks.of[node]}, 1), 0)[1]"
            pair = ast.Tuple([ast.parse(note, mode="eval").body, node.body], ast.Load())
            node.body = ast.Subscript(pair, ast.Constant(1), ast.Load())
        return node

    def _noted(self, statement: ast.stmt) -> list[ast.stmt]:
        block = self.blocks.of[statement]
        self.visit(statement)
        text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        if block in self.noted or text or future:
            return [statement]
        self.noted.add(block)
        return [*ast.parse(f"{NOTES}[{self.first + block}] = 1").body, statement]


def noting(text: str, first: int, package: str) -> str:
    """The source of a file in which blocks note that they are entered; `first` is the number of its first block."""
    tree = ast.parse(text)
    _Noting(Blocks(tree), first).visit(tree)
    start = next((k for k, s in enumerate(tree.body) if not _is_prologue(s)), len(tree.body))
    tree.body[start:start] = ast.parse(f"from {package}.{NOTES} import entered as {NOTES}").body
    return ast.unparse(ast.fix_missing_locations(tree))


def _is_prologue(statement: ast.stmt) -> bool:
    text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return text or (isinstance(statement, ast.ImportFrom) and statement.module == "__future__")


def copied(package: Path, into: Path) -> Path:
    """A copy of the package, in a folder of its own that can stand on a path."""
    shutil.copytree(package, into / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return into / package.name


def instrument(package: Path, blocks: dict[str, Blocks]) -> int:
    """Make a copy note what is entered. The blocks of all files are numbered through, in the order given."""
    first = 0
    for path, found in blocks.items():
        file = package / path
        file.write_text(noting(file.read_text(encoding="utf-8"), first, package.name), encoding="utf-8")
        first += len(found.names)
    notes = NOTES_SOURCE.format(size=first, variable=VARIABLE)
    (package / f"{NOTES}.py").write_text(notes, encoding="utf-8")
    return first
