"""The same cases and the same checker pointed at other libraries: what `docs/others.md` reports can be seen again."""

import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
from adapters import installed, library
from adapters.battery import POINTS, edges, findings

CHECKOUT = Path(__file__).resolve().parent.parent
# What was found, by the version it was found in: a later one may have mended it.
KNOWN = {
    ("autograd", "1.9.1"): {
        "prod of [0, 2, 3]",
        "prod of [0, 0, 3]",
        "tanh at 800",
        "where((3, 3) condition, (3,), 0)",
        "transpose by (-1, 0, 1)",
    },
    ("mygrad", "2.5.0"): {"leaky_relu at 0, slope 0.1", "maximum(1, 1)", "minimum(1, 1)", "sigmoid at -800"},
    ("torch", "2.13.0"): set(),
}


@pytest.fixture
def quietly():
    """Importing another library, or computing with it, may warn: that is not what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_the_way_through_an_adapter_finds_nothing_here():
    ours = library("tinygrad_rnn")
    assert dict(edges(ours)) == {}
    assert all(findings(ours, name, examples=5) is None for name in ("tanh", "multiply", "getitem", "where"))


def test_the_way_through_an_adapter_shows_a_wrong_rule():
    ours = library("tinygrad_rnn")
    vjp = lambda f, arrays, u: (ours.vjp(f, arrays, u)[0], [g * 1.001 for g in ours.vjp(f, arrays, u)[1]])  # noqa: E731
    wrong = type(ours)("wrong", "0", ours.functions, vjp)
    assert "wrong" in findings(wrong, "tanh", examples=5)
    assert "power(0, 1)" in dict(edges(wrong))


def test_what_was_reported_is_of_the_versions_that_ci_installs():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert {f"{package}=={version}" for package, version in KNOWN} == {*extras["others"], *extras["torch-oracle"]}


@pytest.mark.parametrize(("package", "version"), KNOWN)
def test_what_was_reported_is_seen_again(package, version, quietly):
    found = (installed(package) or "no version").partition("+")[0]  # without what it was built for
    if found != version:
        pytest.skip(f"{package} {version} is not installed, but {found}")
    assert set(dict(edges(library(package)))) == KNOWN[package, version]


@pytest.mark.parametrize("package", ["autograd", "mygrad", "torch"])
def test_adapters_speak_with_their_library(package, quietly):
    pytest.importorskip(package)
    other = library(package)
    y, (a, b) = other.vjp(other.functions["multiply"], (np.array([2.0, 3.0]), np.array(5.0)), np.array([1.0, -2.0]))
    assert (y.tolist(), a.tolist(), b.tolist()) == ([10.0, 15.0], [5.0, -10.0], -4.0)
    assert {name for _, name, *_ in POINTS} - set(other.functions) <= {"sigmoid", "relu", "leaky_relu"} | {
        "softplus", "softmax", "log_softmax", "getitem"
    }  # fmt: skip
