"""Longer checks by name: ``pipx run nox -s mutation``. The README's test command stays the everyday one."""

import nox

nox.options.sessions = ["lint", "types", "tests"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests but whole experiments, on the built and installed package."""
    session.install(".[test]")
    session.run("pytest", "-n", "auto", "-m", "not full", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.install("ruff>=0.6")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


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


@nox.session
def mutation(session: nox.Session) -> None:
    """Every mutant of the rules and of the sweep, those that are called equivalent included."""
    session.install(".[test]")
    session.run("python", "tests/mutation/run.py", *(session.posargs or ["--equivalent"]))


@nox.session
def thorough(session: nox.Session) -> None:
    """The property tests with 500 examples each, half an hour at most on two cores."""
    session.install(".[test]")
    session.run("pytest", "-n", "auto", *session.posargs, env={"HYPOTHESIS_PROFILE": "thorough"})


@nox.session
def full(session: nox.Session) -> None:
    """The whole experiments: minutes each."""
    session.install(".[test]")
    session.run("pytest", "-n", "auto", "-m", "full", *session.posargs)


@nox.session
def others(session: nox.Session) -> None:
    """Our battery, pointed at other libraries."""
    session.install(".[test]", "autograd", "mygrad", "torch")
    session.run("python", "-m", "tests.adapters", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """How fast, against NumPy by hand."""
    session.install(".")
    for name in session.posargs or ["unrolled", "per_op"]:
        session.run("python", "-m", f"benchmarks.{name}")
