"""What the kit draws from and looks at, and how it words things: the tables themselves, without a check of a rule."""

from fractions import Fraction

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.testing import CheckError, InconclusiveError
from tinygrad_rnn.testing.again import name_of, written
from tinygrad_rnn.testing.cells import _Subject
from tinygrad_rnn.testing.expressions import SIMPLE
from tinygrad_rnn.testing.operands import DOMAINS, LAYERS, MATRICES, ONE, STACKS, STRETCHED, _draw
from tinygrad_rnn.testing.oracles import STEPS, Estimate, steps_at
from tinygrad_rnn.testing.special import EXTREMES, POINTS, SCAN, SEVERAL

TWO = [(), (1,), (3,), (2, 1), (2, 3)]


def kind(shape):
    """Of each of two axes: there, one element long, or missing."""
    return tuple("1" if n == 1 else "n" for n in shape)


def test_shapes_fit_each_other_and_none_stands_twice():
    for table in (ONE, STRETCHED, MATRICES, STACKS, LAYERS, DOMAINS):
        assert len(set(table)) == len(table)
    for a, b in STRETCHED:
        assert a != b and max(np.broadcast_shapes(a, b), default=0) <= 3
    sizes = [int(np.prod(np.broadcast_shapes(a, b))) for a, b in STRETCHED]
    assert sizes[-2:] == [0, 0] and all(sizes[:-2]), "one empty operand, on either side"
    # Every way in which two axes can be stretched: on the left or the right, from 1 or from nothing.
    ways = [(kind(a), kind(b)) for a in TWO for b in TWO if a != b]
    assert {(kind(a), kind(b)) for a, b in STRETCHED} >= {*ways}
    for pairs, rank in ((MATRICES, 2), (STACKS, 3)):
        for a, b in pairs:
            products = [right for right in (b, (*b[:-2], b[-1], b[-2])) if a[-1] == right[-2]]
            assert max(len(a), len(b)) >= rank and np.matmul(np.ones(a), np.ones(products[0])).size
    for x, w, bias in LAYERS:
        assert (np.ones(x) @ np.ones(w).T + np.ones(bias)).shape == (x[0], w[0])
    assert {len(shape) for shape in ONE} == {0, 1, 2, 3, 4} and all(low < high for low, high in DOMAINS)
    for table in (MATRICES, STACKS, LAYERS):  # where a transposed gradient still fits, and where it does not
        square = [a[-1] == a[-2] == b[-1] == b[-2] for a, b, *_ in table]
        assert any(square) and not all(square)


@pytest.mark.parametrize("low, high", DOMAINS)
def test_drawn_operands_are_in_the_domain_and_away_from_zero(low, high):
    for seed in range(20):
        wide, small = _draw([(40,), (2, 3)], [(low, high), (low, high)], seed)
        assert wide.shape == (40,) and small.shape == (2, 3) and len(set(wide)) == 40
        assert (wide >= low).all() and (wide <= high).all() and np.ptp(wide) > 0.7 * (high - low)
        assert np.abs(wide).min() >= 0.05 * (high - low) and (low > 0 or ((wide < 0).any() and (wide > 0).any()))


def test_simple_numbers_are_written_as_fractions():
    for value, said in SIMPLE.items():
        assert said == ("" if value == 1 else str(Fraction(value).limit_denominator(4)))


def test_between_two_points_there_is_no_room_for_a_branch():
    scan = np.array(sorted(SCAN))
    assert np.array_equal(scan, -scan[::-1]) and scan[-1] > 800
    near = scan[(scan >= 0) & (scan <= 6)]
    assert np.array_equal(np.diff(near), np.full(24, 0.25))
    far = scan[scan > 6]
    assert ((far[1:] / far[:-1] > 1.2) & (far[1:] / far[:-1] < 1.3)).all() and far[0] - 6 < 0.25
    for points in (POINTS, SEVERAL):
        assert {0.0, 1.0, -1.0, 20.0, -20.0, 800.0, -800.0} <= set(points)
    assert any(np.signbit(x) for x in POINTS if x == 0) and min(abs(x) for x in EXTREMES) == np.nextafter(0, 1)
    assert {abs(x) > 1e200 for x in EXTREMES} == {True, False} and not any(1e-200 < abs(x) < 1e200 for x in EXTREMES)


def test_steps_are_on_the_scale_of_the_number_and_of_one():
    assert [len(steps_at(x)) for x in (0.0, 0.01, 1.0, 1e4)] == [4, 6, 4, 7]
    assert list(STEPS) == sorted(STEPS, reverse=True) and len(set(STEPS)) == 4
    assert max(steps_at(1e9)) > 1e6 and min(steps_at(1e-300)) < 1e-302 and max(steps_at(-3.0)) < 0.03


def test_an_estimate_knows_nothing_of_which_it_was_not_told():
    assert Estimate(2.0) == Estimate(2.0, 0.0, None, 0.0, 0.0, 0.0) and Estimate(2.0).finite
    assert not Estimate(np.nan).finite and not Estimate(1.0, np.inf).finite
    assert Estimate(1.0, 0.04, motion=1.0).resolved and not Estimate(1.0, 0.06, motion=1.0).resolved
    assert Estimate(1.0, 0.06, rounding=0.03, motion=1.0).resolved


def test_how_a_function_and_its_operands_are_written():
    assert (
        name_of(tg.OPS["sum"], {"axis": (0,), "keepdims": True}) == "partial(tg.OPS['sum'], axis=(0, ), keepdims=True)"
    )
    assert name_of(tg.OPS["tanh"]) == "tg.OPS['tanh']" and name_of(lambda x: x) == "f" and name_of(np.sin) == "sin"
    assert written(np.array([[1.0, np.nan], [-np.inf, 2.0]])) == "np.array([[1.0, np.nan], [-np.inf, 2.0]])"
    assert written(np.array([1.0, 2.0], np.float32)) == "np.array([1.0, 2.0], np.float32)"
    assert written(np.array([1, 2])) == "np.array([1, 2])" and written(3) == "3"


@pytest.mark.parametrize("lstm", [False, True])
def test_what_is_differentiated_of_a_cell_has_a_name(lstm):
    cell = (tg.LSTMCell if lstm else tg.RNNCell)(2, 3, rng=0)
    subject = _Subject(cell, None, 3, 2, 0, None, None)
    states = ["the first state 0", "the first state 1"] if lstm else ["the first state"]
    assert subject.names() == [*states, "the inputs", *cell.parameters()] and len(subject.names()) == len(
        subject.points
    )


def test_a_report_of_checks_that_failed():
    doubt, wrong, other = InconclusiveError("a kink"), AssertionError("it is wrong"), ZeroDivisionError("oh")
    said = str(CheckError("op", {"a": doubt, "b": wrong, "c": other}, ["d", "e"], "a hint"))
    assert said.splitlines() == [
        "op: 3 of 5 checks failed",
        "  b: it is wrong",
        "  also failed: c, a",
        "  passed: d, e",
    ]
    only = CheckError("op", {"a": doubt}, [], "a hint")
    assert only.inconclusive and str(only).splitlines() == ["op: 1 of 1 checks are inconclusive", "  a: a kink"]
    assert str(CheckError("op", {"c": other}, [], "a hint")).splitlines()[1:] == [
        "  c: ZeroDivisionError: oh",
        "  a hint",
    ]
    assert str(CheckError("op", {"c": other}, [])).splitlines()[1:] == ["  c: ZeroDivisionError: oh"]
