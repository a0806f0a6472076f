"""Linear functions, every configuration of a small box, against NumPy: ⟨g, f(v) - f(0)⟩ = ⟨f*(g), v⟩ for all g and v.

Random cases rarely meet the last axis of three or a permutation of four. Here nothing is left to chance, and it is
cheap: the rule is f*, and the identity needs no differences.
"""

import itertools

import numpy as np
import pytest

import tinygrad_rnn as tg

BOX = (2, 3, 4)


def subsets(n):
    return [axes for k in range(n + 1) for axes in itertools.combinations(range(n), k)]


CONFIGURATIONS = {
    **{
        f"{name} {axes} keepdims={keepdims}": (name, BOX, {"axis": axes, "keepdims": keepdims})
        for name in ("sum", "mean")
        for axes in (None, -1, -3, *subsets(3))
        for keepdims in (False, True)
    },
    **{
        f"cumsum {axis} of {n}": ("cumsum", BOX[:n], {"axis": axis})
        for n in (1, 2, 3)
        for axis in (None, *range(-n, n))
    },
    **{f"transpose {axes}": ("transpose", (2, 3, 4, 5), {"axes": axes}) for axes in itertools.permutations(range(4))},
    **{f"transpose {axes}": ("transpose", BOX, {"axes": axes}) for axes in itertools.permutations((-1, -2, -3))},
    **{
        f"transpose {axes}": ("transpose", (2, 1, 3, 2, 2), {"axes": axes})
        for axes in ((1, 2, 3, 4, 0), (4, 0, 3, 1, 2), (-2, 4, 0, -4, 2))
    },
    **{
        f"reshape {shape}": ("reshape", BOX, {"shape": shape})
        for shape in (24, -1, (4, 6), (6, -1), (2, 2, 2, 3), (1, 24, 1, 1), (4, 3, 2))
    },
    **{
        f"broadcast_to {shape} {to}": ("broadcast_to", shape, {"shape": to})
        for to in (BOX, (5, *BOX))
        for shape in ((), (1,), (4,), (3, 1), (1, 4), (1, 1), (2, 1, 1), (2, 1, 4), (1, 3, 1), (2, 3, 1), BOX)
    },
}


def check_adjoint(f, ours, arrays):
    """The identity for all operands at once, twice; f is NumPy's, and linear (or affine) in each operand alone."""
    rng = np.random.default_rng(0)
    xs = [tg.Tensor(a, requires_grad=True) for a in arrays]
    y = ours(*xs)
    for _ in range(2):
        g = rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape)
        for i, gradient in enumerate(tg.grad(y, xs, g)):
            v = rng.normal(size=arrays[i].shape)
            moved, still = (f(*[u if k == i else a for k, a in enumerate(arrays)]) for u in (v, 0 * v))
            moved = moved - still
            np.testing.assert_allclose(np.vdot(gradient.numpy(), v), np.vdot(g, moved), rtol=1e-11, atol=1e-13)
            check_again(ours, arrays, i, g, v, moved)


def check_again(ours, arrays, i, g, v, moved):
    """The second order: the identity holds for all g and all other operands, so its derivatives by them agree too."""
    xs = [tg.Tensor(a, requires_grad=True) for a in arrays]
    cotangent = tg.Tensor(g, requires_grad=True)
    (gradient,) = tg.grad(ours(*xs), [xs[i]], cotangent, create_graph=True)
    others = [x for k, x in enumerate(xs) if k != i]
    by_cotangent, *by_others = tg.grad(gradient, [cotangent, *others], v, allow_unused=True)
    np.testing.assert_allclose(by_cotangent.numpy(), moved, rtol=1e-11, atol=1e-13)
    if others:
        y, still = (ours(*[tg.Tensor(u) if k == i else x for k, x in enumerate(xs)]) for u in (v, 0 * v))
        y = y - still
        for found, expected in zip(by_others, tg.grad(y, others, g, allow_unused=True), strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name, shape, options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_one_operand(name, shape, options):
    x = np.random.default_rng(1).normal(size=shape)

    def numpys(a):  # NumPy 2.0 has no keyword shape
        return np.reshape(a, options["shape"]) if name == "reshape" else getattr(np, name)(a, **options)

    check_adjoint(numpys, lambda a: getattr(tg, name)(a, **options), [x])


@pytest.mark.parametrize("name", ["concatenate", "stack"])
@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_joined_operands(name, count, axis):
    sizes = [1, 2, 0, 3, 1, 1, 2, 1][:count] if name == "concatenate" else [3] * count
    shapes = [tuple(n if i == axis % 3 else m for i, m in enumerate(BOX)) for n in sizes]
    xs = [np.random.default_rng(k).normal(size=shape) for k, shape in enumerate(shapes)]
    joined = [
        getattr(np, name)([np.zeros(s) if k != i else x for k, s in enumerate(shapes)], axis) for i, x in enumerate(xs)
    ]
    for i, x in enumerate(xs):  # linear in all operands together: in each alone where the others are zero
        others = [np.zeros(s) for s in shapes]

        def ours(a, i=i, others=others):
            return getattr(tg, name)([a if k == i else z for k, z in enumerate(others)], axis)

        def numpys(a, i=i, others=others):
            return getattr(np, name)([a if k == i else z for k, z in enumerate(others)], axis)

        np.testing.assert_array_equal(ours(tg.Tensor(x)).numpy(), joined[i])
        check_adjoint(numpys, ours, [x])


SIDES = [(3,), (1, 3), (2, 3), (5, 2, 3), (1, 2, 3), (5, 1, 3), (4, 5, 2, 3), (0, 3)]
OTHERS = [(3,), (3, 1), (3, 2), (5, 3, 2), (1, 3, 2), (5, 3, 1), (4, 1, 3, 2), (3, 0)]


@pytest.mark.parametrize("a", SIDES, ids=str)
@pytest.mark.parametrize("b", OTHERS, ids=str)
def test_matmul(a, b):
    rng = np.random.default_rng(2)
    check_adjoint(np.matmul, tg.matmul, [rng.normal(size=a), rng.normal(size=b)])


@pytest.mark.parametrize("name", ["linear", "affine"])
@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("sizes", [(2, 3, 4), (2, 2, 2)], ids=str)
def test_layers(name, batch, sizes):
    rng, (width, inputs, state) = np.random.default_rng(4), sizes
    shapes = [(*batch, inputs), (width, inputs), (width,), (*batch, state), (width, state), (width,)]
    xs = [rng.normal(size=shape) for shape in shapes[: 3 if name == "linear" else 6]]

    def numpys(x, W, b, *more):
        return np.einsum("...i,oi->...o", x, W) + b + (numpys(*more) if more else 0.0)

    check_adjoint(numpys, getattr(tg, name), xs)


SUBSCRIPTS = """
    i->  i->i  ii->  ii->i  iji->j  ij->ji  ijk->ki  ijk->  i,i->  i,i->i  i,j->ij  i,j->ji  ij,jk->ik  ij,kj->ik
    ij,ij->ij  ij,ij->  ij,j->i  ij,k->ik  ij,k->j  ijk,ikl->ijl  ii,i->i  ii,jj->  ij,jk,kl->il  i,i,i->i
    i,j,k->kji  ij,ik,il->jkl  i,ij,jkl->ik  i,j,jk->ij
""".split()


@pytest.mark.parametrize("subscripts", SUBSCRIPTS)
@pytest.mark.parametrize("sizes", [{"i": 2, "j": 3, "k": 4, "l": 2}, {"i": 1, "j": 2, "k": 1, "l": 3}], ids=str)
def test_einsum(subscripts, sizes):
    terms = subscripts.split("->")[0].split(",")
    xs = [np.random.default_rng(k).normal(size=[sizes[label] for label in term]) for k, term in enumerate(terms)]
    check_adjoint(lambda *a: np.einsum(subscripts, *a), lambda *a: tg.einsum(subscripts, *a), xs)


@pytest.mark.parametrize(
    "subscripts, shapes",
    [
        ("i,i->i", [(1,), (3,)]),
        ("ij,ij->", [(1, 3), (2, 1)]),
        ("ij,jk->ik", [(2, 1), (3, 4)]),
        ("i,i,i->", [(1,), (3,), (3,)]),
        ("ij,ij->i", [(1, 1), (2, 3)]),
        ("ij,ij->", [(2, 3), (1, 1)]),
    ],
)
def test_einsum_stretches_ones(subscripts, shapes):
    xs = [np.random.default_rng(k).normal(size=shape) for k, shape in enumerate(shapes)]
    check_adjoint(lambda *a: np.einsum(subscripts, *a), lambda *a: tg.einsum(subscripts, *a), xs)


STRETCHED = [((), (2, 3, 4)), ((1,), (3,)), ((4,), (2, 3, 4)), ((3, 1), (2, 3, 4)), ((2, 1, 4), (2, 3, 4))]
STRETCHED += [
    ((2, 1, 1), (2, 3, 4)),
    ((1, 3, 1), (2, 1, 4)),
    ((1, 1), (5, 2, 3, 4)),
    ((5, 1, 3, 1), (2, 1, 4)),
    ((2, 0), (1, 1)),
]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("a, b", STRETCHED, ids=str)
def test_products_that_stretch(a, b, swapped):
    rng = np.random.default_rng(3)
    xs = [rng.normal(size=a), rng.normal(size=b)]
    check_adjoint(np.multiply, tg.multiply, xs[::-1] if swapped else xs)
    condition = rng.choice([True, False], np.broadcast_shapes(a, b)[-1:])
    zeros = np.zeros(b)
    check_adjoint(lambda x: np.where(condition, x, zeros), lambda x: tg.where(condition, x, zeros), xs[:1])
    check_adjoint(lambda x: np.where(condition, zeros, x), lambda x: tg.where(condition, zeros, x), xs[:1])
