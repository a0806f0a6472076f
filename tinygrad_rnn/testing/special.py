"""The points where rules go wrong: zeros, ties, repeated operands, integers, both sides of every branch, extremes.

After this file the reader knows why random operands are not enough: a rule that divides by x is right everywhere but at
0, one that forgets a branch is right on the other side of it, one that computes exp(x) is right until that overflows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from .again import again, written
from .checker import Check, gradcheck
from .operands import Example
from .oracles import Array, Element, steps_at, unit
from .outcome import GradcheckError
from .subject import random_like

__tracebackhide__ = True  # pytest shows the caller's line

POINTS = (0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 20.0, -20.0, 800.0, -800.0)
# Close enough to each other that hardly a branch lies between two of them.
SCAN = tuple(k / 4 for k in range(-24, 25)) + tuple(s * 6.1 * 1.25**k for k in range(24) for s in (1, -1))
EXTREMES = (1e300, -1e300, 1e-300, -1e-300, 5e-324)
"""Where many a right rule overflows, so that they count only if the forward function goes through without."""
SEVERAL = (0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 20.0, -20.0, 800.0, -800.0)


def special_points(example: Example, rng: np.random.Generator) -> int:
    """Check a primitive there, and note at most three kinks, which are passed.

    Returns
    -------
    int
        How many derivatives were compared with differences.

    Raises
    ------
    GradcheckError
        If a derivative is wrong, or NaN or infinite where differences settle.
    """
    with np.errstate(all="ignore"):
        survey = _Survey(example, rng)
        for points in () if example.given else survey.elementwise() if example.local else survey.one_at_a_time():
            if survey.meant(points):
                survey.look(example, points, "at a special point")
        for function, points in survey.moved_together():
            survey.look(function, points, "where equal elements are moved together")
    kinks = ", ".join(sorted({x for x, tied in survey.kinks if not tied}, key=float)[:3])
    note = f"a kink {f'at {kinks}' if kinks else 'where elements are equal'}, where a rule may give any slope between"
    example.notes.extend([note] if survey.kinks and note not in example.notes else [])
    return survey.compared


class _Survey:
    """One example, and what is seen at its special points."""

    def __init__(self, example: Example, rng: np.random.Generator) -> None:
        self.example, self.rng = example, rng
        domain, count = example.domain or (-np.inf, np.inf), len(example.points)
        self.bounds = [domain] * count if isinstance(domain[0], (int, float)) else domain
        self.compared, self.kinks = 0, set[tuple[str, bool]]()  # where, and whether at a tie
        whole = Check(example, example.points, 1, rng, rtol=example.rtol, noise=example.noise)
        whole.begin()
        self.noise = whole.noise  # at a single point, whether f computes in float32 cannot always be seen

    def elementwise(self) -> Iterator[list[Array]]:
        """Of an operation that goes element by element: operands of one element."""
        count = len(self.example.points)
        if count == 1:
            rows: list[Any] = [*zip(dict.fromkeys((*SCAN, *POINTS, *EXTREMES))), (-0.0,)]  # -0 is equal to 0
        else:
            rows = [*product(SEVERAL, repeat=2)] if count == 2 else [np.roll(SEVERAL, k)[:count] for k in range(10)]
            rows += [(*[1.5] * i, x, *[1.5] * (count - 1 - i)) for x in EXTREMES for i in range(count)]
        return ([np.array([x]) for x in row] for row in rows)

    def one_at_a_time(self) -> Iterator[list[Array]]:
        """Of any other each point in one element of an operand, in all, and all elements whole numbers."""
        for i, array in enumerate(rest := self.example.points):
            found = [np.round(3 * array)]
            for x in (*POINTS, *EXTREMES):
                found.append(one := array.copy())
                one.flat[0] = x
                found += [np.full(array.shape, x)] * (abs(x) <= 20)
            yield from ([*rest[:i], moved, *rest[i + 1 :]] for moved in found)

    def meant(self, points: Sequence[Array]) -> bool:
        """Whether the operation is meant for these operands: in its domain, finite, at extremes without overflow."""
        for x, (low, high) in zip(points, self.bounds, strict=True):
            if ((x < low) | (x > high)).any():
                return False
        extreme = any(((x != 0) & ((np.abs(x) < 1e-200) | (np.abs(x) > 1e200))).any() for x in points)
        try:
            with np.errstate(all="raise" if extreme else "ignore"):
                return bool(np.isfinite(self.example.forward(self.example.with_points(points))).all())
        except Exception:  # what it refuses is no point to check it at
            return False

    def moved_together(self) -> Iterator[tuple[Any, list[Array]]]:
        """Functions of what equal elements have in common: at a tie each may have any share, but not their sum."""
        points = self.example.points
        if len(points) > 1 and len({x.shape for x in points}) == 1 and self.meant([points[0]] * len(points)):
            repeated = partial(lambda x: self.example(*[x] * len(points)))
            yield self.named(repeated, "x", ["x"] * len(points)), [points[0]]
        for i, array in enumerate(points if not (self.example.local or self.example.given) else ()):
            for axis, extremum in product(range(array.ndim), (np.argmax, np.argmin)):
                place = list(np.unravel_index(int(extremum(array)), array.shape))
                mask, tied = np.zeros(array.shape), np.round(array, 3)
                mask[tuple(place)] = 1
                place[axis] = (place[axis] + 1) % array.shape[axis]
                mask[tuple(place)], tied[tuple(place)] = 1, tied.flat[int(extremum(array))]
                at = [*points[:i], tied, *points[i + 1 :]]
                if self.meant(at):
                    shares = [mask if k == i else 0.0 for k in range(len(at))]
                    said = [written(x) if k != i else f"{written(x)} + t * {written(mask)}" for k, x in enumerate(at)]
                    yield self.named(partial(self.moved, at, shares), "t", said), [np.array(0.0)]

    def moved(self, at: Sequence[Array], shares: Sequence[Any], t: Any) -> Any:
        """The operation where some elements of its operands are larger by the same number."""
        return self.example(*(x + t * share for x, share in zip(at, shares, strict=True)))

    def named(self, function: Any, variable: str, operands: Sequence[str]) -> Any:
        """With a line that can be pasted, of these operands."""
        given = ", ".join(x if isinstance(x, str) else written(x) for x in self.example.with_points(operands))
        function.line = f"lambda {variable}: {self.example.line}({given})" if self.example.line else ""
        return function

    def look(self, function: Any, points: list[Array], where: str) -> None:
        """Compare the derivatives at these operands, in the first element of each and in the last."""
        check = Check(function, points, 1, self.rng, rtol=self.example.rtol, noise=self.noise)
        try:
            check.sweep(random_like(self.rng, *check.begin()))
        except (ValueError, ArithmeticError):  # a rule that refuses a point, with an error, gives no wrong number there
            return
        sizes = [float(np.abs(a).max()) for a in (check.here, *points)]
        for i, gradient in enumerate(check.gradients):
            lost = 1.0 + sizes[0] + max(sizes[1:])
            if max(sizes[1:]) > 1e200 and self.overflows(i, points):
                lost = 1.0
            every = list(np.ndindex(gradient.shape))
            for element in dict.fromkeys((every[0], every[-1])):
                try:
                    self.compare(check, i, element, lost, where)
                except GradcheckError as error:
                    of_example = function is self.example
                    inputs = self.example.with_points(points) if of_example else points
                    error.again = partial(again, gradcheck, function, inputs, {}, replace(error))
                    if not of_example and error.cause == "factor":
                        error.cause = "tie"
                        error.message += "; how does the rule share a tie?"
                    raise

    def overflows(self, i: int, points: Sequence[Array]) -> bool:
        """Whether a rule overflows where the forward function does not."""
        arrays = self.example.with_points(points)
        try:
            with np.errstate(over="raise", invalid="raise"):
                y = self.example.forward(arrays)
                self.example.rule(self.example.floats[i], np.ones(y.shape), y, arrays)
        except FloatingPointError:
            return True
        return False

    def compare(self, check: Check, i: int, element: Element, lost: float, where: str) -> None:
        """One derivative; to lose digits beside numbers of some size, 1, f or x, is no mistake."""
        analytic, x = float(check.gradients[i][element]), float(check.arrays[i][element])
        if not np.isfinite(analytic):
            check.infinite(i, element)
            return
        vague = max(64 * check.noise, 1e-3 * (self.example.rtol or 0.0))
        along = unit(check.arrays[i], element)
        c = check.compare(i, along, steps_at(x), analytic, check.rtol * abs(analytic) + vague * lost)
        if c.verdict == "wrong":
            c = check.reconsidered(i, along, c)
        self.compared += c.verdict in ("right", "zero")
        if c.verdict == "kink":
            tied = check.f is not self.example or sum(int((a == x).sum()) for a in check.arrays) > 1
            self.kinks.add((f"{x if abs(x) > 1e-290 else 0.0:.4g}", tied))
        if c.verdict == "wrong":
            check.wrong(i, f"{where}, at element {element} = {x:.6g}", [element], c, element)
