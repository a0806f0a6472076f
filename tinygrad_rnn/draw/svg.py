"""The SVG writer: marks as elements, the same bytes on every machine.

After this file the reader knows what an SVG of this package promises: a title and a description for those who do not
see it, a tooltip for every box, bar and edge, one rule for each colour, and names of its own, so that many pictures fit
on one page. The colours of both themes come from the same marks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from .geometry import Curve, Rect, rounded
from .marks import SCALE, Box, Drawing, Group, Mark, Text, Way, marks_of
from .style import THEMES, Theme

_CLASSES = {"node": "n", "detail": "d", "edge": "e"}
_PAGES = (
    ("[data-jp-theme-light=true]", "[data-theme=light]", ".light"),
    ("[data-jp-theme-light=false]", "[data-theme=dark]", ".dark", ".vscode-dark"),
)
"""How pages say that they are light, or dark: JupyterLab's, those of documentation, VS Code's."""

_LINES = {"dotted": " dot", "dashed": " dash", "solid": ""}


@dataclass
class Palette:
    """The names of the colours that one or several pictures use, each with a class."""

    names: dict[str, int] = field(default_factory=dict)

    def of(self, kind: str, name: str | None) -> str:
        """The class that fills (`kind` f) or strokes (s) with a colour."""
        return f"{kind}{self.names.setdefault(name or 'none', len(self.names))}" if name else f"{kind}n"

    def css(self, scope: str, themes: Sequence[Theme], inline: bool = False) -> str:
        """The style sheet, every rule within `scope`; of two themes, the reader's preference chooses.

        What stands `inline` on somebody else's page follows what that page calls dark, by variables of its own.
        """
        rules = [
            "{font-family:Helvetica,Arial,'Liberation Sans',sans-serif}",
            " text{text-anchor:middle;pointer-events:none;white-space:pre}",
            " .start{text-anchor:start}",
            " .end{text-anchor:end}",
            " .b{font-weight:bold}",
            " .w{fill:none}",
            " .fn{fill:none}",
            " .dot{stroke-dasharray:1.5 5;stroke-linecap:round}",
            " .dash{stroke-dasharray:5 4}",
        ]
        for name, k in self.names.items():
            for kind, what in (("f", "fill"), ("s", "stroke")):
                rules.append(f" .{kind}{k}{{{f'{what}:var(--c{k})' if inline else colours(what, name, themes)}}}")
        shades = ["{" + ";".join(f"--c{k}:{t.colour(name)}" for name, k in self.names.items()) + "}" for t in themes]
        css = "\n".join(scope + rule for rule in (rules + shades[:1] if inline else rules))
        if inline and len(themes) > 1:
            css += f"\n@media(prefers-color-scheme:dark){{{scope}{shades[1]}}}"
            for shade, pages in zip(shades, _PAGES, strict=True):
                css += f"\n{','.join(f'{page} {scope}' for page in pages)}{shade}"
        return css


def colours(what: str, name: str, themes: Sequence[Theme]) -> str:
    """A rule for ``fill`` or ``stroke``; of two themes, the reader's preference chooses."""
    each = [theme.colour(name) for theme in themes]
    return f"{what}:{each[0]}" + (f";{what}:light-dark({','.join(each)})" if len(set(each)) > 1 else "")


def num(value: float) -> str:
    """A number of points, short."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def view_of(rect: Rect) -> str:
    """The ``viewBox`` of a rectangle."""
    return " ".join(map(num, (rect.left, -rect.top, rect.right - rect.left, rect.top - rect.bottom)))


def elements(drawing: Drawing, palette: Palette, prefix: str = "", titles: bool = True) -> str:
    """A picture as elements. Those of class ``n`` are nodes, ``d`` details with a tooltip, ``e`` edges.

    Parameters
    ----------
    drawing : Drawing
    palette : Palette
        Gets its colours.
    prefix : str
        Of every id, to be unique on a page.
    titles : bool
        Give tooltips as ``<title>``.
    """
    return "\n".join(element(item, palette, prefix, titles) for item in drawing.items)


def element(item: Group | Mark, palette: Palette, prefix: str = "", titles: bool = True) -> str:
    """One thing of a picture as an element."""
    if not isinstance(item, Group):
        return mark(item, palette)
    tip = f"<title>{escape(item.tip)}</title>" if titles and item.tip else ""
    inside = "".join(mark(part, palette) for part in item.marks)
    name = "" if item.kind == "edge" else f" id={quoteattr(prefix + item.name)}"
    return f'<g class="{_CLASSES[item.kind]}"{name}>{tip}{inside}</g>'


def mark(mark: Mark, palette: Palette) -> str:
    """One mark as SVG."""
    if isinstance(mark, Text):
        return _text(mark, palette)
    return _box(mark, palette) if isinstance(mark, Box) else _way(mark, palette)


def _text(text: Text, palette: Palette) -> str:
    more = ("" if text.anchor == "middle" else f" {text.anchor}") + " b" * text.bold
    about = f'class="{palette.of("f", text.colour)}{more}" {_at(text)} font-size="{num(text.size)}"'
    return f"<text {about}>{escape(text.text)}</text>"


def _at(text: Text) -> str:
    return f'x="{num(text.at[0])}" y="{num(0.35 * text.size - text.at[1])}"'


def together(marks: Sequence[Mark], palette: Palette) -> str:
    """Many marks: what texts have in common is said once."""
    alike: dict[str, str] = {}
    for text in (m for m in marks if isinstance(m, Text)):
        ink = f'class="{palette.of("f", text.colour)}{" b" * text.bold}" font-size="{num(text.size)}"'
        anchor = "" if text.anchor == "middle" else f' class="{text.anchor}"'
        alike[ink] = alike.get(ink, "") + f"<text{anchor} {_at(text)}>{escape(text.text)}</text>"
    others = "".join(mark(m, palette) for m in marks if not isinstance(m, Text))
    return others + "".join(f"<g {ink}>{words}</g>" for ink, words in alike.items())


def _box(box: Box, palette: Palette) -> str:
    rect, paint, pen = box.rect, palette.of("f", box.fill), ""
    if box.line:
        paint += f" {palette.of('s', box.line)}" + " dot" * box.dotted
        pen = f' stroke-width="{num(box.pen)}"'
    if box.ellipse:
        x, y = (rect.left + rect.right) / 2, -(rect.bottom + rect.top) / 2
        size = f'rx="{num((rect.right - rect.left) / 2)}" ry="{num((rect.top - rect.bottom) / 2)}"'
        return f'<ellipse class="{paint}"{pen} cx="{num(x)}" cy="{num(y)}" {size}/>'
    out = ""
    for r, radius in [(rect.grown(4.0), box.radius + 4.0)] * box.double + [(rect, box.radius)]:
        size = f'width="{num(r.right - r.left)}" height="{num(r.top - r.bottom)}"'
        corner = f' rx="{num(radius)}"' if radius else ""
        out += f'<rect class="{paint}"{pen} x="{num(r.left)}" y="{num(-r.top)}" {size}{corner}/>'
    return out


def _way(way: Way, palette: Palette) -> str:
    """The line (twice, where it is double: a broad one, and the background's colour on it) and the head."""
    style, path = way.style, path_of(way.stem(), way.radius)
    strokes = (
        [(style.color, 3 * style.width), ("background", style.width)] if style.double else [(style.color, style.width)]
    )
    out = "".join(
        f'<path class="w {palette.of("s", colour)}{_LINES[style.line]}" stroke-width="{num(width)}" d="{path}"/>'
        for colour, width in strokes
    )
    if style.head == "none":
        return out
    corners = "L".join(f"{num(x)},{num(-y)}" for x, y in way.head())
    if style.head in ("bar", "open"):
        pen = 2.4 if style.head == "bar" else 1.2
        return out + f'<path class="w {palette.of("s", style.color)}" stroke-width="{num(pen)}" d="M{corners}"/>'
    return out + f'<path class="{palette.of("f", style.color)}" d="M{corners}z"/>'


def path_of(corners: Curve, radius: float) -> str:
    """A line, straight from corner to corner or round them."""
    out = f"M{num(corners[0][0])},{num(-corners[0][1])}"
    for _, *points in rounded(corners, radius):
        out += ("L" if len(points) == 1 else "C") + " ".join(f"{num(x)},{num(-y)}" for x, y in points)
    return out


def svg(drawing: Drawing, title: str = "Gradient graph", description: str = "", inline: bool = False) -> str:
    """A picture as an SVG file.

    Parameters
    ----------
    drawing : Drawing
    title, description : str
        For those who cannot see it.
    inline : bool
        For a page, such as a notebook: as wide as its column at most, light or dark as the page is.

    Returns
    -------
    str
        A whole SVG document; ids and rules carry a prefix that depends on the picture alone.
    """
    palette, page = Palette(), drawing.page
    theme = drawing.options.theme
    themes = [*THEMES.values()] if inline and theme is THEMES["light"] else [theme]
    marks = repr([title, description, [theme.name for theme in themes], list(marks_of(drawing.items))])
    prefix = "p" + hashlib.sha256(marks.encode("utf-8", "replace")).hexdigest()[:8]
    markup = f"{mark(Box(page, 'background'), palette)}\n{elements(drawing, palette, f'{prefix}-')}"
    size = f'width="{num(page.right - page.left)}pt" height="{num(page.top - page.bottom)}pt"'
    if inline:
        size = f'style="width:100%;max-width:{(page.right - page.left) / SCALE:.0f}px;height:auto"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{prefix}" viewBox="{view_of(page)}" {size} '
        f'role="img" aria-labelledby="{prefix}-title {prefix}-desc">\n'
        f'<title id="{prefix}-title">{escape(title)}</title>\n<desc id="{prefix}-desc">{escape(description)}</desc>\n'
        f"<style>\n{palette.css('#' + prefix, themes, inline)}\n</style>\n{markup}\n</svg>\n"
    )
