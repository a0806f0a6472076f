"""The rooms of the package, what is asked of the tests of each, which mutants are drawn, and what a score is."""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .source import Edit

SEED = "of all faults, these"
DRAWN = 300
MOST_EQUIVALENT = 0.05
BY_CHANCE = 1e-4
"""So improbable where a goal is reached, a share of a room shows that it is not; it wrongs one push in thousands."""

GOALS = {
    "rules and sweep": 1.0,
    "tensor": 0.95,
    "scope": 0.95,
    "functions": 0.95,
    "graph": 0.95,
    "nn": 0.95,
    "train": 0.95,
    "data": 0.95,
    "bptt": 0.95,
    "cli": 0.95,
    "testing": 0.95,
    "files": 0.95,
    "symbolic": 0.95,
    "atlas": 0.95,
    "draw": None,
    "diagnose": None,
    "fast": None,
    "torch": None,
}
"""What share of the mutants must die; where nothing is asked, the share is printed. A new folder begins with 95 %."""
REACHED = {name for name, goal in GOALS.items() if goal == 0.95}
"""Where the goal was reached when it was last examined; that others are below is said, and fails no run."""
TESTS = {
    "rules and sweep": "test_ops test_programs test_state_machine test_adjoint test_engine test_higher_order "
    "test_functions test_numpy_* test_indexing test_properties test_hooks test_primitive test_explained test_range "
    "test_buffers test_leaving test_lists test_kinks test_arguments test_linear test_contributions test_tensor "
    "test_declared",
    "tensor": "test_tensor test_primitive test_engine test_declared test_arguments test_hooks test_buffers test_lists "
    "test_explained test_higher_order test_leaving",
    "scope": "test_scope test_collector test_engine test_graph test_state_machine",
    "functions": "test_functions test_numpy_* test_kinks test_losses test_arguments test_lists test_indexing test_ops "
    "test_leaving test_range",
    "graph": "test_graph* test_contributions test_collapse test_scope test_stacked test_chart test_draw "
    "test_hooks test_coming",
    "nn": "test_nn_* test_cells test_losses test_linear test_state_forms test_tied_weights test_arguments "
    "test_train_loop test_derived test_carried",
    "train": "test_train_* test_cli_train test_arguments",
    "data": "test_data* test_arguments test_cli_options",
    "bptt": "test_derived* test_train_windows test_train_derived test_at_once",
    "cli": "test_cli* test_text_from_outside",
    "testing": "test_kit* test_oracles test_strategies test_declared test_cli_check",
    "files": "test_files test_norms test_figure test_arguments* test_refusals test_train_checkpoints test_data* "
    "test_package test_explained test_cli_outputs test_numpy_names test_graph test_graph_views test_contributions",
    "symbolic": "test_notation test_trace test_derived* test_explained test_graph_formulas test_numpy_names "
    "test_at_once test_declared",
    "draw": "test_draw test_long test_html test_table test_grid test_rolled test_film test_svg test_style test_cards "
    "test_collapse test_chart test_stacked test_notebook test_text_from_outside test_graph_loops",
    "diagnose": "test_flow* test_verdict* test_diseases test_probe test_spectrum test_reach test_carried test_at_once "
    "test_state_forms test_cli_flow test_report_numbers",
    "atlas": "test_atlas* test_sweep* test_experiments test_cli_options",
}
"""The tests of a room, where it alone is examined: to record what all tests enter takes as long as to run them."""
PIECES = {"rules and sweep": 9} | dict.fromkeys(("testing", "diagnose", "bptt", "cli", "draw"), 12)
"""In how many pieces a room is examined, a piece for each push; six, if it is not here: of fifty mutants each."""
FILES = {
    "ops.py": "rules and sweep",
    "autodiff.py": "rules and sweep",
    "gathering.py": "rules and sweep",
    "tensor.py": "tensor",
    "primitive.py": "tensor",
    "scope.py": "scope",
    "functions.py": "functions",
    "methods.py": "functions",
    "numpy_calls.py": "functions",
    "numpy_names.py": "functions",
}
"""The rooms of the files that stand in no folder; of all others it is `files`."""
WITH_TORCH = {"torch"}
"""Rooms whose tests need PyTorch, which README's test command does not install: they are examined apart."""
EVERY = {"by hand", "operand", "arithmetic", "comparison", "branch", "constant", "held constant"}
"""Faults of the page of derivatives that are all examined, whatever is drawn."""


@dataclass(frozen=True)
class Score:
    """How many mutants of a room are possible, were drawn, are equivalent, and were killed."""

    possible: int
    drawn: int
    equivalent: int
    killed: int

    @property
    def counted(self) -> int:
        """Those that could have been killed."""
        return self.drawn - self.equivalent

    @property
    def share(self) -> float:
        """Killed, of those that could have been."""
        return self.killed / self.counted if self.counted else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of all mutants of the room lies, with 95 % confidence (Wilson 1927)."""
        return wilson(self.killed, self.counted)


def wilson(k: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The interval of a share of which k of n were seen: where (k/n - p)² <= z² p (1 - p) / n."""
    if not n:
        return 0.0, 1.0
    middle, half = k + z * z / 2, z * math.sqrt(k * (n - k) / n + z * z / 4)
    return max(middle - half, 0.0) / (n + z * z), min(middle + half, n + z * z) / (n + z * z)


def at_most(k: int, n: int, p: float) -> float:
    """How probable it is that at most k of n are killed, if the share p of all is."""
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


def room_of(path: str) -> str:
    """The room that a file belongs to."""
    folder, slash, _ = path.partition("/")
    return folder if slash else FILES.get(path, "files")


def room_of_mutant(name: str) -> str:
    """The room of a mutant: what does not begin with a file is planted into a rule."""
    path = name.partition(":")[0]
    return room_of(path) if path.endswith(".py") else "rules and sweep"


def goal_of(room: str) -> float | None:
    """What is asked of a room."""
    return GOALS.get(room, 0.95)


def piece(number: int) -> tuple[str, str]:
    """The room that a push of this number examines, and which part of it; the next number has the next part."""
    every = [(room, f"{k + 1}/{n}") for room in TESTS for n in [PIECES.get(room, 6)] for k in range(n)]
    return every[number % len(every)]


def drawn(edits: list[Edit]) -> list[Edit]:
    """At least 300 mutants of every room, or all; a change elsewhere in the package leaves the draw as it is."""
    chosen: dict[str, int] = {}
    picked = []
    for edit in sorted(edits, key=lambda e: hashlib.sha256(f"{SEED} {e.name}".encode()).digest()):
        room = room_of(edit.path)
        if edit.operator == "by hand" or (edit.path == "ops.py" and edit.operator in EVERY):
            picked.append(edit)
        elif chosen.get(room, 0) < DRAWN:
            chosen[room] = chosen.get(room, 0) + 1
            picked.append(edit)
    return sorted(picked, key=lambda e: (e.path, e.start, e.name))


def equivalents(path: Path) -> dict[str, str]:
    """Mutants that nothing can notice, each with the reason."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    return {name: entry["reason"] for entry in entries for name in entry["mutants"]}


def fault_of(room: str, score: Score, whole: bool) -> str:
    """What is wrong with a room, or nothing. A share of the mutants is judged by what is as good as certain from it."""
    goal = goal_of(room)
    if whole and score.equivalent > MOST_EQUIVALENT * score.drawn:
        return f"{score.equivalent} of {score.drawn} are called equivalent, more than {MOST_EQUIVALENT:.0%}"
    if goal is None or not score.counted:
        return ""
    reached = score.share >= goal if whole else at_most(score.killed, score.counted, goal) > BY_CHANCE
    return "" if reached else f"below {goal:.0%}"
