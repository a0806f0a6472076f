"""Watching a training loop: which backward pass a gradient is of, and which calls are one sequence."""

import numpy as np
import pytest
from torch_oracle import torch

from tinygrad_rnn.torch import watch

nn = torch.nn
T, B, I, H = 7, 4, 3, 8  # noqa: E741


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(I, H)

    def forward(self, x):
        return self.rnn(x)[0][-1]


def by_backward(x, loss):
    """‖∂L/∂x_t‖ for one sequence x among others, mean over the batch."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0].norm(dim=-1).mean(1)


@pytest.mark.parametrize("penalty", [False, True], ids=["saliency", "penalty"])
def test_what_autograd_grad_computes_on_the_way_is_not_in_the_gradient_of_the_loss(penalty):
    torch.manual_seed(0)
    rnn, x = nn.LSTM(I, H).double(), torch.randn(T, B, I, dtype=torch.float64)
    optimizer = torch.optim.SGD(rnn.parameters(), 1e-3)

    def loss(z):
        out = rnn(z)[0]
        (slope,) = torch.autograd.grad(out.sum(), z, create_graph=True)
        return slope.square().sum() if penalty else out[-1].square().mean()

    right = by_backward(x, loss)
    for early in (False, True):  # also what is computed between the backward pass and the update
        with watch(rnn, optimizer) as w:
            z = x.clone().requires_grad_()
            found = loss(z)
            optimizer.zero_grad()
            found.backward(retain_graph=early)
            if early:
                torch.autograd.grad(found, z)
            optimizer.step()
        np.testing.assert_allclose(w.records[0]["LSTM/by step"], right, rtol=1e-9)
        right = by_backward(x, loss)


@pytest.mark.parametrize("given", [False, True], ids=["no state", "a state of zeros"])
def test_calls_that_do_not_hand_on_a_state_are_sequences_apart(given):
    torch.manual_seed(0)
    rnn, hx = nn.GRU(I, H), torch.zeros(1, B, H) if given else None
    a, b = torch.randn(T, B, I), torch.randn(3, B, I)
    optimizer = torch.optim.SGD(rnn.parameters(), 0.0)
    apart = lambda a, b: (rnn(a, hx)[0][-1] - rnn(b, hx)[0][-1]).square().mean()  # noqa: E731
    for one, other in ((a, b), (b, a)):
        with watch(rnn, optimizer) as w:
            apart(one, other).backward()
            optimizer.step()
        first, second = by_backward(one, lambda x: apart(x, other)), by_backward(other, lambda x: apart(one, x))  # noqa: B023
        np.testing.assert_allclose(w.records[0]["GRU/by step"], first, rtol=1e-4)
        np.testing.assert_allclose(w.records[0]["GRU/call 2/by step"], second, rtol=1e-4)


@pytest.mark.parametrize("hand", ["as it is", "masked", "detached", "as output"])
def test_parts_whose_state_is_handed_on_are_one_sequence_also_in_turns(hand):
    torch.manual_seed(0)
    rnn, x = nn.GRU(I, H), torch.randn(2, T, B, I)
    optimizer = torch.optim.SGD(rnn.parameters(), 0.1)
    change = {"masked": lambda h: 0.5 * h + 0, "detached": torch.Tensor.detach}.get(hand, lambda h: h)
    learned = nn.Parameter(torch.zeros(1, 1, H))
    with watch(rnn, optimizer) as w:
        states, total = [learned.expand(1, B, H)] * 2, 0
        for t in range(T):  # two sequences, a step of each in turn, from one initial state
            for k in range(2):
                out, state = rnn(x[k, t : t + 1], states[k])
                states[k] = change(out[-1:] if hand == "as output" else state)
                total = total + out.square().mean()
        total.backward()
        optimizer.step()
    record = w.records[0]
    assert [len(record[f"GRU/{key}by step"]) for key in ("", "call 2/")] == [
        T,
        T,
    ] and "GRU/call 3/by step" not in record


def test_a_state_that_is_handed_to_two_calls_makes_no_sequence_of_both():
    rnn, x = nn.GRU(I, H), torch.randn(T, B, I)
    optimizer = torch.optim.SGD(rnn.parameters(), 0.1)
    with watch(rnn, optimizer) as w:
        state = rnn(x)[1]
        (rnn(x, state)[1] - rnn(x[:3], state)[1]).square().mean().backward()
        optimizer.step()
    assert [len(value) for key, value in w.records[0].items() if key.endswith("by step")] == [2 * T, 3]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_pass_that_brings_no_gradient_takes_none_away(when):
    torch.manual_seed(0)
    model, x = Last(), torch.randn(T, B, I)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    right = by_backward(x, lambda x: model(x).square().mean())
    with watch(model, optimizer) as w:
        passes = [*[False] * 12, True] if when == "before" else [True, *[False] * 12]
        for trained in passes:  # the others forgot no_grad
            loss = model(x if trained else x[:3]).square().mean()
            if trained:
                loss.backward()
        held = [call[2] for calls in w._calls["rnn"] for one in calls for call in one if call[2] != ()]
        optimizer.step()
    np.testing.assert_allclose(w.records[0]["rnn/by step"], right, rtol=1e-5)
    assert not any("call" in key for key in w.records[0])
    assert len(held) <= 9, "the graphs of the others are let go"


@pytest.mark.parametrize("between", [False, True], ids=["together", "zero_grad between"])
def test_all_that_backward_brings_through_one_pass_is_added_up(between):
    torch.manual_seed(0)
    model, x = Last().double(), torch.randn(T, B, I, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = [lambda out: out.square().mean(), lambda out: out.sum()]
    right = by_backward(x, lambda x: sum(loss(model(x)) for loss in losses))
    with watch(model, optimizer) as w:
        out = model(x)
        losses[0](out).backward(retain_graph=True)
        if between:
            optimizer.zero_grad()
        losses[1](out).backward()
        optimizer.step()
    np.testing.assert_allclose(w.records[0]["rnn/by step"], right, rtol=1e-9)


def test_backward_with_inputs_brings_the_norm_no_curve_and_no_alarm():
    model, x = Last(), torch.randn(T, B, I)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with watch(model, optimizer, weights=0, gates=0) as w:
        model(x).square().mean().backward(inputs=list(model.parameters()))
        optimizer.step()
    assert list(w.records[0]) == ["step", "gradient"] and w.alarms == []


def test_updates_without_a_pass_of_their_own_blame_no_compiler():
    model, x = nn.ModuleDict({"rnn": nn.LSTM(I, H), "head": nn.Linear(H, 1)}), torch.randn(T, B, I)
    optimizer = torch.optim.SGD([model.head.bias], 0.1)  # which no rule reads
    with watch(model, optimizer, weights=0) as w:
        loss = model.head(model.rnn(x)[0]).square().mean()
        for _ in range(3):  # of a graph that is kept
            optimizer.zero_grad()
            loss.backward(retain_graph=True)
            optimizer.step()
    assert ["rnn/by step" in record for record in w.records] == [True, False, False] and w.alarms == []


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU], ids=lambda kind: kind.__name__)
def test_records_are_those_of_each_update_whenever_they_are_read(kind):
    def records(read):
        torch.manual_seed(0)
        rnn, found = kind(I, H), []
        optimizer = torch.optim.SGD(rnn.parameters(), 0.1)
        with watch(rnn, optimizer, found.append if read == "called" else None, weights=3, gates=4) as w:
            for step in range(23):
                rnn(torch.randn(T + step % 3, B, I))[0].square().mean().backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)  # which writes into the gradients
                assert read != "each" or len(w.records) == step + 1
        return found or w.records

    assert records("called") == records("each") == records("after")
