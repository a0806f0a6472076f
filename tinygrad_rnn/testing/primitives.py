"""`check_primitive`: the whole battery on one operation, ours or yours, in one line.

After this file the reader knows what must hold for any differentiable operation, whatever it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..autodiff import jvp, vjp
from ..tensor import OPS, Tensor
from . import battery
from .adapters import as_primitive
from .battery import Report, laid_out, require, tensors
from .operands import Domain, Example, examples_of, statics_of
from .special import special_points
from .subject import random_like

__tracebackhide__ = True  # pytest shows the caller's line


def check_primitive(
    op: Any,
    *,
    operands: Any = None,
    shapes: Sequence[Any] | None = None,
    static: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    domain: Domain | Sequence[Domain] | None = None,
    order: int = 2,
    rtol: float | None = None,
    noise: float | None = None,
    skip: Collection[str] = (),
    rng: int = 0,
) -> Report:
    """Run the whole battery on a primitive.

    Value, gradients against differences, also at the points where rules go wrong, linearity, the adjoint identity
    <u, J v> = <Jᵀ u, v>, contributions along edges, broadcasting, read-only operands of every memory
    layout, and float32.

    Parameters
    ----------
    op : Primitive, str, or a rule of another library
        What `primitive` returned, or its name; or a subclass of ``torch.autograd.Function``, a ``jax.custom_vjp``
        function, a primitive of autograd, which are checked to first order.
    operands : optional
        What to check it on, if that cannot be drawn between two bounds. A tuple holds the operands of one example, a
        dict too, by the names that the rules give them, a list several examples, and a Hypothesis strategy draws one.
        An operand is an array (of integers if it is held constant), or one of `operands`: ``spd(3)``.
    shapes : sequence, optional
        One tuple of operand shapes per example, or plain shapes for one operand. Default: usual ones that are accepted.
    static : dict or sequence of dict, optional
        Static parameters by keyword.
    domain : (float, float), optional
        Between which operands are drawn, or one pair per operand. Default: the first of some usual ones in which the
        results are finite.
    order : int
        Highest order of derivatives. 1 for rules that compute with arrays only and cannot be differentiated again.
    rtol : float, optional
        By how much any two numbers that are compared may differ; by default as in `gradcheck`, and in comparisons
        without differences by rounding alone.
    noise : float, optional
        How exact the values of the forward function are, relative to their size, if it iterates to a tolerance.
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
        If the forward function does not accept the operands; with what it raised.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.testing import check_primitive
    >>> cube = tg.primitive("cube", lambda x: x * x * x, lambda g, y, x: 3 * g * x * x)
    >>> print(check_primitive(cube))
    cube: ok, 10 checks on 10 examples, 364 derivatives compared
    >>> del tg.OPS["cube"]
    """
    if isinstance(op, str):
        op = OPS[op]
    elif not hasattr(op, "rules"):
        op, order = as_primitive(op, {name for one in statics_of(static) for name in one}), 1
    found = examples_of(op, operands, shapes, statics_of(static), domain, rng)
    notes: list[str] = []
    examples = [replace(e, rtol=rtol, noise=noise, domain=domain, notes=notes) for e in found]
    guessed = shapes is None and operands is None
    hint = "the shapes were guessed: pass shapes= if the operation is meant for others" if guessed else ""
    run = {
        name: partial(_on_each, check, _simplest(examples) if check is special_points else examples, rng)
        for name, check in _checks(order).items()
    }
    return battery.run_all(op.name, run, list(map(str, examples)), skip, hint, notes)


def _checks(order: int) -> dict[str, Callable[[Example, np.random.Generator], int | None]]:
    """The battery, in its order, with derivatives up to an order: checks of one example, by name."""
    return {
        "value": _value,
        "first order": partial(battery.right_gradients, order=1),
        **{f"order {k}": partial(battery.right_gradients, order=k) for k in range(2, order + 1)},
        "special points": special_points,
        "linearity": _linearity,
        **({"adjoint": _adjoint} if order > 1 else {}),  # it differentiates the rule itself
        "contributions": battery.contributions,
        "broadcasting": _broadcasting,
        "memory": _memory,
        "float32": battery.float32,
    }


def names_of_checks(order: int) -> list[str]:
    """What the battery checks of derivatives up to an order."""
    return list(_checks(order))


def _simplest(examples: list[Example]) -> list[Example]:
    """The first of vectors and the first of matrices."""
    ranks = {max(a.ndim for a in e.arrays): e for e in reversed(examples) if not e.empty}
    return [ranks[rank] for rank in (1, 2) if rank in ranks]


def _on_each(check: Callable[..., int | None], examples: list[Example], rng: int) -> int:
    """How many derivatives a check of every example has compared; what it raises says on which."""
    compared = 0
    for k, example in enumerate(examples):
        try:
            compared += check(example, np.random.default_rng([rng, k])) or 0
        except Exception as error:
            error.add_note(f"for {example}")
            raise
    return compared


# The checks, each of one example


def _value(example: Example, rng: np.random.Generator) -> None:
    """On Tensors as on arrays, the same twice, remembered, and nothing written to."""
    copies = [a.copy() for a in example.arrays]
    plain = np.asarray(example.op.forward(*copies, **example.static))
    for i, (array, copied) in enumerate(zip(example.arrays, copies, strict=True)):
        require(np.array_equal(array, copied), f"operand {i} is changed in place")
    reused = np.may_share_memory(plain, example.forward(example.arrays))
    require(not reused, "a second result is written into the array of the first: return a new one each time")
    y = example(*tensors(example.points))
    require(isinstance(y, Tensor) and y.requires_grad, "the result on Tensors is not a Tensor that needs a gradient")
    require(y.dtype.kind == "f", f"the result is {y.dtype}, which has no gradient")
    exactly = battery.ROUNDING if any(example.keeps) else 0.0
    example.close(y.numpy(), plain, "the result on Tensors and that on arrays", exactly)
    again = np.asarray(example(*(a.copy() for a in example.points)))
    example.close(again, plain, "two calls with the same operands", exactly)


def _linearity(example: Example, rng: np.random.Generator) -> None:
    """The vjp is a linear map of the cotangent; the tolerance is rounding's alone, nothing is differenced."""
    y, pull = vjp(example, *example.points)
    u, v = random_like(rng, y, y)
    for i, (at_u, at_v, both) in enumerate(zip(pull(u), pull(v), pull(3 * u - v), strict=True)):
        expected = 3 * at_u.numpy() - at_v.numpy()
        example.close(both.numpy(), expected, f"the gradient of operand {i} is not linear in the cotangent")


def _adjoint(example: Example, rng: np.random.Generator) -> None:
    """<u, J v> = <Jᵀ u, v>."""
    tangents = random_like(rng, *example.points)
    with battery.differentiating(2):
        y, pull = vjp(example, *example.points)
        _, dy = jvp(example, example.points, tangents)
    (u,) = random_like(rng, y)
    forward = u * dy.numpy()
    backward = [g.numpy() * t for g, t in zip(pull(u), tangents, strict=True)]
    scale = 1 + float(np.abs(forward).sum())
    gap = abs(float(forward.sum()) - float(sum(b.sum() for b in backward)))
    near = gap <= max(battery.ROUNDING, example.slack) * scale
    require(near, f"<u, J v> and <Jᵀ u, v> differ by {gap:.3g}: is the rule linear in g?")


def _broadcasting(example: Example, rng: np.random.Generator) -> None:
    """An operation that stretches its operands as NumPy does gives the same as on operands stretched before."""
    shapes = [a.shape for a in example.points]
    try:
        common = np.broadcast_shapes(*shapes)
    except ValueError:
        return
    wide = example.at([np.broadcast_to(a, common) for a in example.arrays if a.dtype.kind == "f"])
    known = len(set(shapes)) > 1 and len(shapes) == len(example.arrays) and wide.accepted
    if not known or not np.shape(example.value) == np.shape(wide.value) == common:
        return
    example.close(example.value, wide.value, "results with broadcasting done by the operation and before it")


def _memory(example: Example, rng: np.random.Generator) -> None:
    """The forward function and every rule take read-only arrays of any layout, and give the same numbers."""
    y = example.forward(example.arrays)
    (g,) = random_like(rng, y)
    even = np.full_like(g, 1.5)
    expected = {i: example.rule(i, g, y, example.arrays) for i in example.floats}
    for i in example.floats:  # what the gradient of a sum looks like: one number, repeated by stride 0
        want, found = (example.rule(i, v, y, example.arrays) for v in (even, laid_out(even, "stride 0")))
        example.close(found, want, f"rule {i} with a cotangent of stride 0")
    for layout in battery.LAYOUTS[:4]:
        arrays = [laid_out(a, layout) for a in example.arrays]
        what = f"with read-only arrays of layout {layout!r}"
        result = example.op.forward(*arrays, **example.static)
        example.close(result, y, f"the result {what}")
        for i, want in expected.items():
            found = example.rule(i, laid_out(g, layout), laid_out(y, layout), arrays)
            example.close(found, want, f"rule {i} {what}")
