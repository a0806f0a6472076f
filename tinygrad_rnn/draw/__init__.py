"""Pictures of gradient graphs: layout in time, colour by magnitude, and SVG, PNG, PDF or an interactive page.

A gradient graph goes in, a `Picture` comes out. The modules follow that way: `view` (what to show), `style`,
`geometry`, `scene`; `layout` chooses among `cells` and `grid` (known cells), `cards` (numbers), `template`, `tiles`,
`row` (any other cell, side by side), `strip` (folded steps) and `stacked` (rows above each other); `marks`, `paint` and
`bars` make a placed graph marks; `svg`, `dot`, `html` write them; `picture` is what is called. `engine` runs a layout
program; where there is none, `ranks` places. `chart` draws the gradient through time.
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
