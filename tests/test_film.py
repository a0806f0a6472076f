"""Films: the numbers of every frame, one layout and one scale, what is refused, and the page in a real browser."""

import base64
import gzip
import html
import importlib
import itertools
import json
import re
import shutil
import subprocess
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.draw import Film
from tinygrad_rnn.draw.marks import Group, Text, Way, marks_of
from tinygrad_rnn.draw.picture import draw
from tinygrad_rnn.draw.style import REDS


class Leaky:
    """A cell of one's own."""

    def __init__(self, rng):
        self.W = tg.Tensor(rng.normal(size=(3, 1)), requires_grad=True, name="W")

    def parameters(self):
        return {"W": self.W}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, 3)), name="h0")

    def __call__(self, x, h):
        h = 0.7 * h + 0.3 * tg.tanh(x @ self.W.T)
        h.name = "h"
        return h


def loss(kind="lstm", steps=3, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    makes = {"lstm": tg.LSTMCell, "gru": tg.GRUCell, "rnn": tg.RNNCell}
    network = Leaky(rng) if kind == "own" else None
    if kind in makes:
        network = makes[kind](1, 3, rng=seed)
    if kind == "stack":
        network = tg.RNN(1, 3, num_layers=2, rng=seed)
    for parameter in network.parameters().values():
        parameter.data = parameter.data * scale
    inputs = np.sin(np.arange(steps) + 1.0).reshape(steps, 1, 1)
    outputs, _ = network(inputs) if kind == "stack" else tg.unroll(network, inputs)
    return tg.sum(outputs[-1])


def data_of(page):
    packed = re.search(r'<script type="application/gzip" id="data">(.*?)</script>', page, re.DOTALL)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "stack", "own"])
@pytest.mark.parametrize("steps", [3, 7])
def test_every_frame_has_the_numbers_of_its_own_picture(kind, steps):
    losses = {f"scale {scale}": loss(kind, steps, scale) for scale in (1.0, 0.1, 3.0)}
    made = tg.film(losses)
    data = data_of(made.html())
    assert data["labels"] == list(losses) == made.labels
    assert re.findall(r'<input type="range" id="frame" min="(.)" max="(.)" value="(.)"', made.html()) == [
        ("0", "2", "0")
    ]
    edges = [thing for thing in data["things"] if len(thing) > 1]
    for frame, source in enumerate(losses.values()):
        groups = [group for group in draw(source, scale=made.scale).drawing.items if getattr(group, "edge", None)]
        groups = [group for group in groups if group.edge.carried is not None]
        labels = [m.text for group in groups for m in group.marks if isinstance(m, Text)]
        # Edges are in the order of the first frame: they are compared as a whole.
        assert Counter(words[frame] for words, *_ in edges if words) == Counter(labels)
        sizes = Counter(f"{group.edge.norm:.3g}".replace("-", "−") for group in groups)
        assert Counter(sizes[frame] for _, _, sizes, _ in edges) == sizes


def test_the_numbers_of_edges_are_those_of_the_gradient_graph():
    losses = {"a": loss("rnn", scale=1.0), "b": loss("rnn", scale=0.3)}
    things = data_of(tg.film(losses).html())["things"]
    for frame, source in enumerate(losses.values()):
        graph = tg.gradient_graph(source)
        told = {
            (tip.split("\n")[0], sizes[frame]) for _, _, sizes, tip in (thing for thing in things if len(thing) > 1)
        }
        for edge in graph.edges:
            ends = [node.name or node.op for node in (graph.nodes[edge.source], graph.nodes[edge.target])]
            if edge.state == "finite" and graph.nodes[edge.target].step:
                words = f"{ends[0]} → {ends[1]}, operand {edge.operand}"
                assert (words, f"{edge.norm:.3g}".replace("-", "−")) in told


@pytest.mark.parametrize("kind", ["lstm", "own", "stack"])
def test_all_frames_have_one_layout_however_wide_their_numbers(kind):
    shown = tg.film({k: loss(kind, scale=10.0**k) for k in (0, -3, -20)})._screen()
    for groups in shown.edges:
        assert len({next(m.curve for m in group.marks if isinstance(m, Way)) for group in groups}) == 1
    assert not [item for kind, item in shown.order if kind == "marks" and None in item]


def test_without_room_for_the_widest_number_the_layouts_would_differ(monkeypatch):
    monkeypatch.setattr(importlib.import_module("tinygrad_rnn.draw.film"), "_with_room", lambda edge, room: edge)
    with pytest.raises(AssertionError):
        test_all_frames_have_one_layout_however_wide_their_numbers("stack")


def test_the_scale_spans_all_frames():
    losses = {k: loss(scale=10.0**k) for k in (0, -2, 1)}
    each = [draw(source).scale for source in losses.values()]
    for order in itertools.permutations(losses):
        made = tg.film({k: losses[k] for k in order})
        assert (made.scale.lo, made.scale.hi) == (min(s.lo for s in each), max(s.hi for s in each))
    assert len({s.lo for s in each}) == 3
    assert tg.film(losses, scale="fixed").scale.lo == 1e-12


@pytest.mark.parametrize("order", [*itertools.permutations((1.0, 2e4, 3e8))])
def test_the_largest_gradient_of_any_frame_has_the_last_of_the_reds_whichever_comes_first(order):
    def exploding(factor):
        return tg.sum(tg.Tensor(np.ones(2), requires_grad=True, name="x") * np.array([factor, 0.0]))

    made = tg.film({factor: exploding(factor) for factor in order})
    assert made.scale.top == 3e8
    (versions,) = (groups for groups in made._screen().edges if groups[0].tip.startswith("x →"))
    colours = {factor: group.marks[0].style.color for factor, group in zip(order, versions, strict=True)}
    assert colours[1.0].startswith("r") and colours[3e8] == f"e{REDS - 1}" and colours[2e4] in ("e1", "e2", "e3")


def test_what_only_some_frames_show_is_behind_what_it_is_behind_there():
    losses = {k: loss("rnn", 20, scale=10.0**-k) for k in range(3)}
    made = tg.film(losses)
    order = [item for _, item in made._screen().order]
    for frame, source in enumerate(losses.values()):
        still = [m for m in draw(source, scale=made.scale).drawing.items if not isinstance(m, Group)]
        found = [next((k for k, v in enumerate(order) if m in (v if type(v) is tuple else (v,))), None) for m in still]
        places = [k for k in found if k is not None]
        assert len(places) > 20 and places == sorted(places), frame


def test_a_frame_keeps_no_array():
    made = Film()
    made.add("a", loss(steps=4))
    (graph,) = made._frames.values()
    assert max(edge.carried.kept.size for edge in graph.edges if edge.carried is not None) == 1
    assert all(node.value is None or node.value.size == 1 for node in graph.nodes)


@pytest.mark.parametrize(
    "losses, words",
    [
        (lambda: {"a": loss(steps=3), "b": loss(steps=4)}, "'b' has other tensors than 'a'"),
        (lambda: {"a": loss("rnn"), "b": loss("gru")}, "one layout"),
        (lambda: {"a": tg.Tensor(2.0, requires_grad=True, name="x") * 3.0}, "single numbers"),
        (lambda: {1: loss(), "1": loss()}, "there is a frame '1' already"),
    ],
)
def test_what_is_no_film_is_refused_in_one_line(losses, words):
    with pytest.raises(ValueError, match=words) as error:
        tg.film(losses())
    assert "\n" not in str(error.value)


def test_constants_in_symbols_are_part_of_the_structure():
    def leak(by):
        x = tg.Tensor(np.ones(3), requires_grad=True, name="x")
        return tg.sum(by * x)

    with pytest.raises(ValueError, match="constants"):
        tg.film({"a": leak(0.7), "b": leak(0.6)})


def test_paths_and_options_are_checked_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="must end in"):
        tg.film({"a": None}, tmp_path / "film.gif")
    with pytest.raises(ValueError, match="at least one"):
        tg.film({}).html()
    with pytest.raises(ValueError, match="theme"):
        tg.film({"a": loss()}, theme="sepia")
    with pytest.raises(TypeError):
        tg.film({"a": loss()}, colour="red")


def test_the_page_is_alone_and_names_are_only_text():
    hostile = "</script><script>alert(1)</script>"
    text = tg.film({hostile: loss(), "b": loss(seed=1)}, title=hostile).html()
    assert text.count("<script>") == 1 and "alert(1)</script>" not in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_moving_picture_has_no_script_and_shows_its_first_frame(tmp_path):
    made = tg.film({f"seed {k}": loss(seed=k) for k in range(3)}, tmp_path / "film.svg", theme="dark")
    text = (tmp_path / "film.svg").read_text()
    root = ElementTree.fromstring(text)
    assert "script" not in text and text == made.svg()
    space = "{http://www.w3.org/2000/svg}"
    layers = [g for g in root.iter(f"{space}g") if g.get("display")]
    assert [g.get("display") for g in layers] == ["inline", "none", "none"]
    for k, layer in enumerate(layers):
        assert [t.text for t in layer.iter(f"{space}text") if t.text.startswith("seed")] == [f"seed {k}"]
    for k, layer in enumerate(layers):  # each for its third of the time, and for that alone
        move = layer.find(f"{space}animate")
        times, values = [*map(float, move.get("keyTimes").split(";"))], move.get("values").split(";")
        for at in (0.01, 0.32, 0.34, 0.66, 0.67, 0.99):
            now = max(i for i, time in enumerate(times) if time <= at)
            assert values[now] == ("inline" if int(3 * at) == k else "none"), (k, at)
    names = {element.get("id") for element in root.iter() if element.get("id")}
    assert all(name in names for name in re.findall(r"url\(#(\w+)\)", text))
    shown = made._screen()
    moving = [groups for groups in shown.edges if len({shown.look(group) for group in groups}) > 1]
    classes = [a for a in root.iter(f"{space}animate") if a.get("attributeName") == "class"]
    assert len(classes) == len(moving) > 0
    assert all(len(a.get("values").split(";")) == 3 for a in classes)


def test_a_notebook_shows_it_and_its_repr_is_short():
    made = tg.film({k: loss(seed=k) for k in range(2)})
    assert repr(made) == "Film(2 frames)"
    shown = made._repr_html_()
    assert html.unescape(re.search('srcdoc="(.*?)"', shown, re.DOTALL)[1]) == made.html()


def test_forty_settings_of_twenty_steps_fit_into_150_kilobytes():
    def wide(bias):
        cell = tg.LSTMCell(1, 8, forget_bias=bias, rng=0)
        return tg.sum(tg.unroll(cell, np.sin(np.arange(20.0)).reshape(20, 1, 1))[1][0])

    made = tg.film({f"forget bias {bias:.1f}": wide(bias) for bias in np.linspace(-2.0, 6.0, 40)})
    assert len(made.html().encode()) < 150_000


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_slider_shows_the_numbers_of_its_frame(tmp_path):
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on PATH")
    losses = {f"seed {k}": loss(seed=k, steps=4) for k in range(3)}
    made = tg.film(losses, tmp_path / "film.html")
    data = data_of(made.html())
    for fragment, frame in (("", 0), ("#3", 2)):
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}", "--dump-dom"]
        flags += ["--virtual-time-budget=6000"]
        address = (tmp_path / "film.html").as_uri() + fragment
        done = subprocess.run([program, *flags, address], capture_output=True, timeout=600)
        out = done.stdout.decode()
        if "<html" not in out:
            pytest.skip(f"{program} does not start here: {done.stderr.decode(errors='replace')[-300:]}")
        moving = re.findall(r'<g class="m(?: k(\d+))?">(.*?)</g>', out)
        texts = [re.search(r"<text[^>]*>(.*?)</text>", inside) for _, inside in moving]
        assert len(moving) == len(data["things"])
        for (look, _), text, (words, *more) in zip(moving, texts, data["things"], strict=True):
            assert text is None or html.unescape(text[1]) == words[frame]
            assert not more or int(look) == more[0][frame]
        assert f">seed {frame}</output>" in out


@pytest.mark.parametrize("level", ["auto", "op", "gate", "step", 1])
@pytest.mark.parametrize("cell", [tg.GRUCell, tg.LSTMCell])
@pytest.mark.parametrize("options", [{}, {"fold": 1}])
def test_a_frame_has_the_numbers_of_the_picture_at_every_level(cell, level, options):
    """A sum of arrays has another norm than the sum of their norms: a frame may not be made of the latter."""
    if level == "auto" and options:
        return
    loss = tg.sum(tg.unroll(cell(1, 4, rng=0), np.sin(np.arange(8.0)).reshape(4, 2, 1))[0][-1])
    still = tg.draw(loss, level=level, **options)
    (frame,) = tg.film({"one": loss}, level=level, scale=still.scale, **options)._pictures()
    assert sorted(written(frame.drawing)) == sorted(written(still.drawing))


def written(drawing):
    return [mark.text for mark in marks_of(drawing.items) if isinstance(mark, Text)]


def test_a_finite_gradient_beyond_float32_s_squares_stays_finite():
    x = np.ones((4, 1, 1), np.float32)
    loss = tg.sum(tg.unroll(tg.RNNCell(1, 3, rng=0, dtype=np.float32), x)[1]) * np.float32(2e38)
    (frame,) = tg.film({"one": loss})._pictures()
    assert written(frame.drawing) == written(tg.draw(loss).drawing) and "inf" not in written(frame.drawing)


def test_captions_that_differ_late_are_two():
    made = tg.film({f"{'long ' * 20}{k}": loss() for k in range(2)})
    assert len(made.labels) == 2 and all(len(label) == 80 for label in made.labels)
    made.html()


def test_what_is_no_mapping_is_refused():
    with pytest.raises((TypeError, ValueError), match="captions"):
        tg.film([tg.Tensor(1.0, requires_grad=True) * 2.0])
