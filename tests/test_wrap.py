"""Legible from the back row: the fit into a page, lines of time steps, and ways that keep clear of the boxes."""

import itertools
import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.draw import draw
from tinygrad_rnn.draw.geometry import Rect, samples
from tinygrad_rnn.draw.layout import arrange
from tinygrad_rnn.draw.template import LABEL
from tinygrad_rnn.draw.view import View
from tinygrad_rnn.draw.wrap import best_count, lines_of


def unrolled(kind="lstm", steps=3, loss="all", seed=0):
    rng = np.random.default_rng(seed)
    cell = (tg.LSTMCell if kind == "lstm" else tg.RNNCell)(3, 4, rng=seed)
    outputs, state = tg.unroll(cell, rng.normal(size=(steps, 2, 3)))
    h = state[0] if kind == "lstm" else state
    return tg.gradient_graph(tg.sum(h * h) if loss == "last" else tg.mse_loss(outputs, rng.normal(size=outputs.shape)))


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
@pytest.mark.parametrize("loss", ["last", "all"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_three_steps_read_from_the_back_row(kind, loss, theme):
    picture = draw(unrolled(kind, 3, loss), title="Backpropagation through time", theme=theme)
    scale = min(1280 / picture.size[0], 720 / picture.size[1])
    sizes = {float(size) for size in re.findall(r"fontsize=([\d.]+)", picture.dot)}
    used = sizes - {10.0} if re.search(r"node \[[^]]*fontsize=10\b", picture.dot) else sizes  # the default of none
    assert min(used) * scale >= 14.0


def test_lines():
    steps = [False, True, True, True, True, True, False]
    assert lines_of(steps, 2) == [0, 0, 0, 1, 1, 2, 2]
    assert lines_of(steps, None) == [0] * 7
    cells = [k * 300.0 for k in range(7)], [k * 300.0 + 290.0 for k in range(7)]
    assert best_count(*cells, steps, 3000.0) is None  # high cells stand side by side
    assert best_count(*cells, steps, 500.0) in (2, 3)
    narrow = [x / 3 for x in cells[0]], [x / 3 for x in cells[1]]
    assert best_count(*narrow, steps, 30.0) is None  # legible as it is


@pytest.mark.parametrize("steps", range(1, 9))
@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_up_to_eight_steps_are_legible_on_a_page_as_wide_as_a_screen(kind, steps):
    assert 11.0 * 1280 / draw(unrolled(kind, steps, "last")).size[0] > 9.9


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
@pytest.mark.parametrize("loss", ["last", "all"])
@pytest.mark.parametrize(("level", "steps", "count"), [("op", 5, 2), ("gate", 7, 3), ("step", 9, 4)])
def test_wrapped_cells_are_alike_and_ways_keep_clear(kind, loss, level, steps, count):
    graph = View(level, fold=None).of([unrolled(kind, steps, loss)])[0]
    flat, scene = arrange(graph), arrange(graph, count=count)
    assert [p.id for p in flat.nodes] == [p.id for p in scene.nodes] and len(flat.edges) == len(scene.edges)
    rows = {round(p.centre[1], 3) for p in scene.nodes if p.node.name == "h" or (p.node.step and p.node.members)}
    assert len(rows) >= -(-steps // count)
    boxes = {p.id: p.rect for p in scene.nodes}
    assert not [pair for pair in itertools.combinations(boxes.values(), 2) if pair[0].overlap(pair[1]) > 1e-6]
    labels = [Rect.around(e.label, *LABEL) for e in scene.edges if e.edge.contribution is not None]
    assert not [pair for pair in itertools.product(labels, boxes.values()) if pair[0].overlap(pair[1]) > 1e-6]
    names = np.array(list(boxes))
    left, bottom, right, top = np.array([(r.left, r.bottom, r.right, r.top) for r in boxes.values()]).T[..., None]
    for edge in scene.edges:
        if edge.edge.contribution is not None:
            x, y = np.array(samples(edge.curve)).T
            hit = ((left + 1 < x) & (x < right - 1) & (bottom + 1 < y) & (y < top - 1)).any(axis=1)
            assert set(names[hit]) <= {edge.tail, edge.head}


def test_wrap_is_chosen_where_it_helps():
    short, long, folded = unrolled("lstm", 3), unrolled("lstm", 8, "last"), unrolled("lstm", 20)
    assert draw(short).dot == draw(short, wrap=None).dot
    assert draw(folded).dot == draw(folded, wrap=None).dot
    assert draw(long).size[0] < 0.6 * draw(long, wrap=None).size[0]
    both = {"a": long, "b": long}
    assert draw(both).dot == draw(both, wrap=None).dot != draw(both, wrap=3).dot
    for wrong in (0, -1, True, "all", 1.5):
        with pytest.raises(ValueError, match="wrap"):
            draw(short, wrap=wrong)
