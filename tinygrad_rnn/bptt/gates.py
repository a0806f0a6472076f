"""Rewrites for gates, which are slices of one array: one call where the cell makes one per gate.

After this file the reader knows why an expert's LSTM computes one tanh for all four gates, since
σ(z) = (1 + tanh(z / 2)) / 2, and why the cotangents of the gates stand side by side in one array.
"""

from __future__ import annotations

import numpy as np

from ..ops import is_basic
from ..symbolic.trace import Node, Part, computed
from ..symbolic.values import TInt, static_key
from .identities import joined
from .rewrites import beside, read_once, rebuild, remember, replace, terms_of, whole_sums
from .step import Step, topological, users_of
from .text import is_elementwise


def cut_of(index: tuple[object, ...], shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(axis, start, stop) of an index that takes a slice of one axis, and all of the others."""
    if not is_basic(index):
        return None
    if Ellipsis in index:
        k = index.index(Ellipsis)
        index = index[:k] + (slice(None),) * (len(shape) - len(index) + 1) + index[k + 1 :]
    cut = [axis for axis, item in enumerate(index) if not (isinstance(item, slice) and item == slice(None))]
    if len(index) > len(shape) or len(cut) != 1:
        return None
    item = index[cut[0]]
    if not isinstance(item, slice):
        return None
    start, stop, stride = item.indices(shape[cut[0]])
    return (cut[0], start, stop) if stride == 1 and stop > start else None


def row_of(index: tuple[object, ...], shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(axis, k) of an index that takes number k of one axis, and all of the others."""
    taken = [
        i for i, item in enumerate(index) if not (isinstance(item, slice) and item == slice(None)) and item is not ...
    ]
    if len(taken) != 1 or type(k := index[taken[0]]) is not int:
        return None
    axis = taken[0] + (len(shape) - len(index)) * (... in index[: taken[0]])
    return axis, k % shape[axis]


def tiles(step: Step) -> None:
    """Cotangents of slices that tile one array (gates) are joined, not each put among zeros and added."""
    once = read_once(step)
    sums = whole_sums(step, once)

    def rule(node: Node, old: Node, new: dict[Node, Node]) -> Node:
        if old not in sums:
            return node
        terms = [new[t] for t in terms_of(old, "add", once)]
        if any(t.op != "scatter" or any(type(n) is TInt for n in t.static["shape"]) for t in terms):
            return node
        rows = {row: t.args[0] for t in terms if (row := row_of(t.static["index"], node.shape))}
        axes = {axis for axis, _ in rows}  # W[0], W[1] ... are no slices, but all that there is of one axis
        if len(rows) == len(terms) and len(axes) == 1 and len(rows) == node.shape[min(axes)]:
            return computed("stack", tuple([rows[row] for row in sorted(rows)]), {"axis": min(axes)})
        parts: dict[tuple[int, int, int], Node] = {}
        for term in terms:
            where = cut_of(term.static["index"], term.static["shape"])
            if where is None:
                return node
            part = term.args[0]
            parts[where] = part if where not in parts else joined("add", parts[where], part)
        axis = next(iter(parts))[0]
        at, pieces = 0, []
        for where in sorted(parts):
            if where[0] != axis or where[1] < at:
                return node
            pieces += [_zeros(node, axis, where[1] - at)] if where[1] > at else []
            pieces.append(parts[where])
            at = where[2]
        pieces += [_zeros(node, axis, node.shape[axis] - at)] if at < node.shape[axis] else []
        return beside(pieces, axis)

    rebuild(step, rule)
    remember(step)


def _zeros(node: Node, axis: int, size: int) -> Node:
    shape = [size if i == axis else n for i, n in enumerate(node.shape)]
    return Node("constant", value=np.zeros(shape, node.dtype), name="zeros")


def _slice(node: Node) -> tuple[Node, int, int] | None:
    """(array, start, stop) if a node is a slice of the last axis of an array."""
    if node.op != "getitem":
        return None
    cut = cut_of(node.static["index"], node.args[0].shape)
    return (node.args[0], *cut[1:]) if cut and cut[0] == node.args[0].ndim - 1 else None


def take(node: Node, start: int, stop: int) -> Node:
    """The slice node[..., start:stop]."""
    if (start, stop) == (0, node.shape[-1]):
        return node
    if (cut := _slice(node)) is not None:  # a slice of a slice
        return take(cut[0], cut[1] + start, cut[1] + stop)
    return computed("getitem", (node,), {"index": (Ellipsis, slice(start, stop))})


Span = tuple[int, int, Node]
"""Where a slice starts and stops, and what is computed of it."""


def merge(step: Step) -> None:
    """Equal functions of adjacent slices of the same arrays are one function of one slice."""
    while _merge_once(step):
        pass


def _merge_once(step: Step) -> bool:
    """Merge all runs of adjacent slices that there are; false if there is none."""
    found: dict[object, list[Span]] = {}
    forward = set(topological(s.root for s in step.states))  # elsewhere a call is made once, not T times
    for node in (n for n in step.order() if n in forward and is_elementwise(n) and not n.keywords):
        spans = {cut[1:] for a in node.args if (cut := _slice(a))}
        key = [_in_common(a, node) for a in node.args]
        if len(spans) == 1 and None not in key:
            found.setdefault((node.op, static_key(node.static), *key), []).append((*spans.pop(), node))
    new: dict[Node, Node] = {}
    for same in found.values():
        for run in _runs(sorted(same, key=lambda span: span[:2])):
            start, _, first = run[0]
            args = [_of_all(run, k) for k in range(len(first.args))]
            whole = _named_after(computed(first.op, tuple(args), first.static), run)
            new |= {node: take(whole, a - start, b - start) for a, b, node in run}
    if new:
        replace(step, new)
    return bool(new)


def _in_common(arg: Node, node: Node) -> object:
    """What functions of slices that can be merged have in common of an operand; None if it stands in the way."""
    if (cut := _slice(arg)) is not None:
        return id(cut[0]) if cut[0].ndim == node.ndim else None
    if arg.op == "number":
        return static_key(arg.value)
    if arg.shape[-1:] in ((), (1,)):
        return id(arg)
    return "a vector of its own" if arg.known is Part.ONCE and arg.shape == node.shape[-1:] else None


def _of_all(run: list[Span], k: int) -> Node:
    """Operand k of functions of adjacent slices, for all of them."""
    (start, _, first), (_, stop, _) = run[0], run[-1]
    if (cut := _slice(first.args[k])) is not None:
        return take(cut[0], start, stop)
    alone = first.args[k].shape[-1:] in ((), (1,))
    return first.args[k] if alone else beside([node.args[k] for _, _, node in run], 0)


def _runs(spans: list[Span]) -> list[list[Span]]:
    """Spans that follow one another without a gap, two or more at a time."""
    runs: list[list[Span]] = []
    for span in spans:
        if runs and runs[-1][-1][1] == span[0]:
            runs[-1].append(span)
        else:
            runs.append([span])
    return [run for run in runs if len(run) > 1]


def _named_after(whole: Node, parts: list[Span]) -> Node:
    """A name of several: z_r and z_z are z_rz, i and o are io; what has longer names are gates."""
    names = [node.name for _, _, node in parts]
    head = "z_" if all(name.startswith("z_") for name in names) else ""
    short = [name.removeprefix(head) for name in names]
    whole.name = head + (together if len(together := "".join(short)) < 5 else "gates") if all(names) else ""
    whole.origins = tuple(origin for _, _, node in parts for origin in node.origins)
    return whole


def one_tanh(step: Step) -> None:
    """Gates that are σ or tanh of slices of one z need one tanh: σ(z) = (1 + tanh(z / 2)) / 2, and W / 2 gives z / 2.

    In the lower tail of σ this keeps absolute precision only, that of the sums that it enters.
    """
    order = step.order()
    readers = users_of(order)
    new: dict[Node, Node] = {}
    for z in order:
        gates = _gates(z, readers)
        if gates:
            whole = _bent(z, gates)
            new |= {gate: take(whole, a, b) for a, b, gate in gates}
    replace(step, new)
    rebuild(step, lambda node, old, made: take(node.args[0], *cut[1:]) if (cut := _slice(node)) else node)


def _gates(z: Node, readers: dict[Node, list[Node]]) -> list[Span]:
    """The gates made of a sum z, in order; none unless they are all that is made of it, and tile it."""
    cuts = [(_slice(part), part) for part in readers[z]]
    if z.op not in ("add", "matmul") or not z.stepped or not cuts or any(cut is None for cut, _ in cuts):
        return []
    gates = [(*cut[1:], gate) for cut, part in cuts if cut for gate in readers[part]]
    gates.sort(key=lambda gate: gate[0])
    functions = {gate.op for _, _, gate in gates}
    ends = [0, *(stop for _, stop, _ in gates)]
    tiled = [start for start, _, _ in gates] == ends[:-1] and ends[-1] == z.shape[-1]
    return gates if tiled and "sigmoid" in functions and functions <= {"sigmoid", "tanh"} else []


def _bent(z: Node, gates: list[Span]) -> Node:
    """All gates at once: tanh(z × scale) × scale + shift, where z × scale is had by scaling the weights."""
    halves = [(b - a, gate.op == "sigmoid") for a, b, gate in gates]
    scale = np.concatenate([np.full(n, 0.5 if half else 1.0, z.dtype) for n, half in halves])
    bent = joined("tanh", _scaled(z, Node("constant", value=scale, name="scale")))
    # As large as z: a vector that is stretched over the rows of a batch costs NumPy several times as much.
    scales = Node("constant", value=np.array(np.broadcast_to(scale, z.shape)), name="scales")
    shifts = Node("constant", value=np.where(scales.value < 1, scales.value, 0), name="shifts")
    return _named_after(joined("add", joined("multiply", bent, scales), shifts), gates)


def _scaled(z: Node, scale: Node) -> Node:
    """z times a vector, the vector moved into what z is the sum or the product of."""
    if z.op == "add" and z.known > Part.ONCE:
        scaled = joined("add", *(_scaled(a, scale) for a in z.args))
    elif z.op == "matmul" and z.args[1].ndim == 2 and z.args[1].known is Part.ONCE:
        scaled = joined("matmul", z.args[0], joined("multiply", z.args[1], scale))
    else:
        scaled = joined("multiply", z, scale)
    scaled.name, scaled.line, scaled.origins = z.name, z.line, z.origins
    return scaled
