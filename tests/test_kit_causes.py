"""Each kind of mistake along every axis, for every operand: the report says along which, and of which."""

from itertools import permutations

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.testing import GradcheckError, gradcheck

RNG = np.random.default_rng(8)
ROW, CUBE = RNG.uniform(0.5, 1.5, 4), RNG.uniform(0.5, 1.5, (3, 3, 3))
WIDE, SQUARE = RNG.uniform(0.5, 1.5, (3, 4)), RNG.uniform(0.5, 1.5, (3, 3)) + 2 * np.eye(3)


def said(plant, forward, rules, *inputs):
    """The cause, and the sentences of the report."""
    with np.errstate(all="ignore"), pytest.raises(GradcheckError) as caught:
        gradcheck(plant(forward, *rules), *inputs)
    sentences = caught.value.message.partition("likely cause: ")[2]
    return caught.value.cause, sentences.removesuffix("; if f is iterated to a tolerance, pass noise=").split("; or: ")


def over(axis):
    return "over all axes" if axis is None else f"over axis {axis}"


# Held constant


@pytest.mark.parametrize("axis", [0, 1, None])
def test_a_mean_or_a_norm_that_is_held_constant_is_named_with_its_axis(plant, axis):
    def length(x):
        return np.sqrt((x * x).sum(axis, keepdims=True))

    def deviation(x):
        return np.sqrt(x.var(axis, keepdims=True) + 1e-5)

    def normalised(x):
        return (x - x.mean(axis, keepdims=True)) / deviation(x)

    def shares(x):
        return np.exp(x) / np.exp(x).sum(axis, keepdims=True)

    for name, forward, rule in [
        ("mean", lambda x: x - x.mean(axis, keepdims=True), lambda g, y, x: g * np.ones(x.shape)),
        ("norm", lambda x: x / length(x), lambda g, y, x: g / length(x)),
        ("mean and a norm", normalised, lambda g, y, x: g / deviation(x)),
        ("norm, or a sum", shares, lambda g, y, x: g * y),
    ]:
        cause, sentences = said(plant, forward, [rule], WIDE)
        assert (cause, sentences[0]) == ("missing term", f"a {name} {over(axis)} is held constant, or not subtracted")


@pytest.mark.parametrize("axis", [0, 1])
def test_a_factor_that_is_the_same_along_an_axis_is_named_with_it(plant, axis):
    def cubic(x):
        return (x**3).sum(axis)

    cause, sentences = said(
        plant, lambda x: np.log(cubic(x)), [lambda g, y, x: np.expand_dims(g, axis) * x * x], WIDE)  # fmt: skip
    assert cause == "factor"
    assert sentences[0] == f"off by a factor that is the same over axis {axis}, of another sum or norm, say"


@pytest.mark.parametrize("axis", [0, 1])
def test_the_sum_of_softmax_along_another_axis_is_named(plant, axis):
    def softmax(x):
        e = np.exp(x)
        return e / e.sum(2, keepdims=True)

    for forward, rule in [
        (softmax, lambda g, y, x: y * (g - (g * y).sum(axis, keepdims=True))),
        (lambda x: np.log(softmax(x)), lambda g, y, x: g - np.exp(y) * g.sum(axis, keepdims=True)),
    ]:
        cause, sentences = said(plant, forward, [rule], CUBE)
        assert (cause, sentences[0]) == ("broadcast", f"the sum of softmax's rule is taken along axis {axis}")
    cause, sentences = said(
        plant, lambda x: np.log(softmax(x)), [lambda g, y, x: g - y * g.sum(-1, keepdims=True)], CUBE)  # fmt: skip
    assert (cause, sentences[0]) == ("swapped", "in log_softmax's rule y stands for exp(y)")


# The wrong place


@pytest.mark.parametrize("axes", [axes for axes in permutations(range(3)) if axes != (0, 1, 2)])
def test_exchanged_axes_are_named_in_their_order(plant, axes):
    cause, sentences = said(plant, np.sin, [lambda g, y, x: np.transpose(g * np.cos(x), axes)], CUBE)
    assert cause == "transposed" and sentences[0] == f"its axes are exchanged: transposed by {axes}"


def test_axes_of_different_length_that_are_exchanged_are_read_again(plant):
    cause, sentences = said(plant, np.sin, [lambda g, y, x: (g * np.cos(x)).T.reshape(x.shape)], WIDE)
    assert cause == "transposed"
    assert sentences[0] == "its axes are exchanged: transposed by (1, 0) and then read in the shape of the input"


@pytest.mark.parametrize("axis", [0, 1])
def test_a_cotangent_in_reverse_order_is_named_with_its_axis(plant, axis):
    def mixed(x):
        return np.cumsum(np.cumsum(x, 0), 1)

    def undone(g):
        return np.flip(np.cumsum(np.cumsum(np.flip(g, (0, 1)), 0), 1), (0, 1))

    cause, sentences = said(plant, mixed, [lambda g, y, x: undone(np.flip(g, axis))], WIDE)
    assert (cause, sentences[0]) == ("permuted", f"the cotangent g is used in reverse order along axis {axis}")


def test_a_cotangent_that_is_transposed_ignored_or_reduced_is_told_apart(plant):
    for cause, sentence, used in [
        ("transposed", "the cotangent g is transposed before it is used", lambda g: g.T),
        ("cotangent ignored", "the cotangent g is ignored: right only if g is 1 everywhere", lambda g: 1 + 0 * g),
        ("cotangent ignored", "the cotangent g is replaced by its mean", lambda g: g.mean() + 0 * g),
        ("cotangent ignored", "the cotangent g is replaced by its sum", lambda g: g.sum() + 0 * g),
        ("cotangent ignored", "the cotangent g counts twice: g² for g", lambda g: g * g),
        ("cotangent ignored", "it is not linear in the cotangent g: is g clipped, or a power or abs of it?",
         lambda g: g**3),
    ]:  # fmt: skip
        found = said(plant, lambda x: np.cumsum(x, 0) @ SQUARE, [rule_of(used)], SQUARE)
        assert (found[0], found[1][0]) == (cause, sentence)


def rule_of(used):
    def rule(g, y, x):
        return np.flip(np.cumsum(np.flip(used(g) @ SQUARE.T, 0), 0), 0)

    return rule


@pytest.mark.parametrize("which, other", [(0, 1), (1, 2), (2, 0)])
def test_the_rule_of_another_operand_is_named_with_it(plant, which, other):
    def right(k):
        def rule(g, y, *xs):
            return g * y / xs[k]

        return lambda g, y, a, b, c: rule(g, y, a, b, c)

    rules = [right(k) for k in range(3)]
    rules[which] = right(other)
    cause, sentences = said(plant, lambda a, b, c: a * b * c, rules, ROW, ROW[::-1] + 0.2, ROW + 0.5)
    assert (
        cause == "swapped" and sentences[0] == f"it is the gradient of input {other}: are the rules in the wrong order?"
    )


@pytest.mark.parametrize("k", [0, 1])
def test_a_kernel_that_is_not_flipped_is_named_with_its_operand(plant, k):
    x, w = ROW, np.array([0.4, 1.7])
    rules = [lambda g, y, x, w: np.correlate(g, w, "valid"), lambda g, y, x, w: np.correlate(g, x, "valid")]
    rules[k] = [lambda g, y, x, w: np.convolve(g, w, "valid"), lambda g, y, x, w: np.convolve(g, x, "valid")][k]
    cause, sentences = said(plant, lambda x, w: np.convolve(x, w), rules, x, w)
    assert cause == "permuted"
    assert sentences[0] == f"it is right for input {1 - k} reversed along axis 0: a kernel not flipped?"


def test_the_jacobian_for_its_transpose_and_its_diagonal_alone_are_told_apart(plant):
    matrix = SQUARE + np.triu(np.ones((3, 3)))
    for cause, sentence, rule in [
        ("transposed", "the Jacobian is not transposed: J g for Jᵀ g", lambda g, y, x: matrix @ g),
        ("off-diagonal", "only the diagonal of the Jacobian is used", lambda g, y, x: np.diag(matrix) * g),
    ]:
        found = said(plant, lambda x: matrix @ x, [rule], ROW[:3])
        assert (found[0], found[1][0]) == (cause, sentence)


# Products of matrices


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (lambda g, y, a, b: g.T @ b, "it is gᵀ @ x1; the derivative is g @ x1ᵀ"),
        (lambda g, y, a, b: b.T @ g, "it is x1ᵀ @ g; the derivative is g @ x1ᵀ"),
        (lambda g, y, a, b: -g @ b, "it is -g @ x1; the derivative is g @ x1ᵀ"),
        (lambda g, y, a, b: g @ np.linalg.inv(b), "it is g @ inv(x1); the derivative is g @ x1ᵀ"),
        (lambda g, y, a, b: g @ a.T, "it is g @ x0ᵀ; the derivative is g @ x1ᵀ"),
    ],
)
def test_the_factors_of_a_wrong_product_are_named(plant, rule, sentence):
    b = SQUARE + np.triu(np.ones((3, 3)))
    cause, sentences = said(plant, np.matmul, [rule, lambda g, y, a, b: a.T @ g], SQUARE - 1.2, b)
    assert cause in ("transposed", "swapped") and sentence in sentences


def test_a_stack_that_is_turned_along_all_axes_is_named(plant):
    turn = lambda a: np.swapaxes(a, -1, -2)  # noqa: E731
    cause, sentences = said(
        plant, np.matmul, [lambda g, y, a, b: g @ turn(b), lambda g, y, a, b: a.T @ g], CUBE, CUBE[::-1])  # fmt: skip
    assert cause == "transposed" and sentences[0] == "it is x0.T (all axes) @ g; the derivative is x0ᵀ @ g"


# Few of many


def test_the_elements_that_are_wrong_are_listed_and_cut_where_they_are_many(plant):
    def doubled(count):
        return lambda g, y, x: g * np.cos(x) * np.where(np.arange(x.size).reshape(x.shape) < count, 2, 1)

    for x, count, places in [(ROW, 1, "(0,)"), (ROW, 2, "(0,), (1,)"), (WIDE, 3, "(0, 0), (0, 1), (0, 2)")]:
        found = said(plant, np.sin, [doubled(count)], x)
        assert found == ("few elements", [f"right but for few elements: {places} (an edge, a special case, an index?)"])
    every = ", ".join(str(place) for place in np.ndindex(3, 3, 3))
    cause, (sentence,) = said(plant, np.sin, [doubled(9)], CUBE)
    assert cause == "few elements"
    assert sentence == f"right but for few elements: {every[:60]} ... (an edge, a special case, an index?)"
    assert said(plant, np.sin, [doubled(3)], ROW)[0] != "few elements", "three of four are not few"


def test_a_tie_a_repeated_index_and_a_branch_are_told_apart(plant):
    tied = np.array([0.7, 1.3, 0.7, 1.1])
    found = said(plant, np.sin, [lambda g, y, x: g * np.cos(x) * np.where(x == 0.7, 2, 1)], tied)
    assert found[0] == "tie" and found[1] == ["wrong only where two elements are equal: how does the rule share a tie?"]
    found = said(plant, np.sin, [lambda g, y, x: g * np.cos(x) * np.where(x == 1.1, 2, 1)], tied)
    assert found[0] == "few elements" and "(3,)" in found[1][0]
    whole = np.array([1.0, 2.0, 3.0])
    found = said(plant, np.sin, [lambda g, y, x: g * np.cos(x) * np.where(x == np.round(x), 2, 1)], whole)
    assert found[1] == ["right at random inputs, wrong at these: a branch, a tie, an edge, a special value?"]

    def overwritten(g, y, x):
        out = np.zeros(4)
        out[[0, 0, 1]] = g
        return out

    found = said(plant, lambda x: x[[0, 0, 1]], [overwritten], ROW)
    sentence = "only one use counts of an element used several times: overwritten, not accumulated"
    assert found == ("repeated index", [sentence])


def test_a_sign_is_told_by_where_it_is_wrong(plant):
    x = np.array([-1.2, 0.4, -0.3, 0.9])
    for sentence, share in [
        ("the sign is wrong", lambda x: -1),
        ("the sign is wrong where the input is negative: is an abs or a sign missing?", np.sign),
        ("the sign is wrong where the input is positive: is an abs or a sign missing?", lambda x: -np.sign(x)),
        ("the sign is wrong in some elements", lambda x: np.array([-1, 1, 1, -1])),
    ]:
        cause, sentences = said(plant, np.sinh, [signed(share)], x)
        assert cause == "sign" and sentences[0] == sentence


def signed(share):
    return lambda g, y, x: g * np.cosh(x) * share(x)


def test_a_constant_that_is_added_and_digits_that_are_lost_are_named(plant):
    cause, sentences = said(plant, np.sin, [lambda g, y, x: g * np.cos(x) + 0.25 * (np.abs(g).sum() > 0)], ROW)
    assert cause == "offset" and sentences[0] == "the same number, 0.25, is added to every element"
    rough = "it is right to a few digits only: is something computed in float32, rounded, or an approximation?"
    found = said(plant, np.sin, [lambda g, y, x: g * np.round(np.cos(x), 3)], ROW)
    assert found == ("not float64", [rough])
    found = said(plant, np.sin, [lambda g, y, x: g * np.cos(x) * (1 + 0.1 * np.sin(9 * x))], ROW)
    assert found[0] == "unknown"


@pytest.mark.parametrize("n", [3, 5])
def test_a_mean_for_a_sum_and_a_ddof_are_told_from_any_other_factor(plant, n):
    x = RNG.uniform(0.5, 1.5, (2, n))
    for factor, words in [
        (1 / n, f" = 1/{n}, a number of elements: a mean for a sum, or a sum for a mean?"),
        (n, f" = {n}, a number of elements: a mean for a sum, or a sum for a mean?"),
        (2 * n, f" = {2 * n}, a number of elements: a mean for a sum, or a sum for a mean?"),
        (n / (n - 1), f" (for {n} elements n / (n - 1) or its inverse: is it a ddof?)"),
        ((n - 1) / n, f" (for {n} elements n / (n - 1) or its inverse: is it a ddof?)"),
    ]:
        cause, (sentence, *_) = said(plant, lambda x: (x**3).sum(-1), [cubed(factor)], x)
        assert cause == "factor" and sentence.startswith(f"off by a constant factor of {factor:.6g} = ")
        assert sentence.endswith(words)
    assert "ddof" not in said(plant, lambda x: x**3, [lambda g, y, x: g * 3 * x * x * 1.5], x)[1][0]


def cubed(factor):
    return lambda g, y, x: factor * g[..., None] * 3 * x * x


def test_a_gradient_that_does_not_arrive_is_no_other_mistake(plant):
    for rule in (lambda g, y, x: 0 * g, lambda g, y, x: np.zeros_like(x)):
        cause, sentences = said(plant, np.sin, [rule], WIDE)
        assert (cause, sentences) == (
            "detached", ["no gradient arrives: the input is detached, or its rule returns zeros"])  # fmt: skip
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda x, y: tg.sin(x) + y.detach() * 1.0, ROW, ROW + 1)
    assert caught.value.input == 1 and caught.value.cause == "detached"
