"""From placed graphs to DOT source: the text that every engine draws alike.

After this file the reader knows what stands on a picture besides the graph: each number is the norm of that edge's own
contribution, each step tells the gradient of its states, and the legend shows every state an edge can be in. The text
depends on the graph and on nothing else: names are counted, never taken from memory addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import graphviz

from ..graph.model import Edge, GradientGraph, Node, Norm, norm_of, statistics
from .bars import draw_strip
from .geometry import union
from .legend import NORMS, heading, legend
from .rails import Rail
from .row import HEAD
from .scene import Frame, PlacedEdge, PlacedNode, Scene
from .sheet import Sheet, inch, num
from .style import LABEL_SIZE, EdgeStyle, Options, clean, edge_style, number, subscript, text_width


def write(
    rows: Sequence[tuple[str, Scene]], options: Options, title: str, subtitle: str | None, notes: Iterable[str]
) -> tuple[str, tuple[float, float]]:
    """The DOT source of one or several placed graphs under one title and one legend; also its size in points."""
    theme = options.theme
    source = graphviz.Digraph("gradients")
    source.attr(
        "graph",
        bgcolor=theme.background,
        pad="0.2",
        outputorder="nodesfirst",
        splines="true",
        notranslate="true",
        fontname="Helvetica",
    )
    source.attr("node", fontname="Helvetica", fixedsize="true", penwidth="1.1", fontcolor=theme.ink, fontsize="10")
    source.attr("edge", fontname="Helvetica", fontsize=num(LABEL_SIZE), fontcolor=theme.ink)
    sheet = Sheet(options, source)
    _rows(sheet, rows)
    body = union(sheet.extents)
    heading(sheet, body, title, subtitle)
    legend(sheet, union(sheet.extents), list(notes))
    page = union(sheet.extents)
    return str(source.source), (page.right - page.left + 29.0, page.top - page.bottom + 29.0)


def _rows(sheet: Sheet, rows: Sequence[tuple[str, Scene]]) -> None:
    """The graphs, one under the other, their titles to the left."""
    column = max((text_width(part, 12.0) * 1.06 for name, _ in rows for part in _wrapped(name)), default=0.0)
    top = 0.0
    for name, scene in rows:
        rect = scene.rect
        placed = scene.moved(-rect.left, top - rect.top)
        _scene(sheet, placed)
        middle = _middle(placed)
        lines = _wrapped(name)
        for k, part in enumerate(lines):
            at = (-column - 20.0, middle + ((len(lines) - 1) / 2 - k) * 15.0)
            sheet.text(at, part, 12.0, bold=True, anchor=0.0)
        top -= rect.top - rect.bottom + 34.0


def _middle(scene: Scene) -> float:
    if scene.frames:
        return (scene.frames[0].rect.bottom + scene.frames[0].rect.top) / 2
    rects = [placed.rect for placed in scene.nodes]
    return (min(r.bottom for r in rects) + max(r.top for r in rects)) / 2


def _wrapped(name: str, width: int = 16) -> list[str]:
    lines: list[str] = []
    for word in clean(name, 80).split():
        if lines and len(lines[-1]) + len(word) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _scene(sheet: Sheet, scene: Scene) -> None:
    sheet.extents.append(scene.rect)
    prefix = scene.nodes[0].id.split("n", 1)[0]
    children: dict[int | None, list[int]] = {}
    for k, frame in enumerate(scene.frames):
        children.setdefault(frame.parent, []).append(k)
    inside: dict[int | None, list[PlacedNode]] = {}
    for placed in scene.nodes:
        inside.setdefault(placed.frame, []).append(placed)

    def frames(parent: int | None, into: graphviz.Digraph) -> None:
        for k in children.get(parent, ()):
            with into.subgraph(name=f"cluster_{prefix}{k}") as cluster:
                _frame(sheet, cluster, scene.frames[k])
                # A cluster without a node of its own would be dropped.
                corner = scene.frames[k].rect
                at = f"{num(corner.left + 4)},{num(corner.bottom + 4)}"
                cluster.node(f"{prefix}corner{k}", "", pos=at, style="invis", width="0.01", height="0.01")
                for placed in inside.get(k, ()):
                    _node(sheet, cluster, placed)
                frames(k, cluster)

    frames(None, sheet.source)
    for frame in scene.frames:
        _frame_head(sheet, frame, nested=frame.parent is not None)
    for placed in inside.get(None, ()):
        _node(sheet, sheet.source, placed)
    for k, rail in enumerate(scene.rails):
        _rail(sheet, rail, f"{prefix}rail{k}")
    for at, text in scene.titles:
        sheet.text(at, text, 12.0, bold=True, anchor=0.0)
    for k, strip in enumerate(scene.strips):  # inside its box, which is drawn already
        draw_strip(sheet, strip, f"{prefix}strip{k}")
    nodes = {placed.id: placed.node for placed in scene.nodes}
    # Weak edges first: where two share a stretch, the stronger one is seen.
    styled = [(_style(sheet.options, edge.edge), edge) for edge in scene.edges]
    for style, edge in sorted(styled, key=lambda item: item[0].width):
        _edge(sheet, edge, nodes, style)


def _rail(sheet: Sheet, rail: Rail, name: str) -> None:
    """A thin line in the colour of parameters: it has no number. A dot is where a stub leaves; others only cross."""
    _, colour = sheet.options.theme.roles[rail.look.role]
    paint = {"label": "", "style": "filled", "fillcolor": colour, "penwidth": "0"}
    left, right = rail.ends
    at, width = ((left + right) / 2, rail.y), inch(right - left)
    sheet.node(name, at, shape="box", width=width, height=inch(1.4), **paint)
    for k, x in enumerate(rail.taps):
        sheet.node(f"{name}_{k}", (x, rail.y), shape="ellipse", width=inch(8.0), height=inch(8.0), **paint)


def _frame(sheet: Sheet, cluster: graphviz.Digraph, frame: Frame) -> None:
    theme, rect = sheet.options.theme, frame.rect
    cluster.attr(
        bb=",".join(map(num, (rect.left, rect.bottom, rect.right, rect.top))),
        style="rounded,filled",
        fillcolor=theme.panel,
        color=theme.frame,
        tooltip=graphviz.escape(clean(frame.title)),
    )


def _frame_head(sheet: Sheet, frame: Frame, nested: bool) -> None:
    rect, options = frame.rect, sheet.options
    middle = (rect.left + rect.right) / 2
    if nested or not frame.step:
        sheet.text((middle, rect.top - 12.0), clean(frame.title), 11.0, muted=nested)
        return
    sheet.text((middle, rect.top - 12.0), clean(frame.title), 12.0, bold=True)
    step = subscript(frame.step[2:])
    parts = []
    for name in ("c", "h"):
        state = next((n for n in reversed(frame.nodes) if n.name == name and n.gradient is not None), None)
        if state is not None and state.gradient is not None:
            parts.append(f"‖∂L/∂{name}{step}‖ = {number(norm_of(state.gradient, options.norm))}")
    if parts:
        sheet.text((middle, rect.top - HEAD + 10.0), "   ".join(parts), LABEL_SIZE, muted=True)


def _node(sheet: Sheet, into: graphviz.Digraph, placed: PlacedNode) -> None:
    theme, look = sheet.options.theme, placed.look
    fill, border = theme.roles[look.role]
    attributes: dict[str, Any] = {
        "width": inch(look.width),
        "height": inch(look.height),
        "shape": "ellipse" if look.shape == "ellipse" else "box",
        "style": "filled" if look.shape == "ellipse" else "rounded,filled",
        "fillcolor": fill,
        "color": border,
        "fontsize": num(look.fontsize),
        "tooltip": graphviz.escape(node_tooltip(placed.node, sheet.options.norm)),
    }
    if look.role == "loss":
        attributes |= {"peripheries": "2", "width": inch(look.width - 8.0), "height": inch(look.height - 8.0)}
    bold = look.role in ("value", "loss")
    label = graphviz.escape(look.big)
    attributes["fontname"] = "Helvetica-Bold" if bold else "Helvetica"
    if look.small:
        # Two fonts without an HTML-like label, which engines centre by guessed widths: an empty second line here, and
        # a text of its own over it.
        label += "\\n "
    elif look.role == "constant" or look.big == "[ ]":
        attributes["fontcolor"] = theme.muted
    sheet.node(placed.id, placed.centre, into, label=label, **attributes)
    if look.small:
        at = placed.centre[0], placed.centre[1] - 8.0
        sheet.text(at, look.small, 11.0, muted=True, into=into, tooltip=attributes["tooltip"])


def _style(options: Options, edge: Edge) -> EdgeStyle:
    magnitude = None if edge.contribution is None else norm_of(edge.contribution, options.norm)
    return edge_style(magnitude, edge.state, options.scale, options.theme)


def _edge(sheet: Sheet, placed: PlacedEdge, nodes: dict[str, Node], style: EdgeStyle) -> None:
    options = sheet.options
    attributes = {
        "edgetooltip": graphviz.escape(edge_tooltip(placed.edge, nodes[placed.tail], nodes[placed.head], options.norm))
    }
    if options.labels and style.label:
        attributes["label"] = graphviz.escape(_tensor(placed.edge, nodes[placed.tail]) + style.label)
        attributes["lp"] = f"{num(placed.label[0])},{num(placed.label[1])}"
        attributes["labeltooltip"] = attributes["edgetooltip"]
        if style.bold:
            attributes["fontname"] = "Helvetica-Bold"
    sheet.edge(placed.tail, placed.head, placed.curve, style, **attributes)


def _tensor(edge: Edge, source: Node) -> str:
    """The name of the tensor, where one box hands on several: ``c 0.21``."""
    several = source.members and "," in (source.name or "")
    return f"{clean(edge.tensor.name, 8)} " if several and edge.tensor is not None and edge.tensor.name else ""


def _name(node: Node) -> str:
    return clean(node.name or node.op or node.kind, 60)


def node_tooltip(node: Node, norm: Norm) -> str:
    """Everything about a node in a few lines: operation, shape, its values, its gradient."""
    lines = [f"{_name(node)}" + (f" = {clean(node.op, 60)}" if node.op and node.name else "")]
    lines += [clean(node.scope, 60)] if node.scope else []
    lines.append(f"shape {node.shape}, {node.dtype}")
    if node.value.size:
        found = statistics(node.value)
        lines.append("value {min} … {max}, mean {mean}".format(**{k: f"{float(v):.4g}" for k, v in found.items()}))
    if node.gradient is not None:
        lines.append(f"gradient {norm_of(node.gradient, norm):.4g} ({NORMS[norm]})")
    for member in node.members:
        if member.name and member.gradient is not None:
            lines.append(f"‖∂L/∂{_name(member)}‖ = {norm_of(member.gradient, norm):.4g}")
    return "\n".join(lines)


def edge_tooltip(edge: Edge, source: Node, target: Node, norm: Norm) -> str:
    """Which use of which tensor, how large its contribution, and by which rule it came about."""
    tensor = edge.tensor or source
    lines = [f"{_name(tensor)} → {_name(target)}, operand {edge.operand}"]
    if edge.contribution is None:
        lines.append("needs no gradient")
    else:
        state = "" if edge.state == "finite" else f", {edge.state}"
        lines.append(f"gradient {norm_of(edge.contribution, norm):.4g} ({NORMS[norm]}){state}")
    lines += [clean(edge.formula, 80)] if edge.formula else []
    return "\n".join(lines)


def bare(graphs: Mapping[str, GradientGraph], options: Options) -> str:
    """The DOT source without positions, for a ``dot`` elsewhere: what is left to give where no engine is installed."""
    source = graphviz.Digraph("gradients", graph_attr={"rankdir": "LR"}, node_attr={"shape": "box", "style": "rounded"})
    for k, graph in enumerate(graphs.values()):
        for node in graph.nodes:
            source.node(f"g{k}n{node.id}", graphviz.escape(clean(f"{_name(node)} {node.scope}".strip(), 80)))
        for edge in graph.edges:
            if not edge.internal:
                style = _style(options, edge)
                shown = {"color": style.color, "penwidth": num(style.width), "style": style.line}
                label = graphviz.escape(style.label)
                source.edge(f"g{k}n{edge.source}", f"g{k}n{edge.target}", label, arrowhead=style.arrowhead, **shown)
    return str(source.source)
