"""The grammar of a cell: in which column and in which row of its block each operation stands.

After this file the reader knows why a cell of one's own looks like an LSTM: what is carried from step to step runs
straight through, memory along the top and output along the bottom; between them stand the gates in the order in which
they act; a product stands between its factors, in their column; what is given to a step stands below what uses it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .geometry import packed

Pair = tuple[int, int]
FAN = 3
"""From so many uses on, what is handed on leaves along a bar."""


@dataclass(frozen=True)
class Sentence:
    """A block as the grammar reads it: nodes by number, oldest first, each its operation and its name.

    `inner` are (source, target). `given` are leaves, each with those that use it; `quiet` tells which of them have no
    gradient. `out` hand on states, `fed` use parameters, which come from below.
    """

    nodes: tuple[tuple[str, str], ...]
    inner: tuple[Pair, ...]
    given: tuple[tuple[int, ...], ...] = ()
    quiet: frozenset[int] = frozenset()
    out: frozenset[int] = frozenset()
    fed: frozenset[int] = frozenset()


@dataclass
class Spots:
    """Column and row of each node, then of each leaf.

    `upright` are (source, target) that stand above each other, joined; those `beside` stand before their column.
    """

    at: list[Pair] = field(default_factory=list)
    upright: set[Pair] = field(default_factory=set)
    beside: set[int] = field(default_factory=set)


def parse(sentence: Sentence, carried: Collection[Pair] = ()) -> Spots:
    """Where everything of a block stands."""
    count = len(sentence.nodes)
    operands: dict[int, list[int]] = {n: [] for n in range(count)}
    users: dict[int, list[int]] = {n: [] for n in range(count)}
    # Groups may need each other, by a user's own scopes; what leads back to an earlier one places neither.
    forward = [pair for pair in sentence.inner if pair[0] < pair[1]]
    for source, target in forward:
        operands[target].append(source)
        users[source].append(target)
    times = Counter(forward)
    tracks = _tracks(count, users, carried) or [_main(count - 1, operands)]
    along = {pair for track in tracks for pair in pairwise(track)}
    states = {producer for producer, _ in carried}
    loose = {
        (s, t)
        for s, t in forward
        if times[s, t] == 1 and (s, t) not in along and len(users[s]) + (s in sentence.out) < FAN
        if sentence.nodes[t][0] == "multiply" or (len(operands[t]) == 1 and (s in states or len(users[s]) > 1))
    }
    while True:
        columns = _columns(count, operands, users, loose)
        upright = {(s, t) for s, t in loose if columns[s] == columns[t]}
        rows = _rows(columns, operands, users, tracks, upright)
        stands: dict[int, list[tuple[int, int]]] = {}
        for n in range(count):
            stands.setdefault(columns[n], []).append((rows[n], n))
        beside = {frozenset((a, b)) for column in stands.values() for (_, a), (_, b) in pairwise(sorted(column))}
        wrong = {pair for pair in upright if frozenset(pair) not in beside}
        if not wrong:
            break
        loose.discard(max(wrong))
    return _with_leaves(sentence, columns, rows, upright, tracks)


def _tracks(count: int, users: Mapping[int, list[int]], carried: Collection[Pair]) -> list[list[int]]:
    """The shortest way of each state through the block, the oldest state first: memory, and output last."""
    found: list[list[int]] = []
    taken: set[int] = set()
    for producer in sorted({p for p, _ in carried}):
        came: dict[int, int | None] = dict.fromkeys(sorted(t for p, t in carried if p == producer))
        queue = list(came)
        for node in queue:
            for user in users[node]:
                if user not in came:
                    came[user] = node
                    queue.append(user)
        way: list[int] = []
        step: int | None = producer if producer in came else None
        while step is not None:
            way.append(step)
            step = came[step]
        way = [node for node in way[::-1] if node not in taken] or ([producer] if producer not in taken else [])
        taken.update(way)
        found += [way] if way else []
    return found


def _main(last: int, operands: Mapping[int, list[int]]) -> list[int]:
    """Where no state is carried: from the first operand's first operand to the last node."""
    way = [last]
    while way[-1] >= 0 and operands[way[-1]]:
        way.append(operands[way[-1]][0])
    return way[::-1] if last >= 0 else []


def _columns(
    count: int, operands: Mapping[int, list[int]], users: Mapping[int, list[int]], loose: Collection[Pair]
) -> list[int]:
    """As far left as its operands allow; what has none, close to what uses it."""
    columns: list[int] = []
    for n in range(count):
        columns.append(max((columns[s] + ((s, n) not in loose) for s in operands[n]), default=0))
    for n in range(count):
        if not operands[n] and users[n]:
            columns[n] = max(0, min(columns[t] - ((n, t) not in loose) for t in users[n]))
    return columns


def _rows(
    columns: Sequence[int],
    operands: Mapping[int, list[int]],
    users: Mapping[int, list[int]],
    tracks: Sequence[Sequence[int]],
    upright: Collection[Pair],
) -> list[int]:
    """A row for each node: the first state's on top, the last state's below, between them what leads to them."""
    lane: dict[int, list[int]] = {}
    for track in map(list, tracks):
        lane |= {n: track for n in track}
    order = [n for track in (tracks[0], *tracks[:0:-1]) for n in _in_order(track, operands, lane)]
    seen = set(order)
    rest = [n for n in range(len(columns)) if n not in seen and not any(u not in seen for u in users[n])]
    above = [n for last in rest for n in _in_order([last], operands, seen)]
    above = list(dict.fromkeys([*above, *(n for n in range(len(columns)) if n not in seen)]))
    for n in range(len(columns)):  # each goes on in the row of an operand, if nothing else does
        if n not in lane:
            main = next(
                (
                    s
                    for s in operands[n]
                    if (s, n) not in upright
                    and s in lane
                    and lane[s][-1] == s
                    and columns[s] < columns[n]
                    and not any(s in track for track in tracks)
                ),
                None,
            )
            lane[n] = lane[main] if main is not None else []
            lane[n].append(n)
    ends = {*tracks[0], *tracks[-1]}
    top = _packed([lane[n] for n in above], columns)
    middle = _packed([lane[n] for n in order if n not in ends], columns)
    rows: dict[int, int] = {}
    height = 0
    for part in (top, [(0, tracks[0])], middle, [(0, tracks[-1])] if len(tracks) > 1 else []):
        for k, members in part:
            rows |= {n: height + k for n in members if n not in rows}
        height += 1 + max((k for k, _ in part), default=-1)
    return [rows[n] for n in range(len(columns))]


def _in_order(goals: Sequence[int], operands: Mapping[int, list[int]], known: Collection[int]) -> list[int]:
    """What leads to these, factors around their product, each once; what is `known` is not entered again."""
    found: list[int] = []
    opened: set[int] = set()
    waiting: list[tuple[bool, int]] = [(True, goal) for goal in goals[::-1]]
    while waiting:
        entering, n = waiting.pop()
        if not entering:
            found.append(n)
            continue
        if n in opened:
            continue
        opened.add(n)
        inside = [s for s in operands[n] if s not in opened and s not in known]
        first = inside[:1] if n not in goals else []
        waiting += [(True, s) for s in inside[: len(first) - 1 if first else None : -1]]
        waiting.append((False, n))
        waiting += [(True, s) for s in first]
    return found


def _packed(lanes: Sequence[Sequence[int]], columns: Sequence[int]) -> list[tuple[int, Sequence[int]]]:
    """A row for each lane, the first in which its columns are free."""
    unique = list({id(members): members for members in lanes}.values())
    spans = [(min(columns[n] for n in members), max(columns[n] for n in members)) for members in unique]
    return list(zip(packed(spans), unique, strict=True))


def _with_leaves(
    sentence: Sentence, columns: Sequence[int], rows: Sequence[int], upright: set[Pair], tracks: Sequence[Sequence[int]]
) -> Spots:
    """Leaves stand left of what uses them, or right below it."""
    taken = dict.fromkeys(zip(columns, rows, strict=True))
    tracked = {rows[track[0]] for track in tracks if track} if sentence.out else set()
    low = 1 + max(rows, default=-1)
    at: list[Pair] = list(zip(columns, rows, strict=True))
    beside, fronted = set[int](), set[int]()
    joined = {n for pair in upright for n in pair}
    for k, users in enumerate(sentence.given):
        user = min(users, key=lambda n: (columns[n], -rows[n])) if users else 0
        column, row = (columns[user], rows[user]) if users else (0, 0)
        below = (column, row + 1)
        between = any(c < column and r == row for c, r in taken)
        if len(users) == 1 and row == max(rows) and user not in fronted and k in sentence.quiet:
            spot = column, max(rows) + 1
            beside.add(len(columns) + k)
            fronted.add(user)
            at.append(spot)
            low = max(low, spot[1])
            continue
        if column and row not in tracked and (column - 1, row) not in taken and not between:
            spot = column - 1, row
        elif (
            len(users) == 1
            and below not in taken
            and user not in joined
            and user not in sentence.fed
            and row + 1 not in tracked
        ):
            spot = below
            upright.add((len(columns) + k, user))
            joined.add(user)
        else:
            spot = column - 1, max(low, row + 1)
        while spot in taken:
            spot = spot[0], spot[1] + 1
        low = max(low, spot[1])
        taken[spot] = None
        at.append(spot)
    shift = -min((c for c, _ in at), default=0)
    return Spots([(c + shift, r) for c, r in at], upright, beside)
