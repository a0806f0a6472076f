"""The cells that everybody draws, RNN, LSTM (with and without forget gate) and GRU: where everything of them stands.

After this file the reader knows why it stands there at every step: memory runs along the top, output along the bottom,
the gates stand in the order in which they act, and what is used by several gates is a bar as tall as they are, so that
its edges are parallel. Only the gaps between them stretch.

Lengths are pixels of a slide of 1280 x 720, y downwards, x from a step's left end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from .geometry import Point
from .marks import Anchor

Key = tuple[str, str]
"""The roles of an edge's ends; a state of the step before is ``c-``, what is given to the step ``x``."""
Places = dict[str, tuple[float, float, float, float]]
"""Centre, width and height of each role."""
Ways = dict[Key, tuple[list[Point], tuple[float, float, Anchor] | None]]
"""The corners of each edge, and where its number stands."""


class Laid(NamedTuple):
    """A cell of some width: the gap in which numbers stand, and its places and ways."""

    gap: float
    places: Places
    ways: Ways


@dataclass(frozen=True)
class Plan:
    """A kind of cell.

    `laid` is asked for a width, with the right ends of the states before it, and `least` is the least width. `taps` are
    for what uses parameters the first riser, from its middle, and how far apart they are; `spines` for what has a bar
    where that stands, from its middle, and how high it goes.
    """

    laid: Callable[[float, Mapping[str, float]], Laid]
    least: float
    taps: Mapping[str, tuple[float, float]]
    spines: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @cached_property
    def narrow(self) -> Laid:
        """The narrowest such cell, for its roles, sizes and heights."""
        return self.laid(self.least, {"c": 0.0, "h": 0.0})


# --- LSTM -------------------------------------------------------------------------------------------------------------

TOP, FORGET, INPUT, PRODUCT, CANDIDATE, OUTPUT, FOOT = 146.0, 214.0, 268.0, 316.0, 364.0, 432.0, 474.0
GATES = {"f": FORGET, "i": INPUT, "g": CANDIDATE, "o": OUTPUT}


def _lstm(pitch: float, before: Mapping[str, float]) -> Laid:
    gap = (pitch - 88) / 3
    a = gap / 2 + 5  # columns: the spine, the gates, the states
    b = a + 5 + gap + 16
    d = b + 16 + gap + 23
    lane, tx, ty = d - 16, d + 7, (TOP + OUTPUT) / 2 + 20
    places: Places = {name: (b, y, 33.0, 38.0) for name, y in GATES.items()}
    places |= {
        "affine": (a + 35, FOOT, 80.0, 24.0),
        "f c": (b, TOP, 24.0, 24.0),
        "i g": (b, PRODUCT, 22.0, 22.0),
        "c": (d, TOP, 46.0, 40.0),
        "h": (d, OUTPUT, 46.0, 40.0),
        "tanh": (tx, ty, 38.0, 24.0),
        "x": (a - 42, FOOT, 30.0, 24.0),
    }
    ways: Ways = {
        ("affine", name): ([(a + 5, y), (b - 16, y)], (a + 5 + gap / 2, y - 12, "middle")) for name, y in GATES.items()
    }
    ways |= {
        ("c-", "f c"): ([(before["c"], TOP), (b - 13, TOP)], (1, TOP - 13, "middle")),
        ("h-", "affine"): ([(before["h"], OUTPUT), (a - 5, OUTPUT)], (0, OUTPUT - 13, "middle")),
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
    return Laid(gap, places, ways)


def _lstm_1997(pitch: float, before: Mapping[str, float]) -> Laid:
    """The same without a forget gate: the memory goes on as it is."""
    gap, places, ways = _lstm(pitch, before)
    straight = [(before["c"], TOP), (places["c"][0] - 23, TOP)]
    places = {role: place for role, place in places.items() if role not in ("f", "f c")}
    ways = {key: way for key, way in ways.items() if not {"f", "f c"} & set(key)}
    return Laid(gap, places, ways | {("c-", "c"): (straight, (1, TOP - 13, "middle"))})


LSTM = Plan(laid=_lstm, least=220.0, taps={"affine": (-11.0, 13.0)}, spines={"affine": (-35.0, FORGET - 18)})
LSTM_1997 = replace(LSTM, laid=_lstm_1997, spines={"affine": (-35.0, INPUT - 18)})

# --- GRU --------------------------------------------------------------------------------------------------------------

Z, R, N = 238.0, 318.0, 408.0


def _gru(pitch: float, before: Mapping[str, float]) -> Laid:
    gap = (pitch - 96) / 3
    a = gap / 2 - 3  # columns: the spines of h and of x, the gates, the state
    ax, b = a + 24, a + 29 + gap + 16
    d = b + 16 + gap + 23
    one, up, elbow = d - 15, d + 13, max(-2, before["h"] + 8)
    places: Places = {name: (b, y, 33.0, 40.0) for name, y in (("z", Z), ("r", R), ("n", N))}
    places |= {
        "linear h": (a, FOOT, 22.0, 24.0),
        "linear x": (ax, FOOT, 22.0, 24.0),
        "z h": (b, TOP, 24.0, 24.0),
        "1−z": (one, Z, 26.0, 26.0),
        "n z": (one, N, 24.0, 24.0),
        "h": (d, TOP, 46.0, 40.0),
        "x": (ax + 74, FOOT, 30.0, 24.0),
    }
    ways: Ways = {
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
    for name, y in (("z", Z), ("r", R), ("n", N)):
        middle = (ax + 5 + b - 16) / 2
        ways["linear h", name] = [(a + 5, y - 10), (b - 16, y - 10)], (middle, y - 22, "middle")
        ways["linear x", name] = [(ax + 5, y + 10), (b - 16, y + 10)], (middle, y + 22, "middle")
    return Laid(gap, places, ways)


GRU = Plan(
    laid=_gru,
    least=220.0,
    taps={"linear h": (-6.0, 12.0), "linear x": (-6.0, 12.0)},
    spines={"linear h": (0.0, 200.0), "linear x": (0.0, 212.0)},
)

# --- RNN --------------------------------------------------------------------------------------------------------------


def _rnn(pitch: float, before: Mapping[str, float]) -> Laid:
    gap = (pitch - 116) / 2
    a, y = gap / 2 + 35, 200.0
    places = {"affine": (a, y, 70.0, 28.0), "h": (a + 58 + gap, y, 46.0, 40.0), "x": (a, y - 58, 30.0, 24.0)}
    ways: Ways = {
        ("h-", "affine"): ([(before["h"], y), (a - 35, y)], (1, y - 13, "middle")),
        ("affine", "h"): ([(a + 35, y), (a + 35 + gap, y)], (a + 36 + gap / 2, y - 13, "middle")),
        ("x", "affine"): ([(a, y - 46), (a, y - 14)], None),
    }
    return Laid(gap, places, ways)


RNN = Plan(laid=_rnn, least=212.0, taps={"affine": (-26.0, 13.0)})
