"""What gradcheck confirms is true and what it refutes is false, however small or large the numbers are."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.testing import CheckError, GradcheckError, InconclusiveError, check_cell, check_primitive, gradcheck

X = np.array([0.3, -1.2, 0.7, 2.0, -0.4])
FUNCTIONS = {
    "tanh": (np.tanh, lambda g, y, x: g * (1 - np.tanh(x) ** 2)),
    "square": (lambda x: x * x, lambda g, y, x: 2 * g * x),
    "exp": (np.exp, lambda g, y, x: g * np.exp(x)),
    "sin": (np.sin, lambda g, y, x: g * np.cos(x)),
}
DECADES = st.integers(-300, 12).map(lambda k: 10.0**k)


def verdict(f, *inputs, **options):
    """ "right" with the precision, "wrong" or "open"."""
    try:
        return "right", gradcheck(f, *inputs, **options).precision
    except InconclusiveError:
        return "open", np.inf
    except GradcheckError:
        return "wrong", 0.0


def outside_the_table(forward, *rules):
    """A primitive that stays in no table, so that Hypothesis may draw another."""
    op = tg.primitive("passing by", forward, *rules)
    del tg.OPS[op.name]
    return op


@given(st.sampled_from(sorted(FUNCTIONS)), DECADES, DECADES, st.integers(-12, 0), st.integers(0, 9))
def test_right_rules_are_never_called_wrong_and_precision_is_the_truth(name, offset, scale, error, rng):
    """offset + scale f: the larger the offset, the less is known; never is anything else said."""
    f, rule = FUNCTIONS[name]
    right = outside_the_table(lambda x: offset + scale * f(x), lambda g, y, x: scale * rule(g, y, x))
    assert verdict(right, X, rng=rng)[0] != "wrong"
    wrong = outside_the_table(right.forward, lambda g, y, x: (1 + 10.0**error) * scale * rule(g, y, x))
    said, precision = verdict(wrong, X, rng=rng)
    assert said != "right" or 0.99 * 10.0**error <= precision
    if offset < 1e-3 * scale and scale > 1e-290 and error >= -9:
        assert said == "wrong", "nothing hides it"


@given(st.integers(-300, 2).map(lambda k: 10.0**k), st.integers(0, 9))
def test_a_zero_rule_passes_only_where_nothing_moves(scale, rng):
    zero = outside_the_table(lambda x: scale * x * x, lambda g, y, x: 0.0 * x * g)
    assert verdict(zero, X, rng=rng)[0] == ("wrong" if scale > 1e-296 else "wrong" if scale else "right")
    assert verdict(zero, np.zeros(3), rng=rng)[0] == "right", "where it is right"


@pytest.mark.parametrize(
    "f, inputs",
    {
        "1e8 + tanh": (lambda x: 1e8 + tg.tanh(x), [X]),
        "lost and found": (lambda x: (x + 1e8) - 1e8, [X]),
        "time stamps": (lambda w: tg.mse_loss(X[:, None] * w, 1.7e9 + 1e4 * X[:, None]), [X[:1]]),
        "as inputs": (lambda x: tg.mean((x - 1.7e9) ** 2), [1.7e9 + 1e3 * X]),
        "beside a large one": (lambda x, y: x * 1e8 + tg.tanh(y), [X, X]),
        "many": (lambda x: 1e6 + x, [np.linspace(-1, 1, 500)]),
        "constant": (lambda x: x * 0 + 1, [X]),
        "no influence of one input": (lambda x, b: tg.softmax(x + b), [X, np.array(0.3)]),
        "saturated": (lambda x: tg.tanh(20 * x), [X]),
        "product of many": (lambda x: tg.prod(x) * 1e-200, [X]),
    }.values(),
)
def test_right_functions_of_awkward_size(f, inputs):
    said, precision = verdict(f, *inputs)
    assert said == "right" and 0 < precision < 1e-2


def test_a_zero_that_may_be_rounding_is_inconclusive(plant):
    flipped = plant(lambda x: 1 + 1e-16 * x * x, lambda g, y, x: -2e-16 * g * x)
    assert verdict(flipped, X)[0] == "open"
    assert gradcheck(lambda x, b: tg.sum(x) * tg.sum(tg.softmax(b)), X, X, order=2)


def test_a_network_whose_gradient_vanishes_is_still_checked(plant):
    W = np.random.default_rng(0).normal(size=(4, 4)) / 8
    wrong = plant(np.tanh, lambda g, y, x: -g * (1 - y * y))

    def network(h, first):
        h = first(h)
        for _ in range(40):
            h = tg.tanh(h @ W)
        return h

    h = np.random.default_rng(1).normal(size=(1, 4))
    assert np.abs(tg.grad(tg.sum(network(t := tg.Tensor(h, requires_grad=True), tg.tanh)), t).numpy()).max() < 1e-12
    assert verdict(lambda h: network(h, tg.tanh), h)[0] == "right"
    assert verdict(lambda h: network(h, wrong), h)[0] == "wrong"


def test_float32_inside_is_inconclusive_and_a_wrong_sign_there_is_wrong(plant):
    def short(x):
        return np.tanh(x.astype(np.float32))

    right = plant(short, lambda g, y, x: g * (1 - y * y))
    with pytest.raises(InconclusiveError, match=r"right to [345] digits; compute in float64") as caught:
        gradcheck(right, X)
    assert caught.value.cause == "not float64"
    with pytest.raises(CheckError, match="checks are inconclusive") as caught:
        check_primitive(right)
    assert caught.value.inconclusive and set(caught.value.failed) == {"first order", "order 2"}
    assert verdict(plant(short, lambda g, y, x: -g * (1 - y * y)), X)[0] == "wrong"
    assert verdict(tg.tanh, X.astype(np.float32))[0] == "right"


def rounded(f, rule, scale, sign, kind):
    return outside_the_table(
        lambda x: (scale * f(x)).astype(kind).astype(float), lambda g, y, x: sign * scale * rule(g, y, x)
    )


@pytest.mark.parametrize(("kind", "digits", "left"), [(np.float16, 4, "[12]"), (np.float32, 7, "[345]")])
def test_what_is_rounded_to_few_digits_is_never_called_wrong_nor_right(kind, digits, left):
    """Nor where numbers with all digits stand beside it; why is said, and what would settle it."""
    for scale in (1e-2, 30.0):
        for f, rule in FUNCTIONS.values():
            for sign in (1, -1):
                op = rounded(f, rule, scale, sign, kind)
                for made in (op, lambda x, op=op: (op(x), 0.1 + 0 * x)):
                    with pytest.raises(GradcheckError) as caught:
                        gradcheck(made, X)
                    assert sign < 0 or isinstance(caught.value, InconclusiveError)
    name, right = kind.__name__, rounded(np.square, lambda g, y, x: 2 * g * x, 1.0, 1, kind)
    why = rf"f computes in {name}, whose rounding hides what differences look for; as far as that lets one see it is"
    with pytest.raises(InconclusiveError, match=rf"beyond {digits} digits: {why} right to {left} digits; compute in"):
        gradcheck(right, X, noise=float(np.finfo(kind).eps))
    with pytest.raises(InconclusiveError, match=rf"are rounded, .* ± .*; f computes in {name}: compute in float64"):
        gradcheck(rounded(*FUNCTIONS["tanh"], 1.0, 1, kind), X, noise=1e-3)


def test_what_is_rounded_within_a_function_moves_in_stairs_and_is_not_wrong_for_it(plant):
    """Small steps find nothing, and large ones what the rule says; what no step finds is refuted all the same."""
    cut = outside_the_table(lambda x: x.astype(np.float16).astype(float), lambda g, y, x: g)
    less = outside_the_table(cut.forward, lambda g, y, x: 0.5 * g)
    for rng in range(8):
        x = np.random.default_rng(rng).uniform(0.5, 1.5, 4)
        for f in (lambda x: tg.sin(cut(0.7 * x)), lambda x: 100 + cut(x * x), lambda x: tg.exp(cut(tg.tanh(x)))):
            assert verdict(f, x)[0] == "open"
        assert verdict(lambda x: tg.sin(less(0.7 * x)), x)[0] == "wrong"
    floor = outside_the_table(np.floor, lambda g, y, x: g)
    assert verdict(floor, X)[0] == "wrong", "one stair is no slope"


STAIRS = {
    "fixed point": lambda x: np.round(x * 256) / 256,
    "quarters": lambda x: np.round(x * 4) / 4,
    "tenths": lambda x: np.round(x, 1),
    "thousandths": lambda x: np.floor(1000 * x),
    "bins": lambda x: np.digitize(x, np.linspace(-4, 4, 801)).astype(x.dtype),
}


@pytest.mark.parametrize("name", STAIRS)
def test_a_rule_of_zeros_for_a_staircase_is_never_refuted(plant, name):
    """Its derivative is 0 on every stair, whatever the slope of all of it."""
    flat = plant(STAIRS[name], lambda g, y, x: 0.0 * g)
    draw = np.random.default_rng(0)
    for x in ([1.23452, 0.3331, 2.7183], [-56.8107], [45.4485, -6.0123], draw.normal(size=50), draw.normal(size=500)):
        assert verdict(flat, np.array(x))[0] != "wrong"
    gradcheck(plant(STAIRS["fixed point"], lambda g, y, x: 0.0 * g), np.array([1.23452, 0.3331, 2.7183]))
    with pytest.raises(InconclusiveError, match="there is a jump"):
        gradcheck(plant(STAIRS["quarters"], lambda g, y, x: 0.0 * g), np.array([-56.8107]))


@pytest.mark.parametrize("name", ["quarters", "tenths"])
def test_the_battery_passes_a_staircase(plant, name):
    assert check_primitive(plant(STAIRS[name], lambda g, y, x: 0.0 * g))


def test_numbers_of_few_digits_are_not_float16_unless_they_are_spaced_like_it(plant):
    X = np.array([1.23452, 0.3331, 2.7183])
    for f in STAIRS.values():
        for rule in (lambda g, y, x: 0.0 * g, lambda g, y, x: 0.5 * g):
            try:
                gradcheck(plant(f, rule), X)
            except GradcheckError as error:
                assert "float16" not in str(error) and "float32" not in str(error)
    assert verdict(plant(lambda x: np.round(x * 256) / 256 * 2, lambda g, y, x: 1.0 * g), X)[0] == "wrong"


def test_of_what_is_refuted_some_digits_are_known_and_one_element_ties_with_none(plant):
    for noise in (1e-3, 3e-2, 0.1):
        try:
            gradcheck(plant(np.tanh, lambda g, y, x: -g * (1 - y * y)), X, noise=noise)
        except GradcheckError as error:
            assert "to 0 digits" not in str(error)
    lonely = plant(lambda x: np.where(np.abs(x - 0.3) < 1e-5, 1.0, np.sin(x)), lambda g, y, x: g * np.cos(x))
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lonely, np.array([0.3]))
    assert caught.value.cause != "tie"


def test_what_is_refuted_without_elements_or_tolerance_is_refuted_in_words(plant):
    nothing = plant(lambda x: x[:0] * 2.0, lambda g, y, x: np.ones(x.shape))
    for size in (3, 1000):
        assert verdict(nothing, np.ones(size))[0] == "wrong"
        assert verdict(plant(lambda x: 0.0 * x, lambda g, y, x: g), np.ones(size), rtol=0.0)[0] == "wrong"


def test_a_wrong_rule_of_many_elements_takes_no_matrix_of_them_all(plant):
    twice = plant(lambda x: 2 * x, lambda g, y, x: 3 * g)
    tracemalloc.start()
    try:
        with pytest.raises(GradcheckError, match="likely cause"):
            gradcheck(twice, np.random.default_rng(0).normal(size=20_000))
        assert tracemalloc.get_traced_memory()[1] < 2e9, "a square matrix has 3.2e9 bytes"
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("height", [0.25, 0.75, 1.0, 5.0, 384.0])
def test_a_step_nearby_has_few_digits_and_is_no_few_digits(plant, height):
    step = plant(lambda x: height * np.floor(x), lambda g, y, x: 0 * g)
    assert gradcheck(step, np.array([-0.005, 0.3, 1.2])).compared == 3


def fixed_point(enough):
    """z = tanh(z / 3 + x), iterated until it moves by less than `enough`, with the right rule."""

    def forward(x):
        z = np.zeros_like(x)
        for _ in range(200):
            z, old = np.tanh(z / 3 + x), z
            if np.abs(z - old).max(initial=0) < max(enough, 10 * np.finfo(x.dtype).eps):
                break
        return z

    return forward, lambda g, y, x: g * (1 - y * y) / (1 - (1 - y * y) / 3)


@pytest.mark.parametrize("enough", [1e-9, pytest.param(1e-6, marks=pytest.mark.slow)])
def test_what_is_iterated_to_a_tolerance_says_so_and_every_part_listens(plant, enough):
    forward, rule = fixed_point(enough)
    op, wrong = plant(forward, rule), plant(forward, lambda g, y, x: 1.05 * rule(g, y, x))
    with pytest.raises(GradcheckError, match="if f is iterated to a tolerance, pass noise="):
        gradcheck(plant(*fixed_point(1e-8)), X)
    for how in ({"noise": enough}, {"rtol": 100 * enough}):
        assert gradcheck(op, X, **how).precision > enough
        assert check_primitive(op, **how).compared > 100
        with pytest.raises(CheckError) as caught:
            check_primitive(wrong, **how)
        assert not caught.value.inconclusive

    class Cell:
        def __init__(self):
            self.W = tg.Tensor([[0.5, -0.3], [0.2, 0.4]], requires_grad=True)

        def parameters(self):
            return {"W": self.W}

        def initial_state(self, batch):
            return tg.Tensor(np.zeros((batch, 2)))

        def __call__(self, x, h):
            return op(x @ self.W + 0.5 * h)

    assert check_cell(Cell(), input_size=2, noise=enough)


def test_nothing_to_compare_is_no_precision():
    result = gradcheck(tg.tanh, np.zeros((0, 3)))
    assert result.compared == 0 and result.precision == np.inf
