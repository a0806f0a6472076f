"""The source: a step and its plan, written as the NumPy program that a person would have written.

After this file the reader knows how equations become lines. A value that is needed after its loop gets an array with
one row per step (`name[t]`), any other a plain variable; what is used once is written where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from textwrap import fill
from typing import Any

from .. import ops
from ..nn.state import state_of
from ..symbolic.notation import ATOM, quoted
from ..symbolic.trace import Node, Part
from ..tensor import OPS
from .draft import WIDTH, Draft
from .loops import Loop
from .passes import LARGE
from .plan import LOOPS, Place
from .step import Step, cotangent_name, topological
from .text import RESHAPES, VIEWS, array_text, is_view

_INDENTED: Any = {"initial_indent": "    ", "subsequent_indent": "    "}


class Source(Draft):
    """The program of a step.

    Attributes
    ----------
    text : str
    constants : dict of str to array
        Arrays that the cell or the loss holds, by the name that the program gives them.
    arguments : list of str
        In the order of the parameters of the program: x, state, parameters, extras of the loss.
    """

    def __init__(self, step: Step, rewrites: Collection[str], title: str) -> None:
        super().__init__(step, rewrites)
        self.before: list[str] = []  # what stands before the program
        self._write()
        self.text = "\n".join([*self._header(title), *self.lines]) + "\n"

    def file(self) -> str:
        """The file that holds the program, if there is one."""
        return ""

    # -- The parts of the program, in order --

    def _write(self) -> None:
        self._begin()
        self._explain_sigmoid()
        self._straight(self.plan.of(Part.ONCE))
        self._heading("Forward")
        self._states()
        self._straight(self.plan.of(Part.BEFORE))
        Loop(self, Part.FORWARD).write()
        self._outputs()
        self._heading("Loss")
        self._loss()
        self._heading("Backward")
        self._straight(node for node in self.plan.of(Part.BETWEEN) if node.stepped)
        self._seeds()
        Loop(self, Part.BACKWARD).write()
        self._heading("Gradients")
        self._straight(self.plan.of(Part.AFTER))
        self._gradients()

    def _begin(self) -> None:
        """Name what the program is given."""
        step = self.step
        self.arguments = ["x"]
        self.firsts = [self.fresh(f"{s.name}{'_' * s.name[-1].isdigit()}0") for s in step.states]
        names = [self.variable(leaf, leaf.name or "p") for leaf in step.parameters.values()]
        for leaf, name in zip(step.parameters.values(), names, strict=True):  # T, say, is T_2, in comments as well
            leaf.name = name
        self.arguments += [*self.firsts, *names, *(self.variable(e) for e in step.extras)]
        self.arguments += ["loss_of"] if step.loss is None else []
        self.places[step.x] = Place("x", "x[t]")
        self.put("T = len(x)")

    def _explain_sigmoid(self) -> None:
        """Say why there is a tanh where the cell has σ."""
        if any(n.op == "add" and any(o.op == "sigmoid" for o in n.origins) for n in self.plan.order):
            said = "σ(z) = (1 + tanh(z / 2)) / 2: scale is 1/2 for a σ and 1 for a tanh, so that one call computes both"
            self.lines.append(f"    # {said}")

    def _heading(self, text: str) -> None:
        self.lines += ["", f"    # {text}"]

    def _header(self, title: str) -> list[str]:
        body = "\n".join(line.partition("#")[0] for line in self.lines)
        called = {op: name for op, name in self.functions.items() if re.search(rf"(?<![.\w]){name}\(", body)}
        ours = [op for op in called if getattr(ops, op, None) is OPS[op]]
        yours = [f"{name} = OPS[{quoted(op)}].forward" for op, name in called.items() if op not in ours]
        lines = ["import numpy as np"]
        lines += [f"from tinygrad_rnn.ops import {', '.join(ours)}"] if ours else []
        lines += ["from tinygrad_rnn import OPS", "", *yours] if yours else []
        lines += ["", ""]
        signature = f"def bptt({', '.join(self.arguments)}):"
        if len(signature) > WIDTH:
            signature = "def bptt(\n" + fill(", ".join(self.arguments) + ",", WIDTH, **_INDENTED) + "\n):"
        lines = [*lines[:-2], *self.before] if self.before else lines
        return [*lines, signature, f'    """Backpropagation through time of {title}."""']

    def _states(self) -> None:
        """An array for every state, with the one before the first step as its row 0."""
        for first, state in zip(self.firsts, self.step.states, strict=True):
            name = self.fresh(state.name)
            self.put(f"{name} = {array_text('empty', state.leaf, 'T + 1')}")
            self.put(f"{name}[0] = {first}")
            self.places[state.leaf] = Place(name, f"{name}[t]", f"{name}[:-1]")
            state.array = name

    def _outputs(self) -> None:
        """States that no step reads, for all steps at once."""
        for state in self.step.states:
            if self.plan.part[state.root] is Part.BETWEEN:
                before = topological([state.root])[:-1]
                self._straight(n for n in before if self.plan.part[n] is Part.BETWEEN)
                self.put(f"{state.array}[1:] = {self.text_of(state.root, 0, True)}", self.note(state.root))
                self.places[state.root] = Place(state.array, f"{state.array}[t + 1]", f"{state.array}[1:]")

    def _longest_within(self, node: Node) -> Node | None:
        """The nameless value that takes most of a line, if there is one to give a line of its own."""
        within = []
        for arg in node.args[0].args if node.op == "total" else node.args:
            while arg not in self.places and (is_view(arg) or arg.op in RESHAPES):
                (arg,) = arg.args
            within += [arg] if arg.args and arg not in self.places else []
        return max(within, key=lambda a: len(self.text_of(a, 0, True)), default=None)

    def _straight(self, nodes: Iterable[Node], always: bool = False) -> None:
        """What is computed outside of the loops."""
        own = {self.step.loss: "loss", self.step.back_outputs: "d_outputs"}
        for node in nodes:
            if node in self.places or not (always or self.kept(node)):
                continue
            text = self.total_text(node) if node.op == "total" else self.text_of(node, 0, True)
            if len(text) > WIDTH and (inner := self._longest_within(node)) is not None:
                self._straight([inner], True)
                self._straight([node], True)
                continue
            if node.stepped:
                self.put(f"{self.rows(node)} = {text}")
                continue
            multiplied = any(u.op == "matmul" and self.plan.part[u] in LOOPS for u in self.users[node])
            small = node.ndim == 2 and node.value.nbytes <= LARGE
            if multiplied and small and "contiguous" in self.rewrites and node.op != "concatenate":
                text = f"np.ascontiguousarray({text})"  # T products: BLAS likes rows in order, if they are few
            self.taken.discard(own.get(node, ""))
            name = self.variable(node, own.get(node, ""))
            self.put(f"{name} = {text}", self.note(node) if node.op == "total" else "")

    def _loss(self) -> None:
        """The loss and its cotangents, from the outputs and the last state."""
        step = self.step
        arrays = [s.array for s in step.states]
        if step.outputs is not None:
            self.places[step.outputs] = Place(arrays[0], f"{arrays[0]}[1:]", f"{arrays[0]}[1:]")
        for leaf, name in zip(step.last, arrays, strict=False):
            self.places[leaf] = Place(name, f"{name}[-1]", f"{name}[-1]")
        if step.loss is None:
            given = [self.variable(n) for n in (step.back_outputs, *(s.seed for s in step.states)) if n is not None]
            last = [f"{name}[-1]" for name in arrays]
            self.put(f"loss, {', '.join(given)} = loss_of({', '.join([f'{arrays[0]}[1:]', *last])})")
        self._straight(node for node in self.plan.of(Part.BETWEEN) if not node.stepped)
        for node in self.plan.order:
            if node.op == "at_t":
                name = self.text_of(node.args[0], ATOM)
                self.places[node] = Place(name, f"{name}[t]")

    def _seeds(self) -> None:
        """What the loss sends back to the last state."""
        for state in self.step.states:
            if state.back is None and not self.users.get(state.carry):
                continue
            name = cotangent_name(state.name)
            if any(n.name == name and n is not state.back and self._in_rows(n) for n in self.plan.order):
                back = [] if state.back is None else [state.back, *state.back.origins]
                for node in (state.carry, *back):  # what comes from the step after, beside dh at every step
                    node.name = f"{name}_next" if node.name == name else node.name
                name = f"{name}_next"
                self.notes.names.add(name)
            name = self.fresh(name)
            self.places[state.carry] = Place(name)
            if state.seed is None:
                self.put(f"{name} = {array_text('zeros', state.leaf)}")
            else:
                text = self.text_of(state.seed)
                if self.with_buffers and (state.seed.op != "broadcast_to" or text[:8] not in ("np.ones(", "np.full(")):
                    # The loop adds to it in place, and `np.dot` writes into it: a copy whose rows are in order.
                    text = f"np.array({text})" if state.seed.op == "constant" else f'np.array({text}, order="C")'
                self.put(f"{name} = {text}")

    # -- What is returned --

    def total_text(self, node: Node) -> str:
        """A sum over all steps of what is known for all of them."""
        (part,) = node.args
        if part.op == "matmul" and part not in self.places and part.args[0].ndim == 2:
            left, right = part.args
            if left.op == "transpose" and left not in self.places:
                a = self._flat(left.args[0], left.shape[0])
                b = (
                    self._flat(right, right.shape[1])
                    if right.ndim == 2
                    else f"{self.text_of(right, ATOM, True)}.reshape(-1)"
                )
                return f"{a}.T @ {b}"
        if part.op == "sum" and part not in self.places and not part.static["keepdims"]:
            axes = tuple(sorted({-1, *part.static["axis"]}))
            rest = f", axis={tuple(a + 1 for a in axes)}" if len(axes) <= part.args[0].ndim else ""
            return f"np.sum({self.text_of(part.args[0], 0, True)}{rest})"
        return f"np.sum({self.text_of(part, 0, True)}, axis=0)"

    def _flat(self, node: Node, width: int) -> str:
        """All rows of all steps as one matrix."""
        while node.op == "reshape" and node not in self.places and node.args[0].shape[-1:] == (width,):
            node = node.args[0]
        text = self.text_of(node, ATOM, True)
        return text if node.ndim == 1 else f"{text}.reshape(-1, {width})"

    def _gradients(self) -> None:
        """Sums over all steps, and everything that is returned, each in an array of its own."""
        step = self.step
        self._straight(self.plan.of(Part.END))
        given: set[str] = set()

        def own(node: Node, text: str) -> str:
            borrowed = not node.args or not node.ndim or node.op in ("at_t", *VIEWS, *RESHAPES)
            fresh = text.isidentifier() and text not in given and not borrowed
            given.add(text)
            return text if fresh else f"np.array({text})"

        entries = []
        for name, gradient in step.gradients.items():
            zeros = array_text("zeros", step.parameters[name])
            entries.append((name, zeros if gradient is None else own(gradient, self.text_of(gradient))))
        if step.back_x is not None:
            entries.append(("inputs", own(step.back_x, self.text_of(step.back_x, 0, True))))
        elif step.x.needs:
            entries.append(("inputs", "np.zeros_like(x)"))
        states = [
            own(s.back, self.places[s.carry].name) if s.back else array_text("zeros", s.leaf) for s in step.states
        ]
        entries.append(("state", _tuple(state_of(states, step.form))))
        if step.kept:
            entries.append(("steps", f"{{{', '.join([self._kept(name, *pair) for name, pair in step.kept.items()])}}}"))
        last = [f"np.array({s.array}[-1])" for s in step.states]
        self.put("gradients = {")
        self.lines += [f"        {quoted(name)}: {text}," for name, text in entries]
        self.put("}")
        returned = _tuple(state_of(last, step.form))
        self.put(f"return loss, gradients, {returned}")

    def _kept(self, name: str, value: Node | None, g: Node | None) -> str:
        """A state or another value after every step, and its cotangent."""
        arrays = {s.name: f"{s.array}[1:]" for s in self.step.states}
        after = arrays[name] if value is None else self.text_of(value, 0, True)
        return f"{quoted(name)}: ({after}, {f'np.zeros_like({after})' if g is None else self.text_of(g, 0, True)})"


def _tuple(texts: Any) -> str:
    return texts if isinstance(texts, str) else f"({', '.join(map(_tuple, texts))}{',' * (len(texts) == 1)})"
