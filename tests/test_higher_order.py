"""Jacobian, Hessian and Hessian-vector products against each other and against differences, on random functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import grid

import tinygrad_rnn as tg
from tinygrad_rnn import autodiff
from tinygrad_rnn.autodiff import history
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


# -- What a function takes from outside --------------------------------------------------------------------------------

x0, w0 = np.array([0.5, -1.0, 2.0]), np.array([1.5, 0.7, -0.4])
SCALARS = {"hvp", "hessian"}
TRANSFORMS = {
    "vjp's value": lambda f, x: tg.vjp(f, x)[0],
    "vjp": lambda f, x: (lambda y, pull: pull(np.linspace(-1, 2, y.size).reshape(y.shape))[0])(*tg.vjp(f, x)),
    "jvp's value": lambda f, x: tg.jvp(f, (x,), (np.ones(np.shape(x)),))[0],
    "jvp": lambda f, x: tg.jvp(f, (x,), (np.linspace(-1, 2, np.size(x)).reshape(np.shape(x)),))[1],
    "jacobian": tg.jacobian,
    "hvp": lambda f, x: tg.hvp(f, (x,), (np.linspace(-1, 2, np.size(x)).reshape(np.shape(x)),))[0],
    "hessian": tg.hessian,
}


def transformed(name, f, x):
    """A transform of f at x, of the sum of its squares where it needs a scalar."""
    return TRANSFORMS[name]((lambda z: tg.sum(tg.square(f(z)))) if name in SCALARS else f, x)


@pytest.mark.parametrize("name", TRANSFORMS)
@settings(max_examples=max(4, settings().max_examples // 5))
@given(programs(most=3), SEEDS)
def test_what_is_closed_over_is_differentiated(name, program, seed):
    """By any transform of a random program, with respect to what it takes from outside, beside differences."""
    gradcheck(
        lambda *xs: transformed(name, lambda z: program(z, *xs), program.leaves[0]), *program.leaves[1:], rng=seed
    )


@pytest.mark.parametrize("inner", TRANSFORMS)
@pytest.mark.parametrize("outer", TRANSFORMS)
@pytest.mark.parametrize("closed", ["leaf", "in the middle", "primal too"])
def test_transforms_in_transforms_see_everything(outer, inner, closed):
    """f(p, q) = sin(w p) sin(q) + p: a transform in q inside of one in p, differentiated in w; beside differences."""

    def whole(w):
        near = {"leaf": w, "in the middle": tg.sin(w) * w, "primal too": w}[closed]

        def of_p(p):
            f = lambda q: tg.sin(near * p) * tg.sin(q) * q + p  # noqa: E731
            return transformed(inner, f, near if closed == "primal too" else x0[:2])

        return tg.sum(transformed(outer, of_p, w0[:2]))

    at = w0[1:] + 0.3
    found = tg.grad(whole(w := tg.Tensor(at, requires_grad=True)), w, allow_unused=True).data
    steps = 1e-3 * np.eye(2)
    with tg.no_grad():
        value = lambda v: whole(tg.Tensor(v)).item()  # noqa: E731
        expected = [
            (8 * (value(at + s) - value(at - s)) - value(at + 2 * s) + value(at - 2 * s)) / 12e-3 for s in steps
        ]
    np.testing.assert_allclose(found, expected, 2e-7, 2e-7 * np.abs(expected).max())


def test_mixed_partials_and_gradient_penalties():
    mixed = tg.jacobian(lambda p: tg.jacobian(lambda q: tg.sin(tg.sin(p) + tg.sin(q)), 0.5), 0.7)
    assert mixed.item() == pytest.approx(-np.sin(np.sin(0.7) + np.sin(0.5)) * np.cos(0.7) * np.cos(0.5), rel=1e-14)
    W = tg.Tensor(np.arange(6.0).reshape(2, 3) / 7 - 0.3, requires_grad=True)
    penalty = lambda W: tg.sum(tg.square(tg.jacobian(lambda x: tg.tanh(W @ x), x0)))  # noqa: E731
    slope = 1 - np.tanh(W.data @ x0) ** 2
    back = -2 * np.tanh(W.data @ x0) * slope
    expected = 2 * slope[:, None] ** 2 * W.data
    expected += np.outer(2 * slope * back * np.square(W.data).sum(axis=1), x0)
    close(tg.grad(penalty(W), W).data, expected)
    gradcheck(penalty, W.data)


def test_a_tangent_and_a_cotangent_may_need_a_gradient_where_nothing_else_does():
    v = tg.Tensor(w0, requires_grad=True)
    f = lambda z: tg.sin(z) * z[::-1]  # noqa: E731
    J = tg.jacobian(f, x0).data
    y, dy = tg.jvp(f, (x0,), (v,))
    assert not y.requires_grad
    close(tg.grad(dy, v, w0).data, J.T @ w0)
    y, pull = tg.vjp(f, x0)
    assert not y.requires_grad
    close(tg.grad(pull(v * 1.0)[0], v, w0).data, J @ w0)
    energy = lambda z: tg.sum(f(z) * z)  # noqa: E731
    (product,) = tg.hvp(energy, (x0,), (v,))
    close(tg.grad(product, v, w0).data, tg.hessian(energy, x0).data @ w0)
    twice = tg.jvp(lambda t: tg.jvp(f, (x0,), (t,))[1], (w0,), (x0,))[1]  # linear in its tangent
    close(twice.data, J @ x0)
    second = tg.jvp(lambda z: tg.jvp(f, (z,), (w0,))[1], (x0,), (w0,))[1]
    close(second.data, np.einsum("ijk,j,k->i", tg.jacobian(lambda z: tg.jacobian(f, z), x0).data, w0, w0))


def test_results_are_differentiable_exactly_where_somebody_outside_can_differentiate_them():
    w = tg.Tensor(3.0, requires_grad=True)
    made = []

    def lazily(y):
        made.append(tg.Tensor(5.0, requires_grad=True))  # as a layer that is built at its first call
        return made[-1] * y

    def results(f):
        y, pull = tg.vjp(f, 2.0)
        value, dy = tg.jvp(f, (2.0,), (1.0,))
        return [y, pull(1.0)[0], value, dy, tg.jacobian(f, 2.0), tg.hvp(f, (2.0,), (1.0,))[0], tg.hessian(f, 2.0)]

    expected = {
        "nothing from outside": (lambda y: y * y * y, [False] * 7),
        "its square": (lambda y: w * w.detach() * y * y * y, [True] * 7),
        "its derivative does not": (lambda y: w + y * y * y, [True, False, True, False, False, False, False]),
        "made inside": (lazily, [True, True, True, True, True, False, False]),
        "what is closed over": (lambda y: w, [True, False, True, False, False, False, False]),
        "what is given": (lambda y: y, [False] * 7),
        "a constant": (lambda y: tg.Tensor(1.0), [False] * 7),
    }
    for name, (f, wanted) in expected.items():
        assert [r.requires_grad for r in results(f)] == wanted, name
        with tg.no_grad():
            unrecorded = results(f)
        assert not any(r.requires_grad for r in unrecorded), name
        for a, b in zip(unrecorded, results(f), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    assert tg.vjp(lambda y: w, 2.0)[0] is w
    assert tg.grad(tg.vjp(lazily, 2.0)[1](1.0)[0], made[-1]).item() == 1.0
    y, pull = tg.vjp(lambda y: w * y, w)  # a primal and closed over
    assert tg.grad(pull(1.0)[0], w).item() == 1.0 and tg.grad(y, w).item() == 6.0
    with tg.no_grad():
        assert not pull(1.0)[0].requires_grad and not pull(w)[0].requires_grad
        assert tg.jacobian(lambda y: y * y, w).item() == 6.0


def test_a_transform_walks_no_further_than_to_what_is_closed_over(monkeypatch):
    w = tg.Tensor(0.5, requires_grad=True)
    h = w
    for _ in range(50):
        h = tg.sin(h)
    walked = []
    monkeypatch.setattr(autodiff, "history", lambda *given: walked.append(len(history(*given))) or history(*given))
    (g,) = tg.vjp(lambda y: h * y * y, 2.0)[1](1.0)
    assert max(walked) < 5 and g.item() == pytest.approx(4 * h.item())
    slope = tg.grad(h, w).item()
    assert tg.grad(g, w).item() == pytest.approx(4 * slope)
    h.backward(retain_graph=False)
    assert tg.jacobian(lambda y: h * y, 2.0).item() == h.item(), "whose graph was freed"
    with pytest.raises(tg.GradientError, match="freed"):
        tg.grad(tg.jacobian(lambda y: h * y, 2.0), w)


def test_gradients_that_can_be_differentiated_accumulate_too():
    x = tg.Tensor([2.0, -1.0], requires_grad=True)
    for _ in range(2):
        tg.sum(x**3).backward(create_graph=True)
    np.testing.assert_allclose(x.grad.numpy(), 6 * x.numpy() ** 2)
    np.testing.assert_allclose(tg.grad(tg.sum(x.grad), x).numpy(), 12 * x.numpy())
    x.grad = None


def test_what_does_not_depend_on_its_operands_has_a_jacobian_of_zeros():
    assert not tg.jacobian(lambda x: tg.Tensor(np.ones(2)), np.ones(3)).numpy().any()


def test_a_function_without_operands_can_be_pulled_back():
    w = tg.Tensor(3.0, requires_grad=True)
    y, pull = tg.vjp(lambda: w * w)
    assert y.item() == 9.0 and pull(1.0) == () and tg.grad(y, w).item() == 6.0


def test_a_graph_that_gradients_refer_to_is_kept_whatever_else_is_asked():
    x = tg.Tensor([2.0, -1.0], requires_grad=True)
    y = tg.sum(x**3)
    y.backward(create_graph=True, retain_graph=False)
    np.testing.assert_allclose(tg.grad(tg.sum(x.grad), x).numpy(), 6 * x.numpy())
    np.testing.assert_allclose(tg.grad(y, x).numpy(), 3 * x.numpy() ** 2)
    x.grad = None
