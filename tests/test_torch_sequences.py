"""Inputs as PyTorch has them: tensors that need gradients, narrow floats, packed sequences, token ids."""

import numpy as np
import pytest
from torch_oracle import torch

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import gradient_flow

T, B, I, H = 6, 3, 4, 5  # noqa: E741


def tensors():
    x = torch.randn(T, B, I)
    return {
        "needs a gradient": x.clone().requires_grad_(),
        "bfloat16": x.bfloat16(),
        "float16": x.half(),
        "computed": (x.clone().requires_grad_() * 2).tanh(),
    }


@pytest.mark.parametrize("name", tensors())
def test_a_tensor_goes_wherever_an_array_goes(name):
    torch.manual_seed(0)
    x = tensors()[name]
    array = x.detach().float().numpy()
    net, cell = nn.LSTM(I, H, rng=0), nn.GRUCell(I, H, rng=0)
    np.testing.assert_array_equal(net(x)[0].numpy(), net(array)[0].numpy())
    np.testing.assert_array_equal(tg.unroll(cell, x)[0].numpy(), tg.unroll(cell, array)[0].numpy())
    np.testing.assert_array_equal(tg.Tensor(x).numpy(), array)
    assert gradient_flow(net, x).slope == gradient_flow(net, array).slope


@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_a_packed_sequence_is_what_pytorch_makes_of_it(enforce_sorted):
    torch.manual_seed(0)
    lengths = torch.tensor([6, 4, 1] if enforce_sorted else [4, 6, 1])
    theirs = torch.nn.LSTM(I, H, 2, bidirectional=True)
    x = torch.nn.utils.rnn.pack_padded_sequence(torch.randn(T, B, I), lengths, enforce_sorted=enforce_sorted)
    outputs, (h, c) = nn.from_torch(theirs)(x)
    with torch.no_grad():
        want, (last, cell) = theirs(x)
    np.testing.assert_allclose(
        outputs.numpy(), torch.nn.utils.rnn.pad_packed_sequence(want)[0].numpy(), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(h.numpy(), last.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(c.numpy(), cell.numpy(), rtol=1e-5, atol=1e-6)


def test_a_list_of_tensors():
    net = nn.GRU(I, H, rng=0)
    given = [torch.randn(length, I) for length in (3, 6, 2)]
    np.testing.assert_array_equal(net(given)[0].numpy(), net([x.numpy() for x in given])[0].numpy())


def test_token_ids_as_they_are_and_modules_of_pytorch_are_refused_with_the_way():
    lstm, ids = torch.nn.LSTM(I, H), torch.randint(7, (T, B))
    with pytest.raises(TypeError, match=r"give nn\.from_torch\(module\), or its model to tinygrad_rnn\.torch\.doctor"):
        gradient_flow(lstm, ids)
    for net in (nn.from_torch(lstm), nn.GRUCell(I, H)):
        with pytest.raises(ValueError, match=r"shape \(6, 3\): .* and I = 4; token ids go through their embedding"):
            gradient_flow(net, ids)
    with pytest.raises(ValueError, match=r"with at least one step and I = 4$"):
        gradient_flow(nn.from_torch(lstm), torch.randn(T, B, 5))


def test_token_ids_through_an_embedding():
    ids = torch.randint(7, (T, B))
    embedding, net = torch.nn.Embedding(7, I), torch.nn.LSTM(I, H)
    with torch.no_grad():
        want = net(embedding(ids))[0].numpy()
    got = nn.from_torch(net)(nn.from_torch(embedding)(ids))[0].numpy()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
