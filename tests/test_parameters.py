"""Parameters drawn once: on rails below steps that look as if there were none, each use with its own number."""

import itertools
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.draw import draw, svg
from tinygrad_rnn.draw.geometry import Rect, samples
from tinygrad_rnn.draw.layout import arrange
from tinygrad_rnn.draw.style import number
from tinygrad_rnn.draw.template import LABEL
from tinygrad_rnn.draw.view import View
from tinygrad_rnn.graph.model import norm_of

CELLS = {"rnn": tg.RNNCell, "lstm": tg.LSTMCell, "gru": tg.GRUCell}


def unrolled(kind="lstm", steps=3, loss="last", grad=False):
    rng = np.random.default_rng(0)
    x = tg.Tensor(rng.normal(size=(steps, 2, 3)), requires_grad=grad, name="x")
    outputs, state = tg.unroll(CELLS[kind](3, 4, rng=0), x)
    h = state[0] if kind == "lstm" else state
    return tg.gradient_graph(tg.sum(h * h) if loss == "last" else tg.mse_loss(outputs, rng.normal(size=outputs.shape)))


def scenes(graph, **options):
    """The scene with parameters once, and the one without parameters."""
    once, none = (View(parameters=choice, **options).of([graph])[0] for choice in ("once", "none"))
    return arrange(once, copies=False), arrange(none)


def stubs(scene):
    rails = {rail.node.id for rail in scene.rails}
    return [edge for edge in scene.edges if edge.edge.source in rails]


def check_clear(scene):
    """No box or number touches another, no line runs through a number, no stub through a box."""
    boxes = {p.id: p.rect for p in scene.nodes}
    labels = [Rect.around(e.label, *LABEL) for e in scene.edges if e.edge.contribution is not None]
    assert not [p for p in itertools.combinations([*boxes.values(), *labels], 2) if p[0].overlap(p[1]) > 1e-6]
    for edge in scene.edges:
        if edge.edge.contribution is not None:
            x, y = np.array(samples(edge.curve, 2.0)).T
            for r in labels:
                assert not np.any((r.left + 1 < x) & (x < r.right - 1) & (r.bottom + 1 < y) & (y < r.top - 1))
    inside = {name: r.grown(-0.5) for name, r in boxes.items()}
    for edge in stubs(scene):
        points = samples(edge.curve, 2.0)
        assert {name for name, r in inside.items() if any(map(r.holds, points))} == set()
    for rail, label in itertools.product(scene.rails, labels):
        assert not (label.bottom < rail.y < label.top and label.left < rail.taps[-1])


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("loss", ["last", "all"])
@pytest.mark.parametrize("level", ["op", "gate"])
@pytest.mark.parametrize("steps", [1, 3])
def test_steps_are_those_without_parameters(kind, loss, level, steps):
    once, none = scenes(unrolled(kind, steps, loss), level=level)
    places = {p.id: p.centre for p in once.nodes}
    assert [f.rect for f in once.frames] == [f.rect for f in none.frames]
    assert all(places[p.id] == p.centre for p in none.nodes)
    assert [p.node.name for p in once.nodes if p.id not in {q.id for q in none.nodes}] == [
        rail.node.name for rail in once.rails
    ]
    rest = [e for e in once.edges if e not in stubs(once)]
    same = [(a.curve, a.label) == (b.curve, b.label) for a, b in zip(rest, none.edges, strict=True)]
    assert all(same) or loss == "all"  # what skips steps runs below the rails
    # Every step has the same stubs.
    starts = {}
    for stub in stubs(once):
        starts.setdefault(stub.edge.target, []).append((stub.edge.source, stub.curve, places[stub.head]))
    shapes = {}
    for found in starts.values():
        way = tuple((s, *(round(v, 6) for x, y in c for v in (x - at[0], y - at[1]))) for s, c, at in found)
        shapes.setdefault(found[0][0], set()).add(way)
    assert all(len(ways) == 1 for ways in shapes.values())


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
@pytest.mark.parametrize("loss", ["last", "all"])
@pytest.mark.parametrize("level", ["op", "gate"])
@pytest.mark.parametrize("steps", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_nothing_touches(kind, loss, level, steps):
    scene, _ = scenes(unrolled(kind, steps, loss), level=level)
    check_clear(scene)
    assert len(stubs(scene)) == 4 * steps


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_rails_pass_below_folded_steps(kind):
    graph = unrolled(kind, 12)
    scene, none = scenes(graph, level="op")
    check_clear(scene)
    (strip,) = scene.strips
    folded = [stub.edge for stub in stubs(scene) if stub.edge.target == strip.node.id]
    assert len(folded) == 4 and strip.rect == none.strips[0].rect
    assert len(stubs(scene)) == 4 * (6 + 1)
    # The one stub of the folded steps carries their sum.
    for node in (rail.node for rail in scene.rails):
        total = sum(stub.edge.contribution for stub in stubs(scene) if stub.edge.source == node.id)
        np.testing.assert_allclose(total, node.gradient, rtol=1e-12, atol=1e-15)


def test_rails_are_in_order_and_start_at_their_boxes():
    scene, _ = scenes(unrolled("lstm", 3))
    assert [rail.node.name for rail in scene.rails] == ["weight_ih", "bias_ih", "weight_hh", "bias_hh"]
    heights = [rail.y for rail in scene.rails]
    assert heights == sorted(heights, reverse=True) and heights[0] < scene.frames[0].rect.bottom
    boxes = {p.node.id: p.rect for p in scene.nodes}
    for rail in scene.rails:
        box = boxes[rail.node.id]
        assert box.right == pytest.approx(rail.start) and (box.top + box.bottom) / 2 == pytest.approx(rail.y)
        assert rail.start < scene.frames[0].rect.left and len(rail.taps) == 3
        uses = [stub for stub in stubs(scene) if stub.edge.source == rail.node.id]
        assert sorted(stub.curve[0] for stub in uses) == [(x, rail.y) for x in rail.taps]


@pytest.mark.parametrize("norm", ["l2", "rms", "max"])
def test_numbers_are_the_norms(norm):
    graph = unrolled("lstm", 3)
    drawn = svg.read(draw(graph, parameters="once", norm=norm, level="op").dot)
    found = Counter(
        (int(tail[1:]), int(head[1:].split("_")[0]), a.get("label", ""))
        for tail, head, a in drawn.edges
        if tail[1:].isdigit() and head[0] == "n" and graph.nodes[int(tail[1:])].kind == "parameter"
    )
    edges = [e for e in graph.edges if graph.nodes[e.source].kind == "parameter"]
    assert found == Counter((e.source, e.target, number(norm_of(e.contribution, norm))) for e in edges)
    assert len(edges) == 12


def test_a_box_that_is_fed_by_rails_only():
    graph = unrolled("lstm", 2, grad=True)  # x is a parameter here, and a slice of it all that a step gets
    scene, _ = scenes(graph, level="gate")
    check_clear(scene)
    assert {rail.node.name for rail in scene.rails} >= {"x", "weight_ih"}


def test_what_is_used_in_one_place_stays_there():
    w, v = (tg.Tensor(np.eye(2), requires_grad=True, name=name) for name in "wv")
    h = start = tg.Tensor(np.ones(2), requires_grad=True, name="h0")
    for t in (1, 2):
        with tg.scope(f"t={t}"):
            h = tg.tanh(h @ w)
            h.name = "h"
    scene = arrange(tg.gradient_graph(tg.sum(h @ v)), copies=False)
    assert [rail.node.name for rail in scene.rails] == ["w"]
    assert {start.name, "v", "w"} <= {p.node.name for p in scene.nodes if p.node.kind == "parameter"}
    assert len([p for p in scene.nodes if p.node.name in ("h0", "v", "w")]) == 3


def test_lines_of_steps_are_for_parameters_in_every_step():
    graph = unrolled("rnn", 8)
    assert draw(graph, parameters="once").dot == draw(graph, parameters="once", wrap=None).dot
    with pytest.raises(ValueError, match='parameters="step"'):
        draw(graph, parameters="once", wrap=3)
    assert draw(graph, parameters="once", level="step", wrap=3).dot  # nothing to be put on rails


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_rows_and_writers(theme):
    both = {"RNN": unrolled("rnn", 3), "LSTM": unrolled("lstm", 3)}
    picture = draw(both, parameters="once", theme=theme)
    own, other = (ElementTree.fromstring(text) for text in (svg.svg(picture.dot), picture.svg()))
    for root in (own, other):
        words = Counter("".join(e.itertext()).strip() for e in root.iter() if e.tag.endswith("}text"))
        assert words["W_hh"] == words["b_ih"] == 2
    assert "W_hh" in picture.html()
    assert picture.dot == draw(both, parameters="once", theme=theme).dot
