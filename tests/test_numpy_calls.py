"""Calls as NumPy's users write them, and NumPy's edges: places of arguments, narrow integers, nothing, mere numbers."""

import inspect
import itertools
import operator
import warnings
from collections import namedtuple

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import functions, ops

VALUES = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.5]])


def leaf(values=VALUES):
    return tg.Tensor(values, requires_grad=True)


def outcome(f, *args, **options):
    """What NumPy or we make of a call: an array or arrays, or the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return f(*args, **options)
        except (TypeError, ValueError) as error:
            return error


def same(found, expected):
    """Whether a result is NumPy's, with a gradient."""
    if isinstance(expected, list):
        return isinstance(found, list) and all(map(same, found, expected))
    ours = isinstance(found, tg.Tensor) and found.requires_grad and found.dtype == expected.dtype
    return ours and found.shape == expected.shape and np.allclose(found.numpy(), expected, equal_nan=True)


# -- Arguments in NumPy's places ---------------------------------------------------------------------------------------

TRIED = {  # what is given for each of NumPy's parameters
    "axis": [0, -1],
    "dtype": [None, np.float32, np.float64, int],
    "out": [None, np.zeros(3), np.zeros((2, 2, 3))],
    "keepdims": [True, False],
    "initial": [np._NoValue, 2.0],
    "where": [True, np.True_, VALUES > 0],
    "ddof": [1, 0],
    "order": ["C", "F"],
    "subok": [False, True],
    "a_min": [0.0],
    "a_max": [2.0],
    "min": [0.0, None],
    "max": [2.0],
    "casting": ["same_kind", "unsafe"],
    "copy": [None, True],
    "mean": [np.array(1.0)],
    "correction": [1],
    "shape": [(3, 2)],
    "newshape": [(3, 2)],  # NumPy 2.0
    "indices_or_sections": [[1], 2],
    "axes": [(1, 0), None],
}
SUBJECTS = {"squeeze": VALUES[None], "broadcast_to": np.ones(2)}
NAMES = (
    "sum mean max min amax amin var prod cumsum reshape transpose broadcast_to squeeze expand_dims stack concatenate"
)
NAMES = [*NAMES.split(), "split", "clip"]


def calls(name):
    """Arguments after the first: in their places, up to each of them; and each alone by its name."""
    parameters = list(inspect.signature(getattr(np, name)).parameters.values())[1:] if name != "concatenate" else None
    if parameters is None:  # before 2.4 NumPy does not tell
        parameters = list(inspect.signature(np.stack).parameters.values())[1:]
    placed = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name in TRIED]
    needed = [p.name for p in parameters if (p.default is p.empty and p.name in TRIED) or p.name in ("a_min", "a_max")]
    for count in range(len(needed), len(placed) + 1):
        for args in itertools.product(*(TRIED[p] for p in placed[:count])):
            yield args, {}
    for p in parameters:
        for value in TRIED.get(p.name, ()) if p.name not in needed else ():
            yield tuple(TRIED[n][0] for n in needed), {p.name: value}


@pytest.mark.parametrize("name", NAMES)
def test_an_argument_in_numpys_place_means_what_it_means_there_or_is_refused(name):
    function, values = getattr(np, name), SUBJECTS.get(name, VALUES)
    joined = name in ("stack", "concatenate")
    accepted = 0
    for args, options in calls(name):
        expected = outcome(function, [values, values] if joined else values, *args, **options)
        x = leaf(values)
        found = outcome(function, [x, x] if joined else x, *args, **options)
        ours = outcome(getattr(tg, name.removeprefix("a")), [x, x] if joined else x, *args, **options)
        if isinstance(found, Exception):
            assert "\n" not in str(found), "one line"
        else:
            accepted += 1
            assert not isinstance(expected, Exception) and same(found, expected), (args, options)
        if not isinstance(ours, Exception) and not isinstance(expected, Exception):
            assert same(ours, expected), (args, options)
    assert accepted >= 2


@pytest.mark.parametrize("name", NAMES)
def test_where_no_gradient_is_needed_every_argument_is_numpys(name):
    function, values = getattr(np, name), SUBJECTS.get(name, VALUES)
    joined = name in ("stack", "concatenate")
    for args, options in calls(name):
        expected = outcome(function, [values, values] if joined else values, *args, **options)
        x = tg.Tensor(values)
        found = outcome(function, [x, x] if joined else x, *args, **options)
        assert isinstance(found, Exception) == isinstance(expected, Exception), (args, options, found)
        if not isinstance(expected, Exception):
            for y, want in zip(*([v] if not isinstance(v, list) else v for v in (found, expected)), strict=True):
                array = y.numpy() if isinstance(y, tg.Tensor) else y
                assert array.dtype == want.dtype
                np.testing.assert_array_equal(array, want)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.sum(x, 0, np.float64),
        lambda x: np.prod(x, 0, np.float64),
        lambda x: np.add(x, 1.0, np.zeros((2, 3))),
        lambda x: np.add(x, 1.0, dtype=np.float32),
        lambda x: np.add(x, 1.0, where=VALUES > 0),
        lambda x: np.multiply(x, 2.0, casting="unsafe"),
        lambda x: np.matmul(x, x.T, axes=[(0, 1), (0, 1), (0, 1)]),
        lambda x: np.einsum("ij->i", x, out=np.zeros(2)),
        lambda x: np.where(x),
        lambda x: np.sum(x, keepdims=1),
        lambda x: np.sum(x, axis=True),
        lambda x: tg.sum(x, 0, np.float64),
        lambda x: tg.sum(x, 0, 1),
        lambda x: tg.mean(x, 0, None),
        lambda x: tg.max(x, 0, np.zeros(3)),
        lambda x: tg.logsumexp(x, 0, "yes"),
        lambda x: tg.prod(x, 0, np.float32),
        lambda x: tg.var(x, 0, None),
        lambda x: tg.var(x, 0, 0, None),
        lambda x: tg.cumsum(x, (0, 1)),
        lambda x: tg.stack([x, x], None),
        lambda x: tg.stack([x, x], (0, 1)),
        lambda x: tg.split(x, 2, None),
        lambda x: tg.split(x, 2.0),
        lambda x: tg.split(x, 0),
        lambda x: tg.split(x, -1),
        lambda x: tg.split(x, [0.5]),
        lambda x: x.sum(0, np.float64),
        lambda x: x.mean(0, None),
        lambda x: tg.leaky_relu(x, leaf(np.array(0.1))),
    ],
)
def test_what_cannot_be_meant_is_refused(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call(leaf())
    assert "\n" not in str(caught.value)


CLIPS = [lambda x: np.clip(x, min=0.5), lambda x: np.clip(a=x, max=2.0, min=None)]
CLIPS = CLIPS if "min" in inspect.signature(np.clip).parameters else []  # from NumPy 2.1 on


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.sum(a=x, axis=0, dtype=None, out=None),
        lambda x: np.mean(x, where=True),
        lambda x: np.reshape(x, (3, 2), order="C"),
        lambda x: np.stack(arrays=[x, x], axis=1, casting="same_kind"),
        lambda x: np.split(ary=x, indices_or_sections=3, axis=1),
        lambda x: np.transpose(a=x),
        lambda x: np.amax(x, 0, None, True),
        lambda x: np.var(x, 0, None, None, 1, True),
        *CLIPS,
    ],
)
def test_what_changes_nothing_may_be_written(call):
    x = leaf()
    assert same(call(x), call(VALUES))


def test_axes_and_shapes_come_in_every_form_that_counts():
    pair, x = namedtuple("pair", "first second"), leaf(np.arange(24.0).reshape(2, 3, 4))
    for axis in (1, np.int64(1), np.array(1), tg.Tensor(1), -2, np.int8(-2), (1,)):
        for f in (tg.sum, tg.max, tg.logsumexp, tg.var, tg.softmax):
            np.testing.assert_array_equal(f(x, axis=axis).numpy(), f(x, axis=1).numpy())
    for axis in (1.0, "0", (0, 1.0), object(), True):
        for f in (tg.sum, tg.max, tg.logsumexp, tg.var):
            with pytest.raises(TypeError, match=r"axis=.*: give a whole number, or a tuple of them|True or False"):
                f(x, axis=axis)
    for axis in (pair(0, 2), [0, 2], (-3, np.int64(2)), (0, tg.Tensor(2))):
        np.testing.assert_array_equal(tg.sum(x, axis=axis).numpy(), x.numpy().sum((0, 2)))
        np.testing.assert_array_equal(tg.prod(x, axis=axis).numpy(), x.numpy().prod((0, 2)))
    for shape in (pair(4, 6), [4, 6], np.array([4, 6]), (np.int64(4), -1), tg.Tensor([4, 6]), range(4, 7, 2)):
        assert tg.reshape(x, shape).shape == x.reshape(shape).shape == (4, 6)
    for shape in (24, np.int64(24), np.array(24), -1):
        assert tg.reshape(x, shape).shape == (24,)
    for axes in (pair(1, 0), [1, 0], np.array([1, 0]), (np.int8(-1), 0), range(1, -1, -1)):
        assert tg.transpose(x[0], axes).shape == x[0].transpose(axes).shape == (4, 3)
    for shape in (pair(5, 4), [5, 4], np.array([5, 4]), tg.Tensor([5, 4])):
        assert tg.broadcast_to(x[0, 0], shape).shape == (5, 4)
    for cuts in (3, np.uint8(3), tg.Tensor(3), [1, 2], (np.int8(1), 2), np.array([1, 2]), tg.Tensor([1, 2])):
        assert [part.shape for part in tg.split(x, cuts, axis=np.int64(1))] == [(2, 1, 4)] * 3


def test_var_of_fewer_numbers_than_are_taken_off_is_no_negative_number():
    for ddof in (3, 5, np.uint8(7)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert tg.var(leaf(VALUES[0]), ddof=ddof).item() == np.var(VALUES[0], ddof=ddof) == np.inf


# -- Integers and booleans beside what is differentiated ---------------------------------------------------------------

INTEGERS = [np.bool_, *(np.dtype(f"{kind}{bits}").type for kind in ("i", "u") for bits in (1, 2, 4, 8))]
SHAPES = {name: ((2, 3), (3,)) for name in ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum")}
SHAPES |= {"matmul": ((2, 3), (3, 2)), "linear": ((2, 3), (2, 3), (2,)), "mse_loss": ((2, 3), (2, 3))}
SHAPES |= {"affine": ((2, 3), (2, 3), (2,), (2, 2), (2, 2), (2,))}
CALLS = {name: getattr(tg, name) for name in SHAPES}
TOGETHER = {
    "where": (lambda a, b: tg.where(VALUES > 0, a, b), ((2, 3), (3,))),
    "stack": (lambda a, b: tg.stack([a, b]), ((3,), (3,))),
    "concatenate": (lambda a, b: tg.concatenate([a, b]), ((2, 3), (1, 3))),
    "einsum": (lambda a, b, c: tg.einsum("ij,jk,k->i", a, b, c), ((2, 3), (3, 2), (2,))),
    "x ** a number": (lambda a, b: a ** b[0], ((2, 3), (3,))),
    "a number ** x": (lambda a, b: a[0] ** b, ((3,), (2, 3))),
    "clip": (lambda a, b: a * b if getattr(b, "requires_grad", False) else tg.clip(a, None, b), ((2, 3), (3,))),
}
CALLS |= {name: f for name, (f, _) in TOGETHER.items()}
SHAPES |= {name: shapes for name, (_, shapes) in TOGETHER.items()}


def whole_numbers(dtype, shape, rng, small):
    """Numbers near the ends of a dtype, where they would wrap round; or small ones, for powers."""
    if dtype is np.bool_:
        return np.ones(shape, dtype)
    info = np.iinfo(dtype)
    numbers = rng.integers(1, 4, shape) if small else rng.integers(max(info.min, -120), min(info.max, 120), shape)
    return np.where(numbers == 0, 1, numbers).astype(dtype)


def derivatives(y, xs, g):
    """First derivatives as they are and differentiable, and second ones."""
    first = tg.grad(y, xs, tg.Tensor(g, requires_grad=True), create_graph=True)
    again = sum(tg.sum(part * part) for part in first)
    return [*tg.grad(y, xs, g), *first, *tg.grad(again, xs, allow_unused=True)]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", CALLS)
def test_integers_are_worth_what_they_are_as_floats(name, dtype):
    f, shapes = CALLS[name], SHAPES[name]
    for which in range(len(shapes)):
        rng = np.random.default_rng(0)
        # The product of two matrices of integers is NumPy's, which wraps round.
        whole = [i != which and (name != "affine" or i not in (0, 3)) for i in range(len(shapes))]
        whole = [w and (name != "linear" or i != 0) for i, w in enumerate(whole)]
        arrays = [
            whole_numbers(dtype, s, rng, "**" in name or name == "power") if w else rng.uniform(0.5, 1.5, s)
            for s, w in zip(shapes, whole, strict=True)
        ]
        for wrap in (np.asarray, tg.Tensor):
            given = [wrap(a) if w else leaf(a) for a, w in zip(arrays, whole, strict=True)]
            floats = [np.asarray(a, float) if w else leaf(a) for a, w in zip(arrays, whole, strict=True)]
            y, z = f(*given), f(*floats)
            np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-13)
            g = rng.uniform(0.5, 1.5, y.shape)
            found = derivatives(y, [v for v, w in zip(given, whole, strict=True) if not w], g)
            expected = derivatives(z, [v for v, w in zip(floats, whole, strict=True) if not w], g)
            for got, want in zip(found, expected, strict=True):
                np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_narrow_integers_alone_do_not_wrap_round_in_what_is_ours(dtype):
    """What NumPy has, such as int8 + int8, is NumPy's; it has no softmax and no losses, and widens in prod."""
    top = 1 if dtype is np.bool_ else min(np.iinfo(dtype).max, 120)
    low = 0 if np.dtype(dtype).kind in "bu" else -top
    k = np.array([[low, top, low], [top, low, top]], dtype)
    wide = k.astype(float)
    for wrap in (np.asarray, tg.Tensor):
        for f in (tg.softmax, tg.log_softmax, tg.logsumexp, lambda v: tg.cross_entropy(v, [1, 1])):
            np.testing.assert_allclose(np.asarray(f(wrap(k))), f(wide), rtol=1e-15)
        np.testing.assert_allclose(np.asarray(tg.mse_loss(wrap(k), wrap(k[::-1]))), np.mean((wide - wide[::-1]) ** 2))
        for axis in (None, 0, 1):
            for f, theirs in (
                (tg.prod, np.prod),
                (tg.sum, np.sum),
                (tg.var, np.var),
                (tg.mean, np.mean),
                (tg.cumsum, np.cumsum),
            ):
                found, expected = np.asarray(f(wrap(k), axis)), theirs(k, axis)
                assert found.dtype == expected.dtype
                np.testing.assert_allclose(found, expected, rtol=1e-14)


# -- Nothing -----------------------------------------------------------------------------------------------------------

NOTHING = [(0,), (0, 3), (3, 0), (2, 0, 3), (5, 0, 0)]


@pytest.mark.parametrize("shape", NOTHING)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int8, np.bool_])
def test_softmax_of_nothing_is_nothing(shape, dtype):
    a = np.zeros(shape, dtype)
    for axis in (0, -1, tuple(range(len(shape))), None):
        x = tg.Tensor(a, requires_grad=a.dtype.kind == "f")
        for f in (tg.softmax, tg.log_softmax):
            y = f(x, axis)
            assert y.shape == f(a, axis).shape == shape and y.dtype == f(a, axis).dtype
            assert y.dtype == (dtype if a.dtype.kind == "f" else np.float64)
        for keepdims in (False, True):
            z = tg.logsumexp(x, axis, keepdims)
            assert z.shape == np.sum(a, axis, keepdims=keepdims).shape and (z.numpy() == -np.inf).all()
        if x.requires_grad:
            for f in (tg.softmax, tg.log_softmax, tg.logsumexp):
                (g,) = tg.grad(tg.sum(f(x, axis)), [x], create_graph=True)
                assert g.shape == shape and g.dtype == dtype
    for f in (tg.softmax, tg.log_softmax, tg.logsumexp):
        with pytest.raises(ValueError, match="out of bounds"):
            f(leaf(np.zeros(shape)), len(shape))


@pytest.mark.parametrize("shape", NOTHING)
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var", "prod", "cumsum"])
def test_a_reduction_of_nothing_is_numpys(shape, name):
    ours, theirs = getattr(tg, name), getattr(np, name)
    for axis in (None, *range(-len(shape), len(shape))):
        expected = outcome(theirs, np.zeros(shape), axis)
        x = leaf(np.zeros(shape))
        found = outcome(ours, x, axis)
        if isinstance(expected, Exception):
            assert isinstance(found, ValueError) and str(found) == str(expected)
        else:
            assert same(found, expected)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert tg.grad(found, x, np.ones(found.shape)).shape == shape


def test_losses_and_parts_of_nothing_are_numpys():
    with pytest.warns(RuntimeWarning):
        assert np.isnan(tg.mse_loss(leaf(np.zeros((0, 3))), np.zeros((0, 3))).item())
    with pytest.warns(RuntimeWarning):
        assert np.isnan(tg.cross_entropy(leaf(np.zeros((0, 3))), np.zeros(0, int)).item())
    with pytest.raises(ValueError, match="labels must lie in"):
        tg.cross_entropy(leaf(np.zeros((2, 0))), [0, 0])
    for f in (tg.stack, tg.concatenate):
        with pytest.raises(ValueError, match="need at least one array"):
            f([])
    for cuts in ([1, 2], 3):
        assert [p.shape for p in tg.split(leaf(np.zeros((3, 0))), cuts)] == [(1, 0)] * 3
        assert [p.shape for p in tg.split(leaf(np.zeros((0, 3))), cuts)] == [
            p.shape for p in np.split(np.zeros((0, 3)), cuts)
        ]
    x = leaf(np.zeros((2, 0)))
    assert (x @ np.zeros((0, 3))).shape == tg.linear(x, np.zeros((3, 0)), np.zeros(3)).shape == (2, 3)


# -- Mere numbers where a matrix is needed -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2.0, 2, True, np.float64(2.0), np.array(2.0), tg.Tensor(2.0)])
def test_a_product_with_a_number_is_no_product_of_matrices(number):
    for f in (operator.matmul, tg.matmul, np.matmul):
        for args in ((leaf(), number), (number, leaf()), (leaf(VALUES[0]), number), (leaf(np.array(1.0)), number)):
            with pytest.raises(ValueError, match="matmul"):
                f(*args)
    x, W, b = leaf(), np.ones((2, 3)), np.ones(2)
    for args in ((x, number, b), (x, W, number), (number, W, b), (number, number, number)):
        with pytest.raises(ValueError, match=r"shape|matmul"):
            tg.linear(*args)
    whole = (x, W, b, leaf(np.ones((2, 2))), np.ones((2, 2)), b)
    for i in (0, 1, 3, 4):  # one bias of two may be a number
        with pytest.raises(ValueError, match="shape"):
            tg.affine(*whole[:i], number, *whole[i + 1 :])


# -- A traced value, which has no numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask", [np.floor, np.sign, np.round, np.fix, np.any, np.size, np.zeros_like, np.isclose, np.argmax]
)
def test_a_question_about_a_traced_value_is_refused_with_its_line(ask):
    def loss(outputs, state):
        return tg.sum(outputs * (ask(outputs, outputs) if ask is np.isclose else ask(outputs)))

    with pytest.raises(tg.bptt.TraceError, match=r"test_numpy_calls\.py"):
        tg.derive_bptt(tg.RNNCell(2, 3, rng=0), loss, (np.ones((6, 1, 2)), np.zeros((1, 3))))


def test_a_traced_value_takes_numpys_arguments_as_a_tensor_does():
    def derived(loss):
        return tg.derive_bptt(tg.RNNCell(2, 3, rng=0), loss, (np.ones((6, 1, 2)), np.zeros((1, 3))))

    whole = derived(lambda outputs, state: np.sum(outputs, None, None) * (np.ndim(outputs) + np.shape(outputs)[1]))
    assert "sum" in whole.source
    with pytest.raises(TypeError, match="dtype="):
        derived(lambda outputs, state: np.sum(outputs, None, np.float32))


@pytest.mark.parametrize("rows", [[[[1.0], [2.0]]], [3.0, 0.5], 2.0], ids=str)
def test_every_function_of_one_array_takes_lists_as_numpys_does(rows):
    seen = 0
    for name in (*ops.__all__, *functions.__all__):
        with np.errstate(all="ignore"):
            theirs = outcome(getattr(np, name, None), rows)
        if not isinstance(theirs, (Exception, tuple)):
            seen += 1
            found = getattr(tg, name)(rows)
            assert np.shape(found) == np.shape(theirs) and np.allclose(np.asarray(found), theirs), name
    assert seen >= 20
