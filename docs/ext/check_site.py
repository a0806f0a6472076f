"""Check a built site: internal links lead somewhere, pictures and entries have a text, nothing comes from elsewhere.

After this file the reader knows what a page must do before it is published: ``python docs/ext/check_site.py
docs/_build/html``. Links to other sites are listed by nobody's clock, so they are not followed.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

EMPTY = re.compile(r'<dt class="sig [^>]*id="([^"]+)"(?:(?!</dt>).)*</dt>\s*<dd>\s*</dd>', re.DOTALL)
GENERATED = {"search.html", "genindex.html", "py-modindex.html"}


class Parts(HTMLParser):
    """What a page refers to, what can be referred to in it, and its pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.pictures: list[tuple[str, str]] = []
        self.cropped: list[str] = []
        self.viewport = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect."""
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[key] for key in ("id", "name") if key in found}
        self.viewport |= tag == "meta" and found.get("name") == "viewport"
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in ("script", "img", "iframe") and "src" in found:
            self.loaded.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(found["href"])
        if tag == "img":
            self.pictures.append((found.get("src", ""), found.get("alt", "")))
            self.cropped += [found.get("src", "")] if "min-width" in found.get("style", "") else []


def faults(site: Path) -> list[str]:
    """What is wrong with a built site, one line each."""
    folders = [path for path in sorted(site.rglob("*.html")) if "_pictures" not in path.parts]
    pages = {path: Parts(path.read_text(encoding="utf-8")) for path in folders}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site).as_posix()
        found += [f"{where}: loads {source}" for source in page.loaded if urlsplit(source).netloc]
        found += [f"{where}: no text for the picture {source}" for source, alt in page.pictures if len(alt.split()) < 2]
        found += [f"{where}: a phone shows only a part of {source}" for source in page.cropped]
        found += [] if page.viewport else [f"{where}: not made for a phone"]
        found += [f"{where}: no text for {name}" for name in EMPTY.findall(path.read_text(encoding="utf-8"))]
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{where}: {link} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                found.append(f"{where}: there is no {link}") if target.name not in GENERATED else None
    return found


def main() -> int:
    """Print the faults of the site named on the command line."""
    site = Path(sys.argv[1]).resolve()
    found = faults(site)
    print(*found, sep="\n") if found else None
    print(f"{len(list(site.rglob('*.html')))} pages, {len(found)} faults")
    return 1 if found or not (site / "index.html").exists() else 0


if __name__ == "__main__":
    sys.exit(main())
