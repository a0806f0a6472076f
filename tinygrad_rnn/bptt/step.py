"""One step of a cell, and the way back through it: traces turned into equations by the page of derivatives.

After this file the reader knows what derived BPTT derives from: the cell is traced for one step, with placeholders for
the input, the state and the parameters. The rules then run on the same placeholders, newest equation first, as the
engine's sweep runs them on arrays, and so write down the backward step. What a step adds to the gradient of a
parameter is marked as a sum over all steps (`total`).
"""

from __future__ import annotations

import copy
import inspect
import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np

from ..autodiff import unbroadcast
from ..scope import recorded, scope
from ..tensor import OPS, Tensor
from .text import REDUCTIONS, identifier
from .trace import Node, Trace, Tracer, naming

ACTIVATIONS = {"tanh", "sigmoid", "relu", "leaky_relu", "softplus"}
FUNCTIONS = {name for name, op in OPS.items() if not op.nary and len(op.rules) == 1}
FUNCTIONS -= {"getitem", "reshape", "transpose", "broadcast_to", "cast", "negative", "scatter", "square"}


@dataclass
class State:
    """One array of the recurrent state, as `leaf` before the step and `root` after it, and the cotangents of both.

    `carry` is the cotangent that comes in from the step after, `back` what goes on to the step before, `seed` what the
    loss gives to the last state; None where it is zero.
    """

    name: str
    leaf: Node
    root: Node
    carry: Node
    back: Node | None = None
    seed: Node | None = None
    array: str = ""  # the name of the array that holds it at all steps


@dataclass
class Step:
    """Everything that is known of one step: what the rewrites rewrite and the source is written from."""

    x: Node
    states: list[State]
    parameters: dict[str, Node]
    form: Any  # of the state, as `form_of` gives it
    gradients: dict[str, Node | None] = field(default_factory=dict)
    back_x: Node | None = None
    outputs: Node | None = None  # h at all steps, as the loss sees it
    last: list[Node] = field(default_factory=list)
    extras: list[Node] = field(default_factory=list)
    loss: Node | None = None
    back_outputs: Node | None = None
    traced: list[Node] = field(default_factory=list)  # every equation, in the order of the trace
    keep_dead: bool = True  # whether those that nothing needs are computed all the same

    def roots(self) -> list[Node]:
        """What the program must compute, in the order in which it does."""
        found = [*(self.traced if self.keep_dead else ()), *(s.root for s in self.states), self.loss, self.back_outputs]
        found += [s.seed for s in self.states] + [s.back for s in self.states]
        return [n for n in (*found, *self.gradients.values(), self.back_x) if n is not None]

    def replace(self, new: Mapping[Node, Node]) -> None:
        """Let every root be its replacement."""

        def get(node: Node | None) -> Any:
            return None if node is None else new.get(node, node)

        for s in self.states:
            s.root, s.back, s.seed = get(s.root), get(s.back), get(s.seed)
        self.gradients = {name: get(g) for name, g in self.gradients.items()}
        self.back_x, self.loss, self.back_outputs = get(self.back_x), get(self.loss), get(self.back_outputs)
        self.traced = [get(n) for n in self.traced]

    def order(self) -> list[Node]:
        """Every node that is needed, operands first, otherwise as traced."""
        roots = self.roots()
        needed = set(topological(roots))
        return topological([*(n for n in self.traced if n in needed), *roots])


def topological(roots: Iterable[Node], instead: Mapping[Node, Node] = MappingProxyType({})) -> list[Node]:
    """Every node that the roots need, operands first; before one that is replaced comes what stands instead."""
    order: dict[Node, None] = {}
    waiting = [(node, False) for node in reversed(list(roots))]
    while waiting:
        node, done = waiting.pop()
        if done:
            order.setdefault(node)
        elif node not in order:
            waiting.append((node, True))
            waiting += [(a, False) for a in reversed((instead[node],) if node in instead else node.args)]
    return list(order)


def users_of(order: list[Node]) -> dict[Node, list[Node]]:
    """Who needs each node."""
    found: dict[Node, list[Node]] = {node: [] for node in order}
    for node in order:
        for arg in node.args:
            found[arg].append(node)
    return found


def arrays_of(state: Any) -> list[Any]:
    """What a state is made of."""
    return [a for part in state for a in arrays_of(part)] if isinstance(state, (tuple, list)) else [state]


def form_of(state: Any) -> Any:
    """Tuples of a state, which may be made of tuples, without what they hold."""
    return tuple(map(form_of, state)) if isinstance(state, (tuple, list)) else None


def state_of(arrays: Iterable[Any], form: Any) -> Any:
    """The state of that form that is made of arrays."""
    rest = iter(arrays)

    def made(form: Any) -> Any:
        return next(rest) if form is None else tuple(map(made, form))

    return made(form)


def title(cell: Any) -> str:
    """The cell as it calls itself, on one line, or its class."""
    text = " ".join(repr(cell).split()).replace("\\", "/").replace('"', "'")
    return text if len(text) <= 60 and " object at 0x" not in text else f"a {type(cell).__name__}"


def unused(taken: set[str], name: str) -> str:
    """The name, as an identifier, or else name_2, name_3 ...: taken from now on."""
    name = identifier(name)
    free = name if name not in taken else next(n for k in count(2) if (n := f"{name}_{k}") not in taken)
    taken.add(free)
    return free


def cotangent_name(name: str) -> str:
    """dh, dz_f, d_weight_ih."""
    return name and (f"d{name}" if len(name.partition("_")[0]) <= 2 else f"d_{name}")


def trace_step(
    cell: Any, parameters: Mapping[str, Tensor], x: Any, state: Any, inputs_need: bool
) -> tuple[Step, Trace]:
    """Trace two steps of a copy of the cell; the second must be the first over again."""
    trace = Trace(title(cell), "is no attribute of the cell: make it one")
    leaves = {name: trace.leaf("parameter", p.numpy(), name, p.requires_grad) for name, p in parameters.items()}
    try:
        twin = copy.deepcopy(cell, {id(p): leaves[name] for name, p in parameters.items()})
    except Exception as error:
        trace.refuse(f"the cell cannot be copied ({type(error).__name__}: {error}), so that tracing could change it")
    before, drawn, segments = _contents(twin), _randomness(), []
    form, arrays = form_of(state), arrays_of(state)
    for t in (1, 2):
        start = len(trace.nodes)
        given = trace.leaf("input", x[min(t, len(x)) - 1], "x", inputs_need)
        old = [trace.leaf("state", a, needs=True) for a in arrays]
        with recorded(), naming(), scope(f"t={t}"):
            new = twin(given, state_of(old, form))
        news = arrays_of(new)
        if form_of(new) != form or isinstance(new, list):
            what = "one array" if form is None else f"a tuple of {len(form)}"
            trace.refuse(f"the state goes in as {what} and comes out in another form: {new!r}")
        roots = [trace.node_of(v) for v in news]
        for before_it, root in zip(old, roots, strict=True):
            if root.form != before_it.node.form:
                what = f"{root.dtype}{root.shape} from {before_it.dtype}{before_it.shape}"
                size = before_it.dtype.itemsize
                wider = (n.line for n in trace.nodes[start:] if n.dtype.kind == "f" and n.dtype.itemsize > size)
                trace.line = next(wider, root.line)
                trace.refuse(f"the state changes its form from step to step: {what}")
        segments.append(([given.node, *(o.node for o in old)], trace.nodes[start:], roots))
        arrays = [root.value for root in roots]
    _same_step(trace, *segments)
    if drawn != _randomness():  # two draws were equal by chance
        trace.line = next((n.line for n in trace.nodes if "random" in n.line), "") or _line_with("random", twin)
        trace.refuse("its step draws random numbers: draw them before, and pass them with the inputs")
    after = _contents(twin)
    for key in before.keys() | after.keys():
        if before.get(key) != after.get(key):
            trace.line = _line_with(key, twin)
            trace.refuse(f"the cell's {key} changes from step to step: put it into the state")
    first, nodes, roots = segments[0]
    trace.nodes = nodes
    states = [State("", leaf, root, leaf) for leaf, root in zip(first[1:], roots, strict=True)]
    step = Step(first[0], states, {name: leaf.node for name, leaf in leaves.items()}, form)
    _give_names(step, nodes)
    return step, trace


def _randomness() -> tuple[Any, ...]:
    """The state of the generators that any function can draw from."""
    return random.getstate(), static_key(np.random.get_state(legacy=True))  # noqa: NPY002


def _contents(value: Any, path: str = "", seen: dict[int, Any] | None = None) -> dict[str, Any]:
    """What a cell holds, by path, in a form that can be compared; tensors, tracers and None do not count."""
    seen = {} if seen is None else seen
    if isinstance(value, (int, float, str, bool, bytes, np.ndarray)):
        return {path: static_key(value)}
    if value is None or isinstance(value, (Tensor, Tracer)) or id(value) in seen:
        return {}
    seen[id(value)] = value
    if isinstance(value, np.random.Generator):
        return {path: repr(value.bit_generator.state)}
    if isinstance(value, Mapping):
        parts: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    elif hasattr(value, "__dict__") and not _is_code(value):
        parts = vars(value).items()
    else:
        return {path: id(value)}
    found: dict[str, Any] = {}
    for key, part in parts:
        found |= _contents(part, f"{path}.{key}".strip("."), seen)
    return found


def _line_with(attribute: str, cell: Any) -> str:
    """Where a cell's step speaks of an attribute, or else where the step begins."""
    call = cell if hasattr(cell, "__code__") else type(cell).__call__
    lines, first = inspect.getsourcelines(call)
    at = next((i for i, line in enumerate(lines) if f".{attribute.partition('.')[0]}" in line), 0)
    return f"{os.path.basename(inspect.getfile(call))}:{first + at}: {lines[at].strip()}"


def _is_code(value: Any) -> bool:
    return isinstance(value, (type, ModuleType)) or hasattr(value, "__code__") or hasattr(value, "__wrapped__")


def static_key(value: Any) -> Any:
    """A static parameter or a constant, in a form that can be compared and hashed."""
    if isinstance(value, (tuple, list)):
        return tuple([static_key(v) for v in value])
    if isinstance(value, dict):
        return tuple([(k, static_key(v)) for k, v in sorted(value.items())])
    if isinstance(value, slice):
        return "slice", value.start, value.stop, value.step
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    return type(value).__name__, value


def _same_step(trace: Trace, *segments: tuple[list[Node], list[Node], list[Node]]) -> None:
    """Refuse a cell whose second step is not the first over again."""
    signatures = []
    for leaves, nodes, roots in segments:
        known: dict[Node, Any] = {n: ("leaf", i) for i, n in enumerate(leaves)} | {n: i for i, n in enumerate(nodes)}

        def name_of(node: Node, known: dict[Node, Any] = known, nodes: list[Node] = nodes) -> Any:
            if node in known:
                return known[node]
            if node.op in ("constant", "number"):
                return node.op, static_key(node.value)
            if node.op == "parameter":
                return node.name
            trace.line = next((n.line for n in nodes if node in n.args), "the returned state")
            return trace.refuse("a value of an earlier step was kept and is used again: pass it on in the state")

        signature = [(n.op, static_key(n.static), *map(name_of, n.args), n.line) for n in nodes]
        signatures.append([*signature, ("returns", *map(name_of, roots), "the returned state")])
    one, two = signatures
    for a, b in zip(one, two, strict=False):
        if a != b:
            trace.line = b[-1]
            trace.refuse(f"the cell's second step is not its first over again ({a[0]}, then {b[0]})")
    if len(one) != len(two):
        trace.line = max(one, two, key=len)[min(len(one), len(two)) - 1][-1]
        trace.refuse("the cell's second step is not as long as its first")


def _give_names(step: Step, nodes: list[Node]) -> None:
    """Names a reader expects, each once: of the states, of what goes into a gate (z_f for f), tanh_c for tanh(c)."""
    taken = {step.x.name, "t", "T", "np", "loss", *step.parameters}
    roots = [s.root.name if s.root.op in OPS else "" for s in step.states]
    for i, (state, name) in enumerate(zip(step.states, roots, strict=True)):
        unique = name if roots.count(name) == 1 else ""
        given = unique or state.leaf.name  # "state" is what the argument of any cell is called
        state.name = state.leaf.name = unused(taken, given if given not in ("", "state") else f"s{i}" if i else "h")
        if state.root.op in OPS and state.root is not state.leaf:
            state.root.name = state.name
    named = {s.root for s in step.states}
    for node in nodes:
        if node.name and node not in named:
            node.name = unused(taken, node.name)
    readers = users_of(topological(nodes))
    for node in nodes:
        if node.op == "matmul" and not node.name and len(readers[node]) > 1:  # h @ W_hhᵀ is hW_hh
            a, W = (arg.args[0] if arg.op == "transpose" else arg for arg in node.args)
            node.name = unused(taken, a.name + W.name) if a.name and W.name and len(a.name + W.name) < 9 else ""
        if node.op in FUNCTIONS:
            arg = node.args[0]
            if arg.op in OPS and not arg.name and (node.name or node.op in ACTIVATIONS) and node.op not in REDUCTIONS:
                arg.name = unused(taken, f"z_{node.name}" if node.name not in ("", step.states[0].name) else "z")
            if not node.name and arg.name and arg.op in OPS:
                node.name = unused(taken, f"{node.op}_{arg.name}")


def sweep(trace: Trace, forward: list[Node], contributions: dict[Node, list[Tracer]]) -> dict[Node, Node]:
    """The cotangent of every node, by the rules: what the engine's sweep does, on tracers.

    What nodes of a single step contribute to any other node is summed over all steps (`total`).

    Parameters
    ----------
    trace : Trace
        To which the equations of the way back are appended.
    forward : list of Node
        What is walked, newest first.
    contributions : dict of Node to list of Tracer
        Cotangents to start from.
    """
    cotangents: dict[Node, Node] = {}

    def settle(node: Node) -> Tracer:
        first, *more = contributions[node]
        g: Tracer = sum(more, first)
        cotangents[node] = g.node
        if not g.name and g.node.op not in ("carry", "at_t"):
            g.name = cotangent_name(node.name)
        return g

    for node in sorted(reversed(forward), key=lambda n: not n.stepped):
        if not node.needs or node.op not in OPS or node not in contributions:
            continue
        g, trace.line = settle(node), node.line
        for i, arg in enumerate(node.operands):
            if arg.needs:
                part = _contribution(trace, g, node, i)
                if node.stepped and not arg.stepped:
                    part = trace.mark("total", part.node)
                contributions.setdefault(arg, []).append(part)
    trace.line = "?"
    for leaf in [n for n in contributions if n not in cotangents]:
        settle(leaf)
    trace.line = ""
    return cotangents


def _contribution(trace: Trace, g: Tracer, node: Node, i: int) -> Tracer:
    """What rule i of a node's primitive sends back to its operand, with broadcasting and casts undone."""
    operands = [a.value if a.op == "number" else Tracer(trace, a) for a in node.operands]
    static = node.static | {key: Tracer(trace, a) for key, a in node.traced.items()}
    try:
        result: Any = OPS[node.op].rules[i](g, Tracer(trace, node), *operands, **static)
        result = Tracer(trace, trace.node_of(result))
    except Exception as error:
        error.add_note(f"in the derivative of {node.op} with respect to operand {i}, at {node.line}")
        raise
    if result.shape != node.args[i].shape:
        result = unbroadcast(result, node.args[i].shape)
    if result.dtype != node.args[i].dtype:
        result = OPS["cast"](result, dtype=node.args[i].dtype)
    return Tracer(trace, trace.node_of(result))


def derive_step(step: Step, trace: Trace) -> None:
    """Append the way back through the step, and say which equation is which gradient."""
    forward = list(trace.nodes)
    seeds: dict[Node, list[Tracer]] = {}
    read = set(topological(s.root for s in step.states))
    for i, state in enumerate(step.states):
        ones = np.ones(state.leaf.shape, state.leaf.dtype)
        carry: Any = trace.leaf("carry", ones, cotangent_name(state.name))
        state.carry = carry.node
        zero = state.seed is None and state.leaf not in read  # from no later step, and none at the end
        if i == 0 and step.back_outputs is not None:
            of_loss = trace.mark("at_t", step.back_outputs, ones)
            carry = of_loss if zero else carry + of_loss
            carry.name = "d_outputs" if zero else cotangent_name(state.name)
        elif zero:
            continue
        if state.root.needs:
            g = carry if state.root.stepped else trace.mark("total", carry.node)
            seeds.setdefault(state.root, []).append(g)
    found = sweep(trace, forward, seeds)
    for state in step.states:
        state.back = found.get(state.leaf)
    step.gradients = {name: found.get(leaf) for name, leaf in step.parameters.items() if leaf.needs}
    step.back_x = found.get(step.x) if step.x.needs else None
    if step.back_x is not None and step.back_x.op in ("carry", "at_t"):  # the input is the next state: keep every one
        step.back_x = trace.mark("kept", step.back_x).node
        step.back_x.name = "dx"
    step.traced += trace.nodes
