"""The compiled program: the same step and plan as the NumPy program, with its two loops as functions for numba.

After this file the reader knows what is compiled and what is not. What is the same at every step, and the loss, are a
few NumPy calls, and stay so; the loops are one compiled function each. Every step has a record of what the way back
needs of it, with each value at a fixed place in it; weights, the sums over all steps and what is needed only within a
step stand in memory that all steps share.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import numpy as np

from ..bptt.draft import WIDTH
from ..bptt.emit import Source
from ..bptt.identities import transposed
from ..bptt.names import hint
from ..bptt.program import Unsupported
from ..bptt.rewrites import read_once, rebuild, terms_of, total, whole_sums
from ..bptt.step import Step
from ..bptt.text import array_text, is_elementwise
from ..files import printable
from ..symbolic.notation import value_text
from ..symbolic.trace import Node, Part, computed
from .body import ADD, Body, Index, Slot, Statement, Store, indices, is_seen_through, kept_axes, nest
from .products import BLOCK, padded, panels
from .store import keep

USED = ("dead_code", "share", "only_last", "tiles", "split", "join", "factor", "regroup", "buffers")
"""The rewrites that serve a compiled program: loops of its own need no function for several gates at once."""
OWN = "w r cur old space forward backward F b j compiled functions pack product outer Space record".split()
NAMES = ("exp", "tanh", "sigmoid", "larger", "smaller", "leaky", "softplus", "squared")
LOOPS = (Part.FORWARD, Part.BACKWARD)


def packs(node: Node) -> bool:
    """Whether this is the product of a vector, or of some, and a weight."""
    if node.op != "matmul":
        return False
    a, b = node.args
    right = a.stepped and a.ndim in (1, 2) and b.ndim == 2 and b.known is Part.ONCE
    left = b.stepped and b.ndim == 1 and a.ndim == 2 and a.known is Part.ONCE
    return (right or left) and a.dtype == b.dtype


def pair_of(part: Node) -> tuple[Node, Node] | None:
    """For aᵀ b: a and b."""
    if part.op != "matmul" or part.args[0].op != "transpose" or not part.args[0].ndim == part.args[1].ndim == 2:
        return None
    a, b = part.args[0].args[0], part.args[1]
    return (a, b) if a.stepped and b.stepped and a.dtype == b.dtype else None


def prepare(step: Step) -> None:
    """Let there be fewer kinds of equations: what is said below of each is said in terms of others."""
    once, sums = read_once(step), whole_sums(step, read_once(step))
    pairs = {node.args[0] for node in step.order() if node.op == "total" and pair_of(node.args[0])}

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if not node.stepped:  # of the loss, or the same at every step
            return node
        if old in pairs:  # a cotangent that comes in leaves nothing behind: its copy does
            a, b = [
                computed("detach", (x,), {}) if x.op == "carry" else x for x in (node.args[0].args[0], node.args[1])
            ]
            return computed("matmul", (transposed(a), b), {})
        if node.op == "stack":  # arrays side by side, along an axis that each of them gets
            index = (*[slice(None)] * node.static["axis"], None)
            return computed(
                "concatenate", tuple([computed("getitem", (a,), {"index": index}) for a in node.args]), node.static
            )
        if node.op == "mean":
            size = node.args[0].value.size // max(1, node.value.size)
            summed = computed("sum", node.args, node.static)
            return computed("multiply", (summed, Node("number", value=1 / size)), {})
        if node.op == "matmul" and not packs(node) and old not in pairs:  # products, summed
            a, b = node.args
            a = computed("getitem", (a,), {"index": (..., None)}) if b.ndim > 1 else a
            b = (
                computed("getitem", (b,), {"index": (..., None, slice(None), slice(None))})
                if b.ndim > 1 < a.ndim - 1
                else b
            )
            axis = max(a.ndim, b.ndim) - 1 - (node.args[1].ndim > 1)
            value = np.broadcast_to(node.value.dtype.type(0), np.broadcast_shapes(a.shape, b.shape))
            return computed("sum", (Node("multiply", (a, b), value=value),), {"axis": (axis,), "keepdims": False})
        terms = [new[t] for t in terms_of(old, "add", once)] if old in sums else []
        first = [t for t in terms if packs(t) and t.form == node.form]
        rest = [t for t in terms if t not in first]
        if len(first) < 2 or not rest:
            return node
        known = [t for t in rest if t.known is Part.ONCE]  # what is added to products comes after them, as one
        return total([total(first), *([total(known)] if known else []), *(t for t in rest if t not in known)])

    rebuild(step, rule)
    for state in step.states:
        if state.back is not None and state.back.op == "carry":  # it is overwritten itself: a copy
            state.back = computed("detach", (state.back,), {})


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
        self.taken |= {*OWN, *(f"{n}_" for n in NAMES)}
        self._begin()
        self._look()
        self._heading("Forward")
        self.put("w, r = space.take(T)")
        forward = self._forward()
        self._heading("Loss")
        self._loss()
        self._heading("Backward")
        self._seeds()
        backward = self._backward()
        self.put("space.give(w, r)")
        self._heading("Gradients")
        self._gradients()
        self.before = self._head([*forward, *backward])

    def _look(self) -> None:
        """Decide which equations are statements and which sums are which products, and give each state its place."""
        step, part, self.dtype = self.step, self.plan.part, self.step.states[0].leaf.dtype
        for leaf in (step.x, *(s.leaf for s in step.states), *step.parameters.values()):
            if 0 in leaf.shape:
                raise Unsupported(f"{leaf.name} has no elements")
            if leaf.dtype != self.dtype:
                raise Unsupported(f"{leaf.name} is {leaf.dtype}, and the state is {self.dtype}")
        self.slots: dict[Node, Slot] = {}
        self.sizes = {"w": 0, "r": 0}
        self.ahead: list[str] = []  # lines of a function before its loop
        self.helpers: dict[str, str] = {}  # of the products, by what they are
        self.weights: dict[Node, int] = {}
        self.names: dict[Node, str] = {}  # of arguments of the compiled functions
        self.inputs: dict[str, tuple[str, int]] = {}  # of a function: how each argument is given, and its axes
        once, self.absorbed = read_once(step), set[Node]()  # parts of other statements
        self.products: dict[Any, list[Node]] = {n: [n] for n in self.plan.order if packs(n)}
        for node in reversed(self.plan.order):
            terms = terms_of(node, "add", once) if node not in self.absorbed else []
            if len(terms) > 1 and all(packs(t) and t in once and t.form == node.form for t in terms):
                self.products[node] = terms
                inner = [*node.args]
                for n in inner:  # which grows
                    inner += n.args if n not in terms else ()
                self.absorbed |= {*inner}
        self.totals = [n for n in self.plan.order if n.op == "total"]
        self.pairs: dict[Node, tuple[Node, Node]] = {}
        for node in self.totals:
            (arg,) = node.args
            if not arg.stepped:
                raise Unsupported("a gradient that is the same at every step is not compiled")
            if (pair := pair_of(arg)) and arg in once:
                self.pairs[node] = pair
                self.absorbed |= {arg, arg.args[0]}
            elif arg.op == "sum" and arg in once:
                self.absorbed.add(arg)
        self.state_of = {s.root: s for s in reversed(step.states) if s.root.args and part[s.root] is Part.FORWARD}
        self.recorded = {n for pair in self.pairs.values() for n in pair}
        lefts = {a for node in self.products if node.op == "matmul" for a in node.args if a.stepped}
        self.forced = {*self.state_of, *(s.back for s in step.states if s.back), *self.recorded, *self.products, *lefts}
        for state in step.states:
            state.array = self.fresh(state.name)
            self.slots[state.leaf] = self.new_slot("r", state.leaf.shape)
            if self.state_of.get(state.root) is state:
                self.slots[state.root] = self.slots[state.leaf]

    def stands(self, node: Node) -> bool:
        """Whether a value has a place in memory, or gets one when it is read."""
        if node in self.slots or node in self.forced:
            return True
        part, users = self.plan.part[node], self.users[node]
        if is_seen_through(node) or node.op in ("at_t", "input"):
            return False
        if part is Part.ONCE or part not in LOOPS or not is_elementwise(node):
            return part in (Part.ONCE, *LOOPS)
        if all(u.op == "getitem" and not self.stands(u) for u in users):  # slices of it side by side, computed there
            return sum(int(np.prod(u.shape)) for u in users) > int(np.prod(node.shape))
        user, *more = users
        inside = user.op in ("sum", "max", "min") or (is_elementwise(user) and user.shape == node.shape)
        return bool(more) or self.plan.part[user] is not part or not inside  # else written there

    def later(self, node: Node) -> bool:
        """Whether a value is needed after the loop that computes it."""
        if node in self.recorded:
            return True
        for user in self.users[node]:
            if self.plan.part[user] is not self.plan.part[node] and user.op != "total":
                return True
            if (user in self.absorbed or not self.stands(user)) and self.later(user):
                return True
        return False

    # -- Places --

    def new_slot(self, area: str, shape: tuple[int, ...]) -> Slot:
        """A place of its own."""
        row = padded(shape[-1], self.dtype) if shape else 1
        return Slot(area, self._grow(area, int(np.prod(shape[:-1])) * row), shape, row)

    def _grow(self, area: str, size: int) -> int:
        self.sizes[area] += -(-size // 16) * 16
        return self.sizes[area] - -(-size // 16) * 16

    def slot(self, node: Node) -> Slot:
        """Where a value stands; chosen now, if it has no place yet."""
        if node not in self.slots:
            once = self.plan.part[node] is Part.ONCE
            slot = self.slots[node] = self.new_slot("r" if not once and self.later(node) else "w", node.shape)
            if once:
                self.ahead += _moved(slot, self.argument(node), False)
        return self.slots[node]

    def packed(self, weight: Node) -> int:
        """Where a weight stands panel by panel, as `product` reads it."""
        if weight not in self.weights:
            rows, columns = weight.shape
            pairs, width, single = panels(columns, self.dtype)
            self.weights[weight] = at = self._grow("w", rows * (pairs * width + single))
            flip = weight.op == "transpose"
            name = self.argument(weight.args[0] if flip else weight)
            write = self.helper(f"{name}_pack", f"pack({rows}, {columns}, F)")
            self.ahead.append(f"{write}({name}{'.T' * flip}, w, {at})")
        return self.weights[weight]

    def argument(self, node: Node) -> str:
        """The name under which a compiled function is given a value."""
        text = {"input": "x"}.get(node.op) or self.text_of(node.args[0] if node.op == "at_t" else node)
        if node not in self.names:
            self.names[node] = text if text.isidentifier() else self.fresh(hint(self.plan, node))
        name, rank = self.names[node], node.ndim + (node.op in ("at_t", "input"))
        if node.dtype.kind == "b":
            text = f"({text}).astype(F)"
        elif node.dtype != self.dtype:
            raise Unsupported(f"{name} is {node.dtype}, and the state is {self.dtype}")
        self.inputs.setdefault(name, (text, rank))
        return name

    def given(self, node: Node, index: Index) -> str | None:
        """How one element is read of an argument of the function, as it was given."""
        if node.op in ("at_t", "input"):
            index = ("t", *index)
        elif node.op != "extra" and (self.plan.part[node] is not Part.BETWEEN or node.stepped):
            return None
        read = f"{self.argument(node)}[{', '.join(index) or '0'}]"
        return f"({read} != 0)" if node.dtype.kind == "b" else read

    def helper(self, name: str, text: str) -> str:
        """The name of a product; one for all that are alike."""
        if text not in self.helpers:
            self.helpers[text] = self.fresh(name)
        return self.helpers[text]

    # -- The two functions --

    def _loop(self, part: Part, more: Iterable[Statement] = (), last: Iterable[Statement] = ()) -> list[str]:
        """The lines of a loop: its statements, some more, and what comes when all is done."""
        body = Body(self, part)
        given = [n for n in self.plan.order if n.op == ("input" if part is Part.FORWARD else "at_t")]
        nodes = [n for n in (*given, *self.plan.of(part)) if n not in self.absorbed and self.stands(n)]
        body.write([*(s for n in nodes for s in body.statements(n)), *more])
        body.group(None, True)
        body.write(last)
        for node in filter(self.later, nodes):
            self.slot(node)
        steps = "old, cur = r[t * record : (t + 1) * record], r[(t + 1) * record : (t + 2) * record]"
        return ["    " + line for line in (steps, *body.text())]

    def _forward(self) -> list[str]:
        states, ahead = self.step.states, list[str]()
        for first, state in zip(self.firsts, states, strict=True):
            ahead += _moved(self.slots[state.leaf], first, False)
        others = [s for s in states if self.state_of.get(s.root) is not s]
        loop = self._loop(
            Part.FORWARD, [Store(s.leaf.shape, s.root, partial(self.slots[s.leaf].text, base="cur")) for s in others]
        )
        self.inputs |= {f: (f, s.leaf.ndim) for f, s in zip(self.firsts, states, strict=True)}
        lines = self._function("forward", [*ahead, "for t in range(T):", *loop], {})
        for state in states:
            slot, n = self.slots[state.leaf], state.leaf.ndim
            size = int(np.prod(slot.shape[:-1])) * slot.row
            cut = f"{slot.at}:{slot.at + size}" if n else f"{slot.at}"
            view = f"r.reshape(-1, record)[:, {cut}]"
            if n:
                view += f".reshape({value_text((-1, *slot.shape[:-1], slot.row))[1:-1]})[..., :{slot.shape[-1]}]"
            self.put(f"{state.array} = {view if self.step.loss is not None else f'np.array({view})'}")
        return lines

    def _backward(self) -> list[str]:
        back_x, zero = self.step.back_x, Node("number", value=0)
        seeds = {self.places[s.carry].name: s for s in self.step.states if s.carry in self.places}
        out, stores, last = list[str](), list[Statement](), list[Statement]()
        written = {name: s.carry.ndim for name, s in seeds.items()}
        for state in seeds.values():
            slot = self.slots[state.carry] = self.new_slot("w", state.carry.shape)
            last.append(Store(slot.shape, state.back or zero, partial(slot.text, base="w")))
        start = self.sizes["w"]
        for node in self.totals:
            name = self.variable(node)
            self.put(f"{name} = {array_text('empty', node)}")
            slot = self.slots[node] = self.new_slot("w", node.shape)
            written[name] = node.ndim
            out += _moved(slot, name, True)
            if node not in self.pairs:
                stores.append(self._added(node, *node.args))
        ahead = [f"w[{start}:{self.sizes['w']}] = F(0)"]
        for name, state in seeds.items():
            ahead += _moved(self.slots[state.carry], name, False)
            out += _moved(self.slots[state.carry], name, True)
        if back_x is not None:
            name = self.rows(back_x)
            self.put(f"{name} = {array_text('empty', back_x, 'T')}")
            written[name] = back_x.ndim + 1
            stores.append(Store(back_x.shape, back_x, lambda i: f"{name}[{', '.join(['t', *i])}]"))
        loop = self._loop(Part.BACKWARD, stores, last)
        for node in self.pairs:
            loop += self._outer(node, *self.pairs[node])
        lines = self._function("backward", [*ahead, "for t in range(T - 1, -1, -1):", *loop, *out], written)
        for state in self.step.states:
            self.put(f"{state.array} = np.array({state.array}[-1:])")
        return lines

    def _added(self, node: Node, part: Node) -> Store:
        """What a step adds to a sum over all steps."""
        text = partial(self.slots[node].text, base="w")
        if part not in self.absorbed:
            return Store(part.shape, part, text, ADD)
        return Store(part.args[0].shape, part.args[0], lambda i: text(kept_axes(part, i)), ADD)

    def _outer(self, node: Node, a: Node, b: Node) -> list[str]:
        """The gradient of a weight: of as many steps at once as are in the cache still."""
        rows, columns = [(n.shape[1], self.slot(n).row) for n in (a, b)]
        block = max(1, BLOCK // a.shape[0])
        text = f"outer({rows[0]}, {columns[0]}, {rows[1]}, {columns[1]}, record, F)"
        name = self.helper(f"{self.places[node].name}_product", text)
        starts = [f"r, {self.slot(n).at} + {'t' if n.op == 'state' else '(t + 1)'} * record" for n in (a, b)]
        call = f"{name}({', '.join(starts)}, w, {self.slots[node].at}, {a.shape[0]}, min({block}, T - t))"
        return [f"    if t % {block} == 0:", f"        {call}"]

    def _function(self, name: str, body: list[str], written: dict[str, int]) -> list[str]:
        """The source of a compiled function; a line that calls it is put."""
        ranks = [*(max(1, n) for _, n in self.inputs.values()), *(-max(1, n) for n in written.values())]
        arguments = ["T", "w", "r", *(f"np.ascontiguousarray({text})" for text, _ in self.inputs.values())]
        arguments += [n if rank else f"{n}.reshape(1)" for n, rank in written.items()]
        names, lines = ["T", "w", "r", *self.inputs, *written], [*self.ahead, *body]
        text = f"{name}({', '.join(arguments)})"
        if len(text) <= WIDTH:
            self.put(text)
        else:
            self.put(f"{name}(")
            self.lines += [*(f"        {a}," for a in arguments), "    )"]
        self.ahead, self.inputs = [], {}
        decorator = f"@compiled(F, {', '.join(map(str, [-1, -1, *ranks]))})"
        return [decorator, f"def {name}({', '.join(names)}):", *("    " + printable(line) for line in lines), "", ""]

    def _head(self, lines: list[str]) -> list[str]:
        """What the two functions use, before them."""
        body = "\n".join(lines)
        named = [n for n in NAMES if re.search(rf"(?<![.\w]){n}_\(", body)]
        head = ["from tinygrad_rnn.fast import Space, compiled, functions, outer, pack, product", ""]
        head += [f"F = {value_text(self.dtype)}", *(f"{n}_ = functions(F).{n}" for n in named)]
        head += [f"record = {self.sizes['r']}  # numbers of one step", *(f"{n} = {t}" for t, n in self.helpers.items())]
        return [*head, f"space = Space({self.sizes['w']}, record, F)", "", "", *lines]


def _moved(slot: Slot, name: str, out: bool) -> list[str]:
    """An argument of a function to its place in memory, or back."""
    index = indices(slot.shape)
    pair = [f"{name}[{', '.join(index) or '0'}]", slot.text(index, slot.area)]
    return nest(slot.shape, [" = ".join(pair if out else pair[::-1])])
