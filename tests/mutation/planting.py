"""What a mutant is, and how a fault gets into a function that other modules have already imported."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, cast


@dataclass(frozen=True)
class Mutant:
    """One fault: how it is called, the ops whose tests should see it first, and how it is planted and taken out."""

    name: str
    ops: tuple[str, ...]
    planted: Callable[[], Any]  # a context manager


@contextmanager
def attribute(target: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute that is another one for a while."""
    before = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, before)


def code_of(module: ast.Module, function: FunctionType) -> CodeType:
    """Compile a tree whose last statement makes a function, in the scope of `function`, and take that one's code."""
    scope = dict(function.__globals__)
    exec(compile(ast.fix_missing_locations(module), "<mutant>", "exec"), scope)
    return scope["mutant"].__code__


def from_tree(function: FunctionType, tree: ast.FunctionDef | ast.Lambda) -> Callable[[], Any]:
    """Plant another body. The code is exchanged, not the name: whoever imported the function meets the fault too."""
    function = cast(FunctionType, inspect.unwrap(function))  # not what a decorator put around it
    if isinstance(tree, ast.Lambda):
        statement: ast.stmt = ast.Assign([ast.Name("mutant", ast.Store())], tree)
    else:
        statement = ast.FunctionDef("mutant", tree.args, tree.body, [], None)
        statement.type_params = []  # type: ignore[attr-defined]
    # Annotations are of no use to a mutant, and may name what only a type checker imports.
    future = ast.parse("from __future__ import annotations").body
    code = code_of(ast.Module([*future, statement], []), function)
    return lambda: attribute(function, "__code__", code)


def from_text(function: FunctionType, before: str, after: str) -> Callable[[], Any]:
    """Plant a fault by replacing a piece of the source, which must be there exactly once."""
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(before) != 1:
        raise LookupError(f"{function.__qualname__} has {source.count(before)} times: {before}")
    (tree,) = ast.parse(source.replace(before, after)).body
    assert isinstance(tree, ast.FunctionDef)
    return from_tree(function, tree)
