"""PyTorch's own backward pass, watched: what each node of its graph got, and what it sent along each of its edges.

After this file the reader knows where the numbers come from: a hook on each node sees what the node sends back, after
un-broadcasting and casting, before anything is added up.
"""

from __future__ import annotations

from functools import partial
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
import torch

from ..graph.contributions import Array, Contribution, Outer, Slice, Whole

_COMPILED = "torch.compile hides the graph in one node: record the model before it is compiled, model._orig_mod"
_REENTRANT = "a reentrant checkpoint hides what is inside: use checkpoint(..., use_reentrant=False)"
_FREED = "backward() has freed the graph: ask for it before, or backward(retain_graph=True)"
_OPAQUE = {"CompiledFunction": _COMPILED, "CheckpointFunctionBackward": _REENTRANT}


class Sweep:
    """One backward pass, without adding to any ``.grad``; it keeps all that flows.

    Attributes
    ----------
    nodes : list
        PyTorch's nodes, oldest first, without those that only add to a leaf.
    sent : dict
        By (node, operand): what it sent back along that edge; of a weight and of a slice, what it is made of.
    arrived : dict
        By (node, output): the gradient of that output.
    leaves : dict
        By leaf: its gradient, or None.
    folded : set
        Nodes that transpose a weight for the products that use it, x Wᵀ: no step of their own, as in F.linear.

    Raises
    ------
    ValueError
        If the loss has no history.
    TypeError
        If something hides what is inside of it: a compiled model, a reentrant checkpoint.
    RuntimeError
        If `backward` has freed the graph; or what PyTorch says, such as of a loss that is no scalar.
    """

    def __init__(self, loss: Any, gradient: Any = None) -> None:
        if not isinstance(loss, torch.Tensor) or loss.grad_fn is None:
            raise ValueError("the loss has no history: was it computed under no_grad, or from detached tensors?")
        self.nodes = _ordered(loss.grad_fn)
        self.folded = _transposed_weights(self.nodes)
        self.sent: dict[tuple[Any, int], Contribution] = {}
        self.arrived: dict[tuple[Any, int], Array] = {}
        leaves = list({f.variable: None for node in self.nodes for f, _ in node.next_functions if is_leaf(f)})
        handles = [node.register_hook(partial(self._watch, node)) for node in self.nodes]
        try:
            found = torch.autograd.grad(loss, leaves, gradient, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            if "second time" in str(error):
                raise RuntimeError(_FREED) from error
            raise
        finally:
            for handle in handles:
                handle.remove()
        self.leaves = {v: None if g is None else to_array(g) for v, g in zip(leaves, found, strict=True)}

    def _watch(self, node: Any, inputs: Any, outputs: Any) -> None:
        arrived = [None if g is None else to_array(g) for g in outputs]
        self.arrived |= {(node, k): g for k, g in enumerate(arrived) if g is not None}
        for i, g in enumerate(inputs):
            if g is not None and node not in self.folded:
                self.sent[node, i] = self._carried(node, i, g, arrived[0])

    def _carried(self, node: Any, i: int, sent: Any, g: Array | None) -> Contribution:
        """What a node sent along an edge, where g arrived; of W in x Wᵀ its factors."""
        if g is None or node.next_functions[i][0] not in self.folded:
            return _kept(to_array(sent))
        try:
            x = to_array(node._saved_mat1 if node.name() == "AddmmBackward0" else node._saved_self)
            return Outer(g, x, g.dtype)
        except RuntimeError:  # a checkpoint gives back only once what it has computed again
            return Whole(to_array(sent).T)

    def shares(self, node: Any, outputs: list[int]) -> dict[int, list[Contribution | None]]:
        """What each output of a node alone sends back to each operand: a backward rule is linear in what arrives.

        A rule of the user's that is not linear, such as one that clamps, gives all of it to the first output.
        """
        together = [self.sent.get((node, i)) for i in range(len(node.next_functions))]
        if len(outputs) < 2:
            return dict.fromkeys(outputs, together)
        call, like = node.apply if is_python(node) else node, node._input_metadata
        blank = [torch.zeros(m.shape, dtype=m.dtype, device=m.device) if is_python(node) else None for m in like]
        alone: dict[int, list[Contribution | None]] = {}
        with torch.no_grad():
            for k in outputs:
                one = torch.as_tensor(self.arrived[node, k], dtype=like[k].dtype, device=like[k].device)
                sent = call(*[one if j == k else nothing for j, nothing in enumerate(blank)])
                parts = sent if isinstance(sent, (tuple, list)) else [sent]
                alone[k] = [None if part is None else _kept(to_array(part)) for part in parts]
        for i, all_of_it in enumerate(None if part is None else part.array() for part in together):
            sums = sum(part.array() for k in outputs if (part := alone[k][i]) is not None)
            least = 0.0 if all_of_it is None else 1e-3 * np.abs(all_of_it).max(initial=0.0)
            if all_of_it is not None and not np.allclose(sums, all_of_it, 1e-3, least, equal_nan=True):
                return {outputs[0]: together}
        return alone


def is_leaf(node: Any) -> bool:
    """Whether a node only adds to the gradient of a leaf."""
    return hasattr(node, "variable")


def is_python(node: Any) -> bool:
    """Whether it is a custom autograd.Function."""
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def _transposed_weights(nodes: list[Any]) -> set[Any]:
    """The nodes `t` all of whose uses are products x Wᵀ."""
    uses = [(f, node, i) for node in nodes for i, (f, _) in enumerate(node.next_functions) if f is not None]
    uses = [(f, node, i) for f, node, i in uses if f.name() == "TBackward0"]
    return {f for f, *_ in uses} - {f for f, node, i in uses if not _is_weight(node, i)}


def _is_weight(node: Any, i: int) -> bool:
    """Whether an operand is the second factor of a plain matrix product."""
    if node.name() == "AddmmBackward0":
        return i == 2 and node._saved_alpha == node._saved_beta == 1
    return i == 1 and node.name() == "MmBackward0"


def _kept(array: Array) -> Contribution:
    """An array that is zero outside of a small box, as after x[t], as that box."""
    if 2 * np.count_nonzero(array) >= array.size:
        return Whole(array)
    axes, box = range(array.ndim), list[slice]()
    for axis in axes:
        at = np.flatnonzero(array.any(axis=tuple(k for k in axes if k != axis)))
        box.append(slice(at[0], at[-1] + 1) if len(at) else slice(0))
    part = array[tuple(box)]
    return Slice(part.copy(), tuple(box), array.shape, array.dtype) if 2 * part.size < array.size else Whole(array)


def walk(last: Any) -> list[Any]:
    """All nodes behind one, and itself, each after those that it was made from."""
    made_from: dict[Any, list[Any]] = {}
    stack = [last]
    while stack:
        if (node := stack.pop()) is not None and node not in made_from:
            made_from[node] = [f for f, _ in node.next_functions if f is not None]
            stack += made_from[node]
    return [*TopologicalSorter(made_from).static_order()]


def _ordered(last: Any) -> list[Any]:
    """The nodes behind the last one, without those of leaves; as they were made, where that is known."""
    order = [node for node in walk(last) if not is_leaf(node)]
    for why in (why for name, why in _OPAQUE.items() for node in order if name in type(node).__name__):
        raise TypeError(why)
    rank = {node: node._sequence_nr() for node in order}  # when it was made, as PyTorch counts
    if all(rank[f] < rank[node] for node in order for f, _ in node.next_functions if f in rank):
        order.sort(key=rank.__getitem__)
    return order


def to_array(tensor: Any) -> Array:
    """A copy, as NumPy has it; bfloat16, which NumPy lacks, is widened.

    Raises
    ------
    TypeError
        Of complex numbers.
    """
    if tensor.is_complex():
        raise TypeError("a complex tensor: the gradient of a complex number has no one norm that a picture could show")
    tensor = tensor.detach().cpu()
    tensor = tensor.to_dense() if tensor.is_sparse else tensor
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array.copy()
