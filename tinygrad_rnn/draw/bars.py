"""The bars of a gradient strip.

After this file the reader knows how a bar shows what an edge shows by its line: height and colour follow the logarithm
of the gradient; what is exactly zero, lost to underflow, not finite or exploding looks like nothing else.
"""

from __future__ import annotations

import math

from ..norms import Norm, State
from .geometry import Point, Rect
from .marks import Box, Drawing, Group, Text
from .strip import LANE, Lane, Strip, title_of
from .style import LABEL_SIZE, SMALLEST_NORMAL, Scale, clean, number, subscript


def draw_strip(drawing: Drawing, strip: Strip, name: str) -> None:
    """Fill the box of folded steps: a title, and for every state its bars on a band as high as the scale."""
    rect, options = strip.rect, drawing.options
    left, pitch = strip.bars
    middle = (rect.left + rect.right) / 2
    drawing.add(Text((middle, rect.top - 12.0), title_of(strip.node), 11.0, bold=True))
    for n, lane in enumerate(strip.lanes):
        width = rect.right - rect.left - 2 * (left - rect.left)
        drawing.add(Box(Rect.around((middle, lane.y), width, LANE), "background"))
        for t, size, state in lane.sizes(options.norm):
            x = left + (t - strip.steps[0] + 0.5) * pitch
            told = SMALLEST_NORMAL if state == "underflow" else number(size)
            tip = f"‖∂L/∂{clean(lane.symbol)}{subscript(str(t))}‖ = {told}"
            bar = _bar((x, lane.y - LANE / 2), pitch * 0.86, size, state, options.scale)
            drawing.add(Group("detail", f"{name}_{n}_{t}", (bar,), tip, step=t))
        below = Text((middle, lane.y - LANE / 2 - 8.0), caption(lane, options.norm), LABEL_SIZE, colour="muted")
        drawing.add(below)


def caption(lane: Lane, norm: Norm) -> str:
    """The gradient at both ends of a lane, and the rate of the line fitted between: see `graph.line`."""
    sizes = lane.sizes(norm)
    (first, weak, one), (last, strong, other) = sizes[0], sizes[-1]
    name = clean(lane.symbol)
    text = f"‖∂L/∂{name}{subscript(str(last))}‖ = {number(strong)}"
    if first != last:
        text = f"‖∂L/∂{name}{subscript(str(first))}‖ = {number(weak)}   …   {text}"
    has_rate = first != last and {one, other} == {"finite"} and math.isfinite(lane.factor)
    return text + f",   fitted: × {lane.factor:.3g} per step back" * has_rate


def _bar(foot: Point, width: float, size: float, state: State, scale: Scale) -> Box:
    """One bar, standing on its foot."""
    (x, y), half = foot, width / 2

    def box(height: float) -> Rect:
        return Rect(x - half, y, x + half, y + height)

    if state in ("nan", "inf"):
        return Box(box(LANE), None, "broken")
    if state == "zero":
        return Box(box(1.5), "muted")
    if state == "underflow":
        return Box(box(3.0), None, "r0", pen=0.8, dotted=True)
    height = 3.0 + (LANE - 3.0) * scale.fraction(size) if size <= scale.exploding else LANE + 6.0
    return Box(box(height), scale.colour(size))
