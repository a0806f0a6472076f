"""Random programs with sharing: their gradients, and what must hold on every edge of their gradient graphs."""

import weakref
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import indices, shapes

import tinygrad_rnn as tg
from tinygrad_rnn import gathering
from tinygrad_rnn.autodiff import pullback
from tinygrad_rnn.testing import gradcheck
from tinygrad_rnn.testing.strategies import programs

SEEDS = st.integers(0, 2**16)
MORE = settings(max_examples=int(1.4 * settings().max_examples))


def cotangent_of(y, seed):
    rng = np.random.default_rng(seed)
    return np.asarray(rng.choice([-1.0, 1.0], y.shape) * rng.uniform(0.5, 1.5, y.shape))


def traced(program, constants=()):
    """The program on Tensors: all its values, of which the last is the result."""
    leaves = [tg.Tensor(leaf, requires_grad=i not in constants) for i, leaf in enumerate(program.leaves)]
    return program.values(leaves)


def uses_in(program):
    """How often each value, on all of which the result depends, is an operand; unused leaves have no part."""
    counts = dict.fromkeys([len(program.leaves) + len(program.steps) - 1], 0)
    return counts | Counter(i for step in program.steps for i in step.operands)


def assert_close(actual, expected, *terms):
    """Equal up to the rounding of a sum in another order, which is relative to its terms: they may cancel."""
    scale = max([1.0, *(np.abs(term).max(initial=0.0) for term in (expected, *terms))])
    np.testing.assert_allclose(actual, expected, 1e-11, 1e-12 * scale)


@MORE
@given(programs(), SEEDS)
def test_gradient_equals_differences(program, seed):
    gradcheck(program, *program.leaves, rng=seed)


@settings(max_examples=max(3, settings().max_examples // 3))
@given(programs(most=5), SEEDS)
def test_second_order_equals_differences(program, seed):
    gradcheck(program, *program.leaves, order=2, rng=seed)


@MORE
@given(programs(most=10), SEEDS, st.sets(st.integers(1, 3)))
def test_contributions_on_edges_sum_to_the_gradient(program, seed, constants):
    values = traced(program, constants)
    loss = values[-1]
    if not loss.requires_grad:
        return
    cotangent = cotangent_of(loss, seed)
    graph = tg.gradient_graph(loss, cotangent)
    uses = uses_in(program)
    watched = {i for i in uses if values[i].requires_grad}
    expected = dict(zip(sorted(watched), tg.grad(loss, [values[i] for i in sorted(watched)], cotangent), strict=True))
    for i in watched:
        node = graph.node_of(values[i])
        edges = list(graph.edges_from(node))
        assert len(edges) == uses[i]
        assert node.shape == values[i].shape == node.gradient.shape
        assert_close(node.gradient, expected[i].numpy())
        if values[i] is loss:
            np.testing.assert_array_equal(node.gradient, cotangent)
        else:
            assert all(edge.contribution.shape == node.shape for edge in edges)
            contributions = [edge.contribution for edge in edges]
            assert_close(sum(contributions), node.gradient, *contributions)
    assert all((edge.contribution is None) == (graph.nodes[edge.source].gradient is None) for edge in graph.edges)
    assert all(leaf.grad is None for leaf in values[: len(program.leaves)])


@given(programs(), SEEDS)
def test_edges_scale_with_the_seed_and_repeat(program, seed):
    loss = traced(program)[-1]
    cotangent = cotangent_of(loss, seed)
    once, again, doubled = (tg.gradient_graph(loss, k * cotangent) for k in (1, 1, 2))
    for a, b, c in zip(once.edges, again.edges, doubled.edges, strict=True):
        assert (a.source, a.target, a.operand) == (b.source, b.target, b.operand) == (c.source, c.target, c.operand)
        if a.contribution is not None:
            np.testing.assert_array_equal(a.contribution, b.contribution)
            np.testing.assert_array_equal(2 * a.contribution, c.contribution)  # exact: a power of two


@MORE
@given(programs(most=10), SEEDS)
def test_all_ways_through_the_sweep_agree(program, seed):
    """Fast, watched, differentiable and graph-freeing: the same gradients; nothing given is changed."""
    values = traced(program)
    loss, leaves = values[-1], values[: len(program.leaves)]
    cotangent = cotangent_of(loss, seed)
    before = cotangent.copy()
    fast = pullback({loss: cotangent})
    terms = []
    watched = pullback({loss: cotangent}, through=lambda node, operand, term: terms.append(term) or term)
    differentiable = tg.grad(loss, leaves, tg.Tensor(cotangent), create_graph=True, allow_unused=True)
    loss.backward(cotangent)
    loss.backward(cotangent)  # accumulates
    freed = traced(program)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinygrad_rnn.autodiff.BLOCK", seed % 7)  # so that it is swept in several
        freed[-1].backward(cotangent, retain_graph=False)
    assert set(fast) == set(watched)
    for leaf, other, g, given_array in zip(leaves, freed, differentiable, program.leaves, strict=False):
        expected = watched.get(leaf, np.zeros(leaf.shape))
        assert_close(np.asarray(fast.get(leaf, np.zeros(leaf.shape))), expected, *terms)
        assert_close(g.numpy(), expected, *terms)
        assert_close(np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy(), 2 * expected, *terms)
        assert_close(np.zeros(leaf.shape) if other.grad is None else other.grad.numpy(), expected, *terms)
        np.testing.assert_array_equal(leaf.numpy(), given_array)
    np.testing.assert_array_equal(cotangent, before)


@given(programs(), SEEDS)
def test_gradient_of_a_sum_of_heads_is_the_sum_of_their_gradients(program, seed):
    values = traced(program)
    leaves, heads = values[: len(program.leaves)], values[len(program.leaves) :]
    seeds = [cotangent_of(head, seed + i) for i, head in enumerate(heads)]
    together = tg.Tensor(0.0)
    for head, u in zip(heads, seeds, strict=True):
        together = together + tg.sum(head * u)
    parts = [tg.grad(head, leaves, u, allow_unused=True) for head, u in zip(heads, seeds, strict=True)]
    for i, g in enumerate(tg.grad(together, leaves, allow_unused=True)):
        terms = [part[i].numpy() for part in parts]
        assert_close(g.numpy(), sum(terms), *terms)


@given(programs(most=4), programs(most=4), SEEDS)
def test_chain_rule(inner, outer, seed):
    """The pullback of g after f is f's pullback of g's."""

    def after(y):
        return outer(*(tg.Tensor(leaf) + tg.sum(y) / 64 for leaf in outer.leaves))

    z, pull = tg.vjp(lambda *xs: after(inner(*xs)), *inner.leaves)
    u = cotangent_of(z, seed)
    y, inner_pull = tg.vjp(inner, *inner.leaves)
    _, outer_pull = tg.vjp(after, y)
    for direct, chained in zip(pull(u), inner_pull(outer_pull(u)[0]), strict=True):
        assert_close(chained.numpy(), direct.numpy())


@pytest.mark.parametrize("most", [0, 20, gathering.MOST_GATHERED])
@pytest.mark.parametrize("uses", [1, 2, 7, 60])
def test_a_weight_of_many_uses_gathers_all_of_them(uses, most, monkeypatch):
    """The sweep adds up the uses of a weight in blocks: no use is lost at the seams, whatever the batch shapes are."""
    monkeypatch.setattr(gathering, "MOST_GATHERED", most)
    rng = np.random.default_rng(uses)
    W, b = (tg.Tensor(rng.normal(size=s) / 2, requires_grad=True) for s in [(3, 3), (3,)])
    h = tg.Tensor(rng.normal(size=(2, 3)), requires_grad=True)
    xs = [tg.Tensor(rng.normal(size=[(3,), (4, 3), (2, 1, 3), (0, 3)][t % 4])) for t in range(uses)]

    def loss(linear, affine):  # which add up in different ways, so that W has several totals
        total, y = tg.Tensor(0.0), h
        for x in xs:
            y = tg.tanh(linear(y, W, b))
            z = linear(x, W, b)
            total = total + tg.sum(tg.square(z)) + tg.sum(y @ W) + tg.sum(tg.sin(affine(z, W, b, z, W, b)))
        return total

    def product(x, W, b):
        return x @ W.T + b

    total, leaves = loss(tg.linear, tg.affine), (W, b, h)
    composed = loss(product, lambda x, W, b, h, U, d: product(x, W, b) + product(h, U, d))
    for g, expected in zip(tg.grad(total, leaves), tg.grad(composed, leaves), strict=True):
        assert_close(g.numpy(), expected.numpy())
    watched = pullback({total: np.ones(())}, through=lambda node, operand, contribution: contribution)
    for leaf, g in zip(leaves, tg.grad(total, leaves), strict=True):
        assert_close(g.numpy(), watched[leaf])
    graph = tg.gradient_graph(total)
    edges = list(graph.edges_from(graph.node_of(W)))
    assert len(edges) == 5 * uses
    assert_close(sum(edge.contribution for edge in edges), watched[W])


@pytest.mark.parametrize("seed", [np.ones(2), [1, 1], np.array([True, True]), np.ones(2, np.float32)])
def test_a_cotangent_takes_the_dtype_of_the_output(seed):
    x = tg.Tensor(np.float32([0.5, -1.0]), requires_grad=True)
    y = tg.tanh(x)
    assert tg.grad(y, y, seed).dtype == tg.grad(y, x, seed).dtype == np.float32
    assert tg.gradient_graph(y, seed).node_of(y).gradient.dtype == np.float32


def test_what_is_gathered_is_not_added_into_anothers_memory():
    """W + V hands one array to both; what the uses of W in products add up to must reach W alone."""
    rng = np.random.default_rng(0)
    u, v, x = rng.normal(size=(3, 2, 2))
    for first in (0, 1):  # whichever of the two is older
        leaves = [tg.Tensor(rng.normal(size=(2, 2)), requires_grad=True) for _ in range(2)]
        W, V = leaves[first], leaves[1 - first]
        loss = tg.sum((W + V) * u) + tg.sum(tg.linear(x, W, np.zeros(2)) * v)
        for_w, for_v = (g.numpy() for g in tg.grad(loss, (W, V)))
        assert_close(for_w, u + v.T @ x)
        np.testing.assert_array_equal(for_v, u)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [1, 2, 300, 70_000])
def test_a_cotangent_that_two_operands_share_is_added_to_for_neither(size, dtype):
    """x + y hands one array to both: another use of x, older or newer, leaves what y gets alone. Whatever the size."""
    u, v = np.random.default_rng(size).choice([-1.0, 0.5, 2.0], (2, size)).astype(dtype)
    x, y = (tg.Tensor(np.ones(size, dtype), requires_grad=True) for _ in range(2))
    older, s = x * v + y * v, x + y
    newer = x * v + y * v
    early, late = tg.sum(s * u) + tg.sum(older), tg.sum(s * u) + tg.sum(newer)
    for loss in (early, late):
        *both, of_s = (g.numpy() for g in tg.grad(loss, (x, y, s)))
        np.testing.assert_array_equal(of_s, u)
        for g in (*both, *(g.numpy() for g in tg.grad(loss, (x, y)))):
            np.testing.assert_array_equal(g, u + v)
        loss.backward()
    for leaf in (x, y):
        np.testing.assert_array_equal(leaf.grad.numpy(), 2 * (u + v))


def test_one_input_asked_for_twice_and_seeds_at_two_depths():
    x = tg.Tensor([0.5, -2.0], requires_grad=True)
    y = x * x
    z = y * y
    first, second = tg.grad(z, (x, x), np.ones(2))
    np.testing.assert_array_equal(first.numpy(), second.numpy())
    np.testing.assert_allclose(first.numpy(), 4 * x.numpy() ** 3)
    found = pullback({z: np.array([1.0, 2.0]), y: np.array([3.0, -1.0])}, [x, y])
    np.testing.assert_allclose(found[y], [3, -1] + 2 * y.numpy() * [1, 2])
    np.testing.assert_allclose(found[x], 2 * x.numpy() * found[y])


def test_what_is_gathered_is_kept_apart_by_primitive():
    """Two primitives on the same weights: each totals its own uses."""
    gathered = type(tg.OPS["linear"].rules[1])
    twice = tg.primitive(
        "twice_linear",
        lambda x, W, b: 2 * (x @ W.T) + b,
        lambda g, y, x, W, b: 2 * (g @ W),
        gathered(lambda g, y, x, W, b: 2 * (g.T @ x), lambda uses: 2 * (uses.rows(0).T @ uses.rows(2))),
        gathered(lambda g, y, x, W, b: g, lambda uses: uses.rows(0)),
    )
    try:
        x, W, b = (
            tg.Tensor(np.random.default_rng(len(s)).normal(size=s), requires_grad=True) for s in [(2, 3), (4, 3), (4,)]
        )
        loss = sum(tg.sum(op(x, W, b) * (k + 1)) for k, op in enumerate((tg.linear, twice, tg.linear, twice)))
        watched = pullback({loss: np.ones(())}, (x, W, b), lambda node, i, c: c)
        for tensor, g in zip((x, W, b), tg.grad(loss, (x, W, b)), strict=True):
            np.testing.assert_allclose(g.data, watched[tensor], rtol=1e-12)
    finally:
        del tg.OPS["twice_linear"]


def test_gathering_keeps_no_tensor_of_a_graph_that_is_taken_apart():
    """What was gathered is let go when its receiver is reached, not at the end of the sweep."""
    alive = []
    x = tg.Tensor(np.linspace(-1, 1, 8), requires_grad=True)
    watcher = tg.primitive(
        "watcher", lambda x: x + 0, lambda g, y, x: alive.append(sum(r() is not None for r in seen)) or g
    )
    try:
        y, seen = watcher(x), []
        for _ in range(20):
            y = tg.tanh(y * 2)
            seen.append(weakref.ref(y))
            y = y[::-1]
        tg.sum(y).backward(retain_graph=False)
        assert alive[0] <= 1  # the sweep still holds the last one by name
    finally:
        del tg.OPS["watcher"]


@st.composite
def picks(draw):
    """A shape, and several indices into it."""
    shape = draw(shapes(min_dims=1))
    return shape, draw(st.lists(indices(shape), min_size=2, max_size=4))


@given(picks(), SEEDS)
def test_getitem_many_times_adds_every_pick(shape_and_indices, seed):
    """The sweep adds picks of one tensor in place: each at its place, as often as it was picked."""
    shape, several = shape_and_indices
    x = tg.Tensor(np.zeros(shape), requires_grad=True)
    total, expected = tg.Tensor(0.0), np.zeros(int(np.prod(shape)))
    for k, index in enumerate(several):
        y = x[index]
        u = cotangent_of(y, seed + k)
        total = total + tg.sum(y * u)
        places = np.arange(expected.size).reshape(shape)[index]
        expected += np.bincount(places.reshape(-1), u.reshape(-1), expected.size)
    assert_close(tg.grad(total, x).numpy(), expected.reshape(shape))
