"""What a stranger meets first says the same everywhere: versions, commands of hosted CI, addresses, named tests."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tinygrad_rnn as tg

CHECKOUT = Path(__file__).resolve().parent.parent


def text(name):
    return (CHECKOUT / name).read_text(encoding="utf-8")


def parsed(name):
    yaml = pytest.importorskip("yaml", reason="could not import 'yaml': needs the extra [docs]")
    return yaml.safe_load(text(name))


def project():
    return tomllib.loads(text("pyproject.toml"))["project"]


def pythons():
    return re.findall(r"Python :: (3\.\d+)", "\n".join(project()["classifiers"]))


def steps(job):
    """What a job runs, by the shell that runs it."""
    return {step["shell"]: step["run"] for step in job["steps"] if "run" in step}


def test_every_workflow_is_yaml_with_jobs_that_run_something():
    names = sorted(path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.glob(".github/workflows/*"))
    assert names
    for name in names:
        workflow = parsed(name)
        # YAML 1.1 reads the key `on` as true, as the hosted service's own parser does not.
        assert {"name", "jobs"} <= workflow.keys() and (True in workflow or "on" in workflow)
        for job in workflow["jobs"].values():
            assert job["runs-on"] and job["timeout-minutes"] and steps(job)
            assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_hosted_ci_tries_every_supported_python_on_every_system():
    jobs = parsed(".github/workflows/ci.yml")["jobs"]
    matrix = jobs["everyday"]["strategy"]["matrix"]
    assert matrix["python"] == pythons()
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
    (given,) = (s["with"]["python-version"] for s in jobs["all"]["steps"] if "setup-python" in s.get("uses", ""))
    assert given.split() == pythons()[::-1]


def test_hosted_ci_runs_the_commands_of_the_readme():
    jobs = parsed(".github/workflows/ci.yml")["jobs"]
    powershell = re.search(r"<!-- test-command -->.*?```powershell\n(.*?)\n```", text("README.md"), re.DOTALL)[1]
    everyday = steps(jobs["everyday"])
    assert everyday["pwsh"] == powershell.replace("py -m", "python -m")
    assert everyday["bash"] == 'sh -c "$(.ci/run --command test-command)"'
    assert steps(jobs["all"]) == {"bash": ".ci/run"}


def test_supported_versions_are_the_same_everywhere():
    noxfile = re.search(r"^PYTHONS = (\[.*\])$", text("noxfile.py"), re.MULTILINE)[1]
    assert re.findall(r'"([\d.]+)"', noxfile) == pythons()
    assert project()["requires-python"] == f">={pythons()[0]}"
    page = text("docs/releasing.md")
    assert f"| Python | {', '.join(pythons()[:-1])} and {pythons()[-1]} |" in page
    assert f"for version in {' '.join(pythons()[1:])}; do" in text(".ci/run")
    (numpy,) = (line for line in project()["dependencies"] if line.startswith("numpy"))
    assert f"| NumPy | {numpy.removeprefix('numpy>=')} and later |" in page
    assert f"compared with {project()['optional-dependencies']['torch-oracle'][0].removeprefix('torch==')} |" in page


def test_version_is_the_same_everywhere():
    assert parsed("CITATION.cff")["version"] == tg.__version__
    assert re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)[1] == tg.__version__
    assert text("docs/new.md").startswith(f"# What is new in {tg.__version__}\n")


def test_citation_has_what_the_format_asks_for_and_says_what_the_project_says():
    citation = parsed("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["abstract"] == f"{project()['description']}."
    assert citation["license"] == project()["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project()["authors"]]
    assert citation.get("repository-code") == project()["urls"].get("Repository")


def addresses(urls, name, content):
    """Addresses of this project that are not those of its one place; `urls` are those."""
    found = re.findall(r"https?://[^\s)>\"'`]*tinygrad[-_]rnn[^\s)>\"'`]*", content)
    return [f"{name}: {address}" for address in found if not address.startswith(tuple(urls.values()) or "\0")]


def test_no_address_is_invented():
    names = subprocess.run(
        [sys.executable, "-B", "-c", "import lint; print(*lint.files(), sep='\\n')"],
        cwd=CHECKOUT / ".ci",
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout.split("\n")
    pages = [name for name in names if name.endswith((".md", ".cff", ".toml", ".yml"))]
    assert len(pages) > 20
    assert [found for name in pages for found in addresses(project()["urls"], name, text(name))] == []


def test_an_invented_address_is_seen():
    line = "See https://example.org/tinygrad-rnn/docs."
    assert addresses({}, "a.md", line) == ["a.md: https://example.org/tinygrad-rnn/docs."]
    assert addresses({"Repository": "https://example.org/tinygrad-rnn"}, "a.md", line) == []


@pytest.mark.parametrize("name", ["SECURITY.md", "docs/releasing.md"])
def test_what_a_page_names_is_there(name):
    named = re.findall(r"`((?:tests|docs|tinygrad_rnn|\.ci|\.github)/[\w./-]+)`", text(name))
    assert named and [path for path in named if not (CHECKOUT / path).exists()] == []


@pytest.mark.parametrize("name", [".github/ISSUE_TEMPLATE/report.md", ".github/pull_request_template.md"])
def test_templates_ask_for_ten_lines_and_the_version(name):
    assert "Ten lines that show it" in text(name) and "tg.__version__" in text(name)


def test_the_lines_of_the_template_run(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", text(".github/ISSUE_TEMPLATE/report.md"), re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.startswith(tg.__version__)
