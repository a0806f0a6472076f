"""Pictures of gradient graphs: layout in time, colour by magnitude, and SVG, PNG, PDF or an interactive page.

A gradient graph goes in, a `Picture` comes out. The modules follow that way: `view` (what to show), `style`,
`geometry`, `template` (one cell), `tiles` (the cells of a graph), `strip` and `bars` (folded steps), `row` and `wrap`
(cells side by side), `stacked` (rows above each other), `layout`, `scene`, `sheet`, `legend`, `dot`, `picture`.
`engine` runs the layout program; where there is none, `ranks` places and `svg` draws. `html` makes the page, `chart`
the gradient through time.
"""

from .chart import GradientThroughTime, gradient_through_time
from .engine import NoRenderer
from .picture import Picture, draw, draw_side_by_side
from .style import Scale

__all__ = [
    "GradientThroughTime",
    "gradient_through_time",
    "NoRenderer",
    "Picture",
    "Scale",
    "draw",
    "draw_side_by_side",
]
