"""What the pages are written like: British spelling, sentences that can be read, a text for every picture."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
GENERATED = {"_build", "gallery"}
PAGES = [CHECKOUT / "README.md"]
PAGES += [path for path in sorted((CHECKOUT / "docs").rglob("*.md")) if GENERATED.isdisjoint(path.parts)]
AMERICAN = re.compile(
    r"\b(?:colou?rize|color(?:s|ed|ing)?|behavior|center(?:ed|s)?|gray|labeled|optimiz\w+|initializ\w+|normaliz\w+|"
    r"regulariz\w+|visualiz\w+|recogniz\w+|neighbors?|favor\w*|analyz\w+|artifacts?|catalog)\b",
    re.IGNORECASE,
)


def prose(text):
    """Paragraphs without code, tables, directives and roles."""
    text = re.sub(r"^(```+).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(?:    |\||:|#|<|!\[).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\{\w+\}`[^`]*`|`[^`]*`|\]\([^)]*\)", " x ", text)


def words_per_sentence(text):
    """Mean length of a sentence, in words."""
    sentences = [s for s in re.split(r"[.?!:;](?:\s|$)|\n\n", prose(text)) if len(s.split()) > 2]
    return sum(len(s.split()) for s in sentences) / max(len(sentences), 1)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_page_reads_well(path):
    text = path.read_text(encoding="utf-8")
    assert AMERICAN.findall(prose(text)) == []
    assert words_per_sentence(text) <= 20
    assert [alt for alt in re.findall(r"!\[([^\]]*)\]\(", text) if len(alt.split()) < 3] == []


def test_faults_are_noticed():
    assert AMERICAN.findall(prose("The color of `color` was normalized.")) == ["color", "normalized"]
    assert words_per_sentence("word " * 40 + ". One two three.") > 20
    assert words_per_sentence("One two three four. And five six seven.") == 4
