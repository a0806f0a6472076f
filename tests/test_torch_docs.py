"""The pages about PyTorch: what they show runs, and what they document is all that is public."""

import ast
import json
from pathlib import Path

import pytest
from notebooks import cells_of, notebook
from pages import blocks
from test_reference import entries, has_example, missing, undocumented
from torch_oracle import torch

import tinygrad_rnn.torch as bridge

DOCS = Path(__file__).resolve().parent.parent / "docs"
ENTRIES = entries((DOCS / "api" / "torch.md").read_text(encoding="utf-8"))
NAMES = [(f"tinygrad_rnn.torch.{name}", getattr(bridge, name)) for name in bridge.__all__]


def test_reference_has_every_public_name():
    assert missing(NAMES, ENTRIES) == []


def test_every_entry_has_an_example_and_its_sections():
    assert [path for path, text in ENTRIES.items() if not has_example(path, text)] == []
    assert {path: lacking for path, value in NAMES if (lacking := undocumented(path, value))} == {}


class Model(torch.nn.Module):
    """What a reader of the page has."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 8)
        self.head = torch.nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0][-1])


def test_how_to_runs_in_a_loop_of_the_reader_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model, x, y = Model(), torch.randn(20, 4, 3), torch.randn(4, 1)
    optimizer = torch.optim.Adam(model.parameters())
    names = {"model": model, "x": x, "y": y, "optimizer": optimizer, "loss_fn": torch.nn.functional.mse_loss}
    code = [text for _, text in blocks((DOCS / "howto" / "torch.md").read_text(encoding="utf-8"), "py")]
    assert code
    for text in code:
        if "graph = run.graph" in text:
            with bridge.record(model) as names["run"]:
                names["loss"] = names["loss_fn"](model(x), y)
        exec(compile(text, "howto/torch.md", "exec"), names)
    assert "<svg" in (tmp_path / "mine.svg").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_model_learns_in_the_end_in_the_notebook_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    page = (DOCS / "howto" / "torch-repair.md").read_text(encoding="utf-8")
    cells = json.loads(notebook(cells_of(page)))["cells"]
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    assert code == [text.strip() for _, text in blocks(page, "py")] and len(cells) > len(code)
    for text in code:
        exec(compile(text, "torch_learns.ipynb", "exec"), names)
    assert [finding.check for finding in names["report"]] == ["samples_mix"] and not names["again"]
    assert names["as_it_came"] < 0.6 and names["one_line_changed"] < 0.6 and names["repaired"] > 0.95
    assert 10 < names["lost"] < 14 and names["watcher"].records[0]["lstm/decades lost"] < 2
    assert names["film"].labels == [f"update {update}" for update in range(0, 250, 50)]
    assert "update 200" in (tmp_path / "run.html").read_text(encoding="utf-8")
    assert names["again"].flow().verdict.word == "vanishing"
    assert all((tmp_path / name).exists() for name in ("before.svg", "run.csv", "run.html"))


def test_what_needs_pytorch_says_so(tmp_path):
    import subprocess
    import sys

    (tmp_path / "torch.py").write_text("raise ImportError('no such library')", encoding="utf-8")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import tinygrad_rnn.torch"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, encoding="utf-8")
    assert "tinygrad_rnn.torch needs PyTorch, which you have if you have a model for it" in done.stderr


def test_the_rest_of_the_package_does_not_know_of_it():
    package = Path(bridge.__file__).parent.parent
    for path in package.rglob("*.py"):
        if path.parent.name != "torch":
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
            names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
            assert not {name for name in names if name.split(".")[0] == "torch"}, path
