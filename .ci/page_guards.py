"""How pages are written: words, level, parts of a chapter, and that what a guide tells to open is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from architecture import stale
from guards import CHECKOUT, guard
from lines import lines_of_code
from pages import VALUE, blocks, predictions

NAMED = re.compile(r"`((?:tinygrad_rnn|tests|docs|examples|benchmarks|\.ci)/[\w./-]*)`")


@guard(("docs/architecture.md", "# A map without its sentences"))
def map_of_the_package(name: str, content: bytes) -> list[str]:
    """The map has the first sentence of every file of the package."""
    return stale(content.decode("utf-8", "replace")) if name == "docs/architecture.md" else []


@guard(("CONTRIBUTING.md", "open `tinygrad_rnn/nowhere.py`"), ("docs/architecture.md", "`tests/test_nothing.py`"))
def files_that_exist(name: str, content: bytes) -> list[str]:
    """What a guide tells to open is there."""
    if name not in ("CONTRIBUTING.md", "docs/architecture.md"):
        return []
    paths = NAMED.findall(content.decode("utf-8", "replace"))
    return [f"names {path}, which does not exist" for path in paths if not (CHECKOUT / path).exists()]


AMERICAN = re.compile(
    r"\b(?:colou?rize|color(?:s|ed|ing)?|behavior|center(?:ed|s)?|gray|labeled|optimiz\w+|initializ\w+|normaliz\w+|"
    r"regulariz\w+|visualiz\w+|recogniz\w+|neighbors?|favor\w*|analyz\w+|artifacts?|catalog)\b",
    re.IGNORECASE,
)
METAPHORS = re.compile(r"\b(?:houses?|floors|rooms)\b", re.IGNORECASE)


@guard(("docs/a.md", "It has rooms of its own."), ("tinygrad_rnn/a.py", '"""The floors above."""'))
def plain_words(name: str, content: bytes) -> list[str]:
    """Public text says package, module, folder, architecture: pages, and the docstrings of the package."""
    text = content.decode("utf-8", "replace")
    if name.startswith("tinygrad_rnn/") and name.endswith(".py"):
        nodes = [n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Expr)]
        text = "\n".join(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
    elif not re.fullmatch(r"(README|CONTRIBUTING|CHANGELOG|SECURITY|docs/.*)\.md", name):
        return []
    return [f"a metaphor where a word of the field is: {word}" for word in METAPHORS.findall(text)]


# The level is Flesch and Kincaid's grade: about the years of school that it takes. The limits are a little above what
# was measured (pages 7, paragraphs 12), for all pages alike; shorter paragraphs have no level to speak of.
PAGE_GRADE, PARAGRAPH_GRADE, PARAGRAPH_WORDS = 8.0, 12.5, 25
UNREADABLE = (
    "Notwithstanding considerable methodological heterogeneity, contemporary investigations of recurrent "
    "architectures demonstrate that initialisation-dependent attenuation of retrospective sensitivity necessarily "
    "deteriorates optimisation whenever singular values, aggregated multiplicatively, systematically underestimate "
    "corresponding spectral expectations."
)


def prose(text: str) -> str:
    """Paragraphs without code, tables, directives and roles."""
    text = re.sub(r"^(```+).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(?:    |\||:|#|<|!\[).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\{\w+\}`[^`]*`|`[^`]*`|\]\([^)]*\)", " x ", text)


def paragraphs(text: str) -> list[str]:
    """The prose, one paragraph or list item each; titles of references are not ours to shorten."""
    parts = re.split(r"\n\s*\n|\n(?=[-*] |\d+\. )", prose(text))
    return [part for part in parts if not part.lstrip().startswith("**Reference.**")]


def syllables(word: str) -> int:
    """Groups of vowels, but for a silent e at the end."""
    groups = re.findall(r"[aeiouy]+", re.sub(r"(?<=[^aeiouyl])e$|(?<=[^aeiouytd])ed$", "", word.lower()))
    return max(len(groups), 1)


def grade(text: str) -> tuple[float, int]:
    """The level and the number of words; a clause that ends in a semicolon or colon is a sentence."""
    parts = [re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", part) for part in re.split(r"[.?!:;](?:\s|$)|\n\n", text)]
    sentences = [words for words in parts if len(words) > 2]
    words = [word for sentence in sentences for word in sentence]
    if not words:
        return 0.0, 0
    return 0.39 * len(words) / len(sentences) + 11.8 * sum(map(syllables, words)) / len(words) - 15.59, len(words)


@guard(
    ("README.md", "The color of it is red."),
    ("README.md", "The state was normalized."),
    ("README.md", f"Short.\n\n{UNREADABLE}\n"),
    ("README.md", "\n\n".join(["Considerable heterogeneity deteriorates."] * 9)),
    ("docs/a.md", "![a chart](a.svg)"),
)
def reading(name: str, content: bytes) -> list[str]:
    """British spelling, a level that a student reads without stopping, a text for every picture."""
    if not re.fullmatch(r"README\.md|SECURITY\.md|docs/.*\.md", name):
        return []
    text = content.decode("utf-8", "replace")
    found = [f"American spelling: {word}" for word in AMERICAN.findall(prose(text))]
    parts = paragraphs(text)
    for part in parts:
        level, words = grade(part)
        if words >= PARAGRAPH_WORDS and level > PARAGRAPH_GRADE:
            found.append(f"grade {level:.1f}, above {PARAGRAPH_GRADE}: {part.strip()[:60]}")
    whole, _ = grade("\n\n".join(parts))
    found += [f"grade {whole:.1f}, above {PAGE_GRADE}: the page"] * (whole > PAGE_GRADE)
    return found + [f"no text for a picture: {a}" for a in re.findall(r"!\[([^\]]*)\]\(", text) if len(a.split()) < 3]


FIGURE = re.compile(r"^```\{(?:picture|slider)\} ", re.MULTILINE)
ANSWER = re.compile(r"^:::\{dropdown\} Answer$(.*?)^:::$", re.MULTILINE | re.DOTALL)
FOLDED = re.compile(r"^:::\{dropdown\}.*?^:::$", re.MULTILINE | re.DOTALL)


def lines_shown(text: str) -> list[str]:
    """Lines of code before the reader unfolds anything: no blank line, import, comment or docstring."""
    code = "\n".join(code for _, code in blocks(FOLDED.sub("", text), "python"))
    code = re.sub(r'^ *""".*?"""$', "", code, flags=re.MULTILINE | re.DOTALL)
    return [line for line in code.splitlines() if line.strip() and not re.match(r" *(#|import |from )", line)]


CHAPTER = "docs/chapters/01-one-number.md"


def spoiled() -> Iterator[tuple[str, str]]:
    """A chapter, each time with another part taken away."""
    text = (CHECKOUT / CHAPTER).read_text(encoding="utf-8")
    yield CHAPTER, text.replace(":::{admonition} Exercise", ":::{note}")
    yield CHAPTER, text.replace(":alt: ", ":name: ")
    yield CHAPTER, text + "\n```python\n" + "x = 1\n" * 25 + "```\n"
    yield CHAPTER, ANSWER.sub("", text)
    yield CHAPTER, text.replace(":holds: ", ":because: ")
    yield CHAPTER, text.replace("- 6\n", "")


def asks(text: str) -> bool:
    """Whether a chapter asks for one prediction, offers three choices, and says what must hold for the right one."""
    found = predictions(text)
    return len(found) == 1 and {"right", "holds"} < found[0].keys() and found[0]["text"].count("\n- ") == 3


@guard(*spoiled())
def chapter(name: str, content: bytes) -> list[str]:
    """Each chapter has its parts."""
    if not re.fullmatch(r"docs/chapters/[0-9ab]\S*\.md", name) or name == BUILT:
        return []
    text = content.decode("utf-8", "replace")
    answer = ANSWER.search(text)
    parts = {
        "a title": text.startswith("# "),
        "the question": "**The question.**" in text,
        "a prediction with three choices": asks(text),
        "at most 25 lines of code": 0 < len(lines_shown(text)) <= 25,
        "a figure": "```{picture} " in text,
        "a number of this run": VALUE.search(FOLDED.sub("", text)) is not None,
        "an exercise": ":::{admonition} Exercise" in text,
        "a computed answer": answer is not None and VALUE.search(answer[1]) is not None,
        "a reference": "**Reference.**" in text,
        "alt text for each figure": len(FIGURE.findall(text)) == text.count("\n:alt: "),
    }
    return [f"lacks {part}" for part, there in parts.items() if not there]


COLUMN = 84
NARROW = re.compile(r"README\.md|docs/index\.md|docs/(?:chapters|howto)/.*\.md|examples/(?!blog_post)\w+\.py")


@guard(
    ("README.md", "```python\n" + "x" * 85 + "\n```\n"),
    ("docs/howto/a.md", "```python\n>>> " + "x" * 81 + "\n```\n"),
    ("examples/a.py", '"""A."""\nx = "' + "x" * 80 + '"\n'),
)
def column(name: str, content: bytes) -> list[str]:
    """Code is no wider than its column on a page; the docstring of an example is shown as text."""
    if not NARROW.fullmatch(name):
        return []
    text = content.decode("utf-8", "replace")
    if name.endswith(".py"):
        first = ast.parse(text).body[0]
        code = text.splitlines()[first.end_lineno if isinstance(first, ast.Expr) else 0 :]
    else:
        lines = [(block, line) for _, block in blocks(text, "python") for line in block.splitlines()]
        code = [line for block, line in lines if not block.startswith(">>>") or line[:3] in (">>>", "...")]
    return [f"wider than {COLUMN}: {line[:60]}" for line in code if len(line) > COLUMN]


BUILT = "docs/chapters/00-build-it.md"
SOLUTION = re.compile(r"^:::\{dropdown\} One solution\n```python\n(.*?)^```\n:::$", re.MULTILINE | re.DOTALL)


def half_built() -> Iterator[tuple[str, str]]:
    """Chapter 0, each time without another part, or with an engine that has grown."""
    text = (CHECKOUT / BUILT).read_text(encoding="utf-8")
    for part, instead in (":::{dropdown} Test 3", ":::{note}"), ("```{picture} rule", "```"), (":alt: ", ":name: "):
        yield BUILT, text.replace(part, instead)
    yield BUILT, text.replace(":::{predict}", ":::{note}")
    yield BUILT, text.replace('NotImplementedError("step 3: your turn")', "KeyError")
    yield BUILT, text.replace("One solution\n```python\n", "One solution\n```python\n" + "x = 1\n" * 31, 1)


@guard(*half_built())
def build(name: str, content: bytes) -> list[str]:
    """Each of the five steps of chapter 0 has its parts, and the engine that they make up stays small."""
    if name != BUILT:
        return []
    text = content.decode("utf-8", "replace")
    steps = text.split("\n## Step ")[1:]
    found = ["has not five steps"] * (len(steps) != 5) + ["lacks a prediction with three choices"] * (not asks(text))
    for k, step in enumerate(steps, 1):
        parts = {
            "a gap": "your turn" in "".join(code for _, code in blocks(FOLDED.sub("", step), "python")).lower(),
            "one solution": len(SOLUTION.findall(step)) == 1,
            "a test": f":::{{dropdown}} Test {k}\n" in step,
            "a figure": "```{picture} " in step,
            "alt text for each figure": len(FIGURE.findall(step)) == step.count("\n:alt: "),
        }
        found += [f"step {k} lacks {part}" for part, there in parts.items() if not there]
    lines = lines_of_code("\n".join(SOLUTION.findall(text)))
    return found + [f"has an engine of {lines} lines, not 60 to 100"] * (not 60 <= lines <= 100)
