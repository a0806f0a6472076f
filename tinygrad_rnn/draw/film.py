"""A film: one picture over settings, or over training, of which only numbers, colours and widths change.

After this file the reader knows that a frame is drawn like any other picture, so that whatever a picture shows, a film
shows; that all frames are of one graph but for its numbers, on one scale; and that only these numbers are kept.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import mapping
from ..files import check_writable, counted, write_whole
from ..graph.model import GradientGraph
from ..graph.parts import Array, Edge, Node
from ..norms import Norm, norm_of
from .picture import Picture, draw, graph_of
from .style import Scale, Told, clean, number_room

if TYPE_CHECKING:
    from ..tensor import Tensor
    from .screen import Screen

FORMATS = (".html", ".svg")


def film(
    losses: Mapping[Any, GradientGraph | Tensor], path: str | os.PathLike[str] | None = None, **options: Any
) -> Film:
    """Draw a loss over and over: one picture, whose numbers, colours and widths change from frame to frame.

    Parameters
    ----------
    losses : mapping
        From the caption of each frame to its loss, or its graph. All have one structure.
    path : path-like, optional
        Where to save it: .html (a page with a slider; arrows go from frame to frame, space plays), or .svg (which moves
        by itself, without a script).
    **options
        As for `draw`. The scale, and every place, is the same in all frames.

    Returns
    -------
    Film
        Shows itself in a notebook.

    Raises
    ------
    ValueError, OSError
        For graphs of different structures, graphs of single numbers, and as `draw`.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> def loss(bias):
    ...     cell = tg.LSTMCell(1, 4, forget_bias=bias, rng=0)
    ...     return tg.sum(tg.unroll(cell, np.ones((5, 1, 1)))[1][0])
    >>> tg.film({f"forget bias {bias}": loss(bias) for bias in (-2, 0, 2)})
    Film(3 frames)
    """
    made = Film(path, **options)
    for label, loss in mapping("losses", losses, "a mapping of captions to losses").items():
        made.add(label, loss)
    if path is not None:
        made.save()
    return made


class Film:
    """A picture in many frames.

    Parameters
    ----------
    path : path-like, optional
        Where `save` writes it: .html or .svg.
    **options
        As for `draw`.

    Raises
    ------
    ValueError
        If the path has another suffix, or for ``view="rolled"``.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, **options: Any) -> None:
        if options.get("view", "unrolled") != "unrolled":
            raise ValueError('a film shows every step: view="unrolled"')
        self.path, self._options = None if path is None else _checked(path), options
        self._frames: dict[str, GradientGraph] = {}
        self._scales: list[Scale] = []
        self._notes: list[tuple[str, ...]] = []
        self._structure: list[list[Any]] = []
        self._charted = False

    def add(self, label: Any, loss: GradientGraph | Tensor) -> None:
        """Take one more frame; only its numbers are kept.

        Raises
        ------
        ValueError
            If its caption is there already, or its structure is not that of the frames before.
        """
        label, graph = str(label), graph_of(loss)
        if label in self._frames:
            raise ValueError(f"there is a frame {clean(label, 80)!r} already: give each a caption of its own")
        found = _structure(graph)
        if self._frames and found != self._structure:
            which = [a == b for a, b in zip(found, self._structure, strict=True)].index(False)
            what = ("tensors", "edges", "constants")[which]
            first = f"a film has one layout, and {clean(label, 80)!r} has other {what} than {self.labels[0]!r}"
            raise ValueError(f"{first}: draw({{label: loss, ...}}) shows both")
        picture = draw(graph, **self._options)
        if any(scene.signed for _, scene in picture.sight.rows):
            raise ValueError("a film is of arrays, and this is a graph of single numbers: draw({label: loss}) draws it")
        self._structure = found
        seen = picture.sight.graphs[0] if picture.sight.graphs else graph
        # A chart is drawn from the whole graph, and what puts its gates together needs arrays.
        self._charted = picture.sight.series is not None
        whole = self._charted and seen.origin is not None
        self._frames[label] = graph if whole else _short(seen, self._options.get("norm", "l2"))
        self._scales.append(picture.scale)
        self._notes.append(picture.sight.notes)

    @property
    def labels(self) -> list[str]:
        """The captions, as they are shown."""
        return [clean(label, 80) for label in self._frames]

    @property
    def scale(self) -> Scale:
        """The range of its colours, over all frames."""
        lo, hi, top = zip(*((s.lo, s.hi, s.top) for s in self._scales), strict=True)
        return Scale(min(lo), max(hi), max(top))

    def _pictures(self) -> list[Picture]:
        """Every frame as a picture, all on one scale, with room for the widest number of each edge."""
        if not self._frames:
            raise ValueError("a film without a frame: give it at least one loss")
        graphs, norm = list(self._frames.values()), self._options.get("norm", "l2")
        rooms = [
            max(number_room(edge, graphs[0].nodes[edge.source], norm) for edge in edges)
            for edges in zip(*(graph.edges for graph in graphs), strict=True)
        ]
        frames = [replace(g, edges=tuple(map(_with_room, g.edges, rooms))) for g in graphs]
        # What was put together and left out stays so: done again, it would add up numbers and not arrays.
        done = {} if self._charted else {"level": "op", "fold": None, "steps": None}
        options = {**self._options, **done, "scale": self.scale}
        drawn = [draw(graph, **options) for graph in frames]
        if self._charted:
            return drawn
        return [Picture(replace(p.sight, notes=n), p.words) for p, n in zip(drawn, self._notes, strict=True)]

    def _screen(self) -> Screen:
        from .screen import Screen

        return Screen(self.labels, self._pictures())

    def html(self) -> str:
        """The page: one file that needs no network."""
        return self._screen().page()

    def svg(self) -> str:
        """One SVG that moves by itself, without a script: for a README."""
        return self._screen().animated()

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write it, whole or not at all; the suffix decides the format, .html or .svg.

        Raises
        ------
        ValueError, OSError
            For another suffix, or if it cannot be written.
        """
        target = self.path if path is None else _checked(path)
        if target is not None:
            write_whole(target, self.html() if target.suffix.lower() == ".html" else self.svg())

    def __repr__(self) -> str:
        return f"Film({counted(len(self._frames), 'frame')})"

    def _repr_html_(self) -> str:
        return self._screen().inline()


def _checked(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise ValueError(f"cannot film to {target.name!r}: the name must end in {' or '.join(FORMATS)}")
    check_writable(target)
    return target


# --- what is kept of a frame ---


def _with_room(edge: Edge, room: float) -> Edge:
    return replace(edge, carried=replace(edge.carried, room=room)) if isinstance(edge.carried, Told) else edge


def _short(graph: GradientGraph, norm: Norm) -> GradientGraph:
    """The graph with a number in place of each array; its edges in the order of those of the graph."""
    known: dict[int, Node] = {}

    def node(old: Node) -> Node:
        if id(old) not in known:
            kept = old.value if old.kind == "constant" and old.value is not None and old.value.size == 1 else None
            gradient, members = _rows(old.gradient, norm), tuple(map(node, old.members))
            known[id(old)] = replace(old, value=kept, gradient=gradient, members=members)
        return known[id(old)]

    def edge(old: Edge) -> Edge:
        size = old.size(norm) if old.signed is None else old.signed
        carried = None if old.carried is None or size is None else Told(np.array([size]), old.carried.shape)
        return replace(old, carried=carried, tensor=None if old.tensor is None else node(old.tensor))

    def bare(old: GradientGraph, origin: GradientGraph | None) -> GradientGraph:
        nodes, edges = tuple(map(node, old.nodes)), tuple(map(edge, old.edges))
        return replace(old, nodes=nodes, edges=edges, by_tensor={}, origin=origin)

    return bare(graph, graph.origin and bare(graph.origin, None))


def _rows(gradient: Array | None, norm: Norm) -> Array | None:
    """A gradient as the L2 norms of its rows, beside zeros: those of all, and of each row, stay what they are."""
    if gradient is None or gradient.size <= 2 or norm != "l2":
        return None if gradient is None else np.array(gradient)
    rows = gradient if gradient.ndim > 1 else gradient[None]
    kept = np.array([[norm_of(row), 0.0] for row in rows])
    return kept.astype(gradient.dtype) if kept.max() <= np.finfo(gradient.dtype).max else kept


def _structure(graph: GradientGraph) -> list[list[Any]]:
    """All that a picture shows of a graph but its gradients: tensors, edges, and constants in symbols."""
    constants = [n.value for n in graph.nodes if n.kind == "constant" and not n.name and math.prod(n.shape) == 1]
    return [
        [(n.kind, n.name, n.op, n.scope, n.shape) for n in graph.nodes],
        [(e.source, e.target, e.operand, e.carried is None) for e in graph.edges],
        [None if value is None else value.item() for value in constants],
    ]
