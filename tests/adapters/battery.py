"""The battery: what a library shares with us, on our cases, under our checker; then points with an edge."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from cases import CASES
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FailedHealthCheck, Unsatisfiable
from strategies import Case

import tinygrad_rnn as tg
from tinygrad_rnn.testing import GradcheckError, gradcheck

from . import Library

NOT_ABOUT_GRADIENTS = (TypeError, ValueError, IndexError, KeyError, NotImplementedError, RuntimeError, AttributeError)
"""Raised where a library takes fewer arguments than NumPy: no finding, since nothing wrong was computed."""


def as_ours(library: Library, name: str, operands: int) -> Any:
    """A library's function as a primitive of ours, with the library's own derivative as its rules."""
    f = library.functions[name]

    def rule(i: int) -> Any:
        return lambda g, y, *xs, **static: library.vjp(lambda *zs: f(*zs, **static), xs, g)[1][i]

    op = tg.primitive(
        f"{library.name}.{name}",
        lambda *xs, **static: library.value(lambda *zs: f(*zs, **static), *xs),
        *map(rule, range(operands)),
    )
    del tg.OPS[op.name]  # it belongs to nobody's table
    return op


def check(library: Library, name: str, case: Case, seed: int) -> None:
    """Raise if the value differs from NumPy's, or a gradient from differences."""
    arrays = [np.asarray(a) for a in case.arrays]
    op = as_ours(library, name, len(arrays))
    expected = CASES[name].reference(*arrays, **case.options)
    try:
        y = library.value(lambda *zs: library.functions[name](*zs, **case.options), *arrays)
    except NOT_ABOUT_GRADIENTS:
        return
    if np.shape(y) == np.shape(expected):
        np.testing.assert_allclose(y, expected, 1e-10, 1e-10)
        gradcheck(lambda *xs: op(*xs, **case.options), *arrays, rng=seed)


def findings(library: Library, name: str, examples: int = 50) -> str | None:
    """What the checker says of one function, on the smallest example it finds, or None."""
    last: list[str] = []

    quiet = {"deadline": None, "database": None, "report_multiple_bugs": False}
    phases, unhealthy = [Phase.generate, Phase.shrink], list(HealthCheck)

    @settings(max_examples=examples, derandomize=True, phases=phases, suppress_health_check=unhealthy, **quiet)
    @given(case=CASES[name].cases, seed=st.just(0))
    def run(case: Case, seed: int) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check(library, name, case, seed)
        except (GradcheckError, AssertionError, *NOT_ABOUT_GRADIENTS) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            shown = ", ".join(f"{a.tolist()!r}" for a in map(np.asarray, case.arrays))
            last[:] = [f"at {shown} {case.options or ''}: {said}"]
            raise

    try:
        run()
    except (FailedHealthCheck, Unsatisfiable):
        return None
    except Exception:
        return last[0] if last else None
    return None


# Points with an edge: each with what is true of any subgradient there, so that a convention of its own is no finding.


def between(low: float, high: float) -> Any:
    return lambda *gs: all(((np.asarray(g) >= low) & (np.asarray(g) <= high)).all() for g in gs)


def shares(total: float) -> Any:
    """Ties may be shared as one likes, but the shares are not negative and make up the whole."""
    return lambda *gs: between(0, total)(*gs) and np.isclose(sum(np.sum(g) for g in gs), total)


def exactly(*expected: Any) -> Any:
    return lambda *gs: all(np.shape(g) == np.shape(e) and np.allclose(g, e) for g, e in zip(gs, expected, strict=True))


CUBE = np.arange(8.0).reshape(2, 2, 2)
POINTS: list[tuple[str, str, tuple[Any, ...], dict[str, Any], Any, Any]] = [
    ("abs at 0", "abs", (0.0,), {}, 1.0, between(-1, 1)),
    ("relu at 0", "relu", (0.0,), {}, 1.0, between(0, 1)),
    ("leaky_relu at 0, slope 0.1", "leaky_relu", (0.0,), {"slope": 0.1}, 1.0, between(0.1, 1)),
    ("maximum(1, 1)", "maximum", (1.0, 1.0), {}, 1.0, shares(1)),
    ("minimum(1, 1)", "minimum", (1.0, 1.0), {}, 1.0, shares(1)),
    ("max of [1, 1]", "max", ([1.0, 1.0],), {}, 1.0, shares(1)),
    ("min of [1, 1]", "min", ([1.0, 1.0],), {}, 1.0, shares(1)),
    ("prod of [0, 2, 3]", "prod", ([0.0, 2.0, 3.0],), {}, 1.0, exactly([6.0, 0.0, 0.0])),
    ("prod of [0, 0, 3]", "prod", ([0.0, 0.0, 3.0],), {}, 1.0, exactly([0.0, 0.0, 0.0])),
    ("power(0, 2)", "power", (0.0, 2.0), {}, 1.0, exactly(0.0, 0.0)),
    ("power(0, 1)", "power", (0.0, 1.0), {}, 1.0, exactly(1.0, 0.0)),
    ("power(2, 0)", "power", (2.0, 0.0), {}, 1.0, exactly(0.0, np.log(2.0))),
    ("tanh at 800", "tanh", (800.0,), {}, 1.0, exactly(0.0)),
    ("sigmoid at -800", "sigmoid", (-800.0,), {}, 1.0, exactly(0.0)),
    ("sigmoid at 800", "sigmoid", (800.0,), {}, 1.0, exactly(0.0)),
    ("softplus at 800", "softplus", (800.0,), {}, 1.0, exactly(1.0)),
    ("log_softmax of [1000, 0]", "log_softmax", ([1e3, 0.0],), {}, np.array([1.0, 0.0]), exactly([0.0, 0.0])),
    ("softmax of [1000, 0]", "softmax", ([1e3, 0.0],), {}, np.array([1.0, 0.0]), exactly([0.0, 0.0])),
    ("x[[0, 0, 1]]", "getitem", ([1.0, 2.0],), {"index": ([0, 0, 1],)}, np.array([1.0, 2, 4]), exactly([3.0, 4.0])),
    (
        "where((3, 3) condition, (3,), 0)",
        "where",
        (np.ones(3), 0.0),
        {"condition": np.ones((3, 3), bool)},
        np.ones((3, 3)),
        exactly([3.0] * 3, 0.0),
    ),
    ("transpose by (-1, 0, 1)", "transpose", (CUBE,), {"axes": (-1, 0, 1)}, CUBE, exactly(CUBE.transpose(1, 2, 0))),
]


def edges(library: Library) -> Iterator[tuple[str, str]]:
    """Points at which a gradient is none, is not finite, or comes with a warning."""
    for title, name, arrays, options, u, holds in POINTS:
        if name not in library.functions:
            continue
        given_arrays = tuple(np.asarray(a, float) for a in arrays)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                _, gs = library.vjp(lambda *xs: library.functions[name](*xs, **options), given_arrays, np.asarray(u))  # noqa: B023
            except NOT_ABOUT_GRADIENTS as error:
                yield title, f"{type(error).__name__}: {error}"
                continue
        if not holds(*gs):
            yield title, "gradient " + ", ".join(str(np.asarray(g).tolist()) for g in gs)
        elif caught:
            yield title, f"the gradient is right; {caught[0].category.__name__}: {caught[0].message}"
