"""One step of a cell, and the way back through it: traces turned into equations by the page of derivatives.

After this file the reader knows what derived BPTT derives from: the cell is traced for one step, with placeholders for
the input, the state and the parameters. The rules then run on the same placeholders, newest equation first, as the
engine's sweep runs them on arrays, and so write down the backward step. What a step adds to the gradient of a
parameter is marked as a sum over all steps (`total`).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any

import numpy as np

from ..files import printable
from ..gathering import unbroadcast
from ..nn.state import parts_of, state_of
from ..ops import ACTIVATIONS
from ..scope import recorded, scope
from ..symbolic.trace import Node, Trace, Tracer, naming
from ..symbolic.values import identifier, static_key
from ..tensor import OPS, Tensor
from .contents import Contents
from .text import REDUCTIONS

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
    kept: dict[str, tuple[Node | None, Node | None]] = field(default_factory=dict)  # values and cotangents of all steps
    keep_dead: bool = True  # whether those that nothing needs are computed all the same

    def roots(self) -> list[Node]:
        """What the program must compute, in the order in which it does."""
        found = [*(self.traced if self.keep_dead else ()), *(s.root for s in self.states), self.loss, self.back_outputs]
        found += [s.seed for s in self.states] + [s.back for s in self.states]
        found += [node for pair in self.kept.values() for node in pair]
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
        self.kept = {name: (get(value), get(g)) for name, (value, g) in self.kept.items()}

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


def form_of(state: Any) -> Any:
    """Tuples of a state, which may be named or made of tuples, without what they hold."""
    alone = any(part is state for part in parts_of(state))
    return None if alone else getattr(state, "_make", tuple)(map(form_of, state))


def title(cell: Any) -> str:
    """The cell as it calls itself, on one line, or its class."""
    text = " ".join(repr(cell).split())
    text = text if len(text) <= 60 and " at 0x" not in text else f"a {type(cell).__name__}"[:60]
    return printable(text).replace("\\", "/").replace('"', "'")


def unused(taken: set[str], name: str) -> str:
    """The name, or else name_2, name_3 ...: taken from now on."""
    name = identifier(name, "value")
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
    before, segments = Contents(twin), []
    form, arrays = form_of(state), list(parts_of(state))
    for t in (1, 2):
        start = len(trace.nodes)
        given = trace.leaf("input", x[min(t, len(x)) - 1], "x", inputs_need)
        old = [trace.leaf("state", a, needs=True) for a in arrays]
        with recorded(), naming(), scope(f"t={t}"):
            new = twin(given, state_of(old, form))
        trace.check()
        news = parts_of(new)
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
    before.refuse_change(trace, "the cell", "from step to step: put it into the state")
    first, nodes, roots = segments[0]
    trace.nodes = nodes
    states = [State("", leaf, root, leaf) for leaf, root in zip(first[1:], roots, strict=True)]
    step = Step(first[0], states, {name: leaf.node for name, leaf in leaves.items()}, form)
    _give_names(step, nodes)
    return step, trace


def _same_step(trace: Trace, *segments: tuple[list[Node], list[Node], list[Node]]) -> None:
    """Refuse a cell whose second step is not the first over again."""
    signatures = []
    for leaves, nodes, roots in segments:
        place: dict[Node, Any] = {n: i for i, n in enumerate([*leaves, *nodes])}
        for node in [*(a for n in nodes for a in n.args), *roots]:
            if node.op in ("constant", "number"):
                place[node] = node.op, static_key(node.value)
            elif node.op == "parameter":
                place[node] = id(node)
            elif node not in place:
                trace.line = next((n.line for n in nodes if node in n.args), "the returned state")
                trace.refuse("a value of an earlier step was kept and is used again: pass it on in the state")
        signature = [(n.op, static_key(n.static), *(place[a] for a in n.args), n.line) for n in nodes]
        signatures.append([*signature, ("return", *(place[r] for r in roots), "the returned state")])
    for one, two in zip(*signatures, strict=False):  # if one is longer, it does not return where the other does
        if one != two:
            trace.line = two[-1]
            trace.refuse(f"the cell's second step is not its first over again ({one[0]}, then {two[0]})")


def _give_names(step: Step, nodes: list[Node]) -> None:
    """Names a reader expects, each once: of the states, of what goes into a gate (z_f for f), tanh_c for tanh(c)."""
    taken = {step.x.name, "t", "T", "np", "loss", *(leaf.name for leaf in step.parameters.values())}
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


def derive_step(step: Step, trace: Trace, steps: Collection[str] | None = None) -> None:
    """Append the way back through the step, say which equation is which gradient, and keep states and values."""
    forward = list(trace.nodes)
    named = {node.name: node for node in forward if node.name and node.op in OPS and node.stepped}
    if unknown := sorted({*(steps or ())} - named.keys()):
        raise ValueError(printable(f"steps: no value is called {', '.join(unknown)}: there are {', '.join(named)}"))
    seeds: dict[Node, list[Tracer]] = {}
    handed: dict[str, Node | None] = {}  # what comes to a part of the state that is another part, or was
    others = {s.leaf for s in step.states}
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
            carry = None
        if state.root in others:
            handed[state.name] = None if carry is None else carry.node
        others.add(state.root)
        if carry is not None and state.root.needs:
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
    roots = {s.name: s.root for s in step.states}
    for name, node in {} if steps is None else (roots | {name: named[name] for name in steps}).items():
        value = None if name in roots else trace.mark("detach", node).node
        sent = handed[name] if name in handed else found.get(node)
        g = None if sent is None else trace.mark("kept", sent).node
        if g is not None:
            g.name = f"{cotangent_name(name)}_steps"
        step.kept[name] = value, g
    step.traced += trace.nodes
