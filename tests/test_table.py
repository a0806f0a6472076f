"""Any network on the grid: own cells, loops one after the other, attention; nothing is lost, nothing touches."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touching import faults

import tinygrad_rnn as tg
from tinygrad_rnn.draw import channels, draw, routes
from tinygrad_rnn.draw.cut import cut, part_of_symbol
from tinygrad_rnn.draw.layout import arrange
from tinygrad_rnn.draw.marks import Box, Group, Text, marks_of
from tinygrad_rnn.draw.style import narrow, number
from tinygrad_rnn.draw.view import View
from tinygrad_rnn.norms import norm_of

SIZE = 3


def named(tensor, name):
    tensor.name = name
    return tensor


class Weights:
    """Weights by name, made when they are first asked for."""

    def __init__(self, rng):
        self.rng, self.made = rng, {}

    def __call__(self, name, *shape):
        if name not in self.made:
            self.made[name] = tg.Tensor(self.rng.normal(size=shape) * 0.5, requires_grad=True, name=name)
        return self.made[name]

    def linear(self, name, x, h):
        return x @ self(f"W_{name}", 2, SIZE) + h @ self(f"U_{name}", SIZE, SIZE) + self(f"b_{name}", SIZE)


def gate(scope, name, function, value):
    with tg.scope(scope):
        return named(function(value()), name)


def mgu(w, x, state):
    (h,) = state
    f = gate("forget", "f", tg.sigmoid, lambda: w.linear("f", x, h))
    n = gate("new", "n", tg.tanh, lambda: w.linear("n", x, f * h))
    return (named((1 - f) * h + f * n, "h"),)


def peephole(w, x, state):
    h, c = state
    i = gate("input", "i", tg.sigmoid, lambda: w.linear("i", x, h) + c * w("p_i", SIZE))
    f = gate("forget", "f", tg.sigmoid, lambda: w.linear("f", x, h) + c * w("p_f", SIZE))
    g = gate("cell", "g", tg.tanh, lambda: w.linear("g", x, h))
    c = named(f * c + i * g, "c")
    o = gate("output", "o", tg.sigmoid, lambda: w.linear("o", x, h) + c * w("p_o", SIZE))
    return named(o * tg.tanh(c), "h"), c


def coupled(w, x, state):
    h, c = state
    a = x @ w("W", 2, 3 * SIZE) + h @ w("U", SIZE, 3 * SIZE)
    f, g = named(tg.sigmoid(a[:, :SIZE]), "f"), named(tg.tanh(a[:, SIZE : 2 * SIZE]), "g")
    c = named(f * c + (1 - f) * g, "c")
    return named(tg.sigmoid(a[:, 2 * SIZE :]) * tg.tanh(c), "h"), c


def normed(w, x, state):
    (h,) = state
    with tg.scope("norm"):
        a = w.linear("", x, h)
        d = a - tg.mean(a, axis=-1, keepdims=True)
        a = d / tg.sqrt(tg.mean(d * d, axis=-1, keepdims=True) + 1e-5) * w("gain", SIZE)
    return (named(tg.tanh(a), "h"),)


def nested(w, x, state):
    h, fast, slow = state
    fast = named(0.5 * fast + tg.tanh(w.linear("fast", x, h)), "fast")
    slow = named(0.9 * slow + 0.1 * fast, "slow")
    return named(tg.tanh(fast + slow), "h"), fast, slow


def unnamed(w, x, state):
    (h,) = state
    return (tg.relu(w.linear("", x, h)),)


CELLS = {"mgu": mgu, "peephole": peephole, "coupled": coupled, "norm": normed, "nested": nested, "unnamed": unnamed}
STATES = {"peephole": ("h0", "c0"), "coupled": ("h0", "c0"), "nested": ("h0", "fast0", "slow0")}


def network(cell, steps=3, loss="last", batch=1, seed=0, factor=1.0, given=False):
    """A loss of a cell of one's own."""
    rng = np.random.default_rng(seed)
    w = Weights(rng)
    state = tuple(tg.Tensor(np.zeros((batch, SIZE)), name=name) for name in STATES.get(cell, ("h0",)))
    outputs, total = [], 0.0
    CELLS[cell](w, np.zeros((batch, 2)), state)  # makes the weights, outside of all scopes
    for t in range(1, steps + 1):
        with tg.scope(f"t={t}"):
            x = tg.Tensor(rng.normal(size=(batch, 2)) * factor, requires_grad=given, name="x")
            state = CELLS[cell](w, x, state)
        outputs.append(state[0])
        if loss == "each":
            total = total + tg.mse_loss(state[0] @ w("V", SIZE, 2), np.ones((batch, 2)))
    if loss == "attention":
        scores = [tg.sum(y * state[0]) for y in outputs]
        return tg.gradient_graph(tg.sum(sum(s * y for s, y in zip(scores, outputs, strict=True)) * 0.1))
    if loss == "head":
        y = state[0] @ w("V", SIZE, 4) + w("b", 4)
        return tg.gradient_graph(tg.cross_entropy(y, np.zeros(batch, int)))
    if loss == "all":
        return tg.gradient_graph(tg.mean(tg.stack(outputs) ** 2))
    return tg.gradient_graph(total if loss == "each" else tg.sum(state[0] * state[0]))


def check_whole(graph, level, parameters="auto"):
    """Every edge is drawn once, with the number that is its norm."""
    seen = View(level, fold=None).of([graph])[0]
    scene = arrange(seen, parameters=parameters)
    expected = Counter(
        (e.source, e.target, e.operand) for e in seen.edges if not e.internal and not part_of_symbol(e, seen.nodes)
    )
    assert Counter((p.edge.source, p.edge.target, p.edge.operand) for p in scene.edges) == expected
    ids = [placed.id for placed in scene.nodes]
    assert len(ids) == len(set(ids)) and {end for p in scene.edges for end in (p.tail, p.head)} <= set(ids)
    return scene


@pytest.mark.parametrize("level", ["op", "gate", "step"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_of_ones_own_is_whole_and_nothing_touches(cell, level):
    graph = network(cell, 2)
    check_whole(graph, level)
    for parameters in ("once", "step") if level == "gate" else ["once"]:
        drawing = draw(graph, level=level, parameters=parameters, title="A title").drawing
        assert faults(drawing) == []
        for group in drawing.items:
            if isinstance(group, Group) and group.edge is not None and group.edge.norm is not None:
                texts = [m.text.split(" ")[-1] for m in group.marks if isinstance(m, Text)]
                assert texts == [number(group.edge.norm)]


@pytest.mark.parametrize("loss", ["last", "head", "all", "each", "attention"])
def test_losses(loss):
    for level in ("op", "gate"):
        graph = network("mgu", 2, loss)
        check_whole(graph, level)
        assert faults(draw(graph, level=level).drawing) == []


@pytest.mark.parametrize(
    "cell", ["mgu", "peephole", "coupled", "norm", "unnamed"]
)  # whose first step has all operations
def test_memory_runs_on_top_output_below_and_both_straight(cell):
    scene = arrange(View("op").of([network(cell, 4)])[0], width=9999)
    place = {(p.node.name, p.node.step): p.centre for p in scene.nodes if p.node.op}
    for name in ("h", "c") if cell in ("peephole", "coupled") else ("h",) if cell != "unnamed" else ():
        assert len({round(place[name, f"t={t}"][1], 6) for t in (1, 2, 3, 4)}) == 1
        pitch = [place[name, f"t={t + 1}"][0] - place[name, f"t={t}"][0] for t in (1, 2, 3)]
        assert min(pitch) == pytest.approx(max(pitch)) and min(pitch) > 0
    if "c" in {name for name, _ in place}:
        inside = [p.centre[1] for p in scene.nodes if p.node.op and p.node.step == "t=2"]
        assert place["c", "t=2"][1] == max(inside) and place["h", "t=2"][1] == min(inside)


@pytest.mark.parametrize("cell", ["mgu", "peephole"])
def test_a_product_stands_between_its_factors_and_a_fan_leaves_along_a_bar(cell):
    graph = View("gate").of([network(cell)])[0]
    scene = arrange(graph, width=9999)
    uses = Counter(placed.tail for placed in scene.edges)
    fans = {p.id: p.rect for p in scene.nodes if uses[p.id] > 2 and p.node.kind != "parameter"}
    assert scene.spines and len(scene.spines) >= len(fans)
    for id in fans:
        starts = {round(e.curve[0][0], 6) for e in scene.edges if e.tail == id and e.curve[0][1] == e.curve[-1][1]}
        assert len(starts) <= 1  # side by side from one bar
    if cell == "peephole":
        at = {(p.node.name or p.node.op, p.node.step): p.centre for p in scene.nodes}
        product = next(
            p
            for p in scene.nodes
            if p.node.op == "multiply"
            and not p.node.name
            and p.node.step == "t=2"
            and p.centre[0] == at["i", "t=2"][0]
            and p.centre[1] < at["i", "t=2"][1]
        )
        assert at["g", "t=2"][0] == product.centre[0] and at["g", "t=2"][1] < product.centre[1]


@pytest.mark.parametrize("cell", ["mgu", "peephole"])
def test_a_state_of_a_step_that_is_left_out_shows_its_whole_gradient(cell):
    graph = network(cell, 6)
    scene = arrange(View("op", steps=(1, 5, 6)).of([graph])[0])
    dashed = {p.node.name: p.look.small for p in scene.nodes if (p.node.name or "").endswith("₄")}
    states = {n.name + "₄": n for n in graph.nodes if n.step == "t=4" and n.name in ("h", "c")}
    assert dashed == {name: narrow(number(norm_of(node.gradient, "l2")), 34.0) for name, node in states.items()}


def test_constants_are_part_of_their_symbol():
    texts = {m.text for m in marks_of(draw(network("mgu"), level="gate").drawing.items) if isinstance(m, Text)}
    assert "1−" in texts and not [
        g
        for g in draw(network("mgu"), level="gate").drawing.items
        if isinstance(g, Group) and g.node is not None and g.node.kind == "constant"
    ]
    assert "×0.1" in {
        m.text
        for m in marks_of(draw(network("mgu", loss="attention"), level="op").drawing.items)
        if isinstance(m, Text)
    }


def test_rows_end_with_the_whole_gradient_and_numbers_of_every_step():
    graph = network("peephole", 3)
    groups = [g for g in draw(graph, level="gate").drawing.items if isinstance(g, Group)]
    told = {
        g.node.name: [m.text for m in g.marks if isinstance(m, Text)][-1]
        for g in groups
        if g.node is not None and g.node.kind == "parameter"
    }
    leaves = [n for n in graph.nodes if n.kind == "parameter"]
    assert told == {n.name: number(norm_of(n.gradient)) for n in leaves}
    uses = Counter(g.edge.source for g in groups if g.edge is not None)
    assert set(uses.values()) >= {3}


def loops(names=("encoder", "decoder"), steps=3):
    x = np.random.default_rng(0).normal(size=(steps, 1, 3))
    encoder, decoder = tg.RNNCell(3, 4, rng=0), tg.RNNCell(3, 4, rng=1)
    with tg.scope(names[0]) if names else tg.scope("t=0"):
        _, h = tg.unroll(encoder, x)
    with tg.scope(names[1]) if names else tg.scope("t=0"):
        y, _ = tg.unroll(decoder, x, h)
    return tg.gradient_graph(tg.sum(y[-1] * y[-1]))


def test_a_second_loop_follows_the_first():
    cells = tg.RNNCell(3, 4, rng=0), tg.RNNCell(3, 4, rng=1)
    x = np.random.default_rng(0).normal(size=(3, 1, 3))
    _, h = tg.unroll(cells[0], x)
    y, _ = tg.unroll(cells[1], x, h)
    for graph in (tg.gradient_graph(tg.sum(y[-1] * y[-1])), loops()):
        scene = arrange(View("op").of([graph])[0], width=9999)
        h = sorted((p for p in scene.nodes if p.node.name == "h" and p.node.op), key=lambda p: p.node.id)
        assert [p.node.step for p in h] == ["t=1", "t=2", "t=3"] * 2
        assert [p.centre[0] for p in h] == sorted(p.centre[0] for p in h) and len({p.centre[1] for p in h}) == 1
        assert faults(draw(graph, level="op").drawing) == []


def test_a_loop_over_what_another_makes_at_equal_steps_stands_above_it():
    low, high = tg.RNNCell(3, 4, rng=0), tg.RNNCell(4, 4, rng=1)
    a, b = low.initial_state(1), high.initial_state(1)
    for t in range(3):
        with tg.scope(f"low/t={t + 1}"):
            a = low(np.ones((1, 3)), a)
        with tg.scope(f"high/t={t + 1}"):
            b = high(a, b)
    scene = arrange(View("op").of([tg.gradient_graph(tg.sum(b))])[0], width=9999)
    at = {p.node.scope: p.centre for p in scene.nodes if p.node.name == "h" and p.node.op}
    for t in (1, 2, 3):
        assert at[f"low/t={t}"][0] == at[f"high/t={t}"][0] and at[f"low/t={t}"][1] < at[f"high/t={t}"][1]


def test_a_loss_at_every_step_is_a_lane_on_top():
    graph = network("mgu", 3, "each")
    scene = arrange(View("op").of([graph])[0], width=9999)
    steps = [p for p in scene.nodes if p.node.step and p.node.op]
    lane = [p for p in scene.nodes if p.node.op and not p.node.step]
    assert lane and min(p.centre[1] for p in lane) > max(p.centre[1] for p in steps)
    for t in (1, 2):  # above its step: not to its right
        here = [p.centre[0] for p in steps if p.node.step == f"t={t + 1}"]
        assert sum(p.centre[0] < max(here) for p in lane) >= 3 * t


def test_what_no_time_orders_is_drawn_as_a_whole():
    h = first = tg.Tensor(np.ones((1, 2)), requires_grad=True, name="h0")
    for t in (2, 1):
        with tg.scope(f"t={t}"):
            h = tg.tanh(h * first)
    check_whole(tg.gradient_graph(tg.sum(h)), "op")


@pytest.mark.parametrize("cell", ["mgu", "coupled"])
def test_a_page_ends_a_line_and_steps_keep_their_width(cell):
    graph = network(cell, 6)
    picture = draw(graph, level="gate", page="slide")
    panels = [m.rect for m in marks_of(picture.drawing.items) if isinstance(m, Box) and m.fill == "panel"]
    assert len(panels) == 6 and len({round(r.top) for r in panels}) > 1
    widths = [r.right - r.left for r in panels]
    assert max(widths) == pytest.approx(min(widths))
    again = [g.name for g in picture.drawing.items if isinstance(g, Group) and "_again" in g.name]
    assert again and all(placed.tail.count("_again") == 0 for placed in arrange(View("gate").of([graph])[0]).edges)


@pytest.mark.parametrize(("width", "lines"), [(5000.0, 1), (400.0, 3)])
def test_what_a_line_needs_is_measured_once(monkeypatch, width, lines):
    """However often it is asked how wide it is: that is what takes the time of a picture."""
    measured = []
    monkeypatch.setattr(routes, "Channels", lambda *args: measured.append(1) or channels.Channels(*args))
    scene = arrange(View("gate", None).of([network("mgu", 3)])[0], width=width)
    rows = {round(frame.rect.top) for frame in scene.frames}
    assert len(rows) == lines and len(measured) == lines + (lines > 1)


@pytest.mark.parametrize(("cell", "steps"), [("mgu", 3), ("coupled", 2), ("unnamed", 4)])
def test_text_is_legible_on_a_slide(cell, steps):
    picture = draw(network(cell, steps), level="gate", page="slide")
    smallest = min(m.size for m in marks_of(picture.drawing.items) if isinstance(m, Text))
    assert smallest * 1280 / max(picture.drawing.rect.right - picture.drawing.rect.left, 1280 * 11 / 14) >= 13.4


NETS = st.fixed_dictionaries(
    {
        "cell": st.sampled_from(sorted(CELLS)),
        "steps": st.integers(1, 6),
        "loss": st.sampled_from(["last", "head", "all", "each", "attention"]),
        "batch": st.integers(1, 2),
        "seed": st.integers(0, 1000),
        "factor": st.sampled_from([0.001, 1.0, 30.0]),
        "given": st.booleans(),
    }
)
OPTIONS = st.fixed_dictionaries(
    {
        "level": st.sampled_from(["op", "gate", "step", "auto", 1, 2]),
        "parameters": st.sampled_from(["auto", "once", "step", "none"]),
        "page": st.sampled_from([None, "slide", "notebook", (1600, 900)]),
        "fold": st.sampled_from(["auto", 1, None]),
        "norm": st.sampled_from(["l2", "rms", "max"]),
        "heads": st.sampled_from(["gradient", "data"]),
    }
)


@settings(max_examples=12)
@given(NETS, OPTIONS)
def test_nothing_touches(net, options):
    assert faults(draw(network(**net), title="A title", **options).drawing) == []


@pytest.mark.slow
@settings(max_examples=100)
@given(NETS, OPTIONS)
def test_nothing_touches_in_a_hundred_pictures(net, options):
    assert faults(draw(network(**net), title="A title", **options).drawing) == []


def shared(steps=2):
    """Two states whose steps use one weight each, at places of which the second is drawn first."""
    w, x = Weights(np.random.default_rng(0)), np.random.default_rng(1).normal(size=(steps, 1, 2))
    h = s = tg.Tensor(np.zeros((1, SIZE)), name="h0")
    w("A", 2, SIZE), w("V", SIZE, SIZE)
    for t in range(1, steps + 1):
        with tg.scope(f"t={t}"):
            h, s = (named(tg.tanh(x[t - 1] @ w("A") + part @ w("V")), name) for part, name in ((h, "h"), (s, "s")))
    return tg.gradient_graph(tg.sum(h) + 10 * tg.sum(s))


def test_numbers_of_one_row_stand_in_the_order_of_their_dots():
    picture = draw(shared(), level="op")
    assert faults(picture.drawing) == []
    ((_, scene),) = picture.sight.rows
    label = {id(placed.edge): placed.label[0] for placed in scene.edges}
    rows = {}
    for (x, y), edge in scene.dots:
        rows.setdefault(y, []).append((x, label[id(edge)]))
    assert max(map(len, rows.values())) > 2
    for row in rows.values():
        dots, numbers = zip(*sorted(row), strict=True)
        assert list(numbers) == sorted(numbers) and all(n - x < 60.0 for x, n in row), dots


def gated(given="x", state="h", first="h0", learnt=False):
    """A cell with gates, whose input, state and first state have these names."""
    w = Weights(np.random.default_rng(0))
    h = tg.Tensor(np.ones((1, SIZE)), name=first, requires_grad=learnt)
    w.linear("f", np.zeros((1, 2)), h), w.linear("n", np.zeros((1, 2)), h)
    for t in (1, 2, 3):
        with tg.scope(f"t={t}"):
            x = tg.Tensor(np.full((1, 2), t / 3), name=given)
            f = gate("forget", "f", tg.sigmoid, lambda x=x, h=h: w.linear("f", x, h))
            n = gate("new", "n", tg.tanh, lambda x=x, h=h, f=f: w.linear("n", x, f * h))
            h = named((1 - f) * h + f * n, state)
    return tg.gradient_graph(tg.sum(h))


@pytest.mark.parametrize("level", ["op", "gate"])
@pytest.mark.parametrize(
    "names",
    [
        {},
        {"given": "h"},
        {"state": "s"},
        {"first": "W", "learnt": True},
        {"first": "init"},
        {"given": "h", "state": "h", "first": "x"},
    ],
)
def test_all_of_the_first_state_and_nothing_else_stands_before_the_first_step(names, level):
    graph = gated(**names)
    parts = cut(View(level, None).of([graph])[0])
    seen = View(level, None).of([graph])[0]
    before = {e.source for e, home, place in parts.uses if home[1] < place[1] and seen.nodes[e.source].op is None}
    (start,) = (n for n in seen.nodes if n.name == names.get("first", "h0"))
    assert before == {start.id}
    inside = [e for e, home, place in parts.uses if home == place and e.source == start.id and parts.steps[place[1]]]
    assert not inside and start.id not in {e.source for e, _ in parts.parameters}


@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize("level", ["op", "step"])
def test_a_first_state_that_the_loss_reads_too_is_drawn_once(learnt, level):
    """Its uses meet where it stands; a learnt one has no row beside its box."""
    weight = tg.Tensor(np.eye(3), requires_grad=True, name="W")
    first = s = tg.Tensor(np.ones((1, 3)), requires_grad=learnt, name="h0")
    for t in (1, 2, 3):
        with tg.scope(f"t={t}"):
            s = named(tg.tanh(s @ weight), "h")
    picture = draw(tg.sum(s) + tg.sum(first * first) + tg.sum(s * first), level=level, page="notebook")
    ((_, scene),) = picture.sight.rows
    found = [p for p in scene.nodes if p.node.name == "h0" and p.look.shape != "again"]
    assert len(found) == 1 and faults(picture.drawing) == []
    assert sum(placed.tail == found[0].id for placed in scene.edges) == (4 if learnt and level == "op" else 2)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.parametrize(("first", "state"), [("h0", "h"), ("s0", "s"), ("start", "h"), ("m", "m")])
def test_whole_steps_begin_with_their_first_state_whatever_its_name(first, state, learnt, steps):
    """Inputs, of which every step has one of its own, are left out; so are weights."""
    weight = tg.Tensor(np.eye(3), requires_grad=True, name="W")
    s = tg.Tensor(np.ones((1, 3)), requires_grad=learnt, name=first)
    inputs = [tg.Tensor(np.ones((1, 3)), name=f"input{t}") for t in range(steps)]
    for t, x in enumerate(inputs, 1):
        with tg.scope(f"t={t}"):
            s = named(tg.tanh(s @ weight + x), state)
    ((_, scene),) = draw(tg.sum(s), level="step").sight.rows
    leaves = [p for p in scene.nodes if p.node.op is None and p.node.kind != "loss" and not p.node.members]
    if steps == 1 and first == "start":  # of one step, a thing like any other that it is given
        assert leaves == []
        return
    assert [p.node.name for p in leaves] == [first]
    assert all(leaves[0].rect.right < p.rect.left for p in scene.nodes if p.node.members)


@pytest.mark.parametrize("at", [0, 2, 3])
def test_what_one_step_alone_is_given_is_no_first_state_unless_it_looks_like_one(at):
    """Weights of one step each, and an input of one step in the middle, are left out of whole steps."""
    s = tg.Tensor(np.ones((1, 3)), requires_grad=True, name="h0")
    kick = tg.Tensor(np.ones((1, 3) if at == 2 else (1, 1)), requires_grad=True, name="kick")
    for t in range(4):
        weight = tg.Tensor(np.eye(3), requires_grad=True, name="W" + "abcd"[t])
        with tg.scope(f"t={t + 1}"):
            s = named(tg.tanh(s @ weight + (kick if t == at else 0.0)), "h")
    ((_, scene),) = draw(tg.sum(s), level="step").sight.rows
    assert [p.node.name for p in scene.nodes if p.node.op is None and not p.node.members] == ["h0"]


def test_ends_that_are_cut_off_begin_with_their_first_states():
    outputs, _ = tg.unroll(tg.LSTMCell(2, 3, rng=0), np.ones((30, 1, 2)))
    seen = View("op", 1).of([tg.gradient_graph(tg.sum(outputs[-1]))])[0]
    before = {seen.nodes[e.source].name for e, home, place in cut(seen).uses if home[1] < place[1] == 1}
    assert before == {"h0", "c0"}


def test_long_names_of_parameters_have_room_at_the_end_of_their_rows():
    with tg.scope("encoder"):
        outputs, h = tg.unroll(tg.RNNCell(2, 3, rng=0), np.ones((2, 1, 2)))
    with tg.scope("decoder"):
        outputs, _ = tg.unroll(tg.RNNCell(3, 3, rng=1), np.ones((2, 1, 3)), h)
    picture = draw(tg.sum(outputs * outputs))
    assert faults(picture.drawing) == []
    assert any(text.text == "decoder.W_hh" for text in marks_of(picture.drawing.items) if isinstance(text, Text))
