"""Names are text wherever they leave: in pictures, pages, charts, JSON, tables, weights and on the terminal."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import atlas, diagnose, nn
from tinygrad_rnn.cli import main
from tinygrad_rnn.draw import gradient_through_time

NAMES = [
    "<script>alert(1)</script><!-- ]]> --> \"'&",
    'a"];evil [label="x \\N\\G\\E {0.__class__} $x$ %s',
    "a\nb\r\0\x1b[31m\x9b\u2028\N{RIGHT-TO-LEFT OVERRIDE}\ufffe",
    "\ud800",
    "",
]


def names(*everyday):
    """A test for each name, most of them slow."""
    ids = ["markup", "dot", "codes", "surrogate", "empty"]
    rows = [
        pytest.param(n, id=i, marks=() if i in everyday else pytest.mark.slow) for n, i in zip(NAMES, ids, strict=True)
    ]
    return pytest.mark.parametrize("name", rows)


@pytest.fixture
def loss(name):
    """Three steps of which everything has this name: tensors, scopes, a primitive, its symbol and its phrase."""
    own = f"{name} of ours"
    twice = tg.primitive(own, lambda a: a * 2, lambda g, y, a: 2 * g, symbol=name, phrase=name)
    x, h = (tg.Tensor([0.1, 0.2], requires_grad=True, name=name) for _ in range(2))
    for t in (1, 2, 3):
        with tg.scope(f"t={t}"), tg.scope(name or "s"):
            h = twice(tg.tanh(h * x))
            h.name = name
    yield tg.sum(h)
    del tg.OPS[own]


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(key.startswith("on") or key in ("href", "src") for key, _ in attrs)


@names("markup", "surrogate")
def test_pictures_pages_and_data_of_a_graph(loss, name, tmp_path):
    for suffix in ("svg", "html", "dot", "png"):  # the engine reads the DOT of the last
        tg.draw({name: loss, "other": loss}, tmp_path / f"p.{suffix}", title=name, subtitle=name, level="op")
    ElementTree.parse(tmp_path / "p.svg")
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("script") == 2 and not {"img", "b", "iframe"} & {*page.tags}
    packed = re.search(r'<script type="application/gzip" id="data">(.*?)</script>', text, re.DOTALL)[1]
    json.loads(gzip.decompress(base64.b64decode(packed)))
    graph = tg.gradient_graph(loss)
    graph.to_json(tmp_path / "g.json")
    assert name in {node["name"] for node in json.loads((tmp_path / "g.json").read_text(encoding="utf-8"))["nodes"]}
    if name:
        assert name in {edge.formula for edge in graph.edges}


@names("codes")
def test_charts_and_reports(loss, name, tmp_path):
    pytest.importorskip("matplotlib")
    gradient_through_time({name: loss}, tmp_path / "decay.svg", title=name)
    x = np.random.default_rng(0).normal(size=(20, 2, 3))
    report = diagnose.compare({name: tg.RNNCell(3, 4, rng=0)}, x)
    report.save(tmp_path / "compared.svg", title=name)
    for chart in ("decay", "compared"):
        ElementTree.parse(tmp_path / f"{chart}.svg")
    report.to_json(tmp_path / "compared.json")
    assert [*json.loads((tmp_path / "compared.json").read_text(encoding="utf-8"))] == [name]


@names("markup", "dot", "codes", "surrogate", "empty")
def test_tables_and_weights(name, tmp_path):
    def measure(configuration, *_):
        return {"b": configuration["a"], name: 1.0}

    table, again = (atlas.sweep([{"a": name}], measure, path=tmp_path / "t.jsonl", progress=False) for _ in range(2))
    assert list(table) == list(again)
    assert [(row["b"], row[name]) for row in table] == [(name, 1.0)]
    lines = (tmp_path / "t.jsonl").read_text(encoding="utf-8").split("\n")  # splitlines splits at control codes too
    header, line = map(json.loads, lines[:-1])
    assert header["format"] and line["result"] == {"b": name, name: 1.0}
    for suffix in ("npz", "safetensors"):
        path = tmp_path / f"w.{suffix}"
        if "\0" in name or "\ud800" in name:
            with pytest.raises(ValueError, match="a file can hold no name such as"):
                nn.save(path, {name: np.eye(2)})
        else:
            pytest.importorskip("safetensors")
            nn.save(path, {name: np.eye(2)})
            assert [*nn.load(path)] == [name]


def test_the_terminal_is_told_text_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(30, 2))
    codes = "\x1b[31mred\x1b]0,title\x07", "\N{RIGHT-TO-LEFT OVERRIDE}abc\x9b"
    file = tmp_path / "a\x1b[2J.csv"
    file.write_text('"{}","{}"\n'.format(*codes) + "\n".join(f"{a},{b}" for a, b in rows), encoding="utf-8")
    assert main(["draw", "rnn", "--data", str(file), "--out", "p.svg"]) == 0
    ElementTree.parse(tmp_path / "p.svg")
    assert main(["draw", "rnn", "--data", str(file), "--column", "\x1b[31m"]) == 2
    assert main(["draw", "rnn", "--data", "\x1b[31mnone.csv"]) == 2
    said = capsys.readouterr()
    assert "red" in said.out and "none.csv" in said.err
    assert all(c.isprintable() or c in "\n\t" for c in said.out + said.err)


def test_no_code_is_made_of_text_but_the_derived_program():
    """Nothing is evaluated, unpickled or given to a shell: one place compiles what it wrote, one the file it checks."""
    code = r"(?<![\w.])(eval|exec|__import__)\(|pickle\.loads?\(|allow_pickle=True|shell=True|os\.system"
    found = []
    for path in sorted(Path(tg.__file__).parent.rglob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(code, line) and not line.lstrip().startswith("def "):
                found.append((path.name, line.strip()))
    assert [name for name, _ in found] == ["program.py", "command.py"]  # the second runs the file that the user checks
