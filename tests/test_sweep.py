"""A sweep computes every configuration once, loses none, and its result does not tell who computed what when."""

import errno
import gc
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measures import calls, deadly, held, logged, noisy, unpicklable_result

from tinygrad_rnn.atlas import Table, TableError, grid, process_pool, read_table, rng_of, sweep
from tinygrad_rnn.atlas.store import Outcome, Store, opened

XS = grid(x=range(9), kind=["a", "b"])


class Eager(Executor):
    """Runs a job when it is submitted, and knows how many futures nobody has looked at yet."""

    def __init__(self):
        self.submitted, self.open, self.most = 0, set(), 0

    def submit(self, function, /, *arguments):
        future, self.submitted = Future(), self.submitted + 1
        future.set_result(function(*arguments))
        self.open = {f for f in self.open if not f.seen} | {future}
        future.seen = False
        result = future.result
        future.result = lambda: setattr(future, "seen", True) or result()
        self.most = max(self.most, len(self.open))
        return future


# --- the result ---


def test_rows_are_settings_and_what_was_measured():
    table = sweep(XS, noisy)
    assert table.columns == ("x", "kind", "square", "drawn", "error") and len(table) == 18
    assert table["x"] == [x for x in range(9) for _ in "ab"]
    assert table.where(x=4, kind="b")["square"] == [16]
    (failed,) = table.where(x=3, kind="a")
    assert failed["square"] is None and failed["error"].startswith("ZeroDivisionError: x is 3 (measures.py, line ")
    assert table.where(x=4)["error"] == [None, None]


def test_nobody_sees_who_computed_it(tmp_path):
    alone = sweep(XS, noisy, path=tmp_path / "alone.jsonl")
    with ThreadPoolExecutor(3) as threads:
        assert sweep(XS, noisy, threads, path=tmp_path / "threads.jsonl") == alone
    with process_pool(2) as processes:
        assert sweep(XS, noisy, processes, path=tmp_path / "processes.jsonl") == alone
        assert sweep(reversed(list(XS)), noisy, processes, path=tmp_path / "reversed.jsonl").rows == alone.rows[::-1]
    expected = (tmp_path / "alone.jsonl").read_bytes()
    for name in ("threads", "processes", "reversed"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == expected
    assert read_table(tmp_path / "processes.jsonl").where(x=8) == alone.where(x=8)


def test_equal_configurations_are_one(tmp_path):
    same = [{"x": 1, "kind": "a"}, {"kind": "a", "x": 1.0}, {"x": 2, "kind": "a"}, {"x": 1, "kind": "a"}]
    table = sweep(same, partial(logged, folder=str(tmp_path)))
    assert table["x"] == [1, 2] and calls(tmp_path) == {1: 1, 2: 1}


def test_a_number_is_a_value():
    assert sweep(grid(x=[1, 2]), lambda c: c["x"] / 2) == Table(("x", "value"), ((1, 0.5), (2, 1.0)))


def test_nothing_to_do():
    assert sweep([], noisy) == Table((), ()) and len(sweep(grid(x=[]), noisy)) == 0


# --- on after an interruption ---


@given(cut=st.floats(0, 1), count=st.integers(1, 9), resumed_by=st.sampled_from([None, 2]))
@settings(max_examples=25)
def test_a_table_cut_anywhere_is_completed(tmp_path_factory, cut, count, resumed_by):
    folder = tmp_path_factory.mktemp("cut")
    path, measure = folder / "table.jsonl", partial(logged, folder=str(folder))
    expected, whole = sweep(grid(x=range(count)), measure, path=path), (folder / "table.jsonl").read_bytes()
    part = whole[: round(cut * len(whole))]
    path.write_bytes(part)
    executor = ThreadPoolExecutor(resumed_by) if resumed_by else None
    assert sweep(grid(x=range(count)), measure, executor, path=path) == expected
    assert path.read_bytes() == whole
    kept = max(part.count(b"\n") - 1, 0)
    assert calls(folder) == {x: 1 if x < kept else 2 for x in range(count)}
    if executor:
        executor.shutdown()


def test_a_grid_may_grow(tmp_path):
    measure, path = partial(logged, folder=str(tmp_path)), tmp_path / "table.jsonl"
    sweep(grid(x=[0, 2]), measure, path=path)
    assert sweep(grid(x=[1, 2]), measure, path=path)["x"] == [1, 2]
    assert calls(tmp_path) == {0: 1, 1: 1, 2: 1} and read_table(path)["x"] == [0, 1, 2]


def test_failures_are_kept_unless_a_retry_is_wanted(tmp_path):
    measure, path = partial(logged, folder=str(tmp_path)), tmp_path / "table.jsonl"
    for retry, times in ((False, 1), (False, 1), (True, 2)):
        assert "x is 3" in sweep(grid(x=[2, 3]), measure, path=path, retry=retry)["error"][1]
        assert calls(tmp_path) == {2: 1, 3: times}
    assert path.read_text(encoding="utf-8").count("\n") == 3


SCRIPT = """
import sys
from functools import partial
from measures import held
from tinygrad_rnn.atlas import grid, process_pool, sweep
if __name__ == "__main__":
    with process_pool(2) as pool:
        sweep(grid(x=range(30)), partial(held, folder=sys.argv[1]), pool, path=sys.argv[2], in_flight=2)
"""


def test_a_killed_sweep_goes_on_and_nobody_else_writes_meanwhile(tmp_path, monkeypatch):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    path, folder = tmp_path / "table.jsonl", tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    measure = partial(held, folder=str(folder))
    running = subprocess.Popen([sys.executable, tmp_path / "script.py", folder, path], stderr=subprocess.PIPE)
    try:
        while not path.exists() or path.read_bytes().count(b"\n") < 6:
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.01)
        with pytest.raises(TableError, match="another process is writing it"):
            sweep(grid(x=range(30)), measure, path=path)
        assert len(read_table(path)) >= 5
    finally:
        running.kill()
        (folder / "go").touch()
        running.communicate(timeout=600)  # its workers hold the pipe: they end as well
    with open(path, "ab") as file:
        file.write(b'{"configuration": {"x": 3')
    kept = set(read_table(path)["x"])
    assert 5 <= len(kept) < 30
    before = calls(folder)
    table = sweep(grid(x=range(30)), measure, path=path)
    after = calls(folder)
    assert table["x"] == list(range(30)) and set(after) == set(range(30))
    assert all(after[x] == before[x] for x in kept)
    assert table == sweep(grid(x=range(30)), noisy)


# --- tables of others ---


def other(configuration):
    return {"cube": configuration["x"] ** 3}


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"x,y\n1,2\n", "is not the table of a sweep, and is left as it is"),
        (b"my diary", "is not the table of a sweep"),
        (b"[1]\n", "is not the table of a sweep"),
        (b'{"format": "tinygrad_rnn.sweep/9"}\n', "is not the table of a sweep"),
        (b'{"format": "tinygrad_rnn.sweep/1", "experiment": "mine"}\n', "experiment is 'mine', not '"),
    ],
)
def test_a_file_of_others_is_left_alone(content, reason, tmp_path):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(TableError, match="choose another path") as caught:
        sweep(grid(x=[1]), noisy, path=tmp_path / "t")
    assert reason in str(caught.value) and (tmp_path / "t").read_bytes() == content


def test_another_measure_has_another_table(tmp_path):
    path = tmp_path / "t"
    sweep(grid(x=[1]), partial(logged, folder=str(tmp_path)), path=path)
    for measure in (noisy, partial(logged, folder=str(tmp_path), seconds=0.1)):
        with pytest.raises(TableError, match="is the table of another experiment"):
            sweep(grid(x=[1]), measure, path=path)
    with pytest.raises(ValueError, match=r"cannot tell what the lock .* pass experiment='a name'"):
        sweep(grid(x=[1]), partial(noisy, threading.Lock()), path=path)
    sweep(grid(x=[1]), noisy, path=tmp_path / "u", experiment="squares")
    assert sweep(grid(x=[1]), other, path=tmp_path / "u", experiment="squares")["square"] == [1]


def test_a_change_of_the_source_is_noticed_and_a_comment_is_none(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for number, (body, same) in enumerate([("x ** 2", True), ("x  ** 2  # squared", True), ("x ** 3", False)]):
        (tmp_path / f"mine{number}.py").write_text(f"def f(c):\n    x = c['x']\n    return {body}\n", encoding="utf-8")
        measure = __import__(f"mine{number}").f
        measure.__module__ = "mine"
        if same:
            assert sweep(grid(x=[2]), measure, path=tmp_path / "t")["value"] == [4]
        else:
            with pytest.raises(TableError, match="source is"):
                sweep(grid(x=[2]), measure, path=tmp_path / "t")


@pytest.mark.parametrize(
    "line", [b"{}", b"\0\0\0", b'{"configuration": {"x": 1}}', b'{"configuration": 1, "result": {}}']
)
def test_damage_in_the_middle_is_not_guessed_at(line, tmp_path):
    path = tmp_path / "t"
    sweep(grid(x=[1, 2]), noisy, path=path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], line, lines[2], b""]))
    with pytest.raises(TableError, match="t, line 2: is damaged"):
        sweep(grid(x=[1, 2]), noisy, path=path)


def test_no_folder(tmp_path):
    with pytest.raises(TableError, match="cannot be written"):
        sweep(grid(x=[1]), noisy, path=tmp_path / "no" / "t")


# --- what cannot be measured ---


@pytest.mark.parametrize(
    "configuration, error",
    [
        ({"x": math.nan}, "must be finite"),
        ({"x": -math.inf}, "must be finite"),
        ({"x": [1]}, "'x' is list"),
        ({1: 1}, "1 is int"),
        ("x", "not str"),
    ],
)
def test_configurations_are_named_finite_scalars(configuration, error):
    with pytest.raises((TypeError, ValueError), match=error):
        sweep([configuration], noisy)


@pytest.mark.parametrize(
    "measured, error",
    [({"y": [1]}, "'y' is list"), ({"x": 1}, "under the name of a setting"), ("text", ""), (None, ""), ([1], "")],
)
def test_what_is_no_scalar_is_an_error_of_its_job(measured, error):
    (row,) = sweep(grid(x=1), lambda c: measured)
    assert error in row["error"] if error or measured == [1] else row["value"] == measured


def test_a_result_that_cannot_travel_costs_only_its_own_row():
    with process_pool(1) as pool:
        table = sweep(grid(x=range(8)), unpicklable_result, pool)
    assert table.where(error=None)["x"] == [0, 1, 2, 4, 5, 6, 7]
    assert "stays where it is" in table.where(x=3)["error"][0]


def test_a_dead_process_ends_the_sweep_and_not_the_table(tmp_path):
    path = tmp_path / "t"
    with process_pool(1) as pool, pytest.raises(RuntimeError, match=r"a process of the pool died.*safe in"):
        sweep(grid(x=range(9)), deadly, pool, path=path, in_flight=1)
    assert set(read_table(path)["x"]) >= {0}


def test_what_cannot_be_sent_is_said_at_once():
    with process_pool(1) as pool, pytest.raises(TypeError, match="define it at the top of a module"):
        sweep(grid(x=1), lambda c: 1, pool)


def test_interrupted_by_the_user_nothing_is_lost(tmp_path):
    def interrupted(configuration):
        if configuration["x"] == 2:
            raise KeyboardInterrupt
        return 0

    with pytest.raises(KeyboardInterrupt):
        sweep(grid(x=range(9)), interrupted, path=tmp_path / "t")
    assert read_table(tmp_path / "t")["x"] == [0, 1]


def test_ctrl_c_ends_the_processes_of_a_pool():
    with pytest.raises(KeyboardInterrupt), process_pool(2) as pool:
        futures = [pool.submit(time.sleep, 100) for _ in range(9)]
        while not futures[0].running():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="process groups of POSIX")
def test_ctrl_c_in_a_terminal_is_one_line_and_leaves_no_process(tmp_path):
    options = "--hidden 8 --steps 20 --seeds 100000 --workers 2 --out".split()
    command = [sys.executable, "-P", "-m", "tinygrad_rnn", "sweep", *options, str(tmp_path)]
    pytest.importorskip("matplotlib", reason="the extra [plot] is not installed")
    running = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", start_new_session=True)
    table = tmp_path / "table.jsonl"
    while not table.exists() or table.read_bytes().count(b"\n") < 6:
        assert running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)  # a terminal sends it to all
    _, said = running.communicate(timeout=600)
    assert running.returncode == 130 and said.count("\n") == 1 and "interrupted; the same command goes on from" in said
    with pytest.raises(ProcessLookupError):
        for _ in range(60_000):
            os.killpg(running.pid, 0)
            time.sleep(0.01)


# --- what is kept where ---


def test_outcomes_are_in_the_file_and_not_in_memory(tmp_path):
    alive = []

    def count(configuration):
        if configuration["x"] == 299:
            gc.collect()
            alive.append(sum(type(thing) is Outcome for thing in gc.get_objects()))
        return {"y": configuration["x"] / 3}

    for path in (None, tmp_path / "t"):
        table = sweep(grid(x=range(300)), count, path=path)
        assert table["y"] == [x / 3 for x in range(300)]
    assert max(alive) <= 2


VALUES = {
    "nan": "nan",
    "NaN": math.nan,
    "inf": "-inf",
    "infinite": -math.inf,
    "whole": 2**70,
    "half": "\udcff",
    "é": "é\n",
    "yes": True,
    "one": 1,
    "none": None,
    "tiny": 5e-324,
}


def test_what_was_measured_comes_back_as_it_was(tmp_path):
    for path in (None, tmp_path / "t", tmp_path / "t"):
        (row,) = sweep([{"x": "\udcff"}], lambda c: VALUES, path=path, experiment="values")
        assert list(map(repr, row.values())) == list(map(repr, ["\udcff", *VALUES.values()]))
    assert read_table(tmp_path / "t").columns == ("x", *VALUES)


def test_settings_of_any_kind_have_one_order(tmp_path):
    settings = [0, -1, 1.5, -1e300, 10**400, -(10**400), 2**53, 2**53 + 1, 5e-324]
    settings += [True, False, None, "a", "", "a\0b", "é"]
    jobs = [{"x": x} for x in settings] + [{"x": x, "y": 1} for x in settings] + [{}]
    for name, order in (("t", jobs), ("u", jobs[::-1])):
        assert len(sweep(order, lambda c: 1, path=tmp_path / name, experiment="order")) == len(jobs)
    written = (tmp_path / "t").read_bytes()
    assert written == (tmp_path / "u").read_bytes()
    assert {*map(repr, read_table(tmp_path / "t").where(y=1)["x"])} == {*map(repr, settings)}


@pytest.mark.skipif(os.name != "posix", reason="folders can be brought to the disk on POSIX")
@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
def test_a_finished_table_and_its_name_are_on_the_disk(numbers, tmp_path, monkeypatch):
    """Also where nothing has to be sorted."""
    done, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(os.fstat(fd).st_ino) or sync(fd))
    sweep(grid(x=numbers), noisy, path=tmp_path / "t")
    assert [(tmp_path / "t").stat().st_ino, tmp_path.stat().st_ino] == done[-2:]


@pytest.mark.skipif(os.name != "posix", reason="links and devices of POSIX")
def test_links_and_devices(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "t")
    with opened(tmp_path / "t", {}), pytest.raises(TableError, match="another process is writing it"):
        sweep(grid(x=[1]), noisy, path=tmp_path / "link")
    (tmp_path / "t").unlink()
    assert len(sweep(grid(x=[2, 1]), noisy, path=tmp_path / "link")) == 2
    assert (tmp_path / "link").is_symlink() and len(read_table(tmp_path / "t")) == 2
    for path in (tmp_path, "/dev/null", "/dev/zero"):
        with pytest.raises(TableError, match="is no file that could grow"):
            sweep(grid(x=[1]), noisy, path=path)


def test_a_full_disk_names_the_table(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full:
        def write(self, data):
            raise full

        def close(self):  # which tries once more
            raise full

        def seek(self, place):
            return place

    with pytest.raises(OSError, match="cannot be written: No space") as caught, Store(tmp_path / "t", Full()) as store:
        store.append([("{}", Outcome({}, {"y": 1}))])
    assert caught.value.filename == str(tmp_path / "t")


# --- how the work is handed out ---


def test_millions_are_not_in_memory_at_once():
    taken = []
    executor = Eager()
    configurations = ({"x": taken.append(x) or x} for x in range(10**9))

    def stop(configuration):
        if configuration["x"] > 5000:
            raise KeyboardInterrupt
        return 0

    with pytest.raises(KeyboardInterrupt):
        sweep(configurations, stop, executor, in_flight=3)
    assert executor.most <= 3 and len(taken) <= 5001 + 1000


def test_tiny_jobs_travel_together():
    executor = Eager()
    assert len(sweep(grid(x=range(5000)), lambda c: 0, executor, in_flight=2)) == 5000
    assert executor.submitted < 50


def test_long_jobs_travel_alone(monkeypatch):
    monkeypatch.setattr(sys.modules[sweep.__module__], "SECONDS", 0.0)
    executor = Eager()
    sweep(grid(x=range(10)), lambda c: 0, executor)
    assert executor.submitted == 10


@pytest.mark.parametrize("workers, usual", [(None, 256), (3, 12)])
def test_four_futures_for_each_worker_are_under_way(workers, usual, monkeypatch):
    monkeypatch.setattr(sys.modules[sweep.__module__], "SECONDS", 0.0)
    executor = Eager()
    if workers:
        executor._max_workers = workers
    sweep(grid(x=range(400)), lambda c: 0, executor)
    assert executor.most == usual


def test_the_bar_counts_what_failed_and_nothing_else(capsys):
    def measure(configuration):
        return {"half": 1 / configuration["x"]}

    sweep(grid(x=[1, 0, 2, 3]), measure, progress=True)
    assert "failed=1" in (said := capsys.readouterr().err) and "failed=2" not in said
    sweep(grid(x=[1, 2]), measure, progress=True)
    assert "failed" not in capsys.readouterr().err


def test_progress_goes_on_from_where_it_was(tmp_path, capsys):
    sweep(grid(x=range(3)), noisy, path=tmp_path / "t")
    assert capsys.readouterr().err == ""
    sweep(grid(x=range(5)), noisy, path=tmp_path / "t", progress=True)
    assert "5/5" in (said := capsys.readouterr().err) and "failed=1" in said


def test_streams_depend_on_the_configuration_alone():
    a, b = {"seed": 1, "scale": 2.0}, {"scale": 2, "seed": 1}
    assert rng_of(a).random() == rng_of(b).random() != rng_of(a, "seed").random()
    assert rng_of(a, "seed").random() == rng_of({"seed": 1, "scale": 3}, "seed").random()
    assert rng_of({"seed": 1}).random() != rng_of({"seed": True}).random()


# --- on a cluster ---


@pytest.mark.slow
def test_a_cluster_loses_a_worker_and_nothing_else(tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    measure, done = partial(logged, folder=str(tmp_path), seconds=0.02), []
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:

        def configurations():
            for x in range(60):
                if x == 30:
                    nanny = next(iter(cluster.workers.values()))
                    done.append(nanny.process.process.pid)
                    nanny.process.process.kill()
                yield {"x": x}

        table = sweep(configurations(), measure, client.get_executor(), in_flight=4, path=tmp_path / "t")
    assert done and table == sweep(grid(x=range(60)), noisy)
    assert (tmp_path / f"{done[0]}.log").exists(), "the dead worker had done nothing yet"
