"""From equations to loops: what is computed element by element goes into one loop, what others need into memory.

After this file the reader knows how a part of a plan becomes machine code. Element-wise statements of one shape share a
loop in which each is a local number; only what is read elsewhere (by a product, at another index, by the way back) is
also stored. Sums, joined arrays and gradients are nothing but stores to another index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..bptt.identities import transposed
from ..bptt.names import hint
from ..bptt.program import Unsupported
from ..bptt.rewrites import spans
from ..bptt.text import is_elementwise
from ..ops import is_basic
from ..symbolic.notation import step_text, value_text
from ..symbolic.trace import Node, Part

Index = tuple[str, ...]
SET, ADD = "{0} = {1}", "{0} += {1}"


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
    how: str = SET
    makes: Node | None = None  # what is complete once all stores that make it are done
    alone: bool = False  # in a loop of its own: one that cannot be done in vectors


Statement = Node | Store


@dataclass
class Group:
    """A loop, or lines that are no loop."""

    shape: tuple[int, ...] | None
    index: Index = ()
    lines: list[Any] = field(default_factory=list)  # text, or what was computed there: (node, name, text)
    names: dict[Node, str] = field(default_factory=dict)
    stored: set[Node | None] = field(default_factory=set)  # what is complete only after the loop


def atom(text: str) -> str:
    """An index that can be multiplied."""
    return f"({text})" if " " in text else text


def indices(shape: tuple[int, ...]) -> Index:
    """The names of the loops over a shape; an axis of one element has none."""
    names = ("j",) if len(shape) == 1 else ("b", "j") if len(shape) == 2 else tuple(f"i{k}" for k in range(len(shape)))
    return tuple("0" if n == 1 else name for n, name in zip(shape, names, strict=True))


def nest(shape: tuple[int, ...], lines: Iterable[str]) -> list[str]:
    """Loops over a shape around some lines."""
    heads = [f"for {i} in range({n}):" for i, n in zip(indices(shape), shape, strict=True) if i != "0"]
    inner = "    " * len(heads)
    return ["    " * k + head for k, head in enumerate(heads)] + [inner + line for line in lines]


def seen_through(node: Node, index: Index) -> tuple[Node, Index] | None:
    """What a view shows at an index: its operand, and where in it; None if it is no view."""
    if node.op in ("detach", "kept") or (node.op == "cast" and node.args[0].dtype == node.dtype):
        return node.args[0], index
    if node.op == "transpose":
        places = dict(zip(node.static["axes"], index, strict=True))
        return node.args[0], tuple(places[k] for k in range(node.ndim))
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
        terms = [f"{atom(i)} * {int(np.prod(node.shape[k + 1 :]))}" for k, i in enumerate(index) if i != "0"]
        flat = " + ".join(terms or ["0"])
        return arg, tuple(f"({flat}) // {int(np.prod(arg.shape[k + 1 :]))} % {n}" for k, n in enumerate(arg.shape))
    return None


def is_seen_through(node: Node) -> bool:
    """Whether a value is a view of another."""
    return seen_through(node, indices(node.shape)) is not None


def narrowed(index: Index, arg: Node) -> Index:
    """The index of an operand that is stretched."""
    own = index[len(index) - arg.ndim :]
    return tuple("0" if n == 1 else i for i, n in zip(own, arg.shape, strict=True))


def picked(items: Sequence[Any], shape: tuple[int, ...], index: Index) -> Index:
    """Where in an array the element of a slice of it is."""
    taken = sum(i is not None and i is not Ellipsis for i in items)
    at = items.index(Ellipsis) if Ellipsis in items else len(items)
    left, sizes, found = iter(index), iter(shape), []
    for item in (*items[:at], *[slice(None)] * (len(shape) - taken), *items[at + 1 :]):
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
        self.source = source  # a `FastSource`, which imports this
        self.part = part
        self.groups = [Group(None)]

    # -- What is to be written --

    def statements(self, node: Node) -> list[Statement]:
        """What computes a value."""
        if node.op not in ("sum", "max", "min", "concatenate", "scatter"):
            return [node]
        slot, base = self.source.slot(node), self.base(node)
        place = partial(slot.text, base=base)
        if node.op == "concatenate":
            pieces, axis = spans(node.args, node.static["axis"]), node.static["axis"]
            return [Store(part.shape, part, partial(_along, place, axis, at), SET, node) for part, at, _ in pieces]
        (arg,), static = node.args, node.static
        first, how = {"max": (-np.inf, "{0} = larger_({0}, {1})"), "min": (np.inf, "{0} = smaller_({0}, {1})")}.get(
            node.op, (0, ADD)
        )
        start = Store(node.shape, Node("number", value=float(first)), place, SET, node, True)
        if node.op == "scatter":
            if not is_basic(static["index"]):
                raise Unsupported("scatter is not compiled")
            return [start, Store(arg.shape, arg, lambda i: place(picked(static["index"], node.shape, i)), makes=node)]
        return [start, Store(arg.shape, arg, lambda i: place(kept_axes(node, i)), how, node, True)]

    def write(self, statements: Iterable[Statement]) -> None:
        """Emit statements, as many as possible in one loop."""
        waiting, makers, needs = [*statements], dict[Any, list[Statement]](), dict[Statement, set[Statement]]()
        for s in waiting:
            made = makers.setdefault(s if isinstance(s, Node) else s.makes, [])
            needs[s] = {*made} if isinstance(s, Store) and s.makes else set()
            made.append(s)
        for s in waiting:
            reading = [s.source] if isinstance(s, Store) else [*s.args]
            while reading:
                node = reading.pop()
                if node in makers:
                    needs[s].update(makers[node])
                elif self.source.plan.part.get(node) is self.part:
                    reading += node.args
        while waiting:
            ready = [s for s in waiting if needs[s].isdisjoint(waiting)]
            chosen = next((s for s in ready if self._joins(s)), ready[0])
            waiting.remove(chosen)
            if chosen in self.source.products:
                self._products(chosen)  # type: ignore[arg-type]
            else:
                self._element(chosen)

    def _joins(self, statement: Statement) -> bool:
        calls = statement in self.source.products or (isinstance(statement, Store) and statement.alone)
        return not calls and self.groups[-1].shape == statement.shape

    def group(self, shape: tuple[int, ...] | None, fresh: bool = False) -> Group:
        """The last group, if it has this shape, or a new one."""
        if fresh or self.groups[-1].shape != shape:
            self.groups.append(Group(shape, indices(shape or ())))
        return self.groups[-1]

    def _element(self, what: Statement) -> None:
        """Into the last loop, if it has this shape and nothing in it is read that is not complete there."""
        alone = isinstance(what, Store) and what.alone
        for fresh in (alone, True):
            group, self.clash = self.group(what.shape, fresh), False
            if isinstance(what, Store):
                text = self.value(what.source, group.index)
            else:
                text = self.inline(what, group.index)
            if not self.clash:
                break
        if isinstance(what, Store):
            group.lines.append(what.how.format(what.target(group.index), text))
            group.stored.add(what.makes)
        else:
            name = self.source.fresh(hint(self.source.plan, what))
            group.lines.append((what, name, text))
            group.names[what] = name
        if alone:
            self.group(None)

    def _products(self, node: Node) -> None:
        """A product with a weight, or a sum of them, each of which is added to the one before."""
        source, slot = self.source, self.source.slot(node)
        for k, p in enumerate(source.products[node]):
            a, weight = p.args if p.args[1].ndim == 2 else (p.args[1], transposed(p.args[0]))
            (inner, columns), left = weight.shape, source.slot(a)
            rows = a.shape[0] if a.ndim > 1 else 1
            text = f"product({rows}, {inner}, {columns}, {left.row}, {slot.row}, F, {k > 0})"
            places = f"{self.base(a)}, {left.at}, w, {source.packed(weight)}, {self.base(node)}, {slot.at}"
            name = source.helper(f"{hint(source.plan, node)}_product", text)
            self.group(None).lines.append(f"{name}({places}, {inner}, 1)")

    # -- Values --

    def base(self, node: Node) -> str:
        """The array in which a node stands, as this part calls it: what a state was before the step is in `old`."""
        return "w" if self.source.slot(node).area == "w" else "old" if node.op == "state" else "cur"

    def value(self, node: Node, index: Index) -> str:
        """One element of a node, as it is read here."""
        group = self.groups[-1]
        if node.op == "number" or (node.op == "constant" and not node.shape):
            return f"F({value_text(node.value if node.op == 'number' else node.value[()].item())})"
        if node in group.names:
            self.clash = self.clash or index != group.index
            return group.names[node]
        if not self.source.stands(node):
            return self.inline(node, index)
        self.clash = self.clash or node in group.stored
        text = self.source.slot(node).text(index, self.base(node))
        return f"({text} != 0)" if node.dtype == bool else text

    def inline(self, node: Node, index: Index) -> str:
        """One element of a node, computed here."""
        if (through := seen_through(node, index)) is not None:
            return self.value(*through)
        if (given := self.source.given(node, index)) is not None:
            return str(given)
        if not is_elementwise(node):
            raise Unsupported(f"{node.op} is not compiled")
        if node.dtype not in (self.source.dtype, bool):
            raise Unsupported(f"it computes {node.dtype}, and the state is {self.source.dtype}")
        return element(node, {a: self.value(a, narrowed(index, a)) for a in node.args})

    def text(self) -> list[str]:
        """All loops; what is read elsewhere is stored."""
        lines: list[str] = []
        for group in self.groups:
            body: list[str] = []
            for line in group.lines:
                if isinstance(line, str):
                    body.append(line)
                    continue
                node, name, text = line
                note = self.source.note(node)
                body.append(f"{name} = {text}" + (f"  # {note}" if note else ""))
                if node in self.source.slots:
                    value = f"F({name})" if node.dtype == bool else name
                    body.append(f"{self.source.slots[node].text(group.index, self.base(node))} = {value}")
            lines += nest(group.shape or (), body) if body else []
        return lines


def _along(place: Callable[[Index], str], axis: int, at: int, index: Index) -> str:
    """Where in a joined array the element of a part of it stands that begins there."""
    moved = str(at) if index[axis] == "0" else f"{index[axis]} + {at}" if at else index[axis]
    return place((*index[:axis], moved, *index[axis + 1 :]))


def kept_axes(node: Node, index: Index) -> Index:
    """Where the result of a reduction has what is added to it at an index of its operand."""
    axes, keep = node.static["axis"], node.static["keepdims"]
    return tuple("0" if k in axes else i for k, i in enumerate(index) if keep or k not in axes)


TEXTS = {
    **{op: f"{op}_({{0}})" for op in ("exp", "tanh", "sigmoid", "softplus")},
    **{"negative": "(-{0})", "cast": "F({0})", "relu": "larger_({0}, F(0))", "square": "squared_({0})"},
    **{"maximum": "larger_({0}, {1})", "minimum": "smaller_({0}, {1})"},
}
"""Primitives of single numbers that numba does not know by NumPy's name, or has no vectors for."""


def element(node: Node, texts: dict[Node, str]) -> str:
    """A primitive of single numbers, as numba compiles it."""
    op, static, args = node.op, node.static, [texts[a] for a in node.args]
    if op in TEXTS:
        return TEXTS[op].format(*args)
    if op == "multiply" and args[0] == args[1]:
        return TEXTS["square"].format(*args)

    def write(x: Any, level: int) -> str:
        if isinstance(x, Node):
            return texts[x]
        raise Unsupported(f"{op} is not compiled" if isinstance(x, str) else f"{op} with a fixed array is not compiled")

    if op == "where":
        return f"({args[0]} if {args[2] if node.keywords else value_text(static['condition'], write)} else {args[1]})"
    if op == "leaky_relu":
        return f"leaky_({args[0]}, F({value_text(float(static['slope']))}))"
    if op == "clip":
        text = args[0]
        for bound, function in (("lo", "larger_"), ("hi", "smaller_")):
            if static.get(bound) is not None:
                if np.ndim(static[bound]):
                    write(static[bound], 0)
                text = f"{function}({text}, F({value_text(float(static[bound]))}))"
        return text
    return f"({step_text(node, write)[0]})"
