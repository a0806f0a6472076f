"""Which faults are planted into a source file: those that one makes while writing.

Fixed before the tests that are to notice them were written. `OPERATORS` says what each does, `LEFT_ALONE` what is not
touched, and why; below, what may stand in the place of a statement, an expression, a call.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from itertools import pairwise

OPERATORS = {
    "comparison": "a < b becomes a <= b and a > b; == becomes !=, is becomes is not, in becomes not in",
    "constant": "n becomes n + 1 and n - 1; a float is doubled, 0.0 becomes 1.0; True becomes False; text gets a ?",
    "arithmetic": "+ and -, * and /, // and /, % and //, ** and *, @ and *, & and |, << and >> take each other's place",
    "operand": "a + b becomes a, and b; -a, not a and ~a become a; of a and b, or a or b, one is left out",
    "logic": "and becomes or, or becomes and",
    "condition": "what if, while, a filter or a guard asks is negated; an if is always true, or never",
    "branch": "of a if c else b: a, b, and b if c else a",
    "arguments": "two neighbouring arguments of a call, or values of a returned tuple, change places",
    "option": "a keyword of a call is left out",
    "name": "a parameter stands for the next one of its kind, a variable for the next, self._i for self._o",
    "twin": "min and max, any and all, zeros and ones, floor and ceil and the like take each other's place",
    "statement": "a call, an assignment to what exists, raise, del, break, continue is left out; return x gives None",
    "wrapper": "return f(x) returns x",
    "context": "with f(): becomes with nothing",
    "bound": "a slice or a range begins one later, or ends one earlier, or loses its step",
    "element": "an element of a list, tuple, set or dictionary is left out",
    "held constant": "an operand in a rule stands as raw(operand): nobody can differentiate through it again",
}
"""The operators, in words."""

LEFT_ALONE = {
    "docstrings, annotations, overloads, casts, aliases of types": "no number depends on them",
    "the text of an error, a warning, a command's help": "wording; whether it is raised at all is examined",
    "__all__, __slots__, imports, decorators, assert": "names, memory, what mypy is told: nothing is computed",
    "zip(strict=), open(encoding=), warn(stacklevel=)": "an assertion, this machine's default, where a line is named",
}
"""What is not touched, and why."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
PAIRS = """
    min/max any/all zeros/ones zeros_like/ones_like floor/ceil argmin/argmax minimum/maximum startswith/endswith
    removeprefix/removesuffix lstrip/rstrip keys/values left/right lower/upper first/last before/after width/height
    rows/columns append/extend partition/rpartition find/rfind sum/mean exp/log sin/cos fmin/fmax
""".split()
TWINS = {a: b for pair in PAIRS for a, b in [pair.split("/"), pair.split("/")[::-1]]}
COMMUTATIVE = {"min", "max", "minimum", "maximum", "gcd", "hypot", "add", "multiply"}
NO_NUMBERS = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp, ast.Dict)

Variant = tuple[str, ast.AST]


def of_statement(node: ast.stmt, bound: set[str]) -> Iterator[Variant]:
    """What may stand in the place of a statement."""
    match node:
        case ast.Expr(ast.Constant() | ast.Yield() | ast.YieldFrom()) | ast.Return(None | ast.Constant(None)):
            return
        case ast.Expr() | ast.Raise() | ast.Delete() | ast.Break() | ast.Continue():
            yield "statement", ast.Pass()
        case ast.AugAssign(target, op, value):
            yield "statement", ast.Pass()
            if type(op) in ARITHMETIC:
                yield "arithmetic", ast.AugAssign(target, ARITHMETIC[type(op)](), value)
        case ast.Assign(targets) if bound or not all(isinstance(t, ast.Name | ast.Tuple) for t in targets):
            assigned = [n for t in targets for n in ([t] if not isinstance(t, ast.Tuple) else t.elts)]
            if all(n.id in bound if isinstance(n, ast.Name) else not isinstance(n, ast.Starred) for n in assigned):
                yield "statement", ast.Pass()
        case ast.Return(value):
            yield "statement", ast.Return(ast.Constant(None))
            if isinstance(value, ast.Call) and value.args and not isinstance(value.args[0], ast.Starred):
                yield "wrapper", ast.Return(value.args[0])
            if isinstance(value, ast.Tuple):
                for exchanged in _neighbours(value.elts):
                    yield "arguments", ast.Return(ast.Tuple(exchanged, ast.Load()))


def of_expression(node: ast.AST) -> Iterator[Variant]:
    """What may stand in the place of an expression, whatever is around it."""
    match node:
        case ast.Compare(left, ops, comparators):
            for k, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    yield "comparison", ast.Compare(left, [*ops[:k], other(), *ops[k + 1 :]], comparators)
        case ast.BoolOp(op, values):
            yield "logic", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for k in range(len(values)):
                rest = [*values[:k], *values[k + 1 :]]
                yield "operand", rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.BinOp(left, op, right):
            if not any(isinstance(x, NO_NUMBERS) or _is_text(x) for x in (left, right)):  # it would raise at once
                yield "arithmetic", ast.BinOp(left, ARITHMETIC[type(op)](), right)
            yield "operand", left
            yield "operand", right
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield "operand", operand
        case ast.IfExp(test, body, orelse):
            yield "branch", body
            yield "branch", orelse
            yield "branch", ast.IfExp(test, orelse, body)
        case ast.Constant(value):
            for other in _other_values(value):
                yield "constant", ast.Constant(other)
        case ast.Subscript(value, index, ast.Load()):
            for changed in _bounds(index):
                yield "bound", ast.Subscript(value, changed, ast.Load())
        case ast.List(elts, ast.Load()) | ast.Set(elts) | ast.Tuple(elts, ast.Load()) if len(elts) > 1:
            if any(isinstance(e, ast.Slice) for e in elts):
                return
            for k in range(len(elts)):
                shorter = copy.copy(node)
                shorter.elts = [*elts[:k], *elts[k + 1 :]]
                yield "element", shorter
        case ast.Dict(keys, values) if len(keys) > 1:
            for k in range(len(keys)):
                yield "element", ast.Dict([*keys[:k], *keys[k + 1 :]], [*values[:k], *values[k + 1 :]])


def of_call(node: ast.Call, called: str) -> Iterator[Variant]:
    for exchanged in _neighbours(node.args if called not in COMMUTATIVE else []):
        yield "arguments", ast.Call(node.func, exchanged, node.keywords)
    if called == "range" and not any(isinstance(a, ast.Starred) for a in node.args):
        start, stop, *step = node.args if len(node.args) > 1 else [ast.Constant(0), *node.args]
        if len(node.args) == 1 or not isinstance(start, ast.Constant):
            yield "bound", ast.Call(node.func, [_plus(start, 1), stop, *step], [])
        if not isinstance(stop, ast.Constant):
            yield "bound", ast.Call(node.func, [*node.args[: len(node.args) > 1], _plus(stop, -1), *step], [])
        if step:
            yield "bound", ast.Call(node.func, [start, stop], [])


def _neighbours(values: list[ast.expr]) -> Iterator[list[ast.expr]]:
    """Two neighbours exchanged, every two, unless they are the same or stand for several."""
    for k, (a, b) in enumerate(pairwise(values)):
        if not isinstance(a, ast.Starred) and not isinstance(b, ast.Starred) and ast.dump(a) != ast.dump(b):
            yield [*values[:k], b, a, *values[k + 2 :]]


def _other_values(value: object) -> Iterator[object]:
    match value:
        case bool():
            yield not value
        case int():
            yield value + 1
            yield value - 1
        case float():
            yield 2 * value if value else 1.0
        case str():
            yield value + "?"
        case bytes():
            yield value + b"?"


def _bounds(index: ast.expr) -> Iterator[ast.expr]:
    """A slice, or one of several, that begins one later or ends one earlier."""
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    for k, part in enumerate(parts):
        if isinstance(part, ast.Slice):
            changed = []
            if not isinstance(part.lower, ast.Constant):
                changed.append(ast.Slice(_plus(part.lower or ast.Constant(0), 1), part.upper, part.step))
            if not isinstance(part.upper, ast.Constant):
                changed.append(ast.Slice(part.lower, _plus(part.upper or ast.Constant(0), -1), part.step))
            if part.step is not None:
                changed.append(ast.Slice(part.lower, part.upper))
            for new in changed:
                yield ast.Tuple([*parts[:k], new, *parts[k + 1 :]], ast.Load()) if part is not index else new


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _plus(node: ast.expr, n: int) -> ast.expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return ast.Constant(node.value + n)
    return ast.BinOp(node, ast.Add() if n > 0 else ast.Sub(), ast.Constant(abs(n)))
