"""The source of compiled programs, run by Python: what it says is the engine's, for any cell, without compiling it."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from derived_cells import LOSSES, H, I, RandomCell, assert_equal, by_engine, random_cells
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg

pytest.importorskip("numba", reason="the extra [fast] is not installed")

from tinygrad_rnn import fast
from tinygrad_rnn.fast.products import padded, panel


def product(rows, columns, dtype, add, a, b, c):
    """What `tinygrad_rnn.fast.product` does, read off its description."""
    (row, ka, ta), (kb, tb, beside), ldc = a, b, c
    width = panel(columns, dtype)

    def multiply(a, at, b, bt, c, ct, times, steps):
        for t, k, r in np.ndindex(steps, times, rows):
            one = a[at + t * ta + k * ka + r * row]
            for p in range(padded(columns, dtype) // width):
                place = slice(ct + r * ldc + p * width, ct + r * ldc + (p + 1) * width)
                fresh = not add and t == k == 0
                c[place] = (0 if fresh else c[place]) + one * b[bt + t * tb + k * kb + p * beside :][:width]

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
    )


def compiled(dtype, given, written):
    """What `tinygrad_rnn.fast.compiled` asks of what a function is called with."""

    def decorate(function):
        def call(steps, *arrays):
            assert len(arrays) == 2 + given + written
            assert all(a.dtype == dtype and a.ndim == 1 and a.flags.c_contiguous for a in arrays)
            assert all(a.base is not None for a in arrays[2 + given :])  # a view: what is written is not lost
            return function(steps, *arrays)

        return call

    return decorate


@pytest.fixture
def by_python(monkeypatch):
    """Emitted functions stay Python's."""
    monkeypatch.setattr(fast, "product", product)
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
    assert not said or any(why in said[0] for why in ("is not compiled", "it has values of int64")), said


class Flipped:
    """What comes in last is multiplied first: what goes on to the step before is not what came in, but turned round."""

    def __init__(self):
        self.V = tg.Tensor(np.linspace(-1, 1, H * H).reshape(H, H), requires_grad=True)

    def parameters(self):
        return {"V": self.V}

    def __call__(self, x, h):
        return x + h[:, ::-1] @ self.V


class FlippedWithin(Flipped):
    """The same of what a step has just computed, as it is multiplied and as it is added."""

    def __call__(self, x, h):
        z = tg.tanh(x + h)
        return z[:, ::-1] @ self.V + z * z[:, ::-1] + tg.tanh(z[:, ::-1])


@pytest.mark.parametrize("cell", [Flipped, FlippedWithin])
def test_what_is_turned_round_on_its_way(by_python, cell):
    x, h = np.linspace(-1, 1, 6 * H).reshape(3, 2, H), np.ones((2, H))
    program = tg.derive_bptt(cell(), LOSSES["state"], (x, h), compiled=True)
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


@pytest.mark.parametrize("rewrites", [None, ()])
@pytest.mark.parametrize(
    "loss",
    [lambda state: tg.sum(state[0].T), lambda state: tg.sum(state[0] * state[1]), lambda outputs: tg.mean(outputs)],
)
def test_what_goes_back_stands_in_arrays_of_its_own(by_python, loss, rewrites):
    cell, x = tg.LSTMCell(3, 4, rng=0), np.ones((5, 2, 3))
    program = tg.derive_bptt(cell, loss, (x, cell.initial_state(2)), rewrites, compiled=True)
    said = [line.strip() for line in program.source.splitlines() if line.startswith(("    dh = ", "    dc = "))][-2:]
    assert all(line[5:].startswith(("np.array(", "np.zeros(")) for line in said), said


@pytest.mark.parametrize(
    "plan",
    [(("flip", 0, 0),), (("flip", 0, 1), ("outer", 2, 1), ("halves", 3, 1)), (("softmax", 0, 1), ("norm", 2, 1))],
)
def test_what_several_loops_make_is_read_after_the_last(by_python, plan):
    cell, x = RandomCell(plan, 2, "f8"), np.linspace(-1, 1, 12).reshape(4, 1, I)
    program = tg.derive_bptt(
        cell, LOSSES["both"], (tg.Tensor(x, requires_grad=True), cell.initial_state(1)), compiled=True
    )
    assert program.compiled


class Mixed:
    """A cell that reads a parameter p of any dtype and shape, and calls a function of what it has."""

    def __init__(self, function, p=0.5):
        self.U, self.function = tg.Tensor(np.eye(H) / 2, requires_grad=True), function
        self.p = tg.Tensor(p, requires_grad=np.asarray(p).dtype.kind == "f")

    def parameters(self):
        return {"U": self.U, "p": self.p}

    def __call__(self, x, h):
        return tg.tanh(h @ self.U + self.function(x, h, self.p))


MIXED = {
    "float32 number": (lambda x, h, p: x * p, np.float32(0.3)),
    "float32 row": (lambda x, h, p: x * p, np.full(H, 0.3, "f4")),
    "integer number": (lambda x, h, p: x * p, np.array(3)),
    "integer row": (lambda x, h, p: x * p, np.arange(H)),
    "boolean number": (lambda x, h, p: x * p, np.array(True)),
    "down and up": (lambda x, h, p: h.astype("f4").astype("f8") + x, 0.5),
    "an input down and up": (lambda x, h, p: x.astype("f4").astype("f8") * p, 0.5),
    "to bool and up": (lambda x, h, p: x.astype(bool).astype("f8") * h, 0.5),
    "sum of answers": (lambda x, h, p: ((x > 0) + (h > 0)).astype("f8"), 0.5),
    "to integers and up": (lambda x, h, p: (9 * x).astype("i8").astype("f8") + h, 0.5),
}


@pytest.mark.parametrize("kind", MIXED)
def test_values_of_another_dtype_run_as_numpy_and_are_named(by_python, kind):
    cell, x, h = Mixed(*MIXED[kind]), np.linspace(-1, 1, 6 * H).reshape(3, 2, H), np.full((2, H), 0.3)
    with pytest.warns(
        UserWarning, match=r"runs as NumPy, not compiled: it has values of (float32|int64|bool), and the"
    ):
        program = tg.derive_bptt(cell, LOSSES["state"], (x, h), compiled=True)
    assert not program.compiled


@pytest.mark.parametrize("number", [np.float32(0.3), np.float64(0.3), np.array(3), 3, 0.3], ids=repr)
def test_fixed_number_of_any_dtype_is_compiled(by_python, number):
    cell, x, h = Mixed(lambda x, h, p: x * number * p + (h > 0).astype("f8")), np.ones((3, 2, H)), np.ones((2, H))
    assert tg.derive_bptt(cell, LOSSES["state"], (x, h), compiled=True).compiled


PICKED = {
    "p[1]": lambda x, h, p: p[1] * x[0] + h[-1],
    "p[-1, 0]": lambda x, h, p: p[None][-1, 0] + x[np.int64(2)] * h,
    "p[..., 1]": lambda x, h, p: p[..., 1] * h[None, 3, ...],
    "p[::-1][0]": lambda x, h, p: p[::-1][0] * x[1:][0],
    "(h p)[2]": lambda x, h, p: h * (h[:3] * p)[2] + (x * h)[-2],
    "concatenate": lambda x, h, p: tg.concatenate([p[0][None], h[1:3], (x * h)[:1]], axis=0),
}


@pytest.mark.parametrize("kind", PICKED)
def test_number_that_an_index_picks_is_compiled(by_python, kind):
    cell = Mixed(PICKED[kind], np.array([0.3, -0.2, 0.5]))
    x, h = np.linspace(-1, 1, 3 * H).reshape(3, H), np.linspace(0.4, -0.1, H)
    program = tg.derive_bptt(cell, LOSSES["state"], (tg.Tensor(x, requires_grad=True), h), compiled=True)
    assert program.compiled
    assert_equal(program(x, h, cell.parameters()), by_engine(cell, LOSSES["state"], x, h), "f8")


@pytest.mark.parametrize("shape", [(2, 1), (1, H), (1, 1), (H,), (1,), (2, H)], ids=str)
@pytest.mark.parametrize("kind", ["added", "multiplied"])
def test_gradient_of_inputs_that_were_broadcast_is_compiled(by_python, kind, shape):
    cell = Mixed(lambda x, h, p: x * p if kind == "added" else x * p * h)
    x, h = np.linspace(-1, 1, 3 * int(np.prod(shape))).reshape(3, *shape), np.full((2, H), 0.3)
    program = tg.derive_bptt(cell, LOSSES["all outputs"], (tg.Tensor(x, requires_grad=True), h), compiled=True)
    assert program.compiled
    assert_equal(program(x, h, cell.parameters()), by_engine(cell, LOSSES["all outputs"], x, h), "f8")
