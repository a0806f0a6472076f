"""What the pages are written like: British spelling, a reading level, a text for every picture.

The level is Flesch and Kincaid's grade, 0.39 words per sentence + 11.8 syllables per word - 15.59: about the years of
school that it takes. The limits are a little above what was measured
(pages 7, paragraphs 12), for all pages alike.
"""

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
PAGE_GRADE, PARAGRAPH_GRADE, PARAGRAPH_WORDS = 8.0, 12.5, 25  # shorter paragraphs have no level to speak of


def prose(text):
    """Paragraphs without code, tables, directives and roles."""
    text = re.sub(r"^(```+).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(?:    |\||:|#|<|!\[).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\{\w+\}`[^`]*`|`[^`]*`|\]\([^)]*\)", " x ", text)


def paragraphs(text):
    """The prose, one paragraph or list item each; titles of references are not ours to shorten."""
    parts = re.split(r"\n\s*\n|\n(?=[-*] |\d+\. )", prose(text))
    return [part for part in parts if not part.lstrip().startswith("**Reference.**")]


def syllables(word):
    """Groups of vowels, but for a silent e at the end."""
    groups = re.findall(r"[aeiouy]+", re.sub(r"(?<=[^aeiouyl])e$|(?<=[^aeiouytd])ed$", "", word.lower()))
    return max(len(groups), 1)


def grade(text):
    """Flesch and Kincaid's, and the number of words; a clause that ends in a semicolon or colon is a sentence."""
    parts = [re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", part) for part in re.split(r"[.?!:;](?:\s|$)|\n\n", text)]
    sentences = [words for words in parts if len(words) > 2]
    words = [word for sentence in sentences for word in sentence]
    if not words:
        return 0.0, 0
    return 0.39 * len(words) / len(sentences) + 11.8 * sum(map(syllables, words)) / len(words) - 15.59, len(words)


def hard_to_read(text):
    """The page and its paragraphs, those that are above their limit."""
    graded = [(*grade(part), part.strip()[:60]) for part in paragraphs(text)]
    found = [(level, part) for level, words, part in graded if words >= PARAGRAPH_WORDS and level > PARAGRAPH_GRADE]
    whole, _ = grade("\n\n".join(paragraphs(text)))
    return found + [(whole, "the page")] * (whole > PAGE_GRADE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_page_reads_well(path):
    text = path.read_text(encoding="utf-8")
    assert AMERICAN.findall(prose(text)) == []
    assert hard_to_read(text) == []
    assert [alt for alt in re.findall(r"!\[([^\]]*)\]\(", text) if len(alt.split()) < 3] == []


def test_faults_are_noticed():
    assert AMERICAN.findall(prose("The color of `color` was normalized.")) == ["color", "normalized"]
    unreadable = (
        "Notwithstanding considerable methodological heterogeneity, contemporary investigations of recurrent "
        "architectures demonstrate that initialisation-dependent attenuation of retrospective sensitivity necessarily "
        "deteriorates optimisation whenever singular values, aggregated multiplicatively, systematically underestimate "
        "corresponding spectral expectations."
    )
    page = (CHECKOUT / "docs" / "chapters" / "02-unrolled.md").read_text(encoding="utf-8")
    ((level, part),) = hard_to_read(f"{page}\n\n{unreadable}\n")
    assert level > PARAGRAPH_GRADE and part.startswith("Notwithstanding")
    assert hard_to_read(f"{page}\n\n```text\n{unreadable}\n```\n") == []
    dull = "\n\n".join(["Considerable heterogeneity deteriorates."] * 9)
    assert [part for _, part in hard_to_read(dull)] == ["the page"]


def test_grade_is_that_of_the_formula():
    assert [syllables(word) for word in ("a", "the", "gate", "little", "network", "added", "learned", "idea")] == (
        [1, 1, 1, 2, 2, 2, 1, 2]
    )
    level, words = grade("The cat sat on the mat. It was warm there.")
    assert words == 10 and level == pytest.approx(0.39 * 5 + 11.8 * 1.0 - 15.59)
