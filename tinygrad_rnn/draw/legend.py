"""What explains a picture on the picture itself: its heading above, and the legend below.

After this file the reader knows that the legend is drawn by the very function that styles the edges, so that it cannot
disagree with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..graph.model import Norm, State
from .geometry import Rect, line
from .sheet import Sheet, inch
from .style import LABEL_SIZE, Scale, edge_style, number, ramp, text_width

FLOW = (
    "data flows along the arrows, the gradient flows back against them; each number is what comes back along that edge"
)
NORMS: dict[Norm, str] = {"l2": "L2 norm", "rms": "root mean square", "max": "largest magnitude"}
_BAR = 240.0
_CELLS = 24
_SAMPLE = 44.0
_PITCH = 92.0


def heading(sheet: Sheet, body: Rect, title: str, subtitle: str | None) -> None:
    """Title, subtitle, and how to read the picture, centred above it."""
    middle = (body.left + body.right) / 2
    lines = [(FLOW, 11.0, False, True)]
    lines += [(subtitle, 12.0, False, True)] if subtitle else []
    lines += [(title, 16.0, True, False)] if title else []
    y = body.top + 20.0
    for text, size, bold, muted in lines:
        sheet.text((middle, y), text, size, bold=bold, muted=muted)
        y += size * 0.55 + 14.0


def legend(sheet: Sheet, body: Rect, notes: Sequence[str]) -> None:
    """The colour bar with its numbers, a sample of every edge state, and notes; beside each other if there is room."""
    samples = _samples(sheet.options.scale)
    wide = _BAR + 60.0 + _PITCH * len(samples)
    y = body.bottom - 22.0
    left = body.left if body.right - body.left > wide else (body.left + body.right) / 2 - min(wide, 700.0) / 2
    one_row = body.right - body.left > wide
    _bar(sheet, left + 10.0, y)
    x, row = (left + _BAR + 60.0, y - 16.0) if one_row else (left + 10.0, y - 66.0)
    for text, magnitude, state in samples:
        _sample(sheet, x, row, text, magnitude, state)
        x += _PITCH
    wide = max((text_width(note, LABEL_SIZE) for note in notes), default=0.0)
    for k, note in enumerate(notes):
        if one_row and wide < body.right - x:
            place = body.right - wide, y - 8.0 - 14.0 * k
        elif one_row and wide < body.right - left - _BAR - 60.0:
            place = left + _BAR + 60.0, y - 48.0 - 14.0 * k
        else:
            place = left + 10.0, row - 46.0 - 14.0 * k
        sheet.text(place, note, LABEL_SIZE, muted=True, anchor=0.0)


def _samples(scale: Scale) -> list[tuple[str, float | None, State]]:
    return [
        (
            f"above {number(scale.exploding) if scale.exploding != 1e3 else '1000'}",
            scale.exploding * 1.01,
            "finite",
        ),
        ("NaN or infinite", math.nan, "nan"),
        ("exactly zero", 0.0, "zero"),
        ("underflow", 0.0, "underflow"),
        ("needs no gradient", None, "none"),
    ]


def _bar(sheet: Sheet, x: float, y: float) -> None:
    options = sheet.options
    sheet.text((x, y), "gradient on the edge", 11.0, bold=True, anchor=0.0)
    norm = f"{NORMS[options.norm]}, logarithmic scale"
    sheet.text((x + _BAR, y), norm, LABEL_SIZE, muted=True, anchor=1.0)
    cell = _BAR / _CELLS
    for k in range(_CELLS):
        sheet.node(
            f"bar{k}",
            (x + (k + 0.5) * cell, y - 18.0),
            label="",
            shape="box",
            style="filled",
            penwidth="0",
            fillcolor=ramp((k + 0.5) / _CELLS, options.theme),
            width=inch(cell + 0.4),
            height=inch(12.0),
        )
    for fraction, power in _ticks(options.scale):
        sheet.text((x + fraction * _BAR, y - 32.0), _power(power), LABEL_SIZE, muted=True)
    sheet.text((x, y - 45.0), "weaker", LABEL_SIZE, anchor=0.0)
    sheet.text((x + _BAR, y - 45.0), "stronger", LABEL_SIZE, anchor=1.0)


def _power(exponent: float) -> str:
    """A tick: ``1e-6``, ``0.1``, ``1``."""
    value = 10.0**exponent
    return f"{value:g}" if -2 < exponent < 4 else f"1e{exponent:.0f}" if exponent == int(exponent) else f"{value:.1e}"


def _ticks(scale: Scale) -> list[tuple[float, float]]:
    """(place on the bar, exponent) of whole decades, at most seven; the ends of the scale if it holds no two."""
    lo, hi = scale.decades
    step = max(1, math.ceil((hi - lo) / 6.5))
    whole = range(math.ceil(lo - 1e-9), math.floor(hi + 1e-9) + 1)
    exponents: list[float] = [float(k) for k in reversed(whole)][::step]
    if len(exponents) < 2:
        exponents = [lo, hi]
    return [((exponent - lo) / (hi - lo), exponent) for exponent in exponents]


def _sample(sheet: Sheet, x: float, y: float, text: str, magnitude: float | None, state: State) -> None:
    name = f"sample{sheet.count}"
    ends = (x + _PITCH / 2 - _SAMPLE / 2, y), (x + _PITCH / 2 + _SAMPLE / 2, y)
    for side, end in zip("ab", ends, strict=True):
        sheet.node(name + side, end, label="", style="invis", width="0.01", height="0.01")
    style = edge_style(magnitude, state, sheet.options.scale, sheet.options.theme)
    sheet.edge(name + "a", name + "b", line(*ends), style)
    sheet.text((x + _PITCH / 2, y - 16.0), text, LABEL_SIZE, muted=True)
