"""How a gradient looks: no two states alike, heads along the gradient, colours on a scale that is printed."""

import itertools
import math

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.draw import Scale, draw
from tinygrad_rnn.draw.marks import Box, Text
from tinygrad_rnn.draw.style import DARK, LIGHT, edge_style, number, scale_of

STATES = [
    (0.0, "zero"),
    (5e-324, "underflow"),
    (1e-310, "underflow"),
    (1e-12, "finite"),
    (1.0, "finite"),
    (1.1e3, "finite"),
    (1e5, "finite"),
    (math.inf, "inf"),
    (math.nan, "nan"),
    (None, "none"),
]


def luminance(colour):
    """Relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    """Contrast ratio of two colours (WCAG 2.2): 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def unrolled(kind="lstm", steps=3, loss="all", seed=0):
    """A gradient graph: `loss` "last" uses the last state only, "all" uses every output."""
    rng = np.random.default_rng(seed)
    cell = (tg.LSTMCell if kind == "lstm" else tg.RNNCell)(3, 4, rng=seed)
    outputs, state = tg.unroll(cell, rng.normal(size=(steps, 2, 3)))
    h = state[0] if kind == "lstm" else state
    return tg.gradient_graph(tg.sum(h * h) if loss == "last" else tg.mse_loss(outputs, rng.normal(size=outputs.shape)))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_state_looks_like_nothing_else(theme):
    styles = {pair: edge_style(*pair, Scale()) for pair in STATES}
    # Both underflows are the same thing; of explosions, the larger one is darker (on a dark page, lighter).
    shapes = {pair: (theme.colour(s.color), s.width, s.line, s.head, s.double) for pair, s in styles.items()}
    kinds = [0, 1, 3, 4, 5, 6, 7, 9]
    assert len({shapes[STATES[k]] for k in kinds}) == len(kinds)
    assert len({(*shapes[pair], s.label) for pair, s in styles.items()}) == len(STATES) - 1
    # Without any colour, by line, head, width and label alone.
    plain = {(s.line, s.head, s.bold, s.label[:1] if s.bold else "") for pair, s in styles.items()}
    assert len(plain) == 7
    assert styles[STATES[0]].head == "bar" and styles[STATES[9]].line == "dashed"
    assert styles[STATES[5]].label.startswith("▲") and styles[STATES[4]].label == "1.0"
    assert styles[STATES[8]].double and styles[STATES[8]].label == "NaN"
    against = [
        contrast(theme.colour(edge_style(m, "finite", Scale()).color), theme.colour("background"))
        for m in (2e3, 2e4, 9e4)
    ]
    assert 3.0 <= against[0] < against[1] < against[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_ramp_is_monotone_and_legible_on_page_and_panel(theme):
    colours = [theme.colour(f"r{k}") for k in range(24)]
    for background in (theme.colour("background"), theme.colour("panel")):
        against = [contrast(colour, background) for colour in colours]
        assert min(against) >= 3.0
        assert all(a < b for a, b in itertools.pairwise(against))
    assert (
        contrast(theme.colour("ink"), theme.colour("panel")) > 7
        and contrast(theme.colour("muted"), theme.colour("panel")) > 4.5
    )
    names = ["broken", "none", "positive", "negative", *(f"e{k}" for k in range(8)), *(f"r{k}" for k in range(24))]
    assert min(contrast(theme.colour(name), theme.colour("panel")) for name in names) >= 3.0


def oklab(colour):
    """Lightness, chroma and hue of ``#rrggbb`` in OKLCH (Ottosson, 2020)."""
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    lightness, a, b = lab @ np.cbrt(cones @ linear)
    return lightness, math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360


def test_oklab_knows_the_landmarks():
    assert oklab("#ffffff")[:2] == pytest.approx((1.0, 0.0), abs=1e-4)
    assert oklab("#ff0000") == pytest.approx((0.627955, 0.257683, 29.2339), rel=1e-4)  # Ottosson's value for sRGB red


@pytest.mark.parametrize(
    ("theme", "weak", "strong", "ends"),
    [(LIGHT, (0.63, 100), (0.26, 285), (0.60, 0.28)), (DARK, (0.54, 285), (0.93, 100), (0.58, 0.80))],
)
def test_colours_are_even_steps_of_lightness(theme, weak, strong, ends):
    for kind, count, first, last in (("r", 24, weak, strong), ("e", 8, (ends[0], 15), (ends[1], 22))):
        colours = [theme.colour(f"{kind}{k}") for k in range(count)]
        assert f"{kind}{count}" not in theme.colours
        found = np.array([oklab(colour) for colour in colours])
        assert found[:, 0] == pytest.approx(np.linspace(first[0], last[0], len(colours)), abs=0.004)
        assert found[:, 2] == pytest.approx(np.linspace(first[1], last[1], len(colours)), abs=4.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3.21e-5, "3.2e−5"),
        (0.00099, "9.9e−4"),
        (0.000996, "0.0010"),
        (0.0314, "0.031"),
        (0.099, "0.099"),
        (0.0999, "0.10"),
        (-0.0212, "−0.021"),
        (-3e-7, "−3.0e−7"),
        (0.996, "1.0"),
        (9.96, "10"),
        (123.4, "123"),
        (999.9, "1.0e3"),
        (4.04e5, "4.0e5"),
        (math.inf, "inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_scale():
    assert scale_of("fixed", []).decades == (-12.0, 0.0)
    assert scale_of((1e-6, 10), []) == Scale(1e-6, 10.0)
    # Whole decades, at least four, the strong end at least 1 and at most 1000.
    for sizes, ends in (
        ([], (-4, 0)),
        ([0.023, 1.0], (-4, 0)),
        ([3e-7, 0.02, 0.0], (-7, 0)),
        ([1e-200, 0.5], (-12, 0)),
        ([53.0, 1.0], (-2, 2)),
        ([1e9, 1e-3, math.inf], (-3, 3)),
    ):
        assert scale_of(None, sizes).decades == pytest.approx(ends)
    assert scale_of(None, [1e9]).exploding == 1e3
    assert Scale(1e-3, 1e6).exploding == 1e6
    assert [Scale().fraction(m) for m in (0.0, 1e-300, 1e-12, 1e-6, 1.0, 50.0)] == pytest.approx([0, 0, 0, 0.5, 1, 1])
    for wrong in ((1.0, 1.0), (0.0, 1.0), (1.0, math.inf), "log", (1, 2, 3)):
        with pytest.raises(ValueError, match="scale"):
            scale_of(wrong, [])


def test_colours_are_classes_and_the_red_ramp_ends_at_the_largest():
    scale = scale_of(None, [1e-4, 1e7])
    assert {scale.colour(10.0**k) for k in np.linspace(-4, 3, 500)} == {f"r{k}" for k in range(24)}
    assert [scale.colour(m) for m in (1e-9, 1e3, 1.01e3, 9.9e6, 1e7, 1e300)] == ["r0", "r23", "e0", "e7", "e7", "e7"]


def test_heads_point_the_way_the_gradient_flows():
    """A filled head stands at the operand and points to it; one that is not filled says that only data flow."""
    graph = unrolled("lstm", 2, "last")
    for heads in ("gradient", "data"):
        picture = draw(graph, heads=heads)
        ways = [(item.edge, item.marks[0]) for item in picture.drawing.items if getattr(item, "edge", None)]
        assert len(ways) > 20
        for edge, way in ways:
            kind = {"none": "open", "zero": "bar"}.get(edge.state, "back" if heads == "gradient" else "forward")
            assert way.style.head == kind
            tip = way.head()[1] if kind != "bar" else np.mean(way.head(), axis=0)
            at_operand = math.dist(tip, way.curve[0]) < math.dist(tip, way.curve[-1])
            assert at_operand is (kind in ("back", "bar"))
            assert math.dist(tip, way.curve[0 if at_operand else -1]) <= 3.5
        words = "the gradient flows this way" in picture.svg()
        assert words is (heads == "gradient")
    with pytest.raises(ValueError, match="heads"):
        draw(graph, heads="back")


@pytest.mark.parametrize("scale", [None, "fixed", (2e-3, 50.0), (1e-300, 1e2), (1.0, 2.0)])
def test_the_printed_scale_is_that_of_the_colours(scale):
    picture = draw(unrolled("rnn", 30, "last"), scale=scale)
    cells = [m.rect for m in picture.drawing.items if isinstance(m, Box) and (m.fill or "")[0] == "r"]
    left, right, below = cells[0].left, cells[-1].right, cells[0].bottom - 20.0
    ticks = [
        m for m in picture.drawing.items if isinstance(m, Text) and abs(m.at[1] - below) < 15 and m.text[0] in "0125"
    ]
    ticks = [(t.at[0], float(t.text.replace("−", "-"))) for t in ticks if left - 1 <= t.at[0] <= right + 1]
    at = {round((x - left) / (right - left), 2): value for x, value in ticks}
    assert (at[0.0], at[1.0]) == pytest.approx((picture.scale.lo, picture.scale.hi), rel=0.06)
    for x, value in ticks:
        assert picture.scale.fraction(value) == pytest.approx((x - left) / (right - left), abs=0.01)
    assert not [pair for pair in itertools.combinations(sorted(x for x, _ in ticks), 2) if pair[1] - pair[0] < 36]
