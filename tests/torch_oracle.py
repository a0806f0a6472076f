"""PyTorch as the oracle: the same function written for both, compared in value, first and second order.

Importing this module skips the test file where PyTorch is missing.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_rnn as tg

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
Array = Any
EXACT = 1e-12


class Case(NamedTuple):
    """A function for us, the same for PyTorch, and its differentiable operands."""

    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    arrays: tuple[Array, ...]


def draw(*shape: int, low: float = -2.0, high: float = 2.0) -> Array:
    """Distinct numbers of no special kind, the same for the same shape and range."""
    seed = zlib.crc32(repr((shape, low, high)).encode())
    return np.random.default_rng(seed).uniform(low, high, shape)


class Cases(dict[str, Case]):
    """Cases by name; a name is taken once."""

    def add(self, name: str, ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Any) -> None:
        assert name not in self, f"two cases are named {name}"
        self[name] = Case(ours, theirs, tuple(np.asarray(array, dtype=np.float64) for array in arrays))


def numpy_of(value: Any) -> Array:
    return (
        value.detach().numpy(force=True)
        if isinstance(value, torch.Tensor)
        else np.asarray(getattr(value, "data", value))
    )


def assert_same(ours: Any, theirs: Any, what: str, tolerance: float = EXACT) -> None:
    """Equal shapes, and equal values up to rounding, relative to the largest."""
    got, want = numpy_of(ours), numpy_of(theirs)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, PyTorch {want.shape}"
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, PyTorch {want.dtype}"
    finite = np.abs(want[np.isfinite(want)])
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * finite.max(initial=1.0), err_msg=what)


def check(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Array, twice: bool = True) -> None:
    """Value, first and second order. The cotangent is a variable too, so the product is never independent of all."""
    xs = [tg.Tensor(array, requires_grad=True) for array in arrays]
    ts = [torch.tensor(array, requires_grad=True) for array in arrays]
    y, z = ours(*xs), theirs(*ts)
    assert_same(y, z, "value")
    rng = np.random.default_rng(7)
    seed = rng.uniform(0.5, 1.5, y.shape)
    directions = [rng.uniform(0.5, 1.5, array.shape) for array in arrays]
    g, s = tg.Tensor(seed, requires_grad=True), torch.tensor(seed, requires_grad=True)
    first = tg.grad(y, xs, grad_output=g, create_graph=True)
    expected = torch.autograd.grad(z, ts, s, create_graph=True)
    for k, (got, want) in enumerate(zip(first, expected, strict=True)):
        assert_same(got, want, f"gradient of operand {k}")
    if not twice:
        return
    projected = sum((tg.sum(a * d) for a, d in zip(first, directions, strict=True)), tg.Tensor(0.0))
    target = sum((a * torch.tensor(d)).sum() for a, d in zip(expected, directions, strict=True))
    target = target + 0 * s.sum()  # PyTorch refuses a gradient that depends on nothing, such as that of x ** 0
    second = tg.grad(projected, [*xs, g], allow_unused=True)
    wanted = torch.autograd.grad(target, [*ts, s], allow_unused=True, materialize_grads=True)
    for k, (got, want) in enumerate(zip(second, wanted, strict=True)):
        what = "Jacobian-vector product" if k == len(xs) else f"second derivative, operand {k}"
        assert_same(got, want, what, tolerance=1e-11)
