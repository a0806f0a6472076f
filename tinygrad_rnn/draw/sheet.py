"""A page of DOT under construction: lines of text, boxes and curves at their places.

After this file the reader knows how little of DOT a placed picture needs: every node has a ``pos`` and a fixed size,
every edge its spline, so that the engine only draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import graphviz
import graphviz.quoting

from .geometry import Curve, Point, Rect, trimmed
from .style import EdgeStyle, Options, text_width


@dataclass
class Sheet:
    """A page under construction: the DOT source, and the box around all that is on it."""

    options: Options
    source: graphviz.Digraph
    extents: list[Rect] = field(default_factory=list)
    count: int = 0

    def text(
        self,
        at: Point,
        text: str,
        size: float,
        *,
        bold: bool = False,
        muted: bool = False,
        anchor: float = 0.5,
        into: graphviz.Digraph | None = None,
        tooltip: str = " ",
    ) -> None:
        """One line; `anchor` 0 sets its left end at the point, 0.5 its middle, 1 its right end."""
        label = graphviz.escape(text)
        if anchor in (0.0, 1.0):  # DOT's own line ends: left and right, since widths are only estimated here
            label += "\\l" if anchor == 0.0 else "\\r"
        width = text_width(text, size) * (1.06 if bold else 1.0)
        x = at[0] + (0.5 - anchor) * width
        theme = self.options.theme
        self.extents.append(Rect.around((x, at[1]), width, size * 1.3))
        self.node(
            f"text{self.count}",
            (x, at[1]),
            label=label,
            shape="plaintext",
            margin="0",
            width=inch(width),
            height=inch(size * 1.3),
            fontsize=num(size),
            fontname="Helvetica-Bold" if bold else "Helvetica",
            fontcolor=theme.muted if muted else theme.ink,
            into=into,
            tooltip=tooltip,
        )
        self.count += 1

    def node(self, name: str, at: Point, into: graphviz.Digraph | None = None, **attributes: str) -> None:
        """A node at its place, of the page or of a cluster; its attributes are passed on as they are."""
        attributes.setdefault("tooltip", " ")
        attributes["pos"] = f"{num(at[0])},{num(at[1])}"
        _add(self.source if into is None else into, quoted(name), attributes)

    def edge(self, tail: str, head: str, curve: Curve, style: EdgeStyle, **attributes: str) -> None:
        """An edge along a curve that ends at the border of its head."""
        length = 3.0 if style.arrowhead == "tee" else 10.0 * style.arrowsize * max(1.0, style.width / 4.0)
        (x, y), path = curve[-1], trimmed(curve, length)
        points = " ".join(f"{num(px)},{num(py)}" for px, py in path)
        if style.arrowhead != "normal":
            attributes["arrowhead"] = style.arrowhead
        if style.line != "solid":
            attributes["style"] = style.line
        attributes["pos"] = f"e,{num(x)},{num(y)} {points}"
        attributes["color"], attributes["penwidth"] = style.color, num(style.width)
        attributes["arrowsize"] = num(style.arrowsize)
        _add(self.source, f"{quoted(tail)} -> {quoted(head)}", attributes)


# A picture has few different values: most are quoted once. Typed, since `graphviz.escape` marks what it returns.
quoted = lru_cache(maxsize=1 << 14, typed=True)(graphviz.quoting.quote)


def _add(source: graphviz.Digraph, head: str, attributes: Mapping[str, str]) -> None:
    """One statement, as `graphviz.Digraph.node` and `edge` write it, at a fifth of the time."""
    values = [("label", attributes["label"])] if "label" in attributes else []
    values += sorted(item for item in attributes.items() if item[0] != "label")
    # Never an identifier, and never the same twice.
    text = " ".join(f'{key}="{value}"' if key == "pos" else f"{key}={quoted(value)}" for key, value in values)
    source.body.append(f"\t{head} [{text}]\n")


def num(value: float) -> str:
    """A number of points, short."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def inch(points: float) -> str:
    """A length in inches, as node sizes are given."""
    return f"{points / 72:.4f}"
