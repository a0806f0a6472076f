"""What is wrong with a gradient: hypotheses, tried one after the other against the numeric Jacobian.

After this file the reader knows the ways in which derivative rules go wrong. A rule computes the transposed Jacobian
times the cotangent, so most mistakes are another product of the same two: a sign, a transposition, a part of the sum.
Each hypothesis computes what the analytic gradient would be if it were true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, permutations
from typing import Any

import numpy as np

from .oracles import Array, Element

CAUSES = {
    "sign": "the sign is wrong",
    "factor": "off by a constant factor",
    "transposed": "its axes, or the rows and columns of a Jacobian, are exchanged",
    "swapped": "it is another input's gradient",
    "broadcast": "contributions along a repeated axis are not summed, or summed along another",
    "cotangent ignored": "it does not depend on the cotangent, or only on its sum",
    "detached": "no gradient arrives at all",
    "repeated index": "of an element used several times only one use counts",
    "tie": "wrong only where two elements are equal",
    "few elements": "right but for some elements",
    "missing factor": "a factor is missing or too much",
    "missing term": "a summand is missing or too much",
    "permuted": "the right numbers in the wrong places",
    "off-diagonal": "only the diagonal of the Jacobian is used",
    "offset": "a constant is added",
    "mutation": "an array is changed in place",
    "not float64": "something is computed in float32",
    "kink": "the function has no derivative here",
    "unsettled": "differences do not settle, as at the edge of a domain",
    "not finite": "NaN or infinite",
    "shape": "wrong shape or dtype",
    "random": "the function is random",
    "unknown": "none of these",
}
"""Every cause that a report may name."""

SAME = 1e-7
"""Gradients that differ by less, relative to the largest element, are the same here; the Jacobian is good to 1e-10."""


@dataclass(frozen=True)
class Evidence:
    """What a failed check knows about one input.

    Attributes
    ----------
    which : int
        The input, among those that are differentiated; `where` has their positions among the arguments.
    elements : list
        Which of its elements were looked at.
    gradients : list of arrays
        The analytic gradients of all inputs.
    inputs, outputs : list of arrays
    cotangent : array
        For all outputs, as one vector.
    jacobian : callable
        Derivatives of all outputs (columns) with respect to these elements (rows) of an input.
    worst : tuple of int or None
    ratio : float
        Analytic over numeric, where they were compared.
    """

    which: int
    where: Sequence[int]
    elements: list[Element]
    gradients: Sequence[Array]
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    cotangent: Array
    jacobian: Callable[[int], Array]
    worst: Element | None
    ratio: float

    def at(self, array: Array) -> Array:
        """An array of the input's shape at the elements looked at, as a vector."""
        return np.array([array[e] for e in self.elements], float)

    @property
    def complete(self) -> bool:
        """Whether every element of the input was looked at."""
        return len(self.elements) == self.gradients[self.which].size


Finding = tuple[str, str]


def diagnose(evidence: Evidence, rtol: float, atol: float) -> Finding:
    """The likely cause of a wrong gradient: a key of `CAUSES`, and a sentence."""
    jacobian = evidence.jacobian(evidence.which)
    numeric = jacobian @ evidence.cotangent
    analytic = evidence.at(evidence.gradients[evidence.which])
    for hypothesis in HYPOTHESES:
        for cause, said, expected in hypothesis(evidence, jacobian, numeric, analytic):
            if expected is None or (same(analytic, expected) and not same(expected, numeric)):
                return cause, said
    return few(evidence, jacobian, numeric, analytic, rtol, atol) or (
        "unknown",
        "none of the usual slips (sign, factor, transposed, swapped, lost sum, ...); perhaps the formula itself",
    )


def same(a: Array, b: Array) -> bool:
    """Equal up to the precision of the numeric Jacobian."""
    return bool(np.abs(a - b).max(initial=0.0) <= SAME * np.abs(b).max(initial=0.0))


# Each hypothesis yields (cause, sentence, what the gradient would be); None for the last if it is shown already.
Hypothesis = Callable[[Evidence, Array, Array, Array], Iterator[tuple[str, str, Array | None]]]


def nothing_arrives(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """Zero where it should not be."""
    if not analytic.any() and numeric.any():
        yield "detached", "no gradient arrives: the input is detached, or its rule returns zeros", None


def constant_factor(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """One number times the right gradient."""
    square = float(numeric @ numeric)
    factor = float(analytic @ numeric) / square if square else 0.0
    off = float(np.abs(analytic - factor * numeric).max(initial=0.0)) / (float(np.abs(numeric).max(initial=0.0)) or 1.0)
    if not factor or off > max(1e-9, min(SAME, 0.01 * abs(factor - 1))):
        return
    if off > 0.01 * abs(factor - 1):  # too small for single elements to show: only their sum was precise enough
        if evidence.worst is not None:
            return
        factor = evidence.ratio
    if len(numeric) == 1 and abs(factor - 1) > 1e-2 and abs(factor + 1) > SAME:
        return  # any number is some factor of another
    if abs(factor + 1) <= SAME:
        yield "sign", "the sign is wrong", None
    else:
        yield "factor", f"off by a constant factor of {factor:.10g}{_counts(factor, evidence)}", None


def sign_of_some(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """The right sizes, and the wrong sign where the operand is negative, say: abs or sign was forgotten."""
    x = evidence.at(evidence.inputs[evidence.which])
    for where, chosen in (("negative", x < 0), ("positive", x > 0)):
        said = f"the sign is wrong where the input is {where}: is an abs or a sign missing?"
        yield "sign", said, np.where(chosen, -numeric, numeric)
    flipped = (np.abs(analytic + numeric) <= SAME * np.abs(numeric)) & (numeric != 0)
    if flipped.any() and same(np.where(flipped, -analytic, analytic), numeric):
        yield "sign", f"the sign is wrong in {flipped.sum()} of {len(numeric)} elements", None


def _counts(factor: float, evidence: Evidence) -> str:
    """Whether a factor is how many elements there are along some axes: a mean for a sum, or the other way round."""
    sizes = {n for array in [*evidence.inputs, *evidence.outputs] for n in (array.size, *array.shape)} - {0, 1}
    for n in sorted(sizes):
        for value, said in ((1 / n, f"1/{n}"), (float(n), f"{n}")):
            if abs(factor - value) <= SAME * value:
                return f" = {said}, a number of elements: a mean for a sum, or a sum for a mean?"
    simple = Fraction(factor).limit_denominator(12)
    if abs(factor - simple) <= SAME * abs(factor):
        return f" = {simple}" if simple.denominator > 1 else ""
    (y,) = evidence.outputs[0].reshape(-1) if [y.size for y in evidence.outputs] == [1] else (np.nan,)
    with np.errstate(all="ignore"):
        named = {"y": y, "1 / y": 1 / y, "y²": y * y, "exp(y)": np.exp(y), "exp(-y)": np.exp(-y)}
    found = [name for name, value in named.items() if abs(factor - value) <= SAME * abs(value)]
    return f" = {found[0]}, where y is the result: it is missing, or too much" if found else ""


def transposed(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """The right numbers with exchanged axes, which keep the shape if they are of the same size."""
    i = evidence.which
    shape = evidence.inputs[i].shape
    full = _full(evidence, numeric)
    if 2 <= len(shape) <= 4 and full is not None:
        for axes in permutations(range(len(shape))):
            moved = np.transpose(full, axes)
            said = f"its axes are exchanged: transposed by {axes}"
            said += "" if moved.shape == shape else " and then read in the shape of the input"
            yield "transposed", said, evidence.at(moved.reshape(shape))
    if evidence.complete and jacobian.shape[0] == jacobian.shape[1] and len(numeric) > 1:
        yield "transposed", "the Jacobian is not transposed: J g for Jᵀ g", jacobian.T @ evidence.cotangent


def _full(evidence: Evidence, numeric: Array) -> Array | None:
    """The numeric gradient in the shape of the input; None if only some of it was computed."""
    if not evidence.complete:
        return None
    full = np.zeros(evidence.inputs[evidence.which].shape)
    for element, value in zip(evidence.elements, numeric, strict=True):
        full[element] = value
    return full


def another_inputs(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """The gradient of another input of the same shape."""
    shape = evidence.inputs[evidence.which].shape
    for k, other in enumerate(evidence.inputs):
        if k != evidence.which and other.size == evidence.inputs[evidence.which].size:
            if other.shape == shape:
                found = evidence.jacobian(k) @ evidence.cotangent
                name = f"input {evidence.where[k]}"
                yield "swapped", f"it is the gradient of {name}: are the rules in the wrong order?", found
                yield "swapped", f"it is minus the gradient of {name}: are the rules in the wrong order?", -found


def lost_sum(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """Only a part of what belongs to an element that broadcasting repeated."""
    start = 0
    for output in evidence.outputs:
        end = start + output.size
        cotangent = evidence.cotangent[start:end].reshape(output.shape)
        outside = numeric - jacobian[:, start:end] @ cotangent.reshape(-1)
        for axis in range(output.ndim):
            for place, pick in (("first", 0), ("last", -1)):
                if output.shape[axis] > 1 and output.size:
                    only = np.zeros(output.shape)
                    chosen = (slice(None),) * axis + (pick,)
                    only[chosen] = cotangent[chosen]
                    said = f"not summed over axis {axis} of the result: only the {place} contribution along it counts"
                    yield "broadcast", said, outside + jacobian[:, start:end] @ only.reshape(-1)
        terms = jacobian[:, start:end] * cotangent.reshape(-1)
        if evidence.complete and (np.count_nonzero(terms, axis=0) <= 1).all():  # no output has two of the elements
            full = terms.sum(axis=0).reshape(output.shape)
            for count in range(1, output.ndim):
                for axes in combinations(range(output.ndim), count):
                    if (found := full.sum(axis=axes)).size == len(numeric):
                        which = f"axis {axes[0]}" if count == 1 else f"axes {axes}"
                        said = f"summed over the wrong axis of the result: {which}"
                        yield "broadcast", said, outside + found.reshape(-1)
        start = end


def spread_elsewhere(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """The cotangent of a reduction, repeated along another axis than the one that was reduced."""
    shape = evidence.inputs[evidence.which].shape
    if len(evidence.outputs) == 1 and evidence.complete and (np.count_nonzero(jacobian, axis=1) <= 1).all():
        g = evidence.cotangent.reshape(evidence.outputs[0].shape)
        for axes in combinations(range(len(shape)), max(0, len(shape) - g.ndim)) if g.ndim < len(shape) else ():
            wide = np.expand_dims(g, axes)
            if all(n in (1, m) for n, m in zip(wide.shape, shape, strict=True)):
                said = (
                    f"the cotangent g is repeated along axis {', '.join(map(str, axes))} instead: is keepdims missing?"
                )
                yield "broadcast", said, jacobian.sum(1) * evidence.at(np.broadcast_to(wide, shape))


def held_constant(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """A mean or a norm whose own derivative was forgotten: what is missing lies along 1, x, or both.

    Of what subtracts a mean the gradient sums to zero, and of what divides by a norm it is orthogonal to x.
    """
    full, rule = _full(evidence, numeric), _full(evidence, analytic)
    if full is None or rule is None:
        return
    x, scale = evidence.inputs[evidence.which], float(np.abs(numeric).max(initial=0.0))
    for axes in [(k,) for k in range(x.ndim)] + [tuple(range(x.ndim))] * (x.ndim > 1):
        if int(np.prod([x.shape[k] for k in axes])) < 3:  # of two numbers any two are a combination of 1 and x
            continue
        over = f"over axis {axes[0]}" if len(axes) == 1 else "over all axes"
        centred = x - x.mean(axes, keepdims=True)
        mean, flat = (rule - full).mean(axes, keepdims=True), np.zeros(x.shape)
        for said, along, shift in (
            (f"a mean {over} is not subtracted, or held constant", flat, mean),
            (f"a norm {over} is held constant", x, 0 * mean),
            (f"a mean and a norm {over} are held constant", centred, mean),
        ):
            size = (along * along).sum(axes, keepdims=True)
            part = ((rule - full) * along).sum(axes, keepdims=True) / np.where(size > 0, size, 1.0) * along
            kept = np.abs((full * along).sum(axes)).max(initial=0.0) + np.abs((full * (shift != 0)).sum(axes)).max()
            if kept <= 1e-3 * scale:  # loosely, for the small numbers that keep a norm from zero
                yield "missing term", said, evidence.at(full + part + shift)


def other_cotangent(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """The right rule for another cotangent than the one that arrived."""
    g = evidence.cotangent
    if len(numeric) > 1 and [y.shape for y in evidence.outputs] == [evidence.inputs[evidence.which].shape]:
        found = evidence.at(g.reshape(evidence.outputs[0].shape))
        yield "missing factor", "the cotangent g is passed on as it is: the derivative itself is missing", found
    yield "cotangent ignored", "the cotangent g is ignored: right only if g is 1 everywhere", jacobian.sum(1)
    yield "cotangent ignored", "the cotangent g is replaced by its mean", jacobian.sum(1) * g.mean()
    yield "cotangent ignored", "the cotangent g is replaced by its sum", jacobian.sum(1) * g.sum()
    yield "cotangent ignored", "the cotangent g counts twice: g² for g", jacobian @ (g * g)
    if len(evidence.outputs) == 1:
        array = g.reshape(evidence.outputs[0].shape)
        if array.ndim >= 2:
            turned = array.swapaxes(-1, -2).reshape(-1)
            yield "transposed", "the cotangent g is transposed before it is used", jacobian @ turned
        for axis in range(array.ndim):
            said = f"the cotangent g is used in reverse order along axis {axis}"
            yield "permuted", said, jacobian @ np.flip(array, axis).reshape(-1)
    if evidence.complete and jacobian.shape[0] == jacobian.shape[1] > 1:
        yield "off-diagonal", "only the diagonal of the Jacobian is used", np.diag(jacobian) * g


def expressions(evidence: Evidence) -> list[tuple[str, Array]]:
    """What a forgotten factor usually is, at the elements looked at."""
    shape = evidence.inputs[evidence.which].shape
    named = [(f"x{evidence.where[k]}" if len(evidence.inputs) > 1 else "x", a) for k, a in enumerate(evidence.inputs)]
    found: list[tuple[str, Array]] = []
    if evidence.outputs and evidence.outputs[0].shape == shape:
        y = evidence.at(evidence.outputs[0])
        found += [(f"y / {name}", y / evidence.at(a)) for name, a in named if a.shape == shape]
    named += [("y", y) for y in evidence.outputs[:1]]
    for name, array in named:
        try:
            a = evidence.at(np.broadcast_to(array, shape))
        except ValueError:
            continue
        found += [(name, a), (f"{name}²", a * a), (f"(1 - {name})", 1 - a), (f"(1 + {name})", 1 + a)]
        found += [(f"(1 - {name}²)", 1 - a * a), (f"exp({name})", np.exp(np.minimum(a, 100.0)))]
    return found


def missing_factor_or_term(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """A product or a sum of which one part was forgotten."""
    if len(numeric) < 2:
        return  # one number is a product of anything
    g: Array | None = None
    if len(evidence.outputs) == 1 and evidence.outputs[0].shape == evidence.inputs[evidence.which].shape:
        g = evidence.at(evidence.cotangent.reshape(evidence.outputs[0].shape))
    with np.errstate(all="ignore"):
        for name, e in expressions(evidence):
            yield "missing factor", f"a factor {name} is missing", numeric / e
            yield "missing factor", f"a factor {name} is too much", numeric * e
        if g is not None:
            x = evidence.at(evidence.inputs[evidence.which])
            said = "of the product rule for y = x · (y / x) only the summand g · y / x is there"
            yield "missing term", said, g * evidence.at(evidence.outputs[0]) / x
            for name, e in [("1", np.ones(len(g))), *expressions(evidence)]:
                for sign, term in ((1, g * e), (-1, -g * e)):
                    plus, minus = ("+", "-") if sign > 0 else ("-", "+")
                    yield "missing term", f"a summand {plus} g × {name} is missing", numeric - term
                    yield "missing term", f"a summand {minus} g × {name} is missing", numeric + term


def another_order(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """The right numbers in wrong places."""
    distinct = len(np.unique(np.round(numeric, 9))) > 1
    if evidence.complete and distinct and same(np.sort(analytic), np.sort(numeric)) and not same(analytic, numeric):
        full = _full(evidence, numeric)
        assert full is not None
        for axis in range(full.ndim):
            reverse, shift = evidence.at(np.flip(full, axis)), evidence.at(np.roll(full, 1, axis))
            yield "permuted", f"in reverse order along axis {axis}", reverse
            yield "permuted", f"shifted by one along axis {axis}", shift
        yield "permuted", "the right numbers in the wrong places", None


def added_constant(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """The same number too much everywhere."""
    offset = float(np.mean(analytic - numeric)) if len(numeric) else 0.0
    if len(numeric) > 1 and np.abs(analytic - numeric - offset).max() <= 1e-3 * abs(offset):
        yield "offset", f"the same number, {offset:.4g}, is added to every element", None


def rounded(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """Rounded to float32 on the way."""
    if same(analytic, numeric) or np.abs(analytic - numeric).max(initial=0.0) <= 1e-5 * np.abs(numeric).max(
        initial=0.0
    ):
        short = analytic.astype(np.float32) == analytic
        if short.all() and analytic.any() and not (numeric.astype(np.float32) == numeric).all():
            yield "not float64", "it is right to 7 digits only: something is computed in float32", None


def barely(evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array) -> Any:
    """Right to 7 digits or so: seen in the sum of all elements only, and no single one of them is to blame."""
    off = np.abs(analytic - numeric) > 1e-2 * SAME * np.abs(numeric)
    if evidence.worst is None and evidence.complete and same(analytic, numeric) and off.mean() > 0.5:
        yield (
            "not float64",
            "it is right to 7 digits only: is a part computed in float32, or a small number added?",
            None,
        )


HYPOTHESES: tuple[Hypothesis, ...] = (
    nothing_arrives,
    rounded,
    constant_factor,
    sign_of_some,
    transposed,
    another_inputs,
    lost_sum,
    spread_elsewhere,
    held_constant,
    other_cotangent,
    missing_factor_or_term,
    another_order,
    added_constant,
    barely,
)


def few(
    evidence: Evidence, jacobian: Array, numeric: Array, analytic: Array, rtol: float, atol: float
) -> Finding | None:
    """Right but for some elements: used several times, equal to another, or just those."""
    tolerance = atol + rtol * (np.abs(numeric) + 1e-3 * np.abs(numeric).max(initial=0.0))
    wrong = np.abs(analytic - numeric) > tolerance
    if evidence.worst in evidence.elements:
        wrong[evidence.elements.index(evidence.worst)] = True
    if not wrong.any():
        return None
    uses = np.count_nonzero(jacobian, axis=1)
    terms = jacobian * evidence.cotangent
    one_use = np.abs(terms - analytic[:, None]).min(axis=1, initial=np.inf) <= SAME * np.abs(numeric).max()
    if (uses[wrong] > 1).all() and one_use[wrong].all():
        return "repeated index", "only one use counts of an element used several times: overwritten, not accumulated"
    everything = np.concatenate([a.reshape(-1) for a in evidence.inputs])
    values = evidence.at(evidence.inputs[evidence.which])
    tied = np.array([np.count_nonzero(everything == value) > 1 for value in values])
    if tied[wrong].all() and not tied[~wrong].any():
        return "tie", "wrong only where two elements are equal: how does the rule share a tie?"
    if wrong.sum() <= max(1, len(wrong) // 2) and len(wrong) > 1:
        places = ", ".join(str(e) for e, bad in zip(evidence.elements, wrong, strict=True) if bad)
        rest = "" if len(places) < 60 else " ..."
        return "few elements", f"right but for few elements: {places[:60]}{rest} (an edge, a special case, an index?)"
    return None
