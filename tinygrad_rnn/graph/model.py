"""The gradient graph as plain data: what a picture, a table and a JSON file are made from.

After this file the reader knows the one distinction that matters here: a *node* has a gradient (the sum of everything
sent back to it), an *edge* has a contribution (what one consumer sent back along that very edge).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..files import write_whole
from ..tensor import Tensor

Array = NDArray[Any]
Kind = Literal["op", "parameter", "input", "constant", "loss"]
Norm = Literal["l2", "rms", "max"]
State = Literal["finite", "zero", "underflow", "nan", "inf", "none"]
Level = Literal["op", "gate", "step"] | int


def norm_of(array: Array, norm: Norm = "l2") -> float:
    """Size of an array of numbers: ``l2`` (default), ``rms`` or ``max``.

    Computed in float64 and scaled before squaring, so that neither ``1e-200`` reads as zero nor ``1e200`` as infinite.

    Parameters
    ----------
    array : array_like
    norm : {"l2", "rms", "max"}

    Returns
    -------
    float
    """
    values = np.abs(np.asarray(array, dtype=np.float64))
    largest = float(values.max(initial=0.0)) if values.size else 0.0
    if norm == "max" or largest == 0.0 or not np.isfinite(largest):
        return largest
    # A subnormal `largest` has an infinite reciprocal, but dividing by it is exact enough.
    total = float(np.sqrt(np.sum((values / largest) ** 2)))
    return largest * (total / np.sqrt(values.size) if norm == "rms" else total)


def statistics(array: Array) -> dict[str, Any]:
    """Norm, smallest, largest and mean of an array, JSON-ready."""
    if not array.size:
        return {"norm": 0.0, "min": None, "max": None, "mean": None}
    wide = np.asarray(array, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return {
            k: _plain(v)
            for k, v in {"norm": norm_of(wide), "min": wide.min(), "max": wide.max(), "mean": wide.mean()}.items()
        }


def _plain(value: Any) -> Any:
    """Numbers and arrays as JSON has them; it has no NaN and no infinity, so these become strings."""
    if value is None:
        return None
    if np.ndim(value):
        return [_plain(item) for item in value]
    number = float(value)
    return number if math.isfinite(number) else str(number)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
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
    value : ndarray
        What the forward pass computed.
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
    value: Array
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


def _record(node: Node, arrays: bool) -> dict[str, Any]:
    """A node as JSON has it."""
    return {
        "id": node.id,
        "kind": node.kind,
        "name": node.name,
        "op": node.op,
        "scope": node.scope,
        "shape": list(node.shape),
        "dtype": node.dtype,
        "value": statistics(node.value),
        "gradient": None if node.gradient is None else statistics(node.gradient),
        **({"gradient_array": _plain(node.gradient)} if arrays and node.gradient is not None else {}),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """One use of one tensor: from the tensor (`source`) to the operation that consumed it (`target`).

    Attributes
    ----------
    source, target : int
        Node ids, in the direction in which data flowed. ``x * x`` makes two edges between the same nodes.
    operand : int
        Which operand of the target this is, from 0.
    contribution : ndarray or None
        What the target sent back along this edge, of the source's shape; None if the source needs no gradient.
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
    contribution: Array | None
    state: State
    formula: str
    tensor: Node | None = None
    internal: bool = False

    @property
    def norm(self) -> float | None:
        """L2 norm of the contribution; None without one. `norm_of` has the other norms."""
        return None if self.contribution is None else norm_of(self.contribution)


@dataclass(frozen=True, slots=True, eq=False)
class GradientGraph:
    """Everything `gradient_graph` found: nodes oldest first (``nodes[i].id == i``), edges by (target, operand).

    What holds, at every node that needs a gradient, and is property-tested: the contributions on the edges that leave
    it sum, as arrays, to its gradient. After `collapse` it holds at every tensor, which is then `Edge.tensor`.

    Attributes
    ----------
    origin : GradientGraph or None
        Of a collapsed graph: the graph of single operations that it was made from.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    by_tensor: Mapping[int, Node] = field(default_factory=dict, repr=False)
    origin: GradientGraph | None = field(default=None, repr=False)

    def node_of(self, tensor: Tensor) -> Node:
        """The node of a tensor.

        Raises
        ------
        KeyError
            If the loss was not computed from it.
        """
        try:
            return self.by_tensor[tensor._serial]
        except KeyError:
            raise KeyError(f"{tensor!r} is not among the tensors that this loss was computed from") from None

    def collapse(self, level: Level) -> GradientGraph:
        """The same graph from further away; see `tinygrad_rnn.graph.collapse.collapse`.

        Parameters
        ----------
        level : {"op", "gate", "step"} or int
            One node per operation, gate or time step, or per scope of that depth.
        """
        from .collapse import collapse  # which is made of these classes

        return collapse(self, level)

    def to_dict(self, arrays: bool = False) -> dict[str, Any]:
        """Nodes and edges as JSON-ready data; NaN and infinities are the strings ``"nan"``, ``"inf"``, ``"-inf"``.

        A collapsed graph has ``tensors`` too: those that flow along its edges, each edge with the id of its own.

        Parameters
        ----------
        arrays : bool
            Add the gradients and contributions themselves, so that anyone can re-add them.
        """
        tensors = {edge.tensor.id: edge.tensor for edge in self.edges if edge.tensor is not None}
        edges = [
            {
                "source": edge.source,
                "target": edge.target,
                "operand": edge.operand,
                "norm": _plain(edge.norm),
                "state": edge.state,
                "formula": edge.formula,
                **({} if edge.tensor is None else {"tensor": edge.tensor.id, "internal": edge.internal}),
                **({"contribution": _plain(edge.contribution)} if arrays and edge.contribution is not None else {}),
            }
            for edge in self.edges
        ]
        return {
            "format": "tinygrad_rnn.GradientGraph/1",
            "nodes": [_record(node, arrays) for node in self.nodes],
            "edges": edges,
            **({"tensors": [_record(tensors[id], arrays) for id in sorted(tensors)]} if tensors else {}),
        }

    def to_json(self, path: str | PathLike[str], arrays: bool = False) -> None:
        """Write `to_dict` to a file, whole or not at all."""
        write_whole(path, json.dumps(self.to_dict(arrays), indent=1, allow_nan=False, ensure_ascii=False) + "\n")

    def table(self) -> str:
        """The edges as text, newest first: the way the gradient flows."""
        rows = [("from", "to", "operand", "norm", "state", "formula")]
        for edge in reversed(self.edges):
            source, target = self.nodes[edge.source], self.nodes[edge.target]
            norm = "" if edge.norm is None else f"{edge.norm:.3g}"
            rows.append((source.label, target.label, str(edge.operand), norm, edge.state, edge.formula))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    def edges_from(self, node: Node) -> Iterable[Edge]:
        """The uses of a node, in the order of (target, operand)."""
        return (edge for edge in self.edges if edge.source == node.id)
