"""Cells on the fixed grid: numbers are the engine's, all steps are alike, a slide is filled, and nothing touches."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touching import faults

import tinygrad_rnn as tg
from tinygrad_rnn.draw import draw, grid
from tinygrad_rnn.draw.cut import cut
from tinygrad_rnn.draw.geometry import Rect
from tinygrad_rnn.draw.layout import arrange
from tinygrad_rnn.draw.marks import Box, Group, Text, marks_of
from tinygrad_rnn.draw.style import narrow, number
from tinygrad_rnn.draw.view import View
from tinygrad_rnn.norms import norm_of

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
KINDS = {
    "rnn": tg.RNNCell,
    "lstm": tg.LSTMCell,
    "gru": tg.GRUCell,
    "lstm of 1997": lambda *sizes, rng: tg.LSTMCell(*sizes, forget_gate=False, rng=rng),
}
LOSSES = {
    "last state": lambda h, outputs: tg.sum(h * h),
    "last output": lambda h, outputs: tg.sum(outputs[-1] * outputs[-1]),
    "readout": lambda h, outputs: tg.cross_entropy(tg.Linear(h.shape[-1], 3, rng=1)(h), np.zeros(h.shape[0], int)),
}


def unrolled(kind="lstm", steps=3, loss="last state", factor=1.0, forget=None, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    cell = KINDS[kind](3, 4, rng=seed)
    weight = cell.parameters()["weight_hh"]
    weight.data = weight.data * factor
    if forget is not None and kind == "lstm":
        cell.parameters()["bias_ih"].data = np.full(16, forget)
    outputs, state = tg.unroll(cell, rng.normal(size=(steps, batch, 3)))
    return tg.gradient_graph(LOSSES[loss](state[0] if isinstance(state, tuple) else state, outputs))


def known(graph):
    """Whether it is one of the cells that have their places."""
    return grid.read(cut(graph), graph) is not None


def on_grid(graph, **options):
    """The scene of a graph that is one of the grid's."""
    seen = View(**options).of([graph])[0]
    assert known(seen)
    return seen, arrange(seen, parameters=options.get("parameters", "auto"))


# --- what is drawn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", ["once", "step", "none"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_that_of_its_edge(kind, loss, parameters):
    graph = unrolled(kind, 3, loss)
    seen, scene = on_grid(graph, parameters=parameters)
    drawn = Counter((p.edge.source, p.edge.target, p.edge.operand) for p in scene.edges)
    constants = {n.id for n in seen.nodes if n.kind == "constant" and not n.name}
    expected = Counter((e.source, e.target, e.operand) for e in seen.edges if not e.internal)
    missing = expected - drawn
    assert not drawn - expected and {source for source, *_ in missing} <= constants  # which are part of a symbol
    groups = [g for g in draw(graph, parameters=parameters).drawing.items if isinstance(g, Group) and g.edge]
    assert len(groups) == len(scene.edges)
    for group in groups:
        texts = [m.text for m in group.marks if isinstance(m, Text)]
        size = group.edge.size()
        if size is None:
            assert texts == []
        elif texts[0] != number(size):  # in a narrow place, with one digit
            shown = float(texts[0].replace("−", "-"))
            assert len(texts[0]) < len(number(size)) and shown == pytest.approx(size, rel=0.5)


@pytest.mark.parametrize("norm", ["l2", "rms", "max"])
@pytest.mark.parametrize("kind", KINDS)
def test_totals_are_the_gradients_of_states_and_parameters(kind, norm):
    graph = unrolled(kind, 4)
    told = {}
    for group in draw(graph, norm=norm).drawing.items:
        if isinstance(group, Group) and group.node is not None and not group.name.endswith("_again"):
            texts = [m.text for m in group.marks if isinstance(m, Text)]
            if group.node.name in ("h", "c") and group.node.step:
                assert texts[1] == narrow(number(norm_of(group.node.gradient, norm)), 34.0)
            elif group.node.kind == "parameter":
                told[group.node.name] = texts[-1]
    origin = {n.name: n for n in graph.nodes if n.kind == "parameter"}
    assert told == {name: number(norm_of(node.gradient, norm)) for name, node in origin.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_are_alike_whatever_their_number(kind, steps):
    """The same heights at any T; within a picture the same offsets in every step."""
    _, scene = on_grid(unrolled(kind, steps))
    _, other = on_grid(unrolled(kind, 3))

    def shape(scene, t):
        (left,) = (frame.rect.left for frame in scene.frames if frame.step == f"t={t}")
        inside = [p for p in scene.nodes if p.node.step == f"t={t}"]
        return [(p.look.role, round(p.centre[0] - left, 6), round(p.centre[1], 6)) for p in inside]

    cells = [shape(scene, t) for t in range(1, steps + 1)]
    assert all(cell == cells[0] for cell in cells)
    assert [(role, y) for role, _, y in cells[0]] == [(role, y) for role, _, y in shape(other, 2)]


def test_a_full_row_ends_and_the_next_begins_with_the_same_nodes_once_more():
    graph = unrolled("lstm", 7)
    _, scene = on_grid(graph)
    again = [p for p in scene.nodes if p.look.shape == "again"]
    assert [(p.node.name, p.node.step) for p in again] == [("h", "t=4"), ("c", "t=4")]
    assert len({round(frame.rect.top) for frame in scene.frames}) == 2
    assert len([p for p in scene.nodes if p.node.kind == "parameter"]) == 4 * 7  # from six steps on, in every step


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", range(1, 6))
@pytest.mark.parametrize("parameters", ["once", "step"])
def test_a_slide_is_filled_and_read_from_row_ten(kind, steps, parameters):
    picture = draw(
        unrolled(kind, steps), page="slide", parameters=parameters, title="A title", subtitle="and what it is about"
    )
    width, height = picture.size
    assert width / height == pytest.approx(16 / 9)
    smallest = min(m.size for m in marks_of(picture.drawing.items) if isinstance(m, Text))
    assert smallest * 1280 / width >= (14.0 - 1e-9 if parameters == "once" else 13.5)
    assert picture.drawing.rect.right - picture.drawing.rect.left > (0.9 if steps > 3 else 0.4) * width


def test_pages():
    graph = unrolled("lstm", 5)
    notebook, own = draw(graph, page="notebook"), draw(graph, page=(2000, 900))
    assert notebook.size[0] * 14 / 11 == pytest.approx(860) and own.size[0] / own.size[1] == pytest.approx(20 / 9)
    rows = {round(m.rect.top) for m in notebook.drawing.items if isinstance(m, Box) and m.fill == "panel"}
    assert len(rows) == 2
    for wrong in ("poster", 5, (0, 100), (1.5, 2), (1, 2, 3)):
        with pytest.raises(ValueError, match="page"):
            draw(graph, page=wrong)


@pytest.mark.parametrize("level", ["op", "gate", "step"])
def test_what_an_index_dropped_is_not_drawn_and_a_real_zero_is(level):
    rng = np.random.default_rng(0)
    outputs, _ = tg.unroll(tg.RNNCell(2, 3, rng=0), rng.normal(size=(4, 1, 2)))
    mask = np.array([0.0, 0.0, 0.0, 1.0]).reshape(4, 1, 1)
    for loss, used in (
        (tg.sum(outputs[-1]), 1),
        (tg.sum(outputs[1:3]), 2),
        (tg.sum(outputs * mask), 4),
        (tg.sum(outputs[0]) + tg.sum(outputs[-1]), 2),
    ):
        seen = View(level).of([tg.gradient_graph(loss)])[0]
        after = [
            e for e in seen.edges if not e.internal and not seen.nodes[e.target].step and seen.nodes[e.source].step
        ]
        assert len(after) == used


@pytest.mark.parametrize("change", ["peephole", "loss at every step", "gradient of x", "state twice"])
def test_what_is_not_quite_such_a_cell_is_drawn_otherwise_and_whole(change):
    rng = np.random.default_rng(0)
    x = tg.Tensor(rng.normal(size=(3, 1, 2)), requires_grad=change == "gradient of x", name="x")
    cell = tg.RNNCell(2, 4, rng=0)
    if change == "state twice":
        h = tg.Tensor(np.ones((1, 4)), requires_grad=True, name="h0")
        start = h
        for t in range(3):
            with tg.scope(f"t={t + 1}"):
                h = cell(x[t], h)[1] + start if False else tg.tanh(h * start)
                h.name = "h"
        loss = tg.sum(h)
    elif change == "peephole":
        w, c = tg.Tensor(np.ones(4), requires_grad=True, name="p"), tg.Tensor(np.ones((1, 4)), name="c0")
        for t in range(3):
            with tg.scope(f"t={t + 1}"):
                i = tg.sigmoid(c * w)
                i.name = "i"
                c = c * i + tg.tanh(c)
                c.name = "c"
        loss = tg.sum(c)
    else:
        outputs, h = tg.unroll(cell, x)
        loss = tg.sum(outputs * outputs) if change == "loss at every step" else tg.sum(h)
    seen = View().of([tg.gradient_graph(loss)])[0]
    assert not known(seen)
    assert len(arrange(seen).edges) == sum(not edge.internal for edge in seen.edges)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_reads_the_first_state_has_it_beside_it(kind):
    h0, rest = tg.Tensor(np.ones((1, 4)), requires_grad=True, name="h0"), ()
    if "lstm" in kind:
        rest = (tg.Tensor(np.ones((1, 4)), name="c0"),)
    _, state = tg.unroll(KINDS[kind](3, 4, rng=0), np.ones((2, 1, 3)), (h0, *rest) if rest else h0)
    h = state[0] if rest else state
    _, scene = on_grid(tg.gradient_graph(tg.sum(h) + tg.sum(h0 * h0)), level="gate")
    left, right = sorted(p.centre[0] for p in scene.nodes if p.node.name == "h0")
    assert left < min(frame.rect.left for frame in scene.frames) < max(f.rect.right for f in scene.frames) < right


# --- nothing touches --------------------------------------------------------------------------------------------------

NETS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(sorted(KINDS)),
        "steps": st.integers(1, 8),
        "loss": st.sampled_from(sorted(LOSSES)),
        "factor": st.sampled_from([0.001, 0.3, 1.0, 3.0, 30.0]),
        "forget": st.sampled_from([None, -8.0, 4.0]),
        "batch": st.integers(1, 2),
        "seed": st.integers(0, 1000),
    }
)
OPTIONS = st.fixed_dictionaries(
    {
        "parameters": st.sampled_from(["auto", "once", "step", "none"]),
        "page": st.sampled_from([None, "slide", "notebook", (1600, 900)]),
        "norm": st.sampled_from(["l2", "rms", "max"]),
        "heads": st.sampled_from(["gradient", "data"]),
    }
)


@settings(max_examples=25)
@given(NETS, OPTIONS)
def test_nothing_touches(net, options):
    assert faults(draw(unrolled(**net), title="A title", subtitle="words", **options).drawing) == []


@pytest.mark.slow
@settings(max_examples=100)
@given(NETS, OPTIONS)
def test_nothing_touches_in_a_hundred_pictures(net, options):
    assert faults(draw(unrolled(**net), title="A title", subtitle="words", **options).drawing) == []


def test_the_checker_finds_planted_faults():
    drawing = draw(unrolled("lstm", 2)).drawing
    assert faults(drawing) == []
    text = next(m for g in drawing.items if isinstance(g, Group) and g.edge for m in g.marks if isinstance(m, Text))
    for at in (text.at, (drawing.page.right - 1.0, text.at[1])):
        drawing.items.append(Text(at, "0.123", 11.0))
        assert faults(drawing)
        drawing.items.pop()
    box = next(m.rect for m in marks_of(drawing.items) if isinstance(m, Box) and m.fill == "fill value")
    drawing.items.append(Text((box.right, box.top), "0.123", 11.0))
    assert any("half" in why for _, why in faults(drawing))
    assert math.isfinite(box.right) and isinstance(box, Rect)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("page", "fold"), [(None, 3), ("slide", 4), ("notebook", 2), ("notebook", 1)])
def test_states_of_left_out_steps_stand_before_the_step_that_they_go_to(kind, page, fold):
    """On its line, at its height, also where it begins a line of its own."""
    picture = draw(unrolled(kind, 10), page=page, fold=fold)
    assert faults(picture.drawing) == []
    (scene,) = (scene for _, scene in picture.sight.rows)
    name = f"h{10 - fold}".translate(SUBSCRIPTS)
    (at,) = (p.rect for p in scene.nodes if p.node.name == name)
    (state,) = (p.rect for p in scene.nodes if p.node.name == "h" and p.node.step == f"t={11 - fold}")
    (panel,) = (frame.rect for frame in scene.frames if frame.step == f"t={11 - fold}")
    assert at.bottom + at.top == pytest.approx(state.bottom + state.top) and panel.left - 60.0 < at.right < state.left
