"""Rules of other libraries as primitives: torch.autograd.Function, jax.custom_vjp, primitives of autograd.

After this file the reader knows why one battery can check them all: a rule pulls a cotangent back, and each library has
a function for that. None is imported unless the given object is its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from ..primitive import Primitive, primitive
from ..tensor import OPS
from .oracles import Array

Pulled = tuple[Any, list[Array]]
"""A value, and the gradients for a cotangent, of which there are none without one."""


def library_of(f: Any) -> str:
    """Whose rule of a derivative an object is: "torch", "jax" or "autograd"; "" if it is none."""
    if isinstance(f, type):
        return "torch" if any(base.__module__ == "torch.autograd.function" for base in f.__mro__[1:]) else ""
    if hasattr(f, "defvjp") and type(f).__module__.partition(".")[0] == "jax":
        return "jax"
    return "autograd" if getattr(f, "_is_autograd_primitive", False) else ""


def as_primitive(f: Any, static: Collection[str] = ()) -> Primitive:
    """A rule of another library as a primitive, which stands in nobody's table.

    `check_primitive` makes one by itself; for `gradcheck` it is made by hand.

    Parameters
    ----------
    f : subclass of torch.autograd.Function, jax.custom_vjp, or primitive of autograd
    static : collection of str
        Which parameters of its forward function are no operands. Those with a default are none either.

    Returns
    -------
    Primitive
        Its rules compute with arrays, so that they can be checked to first order only.

    Raises
    ------
    TypeError
        If it is nothing of the kind, or its operands have no names.
    """
    library = library_of(f)
    if not library:
        kinds = "a primitive, its name, a torch.autograd.Function, a jax.custom_vjp or a primitive of autograd"
        raise TypeError(f"to check: {kinds}, not {getattr(f, '__name__', f)!r}")
    parameters = _parameters(f, library)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise TypeError(f"{f.__name__} takes any number of operands: check a function of so many, each with a name")
    operands = [p for p in parameters if p.default is p.empty and p.name not in static]

    def pulled(xs: Sequence[Any], given: dict[str, Any], g: Any = None) -> tuple[Any, dict[int, Array]]:
        named = given | {p.name: x for p, x in zip(operands, xs, strict=True)}
        floats = [i for i, x in enumerate(xs) if np.asarray(x).dtype.kind == "f"]
        last = max(k for k, p in enumerate(parameters) if p.name in named)

        def function(*values: Any) -> Any:
            moved = named | {operands[i].name: x for i, x in zip(floats, values, strict=True)}
            arguments = [moved.get(p.name, p.default) for p in parameters[: last + 1]]
            return _applied(f, arguments) if library == "torch" else f(*arguments)

        y, found = VJPS[library](function, [np.asarray(xs[i]) for i in floats], g)
        return y, dict(zip(floats, found, strict=False))

    def rule(i: int) -> Callable[..., Any]:
        def of_operand(g: Array, y: Array, *xs: Any, **given: Any) -> Any:
            cotangent = np.array(g)
            found = pulled(xs, given, cotangent)[1][i]
            if not np.array_equal(cotangent, g, equal_nan=True):
                raise ValueError("the cotangent is read-only")
            return found

        names = ["g", "y", *(p.name for p in operands)]
        taken = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
        given = inspect.Parameter("static", inspect.Parameter.VAR_KEYWORD)
        of_operand.__signature__ = inspect.Signature([*taken, given])  # type: ignore[attr-defined]
        return of_operand

    name = f"{library}: {f.__name__}"
    rules = [rule(i) for i in range(len(operands))]
    op = primitive(name, lambda *xs, **given: pulled(xs, given)[0], *rules, replace=True)
    del OPS[name]
    op.line = f"as_primitive({f.__name__}{f', {sorted(static)}' if static else ''})"  # type: ignore[attr-defined]
    return op


def _parameters(f: Any, library: str) -> list[inspect.Parameter]:
    """Those of the forward function; of torch's without the context, unless that is set up elsewhere."""
    forward = f.forward if library == "torch" else getattr(f, "fun", f)
    found = list(inspect.signature(forward).parameters.values())
    own = [vars(base) for base in getattr(f, "__mro__", ()) if not base.__module__.startswith("torch.")]
    return found[library == "torch" and not any("setup_context" in names for names in own) :]


def _applied(function: Any, arguments: Sequence[Any]) -> Any:
    """The result of a torch.autograd.Function, which wants tensors for arrays."""
    torch: Any = import_module("torch")
    return function.apply(*(torch.tensor(a.copy()) if isinstance(a, np.ndarray) else a for a in arguments))


def torch_vjp(f: Callable[..., Any], arrays: Sequence[Array], cotangent: Any = None) -> Pulled:
    """The value of a function of torch's tensors and its gradients, as arrays."""
    torch: Any = import_module("torch")
    xs = [torch.tensor(np.array(a), requires_grad=True) for a in arrays]
    y = f(*xs)
    if cotangent is None or not y.requires_grad:
        return y.detach().numpy(), [np.zeros_like(a) for a in arrays]
    found = torch.autograd.grad(y, xs, torch.from_numpy(cotangent), allow_unused=True)
    return y.detach().numpy(), [
        np.zeros_like(a) if g is None else g.numpy() for g, a in zip(found, arrays, strict=True)
    ]


def jax_vjp(f: Callable[..., Any], arrays: Sequence[Array], cotangent: Any = None) -> Pulled:
    """The value of a function of JAX's arrays and its gradients, in the precision of the arrays."""
    jax: Any = import_module("jax")
    switch = jax if hasattr(jax, "enable_x64") else import_module("jax.experimental")  # where older ones have it
    with switch.enable_x64(True):
        y, pull = jax.vjp(f, *map(jax.numpy.asarray, arrays))
        return np.asarray(y), [] if cotangent is None else [np.asarray(g) for g in pull(jax.numpy.asarray(cotangent))]


def autograd_vjp(f: Callable[..., Any], arrays: Sequence[Array], cotangent: Any = None) -> Pulled:
    """The value of a function of autograd's boxes and its gradients, as arrays."""
    pull, y = import_module("autograd").make_vjp(lambda xs: f(*xs))(tuple(map(np.asarray, arrays)))
    return np.asarray(y), [] if cotangent is None else [np.asarray(g) for g in pull(cotangent)]


VJPS: dict[str, Callable[..., Pulled]] = {"torch": torch_vjp, "jax": jax_vjp, "autograd": autograd_vjp}
