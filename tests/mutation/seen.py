"""Which test enters which block of the package, remembered from run to run, and which tests a mutant is shown."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .source import Edit, Source


@dataclass
class Seen:
    """What was recorded: of each test its cost in seconds and the blocks it enters, by names that outlive an edit.

    Attributes
    ----------
    tests : dict
        Of each test the cost and the blocks.
    importing : dict
        The blocks that run while a test file is imported, and under ``""`` while the package is.
    broken : list of str
        Tests that fail without a fault.
    """

    tests: dict[str, tuple[float, list[str]]] = field(default_factory=dict)
    importing: dict[str, list[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)  # of test files, and of the blocks' functions

    def stale(self, files: dict[str, list[str]], hashes: dict[str, str]) -> list[str]:
        """The test files to be recorded again: their text, or a function that they enter, is not what it was."""
        changed = {name for name in {*self.hashes, *hashes} if self.hashes.get(name) != hashes.get(name)}
        found = []
        for file, tests in files.items():
            blocks = {block for test in tests if test in self.tests for block in self.tests[test][1]}
            if file in changed or changed & blocks or not all(test in self.tests for test in tests):
                found.append(file)
        return found

    def save(self, path: Path) -> None:
        """Write it, names of blocks as numbers."""
        names = sorted(
            {b for _, blocks in self.tests.values() for b in blocks} | {b for i in self.importing.values() for b in i}
        )
        number = {name: k for k, name in enumerate(names)}
        content = {
            "names": names,
            "tests": {test: [cost, [number[b] for b in blocks]] for test, (cost, blocks) in self.tests.items()},
            "importing": {file: [number[b] for b in blocks] for file, blocks in self.importing.items()},
            "broken": self.broken,
            "hashes": self.hashes,
        }
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Seen:
        """Read it, if there is something to be read."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls()
        names = content["names"]
        return cls(
            {test: (cost, [names[k] for k in blocks]) for test, (cost, blocks) in content["tests"].items()},
            {file: [names[k] for k in blocks] for file, blocks in content["importing"].items()},
            content["broken"],
            content["hashes"],
        )


def block_names(sources: dict[str, Source]) -> list[str]:
    """All blocks, numbered as in the copy that notes them."""
    return [f"{path}:{name}" for path, source in sources.items() for name in source.blocks.names]


def digests(sources: dict[str, Source], tests: Path) -> dict[str, str]:
    """What everything said that a recording depends on: blocks by their functions, test files and their helpers."""
    found = {
        f"{path}:{name}": digest
        for path, source in sources.items()
        for name, digest in zip(source.blocks.names, source.blocks.hashes, strict=True)
        if digest
    }
    helpers = [path for path in sorted(tests.glob("*.py")) if not path.name.startswith("test_")]
    common = hashlib.sha256(b"".join(path.read_bytes() for path in helpers))
    for path in sorted(tests.glob("test_*.py")):
        digest = common.copy()
        digest.update(path.read_bytes())
        found[f"tests/{path.name}"] = digest.hexdigest()[:12]
    return found


class Shown:
    """Which tests are shown a mutant, and in which order."""

    def __init__(self, seen: Seen, sources: dict[str, Source], tests: list[str], folder: Path | None = None) -> None:
        self.seen, self.sources, self.folder = seen, sources, folder
        self.tests = [test for test in tests if test in seen.tests and test not in seen.broken]
        self.files = {test: Counter(b.partition(":")[0] for b in seen.tests[test][1]) for test in self.tests}
        self.by_block: dict[str, list[str]] = defaultdict(list)
        for test in self.tests:
            for block in seen.tests[test][1]:
                self.by_block[block].append(test)
        self.importing = {block for blocks in seen.importing.values() for block in blocks}
        self.uses: dict[str, set[str]] | None = None
        self.reading: dict[str, set[str]] | None = None
        self.killers: dict[str, list[str]] = defaultdict(list)  # the latest first

    def block(self, edit: Edit) -> str:
        """The name of a mutant's block."""
        return f"{edit.path}:{self.sources[edit.path].blocks.names[edit.block]}"

    def while_importing(self, edit: Edit) -> bool:
        """Whether the fault is met while the package or a test file is imported; outside functions it always is."""
        return self.block(edit) in self.importing or not self.sources[edit.path].blocks.hashes[edit.block]

    def of_edit(self, edit: Edit) -> list[str]:
        """The tests that enter the block of a mutant; of what runs while importing, those that use what it makes."""
        block = self.block(edit)
        found = set(self.by_block.get(block, ()))
        if self.while_importing(edit):
            files = {file for file, blocks in self.seen.importing.items() if file and block in blocks}
            found |= {test for test in self.tests if test.partition("::")[0] in files}
            made = self._made(edit)
            for name in made:
                for user in self._uses().get(name, ()):
                    found |= set(self.by_block.get(user, ()))
                found |= self._reading().get(name, set())  # a test that looks at a table alone enters no block
            if not made or not found:
                found |= {t for b in self.by_block if b.startswith(f"{edit.path}:") for t in self.by_block[b]}
        return self.ordered(found, edit.path, edit.where)

    def of_rule(self, op: str) -> list[str]:
        """The tests that enter what is said of an op where it is declared."""
        path, source, statement = next(self._declared(op))
        numbers = {source.blocks.of[n] for n in ast.walk(statement) if isinstance(n, ast.Lambda)}
        helpers = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
        for node in source.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name in helpers:
                numbers |= {source.blocks.of[n] for n in ast.walk(node) if n in source.blocks.of}
        names = {f"{path}:{source.blocks.names[k]}" for k in numbers}
        return self.ordered({test for name in names for test in self.by_block.get(name, ())}, path, op)

    def _declared(self, op: str) -> Iterator[tuple[str, Source, ast.stmt]]:
        """The statement that declares an op, in whichever file."""
        for path, source in self.sources.items():
            for statement in source.tree.body:
                match statement:
                    case ast.Assign(_, ast.Call(ast.Name("primitive"), [ast.Constant(name), *_])) | ast.Expr(
                        ast.Call(ast.Name("primitive"), [ast.Constant(name), *_])
                    ) if name == op:
                        yield path, source, statement

    def ordered(self, tests: set[str], path: str, where: str) -> list[str]:
        """First what killed a neighbour, then what is named after the place, or quick, or sees little else."""
        word = re.compile(rf"(?<![a-z]){re.escape(where.rpartition('.')[2] or path)}(?![a-z])")

        def rank(test: str) -> tuple[float, str]:
            cost, blocks = self.seen.tests[test]
            near = self.files[test][path] / max(len(blocks), 1)
            named = 0.1 if word.search(test) else 1.0
            return (cost + 0.005) * named / (near + 0.02), test

        recent = [test for test in (*self.killers[f"{path}:{where}"], *self.killers[path][:10]) if test in tests]
        first = list(dict.fromkeys(recent))
        return first + sorted(tests - set(first), key=rank)

    def killed(self, path: str, where: str, test: str) -> None:
        """Remember a killer, for the neighbours of the mutant."""
        for place in (f"{path}:{where}", path):
            known = self.killers[place]
            known[:] = [test, *[other for other in known if other != test]][:30]

    def _made(self, edit: Edit) -> set[str]:
        """The names that a statement of a module or a class binds, and what is made from them in turn."""
        tree = self.sources[edit.path].tree
        statements = [
            n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n.lineno <= edit.lines[0] <= (n.end_lineno or 0)
        ]
        bound = {name for s in statements for name in _bound(s)}
        top = [s for source in self.sources.values() for s in source.tree.body]
        while (
            more := {n for s in top if (b := _bound(s)) and not b <= bound and _names(s, False) & bound for n in b}
            - bound
        ):
            bound |= more
        return bound

    def _uses(self) -> dict[str, set[str]]:
        """Of every name the blocks that read it, as a variable or as an attribute."""
        if self.uses is None:
            self.uses = defaultdict(set)
            for path, source in self.sources.items():
                for node, number in source.blocks.of.items():
                    block = f"{path}:{source.blocks.names[number]}"
                    for name in _names(node, True):
                        self.uses[name].add(block)
        return self.uses

    def _reading(self) -> dict[str, set[str]]:
        """Of every name the tests whose own text reads it."""
        if self.reading is None:
            self.reading = defaultdict(set)
            of: dict[tuple[str, str], list[str]] = defaultdict(list)
            for test in self.tests:
                file, _, name = test.partition("[")[0].partition("::")
                of[file, name].append(test)
            for file in {file for file, _ in of if self.folder}:
                for node in ast.parse((self.folder / file).read_text(encoding="utf-8")).body:
                    parts = [n for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)]
                    for name in {n.id if isinstance(n, ast.Name) else n.attr for n in parts}:
                        self.reading[name].update(of.get((file, getattr(node, "name", "")), ()))
        return self.reading


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement gives a value, or whose table it fills: ``TABLE.update(...)``, in a loop or not."""
    if isinstance(statement, ast.For):
        return {name for inner in statement.body for name in _bound(inner)}
    match statement:
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(name), "update" | "setdefault"))):
            return {name}
    targets: list[Any] = getattr(statement, "targets", [getattr(statement, "target", None)])
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return {statement.name} if isinstance(statement, ast.ClassDef | ast.FunctionDef) else set()
    return {n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)}


def _names(node: ast.AST, own: bool) -> set[str]:
    """The names that are read; `own`: not those in statements inside."""
    found, waiting = set(), [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Attribute):
            found.add(part.attr)
        elif not own and isinstance(part, ast.FunctionDef | ast.ClassDef):
            continue  # what a function does is done later
        waiting += [c for c in ast.iter_child_nodes(part) if not (own and isinstance(c, ast.stmt | ast.ExceptHandler))]
    return found
