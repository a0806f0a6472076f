"""Sequences of different lengths: a list gives what padding and lengths give, and what each would give alone."""

from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn

I, H = 3, 4  # noqa: E741
LENGTHS = [2, 5, 1, 3]


def sequences(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, I)) for length in LENGTHS]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_a_list_is_each_sequence_alone(kind, batch_first):
    net, given = kind(I, H, 2, bidirectional=True, batch_first=batch_first, rng=0), sequences()
    outputs, state = net(given)
    h = state[0] if isinstance(state, tuple) else state
    axes = (0, 1, 2) if batch_first else (1, 0, 2)
    for k, (row, sequence) in enumerate(zip(outputs.numpy().transpose(axes), given, strict=True)):
        alone, state = net(sequence)
        np.testing.assert_allclose(row[: len(sequence)], alone.numpy(), rtol=1e-12)
        assert not row[len(sequence) :].any()
        last = state[0] if isinstance(state, tuple) else state
        np.testing.assert_allclose(h.numpy()[:, k], last.numpy(), rtol=1e-12)


def packed(given):
    """What PyTorch's PackedSequence holds: the longest sequence first, all first steps, then all second ones."""
    order = np.argsort([-len(row) for row in given], kind="stable")
    rows = [given[k] for k in order]
    steps = [[row[t] for row in rows if t < len(row)] for t in range(len(rows[0]))]
    sizes = np.array([len(step) for step in steps])
    return SimpleNamespace(data=np.concatenate(steps), batch_sizes=sizes, unsorted_indices=np.argsort(order))


def test_packed_is_the_list():
    net, given = nn.GRU(I, H, rng=0), sequences()
    np.testing.assert_array_equal(net(packed(given))[0].numpy(), net(given)[0].numpy())
    given.sort(key=len, reverse=True)  # as they were packed, if nobody had to sort them
    as_they_are = SimpleNamespace(**vars(packed(given)) | {"unsorted_indices": None})
    np.testing.assert_array_equal(net(as_they_are)[0].numpy(), net(given)[0].numpy())


@pytest.mark.parametrize("batch_first, sequence, step", [(False, 1, 0), (True, 0, 1)])
def test_a_list_of_one_shape_may_be_two_things(batch_first, sequence, step):
    net = nn.GRU(I, H, batch_first=batch_first, rng=0)
    words = rf"np.stack\(sequences, axis={sequence}\) or np.stack\(steps, axis={step}\)"
    with pytest.raises(ValueError, match=words):
        net([np.ones((5, I))] * 2)
    assert net([np.ones((5, I))])[0].shape == ((1, 5, H) if batch_first else (5, 1, H))


def test_other_lists_are_arrays_as_before():
    net = nn.GRU(I, H, rng=0)
    given = np.arange(2.0 * 5 * I).reshape(2, 5, I)
    np.testing.assert_array_equal(net(given.tolist())[0].numpy(), net(given)[0].numpy())
    a, b = given
    for steps in ([a, b.tolist()], [a.tolist(), b], [tg.Tensor(a), b], [a, tg.Tensor(b)]):
        np.testing.assert_array_equal(net(steps)[0].numpy(), net(given)[0].numpy())


def test_sequences_of_different_widths_are_refused():
    with pytest.raises(ValueError, match="the sequences have 2 and 3 inputs a step"):
        nn.GRU(I, H, rng=0)([np.ones((5, I)), np.ones((4, I - 1))])
