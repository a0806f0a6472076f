"""A process that tries mutants on request: a JSON request comes in as a line, a JSON report goes out as one.

Each mutant gets a forked child of its own, so that one that hangs, crashes or leaves something behind takes nothing
else with it. There are two kinds of worker. *Warm*: pytest has collected all tests, and the child exchanges the code of
the functions that the fault changes; this costs a few hundredths of a second. *Fresh*: nothing is imported yet, and the
child imports the package with the fault in it; this sees what is computed while importing. Both put the fault into a
copy of the package as well, which stands first on the path, so that processes which a test starts have it too.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import _lru_cache_wrapper
from itertools import zip_longest
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from .probes import NOTES

OPTIONS = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]
OPTIONS += ["-m", "not slow and not full and not golden"]
# pytest would rewrite the package too, as it comes with a plugin, and not load it as Python does.
OPTIONS += ["--assert=plain"]
EARLY = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis was imported before pytest began
TORCH = "MUTATION_TORCH"  # a variable that is set where PyTorch may be imported
ABSENT = "torch matplotlib safetensors nbformat nbclient distributed sphinx docutils autograd mygrad jax".split()
"""What README's test command does not install: a test that needs it sees no fault there."""
SECONDS, TIMES = 4.0, 10.0  # a test, or collecting them, hangs if it takes so much longer than it did
MEMORY = 3 << 30  # bytes more than at the start, before an allocation fails


@contextmanager
def exchanged(file: Path, source: str, number: int) -> Iterator[None]:
    """Put a fault into a file for a while, under a time of its own.

    Byte code that somebody has left is taken for a file's if size and seconds are the same. Versions
    of one size may follow each other within a second, so each gets `number` seconds more than the file has without.
    """
    before, stat = file.read_bytes(), file.stat()
    file.write_text(source, encoding="utf-8")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + number * 10**9))
    try:
        yield
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


class Unswappable(Exception):
    """Exchanging the code of functions would not be the whole fault."""


class Codes:
    """The live functions of the package, found by the code that they run."""

    def __init__(self, package: Path) -> None:
        self.modules: dict[str, CodeType] = {}
        self.functions: dict[int, list[FunctionType]] = {}
        original = importlib.machinery.SourceFileLoader.get_code

        def get_code(loader: Any, name: str) -> Any:
            code = original(loader, name)
            path = Path(loader.path)
            if code is not None and path.is_relative_to(package):
                self.modules[path.relative_to(package).as_posix()] = code
            return code

        importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]

    def find(self) -> None:
        """Look for all functions that exist, once everything is imported."""
        for value in gc.get_objects():
            if type(value) is FunctionType:  # `isinstance` would ask lazy modules, which answer with warnings
                self.functions.setdefault(id(value.__code__), []).append(value)

    def swaps(self, path: str, source: str) -> list[tuple[FunctionType, CodeType]]:
        """The functions that a fault changes, with their new code."""
        if path not in self.modules:
            raise Unswappable("not imported")
        old = self.modules[path]
        return list(self._pairs(old, compile(source, old.co_filename, "exec", dont_inherit=True)))

    def _pairs(self, old: CodeType, new: CodeType) -> Iterator[tuple[FunctionType, CodeType]]:
        if old == new:
            return
        inner, changed = _inner(old), _inner(new)
        optimised = old.co_flags & 1  # a function; the body of a class or of a module runs once, while importing
        if len(inner) != len(changed) or (not optimised and _own(old) != _own(new)):
            raise Unswappable("what is imported changes")
        for function in self.functions.get(id(old), ()):
            if len(old.co_freevars) != len(new.co_freevars):
                raise Unswappable("another closure")
            yield function, new
        for a, b in zip(inner, changed, strict=True):
            yield from self._pairs(a, b)


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _own(code: CodeType) -> tuple[Any, ...]:
    constants = [repr(c) for c in code.co_consts if not isinstance(c, CodeType)]
    return code.co_code, code.co_names, code.co_varnames, constants


class Worker:
    """What both kinds have in common: the copy of the package, the forks, and the conversation."""

    def __init__(self, package: Path, requests: Any, reports: Any) -> None:
        self.package, self.requests, self.reports = package, requests, reports
        self.codes = Codes(package)
        self.items: dict[str, Any] = {}
        self.failed = False
        self.hits: Any = None
        self.spent = 0.0  # seconds of processor time, in the last child

    # Answering

    def report(self, **content: Any) -> None:
        """One line to whoever started this."""
        print(json.dumps(content), file=self.reports, flush=True)

    def serve(self) -> None:
        """Answer requests until there are no more."""
        for line in self.requests:
            request = json.loads(line)
            try:
                self.report(**(self.recorded(request) if "record" in request else self.examined(request)))
            except Exception as error:
                self.report(error=f"{type(error).__name__}: {error}")

    def examined(self, request: dict[str, Any]) -> dict[str, Any]:
        """Try one mutant, or none: which test failed, and how many were run."""
        edit = request.get("edit")
        swaps: list[tuple[FunctionType, CodeType]] = []
        if edit and self.items:
            try:
                swaps = self.codes.swaps(edit["path"], edit["source"])
            except Unswappable as error:
                return {"unswappable": str(error)}
        with exchanged(self.package / edit["path"], edit["source"], edit["number"]) if edit else nullcontext():
            lines = self._forked(lambda note: self._child(request, swaps, note))
        begun = [line[1:] for line in lines if line[0] == "+"]
        verdict = next((line for line in lines if line[0] in "-=!?"), "")
        killer, how = None, ""
        if verdict[:1] == "-":
            killer, how = verdict[1:], "failed"
        elif verdict[:1] == "!":
            killer, how = begun[-1] if begun else verdict[1:], "could not be collected"
        elif not verdict:
            killer, how = (begun[-1] if begun else "the import"), "a crash, or no end"
        return {
            "killer": killer,
            "how": how,
            "unfinished": verdict[:1] == "?",
            "tests": len(begun),
            "seconds": round(self.spent, 3),
        }

    def _forked(self, work: Any) -> list[str]:
        """Do something in a child, and return the lines that it noted before it ended, in whichever way."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setsid()
                os.close(reading)
                soft = _used() + MEMORY
                resource.setrlimit(resource.RLIMIT_AS, (soft, soft))
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                work(lambda line: os.write(writing, f"{line}\n".encode()))
            except BaseException as error:  # ours, not the mutant's
                os.write(writing, f"#{type(error).__name__}: {error}".replace("\n", " ").encode() + b"\n")
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8", errors="replace") as stream:
            lines = stream.read().splitlines()
        _, _, usage = os.wait4(child, 0)
        self.spent = usage.ru_utime + usage.ru_stime
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # what it started and did not end
        if error := next((line for line in lines if line[:1] == "#"), None):
            raise RuntimeError(error[1:])
        return [line for line in lines if line]

    def _child(self, request: dict[str, Any], swaps: Sequence[tuple[FunctionType, CodeType]], note: Any) -> None:
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        for function, code in swaps:
            function.__code__ = code
        if "rule" in request:
            from .rules import planted

            planted(request["rule"])
        self.run(request, note)

    def run(self, request: dict[str, Any], note: Any) -> None:
        """In the child: run the tests that are asked for."""
        self.run_items([self.items[name] for name, _ in request["tests"] if name in self.items], request, note)

    def run_items(self, items: list[Any], request: dict[str, Any], note: Any) -> None:
        """In the child: run tests until one fails, or time is up."""
        costs, budget, begun = dict(request["tests"]), request["budget"], _spent()
        for item, following in zip_longest(items, items[1:]):
            if _spent() - begun > budget:
                note("?")
                return
            note(f"+{item.nodeid}")
            _limit(costs[item.nodeid])
            if not self.passes(item, following):
                note(f"-{item.nodeid}")
                return
        note("=")

    def passes(self, item: Any, following: Any = None) -> bool:
        """Run a test from set-up to tear-down, with all that pytest puts around it, such as warnings as errors."""
        self.failed = False
        try:
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        except (KeyboardInterrupt, SystemExit, MemoryError, RecursionError, pytest.exit.Exception):
            return False
        return not self.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest with each outcome."""
        self.failed |= report.failed

    # Recording

    def recorded(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run tests, without a fault: what each costs, and which blocks it enters."""
        lines = self._forked(lambda note: self._recording(request["record"], note))
        found = [json.loads(line[1:]) for line in lines if line[0] == "+"]
        return {"recorded": found, "complete": lines[-1:] == ["="]}

    def _recording(self, names: list[str], note: Any) -> None:
        for item in (self.items[name] for name in names):
            # Nothing that a test before has made for this one, by a cache or a fixture: alone it enters that, too.
            for value in vars(item.module).values():
                if isinstance(value, _lru_cache_wrapper):
                    value.cache_clear()
            self.hits[:] = bytes(len(self.hits))
            begun = _spent()
            passed = self.passes(item)
            entered = [k for k, hit in enumerate(bytes(self.hits)) if hit]
            note("+" + json.dumps([item.nodeid, passed, round(_spent() - begun, 4), entered]))
        note("=")


class Warm(Worker):
    """A pytest plugin that serves requests where pytest would run the tests."""

    def __init__(self, package: Path, requests: Any, reports: Any) -> None:
        super().__init__(package, requests, reports)
        self.collecting: dict[str, list[int]] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_make_collect_report(self, collector: Any) -> Iterator[None]:
        """Called by pytest for each file: what of the package runs while it is imported."""
        if self.hits is None or not isinstance(collector, pytest.Module):
            yield
            return
        name = collector.nodeid
        if "" not in self.collecting:
            self.collecting[""] = [k for k, hit in enumerate(bytes(self.hits)) if hit]
        self.hits[:] = bytes(len(self.hits))
        yield
        self.collecting[name] = [k for k, hit in enumerate(bytes(self.hits)) if hit]

    def pytest_sessionstart(self) -> None:
        """Called by pytest once the conftest has been imported, and mostly the package with it."""
        if (self.package / f"{NOTES}.py").exists():
            self.hits = importlib.import_module(f"{self.package.name}.{NOTES}").entered

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Called by pytest where it would run the tests."""
        if session.testsfailed or not session.items:
            raise pytest.UsageError("the tests could not be collected")
        if not self.codes.modules:
            raise pytest.UsageError("the tests do not import the copy of the package in which faults are planted")
        for file in sorted(self.package.rglob("*.py")):  # also what a test would import only when it needs it
            if file.stem not in ("__main__", NOTES):
                dotted = ".".join((self.package.name, *file.relative_to(self.package).with_suffix("").parts))
                with suppress(ImportError):
                    importlib.import_module(dotted.removesuffix(".__init__"))
        self.items = {item.nodeid: item for item in session.items}
        self.codes.find()
        gc.collect()
        gc.freeze()
        self.report(ready=list(self.items), root=str(session.config.rootpath), collecting=self.collecting)
        self.serve()
        return True


class Fresh(Worker):
    """A process that has imported pytest, but not the package: each child collects the files that it needs."""

    def run(self, request: dict[str, Any], note: Any) -> None:
        """In the child: a pytest session of its own."""
        wanted = [name for name, _ in request["tests"]]
        files = dict.fromkeys(os.path.join(request["root"], name.partition("::")[0]) for name in wanted)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if "collecting" in request:
            _limit(request["collecting"])
        plugin = _Once(self, wanted, request, note)
        code = pytest.main([*OPTIONS, *EARLY, *files], plugins=[plugin])
        if not plugin.began:
            note(f"!exit {code}")


class _Once:
    """A plugin that runs chosen tests in a given order."""

    def __init__(self, worker: Worker, wanted: list[str], request: dict[str, Any], note: Any) -> None:
        self.worker, self.wanted, self.request, self.note = worker, wanted, request, note
        self.began = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Called by pytest where it would run the tests."""
        if session.testsfailed:
            self.note("!collection")
            os._exit(0)
        self.began = True
        items = {item.nodeid: item for item in session.items}
        self.worker.run_items([items[name] for name in self.wanted if name in items], self.request, self.note)
        os._exit(0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest with each outcome."""
        self.worker.failed |= report.failed


def _limit(cost: float) -> None:
    """End this process if what comes now takes far longer than it did."""
    most = SECONDS + TIMES * cost
    signal.setitimer(signal.ITIMER_PROF, most)
    signal.setitimer(signal.ITIMER_REAL, 15 * most)  # other processes may want the machine too


def _spent() -> float:
    """Seconds of processor time, of this process and of all that it started and that ended."""
    return sum(os.times()[:4])


def _used() -> int:
    """Bytes of address space that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main(kind: str, folder: str, tests: list[str]) -> int:
    """``python -m mutation.worker warm|fresh FOLDER TESTS...``, with the requests on standard input."""
    # pytest takes the standard streams for itself.
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(quiet, 1)
    sys.path.insert(0, folder)
    absent = [name for name in ABSENT if name != "torch" or TORCH not in os.environ]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # importing them fails
    pytest.Function.repr_failure = lambda item, excinfo: str(excinfo.value)  # type: ignore[method-assign]  # unread
    package = next(path for path in Path(folder).iterdir() if path.is_dir())
    if kind == "warm":
        return int(pytest.main([*OPTIONS, *tests], plugins=[Warm(package, requests, reports)]))
    import graphviz  # noqa: F401
    import hypothesis.extra.numpy  # noqa: F401

    Fresh(package, requests, reports).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
