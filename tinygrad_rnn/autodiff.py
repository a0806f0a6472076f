"""The one backward sweep, and everything that asks it for gradients.

After this file the reader knows reverse-mode differentiation: walk the history newest first, hand each tensor's
cotangent to the rules of the primitive that made it, and add up what arrives at each operand. `backward`, `grad`,
`vjp`, `jvp`, `jacobian`, `hessian`, `hvp` and the gradient graph are all consumers of that one loop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from operator import add, attrgetter, is_
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from . import ops
from .primitive import MOST_GATHERED, Gathered, Uses, explain
from .scope import CONTEXT, recorded
from .tensor import FUNCTIONS, GradientError, Tensor, as_array, constant

Through = Callable[[Tensor, int, Any], Any]
Function = Callable[..., Any]


class _Freed:
    """Takes the place of the operands of a tensor whose history was given up: whoever walks there is told so."""

    def __iter__(self) -> Any:
        remedy = "run the forward pass again, or retain it"
        raise GradientError(f"this graph was freed by backward(retain_graph=False): {remedy}")


def history(outputs: Iterable[Tensor]) -> list[Tensor]:
    """Every tensor with a gradient that the outputs were computed from, oldest first, outputs included."""
    found: list[Any] = list(outputs)
    seen = {None, *found}
    for node in found:  # which grows while it is walked
        for operand in node._operands:
            if operand not in seen and operand._requires_grad:
                seen.add(operand)
                found.append(operand)
    found.sort(key=attrgetter("_serial"))
    return found


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes along which an operand of this shape was repeated."""
    lead = g.ndim - len(shape)
    axes = (*range(lead), *[lead + i for i, n in enumerate(shape) if n == 1 and g.shape[lead + i] != 1])
    return g.sum(axis=axes).reshape(shape)


def pullback(
    seeds: Mapping[Tensor, Any],
    wanted: Iterable[Tensor] | None = None,
    through: Through | None = None,
    create_graph: bool = False,
    retain_graph: bool = True,
) -> dict[Tensor, Any]:
    """Send cotangents back through the history of the seeded tensors: the one sweep.

    Parameters
    ----------
    seeds : mapping of Tensor to cotangent
        The cotangent of each output, of its shape: arrays, or Tensors with ``create_graph``.
    wanted : iterable of Tensor, optional
        Whose cotangents to return, leaves or not; only paths to them are walked. Default: every leaf.
    through : callable, optional
        ``through(node, operand_index, contribution) -> contribution``, called for each edge, after broadcasting and
        the cast have been undone. It watches an edge (returns the argument), or cuts it (returns zeros). While the
        graph is retained, the edges of the weights of `linear` and `affine` come in blocks, later than the other
        edges of the same nodes.
    create_graph : bool
        Compute with Tensors, so that the results can be differentiated again.
    retain_graph : bool
        If false, take the graph apart while it is used, so that its memory is free by the end.

    Returns
    -------
    dict of Tensor to cotangent
        An entry for each wanted tensor that the seeds depend on.
    """
    order = history(seeds)
    keep: Any = () if wanted is None else set(wanted)
    on_path: set[Tensor | None] = set(order) if wanted is None else _on_path(order, keep)
    cotangents: dict[Any, Any] = dict(seeds)
    # How each primitive is treated, and its uses whose contributions are not computed yet, by who receives them.
    plans: dict[Any, tuple[Any, Any, Any, dict[Any, Uses]]] = {}
    awaited: dict[Any, list[Any]] = defaultdict(list)  # the gathered uses that a receiver waits for
    while order:  # newest first; popped, so that memory falls as the sweep goes
        node = order.pop()
        for gathered, key, op, operands in awaited.pop(node, ()):
            _settle(gathered.pop(key, ()), op, operands, on_path, cotangents, through)
        op = node._op
        if op is None or node not in on_path:
            continue
        if op not in plans:
            plan = op.gathering if through is None else op.watching if retain_graph else op.computing
            plans[op] = op.rules, *(op.computing if create_graph else plan), {}
        rules, each, receivers_of, gathered = plans[op]
        operands, arrays, static = node._operands, node._arrays, node._static
        g = cotangents[node] if node in keep else cotangents.pop(node)
        inputs = (g, node, *_as_recorded(node)) if create_graph else (g, node._data) + arrays  # noqa: RUF005, faster
        if receivers_of is not None:
            key = receivers_of(operands) if through is None else (receivers_of(operands), g.shape)
            uses = gathered.get(key)
            if uses is None:
                uses = gathered[key] = Uses()
                for i in op.gathers:
                    awaited[operands[i]].append((gathered, key, op, operands))
            uses.append((inputs, static, node))
            many = len(uses) * g.size
            if many >= MOST_GATHERED and many >= max([np.size(arrays[i]) for i in op.gathers]):
                _settle(gathered.pop(key), op, operands, on_path, cotangents, through)
        for i in range(len(arrays)) if each is None else each:
            operand, rule, array = operands[i], rules[i], arrays[i]
            if operand not in on_path:
                continue
            try:
                contribution = rule(*inputs, **static) if static else rule(*inputs)
                if contribution.shape != array.shape or contribution.dtype is not array.dtype:
                    contribution = _fit(contribution, array)
            except Exception as error:
                error.add_note(f"in the derivative with respect to operand {i}")
                explain(error, op, arrays, node.scope)
                raise
            if through is not None:
                contribution = through(node, i, contribution)
            known = cotangents.get(operand)
            cotangents[operand] = contribution if known is None else known + contribution
        if not retain_graph:
            node._operands, node._arrays, node._static = cast(Any, _Freed()), (), {}
            on_path.discard(node)
    return cotangents if wanted is None else {node: g for node, g in cotangents.items() if node in keep}


def _on_path(order: list[Tensor], keep: set[Tensor]) -> set[Tensor | None]:
    """Which tensors lie between the outputs and those that are wanted: `order` is oldest first."""
    on_path: set[Tensor | None] = set(keep)
    for node in order:
        if not on_path.isdisjoint(node._operands):
            on_path.add(node)
    return on_path


def _fit(contribution: Any, array: Any) -> Any:
    """Undo what the forward pass did silently: broadcasting, and mixing dtypes."""
    if contribution.shape != array.shape:
        only_ones = contribution.size == array.size  # that were put in front, say: nothing was repeated
        contribution = contribution.reshape(array.shape) if only_ones else unbroadcast(contribution, array.shape)
    if contribution.dtype is not array.dtype:
        contribution = ops.cast(contribution, dtype=array.dtype)
    return contribution


def _settle(uses: Any, op: Any, operands: Any, on_path: set[Any], cotangents: dict[Any, Any], through: Any) -> None:
    """Compute the contributions of uses that were only gathered, if any, and add them."""
    for i in op.gathers if uses else ():
        operand, rule, array = operands[i], op.rules[i], uses[0][0][2 + i]
        if operand in on_path:
            try:
                total = _fit(rule.total(uses), array) if through is None else _watched(uses, i, rule, array, through)
            except Exception as error:
                error.add_note(f"in the derivative of {op.name} with respect to operand {i}, uses: {len(uses)}")
                raise
            known = cotangents.get(operand)
            cotangents[operand] = total if known is None else known + total


def _watched(uses: Uses, i: int, rule: Gathered, array: Any, through: Through) -> Any:
    """The sum of the contributions of uses to operand i, each of which is shown to `through`."""
    most = max(1, 8 * MOST_GATHERED // max(1, array.size))
    if len(uses) > most:  # in blocks, since each contribution is as large as the operand
        blocks = (Uses(uses[k : k + most]) for k in range(0, len(uses), most))
        return reduce(add, (_watched(block, i, rule, array, through) for block in blocks))
    stack = cast(Any, rule).each(uses)
    if stack.shape[1:] != array.shape or stack.dtype is not array.dtype:
        stack = np.array([_fit(contribution, array) for contribution in stack])
    shown = list(stack)
    passed = [through(use[2], i, contribution) for use, contribution in zip(uses, shown, strict=True)]
    return stack.sum(axis=0) if all(map(is_, shown, passed)) else reduce(add, passed)


def _as_recorded(node: Tensor) -> tuple[Any, ...]:
    """The operands as Tensors, for a rule that must itself be differentiable."""
    # Only a leaf can be rebound. What was computed may have been moved since, by `unroll`: the numbers are the same.
    for operand, array in zip(node._operands, node._arrays, strict=True):
        if operand is not None and operand._op is None and operand._data is not array:
            remedy = "a second derivative would mix old and new values: run the forward pass again"
            raise GradientError(f"operand {operand.name or ''} was rebound after the forward pass, so {remedy}")
    return tuple([a if x is None else x for x, a in zip(node._operands, node._arrays, strict=True)])


def _seed(output: Tensor, gradient: Any, create_graph: bool) -> Any:
    """Check the cotangent of an output; one for a scalar by default."""
    if not isinstance(output, Tensor):
        raise TypeError(f"only a Tensor can be differentiated, not {type(output).__name__}")
    if not output._requires_grad:
        raise GradientError("the output depends on nothing differentiable: it needs a leaf with requires_grad=True")
    if gradient is None:
        if output.size != 1:
            remedy = "reduce it with sum() or mean(), or give the cotangent as `gradient` (`grad_output` in grad)"
            raise GradientError(f"only a scalar has a gradient of its own, not shape {output.shape}: {remedy}")
        gradient = np.ones(output.shape, output.dtype)
    if isinstance(gradient, Tensor) and create_graph and gradient.shape == output.shape:
        return gradient
    array = as_array(gradient)
    if array.shape != output.shape:
        raise GradientError(f"the cotangent has shape {array.shape}, the output {output.shape}: they must be the same")
    array = array.astype(output.dtype, copy=False)
    return constant(array) if create_graph else array


def _owned(g: Any) -> Tensor:
    """A gradient as it leaves the engine: a Tensor with an array of its own."""
    return g if isinstance(g, Tensor) else constant(np.array(g))


def backward(
    output: Tensor, gradient: ArrayLike | Tensor | None = None, *, retain_graph: bool = True, create_graph: bool = False
) -> None:
    """Accumulate d output / d leaf into ``.grad`` of every leaf that requires a gradient.

    Parameters
    ----------
    output : Tensor
    gradient : array_like, optional
        Cotangent of the output, of its shape; needed unless the output is a scalar.
    retain_graph : bool, default True
        Keep the graph, so that it can be drawn or differentiated again. False frees it as the sweep goes.
    create_graph : bool, default False
        Make the gradients differentiable. A leaf's ``.grad`` then refers to the graph, the one reference cycle there
        is.

    Raises
    ------
    GradientError
        If the output is not a scalar and no cotangent is given, if it depends on nothing differentiable, or its graph
        was freed.
    """
    seed = _seed(output, gradient, create_graph)
    found = pullback({output: seed}, create_graph=create_graph, retain_graph=retain_graph or create_graph)
    for leaf, g in found.items():
        if leaf._grad is not None:
            g = leaf._grad + g if create_graph else leaf._grad._data + g
        leaf._grad = _owned(g)


def grad(
    output: Tensor,
    inputs: Tensor | Sequence[Tensor],
    grad_output: ArrayLike | Tensor | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> Any:
    """d output / d inputs, for leaves and for tensors in the middle of the graph; ``.grad`` stays as it is.

    Parameters
    ----------
    output : Tensor
    inputs : Tensor or sequence of Tensor
    grad_output : array_like, optional
        Cotangent of the output, of its shape; needed unless the output is a scalar.
    create_graph : bool
        Make the gradients differentiable.
    allow_unused : bool
        Zeros for an input that the output does not depend on, instead of an error.

    Returns
    -------
    Tensor or tuple of Tensor
        One for a Tensor, a tuple for a sequence.

    Raises
    ------
    GradientError
        As `backward`, and for an unused input.
    """
    tensors: tuple[Tensor, ...] = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    for i, x in enumerate(tensors):
        if not isinstance(x, Tensor):
            raise TypeError(f"input {i} is not a Tensor but {type(x).__name__}")
    found = pullback({output: _seed(output, grad_output, create_graph)}, tensors, create_graph=create_graph)
    for i, x in enumerate(tensors):
        if x not in found and not allow_unused:
            raise GradientError(f"the output does not depend on input {i} {x.name or x.shape}: pass allow_unused=True")
    result = tuple([_owned(found[x] if x in found else np.zeros(x.shape, x.dtype)) for x in tensors])
    return result[0] if isinstance(inputs, Tensor) else result


def _fresh(primals: Sequence[Any]) -> tuple[tuple[Tensor, ...], bool]:
    """New tensors to differentiate with respect to, and whether somebody outside differentiates through them.

    Two primals may be the same tensor, and a function may use one from outside: an alias keeps them apart.
    """
    needs = [isinstance(x, Tensor) and x._requires_grad for x in primals]
    outer = CONTEXT.get()[1] and any(needs)
    pairs = zip(primals, needs, strict=True)
    fresh = [ops.cast(x, dtype=x.dtype) if outer and need else Tensor(x, requires_grad=True) for x, need in pairs]
    return tuple(fresh), outer


@recorded()
def _call(f: Function, primals: tuple[Tensor, ...]) -> Tensor:
    y = f(*primals)
    if not isinstance(y, Tensor):
        raise TypeError(f"the function must return a Tensor, not {type(y).__name__}: build it of functions of Tensors")
    return y


@recorded()
def _pull(y: Tensor, g: Any, xs: tuple[Tensor, ...], create_graph: bool) -> tuple[Tensor, ...]:
    """Gradients at xs for one cotangent; zeros where y does not depend on them."""
    if not y._requires_grad:
        return tuple([constant(np.zeros(x.shape, x.dtype)) for x in xs])
    return cast(tuple[Tensor, ...], grad(y, xs, g, create_graph, allow_unused=True))


def vjp(f: Function, *primals: Any) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """Value of f and its pullback: cotangent of the result -> cotangents of the primals.

    Parameters
    ----------
    f : callable
        From Tensors to one Tensor.
    *primals : array_like or Tensor

    Returns
    -------
    y : Tensor
    pullback : callable
        Takes an array of y's shape; gives a tuple with one Tensor per primal.
    """
    xs, outer = _fresh(primals)
    y = _call(f, xs)

    def pull(cotangent: Any) -> tuple[Tensor, ...]:
        return _pull(y, cotangent, xs, outer or (isinstance(cotangent, Tensor) and cotangent._requires_grad))

    return (y if outer else y.detach()), pull


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Value of f and its directional derivative J · tangents, by differentiating the pullback, which is linear.

    Parameters
    ----------
    f : callable
        From Tensors to one Tensor.
    primals, tangents : sequences of array_like, of the same shapes

    Returns
    -------
    y, dy : Tensor
        Of the same shape.
    """
    xs, outer = _fresh(primals)
    y = _call(f, xs)
    directions = _tangents(xs, tangents)
    cotangent = Tensor(np.zeros(y.shape, y.dtype), requires_grad=True)
    terms = _inner(_pull(y, cotangent, xs, True), directions)
    dy = _pull(terms, None, (cotangent,), outer)[0]
    return (y if outer else y.detach()), dy


def _tangents(xs: tuple[Tensor, ...], tangents: Sequence[Any]) -> list[Any]:
    shapes, needed = [np.shape(v) for v in tangents], [x.shape for x in xs]
    if shapes != needed:
        raise ValueError(f"give one tangent for each primal, of its shape: of shapes {needed}, not {shapes}")
    return [v if isinstance(v, Tensor) else as_array(v).astype(x.dtype) for x, v in zip(xs, tangents, strict=True)]


@recorded()
def _inner(gradients: Sequence[Tensor], directions: Sequence[Any]) -> Tensor:
    return cast(Tensor, sum([np.sum(g * v) for g, v in zip(gradients, directions, strict=True)], 0.0))


def jacobian(f: Function, x: Any) -> Tensor:
    """All partial derivatives of f at x, of shape ``y.shape + x.shape``, by one pullback per element of y.

    Parameters
    ----------
    f : callable
        From one Tensor to one Tensor y.
    x : array_like or Tensor

    Returns
    -------
    Tensor, shape ``y.shape + x.shape``
    """
    (x,), outer = _fresh((x,))
    y = _call(f, (x,))
    units = np.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
    rows = [_pull(y, unit, (x,), outer)[0] for unit in units]
    if not rows:
        return constant(np.zeros(y.shape + x.shape, x.dtype))
    return cast(Tensor, ops.reshape(ops.stack(*rows, axis=0), shape=y.shape + x.shape))


def hessian(f: Function, x: Any) -> Tensor:
    """Second derivatives of a scalar function at x, of shape ``x.shape + x.shape``: the Jacobian of the gradient.

    Parameters
    ----------
    f : callable
        From one Tensor to a scalar Tensor.
    x : array_like or Tensor

    Returns
    -------
    Tensor, shape ``x.shape + x.shape``
    """
    return jacobian(lambda z: _pull(_call(f, (z,)), None, (z,), True)[0], x)


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, ...]:
    """Hessian of a scalar function times a direction, one Tensor per primal, without forming the Hessian.

    Parameters
    ----------
    f : callable
        From Tensors to one scalar Tensor.
    primals, tangents : sequences of array_like, of the same shapes

    Returns
    -------
    tuple of Tensor
        Of the shapes of the primals.
    """
    xs, outer = _fresh(primals)
    gradients = _pull(_call(f, xs), None, xs, True)
    return _pull(_inner(gradients, _tangents(xs, tangents)), None, xs, outer)


FUNCTIONS["backward"] = backward
