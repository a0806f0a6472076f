"""`check_primitive`: the whole battery on one operation, ours or yours, in one line.

After this file the reader knows what must hold for any differentiable operation, whatever it computes. Arity, domain
and shapes are found by trying: the forward function says what it accepts.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ..autodiff import jvp, vjp
from ..tensor import OPS, GradientError, Primitive, Tensor
from .battery import (
    LAYOUTS,
    Report,
    contributions_add_up,
    gradients,
    laid_out,
    random_like,
    require,
    require_close,
    run_all,
    weighted,
)
from .checker import gradcheck
from .oracles import Array
from .outcome import InconclusiveError

Shape = tuple[int, ...]
Domain = tuple[float, float]

# Small to large, so that the first that fails is the simplest. Square ones are where a transposed gradient still fits,
# stretched ones where a sum over one axis, two axes or new axes may be forgotten.
ONE: list[Shape] = [(3,), (2, 3), (3, 3), (1, 3), (2, 2, 2), (2, 3, 1), (), (0,), (2, 0)]
STRETCHED: list[tuple[Shape, Shape]] = [
    *[((), (3,)), ((3,), ()), ((3,), (1,)), ((1,), (3,)), ((2, 3), (3,)), ((3,), (2, 3)), ((3, 3), (3,))],
    *[((2, 3), ()), ((2, 1), (3,)), ((2, 1), (1, 3)), ((2, 3), (2, 1)), ((1, 1), (2, 3)), ((2, 2, 2), (1, 2, 1))],
    *[((1, 2, 1), (2, 1, 3)), ((2, 3), (1,)), ((1,), (2, 3)), ((2, 3, 2), (3, 1)), ((3, 1), (2, 3, 2))],
    *[((2, 2, 3), (3,)), ((3,), (2, 2, 3)), ((2, 1, 2), ()), ((2, 2, 2), (2, 2)), ((2, 2), (2, 2, 2))],
    *[((0, 3), (3,)), ((3,), (0, 3))],
]
MATRICES: list[tuple[Shape, ...]] = [((2, 3), (3, 4)), ((2, 3), (4, 3)), ((2, 2), (2, 2)), ((3, 3), (3, 3))]
LAYERS: list[tuple[Shape, ...]] = [((2, 3), (2, 3), (2,)), ((3, 3), (3, 3), (3,)), ((2, 3), (4, 3), (4,))]
DOMAINS: list[Domain] = [(-2.0, 2.0), (0.25, 2.0), (-0.75, 0.75), (1.25, 3.0), (0.125, 0.875)]
TRIES = 8


@dataclass(frozen=True)
class Example:
    """One call of the primitive: operands, and static parameters by keyword."""

    arrays: tuple[Array, ...]
    static: Mapping[str, Any]

    def __str__(self) -> str:
        shapes = ", ".join(str(a.shape) for a in self.arrays)
        static = "".join(f", {key}={value!r}" for key, value in self.static.items())
        return f"shapes {shapes}{static}"


def check_primitive(
    op: Primitive | str,
    *,
    shapes: Sequence[Any] | None = None,
    static: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    domain: Domain | Sequence[Domain] | None = None,
    order: int = 2,
    skip: Collection[str] = (),
    rng: int = 0,
) -> Report:
    """Run the whole battery on a primitive.

    Value, gradients against differences, linearity, the adjoint identity <u, J v> = <Jᵀ u, v>, contributions along
    edges, broadcasting, read-only operands of every memory layout, and float32.

    Parameters
    ----------
    op : Primitive or str
        What `primitive` returned, or its name.
    shapes : sequence, optional
        One tuple of operand shapes per example, or plain shapes for one operand. Default: usual ones that are accepted.
    static : dict or sequence of dict, optional
        Static parameters by keyword.
    domain : (float, float), optional
        Between which operands are drawn, or one pair per operand. Default: the first of some usual ones in which the
        results are finite.
    order : int
        Highest order of derivatives. 1 for rules that compute with arrays only and cannot be differentiated again.
    skip : collection of str
        Checks to leave out, by the names that the report uses.
    rng : int
        The same number gives the same check.

    Returns
    -------
    Report

    Raises
    ------
    CheckError
        With a report of what failed, and on which operands.
    ValueError
        If the forward function accepts none of the shapes.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.testing import check_primitive
    >>> cube = tg.primitive("cube", lambda x: x * x * x, lambda g, y, x: 3 * g * x * x)
    >>> print(check_primitive(cube))
    cube: ok, 9 checks on 9 examples, 144 derivatives compared
    >>> del tg.OPS["cube"]
    """
    op = OPS[op] if isinstance(op, str) else op
    examples = _examples(op, shapes, static, domain, rng)
    subject = _Subject(op, examples, order, rng)
    hint = "" if shapes is not None else "the shapes were guessed: pass shapes= if the operation is meant for others"
    return run_all(op.name, subject.checks(), list(map(str, examples)), skip, hint)


# What it is checked on


def _examples(op: Primitive, shapes: Sequence[Any] | None, static: Any, domain: Any, rng: int) -> list[Example]:
    """Operands for each combination of shapes and static parameters that the forward function accepts."""
    statics: list[Mapping[str, Any]] = [static or {}] if static is None or isinstance(static, Mapping) else list(static)
    _require_static(op, statics)
    candidates = _usual_shapes(op, statics) if shapes is None else [_operand_shapes(s) for s in shapes]
    combinations = [(s, k) for s in candidates for k in statics]
    for domains in _domains(domain, max(len(s) for s in candidates)):
        examples = [Example(_draw(s, domains, rng + n), k) for n, (s, k) in enumerate(combinations)]
        values = [_value_of(op, example) for example in examples]
        accepted = [example for example, y in zip(examples, values, strict=True) if y is not None]
        if accepted and all(np.isfinite(y).all() for y in values if y is not None):
            if shapes is not None and len(accepted) < len(examples):
                refused = next(e for e, y in zip(examples, values, strict=True) if y is None)
                raise ValueError(f"{op.name}: the forward function does not accept {refused}")
            return accepted
    where = "in its domain" if domain is not None else "anywhere that was tried: pass domain=(lowest, highest)"
    if not any(_value_of(op, e) is not None for e in examples):
        raise ValueError(f"{op.name}: the forward function accepts none of the shapes that were tried: pass shapes=")
    raise ValueError(f"{op.name}: the results are not finite {where}")


def _require_static(op: Primitive, statics: Sequence[Mapping[str, Any]]) -> None:
    try:
        parameters = inspect.signature(op.forward).parameters.values()
    except (TypeError, ValueError):  # a ufunc
        return
    needed = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
    for given in statics:
        if missing := sorted(needed - set(given)):
            values = ", ".join(f"{name!r}: ..." for name in missing)
            raise ValueError(f"{op.name} has static parameters: pass static={{{values}}}")


def _usual_shapes(op: Primitive, statics: Sequence[Mapping[str, Any]]) -> list[tuple[Shape, ...]]:
    """Shapes for which the operation is probably meant: a forward function may accept more than its rules do."""

    def result(shapes: tuple[Shape, ...]) -> list[Shape]:
        ones = tuple(np.ones(s) for s in shapes)
        found = [_value_of(op, Example(ones, k)) for k in statics]
        return [y.shape for y in found if y is not None]

    if op.nary:
        return [(s,) * count for count in (1, 2, 3) for s in ONE if s]
    arity = len(op.rules)
    equal: list[tuple[Shape, ...]] = [(s,) * arity for s in ONE]
    if arity == 1:  # a sum or a norm over an axis is hardly meant for scalars, or for nothing
        moved = np.where(np.arange(6).reshape(2, 3) == 0, 0.9, 1.0)
        with np.errstate(all="ignore"):
            pairs = [[_value_of(op, Example((x,), k)) for x in (np.ones((2, 3)), moved)] for k in statics]
        local = any(y is not None and y.shape == z.shape == (2, 3) and _differ(y, z) <= 1 for y, z in pairs)
        return equal if local else [(s,) for s in ONE if 0 not in (len(s), *s)]
    # Each operand stretched once, against all the others; of two operands that is every pair.
    stretched = [tuple(a if i == k else b for i in range(arity)) for k in range(arity - 1) for a, b in STRETCHED]
    typical = [((3,),) * arity, ((2, 3),) * arity, ((2, 2, 2),) * arity, ((2, 3), *((3,),) * (arity - 1))]
    if all(np.broadcast_shapes(*shapes) in result(shapes) for shapes in typical):  # element by element
        return [*equal, *stretched]
    products = MATRICES if arity == 2 else LAYERS if arity == 3 else []
    return [shapes for shapes in products if result(shapes)] or equal


def _differ(a: Array, b: Array) -> int:
    """In how many elements."""
    return int(np.count_nonzero((a != b) & ~(np.isnan(a) & np.isnan(b))))


def _operand_shapes(shapes: Any) -> tuple[Shape, ...]:
    """One shape per operand; a plain shape is that of a single operand."""
    shapes = tuple(shapes)
    return tuple(tuple(s) for s in shapes) if shapes and not isinstance(shapes[0], int) else (shapes,)


def _domains(domain: Any, arity: int) -> Iterator[tuple[Domain, ...]]:
    if domain is None:
        yield from ((d,) * arity for d in DOMAINS)
        if 1 < arity < 4:
            yield from product(DOMAINS, repeat=arity)
    elif isinstance(domain[0], (int, float)):
        yield (tuple(domain),) * arity
    else:
        yield tuple(domain)


def _draw(shapes: Sequence[Shape], domains: Sequence[Domain], rng: int) -> tuple[Array, ...]:
    """Random operands, no two elements alike and none near 0, where most kinks are."""
    generator = np.random.default_rng(rng)
    arrays = []
    for shape, (low, high) in zip(shapes, domains, strict=False):
        x = generator.uniform(low, high, shape)
        near = 0.05 * (high - low)
        arrays.append(np.asarray(np.where(np.abs(x) < near, x + np.where(x < 0, -near, near), x).clip(low, high)))
    return tuple(arrays)


def _value_of(op: Primitive, example: Example) -> Any:
    """What the forward function gives; None if it refuses the operands."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            y = np.asarray(op.forward(*(a.copy() for a in example.arrays), **example.static))
    except (ValueError, IndexError, TypeError):
        return None
    empty = any(a.size == 0 for a in example.arrays)  # the mean of nothing is NaN, which says nothing about the domain
    return y if y.dtype.kind in "fbiu" and not (empty and not np.isfinite(y).all()) else None


class _Subject:
    """A primitive and what it is checked on."""

    def __init__(self, op: Primitive, examples: list[Example], order: int, rng: int) -> None:
        self.op, self.examples, self.order, self.rng = op, examples, order, rng

    def checks(self) -> dict[str, Callable[[], int | None]]:
        """The battery, in its order."""
        return {
            "value": self.each(_value),
            "first order": self.each(_first_order),
            **{f"order {k}": self.each(_higher(k)) for k in range(2, self.order + 1)},
            "linearity": self.each(_linearity),
            **({"adjoint": self.each(_adjoint)} if self.order > 1 else {}),  # it differentiates the rule itself
            "contributions": self.each(_contributions),
            "broadcasting": self.each(_broadcasting),
            "memory": self.each(_memory),
            "float32": self.each(_float32),
        }

    def each(self, check: Callable[[Primitive, Example, np.random.Generator], int | None]) -> Callable[[], int]:
        """A check of every example; what it raises says on which."""

        def run() -> int:
            compared = 0
            for k, example in enumerate(self.examples):
                try:
                    compared += check(self.op, example, np.random.default_rng([self.rng, k])) or 0
                except Exception as error:
                    error.add_note(f"for {example}")
                    raise
            return compared

        return run


# The checks, each of one example


def _tensors(arrays: Sequence[Array]) -> list[Tensor]:
    return [Tensor(a, requires_grad=True) for a in arrays]


def _value(op: Primitive, example: Example, rng: np.random.Generator) -> None:
    """On Tensors as on arrays, the same twice, remembered, and nothing written to."""
    plain = np.asarray(op.forward(*(a.copy() for a in example.arrays), **example.static))
    xs = _tensors(example.arrays)
    y = op(*xs, **example.static)
    require(isinstance(y, Tensor) and y.requires_grad, "the result on Tensors is not a Tensor that needs a gradient")
    require(y.dtype.kind == "f", f"the result is {y.dtype}, which has no gradient")
    require_close(y.numpy(), plain, 0.0, "the result on Tensors and that on arrays")
    again = np.asarray(op(*(a.copy() for a in example.arrays), **example.static))
    require_close(again, plain, 0.0, "two calls with the same operands")
    for i, (x, array) in enumerate(zip(xs, example.arrays, strict=True)):
        require(np.array_equal(x.numpy(), array), f"operand {i} is changed in place")


def _gradcheck(op: Primitive, example: Example, order: int, rng: np.random.Generator) -> int:
    """Away from kinks: where one is in the way, other operands nearby are tried."""
    arrays = example.arrays
    for k in range(TRIES):
        try:
            return gradcheck(lambda *xs: op(*xs, **example.static), *arrays, order=order, rng=rng).compared
        except InconclusiveError:
            if k == TRIES - 1:
                raise
            arrays = tuple(np.asarray(a * rng.uniform(0.9, 1.0, a.shape)) for a in example.arrays)
    raise AssertionError


def _first_order(op: Primitive, example: Example, rng: np.random.Generator) -> int:
    return _gradcheck(op, example, 1, rng)


def _higher(order: int) -> Callable[[Primitive, Example, np.random.Generator], int]:
    def check(op: Primitive, example: Example, rng: np.random.Generator) -> int:
        try:
            return _gradcheck(op, example, order, rng)
        except (TypeError, GradientError) as error:  # what a Tensor says to functions that would lose its gradient
            message = (
                f"not checked: the rule computes with arrays only ({error}). If first derivatives are all you need, "
                "pass order=1; for higher ones write it with operators, functions of tinygrad_rnn and primitives"
            )
            raise InconclusiveError(message, order) from error

    return check


def _linearity(op: Primitive, example: Example, rng: np.random.Generator) -> None:
    """The vjp is a linear map of the cotangent; the tolerance is rounding's alone, nothing is differenced."""
    y, pull = vjp(lambda *xs: op(*xs, **example.static), *example.arrays)
    u, v = random_like(rng, y), random_like(rng, y)
    for i, (at_u, at_v, both) in enumerate(zip(pull(u), pull(v), pull(3 * u - v), strict=True)):
        expected = 3 * at_u.numpy() - at_v.numpy()
        require_close(both.numpy(), expected, 1e-11, f"the gradient of operand {i} is not linear in the cotangent")


def _adjoint(op: Primitive, example: Example, rng: np.random.Generator) -> None:
    """<u, J v> = <Jᵀ u, v>."""
    tangents = [random_like(rng, a) for a in example.arrays]
    y, pull = vjp(lambda *xs: op(*xs, **example.static), *example.arrays)
    _, dy = jvp(lambda *xs: op(*xs, **example.static), example.arrays, tangents)
    u = random_like(rng, y)
    forward = u * dy.numpy()
    backward = [g.numpy() * t for g, t in zip(pull(u), tangents, strict=True)]
    scale = 1 + float(np.abs(forward).sum()) + float(sum(np.abs(b).sum() for b in backward))
    gap = abs(float(forward.sum()) - float(sum(b.sum() for b in backward)))
    require(gap <= 1e-11 * scale, f"<u, J v> and <Jᵀ u, v> differ by {gap:.3g}: is the rule linear in g?")


def _contributions(op: Primitive, example: Example, rng: np.random.Generator) -> None:
    """Operands used twice, the result used twice: gradients are the sums along the edges."""
    xs = _tensors(example.arrays)
    y, z = op(*xs, **example.static), op(*xs, **example.static)
    u, v = random_like(rng, y), random_like(rng, y)
    loss = weighted([y, y, z], [u, v, u])
    contributions_add_up(loss, xs)
    once = gradients(y, xs, u + u + v)
    for i, (g, expected) in enumerate(zip(gradients(loss, xs), once, strict=True)):
        require_close(g, expected, 1e-11, f"the gradient of operand {i}, used twice")


def _broadcasting(op: Primitive, example: Example, rng: np.random.Generator) -> None:
    """An operation that stretches its operands as NumPy does gives the same as on operands stretched before."""
    shapes = [a.shape for a in example.arrays]
    xs = _tensors(example.arrays)
    y = op(*xs, **example.static)
    try:
        common = np.broadcast_shapes(*shapes)
    except ValueError:
        return
    if (
        len(set(shapes)) < 2
        or y.shape != common
        or _value_of(op, Example(tuple(np.ones(common) for _ in xs), {})) is None
    ):
        return
    wide = _tensors([np.broadcast_to(a, common) for a in example.arrays])
    z = op(*wide, **example.static)
    if z.shape != common:
        return
    require_close(y.numpy(), z.numpy(), 1e-12, "results with broadcasting done by the operation and before it")
    u = random_like(rng, y)
    for i, (g, full) in enumerate(zip(gradients(y, xs, u), gradients(z, wide, u), strict=True)):
        lead = len(common) - g.ndim
        axes = (*range(lead), *(lead + k for k, n in enumerate(g.shape) if n == 1 and common[lead + k] != 1))
        expected = full.sum(axis=axes).reshape(g.shape)
        require_close(g, expected, 1e-11, f"the gradient of operand {i} and the sum over its repetitions")


def _memory(op: Primitive, example: Example, rng: np.random.Generator) -> None:
    """The forward function and every rule take read-only arrays of any layout, and give the same numbers."""
    y = np.asarray(op.forward(*example.arrays, **example.static))
    g = random_like(rng, y)
    expected = [op.rules[i](g, y, *example.arrays, **example.static) for i in range(len(example.arrays))]
    even = np.full_like(g, 1.5)
    for i in range(len(example.arrays)):  # what the gradient of a sum looks like: one number, repeated by stride 0
        want, found = (op.rules[i](v, y, *example.arrays, **example.static) for v in (even, laid_out(even, "stride 0")))
        require_close(found, want, 1e-12, f"rule {i} with a cotangent of stride 0")
    for layout in LAYOUTS[:4]:
        arrays = [laid_out(a, layout) for a in example.arrays]
        locked_g, locked_y = laid_out(g, layout), laid_out(y, layout)
        what = f"with read-only arrays of layout {layout!r}"
        try:
            require_close(op.forward(*arrays, **example.static), y, 1e-12, f"the result {what}")
            for i, want in enumerate(expected):
                found = op.rules[i](locked_g, locked_y, *arrays, **example.static)
                require_close(found, want, 1e-12, f"rule {i} {what}")
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise AssertionError(f"an array is written to that belongs to others: {error}") from error


def _float32(op: Primitive, example: Example, rng: np.random.Generator) -> None:
    """float32 in, float32 out, and the numbers of float64 to the digits that float32 has."""
    short = [a.astype(np.float32) for a in example.arrays]
    xs, wide = _tensors(short), _tensors([a.astype(float) for a in short])
    y, z = op(*xs, **example.static), op(*wide, **example.static)
    require(y.dtype == np.float32, f"float32 operands give a result of {y.dtype}")
    require_close(y.numpy(), z.numpy(), 1e-4, "results in float32 and in float64")
    u = random_like(rng, y)
    for i, (g, h) in enumerate(zip(gradients(y, xs, u), gradients(z, wide, u.astype(float)), strict=True)):
        require(g.dtype == np.float32, f"the gradient of operand {i} is {g.dtype} for float32")
        require_close(g, h, 1e-3, f"the gradients of operand {i} in float32 and in float64")
