"""The fixed grid of the cells that everybody draws: RNN, LSTM (with and without forget gate) and GRU.

After this file the reader knows where everything of such a cell stands, and why it stands there at every step: memory
runs along the top, output along the bottom, the gates stand in the order in which they act, and what is used by several
gates is a bar as tall as they are, so that its edges are parallel. Only the gaps between them stretch.

Lengths are pixels of a slide of 1280 x 720, y downwards; `grid` turns them into points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..graph.model import GradientGraph
from ..graph.parts import Edge, Node, grouped
from ..graph.steps import step_number
from .geometry import Point, Rect
from .marks import Anchor

Key = tuple[str, str]
Way = tuple[list[Point], tuple[float, float, Anchor] | None]
"""The corners of an edge, and where its number stands."""


@dataclass(frozen=True)
class Plan:
    """A kind of cell: its nodes and edges by role, and where they are.

    `edges` are (from, to), a state of the step before as ``c-``. `places` and `ways` are asked for a step's left end,
    gap and gutter. `foot` is the height of what parameters and input belong to, `taps` where risers start.
    """

    roles: tuple[str, ...]
    edges: tuple[Key, ...]
    states: Mapping[str, float]
    least: float
    fixed: tuple[float, float]
    places: Callable[[float, float, float], dict[str, tuple[float, float, float, float]]]
    ways: Callable[[float, float, float, Mapping[str, float]], dict[Key, Way]]
    foot: float
    taps: Callable[[float, float, float], dict[str, list[float]]]
    spines: Callable[[float, float, float], list[Rect]] = field(default=lambda x, gap, gutter: [])

    def metrics(self, pitch: float) -> tuple[float, float]:
        """Gap and gutter of a cell as wide as `pitch`."""
        boxes, gaps = self.fixed
        gap = (pitch - boxes) / gaps
        return gap, gap


# --- LSTM -------------------------------------------------------------------------------------------------------------

TOP, FORGET, INPUT, PRODUCT, CANDIDATE, OUTPUT, FOOT = 146.0, 214.0, 268.0, 316.0, 364.0, 432.0, 474.0
GATES = {"f": FORGET, "i": INPUT, "g": CANDIDATE, "o": OUTPUT}


def _columns(x: float, gap: float, gutter: float) -> tuple[float, float, float]:
    """Of the LSTM: the spine, the gates, the states."""
    a = x + gutter / 2 + 5
    b = a + 5 + gap + 16
    return a, b, b + 16 + gap + 23


def _lstm_places(x: float, gap: float, gutter: float) -> dict[str, tuple[float, float, float, float]]:
    a, b, d = _columns(x, gap, gutter)
    gates = {name: (b, y, 33.0, 38.0) for name, y in GATES.items()}
    return gates | {
        "affine": (a + 35, FOOT, 80.0, 24.0),
        "f c": (b, TOP, 24.0, 24.0),
        "i g": (b, PRODUCT, 22.0, 22.0),
        "c": (d, TOP, 46.0, 40.0),
        "h": (d, OUTPUT, 46.0, 40.0),
        "tanh": (d + 7, (TOP + OUTPUT) / 2 + 20, 38.0, 24.0),
        "x": (a - 42, FOOT, 30.0, 24.0),
    }


def _lstm_ways(x: float, gap: float, gutter: float, before: Mapping[str, float]) -> dict[Key, Way]:
    a, b, d = _columns(x, gap, gutter)
    lane, tx, ty = d - 16, d + 7, (TOP + OUTPUT) / 2 + 20
    gates = {
        ("affine", name): ([(a + 5, y), (b - 16, y)], (a + 5 + gap / 2, y - 12, "middle")) for name, y in GATES.items()
    }
    return gates | {  # type: ignore[return-value]
        ("c-", "f c"): ([(before["c"], TOP), (b - 13, TOP)], (x + 1, TOP - 13, "middle")),
        ("c-", "c"): ([(before["c"], TOP), (d - 23, TOP)], (x + 1, TOP - 13, "middle")),
        ("h-", "affine"): ([(before["h"], OUTPUT), (a - 5, OUTPUT)], (x, OUTPUT - 13, "middle")),
        ("f c", "c"): ([(b + 13, TOP), (d - 23, TOP)], ((b + d - 10) / 2, TOP - 13, "middle")),
        ("f", "f c"): ([(b, FORGET - 19), (b, TOP + 13)], (b + 9, (FORGET + TOP) / 2 - 3, "start")),
        ("i", "i g"): ([(b, INPUT + 19), (b, PRODUCT - 11)], (b + 20, INPUT + 23, "start")),
        ("g", "i g"): ([(b, CANDIDATE - 19), (b, PRODUCT + 11)], (b + 20, CANDIDATE - 22, "start")),
        ("i g", "c"): ([(b + 11, PRODUCT), (lane, PRODUCT), (lane, TOP + 20)], (lane - 7, FORGET, "end")),
        ("o", "h"): ([(b + 16, OUTPUT), (d - 23, OUTPUT)], ((b + d - 7) / 2, OUTPUT - 12, "middle")),
        ("c", "tanh"): ([(tx, TOP + 20), (tx, ty - 12)], (tx + 8, TOP + 61, "start")),
        ("tanh", "h"): ([(tx, ty + 12), (tx, OUTPUT - 20)], (tx + 8, OUTPUT - 49, "start")),
        ("x", "affine"): ([(a - 27, FOOT), (a - 5, FOOT)], None),
    }


def _lstm_spine(x: float, gap: float, gutter: float, top: float = FORGET) -> list[Rect]:
    a, _, _ = _columns(x, gap, gutter)
    return [Rect(a - 5, top - 18, a + 5, FOOT - 11)]


def _lstm_taps(x: float, gap: float, gutter: float) -> dict[str, list[float]]:
    a, _, _ = _columns(x, gap, gutter)
    return {"affine": [a + 24 + 13 * k for k in range(4)]}


_LSTM_EDGES = (
    *(("affine", gate) for gate in GATES),
    *(("c-", "f c"), ("h-", "affine"), ("f", "f c"), ("f c", "c"), ("i", "i g"), ("g", "i g"), ("i g", "c")),
    *(("c", "tanh"), ("tanh", "h"), ("o", "h")),
)
LSTM = Plan(
    roles=("affine", "f", "i", "g", "o", "f c", "i g", "c", "tanh", "h"),
    edges=_LSTM_EDGES,
    states={"c": TOP, "h": OUTPUT},
    least=220.0,
    fixed=(88.0, 3.0),
    places=_lstm_places,
    ways=_lstm_ways,
    foot=FOOT,
    taps=_lstm_taps,
    spines=_lstm_spine,
)
LSTM_1997 = replace(
    LSTM,
    roles=tuple(role for role in LSTM.roles if role not in ("f", "f c")),
    edges=(*(edge for edge in _LSTM_EDGES if not {"f", "f c"} & set(edge)), ("c-", "c")),
    spines=lambda x, gap, gutter: _lstm_spine(x, gap, gutter, INPUT),
)

# --- GRU --------------------------------------------------------------------------------------------------------------

Z, R, N = 238.0, 318.0, 408.0


def _gru_columns(x: float, gap: float, gutter: float) -> tuple[float, float, float, float]:
    """The spines of h and of x, the gates, the state."""
    a = x + gutter / 2 + 5
    b = a + 29 + gap + 16
    return a, a + 24, b, b + 16 + gap + 23


def _gru_places(x: float, gap: float, gutter: float) -> dict[str, tuple[float, float, float, float]]:
    a, ax, b, d = _gru_columns(x, gap, gutter)
    one = d - 15
    gates = {name: (b, y, 33.0, 40.0) for name, y in (("z", Z), ("r", R), ("n", N))}
    return gates | {
        "linear h": (a, FOOT, 22.0, 24.0),
        "linear x": (ax, FOOT, 22.0, 24.0),
        "z h": (b, TOP, 24.0, 24.0),
        "1−z": (one, Z, 26.0, 26.0),
        "n z": (one, N, 24.0, 24.0),
        "h": (d, TOP, 46.0, 40.0),
        "x": (ax + 74, FOOT, 30.0, 24.0),
    }


def _gru_ways(x: float, gap: float, gutter: float, before: Mapping[str, float]) -> dict[Key, Way]:
    a, ax, b, d = _gru_columns(x, gap, gutter)
    one, up, elbow, left = d - 15, d + 13, max(x - 2, before["h"] + 8), ax + 5
    ways: dict[Key, Way] = {}
    for name, y in (("z", Z), ("r", R), ("n", N)):
        middle = (left + b - 16) / 2
        ways["linear h", name] = [(a + 5, y - 10), (b - 16, y - 10)], (middle, y - 22, "middle")
        ways["linear x", name] = [(left, y + 10), (b - 16, y + 10)], (middle, y + 22, "middle")
    return ways | {
        ("h-", "linear h"): ([(elbow, TOP), (elbow, 204), (a - 5, 204)], (elbow + 8, 191, "start")),
        ("h-", "z h"): ([(before["h"], TOP), (b - 13, TOP)], ((ax + b) / 2 - 10, TOP - 13, "middle")),
        ("z h", "h"): ([(b + 13, TOP), (d - 23, TOP)], ((b + d - 10) / 2, TOP - 13, "middle")),
        ("z", "z h"): ([(b, Z - 20), (b, TOP + 13)], (b + 9, (Z + TOP) / 2 - 3, "start")),
        ("z", "1−z"): ([(b + 16, Z), (one - 13, Z)], ((b + one + 3) / 2, Z - 12, "middle")),
        ("1−z", "n z"): ([(one, Z + 13), (one, N - 12)], (one - 7, (Z + N) / 2 - 25, "end")),
        ("r", "n"): ([(b, R + 20), (b, N - 20)], (b + 8, (R + N) / 2 + 9, "start")),
        ("n", "n z"): ([(b + 16, N), (one - 12, N)], ((b + one + 4) / 2, N - 12, "middle")),
        ("n z", "h"): ([(one + 12, N), (up, N), (up, TOP + 20)], (up + 4, N + 22, "end")),
        ("x", "linear x"): ([(ax + 59, FOOT), (ax + 11, FOOT)], None),
    }


def _gru_spines(x: float, gap: float, gutter: float) -> list[Rect]:
    a, ax, _, _ = _gru_columns(x, gap, gutter)
    return [Rect(a - 5, 200, a + 5, FOOT - 11), Rect(ax - 5, 212, ax + 5, FOOT - 11)]


def _gru_taps(x: float, gap: float, gutter: float) -> dict[str, list[float]]:
    a, ax, _, _ = _gru_columns(x, gap, gutter)
    return {"linear h": [a - 6, a + 6], "linear x": [ax - 6, ax + 6]}


GRU = Plan(
    roles=("linear x", "linear h", "z", "r", "n", "z h", "1−z", "n z", "h"),
    edges=(
        *((f"linear {of}", gate) for of in "xh" for gate in "zrn"),
        *(("h-", "linear h"), ("h-", "z h"), ("z", "z h"), ("z h", "h"), ("z", "1−z"), ("1−z", "n z"), ("r", "n")),
        *(("n", "n z"), ("n z", "h")),
    ),
    states={"h": TOP},
    least=220.0,
    fixed=(122.0, 3.0),
    places=_gru_places,
    ways=_gru_ways,
    foot=FOOT,
    taps=_gru_taps,
    spines=_gru_spines,
)

# --- RNN --------------------------------------------------------------------------------------------------------------

H, BELOW = 200.0, 200.0


def _rnn_places(x: float, gap: float, gutter: float) -> dict[str, tuple[float, float, float, float]]:
    a = x + gutter / 2 + 35
    return {"affine": (a, H, 70.0, 28.0), "h": (a + 58 + gap, H, 46.0, 40.0), "x": (a, H - 58, 30.0, 24.0)}


def _rnn_ways(x: float, gap: float, gutter: float, before: Mapping[str, float]) -> dict[Key, Way]:
    a = x + gutter / 2 + 35
    return {
        ("h-", "affine"): ([(before["h"], H), (a - 35, H)], (x + 1, H - 13, "middle")),
        ("affine", "h"): ([(a + 35, H), (a + 35 + gap, H)], (a + 36 + gap / 2, H - 13, "middle")),
        ("x", "affine"): ([(a, H - 46), (a, H - 14)], None),
    }


RNN = Plan(
    roles=("affine", "h"),
    edges=(("h-", "affine"), ("affine", "h")),
    states={"h": H},
    least=212.0,
    fixed=(116.0, 2.0),
    places=_rnn_places,
    ways=_rnn_ways,
    foot=H,
    taps=lambda x, gap, gutter: {"affine": [x + gutter / 2 + 35 + 13 * (k - 2) for k in range(4)]},
)

# --- which cell, and which node has which role ------------------------------------------------------------------------


@dataclass
class Step:
    """One time step: its nodes by role, its edges by the roles of their ends, and what is given to it."""

    number: int
    roles: dict[str, Node]
    edges: dict[Key, Edge] = field(default_factory=dict)
    parameters: list[tuple[str, Edge]] = field(default_factory=list)
    input: Edge | None = None


def read(graph: GradientGraph) -> tuple[Plan, list[Step], list[Edge]] | None:
    """The plan, the steps, and the edges after the last one; None if this is no such cell in its plainest form."""
    drawn = [edge for edge in graph.edges if not edge.internal]
    made = {edge.target for edge in drawn}
    numbers = {n.id: step_number(n.step) for n in graph.nodes if n.id in made and n.step and n.scope.startswith("t=")}
    if None in numbers.values() or not numbers or any(graph.nodes[id].step and id not in numbers for id in made):
        return None
    into = grouped(drawn, "target")
    steps: list[Step] = []
    plan: Plan | None = None
    for t in sorted({n for n in numbers.values() if n is not None}):
        nodes = [graph.nodes[id] for id, n in numbers.items() if n == t]
        roles = _roles(nodes, into)
        if roles is None or (plan is not None and set(roles) != set(plan.roles)):
            return None
        plan = plan or next((p for p in (LSTM, LSTM_1997, GRU, RNN) if set(p.roles) == set(roles)), None)
        if plan is None:
            return None
        steps.append(Step(t, roles))
    assert plan is not None
    for before, step in zip([None, *steps], steps, strict=False):
        if not _fill(step, before, plan, graph, into):
            return None
    tail = [edge for edge in drawn if edge.target not in numbers]
    return (plan, steps, tail) if _is_chain(tail, steps[-1].roles["h"].id, numbers, made) else None


def _roles(nodes: Sequence[Node], into: Mapping[int, list[Edge]]) -> dict[str, Node] | None:
    """The role of each node of a step, by its name or by what it is computed from; None if two have the same."""
    found: dict[str, Node] = {}
    names: dict[int, str] = {}
    for node in nodes:
        operands = {names.get(edge.source, "") for edge in into[node.id]}
        role = node.name or {"affine": "affine", "tanh": "tanh", "subtract": "1−z"}.get(node.op or "", "")
        if not node.name and node.op == "multiply":
            pairs = (("f", "f c"), ("i", "i g"), ("z", "z h"), ("n", "n z"))
            role = next((role for gate, role in pairs if gate in operands), "")
        elif not node.name and node.op == "linear":
            role = "linear h" if "linear x" in found else "linear x"
        if not role or role in found:
            return None
        found[role], names[node.id] = node, role
    return found


def _fill(step: Step, before: Step | None, plan: Plan, graph: GradientGraph, into: Mapping[int, list[Edge]]) -> bool:
    """Sort the edges into a step by role; False if one is not in the plan, or if one of the plan is missing."""
    names = {node.id: role for role, node in step.roles.items()}
    states = {before.roles[s].id: f"{s}-" for s in plan.states} if before is not None else {}
    feet = plan.taps(0.0, 1.0, 1.0)
    for role, node in step.roles.items():
        for edge in into[node.id]:
            source = graph.nodes[edge.source]
            origin = names.get(source.id) or states.get(source.id)
            if origin is None and source.id in into:
                return False
            if origin is None:
                state = next((s for s, to in plan.edges if to == role and s.endswith("-")), None)
                given = source.kind == "parameter" and role in feet and edge.operand != {"affine": 3}.get(role, 0)
                if given:
                    step.parameters.append((role, edge))
                    continue
                if role in feet and edge.operand == 0 and role != "linear h":
                    step.input = edge
                    continue
                if source.kind == "constant" and not source.name:
                    continue  # part of its operation's symbol
                if (before is not None and source.op is None) or state is None:  # or of a step that is left out
                    return False
                origin = state
            if (origin, role) in step.edges or (origin, role) not in plan.edges:
                return False
            step.edges[origin, role] = edge
    return set(step.edges) == set(plan.edges)


def _is_chain(tail: Sequence[Edge], last: int, numbers: Mapping[int, Any], made: set[int]) -> bool:
    """Whether what follows the last step is one operation after the other, each with at most two other operands."""
    targets = list(dict.fromkeys(edge.target for edge in tail))
    at = last
    for target in targets:
        inner = [edge.source for edge in tail if edge.target == target and edge.source in made]
        leaves = [edge for edge in tail if edge.target == target and edge.source not in made]
        if inner != [at] or len(leaves) > 2:
            return False
        at = target
    return bool(targets)
