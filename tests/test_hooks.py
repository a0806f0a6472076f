"""The sweep that a hook watches, beside the one that gathers only totals."""

import tracemalloc

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import gathering
from tinygrad_rnn.autodiff import pullback
from tinygrad_rnn.primitive import Gathered


def leaf(*shape, seed=0, dtype=np.float64):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True)


def test_a_hook_watches_or_cuts_an_edge():
    x = tg.Tensor(3.0, requires_grad=True)
    y = x * x
    seen = []
    full = pullback({y: np.ones(())}, [x], lambda node, i, c: seen.append((i, float(c))) or c)
    assert seen == [(0, 3.0), (1, 3.0)] and float(full[x]) == 6.0
    cut = pullback({y: np.ones(())}, [x], lambda node, i, c: c * 0 if i == 1 else c)
    assert float(cut[x]) == 3.0


@pytest.mark.parametrize("most", [0, 4, gathering.MOST_GATHERED])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_hook_is_shown_each_use_of_a_weight(dtype, most, monkeypatch):
    """Contributions are computed for many uses together: each is what its rule says, and may be cut."""
    monkeypatch.setattr(gathering, "MOST_GATHERED", most)
    W, b, U, d = (leaf(*shape, seed=i, dtype=dtype) for i, shape in enumerate([(4, 3), (4,), (4, 4), (4,)]))
    loss, h = tg.Tensor(0.0), tg.Tensor(np.zeros((2, 4), dtype))
    for t in range(7):
        x = tg.Tensor(np.random.default_rng(t).normal(size=(2, 3)))  # float64 also beside float32
        h = tg.tanh(tg.affine(x, W, b, h, U, d))
        loss = loss + tg.sum(tg.square(tg.linear(x, W, b))) + tg.sum(tg.square(h))
    cotangents, seen, weights = {}, {}, {W, b, U, d}

    def watch(node, operand, contribution):
        source = node._operands[operand]
        cotangents[source] = cotangents.get(source, 0) + contribution
        if source in weights:
            seen[node, operand] = contribution
        return contribution

    total = pullback({loss: np.ones(())}, through=watch)
    assert len(seen) == 7 * (4 + 2)
    for (node, i), contribution in seen.items():
        alone = node._op.rules[i](cotangents[node], node._value, *node._arrays)
        assert contribution.dtype == np.dtype(dtype) and contribution.shape == node._arrays[i].shape
        alone = alone.sum(axis=0) if alone.shape != contribution.shape else alone
        np.testing.assert_allclose(contribution, alone, 1e-12 if dtype == "float64" else 1e-4, 1e-6)
    chosen = {edge: k % 3 > 0 for k, edge in enumerate(seen)}
    cut = pullback({loss: np.ones(())}, through=lambda node, i, g: g if chosen.get((node, i), True) else g * 0)
    for weight in weights:
        edges = [edge for edge in seen if edge[0]._operands[edge[1]] is weight]
        assert len({chosen[edge] for edge in edges}) == 2
        np.testing.assert_allclose(cut[weight], sum(seen[edge] for edge in edges if chosen[edge]), 1e-4, 1e-6)
        np.testing.assert_allclose(total[weight], sum(seen[edge] for edge in edges), 1e-4, 1e-6)


def test_no_more_is_kept_than_a_block(monkeypatch):
    """Twenty cotangents of two numbers, for a weight of 16: they are added up whenever they have as many."""
    monkeypatch.setattr(gathering, "MOST_GATHERED", 6)
    W, blocks, total = leaf(2, 8), [], tg.OPS["linear"].rules[1].total
    monkeypatch.setattr(tg.OPS["linear"].rules[1], "total", lambda uses: blocks.append(len(uses)) or total(uses))
    loss = sum(tg.sum(tg.square(tg.linear(np.full((1, 8), k), W, np.zeros(2)))) for k in range(20))
    loss.backward()
    assert blocks == [8, 8, 4]


def test_the_last_block_may_be_shorter(monkeypatch):
    """Seven contributions of 16 numbers, of which three are computed together."""
    monkeypatch.setattr(gathering, "MOST_GATHERED", 6)
    W, seen, blocks, each = leaf(2, 8), [], [], tg.OPS["linear"].rules[1].each
    monkeypatch.setattr(tg.OPS["linear"].rules[1], "each", lambda uses: blocks.append(len(uses)) or each(uses))
    loss = sum(tg.sum(tg.square(tg.linear(np.full((1, 8), k), W, np.zeros(2)))) for k in range(7))
    found = pullback({loss: np.ones(())}, through=lambda node, i, g: seen.append(node._operands[i] is W) or g)
    assert blocks == [3, 3, 1] and sum(seen) == 7
    np.testing.assert_allclose(found[W], np.outer(2 * W.numpy().sum(axis=1), np.ones(8)) * sum(k * k for k in range(7)))


def steps(count=4, **bias):
    """A weight used at several steps, and the loss."""
    W, h = leaf(3, 3), tg.Tensor(np.ones((2, 3)))
    for _ in range(count):
        h = tg.tanh(tg.affine(np.ones((2, 3)), W, np.zeros(3), h, W, bias.get("d", np.zeros(3))))
    return W, tg.sum(h)


@pytest.mark.parametrize("none", [0.0, np.float64(0), np.zeros(()), np.zeros((1, 1))])
def test_what_a_hook_returns_need_not_have_the_shape_of_what_it_saw(none):
    """It is added up as any contribution: a number cuts an edge among others."""
    W, loss = steps()
    seen = []

    def cut(node, i, contribution):
        if i not in (1, 4):
            return contribution
        seen.append(contribution)
        return contribution if len(seen) % 3 else none

    found = pullback({loss: np.ones(())}, [W], cut)[W]
    assert len(seen) == 8
    np.testing.assert_allclose(found, sum(g for k, g in enumerate(seen, 1) if k % 3), 1e-12)


def test_a_hook_is_shown_nodes_that_are_not_freed_yet():
    W, loss = steps()
    full, seen = tg.grad(loss, W), []
    watch = lambda node, i, g: seen.append(node._operands[i]) or g  # noqa: E731
    found = pullback({loss: np.ones(())}, [W], watch, retain_graph=False)
    assert sum(operand is W for operand in seen) == 8
    np.testing.assert_allclose(found[W], full.numpy(), 1e-12)
    with pytest.raises(tg.GradientError, match="freed"):
        tg.grad(loss, W)


@pytest.mark.parametrize("most", [1, gathering.MOST_GATHERED])
def test_a_number_may_stand_for_a_bias(most, monkeypatch):
    """However much is gathered: it has no size of its own."""
    monkeypatch.setattr(gathering, "MOST_GATHERED", most)
    (W, loss), (V, other) = steps(), steps(d=0.0)
    np.testing.assert_allclose(tg.grad(other, V).numpy(), tg.grad(loss, W).numpy(), 1e-12)


def test_a_gathered_rule_of_your_own_leaves_broadcasting_to_the_sweep():
    of_each = lambda uses: [inputs[0] for inputs, *_ in uses]  # noqa: E731
    op = tg.primitive(
        "shifted",
        lambda x, b: x + b,
        lambda g, y, x, b: g,
        Gathered(lambda g, y, x, b: g, lambda uses: sum(of_each(uses)), lambda uses: np.array(of_each(uses))),
    )
    try:
        b = leaf(1, 3)
        loss = tg.sum(tg.square(op(np.ones((4, 3)), b))) + tg.sum(op(np.ones((4, 3)), b))
        shapes = []
        watched = pullback({loss: np.ones(())}, [b], lambda node, i, g: shapes.append(g.shape) or g)
        assert shapes.count((1, 3)) == 2
        np.testing.assert_allclose(watched[b], np.sum(2 * (1 + b.numpy()) + np.ones((4, 3)), axis=0, keepdims=True))
        np.testing.assert_allclose(pullback({loss: np.ones(())})[b], watched[b])
    finally:
        del tg.OPS["shifted"]


@pytest.fixture
def calls():
    """Products of which the second operand, or both, are gathered; what was asked of their rules."""
    asked = []

    def gathered(i, each):
        total = lambda uses: asked.append(f"total {i}") or sum(u[0][0] * u[0][3 - i] for u in uses)  # noqa: E731
        stack = lambda uses: asked.append(f"each {i}") or np.array([u[0][0] * u[0][3 - i] for u in uses])  # noqa: E731
        one = lambda g, y, a, b: asked.append(f"one {i}") or g * (b, a)[i]  # noqa: E731
        return Gathered(one, total, stack if each else None)

    tg.primitive("neither_apart", lambda a, b: a * b, lambda g, y, a, b: g * b, gathered(1, False))
    tg.primitive("one_apart", lambda a, b: a * b, gathered(0, False), gathered(1, True))
    asked.clear()  # to write its documentation, a declaration asks each rule once
    yield asked
    del tg.OPS["neither_apart"], tg.OPS["one_apart"]


@pytest.mark.parametrize("name", ["neither_apart", "one_apart"])
def test_a_rule_is_gathered_only_where_it_can_say_what_is_asked(calls, name):
    """Totals while nobody watches; while somebody does, contributions apart, for which every rule needs `each`."""
    a, b = leaf(3), leaf(3, seed=1)
    loss = tg.sum(tg.OPS[name](a, b) + tg.OPS[name](a, b))
    totals = pullback({loss: np.ones(())})
    assert calls and {call.split()[0] for call in calls} == {"total"}
    calls.clear()
    watched = pullback({loss: np.ones(())}, None, lambda node, i, g: g)
    assert {call.split()[0] for call in calls} == {"one"}
    for x in (a, b):
        np.testing.assert_allclose(watched[x], totals[x], 1e-12)


def test_weights_of_one_shape_are_watched_apart():
    W, V, x = leaf(2, 2), leaf(2, 2, seed=1), leaf(3, 2, seed=2)
    loss = sum(tg.sum(tg.square(tg.linear(x, weight, np.zeros(2)))) for weight in (W, V, W))
    seed = {loss: np.ones(())}
    totals, watched = pullback(seed, [W, V]), pullback(seed, [W, V], lambda node, i, g: g)
    for weight in (W, V):
        np.testing.assert_allclose(watched[weight], totals[weight], 1e-12)


def test_watching_takes_the_memory_of_some_contributions():
    """Not that of all: each is as large as the weight."""
    W, h = leaf(300, 300), leaf(1, 300, seed=1)
    for _ in range(40):
        h = tg.tanh(tg.linear(h, W, np.zeros(300)))
    tracemalloc.start()
    pullback({h: np.ones((1, 300))}, [W], lambda node, i, contribution: contribution)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2 * W.data.nbytes < most < 10 * W.data.nbytes


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), ("float32", 1e-4)])
def test_gathered_contributions_equal_the_watched_ones(dtype, rtol):
    cell = tg.LSTMCell(3, 4, dtype=dtype, rng=0)
    inputs = leaf(150, 2, 3, seed=1, dtype=dtype)  # longer than the sweep gathers at once
    outputs, _ = tg.unroll(cell, inputs)
    loss = tg.sum(outputs * outputs)
    seed = {loss: np.ones((), dtype)}
    leaves = [*cell.parameters().values(), inputs]
    fast = pullback(seed, leaves)
    watched = pullback(seed, leaves, lambda node, i, c: c)
    for tensor in leaves:
        assert fast[tensor].dtype == watched[tensor].dtype == dtype
        np.testing.assert_allclose(fast[tensor], watched[tensor], rtol, 0.01 * rtol)


@pytest.mark.parametrize("through", [None, lambda node, i, g: g])
def test_an_error_in_a_gathered_rule_says_where(through):
    def wrong(uses):
        raise FloatingPointError("overflow")

    op = tg.primitive("wrong", lambda x: x + 0, Gathered(lambda g, y, x: g, wrong, wrong))
    try:
        x = leaf(3)
        loss = tg.sum(op(x)) + tg.sum(op(x))
        with pytest.raises(FloatingPointError) as raised:
            pullback({loss: np.array(1.0)}, through=through)
    finally:
        del tg.OPS["wrong"]
    assert raised.value.__notes__ == ["in the derivative of wrong with respect to operand 0, uses: 2"]


def test_a_hook_is_shown_tensors_where_the_sweep_is_differentiated_again():
    """Each use of a weight and of what was sliced: nothing is gathered there."""
    cell, inputs = tg.LSTMCell(2, 3, rng=0), leaf(4, 2, 2, seed=1)
    outputs, _ = tg.unroll(cell, inputs)
    loss, seen = tg.sum(outputs * outputs), []
    leaves = [*cell.parameters().values(), inputs]

    def half(node, operand, contribution):
        seen.append((node._operands[operand], contribution))
        return contribution * 0.5 if node._operands[operand] is inputs else contribution

    found = pullback({loss: tg.Tensor(1.0)}, leaves, half, create_graph=True)
    assert all(isinstance(contribution, tg.Tensor) for _, contribution in seen)
    assert [sum(source is x for source, _ in seen) for x in leaves] == [4] * 5
    for x, g in zip(leaves, tg.grad(loss, leaves, create_graph=True), strict=True):
        factor = 0.5 if x is inputs else 1.0
        np.testing.assert_allclose(found[x].data, factor * g.data, 1e-12, 1e-15)
        second, expected = (tg.grad(tg.sum(tg.square(y)), cell.weight_hh) for y in (found[x], factor * g))
        np.testing.assert_allclose(second.data, expected.data, 1e-10, 1e-13)
