"""Operands can be given: arrays, constructors, strategies; and what refuses them is named."""

import numpy as np
import pytest
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.testing import CheckError, check_primitive, operands
from tinygrad_rnn.testing.strategies import matrices


def lower_part(y, g):
    inner = np.tril(y.T @ g)
    inner[np.diag_indices(len(y))] /= 2
    return np.linalg.solve(y.T, np.linalg.solve(y.T, inner.T).T)


def cholesky_rule(g, y, a):
    """As np.linalg.cholesky has it, symmetric."""
    outer = lower_part(y, g)
    return (outer + outer.T) / 2


def entropy(p):
    if abs(p.sum(-1) - 1).max() > 1e-6:
        raise ValueError("probabilities sum to 1")
    return -(p * np.log(p)).sum(-1)


def logdet(a):
    np.linalg.cholesky(a)  # which says whether it is positive definite
    return np.linalg.slogdet(a)[1].astype(a.dtype)


# name: forward, rules, operands
MEANT = {
    "cholesky": (np.linalg.cholesky, [cholesky_rule], operands.spd(3)),
    "log determinant": (logdet, [lambda g, y, a: g * np.linalg.inv(a)], operands.spd(2)),
    "entropy": (entropy, [lambda g, y, p: -g[..., None] * (np.log(p) + 1)], operands.simplex(2, 3)),
    "triangular solve": (
        lambda a, b: np.linalg.solve(np.tril(a), b),
        [lambda g, y, a, b: -np.linalg.solve(np.tril(a).T, g) @ y.T,
         lambda g, y, a, b: np.linalg.solve(np.tril(a).T, g)],
        (operands.triangular(3), np.arange(6.0).reshape(3, 2)),
    ),
    "chosen rows": (
        lambda x, rows: x[rows],
        [lambda g, y, x, rows: scattered(g, x, rows), lambda g, y, x, rows: 0.0 * rows],
        {"x": np.arange(6.0).reshape(3, 2), "rows": operands.integers(4)},
    ),
    "gaps": (lambda x: np.diff(np.log(np.diff(x))), [lambda g, y, x: gaps_rule(g, x)], operands.ordered(5)),
    "logit": (lambda p: np.log(p / (1 - p)), [lambda g, y, p: g / (p * (1 - p))], operands.probability(2, 2)),
    "two examples": (np.exp, [lambda g, y, x: g * y], [np.array([0.5, -1.0]), np.array([[30.0]])]),
    "a strategy": (np.linalg.inv, [lambda g, y, a: -y.T @ g @ y.T], matrices(2)),
    "strategies": (
        np.multiply, [lambda g, y, a, b: g * b, lambda g, y, a, b: g * a],
        st.tuples(st.floats(1, 2).map(lambda x: np.array([x])), st.just(np.array([3.0])))),
}  # fmt: skip


def scattered(g, x, rows):
    out = np.zeros_like(x)
    np.add.at(out, rows, g)
    return out


def gaps_rule(g, x):
    inner = -np.diff(g, prepend=0, append=0) / np.diff(x)
    return -np.diff(inner, prepend=0, append=0)


@pytest.mark.parametrize("name", MEANT)
def test_operations_that_want_operands_of_a_kind(plant, name):
    forward, rules, given = MEANT[name]
    right = plant(forward, *rules)
    report = check_primitive(right, operands=given, order=1)
    assert report.compared > 0 and report == check_primitive(right, operands=given, order=1)
    wrong = plant(forward, lambda *args: 1.01 * rules[0](*args), *rules[1:])
    with pytest.raises(CheckError) as caught:
        check_primitive(wrong, operands=tuple(given.values()) if isinstance(given, dict) else given, order=1)
    assert not caught.value.inconclusive and "first order" in caught.value.failed


@pytest.mark.parametrize(
    "make, holds",
    [
        (operands.symmetric(3), lambda a: np.allclose(a, a.T)),
        (operands.spd(3), lambda a: np.allclose(a, a.T) and np.linalg.eigvalsh(a).min() > 0.99),
        (operands.triangular(3), lambda a: not np.triu(a, 1).any()),
        (operands.triangular(3, lower=False), lambda a: not np.tril(a, -1).any()),
        (operands.simplex(2, 3), lambda p: np.allclose(p.sum(-1), 1) and (p > 0.1).all()),
        (operands.probability(4), lambda p: ((p > 0) & (p < 1)).all()),
        (operands.ordered(2, 5), lambda x: (np.diff(x) >= 0.25).all()),
        (operands.integers(9, low=2, high=4), lambda k: k.dtype.kind == "i" and set(k.tolist()) == {2, 3}),
    ],
)
def test_constructors_give_what_they_say_and_stay_there(make, holds):
    rng = np.random.default_rng(1)
    for _ in range(5):
        array = make.draw(rng)
        assert holds(array)
        if make.keep:
            np.testing.assert_allclose(make.keep(array), array, rtol=0, atol=1e-15)
            moved = make.keep(tg.Tensor(array + 0.01 * rng.normal(size=array.shape))).numpy()
            assert holds(moved) and not np.array_equal(moved, array)


def test_reasons_are_told(plant):
    cholesky = plant(np.linalg.cholesky, cholesky_rule)
    with pytest.raises(
        ValueError, match=r"such as shapes \(3, 3\): LinAlgError: .* positive definite; pass shapes= or"
    ):
        check_primitive(cholesky, shapes=[(3, 3)])
    with pytest.raises(ValueError, match=r"does not accept shapes \(2, 2\): LinAlgError: .*positive definite"):
        check_primitive(cholesky, operands=-np.eye(2))
    with pytest.raises(ValueError, match="has operands a, not b"):
        check_primitive(cholesky, operands={"b": np.eye(2)})
    with pytest.raises(ValueError, match="takes 1 operands: an example is a tuple of so many, not 2"):
        check_primitive(cholesky, operands=[(np.eye(2), np.eye(2))])
    with pytest.raises(ValueError, match="operands= are given: shapes= and domain="):
        check_primitive(cholesky, operands=np.eye(2), shapes=[(2, 2)])
    with pytest.raises(ValueError, match=r"the results are not finite for shapes \(1,\)"):
        check_primitive("log", operands=np.array([-1.0]))
    with pytest.raises(TypeError, match="an operand is an array of numbers, not str"):
        check_primitive("log", operands="one")
    only_empty = plant(lambda x: x if not x.size else 1 / 0, lambda g, y, x: g)
    with pytest.raises(ValueError, match="ZeroDivisionError: division by zero"):
        check_primitive(only_empty)
