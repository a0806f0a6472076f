"""Our own SVG is the engine's picture, line for line; our own layout is plain and still right."""

import re
from collections import Counter
from xml.etree import ElementTree

import graphviz
import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.draw import draw, engine, ranks, svg
from tinygrad_rnn.draw.layout import arrange

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


# --- reading DOT -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_reader_gets_back_what_the_dot_writer_was_given(name):
    source = graphviz.Digraph("g")
    source.attr("node", fontsize="9")
    source.node("n1", graphviz.escape(name), tooltip=graphviz.escape(name), pos="1,2")
    with source.subgraph(name="cluster_0") as cluster:
        cluster.attr(bb="0,0,1,1", tooltip=graphviz.escape(name))
        cluster.node("n2")
    source.edge("n1", "n2", edgetooltip=graphviz.escape(name))
    dot = svg.read(str(source.source))
    assert list(dot.nodes) == ["n1", "n2"] and dot.nodes["n2"]["fontsize"] == "9"
    assert svg.lines(dot.nodes["n1"]["label"]) == [(name, "n")]
    assert svg.plain(dot.nodes["n1"]["tooltip"]) == svg.plain(dot.edges[0][2]["edgetooltip"]) == name
    assert dot.edges[0][:2] == ("n1", "n2")
    assert dot.homes["n2"].name == "cluster_0" and dot.groups[0].attributes["bb"] == "0,0,1,1"


def test_lines_know_their_anchors():
    assert svg.lines(r"left\lright\rmiddle\nlast") == [("left", "l"), ("right", "r"), ("middle", "n"), ("last", "n")]
    assert svg.lines(r"back\\slash\l") == [("back\\slash", "l")]
    assert svg.lines("big\\n ") == [("big", "n"), (" ", "n")]


# --- the writer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "options"),
    [
        (unrolled("lstm", 2), {"level": "op"}),
        (unrolled("lstm", 12), {"level": "step", "theme": "dark"}),
        (unrolled("rnn", 3), {"parameters": "once"}),
        (foreign(), {}),
        ({"RNN": unrolled("rnn", 2), "LSTM": unrolled("lstm", 2)}, {"level": "gate", "title": "Two"}),
    ],
    ids=["op", "fold", "rnn", "foreign", "two"],
)
def test_same_picture_as_the_engine(graph, options):
    picture = draw(graph, **options)
    own, other = (ElementTree.fromstring(text) for text in (svg.svg(picture.dot), picture.svg()))
    shift = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", other.find(f"{SVG}g").get("transform"))
    left, top, width, height = map(float, own.get("viewBox").split())
    assert (width, height) == pytest.approx([float(v) for v in other.get("viewBox").split()[2:]], abs=40)
    assert (left, top) == pytest.approx([-float(v) for v in shift.groups()], abs=40)

    def words(root):
        rows = (
            (t.text.replace("\xa0", " ").strip(), float(t.get("x")), float(t.get("y"))) for t in root.iter(f"{SVG}text")
        )
        found = (row for row in rows if row[0])
        return sorted(found, key=lambda word: (word[0], round(word[1]), round(word[2])))

    mine, theirs = words(own), words(other)
    assert [word for word, *_ in mine] == [word for word, *_ in theirs]
    middle = [k for k, t in enumerate(theirs) if abs(t[1] - mine[k][1]) < 1.0]
    assert len(middle) > 0.9 * len(mine)  # the engine sets a text at the left by its own estimate of the width
    assert max(abs(theirs[k][2] - mine[k][2]) for k in middle) < 1.0
    colours = paint(own)
    drawn = Counter(
        (colours[path.get("class").split()[0], "stroke"], float(path.get("stroke-width")))
        for group in own.iter(f"{SVG}g")
        if group.get("class") == "e"
        for path in group.findall(f"{SVG}path")
        if path.get("d").count("C") == 1
    )
    real = Counter(
        (path.get("stroke"), float(path.get("stroke-width", "1")))
        for group in other.iter(f"{SVG}g")
        if group.get("class") == "edge" and not group.find(f"{SVG}title").text.startswith("sample")
        for path in [*group.iter(f"{SVG}path")][:1]
    )
    assert drawn == real
    assert len(drawn) > 3


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name):
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name=name)
    with tg.scope(name or "s"):
        y = x * x
    text = svg.svg(draw(tg.sum(y), title=name).dot, title=name, description=name)
    root = ElementTree.fromstring(text)
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= set(
        "svg title desc style rect ellipse g path text".split()
    )
    assert root.find(f"{SVG}desc").text == (name or None)
    assert not any(attribute.startswith("on") for e in root.iter() for attribute in e.attrib)


def test_colours_that_are_none_do_not_reach_the_style_sheet():
    source = 'digraph { n [shape=box style=filled fillcolor="red}*{color:red" width=1 height=1 pos="0,0"] }'
    page = svg.elements(svg.read(source), svg.read(source), palette := svg.Palette())
    assert "red" not in page.markup + palette.css("#a")


def test_ids_are_unique_and_pictures_share_a_page():
    one, other = (draw(unrolled("rnn", 2), theme=theme) for theme in ("light", "dark"))
    both = [svg.svg(one.dot), svg.svg(other.dot)]
    ids = [e.get("id") for text in both for e in ElementTree.fromstring(text).iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    first = ElementTree.fromstring(both[0])
    rules = first.find(f"{SVG}style").text.strip().splitlines()
    assert svg.svg(one.dot) == both[0]
    follows = svg.svg(one.dot, dark=other.dot)
    rules += ElementTree.fromstring(follows).find(f"{SVG}style").text.strip().splitlines()
    assert all(rule.startswith(f"#{first.get('id')}") for rule in rules)
    assert f"light-dark({'#ffffff'},{'#0d1117'})" in follows and "light-dark" not in both[0]
    assert first.get("role") == "img" and first.get("aria-labelledby").split()[0] in ids


def test_every_edge_state_is_drawn():
    x = tg.Tensor([1e5, 0.0], requires_grad=True, name="x")
    text = svg.svg(draw(tg.sum(x * np.array([np.inf, 1.0]) * x * 1e-310)).dot)
    assert ' dot"' in text and ' dash"' in text  # the legend at least
    assert ElementTree.fromstring(text) is not None


# --- the layout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_placed_nodes_keep_apart_and_edges_run_from_border_to_border(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 25))
    pairs = [(int(s), t) for t in range(1, count) for s in rng.choice(t, size=min(t, 2), replace=False)]
    rows = [f"n{k} [width={rng.uniform(0.3, 1):.2f} height={rng.uniform(0.2, 0.6):.2f}]" for k in range(count)]
    rows += [f"n{s} -> n{t} [id=e{e}]" for e, (s, t) in enumerate(pairs)]
    source = "digraph {\ngraph [rankdir=LR nodesep=0.2]\n" + ";\n".join(rows) + "\n}\n"
    found, dot = ranks.place(source), svg.read(source)
    centres = {o["name"]: tuple(map(float, o["pos"].split(","))) for o in found["objects"]}
    sizes = {n: tuple(72 * float(a[side]) for side in ("width", "height")) for n, a in dot.nodes.items()}
    names = list(centres)
    for k, one in enumerate(names):
        for other in names[:k]:
            gaps = [abs(centres[one][i] - centres[other][i]) - (sizes[one][i] + sizes[other][i]) / 2 for i in (0, 1)]
            assert max(gaps) > 5.0, (one, other)
    assert [edge["id"] for edge in found["edges"]] == [f"e{e}" for e in range(len(pairs))]
    for (s, t), edge in zip(pairs, found["edges"], strict=True):
        points = [tuple(map(float, p.split(","))) for p in edge["pos"].split()]
        assert len(points) % 3 == 1
        assert points[0] == pytest.approx((centres[f"n{s}"][0] + sizes[f"n{s}"][0] / 2, centres[f"n{s}"][1]), abs=0.02)
        assert points[-1] == pytest.approx((centres[f"n{t}"][0] - sizes[f"n{t}"][0] / 2, centres[f"n{t}"][1]), abs=0.02)
    assert ranks.place(source) == found


def test_ranks_and_frames_are_kept():
    source = "digraph { i [height=0.1]; a; b; c; o; z; subgraph cluster_3 { a; subgraph cluster_4 { b } } "
    source += "{rank=min; i}\n{rank=same; a; b}\n{rank=max; o} "
    source += "i -> a; a -> b; b -> o; c -> o; i -> c [minlen=3]; a -> z [minlen=9] }"
    found = {o["name"]: o for o in ranks.place(source)["objects"]}
    x = {name: float(o["pos"].split(",")[0]) for name, o in found.items() if "pos" in o}
    assert x["i"] < x["a"] == x["b"] < x["c"] < x["o"] == x["z"]
    outer, inner = ([float(v) for v in found[name]["bb"].split(",")] for name in ("cluster_3", "cluster_4"))
    assert outer[0] < inner[0] and outer[1] < inner[1] and outer[2] > inner[2] and outer[3] > inner[3]


@pytest.mark.parametrize(
    "graph", [unrolled("lstm", 2), unrolled("rnn", 20), foreign()], ids=["lstm", "fold", "foreign"]
)
def test_every_picture_can_be_laid_out_without_an_engine(graph, monkeypatch):
    with_engine = Counter(p.node.id for p in arrange(graph).nodes)
    monkeypatch.setattr(engine, "layout", ranks.place)
    scene = arrange(graph)
    assert Counter(p.node.id for p in scene.nodes) == with_engine
    frames = {k for k, frame in enumerate(scene.frames) if frame.parent is None}
    for placed in scene.nodes:
        for other in scene.nodes:
            if placed.id < other.id and placed.frame == other.frame and placed.frame in frames:
                assert placed.rect.overlap(other.rect) == 0.0, (placed.id, other.id)
    ElementTree.fromstring(svg.svg(draw(graph).dot))


@pytest.fixture
def no_engine(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "embedded", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TINYGRAD_RNN_DOT", raising=False)


def test_draw_writes_svg_without_any_engine(tmp_path, no_engine):
    with pytest.warns(UserWarning, match="pip install graphviz-pure"):
        picture = draw(foreign(), tmp_path / "a.svg", title="No engine")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert "No engine" in [t.text for t in root.iter(f"{SVG}text")]
    assert len([g for g in root.iter(f"{SVG}g") if g.get("class") == "e"]) == len(foreign().edges)
    assert picture._repr_mimebundle_()["image/svg+xml"].startswith("<svg")
