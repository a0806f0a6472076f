"""From equations to loops: what is computed element by element goes into one loop, what others need into memory.

After this file the reader knows how a part of a plan becomes machine code. An equation is a *statement*, or is written
where it is used. Element-wise statements of one shape share a loop in which each is a local number; only what is read
elsewhere (by a product, at another index, by the way back) is also stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..bptt.identities import transposed
from ..bptt.program import Unsupported
from ..bptt.rewrites import terms_of
from ..bptt.text import is_elementwise
from ..ops import is_basic
from ..symbolic.notation import INFIX, value_text
from ..symbolic.trace import Node, Part

Index = tuple[str, ...]


@dataclass
class Slot:
    """Where a value stands: from a place of an area on, in rows that have place for whole vectors."""

    area: str  # "w", which all steps share, or "r", the records of the steps
    at: int
    shape: tuple[int, ...]
    row: int  # from one row to the next

    def text(self, index: Index, base: str) -> str:
        """One element of it."""
        steps = [int(np.prod(self.shape[k + 1 : -1])) * self.row for k in range(len(self.shape) - 1)] + [1]
        terms = [i if n == 1 else f"{atom(i)} * {n}" for i, n in zip(index, steps, strict=False) if i != "0"]
        return f"{base}[{' + '.join([*terms, *([str(self.at)] if self.at or not terms else [])])}]"


@dataclass(eq=False)
class Store:
    """A statement that only writes: a value of some shape to what `target` says for an index."""

    shape: tuple[int, ...]
    source: Node
    target: Callable[[Index], str]
    sign: str = "="


Statement = Node | Store


@dataclass
class Group:
    """A loop, or lines that are no loop."""

    shape: tuple[int, ...] | None
    index: Index = ()
    lines: list[Any] = field(default_factory=list)  # text, or what was computed there: (node, name, text)
    names: dict[Node, str] = field(default_factory=dict)
    reads: set[tuple[Node, bool]] = field(default_factory=set)  # of states' cotangents, and whether in place


def atom(text: str) -> str:
    """An index that can be multiplied."""
    return f"({text})" if " " in text else text


def indices(shape: tuple[int, ...]) -> Index:
    """The names of the loops over a shape; an axis of one element has none."""
    names = ("j",) if len(shape) == 1 else ("b", "j") if len(shape) == 2 else tuple(f"i{k}" for k in range(len(shape)))
    return tuple("0" if n == 1 else name for n, name in zip(shape, names, strict=True))


def nest(shape: tuple[int, ...], index: Index, lines: Iterable[str]) -> list[str]:
    """Loops over a shape around some lines."""
    heads = [f"for {i} in range({n}):" for i, n in zip(index, shape, strict=True) if i != "0"]
    inner = "    " * len(heads)
    return ["    " * k + head for k, head in enumerate(heads)] + [inner + line for line in lines]


def seen_through(node: Node, index: Index) -> tuple[Node, Index] | None:
    """What a view shows at an index: its operand, and where in it; None if it is no view."""
    if node.op in ("detach", "kept") or (node.op == "cast" and node.args[0].dtype == node.dtype):
        return node.args[0], index
    if node.op == "transpose":
        (arg,) = node.args
        places = dict(zip(node.static["axes"], index, strict=True))
        return arg, tuple(places[k] for k in range(arg.ndim))
    if node.op == "broadcast_to":
        return node.args[0], narrowed(index, node.args[0])
    if node.op == "getitem" and is_basic(node.static["index"]):
        return node.args[0], picked(node.static["index"], node.args[0].shape, index)
    if node.op == "reshape":
        (arg,) = node.args
        long = [(n, i) for n, i in zip(node.shape, index, strict=True) if n != 1]
        if [n for n, _ in long] == [n for n in arg.shape if n != 1]:
            left = iter(i for _, i in long)
            return arg, tuple("0" if n == 1 else next(left) for n in arg.shape)
        flat = " + ".join(
            [f"{atom(i)} * {int(np.prod(node.shape[k + 1 :]))}" for k, i in enumerate(index) if i != "0"] or ["0"]
        )
        return arg, tuple(f"({flat}) // {int(np.prod(arg.shape[k + 1 :]))} % {n}" for k, n in enumerate(arg.shape))
    return None


def narrowed(index: Index, arg: Node) -> Index:
    """The index of an operand that is stretched."""
    own = index[len(index) - arg.ndim :]
    return tuple("0" if n == 1 else i for i, n in zip(own, arg.shape, strict=True))


def picked(items: Any, shape: tuple[int, ...], index: Index) -> Index:
    """Where in an array the element of a slice of it is."""
    items = list(items)
    taken = sum(i is not None and i is not Ellipsis for i in items)
    at = items.index(Ellipsis) if Ellipsis in items else len(items)
    items[at : at + 1] = [slice(None)] * (len(shape) - taken)
    left, sizes, found = iter(index), iter(shape), []
    for item in items:
        if item is None:
            next(left)
            continue
        n = next(sizes)
        if not isinstance(item, slice):
            found.append(str(item % n))
            continue
        i, (start, _, step) = next(left), item.indices(n)
        i = i if step == 1 else f"{atom(i)} * {step}"
        found.append(f"{start}" if i == "0" else f"{start} + {i}" if start else i)
    return tuple(found)


class Body:
    """The statements of one part, grouped into loops."""

    def __init__(self, source: Any, part: Part) -> None:
        self.source = source  # a `Memory`, which imports this
        self.part = part
        self.groups: list[Group] = []
        self.before: set[Statement] = set()  # done

    # -- The order --

    def write(self, statements: list[Statement]) -> None:
        """Emit statements, as many as possible in one loop."""
        waiting = list(dict.fromkeys(statements))
        among = {s for s in waiting if isinstance(s, Node)}
        needs = {id(s): self._needs(s, among) for s in waiting}
        while waiting:
            open_ = {id(s) for s in waiting if isinstance(s, Node)}
            ready = [s for s in waiting if not open_ & {id(n) for n in needs[id(s)]}]
            chosen = next((s for s in ready if self._joins(s)), ready[0])
            waiting.remove(chosen)
            self.waiting = waiting
            self.emit(chosen)

    def _needs(self, statement: Statement, among: set[Node]) -> set[Node]:
        found: set[Node] = set()
        reading = [statement.source] if isinstance(statement, Store) else [*statement.args]
        while reading:
            node = reading.pop()
            if node in among:
                found.add(node)
            elif self.source.plan.part.get(node) is self.part:
                reading += node.args
        return found

    def _joins(self, statement: Statement) -> bool:
        by_elements = isinstance(statement, Store) or self._by_elements(statement)
        return bool(self.groups) and by_elements and self.groups[-1].shape == statement.shape

    def _by_elements(self, node: Node) -> bool:
        return is_elementwise(node) or seen_through(node, indices(node.shape)) is not None

    def group(self, shape: tuple[int, ...] | None, fresh: bool = False) -> Group:
        """The last group, if it has this shape, or a new one."""
        if fresh or not self.groups or self.groups[-1].shape != shape:
            self.groups.append(Group(shape, indices(shape or ())))
        return self.groups[-1]

    # -- Statements --

    def emit(self, statement: Statement) -> None:
        """One statement: into the last loop, into one of its own, or as a call."""
        if isinstance(statement, Store):
            self._together(statement.shape, lambda i: self.value(statement.source, i), statement)
        elif statement.op == "matmul" or (statement.op == "add" and self.source.is_product(statement)):
            self._product(statement)
        elif self._by_elements(statement):
            through = seen_through(statement, indices(statement.shape)) is not None
            self._together(statement.shape, lambda i: self.inline(statement, i, through), statement)
        elif statement.op in ("sum", "mean", "max", "min"):
            self._reduction(statement)
        elif statement.op in ("concatenate", "stack"):
            self._joined(statement)
        elif statement.op == "scatter" and is_basic(statement.static["index"]):
            slot, (part,) = self.source.slot(statement), statement.args
            base = self.base(statement)
            self.fill(slot, "F(0)", base)
            index = statement.static["index"]
            self.copy(part, lambda i: slot.text(picked(index, statement.shape, i), base))
            self.group(None, True)
        else:
            raise Unsupported(f"{statement.op} is not compiled")

    def _together(self, shape: tuple[int, ...], text: Callable[[Index], str], what: Statement) -> None:
        """Into the last loop, if it has this shape and nothing in it is read at another index."""
        if isinstance(what, Node) and what.dtype not in (self.source.dtype, np.dtype(bool)):
            raise Unsupported(f"it computes {what.dtype}, and the state is {self.source.dtype}")
        fresh = False
        for _ in range(2):
            group = self.group(shape, fresh)
            self.clash = False
            reads = set(group.reads)
            written = text(group.index)
            if not self.clash:
                break
            group.reads, fresh = reads, True
        if isinstance(what, Store):
            group.lines.append(f"{what.target(group.index)} {what.sign} {written}")
            return
        name = self.source.fresh(self.source.word(what))
        group.lines.append((what, name, written))
        group.names[what] = name
        self.source.computed(what, self)

    def copy(self, node: Node, target: Callable[[Index], str], sign: str = "=") -> None:
        """Write a value to where `target` says."""
        self.emit(Store(node.shape, node, target, sign))

    def fill(self, slot: Slot, text: str, base: str) -> None:
        """One number everywhere."""
        group = self.group(slot.shape, True)
        group.lines.append(f"{slot.text(group.index, base)} = {text}")
        self.group(None, True)

    def _joined(self, node: Node) -> None:
        slot: Slot = self.source.slot(node)
        axis, at, base = node.static["axis"], 0, self.base(node)
        for part in node.args:
            if part not in self.source.parts_of(node):

                def target(i: Index, at: int = at) -> str:
                    if node.op == "stack":
                        return slot.text((*i[:axis], str(at), *i[axis:]), base)
                    moved = f"{i[axis]} + {at}" if at else i[axis]
                    return slot.text((*i[:axis], moved if i[axis] != "0" else str(at), *i[axis + 1 :]), base)

                self.copy(part, target)
            at += 1 if node.op == "stack" else part.shape[axis]
        self.group(None, True)
        self.source.computed(node, self)

    def _reduction(self, node: Node) -> None:
        (arg,), slot, base = node.args, self.source.slot(node), self.base(node)
        op, axes = node.op, node.static["axis"]
        keep, index = node.static["keepdims"], indices(arg.shape)
        out = tuple("0" if k in axes else i for k, i in enumerate(index) if keep or k not in axes)
        start = {"max": "F(-np.inf)", "min": "F(np.inf)"}.get(op, "F(0)")
        self.fill(slot, start, base)
        group, place = self.group(arg.shape, True), slot.text(out, base)
        value = self.value(arg, index)
        if op in ("max", "min"):
            group.lines.append(f"{place} = {element(op + 'imum', [place, value])}")
        else:
            group.lines.append(f"{place} += {value}")
        if op == "mean":
            last = self.group(node.shape, True)
            size = int(np.prod(arg.shape)) // int(np.prod(node.shape))
            last.lines.append(f"{slot.text(last.index, base)} *= F(1 / {size})")
        self.group(None, True)

    def _product(self, node: Node) -> None:
        """A product, or a sum of products each of which is added to the one before."""
        source = self.source
        slot = source.heir(node, self) or source.slot(node)
        base = self.base(node)
        products = terms_of(node, "add")
        if all(source.packs(p) for p in products):
            for k, p in enumerate(products):
                a, W = p.args if p.args[1].ndim == 2 else (p.args[1], transposed(p.args[0]))
                rows, inner, columns = (a.shape[0] if a.ndim > 1 else 1), *W.shape
                left, packed = source.slot(a), source.packed(W)
                name = source.helper(
                    f"{source.word(node)}_product",
                    f"product({rows}, {inner}, {columns}, {left.row}, {slot.row}, F, {k > 0})",
                )
                text = f"{name}({self.base(a)}, {left.at}, w, {packed}, {base}, {slot.at}, {inner}, 1)"
                self.group(None).lines.append(text)
        else:
            self.fill(slot, "F(0)", base)
            for p in products:
                self._contraction(p, slot, base)
        self.group(None).lines.append("")
        source.computed(node, self)

    def _contraction(self, node: Node, slot: Slot, base: str) -> None:
        """A product in three loops, of anything with anything."""
        a, b = node.args
        lead = node.ndim - (a.ndim > 1) - (b.ndim > 1)
        shape = (*node.shape[:lead], *a.shape[-2:-1], a.shape[-1], *(b.shape[-1:] if b.ndim > 1 else ()))
        index = tuple("0" if n == 1 else f"i{k}" for k, n in enumerate(shape))
        front, k = index[:lead], index[lead + (a.ndim > 1)]
        row, column = index[lead : lead + (a.ndim > 1)], index[len(shape) - 1 :] if b.ndim > 1 else ()
        left = narrowed((*front, *row, k), a) if a.ndim > 1 else (k,)
        right = narrowed((*front, k, *column), b) if b.ndim > 1 else (k,)
        group = Group(shape, index)
        self.groups.append(group)
        place = slot.text((*front, *row, *column), base)
        group.lines.append(f"{place} += {self.value(a, left)} * {self.value(b, right)}")
        self.group(None, True)

    # -- Values --

    def base(self, node: Node) -> str:
        """The array in which a node stands, as this part calls it: what a state was before the step is in `old`."""
        slot = self.source.slot(node)
        return "w" if slot.area == "w" else "old" if node.op == "state" else "cur"

    def value(self, node: Node, index: Index) -> Any:
        """One element of a node, as it is read here."""
        source, group = self.source, self.groups[-1]
        if node.op == "number":
            return f"F({value_text(node.value)})"
        if node in group.names:
            self.clash = self.clash or index != group.index
            return group.names[node]
        if node.op == "constant" and not node.shape:
            return f"F({value_text(node.value[()].item())})"
        if node.op == "carry":
            group.reads.add((node, index == group.index and node.shape == group.shape))
        if self.part is not Part.ONCE and source.plan.part.get(node) is Part.ONCE and source.stands(node):
            return source.slot(node).text(index, "w") + (" != 0" if node.dtype == bool else "")
        if (direct := source.direct(node, index, self.part)) is not None:
            return direct
        if node in source.slots or (self.part is not Part.ONCE and source.stands(node)):
            text = source.slot(node).text(index, self.base(node))
            return f"({text} != 0)" if node.dtype == bool else text
        return self.inline(node, index, seen_through(node, index) is not None)

    def inline(self, node: Node, index: Index, through: bool) -> Any:
        """One element of a node, computed here."""
        if through:
            arg, place = seen_through(node, index)  # type: ignore[misc]
            return self.value(arg, place)
        if not is_elementwise(node):
            raise Unsupported(f"{node.op} is not compiled")
        args = [self.value(a, narrowed(index, a)) for a in node.operands]
        return element(node.op, args, node.static, [self.value(a, narrowed(index, a)) for a in node.traced.values()])

    def text(self) -> list[str]:
        """All loops; what is read elsewhere is stored."""
        lines: list[str] = []
        for group in self.groups:
            body: list[str] = []
            for line in group.lines:
                if isinstance(line, str):
                    body += [line] if line else []
                    continue
                node, name, text = line
                note = self.source.note(node) if node in self.source.plan.part else ""
                body.append(f"{name} = {text}" + (f"  # {note}" if note else ""))
                if node in self.source.slots:
                    value = f"F({name})" if node.dtype == bool else name
                    body.append(f"{self.source.slots[node].text(group.index, self.base(node))} = {value}")
            lines += nest(group.shape or (), group.index, body) if body else []
        return lines


SAME = "cos sin tan cosh sinh arccos arccosh arcsin arcsinh arctan arctanh expm1 log log10 log1p log2 sqrt".split()
SAME += "isfinite isnan isinf signbit abs logical_not".split()
"""What numba knows by NumPy's name."""
TEXTS = {
    **{op: f"({{0}} {sign} {{1}})" for op, (sign, *_) in INFIX.items() if sign and op != "matmul"},
    **{op: f"({{0}} {op[8:]} {{1}})" for op in ("logical_or", "logical_and")},
    **{op: f"np.{op}({{0}})" for op in SAME},
    **{op: f"{op}_({{0}})" for op in ("exp", "tanh", "sigmoid", "softplus")},
    **{"arctan2": "np.arctan2({0}, {1})", "negative": "(-{0})", "cast": "F({0})", "relu": "larger_({0}, F(0))"},
    **{"maximum": "larger_({0}, {1})", "minimum": "smaller_({0}, {1})"},
}
"""Primitives of single numbers, as numba compiles them."""


def element(op: str, args: list[str], static: Any = None, traced: Any = ()) -> str:
    """A primitive of single numbers, as numba compiles it."""
    if op in TEXTS:
        return TEXTS[op].format(*args)
    if op == "square":
        return f"({args[0]} * {args[0]})" if args[0].isidentifier() else f"squared_({args[0]})"
    given = {k: v for k, v in static.items() if v is not None}
    if any(np.ndim(v) for v in given.values()):
        raise Unsupported(f"{op} with a fixed array is not compiled")
    if op == "where":
        return f"({args[0]} if {traced[0] if traced else static['condition']} else {args[1]})"
    if op == "leaky_relu":
        return f"leaky_({args[0]}, F({value_text(float(static['slope']))}))"
    if op != "clip":
        raise Unsupported(f"{op} is not compiled")
    text = args[0]
    for bound, function in (("lo", "larger_"), ("hi", "smaller_")):
        text = f"{function}({text}, F({value_text(float(given[bound]))}))" if bound in given else text
    return text
