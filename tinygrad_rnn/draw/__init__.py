"""Pictures of gradient graphs: layout in time, colour by magnitude, DOT, and SVG, PNG or PDF.

A gradient graph goes in, a `Picture` comes out. The modules follow that way: `style`, `geometry`, `template` (one
cell), `tiles` (the cells of a graph), `layout`, `sheet`, `legend`, `dot`, `picture`; `engine` runs the layout program.
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
