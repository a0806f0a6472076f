"""The pytest plugin, used as newcomers use it, in a pytest of its own."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_rnn as tg

INSTALLED = importlib.util.find_spec("tinygrad_rnn.testing.plugin") is None  # then it is a module of its own
plugin = importlib.import_module("tinygrad_rnn_pytest" if INSTALLED else "tinygrad_rnn.testing.plugin")
PLUGIN = Path(__file__).resolve().parent.parent / "tinygrad_rnn" / "testing" / "plugin.py"
RULES = """
import numpy as np, pytest, tinygrad_rnn as tg

def cube():
    return tg.primitive("cube", lambda x: x**3, lambda g, y, x: {factor} * g * x * x)

@pytest.mark.gradients(op=cube{options})
def test_cube(gradient_check):
    gradient_check()

def test_mine(primitives):
    assert cube() is primitives["cube"]

def test_gone():
    assert "cube" not in tg.OPS
"""


@pytest.fixture
def run(tmp_path):
    def in_its_own_pytest(source, *arguments):
        shutil.copy(PLUGIN, tmp_path / "tinygrad_rnn_pytest.py")
        (tmp_path / "test_mine.py").write_text(source, encoding="utf-8")
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tinygrad_rnn_pytest", "--strict-markers", *arguments]
        alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # not the installed one as well
        done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, encoding="utf-8", timeout=1200)
        return done.returncode, done.stdout + done.stderr

    return in_its_own_pytest


def test_what_is_installed_is_this_plugin():
    if not any(point.name == "tinygrad_rnn" for point in importlib.metadata.entry_points(group="pytest11")):
        pytest.skip("the package is not installed")
    spec = importlib.util.find_spec("tinygrad_rnn_pytest")
    assert Path(spec.origin).read_text(encoding="utf-8") == PLUGIN.read_text(encoding="utf-8")


def test_one_test_for_each_check_and_operations_that_are_gone_after_it(run):
    code, said = run(RULES.format(factor=3, options=""), "-vv")
    assert code == 0 and "12 passed" in said, said
    assert "test_mine.py::test_cube[special points] PASSED" in said


def test_a_failure_is_the_report_alone(run):
    code, said = run(RULES.format(factor=2, options=", order=1, skip=['float32']"))
    assert code == 1 and "7 passed" in said and "2 failed" in said, said
    assert "likely cause: off by a constant factor of 0.666667 = 2/3" in said and "def gradcheck" not in said
    assert "During handling" not in said


@pytest.mark.slow
def test_the_traceback_of_gradcheck_ends_at_the_callers_line(run):
    code, said = run(
        "import tinygrad_rnn as tg\nfrom tinygrad_rnn.testing import gradcheck\n"
        "def test_it():\n    gradcheck(lambda x: x.detach() * 2.0 + x, 1.0)  # here\n"
    )
    assert code == 1 and "# here" in said and "tinygrad_rnn/testing" not in said, said


@pytest.mark.slow
def test_a_marker_that_is_missing_is_asked_for(run):
    code, said = run("def test_it(gradient_check):\n    gradient_check()\n")
    assert code != 0 and "gradient_check wants @pytest.mark.gradients(op=...)" in said


def test_it_is_inert(run):
    """A pytest that does not use it imports neither this package nor NumPy."""
    code, said = run("import sys\ndef test_it():\n    assert not {'numpy', 'tinygrad_rnn'} & set(sys.modules)\n")
    assert code == 0, said


def test_a_primitive_is_replaced_on_request_and_one_of_the_package_is_not(plant):
    first = tg.primitive("planted again", lambda x: x, lambda g, y, x: g)
    try:
        second = tg.primitive("planted again", lambda x: 2 * x, lambda g, y, x: 2 * g, replace=True)
        assert tg.OPS["planted again"] is second is not first
        with pytest.raises(ValueError, match="exists already"):
            tg.primitive("planted again", lambda x: x, lambda g, y, x: g)
        with pytest.raises(ValueError, match="exists already"):
            tg.primitive("tanh", lambda x: x, lambda g, y, x: g, replace=True)
    finally:
        del tg.OPS["planted again"]


HURRIED = """
import time
import pytest
from hypothesis import given, settings, strategies as st

settings.register_profile("theirs", deadline=5, max_examples=4)
settings.load_profile("theirs")
DRAWN = []

def slowly(x):
    DRAWN.append(x)
    time.sleep(0.02)

@pytest.mark.parametrize("run", [1, 2])
@given(x=st.floats(0, 1))
def test_of_gradients(primitives, run, x):
    slowly(x)
    now = settings.default
    assert (now.deadline, now.derandomize, now.max_examples) == (None, True, 4)

class TestMine:
    @given(x=st.floats(0, 1))
    def test_method(self, primitives, x):
        slowly(x)

def test_inside(primitives):
    runs = []
    for _ in range(2):
        DRAWN.clear()
        given(st.floats(0, 1))(slowly)()
        runs.append([*DRAWN])
    assert runs[0] == runs[1] and len(runs[0]) == 4

@settings(max_examples=2, deadline=4000)
@given(x=st.floats(0, 1))
@pytest.mark.usefixtures("primitives")
def test_own_settings_stay(request, x):
    slowly(x)

def test_nothing_is_left_behind():
    assert settings.get_current_profile_name() == "theirs" and settings.default.deadline.microseconds == 5000

@given(x=st.floats(0, 1))
def test_other(x):
    slowly(x)
"""


@pytest.mark.slow
def test_hypothesis_has_no_deadline_in_these_tests_and_elsewhere_what_it_had(run):
    code, said = run(HURRIED, "-p", "_hypothesis_pytestplugin")
    failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert code == 1 and "6 passed" in said and len(failed) == 1, said
    assert failed[0].startswith("FAILED test_mine.py::test_other - hypothesis.errors.DeadlineExceeded")


# In the same process, where faults that are planted into the plugin can be met

INSIDE = """
import numpy as np, pytest, tinygrad_rnn as tg
from hypothesis import given, settings, strategies as st

def cube():
    return tg.primitive("cube inside", lambda x: x**3, lambda g, y, x: {factor} * g * x * x)

@pytest.mark.gradients(op=cube, order={order}, shapes=[(3,)], skip={skip})
def test_cube(gradient_check):
    gradient_check()

@pytest.mark.gradients(op="tanh", shapes=[(3,)])
def test_by_name(gradient_check):
    gradient_check()

def test_mine(primitives):
    before = settings.default
    assert primitives is tg.OPS and cube() is primitives["cube inside"]
    assert before.deadline is None and before.derandomize and before.database is None
    del primitives["sin"]

def test_gone():
    assert "cube inside" not in tg.OPS and "sin" in tg.OPS
"""


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """Run a file with the plugin of this very package: the exit code, and how each test ended and what it said."""
    from hypothesis import settings

    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(source):
        ended, before = {}, (settings.get_current_profile_name(), settings.default, dict(tg.OPS))

        class Seen:
            def pytest_runtest_logreport(self, report):
                if report.when == "call" or not report.passed:
                    ended[report.nodeid.partition("::")[2]] = report.outcome, str(report.longrepr or "")

        file = tmp_path / f"test_{tmp_path.name}_{len(list(tmp_path.iterdir()))}.py"
        file.write_text(source, encoding="utf-8")
        (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        options = [
            "-q",
            "-p",
            "no:cacheprovider",
            "--strict-markers",
            "--import-mode=importlib",
            "-c",
            str(tmp_path / "pytest.ini"),
        ]
        code = pytest.main([*options, f"--rootdir={tmp_path}", str(file)], plugins=[plugin, Seen()])
        assert before == (settings.get_current_profile_name(), settings.default, dict(tg.OPS)), "all is as it was"
        return int(code), ended

    return run


def test_each_check_is_a_test_of_its_own(inside):
    code, ended = inside(INSIDE.format(factor=3, order=2, skip=()))
    checks = {name.partition("[")[2][:-1] for name in ended if name.startswith("test_cube")}
    assert code == 0 and {how for how, _ in ended.values()} == {"passed"} and len(ended) == 10 + 10 + 2
    assert checks == {*plugin.known(2)} and "order 2" in checks and "adjoint" in checks
    code, ended = inside(INSIDE.format(factor=3, order=1, skip=("memory", "float32")))
    assert code == 0 and len(ended) == 6 + 10 + 2 and "test_cube[memory]" not in ended
    assert len(plugin.known(1)) == 8 and plugin.known(3)[1:4] == ["first order", "order 2", "order 3"]


def test_a_check_that_fails_is_its_report_and_nothing_else(inside):
    code, ended = inside(INSIDE.format(factor=2, order=1, skip=()))
    failed = {name: said for name, (how, said) in ended.items() if how == "failed"}
    assert code == 1 and {*failed} == {"test_cube[first order]", "test_cube[special points]"}
    said = failed["test_cube[first order]"]
    assert said.startswith("cube inside: 1 of 1 checks failed\n  first order: the gradient of input 0 ")
    assert "likely cause: off by a constant factor of 0.666667 = 2/3" in said and "Traceback" not in said


def test_what_the_marker_does_not_say_is_asked_for(inside):
    code, ended = inside("import pytest\n@pytest.mark.gradients(order=1)\ndef test_it(gradient_check):\n    pass\n")
    assert code != 0 and not [how for how, _ in ended.values() if how == "passed"]


def test_a_test_that_hypothesis_runs_keeps_its_own_settings_and_loses_the_deadline(inside):
    code, ended = inside(
        "import pytest\nfrom hypothesis import given, settings, strategies as st\n"
        "@given(x=st.floats(0, 1))\ndef test_plain(primitives, x):\n"
        "    assert settings.default.deadline is None and settings.default.derandomize\n"
        "@settings(max_examples=3, deadline=4000)\n@given(x=st.floats(0, 1))\ndef test_own(primitives, x):\n"
        "    seen.append(x)\nseen = []\n"
        "def test_three():\n    assert len(seen) == 3\n"
        "class TestMine:\n    @given(x=st.floats(0, 1))\n    def test_method(self, primitives, x):\n        pass\n"
    )
    assert code == 0 and len(ended) == 4, ended


def test_what_the_loaded_profile_says_besides_stays():
    from hypothesis import HealthCheck, settings

    before = settings.get_current_profile_name()
    settings.register_profile("theirs", max_examples=7, suppress_health_check=[HealthCheck.filter_too_much])
    settings.load_profile("theirs")
    try:
        undo = plugin.unhurried(lambda: None)
        now = settings.default
        assert (now.max_examples, now.deadline, now.derandomize, now.database) == (7, None, True, None)
        kept = {HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.function_scoped_fixture}
        assert {*now.suppress_health_check} == kept
        undo()
        assert settings.get_current_profile_name() == "theirs" and settings.default.max_examples == 7
    finally:
        settings.load_profile(before)
