"""One long pytest session that plants mutants on request: a name comes in as a line, a JSON report goes out as one.

Collecting and importing cost more than running the few tests that one mutant needs, so the session collects once. It is
a process of its own, so that a mutant that hangs or crashes takes nothing else with it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from time import perf_counter
from types import CodeType
from typing import Any

import pytest

Item = pytest.Function
FIRST = "test_kinks test_adjoint test_range test_indexing test_ops".split()
"""Modules whose tests of an op are asked first: in the first four most faults die within milliseconds."""


def every_mutant() -> dict[str, Any]:
    """All mutants by name."""
    from .rules import of_helpers, of_results, of_syntax
    from .sweep import of_sweep

    found: dict[str, Any] = {}
    for mutant in (*of_results(), *of_syntax(), *of_helpers(), *of_sweep()):
        if mutant.name in found:
            raise LookupError(f"two mutants are called {mutant.name!r}")
        found[mutant.name] = mutant
    return found


class Session:
    """A pytest plugin that runs tests for one mutant after the other, instead of all tests once."""

    def __init__(self, requests: Any, reports: Any) -> None:
        self.requests, self.reports = requests, reports
        self.clean: dict[str, bool] = {}
        self.news: list[str] = []
        self.failed = False

    def report(self, **content: Any) -> None:
        """One line to whoever started this."""
        print(json.dumps(content), file=self.reports, flush=True)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Called by pytest where it would run the tests."""
        if session.testsfailed or not session.items:
            raise pytest.UsageError("the tests could not be collected")
        mutants = every_mutant()
        for mutant in mutants.values():  # one that cannot be planted would end the process, and count as killed
            with mutant.planted():
                pass
        self.report(ready=[[m.name, list(m.ops)] for m in mutants.values()])
        for line in self.requests:
            request = json.loads(line)
            self.clean.update(dict.fromkeys(request["clean"], True))
            self.report(**self.examine(mutants[request["mutant"]], session.items, request["rest"]))
        return True

    def examine(self, mutant: Any, items: Sequence[Any], rest: bool) -> dict[str, Any]:
        """Plant a mutant and run tests until one fails."""
        started = perf_counter()
        own = [item for item in items if concerns(item, mutant.ops)]
        own.sort(key=order)
        own += [item for item in items if item not in own and mentions(item, mutant.ops)]
        others = [item for item in items if item not in own] if rest or not own else []
        killer, count, self.news = None, 0, []
        for item in (*own, *others):
            with mutant.planted():
                passed = self.passes(item)
            count += 1
            # A test that fails without the mutant too says nothing about it.
            if not passed and self.passes_clean(item):
                killer = item.nodeid
                break
        return {
            "mutant": mutant.name,
            "killer": killer,
            "own": killer is not None and count <= len(own),
            "tests": count,
            "seconds": round(perf_counter() - started, 3),
            "broken": sorted(name for name, passed in self.clean.items() if not passed),
            "clean": self.news,
        }

    def passes_clean(self, item: Item) -> bool:
        """Whether a test passes where nothing is planted; asked once, by whichever worker is the first to want it."""
        if item.nodeid not in self.clean:
            self.clean[item.nodeid] = self.passes(item)
            self.news += [item.nodeid] * self.clean[item.nodeid]
        return self.clean[item.nodeid]

    def passes(self, item: Item) -> bool:
        """Run a test from set-up to tear-down, with all that pytest puts around it, such as warnings as errors."""
        self.failed = False
        item._initrequest()  # as pytest-rerunfailures does, so that a test can run again
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        return not self.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest with each outcome."""
        self.failed |= report.failed


def order(item: Item) -> tuple[int, bool]:
    """Where a test stands among those of its op."""
    module = item.path.stem
    return FIRST.index(module) if module in FIRST else len(FIRST), "gradient" not in item.name


def concerns(item: Item, ops: Sequence[str]) -> bool:
    """Whether a test is about one of these ops: by a parameter, or by its name."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    if any(getattr(value, "__name__", value) in ops for value in values if isinstance(value, str) or callable(value)):
        return True
    return any(re.search(rf"(?<![a-z]){op}(?![a-z])", item.originalname) for op in ops)


def mentions(item: Item, ops: Sequence[str]) -> bool:
    """Whether a test calls one of these ops by its public name."""
    called = code_names(item.function.__code__)
    return any(op in called for op in ops)


def code_names(code: CodeType) -> set[str]:
    """The names that a function uses, its inner functions included."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(code_names, inner))


def main(arguments: list[str]) -> int:
    """``python -m mutation.worker TESTS...``, with the requests on standard input."""
    # pytest takes the standard streams for itself.
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not slow and not full"]
    pytest.Function.repr_failure = lambda item, excinfo: str(excinfo.value)  # type: ignore[method-assign]  # unread
    return int(pytest.main([*quiet, *arguments], plugins=[Session(requests, reports)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
