"""The equation beside each line: what it was before it was rewritten, in the names that the program has."""

from __future__ import annotations

from collections.abc import Collection

from ..symbolic.notation import in_brackets, math_text
from ..symbolic.trace import Node
from .step import Step

LONGEST = 90


class Notes:
    """Equations of nodes as they were traced; each is given once.

    Parameters
    ----------
    step : Step
    names : collection of str
        Of the values that the program computes. Any other is written out, since a reader would look for it in vain.
    """

    def __init__(self, step: Step, names: Collection[str]) -> None:
        self.names, self.given = set(names), set[str]()
        self.roots = {origin: s.name for s in step.states for origin in s.root.origins}
        self.texts: dict[Node, tuple[str, int]] = {}

    def of(self, node: Node) -> str:
        """The equations that a named value comes from, or "" if they were given before or are too long."""
        self.texts = {}  # each value of one equation is put into words once: written out, a shared one doubles the text
        note = "; ".join(f"{self._label(n)} = {self._math(n)}" for n in node.origins if n.name and n.args)
        if len(note) > LONGEST or note in self.given:
            return ""
        self.given.add(note)
        self.names.update(n.name for n in node.origins)
        return note

    def _label(self, node: Node) -> str:
        return f"{self.roots[node]}'" if node in self.roots else node.name

    def _math(self, node: Node) -> str:
        return math_text(node, self._write)[0]

    def _write(self, node: object, level: int) -> str:
        if not isinstance(node, Node):
            return "const"
        if node in self.roots or (node.name in self.names and node.name and node.op != "number"):
            return self._label(node)
        if not node.args and node.op != "number":
            return node.name or (f"{node.value:g}" if not node.shape else "const")
        if node.op == "at_t":
            return "dL/dh"
        if node.op in ("reshape", "broadcast_to", "cast", "detach"):
            return self._write(node.args[0], level)
        if node not in self.texts:
            text, own = math_text(node, self._write)
            self.texts[node] = text[: LONGEST + 1], own  # what is too long stays too long
        text, own = self.texts[node]
        return in_brackets(text, own, level)
