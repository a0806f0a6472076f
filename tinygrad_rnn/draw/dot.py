"""The DOT writer: marks as a placed graph that every Graphviz draws alike with ``neato -n2``.

After this file the reader knows how little of DOT a placed picture needs: every node has a ``pos`` and a fixed size,
every edge its spline, so that an engine only draws: for PNG and PDF, and for whoever wants to go on from there.
"""

from __future__ import annotations

import graphviz

from .geometry import Point, rounded
from .marks import Box, Drawing, Group, Mark, Text, Way
from .style import MINUS, Theme
from .svg import num

_HEADS = {"back": "normal", "bar": "tee", "open": "onormal", "forward": "normal", "none": "none"}


def write(drawing: Drawing) -> str:
    """The DOT source of a picture."""
    theme, source = drawing.options.theme, graphviz.Digraph("gradients")
    background, ink = theme.colour("background"), theme.colour("ink")
    look = {"outputorder": "nodesfirst", "splines": "true", "notranslate": "true", "fontname": "Helvetica"}
    source.attr("graph", bgcolor=background, pad="0.2", **look)
    source.attr("node", fontname="Helvetica", fixedsize="true", penwidth="1.1", fontcolor=ink, margin="0")
    source.attr("edge", fontname="Helvetica", fontcolor=ink)
    writer = _Writer(source, theme)
    for item in drawing.items:
        if isinstance(item, Group):
            writer.group(item)
        else:
            writer.mark(item, f"mark{writer.count}", " ")
    return str(source.source)


class _Writer:
    """Adds statements to a source; marks without a name are counted."""

    def __init__(self, source: graphviz.Digraph, theme: Theme) -> None:
        self.source, self.theme, self.count = source, theme, 0

    def group(self, group: Group) -> None:
        """A node and what is written over it, or an edge with its number."""
        if group.kind == "edge":
            way, *texts = group.marks
            assert isinstance(way, Way)
            self.way(way, group.tail, group.head, group.tip, next((t for t in texts if isinstance(t, Text)), None))
            return
        shape, *texts = group.marks
        first = texts[0] if texts and isinstance(texts[0], Text) else None
        self.mark(shape, group.name, group.tip, first)
        for text in texts[first is not None and self.inside(shape, first) :]:
            self.mark(text, f"mark{self.count}", group.tip)

    @staticmethod
    def inside(shape: Mark, text: Text) -> bool:
        """Whether a text is in the middle of a shape, or the first of two lines there, and so can be its label."""
        if not isinstance(shape, Box) or text.anchor != "middle":
            return False
        rect = shape.rect
        x, y = (rect.left + rect.right) / 2, (rect.bottom + rect.top) / 2
        return text.at in ((x, y), (x, y + 0.6 * text.size))

    def mark(self, mark: Mark, name: str, tip: str, label: Text | None = None) -> None:
        """One mark as a node, or as an edge between two invisible ones."""
        self.count += 1
        if isinstance(mark, Way):
            for side, end in (("a", mark.curve[0]), ("b", mark.curve[-1])):
                self.node(name + side, end, label="", style="invis", width="0.01", height="0.01")
            self.way(mark, name + "a", name + "b", tip, None)
        elif isinstance(mark, Text):
            rect = mark.rect
            middle = ((rect.left + rect.right) / 2, mark.at[1])
            break_at = {"start": r"\l", "middle": "", "end": r"\r"}[mark.anchor]
            size = {"width": _inch(rect.right - rect.left), "height": _inch(mark.size * 1.3)}
            self.node(
                name, middle, tooltip=graphviz.escape(tip), shape="plaintext", **size, **self.letters(mark, break_at)
            )
        else:
            self.box(mark, name, tip, label if label is not None and self.inside(mark, label) else None)

    def letters(self, text: Text, end: str = "") -> dict[str, str]:
        """The attributes of a line of text."""
        # Which marks it as text: an end is added only where there is one. Engines guess the width of what is not ASCII.
        label = graphviz.escape(text.text.replace(MINUS, "-"))
        font = "Helvetica-Bold" if text.bold else "Helvetica"
        look = {"fontsize": num(text.size), "fontname": font, "fontcolor": self.theme.colour(text.colour)}
        return {"label": label + end if end else label, **look}

    def box(self, box: Box, name: str, tip: str, label: Text | None) -> None:
        """A shape."""
        rect, colour = box.rect, self.theme.colour
        fill, line = box.fill and colour(box.fill), box.line and colour(box.line)
        style = ["rounded"] * bool(box.radius) + ["filled"] * bool(fill) + ["dotted"] * box.dotted
        attributes = {"shape": "ellipse" if box.ellipse else "box", "style": ",".join(style), "label": ""}
        attributes |= {"width": _inch(rect.right - rect.left), "height": _inch(rect.top - rect.bottom)}
        attributes |= {"fillcolor": fill} if fill else {}
        attributes |= {"color": line, "penwidth": num(box.pen)} if line else {"penwidth": "0"}
        attributes |= {"peripheries": "2"} if box.double else {}
        middle = (rect.left + rect.right) / 2, (rect.bottom + rect.top) / 2
        if label is not None:  # of two lines the second is a text of its own, in another size
            attributes |= self.letters(label, "" if label.at == middle else r"\n ")
        self.node(name, middle, tooltip=graphviz.escape(tip), **attributes)

    def way(self, way: Way, tail: str, head: str, tip: str, label: Text | None) -> None:
        """An edge along its curve; most heads stand at its tail."""
        style, points = way.style, " ".join(f"{num(x)},{num(y)}" for x, y in _spline(way))
        at_head = style.head in ("open", "forward")
        x, y = way.curve[-1] if at_head else way.curve[0]
        colour = self.theme.colour(style.color)
        shades = f"{colour}:{self.theme.colour('background')}:{colour}" if style.double else colour
        attributes = {"pos": f"{'e' if at_head else 's'},{num(x)},{num(y)} {points}", "color": shades}
        attributes |= {"penwidth": num(style.width), "edgetooltip": graphviz.escape(tip)}
        attributes |= {"style": style.line} if style.line != "solid" else {}
        attributes["arrowsize"] = num(
            way.head_size[0] / 10.0 / max(1.0, style.width / 4) if style.head != "bar" else 0.6
        )
        kind = _HEADS[style.head]
        attributes |= {"arrowhead": kind} if at_head else {"dir": "back", "arrowtail": kind}
        if label is not None:
            attributes |= self.letters(label)
            rect = label.rect
            attributes["lp"] = f"{num((rect.left + rect.right) / 2)},{num(label.at[1])}"
        self.source.edge(tail, head, **attributes)

    def node(self, name: str, at: Point, **attributes: str) -> None:
        """A node at its place."""
        label = attributes.pop("label", "")
        self.source.node(name, label, pos=f"{num(at[0])},{num(at[1])}", **attributes)


def _spline(way: Way) -> list[Point]:
    """The control points of a line: straight pieces are cubic ones, too."""
    stem = way.stem()
    found = [stem[0]]
    for (ax, ay), *points in rounded(stem, way.radius):
        (bx, by), *_ = points
        thirds = [(ax + (bx - ax) * k / 3, ay + (by - ay) * k / 3) for k in (1, 2)] if len(points) == 1 else []
        found += [*thirds, *points]
    return found


def _inch(points: float) -> str:
    """A length in inches, as node sizes are given."""
    return f"{points / 72:.4f}"
