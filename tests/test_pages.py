"""What pages say about verdicts: the words, bounds and changes that there are, and no others."""

import re
from pathlib import Path

import pytest

from tinygrad_rnn.cli.flow import BOUND
from tinygrad_rnn.diagnose.changes import KINDS as CHANGES
from tinygrad_rnn.diagnose.verdict import BLOCKED, HEALTHY, SEVERE, WORDS

pytestmark = pytest.mark.golden
CHECKOUT = Path(__file__).resolve().parent.parent
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
TEXTS = {path.relative_to(CHECKOUT).as_posix(): path.read_text("utf-8") for path in PAGES if "_build" not in path.parts}


def rows(page, head):
    """The first cells of the table that begins with such a head."""
    table = page.partition(f"| {head} |")[2].partition("\n\n")[0]
    return [line.split("|")[1].strip() for line in table.splitlines()[2:]]


def test_every_word_has_its_row_and_there_is_no_other():
    page = TEXTS["docs/diagnosis.md"]
    assert sorted(rows(page, "word")) == sorted(WORDS)
    given = rows(page, "by PyTorch") + rows(page, "word at the start")
    assert set(given) - {"nothing gets through"} <= set(WORDS) and len(given) > 6


def test_the_page_has_the_bounds_that_are_judged_by():
    page = TEXTS["docs/diagnosis.md"]
    for words in (f"from −{HEALTHY:.0f} to {HEALTHY:.0f}", f"above {SEVERE:.0f}", f"below −{SEVERE:.0f}"):
        assert f"| D {words}" in page
    assert f"more than 10{str(int(BLOCKED)).translate(str.maketrans('-4', '⁻⁴'))} of its size" in page


def unknown(text):
    """Words of `--fail-on` and names of changes that there are not."""
    wanted = [item for found in re.findall(r"--fail-on ([\w,<>.'\"]+)", text) for item in found.strip("'\"").split(",")]
    changes = re.findall(r"what_if\(([^()]*)\)", text)
    names = [name for given in changes for name in re.findall(r"(\w+)=", given)]
    return [item for item in wanted if item not in WORDS and not BOUND.fullmatch(item)] + [
        name for name in names if name not in CHANGES
    ]


@pytest.mark.parametrize("page", TEXTS)
def test_pages_ask_for_words_and_changes_that_there_are(page):
    assert unknown(TEXTS[page]) == []


def test_a_word_or_change_that_there_is_not_is_seen():
    assert unknown("flow --fail-on vanishing,unclear") == ["unclear"]
    assert unknown("flow.what_if(spectral_radius=1.0)") == ["spectral_radius"]
