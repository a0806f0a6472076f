"""All steps at once: what is measured with a derived program is what the walk measures, or the walk is taken."""

import numpy as np
import pytest
from derived_cells import random_cells
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.atlas.networks import measured
from tinygrad_rnn.autodiff import history
from tinygrad_rnn.bptt import REWRITES
from tinygrad_rnn.diagnose import at_once, gradient_flow
from tinygrad_rnn.diagnose.at_once import EXACT, measure_at_once
from tinygrad_rnn.diagnose.chain import Chain
from tinygrad_rnn.diagnose.measure import measure


class Two(tg.RNNCell):
    """A state that is carried, and one that is not."""

    def __init__(self):
        super().__init__(3, 4, rng=0)

    def initial_state(self, batch):
        return super().initial_state(batch), tg.Tensor(np.ones((batch, 4)))

    def __call__(self, x, state):
        h, c = state
        g = super().__call__(x, h)
        g.name = "g"
        c = 0.9 * c + 0.3 * g
        return c * g, c


CELLS = {
    "rnn": lambda: tg.RNNCell(3, 4, rng=0),
    "relu": lambda: tg.RNNCell(3, 4, nonlinearity="relu", rng=0),
    "chaos": lambda: tg.RNNCell(3, 4, init={"weight_hh": lambda rng, shape: 4 * rng.normal(size=shape)}, rng=0),
    "lstm": lambda: tg.LSTMCell(3, 4, rng=0),
    "gru": lambda: tg.GRUCell(3, 4, rng=0),
    "two states": lambda: Two(),
}


def assert_same(one, other):
    for part in ("lanes", "shares", "activations"):
        assert list(getattr(one, part)) == list(getattr(other, part))
        for key, told in getattr(one, part).items():
            for name, value in vars(told).items():
                if not isinstance(value, str) and name != "line":
                    wanted = getattr(getattr(other, part)[key], name)
                    np.testing.assert_allclose(value, wanted, rtol=1e-6, atol=1e-8, err_msg=f"{key} {name}")
    assert (one.by_lag is None) == (other.by_lag is None)
    for name in one.by_lag.names if one.by_lag else ():
        assert one.by_lag.names == other.by_lag.names
        for edge in (-1, *other.by_lag.edges[:-1]):
            norms = [by_lag.log_norm(name, edge) for by_lag in (one.by_lag, other.by_lag)]
            np.testing.assert_allclose(*norms, rtol=1e-6, atol=1e-8)


def both(cell, inputs, seeds, **options):
    quick, slow = Chain(cell, inputs), Chain(cell, inputs)
    found = measure_at_once(quick, seeds, **options)
    if found is not None:
        assert "states" in vars(quick)  # entered, not walked
        for one, other in zip(quick.states, slow.states, strict=True):
            assert all(map(np.array_equal, one, other))  # bit for bit, so that chaos is the same chaos
        assert_same(found, measure(slow, seeds, **options))
    return found


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("reads", ["last", "all", "two"])
def test_it_measures_what_the_walk_measures(kind, batch, reads):
    rng, cell = np.random.default_rng(0), CELLS[kind]()
    v = rng.normal(size=(batch, 4))
    seeds = {"last": {30: v}, "all": dict.fromkeys(range(1, 31), v), "two": {30: v, 7: 2 * v}}[reads]
    inputs = rng.normal(size=(30, batch, 3))
    assert both(cell, inputs, seeds) is not None
    assert both(cell, inputs, seeds, what=("gates",)) is not None
    assert both(cell, inputs, seeds, edges=(2, 9)) is not None
    states = both(cell, inputs, seeds, what=())
    assert not states.activations
    assert all(lane.state for lane in states.lanes.values())


@settings(max_examples=20)
@given(random_cells(), st.integers(1, 9), st.integers(1, 3))
def test_random_cells_are_measured_as_the_walk_measures_them(cell, steps, batch):
    rng = np.random.default_rng(steps)
    try:
        both(cell, rng.normal(size=(steps, batch, 3)), {steps: rng.normal(size=(batch, 4))})
    except tg.GradientError as error:
        assert "not finite" in str(error)


class Coupled(tg.RNNCell):
    """Each sequence sees the mean of all."""

    def __call__(self, x, h):
        h = super().__call__(x, h)
        return h - tg.mean(h, 0, keepdims=True)


class Other(tg.RNNCell):
    """Calls itself like any other, and is none."""

    def __init__(self, factor):
        super().__init__(3, 4, rng=0)
        self.factor = factor

    def __call__(self, x, h):
        h = self.factor * super().__call__(x, h)
        h.name = "new"
        return h


def test_what_is_not_so_is_left_to_the_walk(monkeypatch):
    x, v = np.random.default_rng(0).normal(size=(9, 2, 3)), np.ones((2, 4))
    assert measure_at_once(Chain(Coupled(3, 4, rng=0), x), {9: v}) is None  # steps are no sequences of each other
    small = tg.RNNCell(3, 4, init={"weight_hh": lambda rng, shape: 1e-60 * rng.normal(size=shape)}, rng=0)
    assert measure_at_once(Chain(small, x), {9: v}) is None  # beyond the range of float64, which the walk is not
    assert both(Other(1.0), x, {9: v}) is not None
    assert both(Other(0.5), x, {9: v}) is not None
    program = at_once._program(Chain(Other(1.0), x))
    with monkeypatch.context() as patch:
        patch.setattr(at_once, "_program", lambda chain: program)
        assert measure_at_once(Chain(Other(0.5), x), {9: v}) is None  # the program is that of the other one
    monkeypatch.setattr(at_once, "MOST_NUMBERS", 9)
    assert measure_at_once(Chain(tg.LSTMCell(3, 4, rng=0), x), {9: v}) is None


def test_a_report_is_the_same_with_and_without(monkeypatch):
    x = np.random.default_rng(0).normal(size=(30, 3, 3))
    one = gradient_flow(tg.LSTMCell(3, 4, rng=0), x)
    monkeypatch.setattr("tinygrad_rnn.diagnose.report.measure_at_once", lambda *_, **__: None)
    other = gradient_flow(tg.LSTMCell(3, 4, rng=0), x)
    assert_same(one.measured, other.measured)
    assert one.word == other.word


@pytest.mark.parametrize("report", [lambda c, x: gradient_flow(c, x).measured, lambda c, x: measured(c, x, edges=(2,))])
def test_what_is_computed_when_it_is_asked_for_is_of_the_weights_that_were_measured(report):
    cell, x = tg.LSTMCell(3, 4, rng=0), np.random.default_rng(0).normal(size=(9, 1, 3))
    before, later = report(cell, x), report(cell, x)
    norms = {name: before.by_lag.log_norm(name, 2) for name in before.by_lag.names}
    cell.weight_hh.data = 3 * cell.weight_hh.data
    assert {name: later.by_lag.log_norm(name, 2) for name in later.by_lag.names} == norms


# --- what the program gives at every step ---


@pytest.mark.parametrize("rewrites", [REWRITES, (), EXACT], ids=["all", "none", "exact"])
@pytest.mark.parametrize(("kind", "names"), [("rnn", ()), ("lstm", ("f", "o")), ("gru", ("z",)), ("two states", ())])
@pytest.mark.parametrize("loss", ["all", "last", "given"])
def test_a_program_gives_states_gates_and_their_gradients(kind, names, rewrites, loss):
    cell, x = CELLS[kind](), np.random.default_rng(0).normal(size=(6, 2, 3))
    state = cell.initial_state(2)
    losses = {"all": lambda outputs: tg.sum(outputs**2), "last": lambda outputs: tg.sum(outputs[-1] ** 2)}
    used = losses.get(loss, losses["all"])
    own = {} if loss != "given" else {"loss": used}
    program = tg.derive_bptt(cell, None if own else used, example=(x, state), rewrites=rewrites, steps=names)
    steps = program(x, state, cell.parameters(), **own)[1]["steps"]
    known, states = {}, []
    for row in x:
        state = cell(row, state)
        states.append(state if isinstance(state, tuple) else (state,))
    value = used(tg.stack([h for h, *_ in states]))
    for node in history([value]):
        known.setdefault(node.name, []).append(node)
    wanted = [list(part) for part in zip(*states, strict=True)] + [known[name] for name in names]
    assert len(steps) == len(wanted) and [*steps][len(states[0]) :] == [*names]
    for (after, gradient), tensors in zip(steps.values(), wanted, strict=True):
        np.testing.assert_allclose(after, [t.data for t in tensors], rtol=1e-10, atol=1e-13)
        found = tg.grad(value, tensors, allow_unused=True)
        np.testing.assert_allclose(gradient, [g.data for g in found], rtol=1e-9, atol=1e-12)


def test_steps_that_cannot_be_given_are_refused():
    cell, x = tg.LSTMCell(3, 4, rng=0), np.ones((5, 2, 3))
    with pytest.raises(ValueError, match=r"no value is called q: there are .*f"):
        tg.derive_bptt(cell, example=(x, cell.initial_state(2)), steps=("q",))
    with pytest.raises(ValueError, match="leave compiled out"):
        tg.derive_bptt(cell, example=(x, cell.initial_state(2)), steps=(), compiled=True)


class Learned(tg.RNNCell):
    """A leak of its own for each unit, made of weights alone."""

    def __init__(self):
        super().__init__(3, 4, rng=0)
        self.leak = tg.Tensor(np.linspace(-1, 1, 4), requires_grad=True, name="leak")

    def __call__(self, x, h):
        a = tg.sigmoid(self.leak)
        a.name = "alpha"
        return (1 - a) * h + a * super().__call__(x, h)


class Limited(tg.RNNCell):
    """With a limit, a branch that the numbers decide."""

    limit = None

    def __call__(self, x, h):
        z = super().__call__(x, h)
        return z if self.limit is None or float(h.data.mean()) < self.limit else 0.5 * z


@pytest.mark.parametrize(("steps", "batch"), [(4, 1), (2, 2), (5, 2), (3, 4)])
def test_what_is_made_of_weights_alone_is_nobodys_gate(steps, batch):
    """Also where there are as many units as steps and sequences."""
    flow = gradient_flow(Learned(), np.random.default_rng(1).normal(size=(steps, batch, 3)), rng=0)
    assert set(flow.lanes) == set(flow.activations) == {("", "h")}
    assert len(flow.activations["", "h"].by_step) == steps


def test_a_setting_that_changed_since_the_last_report_counts():
    cell, inputs = Limited(3, 4, rng=0), np.random.default_rng(1).normal(size=(9, 1, 3))
    gradient_flow(cell, inputs, rng=0)
    cell.limit = max(float(h.mean()) for (h,) in Chain(cell, inputs).states[:-1]) - 1e-9  # one step is above it
    seeds = {9: np.ones((1, 4))}
    both(cell, inputs, seeds)
    assert measure_at_once(Chain(cell, inputs), seeds) is None


@pytest.mark.parametrize("kept", [lambda h: h.detach(), lambda h: tg.Tensor(np.ones(h.shape))])
def test_a_part_of_the_state_without_a_gradient(kept):
    class Kept(Two):
        def __call__(self, x, state):
            h = tg.RNNCell.__call__(self, x, state[0])
            return h, kept(h)

    rng = np.random.default_rng(0)
    inputs, v = rng.normal(size=(6, 2, 3)), rng.normal(size=(2, 4))
    assert both(Kept(), inputs, {6: v}) is not None


HANDED_ON = {
    "the one before": lambda z, h, old: (z, h),
    "what it was": lambda z, h, old: (z, old),
    "the same twice": lambda z, h, old: (z, z),
    "in turn": lambda z, h, old: (old, z),
}


class Delayed(Two):
    """Part of its state is a tensor that is another part, or was."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def __call__(self, x, state):
        h, old = state
        return HANDED_ON[self.kind](tg.RNNCell.__call__(self, x, h + 0.5 * old), h, old)


@pytest.mark.parametrize("reads", [(6,), (6, 3)])
@pytest.mark.parametrize("kind", HANDED_ON)
def test_a_part_of_the_state_that_is_another_has_a_gradient_of_its_own(kind, reads):
    cell, rng = Delayed(kind), np.random.default_rng(0)
    x, v = rng.normal(size=(6, 1, 3)), rng.normal(size=(1, 4))
    found = both(cell, x, dict.fromkeys(reads, v))
    assert found is not None
    passed = [tuple(tg.Tensor(part.data, requires_grad=True) for part in cell.initial_state(1))]
    for row in x:
        h, c = cell(row, passed[-1])
        passed.append((1.0 * h, 1.0 * c if kind != "the same twice" else 1.0 * h))
    wanted = tg.sum(sum(passed[t][0] * v for t in reads))
    for k, lane in enumerate(found.lanes.values()):
        if kind == "the same twice" and k == 0:  # what the other one gets came through it
            continue
        gradients = tg.grad(wanted, [state[k] for state in reversed(passed)], allow_unused=True)
        norms = [np.linalg.norm(g.data) for g in gradients]
        np.testing.assert_allclose(10.0 ** lane.logs[:, 0], norms, rtol=1e-6, atol=1e-300)


class Shown(tg.RNNCell):
    """Takes tensors only, and says so in its own way."""

    def __call__(self, x, h):
        if type(h) is not tg.Tensor:
            raise RuntimeError("no tensor")
        return super().__call__(x, h)


def test_a_cell_that_cannot_be_traced_is_walked():
    inputs = np.random.default_rng(0).normal(size=(6, 2, 3))
    plain, shown = (gradient_flow(kind(3, 4, rng=0), inputs, rng=0) for kind in (tg.RNNCell, Shown))
    assert shown.decades_lost == pytest.approx(plain.decades_lost)
    np.testing.assert_allclose(shown.lanes["", "h"].logs, plain.lanes["", "h"].logs)


class Unsteady(tg.RNNCell):
    """Scales its state by something that is not the same when a step is run again."""

    factor = 1.0

    def __init__(self, kind):
        super().__init__(3, 4, rng=0)
        self.kind, self.rng, self.calls = kind, np.random.default_rng(0), 0

    def __call__(self, x, h):
        if self.kind == "draws":
            h = h * self.rng.uniform(0.5, 1.5, h.shape)
        self.calls += self.kind == "counts"
        h = super().__call__(x, h * (self.factor + 0.01 * self.calls))
        return h * self.rng.uniform(0, 1e-9, h.shape) if self.kind == "draws, and is small" else h


@pytest.mark.parametrize("kind", ["draws", "counts", "draws, and is small"])
def test_a_cell_whose_step_cannot_be_run_again_has_no_report(kind):
    inputs = np.random.default_rng(0).normal(size=(8, 2, 3))
    with pytest.raises(tg.GradientError, match="run again"):
        _ = gradient_flow(Unsteady(kind), inputs).main


@pytest.mark.parametrize("change", [False, True])
def test_weights_by_lag_are_of_the_cell_that_was_measured(change, monkeypatch):
    flow = gradient_flow(Unsteady("as it is"), np.random.default_rng(0).normal(size=(8, 2, 3)))
    assert flow.main is not None
    if not change:
        assert flow.by_lag is not None
        return
    monkeypatch.setattr(Unsteady, "factor", 0.5)
    with pytest.raises(tg.GradientError, match="run again"):
        _ = flow.by_lag
