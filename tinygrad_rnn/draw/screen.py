"""A film as a file: what stays is written once, and of each frame the look and the number of every edge.

After this file the reader knows how one picture moves. A look (colour, width, head) is one class of the style sheet, a
text a word. A page's script (``film.js``) sets classes and words; the SVG for a README is the same
picture, whose classes move by themselves.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from .geometry import trimmed, union
from .marks import SCALE, Box, Group, Mark, Text, Way
from .page import document
from .paint import NORMS, edge_tooltip
from .picture import Picture
from .style import MINUS, THEMES, EdgeStyle
from .svg import Palette, colours, element, mark, num, path_of, together, view_of

SECONDS = 0.3
"""How long a frame of an animated SVG stands."""

MARKER = 'orient="auto" markerUnits="userSpaceOnUse" overflow="visible"'
HERE = "◌"
"""In a tooltip: where the number goes."""


class Screen:
    """All frames as marks, in `order` from behind to the front.

    What never changes is "still"; "edge" and "text" have all versions of an edge with a gradient and of a text that
    keeps its place, "marks" those of anything else.
    """

    def __init__(self, labels: list[str], pictures: Sequence[Picture]) -> None:
        drawings = [picture.drawing for picture in pictures]
        self.labels, self.options, self.title = labels, drawings[0].options, pictures[0].title
        self.sheet = union(drawing.page for drawing in drawings)
        self.wide, self.high = self.sheet.right - self.sheet.left, self.sheet.top - self.sheet.bottom
        self.order: list[tuple[str, Any]] = []
        keyed = [_keyed(drawing.items) for drawing in drawings]
        for key in _merged(keyed):
            self.order += _sorted([items.get(key) for items in keyed])
        self.nodes = {p.id: p.node for _, scene in pictures[0].sight.rows for p in scene.nodes}
        self.edges: list[list[Group]] = [versions for kind, versions in self.order if kind == "edge"]
        self.looks = {_kind(style): style for groups in self.edges for style in map(_style, groups)}
        self.kinds = list(self.looks)
        filled = [s for s in self.looks.values() if s.head in ("back", "forward")]
        heads = [Way((), style).head_size[0] for style in filled]
        self.short = min(heads, default=1.0) - 1.0

    def look(self, group: Group) -> int:
        """Which look an edge has in one frame."""
        return self.kinds.index(_kind(_style(group)))

    def lines(self, groups: Sequence[Group]) -> str:
        """The line of an edge, without the room of the smallest head, which is a marker at its end."""
        way = next(m for m in groups[0].marks if isinstance(m, Way))
        curve = trimmed(way.curve[:: 1 if self.options.heads == "data" else -1], self.short)
        return f'<path d="{path_of(curve, way.radius)}"/>'

    def style(self, palette: Palette, themes: Sequence[Any], name: str) -> str:
        """A class for each look, and the heads as markers."""
        rules, heads = [f"#{name} .m{{fill:none}}", f"#{name} .m text{{stroke:none}}"], ""
        for k, style in enumerate(self.looks.values()):
            bar, width = style.head == "bar", num(style.width * (3 if style.double else 1))
            end = "start" if bar and self.options.heads == "data" else "end"
            dots = ";stroke-dasharray:1.5 5;stroke-linecap:round" * (style.line == "dotted")
            marker = f";marker-{end}:url(#{name}m{k})" * (style.head != "none")
            stroke = colours("stroke", style.color, themes)
            rules.append(f"#{name} .k{k}{{{stroke};stroke-width:{width}{dots}{marker}}}")
            long, half = map(num, Way((), style).head_size)
            shape = f"M0,{half}V-{half}" if bar else f"M0,{half}L{long},0L0,-{half}z"
            ink = f'class="{palette.of("f", style.color)} {palette.of("s", style.color)}" stroke-width="{2.4 * bar}"'
            about = f'{MARKER} refX="{0 if bar else num(float(long) - self.short)}"'
            heads += f'<marker id="{name}m{k}" {about}><path {ink} d="{shape}"/></marker>' * bool(marker)
        return f"<style>\n{palette.css(f'#{name}', themes)}\n" + "\n".join(rules) + f"\n</style>\n{heads}"

    def svg(
        self, name: str, themes: Sequence[Any], write: Callable[[str, Any, Palette], str], above: float = 0.0
    ) -> str:
        """The whole picture; `write` makes elements of what changes, and last of what is in front of all."""
        palette, page = Palette(), self.sheet._replace(top=self.sheet.top + above)
        inside = [mark(Box(page, "background"), palette)]
        for kind, item in self.order:
            inside.append(element(item, palette, f"{name}-") if kind == "still" else write(kind, item, palette))
        inside.append(write("front", None, palette))
        size = f'width="{num(self.wide)}pt" height="{num(self.high + above)}pt" role="img"'
        told = escape(f"{len(self.labels)} frames, from {self.labels[0]} to {self.labels[-1]}")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" id="{name}" viewBox="{view_of(page)}" {size}>\n'
            f"<title>{escape(self.title)}</title>\n<desc>{told}</desc>\n{self.style(palette, themes, name)}\n"
            + "\n".join(filter(None, inside))
            + "\n</svg>\n"
        )

    def page(self) -> str:
        """The film as one page."""
        things, marks, norm = list[Any](), list[Any](), self.options.norm

        def write(kind: str, item: Any, palette: Palette) -> str:
            if kind == "edge":
                ends = self.nodes[item[0].tail], self.nodes[item[0].head]
                tip = edge_tooltip(item[0].edge, *ends, norm, f"{HERE} ({NORMS[norm]})")
                sizes = [f"{group.edge.size(norm):.3g}".replace("-", MINUS) for group in item]
                labels = [[m for m in group.marks if isinstance(m, Text)] for group in item]
                things.append([[text.text for texts in labels for text in texts], [*map(self.look, item)], sizes, tip])
                inside = self.lines(item) + "".join(mark(text, palette) for text in labels[0])
                return f'<g class="m k{self.look(item[0])}">{inside}</g>'
            if kind == "text":
                things.append([[text.text for text in item]])
                return f'<g class="m">{mark(item[0], palette)}</g>'
            marks.append(["".join(mark(m, palette) for m in _marks(version)) for version in item or ()])
            return f'<g class="v">{marks[-1][0]}</g>' if item else ""

        picture = self.svg("film", list(THEMES.values()), write)
        shape = f":root{{--wide:{self.wide / SCALE:.0f}px;--shape:{self.wide / self.high:.4f}}}"
        body = f"""<main id="stage" tabindex="0" aria-label="The picture of this frame">
{picture}</main>
<footer><button type="button" id="play" aria-label="Play">▶</button><output id="caption" for="frame"></output>
<input type="range" id="frame" min="0" max="{len(self.labels) - 1}" value="0" aria-label="Frame"/></footer>"""
        data = {"labels": self.labels, "things": things, "marks": marks}
        return document("film", self.title, self.options.theme, shape, body, data)

    def inline(self) -> str:
        """The same for a notebook, whose own script and style it leaves alone."""
        style = f"width:100%;aspect-ratio:{self.wide:.0f}/{self.high + 60:.0f};border:0"
        return f'<iframe srcdoc="{escape(self.page())}" style="{style}" title="{escape(self.title)}"></iframe>'

    def animated(self) -> str:
        """The film as one SVG without a script: classes change by SMIL, and of texts the ones of a frame are shown."""
        count, sheet = len(self.labels), self.sheet
        clock = f'dur="{num(max(3.0, SECONDS * count))}s" calcMode="discrete" repeatCount="indefinite"'
        at = (sheet.left + sheet.right) / 2, sheet.top + 14.0
        layers = [list[Mark]([Text(at, label, 16.0, bold=True)]) for label in self.labels]

        def write(kind: str, item: Any, palette: Palette) -> str:
            if kind == "front":
                return "\n".join(front(k, together(layer, palette)) for k, layer in enumerate(layers))
            for layer, version in zip(layers, item, strict=True):
                layer += [m for m in _marks(version) if kind != "edge" or isinstance(m, Text)]
            if kind != "edge":
                return ""
            looks = [f"m k{self.look(group)}" for group in item]
            move = f'<animate attributeName="class" values="{";".join(looks)}" {clock}/>' * (len(set(looks)) > 1)
            return f'<g class="{looks[0]}">{move}{self.lines(item)}</g>'

        def front(k: int, inside: str) -> str:
            stops = [(0.0, "none")] * (k > 0) + [(k / count, "inline")] + [((k + 1) / count, "none")] * (k + 1 < count)
            times, values = ";".join(f"{t:.4g}" for t, _ in stops), ";".join(value for _, value in stops)
            move = f'<animate attributeName="display" values="{values}" keyTimes="{times}" {clock}/>'
            return f'<g display="{"none" if k else "inline"}">{move * (count > 1)}{inside}</g>'

        seen = repr([self.title, self.labels, [[_style(g) for g in groups] for groups in self.edges], sheet])
        name = "f" + hashlib.sha256(seen.encode("utf-8", "replace")).hexdigest()[:8]
        return self.svg(name, [self.options.theme], write, 28.0)


def _style(group: Group) -> EdgeStyle:
    return next(m.style for m in group.marks if isinstance(m, Way))


def _kind(style: EdgeStyle) -> tuple[Any, ...]:
    return style.color, style.line, style.head, style.double


def _keyed(items: Sequence[Group | Mark]) -> dict[tuple[str, int], Group | Mark]:
    """Groups by their names, other marks by their places."""
    seen, found = Counter[str](), dict[tuple[str, int], Group | Mark]()
    for item in items:
        place = {Text: "at", Box: "rect", Way: "curve", Group: "name"}[type(item)]
        key = f"{place} {getattr(item, place)}"
        seen[key] += 1
        found[key, seen[key]] = item
    return found


def _merged(frames: Sequence[Mapping[Any, Any]]) -> list[Any]:
    """The keys of all frames; what the first has not stands where it does in its own frame, behind the same things."""
    order = list(frames[0])
    for frame in frames:
        known, at = set(order), 0
        for key in frame if not frame.keys() <= known else ():
            if key in known:
                at = order.index(key)
            else:
                order.insert(at + 1, key)
                at += 1
    return order


def _marks(item: Group | Mark | None) -> tuple[Mark, ...]:
    return () if item is None else item.marks if isinstance(item, Group) else (item,)


def _sorted(versions: Sequence[Group | Mark | None]) -> list[tuple[str, Any]]:
    """One thing of the picture: as it is, with its texts apart if only these change, or in all its versions."""
    first = versions[0]
    if isinstance(first, Group) and first.edge is not None and first.edge.carried is not None:
        return [("edge", versions)]
    if isinstance(first, Group):
        tips = [v.tip.split("\n") for v in versions if isinstance(v, Group)]
        first = replace(first, tip="\n".join(part for part in tips[0] if all(part in tip for tip in tips)))
    marks = [_marks(item) for item in versions]
    columns = list(zip(*marks, strict=True)) if len(set(map(len, marks))) == 1 else []
    moving = [column for column in columns if any(other != column[0] for other in column)]
    if first is None or not columns or not all(_is_text(column) for column in moving):
        return [("marks", versions)]
    still = tuple(column[0] for column in columns if column not in moving)
    own = replace(first, marks=still) if isinstance(first, Group) else first
    return [("still", own)] * bool(still) + [("text", column) for column in moving]


def _is_text(column: Sequence[Mark]) -> bool:
    """Whether these are one text but for its words."""
    return len({repr(m._replace(text="")) if isinstance(m, Text) else repr(m) for m in column}) == 1
