"""`draw`: one call from a loss, or a gradient graph, to a picture in a file or a notebook.

After this file the reader knows what a `Picture` is: marks at their places, and one writer for each kind of file; an
engine is asked for pixels only when they are wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from ..arguments import one_of, refusal, whole, wholes
from ..files import write_whole
from ..graph.model import GradientGraph
from ..graph.parts import Level
from ..norms import Norm
from . import engine
from .style import Heads, Scale, clean
from .view import Parameters, View

if TYPE_CHECKING:
    from ..tensor import Tensor
    from .marks import Drawing
    from .sight import Sight

FORMATS = (".svg", ".png", ".pdf", ".html", ".dot", ".gv")


class Picture:
    """A drawn graph.

    Attributes
    ----------
    scale : Scale
        The range of its colours; give it to another `draw` to make two pictures comparable.
    title : str
    sight : Sight
        What of the graphs is drawn.
    words : (str, str or None)
        Title and subtitle that stand above it.
    """

    def __init__(
        self,
        sight: Sight,
        words: tuple[str, str | None],
        page: Callable[[], str] | None = None,
        narrow: Callable[[], Sight] | None = None,
    ) -> None:
        self.sight, self.words, self.scale = sight, words, sight.drawing.options.scale
        self.title = words[0] or "Gradient graph"
        self._description = f"{len(sight.edges)} edges" if sight.rows else "gradient through time"
        self._page, self._narrow = page, narrow

    @cached_property
    def drawing(self) -> Drawing:
        """Its marks, at their places."""
        return self.sight.framed(*self.words)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points."""
        page = self.drawing.page
        return page.right - page.left, page.top - page.bottom

    @property
    def dot(self) -> str:
        """Its DOT source, with every position: ``neato -n2`` draws it anywhere."""
        from .dot import write

        return write(self.drawing)

    def svg(self) -> str:
        """The picture as SVG text, the same on every machine: no layout program is asked."""
        from .svg import svg

        return svg(self.drawing, self.title, self._description)

    def html(self) -> str:
        """The interactive page: self-contained, with every level that fits; in a notebook, the escaped ``srcdoc``."""
        if self._page is None:
            raise ValueError('there is a page only of what draw made with view="unrolled"')
        return self._page()

    def save(self, path: str | os.PathLike[str] | IO[Any], format: str | None = None) -> None:
        """Write the picture; the suffix decides the format.

        Without an engine, the DOT source is left beside the path, and the error says where.

        Parameters
        ----------
        path : path-like or file object
            Ends in .svg, .png, .pdf, .html (the interactive page), .dot or .gv. A file object, of text or of bytes, is
            written to and left open.
        format : {"svg", "png", "pdf", "html", "dot", "gv"}, optional
            Instead of the suffix: of a file object that has no name.

        Raises
        ------
        ValueError
            Unknown suffix or format, a format of bytes for a file of text, or a bitmap too large to be useful.
        OSError
            The folder does not exist, or cannot be written.
        NoRenderer
            No layout engine was found.
        """
        kind = _format(path, format)
        if not isinstance(path, str | os.PathLike):
            data = self._content(kind)
            path.write(data.encode() if isinstance(data, str) and _takes_bytes(path) else data)
            return
        target = Path(path)
        if not target.parent.is_dir():
            raise FileNotFoundError(f"cannot write {target}: there is no folder {target.parent}")
        try:
            write_whole(target, self._content(kind))
        except engine.NoRenderer as error:
            raise _left(error, target, self.dot) from error

    def _content(self, kind: str) -> str | bytes:
        text = {"dot": lambda: self.dot, "gv": lambda: self.dot, "html": self.html, "svg": self.svg}.get(kind)
        return text() if text is not None else engine.render(self.dot, kind, self.size)

    def __repr__(self) -> str:
        return f"Picture({self._description}, {self.size[0]:.0f} x {self.size[1]:.0f} pt)"

    def _repr_html_(self) -> str:
        """In a notebook: as wide as its cells, with tooltips, light or dark as it is."""
        from .svg import svg

        drawing = self.drawing if self._narrow is None else self._narrow().framed(*self.words)
        return svg(drawing, self.title, self._description, inline=True)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_(), "image/svg+xml": self.svg()}


def _takes_bytes(file: Any) -> bool:
    """Whether a file object is of bytes: what it is an instance of does not say so, but what it takes does."""
    try:
        file.write(b"")
    except TypeError:
        return False
    return True


def _format(path: Any, format: str | None) -> str:
    """The format that a path's suffix names, or a file object's; or the one that was asked for."""
    kinds = [suffix[1:] for suffix in FORMATS]
    to_file = hasattr(path, "write")
    if format is not None:
        kind = str(one_of("format", format, kinds))
    else:
        name = getattr(path, "name", None) if to_file else path
        target = Path(name if isinstance(name, str | os.PathLike) else "")
        kind = target.suffix.lower()[1:]
        if kind not in kinds:
            remedy = ', or format="svg" say which' if to_file else ""
            raise ValueError(
                f"cannot draw to {target.name!r}: the name must end in one of {', '.join(FORMATS)}{remedy}"
            )
    if kind in ("png", "pdf") and to_file and not _takes_bytes(path):
        raise ValueError(f"a {kind} is bytes, which a file of text cannot hold: open it in mode 'wb', or draw an svg")
    return kind


def shows_itself(graph: GradientGraph) -> str | None:
    """A graph in a notebook: its picture; None where there are too many edges for one."""
    try:
        return draw(graph)._repr_html_()
    except ValueError:
        return None


setattr(GradientGraph, "_repr_html_", shows_itself)  # noqa: B010 (the class stands below, and knows no picture)


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
    path: str | os.PathLike[str] | IO[Any] | None = None,
    *,
    format: str | None = None,
    title: str | None = None,
    subtitle: str | None = None,
    theme: Literal["light", "dark"] = "light",
    scale: Scale | Literal["fixed"] | tuple[float, float] | None = None,
    norm: Norm = "l2",
    labels: bool | Literal["auto"] = "auto",
    heads: Heads = "gradient",
    level: Level | Literal["auto"] = "auto",
    fold: int | Literal["auto"] | None = "auto",
    steps: Sequence[int] | None = None,
    parameters: Parameters = "auto",
    constants: bool = True,
    page: Literal["slide", "notebook"] | tuple[float, float] | None = None,
    view: Literal["unrolled", "rolled"] = "unrolled",
) -> Picture:
    """Draw a loss with the gradient on every edge.

    Parameters
    ----------
    graph : Tensor, GradientGraph, or mapping of str to these
        A loss (it is not changed), or its graph. A mapping draws several, one under the other under one scale, its keys
        as their titles.
    path : path-like or file object, optional
        Where to save it: .svg, .png, .pdf, .html (an interactive page), .dot or .gv. Only .png and .pdf need an engine.
    format : {"svg", "png", "pdf", "html", "dot", "gv"}, optional
        Instead of the suffix: of a file object that has no name.
    title, subtitle : str, optional
    theme : {"light", "dark"}
    scale : None, "fixed", (lo, hi) or Scale
        Range of the colours. The default is fitted: whole decades from the largest gradient (at least 1) down to the
        smallest, at least four. "fixed" is 1e-12 to 1; the scale of another picture makes the two comparable.
    norm : {"l2", "rms", "max"}
        What the number on an edge is of its contribution.
    labels : bool or "auto"
        Numbers on the edges; "auto" leaves them out above 400 edges.
    heads : {"gradient", "data"}
        Which way heads point: back to the operand, as the number on the edge flows, or forward, as data do.
    level : {"auto", "op", "gate", "step"} or int
        One box per operation, per gate, per time step (each layer of a stack has its own), or per scope of that depth.
        "auto" takes the finest at which a time step has at most 12 boxes at level "op", 40 at level "gate". Where
        `level`, `fold`, `steps` and `parameters` are left as they are, from 6 time steps on the gradient of each state
        is drawn as a line and as a row of numbers and colours, up to 20 with the network in small cells between them.
    fold : int, "auto" or None
        How many time steps at each end are drawn; what comes from those between is dashed. "auto" is 2 if there are
        more than 20 time steps; None draws all.
    steps : sequence of int, optional
        The time steps to be drawn, instead of `fold`.
    parameters : {"auto", "step", "once", "none"}
        Draw each parameter in every step that uses it, once as a row below the steps with its whole gradient at the
        end (each layer of a stack has rows of its own), or not at all. "auto" is "once" for up to 5 steps. A
        rolled view has them once, or none.
    constants : bool
        Draw unnamed constants.
    page : "slide", "notebook", (width, height) or None
        The page in pixels that the picture is for: 1280 x 720, 860 wide, or any other. Rows of cells are as wide as
        that, text is at least 14 pixels high there, and the file has that shape. None is as wide as a slide at most,
        and as high as it must be.
    view : {"unrolled", "rolled"}
        Every time step, or the textbook's loop: one cell, whose every edge has a small curve of its gradient over all
        steps, with the number at the last one and below it that at the first. "rolled" needs steps of one form.

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
    if path is not None or format is not None:
        _format(path, format)  # before the work, not after it
    sources = graph if isinstance(graph, Mapping) else {"": graph}
    if not sources:
        raise ValueError("nothing to draw: the mapping is empty")
    one_of("view", view, ("unrolled", "rolled"))
    seen = View(level, fold, None if steps is None else wholes("steps", steps), parameters, constants)
    whole = {str(name): graph_of(source) for name, source in sources.items()}
    words = clean(title or "", 120), clean(subtitle, 160) if subtitle else None
    # The layout is imported by whoever draws, not with the package: it is half of it.
    from .sight import sight

    if view == "rolled":
        from .rolled import rolled as sight
    given = (theme, scale, norm, labels, heads)
    first = sight(whole, seen, (*given, _page(page)))

    html = partial(_written, whole, seen, first, labels, words[0], words[1] or "")
    narrow = partial(sight, whole, seen, (*given, PAGES["notebook"]))  # the same as wide as a notebook's cell
    picture = Picture(first, words, None if view == "rolled" else html, None if page else narrow)
    if path is not None:
        picture.save(path, format)
    return picture


def _written(*given: Any) -> str:
    from .html import page  # like the DOT writer

    return page(*given)


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
    >>> "RNN h" in draw_side_by_side(*losses, titles=["RNN", "LSTM"]).svg()
    True
    """
    graphs = (a, b, *more)
    names = [str(title) for title in titles] or [chr(ord("A") + k) for k in range(len(graphs))]
    if len(names) != len(graphs) or len(set(names)) < len(names):
        raise ValueError(f"{len(graphs)} graphs need {len(graphs)} different titles, not {names}")
    return draw(dict(zip(names, graphs, strict=True)), path, **options)


PAGES = {"slide": (1280.0, 720.0), "notebook": (860.0, 0.0)}


def _page(page: Any) -> tuple[float, float] | None:
    """The ``page=`` argument as width and height in pixels; a notebook's cell is as high as it must be."""
    if page is None:
        return None
    if isinstance(page, str) and page in PAGES:
        return PAGES[page]
    try:
        width, height = page
    except (TypeError, ValueError):
        raise refusal("page", page, '"slide", "notebook", a pair of whole numbers (width, height) or None') from None
    return float(whole("page", width, 1)), float(whole("page", height, 1))


def _left(error: engine.NoRenderer, path: Path, dot: str) -> engine.NoRenderer:
    """Leave the source of a picture that could not be drawn beside it, but never in place of a file that is there."""
    source = path.with_suffix(".dot")
    if os.path.lexists(source):
        return engine.NoRenderer(f"{error}. {source} is there already, and was left as it is")
    write_whole(source, dot)
    return engine.NoRenderer(f"{error}. The DOT source is in {source}")
