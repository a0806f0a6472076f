"""What the documents show is what happens: their code runs, and their commands are those that CI runs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pages import FENCE, blocks, run

CHECKOUT = Path(__file__).resolve().parent.parent
README = CHECKOUT / "README.md"
# Chapters are run, and their numbers checked, by test_chapters; what building the site writes is not ours to check.
BUILT = {"_build", "gallery"}
PAGES = [path for path in sorted((CHECKOUT / "docs").rglob("*.md")) if BUILT.isdisjoint(path.parts)]
DOCUMENTS = [README, *(path for path in PAGES if path.parent.name != "chapters")]
NEEDS_PLOT = "the chart needs matplotlib"
MARKED = re.compile(
    r"^<!-- ([\w-]+-command) -->\s+```sh\n(.*?)\n```$\s+```powershell\n(.*?)\n```$", re.MULTILINE | re.DOTALL
)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, and no window that waits to be closed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path


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
            r"(?:\]\(|(?:src|href)=\")([^)\"\s#]+)", FENCE.sub("", path.read_text(encoding="utf-8"))
        ):
            if re.match(r"[a-z]+:", target) or BUILT & set(Path(target).parts):  # check_site follows what is built
                continue
            if not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert broken == []
