"""Cells, edges and derivatives of functions beside PyTorch in float64.

An edge has a gradient of its own in PyTorch if every use of a tensor is a clone: `replay` runs the recorded program
once more in that way, and each clone's gradient must be the contribution that `gradient_graph` has on that edge.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from torch_oracle import assert_same, draw, torch

import tinygrad_rnn as tg

F = torch.nn.functional
BATCH, INPUTS, HIDDEN = 3, 4, 5
KINDS = ["lstm", "tanh", "relu"]


def both_cells(kind: str, dtype: str = "float64", seed: int = 1) -> tuple[Any, Any]:
    """Our cell and PyTorch's, with one state dict."""
    options = {"dtype": getattr(torch, dtype)}
    if kind == "lstm":
        ours, theirs = tg.LSTMCell(INPUTS, HIDDEN, dtype=dtype, rng=seed), torch.nn.LSTMCell(INPUTS, HIDDEN, **options)
    else:
        ours = tg.RNNCell(INPUTS, HIDDEN, nonlinearity=kind, dtype=dtype, rng=seed)
        theirs = torch.nn.RNNCell(INPUTS, HIDDEN, nonlinearity=kind, **options)
    theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    return ours, theirs


def states(kind: str, *batch: int) -> list[Any]:
    return [draw(*batch, HIDDEN, low=-1.0 - k, high=1.0) for k in range(2 if kind == "lstm" else 1)]


def as_state(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def compare(ours: list[Any], theirs: list[Any], names: list[str], tolerance: float = 1e-12) -> None:
    for got, want, name in zip(ours, theirs, names, strict=True):
        assert_same(got, want, name, tolerance)


@pytest.mark.parametrize("batch", [(BATCH,), (1,), ()], ids=["batch", "one", "no batch"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_step(kind: str, batch: tuple[int, ...]) -> None:
    ours, theirs = both_cells(kind)
    arrays = [draw(*batch, INPUTS), *states(kind, *batch)]
    xs = [tg.Tensor(array, requires_grad=True) for array in arrays]
    ts = [torch.tensor(array, requires_grad=True) for array in arrays]
    ys, zs = parts(ours(xs[0], as_state(xs[1:]))), parts(theirs(ts[0], as_state(ts[1:])))
    compare(list(ys), list(zs), ["h", "c"][: len(ys)])
    sum((y * y * (k + 1)).sum() for k, y in enumerate(ys)).backward()
    sum((z * z * (k + 1)).sum() for k, z in enumerate(zs)).backward()
    parameters = dict(theirs.named_parameters())
    assert list(ours.parameters()) == list(parameters)
    got = [*ours.parameters().values(), *xs]
    compare(
        [p.grad for p in got], [p.grad for p in [*parameters.values(), *ts]], [*parameters, "x", "h0", "c0"][: len(got)]
    )


def unrolled(kind: str, steps: int, dtype: str = "float64") -> tuple[Any, list[Any], Any, list[Any], list[str]]:
    """Our loss and its variables, PyTorch's loss and variables, and their names."""
    ours, theirs = both_cells(kind, dtype)
    arrays = [array.astype(dtype) for array in [draw(steps, BATCH, INPUTS), *states(kind, BATCH)]]
    weights, v = draw(steps, BATCH, HIDDEN).astype(dtype), draw(BATCH, HIDDEN).astype(dtype)
    xs = [tg.Tensor(array, requires_grad=True) for array in arrays]
    ts = [torch.tensor(array, requires_grad=True) for array in arrays]
    outputs, last = tg.unroll(ours, xs[0], as_state(xs[1:]))
    loss = (outputs * weights).sum() + sum((part * part * v).sum() for part in parts(last))
    state, hs = as_state(ts[1:]), []
    for x in ts[0]:
        state = theirs(x, state)
        hs.append(parts(state)[0])
    target = (torch.stack(hs) * torch.tensor(weights)).sum()
    target = target + sum((part * part * torch.tensor(v)).sum() for part in parts(state))
    assert_same(outputs, torch.stack(hs), "outputs", 1e-12 if dtype == "float64" else 1e-5)
    names = [*ours.parameters(), "x", "h0", "c0"]
    return loss, [*ours.parameters().values(), *xs], target, [*theirs.parameters(), *ts], names


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_unrolled(kind: str, steps: int) -> None:
    loss, xs, target, ts, names = unrolled(kind, steps)
    assert_same(loss, target, "loss")
    loss.backward()
    target.backward()
    compare([x.grad for x in xs], [t.grad for t in ts], names[: len(xs)])


@pytest.mark.parametrize("kind", KINDS)
def test_unrolled_in_float32(kind: str) -> None:
    loss, xs, target, ts, names = unrolled(kind, 4, "float32")
    assert loss.dtype == np.float32
    loss.backward()
    target.backward()
    compare([x.grad for x in xs], [t.grad for t in ts], names[: len(xs)], 1e-5)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_of_an_unrolled_cell(kind: str, steps: int) -> None:
    loss, xs, target, ts, names = unrolled(kind, steps)
    first = tg.grad(loss, xs, create_graph=True)
    expected = torch.autograd.grad(target, ts, create_graph=True)
    directions = [draw(*x.shape, low=-1.0) for x in xs]
    second = tg.grad(sum((a * d).sum() for a, d in zip(first, directions, strict=True)), xs)
    product = sum((a * torch.tensor(d)).sum() for a, d in zip(expected, directions, strict=True))
    compare(list(second), list(torch.autograd.grad(product, ts)), names[: len(xs)], 1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_at_a_detached_state(kind: str) -> None:
    ours, theirs = both_cells(kind)
    x = draw(4, BATCH, INPUTS)
    _, state = tg.unroll(ours, x[:2])
    _, last = tg.unroll(ours, x[2:], as_state([part.detach() for part in parts(state)]))
    (parts(last)[0] ** 2).sum().backward()
    memory: Any = as_state([torch.zeros(BATCH, HIDDEN, dtype=torch.float64) for _ in parts(state)])
    for t, row in enumerate(torch.tensor(x)):
        memory = as_state([part.detach() for part in parts(memory)]) if t == 2 else memory
        memory = theirs(row, memory)
    (parts(memory)[0] ** 2).sum().backward()
    names = list(ours.parameters())
    compare([p.grad for p in ours.parameters().values()], [p.grad for p in theirs.parameters()], names)


# --- Edges ---

TORCH: dict[str, Callable[..., Any]] = {
    "affine": lambda x, W, b, h, U, d: F.linear(x, W, b) + F.linear(h, U, d),
    "linear": F.linear,
    "getitem": lambda x, index: x[index],
    "stack": lambda *xs, axis: torch.stack(xs, axis),
    "concatenate": lambda *xs, axis: torch.cat(xs, axis),
    "sum": lambda x, axis, keepdims: x.sum(axis, keepdims),
    "mean": lambda x, axis, keepdims: x.mean(axis, keepdims),
    "power": torch.pow,
}
TORCH |= {
    name: getattr(torch, name) for name in "add subtract multiply divide matmul tanh sigmoid relu exp square".split()
}


def replay(loss: Any) -> tuple[dict[Any, Any], dict[tuple[Any, int], Any]]:
    """The recorded program in PyTorch, with a clone for each use: values by tensor, clones by (consumer, operand)."""
    nodes, waiting = {loss}, [loss]
    while waiting:
        for operand in waiting.pop()._operands:
            if operand is not None and operand not in nodes:
                nodes.add(operand)
                waiting.append(operand)
    values: dict[Any, Any] = {}
    clones: dict[tuple[Any, int], Any] = {}
    for node in sorted(nodes, key=lambda tensor: tensor._serial):
        if node.is_leaf:
            values[node] = torch.tensor(node.data, requires_grad=node.requires_grad)
            continue
        uses = []
        for i, (operand, array) in enumerate(zip(node._operands, node._arrays, strict=True)):
            use = torch.tensor(array) if operand is None else values[operand].clone()
            if use.requires_grad:
                use.retain_grad()
                clones[node, i] = use
            uses.append(use)
        values[node] = TORCH[node._op.name](*uses, **node._static)
        values[node].retain_grad()
    values[loss].backward(torch.ones_like(values[loss]))
    return values, clones


def shared_twice() -> Any:
    x, W = tg.Tensor(draw(3, 4), requires_grad=True, name="x"), tg.Tensor(draw(4, 4), requires_grad=True, name="W")
    h = tg.tanh(x @ W)
    return (h * h + h @ W * tg.sigmoid(h) - x / (h * h + 1.0)).sum()


def broadcast() -> Any:
    x, b = tg.Tensor(draw(3, 4), requires_grad=True), tg.Tensor(draw(4), requires_grad=True)
    s = tg.Tensor(0.7, requires_grad=True)
    y = (x + b) * s * b + s
    return tg.mean(tg.concatenate([y, y[:1], b[None] * 2.0]), axis=0)[1:3].sum() + tg.stack([y, x * x], axis=1).sum()


def recurrent(kind: str, every_step: bool) -> Any:
    cell, _ = both_cells(kind)
    x = tg.Tensor(draw(3, BATCH, INPUTS), requires_grad=True)
    state = as_state([tg.Tensor(array, requires_grad=True) for array in states(kind, BATCH)])
    outputs, last = tg.unroll(cell, x, state)
    return (outputs * draw(3, BATCH, HIDDEN)).sum() if every_step else (parts(last)[0] ** 2).mean()


PROGRAMS: dict[str, Callable[[], Any]] = {"shared": shared_twice, "broadcast": broadcast}
PROGRAMS |= {f"{kind} last": partial(recurrent, kind, False) for kind in KINDS}
PROGRAMS |= {f"{kind} all": partial(recurrent, kind, True) for kind in KINDS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_edge_carries_its_own_contribution(name: str) -> None:
    loss = PROGRAMS[name]()
    graph = tg.gradient_graph(loss)
    values, clones = replay(loss)
    contributions = {(edge.target, edge.operand): edge.contribution for edge in graph.edges}
    for (consumer, i), clone in clones.items():
        assert_same(contributions[graph.node_of(consumer).id, i], clone.grad, f"{consumer._op.name}, operand {i}")
    assert sum(array is not None for array in contributions.values()) == len(clones)
    for tensor, value in values.items():
        if tensor.requires_grad:
            assert_same(graph.node_of(tensor).gradient, value.grad, f"gradient of {tensor!r}")
    assert all(tensor.grad is None for tensor in values if tensor.is_leaf)


# --- Derivatives of functions ---


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], tuple[int, ...]]] = {
    "vector": (lambda x: tg.tanh(x) * x[::-1], lambda x: torch.tanh(x) * x.flip(0), (4,)),
    "matrix": (lambda x: x @ x.T, lambda x: x @ x.T, (2, 3)),
    "to number": (lambda x: (x**3).sum(), lambda x: (x**3).sum(), (2, 3)),
    "from number": (lambda x: x * np.arange(3.0), lambda x: x * torch.arange(3.0, dtype=torch.float64), ()),
    "number": (lambda x: tg.sin(x) * x, lambda x: torch.sin(x) * x, ()),
    "linear": (lambda x: 2 * x, lambda x: 2 * x, (3,)),
    "constant": (
        lambda x: tg.Tensor([1.0, 2.0]),
        lambda x: torch.ones(2, dtype=torch.float64) * torch.tensor([1.0, 2]),
        (3,),
    ),
    "reduced": (lambda x: tg.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), (2, 3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jacobian_vjp_and_jvp(name: str) -> None:
    ours, theirs, shape = FUNCTIONS[name]
    x = draw(*shape)
    t = torch.tensor(x)
    got = tg.jacobian(ours, x)
    assert got.shape == ours(tg.Tensor(x)).shape + shape
    assert_same(got, torch.autograd.functional.jacobian(theirs, t), "jacobian")
    v, u = draw(*theirs(t).shape, low=0.1), draw(*shape, low=-0.3)
    y, pullback = tg.vjp(ours, x)
    value, product = torch.autograd.functional.vjp(theirs, t, torch.tensor(v))
    assert_same(y, value, "value")
    assert_same(pullback(v)[0], product, "vjp")
    y, dy = tg.jvp(ours, (x,), (u,))
    assert_same(y, value, "value")
    assert_same(dy, torch.autograd.functional.jvp(theirs, t, torch.tensor(u))[1], "jvp")


SCALARS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], tuple[int, ...]]] = {
    "cubic": (lambda x: (x**3).sum() * x[0, 0], lambda x: (x**3).sum() * x[0, 0], (2, 3)),
    "logsumexp": (tg.logsumexp, lambda x: torch.logsumexp(x, 0), (4,)),
    "number": (lambda x: tg.tanh(x) ** 2, lambda x: torch.tanh(x) ** 2, ()),
    "quadratic": (lambda x: x @ draw(3, 3) @ x, lambda x: x @ torch.tensor(draw(3, 3)) @ x, (3,)),
    "linear": (lambda x: (x * 2).sum(), lambda x: (x * 2).sum(), (3,)),
    "constant": (lambda x: tg.Tensor(2.0), lambda x: torch.tensor(2.0, dtype=torch.float64), (3,)),
    "prod with zero": (lambda x: tg.prod(x - x[0]), lambda x: (x - x[0]).prod(), (3,)),
}


@pytest.mark.parametrize("name", SCALARS)
def test_hessian_and_hvp(name: str) -> None:
    ours, theirs, shape = SCALARS[name]
    x, u = draw(*shape), draw(*shape, low=-0.3)
    got = tg.hessian(ours, x)
    assert got.shape == shape + shape
    assert_same(got, torch.autograd.functional.hessian(theirs, torch.tensor(x)), "hessian", 1e-11)
    (product,) = tg.hvp(ours, (x,), (u,))
    assert_same(product, torch.autograd.functional.hvp(theirs, torch.tensor(x), torch.tensor(u))[1], "hvp", 1e-11)


def test_products_of_several_primals() -> None:
    a, b, u, v = draw(2, 3), draw(3), draw(2, 3, low=-0.5), draw(3, low=0.1)
    y, pullback = tg.vjp(lambda x, z: tg.tanh(x @ z), a, b)
    value, wanted = torch.autograd.functional.vjp(
        lambda x, z: torch.tanh(x @ z), (torch.tensor(a), torch.tensor(b)), torch.ones(2, dtype=torch.float64)
    )
    assert_same(y, value, "value")
    compare(list(pullback(np.ones(2))), list(wanted), ["a", "b"])
    tangents = (torch.tensor(u), torch.tensor(v))
    _, dy = tg.jvp(lambda x, z: tg.tanh(x @ z), (a, b), (u, v))
    primals = (torch.tensor(a), torch.tensor(b))
    assert_same(dy, torch.autograd.functional.jvp(lambda x, z: torch.tanh(x @ z), primals, tangents)[1], "jvp")
    got = tg.hvp(lambda x, z: tg.tanh(x @ z).sum(), (a, b), (u, v))
    wanted = torch.autograd.functional.hvp(lambda x, z: torch.tanh(x @ z).sum(), primals, tangents)[1]
    compare(list(got), list(wanted), ["a", "b"], 1e-11)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "exp", "sin", "softplus", "log", "sqrt"])
def test_higher_order(name: str, order: int) -> None:
    f, g = getattr(tg, name), F.softplus if name == "softplus" else getattr(torch, name)
    x, t = tg.Tensor(0.7, requires_grad=True), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    y, z = f(x) * x, g(t) * t
    for _ in range(order):
        y = tg.grad(y, x, create_graph=True)
        (z,) = torch.autograd.grad(z, t, create_graph=True)
    assert_same(y, z, f"derivative of order {order}", 1e-10)


def test_gradient_of_a_gradient_reaches_the_leaves() -> None:
    array, weight = draw(3, 4), draw(4, 2)
    x, w = tg.Tensor(array, requires_grad=True), tg.Tensor(weight, requires_grad=True)
    s, t = torch.tensor(array, requires_grad=True), torch.tensor(weight, requires_grad=True)
    penalty = (tg.grad(tg.tanh(x @ w).sum(), x, create_graph=True) ** 2).sum()
    (tg.tanh(x @ w).sum() + penalty).backward()
    (slope,) = torch.autograd.grad(torch.tanh(s @ t).sum(), s, create_graph=True)
    (torch.tanh(s @ t).sum() + (slope**2).sum()).backward()
    compare([x.grad, w.grad], [s.grad, t.grad], ["x", "w"], 1e-11)


def test_backward_accumulates_and_create_graph_is_differentiable() -> None:
    x, t = tg.Tensor(draw(3), requires_grad=True), torch.tensor(draw(3), requires_grad=True)
    for _ in range(2):
        (x**3).sum().backward()
        (t**3).sum().backward()
    assert_same(x.grad, t.grad, "twice")
    x.grad = t.grad = None
    (x**3).sum().backward(create_graph=True)
    (slope,) = torch.autograd.grad((t**3).sum(), t, create_graph=True)
    assert_same(tg.grad(x.grad.sum(), x), torch.autograd.grad(slope.sum(), t)[0], "second")
    x.grad = None


def test_grad_of_inner_tensors_and_unused_inputs() -> None:
    x, t = tg.Tensor(draw(3), requires_grad=True), torch.tensor(draw(3), requires_grad=True)
    unused = tg.Tensor(draw(2, 2), requires_grad=True)
    h, k = tg.tanh(x), torch.tanh(t)
    y, z = (h * h * x).sum(), (k * k * t).sum()
    got = tg.grad(y, [h, x, unused, y], allow_unused=True)
    compare([got[0], got[1], got[3]], list(torch.autograd.grad(z, [k, t, z])), ["h", "x", "loss"])
    assert got[2].shape == (2, 2) and not got[2].data.any()
    with pytest.raises(tg.GradientError, match="allow_unused"):
        tg.grad(y, [x, unused])


@pytest.mark.slow  # to import torch.func alone takes seconds
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["vjp", "jvp", "jacobian", "hessian", "mixed"])
def test_closures_as_torch_func_sees_them(name):
    from torch import func

    def ours(w, x):
        f = lambda z: tg.tanh(w * z) * z[::-1]  # noqa: E731
        s = lambda z: tg.sum(tg.square(f(z)))  # noqa: E731
        return {
            "vjp": lambda: tg.vjp(f, x)[1](w * w)[0],
            "jvp": lambda: tg.jvp(f, (x,), (w * x,))[1],
            "jacobian": lambda: tg.jacobian(f, x),
            "hessian": lambda: tg.hessian(s, x),
            "mixed": lambda: tg.jacobian(lambda p: tg.jacobian(lambda q: tg.sin(p * q * w), x), w),
        }[name]()

    def theirs(w, x):
        f = lambda z: torch.tanh(w * z) * z.flip(0)  # noqa: E731
        s = lambda z: f(z).square().sum()  # noqa: E731
        return {
            "vjp": lambda: func.vjp(f, x)[1](w * w)[0],
            "jvp": lambda: func.jvp(f, (x,), (w * x,))[1],
            "jacobian": lambda: func.jacrev(f)(x),
            "hessian": lambda: func.hessian(s)(x),
            "mixed": lambda: func.jacrev(lambda p: func.jacrev(lambda q: torch.sin(p * q * w))(x))(w),
        }[name]()

    w0, x0 = np.array([1.5, 0.7, -0.4]), np.array([0.5, -1.0, 2.0])
    w, x = tg.Tensor(w0, requires_grad=True), tg.Tensor(x0, requires_grad=True)
    tw, tx = torch.tensor(w0, requires_grad=True), torch.tensor(x0, requires_grad=True)
    y, ty = ours(w, x), theirs(tw, tx)
    np.testing.assert_allclose(y.data, ty.detach().numpy(), 1e-12, 1e-12)
    weights = np.cos(np.arange(y.size)).reshape(y.shape)
    expected = torch.autograd.grad((ty * torch.tensor(weights)).sum(), (tw, tx))
    for g, t in zip(tg.grad(y, (w, x), weights), expected, strict=True):
        np.testing.assert_allclose(g.data, t.numpy(), 1e-11, 1e-11)
