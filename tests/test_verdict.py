"""The verdict: each word from a curve made by hand, on both sides of its bound; what must not change it."""

import numpy as np
import pytest
from hand_made_ends import INF, LITTLE, end, straight
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import gradient_flow
from tinygrad_rnn.diagnose.verdict import BLOCKED, HEALTHY, SEVERE, judge
from tinygrad_rnn.graph.line import FLOAT32_ZERO
from tinygrad_rnn.nn import init

# --- words ---


@pytest.mark.parametrize(
    "lost, word",
    [
        (HEALTHY - LITTLE, "healthy"),
        (HEALTHY + LITTLE, "fading"),
        (SEVERE - LITTLE, "fading"),
        (SEVERE + LITTLE, "vanishing"),
        (-HEALTHY + LITTLE, "healthy"),
        (-HEALTHY - LITTLE, "growing"),
        (-SEVERE + LITTLE, "growing"),
        (-SEVERE - LITTLE, "exploding"),
    ],
)
def test_decades_between_both_ends_decide(lost, word):
    found = judge(end(straight(lost), straight(lost), straight(lost)))
    assert found.word == word and found.decades == pytest.approx(lost)


@pytest.mark.parametrize("lost, word", [(1.9, "healthy"), (2.1, "fading"), (5.9, "fading"), (6.1, "vanishing")])
def test_the_bounds_are_two_and_six_decades(lost, word):
    opposite = {"fading": "growing", "vanishing": "exploding"}.get(word, word)
    assert (judge(end(straight(lost))).word, judge(end(straight(-lost))).word) == (word, opposite)


def test_the_end_is_the_median_over_the_last_tenth_and_zeros_of_it_are_left_out():
    curve = np.zeros(41)
    curve[-4:] = [-9.0, -1.5, -1.5, -INF]
    assert judge(end(curve)).decades == 1.5
    curve[-4:] = -INF
    found = judge(end(curve))
    assert found.word == "vanishing" and found.decades == INF and "all is lost" in found.reason


def test_the_newest_input_is_the_larger_of_two():
    curve = straight(1.5)
    curve[:2] = [-3.0, 0.0]  # whatever the last input meets, the one before passes too
    assert judge(end(curve)).word == "healthy"


@pytest.mark.parametrize("side, blocked", [(-LITTLE, True), (LITTLE, False)])
def test_nothing_gets_through_below_the_bound(side, blocked):
    flat = np.full(20, BLOCKED + side)
    assert judge(end(flat)).word == ("nothing enters" if blocked else "healthy")
    shut = {("", "h"): np.r_[0.0, np.full(19, BLOCKED / 2 - 1e-9)][:, None]}
    ajar = {("", "h"): np.r_[0.0, np.full(19, BLOCKED / 2 + 1e-9)][:, None]}
    assert judge(end(flat, states=shut)).word == ("nothing leaves" if blocked else "healthy")
    assert judge(end(flat, states=ajar)).word == ("nothing enters" if blocked else "healthy")


@pytest.mark.parametrize("depth, word", [(HEALTHY + 0.01, "dies in depth"), (HEALTHY - 0.01, "nothing enters")])
def test_depth_has_to_lose_two_decades_and_half_of_it(depth, word):
    states = {("layer 1", "h"): np.zeros((20, 1)), ("layer 0", "h"): np.full((20, 1), -depth)}
    assert judge(end(np.full(20, BLOCKED - 0.001), states=states)).word == word
    deeper = end(np.full(20, -2 * depth - 0.1), states=states)
    assert judge(deeper).word == "nothing enters"  # less than half of it


def test_small_input_weights_are_no_wall():
    assert judge(end(np.full(20, -6.0))).word == "nothing enters"
    assert judge(end(np.full(20, -6.0), drive=-3.0)).word == "healthy"
    assert judge(end(np.full(20, -8.0), drive=-3.0)).word == "nothing enters"


def test_inputs_that_say_nothing_are_named():
    found = judge(end(np.full(20, -INF), drive=-INF, inputs="the inputs are constant"))
    assert (found.word, found.reason, found.about) == ("nothing enters", "the inputs are constant", "inputs")


@pytest.mark.parametrize("top, word", [(HEALTHY - LITTLE, "healthy"), (HEALTHY + LITTLE, "grows then dies")])
def test_a_hump_of_more_than_two_decades(top, word):
    curve = np.r_[0.0, np.linspace(0, top, 20), np.linspace(top, 0, 20), np.zeros(5)]
    assert judge(end(curve)).word == word
    assert judge(end(curve + np.linspace(0, 7, 46))).word == "exploding"  # end to end, whatever is between


@pytest.mark.parametrize("high, word", [(4.4 + LITTLE, "cannot tell"), (4.4 - LITTLE, "healthy")])
def test_sequences_that_disagree(high, word):
    lost = [0.4] * 6 + [high] * 4
    found = judge(end(*[straight(v) for v in lost]))
    assert found.word == word and (word == "healthy" or "6 of 10 are healthy" in found.reason)
    ill = [straight(v) for v in [2.5] * 6 + [9.0] * 4]
    assert judge(end(*ill)).word == "fading"  # all are ill: no reason not to say so
    both = [straight(v) for v in [-2.5] * 5 + [2.5] * 5]
    assert judge(end(*both)).word == "cannot tell"


@pytest.mark.parametrize("lag, word", [(39, "vanishing"), (40, "cannot tell"), (5, "healthy")])
def test_the_lag_that_is_asked_for(lag, word):
    found = judge(end(np.linspace(0, -12, 40)), lag)
    assert (found.word, found.lag) == (word, lag)


def test_two_steps_are_enough_and_one_is_not():
    assert judge(end([0.0, -0.5])).word == "healthy" and judge(end([0.0, -7.0])).word == "vanishing"
    assert judge(end([0.0])).word == "cannot tell"


def test_the_longest_sequences_answer_for_their_lag():
    long, short = straight(9.0), np.r_[np.zeros(10), np.full(30, np.nan)]
    assert judge(end(long, short, short)).word == "vanishing"
    assert judge(end(long, short, short), lag=9).word == "healthy"


def test_reach_is_read_off_the_curve():
    curve = np.zeros(50)
    curve[21:] = -HEALTHY - LITTLE
    assert judge(end(curve)).reach == 20
    curve[21:] = -HEALTHY
    assert judge(end(curve)).reach == 49
    curve[5] = 3.0
    assert judge(end(curve)).reach == 4


@pytest.mark.parametrize("side, lag", [(0.0, 7), (1e-9, None)])
def test_float32_is_a_statement_of_its_own(side, lag):
    peak = np.zeros((20, 1))
    peak[7:] = FLOAT32_ZERO + side
    found = judge(end(np.zeros(20), peak=peak))
    assert (found.word, found.zero_lag) == ("healthy", lag)


def test_what_is_not_read_or_overflows():
    nothing = end(np.full(9, -INF), size=np.array([-INF]))
    assert judge(nothing).word == "nothing leaves" and "does not depend" in judge(nothing).reason
    assert judge(end(np.zeros(9), overflow="overflow: ...")).word == "exploding"
    assert judge(end(np.r_[0.0, np.full(9, INF)])).decades == -INF


def test_without_inputs_nothing_is_called_healthy():
    state = {("", "h"): np.zeros((20, 1))}
    assert judge(end(np.zeros(20), x=None, states=state)).word == "cannot tell"
    assert judge(end(np.zeros(20), x=None, states={("", "h"): straight(9.0)[:, None]})).word == "vanishing"


# --- what must not change it ---


def noise(steps, batch, size, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, batch, size))


def stack(kind, layers, both, seed, hidden=5):
    return {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](3, hidden, layers, bidirectional=both, rng=seed)


KIND, LAYERS, SEED = st.sampled_from(["rnn", "lstm", "gru"]), st.integers(1, 2), st.integers(0, 99)


@given(KIND, LAYERS, st.booleans(), SEED, st.sampled_from([1e-50, 1e-200, 1e80]))
def test_the_losss_scale_changes_nothing(kind, layers, both, seed, scale):
    net, x = stack(kind, layers, both, seed), noise(12, 3, 3, seed)
    one, other = (gradient_flow(net, x, lambda y, s=s: tg.sum(y[-1] * y[0]) * s).judgement for s in (1.0, scale))
    assert one.word == other.word and one.decades == pytest.approx(other.decades, abs=1e-6)
    assert (one.level, one.reach) == (pytest.approx(other.level, abs=1e-6), other.reach)


@given(KIND, LAYERS, SEED)
def test_the_reverse_direction_is_the_forward_one_of_the_reversed_sequence(kind, layers, seed):
    net, x = stack(kind, layers, True, seed), noise(12, 3, 3, seed)
    weak = net.parameters()["weight_ih_l0_reverse"]  # so that each direction has a drive of its own
    weak.data = 1e-3 * np.array(weak.data)
    swapped = {}
    for name, array in net.state_dict().items():
        array = np.array(array)
        if "weight_ih_l1" in name:  # which takes both directions of the layer below
            array = np.concatenate([array[:, 5:], array[:, :5]], axis=1)
        swapped[name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"] = array
    twin = stack(kind, layers, True, 0)
    twin.load_state_dict(swapped)
    v = np.random.default_rng(seed).normal(size=10)
    forward, reverse = gradient_flow(net, x, direction=v).ends
    forward_of_twin, reverse_of_twin = gradient_flow(twin, x[::-1], direction=np.r_[v[5:], v[:5]]).ends
    for one, other in ((forward, reverse_of_twin), (reverse, forward_of_twin)):
        np.testing.assert_allclose(one.x, other.x, rtol=1e-9)
        assert judge(one).decades == pytest.approx(judge(other).decades)
        assert one.drive == pytest.approx(other.drive) and judge(one).word == judge(other).word
    assert forward.drive > reverse.drive + 2


@given(KIND, SEED, st.integers(2, 10))
def test_reading_a_step_is_ending_there(kind, seed, read):
    net, x = stack(kind, 1, False, seed), noise(12, 2, 3, seed)
    one, other = gradient_flow(net, x, read=read), gradient_flow(net, x[:read])
    np.testing.assert_allclose(one.end.x, other.end.x, atol=0.5)  # rms(x - mean x) is that of all inputs
    assert one.decades_lost == pytest.approx(other.decades_lost) and one.word == other.word
    every = gradient_flow(net, x, "all", read=read)
    assert every.decades_lost == pytest.approx(one.decades_lost) and "judged is what it sees" in every.end.notes[-1]


class Answer(nn.Module):
    """One number for each sequence, read off the last step."""

    def __init__(self):
        self.rnn, self.head = nn.RNN(3, 5, rng=0), nn.Linear(5, 1, rng=0)

    def __call__(self, x):
        return self.head(self.rnn(x)[0][-1])


class Every(Answer):
    """One number for each sequence and step."""

    def __call__(self, x):
        return self.head(self.rnn(x)[0])


def test_a_step_that_the_loss_does_not_read_is_refused():
    x = noise(12, 2, 3)
    outputs, _ = nn.RNN(3, 5, rng=0)(x)
    ways = [
        (Answer(), x, "last"),
        (nn.RNN(3, 5, rng=0), x, lambda out: tg.sum(out[-1])),
        (tg.sum(outputs[-1]), None, "last"),
    ]
    for model, inputs, loss in ways:
        assert gradient_flow(model, inputs, loss, read=12).word == gradient_flow(model, inputs, loss).word
        with pytest.raises(ValueError, match="read=4: the loss reads step 12, and not that one"):
            str(gradient_flow(model, inputs, loss, read=4))
    with pytest.raises(ValueError, match="reads 12 steps from 1 to 12"):
        str(gradient_flow(tg.sum(outputs), read=13))
    with pytest.raises(ValueError, match="there are 12 steps"):
        str(gradient_flow(Every(), x, read=13))


def test_a_report_tells_from_which_step_lags_are_counted():
    texts = [gradient_flow(Every(), noise(12, 2, 3), read=read).text() for read in (None, 12, 5)]
    assert ["lags were counted from step 5; from here on they are from step 12" in text for text in texts] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(("options", "most"), [({"lag": 12}, 11), ({"lag": 5, "read": 5}, 4)])
def test_a_lag_of_more_steps_than_there_are_is_refused(options, most):
    with pytest.raises(ValueError, match=f"lag={options['lag']}: no step lies so far .*: at most {most}"):
        gradient_flow(nn.RNN(3, 5, rng=0), noise(12, 2, 3), **options)
    gradient_flow(nn.RNN(3, 5, rng=0), noise(12, 2, 3), **options | {"lag": most})


@given(KIND, LAYERS, st.booleans(), SEED, st.sampled_from(["last", "all"]), st.booleans())
def test_a_padded_sequence_is_the_sequence_alone(kind, layers, both, seed, loss, unrolled):
    """Also of a loss at every step, and of a graph that is there already: each is read at its own end."""
    net, x = stack(kind, layers, both, seed), noise(12, 3, 3, seed)
    lengths = np.array([12, 7, 4])
    padded = gradient_flow(net, x, loss, lengths=lengths)
    if unrolled:  # it alone tells where each sequence ends, and padding is no input of it
        for one, other in zip(gradient_flow(padded.experiment.value()).ends, padded.ends, strict=True):
            np.testing.assert_allclose(one.x, other.x, rtol=1e-9)
            assert (one.drive, one.largest, one.saturated) == (other.drive, other.largest, other.saturated)
            assert one.states.keys() == other.states.keys()
        return
    for b, n in enumerate(lengths):
        alone = gradient_flow(net, x[:n, b : b + 1], loss)
        for end_of, end_alone in zip(padded.ends, alone.ends, strict=True):
            for key, states in end_alone.states.items():
                np.testing.assert_allclose(end_of.states[key][:n, b], states[:, 0], rtol=1e-9, atol=1e-12)
            assert np.isnan(end_of.x[n:, b]).all()
            shift = end_of.x[:n, b] - end_alone.x[:, 0]  # rms(x - mean x) of all sequences, or of one
            np.testing.assert_allclose(shift, shift[0], atol=1e-9)


@given(KIND, LAYERS, SEED)
def test_a_network_its_graph_and_a_module_of_it_are_one(kind, layers, seed):
    net, x = stack(kind, layers, False, seed), noise(12, 3, 3, seed)
    flow = gradient_flow(net, x)

    class Model(nn.Module):
        def __init__(self):
            self.net = net

        def __call__(self, x):
            return self.net(x)[0]

    loss = lambda y: tg.sum(y[-1] * flow.direction)  # noqa: E731
    for other in (gradient_flow(loss(net(x)[0])), gradient_flow(Model(), x, loss)):
        np.testing.assert_allclose(other.end.x, flow.end.x, rtol=1e-9)
        assert other.word in (flow.word, "cannot tell") and other.decades_lost == pytest.approx(flow.decades_lost)


@given(KIND, SEED)
def test_what_arrives_is_what_a_gradient_of_the_inputs_says(kind, seed):
    net, x = stack(kind, 2, False, seed), noise(9, 2, 3, seed)
    flow = gradient_flow(net, x)
    inputs = tg.Tensor(x, requires_grad=True)
    outputs, _ = net(inputs)
    found = tg.grad(tg.sum(outputs[-1] * flow.direction), inputs).data
    size = np.log10(np.linalg.norm(found, axis=-1))[::-1] + np.log10(np.sqrt(np.square(x - x.mean((0, 1))).mean()))
    np.testing.assert_allclose(flow.end.x, size, rtol=1e-9)


@settings(max_examples=3)
@given(KIND, LAYERS, SEED, st.floats(0.5, 6))
def test_reach_has_a_tolerance_and_a_depth(kind, layers, seed, decades):
    flow = gradient_flow(stack(kind, layers, False, seed), noise(20, 2, 3, seed))
    assert flow.reach() == flow.verdict.healthy_up_to == flow.judgement.reach
    assert flow.reach(decades) <= flow.reach(decades + 0.1)
    layer = f"layer {layers - 1}" if layers > 1 else ""
    curve = flow.end.states[layer, "h"]
    k = flow.reach(decades, layer)
    inside = np.abs(curve[:2].max(axis=0) - curve[1 : k + 1]) <= decades
    assert np.median(inside.sum(axis=0)) >= k > -1
    with pytest.raises(KeyError, match="no layer 'attic'"):
        flow.reach(2.0, "attic")


def test_two_networks_on_top_of_each_other_are_followed_down_to_the_inputs():
    lower, upper, x = nn.GRU(3, 4, rng=0), nn.GRU(4, 4, rng=1), noise(10, 2, 3)
    flow = gradient_flow(tg.sum(upper(lower(x)[0])[0][-1]))
    inputs = tg.Tensor(x, requires_grad=True)
    found = tg.grad(tg.sum(upper(lower(inputs)[0])[0][-1]), inputs).data
    slope = np.log10(np.linalg.norm(found, axis=-1))[::-1] - flow.end.x
    np.testing.assert_allclose(slope, slope[0, 0], atol=1e-9)


def test_a_loss_that_does_not_read_the_outputs():
    for net in (nn.RNN(3, 4, rng=0), nn.RNN(3, 4, bidirectional=True, rng=0)):
        flow = gradient_flow(net, noise(20, 2, 3), lambda y: tg.sum(y) * 0.0)
        assert flow.word == "nothing leaves" and "the loss does not depend" in flow.text()
        half = gradient_flow(net, noise(20, 2, 3), lambda y: tg.sum(y[-1, :, :4]))
        assert half.word not in ("nothing leaves", "healthy")


def test_the_last_output_of_both_directions_reads_the_reverse_one_after_one_step():
    flow = gradient_flow(nn.LSTM(3, 4, bidirectional=True, rng=0), noise(20, 2, 3), lambda y: tg.sum(y[-1]))
    assert "reverse: read after one step" in flow.text() and flow.end.name == "forward"


def test_overflow_is_a_word():
    cell = tg.RNNCell(3, 4, "relu", rng=0, init={"weight_hh": init.orthogonal(1e6)})
    flow = gradient_flow(cell, noise(100, 1, 3))
    assert flow.word == "exploding" and "overflow" in flow.text() and flow.setting.steps < 100
    cell = tg.RNNCell(1, 2, "identity", rng=0, init={"weight_ih": init.constant(10.0)})
    for x in (np.full((5, 1, 1), 1e308), np.r_[np.ones((1, 1, 1)), np.full((4, 1, 1), 1e308)]):
        assert "EXPLODING" in gradient_flow(cell, x).text()


def test_parameters_that_are_not_finite_are_named():
    cell = tg.RNNCell(3, 4, rng=0)
    cell.weight_hh.data = np.full((4, 4), np.nan)
    with pytest.raises(tg.GradientError, match="weight_hh holds 16 of 16 numbers that are not finite"):
        gradient_flow(cell, noise(9, 2, 3))


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("both", [False, True])
def test_one_step_tells_of_no_other(kind, both):
    net = stack(kind, 1, both, 0)
    ways = [gradient_flow(net, noise(1, 3, 3)), gradient_flow(net, noise(9, 3, 3), lengths=[1, 1, 1])]
    if both:  # of the last output the reverse half has seen one step
        ways.append(gradient_flow(net, noise(9, 3, 3), lambda y: tg.sum(y[-1, :, 5:])))
        assert "forward: the loss does not depend on the forward output" in ways[-1].text()
        assert "is zero" not in ways[-1].text()  # the loss does see the last input
    for flow in ways:
        assert flow.word == "cannot tell" and "1 step is seen" in flow.judgement.reason
        assert "within two decades" not in flow.text() and "nan" not in flow.text() and "cause" not in flow.text()


def test_what_is_cut_off_is_not_in_the_graph():
    """A state that is detached after step 12: what is left is the graph of the steps from there."""
    cell, x = tg.GRUCell(3, 5, rng=0), noise(20, 2, 3)

    def loss(first):
        h = cell.initial_state(2)
        for t in range(first, 20):
            with tg.scope(f"t={t + 1}"):
                h = cell(tg.Tensor(x[t], name="x"), h.detach() if t == 12 else h)
        return tg.sum(h)

    cut, h = gradient_flow(loss(0)), tg.unroll(cell, x[:12])[1]
    alone = gradient_flow(cell, x[12:], lambda y: tg.sum(y[-1]), state=h.detach())
    np.testing.assert_allclose(cut.end.x, alone.end.x, rtol=1e-9)
    assert cut.decades_lost == alone.decades_lost and "lag 7 is asked for" in cut.text()


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_frozen_weights_hand_the_gradient_on(kind):
    free, frozen = stack(kind, 1, False, 0), stack(kind, 1, False, 0)
    cell = frozen._cells["l0"]
    for name, p in cell.parameters().items():
        setattr(cell, name, tg.Tensor(np.array(p.data)))
    x = noise(20, 3, 3)
    assert not any(p.requires_grad for p in frozen.parameters().values())
    assert gradient_flow(frozen, x).judgement == gradient_flow(free, x).judgement
    assert not any(p.requires_grad for p in frozen.parameters().values())


def test_where_nothing_gets_through_no_lag_is_within_two_decades():
    flow = gradient_flow(tg.GRUCell(3, 5, update_bias=20.0, rng=0), noise(30, 3, 3))
    assert flow.word == "nothing enters" and flow.judgement.reach == 0
    assert "within two decades" not in flow.text()
    state = {("", "h"): np.r_[0.0, -9.0, np.full(18, -3.0)][:, None]}
    found = judge(end(np.full(20, -9.0), states=state))  # what is left may be more at a later step
    assert (found.word, found.reason) == (
        "nothing leaves",
        "no more than 10^-3.0 of ∂L/∂output is left at any step before",
    )


class Model(nn.Module):
    def __init__(self, recurrent=None):
        self.rnn = nn.GRU(3, 5, rng=0) if recurrent is None else recurrent

    def __call__(self, x):
        return self.rnn(x)[0]


def test_gradients_are_followed_where_none_are_recorded():
    x = noise(20, 3, 3)
    for model in (tg.GRUCell(3, 5, rng=0), nn.GRU(3, 5, bidirectional=True, rng=0), Model()):
        expected = gradient_flow(model, x)
        with tg.no_grad():
            found = gradient_flow(model, x)
            assert found.judgement == expected.judgement and found.text() == expected.text()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_and_gets_no_word(value):
    x = noise(20, 3, 3)
    with pytest.raises(tg.GradientError, match="the loss is"):
        str(gradient_flow(Model(), x, lambda y: tg.sum(y[-1]) * 0.0 + value))
    with pytest.raises(tg.GradientError, match="the loss is"):
        str(gradient_flow(nn.GRU(3, 5, bidirectional=True, rng=0), x, lambda y: tg.sum(y[-1]) * 0.0 + value))
    x[7, 1, 0] = value
    for model in (Model(), nn.GRU(3, 5, rng=0)):
        with pytest.raises(ValueError, match="the inputs are not finite"):
            str(gradient_flow(model, x))


def test_a_module_takes_whatever_it_takes():
    class Two(Model):
        def __call__(self, pair):
            return self.rnn(pair[0])[0] + tg.sum(tg.Tensor(pair[1])) * 0.0

    x = noise(12, 3, 3)
    expected, found = gradient_flow(Model(), x), gradient_flow(Two(), (x, np.ones(5)))
    assert found.judgement == expected.judgement and '"sha256"' in found.to_json()
    assert found.to_json() != gradient_flow(Two(), (x, np.zeros(5))).to_json()


def loud():
    return tg.RNN(3, 5, nonlinearity="relu", rng=0, init={"weight_hh": init.orthogonal(50.0)})


@pytest.mark.parametrize("module", [False, True])
def test_a_state_that_overflows_is_told_with_what_is_known_and_nothing_else(module):
    flow = gradient_flow(Model(loud()) if module else loud(), noise(300, 2, 3))
    text = flow.text()
    assert flow.word == "exploding" and "the state leaves float64 at step " in text and flow.zero_lag is None
    assert ("the steps before it are measured" in text) is not module
    assert ("within two decades up to lag" in text) is not module and "is zero" not in text
    assert "recurrent weights" in flow.verdict.causes  # default networks do not explode
    assert not any("gets through" in str(trial) for trial in flow.verdict.trials)


def test_sequences_that_a_loss_does_not_read_take_no_part():
    net, x = nn.GRU(3, 5, rng=0), noise(30, 5, 3)
    some = gradient_flow(net, x, lambda y: tg.sum(y[-1, :2]))
    alone = gradient_flow(net, x[:, :2], lambda y: tg.sum(y[-1]))
    assert "of 5 sequences the loss reads 2 there" in some.text() and some.word == alone.word
    np.testing.assert_allclose(some.end.states["", "h"][:, :2], alone.end.states["", "h"])
    assert some.zero_lag == alone.zero_lag and "zero" not in some.text()
    short = gradient_flow(net, x, "all", lengths=[30, 3, 30, 2, 2], read=5)  # which have ended before
    assert "of 5 sequences the loss reads 2 there" in short.text() and "zero" not in "".join(
        short.text().split("gradient  ")[0]
    )
    assert short.decades_lost == gradient_flow(net, x, "all", lengths=[30, 3, 30, 2, 2], read=5, lag=4).decades_lost
    none = gradient_flow(net, x, lambda y: tg.sum(y[-1, :0]))
    assert none.word == "nothing leaves" and "does not depend" in none.text()
