"""The chapters: each has its parts, runs, and measures what is known from elsewhere; nothing in them is pasted.

What is expected was measured with a program of its own (plain NumPy and PyTorch) or is exact; tolerances are for a
mean over other seeds.
"""

import re
from pathlib import Path

import pytest
from pages import VALUE, blocks, chart_style, run

CHAPTERS = sorted((Path(__file__).resolve().parent.parent / "docs" / "chapters").glob("[0-9a]*.md"))

# What a page quotes (the expression as it stands there): the expected value, and how far it may be off.
EXPECTED = {
    "01-one-number": {"right:.0f": (4, 0), "wrong:.0f": (8, 0), "three:.0f": (48, 0)},
    "02-unrolled": {"float(w.grad):.3f": (0.108, 0), "parts[0]:.3f": (0.036, 0), "len(parts)": (3, 0)},
    "05-eigenvalues": {
        "max(norms):.2f": (38.746, 0.01),
        "peak": (9, 0),
        "below": (63, 0),
        "norms[-1]:.4f": (0.0295, 1e-4),
        'rank["identity"]': (64, 0),
        'rank["tanh"]': (36, 4),
    },
    "10-numbers": {
        "subnormal": (64, 0),
        "zero": (75, 0),
        "norm_zero": (38, 0),
        "first(chain(550, np.float64), lambda g: g == 0)": (538, 0),
        "best:.0e": (1e-5, 9.1e-6),
        "half_zero": (13, 0),
    },
}
ANSWER = re.compile(r"^:::\{dropdown\} Answer$(.*?)^:::$", re.MULTILINE | re.DOTALL)
FOLDED = re.compile(r"^:::\{dropdown\}.*?^:::$", re.MULTILINE | re.DOTALL)


def lines_shown(text):
    """Lines of code before the reader unfolds anything: no blank line, import, comment or docstring."""
    code = "\n".join(code for _, code in blocks(FOLDED.sub("", text), "python"))
    code = re.sub(r'^ *""".*?"""$', "", code, flags=re.MULTILINE | re.DOTALL)
    return [line for line in code.splitlines() if line.strip() and not re.match(r" *(#|import |from )", line)]


def faults(text):
    """What a chapter lacks."""
    answer = ANSWER.search(text)
    parts = {
        "a title": text.startswith("# "),
        "the question": "**The question.**" in text,
        "a prediction": ":::{admonition} Predict first" in text,
        "at most 15 lines of code": 0 < len(lines_shown(text)) <= 15,
        "a figure": "```{picture} " in text,
        "a number of this run": VALUE.search(FOLDED.sub("", text)) is not None,
        "an exercise": ":::{admonition} Exercise" in text,
        "a computed answer": answer is not None and VALUE.search(answer[1]) is not None,
        "a reference": "**Reference.**" in text,
        "alt text for each figure": text.count("```{picture} ") == text.count("\n:alt: "),
    }
    return [part for part, there in parts.items() if not there]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_has_its_parts(path):
    assert faults(path.read_text(encoding="utf-8")) == []


def test_missing_parts_are_noticed():
    text = CHAPTERS[0].read_text(encoding="utf-8")
    assert faults(text.replace(":::{admonition} Exercise", ":::{note}")) == ["an exercise"]
    assert faults(text.replace(":alt: ", ":name: ")) == ["alt text for each figure"]
    assert faults(text + "\n```python\n" + "x = 1\n" * 15 + "```\n") == ["at most 15 lines of code"]
    assert faults(ANSWER.sub("", text)) == ["a computed answer"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_measures_what_is_known(path, tmp_path):
    pytest.importorskip("matplotlib", reason="the charts of a chapter need tinygrad-rnn[plot]")
    with chart_style():
        quoted = run(path.read_text(encoding="utf-8"), str(path), tmp_path).quoted
    for expression, (expected, tolerance) in EXPECTED[path.stem].items():
        assert float(quoted[expression]) == pytest.approx(expected, abs=tolerance, rel=1e-9), expression


def test_other_seeds_can_be_tried(tmp_path):
    text = "```python\nseeds = range(2)\ntotal = sum(seeds)\n```\n{value}`total`\n```python\ntotal = 7\n```\n"
    text += "{value}`total + 1`"
    assert run(text, "page", tmp_path).quoted == {"total": "1", "total + 1": "8"}
    assert run(text, "page", tmp_path, {"seeds": "range(4)"}).quoted == {"total": "6", "total + 1": "8"}
