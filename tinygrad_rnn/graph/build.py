"""From a loss to its gradient graph: one more consumer of the one sweep, which it watches edge by edge.

After this file the reader knows where the number on an edge comes from: it is the very array that the sweep was about
to add to the operand's gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..autodiff import _seed, history, pullback
from ..tensor import Tensor
from .formula import formula
from .model import Array, Edge, GradientGraph, Kind, Node, State


def gradient_graph(loss: Tensor, gradient: ArrayLike | None = None) -> GradientGraph:
    """Everything the loss was computed from, with the gradient at each tensor and the contribution along each edge.

    Neither ``.grad`` nor the graph of the loss is changed.

    Parameters
    ----------
    loss : Tensor
        A scalar, or any shape if `gradient` is given.
    gradient : array_like, optional
        Cotangent of the loss, of its shape; one by default.

    Returns
    -------
    GradientGraph

    Raises
    ------
    GradientError
        As `backward`.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.Tensor(3.0, requires_grad=True, name="x")
    >>> graph = tg.gradient_graph(x * x)
    >>> [edge.norm for edge in graph.edges]
    [3.0, 3.0]
    >>> float(graph.node_of(x).gradient)
    6.0
    """
    contributions: dict[tuple[int, int], Array] = {}

    def watch(node: Tensor, operand: int, contribution: Any) -> Any:
        contributions[node._serial, operand] = np.array(contribution)
        return contribution

    seed = _seed(loss, gradient, False)
    needing = history([loss])
    gradients = pullback({loss: seed}, needing, watch)
    ids, nodes = _nodes(loss, needing, gradients)
    edges = []
    underflowed: set[int] = set()  # serials of tensors at which something was lost below the smallest normal number
    formulas: dict[Any, str] = {}
    for node in reversed(needing):  # newest first: what arrives at a node decides what its zeros mean
        lost = node._serial in underflowed or _subnormal(gradients[node])
        for i, operand in enumerate(node._operands):
            contribution = contributions.get((node._serial, i))
            state = _state(contribution, lost)
            if state == "underflow" and operand is not None:
                underflowed.add(operand._serial)
            source = ids[operand._serial if operand is not None else (node._serial, i)]
            edges.append(
                Edge(source, ids[node._serial], i, contribution, state, _formula(formulas, node, i, contribution))
            )
    edges.sort(key=lambda edge: (edge.target, edge.operand))
    by_tensor = {key: nodes[rank] for key, rank in ids.items() if isinstance(key, int)}
    return GradientGraph(tuple(nodes), tuple(edges), by_tensor)


def _nodes(loss: Tensor, needing: list[Tensor], gradients: dict[Tensor, Any]) -> tuple[dict[Any, int], list[Node]]:
    """A node for each tensor and for each bare operand, oldest first; ids by serial, or by (consumer, operand)."""
    found: dict[Any, tuple[Any, Tensor | None, Any]] = {}
    for node in needing:
        found[node._serial] = ((node._serial, 0, 0), node, node._data)
        for i, (operand, array) in enumerate(zip(node._operands, node._arrays, strict=True)):
            if operand is None:
                found[node._serial, i] = ((node._serial, -1, i), None, np.asarray(array))
            else:  # the array as it was in the forward pass, should a leaf have been rebound since
                found[operand._serial] = ((operand._serial, 0, 0), operand, array)
    ranked = sorted(found.items(), key=lambda item: item[1][0])
    ids = {key: rank for rank, (key, _) in enumerate(ranked)}
    nodes = []
    for key, (_, tensor, array) in ranked:
        op = tensor._op if tensor is not None else None
        gradient = gradients.get(tensor) if tensor is not None else None
        nodes.append(
            Node(
                id=ids[key],
                kind="loss" if tensor is loss else _kind(tensor),
                name=tensor.name if tensor is not None else None,
                op=op.name if op is not None else None,
                symbol=op.symbol if op is not None else None,
                scope=tensor.scope if tensor is not None else "",
                shape=array.shape,
                dtype=str(array.dtype),
                value=array,
                gradient=None if gradient is None else np.array(gradient),
            )
        )
    return ids, nodes


def _kind(tensor: Tensor | None) -> Kind:
    if tensor is None:
        return "constant"
    if tensor._op is not None:
        return "op"
    return "parameter" if tensor._requires_grad else "input" if tensor.name else "constant"


def _subnormal(array: Array) -> bool:
    """Whether an array is not zero and yet all of it is below the smallest normal number of its dtype."""
    largest = np.max(np.abs(array), initial=0.0)
    return bool(0 < largest < np.finfo(array.dtype).tiny)


def _state(contribution: Array | None, lost: bool) -> State:
    """What a contribution's number means; `lost` says that what arrived at its consumer had underflowed."""
    if contribution is None:
        return "none"
    if np.isnan(contribution).any():
        return "nan"
    if np.isinf(contribution).any():
        return "inf"
    if _subnormal(contribution):
        return "underflow"
    if not contribution.any():
        return "underflow" if lost else "zero"
    return "finite"


def _formula(cache: dict[Any, str], node: Tensor, operand: int, contribution: Array | None) -> str:
    """The formula of an edge; the same for every edge of the same primitive, shapes, numbers and static parameters."""
    if contribution is None or node._op is None:
        return ""
    operands = tuple([a if isinstance(a, (int, float)) else np.shape(a) for a in node._arrays])
    key = (node._op.name, operand, operands, node.shape, repr(node._static) if node._op.phrase else "")
    if key not in cache:
        cache[key] = formula(node._op, operand, node._arrays, node.shape, node._static)
    return cache[key]
