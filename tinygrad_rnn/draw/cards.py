"""Cards: the picture of an expression of numbers, each with its value and its gradient, and a sign on every edge.

After this file the reader knows why a number that is used twice has a sum written below it: what comes back along its
edges adds up to its gradient, and for numbers that can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..graph.parts import Array, Edge, Graph, Node, grouped
from .geometry import Rect
from .marks import Anchor, Box, Mark, Text
from .scene import PlacedNode, Scene
from .style import MINUS, EdgeStyle, Heads, Look, Scale, clean, edge_style, number, short, text_width

MOST = 40
"""With more numbers than this, cards are too small to be read: the picture has boxes, and signs on the edges."""

TITLE, ROW, NUMBER = 14.0, 12.5, 15.0
"""Sizes of text: the head of a card, its rows, the number of an edge."""

_WIDTH, _HEIGHT, _PORTS, _SUM = 108.0, 68.0, 24.0, 40.0
_LONGEST = 18
_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def all_numbers(nodes: Sequence[Node]) -> bool:
    """Whether every tensor that is drawn is one number."""
    return all(node.value is not None and node.value.size == 1 and not node.members for node in nodes)


def digits(value: float, plus: bool = False) -> str:
    """A number as a learner writes it: ``−2``, ``0.707``, ``+1``, ``4.9e−5``."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'+' * plus if value > 0 else MINUS}inf"
    size = abs(value)
    whole = size == round(size) and size < 1e6
    text = f"{size:.0f}" if whole else f"{size:.3g}" if 0.001 <= size < 999.5 else number(size)
    return (MINUS if value < 0 else "+" if plus and value > 0 else "") + text


def titles(graph: Graph, drawn: Sequence[Edge]) -> dict[int, str]:
    """What stands at the head of each card: a name, a formula, or both: ``e = a × b``."""
    operands = grouped(drawn, "target")
    terms: dict[int, tuple[str, str]] = {}  # what others call it, and the symbol that joins it
    found: dict[int, str] = {}
    for node in graph.nodes:
        name = clean(str(short(node.name)), 12) if node.name else ""
        if node.id not in operands:
            found[node.id] = name or (digits(_only(node.value)) if node.kind == "constant" else "number")
            terms[node.id] = found[node.id], ""
            continue
        symbol = clean(node.symbol or node.op or "", 14)
        parts = [terms[edge.source] for edge in operands[node.id]]
        formula = _formula(symbol, parts)
        if len(formula) > _LONGEST - len(name):
            formula = _formula(symbol, [(text if len(text) < 4 else "…", "") for text, _ in parts])
        found[node.id] = f"{name} = {formula}" if name else formula
        terms[node.id] = (name, "") if name else (formula, symbol if len(operands[node.id]) == 2 else "")
    return found


def _formula(symbol: str, operands: Sequence[tuple[str, str]]) -> str:
    """An operation on terms, each with the symbol that joins it; a sum in a product has parentheses."""
    if len(operands) == 2 and len(symbol) == 1:
        loose = {"+": "", MINUS: f"+{MINUS}"}.get(symbol, f"+{MINUS}×/")
        return f" {symbol} ".join(f"({text})" if joined and joined in loose else text for text, joined in operands)
    return f"{symbol}({', '.join(text for text, _ in operands)})"


def _only(array: Array | None) -> float:
    """The one element of an array."""
    return math.nan if array is None else float(array.reshape(-1)[0])


def card(node: Node, title: str, uses: Sequence[float]) -> Look:
    """The shape of a card; `uses` are the numbers that come back along its edges, whose sum stands below it."""
    role = "value" if node.kind == "op" else node.kind
    if node.kind == "constant" and not node.name:
        return Look(role, "card", max(40.0, text_width(title, TITLE) + 20.0), 30.0, title, fontsize=TITLE)
    rows = [text_width(f"gradient {digits(_only(a))}", ROW) * 1.06 + 24.0 for a in (node.value, node.gradient)]
    width = math.ceil(max(_WIDTH, text_width(title, TITLE) * 1.06 + 20.0, *rows))
    if node.gradient is None:
        return Look(role, "card", width, _HEIGHT - 19.0, title, fontsize=TITLE)
    return Look(role, "card", width, _HEIGHT, title, _sum(uses, node) if len(uses) > 1 else "", TITLE)


def _sum(uses: Sequence[float], node: Node) -> str:
    """``+1 − 2 = −1``, of many the first three."""
    words = [digits(uses[0], True)] + [f"{MINUS if use < 0 else '+'} {digits(abs(use))}" for use in uses[1:]]
    if len(words) > 5:
        words[3:] = ["+ …"]
    return f"{' '.join(words)} = {digits(_only(node.gradient))}"


def room(look: Look) -> tuple[float, float]:
    """Width and height that a card takes, with its sum."""
    below = look.small and text_width(look.small, TITLE) * 1.06
    return (max(look.width, below), look.height + 2 * _SUM) if below else (look.width, look.height)


def number_room(edge: Edge) -> float:
    """The room that the number of an edge needs, with a margin; 0 without one."""
    return 0.0 if edge.signed is None else text_width(digits(edge.signed, True), NUMBER) * 1.06 + 8.0


def looks(graph: Graph, nodes: Sequence[Node], drawn: Sequence[Edge]) -> dict[int, Look]:
    """A card for each node."""
    heads, uses = titles(graph, drawn), grouped([e for e in drawn if e.signed is not None], "source")
    return {n.id: card(n, heads[n.id], [e.signed or 0.0 for e in uses.get(n.id, ())]) for n in nodes}


def style(edge: Edge, largest: float, heads: Heads) -> EdgeStyle:
    """Colour by sign, width by size; the states that say it all look as everywhere."""
    plain = edge_style(edge.size(), edge.state, Scale(), heads)
    if edge.state != "finite" or edge.signed is None:
        return plain
    colour = "positive" if edge.signed > 0 else "negative"
    width = 1.6 + 3.6 * math.sqrt(abs(edge.signed) / largest) if 0 < largest < math.inf else 1.6
    return EdgeStyle(colour, round(width, 2), "solid", digits(edge.signed, plus=True), plain.head, bold=True)


def paint_card(placed: PlacedNode, uses: int) -> list[Mark]:
    """A card: its head, its value, its gradient, and the sum of what comes back along several edges."""
    node, look, rect = placed.node, placed.look, placed.rect
    (x, y), line_of = placed.centre, f"line {look.role}"
    marks: list[Mark] = [Box(rect, f"fill {look.role}", line_of, radius=8.0)]
    if look.height <= 30.0:
        return [*marks, Text((x, y), look.big, TITLE, colour="muted")]
    marks.append(Text((x, rect.top - 14.0), look.big, TITLE, bold=True))
    marks.append(Box(Rect(rect.left, rect.top - 27.0, rect.right, rect.top - 26.2), line_of))
    rows = [("value", node.value)] + [("gradient", node.gradient)] * (node.gradient is not None)
    for k, (word, array) in enumerate(rows):
        height = rect.top - 38.0 - 19.0 * k
        marks.append(Text((rect.left + 9.0, height), word, ROW, colour="muted", anchor="start"))
        marks.append(Text((rect.right - 9.0, height), digits(_only(array)), ROW, bold=k == 1, anchor="end"))
    return marks + _sum_below(placed, uses) if look.small else marks


def _sum_below(placed: PlacedNode, uses: int) -> list[Mark]:
    """The sum; of a leaf it ends with the card, since its edges are at the right."""
    anchor: Anchor = "end" if placed.node.op is None else "middle"
    x = placed.rect.right if placed.node.op is None else placed.centre[0]
    words, y = f"{_WORDS.get(uses, uses)} uses add up", placed.rect.bottom - 30.0
    return [
        Text((x, y + 16.0), placed.look.small, TITLE, bold=True, anchor=anchor),
        Text((x, y), words, 11.0, colour="muted", anchor=anchor),
    ]


def samples_of(scene: Scene, heads: Heads) -> list[tuple[str, EdgeStyle | None]]:
    """What the legend says of signs: those that occur, in words."""
    loss = next((clean(p.node.name, 12) for p in scene.nodes if p.node.kind == "loss" and p.node.name), "the loss")
    signs = {edge.edge.signed > 0 for edge in scene.edges if edge.edge.signed and edge.edge.state == "finite"}
    found: list[tuple[str, EdgeStyle | None]] = []
    for positive, verb in ((True, "raises"), (False, "lowers")):
        if positive in signs:
            kind = "positive" if positive else "negative"
            look = EdgeStyle(kind, 3.4, "solid", "", "back" if heads == "gradient" else "forward")
            found.append((f"{kind}: a little more {verb} {loss}", look))
    return [*found, ("thicker = larger", None)] if signs else found
