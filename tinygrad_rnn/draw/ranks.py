"""A layout of our own, for a machine that no engine has a build for, or a browser's Python: plain, but always there.

After this file the reader knows the four steps by which layered graphs are drawn (Sugiyama, Tagawa and Toda, 1981):
ranks by longest path, virtual nodes where an edge crosses a rank, order by barycentre, heights near the neighbours'.
The engine does each of them better; the pictures of this one are taller, and their edges cross more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from .geometry import Point, Rect, join, line, sweep, union
from .sheet import num
from .svg import Dot, read

_Edge = tuple[str, str, int, float]


def place(source: str) -> dict[str, Any]:
    """Where the nodes and edges of a graph may stand, told as `engine.layout` tells it.

    Parameters
    ----------
    source : str
        DOT of a graph from left to right; node sizes, ``minlen``, ``weight``, ``rank`` and clusters count.

    Returns
    -------
    dict
        ``objects`` with a ``name`` and a ``pos`` (clusters: ``bb``), ``edges`` with an ``id`` and a ``pos``.
    """
    dot = read(source)
    size = {
        name: (72 * float(a.get("width", "0.5")), 72 * float(a.get("height", "0.5"))) for name, a in dot.nodes.items()
    }
    edges = [(s, t, int(a.get("minlen", "1")), float(a.get("weight", "1"))) for s, t, a in dot.edges]
    rank = _ranks(dot, edges)
    chains: list[list[str]] = []
    links: list[tuple[str, str, float]] = []
    for k, (s, t, _, weight) in enumerate(edges):
        chain = [s, *(f"virtual {k} {r}" for r in range(rank[s] + 1, rank[t])), t]
        for r, name in enumerate(chain[1:-1], rank[s] + 1):
            rank[name], size[name] = r, (0.0, 2.0)
        chains.append(chain)
        links += [(a, b, weight * (4 if len(chain) > 2 else 1)) for a, b in pairwise(chain)]
    gap = 72 * float(dot.attributes.get("nodesep", "0.25")), 72 * float(dot.attributes.get("ranksep", "0.5"))
    heights = _heights(rank, size, links, gap[0])
    columns: dict[int, float] = {}
    x = 0.0
    for r in range(max(rank.values(), default=0) + 1):
        width = max((size[name][0] for name in rank if rank[name] == r), default=0.0)
        columns[r] = x + width / 2
        x += width + gap[1]
    centres = {name: (columns[r], heights[name]) for name, r in rank.items()}
    objects: list[dict[str, str]] = [
        {"name": n, "pos": f"{num(centres[n][0])},{num(centres[n][1])}"} for n in dot.nodes
    ]
    objects += _boxes(dot, {n: Rect.around(centres[n], *size[n]) for n in dot.nodes})
    found = []
    for (_, _, attributes), chain in zip(dot.edges, chains, strict=True):
        points = _way(chain, centres, size)
        found.append({"id": attributes.get("id", ""), "pos": " ".join(f"{num(px)},{num(py)}" for px, py in points)})
    return {"objects": objects, "edges": found}


def _ranks(dot: Dot, edges: Iterable[_Edge]) -> dict[str, int]:
    """The column of every node: as far left as its operands allow, then as close to its consumers as they are."""
    joint = {name: name for name in dot.nodes}
    for group in dot.groups:
        if "rank" in group.attributes:
            joint |= dict.fromkeys(group.nodes, group.nodes[0])
    pairs = [(joint[s], joint[t], length) for s, t, length, _ in edges if joint[s] != joint[t]]
    rank = dict.fromkeys(joint.values(), 0)
    for _ in rank:  # as often as the longest path is long
        before = dict(rank)
        for s, t, length in pairs:
            rank[t] = max(rank[t], rank[s] + length)
        if before == rank:
            break
    fed = {t for _, t, _ in pairs}
    ends = {
        kind: [joint[g.nodes[0]] for g in dot.groups if g.attributes.get("rank") == kind] for kind in ("min", "max")
    }
    for name in rank:
        ahead = [rank[t] - length for s, t, length in pairs if s == name]
        if name not in fed and name not in ends["min"] and ahead:
            rank[name] = max(0, min(ahead))
    for name in ends["max"]:
        rank[name] = max(rank.values())
    return {name: rank[joint[name]] for name in dot.nodes}


def _heights(
    rank: Mapping[str, int], size: Mapping[str, Point], links: Iterable[tuple[str, str, float]], gap: float
) -> dict[str, float]:
    """The y of every node: each rank in turn is sorted, shifted towards its neighbours, and kept from overlapping."""
    near: dict[str, list[tuple[str, float]]] = {name: [] for name in rank}
    for a, b, weight in links:
        near[a].append((b, weight))
        near[b].append((a, weight))
    columns: dict[int, list[str]] = {}
    for name in rank:
        columns.setdefault(rank[name], []).append(name)
    y = {name: -40.0 * k for column in columns.values() for k, name in enumerate(column)}
    order = sorted(columns)
    for turn in range(12):
        for r in order if turn % 2 == 0 else order[::-1]:
            column, side = columns[r], -1 if turn % 2 == 0 else 1
            wish = {}
            for name in column:
                # Half of the turns look one way only, which untangles; the last ones both ways, which straightens.
                seen = [(y[n], w) for n, w in near[name] if turn > 7 or (rank[n] - r) * side > 0 or rank[n] == r]
                wish[name] = sum(v * w for v, w in seen) / sum(w for _, w in seen) if seen else y[name]
            if turn <= 9:
                column.sort(key=lambda name: -wish[name])
            last, drift = None, 0.0
            for name in column:
                y[name] = wish[name]
                if last is not None:
                    y[name] = min(y[name], y[last] - (size[last][1] + size[name][1]) / 2 - gap)
                last, drift = name, drift + wish[name] - y[name]
            for name in column:
                y[name] += drift / len(column)
    return y


def _boxes(dot: Dot, rects: Mapping[str, Rect]) -> list[dict[str, str]]:
    """The frames of the clusters, around what is in them, with room for their heads."""
    found: list[dict[str, str]] = []
    for group in (g for g in dot.groups if g.name.startswith("cluster")):
        inside, depth = [], 0
        for name, rect in rects.items():
            home, steps = dot.homes[name], 0
            while home is not group and home.parent is not None:
                home, steps = home.parent, steps + 1
            if home is group:
                inside.append(rect)
                depth = max(depth, steps)
        if inside:
            r = union(inside).grown(12.0 + 8.0 * depth)
            bb = ",".join(map(num, (r.left, r.bottom, r.right, r.top + 26.0 * (depth + 1))))
            found.append({"name": group.name, "bb": bb})
    return found


def _way(chain: list[str], centres: Mapping[str, Point], size: Mapping[str, Point]) -> list[Point]:
    """The curve of an edge through its virtual nodes, from border to border."""
    (x0, y0), (x1, y1) = centres[chain[0]], centres[chain[-1]]
    if x0 == x1:  # in one column
        sign = 1 if y1 < y0 else -1
        y0, y1 = y0 - sign * size[chain[0]][1] / 2, y1 + sign * size[chain[-1]][1] / 2
        return list(line((x0, y0), (x1, y1)))
    sign = 1 if x1 > x0 else -1
    stops = [(x0 + sign * size[chain[0]][0] / 2, y0), *(centres[name] for name in chain[1:-1])]
    stops.append((x1 - sign * size[chain[-1]][0] / 2, y1))
    return list(join(*(sweep(a, b) for a, b in pairwise(stops))))
