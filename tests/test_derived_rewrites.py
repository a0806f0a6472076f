"""Derived BPTT: no equation changes its value when it is simplified; every node knows what it is for the example."""

import itertools

import numpy as np
import pytest

from tinygrad_rnn.bptt.identities import simplest
from tinygrad_rnn.symbolic.trace import Node, computed

X, Y = np.random.default_rng(0).uniform(0.5, 1.5, (2, 2, 3, 4))


def leaf(value, op="input"):
    return Node(op, value=value)


def numbers():
    return [leaf(n, "number") for n in (0, 1, 2, -1, -2, 0.5, 0.0, 1.0)]


def arrays():
    """Two inputs, and what rules look for among operands: negatives, constants, ones that are stretched or not."""
    x, y = leaf(X), leaf(Y)
    constants = [leaf(c, "constant") for c in (np.zeros(X.shape), np.ones(X.shape), np.arange(24.0).reshape(X.shape))]
    row = computed("broadcast_to", (leaf(X[0, 0]),), {"shape": X.shape})
    return [x, y, computed("negative", (x,), {}), computed("negative", (y,), {}), row, *constants]


def assert_same(node):
    made = simplest(node)
    assert made.form == node.form, (node, made)
    np.testing.assert_allclose(made.value, node.value, rtol=1e-14, err_msg=repr((node, node.args, made)))


@pytest.mark.parametrize("op", ["add", "subtract", "multiply", "divide", "power", "maximum"])
def test_arithmetic(op):
    for a, b in itertools.product([*arrays(), *numbers()], repeat=2):
        defined = op != "power" or (np.all(a.value > 0) and np.shape(b.value) == ())
        if "number" != a.op and defined and not (op == "divide" and np.any(b.value == 0)):
            assert_same(computed(op, (a, b), {}))


def test_choices():
    x, y = arrays()[:2]
    for condition in (True, False, X > 1):
        known = leaf(condition, "number" if isinstance(condition, bool) else "input")
        assert_same(computed("where", (x, y, known), {}, ("condition",)))
        both = computed("logical_and", (computed("greater", (x, y), {}), known), {})
        assert np.array_equal(simplest(both).value & np.ones(X.shape, bool), both.value)


def test_axes_and_shapes():
    x = leaf(X)
    for one, two in itertools.product(itertools.permutations(range(3)), repeat=2):
        assert_same(computed("transpose", (computed("transpose", (x,), {"axes": one}),), {"axes": two}))
    for op, axis, keep in itertools.product(
        ("sum", "mean", "max"), [(0,), (1,), (2,), (0, 1), (1, 2), ()], (True, False)
    ):
        reduced = computed(op, (x,), {"axis": axis, "keepdims": keep})
        assert_same(reduced)
        for shape in {(*np.sum(X, axis or (), keepdims=k).shape,) for k in (True, False)} | {(reduced.value.size,)}:
            assert_same(computed("reshape", (reduced,), {"shape": shape}))
    for minus in (computed("negative", (x,), {}), x):
        for op, static in {
            "reshape": {"shape": (6, 4)},
            "broadcast_to": {"shape": (5, 2, 3, 4)},
            "getitem": {"index": (slice(None), 1)},
            "scatter": {"index": (slice(0, 2),), "shape": (3, 3, 4)},
            "transpose": {"axes": (2, 1, 0)},
            "sum": {"axis": (1,), "keepdims": True},
        }.items():
            assert_same(computed(op, (minus,), static))


@pytest.mark.parametrize(
    "subscripts", ["ij,jk->ik", "ij,kj->ik", "ji,jk->ik", "ji,kj->ik", "ij,jk->ki", "i,ij->j", "ji,i->j"]
)
def test_einsums_of_two_matrices(subscripts):
    terms = subscripts.partition("->")[0].split(",")
    a, b = (leaf(np.random.default_rng(len(t)).normal(size=[{"i": 2, "j": 3, "k": 4}[i] for i in t])) for t in terms)
    assert_same(computed("einsum", (a, b), {"subscripts": subscripts}))


def test_a_product_with_a_column_is_one_with_a_vector():
    a, v, m = (leaf(np.random.default_rng(0).normal(size=s)) for s in ((3, 4), (4,), (2, 2)))
    for inner, index in itertools.product((v, m), [(..., 0), (0,), (slice(None), 0)]):
        column = computed("reshape", (inner,), {"shape": (4, 1)})
        assert_same(computed("getitem", (computed("matmul", (a, column), {}),), {"index": index}))
