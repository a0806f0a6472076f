"""Compiled BPTT: the engine's numbers for any cell, functions that keep NumPy's promises, a cache, a way back."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from derived_cells import LOSSES, RandomCell, assert_equal, by_engine

import tinygrad_rnn as tg

numba = pytest.importorskip("numba", reason="the extra [fast] is not installed")

from tinygrad_rnn.fast import functions, product, products, store  # noqa: E402
from tinygrad_rnn.fast.functions import FLAGS  # noqa: E402
from tinygrad_rnn.fast.products import padded, panel  # noqa: E402
from tinygrad_rnn.fast.store import Space, keep  # noqa: E402


class Peephole:
    """An LSTM whose gates see c, of vectors of their own, and whose forget gate is 1 − i: nobody's cell."""

    def __init__(self, inputs, hidden, dtype):
        rng = np.random.default_rng(3)
        shapes = {"W": (3 * hidden, inputs), "U": (3 * hidden, hidden), "b": (3 * hidden,), "p": (2, hidden)}
        for name, shape in shapes.items():
            setattr(self, name, tg.Tensor(rng.normal(size=shape).astype(dtype) / 2, requires_grad=True))
        self.hidden, self.dtype = hidden, dtype

    def parameters(self):
        return {name: getattr(self, name) for name in "WUbp"}

    def initial_state(self, batch):
        return tuple(tg.Tensor(np.full((batch, self.hidden), 0.3, self.dtype)) for _ in range(2))

    def __call__(self, x, state):
        h, c = state
        i, o, g = tg.split(x @ self.W.T + h @ self.U.T + self.b, 3, axis=-1)
        i = tg.sigmoid(i + self.p[0] * c)
        c = (1 - i) * c + i * tg.tanh(g)
        return tg.sigmoid(o + self.p[1] * c) * tg.tanh(c), c


CELLS = {
    "rnn": lambda dtype: tg.RNNCell(16, 32, rng=0, dtype=dtype),
    "lstm": lambda dtype: tg.LSTMCell(5, 9, rng=0, dtype=dtype),
    "gru": lambda dtype: tg.GRUCell(3, 7, rng=0, dtype=dtype),
    "peephole": lambda dtype: Peephole(3, 5, dtype),
    "norms": lambda dtype: RandomCell((("softmax", 0, 1), ("norm", 2, 1), ("gates", 3, 2)), 1, np.dtype(dtype).str),
    "shifted": lambda dtype: RandomCell((("flip", 0, 1), ("outer", 2, 1), ("halves", 3, 1)), 2, np.dtype(dtype).str),
    "products": lambda dtype: RandomCell((("matmul", 0, 1), ("rotated", 2, 1), ("mean of all", 3, 2)), 2, "<f8"),
}


def compiled(cell, loss, example):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that it runs as NumPy
        return tg.derive_bptt(cell, loss, example, compiled=True)


def check(kind, dtype, batch, loss="both"):
    cell, rng = CELLS[kind](dtype), np.random.default_rng(1)
    inputs = {"rnn": 16, "lstm": 5}.get(kind, 3)
    state = cell.initial_state(batch)
    x = rng.normal(size=(4, *(() if batch is None else (batch,)), inputs)).astype(dtype)
    program = compiled(cell, LOSSES[loss], (tg.Tensor(x, requires_grad=True), state))
    assert "@compiled" in program.source
    for steps in (1, 2, 7):
        x = rng.normal(size=(steps, *x.shape[1:])).astype(dtype)
        states = tuple(s.numpy() for s in state) if isinstance(state, tuple) else state.numpy()
        assert_equal(program(x, states, cell.parameters()), by_engine(cell, LOSSES[loss], x, states), dtype)


@pytest.mark.parametrize("kind, dtype, batch", [("rnn", "f4", 8), ("lstm", "f8", 3)])
def test_compiled_program_is_the_engine(kind, dtype, batch):
    check(kind, dtype, batch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, dtype, batch, loss",
    [
        ("gru", "f4", 1, "last output"),
        ("lstm", "f4", None, "state"),
        ("peephole", "f8", 8, "all outputs"),
        ("norms", "f4", 3, "both"),
        ("shifted", "f8", 1, "both"),
        ("products", "f8", 3, "all outputs"),
    ],
)
def test_any_cell_that_derives_is_compiled(kind, dtype, batch, loss):
    check(kind, dtype, batch, loss)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tanh_and_sigmoid_over_the_whole_range(dtype):
    tanh, sigmoid = functions(dtype).tanh, functions(dtype).sigmoid

    @numba.njit(**FLAGS)
    def both(x, y, z):
        for i in range(len(x)):
            y[i], z[i] = tanh(x[i]), sigmoid(x[i])

    tiny = [1e-30, 1e-300, float(np.finfo(dtype).tiny), float(np.finfo(dtype).smallest_subnormal)]
    ends = [0.0, 20, 800, np.inf, *tiny]
    with np.errstate(under="ignore"):  # 1e-300 in float32
        x = np.array([*np.linspace(-12, 12, 40001), *np.linspace(-110, 110, 4001), *ends, *np.negative(ends), np.nan])
        x = x.astype(dtype)
    y, z = np.empty_like(x), np.empty_like(x)
    both(x, y, z)
    with np.errstate(all="ignore"):
        wide = x.astype(np.longdouble)
        exact = [np.tanh(wide), np.exp(np.minimum(wide, 100)) / (1 + np.exp(np.minimum(wide, 100)))]
    for got, want in zip((y, z), exact, strict=True):
        assert np.isnan(got[-1]) and np.isfinite(got[:-1]).all()
        near = np.abs(got[:-1] - want[:-1]) <= 4 * np.spacing(np.abs(want[:-1]).astype(dtype))
        assert near.all(), x[:-1][~near]
    assert np.abs(y[:-1]).max() == 1 and z[:-1].max() == 1 and z[:-1].min() == 0
    assert (np.signbit(y[:-1]) == np.signbit(x[:-1])).all()  # -0.0 stays -0.0
    # The slope is zero where the true tanh rounds to 1, and nowhere else: that is what "saturated" means.
    saturated = np.abs(exact[0][:-1].astype(dtype)) == 1
    assert ((1 - y[:-1] ** 2 == 0) == (saturated | (y[:-1] ** 2 == 1))).all() and (
        (np.abs(y[:-1]) == 1) == saturated
    ).all()


@pytest.mark.parametrize("wide", [16, 32, 64])  # bytes of a vector: of any x86, with AVX, with AVX-512
@pytest.mark.parametrize("rows, inner, columns", [(1, 3, 1), (3, 5, 9), (9, 4, 37)])
def test_product_of_any_size(rows, inner, columns, wide, monkeypatch):
    monkeypatch.setattr(products, "_BYTES", wide)
    rng, row, width = np.random.default_rng(0), padded(columns, np.float64), panel(columns, np.float64)
    a, weight = rng.normal(size=(rows, inner)), rng.normal(size=(inner, columns))
    packed = np.pad(weight, ((0, 0), (0, row - columns))).reshape(inner, -1, width).swapaxes(0, 1).ravel()
    c = np.ones((rows, row))
    multiply = product(rows, columns, np.float64, True, (inner, 1, 0), (width, 0, inner * width), row)
    multiply(a.ravel(), 0, packed, 0, c.reshape(-1), 0, inner, 1)
    np.testing.assert_allclose(c[:, :columns], 1 + a @ weight, rtol=1e-13, atol=1e-14)


def test_what_is_not_compiled_runs_as_numpy_and_says_why():
    cell = RandomCell((("cumsum", 0, 1),), 1, "f8")
    state, x = cell.initial_state(2).numpy(), np.ones((3, 2, 3))
    with pytest.warns(UserWarning, match=r"runs as NumPy, not compiled: cumsum is not compiled") as seen:
        program = tg.derive_bptt(cell, LOSSES["both"], (tg.Tensor(x, requires_grad=True), state), compiled=True)
    assert len(seen) == 1 and "compiled" not in program.source
    assert_equal(program(x, state, cell.parameters()), by_engine(cell, LOSSES["both"], x, state), "f8")


def test_no_sequences_run_as_numpy():
    cell = tg.RNNCell(2, 3, rng=0)
    x, state = np.ones((4, 0, 2)), cell.initial_state(0).numpy()
    with pytest.warns(UserWarning, match=r"runs as NumPy, not compiled: x has no elements") as seen:
        program = tg.derive_bptt(cell, LOSSES["state"], (tg.Tensor(x, requires_grad=True), state), compiled=True)
    assert len(seen) == 1
    assert_equal(program(x, state, cell.parameters()), by_engine(cell, LOSSES["state"], x, state), "f8")


def test_numba_that_is_switched_off(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    cell = tg.RNNCell(2, 3, rng=0)
    with pytest.warns(UserWarning, match=r"runs as NumPy, not compiled: NUMBA_DISABLE_JIT is set"):
        tg.derive_bptt(cell, LOSSES["state"], (np.ones((3, 2)), cell.initial_state()), compiled=True)


@pytest.mark.parametrize(
    "error", [TypeError("no\nsuch type"), AssertionError(), numba.TypingError("no such type"), KeyError(1)]
)
def test_whatever_fails_in_numba_is_one_line(error, monkeypatch):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(store, "njit", fails)
    cell = tg.RNNCell(2, 3, rng=0)
    said = "such type|TypingError: no such type|AssertionError: |KeyError: 1"
    with pytest.warns(UserWarning, match=rf"not compiled: numba says ({said})$") as seen:
        program = tg.derive_bptt(cell, LOSSES["state"], (np.ones((3, 2)), cell.initial_state()), compiled=True)
    assert len(seen) == 1 and not program.compiled


def test_what_the_loss_keeps_is_not_overwritten_by_the_next_run():
    cell = tg.RNNCell(2, 3, rng=0)
    x, h = np.ones((3, 2, 2)), cell.initial_state(2)
    program, kept = compiled(cell, None, (x, h)), []

    def loss(outputs):
        kept.append(outputs.numpy())
        return tg.sum(outputs)

    program(x, h, cell.parameters(), loss=loss)
    before = kept[0].copy()
    _, gradients, last = program(-x, h, cell.parameters(), loss=loss, return_state=True)
    np.testing.assert_array_equal(kept[0], before)
    again = {name: np.copy(g) for name, g in gradients.items()}
    np.testing.assert_array_equal(last, kept[1][-1])
    program(x, h, cell.parameters(), loss=loss)
    assert all((again[name] == gradients[name]).all() for name in again)


def test_memory_of_a_run_is_nobody_elses():
    space = Space(16, 32, np.float32)
    (one, records), (two, _) = space.take(3), space.take(3)
    assert one is not two and records.shape == (4 * 32,)
    space.give(one, records)
    assert space.take(3)[0] is one
    space.give(two, records)
    assert space.take(5)[1].shape == (6 * 32,)


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(file))
    assert keep("a = 1") == ""
    cell = tg.RNNCell(1, 2, rng=0)
    program = compiled(cell, LOSSES["state"], (np.ones((3, 1)), cell.initial_state()))
    assert np.isfinite(program(np.ones((3, 1)), cell.initial_state(), cell.parameters())[0])


def test_file_is_written_once_and_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    path = keep("a = 1")
    assert path and keep("a = 1") == path != keep("a = 2")
    with open(path, encoding="utf-8") as file:
        assert file.read() == "a = 1"
    assert len([*(tmp_path / "tinygrad-rnn").iterdir()]) == 2


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_machine_code_that_is_damaged_is_replaced(tmp_path, monkeypatch, ending, content):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "twice.py"
    path.write_text("def twice(T, w, r, a):\n    a[0] = 2 * T\n", encoding="utf-8")

    def loads():
        names, a = {"__name__": __name__}, np.zeros(1)
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
        twice = store.compiled(np.float64, 0, 1)(names["twice"])
        twice(3, a, a, a)
        return a[0], sum(twice.stats.cache_hits.values())

    assert [loads(), loads()] == [(6, 0), (6, 1)]
    (file,) = (tmp_path / "cache").rglob(f"*.{ending}")
    file.write_bytes(file.read_bytes()[:99] if content is None else content)
    assert [loads(), loads()] == [(6, 0), (6, 1)]


@pytest.mark.slow
def test_second_process_compiles_nothing(tmp_path):
    script = (
        "import numpy as np, tinygrad_rnn as tg\n"
        "cell = tg.RNNCell(2, 3, rng=0)\n"
        "example = np.ones((4, 2)), cell.initial_state()\n"
        "program = tg.derive_bptt(cell, lambda state: tg.sum(state), example, compiled=True)\n"
        "stats = [program._run.__globals__[name].stats for name in ('forward', 'backward')]\n"
        "print([sum(s.cache_hits.values()) for s in stats], program(*example, cell.parameters())[0])\n"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    environment = {**__import__("os").environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first = [process.communicate(timeout=300)[0].split("] ") for process in both]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split("] ")
    assert [p.returncode for p in both] == [0, 0] and again[0] == "[1, 1"
    assert {said[1] for said in first} == {again[1]}
