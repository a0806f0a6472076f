"""Derived BPTT: no equation changes its value when it is simplified; every node knows what it is for the example."""

import itertools

import numpy as np
import pytest

from tinygrad_rnn.bptt.identities import simplest
from tinygrad_rnn.symbolic.trace import Node, computed
from tinygrad_rnn.tensor import OPS

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


def said(node):
    """An equation in words: what is computed of what, and what of its static parameters is not as on the left side."""
    if not node.args:
        return node.name or repr(node.value)
    return f"{node.op}({', '.join(map(said, node.args))})"


def vocabulary():
    """Leaves by name, and every primitive as a function of nodes."""
    shapes = {"x": (2, 3), "y": (2, 3), "M": (3, 3), "N": (3, 3), "W": (4, 3), "U": (4, 5), "h": (2, 5)}
    shapes |= {"b": (4,), "d": (4,), "v": (3,), "row": (1, 3), "s": (), "A": (3, 3, 3)}
    rng = np.random.default_rng(0)
    names = {name: Node("input", value=rng.uniform(0.5, 1.5, shape), name=name) for name, shape in shapes.items()}

    def call(op):
        return lambda *args, **static: computed(
            op, tuple([a if isinstance(a, Node) else leaf(a, "number") for a in args]), static
        )

    calls = {op: call(op) for op in (*OPS, "detach")}
    names["total"] = lambda a: Node("total", (a,), value=a.value)
    names["at_t"] = lambda a: Node("at_t", (a,), value=a.value[0])
    names["two"] = leaf(np.array(2.0), "constant")
    return calls | names


SIMPLER = {
    "linear(x, W, b)": "add(matmul(x, transpose(W)), b)",
    "affine(x, W, b, h, U, d)": "add(add(matmul(x, transpose(W)), matmul(h, transpose(U))), add(b, d))",
    "reshape(x, shape=(2, 3))": "x",
    "broadcast_to(x, shape=(2, 3))": "x",
    "cast(x, dtype=np.dtype('f8'))": "x",
    "detach(x)": "x",
    "sum(negative(x), axis=(0,), keepdims=False)": "negative(sum(x))",
    "mean(negative(x), axis=(0,), keepdims=False)": "negative(mean(x))",
    "reshape(negative(x), shape=(3, 2))": "negative(reshape(x))",
    "broadcast_to(negative(v), shape=(2, 3))": "negative(broadcast_to(v))",
    "cast(negative(x), dtype=np.dtype('f4'))": "negative(cast(x))",
    "transpose(negative(x), axes=(1, 0))": "negative(transpose(x))",
    "getitem(negative(x), index=(0,))": "negative(getitem(x))",
    "scatter(negative(v), index=(0,), shape=(2, 3))": "negative(scatter(v))",
    "total(negative(x))": "negative(total(x))",
    "reshape(reshape(x, shape=(6,)), shape=(3, 2))": "reshape(x)",
    **{
        f"{op}({a}, {b})": f"negative({op}(M, N))"
        for op in ("multiply", "divide", "matmul")
        for a, b in [("negative(M)", "N"), ("M", "negative(N)")]
    },
    **{f"{op}(negative(M), negative(N))": f"{op}(M, N)" for op in ("multiply", "divide", "matmul")},
    "add(x, negative(y))": "subtract(x, y)",
    "subtract(x, negative(y))": "add(x, y)",
    "add(negative(x), y)": "subtract(y, x)",
    "power(x, 1)": "x",
    "power(x, 2)": "square(x)",
    **{f"{op}({a})": "x" for op, n in (("add", 0), ("multiply", 1)) for a in (f"x, {n}", f"{n}, x", f"x, {n}.0")},
    # Constants, and numbers that are stretched
    "multiply(two, 3)": "array(6.)",
    "add(x, broadcast_to(0.0, shape=(2, 3)))": "x",
    "multiply(x, broadcast_to(reshape(1.0, shape=(1, 1)), shape=(2, 3)))": "x",
    "multiply(broadcast_to(v, shape=(2, 3)), 2)": "broadcast_to(multiply(v, 2))",
    "tanh(broadcast_to(v, shape=(2, 3)))": "broadcast_to(tanh(v))",
    "add(x, broadcast_to(v, shape=(2, 3)))": "add(x, v)",
    "multiply(x, two)": "multiply(x, 2)",
    "multiply(x, add(two, 0.5))": "multiply(x, add(array(2.), 0.5))",
    "broadcast_to(reshape(s, shape=(1, 1)), shape=(2, 3))": "broadcast_to(s)",
    # Axes and places
    "at_t(broadcast_to(v, shape=(5, 3)))": "v",
    "at_t(broadcast_to(s, shape=(5, 2, 3)))": "broadcast_to(s)",
    "at_t(broadcast_to(row, shape=(5, 3)))": "at_t(broadcast_to(row))",
    "scatter(x, index=(...,), shape=(2, 3))": "x",
    "scatter(reshape(x, shape=(2, 1, 3)), index=(slice(None), None), shape=(2, 3))": "x",
    "scatter(v, index=(0,), shape=(2, 3))": "scatter(v)",
    "reshape(sum(x, axis=(0,), keepdims=True), shape=(3,))": "sum(x)",
    "reshape(max(x, axis=(1,), keepdims=False), shape=(2, 1))": "max(x)",
    "reshape(sum(x, axis=(0,), keepdims=False), shape=(3, 1))": "reshape(sum(x))",
    "getitem(matmul(M, reshape(v, shape=(3, 1))), index=(..., 0))": "matmul(M, v)",
    "getitem(matmul(M, reshape(v, shape=(3, 1))), index=(0,))": "getitem(matmul(M, reshape(v)))",
    "getitem(matmul(M, M), index=(..., 0))": "getitem(matmul(M, M))",
    "where(x, y, condition=True)": "x",
    "where(x, y, condition=False)": "y",
    "transpose(x, axes=(0, 1))": "x",
    "transpose(transpose(x, axes=(1, 0)), axes=(1, 0))": "x",
    "transpose(total(matmul(x, transpose(W, axes=(1, 0)))), axes=(1, 0))": "total(matmul(W, transpose(x)))",
    # Einsums
    "einsum(x, M, subscripts='ij,jk->ik')": "matmul(x, M)",
    "einsum(M, x, subscripts='jk,ij->ik')": "matmul(x, M)",
    "einsum(x, W, subscripts='ij,kj->ik')": "matmul(x, transpose(W))",
    "einsum(x, y, subscripts='ij,ik->jk')": "matmul(transpose(x), y)",
    "einsum(x, v, subscripts='ij,j->i')": "matmul(x, v)",
    "einsum(v, M, subscripts='i,ij->j')": "matmul(v, M)",
    "einsum(v, v, subscripts='i,i->')": "matmul(v, v)",
    **{
        s: s.partition(", subscripts")[0] + ")"
        for s in (
            "einsum(x, y, subscripts='ij,ij->ij')",
            "einsum(x, y, subscripts='ij,ij->i')",
            "einsum(x, subscripts='ij->ji')",
            "einsum(A, M, subscripts='ijk,kl->ijl')",
            "einsum(A, M, subscripts='kij,kl->ijl')",
            "einsum(M, A, subscripts='lk,ijk->lij')",
            "einsum(M, N, subscripts='ij,jk->k')",
            "einsum(v, v, subscripts='i,j->ij')",
            "einsum(M, N, subscripts='ij,jj->ij')",
        )
    },
}


@pytest.mark.parametrize("left", SIMPLER)
def test_an_equation_becomes_the_one_that_a_person_would_write(left):
    node = eval(left, {"np": np, **vocabulary()})
    made = simplest(node)
    assert said(made) == SIMPLER[left] and made.form == node.form
    np.testing.assert_allclose(made.value, node.value, rtol=1e-6)
