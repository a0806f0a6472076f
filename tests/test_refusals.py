"""What a refusal says: the option, the value that was given, and what would be right; and what needs none."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import arguments
from tinygrad_rnn.arguments import ArgumentError

RANGES = [
    (arguments.FINITE, math.inf, "a finite number"),
    (arguments.NOT_NEGATIVE, -1.0, "a finite number, zero or more"),
    (arguments.POSITIVE, 0.0, "a positive number"),
    (arguments.FROM_0_TO_1, 1.5, "a number from 0 to 1"),
    (arguments.BELOW_1, 1.0, "a number from 0 to below 1"),
]


@pytest.mark.parametrize("within, bad, words", RANGES, ids=[words for *_, words in RANGES])
def test_a_refusal_says_the_option_what_was_given_and_what_would_be_right(within, bad, words):
    with pytest.raises(ArgumentError) as told:
        arguments.number("rate", bad, within)
    assert str(told.value) == f"rate={bad!r}: give {words}"


@pytest.mark.parametrize("shown, kept", [(60, 60), (61, 57)])
def test_a_long_value_is_cut_in_a_refusal(shown, kept):
    text = "x" * (shown - 2)
    told = str(arguments.refusal("name", text, "less")).removeprefix("name=").removesuffix(": give less")
    assert told == (repr(text) if kept == shown else repr(text)[:kept] + "...")


def test_lengths_that_are_refused_are_told_how_many_and_how_long():
    with pytest.raises(ArgumentError, match=r": give 2 whole numbers from 1 to 5, one for each sequence$"):
        tg.RNN(2, 3, rng=0)(np.ones((5, 2, 2)), lengths=[9, 1])


def test_whole_numbers_and_arrays_that_are_refused_are_told_their_bounds():
    for call, words in (
        (lambda: arguments.wholes("lags", [1, -1]), "lags=-1: give a whole number, at least 0"),
        (lambda: arguments.wholes("lags", 3), "lags=3: give whole numbers, each at least 0"),
        (
            lambda: arguments.numbers("bias", "a", (3,)),
            "bias='a': give a finite number, or an array of them of shape (3,)",
        ),
    ):
        with pytest.raises(ArgumentError) as told:
            call()
        assert str(told.value) == words
    assert arguments.wholes("lags", [0, 2]) == (0, 2)


@pytest.mark.parametrize(
    "name, nothing, something",
    [
        ("order", "C", "F"),
        ("where", True, False),
        ("casting", "same_kind", "unsafe"),
        ("subok", False, True),
    ],
)
def test_what_changes_nothing_may_be_given_to_numpy_and_what_would_is_refused(name, nothing, something):
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    for value in (nothing, None):
        assert np.add(x, x, **{name: value}).tolist() == [2.0, 4.0]
    with pytest.raises(TypeError, match=f"takes no {name}="):
        np.add(x, x, **{name: something})
