"""Every number of the report on a network, read off its text and compared with the network, computed by hand."""

import itertools
import json
import math
import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import change, compare, gradient_flow
from tinygrad_rnn.diagnose.charts import flow_figure
from tinygrad_rnn.diagnose.theory import mean_field

T, B, M, N = 12, 3, 2, 4
X = np.random.default_rng(0).normal(size=(T, B, M))
V = np.random.default_rng(1).normal(size=N)


def table_of(text, first):
    """The rows of a table, its heads before them, without what is said below."""
    lines = text.split("\n")
    (start,) = [k for k, line in enumerate(lines) if re.match(rf"{first}  ", line.strip())]
    rows = [re.split(r" {2,}", line.strip()) for line in itertools.takewhile(str.strip, lines[start:])]
    return [row for row in rows if len(row) == len(rows[0])]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gates(cell):
    """i, f, g, o and tanh(c) of every step, by the formulas of an LSTM."""
    w, u, b, d = (p.numpy() for p in cell.parameters().values())
    h, c, found = np.zeros((B, N)), np.zeros((B, N)), []
    for x in X:
        i, f, g, o = np.split(x @ w.T + h @ u.T + b + d, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * np.tanh(c)
        found.append((i, f, g, o, np.tanh(c)))
    return dict(zip(("i", "f", "g", "o", "tanh(c)"), map(np.array, zip(*found, strict=True)), strict=True))


@pytest.mark.parametrize("gain", [1.0, 6.0])
def test_values_and_slopes_are_those_of_the_formulas(gain):
    """With a gain of six units saturate, of which the share is told."""
    cell = tg.LSTMCell(M, N, rng=0)
    for p in cell.parameters().values():
        p.data = p.data * gain
    flow = gradient_flow(cell, X, direction=V)
    heads, *rows = table_of(str(flow), "values")
    assert heads == [
        *("values", "mean", "least", "most", "φ′ mean", "φ′ least", "φ′ most", "saturated", "dead units"),
    ]
    found = gates(cell)
    assert [row[0] for row in rows] == [*found]
    for name, *told in rows:
        a = found[name]
        slope, top = (1 - a**2, 1.0) if name in ("g", "tanh(c)") else (a * (1 - a), 0.25)
        numbers = [a.mean(), a.min(), a.max(), slope.mean(), slope.min(), slope.max()]
        assert told[:6] == [f"{number:.3g}" for number in numbers], name
        np.testing.assert_allclose(flow.activations["", name].by_unit, a.mean(axis=(0, 1)), rtol=1e-12)
        np.testing.assert_allclose(flow.activations["", name].by_step, a.mean(axis=(1, 2)), rtol=1e-12)
        assert told[6] == f"{(slope < top / 10).mean():.0%}" and told[7] == "0%"


def test_a_relu_that_never_opens_is_a_dead_unit():
    cell = tg.RNNCell(M, N, "relu", rng=0)
    cell.bias_ih.data = np.array([-100.0, 100.0, 100.0, -100.0])
    (row,) = table_of(str(gradient_flow(cell, X, direction=V)), "values")[1:]
    assert row[-2:] == ["50%", "50%"] and float(row[2]) == 0.0 and [row[k] for k in (4, 5, 6)] == ["0.5", "0", "1"]


def by_lag(cell, loss):
    """∂L/∂W of the mean over the sequences, of each step's use alone: W is another tensor at every step."""
    copies, h = [], cell.initial_state(B)
    for x in X:
        own = {name: tg.Tensor(p.numpy(), requires_grad=True) for name, p in cell.parameters().items()}
        copies.append(own)
        h = tg.tanh(x @ own["weight_ih"].T + h @ own["weight_hh"].T + own["bias_ih"] + own["bias_hh"])
    (loss(h) / B).backward()
    return {name: [own[name].grad.numpy() for own in reversed(copies)] for name in copies[0]}


def test_shares_by_lag_are_direct_sums():
    cell = tg.RNNCell(M, N, rng=0)
    heads, *rows = table_of(str(gradient_flow(cell, X, direction=V)), "parameter")
    assert heads == ["parameter", "‖∂L/∂W‖", "beyond 0", "beyond 1", "beyond 5", "beyond 10"]
    terms = by_lag(cell, lambda h: tg.sum(h @ V))
    assert [row[0] for row in rows] == [*terms]
    for name, norm, *shares in rows:
        whole = np.linalg.norm(sum(terms[name]))
        assert norm == f"{whole:.3g}"
        for k, share in zip((0, 1, 5, 10), shares, strict=True):
            assert float(share) == pytest.approx(np.linalg.norm(sum(terms[name][k + 1 :])) / whole, rel=0.06), (name, k)


def test_what_is_left_after_a_lag_is_what_a_gradient_says():
    """Of h, and of an input of its own size, as the median over sequences; the lags are 0, 1, 10, half and all."""
    cell = tg.RNNCell(M, N, rng=0)
    heads, *rows = table_of(str(gradient_flow(cell, X, direction=V)), "log10 of what is left")
    assert heads[1:] == [f"lag {k}" for k in (0, 1, 5, 10, 11)] and [row[0] for row in rows] == ["inputs", "h"]
    x = tg.Tensor(X, requires_grad=True)
    outputs, _ = tg.unroll(cell, x)
    tg.sum(outputs[-1] @ V).backward()
    size = np.linalg.norm(x.grad.numpy(), axis=-1) / np.linalg.norm(V) * np.sqrt(np.mean((X - X.mean((0, 1))) ** 2))
    for told, k in zip(rows[0][1:], (0, 1, 5, 10, 11), strict=True):
        assert float(told) == pytest.approx(np.median(np.log10(size[T - 1 - k])), abs=0.0501)


def test_slopes_are_of_the_line_and_the_half_life_says_in_which_direction():
    for factor, half in ((0.5, "1"), (2.0, "×2 in 1"), (0.25, "0.5")):
        cell = tg.RNNCell(1, 1, "identity", bias=False, rng=0)
        cell.weight_hh.data = np.array([[factor]])
        flow = gradient_flow(cell, X[..., :1], direction=np.ones(1))
        heads, row = table_of(str(flow), "gradient")
        assert heads == ["gradient", "slope, decades a step", "spread", "R²", "lags", "halves in"]
        assert row[:4] == ["∂L/∂h", f"{math.log10(factor):+.4f}", "0.0000", "1.00"] and row[5] == half
        first, last = map(int, row[4].split(".."))
        assert 0 <= first < last <= T and flow.half_life == pytest.approx(abs(math.log(2) / math.log(factor)))
        assert str(flow).count(f"{math.log10(factor):+.4f}") >= 2  # also what theory says


def test_what_is_carried_is_told_for_each_lag_and_the_last():
    flow = gradient_flow(tg.LSTMCell(M, N, rng=0), X, direction=V)
    heads, row = table_of(str(flow), "at lag")
    assert heads == ["at lag", "0", "1", "2", "5", "10", "12"] and row[0] == "carried in c" and row[1] == "1.00"
    share = flow.shares["", "c"].mean
    assert row[1:] == [f"{share[k]:.2f}" for k in (0, 1, 2, 5, 10, 12)]


@pytest.mark.parametrize("loss, words", [("last", "L = v·h"), ("all", "L = Σ v·h"), (lambda y: tg.sum(y[2]), "L = <l")])
def test_the_head_says_what_was_measured(loss, words):
    flow = gradient_flow(tg.GRUCell(M, N, rng=0), X, loss, lag=4)
    first, second, *_ = str(flow).split("\n")
    assert first == f"GRUCell({M}, {N}), as given: T = {T} steps, {B} sequences, float64; lag 4 is asked for"
    assert second.startswith(words) and second == flow.to_dict()["measured"]["loss"]
    within = f"within two decades up to lag {flow.judgement.reach}" in str(flow)
    assert within is (flow.word != "cannot tell")  # of two steps nothing is known at lag 4


LENGTHS = np.array([T, 5, 8])


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize(
    "both, options, said, read",
    [
        (False, {}, "L = v·h at the last step", lambda y: y[-1]),
        (False, {"read": 7}, "L = v·h at step 7", lambda y: y[6]),
        (False, {"loss": "all"}, "L = Σ v·h over all steps", lambda y: y),
        (False, {"lengths": LENGTHS}, "L = v·h at the last step of each sequence", lambda y: y[LENGTHS - 1, range(B)]),
        (True, {}, "L = v·h at the last step of each direction", lambda y: np.c_[y[-1, :, :N], y[0, :, N:]]),
        (True, {"read": 7}, "L = v·h at step 7", lambda y: y[6]),
        (
            True,
            {"lengths": LENGTHS},
            "L = v·h at the last step of each direction and sequence",
            lambda y: np.c_[y[LENGTHS - 1, range(B), :N], y[0, :, N:]],
        ),
    ],
)
def test_the_line_of_the_loss_says_what_was_read(drawn, both, options, said, read):
    net, options = tg.GRU(M, N, bidirectional=both, rng=0), dict(options)
    v = np.random.default_rng(0).normal(size=N * (1 + both))
    v = v / np.linalg.norm(v) if drawn else v
    flow = gradient_flow(net, X, options.pop("loss", "last"), direction=None if drawn else v, **options)
    outputs = net(X, lengths=options.get("lengths"))[0].data
    assert flow.experiment.value().item() == pytest.approx((read(outputs) @ v).sum())
    assert str(flow).split("\n")[1] == f"{said}, v {'a random unit vector' if drawn else 'as given'}"


class Every(tg.nn.Module):
    """What the layers put out at every step, with another axis behind it if there are four."""

    def __init__(self, axes, batch_first):
        self.parts, self.axes = [tg.GRU(M, N, batch_first=batch_first, rng=0)], axes

    def __call__(self, x):
        y = self.parts[0](x)[0]
        return y.reshape(*y.shape[:2], N, 1) if self.axes == 4 else y


@pytest.mark.parametrize("axes", [3, 4])
@pytest.mark.parametrize("read", [None, 7])
@pytest.mark.parametrize("loss", ["last", "all"])
def test_a_module_is_read_at_its_steps_whichever_axis_they_are(axes, read, loss):
    first, second = (
        gradient_flow(Every(axes, turned), X.swapaxes(0, 1) if turned else X, loss, read=read)
        for turned in (False, True)
    )
    assert second.judgement == first.judgement and "sequences the loss reads" not in str(second)
    np.testing.assert_allclose(second.end.x, first.end.x, rtol=1e-9)
    for flow, step in ((first, ""), (second, ":, ")):
        read_of = f"the output, or its [{step}{(read or 0) - 1}] where it has 3 axes or more"
        said = f"L = v·y, v a random unit vector, y {read_of}" if loss == "last" else "L = Σ v·y, v a"
        assert str(flow).split("\n")[1].startswith(said)
    with pytest.raises(ValueError, match=f"there are {T} steps"):
        str(gradient_flow(Every(axes, True), X.swapaxes(0, 1), read=T + 1))


def test_that_several_steps_are_read_is_noted_and_of_one_nothing():
    cell = tg.GRUCell(M, N, rng=0)
    assert "the loss reads" not in str(gradient_flow(cell, X))
    assert f"note      the loss reads {T} steps; judged is what it sees from step {T}\n" in str(
        gradient_flow(cell, X, loss="all")
    )
    assert f"the loss reads {T} steps; judged is what it sees from step 7" in str(
        gradient_flow(cell, X, loss="all", read=7)
    )


def test_sequences_that_are_long_enough_are_counted():
    flow = gradient_flow(tg.GRU(M, N, rng=0), X, lengths=[12, 5, 12], lag=8)
    assert "lag 8 is asked for; 2 are that long" in str(flow)
    assert "1 sequence," in str(gradient_flow(tg.GRU(M, N, rng=0), X[:, :1])) and "all there is" in str(
        gradient_flow(tg.GRU(M, N, rng=0), X)
    )


@pytest.mark.parametrize("value", [1.0, np.float64(1.0), np.ones(1), None, tg.Tensor([1.0, 2.0])])
def test_a_loss_that_is_no_tensor_with_one_number_is_refused_with_the_remedy(value):
    for model, inputs in ((tg.RNNCell(M, N, rng=0), X), (tg.RNN(M, N, rng=0), X)):
        with pytest.raises(ValueError, match=r"a Tensor with one number: reduce it with sum\(\) or mean\(\)"):
            str(gradient_flow(model, inputs, lambda outputs: value))


def test_json_says_what_was_measured_so_that_another_can_tell_it_is_the_same():
    cell = tg.RNNCell(M, N, rng=0)
    told = json.loads(gradient_flow(cell, X, lag=3, read=9, rng=5).to_json())["measured"]
    assert told["inputs"]["shape"] == [T, B, M] and told["lag"] == 3 and told["read"] == 9 and told["v"] == 5
    assert told["inputs"]["mean"] == pytest.approx(X.mean()) and told["inputs"]["sd"] == pytest.approx(X.std())
    assert told["weights"]["shapes"] == {name: list(p.shape) for name, p in cell.parameters().items()}
    assert told["versions"]["numpy"] == np.__version__ and told["versions"].keys() == {
        *("tinygrad-rnn", "numpy", "python"),
    }
    other = json.loads(gradient_flow(cell, X + 1e-9, rng=5).to_json())["measured"]
    assert other["inputs"]["sha256"] != told["inputs"]["sha256"] and other["weights"] == told["weights"]
    again = json.loads(gradient_flow(cell, np.asfortranarray(X), rng=5).to_json())["measured"]
    assert again["inputs"]["sha256"] == told["inputs"]["sha256"]
    cell.bias_hh.data = cell.bias_hh.data + 1e-9
    assert json.loads(gradient_flow(cell, X, rng=5).to_json())["measured"]["weights"] != told["weights"]


def test_json_and_text_say_the_same_of_a_verdict():
    cell = tg.RNNCell(M, 8, nonlinearity="relu", rng=0)
    cell.weight_hh.data = cell.weight_hh.data * 4
    flow = gradient_flow(cell, np.random.default_rng(0).normal(size=(60, 2, M)), lag=50)
    text, told = str(flow), json.loads(flow.to_json())["verdict"]
    (reach,) = re.findall(r"within two decades up to lag (\d+)", text)
    assert (told["lag"], told["healthy_up_to"]) == (50, int(reach)) and 0 < int(reach) < 50
    assert f"verdict   {told['word'].upper()} as given: {told['reason']}\n" in text
    assert f"cause     {told['cause']}\n" in text and told["causes"]
    for name, judged in told["causes"].items():
        assert f"{name} (put back: {judged['word']}, D = " in told["cause"] and judged["word"] != told["word"]
    assert f"change    {told['try']}\n" in text
    lost = sorted(float(default["decades"]) for default in told["default"])
    assert f"D (decades lost) = {lost[0]:.1f} ... {lost[-1]:.1f}" in text


@pytest.mark.parametrize("of_x", [np.array, tg.Tensor])
@pytest.mark.parametrize("first", [np.zeros, lambda shape: tg.Tensor(np.zeros(shape))])
def test_a_recurrence_by_hand_has_its_inputs_and_no_others(of_x, first):
    """Neither a constant first state is one, nor a constant matrix that reads the last; plain arrays leave no trace."""
    w, u = (tg.Tensor(np.random.default_rng(k).normal(size=(N, N)) / 3, requires_grad=True) for k in range(2))
    x = np.random.default_rng(2).normal(size=(5, B, N))

    def report(readout):
        h = first((B, N))
        for t in range(1, 6):
            with tg.scope(f"t={t}"):
                h = tg.tanh(of_x(x[t - 1]) @ w + h @ u)
        return gradient_flow(readout(h)).ends[0]

    plain, read = (
        report(lambda h: tg.sum(h * np.full((B, 1), 2.0))),
        report(lambda h: tg.sum(tg.Tensor(np.full((1, B), 2.0)) @ h)),
    )
    assert (plain.x is None) is (read.x is None) is (of_x is np.array)
    np.testing.assert_allclose(read.curve, plain.curve, atol=1e-12)
    assert plain.curve.shape == (5, B) and np.isfinite(plain.curve).all()


@pytest.mark.parametrize("at_once", [True, False])
def test_the_weights_gradient_is_of_the_mean_of_a_named_loss_and_of_ones_own_as_it_is(at_once, monkeypatch):
    if not at_once:
        monkeypatch.setattr("tinygrad_rnn.diagnose.report.measure_at_once", lambda *given, **options: None)
    cell = tg.GRUCell(M, N, rng=0)
    outputs, _ = tg.unroll(cell, X)
    total = tg.sum(outputs[-1] @ V)
    own = lambda y: tg.mean(y[-1] @ V) * 7.0  # noqa: E731
    for loss, value in (("last", total / B), (own, own(outputs))):
        found = tg.grad(value, cell.weight_hh).data
        flow = gradient_flow(cell, X, loss, direction=V if loss == "last" else None)
        (row,) = [row for row in table_of(str(flow), "parameter") if row[0] == "weight_hh"]
        assert row[1] == f"{np.linalg.norm(found):.3g}"
        np.testing.assert_allclose(flow.by_lag.within("weight_hh"), found, rtol=1e-9)
        assert ("of the mean of L over the sequences" in str(flow)) is (loss == "last")
    assert "of the mean" not in str(gradient_flow(cell, X[:, :1]))  # there is one


@pytest.mark.parametrize("kind", [tg.RNNCell, tg.LSTMCell, tg.GRUCell])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_no_table_of_a_short_sequence_tells_of_nan(kind, steps):
    text = str(gradient_flow(kind(M, N, rng=0), X[:steps]))
    assert "nan" not in text and "by -" not in text
    assert ("alone: " in text) is (kind is not tg.RNNCell and steps > 1)


def test_a_model_without_a_name_of_its_own_is_called_by_its_class():
    class Answer(tg.nn.Module):
        def __init__(self):
            self.rnn = tg.RNN(M, N, rng=0)

        def __call__(self, x):
            return self.rnn(x)[0]

    one, other = (gradient_flow(Answer(), X) for _ in range(2))
    assert str(one).startswith("Answer, as given") and one.to_json() == other.to_json()
    assert one.to_dict()["measured"]["model"] == "Answer"


def test_a_direction_is_refused_that_is_no_state():
    with pytest.raises(ValueError, match=r"direction of shape \(3,\) for a state of shape \(4,\)"):
        str(gradient_flow(tg.GRUCell(M, N, rng=0), X, direction=np.ones(3)))
    for direction, shape in ((V, (4,)), (np.array(2.0), ())):
        model = tg.RNN(M, N, bidirectional=True, rng=0)
        with pytest.raises(ValueError, match=rf"direction of shape {re.escape(str(shape))} for a state of shape"):
            str(gradient_flow(model, X, direction=direction))


@pytest.mark.parametrize("phi", ["tanh", "sigmoid", "relu", "identity"])
@pytest.mark.parametrize(("g", "drive"), [(0.4, 0.3), (1.2, 1.0), (2.5, 0.05)])
def test_the_mean_field_is_what_gauss_and_hermite_say(phi, g, drive):
    """g √E φ′(√q z)² at the fixed point of q = g² E φ(√q z)² + s², the means over N(0, 1) by another rule."""
    points, weights = np.polynomial.hermite_e.hermegauss(180)
    weights = weights / weights.sum()
    values = {"tanh": np.tanh, "sigmoid": sigmoid, "relu": lambda z: np.maximum(z, 0), "identity": lambda z: z}
    slopes = {"tanh": lambda z: 1 - np.tanh(z) ** 2, "sigmoid": lambda z: sigmoid(z) * sigmoid(-z)}
    slopes |= {"relu": lambda z: 1.0 * (z > 0), "identity": lambda z: 1.0 + 0 * z}
    q = drive
    for _ in range(300 if phi in ("tanh", "sigmoid") else 1):
        q = g * g * (weights @ values[phi](math.sqrt(q) * points) ** 2) + drive
    expected = g * math.sqrt(weights @ slopes[phi](math.sqrt(q) * points) ** 2)
    assert mean_field(phi, g, drive) == pytest.approx(expected, rel=2e-3)


def test_theory_is_told_with_its_name_its_kind_and_its_rate():
    cell = tg.RNNCell(M, N, rng=0)
    heads, *rows = table_of(str(gradient_flow(cell, X)), "theory")
    assert heads == ["theory", "kind", "decades a step"]
    w, u, b, d = (p.numpy() for p in cell.parameters().values())
    g = math.sqrt(np.square(u).mean() * N)
    drive = np.square(X @ w.T + b + d).mean()
    slopes = np.linalg.norm(u, 2), mean_field("tanh", g, drive)
    assert rows == [
        ["σ_max^k", "bound", f"{math.log10(slopes[0]):+.4f}"],
        ["mean field, g √E φ′²", "estimate", f"{math.log10(slopes[1]):+.4f}"],
    ]


def test_the_chart_names_each_layer_whose_state_is_carried():
    pytest.importorskip("matplotlib")
    for layers, names in ((1, ["c"]), (2, ["c layer 0", "c layer 1"])):
        flow = gradient_flow(tg.LSTM(M, N, layers, rng=0), X)
        lower = flow_figure(flow).axes[1]
        means = [share.mean[10] for share in flow.shares.values()]
        told = [f"carried along {name}: {mean:.2f} at lag 10" for name, mean in zip(names, means, strict=True)]
        assert [t.get_text() for t in lower.get_legend().get_texts()] == told
        np.testing.assert_array_equal(lower.lines[0].get_ydata(), next(iter(flow.shares.values())).mean)


def test_the_chart_of_a_report_has_each_states_own_dots_rate_and_band():
    """Dots are medians over the sequences, the band beside them holds the middle 80 % of these."""
    pytest.importorskip("matplotlib")
    inputs = np.random.default_rng(2).normal(size=(T, 24, M))
    flow = gradient_flow(tg.LSTM(M, N, 2, rng=0), inputs)
    axes = flow_figure(flow).axes[0]
    dots = {line.get_label().partition(":")[0]: line for line in axes.lines}
    rates, edges = set(), [path.vertices for band in axes.collections for path in band.get_paths()]
    for (layer, name), logs in flow.end.states.items():
        line = dots[f"∂L/∂{name} {layer}"]
        np.testing.assert_array_equal(line.get_ydata(), np.median(logs, axis=1))
        rate = f"{flow[layer, name].line.slope:+.3g} decades a step"
        assert line.get_label() == f"∂L/∂{name} {layer}: {rate}"
        rates.add(rate)
        for end in (0.1, 0.9):
            wanted = np.quantile(logs, end, axis=1)
            assert any({*np.round(wanted, 9)} <= {*np.round(band[:, 1], 9)} for band in edges), (name, end)
    assert len(rates) == 4  # else any lane's rate would be the right one


@pytest.mark.parametrize("steps", [6, 10, 11, 12])
def test_a_row_of_a_comparison_has_the_numbers_of_that_report(steps):
    """The share is that of the first state that is carried, after ten steps, or after all where there are fewer."""
    cells = {"gru": tg.GRUCell(M, N, rng=0), "lstm": tg.LSTMCell(M, N, rng=1), "rnn": tg.RNNCell(M, N, rng=2)}
    flows = {name: gradient_flow(cell, X[:steps]) for name, cell in cells.items()}
    for row, (name, flow) in zip(compare(flows).table(), flows.items(), strict=True):
        lane, share = flow["h"].line, {"gru": ("", "h"), "lstm": ("", "c")}.get(name)
        carried = None if share is None else flow.shares[share].carried[min(10, steps)].mean()
        assert (row["network"], row["steps"], row["verdict"]) == (name, steps, flow.word)
        assert [row[key] for key in ("slope", "spread", "decades lost", "half-life")] == pytest.approx(
            [np.median(lane.slopes), lane.slopes.std(ddof=1), flow.judgement.decades, lane.half_life]
        )
        assert row["carried at lag 10"] == (None if carried is None else pytest.approx(carried))


def test_one_sequence_is_that_long_and_each_layer_has_its_own_line():
    text = str(gradient_flow(tg.nn.GRU(M, N, num_layers=2, rng=0), X, lengths=[12, 5, 3]))
    assert "; 1 is that long" in text.split("\n")[0]
    (line,) = [
        line for line in str(gradient_flow(tg.nn.GRU(M, N, num_layers=2, rng=0), X)).split("\n") if "alone" in line
    ]
    assert re.findall(r"; layer (\d) alone: [-+]0\.\d{4} decades a step", line) == ["0", "1"]


@pytest.mark.parametrize("part", ["recurrent weights", "input weights", "biases"])
def test_what_is_drawn_anew_is_drawn_as_pytorch_draws_it(part):
    """Evenly from ±1/√H, however many inputs there are; and nothing else is drawn."""
    cell = tg.LSTMCell(50, 16, rng=0)
    other, _ = change(cell, redraw=part)
    names = {"recurrent weights": {"weight_hh"}, "input weights": {"weight_ih"}, "biases": {"bias_ih", "bias_hh"}}
    for name, p in other.parameters().items():
        before, after = cell.parameters()[name].numpy(), p.numpy()
        assert np.array_equal(before, after) == (name not in names[part])
        if name in names[part]:
            assert 0.95 / 4 < np.abs(after).max() <= 1 / 4
            assert np.square(after).mean() == pytest.approx(1 / 16 / 3, rel=0.25)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e9])
def test_the_chart_says_where_float32_ends_for_this_loss(factor):
    """Its axis is relative to ∂L/∂output: of a large loss there is more left before float32 reads zero."""
    pytest.importorskip("matplotlib")
    cell = tg.RNNCell(M, N, "identity", init={"weight_hh": nn.init.orthogonal(0.05)}, rng=0)
    inputs = np.random.default_rng(0).normal(size=(60, B, M))
    axes = flow_figure(gradient_flow(cell, inputs, lambda outputs: factor * tg.sum(outputs[-1]))).axes[0]
    (told,) = [text for text in axes.texts if text.get_text() == "float32 reads zero"]
    at = math.log10(2.0**-150) - math.log10(factor * math.sqrt(N))
    assert told.xy[1] == pytest.approx(at) and any(line.get_ydata()[0] == told.xy[1] for line in axes.lines)
