"""`draw`: one call from a loss, or a gradient graph, to a picture in a file or a notebook.

After this file the reader knows what a `Picture` is: DOT source that is always there, and an engine that is asked for
pixels only when they are wanted.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..graph.collapse import Level, collapse
from ..graph.model import Edge, GradientGraph, Norm, norm_of
from . import engine
from .layout import Scene, arrange
from .style import MAX_LABELS, THEMES, Options, Scale, clean, scale_of

if TYPE_CHECKING:
    from ..tensor import Tensor

FORMATS = (".svg", ".png", ".pdf", ".dot", ".gv")


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

    def svg(self) -> str:
        """The picture as SVG text."""
        return engine.render(self.dot, "svg", self.size).decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture; the suffix decides the format.

        Without an engine, the DOT source is left beside the path, and the error says where.

        Parameters
        ----------
        path : path-like
            Ends in .svg, .png, .pdf, .dot or .gv.

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
            _replace(target, self.dot.encode())
            return
        try:
            data = engine.render(self.dot, format, self.size)
        except engine.NoRenderer as error:
            source = target.with_suffix(".dot")
            _replace(source, self.dot.encode())
            raise engine.NoRenderer(f"{error}. The DOT source is in {source}") from error
        _replace(target, data)

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


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that it holds either all of the new or all of the old, also if this is interrupted."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise type(error)(error.errno, f"cannot write in the folder {path.parent}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp makes files private; a picture gets the mode that any new file gets.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _graph(source: Any) -> GradientGraph:
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
    level: Level = "op",
) -> Picture:
    """Draw a loss with the gradient on every edge.

    Parameters
    ----------
    graph : Tensor, GradientGraph, or mapping of str to these
        A loss (it is not changed), or its graph. A mapping draws several, one under the other under one scale, its keys
        as their titles.
    path : path-like, optional
        Where to save it: .svg, .png, .pdf, .dot or .gv.
    title, subtitle : str, optional
    theme : {"light", "dark"}
    scale : None, "fit", (lo, hi) or Scale
        Range of the colours. The default is fixed, 1e-12 to 1, so that any two pictures compare.
    norm : {"l2", "rms", "max"}
        What the number on an edge is of its contribution.
    labels : bool or "auto"
        Numbers on the edges; "auto" leaves them out above 400 edges.
    level : {"op", "gate", "step"}
        One box per operation, per gate, or per time step.

    Returns
    -------
    Picture
        Shows itself in a notebook.

    Raises
    ------
    ValueError, OSError, NoRenderer
        As `Picture.save`; also ValueError for an unknown theme, scale or norm.

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
    graphs = {str(name): at_level(_graph(source), level) for name, source in sources.items()}
    picture = _draw(graphs, _options(graphs, theme, scale, norm, labels), title, subtitle, path)
    if path is not None:
        picture.save(path)
    return picture


def _shown(graphs: Mapping[str, GradientGraph]) -> list[Edge]:
    return [edge for graph in graphs.values() for edge in graph.edges if not edge.internal]


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
    graphs: Mapping[str, GradientGraph], options: Options, title: str | None, subtitle: str | None, path: Any
) -> Picture:
    try:
        rows = [(name, arrange(g, f"g{k}" if len(graphs) > 1 else "")) for k, (name, g) in enumerate(graphs.items())]
    except engine.NoRenderer as error:
        raise _unplaced(error, graphs, path, options) from error
    from .dot import write  # the DOT writer is imported by whoever draws, not with the package

    dot, size = write(rows, options, clean(title or "", 120), clean(subtitle, 160) if subtitle else None, _notes(rows))
    return Picture(dot, size, options.scale, f"{len(_shown(graphs))} edges")


def at_level(graph: GradientGraph, level: Level) -> GradientGraph:
    """The graph at a level; of whole steps, only what runs between them is drawn, and the initial state."""
    graph = collapse(graph, level)
    if level != "step":
        return graph
    if not any(node.step and node.members for node in graph.nodes):
        return graph
    made = {edge.target for edge in graph.edges}
    uses = Counter(edge.source for edge in graph.edges)
    edges = []
    for edge in graph.edges:
        source = graph.nodes[edge.source]
        state = (source.name or "")[:1] in ("h", "c") and uses[source.id] == 1
        hidden = source.id not in made and not source.members and not state
        edges.append(replace(edge, internal=True) if hidden else edge)
    return replace(graph, edges=tuple(edges))


def _notes(rows: list[tuple[str, Scene]]) -> list[str]:
    """What the picture leaves unsaid: leaves that are drawn several times are still one array."""
    shared = [p.node for _, scene in rows for p in scene.nodes if scene.shared.get(p.node.id) and p.node.name]
    names = list(dict.fromkeys(clean(node.name or "") for node in shared if node.kind == "parameter"))
    if not names:
        return []
    what = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
    return [
        f"{what}: each is one array, drawn once in every step that uses it",
        "its gradient is the sum of what comes back from all these steps",
    ]


def _unplaced(
    error: engine.NoRenderer, graphs: Mapping[str, GradientGraph], path: Any, options: Options
) -> engine.NoRenderer:
    """Without an engine there are no positions: leave at least the bare graph for a ``dot`` elsewhere."""
    if path is None:
        return engine.NoRenderer(str(error))
    target = Path(path).with_suffix(".dot")
    from .dot import bare

    _replace(target, bare(graphs, options).encode())
    return engine.NoRenderer(f"{error}. The DOT source, without positions, is in {target}")
