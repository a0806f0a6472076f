"""What flows back to an operand: one contribution at a time, or those of many uses of a weight together.

After this file the reader knows the two things that the sweep leaves to others. `contribute` asks a rule, and undoes
what the forward pass did silently. `Gathering` keeps the uses of weights: the gradient of a weight that is used at
every step is Σ gₜᵀ xₜ, and one product of two long matrices is faster than T short ones.
"""

from __future__ import annotations

from collections import defaultdict
from functools import reduce
from operator import add, is_, itemgetter
from typing import Any, cast

import numpy as np

from . import ops
from .primitive import as_rows, explain
from .tensor import GradientError, Tensor

MOST_GATHERED = 2**14
"""How many numbers the sweep gathers for an operand before it adds them up: some hundred rows, or as many as it has.

More make a matrix product no faster and keep memory."""


def contribute(rule: Any, inputs: tuple[Any, ...], node: Any, i: int, through: Any) -> Any:
    """What one edge carries to operand i of a node: what the rule says, in the operand's shape and dtype."""
    array, static = node._arrays[i], node._static
    try:
        contribution = rule(*inputs, **static) if static else rule(*inputs)
        if contribution.shape != array.shape or contribution.dtype is not array.dtype:
            contribution = fit(contribution, array, node._op, i)
    except Exception as error:
        error.add_note(f"in the derivative with respect to operand {i}")
        explain(error, node._op, node._arrays, node.scope)
        raise
    return contribution if through is None else through(node, i, contribution)


def fit(contribution: Any, array: Any, op: Any, i: int) -> Any:
    """Undo what the forward pass did silently, broadcasting and mixing dtypes; anything else is a wrong rule."""
    dtype = getattr(contribution, "dtype", None)
    if getattr(dtype, "kind", "") != "f":
        returned = type(contribution).__name__ if dtype is None else f"numbers of dtype {dtype}"
        raise TypeError(f"the rule of {op.name} for operand {i} returned {returned}: it must return an array of floats")
    given, wanted = contribution.shape, array.shape
    if given != wanted:
        lead = len(given) - len(wanted)
        if contribution.size == array.size and [n for n in given if n != 1] == [n for n in wanted if n != 1]:
            contribution = contribution.reshape(wanted)  # nothing was repeated
        elif lead >= 0 and all([n in (1, m) for n, m in zip(wanted, given[lead:], strict=True)]):
            contribution = unbroadcast(contribution, wanted)
        else:
            remedy = "it must return that shape, or what broadcasting makes of it"
            message = f"the rule of {op.name} for operand {i} returned shape {given} for an operand of shape {wanted}"
            raise GradientError(f"{message}: {remedy}")
    if dtype is not array.dtype:
        contribution = ops.cast(contribution, dtype=array.dtype)
    return contribution


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes along which an operand of this shape was repeated."""
    lead = g.ndim - len(shape)
    axes = (*range(lead), *[lead + i for i, n in enumerate(shape) if n == 1 and g.shape[lead + i] != 1])
    return g.sum(axis=axes).reshape(shape)


class Uses(list[Any]):
    """Calls of one primitive on the same weights, not yet differentiated: each ``(g, y, *operands), static, node``."""

    def rows(self, k: int, apart: bool = False) -> Any:
        """All rows of one of (g, y, *operands), or a stack of each use's; put together once for all weights."""
        together: dict[Any, Any] = vars(self)
        if (k, apart) not in together:
            rows = [as_rows(inputs[k]) for inputs, _, _ in self]
            together[k, apart] = np.array(rows) if apart else np.concatenate(rows) if len(rows) > 1 else rows[0]
        return together[k, apart]


class Gathering:
    """The uses of weights in one sweep, kept until their contributions can be computed together.

    Parameters
    ----------
    on_path, cotangents
        The sweep's own: which tensors it walks, and what has arrived at them so far.
    through, create_graph, retain_graph
        As in `pullback`. A rule is not gathered where it cannot say what was asked: each contribution apart, for a
        hook, or a total that can be differentiated again.
    """

    def __init__(self, on_path: Any, cotangents: Any, through: Any, create_graph: bool, retain_graph: bool) -> None:
        self.on_path, self.cotangents, self.through = on_path, cotangents, through
        self.needed = "recorded" if create_graph else None if through is None else "each"
        self.allowed = through is None or (retain_graph and not create_graph)
        self.plans: dict[Any, Any] = {}  # by primitive, with the uses that are kept
        self.awaited: dict[Any, list[Any]] = defaultdict(list)  # those uses, by the weights that wait for them

    def plan(self, node: Any, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Any]:
        """How to compute what a node sends: rules, what they are given, operands that are not left for later."""
        op, operands = node._op, node._operands
        if op.nary:  # its operands are handed over once, and not once for each of them
            return op.rules.of(inputs, node._static), (), range(len(operands))
        now, weights_among, kept = self.plans.get(op) or self._begin(op)
        if weights_among is None:
            return op.rules, inputs, now
        g, weights = inputs[0], weights_among(operands)
        key = weights if self.through is None else (weights, g.shape)  # what is stacked has one shape
        uses = kept.get(key)
        if uses is None:
            uses = kept[key] = Uses()
            for i in op.gathers:
                self.awaited[operands[i]].append((kept, key, op, operands))
        uses.append((inputs, node._static, node))
        many = len(uses) * g.size
        if many >= MOST_GATHERED and many >= max([np.size(node._arrays[i]) for i in op.gathers]):
            self._add(kept.pop(key), op, operands)
        return op.rules, inputs, now

    def _begin(self, op: Any) -> Any:
        """For a primitive: the operands computed at once, what finds the others among all, and their uses."""
        n, plan = len(op.rules), cast(Any, None)
        if self.allowed and (not self.needed or all([getattr(op.rules[i], self.needed) for i in op.gathers])):
            plan = [i for i in range(n) if i not in op.gathers], itemgetter(*op.gathers), {}
        return self.plans.setdefault(op, plan or (range(n), None, {}))

    def settle(self, weight: Tensor) -> None:
        """Nothing older uses this weight: add what is still kept for it."""
        for kept, key, op, operands in self.awaited.pop(weight):
            self._add(kept.pop(key, ()), op, operands)

    def _add(self, uses: Any, op: Any, operands: Any) -> None:
        """Compute the contributions of uses, if any, and add them to what has arrived."""
        for i in op.gathers if uses else ():
            operand, array = operands[i], uses[0][0][2 + i]
            if operand in self.on_path:
                try:
                    if self.through is None:
                        total = fit(op.rules[i].total(uses), array, op, i)
                    else:
                        total = self._watched(uses, op, i, array)
                except Exception as error:
                    error.add_note(f"in the derivative of {op.name} with respect to operand {i}, uses: {len(uses)}")
                    raise
                known = self.cotangents
                known[operand] = known[operand] + total if operand in known else total

    def _watched(self, uses: Uses, op: Any, i: int, array: Any) -> Any:
        """The sum of the contributions of uses to operand i, each of which is shown to `through`."""
        most = max(1, 8 * MOST_GATHERED // max(1, array.size))
        if len(uses) > most:  # in blocks, since each contribution is as large as the operand
            blocks = (Uses(uses[k : k + most]) for k in range(0, len(uses), most))
            return reduce(add, (self._watched(block, op, i, array) for block in blocks))
        stack = op.rules[i].each(uses)
        if stack.shape[1:] != array.shape or stack.dtype is not array.dtype:
            stack = np.array([fit(contribution, array, op, i) for contribution in stack])
        shown = list(stack)
        passed = [self.through(use[2], i, contribution) for use, contribution in zip(uses, shown, strict=True)]
        return stack.sum(axis=0) if all(map(is_, shown, passed)) else reduce(add, passed)
