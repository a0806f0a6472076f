"""The tool that judges the tests, judged: it must expose a test suite that sees nothing, and trust one that sees."""

import ast
import textwrap

import pytest
from mutation import run
from mutation.planting import from_text
from mutation.syntax import mutations

BLIND = """
    def test_tanh():
        x = tg.Tensor([0.5, -1.0], requires_grad=True)
        y = tg.tanh(x)
        y.backward([1.0, 1.0])
        assert x.grad.shape == (2,) and np.isfinite(x.grad.numpy()).all()
"""
SIGHTED = """
    @pytest.mark.parametrize("f", ["tanh"])
    def test_gradient(f):
        x = tg.Tensor([0.5, -1.0], requires_grad=True)
        tg.OPS[f](x).backward([1.0, -2.0])
        assert np.allclose(x.grad.numpy(), [1 - np.tanh(0.5) ** 2, -2 + 2 * np.tanh(1.0) ** 2], 1e-12, 0)

    def test_of_nothing():
        pass
"""
BROKEN = """
    def test_tanh():
        assert False
"""
CRASHING = """
    def test_tanh():
        x = tg.Tensor(0.5, requires_grad=True)
        tg.tanh(x).backward()
        if x.grad.item() < 0:
            os._exit(3)
"""


@pytest.fixture
def examine(tmp_path, monkeypatch, capsys):
    """Run the tool on a suite that is given as text; what it returns and prints."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def examine(suite, *mutants):
        path = tmp_path / "test_suite.py"
        imports = "import os\nimport numpy as np\nimport pytest\nimport tinygrad_rnn as tg\n"
        path.write_text(imports + textwrap.dedent(suite), encoding="utf-8")
        code = run.main(["--tests", str(path), "--workers", "1", "--only", *mutants])
        return code, capsys.readouterr().out

    return examine


@pytest.mark.slow
def test_a_blind_suite_is_exposed(examine):
    code, out = examine(BLIND, "tanh.0: factor", "tanh.0: sign", "tanh.0: zero", "tanh.0: cotangent ignored")
    assert code == 1
    assert "0 of 5 mutants killed" in out and "5 survived" in out
    assert "SURVIVED: tanh.0: sign\n" in out


@pytest.mark.slow
def test_a_suite_that_sees_is_trusted(examine):
    code, out = examine(SIGHTED, "tanh.0: factor", "tanh.0: sign", "tanh.0: zero", "tanh.0: cotangent ignored")
    assert code == 0
    assert "5 of 5 mutants killed (5 by tests of their op), 0 survived" in out
    assert "test_gradient[tanh]" in out


@pytest.mark.slow
def test_what_fails_without_a_mutant_kills_none(examine):
    code, out = examine(BROKEN, "tanh.0: sign")
    assert code == 1
    assert "SURVIVED: tanh.0: sign" in out and "BROKEN" in out


@pytest.mark.slow
def test_a_crash_is_noticed_and_survived(examine):
    code, out = examine(CRASHING, "tanh.0: sign", "tanh.0: zero")
    assert code == 1
    assert "killed     tanh.0: sign  by a crash" in out and "SURVIVED: tanh.0: zero" in out


@pytest.mark.slow
def test_what_cannot_be_collected_is_no_proof(examine):
    assert examine("import nothing_of_that_name", "tanh.0: sign")[0] == 2


def test_a_fault_called_equivalent_must_survive():
    report = {"mutant": "f.0: sign", "killer": "test_f", "own": True, "tests": 1, "seconds": 0.1, "broken": []}
    assert run.summary([report], {}, 1.0)[1]
    lines, well = run.summary([report], {"f.0: sign": "a reason"}, 1.0)
    assert not well and "NOT EQUAL: f.0: sign" in lines
    assert run.summary([{**report, "killer": None}], {"f.0: sign": "a reason"}, 1.0)[1]
    assert not run.summary([], {}, 1.0)[1]  # nothing examined, nothing proved


def test_parts_cover_all_mutants_once():
    mutants = [(f"op{k}.0: sign", [f"op{k}"]) for k in range(11)]
    parts = [run.chosen(mutants, [], f"{k}/3") for k in (1, 2, 3)]
    assert sorted([*parts[0], *parts[1], *parts[2]]) == sorted(name for name, _ in mutants)
    assert run.chosen(mutants, ["op7"], None) == ["op7.0: sign"]


def halved(x, *, by=2):
    """What the next tests plant into."""
    return x / by if x > 0 else -(x - 1)


def test_a_fault_is_planted_where_the_function_was_imported_and_taken_out_again():
    imported = halved
    with from_text(halved, "x / by", "x * by")():
        assert imported(4) == 8
    assert imported(4) == 2
    with pytest.raises(LookupError, match="0 times"):
        from_text(halved, "no such text", "")


def test_syntax_faults_are_single_and_described():
    rule = ast.parse("lambda g, y, x: g * (1 - y * x.ndim)", mode="eval").body
    found = {name: ast.unparse(tree).partition(": ")[2] for name, tree in mutations(rule, frozenset("yx"))}
    assert found == {
        "g * (1 - y * x.ndim) → g": "g",
        "g * (1 - y * x.ndim) → 1 - y * x.ndim": "1 - y * x.ndim",
        "g * (1 - y * x.ndim) → g / (1 - y * x.ndim)": "g / (1 - y * x.ndim)",
        "1 - y * x.ndim → 1": "g * 1",
        "1 - y * x.ndim → y * x.ndim": "g * (y * x.ndim)",
        "1 - y * x.ndim → 1 + y * x.ndim": "g * (1 + y * x.ndim)",
        "1 → 2": "g * (2 - y * x.ndim)",
        "y * x.ndim → y": "g * (1 - y)",
        "y * x.ndim → x.ndim": "g * (1 - x.ndim)",
        "y * x.ndim → y / x.ndim": "g * (1 - y / x.ndim)",
        "y → raw(y)": "g * (1 - raw(y) * x.ndim)",
    }
