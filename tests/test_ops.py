"""Every primitive and every public function: value, first and second derivative, layouts, and the algebra of the vjp.

Each `check_...` is a plain function of one example, so that what Hypothesis prints can be pasted as a call
(with ``from numpy import array`` and ``from strategies import Case``).
"""

import inspect
from itertools import cycle
from math import prod

import numpy as np
import pytest
from cases import CASES, NOT_ON_THE_PAGE
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import ops
from tinygrad_rnn.autodiff import history
from tinygrad_rnn.testing import gradcheck
from tinygrad_rnn.testing.battery import LAYOUTS, laid_out

NAMES = sorted(CASES)
DTYPES = st.sampled_from(["float64"] * 3 + ["float32"])  # which sees less, but has faults of its own
SEEDS = st.integers(0, 2**16)
LOSSES = {"cross_entropy", "mse_loss"}  # Tensors, whatever they are of
# A fault may show for one rank, one dtype, or one kind of index of one operand only: the more kinds, the more examples.
MANY_KINDS = {"getitem", "scatter", "concatenate", "stack", "split", "einsum", "matmul"}


def run(check, name, share=1.0, **strategies):
    """Let Hypothesis call `check(name, case, ...)` with cases of this function."""
    examples = max(3, int(settings().max_examples * share))
    settings(max_examples=examples)(given(name=st.just(name), case=CASES[name].cases, **strategies)(check))()


def listed(y):
    return list(y) if isinstance(y, (list, tuple)) else [y]


def single(name, case):
    """The function with its options bound and its results, if several, joined into one vector."""

    def f(*xs):
        y = CASES[name].call(*xs, **case.options)
        return tg.concatenate([tg.reshape(part, -1) for part in y]) if isinstance(y, list) else y

    return f


def random_like(array, rng):
    return np.asarray(rng.choice([-1.0, 1.0], np.shape(array)) * rng.uniform(0.5, 1.5, np.shape(array)))


def test_every_function_is_checked():
    public = {n for n, value in vars(tg).items() if callable(value) and not inspect.isclass(value) and n[0] != "_"}
    unchecked = set(tg.OPS) | (public - NOT_ON_THE_PAGE)
    assert set(CASES) == unchecked, "a strategy, and the same in plain NumPy, for each: tests/cases.py"


# Element by element

FURTHER = {name for name in tg.OPS if not hasattr(ops, name)}  # those of NumPy's names alone
WITH_OPTIONS = {"clip", "leaky_relu", "where"}
ELEMENTWISE = [name for name, op in tg.OPS.items() if not (op.nary or op.phrase or op.shapes or name in WITH_OPTIONS)]
SHAPES = {
    1: [((),), ((3,),), ((2, 2),), ((2, 1, 3),)],
    2: [((), ()), ((3,), (3,)), ((2, 2), (2, 2)), ((2, 1, 3),) * 2, ((1, 3), (2, 1)), ((3,), (2, 3)), ((2, 3), (3,))],
}
SHAPES[2] += [((1, 1), (2, 3)), ((2, 3), (1, 1)), ((2, 3), ()), ((), (2, 3)), ((2, 2), (1, 2)), ((2, 1), (2, 2))]


def two_orders(name, arrays, w, vs):
    """The gradients of Σ w·y, and of Σ v·gradient."""
    xs = [tg.Tensor(a, requires_grad=True) for a in arrays]
    firsts = tg.grad(tg.OPS[name](*xs), xs, w, create_graph=True)
    total = tg.sum(tg.concatenate([tg.reshape(g * v, (-1,)) for g, v in zip(firsts, vs, strict=True)]))
    seconds = tg.grad(total, xs, allow_unused=True) if total.requires_grad else [0 * g for g in firsts]
    return [np.asarray(g.numpy()) for g in (*firsts, *seconds)]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_gradients_element_by_element_are_those_of_each_element_alone(name):
    """Of whatever rank, stretched or not, in either dtype: the sum over the elements of the result, one at a time."""
    for shapes in SHAPES[len(tg.OPS[name].rules)]:
        rng, full = np.random.default_rng(len(shapes)), np.broadcast_shapes(*shapes)
        arrays = [rng.permutation(np.linspace(0.31, 0.87, prod(s))).reshape(s) + (name == "arccosh") for s in shapes]
        w, vs = rng.uniform(0.5, 1.5, full), [rng.uniform(0.5, 1.5, s) for s in shapes]
        expected = [np.zeros(s) for s in shapes * 2]
        for place in np.ndindex(full):
            at = [tuple([i * (n > 1) for i, n in zip(place[len(full) - len(s) :], s, strict=True)]) for s in shapes]
            ones, weights = ([a[i] for a, i in zip(many, at, strict=True)] for many in (arrays, vs))
            alone = two_orders(name, ones, w[place], weights)
            for array, i, part in zip(expected, at * 2, alone, strict=True):
                array[i] += part
        for dtype, digits in ((np.float64, 1e-11), (np.float32, 2e-4)):
            found = two_orders(name, [a.astype(dtype) for a in arrays], w.astype(dtype), [v.astype(dtype) for v in vs])
            for ours, theirs in zip(found, expected, strict=True):
                assert ours.shape == theirs.shape
                np.testing.assert_allclose(ours, theirs, rtol=digits, atol=digits, err_msg=f"{shapes} {dtype}")


# Values


def check_value(name, case, dtype):
    case = case.cast(dtype)
    spec = CASES[name]
    expected = listed(spec.reference(*case.arrays, **case.options))
    given_arrays = [a.copy() for a in case.arrays]
    tensors = [tg.Tensor(a, requires_grad=True) for a in case.arrays]
    results = listed(spec.call(*tensors, **case.options))
    bare = listed(spec.call(*case.arrays, **case.options))
    assert len(results) == len(expected) == len(bare)
    for y, plain, want in zip(results, bare, expected, strict=True):
        assert isinstance(y, tg.Tensor) and isinstance(plain, tg.Tensor) == (name in LOSSES)
        assert y.shape == np.shape(plain) == np.shape(want)
        assert y.dtype == plain.dtype == want.dtype
        np.testing.assert_allclose(y.numpy(), want, *((1e-5, 1e-5) if dtype == "float32" else (1e-12, 1e-12)))
        np.testing.assert_array_equal(y.numpy(), np.asarray(plain))
    if name in tg.OPS:
        assert name in {node._op.name for node in history(results) if node._op}
    for array, before in zip(case.arrays, given_arrays, strict=True):
        np.testing.assert_array_equal(array, before)


# Gradients


def check_gradient(name, case, dtype, order, seed):
    order = order if dtype == "float64" else 1
    gradcheck(lambda *xs: CASES[name].call(*xs, **case.options), *case.cast(dtype).arrays, order=order, rng=seed)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_equals_differences(name):
    many, few = name in MANY_KINDS, name in FURTHER  # which are called by NumPy's names, and checked there too
    orders = st.sampled_from([*[1] * (3 if many else 2), 2])  # the second checks the first as well
    run(check_gradient, name, 1.6 if many else 0.2 if few else 0.5, dtype=DTYPES, order=orders, seed=SEEDS)


def check_complex_step(name, case, seed):
    if CASES[name].complex_step:

        def call(*xs):
            y = CASES[name].call(*xs, **case.options)
            return tg.concatenate([tg.reshape(part, (-1,)) for part in y]) if isinstance(y, (list, tuple)) else y

        rng, xs = np.random.default_rng(seed), [tg.Tensor(a, requires_grad=a.dtype.kind == "f") for a in case.arrays]
        seeds = rng.uniform(0.5, 1.5, (y := call(*xs)).shape) * rng.choice([-1.0, 1.0], y.shape)
        floats = [i for i, x in enumerate(xs) if x.requires_grad]
        for i, g in zip(floats, tg.grad(y, [xs[i] for i in floats], seeds, allow_unused=True), strict=True):
            direction = rng.choice([-1.0, 1.0], g.shape)
            moved = [a + 1e-20j * direction if k == i else a for k, a in enumerate(case.arrays)]
            along = float(np.sum(seeds * (np.asarray(call(*moved)).imag / 1e-20)))
            assert abs(float(np.sum(g.numpy() * direction)) - along) <= 1e-12 * (1 + float(np.abs(g.numpy()).sum()))


# The vjp is a linear map, and the jvp its adjoint: no differences, so nearly to the last digit.


def check_linearity(name, case, seed):
    rng = np.random.default_rng(seed)
    y, pull = tg.vjp(single(name, case), *case.arrays)
    u, v = random_like(y, rng), random_like(y, rng)
    for at_u, at_v, at_both, at_zero in zip(*map(pull, (u, v, 3 * u - v, 0 * u)), strict=True):
        scale = max(np.abs(at_u.numpy()).max(initial=1), np.abs(at_v.numpy()).max(initial=1))
        np.testing.assert_allclose(at_both.numpy(), 3 * at_u.numpy() - at_v.numpy(), 1e-12, 1e-12 * scale)
        assert not at_zero.numpy().any()


def check_adjoint(name, case, seed):
    rng = np.random.default_rng(seed)
    f = single(name, case)
    tangents = [random_like(a, rng) for a in case.arrays]
    y, pull = tg.vjp(f, *case.arrays)
    same, dy = tg.jvp(f, case.arrays, tangents)
    np.testing.assert_array_equal(y.numpy(), same.numpy())
    u = random_like(y, rng)
    products = [g.numpy() * v for g, v in zip(pull(u), tangents, strict=True)]
    scale = sum(np.abs(p).sum() for p in products) + np.abs(u * dy.numpy()).sum()
    assert abs(np.sum(u * dy.numpy()) - sum(p.sum() for p in products)) <= 1e-12 * (1 + scale)


# float32 is compared with float64, from the same numbers: differences would see no fault below a thousandth.


def check_single(name, case, seed):
    rng = np.random.default_rng(seed)
    case = case.cast("float32")
    y, pull = tg.vjp(single(name, case), *case.arrays)
    u = random_like(y, rng).astype(np.float32)
    exact = tg.vjp(single(name, case.cast("float64")), *case.cast("float64").arrays)[1](u.astype(float))
    for g, expected in zip(pull(u), exact, strict=True):
        assert g.dtype == np.float32
        largest = np.abs(expected.numpy()).max(initial=1.0)
        np.testing.assert_allclose(g.numpy(), expected.numpy(), 1e-4, 1e-4 * largest)


# Memory: no layout changes a number, and nothing is written to.


def check_layouts(name, case, dtype, seed):
    """Every operand, result and cotangent in every layout: a rule may be wrong in one of them only."""
    case = case.cast(dtype)
    rng = np.random.default_rng(seed)
    results = listed(CASES[name].call(*(tg.Tensor(a, requires_grad=True) for a in case.arrays), **case.options))
    for node in history(results):
        for turn in range(len(LAYOUTS)) if node._op is not None else ():
            check_layouts_of(node, rng, *(LAYOUTS[turn:] + LAYOUTS[:turn]))


def check_layouts_of(node, rng, of_g, of_y, *of_operands):
    operands = [with_layout(a, layout) for a, layout in zip(node._arrays, cycle(of_operands), strict=False)]
    plain, locked = zip(*operands, strict=True)
    y = np.asarray(node._op.forward(*plain, **node._static))
    # Not equal to the last digit: NumPy has other inner loops for arrays with gaps.
    digits = (1e-5, 1e-6) if y.dtype == np.float32 else (1e-13, 1e-14)
    np.testing.assert_allclose(node._op.forward(*locked, **node._static), y, *digits)
    g, locked_g = with_layout(random_like(y, rng).astype(y.dtype), of_g)
    for i in range(len(operands)):
        rule = node._op.rules[i]
        expected = rule(g, y, *plain, **node._static)
        np.testing.assert_allclose(rule(locked_g, laid_out(y, of_y), *locked, **node._static), expected, *digits)


def with_layout(value, layout):
    """(values in C order, the same values read-only in this layout); a number stays what it is."""
    if not isinstance(value, np.ndarray):
        return value, value
    if layout == "stride 0" and value.size:
        value = np.full_like(value, value.flat[0])
    return np.array(value), laid_out(value, layout)


# Everything but differences looks at the same case: to draw one takes longer than to look at it five times.


def check_case(name, case, dtype, seed):
    check_value(name, case, dtype)
    if seed % 3 == 0:  # all five layouts of everything are five times the work: for a third of the cases
        check_layouts(name, case, dtype, seed)
    check_linearity(name, case, seed)
    check_adjoint(name, case, seed)
    if dtype == "float32" and name != "cast":
        check_single(name, case, seed)
    check_complex_step(name, case, seed)


@pytest.mark.parametrize("name", NAMES)
def test_value_layouts_linearity_adjoint_and_complex_step(name):
    run(check_case, name, 0.4 if name in FURTHER else 1.0, dtype=DTYPES, seed=SEEDS)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("one, other", [("f8", "f4"), ("f4", "f8")])
def test_cast_brings_the_gradient_back_to_the_operands_dtype(one, other, shape):
    given = np.random.default_rng(0).integers(-9, 9, shape) / 4
    x = tg.Tensor(np.ones(shape, one), requires_grad=True)
    (g,) = tg.grad(tg.OPS["cast"](x, dtype=np.dtype(other)), [x], given.astype(other))
    assert g.dtype == one
    np.testing.assert_array_equal(g.numpy(), given)


@pytest.mark.parametrize("axis", [None, 1, (0, 2), (-1,), (0, 1, 2)])
@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_variance_divides_by_what_is_left_of_the_count(axis, ddof, keepdims):
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    leaf = tg.Tensor(x, requires_grad=True)
    y = tg.var(leaf, axis, ddof, keepdims)
    np.testing.assert_allclose(y.numpy(), np.var(x, axis, ddof=ddof, keepdims=keepdims), rtol=1e-14)
    count = x.size // np.mean(x, axis).size
    wide = np.arange(1.0, 1 + y.size).reshape(np.mean(x, axis, keepdims=True).shape)
    expected = 2 * wide * (x - x.mean(axis, keepdims=True)) / (count - ddof)
    np.testing.assert_allclose(tg.grad(y, leaf, wide.reshape(y.shape)).numpy(), expected, rtol=1e-13)
