"""The exercises mark themselves: an open gap fails, the solution passes, and wrong answers are seen."""

import re
from pathlib import Path

import pytest
from notebooks import cells_of
from pages import run

import tinygrad_rnn as tg

CHECKOUT = Path(__file__).resolve().parent.parent
PAGE = CHECKOUT / "docs" / "exercises.md"
TEXT = PAGE.read_text(encoding="utf-8")
PARTS = TEXT.split("\n## Exercise ")[1:]
pytestmark = pytest.mark.slow
SOLUTION = re.compile(r"^:::\{dropdown\} One solution\n```python\n(.*?)^```\n:::$", re.MULTILINE | re.DOTALL)


def answered(k, solution):
    """The page with another answer to exercise k, and without pictures and the answers to later ones."""
    page = TEXT.split("\n## Exercise ")[: k + 1]
    assert SOLUTION.search(page[k])
    page[k] = SOLUTION.sub(lambda found: f"```python\n{solution}```\n", page[k])
    return re.sub(r"^tg\.draw\(.*\n", "", "\n## Exercise ".join(page), flags=re.MULTILINE)


@pytest.fixture(autouse=True)
def no_primitive_is_left():
    yield
    tg.OPS.pop("swish", None)


def test_solutions_pass(tmp_path):
    run(TEXT, str(PAGE), tmp_path)
    assert len(PARTS) == 3 and all(len(SOLUTION.findall(part)) == 1 for part in PARTS)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_an_open_gap_fails(k, tmp_path):
    with pytest.raises(Exception, match=f"exercise {k}: your turn"):
        run(answered(k, "pass\n"), str(PAGE), tmp_path)


WRONG = {
    "forgets y": (1, "def swish_rule(g, y, x):\n    return g * tg.sigmoid(x)\n"),
    "takes y for x": (1, "def swish_rule(g, y, x):\n    s = tg.sigmoid(y)\n    return g * (s + y * (1 - s))\n"),
    "forgets g": (1, "def swish_rule(g, y, x):\n    s = tg.sigmoid(x)\n    return s + y * (1 - s)\n"),
    "no sigmoid": (2, "def step(x, h, W, U, b):\n    return h + b * (tg.tanh(x @ W.T + h @ U.T) - h)\n"),
    "U, not its transpose": (
        2,
        "def step(x, h, W, U, b):\n    return h + tg.sigmoid(b) * (tg.tanh(x @ W.T + h @ U) - h)\n",
    ),
    "leaves the graph": (
        2,
        "def step(x, h, W, U, b):\n    return tg.Tensor(h.data) + tg.sigmoid(b) * (tg.tanh(x @ W.T + h @ U.T) - h)\n",
    ),
    "each by itself": (
        3,
        "def clip(gs, limit):\n    return {k: g * min(1, limit / (np.linalg.norm(g) or 1)) for k, g in gs.items()}\n",
    ),
    "always": (
        3,
        "def clip(gs, limit):\n    n = np.sqrt(sum(np.sum(g * g) for g in gs.values())) or 1\n"
        "    return {k: g * limit / n for k, g in gs.items()}\n",
    ),
    "by value": (3, "def clip(gs, limit):\n    return {k: np.clip(g, -limit, limit) for k, g in gs.items()}\n"),
    "in place": (
        3,
        "def clip(gs, limit):\n    n = np.sqrt(sum(np.sum(g * g) for g in gs.values()))\n    for g in gs.values():\n"
        "        g *= min(1, limit / (n or 1))\n    return gs\n",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_seen(name, tmp_path):
    k, solution = WRONG[name]
    with pytest.raises((AssertionError, ArithmeticError)):
        run(answered(k, solution), str(PAGE), tmp_path)


def test_the_notebook_has_gaps_and_tests_and_hides_the_solutions():
    cells = cells_of(TEXT)
    assert sum(cell.kind == "solution" for cell in cells) == 3
    assert sum(cell.kind == "folded" for cell in cells) == 3
    assert sum("your turn" in cell.source for cell in cells if cell.kind == "code") == 3
