"""How a page is run, and that a reader can reach every page there is."""

import re
from pathlib import Path

from pages import run

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = CHECKOUT / "docs"
WRITTEN = {"_build", "gallery"}
"""What building the site writes."""


def test_other_seeds_can_be_tried(tmp_path):
    text = "```python\nseeds, T = range(2), 5\ntotal = sum(seeds)\n```\n{value}`total`\n```python\ntotal = 7\n```\n"
    text += "{value}`total + 1`"
    assert run(text, "page", tmp_path).quoted == {"total": "1", "total + 1": "8"}
    assert run(text, "page", tmp_path, {"seeds": "range(4)"}).quoted == {"total": "6", "total + 1": "8"}


def unreachable(pages):
    """Pages, by name without ending, that no toctree of another one has; the front page needs none."""
    listed = {"index"}
    for name, text in pages.items():
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            for line in tree.splitlines():
                if line.strip() and not line.startswith(":"):
                    entry = re.sub(r".*<(.*)>", r"\1", line.strip())
                    listed.add((DOCS / name).parent.joinpath(entry).resolve().relative_to(DOCS).as_posix())
    return sorted(pages.keys() - listed)


def test_every_page_can_be_reached():
    paths = [path for path in DOCS.rglob("*.md") if WRITTEN.isdisjoint(path.parts)]
    pages = {path.relative_to(DOCS).with_suffix("").as_posix(): path.read_text(encoding="utf-8") for path in paths}
    assert len(pages) > 40 and unreachable(pages) == []


def test_a_page_in_no_tree_is_seen():
    tree = "```{toctree}\n:hidden:\n\nsub/index\n```\n"
    assert unreachable({"index": tree, "sub/index": "", "sub/lost": ""}) == ["sub/lost"]
