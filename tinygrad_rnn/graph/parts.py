"""Nodes and edges of a gradient graph, as plain data.

After this file the reader knows the one distinction that matters here: a *node* has a gradient (the sum of everything
sent back to it), an *edge* has a contribution (what one consumer sent back along that very edge).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self

from numpy.typing import NDArray

from ..files import Brief
from ..norms import Norm, State
from .contributions import Contribution, size_of

Array = NDArray[Any]
Kind = Literal["op", "parameter", "input", "constant", "loss"]
Level = Literal["op", "gate", "step"] | int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Node(Brief):
    """One tensor of the graph.

    Attributes
    ----------
    id : int
        Rank within this graph, from 0, oldest first; the loss is the last. Files are therefore byte-stable.
    kind : {"op", "parameter", "input", "constant", "loss"}
        ``parameter``: a leaf that needs a gradient; ``input``: a named leaf or constant that needs none;
        ``constant``: a number or an unnamed array; ``loss``: what was differentiated; ``op``: everything in between.
    name : str or None
        The name that the user or the cell gave: ``"h"``, ``"W_hh"``.
    op, symbol : str or None
        The primitive that made it (``"matmul"``) and how a picture writes that (``"@"``); None for a leaf.
    scope : str
        Path where it was made, ``"t=3/forget"``; empty outside every scope.
    shape : tuple of int
    dtype : str
    value : ndarray or None
        What the forward pass computed; None if nobody saw it, as of a PyTorch graph without a recording.
    gradient : ndarray or None
        The cotangent that arrived: the sum of the contributions of all its edges, or the seed for the loss. None if it
        needs no gradient.
    members : tuple of Node
        Of a collapsed graph: the nodes that this one stands for, oldest first; empty for a node that is one tensor.
    """

    id: int
    kind: Kind
    name: str | None
    op: str | None
    symbol: str | None
    scope: str
    shape: tuple[int, ...]
    dtype: str
    value: Array | None
    gradient: Array | None
    members: tuple[Node, ...] = ()

    @property
    def label(self) -> str:
        """One line that tells it from the others: ``h (multiply) t=3``, ``weight_hh``."""
        what = self.name or self.op or self.kind
        op = f" ({self.op})" if self.name and self.op else ""
        return f"{what}{op}" + (f" {self.scope}" if self.scope else "")

    @property
    def step(self) -> str | None:
        """The time step in its scope (``"t=3"``, wherever in the path), or None outside of all."""
        return _step_of(self.scope)


@lru_cache(maxsize=1 << 14)  # a graph has few scopes and asks often
def _step_of(scope: str) -> str | None:
    return next((part for part in scope.split("/") if part.startswith("t=")), None)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Edge(Brief):
    """One use of one tensor: from the tensor (`source`) to the operation that consumed it (`target`).

    Attributes
    ----------
    source, target : int
        Node ids, in the direction in which data flowed. ``x * x`` makes two edges between the same nodes.
    operand : int
        Which operand of the target this is, from 0.
    carried : Outer, Slice, Whole or None
        What the target sent back along this edge; a large array as what it is made of. None if the source needs no
        gradient.
    state : {"finite", "zero", "underflow", "nan", "inf", "none"}
        ``underflow``: the contribution is subnormal, or zero only because what arrived was; ``zero``: exactly zero.
    formula : str
        The rule of this edge as a formula in g (the gradient that arrives), or one phrase: ``g × (1 − y²)``.
    tensor : Node or None
        Of a collapsed graph, where `source` may stand for many tensors: the one that flows along this edge.
    internal : bool
        Of a collapsed graph: source and consumers lie in the same group, so that the edge counts but is not drawn.
    """

    source: int
    target: int
    operand: int
    carried: Contribution | None
    state: State
    formula: str
    tensor: Node | None = None
    internal: bool = False

    @property
    def contribution(self) -> Array | None:
        """What the target sent back, as an array of the source's shape; computed when it is asked for."""
        return None if self.carried is None else self.carried.array()

    @property
    def norm(self) -> float | None:
        """L2 norm of the contribution; None without one."""
        return self.size()

    @property
    def signed(self) -> float | None:
        """The contribution itself, with its sign, where it is one number; else None."""
        array = self.carried.array() if self.carried is not None and math.prod(self.carried.shape) == 1 else None
        return None if array is None else float(array.reshape(-1)[0])

    def size(self, norm: Norm = "l2") -> float | None:
        """Any norm of the contribution, without its array wherever that is large; None without a contribution."""
        return None if self.carried is None else size_of(self.carried, norm)


@dataclass(frozen=True, slots=True, eq=False, repr=False, weakref_slot=True)
class Graph:
    """Nodes oldest first (``nodes[i].id == i``), and edges by (target, operand).

    Attributes
    ----------
    by_tensor : mapping
        The node of each tensor, by the tensor's serial number.
    origin : Graph or None
        Of a collapsed graph: the graph of single operations that it was made from.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    by_tensor: Mapping[int, Node]
    origin: Self | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.nodes)} nodes, {len(self.edges)} edges, loss: {self.nodes[-1].label})"

    def edges_from(self, node: Node) -> Iterable[Edge]:
        """The uses of a node, in the order of (target, operand)."""
        return (edge for edge in self.edges if edge.source == node.id)


def grouped(edges: Iterable[Edge], end: Literal["source", "target"]) -> dict[int, list[Edge]]:
    """Edges by the node at one of their ends."""
    found: dict[int, list[Edge]] = {}
    for edge in edges:
        found.setdefault(getattr(edge, end), []).append(edge)
    return found
