"""A Tensor as Python and NumPy see it: dtypes, operators, NumPy's functions, questions, conversions, copies."""

import copy
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tg


def leaf(*shape, seed=0, dtype=np.float64, name=None):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True, name=name)


# -- Construction and dtypes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float64),
        ([1.0, 2.0], np.float64),
        (np.float32([1, 2]), np.float32),
        (np.arange(3), np.arange(3).dtype),
        (True, np.bool_),
        (np.array([1.0], dtype=">f8"), np.float64),
    ],
)
def test_dtype_of_data_is_numpys(data, dtype):
    assert tg.Tensor(data).dtype == dtype


@pytest.mark.parametrize("data", [[1, 2], 3, np.arange(2, dtype=np.uint8), True, [False]])
def test_integers_and_booleans_are_constants_only(data):
    assert not tg.Tensor(data).requires_grad
    with pytest.raises(TypeError, match=r"only floats can require a gradient.*astype"):
        tg.Tensor(data, requires_grad=True)


@pytest.mark.parametrize(
    "data",
    [
        np.float16([1]),
        np.longdouble([1]),
        1j,
        "text",
        [b"bytes"],
        None,
        object(),
        [[1.0], [1.0, 2.0]],
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        np.ma.masked_array([1.0, 2.0], mask=[True, False]),
    ],
)
def test_what_the_engine_does_not_compute_with_is_refused(data):
    with pytest.raises(TypeError):
        tg.Tensor(data)
    with pytest.raises(TypeError):
        leaf(1) * data


def test_python_numbers_do_not_upcast_float32():
    x = leaf(3, dtype=np.float32)
    results = [x * 2.0, 2 * x, x + True, x / 3, 1.0 - x, x**2, 2.0**x, tg.maximum(x, 0.5), tg.clip(x, -1.0, 1.0)]
    assert {y.dtype for y in results} == {np.dtype(np.float32)}
    tg.mean(tg.stack(results)).backward()
    assert x.grad.dtype == np.float32
    assert (x * np.ones(3)).dtype == np.float64  # but an array of doubles does, as in NumPy


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1,), ()])
def test_gradient_has_the_operands_dtype(shape):
    x, y = leaf(*shape, dtype=np.float32), leaf(3)
    (x * y).sum().backward()
    assert [tg.grad((x * y).sum(), v).dtype for v in (x, y)] == [np.float32, np.float64]
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)


# -- Python's and NumPy's protocols ------------------------------------------------------------------------------------


def test_operators_in_every_order():
    x, a = leaf(2, 2), np.array([[2.0, 1.0], [0.5, 3.0]])
    for both in (
        lambda p, q: p + q,
        lambda p, q: p - q,
        lambda p, q: p * q,
        lambda p, q: p / q,
        lambda p, q: p @ q,
        lambda p, q: abs(p) ** q,
    ):
        for p, q in ((x, a), (a, x), (x, x), (x, a.tolist()), (a.tolist(), x)):
            expected = both(*(np.asarray(v.numpy() if isinstance(v, tg.Tensor) else v) for v in (p, q)))
            result = both(p if not isinstance(p, list) else tg.Tensor(p), q)
            assert isinstance(result, tg.Tensor) and result.requires_grad
            np.testing.assert_allclose(result.numpy(), expected)
    assert isinstance(2**x, tg.Tensor) and isinstance(np.float64(2) * x, tg.Tensor)
    assert (+x) is x and np.array_equal((-x).numpy(), -x.numpy())


def test_numpy_functions_record():
    x = leaf(2, 3)
    for y, f in [
        (np.tanh(x), np.tanh),
        (np.sum(x, axis=0), lambda v: np.sum(v, axis=0)),
        (np.max(x, axis=1, keepdims=True), lambda v: np.max(v, axis=1, keepdims=True)),
        (np.ones(2) @ x, lambda v: np.ones(2) @ v),
        (np.concatenate([x, np.ones((1, 3))]), lambda v: np.concatenate([v, np.ones((1, 3))])),
        (np.stack([x, x]), lambda v: np.stack([v, v])),
        (np.where(x > 0, x, 0.0), lambda v: np.where(v > 0, v, 0.0)),
        (np.einsum("ij->ji", x), lambda v: np.einsum("ij->ji", v)),
        (np.var(x, ddof=1), lambda v: np.var(v, ddof=1)),
        (np.split(x, 3, axis=1)[1], lambda v: np.split(v, 3, axis=1)[1]),
    ]:
        assert isinstance(y, tg.Tensor) and y.requires_grad
        np.testing.assert_allclose(y.numpy(), f(x.numpy()))


def test_questions_about_values_are_answered_with_arrays():
    x = leaf(2, 3)
    assert type(x > 0) is np.ndarray and (x == x).all() and (x != x).sum() == 0
    assert np.shape(x) == (2, 3) and np.isfinite(x).all() and np.allclose(x, x.numpy())
    assert x in {x} and {x: 1}[x] == 1 and hash(x) != hash(x.detach())


def test_one_element_converts_and_more_does_not():
    x = tg.Tensor([2.5], requires_grad=True)
    assert (float(x), int(x), bool(x), x.item(), len(x)) == (2.5, 2, True, 2.5, 1)
    assert [row.item() for row in leaf(2)] == list(leaf(2).numpy())
    assert list(range(5))[tg.Tensor(3)] == 3
    for convert in (float, int, bool, tg.Tensor.item):
        with pytest.raises(ValueError):
            convert(leaf(2))
    with pytest.raises(TypeError):
        len(tg.Tensor(1.0))


def test_bare_arrays_stay_bare():
    assert type(tg.tanh(np.ones(2))) is np.ndarray
    np.testing.assert_array_equal(tg.add([1, 2], [3, 4]), [4, 6])
    np.testing.assert_allclose(tg.softmax([0.0, 0.0]), [0.5, 0.5])
    assert tg.sigmoid(0.0) == 0.5


def test_zero_d_results_are_arrays():
    x = tg.Tensor(0.5, requires_grad=True)
    for y in (tg.tanh(x), x * x, x + 1, tg.sum(leaf(2)), leaf(2) @ leaf(2), tg.max(leaf(3)), leaf(2)[0]):
        assert type(y._data) is np.ndarray and y.shape == ()


def test_leaves_are_copied_and_pickled_as_values():
    x = leaf(2, name="x")
    for y in (copy.deepcopy(x), copy.copy(x), pickle.loads(pickle.dumps(x))):
        assert y is not x and y.name == "x" and y.requires_grad and np.array_equal(y.numpy(), x.numpy())
        assert not np.shares_memory(x._data, y._data)


@pytest.mark.parametrize("f", [tg.sigmoid, tg.softplus, tg.logsumexp, tg.tanh, tg.log_softmax, tg.softmax, tg.relu])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes_neither_overflow_nor_warn(f, dtype):
    x = tg.Tensor(np.array([-1e3, 0.0, 1e3], dtype=dtype), requires_grad=True)
    y = f(x)
    (g,) = tg.grad(tg.sum(y), [x])
    assert np.isfinite(y.numpy()).all() and np.isfinite(g.numpy()).all()
    loss = tg.cross_entropy(tg.reshape(x, (1, 3)), [0])
    np.testing.assert_allclose(loss.item(), 2000.0)


def test_sigmoid_keeps_its_digits_in_both_tails():
    x = np.array([-700.0, -40.0, -1.0, 1.0, 40.0, 700.0])
    np.testing.assert_allclose(
        tg.sigmoid(x), [9.859676543759770e-305, 4.248354255291589e-18, *1 / (1 + np.exp(-x[2:]))], rtol=1e-14
    )
