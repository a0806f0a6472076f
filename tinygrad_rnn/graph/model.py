"""The gradient graph as a whole: what a picture, a table and a JSON file are made from."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

from ..arguments import flag
from ..files import columns, write_whole
from ..norms import json_ready, statistics
from ..tensor import Tensor
from .collapse import collapse
from .parts import Graph, Level, Node


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
        "value": None if node.value is None else statistics(node.value),
        "gradient": None if node.gradient is None else statistics(node.gradient),
        **({"gradient_array": json_ready(node.gradient)} if arrays and node.gradient is not None else {}),
    }


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GradientGraph(Graph):
    """Everything `gradient_graph` found: nodes oldest first (``nodes[i].id == i``), edges by (target, operand).

    What holds, at every node that needs a gradient, and is property-tested: the contributions on the edges that leave
    it sum, as arrays, to its gradient. After `collapse` it holds at every tensor, which is then `Edge.tensor`.

    Attributes
    ----------
    origin : GradientGraph or None
        Of a collapsed graph: the graph of single operations that it was made from.
    """

    def node_of(self, tensor: Tensor) -> Node:
        """The node of a tensor.

        Raises
        ------
        KeyError
            If the loss was not computed from it.
        """
        try:
            return self.by_tensor[tensor.serial]
        except KeyError:
            raise KeyError(f"{tensor!r} is not among the tensors that this loss was computed from") from None

    def collapse(self, level: Level) -> GradientGraph:
        """The same graph from further away; see `tinygrad_rnn.graph.collapse.collapse`.

        Parameters
        ----------
        level : {"op", "gate", "step"} or int
            One node per operation, gate or time step, or per scope of that depth.
        """
        return collapse(self, level)

    def to_dict(self, arrays: bool = False) -> dict[str, Any]:
        """Nodes and edges as JSON-ready data; NaN and infinities are the strings ``"nan"``, ``"inf"``, ``"-inf"``.

        A collapsed graph has ``tensors`` too: those that flow along its edges, each edge with the id of its own. The
        contribution of an edge is there where it is one number, which has a sign.

        Parameters
        ----------
        arrays : bool
            Add all gradients and contributions themselves, so that anyone can re-add them.
        """
        arrays = flag("arrays", arrays)
        tensors = {edge.tensor.id: edge.tensor for edge in self.edges if edge.tensor is not None}
        edges = []
        for edge in self.edges:
            told: dict[str, Any] = {
                "source": edge.source,
                "target": edge.target,
                "operand": edge.operand,
                "norm": json_ready(edge.norm),
                "state": edge.state,
                "formula": edge.formula,
            }
            if edge.tensor is not None:
                told |= {"tensor": edge.tensor.id, "internal": edge.internal}
            if edge.carried is not None and (arrays or edge.signed is not None):
                told["contribution"] = json_ready(edge.contribution)
            edges.append(told)
        return {
            "format": "tinygrad_rnn.GradientGraph/1",
            "nodes": [_record(node, arrays) for node in self.nodes],
            "edges": edges,
            **({"tensors": [_record(tensors[id], arrays) for id in sorted(tensors)]} if tensors else {}),
        }

    def to_json(self, path: str | PathLike[str] | None = None, arrays: bool = False) -> str:
        """`to_dict` as JSON; with a path, also written there, whole or not at all."""
        import json

        text = json.dumps(self.to_dict(arrays), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        if path is not None:
            write_whole(path, text)
        return text

    def table(self) -> str:
        """The edges as text, newest first: the way the gradient flows. A number has its sign, an array its norm."""
        rows = [("from", "to", "operand", "gradient", "state", "formula")]
        for edge in reversed(self.edges):
            source, target = self.nodes[edge.source], self.nodes[edge.target]
            size = edge.norm if edge.signed is None else edge.signed
            norm = "" if size is None else f"{size:.3g}"
            rows.append((source.label, target.label, str(edge.operand), norm, edge.state, edge.formula))
        return "\n".join(columns(rows))
