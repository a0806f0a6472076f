"""The source: a step and its plan, written as the NumPy program that a person would have written.

After this file the reader knows how equations become lines. A value that is needed after its loop gets an array with
one row per step (`name[t]`), any other a plain variable; what is used once is written where it is used.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable
from textwrap import fill
from typing import Any

import numpy as np

from .. import ops
from ..tensor import OPS
from .loops import LOOPS, Loop
from .names import hint
from .notes import Notes
from .plan import Place, Plan
from .step import Step, cotangent_name, state_of, topological, unused, users_of
from .text import (
    ATOM,
    OURS,
    RESHAPES,
    UFUNCS,
    VIEWS,
    all_text,
    array_text,
    for_all_steps,
    identifier,
    in_brackets,
    is_view,
    number_level,
    step_text,
    value_text,
)
from .trace import Node, Part

WIDTH = 100
_INDENTED: Any = {"initial_indent": "    ", "subsequent_indent": "    "}


class Source:
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
        self.step, self.plan, self.title = step, Plan(step, rewrites), title
        self.rewrites, self.with_buffers = rewrites, "buffers" in rewrites
        self.users = users_of(self.plan.order)
        self.places: dict[Node, Place] = {}
        self.taken = {identifier(n.op) for n in self.plan.order if n.op in OPS and n.op not in UFUNCS}
        self.taken |= {"np", "T", "t", "loss", "gradients", "loss_of", "OPS", *OURS, *keyword.kwlist}
        self.constants: dict[str, Any] = {}
        self.lines: list[str] = []
        self.indent = 1
        self.roots = {s.root for s in step.states}
        self.backs = {s.back for s in step.states if s.back is not None}
        self.results = self.roots | self.backs
        self.named = {step.loss, step.back_outputs, *step.gradients.values()}
        self.notes = Notes(step, {n.name for n in self.plan.order})
        self._write()
        self.text = "\n".join([*self._header(), *self.lines]) + "\n"

    # -- Names and texts --

    def fresh(self, hint: str) -> str:
        """A name that is not taken yet."""
        return unused(self.taken, hint)

    def variable(self, node: Node, name: str = "") -> str:
        """Give a node a variable of its own, the same at every step."""
        name = self.fresh(name or hint(self, node))
        self.places[node] = Place(name)
        return name

    def rows(self, node: Node) -> str:
        """Give a node an array with one row per step."""
        name = self.fresh(hint(self, node))
        self.places[node] = Place(name, f"{name}[t]")
        return name

    def text_of(self, node: Any, level: int = 0, all_steps: bool = False) -> str:
        """A node, or an array among the static parameters, as it is written in an expression."""
        if isinstance(node, np.ndarray):
            return self._constant(node, "index" if node.dtype.kind in "iu" else "mask")
        place = self.places.get(node)
        if place is not None:
            return place.all if all_steps else place.step
        if node.op == "number":
            text = value_text(node.value)
            return in_brackets(text, number_level(text), level)
        if node.op == "constant":
            if not node.shape:
                return value_text(node.value[()])
            return self._constant(node.value, node.name or "constant")
        if all_steps and node.stepped:
            text, own = all_text(node, lambda x, n: self.text_of(x, n, True))
        else:
            text, own = step_text(node, lambda x, n: self.text_of(x, n))
        return in_brackets(text, own, level)

    def _constant(self, array: Any, hint: str) -> str:
        """The name of an array that the cell or the loss holds."""
        for name, known in self.constants.items():
            if known is array:
                return name
        name = self.fresh(hint)
        self.constants[name] = array
        return name

    def note(self, node: Node) -> str:
        """The equation that a line comes from; that of the first of several lines, if it takes several."""
        part = self.plan.part[node]
        while not node.name:
            readers = [u for u in self.readers(node) if self.plan.part[u] is part and u.op != "total"]
            if len(readers) != 1:
                return ""
            node = readers[0]
        return self.notes.of(node)

    def put(self, text: str, note: str = "") -> None:
        """One line of the program, and the equation it comes from."""
        text = "    " * self.indent + text
        if note.replace("×", "*").replace("−", "-") == text.strip().replace("[t]", ""):
            note = ""
        if note and len(text) + len(note) > WIDTH:
            self.lines.append("    " * self.indent + "# " + note)
            note = ""
        self.lines.append(f"{text}  # {note}" if note else text)

    # -- The parts of the program, in order --

    def _write(self) -> None:
        step = self.step
        self.arguments = [self.variable(step.x, "x")]
        self.firsts = [self.fresh(f"{s.name}{'_' * s.name[-1].isdigit()}0") for s in step.states]
        names = [self.variable(leaf, name.replace(".", "_")) for name, leaf in step.parameters.items()]
        for leaf, name in zip(step.parameters.values(), names, strict=True):  # T, say, is T_2, in comments as well
            leaf.name = name
        self.arguments += [*self.firsts, *names, *(self.variable(e) for e in step.extras)]
        self.arguments += ["loss_of"] if step.loss is None else []
        self.places[step.x] = Place("x", "x[t]")
        self.put("T = len(x)")
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

    def _explain_sigmoid(self) -> None:
        """Say why there is a tanh where the cell has σ."""
        used = {n.op for n in self.plan.order}
        if "sigmoid" not in used and any(o.op == "sigmoid" for n in self.plan.order for o in n.origins):
            scaled = any(n.name == "scale" for n in self.plan.order)
            more = ": scale is 1/2 for a σ and 1 for a tanh, so that one call computes both" if scaled else ""
            self.lines.append(f"    # σ(z) = (1 + tanh(z / 2)) / 2{more}")

    def _heading(self, text: str) -> None:
        self.lines += ["", f"    # {text}"]

    def _header(self) -> list[str]:
        body = "\n".join(line.partition("#")[0] for line in self.lines)
        called = {n.op for n in self.plan.order if re.search(rf"(?<![.\w]){identifier(n.op)}\(", body)}
        ours = sorted(name for name in called if name in OPS and getattr(ops, name, None) is OPS[name])
        yours = sorted(name for name in called.difference(ours) if name in OPS)
        lines = ["import numpy as np"]
        lines += [f"from tinygrad_rnn.ops import {', '.join(ours)}"] if ours else []
        lines += ["from tinygrad_rnn import OPS", ""] if yours else []
        lines += [f"{identifier(name)} = OPS[{name!r}].forward" for name in yours]
        lines += ["", ""]
        signature = f"def bptt({', '.join(self.arguments)}):"
        if len(signature) > WIDTH:
            signature = "def bptt(\n" + fill(", ".join(self.arguments) + ",", WIDTH, **_INDENTED) + "\n):"
        return [*lines, signature, f'    """{self.title}"""']

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

    def kept(self, node: Node) -> bool:
        """Whether a node gets a place of its own rather than being written where it is used."""
        part, users = self.plan.part[node], self.readers(node)
        if node.op == "total":
            return True
        if node.op == "at_t" or (node.op == "broadcast_to" and node.args[0].op in ("number", "constant")):
            return False
        if node in self.results or (node is self.step.back_x and part in LOOPS):
            return True
        if part is Part.END or (part is Part.BETWEEN and not node.stepped):
            return node in self.named or len(self.users[node]) > 1 or (part is Part.END and bool(node.name))
        in_loops = any(self.plan.part[u] in LOOPS for u in users)
        if is_view(node):
            read = in_loops or bool(node.name)
            return part not in LOOPS and read and (part is Part.ONCE or self.with_buffers)
        if self.buffered(node) or (node.op == "concatenate" and self.with_buffers and (in_loops or part is Part.ONCE)):
            return True
        if part in LOOPS:
            return len(users) > 1 or bool(node.name) or self.outlives(node)
        return not users or len(users) > 1 or in_loops or bool(node.name)

    def readers(self, node: Node) -> list[Node]:
        """Who needs a node, itself or as a view of it that is written where it is used."""
        found: list[Node] = []
        for user in self.users[node]:
            seen_through = is_view(user) and self.plan.part[user] in LOOPS and user not in self.results
            found += self.readers(user) if seen_through else [user]
        return found

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
            if multiplied and self.with_buffers and node.ndim == 2 and node.op != "concatenate":
                text = f"np.ascontiguousarray({text})"  # T products: BLAS likes rows in order
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
                copied = self.with_buffers and not text.startswith(("np.ones(", "np.full("))
                self.put(f"{name} = np.array({text})" if copied else f"{name} = {text}")

    # -- What the loops ask --

    def in_loop(self, total: Node) -> bool:
        """Whether a sum over all steps is accumulated in the loop, not computed after it."""
        (part,) = total.args
        if self.plan.part[part] is not Part.BACKWARD:
            return False
        return "batch_weights" not in self.rewrites or not for_all_steps(part)

    def _in_rows(self, node: Node) -> bool:
        """Whether a value of the loop backwards has an array with one row per step."""
        return self.plan.part[node] is Part.BACKWARD and bool(node.args) and self.kept(node) and self.outlives(node)

    def outlives(self, node: Node) -> bool:
        """Whether a value of a loop is needed after it."""
        later = [u for u in self.readers(node) if self.plan.part[u] is not self.plan.part[node]]
        return node is self.step.back_x or not all(u.op == "total" and self.in_loop(u) for u in later)

    def buffered(self, node: Node) -> bool:
        """Whether a value of a loop is computed by one call into a place that stands before it (``out=``)."""
        simple = node.op in UFUNCS or node.op == "relu" or (node.op == "matmul" and max(a.ndim for a in node.args) < 3)
        return self.with_buffers and simple and node.ndim > 0 and self.plan.part[node] in LOOPS

    # -- What is returned --

    def total_text(self, node: Node) -> str:
        """A sum over all steps of what is known for all of them."""
        (part,) = node.args
        if part.op == "matmul" and part not in self.places and part.args[0].ndim == 2 > part.args[1].ndim - 1:
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
        last = [f"np.array({s.array}[-1])" for s in step.states]
        self.put("gradients = {")
        self.lines += [f'        "{name}": {text},' for name, text in entries]
        self.put("}")
        returned = _tuple(state_of(last, step.form))
        self.put(f"return loss, gradients, {returned}")


def _tuple(texts: Any) -> str:
    return texts if isinstance(texts, str) else f"({', '.join(map(_tuple, texts))}{',' * (len(texts) == 1)})"
