"""The compiled program: the same step and plan as the NumPy program, with its two loops as functions for numba.

After this file the reader knows what is compiled and what is not. The loss is a few NumPy calls, and stays so; what
comes before it is one compiled function, what comes after it another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from ..bptt.draft import WIDTH
from ..bptt.step import State
from ..bptt.text import array_text
from ..files import printable
from ..symbolic.notation import value_text
from ..symbolic.trace import Node, Part
from .body import Body, Index, Slot, Statement, Store, indices, nest
from .memory import Memory
from .products import BLOCK
from .store import keep

USED = ("dead_code", "share", "only_last", "tiles", "split", "join", "factor", "regroup", "buffers")
"""The rewrites that serve a compiled program: loops of its own need no function for several gates at once."""
OWN = "w r cur old space forward backward F b j k p n compiled functions product outer Space record".split()
NAMES = ("exp", "tanh", "sigmoid", "larger", "smaller", "leaky", "softplus", "squared")


class FastSource(Memory):
    """The compiled program of a step."""

    def file(self) -> str:
        """The file that numba keeps the machine code beside."""
        return keep(self.text)

    def _write(self) -> None:
        self.taken |= {*OWN, *(f"{n}_" for n in NAMES)}
        self._begin()
        self.prepare()
        start = len(self.lines)
        self._heading("Loss")
        self._loss()
        self._heading("Backward")
        self._seeds()
        steps = self._forward(), self._backward()
        self._gradients()
        self.lines[start:start] = self._run_forward()
        self.before = self._functions(*steps)

    # -- The two functions --

    def _forward(self) -> Body:
        body, x = Body(self, Part.FORWARD), self.step.x
        if x in self.users:
            group = body.group(x.shape)
            read = self._argument("forward", "x", "x", x.ndim + 1, ("t", *group.index), x.dtype)
            group.lines.append(f"{self.slot(x).text(group.index, 'cur')} = {read}")
            body.group(None, True)
        stores: list[Statement] = []
        for state in self.step.states:
            if self.state_of.get(state.root) is not state:
                stores.append(Store(state.root.shape, state.root, partial(self.slots[state.leaf].text, base="cur")))
        body.write([*self.statements(Part.FORWARD), *stores])
        return body

    def _backward(self) -> Body:
        step, body, self.now = self.step, Body(self, Part.BACKWARD), "backward"
        self.written: dict[str, tuple[Node | None, Slot | None, int]] = {}  # what the function writes, by its name
        carried = [s for s in step.states if s.carry in self.places]
        for state in carried:
            self.slots[state.carry] = self.new_slot("w", state.carry.shape)
        for node in [n for n in self.plan.order if n.op == "at_t" and n in self.forced]:
            group = body.group(node.shape, True)
            read = self.direct(node, group.index, Part.BACKWARD)
            group.lines.append(f"{self.slot(node).text(group.index, 'w')} = {read}")
            body.group(None, True)
        stores: list[Statement] = []
        for node in self.totals:
            name = self.variable(node)
            self.put(f"{name} = {array_text('empty', node)}")
            self.sums_at[node] = slot = self.new_slot("w", node.shape)
            self.written[name] = node, slot, node.ndim
            if node not in self.outers:
                stores.append(self._summed(node, slot))
        if (back_x := step.back_x) is not None:
            name = self.rows(back_x)
            self.put(f"{name} = {array_text('empty', back_x, 'T')}")
            self.written[name] = back_x, None, back_x.ndim + 1
            stores.append(Store(back_x.shape, back_x, lambda i: f"{name}[{', '.join(['t', *i])}]"))
        body.write([*self.statements(Part.BACKWARD), *stores])
        self._hand_on(body, carried)
        return body

    def _summed(self, node: Node, slot: Slot) -> Store:
        """What a step adds to a sum over all steps."""
        (arg,) = node.args
        if arg not in self.absorbed:
            return Store(arg.shape, arg, lambda i: slot.text(i, "w"), "+=")
        axes, keep = arg.static["axis"], arg.static["keepdims"]

        def target(index: Index) -> str:
            out = ["0" if k in axes else i for k, i in enumerate(index) if keep or k not in axes]
            return slot.text(tuple(out), "w")

        return Store(arg.args[0].shape, arg.args[0], target, "+=")

    def _hand_on(self, body: Body, carried: list[State]) -> None:
        """The cotangents of the states to where the step before looks for them: first aside, as one may be another."""
        moves = []
        for state in carried:
            carry = self.slots[state.carry]
            if state.back is None:
                body.fill(carry, "F(0)", "w")
            elif self.slots.get(state.back) is not carry or state.back.op == "carry":
                aside = self.new_slot("w", carry.shape)
                body.group(None, True)
                body.copy(state.back, partial(aside.text, base="w"))
                moves.append((carry, aside))
        for carry, aside in moves:
            group = body.group(carry.shape, True)
            group.lines.append(f"{carry.text(group.index, 'w')} = {aside.text(group.index, 'w')}")

    def _run_forward(self) -> list[str]:
        """The lines that run the loop forwards, and show the states as arrays."""
        kept, self.lines = self.lines, []
        self._heading("Forward")
        self.put("w, r = space.take(T)")
        for first, state in zip(self.firsts, self.step.states, strict=True):
            self.inputs["forward"][first] = first, state.leaf.ndim
        self._call("forward", [])
        for state in self.step.states:
            slot = self.slots[state.leaf]
            view = f"space.of_all(r, {slot.at}, {slot.row}, {value_text(slot.shape)})"
            self.put(f"{state.array} = {view if self.step.loss is not None else f'np.array({view})'}")
        lines, self.lines = self.lines, kept
        return lines

    def _call(self, function: str, written: Iterable[str]) -> None:
        arguments = ["T", "w", "r"]
        for text, rank in self.inputs[function].values():
            arguments.append(f"np.ascontiguousarray({text})" if rank else f"np.reshape({text}, 1)")
        text = f"{function}({', '.join([*arguments, *written])})"
        if len(text) <= WIDTH:
            self.put(text)
        else:
            self.put(f"{function}(")
            self.lines += [f"        {a}," for a in (*arguments, *written)]
            self.put(")")

    def _gradients(self) -> None:
        """Run what is compiled of the way back, then as ever."""
        seeds = {self.places[s.carry].name: s for s in self.step.states if s.carry in self.places}
        self.seeds = seeds
        flat = {n: f"{n}.reshape(1)" for n, (_, _, rank) in self.written.items() if not rank}
        flat |= {n: f"{n}.reshape(1)" for n, s in seeds.items() if not s.carry.ndim}
        self._call("backward", [flat.get(n, n) for n in (*seeds, *self.written)])
        for state in self.step.states:
            self.put(f"{state.array} = np.array({state.array}[-1:])")
        self.put("space.give(w, r)")
        self._heading("Gradients")
        super()._gradients()

    def _functions(self, forward: Body, backward: Body) -> list[str]:
        """The source of the two functions, and what they use."""
        ahead: list[str] = []
        for state, first in zip(self.step.states, self.firsts, strict=True):
            ahead += self._moved(self.slots[state.leaf], first, False)
        steps = ["old, cur = r[t * record : (t + 1) * record], r[(t + 1) * record : (t + 2) * record]"]
        one = [*self.once.text(), *ahead, "for t in range(T):"]
        one += ["    " + line for line in [*steps, *forward.text()]]
        two: list[str] = []
        for name, state in self.seeds.items():
            two += self._moved(self.slots[state.carry], name, False)
        for node in self.totals:
            slot = self.sums_at[node]
            index = indices(slot.shape)
            two += nest(slot.shape, index, [f"{slot.text(index, 'w')} = F(0)"])
        two += ["for t in range(T - 1, -1, -1):", *("    " + line for line in [*steps, *backward.text()])]
        blocks: dict[int, list[str]] = {}  # so many steps give a product work, and are in the cache still
        for node, (a, b) in self.outers.items():
            left, right, batch = self.slot(a), self.slot(b), a.shape[0]
            text = f"outer({a.shape[1]}, {b.shape[1]}, {left.row}, {right.row}, record, F)"
            name = self.helper(f"{self.places[node].name}_product", text)
            places = [f"{s.at} + {'t' if n.op == 'state' else '(t + 1)'} * record" for s, n in ((left, a), (right, b))]
            block = max(1, BLOCK // batch)
            call = f"{name}(r, {places[0]}, r, {places[1]}, w, {self.sums_at[node].at}, {batch}, min({block}, T - t))"
            blocks.setdefault(block, []).append(call)
        for block, calls in blocks.items():
            two += [f"    if t % {block} == 0:", *("        " + call for call in calls)]
        for name, (_, place, _) in self.written.items():
            two += self._moved(place, name, True) if place is not None else []
        for name, state in self.seeds.items():
            two += self._moved(self.slots[state.carry], name, True)
        written = {n: max(1, s.carry.ndim) for n, s in self.seeds.items()}
        written |= {n: max(1, rank) for n, (_, _, rank) in self.written.items()}
        lines = self._function("forward", one, {}) + self._function("backward", two, written)
        body = "\n".join(lines)
        named = [n for n in NAMES if re.search(rf"(?<![.\w]){n}_\(", body)]
        head = ["from tinygrad_rnn.fast import Space, compiled, functions, outer, product", ""]
        head += [f"F = {value_text(self.dtype)}", *(f"{n}_ = functions(F).{n}" for n in named)]
        head += [f"record = {self.sizes['r']}  # numbers of one step", *(f"{n} = {t}" for t, n in self.helpers.items())]
        return [*head, f"space = Space({self.sizes['w']}, record, F)", "", "", *lines]

    def _moved(self, slot: Slot, name: str, out: bool) -> list[str]:
        index = indices(slot.shape)
        pair = [f"{name}[{', '.join(index) or '0'}]", slot.text(index, slot.area)]
        return nest(slot.shape, index, [" = ".join(pair if out else pair[::-1])])

    def _function(self, name: str, body: list[str], written: dict[str, int]) -> list[str]:
        given = {n: max(1, rank) for n, (_, rank) in self.inputs[name].items()}
        ranks = ["-1", "-1", *map(str, given.values()), *(str(-rank) for rank in written.values())]
        names = ", ".join(["T", "w", "r", *given, *written])
        decorator = f"@compiled(F, {', '.join(ranks)})"
        return [decorator, f"def {name}({names}):", *("    " + printable(line) for line in body), "", ""]
