"""The two loops of a program, with a variable or a buffer for whatever they compute.

After this file the reader knows how memory is used again and again without a value being overwritten that is still
needed: every statement knows which later one reads its result last, and from then on its place is free.
"""

from __future__ import annotations

import re

from ..symbolic.notation import SUM, step_text
from ..symbolic.trace import Node, Part
from .draft import Draft
from .names import hint
from .plan import Place
from .rewrites import spans
from .step import State, topological, unused
from .text import FRESH, array_text, is_elementwise, is_view, seen_through

_IN_PLACE = {"add": "+=", "subtract": "-=", "multiply": "*=", "divide": "/="}
_COMMUTE = {"add", "multiply"}


class Loop:
    """One loop: its statements, and which places are free at each of them.

    Parameters
    ----------
    source : Draft
        Where places are recorded and lines are put.
    part : Part
        FORWARD or BACKWARD.
    """

    def __init__(self, source: Draft, part: Part) -> None:
        self.source, self.part, self.step = source, part, source.step
        self.nodes = [n for n in source.plan.of(part) if source.kept(n)]
        if part is Part.BACKWARD:
            # What goes on to the next step overwrites what came from the last one, so it comes when that was used.
            self.nodes.sort(key=lambda n: n in source.backs and all(u.op == "total" for u in source.users[n]))
        self.nodes = self._late(self.nodes)
        self.index = {n: i for i, n in enumerate(self.nodes)}
        self.sums = [n for n in source.plan.order if n.op == "total" and source.in_loop(n) and part is Part.BACKWARD]
        self.last = self._last_reads()
        self.holds: dict[str, Node] = {}  # what a variable or a buffer holds
        self.buffers: dict[str, Node] = {}  # a node of the shape and dtype of each buffer
        self.before: list[str] = []  # arrays that stand before the loop, and parts of them from left to right
        self.parts: dict[str, tuple[tuple[int, str, int], str]] = {}
        self.pieces: dict[Node, list[tuple[str, Node]]] = {}  # what must be copied into joined arrays
        for state in self.carried():
            name = source.places[state.carry].name
            self.holds[name] = state.carry
            if source.with_buffers:
                self.buffers[name] = state.carry

    def _late(self, nodes: list[Node]) -> list[Node]:
        """Nameless values that are read once just before they are: a line of mathematics is a few lines together."""
        within = set(nodes)

        def waits(node: Node) -> bool:
            readers = self.source.readers(node)
            return not node.name and node not in self.source.results and len(readers) == 1 and readers[0] in within

        return [n for n in topological(n for n in nodes if not waits(n)) if n in within]

    def carried(self) -> list[State]:
        """The states whose cotangent this loop carries."""
        if self.part is Part.FORWARD:
            return []
        return [s for s in self.step.states if s.carry in self.source.places]

    def write(self) -> None:
        """Put all lines of the loop, the arrays that it needs before it."""
        source = self.source
        for node in self.sums:
            name = source.variable(node)
            source.put(f"{name} = {array_text('zeros', node)}")
        rows = [n for n in self.nodes if source.outlives(n) and n not in source.roots]
        joined = [n for n in self.nodes if n.op == "concatenate" and n not in source.results and source.with_buffers]
        for state in self.step.states:
            if state.root in self.index and self.part is Part.FORWARD:
                row = Place(state.array, f"{state.array}[t + 1]", f"{state.array}[1:]")
                source.places.setdefault(state.root, row)
        for node in joined:
            self._tile(node, not {node, *node.args}.isdisjoint(rows))
        for node in rows:
            if node not in source.places:
                source.put(f"{source.rows(node)} = {array_text('empty', node, 'T')}")
        kept, source.lines = source.lines, []
        source.indent += 1
        for i, node in enumerate(self.nodes):
            self._statement(i, node)
        for node in self.sums:
            source.put(f"{source.places[node].name} += {source.text_of(node.args[0])}", source.note(node))
        self._hand_on()
        if not source.lines:
            source.put("pass")
        source.indent -= 1
        body, source.lines = source.lines, kept
        for line in [*self.before, *(line for _, line in sorted(self.parts.values()))]:
            source.put(line)
        source.put("for t in range(T):" if self.part is Part.FORWARD else "for t in reversed(range(T)):")
        source.lines += body

    # -- Who reads what last --

    def _last_reads(self) -> dict[Node, int]:
        """The number of the last statement that reads each node; as many as there are if it is needed after them."""
        source, last = self.source, dict[Node, int]()

        def read(node: Node, i: int) -> None:
            waiting = [node]
            while waiting:
                node = waiting.pop()
                last[node] = max(last.get(node, -1), i)
                if node not in source.places and node not in self.index:
                    waiting += node.args

        for i, node in enumerate(self.nodes):
            for arg in node.args:
                read(arg, i)
        for state in self.step.states:
            result = state.back if self.part is Part.BACKWARD else state.root
            if result is not None:
                read(result, len(self.nodes))
        for node in self.sums:
            read(node.args[0], len(self.nodes))
        for node in reversed(self.nodes):  # a variable may be a view of what it was made of, which must outlast it
            if source.with_buffers and node.op not in FRESH:
                for arg in node.args:
                    read(arg, last.get(node, -1))
        return last

    def _free(self, name: str, i: int, also_now: bool) -> bool:
        """Whether nobody reads what a place holds after statement i, or in it unless it may be read then."""
        holder = self.holds.get(name)
        return holder is None or self.last.get(holder, -1) < i + also_now

    # -- Statements --

    def _statement(self, i: int, node: Node) -> None:
        source = self.source
        if node in self.pieces:
            for target, part in self.pieces[node]:
                source.put(f"{target} = {source.text_of(part)}", source.note(part))
            return
        if node not in source.places:
            source.places[node] = self._place(i, node)
        target = source.places[node].step
        if source.buffered(node):
            source.put(self._compute(node, target), source.note(node))
        else:
            text = step_text(node, lambda x, n: source.text_of(x, n))[0]
            whole = target == source.places[node].name and target in self.buffers
            source.put(f"{target}{'[...]' if whole else ''} = {text}", source.note(node))

    def _place(self, i: int, node: Node) -> Place:
        """Where statement i puts its result: in the place of its heir, in one that falls free, or in a new one."""
        source, wish, buffered = self.source, node, self.source.buffered(node)
        while buffered and (heir := self._heir(wish)) is not None:
            wish = heir
            if heir in source.places:
                place = source.places[heir]
                return Place(place.step, cut=place.cut)

        def serves(name: str) -> bool:
            """Whether a place that exists is of the right kind, and nobody needs any longer what it holds."""
            if name not in self.buffers:
                return not buffered and self._free(name, i, True)
            return self.buffers[name].form == node.form and self._free(name, i, is_elementwise(node) or not buffered)

        carried = next((source.places[s.carry].name for s in self.carried() if s.back is wish), "")
        if carried in self.buffers and serves(carried):
            name = carried
        else:
            reusable = {n for n in self.holds if buffered is (n in self.buffers) and serves(n)}
            stem = node.name or "buffer" if buffered else carried or hint(source.plan, node)
            held = source.taken - reusable
            name = wish.name if buffered and wish.name and wish.name not in held else unused(held, stem)
            if buffered and name not in self.buffers:
                self.buffers[name] = node
                self.before.append(f"{name} = {array_text('empty', node)}")
        source.taken.add(name)
        self.holds[name] = node
        return Place(name)

    def _heir(self, node: Node) -> Node | None:
        """Whoever alone reads a nameless value, and makes one of the same form of it: its place may serve both."""
        readers = self.source.readers(node)
        if node.name or len(readers) != 1 or node in self.source.results:
            return None
        (reader,) = readers
        if reader not in self.index or not is_elementwise(reader) or not self.source.buffered(reader):
            return None
        alike = [a for a in reader.args if a in self.index and not a.name and len(self.source.readers(a)) == 1]
        alike = [a for a in alike if a.form == reader.form]
        return reader if alike and alike[0] is node else None

    def _compute(self, node: Node, target: str) -> str:
        """One call that computes a node into a place."""
        source = self.source
        for arg in node.args:
            self._view(arg)
        texts = [source.text_of(a) for a in node.args]
        sign = _IN_PLACE.get(node.op)
        if sign and texts[0] == target:
            return f"{target} {sign} {source.text_of(node.args[1], SUM)}"
        if sign and node.op in _COMMUTE and texts[1] == target:
            return f"{target} {sign} {source.text_of(node.args[0], SUM)}"
        if node.op == "relu":
            texts.append("0.0")
        name = {"relu": "maximum", "matmul": "matmul" if source.places[node].cut else "dot"}.get(node.op, node.op)
        return f"np.{name}({', '.join(texts)}, out={target})"

    def _view(self, node: Node) -> None:
        """Name a part of an array of rows or of a buffer once, before the loop."""
        source = self.source
        if node in source.places or not is_view(node) or source.plan.part[node] is not self.part:
            return
        (base,) = node.args
        self._view(base)
        place = source.places.get(base)
        if place is None or (place.name in self.holds and place.name not in self.buffers):
            return
        if place.step == place.name and place.name not in self.buffers and not place.cut:
            return
        text = source.text_of(node, 0, place.step != place.name)
        name = source.fresh(hint(source.plan, node))
        cut = re.fullmatch(r"(.+)\[.*?(\d+):\d+\]", text)
        depth = self.parts[place.name][0][0] + 1 if place.name in self.parts else 0  # a part of a part comes after it
        self.parts[name] = (depth, *((cut[1], int(cut[2])) if cut else (text, 0))), f"{name} = {text}"
        source.places[node] = _part_of(place, name)

    # -- Joined arrays --

    def _tile(self, node: Node, rows: bool) -> None:
        """Let the parts of a joined array be computed in their places in it."""
        source = self.source
        name = source.rows(node) if rows else source.variable(node)
        source.put(f"{name} = {array_text('empty', node, 'T' * rows)}")
        if not rows:
            self.buffers[name] = self.holds[name] = node
            self.last[node] = len(self.nodes)
        self.pieces[node] = []
        whole, axis = source.places[node], node.static["axis"]
        for part, at, stop in spans(node.args, axis):
            cut = ", ".join([*(":" * axis), f"{at}:{stop}"])
            index = f"..., {at}:{stop}" if axis == part.ndim - 1 else f":, {cut}" if rows else cut
            if part.op == "constant":
                source.put(f"{whole.name}[{index}] = {source.text_of(part)}")
            elif self._may_stand_in(part, node, rows):
                name = source.fresh(part.name or f"{whole.name}_part")
                source.put(f"{name} = {whole.name}[{index}]")
                source.places[part] = _part_of(whole, name)
            else:
                self.pieces[node].append((f"{whole.name}[{'t, ' if rows else ''}{cut}]", part))

    def _may_stand_in(self, part: Node, whole: Node, rows: bool) -> bool:
        """Whether a part has no other place, and needs none that lasts longer."""
        source = self.source
        free = part in self.index and part not in source.places and part not in source.results
        return free and source.buffered(part) and part.dtype == whole.dtype and (rows or not source.outlives(part))

    # -- The end of a step --

    def _hand_on(self) -> None:
        """The state, or its cotangents, where they are not yet where the next step looks for them."""
        source = self.source
        if self.part is Part.FORWARD:
            for state in self.step.states:
                place = source.places.get(state.root)
                if source.plan.part[state.root] is Part.BETWEEN:
                    continue
                if state.root is state.leaf or place is None or place.step != f"{state.array}[t + 1]":
                    source.put(f"{state.array}[t + 1] = {source.text_of(state.root)}")
            return
        moves, overwritten = [], {source.places[state.carry].name for state in self.carried()}
        for state in self.carried():
            name = source.places[state.carry].name
            text = source.text_of(state.back) if state.back else f"np.zeros_like({name})"
            if text != name:
                held = source.places.get(seen_through(state.back)) if state.back else None
                if held is not None and held.name in overwritten and source.with_buffers:
                    source.put(f"{name}_next = np.array({text})")  # before it is overwritten itself
                    text = f"{name}_next"
                moves.append((name, text))
        if not source.with_buffers and moves:
            source.put(f"{', '.join(n for n, _ in moves)} = {', '.join(t for _, t in moves)}")
        for name, text in moves if source.with_buffers else []:
            source.put(f"{name}[...] = {text}")


def _part_of(place: Place, name: str) -> Place:
    """The place of a view, which has a row per step if what it is a view of has."""
    return Place(name, name if place.step == place.name else f"{name}[t]", cut=True)
