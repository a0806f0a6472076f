"""Indexing, kind by kind, against counting: an element's gradient is the sum of the cotangents where it went."""

from array import array
from collections import deque, namedtuple
from enum import IntEnum

import numpy as np
import pytest

import tinygrad_rnn as tg

SHAPE = (4, 3, 5)
At, Pair = namedtuple("At", "row column depth", defaults=(slice(1, 4),)), namedtuple("Pair", "first second")
Level = IntEnum("Level", "ONE TWO")


class Row(list):
    pass


class Picks(np.ndarray):
    pass


class Counted:
    def __index__(self):
        return 2


ROWS, COLUMNS = np.array([3, 0, 3, -1]), np.array([[0, 4], [4, -1]])
MASK = np.arange(60).reshape(SHAPE) % 7 < 3
INDICES = {
    "integer": 1,
    "negative integer": (-1, ..., -2),
    "slice": slice(1, 3),
    "step": (slice(None, None, 2), slice(None), slice(1, None, 3)),
    "backwards": slice(None, None, -1),
    "backwards by two": (slice(None, None, -2), slice(None), slice(None, None, -3)),
    "nothing": slice(2, 2),
    "Ellipsis": (0, ..., slice(1, 4)),
    "new axes": (None, 1, None, ..., None),
    "repeated": ROWS,
    "list": [0, 0, -4],
    "matrix of indices": COLUMNS % 3,
    "second axis": (slice(None), np.array([2, 2, 0])),
    "two side by side": (ROWS, np.array([1, 1, 1, 2])),
    "two side by side, behind": (slice(1, 3), np.array([1, 1]), np.array([4, 4])),
    "two apart": (ROWS, slice(None), np.array([4, 4, 4, 0])),
    "two apart, backwards": (ROWS, slice(None, None, -2), np.array([4, 4, 4, 0])),
    "two that broadcast": (ROWS[:, None], np.array([1, 1])),
    "integer and array apart": (0, slice(None), np.array([1, 1, 3])),
    "array and new axis": (ROWS, None, 1),
    "all three": (ROWS, np.array([1, 1, 1, 1]), np.array([2, 0, 2, 2])),
    "mask": MASK,
    "mask of the first axis": np.array([True, False, True, True]),
    "mask of two axes": (MASK[..., 0], slice(None, None, -1)),
    "mask and array": (slice(None), np.array([True, False, True]), np.array([1, 1])),
    "mask of all": np.ones(SHAPE, bool),
    "mask of all of an axis": (slice(None), np.ones(3, bool)),
    "mask of one": np.arange(60).reshape(SHAPE) == 7,
    "true": True,
    "false": False,
    "true of NumPy's": (np.True_, 1),
    "array without axes": (np.array(-1), slice(None), np.array(2)),
    "integer of NumPy's": (np.int64(2), np.int8(-1)),
    "mask of none": np.zeros(SHAPE, bool),
    "empty list": [],
    "named tuple": At(0, 1),
    "named tuple of arrays": At(ROWS, np.array([1, 1, 1, 2])),
    "named tuple of lists": At([0, 2, 0], [1, 1, 1], 3),
    "named tuple in a tuple": (Pair(0, 2), 1),
    "named tuple without items": namedtuple("Nothing", "")(),
    "subclass of list": Row([0, 2, 2]),
    "subclass of int": (Level.TWO, Level.ONE),
    "objects that count": (Counted(), ..., Counted()),
    "slice of what counts": slice(np.int8(1), Counted()),
    "range": (range(3), range(3)),
    "deque": deque([3, 3]),
    "array of Python's": array("i", [0, 2]),
    "narrow and unsigned": (np.array([3, 3], np.uint8), np.array([-1, 2], np.int8)),
    "uint64": np.array([3, 0], np.uint64),
    "subclass of an array": np.array([1, 1]).view(Picks),
    "read-only": np.broadcast_to(1, (2,)),
    "array without axes, of booleans": np.array(True),
    "empty lists": ([[]], 1),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize("uses", [1, 2, 11])
def test_gradient_is_what_arrives_at_each_element(index, uses):
    x = tg.Tensor(np.random.default_rng(0).normal(size=SHAPE), requires_grad=True)
    places = np.arange(x.size).reshape(SHAPE)[index]
    g = np.random.default_rng(1).uniform(0.5, 1.5, np.shape(places))
    y = x[index]
    np.testing.assert_array_equal(y.numpy(), x.numpy()[index])
    loss = sum(tg.sum(y_ * g) for y_ in [y, *(x[index] for _ in range(uses - 1))])
    expected = uses * np.bincount(np.ravel(places), np.ravel(g), x.size).reshape(SHAPE)
    np.testing.assert_allclose(tg.grad(loss, x).numpy(), expected, rtol=1e-14)
    (edge,) = (e for e in tg.gradient_graph(tg.sum(x[index] * g)).edges if e.operand == 0 and e.target == 1)
    np.testing.assert_allclose(edge.contribution, expected / uses, rtol=1e-15)


def test_constant_tensors_are_indices_as_their_arrays_are():
    x = tg.Tensor(np.random.default_rng(0).normal(size=SHAPE), requires_grad=True)
    for index in (ROWS, COLUMNS % 3, MASK, np.array(1), np.array([], int)):
        np.testing.assert_array_equal(x[tg.Tensor(index)].numpy(), x.numpy()[index])
    pairs = (tg.Tensor(ROWS), tg.Tensor(1), slice(tg.Tensor(1), None))
    np.testing.assert_array_equal(x[pairs].numpy(), x.numpy()[ROWS, 1, 1:])
    np.testing.assert_array_equal(x[[tg.Tensor(2), tg.Tensor(0)]].numpy(), x.numpy()[[2, 0]])
    rows = tg.Tensor([0, 1])
    y = x[rows]
    rows.data = [2, 3]  # what was computed stays computed
    np.testing.assert_array_equal(np.nonzero(tg.grad(tg.sum(y), x).numpy().any((1, 2)))[0], [0, 1])


@pytest.mark.parametrize(
    "index",
    [
        *[
            1.0,
            np.float64(1),
            np.array([0.0, 1.0]),
            np.array([]),
            [0.5],
            "a",
            b"a",
            1j,
            {},
            {0},
            (..., ...),
            [slice(1)],
        ],
        *[tg.Tensor([0.0, 1.0]), tg.Tensor(1.0, requires_grad=True), (0, 0, 0, 0), 4, [0, 4], [[0], [0, 1]], {}],
        *[np.array([0, 1], object), [None], np.array([True, False]), slice(0.0, 1.0), np.ma.array([0, 1], mask=[0, 1])],
    ],
    ids=lambda index: str(index).partition(" at 0x")[0],  # the same on every run
)
def test_what_is_no_index_is_refused(index):
    x = tg.Tensor(np.ones(SHAPE), requires_grad=True)
    with pytest.raises((IndexError, TypeError, ValueError)):
        x[index]
    with pytest.raises((IndexError, TypeError, ValueError)):
        tg.getitem(x.numpy(), index)


@pytest.mark.parametrize(
    "indices",
    [
        [(..., slice(0, 2)), (..., slice(2, 4)), (..., slice(4, 6))],  # tiles
        [(slice(None), slice(0, 3)), (slice(None), slice(3, 6))],
        [(..., slice(2, 4)), (..., slice(0, 2)), (..., slice(4, 6))],  # in another order
        [(..., slice(0, 2)), (..., slice(4, 6))],  # a gap
        [(..., slice(0, 2)), (..., slice(2, 4))],  # a gap at the end
        [(..., slice(0, 4)), (..., slice(2, 6))],  # an overlap
        [(..., slice(0, 3)), (..., slice(0, 3)), (..., slice(3, 6))],  # one slice twice
        [(..., slice(0, 4)), (..., slice(4, 9))],  # past the end
        [(..., slice(0, 6, 2)), (..., slice(3, 6))],  # a step whose length would fit
        [(slice(0, 1), slice(0, 3)), (slice(0, 1), slice(3, 6))],  # of one row only
        [(..., slice(None)), (..., slice(0, 6))],
        [(0,), (..., slice(0, 6))],
        [(..., np.array([0, 0, 1])), (..., slice(3, 6))],
        [(), (..., slice(0, 0)), (..., slice(0, 6))],
        [(..., slice(None, 2)), (..., slice(2, None))],
        [(..., slice(0, 5)), (..., slice(5, 3)), (..., slice(3, 6))],  # an overlap beside a slice of nothing
        [(..., slice(0, 3, 2)), (..., slice(3, 6))],  # a step within a tile
    ],
)
def test_getitem_joins_slices_that_tile_an_axis_and_no_others(indices):
    of_one_axis = all(index[:1] == (...,) for index in indices)
    for shape in [(2, 6), (3, 2, 6), (6,)][: 2 + of_one_axis]:
        rng = np.random.default_rng(0)
        x = tg.Tensor(rng.normal(size=shape), requires_grad=True)
        expected = np.zeros(shape)
        loss = tg.Tensor(0.0)
        for index in indices:
            v = rng.normal(size=x.data[index].shape)
            np.add.at(expected, index, v)
            loss = loss + tg.sum(x[index] * v)
        loss.backward()
        np.testing.assert_allclose(x.grad.data, expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_getitem_knows_gates_to_be_tiles(parts):
    """What is no tile is added right in any case; that gates are joined is a matter of speed."""
    width = 6 // parts
    for lead in (..., slice(None)):
        cuts = [(lead, slice(k * width, (k + 1) * width)) for k in range(parts)]
        assert tg.ops._are_tiles(cuts[::-1], np.zeros((2, 6)))
        assert tg.ops._are_tiles(cuts[::-1], np.zeros((2, 2, 6))) == (lead is ...)
        assert not tg.ops._are_tiles(cuts[::-1], np.zeros((2, 7)))
        assert parts == 1 or not tg.ops._are_tiles(cuts, np.zeros((2, 6)))
    assert tg.ops._are_tiles([(..., slice(4, None)), (..., slice(4, 4)), (..., slice(None, 4))], np.zeros((2, 6)))
    assert not tg.ops._are_tiles([(...,)], np.zeros(()))
    assert not tg.ops._are_tiles([(..., slice(3, 6)), (..., slice(0, 3, 2))], np.zeros((2, 6)))
