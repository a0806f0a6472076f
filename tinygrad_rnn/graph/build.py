"""From a loss to its gradient graph: one more consumer of the one sweep, whose rules it asks edge by edge.

After this file the reader knows where the number on an edge comes from: from the rule, the gradient and the operands
with which the sweep computed what it added to the operand's gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import mapping
from ..autodiff import _seed, history, pullback
from ..norms import state_of
from ..scope import few_collections
from ..symbolic import formula
from ..tensor import Tensor, read_only
from .contributions import contributions_of
from .model import GradientGraph
from .parts import Array, Edge, Kind, Node
from .steps import before_step


@few_collections
def gradient_graph(loss: Tensor, gradient: ArrayLike | None = None, *, names: Any = None) -> GradientGraph:
    """Everything the loss was computed from, with the gradient at each tensor and the contribution along each edge.

    Neither ``.grad`` nor the graph of the loss is changed.

    Parameters
    ----------
    loss : Tensor
        A scalar, or any shape if `gradient` is given.
    gradient : array_like, optional
        Cotangent of the loss, of its shape; one by default.
    names : Module or mapping of str to Tensor, optional
        What tensors are called in the graph: a model, whose parameters then have their dotted names, as
        ``decoder.weight_hh``. Without it, parameters that share a name are told apart by the scope that uses them.

    Returns
    -------
    GradientGraph

    Raises
    ------
    GradientError
        As `backward`.
    TypeError
        If `names` is neither.

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
    seed = _seed(loss, gradient, False)
    needing = history([loss])
    gradients = pullback({loss: seed}, needing)
    ids, nodes = _nodes(loss, needing, gradients, _called(names))
    groups = []
    underflowed: set[int] = set()  # serials of tensors at which something was lost below the smallest normal number
    formulas: dict[Any, dict[int, str]] = {}  # by the kind of call, then by operand
    for node in reversed(needing):  # newest first: what arrives at a node decides what its zeros mean
        of_call, sent = formulas.setdefault(_kind_of_call(node), {}), contributions_of(node, gradients)
        groups.append(edges := list[Edge]())
        for i, operand in enumerate(node.operands):
            contribution = sent.get(i)
            state = "none" if contribution is None else contribution.state(False)
            if state == "zero" and (node.serial in underflowed or state_of(gradients[node], False) == "underflow"):
                state = "underflow"
            if state == "underflow" and operand is not None:
                underflowed.add(operand.serial)
            source = ids[operand.serial if operand is not None else (node.serial, i)]
            if i not in of_call and contribution is not None and node.op is not None:
                of_call[i] = formula(node.op, i, node._arrays, node.shape, node.static)
            text = "" if contribution is None else of_call[i]
            edges.append(Edge(source, ids[node.serial], i, contribution, state, text))
    edges = [edge for group in reversed(groups) for edge in group]
    nodes = _told_apart(nodes, edges)
    by_tensor = {key: nodes[rank] for key, rank in ids.items() if isinstance(key, int)}
    return GradientGraph(tuple(nodes), tuple(edges), by_tensor)


def _called(names: Any) -> dict[int, str]:
    """The names that were given, by the serial of the tensor; of a tied one the first."""
    called: dict[int, str] = {}
    model = callable(getattr(names, "parameters", None)) and not isinstance(names, type)
    given = names.parameters() if model else {} if names is None else names
    for name, tensor in mapping("names", given, "a model, or a mapping of names to tensors").items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"names[{name!r}] is no Tensor: give a model, or names with their tensors")
        called.setdefault(tensor.serial, str(name))
    return called


def _told_apart(nodes: list[Node], edges: Iterable[Edge]) -> list[Node]:
    """Parameters that share a name, each called after the scope that alone uses it: ``decoder.weight_hh``."""
    users: dict[int, set[str]] = {}
    for edge in edges:
        if nodes[edge.source].kind == "parameter":
            user = nodes[edge.target]
            users.setdefault(edge.source, set()).add(before_step(user) if user.step else user.scope)
    alike: dict[str | None, list[int]] = {}
    for id in users:
        alike.setdefault(nodes[id].name, []).append(id)
    for name, ids in alike.items():
        owners = {id: min(users[id]) for id in ids if len(users[id]) == 1}
        if name and len(ids) > 1 and len(set(owners.values())) == len(ids):
            for id, owner in owners.items():
                nodes[id] = replace(nodes[id], name=f"{owner.replace('/', '.')}.{name}".removeprefix("."))
    return nodes


def _nodes(
    loss: Tensor, needing: list[Tensor], gradients: dict[Tensor, Any], called: Mapping[int, str]
) -> tuple[dict[Any, int], list[Node]]:
    """A node for each tensor and for each bare operand, oldest first; ids by serial, or by (consumer, operand)."""
    found: dict[Any, tuple[Any, Tensor | None, Any]] = {}
    for node in needing:
        found[node.serial] = ((node.serial, 0, 0), node, node._value)
        for i, (operand, array) in enumerate(zip(node.operands, node._arrays, strict=True)):
            if operand is None:
                found[node.serial, i] = ((node.serial, -1, i), None, np.asarray(array))
            else:  # the array as it was in the forward pass, should a leaf have been rebound since
                found[operand.serial] = ((operand.serial, 0, 0), operand, array)
    ranked = sorted(found.items(), key=lambda item: item[1][0])
    ids = {key: rank for rank, (key, _) in enumerate(ranked)}
    nodes, held = [], set[int]()
    for key, (_, tensor, array) in ranked:
        op = tensor.op if tensor is not None else None
        gradient = gradients.get(tensor) if tensor is not None else None
        nodes.append(
            Node(
                id=ids[key],
                kind="loss" if tensor is loss else _kind(tensor),
                name=called.get(tensor.serial, tensor.name) if tensor is not None else None,
                op=op.name if op is not None else None,
                symbol=op.symbol if op is not None else None,
                scope=tensor.scope if tensor is not None else "",
                shape=array.shape,
                dtype=_dtype_name(array.dtype),
                value=read_only(array),
                gradient=None if gradient is None else _own(gradient, tensor, held),
            )
        )
    return ids, nodes


def _own(gradient: Array, tensor: Tensor | None, held: set[int]) -> Array:
    """An array that nobody else has; a weight's, which is large and was added up for us alone, is not copied."""
    owned = gradient.base is None and id(gradient) not in held
    if tensor is None or tensor.op is not None or gradient.ndim < 2 or not owned:
        return np.array(gradient)
    held.add(id(gradient))
    return gradient


_dtype_name = lru_cache(str)  # which NumPy takes a microsecond or five for


def _kind(tensor: Tensor | None) -> Kind:
    if tensor is None:
        return "constant"
    if tensor.op is not None:
        return "op"
    return "parameter" if tensor.requires_grad else "input" if tensor.name else "constant"


def _kind_of_call(node: Tensor) -> Any:
    """The same for every call of the same primitive with the same shapes, numbers and static parameters."""
    operands = tuple([a if isinstance(a, (int, float)) else a.shape for a in node._arrays])
    return node.op, operands, node.shape, repr(dict(node.static)) if node.op is not None and node.op.phrase else ""
