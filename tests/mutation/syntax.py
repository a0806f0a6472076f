"""Faults of the kind one makes while writing: a term forgotten, a sign, a comparison, an operand held constant."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

Node = ast.FunctionDef | ast.Lambda

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr}
OPERATORS |= {ast.BitOr: ast.BitAnd}
COMPARISONS = {ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Eq: ast.NotEq}
COMPARISONS |= {ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In}
ABOUT_SHAPES = {"shape", "ndim", "size", "dtype", "any"}


def variants(node: ast.AST, operands: frozenset[str]) -> Iterator[ast.expr]:
    """What may stand in the place of an expression."""
    match node:
        case ast.BinOp(left, op, right):
            yield left
            yield right
            if type(op) in OPERATORS:
                yield ast.BinOp(left, OPERATORS[type(op)](), right)
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield operand
        case ast.Compare(left, [op], right) if type(op) in COMPARISONS:
            yield ast.Compare(left, [COMPARISONS[type(op)]()], right)
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.IfExp(_, body, other):
            yield body
            yield other
        case ast.Call(ast.Attribute(_, "where"), [condition, chosen, other]):
            yield ast.Call(node.func, [condition, other, chosen], [])
        case ast.Name(name) if name in operands:
            yield ast.Call(ast.Name("raw", ast.Load()), [ast.Name(name, ast.Load())], [])  # held constant


def mutations(function: Node, operands: frozenset[str] = frozenset()) -> Iterator[tuple[str, Node]]:
    """Every single fault, described, and the function that has it."""
    seen: dict[str, int] = {}
    for place in _expressions(function):
        original = _at(function, place)
        for changed in variants(original, operands):
            if operands and isinstance(original, ast.Name) and _about_shape(function, place):
                continue
            described = f"{ast.unparse(original)} → {ast.unparse(changed)}"
            seen[described] = seen.get(described, 0) + 1
            mutated = copy.deepcopy(function)
            parent = _at(mutated, place[:-1])
            _put(parent, place[-1], copy.deepcopy(changed))
            yield described + (f" #{seen[described]}" if seen[described] > 1 else ""), mutated


Place = tuple[tuple[str, int | None], ...]


def _expressions(node: ast.AST, at: Place = ()) -> Iterator[Place]:
    for field, value in ast.iter_fields(node):
        if field in ("args", "annotation", "returns", "decorator_list") and isinstance(node, Node):
            continue
        items = value if isinstance(value, list) else [value]
        for k, item in enumerate(items):
            if isinstance(item, ast.AST):
                place = (*at, (field, k if isinstance(value, list) else None))
                if isinstance(item, ast.expr):
                    yield place
                yield from _expressions(item, place)


def _at(node: ast.AST, place: Place) -> ast.AST:
    for field, k in place:
        value = getattr(node, field)
        node = value if k is None else value[k]
    return node


def _put(parent: ast.AST, step: tuple[str, int | None], new: ast.expr) -> None:
    field, k = step
    if k is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[k] = new


def _about_shape(function: Node, place: Place) -> bool:
    """Whether an operand stands where only its shape, or a comparison's answer, is used: nothing can be detached."""
    for depth in range(len(place)):
        parent = _at(function, place[:depth])
        if isinstance(parent, ast.Compare) or (isinstance(parent, ast.Attribute) and parent.attr in ABOUT_SHAPES):
            return True
        if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id in ABOUT_VALUES:
            return True
    return False


ABOUT_VALUES = {"kept", "is_basic", "_is_extreme", "raw"}
