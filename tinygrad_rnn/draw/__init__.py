"""Pictures of gradient graphs: layout in time, colour by magnitude, and SVG, PNG, PDF or an interactive page.

A gradient graph goes in, a `Picture` comes out. The modules follow that way: `view` (what to show), `style`,
`geometry`, `scene`; `layout` puts a graph into a table of time steps (`cut`, `table`, `lines`), or as a whole: its
boxes by the `grammar` and its edges by `channels` and `routes`, a known cell by its plan (`cells`, `grid`), numbers
as `cards`; `marks` and `paint` make a placed graph marks, `long` a long sequence, `sight` one of the two; `svg`,
`dot`, `html` write them; `picture` is what is called. `film` shows one picture in many frames, on a `screen`; it and
`html` make a `page`. `engine` turns DOT into pixels. `chart` draws the gradient through time.
"""

from .chart import GradientThroughTime, gradient_through_time
from .engine import NoRenderer
from .film import Film, film
from .picture import Picture, draw, draw_side_by_side
from .style import Scale

__all__ = [
    "GradientThroughTime",
    "gradient_through_time",
    "Film",
    "NoRenderer",
    "Picture",
    "Scale",
    "draw",
    "draw_side_by_side",
    "film",
]
