"""Options that are words or types of floats: what is one of them is taken, and nothing else."""

import numpy as np
import pytest

from tinygrad_rnn.arguments import ArgumentError, float_type, one_of


@pytest.mark.parametrize("choices", [["a", "b"], {"a": 1, "b": 2}, iter("ab")], ids=["list", "dict", "iterator"])
def test_a_word_is_one_of_some_and_nothing_else_is(choices):
    choices = [*choices]
    assert one_of("mode", "b", iter(choices)) == "b"
    for wrong in ("c", "ab", np.array(["a", "b"]), np.array("a"), ["a"], None, 1):
        with pytest.raises(ArgumentError, match=r"give one of 'a', 'b'$"):
            one_of("mode", wrong, iter(choices))


@pytest.mark.parametrize("dtype", [np.float32, "f8", "float32", np.dtype(">f4"), float])
def test_a_type_of_floats_is_in_the_order_of_this_machine(dtype):
    found = float_type("dtype", dtype)
    assert found == np.dtype(dtype).newbyteorder("=") and found.isnative


@pytest.mark.parametrize("dtype", [int, "f2", np.float16, complex, "no such type", object, 7])
def test_another_type_is_refused(dtype):
    with pytest.raises(ArgumentError, match=r"^dtype=.*: give float32 or float64$"):
        float_type("dtype", dtype)
