"""Where NaN or infinity began: in the program, not in the number that was printed last.

After this file the reader knows that a loss of NaN is the end of a story: the graph remembers its beginning, the first
result that was not finite though all that went into it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autodiff import history, pullback
from ..tensor import Tensor


class Diverged(FloatingPointError):
    """Training stopped because something was NaN or infinite.

    Attributes
    ----------
    step : int
    op : str
        The primitive in which it began; "" if it began in a parameter or an input.
    scope : str
        Where that was: time step, layer, gate.
    history : History or None
        Of the run until then.
    """

    def __init__(self, step: int, place: str, op: str = "", scope: str = "", remedy: str = "") -> None:
        super().__init__(f"step {step}: {place}{f'; {remedy}' if remedy else ''}")
        self.step, self.op, self.scope = step, op, scope
        self.history: Any = None


def _finite(array: Any) -> bool:
    return bool(np.isfinite(array).all())


def _what(array: Any) -> str:
    return "NaN" if np.isnan(array).any() else "infinity"


def _at(scope: str) -> str:
    return f" at {scope}" if scope else ""


def origin(step: int, loss: Tensor, parameters: Mapping[str, Tensor]) -> Diverged:
    """Find where what is not finite began: on the way to the loss or, if all is finite there, on the way back."""
    return _forward_origin(step, loss, parameters) or _backward_origin(step, loss)


def _forward_origin(step: int, loss: Tensor, parameters: Mapping[str, Tensor]) -> Diverged | None:
    """In a parameter, in an input, or in an operation."""
    names = {id(tensor): name for name, tensor in parameters.items()}
    for node in history([loss]):  # oldest first, so that the first one found is the origin
        if _finite(node.data):
            continue
        if node.op is None:
            remedy = "the update before made it so: a smaller learning rate, or clip_norm"
            if step == 1:
                remedy = "it began so: look at what made the parameters, or at the file they came from"
            name = names.get(id(node), node.name or "a leaf")
            return Diverged(step, f"{_what(node.data)} in the parameter {name}", "", node.scope, remedy)
        for operand, array in zip(node.operands, node.arrays, strict=True):
            if not _finite(array):  # no gradient flows there, or it would have been found before
                name = (operand.name if operand is not None else None) or "a constant"
                place = f"{_what(array)} in {name}, an input of {node.op.name}{_at(node.scope)}"
                return Diverged(step, place, "", node.scope)
        shapes = ", ".join(str(np.shape(array)) for array in node.arrays)
        largest = max((float(np.abs(array).max(initial=0.0)) for array in map(np.asarray, node.arrays)), default=0.0)
        place = f"{_what(node.data)} began in {node.op.name}{_at(node.scope)}, of operands {shapes} up to {largest:.3g}"
        return Diverged(step, place, node.op.name, node.scope, "a smaller learning rate, or clip_norm")
    return None


def _backward_origin(step: int, loss: Tensor) -> Diverged:
    """At an edge of the sweep: the first operand's of the newest tensor's, in whichever order they are shown."""
    found: dict[tuple[int, int], tuple[Tensor, str]] = {}

    def through(node: Tensor, i: int, contribution: Any) -> Any:
        if not _finite(contribution):
            found[node.serial, -i] = node, _what(contribution)
        return contribution

    pullback({loss: np.ones_like(loss.data)}, through=through)
    if not found:
        return Diverged(step, "the gradients add up to more than there are numbers for", remedy="use float64")
    edge = max(found)
    node, what = found[edge]
    op = node.op.name if node.op is not None else ""
    place = f"the gradient became {what} in the derivative of {op}, operand {-edge[1]}{_at(node.scope)}"
    return Diverged(step, place, op, node.scope, "a smaller learning rate, other initial weights, or float64")
