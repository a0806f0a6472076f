"""Our own SVG says what an engine makes of our DOT; no engine is asked where anything stands."""

import itertools
import re
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
from touching import faults

import tinygrad_rnn as tg
from tinygrad_rnn.draw import draw, engine, svg
from tinygrad_rnn.draw.layout import arrange
from tinygrad_rnn.draw.marks import Group, Way

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>\"' & ]]>",
    "]; evil [label=x",
    "a\\nb\\",
    "-> { } ; = ,",
    "<b>x</b>",
    "é ∂L/∂h ﷽",
    "",
]


def unrolled(kind="lstm", steps=3, seed=0):
    rng = np.random.default_rng(seed)
    outputs, _ = tg.unroll(
        (tg.LSTMCell if kind == "lstm" else tg.RNNCell)(3, 4, rng=seed), rng.normal(size=(steps, 2, 3))
    )
    return tg.gradient_graph(tg.mse_loss(outputs, rng.normal(size=outputs.shape)))


def foreign():
    x = tg.Tensor(np.ones((3, 2)), requires_grad=True, name="x")
    with tg.scope("encoder"):
        h = tg.tanh(x * 2.0)
        with tg.scope("gate"):
            k = tg.sigmoid(h * h + x)
    return tg.gradient_graph(tg.sum(tg.exp(k) * h))


def paint(root):
    """The rules of the style sheet: class -> colour of each property."""
    style = root.find(f"{SVG}style").text
    return {(name, what): colour for name, what, colour in re.findall(r" \.(\w+)\{(\w+):(#\w+|none)", style)}


# --- the writer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "options"),
    [
        (unrolled("lstm", 2), {"level": "op"}),
        (unrolled("lstm", 30), {"theme": "dark"}),
        (unrolled("lstm", 12), {"level": "step", "fold": 2}),
        (unrolled("rnn", 3), {"parameters": "once"}),
        (foreign(), {}),
        ({"RNN": unrolled("rnn", 2), "LSTM": unrolled("lstm", 2)}, {"level": "gate", "title": "Two"}),
    ],
    ids=["op", "long", "fold", "rnn", "foreign", "two"],
)
def test_both_writers_say_the_same(graph, options):
    """Our SVG, and what an engine makes of our DOT: the same words, colours and widths at the same places."""
    picture = draw(graph, **options)
    own = ElementTree.fromstring(picture.svg())
    other = ElementTree.fromstring(engine.run(picture.dot, "svg", "-Kneato", "-n2"))
    shift = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", other.find(f"{SVG}g").get("transform"))
    left, top, width, height = map(float, own.get("viewBox").split())
    assert (width, height) == pytest.approx([float(v) for v in other.get("viewBox").split()[2:]], abs=40)
    assert (left, top) == pytest.approx([-float(v) for v in shift.groups()], abs=40)

    def words(root):
        rows = (
            (t.text.replace("\xa0", " ").replace("−", "-").strip(), float(t.get("x")), float(t.get("y")))
            for t in root.iter(f"{SVG}text")
        )
        found = (row for row in rows if row[0])
        return sorted(found, key=lambda word: (word[0], round(word[1]), round(word[2])))

    mine, theirs = words(own), words(other)
    assert [word for word, *_ in mine] == [word for word, *_ in theirs]
    assert max(abs(theirs[k][2] - mine[k][2]) for k in range(len(mine))) < 2.0
    colours = paint(own)
    drawn = Counter(
        (colours[path.get("class").split()[1], "stroke"], float(path.get("stroke-width")))
        for group in own.iter(f"{SVG}g")
        if group.get("class") in ("e", "d") and (group.get("class") == "e" or "line" in group.get("id"))
        for path in group.findall(f"{SVG}path")[:1]
    )
    real = Counter(
        (path.get("stroke"), float(path.get("stroke-width", "1")))
        for group in other.iter(f"{SVG}g")
        if group.get("class") == "edge" and not re.match("mark|e\\d", group.find(f"{SVG}title").text)
        for path in [*group.iter(f"{SVG}path")][:1]
    )
    assert drawn == real
    assert len(drawn) > 1


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name):
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name=name)
    with tg.scope(name or "s"):
        y = x * x
    text = svg.svg(draw(tg.sum(y), title=name).drawing, title=name, description=name)
    root = ElementTree.fromstring(text)
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= set(
        "svg title desc style rect ellipse g path text".split()
    )
    assert root.find(f"{SVG}desc").text == (name or None)
    assert not any(attribute.startswith("on") for e in root.iter() for attribute in e.attrib)


def test_ids_are_unique_and_pictures_share_a_page():
    one, other = (draw(unrolled("rnn", 2), theme=theme) for theme in ("light", "dark"))
    both = [one.svg(), other.svg()]
    ids = [e.get("id") for text in both for e in ElementTree.fromstring(text).iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    first = ElementTree.fromstring(both[0])
    rules = first.find(f"{SVG}style").text.strip().splitlines()
    assert draw(unrolled("rnn", 2)).svg() == both[0]
    assert all(rule.startswith(f"#{first.get('id')}") for rule in rules)
    assert "light-dark" not in both[0]
    assert "var(" not in "".join(both)  # which other renderers do not know
    assert first.get("role") == "img" and first.get("aria-labelledby").split()[0] in ids


def test_every_edge_state_is_drawn():
    x = tg.Tensor([1e5, 0.0], requires_grad=True, name="x")
    with np.errstate(all="ignore"):
        picture = draw(tg.sum(x * np.array([np.inf, 1.0]) * x * 1e-310))
    text = picture.svg()
    assert "NaN or infinite" in text and "needs no gradient" in text and ' dash"' in text
    assert "exactly zero" not in text  # of what does not occur, the legend says nothing


def test_every_edge_and_box_has_a_tooltip():
    graph = unrolled("lstm", 2)
    root = ElementTree.fromstring(draw(graph, level="op").svg())
    tips = [g.find(f"{SVG}title").text for g in root.iter(f"{SVG}g") if g.get("class") == "e"]
    assert len(tips) == len(graph.edges) and all("operand" in tip for tip in tips)
    assert all(g.find(f"{SVG}title") is not None for g in root.iter(f"{SVG}g"))


# --- the layout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_boxes_keep_apart_and_edges_run_from_border_to_border(seed):
    rng = np.random.default_rng(seed)
    tensors = [tg.Tensor(rng.normal(size=2), requires_grad=True) for _ in range(3)]
    for _ in range(int(rng.integers(2, 25))):
        a, b = (tensors[k] for k in rng.integers(0, len(tensors), 2))
        tensors.append([a + b, a * b, tg.tanh(a)][rng.integers(3)])
    graph = tg.gradient_graph(tg.sum(sum(tensors[-3:])))
    scene = arrange(graph)
    rects = {p.id: p.rect for p in scene.nodes}
    assert len(scene.edges) == len(graph.edges)
    for one, other in itertools.combinations(rects.values(), 2):
        assert one.grown(2.0).overlap(other.grown(2.0)) == 0.0
    for placed in scene.edges:
        for end, name, side in ((placed.curve[0], placed.tail, "right"), (placed.curve[-1], placed.head, "left")):
            rect = rects[name]
            bars = [r.right for r in scene.spines]
            if side == "left" or not any(end[0] == pytest.approx(x) for x in bars):
                assert end[0] == pytest.approx(getattr(rect, side), abs=0.02)
                assert rect.bottom <= end[1] <= rect.top
    assert faults(draw(graph).drawing) == []
    assert [p.centre for p in arrange(graph).nodes] == [p.centre for p in scene.nodes]


@pytest.fixture
def no_engine(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "embedded", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TINYGRAD_RNN_DOT", raising=False)


def test_draw_writes_svg_without_any_engine(tmp_path, no_engine):
    picture = draw(foreign(), tmp_path / "a.svg", title="No engine")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert "No engine" in [t.text for t in root.iter(f"{SVG}text")]
    assert len([g for g in root.iter(f"{SVG}g") if g.get("class") == "e"]) == len(foreign().edges)
    assert picture._repr_mimebundle_()["image/svg+xml"].startswith("<svg")


GRADIENTS = {"above 1000": 1e6, "NaN or infinite": np.nan, "exactly zero": 0.0, "underflow": 1e-310, "": 1.0}


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("kinds", [*itertools.combinations(GRADIENTS, 2)])
def test_the_legend_names_every_kind_of_edge_that_occurs_and_no_other(kinds, constant):
    """In whichever of several pictures; the colour bar explains what is finite, and not above it."""
    graphs = {}
    for kind in kinds:
        x, seed = tg.Tensor(np.ones(2), requires_grad=True, name="x"), np.full(2, GRADIENTS[kind])
        with np.errstate(all="ignore"):
            graphs[f"of {len(graphs)}"] = tg.gradient_graph(x * 1.0 if constant else -x, seed)
    texts = [e.text for e in ElementTree.fromstring(draw(graphs).svg()).iter(f"{SVG}text")]
    named = [text for text in texts if text in {*GRADIENTS, "needs no gradient"}]
    assert named == [kind for kind in kinds if kind] + ["needs no gradient"] * constant


@pytest.mark.parametrize("heads", ["gradient", "data"])
def test_in_dot_a_head_is_at_the_end_of_its_line_where_the_picture_has_it(heads):
    """`s` or `e` in a position is where the head's tip stands: beside the first point of the line or the last one."""
    picture = draw(unrolled("lstm", 2), heads=heads)
    ends = {}
    for group in picture.drawing.items:
        if isinstance(group, Group) and group.kind == "edge":
            way = next(mark for mark in group.marks if isinstance(mark, Way))
            at_head = way.style.head in ("open", "forward")
            tip = way.curve[-1] if at_head else way.curve[0]
            ends.setdefault((group.tail, group.head), []).append(("e" if at_head else "s", *tip))
    found = {}
    line = r'^\t"?([\w:]+)"? -> "?([\w:]+)"? \[.*?pos="([se]),(-?[\d.]+),(-?[\d.]+) '
    for tail, head, kind, x, y in re.findall(line, picture.dot, re.MULTILINE | re.DOTALL):
        found.setdefault((tail, head), []).append((kind, float(x), float(y)))
    for key, places in ends.items():
        assert [kind for kind, *_ in found[key]] == [kind for kind, *_ in places]
        np.testing.assert_allclose([at for _, *at in found[key]], [at for _, *at in places], atol=0.01)
    kinds = {kind for places in ends.values() for kind, *_ in places}
    assert kinds == {"s", "e"}  # of both there is something, whichever way the heads of what has a gradient point
