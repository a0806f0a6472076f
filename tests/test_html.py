"""The interactive page: whole, truthful, safe against names, and working in a real browser where there is one."""

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.draw import html
from tinygrad_rnn.draw.cut import part_of_symbol
from tinygrad_rnn.draw.sight import sight as look
from tinygrad_rnn.draw.view import View
from tinygrad_rnn.graph.steps import states
from tinygrad_rnn.norms import norm_of

SVG = "{http://www.w3.org/2000/svg}"
VOID = {"meta", "input", "br"}
HOSTILE = "\"'&<img src=x onerror=alert(1)></script><script>alert(1)</script><!--${alert(1)}"


def unrolled(kind="lstm", steps=3):
    rng = np.random.default_rng(0)
    cell = {"lstm": tg.LSTMCell, "gru": tg.GRUCell, "rnn": tg.RNNCell}[kind](3, 4, rng=0)
    _, state = tg.unroll(cell, rng.normal(size=(steps, 2, 3)))
    h = state[0] if kind == "lstm" else state
    return tg.gradient_graph(tg.sum(h * h))


def page(graph, view=None, theme="light", norm="l2", **words):
    sources, view = graph if isinstance(graph, dict) else {"": graph}, view or View()
    return html.page(sources, view, look(sources, view, (theme, "fixed", norm, True, "gradient", None)), **words)


def hostile():
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name=HOSTILE)
    with tg.scope("t=1"), tg.scope(HOSTILE):
        y = x * x
    return tg.gradient_graph(tg.sum(y))


class Page(HTMLParser):
    """Elements in order, and the text of scripts; fails where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.scripts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def table(text):
    packed = re.search(r'<script type="application/gzip" id="data">(.*?)</script>', text, re.DOTALL)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def pictures(text):
    (first,) = re.findall(r'<svg xmlns="[^"]*" class="g" data-level=.*?</svg>', text, re.DOTALL)
    levels = table(text)["levels"]
    assert [name for name, level in levels.items() if not level["picture"]] == [table(text)["first"]]
    return {name: ElementTree.fromstring(level["picture"] or first) for name, level in levels.items()}


# --- without a browser -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "graph",
    [unrolled("rnn", 2), unrolled("lstm", 9), hostile(), {"a": unrolled("rnn", 2), "<b>": unrolled("lstm", 2)}],
)
def test_page_is_whole_and_refers_to_nothing_outside(graph):
    text = page(graph, title=HOSTILE, subtitle=HOSTILE)
    found = Page(text)
    assert set(re.findall(r"[a-z]+://[^\s\"'<)]*", text)) <= {"http://www.w3.org/2000/svg"}
    for tag, attributes in found.elements:
        assert tag not in ("link", "img", "iframe", "object", "base", "image", "use", "a")
        assert not {"src", "href", "xlink:href", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in text and "@import" not in text
    ids = [a["id"] for _, a in found.elements if "id" in a]
    assert len(ids) == len(set(ids))
    kinds = [a.get("type") for tag, a in found.elements if tag == "script"]
    assert kinds == ["application/gzip", None] and len(found.scripts) == 2
    policy = next(a["content"] for _, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert text == page(graph, title=HOSTILE, subtitle=HOSTILE)


@pytest.mark.parametrize(
    ("kind", "steps", "norm"),
    [
        ("rnn", 3, "l2"),
        ("lstm", 3, "rms"),
        ("lstm", 10, "l2"),
        ("rnn", 10, "max"),
        ("lstm", 20, "l2"),
        ("gru", 21, "l2"),
    ],
)
def test_every_edge_is_there_with_its_norm(kind, steps, norm):
    graph = unrolled(kind, steps)
    text = page(graph, norm=norm)
    levels, drawn = table(text)["levels"], pictures(text)
    assert list(levels) == list(drawn)
    assert {"op"} <= set(levels) <= {"step", "gate", "op", "view"}
    assert ("view" in levels) == (steps > 5) == ("step" not in levels)
    for name, level in levels.items():
        if "chart" in level:
            continue
        ends = {"gate": 2 if steps > 20 else None, "op": 1 if steps > 5 else None}  # steps drawn at each end
        (seen,) = View(level=name, fold=ends.get(name)).of([graph])
        uses = [e for e in seen.edges if not e.internal and not part_of_symbol(e, seen.nodes)]
        expected = sorted((e.state, _six(e, norm)) for e in uses)
        assert sorted((e[3], e[2] or 0.0) for e in level["edges"]) == expected, name
        groups = [g for g in drawn[name].iter(f"{SVG}g")]
        assert sum(g.get("class") == "e" for g in groups) == len(level["edges"])
        nodes = [g for g in groups if g.get("class") in ("n", "d")]
        assert len(nodes) == len(level["nodes"])
        assert all(g.get("id").startswith(f"{name}-") for g in nodes)
        assert all({tail, head} <= set(range(len(nodes))) for tail, head, *_ in level["edges"])


def _six(edge, norm):
    return 0.0 if edge.contribution is None else float(f"{norm_of(edge.contribution, norm):.6g}")


def test_tooltips_tell_operation_shape_values_gradient_and_rule():
    level = table(page(unrolled("lstm", 2)))["levels"]["op"]
    tips = [node[0] for node in level["nodes"]]
    assert any(
        re.search(r"^c = add\nt=1.*\nshape \(2, 4\), float64\nvalue .*mean .*\ngradient .*L2 norm", t) for t in tips
    )
    assert any("1 − y²" in edge[5] for edge in level["edges"])
    assert all("operand" in edge[5] for edge in level["edges"])


def test_time_runs_backwards_from_the_loss():
    level = table(page(unrolled("rnn", 3), View(level="op")))["levels"]["op"]
    assert level["times"] == [[1, "t = 1"], [2, "t = 2"], [3, "t = 3"], [4, "the loss"]]
    assert level["nodes"][level["loss"]][1] == 4
    own = [node[2] for node in level["nodes"]]
    for tail, head, _, _, time, _ in level["edges"]:
        assert time == own[head]
        assert level["nodes"][tail][1] >= time  # nothing is reached later than what comes back to it
    long = table(page(unrolled("rnn", 12)))["levels"]["view"]
    assert [name for _, name in long["times"]] == [f"t = {k}" for k in range(1, 13)] + ["the loss"]


def test_numbers_that_json_has_not_are_text():
    x = tg.Tensor([1.0], requires_grad=True, name="x")
    with np.errstate(all="ignore"):
        graph = tg.gradient_graph(tg.sum(x * np.array([np.inf]) * 0.0 + x * np.inf))
    norms = [edge[2] for edge in table(page(graph))["levels"]["op"]["edges"]]
    assert {n for n in norms if isinstance(n, str)} == {"nan", "inf"}


def test_hostile_names_are_text_in_every_level():
    text = page(hostile(), title=HOSTILE)
    assert text.count("<script") == 2 and text.count("</script") == 2 and "<!--" not in text and "<img" not in text
    level = table(text)["levels"]["op"]
    assert any("</script>" in node[0] for node in level["nodes"])
    for root in pictures(text).values():
        assert {e.tag.removeprefix(SVG) for e in root.iter()} <= set("svg desc rect ellipse g path text".split())


def test_what_does_not_fit_is_left_out(monkeypatch):
    graph = unrolled("lstm", 12)
    whole = table(page(graph))["levels"]
    assert list(whole) == ["view", "gate", "op"]
    assert ">Operations, 10 steps left out</button>" in page(graph) and ">Gates</button>" in page(graph)
    monkeypatch.setattr(html, "MAX_EDGES", len(whole["gate"]["edges"]))
    assert list(table(page(graph))["levels"]) == ["view", "gate"]
    monkeypatch.setattr(html, "MAX_EDGES", 1)
    assert list(table(page(graph))["levels"]) == ["view"]


@pytest.mark.parametrize(("kind", "steps"), [("rnn", 12), ("lstm", 40)])
@pytest.mark.parametrize("norm", ["l2", "max"])
def test_the_page_of_a_long_sequence_has_every_number_of_its_chart(kind, steps, norm):
    graph = unrolled(kind, steps)
    level = table(page(graph, norm=norm))["levels"]["view"]
    chart = level["chart"]
    assert chart["steps"] == list(range(1, steps + 1)) and sorted(chart["x"]) == chart["x"]
    lanes = states(graph)
    assert {label for label, _ in chart["rows"]} == set(lanes)
    for label, sizes in chart["rows"]:
        assert sizes == [float(f"{norm_of(lanes[label][t].gradient, norm):.6g}") for t in chart["steps"]]
    assert [t for t, _ in level["times"]] == [*range(1, steps + 2)]


def test_themes_and_motion_follow_the_reader():
    text = page(unrolled("rnn", 1))
    assert "color-scheme: light dark" in text and "light-dark(#ffffff" in text
    assert "prefers-reduced-motion" in text
    assert 'data-theme="dark"' in page(unrolled("rnn", 1), theme="dark").split("<head>")[0]
    assert "data-theme" not in text.split("<head>")[0]


def test_viewer_is_small():
    (script,) = re.findall(r"<script>(.*?)</script>", page(unrolled("rnn", 1)), re.DOTALL)
    assert len(script.encode()) < 11_000


@pytest.mark.parametrize(("kind", "steps"), [("lstm", 5), ("gru", 1), ("gru", 5), ("lstm", 12)])
def test_a_page_weighs_at_most_three_times_its_picture(kind, steps):
    picture = tg.draw(unrolled(kind, steps))
    assert len(picture.html().encode()) < 3 * len(picture.svg().encode())


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Opens a page in headless Chromium and gives back the document as it then is."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on PATH")
    folder = tmp_path_factory.mktemp("browser")

    def run(text, fragment="", *options, drive=""):
        if drive:  # a test's own script needs a page that lets it run
            text = re.sub(r"<meta http-equiv[^>]*>", "", text)
            later = f"setTimeout(() => {{{drive}}}, 500)"  # the page unpacks its data first
            text = text.replace("</body>", f"<pre id='found'></pre><script>{DRIVE}{later}</script></body>")
        path = folder / "page.html"
        path.write_text(text, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'user'}", "--dump-dom"]
        flags += ["--virtual-time-budget=6000", "--window-size=1280,720", *options, f"{path.as_uri()}{fragment}"]
        done = subprocess.run([program, *flags], capture_output=True, timeout=1200)
        out = done.stdout.decode("utf-8")
        if "<html" not in out:
            pytest.skip(f"{program} does not start here: {done.stderr.decode(errors='replace')[-300:]}")
        return out

    return run


DRIVE = """
const $ = (q) => document.querySelector(q), $$ = (q) => [...document.querySelectorAll(q)];
const svg = () => $("#stage > svg:not([hidden])"), view = () => svg().getAttribute("viewBox").split(" ").map(Number);
const at = (x, y, more) => ({pointerId: 1, clientX: x, clientY: y, bubbles: true, cancelable: true, ...more});
const key = (k, on = $("#stage")) => on.dispatchEvent(new KeyboardEvent("keydown", at(0, 0, {key: k})));
const mouse = (kind, on, x, y) => on.dispatchEvent(new PointerEvent(kind, at(x, y)));
const middle = (e) => { const r = e.getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; };
const found = (x) => { $("#found").textContent = JSON.stringify(x); };
"""


def answer(dom):
    text = re.search(r"<pre id=\"found\">(.*?)</pre>", dom, re.DOTALL)[1]
    return json.loads(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@pytest.mark.slow
def test_browser_shows_the_view_of_the_address(browse):
    text = page(unrolled("lstm", 3), title="LSTM")
    plain = browse(text)
    assert re.search(r'data-level="gate" aria-pressed="true"', plain) and 'class="g lit"' not in plain
    node = table(text)["levels"]["op"]
    k = next(k for k, n in enumerate(node["nodes"]) if n[0].startswith("h = ") and n[2] == 2)
    name = [g.get("id") for g in pictures(text)["op"].iter(f"{SVG}g") if g.get("class") in ("n", "d")][k]
    dom = browse(text, f"#level=op&t=2&theme=dark&node={name.removeprefix('op-')}")
    assert '<html lang="en" data-theme="dark">' in dom and re.search(r'data-level="op" aria-pressed="true"', dom)
    assert re.search(r'<output id="reached" for="time">t = 2</output>', dom)
    assert f'class="n on pin" id="{name}"' in dom and "between it and the loss; contributions from" in dom
    # What is lit is what a walk along the edges finds; what is dimmed is what is earlier than t = 2.
    reach, stack = set(), [k]
    while stack:
        tail = stack.pop()
        for e, (source, head, *_) in enumerate(node["edges"]):
            if source == tail and e not in reach:
                reach.add(e)
                stack.append(head)
    classes = re.findall(r'<g class="e([^"]*)"', re.search(r'<svg[^>]*data-level="op".*?</svg>', dom, re.DOTALL)[0])
    assert {e for e, c in enumerate(classes) if " on" in c} == reach
    assert {e for e, c in enumerate(classes) if " off" in c} == {e for e, x in enumerate(node["edges"]) if x[4] < 2}


@pytest.mark.slow
def test_browser_zooms_pans_and_fits(browse):
    drive = """
    const out = [view()], r = $("#stage").getBoundingClientRect(), stage = $("#stage");
    stage.dispatchEvent(new WheelEvent("wheel", at(r.left + 320, r.top + 64, {deltaY: -200})));
    out.push(view()); key("-"); key("+"); out.push(view()); key("ArrowRight"); out.push(view());
    mouse("pointerdown", stage, 300, 300); mouse("pointermove", stage, 350, 320); mouse("pointerup", stage, 350, 320);
    out.push(view()); key("0"); out.push(view());
    for (const b of ["#in", "#out"]) { $(b).click(); out.push(view()); }
    found(out);
    """
    dom = browse(page(unrolled("rnn", 3), View(level="op")), drive=drive)
    start, wheel, same, right, dragged, fit, closer, back = answer(dom)
    assert wheel[2] < 0.8 * start[2]
    for axis, pixels in ((0, 320), (1, 64)):  # the point under the pointer stays
        under = [view[axis] + pixels * view[2] / 1280 for view in (start, wheel)]
        assert under[0] == pytest.approx(under[1])
    assert same == pytest.approx(wheel) and right[0] > same[0] and right[1:] == pytest.approx(same[1:])
    scale = 1280 / dragged[2]
    assert (right[0] - dragged[0]) * scale == pytest.approx(50) and (right[1] - dragged[1]) * scale == pytest.approx(20)
    box = [float(v) for v in pictures(page(unrolled("rnn", 3), View(level="op")))["op"].get("viewBox").split()]
    assert fit[0] <= box[0] + 0.01 and fit[2] >= box[2] - 0.01
    assert closer[2] == pytest.approx(fit[2] / 1.25) and back == pytest.approx(fit)


@pytest.mark.slow
def test_browser_switches_levels_theme_and_time(browse):
    drive = """
    const seen = (s) => getComputedStyle(s).display !== "none";
    const shown = () => $$("#stage > svg").filter(seen).map((s) => s.dataset.level);
    const out = [shown()];
    for (const b of $$("button[data-level]")) { b.click(); out.push(shown()); }
    const colours = () => [getComputedStyle(svg().querySelector(".e path")).stroke,
      getComputedStyle(document.body).backgroundColor];
    out.push(colours()); $("#theme").click(); out.push(colours());
    const off = () => svg().querySelectorAll(".e.off").length;
    out.push(off()); $("#time").value = $("#time").max; $("#time").oninput(); out.push(off());
    $("#play").click();
    setTimeout(() => { out.push(off(), $("#play").textContent, $("#reached").textContent); found(out); }, 4500);
    """
    *shown, before, after, none, most, last, sign, name = answer(browse(page(unrolled("lstm", 3)), drive=drive))
    assert shown == [["gate"], ["step"], ["gate"], ["op"]]
    assert before[0] != after[0] and before[1] == "rgb(255, 255, 255)" and after[1] == "rgb(13, 17, 23)"
    assert none == 0 and most > 30 and last == 0 and sign == "▶" and name == "t = 1"


@pytest.mark.slow
def test_browser_shows_tooltips_and_the_way_of_a_clicked_node(browse):
    drive = """
    key("0");
    const out = [], edge = svg().querySelector(".e path"), node = svg().querySelector(".n[aria-label^=weight_hh]");
    const length = edge.getTotalLength(), p = edge.getPointAtLength(length / 2).matrixTransform(edge.getScreenCTM());
    mouse("pointermove", $("#stage"), p.x + 3, p.y); out.push($("#tip").hidden, $("#tip").textContent);
    mouse("pointermove", node, ...middle(node)); out.push($("#tip").textContent);
    const click = () => node.dispatchEvent(new MouseEvent("click", at(...middle(node))));
    click(); out.push($$(".e.on").length, $("#status").textContent, document.activeElement === node);
    click(); out.push($$(".e.on").length);
    found(out);
    """
    hidden, edge, node, lit, status, active, unlit = answer(browse(page(unrolled("rnn", 2)), drive=drive))
    assert not hidden and "→" in edge and "gradient" in edge and node.startswith("weight_hh\nshape (4, 4)")
    assert lit > 0 and "between it and the loss" in status and active and unlit == 0


@pytest.mark.slow
def test_browser_can_be_used_by_keyboard(browse):
    drive = """
    const out = [], focused = () => document.activeElement.id, roles = $$("svg:not([hidden]) .n");
    out.push(roles.every((g) => g.getAttribute("role") === "button" && g.getAttribute("aria-label").length > 3));
    out.push($$("svg:not([hidden]) [tabindex='0']").length);
    const loss = $("svg:not([hidden]) [tabindex='0']"); loss.focus(); out.push(focused());
    key("ArrowLeft", loss); const next = document.activeElement; out.push(focused());
    out.push(next.getAttribute("class")); key("Enter", next); out.push(next.getAttribute("class"));
    key("ArrowRight", next); out.push(focused());
    key("Escape", document.activeElement); out.push($$(".on").length, focused());
    found(out);
    """
    named, stops, loss, left, lit, unlit, right, none, stage = answer(browse(page(unrolled("rnn", 2)), drive=drive))
    assert named and stops == 1 and left != loss == right and none == 0 and stage == "stage"
    assert lit == "n on pin" and unlit == "n"  # what has the focus is lit until Enter releases it


@pytest.mark.slow
@pytest.mark.parametrize("policy", [True, False], ids=["as it is", "without its content policy"])
def test_browser_executes_nothing_of_a_name(browse, policy):
    text = page(hostile(), title="T " + HOSTILE, subtitle=HOSTILE).replace("alert(1)", "document.title=`pwned`")
    if not policy:
        text = re.sub(r"<meta http-equiv[^>]*>", "", text)
    dom = browse(text, "#level=op&node=n0&theme=</script><script>document.title=1</script>")
    title = re.search(r"<title>(.*?)</title>", dom)[1]
    assert title.startswith("T \"'&amp;&lt;img src=x") and len(re.findall(r"<script", dom)) == 2 and "<img" not in dom
    assert 'aria-pressed="true"' in dom  # the viewer itself did run


@pytest.mark.slow
def test_browser_shows_hostile_names_as_text_in_every_place(browse):
    drive = """
    const out = [];
    for (const b of $$("button[data-level]")) {
      b.click();
      for (const g of svg().querySelectorAll(".n,.e")) {
        const r = g.getBoundingClientRect();
        mouse("pointermove", g, r.left + r.width / 2, r.top + r.height / 2);
        if (g.matches(".n")) g.dispatchEvent(new MouseEvent("click", at(r.left + r.width / 2, r.top + r.height / 2)));
        out.push($("#tip").textContent, $("#status").textContent);
      }
    }
    found([out.some((t) => t.includes("onerror=")), $$("img").length, $$("#tip *, #status *").length, document.title]);
    """
    named, images, children, title = answer(browse(page(hostile(), title="T"), drive=drive.replace("</", "<\\/")))
    assert named and images == children == 0 and title == "T"


@pytest.mark.slow
def test_browser_moves_the_clock_of_a_thousand_steps(browse):
    text = page(unrolled("rnn", 1000))
    assert len(text) < 1_500_000
    drive = """
    for (let k = 0; k < 20; k++) { $("#time").value = 900 - 40 * k; $("#time").oninput(); }
    const shown = $("#status").textContent, box = svg().querySelector(".d[id*=row]");
    mouse("pointermove", box, ...middle(box));
    found([shown, $("#reached").textContent, $("#tip").textContent]);
    """
    shown, name, tip = answer(browse(text, drive=drive))
    assert name == "t = 141" and shown.startswith("t = 141\nh: ")
    chart = table(text)["levels"]["view"]["chart"]
    assert float(shown.split("h: ")[1]) == pytest.approx(chart["rows"][0][1][140], rel=1e-3, abs=0.0)
    step = int(re.match(r"t = (\d+)\nh: ", tip)[1])
    assert float(tip.split("h: ")[1]) == pytest.approx(chart["rows"][0][1][step - 1], rel=1e-3, abs=0.0)


@pytest.mark.slow
def test_browser_lights_the_way_of_a_node_that_the_clock_has_not_reached(browse):
    drive = """
    const node = svg().querySelector(".n[aria-label^=i]");
    $("#time").value = $("#time").max; $("#time").oninput();
    const before = getComputedStyle(node).opacity;
    node.dispatchEvent(new MouseEvent("click", at(...middle(node))));
    const lit = [...svg().querySelectorAll(".on")];
    found([before, lit.length, lit.map((g) => +getComputedStyle(g).opacity).sort()[0]]);
    """
    text = page(unrolled("lstm", 3)).replace("transition: opacity 0.2s", "")
    before, lit, faintest = answer(browse(text, drive=drive))
    assert float(before) < 0.2 and lit > 10 and faintest == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 12, 200])
def test_browser_opens_the_whole_strip_on_a_phone(browse, steps):
    drive = """
    const [x, y, w, h] = view(), b = svg().getBBox();
    found([x <= b.x && x + w >= b.x + b.width, document.documentElement.scrollWidth <= innerWidth]);
    """
    assert answer(browse(page(unrolled("lstm", steps)), "", "--window-size=500,844", drive=drive)) == [True, True]


@pytest.mark.slow
def test_browser_narrow_window_scrolls_nowhere(browse, tmp_path):
    drive = "found([document.documentElement.scrollWidth <= innerWidth, $('#stage').clientHeight > 200]);"
    assert answer(browse(page(unrolled("lstm", 3)), "", "--window-size=500,844", drive=drive)) == [True, True]
    assert Path(tmp_path).exists()
