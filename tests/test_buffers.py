"""What a primitive of one's own is given and gives belongs to the graph, by whatever way it came there."""

import numpy as np
import pytest

import tinygrad_rnn as tg


def _window():
    out = np.zeros(4)[1:]  # a view of a larger array, written to by itself and returned as another view
    return lambda x: np.multiply(x, 2.0, out=out)[:]


def _row():
    rows = np.zeros((2, 3))
    out = rows[0]

    def forward(x):
        np.multiply(x, 2.0, out=out)
        return rows[0]

    return forward


def _bytes():
    memory = bytearray(3 * 8)
    return lambda x: np.multiply(x, 2.0, out=np.frombuffer(memory))


def _subclass(kind):
    out = np.zeros(3).view(kind)

    def forward(x):
        out[...] = x * 2.0
        return out

    return forward


class _Array(np.ndarray):
    """As np.memmap and np.recarray are."""


BUFFERS = {
    "a window": _window,
    "a row": _row,
    "bytes": _bytes,
    "np.recarray": lambda: _subclass(np.recarray),
    "a subclass": lambda: _subclass(_Array),
}


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_a_buffer_that_is_used_again_changes_no_result_that_was_given_before(declared, make, recording):
    twice = declared("twice", make(), lambda g, y, x: 2.0 * g)
    first = twice(tg.Tensor([1.0, 2.0, 3.0], requires_grad=recording))
    try:
        twice(tg.Tensor([4.0, 5.0, 6.0], requires_grad=recording))
    except ValueError as error:
        assert "read-only" in str(error)
    assert first.tolist() == [2.0, 4.0, 6.0]


def test_a_static_array_that_changes_after_the_call_changes_no_gradient(declared):
    scale = declared("scale", lambda x, *, by: x * by, lambda g, y, x, *, by: g * by)
    x, by = tg.Tensor([1.0, 2.0], requires_grad=True), np.array([3.0, 4.0])
    total = tg.sum(scale(x, by=by))
    by[...] = 9.0
    total.backward()
    assert x.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("part", [slice(None), slice(0, 2)])
def test_a_rule_that_uses_its_buffer_again_is_refused_or_right(declared, part):
    memory = np.zeros(3)

    def rule(g, y, x):
        out = memory[: len(x)] if part == slice(None) else memory[part]
        return np.multiply(g, x, out=out)[:] if out.base is memory else np.multiply(g, x, out=memory)

    half = declared("half square", lambda x: x * x / 2, rule)
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    tg.sum(half(x) * [1.0, 10.0] + half(x) * [5.0, 50.0]).backward()
    assert x.grad.tolist() == [6.0, 120.0]


def test_a_rule_that_returns_its_buffer_is_stopped(declared):
    memory = np.zeros(2)
    half = declared("half square", lambda x: x * x / 2, lambda g, y, x: np.multiply(g, x, out=memory))
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match="read-only"):
        tg.sum(half(x) + half(x)).backward()
