"""A battery: named checks of one object, all run, reported together.

After this file the reader knows what `check_primitive` and `check_cell` have in common: an ordered list of checks that
raise when something is wrong, and a report that says which passed and, of the first that failed, everything.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autodiff import grad, pullback
from ..files import counted
from ..functions import sum as sum_of
from ..tensor import GradientError, Tensor
from .checker import gradcheck
from .comparison import Mode
from .oracles import Array
from .outcome import InconclusiveError
from .subject import random_like

__tracebackhide__ = True  # pytest shows the caller's line

ROUNDING = 1e-11
"""By how much numbers may differ, relative to the largest, that are the same but for rounding."""
TRIES = 8
"""At how many points nearby a gradient is looked at, where a kink is in the way."""


class CheckError(AssertionError):
    """A primitive or a cell did not pass its battery.

    Attributes
    ----------
    name : str
    failed : dict of str to Exception
        What each failed check raised: what is wrong first, what could not be settled after it.
    passed : tuple of str
    inconclusive : bool
        Whether nothing was found wrong, but something could not be settled, which is no pass either.
    """

    def __init__(self, name: str, failed: Mapping[str, Exception], passed: Sequence[str], hint: str = "") -> None:
        wrong = {check: error for check, error in failed.items() if not isinstance(error, InconclusiveError)}
        self.inconclusive = not wrong
        failed = {**wrong, **failed}  # what is in doubt after what is wrong
        (first, error), *rest = failed.items()
        said = _said(error).removeprefix(f"{first}: ")  # "order 2" is the name of a check and of what failed in it
        how = "failed" if wrong else "are inconclusive"
        lines = [f"{name}: {len(failed)} of {len(failed) + len(passed)} checks {how}", f"  {first}: {said}"]
        if rest:  # usually for the same reason, so the first is the one to read
            lines.append(f"  also failed: {', '.join(check for check, _ in rest)}")
        if passed:
            lines.append(f"  passed: {', '.join(passed)}")
        if hint and (getattr(error, "cause", "") == "shape" or not isinstance(error, AssertionError)):
            lines.append(f"  {hint}")
        super().__init__("\n".join(lines))
        self.name, self.failed, self.passed = name, dict(failed), tuple(passed)


def _said(error: Exception) -> str:
    said, again, line = str(error).partition("\n  again: ")
    text = " ".join([said, *(f"({note})" for note in getattr(error, "__notes__", []))]) + again + line
    return text if isinstance(error, AssertionError) else f"{type(error).__name__}: {text}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a battery that passed has looked at.

    Attributes
    ----------
    name : str
    passed : tuple of str
        The names of the checks.
    compared : int
        How many derivatives were compared with differences.
    examples : tuple of str
        On what: operand shapes, or sizes of a cell.
    notes : tuple of str
        What is worth knowing though it is not wrong: where the operation has a kink.
    """

    name: str
    passed: tuple[str, ...]
    compared: int
    examples: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = f"{len(self.passed)} checks on {counted(len(self.examples), 'example')}"
        notes = "".join(f"; {note}" for note in self.notes)
        return f"{self.name}: ok, {counts}, {self.compared} derivatives compared{notes}"


def run_all(
    name: str, checks: Mapping[str, Callable[[], int | None]], examples: Sequence[str],
    skip: Collection[str] = (), hint: str = "", notes: Sequence[str] = (),
) -> Report:  # fmt: skip
    """Run checks in their order; each returns how many derivatives it compared.

    Raises
    ------
    CheckError
        If any raised. All run nevertheless.
    ValueError
        If `skip` has a name that is none of the checks.
    """
    if unknown := set(skip) - set(checks):
        raise ValueError(f"no check is named {', '.join(sorted(unknown))}: there are {', '.join(checks)}")
    from tqdm import tqdm

    failed: dict[str, Exception] = {}
    passed: list[str] = []
    compared = 0
    # Only in a terminal, and only for a battery that takes long.
    for check, run in tqdm(checks.items(), desc=name, unit="check", delay=1, leave=False, disable=None):
        if check in skip:
            continue
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # what matters is what is returned
                compared += run() or 0
            passed.append(check)
        except Exception as error:
            failed[check] = error
    if failed:
        raise CheckError(name, failed, passed, hint)
    return Report(name, tuple(passed), compared, tuple(examples), tuple(notes))


def require(condition: Any, message: str) -> None:
    """Assert also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def require_close(actual: Array, expected: Array, tolerance: float, what: str) -> None:
    """Equal up to a tolerance relative to the largest number, shapes included."""
    a, e = np.asarray(actual), np.asarray(expected)
    require(a.shape == e.shape, f"{what}: shape {a.shape} for {e.shape}")
    scale = float(np.abs(e).max(initial=1.0))
    error = float(np.abs(a.astype(float) - e.astype(float)).max(initial=0.0))
    require(error <= tolerance * scale, f"{what}: they differ by {error:.3g}, more than {tolerance * scale:.1g}")


def gradients(output: Tensor, inputs: Sequence[Tensor], cotangent: Array | None = None) -> list[Array]:
    """Arrays; zeros where nothing arrives."""
    if not output.requires_grad:
        return [np.zeros(x.shape, x.dtype) for x in inputs]
    return [g.numpy() for g in grad(output, list(inputs), cotangent, allow_unused=True)]


Checked = Any
"""What gradients are checked of: a function of Tensors that has `points`, its operands, and knows how exact it is, by
`rtol`, `noise` and ``close(actual, expected, what, tolerance=ROUNDING)``."""


def right_gradients(of: Checked, rng: np.random.Generator, order: int, mode: Mode = "auto") -> int:
    """`gradcheck`; where something, such as a kink, is in the way, operands nearby are tried."""
    at = of.points
    for _ in range(TRIES):
        try:
            with differentiating(order):
                found = gradcheck(of, *at, order=order, mode=mode, rtol=of.rtol, noise=of.noise, rng=rng)
                return found.compared
        except InconclusiveError as error:
            last = error
        at = [np.asarray(a * rng.uniform(0.9, 1.0, a.shape)) for a in of.points]
    raise last


def results(of: Checked, xs: Sequence[Tensor]) -> list[Tensor]:
    """All of them, in a list."""
    found = of(*xs)
    return found if isinstance(found, list) else [found]


@contextmanager
def differentiating(order: int) -> Iterator[None]:
    """Where a rule itself is differentiated: one that computes with arrays cannot be, which is not wrong."""
    try:
        yield
    except (TypeError, GradientError) as error:  # what a Tensor says to functions that would lose its gradient
        if order == 1:
            raise
        message = (
            f"not checked: the rule computes with arrays only ({error}). If first derivatives are all you need, "
            "pass order=1; for higher ones write it with operators, functions of tinygrad_rnn and primitives"
        )
        raise InconclusiveError(message, order) from error


def contributions(of: Checked, rng: np.random.Generator) -> None:
    """Of operands that are used twice, the sweep that is watched edge by edge and the one that gathers uses agree."""
    xs = tensors(of.points)
    outputs = [*results(of, xs), *results(of, xs)]
    loss = weighted(outputs, random_like(rng, *outputs))
    watched = pullback({loss: np.ones((), loss.dtype)}, xs, lambda node, operand, contribution: contribution)
    for i, (x, g) in enumerate(zip(xs, gradients(loss, xs), strict=True)):
        seen = np.asarray(watched.get(x, np.zeros(x.shape)))
        of.close(seen, g, f"the contributions to operand {i} and its gradient")


def float32(of: Checked, rng: np.random.Generator) -> None:
    """float32 in, float32 out, and the numbers of float64 to the digits that float32 has."""
    short, wide = (tensors([a.astype(np.float32).astype(kind) for a in of.points]) for kind in (np.float32, float))
    ys, zs = results(of, short), results(of, wide)
    if any((np.abs(z.numpy()) > np.finfo(np.float32).max).any() for z in zs):
        return  # what float32 cannot hold, it does not get wrong
    for y, z in zip(ys, zs, strict=True):
        require(y.dtype == np.float32, f"numbers of float32 give {y.dtype}")
        of.close(y.numpy(), z.numpy(), "results in float32 and in float64", 1e-4)
    weights = random_like(rng, *ys)
    wanted = gradients(weighted(zs, [w.astype(float) for w in weights]), wide)
    for i, (g, h) in enumerate(zip(gradients(weighted(ys, weights), short), wanted, strict=True)):
        of.close(g, h, f"gradients {i} in float32 and in float64", 1e-3)


def tensors(arrays: Sequence[Array]) -> list[Tensor]:
    """Leaves that need a gradient."""
    return [Tensor(a, requires_grad=True) for a in arrays]


def weighted(outputs: Sequence[Any], weights: Sequence[Array]) -> Any:
    """One number: all outputs, each element with its weight."""
    return sum((sum_of(y * w) for y, w in zip(outputs, weights, strict=True)), start=0.0)


LAYOUTS = ["C", "F", "strided", "reversed", "stride 0"]


def laid_out(array: Array, layout: str) -> Array:
    """A read-only array of the same values in another memory layout ("stride 0" where the values allow it).

    Parameters
    ----------
    array : array
    layout : {"C", "F", "strided", "reversed", "stride 0"}
    """
    if layout == "F":
        result = np.array(array, order="F")
    elif layout == "strided" and array.ndim:
        room = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
        result = room[tuple([slice(None, None, 2)] * array.ndim)]
        result[...] = array
    elif layout == "reversed":
        flip = tuple([slice(None, None, -1)] * array.ndim)
        result = np.array(array[flip])[flip]
    elif layout == "stride 0" and array.size and (array == array.flat[0]).all():
        result = np.broadcast_to(array.reshape(-1)[0].copy(), array.shape)
    else:
        result = np.array(array, order="C")
    result = np.asarray(result).view()
    result.flags.writeable = False
    return result
