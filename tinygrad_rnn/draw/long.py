"""Long sequences on one slide: lines on an axis of decades, below them a row of colours for each state, over time.

After this file the reader knows where a gradient falls below what a number format holds, that the rate of a line is the
package's one rate of decay, and that steps of one colour are one rectangle, whose text tells its ends. Up to twenty
steps have room between the two for the network itself, as small cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, groupby, pairwise, product

from ..graph.line import FLOAT16_ZERO, FLOAT32_ZERO, line_through
from ..graph.model import GradientGraph
from ..graph.parts import Node
from ..graph.remembered import remembered
from ..graph.steps import states, step_number
from ..norms import Norm, State, norm_of, state_of
from .geometry import Point, Rect
from .marks import SCALE, Anchor, Box, Drawing, Group, Text, Way
from .paint import small_scene
from .scene import Scene
from .style import (
    INKS,
    LABEL_SIZE,
    SMALLEST_NORMAL,
    EdgeStyle,
    Options,
    Scale,
    clean,
    narrow,
    number,
    power,
    text_width,
)

EPS = math.log10(2.0**-23)
LIMITS = (
    (math.log10(3.4028e38), "float32 max"),
    (math.log10(65504.0), "float16 max"),
    (EPS, "float32 eps"),
    (FLOAT16_ZERO, "float16 zero"),
    (FLOAT32_ZERO, "float32 zero"),
)
"""Log10 of what a number format holds: beside a 1 nothing below eps is seen, and below zero's is nothing at all."""

FLOOR, HIGH, LOWEST = -50, 505.0, 120.0  # the axis ends at 1e-50; room for everything, and for the lines, in pixels
FEW_LINES, COLUMNS = 3, 1000
LEFT, RIGHT, LEAST = 150.0, 150.0, 44.0  # beside the panels, and between two steps whose numbers have room


@dataclass(frozen=True)
class Row:
    """One state through time.

    `sizes` has (step, size of its gradient, what that number means), first step first; `slope` is that of the line
    through its logarithm, `late` the step at which it begins to go back.
    """

    layer: str
    name: str
    sizes: tuple[tuple[int, float, State], ...]
    slope: float
    late: int

    @property
    def label(self) -> str:
        """Layer and state in a word or two."""
        return f"{self.layer} {self.name}".strip()

    def told(self, part: Sequence[tuple[int, float, State]]) -> str:
        """What some of its steps have, for a tooltip: the first and the last of them."""
        ends = [part[0], *part[1:][-1:]]
        size, when = (" … ".join(words) for words in ([told(x, s) for _, x, s in ends], [str(t) for t, *_ in ends]))
        return f"‖∂L/∂{self.name}‖ = {size}\n" + f"{self.layer}, t = {when}".removeprefix(", ")


def told(size: float, state: State) -> str:
    """The size of a gradient, in words."""
    return SMALLEST_NORMAL if state == "underflow" else number(size)


def rows_of(graphs: Mapping[str, GradientGraph], norm: Norm) -> list[Row]:
    """The states of all graphs, the top layer first, and in each what is handed on inside before h, and last x."""
    return [row for title, graph in graphs.items() for row in _rows_of(graph, clean(title, 24), norm)]


@remembered
def _rows_of(graph: GradientGraph, title: str, norm: Norm) -> tuple[Row, ...]:
    """Those of one graph: the chart is of them, and below cells of both ends stands how fast they fade."""
    # A zero is an underflow if something on the way was lost below the smallest number.
    lost = {e.tensor.id if e.tensor else e.source for e in graph.edges if e.state == "underflow"}
    lanes = [(*name.partition(" ")[::2], lane) for name, lane in states(graph).items()]
    given = {n.step: n for n in graph.nodes if n.name == "x" and n.step and n.gradient is not None}
    if given:
        lanes.append(("x", "", {step_number(step or "") or 0: n for step, n in given.items()}))
    both = any(layer.endswith(" reverse") for _, layer, _ in lanes)
    layers = list(dict.fromkeys(layer.removesuffix(" reverse") for _, layer, _ in lanes))
    lanes.sort(key=lambda lane: (-layers.index(lane[1].removesuffix(" reverse")), lane[1], "hx".find(lane[0])))
    found: list[Row] = []
    for name, layer, lane in lanes:
        way = " ←" if layer.endswith(" reverse") else " →" * (both and bool(layer))
        where = f"{title} {layer.removesuffix(' reverse')}{way}".strip()
        found.append(_row(where, clean(name), lane, lost, norm))
    return tuple(found)


def _row(layer: str, name: str, lane: Mapping[int, Node], lost: set[int], norm: Norm) -> Row:
    kept = {t: node.gradient for t, node in lane.items() if node.gradient is not None}
    ids = {t: node.id for t, node in lane.items()}
    sizes = tuple((t, norm_of(g, norm), state_of(g, ids[t] in lost)) for t, g in sorted(kept.items()))
    return Row(layer, name, sizes, line_through([*kept.values()][::-1]).slope, list(kept)[-1])


def chart(rows: Sequence[Row], options: Options, scene: Scene | None = None) -> tuple[Drawing, dict[int, float]]:
    """The panels as marks, with a scene of the same steps between them; and where each step stands."""
    panels = _Panels(rows, options)
    panels.draw(scene)
    return panels.drawing, {t: x * SCALE for t, x in panels.x.items()}


def fits(scene: Scene, width: float) -> bool:
    """Whether numbers have room below the steps of a scene, once it is as wide as the page."""
    centres = sorted(set(_centres(scene).values()))
    part = (width - LEFT) * SCALE / (scene.rect.right - scene.rect.left)
    return len(centres) > 1 and min(b - a for a, b in pairwise(centres)) * part > LEAST * SCALE


def _centres(scene: Scene) -> dict[int, float]:
    numbered = [(step_number(frame.step), frame.rect) for frame in scene.frames if frame.step]
    return {t: (rect.left + rect.right) / 2 for t, rect in numbered if t is not None}


def class_of(size: float, state: State, scale: Scale) -> str:
    """The colour of a gradient: ``panel`` where float32 has a zero."""
    if state in ("nan", "inf"):
        return "broken"
    return "panel" if size == 0.0 or math.log10(size) <= FLOAT32_ZERO else scale.colour(size)


class _Panels:
    """Lines and rows on one axis of time. Lengths are pixels of a slide, y downwards."""

    def __init__(self, rows: Sequence[Row], options: Options) -> None:
        self.drawing, self.rows, self.options = Drawing(options), rows, options
        self.steps = sorted({t for row in rows for t, *_ in row.sizes})
        width, height = options.page or (1280.0, 720.0)
        names = max(text_width(row.label, LABEL_SIZE) for row in rows) / SCALE + 36.0
        self.left, self.right = max(90.0, min(LEFT + 60.0, names)), max(width, 640.0) - RIGHT
        self.room = HIGH + max(0.0, height - 720.0)
        self.high = min(34.0, max(10.0, 150.0 / len(rows)))
        self.x: dict[int, float] = {}
        self.taken: list[Rect] = []
        self.rules: list[Rect] = []
        self.curves: list[list[Point]] = []

    def at(self, x: float, y: float) -> Point:
        """A place in points, y up."""
        return x * SCALE, -y * SCALE

    def box(self, x: float, y: float, right: float, bottom: float) -> Rect:
        """A rectangle in points."""
        return Rect(x * SCALE, -bottom * SCALE, right * SCALE, -y * SCALE)

    def text(self, x: float, y: float, text: str, anchor: Anchor = "middle", ink: str = "muted") -> None:
        """A line of text that others keep clear of."""
        self.write(Text(self.at(x, y), text, LABEL_SIZE, colour=ink, anchor=anchor))

    def write(self, mark: Text) -> None:
        """The same; it interrupts the line of a decade."""
        if any(map(mark.rect.overlap, self.rules)):
            self.drawing.add(Box(mark.rect.grown(1.0), "background"))
        self.taken.append(mark.rect)
        self.drawing.add(mark)

    def draw(self, scene: Scene | None) -> None:
        """All panels, from above."""
        small = None
        numbered = scene is not None or (self.right - self.left) / len(self.steps) > LEAST
        if numbered:
            self.high = 34.0 if len(self.rows) <= 4 else 25.0
        rows, between = self.high * len(self.rows), 16.0
        if scene is not None:
            rect = scene.rect
            part = (self.right + 80.0 - self.left) * SCALE / (rect.right - rect.left)
            small = scene.moved(self.left * SCALE - part * rect.left, 0.0, part)
            self.x = {t: x / SCALE for t, x in _centres(small).items()}
            self.right = 1.5 * self.x[self.steps[-1]] - 0.5 * self.x[self.steps[-2]]
            between += (rect.top - rect.bottom) * part / SCALE + 16.0
        else:
            wide = (self.right - self.left) / len(self.steps)
            self.x = {t: self.left + (k + 0.5) * wide for k, t in enumerate(self.steps)}
        bottom = max(LOWEST, self.room - rows - between - 26.0)
        self.lines(bottom, scene is not None)
        y = bottom + 16.0
        if small is not None:
            small_scene(self.drawing, small.moved(0.0, -y * SCALE - small.rect.top))
            y += between - 16.0
        self.heat(y, numbered)
        self.axis(y + rows + 13.0)

    # --- lines

    def shown(self) -> list[Row]:
        """The rows that are lines too: of each layer what it hands on inside, where there are many."""
        few = (next(group) for _, group in groupby(self.rows, key=lambda row: row.layer))
        return [*(self.rows if len(self.rows) <= 4 else few)][:INKS]

    def lines(self, bottom: float, scene: bool) -> None:
        """The upper panel."""
        logs = [math.log10(x) for row in self.rows for _, x, state in row.sizes if state == "finite" and x > 0.0]
        scale = self.options.scale  # which several pictures may share
        logs += [math.log10(x) for x in (scale.lo, scale.hi, scale.top) if x > 0.0]
        hi = max(0, math.ceil(max(logs, default=0.0) - 0.02))
        lo = max(FLOOR, min(hi - 4, math.floor(min(logs, default=0.0) + 1e-9)))
        most = max(2, int(min(10.0, bottom / 24.0)))
        step = next(s for s in (1, 2, 3, 5, 10, 20, 50, 100, 200) if (hi - lo) / s <= most)

        def height(log: float) -> float:
            return (hi - max(log, lo)) / (hi - lo) * bottom

        for decade in range(hi - hi % step, lo - 1, -step):
            self.rule(height(decade), "frame", "solid")
            self.text(self.left - 10.0, height(decade), power(decade), "end")
        low = -99.0
        for log, words in LIMITS:
            if lo < log < hi:
                self.rule(height(log), "broken", "dashed")
                low = max(height(log), low + 16.0)
                side = 10.0 if log == FLOAT16_ZERO else -10.0  # eps is so near that its words stand above it
                x, y = (self.right - 4.0, height(log) + side) if scene else (self.right + 8.0, low)
                self.text(x, y, f"{words} {number(10.0**log)}", "end" if scene else "start")
        lines = self.shown()
        for k, row in enumerate(lines):
            points = [
                (self.x[t], height(math.log10(x)), t)
                for t, x, state in row.sizes
                if state == "finite" and 0.0 < x and math.log10(x) > lo - 0.5 and t in self.x
            ]
            self.line(row, f"l{k}", points)
        if len(lines) <= FEW_LINES:
            for k, row in enumerate(lines):
                self.ring(row, f"l{k}", height)
        self.names(lines, bottom)

    def names(self, lines: Sequence[Row], bottom: float) -> None:
        """Which line is which, and its rate, in the first corner where no line runs."""
        words = [row.label + rate_of(row) for row in lines]
        wide, high = max(text_width(text, LABEL_SIZE) for text in words) / SCALE + 30.0, 19.0 * len(words)
        lefts, tops = (self.left + 12.0, self.right - wide - 12.0), (10.0, bottom - high - 10.0)
        for x, y in ((x, y) for y in tops for x in lefts):
            rect = self.box(x, y, x + wide, y + high)
            if any(rect.overlap(other) for other in self.taken) or any(crosses(curve, rect) for curve in self.curves):
                continue
            self.drawing.add(Box(rect, "background"))
            for k, text in enumerate(words):
                middle = y + 19.0 * k + 10.0
                self.drawing.add(Box(Rect.around(self.at(x + 10.0, middle), 8.0, 8.0), f"l{k}", radius=1.5))
                self.text(x + 22.0, middle, text, "start", "ink")
            return

    def rule(self, y: float, colour: str, kind: str) -> None:
        """A line from left to right."""
        ends = self.at(self.left, y), self.at(self.right, y)
        (self.taken if kind == "dashed" else self.rules).append(self.box(self.left, y - 1.0, self.right, y + 1.0))
        self.drawing.add(Way(ends, EdgeStyle(colour, 0.8 if kind == "solid" else 1.0, kind, "", "none")))

    def line(self, row: Row, ink: str, points: Sequence[tuple[float, float, int]]) -> None:
        """One line, without the points that lie on it anyway; where a step has no logarithm, it is broken."""
        self.curves.append([(x, y) for x, y, _ in points])
        place = {t: k for k, t in enumerate(self.steps)}
        parts = [[p for _, p in part] for _, part in groupby(enumerate(points), lambda kp: place[kp[1][2]] - kp[0])]
        ways = []
        for part in parts:
            corners = [self.at(x, y) for x, y in thinned([(x, y) for x, y, _ in part])]
            corners += [(corners[0][0] + 2.0, corners[0][1])] * (len(corners) == 1)
            ways.append(Way(tuple(corners), EdgeStyle(ink, 2.0, "solid", "", "none")))
        tip = f"{row.label}{rate_of(row)}\n{row.told(row.sizes)}"
        self.drawing.add(Group("detail", f"line{ink}", tuple(ways), tip, step=row.late))

    def ring(self, row: Row, ink: str, height: Callable[[float], float]) -> None:
        """Where a line falls below eps, on its way back from the latest step that the loss reads."""
        back = row.sizes if row.sizes[0][0] == row.late else row.sizes[::-1]
        back = tuple(dropwhile(lambda step: step[2] == "zero", back))
        logs = [math.log10(x) if state == "finite" and x > 0.0 else math.nan for _, x, state in back]
        lag = next((k for k, log in enumerate(logs) if log < EPS), 0)
        if lag and logs[0] > EPS and logs[lag] > FLOOR:
            x, y = self.x[back[lag][0]], height(logs[lag])
            self.drawing.add(Box(Rect.around(self.at(x, y), 7.0, 7.0), "background", f"{ink}", 1.9, ellipse=True))
            self.free(x, y, f"{lag} steps back", ink)

    def free(self, x: float, y: float, text: str, ink: str) -> None:
        """A text at the first place beside a ring where it meets no line and no other text; else nowhere."""
        for dx, dy in product((10.0, -106.0), (18.0, 36.0, 54.0, -18.0, -36.0, -54.0)):
            mark = Text(self.at(max(x + dx, self.left), y + dy), text, LABEL_SIZE, True, ink, "start")
            r = mark.rect.grown(2.0)
            if r.right > self.right * SCALE or r.top > 8.0 * SCALE:
                continue
            if not any(map(r.overlap, self.taken)) and not any(crosses(c, r) for c in self.curves):
                return self.write(mark)

    # --- rows

    def heat(self, top: float, numbered: bool) -> None:
        """The lower panel: names, colours, and numbers at both ends, or at every step where there is room."""
        inks = {id(row): k for k, row in enumerate(self.shown())}
        wide = min((b - a for a, b in zip(self.x.values(), list(self.x.values())[1:], strict=False)), default=60.0)
        last = -99.0
        for k, row in enumerate(self.rows):
            y, middle = top + k * self.high, top + (k + 0.5) * self.high
            bar = y + 20.0 + 0.1 * (self.high - 25.0) if numbered else y + 1.0
            if middle - last > 17.0:
                last = middle
                self.text(self.left - 26.0, middle, row.label if self.high > 16.0 else row.layer or row.name, "end")
                if not numbered:
                    ends = " → ".join(number(size) for _, size, _ in (row.sizes[0], row.sizes[-1]))
                    self.text(self.right + 8.0, middle, ends, "start")
            if id(row) in inks:
                chip = Rect.around(self.at(self.left - 15.0, middle), 8.0, min(8.0, self.high * SCALE - 2.0))
                self.drawing.add(Box(chip, f"l{inks[id(row)]}", radius=1.5))
            for part, colour in self.runs(row):
                a, b = self.x[part[0][0]] - wide / 2, self.x[part[-1][0]] + wide / 2
                rect = self.box(a, bar, b + (0.3 if len(self.steps) > 60 else -1.0), y + self.high - 1.0)
                shape = Box(rect, colour if colour != "broken" else None, "broken" if colour == "broken" else None)
                late = (min if row.sizes[0][0] == row.late else max)(part[0][0], part[-1][0])
                self.drawing.add(Group("detail", f"row{k}_{part[0][0]}", (shape,), row.told(part), step=late))
            for t, size, state in row.sizes if numbered else ():
                self.text(self.x[t], y + 10.0, narrow(told(size, state), (wide - 2.0) * SCALE), ink="ink")

    def runs(self, row: Row) -> Iterator[tuple[list[tuple[int, float, State]], str]]:
        """Neighbouring steps of one colour; of ten thousand, some at a time, which have that of the largest."""
        n, scale = -(-len(row.sizes) // COLUMNS), self.options.scale
        parts = [row.sizes[k : k + n] for k in range(0, len(row.sizes), n)]
        strongest = [max(part, key=lambda step: (step[1] != step[1], step[1])) for part in parts]
        named = [(part, class_of(size, state, scale)) for part, (_, size, state) in zip(parts, strongest, strict=True)]
        for colour, group in groupby(named, key=lambda pair: pair[1]):
            yield [step for part, _ in group for step in part], colour

    def axis(self, y: float) -> None:
        """The numbers of the steps: all of few, else the first, the last and round ones."""
        wanted, first, last, count = self.steps, self.steps[0], self.steps[-1], len(self.steps)
        if count > 20:
            every = next(s for base in range(9) for s in (10**base, 2 * 10**base, 5 * 10**base) if count / s <= 7)
            wanted = [first, *(t for t in self.steps if t % every == 0 and first < t < last), last]
        words = {t: f"t = {t}" if t in (first, last) and count > 1 else str(t) for t in wanted}
        wide = {t: text_width(word, LABEL_SIZE) / SCALE for t, word in words.items()}
        for t, word in words.items():
            ends = () if t in (first, last) else (first, last)
            if all(abs(self.x[t] - self.x[end]) > (wide[t] + wide[end]) / 2 + 4.0 for end in ends):
                self.text(self.x[t], y, word)


def rate_of(row: Row) -> str:
    """The one rate of decay, in words; nothing where it has no meaning."""
    return f":  × {10.0**row.slope:.3g} per step back" if math.isfinite(row.slope) else ""


def crosses(curve: Sequence[Point], rect: Rect) -> bool:
    """Whether a line of pixels runs through a rectangle of points."""
    left, right = rect.left / SCALE, rect.right / SCALE
    for (ax, ay), (bx, by) in pairwise(curve):
        lo, hi = max(min(ax, bx), left), min(max(ax, bx), right)
        if lo <= hi:
            ys = [ay + (by - ay) * ((x - ax) / (bx - ax) if bx != ax else 0.0) for x in (lo, hi)]
            if min(ys) < -rect.bottom / SCALE and max(ys) > -rect.top / SCALE:
                return True
    return False


def thinned(points: Sequence[Point], width: float = 0.35) -> list[Point]:
    """Those of the points between which all others lie on a straight line, but for a third of a pixel."""
    if len(points) < 3:
        return list(points)
    kept, low, high, before = [points[0]], -math.inf, math.inf, points[0]
    for x, y in points[1:]:
        dx = x - kept[-1][0]
        slope = (y - kept[-1][1]) / dx
        if not low <= slope <= high:
            kept.append(before)
            dx = x - before[0]
            low, high = -math.inf, math.inf
        low = max(low, (y - width - kept[-1][1]) / dx)
        high = min(high, (y + width - kept[-1][1]) / dx)
        before = x, y
    return [*kept, before]
