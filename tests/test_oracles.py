"""The checker is checked: every planted fault is caught, every right rule passes, and doubt is never a pass."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.testing import GradcheckError, InconclusiveError, gradcheck
from tinygrad_rnn.testing.oracles import STEPS, Line, unit
from tinygrad_rnn.testing.strategies import programs

RNG = np.random.default_rng(7)
X = RNG.uniform(0.5, 1.5, (3, 3)) * RNG.choice([-1, 1], (3, 3))
W = RNG.uniform(0.5, 1.5, (3, 3))
ROW = RNG.uniform(0.5, 1.5, 3)
LARGE = RNG.uniform(0.5, 1.5, (40, 50)) * RNG.choice([-1, 1], (40, 50))


def right_tanh(g, y, x):
    return g * (1 - y * y)


def one_element(factor):
    """Wrong in the last element only."""

    def rule(g, y, x):
        where = np.ones(x.shape)
        where[(-1,) * x.ndim] = factor
        return right_tanh(g, y, x) * where

    return rule


def add_at(g, shape, index):
    out = np.zeros(shape)
    np.add.at(out, index, g)
    return out


def changing(array, value):
    array[...] = value


TANH_FAULTS = {
    "sign": lambda g, y, x: -right_tanh(g, y, x),
    "zero": lambda g, y, x: 0 * right_tanh(g, y, x),
    "scale 1e-3": lambda g, y, x: (1 + 1e-3) * right_tanh(g, y, x),
    "scale 1e-5": lambda g, y, x: (1 + 1e-5) * right_tanh(g, y, x),
    "one element doubled": one_element(2.0),
    "one element by 1 %": one_element(1.01),
    "transposed": lambda g, y, x: right_tanh(g, y, x).T.reshape(x.shape),
    "rolled": lambda g, y, x: np.roll(right_tanh(g, y, x), 1),
    "cotangent ignored": lambda g, y, x: 1 - y * y + 0 * g,
    "cotangent summed": lambda g, y, x: g.mean() * (1 - y * y),
    "missing factor": lambda g, y, x: g + 0 * y,
    "offset": lambda g, y, x: right_tanh(g, y, x) + 1e-6,
    "NaN": lambda g, y, x: right_tanh(g, y, x) / (0 * g),
    "wrong derivative": lambda g, y, x: g * (1 - y),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["element", "direction", "auto"])
@pytest.mark.parametrize("fault", TANH_FAULTS)
@pytest.mark.parametrize("x", [X, LARGE], ids=["small", "large"])
def test_wrong_elementwise_rules_are_caught(plant, fault, mode, x):
    if x is LARGE and mode == "element":
        x = LARGE[:20, :21]
    op = plant(np.tanh, TANH_FAULTS[fault])
    with np.errstate(all="ignore"), pytest.raises(GradcheckError) as caught:
        gradcheck(op, x, mode=mode)
    assert not isinstance(caught.value, InconclusiveError)
    assert caught.value.order == 1 and (caught.value.input == 0 or "in place" in str(caught.value))


def matmul_with(left=lambda g, y, a, b: g @ b.T, right=lambda g, y, a, b: a.T @ g):
    return np.matmul, left, right


MATRIX_FAULTS = {
    "not transposed": matmul_with(left=lambda g, y, a, b: g @ b),
    "operands swapped": matmul_with(lambda g, y, a, b: a.T @ g, lambda g, y, a, b: g @ b.T),
    "result transposed": matmul_with(right=lambda g, y, a, b: g.T @ a),
    "one operand forgotten": matmul_with(right=lambda g, y, a, b: 0 * b),
    "mean over the batch": matmul_with(right=lambda g, y, a, b: a.T @ g / len(a)),
}


@pytest.mark.parametrize(
    "fault", [*MATRIX_FAULTS][:1] + [pytest.param(f, marks=pytest.mark.slow) for f in [*MATRIX_FAULTS][1:]]
)
def test_wrong_matrix_rules_are_caught_on_square_operands(plant, fault):
    with pytest.raises(GradcheckError, match="is wrong"):
        gradcheck(plant(*MATRIX_FAULTS[fault]), X, W)


@pytest.mark.parametrize("fault", ["first row", "mean", "last column"])
def test_wrong_sums_over_broadcast_axes_are_caught(plant, fault):
    wrong = {
        "first row": lambda g, y, a, b: g[0],
        "mean": lambda g, y, a, b: g.mean(0),
        "last column": lambda g, y, a, b: g.sum(1),
    }[fault]
    with pytest.raises(GradcheckError, match="input 1"):
        gradcheck(plant(np.add, lambda g, y, a, b: g, wrong), X, ROW)


def test_a_missing_sum_over_broadcast_axes_is_caught(monkeypatch):
    from tinygrad_rnn import gathering

    monkeypatch.setattr(gathering, "unbroadcast", lambda g, shape: g)
    with pytest.raises((GradcheckError, ValueError)):  # the engine itself may refuse the shape
        gradcheck(lambda a, b: a + b, X, ROW)
    monkeypatch.setattr(gathering, "unbroadcast", lambda g, shape: g[tuple([0] * (g.ndim - len(shape)))])
    with pytest.raises(GradcheckError, match="input 1"):
        gradcheck(lambda a, b: a + b, X, ROW)


def test_a_repeated_index_that_overwrites_is_caught(plant):
    def overwrite(g, y, x, *, index):
        out = np.zeros(x.shape)
        out[index] = g
        return out

    pick = plant(lambda x, *, index: x[index], overwrite)
    gradcheck(lambda x: pick(x, index=[2, 0]), X)
    with pytest.raises(GradcheckError, match="in 3 of 9"):
        gradcheck(lambda x: pick(x, index=[0, 0]), X)
    right = plant(lambda x, *, index: x[index], lambda g, y, x, *, index: add_at(g, x.shape, index))
    gradcheck(lambda x: right(x, index=[0, 0]), X)


def test_lost_fan_out_is_caught(monkeypatch):
    """A sweep that overwrites where it should accumulate."""
    from tinygrad_rnn import autodiff

    class Forgetful(dict):
        def get(self, key, default=None):
            return default

    real = autodiff.pullback

    def overwriting(seeds, wanted=None, through=None, create_graph=False, retain_graph=True):
        last = {}

        def keep_only_the_last(node, operand, contribution):
            source = node._operands[operand]
            change = contribution - last.get(source, 0)
            last[source] = contribution
            return change

        return real(seeds, wanted, keep_only_the_last, create_graph, retain_graph)

    gradcheck(lambda x: tg.tanh(x) * x + x, X)
    monkeypatch.setattr(autodiff, "pullback", overwriting)
    gradcheck(tg.tanh, X)
    for shared in (lambda x: x * x, lambda x: x * x + x, lambda x: tg.tanh(x) * x):
        with pytest.raises(GradcheckError, match="is wrong"):
            gradcheck(shared, X)


@pytest.mark.parametrize("mode", ["element", "direction"])
def test_changes_in_place_are_caught(plant, mode):
    def scales_cotangent(g, y, x):
        g *= 1 - y * y
        return g

    def changes_operand(g, y, x):
        changing(x, 0.5)
        return right_tanh(g, y, x)

    def changes_result(g, y, x):
        right = right_tanh(g, y, x)
        changing(y, 0.5)
        return right

    def changes_input(x):
        y = np.tanh(x)
        changing(x, 0.5)
        return y

    for forward, rule in [
        (np.tanh, scales_cotangent),
        (np.tanh, changes_operand),
        (np.tanh, changes_result),
        (changes_input, right_tanh),
    ]:
        with pytest.raises(GradcheckError):
            gradcheck(plant(forward, rule), X, mode=mode)


def test_a_wrong_second_derivative_is_caught(plant):
    """First order is right, but the rule forgets that the result depends on the operand."""
    op = plant(np.tanh, lambda g, y, x: g * (1 - y.numpy() ** 2) if isinstance(y, tg.Tensor) else g * (1 - y * y))
    gradcheck(op, X)
    with pytest.raises(GradcheckError, match=r"^order 2: ") as caught:
        gradcheck(op, X, order=2)
    assert caught.value.order == 2
    gradcheck(plant(np.tanh, right_tanh), X, order=3)


def test_a_wrong_forward_is_the_same_function_for_its_checker(plant):
    """Differences see only the forward function: that values are right is for other tests."""
    gradcheck(plant(lambda x: np.tanh(x) + 1, lambda g, y, x: right_tanh(g, np.tanh(x), x)), X)


@given(programs(), st.integers(0, 10))
def test_right_programs_pass_in_every_mode(program, rng):
    for mode in ("element", "direction"):
        result = gradcheck(program, *program.leaves, mode=mode, rng=rng)
        assert result.mode == mode and result.compared > 0 and result.worst < 1e-6


def test_an_error_names_the_place():
    def f(a, b):
        return a * b + (b.detach() - b) * np.array([0.0, 1.0, 0.0])

    with pytest.raises(GradcheckError) as caught:
        gradcheck(f, ROW, ROW + 1)
    error = caught.value
    assert error.input == 1 and error.element == (1,)
    assert abs(error.analytic - error.numeric) > 0.1
    assert error.relative_error == abs(error.analytic - error.numeric) / max(abs(error.analytic), abs(error.numeric))
    text = "gradient of input 1 (shape (3,)) is wrong in 1 of 3 checked elements; worst element (1,): analytic "
    assert text in str(error)


def test_a_direction_that_fails_is_traced_to_its_element(plant):
    """Or, since only 200 of the 420 elements are looked at, sometimes to none, but never to another one."""
    op = plant(np.tanh, one_element(3.0))
    found = set()
    for rng in range(2):
        with pytest.raises(GradcheckError, match="is wrong") as caught:
            gradcheck(op, LARGE[:20, :21], mode="direction", rng=rng)
        found.add(caught.value.element)
    assert found == {(19, 20)}


def test_an_output_that_is_wrong_is_found_wherever_it_stands(plant):
    wrong = plant(np.tanh, lambda g, y, x: 1.01 * right_tanh(g, y, x))
    for made in (lambda x: (x, wrong(x)), lambda x: {"a": x, "b": [x, {"c": wrong(x)}]}):
        with pytest.raises(GradcheckError, match="is wrong"):
            gradcheck(made, X)
    with pytest.raises(TypeError, match="or a tuple, list or dict of Tensors, not str"):
        gradcheck(lambda x: {"a": x, "b": "no"}, X)


def test_where_slopes_jump_beside_the_lines_a_number_between_them_is_not_wrong(plant):
    """Of three equal numbers the median is constant along each alone; its derivative is 0 or 1 where none are equal."""

    def shares(share):
        return plant(lambda x: np.median(x), lambda g, y, x: g * (x == y) * share)

    def cause_of(op):
        with pytest.raises(GradcheckError, match="in the sum of all elements") as caught:
            gradcheck(op, np.full(3, 2.0))
        return caught.value.cause

    for share in (1 / 3, np.array([0, 0, 1]), np.array([0.5, 0.5, 0])):
        with pytest.raises(InconclusiveError) as caught:
            gradcheck(shares(share), np.full(3, 2.0), rng=5)
        assert caught.value.cause == "kink"
    for share in (1.0, 0.4, 0.0, np.array([1.5, 0, 0])):
        with pytest.raises(GradcheckError) as caught:
            gradcheck(shares(share), np.full(3, 2.0))
        assert not isinstance(caught.value, InconclusiveError)
    assert cause_of(shares(0.0)) == "detached"
    assert cause_of(plant(np.median, lambda g, y, x: g * (x == y) * ((x == y).sum() == 1))) == "tie"


def test_lost_gradients_are_caught():
    with pytest.raises(GradcheckError, match="analytic 0"):
        gradcheck(lambda x: tg.Tensor(x.numpy() * 2), X)
    with pytest.raises(GradcheckError, match="analytic 0"):
        gradcheck(lambda x: x.detach() * 2, X, order=1)


def test_random_functions_are_refused():
    noise = np.random.default_rng(0)
    with pytest.raises(GradcheckError, match="two calls"):
        gradcheck(lambda x: x * noise.normal(), X)


# In doubt


KINKS = {
    "abs": tg.abs,
    "relu": tg.relu,
    "leaky_relu": tg.leaky_relu,
    "clip": lambda x: tg.clip(x, 0, 1),
    "maximum": lambda x: tg.maximum(x, 0.0),
    "max": lambda x: tg.max(tg.stack([x, x * x])),
}


@pytest.mark.parametrize("f", KINKS.values(), ids=KINKS)
@pytest.mark.parametrize("mode", ["element", "direction"])
def test_a_kink_is_inconclusive(f, mode):
    for at in (0.0, *([1e-6, -1e-6] if mode == "direction" else [])):
        with pytest.raises(InconclusiveError, match="inconclusive"):
            gradcheck(f, at, mode=mode)
    for near in (1 + 1e-6, 1 - 1e-6):  # a kink elsewhere than at 0
        with pytest.raises(InconclusiveError, match="inconclusive"):
            gradcheck(lambda x: f(x - 1.0), near, mode=mode)


@pytest.mark.parametrize("x", [0.1, -0.1, 1e-3, -1e-3, 1e-4, 1e-6, -1e-9, 1e-300])
def test_beside_a_kink_the_check_is_conclusive(x):
    assert gradcheck(tg.abs, x).precision < 2e-6
    assert gradcheck(tg.relu, x).compared == 1


@pytest.mark.parametrize("slope", [-1.5, 5.0, np.nan])
def test_at_a_kink_a_gradient_outside_the_two_slopes_is_wrong(plant, slope):
    op = plant(np.abs, lambda g, y, x: g * np.where(x == 0, slope, np.sign(x)))
    with pytest.raises(GradcheckError, match=r"kink|where the differences give slopes -[\d.]+ and [\d.]+") as caught:
        gradcheck(op, [0.0, 0.5])
    assert caught.value.cause in ("kink", "not finite") and not isinstance(caught.value, InconclusiveError)
    if slope == slope:  # the nearer of the two is what it is compared with
        assert caught.value.analytic / caught.value.numeric == pytest.approx(abs(slope))


@pytest.mark.parametrize("f, steps", [(lambda t: 3 * t, 2), (np.sin, 3), (np.square, 3), (np.abs, 3)])
def test_two_steps_are_enough_along_a_straight_line_only(f, steps):
    called = []

    def values(arrays):
        called.append(arrays[0])
        return f(arrays[0])

    line = Line(values, [np.zeros(1)], 0, np.ones(1), np.ones(1), here=f(np.zeros(1)))
    estimate = line.slope(1e-2)
    assert len(called) == 2 * steps and (estimate.sides is not None) == (f is np.abs)
    assert abs(estimate.value - {2: 3.0}.get(steps, float(f is np.sin))) < 1e-13


def test_the_edge_of_a_domain_is_inconclusive(plant):
    assert gradcheck(tg.log, 1e-6).precision < 1e-5 and gradcheck(tg.sqrt, 1e-7).precision < 1e-5
    with pytest.raises(InconclusiveError, match="the edge of its domain"):
        gradcheck(tg.sqrt, 0.0)
    step = plant(lambda x: np.floor(x), lambda g, y, x: 0 * g)
    with pytest.raises(InconclusiveError):
        gradcheck(step, 1.0)
    gradcheck(step, 1.5)


def test_one_element_in_doubt_is_enough():
    with pytest.raises(InconclusiveError) as caught:
        gradcheck(tg.abs, [1.0, 0.0, -1.0])
    assert caught.value.element == (1,) and caught.value.input == 0


def test_what_is_wrong_beside_a_kink_is_wrong(plant):
    with pytest.raises(GradcheckError, match=r"worst element \(0,\)") as caught:
        gradcheck(plant(np.abs, lambda g, y, x: 2 * g * np.sign(x)), [1.0, 0.0])
    assert not isinstance(caught.value, InconclusiveError)


# What it takes


def test_inputs_of_every_kind():
    assert gradcheck(lambda x, i, k, c: x[i] * k + c, X, np.array([0, 0, 2]), 3, tg.Tensor(2.0)).compared == 10
    assert gradcheck(lambda x: (x * x, [tg.tanh(x)][0]), 0.5).compared == 1
    assert gradcheck(lambda x: {"h": tg.sin(x), "more": (x * x, [tg.tanh(x)])}, X).compared == 9
    assert gradcheck(lambda x: tg.sum(x), np.zeros((0, 3))).compared == 0
    assert gradcheck(lambda x, y: x, 1.0, 2.0).compared == 2  # y has no influence, and its gradient is zero
    assert gradcheck(tg.tanh, np.float32([[0.5, 2.0]]), order=2).compared == 6
    assert gradcheck(lambda x: tg.tanh(x)[::2].T, X.T[::-1], order=2).worst < 1e-8


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(ValueError, match="nothing to check"):
        gradcheck(tg.tanh, 1)
    with pytest.raises(ValueError, match="mode"):
        gradcheck(tg.tanh, 1.0, mode="fast")
    with pytest.raises(TypeError, match="must return a Tensor"):
        gradcheck(lambda x: x.numpy(), X)


def test_the_same_number_gives_the_same_check():
    assert gradcheck(tg.tanh, X, rng=3) == gradcheck(tg.tanh, X, rng=3)
    assert gradcheck(tg.tanh, X, rng=3) != gradcheck(tg.tanh, X, rng=4)


# The oracles themselves, on bare NumPy

FUNCTIONS = {
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "exp": (np.exp, np.exp),
    "log": (lambda x: np.log(x + 2.5), lambda x: 1 / (x + 2.5)),
    "power": (lambda x: x**5, lambda x: 5 * x**4),
    "steep": (lambda x: np.tanh(40 * x), lambda x: 40 / np.cosh(40 * x) ** 2),
    "on a height": (lambda x: 1e4 + np.sin(x), np.cos),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_oracles_find_derivatives_known_in_closed_form(name):
    f, derivative = FUNCTIONS[name]
    x, seed = RNG.uniform(-2, 2, (2, 3)), RNG.normal(size=6)
    expected = seed.reshape(2, 3) * derivative(x)
    elements = list(np.ndindex(2, 3))
    values = lambda arrays: f(arrays[0]).reshape(-1)  # noqa: E731
    found = [Line(values, [x], 0, unit(x, e), seed).derivative(STEPS, 1e-8) for e in elements]
    assert all(e.sides is None and e.error <= 1e-6 for e in found)
    for estimate, right in zip(found, expected.reshape(-1), strict=True):
        assert abs(estimate.value - right) <= max(4 * estimate.error, 1e-8)
    direction = RNG.choice([-1.0, 1.0], (2, 3))
    along = Line(values, [x], 0, direction, seed).derivative(STEPS[1:], 1e-8)
    assert along.sides is None and abs(along.value - np.sum(expected * direction)) < 1e-7


def test_checks_do_not_need_hypothesis():
    code = "import sys, tinygrad_rnn.testing; sys.exit('hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=600).returncode == 0
