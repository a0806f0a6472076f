"""Expressions of numbers: the sign and value on the picture are the engine's, sums are written out, nothing touches."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.draw import draw
from tinygrad_rnn.draw.cards import digits
from tinygrad_rnn.draw.marks import Box, Group, Text, Way, marks_of

OPS = {
    "+": lambda a, b: a + b,
    "−": lambda a, b: a - b,
    "×": lambda a, b: a * b,
    "tanh": lambda a, b: tg.tanh(a),
    "relu": lambda a, b: tg.relu(b),
    "exp": lambda a, b: tg.exp(a * 0.1),
}


@st.composite
def expressions(draw):
    """A loss and its leaves: a few numbers, used again and again."""
    values = draw(st.lists(st.integers(-3, 3), min_size=1, max_size=3))
    leaves = [tg.Tensor(float(v), requires_grad=True, name="abc"[k]) for k, v in enumerate(values)]
    nodes = list(leaves)
    for op in draw(st.lists(st.sampled_from(sorted(OPS)), min_size=1, max_size=6)):
        nodes.append(OPS[op](draw(st.sampled_from(nodes)), draw(st.sampled_from(nodes))))
    loss = nodes[-1]
    for node in nodes[:-1]:
        loss = loss + node if draw(st.booleans()) else loss
    return (loss if loss not in leaves else loss + loss), leaves


def number_of(text):
    return float(text.replace("−", "-"))


@settings(max_examples=60)
@given(expressions())
def test_every_number_is_the_engines_with_its_sign(drawn):
    loss, leaves = drawn
    graph = tg.gradient_graph(loss)
    loss.backward()
    groups = [item for item in draw(graph).drawing.items if isinstance(item, Group)]
    assert len([g for g in groups if g.edge]) == len(graph.edges)
    for group in groups:
        texts = [mark.text for mark in group.marks if isinstance(mark, Text)]
        if group.edge is not None:
            (way,) = [mark for mark in group.marks if isinstance(mark, Way)]
            if group.edge.contribution is None:
                assert texts == [] and way.style.head == "open"
                continue
            value = float(group.edge.contribution)
            assert number_of(texts[0]) == pytest.approx(value, rel=0.06) and group.edge.signed == value
            assert way.style.color == ("positive" if value > 0 else "negative" if value < 0 else "muted")
            assert texts[0][0] == ("+" if value > 0 else "−" if value < 0 else "0")
        elif group.node is not None and group.node.gradient is not None:
            gradient = float(group.node.gradient)
            assert number_of(texts[texts.index("gradient") + 1]) == pytest.approx(gradient, rel=0.06)
            assert number_of(texts[texts.index("value") + 1]) == pytest.approx(float(group.node.value), rel=0.06)
            uses = [e for e in graph.edges_from(group.node)]
            if len(uses) > 1:
                assert texts[-1].endswith("uses add up") and texts[-2].endswith(f"= {digits(gradient)}")
    for leaf in leaves:
        shown = [g for g in groups if g.node is not None and g.node.name == leaf.name]
        if shown:
            assert float(shown[0].node.gradient) == float(leaf.grad)


def faults(drawing):
    """Texts that touch each other, lines through numbers of edges, texts half on a box."""
    texts = [mark for mark in marks_of(drawing.items) if isinstance(mark, Text)]
    boxes = [mark.rect for mark in marks_of(drawing.items) if isinstance(mark, Box) and mark.radius]
    found = [(a.text, b.text) for a, b in itertools.combinations(texts, 2) if a.rect.overlap(b.rect) > 0.5]
    for text, box in itertools.product(texts, boxes):
        whole = (text.rect.right - text.rect.left) * (text.rect.top - text.rect.bottom)
        if 1.0 < text.rect.overlap(box) < whole - 1.0:
            found.append((text.text, box))
    return found


FIRST = {
    "used twice": lambda a, b, c: a * a,
    "and itself": lambda a, b, c: a * a + a,
    "micrograd": lambda a, b, c: (a * b + c) * a,
    "neuron": lambda a, b, c: tg.tanh(a * b + c * 2.0 + b),
    "chain": lambda a, b, c: tg.exp(tg.tanh(tg.sigmoid(a * b))) - c,
    "quotient": lambda a, b, c: (a - b) / (c * c + 1.0),
    "crossing": lambda a, b, c: (a + b) * (a - b) * (b - a) + (a + b),
    "thrice": lambda a, b, c: a * b * a + b / a + tg.exp(a),
    "two ways": lambda a, b, c: tg.relu(a * b + b * b * b) + tg.relu(b - a) * 2.0 + tg.sigmoid(a + b),
    "branches": lambda a, b, c: (a * b + a) * (a * b + a) + tg.tanh(a * b) * 2.0,
}


@pytest.mark.parametrize("f", FIRST.values(), ids=FIRST)
def test_no_text_touches_another_or_lies_half_on_a_card(f):
    leaves = [tg.Tensor(v, requires_grad=True, name=n) for v, n in ((2.0, "a"), (-1.0, "b"), (3.0, "c"))]
    assert faults(draw(f(*leaves), title="A title").drawing) == []


def test_a_shared_number_has_its_sum_written_out():
    a, b, c = (tg.Tensor(v, requires_grad=True, name=n) for v, n in ((2.0, "a"), (-1.0, "b"), (3.0, "c")))
    loss = (a * b + c) * a
    loss.name = "L"
    svg = draw(loss).svg()
    assert "−2 + 1 = −1" in svg and "two uses add up" in svg and ">L = (…) × a<" not in svg
    assert "positive: a little more raises L" in svg and "negative: a little more lowers L" in svg
    assert "exactly zero" not in svg and "L2 norm" not in svg


@pytest.mark.parametrize("uses", range(2, 9))
def test_a_sum_has_all_its_terms_or_the_first_three_and_says_so(uses):
    """What comes back along the edges, in their order; of more than five the rest is three dots."""
    x = tg.Tensor(1.0, requires_grad=True, name="x")
    graph = tg.gradient_graph(sum((x * float(k) for k in range(2, uses + 1)), start=x * -1.0))
    signed = [edge.signed for edge in graph.edges_from(graph.node_of(x))]
    terms = [digits(signed[0], plus=True), *(f"+ {digits(s)}" if s > 0 else f"− {digits(-s)}" for s in signed[1:])]
    shown = terms if uses <= 5 else [*terms[:3], "+ …"]
    texts = [mark.text for mark in marks_of(draw(graph).drawing.items) if isinstance(mark, Text)]
    assert len(terms) == uses and f"{' '.join(shown)} = {digits(sum(signed))}" in texts


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.0, "+2"), (-0.5, "−0.5"), (0.0, "0"), (0.70710678, "+0.707"), (-4.92e-5, "−4.9e−5"), (12345.0, "+12345")],
)
def test_digits(value, text):
    assert digits(value, plus=True) == text
    assert digits(np.inf) == "inf" and digits(-np.inf) == "−inf" and digits(np.nan) == "NaN"


def test_table_tooltip_and_json_have_the_sign():
    x, w = tg.Tensor(2.0, requires_grad=True, name="x"), tg.Tensor(-3.0, requires_grad=True, name="w")
    graph = tg.gradient_graph(x * w)
    assert "-3" in graph.table() and "gradient −3" in draw(graph).svg()
    assert [edge["contribution"] for edge in json.loads(graph.to_json())["edges"]] == [-3.0, 2.0]
    arrays = tg.gradient_graph(tg.sum(tg.Tensor([1.0, -2.0], requires_grad=True, name="x") * 2.0))
    assert "contribution" not in json.loads(arrays.to_json())["edges"][0]
    assert "2.83" in arrays.table()


def test_many_numbers_are_boxes_again():
    total = x = tg.Tensor(1.0, requires_grad=True, name="x")
    for _ in range(50):
        total = total * 1.01
    scene = draw(total + x).drawing
    assert not any(isinstance(m, Text) and m.text == "gradient" for m in marks_of(scene.items))
