"""Contributions kept as factors or slices: the norms and states of the arrays, without the arrays."""

import copy
import gc
import pickle
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.graph.contributions import Outer, Slice, Whole, summed
from tinygrad_rnn.norms import norm_of, state_of

NORMS = ("l2", "rms", "max")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from([np.float32, np.float64]),
    powers=st.tuples(st.integers(-200, 200), st.integers(-200, 200)),
    kind=st.sampled_from(["plain", "cancelling", "zero", "nan", "infinite", "spread"]),
    lost=st.booleans(),
)
def test_factors_tell_what_the_matrix_tells(seed, shape, dtype, powers, kind, lost):
    """Also where rows cancel, and where the numbers are at the ends of their dtype."""
    rows, n, m = shape
    rng = np.random.default_rng(seed)
    span = 300 if dtype is np.float64 else 37
    delta, x = (
        (rng.normal(size=(rows, k)) * 10.0 ** np.clip(p, -span, span)).astype(dtype)
        for k, p in zip((n, m), powers, strict=True)
    )
    if kind == "cancelling":
        delta, x = np.concatenate([delta, -delta]), np.concatenate([x, x])
    elif kind == "zero":
        delta[:] = 0.0
    elif kind in ("nan", "infinite"):
        x[0, 0] = np.nan if kind == "nan" else np.inf
    elif kind == "spread":
        delta *= dtype(10.0) ** -rng.integers(0, span // 2, size=delta.shape).astype(dtype)
    outer = Outer(delta, x, np.dtype(dtype))
    matrix = delta.T @ x
    assert outer.shape == matrix.shape
    np.testing.assert_array_equal(outer.array(), matrix)
    assert outer.state(lost) == state_of(matrix, lost)
    eps = np.finfo(dtype).eps
    for norm in NORMS:
        np.testing.assert_allclose(outer.norm(norm), norm_of(matrix, norm), rtol=2e3 * eps, err_msg=norm)


@pytest.mark.parametrize("rest", [1e-7, 1e-5, 0.1])
def test_what_is_left_where_rows_all_but_cancel_has_its_digits(rest):
    delta, x = np.random.default_rng(0).normal(size=(2, 1, 30))
    outer = Outer(np.concatenate([delta, (rest - 1) * delta]), np.concatenate([x, x]), np.dtype(np.float64))
    expected = rest * np.linalg.norm(delta) * np.linalg.norm(x)
    np.testing.assert_allclose(outer.norm("l2"), expected, rtol=1e-13 / rest)


@pytest.mark.parametrize("size", [1, 20, 40])
def test_a_matrix_whose_every_element_rounds_to_zero_is_zero(size):
    """Although its length, from the factors in float64, is a number that its dtype can hold."""
    outer = Outer(*[np.full((1, size), 2.0**-13, np.float16)] * 2, np.dtype(np.float16))
    assert not outer.array().any() and [outer.norm(norm) for norm in NORMS] == [0.0, 0.0, 0.0]
    assert (outer.state(True), outer.state(False)) == ("underflow", "zero")
    nothing = Outer(np.zeros((1, size)), np.ones((1, size)), np.dtype(np.float64))
    assert (nothing.state(True), nothing.state(False)) == ("underflow", "zero")


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    index=st.sampled_from([0, -1, slice(1, None), (..., 0), (slice(None, None, -1),), None, (None, 0, ...)]),
    zero=st.booleans(),
)
def test_a_slice_tells_what_the_array_around_it_tells(shape, index, zero):
    x = tg.Tensor(np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape), requires_grad=True)
    (edge, *_) = tg.gradient_graph(tg.sum(tg.square(x[index]) * (0.0 if zero else 1.0))).edges
    assert isinstance(edge.carried, Slice)
    expected = np.zeros(shape)
    if not zero:
        expected[index] = 2 * x.data[index]
    np.testing.assert_array_equal(edge.contribution, expected)
    assert edge.state == state_of(expected, False)
    for norm in NORMS:
        np.testing.assert_allclose(edge.size(norm), norm_of(expected, norm), rtol=1e-14)


def test_picks_that_may_meet_an_element_twice_are_added_up():
    x = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    graph = tg.gradient_graph(tg.sum(x[[0, 0, 2]]))
    np.testing.assert_array_equal(graph.edges[0].contribution, [2.0, 0.0, 1.0])
    assert graph.edges[0].norm == np.sqrt(5.0)


@example(kinds="oo", seed=0)
@given(kinds=st.lists(st.sampled_from("ows"), min_size=1, max_size=5), seed=st.integers(0, 2**32 - 1))
def test_a_sum_of_contributions_is_the_sum_of_their_arrays(kinds, seed):
    rng = np.random.default_rng(seed)
    make = {
        "o": lambda: Outer(rng.normal(size=(2, 40)), rng.normal(size=(2, 30)), np.dtype(np.float64)),
        "w": lambda: Whole(rng.normal(size=(40, 30))),
        "s": lambda: Slice(rng.normal(size=30), (int(rng.integers(40)),), (40, 30), np.dtype(np.float64)),
    }
    parts = [make[kind]() for kind in kinds]
    before = [part.array().copy() for part in parts]
    together = summed(parts)
    assert isinstance(together, Outer) or len(parts) == 1 or set(kinds) != {"o"}
    np.testing.assert_allclose(together.array(), sum(before), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(together.norm("l2"), norm_of(sum(before)), rtol=1e-13)
    for part, array in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part.array(), array)  # nothing was added into a part


@pytest.mark.parametrize("level", ["op", "gate", "step"])
@pytest.mark.parametrize("own", [False, True])
def test_no_edge_holds_an_array_as_large_as_a_weight(level, own):
    """Nor one as large as the sequence; and all edges of a weight still add up to its gradient, at every level."""

    def step(x, h):
        return tg.tanh(tg.matmul(x, V) + tg.matmul(h, W))

    V, W = (tg.Tensor(np.eye(n, 64), requires_grad=True, name=name) for n, name in ((3, "V"), (64, "W")))
    x = tg.Tensor(np.random.default_rng(0).normal(size=(20, 2, 3)), requires_grad=True, name="x")
    if own:
        h = np.zeros((2, 64))
        for t in range(20):
            with tg.scope(f"t={t + 1}"):
                h = step(x[t], h)
    else:
        h = tg.unroll(tg.GRUCell(3, 64, rng=0), x)[1]
    graph = tg.gradient_graph(tg.sum(h * h)).collapse(level)
    for edge in graph.edges:
        tensor = edge.tensor or graph.nodes[edge.source]
        if tensor.op is None and tensor.value.ndim > 1 and edge.carried is not None:
            held = {Outer: lambda c: c.delta.size + c.x.size, Slice: lambda c: c.part.size}[type(edge.carried)]
            assert held(edge.carried) < tensor.value.size
    sums = {}
    for edge in graph.edges:
        tensor = edge.tensor or graph.nodes[edge.source]
        if edge.carried is not None and tensor.op is None:
            sums[tensor.id] = sums.get(tensor.id, 0.0) + edge.contribution
    origin = graph.origin or graph
    for id, total in sums.items():
        np.testing.assert_allclose(total, origin.nodes[id].gradient, rtol=1e-11, atol=1e-13)


def test_memory_does_not_grow_with_steps_times_weights():
    """A picture of the steps: the graph, its edges' norms and the drawing hold a few arrays of the weight's size."""
    cell = tg.RNNCell(1, 256, rng=0)  # W_hh: 0.5 MB; 60 steps of it: 31 MB
    _, h = tg.unroll(cell, np.ones((60, 1, 1)))
    loss = tg.sum(h)
    tracemalloc.start()
    try:
        tg.draw(loss, level="step")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 8e6


def test_the_size_of_a_contribution_is_reckoned_once_and_that_of_its_array():
    """So the array of one that is kept whole cannot be written to; and the memory of it keeps nothing alive."""
    x = np.random.default_rng(0).normal(size=(3, 2, 2))
    outputs, _ = tg.unroll(tg.GRUCell(2, 3, rng=0), x)
    graph, kinds = tg.gradient_graph(tg.sum(outputs[-1] * outputs[0])), set()
    for edge in graph.edges:
        if edge.carried is not None:
            kinds.add(type(edge.carried))
            for norm in NORMS:
                np.testing.assert_allclose(edge.size(norm), norm_of(edge.contribution, norm), rtol=1e-14)
                assert edge.size(norm) == edge.size(norm) == edge.carried.norm(norm)
            if isinstance(edge.carried, Whole):
                with pytest.raises(ValueError, match="read-only"):
                    edge.contribution[...] = 0.0
    assert kinds == {Outer, Slice, Whole}
    alive = weakref.ref(graph.edges[0].carried or graph.edges[-1].carried)
    del graph, edge
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda graph: pickle.loads(pickle.dumps(graph))])
def test_no_array_whose_size_is_told_can_be_written_to_nor_one_of_a_copy(again):
    x = np.random.default_rng(0).normal(size=(3, 2, 2))
    outputs, _ = tg.unroll(tg.GRUCell(2, 3, rng=0), x)
    graph, kinds = tg.gradient_graph(tg.sum(outputs[-1] * outputs[0])), set()
    for level in ("op", "gate"):
        seen = graph.collapse(level)
        sizes = [edge.norm for edge in seen.edges]
        copied = again(seen)
        assert [edge.norm for edge in copied.edges] == sizes  # from here on they hold
        for edge in copied.edges:
            for name in ("delta", "x", "part", "kept"):
                if hasattr(edge.carried, name):
                    kinds.add(name)
                    with pytest.raises(ValueError, match="read-only"):
                        getattr(edge.carried, name)[...] = 7.0
        assert [edge.norm for edge in copied.edges] == sizes
    assert kinds == {"delta", "x", "part", "kept"}


def test_what_is_kept_locks_no_array_of_somebody_else():
    """Neither an operand, nor what a step of training writes to, nor the gradient that was given."""
    x, cotangent = np.ones((4, 2)), np.ones((2, 3))
    h, w = tg.Tensor(x, requires_grad=True), tg.Tensor(np.ones((2, 3)), requires_grad=True)
    graph = tg.gradient_graph((h @ w)[1:3], cotangent)
    before = [np.array(edge.contribution) for edge in graph.edges if edge.carried is not None]
    cotangent[...] = 5.0
    x[...] = 5.0
    for node in graph.nodes:
        if node.gradient is not None:
            node.gradient[...] = 5.0
    for edge, array in zip([e for e in graph.edges if e.carried is not None], before, strict=True):
        np.testing.assert_array_equal(edge.contribution, array)
        assert edge.norm == pytest.approx(norm_of(array))
