"""Jacobian, Hessian and Hessian-vector products against each other and against differences, on random functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import grid

import tinygrad_rnn as tg
from tinygrad_rnn.testing import gradcheck
from tinygrad_rnn.testing.strategies import programs

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=max(10, settings().max_examples // 2))


def of_first(program):
    """The program as a function of its first leaf."""
    return lambda x: program(x, *(tg.Tensor(leaf) for leaf in program.leaves[1:]))


def scalar(program, seed):
    """A scalar function of the same leaves: a random weighting of the program's result."""

    def f(*xs):
        y = program(*xs)
        return tg.sum(y * np.random.default_rng(seed).uniform(-1.5, 1.5, y.shape))

    return f


def close(actual, expected, rtol=1e-10):
    np.testing.assert_allclose(actual, expected, rtol, rtol * np.abs(expected).max(initial=1.0))


@FEW
@given(programs(most=6))
def test_rows_of_the_jacobian_are_vjps(program):
    f, x = of_first(program), program.leaves[0]
    y, pull = tg.vjp(f, x)
    jacobian = tg.jacobian(f, x)
    assert jacobian.shape == y.shape + x.shape and jacobian.dtype == x.dtype
    for element in np.ndindex(y.shape):
        unit = np.zeros(y.shape)
        unit[element] = 1
        np.testing.assert_array_equal(jacobian.numpy()[element], pull(unit)[0].numpy())


@FEW
@given(programs(most=6))
def test_columns_of_the_jacobian_are_jvps(program):
    f, x = of_first(program), program.leaves[0]
    jacobian = tg.jacobian(f, x).numpy()
    for element in np.ndindex(x.shape):
        unit = np.zeros(x.shape)
        unit[element] = 1
        close(tg.jvp(f, (x,), (unit,))[1].numpy(), jacobian[(..., *element)])


@FEW
@given(programs(most=5), SEEDS)
def test_hessian_is_symmetric_and_contains_the_hvps(program, seed):
    x = program.leaves[0]
    f = scalar(of_first(program), seed)
    hessian = tg.hessian(f, x).numpy()
    assert hessian.shape == x.shape + x.shape
    matrix = hessian.reshape(x.size, x.size)
    close(matrix, matrix.T)
    v = np.random.default_rng(seed).normal(size=x.shape)
    (product,) = tg.hvp(f, (x,), (v,))
    close(product.numpy().reshape(-1), matrix @ v.reshape(-1))


@FEW
@given(programs(most=5), SEEDS)
def test_hvp_is_the_difference_of_gradients(program, seed):
    f, rng = scalar(program, seed), np.random.default_rng(seed)
    tangents = [rng.choice([-1.0, 1.0], leaf.shape) for leaf in program.leaves]
    products = tg.hvp(f, program.leaves, tangents)

    def gradients(t):
        y, pull = tg.vjp(f, *(leaf + t * v for leaf, v in zip(program.leaves, tangents, strict=True)))
        return [g.numpy() for g in pull(np.ones(y.shape))]

    at = {t: gradients(t) for t in (-2e-4, -1e-4, 1e-4, 2e-4)}
    for i, product in enumerate(products):
        wide, narrow = ((at[h][i] - at[-h][i]) / (2 * h) for h in (2e-4, 1e-4))
        scale = max(1.0, *(np.abs(g[i]).max(initial=0.0) for g in at.values()))
        np.testing.assert_allclose(product.numpy(), (4 * narrow - wide) / 3, 1e-6, 1e-8 * scale)


@given(hnp.array_shapes(max_dims=2, max_side=3).flatmap(grid), SEEDS)
def test_third_derivatives_equal_differences(x, seed):
    gradcheck(lambda z: tg.tanh(z) * tg.exp(z) + z**3, x, order=3, rng=seed)


def test_derivatives_of_every_order_in_closed_form():
    for order, expected in enumerate([np.exp(0.5 * 1.5) * 0.5**k for k in range(6)]):
        f = lambda x: tg.exp(0.5 * x)  # noqa: E731
        for _ in range(order):
            f = lambda x, f=f: tg.jacobian(f, x)  # noqa: E731
        assert f(tg.Tensor(1.5)).item() == pytest.approx(expected, rel=1e-14)
    hessian = tg.hessian(lambda x: x[0] ** 2 * x[1] + tg.sin(x[1]), [3.0, 0.5]).numpy()
    np.testing.assert_allclose(hessian, [[1.0, 6.0], [6.0, -np.sin(0.5)]], rtol=1e-15)


def test_a_derivative_inside_a_derivative_keeps_its_own_variable():
    """d/dx [x · d/dy (x + y)] = 1: levels of differentiation are not confused."""

    def f(x):
        _, pull = tg.vjp(lambda y: x + y, x)
        return x * pull(np.ones(()))[0]

    assert tg.jacobian(f, 1.0).item() == 1.0
    nested = tg.jacobian(lambda x: x * tg.jacobian(lambda y: x * y * y, x), 3.0)  # d/dx of 2 x³
    assert nested.item() == pytest.approx(54.0, rel=1e-15)


def test_tangents_and_cotangents_may_be_differentiated_too():
    """J v and Jᵀ u are linear in v and u; and both in x, once more."""
    x, v = tg.Tensor([0.5, -1.0, 2.0], requires_grad=True), tg.Tensor([1.0, 2.0, -1.0], requires_grad=True)
    w = np.array([3.0, -1.0, 0.5])

    def f(z):
        return tg.sin(z) * z[::-1]

    jacobian = tg.jacobian(f, x.numpy()).numpy()
    _, dy = tg.jvp(f, (x,), (v,))
    by_v, by_x = tg.grad(dy, (v, x), w)
    close(by_v.numpy(), jacobian.T @ w)
    _, pull = tg.vjp(f, x)
    (g,) = pull(v)
    of_u, of_x = tg.grad(g, (v, x), w)
    close(of_u.numpy(), jacobian @ w)
    second = tg.jacobian(lambda z: tg.jacobian(f, z), x.numpy()).numpy()  # [i, j, k]: ∂² f_i / ∂x_j ∂x_k
    close(by_x.numpy(), np.einsum("ijk,i,j->k", second, w, v.numpy()))
    close(of_x.numpy(), np.einsum("ijk,i,j->k", second, v.numpy(), w))

    def energy(a, b):
        return tg.sum(tg.sin(a * b) * a)

    b = tg.Tensor(w, requires_grad=True)
    _, product = tg.hvp(energy, (x, b), (v, w))
    third = tg.grad(product, (x, b, v), np.ones(3))
    h = 1e-5
    for i, (at, g) in enumerate(zip((x, b, v), third, strict=True)):
        for k in range(3):
            moved = []
            for step in (h, -h):
                values = [t.numpy().copy() for t in (x, b, v)]
                values[i][k] += step
                moved.append(tg.hvp(energy, values[:2], (values[2], w))[1].numpy().sum())
            np.testing.assert_allclose(g.numpy()[k], (moved[0] - moved[1]) / (2 * h), rtol=1e-7, atol=1e-7)
        assert g.shape == at.shape
