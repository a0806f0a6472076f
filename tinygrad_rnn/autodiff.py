"""The one backward sweep, and everything that asks it for gradients.

After this file the reader knows reverse-mode differentiation: walk the history newest first, hand each tensor's
cotangent to the rules of the primitive that made it, and add up what arrives at each operand. `backward`, `grad`,
`vjp`, `jvp`, `jacobian`, `hessian`, `hvp` and the gradient graph are all consumers of that one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from . import ops
from .gathering import Gathering, contribute
from .scope import CONTEXT, recorded
from .tensor import SWEPT, GradientError, Tensor, as_array, constant

Through = Callable[[Tensor, int, Any], Any]
Function = Callable[..., Any]
BLOCK = 4096  # how much older than the newest that is left a tensor may be to be listed with it


class _Freed:
    """Takes the place of the operands of a tensor whose history was given up: whoever walks there is told so."""

    def __iter__(self) -> Any:
        remedy = "run the forward pass again, retain it, or detach the state that is carried on from it"
        raise GradientError(f"this graph was freed by backward(retain_graph=False): {remedy}")


FREED: Any = _Freed()


def history(outputs: Iterable[Tensor], oldest: int = 0) -> list[Tensor]:
    """The outputs, and every tensor with a gradient that they come from, down to a serial number; oldest first."""
    found: list[Any] = list(outputs)
    seen = {None, *found}
    for node in found:  # which grows while it is walked
        for operand in node._operands:
            if operand not in seen and operand._requires_grad and operand._serial >= oldest:
                seen.add(operand)
                found.append(operand)
    found.sort(key=attrgetter("_serial"))
    return found


def _newest_first(on_path: set[Any]) -> Iterator[Tensor]:
    """The tensors on a path and what they come from, found block by block: a list of all would keep what is freed."""
    while on_path:
        oldest = max([tensor._serial for tensor in on_path]) - BLOCK
        block = history([tensor for tensor in on_path if tensor._serial >= oldest], oldest)
        operands = (operand for node in block for operand in node._operands if operand is not None)
        on_path.update(block, [operand for operand in operands if operand._requires_grad])
        while block:
            yield (node := block.pop())
            on_path.discard(node)


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
        the cast have been undone. It watches an edge (returns the argument), or cuts it (returns zeros), and must not
        write to the argument, which other edges may share. While the graph is retained, the edges of the weights of
        `linear` and `affine` come in blocks, later than the other edges of the same nodes.
    create_graph : bool
        Compute with Tensors, so that the results can be differentiated again.
    retain_graph : bool
        If false, take the graph apart while it is used, so that its memory is free by the end.

    Returns
    -------
    dict of Tensor to cotangent
        An entry for each wanted tensor that the seeds depend on.
    """
    order, on_path, keep = _path(seeds, wanted, retain_graph)
    cotangents: dict[Any, Any] = {output: g for output, g in seeds.items() if output in on_path}
    gathering = Gathering(on_path, cotangents, through, create_graph, retain_graph)
    for node in order:
        if node in gathering.awaited:
            gathering.settle(node)
        if (op := node._op) is None:
            continue
        g = cotangents[node] if node in keep else cotangents.pop(node)
        inputs = (g, node, *_as_recorded(node)) if create_graph else (g, node._value) + node._arrays  # noqa: RUF005, faster
        rules, now = op.rules, op.at_once
        if now is None:
            rules, inputs, now = gathering.plan(node, inputs)
        for i in now:
            if (operand := node._operands[i]) in on_path:
                contribution = contribute(rules[i], inputs, node, i, through)
                cotangents[operand] = cotangents[operand] + contribution if operand in cotangents else contribution
        if not retain_graph:
            node._operands, node._arrays, node._static = FREED, (), {}
        elif wanted is None and through is None:  # as `backward` asks for it
            node._grad = SWEPT
    return cotangents


def _path(seeds: Iterable[Tensor], wanted: Any, retain_graph: bool) -> tuple[Iterator[Tensor], set[Any], Any]:
    """What lies between the outputs and what is wanted, newest first and as a set, and whose cotangents are kept."""
    if wanted is None and not retain_graph:
        on_path: set[Any] = set(seeds)
        return _newest_first(on_path), on_path, ()
    if wanted is None:
        order = history(seeds)
        return reversed(order), set(order), ()
    keep = set(wanted)
    order = history(seeds, min([tensor._serial for tensor in keep], default=0))  # an older one leads to none of them
    on_path = set(keep)
    for node in order:
        if not on_path.isdisjoint(node._operands):
            on_path.add(node)
    return reversed([node for node in order if node in on_path]), on_path, keep


def _as_recorded(node: Tensor) -> tuple[Any, ...]:
    """The operands as Tensors, for a rule that must itself be differentiable."""
    # Only a leaf can be rebound. What was computed may have been moved since, by `unroll`: the numbers are the same.
    for operand, array in zip(node._operands, node._arrays, strict=True):
        if operand is not None and operand._op is None and operand._value is not array:
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
    return array.astype(output.dtype, copy=False)


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
            g = leaf._grad + g if create_graph else leaf._grad._value + g
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


def _fresh(primals: Sequence[Any]) -> tuple[Tensor, ...]:
    """New tensors to differentiate with respect to.

    Two primals may be the same tensor, and a function may use one from outside: an alias keeps them apart.
    """
    recording = CONTEXT.get()[1]
    needs = [recording and isinstance(x, Tensor) and x._requires_grad for x in primals]
    pairs = zip(primals, needs, strict=True)
    return tuple([ops.cast(x, dtype=x.dtype) if need else Tensor(x, requires_grad=True) for x, need in pairs])


def _reaches_out(y: Tensor, xs: Sequence[Tensor]) -> bool:
    """Whether somebody outside can differentiate y: it depends on more than `xs`, which are fresh.

    On what a primal is an alias of, or on what the function takes from outside. Nobody can under `no_grad`.
    """
    if not (CONTEXT.get()[1] and y._requires_grad):
        return False
    fresh, oldest = set(xs), min([x._serial for x in xs], default=y._serial + 1)
    found: list[Any] = [y]
    seen = {None, y}
    for node in found:  # which grows while it is walked, and no further than the first that is from outside
        if node._serial < oldest or (node._op is None and node not in fresh):
            return True
        for operand in node._operands:
            if operand not in seen and operand._requires_grad:
                seen.add(operand)
                found.append(operand)
    return False


def _outward(y: Tensor, xs: Sequence[Tensor]) -> Tensor:
    """A result as it leaves a transform: a constant, unless somebody outside can differentiate it."""
    return y if _reaches_out(y, xs) else y.detach()


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
    xs = _fresh(primals)
    y = _call(f, xs)
    outer = _reaches_out(y, xs)

    def pull(cotangent: Any) -> tuple[Tensor, ...]:
        differentiable = (outer and CONTEXT.get()[1]) or _needs(cotangent)
        return tuple([_outward(g, xs) for g in _pull(y, cotangent, xs, differentiable)])

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
    xs = _fresh(primals)
    y = _call(f, xs)
    outer, directions = _reaches_out(y, xs), _tangents(xs, tangents)
    cotangent = Tensor(np.zeros(y.shape, y.dtype), requires_grad=True)
    terms = _inner(_pull(y, cotangent, xs, True), directions)
    (dy,) = _pull(terms, None, (cotangent,), outer or _needs(*directions))
    return (y if outer else y.detach()), _outward(dy, (*xs, cotangent))


def _needs(*given: Any) -> bool:
    """Whether a tangent or a cotangent is to be differentiated through."""
    return CONTEXT.get()[1] and any([isinstance(v, Tensor) and v._requires_grad for v in given])


def _tangents(xs: tuple[Tensor, ...], tangents: Sequence[Any]) -> list[Any]:
    shapes, needed = [np.shape(v) for v in tangents], [x.shape for x in xs]
    if shapes != needed or not needed:
        told = f"of shapes {needed}, not {shapes}" if needed else "there is no primal"
        raise ValueError(f"give one tangent for each primal, of its shape: {told}")
    return [v if isinstance(v, Tensor) else as_array(v).astype(x.dtype) for x, v in zip(xs, tangents, strict=True)]


@recorded()
def _inner(gradients: Sequence[Tensor], directions: Sequence[Any]) -> Tensor:
    return cast(Tensor, sum([np.sum(g * v) for g, v in zip(gradients, directions, strict=True)], 0.0))


def jacobian(f: Function, x: Any) -> Tensor:
    """All partial derivatives of f at x, of shape ``y.shape + x.shape``, by one pullback per element of y.

    As from every transform, the result can be differentiated again, with respect to x and to what f takes from outside
    (the weights of a cell, say), if these need a gradient. Under `no_grad` it is a constant, in half the time.

    Parameters
    ----------
    f : callable
        From one Tensor to one Tensor y.
    x : array_like or Tensor

    Returns
    -------
    Tensor, shape ``y.shape + x.shape``
    """
    (x,) = _fresh((x,))
    y = _call(f, (x,))
    outer = _reaches_out(y, (x,))
    units = np.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
    rows = [_pull(y, unit, (x,), outer)[0] for unit in units]
    if not rows:
        return constant(np.zeros(y.shape + x.shape, x.dtype))
    return _outward(ops.reshape(ops.stack(*rows, axis=0), shape=y.shape + x.shape), (x,))


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
    xs = _fresh(primals)
    y, directions = _call(f, xs), _tangents(xs, tangents)
    slope = _inner(_pull(y, None, xs, True), directions)
    found = _pull(slope, None, xs, _reaches_out(y, xs) or _needs(*directions))
    return tuple([_outward(product, xs) for product in found])
