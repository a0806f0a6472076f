"""The gradient on every edge of a PyTorch model: PyTorch's own autograd graph as a `GradientGraph`.

After this file the reader knows that nothing is computed here: nodes, edges and contributions are those of PyTorch,
with the names and values that a recording has seen, and the sums are compared with PyTorch's gradients.
"""

from __future__ import annotations

import math
import re
import warnings
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from ..graph import Edge, GradientGraph, Node
from ..graph.contributions import Whole, summed
from ..graph.parts import grouped
from ..norms import state_of
from .formulas import FORMULAS, SYMBOLS
from .sweep import Sweep, is_leaf, is_python, to_array

_LARGE = 200_000_000  # bytes of contributions from which on a smaller batch is recommended


class Operation(NamedTuple):
    """One operation of the forward pass: where it ran, and its differentiable operands with what they held.

    An operand is (name, tensor or number, copy of its value); the copy is None where autograd knows the tensor.
    """

    scope: str
    operands: list[tuple[str, Any, Any]]
    plain: bool  # no keyword argument changes what it computes


@dataclass
class Seen:
    """What is known beside PyTorch's graph; without a recording, nothing.

    Attributes
    ----------
    operations : dict
        By the sequence number of PyTorch's node; before the first is one of which nothing is known.
    values : dict
        By (node, output): what the forward pass computed.
    labels : dict
        By (node, output): what a step calls it, such as h or c.
    names : dict
        By the tensor: its name in the model, and, of an input of one step, the scope where it belongs.
    """

    operations: dict[int, Operation] = field(default_factory=lambda: {-1: Operation("", [], False)})
    values: dict[tuple[Any, int], Any] = field(default_factory=dict)
    labels: dict[tuple[Any, int], str] = field(default_factory=dict)
    names: dict[Any, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TorchGraph(GradientGraph):
    """The gradient graph of a PyTorch loss: a `GradientGraph` whose `node_of` takes PyTorch's tensors."""

    def node_of(self, tensor: Any) -> Node:
        """The node of a parameter, or of a tensor that was computed.

        Raises
        ------
        KeyError
            If the loss was not computed from it.
        """
        made_by, known = getattr(tensor, "grad_fn", None), cast(dict[Any, Node], self.by_tensor)
        key = tensor if made_by is None else (made_by, tensor.output_nr)
        if key not in known:
            what = f"a tensor of shape {tuple(getattr(tensor, 'shape', ()))}"
            raise KeyError(f"{what} is not among those that this loss was computed from")
        return known[key]


def gradient_graph(loss: Any, gradient: Any = None) -> GradientGraph:
    """The gradient graph of a PyTorch loss without a recording: all edges, but no values, names, steps or modules.

    Parameters
    ----------
    loss : torch.Tensor
        A scalar, or any shape if `gradient` is given; before ``loss.backward()``.
    gradient : torch.Tensor, optional
        Cotangent of the loss, of its shape; one by default.

    Returns
    -------
    GradientGraph
        Fused recurrent modules are one node each.

    Raises
    ------
    ValueError
        If the loss has no history.
    TypeError
        If something hides what is inside of it (a compiled model, a reentrant checkpoint), and of complex tensors.
    RuntimeError
        If `backward` has freed the graph.

    Examples
    --------
    >>> import torch
    >>> from tinygrad_rnn.torch import gradient_graph
    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> graph = gradient_graph((x * x).sum())
    >>> [edge.norm for edge in graph.edges_from(graph.node_of(x))]
    [3.0, 3.0]
    """
    return Builder(loss, gradient, Seen()).graph()[0]


class Builder:
    """Collects nodes and edges, oldest first. A node has an even number, so that a hook finds room behind it."""

    def __init__(self, loss: Any, gradient: Any, seen: Seen) -> None:
        self.loss, self.watched, self.seen = loss, Sweep(loss, gradient), seen
        self.by_tensor: dict[Any, Node] = {}  # in the order in which they are made; some have two keys
        self.edges: list[Edge] = []
        self.numbers = sorted(seen.operations)

    def add(self, node: Any) -> None:
        """A node of PyTorch's: one of ours for each output that is used, with an edge from each operand."""
        if node in self.watched.folded:
            if (weight := self._operand(node, 0, None)[1]) is not None:
                self.by_tensor[node, 0] = weight
            return
        operation, exact = self._operation(node)
        op = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", re.sub(r"Backward\d*$", "", node.name().split("::")[-1])).lower()
        operands = [self._operand(node, i, operation if exact else None) for i in range(len(node.next_functions))]
        rules = FORMULAS.get(op, {}) if exact and operation.plain else {}
        if node.next_functions and node.next_functions[-1][0] in self.watched.folded:
            op, rules = "linear", FORMULAS["linear"]
            operands = [(name, source) for name, (_, source) in zip([*rules][-len(operands) :], operands, strict=True)]
        outputs = [k for k in range(len(node._input_metadata)) if (node, k) in self.watched.arrived]
        for k, sends in self.watched.shares(node, outputs).items():
            is_loss = node is self.loss.grad_fn and k == self.loss.output_nr
            value = self.loss if is_loss else self.seen.values.get((node, k))
            label, told = self.seen.labels.get((node, k)), node._input_metadata[k] if value is None else value
            made = self._node((node, k), "loss" if is_loss else "op", label, op, operation.scope, told, value)
            for i, (name, source) in enumerate(operands):
                if source is not None:
                    text = "" if sends[i] is None else rules.get(name, f"∂{op}/∂{name}")
                    self.edges.append(Edge(source.id, made.id, i, sends[i], "none", text))

    def _operation(self, node: Any) -> tuple[Operation, bool]:
        """What was recorded when a node was made, and whether it is that very operation and not one just before."""
        number = self.numbers[bisect_right(self.numbers, node._sequence_nr()) - 1]  # the last up to its own
        operation = self.seen.operations[number]
        same = number == node._sequence_nr() and len(operation.operands) == len(node.next_functions)
        return operation, same and not is_python(node)

    def _operand(self, node: Any, i: int, operation: Operation | None) -> tuple[str, Node | None]:
        """An operand's name, and its node; None if no gradient was asked of what made it."""
        f, k = node.next_functions[i]
        name, value, copy = operation.operands[i] if operation else (f"operand {i}", None, None)
        if f is not None and not is_leaf(f):
            return name, self.by_tensor.get((f, k))
        if f is not None:
            v = f.variable
            return name, self._node(v, "parameter", self.seen.names.get(v, (None,))[0], None, "", v, v)
        held = copy if isinstance(copy, torch.Tensor) else value
        held = torch.as_tensor(held) if isinstance(held, (torch.Tensor, int, float)) else None
        if value in self.seen.names:
            label, scope = self.seen.names[value]
            return name, self._node(value, "input", label, None, scope, held, held)
        scope = operation.scope if operation else ""
        return name, self._node((node, "operand", i), "constant", None, None, scope, held, held)

    def _node(self, key: Any, kind: Any, name: str | None, op: str | None, scope: str, like: Any, value: Any) -> Node:
        """The node with this key, made if there is none; `like` has its shape and dtype."""
        if key not in self.by_tensor:
            shape = () if like is None else tuple(like.shape)
            dtype = "" if like is None else str(like.dtype).removeprefix("torch.")
            array, symbol = None if value is None else to_array(value), SYMBOLS.get(op or "")
            gradient = self.watched.leaves[value] if kind == "parameter" else self.watched.arrived.get(key)
            number = 2 * len(self.by_tensor)
            self.by_tensor[key] = Node(number, kind, name, op, symbol, scope, shape, dtype, array, gradient)
        return self.by_tensor[key]

    def graph(self) -> tuple[GradientGraph, float]:
        """The graph, and by how much its sums differ from PyTorch's gradients at the worst tensor.

        Hooks of the user's are shown, everything is numbered.
        """
        for node in self.watched.nodes:
            self.add(node)
        nodes, residual = {node.id: node for node in self.by_tensor.values()}, 0.0
        for source, uses in grouped(self.edges, "source").items():
            node, sent = nodes[source], [edge.carried for edge in uses if edge.carried is not None]
            gradient = node.gradient
            if gradient is None or not (sent and gradient.size):
                continue
            total = summed(sent).array()
            with np.errstate(invalid="ignore", over="ignore"):
                error = float(np.abs(total - gradient).max() / max(np.abs(total).max(), 1e-300))
            if error < 2.0 ** (-6 if node.dtype in ("float16", "bfloat16") else -16):
                residual = max(residual, error)
            elif math.isfinite(error):  # a hook of the user's, which becomes a node; after NaN nothing can be compared
                hook, before = node.id + 1, total.astype(gradient.dtype)
                nodes[hook] = replace(node, id=hook, kind="op", name=None, op="hook", symbol=None, gradient=before)
                self.edges = [replace(e, source=hook) if e.source == node.id else e for e in self.edges]
                self.edges.append(Edge(node.id, hook, 0, Whole(gradient), "none", "what a hook made of g"))
        ids = {number: rank for rank, number in enumerate(sorted(nodes))}
        made = tuple(replace(nodes[number], id=rank) for number, rank in ids.items())
        lost = {n.id for n in nodes.values() if n.gradient is not None and state_of(n.gradient, False) == "underflow"}
        edges = []
        newest_first = sorted(self.edges, key=lambda edge: (edge.target, edge.operand), reverse=True)
        for edge in newest_first:  # what arrives at a node decides what its zeros mean
            state = "none" if edge.carried is None else edge.carried.state(edge.target in lost)
            lost |= {edge.source} if state == "underflow" else set()
            edges.append(replace(edge, source=ids[edge.source], target=ids[edge.target], state=state))
        if (size := sum(e.carried.kept.nbytes for e in edges if isinstance(e.carried, Whole))) > _LARGE:
            text = f"the contributions take {size // 1_000_000} MB: a few sequences show the same, such as x[:8]"
            warnings.warn(text, stacklevel=3)
        by_tensor = {key: made[ids[node.id]] for key, node in self.by_tensor.items()}
        return TorchGraph(made, tuple(reversed(edges)), by_tensor), residual
