"""The gradient through time against closed forms, direct computation and the catalogue of docs (P1, P2, P9 ...)."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import compare, gradient_flow
from tinygrad_rnn.nn import init

D = 64, 8, 100  # n, m, T of the default setting


def simple(phi, kind, g, seed, sx=1.0, size=D, batch=1):
    """Setting D: a cell without biases, and its inputs."""
    (n, m, steps), rng = size, np.random.default_rng(seed)
    draw = {"orth": init.orthogonal(g), "gauss": init.gaussian(g / math.sqrt(n)), "radius": init.spectral_radius(g)}
    weights = {"weight_hh": draw[kind], "weight_ih": init.gaussian(sx / math.sqrt(m))}
    cell = tg.RNNCell(m, n, phi, rng=rng, bias=False, init=weights)
    return cell, rng.standard_normal((steps, batch, m))


def slope(phi, kind, g, seeds=10, **options):
    return np.mean([gradient_flow(*simple(phi, kind, g, seed, **options), rng=seed).slope for seed in range(seeds)])


def lstm(seed, batch=1, **options):
    n, m, steps = D
    rng = np.random.default_rng(seed)
    return tg.LSTMCell(m, n, rng=rng, **options), rng.standard_normal((steps, batch, m))


# --- closed forms ---


@pytest.mark.parametrize("g", [0.5, 1.0, 1.5, 2.0])
def test_p1_identity_and_orthogonal(g):
    flow = gradient_flow(*simple("identity", "orth", g, 0))
    assert flow.slope == pytest.approx(math.log10(g), abs=1e-9)
    assert 10 ** float(flow["h"].logs[100, 0]) == pytest.approx(g**100, rel=1e-9)
    assert flow.theory[0].kind == "exact" and flow.theory[0].slope == pytest.approx(math.log10(g), abs=1e-9)


def test_p7_where_float32_reads_zero():
    weights = {"weight_hh": init.constant(0.25), "weight_ih": init.constant(1.0)}
    cell = tg.RNNCell(1, 1, "identity", bias=False, init=weights, rng=0)
    flow = gradient_flow(cell, np.random.default_rng(0).normal(size=(100, 1, 1)), direction=[1.0])
    assert flow.zero_lag == 75 and flow.word == "vanishing"
    value, lag = np.float32(1), 0
    while value:
        value, lag = value * np.float32(0.25), lag + 1
    assert lag == flow.zero_lag


def direct(cell, x, v):
    """Norms of dL/dstate of each sequence from the whole graph at once, in plain float64."""
    begin = cell.initial_state(x.shape[1])
    parts = tuple(begin) if isinstance(begin, tuple) else (begin,)
    state = tuple(tg.Tensor(p.data, requires_grad=True) for p in parts)
    states = [state]
    for row in x:
        after = cell(tg.Tensor(row), state if len(state) > 1 else state[0])
        state = after if isinstance(after, tuple) else (after,)
        states.append(state)
    loss = tg.sum(state[0] * v)
    tensors = [part for state in states for part in state]
    found = iter(tg.grad(loss, tensors, allow_unused=True))
    return [[np.linalg.norm(next(found).data, axis=1) for _ in parts] for _ in states][::-1]


@given(
    st.sampled_from([tg.RNNCell, tg.LSTMCell, tg.GRUCell]), st.integers(0, 99), st.integers(1, 3), st.integers(1, 12)
)
def test_scaled_walk_equals_the_whole_graph(kind, seed, batch, steps):
    cell = kind(3, 5, rng=seed)
    x = np.random.default_rng(seed).standard_normal((steps, batch, 3))
    flow = gradient_flow(cell, x, rng=seed)
    expected = direct(cell, x, flow.direction)
    names = ["h", "c"][: len(expected[0])]
    for k, name in enumerate(names):
        lane = 10.0 ** flow[name].logs
        np.testing.assert_allclose(lane, [row[k] for row in expected], rtol=1e-10)
    for share in flow.shares.values():
        np.testing.assert_allclose(share.carried + share.rest, 1.0)
        assert share.carried[0] == pytest.approx(1.0)


def test_a_thousand_steps_do_not_underflow():
    cell = tg.RNNCell(1, 4, "identity", bias=False, init={"weight_hh": init.orthogonal(0.2)}, rng=0)
    flow = gradient_flow(cell, np.zeros((1_000, 1, 1)))
    assert flow.slope == pytest.approx(math.log10(0.2), rel=1e-9)
    assert flow["h"].logs[-1, 0] == pytest.approx(1_000 * math.log10(0.2), rel=1e-9)


# --- the catalogue ---

P2 = {
    ("sigmoid", "orth"): (-0.976, -0.686, -0.527, -0.423),
    ("sigmoid", "gauss"): (-0.961, -0.676, -0.524, -0.423),
    ("sigmoid", "radius"): (-0.990, -0.702, -0.548, -0.445),
    ("tanh", "orth"): (-0.470, -0.198, -0.062, 0.016),
    ("tanh", "gauss"): (-0.469, -0.199, -0.065, 0.008),
    ("tanh", "radius"): (-0.497, -0.223, -0.086, -0.009),
    ("relu", "orth"): (-0.455, -0.144, 0.050, 0.176),
    ("relu", "gauss"): (-0.457, -0.153, 0.053, 0.176),
    ("relu", "radius"): (-0.486, -0.180, 0.024, 0.145),
    ("identity", "gauss"): (-0.276, 0.025, 0.201, 0.326),
    ("identity", "radius"): (-0.305, -0.004, 0.172, 0.297),
}
CELLS = [(*key, g, value) for key, row in P2.items() for g, value in zip((0.5, 1, 1.5, 2), row, strict=True)]


@pytest.mark.full
@pytest.mark.parametrize("phi, kind, g, expected", CELLS)
def test_p2_all(phi, kind, g, expected):
    assert slope(phi, kind, g) == pytest.approx(expected, abs=0.05 if phi == "relu" else 0.02)


@pytest.mark.parametrize(
    "phi, kind, g, expected",
    [("sigmoid", "orth", 1, -0.686), ("tanh", "gauss", 1.5, -0.065), ("tanh", "orth", 0.5, -0.47)],
)
def test_p2(phi, kind, g, expected):
    assert slope(phi, kind, g, seeds=3) == pytest.approx(expected, abs=0.02)


P9 = {
    0: (-0.203, -0.300, (0.92, 0.04, 0, 0)),
    1: (-0.0685, -0.138, (0.97, 0.16, 0, 0)),
    2: (-0.0063, -0.056, (0.99, 0.33, 0, 0)),
    5: (0.0128, -0.003, (0.98, 1.02, 0.14, 0)),
    "chrono": (-0.0064, -0.0067, (1.0, 0.99, 0.945, 0.867)),
}


def p9(bias, seeds):
    options = {"init": "chrono", "t_max": 100} if bias == "chrono" else {"forget_bias": bias}
    flows = [gradient_flow(*lstm(seed, **options), rng=seed) for seed in seeds]
    total = np.mean([flow["c"].line.slope for flow in flows])
    carried = np.mean([flow.without("gates").line.slope for flow in flows])
    return total, carried, np.mean([flow.shares["", "c"].mean[[1, 10, 50, 99]] for flow in flows], axis=0)


@pytest.mark.full
@pytest.mark.parametrize("bias", P9)
def test_p9_all(bias):
    total, carried, shares = p9(bias, range(10))
    assert (total, carried) == pytest.approx(P9[bias][:2], abs=0.012)
    assert shares == pytest.approx(P9[bias][2], abs=0.15 if bias == 5 else 0.05)


def test_p9_forget_bias_one():
    total, carried, shares = p9(1, range(2))
    assert total == pytest.approx(-0.0685, abs=0.015) and carried == pytest.approx(-0.138, abs=0.02)
    assert shares == pytest.approx(P9[1][2], abs=0.08)


# --- verdicts ---


def loud(cell):
    """Inputs that nobody standardised."""
    return cell, 100 * np.random.default_rng(5).normal(size=(30, 3, 3))


@pytest.mark.parametrize(
    "model, word, causes",
    [
        (lambda: simple("sigmoid", "orth", 1.0, 1, size=(24, 4, 40), batch=2), "vanishing", ()),  # as default ones
        (lambda: simple("relu", "orth", 2.5, 3, size=(24, 4, 40), batch=2), "exploding", ("recurrent weights",)),
        (lambda: simple("identity", "orth", 1.0, 4, size=(16, 4, 40), batch=2), "healthy", ()),
        (lambda: simple("tanh", "orth", 0.0, 5, size=(16, 4, 20), batch=2), "vanishing", ("recurrent weights",)),
        (lambda: loud(tg.RNNCell(3, 16, rng=0)), "vanishing", ("size of the inputs",)),
        (lambda: loud(tg.LSTMCell(3, 16, forget_bias=3, rng=0)), "vanishing", ("size of the inputs",)),
    ],
)
def test_verdicts_of_built_diseases(model, word, causes):
    verdict = gradient_flow(*model()).verdict
    assert (verdict.word, verdict.causes) == (word, causes)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(batch_first, bidirectional):
    """Each sequence is followed from its own end, whatever stands behind it."""
    x, lengths = np.random.default_rng(0).normal(size=(9, 3, 2)), [9, 6, 7]
    x[6:, 1], x[7:, 2] = np.nan, np.inf
    net = tg.GRU(2, 4, bidirectional=bidirectional, batch_first=batch_first, rng=0)
    padded, short = (part.transpose(1, 0, 2) if batch_first else part for part in (x, x[:6]))
    zeros = np.nan_to_num(padded, nan=0.0, posinf=0.0)
    flow, other = (gradient_flow(net, inputs, lengths=lengths) for inputs in (padded, zeros))
    assert flow.text() == other.text() and flow.setting.steps == 9
    for cell in (tg.GRUCell(2, 4, rng=0), tg.LSTMCell(2, 4, rng=0), tg.RNNCell(2, 4, rng=0)):
        stack = getattr(tg, type(cell).__name__.removesuffix("Cell"))(2, 4, rng=1)
        stack.load_state_dict({f"{name}_l0": array for name, array in cell.state_dict().items()})
        one, two = compare({"a": cell, "b": stack}, x, lengths=lengths).flows.values()
        np.testing.assert_allclose(one.end.x, two.end.x, rtol=1e-12)
        assert one.judgement == two.judgement
    for wrong in ([9, 6], [9, 6, 10], [9, 6, 0], [9.0, 6, 7], "967"):
        with pytest.raises(ValueError, match=r"lengths=.*: give 3 whole numbers from 1 to 9"):
            gradient_flow(net, padded, lengths=wrong)
    with pytest.raises(ValueError, match=r"lengths=.*: give them to a cell or a stack"):
        gradient_flow(net, x[:, 0], lengths=[9])
    with pytest.raises(TypeError, match="lengths: only for a network that is still to be unrolled"):
        gradient_flow(tg.sum(net(short)[0]), lengths=[6, 6, 6])


def test_report_shows_itself(tmp_path):
    cell, x = lstm(0, batch=2)
    flow = gradient_flow(cell, x[:30])
    text = str(flow)
    for expected in ("verdict", "default", "cause", "forget bias", "carried in c", "weight_hh", "σ(b_f)^k"):
        assert expected in text
    data = json.loads(flow.to_json(tmp_path / "flow.json"))
    assert data["verdict"]["word"] == flow.word and json.loads((tmp_path / "flow.json").read_text("utf-8")) == data
    assert "VANISHING" in flow._repr_html_()
    pytest.importorskip("matplotlib")
    flow.save(tmp_path / "flow.svg")
    compare({"a": flow, "b": gradient_flow(tg.RNN(8, 8, 2, bidirectional=True, rng=0), x[:30])}).save(
        tmp_path / "b.svg"
    )
    assert (tmp_path / "b.svg").stat().st_size > 1000


class Leaky:
    """A cell without weights of the state or of the inputs."""

    def __init__(self):
        self.bias = tg.Tensor(np.ones(3), requires_grad=True)

    def parameters(self):
        return {"bias": self.bias}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, 3)))

    def __call__(self, x, h):
        return 0.5 * h + x + self.bias


@pytest.mark.parametrize("change", [{"weight_scale": 2.0}, {"input_scale": 2.0}, {"scale": {"w": 2.0}}])
def test_what_is_not_there_is_not_changed(change):
    flow = gradient_flow(Leaky(), np.random.default_rng(0).normal(size=(30, 2, 3)))
    with pytest.raises(ValueError, match="no such parameters to change were found; there are bias"):
        flow.what_if(**change)


@pytest.mark.parametrize("loss", ["last", "all"])
def test_where_there_is_no_other_way_all_is_carried_wherever_the_loss_reads(loss):
    flow = gradient_flow(Leaky(), np.random.default_rng(0).normal(size=(12, 2, 3)), loss)
    assert flow.shares
    for share in flow.shares.values():
        np.testing.assert_allclose(share.mean, 1.0, rtol=1e-12)


@pytest.mark.parametrize("phi, slope", [("sigmoid", lambda y: 4 * y * (1 - y)), ("tanh", lambda y: 1 - y * y)])
def test_a_unit_is_saturated_below_a_tenth_of_the_largest_slope(phi, slope):
    cell, x = tg.RNNCell(3, 5, phi, rng=0), 6 * np.random.default_rng(0).normal(size=(20, 4, 3))
    outputs, _ = tg.unroll(cell, x)
    expected = (slope(outputs.numpy()) < 0.1).mean()
    assert 0.1 < expected < 0.9
    assert gradient_flow(cell, x).activations["", "h"].saturated == pytest.approx(expected)


def test_nothing_is_dropped_while_it_is_measured():
    net, plain = (tg.LSTM(3, 4, 2, dropout=p, rng=0) for p in (0.5, 0.0))
    x = np.random.default_rng(0).normal(size=(9, 2, 3))
    np.testing.assert_array_equal(gradient_flow(net, x).end.x, gradient_flow(plain, x).end.x)
    assert net.training


@pytest.mark.parametrize("both", [False, True])
def test_v_is_known_of_whatever_network_has_one(both):
    """Of a network in both directions, of padded sequences and of a Module too; a loss of one's own has none."""
    x, net = np.random.default_rng(0).standard_normal((6, 2, 3)), nn.LSTM(3, 4, bidirectional=both, rng=0)

    class Head(nn.Module):
        def __init__(self):
            self.net, self.out = net, nn.Linear(4 * (1 + both), 5, rng=0)

        def __call__(self, x):
            return self.out(self.net(x)[0])

    for width, flow in [
        (4 * (1 + both), gradient_flow(net, x)),
        (4 * (1 + both), gradient_flow(net, x, lengths=[6, 4])),
        (5, gradient_flow(Head(), x)),
    ]:
        assert flow.direction.shape == (width,) and np.linalg.norm(flow.direction) == pytest.approx(1.0)
        again = gradient_flow(flow.experiment.model, x, direction=flow.direction, lengths=flow.experiment.lengths)
        assert again.decades_lost == flow.decades_lost
    loss = tg.sum(net(x)[0])
    for flow in (gradient_flow(loss), gradient_flow(net, x, lambda outputs: tg.sum(outputs[-1]))):
        with pytest.raises(ValueError, match="of your own has none"):
            _ = flow.direction


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("size", [1e155, 1e300])
def test_theory_of_inputs_beyond_all_bounds_is_that_of_saturation_and_warns_of_nothing(kind, size):
    x, net = np.random.default_rng(0).normal(size=(9, 2, 3)), kind(3, 4, rng=0)
    huge, large = gradient_flow(net, size * x), gradient_flow(net, 1e9 * x)
    assert huge.text() and huge.reach(5) == 0
    assert [line.slope for line in huge.theory] == pytest.approx([line.slope for line in large.theory])
