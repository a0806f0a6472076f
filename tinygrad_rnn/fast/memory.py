"""What of a compiled program stands in memory, and where.

After this file the reader knows which equations are statements of their own, and that each step has a record of all
that the way back needs of it, with every value at a fixed place in it; what is needed only within a step, weights and
the sums over all steps stand in memory that all steps share.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from ..bptt.emit import Source
from ..bptt.names import hint
from ..bptt.program import Unsupported
from ..bptt.rewrites import read_once, rebuild, terms_of, total, whole_sums
from ..bptt.step import State, Step, topological
from ..bptt.text import is_elementwise
from ..symbolic.trace import Node, Part
from .body import Body, Group, Index, Slot, Statement, Store, indices, nest, seen_through
from .products import padded, panels

_LEAVES = {"parameter", "constant"}
_LOOPS = {Part.BEFORE, Part.FORWARD, Part.BACKWARD, Part.BETWEEN}


def products_together(step: Step) -> None:
    """Of a sum the products come first, one after the other: each is added to the one before in its tile."""
    once = read_once(step)
    sums = whole_sums(step, once)

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        terms = [new[t] for t in terms_of(old, "add", once)] if old in sums else []
        first = [t for t in terms if t.op == "matmul" and t.form == node.form]
        rest = [t for t in terms if t not in first]
        if len(first) < 2 or not rest:
            return node
        known = [t for t in rest if t.known is Part.ONCE]
        return total([total(first), *([total(known)] if known else []), *(t for t in rest if t not in known)])

    rebuild(step, rule)


class Memory(Source):
    """A program whose values stand in slots.

    Attributes
    ----------
    slots : dict of Node to Slot
        Where values stand in memory.
    """

    def __init__(self, step: Step, rewrites: Collection[str], title: str) -> None:
        products_together(step)
        super().__init__(step, rewrites, title)

    def prepare(self) -> None:
        """Look at all equations, and give each state its place."""
        step, self.dtype = self.step, self.step.states[0].leaf.dtype
        for leaf in (step.x, *(s.leaf for s in step.states), *step.parameters.values()):
            if leaf.dtype != self.dtype:
                raise Unsupported(f"{leaf.name} is {leaf.dtype}, and the state is {self.dtype}")
        self.slots: dict[Node, Slot] = {}
        self.sizes = {"w": 0, "r": 0}
        self.helpers: dict[str, str] = {}  # of the products, by what they are
        self.weights: dict[Node, int] = {}
        self.sums_at: dict[Node, Slot] = {}
        self.seeds: dict[str, State] = {}
        self.inputs: dict[str, dict[str, tuple[str, int]]] = {"forward": {}, "backward": {}}
        self.now = "forward"
        self._look()
        for state in step.states:
            name = self.fresh(state.name)
            state.array = name
            self.slots[state.leaf] = self.new_slot("r", state.leaf.shape)
            if self.state_of.get(state.root) is state:
                self.slots[state.root] = self.slots[state.leaf]
        self.outside: dict[Node, str] = {}
        self.once = Body(self, Part.ONCE)

    def _look(self) -> None:
        """Decide which equations are statements, which need a record, and which sums are which products."""
        step, users, part = self.step, self.users, self.plan.part
        self.state_of: dict[Node, State] = {}
        for state in step.states:
            if state.root.args and part[state.root] is Part.FORWARD:
                self.state_of.setdefault(state.root, state)
        self.forced = {*self.state_of, *(s.back for s in step.states if s.back is not None)}
        self.absorbed: set[Node] = set()  # what is a part of another statement
        self.sums: set[Node] = set()
        self.within: dict[Node, tuple[Node, int]] = {}
        self.recorded: set[Node] = set()
        order = [n for n in self.plan.order if part[n] in (Part.FORWARD, Part.BACKWARD)]
        for node in reversed(order):
            inner: list[Node] = []
            adds = [node] if node.op == "add" and node not in self.absorbed else []
            for add in adds:  # which grows
                inner += add.args
                adds += [a for a in add.args if a.op == "add"]
            alone = all(len(users[n]) == 1 and n.form == node.form and part[n] is part[node] for n in inner)
            if inner and alone and all(n.op == "add" or (n.op == "matmul" and self.packs(n)) for n in inner):
                self.sums.add(node)
                self.forced.add(node)
                self.absorbed |= {*inner}
        for node in order:
            if node.op == "matmul" and self.packs(node):
                self.forced.add(node.args[0] if node.args[1].ndim == 2 else node.args[1])
        self.totals = [n for n in self.plan.order if n.op == "total"]
        self.outers: dict[Node, tuple[Node, Node]] = {}
        for node in self.totals:
            (arg,) = node.args
            if not arg.stepped:
                raise Unsupported("a gradient that is the same at every step is not compiled")
            alone = len(users[arg]) == 1
            if (
                alone
                and arg.op == "matmul"
                and arg.args[0].op == "transpose"
                and arg.args[0].ndim == arg.args[1].ndim == 2
            ):
                pair = arg.args[0].args[0], arg.args[1]
                if all(a.stepped and a.dtype == self.dtype and part[a] in _LOOPS for a in pair):
                    self.outers[node] = pair
                    self.forced |= {*pair}
                    self.recorded |= {*pair}
                    self.absorbed |= {arg, arg.args[0]} if len(users[arg.args[0]]) == 1 else {arg}
            elif alone and arg.op == "sum":
                self.absorbed.add(arg)
        for node in order:
            if node.op == "concatenate" and node not in self.absorbed and node.static["axis"] in (0, node.ndim - 1):
                self._look_within(node)

    def _look_within(self, whole: Node) -> None:
        """Let the parts of a joined array be computed in their places in it."""
        at, part = 0, self.plan.part
        for piece in whole.args:
            own = piece.args and piece not in self.within and piece not in self.forced and part[piece] is part[whole]
            made = is_elementwise(piece) or piece.op == "matmul" or piece in self.sums
            if own and made and whole.args.count(piece) == 1 and piece.dtype == self.dtype:
                self.within[piece] = whole, at
                self.forced.add(piece)
            at += piece.shape[whole.static["axis"]]

    def is_product(self, node: Node) -> bool:
        """Whether a sum is one of products only."""
        return node in self.sums

    def packs(self, node: Node) -> bool:
        """Whether a product is one with a weight."""
        a, b = node.args
        known = self.plan.part
        right = a.stepped and a.ndim in (1, 2) and b.ndim == 2 and known[b] is Part.ONCE
        left = b.stepped and b.ndim == 1 and a.ndim == 2 and known[a] is Part.ONCE
        return (right or left) and a.dtype == b.dtype == self.dtype

    def stands(self, node: Node) -> bool:
        """Whether a value has a place in memory, or gets one when it is read."""
        if node in self.slots or node.op in ("input", "state", "carry"):
            return True
        if node.op in _LEAVES:
            return bool(node.shape) or node.op == "parameter"
        part, users = self.plan.part.get(node), self.users.get(node, [])
        through = seen_through(node, indices(node.shape)) is not None
        if part is Part.ONCE:
            return not through and bool(node.args)
        if part not in (Part.FORWARD, Part.BACKWARD) or not node.args or node.op == "at_t":
            return node in self.forced
        if node in self.forced:
            return True
        if through:
            return False
        if (
            node.op in ("add", "subtract", "multiply")
            and users
            and all(u.op == "getitem" and not self.stands(u) for u in users)
        ):
            return sum(int(np.prod(u.shape)) for u in users) > int(np.prod(node.shape))  # slices side by side
        if is_elementwise(node) and len(users) == 1 and self.plan.part[users[0]] is part:
            return not (is_elementwise(users[0]) and users[0].shape == node.shape)
        return True

    def statements(self, part: Part) -> list[Statement]:
        """What is computed in a loop, in order."""
        nodes = self.plan.of(part)
        return [n for n in nodes if n.op != "at_t" and n not in self.absorbed and self.stands(n)]

    def later(self, node: Node) -> bool:
        """Whether a value is needed after the loop that computes it."""
        if node in self.recorded:
            return True
        for user in self.users.get(node, []):
            if self.plan.part[user] is not self.plan.part[node] and user.op != "total":
                return True
            if (user in self.absorbed or not self.stands(user)) and self.later(user):
                return True
        return False

    def new_slot(self, area: str, shape: tuple[int, ...]) -> Slot:
        """A place of its own."""
        row = padded(shape[-1], self.dtype) if shape else 1
        slot = Slot(area, self.sizes[area], shape, row)
        self._grow(area, int(np.prod(shape[:-1])) * row)
        return slot

    def _grow(self, area: str, size: int) -> None:
        self.sizes[area] += -(-size // 16) * 16

    def slot(self, node: Node) -> Slot:
        """Where a value stands; chosen now, if it has no place yet."""
        if node in self.slots:
            return self.slots[node]
        if node in self.within:
            whole, at = self.within[node]
            outer = self.slot(whole)
            last = whole.static["axis"] == whole.ndim - 1
            step = 1 if last else int(np.prod(whole.shape[1:-1])) * outer.row
            self.slots[node] = Slot(outer.area, outer.at + at * step, node.shape, outer.row)
        elif self.plan.part.get(node) is Part.ONCE:
            self._once(node)
        else:
            pieces = [n for n, (whole, _) in self.within.items() if whole is node]
            record = node.op == "input" or any(map(self.later, [node, *pieces]))
            self.slots[node] = self.new_slot("r" if record else "w", node.shape)
        return self.slots[node]

    def parts_of(self, whole: Node) -> set[Node]:
        """What is computed where it stands in a joined array."""
        found = {n for n, (w, _) in self.within.items() if w is whole}
        for node in found:
            self.slot(node)
        return found

    def _once(self, node: Node) -> None:
        """Compute what is the same at every step, before the loops."""
        for n in topological([node]):
            simple = not n.args or is_elementwise(n) or seen_through(n, indices(n.shape)) is not None
            if n not in self.slots and (n is node or not simple):
                if n.op not in _LEAVES:
                    self.slots[n] = self.new_slot("w", n.shape)
                    self.once.emit(n)
                    continue
                group = self.once.group(n.shape, True)
                read = self.direct(n, group.index, Part.ONCE)
                self.slots[n] = self.new_slot("w", n.shape)
                value = f"F({read})" if n.dtype.kind == "b" else read
                group.lines.append(f"{self.slots[n].text(group.index, 'w')} = {value}")

    def packed(self, weight: Node) -> int:
        """Where a weight stands panel by panel, as `product` reads it."""
        if weight not in self.weights:
            for n in topological([weight]):
                if n.args and not is_elementwise(n) and seen_through(n, indices(n.shape)) is None:
                    self.slot(n)
            rows, columns = weight.shape
            pairs, width, single = panels(columns, self.dtype)
            self.weights[weight] = at = self.sizes["w"]
            self._grow("w", rows * (pairs * width + single))
            whole, rest = divmod(columns, width)
            group = Group(None)
            self.once.groups.append(group)
            if whole:
                place, column = f"w[(p * {rows} + k) * {width} + j + {at}]", f"p * {width} + j" if whole > 1 else "j"
                value = self.once.value(weight, ("k", column))
                group.lines += nest((whole, rows, width), ("p", "k", "j"), [f"{place} = {value}"])
            if rest:
                wide, start = (single if single and whole == pairs else width), whole * width
                place = f"w[k * {wide} + j + {at + whole * rows * width}]"
                value = self.once.value(weight, ("k", f"{start} + j" if start else "j"))
                group.lines += nest((rows, rest), ("k", "j"), [f"{place} = {value}"])
            self.once.group(None, True)
        return self.weights[weight]

    def heir(self, node: Node, body: Body) -> Slot | None:
        """The place of the cotangent that comes in, for the one that goes on, once nobody reads the former."""
        states = [s for s in self.step.states if s.back is node and s.carry in self.slots]
        if len(states) != 1 or node in self.slots or node in self.within or self.later(node):
            return None
        carry = states[0].carry
        own = node.op == "matmul" or node in self.sums
        after = [*body.waiting, *([node] if own else [])]
        if any(carry in self._reads(s) for s in after) or (not own and (carry, False) in body.groups[-1].reads):
            return None
        self.slots[node] = self.slots[carry]
        return self.slots[node]

    def _reads(self, statement: Statement) -> set[Node]:
        """What a statement reads, in itself and in what is written into it."""
        found: set[Node] = set()
        reading = [statement.source] if isinstance(statement, Store) else [*statement.args]
        while reading:
            node = reading.pop()
            found.add(node)
            if not self.stands(node) or node in self.absorbed:
                reading += node.args
        return found

    def computed(self, node: Node, body: Body) -> None:
        """A value that needs a place, whoever reads it, gets one."""
        if node in self.forced and self.heir(node, body) is None:
            self.slot(node)

    # -- How things are called --

    def word(self, node: Node) -> str:
        """What a value is called."""
        return hint(self.plan, node)

    def helper(self, name: str, text: str) -> str:
        """The name of a product; one for all that are alike."""
        if text not in self.helpers:
            self.helpers[text] = self.fresh(name)
        return self.helpers[text]

    def direct(self, node: Node, index: Index, part: Part) -> str | None:
        """What is read from an argument of the function, as it was given."""
        if node.op in _LEAVES and part is Part.ONCE:
            name = (
                self.places[node].name if node in self.places else self._constant(node.value, node.name or "constant")
            )
            return self._argument("forward", name, name, node.ndim, index, node.dtype)
        if node.op == "at_t" and node not in self.slots:
            text = self.text_of(node.args[0])
            return self._argument(self.now, self._outside(node), text, node.ndim + 1, ("t", *index), node.dtype)
        if node.op == "extra" or (self.plan.part.get(node) is Part.BETWEEN and not node.stepped):
            return self._argument(self.now, self._outside(node), self.text_of(node), node.ndim, index, node.dtype)
        return None

    def _outside(self, node: Node) -> str:
        if node not in self.outside:
            self.outside[node] = self.fresh(self.word(node))
        return self.outside[node]

    def _argument(self, function: str, name: str, text: str, rank: int, index: Index, dtype: Any) -> str:
        if dtype.kind == "b":
            text = f"{text}.astype(F)"
        elif dtype != self.dtype:
            raise Unsupported(f"{name} is {dtype}, and the state is {self.dtype}")
        self.inputs[function].setdefault(name, (text, rank))
        read = f"{name}[{', '.join(index) or '0'}]"
        return f"({read} != 0)" if dtype.kind == "b" else read
