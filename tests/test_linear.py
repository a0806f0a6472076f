"""What a sweep does grows as the graph does: counted, since a test measures no time."""

import tracemalloc

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import history, pullback
from tinygrad_rnn.symbolic.trace import Node

JOINS = {"stack": tg.stack, "concatenate": tg.concatenate}


def differentiable(loss, x):
    return tg.grad(loss, x, create_graph=True)


SWEEPS = {
    "backward": lambda loss, x: loss.backward(),
    "freed": lambda loss, x: loss.backward(retain_graph=False),
    "inputs": lambda loss, x: tg.grad(loss, [x]),
    "hook": lambda loss, x: pullback({loss: np.ones(())}, through=lambda node, i, g: g),
    "graph": lambda loss, x: tg.gradient_graph(loss),
    "differentiable": differentiable,
    "second": lambda loss, x: tg.sum(differentiable(loss, x)).backward(),
    "third": lambda loss, x: differentiable(tg.sum(differentiable(loss, x)), x),
}


@pytest.fixture
def looks(monkeypatch):
    """How often the operands of a join are looked at, by the number of them."""
    seen = []
    for name in JOINS:

        def counted(*inputs, rule=tg.OPS[name].rules.at_once, **static):
            seen.append(len(inputs) - 2)
            return rule(*inputs, **static)

        monkeypatch.setattr(tg.OPS[name].rules, "at_once", counted)
    return seen


@pytest.mark.parametrize("sweep", SWEEPS)
@pytest.mark.parametrize("name", JOINS)
def test_a_sweep_looks_once_at_all_that_was_joined(name, sweep, looks):
    x = tg.Tensor([0.5, 2.0], requires_grad=True)
    loss = tg.sum(tg.square(JOINS[name]([x * float(k) for k in range(30)])))
    SWEEPS[sweep](loss, x)
    joined = [n for n in looks if n == 30]
    # A graph is swept first, and asks for the contributions of each node then.
    assert len(joined) == {"second": 2, "third": 2, "graph": 2}.get(sweep, 1)
    if sweep in ("backward", "freed"):
        np.testing.assert_allclose(x.grad.data, 2 * x.data * sum(k * k for k in range(30)), rtol=1e-14)


def size(tensors):
    """Tensors, edges and numbers behind some tensors."""
    nodes = history(tensors)
    return sum(1 + len(node._operands) + node.size for node in nodes)


READS = {
    "each row": lambda x: [x[t] for t in range(len(x))],
    "rows, again and from behind": lambda x: [x[t] * x[-t - 1] for t in range(len(x))],
    "by a list": lambda x: [x[[t, 0]] for t in range(len(x))],
    "two rows": lambda x: [x[t : t + 2] for t in range(len(x) - 1)],
    "a column of a row": lambda x: [x[t, 1] for t in range(len(x))],
    "by a mask": lambda x: [x[np.arange(len(x)) == t] for t in range(len(x))],
    "by iteration": list,
    "split": lambda x: tg.split(x, len(x)),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_gradient_of_many_slices_holds_no_array_for_each(read):
    """Where it is differentiated again: each of T contributions would be as large as what was sliced."""

    def gradient(steps):
        x = tg.Tensor(np.random.default_rng(0).normal(size=(steps, 2)), requires_grad=True)
        loss = sum(tg.sum(part * part * part) for part in read(x))
        return x, loss, differentiable(loss, x)

    x, loss, g = gradient(12)
    np.testing.assert_allclose(g.data, tg.grad(loss, x).data, rtol=1e-14)
    watched = pullback({loss: np.ones(())}, through=lambda node, i, term: term)
    np.testing.assert_allclose(g.data, watched[x], rtol=1e-12)
    direction = np.random.default_rng(1).normal(size=x.shape)
    (second,) = pullback({g: direction}, [x]).values()

    def moved(h):
        other = tg.Tensor(x.data + h * direction, requires_grad=True)
        return tg.grad(sum(tg.sum(part * part * part) for part in read(other)), other).data

    np.testing.assert_allclose(second, (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=1e-6, atol=1e-7)
    assert size([gradient(80)[2]]) < 4.5 * size([gradient(20)[2]])


@pytest.mark.parametrize("of_inputs", [False, True])
def test_second_derivatives_of_a_loss_on_all_outputs_are_linear_in_time(of_inputs, looks):
    cell = tg.LSTMCell(2, 3, rng=0)

    def penalty(steps):
        inputs = tg.Tensor(np.random.default_rng(0).normal(size=(steps, 1, 2)), requires_grad=True)
        outputs, _ = tg.unroll(cell, inputs)
        g = differentiable(tg.sum(tg.square(outputs)), inputs if of_inputs else cell.weight_hh)
        return tg.sum(tg.square(g))

    assert size([penalty(60)]) < 4.5 * size([penalty(15)])
    looks.clear()
    penalty(15).backward()
    assert looks.count(15) == (3 if of_inputs else 2), "in the gradient, and in the gradient of that"


def test_a_picture_writes_the_formulas_of_a_join_in_linear_time(monkeypatch):
    made = []
    init = Node.__init__
    monkeypatch.setattr(Node, "__init__", lambda self, *given, **more: made.append(self) or init(self, *given, **more))
    x = tg.Tensor([0.5, 2.0], requires_grad=True)

    def nodes(count):
        made.clear()
        tg.gradient_graph(tg.sum(tg.stack([x * float(k) for k in range(count)])))
        return len(made)

    assert 0 < nodes(40) < 5 * nodes(10)


def test_freeing_keeps_no_list_of_what_it_frees():
    more = {}
    for retain in (True, False):
        h = tg.Tensor([1.0], requires_grad=True)
        for _ in range(20_000):
            h = -h
        tracemalloc.start()
        tg.sum(h).backward(retain_graph=retain)
        more[retain] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        del h
    assert more[False] < more[True] / 3
