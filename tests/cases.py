"""What every primitive and every public function is checked on: one entry per name, with its meaning in bare NumPy.

A new primitive or function without an entry here fails `test_every_function_is_checked`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import Case, axes, broadcastable, cotangents, distinct, grid, indices, leading, shapes

import tinygrad_rnn as tg

# What takes functions or whole graphs rather than arrays has tests of its own.
NOT_ON_THE_PAGE = {"grad", "vjp", "jvp", "jacobian", "hessian", "hvp", "unroll", "detach", "primitive"}
NOT_ON_THE_PAGE |= {"gradient_graph", "draw", "draw_side_by_side", "film", "gradient_through_time"}
NOT_ON_THE_PAGE |= {"from_torch", "from_state_dict", "derive_bptt"}


@dataclass(frozen=True)
class Spec:
    """How a function is called, what it means, and on what it is checked.

    ``call(*arrays, **options)`` is ours, ``reference`` the same in NumPy; ``complex_step`` says that the function is
    analytic and may be checked with complex numbers too.
    """

    call: Callable[..., Any]
    reference: Callable[..., Any]
    cases: st.SearchStrategy[Case]
    complex_step: bool = True


CASES: dict[str, Spec] = {}


def check(name: str, reference: Any, cases: Any, call: Any = None, complex_step: bool = True) -> None:
    assert name not in CASES
    CASES[name] = Spec(call or getattr(tg, name, None) or tg.OPS[name], reference, cases, complex_step)


# Element by element


def unary(values: Any = grid, **bounds: float) -> st.SearchStrategy[Case]:
    return shapes().flatmap(lambda s: values(s, **bounds)).map(lambda x: Case((x,)))


kinked = shapes().flatmap(distinct).map(Case)


@st.composite
def binary(draw: Any, left: Any = grid, right: Any = grid) -> Case:
    a, b = draw(broadcastable())
    return Case((draw(left(a)), draw(right(b))))


def positive(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    return grid(shape, 0.25, 2.0)


@st.composite
def clipped(draw: Any) -> Case:
    a, b = draw(broadcastable())
    (x,) = draw(distinct(a))
    bounds = st.integers(-3, 3).map(lambda k: k / 4)  # between the distinct values
    many = hnp.arrays(float, b, elements=bounds, fill=st.nothing())
    return Case((x,), {"a_min": draw(st.none() | bounds | many), "a_max": draw(bounds | many)})


@st.composite
def chosen(draw: Any) -> Case:
    a, b, c = draw(broadcastable(3))
    condition = draw(hnp.arrays(bool, c, elements=st.booleans(), fill=st.nothing()))
    return Case((draw(grid(a)), draw(grid(b))), {"condition": condition})


check("negative", lambda x: 0 - x, unary())
check("exp", np.exp, unary())
check("expm1", np.expm1, unary())
check("log", np.log, unary(low=0.25))
check("log1p", np.log1p, unary(low=-0.75))
check("sqrt", np.sqrt, unary(low=0.25))
check("square", lambda x: x * x, unary())
check("sin", np.sin, unary())
check("cos", np.cos, unary())
check("tanh", np.tanh, unary())
check("sigmoid", lambda x: (1 + np.tanh(x / 2)) / 2, unary())
check("softplus", lambda x: np.log1p(np.exp(x)), unary(), complex_step=False)
check("abs", np.abs, kinked, complex_step=False)
check("relu", lambda x: x * (x > 0), kinked, complex_step=False)
check(
    "leaky_relu",
    lambda x, slope=0.01: x * np.where(x > 0, 1, slope).astype(x.dtype),
    st.builds(
        lambda x, o: Case(x, o),
        shapes().flatmap(distinct),
        st.sampled_from([{}, {"slope": 0.25}, {"slope": 0.0}, {"slope": -0.5}, {"slope": 1.5}]),
    ),
    complex_step=False,
)
check("add", np.add, binary())
check("subtract", np.subtract, binary())
check("multiply", np.multiply, binary())
check("divide", np.divide, binary(right=cotangents))
check("power", np.power, binary(left=positive))
check("maximum", np.maximum, broadcastable().flatmap(lambda s: distinct(*s)).map(Case), complex_step=False)
check("minimum", np.minimum, broadcastable().flatmap(lambda s: distinct(*s)).map(Case), complex_step=False)
check("clip", np.clip, clipped(), complex_step=False)
check(
    "where",
    lambda a, b, condition: np.where(condition, a, b),
    chosen(),
    lambda a, b, condition: tg.where(condition, a, b),
)

# NumPy's further functions with a rule of their own


@st.composite
def divided(draw: Any) -> Case:
    """Operands of a remainder, away from its jumps."""
    a, b = draw(broadcastable())
    y = draw(cotangents(b))
    whole = draw(hnp.arrays(int, np.broadcast_shapes(a, b), elements=st.integers(-3, 3), fill=st.nothing()))
    return Case(((whole + 0.5) * y, y))


check("tan", np.tan, unary(low=-1.25, high=1.25))
check("sinh", np.sinh, unary())
check("cosh", np.cosh, unary())
check("arcsin", np.arcsin, unary(low=-0.875, high=0.875))
check("arccos", np.arccos, unary(low=-0.875, high=0.875))
check("arctan", np.arctan, unary())
check("arcsinh", np.arcsinh, unary())
check("arccosh", np.arccosh, unary(low=1.25, high=3.0))
check("arctanh", np.arctanh, unary(low=-0.875, high=0.875))
check("log2", lambda x: np.log(x) / np.log(2).astype(x.dtype), unary(low=0.25))
check("log10", np.log10, unary(low=0.25))
check("logaddexp", lambda a, b: np.log(np.exp(a) + np.exp(b)), binary(), complex_step=False)
check("arctan2", np.arctan2, binary(right=cotangents), complex_step=False)
check("remainder", lambda a, b: a - b * np.floor(a / b), divided(), complex_step=False)

# Reductions


@st.composite
def reduced(draw: Any, values: Any = grid, one: bool = False, keepdims: bool = True, empty: bool = True) -> Case:
    shape = draw(shapes(empty=empty))
    x = draw(values(shape))
    options: dict[str, Any] = {"axis": draw(axes(len(shape), one))}
    if keepdims:
        options["keepdims"] = draw(st.booleans())
    return Case(x if isinstance(x, tuple) else (x,), options)


def _small_reduced(**options: Any) -> st.SearchStrategy[Case]:
    return reduced(empty=False, **options)


@st.composite
def normalised(draw: Any) -> Case:
    shape = draw(shapes(min_dims=1, empty=False))
    axis = draw(st.none() | st.integers(-len(shape), len(shape) - 1) | hnp.valid_tuple_axes(len(shape), min_size=1))
    return Case((draw(grid(shape)),), {} if axis is None else {"axis": axis})


@st.composite
def normed(draw: Any) -> Case:
    """Norms of all elements, of vectors and of matrices."""
    shape = draw(shapes(min_dims=1, empty=False))
    one = st.tuples(st.sampled_from([None, 1, 2, 2.5, np.inf, -np.inf]), st.integers(-len(shape), len(shape) - 1))
    pairs = st.permutations(range(len(shape))).map(lambda order: tuple(order[:2]))
    two = st.tuples(st.sampled_from(["fro", 1, -1, np.inf, -np.inf]), pairs)
    ord, axis = draw(st.one_of(st.just((None, None)), one, two) if len(shape) > 1 else one)
    (x,) = draw(distinct(shape))
    x = x + 1 / 16 + x * x / 7  # neither two of the same size nor two sums
    return Case((x,), {"ord": ord, "axis": axis, "keepdims": draw(st.booleans())})


def _logsumexp(x: np.ndarray, axis: Any = None, keepdims: bool = False) -> Any:
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def _softmax(x: np.ndarray, axis: int = -1) -> Any:
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)


check("sum", np.sum, reduced())
check("mean", np.mean, _small_reduced())
check("max", np.max, _small_reduced(values=distinct), complex_step=False)
check("min", np.min, _small_reduced(values=distinct), complex_step=False)
check("var", np.var, _small_reduced())
check("std", np.std, _small_reduced(values=distinct))
check("norm", np.linalg.norm, normed(), complex_step=False)
check("prod", np.prod, reduced())
check("cumsum", np.cumsum, reduced(one=True, keepdims=False))
check("logsumexp", _logsumexp, _small_reduced(), complex_step=False)
check("softmax", _softmax, normalised(), complex_step=False)
check("log_softmax", lambda x, axis=-1: np.log(_softmax(x, axis)), normalised(), complex_step=False)

# Shape


@st.composite
def reshaped(draw: Any) -> Case:
    x = draw(shapes().flatmap(grid))
    targets: list[Any] = [x.shape[::-1], (x.size,), (1, *x.shape), (*x.shape, 1), x.size]
    if x.size:
        targets += [-1, (-1, 1), (*x.shape[:1], -1)]
    return Case((x,), {"shape": draw(st.sampled_from(targets))})


@st.composite
def permuted(draw: Any) -> Case:
    x = draw(st.one_of(shapes(), shapes(min_dims=3)).flatmap(grid))  # only a cycle of three is not its own inverse
    order = draw(st.permutations(range(x.ndim)))
    signs = draw(st.lists(st.booleans(), min_size=x.ndim, max_size=x.ndim))
    axes = tuple(a - x.ndim * sign for a, sign in zip(order, signs, strict=True))
    return Case((x,), draw(st.sampled_from([{}, {"axes": axes}, {"axes": axes}, {"axes": list(axes)}])))


@st.composite
def stretched(draw: Any) -> Case:
    a, b = draw(broadcastable())
    return Case((draw(grid(a)),), {"shape": np.broadcast_shapes(a, b)})


@st.composite
def squeezed(draw: Any) -> Case:
    shape = draw(st.lists(st.sampled_from([1, 1, 2, 3, 0]), max_size=4).map(tuple))
    ones = [i - len(shape) * draw(st.integers(0, 1)) for i, n in enumerate(shape) if n == 1]
    some = tuple(draw(st.lists(st.sampled_from(ones), unique=True))) if ones else ()
    return Case((draw(grid(shape)),), {"axis": draw(st.sampled_from([None, some, *ones]))})


@st.composite
def expanded(draw: Any) -> Case:
    x = draw(shapes(max_dims=2).flatmap(grid))
    two = draw(st.permutations(range(x.ndim + 2)))[:2]
    axis: Any = draw(st.sampled_from([draw(st.integers(-x.ndim - 1, x.ndim)), (two[0], two[1] - x.ndim - 2)]))
    return Case((x,), {"axis": axis})


@st.composite
def indexed(draw: Any) -> Case:
    x = draw(shapes().flatmap(grid))
    return Case((x,), {"index": draw(indices(x.shape))})


@st.composite
def scattered(draw: Any) -> Case:
    shape = draw(shapes())
    index = draw(indices(shape))
    g = draw(grid(np.empty(shape)[index].shape))
    return Case((g,), {"index": index if isinstance(index, tuple) else (index,), "shape": shape})


def _scatter(g: np.ndarray, index: Any, shape: tuple[int, ...]) -> np.ndarray:
    if not prod(shape):
        return np.zeros(shape, g.dtype)
    places = np.arange(prod(shape)).reshape(shape)[index]
    totals = [[g.reshape(-1)[np.reshape(places, -1) == place].sum() for place in range(prod(shape))]]
    return np.array(totals).reshape(shape).astype(g.dtype)


@st.composite
def joined(draw: Any) -> Case:
    shape = draw(shapes(min_dims=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    parts = [draw(grid(tuple(n if i == axis % len(shape) else m for i, m in enumerate(shape)))) for n in sizes]
    return Case(tuple(parts), draw(st.sampled_from([{"axis": axis}, {"axis": axis}, {"axis": None}])))


@st.composite
def stacked(draw: Any) -> Case:
    shape = draw(shapes())
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return Case(tuple(draw(grid(shape)) for _ in range(draw(st.integers(1, 3)))), {"axis": axis})


@st.composite
def cut(draw: Any) -> Case:
    shape = draw(shapes(min_dims=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    where = st.lists(st.integers(0, n), max_size=3).map(sorted)
    equal = st.sampled_from([k for k in range(1, n + 1) if n % k == 0] or [1])
    return Case((draw(grid(shape)),), {"indices_or_sections": draw(st.one_of(where, equal)), "axis": axis})


check("reshape", lambda x, shape: np.reshape(x, shape), reshaped())
check("transpose", np.transpose, permuted())
check("broadcast_to", np.broadcast_to, stretched())
check("squeeze", np.squeeze, squeezed())
check("expand_dims", np.expand_dims, expanded())
check("getitem", lambda x, index: x[index], indexed())
check("scatter", _scatter, scattered(), tg.OPS["scatter"])
check(
    "cast",
    lambda x, dtype: x.astype(dtype),
    unary().map(lambda case: Case(case.arrays, {"dtype": np.dtype(np.float64)})),
    tg.OPS["cast"],
    complex_step=False,
)
check("concatenate", lambda *xs, axis: np.concatenate(xs, axis), joined(), lambda *xs, axis: tg.concatenate(xs, axis))
check("stack", lambda *xs, axis: np.stack(xs, axis), stacked(), lambda *xs, axis: tg.stack(xs, axis))
check("split", np.split, cut())

# Products and losses

MATMUL = "(m?,n),(n,p?)->(m?,p?)"


@st.composite
def multiplied(draw: Any) -> Case:
    kind = draw(st.sampled_from(["square", "square", "any", "any"]))
    if kind == "square":  # where a forgotten transpose keeps the shape
        n = draw(st.integers(2, 3))
        shapes = [((n, n), (n, n)), ((n, n), (n,)), ((n,), (n, n)), ((2, n, n), (n, n))]
        shapes += [((2, n, n), (n,)), ((n,), (2, n, n)), ((n, n, n), (n, n, n))]
        a, b = draw(st.sampled_from(shapes))
    else:
        smallest = draw(st.sampled_from([1, 1, 1, 0]))
        drawn = hnp.mutually_broadcastable_shapes(signature=MATMUL, max_dims=2, min_side=smallest, max_side=3)
        a, b = draw(drawn).input_shapes
    return Case((draw(grid(a)), draw(grid(b))))


@st.composite
def subscripted(draw: Any) -> Case:
    """Random subscripts: shared, summed, repeated and transposed labels, Ellipsis, implicit results."""
    sizes = {label: draw(st.integers(1, 3)) for label in "ijkl"}
    count = draw(st.integers(1, 3))
    terms = [draw(st.lists(st.sampled_from("ijkl"), max_size=3, unique=draw(st.booleans()))) for _ in range(count)]
    used = sorted(set().union(*terms))
    result = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
    dots = draw(st.sampled_from([None, None, (2,), (1, 2)]))
    implicit = draw(st.booleans())
    arrays, parts = [], []
    for term in terms:
        batch = () if dots is None else dots[draw(st.integers(0, len(dots))) :]
        place = draw(st.sampled_from([0, len(term)]))
        shape = [sizes[label] for label in term]
        arrays.append(draw(grid((*shape[:place], *batch, *shape[place:]))))
        parts.append("".join([*term[:place], "" if dots is None else "...", *term[place:]]))
    arrow = "" if implicit else "->" + ("..." if dots is not None else "") + "".join(result)
    return Case(tuple(arrays), {"subscripts": ",".join(parts) + arrow})


@st.composite
def affine(draw: Any, recurrent: bool = False) -> Case:
    square = draw(st.booleans())
    batch = draw(st.sampled_from([(2,), (2,), (2, 2), ()]) if square else leading())
    width, inputs, state = (2, 2, 2) if square else (draw(st.integers(1, 3)) for _ in range(3))
    arrays = [draw(grid((*batch, inputs))), draw(grid((width, inputs))), draw(grid((width,)))]
    if recurrent:
        arrays += [draw(grid((*batch, state))), draw(grid((width, state))), draw(grid((width,)))]
    return Case(tuple(arrays))


@st.composite
def compared(draw: Any) -> Case:
    shape = draw(shapes(empty=False))
    return Case((draw(grid(shape)), draw(grid(shape))))


@st.composite
def classified(draw: Any) -> Case:
    rows, classes = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    labels = hnp.arrays(np.int64, (rows,), elements=st.integers(0, classes - 1))
    return Case((draw(grid((rows, classes))),), {"labels": draw(labels)})


def _linear(x: Any, W: Any, b: Any) -> Any:
    return np.einsum("...i,oi->...o", x, W) + b


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> Any:
    chosen = np.take_along_axis(np.exp(logits), labels[:, None], 1)[:, 0] / np.exp(logits).sum(1)
    return -np.mean(np.log(chosen))


check("matmul", np.matmul, multiplied())
check("dot", np.dot, multiplied().filter(lambda case: max(x.ndim for x in case.arrays) < 3))
check(
    "outer",
    np.outer,
    st.builds(lambda a, b: Case((a, b)), shapes(max_dims=2).flatmap(grid), shapes(max_dims=2).flatmap(grid)),
)
check(
    "einsum",
    lambda *xs, subscripts: np.einsum(subscripts, *xs),
    subscripted(),
    lambda *xs, subscripts: tg.einsum(subscripts, *xs),
)
check("linear", _linear, affine())
check("affine", lambda x, W, b, h, U, d: _linear(x, W, b) + _linear(h, U, d), affine(recurrent=True))
check("mse_loss", lambda p, t: np.mean((p - t) ** 2), compared(), complex_step=False)
check("cross_entropy", _cross_entropy, classified(), complex_step=False)
