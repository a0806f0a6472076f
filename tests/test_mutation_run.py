"""The tool that judges the tests, judged: what it draws, which tests it shows a mutant, and what its verdict means."""

import importlib.machinery
import math
import os
import subprocess
import sys
from collections import Counter

import pytest
from mutation import probes, report, rooms, run, worker
from mutation.rooms import Score, drawn, fault_of, room_of, wilson
from mutation.seen import Seen, Shown, digests
from mutation.source import Source

# --- which are drawn, and what the score is ---


def test_the_draw_stays_when_something_else_changes(monkeypatch):
    monkeypatch.setattr(rooms, "DRAWN", 12)
    before = "def f(x, y):\n    return x + y * 2 - 3\ndef g(x):\n    return x[1:] + [4, 5, 6] if x else 7\n"
    after = "Z = 1\n" + before.replace("def g", "def between(x):\n    return -x\ndef g")
    first, second = ([e.name for e in drawn(Source("nn/cells.py", text).edits())] for text in (before, after))
    assert len(first) == 12 == len(second)
    news = [name for name in second if name not in first]
    assert all("between" in name or "Z" in name for name in news)  # which push out as many others
    assert [name for name in second if name in first] == [n for n in first if n in second]
    assert sorted(first) == sorted(e.name for e in drawn(list(reversed(Source("nn/cells.py", before).edits()))))


def test_every_file_has_a_room():
    assert [room_of(p) for p in ("ops.py", "primitive.py", "nn/cells.py", "new/x.py", "files.py")] == (
        ["rules and sweep", "tensor", "nn", "new", "files"]
    )
    assert rooms.goal_of("new") == 0.95 and rooms.goal_of("draw") is None and rooms.goal_of("rules and sweep") == 1


@pytest.mark.parametrize(("k", "n"), [(0, 7), (7, 7), (19, 20), (285, 300), (1, 2)])
def test_the_interval_is_wilsons(k, n):
    z = 1.959963984540054
    low, high = wilson(k, n)
    for p in (low, high):  # where the share that was seen is z standard deviations off
        assert (k / n - p) ** 2 == pytest.approx(z * z * p * (1 - p) / n, abs=1e-12)
    assert low <= k / n <= high and wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    assert wilson(0, n) == (0.0, pytest.approx(z * z / (n + z * z)))
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_room_must_reach_its_goal_with_few_equivalents():
    assert fault_of("nn", Score(900, 300, 10, 276), whole=True) == ""  # 276 of 290
    assert fault_of("nn", Score(900, 300, 10, 275), whole=True) == "below 95%"
    assert fault_of("nn", Score(900, 300, 15, 285), whole=True) == ""
    assert fault_of("nn", Score(900, 300, 16, 284), whole=True).startswith(
        "16 of 300 are called equivalent, more than 5%"
    )
    assert fault_of("draw", Score(900, 300, 0, 3), whole=True) == ""
    assert fault_of("rules and sweep", Score(900, 300, 0, 299), whole=True) == "below 100%"
    # Of a share only what is as good as certain counts.
    assert fault_of("nn", Score(900, 20, 0, 18), whole=False) == "" and fault_of(
        "nn", Score(900, 20, 0, 10), whole=False
    )
    assert fault_of("rules and sweep", Score(900, 20, 0, 19), whole=False) == "below 100%"


@pytest.mark.parametrize("counted", [1, 5, 12, 13, 40, 90])
def test_a_share_of_a_room_at_its_goal_fails_less_than_once_in_thousands_and_of_a_bad_one_mostly(counted):
    """Whatever number is killed, weighed by its probability where 95 % are, and where half are."""

    def failing(share):
        return sum(
            math.comb(counted, k) * share**k * (1 - share) ** (counted - k)
            for k in range(counted + 1)
            if fault_of("nn", Score(900, counted, 0, k), whole=False)
        )

    assert failing(0.95) <= 1e-4 and (counted < 12 or failing(0.5) > 0.3)
    for k in range(counted):
        assert fault_of("rules and sweep", Score(900, counted, 0, k), whole=False) == "below 100%"
    assert fault_of("rules and sweep", Score(900, counted, 0, counted), whole=False) == ""


def test_a_part_of_a_room_is_a_part_of_its_draw(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "DRAWN", 5)
    for path in ("nn/cells.py", "nn/stacks.py", "graph/build.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("def f(x, y):\n    return x + y * 2 - 3 if x < y else -x\n")
    every, room, file = (run.Package.read(tmp_path, only) for only in ([], ["nn"], ["nn/cells.py:f"]))
    assert len(every.edits) == 10 and len(room.edits) == 5 and room.edits == file.edits
    assert set(room.edits) <= set(every.edits) and set(room.rooms().values()) == {"nn"}
    undrawn = next(edit for edit in room.possible if edit.name not in room.edits)
    assert undrawn.name in run.Package.read(tmp_path, [undrawn.name]).edits  # named in full


def test_pushes_one_after_the_other_examine_every_room_whole_by_tests_that_there_are():
    pieces = [rooms.piece(number) for number in range(7, 7 + sum(rooms.PIECES.get(room, 6) for room in rooms.TESTS))]
    parts = {room: sorted(int(k) for r, p in pieces if r == room for k in p.split("/")[:1]) for room in rooms.TESTS}
    assert all(parts[room] == [*range(1, int(p.partition("/")[2]) + 1)] for room, p in pieces)
    assert set(rooms.TESTS) >= rooms.REACHED <= set(rooms.GOALS) and rooms.piece(7 + len(pieces)) == pieces[0]
    for names in rooms.TESTS.values():
        assert [name for name in names.split() if not [*run.TESTS.glob(f"{name}.py")]] == []


def test_parts_cover_all_mutants_once():
    mutants = {f"nn/cells.py:f{k} name: a → b": "nn" for k in range(11)} | {"ops.py: x": "rules and sweep"}
    parts = [run.chosen(mutants, [], f"{k}/3") for k in (1, 2, 3)]
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(mutants)
    assert run.chosen(mutants, ["rules and sweep"], None) == run.chosen(mutants, ["ops.py"], None) == ["ops.py: x"]
    assert len(run.chosen(mutants, ["nn/cells.py:f1"], None)) == 2
    assert run.chosen({"clip.0: sign": "rules and sweep"}, ["cli"], None) == []


@pytest.mark.parametrize("more", [["--own"], ["--tests", "test_broken.py"], []])
def test_a_listed_name_is_an_answer_to_only_and_to_list_them_no_test_is_collected(tmp_path, monkeypatch, capsys, more):
    (tmp_path / "sampled" / "nn").mkdir(parents=True)
    (tmp_path / "sampled" / "nn" / "cells.py").write_text("def f(x, y):\n    return x / y if x < y else -x\n")
    (tmp_path / "test_broken.py").write_text("this is no Python\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run.Process, "start", lambda self: pytest.fail("a worker was started"))
    listing = ["--package", str(tmp_path / "sampled"), "--list", *more]
    assert run.main([*listing, "--only", "nn"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert len(names) > 5
    for name in names:
        assert run.main([*listing, "--only", name]) == 0
        assert capsys.readouterr().out.splitlines() == [name]


def test_a_room_has_its_own_tests_and_one_for_which_none_are_named_all():
    every = run.own_tests(["fast"])
    assert {"test_scope.py", "test_nn_layers.py"} <= {os.path.basename(path) for path in every}
    named = {f"{name}.py" for name in rooms.TESTS["scope"].split()}
    assert {os.path.basename(path) for path in run.own_tests(["scope"])} == named
    assert set(run.own_tests(["scope", "data"])) == {*run.own_tests(["scope"]), *run.own_tests(["data"])} < set(every)


REPORT = {"mutant": "nn/cells.py: a", "killer": "tests/test_f.py::test_f", "how": "failed", "tests": 1, "seconds": 0.1}
REPORT |= {"broken": [], "shown": 3}


def judged(killer, known=(), room="data", **more):
    reports, known = [{**REPORT, "killer": killer, **more}], dict.fromkeys(known, "a reason")
    table = report.scores(reports, known, {REPORT["mutant"]: room}, Counter())
    return report.line_of(reports[0], known).split()[0], report.faults(reports, known, {REPORT["mutant"]: room}, table)


def test_a_run_is_well_if_nothing_survived_that_matters(monkeypatch):
    assert judged("test_f") == ("killed", [])
    assert judged(None, how="") == ("SURVIVED", ["data: below 95%"])
    assert judged(None, room="draw", how="") == ("SURVIVED", [])
    monkeypatch.setattr(rooms, "REACHED", rooms.REACHED - {"testing"})
    assert judged(None, room="testing", how="") == ("SURVIVED", [])  # a goal that is not reached yet is said
    table = {"scope": Score(1, 1, 0, 0), "testing": Score(1, 1, 0, 0), "draw": Score(1, 1, 0, 0)}
    assert report.still_short(dict(zip("abc", table, strict=True)), table) == ["testing: below 95%, as before"]
    assert judged("test_f", broken=["test_g"])[1] == ["BROKEN, it fails alone without any mutant: test_g"]
    assert judged("test_f", ["data/x.py: x"])[1] == ["equivalent.toml names what is not drawn: data/x.py: x"]
    assert judged("test_f", ["graph/x.py: x"])[1] == []  # a room that was not run
    word, faults = judged("test_f", [REPORT["mutant"]])
    assert word == "NOT" and f"NOT EQUAL: {REPORT['mutant']}" in faults
    assert report.faults([], {}, {}, {}) == ["nothing was examined"]


def test_the_table_is_written_room_by_room_and_read_back(tmp_path):
    path, table = tmp_path / "table.md", {"nn": Score(900, 300, 5, 290), "draw": Score(9000, 300, 0, 120)}
    report.write_table(path, table)
    report.write_table(path, {"scope": Score(33, 33, 1, 32), "draw": Score(9000, 300, 0, 150)})
    lines = path.read_text(encoding="utf-8").splitlines()
    assert report.read_table("\n".join(lines)) == {
        "scope": Score(33, 33, 1, 32),
        **table,
        "draw": Score(9000, 300, 0, 150),
    }
    assert lines[2] == "| scope | 33 | 33 | 1 | 32 | 100.0% | 89.3% to 100.0% | 95% |"


# --- which tests are shown a mutant ---

SAMPLE = """
SCALE = 2
TWICE = SCALE * 2
def double(x):
    if x > 3:
        return x * TWICE
    for k in range(x):
        x += k
    return x
def table(f=lambda x: x + 1):
    return f(1)
"""


def test_blocks_note_that_they_are_entered(tmp_path, monkeypatch):
    (tmp_path / "sampled").mkdir()
    (tmp_path / "sampled" / "__init__.py").write_text(SAMPLE)
    source = Source("__init__.py", SAMPLE)
    size = probes.instrument(tmp_path / "sampled", {"__init__.py": source.blocks})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("sampled")
    entered = module._entered

    def by(call):
        entered[:] = bytes(size)
        call()
        return {source.blocks.names[k] for k in range(size) if entered[k]}

    assert module.double(4) == 16 and module.double(3) == 6 and module.table() == 2
    assert by(lambda: module.double(4)) == {"double#0", "double#1"}
    assert by(lambda: module.double(0)) == {"double#0", "double#2", "double#4"}
    assert by(module.table) == {"table#0", "table#1"}
    del sys.modules["sampled"], sys.modules["sampled._entered"]


@pytest.fixture
def shown():
    source = Source("sample.py", SAMPLE)
    tests = {
        "tests/test_a.py::test_large": (0.1, ["sample.py:double#0", "sample.py:double#1"]),
        "tests/test_a.py::test_small": (0.2, ["sample.py:double#0", "sample.py:double#2", "sample.py:double#3"]),
        "tests/test_b.py::test_broken": (0.01, ["sample.py:double#0"]),
        "tests/test_b.py::test_other": (0.01, ["other.py:f#0"]),
    }
    seen = Seen(tests, {"": ["sample.py:#0"]}, ["tests/test_b.py::test_broken"])
    return Shown(seen, {"sample.py": source}, list(tests)), source


def test_a_mutant_is_shown_to_the_tests_that_enter_its_block(shown):
    shown, source = shown
    of = {e.name.partition(":")[2]: [t.rpartition("_")[2] for t in shown.of_edit(e)] for e in source.edits()}
    assert of["double comparison: x > 3 → x >= 3"] == ["large", "small"]
    assert of["double arithmetic: x * TWICE → x / TWICE"] == ["large"]
    assert of["double statement: x += k → pass"] == ["small"]
    assert of["SCALE constant: 2 → 3"] == ["large"]  # of what runs while importing, those that use what it makes
    (edit,) = [e for e in source.edits() if e.name.endswith("SCALE constant: 2 → 3")]
    assert shown.while_importing(edit)


@pytest.mark.parametrize("declared", ['{} = primitive("{}", f, {})', 'primitive("{}", f, {})'])
def test_a_fault_of_a_rule_is_shown_to_the_tests_that_enter_the_rule_in_whichever_file(declared):
    lines = [declared.format(*name.split() * (declared.count("{}") - 1), "lambda g, y, x: g") for name in ("a", "b")]
    source = Source("more.py", "\n".join(lines))
    blocks = {f"tests/test_a.py::test_{k}": (0.1, [f"more.py:{name}"]) for k, name in enumerate(source.blocks.names)}
    shown = Shown(Seen(blocks), {"ops.py": Source("ops.py", "x = 1"), "more.py": source}, list(blocks))
    assert [shown.of_rule(op) for op in ("a", "b")] == [["tests/test_a.py::test_1"], ["tests/test_a.py::test_2"]]


def test_a_test_that_looks_at_a_table_alone_is_shown_what_changes_the_table(tmp_path):
    """It enters no line of the package."""
    text = (
        "import sample\ndef test_table():\n    assert sample.SCALE == 2\ndef test_other():\n    assert sample.OTHER\n"
    )
    (tmp_path / "test_c.py").write_text(text)
    tests = {"test_c.py::test_table": (0.1, []), "test_c.py::test_other": (0.1, [])}
    source = Source("sample.py", SAMPLE)
    shown = Shown(Seen(tests, {"": ["sample.py:#0"]}), {"sample.py": source}, list(tests), tmp_path)
    (edit,) = [e for e in source.edits() if e.name.endswith("SCALE constant: 2 → 3")]
    assert shown.of_edit(edit) == ["test_c.py::test_table"]


def test_who_killed_a_neighbour_comes_first(shown):
    shown, source = shown
    (edit,) = [e for e in source.edits() if e.name.endswith("x > 3 → x >= 3")]
    shown.killed("sample.py", "double", "tests/test_a.py::test_small")
    assert shown.of_edit(edit) == ["tests/test_a.py::test_small", "tests/test_a.py::test_large"]


def test_what_changed_is_recorded_again(tmp_path):
    (tmp_path / "test_a.py").write_text("a")
    (tmp_path / "test_b.py").write_text("b")
    files = {"tests/test_a.py": ["tests/test_a.py::t"], "tests/test_b.py": ["tests/test_b.py::t"]}
    tests = {"tests/test_a.py::t": (0.1, ["sample.py:double#0"]), "tests/test_b.py::t": (0.1, ["sample.py:table#0"])}

    def hashes(text=SAMPLE):
        return digests({"sample.py": Source("sample.py", text)}, tmp_path)

    seen = Seen(tests, {}, [], hashes())
    seen.save(tmp_path / "cache" / "seen.json")
    seen = Seen.load(tmp_path / "cache" / "seen.json")
    assert seen.tests == {t: (c, b) for t, (c, b) in tests.items()} and seen.stale(files, hashes()) == []
    assert seen.stale(files, hashes(SAMPLE.replace("x += k", "x -= k"))) == ["tests/test_a.py"]
    assert seen.stale(files, hashes("# moved\n\n" + SAMPLE)) == []
    assert seen.stale({**files, "tests/test_c.py": ["tests/test_c.py::t"]}, hashes()) == ["tests/test_c.py"]
    (tmp_path / "test_b.py").write_text("c")
    assert seen.stale(files, hashes()) == ["tests/test_b.py"]
    (tmp_path / "helper.py").write_text("x = 1")
    assert seen.stale(files, hashes()) == list(files)
    assert Seen.load(tmp_path / "nothing").stale(files, hashes()) == list(files)


# --- a fault in a file is what Python runs ---


def test_no_byte_code_of_another_version_fits_a_file_with_a_fault(tmp_path, monkeypatch):
    """All versions are of one size, and each leaves its byte code behind, as a test's process may."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file, seconds = tmp_path / "limits.py", []
    file.write_text("LIMIT = 0\n")
    began = file.stat().st_mtime_ns

    def limit():
        seconds.append(file.stat().st_mtime_ns // 10**9 - began // 10**9)
        exec(importlib.machinery.SourceFileLoader("limits", str(file)).get_code("limits"), names := {})
        return names["LIMIT"]

    found = [limit()]
    for number in (1, 2, 3):
        with worker.exchanged(file, f"LIMIT = {number}\n", number):
            found.append(limit())
    assert found == [0, 1, 2, 3] and seconds == [0, 1, 2, 3]
    assert file.stat().st_mtime_ns == began and file.read_text() == "LIMIT = 0\n"


def test_tests_that_are_too_short_for_the_clock_have_time():
    """Costs of 0 made a budget of 0, and the next tick of the clock ended the mutant as not killed."""
    assert run.budget_of(800, [0.0, 0.0]) == pytest.approx(8.0) and run.budget_of(10, [0.5, 1.5]) == pytest.approx(10.0)
    assert run.budget_of(1, [0.0]) >= 1 / os.sysconf("SC_CLK_TCK")


def test_every_fault_of_a_copy_has_a_number_of_its_own(tmp_path):
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "__init__.py").write_text(MINI)
    bench, asked = run.Bench(0, run.Package.read(tmp_path / "mini"), [], tmp_path), []
    bench.ask = lambda kind, **request: asked.append(request["edit"]["number"]) or {**REPORT, "unfinished": False}
    bench.passes = lambda *_: True
    for name in bench.package.edits:
        bench.examine(name, [("tests/test_f.py::test_f", 0.1)], True, 20)
    assert asked == [*range(1, len(bench.package.edits) + 1)]


@pytest.mark.skipif(os.name != "posix", reason="devices of POSIX")
def test_no_process_of_a_run_replaces_a_device(tmp_path, monkeypatch):
    """`sys.audit` says what is about to be done, and does not do it; root could."""
    (tmp_path / "mini").mkdir()
    worker = run.Process("fresh", tmp_path, [])
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda *_, env, **__: env)
        worker.start()
    for args, code in ((f"'a', {os.devnull!r}", 1), (f"{os.devnull!r}, -1", 1), ("'a', 'b'", 0)):
        for event in ("os.rename", "os.remove"):
            program = [sys.executable, "-P", "-c", f"import sys; sys.audit({event!r}, {args})"]
            done = subprocess.run(program, env=worker.process, capture_output=True, encoding="utf-8")
            assert done.returncode == code and ("of a device" in done.stderr) is bool(code)


# --- the whole, on a small package ---

MINI = """
LIMIT = 3
def limited(x):
    return min(x, LIMIT)
def endless(n):
    while n > 0:
        n -= 1
    return n
def crashing(n):
    if n > 1:
        import os
        os._exit(3)
    return n
def golden(x):
    return x + 1
def apart(x):
    return x * 2
def unseen(x):
    return x - 1
def equal(x):
    return x if x > 0 else abs(x)
def after(x):
    return x + 1
def kept(x):
    return x + 5
def fixed(x):
    return x + 7
"""
MINI_TESTS = """
import functools, subprocess, sys
import pytest
import mini

def test_limited():
    assert mini.limited(9) == 3

def test_endless():
    assert mini.endless(2) == 0

def test_crashing():
    assert mini.crashing(0) == 0

@pytest.mark.golden
def test_golden():
    assert mini.golden(1) == 2

def test_apart():
    program = "import mini; print(mini.apart(3))"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    assert done.stdout == "6\\n"

def test_equal():
    assert mini.equal(0) == 0 and mini.equal(-1) == 1 and mini.equal(1) == 1

def test_broken():
    assert mini.equal(1) == 2

KEPT = []
def test_before():
    KEPT.append(1)

def test_after():
    assert mini.after(1) == 2 and KEPT

made = functools.cache(mini.kept)

@pytest.fixture(scope="module")
def fixed():
    return mini.fixed(1)

def test_that_makes_them(fixed):
    assert made(1) and fixed

def test_that_looks_at_them(fixed):
    assert made(1) == 6 and fixed == 8
"""


@pytest.mark.slow
def test_what_hangs_crashes_or_fails_is_killed_and_nothing_else(tmp_path, monkeypatch, capsys):
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "__init__.py").write_text(MINI)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mini.py").write_text(MINI_TESTS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --import-mode=importlib\nmarkers =\n    golden: of a whole output\n    slow:\n    full:\n"
    )
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    where = ["--package", str(tmp_path / "mini"), "--tests", str(tmp_path / "tests"), "--workers", "1"]
    few = "crashing limited LIMIT apart golden unseen equal after kept fixed".split()
    few += ["endless condition", "endless statement: n"]
    where += ["--only", *(f"__init__.py:{name}" for name in few)]
    code = run.main([*where, "--survivors", str(tmp_path / "survivors")])
    out, errors = capsys.readouterr()
    assert code == 1, errors
    lines = {line.partition("__init__.py:")[2].partition("  ")[0]: line for line in out.splitlines() if "/" in line}
    killed = {name for name, line in lines.items() if " killed " in line}
    for name in lines:
        if name.startswith(("limited", "LIMIT", "apart", "kept", "fixed")):
            assert name in killed, lines[name]
        if name.startswith(("golden", "unseen", "after")):
            assert name not in killed, name
    assert "a crash, or no end" in lines["endless statement: n -= 1 → pass"]
    assert "a crash, or no end" in lines["crashing condition: n > 1 → True"]
    assert "equal comparison: x > 0 → x >= 0" not in killed and "equal branch: x if x > 0 else abs(x) → x" in killed
    assert "test_apart" in lines["apart constant: 2 → 3"]
    assert "kills nothing: tests/test_mini.py::test_broken" in out
    assert "BROKEN, it fails alone without any mutant: tests/test_mini.py::test_after" in out
    assert "files: below 95%" in out
    assert "\n    -    return x + 1\n    +    return (x - 1)\n" in (tmp_path / "survivors").read_text()


IN_EACH_ROOM = {
    "tanh.0: factor 1.001": "test_adjoint",
    "tensor.py:as_array by hand: input not copied": "test_engine",
    "scope.py:scope.__enter__ branch: f'{path}/{self.name}' if path else self.name → self.name": "test_engine",
    "functions.py:clip name: a_min → a_max": "test_kinks",
    "graph/collapse.py:collapse statement: return graph → return None": "test_collapse",
    "nn/cells.py:GRUCell.__call__ name: self._r → self._z": "test_nn_layers",
    "train/optimisers.py:Adam.change arithmetic: (1 - b2) * g * g → (1 - b2) * g / g": "test_train_optimisers",
    "cli/options.py:number.convert operand: not test(value) → test(value)": "test_cli_train",
    "data/__init__.py:one_hot operand: -1 → 1": "test_data",
    "bptt/loops.py:Loop.carried condition: self.part is Part.FORWARD → not self.part is Part.FORWARD": "test_derived",
    "atlas/sweep.py:grid statement: return Grid(several) → return None": "test_sweep",
    "diagnose/spectrum.py:_times bound: d[None, :] → d[None, 1:]": "test_spectrum",
    "arguments.py:NOT_NEGATIVE comparison: 0 <= v < math.inf → 0 < v < math.inf": "test_arguments",
    "testing/oracles.py:numeric_jacobian arithmetic: 8 * narrow → 8 / narrow": "test_oracles",
}
"""A mutant of nearly each room, and the file of a test that kills it. Where its line has gone, name another."""
WITHOUT = {"draw", "torch"}  # one is being rebuilt, the other is examined where PyTorch is


@pytest.mark.full
def test_a_mutant_of_each_room_is_killed_by_the_test_that_should(monkeypatch, capsys):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    assert {rooms.room_of_mutant(name) for name in IN_EACH_ROOM} == set(rooms.GOALS) - WITHOUT
    files = sorted({str(run.TESTS / f"{file}.py") for file in IN_EACH_ROOM.values()})
    assert run.main(["--tests", *files, "--workers", "1", "--only", *IN_EACH_ROOM]) == 0
    out = capsys.readouterr().out
    for name in IN_EACH_ROOM:
        assert f"killed    {name}  by " in out, name
