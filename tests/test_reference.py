"""The reference is whole: every public name is on it, with an example that runs, its shapes and its errors."""

import ast
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from pages import blocks

import tinygrad_rnn as tg

pytestmark = pytest.mark.golden
PAGES = sorted((Path(__file__).resolve().parent.parent / "docs" / "api").glob("*.md"))
PARTS = "nn train testing testing.strategies diagnose atlas bptt draw graph data".split()
PUBLIC = ["", *(f".{part}" for part in PARTS)]
ENTRY = re.compile(
    r"^(?:\.\. auto(?:class|function|exception|data):: (tinygrad_rnn[\w.]+)|```\{differentiable\} (\w+))$", re.MULTILINE
)


def resolve(path):
    """The object behind a dotted path; a module wins over a function of the same name, as `draw` is both."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut])) and sys.modules[".".join(parts[:cut])]
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(path)


def entries(text):
    """The names that a page documents, each with the text up to the next one."""
    found = list(ENTRY.finditer(text))
    ends = [*(entry.start() for entry in found[1:]), len(text)][: len(found)]
    return {
        (e[1] or f"tinygrad_rnn.{e[2]}"): text[e.end() : end].partition("\n```\n")[2]
        for e, end in zip(found, ends, strict=True)
    }


def has_example(path, text):
    """Whether a session shows it, in its docstring or below its entry; a function must be called by its name there."""
    value, name = resolve(path), path.rpartition(".")[2]
    sessions = [code for _, code in blocks(text, "python")] + [inspect.getdoc(value) or ""]
    used = rf"(>>>|\.\.\.) .*\b{name}\b" if inspect.isfunction(value) else ">>> "
    return any(re.search(used, code) for code in sessions)


# The page of what needs PyTorch: test_torch_docs.py.
DOCUMENTED = {
    path: text
    for page in PAGES
    if page.stem != "torch"
    for path, text in entries(page.read_text(encoding="utf-8")).items()
}


FUNCTIONS = next(page for page in PAGES if page.stem == "functions").read_text(encoding="utf-8")


def public_names():
    for suffix in PUBLIC:
        try:
            importlib.import_module(f"tinygrad_rnn{suffix}")
        except ModuleNotFoundError:
            continue  # not built yet, or without its extra
        module = sys.modules[f"tinygrad_rnn{suffix}"]
        for name in module.__all__:
            if not inspect.ismodule(getattr(module, name)):
                yield f"tinygrad_rnn{suffix}.{name}", getattr(module, name)


def missing(names, documented):
    """Public names that the reference does not have; the same object may be public in two places."""
    known = {id(resolve(path)) for path in documented}
    return [path for path, value in names if id(value) not in known]


def test_reference_has_every_public_name():
    pytest.importorskip("hypothesis")
    assert missing(public_names(), DOCUMENTED) == [], "describe it on a page of docs/api/"


def test_missing_name_is_noticed():
    fewer = {path: text for path, text in DOCUMENTED.items() if not path.endswith(".vjp")}
    assert "tinygrad_rnn.vjp" in missing(public_names(), fewer)


# Named on no page but the reference, and why they are public all the same.
BESIDE = {
    "PyTorch's name for it": {"log_softmax", "binary_cross_entropy_with_logits"},
    "what x[index] calls": {"getitem"},
    "the number that an edge is drawn with": {"norm_of"},
    "what rewrites= may hold": {"REWRITES"},
}


def test_a_public_name_is_needed():
    """By a page, a chapter, a how-to or an example; or it is NumPy's, or a class that some function gives or raises."""
    pytest.importorskip("hypothesis")
    checkout = PAGES[0].parents[2]
    pages = [p for p in (checkout / "docs").rglob("*.md") if not {"api", "decisions"} & {p.stem, *p.parts}]
    sources = [*pages, checkout / "README.md", *(checkout / "examples").glob("*.py")]
    words = set(re.findall(r"\w+", "\n".join(path.read_text(encoding="utf-8") for path in sources)))
    names = {path.rpartition(".")[2]: value for path, value in public_names()}
    unneeded = {n for n, value in names.items() if n not in words and not inspect.isclass(value) and not hasattr(np, n)}
    assert unneeded <= set().union(*BESIDE.values()), "show it on a page, or take it out of __all__"
    assert set().union(*BESIDE.values()) <= unneeded, "BESIDE has a name that needs no reason"


def test_public_names_are_written_in_one_way():
    """A class as Words, a constant in capitals, a function in small letters, as in NumPy or PyTorch if it is there."""
    pytest.importorskip("hypothesis")
    for path, value in public_names():
        name = path.rpartition(".")[2]
        called = name in ("scope", "no_grad", "every")  # classes that are only ever called, as functions are
        small = called or (callable(value) and not inspect.isclass(value))
        kind = "[a-z][a-z0-9_]*" if small else "[A-Z][A-Za-z0-9]+" if inspect.isclass(value) else "[A-Z][A-Z_]*"
        assert re.fullmatch(kind, name), path


def test_every_entry_has_an_example():
    without = [path for path, text in DOCUMENTED.items() if not has_example(path, text)]
    assert without == [], "an example in its docstring, or below its entry in docs/api/"


def test_missing_example_is_noticed():
    assert not has_example("tinygrad_rnn.vjp", "")
    assert has_example("tinygrad_rnn.vjp", "\n```python\n>>> tg.vjp(f, 1.0)\n```\n")
    assert not has_example("tinygrad_rnn.vjp", "\n```python\n>>> tg.jvp(f, 1.0)\n```\n")


SHOWN = {f"tinygrad_rnn.{name}" for name in re.findall(r"^```\{differentiable\} (\w+)$", FUNCTIONS, re.MULTILINE)}


def raises(function):
    """Whether its own body raises an error of its own, be it in a nested function."""
    if function.__code__.co_filename.startswith("<"):  # what `dataclass` wrote
        return False
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def undocumented(path, value):
    """The sections that a docstring lacks. What a function of the engine takes and gives is shown by a call instead."""
    made = inspect.isclass(value) and not issubclass(value, BaseException) and not getattr(value, "_is_protocol", False)
    if not (made or inspect.isfunction(value)) or value in tg.OPS.values():
        return []
    sections = set(re.findall(r"^(\w+)\n-+$", inspect.getdoc(value) or "", re.MULTILINE))
    signature, lacking = inspect.signature(value), []
    if path not in SHOWN:
        above = [inspect.getdoc(base) or "" for base in value.__mro__[1:-1]] if made else []
        told = sections | set(re.findall(r"^(Attributes)\n-+$", "\n".join(above), re.MULTILINE))
        if signature.parameters and told.isdisjoint({"Parameters", "Attributes"}):
            lacking.append("Parameters")
        drawn = ".strategies." in path  # a strategy: its first line says what is drawn
        if not made and str(signature.return_annotation) != "None" and not drawn:
            lacking += ["Returns"] if sections.isdisjoint({"Returns", "Yields"}) else []
    own = [vars(value)[name] for name in ("__init__", "__post_init__") if name in vars(value)] if made else [value]
    if "Raises" not in sections and any(raises(inspect.unwrap(function)) for function in own):
        lacking.append("Raises")
    return lacking


def test_every_docstring_has_its_sections():
    pytest.importorskip("hypothesis")
    found = {path: lacking for path, value in public_names() if (lacking := undocumented(path, value))}
    assert found == {}


def test_missing_section_is_noticed():
    def area(shape, *, unit="m"):
        if not shape:
            raise ValueError("no shape")
        return shape[0]

    area.__doc__ = "How large.\n\nParameters\n----------\nshape : tuple of int\n"
    assert undocumented("tinygrad_rnn.area", area) == ["Returns", "Raises"]
    area.__doc__ = area.__doc__.replace("Parameters", "Returns") + "\nRaises\n------\nValueError\n"
    assert undocumented("tinygrad_rnn.area", area) == ["Parameters"]
    assert undocumented("tinygrad_rnn.sum", tg.sum) == []


def test_function_of_the_engine_is_shown_with_a_call():
    pytest.importorskip("sphinx")
    from reference import call

    assert call("matmul") == ("matmul(X[2, 3], X[3, 4])", "(2, 4)")
    assert call("split")[1] == "(2, 1), (2, 1), (2, 1)"
    assert all(call(path.rpartition(".")[2]) for path in SHOWN)


def test_every_page_is_in_the_contents():
    contents = (PAGES[0].parent / "index.md").read_text(encoding="utf-8")
    assert [page.stem for page in PAGES if page.stem != "index" and f"\n{page.stem}\n" not in contents] == []
