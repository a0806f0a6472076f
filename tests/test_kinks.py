"""What the gradient is where there is none, and where arithmetic is at its limits: each with its exact value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_rnn as tg
from tinygrad_rnn.testing import gradcheck

EXTREMES = [-1e3, -750.0, -100.0, -1.0, 0.0, 1.0, 100.0, 750.0, 1e3]
TIED = hnp.arrays(float, hnp.array_shapes(max_dims=3, max_side=3), elements=st.integers(-1, 1).map(float))


def gradients(f, *values, seed=None):
    """What arrives at each value."""
    y, pull = tg.vjp(f, *values)
    return [g.numpy().tolist() for g in pull(np.ones(y.shape) if seed is None else seed)]


# Ties and kinks


@pytest.mark.parametrize("f", [tg.maximum, tg.minimum])
def test_tied_operands_share_equally(f):
    assert gradients(f, [1.0, 0.0], [1.0, 0.0], seed=[3.0, -1.0]) == [[1.5, -0.5], [1.5, -0.5]]
    assert gradients(f, [1.0, 1.0], 1.0, seed=[3.0, 5.0]) == [[1.5, 2.5], 4.0]


@pytest.mark.parametrize("f", [tg.max, tg.min])
def test_tied_elements_share_equally(f):
    assert gradients(f, [2.0, 2.0, 2.0, 2.0], seed=3.0) == [[0.75] * 4]
    (g,) = gradients(lambda x: f(x, axis=1), [[1.0, 1.0], [1.0, 1.0]], seed=[3.0, 5.0])
    assert g == [[1.5, 1.5], [2.5, 2.5]]
    (g,) = gradients(lambda x: f(x, axis=(0, -1), keepdims=True), np.zeros((2, 3, 2)), seed=[[[4.0], [8.0], [0.0]]])
    assert g == [[[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]]] * 2


def test_only_the_tied_extremes_share():
    assert gradients(tg.max, [2.0, 1.0, 2.0], seed=3.0) == [[1.5, 0.0, 1.5]]
    assert gradients(tg.min, [2.0, 1.0, 2.0], seed=3.0) == [[0.0, 3.0, 0.0]]


def test_where_the_extreme_is_nan_the_nans_share():
    for f in (tg.max, tg.min):
        assert gradients(f, [1.0, np.nan, np.nan], seed=3.0) == [[0.0, 1.5, 1.5]]


@given(TIED, st.sampled_from([None, 0, -1]), st.sampled_from(["float64", "float32"]))
def test_shares_of_ties_are_positive_and_sum_to_the_gradient(x, axis, dtype):
    x = x.astype(dtype)
    for f, extreme in ((tg.max, np.max), (tg.min, np.min)):
        y, pull = tg.vjp(lambda z, f=f: f(z, axis=axis, keepdims=True), x)
        share = pull(np.ones(y.shape))[0].numpy()
        chosen = x == extreme(x, axis=axis, keepdims=True)
        expected = chosen / chosen.sum(axis=axis, keepdims=True)
        np.testing.assert_allclose(share, expected, rtol=4 * np.finfo(dtype).eps)


def test_a_share_is_that_of_the_cotangent_s_derivative_too():
    """At a tie nothing has a second derivative in x, but the gradient is linear in g still."""
    x = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
    for f, options in ((tg.max, {"axis": 1}), (tg.min, {"axis": 0}), (tg.maximum, {}), (tg.minimum, {})):
        leaf = tg.Tensor(x, requires_grad=True)
        y = f(leaf, **options) if options else f(leaf, x[:1])
        u = tg.Tensor(np.arange(1.0, 1 + y.size).reshape(y.shape), requires_grad=True)
        (g,) = tg.grad(y, (leaf,), u, create_graph=True)
        w = np.array([[1.0, 2.0, 4.0], [8.0, -1.0, 0.5]])
        share = tg.grad(g, u, w).numpy()
        np.testing.assert_allclose(np.sum(share * u.numpy()), np.sum(g.numpy() * w), rtol=1e-14)
        once = [tg.grad(y, leaf, np.eye(y.size)[k].reshape(y.shape)).numpy() for k in range(y.size)]
        np.testing.assert_allclose(share.reshape(-1), [np.sum(o * w) for o in once], rtol=1e-14)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_kinks_at_zero(zero):
    assert gradients(tg.abs, zero, seed=3.0) == [0.0]
    assert gradients(tg.relu, zero, seed=3.0) == [0.0]
    assert gradients(tg.leaky_relu, zero, seed=3.0) == [0.03]
    assert gradients(lambda x: tg.leaky_relu(x, 0.25), zero, seed=3.0) == [0.75]
    assert gradients(tg.abs, [-1.0, zero, 1.0], seed=[3.0, 3.0, 3.0]) == [[-3.0, 0.0, 3.0]]


def test_clip_passes_on_its_bounds():
    assert gradients(lambda x: tg.clip(x, -1, 1), [-1.5, -1.0, 0.0, 1.0, 1.5]) == [[0.0, 1.0, 1.0, 1.0, 0.0]]
    assert gradients(lambda x: tg.clip(x, None, 1), [-1.5, 1.0, 1.5]) == [[1.0, 1.0, 0.0]]
    assert gradients(lambda x: tg.clip(x, -1, None), [-1.5, -1.0, 1.5]) == [[0.0, 1.0, 1.0]]
    assert gradients(lambda x: tg.clip(x, [0.0, 2.0], [1.0, 3.0]), [0.5, 0.5]) == [[1.0, 0.0]]


@pytest.mark.parametrize("a, b", [((1,), (3,)), ((), (2, 3)), ((2, 1), (3,)), ((3,), (2, 3)), ((2, 3), (1,))])
@pytest.mark.parametrize("bound", ["a_min", "a_max"])
def test_bounds_that_stretch_what_is_clipped(a, b, bound):
    """⟨gradient, v⟩ = ⟨g, v where x is kept⟩."""
    rng = np.random.default_rng(1)
    x, limit, v = rng.normal(size=a), rng.normal(size=b) / 2, rng.normal(size=a)
    y, pull = tg.vjp(lambda z: tg.clip(z, **{bound: limit}), x)
    np.testing.assert_array_equal(y.numpy(), np.clip(x, *((limit, None) if bound == "a_min" else (None, limit))))
    g = rng.normal(size=y.shape)
    kept = x > limit if bound == "a_min" else x < limit
    np.testing.assert_allclose(np.vdot(pull(g)[0].numpy(), v), np.sum(g * kept * v), rtol=1e-13)


# Powers and products around zero


def test_powers_of_zero():
    (base, exponent) = gradients(tg.power, np.zeros(5), [0.0, 0.5 + 0.5, 2.0, 3.0, 1.5])
    assert base == [0.0, 1.0, 0.0, 0.0, 0.0]
    assert exponent == [0.0, 0.0, 0.0, 0.0, 0.0]
    assert gradients(lambda x: x**0, [0.0, 2.0]) == [[0.0, 0.0]]
    assert gradients(lambda x: x**1, [0.0, 2.0]) == [[1.0, 1.0]]
    assert gradients(lambda x: x**2, [0.0, 2.0]) == [[0.0, 4.0]]
    assert tg.hessian(lambda x: x**2, 0.0).item() == 2.0
    assert tg.hessian(lambda x: x**1, 0.0).item() == 0.0
    assert tg.hessian(lambda x: x**3, 0.0).item() == 0.0


def test_second_derivatives_of_a_power_where_its_exponent_is_zero():
    """∂²(a^b) / ∂a ∂b = a^(b-1) (1 + b log a), which is 1 / a here, although ∂(a^b) / ∂a is 0."""
    found = tg.hessian(lambda v: v[0] ** v[1], [2.0, 0.0]).numpy()
    np.testing.assert_allclose(found, [[0.0, 0.5], [0.5, np.log(2) ** 2]], rtol=1e-15)


@pytest.mark.parametrize("n", [-2, -1, 0, 1, 2, 3])
def test_integer_powers_of_negative_numbers(n):
    gradcheck(lambda x: x**n, [-1.5, 0.75, -0.25], order=2)


@given(hnp.arrays(float, hnp.array_shapes(max_dims=2, max_side=4), elements=st.sampled_from([0.0, 0.0, 1.5, -2.0])))
def test_products_with_zeros(x):
    gradcheck(tg.prod, x, order=2)
    gradcheck(lambda z: tg.prod(z, axis=-1), x)


# The branch that is not taken


def test_the_branch_not_taken_gets_exactly_zero():
    x = np.array([0.0, 4.0])
    (g,) = gradients(lambda z: tg.where(x > 0, tg.sqrt(tg.where(x > 0, z, 1.0)), 0.0), x)
    assert g == [0.0, 0.25]
    a, b = gradients(
        lambda p, q: tg.where(np.array([True, False]), p, q), [1.0, np.inf], [np.nan, 2.0], seed=[3.0, 5.0]
    )
    assert (a, b) == ([3.0, 0.0], [0.0, 5.0])


def test_relu_of_infinities():
    assert gradients(tg.relu, [-np.inf, np.inf]) == [[0.0, 1.0]]


# Saturation: right values, and no warning (warnings are errors in these tests)


@pytest.mark.parametrize("x", EXTREMES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_saturated_functions_neither_overflow_nor_warn(x, dtype):
    for f, bound in ((tg.sigmoid, 0.25), (tg.tanh, 1.0), (tg.softplus, 1.0)):
        y, pull = tg.vjp(f, np.array(x, dtype))
        (g,) = pull(np.ones((), dtype))
        assert np.isfinite(y.item()) and 0 <= g.item() <= bound and g.dtype == np.dtype(dtype)
    assert tg.softplus(tg.Tensor(x)).item() == pytest.approx(max(x, 0.0) + np.log1p(np.exp(-abs(x))), rel=1e-14)
    assert tg.sigmoid(tg.Tensor(x)).item() == pytest.approx(np.exp(min(x, 0.0)) / (1 + np.exp(-abs(x))), rel=1e-12)


@pytest.mark.parametrize("height", EXTREMES)
def test_softmax_family_depends_on_differences_only(height):
    x = np.array([[0.0, 1.0, -2.0], [0.5, 0.5, 0.25]])
    for f in (tg.softmax, tg.log_softmax, lambda z: tg.cross_entropy(z, np.array([2, 0]))):
        y, pull = tg.vjp(f, x)
        moved, moved_pull = tg.vjp(f, x + height)
        u = np.arange(1.0, 1 + y.size).reshape(y.shape)
        np.testing.assert_allclose(moved.numpy(), y.numpy(), rtol=1e-11)
        np.testing.assert_allclose(moved_pull(u)[0].numpy(), pull(u)[0].numpy(), rtol=1e-11, atol=1e-12)
    total, lowest = (tg.logsumexp(tg.Tensor(z), axis=1).numpy() for z in (x + height, x))
    np.testing.assert_allclose(total, lowest + height, rtol=1e-14, atol=1e-13)


def test_losses_at_the_extremes():
    logits = np.array([[1e3, -1e3, 0.0], [-1e3, 1e3, 0.0]])
    y, pull = tg.vjp(lambda z: tg.cross_entropy(z, np.array([1, 1])), logits)
    assert y.item() == 1000.0
    assert pull(1.0)[0].numpy().tolist() == [[0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]


def test_logsumexp_of_minus_infinity():
    y, pull = tg.vjp(tg.logsumexp, [-np.inf, 0.0])
    assert y.item() == 0.0
    assert pull(1.0)[0].numpy().tolist() == [0.0, 1.0]


# Repeated indices


def test_an_element_picked_twice_gets_both_gradients():
    assert gradients(lambda x: x[[0, 0, -1, -1, 0]], [1.0, 2.0, 3.0], seed=[1.0, 2, 4, 8, 16]) == [[19.0, 0.0, 12.0]]
    (g,) = gradients(
        lambda x: x[np.array([[0, 0], [1, 0]]), [[1, 1], [0, 1]]], np.zeros((2, 2)), seed=[[1.0, 2], [4, 8]]
    )
    assert g == [[0.0, 11.0], [4.0, 0.0]]
    hessian = tg.hessian(lambda x: tg.sum(x[[0, 0, 1]] ** 3), [1.0, 2.0]).numpy()
    assert hessian.tolist() == [[12.0, 0.0], [0.0, 12.0]]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 13, 16])
def test_products_of_many_are_the_product_over_each(count):
    x = np.random.default_rng(count).choice([-1.0, 1.0], (2, count)) * np.linspace(0.5, 1.5, 2 * count).reshape(2, -1)
    (g,) = tg.vjp(lambda z: tg.prod(z, axis=1), x)[1](np.array([3.0, -1.0]))
    np.testing.assert_allclose(g.numpy(), np.array([[3.0], [-1.0]]) * x.prod(1, keepdims=True) / x, rtol=1e-13)


def test_cross_entropy_of_sequences_is_that_of_all_their_steps():
    logits, labels = np.random.default_rng(0).normal(size=(2, 3, 4)), np.array([[0, 1, 3], [2, 2, 0]])
    y, pull = tg.vjp(lambda z: tg.cross_entropy(z, labels), logits)
    rows, flat_pull = tg.vjp(lambda z: tg.cross_entropy(z, [0, 1, 3, 2, 2, 0]), logits.reshape(6, 4))
    assert y.item() == pytest.approx(rows.item(), rel=1e-14)
    np.testing.assert_allclose(pull(1.0)[0].numpy().reshape(6, 4), flat_pull(1.0)[0].numpy(), rtol=1e-13)


@pytest.mark.parametrize("b, slope", [(-2.0, -np.inf), (-0.5, -np.inf), (0.0, 0.0), (1.0, 0.0)])
def test_zero_to_a_negative_power_grows_without_bound_in_its_exponent(b, slope):
    exponent = tg.Tensor(b, requires_grad=True)
    with np.errstate(all="ignore"):
        assert tg.grad(tg.power(tg.Tensor(0.0), exponent), exponent).item() == slope
