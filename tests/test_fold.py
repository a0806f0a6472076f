"""Long sequences: folded steps are exact, their strip tells every gradient, and the defaults choose what is legible."""

import itertools
import json
import sys

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.draw import Scale, draw, draw_side_by_side, engine
from tinygrad_rnn.draw.layout import arrange
from tinygrad_rnn.draw.marks import Text, marks_of
from tinygrad_rnn.draw.strip import LANE, Lane
from tinygrad_rnn.draw.style import LIGHT, number
from tinygrad_rnn.draw.view import View, folds, level_for
from tinygrad_rnn.graph.collapse import collapse
from tinygrad_rnn.graph.steps import states
from tinygrad_rnn.norms import norm_of


def unrolled(kind="lstm", steps=12, loss="last", seed=0):
    rng = np.random.default_rng(seed)
    cell = (tg.LSTMCell if kind == "lstm" else tg.RNNCell)(3, 4, rng=seed)
    outputs, state = tg.unroll(cell, rng.normal(size=(steps, 2, 3)))
    h = state[0] if kind == "lstm" else state
    return tg.gradient_graph(tg.sum(h * h) if loss == "last" else tg.mse_loss(outputs, rng.normal(size=outputs.shape)))


def seen(graph, **options):
    return View(**options).of([graph])[0]


def objects(picture):
    return json.loads(engine.run(picture.dot, "json", "-Kneato", "-n2"))["objects"]


def chain(factor, steps, dtype=np.float64):
    """h ← factor · h, with scalar factors by step: a network whose gradients are known by hand."""
    h = tg.Tensor(np.ones(1, dtype), requires_grad=True, name="h0")
    for t in range(1, steps + 1):
        with tg.scope(f"t={t}"):
            h = h * (factor(t) if callable(factor) else factor)
            h.name = "h"
    return tg.gradient_graph(tg.sum(h))


# --- which steps, which level ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "fold", "steps", "runs"),
    [
        (8, "auto", None, []),
        (9, "auto", None, [(4, 6)]),
        (50, "auto", None, [(4, 47)]),
        (50, None, None, []),
        (5, 1, None, [(2, 4)]),
        (5, 0, None, [(1, 5)]),
        (4, 2, None, []),
        (50, "auto", (1, 2, 49, 50), [(3, 48)]),
        (9, "auto", (5,), [(1, 4), (6, 9)]),
        (3, "auto", (1, 3), [(2, 2)]),
    ],
)
def test_which_steps_are_folded(count, fold, steps, runs):
    assert folds(range(1, count + 1), fold, steps) == runs


def test_levels_chosen():
    assert level_for(unrolled("rnn", 8)) == level_for(unrolled("lstm", 8)) == "gate"
    assert level_for(unrolled("rnn", 9)) == level_for(unrolled("lstm", 9)) == "step"
    graph = unrolled("lstm", 3)
    assert draw(graph).dot == draw(graph, level="gate").dot != draw(graph, level="op").dot
    collapsed = graph.collapse("step")
    assert draw(collapsed).dot == draw(collapsed, level="op").dot  # as it is


def test_two_graphs_are_drawn_at_one_level():
    rnn, lstm = View().of([unrolled("rnn", 3), unrolled("lstm", 3)])
    assert {bool(n.members) for n in lstm.nodes} == {False, True} and rnn.origin is not None
    levels = {n.scope.count("/") for n in View().of([unrolled("rnn", 3), unrolled("lstm", 9)])[0].nodes if n.members}
    assert levels == {0}


def test_misuse_is_named():
    graph = unrolled(steps=4)
    for options, words in (
        ({"steps": [1, 9]}, r"steps \[9\] .* 1 to 4"),
        ({"fold": -1}, "fold"),
        ({"fold": True}, "fold"),
        ({"fold": "all"}, "fold"),
        ({"parameters": "twice"}, "parameters"),
        ({"level": 0}, "level"),
    ):
        with pytest.raises(ValueError, match=words):
            draw(graph, **options)
    with pytest.raises(ValueError, match="titles"):
        draw_side_by_side(graph, graph, titles=["one"])


# --- the strip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
@pytest.mark.parametrize("loss", ["last", "all"])
@pytest.mark.parametrize("norm", ["l2", "rms", "max"])
def test_each_bar_tells_the_gradient_of_its_state(kind, loss, norm):
    graph = unrolled(kind, 12, loss)
    drawn = objects(draw(graph, norm=norm))
    told = {o["tooltip"] for o in drawn if o["name"].startswith("strip0_")}
    expected = set()
    for name, lane in states(graph).items():
        for t in range(4, 10):
            subscript = str(t).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
            expected.add(f"‖∂L/∂{name}{subscript}‖ = {number(norm_of(lane[t].gradient, norm))}")
    assert expected <= told and len(told - {" "}) == len(expected) == 6 * len(states(graph))


@pytest.mark.parametrize("level", ["op", "gate", "step"])
@pytest.mark.parametrize("loss", ["last", "all"])
def test_gradient_into_and_out_of_the_strip(level, loss):
    graph = unrolled("lstm", 12, loss)
    folded = seen(graph, level=level, fold=2)
    strip = next(n for n in folded.nodes if n.scope == "t=3..10")
    for t, ends in ((2, "target"), (10, "source")):
        for name in "hc":
            tensor = states(graph)[name][t]
            edges = [e for e in folded.edges if e.tensor is tensor and getattr(e, ends) == strip.id and not e.internal]
            direct = [e for e in graph.edges if e.source == tensor.id and graph.nodes[e.target].step == f"t={t + 1}"]
            assert len(edges) == 1
            np.testing.assert_allclose(edges[0].contribution, sum(e.contribution for e in direct), rtol=1e-12)


def test_what_folded_steps_send_to_the_loss_is_one_edge_of_all_tensors():
    graph = unrolled("rnn", 12, "all")
    folded = seen(graph)
    (edge,) = [e for e in folded.edges if "side by side" in e.formula]
    parts = [e for e in graph.edges if graph.nodes[e.target].op == "stack"][3:9]
    assert edge.norm == pytest.approx(np.sqrt(sum(e.norm**2 for e in parts)))
    assert edge.formula == "6 tensors side by side"


def test_factor_per_step_is_the_one_rate_of_decay():
    graph = chain(lambda t: [0.5, 0.125][t % 2], 21)
    (strip,) = arrange(seen(graph)).strips
    assert strip.lanes[0].factor == pytest.approx(0.25, rel=0.1)
    assert "× 0.25 per step back" in draw(chain(0.25, 21)).dot
    assert "per step back" not in draw(chain(lambda t: float(t != 10), 21)).dot  # a product with a zero has no mean


def test_bars_stand_on_the_scale():
    graph = chain(0.01, 9)  # 1e-6 at t = 6, to 1e-10 at t = 4
    picture = draw(graph, scale=(1e-12, 1.0))
    bars = {o["name"]: o for o in objects(picture) if o["name"].startswith("strip0_0_")}
    for t in (4, 5, 6):
        fraction = Scale().fraction(0.01 ** (9 - t))
        bar = bars[f"strip0_0_{t}"]
        assert float(bar["height"]) * 72 == pytest.approx(3.0 + (LANE - 3.0) * fraction, abs=0.1)
        assert bar["fillcolor"] == LIGHT.colour(Scale().colour(0.01 ** (9 - t)))
    (title,) = [o for o in objects(picture) if "3 steps folded" in o.get("label", "")]
    x = [float(bars[f"strip0_0_{t}"]["pos"].partition(",")[0]) for t in (4, 5, 6)]
    assert x[1] == float(title["pos"].partition(",")[0]) and x[2] - x[1] == pytest.approx(x[1] - x[0], abs=0.1)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_zero_underflow_infinite_and_exploding_bars_differ():
    looks = set()
    for factor, dtype in (
        (0.5, float),
        (0.0, float),
        (1e-20, np.float32),
        (1e300, float),
        (1e4, float),
        (np.nan, float),
    ):
        picture = draw(chain(dtype(factor), 9, dtype))
        bar = next(o for o in objects(picture) if o["name"] == "strip0_0_4")
        looks.add((bar["height"], bar.get("style"), bar.get("fillcolor"), bar.get("color")))
    # An infinity and a NaN are drawn alike: the tooltip tells which.
    assert len(looks) == 5


@pytest.mark.parametrize(("kind", "loss"), list(itertools.product(("rnn", "lstm"), ("last", "all"))))
@pytest.mark.parametrize("level", ["op", "gate", "step"])
def test_lanes_continue_the_tracks_and_nothing_overlaps(kind, loss, level):
    scene = arrange(seen(unrolled(kind, 12, loss), level=level, fold=2), width=9999)
    (strip,) = scene.strips
    assert [lane.name for lane in strip.lanes] == ["c", "h"][-len(strip.lanes) :]
    for lane in strip.lanes:
        (into,) = [e for e in scene.edges if e.head.endswith(f"n{strip.node.id}") and _is(e, lane, 2)]
        out = next(e for e in scene.edges if e.tail.endswith(f"n{strip.node.id}") and _is(e, lane, 10))
        assert into.curve[-1] == pytest.approx((strip.rect.left, lane.y), abs=0.01)
        assert out.curve[0] == pytest.approx((strip.rect.right, lane.y), abs=0.01)
        assert strip.rect.bottom < lane.y - LANE / 2 and lane.y + LANE / 2 < strip.rect.top
    boxes = [p.rect for p in scene.nodes]
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlap(pair[1]) > 1e-6]


def _is(placed, lane: Lane, t):
    tensor = placed.edge.tensor
    return tensor is not None and tensor.name == lane.name and tensor.step == f"t={t}"


def test_several_strips_and_unnamed_states():
    picture = draw(unrolled("lstm", 20), steps=[1, 10, 20])
    assert "t = 2 … 9, 8 steps folded" in picture.dot and "t = 11 … 19, 9 steps folded" in picture.dot
    h = tg.Tensor(np.ones(2), requires_grad=True)
    for t in range(1, 13):
        with tg.scope(f"t={t}"):
            h = tg.tanh(h * 0.5)
    assert "‖∂L/∂tanh#2₄‖" in draw(tg.sum(h)).dot
    assert "t = 1 … 12, 12 steps folded" in draw(unrolled("lstm", 12), fold=0).dot


@pytest.mark.parametrize(
    "steps", [100, pytest.param(300, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.full)]
)
def test_hundreds_of_steps(steps):
    graph = unrolled("lstm", steps)
    assert draw(graph).dot.count("‖∂L/∂c") > steps - 6
    nodes = arrange(seen(graph, level="step", fold=None)).nodes
    assert sum("_again" not in placed.id for placed in nodes) == steps + 3


# --- what is left out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_parameters_per_step_once_or_not(kind):
    graph = unrolled(kind, 3)
    count = {}
    for choice in ("step", "once", "none"):
        texts = [m.text for m in marks_of(draw(graph, parameters=choice).drawing.items) if isinstance(m, Text)]
        count[choice] = texts.count("W_hh")
    assert count == {"step": 3, "once": 1, "none": 0}
    edges = [e for e in seen(graph, parameters="once").edges if seen(graph).nodes[e.source].name == "weight_hh"]
    assert len(edges) == 3


def test_constants_can_be_hidden():
    graph = unrolled("rnn", 2, "all")
    assert any(n.kind == "constant" and not n.name for n in graph.nodes)
    shown = [o.get("label") for o in objects(draw(graph, level="op", constants=False))]
    assert "2×2×4" in [o.get("label") for o in objects(draw(graph, level="op"))] and "2×2×4" not in shown
    assert "h₀" in shown  # it has a name


def test_side_by_side_is_one_picture_under_one_scale():
    rnn, lstm = unrolled("rnn"), unrolled("lstm")
    both = draw_side_by_side(rnn, lstm, titles=["RNN", "LSTM"], scale=None)
    assert both.dot == draw({"RNN": rnn, "LSTM": lstm}, scale=None).dot
    assert draw_side_by_side(rnn, lstm, rnn).dot.count("steps folded") == 3


def test_collapse_of_a_fold_is_exact_for_every_tensor():
    graph = unrolled("lstm", 12, "all")
    sums = {}
    for edge in collapse(graph, "step", [(4, 9)]).edges:
        if edge.contribution is not None:
            sums[edge.tensor.id] = sums.get(edge.tensor.id, 0.0) + edge.contribution
    for node in graph.nodes:
        if node.gradient is not None and node.kind != "loss":
            np.testing.assert_allclose(sums[node.id], node.gradient, rtol=1e-12, atol=1e-15)


def test_too_large_graphs_are_refused_with_the_remedy(monkeypatch):
    total = x = tg.Tensor(1.0, requires_grad=True)
    for _ in range(800):
        total = total + x
    with pytest.raises(ValueError, match=r"limit: 1000.*tg\.scope"):
        draw(total, level="op")
    total = x
    with tg.scope("t=1"):
        for _ in range(800):
            total = total + x
    with pytest.raises(ValueError, match=r"limit: 1000.*level=\"step\""):
        draw(total, level="op")
    assert draw(total * 2.0, level=1).dot
    monkeypatch.setattr(sys.modules["tinygrad_rnn.draw.picture"], "MAX_EDGES", 100)
    with pytest.raises(ValueError, match=r"limit: 100.*fold=3"):
        draw(unrolled("lstm", 12), level="op", fold=None)
    assert draw(unrolled("lstm", 12)).dot
