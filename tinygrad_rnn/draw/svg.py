"""SVG of our own: what draws a placed picture where no engine can run, and what the interactive page is made of.

After this file the reader knows how little a placed picture asks of whoever draws it. The DOT source names the place of
everything, so reading it and writing it down as SVG takes no more than this file, and whatever the other modules put on
a page is on this one too. (Where no engine can even place a graph, `ranks` does.)
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from .geometry import Point, Rect, union
from .sheet import num
from .style import text_width

_TOKEN = re.compile(
    r'"((?:[^"\\]|\\.)*)"|(->)|([][{}=;,])|(<(?:[^<>]|<[^<>]*>)*>)|([^\s][^\s\[\]{}=;,<>"]*)', re.DOTALL
)
_DASHES = {"dotted": " dot", "dashed": " dash"}
Attributes = dict[str, str]


@dataclass
class Group:
    """A subgraph: a cluster, or nodes of one rank."""

    name: str
    attributes: Attributes = field(default_factory=dict)
    nodes: list[str] = field(default_factory=list)
    parent: Group | None = None


@dataclass
class Dot:
    """A DOT source, read; defaults are merged into what they apply to."""

    attributes: Attributes = field(default_factory=dict)
    nodes: dict[str, Attributes] = field(default_factory=dict)
    edges: list[tuple[str, str, Attributes]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    homes: dict[str, Group] = field(default_factory=dict)


def read(source: str) -> Dot:
    """Read the DOT that this package writes: statements of nodes, edges, attributes and subgraphs; no ports."""
    tokens = [(m[0] if m[1] is None else m[1].replace('\\"', '"'), m[1] is None) for m in _TOKEN.finditer(source)]
    # A quoted "{" is a name; only a bare one is punctuation.
    marks = [text if bare and text in ("{", "}", "[", "]", "=", ";", ",", "->") else "" for text, bare in tokens]
    dot, stack, at = Dot(), [Group("")], marks.index("{") + 1
    defaults: dict[str, Attributes] = {"graph": dot.attributes, "node": {}, "edge": {}}

    def attributes(at: int) -> tuple[Attributes, int]:
        found: Attributes = {}
        if at < len(marks) and marks[at] == "[":
            at += 1
            while marks[at] != "]":
                if marks[at] in (",", ";"):
                    at += 1
                    continue
                found[tokens[at][0]] = tokens[at + 2][0]
                at += 3
            at += 1
        return found, at

    while at < len(tokens):
        (name, bare), mark = tokens[at], marks[at]
        following = marks[at + 1] if at + 1 < len(marks) else ""
        if mark == "{" or (bare and name == "subgraph"):
            stack.append(Group("" if mark else tokens[at + 1][0], parent=stack[-1]))
            dot.groups.append(stack[-1])
            at += 1 if mark else 3
        elif mark:
            if mark == "}":
                stack.pop()
            at += 1
        elif following == "=":
            stack[-1].attributes[name] = tokens[at + 2][0]
            at += 3
        elif following == "->":
            found, after = attributes(at + 3)
            dot.edges.append((name, tokens[at + 2][0], defaults["edge"] | found))
            at = after
        else:
            found, at = attributes(at + 1)
            if bare and name in defaults:
                (stack[-1].attributes if name == "graph" and len(stack) > 1 else defaults[name]).update(found)
                continue
            dot.nodes.setdefault(name, dict(defaults["node"])).update(found)
            stack[-1].nodes.append(name)
            if name not in dot.homes or stack[-1].name.startswith("cluster"):
                dot.homes[name] = stack[-1]
    return dot


def lines(label: str) -> list[tuple[str, str]]:
    r"""The lines of a DOT label, each with its anchor: ``n`` (middle), ``l`` or ``r``; ``\\`` is a backslash."""
    found, text, at = [], "", 0
    while at < len(label):
        c = label[at]
        if c == "\\" and at + 1 < len(label):
            at += 1
            if label[at] in "nlr":
                found.append((text, label[at]))
                text = ""
            else:
                text += label[at]
        elif c == "\n":
            found.append((text, "n"))
            text = ""
        else:
            text += c
        at += 1
    return [*found, (text, "n")] if text or not found else found


def plain(label: str) -> str:
    """A DOT label, or tooltip, as plain text."""
    return "\n".join(text for text, _ in lines(label)).strip()


# --- the writer ------------------------------------------------------------------------------------------------------


@dataclass
class Palette:
    """The colours of one or several pictures, each a pair for light and dark, and a class for each."""

    names: dict[tuple[str, str], int] = field(default_factory=dict)

    def of(self, kind: str, light: str, dark: str) -> str:
        """The class that fills (`kind` f) or strokes (s) with a colour; only ``#rrggbb`` and ``none`` get through."""
        pair = tuple(c if re.fullmatch(r"#[0-9a-fA-F]{6}", c) else "none" for c in (light, dark))
        return f"{kind}{self.names.setdefault((pair[0], pair[1]), len(self.names))}"

    def css(self, scope: str) -> str:
        """The style sheet, every rule within `scope`."""
        rules = [
            "{font-family:Helvetica,Arial,sans-serif}",
            " text{text-anchor:middle;pointer-events:none;white-space:pre}",
            " .l{text-anchor:start}",
            " .r{text-anchor:end}",
            " .b{font-weight:bold}",
            " path{fill:none}",
            " .dot{stroke-dasharray:1 5}",
            " .dash{stroke-dasharray:5 2}",
        ]
        for (light, dark), k in self.names.items():
            for kind, what in (("f", "fill"), ("s", "stroke")):
                both = "" if light == dark else f";{what}:light-dark({light},{dark})"
                rules.append(f" .{kind}{k}{{{what}:{light}{both}}}")
        return "\n".join(scope + rule for rule in rules)


@dataclass
class Drawing:
    """A picture as SVG elements: `nodes` (names) and `edges` (tail, head, attributes) in the order of the elements.

    Elements of class ``n`` are nodes, ``d`` details with a tooltip (or nodes without edges), ``e`` edges.
    """

    markup: str
    box: Rect
    nodes: list[str]
    edges: list[tuple[str, str, Attributes]]

    @property
    def view(self) -> str:
        """The ``viewBox``."""
        box = self.box
        return " ".join(map(num, (box.left, -box.top, box.right - box.left, box.top - box.bottom)))


class _Writer:
    """Turns what was read into elements. The dark picture only lends its colours."""

    def __init__(self, light: Dot, dark: Dot, palette: Palette, prefix: str, titles: bool) -> None:
        self.light, self.dark, self.palette, self.prefix, self.titles = light, dark, palette, prefix, titles
        self.boxes: list[Rect] = []

    def paint(self, kind: str, name: str, light: Attributes, dark: Attributes, default: str = "none") -> str:
        return self.palette.of(kind, light.get(name, default), dark.get(name, default))

    def title(self, attributes: Attributes) -> str:
        tip = plain(attributes.get("tooltip") or attributes.get("edgetooltip") or "")
        return f"<title>{escape(tip)}</title>" if self.titles and tip else ""

    def cluster(self, group: Group, dark: Group) -> str:
        left, bottom, right, top = map(float, group.attributes["bb"].split(","))
        self.boxes.append(Rect(left, bottom, right, top))
        paint = self.paint("f", "fillcolor", group.attributes, dark.attributes)
        paint += " " + self.paint("s", "color", group.attributes, dark.attributes)
        return _rect(self.boxes[-1], 10.0, paint)

    def text(self, attributes: Attributes, dark: Attributes, centre: Point, width: float) -> str:
        """The lines of a label around their centre, as the engine sets them."""
        size, rows, out = float(attributes.get("fontsize", "14")), lines(attributes.get("label", "")), ""
        colour = self.paint("f", "fontcolor", attributes, dark, "#000000")
        for k, (text, anchor) in enumerate(rows):
            if not text.strip():
                continue
            x = centre[0] + {"l": -width / 2, "n": 0.0, "r": width / 2}[anchor]
            y = -centre[1] + (0.3 + 1.2 * (k - (len(rows) - 1) / 2)) * size
            style = colour + (f" {anchor}" if anchor != "n" else "") + (" b" if _bold(attributes) else "")
            out += f'<text class="{style}" x="{num(x)}" y="{num(y)}" font-size="{num(size)}">{escape(text)}</text>'
        return out

    def node(self, name: str) -> tuple[str, str]:
        """Elements of a node: (shape, text)."""
        a, d = self.light.nodes[name], self.dark.nodes.get(name, {})
        x, y = map(float, a["pos"].split(","))
        width, height = (72 * float(a.get(side, "0")) for side in ("width", "height"))
        rect = Rect.around((x, y), width, height)
        if a.get("style") == "invis":
            return "", ""
        text = self.text(a, d, (x, y), width)
        shape = a.get("shape", "ellipse")
        self.boxes.append(rect)
        if shape in ("plaintext", "none"):
            return "", text
        filled, pen = "filled" in a.get("style", ""), float(a.get("penwidth", "1"))
        paint = self.paint("f", "fillcolor", a, d) if filled else self.palette.of("f", "none", "none")
        paint += " " + self.paint("s", "color", a, d, "#000000") if pen else ""
        width_of = f' stroke-width="{num(pen)}"' if pen else ""
        if shape == "ellipse":
            size = f'rx="{num(width / 2)}" ry="{num(height / 2)}"'
            return f'<ellipse class="{paint}"{width_of} cx="{num(x)}" cy="{num(-y)}" {size}/>', text
        radius = min(8.0, height / 4) if "rounded" in a.get("style", "") else 0.0
        out = _rect(rect, radius, paint, width_of)
        if a.get("peripheries") == "2":
            self.boxes.append(rect.grown(4.0))
            out = _rect(rect.grown(4.0), radius + 4.0, paint, width_of) + out
        return out, text

    def edge(self, k: int) -> str:
        """The elements of an edge: its line (or double line), its head, its number."""
        a = self.light.edges[k][2]
        d = self.dark.edges[k][2] if k < len(self.dark.edges) else a
        end, points = _curve(a["pos"])
        self.boxes += [Rect(x, y, x, y) for x, y in (*points, end)]
        pen = float(a.get("penwidth", "1"))
        shades = list(zip(a.get("color", "#000000").split(":"), d.get("color", "#000000").split(":"), strict=False))
        path, dash = _path(points), _DASHES.get(a.get("style", ""), "")
        out = ""
        # A double line is a broad one with a gap of the background's colour on it.
        for colour, width in zip(shades[:2], (pen * len(shades), pen), strict=False):
            stroke = self.palette.of("s", *colour)
            out += f'<path class="{stroke}{dash}" stroke-width="{num(width)}" d="{path}"/>'
        out += self.head(a, shades[0], points[-1], end, pen)
        if a.get("label"):
            x, y = map(float, a["lp"].split(","))
            width = text_width(plain(a["label"]), float(a.get("fontsize", "14")))
            self.boxes.append(Rect.around((x, y), width, 10.0))
            out += self.text(a, d, (x, y), width)
        return out

    def head(self, a: Attributes, colour: tuple[str, str], start: Point, tip: Point, pen: float) -> str:
        kind = a.get("arrowhead", "normal")
        dx, dy = tip[0] - start[0], tip[1] - start[1]
        length = math.hypot(dx, dy) or 1.0
        ux, uy = dx / length, dy / length
        half = 3.5 * float(a.get("arrowsize", "1")) * max(1.0, pen / 4) + pen / 2
        if kind == "tee":
            half, middle = half * 1.8, (tip[0] - 1.5 * ux, tip[1] - 1.5 * uy)
            ends = [(middle[0] - uy * s * half, middle[1] + ux * s * half) for s in (-1, 1)]
            bar = "M" + "L".join(f"{num(x)},{num(-y)}" for x, y in (*ends,))
            stem = f"M{num(start[0])},{num(-start[1])}L{num(middle[0])},{num(-middle[1])}"
            return (
                f'<path class="{self.palette.of("s", *colour)}" stroke-width="{num(max(pen, 2.0))}" d="{stem}{bar}"/>'
            )
        corners = [(start[0] - uy * half, start[1] + ux * half), tip, (start[0] + uy * half, start[1] - ux * half)]
        d = "M" + "L".join(f"{num(x)},{num(-y)}" for x, y in corners) + "z"
        if kind == "onormal":
            return f'<path class="{self.palette.of("s", *colour)}" stroke-width="{num(pen)}" d="{d}"/>'
        return f'<path class="{self.palette.of("f", *colour)}" d="{d}"/>'


def _bold(attributes: Attributes) -> bool:
    return "Bold" in attributes.get("fontname", "")


def _rect(r: Rect, radius: float, paint: str, more: str = "") -> str:
    size = f'width="{num(r.right - r.left)}" height="{num(r.top - r.bottom)}"'
    corner = f' rx="{num(radius)}"' if radius else ""
    return f'<rect class="{paint}"{more} x="{num(r.left)}" y="{num(-r.top)}" {size}{corner}/>'


def _curve(pos: str) -> tuple[Point, list[Point]]:
    """The tip and the control points of an edge's ``pos``."""
    end: Point | None = None
    points = []
    for pair in pos.split():
        x, y = pair.split(",")[-2:]
        if pair[0] == "e":
            end = float(x), float(y)
        elif pair[0] != "s":
            points.append((float(x), float(y)))
    return end or points[-1], points


def _path(points: Iterable[Point]) -> str:
    (x, y), *rest = points
    return f"M{num(x)},{num(-y)}C" + " ".join(f"{num(px)},{num(-py)}" for px, py in rest)


def elements(
    light: Dot,
    dark: Dot,
    palette: Palette,
    prefix: str = "",
    titles: bool = True,
    keep: Callable[[Rect], bool] = lambda rect: True,
) -> Drawing:
    """A placed picture as SVG elements: frames, then nodes, then edges, in the order in which the engine paints.

    Parameters
    ----------
    light, dark : Dot
        The same picture in two themes.
    palette : Palette
        Gets its colours.
    prefix : str
        Of every id, to be unique on a page.
    titles : bool
        Give tooltips as ``<title>``.
    keep : callable
        Told the box of every text and node without edges, whether to draw it.
    """
    w = _Writer(light, dark, palette, prefix, titles)
    out: list[str] = []
    for group, other in zip(light.groups, dark.groups, strict=False):
        if "bb" in group.attributes:
            out.append(w.cluster(group, other))
    ends = {end for tail, head, _ in light.edges for end in (tail, head)}
    names: list[str] = []
    open_tip = None
    for name, attributes in light.nodes.items():
        before = len(w.boxes)
        shape, text = w.node(name)
        if not shape and not text:
            continue
        tip = attributes.get("tooltip", " ")
        if name not in ends and not keep(w.boxes[before]):
            del w.boxes[before:]
        elif not shape and tip.strip() and tip == open_tip:
            out[-1] = out[-1].removesuffix("</g>") + text + "</g>"  # a second line belongs to its node
        elif shape and tip.strip():
            open_tip = tip
            names.append(name)
            kind = "n" if name in ends else "d"
            out.append(f'<g class="{kind}" id={quoteattr(prefix + name)}>{w.title(attributes)}{shape}{text}</g>')
        else:
            out.append(shape + text)
    edges = []
    for k, (tail, head, attributes) in enumerate(light.edges):
        before = len(w.boxes)
        markup = w.edge(k)
        if tail not in names and light.nodes[tail].get("style") == "invis" and not keep(union(w.boxes[before:])):
            del w.boxes[before:]
            continue
        if "edgetooltip" in attributes:
            edges.append((tail, head, attributes))
            markup = f'<g class="e">{w.title(attributes)}{markup}</g>'
        out.append(markup)
    return Drawing("\n".join(out), union(w.boxes), names, edges)


def svg(source: str, dark: str | None = None, title: str = "Gradient graph", description: str = "") -> str:
    """A placed picture as an SVG file, without any engine.

    Parameters
    ----------
    source : str
        DOT in which everything has its place (`Picture.dot`).
    dark : str, optional
        The same picture in the dark theme: then its colours follow what the reader's system prefers.
    title, description : str
        For those who cannot see it.

    Returns
    -------
    str
        A whole SVG document; ids and rules carry a prefix that depends on the picture alone, so that many fit one page.
    """
    light = read(source)
    other, palette = read(dark) if dark else light, Palette()
    prefix = "p" + hashlib.sha256(source.encode()).hexdigest()[:8]
    drawing = elements(light, other, palette, f"{prefix}-")
    pad = 72 * float(light.attributes.get("pad", "0.06"))
    page = Drawing("", drawing.box.grown(pad), [], [])
    background = _rect(page.box, 0.0, palette.of("f", light.attributes["bgcolor"], other.attributes["bgcolor"]))
    scheme = f"#{prefix}{{color-scheme:light dark}}\n" if dark else ""
    _, _, width, height = page.view.split()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{prefix}" viewBox="{page.view}" width="{width}pt" '
        f'height="{height}pt" role="img" aria-labelledby="{prefix}-title {prefix}-desc">\n'
        f'<title id="{prefix}-title">{escape(title)}</title>\n<desc id="{prefix}-desc">{escape(description)}</desc>\n'
        f"<style>\n{scheme}{palette.css('#' + prefix)}\n</style>\n{background}\n{drawing.markup}\n</svg>\n"
    )
