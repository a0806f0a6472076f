"""Derived BPTT: whatever a loss does with the number of steps, its program is right at each, or refuses."""

import inspect
import itertools

import numpy as np
import pytest
from derived_cells import MOVES, RandomCell, assert_equal
from derived_losses import GIVEN, held, of_the_length, over_time, slices

import tinygrad_rnn as tg
from tinygrad_rnn.bptt.loss import close
from tinygrad_rnn.bptt.passes import STEP_REWRITES
from tinygrad_rnn.bptt.rewrites import rebuild
from tinygrad_rnn.bptt.step import topological
from tinygrad_rnn.symbolic.trace import Node, computed
from tinygrad_rnn.symbolic.values import at_steps

pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
FREE = slices() | of_the_length() | over_time()
SOME = [
    *("mean o[-20:]", "mean o[20:]", "o[::2]", "o[-20]", "T - 15 or 0", "at most 20", "if > 20", "if odd"),
    *("a little if > 30", "/ (T or 20)", "γᵗ", "o[-20:] twice", "o[-20:] and state", "an offset", "tiny"),
]
LENGTHS = (1, 2, 3, 5, 8, 13, 20, 21, 50, 51, 100)


def by_engine(cell, loss, x, state, extras=()):
    inputs, first = tg.Tensor(x, requires_grad=True), tg.Tensor(state, requires_grad=True)
    outputs, last = tg.unroll(cell, inputs, first)
    names = [p.name for p in inspect.signature(loss).parameters.values() if p.default is p.empty]
    rest = iter(extras)
    value = loss(*({"outputs": outputs, "state": last}[n] if n in ("outputs", "state") else next(rest) for n in names))
    found = tg.grad(value, [*cell.parameters().values(), inputs, first], allow_unused=True)
    return value.item(), dict(zip([*cell.parameters(), "inputs", "state"], (g.data for g in found), strict=True))


def answers(loss, steps, lengths, shape=None, dtype="f8", cell=None, rounding=0.0):
    """At which lengths a program of an example of so many steps answers; right each time, up to some rounding."""
    cell, rng = cell or tg.RNNCell(3, 4, rng=0, dtype=dtype), np.random.default_rng(1)

    def drawn(T):
        extras = () if shape is None else (rng.normal(size=shape(T)).astype(dtype),)
        return rng.normal(size=(T, 2, 3)).astype(dtype), rng.normal(size=(2, 4)).astype(dtype), extras

    def compare(got, want):
        if rounding:
            for name, b in want[1].items():
                np.testing.assert_allclose(got[1][name], b, rtol=0, atol=rounding * np.abs(b).max() + 1e-15)
        else:
            assert_equal(got, want, dtype)

    x, state, extras = drawn(steps)
    program = tg.derive_bptt(cell, loss, (tg.Tensor(x, requires_grad=True), state, *extras))
    compare(program(x, state, cell.parameters(), *extras), by_engine(cell, loss, x, state, extras))
    answered = set()
    for T in lengths:
        x, state, extras = drawn(T)
        try:
            got = program(x, state, cell.parameters(), *extras)
        except ValueError as error:
            assert "the loss was derived for" in str(error) or "the program was derived for" in str(error)
            continue
        compare(got, by_engine(cell, loss, x, state, extras))
        answered.add(T)
    return answered


@pytest.mark.parametrize("name", SOME)
def test_a_program_is_right_at_each_length_or_refuses(name):
    answers(FREE[name], 23, (1, 24, 64))


def test_how_much_is_answered():
    """What is the same function at all lengths is answered at all, what needs 20 steps at 20 and more."""
    for name in ("variance", "centred", "max", "T × T", "state", "/ T", "T - 3"):
        assert answers(FREE[name], 4, (3, 21)) == {3, 21}, name
    for part in (0.3, 1 / 3, 7.0):  # of which there are 1 / T
        assert answers(lambda outputs, part=part: tg.sum(outputs**2) * (part / len(outputs)), 4, (3, 21)) == {3, 21}
    for name, needed in {"mean o[-20:]": 20, "o[-20:] twice": 1, "differences": 2}.items():
        assert answers(FREE[name], 30, (7, 20, 45)) == {T for T in (7, 20, 45) if needed <= T}, name


@pytest.mark.parametrize("name", GIVEN)
def test_what_a_loss_takes_is_of_the_length_or_refused(name):
    loss, shape = GIVEN[name]
    answered = answers(loss, 20, (3, 20, 33), shape)
    assert answered == ({20} if name.startswith("as many") else {20, 33} if "20" in name else {3, 20, 33})


EVERY = [*itertools.product([*FREE, *held(1)], [1, 2, 8, 13, 20, 50], ["f4", "f8"])]


@pytest.mark.parametrize(
    ("name", "steps", "dtype"),
    [pytest.param(*case, marks=pytest.mark.full if k % 7 else pytest.mark.slow) for k, case in enumerate(EVERY)],
)
def test_every_loss_at_every_length(name, steps, dtype):
    """A seventh of them each time, in which all losses, lengths and dtypes occur; all in the night."""
    loss = (FREE | held(steps))[name]
    try:
        by_engine(tg.RNNCell(3, 4, rng=0), loss, np.zeros((steps, 2, 3)), np.zeros((2, 4)))
    except (IndexError, ValueError):  # not for so few steps: nothing is derived either
        with pytest.raises((IndexError, ValueError)):
            answers(loss, steps, LENGTHS, dtype=dtype)
        return
    with np.errstate(all="ignore"):
        answers(loss, steps, LENGTHS, dtype=dtype)


@pytest.mark.slow
def test_random_cells_with_any_loss():
    rng = np.random.default_rng(0)
    for count in rng.integers(7, size=75):
        moves = [(sorted(MOVES)[rng.integers(len(MOVES))], *map(int, rng.integers(0, 9, 2))) for _ in range(count)]
        loss, steps = FREE[[*FREE][rng.integers(len(FREE))]], [1, 3, 8, 20, 30][rng.integers(5)]
        try:
            by_engine(tg.RNNCell(3, 4, rng=0), loss, np.zeros((steps, 2, 3)), np.zeros((2, 4)))
        except (IndexError, ValueError):
            continue
        with np.errstate(all="ignore"):
            answers(loss, steps, (1, 2, 9, 31), cell=RandomCell(tuple(moves), 1), rounding=1e-9)


def test_a_length_is_compared_once():
    cell = tg.RNNCell(3, 4, rng=0)
    program = tg.derive_bptt(cell, FREE["variance"], (np.ones((20, 2, 3)), np.zeros((2, 4))))
    check, seen = program._check, []
    check.at = lambda steps, extras: seen.append(steps) or type(check).at(check, steps, extras)
    for T in (20, 21, 7, 7, 7, 43):
        program(np.ones((T, 2, 3)), np.zeros((2, 4)), cell.parameters())
    assert seen == [7, 43]


@pytest.mark.filterwarnings("error")
def test_lengths_at_which_nobody_asked_warn_of_nothing():
    loss = lambda outputs: tg.mean(outputs[:-30] ** 2) + tg.mean(outputs[5:] ** 2)  # noqa: E731
    assert answers(loss, 40, (41, 81)) == {41, 81}


def test_outputs_that_vanish_hide_no_length():
    """Of outputs that are all zero every loss is the same."""

    class Dying(tg.RNNCell):
        def __call__(self, x, h):
            return super().__call__(x, h) * 1e-200

    assert answers(FREE["mean o[:5]"], 8, (1, 20), cell=Dying(3, 4, rng=0)) == {20}


def test_a_loss_that_makes_sense_only_between_its_outputs_hides_no_length():
    """Elsewhere it is NaN, whatever it is a function of."""

    class High(tg.RNNCell):
        def __call__(self, x, h):
            return 2.5 + 0.4 * super().__call__(x, h - 2.5)

    def loss(outputs):
        return tg.sqrt(tg.min(outputs) - 2.0) * (1.001 if len(outputs) > 30 else 1.0)

    assert answers(loss, 8, (1, 20, 40), cell=High(3, 4, rng=0)) == {1, 20}


def centred(outputs):
    return outputs - tg.mean(outputs, axis=-1, keepdims=True)


ZERO = {  # of each output, or each row of them: the gradient is zero but for rounding
    "sigmoids": lambda outputs: tg.sum(tg.sigmoid(outputs) + tg.sigmoid(-outputs)),
    "softplus": lambda outputs: tg.mean(tg.softplus(outputs) - tg.softplus(-outputs) - outputs),
    "exponentials": lambda outputs: tg.mean(tg.exp(0.1 * outputs) * tg.exp(-0.1 * outputs)),
    "large": lambda outputs: tg.sum(1e4 * (tg.sigmoid(outputs) + tg.sigmoid(-outputs))),
    "circle": lambda outputs: tg.sum(tg.sin(outputs) ** 2 + tg.cos(outputs) ** 2),
    "softmax": lambda outputs: tg.sum(tg.softmax(outputs) ** 1),
    "centred": lambda outputs: tg.sum(centred(outputs)),
    "centred in time": lambda outputs: tg.sum(outputs - tg.mean(outputs, axis=0)),
    "normed": lambda outputs: tg.sum(centred(outputs) / tg.sqrt(tg.var(outputs, axis=-1, keepdims=True) + 1e-3)),
    "log of one": lambda outputs: tg.sum(tg.logsumexp(tg.log_softmax(outputs), axis=-1)),
    "ratio": lambda outputs: tg.mean(tg.square(outputs) / (tg.square(outputs) + 1e-12)),
}


@pytest.mark.parametrize("dtype", ["f4", pytest.param("f8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ZERO)
def test_a_gradient_that_is_zero_but_for_rounding_hides_no_length(name, dtype):
    """What cancels is measured by its own rounding: the program is given out, for all lengths, and is as near to 0."""
    for steps, size in itertools.product((1, 5, 13), (5, 16)):
        cell, rng = tg.RNNCell(3, size, dtype=dtype, rng=1), np.random.default_rng(steps)
        state = cell.initial_state(4)
        program = tg.derive_bptt(cell, ZERO[name], (rng.normal(size=(steps, 4, 3)).astype(dtype), state))
        for T in (1, steps, 20):
            x = rng.normal(size=(T, 4, 3)).astype(dtype)
            found, want = program(x, state, cell.parameters())[1], by_engine(cell, ZERO[name], x, state.numpy())[1]
            for key in cell.parameters():
                np.testing.assert_allclose(found[key], want[key], rtol=0, atol=1e6 * np.finfo(dtype).eps, err_msg=key)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_sum_of_which_most_cancels_is_no_wrong_one(dtype):
    """The gradient through a softmax is what is left of larger parts."""

    class Cell(tg.RNNCell):
        def __call__(self, x, h):
            return tg.softmax(x @ self.weight_ih.T + 3 * h @ self.weight_hh + self.bias_hh) - 0.3 * h

    for seed in range(20):
        cell = Cell(4, 96, rng=seed, dtype=dtype)
        x = np.random.default_rng(seed).normal(size=(4, 2, 4)).astype(dtype)
        tg.derive_bptt(cell, lambda outputs: tg.sum(1.7 * outputs[-1]), (x, cell.initial_state(2)))


@pytest.mark.parametrize("dtype", ["f4", pytest.param("f8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ZERO)
def test_a_wrong_factor_of_what_cancels_is_refused(name, dtype, monkeypatch):
    """Each equation of the loss in turn is made 1 % too large: refused, wherever it is not nothing that it changes."""
    cell, rng, refused = tg.RNNCell(3, 5, dtype=dtype, rng=1), np.random.default_rng(0), 0
    x, state = rng.normal(size=(5, 4, 3)).astype(dtype), cell.initial_state(4)
    want, count = by_engine(cell, ZERO[name], x, state.numpy())[1], 1

    def fault(step):
        nonlocal count
        nodes = [n for n in topological([step.loss, step.back_outputs]) if n.args and n.dtype.kind == "f"]
        wrong, count = nodes[k], len(nodes)
        factor = Node("number", value=1.01)

        def rule(node, old, new):
            return computed("multiply", (node, factor), {}) if old is wrong else node

        rebuild(step, rule)

    monkeypatch.setitem(STEP_REWRITES, "share", fault)
    k = 0
    while k < count:
        try:
            found = tg.derive_bptt(cell, ZERO[name], (x, state))(x, state, cell.parameters())[1]
            for key in cell.parameters():
                np.testing.assert_allclose(found[key], want[key], rtol=0, atol=1e6 * np.finfo(dtype).eps, err_msg=key)
        except tg.GradientError:
            refused += 1
        k += 1
    assert refused


@pytest.mark.parametrize("extras", [0, 1])
def test_a_rewrite_that_reads_a_length_off_the_example_leaves_that_length_only(extras, monkeypatch):
    def fixed(step):
        for node in topological([*step.traced, *step.roots()]):
            node.static = {key: at_steps(value, 8) for key, value in node.static.items()}
            node.value = at_steps(node.value, 8) if node.op == "number" else node.value

    monkeypatch.setitem(STEP_REWRITES, "regroup", fixed)
    loss = (lambda outputs, a: tg.mean(outputs * a)) if extras else (lambda outputs: tg.mean(outputs**2))
    assert answers(loss, 8, (1, 8, 9, 17, 20), shape=(lambda T: (T, 2, 4)) if extras else None) == {8}


def test_no_steps_are_no_example():
    with pytest.raises(ValueError, match="step"):
        tg.derive_bptt(tg.RNNCell(3, 4, rng=0), FREE["sum"], (np.ones((0, 2, 3)), np.zeros((2, 4))))


def test_functions_that_numpy_does_not_have_are_computed_for_all_steps_too():
    class Soft(tg.RNNCell):
        def __call__(self, x, h):
            return super().__call__(x, h * 0.5) + tg.softplus(x[:, :1]) * tg.leaky_relu(x[:, 1:2])

    assert answers(FREE["sum"], 8, (1, 20), cell=Soft(3, 4, rng=0)) == {1, 20}


def test_a_loss_of_one_element_need_not_be_without_axes():
    assert answers(lambda outputs: tg.sum(outputs**2, axis=(0, 1, 2), keepdims=True), 8, (1, 20)) == {1, 20}


TARGETS = {
    "a row for all": (lambda outputs, v: tg.sum(outputs[-1] * v[0]), "C"),
    "columns in order": (lambda outputs, v: tg.sum(outputs[-1] * v), "F"),
    "transposed": (lambda outputs, v: tg.sum(outputs[-1].T * v.T), "C"),
    "a difference": (lambda outputs, v: tg.sum(tg.square(outputs[-1] - v)), "F"),
}


@pytest.mark.parametrize("passed", [False, True])
@pytest.mark.parametrize("name", TARGETS)
def test_a_cotangent_may_lie_in_any_order_in_memory(name, passed):
    """`np.dot` writes into nothing whose rows are not in order."""
    of, order = TARGETS[name]
    v = np.array(np.random.default_rng(0).normal(size=(5, 4)), order=order)
    cell, x = tg.LSTMCell(3, 4, rng=0), np.random.default_rng(1).normal(size=(6, 5, 3))
    loss = (lambda outputs, target: of(outputs, target)) if passed else (lambda outputs: of(outputs, v))
    extras = (v,) if passed else ()
    program = tg.derive_bptt(cell, loss, (x, cell.initial_state(5), *extras))
    value, gradients = program(x, cell.initial_state(5), cell.parameters(), *extras)
    want = of(tg.unroll(cell, x)[0], v)
    np.testing.assert_allclose(value, want.item(), rtol=1e-12)
    of_weights = tg.grad(want, list(cell.parameters().values()))
    for key, gradient in zip(cell.parameters(), of_weights, strict=True):
        np.testing.assert_allclose(gradients[key], gradient.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("place", [-1, -2, -3])
def test_a_loss_of_one_output_counted_from_the_end_is_right_at_every_length(place):
    lengths = {-place, 4, 7}
    assert answers(lambda outputs: tg.sum(outputs[place] ** 2), 5, lengths) == lengths


def test_what_is_close_is_finite_in_the_same_places_and_equal_there():
    numbers = [1.0, 1.5, np.nan, np.inf]
    for got, want in itertools.product(numbers, repeat=2):
        alike = got == want or not (np.isfinite(got) or np.isfinite(want))
        assert close(np.array([1.0, got]), np.array([1.0, want]), 1e-6) == alike, (got, want)
    assert not close(np.ones(2), np.ones((1, 2)), 1.0)
    assert close(np.array([1.0, 1e3]), np.array([1.0005, 1e3]), 1e-6)  # on the scale of the largest
    assert close(np.array([1.0]), np.array([1.2]), 0.0, 0.3) and not close(np.array([1.0]), np.array([1.2]), 0.0, 0.1)
