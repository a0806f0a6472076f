"""Derived BPTT: its gradients are the engine's, on our cells, on cells of one's own and on random ones."""

import cProfile
import itertools
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from derived_cells import LOSSES, assert_equal, by_engine, random_cells
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.bptt import REWRITES

CELLS = {
    **{
        f"RNN {phi}": lambda phi=phi, **o: tg.RNNCell(3, 4, phi, **o) for phi in ("tanh", "relu", "sigmoid", "identity")
    },
    "LSTM": lambda **o: tg.LSTMCell(3, 4, **o),
    "LSTM of 1997": lambda **o: tg.LSTMCell(3, 4, forget_gate=False, **o),
    "GRU": lambda **o: tg.GRUCell(3, 4, **o),
}


def example(cell, steps, batch, dtype="f8", seed=1):
    rng = np.random.default_rng(seed)
    shape = (3,) if batch is None else (batch, 3)
    state = cell.initial_state(batch)
    nested = isinstance(state, tuple)
    first = tuple(rng.normal(size=s.shape).astype(dtype) for s in (state if nested else (state,)))
    return rng.normal(size=(steps, *shape)).astype(dtype), first if nested else first[0]


def derived(cell, loss, inputs, state, *extras, **options):
    return tg.derive_bptt(cell, loss, (tg.Tensor(inputs, requires_grad=True), state, *extras), **options)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", CELLS)
def test_our_cells_with_any_batch_and_any_number_of_steps(name, dtype, bias):
    cell = CELLS[name](dtype=dtype, bias=bias, rng=0)
    for batch in (None, 2) if bias else (1,):
        loss = LOSSES["all outputs"]
        program = derived(cell, loss, *example(cell, 3, batch, dtype))
        for steps in (1, 2, 20):
            inputs, state = example(cell, steps, batch, dtype, seed=steps)
            assert_equal(program(inputs, state, cell.parameters()), by_engine(cell, loss, inputs, state), dtype)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("name", ["RNN tanh", "LSTM", "GRU"])
def test_losses_of_outputs_of_the_state_and_of_a_target(name, kind):
    cell, loss = CELLS[name](rng=0), LOSSES[kind]
    target = [np.random.default_rng(2).normal(size=(steps, 2, 4)) for steps in (3, 6)]
    extras = [(t,) if kind == "target" else () for t in target]
    program = derived(cell, loss, *example(cell, 3, 2), *extras[0])
    inputs, state = example(cell, 6, 2)
    got = program(inputs, state, cell.parameters(), *extras[1])
    assert_equal(got, by_engine(cell, loss, inputs, state, extras[1]), "f8")


@given(random_cells(), st.sampled_from(sorted(set(LOSSES) - {"target"})), st.sampled_from([None, 2]), st.data())
def test_random_cells(cell, kind, batch, data):
    off = data.draw(st.sets(st.sampled_from(REWRITES)))
    rewrites = [name for name in REWRITES if name not in off]
    program = derived(cell, LOSSES[kind], *example(cell, 2, batch), rewrites=rewrites)
    for steps in (1, 4):
        inputs, state = example(cell, steps, batch, seed=steps)
        assert_equal(program(inputs, state, cell.parameters()), by_engine(cell, LOSSES[kind], inputs, state), "f8")


@pytest.mark.parametrize("name", ["Peephole", "Coupled", "Antisymmetric"])
def test_cells_of_the_example(name):
    """Peephole, coupled gates and antisymmetric, as `examples/lstm_variants.py` has them."""
    path = Path(__file__).resolve().parent.parent / "examples" / "lstm_variants.py"
    source = path.read_text(encoding="utf-8").partition("\nrng = ")[0]
    namespace = {}
    exec(compile(source, str(path), "exec"), namespace)
    options = {"forget_gate": False} if name == "Coupled" else {}
    cell = namespace[name](3, 4, rng=np.random.default_rng(0), **options)
    loss = LOSSES["all outputs"]
    program = derived(cell, loss, *example(cell, 3, 2))
    inputs, state = example(cell, 20, 2)
    assert_equal(program(inputs, state, cell.parameters()), by_engine(cell, loss, inputs, state), "f8")


class Cell:
    """A tanh RNN whose step does something more, on its one marked line."""

    def __init__(self, step):
        self.U = tg.Tensor(np.eye(3) / 2, requires_grad=True, name="U")
        self.step, self.t, self.kept, self.rng = step, 0, None, np.random.default_rng(0)

    def parameters(self):
        return {"U": self.U}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros(3))

    def __call__(self, x, h):
        return self.step(self, x, tg.tanh(h @ self.U + x))


def derive(step, **options):
    cell = Cell(step)
    return tg.derive_bptt(cell, lambda outputs: tg.sum(outputs), (np.ones((3, 3)), np.zeros(3)), **options), cell


def branch(cell, x, h):
    if tg.sum(h) > 0:  # HERE
        h = -h
    return h


def scaled(cell, x, h):
    return h / float(tg.sum(h * h))  # HERE


def clipped(cell, x, h):
    return h * (1 if tg.max(h).item() < 1 else 0.5)  # HERE


def plain(cell, x, h):
    return h + np.asarray(h)  # HERE


def weight_decides(cell, x, h):
    return h if cell.U[0, 0] > 0 else -h  # HERE


def chosen(cell, x, h):
    return h + h[np.argmax(h)]  # HERE


def unknown(cell, x, h):
    return np.sinc(h)  # HERE


def remembers(cell, x, h):
    h = h if cell.kept is None else h + cell.kept  # HERE
    cell.kept = h
    return h


def widens(cell, x, h):
    return tg.concatenate([h, h])  # HERE


def noisy(cell, x, h):
    return h + cell.rng.normal(size=3)  # HERE


def masks(cell, x, h):
    return tg.where(np.random.random(3) > 2, h, -h)  # noqa: NPY002 HERE


def counts_by_data(cell, x, h):
    for _ in range(int(x[0])):  # HERE
        h = h * 2
    return h


def asks_all(cell, x, h):
    return h if (h > 0).all() else -h  # HERE


def prints(cell, x, h):
    print(f"{h:.3f}")  # HERE
    return h


@pytest.mark.parametrize(
    "step, why",
    [
        (branch, "condition"),
        (masks, "the cell draws random numbers"),
        (counts_by_data, "int()"),
        (asks_all, "no attribute 'all'"),
        (prints, "a format asks for the numbers"),
        (scaled, "float()"),
        (clipped, "item()"),
        (plain, "plain array"),
        (weight_decides, "condition"),
        (chosen, "argmax"),
        (unknown, "sinc"),
        (remembers, "kept and is used again"),
        (widens, "form"),
        (noisy, "not its first over again"),
    ],
)
def test_what_cannot_be_derived_is_refused_with_the_line(step, why):
    with pytest.raises(tg.bptt.TraceError, match=re.escape(why)) as caught:
        derive(step)
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    place = re.search(r"test_derived.py:(\d+): ", str(caught.value))
    assert place and lines[int(place[1]) - 1].endswith(" HERE"), caught.value


def counts(cell, x, h):
    cell.t += 1
    return h * 2 if cell.t > 4 else h


def test_a_cell_that_changes_is_refused_and_left_as_it_was():
    with pytest.raises(tg.bptt.TraceError, match="the cell's t changes from step to step"):
        derive(counts)
    _, cell = derive(lambda cell, x, h: setattr(cell, "kept", h) or h)  # what is kept and not used again does no harm
    assert cell.kept is None and type(cell.U) is tg.Tensor and cell.U.grad is None


def test_the_attribute_that_changes_is_the_one_that_is_named():
    """Small numbers are one object to Python, wherever they are held."""

    def step(cell, x, h):
        cell.t, cell.other = cell.t + 1, 0
        return h

    with pytest.raises(tg.bptt.TraceError, match="the cell's t changes from step to step"):
        cell = Cell(step)
        cell.other = 0
        tg.derive_bptt(cell, lambda outputs: tg.sum(outputs), (np.ones((3, 3)), np.zeros(3)))


def test_nothing_flows_through_no_grad():
    def step(cell, x, h):
        with tg.no_grad():
            scale = 1 / (1 + tg.sum(h * h))
        return h * scale

    with tg.no_grad():  # around the derivation it changes nothing
        program, cell = derive(step)
    x = np.random.default_rng(0).normal(size=(5, 3))
    loss = tg.sum(tg.unroll(cell, x, tg.Tensor(np.zeros(3)))[0])
    np.testing.assert_allclose(program(x, np.zeros(3), cell.parameters())[1]["U"], tg.grad(loss, cell.U).data)


def test_a_name_that_python_does_not_accept_is_made_one():
    def step(cell, x, h):
        gate, more = tg.sigmoid(h), tg.cumsum(h, -1)
        gate.name, more.name = "my gate", "2nd"
        return gate * more

    for rewrites in (REWRITES, ()):
        source = derive(step, rewrites=rewrites)[0].source
        assert "my_gate = σ(" in source and "_2nd[t] = np.cumsum(" in source


def test_a_parameter_that_is_no_attribute_is_refused():
    hidden = tg.Tensor(np.ones(3), requires_grad=True, name="hidden")
    with pytest.raises(tg.bptt.TraceError, match="'hidden' that requires a gradient is no attribute"):
        derive(lambda cell, x, h: h * hidden)


def test_a_loss_with_parameters_is_refused_with_the_remedy():
    cell, head = tg.RNNCell(3, 4, rng=0), tg.Linear(4, 1, rng=0)
    with pytest.raises(
        tg.bptt.TraceError, match="'weight' that requires a gradient is not the cell's: derive with loss"
    ):
        derived(cell, lambda outputs: tg.sum(head(outputs[-1])), *example(cell, 3, 2))


def test_a_loss_that_takes_more_than_it_is_given_says_so():
    cell = tg.LSTMCell(3, 4, rng=0)
    with pytest.raises(ValueError, match=re.escape("the loss takes (h, c), so 1 argument(s) beside outputs and state")):
        derived(cell, lambda h, c: tg.sum(h) + tg.sum(c), *example(cell, 3, 2))


@cache
def rewritten(kind, names):
    """The program of both losses with these rewrites alone."""
    cell = CELLS[kind](rng=0)
    return derived(cell, LOSSES["both"], *example(cell, 3, 2), rewrites=names)


@pytest.mark.slow
@pytest.mark.parametrize("name", REWRITES)
def test_each_rewrite_alone_and_all_the_others(name):
    """A rewrite needs no other; that the program agrees with the engine is checked when it is derived."""
    for kind in ("LSTM", "GRU"):
        alone, plain = rewritten(kind, (name,)), rewritten(kind, ())
        others = rewritten(kind, frozenset(REWRITES) - {name})
        assert alone.rewrites == (name,) and len({alone.source, others.source, plain.source}) >= 2
    with pytest.raises(ValueError, match="no rewrite is called other"):
        rewritten("GRU", ("other",))


def test_a_primitive_of_ones_own(plant):
    cube = plant(lambda x: x * x * x, lambda g, y, x: 3 * g * x * x)
    program, cell = derive(lambda cell, x, h: cube(h))
    x = np.random.default_rng(0).normal(size=(5, 3))
    loss = tg.sum(tg.unroll(cell, x, tg.Tensor(np.zeros(3)))[0])
    np.testing.assert_allclose(program(x, np.zeros(3), cell.parameters())[1]["U"], tg.grad(loss, cell.U).data)


def test_a_wrong_program_is_not_given_out(monkeypatch):
    """Plant a fault in a rewrite: the comparison with the engine finds it."""
    from tinygrad_rnn.bptt import passes, rewrites

    def fault(step):
        def rule(node, old, new):
            return node.args[0] if node.op == "tanh" else node

        rewrites.rebuild(step, rule)

    monkeypatch.setitem(passes.STEP_REWRITES, "share", fault)
    with pytest.raises(tg.GradientError, match="does not agree with the engine"):
        derive(lambda cell, x, h: h)


# --- calling a program ---


def test_misfits_are_errors_that_name_them():
    program, cell = derive(lambda cell, x, h: h)
    x, h, U = np.ones((3, 3)), np.zeros(3), cell.parameters()
    for arguments, message in [
        (
            (x.astype("f4"), h, U),
            "each step of the inputs is float32 of shape (3,), and the program",
        ),
        ((np.ones((3, 2)), h, U), "each step of the inputs is float64 of shape (2,)"),
        ((np.ones((3, 1, 3)), h, U), "sequence of shape (T, 3)"),
        ((np.ones((0, 3)), h, U), "sequence of shape (T, 3)"),
        ((x, np.zeros((1, 3)), U), "state h is float64 of shape (1, 3)"),
        ((x, (h, h), U), "the state is made of 1 array(s), not 2"),
        ((x, h, {}), "missing U; unknown none"),
        ((x, h, {"U": np.eye(4)}), "parameter U is float64 of shape (4, 4)"),
        ((x, h, U, x), "the loss takes 0 more argument(s), not 1"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            program(*arguments)
    with pytest.raises(KeyError, match="derive with an example of inputs that requires a gradient"):
        program(x, h, U)[1]["inputs"]


def test_a_loss_that_holds_a_target_is_for_its_number_of_steps_only():
    cell = tg.RNNCell(3, 4, rng=0)
    target, (inputs, state) = np.ones((5, 4)), example(cell, 5, None)
    program = derived(cell, lambda outputs: tg.mse_loss(outputs, target), inputs, state)
    program(inputs, state, cell.parameters())
    with pytest.raises(ValueError, match=r"the loss was derived for 5 step\(s\)"):
        program(inputs[:4], state, cell.parameters())


def test_windows_of_truncated_bptt_hand_on_the_state():
    cell = tg.LSTMCell(3, 4, rng=0)
    inputs, state = example(cell, 6, 2)
    program = derived(cell, lambda outputs: tg.sum(outputs), inputs, state)
    whole = program(inputs, state, cell.parameters(), return_state=True)
    first = program(inputs[:4], state, cell.parameters(), return_state=True)
    second = program(inputs[4:], first[2], cell.parameters(), return_state=True)
    np.testing.assert_allclose(first[0] + second[0], whole[0])
    np.testing.assert_allclose(second[2], whole[2])


def test_a_loss_given_at_the_call_is_differentiated_by_the_engine():
    cell, head = tg.GRUCell(3, 4, rng=0), tg.Linear(4, 2, rng=1)
    inputs, state = example(cell, 5, 2)
    labels = np.array([0, 1])
    program = derived(cell, None, inputs, state)

    def loss(outputs):
        return tg.cross_entropy(head(outputs[-1]), labels)

    got = program(inputs, state, cell.parameters(), loss=loss)
    assert_equal(got, by_engine(cell, loss, inputs, state), "f8")
    want = tg.grad(loss(tg.unroll(cell, inputs, tg.Tensor(state))[0]), head.weight)
    np.testing.assert_allclose(head.weight.grad.data, want.data)


def test_results_belong_to_the_caller():
    cell = tg.LSTMCell(3, 4, rng=0)
    inputs, state = example(cell, 5, 2)
    program = derived(cell, LOSSES["both"], inputs, state)
    before = program(inputs, state, cell.parameters(), return_state=True)
    copies = {k: np.array(v) for k, v in before[1].items() if k != "state"}
    arrays = [*copies, *before[1]["state"], *before[2]]
    given = [inputs, *state, *(p.numpy() for p in cell.parameters().values())]
    held = [v for k, v in before[1].items() if k != "state"] + [*before[1]["state"], *before[2]]
    assert len(held) == len(arrays)
    for a, b in itertools.combinations([*held, *given], 2):
        assert not np.shares_memory(a, b)
    program(2 * inputs, state, cell.parameters())
    for name, copy in copies.items():
        np.testing.assert_array_equal(before[1][name], copy)
        before[1][name] *= 2  # writeable: clipping in place must not touch anything else


def test_source_is_what_runs_and_shows_itself():
    program, _ = derive(lambda cell, x, h: h)
    namespace = {}
    exec(program.source, namespace)
    x, U = np.ones((4, 3)), np.eye(3) / 2
    loss = namespace["bptt"](x, np.zeros(3), U)[0]
    assert loss == program(x, np.zeros(3), {"U": U})[0]
    assert program._repr_markdown_() == f"```python\n{program.source}```" and "Program(" in repr(program)


def test_deriving_can_be_profiled():
    profile = cProfile.Profile()
    program = profile.runcall(
        derived, tg.RNNCell(3, 4, rng=0), lambda out: tg.sum(out[-1]), *example(tg.RNNCell(3, 4, rng=0), 2, 1)
    )
    assert "tanh" in program.source and sys.getprofile() is None
