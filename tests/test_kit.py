"""The public kit, used as newcomers use it: what it says about wrong rules and cells, and that right ones pass."""

import sys
from pathlib import Path

import numpy as np
import pytest
from kit_mistakes import MISTAKES
from kit_sentences import SAID

import tinygrad_rnn as tg
from tinygrad_rnn.primitive import Gathered
from tinygrad_rnn.testing import (
    CheckError,
    GradcheckError,
    InconclusiveError,
    check_primitive,
    gradcheck,
)

RNG = np.random.default_rng(11)
X, A, B = (RNG.uniform(0.5, 1.5, (3, 3)) * RNG.choice([-1, 1], (3, 3)) for _ in range(3))
M, ROW, BIAS = RNG.uniform(0.5, 1.5, (4, 3)), RNG.uniform(0.5, 1.5, 3), RNG.uniform(0.5, 1.5, 4)
CUBE = np.arange(8.0).reshape(2, 2, 2) / 4
LARGE = RNG.uniform(0.5, 1.5, (100, 100)) * RNG.choice([-1, 1], (100, 100))


def slope(g, y, x):
    return g * (1 - y * y)


def scaled(rule, factor):
    return lambda g, y, x: factor * rule(g, y, x)


def changing(array, result):
    array *= 0.5
    return result


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def overwrite(g, y, x, *, index):
    out = np.zeros(x.shape)
    out[index] = g
    return out


def one_off(g, y, x):
    right = slope(g, y, x)
    right[1, 2] *= 1.01
    return right


def largest_gets_all(g, y, x):
    """At the last of equal elements only."""
    out = np.zeros(x.shape)
    for row, values in enumerate(x):
        out[row, np.flatnonzero(values == values.max())[-1]] = g[row]
    return out


def spread(g, x):
    return np.broadcast_to(g[..., None], x.shape)


def normalised(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def centred(x):
    return x - x.mean(-1, keepdims=True)


def turn(x):
    return np.swapaxes(x, -1, -2)


KEPT = {}
STACK = RNG.normal(size=(3, 3, 3))


def kept(x):
    KEPT["y"] = np.tanh(x)
    return KEPT["y"]


def norm(x):
    return np.sqrt((x * x).sum(-1, keepdims=True))


def row_softmax(g, x, axis=-1):
    return np.expand_dims(g, axis) * softmax(x)


def logsumexp(x):
    return np.log(np.exp(x).sum(-1))


def pair(left=lambda g, y, a, b: g @ b.T, right=lambda g, y, a, b: a.T @ g):
    return np.matmul, left, right


def layer(bias):
    return lambda x, W, b: x @ W.T + b, lambda g, y, x, W, b: g @ W, lambda g, y, x, W, b: g.T @ x, bias


# (cause, name, (forward, *rules), inputs[, static])
PLANTED = [
    ("sign", "tanh", (np.tanh, lambda g, y, x: -slope(g, y, x)), [X]),
    ("sign", "subtract", (np.subtract, lambda g, y, a, b: g, lambda g, y, a, b: g), [X, A]),
    ("sign", "x abs x", (lambda x: x * np.abs(x), lambda g, y, x: 2 * g * x), [X]),
    ("sign", "of some", (np.sin, lambda g, y, x: g * np.where(x * A > 0, np.cos(x), -np.cos(x))), [X]),
    ("missing factor", "logsumexp by exp x", (logsumexp, lambda g, y, x: g[..., None] * np.exp(x)), [ROW]),
    ("factor", "square without its 2", (np.square, lambda g, y, x: g * x), [X]),
    ("factor", "1 + 1e-5", (np.tanh, lambda g, y, x: (1 + 1e-5) * slope(g, y, x)), [X]),
    ("factor", "1 + 1e-9", (np.tanh, lambda g, y, x: (1 + 1e-9) * slope(g, y, x)), [X]),
    ("factor", "1 % beside a million", (lambda x: 1e6 + np.sin(x), lambda g, y, x: 1.01 * g * np.cos(x)), [X]),
    ("factor", "a half in float32", (lambda x: np.sin(x.astype("f4")).astype(float), lambda g, y, x: g * np.cos(x) / 2),
     [X]),
    ("sign", "beside a million", (lambda x: 1e6 + np.sin(x), lambda g, y, x: -g * np.cos(x)), [X]),
    ("factor", "mean as sum", (lambda x: x.mean(-1), lambda g, y, x: spread(g, x)), [M]),
    ("factor", "bias by mean", layer(lambda g, y, x, W, b: g.mean(0)), [X, M, BIAS]),
    ("transposed", "tanh", (np.tanh, lambda g, y, x: slope(g, y, x).T), [X]),
    ("transposed", "matmul right", pair(right=lambda g, y, a, b: g.T @ a), [X, A]),
    ("transposed", "matmul without transpose", (lambda x: x @ A, lambda g, y, x: g @ A), [ROW]),
    ("transposed", "three axes", (np.sin, lambda g, y, x: (g * np.cos(x)).transpose(2, 0, 1)), [CUBE]),
    ("swapped", "multiply", (np.multiply, lambda g, y, a, b: g * a, lambda g, y, a, b: g * b), [X, A]),
    ("swapped", "matmul", pair(lambda g, y, a, b: a.T @ g, lambda g, y, a, b: g @ b.T), [X, A]),
    ("broadcast", "first row", (np.add, lambda g, y, a, b: g, lambda g, y, a, b: g[0]), [M, ROW]),
    ("broadcast", "last column", (np.add, lambda g, y, a, b: g, lambda g, y, a, b: g.sum(1)), [X, ROW]),
    ("broadcast", "product", (np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: (g * a).sum(1)), [X, ROW]),
    ("broadcast", "bias of a layer", layer(lambda g, y, x, W, b: g[-1]), [X, M, BIAS]),
    ("broadcast", "keepdims forgotten", (logsumexp, lambda g, y, x: row_softmax(g, x, 0)), [X]),
    ("repeated index", "getitem", (lambda x, *, index: x[index], overwrite), [X], {"index": [0, 0, 2]}),
    ("few elements", "1 % of one", (np.tanh, one_off), [X]),
    ("few elements", "first row", (np.exp, lambda g, y, x: g * y * np.array([[1.0], [1.0], [0.5]])), [X]),
    ("detached", "zeros", (np.tanh, lambda g, y, x: 0 * g), [X]),
    ("detached", "one operand", (np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: 0 * g), [X, A]),
    ("missing factor", "cotangent passed on", (np.tanh, lambda g, y, x: g + 0 * y), [X]),
    ("missing factor", "power rule", (lambda x: x**3, lambda g, y, x: 3 * g * x), [X]),
    ("missing factor", "sigmoid", (lambda x: 1 / (1 + np.exp(-x)), lambda g, y, x: g * y), [X]),
    ("missing term", "product rule", (lambda x: x * np.exp(x), lambda g, y, x: g * y), [X]),
    ("missing term", "x tanh x", (lambda x: x * np.tanh(x), lambda g, y, x: g * x * (1 - np.tanh(x) ** 2)), [X]),
    ("missing term", "swish", (lambda x: x / (1 + np.exp(-x)), lambda g, y, x: g / (1 + np.exp(-x))), [X]),
    ("missing term", "centred", (lambda x: x - x.mean(-1, keepdims=True), lambda g, y, x: g * (1 + 0 * x)), [X]),
    ("missing term", "unit rows", (lambda x: x / norm(x), lambda g, y, x: g / norm(x)), [M]),
    ("missing term", "layer norm", (normalised, lambda g, y, x: g / np.sqrt(x.var(-1, keepdims=True) + 1e-5)), [M]),
    ("missing factor", "sort", (lambda x: np.sort(x), lambda g, y, x: g + 0 * x), [ROW[::-1]]),
    ("cotangent ignored", "ones", (np.tanh, lambda g, y, x: 1 - y * y + 0 * g), [X]),
    ("cotangent ignored", "its mean", (np.tanh, lambda g, y, x: g.mean() * (1 - y * y)), [X]),
    ("off-diagonal", "softmax", (softmax, lambda g, y, x: g * y * (1 - y)), [ROW]),
    ("permuted", "cumsum", (lambda x: np.cumsum(x), lambda g, y, x: np.cumsum(g[::-1])), [ROW]),
    ("permuted", "rolled", (np.tanh, lambda g, y, x: np.roll(slope(g, y, x), 1)), [X]),
    ("offset", "1e-6", (np.tanh, lambda g, y, x: slope(g, y, x) + 1e-6 * (g != 0)), [X]),
    ("not float64", "rule", (np.tanh, lambda g, y, x: slope(g, y, x).astype(np.float32).astype(float)), [X]),
    ("not float64", "forward", (lambda x: np.tanh(x.astype(np.float32)).astype(float), slope), [X]),
    ("not float64", "a factor", (np.sin, lambda g, y, x: g * np.cos(x.astype(np.float32))), [X]),
    ("not float64", "epsilon", (np.log, lambda g, y, x: g / (x + 1e-8)), [M]),
    ("mutation", "cotangent", (np.tanh, lambda g, y, x: changing(g, slope(g, y, x))), [X]),
    ("mutation", "operand", (np.tanh, lambda g, y, x: changing(x, slope(g, y, x))), [X]),
    ("mutation", "result", (np.tanh, lambda g, y, x: changing(y, slope(g, y, x))), [X]),
    ("kink", "abs at 0", (np.abs, lambda g, y, x: g * np.sign(x)), [np.array([1.0, 0.0])]),
    ("kink", "max at a tie", (lambda x: x.max(-1), largest_gets_all), [np.array([[1.0, 1.0, 0.5]])]),
    ("not finite", "0 / 0", (lambda x: x * x, lambda g, y, x: g * 2 * y / x), [np.array([0.0, 1.0])]),
    ("shape", "wrong rank", (lambda x: x @ ROW, lambda g, y, x: g * ROW[:2]), [M[:2]]),
    ("factor", "ddof", (lambda x: x.var(-1, ddof=1), lambda g, y, x: 2 * spread(g, x) * centred(x) / 3), [M]),
    ("broadcast", "softmax along the other axis", (softmax, lambda g, y, x: y * (g - (g * y).sum(0))), [X]),
    ("broadcast", "log softmax along the other axis",
     (lambda x: np.log(softmax(x)), lambda g, y, x: g - np.exp(y) * g.sum(0)), [X]),
    ("transposed", "solve", (np.linalg.solve, lambda g, y, a, b: -np.linalg.solve(a.T, g) @ y.T,
                             lambda g, y, a, b: np.linalg.solve(a, g)), [X, A]),
    ("transposed", "solve, the matrix", (np.linalg.solve, lambda g, y, a, b: -np.linalg.solve(a, g) @ y.T,
                                         lambda g, y, a, b: np.linalg.solve(a.T, g)), [X, A]),
    ("transposed", "inverse", (np.linalg.inv, lambda g, y, x: -y @ g @ y), [X]),
    ("transposed", "matmul of stacks", pair(right=lambda g, y, a, b: a.T @ g, left=lambda g, y, a, b: g @ turn(b)),
     [STACK, STACK[::-1]]),
    ("factor", "matmul of stacks, a half", pair(lambda g, y, a, b: g @ turn(b), lambda g, y, a, b: turn(a) @ g / 2),
     [STACK, STACK[::-1]]),
    ("permuted", "convolution", (lambda x, w: np.convolve(x, w), lambda g, y, x, w: np.convolve(g, w, "valid"),
                                 lambda g, y, x, w: np.correlate(g, x, "valid")), [ROW, BIAS[:2]]),
    ("stale", "buffer", (lambda x: kept(x), lambda g, y, x: g * (1 - KEPT["y"] ** 2)), [X]),
    ("few elements", "a branch", (np.square, lambda g, y, x: g * np.where(x == 1, x, 2 * x)), [np.arange(4.0)]),
    ("tie", "both of two", (lambda x: np.prod(x, -1), lambda g, y, x: g * y / x * (1 + (x[0] == x[1]) * (x == x[0]))),
     [np.array([2.0, 2.0, 3.0])]),
    ("unknown", "tanh with 1 - y³", (np.tanh, lambda g, y, x: g * (1 - y**3)), [np.linspace(-1, 1, 5)]),
    ("unknown", "another function", (np.tanh, lambda g, y, x: g * np.cos(3 * x)), [X]),
    ("random", "noise", (lambda x: x + RNG.normal(), lambda g, y, x: g), [X]),
]  # fmt: skip


def reported(op, inputs, static=None, **options):
    with np.errstate(all="ignore"), pytest.raises(GradcheckError) as caught:
        gradcheck(lambda *xs: op(*xs, **(static or {})), *inputs, **options)
    return caught.value


ELSEWHERE = {"transposed", "broadcast", "missing factor", "missing term", "permuted", "swapped", "off-diagonal"}
"""Causes that `test_kit_causes` has along every axis."""


@pytest.mark.parametrize(
    "cause, name, definition, inputs, static",
    [pytest.param(*one[:4], *(one[4:] or [{}]), marks=[pytest.mark.slow] * (one[0] in ELSEWHERE)) for one in PLANTED],
    ids=[f"{cause}: {name}" for cause, name, *_ in PLANTED],
)  # fmt: skip
def test_a_planted_bug_is_named_rightly(plant, cause, name, definition, inputs, static):
    error = reported(plant(*definition), inputs, static)
    assert error.cause == cause and isinstance(error, InconclusiveError) == (cause == "kink" or name == "forward")
    documented = (Path(__file__).parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    assert f"`{cause}`" in documented


@pytest.mark.parametrize("name, true, forward, rules, inputs", MISTAKES, ids=[name for name, *_ in MISTAKES])
def test_what_is_said_of_a_mistake(plant, name, true, forward, rules, inputs):
    """A name is true or there is none, and the sentence is about this mistake."""
    error, (cause, said) = reported(plant(forward, *rules), inputs), SAID[name]
    assert error.cause == cause in {*true, "unknown"} and not isinstance(error, InconclusiveError)
    assert (error.message.partition("likely cause: ")[2] or error.message).partition(", in the deriv")[0] == said


def test_of_a_hundred_mistakes_none_is_misnamed_and_six_have_no_name():
    assert len(MISTAKES) == len(SAID) == 114 and [cause for cause, _ in SAID.values()].count("unknown") == 6


def test_a_rule_that_is_not_linear_in_the_cotangent(plant):
    error = reported(plant(np.sin, lambda g, y, x: g * np.sqrt(np.abs(g)) * np.cos(x)), [X])
    assert error.cause == "cotangent ignored"
    assert error.message.endswith("it is not linear in the cotangent g: is g clipped, or a power or abs of it?")


def test_a_summand_that_is_missing_twice_may_have_the_wrong_sign(plant):
    wrong = plant(lambda x: np.log(x / (1 - x)), lambda g, y, x: g * (1 / x - 1 / (1 - x)))
    error = reported(wrong, [np.array([0.2, 0.35, 0.6, 0.8])])
    said = "a summand + g × 2 × 1 / (1 - x) is missing, or g × 1 / (1 - x) has the wrong sign"
    assert error.cause == "missing term" and error.message.endswith(said)


def test_a_rule_that_gives_something_where_the_function_is_constant(plant):
    error = reported(plant(np.sign, lambda g, y, x: g * np.cos(x)), [X])
    assert error.cause == "unknown" and "f does not change here, but its rule gives something" in error.message


def test_the_report_of_a_factor_of_elements_says_so(plant):
    op = plant(lambda x: x.mean(-1), lambda g, y, x: spread(g, x))
    assert "= 3, a number of elements: a mean for a sum, or a sum for a mean?" in str(reported(op, [M]))
    assert "likely cause: off by a constant factor of 0.666667 = 2/3" in str(
        reported(plant(lambda x: x**3, lambda g, y, x: 2 * g * x * x), [X])
    )


# How little is seen: goals that single elements, or random directions alone, do not reach


@pytest.mark.slow
@pytest.mark.parametrize("x", [np.array(0.7), ROW, X, LARGE[:20, :21], LARGE], ids=lambda x: str(x.shape))
@pytest.mark.parametrize("f, rule", [(np.tanh, slope), (np.exp, lambda g, y, x: g * y)])
def test_a_global_factor_of_one_in_a_billion_is_caught(plant, x, f, rule):
    right = plant(f, rule)
    for seed in range(3 if x.size < 400 else 1):
        assert gradcheck(right, x, rng=seed).precision < 1e-9
        for factor in (1 + 1e-9, 1 - 1e-9):
            wrong = plant(f, scaled(rule, factor))
            error = reported(wrong, [x], rng=seed)
            assert error.cause == "factor" and "in the sum of all elements" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("seed, element", [(0, (0, 0)), (1, (37, 81)), (2, (99, 99))])
def test_one_element_of_ten_thousand_off_by_a_ten_thousandth_is_caught_and_found(plant, seed, element):
    def rule(g, y, x):
        right = slope(g, y, x)
        right[element] *= 1 + 1e-4
        return right

    error = reported(plant(np.tanh, rule), [LARGE], rng=seed)
    assert error.element == element and error.cause == "few elements"


def test_what_no_difference_can_see_shows_for_a_cotangent_of_zero(plant):
    error = reported(plant(np.tanh, lambda g, y, x: slope(g, y, x) + 1e-13), [X])
    assert error.cause == "cotangent ignored" and error.analytic == 1e-13 and "cotangent of zero" in str(error)


@pytest.mark.filterwarnings("error")
def test_where_a_gradient_is_not_finite_the_differences_say_whose_fault_it_is(plant):
    square = plant(lambda x: x * x, lambda g, y, x: 2 * g * y / x)
    with pytest.raises(
        GradcheckError, match=r"is nan at element .0,. = .*, where the differences give .*: 0 / 0"
    ) as caught:
        gradcheck(square, np.array([0.0, 1.0]))
    assert caught.value.cause == "not finite" and abs(caught.value.numeric) < 1e-9
    with pytest.raises(InconclusiveError, match="not finite here or nearby"):
        gradcheck(tg.sqrt, np.array([1.0, 0.0]))
    with pytest.raises(InconclusiveError, match="the input is nan there; pass finite numbers"):
        gradcheck(tg.exp, np.array([np.nan, 1.0]))
    with pytest.raises(InconclusiveError, match="not finite here or nearby"):
        gradcheck(tg.log, np.array([-1.0, 1.0]))
    # Finite for every cotangent but that of zero, which is a gradient too.
    zero = plant(np.sin, lambda g, y, x: g * np.cos(x) * (g / g))
    with pytest.raises(GradcheckError, match=r"is nan at element .0,. = .*, where the differences give 0: 0 / 0"):
        gradcheck(zero, ROW)


def test_what_is_no_tensor_and_no_float_is_named():
    with pytest.raises(TypeError, match="not ndarray: compose it of functions of Tensors, or declare a `primitive`"):
        gradcheck(lambda x: x.numpy(), X)
    with pytest.raises(ValueError, match=r"no input consists of floats \(1\.0 is one"):
        gradcheck(tg.exp, [1, 2])


def test_there_is_no_order_below_one():
    with pytest.raises(ValueError, match="order is 1, 2 or more, not 0"):
        gradcheck(tg.exp, X, order=0)


# check_primitive

STATIC = {
    **{name: {"axis": (0,), "keepdims": False} for name in ("sum", "mean", "max", "logsumexp")},
    "leaky_relu": {"slope": 0.1},
    "cumsum": {"axis": 0},
    "where": {"condition": np.array([True, False, True])},
    "getitem": {"index": (np.array([0, 0]),)},
    "concatenate": {"axis": 0},
    "einsum": {"subscripts": "ij,jk->ki"},
}
SHAPES = {"einsum": [((2, 3), (3, 2)), ((2, 2), (2, 2))]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh", "log", "abs", "power", "matmul", "linear", *STATIC])
def test_primitives_of_the_package_pass(name):
    report = check_primitive(name, static=STATIC.get(name), shapes=SHAPES.get(name))
    assert report.name == name and report.compared > 50 and len(report.passed) == 10
    assert str(report).startswith(f"{name}: ok, 10 checks on ")


def test_the_battery_is_the_same_every_time(plant):
    op = plant(np.tanh, slope)
    first, again, by_name = (check_primitive(one, shapes=[(3,), (2, 3)]) for one in (op, op, op.name))
    assert first == again == by_name


def thrice(x):
    x *= 3
    return x


def drops_uses():
    """Right for one use of the operand, and for several only the last counts."""
    return Gathered(lambda g, y, x: g * np.cos(x), lambda uses: uses[-1][0][0] * np.cos(uses[-1][0][2]))


def twice_if_stretched(a, b):
    return a + b if a.shape == b.shape else 2 * (a + b)


def stretched_rule(g, y, a, b):
    return g if a.shape == b.shape else 2 * g


def lost_if_stretched_twice(g, y, a, b):
    """Wrong only where b is repeated along two axes, one of them new."""
    return g * (1.0 + 1e-5 * (b.ndim < g.ndim and 1 in b.shape and y.shape[-1:] != b.shape[-1:]))


def lost_on_two_new_axes(g, y, a, b):
    return g * (1.0 + 1e-5 * (b.ndim == 1 and y.ndim == 3))


def constant_slope(g, y, x):
    return g * (1 - (y.numpy() if isinstance(y, tg.Tensor) else y) ** 2)


IN_MEMORY_ORDER = (
    np.sin,
    lambda g, y, x: g * np.cos(np.reshape(x.ravel("K"), x.shape) if isinstance(x, np.ndarray) else x),
)

# (the check that must fail, forward, *rules)
BLIND_SPOTS = [
    ("value", lambda x: thrice(x), lambda g, y, x: 3 * g),
    ("value", lambda x: x + RNG.normal(), lambda g, y, x: g),
    ("first order", np.tanh, lambda g, y, x: (1 + 1e-5) * slope(g, y, x)),
    ("first order", np.add, lambda g, y, a, b: g, lost_if_stretched_twice),
    ("first order", np.add, lambda g, y, a, b: g, lost_on_two_new_axes),
    ("order 2", np.tanh, constant_slope),
    ("linearity", np.sin, lambda g, y, x: g * g * np.cos(x)),
    ("adjoint", np.sin, lambda g, y, x: g * g * np.cos(x)),
    ("contributions", np.sin, drops_uses()),
    ("broadcasting", twice_if_stretched, stretched_rule, stretched_rule),
    ("memory", *IN_MEMORY_ORDER),
    ("memory", np.sin, lambda g, y, x: g.__imul__(np.cos(x)) if isinstance(g, np.ndarray) else g * np.cos(x)),
    ("float32", lambda x: x * np.array([2.0]) if x.ndim else 2 * x, lambda g, y, x: 2 * g),
]


@pytest.mark.parametrize("check, forward, rules", [(c, f, r) for c, f, *r in BLIND_SPOTS])
def test_each_check_sees_what_it_is_for(plant, check, forward, rules):
    op = plant(forward, *rules)
    with pytest.raises(CheckError) as caught:
        check_primitive(op, shapes=None if len(rules) > 1 else [(3,), (2, 3), (2, 2, 2)])
    assert check in caught.value.failed
    assert str(caught.value).startswith(f"{op.name}: {len(caught.value.failed)} of 10 checks failed\n  ")
    if check in ("contributions", "broadcasting", "float32", "order 2"):
        assert set(caught.value.failed) == {check}, "nothing else sees it: that is why the check is there"
    assert str(caught.value).count("order 2:") <= 1, "said once"


def test_a_check_is_left_out_on_request(plant):
    op = plant(np.tanh, constant_slope)
    report = check_primitive(op, skip=["order 2", "adjoint"])
    assert len(report.passed) == 8 and not {"order 2", "adjoint"} & set(report.passed)


def test_what_cannot_be_guessed_is_asked_for(plant):
    bell = plant(lambda x, *, s: np.exp(-x * x / s), lambda g, y, x, *, s: -2 * g * y * x / s)
    with pytest.raises(ValueError, match=r"static parameters: pass static=\{'s': ...\}"):
        check_primitive(bell)
    twice, once = check_primitive(bell, static=[{"s": 1.0}, {"s": 2.0}]), check_primitive(bell, static={"s": 1.0})
    assert len(twice.examples) == 2 * len(once.examples) and twice.compared > once.compared
    far = plant(lambda x: np.sqrt(x - 100), lambda g, y, x: g / (2 * y))
    with pytest.raises(ValueError, match="not finite anywhere that was tried: pass domain="):
        check_primitive(far)
    assert check_primitive(far, domain=(101, 103), shapes=[(2,), (2, 3)]).examples == ("shapes (2,)", "shapes (2, 3)")
    odd = plant(lambda x: x.reshape(7, 11), lambda g, y, x: np.reshape(g, x.shape))
    with pytest.raises(ValueError, match="accepts none of the shapes"):
        check_primitive(odd)
    assert check_primitive(odd, shapes=[(77,)])
    with pytest.raises(ValueError, match="does not accept shapes"):
        check_primitive(odd, shapes=[(77,), (2,)])
    with pytest.raises(ValueError, match="no check is named speed"):
        check_primitive(odd, shapes=[(77,)], skip=["speed"])


def test_domains_are_found_by_trying(plant):
    for forward, rule in [
        (np.arctanh, lambda g, y, x: g / (1 - x * x)),
        (np.arccosh, lambda g, y, x: g / np.sqrt(x * x - 1)),
        (np.log, lambda g, y, x: g / x),
    ]:
        assert check_primitive(plant(forward, rule)).compared > 100


def test_rules_that_cannot_be_differentiated_again_are_checked_to_first_order(plant):
    op = plant(np.arctan, lambda g, y, x: np.asarray(g) / np.hypot(1, x) ** 2)
    with pytest.raises(
        CheckError, match=r"order 2: not checked: the rule computes with arrays only.*pass order=1"
    ) as caught:
        check_primitive(op)
    assert set(caught.value.failed) == {"order 2", "adjoint"}
    report = check_primitive(op, order=1)
    assert "adjoint" not in report.passed and "first order" in report.passed


def test_a_long_battery_says_how_far_it_is_in_a_terminal_only(monkeypatch, capsys):
    """A terminal is a standard error that says so; the clock is advanced, not waited for."""
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(clock)))
    check_primitive("sin", shapes=[(3,)])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    check_primitive("sin", shapes=[(3,)])
    assert "sin:" in (shown := capsys.readouterr().err) and "/10" in shown and "check" in shown
