"""The rolled view: every curve has the gradient graph's numbers, nothing touches, and what is refused."""

from itertools import combinations

import numpy as np
import pytest
from touching import faults

import tinygrad_rnn as tg
from tinygrad_rnn.draw import Film, draw
from tinygrad_rnn.draw.geometry import samples
from tinygrad_rnn.draw.marks import Box, Group, Text, Way, marks_of
from tinygrad_rnn.draw.style import number

KINDS = ("rnn", "lstm", "gru", "own")


class Leaky:
    """A cell of one's own, whose first step lacks an operation: 0.7 times a constant is one."""

    def __init__(self, rng):
        self.W = tg.Tensor(rng.normal(size=(3, 1)), requires_grad=True, name="W")
        self.U = tg.Tensor(0.5 * rng.normal(size=(3, 3)), requires_grad=True, name="U")

    def parameters(self):
        return {"W": self.W, "U": self.U}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, 3)), name="h0")

    def __call__(self, x, h):
        h = 0.7 * h + 0.3 * tg.tanh(x @ self.W.T + h @ self.U.T)
        h.name = "h"
        return h


class Twice(Leaky):
    """Reads one of its weights twice a step."""

    def __call__(self, x, h):
        h = tg.tanh(x @ self.W.T + h @ self.U.T) @ self.U.T
        h.name = "h"
        return h


def graph_of(kind, steps=7):
    makes = {"lstm": tg.LSTMCell, "gru": tg.GRUCell, "rnn": tg.RNNCell}
    own = {"own": Leaky, "twice": Twice}
    cell = makes[kind](1, 3, rng=0) if kind in makes else own[kind](np.random.default_rng(0))
    _, last = tg.unroll(cell, np.sin(np.arange(steps) + 1.0).reshape(steps, 1, 1))
    return tg.gradient_graph(tg.sum(last[0] if isinstance(last, tuple) else last))


def curves(picture):
    """Of each curve: its edge or None, its bars, and its texts."""
    for group in picture.drawing.items:
        if isinstance(group, Group) and group.kind == "detail":
            texts = [mark.text for mark in group.marks if isinstance(mark, Text)]
            yield group, [mark for mark in group.marks if isinstance(mark, Box)], texts


def name_of(graph, edge):
    """What tells an edge from the others of its step, found without ranks: by names and the operations behind them."""

    def behind(id, deep=3):
        node, given = graph.nodes[id], [e for e in graph.edges if e.target == id]
        below = tuple(behind(e.source, deep - 1) for e in given) if deep and not node.name else ()
        inside = node.scope.partition("/")[2]
        return (node.name or node.op or node.kind).rstrip("₀₁₂₃₄₅₆₇₈₉0123456789"), inside, below

    return behind(edge.source), behind(edge.target), edge.operand


@pytest.mark.parametrize("kind", KINDS)
def test_every_curve_has_the_numbers_of_the_gradient_graph(kind):
    """Height and colour of every bar, and both numbers, are those of that edge in that step."""
    graph = graph_of(kind)
    picture = draw(graph, view="rolled", level="op")
    seen, scale = picture.sight.graphs[0], picture.scale
    sizes = {}
    for edge in graph.edges:
        if edge.carried is not None:
            sizes.setdefault(name_of(graph, edge), {})[graph.nodes[edge.target].step] = edge
    found = 0
    for group, (*frame, _), texts in ((g, [*b, None], t) for g, b, t in curves(picture) if g.edge is not None):
        over = sizes[name_of(seen, group.edge)]
        assert over[max(over, key=lambda step: int((step or "t=99")[2:]))].size() == group.edge.size()
        if len(over) == 1:
            assert texts == [number(group.edge.size())] and not frame
            continue
        found += 1
        panel, *bars = frame
        width = (panel.rect.right - panel.rect.left - 2.0) / 7
        at = {round((bar.rect.left - panel.rect.left - 1.0) / width) + 1: bar for bar in bars}
        live = {int(step[2:]): e.size() for step, e in over.items() if e.state != "zero"}
        assert at.keys() == live.keys()
        for t, size in live.items():
            part = (at[t].rect.top - at[t].rect.bottom) / (panel.rect.top - panel.rect.bottom - 2.0)
            assert part == pytest.approx(max(0.04, scale.fraction(size))) and at[t].fill == scale.colour(size)
        first = over[min(over, key=lambda step: int(step[2:]))]
        assert texts == [number(group.edge.size()), number(first.size())]
    drawn = [edge for edge in seen.edges if not edge.internal and edge.carried is not None]
    assert found == len(drawn) - 1 > 1  # the loss is made once


@pytest.mark.parametrize("kind", KINDS)
def test_gates_have_the_numbers_of_their_own_pictures(kind):
    """What is put together is summed in each step, as the unrolled picture of that step has it."""
    graph = graph_of(kind)
    picture = draw(graph, view="rolled", level="gate")
    for t in (2, 5):
        seen = draw(graph, level="gate", steps=[t], parameters="none").sight.graphs[0]
        edges = [e for e in seen.edges if not e.internal and seen.nodes[e.target].step and e.carried is not None]
        heights = []
        for group, boxes, _ in curves(picture):
            panel, *bars = boxes or [None]
            for bar in bars if group.edge is not None else ():
                if (
                    round(7 * (bar.rect.left - panel.rect.left - 1.0) / (panel.rect.right - panel.rect.left - 2.0))
                    == t - 1
                ):
                    heights.append((bar.rect.top - bar.rect.bottom) / (panel.rect.top - panel.rect.bottom - 2.0))
        assert sorted(heights) == pytest.approx(sorted(max(0.04, picture.scale.fraction(e.size())) for e in edges))


@pytest.mark.parametrize("kind", [*KINDS, "twice"])
def test_every_parameter_has_its_uses_and_its_whole_gradient(kind):
    """A line below the cell: a curve of each use, and in bold, after the last, the norm of the sum."""
    graph = graph_of(kind)
    picture = draw(graph, view="rolled", level="op")
    named = {node.name: node for node in graph.nodes if node.kind == "parameter"}
    for node in named.values():
        rows = [(b, t) for g, b, t in curves(picture) if g.name.startswith(f"use{node.id}_")]
        uses = [e for e in graph.edges if e.source == node.id and e.state != "zero"]
        assert sum(len(boxes) - 1 for boxes, _ in rows) == len(uses)
        assert [told for _, told in rows] == [[]] * (len(rows) - 1) + [[number(np.linalg.norm(node.gradient))]]
    assert not any(g.name.startswith("use") for g, _, _ in curves(draw(graph, view="rolled", parameters="none")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("steps", "level"), [(2, "op"), (9, "gate"), (70, "auto")])
def test_nothing_touches(kind, steps, level):
    """No text meets another or a line, and no curve a box, a line or another curve."""
    touches_nothing(draw(graph_of(kind, steps), view="rolled", level=level, title="T"))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize(("level", "loss"), [("op", lambda o: 1e5 * tg.sum(o**2)), ("gate", lambda o: tg.sum(o[2]))])
def test_nothing_touches_where_numbers_are_wide_or_zero(kind, level, loss):
    cell = getattr(tg, f"{kind.upper()}Cell")(2, 16, rng=1)
    outputs, _ = tg.unroll(cell, np.random.default_rng(4).normal(size=(4, 1, 2)))
    for heads in ("gradient", "data"):
        touches_nothing(draw(loss(outputs), view="rolled", level=level, heads=heads))


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_its_text_is_14_pixels_high_on_a_slide(kind):
    picture = draw(graph_of(kind, 50), view="rolled", level="gate", page="slide", title="T")
    smallest = min(mark.size for mark in marks_of(picture.drawing.items) if isinstance(mark, Text))
    assert smallest * 1280 / picture.size[0] >= 13.999


def touches_nothing(picture):
    assert faults(picture.drawing) == []
    marks = list(marks_of(picture.drawing.items))
    frames = [boxes[0].rect for _, boxes, _ in curves(picture) if boxes]
    shapes = [mark.rect for mark in marks if isinstance(mark, Box) and mark.radius and mark.fill != "panel"]
    words = [mark.rect for mark in marks if isinstance(mark, Text)]
    points = [point for mark in marks if isinstance(mark, Way) for point in samples(mark.curve, 2.0)]
    assert not any(a.overlap(b) for a, b in combinations(frames, 2))
    assert not any(frame.overlap(other) for frame in frames for other in shapes + words)
    assert not any(frame.holds(point) for frame in frames for point in points)
    assert len(picture.svg()) < 120_000


def test_initial_states_inputs_and_losses_of_other_kinds():
    """An initial state and an input with a gradient; a loss of every step, and one that uses the last state twice."""
    x = tg.Tensor(np.sin(np.arange(5.0)).reshape(5, 1, 1), requires_grad=True, name="x")
    h0 = tg.Tensor(np.full((1, 3), 0.5), requires_grad=True, name="h0")
    outputs, h = tg.unroll(tg.RNNCell(1, 3, rng=0), x, h0)
    for loss, left in ((tg.mean(outputs), 5), (tg.sum(h) + tg.sum(h * h), 0)):
        picture = draw(loss, view="rolled", level="op")
        touches_nothing(picture)
        bars = {group.tip.splitlines()[0].rpartition(",")[0]: len(boxes) - 1 for group, boxes, _ in curves(picture)}
        loop = next(count for tip, count in bars.items() if tip.endswith("→ affine") and tip.startswith("h"))
        assert loop == 5 and max((n for tip, n in bars.items() if tip.endswith("→ stack")), default=0) == left


def test_what_it_tells():
    """How often the cell is used, which steps a loop is of, both ends and the rate of a state."""
    picture = draw(graph_of("lstm", 9), view="rolled")
    texts = [mark.text for mark in marks_of(picture.drawing.items) if isinstance(mark, Text)]
    assert "× 9" in texts and "curve: t = 1 … 9; number: at t = 9, below at the first" in texts
    assert {"c, from step t − 1 to t = 2 … 9", "h, from step t − 1 to t = 2 … 9"} <= set(texts)
    tips = [group.tip for group, *_ in curves(picture)]
    assert any("‖∂L/∂c‖:  × " in tip and "t = 9: " in tip and "t = 1: " in tip for tip in tips)
    assert not any("f₉" in text for text in texts)


def test_what_is_refused():
    """One line, with the remedy."""
    graph, x = graph_of("rnn"), np.ones((4, 1, 1))
    stack = tg.sum(tg.RNN(1, 2, num_layers=2, rng=0)(x)[0])
    cases = [
        ({"a": graph, "b": graph}, {}, "one graph"),
        (graph, {"steps": [7]}, "nothing to fold"),
        (graph, {"fold": 2}, "nothing to fold"),
        (graph, {"level": "step"}, "level"),
        (graph_of("rnn", 1), {}, "two time steps"),
        (tg.sum(tg.Tensor([1.0, 2.0], requires_grad=True)), {}, "two time steps"),
        (stack, {}, "several layers"),
        (changing(), {}, "t = 3"),
    ]
    for source, options, words in cases:
        with pytest.raises(ValueError, match=words) as raised:
            draw(source, view="rolled", **options)
        assert 'view="unrolled"' in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="unrolled"):
        draw(graph, view="rolled").html()
    with pytest.raises(ValueError, match="unrolled"):
        Film(view="rolled")


def changing():
    """A loss of four steps, of which the third has another operation."""
    h = tg.Tensor([0.5, 0.2], requires_grad=True, name="h0")
    for t in range(1, 5):
        with tg.scope(f"t={t}"):
            h = (tg.sigmoid if t == 3 else tg.tanh)(h)
            h.name = "h"
    return tg.sum(h)


@pytest.mark.parametrize("own", ["weights", "constants"])
def test_steps_with_something_of_their_own_are_no_one_cell(own):
    weights = [tg.Tensor(np.full((2, 2), 0.5), requires_grad=True, name="W") for _ in range(2)]
    h = tg.Tensor(np.ones((1, 2)), name="h0")
    for t in range(6):
        with tg.scope(f"t={t + 1}"):
            h = tg.tanh(h @ weights[t % 2 if own == "weights" else 0]) * (2.0 if own == "constants" and t == 2 else 1.5)
            h.name = "h"
    with pytest.raises(ValueError, match=r'of their own: draw it with view="unrolled"'):
        tg.draw(tg.sum(h), view="rolled")


def test_no_edge_is_looked_for_among_all_edges(monkeypatch):
    """Once for each edge that is, and a loop of a thousand steps took ten seconds."""
    outputs, _ = tg.unroll(tg.LSTMCell(2, 3, rng=0), np.ones((9, 1, 2)))
    graph, asked = tg.gradient_graph(tg.sum(outputs[-1])), []
    monkeypatch.setattr(tg.GradientGraph, "edges_from", lambda self, node: asked.append(node) or ())
    draw(graph, view="rolled")
    assert asked == []
