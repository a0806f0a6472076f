"""Derivatives far from where differences are taken: from the smallest magnitudes to the largest, in both tails.

The other properties draw their values from [-2, 2]. A rule that is wrong only beyond would pass them all, so every
function of numbers is compared with the complex step (Squire and Trapp 1998), which loses no digits anywhere.
"""

import numpy as np
import pytest

import tinygrad_rnn as tg

RNG = np.random.default_rng(0)


def spread(smallest, largest, count=60):
    """Numbers of both signs, evenly spread over the decades."""
    x = np.geomspace(smallest, largest, count) * RNG.uniform(0.8, 1.0, count)
    return np.concatenate([-x[::-1], x])


def above_zero(smallest, largest):
    return np.abs(spread(smallest, largest))


UNARY = {
    "negative": (lambda z: -z, spread(1e-250, 1e250)),
    "exp": (np.exp, spread(1e-6, 600)),
    "expm1": (np.expm1, spread(1e-6, 600)),
    "log": (np.log, above_zero(1e-250, 1e250)),
    "log1p": (np.log1p, np.concatenate([-above_zero(1e-12, 0.999), above_zero(1e-12, 1e100)])),
    "sqrt": (np.sqrt, above_zero(1e-250, 1e250)),
    "square": (lambda z: z * z, spread(1e-120, 1e120)),
    "sin": (np.sin, spread(1e-6, 200)),
    "cos": (np.cos, spread(1e-6, 200)),
    "tanh": (np.tanh, spread(1e-6, 15)),
    "sigmoid": (
        lambda z: np.where(z.real < 0, np.exp(z) / (1 + np.exp(z)), 1 / (1 + np.exp(-z))),
        np.concatenate([spread(1e-6, 30), [-40.0, -80.0, -300.0]]),
    ),
    "softplus": (lambda z: np.log1p(np.exp(z)), spread(1e-6, 300)),
}


def complex_step(f, *points, which=0):
    """df/dx at each point on its own; the step is relative, so that neither it nor its product underflows."""
    step = 1e-20 * np.where(points[which] == 0, 1.0, np.abs(points[which]))
    shifted = [p + 1j * step if i == which else p + 0j for i, p in enumerate(points)]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.imag(f(*shifted)) / step


def ours(name, *points, g=1.0):
    xs = [tg.Tensor(p, requires_grad=True) for p in points]
    tg.OPS[name](*xs).backward(np.full(points[0].shape, g))
    return [x.grad.numpy() for x in xs]


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_number(name):
    f, x = UNARY[name]
    # In y of size 1, rounding is 1e-16; that much is lost of 1 - tanh² ~ e^-2|x|, and of y (1 - y) ~ e^-x.
    tail = {"tanh": 2 * np.abs(x), "sigmoid": x}.get(name, np.full(x.shape, -np.inf))
    tolerance = 1e-13 + 1e-16 * np.exp(tail)
    (found,) = ours(name, x, g=-0.75)
    expected = -0.75 * complex_step(f, x)
    assert (np.abs(found - expected) <= tolerance * np.abs(expected)).all()


def _s(x):
    return np.where(x < 0, np.exp(np.minimum(x, 0)) / (1 + np.exp(np.minimum(x, 0))), 1 / (1 + np.exp(-np.abs(x))))


SECOND = {
    "negative": lambda x: 0 * x,
    "exp": np.exp,
    "expm1": np.exp,
    "log": lambda x: -1 / x / x,
    "log1p": lambda x: -1 / (1 + x) / (1 + x),
    "sqrt": lambda x: -0.25 / x / np.sqrt(x),
    "square": lambda x: 2 + 0 * x,
    "sin": lambda x: -np.sin(x),
    "cos": lambda x: -np.cos(x),
    "tanh": lambda x: -2 * np.tanh(x) / np.cosh(x) ** 2,
    "sigmoid": lambda x: _s(x) * _s(-x) * (_s(-x) - _s(x)),
    "softplus": lambda x: _s(x) * _s(-x),
}


@pytest.mark.parametrize("name", UNARY)
def test_second_derivatives_of_functions_of_one_number(name):
    _, x = UNARY[name]
    x = x[np.abs(x) < {"log": 1e100, "sqrt": 1e100, "softplus": 30}.get(name, np.inf)]
    x = x[(np.abs(x) > 1e-100)]
    leaf = tg.Tensor(x, requires_grad=True)
    (first,) = tg.grad(tg.OPS[name](leaf), (leaf,), np.full(x.shape, -0.75), create_graph=True)
    if name == "negative":
        assert not first.requires_grad
        return
    found = tg.grad(first, leaf, np.ones(x.shape)).numpy()
    tail = {"tanh": 2 * np.abs(x), "sigmoid": x, "softplus": x}.get(name, np.full(x.shape, -np.inf))
    expected = -0.75 * SECOND[name](x)
    nearly_zero = 1e-16 * (np.abs(x) < 1)  # of σ (1 - σ) (1 - 2 σ) at 0
    assert (np.abs(found - expected) <= (1e-12 + 1e-15 * np.exp(tail)) * np.abs(expected) + nearly_zero).all()


SECOND_OF_TWO = {
    "multiply": lambda a, b: (0 * a, 1 + 0 * a, 0 * a),
    "divide": lambda a, b: (0 * a, -1 / b / b, 2 * a / b / b / b),
    "power": lambda a, b: (
        b * (b - 1) * a ** (b - 2),
        a ** (b - 1) * (1 + b * np.log(a)),
        a**b * np.log(a) ** 2,
    ),
}


@pytest.mark.parametrize("name", SECOND_OF_TWO)
def test_second_derivatives_of_functions_of_two_numbers(name):
    _, *points = BINARY[name]
    if name == "divide":
        points = [np.clip(np.abs(p), 1e-40, 1e40) * np.sign(p) for p in points]
    a, b = (tg.Tensor(p, requires_grad=True) for p in points)
    ones = np.ones(points[0].shape)
    by_a, by_b = tg.grad(tg.OPS[name](a, b), (a, b), -0.75 * ones, create_graph=True)
    found = [*tg.grad(by_a, (a, b), ones, allow_unused=True), *tg.grad(by_b, (a, b), ones, allow_unused=True)]
    aa, ab, bb = SECOND_OF_TWO[name](*points)
    for g, expected in zip(found, (aa, ab, ab, bb), strict=True):
        np.testing.assert_allclose(g.numpy(), -0.75 * expected, rtol=1e-11)


@pytest.mark.parametrize("name, left, right", [("relu", 0, 1), ("abs", -1, 1)])
def test_functions_with_a_kink(name, left, right):
    x = spread(1e-250, 1e250)
    assert (ours(name, x, g=-0.75)[0] == -0.75 * np.where(x > 0, right, left)).all()


def test_a_leak_is_the_same_everywhere():
    x = tg.Tensor(spread(1e-250, 1e250), requires_grad=True)
    tg.leaky_relu(x, 0.25).backward(np.full(x.shape, -0.75))
    assert (x.grad.numpy() == np.where(x.numpy() > 0, -0.75, -0.75 * 0.25)).all()


PAIRS = RNG.permutation(spread(1e-100, 1e100)), spread(1e-100, 1e100)
EXPONENTS = np.concatenate([RNG.uniform(-20, 20, 60), RNG.permutation(np.repeat([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0], 10))])
BINARY = {
    "add": (lambda a, b: a + b, *PAIRS),
    "subtract": (lambda a, b: a - b, *PAIRS),
    "multiply": (lambda a, b: a * b, *PAIRS),
    "divide": (lambda a, b: a / b, *PAIRS),
    "power": (lambda a, b: np.exp(b * np.log(a)), above_zero(1e-3, 1e3), EXPONENTS),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("which", [0, 1])
def test_functions_of_two_numbers(name, which):
    f, *points = BINARY[name]
    found = ours(name, *points, g=-0.75)[which]
    np.testing.assert_allclose(found, -0.75 * complex_step(f, *points, which=which), rtol=1e-12)


def test_integer_powers_of_negative_numbers():
    a, b = -above_zero(1e-3, 1e3), np.tile([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0], 15)
    x = tg.Tensor(a, requires_grad=True)
    (x**b).backward(np.full(a.shape, -0.75))
    np.testing.assert_allclose(x.grad.numpy(), -0.75 * b * a ** (b - 1), rtol=1e-13)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
@pytest.mark.parametrize("width", [1e-6, 1.0, 50.0, 700.0])
def test_normalised_rows(name, width):
    x = RNG.uniform(-width, width, (5, 4)) + RNG.choice([-1e3, 0.0, 1e3], (5, 1))
    weights = RNG.uniform(0.5, 1.5, (5, 4) if "soft" in name else (5,))

    def f(z):
        shifted = z - np.max(z.real, axis=-1, keepdims=True)
        e = np.exp(shifted)
        total = e.sum(axis=-1, keepdims=True)
        whole = {"softmax": e / total, "log_softmax": shifted - np.log(total)}
        return whole.get(name, (np.log(total) + np.max(z.real, axis=-1, keepdims=True))[..., 0])

    leaf = tg.Tensor(x, requires_grad=True)
    y = tg.logsumexp(leaf, axis=-1) if name == "logsumexp" else getattr(tg, name)(leaf)
    y.backward(weights)
    numeric = np.zeros_like(x)
    for k in range(4):
        z = x + 0j
        z[:, k] += 1e-20j
        numeric[:, k] = (weights * np.imag(f(z)) / 1e-20).reshape(5, -1).sum(-1)
    np.testing.assert_allclose(leaf.grad.numpy(), numeric, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_float32_follows_float64(name):
    _, *points = UNARY.get(name) or BINARY[name]
    # What float32 can hold, with room for the result and its derivative; 1 - y² and y (1 - y) lose digits further out.
    near = 3.0 if name in ("tanh", "sigmoid") else 20.0
    points = [np.clip(np.abs(p), 1e-3, near) * np.sign(p) for p in points]
    points = [p.astype(np.float32) for p in points]
    if name == "log1p":
        points = [np.clip(points[0], -0.9, None)]
    wide = ours(name, *[p.astype(np.float64) for p in points], g=-0.75)
    narrow = ours(name, *points, g=-0.75)
    for a, b in zip(wide, narrow, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(b, a, rtol=3e-5)


def test_one_tensor_as_both_operands():
    x = np.array([0.5, 1.5, 2.5])
    cases = {"add": 2 + 0 * x, "subtract": 0 * x, "multiply": 2 * x, "divide": 0 * x, "power": x**x * (np.log(x) + 1)}
    cases |= {"maximum": 1 + 0 * x, "minimum": 1 + 0 * x}
    for name, expected in cases.items():
        leaf = tg.Tensor(x, requires_grad=True)
        tg.OPS[name](leaf, leaf).backward(np.array([2.0, -3.0, 0.5]))
        np.testing.assert_allclose(leaf.grad.numpy(), expected * [2.0, -3.0, 0.5], rtol=1e-13, atol=1e-15)
    a = tg.Tensor(np.random.default_rng(0).normal(size=(3, 3)), requires_grad=True)
    g = np.random.default_rng(1).normal(size=(3, 3))
    (a @ a).backward(g)
    np.testing.assert_allclose(a.grad.numpy(), g @ a.numpy().T + a.numpy().T @ g, rtol=1e-13)
    u, v, w = np.random.default_rng(2).normal(size=(3, 3, 3))
    for f, g in ((tg.concatenate, np.concatenate([u, v, w])), (tg.stack, np.stack([u, v, w]))):
        np.testing.assert_allclose(tg.grad(f([a, a, a]), a, g).numpy(), u + v + w, rtol=1e-13)
    found = tg.grad(tg.einsum("ij,kj->ik", a, a), a, u).numpy()
    np.testing.assert_allclose(found, (u + u.T) @ a.numpy(), rtol=1e-13)
