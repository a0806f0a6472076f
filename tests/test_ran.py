"""The tool that says which tests CI ran, judged: it must see a test that no stage runs, whatever kept it from it."""

import subprocess
import sys

import pytest
import ran

NO_TORCH = "PyTorch is not installed: nothing to compare with"


@pytest.fixture
def stages(tmp_path):
    """Write the report of a stage: by file and test None, or why it was skipped; and what was collected."""

    def write(name, outcomes, collected=()):
        cases = ""
        for (file, test), reason in outcomes.items():
            skip = f'<skipped type="pytest.skip" message="{reason}"/>' if reason else ""
            cases += f'<testcase classname="{file}" name="{test}">{skip}</testcase>'
        (tmp_path / f"{name}.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>", "utf-8")
        (tmp_path / f"{name}.collected").write_text("\n".join([*collected, "", "9 tests collected"]), "utf-8")
        return tmp_path

    return write


def test_what_is_skipped_here_and_run_there_is_no_complaint(stages):
    stages("bare", {("tests.test_a", "test_b[c]"): NO_TORCH}, ["tests/test_a.py::test_b[c]"])
    folder = stages("torch", {("tests.test_a", "test_b[c]"): None})
    rows, wrong = ran.complaints(folder, {"tests.test_a"})
    assert wrong == [] and rows == [f"    1 skipped,   0 of them in every stage: {NO_TORCH}"]


@pytest.mark.parametrize(
    ("outcomes", "collected", "says"),
    [
        ({("tests.test_a", "test_b"): NO_TORCH}, [], "ran in no stage: all of tests.test_a"),
        ({("tests.test_a", "test_b"): NO_TORCH}, ["tests/test_a.py::test_b"], "no stage: tests/test_a.py::test_b"),
        ({}, ["tests/test_a.py::test_b[x::y]"], "ran in no stage: tests/test_a.py::test_b[x::y]"),
        ({("", "tests.test_a"): NO_TORCH}, [], "ran in no stage: all of tests.test_a"),
        ({("tests.test_a", "test_b"): "today is Sunday"}, [], "does not know: today is Sunday"),
    ],
)
def test_what_ran_nowhere_is_a_complaint(stages, outcomes, collected, says):
    wrong = ran.complaints(stages("bare", outcomes, collected), {"tests.test_a"})[1]
    assert any(says in line for line in wrong)


def test_what_needs_a_browser_or_is_waived_may_be_skipped_everywhere(stages):
    outcomes = {
        ("tests.test_html", "test_b"): "no browser: none of chromium is on PATH",
        ("tests.test_html", "test_c"): None,
    }
    folder = stages("bare", outcomes, ["tests/test_html.py::test_b", "tests/test_html.py::test_c"])
    assert ran.complaints(folder, {"tests.test_html"})[1] == []
    stages("more", {("tests.test_against_torch", "test_d"): NO_TORCH}, ["tests/test_against_torch.py::test_d"])
    files = {"tests.test_html", "tests.test_against_torch"}
    assert len(ran.complaints(folder, files)[1]) == 2
    rows, wrong = ran.complaints(folder, files, without_torch=True)
    assert wrong == [] and "without PyTorch nothing was run of tests.test_against_torch" in rows


def test_tests_that_are_left_are_named(stages):
    listed = ["tests/test_a.py::test_b[x/y.z]", "tests/test_a.py::test_c", "tests/sub/test_d.py::test_e"]
    folder = stages("bare", {("tests.test_a", "test_c"): None, ("tests.sub.test_d", "test_e"): NO_TORCH}, listed)
    assert ran.left(folder, "bare") == [listed[0], listed[2]]
    stages("torch", {("tests.test_a", "test_b[x/y.z]"): None, ("tests.sub.test_d", "test_e"): None})
    assert ran.left(folder, "bare") == []


AWKWARD = """
import pytest

@pytest.mark.parametrize("x", ["a.b", "a/b::c", "[d]", "é <&>'"])
def test_b(x): pass

@pytest.mark.xfail
def test_f(): assert False

class TestC:
    def test_d(self): pass

def test_e(): pytest.skip("today is Sunday")
"""


def pytest_says(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=True).stdout


@pytest.mark.slow
def test_names_are_those_that_pytest_writes(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(AWKWARD, "utf-8")
    (tmp_path / "all.collected").write_text(pytest_says(tmp_path, "--collect-only", "tests"), "utf-8")
    (tmp_path / "all.left").write_text("\n".join(ran.left(tmp_path, "all")), "utf-8")
    pytest_says(tmp_path, "--junitxml=all.xml", "@all.left")
    executed, skipped = ran.read(tmp_path)
    assert ran.collected(tmp_path / "all.collected").keys() == executed | skipped["today is Sunday"]
    assert list(skipped) == ["today is Sunday"] and len(executed) == 6
    assert {ran.file_of(test) for test in executed} == {"tests.test_a"}
