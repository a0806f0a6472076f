"""The battery looks where rules go wrong, and does not accuse what is right there."""

import re
from functools import partial

import numpy as np
import pytest
from kit_rules import RIGHT, SPECIAL

import tinygrad_rnn as tg
from tinygrad_rnn.testing import CheckError, GradcheckError, InconclusiveError, check_primitive, gradcheck
from tinygrad_rnn.testing.operands import examples_of, statics_of
from tinygrad_rnn.testing.special import special_points


def at_special_points(op, **options):
    """The check by itself, on the two examples on which the battery has it."""
    examples = examples_of(
        op, options.get("operands"), options.get("shapes"), statics_of(options.get("static")), None, 0
    )
    found = [next((e for e in examples if not e.empty and e.arrays[0].ndim == rank), None) for rank in (1, 2)]
    return sum(special_points(e, np.random.default_rng(0)) for e in found if e is not None)


@pytest.mark.parametrize("name", RIGHT)
def test_right_rules_are_not_accused_at_special_points(plant, name):
    forward, rules, options = RIGHT[name]
    assert at_special_points(plant(forward, *rules), **options) > 5


@pytest.mark.parametrize("name", SPECIAL)
def test_rules_that_are_wrong_at_special_points_only_are_found(plant, name):
    forward, rules, options = SPECIAL[name]
    op = plant(forward, *rules)
    with pytest.raises(GradcheckError, match=r"at a special point|at element|moved together"):
        at_special_points(op, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_right_but_awkward_rules_pass_the_battery(plant, name):
    forward, rules, options = RIGHT[name]
    assert check_primitive(plant(forward, *rules), **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECIAL)
def test_nothing_else_in_the_battery_sees_them(plant, name):
    forward, rules, options = SPECIAL[name]
    with pytest.raises(CheckError) as caught:
        check_primitive(plant(forward, *rules), **options)
    assert set(caught.value.failed) == {"special points"} and not caught.value.inconclusive


def test_a_kink_is_reported_and_passed():
    report = check_primitive("abs")
    assert report.notes == ("a kink at 0, where a rule may give any slope between",) and "; a kink at 0" in str(report)
    assert check_primitive("tanh").notes == ()


def test_a_tie_that_is_not_shared_is_called_one(plant):
    """Two in one window of a pool, and both get everything."""

    def pool(x):
        return x.reshape(*x.shape[:-1], -1, 2)

    op = plant(lambda x: pool(x).max(-1), lambda g, y, x: ((pool(x) == y[..., None]) * g[..., None]).reshape(x.shape))
    with pytest.raises(CheckError, match="a tie") as caught:
        check_primitive(op, shapes=[(4,), (2, 4)], order=1)
    assert {name: error.cause for name, error in caught.value.failed.items()} == {"special points": "tie"}


@pytest.mark.parametrize(
    ("forward", "rules", "options", "line"),
    [
        (np.maximum, [lambda g, y, a, b: g * (a >= b), lambda g, y, a, b: g * (a <= b)], {},
         r"gradcheck\(lambda x: OP\(x, x\), np\.array\(\[1\.0\]\)\)"),
        (lambda x, *, k: k * x.max(-1), [lambda g, y, x, *, k: k * g[..., None] * (k * x == y[..., None])],
         {"static": {"k": 2}}, r"gradcheck\(lambda t: partial\(OP, k=2\)\(np\.array\(\[.*\]\) \+ t \* np\.array\(.*"),
        (lambda x: x.min(-1), [lambda g, y, x: g[..., None] * (x == y[..., None])], {"shapes": [(3,), (2, 2)]},
         r"gradcheck\(lambda t: OP\(np\.array\(\[.*\]\) \+ t \* np\.array\(.*"),
        (lambda x: x.max(), [lambda g, y, x: g * (x == y)], {"shapes": [(99,)]}, None),
    ],
)  # fmt: skip
def test_the_line_of_a_tie_has_equal_elements_that_are_moved_together(plant, forward, rules, options, line):
    op = plant(forward, *rules)
    with pytest.raises(CheckError) as caught:
        check_primitive(op, order=1, **options)
    assert caught.value.failed["special points"].cause == "tie"
    rows = [row for row in str(caught.value).splitlines() if row.startswith("  again: ")]
    assert len(rows) == (line is not None), "it would be long"
    for row in rows:
        pasted = row.removeprefix("  again: ")
        assert re.fullmatch(line.replace("OP", re.escape(f"tg.OPS['{op.name}']")), pasted)
        with pytest.raises(GradcheckError, match="constant factor of 2") as caught:
            eval(pasted, {"gradcheck": gradcheck, "tg": tg, "np": np, "partial": partial})
        assert not isinstance(caught.value, InconclusiveError)


def test_values_that_are_vague_are_not_held_against_small_slopes(plant):
    """An approximation that is off by 1e-7, and so is its slope, where that of tanh is nothing."""
    op = plant(lambda x: np.tanh(x) + (1e-7 * np.sin(x)).astype(x.dtype), lambda g, y, x: g * (1 - np.tanh(x) ** 2))
    assert check_primitive(op, order=1, rtol=1e-4)
    with pytest.raises(CheckError, match="special point"):
        check_primitive(op, order=1, rtol=1e-8)


def test_a_domain_is_kept(plant):
    """Where the operation is not meant for them, points are not looked at."""
    forward, rules, _ = SPECIAL["zero beyond 20"]
    assert check_primitive(plant(forward, *rules), domain=(-5, 5))


def test_stacks_of_matrices_are_checked_where_the_rule_takes_them(plant):
    def product(share):
        def left(g, y, a, b):
            return g @ np.swapaxes(b, -1, -2)

        def right(g, y, a, b):
            return np.swapaxes(a, -1, -2) @ g * (1.0 if a.ndim < 3 else share)

        return plant(np.matmul, left, right)

    assert "shapes (2, 2, 3), (2, 3, 4)" in check_primitive(product(1.0), order=1).examples
    with pytest.raises(CheckError, match=r"constant factor of 0.5"):
        check_primitive(product(0.5), order=1)


def test_what_a_forward_keeps_outside_is_seen_at_the_second_call(plant):
    kept = {}

    def forward(x):
        kept["y"] = np.tanh(x)
        return kept["y"]

    def rule(g, y, x):
        return g * (1 - (kept["y"] if kept["y"].shape == y.shape else y) ** 2)

    with pytest.raises(CheckError, match="is what a rule reads kept outside the call") as caught:
        check_primitive(plant(forward, rule), order=1)
    assert caught.value.failed["first order"].cause == "stale"


@pytest.mark.parametrize(
    ("forward", "rules"),
    [
        (np.maximum, [lambda g, y, a, b: g * (a >= b), lambda g, y, a, b: g * (a < b)]),
        (lambda x: np.sort(x, -1), [lambda g, y, x: np.take_along_axis(g, x.argsort(-1).argsort(-1), -1)]),
        (lambda x: x.max(-1), [lambda g, y, x: g[..., None] * np.eye(x.shape[-1])[x.argmax(-1)]]),
    ],
)
def test_a_kink_at_a_tie_is_not_said_to_be_at_a_number(plant, forward, rules):
    report = check_primitive(plant(forward, *rules), order=1)
    assert report.notes == ("a kink where elements are equal, where a rule may give any slope between",)


def test_what_float32_cannot_hold_is_no_mistake_of_a_rule(plant):
    assert check_primitive(plant(lambda x: 1e200 * np.sin(x), lambda g, y, x: 1e200 * g * np.cos(x)), order=1)
