"""The size of an array: of its numbers as they are, in whatever type they come, and of any size."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tinygrad_rnn.norms import json_ready, norm_of, range_of, statistics

floats = arrays.arrays(np.float32, st.integers(1, 6), elements=st.floats(-(2.0**100), 2.0**100, width=32))


@given(floats)
def test_numbers_of_float32_are_summed_in_float64(array):
    wide = array.astype(np.float64)
    exact = math.sqrt(math.fsum(x * x for x in wide.tolist()))
    for norm, expected in (("l2", exact), ("rms", exact / math.sqrt(array.size)), ("max", np.abs(wide).max())):
        assert norm_of(array, norm) == pytest.approx(expected, rel=1e-12)
    assert range_of(array) == range_of(wide) == (wide.min(), wide.max(), wide.mean())


@given(st.lists(st.integers(-99, 99), min_size=1, max_size=6), st.integers(-900, 900))
def test_a_power_of_two_changes_the_size_by_itself(numbers, power):
    array, factor = np.array(numbers, float), 2.0**power
    assert norm_of(array * factor) == norm_of(array) * factor


@pytest.mark.parametrize(
    "values", [[3, -4], np.array([3, -4], np.int8), [[True, False]], np.array([100, 100], np.int8)]
)
def test_whole_numbers_and_truth_values_have_a_size(values):
    assert norm_of(values) == np.linalg.norm(np.asarray(values, float))


@pytest.mark.parametrize("norm", ["l2", "rms", "max"])
def test_nothing_and_what_is_no_number(norm):
    assert norm_of(np.zeros(0), norm) == norm_of(np.zeros((2, 3)), norm) == 0.0
    assert norm_of([1.0, math.inf], norm) == math.inf and math.isnan(norm_of([1.0, math.nan], norm))


def test_statistics_are_those_of_a_table_and_of_json():
    assert statistics(np.array([3.0, -4.0])) == {"norm": 5.0, "min": -4.0, "max": 3.0, "mean": -0.5}
    assert statistics(np.zeros(0)) == {"norm": 0.0, "min": None, "max": None, "mean": None}
    said = statistics(np.array([np.inf, -np.inf]))
    assert said == {"norm": "inf", "min": "-inf", "max": "inf", "mean": "nan"} and json_ready(None) is None


@dataclass
class Found:
    slope: float
    rates: dict
    _cache: int = 0


def test_whatever_was_found_becomes_plain_data():
    found = Found(np.float32(0.5), {("forward", "h"): np.array([1.0, np.nan]), 3: (np.int64(2), [np.True_])}, 7)
    said = json_ready({"found": found, "none": None, "text": "inf"})
    assert said == {
        "found": {"slope": 0.5, "rates": {"h forward": [1.0, "nan"], "3": [2, [True]]}},
        "none": None,
        "text": "inf",
    }
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert json_ready({("", "h"): -np.inf}) == {"h": "-inf"}
