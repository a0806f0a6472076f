"""From equations to loops: what is computed element by element goes into one loop, what others need into memory.

After this file the reader knows how a part of a plan becomes machine code. Element-wise statements of one shape share a
loop in which each is a local number; only what is read elsewhere (by a product, at another index, by the way back) is
also stored. Sums, joined arrays and gradients are nothing but stores to another index. Which number a view shows at an
index is left to NumPy: every place is an array of bytes that lies in memory as the numbers will, and is viewed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np

from ..bptt.names import hint
from ..bptt.program import Unsupported
from ..bptt.rewrites import spans
from ..bptt.text import RESHAPES, VIEWS, is_elementwise
from ..symbolic.notation import step_text, value_text
from ..symbolic.trace import Node, run
from .functions import functions

Shape = tuple[int, ...]
View = Callable[[Any], Any]
SEEN_THROUGH = {*VIEWS, *RESHAPES, "kept"}
SET, ADD = "{0} = {1}", "{0} += {1}"
REDUCED = {
    **{"sum": (0.0, ADD), "mean": (0.0, "{0} += {1} * F({2})")},
    **{"max": (-np.inf, "{0} = maximum_({0}, {1})"), "min": (np.inf, "{0} = minimum_({0}, {1})")},
}
"""Where a reduction starts, and how one more number changes it."""
OWN = vars(functions(np.float32)).keys()
"""Primitives of single numbers that numba does not know by NumPy's name, or has no vectors for."""


def whole(array: Any) -> Any:
    """The view that shows all of an array."""
    return array


def indices(shape: Shape) -> list[str]:
    """The names of the loops over a shape."""
    return ["b", "j"][-len(shape) :] if 0 < len(shape) < 3 else [f"i{k}" for k in range(len(shape))]


def seen(lies: Any, view: View, shape: Shape) -> tuple[int, dict[str, int]]:
    """Where a view, stretched to a shape, begins in what it is a view of, and how far each index moves."""
    shown = np.broadcast_to(view(lies), shape)
    if not np.may_share_memory(shown, lies):
        raise Unsupported("an index or a reshape that moves numbers is not compiled")
    begins = shown.__array_interface__["data"][0] - lies.__array_interface__["data"][0]
    return begins, {i: n for i, n, size in zip(indices(shape), shown.strides, shape, strict=True) if n and size > 1}


@dataclass
class Slot:
    """Where a value stands: from a place of an array on, which may move with t, and as `lies` does."""

    base: str
    at: int
    lies: Any
    moves: str = ""

    def text(self, view: View, shape: Shape) -> str:
        """One element of a view of it, in a loop over a shape."""
        begins, steps = seen(self.lies, view, shape)
        terms = [i if n == 1 else f"{i} * {n}" for i, n in steps.items()]
        terms = [*([self.moves] if self.moves else []), *terms]
        return (
            f"{self.base}[{' + '.join([*terms, *([str(self.at + begins)] if self.at + begins or not terms else [])])}]"
        )

    @property
    def row(self) -> int:
        """From one row to the next."""
        return int(self.lies.strides[0]) if self.lies.ndim > 1 else 1


def nest(shape: Shape, lines: Iterable[str]) -> list[str]:
    """Loops over a shape around some lines."""
    heads = [f"for {i} in range({n}):" for i, n in zip(indices(shape), shape, strict=True) if n > 1]
    return ["    " * k + head for k, head in enumerate(heads)] + ["    " * len(heads) + line for line in lines]


def moved(to: Slot, source: Slot) -> list[str]:
    """All numbers of one place to another."""
    shape = to.lies.shape
    return nest(shape, [f"{to.text(whole, shape)} = {source.text(whole, shape)}"])


def argument(name: str, node: Node, each: bool = False) -> Slot:
    """Where a value stands that is an argument of a function, one after the other for each step or the same for all."""
    lies = np.empty(node.shape, np.int8)
    return Slot(name, 0, lies, f"t * {lies.size}" * each)


def through(node: Node, view: View) -> View:
    """A view of a node that shows its operand, as a view of that."""
    return view if node.op in ("kept", "detach") else lambda array: view(run(node.op, [array], node.static, ()))


def origin(node: Node) -> tuple[Node, int, int, int]:
    """For a matrix: what it is a view of, where it begins there, and how far it is to the next row and column."""
    base: Node = node
    view: View = whole
    while base.op in SEEN_THROUGH:
        base, view = base.args[0], through(base, view)
    begins, steps = seen(np.empty(base.shape, np.int8), view, node.shape)
    return base, begins, steps.get("b", 0), steps.get("j", 0)


class Products(Node):
    """A sum of products with weights: of each, its rows and the weight."""


class Outer(Node):
    """aᵀ b, of the rows of a and b."""


@dataclass(eq=False)
class Store:
    """A statement that only writes: a value to what a view shows of a place."""

    source: Node
    slot: Slot
    view: View = whole
    how: str = SET
    makes: Node | None = None  # what is complete once all stores that make it are done
    alone: bool = False  # in a loop of its own: one that cannot be done in vectors

    @property
    def shape(self) -> Shape:
        """That of its loop."""
        return tuple(self.view(self.slot.lies).shape)


@dataclass
class Group:
    """A loop, or lines that are no loop."""

    shape: Shape | None
    lines: list[Any] = field(default_factory=list)  # text, or what was computed there: (node, name, text)
    names: dict[Node, str] = field(default_factory=dict)
    stored: set[Node | None] = field(default_factory=set)  # what is complete only after the loop


def along(node: Node) -> View:
    """The view that shows, for each element of the operand of a reduction, what it goes into."""
    (arg,), axes, keep = node.args, node.static["axis"], node.static["keepdims"]
    return lambda result: np.broadcast_to(result if keep else np.expand_dims(result, axes), arg.shape)


class Body:
    """The statements of one part, grouped into loops."""

    def __init__(self, source: Any) -> None:
        self.source = source  # a `FastSource`, which imports this
        self.groups = [Group(None)]

    # -- What is to be written --

    def statements(self, node: Node) -> list[Node | Store]:
        """What computes a value."""
        op, args, static = node.op, node.args, node.static
        if op not in ("concatenate", "stack", "scatter", *REDUCED):
            return [node]
        slot = self.source.slot(node)
        if op in ("concatenate", "stack"):
            before = (slice(None),) * static["axis"]
            joined = spans(args, static["axis"])
            cuts: Any = (
                [(k, a) for k, a in enumerate(args)] if op == "stack" else [(slice(i, j), a) for a, i, j in joined]
            )
            return [Store(part, slot, itemgetter((*before, cut)), makes=node) for cut, part in cuts]
        first, how = REDUCED.get(op, (0.0, SET))
        start = Store(Node("number", value=first), slot, makes=node, alone=True)
        if op == "scatter":
            return [start, Store(args[0], slot, itemgetter(static["index"]), makes=node)]
        how = how.format("{0}", "{1}", node.value.size / args[0].value.size)
        return [start, Store(args[0], slot, along(node), how, node, True)]

    def write(self, statements: Iterable[Node | Store]) -> None:
        """Emit statements, as many as possible in one loop."""
        waiting = [*statements]
        makes = {s: (s.makes or s) if isinstance(s, Store) else s for s in waiting}
        reads = {s: self._reads(s, {*makes.values()}) for s in waiting}
        while waiting:
            left = [makes[s] for s in waiting]
            ready = [s for k, s in enumerate(waiting) if reads[s].isdisjoint(left) and makes[s] not in left[:k]]
            joining = [s for s in ready if s.shape == self.groups[-1].shape and self._in_vectors(s)]
            chosen = (joining or ready)[0]
            waiting.remove(chosen)
            if isinstance(chosen, Products):
                self._products(chosen)
            else:
                self._element(chosen)

    def _reads(self, what: Node | Store, made: set[Any]) -> set[Node]:
        """Which of what is made here a statement reads."""
        nodes = [what.source] if isinstance(what, Store) else [*what.args]
        for node in nodes:  # which grow
            nodes += node.args if node not in made else ()
        return made.intersection(nodes)

    def _in_vectors(self, what: Node | Store) -> bool:
        """Whether a statement is one of a loop that is done in vectors."""
        return not (isinstance(what, Products) or (isinstance(what, Store) and what.alone))

    def group(self, shape: Shape | None, fresh: bool = False) -> Group:
        """The last group, if it has this shape, or a new one."""
        if fresh or self.groups[-1].shape != shape:
            self.groups.append(Group(shape))
        return self.groups[-1]

    def _element(self, what: Node | Store) -> None:
        """Into the last loop, if it has this shape and nothing in it is read that is not complete there."""
        alone, shape = not self._in_vectors(what), what.shape
        for fresh in (alone, True):
            group, self.clash = self.group(shape, fresh), False
            text = self.value(what.source, whole) if isinstance(what, Store) else self.computed(what, whole)
            if not self.clash:
                break
        if isinstance(what, Store):
            group.lines.append(what.how.format(what.slot.text(what.view, shape), text))
            group.stored.add(what.makes)
        else:
            group.names[what] = self.source.fresh(hint(self.source.plan, what))
            group.lines.append((what, group.names[what], text))
        if alone:
            self.group(None)

    def _products(self, node: Node) -> None:
        """A sum of products with weights, each of which is added to the one before."""
        source, slot = self.source, self.source.slot(node)
        for k, (a, weight) in enumerate(zip(node.args[::2], node.args[1::2], strict=True)):
            (inner, columns), left = weight.shape, source.slot(a)
            text = f"product({a.shape[0] if a.ndim > 1 else 1}, {inner}, {columns}, {left.row}, {slot.row}, F, {k > 0})"
            name = source.helper(f"{hint(source.plan, node)}_product", text)
            places = f"{left.base}, {left.at}, w, {source.packed(weight)}, {slot.base}, {slot.at}"
            self.group(None).lines.append(f"{name}({places}, {inner}, 1)")

    # -- Values --

    def value(self, node: Node, view: View) -> str:
        """One element of a view of a node, as it is read here."""
        group, source = self.groups[-1], self.source
        shape = group.shape or ()
        if node.op == "number" or (node.op == "constant" and not node.shape):
            return f"F({value_text(node.value if node.op == 'number' else node.value[()].item())})"
        if node in group.names:
            lies = np.empty(node.shape, np.int8)
            self.clash = self.clash or seen(lies, view, shape) != seen(lies, whole, shape)
            return group.names[node]
        if not source.stands(node):
            return self.computed(node, view)
        self.clash = self.clash or node in group.stored
        return str(source.slot(node).text(view, shape))

    def computed(self, node: Node, view: View) -> str:
        """One element of a view of a node, computed here."""
        op, args = node.op, node.args
        if op in SEEN_THROUGH:
            return self.value(args[0], through(node, view))
        if self.source.is_given(node):
            return str(self.source.given(node).text(view, self.groups[-1].shape))
        if not is_elementwise(node):
            raise Unsupported(f"{op} is not compiled")
        texts = {a: self.value(a, lambda s: view(np.broadcast_to(s, node.shape))) for a in args}

        def write(x: Any, level: int = 0) -> str:
            if isinstance(x, Node):
                return texts[x]
            raise Unsupported(
                f"{op} is not compiled" if isinstance(x, str) else f"{op} with a fixed array is not compiled"
            )

        if op == "cast":
            return f"F({write(args[0])})"
        name, read = ("square", args[:1]) if op == "multiply" and args[0] is args[1] else (op, args)
        if name in OWN:
            static = [f"{key}=F({value_text(v, write)})" for key, v in node.static.items() if v is not None]
            return f"{name}_({', '.join([*map(write, read), *static])})"
        return f"({step_text(node, write)[0]})"

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
                    body.append(f"{self.source.slots[node].text(whole, node.shape)} = {name}")
            lines += nest(group.shape or (), body) if body else []
        return lines
