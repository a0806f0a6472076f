"""Long sequences: lines and rows tell every gradient, and steps that are left out change no number."""

import itertools
import math
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from touching import faults

import tinygrad_rnn as tg
from tinygrad_rnn.draw import draw, draw_side_by_side
from tinygrad_rnn.draw.geometry import samples
from tinygrad_rnn.draw.layout import arrange
from tinygrad_rnn.draw.long import class_of, rows_of, thinned
from tinygrad_rnn.draw.marks import Box, Group, Text, Way, marks_of
from tinygrad_rnn.draw.style import number
from tinygrad_rnn.draw.view import View, kept, level_for
from tinygrad_rnn.graph.steps import states
from tinygrad_rnn.norms import norm_of


def unrolled(kind="lstm", steps=12, loss="last", seed=0):
    rng = np.random.default_rng(seed)
    cell = {"lstm": tg.LSTMCell, "gru": tg.GRUCell, "rnn": tg.RNNCell}[kind](3, 4, rng=seed)
    outputs, state = tg.unroll(cell, rng.normal(size=(steps, 2, 3)))
    h = state[0] if kind == "lstm" else state
    return tg.gradient_graph(tg.sum(h * h) if loss == "last" else tg.mse_loss(outputs, rng.normal(size=outputs.shape)))


def seen(graph, **options):
    return View(**options).of([graph])[0]


def texts(picture):
    return [mark.text for mark in marks_of(picture.drawing.items) if isinstance(mark, Text)]


def chain(factor, steps, dtype=np.float64):
    """h ← factor · h, with scalar factors by step: a network whose gradients are known by hand."""
    h = tg.Tensor(np.ones(1, dtype), requires_grad=True, name="h0")
    for t in range(1, steps + 1):
        with tg.scope(f"t={t}"):
            h = h * (factor(t) if callable(factor) else factor)
            h.name = "h"
    return tg.gradient_graph(tg.sum(h))


def bars(picture):
    """(state's rank, first step, colour) of every rectangle of the rows, from left to right."""
    groups = [g for g in picture.drawing.items if isinstance(g, Group) and g.name.startswith("row")]
    found = [(*map(int, g.name[3:].split("_")), g.marks[0], g.tip) for g in groups]
    return sorted(found, key=lambda bar: bar[:2])


# --- which steps, which level ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "fold", "steps", "expected"),
    [
        (20, "auto", None, range(1, 21)),
        (21, "auto", None, [1, 2, 20, 21]),
        (50, None, None, range(1, 51)),
        (5, 1, None, [1, 5]),
        (4, 2, None, range(1, 5)),
        (50, "auto", (1, 2, 49, 50), [1, 2, 49, 50]),
        (9, "auto", (5,), [5]),
    ],
)
def test_which_steps_are_drawn(count, fold, steps, expected):
    assert kept(range(1, count + 1), fold, steps) == set(expected)


def test_levels_chosen():
    assert level_for(unrolled("rnn", 20)) == level_for(unrolled("lstm", 20)) == "gate"
    assert level_for(unrolled("rnn", 21)) == level_for(unrolled("lstm", 21)) == "step"
    graph = unrolled("lstm", 3)
    assert draw(graph).dot == draw(graph, level="gate").dot != draw(graph, level="op").dot
    collapsed = graph.collapse("step")
    assert draw(collapsed).dot == draw(collapsed, level="op").dot  # as it is


@pytest.mark.parametrize(
    ("steps", "cells", "chart"), [(5, True, False), (6, True, True), (20, True, True), (21, False, True)]
)
def test_from_six_steps_on_there_are_lines_and_up_to_twenty_small_cells(steps, cells, chart):
    graph = unrolled("lstm", steps)
    picture = draw(graph)
    assert bool(bars(picture)) == chart
    panels = [m for m in picture.drawing.items if isinstance(m, Box) and m.fill == "panel" and m.line == "frame"]
    assert len(panels) == steps * cells
    for chosen in ({"level": "gate"}, {"fold": None}, {"parameters": "none"}):
        assert not bars(draw(graph, **chosen))  # whoever asks for something is given the network


def test_two_graphs_are_drawn_at_one_level():
    rnn, lstm = View().of([unrolled("rnn", 3), unrolled("lstm", 3)])
    assert {bool(n.members) for n in lstm.nodes} == {False, True} and rnn.origin is not None


def test_misuse_is_named():
    graph = unrolled(steps=4)
    for options, words in (
        ({"steps": [1, 9]}, r"steps \[9\] .* 1 to 4"),
        ({"fold": -1}, "fold"),
        ({"fold": 0}, "fold"),
        ({"fold": True}, "fold"),
        ({"fold": "all"}, "fold"),
        ({"parameters": "twice"}, "parameters"),
        ({"level": 0}, "level"),
    ):
        with pytest.raises(ValueError, match=words):
            draw(graph, **options)
    with pytest.raises(ValueError, match="titles"):
        draw_side_by_side(graph, graph, titles=["one"])


# --- lines and rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "loss", "norm"), [("rnn", "last", "l2"), ("lstm", "all", "rms"), ("gru", "last", "max")]
)
@pytest.mark.parametrize("steps", [12, 40])
def test_every_step_has_the_colour_and_the_number_of_its_gradient(kind, loss, norm, steps):
    graph = unrolled(kind, steps, loss)
    picture = draw(graph, norm=norm)
    rows = rows_of({"": graph}, norm)
    lanes = states(graph)
    assert {row.name for row in rows} == set(lanes)
    for k, row in enumerate(rows):
        assert [size for _, size, _ in row.sizes] == [
            norm_of(lanes[row.name][t].gradient, norm) for t in range(1, steps + 1)
        ]
        starts = [(first, box.fill, tip) for rank, first, box, tip in bars(picture) if rank == k]
        for (first, fill, tip), after in itertools.zip_longest(starts, [s for s, *_ in starts[1:]]):
            run = row.sizes[first - 1 : (after or steps + 1) - 1]  # nothing is lost where neighbours are one rectangle
            assert {class_of(size, state, picture.scale) for _, size, state in run} == {fill}
            assert f"= {number(run[0][1])}" in tip and f"t = {first}" in tip
            assert len(run) == 1 or tip.splitlines()[0].endswith(f"… {number(run[-1][1])}")
        assert starts[0][0] == 1 and all(a[1] != b[1] for a, b in itertools.pairwise(starts))
        if steps <= 20:
            told = texts(picture)
            assert all(number(size) in told for _, size, _ in row.sizes)
        else:
            assert f"{number(row.sizes[0][1])} → {number(row.sizes[-1][1])}" in texts(picture)


@pytest.mark.parametrize("steps", [7, 20, 21, 64, 200])
def test_rows_lines_numbers_and_cells_have_a_step_at_one_place(steps):
    picture = draw(unrolled("gru", steps))
    marks = [mark for mark in picture.drawing.items if not isinstance(mark, Group)]
    rule = next(mark.curve for mark in marks if isinstance(mark, Way) and mark.style.color == "frame")
    left, right = rule[0][0], rule[-1][0]
    panels = [m.rect for m in marks if isinstance(m, Box) and (m.fill, m.line) == ("panel", "frame")]
    cells = sorted((rect.left + rect.right) / 2 for rect in panels)
    assert len(cells) == (steps if steps <= 20 else 0)
    wide = min(b - a for a, b in itertools.pairwise(cells)) if cells else (right - left) / steps
    place = dict(enumerate(cells or (left + (k + 0.5) * wide for k in range(steps)), 1))
    words = [mark for mark in marks if isinstance(mark, Text)]
    height = next(word.at[1] for word in words if word.text == f"t = {steps}")
    axis = {int(word.text.removeprefix("t = ")): word.at[0] for word in words if word.at[1] == height}
    assert {1, steps} <= set(axis) and axis == pytest.approx({t: place[t] for t in axis})
    found = bars(picture)
    for (_, first, box, _), after in itertools.zip_longest(found, [first for _, first, *_ in found[1:]]):
        assert box.rect.left == pytest.approx(place[first] - wide / 2)
        gap = place[(after or steps + 1) - 1] + wide / 2 - box.rect.right  # where steps are few
        assert abs(gap) < 1.0
    groups = {item.name: item for item in picture.drawing.items if isinstance(item, Group)}
    curve = groups["linel0"].marks[0].curve
    assert (curve[0][0], curve[-1][0]) == pytest.approx((place[1], place[steps]))


def test_a_line_tells_where_float32_and_float16_end_and_the_rate():
    told = texts(draw(chain(0.5, 60)))
    assert {"h:  × 0.5 per step back", "24 steps back", "float32 eps 1.2e−7", "float16 zero 3.0e−8"} <= set(told)
    assert "float32 zero" not in " ".join(told) and "float32 zero 7.0e−46" in texts(draw(chain(0.1, 60)))
    assert "float16 max 6.6e4" in texts(draw(chain(2.0, 60)))


@pytest.mark.parametrize("steps", [18, 40])
def test_a_loss_that_reads_a_middle_step_has_its_rate_and_its_ring(steps):
    """Steps after it have exact zeros, which have no logarithm: they are left out, as everywhere."""
    outputs, _ = tg.unroll(tg.RNNCell(2, 4, rng=0), np.ones((steps, 1, 2)))
    graph = tg.gradient_graph(tg.sum(outputs[steps - 4]))
    told, lane = texts(draw(graph)), states(graph)["h"]
    assert f"h:  × {10 ** tg.gradient_through_time(graph)['h'].slope:.3g} per step back" in told
    back = [norm_of(lane[t].gradient) for t in range(steps - 3, 0, -1)]
    crossed = [f"{k} steps back" for k, size in enumerate(back) if size < 2.0**-23][:1]
    assert [text for text in told if text.endswith(" steps back")] == crossed and bool(crossed) == (steps == 40)


def test_a_folded_picture_tells_the_rate_of_what_it_leaves_out():
    graph = unrolled("lstm", 30)
    slopes = {name: tg.gradient_through_time(graph)[name].slope for name in "ch"}
    rates = [f"{name}:  × {10**slope:.3g} per step back" for name, slope in slopes.items()]
    assert f"gradient of {', '.join(rates)}" in texts(draw(graph, steps=[30]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_zero_infinite_and_exploding_steps_differ():
    looks = {}
    for what, factor, dtype in (
        ("finite", 0.5, float),
        ("zero", 0.0, float),
        ("lost", 1e-20, np.float32),
        ("exploding", 1e4, float),
        ("nan", np.nan, float),
    ):
        _, _, box, tip = bars(draw(chain(dtype(factor), 30, dtype)))[0]
        looks[what] = box.fill, box.line, tip.split("\n")[0].split(" = ")[1].split(" ")[0]
    assert looks["zero"][:2] == looks["lost"][:2] == ("panel", None)  # empty: but the text tells which
    assert looks["zero"][2] == "0" and looks["lost"][2] == "<1e−308" and looks["nan"][1:] == ("broken", "NaN")
    assert looks["exploding"][0].startswith("e") and looks["finite"][0].startswith("r")


@given(st.lists(st.floats(0.0, 500.0), min_size=1, max_size=60))
def test_what_is_left_out_of_a_line_lies_on_it(heights):
    points = [(float(k), y) for k, y in enumerate(heights)]
    few = thinned(points, 0.35)
    assert set(few) <= set(points) and few[0] == points[0] and few[-1] == points[-1]
    assert np.abs(np.interp(*np.transpose(points)[:1], *np.transpose(few)) - heights).max() < 0.7


def test_layers_directions_and_inputs_are_rows():
    net = tg.LSTM(3, 4, num_layers=2, bidirectional=True, rng=0)
    outputs, _ = net(np.random.default_rng(0).normal(size=(30, 1, 3)))
    picture = draw(tg.sum(outputs))
    order = [f"layer {k} {way} {name}" for k in (1, 0) for way in "→←" for name in "ch"]
    assert [text for text in texts(picture) if text in order] == order
    x = [tg.Tensor(np.ones((1, 3)), requires_grad=True) for _ in range(25)]
    h, cell = tg.Tensor(np.zeros((1, 4))), tg.RNNCell(3, 4, rng=0)
    for t, given_ in enumerate(x, 1):
        with tg.scope(f"t={t}"):
            used = given_ * 1.0
            used.name = "x"
            h = cell(used, h)
    rows = rows_of({"": tg.gradient_graph(tg.sum(h))}, "l2")
    assert [row.label for row in rows] == ["h", "x"] and len(rows[1].sizes) == 25


def test_side_by_side_is_one_chart_under_one_scale():
    rnn, lstm = unrolled("rnn"), unrolled("lstm")
    both = draw_side_by_side(rnn, lstm, titles=["RNN", "LSTM"])
    assert both.dot == draw({"RNN": rnn, "LSTM": lstm}).dot
    assert {"RNN h", "LSTM c", "LSTM h"} <= set(texts(both))


@pytest.mark.parametrize("steps", [20, 30])
def test_no_line_of_a_limit_runs_through_words(steps):
    outputs, _ = tg.unroll(tg.LSTMCell(2, 4, rng=0, forget_bias=-2.0), np.ones((steps, 1, 2)))
    marks = list(marks_of(draw(tg.sum(outputs[-1])).drawing.items))
    limits = [(m.curve[0][1], m.curve[-1][0]) for m in marks if isinstance(m, Way) and m.style.color == "broken"]
    words = [m for m in marks if isinstance(m, Text) and m.text.startswith("float")]
    assert len(limits) == len(words) >= 2
    assert [m.text for m in words for y, end in limits if m.rect.bottom < y < m.rect.top and m.rect.left < end] == []


@settings(max_examples=5)
@given(
    kind=st.sampled_from(["lstm", "gru", "rnn"]),
    steps=st.integers(6, 70),
    layers=st.integers(1, 3),
    both=st.booleans(),
    factor=st.sampled_from([0.01, 1.0, 4.0]),
    page=st.sampled_from([None, "slide", "notebook", (600, 400)]),
)
@example(kind="lstm", steps=20, layers=1, both=False, factor=1.0, page=(600, 400))
def test_nothing_touches(kind, steps, layers, both, factor, page):
    net = getattr(tg, kind.upper())(2, 4, num_layers=layers, bidirectional=both, rng=0)
    for name, weight in net.parameters().items():
        weight.data = weight.data * (factor if "hh" in name else 1.0)
    outputs, _ = net(np.random.default_rng(steps).normal(size=(steps, 1, 2)))
    with np.errstate(all="ignore"):
        assert faults(draw(tg.sum(outputs), title="A net", page=page).drawing) == []


@pytest.mark.parametrize(
    ("kind", "steps", "factor"), [("rnn", 60, 1.0), ("rnn", 100, 0.3), ("gru", 60, 0.3), ("rnn", 20, 0.3)]
)
def test_words_in_a_chart_stand_on_no_line(kind, steps, factor):
    """Neither on that of a limit, nor on one of the chart; and they interrupt that of a decade."""
    net = getattr(tg, kind.upper())(2, 4, rng=0)
    for name, weight in net.parameters().items():
        weight.data = weight.data * (factor if "hh" in name else 1.0)
    outputs, _ = net(np.random.default_rng(0).normal(size=(steps, 1, 2)))
    marks = list(marks_of(draw(tg.sum(outputs[-1])).drawing.items))
    words = [mark for mark in marks if isinstance(mark, Text)]
    clear = [mark.rect for mark in marks if isinstance(mark, Box) and mark.fill == "background"]
    lines = [point for mark in marks if isinstance(mark, Way) for point in samples(mark.curve, 2.0)]
    seen = [point for point in lines if not any(rect.holds(point) for rect in clear)]
    assert any(m.text.endswith("steps back") for m in words)
    assert not [m.text for m in words if any(m.rect.holds(point) for point in seen)]


@pytest.mark.parametrize("steps", [300, pytest.param(10_000, marks=pytest.mark.full)])
def test_thousands_of_steps_are_a_small_file(steps):
    text = draw(chain(lambda t: 0.97 + 0.06 * math.sin(t), steps)).svg()
    assert len(text) < 100_000 and f"t = {steps}" in text


# --- steps that are left out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["op", "gate", "step"])
@pytest.mark.parametrize("loss", ["last", "all"])
def test_gradient_into_and_out_of_what_is_left_out(level, loss):
    graph = unrolled("lstm", 12, loss)
    part = seen(graph, level=level, fold=2)
    for name in "hc":
        for t, last in ((2, False), (10, True)):
            tensor = states(graph)[name][t]
            edges = [e for e in part.edges if _of(e, part) is tensor.gradient and not e.internal]
            inside = {n.id for n in part.nodes if n.step == "t=11"}
            into = [e for e in edges if e.target in inside]
            direct = [e for e in graph.edges if e.source == tensor.id and graph.nodes[e.target].step == "t=11"]
            assert bool(into) == last == bool(direct)
            if last:
                total = sum(e.contribution for e in into)
                np.testing.assert_allclose(total, sum(e.contribution for e in direct), rtol=1e-12)
    assert {n.step for n in part.nodes if n.step} == {"t=1", "t=2", "t=11", "t=12"}


def _of(edge, graph):
    return (edge.tensor or graph.nodes[edge.source]).gradient


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("level", ["op", "gate", "step"])
def test_whole_cells_at_both_ends_and_what_comes_to_them_dashed(kind, level):
    graph = unrolled(kind, 30)
    scene = arrange(seen(graph, level=level, fold=2), width=1280)
    again = {p.look.big for p in scene.nodes if p.look.shape == "again"}
    assert again >= {"h₂₈"} | ({"c₂₈"} if kind == "lstm" else set())
    picture = draw(graph, level=level, fold=2)
    assert "26 steps between are left out; what comes from them is dashed" in texts(picture)
    assert faults(picture.drawing) == []


def test_what_an_index_drops_is_not_drawn_of_a_folded_picture_either():
    outputs, _ = tg.unroll(tg.RNNCell(2, 4, rng=0), np.ones((12, 1, 2)))
    for steps in (None, [1, 2, 12]):
        seen = draw(tg.sum(outputs[-1]), level="gate", steps=steps).sight
        assert all(e.state != "zero" for e in seen.edges if not seen.graphs[0].nodes[e.target].step)


# --- parameters, constants, size --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_parameters_per_step_once_or_not(kind):
    graph = unrolled(kind, 3)
    count = {}
    for choice in ("step", "once", "none"):
        count[choice] = texts(draw(graph, parameters=choice)).count("W_hh")
    assert count == {"step": 3, "once": 1, "none": 0}
    edges = [e for e in seen(graph, parameters="once").edges if seen(graph).nodes[e.source].name == "weight_hh"]
    assert len(edges) == 3


def test_constants_can_be_hidden():
    graph = unrolled("rnn", 2, "all")
    assert any(n.kind == "constant" and not n.name for n in graph.nodes)
    shown = texts(draw(graph, level="op", constants=False))
    assert "2×2×4" in texts(draw(graph, level="op")) and "2×2×4" not in shown
    assert "h₀" in shown  # it has a name


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
    monkeypatch.setattr(sys.modules["tinygrad_rnn.draw.sight"], "MAX_EDGES", 100)
    with pytest.raises(ValueError, match=r"limit: 100.*fold=3"):
        draw(unrolled("lstm", 12), level="op", fold=None)
    assert draw(unrolled("lstm", 12)).dot
