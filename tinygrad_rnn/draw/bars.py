"""The bars of a gradient strip, as DOT.

After this file the reader knows how a bar shows what an edge shows by its line: height and colour follow the logarithm
of the gradient; what is exactly zero, lost to underflow, not finite or exploding looks like nothing else.
"""

from __future__ import annotations

import graphviz

from ..graph.model import Norm, State
from .geometry import Point
from .sheet import Sheet, inch
from .strip import LANE, Lane, Strip, title_of
from .style import LABEL_SIZE, SMALLEST_NORMAL, clean, number, ramp, subscript


def draw_strip(sheet: Sheet, strip: Strip, name: str) -> None:
    """Fill the box of folded steps: a title, and for every state its bars on a band as high as the scale."""
    rect, theme = strip.rect, sheet.options.theme
    left, pitch = strip.bars
    middle = (rect.left + rect.right) / 2
    sheet.text((middle, rect.top - 12.0), title_of(strip.node), 11.0, bold=True)
    for n, lane in enumerate(strip.lanes):
        width = rect.right - rect.left - 2 * (left - rect.left)
        band = {"fillcolor": theme.background, "width": inch(width), "height": inch(LANE)}
        sheet.node(f"{name}_{n}", (middle, lane.y), label="", shape="box", style="filled", penwidth="0", **band)
        for t, size, state in lane.sizes(sheet.options.norm):
            x = left + (t - strip.steps[0] + 0.5) * pitch
            told = SMALLEST_NORMAL if state == "underflow" else number(size)
            tip = f"‖∂L/∂{clean(lane.symbol)}{subscript(str(t))}‖ = {told}"
            _bar(sheet, f"{name}_{n}_{t}", (x, lane.y - LANE / 2), pitch * 0.86, size, state, tip)
        sheet.text((middle, lane.y - LANE / 2 - 8.0), caption(lane, sheet.options.norm), LABEL_SIZE, muted=True)


def caption(lane: Lane, norm: Norm) -> str:
    """The gradient at both ends of a lane, and by what it changes per step on the way back."""
    sizes = lane.sizes(norm)
    (first, weak, _), (last, strong, _) = sizes[0], sizes[-1]
    name, factor = clean(lane.symbol), lane.factor(norm)
    text = f"‖∂L/∂{name}{subscript(str(last))}‖ = {number(strong)}"
    if first != last:
        text = f"‖∂L/∂{name}{subscript(str(first))}‖ = {number(weak)}   …   {text}"
    return text + (f",   × {factor:.3g} per step back" if factor is not None else "")


def _bar(sheet: Sheet, name: str, foot: Point, width: float, size: float, state: State, tip: str) -> None:
    """One bar, standing on its foot."""
    theme, scale = sheet.options.theme, sheet.options.scale
    height, look = 3.0 + (LANE - 3.0) * scale.fraction(size), {"style": "filled", "penwidth": "0"}
    if state in ("nan", "inf"):
        height = LANE
        look = {"style": "", "penwidth": "1.1", "color": theme.broken}
    elif state == "zero":
        height, look["fillcolor"] = 1.5, theme.muted
    elif state == "underflow":
        height = 3.0
        look = {"style": "dotted", "penwidth": "0.8", "color": ramp(0.0, theme)}
    elif size > scale.exploding:
        height, look["fillcolor"] = LANE + 6.0, theme.exploding
    else:
        look["fillcolor"] = ramp(scale.fraction(size), theme)
    box = {"shape": "box", "width": inch(width), "height": inch(height), "tooltip": graphviz.escape(tip)}
    sheet.node(name, (foot[0], foot[1] + height / 2), label="", **box, **look)
