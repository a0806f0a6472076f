"""The same measurement on a graph that is there already: a loss of one's own, both directions, any Module.

After this file the reader knows what is lost against a chain of steps: the range ends where float64 ends (1e-308),
paths are not told apart, and h₀ is no part of it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ..functions import concatenate, sum
from ..graph.build import gradient_graph
from ..graph.model import GradientGraph, Node
from ..graph.steps import states, step_number
from ..nn.stacks import Stack
from ..tensor import GradientError, Tensor
from .chain import Array, log_norms, parts_of
from .measure import Key, Lane, Measured
from .report import GradientFlow, Setting


def flow_of_graph(source: Tensor | GradientGraph, when: str, setting: Setting | None = None) -> GradientFlow:
    """The report of a loss whose network is unrolled already, in scopes t=1, t=2, ...; `gradient_flow` comes here.

    Raises
    ------
    ValueError
        If there are no numbered steps, or nothing is handed from step to step.
    GradientError
        If a gradient is not finite, naming the step.
    """
    graph = source if isinstance(source, GradientGraph) else gradient_graph(source)
    graph = graph.origin or graph
    handed_on = states(graph)
    if not handed_on:
        raise ValueError("no time steps that hand on a state: unroll a cell, or open scopes t=1, t=2, ...")
    found: dict[Key, dict[int, Node]] = defaultdict(dict)
    unnamed = {node.id: name for name, lane in handed_on.items() for node in lane.values() if node.name is None}
    for node in graph.nodes:
        number, name = step_number(node.step or ""), node.name or unnamed.get(node.id)
        if number is not None and node.op is not None and name and node.gradient is not None:
            if not np.isfinite(node.gradient).all():
                raise GradientError(f"the gradient of {name} is not finite at step t={number}")
            found[_layer(node), name][number] = node
    last = max(number for lane in found.values() for number in lane)
    first = min(number for lane in found.values() for number in lane)
    lanes = {}
    for key, lane in sorted(found.items(), key=lambda item: (item[0][0], item[0][1] != "h")):
        lanes[key] = _lane(key, lane, range(first, last + 1), f"{key[1]} {key[0]}".strip() in handed_on)
    if setting is None:
        rows = next(iter(lanes.values())).logs.shape[1]
        setting = Setting("an unrolled graph", last - first + 1, rows, "L = yours", when)
    return GradientFlow(setting, Measured(lanes, {}, {}, None))


def _layer(node: Node) -> str:
    return next((part for part in node.scope.split("/") if part.startswith("layer ")), "")


def _lane(key: Key, lane: dict[int, Node], steps: range, state: bool) -> Lane:
    """Norms by lag; a layer that runs backwards begins at the other end."""
    order = steps if key[0].endswith("reverse") else reversed(steps)
    shape = next(iter(lane.values())).shape
    arrays = [np.zeros(shape) if t not in lane else np.asarray(lane[t].gradient, np.float64) for t in order]
    rows = [array if array.ndim > 1 else array.reshape(1, -1) for array in arrays]
    none = np.zeros(len(rows[0]), np.int64)
    logs, peaks = (np.array([log_norms(row, none, largest) for row in rows]) for largest in (False, True))
    return Lane(*key, logs, peaks, state)


def flow_of_module(
    module: Any, inputs: Any, loss: Any, *, direction: ArrayLike | None, rng: Any, when: str
) -> GradientFlow:
    """The report of a module that is no chain of steps: run it, and read the gradients off its graph.

    Raises
    ------
    ValueError
        If the loss is neither "last" nor "all" nor a function of what the module returns.
    """
    from .flow import describe, unit

    result = module(inputs)
    if callable(loss):
        value = loss(result)
    else:
        value = _along(_read(module, result, loss), direction, rng, unit)
    setting = Setting(repr(module), 0, 0, describe(loss), when)
    flow = flow_of_graph(value, when)
    first = next(iter(flow.lanes.values()))
    flow.setting = Setting(setting.model, len(first.logs), first.logs.shape[1], setting.loss, when)
    return flow


def _read(module: Any, result: Any, loss: Any) -> Tensor:
    """What the default losses read: of a stack in both directions, what each direction knows at its own end."""
    if loss not in ("last", "all"):
        raise ValueError(f"loss {loss!r} is neither 'last', 'all' nor a function of what the module returns")
    if isinstance(module, Stack):
        outputs, state = result
        if loss == "all":
            return cast(Tensor, outputs)
        h = parts_of(state)[0]
        ends: Tensor = concatenate([h[-2], h[-1]], axis=-1) if module.bidirectional else h[-1]
        return ends
    if not isinstance(result, Tensor):
        raise ValueError(f"{module!r} returns {type(result).__name__}: give loss=, a function of it to one number")
    return result[-1] if loss == "last" and result.ndim > 2 else result


def _along(read: Tensor, direction: Any, rng: Any, unit: Any) -> Tensor:
    v: Array = unit(direction, rng, read.shape[-1:])
    return cast(Tensor, sum(read * v))
