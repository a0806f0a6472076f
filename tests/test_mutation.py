"""The tool that judges the tests, judged: each operator plants what it says, where it says, and nothing else."""

import ast
import importlib
import sys
import textwrap

import pytest
from mutation import run
from mutation.operators import OPERATORS
from mutation.source import Source
from mutation.sweep import by_hand
from mutation.worker import Codes, Unswappable


def planted(operator, text, path="sample.py"):
    """Every source that an operator makes of one, each without what is around the change."""
    source = Source(path, textwrap.dedent(text))
    changed = [e.applied(source.text) for e in source.edits() if e.operator == operator]
    return [
        next(b.strip() for a, b in zip(source.text.splitlines(), c.splitlines(), strict=True) if a != b)
        for c in changed
    ]


# --- what is planted ---

PLANTED = {
    "comparison": ("a < b", ["(a <= b)", "(a > b)"]),
    "comparison ==": ("a == b", ["(a != b)"]),
    "comparison is": ("a is not b", ["(a is b)"]),
    "comparison in": ("a in b", ["(a not in b)"]),
    "comparison >=": ("0 <= a < 3", ["(0 < a < 3)", "(0 >= a < 3)", "(0 <= a <= 3)", "(0 <= a > 3)"]),
    "constant": ("3", ["4", "2"]),
    "constant 0": ("0", ["1", "(-1)"]),
    "constant float": ("0.5", ["1.0"]),
    "constant zero": ("0.0", ["1.0"]),
    "constant bool": ("True", ["False"]),
    "constant text": ("'sum'", ["'sum?'"]),
    "constant in text": ("f'{a:.3f} m'", ["f'{a:.3f?} m'", "f'{a:.3f} m?'"]),
    "arithmetic": ("a + b", ["(a - b)"]),
    "arithmetic text": ("'a' + b", []),
    "arithmetic all": ("a // b % c", ["(a // b // c)", "(a / b) % c"]),
    "operand": ("a * b", ["a", "b"]),
    "operand sign": ("-a", ["a"]),
    "operand and": ("a and b and c", ["(b and c)", "(a and c)", "(a and b)"]),
    "logic": ("a and b", ["(a or b)"]),
    "branch": ("a if c else b", ["a", "b", "(b if c else a)"]),
    "arguments": ("f(a, b, c)", ["f(b, a, c)", "f(a, c, b)"]),
    "arguments the same": ("f(a, a, *b)", []),
    "arguments that may change": ("min(a, b)", []),
    "option": ("f(a, axis=1, **more)", ["f(a, **more)", "f(a, axis=1)"]),
    "option asserted": ("zip(a, b, strict=True)", []),
    "twin": ("max(a).left", ["max(a).right", "min(a).left"]),
    "element": ("(a, b)", ["(b,)", "(a,)"]),
    "element of a table": ("{'a': 1, 'b': 2}", ["{'b': 2}", "{'a': 1}"]),
    "bound": ("a[1:n]", ["a[1:n - 1]"]),
    "bound open": ("a[:, k:]", ["a[1:, k:]", "a[:-1, k:]", "a[:, k + 1:]", "a[:, k:-1]"]),
    "bound range": ("range(n)", ["range(1, n)", "range(n - 1)"]),
    "bound step": ("range(n, 0, -1)", ["range(n + 1, 0, -1)", "range(n, 0)"]),
    "condition of a filter": ("[x for x in a if b]", ["[x for x in a if (not b)]"]),
}


@pytest.mark.parametrize(("name", "text", "expected"), [(name, *pair) for name, pair in PLANTED.items()], ids=PLANTED)
def test_each_operator_changes_an_expression_as_it_says(name, text, expected):
    assert planted(name.split()[0], f"y = {text}\n") == [f"y = {changed}" for changed in expected]


STATEMENTS = """
    def f(self, first, second, w: int):
        total = first.shape
        last = second
        if total < w:
            raise ValueError(f"{w} is " + "too small")
        while last:
            self.kept = self._i(last)
            break
        with self._o(w):
            total -= first
        return g(total, last), last
"""
IN_STATEMENTS = {
    "statement": [
        "pass",  # raise
        "pass",  # self.kept = ...
        "pass",  # break
        "pass",  # total -= ...
        "return None",
    ],
    "condition": ["if (not total < w):", "if True:", "if False:", "while (not last):"],
    "context": ["with __import__('contextlib').nullcontext():"],
    "arguments": ["return (last, g(total, last))", "return g(last, total), last"],
    "arithmetic": ["total += first"],
    "name": [
        "total = second.shape",
        "last = first",
        "if last < w:",
        "while total:",
        "self.kept = self._o(last)",
        "self.kept = self._i(total)",
        "with self._i(w):",
        "total -= second",
        "return g(last, last), last",
        "return g(total, total), last",
        "return g(total, last), total",
    ],
    "wrapper": [],
}


@pytest.mark.parametrize("operator", IN_STATEMENTS)
def test_each_operator_changes_statements_as_it_says(operator):
    assert planted(operator, STATEMENTS) == IN_STATEMENTS[operator]


def test_what_is_returned_may_miss_its_wrapper():
    assert planted("wrapper", "def f(x):\n    return g(x.y, 2)\n") == ["return x.y"]


def test_an_operand_of_a_rule_is_held_constant_on_the_page_of_derivatives_only():
    page = "tanh = primitive('tanh', np.tanh, lambda g, y, x: g * (1 - y * y) * x.ndim)\n"
    raw = "tanh = primitive('tanh', np.tanh, lambda g, y, x: g * (1 - {} * {}) * x.ndim)"
    assert planted("held constant", page, "ops.py") == [raw.format("raw(y)", "y"), raw.format("y", "raw(y)")]
    assert planted("held constant", page) == []


LEFT_ALONE = '''
    """Two things: 1, 2."""
    from typing import TYPE_CHECKING, cast
    if TYPE_CHECKING:
        Pair = 3
    __all__ = ["a", "b"]
    Array = np.ndarray[int, str | None]
    Kind = Literal["a", "b"] | int
    def f(x: "int" = None) -> tuple[1, 2]:
        """Doc."""
        assert x > 0
        warn("a" + "b", stacklevel=2)
        return ValueError(f"{x + 1} is wrong")
    @cache(size=3)
    def g() -> None:
        return None
    add(name, help="one " + "two", metavar="N")
'''


def test_what_no_number_depends_on_is_left_alone():
    found = [e.name for e in Source("sample.py", textwrap.dedent(LEFT_ALONE)).edits()]
    assert found == [
        "sample.py:f statement: warn('a' + 'b', stacklevel=2) → pass",
        "sample.py:f statement: return ValueError(f'{x + 1} is wrong') → return None",
        "sample.py:f wrapper: return ValueError(f'{x + 1} is wrong') → return f'{x + 1} is wrong'",
        "sample.py: statement: add(name, help='one ' + 'two', metavar='N') → pass",
    ]


def test_every_operator_is_tested():
    tested = {name.partition(" ")[0] for name in PLANTED} | set(IN_STATEMENTS)
    assert tested | {"held constant"} == set(OPERATORS)


def test_names_are_unique_and_what_is_planted_is_python():
    text = (run.installed() / "nn" / "stacks.py").read_text(encoding="utf-8")
    source = Source("nn/stacks.py", text)
    edits = source.edits()
    assert len({edit.name for edit in edits}) == len(edits) > 300 and all(" → " in edit.name for edit in edits)
    for edit in edits[::25]:
        assert ast.dump(ast.parse(edit.applied(text))) != ast.dump(source.tree), edit.name


def test_a_fault_by_hand_must_find_its_piece_of_text_once():
    source = Source("sample.py", "def f(x):\n    y = x\n    return y + x\n")
    edit = source.replaced("f", "halved", "return y", "return 0.5 * y")
    assert edit.applied(source.text) == "def f(x):\n    y = x\n    return 0.5 * y + x\n"
    with pytest.raises(LookupError, match="f has 2 times:  x"):
        source.replaced("f", "wrong", " x", "y")
    folder = run.installed()
    pieces = [
        by_hand(Source(p, (folder / p).read_text(encoding="utf-8")))
        for p in ("autodiff.py", "gathering.py", "primitive.py")
    ]
    assert all(pieces)


# --- how a fault gets into functions that are imported already ---

LIVE = """
LIMIT = 3
class C:
    size = 2
    def method(self, x=1):
        return [x + k for k in range(2)]
def outer(n):
    def inner(x):
        return x + n
    return inner
closure, table = outer(10), {"f": lambda x: x * 2}
"""


def test_code_is_exchanged_wherever_the_function_is_held(tmp_path, monkeypatch):
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "__init__.py").write_text(LIVE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with monkeypatch.context() as patched:
        patched.setattr(importlib.machinery.SourceFileLoader, "get_code", importlib.machinery.SourceFileLoader.get_code)
        codes = Codes(tmp_path / "live")
        live = importlib.import_module("live")
    codes.find()
    method, closure, double = live.C().method, live.closure, live.table["f"]
    for before, after in (("x + k", "x - k"), ("x + n", "x - n"), ("x * 2", "x * 3")):
        for function, code in codes.swaps("__init__.py", LIVE.replace(before, after)):
            function.__code__ = code
    assert (method(5), closure(1), double(2)) == ([5, 4], -9, 6)
    assert live.outer(1)(1) == 0  # what is made later has it too
    for before, after in (("LIMIT = 3", "LIMIT = 4"), ("size = 2", "size = 3"), ("x=1", "x=2"), ("x + n", "x")):
        with pytest.raises(Unswappable):
            codes.swaps("__init__.py", LIVE.replace(before, after))
    with pytest.raises(Unswappable):
        codes.swaps("other.py", "")
    del sys.modules["live"]
