"""Rules to judge the judge by: right ones that look wrong, and ones that are wrong at special points only."""

import math

import numpy as np

import tinygrad_rnn as tg


def rows(x):
    return np.sqrt((x * x).sum(-1, keepdims=True))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sum_last(x):
    return tg.sum(x, axis=-1, keepdims=True)


def erf(x):
    return np.vectorize(math.erf, otypes=[float])(x).astype(x.dtype) if x.size else x.astype(x.dtype)


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2, dtype=x.dtype))) / 2


def sorted_rule(g, y, x):
    out = np.zeros_like(x)
    np.put_along_axis(out, np.argsort(x, axis=-1, kind="stable"), g, -1)
    return out


def one_of_the_largest(g, y, x):
    out = np.zeros_like(x)
    np.put_along_axis(out, x.argmax(-1)[..., None], g[..., None], -1)
    return out


def median_rule(g, y, x):
    order, n = np.argsort(x, axis=-1), x.shape[-1]
    out = np.zeros_like(x)
    for k in {(n - 1) // 2, n // 2}:
        np.put_along_axis(out, order[..., k : k + 1], (g / (1 if n % 2 else 2))[..., None], -1)
    return out


def shared(g, y, x):
    equal = np.asarray(x) == np.asarray(y)[..., None]
    return g[..., None] * equal / np.maximum(equal.sum(-1, keepdims=True), 1)


def second_rule(g, y, x):
    out = np.zeros_like(x)
    np.put_along_axis(out, np.argsort(x, axis=-1, kind="stable")[..., -2:-1], g[..., None], -1)
    return out


def trimmed_rule(g, y, x):
    out, inner = np.zeros_like(x), np.argsort(x, axis=-1, kind="stable")[..., 1:-1]
    np.put_along_axis(out, inner, np.broadcast_to(g[..., None] / inner.shape[-1], inner.shape), -1)
    return out


def eigenvalues_rule(g, y, a):
    vectors = np.linalg.eigh((a + turned(a)) / 2)[1]
    return (vectors * g[..., None, :]) @ turned(vectors)


def singular_rule(g, y, a):
    left, _, right = np.linalg.svd(a, full_matrices=False)
    return (left * g[..., None, :]) @ right


def turned(a):
    return np.swapaxes(a, -1, -2)


def solve(a, b):
    return np.linalg.solve(a, b)


def norm_rule(g, y, x):
    """The gradient of the length of rows, 0 at 0 as others have it."""
    length = rows(x)
    return np.where(length > 0, g[..., None] * x / np.where(length > 0, length, 1), 0).astype(x.dtype)


def interpolated(x):
    return np.interp(x, [-1.0, 0.0, 2.0], [0.5, 1.0, -1.0]).astype(x.dtype)


def interpolated_rule(g, y, x):
    return (g * np.where((x > -1) & (x < 0), 0.5, np.where((x >= 0) & (x < 2), -1.0, 0.0))).astype(x.dtype)


def mish_rule(g, y, x):
    t = np.tanh(tg.softplus(x))
    return g * (t + x * (1 - t * t) * tg.sigmoid(x))


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def layer_norm_rule(g, y, x):
    s = np.sqrt(x.var(-1, keepdims=True) + 1e-5).astype(x.dtype)
    return (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True)) / s


def sinc_rule(g, y, x):
    safe = np.where(x == 0, 1, x)
    return (g * np.where(x == 0, 0, (np.cos(np.pi * safe) - np.sinc(safe)) / safe)).astype(x.dtype)


def powers(a, b):
    return np.power(np.abs(a) + 1, b)


# name: (forward, rules, options of check_primitive)
RIGHT = {
    "swish by its result": (
        lambda x: x / (1 + np.exp(-x)), [lambda g, y, x: g * (y + (1 - y) * tg.sigmoid(x))], {}),
    "tanh by its result": (np.tanh, [lambda g, y, x: g * (1 - y * y)], {}),
    "softplus by its result, losing digits": (
        lambda x: np.logaddexp(0, x).astype(x.dtype), [lambda g, y, x: g * (1 - np.exp(-y))], {}),
    "mish": (lambda x: x * np.tanh(np.logaddexp(0, x)).astype(x.dtype), [mish_rule], {}),
    "gelu, exact": (
        gelu, [lambda g, y, x: (g * ((1 + erf(x / 2**0.5)) / 2 + x * np.exp(-x * x / 2) / (2 * np.pi) ** 0.5)).astype(
            x.dtype)], {"order": 1}),
    "gelu by tanh": (
        lambda x: x * (1 + np.tanh(0.8 * (x + 0.04 * x**3))) / 2,
        [lambda g, y, x: g * ((1 + np.tanh(0.8 * (x + 0.04 * x**3))) / 2
                              + x / 2 * (1 - np.tanh(0.8 * (x + 0.04 * x**3)) ** 2) * 0.8 * (1 + 0.12 * x * x))], {}),
    "abs with the slope 1 at 0": (np.abs, [lambda g, y, x: g * np.where(np.asarray(x) >= 0, 1.0, -1.0)], {"order": 1}),
    "relu at 0 with 1/2": (
        lambda x: np.maximum(x, 0), [lambda g, y, x: g * ((np.sign(np.asarray(x)) + 1) / 2)], {"order": 1}),
    "hard shrink, which jumps": (
        lambda x: np.where(np.abs(x) > 0.5, x, 0), [lambda g, y, x: g * (np.abs(np.asarray(x)) > 0.5)], {"order": 1}),
    "floor": (np.floor, [lambda g, y, x: 0 * g], {"order": 1}),
    "cube root": (np.cbrt, [lambda g, y, x: g / (3 * y * y)], {"order": 1}),
    "square root": (np.sqrt, [lambda g, y, x: g / (2 * y)], {}),
    "x log x": (lambda x: x * np.log(x), [lambda g, y, x: g * (np.log(x) + 1)], {}),
    "logit": (lambda p: np.log(p / (1 - p)), [lambda g, y, p: g / (p * (1 - p))], {}),
    "arcsine": (np.arcsin, [lambda g, y, x: g / np.sqrt(1 - x * x)], {}),
    "inverse hyperbolic cosine": (np.arccosh, [lambda g, y, x: g / np.sqrt(x * x - 1)], {}),
    "sinc": (lambda x: np.sinc(x).astype(x.dtype), [sinc_rule], {"order": 1}),
    "fast oscillation": (lambda x: np.sin(300 * x), [lambda g, y, x: 300 * g * np.cos(300 * x)], {}),
    "steep sigmoid": (lambda x: np.tanh(500 * x), [lambda g, y, x: 500 * g * (1 - y * y)], {}),
    "large offset": (lambda x: np.tanh(x) + x.dtype.type(1e7), [lambda g, y, x: g * (1 - np.tanh(x) ** 2)],
                     {"skip": ["float32"]}),
    "tiny": (lambda x: x * x * x.dtype.type(1e-30), [lambda g, y, x: 2e-30 * g * x], {}),
    "interpolation with kinks": (interpolated, [interpolated_rule], {"order": 1}),
    "cusp": (
        lambda x: np.sqrt(np.abs(x)), [lambda g, y, x: g * np.sign(x) / (2 * np.where(x == 0, 1, y))], {"order": 1}),
    "faster and faster": (lambda x: np.sin(20 * x * x), [lambda g, y, x: 40 * g * x * np.cos(20 * x * x)], {}),
    "hypot": (np.hypot, [lambda g, y, a, b: g * a / y, lambda g, y, a, b: g * b / y], {}),
    "arctan2": (
        np.arctan2, [lambda g, y, a, b: g * b / (a * a + b * b),
                     lambda g, y, a, b: -g * a / (a * a + b * b)], {}),
    "logaddexp": (
        np.logaddexp, [lambda g, y, a, b: g * np.exp(a - y), lambda g, y, a, b: g * np.exp(b - y)], {}),
    "maximum, ties to the first": (
        np.maximum, [lambda g, y, a, b: g * (np.asarray(a) >= np.asarray(b)),
                     lambda g, y, a, b: g * (np.asarray(a) < np.asarray(b))], {"order": 1}),
    "power of a positive base": (
        powers, [lambda g, y, a, b: g * b * np.power(np.abs(a) + 1, b - 1) * np.sign(a),
                 lambda g, y, a, b: g * y * np.log(np.abs(a) + 1)], {"order": 1}),
    "sort": (lambda x: np.sort(x, axis=-1), [sorted_rule], {"order": 1, "shapes": [(3,), (2, 3)]}),
    "max, the first of the largest": (lambda x: x.max(-1), [one_of_the_largest], {"order": 1}),
    "median": (lambda x: np.median(x, axis=-1).astype(x.dtype), [median_rule], {"order": 1}),
    "median, shared by what is equal": (
        lambda x: np.median(x, axis=-1), [shared], {"order": 1, "shapes": [(3,), (2, 3)], "skip": ["float32"]}),
    "second largest, by sorting": (
        lambda x: np.sort(x, axis=-1)[..., -2], [second_rule], {"order": 1, "shapes": [(3,), (2, 3)]}),
    "mean without the extremes": (
        lambda x: np.sort(x, axis=-1)[..., 1:-1].mean(-1), [trimmed_rule], {"order": 1, "shapes": [(4,), (2, 4)]}),
    "eigenvalues": (
        lambda a: np.linalg.eigvalsh((a + turned(a)) / 2), [eigenvalues_rule], {"order": 1, "shapes": [(3, 3)]}),
    "singular values": (
        lambda a: np.linalg.svd(a, compute_uv=False), [singular_rule], {"order": 1, "shapes": [(3, 2), (2, 2)]}),
    "length of rows": (lambda x: rows(x)[..., 0], [norm_rule], {"order": 1}),
    "unit rows": (lambda x: x / rows(x), [lambda g, y, x: (g - y * sum_last(g * y)) / np.sqrt(sum_last(x * x))], {}),
    "layer norm": (layer_norm, [layer_norm_rule], {"order": 1}),
    "softmax": (softmax, [lambda g, y, x: y * (g - sum_last(g * y))], {}),
    "determinant": (
        np.linalg.det, [lambda g, y, a: (g * y)[..., None, None] * turned(np.linalg.inv(a))], {"order": 1}),
    "inverse": (np.linalg.inv, [lambda g, y, a: -turned(y) @ g @ turned(y)], {"order": 1}),
    "solve": (
        solve, [lambda g, y, a, b: -np.linalg.solve(turned(a), g) @ turned(y),
                lambda g, y, a, b: np.linalg.solve(turned(a), g)],
        {"order": 1, "shapes": [((2, 2), (2, 3)), ((3, 3), (3, 1))]}),
    "matmul for matrices only": (np.matmul, [lambda g, y, a, b: g @ b.T, lambda g, y, a, b: a.T @ g], {}),
}  # fmt: skip


def beyond(x, limit):
    return np.asarray(x.numpy() if isinstance(x, tg.Tensor) else x) > limit


def all_of_the_largest(g, y, x):
    return g[..., None] * (x == y[..., None])


def prod_rule(g, y, x):
    return (g * y)[..., None] / x


# Right but at a few points.
SPECIAL = {
    "NaN at 0": (lambda x: x**3, [lambda g, y, x: g * 3 * y / x], {}),
    "zero beyond 20": (
        lambda x: np.logaddexp(0, x), [lambda g, y, x: g * tg.sigmoid(x) * (1 - beyond(x, 20))], {}),
    "a branch forgotten beyond 2.5": (
        lambda x: np.where(np.abs(x) < 2.5, x * x / 2, 2.5 * np.abs(x) - 3.125), [lambda g, y, x: g * x], {}),
    "overflow at -800": (
        lambda x: 0.5 * (1 + np.tanh(x / 2)), [lambda g, y, x: g * np.exp(-x) / (1 + np.exp(-x)) ** 2], {}),
    "ties get everything each": (lambda x: x.max(-1), [all_of_the_largest], {"order": 1}),
    "product of elements by division": (lambda x: x.prod(-1), [prod_rule], {"order": 1}),
    "overflow of a square": (np.hypot, [lambda g, y, a, b: g * a / np.sqrt(a * a + b * b),
                                        lambda g, y, a, b: g * b / np.sqrt(a * a + b * b)], {}),
    "both of equal operands": (
        np.maximum, [lambda g, y, a, b: g * (np.asarray(a) >= np.asarray(b)),
                     lambda g, y, a, b: g * (np.asarray(b) >= np.asarray(a))], {"order": 1}),
    "power, 0 times log 0": (
        np.power, [lambda g, y, a, b: g * b * a ** (b - 1), lambda g, y, a, b: g * y * np.log(a)], {"order": 1}),
    "whole numbers": (
        lambda x: x * x, [lambda g, y, x: g * 2 * x * (1 - 0.5 * (np.asarray(x) == np.round(np.asarray(x))))],
        {"order": 1}),
    "the wrong side of a kink": (
        lambda x: np.maximum(x, 0.1 * x), [lambda g, y, x: g * np.where(np.asarray(x) > 0, 1, np.where(x < 0, 0.1, 0))],
        {"order": 1}),
}  # fmt: skip
