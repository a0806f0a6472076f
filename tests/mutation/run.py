"""Plant faults into the whole package, one at a time, and say which ones the tests notice.

python -m tests.mutation                       every mutant that is drawn, in every room
python -m tests.mutation --only nn ops.py      those of a room, of a file, or whose names begin so
python -m tests.mutation --part 2/8            every eighth, from the second
python -m tests.mutation --push 1234           a part of one room, and only its own tests: another for each number
python -m tests.mutation --torch               the rooms that only tests with PyTorch enter
python -m tests.mutation --list --only scope   their names
python -m tests.mutation --show NAME           what such a mutant changes
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from time import perf_counter
from typing import Any

from . import rooms
from .probes import VARIABLE, copied, instrument
from .report import Progress, Report, faults, line_of, scores, still_short, text_of, write_table
from .seen import Seen, Shown, block_names, digests
from .source import Edit, Source
from .sweep import by_hand
from .worker import TORCH

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
CACHE = TESTS.parent / ".mutation_cache"

PACKAGE, RULES = "tinygrad_rnn", "rules and sweep"
TABLE = HERE / "table.md"
TICK = 0.01
"""Seconds of processor time that `os.times` tells apart: tests of less cost nothing, and would have no time at all."""
NOTHING: Report = {"killer": None, "how": "", "tests": 0, "seconds": 0.0, "broken": [], "shown": 0}


class Crashed(Exception):
    """A worker ended by itself."""


def installed() -> Path:
    """The package that the interpreter has installed: what stands in the current folder does not hide it."""
    find = f"import importlib.util as u; print(u.find_spec({PACKAGE!r}).submodule_search_locations[0])"
    done = subprocess.run([sys.executable, "-P", "-c", find], capture_output=True, encoding="utf-8", check=True)
    return Path(done.stdout.strip())


@dataclass
class Package:
    """The source files, and everything that can be wrong in them."""

    folder: Path
    sources: dict[str, Source] = field(default_factory=dict)
    possible: list[Edit] = field(default_factory=list)
    edits: dict[str, Edit] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, only: Iterable[str] = ()) -> Package:
        """Read all files, and draw; `only`: what is wanted, if it can be told from this which rooms need no draw."""
        files = sorted(path for path in folder.rglob("*.py"))
        names = [path.relative_to(folder).as_posix() for path in files]
        sources = {
            name: Source(name, path.read_text(encoding="utf-8")) for name, path in zip(names, files, strict=True)
        }
        wanted = {rooms.room_of(name) for name in sources if not only or _is_wanted(name, only)}
        here = [source for name, source in sources.items() if rooms.room_of(name) in wanted]
        possible = [edit for source in here for edit in (*source.edits(), *by_hand(source))]
        named = [edit for edit in possible if edit.name in only]  # in full: drawn or not, it is wanted
        return cls(folder, sources, possible, {edit.name: edit for edit in (*rooms.drawn(possible), *named)})

    def rooms(self) -> dict[str, str]:
        """The names of what is drawn, with their rooms."""
        return {name: rooms.room_of(edit.path) for name, edit in self.edits.items()}

    def difference_of(self, name: str) -> list[str]:
        """The same, for a list; what is planted into a rule is in no file."""
        edit = self.edits.get(name)
        return [f"    {edit.path}:{edit.lines[0]}", *(f"    {x}" for x in self.difference(edit))] if edit else []

    def difference(self, edit: Edit) -> list[str]:
        """The lines that a mutant changes, before and after."""
        source = self.sources[edit.path].text
        lines = difflib.unified_diff(source.splitlines(), edit.applied(source).splitlines(), lineterm="", n=0)
        return [line for line in list(lines)[2:] if not line.startswith("@@")]


def _is_wanted(path: str, only: Iterable[str]) -> bool:
    """Whether mutants of a file may be among those that are named: by its room, by its path, or by an op."""
    room = rooms.room_of(path)
    return any(o == room or path.startswith(o.partition(":")[0]) or (_is_op(o) and room == RULES) for o in only)


def _is_op(name: str) -> bool:
    return name not in rooms.GOALS and "/" not in name and ".py" not in name


class Process:
    """A worker, started when it is first needed, and again after a crash."""

    def __init__(self, kind: str, folder: Path, tests: list[str], more: dict[str, str] | None = None) -> None:
        self.kind, self.folder, self.tests, self.more = kind, folder, tests, more or {}
        self.process: subprocess.Popen[str] | None = None
        self.ready: Report = {}

    def start(self) -> None:
        """Start it, and wait until it has collected the tests."""
        shutil.copy(HERE / "devices.py", self.folder / "sitecustomize.py")
        paths = [str(self.folder), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "HYPOTHESIS_PROFILE": "mutation",
            **self.more,
        }
        environment.pop("PYTEST_ADDOPTS", None)
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        # -P: the folder it is started in is not to hide the copy of the package.
        command = [sys.executable, "-P", "-m", "mutation.worker", self.kind, str(self.folder), *self.tests]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, encoding="utf-8", cwd=TESTS.parent, **pipes)
        if self.kind == "warm":
            self.ready = self.line()

    def line(self) -> Report:
        """The next report."""
        assert self.process and self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            raise Crashed
        return json.loads(line)

    def ask(self, **request: Any) -> Report:
        """One request, one report."""
        if self.process is None:
            self.start()
        assert self.process and self.process.stdin
        print(json.dumps(request), file=self.process.stdin, flush=True)
        report = self.line()
        if "error" in report:  # no verdict on a mutant
            raise Crashed(f"the tool failed: {report['error']}")
        return report

    def stop(self) -> None:
        """Let it end by itself."""
        if self.process is not None:
            assert self.process.stdin and self.process.stdout
            with suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None


class Bench:
    """One of several that examine mutants at the same time: a copy of the package, and a worker of each kind."""

    def __init__(
        self, number: int, package: Package, tests: list[str], folder: Path, more: dict[str, str] | None = None
    ) -> None:
        self.package = package
        here = folder / f"bench{number}"
        here.mkdir()
        copied(package.folder, here)
        self.workers = {kind: Process(kind, here, tests, more) for kind in ("warm", "fresh")}
        self.clean: dict[str, bool] = {}
        self.collecting = 0.0  # seconds that it takes to collect all tests afresh
        self.planted = 0  # versions of files that this copy has had

    def stop(self) -> None:
        """End the workers."""
        for worker in self.workers.values():
            worker.stop()

    def examine(self, name: str, tests: list[tuple[str, float]], fresh: bool, budget: float) -> Report:
        """Show one mutant to tests until one fails; `fresh`: also as it is while importing."""
        if not tests:
            return {**NOTHING, "how": "no test enters it"}
        edit = self.package.edits.get(name)
        report, fault = NOTHING, {"rule": name}
        if edit is not None:
            self.planted += 1
            source = edit.applied(self.package.sources[edit.path].text)
            fault = {"edit": {"path": edit.path, "source": source, "number": self.planted}}
        broken, count, seconds, unfinished = [], 0, 0.0, False
        # What is imported afresh costs most; where it kills at all, the tests that come first mostly do.
        stages = [("warm", tests), *[("fresh", some) for some in _stages(tests) if fresh]]
        while stages:
            kind, some = stages[0]
            left = budget - seconds
            if left <= 0 and some[0] != tests[0]:  # to collect further files takes seconds, and there are none
                unfinished = True
                break
            left = max(left, budget / 4)
            report = self.ask(kind, **fault, tests=[test for test in some if test[0] not in broken], budget=left)
            if "unswappable" in report:
                stages = [("fresh", some) for some in _stages(tests)]
                continue
            count, seconds = count + report["tests"], seconds + report["seconds"]
            unfinished |= report["unfinished"]
            if report["killer"] and not self.passes(kind, report["killer"], dict(tests)):
                broken.append(report["killer"])
                continue
            if report["killer"]:
                break
            del stages[0]
        more = {"broken": broken, "tests": min(count, len(tests)), "shown": len(tests), "unfinished": unfinished}
        return {**report, **more, "seconds": seconds}

    def ask(self, kind: str, **request: Any) -> Report:
        """One request of a worker; one that begins afresh first shows that it can collect the tests without a fault."""
        worker, warm = self.workers[kind], self.workers["warm"]
        if kind == "fresh":
            if warm.process is None:
                warm.start()
            request["root"] = warm.ready["root"]
        if kind == "fresh" and worker.process is None:
            every = [(test, 1.0) for test in warm.ready["ready"]]
            report = worker.ask(tests=every, budget=-1, root=request["root"])
            if report["killer"]:
                raise Crashed(f"collected afresh, the tests fail: {report['killer']}")
            self.collecting = report["seconds"]
        return worker.ask(**request, **({"collecting": self.collecting} if kind == "fresh" else {}))

    def passes(self, kind: str, test: str, costs: dict[str, float]) -> bool:
        """Whether a test passes alone where nothing is planted; asked once."""
        if test not in costs:  # it died before the first test
            return True
        if test not in self.clean:
            report = self.ask(kind, tests=[(test, costs[test])], budget=1e9)
            self.clean[test] = report["killer"] is None and report["tests"] == 1
        return self.clean[test]


def _stages(tests: list[tuple[str, float]], files: int = 3) -> list[list[tuple[str, float]]]:
    """The tests of the first few files, and the others."""
    first = list(dict.fromkeys(test.partition("::")[0] for test, _ in tests))[:files]
    stages = [[t for t in tests if (t[0].partition("::")[0] in first) is early] for early in (True, False)]
    return [stage for stage in stages if stage]


# Recording


def recorded(
    package: Package, suite: list[str], ready: Report, given: argparse.Namespace, folder: Path, say: Any
) -> Seen:
    """What is known of the tests, after what is new or changed was recorded."""
    path = None if given.tests or given.package else CACHE / ("torch.json" if given.torch else "seen.json")
    seen = Seen.load(path) if path and not given.record else Seen()
    files: dict[str, list[str]] = {}
    for test in ready["ready"]:
        files.setdefault(test.partition("::")[0], []).append(test)
    hashes = digests(package.sources, TESTS)
    if stale := seen.stale(files, hashes):
        _record(seen, {file: files[file] for file in stale}, package, suite, given, folder, say)
        seen.tests = {test: seen.tests[test] for test in ready["ready"] if test in seen.tests}
        seen.hashes = hashes
        if path:
            seen.save(path)
    return seen


def _record(
    seen: Seen,
    files: dict[str, list[str]],
    package: Package,
    suite: list[str],
    given: argparse.Namespace,
    folder: Path,
    say: Any,
) -> None:
    """Run the tests of some files on a copy of the package that notes what they enter."""
    here, names = folder / "noting", block_names(package.sources)
    here.mkdir()
    blocks = {name: source.blocks for name, source in package.sources.items()}
    notes = [folder / f"entered{k}" for k in range(given.workers)]
    size = instrument(copied(package.folder, here), blocks)
    for file in notes:
        file.write_bytes(bytes(size))
    workers = [Process("warm", here, suite, {VARIABLE: str(file), **_more(given)}) for file in notes]
    workers[0].start()
    seen.importing = {file: [names[k] for k in found] for file, found in workers[0].ready["collecting"].items()}
    seen.broken = [test for test in seen.broken if test.partition("::")[0] not in files]
    waiting: SimpleQueue[str] = SimpleQueue()
    for file in sorted(files, key=lambda file: -len(files[file])):
        waiting.put(file)
    lock = Lock()

    def work(worker: Process) -> None:
        with suppress(Empty):
            while True:
                file = waiting.get_nowait()
                report = worker.ask(record=files[file])
                with lock:
                    for test, passed, cost, entered in report["recorded"]:
                        seen.tests[test] = cost, [names[k] for k in entered]
                        if not passed:
                            seen.broken.append(test)
                            say(f"fails without a fault, and so kills nothing: {test}")
                    say(f"recorded {file}" if report["complete"] else f"the recording of {file} ended early")
        worker.stop()

    with ThreadPoolExecutor(given.workers) as pool:
        for done in [pool.submit(work, worker) for worker in workers]:
            done.result()


def _more(given: argparse.Namespace) -> dict[str, str]:
    return {TORCH: "1"} if given.torch else {}


# Examining


def chosen(mutants: dict[str, str], only: list[str], part: str | None) -> list[str]:
    """Which mutants to examine, of all names with their rooms."""
    begins = tuple(o for o in only if o not in rooms.GOALS and o not in mutants)
    names = [
        name for name, room in mutants.items() if not only or name in only or room in only or name.startswith(begins)
    ]
    if part:
        k, n = map(int, part.split("/"))
        names = names[k - 1 :: n]
    return names


def own_tests(wanted: Iterable[str]) -> list[str]:
    """The tests that are named for some rooms; of a room for which none are, all tests of this folder."""
    names = {name for room in wanted for name in rooms.TESTS.get(room, "test_*").split()}
    return sorted({str(path) for name in names for path in TESTS.glob(f"{name}.py") if "mutation" not in path.stem})


def rules_of(package: Package) -> dict[str, str]:
    """What is planted into rules, each with the op; asked of a process that imports the package, and no test."""
    if package.folder.name != PACKAGE:
        return {}
    find = "import json, mutation.rules as r; print(json.dumps({n: op for n, (op, _) in r.every_fault().items()}))"
    paths = [str(package.folder.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", find], capture_output=True, encoding="utf-8", check=True, env=environment
    )
    return json.loads(done.stdout)


def budget_of(times: float, costs: Sequence[float]) -> float:
    """Seconds for a mutant: of so many tests of average length, none of them shorter than `TICK`."""
    return times * max(sum(costs) / len(costs), TICK)


def examine_all(
    benches: list[Bench], names: list[str], rules: dict[str, str], shown: Shown, budget: float, progress: Progress
) -> list[Report]:
    """Share the mutants out among the benches, each taking the next when it is free."""
    waiting: SimpleQueue[str] = SimpleQueue()
    for name in names:
        waiting.put(name)
    lock, reports = Lock(), []

    def work(bench: Bench) -> None:
        with suppress(Empty):
            while True:
                name = waiting.get_nowait()
                edit = bench.package.edits.get(name)
                with lock:
                    tests = shown.of_edit(edit) if edit else shown.of_rule(rules[name])
                costs = [(test, shown.seen.tests[test][0]) for test in tests]
                report = bench.examine(name, costs, bool(edit) and shown.while_importing(edit), budget)
                report["mutant"] = name
                with lock:
                    if report["killer"] in shown.seen.tests:
                        where = (edit.path, edit.where) if edit else ("ops.py", rules[name])
                        shown.killed(*where, report["killer"])
                    reports.append(report)
                    progress(report, len(reports), len(names))

    with ThreadPoolExecutor(len(benches)) as pool:
        for done in [pool.submit(work, bench) for bench in benches]:
            done.result()
    order = {name: k for k, name in enumerate(names)}
    return sorted(reports, key=lambda report: order[report["mutant"]])


def main(arguments: list[str] | None = None) -> int:
    """Run and report; 1 if a room has fallen below the goal that it had reached, 2 if the tests cannot be run."""
    given = _arguments(arguments)
    started = perf_counter()
    if given.push is not None:
        room, given.part = rooms.piece(given.push)
        given.only, given.own = [room], True
        print(f"{room}: part {given.part}", flush=True)
    package = Package.read(given.package or installed(), [given.show] if given.show else given.only)
    if given.own:
        given.tests = own_tests({rooms.room_of(edit.path) for edit in package.possible})
    if given.show:
        edit = next(edit for edit in package.possible if edit.name == given.show)
        print(*package.difference(edit), sep="\n")
        return 0
    known = rooms.equivalents(HERE / "equivalent.toml")
    rules = rules_of(package)
    mutants = package.rooms() | dict.fromkeys(rules, RULES)
    here = {name: room for name, room in mutants.items() if (room in rooms.WITH_TORCH) == given.torch}
    names = chosen(here, given.only, given.part)
    if given.list:
        print(*names, sep="\n")
        return 0
    kind = "test_torch*.py" if given.torch else "test_*.py"
    suite = given.tests or sorted(str(path) for path in TESTS.glob(kind) if "mutation" not in path.stem)
    with tempfile.TemporaryDirectory(prefix="mutation") as folder:
        benches = [Bench(k, package, suite, Path(folder), _more(given)) for k in range(given.workers)]
        warm = benches[0].workers["warm"]
        try:
            warm.start()
            progress = Progress(given.quiet, known)
            seen = recorded(package, suite, warm.ready, given, Path(folder), progress.say)
            shown = Shown(seen, package.sources, warm.ready["ready"], Path(warm.ready["root"]))
            examined = [name for name in names if given.equivalent or name not in known]
            budget = budget_of(given.budget, [cost for cost, _ in seen.tests.values()])
            reports = examine_all(benches, examined, rules, shown, budget, progress)
        except Crashed as error:
            print(*error.args or ["the tests could not be collected: run pytest on them first"], file=sys.stderr)
            return 2
        finally:
            for bench in benches:
                bench.stop()
    spent = sum(report["seconds"] for report in reports) / max(len(reports), 1)
    reports += [{**NOTHING, "mutant": name, "how": known[name]} for name in names if name not in examined]
    possible = Counter([*(rooms.room_of(edit.path) for edit in package.possible), *[RULES] * len(rules)])
    table = scores(reports, known, mutants, possible)
    survived = [report for report in reports if not report["killer"] and report["mutant"] not in known]
    print(*(line_of(report, known) for report in survived if not given.quiet), *text_of(table), sep="\n")
    print(*still_short(mutants, table), sep="\n", end="\n" if still_short(mutants, table) else "")
    print(*(wrong := faults(reports, known, mutants, table)), sep="\n", end="\n" if wrong else "")
    print(f"{perf_counter() - started:.0f} s, {spent:.2f} s of processor time a mutant")
    if given.survivors:
        lines = [line for r in survived for line in (line_of(r, known), *package.difference_of(r["mutant"]))]
        given.survivors.write_text("\n".join([*text_of(table), "", *lines, ""]), encoding="utf-8")
    if given.table:
        sizes = Counter(mutants.values())
        write_table(TABLE, {room: score for room, score in table.items() if score.drawn == sizes[room]})
    return 1 if wrong else 0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mutation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="rooms, files, or how names begin")
    parser.add_argument("--part", metavar="K/N", help="every N-th mutant, beginning with the K-th")
    parser.add_argument("--own", action="store_true", help="only the rooms' own tests, which rooms.py names")
    parser.add_argument("--push", type=int, metavar="NUMBER", help="a part of one room, by its own tests")
    parser.add_argument("--list", action="store_true", help="print the names of the mutants, and run nothing")
    parser.add_argument("--show", metavar="NAME", help="print what a mutant changes, and run nothing")
    parser.add_argument("--survivors", type=Path, metavar="FILE", help="write what survived, with its lines")
    parser.add_argument("--table", action="store_true", help="write the figures of the rooms that are run whole")
    parser.add_argument("--equivalent", action="store_true", help="those of equivalent.toml too: they must survive")
    parser.add_argument("--torch", action="store_true", help="the rooms whose tests need PyTorch, and these tests")
    parser.add_argument("--record", action="store_true", help="record anew which test enters what")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="other tests than those of this folder")
    parser.add_argument("--package", type=Path, metavar="PATH", help="another package than the one that is installed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--budget", type=float, default=800, help="how many tests of average length a mutant is shown")
    parser.add_argument("--quiet", action="store_true", help="only the summary")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
