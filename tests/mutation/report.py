"""What a run says: a line for each mutant, a table of the rooms, and whether all is well."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import rooms

Report = dict[str, Any]
Table = dict[str, rooms.Score]
HEADING = ("part", "possible", "drawn", "equivalent", "killed", "share", "95 % interval", "goal")


def line_of(report: Report, known: Mapping[str, str]) -> str:
    """A mutant, and what became of it."""
    equal, count = report["mutant"] in known, f"{report['tests']} tests"
    if report["killer"]:
        word, by = "NOT EQUAL" if equal else "killed", f"  by {report['killer'].removeprefix('tests/')}"
        by += "" if report["how"] == "failed" else f", {report['how']}"
    else:
        word, by = "equal" if equal else "SURVIVED", ""
        count += f" of {report['shown']}, no time for more" if report.get("unfinished") else ""
        count = report["how"] or count
    return f"{word:9} {report['mutant']}{by}  ({count}, {report['seconds']:.2f} s)"


class Progress:
    """What is printed meanwhile: a line for each mutant, or one that is written over where somebody looks on."""

    def __init__(self, quiet: bool, known: Mapping[str, str]) -> None:
        self.quiet, self.known, self.survived = quiet, known, 0
        self.over = not quiet and sys.stdout.isatty()

    def __call__(self, report: Report, number: int, of: int) -> None:
        """Say what became of a mutant."""
        alive = not report["killer"]
        self.survived += alive
        if self.over and not alive:
            print(f"\r\x1b[K{number:5}/{of}  {self.survived} survived", end="", flush=True)
        elif not self.quiet:
            start = "\r\x1b[K" if self.over else ""
            print(f"{start}{number:5}/{of} {line_of(report, self.known)}", flush=True)

    def say(self, text: str) -> None:
        """Say something else, to whoever does not want the summary only."""
        if not self.quiet:
            print(text, flush=True)


def scores(
    reports: list[Report], known: Mapping[str, str], room: Mapping[str, str], possible: Mapping[str, int]
) -> Table:
    """The score of every room of which something was examined."""
    counts: dict[str, Counter[str]] = {}
    for report in reports:
        count = counts.setdefault(room[report["mutant"]], Counter())
        count["drawn"] += 1
        count["equivalent"] += report["mutant"] in known
        count["killed"] += bool(report["killer"]) and report["mutant"] not in known
    order = [*rooms.GOALS, *sorted(set(counts) - set(rooms.GOALS))]
    return {
        name: rooms.Score(possible[name], counts[name]["drawn"], counts[name]["equivalent"], counts[name]["killed"])
        for name in order
        if name in counts
    }


def rows(table: Table) -> list[tuple[str, ...]]:
    """The table of the rooms, as text."""
    found = []
    for room, score in table.items():
        low, high = score.interval
        figures = (score.possible, score.drawn, score.equivalent, score.killed)
        goal = rooms.goal_of(room)
        shares = f"{score.share:.1%}", f"{low:.1%} to {high:.1%}", f"{goal:.0%}" if goal else "none"
        found.append((room, *map(str, figures), *shares))
    return found


def text_of(table: Table) -> list[str]:
    """The table for a terminal."""
    cells = [HEADING, *rows(table)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]


def markdown_of(table: Table) -> str:
    """The table for a page."""
    lines = [HEADING, ("---", *["---:"] * (len(HEADING) - 1)), *rows(table)]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def read_table(text: str) -> Table:
    """The scores that a page shows."""
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines()[2:]]
    return {room: rooms.Score(*map(int, figures[:4])) for room, *figures in cells}


def write_table(path: Path, table: Table) -> None:
    """Replace the figures of some rooms."""
    both = (read_table(path.read_text(encoding="utf-8")) if path.exists() else {}) | table
    order = [*rooms.GOALS, *sorted(set(both) - set(rooms.GOALS))]
    path.write_text(markdown_of({room: both[room] for room in order if room in both}), encoding="utf-8")


def still_short(room: Mapping[str, str], table: Table) -> list[str]:
    """Rooms that are below a goal which they have not reached yet."""
    sizes = Counter(room.values())
    found = {name: rooms.fault_of(name, score, score.drawn == sizes[name]) for name, score in table.items()}
    return [f"{name}: {fault}, as before" for name, fault in found.items() if fault and name not in rooms.REACHED]


def faults(reports: list[Report], known: Mapping[str, str], room: Mapping[str, str], table: Table) -> list[str]:
    """What is not well with a run."""
    sizes = Counter(room.values())
    found = [] if reports else ["nothing was examined"]
    for name, score in table.items():
        fault = rooms.fault_of(name, score, whole=score.drawn == sizes[name])
        if fault and name in rooms.REACHED:
            found.append(f"{name}: {fault}")
    found += [f"NOT EQUAL: {r['mutant']}" for r in reports if r["killer"] and r["mutant"] in known]
    broken = sorted({test for report in reports for test in report["broken"]})
    found += [f"BROKEN, it fails alone without any mutant: {test}" for test in broken]
    for name in known:
        here = rooms.room_of_mutant(name)
        if here in table and table[here].drawn == sizes[here] and name not in room:
            found.append(f"equivalent.toml names what is not drawn: {name}")
    return found
