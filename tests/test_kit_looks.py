"""What the battery looks at: shapes, domains and special points, as the forward function of a rule sees them."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.testing import CheckError, check_primitive, operands
from tinygrad_rnn.testing.operands import examples_of, statics_of
from tinygrad_rnn.testing.special import special_points


def examples(op, rng=0, **given):
    kinds = (given.get(name) for name in ("operands", "shapes"))
    return examples_of(op, *kinds, statics_of(given.get("static")), given.get("domain"), rng)


def shapes_of(op, **given):
    return [tuple(a.shape for a in e.arrays) for e in examples(op, **given)]


def rule(g, y, *xs, **static):
    return g


# Shapes


def test_an_operation_on_elements_is_tried_on_every_rank_and_on_nothing(plant):
    shapes = [s for (s,) in shapes_of(plant(np.tanh, rule))]
    assert {len(s) for s in shapes} == {0, 1, 2, 3, 4} and len(shapes) == 10
    assert shapes[0] == (3,), "the simplest that can fail first"
    assert sorted(s for s in shapes if 0 in s) == [(0,), (2, 0)]
    matrices = [s for s in shapes if len(s) == 2 and all(s)]
    assert {np.sign(n - m) for n, m in matrices} == {0, -1} and any(n == 1 < m for n, m in matrices)
    assert {tuple(n > 1 for n in s) for s in shapes if len(s) > 2} == {
        (True, True, True), (True, True, False), (False, True, False, True)
    }  # fmt: skip
    assert max(max(s, default=0) for s in shapes) == 3 and max(np.prod(s) for s in shapes) == 9


@pytest.mark.parametrize("reduce", [lambda x: x.sum(-1), lambda x: np.sqrt((x * x).sum(0)), lambda x: x - x.mean(0)])
def test_a_reduction_is_meant_for_neither_scalars_nor_nothing(plant, reduce):
    shapes = [s for (s,) in shapes_of(plant(reduce, rule))]
    assert len(shapes) == 7 and all(s and all(s) for s in shapes) and {len(s) for s in shapes} == {1, 2, 3, 4}


def test_what_takes_square_matrices_only_has_several(plant):
    assert shapes_of(plant(lambda a: np.linalg.inv(a), rule)) == [((3, 3),), ((2, 2, 2),), ((2, 2),), ((2, 3, 3),)]
    assert shapes_of(plant(lambda a: np.linalg.inv(a) if a.ndim == 2 else 1 / 0, rule)) == [((3, 3),), ((2, 2),)]
    assert ((2, 2),) not in shapes_of(plant(lambda a: a @ np.ones((a.shape[-1], 2)), rule))


def test_two_operands_are_equal_or_one_is_stretched(plant):
    pairs = shapes_of(plant(np.add, rule, rule))
    assert len(set(pairs)) == len(pairs) and sum(a == b for a, b in pairs) == 10
    apart = [(a, b) for a, b in pairs if a != b]
    assert {(b, a) for a, b in apart} == {*apart}, "on either side"
    assert ((2, 1), (3,)) in apart and ((2, 1, 3), (2, 1)) in apart, "both at once"
    assert any(a[-2:] == (3, 3) and b == (3,) for a, b in apart), "where a sum along the wrong axis fits"
    assert {len(a) - len(b) for a, b in apart} == {-3, -2, -1, 0, 1, 2, 3}
    three = shapes_of(plant(lambda a, b, c: a + b * c, rule, rule, rule))
    for k in (0, 1):
        assert [s for s in three if s[k] != s[2] and s[1 - k] == s[2]], "each of three against the others"
    assert len(three) == 10 + 2 * len(apart)


def test_products_of_matrices_layers_and_lists(plant):
    products = shapes_of(plant(np.matmul, lambda g, y, a, b: g @ np.swapaxes(b, -1, -2), lambda g, y, a, b: g))
    plain, stacks = [p for p in products if len(p[0]) == len(p[1]) == 2], [p for p in products if max(map(len, p)) > 2]
    assert plain == [((2, 3), (3, 4)), ((2, 2), (2, 2)), ((3, 3), (3, 3))] and len(stacks) == 8
    assert {(len(a) - 2, len(b) - 2) for a, b in stacks} == {(1, 1), (1, 0), (0, 1), (2, 2)}
    assert ((1, 2, 2, 3), (2, 1, 3, 4)) in stacks, "stacks that stretch each other"
    assert ((2, 3), (4, 3)) in shapes_of(plant(lambda a, b: a @ b.T, rule, rule))
    layers = shapes_of(plant(lambda x, w, b: x @ w.T + b, rule, rule, rule))
    assert layers == [((2, 3), (2, 3), (2,)), ((3, 3), (3, 3), (3,)), ((2, 3), (4, 3), (4,))]
    joined = shapes_of(tg.OPS["concatenate"], static={"axis": 0})
    assert {len(s) for s in joined} == {1, 2, 3} and all(s[0] for s in joined)
    assert all(len(set(s)) == 1 for s in joined) and len(joined) == 27
    inner = shapes_of(plant(lambda a, b: (a * b).sum() if a.ndim == 1 and len(a) else 1 / 0, rule, rule))
    assert inner == [((3,), (3,))], "no product of matrices, and nothing is stretched"


def test_each_combination_of_shapes_and_static_parameters_is_an_example(plant):
    op = plant(lambda x, *, s, t=1: s * x + t, rule)
    assert shapes_of(op, shapes=[(2,), [3], ()], static=[{"s": 1}]) == [((2,),), ((3,),), ((),)]
    found = examples(op, shapes=[(2,), (3,)], static=[{"s": 1.0}, {"s": 2.0}])
    assert [str(e) for e in found] == [f"shapes ({n},), s={s}" for n in (2, 3) for s in (1.0, 2.0)]
    assert str(examples(plant(np.add, rule, rule), shapes=[((2,), ())])[0]) == "shapes (2,), ()"
    assert len({e.arrays[0][0] for e in found}) == 4, "each has numbers of its own"
    same, other = (examples(op, rng=n, shapes=[(2,)], static={"s": 1.0})[0].arrays[0] for n in (0, 1))
    assert np.array_equal(same, found[0].arrays[0]) and not np.array_equal(same, other)
    with pytest.raises(ValueError, match=r"has static parameters: pass static=\{'s': ...\}"):
        examples(op, static=[{"s": 1}, {"t": 1}])


# Domains


@pytest.mark.parametrize(
    ("forward", "low", "high"),
    [
        (np.tanh, -2, 2), (np.log, 0.25, 2), (np.arctanh, -0.75, 0.75), (np.arccosh, 1.25, 3),
        (lambda x: np.log(x) + np.arctanh(x), 0.125, 0.875),
    ],
)  # fmt: skip
def test_the_domain_is_the_widest_usual_one_in_which_results_are_finite(plant, forward, low, high):
    with np.errstate(all="ignore"):
        for found in (examples(plant(forward, rule)), examples(plant(lambda a, b: forward(a) + b, rule, rule))):
            numbers = np.concatenate([e.arrays[0].ravel() for e in found])
            assert low <= numbers.min() < low + 0.2 and high - 0.2 < numbers.max() <= high


def test_each_operand_has_a_domain_of_its_own_if_it_needs_one(plant):
    op = plant(lambda a, b: np.log(a) + np.arccosh(b) + np.log(2 - b), rule, rule)
    with np.errstate(all="ignore"):
        found = examples(plant(lambda a, b: np.arctanh(a) + np.arccosh(b), rule, rule))
        a, b = (np.concatenate([e.arrays[k].ravel() for e in found]) for k in (0, 1))
        assert np.abs(a).max() < 1 < b.min()
        with pytest.raises(ValueError, match="not finite anywhere that was tried: pass domain="):
            examples(op)
        given = examples(op, domain=[(1, 2), (1.5, 1.75)])
        with pytest.raises(ValueError, match="the results are not finite in its domain"):
            examples(op, domain=[(-2, -1), (1.5, 1.75)])
    a, b = (np.concatenate([e.arrays[k].ravel() for e in given]) for k in (0, 1))
    assert 1 <= a.min() < a.max() <= 2 and 1.5 <= b.min() < b.max() <= 1.75
    for e in examples(plant(np.add, rule, rule), domain=(5, 6)):
        assert all(((x >= 5) & (x <= 6)).all() for x in e.arrays)


def test_what_the_rules_refuse_and_the_function_accepts_is_left_out_only_of_stacks(plant):
    def refuses(g, y, a, b):
        if a.ndim > 2 or b.ndim > 2:
            raise ValueError("matrices only")
        return g @ b.T

    assert all(max(map(len, s)) == 2 for s in shapes_of(plant(np.matmul, refuses, refuses)))
    asked = shapes_of(plant(np.matmul, refuses, refuses), shapes=[((2, 2, 3), (3, 4))])
    assert asked == [((2, 2, 3), (3, 4))], "what was asked for is not left out"


# Operands that are given


def test_how_many_examples_given_operands_are(plant):
    op, two = plant(np.exp, rule), plant(np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)
    x = np.array([1.0, 2.0])
    assert len(examples(op, operands=x)) == 1 and len(examples(op, operands=[x, 2 * x])) == 2
    assert len(examples(op, operands=(x,))) == 1 and len(examples(two, operands=(x, 3.0))) == 1
    assert len(examples(two, operands=[(x, x), {"b": x, "a": x}])) == 2
    drawn = examples(two, operands=(operands.probability(2), x))
    assert len(drawn) == 3 and len({e.arrays[0][0] for e in drawn}) == 3, "of what is drawn there are three"
    assert len(examples(op, operands=operands.spd(2), static=[{}, {}])) == 6
    assert all(e.given for e in drawn) and not examples(op, shapes=[(2,)])[0].given
    first = examples(two, operands={"a": x, "b": 3 * x})[0]
    assert np.array_equal(first.arrays[1], 3 * x) and examples(op, operands=np.float32([1]))[0].arrays[0].dtype == float
    assert examples(two, operands=(x, np.array([1, 2])))[0].floats == [0]
    for wrong in ({"a": x}, {"a": x, "b": x, "c": x}, {"a": x, "c": x}):
        with pytest.raises(ValueError, match="has operands a, b, not a"):
            examples(two, operands=wrong)


def test_constructors_are_called_as_they_are_written_and_draw_from_all_of_their_set():
    every = {
        "symmetric(3)": operands.symmetric(3), "spd(2)": operands.spd(2), "triangular(3, True)": operands.triangular(3),
        "triangular(2, False)": operands.triangular(2, lower=False), "simplex(2, 3)": operands.simplex(2, 3),
        "probability(200,)": operands.probability(200), "ordered(200,)": operands.ordered(200),
        "integers(200,)": operands.integers(200, low=1, high=4),
    }  # fmt: skip
    assert [repr(o) for o in every.values()] == [*every]
    rng = np.random.default_rng(3)
    p, rises, k = (every[name].draw(rng) for name in ("probability(200,)", "ordered(200,)", "integers(200,)"))
    assert 0.1 <= p.min() < 0.15 and 0.85 < p.max() <= 0.9
    assert 0.25 <= np.diff(rises).min() < 0.3 and 0.95 < np.diff(rises).max() <= 1 and -0.75 <= rises[0] <= 0
    assert {*k.tolist()} == {1, 2, 3} and {*operands.integers(200).draw(rng).tolist()} == {0, 1, 2}
    for _ in range(20):
        lower = every["triangular(3, True)"].draw(rng)
        assert ((np.diag(lower) >= 1) & (np.diag(lower) <= 2)).all() and lower[2, 0] != 0
        assert every["triangular(2, False)"].draw(rng)[0, 1] != 0
        share = every["simplex(2, 3)"].draw(rng)
        assert share.min() > 1 / 7 and share.max() < 0.61
    for name in ("symmetric(3)", "spd(2)"):
        drawn = np.array([every[name].draw(rng) for _ in range(50)])
        assert np.abs(drawn[:, 0, 1]).min() > 0 and {*np.sign(drawn[:, 0, 1])} == {-1, 1}


# Special points


def points_looked_at(plant, forward, *rules, **given):
    """Operands of every call of the forward function while special points are looked at."""
    seen = []

    def watched(*xs, **static):
        seen.append([np.array(x) for x in xs])
        return forward(*xs, **static)

    op = plant(watched, *rules)
    for e in examples(op, **given):
        seen.clear()
        special_points(e, np.random.default_rng(0))
        yield e, [*seen]


USUAL = {0.0, 1.0, -1.0, 2.0, -2.0, 20.0, -20.0, 800.0, -800.0}
EXTREME = {1e300, -1e300, 1e-300, -1e-300, 5e-324}


def test_the_special_points_of_an_operation_on_elements(plant):
    ((_, seen),) = points_looked_at(plant, np.cbrt, lambda g, y, x: g / (3 * y * y), shapes=[(3,)])
    here = {float(x[0]) for (x,) in seen if x.shape == (1,)}
    assert {*USUAL, *EXTREME} <= here and {k / 4 for k in range(-24, 25)} <= here
    assert any(np.signbit(x[0]) for (x,) in seen if x.shape == (1,) and x[0] == 0)
    far = np.array(sorted(x for x in here if 6 <= x < 2000))
    assert (far[1:] / far[:-1]).max() < 1.26 and far[-1] > 1000, "no room for a branch between them"
    assert {-x for x in here if abs(x) > 0.3} >= {x for x in here if abs(x) > 0.3 and abs(x) in USUAL}


def test_the_special_points_of_two_operands_are_all_pairs(plant):
    def right(g, y, a, b):
        return g * np.cos(a + b)

    ((_, seen),) = points_looked_at(plant, lambda a, b: np.sin(a + b), right, right, shapes=[((3,), (3,))])
    here = {(float(a[0]), float(b[0])) for a, b in seen if a.shape == (1,)}
    several = {0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 20.0, -20.0, 800.0, -800.0}
    assert {(a, b) for a in several for b in several} <= here
    assert {(x, 1.5) for x in EXTREME} | {(1.5, x) for x in EXTREME} <= here

    def three(g, y, a, b, c):
        return g * np.cos(a + b + c)

    op = (lambda a, b, c: np.sin(a + b + c), three, three, three)
    ((_, seen),) = points_looked_at(plant, *op, shapes=[((3,),) * 3])
    here = {tuple(float(x[0]) for x in xs) for xs in seen if xs[0].shape == (1,)}
    for k in range(3):
        assert several <= {row[k] for row in here if not {*row} & EXTREME}
        assert {tuple(x if i == k else 1.5 for i in range(3)) for x in EXTREME} <= here


def test_the_special_points_of_any_other_operation(plant):
    """In one element, in all of them, and whole numbers; of each operand, while the others stay."""
    found = points_looked_at(plant, lambda a, b: a @ b, lambda g, y, a, b: g @ b.T, lambda g, y, a, b: a.T @ g,
                             shapes=[((2, 2), (2, 2))])  # fmt: skip
    for e, seen in found:
        for k in (0, 1):
            rest = [xs[k] for xs in seen if np.array_equal(xs[1 - k], e.arrays[1 - k])]
            one = {float(x.flat[0]) for x in rest if np.array_equal(x.ravel()[1:], e.arrays[k].ravel()[1:])}
            assert USUAL <= one and {1e300, -1e300, 1e-300, -1e-300} & one
            everywhere = {float(x.flat[0]) for x in rest if len(np.unique(x)) == 1}
            assert {x for x in USUAL if abs(x) <= 20} <= everywhere and not {800.0, -800.0} & everywhere
            assert any(np.array_equal(x, np.round(3 * e.arrays[k])) for x in rest)


def test_special_points_stay_in_the_domain_and_its_bounds_belong_to_it(plant):
    looked = []
    op = plant(lambda x: looked.append(float(np.min(x))) or np.sin(x), lambda g, y, x: g * np.cos(x))
    check_primitive(op, shapes=[(3,)], domain=(-1, 20), order=1)
    assert {-1.0, 20.0} <= {*looked} and not {-2.0, -20.0, 800.0, -800.0} & {*looked}
    looked.clear()
    two = plant(lambda a, b: looked.append((float(a.min()), float(b.min()))) or a * b, lambda g, y, a, b: g * b,
                lambda g, y, a, b: g * a)  # fmt: skip
    check_primitive(two, shapes=[((3,), (3,))], domain=[(-1, 1), (0, 2)], order=1)
    whole = {(a, b) for a, b in looked if a % 1 == b % 1 == 0}
    assert {(-1, 0), (1, 1), (-1, 1)} <= whole and not [1 for a, b in whole if abs(a) > 1 or not 0 <= b <= 2]


def test_operands_that_are_given_are_looked_at_as_they_are(plant):
    x = np.array([0.25, 0.75])
    ((_, seen),) = points_looked_at(plant, np.sin, lambda g, y, x: g * np.cos(x), operands=x)
    assert all(np.abs(one[0] - x).max() < 0.01 for one in seen)


def test_kinks_are_noted_three_at_most_and_the_lowest_first(plant):
    def saw(x):
        return np.abs(x - np.round(x / 2) * 2)

    report = check_primitive(plant(saw, lambda g, y, x: g * np.sign(x - np.round(x / 2) * 2)), order=1)
    (note,) = report.notes
    assert note.startswith("a kink at ") and note.endswith(", where a rule may give any slope between")
    places = [float(part) for part in note.removeprefix("a kink at ").partition(", where")[0].split(", ")]
    assert len(places) == 3 and places == sorted(places) and all(p % 1 == 0 for p in places)
    with pytest.raises(CheckError, match=r"at a special point, at element \(0,\) = 2: analytic"):
        check_primitive(plant(np.square, lambda g, y, x: g * 2 * x * (1 + (np.asarray(x) == 2))), order=1)
