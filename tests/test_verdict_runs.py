"""Which steps a verdict is of: those of the inputs, all of them, or it says which ones it is not of."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import gradient_flow


def noise(steps, batch, size, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, batch, size))


class Translator(nn.Module):
    """An encoder, and a decoder that begins with its state and runs over steps of its own."""

    def __init__(self, decoded, how="stacks"):
        self.decoded, self.how = decoded, how
        made = nn.GRU if how == "stacks" else nn.GRUCell
        self.encoder, self.decoder = made(3, 5, rng=0), made(5 if how == "feeds itself" else 3, 5, rng=1)

    def __call__(self, x):
        given = np.ones((self.decoded, x.shape[1], 3))
        if self.how == "stacks":
            return self.decoder(given, self.encoder(x)[1])[0]
        outputs, h = tg.unroll(self.encoder, x)
        if self.how == "unrolled":
            return tg.unroll(self.decoder, given, h)[0]
        outputs = []
        for t in range(self.decoded):
            with tg.scope(f"t={t + 1}"):
                h = self.decoder(h, h)
            outputs.append(h)
        return tg.stack(outputs)


@pytest.mark.parametrize("how", ["stacks", "unrolled", "feeds itself"])
@pytest.mark.parametrize(
    "encoded, decoded, options", [(12, 4, {}), (4, 10, {}), (12, 4, {"lag": 2}), (9, 9, {"read": 3})]
)
def test_a_run_over_other_steps_is_no_layer_above_the_inputs(how, encoded, decoded, options):
    flow = gradient_flow(Translator(decoded, how), noise(encoded, 3, 3), **options)
    assert flow.word == "cannot tell" and "a decoder, say" in flow.judgement.reason
    assert "all there is" not in flow.text() and "cause" not in flow.text()


def test_a_decoder_that_is_read_at_the_last_of_as_many_steps_sees_all_inputs():
    x, net = noise(9, 2, 3), Translator(9)
    flow, inputs = gradient_flow(net, x, lambda y: tg.sum(y[-1])), tg.Tensor(x, requires_grad=True)
    found = tg.grad(tg.sum(net(inputs)[-1]), inputs).data
    off = np.log10(np.linalg.norm(found, axis=-1))[::-1] - flow.end.x
    np.testing.assert_allclose(off, off[0, 0], atol=1e-9)


class Cut(nn.Module):
    """A loop that cuts off its state every so many steps."""

    def __init__(self, every):
        self.cell, self.head, self.every = nn.GRUCell(3, 5, rng=0), nn.Linear(5, 2, rng=0), every

    def __call__(self, x):
        h = self.cell.initial_state(x.shape[1])
        for t, row in enumerate(x):
            with tg.scope(f"t={t + 1}"):
                h = self.cell(tg.Tensor(row, name="x"), h.detach() if t and t % self.every == 0 else h)
        return self.head(h)


@pytest.mark.parametrize("every", [2, 5, 15])
def test_steps_that_are_cut_off_are_named_and_no_verdict_is_of_those_that_are_left(every):
    x = noise(30, 4, 3)
    whole, flow, near = (gradient_flow(Cut(n), x, lag=lag) for n, lag in ((30, None), (every, None), (every, 1)))
    said = f"the loss sees steps {31 - every} to 30 alone: its graph begins at t={31 - every}"
    assert flow.word == "cannot tell" and said in flow.judgement.reason and "all there is" not in flow.text()
    assert near.word != "cannot tell" and said in near.text()  # so far back it was asked for, and so far it is seen
    assert whole.word != "cannot tell" and "sees steps" not in whole.text() and "all there is" in whole.text()


@pytest.mark.parametrize("steps", [6, 40])
@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell])
def test_where_no_inputs_are_found_the_words_are_of_a_state(kind, steps):
    cell, x = kind(3, 5, rng=0), noise(steps, 4, 3)
    state = cell.initial_state(4)
    for t, row in enumerate(x):
        with tg.scope(f"t={t + 1}"):
            state = cell(row, state)
    h = state[0] if kind is nn.LSTMCell else state
    flow = gradient_flow(tg.sum(h))
    assert flow.end.x is None and "no inputs are found in this graph" in flow.text()
    assert f"between the newest {flow.end.of} and that {steps - 1} steps before" in flow.judgement.reason
    assert "newest input" not in flow.text() and "∂L/∂x" not in flow.text()


class Whole(nn.Module):
    """A stack as a part of a Module."""

    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net(x)[0]


def test_paths_that_are_not_told_apart_are_not_said_to_be_missing():
    net, x = nn.LSTM(3, 4, rng=0), noise(6, 2, 3)
    both = nn.LSTM(3, 4, bidirectional=True, rng=0)
    loss = tg.sum(net(x)[0])
    for flow in (
        gradient_flow(both, x),
        gradient_flow(net, x, lengths=[6, 4]),
        gradient_flow(Whole(net), x),
        gradient_flow(loss),
    ):
        with pytest.raises(ValueError, match="paths are told apart in a cell or a stack in one direction"):
            flow.without("gates")
    with pytest.raises(ValueError, match="carries no state"):
        gradient_flow(nn.RNN(3, 4, rng=0), x).without("gates")


class Turning(nn.Module):
    """A layer of either layout in a Module of either layout."""

    def __init__(self, layer, outer):
        self.net, self.outer = nn.GRU(3, 5, batch_first=layer, rng=0), outer

    def __call__(self, x):
        turn = self.net.batch_first is not self.outer
        y = self.net(tg.transpose(x, (1, 0, 2)) if turn else x)[0]
        return tg.transpose(y, (1, 0, 2)) if turn else y


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("options", [{}, {"read": 5}, {"loss": "all"}])
def test_the_steps_of_a_modules_outputs_are_the_axis_with_as_many_as_were_run(layer, outer, options):
    x = noise(12, 4, 3)
    flow = gradient_flow(Turning(layer, outer), x.swapaxes(0, 1) if outer else x, **options)
    same = gradient_flow(nn.GRU(3, 5, rng=0), x, **options)
    assert (flow.word, flow.end.step) == (same.word, same.end.step)
    np.testing.assert_allclose(flow.end.x, same.end.x, rtol=1e-9)
    assert ("[:, " in flow.setting.loss) is (outer and "loss" not in options)
    if options == {"read": 5}:
        with pytest.raises(ValueError, match="there are 12 steps"):
            gradient_flow(Turning(layer, outer), x.swapaxes(0, 1) if outer else x, read=13)


def test_as_many_sequences_as_steps_are_told_apart_by_a_loss_of_ones_own():
    x = noise(6, 6, 3)
    assert gradient_flow(Turning(False, False), x).end.step == 6
    with pytest.raises(ValueError, match="6 × 6 × 5: which axis are the 6 steps\\? Give loss="):
        gradient_flow(Turning(True, True), x)
    flow = gradient_flow(Turning(True, True), x, lambda y: tg.sum(y[:, -1]))
    assert flow.end.step == 6 and flow.judgement.lag == 5
