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
from .products import panel

Shape = tuple[int, ...]
View = Callable[[Any], Any]
SEEN_THROUGH = {*VIEWS, *RESHAPES, "kept"}
SET, ADD = "{0} = {1}", "{0} += {1}"
# Where a reduction starts, and how one more number changes it.
REDUCED = {
    **{"sum": (0.0, ADD), "mean": (0.0, "{0} += {1} * F({2})")},
    **{"max": (-np.inf, "{0} = maximum_({0}, {1})"), "min": (np.inf, "{0} = minimum_({0}, {1})")},
}
# Primitives of single numbers that numba does not know by NumPy's name, or has no vectors for.
OWN = vars(functions(np.float32)).keys()


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
        terms = [self.moves, *(i if n == 1 else f"{i} * {n}" for i, n in steps.items()), str(self.at + begins)]
        return f"{self.base}[{' + '.join([term for term in terms if term not in ('', '0')]) or 0}]"

    @property
    def row(self) -> int:
        """From one row to the next."""
        return int(self.lies.strides[0]) if self.lies.ndim > 1 else 1


def nest(shape: Shape, lines: Iterable[str]) -> list[str]:
    """Loops over a shape around some lines."""
    heads = [f"for {i} in range({n}):" for i, n in zip(indices(shape), shape, strict=True) if n > 1]
    return ["    " * k + head for k, head in enumerate(heads)] + ["    " * len(heads) + line for line in lines]


def moved(to: Slot, source: Slot) -> list[str]:
    """All numbers of one place, to another."""
    shape = to.lies.shape
    return nest(shape, [f"{to.text(whole, shape)} = {source.text(whole, shape)}"])


def argument(name: str, node: Node, each: bool = False) -> Slot:
    """Where a value stands that is an argument of a function, one after the other for each step or the same for all."""
    lies = np.empty(node.shape, np.int8)
    return Slot(name, 0, lies, f"t * {lies.size}" * each)


def at(index: Any) -> View:
    """The view of an index; of one number too, which NumPy would read and not show."""
    index = index if isinstance(index, tuple) else (index,)
    return itemgetter(index if any(i is ... for i in index) else (*index, ...))


def through(node: Node, view: View) -> View:
    """A view of a node that shows its operand, as a view of that."""
    if node.op == "getitem":
        return lambda array: view(at(node.static["index"])(array))
    return view if node.op in ("kept", "detach") else lambda array: view(run(node.op, [array], node.static, ()))


class Product(Node):
    """Rows times a weight."""


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

    @property
    def shape(self) -> Shape:
        """That of its loop."""
        return tuple(self.view(self.slot.lies).shape)


@dataclass
class Group:
    """A loop."""

    shape: Shape
    lines: list[tuple[Node | None, str]] = field(default_factory=list)  # each with what it gives a name
    names: dict[Node, str] = field(default_factory=dict)


def along(node: Node) -> View:
    """The view that shows, for each element of the operand of a reduction, what it goes into."""
    (arg,), axes, keep = node.args, node.static["axis"], node.static["keepdims"]
    return lambda result: np.broadcast_to(result if keep else np.expand_dims(result, axes), arg.shape)


class Body:
    """The statements of one part, grouped into loops."""

    def __init__(self, source: Any) -> None:
        self.source = source  # a `FastSource`, which imports this
        self.groups: list[Group] = []

    # -- What is to be written --

    def statements(self, node: Node) -> list[Node | Store]:
        """What computes a value."""
        op, args, static = node.op, node.args, node.static
        if op not in ("concatenate", "scatter", *REDUCED):
            return [node]
        slot = self.source.slot(node)
        if op == "concatenate":
            before = (slice(None),) * static["axis"]
            parts = spans(args, static["axis"])
            return [Store(part, slot, itemgetter((*before, slice(i, j))), makes=node) for part, i, j in parts]
        first, how = REDUCED.get(op, (0.0, ADD))
        view = at(static["index"]) if op == "scatter" else along(node)
        how = how.format("{0}", "{1}", node.value.size / args[0].value.size)
        return [Store(Node("number", value=first), slot, makes=node), Store(args[0], slot, view, how, node)]

    def write(self, statements: Iterable[Node | Store]) -> None:
        """Emit statements: those of one shape that wait for equally many loops share one."""
        known: dict[Any, tuple[int, Shape | None]] = {}  # after how many loops a value is, and in a loop of which shape
        loops: dict[tuple[int, bool, Shape], list[Node | Store]] = {}
        for what in statements:
            made, later = what, isinstance(what, Product)
            reads = self._reads(what)
            if isinstance(what, Store):
                made, later = what.makes or what, True
                reads += [(made, False)] if what.how != SET else []  # which was set before
            waits = [(*known[n], viewed) for n, viewed in reads if n in known]
            before = max([n + (viewed or shape != what.shape) for n, shape, viewed in waits], default=0)
            last = max(before, known[made][0]) if made in known else before  # of all stores that make it
            known[made] = last, None if later else what.shape
            loops.setdefault((before, isinstance(what, Product), what.shape), []).append(what)
        for (_, is_product, shape), alike in sorted(loops.items(), key=itemgetter(0)):
            self.groups.append(Group(() if is_product else shape))
            for what in alike:
                if isinstance(what, Product):
                    self._product(what)
                else:
                    self._element(what)

    def _reads(self, what: Node | Store) -> list[tuple[Any, bool]]:
        """The values that a statement reads, and those that are computed where it is; and which through a view."""
        nodes = [(what.source if isinstance(what, Store) else what, False)]
        for node, viewed in nodes:  # which grow
            inside = node.args if node is what or (node.args and not self.source.stands(node)) else ()
            nodes += [(a, viewed or node.op in (*VIEWS, *RESHAPES)) for a in inside]
        return nodes

    def _element(self, what: Node | Store) -> None:
        """Into the last loop."""
        group = self.groups[-1]
        if isinstance(what, Store):
            text = self.value(what.source, whole)
            group.lines.append((None, what.how.format(what.slot.text(what.view, what.shape), text)))
        else:
            text = self.computed(what, whole)
            group.names[what] = self.source.fresh(hint(self.source.plan, what))
            group.lines.append((what, f"{group.names[what]} = {text}"))

    def _product(self, node: Product) -> None:
        """Rows times a weight, panel by panel."""
        source, (a, weight) = self.source, node.args
        slot, left, (inner, columns) = source.slot(node), source.slot(a), weight.shape
        right = source.slot(weight)
        width = panel(columns, source.dtype)
        rows, strides = a.value.size // inner, ((left.row, 1, 0), (right.row, 0, width), slot.row)
        name = source.product(hint(source.plan, weight), rows, columns, "F", False, *strides)
        places = f"{left.base}, {left.at}, w, {right.at}, {slot.base}, {slot.at}"
        self.groups[-1].lines.append((None, f"{name}({places}, {inner}, 1)"))

    # -- Values --

    def value(self, node: Node, view: View) -> str:
        """One element of a view of a node, as it is read here."""
        group, source = self.groups[-1], self.source
        if node.op == "number" or (node.op == "constant" and not node.shape):
            return f"F({value_text(node.value if node.op == 'number' else node.value[()].item())})"
        if node in group.names:
            return group.names[node]
        if not source.stands(node):
            return self.computed(node, view)
        return str(source.slot(node).text(view, group.shape))

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
            raise Unsupported(f"{op}{' with a fixed array' * (not isinstance(x, str))} is not compiled")

        if op == "cast":
            return f"F({write(args[0])})"
        if op in OWN:
            static = [f"{key}=F({value_text(v, write)})" for key, v in node.static.items() if v is not None]
            return f"{op}_({', '.join([*map(write, args), *static])})"
        return f"({step_text(node, write)[0]})"

    def text(self) -> list[str]:
        """All loops; what is read elsewhere is stored."""
        lines: list[str] = []
        for group in self.groups:
            body: list[str] = []
            for node, line in group.lines:
                note = self.source.note(node) if node else ""
                body.append(f"{line}  # {note}" if note else line)
                if node and node in self.source.slots:
                    body.append(f"{self.source.slots[node].text(whole, node.shape)} = {group.names[node]}")
            lines += nest(group.shape, body)
        return lines
