"""The compiled program: the same step and plan as the NumPy program, with its two loops as functions for numba.

After this file the reader knows what is compiled and what is not. What is the same at every step, and the loss, are a
few NumPy calls, and stay so; the loops are one compiled function each. Every step has a record of what the way back
needs of it, with each value at a fixed place in it; weights, the sums over all steps and what is needed only within a
step stand in memory that all steps share.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from textwrap import wrap
from typing import Any

import numpy as np

from ..bptt.draft import WIDTH
from ..bptt.emit import Source
from ..bptt.identities import transposed
from ..bptt.names import hint
from ..bptt.program import Unsupported
from ..bptt.rewrites import rebuild
from ..bptt.step import Step
from ..bptt.text import array_text, is_elementwise
from ..files import printable
from ..symbolic.notation import ATOM, value_text
from ..symbolic.trace import QUESTIONS, Node, Part, computed
from .body import ADD, OWN, REDUCED, SEEN_THROUGH, Body, Outer, Product, Slot, Store, argument, moved
from .products import BLOCK, padded, panel
from .store import keep

# The rewrites that serve a compiled program: loops of its own need no function for several gates at once.
USED = ("dead_code", "share", "only_last", "tiles", "split", "join", "factor", "regroup", "buffers")
TAKEN = "w r cur old space forward backward F b j compiled functions product Space record".split()
LOOPS = (Part.FORWARD, Part.BACKWARD)


def is_product(node: Node) -> bool:
    """Whether this is the product of a vector, or of some, and a weight."""
    if node.op != "matmul":
        return False
    a, b = node.args
    right = a.stepped and a.ndim in (1, 2) and b.ndim == 2 and b.known is Part.ONCE
    left = b.stepped and b.ndim == 1 and a.ndim == 2 and a.known is Part.ONCE
    return (right or left) and a.dtype == b.dtype


def is_outer(node: Node) -> bool:
    """Whether this is aᵀ b, of the rows of two values of a step."""
    if node.op != "matmul" or node.args[0].op != "transpose" or not node.args[0].ndim == node.args[1].ndim == 2:
        return False
    return all(n.stepped and n.dtype == node.dtype for n in node.args)


def prepare(step: Step) -> None:
    """Let there be fewer kinds of equations: products with weights, aᵀ b of steps, and element by element."""
    outer = {n.args[0] for n in step.order() if n.op == "total" and is_outer(n.args[0])}

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if node.op == "carry":  # it is overwritten at the end of a step
            return computed("detach", (node,), {})
        if not node.stepped:  # of the loss, or the same at every step
            return node
        if old in outer:
            return Outer("outer", (node.args[0].args[0], node.args[1]), value=node.value)
        if is_product(node):
            a, b = node.args
            return Product("product", (a, b) if b.ndim == 2 else (b, transposed(a)), value=node.value)
        return node

    rebuild(step, rule)


class FastSource(Source):
    """The compiled program of a step.

    Attributes
    ----------
    slots : dict of Node to Slot
        Where values stand in memory.
    """

    def __init__(self, step: Step, rewrites: Collection[str], title: str) -> None:
        prepare(step)
        super().__init__(step, rewrites, title)

    def file(self) -> str:
        """The file that numba keeps the machine code beside."""
        return keep(self.text)

    def _write(self) -> None:
        self.taken |= {*TAKEN, *(f"{n}_" for n in OWN)}
        self.with_buffers = True  # what goes back stands in arrays of its own, which are written over
        self._begin()
        self._look()
        begin, self.lines = self.lines, []
        self._heading("Loss")
        self._loss()
        self._heading("Backward")
        self._seeds()
        backward = self._backward()  # first, since it decides what the steps must leave behind
        self.put("space.give(w, r)")
        self._heading("Gradients")
        self._gradients()
        rest, self.lines = self.lines, begin
        self._heading("Forward")
        self.put("w, r = space.take(T)")
        self.before = self._head([*self._forward(), *backward])
        self.lines += rest

    def _look(self) -> None:
        """Decide which values must stand in memory, and which of them in rows of whole vectors; place the states."""
        step, order, self.dtype = self.step, self.plan.order, self.step.states[0].leaf.dtype
        loops = [n for node in order if self.plan.part[node] in LOOPS for n in (node, *node.args)]
        for node in (step.x, *(s.leaf for s in step.states), *step.parameters.values(), *loops):
            if 0 in node.shape:
                raise Unsupported(f"{node.name} has no elements")
            asked = node.dtype == bool and node.op in (*QUESTIONS.values(), *SEEN_THROUGH)
            fixed = not node.shape and node.op in ("number", "constant")  # which the source has as text
            if not (asked or fixed or node.dtype == self.dtype):
                raise Unsupported(f"it has values of {node.dtype}, and the state is {self.dtype}")
        self.slots: dict[Node, Slot] = {}
        self.sizes = {"w": 0, "r": 0}
        self.helpers: dict[str, str] = {}  # of the products, by what they are
        self.names: dict[Node, str] = {}  # of arguments of the compiled functions
        self.inputs: dict[str, str] = {}  # of a function: how each argument is given
        self.totals = [n for n in order if n.op == "total"]
        if not all(n.args[0].stepped for n in self.totals):
            raise Unsupported("a gradient that is the same at every step is not compiled")
        self.recorded = {a for n in order if isinstance(n, Outer) for a in n.args}
        products = [n for n in order if isinstance(n, Product)]
        self.forced = {*(s.back for s in step.states if s.back), *self.recorded, *products}
        self.forced |= {a for n in products for a in n.args}
        for state in step.states:
            state.array = self.fresh(state.name)
            slot = self.slots[state.leaf] = self.new_slot("old", state.leaf)
            if state.root.args and self.plan.part[state.root] is Part.FORWARD:
                self.slots.setdefault(state.root, replace(slot, base="cur"))

    def stands(self, node: Node) -> bool:
        """Whether a value has a place in memory, or gets one when it is read."""
        if node in self.slots or node in self.forced:
            return True
        part, users = self.plan.part[node], self.users[node]
        if node.op in SEEN_THROUGH or node.op in ("at_t", "input") or isinstance(node, Outer) or node.dtype == bool:
            return False
        if part is Part.ONCE or part not in LOOPS:
            return part is Part.ONCE
        if not is_elementwise(node):
            return True
        if all(u.op == "getitem" and not self.stands(u) for u in users):  # slices of it side by side, computed there
            return sum(int(np.prod(u.shape)) for u in users) > int(np.prod(node.shape))
        user, *more = users
        inside = user.op in REDUCED or (is_elementwise(user) and user.shape == node.shape)
        return bool(more) or self.plan.part[user] is not part or not inside  # else written there

    # -- Places --

    def new_slot(self, base: str, node: Node) -> Slot:
        """A place of its own, in rows that have place for whole vectors."""
        *rest, last = node.shape or (1,)
        rows = np.empty((*rest, padded(last, self.dtype)), np.int8)
        lies = rows[..., :last].reshape(node.shape)
        return Slot(base, self._grow("w" if base == "w" else "r", rows.size), lies)

    def _grow(self, area: str, size: int) -> int:
        self.sizes[area] += -(-size // 16) * 16
        return self.sizes[area] - -(-size // 16) * 16

    def slot(self, node: Node) -> Slot:
        """Where a value stands; chosen now, if it has no place yet."""
        if node not in self.slots:
            part = self.plan.part[node]
            kept = node in self.recorded or (self.emitted is Part.BACKWARD and part is not Part.BACKWARD)
            self.slots[node] = self.new_slot("cur" if kept and part is not Part.ONCE else "w", node)
        return self.slots[node]

    def is_given(self, node: Node) -> bool:
        """Whether a value is an argument of a compiled function."""
        fixed = self.plan.part[node] in (Part.ONCE, Part.BETWEEN) and not node.stepped and node.dtype != bool
        return fixed or node.op in ("at_t", "input")

    def given(self, node: Node) -> Slot:
        """Where it stands then."""
        each = node.op in ("at_t", "input")
        text = {"input": "x"}.get(node.op) or self.text_of(node.args[0] if node.op == "at_t" else node, ATOM)
        if node not in self.names:
            self.names[node] = text if text.isidentifier() else self.fresh(hint(self.plan, node))
        self.inputs[self.names[node]] = text
        return argument(self.names[node], node, each)

    def product(self, name: str, *arguments: Any) -> str:
        """The name of a product; one for all that are alike."""
        text = f"product({', '.join(map(str, arguments))})"
        if text not in self.helpers:
            self.helpers[text] = self.fresh(f"{name}_product")
        return self.helpers[text]

    # -- The two functions --

    def _loop(self, part: Part, more: Iterable[Store], last: Iterable[Store] = ()) -> list[str]:
        """The lines of a loop: its statements, some more, and what comes when all is done."""
        self.emitted, body = part, Body(self)
        given = [n for n in self.plan.order if n.op == ("input" if part is Part.FORWARD else "at_t")]
        nodes = [n for n in (*given, *self.plan.of(part)) if self.stands(n)]
        body.write([*(s for n in nodes for s in body.statements(n)), *more])
        body.write(last)
        steps = "old, cur = r[t * record : (t + 1) * record], r[(t + 1) * record : (t + 2) * record]"
        return ["    " + line for line in (steps, *body.text())]

    def _forward(self) -> list[str]:
        states, ahead = self.step.states, ["w[:] = F(0)"]  # the sums over all steps, too
        after = [(s.root, replace(self.slots[s.leaf], base="cur")) for s in states]
        others = [Store(root, slot) for root, slot in after if self.slots.get(root) != slot]
        loop = self._loop(Part.FORWARD, others)
        for node, slot in self.slots.items():
            if self.plan.part.get(node) is Part.ONCE:
                ahead += moved(slot, self.given(node))
        for first, state in zip(self.firsts, states, strict=True):
            self.inputs[first] = first
            ahead += moved(replace(self.slots[state.leaf], base="r"), argument(first, state.leaf))
        lines = self._function("forward", [*ahead, "for t in range(T):", *loop], [])
        for state in states:
            slot, shape = self.slots[state.leaf], state.leaf.shape
            rows = slot.lies.base
            view = f"r.reshape(-1, record)[:, {slot.at}:{slot.at + rows.size}].reshape{value_text((-1, *rows.shape))}"
            view += f"[..., :{shape[-1]}]" if shape else "[..., 0]"
            self.put(f"{state.array} = {view if self.step.loss is not None else f'np.array({view})'}")
        return lines

    def _backward(self) -> list[str]:
        back_x, zero = self.step.back_x, Node("number", value=0)
        out, stores, last, written = list[str](), list[Store](), list[Store](), list[str]()
        for state in self.step.states:
            if state.carry in self.places:
                name = self.places[state.carry].name
                written.append(name)
                slot = self.slots[state.carry] = argument(name, state.carry)
                last.append(Store(state.back or zero, slot))
        for node in self.totals:
            name = self.variable(node)
            self.put(f"{name} = {array_text('empty', node)}")
            written.append(name)
            self.slots[node] = self.new_slot("w", node)
            out += moved(argument(name, node), self.slots[node])
            if not isinstance(node.args[0], Outer):
                stores.append(Store(node.args[0], self.slots[node], how=ADD))
        if back_x is not None:
            name = self.rows(back_x)
            self.put(f"{name} = {array_text('empty', back_x, 'T')}")
            stores.append(Store(back_x, argument(name, back_x, True)))
            written.append(name)
        outer = [line for n in self.totals if isinstance(n.args[0], Outer) for line in self._outer(n, n.args[0])]
        loop = [*self._loop(Part.BACKWARD, stores, last), *outer]
        lines = self._function("backward", ["for t in range(T - 1, -1, -1):", *loop, *out], written)
        for state in self.step.states:
            self.put(f"{state.array} = np.array({state.array}[-1:])")
        return lines

    def _outer(self, node: Node, product: Node) -> list[str]:
        """The gradient of a weight: of as many steps at once as are in the cache still."""
        a, b = map(self.slot, product.args)
        times, columns, block = a.lies.shape[0], b.lies.shape[1], max(1, BLOCK // a.lies.shape[0])
        strides = f"(1, {a.row}, record)", f"({b.row}, record, {panel(columns, self.dtype)})", self.slots[node].row
        name = self.product(self.places[node].name, a.lies.shape[1], columns, "F", True, *strides)
        starts = [f"r, {s.at} + {'t' if s.base == 'old' else '(t + 1)'} * record" for s in (a, b)]
        call = f"{name}({', '.join(starts)}, w, {self.slots[node].at}, {times}, min({block}, T - t))"
        return [f"    if t % {block} == 0:", f"        {call}"]

    def _function(self, name: str, body: list[str], written: Collection[str]) -> list[str]:
        """The source of a compiled function; a line that calls it is put."""
        arrays = [*(f"{text}.ravel()" for text in self.inputs.values()), *(f"{n}.ravel()" for n in written)]
        call = f"{name}({', '.join(['T', 'w', 'r', *arrays])})"
        self.lines += wrap(call, WIDTH, initial_indent="    ", subsequent_indent=" " * 8, break_on_hyphens=False)
        decorator = f"@compiled(F, {len(self.inputs)}, {len(written)})"
        head = f"def {name}({', '.join(['T', 'w', 'r', *self.inputs, *written])}):"
        self.inputs = {}
        return [decorator, head, *("    " + printable(line) for line in body), "", ""]

    def _head(self, lines: list[str]) -> list[str]:
        """What the two functions use, before them."""
        body = "\n".join(lines)
        head = ["from tinygrad_rnn.fast import Space, compiled, functions, product", ""]
        head += [f"F = {value_text(self.dtype)}", *(f"{n}_ = functions(F).{n}" for n in OWN if f"{n}_(" in body)]
        head += [f"record = {self.sizes['r']}  # numbers of one step", *(f"{n} = {t}" for t, n in self.helpers.items())]
        return [*head, f"space = Space({self.sizes['w']}, record, F)", "", "", *lines]
