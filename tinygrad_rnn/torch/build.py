"""The gradient on every edge of a PyTorch model: PyTorch's own autograd graph as a `GradientGraph`.

After this file the reader knows that nothing is computed here: nodes, edges and contributions are those of PyTorch,
with the names and values that a recording has seen, and the sums are compared with PyTorch's gradients.
"""

from __future__ import annotations

import re
import warnings
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..graph import Edge, GradientGraph, Node
from ..graph.contributions import Array, Contribution, Outer, Slice, Whole
from ..norms import state_of
from .formulas import LINEAR, SYMBOLS, formula
from .seen import Operation, Seen
from .sweep import Sweep, is_leaf, is_python, sequence_number, shares, sweep, to_array

_LARGE = 200_000_000  # bytes of contributions from which on a smaller batch is recommended


@dataclass(frozen=True, slots=True, eq=False)
class TorchGraph(GradientGraph):
    """The gradient graph of a PyTorch loss: a `GradientGraph` whose `node_of` takes PyTorch's tensors."""

    kept: tuple[Any, ...] = field(default=(), repr=False)  # so that no other tensor gets the id of one of these

    def node_of(self, tensor: Any) -> Node:
        """The node of a parameter, or of a tensor that was computed.

        Raises
        ------
        KeyError
            If the loss was not computed from it.
        """
        known: Any = self.by_tensor
        try:
            return known[_key_of(tensor)]  # type: ignore[no-any-return]
        except (KeyError, AttributeError):
            what = f"a tensor of shape {tuple(getattr(tensor, 'shape', ()))}"
            raise KeyError(f"{what} is not among those that this loss was computed from") from None


def _key_of(tensor: Any) -> Hashable:
    return id(tensor) if tensor.grad_fn is None else (tensor.grad_fn, tensor.output_nr)


@dataclass
class _Draft:
    """A node to be: everything about it but its rank."""

    kind: Any
    name: str | None = None
    op: str | None = None
    scope: str = ""
    value: Any = None  # a tensor
    gradient: Array | None = None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    arrived: Array | None = None  # the sum of the contributions, in float64


@dataclass
class _Link:
    """An edge to be, between two drafts."""

    source: _Draft
    target: _Draft
    operand: int
    sends: Contribution | None
    formula: str


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
    return graph_of(loss, gradient, Seen())[0]


def graph_of(loss: Any, gradient: Any, seen: Seen) -> tuple[GradientGraph, float]:
    """The graph, and by how much its sums differ from PyTorch's gradients at the worst tensor."""
    watched = sweep(loss, gradient)
    builder = _Builder(loss, watched, seen)
    for node in watched.nodes:
        builder.add(node)
    return builder.graph()


class _Builder:
    """Collects drafts and links, node by node, oldest first."""

    def __init__(self, loss: Any, watched: Sweep, seen: Seen) -> None:
        self.loss, self.watched, self.seen = loss, watched, seen
        self.drafts: dict[Hashable, _Draft] = {}  # in the order in which they are made
        self.links: list[_Link] = []
        self.numbers = sorted(seen.operations)
        self.used = defaultdict(set)  # by node: which of its outputs something was sent to
        for node in watched.nodes:
            for i, (f, k) in enumerate(node.next_functions):
                sent = (node, i) in watched.sent or node in watched.folded
                if f is not None and sent and not is_leaf(f):
                    self.used[f].add(k)
        self.used[loss.grad_fn].add(loss.output_nr)

    def add(self, node: Any) -> None:
        """A node of PyTorch's: one draft for each output that is used, with a link from each operand."""
        if node in self.watched.folded:
            if (weight := self._operand(node, 0, None)[1]) is not None:
                self.drafts[node, 0] = weight
            return
        operation, exact = self._operation(node)
        op = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", re.sub(r"Backward\d*$", "", node.name().split("::")[-1])).lower()
        operands = [self._operand(node, i, operation if exact else None) for i in range(len(node.next_functions))]
        if node.next_functions and node.next_functions[-1][0] in self.watched.folded:
            op, exact = "linear", True
            operands = [(name, source) for name, (_, source) in zip(LINEAR[-len(operands) :], operands, strict=True)]
        outputs = sorted(self.used[node])
        sends = shares(node, [k for k in outputs if (node, k) in self.watched.arrived], self.watched)
        for k in outputs:
            draft = self._output(node, k, op, operation.scope)
            for i, (name, source) in enumerate(operands):
                if source is not None:
                    sent = sends[k][i] if k in sends else None
                    text = formula(op, name) if exact and (operation.plain or op == "linear") else f"∂{op}/∂{name}"
                    self.links.append(_Link(source, draft, i, sent, text if sent is not None else ""))

    def _operation(self, node: Any) -> tuple[Operation, bool]:
        """What was recorded when a node was made, and whether it is that very operation and not one just before."""
        number = sequence_number(node)
        near = bisect_right(self.numbers, number) - 1
        if near < 0:
            return Operation("", [], False), False
        operation = self.seen.operations[self.numbers[near]]
        same = self.numbers[near] == number and len(operation.operands) == len(node.next_functions)
        return operation, same and not is_python(node)

    def _operand(self, node: Any, i: int, operation: Operation | None) -> tuple[str, _Draft | None]:
        """An operand's name, and its draft; None if no gradient was asked of what made it."""
        f, k = node.next_functions[i]
        name, value, copy = operation.operands[i] if operation else (f"operand {i}", None, None)
        if f is None:
            held = copy if isinstance(copy, torch.Tensor) else value
            label = self.seen.names.get(id(value))
            key: Hashable = id(value) if label else (node, "operand", i)
            scope = self.seen.scopes.get(id(value), "") if label else operation.scope if operation else ""
            draft = _Draft("input" if label else "constant", label, scope=scope)
            if isinstance(held, (torch.Tensor, int, float)):
                draft.value = held = torch.as_tensor(held)
                draft.shape, draft.dtype = tuple(held.shape), _dtype(held)
            return name, self.drafts.setdefault(key, draft)
        if is_leaf(f):
            v = f.variable
            draft = _Draft("parameter", self.seen.names.get(id(v)), value=v, gradient=self.watched.leaves[v])
            draft.shape, draft.dtype = tuple(v.shape), _dtype(v)
            return name, self.drafts.setdefault(id(v), draft)
        return name, self.drafts.get((f, k))

    def _output(self, node: Any, k: int, op: str, scope: str) -> _Draft:
        is_loss = node is self.loss.grad_fn and k == self.loss.output_nr
        value = self.loss if is_loss else self.seen.values.get((node, k))
        draft = _Draft("loss" if is_loss else "op", self.seen.labels.get((node, k)), op, scope, value)
        draft.gradient = self.watched.arrived.get((node, k))
        told = value if value is not None else node._input_metadata[k]
        draft.shape, draft.dtype = tuple(told.shape), _dtype(told)
        self.drafts[node, k] = draft
        return draft

    def graph(self) -> tuple[GradientGraph, float]:
        """Plain data: sums compared, hooks of the user's shown, everything numbered."""
        for link in self.links:
            if link.sends is not None:
                link.source.arrived = _added(link.source.arrived, link.sends)
        order, residual = [], 0.0
        hooked: dict[int, _Draft] = {}
        drafts = list({id(draft): draft for draft in self.drafts.values()}.values())
        for draft in drafts:
            order.append(draft)
            error = _error(draft)
            if error is not None and error >= 2.0 ** (-6 if draft.dtype in ("float16", "bfloat16") else -16):
                hooked[id(draft)] = hook = _hook(draft)
                order.append(hook)
            else:
                residual = max(residual, error or 0.0)
        for link in self.links:
            link.source = hooked.get(id(link.source), link.source)
        for draft in drafts:
            if id(draft) in hooked and draft.gradient is not None:
                self.links.append(_Link(draft, hooked[id(draft)], 0, Whole(draft.gradient), "what a hook made of g"))
        ids = {id(draft): rank for rank, draft in enumerate(order)}
        nodes = tuple(_node(rank, draft) for rank, draft in enumerate(order))
        by_tensor: dict[Any, Node] = {key: nodes[ids[id(draft)]] for key, draft in self.drafts.items()}
        return TorchGraph(nodes, _edges(self.links, ids), by_tensor, None, (self.seen.kept, self.watched)), residual


def _added(total: Array | None, sends: Contribution) -> Array:
    """The sum with one contribution more, in float64 and in place."""
    total = np.zeros(sends.shape) if total is None else total
    with np.errstate(invalid="ignore", over="ignore"):
        if isinstance(sends, Slice):
            total[sends.index] += sends.part
        elif isinstance(sends, Outer):
            total += sends.delta.T.astype(float) @ sends.x.astype(float)
        else:
            total += sends.array()
    return total


def _error(draft: _Draft) -> float | None:
    """By how much what arrived differs from the gradient, relative to its largest element; None if not comparable."""
    if draft.gradient is None or draft.arrived is None or not draft.gradient.size:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(draft.arrived - draft.gradient).max() / max(np.abs(draft.arrived).max(), 1e-300)
    return float(off) if np.isfinite(off) else None  # after NaN nothing can be compared


def _hook(draft: _Draft) -> _Draft:
    """Where a tensor's gradient is not what arrived, a hook of the user's has changed it: it becomes a node."""
    before = None if draft.arrived is None or draft.gradient is None else draft.arrived.astype(draft.gradient.dtype)
    hook = _Draft("op", None, "hook", draft.scope, draft.value, before, draft.shape, draft.dtype)
    if draft.kind == "loss":
        draft.kind, hook.kind = "op", "loss"
    return hook


def _node(rank: int, draft: _Draft) -> Node:
    value, symbol = None if draft.value is None else to_array(draft.value), SYMBOLS.get(draft.op or "")
    shape, dtype = draft.shape, draft.dtype
    return Node(rank, draft.kind, draft.name, draft.op, symbol, draft.scope, shape, dtype, value, draft.gradient)


def _edges(links: list[_Link], ids: dict[int, int]) -> tuple[Edge, ...]:
    """Newest first, since what arrives at a node decides what its zeros mean; then by (target, operand)."""
    lost = {ids[id(link.target)] for link in links if _subnormal(link.target.gradient)}
    edges, size = [], 0
    for link in sorted(links, key=lambda link: (-ids[id(link.target)], link.operand)):
        source, target = ids[id(link.source)], ids[id(link.target)]
        state = "none" if link.sends is None else link.sends.state(target in lost)
        if state == "underflow":
            lost.add(source)
        if isinstance(link.sends, Whole):
            size += link.sends.kept.nbytes
        edges.append(Edge(source, target, link.operand, link.sends, state, link.formula))
    if size > _LARGE:
        warnings.warn(
            f"the contributions take {size // 1_000_000} MB: a few sequences show the same, such as x[:8]", stacklevel=5
        )
    return tuple(sorted(edges, key=lambda edge: (edge.target, edge.operand)))


def _subnormal(gradient: Array | None) -> bool:
    return gradient is not None and state_of(gradient, False) == "underflow"


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")
