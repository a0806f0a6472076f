"""Hand mutants to workers and say which were killed. Knows nothing of what is planted; needs only Python.

python -m tests.mutation                      every mutant: the tests of its op first, then the rest
python -m tests.mutation --only tanh          those whose name begins so, or that concern this op
python -m tests.mutation --part 2/8           every eighth, from the second: a share for each push
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Timer
from time import perf_counter
from typing import Any

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
# In this order after the tests of the op itself: what is cheap and sees much comes first.
SUITE = """
    test_hooks test_kinks test_adjoint test_range test_indexing test_tensor test_cells test_graph test_engine
    test_programs test_higher_order test_properties test_state_machine test_against_torch test_shapes_against_torch
    test_cells_against_torch test_ops
""".split()

Report = dict[str, Any]


class Crashed(Exception):
    """A worker ended, or was ended for taking too long."""


class Worker:
    """One process with a pytest session, started when it is first needed and again after a crash."""

    def __init__(self, tests: list[str], patience: float) -> None:
        self.tests, self.patience = tests, patience
        self.process: subprocess.Popen[str] | None = None
        self.mutants: list[tuple[str, list[str]]] = []
        self.told = 0

    def start(self) -> None:
        """Start the process and wait until it has collected the tests."""
        paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HYPOTHESIS_PROFILE": "mutation"}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        # -P: the folder it is started in is not to hide the installed package.
        command = [sys.executable, "-P", "-m", "mutation.worker", *self.tests]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, encoding="utf-8", cwd=TESTS.parent, **pipes)
        self.mutants = [(name, ops) for name, ops in self.line()["ready"]]

    def line(self) -> Report:
        """The next report; a worker that takes too long is ended."""
        assert self.process and self.process.stdout
        timer = Timer(self.patience, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self.stop()
            raise Crashed
        return json.loads(line)

    def examine(self, mutant: str, rest: bool, clean: list[str]) -> Report:
        """What becomes of one mutant. One that hangs or crashes the process has not gone unnoticed.

        `clean` grows by the tests that are known to pass where nothing is planted; each worker is told the new ones.
        """
        if self.process is None:
            self.start()
        assert self.process and self.process.stdin
        started = perf_counter()
        try:
            told, self.told = self.told, len(clean)
            request = {"mutant": mutant, "rest": rest, "clean": clean[told : self.told]}
            print(json.dumps(request), file=self.process.stdin, flush=True)
            report = self.line()
            clean += report["clean"]
            return report
        except (Crashed, BrokenPipeError):
            self.stop()
            took = perf_counter() - started
            killer = "a crash, or no end"
            return {"mutant": mutant, "killer": killer, "own": False, "tests": 0, "seconds": took, "broken": []}

    def stop(self) -> None:
        """Let the session end by itself."""
        if self.process is not None:
            assert self.process.stdin and self.process.stdout
            with suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process, self.told = None, 0


def equivalents(path: Path) -> dict[str, str]:
    """Mutants that nothing can notice, each with the reason."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    return {name: entry["reason"] for entry in entries for name in entry["mutants"]}


def chosen(mutants: list[tuple[str, list[str]]], only: list[str], part: str | None) -> list[str]:
    """Which mutants to examine."""
    names = [name for name, ops in mutants if not only or any(name.startswith(o) or o in ops for o in only)]
    if part:
        k, n = map(int, part.split("/"))
        names = names[k - 1 :: n]
    return names


def examine_all(workers: list[Worker], names: list[str], known: dict[str, str], show: bool) -> list[Report]:
    """Share the mutants out among the workers, each taking the next when it is free."""
    waiting: SimpleQueue[str | None] = SimpleQueue()
    for item in (*names, *[None] * len(workers)):
        waiting.put(item)
    lock, reports = Lock(), []
    clean: list[str] = []

    def work(worker: Worker) -> None:
        try:
            while (name := waiting.get()) is not None:
                report = worker.examine(name, name not in known, clean)
                with lock:
                    reports.append(report)
                    if show:
                        print(
                            f"{len(reports):5}/{len(names)} {verdict(report, known):10} {line_of(report)}", flush=True
                        )
        finally:
            worker.stop()

    with ThreadPoolExecutor(len(workers)) as pool:
        for done in [pool.submit(work, worker) for worker in workers]:
            done.result()
    return sorted(reports, key=lambda report: names.index(report["mutant"]))


def verdict(report: Report, known: dict[str, str]) -> str:
    """What a report means."""
    if report["mutant"] in known:
        return "NOT EQUAL" if report["killer"] else "equivalent"
    return "killed" if report["killer"] else "SURVIVED"


def line_of(report: Report) -> str:
    """A mutant, and the test that killed it."""
    killer = f"  by {report['killer'].rpartition('/')[2]}" if report["killer"] else ""
    return f"{report['mutant']}{killer}  ({report['tests']} tests, {report['seconds']:.2f} s)"


def summary(reports: list[Report], known: dict[str, str], seconds: float) -> tuple[list[str], bool]:
    """The lines that close the run, and whether all is well."""
    rules: dict[str, Counter[str]] = {}
    for report in reports:
        rules.setdefault(report["mutant"].split(":")[0], Counter())[verdict(report, known)] += 1
    lines = [f"{rule:24} " + ", ".join(f"{n} {v}" for v, n in sorted(c.items())) for rule, c in rules.items()]
    bad = [report for report in reports if verdict(report, known) in ("SURVIVED", "NOT EQUAL")]
    lines += [f"{verdict(report, known)}: {report['mutant']}" for report in bad]
    broken = sorted({name for report in reports for name in report["broken"]})
    lines += [f"BROKEN, it fails without any mutant: {name}" for name in broken]
    counts = Counter(verdict(report, known) for report in reports)
    own = sum(report["own"] for report in reports)
    slowest = max((report["seconds"] for report in reports), default=0.0)
    total = counts["killed"] + counts["SURVIVED"]
    lines.append(
        f"{counts['killed']} of {total} mutants killed ({own} by tests of their op), {counts['SURVIVED']} survived, "
        f"{counts['equivalent']} equivalent; {seconds:.0f} s, the slowest {slowest:.1f} s"
    )
    return lines, not bad and not broken and bool(reports)


def main(arguments: list[str] | None = None) -> int:
    """Run and report; 0 if every mutant was killed or is known to be equivalent, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="mutation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="ops, or how the mutants' names begin")
    parser.add_argument("--part", metavar="K/N", help="every N-th mutant, beginning with the K-th")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="other tests than those of this folder")
    parser.add_argument(
        "--equivalent", action="store_true", help="examine those of equivalent.toml too: they must survive"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--patience", type=float, default=600.0, help="seconds until a mutant counts as hanging")
    parser.add_argument("--quiet", action="store_true", help="only the summary")
    given = parser.parse_args(arguments)
    started = perf_counter()
    suite = [str(TESTS / f"{name}.py") for name in SUITE]
    workers = [Worker(given.tests or suite, given.patience) for _ in range(given.workers)]
    try:
        workers[0].start()
    except Crashed:
        print("the tests could not be collected: run pytest on them first", file=sys.stderr)
        return 2
    known = equivalents(HERE / "equivalent.toml")
    if unknown := set(known) - {name for name, _ in workers[0].mutants}:
        print("equivalent.toml names mutants that do not exist:", *sorted(unknown), sep="\n  ", file=sys.stderr)
    names = chosen(workers[0].mutants, given.only, given.part)
    if not given.equivalent:
        names = [name for name in names if name not in known]
    reports = examine_all(workers, names, known, not given.quiet)
    lines, well = summary(reports, known, perf_counter() - started)
    print(*lines, sep="\n")
    return 0 if well and not unknown else 1


if __name__ == "__main__":
    sys.exit(main())
