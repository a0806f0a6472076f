"""The check of the built site finds each kind of fault, planted one at a time."""

import re
from pathlib import Path

import pytest
from check_site import faults

PAGE = """<html><head><meta name="viewport" content="width=device-width"></head><body>
<a href="other.html#part">x</a><img src="a.svg" alt="A chart that falls">
<dl><dt class="sig sig-object py" id="tg.add">add(a, b)</dt>
<dd><p>The sum.</p></dd></dl></body></html>"""
OTHER = '<meta name="viewport"><h1 id="part">Part</h1>'


@pytest.mark.parametrize(
    "old, new, fault",
    [
        ("", "", None),
        ("#part", "#port", "there is no other.html#port"),
        ("other.html", "another.html", "another.html#part leads nowhere"),
        ("A chart that falls", "", "no text for the picture a.svg"),
        ("<p>The sum.</p>", "\n", "no text for tg.add"),
        ('alt="A chart', 'style="min-width: 46rem" alt="A chart', "a phone shows only a part of a.svg"),
        ('name="viewport"', 'name="other"', "not made for a phone"),
        ('src="a.svg"', 'src="https://example.org/a.svg"', "loads https://example.org/a.svg"),
    ],
)
def test_fault_is_found(tmp_path, old, new, fault):
    (tmp_path / "index.html").write_text(PAGE.replace(old, new) if old else PAGE, encoding="utf-8")
    (tmp_path / "other.html").write_text(OTHER, encoding="utf-8")
    (tmp_path / "a.svg").write_text("<svg/>", encoding="utf-8")
    assert faults(tmp_path) == ([f"index.html: {fault}"] if fault else [])


def test_no_rule_of_the_style_makes_a_picture_wider_than_a_phone():
    rules = (Path(__file__).resolve().parent.parent / "docs" / "static" / "site.css").read_text(encoding="utf-8")
    for selector, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", rules, flags=re.DOTALL)):
        assert not ("img" in selector and "min-width" in rule), selector
