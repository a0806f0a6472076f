"""On what an operation is checked: operands that are given, or constructed, or found by trying.

After this file the reader knows how arity, shapes and domain of an operation are found (its forward function says what
it accepts, and why not), and how an operand can be kept on a set on which its elements are not free: a symmetric matrix
is moved symmetrically, probabilities so that they still sum to one.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations, product
from typing import Any

import numpy as np

from ..functions import mean
from ..primitive import Primitive
from .again import name_of
from .battery import ROUNDING, require_close
from .oracles import Array

Shape = tuple[int, ...]
Domain = tuple[float, float]

# Small to large, so that the first that fails is the simplest. Square ones are where a transposed gradient still fits,
# stretched ones where a sum over one axis, two axes or new axes may be forgotten.
ONE: list[Shape] = [(3,), (2, 3), (3, 3), (1, 3), (2, 2, 2), (2, 3, 1), (1, 2, 1, 2), (), (0,), (2, 0)]
SCALAR_TO_CUBE: list[Shape] = [(), (1,), (3,), (2, 1), (2, 3), (2, 1, 3)]
STRETCHED: list[tuple[Shape, ...]] = [
    *permutations(SCALAR_TO_CUBE, 2), *permutations([(3, 3), (3,)]), *permutations([(0, 3), (3,)])
]  # fmt: skip
MATRICES: list[tuple[Shape, Shape]] = [((2, 3), (3, 4)), ((2, 3), (4, 3)), ((2, 2), (2, 2)), ((3, 3), (3, 3))]
STACKS: list[tuple[Shape, ...]] = [
    (i + a, j + b) for i, j in [((2,), (2,)), ((2,), ()), ((), (2,)), ((1, 2), (2, 1))] for a, b in MATRICES[:3]
]
LAYERS: list[tuple[Shape, ...]] = [((2, 3), (2, 3), (2,)), ((3, 3), (3, 3), (3,)), ((2, 3), (4, 3), (4,))]
DOMAINS: list[Domain] = [(-2.0, 2.0), (0.25, 2.0), (-0.75, 0.75), (1.25, 3.0), (0.125, 0.875)]
DRAWN = 3
"""How many examples are drawn of constructors and strategies."""


# --- operands that are constructed ---


@dataclass(frozen=True)
class Operand:
    """An operand that is drawn anew for each example.

    Attributes
    ----------
    name : str
        As it was asked for: ``spd(3)``.
    draw : callable
        From a random generator to an array.
    keep : callable or None
        From a Tensor of free elements to one on the set; the identity on the set itself.
    """

    name: str
    draw: Callable[[np.random.Generator], Array]
    keep: Callable[[Any], Any] | None = None

    def __repr__(self) -> str:
        return self.name


def symmetric(n: int) -> Operand:
    """A symmetric matrix of shape (n, n), which is moved symmetrically."""
    return Operand(f"symmetric({n})", lambda rng: _halved(rng.normal(size=(n, n))), _halved)


def spd(n: int) -> Operand:
    """A symmetric positive definite matrix of shape (n, n), with eigenvalues from 1 up; it is moved symmetrically."""

    def draw(rng: np.random.Generator) -> Array:
        root = rng.normal(size=(n, n))
        return np.asarray(root @ root.T + np.eye(n))

    return Operand(f"spd({n})", draw, _halved)


def triangular(n: int, lower: bool = True) -> Operand:
    """A triangular matrix of shape (n, n), with a diagonal from 1 to 2; only the triangle is moved."""
    mask = np.tril(np.ones((n, n))) if lower else np.triu(np.ones((n, n)))

    def draw(rng: np.random.Generator) -> Array:
        return np.asarray(np.where(np.eye(n) > 0, rng.uniform(1, 2, n), rng.normal(size=(n, n)) / 2) * mask)

    return Operand(f"triangular({n}, {lower})", draw, lambda x: x * mask.astype(x.dtype))


def simplex(*shape: int) -> Operand:
    """Probabilities that sum to 1 along the last axis, none near 0; they are moved so that they still do."""

    def draw(rng: np.random.Generator) -> Array:
        x = rng.uniform(0.5, 1.5, shape)
        return np.asarray(x / x.sum(-1, keepdims=True))

    return Operand(f"simplex{shape}", draw, lambda x: x - mean(x, axis=-1, keepdims=True) + 1 / shape[-1])


def probability(*shape: int) -> Operand:
    """Numbers between 0.1 and 0.9, each for itself."""
    return Operand(f"probability{shape}", lambda rng: rng.uniform(0.1, 0.9, shape))


def ordered(*shape: int) -> Operand:
    """Numbers that rise along the last axis, a quarter apart at least."""
    return Operand(f"ordered{shape}", lambda rng: np.cumsum(rng.uniform(0.25, 1.0, shape), axis=-1) - 1.0)


def integers(*shape: int, low: int = 0, high: int = 3) -> Operand:
    """Whole numbers from low to below high, as indices and labels are: they are held constant."""
    return Operand(f"integers{shape}", lambda rng: rng.integers(low, high, shape))


def _halved(x: Any) -> Any:
    return (x + x.T) / 2


# --- one example ---


@dataclass(frozen=True, eq=False)
class Example:
    """One call of a primitive: operands, static parameters, how exact it is, where it is meant, and what is noted."""

    op: Primitive
    arrays: tuple[Array, ...]
    static: Mapping[str, Any]
    keeps: tuple[Callable[[Any], Any] | None, ...] = ()
    rtol: float | None = None
    noise: float | None = None
    given: bool = False
    domain: Any = None
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shapes = ", ".join(str(a.shape) for a in self.arrays)
        return f"shapes {shapes}" + "".join(f", {key}={value!r}" for key, value in self.static.items())

    @property
    def line(self) -> str:
        """How a line that can be pasted names it; one on constrained operands has no such name."""
        return "" if any(self.keeps) else name_of(self.op, self.static)

    def __call__(self, *points: Any) -> Any:
        """The primitive of these operands, which are differentiated, each kept on its set, and of the constant ones."""
        if len(points) < len(self.arrays) or self.keeps:
            keeps = self.keeps or (None,) * len(self.arrays)
            points = tuple(x if k is None else k(x) for x, k in zip(self.with_points(points), keeps, strict=True))
        return self.op(*points, **self.static)

    @cached_property
    def floats(self) -> list[int]:
        """Which operands are differentiated."""
        return [i for i, a in enumerate(self.arrays) if a.dtype.kind == "f"]

    @property
    def points(self) -> list[Array]:
        """The operands that are differentiated."""
        return [self.arrays[i] for i in self.floats]

    def with_points(self, points: Sequence[Any]) -> list[Any]:
        """All operands: these, and those that are held constant."""
        found = dict(zip(self.floats, points, strict=True))
        return [found.get(i, a) for i, a in enumerate(self.arrays)]

    def at(self, arrays: Sequence[Array]) -> Example:
        """The same with other operands."""
        return replace(self, arrays=tuple(arrays))

    def forward(self, arrays: Sequence[Array]) -> Array:
        """Its value on copies of these arrays."""
        return np.asarray(self.op.forward(*(a.copy() for a in arrays), **self.static))

    def rule(self, i: int, g: Array, y: Array, arrays: Sequence[Array]) -> Any:
        """What the rule of one operand gives on arrays."""
        return self.op.rules[i](g, y, *arrays, **self.static)

    @cached_property
    def value(self) -> Any:
        """Its value, or why there is none."""
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                y = self.forward(self.arrays)
        except Exception as error:
            return error
        if y.dtype.kind not in "fbiu":
            return TypeError(f"a result of {y.dtype}")
        # The mean of nothing is NaN, which tells of no domain.
        return y if not self.empty or np.isfinite(y).all() else ValueError("the result of nothing is not finite")

    @property
    def accepted(self) -> bool:
        """Whether the forward function takes these operands."""
        return isinstance(self.value, np.ndarray)

    @property
    def refused(self) -> bool:
        """Whether a rule does not take them."""
        try:
            for i in self.floats:
                self.rule(i, np.ones(np.shape(self.value)), self.value, self.arrays)
        except ValueError:
            return True
        return False

    @property
    def empty(self) -> bool:
        """Whether there is nothing in some operand."""
        return any(a.size == 0 for a in self.arrays)

    @cached_property
    def local(self) -> bool:
        """Whether each element of the result depends on one element of each operand only, in the same place."""
        shape, y = self.arrays[0].shape, self.value
        if not shape or self.empty or {a.shape for a in self.arrays} != {shape} or np.shape(y) != shape:
            return False
        for i in self.floats:
            moved = [a.copy() for a in self.arrays]
            moved[i].flat[0] += 1e-3
            z = self.at(moved).value
            if np.shape(z) != shape or np.delete(np.ravel(z != y), 0).any():
                return False
        return True

    @property
    def slack(self) -> float:
        """By how much two results may differ that ought to be equal, where it is more than rounding."""
        short = 1e-4 if isinstance(self.value, np.ndarray) and self.value.dtype == np.float32 else 0.0
        return max(short, self.rtol or 0.0, 10 * (self.noise or 0.0))

    def close(self, actual: Array, expected: Array, what: str, tolerance: float = ROUNDING) -> None:
        """Equal up to the tolerance, or what the operation is known to be off by."""
        require_close(actual, expected, max(tolerance, self.slack if tolerance else 0.0), what)


# --- examples ---


def examples_of(
    op: Primitive, operands: Any, shapes: Sequence[Any] | None, statics: list[Mapping[str, Any]], domain: Any, rng: int
) -> list[Example]:
    """Given operands, or some for each combination of shapes and static parameters that the forward function accepts.

    Raises
    ------
    ValueError
        If it accepts none of them, with what it raised; or some of those that were asked for.
    """
    _require_static(op, statics)
    if operands is not None:
        if shapes is not None or domain is not None:
            raise ValueError("operands= are given: shapes= and domain= say how to draw others")
        given = [_drawn(op, one, rng + n) for n, one in enumerate(_given(op, operands))]
        examples = [Example(op, arrays, k, keeps, given=True) for arrays, keeps in given for k in statics]
        return _accepted(op, examples, "operands")
    candidates = _usual_shapes(op, statics) if shapes is None else [_operand_shapes(s) for s in shapes]
    combinations = [(s, k) for s in candidates for k in statics]
    best: list[Example] = []
    for domains in _domains(domain, max(len(s) for s in candidates)):
        tried = [Example(op, _draw(s, domains, rng + n), k) for n, (s, k) in enumerate(combinations)]
        accepted = [e for e in tried if e.accepted]
        finite = all(np.isfinite(e.value).all() for e in accepted)
        if finite and sum(not e.empty for e in accepted) > sum(not e.empty for e in best):
            best = accepted
        if 2 * sum(not e.empty for e in best) > sum(not e.empty for e in tried):
            break
    if best and (shapes is None or len(best) == len(combinations)):
        # Stacks of matrices are tried unasked; a rule that refuses them, with an error, is meant for matrices only.
        stacks = [e for e in best if shapes is None and tuple(a.shape for a in e.arrays) in STACKS]
        return [e for e in best if e not in stacks] if any(e.refused for e in stacks) else best
    if shapes is not None or not any(e.accepted and not e.empty for e in tried):
        return _accepted(op, tried, "shapes")
    where = "in its domain" if domain is not None else "anywhere that was tried: pass domain=(lowest, highest)"
    raise ValueError(f"{op.name}: the results are not finite {where}")


def statics_of(static: Any) -> list[Mapping[str, Any]]:
    """Static parameters, once or several times."""
    return [static or {}] if static is None or isinstance(static, Mapping) else list(static)


def _accepted(op: Primitive, examples: list[Example], what: str) -> list[Example]:
    """All of them, or an error that says why not."""
    for e in examples:
        if isinstance(e.value, Exception):
            some = any(other.accepted for other in examples) or what == "operands"
            how = "does not accept" if some else "accepts none of the shapes that were tried, such as"
            said = f"{op.name}: the forward function {how} {e}: {type(e.value).__name__}: {e.value}"
            raise ValueError(said if some else f"{said}; pass shapes= or operands=") from e.value
        if not np.isfinite(e.value).all():
            remedy = "" if what == "operands" else ": pass domain=(lowest, highest) or operands="
            raise ValueError(f"{op.name}: the results are not finite for {e}{remedy}")
    return examples


def _given(op: Primitive, operands: Any) -> list[tuple[Any, ...]]:
    """One tuple of operands an example: of a tuple or dict (one example), a list (of examples), or a strategy."""
    if hasattr(operands, "example"):  # a Hypothesis strategy
        return [one if isinstance(one, tuple) else (one,) for one in _examples_of_strategy(operands)]
    if isinstance(operands, Mapping):
        missing = [name for name in op.operand_names if name not in operands]
        if missing or len(operands) != len(op.operand_names):
            raise ValueError(f"{op.name} has operands {', '.join(op.operand_names)}, not {', '.join(operands)}")
        return _given(op, tuple(operands[name] for name in op.operand_names))
    if isinstance(operands, list):
        return [one for given in operands for one in _given(op, given)]
    one = operands if isinstance(operands, tuple) else (operands,)
    if not op.nary and len(one) != len(op.rules):
        raise ValueError(f"{op.name} takes {len(op.rules)} operands: an example is a tuple of so many, not {len(one)}")
    return [one] * (DRAWN if any(isinstance(x, Operand) for x in one) else 1)


def _drawn(op: Primitive, one: tuple[Any, ...], seed: int) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    """The operands of one example, and how each is kept on its set."""
    rng = np.random.default_rng(seed)
    arrays = []
    for x in one:
        drawn = x.draw(rng) if isinstance(x, Operand) else x
        array = np.asarray(drawn)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{op.name}: an operand is an array of numbers, not {type(drawn).__name__}")
        arrays.append(array.astype(float) if array.dtype.kind == "f" else array)
    return tuple(arrays), tuple(x.keep if isinstance(x, Operand) else None for x in one)


def _examples_of_strategy(strategy: Any) -> list[Any]:
    """The same few every time."""
    from hypothesis import HealthCheck, Phase, given, settings

    found: list[Any] = []

    @settings(
        max_examples=DRAWN + 2, database=None, derandomize=True, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def keep(value: Any) -> None:
        found.append(value)

    keep()
    return found


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
        found = [Example(op, ones, k).value for k in statics]
        return [y.shape for y in found if isinstance(y, np.ndarray)]

    if op.nary:
        return [(s,) * count for count in (1, 2, 3) for s in ONE if s]
    arity = len(op.rules)
    equal: list[tuple[Shape, ...]] = [(s,) * arity for s in ONE]
    if arity == 1:  # a sum or a norm over an axis is hardly meant for scalars, or for nothing
        if any(Example(op, (np.linspace(0.5, 1.0, 6).reshape(2, 3),), k).local for k in statics):
            return equal
        wide: list[tuple[Shape, ...]] = [(s,) for s in ONE if 0 not in (len(s), *s)]
        return wide if result(((2, 3),)) else [*wide, ((2, 2),), ((2, 3, 3),)]
    # Each operand stretched once, against all the others; of two operands that is every pair.
    stretched = [tuple(a if i == k else b for i in range(arity)) for k in range(arity - 1) for a, b in STRETCHED]
    typical = [((3,),) * arity, ((2, 3),) * arity, ((2, 3), *((3,),) * (arity - 1))]
    if all(np.broadcast_shapes(*shapes) in result(shapes) for shapes in typical):  # element by element
        return [*equal, *stretched]
    products = [*MATRICES, *STACKS] if arity == 2 else LAYERS if arity == 3 else []
    return [shapes for shapes in products if result(shapes)] or equal


def _operand_shapes(shapes: Any) -> tuple[Shape, ...]:
    """One shape per operand; a plain shape is that of a single operand."""
    shapes = tuple(shapes)
    return tuple(tuple(s) for s in shapes) if shapes and not isinstance(shapes[0], int) else (shapes,)


def _domains(domain: Any, arity: int) -> Iterator[tuple[Domain, ...]]:
    if domain is None:
        yield from ((d,) * arity for d in DOMAINS)
        if arity < 4:
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
