"""NumPy's further names on a Tensor: value, first and second derivative, float32, constants, and what is refused."""

import itertools
import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import ops
from tinygrad_rnn.numpy_names import COMPOSED, OF_FIRST
from tinygrad_rnn.tensor import NUMPY
from tinygrad_rnn.testing import gradcheck

# Distinct numbers between 0.1 and 0.9, in no order: no ties, and inside of every function's domain.
NUMBERS = np.random.default_rng(0).permutation(np.linspace(0.1, 0.9, 100))
SHAPES = {"s": (), "v": (4,), "w": (4,), "u": (3,), "o": (1,), "A": (3, 4), "B": (4, 2), "D": (3, 4), "S": (3, 3)}
SHAPES |= {"C": (2, 3, 4), "E": (2, 4, 2), "F": (1, 3, 1)}
ENDS = np.cumsum([0, *[int(np.prod(shape)) for shape in SHAPES.values()]])
OPERANDS = {
    n: NUMBERS[a : a + np.prod(s, dtype=int)].reshape(s) for (n, s), a in zip(SHAPES.items(), ENDS, strict=False)
}

CALLS = """
    dot(s, A); dot(A, s); dot(v, w); dot(A, v); dot(v, B); dot(A, B); dot(C, v); dot(C, B); dot(v, E); dot(A, E);
    dot(C, E)
    dot(A, b=B); dot([1.0, 2.0, 3.0], A); dot(A, np.ones((4, 2)))
    inner(s, v); inner(v, w); inner(A, v); inner(A, D); inner(C, A)
    outer(v, w); outer(A, u); outer(s, v); outer(a=v, b=2.0)
    tensordot(A, D); tensordot(A, B, 1); tensordot(v, w, 0); tensordot(A, D, axes=([0, 1], [0, 1]))
    tensordot(C, A, axes=([1, -1], [0, 1])); tensordot(C, E, (2, 1)); tensordot(A, B, axes=(-1, 0))
    swapaxes(C, 0, 2); swapaxes(C, -1, axis2=1); swapaxes(a=A, axis1=0, axis2=1)
    moveaxis(C, 0, -1); moveaxis(C, [0, 1], [-1, 0]); moveaxis(C, source=2, destination=0)
    rollaxis(C, 2); rollaxis(C, 1, 3); matrix_transpose(C)
    ravel(A); ravel(C, "C"); ravel(s); ravel(a=A.T)
    repeat(v, 2); repeat(A, [1, 0, 2, 1], axis=1); repeat(A, 3, 0); repeat(s, 2)
    tile(v, 2); tile(A, (2, 1)); tile(A, (2, 1, 2)); tile(s, 3); tile(A=v, reps=(2, 2))
    roll(v, 1); roll(A, 2); roll(A, -1, 1); roll(A, (1, 2), axis=(0, 1))
    flip(A); flip(A, 0); flip(C, (0, -1)); flip(m=v); flipud(A); fliplr(A); rot90(A); rot90(C, 3, axes=(2, 0))
    diag(v); diag(v, 1); diag(A); diag(A, k=-1); diagonal(A); diagonal(C, 1, 2, 0); diagonal(A, offset=-1)
    tril(A); tril(A, 1); tril(C, -1); triu(A); triu(C, k=1)
    trace(A); trace(A, 1); trace(C, 0, 1, 2); trace(a=A, offset=-1)
    vstack([v, w]); vstack((A, v)); vstack([s, s]); vstack(tup=[v, np.ones(4)]); vstack([v])
    hstack([v, s, u]); hstack([A, D]); hstack((A, [[1.0], [2.0], [3.0]])); hstack([C, C])
    dstack([v, w]); dstack([A, D]); dstack([C, C]); dstack([s])
    column_stack([u, A]); column_stack((v, w)); column_stack([A, D])
    atleast_1d(s); atleast_1d(v); atleast_1d(s, v); atleast_2d(s); atleast_2d(v); atleast_2d(A, s)
    atleast_3d(s); atleast_3d(v); atleast_3d(A); atleast_3d(C)
    pad(v, 2); pad(v, (1, 2)); pad(A, ((1, 0), (2, 1))); pad(v, 1, "constant", constant_values=3.0)
    pad(A, 1, constant_values=((1.0, 2.0), (0.0, -0.5))); pad(v, 2, "edge"); pad(A, ((0, 1), (2, 2)), mode="reflect")
    pad(v, 3, "symmetric"); pad(A, 2, "wrap"); pad(array=v, pad_width=1)
    append(v, w); append(A, D, axis=0); append(A, u); append(v, 2.0); append(arr=v, values=[1.0], axis=0)
    sort(v); sort(A); sort(A, 0); sort(C, axis=None); sort(v, kind="mergesort"); sort(v, stable=True)
    take(v, 1); take(v, [2, 0, 2]); take(A, [[0, 5], [-1, 2]]); take(A, [1, -1], axis=1); take(A, 0, 0)
    take(A, [5, -7], axis=1, mode="wrap"); take(A, [5, -7], 1, mode="clip"); take(A, indices=np.array([], int), axis=0)
    take_along_axis(A, np.argsort(A, 1), 1); take_along_axis(A, np.array([[0, 1, 2, 0]]), axis=0)
    diff(v); diff(A); diff(A, axis=0); diff(C, 2); diff(v, 0); diff(v, prepend=0.0); diff(A, append=D, axis=0)
    diff(v, 0, prepend=1.0); diff(v, 2, prepend=s, append=w); diff(v, n=4)
    std(v); std(A, 0); std(A, axis=1, ddof=1, keepdims=True); std(C, (0, 2)); std(A, 1, None, None, 1)
    linalg.norm(v); linalg.norm(A); linalg.norm(C); linalg.norm(v, 1); linalg.norm(v, 3); linalg.norm(v, np.inf)
    linalg.norm(v, -np.inf); linalg.norm(v, 0.5); linalg.norm(v, -1); linalg.norm(A, 1); linalg.norm(A, -1)
    linalg.norm(A, np.inf); linalg.norm(A, -np.inf); linalg.norm(A, "fro"); linalg.norm(A, axis=0); linalg.norm(v, 2)
    linalg.norm(A, 1, axis=1, keepdims=True); linalg.norm(C, 1, axis=(2, 0)); linalg.norm(C, np.inf, (0, -1), True)
    linalg.norm(v, np.float32(np.inf)); linalg.norm(A, np.int64(1)); linalg.norm(A, np.array(-np.inf), (1, 0));
    linalg.norm(A, None, None, True); linalg.norm(A, 2, axis=1); linalg.norm(s); linalg.norm(C, "fro", axis=(0, 1))
    cumprod(v); cumprod(A); cumprod(A, 0); cumprod(C, axis=-1); cumprod(s); cumprod(o, 0);
    cumprod(a=v, axis=0, dtype=None)
    tan(A); sinh(A); cosh(A); log2(A); log10(A); exp2(A); arcsin(A); arccos(A); arctan(A); arcsinh(A); arctanh(A)
    arccosh(A + 1.0); arctan2(A, v); arctan2(A, -0.5); arctan2(-1.0, v); logaddexp(A, v); logaddexp(v, 0.5)
    fmax(A, v); fmin(A, 0.5); fmax(0.45, v); remainder(A, v); remainder(-A, 0.15); remainder(2.0, v); mod(A, -v)
    reciprocal(A); fabs(A - 0.5); deg2rad(A); radians(v); rad2deg(A); degrees(v)
    sign(A - 0.5); floor(A * 3.3); ceil(A * 3.3); trunc(A * 3.3); rint(A * 3.3);
    round(A * 33.0, -1); around(a=A * 3.3); fix(A * 3.3)
    full_like(A, s); full_like(v, fill_value=s); full_like(A, v, dtype=None); copy(A); copy(a=v, order="C")
    array_split(v, 3); array_split(A, [1], 1); array_split(v, 2); vsplit(C, 2); hsplit(v, 2); hsplit(A, [1, 3]);
    dsplit(C, 2)
    einsum("ij,kj->ik", A, D, optimize=True); einsum(A, [0, 1], v, [1]); einsum(A, [0, 1], B, [1, 2], [2, 0])
    einsum(A, [27, 1]); einsum(A, [30, 51], v, [51])
    einsum(C, [..., 1], v, [1], [...]); einsum("ij->i", A, out=None, optimize="greedy")
    exp(A, where=True); add(A, v, dtype=None, casting="same_kind"); multiply(A, 2.0, out=None, order="C")
"""
CALLS = [call for line in CALLS.strip().splitlines() for call in line.strip(" ;").split("; ")]
BY_NAME = {name: list(calls) for name, calls in itertools.groupby(sorted(CALLS), lambda call: call.partition("(")[0])}
CURVED = """
    dot inner outer tensordot std linalg.norm cumprod tan sinh cosh log2 log10 exp2 arcsin arccos arctan arcsinh arctanh
    arccosh arctan2 logaddexp reciprocal einsum exp
""".split()
"""Which have a second derivative."""


def function_of(call):
    """The call as a function of its operands, and these."""
    names = sorted(set(re.findall(r"\b[a-zA-Z]\b(?!=)", re.sub(r'"[^"]*"', "", call))) & OPERANDS.keys())
    return eval(f"lambda {', '.join(names)}: np.{call}", {"np": np}), [OPERANDS[name] for name in names]


def outcome(f, *args):
    """What comes out, without NumPy's warnings about infinities."""
    with np.errstate(all="ignore"):
        return f(*args)


def parts(y):
    return list(y) if isinstance(y, (list, tuple)) else [y]


def joined(f):
    """One vector of all results."""
    return lambda *xs: np.concatenate([np.reshape(y, -1) for y in parts(f(*xs))])


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated")  # since NumPy 2.5
def test_a_name_of_numpys_has_its_value_and_two_derivatives(name):
    for call in BY_NAME[name]:
        f, arrays = function_of(call)
        for dtype, digits in ((np.float64, 1e-13), (np.float32, 1e-5)):
            given_arrays = [a.astype(dtype) for a in arrays]
            expected, xs = f(*given_arrays), [tg.Tensor(a, requires_grad=True) for a in given_arrays]
            found = f(*xs)
            assert isinstance(found, list | tuple) == isinstance(expected, list | tuple), call
            for y, want in zip(parts(found), parts(expected), strict=True):
                assert isinstance(y, tg.Tensor) and y.requires_grad, call
                assert y.shape == np.shape(want) and y.dtype == want.dtype, call
                np.testing.assert_allclose(y.numpy(), want, rtol=digits, err_msg=call)
            assert {g.dtype for g in tg.grad(tg.sum(joined(f)(*xs)), xs, allow_unused=True)} == {np.dtype(dtype)}, call
            for y, want in zip(parts(f(*map(tg.Tensor, given_arrays))), parts(expected), strict=True):
                np.testing.assert_array_equal(np.isclose(np.asarray(y), want, rtol=digits), True, err_msg=call)
        gradcheck(joined(f), *arrays, order=2 if name in CURVED else 1, rng=0)


def test_every_further_name_is_in_the_table():
    composed = {theirs.__name__ for theirs in COMPOSED} - {"norm"} | {"linalg.norm"}
    rules = {name for name in tg.OPS if not hasattr(ops, name)}
    assert composed | rules | set(" ".join(OF_FIRST.values()).split()) <= BY_NAME.keys()


# Kinks and edges


@pytest.mark.parametrize(
    "move", [lambda x: np.roll(x, 1, 0), np.flip, np.rot90, np.diag, lambda x: np.tile(x, 2), np.sort, np.ravel]
)
def test_what_only_moves_elements_brings_no_other_operation_into_the_graph(move):
    x = tg.Tensor(OPERANDS["S"], requires_grad=True)
    ops_of = {node.op for node in tg.gradient_graph(tg.sum(move(x))).nodes if node.op}
    assert ops_of <= {"sum", "reshape", "getitem", "transpose"}


def test_where_a_norm_or_a_deviation_is_0_so_is_its_gradient():
    for f, x in ((np.linalg.norm, np.zeros(3)), (np.std, np.ones(3)), (np.std, np.ones(1)), (np.std, np.array(2.0))):
        leaf = tg.Tensor(x, requires_grad=True)
        (g,) = tg.grad(f(leaf), [leaf], create_graph=True)
        (again,) = tg.grad(tg.sum(g), [leaf], allow_unused=True)
        assert not g.numpy().any() and not again.numpy().any()
    rows = tg.Tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    norms = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(tg.grad(tg.sum(norms), rows).numpy(), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-15)


def test_norms_of_nothing_are_numpys():
    for ord in (None, 1, 2.5, -1, -2):
        x = tg.Tensor(np.zeros((2, 0)), requires_grad=True)
        found = outcome(lambda x, ord=ord: np.linalg.norm(x, ord, axis=1), x)
        np.testing.assert_array_equal(
            found.numpy(), outcome(lambda x, ord=ord: np.linalg.norm(x, ord, axis=1), x.numpy())
        )
    for axis in ((), (0, 1, 2)):
        with pytest.raises(ValueError, match="mproper number of dimensions"):
            np.linalg.norm(tg.Tensor(np.ones((2, 2, 2)), requires_grad=True), axis=axis)


def test_second_derivatives_at_ties_are_those_beside_them():
    """log(exp a + exp b) is smooth where a = b, unlike the maximum that it is often composed of."""
    for x in (0.3, 0.3 + 1e-9):
        a = tg.Tensor(0.3, requires_grad=True)
        (g,) = tg.grad(np.logaddexp(a, x), [a], create_graph=True)
        np.testing.assert_allclose([g.item(), tg.grad(g, a).item()], [0.5, 0.25], rtol=1e-8)


def test_of_two_numbers_the_one_that_is_none_gives_way():
    x = tg.Tensor([1.0, np.nan, 3.0, 2.0], requires_grad=True)
    y = tg.Tensor([np.nan, 5.0, 2.0, 2.0], requires_grad=True)
    larger = np.fmax(x, y)
    np.testing.assert_array_equal(larger.numpy(), np.fmax(x.numpy(), y.numpy()))
    gradients = [g.numpy().tolist() for g in tg.grad(tg.sum(larger), [x, y])]
    assert gradients == [[1.0, 0.0, 1.0, 0.5], [0.0, 1.0, 0.0, 0.5]]


def test_a_remainder_takes_off_as_much_as_numpy_takes_off():
    """1.0 / 0.1 is 10, and yet 0.1 goes 9 times into 1.0: it is a little more than a tenth."""
    b = tg.Tensor(0.1, requires_grad=True)
    assert np.remainder(1.0, 0.1) > 0.09
    np.testing.assert_allclose(tg.grad(1.0 % b, b).item(), -9.0)


def test_of_equal_elements_each_keeps_its_own_gradient():
    x = tg.Tensor([2.0, 1.0, 2.0, 1.0], requires_grad=True)
    np.testing.assert_array_equal(tg.grad(np.sort(x), x, np.array([1.0, 2.0, 3.0, 4.0])).numpy(), [3.0, 1.0, 4.0, 2.0])


def test_zeros_in_a_cumulative_product_are_no_special_case():
    x = tg.Tensor([2.0, 0.0, 3.0, 0.0], requires_grad=True)
    np.testing.assert_array_equal(tg.jacobian(np.cumprod, x).numpy()[2], [0.0, 6.0, 0.0, 0.0])
    wide = np.array([1e200, 1e-200, 1e-200, 1e300])  # products in another order leave the range of floats
    np.testing.assert_array_equal(np.cumprod(tg.Tensor(wide)).numpy(), np.cumprod(wide))


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.bool_])
@pytest.mark.parametrize(
    "name", ["cumprod", "trace", "diff", "roll", "pad", "dot", "std", "linalg.norm", "sort", "tril"]
)
def test_integers_are_numpys(name, dtype):
    x = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]], dtype)
    arguments = {"roll": [1], "pad": [1], "dot": [x]}.get(name, [])
    if (name, dtype) == ("diff", np.bool_):
        x = x.astype(int)  # NumPy's difference of booleans is another function
    f = eval(f"np.{name}", {"np": np})
    found, expected = np.asarray(f(tg.Tensor(x), *arguments)), f(x, *arguments)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_beside_integers_a_gradient_is_that_beside_the_same_floats(dtype):
    """Their squares and products are wider than they are."""
    integers, x = np.array([100, np.iinfo(dtype).max, 3], dtype), np.array([0.3, 1.7, -0.4])
    for f in (np.arctan2, np.remainder, np.logaddexp, np.multiply, np.divide, np.fmax, np.dot, np.outer, np.append):
        for g in (f, lambda a, b, f=f: f(b, a)):
            found, expected = ([], [])
            for numbers, into in ((integers, found), (integers.astype(float), expected)):
                leaf = tg.Tensor(x, requires_grad=True)
                (gradient,) = tg.grad(tg.sum(np.square(g(leaf, numbers))), [leaf], create_graph=True)
                into += [gradient.numpy(), tg.grad(tg.sum(gradient), leaf).numpy()]
            np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=f.__name__)


def test_what_numpy_makes_of_integers_a_constant_tensor_is():
    for dtype in (np.int8, np.uint8, np.int64):
        x = np.array([1, 2, 100], dtype)
        for f in (np.reciprocal, lambda x: np.full_like(x, 2.7)):
            found = np.asarray(f(tg.Tensor(x)))
            assert found.dtype == dtype and found.tolist() == f(x).tolist()


# What is refused


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: x // 2.0, "np.floor(a / b)"),
        (lambda x: 2.0 // x, "np.floor(a / b)"),
        (lambda x: x.astype(int), "stay with floats"),
        (lambda x: np.pad(x, 1, "mean"), "has the modes constant, edge, reflect, symmetric and wrap, not 'mean'"),
        (lambda x: np.pad(x, 1, "reflect", reflect_type="odd"), "takes no reflect_type="),
        (lambda x: np.pad(x, 1, constant_values=x[0]), "plain array would lose the gradient"),
        (
            lambda x: np.pad(x, 1, "edge", constant_values=1.0),
            "constant_values= in the mode constant only, not in edge",
        ),
        (lambda x: np.sort(x, kind="fast"), "sort kind must be one of"),
        (lambda x: np.full_like(tg.Tensor([1, 2]), x[0]), "no gradient flows through integers: fill floats"),
        (lambda x: np.einsum(x, [-1]), "axis=-1: give a whole number, at least 0"),
        (lambda x: np.cross(x, x), "np.cross has no derivative rule: use what it is made of"),
        (lambda x: np.insert(x, 0, 1.0), "np.insert has no derivative rule: use what it is made of"),
        (lambda x: np.ravel(np.outer(x, x), "F"), "np.ravel on a Tensor takes no order="),
        (lambda x: np.cumprod(x, dtype=np.float32), "np.cumprod on a Tensor takes no dtype="),
        (lambda x: np.std(x, where=[True, False, True]), "takes no where="),
        (lambda x: np.einsum("i->", x, dtype=np.float32), "takes no dtype="),
        (lambda x: np.linalg.norm(np.outer(x, x), 2), "norm has no derivative here for ord=2 over 2 axes"),
        (lambda x: np.linalg.norm(x, x[0]), "no derivative with respect to ord: use sum(abs(x) ** ord) ** (1 / ord)"),
        (lambda x: np.linalg.norm(x, 0), "norm has no derivative here for ord=0 over 1 axes"),
        (lambda x: np.tensordot(np.outer(x, x), np.ones((2, 3)), axes=([0], [0])), "shape-mismatch for sum"),
        (lambda x: np.full_like(x, x[0], dtype=np.float32), "np.full_like on a Tensor takes no dtype="),
        (lambda x: np.diff(x, n=-1), "n=-1: give a whole number, at least 0"),
        (lambda x: np.hypot(x, x), "use np.sqrt(x * x + y * y)"),
        (
            lambda x: np.linalg.inv(np.outer(x, x)),
            "np.linalg.inv has no derivative rule: use what it is made of, or add a primitive",
        ),
        (lambda x: np.nancumsum(x), "use np.cumsum if that is meant"),
        (lambda x: np.polyadd(x, x), "np.polyadd has no derivative rule: use what it is made of"),  # not np.add
        (lambda x: np.fft.fft(x), "np.fft.fft has no derivative: there are no complex numbers here"),
    ],
)
def test_a_refusal_names_the_remedy_and_never_the_way_out(call, words):
    with pytest.raises((TypeError, ValueError)) as told:
        call(tg.Tensor([1.0, 2.0, 3.0], requires_grad=True))
    assert words in str(told.value) and "\n" not in str(told.value)
    assert "plain array" in words or not re.search("detach|numpy\\(", str(told.value))


ADVISED = """
    average cbrt floor_divide fmod gradient hypot kron logaddexp2 median nan_to_num nansum
    ptp resize select sinc trapezoid
""".split()


@pytest.mark.parametrize("name", ADVISED)
def test_what_is_advised_is_the_same_and_has_a_gradient(name):
    array, y, w = OPERANDS["v"] - 0.5, OPERANDS["w"], np.array([1.0, 2.0, 3.0, 4.0])

    def call(x):
        arguments = {
            **{"average": [x, None, w], "resize": [x, 6], "select": [[array > y, array <= y], [x, y]]},
            **{key: [x, y] for key in ("kron", "hypot", "logaddexp2", "fmod", "floor_divide")},
        }.get(name, [x])
        return getattr(np, name)(*arguments)

    expected, leaf = call(array), tg.Tensor(array, requires_grad=True)
    with pytest.raises(TypeError) as told:
        call(leaf)
    advice = re.search("use (.*), or add a primitive of your own$", str(told.value))[1]
    found = eval(advice, {"np": np, "x": leaf, "y": y, "w": w})
    np.testing.assert_allclose(found.numpy(), expected[1:-1] if name == "gradient" else expected, rtol=1e-12)
    assert found.requires_grad and getattr(np, name) not in NUMPY


@pytest.mark.parametrize("order", [1, 3, -2, np.inf])
def test_the_order_of_a_norm_may_be_a_tensor_that_needs_no_gradient(order):
    x = tg.Tensor([[1.0, -2.0, 3.0]], requires_grad=True)
    expected = np.linalg.norm(x.numpy(), order, axis=1)
    for given in (order, tg.Tensor(order), np.array(order), np.float64(order)):
        np.testing.assert_allclose(tg.norm(x, given, axis=1).numpy(), expected, rtol=1e-14)
    with pytest.raises(TypeError, match="no derivative with respect to ord"):
        tg.norm(x, tg.Tensor(float(order), requires_grad=True), axis=1)


def test_methods_are_those_of_an_array():
    array = OPERANDS["A"]
    x = tg.Tensor(array, requires_grad=True)
    for call in (
        *(lambda a: a.ravel(), lambda a: a.flatten(), lambda a: a[:, None].squeeze(1), lambda a: a.swapaxes(0, 1)),
        *(lambda a: a.max(), lambda a: a.min(axis=1), lambda a: a.max(0, keepdims=True), lambda a: a.std(axis=0)),
        *(lambda a: a.dot(array.T), lambda a: a.astype(np.float32), lambda a: a.astype(float), lambda a: a.copy()),
        *(lambda a: a % 0.25, lambda a: 2.0 % a),
    ):
        found, expected = call(x), call(array)
        assert found.requires_grad and found is not x and found.dtype == expected.dtype
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)
        assert tg.grad(tg.sum(found * found), x).dtype == np.float64
    assert x.tolist() == array.tolist()
    assert tg.Tensor([1.7, -0.2]).astype(int).numpy().tolist() == [1, 0]


# In a program that is derived, where shapes are those of the example

LOSSES = """
    tg.sum(np.roll(y, 1, 0) * y); tg.sum(np.tile(y, (2, 1, 1)) ** 2); tg.sum(np.diff(y, axis=0) ** 2); np.linalg.norm(y)
    tg.sum(np.pad(y, ((1, 1), (0, 0), (0, 0)))[:-2] * y); tg.sum(np.std(y, 0)); np.dot(y.ravel(), np.ravel(y))
    tg.sum(np.flip(y, 0) * y); tg.sum(np.vstack([y, y]) ** 2); tg.sum(np.moveaxis(y, 0, -1) ** 2)
    tg.sum(np.take(y, -1, axis=0) ** 2); np.tensordot(y, y, 3); tg.sum(np.logaddexp(y, 0.5)); tg.sum(y % 0.3 * y)
    tg.sum(np.tril(y) * y); tg.sum(np.arctan(y.swapaxes(0, 1))); tg.sum(np.fmax(y, 0.1)); y.max() + y.std()
    tg.cross_entropy(y[-1], [0, -1], ignore_index=-1); tg.mse_loss(y[-1], np.zeros((2, 3)), "sum")
    tg.sum(np.cumprod(y, 0)); tg.sum(np.sort(y, 0))
"""
LOSSES = [loss for line in LOSSES.strip().splitlines() for loss in line.strip().split("; ")]


@pytest.mark.parametrize(
    "text", [pytest.param(t, marks=pytest.mark.slow if i > 5 else ()) for i, t in enumerate(LOSSES)]
)
def test_a_derived_program_gives_the_engines_numbers_or_an_error_at_every_length(text):
    cell, rng = tg.RNNCell(2, 3, rng=0), np.random.default_rng(0)
    body = re.sub(r"\by\b", "outputs", text)
    loss = eval(f"lambda outputs, state: {body}", {"np": np, "tg": tg})
    try:
        program = tg.derive_bptt(cell, loss, (rng.normal(size=(6, 2, 2)), np.zeros((2, 3))))
    except tg.bptt.TraceError as error:
        assert "argsort" in str(error)  # in which order they come is a question about values
        return
    for steps in (6, 9, 4):
        x = rng.normal(size=(steps, 2, 2))
        try:
            value, gradients = program(x, np.zeros((2, 3)), cell.parameters())
        except ValueError:
            assert steps != 6
            continue
        expected = loss(tg.unroll(cell, x, tg.Tensor(np.zeros((2, 3))))[0], None)
        np.testing.assert_allclose(value, expected.numpy(), rtol=1e-10)
        for name, parameter in cell.parameters().items():
            np.testing.assert_allclose(gradients[name], tg.grad(expected, parameter).numpy(), rtol=1e-9, atol=1e-12)


def test_a_number_times_an_array_is_an_inner_product():
    x = tg.Tensor(np.arange(1.0, 7.0).reshape(2, 3), requires_grad=True)
    for a, b in [(x, 2.0), (2.0, x), (x, tg.Tensor(2.0)), (tg.Tensor(2.0), x)]:
        np.testing.assert_array_equal(np.inner(a, b).data, 2 * x.data)
        np.testing.assert_array_equal(tg.grad(tg.sum(np.inner(a, b)), x).data, np.full((2, 3), 2.0))


def test_functions_by_numpys_names_say_whose_they_are_and_take_arguments_in_places():
    x = tg.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    for function, given in [
        (np.roll, (1,)),
        (np.tile, ((2, 1),)),
        (np.tril, (-1,)),
        (np.swapaxes, (0, 1)),
        (np.round, (1,)),
    ]:
        np.testing.assert_array_equal(function(x, *given).data, function(x.data, *given))
        assert tg.tensor.NUMPY[function].__doc__ == f"As `numpy.{function.__name__}`."
    assert np.trace(tg.Tensor(np.arange(8.0).reshape(2, 2, 2)), 0).data.tolist() == [6.0, 8.0]
