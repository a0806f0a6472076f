"""A table holds what one measure gave: whatever its numbers depend on is part of its digest, and nothing else is."""

import importlib
import linecache
import os
import subprocess
import sys
import textwrap
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.atlas import TableError, grid, slope_of, sweep
from tinygrad_rnn.atlas.digest import digest


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Modules of the user's: written, imported anew each time, forgotten in the end."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = set()

    def write(source, name="mine"):
        path = tmp_path / Path(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        for cached in tmp_path.rglob("__pycache__/*"):
            cached.unlink()
        made.add(name.partition(".")[0])
        for known in [known for known in sys.modules if known.partition(".")[0] in made]:
            del sys.modules[known]
        importlib.invalidate_caches()
        linecache.clearcache()
        return lambda: importlib.import_module(name)

    yield write
    for known in [known for known in sys.modules if known.partition(".")[0] in made]:
        del sys.modules[known]


# A measure m, with the part that is changed in braces, and its two forms.
PROGRAMS = {
    "its code": ("def m(c): return c['a'] {}", "+ 1", "- 1"),
    "a constant in it": ("def m(c): return c['a'] * {}", "2", "3"),
    "the type of a constant": ("def m(c): return {}", "1", "1.0"),
    "a constant set": ("def m(c): return c['a'] in {{{}}}", "1, 2", "1, 3"),
    "a helper": ("def h(a): return a {}\ndef m(c): return h(c['a'])", "+ 1", "- 1"),
    "a helper's helper": ("def g(a): return a {}\ndef h(a): return g(a)\ndef m(c): return h(c['a'])", "+ 1", "- 1"),
    "a global number": ("K = {}\ndef m(c): return c['a'] * K", "2", "3"),
    "a global table": ("K = {{'x': [1, (2, {})]}}\ndef m(c): return K[c['a']]", "2", "3"),
    "a global array": ("import numpy as np\nK = np.array([1.0, {}])\ndef m(c): return K[0]", "2", "3"),
    "a global tensor": ("import tinygrad_rnn as tg\nK = tg.Tensor([{}])\ndef m(c): return K.item()", "2", "3"),
    "a network": ("import tinygrad_rnn as tg\nK = tg.RNNCell(1, 2, rng={})\ndef m(c): return K.hidden_size", "2", "3"),
    "a set": ("K = {{'a', 'b', '{}'}}\ndef m(c): return c['a'] in K", "c", "d"),
    "a frozen set": ("K = frozenset({{'a', 'b', '{}'}})\ndef m(c): return c['a'] in K", "c", "d"),
    "an array of objects": (
        "import numpy as np\nK = np.array(['a', ('b', '{}')], dtype=object)\ndef m(c): return K[0]",
        "c",
        "d",
    ),
    "a default": ("def m(c, k={}): return c['a'] * k", "2", "3"),
    "a keyword's default": ("def m(c, *, k={}): return c['a'] * k", "2", "3"),
    "a nested function": ("def m(c):\n    def h(a): return a {}\n    return h(c['a'])", "+ 1", "- 1"),
    "what a nested function calls": (
        "def g(a): return a {}\ndef m(c):\n    def h(a): return g(a)\n    return h(c['a'])",
        "+ 1",
        "- 1",
    ),
    "a comprehension": ("def g(a): return a {}\ndef m(c): return sum(g(a) for a in range(c['a']))", "+ 1", "- 1"),
    "a lambda": ("h = lambda a: a {}\ndef m(c): return h(c['a'])", "+ 1", "- 1"),
    "a measure that is a lambda": ("m = lambda c: c['a'] {}", "+ 1", "- 1"),
    "an attribute of a function": ("def h(a): return a * h.k\nh.k = {}\ndef m(c): return h(c['a'])", "2", "3"),
    "a closure": ("def make(k):\n    def m(c): return c['a'] * k\n    return m\nm = make({})", "2", "3"),
    "a function in a closure": (
        "def make(f):\n    return lambda c: f(c['a'])\ndef f(a): return a {}\nm = make(f)",
        "+ 1",
        "- 1",
    ),
    "a partial": ("from functools import partial\ndef h(k, c): return c['a'] * k\nm = partial(h, {})", "2", "3"),
    "a partial of a helper": (
        "from functools import partial\ndef h(k, a): return a * k\ng = partial(h, k={})\ndef m(c): return g(a=c['a'])",
        "2",
        "3",
    ),
    "a cached helper": (
        "from functools import lru_cache\n@lru_cache\ndef h(a): return a {}\ndef m(c): return h(c['a'])",
        "+ 1",
        "- 1",
    ),
    "a decorated measure": (
        "from functools import wraps\ndef d(f):\n    @wraps(f)\n    def g(c): return f(c) {}\n    return g\n"
        "@d\ndef m(c): return c['a']",
        "+ 1",
        "- 1",
    ),
    "a method": ("class A:\n    def h(self, a): return a {}\ndef m(c): return A().h(c['a'])", "+ 1", "- 1"),
    "a bound method": ("class A:\n    def h(self, c): return c['a'] {}\nm = A().h", "+ 1", "- 1"),
    "what it is bound to": (
        "class A:\n    def __init__(self, k): self.k = k\n    def h(self, c): return c['a'] * self.k\nm = A({}).h",
        "2",
        "3",
    ),
    "slots": (
        "class A:\n    __slots__ = ('k',)\n    def h(self, c): return self.k\na = A(); a.k = {}\nm = a.h",
        "2",
        "3",
    ),
    "a static method": (
        "class A:\n    @staticmethod\n    def h(a): return a {}\ndef m(c): return A.h(c['a'])",
        "+ 1",
        "- 1",
    ),
    "a cached property": (
        "from functools import cached_property as p\n"
        "class A:\n    @p\n    def h(self): return 1 {}\ndef m(c): return A().h",
        "+ 1",
        "- 1",
    ),
    "a property": ("class A:\n    @property\n    def h(self): return 1 {}\ndef m(c): return A().h", "+ 1", "- 1"),
    "an attribute of a class": ("class A:\n    K = {}\ndef m(c): return A.K", "2", "3"),
    "a base class": ("class B:\n    def h(self): return {}\nclass A(B): pass\ndef m(c): return A().h()", "2", "3"),
    "a dataclass's default": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    k: int = {}\ndef m(c): return A().k",
        "2",
        "3",
    ),
    "an enumeration": ("import enum\nclass A(enum.Enum):\n    K = {}\ndef m(c): return A.K.value", "2", "3"),
    "an object that is called": (
        "class A:\n    def __call__(self, c): return c['a'] {}\nm = A()",
        "+ 1",
        "- 1",
    ),
    "a recursive function": ("def h(n): return {} if n < 1 else h(n - 1)\ndef m(c): return h(c['a'])", "2", "3"),
    "a circle": ("K = [{}]\nK.append(K)\ndef m(c): return K[0]", "2", "3"),
    "a named tuple": (
        "import collections\nP = collections.namedtuple('P', 'a b')\nK = P(1, {})\ndef m(c): return K.b",
        "2",
        "3",
    ),
    "a mapping with a default": (
        "import collections\nK = collections.defaultdict({})\ndef m(c): return K[c['a']]",
        "int",
        "float",
    ),
    "a generator of numbers": (
        "import numpy as np\nK = np.random.default_rng({})\ndef m(c): return K.random()",
        "2",
        "3",
    ),
    "another function of NumPy's": ("import numpy as np\ndef m(c): return float(np.{}(c['a']))", "sin", "cos"),
    "an imported function of NumPy's": ("from numpy import {} as f\ndef m(c): return float(f(c['a']))", "sin", "cos"),
    "an exception that is caught": (
        "def m(c):\n    try: return 1 / c['a']\n    except {}: return 0",
        "KeyError",
        "ValueError",
    ),
}


@pytest.mark.parametrize("source, one, other", PROGRAMS.values(), ids=PROGRAMS)
def test_whatever_is_changed_changes_the_digest(source, one, other, module):
    first, again, changed = (digest(module(source.format(x))().m) for x in (one, one, other))
    assert first == again != changed


HELPERS = {
    "a module of the same package": ("def m(c):\n    from . import inner\n    return inner.h(c['a'])", "helper.inner"),
    "a function of the same package": ("def m(c):\n    from .inner import h\n    return h(c['a'])", "helper.inner"),
    "a module by its package, while it runs": (
        "def m(c):\n    from helper import inner\n    return inner.h(c['a'])",
        "helper.inner",
    ),
    "a module in a package, while it runs": (
        "def m(c):\n    import helper.inner\n    return helper.inner.h(c['a'])",
        "helper.inner",
    ),
    "a module": ("import helper\ndef m(c): return helper.h(c['a'])", "helper"),
    "a function of a module": ("from helper import h\ndef m(c): return h(c['a'])", "helper"),
    "a module that is imported while it runs": ("def m(c):\n    import helper\n    return helper.h(c['a'])", "helper"),
    "a function, imported while it runs": ("def m(c):\n    from helper import h\n    return h(c['a'])", "helper"),
    "a module in a package": ("import helper.inner\ndef m(c): return helper.inner.h(c['a'])", "helper.inner"),
    "a module in a package, by its name": (
        "from helper import inner\ndef m(c): return inner.h(c['a'])",
        "helper.inner",
    ),
    "a module whose attribute is computed": ("import helper\ndef m(c): return getattr(helper, c['a'])(1)", "helper"),
}


@pytest.mark.parametrize("source, name", HELPERS.values(), ids=HELPERS)
def test_modules_of_ones_own_are_seen_as_far_as_they_are_used(source, name, module):
    def told(helper):
        if "." in name:
            module("", f"{name.partition('.')[0]}.__init__")
        module(helper, name)
        return digest(module(source, "helper.mine" if " ." in source else "mine")().m)

    text = "def g(a): return a {}\ndef h(a): return g(a)\ndef unused(a): return {}\n"
    first = told(text.format("+ 1", "1"))
    assert first == told(text.format("+ 1", "1")) != told(text.format("- 1", "1"))
    if "computed" not in source and "getattr" not in source:
        assert first == told(text.format("+ 1", "2")), "what is not used does not count"


@pytest.mark.parametrize(
    "one, other",
    [
        ("def m(c):\n    return c['a']", "# a comment\n\n\ndef m(c):  # and another\n    return c['a']\n"),
        ("def m(c): return c['a'] ** 2", "def m(c):\n    return (c['a']  **  2)"),
        ("def m(c):\n    'Doc.'\n    return c['a']", "def m(c):\n    'Another.'\n    return c['a']"),
        (
            "class K:\n    'Doc.'\n    k = 1\ndef m(c): return K().k",
            "class K:\n    'Another.'\n    k = 1\ndef m(c): return K().k",
        ),
        ("def m(c): return 1\ndef other(): return 1", "def other(): return 2\ndef m(c): return 1"),
        ("K = {'a', 'b', 'c'}\ndef m(c): return K", "K = {'c', 'b', 'a'}\ndef m(c): return K"),
    ],
)
def test_what_changes_no_number_changes_nothing(one, other, module):
    assert digest(module(one)().m) == digest(module(other)().m)


def test_a_digest_is_the_same_in_every_process(tmp_path):
    for k, (text, one, _) in enumerate(PROGRAMS.values()):
        (tmp_path / f"mine{k}.py").write_text(text.format(one), encoding="utf-8")
    code = (
        "from tinygrad_rnn.atlas.digest import digest; "
        f"print(*(digest(__import__(f'mine{{k}}').m)[0] for k in range({len(PROGRAMS)})))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for seed in ("0", "1")  # the second time from bytecode that the first has left
    }
    assert len(told) == 1 and len({*told.pop().split()}) > 30


def test_what_is_installed_counts_by_name():
    assert digest(slope_of) == digest(slope_of) and digest(slope_of)[1] is False
    assert digest(np.sin)[0] != digest(np.cos)[0] and digest(np.mean)[0] != digest(np.median)[0]
    assert digest(partial(slope_of, 1))[0] != digest(partial(slope_of, 2))[0]
    assert digest(lru_cache(np.sin.__call__))[0] == digest(lru_cache(np.sin.__call__))[0]


FROM_PYTHON = "__import__('numpy').frompyfunc(lambda x: x, 1, 1)"


@pytest.mark.parametrize(
    "what", ["open('own.txt', 'w')", "(x for x in [1])", "__import__('threading').Lock()", FROM_PYTHON]
)
def test_what_cannot_be_told_again_asks_for_a_name(what, module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = module(f"K = {what}\ndef m(c): return str(K)")()
    try:
        with pytest.raises(ValueError, match=r"cannot tell what the .* is in the next run: pass experiment='a name'"):
            sweep(grid(a=[1]), own.m, path=tmp_path / "t")
        assert not (tmp_path / "t").exists()
        assert len(sweep(grid(a=[1]), own.m, path=tmp_path / "t", experiment="mine")) == 1
        assert len(sweep(grid(a=[1]), own.m)) == 1  # nothing is kept, so nothing has to be told
    finally:
        getattr(own.K, "close", str)()


def test_a_table_tells_what_differs(tmp_path, module, monkeypatch):
    path = tmp_path / "t"
    sweep(grid(a=[1]), module("K = 1\ndef m(c): return K")().m, path=path)
    with pytest.raises(TableError, match=r"another experiment \(source is '\w+', not '\w+'\)"):
        sweep(grid(a=[1]), module("K = 2\ndef m(c): return K")().m, path=path)
    monkeypatch.setattr(tg, "__version__", "99.0")
    with pytest.raises(TableError, match=r"package is '[\d.]+', not '99.0'"):
        sweep(grid(a=[1]), module("K = 1\ndef m(c): return K")().m, path=path)
