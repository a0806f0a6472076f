"""What is wrong with a gradient: hypotheses, tried one after the other against the numeric Jacobian.

After this file the reader knows the ways in which derivative rules go wrong. A rule computes the transposed Jacobian
times the cotangent, so most mistakes are another product of the same two: a sign, a transposition, a part of the sum.
Each hypothesis computes what the analytic gradient would be if it were true. Those of `expressions` find out which
formula a rule has, and which one it should have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import reduce
from itertools import combinations, permutations, product
from typing import Any

import numpy as np

from .evidence import SAME, Evidence, same
from .expressions import factors_and_terms
from .oracles import Array

MOST_OUTPUTS = 64
"""Of more, no Jacobian is asked of a rule."""
Finding = tuple[str, str]
# Each hypothesis yields (cause, sentence, what the gradient would be); None for the last if it is shown already.
Found = Iterator[tuple[str, str, Array | None]]


def diagnose(evidence: Evidence, fresh: Sequence[Evidence], rtol: float) -> Finding:
    """The likely cause of a wrong gradient: in a word or two, and a sentence.

    What is named must hold at fresh random inputs as well: at 0, 1 or -1 a mistake looks like many others.
    """
    looked = [e for e in fresh if not same(e.analytic, e.numeric)]
    rest = few(evidence, rtol)
    if evidence.together and not looked and len(evidence.elements) > 1:
        return "tie", "right where one element is moved, wrong where all are: how does the rule share a tie?"
    if fresh and not looked:
        special = "right at random inputs, wrong at these: a branch, a tie, an edge, a special value?"
        return rest or ("few elements", special)
    looked = looked or [evidence]
    if not any(e.numeric.any() for e in looked):
        return "unknown", "f does not change here, but its rule gives something: is it meant to (straight-through)?"
    for hypotheses in (USUAL, LESS_USUAL):  # the second only where the first says nothing: they fit more
        seen = [[*findings(e, hypotheses)] for e in looked]
        causes: dict[str, str] = {}
        for cause, said in seen[0]:
            if all((cause, said) in other for other in seen[1:]):
                causes.setdefault(cause, said)
        if causes:
            first = next(iter(causes))  # of nothing, or of one factor, other things can be said as well
            most = 1 if first in ("detached", "sign", "factor") else 2
            return first, "; or: ".join([*causes.values()][:most])
        if rest and all(few(e, rtol) for e in looked):
            return rest
    return "unknown", "none of the usual slips (sign, factor, transposed, swapped, lost sum, ...); perhaps the formula"


def findings(evidence: Evidence, hypotheses: Sequence[Callable[[Evidence], Any]]) -> Iterator[Finding]:
    """Every cause that fits."""
    share = evidence.share
    with np.errstate(all="ignore"):
        for hypothesis in hypotheses:
            for cause, said, expected in hypothesis(evidence):
                if expected is None or (
                    same(evidence.analytic, expected, share) and not same(expected, evidence.numeric, share)
                ):
                    yield cause, said


def nothing_arrives(e: Evidence) -> Any:
    """Zero where it should not be."""
    if not e.analytic.any() and e.numeric.any():
        yield "detached", "no gradient arrives: the input is detached, or its rule returns zeros", None


def constant_factor(e: Evidence) -> Any:
    """One number times the right gradient."""
    scaled = e.numeric / e.largest  # whose squares neither overflow nor vanish
    factor = float(e.analytic @ scaled) / (float(e.numeric @ scaled) or np.inf)
    off = float(np.abs(e.analytic - factor * e.numeric).max(initial=0.0)) / e.largest
    if not factor or off > max(1e-9, min(e.share, 0.01 * abs(factor - 1))):
        return
    if off > 0.01 * abs(factor - 1):  # too small for single elements to show: only their sum was precise enough
        if e.worst is not None:
            return
        factor = e.ratio
    if len(e.numeric) == 1 and abs(factor - 1) > 1e-2 and abs(factor + 1) > e.share and not e.fresh:
        return  # any number is some factor of another
    if abs(factor + 1) <= e.share:
        yield "sign", "the sign is wrong", None
    else:
        yield "factor", f"off by a {_counts(factor, e)}", None


def sign_of_some(e: Evidence) -> Any:
    """The right sizes, and the wrong sign where the operand is negative, say: abs or sign was forgotten."""
    x = e.at(e.inputs[e.which])
    for where, chosen in (("negative", x < 0), ("positive", x > 0)):
        said = f"the sign is wrong where the input is {where}: is an abs or a sign missing?"
        yield "sign", said, np.where(chosen, -e.numeric, e.numeric)
    flipped = np.abs(e.analytic + e.numeric) <= SAME * np.abs(e.numeric)
    yield "sign", "the sign is wrong in some elements", np.where(flipped, -e.numeric, e.numeric)


def _counts(factor: float, evidence: Evidence) -> str:
    """What a factor is: how many elements there are along some axes, or a simple fraction."""
    share, little = evidence.share, f"1 {factor - 1:+.2g}"
    digits = max(3, int(-np.log10(share)) - 1)
    said = f"constant factor of {little if abs(factor - 1) <= 1e-4 else format(factor, f'.{digits}g')}"
    sizes = sorted({n for a in [*evidence.inputs, *evidence.outputs] for n in (a.size, *a.shape)} - {0, 1})
    for value, name in [(1 / n, f"1/{n}") for n in sizes] + [(float(n), f"{n}") for n in sizes]:
        if abs(factor - value) <= share * value:
            return f"{said} = {name}, a number of elements: a mean for a sum, or a sum for a mean?"
    simple = Fraction(factor).limit_denominator(12)
    if abs(factor - simple) <= share * abs(factor):
        reduced = (np.count_nonzero(evidence.slopes, axis=0) > 1).any()
        ddof = [n for n in sizes if reduced and min(abs(factor - n / (n - 1)), abs(factor - (n - 1) / n)) <= share]
        said += f" = {simple}" if simple.denominator > 1 else ""
        return said + (f" (for {ddof[0]} elements n / (n - 1) or its inverse: is it a ddof?)" if ddof else "")
    return said


def transposed(e: Evidence) -> Any:
    """The right numbers with exchanged axes, which keep the shape if they are of the same size."""
    shape = e.inputs[e.which].shape
    if 2 <= len(shape) <= 4 and e.complete:
        for axes in permutations(range(len(shape))):
            moved = np.transpose(e.full(e.numeric), axes)
            said = f"its axes are exchanged: transposed by {axes}"
            said += "" if moved.shape == shape else " and then read in the shape of the input"
            yield "transposed", said, e.at(moved.reshape(shape))
    if e.complete and e.slopes.shape[0] == e.slopes.shape[1] > 1:
        yield "transposed", "the Jacobian is not transposed: J g for Jᵀ g", e.slopes.T @ e.cotangent


def another_inputs(e: Evidence) -> Any:
    """The gradient of another input of the same shape."""
    for k, other in enumerate(e.inputs):
        if k != e.which and other.shape == e.inputs[e.which].shape:
            said = f"it is the gradient of input {e.subject.where[k]}: are the rules in the wrong order?"
            yield "swapped", said, e.jacobian(k) @ e.cotangent


def lost_sum(e: Evidence) -> Any:
    """Only a part of what belongs to an element that broadcasting repeated."""
    start = 0
    for output in e.outputs:
        columns = e.slopes[:, start : start + output.size]
        cotangent = e.cotangent[start : start + output.size].reshape(output.shape)
        start += output.size
        outside = e.numeric - columns @ cotangent.reshape(-1)
        for axis in range(output.ndim):
            for place, pick in (("first", 0), ("last", -1)):
                if output.shape[axis] > 1:
                    only = np.zeros(output.shape)
                    chosen = (slice(None),) * axis + (pick,)
                    only[chosen] = cotangent[chosen]
                    said = f"not summed over axis {axis} of the result: only the {place} contribution along it counts"
                    yield "broadcast", said, outside + columns @ only.reshape(-1)
        terms = columns * cotangent.reshape(-1)
        if e.complete and (np.count_nonzero(terms, axis=0) <= 1).all():  # no output has two of the elements
            full = terms.sum(axis=0).reshape(output.shape)
            for count in range(1, output.ndim):
                for axes in combinations(range(output.ndim), count):
                    if (found := full.sum(axis=axes)).size == len(e.numeric):
                        which = f"axis {axes[0]}" if count == 1 else f"axes {axes}"
                        said = f"summed over the wrong axis of the result: {which}"
                        yield "broadcast", said, outside + found.reshape(-1)


def spread_elsewhere(e: Evidence) -> Any:
    """The cotangent of a reduction, repeated along another axis than the one that was reduced."""
    shape, g = e.inputs[e.which].shape, e.single
    if e.complete and g.size and g.ndim < len(shape):
        for axes in combinations(range(len(shape)), len(shape) - g.ndim):
            wide = np.expand_dims(g, axes)
            if all(n in (1, m) for n, m in zip(wide.shape, shape, strict=True)):
                over = ", ".join(map(str, axes))
                said = f"the cotangent g is repeated along axis {over} instead: is keepdims missing?"
                if (np.count_nonzero(e.slopes, axis=1) <= 1).all():
                    yield "broadcast", said, e.slopes.sum(1) * e.at(np.broadcast_to(wide, shape))
                said = f"spread evenly along axis {over}: it belongs to some elements only"
                mean = e.full(e.numeric).mean(axes, keepdims=True)
                yield "broadcast", said, e.at(np.broadcast_to(mean, shape))


def other_cotangent(e: Evidence) -> Any:
    """The right rule for another cotangent than the one that arrived."""
    g, array = e.cotangent, e.single
    for axis in range(array.ndim if array.size else 0):
        said = f"the cotangent g is used in reverse order along axis {axis}"
        yield "permuted", said, e.slopes @ np.flip(array, axis).reshape(-1)
    if array.ndim >= 2:
        said = "the cotangent g is transposed before it is used"
        yield "transposed", said, e.slopes @ array.swapaxes(-1, -2).reshape(-1)
    if (len(e.numeric) > 1 or e.fresh) and array.shape == e.inputs[e.which].shape and not e.mixed:
        yield "missing factor", "the cotangent g is passed on as it is: the derivative itself is missing", e.at(array)
    yield "cotangent ignored", "the cotangent g is ignored: right only if g is 1 everywhere", e.slopes.sum(1)
    yield "cotangent ignored", "the cotangent g is replaced by its mean", e.slopes.sum(1) * g.mean()
    yield "cotangent ignored", "the cotangent g is replaced by its sum", e.slopes.sum(1) * g.sum()
    yield "cotangent ignored", "the cotangent g counts twice: g² for g", e.slopes @ (g * g)
    mixing = (np.count_nonzero(e.slopes, axis=0) > 1).any()
    if e.complete and mixing and e.slopes.shape[0] == e.slopes.shape[1] > 1:
        yield "off-diagonal", "only the diagonal of the Jacobian is used", np.diag(e.slopes) * g


def sums_along_an_axis(e: Evidence) -> Any:
    """The inner sum of softmax or log_softmax, taken along another axis, or of something else."""
    x, y = e.inputs[e.which], e.outputs[0] if e.outputs else np.zeros(0)
    if len(e.outputs) == 1 and y.shape == x.shape:
        g, p = e.single, np.exp(np.minimum(y, 100.0))
        yield "swapped", "in log_softmax's rule y stands for exp(y)", e.at(g - y * g.sum(-1, keepdims=True))
        for axis in range(x.ndim):
            said = f"the sum of softmax's rule is taken along axis {axis}"
            yield "broadcast", said, e.at(y * (g - (g * y).sum(axis, keepdims=True)))
            yield "broadcast", said, e.at(g - p * g.sum(axis, keepdims=True))


def products(e: Evidence) -> Any:
    """A product of matrices, their transposes and inverses, in which another one is transposed than ought to be."""
    shape = e.inputs[e.which].shape
    if not e.complete or len(shape) < 2 or len(e.outputs) != 1:
        return
    named = {f"x{e.subject.where[k]}": a for k, a in enumerate(e.inputs)} | {"y": e.outputs[0]}
    for name, a in [*named.items()]:
        with suppress(np.linalg.LinAlgError):  # no square matrix, or a singular one
            named[f"inv({name})"] = np.linalg.inv(a)
    g = e.single[..., None, None] * np.eye(shape[-1]) if e.single.shape == shape[:-2] else e.single
    atoms, seeds = ({k: a for n, b in d.items() if b.ndim >= 2 for k, a in turned(n, b)} for d in (named, {"g": g}))
    found: dict[bool, list[str]] = {True: [], False: []}
    for factors in [(atoms, seeds), (seeds, atoms), (atoms, seeds, atoms)]:
        for names in product(*factors):
            with suppress(ValueError):
                made = reduce(np.matmul, [d[n] for d, n in zip(factors, names, strict=True)])
                for sign, signed in (("", made), ("-", -made)) if made.shape == shape else ():
                    for right, wanted in ((True, e.numeric), (False, e.analytic)):
                        found[right] += [sign + " @ ".join(names)] * same(e.at(signed), wanted)
    if found[True] and found[False]:
        yield "transposed", f"it is {found[False][0]}; the derivative is {found[True][0]}", None


def turned(name: str, a: Array) -> Iterator[tuple[str, Array]]:
    """A matrix, or a stack of them, and its transposes."""
    yield name, a
    yield f"{name}ᵀ", a.swapaxes(-1, -2)
    if a.ndim > 2:
        yield f"{name}.T (all axes)", a.T


def another_operand(e: Evidence) -> Any:
    """The right rule for another operand that is reversed, as in a convolution whose kernel is not flipped."""
    for k, array in enumerate(e.inputs):
        for axis in range(array.ndim) if k != e.which and e.complete else ():
            changed = [np.flip(a, axis) if n == k else a for n, a in enumerate(e.inputs)]
            said = f"it is right for input {e.subject.where[k]} reversed along axis {axis}: a kernel not flipped?"
            yield "permuted", said, e.jacobian(e.which, changed) @ e.cotangent


def another_order(e: Evidence) -> Any:
    """The right numbers in wrong places."""
    if e.complete and same(np.sort(e.analytic), np.sort(e.numeric)) and not same(e.analytic, e.numeric):
        yield "permuted", "the right numbers in the wrong places", None


def added_constant(e: Evidence) -> Any:
    """The same number too much everywhere."""
    offset = float(np.mean(e.analytic - e.numeric)) if len(e.numeric) else 0.0
    if len(e.numeric) > 1 and np.abs(e.analytic - e.numeric - offset).max() <= 1e-3 * abs(offset):
        yield "offset", f"the same number, {offset:.4g}, is added to every element", None


def along_an_axis(e: Evidence) -> Any:
    """What is missing lies along 1, x or y: a mean, a norm or the sum of a softmax that was held constant."""
    if not e.complete or not e.outputs or e.mixed or same(e.analytic, e.numeric):
        return
    x = e.inputs[e.which]
    usual = [np.ones(x.shape), x, *[y for y in e.outputs[:1] if y.shape == x.shape]]
    for over, axes in e.axes():
        count = int(np.prod([x.shape[k] for k in axes]))
        rule, right, *basis = (
            np.moveaxis(a, axes, range(-len(axes), 0)).reshape(-1, count)
            for a in (e.full(e.analytic), e.full(e.numeric), *usual)
        )
        gap, factor = rule - right, (rule * right).sum(1, keepdims=True) / (right * right).sum(1, keepdims=True)
        if 1 < len(gap) < e.numeric.size and same(factor * right, rule):
            yield "factor", f"off by a factor that is the same {over}, of another sum or norm, say", None
        for names, which in (("mean", [0]), ("norm", [1]), ("norm, or a sum", [2]), ("mean and a norm", [0, 1])):
            if max(which) < len(basis):
                columns = np.stack([basis[k] for k in which], axis=-1)
                left, all_of_it = (
                    np.abs(a - (columns @ (np.linalg.pinv(columns) @ a[..., None]))[..., 0]).max() for a in (gap, right)
                )
                if left <= SAME * e.largest < all_of_it:
                    yield "missing term", f"a {names} {over} is held constant, or not subtracted", None


def in_the_matrix(e: Evidence) -> Any:
    """The Jacobian that the rule has, beside the numeric one."""
    if len(e.cotangent) > MOST_OUTPUTS:
        return
    rule = np.stack([e.rule(unit) for unit in np.eye(len(e.cotangent))], axis=1)
    if not same(e.analytic, rule @ e.cotangent):
        yield "cotangent ignored", "it is not linear in the cotangent g: is g clipped, or a power or abs of it?", None
    elif same(np.sort(rule, None), np.sort(e.slopes, None)) and not same(rule, e.slopes):
        yield "permuted", "the right numbers in the wrong places", None


def few_digits(e: Evidence) -> Any:
    """Nearly right everywhere."""
    if (np.abs(e.analytic - e.numeric) <= 0.02 * np.abs(e.numeric) + 1e-3 * e.largest).all():
        said = "it is right to a few digits only: is something computed in float32, rounded, or an approximation?"
        yield "not float64", said, None


USUAL: tuple[Callable[[Evidence], Any], ...] = (
    nothing_arrives, constant_factor, sign_of_some, spread_elsewhere, transposed, lost_sum, another_inputs,
    added_constant, along_an_axis, other_cotangent, sums_along_an_axis, products, another_operand, factors_and_terms,
    another_order,
)  # fmt: skip
LESS_USUAL: tuple[Callable[[Evidence], Any], ...] = (in_the_matrix, few_digits)


def few(evidence: Evidence, rtol: float) -> Finding | None:
    """Right but for some elements: used several times, equal to another, or just those."""
    analytic, numeric = evidence.analytic, evidence.numeric
    wrong = np.abs(analytic - numeric) > rtol * evidence.largest
    wrong |= [element == evidence.worst for element in evidence.elements]
    if not wrong.any():
        return None
    uses = np.count_nonzero(evidence.slopes, axis=1)
    terms = evidence.slopes * evidence.cotangent
    one_use = np.abs(terms - analytic[:, None]).min(axis=1, initial=np.inf) <= SAME * np.abs(numeric).max()
    if (uses[wrong] > 1).all() and one_use[wrong].all():
        return "repeated index", "only one use counts of an element used several times: overwritten, not accumulated"
    everything = np.concatenate([a.reshape(-1) for a in evidence.inputs])
    values = evidence.at(evidence.inputs[evidence.which])
    tied = np.array([np.count_nonzero(everything == value) > 1 for value in values])
    if tied[wrong].all() and not tied[~wrong].any():
        return "tie", "wrong only where two elements are equal: how does the rule share a tie?"
    if (~wrong & (numeric != 0)).any() and 3 * wrong.sum() <= 2 * len(wrong):
        places = ", ".join(str(e) for e, bad in zip(evidence.elements, wrong, strict=True) if bad)
        places = places[:60] + " ..." * (len(places) > 60)
        return "few elements", f"right but for few elements: {places} (an edge, a special case, an index?)"
    return None
