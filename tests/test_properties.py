"""What must hold for cells, fused functions, whole programs and pictures, whatever the numbers are."""

import re
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import history, pullback
from tinygrad_rnn.scope import CONTEXT
from tinygrad_rnn.testing.battery import LAYOUTS, laid_out
from tinygrad_rnn.testing.strategies import programs

SEEDS = st.integers(0, 2**16)
CELLS = [tg.RNNCell, tg.LSTMCell]
SIZES = st.tuples(*[st.integers(1, 4)] * 4)  # T, B, I, H
FEW = settings(max_examples=max(10, settings().max_examples // 2))


def close(actual, expected, rtol=1e-11):
    """Equal up to the rounding of a sum in another order."""
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(actual, expected, rtol, rtol * scale)


# Cells


class Unrolled:
    """A cell over random inputs from a random state, differentiated with a random cotangent."""

    def __init__(self, make, sizes, seed):
        steps, batch, inputs, hidden = sizes
        rng = np.random.default_rng(seed)
        self.cell = make(inputs, hidden, rng=seed)
        self.x = rng.normal(size=(steps, batch, inputs))
        self.state = rng.normal(size=(1 if make is tg.RNNCell else 2, batch, hidden))
        self.u = rng.normal(size=(steps, batch, hidden))

    def run(self, x, state, u, cell=None):
        """Outputs, then the gradients of parameters, inputs and first state."""
        cell = cell or self.cell
        x, states = tg.Tensor(x, requires_grad=True), [tg.Tensor(s, requires_grad=True) for s in state]
        outputs, _ = tg.unroll(cell, x, states[0] if len(states) == 1 else tuple(states))
        leaves = [*cell.parameters().values(), x, *states]
        gradients = [g.numpy() for g in tg.grad(outputs, leaves, u)]
        return outputs.numpy(), gradients[:4], gradients[4], np.stack(gradients[5:])

    def part(self, rows):
        """The same for some rows of the batch."""
        return self.run(self.x[:, rows], self.state[:, rows], self.u[:, rows])


@pytest.mark.parametrize("make", CELLS)
@given(sizes=SIZES, seed=SEEDS)
def test_the_order_of_a_batch_does_not_matter(make, sizes, seed):
    net = Unrolled(make, sizes, seed)
    order = np.random.default_rng(seed).permutation(sizes[1])
    outputs, weights, x, state = net.part(slice(None))
    permuted = net.part(order)
    close(permuted[0], outputs[:, order])
    for g, expected in zip(permuted[1], weights, strict=True):
        close(g, expected)
    close(permuted[2], x[:, order])
    close(permuted[3], state[:, order])


@pytest.mark.parametrize("make", CELLS)
@given(sizes=SIZES, seed=SEEDS)
def test_a_batch_is_its_sequences(make, sizes, seed):
    """Of one sequence nothing reaches another; the gradients of the weights add up; an empty batch gives zeros."""
    net = Unrolled(make, sizes, seed)
    outputs, weights, x, state = net.part(slice(None))
    singles = [net.part([k]) for k in range(sizes[1])]
    close(np.concatenate([s[0] for s in singles], axis=1), outputs)
    close(np.concatenate([s[2] for s in singles], axis=1), x)
    close(np.concatenate([s[3] for s in singles], axis=1), state)
    for i, g in enumerate(weights):
        close(sum(s[1][i] for s in singles), g)
        assert not net.part([])[1][i].any()
    bare = net.run(net.x[:, 0], net.state[:, 0], net.u[:, 0])  # without a batch axis
    for part, expected in zip((bare[0], *bare[1], bare[2], bare[3]), flat(singles[0]), strict=True):
        close(part, expected.reshape(part.shape))


def flat(found):
    return [found[0], *found[1], found[2], found[3]]


@pytest.mark.parametrize("make", CELLS)
@given(sizes=SIZES, seed=SEEDS, cut=st.integers(0, 3))
def test_unrolling_is_composing_and_truncation_is_detaching(make, sizes, seed, cut):
    """T steps are k and then T - k; with the state detached between them, the first k get nothing from the rest."""
    net = Unrolled(make, (sizes[0] + 1, *sizes[1:]), seed)
    k = 1 + cut % sizes[0]
    outputs, weights, dx, dstate = net.part(slice(None))
    x = tg.Tensor(net.x, requires_grad=True)
    states = [tg.Tensor(s, requires_grad=True) for s in net.state]
    leaves = [*net.cell.parameters().values(), x, *states]
    start = states[0] if len(states) == 1 else tuple(states)
    first, middle = tg.unroll(net.cell, x[:k], start)
    second, _ = tg.unroll(net.cell, x[k:], middle)
    close(np.concatenate([first.numpy(), second.numpy()]), outputs)
    composed = tg.grad(tg.concatenate([first, second]), leaves, net.u)
    for g, expected in zip(composed, [*weights, dx, *dstate], strict=True):
        close(g.numpy(), expected)

    by_hand, h = [], start  # no unroll at all
    for t in range(len(net.x)):
        h = net.cell(x[t], h)
        by_hand.append(h[0] if isinstance(h, tuple) else h)
    for g, expected in zip(tg.grad(tg.stack(by_hand), leaves, net.u), [*weights, dx, *dstate], strict=True):
        close(g.numpy(), expected)

    parts = middle if isinstance(middle, tuple) else (middle,)
    cut_off = tuple(h.detach() for h in parts)
    late, _ = tg.unroll(net.cell, x[k:], cut_off if len(cut_off) > 1 else cut_off[0])
    truncated = tg.grad(tg.concatenate([first, late]), leaves, net.u)
    early = tg.grad(first, leaves, net.u[:k])
    inside = tg.grad(late, leaves, net.u[k:], allow_unused=True)
    for g, one, two in zip(truncated, early, inside, strict=True):
        close(g.numpy(), one.numpy() + two.numpy())
    assert not inside[4].numpy()[:k].any()


def lstm_step(x, h, c, W, U, b, d):
    """The textbook's equations, one gate at a time, of ordinary functions."""
    n = h.shape[-1]
    i, f, g, o = (
        x @ tg.transpose(W[rows]) + b[rows] + h @ tg.transpose(U[rows]) + d[rows]
        for rows in (slice(k * n, (k + 1) * n) for k in range(4))
    )
    c = c / (1 + tg.exp(-f)) + tg.tanh(g) / (1 + tg.exp(-i))
    return tg.concatenate([tg.tanh(c) / (1 + tg.exp(-o)), c])


# What is fused equals what it is composed of: value, gradient, and gradient of the gradient


def picked(x, labels):
    return x[(np.arange(len(labels)), labels)]


def normalised(x, axis):
    e = tg.exp(x)
    return e / tg.sum(e, axis=axis, keepdims=True)


COMPOSED = {
    "linear": lambda x, W, b: x @ tg.transpose(W) + b,
    "affine": lambda x, W, b, h, U, d: x @ tg.transpose(W) + b + h @ tg.transpose(U) + d,
    "softmax": lambda x, axis=-1: normalised(x, axis),
    "log_softmax": lambda x, axis=-1: tg.log(normalised(x, axis)),
    "logsumexp": lambda x, axis=None, keepdims=False: tg.log(tg.sum(tg.exp(x), axis=axis, keepdims=keepdims)),
    "cross_entropy": lambda x, labels: -tg.mean(tg.log(picked(normalised(x, 1), labels))),
    "mse_loss": lambda p, t: tg.mean((p - t) * (p - t)),
    "mean": lambda x, axis=None, keepdims=False: tg.sum(x, axis, keepdims) * (tg.sum(x, axis).size / x.size),
    "var": lambda x, axis=None, keepdims=False: (
        tg.mean(x * x, axis, keepdims) - tg.mean(x, axis, keepdims) * tg.mean(x, axis, keepdims)
    ),
    "softplus": lambda x: tg.log(1 + tg.exp(x)),
    "sigmoid": lambda x: 1 / (1 + tg.exp(-x)),
    "tanh": lambda x: (tg.exp(x) - tg.exp(-x)) / (tg.exp(x) + tg.exp(-x)),
    "expm1": lambda x: tg.exp(x) - 1,
    "log1p": lambda x: tg.log(1 + x),
    "square": lambda x: x * x,
    "sqrt": lambda x: x**0.5,
    "matmul": lambda a, b: tg.sum(a[..., None] * b[..., None, :, :], -2)[..., 0, :] if a.ndim == 1 < b.ndim else a @ b,
    "divide": lambda a, b: a * b**-1.0 if (b.numpy() > 0).all() else a / b,
    "leaky_relu": lambda x, slope=0.01: tg.relu(x) - slope * tg.relu(-x),
    "abs": lambda x: tg.relu(x) + tg.relu(-x),
    "maximum": lambda a, b: (a + b + tg.abs(a - b)) / 2,
    "minimum": lambda a, b: (a + b - tg.abs(a - b)) / 2,
}


def derivatives(f, arrays, seed):
    """Value, gradient, and gradient of a random weighting of the gradient."""
    rng = np.random.default_rng(seed)
    xs = [tg.Tensor(a, requires_grad=True) for a in arrays]
    y = f(*xs)
    first = tg.grad(y, xs, rng.normal(size=y.shape), create_graph=True, allow_unused=True)
    weighted = sum((tg.sum(g * rng.normal(size=g.shape)) for g in first), tg.Tensor(0.0) + 0.0 * tg.sum(xs[0]))
    return [y, *first, *tg.grad(weighted, xs, allow_unused=True)]


def check_fused(name, case, seed):
    call = CASES[name].call
    found = derivatives(lambda *xs: call(*xs, **case.options), case.arrays, seed)
    for actual, expected in zip(
        found, derivatives(lambda *xs: COMPOSED[name](*xs, **case.options), case.arrays, seed), strict=True
    ):
        close(actual.numpy(), expected.numpy(), 1e-9)


@pytest.mark.parametrize("name", COMPOSED)
def test_fused_equals_composed(name):
    settings(max_examples=max(3, settings().max_examples // 4))(
        given(name=st.just(name), case=CASES[name].cases, seed=SEEDS)(check_fused)
    )()


@FEW
@given(SIZES, SEEDS)
def test_the_lstm_cell_is_the_textbooks(sizes, seed):
    _, batch, inputs, hidden = sizes
    rng = np.random.default_rng(seed)
    cell = tg.LSTMCell(inputs, hidden, rng=seed)
    x, h, c = rng.normal(size=(batch, inputs)), *rng.normal(size=(2, batch, hidden))
    W, U, b, d = cell.state_dict().values()

    def ours(x, h, c, *parameters):
        cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh = parameters
        return tg.concatenate(cell(x, (h, c)))

    arrays = (x, h, c, W, U, b, d)
    for actual, expected in zip(derivatives(ours, arrays, seed), derivatives(lstm_step, arrays, seed), strict=True):
        close(actual.numpy(), expected.numpy(), 1e-10)


# Whole programs: precision, memory, state


@given(programs(most=6, ops=sorted(set(tg.OPS) - {"cast"})), SEEDS)  # a cast to float64 is to leave float32
def test_float32_follows_float64(program, seed):
    """Every gradient stays float32 and agrees to about four digits, relative to the largest number on the way."""
    found = []
    for dtype in (np.float64, np.float32):
        leaves = [tg.Tensor(leaf.astype(dtype), requires_grad=True) for leaf in program.leaves]
        values = program.values(leaves)
        u = np.random.default_rng(seed).uniform(-1.5, 1.5, values[-1].shape)
        graph = tg.gradient_graph(values[-1], u)
        assert all(node.value.dtype == dtype for node in graph.nodes if node.kind != "constant")
        assert all(edge.contribution is None or edge.contribution.dtype == dtype for edge in graph.edges)
        gradients = tg.grad(values[-1], leaves, u, allow_unused=True)
        assert all(g.dtype == dtype for g in gradients)
        found.append((gradients, graph))
    (exact, graph), (single, _) = found
    largest = max(np.abs(edge.contribution).max(initial=1.0) for edge in graph.edges if edge.contribution is not None)
    for g, expected in zip(single, exact, strict=True):
        np.testing.assert_allclose(g.numpy(), expected.numpy(), 1e-4, 1e-4 * largest)


@given(programs(), SEEDS, st.lists(st.sampled_from(LAYOUTS), min_size=5, max_size=5))
def test_no_layout_of_memory_changes_a_gradient(program, seed, layouts):
    found = []
    for shaped in (np.array, None):
        arrays = [
            laid_out(leaf, layout) if shaped is None else shaped(leaf)
            for leaf, layout in zip(program.leaves, layouts, strict=False)
        ]
        y, pull = tg.vjp(program, *arrays)
        u = np.random.default_rng(seed).uniform(-1.5, 1.5, y.shape)
        found.append(pull(laid_out(u, layouts[-1]) if shaped is None else u))
    for g, expected in zip(*found, strict=True):
        close(g.numpy(), expected.numpy())


@given(programs(most=10), SEEDS)
def test_differentiation_writes_to_nothing_that_was_recorded(program, seed):
    leaves = [tg.Tensor(leaf, requires_grad=True) for leaf in program.leaves]
    y = program(*leaves)
    arrays = [a for node in history([y]) for a in (node._value, *node._arrays) if isinstance(a, np.ndarray)]
    before = [a.tobytes() for a in arrays]
    u = np.random.default_rng(seed).uniform(-1.5, 1.5, y.shape)
    tg.gradient_graph(y, u)
    y.backward(u)
    first = tg.grad(y, leaves, u, create_graph=True, allow_unused=True)
    second = sum((tg.sum(g * g) for g in first), tg.Tensor(0.0))
    if second.requires_grad:
        tg.grad(second, leaves, allow_unused=True)
    held = [leaf.grad for leaf in leaves if leaf.grad is not None]  # a value, which no later gradient changes
    kept = [g.numpy().copy() for g in held]
    y.backward(u)
    assert [a.tobytes() for a in arrays] == before
    assert all(leaf.grad is None or not np.shares_memory(leaf.grad._value, leaf._value) for leaf in leaves)
    for leaf, once in zip([leaf for leaf in leaves if leaf.grad is not None], kept, strict=True):
        close(leaf.grad.numpy(), 2 * once)
    assert all(np.array_equal(g.numpy(), once) for g, once in zip(held, kept, strict=True))


class Failure(Exception):
    pass


def failing_rule(g, y, x):
    raise Failure


@pytest.fixture
def failing():
    """A primitive that cannot be differentiated."""
    yield tg.primitive("failing", lambda x: x + 0.0, failing_rule)
    del tg.OPS["failing"]


def in_a_thread(run):
    errors = []

    def guarded():
        try:
            run()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("where", [lambda run: run(), in_a_thread], ids=["here", "thread"])
def test_an_error_in_the_sweep_leaves_no_state_behind(failing, where):
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    x.grad = [7.0, 7.0]
    good = tg.tanh(x)
    bad = tg.sum(good * failing(tg.sin(x)))

    def attempt():
        with tg.scope("t=1"):
            bad.backward(retain_graph=False)

    def attempt_twice():
        with tg.scope("t=2"), pytest.raises(Failure):
            attempt()
        assert CONTEXT.get()[:2] == ("", True)
        with tg.scope("t=3"), pytest.raises(Failure):
            tg.hvp(lambda z: tg.sum(failing(z)), (x,), ([1.0, 1.0],))
        assert CONTEXT.get()[:2] == ("", True)

    where(attempt_twice)
    assert CONTEXT.get()[:2] == ("", True)
    assert x.grad.numpy().tolist() == [7.0, 7.0]
    (g,) = tg.grad(tg.sum(tg.tanh(x)), [x])
    close(g.numpy(), 1 - np.tanh([1.0, 2.0]) ** 2)


def test_threads_differentiate_one_graph_at_the_same_time():
    """What is shared is only read: every thread gets the gradient that a single one gets."""
    cell = tg.LSTMCell(3, 4, rng=0)
    outputs, _ = tg.unroll(cell, np.random.default_rng(0).normal(size=(6, 2, 3)))
    loss, weights = tg.sum(outputs * outputs), list(cell.parameters().values())
    expected = [g.numpy() for g in tg.grad(loss, weights)]
    found, gate = [], threading.Barrier(8)

    def work(k):
        gate.wait()
        with tg.scope(f"thread {k}"), tg.no_grad() if k % 2 else nullcontext():
            found.append((tg.grad(loss, weights), CONTEXT.get()[:2] == (f"thread {k}", k % 2 == 0)))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all(inside for _, inside in found)
    for gradients, _ in found:
        for g, e in zip(gradients, expected, strict=True):
            np.testing.assert_array_equal(g.numpy(), e)
    assert CONTEXT.get()[:2] == ("", True)


# The picture against the engine

EDGE = re.compile(
    r'^\tn(\d+) -> n(\d+) \[(?:label="?([^" ]*)"? )?.*?edgetooltip="[^"]*?, operand (\d+)\n(gradient [^"\n]*|[^"\n]*)',
    re.M,
)


def near(text, norm, digits):
    """Whether a text shows a norm, with or without a sign, to so many digits."""
    return abs(float(text.replace("−", "-"))) == pytest.approx(norm, rel=0.51 * 10 ** (1 - digits))


@FEW
@given(programs(most=8), SEEDS, st.sampled_from([1e-6, 1.0, 1e4]))
def test_numbers_in_the_picture_are_the_engines(program, seed, size):
    """Every edge that the engine walks is drawn once, with the norm of what a hook sees there."""
    leaves = [tg.Tensor(leaf, requires_grad=True) for leaf in program.leaves]
    y = program(*leaves)
    u = size * np.random.default_rng(seed).uniform(0.5, 1.5, y.shape)
    seen = {}

    def watch(node, operand, contribution):
        seen[node, operand] = float(np.sqrt(np.sum(np.square(contribution))))
        return contribution

    pullback({y: u}, through=watch)
    graph = tg.gradient_graph(y, u)
    places = {graph.node_of(node).id: node for node in history([y])}
    drawn = EDGE.findall(tg.draw(graph).dot)
    assert len(drawn) == len(graph.edges) >= len(seen)
    for _, target, label, operand, tooltip in drawn:
        norm = seen.pop((places[int(target)], int(operand)), None)
        if norm is None:
            assert not tooltip.startswith("gradient")
        else:
            assert near(tooltip.split()[1].rstrip(","), norm, 4)  # a zero is followed by more
            assert label == "" or (norm > 1e3 if label == "▲" else near(label, norm, 2))
    assert not seen
