"""The pytest plugin: one test for each check of a primitive, and operations that are gone after their test.

It is installed as the module `tinygrad_rnn_pytest`, outside the package, so that a run of pytest that has nothing to do
with it imports neither this package nor NumPy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "gradients(op=..., **options): makes `gradient_check` one test for each check")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each check of the primitive in the marker."""
    if "gradient_check" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("gradients")
        if marker is None or "op" not in marker.kwargs:
            raise pytest.UsageError(f"{metafunc.definition.name}: gradient_check wants @pytest.mark.gradients(op=...)")
        names = [name for name in known(marker.kwargs.get("order", 2)) if name not in marker.kwargs.get("skip", ())]
        metafunc.parametrize("gradient_check", names, indirect=True)


def known(order: int) -> list[str]:
    """The checks that there are for derivatives up to an order."""
    return list(import_module("tinygrad_rnn.testing.primitives").names_of_checks(order))


def unhurried(test: Any) -> Callable[[], None]:
    """Have Hypothesis as gradient checks need it: without a deadline, the same examples at each run; returns the undo.

    The test's own ``@settings`` stay as they are, and so does everything else that the loaded profile says.
    """
    hypothesis: Any = sys.modules.get("hypothesis")
    if hypothesis is None:  # who has not imported it has no such test
        return lambda: None
    settings, checks = hypothesis.settings, hypothesis.HealthCheck
    before = getattr(settings, "get_current_profile_name", lambda: settings._current_profile)()
    passed = {*settings.default.suppress_health_check, checks.too_slow, checks.function_scoped_fixture}
    ours = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": passed}
    settings.register_profile("tinygrad_rnn", settings.default, **ours)
    settings.load_profile("tinygrad_rnn")
    if hypothesis.is_hypothesis_test(test):
        with suppress(hypothesis.errors.InvalidArgument):  # which it raises where there are settings already
            settings(settings.default)(getattr(test, "__func__", test))
    return lambda: settings.load_profile(before)


@pytest.fixture
def primitives(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The table of primitives; what a test adds or replaces in it is undone afterwards. Hypothesis has no deadline."""
    ops = import_module("tinygrad_rnn.tensor").OPS

    before, undo = dict(ops), unhurried(request.function)
    yield ops
    undo()
    ops.clear()
    ops.update(before)


@pytest.fixture
def gradient_check(request: pytest.FixtureRequest, primitives: dict[str, Any]) -> Callable[[], Any]:
    """One check of the primitive in the marker ``gradients``, to be called; a failure is its report alone."""
    check_primitive = import_module("tinygrad_rnn.testing").check_primitive

    marker = request.node.get_closest_marker("gradients")
    declared, options = marker.kwargs["op"], {k: v for k, v in marker.kwargs.items() if k not in ("op", "skip")}

    def run() -> Any:
        op = declared if isinstance(declared, str) or hasattr(declared, "rules") else declared()
        try:
            return check_primitive(op, skip=set(known(options.get("order", 2))) - {request.param}, **options)
        except AssertionError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    return run
