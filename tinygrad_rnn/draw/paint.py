"""From placed graphs to marks: what stands on a picture besides the graph.

After this file the reader knows that each number is the norm of that edge's own contribution, that each step tells the
gradient of its states, and that the legend shows the kinds of edge that occur, by the very function that styles them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from ..graph.parts import Edge, Node
from ..graph.steps import step_number
from ..norms import Norm, State, norm_of, range_of
from . import cards
from .geometry import Rect
from .marks import SCALE, Box, Drawing, Group, Mark, Text, Way
from .scene import Frame, PlacedEdge, PlacedNode, Scene
from .style import (
    CLASSES,
    LABEL_SIZE,
    MINUS,
    EdgeStyle,
    Options,
    Scale,
    clean,
    edge_style,
    narrow,
    number,
    power,
    tensor_prefix,
    text_width,
)

WORDS = "the gradient flows this way"
FLOW = "each head points the way its gradient flows, back from the loss; each number is what comes back along that edge"
FORWARD = "data flows along the arrows, the gradient back against them; each number is what comes back along that edge"
NORMS: dict[Norm, str] = {"l2": "L2 norm", "rms": "root mean square", "max": "largest magnitude"}
ROUND = 5.0
"""The radius of corners."""

_BAR = 260.0
_SAMPLE = 44.0


def framed(
    body: Drawing, rows: Sequence[tuple[str, Scene]], title: str, subtitle: str | None, notes: Iterable[str]
) -> Drawing:
    """What is drawn, under a title and above a legend, which names what occurs in these scenes."""
    drawing = Drawing(body.options, [*body.items], [*body.extents])
    _heading(drawing, body.rect, title, subtitle)
    legend(drawing, drawing.rect, rows, list(notes))
    return drawing


def graphs(rows: Sequence[tuple[str, Scene]], options: Options) -> Drawing:
    """The graphs alone, one under the other, their titles to the left."""
    drawing = Drawing(options)
    column = max((text_width(part, 12.0) * 1.06 for name, _ in rows for part in _wrapped(name)), default=0.0)
    top = 0.0
    for k, (name, scene) in enumerate(rows):
        rect = scene.rect
        placed = scene.moved(-rect.left, top - rect.top)
        add_scene(drawing, placed, k)
        middle = _middle(placed)
        lines = _wrapped(name)
        for n, part in enumerate(lines):
            at = (-column - 20.0, middle + ((len(lines) - 1) / 2 - n) * 15.0)
            drawing.add(Text(at, part, 12.0, bold=True, anchor="start"))
        top -= rect.top - rect.bottom + 34.0
    return drawing


def _middle(scene: Scene) -> float:
    rects = [scene.frames[0].rect] if scene.frames else [placed.rect for placed in scene.nodes]
    return (min(r.bottom for r in rects) + max(r.top for r in rects)) / 2


def _wrapped(name: str, width: int = 16) -> list[str]:
    lines: list[str] = []
    for word in clean(name, 80).split():
        if lines and len(lines[-1]) + len(word) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


# --- a graph ----------------------------------------------------------------------------------------------------------


def small_scene(drawing: Drawing, scene: Scene) -> None:
    """A graph in small, without a word or a head: only the colours of its edges are read."""
    for frame in scene.frames:
        drawing.add(Box(frame.rect, "panel", "frame", pen=0.5, radius=3.0))
    for spine in scene.spines:
        drawing.add(Box(spine, "fill op", "line op", pen=0.5, radius=1.0))
    nodes = {placed.id: placed.node for placed in scene.nodes}
    for k, placed in enumerate(scene.edges):
        style = edge_style(placed.edge.size(drawing.options.norm), placed.edge.state, drawing.options.scale)
        way = Way(placed.curve, style._replace(width=0.6 * style.width, head="none", double=False), 0.4 * ROUND)
        target = nodes[placed.head]
        tip = edge_tooltip(placed.edge, nodes[placed.tail], target, drawing.options.norm)
        step = step_number(target.step) if target.step else None
        ends = placed.tail, placed.head
        drawing.add(Group("detail", f"e{k}", (way,), tip, None, placed.edge, *ends, step=step))
    for node in scene.nodes:
        role, oval = node.look.role, node.look.shape == "ellipse"
        drawing.add(Box(node.rect, f"fill {role}", f"line {role}", 0.7, 0.0 if oval else 1.5, oval))


def add_scene(drawing: Drawing, scene: Scene, graph: int = 0) -> None:
    """One graph, where it is."""
    prefix = scene.nodes[0].id.split("n", 1)[0]
    drawing.extents.append(scene.rect)
    for frame in scene.frames:
        drawing.add(Box(frame.rect, "panel", "frame", radius=10.0))
        for text in _frame_head(frame):
            drawing.add(text)
    for start, end in scene.lanes:
        drawing.add(Box(Rect(start[0], start[1] - 0.4, end[0], start[1] + 0.4), "line parameter"))
    for at, use in scene.dots:
        drawing.add(Box(Rect.around(at, 5.0, 5.0), _style(drawing.options, use, None).color, ellipse=True))
    for spine in scene.spines:
        drawing.add(Box(spine, "fill op", "line op", radius=4.0))
    uses = Counter(edge.tail for edge in scene.edges if edge.edge.carried is not None)
    for placed in scene.nodes:
        marks = cards.paint_card(placed, uses[placed.id]) if scene.signed else _box(placed)
        node, tip = placed.node, node_tooltip(placed.node, drawing.options.norm)
        step = step_number(node.step) if node.step else None
        drawing.add(Group("node", placed.id, tuple(marks), tip, node, graph=graph, step=step))
    for at, title in scene.titles:
        drawing.add(Text(at, title, 12.0, bold=True, anchor="start"))
    nodes = {placed.id: placed.node for placed in scene.nodes}
    # Weak edges first: where two share a stretch, the stronger one is seen.
    largest = max((abs(edge.edge.signed or 0.0) for edge in scene.edges), default=0.0) if scene.signed else None
    styled = [(_style(drawing.options, edge.edge, largest), k, edge) for k, edge in enumerate(scene.edges)]
    for style, k, placed_edge in sorted(styled, key=lambda item: item[0].width):
        drawing.add(_edge(placed_edge, nodes, style, drawing.options, f"{prefix}e{k}", graph, scene.signed))


def _frame_head(frame: Frame) -> list[Text]:
    rect = frame.rect
    middle, nested = (rect.left + rect.right) / 2, frame.parent is not None
    if nested or not frame.step:
        return [Text((middle, rect.top - 12.0), clean(frame.title), 11.0, colour="muted" if nested else "ink")]
    return [Text((middle, rect.top - 10.5), clean(frame.title), 12.0, bold=True)]


def _box(placed: PlacedNode) -> list[Mark]:
    """A box, or an ellipse, and what is written in it."""
    look, rect = placed.look, placed.rect
    (x, y), loss = placed.centre, look.role == "loss"
    shape = Box(
        rect.grown(-4.0) if loss else rect,
        f"fill {look.role}",
        f"line {look.role}",
        radius=min(8.0, look.height / 4),
        ellipse=look.shape == "ellipse",
        double=loss,
        dotted=look.shape == "again",
    )
    if look.shape == "total":
        name = Text((rect.left + 5.0, y), look.big, look.fontsize, anchor="start")
        return [shape, name, Text((rect.right - 5.0, y), look.small, look.fontsize, bold=True, anchor="end")]
    marks: list[Mark] = [shape]
    if look.big:
        muted = not look.small and (look.role == "constant" or look.big == "[ ]")
        at = (x, y + (0.6 * look.fontsize if look.small else 0.0))
        marks.append(Text(at, look.big, look.fontsize, look.role in ("value", "loss"), "muted" if muted else "ink"))
    if look.small:
        marks.append(Text((x, y - 8.0), look.small, 11.0, colour="muted"))
    return marks


def _style(options: Options, edge: Edge, largest: float | None) -> EdgeStyle:
    if largest is not None:
        return cards.style(edge, largest, options.heads)
    return edge_style(edge.size(options.norm), edge.state, options.scale, options.heads)


def _edge(
    placed: PlacedEdge, nodes: dict[str, Node], style: EdgeStyle, options: Options, name: str, graph: int, signed: bool
) -> Group:
    """An edge with its number."""
    marks: list[Mark] = [Way(placed.curve, style, ROUND)]
    if options.labels and style.label:
        text = tensor_prefix(placed.edge, nodes[placed.tail]) + style.label
        text = narrow(text, placed.room) if placed.room else text
        size = cards.NUMBER if signed else LABEL_SIZE
        marks.append(Text(placed.label, text, size, style.bold or signed, anchor=placed.anchor))
    tip = edge_tooltip(placed.edge, nodes[placed.tail], nodes[placed.head], options.norm)
    edge = placed.edge
    return Group("edge", name, tuple(marks), tip, edge=edge, tail=placed.tail, head=placed.head, graph=graph)


def _name(node: Node) -> str:
    return clean(node.name or node.op or node.kind, 60)


def node_tooltip(node: Node, norm: Norm) -> str:
    """Everything about a node in a few lines: operation, shape, its values, its gradient."""
    lines = [f"{_name(node)}" + (f" = {clean(node.op, 60)}" if node.op and node.name else "")]
    lines += [clean(node.scope, 60)] if node.scope else []
    lines.append(f"shape {node.shape}, {node.dtype}")
    if node.value is not None and node.value.size == 1:
        lines.append(f"value {cards.digits(node.value.item())}")
    elif node.value is not None and node.value.size:
        lines.append("value {:.4g} … {:.4g}, mean {:.4g}".format(*range_of(node.value)))
    if node.gradient is not None and node.gradient.size == 1 and not node.members:
        lines.append(f"gradient {cards.digits(node.gradient.item())}")
    elif node.gradient is not None:
        lines.append(f"gradient {norm_of(node.gradient, norm):.4g} ({NORMS[norm]})")
    for member in node.members:
        if member.name and member.gradient is not None:
            lines.append(f"‖∂L/∂{_name(member)}‖ = {norm_of(member.gradient, norm):.4g}")
    return "\n".join(lines)


def edge_tooltip(edge: Edge, source: Node, target: Node, norm: Norm, words: str = "") -> str:
    """Which use of which tensor, how large its contribution (or `words`), and by which rule it came about."""
    tensor, size = edge.tensor or source, edge.size(norm)
    lines = [f"{_name(tensor)} → {_name(target)}, operand {edge.operand}"]
    if size is None:
        lines.append("needs no gradient")
    elif words:
        lines.append(f"gradient {words}")
    else:
        state = "" if edge.state == "finite" else f", {edge.state}"
        told = f"{size:.4g} ({NORMS[norm]})" if edge.signed is None else f"{edge.signed:.4g}"
        lines.append(f"gradient {told}{state}".replace(" -", f" {MINUS}"))
    lines += [clean(edge.formula, 80)] if edge.formula else []
    return "\n".join(lines)


# --- what explains it -------------------------------------------------------------------------------------------------


def _heading(drawing: Drawing, body: Rect, title: str, subtitle: str | None) -> None:
    """Title, subtitle, and a band that says which way the gradient flows."""
    middle, y = (body.left + body.right) / 2, body.top + 20.0
    if drawing.options.heads == "data":
        drawing.add(Text((middle, y), FORWARD, 11.0, colour="muted"))
    else:
        half, words = text_width(WORDS, 11.0) / 2 + 10.0, Text((middle, y), WORDS, 11.0, colour="muted")
        ends = min(body.left, middle - half - 60.0), max(body.right, middle + half + 60.0)
        drawing.add(Way(((ends[0], y), (middle - half, y)), EdgeStyle("muted", 1.6, "solid", "", "back")))
        drawing.add(Box(Rect(middle + half, y - 0.8, ends[1], y + 0.8), "muted"))
        drawing.add(words)
    y += 20.0
    if subtitle:
        drawing.add(Text((middle, y), subtitle, 12.0, colour="muted"))
        y += 20.6
    if title:
        drawing.add(Text((middle, y), title, 16.0, bold=True))


def _samples(rows: Sequence[tuple[str, Scene]], options: Options) -> list[tuple[str, EdgeStyle | None]]:
    """What the legend names: the signs, or the kinds of edges that the colour bar does not explain, if they occur."""
    edges = [placed.edge for _, scene in rows for placed in scene.edges]
    states, scale = {edge.state for edge in edges}, options.scale
    above = any(e.state == "finite" and (e.size(options.norm) or 0.0) > scale.exploding for e in edges)
    limit = "1000" if scale.exploding == 1e3 else number(scale.exploding)
    kinds: list[tuple[bool, str, float | None, State]] = [
        (above and not _signed(rows), f"above {limit}", scale.exploding * 1.01, "finite"),
        (bool(states & {"nan", "inf"}), "NaN or infinite", math.nan, "nan"),
        ("zero" in states, "exactly zero", 0.0, "zero"),
        ("underflow" in states, "underflow", 0.0, "underflow"),
        ("none" in states, "needs no gradient", None, "none"),
    ]
    found = [(words, edge_style(size, state, scale, options.heads)) for occurs, words, size, state in kinds if occurs]
    signed = next((scene for _, scene in rows if scene.signed), None)
    return [*(cards.samples_of(signed, options.heads) if signed is not None else []), *found]


def _signed(rows: Sequence[tuple[str, Scene]]) -> bool:
    """Whether all pictures are of numbers: then there is no colour bar."""
    return bool(rows) and all(scene.signed for _, scene in rows)


def legend(drawing: Drawing, body: Rect, rows: Sequence[tuple[str, Scene]], notes: Sequence[str]) -> None:
    """The colour bar with its numbers, a sample of every kind of edge, and notes; in one line if there is room."""
    samples, signed = _samples(rows, drawing.options), _signed(rows)
    widths = [_SAMPLE * (look is not None) + 10.0 + text_width(words, LABEL_SIZE) + 26.0 for words, look in samples]
    bar = 0.0 if signed else _BAR + 50.0
    wide, y = bar + sum(widths), body.bottom - 22.0
    page = drawing.options.page
    room = max(body.right - body.left, page[0] * SCALE - 34.0 if page else 0.0)
    one_row = max(room, 780.0) > wide
    left = (body.left + body.right) / 2 - (room if room > wide else min(wide, 780.0)) / 2
    right = left + max(room, wide)
    if not signed:
        _colour_bar(drawing, left + 10.0, y, bool(rows))
    x, row = (left + bar + 10.0, y - 18.0) if one_row or signed else (left + 10.0, y - 58.0)
    start = x
    for (words, look), width in zip(samples, widths, strict=True):
        if x + width > start + max(700.0, room) and x > start:
            x, row = start, row - 18.0
        if look is not None:
            drawing.add(Way(((x, row), (x + _SAMPLE, row)), look))
        indent = _SAMPLE + 10.0 if look is not None else 0.0
        drawing.add(Text((x + indent, row), words, LABEL_SIZE, colour="muted", anchor="start"))
        x += width
    longest = max((text_width(note, LABEL_SIZE) for note in notes), default=0.0)
    for k, note in enumerate(notes):
        place = left + 10.0, (row if samples and not one_row else y - 36.0) - 18.0 - 15.0 * k
        if one_row and longest < right - x:
            place = right - longest, y - 10.0 - 15.0 * k
        drawing.add(Text(place, note, LABEL_SIZE, colour="muted", anchor="start"))


def _colour_bar(drawing: Drawing, x: float, y: float, edges: bool) -> None:
    options = drawing.options
    drawing.add(
        Text((x, y), "gradient on the edge" if edges else "gradient of the state", 11.0, bold=True, anchor="start")
    )
    drawing.add(Text((x + _BAR, y), NORMS[options.norm], LABEL_SIZE, colour="muted", anchor="end"))
    cell = _BAR / CLASSES
    for k in range(CLASSES):
        drawing.add(Box(Rect(x + k * cell, y - 24.0, x + (k + 1) * cell + 0.2, y - 12.0), f"r{k}"))
    for fraction, exponent in _ticks(options.scale):
        drawing.add(Box(Rect.around((x + fraction * _BAR, y - 26.0), 1.0, 4.0), "muted"))
        drawing.add(Text((x + fraction * _BAR, y - 35.0), power(exponent), LABEL_SIZE, colour="muted"))


def _ticks(scale: Scale) -> list[tuple[float, float]]:
    """(place on the bar, exponent): both ends of the scale, and whole decades between them, as many as have room."""
    lo, hi = scale.decades
    step = max(1, math.ceil((hi - lo) / 6.5))
    whole = range(math.floor(hi + 1e-9), math.ceil(lo - 1e-9) - 1, -step)
    inner = [float(k) for k in whole if min(hi - k, k - lo) * _BAR > 40.0 * (hi - lo)]
    return [((exponent - lo) / (hi - lo), exponent) for exponent in (hi, *inner, lo)]
