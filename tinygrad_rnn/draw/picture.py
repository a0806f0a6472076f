"""`draw`: one call from a loss, or a gradient graph, to a picture in a file or a notebook.

After this file the reader knows what a `Picture` is: DOT source that is always there, and an engine that is asked for
pixels only when they are wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..files import write_whole
from ..graph.model import Edge, GradientGraph, Level, Norm, norm_of
from . import engine
from .style import MAX_LABELS, THEMES, Options, Scale, clean, scale_of, short
from .view import MAX_EDGES, SIDE_BY_SIDE, Parameters, View

if TYPE_CHECKING:
    from ..tensor import Tensor
    from .scene import Scene

FORMATS = (".svg", ".png", ".pdf", ".html", ".dot", ".gv")


class Picture:
    """A drawn graph.

    Attributes
    ----------
    dot : str
        Its DOT source, with every position: ``neato -n2`` draws it anywhere.
    size : tuple of float
        Width and height in points.
    scale : Scale
        The range of its colours; give it to another `draw` to make two pictures comparable.
    """

    def __init__(self, dot: str, size: tuple[float, float], scale: Scale, describe: str) -> None:
        self.dot, self.size, self.scale = dot, size, scale
        self._description = describe
        self._page: Callable[[], str] | None = None

    def svg(self) -> str:
        """The picture as SVG text."""
        return engine.render(self.dot, "svg", self.size).decode()

    def html(self) -> str:
        """The interactive page: self-contained, with every level that fits; in a notebook, the escaped ``srcdoc``."""
        if self._page is None:
            raise ValueError("only a picture that draw made knows the graph of its page")
        return self._page()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture; the suffix decides the format.

        Without an engine, the DOT source is left beside the path, and the error says where.

        Parameters
        ----------
        path : path-like
            Ends in .svg, .png, .pdf, .html (the interactive page), .dot or .gv.

        Raises
        ------
        ValueError
            Unknown suffix, or a bitmap too large to be useful.
        OSError
            The folder does not exist, or cannot be written.
        NoRenderer
            No layout engine was found.
        """
        target = Path(path)
        format = _format(target)
        if not target.parent.is_dir():
            raise FileNotFoundError(f"cannot write {target}: there is no folder {target.parent}")
        if format in ("dot", "gv"):
            write_whole(target, self.dot)
            return
        if format == "html":
            write_whole(target, self.html())
            return
        try:
            data = engine.render(self.dot, format, self.size)
        except engine.NoRenderer as error:
            source = target.with_suffix(".dot")
            write_whole(source, self.dot)
            raise engine.NoRenderer(f"{error}. The DOT source is in {source}") from error
        write_whole(target, data)

    def __repr__(self) -> str:
        return f"Picture({self._description}, {self.size[0]:.0f} x {self.size[1]:.0f} pt)"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        try:
            bundle["image/svg+xml"] = self.svg()
        except Exception as error:
            # A notebook shows nothing at all of an object whose representation raises.
            bundle["text/plain"] = f"{self!r}: {error}\n\n{self.dot}"
        return bundle


def _format(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"cannot draw to {path.name!r}: the name must end in one of {', '.join(FORMATS)}")
    return suffix[1:]


def graph_of(source: Any) -> GradientGraph:
    """The gradient graph of a loss, or the graph itself."""
    if isinstance(source, GradientGraph):
        return source
    if hasattr(source, "backward") and hasattr(source, "requires_grad"):
        from ..graph.build import gradient_graph  # only a Tensor needs the engine below

        return gradient_graph(source)
    raise TypeError(
        f"draw takes a loss Tensor, a GradientGraph, or a mapping of titles to them; not {type(source).__name__}"
    )


def draw(
    graph: GradientGraph | Tensor | Mapping[str, GradientGraph | Tensor],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
    subtitle: str | None = None,
    theme: Literal["light", "dark"] = "light",
    scale: Scale | Literal["fit"] | tuple[float, float] | None = None,
    norm: Norm = "l2",
    labels: bool | Literal["auto"] = "auto",
    level: Level | Literal["auto"] = "auto",
    fold: int | Literal["auto"] | None = "auto",
    steps: Sequence[int] | None = None,
    parameters: Parameters = "step",
    constants: bool = True,
    wrap: int | Literal["auto"] | None = "auto",
) -> Picture:
    """Draw a loss with the gradient on every edge.

    Parameters
    ----------
    graph : Tensor, GradientGraph, or mapping of str to these
        A loss (it is not changed), or its graph. A mapping draws several, one under the other under one scale, its keys
        as their titles.
    path : path-like, optional
        Where to save it: .svg, .png, .pdf, .html (an interactive page), .dot or .gv. Without a layout engine .svg and
        .html are still drawn, more plainly.
    title, subtitle : str, optional
    theme : {"light", "dark"}
    scale : None, "fit", (lo, hi) or Scale
        Range of the colours. The default is fixed, 1e-12 to 1, so that any two pictures compare.
    norm : {"l2", "rms", "max"}
        What the number on an edge is of its contribution.
    labels : bool or "auto"
        Numbers on the edges; "auto" leaves them out above 400 edges.
    level : {"auto", "op", "gate", "step"} or int
        One box per operation, per gate, per time step (each layer of a stack has its own), or per scope of that depth.
        "auto" takes the finest at which a time step has at most 12 boxes at level "op", 40 at level "gate", and level
        "step" for more than 8 time steps.
    fold : int, "auto" or None
        How many time steps at each end are drawn in full; those between become one gradient strip, with a bar for each
        state of each step, as high as its gradient is on the scale. "auto" is 3 if there are more than 8 time steps;
        None draws all.
    steps : sequence of int, optional
        The time steps to be drawn in full, instead of `fold`; each gap between them becomes a strip.
    parameters : {"step", "once", "none"}
        Draw each parameter in every step that uses it, once on a rail below the steps (all in one line), or not at all.
    constants : bool
        Draw unnamed constants.
    wrap : int, "auto" or None
        Time steps to a line; "auto" breaks the line of a single graph where its text would be small, and is larger so
        (fitted to a page of 4:3), unless a part of it is folded; None never does. Not an integer where
        ``parameters="once"``, or for a stack.

    Returns
    -------
    Picture
        Shows itself in a notebook.

    Raises
    ------
    ValueError, OSError, NoRenderer
        As `Picture.save`; also ValueError for an unknown theme, scale, norm, level or step, and for a graph too large
        to be drawn, with what to do about it.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor(3.0, requires_grad=True, name="x")
    >>> picture = tg.draw(x * x, title="A square")
    >>> picture.dot.startswith("digraph")
    True
    """
    if path is not None:
        _format(Path(path))  # before the work, not after it
    sources = graph if isinstance(graph, Mapping) else {"": graph}
    if not sources:
        raise ValueError("nothing to draw: the mapping is empty")
    view = View(level, fold, None if steps is None else tuple(steps), parameters, constants)
    whole = {str(name): graph_of(source) for name, source in sources.items()}
    graphs = dict(zip(whole, view.of(whole.values()), strict=True))
    _check_size(graphs)
    options = _options(graphs, theme, scale, norm, labels)
    picture = _draw(graphs, options, title, subtitle, path, (parameters != "once", _lines(wrap, graphs)))
    picture._page = lambda: _html(whole, view, options, labels, title, subtitle)
    if path is not None:
        picture.save(path)
    return picture


def _html(
    whole: Mapping[str, GradientGraph], view: View, options: Options, labels: Any, title: str | None, sub: str | None
) -> str:
    from .html import page  # like the DOT writer

    return page(whole, view, options, labels, clean(title or "", 120), clean(sub or "", 160))


def _shown(graphs: Mapping[str, GradientGraph]) -> list[Edge]:
    return [edge for graph in graphs.values() for edge in graph.edges if not edge.internal]


def draw_side_by_side(
    a: GradientGraph | Tensor,
    b: GradientGraph | Tensor,
    *more: GradientGraph | Tensor,
    titles: Sequence[str] = (),
    path: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Picture:
    """Draw several graphs under one scale and at one level: a simple network beside an LSTM.

    Parameters
    ----------
    a, b, *more : Tensor or GradientGraph
        Losses, or their graphs; drawn one under the other, so that equal time steps stand above each other.
    titles : sequence of str
        A name for each; "A", "B", ... by default.
    path : path-like, optional
    **options
        As for `draw`.

    Returns
    -------
    Picture

    Raises
    ------
    ValueError
        If there are not as many titles as graphs, or two titles are equal; and as `draw`.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.draw import draw_side_by_side
    >>> cells = tg.RNNCell(2, 3, rng=0), tg.LSTMCell(2, 3, rng=0)
    >>> losses = [tg.sum(tg.unroll(cell, np.ones((20, 1, 2)))[0][-1]) for cell in cells]
    >>> draw_side_by_side(*losses, titles=["RNN", "LSTM"]).dot.count("steps folded")
    2
    """
    graphs = (a, b, *more)
    names = [str(title) for title in titles] or [chr(ord("A") + k) for k in range(len(graphs))]
    if len(names) != len(graphs) or len(set(names)) < len(names):
        raise ValueError(f"{len(graphs)} graphs need {len(graphs)} different titles, not {names}")
    return draw(dict(zip(names, graphs, strict=True)), path, **options)


def _lines(wrap: Any, graphs: Mapping[str, GradientGraph]) -> int | Literal["auto"] | None:
    """The ``wrap=`` argument; several graphs are compared step by step, and so by default not wrapped."""
    whole = isinstance(wrap, int) and not isinstance(wrap, bool) and wrap > 0
    if wrap is not None and wrap != "auto" and not whole:
        raise ValueError(f'wrap must be a number of time steps, "auto" or None, not {wrap!r}')
    found: int | Literal["auto"] | None = None if wrap == "auto" and len(graphs) > 1 else wrap
    return found


def _check_size(graphs: Mapping[str, GradientGraph]) -> None:
    count = len(_shown(graphs))
    if count > MAX_EDGES:
        raise ValueError(
            f"{count} edges are too many for a picture (limit: {MAX_EDGES}): fold time steps (fold=3), choose them "
            '(steps=[1, 2, 3]), or use level="step"'
        )


def _options(graphs: Mapping[str, GradientGraph], theme: str, scale: Any, norm: Norm, labels: bool | str) -> Options:
    if theme not in THEMES:
        raise ValueError(f"theme must be one of {', '.join(THEMES)}, not {theme!r}")
    if norm not in ("l2", "rms", "max"):
        raise ValueError(f"norm must be l2, rms or max, not {norm!r}")
    edges = _shown(graphs)
    sizes = (norm_of(e.contribution, norm) for e in edges if e.contribution is not None and e.state == "finite")
    numbered = len(edges) <= MAX_LABELS if labels == "auto" else bool(labels)
    return Options(THEMES[theme], scale_of(scale, sizes), norm, numbered)


def _draw(
    graphs: Mapping[str, GradientGraph],
    options: Options,
    title: str | None,
    subtitle: str | None,
    path: Any,
    how: tuple[bool, int | Literal["auto"] | None],
) -> Picture:
    # The layout and the DOT writer are imported by whoever draws, not with the package: they are half of it.
    from .dot import write
    from .layout import arrange

    try:
        rows = [
            (name, arrange(graph, f"g{k}" if len(graphs) > 1 else "", *how))
            for k, (name, graph) in enumerate(graphs.items())
        ]
    except engine.NoRenderer as error:
        raise _unplaced(error, graphs, path, options) from error
    dot, size = write(rows, options, clean(title or "", 120), clean(subtitle, 160) if subtitle else None, _notes(rows))
    return Picture(dot, size, options.scale, f"{len(_shown(graphs))} edges")


def _notes(rows: list[tuple[str, Scene]]) -> list[str]:
    """What the picture leaves unsaid: leaves that are drawn several times are still one array."""
    notes: list[str] = []
    shared = [p.node for _, scene in rows for p in scene.nodes if scene.shared.get(p.node.id) and p.node.name]
    names = list(dict.fromkeys(clean(node.name or "") for node in shared if node.kind == "parameter"))
    if names:
        what = ", ".join(str(short(name)) for name in names[:6]) + (" …" if len(names) > 6 else "")
        notes.append(f"{what}: one array each, drawn in every step that uses it; its gradient is the sum over these")
    if any(scene.strips for _, scene in rows):
        notes.append("in folded steps a bar is the gradient of one step's state, as high as that is on the scale")
    if any(placed.edge.formula.endswith(SIDE_BY_SIDE) for _, scene in rows for placed in scene.edges):
        notes.append("an edge from folded steps to the loss carries the tensors of all of them, side by side")
    return notes


def _unplaced(
    error: engine.NoRenderer, graphs: Mapping[str, GradientGraph], path: Any, options: Options
) -> engine.NoRenderer:
    """Without an engine there are no positions: leave at least the bare graph for a ``dot`` elsewhere."""
    if path is None:
        return engine.NoRenderer(str(error))
    target = Path(path).with_suffix(".dot")
    from .dot import bare

    write_whole(target, bare(graphs, options))
    return engine.NoRenderer(f"{error}. The DOT source, without positions, is in {target}")
