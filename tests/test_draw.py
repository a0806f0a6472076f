"""The picture tells the truth: its numbers are the graph's, its states look different, its files are whole."""

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from touching import faults

import tinygrad_rnn as tg
from tinygrad_rnn.draw import NoRenderer, Scale, draw, engine
from tinygrad_rnn.draw.layout import arrange
from tinygrad_rnn.draw.marks import Group, Text
from tinygrad_rnn.draw.paint import NORMS
from tinygrad_rnn.draw.style import look, number
from tinygrad_rnn.draw.view import View
from tinygrad_rnn.graph.collapse import collapse
from tinygrad_rnn.norms import norm_of

GOLDEN = Path(__file__).parent / "golden"


def unrolled(kind="lstm", steps=3, loss="all", seed=0):
    """A gradient graph: `loss` "last" uses the last state only, "all" uses every output."""
    rng = np.random.default_rng(seed)
    cell = (tg.LSTMCell if kind == "lstm" else tg.RNNCell)(3, 4, rng=seed)
    outputs, state = tg.unroll(cell, rng.normal(size=(steps, 2, 3)))
    h = state[0] if kind == "lstm" else state
    return tg.gradient_graph(tg.sum(h * h) if loss == "last" else tg.mse_loss(outputs, rng.normal(size=outputs.shape)))


def placed(picture):
    """What the engine reads in the DOT source: (names by id, edges)."""
    found = json.loads(engine.run(picture.dot, "json", "-Kneato", "-n2"))
    return {o["_gvid"]: o["name"] for o in found["objects"]}, found["edges"]


def node_id(name):
    """The graph's id in a DOT name: ``g1n12_3`` is a copy, in cell 3, of node 12 of the second graph."""
    return int(name.split("n", 1)[1].split("_")[0])


# --- the numbers of the picture --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["l2", "rms", "max"])
@pytest.mark.parametrize("level", ["op", "gate", "step"])
def test_labels_are_the_norms_of_the_contributions(level, norm):
    graph = collapse(unrolled(steps=2), level)
    names, edges = placed(draw(graph, norm=norm, level="op"))
    drawn = Counter()
    for edge in edges:
        tail, head = names[edge["tail"]], names[edge["head"]]
        if not tail.startswith("mark"):
            drawn[node_id(tail), node_id(head), edge.get("label", "").split(" ")[-1]] += 1
    expected = Counter()
    for edge in graph.edges:
        if edge.internal:
            continue
        text = ""
        if edge.contribution is not None:
            flat = edge.contribution.ravel()
            value = {"l2": np.linalg.norm(flat), "rms": np.sqrt(np.mean(flat**2)), "max": np.abs(flat).max()}[norm]
            text = number(float(value))
        expected[edge.source, edge.target, text] += 1
    assert drawn == expected
    assert len([e for e in expected if e[2]]) > 5


@pytest.mark.parametrize("level", ["op", "gate"])
def test_states_tell_their_whole_gradient(level):
    graph = unrolled(steps=2)
    picture = draw(graph, level=level)
    groups = [item for item in picture.drawing.items if isinstance(item, Group) and item.node is not None]
    for name, t in itertools.product("ch", (1, 2)):
        (group,) = [g for g in groups if g.node.name == name and g.node.step == f"t={t}" and "again" not in g.name]
        assert number(norm_of(group.node.gradient)) in [m.text for m in group.marks if isinstance(m, Text)]


def test_both_uses_of_an_operand_are_drawn():
    x = tg.Tensor(3.0, requires_grad=True, name="x")
    _, edges = placed(draw(x * x))
    assert [edge["label"] for edge in edges if edge.get("label")] == ["+3", "+3"]


def test_tooltips_name_rule_shape_and_gradient():
    svg = draw(unrolled("rnn", 2)).svg()
    assert "g × (1 − y²)" in svg and "shape (2, 4), float64" in svg and "(L2 norm)" in svg


def test_two_pictures_share_one_scale():
    graphs = {"RNN": unrolled("rnn", 2), "LSTM": unrolled("lstm", 2)}
    both = draw(graphs)
    alone = draw(graphs["LSTM"], scale=both.scale)
    colours = [
        Counter(e["color"] for e in placed(p)[1] if "n" in e["color"] or e["color"][0] == "#") for p in (both, alone)
    ]
    assert not colours[1] - colours[0]
    names, _ = placed(both)
    assert {name[:2] for name in names.values() if name[0] == "g"} == {"g0", "g1"}


# --- layout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "level"), [("rnn", "op"), ("lstm", "op"), ("lstm", "gate"), ("lstm", "step")])
def test_steps_are_alike_and_run_to_the_right(kind, level):
    scene = arrange(View(level, fold=None).of([unrolled(kind, 4, "last")])[0], width=9999)
    cells = {}
    for p in scene.nodes:
        step = p.node.step or (f"t={p.id.split('_')[1]}" if "_" in p.id else None)  # a copy tells its cell
        if step:
            cells.setdefault(step, []).append((p.centre, p.look.width, p.look.height, p.node.op))
    left = [min(c[0][0] for c in cells[f"t={t}"]) for t in range(1, 5)]
    right = [max(c[0][0] for c in cells[f"t={t}"]) for t in range(1, 5)]
    assert all(r < x for r, x in zip(right, left[1:], strict=False))
    shapes = [
        sorted((round(x - left[t], 6), round(y, 6), w, h, op or "") for (x, y), w, h, op in cells[f"t={t + 1}"])
        for t in range(4)
    ]
    assert shapes[1] == shapes[0] and shapes[2] == shapes[0] and shapes[3] == shapes[0]


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
@pytest.mark.parametrize("loss", ["last", "all"])
@pytest.mark.parametrize("level", ["op", "gate", "step"])
def test_nothing_overlaps(kind, loss, level):
    assert faults(draw(unrolled(kind, 2, loss), level=level, fold=None).drawing) == []


def test_states_run_straight_through_the_lstm():
    scene = arrange(unrolled("lstm", 4, "last"), width=9999)
    for name in "hc":
        heights = {p.centre[1] for p in scene.nodes if p.node.name in (name, f"{name}0")}
        assert len({round(y, 3) for y in heights}) == 1


def test_graph_without_steps_is_framed_by_scope():
    w = tg.Tensor(np.ones((3, 3)), requires_grad=True, name="W")
    with tg.scope("encoder"), tg.scope("layer"):
        y = tg.tanh(w @ w)
    scene = arrange(tg.gradient_graph(tg.sum(y)))
    assert [(f.title, f.parent) for f in scene.frames] == [("encoder", None), ("layer", 0)]
    tanh = next(p for p in scene.nodes if p.node.op == "tanh")
    assert scene.frames[1].rect.overlap(tanh.rect) == pytest.approx(tanh.look.width * tanh.look.height)


@pytest.mark.parametrize("order", [[3, 1, 2], [1, 2, 1]])
def test_time_that_runs_backwards_is_still_drawn(order):
    h = tg.Tensor(np.ones(2), requires_grad=True, name="h0")
    for t in order:
        with tg.scope(f"t={t}"):
            h = tg.tanh(h * h)
    graph = tg.gradient_graph(tg.sum(h))
    assert len(arrange(graph).edges) == len(graph.edges)


def test_a_first_state_that_every_step_uses_stands_beside_the_first_step():
    start = tg.Tensor(np.ones((1, 4)), requires_grad=True, name="h0")
    w, h = tg.Tensor(np.eye(4), requires_grad=True, name="w"), start
    for t in range(3):
        with tg.scope(f"t={t + 1}"):
            h = tg.tanh(h @ w + start)
    assert draw(tg.sum(h), level="op").size[1] < 1000


def test_skip_connections_and_a_single_step():
    h = [tg.Tensor(np.ones(2), requires_grad=True, name="h0")]
    for t in range(4):
        with tg.scope(f"t={t + 1}"):
            h.append(tg.tanh(h[-1] + h[max(0, t - 1)]))
    graph = tg.gradient_graph(tg.sum(h[-1]))
    assert len(arrange(graph).edges) == len(graph.edges)
    ElementTree.fromstring(draw(unrolled("lstm", 1), level="step").svg())


# --- text: determinism, hostile names, golden files ------------------------------------------------------------------

RUN = """
import numpy as np, tinygrad_rnn as tg
from tinygrad_rnn.draw import draw
out, _ = tg.unroll(tg.LSTMCell(3, 4, rng=0), np.random.default_rng(0).normal(size=(2, 2, 3)))
dots = [draw(tg.sum(out * out), level=level, title="x").dot for level in ("op", "step")]
"""


def test_same_graph_same_bytes_in_any_process():
    """Whatever the order of sets is, which the seed of hashes decides: that of this process is random."""
    here = {}
    exec(RUN, here)
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    program = [sys.executable, "-X", "utf8", "-c", f"{RUN}print(ascii(dots))"]
    env = {**os.environ, "PYTHONHASHSEED": seed}
    other = subprocess.run(program, env=env, capture_output=True, encoding="utf-8", check=True).stdout
    assert other.strip() == ascii(here["dots"]) and len(set(here["dots"])) == 2


@pytest.mark.parametrize(
    "name", ['<script>"&\\', "\\N", "<b>bold</b>", "a\nb\x00\x1b", "]]>", "\\", "", "é ∂ 漢", "\ud800", "n" * 99]
)
def test_hostile_names_arrive_as_text(name):
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name=name)
    with tg.scope("t=1"):
        h = tg.tanh(x)
        h.name = name
    svg = ElementTree.fromstring(draw(tg.sum(h), title=name, subtitle=name).svg())
    assert not [e for e in svg.iter() if e.tag.endswith(("script", "b"))]
    texts = {"".join(e.itertext()) for e in svg.iter() if e.tag.endswith("}text")}
    if name and len(name) < 20 and name.isprintable():
        assert {name, f"{name}₁"} <= texts  # as the leaf, and as the value at t = 1


@pytest.mark.golden
@pytest.mark.parametrize(
    ("kind", "level", "theme"), [("rnn", "op", "light"), ("lstm", "gate", "dark"), ("lstm", "step", "light")]
)
def test_golden_dot(kind, level, theme):
    if engine.embedded() is None:
        pytest.skip("another engine places the nodes elsewhere")
    text = draw(unrolled(kind, 2), title=f"{kind}, {level} level", level=level, theme=theme).dot
    path = GOLDEN / f"{kind}_{level}_{theme}.dot"
    if os.environ.get("TINYGRAD_RNN_REGENERATE"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
    assert path.read_bytes().decode() == text, (
        "if the new picture is right, set TINYGRAD_RNN_REGENERATE=1 and run again"
    )


def test_import_loads_no_drawing_library():
    code = (
        "import sys, tinygrad_rnn.draw; print([m for m in ('graphviz', 'matplotlib', 'numpy.ma') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- files -----------------------------------------------------------------------------------------------------------


def test_files_are_what_their_names_say(tmp_path):
    graph = unrolled("rnn", 2)
    for suffix, magic in ((".svg", b"<svg"), (".png", b"\x89PNG"), (".dot", b"digraph"), (".gv", b"digraph")):
        draw(graph, tmp_path / f"a{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(magic)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dot", "a.gv", "a.png", "a.svg"]
    ElementTree.fromstring((tmp_path / "a.svg").read_text(encoding="utf-8"))


@pytest.mark.skipif(engine.embedded() is None, reason="needs the embedded engine")
def test_pdf_without_graphviz_is_one_page_with_the_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    picture = draw(unrolled("rnn", 1))
    with pytest.warns(UserWarning, match="install Graphviz"):
        picture.save(tmp_path / "a.pdf")
    data = (tmp_path / "a.pdf").read_bytes()
    assert data.startswith(b"%PDF-1.4") and data.rstrip().endswith(b"%%EOF") and b"/DCTDecode" in data
    start = int(data.rsplit(b"startxref\n", 1)[1].split()[0])
    assert data[start : start + 4] == b"xref"
    box = [float(v) for v in data.split(b"/MediaBox[", 1)[1].split(b"]")[0].split()]
    assert box[2:] == pytest.approx(picture.size, rel=0.06)
    for k, entry in enumerate(data[start:].split(b"\n")[3:8], 1):
        assert data[int(entry[:10]) :].startswith(f"{k} 0 obj".encode())


def test_picture_size_is_the_engines(tmp_path):
    picture = draw(unrolled(), title="a title", subtitle="a subtitle")
    root = ElementTree.fromstring(picture.svg())
    found = tuple(float(root.get(side).removesuffix("pt")) for side in ("width", "height"))
    assert found == pytest.approx(picture.size, rel=0.06)


@pytest.fixture
def no_engine(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "embedded", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TINYGRAD_RNN_DOT", raising=False)


def test_engine_lost_after_layout(tmp_path, request):
    picture = draw(unrolled("rnn", 2))
    request.getfixturevalue("no_engine")
    with pytest.raises(NoRenderer, match=r"pip install graphviz-pure.*a\.dot"):
        picture.save(tmp_path / "a.png")
    assert (tmp_path / "a.dot").read_bytes().decode() == picture.dot


def test_notebook_gets_svg():
    assert draw(unrolled("rnn", 1))._repr_mimebundle_()["image/svg+xml"].rstrip().endswith("</svg>")


def test_engine_override(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYGRAD_RNN_DOT", "no-such-program")
    with pytest.raises(NoRenderer, match="TINYGRAD_RNN_DOT"):
        draw(unrolled("lstm", 1)).save(tmp_path / "a.png")
    assert draw(unrolled("lstm", 1), level="op").svg()  # which needs none
    monkeypatch.setenv("TINYGRAD_RNN_DOT", sys.executable)  # a program, but no renderer
    with pytest.raises(NoRenderer, match="failed"):
        draw(unrolled("lstm", 1)).save(tmp_path / "b.png")


def test_huge_bitmap_is_refused_before_it_is_made(tmp_path, monkeypatch):
    picture = draw(unrolled("rnn", 1))
    monkeypatch.setattr(type(picture), "size", (100_000.0, 300.0))
    monkeypatch.setattr(engine, "run", lambda *a: pytest.fail("the engine was started"))
    with pytest.raises(ValueError, match=r"megapixels.*\.svg"):
        picture.save(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".dot", ".svg"])
def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("old")

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            draw(unrolled("rnn", 1), path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    draw(unrolled("rnn", 1), path)
    assert path.read_text(encoding="utf-8") != "old"


def test_scale_moves_the_colours():
    graph = unrolled("rnn", 3)
    fixed, fitted, given = (draw(graph, scale=scale) for scale in ("fixed", None, (1e-3, 1e2)))
    assert fixed.scale == Scale() and fitted.scale.lo > 1e-12 and given.scale == Scale(1e-3, 1e2)
    assert len({fixed.dot, fitted.dot, given.dot}) == 3


def test_misuse_is_named(tmp_path):
    graph = unrolled("rnn", 1)
    with pytest.raises(FileNotFoundError, match="no folder"):
        draw(graph, tmp_path / "nowhere" / "a.svg")
    for call, error, words in (
        (lambda: draw(graph, tmp_path / "a.jpeg"), ValueError, r"\.svg, \.png"),
        (lambda: draw(graph, tmp_path / "a"), ValueError, "end in"),
        (lambda: draw([graph]), TypeError, "loss Tensor"),
        (lambda: draw({}), ValueError, "empty"),
        (lambda: draw(graph, theme="sepia"), ValueError, "theme"),
        (lambda: draw(graph, norm="l1"), ValueError, "norm"),
        (lambda: draw(graph, level="layer"), ValueError, "level"),
    ):
        with pytest.raises(error, match=words):
            call()


def test_draw_takes_a_loss_and_changes_nothing():
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name="x")
    loss = tg.sum(x * x)
    assert draw(loss).dot == draw(tg.gradient_graph(loss)).dot
    assert x.grad is None


def test_labels_can_be_left_out():
    graph = unrolled("rnn", 2)
    with_labels, without = (placed(draw(graph, labels=choice))[1] for choice in (True, False))
    assert any(e.get("label") for e in with_labels) and not any(e.get("label") for e in without)
    assert look(graph.nodes[0]).big == "W_ih"  # as the textbook has it


@pytest.mark.parametrize("norm", NORMS)
def test_a_picture_speaks_of_the_norm_that_it_shows_and_of_no_other(norm):
    """The legend, and what is told of each edge and node."""
    text = draw(unrolled(), norm=norm).svg()
    assert NORMS[norm] in text
    assert not [words for other, words in NORMS.items() if other != norm and words in text]
    x = tg.Tensor(np.ones(2), requires_grad=True, name="x")
    words = {"l2": "5 (L2 norm)", "rms": "3.536 (root mean square)", "max": "4 (largest magnitude)"}
    assert f"gradient {words[norm]}" in draw(tg.sum(x * np.array([-3.0, 4.0])), norm=norm).svg()
