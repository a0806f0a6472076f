"""What a program is while it is written: lines, names that are taken, and a place for every value.

After this file the reader knows when a value gets a place of its own: if it is used twice, if the cell gave it a name,
or if a loop needs it later.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Collection
from typing import Any

import numpy as np

from .. import ops
from ..files import printable
from ..symbolic.notation import UFUNCS, in_brackets, number_level, step_text, value_text
from ..symbolic.trace import Node, Part
from ..symbolic.values import identifier
from ..tensor import OPS
from .names import hint
from .notes import Notes
from .plan import LOOPS, Place, Plan
from .step import Step, unused
from .text import OURS, all_text, for_all_steps, is_view, seen_through

WIDTH = 100
RESERVED = {*keyword.kwlist, *dir(builtins), "np", "T", "t", "x", "loss", "gradients", "loss_of", "bptt", "OPS"}


class Draft:
    """A program that is being written.

    Parameters
    ----------
    step : Step
    rewrites : collection of str
    """

    def __init__(self, step: Step, rewrites: Collection[str]) -> None:
        self.step, self.plan = step, Plan(step, rewrites)
        self.rewrites, self.with_buffers = rewrites, "buffers" in rewrites
        self.users, self.places = self.plan.users, self.plan.places
        self.taken = RESERVED | OURS
        self.functions = {  # of primitives that NumPy does not have: ours by their own names
            op: op if getattr(ops, op, None) is OPS[op] else self.fresh(identifier(op, "own"))
            for op in sorted({n.op for n in self.plan.order if n.op in OPS and n.op not in UFUNCS})
        }
        self.taken |= {*self.functions.values()}
        self.constants: dict[str, Any] = {}
        self.lines: list[str] = []
        self.indent = 1
        self.roots = {s.root for s in step.states}
        self.backs = {s.back for s in step.states if s.back is not None}
        self.results = self.roots | self.backs
        self.named = {step.loss, step.back_outputs, *step.gradients.values()}
        self.asked = {seen_through(value) for value, _ in step.kept.values() if value is not None}
        self.notes = Notes(step, {n.name for n in self.plan.order})

    # -- Names and texts --

    def fresh(self, hint: str) -> str:
        """A name that is not taken yet."""
        return unused(self.taken, hint)

    def variable(self, node: Node, name: str = "") -> str:
        """Give a node a variable of its own, the same at every step."""
        name = self.fresh(name or hint(self.plan, node))
        self.places[node] = Place(name)
        return name

    def rows(self, node: Node) -> str:
        """Give a node an array with one row per step."""
        name = self.fresh(hint(self.plan, node))
        self.places[node] = Place(name, f"{name}[t]")
        return name

    def text_of(self, node: Any, level: int = 0, all_steps: bool = False) -> str:
        """A node, or what stands among the static parameters, or a primitive, as it is written in an expression."""
        if isinstance(node, str):
            return self.functions[node]
        if not isinstance(node, Node):
            kind = node.dtype.kind if isinstance(node, np.ndarray) else ""
            return self._constant(node, {"i": "index", "u": "index", "": "constant"}.get(kind, "mask"))
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
        text, note = "    " * self.indent + text, printable(note)
        if note.replace("×", "*").replace("−", "-") == text.strip().replace("[t]", ""):
            note = ""
        if note and len(text) + len(note) > WIDTH:
            self.lines.append("    " * self.indent + "# " + note)
            note = ""
        self.lines.append(f"{text}  # {note}" if note else text)

    # -- Who needs a value, and when --

    def kept(self, node: Node) -> bool:
        """Whether a node gets a place of its own rather than being written where it is used."""
        part, users = self.plan.part[node], self.readers(node)
        if node.op == "total":
            return True
        if node.op == "at_t" or (node.op == "broadcast_to" and node.args[0].op in ("number", "constant")):
            return False
        if node in self.results or ((node is self.step.back_x or node.op == "kept") and part in LOOPS):
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
        given = node is self.step.back_x or node.op == "kept" or node in self.asked
        return given or not all(u.op == "total" and self.in_loop(u) for u in later)

    def buffered(self, node: Node) -> bool:
        """Whether a value of a loop is computed by one call into a place that stands before it (``out=``)."""
        simple = node.op in UFUNCS or node.op == "relu" or (node.op == "matmul" and max(a.ndim for a in node.args) < 3)
        return self.with_buffers and simple and node.ndim > 0 and self.plan.part[node] in LOOPS
