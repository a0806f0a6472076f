"""The source of compiled programs, run by Python: what it says is the engine's, for any cell, without compiling it."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from derived_cells import LOSSES, H, I, assert_equal, by_engine, random_cells
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg

pytest.importorskip("numba", reason="the extra [fast] is not installed")

from tinygrad_rnn import fast
from tinygrad_rnn.fast.products import padded, panels


def product(rows, inner, columns, lda, ldc, dtype, add):
    """What `tinygrad_rnn.fast.product` does, read off its description."""
    pairs, width, single = panels(columns, dtype)
    ends = [*((p * width, width) for p in range(pairs)), *([(pairs * width, single)] if single else [])]

    def multiply(a, at, b, bt, c, ct, times, steps):
        assert (times, steps) == (inner, 1)
        left = np.array([a[at + r * lda :][:inner] for r in range(rows)])
        right = [b[bt + start * inner :][: inner * wide].reshape(inner, wide) for start, wide in ends]
        for r, row in enumerate(left @ np.concatenate(right, axis=1)):
            place = slice(ct + r * ldc, ct + r * ldc + len(row))
            c[place] = row + c[place] if add else row

    return multiply


def pack(rows, columns, dtype):
    """What `tinygrad_rnn.fast.pack` does."""
    pairs, width, _ = panels(columns, dtype)

    def write(flat, begin, down, right, w, at):
        weight = np.array([[flat[begin + k * down + j * right] for j in range(columns)] for k in range(rows)])
        for start in range(0, columns, width):
            wide = width if start < pairs * width else width // 2
            panel = np.zeros((rows, wide), dtype)
            panel[:, : columns - start] = weight[:, start : start + wide]
            w[at + start * rows :][: rows * wide] = panel.ravel()

    return write


def outer(rows, columns, lda, ldb, record, dtype):
    """What `tinygrad_rnn.fast.outer` does."""

    def multiply(a, at, b, bt, c, ct, times, steps):
        for moved_a, moved_b in (
            (t * record + k * lda, t * record + k * ldb) for t in range(steps) for k in range(times)
        ):
            for m in range(rows):
                c[ct + m * padded(columns, dtype) :][:columns] += a[at + moved_a + m] * b[bt + moved_b :][:columns]

    return multiply


def functions(F):
    return SimpleNamespace(
        exp=np.exp,
        tanh=np.tanh,
        sigmoid=lambda x: F(1 / (1 + np.exp(-x))),
        maximum=np.maximum,
        minimum=np.minimum,
        clip=lambda x, lo=-np.inf, hi=np.inf: F(np.clip(x, lo, hi)),
        where=lambda x, y, chosen: x if chosen else y,
        relu=lambda x: np.maximum(x, F(0)),
        leaky_relu=lambda x, slope: x if x > 0 else slope * x,
        softplus=lambda x: np.logaddexp(F(0), x),
        square=lambda x: x * x,
    )


def compiled(dtype, *ranks):
    """What `tinygrad_rnn.fast.compiled` asks of what a function is called with."""

    def decorate(function):
        def call(steps, *arrays):
            assert [(a.dtype, a.ndim) for a in arrays] == [(np.dtype(dtype), abs(n)) for n in ranks]
            assert all(a.flags.c_contiguous for a in arrays)
            return function(steps, *arrays)

        return call

    return decorate


@pytest.fixture
def by_python(monkeypatch):
    """Emitted functions stay Python's."""
    monkeypatch.setattr(fast, "product", product)
    monkeypatch.setattr(fast, "outer", outer)
    monkeypatch.setattr(fast, "pack", pack)
    monkeypatch.setattr(fast, "functions", functions)
    monkeypatch.setattr(fast, "compiled", compiled)
    monkeypatch.setattr(fast.FastSource, "file", lambda self: "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_source_of_any_cell_is_the_engine_or_says_what_is_missing(by_python, data):
    cell = data.draw(random_cells(data.draw(st.sampled_from(["f4", "f8"]))))
    batch, loss = data.draw(st.sampled_from([None, 1, 3])), LOSSES[data.draw(st.sampled_from(["all outputs", "state"]))]
    x = np.random.default_rng(0).normal(size=(3, *(() if batch is None else (batch,)), I)).astype(cell.dtype)
    example = tg.Tensor(x, requires_grad=data.draw(st.booleans())), cell.initial_state(batch)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            program = tg.derive_bptt(cell, loss, example, compiled=True)
        except tg.bptt.TraceError:
            return
    said = [str(w.message) for w in seen if "runs as NumPy" in str(w.message)]
    assert len(said) == (0 if "@compiled" in program.source else 1)
    assert not said or any(why in said[0] for why in ("is not compiled", "it computes int64")), said


class Flipped:
    """What comes in last is multiplied first: what goes on to the step before is not what came in, but turned round."""

    def __init__(self):
        self.V = tg.Tensor(np.linspace(-1, 1, H * H).reshape(H, H), requires_grad=True)

    def parameters(self):
        return {"V": self.V}

    def __call__(self, x, h):
        return x + h[:, ::-1] @ self.V


def test_gradient_that_is_turned_round_on_its_way(by_python):
    x, h = np.ones((3, 2, H)), np.ones((2, H))
    program = tg.derive_bptt(Flipped(), LOSSES["state"], (x, h), compiled=True)
    assert "@compiled" in program.source


class Ranks:
    """Each part of the state is of a shape of its own, and all see all."""

    def __init__(self, *shapes):
        self.shapes, self.w = shapes, tg.Tensor(0.5, requires_grad=True)

    def parameters(self):
        return {"w": self.w}

    def __call__(self, x, state):
        parts = state if isinstance(state, tuple) else (state,)
        seen = tg.mean(x) + sum(tg.mean(part) for part in parts)
        new = tuple(tg.tanh(self.w * part + seen) for part in parts)
        return new if len(new) > 1 else new[0]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shapes", [[()], [(), ()], [(), (3,)], [(2, 3), ()], [(1,)], [(2, 1, 3), (), (2,)]], ids=str)
def test_state_of_any_shape(by_python, shapes, compiled):
    cell, x = Ranks(*shapes), np.linspace(-1, 1, 15).reshape(5, 3)
    state = tuple(np.full(shape, 0.3) for shape in shapes)
    example = x, state if len(state) > 1 else state[0]
    for loss in ("all outputs", "state"):
        program = tg.derive_bptt(cell, LOSSES[loss], (tg.Tensor(x, requires_grad=True), example[1]), compiled=compiled)
        assert program.compiled == compiled
        assert_equal(program(*example, cell.parameters()), by_engine(cell, LOSSES[loss], *example), "f8")
