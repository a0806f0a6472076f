"""What a reader does in a page: a prediction waits, answers and is remembered; a slider shows one picture at a time."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import predictions

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = CHECKOUT / "docs"
pytestmark = pytest.mark.slow

CONF = f"""
import sys
sys.path.insert(0, {str(DOCS / "ext")!r})
extensions = ["myst_parser", "run_python", "live"]
myst_fence_as_directive, myst_enable_extensions = ["python"], ["colon_fence"]
html_theme, html_static_path = "basic", [{str(DOCS / "static")!r}]
html_css_files, html_js_files = ["site.css"], [("live.js", {{"defer": "defer"}})]
"""
PAGE = """# A page

The question.

:::{predict}
:right: 2
:holds: measured == 2

Which is *it*?

- one
- `two`
- three & four
:::

```python
measured, labels = 2, []
for k in range(3):
    with open(f"f-{k}.svg", "w") as file:
        print('<svg xmlns="http://www.w3.org/2000/svg"/>', file=file)
    labels.append(f"k is {k}")
```

```{slider} f
:of: k
:labels: labels
:alt: Nothing, {measured} times.
Three pictures.
```

## Further down

The end.
"""


def build(folder, page, **more):
    """Build a site of one page, or of several by name; give the first one's file, and what was said."""
    pytest.importorskip("sphinx", reason="the site needs the extra [docs]")
    source, out = folder / "source", folder / "out"
    source.mkdir()
    (source / "conf.py").write_text(CONF, encoding="utf-8")
    for name, text in {"index": page, **more}.items():
        (source / f"{name}.md").write_text(text, encoding="utf-8")
    command = [sys.executable, "-P", "-m", "sphinx", "-E", "-q", "-n", str(source), str(out)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return out / "index.html", done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The page above, built."""
    path, said = build(tmp_path_factory.mktemp("site"), PAGE)
    assert said == ""
    return path


FAULTS = [
    (":holds: measured == 2", ":holds: measured == 3", "what is called right was not measured: measured == 3"),
    (":holds: measured == 2", ":holds: unknown", "a prediction cannot be judged"),
    ("- three & four\n", "", "a prediction has three choices"),
    (":right: 2", ":right: 4", "a prediction has three choices"),
    ("```{slider} f\n", "```{slider} g\n", "no slider g: FileNotFoundError"),
    (":labels: labels", ":labels: no_labels", "no slider f: NameError"),
    ("{measured} times", "{unmeasured} times", "no slider f: NameError"),
]


def test_a_fault_of_a_page_is_said_and_of_which(tmp_path):
    pages = {f"fault{k}": PAGE.replace(old, new) for k, (old, new, _) in enumerate(FAULTS)}
    assert PAGE not in pages.values()
    lines = build(tmp_path, PAGE, **pages)[1].splitlines()
    for k, (*_, said) in enumerate(FAULTS):
        assert any(f"fault{k}.md" in line and said in line for line in lines), lines
    assert not [line for line in lines if "index.md" in line]


def test_all_is_in_the_page_without_its_script(site):
    text = site.read_text(encoding="utf-8")
    assert text.count('<input type="radio" name="predict"') == 3 and "<code" in text and "three &amp; four" in text
    frames = re.findall(r'<div class="frame" data-label="([^"]*)">', text)
    assert frames == ["k is 0", "k is 1", "k is 2"]
    assert text.count('alt="k is 1. Nothing, 2 times."') == 2  # light and dark
    assert "The end." in text and (site.parent / "_pictures" / "index" / "f-2.dark.svg").exists()


def test_what_is_hidden_is_hidden_on_a_screen_and_by_the_script_only():
    rules = re.sub(r"/\*.*?\*/", "", (DOCS / "static" / "site.css").read_text(encoding="utf-8"), flags=re.DOTALL)
    outside = re.sub(r"@media screen \{(?:[^{}]*\{[^{}]*\})*\s*\}", "", rules)
    assert ".live" in rules and ".live" not in outside


def test_each_chapter_asks_once():
    chapters = sorted((DOCS / "chapters").glob("[0-9ab]*.md"))
    assert len(chapters) == 12
    for path in chapters:
        assert len(predictions(path.read_text(encoding="utf-8"))) == 1, path.name


@pytest.fixture(scope="module")
def browse(site, tmp_path_factory):
    """Run a script in the page, in headless Chromium, and give what it found; `before` runs before the page's own."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on PATH")
    user = tmp_path_factory.mktemp("user")

    def run(script, before="", fragment=""):
        text = site.read_text(encoding="utf-8").replace("<head>", f"<head><script>{before}</script>", 1)
        drive = f"<pre id='found'></pre><script>addEventListener('load', () => {{{DRIVE}{script}}});</script></body>"
        path = site.with_name("driven.html")
        path.write_text(text.replace("</body>", drive), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={user}", "--dump-dom"]
        flags += ["--virtual-time-budget=6000", "--window-size=1280,720", f"{path.as_uri()}{fragment}"]
        out = subprocess.run([program, *flags], capture_output=True, timeout=120).stdout.decode("utf-8")
        if "<html" not in out:
            pytest.skip(f"no browser: {program} does not start here")
        return json.loads(re.search(r'<pre id="found">(.*?)</pre>', out, re.DOTALL)[1])

    return run


DRIVE = """
const $ = (q) => document.querySelector(q), $$ = (q) => [...document.querySelectorAll(q)];
const seen = (e) => e.getClientRects().length > 0;
const found = (x) => { $("#found").textContent = JSON.stringify(x); };
const rest = () => seen($("figure.slider")) && seen($("section section"));
const click = (k) => $$("fieldset.predict input")[k].click();
const key = "tinygrad_rnn predict index";
"""


def test_the_result_waits_for_an_answer_and_the_answer_is_told(browse):
    script = (
        "const before = rest(); click(0); found([before, rest(), $('.said').textContent, localStorage.getItem(key)])"
    )
    before, after, said, kept = browse(script, "localStorage.clear()")
    assert (before, after, kept) == (False, True, "1")
    assert said == "You said: one. Measured: two."


def test_a_right_answer_is_told_and_all_can_be_asked_again(browse):
    script = (
        "click(1); const said = $('.said').textContent, shown = rest(); $('.again button').click();"
        "found([said, shown, rest(), localStorage.getItem(key), $$('fieldset.predict input:checked').length])"
    )
    assert browse(script, "localStorage.clear()") == ["You said: two. So it was measured.", True, False, None, 0]


@pytest.mark.parametrize("kept, said", [("3", "You said: three"), ("skipped", "")])
def test_an_answer_is_remembered(browse, kept, said):
    shown, told = browse(
        "found([rest(), $('.said').textContent.slice(0, 15)])",
        f"localStorage.setItem('tinygrad_rnn predict index', '{kept}')",
    )
    assert (shown, told) == (True, said)


def test_one_may_look_without_an_answer_and_without_storage(browse):
    forbidden = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('forbidden'); }})"
    script = "const before = rest(); $('.skip button').click(); found([before, rest(), $('.said').textContent])"
    assert browse(script, forbidden) == [False, True, ""]


def test_a_link_to_a_place_further_down_is_followed(browse):
    assert browse("found(rest())", "localStorage.clear()", "#further-down") is True


def test_a_slider_shows_one_picture_at_a_time_and_says_which(browse):
    script = """
    click(0);
    const range = $("input[type=range]"), frames = () => $$(".frame").map(seen), first = frames();
    range.value = 2; range.dispatchEvent(new Event("input"));
    found([first, frames(), range.getAttribute("aria-valuetext"), range.tabIndex]);
    """
    first, last, told, reached = browse(script, "localStorage.clear()")
    assert (first, last) == ([True, False, False], [False, False, True])
    assert told == "k is 2" and reached == 0
