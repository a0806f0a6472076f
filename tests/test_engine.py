"""The engine: nothing changes a gradient unseen, misuse names the remedy, depth, higher order."""

import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg


def leaf(*shape, seed=0, dtype=np.float64, name=None):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True, name=name)


# -- Nothing changes a gradient behind anybody's back ------------------------------------------------------------------


def test_arrays_that_come_in_are_copied():
    data, factor, mask, index = np.ones(3), np.full(3, 2.0), np.array([True, False, True]), np.array([0, 0])
    x = tg.Tensor(data, requires_grad=True)
    loss = tg.sum(x * factor) + tg.sum(tg.where(mask, x, 0.0)) + tg.sum(x[mask]) + tg.sum(x[index])
    data[:], factor[:], mask[:], index[:] = 9, 9, False, 2
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6.0, 2.0, 4.0])
    seed = np.ones(3)
    y = x * 1.0
    y.backward(seed)
    seed[:] = 7
    np.testing.assert_array_equal(x.grad.numpy(), [7.0, 3.0, 5.0])


M = np.arange(6.0).reshape(2, 3) + 1
MASK = M % 2 == 0
PICKS = np.array([[0, 1], [1, 1]])
HELD = {
    "number": (lambda x, a: x * a, np.array(2.0)),
    "row": (lambda x, a: x * a, M[0].copy()),
    "matrix": (lambda x, a: x / a, M.copy()),
    "view": (lambda x, a: x * a[:, ::2][:, [0, 1, 0]], M.copy()),
    "read-only view": (lambda x, a: x * np.lib.stride_tricks.as_strided(a, writeable=False), M.copy()),
    "left operand": (lambda x, a: a ** (x / 9), M.copy()),
    "matmul": (lambda x, a: x @ a, M.T.copy()),
    "einsum": (lambda x, a: tg.einsum("ij,ij->i", x, a), M.copy()),
    "mask": (lambda x, a: x[a], MASK.copy()),
    "mask of an axis": (lambda x, a: x[:, a], MASK[0].copy()),
    "picks": (lambda x, a: x[a], PICKS.copy()),
    "picks of an axis": (lambda x, a: x[:, a], PICKS[0].copy()),
    "picks in a list": (lambda x, a: x[[0, 1], a], PICKS[1].copy()),
    "one pick": (lambda x, a: x[a], np.array(1)),
    "condition": (lambda x, a: tg.where(a, x, 0.0), MASK.copy()),
    "lower bounds": (lambda x, a: tg.clip(x, a, 9), M - 0.5),
    "upper bounds": (lambda x, a: tg.clip(x, None, a), M - 0.5),
    "one bound": (lambda x, a: tg.clip(x, a, 9), np.array(2.5)),
    "target": (lambda x, a: tg.mse_loss(x, a), M * M),
    "labels": (lambda x, a: tg.cross_entropy(x, a), PICKS[0].copy()),
}


@pytest.mark.parametrize("f, held", HELD.values(), ids=HELD)
def test_nothing_that_a_graph_holds_can_be_changed_from_outside(f, held):
    x, held = tg.Tensor(M, requires_grad=True), held.copy()  # a mutation run asks twice

    def gradient(y):
        return tg.grad(y, x, 1.0 + np.arange(y.size).reshape(y.shape)).numpy()

    y = f(x, held)
    before = gradient(y)
    held[...] = ~held if held.dtype == bool else 0 * held if held.dtype.kind == "i" else 0 * held + 7
    np.testing.assert_array_equal(gradient(y), before)
    changed = gradient(f(x, held))
    assert changed.shape == before.shape and (changed != before).any(), "it matters"


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power"])
@pytest.mark.parametrize("size, dtype", [(2**15, "float64"), (2**16, "float32"), (7, "float64")])
def test_a_large_operand_is_not_taken_for_a_temporary(name, size, dtype):
    """From 256 KB on NumPy writes a + b into an operand that nobody else refers to, as the copy that a graph keeps."""
    x, a = np.random.default_rng(0).uniform(0.5, 1.5, (2, size)).astype(dtype)
    for operands in ((x, a), (a, x)):
        leaf = tg.Tensor(x, requires_grad=True)
        y = tg.OPS[name](*(leaf if o is x else o for o in operands))
        assert np.array_equal(next(k for k, o in zip(y._arrays, y._operands, strict=True) if o is None), a)
        other = tg.Tensor(a, requires_grad=True)
        both = tg.OPS[name](*(leaf if o is x else other for o in operands))
        np.testing.assert_array_equal(tg.grad(y, leaf, a).numpy(), tg.grad(both, leaf, a).numpy())


def test_what_goes_out_is_read_only():
    x = leaf(3)
    x.sum().backward()
    for array in (x.data, x.numpy(), x.grad.data, (x * 2).data, np.asarray(tg.Tensor(x.numpy()).data)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    copied = np.asarray(x.detach())
    copied[0] = 100.0
    assert x.data[0] != 100.0
    with pytest.raises(ValueError, match="read-only"):
        np.array(x.detach(), copy=False)[0] = 100.0


def test_what_goes_out_cannot_be_made_writeable():
    x, c = leaf(2, 3), np.arange(6.0).reshape(2, 3)
    for tensor in (
        x,
        x.detach(),
        x * c,
        (x * c).T,
        x[::-1, 1:],
        x[0, 0],
        x[:0],
        tg.broadcast_to(x, (4, 2, 3)),
        tg.Tensor(c > 1),
    ):
        loss = tg.sum(tensor * x[0, 0])
        loss.backward()
        graph = tg.gradient_graph(loss)
        for array in (tensor.data, tensor.numpy(), x.grad.data, *(node.value for node in graph.nodes)):
            before = array.copy()
            views = [
                array,
                array.view(),
                array[...],
                array.T,
                np.asarray(array),
                np.lib.stride_tricks.as_strided(array),
            ]
            for view in [*views, *(base for v in views if isinstance(base := v.base, np.ndarray))]:
                with pytest.raises(ValueError, match="WRITEABLE"):
                    view.flags.writeable = True
                with pytest.raises(ValueError, match="WRITEABLE"):
                    view.setflags(write=True)
                with pytest.raises(ValueError, match="read-only"):
                    view[...] = 9
            with pytest.raises(TypeError, match="read-only"):
                memoryview(array)[...] = array
            np.testing.assert_array_equal(array, before)


def test_rebinding_a_leaf_leaves_pending_gradients_alone():
    w = tg.Tensor(3.0, requires_grad=True, name="w")
    loss = w * w * w
    w.data = 100.0
    loss.backward()
    assert w.grad.item() == 27.0
    with pytest.raises(tg.GradientError, match=r"w was rebound"):
        tg.grad(loss, w, create_graph=True)
    assert (w * w).item() == 10_000.0


def test_rebinding_keeps_shape_and_dtype():
    w = leaf(3, dtype=np.float32)
    w.data = [1, 2, 3]
    assert w.dtype == np.float32
    with pytest.raises(ValueError, match="make a new Tensor"):
        w.data = [1.0, 2.0]
    with pytest.raises(tg.GradientError, match="only a leaf"):
        (w * 2).data = [1.0, 2.0, 3.0]


def test_gradients_alias_neither_each_other_nor_the_seed():
    a, b, seed = leaf(3), leaf(3), np.ones(3)
    (a + b).backward(seed)
    arrays = [a.grad._value, b.grad._value, seed, a._value, b._value]
    assert not any(np.shares_memory(p, q) for i, p in enumerate(arrays) for q in arrays[:i])


def test_tensors_are_values():
    x = leaf(3)
    before, y = x.numpy().copy(), x
    y += 1
    assert y is not x
    np.testing.assert_array_equal(x.numpy(), before)
    with pytest.raises(TypeError, match="never changed in place"):
        x[0] = 1.0
    for name in ("requires_grad", "shape", "is_leaf"):
        with pytest.raises(AttributeError):
            setattr(x, name, None)


# -- backward, grad, and what they say when asked for the impossible ---------------------------------------------------


def test_backward_accumulates_and_does_not_remember_the_interior():
    x = tg.Tensor(2.0, requires_grad=True)
    y = x
    for _ in range(10):
        y = y * 1.0
    y.backward()
    y.backward()
    assert x.grad.item() == 2.0  # P26 of the facts: an engine that keeps interior gradients says 11
    x.grad = None
    y.backward()
    assert x.grad.item() == 1.0


def test_topological_order_on_doublings():
    a = tg.Tensor(1.0, requires_grad=True)
    b = a + a
    c = b + b
    assert tg.grad(c, a).item() == 4.0
    x = tg.Tensor(3.0, requires_grad=True)
    tg.grad(x * x + x, x)
    assert tg.grad(x * x + x, x).item() == 7.0


def test_grad_leaves_dot_grad_alone_and_reaches_the_interior():
    x = leaf(3)
    h = tg.tanh(x)
    loss = tg.sum(h * h)
    gh, gx = tg.grad(loss, [h, x])
    np.testing.assert_allclose(gh.numpy(), 2 * h.numpy())
    np.testing.assert_allclose(gx.numpy(), 2 * h.numpy() * (1 - h.numpy() ** 2))
    assert x.grad is None
    assert isinstance(tg.grad(loss, x), tg.Tensor)
    assert isinstance(tg.grad(loss, (x,)), tuple)
    np.testing.assert_array_equal(tg.grad(loss, loss).numpy(), 1.0)


def test_dot_grad_of_the_interior_warns_and_names_grad():
    h = leaf(3) * 2
    with pytest.warns(UserWarning, match=r"grad\(loss, h\)"):
        assert h.grad is None


def test_graph_is_retained_by_default_and_freed_on_request():
    x = leaf(3)
    loss = tg.sum(tg.tanh(x) * x)
    loss.backward()
    loss.backward(retain_graph=False)
    for ask in (loss.backward, lambda: tg.grad(loss, x), lambda: tg.gradient_graph(loss)):
        with pytest.raises(tg.GradientError, match=r"freed.*run the forward pass again"):
            ask()


def test_freeing_lets_interior_memory_go():
    x = leaf(3)
    h = tg.tanh(x)
    loss = tg.sum(h)
    gone = weakref.ref(h)
    del h
    gc.disable()
    try:
        loss.backward(retain_graph=False)
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("ask", "remedy"),
    [
        (lambda x: (x * 2).backward(), r"reduce it with sum\(\) or mean\(\)"),
        (lambda x: tg.grad(x * 2, x), r"grad_output"),
        (lambda x: (x * 2).backward(np.ones(4)), r"shape \(4,\), the output \(3,\)"),
        (lambda x: (x * 2).backward(1.0), r"must be the same"),
        (lambda x: tg.Tensor(1.0).backward(), r"requires_grad=True"),
        (lambda x: x.detach().sum().backward(), r"depends on nothing differentiable"),
        (lambda x: tg.grad(x.sum(), leaf(2)), r"allow_unused=True"),
        (lambda x: tg.hessian(lambda z: z * 2, x), r"only a scalar"),
        (lambda x: tg.hvp(lambda z: z * 2, (x,), (x,)), r"only a scalar"),
        (lambda x: np.asarray(x), r"\.numpy\(\) or \.detach\(\)"),
        (lambda x: tg.gradient_graph(x * 2), r"reduce it"),
    ],
)
def test_misuse_of_gradients_names_the_remedy(ask, remedy):
    with pytest.raises(tg.GradientError, match=remedy):
        ask(leaf(3))


@pytest.mark.parametrize(
    ("ask", "remedy"),
    [
        (lambda x: np.linalg.qr(x), r"^np\.linalg\.qr has no derivative rule.*a primitive of your own"),
        (lambda x: np.fft.fft(x), r"^np\.fft\.fft has no derivative: there are no complex numbers"),
        (lambda x: np.add(x, 1.0, out=np.zeros(3)), r"out="),
        (lambda x: np.add(x, 1.0, where=[True, False, True]), r"where="),
        (lambda x: np.sum(x, dtype=np.float32), r"dtype="),
        (lambda x: np.add.reduce(x), r"use sum"),
        (lambda x: np.zeros(3).__iadd__(x), r"out="),
        (lambda x: tg.grad(3.0, x), r"only a Tensor"),
        (lambda x: tg.grad(x.sum(), [1.0]), r"not a Tensor"),
        (lambda x: tg.vjp(lambda z: z.numpy(), x), r"must return a Tensor"),
        (lambda x: tg.clip(x, leaf(3), 1.0), r"minimum\(maximum"),
        (lambda x: tg.Tensor([x, x]), r"stack"),
        (lambda x: pickle.dumps(x * 2), r"detach"),
        (lambda x: tg.tanh(x, x), r"tanh\(\) takes 1"),
        (lambda x: tg.affine(x, x), r"takes 6 operands"),
    ],
)
def test_misuse_of_numpy_names_the_remedy(ask, remedy):
    with pytest.raises(TypeError, match=remedy):
        ask(leaf(3))


def test_errors_keep_numpys_words_and_say_where():
    a, b = leaf(4, 16), leaf(8, 16)
    with pytest.raises(ValueError, match="mismatch in its core") as caught, tg.scope("t=3"), tg.scope("lstm/forget"):
        a @ b
    assert caught.value.__notes__ == ["in matmul (4, 16) @ (8, 16) at t=3/lstm/forget"]
    with pytest.raises(ValueError, match="could not be broadcast") as caught:
        leaf(2) + leaf(3)
    assert caught.value.__notes__ == ["in add (2,) + (3,)"]
    with pytest.raises(IndexError, match="out of bounds") as caught, tg.scope("t=1"):
        leaf(2)[5]
    assert caught.value.__notes__ == ["in getitem x (2,) at t=1"]
    with pytest.raises(ValueError, match="axis 2 is out of bounds") as caught, tg.scope("t=1"):
        tg.sum(leaf(2), axis=2)
    assert caught.value.__notes__ == ["for shape (2,) at t=1"]


def test_an_error_inside_a_rule_says_where_the_forward_pass_was():
    broken = tg.primitive("broken", lambda x: x * 1.0, lambda g, y, x: g @ np.ones((7, 7)))
    try:
        with tg.scope("t=2"):
            loss = tg.sum(broken(leaf(3)))
        with pytest.raises(ValueError) as caught:
            loss.backward()
        assert caught.value.__notes__[-2:] == ["in the derivative with respect to operand 0", "in broken x (3,) at t=2"]
    finally:
        del tg.OPS["broken"]


def test_primitive_is_checked_when_it_is_declared():
    for declare, complaint in [
        (lambda: tg.primitive("tanh", np.tanh, lambda g, y, x: g), "exists already"),
        (lambda: tg.primitive("new", np.add, lambda g, y, x: g, lambda g, y, x: g), "2 operands"),
        (lambda: tg.primitive("new", np.add), "one rule per operand"),
        (lambda: tg.primitive("new", np.add, lambda g, y, *xs: g, nary=True), "which"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            declare()
    assert "new" not in tg.OPS


# -- State that must not leak ------------------------------------------------------------------------------------------


def test_scopes_nest_and_survive_exceptions():
    assert tg.Tensor(1.0).scope == ""
    step = tg.scope("t=1")
    with pytest.raises(RuntimeError), step, tg.scope("gate"), step:
        assert (leaf(1) * 2).scope == "t=1/gate/t=1"
        raise RuntimeError
    assert tg.Tensor(1.0).scope == ""


def test_no_grad_records_nothing_and_survives_exceptions():
    x = leaf(2)

    @tg.no_grad()
    def half(v):
        return v / 2

    with pytest.raises(RuntimeError), tg.no_grad():
        y = x * 2
        assert not y.requires_grad and y.is_leaf
        np.asarray(x)
        raise RuntimeError
    assert not half(x).requires_grad
    assert (x * 2).requires_grad


def test_threads_have_their_own_scope_and_recording():
    seen = []

    def work():
        seen.append(((leaf(1) * 2).scope, (leaf(1) * 2).requires_grad))

    with tg.scope("outer"), tg.no_grad():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [("", True)]


# -- Depth and memory --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_hundred_thousand_operations_deep():
    x = tg.Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(200_000):  # far more than any stack holds, be it Python's or C's
        y = y + x
    y.backward()
    assert x.grad.item() == 200_001.0
    del y


def test_diamonds_are_walked_once():
    x = tg.Tensor(1.0, requires_grad=True)
    h = x
    for _ in range(60):
        h = h * h
    assert tg.grad(h, x).item() == 2.0**60
    assert len(tg.gradient_graph(h).edges) == 120


def test_dropping_the_loss_frees_the_graph_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        cell = tg.LSTMCell(2, 3, rng=0)
        _, (h, c) = tg.unroll(cell, np.ones((4, 1, 2)))
        loss = tg.sum(h * c)
        loss.backward()
        graph = tg.gradient_graph(loss)
        gone = [weakref.ref(h), weakref.ref(c), weakref.ref(loss)]
        del h, c, loss, _
        assert [r() for r in gone] == [None] * 3
        assert graph.nodes[-1].kind == "loss"
    finally:
        gc.enable()


# -- Higher order ------------------------------------------------------------------------------------------------------


def test_derivatives_to_the_fifth_order():
    x = tg.Tensor(0.7, requires_grad=True)
    y = tg.sin(x)
    for expected in (np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v), np.sin, np.cos):
        y = tg.grad(y, x, create_graph=True)
        np.testing.assert_allclose(y.item(), expected(0.7), rtol=1e-14)


def test_create_graph_in_backward():
    x = tg.Tensor(2.0, requires_grad=True)
    (x**3).backward(create_graph=True)
    g = x.grad
    x.grad = None
    g.backward()
    assert x.grad.item() == 12.0
    (x**3).backward(create_graph=True)
    assert x.grad.requires_grad
    (x**3).backward()  # what is added now is no longer differentiable
    assert not x.grad.requires_grad and x.grad.item() == 36.0
    h = x * 2
    assert type(tg.grad(h, h, create_graph=True)) is tg.Tensor


def test_derivatives_inside_no_grad_are_the_same_and_constant():
    x, v = tg.Tensor([0.5, 2.0], requires_grad=True), np.array([1.0, -1.0])

    def f(z):
        return tg.sum(tg.sin(z) * z)

    def ask():
        y, pull = tg.vjp(f, x)
        return [y, *pull(2.0), tg.jvp(f, (x,), (v,))[1], tg.jacobian(f, x), tg.hessian(f, x), *tg.hvp(f, (x,), (v,))]

    outside = ask()
    with tg.no_grad():
        inside = ask()
    for a, b in zip(inside, outside, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert b.numpy().any() and not a.requires_grad


def test_transforms_nest():
    def f(z):
        return tg.sum(tg.tanh(z) ** 3)

    x = np.array([0.3, -0.8])
    h = tg.hessian(f, x).numpy()
    np.testing.assert_allclose(tg.jacobian(lambda z: tg.jacobian(f, z), x).numpy(), h, rtol=1e-12)
    v = np.array([1.0, 2.0])
    np.testing.assert_allclose(tg.hvp(f, (x,), (v,))[0].numpy(), h @ v, rtol=1e-12)
    _, second = tg.jvp(lambda z: tg.jvp(f, (z,), (v,))[1], (x,), (v,))
    np.testing.assert_allclose(second.item(), v @ h @ v, rtol=1e-12)


def test_unused_inputs_give_zeros():
    x = np.ones(2)
    y, pullback = tg.vjp(lambda a, b: tg.sum(a * a), x, np.ones(3))
    assert y.item() == 2.0
    np.testing.assert_array_equal(pullback(1.0)[1].numpy(), np.zeros(3))
    np.testing.assert_array_equal(tg.jvp(lambda a: tg.Tensor([1.0, 2.0]), (x,), (x,))[1].numpy(), [0.0, 0.0])
    np.testing.assert_array_equal(tg.hessian(tg.sum, x).numpy(), np.zeros((2, 2)))
    assert tg.jacobian(lambda a: a[:0], x).shape == (0, 2)
    np.testing.assert_array_equal(tg.grad(leaf(2).sum(), leaf(3), allow_unused=True).numpy(), np.zeros(3))
    assert not y.requires_grad


def test_tangents_are_checked():
    with pytest.raises(ValueError, match="one tangent for each"):
        tg.jvp(tg.sum, (np.ones(2),), ())
    with pytest.raises(ValueError, match=r"of its shape: of shapes \[\(2,\)\], not \[\(3,\)\]"):
        tg.jvp(tg.sum, (np.ones(2),), (np.ones(3),))
    with pytest.raises(ValueError, match="one tangent for each primal, of its shape: there is no primal"):
        tg.jvp(lambda: tg.Tensor(1.0), (), ())
