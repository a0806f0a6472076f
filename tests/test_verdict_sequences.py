"""The verdict on sequences of different lengths: padding is no input, and the lines to paste run in each form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import change, gradient_flow
from tinygrad_rnn.diagnose.remedy import Trial
from tinygrad_rnn.diagnose.verdict import WORDS, Judgement

KIND, LAYERS, SEED = st.sampled_from(["rnn", "lstm", "gru"]), st.integers(1, 2), st.integers(0, 2**16)


def noise(steps, batch, size, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, batch, size))


def stack(kind, layers, both, seed, hidden=5):
    return {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](3, hidden, layers, bidirectional=both, rng=seed)


def judged(D, word):
    return Judgement(word, D, 0.0, 40, 0, None, "")


def longer(x, steps, fill):
    """Sequences with so many steps of padding behind them."""
    return np.concatenate([x, np.full((steps, *x.shape[1:]), fill)])


@given(KIND, LAYERS, st.booleans(), SEED, st.sampled_from([0.0, 1.0, 300.0]), st.sampled_from([0.0, 0.01, 5.0]))
def test_padding_is_no_input(kind, layers, both, seed, mean, sd):
    """A report of padded sequences is the one of the same sequences without padding, whatever stands in it."""
    net, x = stack(kind, layers, both, seed), mean + sd * noise(9, 3, 3, seed)
    plain = gradient_flow(net, x, lag=4)
    for fill in (0.0, -7.0):
        padded = gradient_flow(net, longer(x, 3, fill), lag=4, lengths=[9, 9, 9])
        assert (padded.word, padded.end.inputs) == (plain.word, plain.end.inputs)
        assert padded.decades_lost == pytest.approx(plain.decades_lost, rel=1e-9, nan_ok=True)
        for end_of, other in zip(padded.ends, plain.ends, strict=True):
            np.testing.assert_allclose(end_of.x[:9], other.x, rtol=1e-9)
            assert np.isnan(end_of.x[9:]).all()
            assert end_of.drive == pytest.approx(other.drive, abs=1e-9)
            assert (end_of.largest, end_of.saturated) == pytest.approx((other.largest, other.saturated))


@given(KIND, SEED, st.sampled_from([1.0, 300.0]), st.sampled_from([0.0, 0.01, 5.0]))
def test_inputs_of_different_lengths_have_the_size_of_what_is_in_them(kind, seed, mean, sd):
    net, lengths = stack(kind, 1, False, seed), (9, 7, 5)
    rows = [mean + sd * noise(n, 1, 3, seed + n)[:, 0] for n in lengths]
    padded = np.stack([longer(row, 9 - len(row), 0.0) for row in rows], axis=1)
    every = np.concatenate(rows)
    size = np.sqrt(((every - every.mean(axis=0)) ** 2).mean())
    for found in (gradient_flow(net, padded, lag=4, lengths=lengths), gradient_flow(net, rows, lag=4)):
        assert (found.end.inputs == "the inputs are constant") == (sd == 0)
        for b, row in enumerate(rows):
            alone = gradient_flow(net, row, lag=4)
            own = np.sqrt(((row - row.mean(axis=0)) ** 2).mean())
            with np.errstate(divide="ignore", invalid="ignore"):
                expected = alone.end.x[:, 0] - np.log10(own) + np.log10(size)
            if sd:
                np.testing.assert_allclose(found.end.x[: len(row), b], expected, rtol=1e-7)
            else:
                assert found.word == alone.word


@pytest.mark.parametrize("model", [nn.RNN(3, 4, nonlinearity="relu", rng=0), nn.RNNCell(3, 4, "relu", rng=0)])
def test_a_state_of_padded_sequences_that_overflows_is_measured_before(model):
    for p in model.parameters().values():
        p.data = 1e30 * np.abs(np.array(p.data))
    x = 1 + np.abs(noise(20, 3, 3))
    plain, padded = (gradient_flow(model, x, lag=4, lengths=lengths) for lengths in (None, [20, 15, 11]))
    assert padded.word == plain.word == "exploding" and padded.judgement.reason == plain.judgement.reason


FORMS = ["lengths", "list", "packed", "packed alike"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("torch", [False, True])
def test_the_lines_to_paste_run_whatever_the_sequences_came_in(form, batch_first, torch):
    """Run as they stand, with only what the user had: a list or a PackedSequence has no `lengths` beside it."""
    net = nn.LSTM(3, 5, batch_first=batch_first, rng=1)
    lengths = [9, 9, 9] if form == "packed alike" else [5, 9, 7]
    rows = [100 + 50 * noise(n, 1, 3, n)[:, 0] for n in lengths]
    given, known = rows, {}
    if form == "lengths":
        given, known = np.zeros((3, 9, 3)), {"lengths": lengths}
        for row, place in zip(rows, given, strict=True):
            place[: len(row)] = row
        given = given if batch_first else given.swapaxes(0, 1)
    theirs = pytest.importorskip("torch") if torch or form.startswith("packed") else None
    if form.startswith("packed"):
        given = theirs.nn.utils.rnn.pack_sequence([theirs.tensor(row) for row in rows], enforce_sorted=False)
    flow = gradient_flow(net, given, lag=4, **known)
    expected = list(flow.what_if(standardise=True).flows.values())[1]
    found = {"model": net, "inputs": given, **known}
    if torch:
        found["model"] = theirs.nn.LSTM(3, 5, batch_first=batch_first, dtype=theirs.float64)
        found["model"].load_state_dict({name: theirs.tensor(array) for name, array in net.state_dict().items()})
        found["inputs"] = theirs.tensor(given) if form == "lengths" else given
    exec(flow.lines(Trial({"standardise": True}, flow.judgement, flow.judgement, ""), torch), found)
    if torch:
        if form != "list":
            found["model"](found["inputs"])
        found["model"] = nn.from_torch(found["model"])
    again = gradient_flow(found["model"], found["inputs"], lag=4, **known)
    assert (again.word, again.setting.sequences) == (expected.word, 3)
    assert again.decades_lost == pytest.approx(expected.decades_lost, rel=1e-9)
    assert ("lengths" in flow.lines(Trial({"standardise": True}, flow.judgement, flow.judgement, ""))) == bool(known)


def test_a_pytorch_module_is_refused_in_one_line():
    torch = pytest.importorskip("torch")
    for call in (lambda net: change(net, forget_bias=1.0), lambda net: gradient_flow(net, noise(9, 2, 3))):
        with pytest.raises(TypeError, match=r"a PyTorch module: give nn.from_torch\(module\)"):
            call(torch.nn.LSTM(3, 5))


@pytest.mark.parametrize("before", WORDS)
@pytest.mark.parametrize("after", WORDS)
def test_a_word_is_still_there_only_where_it_was_before(before, after):
    said = str(Trial({"bias": 1.0}, judged(3.0, before), judged(2.5, after), ""))
    assert said.endswith("HEALTHY" if after == "healthy" else f", {'still' if after == before else 'now'} {after}")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("junk", [0.0, 1e9, np.nan])
def test_what_stands_in_padding_takes_no_part_in_standardising(junk, batch_first):
    x, lengths = 3.0 + 2.0 * noise(7, 4, 3), np.array([7, 2, 5, 4])
    running = np.arange(7)[:, None] < lengths
    x[~running] = junk
    kept = x[running]
    model = nn.GRU(3, 5, batch_first=batch_first, rng=0)
    _, found = change(model, x.swapaxes(0, 1) if batch_first else x, lengths=lengths, standardise=True)
    found = found.swapaxes(0, 1) if batch_first else found
    np.testing.assert_allclose(found[running], (kept - kept.mean(axis=0)) / kept.std(axis=0), rtol=1e-12)


class Choosing:
    """A cell that keeps all of its state, or half of it, or (`still`) does nothing, as the input says."""

    def __init__(self, still, choose):
        self.w = tg.Tensor(np.full((3, 1), 0.5), requires_grad=True, name="w")
        self.still, self.choose = still, choose

    def parameters(self):
        return {"w": self.w}

    def initial_state(self, batch):
        return tg.Tensor(np.full((batch, 1), 0.1))

    def __call__(self, x, h):
        positive = tg.Tensor(x).data[:, :1] > -0.5
        if not self.still:
            kept = tg.where(positive, h, h * 0.5) if self.choose else h * np.where(positive, 1.0, 0.5)
            return tg.tanh(x @ self.w + kept)
        new = tg.tanh(x @ self.w + h)
        new.name = "h"
        found = tg.where(positive, new, h) if self.choose else new * positive + h * ~positive
        found.name = "h"
        return found


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("unrolled", [False, True])
def test_a_choice_by_where_is_no_padding(still, unrolled):
    x, found = noise(12, 4, 3), []
    for choose in (True, False):
        cell, h = Choosing(still, choose), tg.Tensor(np.full((4, 1), 0.1))
        for t, row in enumerate(x, 1):
            with tg.scope(f"t={t}"):
                h = cell(tg.Tensor(row, name="x"), h)
        flow = gradient_flow(tg.sum(h), lag=3) if unrolled else gradient_flow(cell, x, lag=3)
        found.append(flow)
    assert found[0].word == found[1].word
    np.testing.assert_allclose(found[0].end.curve, found[1].end.curve, rtol=1e-12)


STEPS, ENDS = 14, np.array([14, 9, 14, 6])


PAST = ["read past its end", "both are read", "an older state"]


def chosen(how, kind, by_hand):
    """The loss of a network that chooses by `where`, or does the same by arithmetic."""
    cell, x = kind(3, 5, rng=0), noise(STEPS, 4, 3)
    h, drawn, outputs = cell.initial_state(4), np.random.default_rng(1).random((STEPS, 4, 1)), []

    def pick(condition, one, other):
        return one * condition + other * ~condition if by_hand else tg.where(condition, one, other)

    for t in range(STEPS):
        runs = {
            "zoneout": drawn[t] > 0.3,
            "skip": (t + np.arange(4)[:, None]) % 3 == 0,
            "begins late": t >= STEPS - ENDS[:, None],
            **dict.fromkeys(PAST, t < ENDS[:, None]),
        }.get(how, np.full((4, 1), t not in (5, STEPS - 1) if how == "resets" else t != 7))
        with tg.scope(f"t={t + 1}"):
            before, older = h, outputs[t - 2] if how == "an older state" and t > 1 else h
            if how in ("resets", "one goes on"):
                begins = runs | (np.arange(4)[:, None] == 3) * (how == "one goes on")
                h = cell(tg.Tensor(x[t], name="x"), pick(begins, h, np.zeros((4, 5))))
                outputs.append(h)
            else:
                new = cell(tg.Tensor(x[t], name="x"), before)
                h = pick(runs, new, older) if t % 2 else pick(~runs, older, new)
                outputs.append({"read past its end": new, "both are read": new + h}.get(how, h))
    return tg.sum(outputs[-1] * np.arange(1.0, 6.0))


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell])
@pytest.mark.parametrize("how", ["resets", "one goes on", "zoneout", "skip", "begins late", *PAST])
def test_what_is_chosen_by_where_and_is_no_padding_is_arithmetic(how, kind):
    """A state that is reset, or kept for some steps, has lost what it has lost: no step is left out of the curve."""
    one, other = (gradient_flow(chosen(how, kind, by_hand)) for by_hand in (False, True))
    assert one.word == other.word and one.judgement.lag == other.judgement.lag == STEPS - 1
    np.testing.assert_allclose(one.end.x, other.end.x, rtol=1e-9)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
@pytest.mark.parametrize("turned", [False, True])
def test_padding_is_known_in_either_order(turned, kind):
    """Past its end every state of a sequence is what it was: then a loop by hand is the same as `lengths=`."""
    cell, x = kind(3, 5, rng=0), noise(STEPS, 4, 3)
    state = cell.initial_state(4)
    for t in range(STEPS):
        runs = t < ENDS[:, None]
        with tg.scope(f"t={t + 1}"):
            new = cell(tg.Tensor(x[t], name="x"), state)
            pairs = zip(new, state, strict=True) if kind is nn.LSTMCell else [(new, state)]
            parts = [tg.where(~runs, old, now) if turned else tg.where(runs, now, old) for now, old in pairs]
        state = tuple(parts) if kind is nn.LSTMCell else parts[0]
    v = np.arange(1.0, 6.0)
    flow = gradient_flow(tg.sum(parts[0] * v))
    same = gradient_flow(cell, x, lengths=ENDS, direction=v)
    np.testing.assert_allclose(flow.end.x, same.end.x, rtol=1e-9)
    assert flow.word == same.word and flow.decades_lost == pytest.approx(same.decades_lost)
