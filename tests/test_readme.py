"""What the documents show is what happens: their code runs, and their commands are those that CI runs."""

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from pages import FENCE, blocks, run

import tinygrad_rnn as tg
from tinygrad_rnn.cli import main

CHECKOUT = Path(__file__).resolve().parent.parent
README = CHECKOUT / "README.md"
# Chapters are run, and their numbers checked, by test_chapters; what building the site writes is not ours to check.
BUILT = {"_build", "gallery"}
PAGES = [path for path in sorted((CHECKOUT / "docs").rglob("*.md")) if BUILT.isdisjoint(path.parts)]
DOCUMENTS = [README, *(path for path in PAGES if path.parent.name != "chapters")]
NEEDS_PLOT = "the chart needs matplotlib"
CODE = re.compile(r"`[^`\n]*`|^    .*$", re.MULTILINE)  # in a line, and indented
MARKED = re.compile(
    r"^<!-- ([\w-]+-command) -->\s+```sh\n(.*?)\n```$\s+```powershell\n(.*?)\n```$", re.MULTILINE | re.DOTALL
)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, and no window that waits to be closed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path


@pytest.mark.golden
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.relative_to(CHECKOUT).as_posix(), marks=() if path == README else pytest.mark.slow)
        for path in DOCUMENTS
    ],
)
def test_code_in_documents_runs(path, elsewhere):
    try:
        run(path.read_text(encoding="utf-8"), str(path), elsewhere)
    except Exception as error:
        if NEEDS_PLOT not in str(error):
            raise
        pytest.skip("a chart in it needs the extra [plot]")


def test_readme_shows_code():
    assert list(blocks(README.read_text(encoding="utf-8"), "python"))


def test_blocks_share_a_namespace_and_sessions_are_compared(elsewhere):
    python = ["x = 1", ">>> x + 1\n2\n>>> y = 5", "z = x + y"]
    text = "A\n```sh\nexit 1\n```\n" + "B\n".join(f"```python\n{code}\n```\n" for code in python)
    assert run(text, "text", elsewhere).namespace["z"] == 6


@pytest.mark.parametrize(
    "code, error",
    [
        ("1 / 0", ZeroDivisionError),
        (">>> 1 + 1\n3", AssertionError),
        ("import warnings\nwarnings.warn('w')", UserWarning),
    ],
)
def test_code_that_fails_is_noticed(elsewhere, code, error):
    with pytest.raises(error):
        run(f"```python\n{code}\n```\n", "text", elsewhere)


def test_traceback_names_the_line_of_the_document(elsewhere):
    with pytest.raises(ZeroDivisionError) as caught:
        run("one\n\n```python\nx = 0\n1 / x\n```\n", "README.md", elsewhere)
    assert caught.traceback[-1].lineno + 1 == 5


# --- commands ---


def commands():
    return {name: (sh, powershell) for name, sh, powershell in MARKED.findall(README.read_text(encoding="utf-8"))}


def test_readme_marks_two_commands():
    assert sorted(commands()) == ["draw-command", "test-command"]


@pytest.mark.parametrize("name", ["draw-command", "test-command"])
def test_commands_are_one_line_for_each_shell_and_do_the_same(name):
    sh, powershell = commands()[name]
    assert "\n" not in sh and sh.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    translated = sh.replace("python3 ", "py ").replace(".venv/bin/", ".venv\\Scripts\\").replace(" && ", "; ")
    assert powershell == translated


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("name", ["draw-command", "test-command"])
def test_ci_runs_the_commands_of_the_readme(name):
    script = CHECKOUT / ".ci" / "run"
    done = subprocess.run(["bash", str(script), "--command", name], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == commands()[name][0] + "\n"
    variable, text = name.replace("-", "_"), script.read_text(encoding="utf-8")
    assert f"{variable}=$(readme_command {name})" in text and f'sh -c "${variable}"' in text


def test_links_lead_somewhere():
    broken = []
    for path in [README, *PAGES, CHECKOUT / "CONTRIBUTING.md", CHECKOUT / "CHANGELOG.md"]:
        for target in re.findall(
            r"(?:\]\(|(?:src|href)=\")([^)\"\s#]+)", CODE.sub("", FENCE.sub("", path.read_text(encoding="utf-8")))
        ):
            if re.match(r"[a-z]+:", target) or BUILT & set(Path(target).parts):  # check_site follows what is built
                continue
            if not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert broken == []


def slug(heading):
    """The name of a heading in a link, as GitHub and the site make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_to_headings_lead_to_headings():
    """Whoever renames a heading is told here, and not after minutes by the site."""
    broken = []
    for path in [README, *PAGES, CHECKOUT / "CONTRIBUTING.md"]:
        for name, fragment in re.findall(r"\]\(([^):\s]*)#([^)\s]+)\)", path.read_text(encoding="utf-8")):
            target = path.parent / name if name else path
            if target.suffix == ".md" and BUILT.isdisjoint(target.parts):
                text = FENCE.sub("", target.read_text(encoding="utf-8"))
                headings = {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
                broken += [] if fragment in headings else [f"{path.name}: {name}#{fragment}"]
    assert broken == []


# --- what it says of itself ---


SHIPPED = ("numpy", "graphviz-pure", "graphviz", "tqdm")


def located(files):
    """Those of an installation that are there."""
    return [path for path in (Path(file.locate()) for file in files) if path.exists()]


def test_readme_says_how_large_the_installation_is():
    """Within a third: NumPy grows, and a wheel for another machine has another size."""
    files = (file for name in SHIPPED for file in distribution(name).files)
    own = [path for path in Path(tg.__file__).parent.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in [*own, *located(files)]) / 1e6
    (said,) = re.findall(r"About (\d+) MB are installed", README.read_text(encoding="utf-8"))
    assert total == pytest.approx(float(said), rel=1 / 3)


def test_installation_is_what_the_project_depends_on():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {re.match(r"[\w-]+", wanted)[0] for wanted in project["dependencies"]} == set(SHIPPED)
    table = (CHECKOUT / "docs" / "facts.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == {*SHIPPED, "tinygrad-rnn"}


@pytest.mark.golden
def test_readme_quotes_what_its_command_says(elsewhere, capsys):
    """The draw command as a reader runs it, without the installation."""
    words = commands()["draw-command"][0].partition(".venv/bin/tinygrad-rnn ")[2].split()
    assert main(words) == 0
    found = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("found"))
    assert f"`{found.removeprefix('found   ')}`" in README.read_text(encoding="utf-8")


def test_what_stands_above_the_fold():
    """One screen: a sentence, the picture, and the first command; then at most one page of text."""
    text = README.read_text(encoding="utf-8")
    head = text.partition("## ")[0]
    assert head.index("![") < head.index("<!-- draw-command -->") < head.index("<!-- test-command -->")
    assert len(text.splitlines()) <= 85
    assert text.index("<!-- draw-command -->") < 1700
