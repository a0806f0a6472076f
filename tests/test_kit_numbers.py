"""What `gradcheck` promises in numbers: what is compared, how precisely, what `rtol`, `atol` and `noise` let pass."""

import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.testing import CheckError, GradcheckError, InconclusiveError, check_primitive, gradcheck
from tinygrad_rnn.testing.expressions import FORMS, POWERS, SIMPLE
from tinygrad_rnn.testing.oracles import EPS, STEPS, Line, steps_at, unit

X = np.array([0.3, -1.2, 0.7, 2.0, -0.4])
LARGE = np.random.default_rng(1).uniform(0.5, 1.5, (21, 20)) * np.random.default_rng(2).choice([-1, 1], (21, 20))


def sine(plant, factor=1.0, offset=0.0):
    return plant(np.sin, lambda g, y, x: factor * g * np.cos(x) + offset * (g != 0))


def fails(f, *inputs, **options):
    try:
        gradcheck(f, *inputs, **options)
    except InconclusiveError:
        return "open"
    except GradcheckError:
        return True
    return False


# What is compared


@pytest.mark.parametrize(
    ("inputs", "options", "mode", "compared"),
    [
        ([X], {}, "element", 5), ([X, X], {}, "element", 10), ([X, 2.0], {"order": 2}, "element", 6 + 6 + 5),
        ([LARGE[:20]], {}, "element", 400), ([LARGE], {}, "direction", 4), ([LARGE, X], {}, "direction", 8),
        ([X], {"mode": "direction"}, "direction", 4), ([LARGE], {"mode": "element"}, "element", 420),
    ],
)  # fmt: skip
def test_how_many_derivatives_are_compared(inputs, options, mode, compared):
    result = gradcheck(lambda x, y=1.0: tg.sin(x) * tg.sum(y), *inputs, **options)
    assert (result.mode, result.order, result.compared) == (mode, options.get("order", 1), compared)
    assert 0 <= result.worst < 1e-8 and 0 < result.precision <= 1e-6


def test_the_least_precise_input_counts():
    """Of what could have passed unseen: what is known of the input of which least is known."""
    sharp, vague = (gradcheck(f, X).precision for f in (tg.sin, lambda x: 1e7 + tg.sin(x)))
    assert sharp <= 1e-9 < 1e-8 < vague < 1e-3
    both = gradcheck(lambda x, y: (tg.sin(x), 1e7 + tg.sin(y)), X, X).precision
    assert vague / 10 < both < 10 * vague
    assert gradcheck(tg.sin, X, order=2).precision >= sharp


def test_worst_is_the_largest_error_beside_the_largest_derivative(plant):
    for error in (1e-7, 3e-8):
        result = gradcheck(sine(plant, 1 + error), X, rtol=1e-6)
        assert 0.5 * error < result.worst < 1.1 * error
        assert 0.2 * error < gradcheck(sine(plant, 1 + error), X, rtol=1e-6, mode="direction").worst < 1.1 * error
    assert gradcheck(lambda x: (sine(plant, 1 + 1e-7)(x), x * 0.0), X, rtol=1e-6).worst > 1e-8


# Tolerances


@pytest.mark.parametrize("mode", ["element", "direction"])
@pytest.mark.parametrize("rtol", [1e-3, 1e-5])
def test_rtol_is_by_how_much_a_gradient_may_differ(plant, mode, rtol):
    assert not fails(sine(plant, 1 + 0.5 * rtol), X, rtol=rtol, mode=mode)
    assert fails(sine(plant, 1 + 2 * rtol), X, rtol=rtol, mode=mode) is True
    result = gradcheck(sine(plant), X, rtol=rtol, mode=mode)
    assert 0.5 * rtol < result.precision < 2 * rtol


def test_atol_is_the_same_absolutely(plant):
    for atol in (1e-2, 1e-4):
        assert not fails(sine(plant, offset=0.15 * atol), X, atol=atol), "their sum may differ by no more either"
        assert fails(sine(plant, offset=2 * atol), X, atol=atol) is True
        assert fails(sine(plant, offset=0.5 * atol), X, atol=atol) is True


def test_a_small_element_beside_large_ones_is_known_to_fewer_digits(plant):
    """By a millionth of the tolerance of the largest where rules may not round, by a thousandth where they may."""
    x = np.array([1.0, 1e-7])

    def cubes(share):
        return plant(lambda x: x * x, lambda g, y, x: g * 2 * x * np.array([1.0, share]))

    assert fails(cubes(1.001), x) is True and not fails(cubes(1.01), x, rtol=1e-4)
    single = plant(lambda x: x * x, lambda g, y, x: (g * 2 * x * np.array([1.0, 3.0], x.dtype)).astype(x.dtype))
    assert not fails(single, x.astype(np.float32)) and fails(single, np.float32([1.0, 1e-3])) is True


def test_float32_inputs_are_compared_as_float32_lets_them(plant):
    def short(error):
        return plant(np.sin, lambda g, y, x: (g * np.cos(x) * x.dtype.type(1 + error)).astype(x.dtype))

    x = X.astype(np.float32)
    assert not fails(short(3e-4), x) and fails(short(3e-3), x) is True
    assert 1e-4 < gradcheck(tg.sin, x).precision <= 1.1e-3
    assert 1e-6 < gradcheck(tg.sin, x, mode="direction").precision <= 1e-5


def test_noise_is_how_vague_values_are(plant):
    """The vaguer, the less is confirmed; and a mistake that is larger than that is found all the same."""
    before = 0.0
    for noise in (1e-12, 1e-10, 1e-8):
        precision = gradcheck(tg.sin, X, noise=noise).precision
        assert precision > before and precision > noise
        before = precision
        assert fails(sine(plant, 1.5), X, noise=noise) is True
    assert fails(tg.sin, X, noise=1e-1) == "open"


@pytest.mark.parametrize("decade", [-200, -30, -8, 0, 8, 200])
def test_size_alone_changes_nothing(plant, decade):
    scale = 10.0**decade
    result = gradcheck(lambda x: scale * tg.sin(x), X)
    assert result.compared == 5 and result.worst < 1e-9 and result.precision <= 1e-9
    wrong = plant(lambda x: scale * np.sin(x), lambda g, y, x: -scale * g * np.cos(x))
    with pytest.raises(GradcheckError) as caught:
        gradcheck(wrong, X)
    assert caught.value.cause == "sign" and caught.value.analytic / caught.value.numeric == pytest.approx(-1, rel=1e-6)


# What a report says in numbers


def test_a_failure_has_its_place_both_numbers_and_how_far_they_are_known(plant):
    def one(g, y, x):
        right = g * np.cos(x)
        return np.where(np.arange(5) == 3, 1.25 * right, right)

    with pytest.raises(GradcheckError) as caught:
        gradcheck(plant(np.sin, one), X)
    error = caught.value
    assert (error.order, error.input, error.element) == (1, 0, (3,)) and error.relative_error == pytest.approx(0.2)
    found = re.match(
        r"the gradient of input 0 \(shape \(5,\)\) is wrong in 1 of 5 checked elements; worst element \(3,\): "
        r"analytic (\S+), numeric (\S+) \(confirmed to (\d+) digits\), relative error 2\.00e-01; likely cause: ",
        error.message,
    )
    assert float(found[1]) == pytest.approx(error.analytic, rel=1e-9)
    assert float(found[2]) == pytest.approx(error.numeric, rel=1e-9)
    assert 5 <= int(found[3]) <= 15 and "noise=" not in error.message
    vague = sine(plant, 1.5)
    with pytest.raises(GradcheckError, match=r"confirmed to [1-4] digits"):
        gradcheck(lambda x: 3e8 + vague(x), X)


def test_where_a_failure_shows_is_said(plant):
    """In one element, in the sum of all, along a direction, or at a kink."""

    def said_of(f, x, **options):
        with pytest.raises(GradcheckError) as caught:
            gradcheck(f, x, **options)
        return caught.value.message

    assert said_of(sine(plant, 1 + 1e-9), X).startswith(
        "the gradient of input 0 (shape (5,)) is wrong in the sum of all elements, each with its own sign: analytic "
    )
    assert said_of(sine(plant, 1 + 1e-9), X).endswith("1 +1e-09; if f is iterated to a tolerance, pass noise=")
    at_zero = plant(np.abs, lambda g, y, x: g * np.where(x == 0, 3, np.sign(x)))
    said = said_of(at_zero, np.array([0.0, 1.0]))
    assert "(confirmed" not in said and said.endswith(
        "likely cause: at a kink any number between the slopes to its sides is right, and this one is not"
    )
    spread = plant(
        np.sin, lambda g, y, x: g * np.cos(x) + 1e-5 * np.where(np.arange(x.size).reshape(x.shape) % 2, 1, -1)
    )
    assert "likely cause: " in said_of(spread, LARGE)
    with pytest.raises(
        InconclusiveError, match=r"cannot be checked along a random ±1 direction: there is a kink; move"
    ):
        gradcheck(tg.abs, np.array([0.0, 0.5]), mode="direction")


def test_the_input_of_a_failure_is_counted_among_all_arguments(plant):
    wrong = sine(plant, 2.0)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda k, a, x: a * wrong(x) * k, 3, X, X + 0.1)
    assert caught.value.input == 2 and "gradient of input 2 (shape (5,)) is wrong in 5 of 5" in caught.value.message
    with pytest.raises(InconclusiveError) as caught:
        gradcheck(lambda k, x: tg.abs(x) * k, 3, np.array([1.0, 0.0, 2.0]))
    assert caught.value.input == 1 and caught.value.element == (1,) and caught.value.cause == "kink"
    assert caught.value.message == (
        "inconclusive: the gradient of input 1 (shape (3,)) cannot be checked at element (1,): there is a kink; "
        "move the inputs away"
    )


@pytest.mark.parametrize(
    ("f", "x", "cause", "said"),
    [
        (tg.abs, [0.0, 0.0], "kink", "there is a kink, perhaps a tie: another element is equal to it; move the inputs"),
        (lambda x: tg.where(x.numpy() > 0, 1.0, 0.0) + 0 * x, [0.0], "kink", "there is a jump; move the inputs away"),
        (tg.sqrt, [0.0], "unsettled", "f is not finite here or nearby: the edge of its domain?; move the inputs away"),
        (tg.exp, [np.inf], "unsettled", "the input is inf there; pass finite numbers"),
        (lambda x: 1e14 + tg.sin(x), [0.3], "unsettled", "the values of f are rounded, so that the differences give "),
        (lambda x: tg.sin(1e9 * x), [0.3], "unsettled", "pass noise= if f is iterated, or computed in few digits"),
    ],
)
def test_what_is_inconclusive_says_why_and_what_would_settle_it(f, x, cause, said):
    with np.errstate(all="ignore"), pytest.raises(InconclusiveError) as caught:
        gradcheck(f, np.array(x))
    assert caught.value.cause == cause and said in caught.value.message


def test_an_error_that_a_function_raises_beside_the_inputs_is_quoted():
    def picky(x):
        if x.numpy().max() > 0.5:
            raise ValueError("too large")
        return tg.sin(x)

    with pytest.raises(InconclusiveError, match="nearby f raises ValueError: too large; move the inputs away"):
        gradcheck(picky, np.array([0.5, 0.1]))


def test_a_hidden_element_of_many_is_found_and_the_direction_said(plant):
    def hidden(place, factor):
        def rule(g, y, x):
            right = g * np.cos(x)
            right[place] *= factor
            return right

        return plant(np.sin, rule)

    for place in ((0, 0), (20, 19), (10, 3)):
        with pytest.raises(GradcheckError) as caught:
            gradcheck(hidden(place, 1.1), LARGE)
        assert caught.value.element == place and "in 1 of " in caught.value.message
        assert int(re.search(r"in 1 of (\d+) checked", caught.value.message)[1]) in range(150, 201)


# Differences themselves


@pytest.mark.parametrize("size", [1e-250, 1e-3, 0.05, 1.0, 3e3, 1e12, 1e250])
def test_steps_begin_on_the_scale_of_the_number_and_shrink(size):
    for x in (size, -size):
        steps = steps_at(x)
        assert all(h > 0 for h in steps) and steps == steps_at(-x)
        assert 5e-3 < steps[0] / max(size, 1.0) < 5e-2 and steps[3] < 1e-4 * max(size, 1.0)
        assert any(1e-4 * size <= h < 0.05 * size for h in steps), "on its own"
        assert any(1e-6 <= h <= 1e-2 for h in steps), "on the scale of 1"
    assert len(steps_at(0.0)) == len(STEPS)


def line_of(f, x, noise=EPS):
    x = np.atleast_1d(x)
    return Line(lambda arrays: np.atleast_1d(f(arrays[0])).ravel(), [x], 0, unit(x, (0,)), np.ones(x.size), noise)


@pytest.mark.parametrize("x", [0.0, 1e-6, 0.3, 40.0])
def test_what_an_estimate_knows_of_itself_is_true(x):
    for f, slope in [(np.sin, np.cos), (np.exp, np.exp), (lambda x: 1e6 + np.sin(x), np.cos)]:
        estimate = line_of(f, x).derivative(steps_at(x), 1e-9)
        assert estimate.finite and estimate.resolved and estimate.sides is None
        assert abs(estimate.value - slope(x)) <= 4 * estimate.error + 1e-15 and estimate.error < 1e-4 * np.exp(x)
        assert estimate.rounding <= estimate.error and estimate.motion == pytest.approx(abs(slope(x)), rel=0.1)
        assert estimate.step in steps_at(x) or estimate.step == 10 * steps_at(x)[0]
        again = line_of(f, x).again(estimate)
        assert abs(again.value - slope(x)) <= 4 * again.error + 1e-15 and again.step == estimate.step


def test_noise_and_offsets_make_an_estimate_less_sure():
    errors = [line_of(lambda x, c=c: c + np.sin(x), 0.3).slope(1e-3).rounding for c in (0.0, 1.0, 1e3, 1e6)]
    assert errors == sorted(errors) and 3e5 < errors[3] / errors[1] < 1e6
    vague, exact = (line_of(np.sin, 0.3, noise).slope(1e-3) for noise in (1e-9, EPS))
    assert vague.rounding / exact.rounding > 1e6 and vague.value == exact.value
    assert line_of(np.sin, 0.3).slope(1e-4).rounding == pytest.approx(10 * line_of(np.sin, 0.3).slope(1e-3).rounding)


@pytest.mark.parametrize(("left", "right"), [(0.0, 1.0), (-3.0, 2.0), (2.0, -1.0)])
def test_the_slopes_to_both_sides_of_a_kink_are_found(left, right):
    estimate = line_of(lambda x: np.where(x < 0, left * x, right * x), 0.0).slope(1e-2)
    assert estimate.sides == pytest.approx((min(left, right), max(left, right)))
    assert estimate.motion == pytest.approx(max(abs(left), abs(right)))
    jump = line_of(lambda x: np.where(x < 0, 0.0, 1.0 + x), 0.0).slope(1e-2)
    assert jump.sides == (-np.inf, np.inf)
    curved = line_of(lambda x: np.where(x < 0, x * x, np.sin(x)), 0.0).slope(1e-2)
    assert curved.sides == pytest.approx((0.0, 1.0), abs=0.01)
    assert line_of(lambda x: np.sqrt(np.abs(x)), 0.0).slope(1e-2).sides is None, "a cusp has none"


# Formulas: every factor that a report may name


def named(forward, rule, x):
    op = tg.primitive("named", forward, rule, replace=True)
    try:
        gradcheck(op, x)
    except GradcheckError as error:
        return error.cause, error.message.partition("likely cause: ")[2]
    finally:
        del tg.OPS["named"]
    return None


POINTS = np.array([0.31, 0.52, 0.77, 0.93])


def curve(x):
    return x**5 / 5 + 2 * x


def slope(x):
    return x**4 + 2


@pytest.mark.parametrize("form", [form for form in FORMS if form != "{}"])
def test_a_factor_of_any_form_is_named_whether_missing_or_too_much(form):
    factor, said = FORMS[form], form.format("x")
    x = POINTS * np.where("abs" in form, [1, -1, 1, -1], 1)
    assert named(curve, lambda g, y, x: g * slope(x) / factor(x), x) == (
        "missing factor", f"a factor {said} is missing")  # fmt: skip
    assert named(curve, lambda g, y, x: g * slope(x) * factor(x), x) == (
        "missing factor", f"a factor {said} is too much")  # fmt: skip


@pytest.mark.parametrize("power", [p for p in POWERS if p not in (1.0, -1.0)])
@pytest.mark.parametrize("constant", [1.0, 3.0, 0.25])
def test_so_is_any_power_of_it_and_a_simple_number(power, constant):
    cause, said = named(curve, lambda g, y, x: g * slope(x) / (constant * x**power), POINTS)
    parts = " × ".join(filter(None, [SIMPLE[constant], POWERS[power].format("x")])).replace(" × 1 /", " /")
    other = " × ".join(filter(None, [SIMPLE[1 / constant] if constant in (1.0, 0.25) else "1/3",
                                     POWERS[-power].format("x")])).replace(" × 1 /", " /")  # fmt: skip
    assert cause == "missing factor"
    assert said in (f"a factor {parts} is missing", f"a factor {other} is too much")


@pytest.mark.parametrize("share", [1.0, -1.0, 2.0])
def test_a_summand_that_is_missing_is_named_with_its_sign(share):
    cause, said = named(lambda x: curve(x) + share * np.sin(x), lambda g, y, x: g * slope(x), POINTS)
    sign, twice = "-" if share < 0 else "+", "2 × " if share == 2 else ""
    assert cause == "missing term" and said.startswith(f"a summand {sign} g × {twice}cos(x) is missing")
    assert (", or g × cos(x) has the wrong sign" in said) == (share == 2)


@pytest.mark.parametrize("factor", [0.5, 3.0, 1.25, 2 / 7, 11 / 12, 1.01, 1 + 3e-5, 57.31])
def test_a_constant_factor_is_told_as_a_number_and_as_a_fraction_if_it_is_simple(factor):
    x = np.linspace(0.2, 1.1, 13)
    cause, said = named(curve, lambda g, y, x: g * slope(x) * factor, x)
    fractions = {0.5: " = 1/2", 1.25: " = 5/4", 2 / 7: " = 2/7", 11 / 12: " = 11/12"}
    number = "1 +3e-05" if factor == 1 + 3e-5 else f"{factor:.6g}"
    assert cause == "factor" and said == f"off by a constant factor of {number}{fractions.get(factor, '')}"


def test_a_factor_is_named_beside_an_input_without_elements(plant):
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda x, e: plant(np.sin, lambda g, y, x: 3 * g * np.cos(x))(x) + tg.sum(e), X, np.zeros((0, 2)))
    assert caught.value.cause == "factor" and caught.value.message.endswith("constant factor of 3")


def test_a_factor_that_is_no_simple_fraction_is_not_made_one():
    for factor in (14 / 13, np.pi, 1.3333):

        def rule(g, y, x):
            return g * slope(x) * factor  # noqa: B023

        _, said = named(curve, rule, np.linspace(0.2, 1.1, 5))
        assert said == f"off by a constant factor of {factor:.6g}"


# The battery's own numbers


@pytest.mark.parametrize("error, failed", [(1e-3, True), (1e-2, True), (1e-5, False)])
def test_float32_has_the_numbers_of_float64_to_its_digits(plant, error, failed):
    """In the results to four digits, in the gradients to three."""

    def short(x, by):
        return x.dtype.type(1 + by) if x.dtype == np.float32 else 1.0

    value = plant(lambda x: np.sin(x) * short(x, error), lambda g, y, x: g * np.cos(x))
    slope = plant(np.sin, lambda g, y, x: g * np.cos(x) * short(x, 10 * error))
    for op, what in ((value, "results in float32 and in float64"), (slope, "gradients 0 in float32 and in float64")):
        try:
            check_primitive(op, shapes=[(3,)], order=1)
            assert not failed
        except CheckError as caught:
            assert failed and {*caught.failed} == {"float32"}
            found = re.search(rf"{what}: they differ by (\S+), more than (\S+) \(for shapes \(3,\)\)", str(caught))
            assert float(found[1]) > float(found[2]) > 0


# Which part of a sum was lost, of results of several axes and beside other outputs

STACK = np.random.default_rng(5).uniform(0.5, 1.5, (2, 3, 4))
ROW, CUBE = np.array([0.7, 1.3, 0.9, 1.1]), np.random.default_rng(6).uniform(0.5, 1.5, (3, 3, 3))


def said_of(plant, rule, a, b, beside):
    op = plant(np.multiply, lambda g, y, a, b: g * b, rule)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda a, b: (tg.sin(b), op(a, b), tg.exp(a)) if beside else op(a, b), a, b)
    return caught.value.cause, caught.value.message.partition("likely cause: ")[2].partition("; or: ")[0]


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("place, pick", [("first", 0), ("last", -1)])
def test_which_contribution_alone_counts_is_said(plant, axis, place, pick, beside):
    def rule(g, y, a, b):
        return np.take(g * a, pick, axis=axis).sum(0)

    said = f"not summed over axis {axis} of the result: only the {place} contribution along it counts"
    assert said_of(plant, rule, STACK, ROW, beside) == ("broadcast", said)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("axes", [(0, 2), (1, 2)])
def test_along_which_axes_was_summed_instead_is_said(plant, axes, beside):
    said = f"summed over the wrong axis of the result: axes {axes}"
    found = said_of(plant, lambda g, y, a, b: (g * a * (b / b)).sum(axes), CUBE, ROW[:3], beside)
    assert found == ("broadcast", said)


@pytest.mark.parametrize("axis, other", [(0, 1), (1, 0)])
def test_along_which_axis_g_was_repeated_instead_is_said(plant, axis, other):
    x = CUBE[0]
    op = plant(lambda x: np.exp(x).sum(axis), lambda g, y, x: np.expand_dims(g, other) * np.exp(x))
    with pytest.raises(GradcheckError, match=rf"g is repeated along axis {other} instead: is keepdims missing\?"):
        gradcheck(op, x)
    even = plant(lambda x: x.max(axis), lambda g, y, x: np.expand_dims(g, axis) * np.ones(3) / 3)
    if axis == 1:
        with pytest.raises(GradcheckError, match=rf"spread evenly along axis {axis}: it belongs to some elements only"):
            gradcheck(even, x)
