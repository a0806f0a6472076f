"""Stacks: each layer is drawn as if it were alone, in rows with the same columns; nothing is lost, nothing overlaps."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touching import faults

import tinygrad_rnn as tg
from tinygrad_rnn.draw import draw, gradient_through_time
from tinygrad_rnn.draw.cut import part_of_symbol
from tinygrad_rnn.draw.html import Sight, _backwards, _times
from tinygrad_rnn.draw.layout import arrange
from tinygrad_rnn.draw.marks import Text, marks_of
from tinygrad_rnn.draw.style import number
from tinygrad_rnn.draw.view import View
from tinygrad_rnn.graph.steps import rows_of, states
from tinygrad_rnn.nn import GRU, LSTM, RNN
from tinygrad_rnn.norms import norm_of

KINDS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


def stack(kind="lstm", steps=3, layers=2, both=False, loss="last", **options):
    rng = np.random.default_rng(0)
    net = KINDS[kind](3, 4, num_layers=layers, bidirectional=both, rng=0, **options)
    y, state = net(rng.normal(size=(steps, 2, 3)))
    if loss == "last":
        return tg.gradient_graph(tg.sum(y[-1] * y[-1]))
    if loss == "states":
        return tg.gradient_graph(sum(tg.sum(part * part) for part in (state if isinstance(state, tuple) else (state,))))
    return tg.gradient_graph(tg.mse_loss(y, rng.normal(size=y.shape)))


CASES = [
    ("lstm", 2, False, "all", "gate"),
    ("lstm", 1, True, "last", "op"),
    ("lstm", 2, True, "all", "step"),
    ("gru", 2, False, "last", "op"),
    ("gru", 3, False, "all", "step"),
    ("gru", 1, True, "last", "op"),
    ("rnn", 3, False, "all", "op"),
    ("rnn", 2, True, "last", "gate"),
    ("rnn", 2, True, "states", "op"),
    ("rnn", 2, True, "states", "step"),
]


@pytest.mark.parametrize(("kind", "layers", "both", "loss", "level"), CASES)
@pytest.mark.parametrize("steps", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_every_edge_is_drawn_once_and_nothing_overlaps(kind, layers, both, loss, level, steps):
    graph = stack(kind, steps, layers, both, loss)
    seen = View(level, fold=None).of([graph])[0]
    expected = Counter(
        (e.source, e.target, e.operand) for e in seen.edges if not e.internal and not part_of_symbol(e, seen.nodes)
    )
    assert Counter((p.edge.source, p.edge.target, p.edge.operand) for p in arrange(seen).edges) == expected
    for parameters in ("once", "step"):
        assert faults(draw(graph, level=level, fold=None, parameters=parameters).drawing) == []


STACKS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(sorted(KINDS)),
        "steps": st.integers(1, 5),
        "layers": st.integers(1, 3),
        "both": st.booleans(),
        "loss": st.sampled_from(["last", "states", "all"]),
    }
)
OPTIONS = st.fixed_dictionaries(
    {
        "level": st.sampled_from(["op", "gate", "step", 1, 2, 3]),
        "parameters": st.sampled_from(["auto", "once", "step", "none"]),
        "fold": st.sampled_from(["auto", 1, None]),
        "page": st.sampled_from([None, "slide", "notebook"]),
    }
)


@pytest.mark.parametrize(("kind", "layers", "loss"), [("rnn", 3, "last"), ("lstm", 2, "all"), ("gru", 2, "states")])
def test_boxes_of_parameters_stand_clear_of_what_runs_between_layers(kind, layers, loss):
    picture = draw(stack(kind, 2, layers, loss=loss), level=2, fold=None, parameters="step")
    assert faults(picture.drawing) == []
    rects = [placed.rect for _, scene in picture.sight.rows for placed in scene.nodes]
    assert not any(a.overlap(b) for a, b in combinations(rects, 2))


@pytest.mark.slow
@settings(max_examples=60)
@given(STACKS, OPTIONS)
def test_nothing_touches_in_any_stack(net, options):
    assert faults(draw(stack(**net), title="A title", **options).drawing) == []


@pytest.mark.parametrize("parameters", ["once", "step", "none"])
def test_parameters_of_a_stack(parameters):
    graph = stack("rnn", 3, 2, True, "last")
    seen = View("op", parameters=parameters).of([graph])[0]
    scene = arrange(seen, parameters=parameters)
    assert len(scene.edges) == sum(not edge.internal for edge in seen.edges)
    boxes = [p for p in scene.nodes if p.node.kind == "parameter"]
    assert len(boxes) == {"once": 16, "step": 48, "none": 0}[parameters]  # each layer has rows of its own
    if parameters == "once":
        assert {p.look.small for p in boxes} == {
            number(norm_of(n.gradient)) for n in graph.nodes if n.kind == "parameter"
        }


def test_layers_are_rows_from_below_and_the_reverse_runs_from_right_to_left():
    graph = stack("lstm", 4, 2, True)
    rows = rows_of(graph)
    names = ("layer 0", "layer 0 reverse", "", "layer 1", "layer 1 reverse", "")
    assert rows.names == names and rows.backwards == (False, True, False, False, True, False)
    scene = arrange(View("step").of([graph])[0], width=9999)
    place = {(p.node.scope.split("/")[0], p.node.step): p.centre for p in scene.nodes if p.node.members}
    layers = [name for name in names if name]
    for t in range(1, 5):  # a step is a column, the layers lie above each other
        assert len({round(place[layer, f"t={t}"][0], 6) for layer in layers}) == 1
        heights = [place[layer, f"t={t}"][1] for layer in layers]
        assert heights == sorted(heights)
    for layer in layers:
        assert [place[layer, f"t={t}"][0] for t in range(1, 5)] == sorted(
            place[layer, f"t={t}"][0] for t in range(1, 5)
        )
    for placed in scene.edges:
        source, target = (graph_node.node for graph_node in _ends(scene, placed))
        if source.step and target.step and source.step != target.step:
            rightwards = placed.curve[-1][0] > placed.curve[0][0]
            assert rightwards is not source.scope.startswith(("layer 0 reverse", "layer 1 reverse"))
    assert [text for _, text in scene.titles] == ["layer 0", "layer 0", "reverse", "layer 1", "layer 1", "reverse"]


def _ends(scene, placed):
    by_id = {p.id: p for p in scene.nodes}
    return by_id[placed.tail], by_id[placed.head]


def test_the_rows_of_a_stack_are_alike():
    scene = arrange(View("gate").of([stack("lstm", 3, 2)])[0], width=9999)

    def shape(scope):
        cell = [p for p in scene.nodes if p.node.step == "t=2" and p.node.op and scope in p.node.scope]
        heights = sorted({round(p.centre[1], 3) for p in cell})  # rows may be farther apart where links run between
        return sorted((round(p.centre[0], 3), heights.index(round(p.centre[1], 3)), p.node.op) for p in cell)

    assert shape("layer 0") == shape("layer 1")


@pytest.mark.parametrize("layers", [1, 2])
def test_a_step_of_two_digits_looks_like_the_others(layers):
    scene = arrange(View("gate", fold=2).of([stack("lstm", 10, layers)])[0], width=9999)
    nine, ten = (sorted(f.rect.right - f.rect.left for f in scene.frames if f.step == f"t={t}") for t in (9, 10))
    assert nine == pytest.approx(ten)
    h = [p.centre[1] for p in scene.nodes if p.node.name == "h" and p.node.step in ("t=9", "t=10")]
    assert len({round(y, 3) for y in h}) == layers


def test_states_are_told_apart_by_layer_and_direction():
    found = states(stack("lstm", 5, 2, True, "states"))
    layers = ["layer 0", "layer 0 reverse", "layer 1", "layer 1 reverse"]
    assert list(found) == [f"{name} {layer}" for layer in layers for name in "hc"]
    for name, lane in found.items():
        assert list(lane) == ([5, 4, 3, 2, 1] if "reverse" in name else [1, 2, 3, 4, 5])
        assert all(node.scope.startswith(f"t={t}/{name[2:]}") for t, node in lane.items())


def test_gradient_through_time_of_a_reverse_direction_counts_from_the_step_it_ends_with():
    rng = np.random.default_rng(0)
    x, nets = rng.normal(size=(12, 1, 3)), {}
    both = RNN(3, 4, bidirectional=True, rng=0)
    outputs, _ = both(x)
    nets["both"] = tg.gradient_graph(tg.sum(outputs[0, :, 4:]))
    # The reverse direction alone, as a network that reads the sequence from its end.
    alone = RNN(3, 4, rng=1)
    for name, parameter in both.parameters().items():
        if name.endswith("_reverse"):
            alone.parameters()[name.removesuffix("_reverse")].data = parameter.data
    outputs, _ = alone(x[::-1].copy())
    nets["alone"] = tg.gradient_graph(tg.sum(outputs[-1]))
    found = gradient_through_time(nets)
    one, other = found["both", "h layer 0 reverse"], found["alone", "h"]
    assert [size for *_, size in one.table] == pytest.approx([size for *_, size in other.table], rel=1e-12)
    assert [(t, lag) for t, lag, _ in one.table] == [(t, t - 1) for t in range(1, 13)]
    assert one.slope == pytest.approx(other.slope)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("both", [False, True])
def test_what_left_out_steps_send_is_all_there(kind, both):
    graph = stack(kind, 12, 2, both)
    seen = View("gate", fold=2).of([graph])[0]
    assert {frame.step for frame in arrange(seen).frames} == {"t=1", "t=2", "t=11", "t=12"}
    kept = {f"t={t}" for t in (1, 2, 11, 12)}
    for name, lane in states(graph).items():
        for t, node in lane.items():  # what the drawn steps send back to a state is drawn, all of it
            sent = [e.contribution for e in graph.edges_from(node) if graph.nodes[e.target].step in kept]
            found = [e for e in seen.edges if e.tensor is not None and e.tensor.gradient is node.gradient]
            found = [e.contribution for e in found if seen.nodes[e.target].step]
            assert len(sent) == 0 or sum(found) == pytest.approx(sum(sent)), (name, t)
    assert faults(draw(graph, level="gate", fold=2).drawing) == []


def test_what_is_no_stack_is_drawn_as_before():
    x = np.ones((4, 1, 3))
    encoder, decoder = tg.RNNCell(3, 4, rng=0), tg.RNNCell(3, 4, rng=1)
    with tg.scope("encoder"):
        _, h = tg.unroll(encoder, x)
    with tg.scope("decoder"):
        y, _ = tg.unroll(decoder, x, h)
    graph = tg.gradient_graph(tg.sum(y[-1]))
    assert rows_of(graph) is None and rows_of(stack("lstm", 3, 1)) is None
    assert len(arrange(graph).edges) == len(graph.edges)
    found = states(graph)
    assert list(found) == ["h encoder", "h decoder"] and all(list(lane) == [1, 2, 3, 4] for lane in found.values())


def test_initial_states_that_are_cut_from_one_tensor():
    net = LSTM(3, 4, num_layers=2, rng=0)
    state = tuple(tg.Tensor(np.ones((2, 1, 4)), requires_grad=True, name=name) for name in ("h0", "c0"))
    outputs, _ = net(np.ones((3, 1, 3)), state)
    for level in ("op", "step"):
        graph = View(level).of([tg.gradient_graph(tg.sum(outputs))])[0]
        assert len(arrange(graph).edges) == sum(not edge.internal for edge in graph.edges)


@pytest.mark.parametrize("level", ["op", "step"])
def test_padded_sequences_and_dropout_between_the_layers(level):
    net = LSTM(3, 4, num_layers=2, bidirectional=True, dropout=0.5, rng=0)
    outputs, _ = net(np.ones((4, 3, 3)), lengths=[4, 2, 3])
    for fold in (None, 1):
        graph = View(level, fold=fold).of([tg.gradient_graph(tg.sum(outputs))])[0]
        drawn = [e for e in graph.edges if not e.internal and not part_of_symbol(e, graph.nodes)]
        assert len(arrange(graph).edges) == len(drawn)


def test_states_run_straight_through_steps_with_and_without_padding():
    outputs, _ = LSTM(3, 4, num_layers=2, rng=0)(np.ones((4, 3, 3)), lengths=[4, 2, 3])
    scene = arrange(View("step", fold=None).of([tg.gradient_graph(tg.sum(outputs))])[0], width=9999)
    for layer in ("layer 0", "layer 1"):
        inside = {p.id: p.node.step for p in scene.nodes if p.node.members and p.node.scope.startswith(layer)}
        along = [
            p.curve
            for p in scene.edges
            if p.tail in inside and p.head in inside and inside[p.tail] != inside[p.head] and p.edge.tensor is not None
        ]
        assert len(along) == 2 * 3 and all(c[0][1] == c[-1][1] for c in along)


def test_pages_and_pictures_of_stacks_are_whole():
    graph = stack("rnn", 3, 2, True)
    picture = draw(graph, title="RNN", level="step")
    page = picture.html()
    assert ">layer 1</text>" in picture.svg() and ">layer 1</text>" in page and ">h</text>" in page
    assert "gradient of h layer 1 reverse is" in page
    assert picture.dot == draw(stack("rnn", 3, 2, True), title="RNN", level="step").dot


def test_the_pages_slider_follows_the_gradient_in_both_directions():
    picture = draw(stack("rnn", 3, 1, True), level="step")
    graph = View("step").of([stack("rnn", 3, 1, True)])[0]
    nodes = [item for item in picture.drawing.items if getattr(item, "node", None)]
    found, labels = _times(nodes, [], _backwards(Sight((graph,), (), picture.drawing)), [])
    steps = {(g.node.scope, found[g.name]) for g in nodes if g.node.members and g.node.kind != "loss"}
    forward = {(f"layer 0/t={t}", t) for t in (1, 2, 3)}
    assert steps == forward | {(f"layer 0 reverse/t={t}", 4 - t) for t in (1, 2, 3)}
    assert labels[1] == "t = 1, reverse t = 3"


def test_titles_of_rows_and_of_graphs_stand_apart():
    scene = arrange(View("step").of([stack("rnn", 3, 3)])[0], width=9999)
    assert all(scene.rect.left <= x for (x, _), _ in scene.titles)
    drawing = draw({"A": stack("rnn", 3, 3), "B": stack("gru", 3, 3)}).drawing
    places = {mark.text: mark.at[0] for mark in marks_of(drawing.items) if isinstance(mark, Text)}
    assert max(places["A"], places["B"]) + 15.0 < min(places[f"layer {k}"] for k in range(3))


@pytest.mark.parametrize("parameters", ["once", "step"])
@pytest.mark.parametrize(("kind", "layers", "level"), [("rnn", 1, "op"), ("gru", 1, "gate"), ("gru", 2, "op")])
def test_what_belongs_to_a_step_stands_below_its_own_frame(kind, layers, level, parameters):
    picture = draw(stack(kind, 3, layers, both=True, loss="all"), level=level, fold=None, parameters=parameters)
    ((_, scene),) = picture.sight.rows
    frames = {
        (frame.step, p.node.id): frame.rect for frame in scene.frames for p in scene.nodes if frame.rect.holds(p.centre)
    }
    (graph,) = picture.sight.graphs
    uses = [placed for placed in scene.edges if graph.nodes[placed.edge.source].kind == "parameter"]
    assert len(uses) >= 24
    for placed in uses:
        rect, (x, _) = frames[graph.nodes[placed.edge.target].step, placed.edge.target], placed.label
        assert rect.left - 1.0 < x < rect.right + 1.0, (placed.tail, placed.edge.target)


def test_steps_of_both_directions_of_which_a_line_has_only_one_have_their_totals():
    outputs, _ = RNN(2, 3, bidirectional=True, rng=0)(np.ones((8, 1, 2)))
    picture = draw(tg.sum(outputs[-1]), level="op", steps=[1, 3, 7], parameters="once")
    ((_, scene),) = picture.sight.rows
    assert len({placed.node.id for placed in scene.nodes if placed.look.shape == "total"}) == 8
