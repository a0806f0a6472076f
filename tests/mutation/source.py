"""A source file, and every fault that the operators make of it, each a replaced piece of text."""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from .operators import TWINS, of_call, of_expression, of_statement
from .probes import Blocks

HELP = {"help", "description", "epilog", "metavar", "usage", "prog"}
ASSERTED = {"strict", "encoding", "stacklevel"}
ABOUT_SHAPES = {"shape", "ndim", "size", "dtype", "any"}
ABOUT_VALUES = {"kept", "is_basic", "_is_extreme", "raw"}
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Edit:
    """A fault: what it is called, and the piece of a source file (in bytes) that it replaces."""

    name: str
    path: str  # in the package
    where: str  # the function, or the class, or ""
    operator: str
    block: int  # of the file: see probes
    lines: tuple[int, int]
    start: int
    end: int
    text: str

    def applied(self, source: str) -> str:
        """The source with the fault."""
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()


@dataclass(frozen=True)
class Place:
    """Where a node stands, as far as its variants depend on it."""

    where: str = ""
    block: int = 0
    functions: tuple[Function, ...] = ()  # from the outermost in
    owner: ast.AST | None = None  # the class, or else the function, whose attributes are of one kind
    unit: ast.JoinedStr | None = None  # inside an f-string positions mean nothing: all of it is replaced
    rule: bool = False  # inside a rule of the page of derivatives
    bare: bool = False  # where no parentheses may be added: a pattern


Found = tuple[str, ast.AST, ast.AST, Place]  # operator, what is replaced, by what, where


@dataclass
class Source:
    """A file, read once, and everything that can be wrong in it."""

    path: str
    text: str
    tree: ast.Module = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        self.imported = {
            (alias.asname or alias.name).partition(".")[0]
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        self.blocks = Blocks(self.tree)
        self._kinds: dict[ast.AST, dict[str, dict[str, bool]]] = {}
        self._locals: dict[Function, dict[str, int]] = {}

    def edits(self) -> list[Edit]:
        """Every fault once, in the order of the text."""
        offsets = [0]
        for line in self.text.encode().splitlines(keepends=True):
            offsets.append(offsets[-1] + len(line))
        named: Counter[str] = Counter()
        edits: dict[tuple[int, int, str], Edit] = {}
        for operator, old, new, place in self._block(self.tree.body, Place()):
            unit = place.unit or old
            try:
                text = _text(new if unit is old else _exchanged(unit, old, new), place)
            except ValueError:  # an f-string that this Python cannot write on one line
                continue
            start = offsets[unit.lineno - 1] + unit.col_offset  # type: ignore[attr-defined]
            end = offsets[unit.end_lineno - 1] + unit.end_col_offset  # type: ignore[attr-defined]
            if (start, end, text) in edits:
                continue
            name = f"{self.path}:{place.where} {operator}: {_change(old, new)}"
            named[name] += 1
            name += f" #{named[name]}" if named[name] > 1 else ""
            lines = (unit.lineno, unit.end_lineno)  # type: ignore[attr-defined]
            edits[start, end, text] = Edit(name, self.path, place.where, operator, place.block, lines, start, end, text)
        return list(edits.values())

    def replaced(self, where: str, fault: str, before: str, after: str) -> Edit:
        """A fault by hand: another piece of text in a function, in which the piece must stand exactly once."""
        function = next(node for node, name in _functions(self.tree) if name == where)
        lines = self.text.splitlines(keepends=True)
        first = len("".join(lines[: function.lineno - 1]).encode())
        body = "".join(lines[function.lineno - 1 : function.end_lineno])
        if body.count(before) != 1:
            raise LookupError(f"{self.path}, {where} has {body.count(before)} times: {before}")
        start = first + len(body.partition(before)[0].encode())
        line = function.lineno + body.partition(before)[0].count("\n") + before[: -len(before.lstrip())].count("\n")
        inside = [n for n in ast.walk(function) if n in self.blocks.of and n.lineno <= line <= (n.end_lineno or 0)]  # type: ignore[attr-defined]
        block = self.blocks.of[min(inside, key=lambda n: n.end_lineno - n.lineno)]  # type: ignore[attr-defined]
        name = f"{self.path}:{where} by hand: {fault}"
        span = (line, line + before.strip().count("\n"))
        return Edit(name, self.path, where, "by hand", block, span, start, start + len(before.encode()), after)

    # Statements

    def _block(self, statements: Iterable[ast.stmt], place: Place) -> Iterator[Found]:
        for statement in statements:
            yield from self._statement(statement, place)

    def _statement(self, node: ast.stmt, place: Place) -> Iterator[Found]:
        place = replace(place, block=self.blocks.of[node])
        if not place.functions and (name := _first_name(node)):  # what is made has a name to go by
            place = replace(place, where=f"{place.where}.{name}".strip("."))
        for operator, new in of_statement(node, self._bound_before(node, place)):
            yield operator, node, new, place
        inside = partial(self._expression, place=place)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from self._function(node, place)
            case ast.ClassDef(name):
                here = replace(place, where=f"{place.where}.{name}".lstrip("."), owner=node)
                yield from self._block(node.body, here)
            case ast.If(test, body, orelse):
                if _is_for_typing(test):
                    yield from self._block(orelse, place)
                    return
                for new in (ast.UnaryOp(ast.Not(), test), ast.Constant(True), ast.Constant(False)):
                    yield "condition", test, new, place
                yield from inside(test)
                yield from self._block([*body, *orelse], place)
            case ast.While(test, body, orelse):
                if not isinstance(test, ast.Constant):
                    yield "condition", test, ast.UnaryOp(ast.Not(), test), place
                    yield from inside(test)
                yield from self._block([*body, *orelse], place)
            case ast.For() | ast.AsyncFor():
                yield from inside(node.iter)
                yield from self._block([*node.body, *node.orelse], place)
            case ast.With(items) | ast.AsyncWith(items):
                for item in items:
                    if item.optional_vars is None:
                        yield "context", item.context_expr, _expression("__import__('contextlib').nullcontext()"), place
                    yield from inside(item.context_expr)
                yield from self._block(node.body, place)
            case ast.Try() | ast.TryStar():
                yield from self._block(node.body, place)
                for handler in node.handlers:
                    yield from self._block(handler.body, place)
                yield from self._block([*node.orelse, *node.finalbody], place)
            case ast.Match(subject, cases):
                yield from inside(subject)
                for case in cases:
                    yield from self._pattern(case.pattern, place)
                    if case.guard is not None:
                        yield "condition", case.guard, ast.UnaryOp(ast.Not(), case.guard), place
                        yield from inside(case.guard)
                    yield from self._block(case.body, place)
            case ast.Assign(targets, value):
                if not _is_left_alone(node, place):
                    yield from inside(value)
                    for target in targets:
                        yield from self._target(target, place)
            case ast.AnnAssign(target, _, value) | ast.AugAssign(target, _, value):
                if value is not None and not _is_left_alone(node, place):
                    yield from inside(value)
                    yield from self._target(target, place)
            case ast.Return(value) if value is not None:
                yield from inside(value)
            case ast.Expr(value) if not isinstance(value, ast.Constant):
                yield from inside(value)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, place: Place) -> Iterator[Found]:
        where = f"{place.where}.{node.name}".lstrip(".")
        if any(ast.unparse(d).endswith("overload") for d in node.decorator_list):
            return
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            yield from self._expression(default, replace(place, where=where, block=self.blocks.of[node.body[-1]]))
        owner = place.owner if isinstance(place.owner, ast.ClassDef) else place.owner or node
        rule = self.path == "ops.py" and node.name.startswith("_matmul_")
        functions = (*place.functions, node)
        yield from self._block(node.body, replace(place, where=where, functions=functions, owner=owner, rule=rule))

    def _target(self, target: ast.expr, place: Place) -> Iterator[Found]:
        """What is assigned to: only an index in it can be wrong."""
        for node in ast.walk(target):
            if isinstance(node, ast.Subscript):
                yield from self._expression(node.slice, place)

    def _pattern(self, pattern: ast.pattern, place: Place) -> Iterator[Found]:
        for node in ast.walk(pattern):
            if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant):
                yield from self._expression(node.value, replace(place, bare=True))

    def _bound_before(self, node: ast.stmt, place: Place) -> set[str]:
        """Variables that exist when a statement is reached, as far as the order of the text tells."""
        if not place.functions:
            return set()
        function = place.functions[-1]
        return {name for name, line in self._variables(function).items() if line < node.lineno} | set(
            _parameters(function)
        )

    # Expressions

    def _expression(self, node: ast.AST, place: Place) -> Iterator[Found]:
        if isinstance(node, ast.Call) and (yield from self._call(node, place)):
            return
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield from self._names(node, place)
        for operator, new in of_expression(node):
            yield operator, node, new, place
        if isinstance(node, ast.JoinedStr):
            place = replace(place, unit=place.unit or node)
        if isinstance(node, ast.Lambda):
            for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                yield from self._expression(default, place)
            inner = replace(
                place, block=self.blocks.of[node], functions=(*place.functions, node), owner=place.owner or node
            )
            yield from self._expression(node.body, inner)
            return
        if isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield "condition", test, ast.UnaryOp(ast.Not(), test), place
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr | ast.comprehension | ast.keyword):
                yield from self._expression(child, place)

    def _call(self, node: ast.Call, place: Place) -> Iterator[Found]:
        """What is special about calls; true if nothing else is to be looked for in this one."""
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("warn", "TypeVar", "ParamSpec", "NewType") or re.search(r"(Error|Warning|Problem)$", called):
            return True
        if isinstance(node.func, ast.Name) and called == "cast" and len(node.args) == 2:
            yield from self._expression(node.args[1], place)
            return True
        dropped = [
            k
            for k in node.keywords
            if k.arg not in ASSERTED | HELP | ({"title"} if called.startswith("add_") else set())
        ]
        for keyword in dropped:
            rest = [k for k in node.keywords if k is not keyword]
            yield "option", node, ast.Call(node.func, node.args, rest), place
        for operator, new in of_call(node, called):
            yield operator, node, new, place
        if place.functions == () and called == "primitive" and self.path == "ops.py":
            place = replace(place, rule=True)
        if isinstance(node.func, ast.Attribute):
            yield from self._names(node.func, place, called=True)
            yield from self._expression(node.func.value, place)
        elif isinstance(node.func, ast.Name):
            if node.func.id in TWINS:
                yield "twin", node.func, ast.Name(TWINS[node.func.id], ast.Load()), place
        else:
            yield from self._expression(node.func, place)
        for argument in node.args:
            yield from self._expression(argument, place)
        for keyword in dropped:
            yield from self._expression(keyword.value, place)
        return True

    def _names(self, node: ast.Name | ast.Attribute, place: Place, called: bool = False) -> Iterator[Found]:
        if isinstance(node, ast.Name):
            for other in self._others(node, place):
                yield "name", node, ast.Name(other, ast.Load()), place
            if place.rule and place.functions:
                yield from self._held_constant(node, place)
            return
        if node.attr in TWINS:
            yield "twin", node, ast.Attribute(node.value, TWINS[node.attr], ast.Load()), place
            return
        if place.owner is None or (isinstance(node.value, ast.Name) and node.value.id in self.imported):
            return
        kinds = self._attributes(place.owner, ast.unparse(node.value))
        alike = sorted(name for name, is_called in kinds.items() if is_called == called)
        if node.attr in alike and len(alike) > 1:
            other = alike[(alike.index(node.attr) + 1) % len(alike)]
            yield "name", node, ast.Attribute(node.value, other, ast.Load()), place

    def _others(self, node: ast.Name, place: Place) -> Iterator[str]:
        """The parameter, or variable, that is taken for this one."""
        for function in reversed(place.functions):
            parameters = _parameters(function)
            if node.id in parameters:
                kind = parameters[node.id]
                alike = [name for name, other in parameters.items() if other == kind and name not in ("self", "cls")]
            elif node.id in self._variables(function):
                variables = self._variables(function)
                alike = [name for name, line in variables.items() if line < node.lineno or name == node.id]
            else:
                continue
            if node.id in alike and len(alike) > 1:
                yield alike[(alike.index(node.id) + 1) % len(alike)]
            return

    def _held_constant(self, node: ast.Name, place: Place) -> Iterator[Found]:
        function = place.functions[-1]
        names = [parameter.arg for parameter in function.args.args]
        operands = names[1:] if isinstance(function, ast.Lambda) else [n for n in names if n in ("y", "a", "b", "x")]
        if node.id in operands and not _is_about_shape(function, node):
            yield "held constant", node, ast.Call(ast.Name("raw", ast.Load()), [node], []), place

    def _variables(self, function: Function) -> dict[str, int]:
        """The variables of a function that are not called, and the line of the first assignment."""
        if function not in self._locals:
            called = {n.func.id for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
            stored = [n for n in _own(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
            found: dict[str, int] = {}
            for node in sorted(stored, key=lambda n: (n.lineno, n.col_offset)):
                if node.id not in called and node.id != "_" and node.id not in _parameters(function):
                    found.setdefault(node.id, node.lineno)
            self._locals[function] = found
        return self._locals[function]

    def _attributes(self, owner: ast.AST, base: str) -> dict[str, bool]:
        """The attributes that are read of one thing, and whether they are called."""
        if owner not in self._kinds:
            called = {id(node.func) for node in ast.walk(owner) if isinstance(node, ast.Call)}
            found = self._kinds[owner] = {}
            for node in ast.walk(owner):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    found.setdefault(ast.unparse(node.value), {})[node.attr] = id(node) in called
        return self._kinds[owner][base]


def _parameters(function: Function) -> dict[str, str]:
    """Names and kinds of the parameters: what the annotation says."""
    a = function.args
    return {p.arg: ast.unparse(p.annotation) if p.annotation else "" for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)}


def _functions(tree: ast.AST, where: str = "") -> Iterator[tuple[ast.FunctionDef, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{where}.{node.name}".lstrip(".")
            if isinstance(node, ast.FunctionDef):
                yield node, name
            yield from _functions(node, name)


def _own(function: Function) -> Iterator[ast.AST]:
    """What belongs to a function and not to a function or a comprehension in it."""
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp)
    waiting = list(function.body) if not isinstance(function, ast.Lambda) else [function.body]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [c for c in ast.iter_child_nodes(node) if not isinstance(c, (*inner, ast.GeneratorExp))]


def _is_left_alone(node: ast.Assign | ast.AnnAssign | ast.AugAssign, place: Place) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if any(isinstance(t, ast.Name) and t.id in ("__all__", "__slots__", "__match_args__") for t in targets):
        return True
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("TypeAlias"):
        return True
    return not place.functions and not isinstance(node, ast.AugAssign) and _is_type(node.value)


def _is_type(node: ast.AST | None) -> bool:
    """Whether a value is an alias of types: names, their parameters, and unions only."""
    parts = list(ast.walk(node)) if node is not None else []
    allowed = (
        ast.Name,
        ast.Attribute,
        ast.Subscript,
        ast.Tuple,
        ast.List,
        ast.BinOp,
        ast.BitOr,
        ast.Load,
        ast.Constant,
    )
    if not all(isinstance(part, allowed) for part in parts):
        return False
    literal = any(isinstance(part, ast.Subscript) and ast.unparse(part.value).endswith("Literal") for part in parts)
    if not literal and any(isinstance(part, ast.Constant) and part.value not in (None, ...) for part in parts):
        return False
    return any(isinstance(part, ast.Subscript | ast.BitOr) for part in parts)


def _is_for_typing(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")


def _is_about_shape(function: Function, name: ast.Name) -> bool:
    """Whether an operand stands where only its shape, or a comparison's answer, is used: nothing can be detached."""
    for node in ast.walk(function):
        about = isinstance(node, ast.Compare) or (isinstance(node, ast.Attribute) and node.attr in ABOUT_SHAPES)
        about |= isinstance(node, ast.Call) and getattr(node.func, "id", "") in ABOUT_VALUES
        if about and any(inner is name for inner in ast.walk(node)):
            return True
    return False


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _exchanged(root: ast.AST, old: ast.AST, new: ast.AST) -> ast.AST:
    """A copy of a tree in which one node is another."""
    if root is old:
        return new
    changed = copy.copy(root)
    for name, value in ast.iter_fields(root):
        if isinstance(value, list):
            value = [_exchanged(v, old, new) if isinstance(v, ast.AST) else v for v in value]
        elif isinstance(value, ast.AST):
            value = _exchanged(value, old, new)
        setattr(changed, name, value)
    return changed


def _text(new: ast.AST, place: Place) -> str:
    """How the replacement is written: in parentheses, unless it cannot be misread."""
    text = ast.unparse(ast.fix_missing_locations(new))
    atoms = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.List, ast.Dict, ast.Set, ast.JoinedStr, ast.stmt)
    atom = isinstance(new, atoms) or (isinstance(new, ast.Constant) and not text.startswith("-"))
    return text if atom or place.bare else text if isinstance(new, ast.Tuple) and text.startswith("(") else f"({text})"


def _change(old: ast.AST, new: ast.AST, context: int = 16, most: int = 60) -> str:
    """What stands instead of what; of long texts what differs, with a little around it."""
    a, b = (" ".join(ast.unparse(ast.fix_missing_locations(node)).split()) for node in (old, new))
    if max(len(a), len(b)) > most:
        start = _alike(a, b)
        end = _alike(a[start:][::-1], b[start:][::-1])
        first = max(start - context, 0)
        a, b = (
            "… " * (first > 0) + text[first : len(text) - end + context] + " …" * (end > context) for text in (a, b)
        )
        a, b = (text if len(text) <= most + 10 else f"{text[: most // 2]} … {text[-most // 2 :]}" for text in (a, b))
    return f"{a} → {b}"


def _alike(a: str, b: str) -> int:
    """How many characters two texts have in common at the beginning."""
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _first_name(node: ast.stmt) -> str:
    """The first name that an assignment gives a value; "" of other statements."""
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return ""
    return next((n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)), "")
