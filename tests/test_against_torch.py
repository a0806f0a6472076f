"""Every public function beside PyTorch in float64: values, gradients, and the gradient of the gradient.

A case is a function written once for us and once for PyTorch, and the arrays it is called with. `check` compares
values, then the vector-Jacobian product with a random cotangent, then, by differentiating that product once more along
a random direction, the second derivatives and the Jacobian-vector product. Points where the conventions of the two
differ are left out, and each is named where it would stand.
"""

import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from torch_oracle import Array, Cases, assert_same, check, draw, torch

import tinygrad_rnn as tg

F = torch.nn.functional
CASES = Cases()
case = CASES.add

# --- Element by element ---

POSITIVE = {"log": (0.1, 3.0), "sqrt": (0.1, 3.0), "log1p": (-0.9, 2.0)}
SAME_NAME = "negative exp log log1p expm1 sqrt square abs sin cos tanh sigmoid relu".split()
UNARY: dict[str, Any] = {name: getattr(torch, name) for name in SAME_NAME}
UNARY |= {"softplus": F.softplus, "leaky_relu": F.leaky_relu}

for name, shape in product(UNARY, [(), (5,), (2, 3), (2, 0, 3)]):
    low, high = POSITIVE.get(name, (-2.0, 2.0))
    case(f"{name} {shape}", getattr(tg, name), UNARY[name], draw(*shape, low=low, high=high))
for name in sorted(set(SAME_NAME) - {"sigmoid", "relu"}):
    case(f"np.{name}", getattr(np, name), UNARY[name], draw(4, low=0.1))
case("leaky_relu slope", lambda x: tg.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 0.3), draw(6))
for name in ("relu", "abs", "leaky_relu", "softplus", "sigmoid", "tanh"):  # our values at the kinks are PyTorch's
    case(f"{name} at zero", getattr(tg, name), UNARY[name], [0.0, -1.0, 1.0])


def twice(f: Callable[..., Any], x: Any) -> Any:
    return f(x, x)


SHAPES = [((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 3)), ((2, 3), ()), ((), ()), ((4, 1, 3), (2, 1))]
SHAPES += [((1,), (2, 3)), ((2, 0), (1, 1)), ((1, 1, 1), (3,))]
for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
    for a, b in SHAPES:
        case(f"{name} {a} {b}", getattr(tg, name), getattr(torch, name), draw(*a), draw(*b, low=0.3, high=2.1))
    case(f"np.{name}", getattr(np, name), getattr(torch, name), draw(2, 3), draw(3, low=0.3))
    case(f"{name} of itself", partial(twice, getattr(tg, name)), partial(twice, getattr(torch, name)), draw(3))
for a, b in SHAPES:
    case(f"power {a} {b}", tg.power, torch.pow, draw(*a, low=0.2), draw(*b))
for name in ("maximum", "minimum"):
    case(f"{name} ties", getattr(tg, name), getattr(torch, name), [1.0, 2.0, 3.0, 0.0], [1.0, 2.0, 1.0, 0.0])
for exponent in (0, 1, 2, 3, 2.0, 0.5, -1, -2, 1.5):
    base = draw(4, low=0.3) if exponent in (0.5, 1.5) else draw(4)
    case(f"x ** {exponent!r}", lambda x, e=exponent: x**e, lambda x, e=exponent: x**e, base)
    case(f"power(x, {exponent!r})", lambda x, e=exponent: tg.power(x, e), lambda x, e=exponent: x**e, base)
for exponent in (0, 1, 2, 3, 4.0):
    case(f"0 ** {exponent!r}", lambda x, e=exponent: x**e, lambda x, e=exponent: x**e, [0.0, 1.0, -2.0])
# For base 0 and a tensor exponent PyTorch's second derivatives are NaN, ours are the limits: first order only.
FIRST_ORDER = {"zero base"}
case("zero base", tg.power, torch.pow, [0.0, 0.0, 0.0, 0.0, 1.5], [1.0, 2.0, 3.0, 0.0, 2.5])

OPERATORS: dict[str, Callable[..., Any]] = {
    "x + 2": lambda x, a: x + 2,
    "2 + x": lambda x, a: 2 + x,
    "x - 2": lambda x, a: x - 2,
    "2 - x": lambda x, a: 2 - x,
    "x * 3": lambda x, a: x * 3,
    "3 * x": lambda x, a: 3 * x,
    "x / 3": lambda x, a: x / 3,
    "3 / x": lambda x, a: 3 / x,
    "2 ** x": lambda x, a: 2**x,
    "-x": lambda x, a: -x,
    "+x": lambda x, a: +x,
    "abs(x)": lambda x, a: abs(x),
    "x + a": lambda x, a: x + a,
    "a + x": lambda x, a: a + x,
    "a - x": lambda x, a: a - x,
    "a * x": lambda x, a: a * x,
    "a / x": lambda x, a: a / x,
    "a ** x": lambda x, a: abs(a) ** x,
    "x ** a": lambda x, a: x**a,
    "a @ x": lambda x, a: a @ x,
    "x @ a": lambda x, a: x @ a,
    "x.T": lambda x, a: x.T,
    "x.T @ x": lambda x, a: x.T @ x,
    "x.sum()": lambda x, a: x.sum(),
    "x.mean()": lambda x, a: x.mean(),
    "x.reshape": lambda x, a: x.reshape(3, -1) * x.reshape((9, 1))[0],
    "x[0] * x[:, 1]": lambda x, a: x[0] * x[:, 1],
    "x += x": lambda x, a: (lambda y: y * x)(x + x),
    "diamond": lambda x, a: (x * x + x) * (x * x - x) / (x + 5),
    "three uses": lambda x, a: x * x * x + x @ x - x,
    "rows": lambda x, a: sum(row * k for k, row in enumerate(x)),
}
CONSTANT = draw(3, 3)
for name, f in OPERATORS.items():
    operand = draw(3, 3, low=0.2)
    case(name, lambda x, f=f: f(x, CONSTANT), lambda x, f=f: f(x, torch.tensor(CONSTANT)), operand)
case("np.matmul", lambda x: np.matmul(CONSTANT, x), lambda x: torch.tensor(CONSTANT) @ x, draw(3, 2))
case("np.add(a, x)", lambda x: np.add(CONSTANT, x), lambda x: torch.tensor(CONSTANT) + x, draw(3))

# --- Products ---

MATMUL = [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4))]
MATMUL += [((5, 2, 3), (5, 3, 4)), ((5, 1, 2, 3), (4, 3, 2)), ((3,), (5, 3, 4)), ((5, 2, 3), (3,)), ((2, 0), (0, 3))]
MATMUL += [((1, 2, 3), (5, 3, 4)), ((2, 2), (2, 2)), ((3,), (2, 5, 3, 4)), ((2, 5, 2, 3), (3,)), ((1, 1), (1,))]
MATMUL += [((2, 1, 3, 3), (1, 5, 3, 3)), ((0, 3), (3, 2)), ((1, 3), (3, 1))]
for a, b in MATMUL:
    case(f"matmul {a} {b}", tg.matmul, torch.matmul, draw(*a), draw(*b, low=-1.0))
case("x @ x", lambda x: x @ x, lambda x: x @ x, draw(3, 3))
case("x.T @ x vector", lambda x: x @ x, lambda x: x @ x, draw(4))

EINSUM: dict[str, tuple[tuple[int, ...], ...]] = {
    "ij,jk->ik": ((2, 3), (3, 4)),
    "ij,jk": ((2, 3), (3, 4)),
    "ba": ((2, 3),),
    "ij->ji": ((2, 3),),
    "ij->": ((2, 3),),
    "ij->j": ((2, 3),),
    "ii->i": ((3, 3),),
    "ii": ((3, 3),),
    "ii->": ((3, 3),),
    "iij->j": ((3, 3, 2),),
    "iij->ij": ((3, 3, 2),),
    "iji->j": ((3, 2, 3),),
    "iii->i": ((3, 3, 3),),
    "ijij->ij": ((2, 3, 2, 3),),
    "ii,i->i": ((3, 3), (3,)),
    "ii,jj->ij": ((3, 3), (2, 2)),
    "ii,ij->j": ((3, 3), (3, 2)),
    "ij,ij->": ((2, 3), (2, 3)),
    "i,i": ((3,), (3,)),
    "i,j->ij": ((2,), (3,)),
    "i,j->ji": ((2,), (3,)),
    "bij,bjk->bik": ((5, 2, 3), (5, 3, 4)),
    "bij,kj->bki": ((5, 2, 3), (4, 3)),
    "...ij,...jk->...ik": ((5, 2, 3), (5, 3, 4)),
    "...ij,jk->...ik": ((4, 5, 2, 3), (3, 4)),
    "...ij,...jk": ((1, 2, 3), (5, 3, 4)),
    "...i->...": ((2, 3, 4),),
    "i...->...": ((2, 3, 4),),
    "i...,i...->...": ((2, 3, 4), (2, 4)),
    "...,...->...": ((2, 1), (3,)),
    "...ii->...i": ((2, 3, 3),),
    "ij,jk,kl->il": ((2, 3), (3, 4), (4, 2)),
    "ij,ij,ij->i": ((2, 3), (2, 3), (2, 3)),
    "a,ab,b->": ((2,), (2, 3), (3,)),
    "a,b,c->cab": ((2,), (3,), (4,)),
    " i j , j -> i ": ((2, 3), (3,)),
    "i,->i": ((3,), ()),
    "->": ((),),
    "ij,kl->": ((2, 3), (4, 2)),
    "i->i": ((3,),),
    "ij,ij->ij": ((1, 3), (2, 3)),
    "ij,jk->k": ((2, 1), (3, 4)),
    "Ab,bC->AC": ((2, 3), (3, 4)),
}
for subscripts, shapes in EINSUM.items():
    operands = [draw(*shape, low=k - 2.0) for k, shape in enumerate(shapes)]
    case(f"einsum {subscripts!r}", partial(tg.einsum, subscripts), partial(torch.einsum, subscripts), *operands)
case("einsum of itself", lambda x: tg.einsum("ij,jk->ik", x, x), lambda x: x @ x, draw(3, 3))
case("np.einsum", lambda x: np.einsum("ij->j", x), lambda x: x.sum(0), draw(2, 3))

for shape in [(3,), (2, 3), (4, 2, 3)]:
    case(f"linear {shape}", tg.linear, F.linear, draw(*shape), draw(5, 3), draw(5))
    case(
        f"affine {shape}",
        tg.affine,
        lambda x, W, b, h, U, d: F.linear(x, W, b) + F.linear(h, U, d),
        *(draw(*shape), draw(5, 3), draw(5), draw(*shape[:-1], 2), draw(5, 2), draw(5, low=0.0)),
    )

# --- Reductions ---


def prod(x: Any, dim: tuple[int, ...], keepdim: bool) -> Any:
    for axis in sorted((d % x.ndim for d in dim), reverse=True):
        x = x.prod(axis, keepdim)
    return x


REDUCTIONS: dict[str, Any] = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin, "prod": prod}
REDUCTIONS |= {"var": lambda x, dim, keepdim: torch.var(x, dim, correction=0, keepdim=keepdim)}
REDUCTIONS |= {"logsumexp": torch.logsumexp}
AXES = [None, 0, 1, -1, (0, 1), (0, -1), (-1, 1), (0, 1, 2), (2,)]


def every(axis: Any, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis


def reduce(name: str, axis: Any, ndim: int = 1, keepdim: bool = False) -> Callable[..., Any]:
    return partial(REDUCTIONS[name], dim=every(axis, ndim), keepdim=keepdim)


for name, axis, keep in product(REDUCTIONS, AXES, (False, True)):
    ours = partial(getattr(tg, name), axis=axis, keepdims=keep)
    case(f"{name} axis={axis} keepdims={keep}", ours, reduce(name, axis, 3, keep), draw(2, 3, 4))
for name in REDUCTIONS:
    function = getattr(tg, name)
    case(f"{name} of a vector", function, reduce(name, 0), draw(5))
    case(f"{name} of one row", partial(function, axis=0), reduce(name, 0), draw(1, 3))
    if name != "var":
        case(f"{name} over no axis", partial(function, axis=()), lambda x: x * 1, draw(2, 3))
        case(f"{name} of a number", function, lambda x: x * 1, 1.5)
    if name != "logsumexp":
        case(f"np.{name}", partial(getattr(np, name), axis=1), reduce(name, 1), draw(2, 3))
for name in ("sum", "prod"):
    case(f"{name} of nothing", partial(getattr(tg, name), axis=0), reduce(name, 0), draw(0, 2))
for ddof, axis in product((0, 1, 2), (None, 1, (0, 2))):
    theirs = partial(torch.var, dim=every(axis, 3), correction=ddof)
    case(f"var ddof={ddof} axis={axis}", partial(tg.var, axis=axis, ddof=ddof), theirs, draw(3, 4, 2))
TIES = [[1.0, 2.0, 2.0], [2.0, 0.0, 2.0], [0.0, 0.0, 0.0]]
for name, axis in product(("max", "min"), (None, 0, 1, (0, 1))):  # amax and amin share ties equally, as we do
    case(f"{name} ties axis={axis}", partial(getattr(tg, name), axis=axis), reduce(name, axis, 2), TIES)
ZEROS = {"one": [2.0, 0.0, 3.0], "two": [0.0, 2.0, 0.0, 3.0], "three": [0.0, 0.0, 0.0], "none": [-1.5, 2.0, 3.0]}
for name, values in ZEROS.items():
    case(f"prod with {name} zeros", tg.prod, lambda x: x.prod(), values)
case("prod of rows with zeros", lambda x: tg.prod(x, 1), lambda x: x.prod(1), [[0.0, 2.0], [0.0, 0.0], [3.0, 4.0]])
for axis in (0, 1, -1):
    case(f"cumsum axis={axis}", lambda x, a=axis: tg.cumsum(x, a), lambda x, a=axis: x.cumsum(a), draw(2, 3, 4))
case("cumsum of all", lambda x: tg.cumsum(x), lambda x: x.reshape(-1).cumsum(0), draw(2, 3))
case("cumsum of a vector", lambda x: tg.cumsum(x * x), lambda x: (x * x).cumsum(0), draw(5))
for name in ("softmax", "log_softmax"):
    case(f"{name} default", getattr(tg, name), partial(getattr(F, name), dim=-1), draw(2, 3))
    for axis in (0, 1, -1):
        theirs = partial(getattr(F, name), dim=axis)
        case(f"{name} axis={axis}", partial(getattr(tg, name), axis=axis), theirs, draw(2, 3, 4))

TARGET = np.array([2, 0, 1, 1, 2])
case(
    "cross_entropy",
    lambda x: tg.cross_entropy(x, TARGET),
    lambda x: F.cross_entropy(x, torch.tensor(TARGET)),
    draw(5, 3),
)
case(
    "cross_entropy list",
    lambda x: tg.cross_entropy(x, [1]),
    lambda x: F.cross_entropy(x, torch.tensor([1])),
    draw(1, 4),
)
case("mse_loss", tg.mse_loss, F.mse_loss, draw(2, 3), draw(2, 3, low=0.0))
case("mse_loss array", lambda x: tg.mse_loss(x, CONSTANT), lambda x: F.mse_loss(x, torch.tensor(CONSTANT)), draw(3, 3))

# --- Functions put together ---


def network(m: Any) -> Callable[..., Any]:
    """A layer, a gate, a normalisation and a loss, in the words of either library."""

    def f(x: Any, W: Any, b: Any) -> Any:
        h = m.tanh(x @ W.T + b)
        gate = m.sigmoid(h[:, :2] * h[:, 2:])
        scaled = gate / m.sqrt((gate * gate).sum() + 1e-3)
        return m.log1p(m.exp(scaled @ x[:2])).mean() + (W[0] * b[1]).sum()

    return f


case("network", network(tg), network(torch), draw(5, 3), draw(4, 3, low=-1), draw(4))
case("chain of 40", lambda x: _repeat(tg.sin, x), lambda x: _repeat(torch.sin, x), draw(3))
case(
    "softmax attention",
    lambda q, k: tg.softmax(q @ k.T) @ k,
    lambda q, k: F.softmax(q @ k.T, -1) @ k,
    draw(3, 2),
    draw(4, 2, low=-1),
)


def _repeat(f: Callable[[Any], Any], x: Any) -> Any:
    for _ in range(40):
        x = f(x) + x * 0.1
    return x


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    ours, theirs, arrays = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(ours, theirs, *arrays, twice=name not in FIRST_ORDER)


EXTREME = np.array([-1e3, -745.0, -100.0, 0.0, 100.0, 710.0, 1e3])
ROWS = np.array([[1e3, -1e3, 0.0], [1e3, 1e3, 1e3], [-1e3, -1e3, -999.0], [0.0, 0.0, 1e3]])
LABELS = np.array([1, 0, 2, 0])
STABLE: dict[str, tuple[Any, Any, Array]] = {
    "sigmoid": (tg.sigmoid, torch.sigmoid, EXTREME),
    "softplus": (tg.softplus, F.softplus, EXTREME),
    "tanh": (tg.tanh, torch.tanh, EXTREME),
    "logsumexp": (partial(tg.logsumexp, axis=1), partial(torch.logsumexp, dim=1), ROWS),
    "logsumexp of all": (tg.logsumexp, partial(torch.logsumexp, dim=(0, 1)), ROWS),
    "softmax": (tg.softmax, partial(F.softmax, dim=1), ROWS),
    "log_softmax": (tg.log_softmax, partial(F.log_softmax, dim=1), ROWS),
    "cross_entropy": (lambda x: tg.cross_entropy(x, LABELS), lambda x: F.cross_entropy(x, torch.tensor(LABELS)), ROWS),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", STABLE)
def test_extremes_neither_overflow_nor_warn(name: str, dtype: str) -> None:
    ours, theirs, array = STABLE[name]
    x, t = tg.Tensor(array.astype(dtype), requires_grad=True), torch.tensor(array.astype(dtype), requires_grad=True)
    with warnings.catch_warnings(), np.errstate(over="warn", invalid="warn", divide="warn"):
        warnings.simplefilter("error")
        y = ours(x)
        y.backward(np.ones(y.shape, dtype))
    z = theirs(t)
    z.backward(torch.ones_like(z))
    assert np.isfinite(y.data).all() and np.isfinite(x.grad.data).all()
    for got, want, what in ((y, z, "value"), (x.grad, t.grad, "gradient")):
        assert_same(got, want, what, 1e-12 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "softplus", "relu", "sqrt", "log"])
def test_float32_stays_float32(name: str) -> None:
    array = draw(3, low=0.2).astype(np.float32)
    x, t = tg.Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    (getattr(tg, name)(x) * 2 + 1).sum().backward()
    (UNARY[name](t) * 2 + 1).sum().backward()
    assert_same(x.grad, t.grad, "gradient", 1e-6)


@pytest.mark.parametrize("operation", ["add", "multiply", "matmul", "power", "where"])
def test_mixed_dtypes_promote_and_each_gradient_keeps_its_own(operation: str) -> None:
    a, b = draw(3, 3, low=0.5).astype(np.float32), draw(3, 3, low=0.2)
    x, y = tg.Tensor(a, requires_grad=True), tg.Tensor(b, requires_grad=True)
    s, t = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    if operation == "where":
        z, w = tg.where(b > 1, x, y), torch.where(torch.tensor(b > 1), s, t)
    elif operation == "matmul":  # PyTorch does not promote here: cast as NumPy does
        z, w = x @ y, s.double() @ t
    else:
        z, w = getattr(tg, operation)(x, y), getattr(torch, {"power": "pow"}.get(operation, operation))(s, t)
    assert_same(z, w, "value", 1e-6)
    z.sum().backward()
    w.sum().backward()
    assert_same(x.grad, s.grad, "gradient of the float32 operand", 1e-6)
    assert_same(y.grad, t.grad, "gradient of the float64 operand", 1e-6)
