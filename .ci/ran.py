"""Which tests ran: what is skipped in one stage runs in another, and no test is skipped everywhere.

    python .ci/ran.py FOLDER              what was skipped, and why; fails for what ran nowhere
    python .ci/ran.py FOLDER --left NAME  the tests of NAME.collected that have not run yet, for `pytest @FILE`

In the folder lie `*.xml`, the reports of pytest's `--junitxml`, and `*.collected`, what `--collect-only -q` prints.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

CHECKOUT = Path(__file__).resolve().parent.parent
TORCH = r"PyTorch is not installed|torch \S+ is not installed|import 'torch'"
# A test may be skipped for these reasons only. What has a True beside it may be skipped in every stage.
REASONS = {
    TORCH: False,
    r"extra|tinygrad-rnn\[|needs nbformat|(autograd|mygrad) \S+ is not installed": False,
    r"could not import '(autograd|mygrad|matplotlib|safetensors|nbformat|nbclient|ipykernel|distributed|sphinx)": False,
    r"not installed from a wheel": False,
    r"no browser": True,  # .ci/run says MISSING
    r"to this user nothing is protected": True,  # root, as whom CI often runs
    r"needs the embedded engine|another engine places the nodes elsewhere": False,
    r"Ctrl-C goes to the whole console there": False,
    r"no bash|no git": False,
}
Test = tuple[str, str]  # pytest's name of the file with dots, and of the test


def name_of(node: str) -> Test:
    """What a report calls `tests/test_a.py::test_b[c]`."""
    path, bracket, parameters = node.partition("[")
    file, *classes, test = path.split("::")
    return ".".join([file.removesuffix(".py").replace("/", "."), *classes]), test + bracket + parameters


def file_of(test: Test) -> str:
    """Its file, with dots; classes are named `Test...`."""
    return test[0].partition(".Test")[0]


def read(folder: Path) -> tuple[set[Test], dict[str, set[Test]]]:
    """The tests that were executed in any stage, and by reason those that were skipped in one."""
    executed: set[Test] = set()
    skipped: dict[str, set[Test]] = defaultdict(set)
    for report in sorted(folder.glob("*.xml")):
        for case in ElementTree.parse(report).iter("testcase"):
            test = (case.get("classname") or "", case.get("name") or "")
            skip = case.find("skipped")
            if skip is None or skip.get("type") == "pytest.xfail":
                executed.add(test)
            else:
                # Where a whole file is skipped, the reason stands in what Python would print of a tuple.
                whole = re.search(r"Skipped: (.*)['\"]\)$", skip.text or "")
                skipped[whole[1] if whole else skip.get("message") or ""].add(test)
    return executed, skipped


def collected(path: Path) -> dict[Test, str]:
    """The tests of a list that pytest printed, as reports call them and as pytest takes them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name_of(line): line for line in lines if "::" in line}


def left(folder: Path, name: str) -> list[str]:
    """Tests of a list that no stage has executed."""
    executed = read(folder)[0]
    return [line for test, line in collected(folder / f"{name}.collected").items() if test not in executed]


def complaints(folder: Path, files: set[str], without_torch: bool = False) -> tuple[list[str], list[str]]:
    """The table of what was skipped, and what is wrong with it; the files, with dots, are those that must have run."""
    executed, skipped = read(folder)
    reasons = REASONS | ({TORCH: True} if without_torch else {})
    rows, wrong, done = [], set(), set(executed)
    for reason, tests in sorted(skipped.items()):
        nowhere = {test for test in tests - executed if test[0]}  # where a whole file is skipped, [0] is empty
        rows.append(f"{len(tests):5} skipped, {len(nowhere):3} of them in every stage: {reason}")
        known = [everywhere for pattern, everywhere in reasons.items() if re.search(pattern, reason)]
        if not known:
            wrong.add(f"skipped for a reason that .ci/ran.py does not know: {reason}")
        elif any(known):
            done |= nowhere
    for path in folder.glob("*.collected"):
        wrong |= {f"ran in no stage: {line}" for test, line in collected(path).items() if test not in done}
    for file in sorted(files - {file_of(test) for test in executed}):
        if without_torch and "torch_oracle" in (CHECKOUT / f"{file.replace('.', '/')}.py").read_text(encoding="utf-8"):
            rows.append(f"without PyTorch nothing was run of {file}")
        else:
            wrong.add(f"ran in no stage: all of {file}")
    return rows, sorted(wrong)


def main() -> int:
    """Print what is left, or what was skipped and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--left", metavar="NAME")
    parser.add_argument("--without-torch", action="store_true", help="comparisons with PyTorch may stay undone")
    parser.add_argument("--listed", action="store_true", help="not every file must have run, but what is in the lists")
    arguments = parser.parse_args()
    if arguments.left:
        sys.stdout.writelines(f"{line}\n" for line in left(arguments.folder, arguments.left))
        return 0
    texts = {f"tests.{path.stem}": path.read_text(encoding="utf-8") for path in (CHECKOUT / "tests").glob("test_*.py")}
    files = {file for file, text in texts.items() if "pytestmark = pytest.mark.full" not in text}
    rows, wrong = complaints(arguments.folder, set() if arguments.listed else files, arguments.without_torch)
    print(*rows, *wrong, f"{len(read(arguments.folder)[0])} tests ran, {len(wrong)} complaints", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
