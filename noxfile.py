"""Longer checks by name: ``pipx run nox -s mutation``. The README's test command stays the everyday one.

``nox -s nightly`` runs what takes hours and so is no part of `.ci/run`.
"""

import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
NIGHTLY = ["thorough", "full", "frameworks", "others", "wasm", "mutation"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests but whole experiments, on the built and installed package."""
    session.install(".[test]")
    session.run("pytest", "-n", "auto", "-m", "not full", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, rules and format; then what ruff does not know, and how large the package is."""
    session.install("ruff>=0.6")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", ".ci/lint.py")
    session.run("python", ".ci/lines.py")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, on the package."""
    session.install(".[test]", "mypy>=1.11")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The site, strictly, and its links."""
    session.install(".[docs]")
    session.run("python", "-P", "-m", "sphinx", "-E", "-W", "--keep-going", "-n", "docs", "docs/_build/html")
    session.run("python", "docs/ext/check_site.py", "docs/_build/html")


@nox.session(venv_backend="none")
def nightly(session: nox.Session) -> None:
    """All that takes too long for `.ci/run`, one session after the other: hours on two cores."""
    for name in NIGHTLY:
        session.notify(name)


@nox.session
def mutation(session: nox.Session) -> None:
    """All mutants that are drawn for the whole package, those that are called equivalent included: hours."""
    session.install(".[test]")
    session.run("python", "-m", "tests.mutation", *(session.posargs or ["--equivalent", "--table"]))
    if not session.posargs:
        session.install(".[test,torch-oracle]")
        session.run("python", "-m", "tests.mutation", "--torch", "--equivalent", "--table")


@nox.session
def thorough(session: nox.Session) -> None:
    """The property tests with 500 examples each, half an hour at most on two cores."""
    every_test_that(session, "not slow and not full", {"HYPOTHESIS_PROFILE": "thorough"})


@nox.session
def full(session: nox.Session) -> None:
    """The whole experiments: minutes each."""
    every_test_that(session, "full", {})


def every_test_that(session: nox.Session, mark: str, env: dict[str, str]) -> None:
    """Run the tests of a mark with every extra there is, so that none may be skipped."""
    session.install(".[dev,torch-oracle]")
    which = [*session.posargs, "-m", mark]
    with tempfile.TemporaryDirectory() as folder:
        listed = session.run("pytest", "--collect-only", "-q", *which, silent=True)
        Path(folder, "all.collected").write_text(str(listed), encoding="utf-8")
        session.run("pytest", "-n", "auto", f"--junitxml={folder}/all.xml", *which, env=env)
        session.run("python", ".ci/ran.py", "--listed", folder)


@nox.session
def frameworks(session: nox.Session) -> None:
    """Exports of other frameworks, made by these: Keras, on PyTorch."""
    session.install(".[test,torch-oracle]", "keras>=3")
    session.run("python", "-m", "tests.frameworks", *session.posargs)


@nox.session
def others(session: nox.Session) -> None:
    """Our battery, pointed at other libraries."""
    session.install(".[test,others,torch-oracle]")
    session.run("python", "-m", "tests.adapters", *session.posargs)


@nox.session
def wasm(session: nox.Session) -> None:
    """The package in WebAssembly."""
    session.run("python", ".ci/wasm.py")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """How fast, against NumPy by hand."""
    session.install(".")
    for name in session.posargs or ["unrolled", "per_op"]:
        session.run("python", "-m", f"benchmarks.{name}")
