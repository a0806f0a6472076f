"""WebAssembly, where no program can be started: what is said there, and that the script that tries it can complain."""

import pytest
import wasm

import tinygrad_rnn as tg
from tinygrad_rnn.draw import NoRenderer


@pytest.fixture(params=["emscripten", "wasi"])
def there(request, monkeypatch):
    monkeypatch.setattr("sys.platform", request.param)


@pytest.fixture
def loss():
    x = tg.Tensor([0.1, 0.2], requires_grad=True, name="x")
    return tg.sum(x * x)


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_what_cannot_be_written_says_what_can_and_names_no_program(there, loss, ending, tmp_path):
    with pytest.raises(NoRenderer, match=r"WebAssembly.*save as \.svg or \.html") as caught:
        tg.draw(loss, tmp_path / f"a.{ending}")
    assert "pip install" not in str(caught.value) and "PATH" not in str(caught.value)


@pytest.mark.parametrize("ending", ["svg", "html"])
def test_what_needs_no_program_is_written(there, loss, ending, tmp_path):
    tg.draw(loss, tmp_path / f"a.{ending}")
    assert (tmp_path / f"a.{ending}").stat().st_size > 500


FINE = dict.fromkeys(("import", "SVG"), "") | {what: f"Error: {reason}" for what, reason in wasm.WITHOUT.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"SVG": "OSError: no"}, ["SVG fails there: OSError: no"]),
        ({"PNG": ""}, ["PNG works there by now: take it out of WITHOUT, and say so in docs/facts.md"]),
        ({"PDF": "run pip install graphviz-pure"}, ["PDF gives another reason: run pip install graphviz-pure"]),
    ],
)
def test_script_complains(change, said):
    assert wasm.complaints(FINE | change) == said


def test_program_is_python_and_tries_all_that_is_said_to_be_missing():
    compile(wasm.PROGRAM, "program.py", "exec")
    assert all(f'tried("{what}")' in wasm.PROGRAM for what in wasm.WITHOUT)
