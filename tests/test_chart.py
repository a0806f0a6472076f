"""Gradient through time: slopes that are known by hand, numbers without matplotlib, a chart with it."""

import math
import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.cli import main
from tinygrad_rnn.cli.draw import left_of
from tinygrad_rnn.diagnose import gradient_flow
from tinygrad_rnn.draw import gradient_through_time
from tinygrad_rnn.draw.chart import Decay
from tinygrad_rnn.draw.style import number
from tinygrad_rnn.graph.line import fit


def chain(factor, steps=20, dtype=np.float64):
    h = tg.Tensor(np.ones(2, dtype), requires_grad=True, name="h0")
    for t in range(1, steps + 1):
        with tg.scope(f"t={t}"):
            h = h * dtype(factor)
            h.name = "h"
    return tg.sum(h)


def test_state_without_a_name_is_asked_for_with_the_remedy():
    h = tg.Tensor(np.ones(2), requires_grad=True)
    for t in (1, 2, 3):
        with tg.scope(f"t={t}"):
            h = h * 0.5
    with pytest.raises(KeyError, match=r"no 'h' among .*#.*h\.name = 'h'"):
        gradient_through_time(tg.sum(h))["h"]
    assert "table" not in repr(gradient_through_time(chain(0.5))["h"])


@pytest.mark.parametrize("factor", [0.5, 0.1, 3.0, 1.0])
def test_slope_and_half_life_of_a_geometric_decay(factor):
    decay = gradient_through_time(chain(factor))["h"]
    assert decay.slope == pytest.approx(math.log10(factor), abs=1e-12)
    if factor != 1.0:
        assert decay.half_life == pytest.approx(math.log(2) / abs(math.log(factor)))
    assert [row[:2] for row in decay.table] == [(20 - lag, lag) for lag in range(20)]
    assert [size for *_, size in decay.table] == pytest.approx([math.sqrt(2) * factor**lag for lag in range(20)])


def test_tiny_gradients_are_measured_and_zeros_left_out():
    assert gradient_through_time(chain(1e-12, 25))["h"].slope == pytest.approx(-12.0)
    assert gradient_through_time(chain(1e-12, 25))["h"].table[-1][2] == pytest.approx(
        math.sqrt(2) * 1e-288
    )  # squared: 0
    assert gradient_through_time(chain(1e-10, 9, np.float32))["h"].slope == pytest.approx(-10.0, rel=0.1)
    decay = gradient_through_time(chain(0.0))["h"]
    assert math.isnan(decay.slope) and decay.table[5][2] == 0.0


def test_slope_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    _, (h, _) = tg.unroll(tg.LSTMCell(2, 3, rng=0), rng.normal(size=(30, 1, 2)))
    graph = tg.gradient_graph(tg.sum(h))
    measured = gradient_through_time({"LSTM": graph, "chain": chain(0.5)})
    assert [(d.network, d.state) for d in measured.decays] == [("LSTM", "h"), ("LSTM", "c"), ("chain", "h")]
    for name in "hc":
        decay = measured["LSTM", name]
        nodes = {int(n.step[2:]): n for n in graph.nodes if n.name == name and n.step}
        assert {t: size for t, _, size in decay.table} == pytest.approx(
            {t: np.linalg.norm(n.gradient) for t, n in nodes.items()}
        )
        lags, sizes = np.array([(lag, size) for _, lag, size in decay.table]).T
        expected = np.polyfit(lags[10:], np.log10(sizes[10:]), 1)
        assert decay.slope == pytest.approx(expected[0])
    with pytest.raises(KeyError, match="LSTM"):
        measured["z"]


@pytest.mark.parametrize("lags", [4, 9, 40])
def test_a_line_says_how_much_it_explains_and_how_far_off_the_points_are(lags):
    logs = np.random.default_rng(lags).normal(size=(lags + 1, 3)) - 0.3 * np.arange(lags + 1)[:, None]
    line = fit(logs)
    assert (line.first, line.last) == (min(10, lags // 2), lags)
    for k, y in enumerate(logs[line.first :].T):
        x = np.arange(line.first, lags + 1)
        slope, intercept = np.polyfit(x, y, 1)
        off = y - slope * x - intercept
        assert (line.slopes[k], line.intercepts[k]) == (pytest.approx(slope), pytest.approx(intercept))
        assert line.rms[k] == pytest.approx(np.sqrt(np.mean(off**2)))
        assert line.r2[k] == pytest.approx(1 - np.var(off) / np.var(y))
    assert line.spread == pytest.approx(np.std(line.slopes, ddof=1)) and line.spread > 0
    assert math.isnan(fit(logs[:, :1]).spread)
    logs[1:, 0] = -np.inf  # a sequence without a slope counts for neither
    assert fit(logs).spread == pytest.approx(abs(line.slopes[1] - line.slopes[2]) / math.sqrt(2))
    assert math.isnan(fit(logs[:, :2]).spread)


def test_two_norms_in_the_window_are_enough_and_what_is_before_it_is_used_below_that():
    logs = np.full((21, 3), -np.inf)
    logs[:5] = np.array([0.0, 3.0, 1.0, 4.0, 1.0])[:, None]
    logs[12, 1:], logs[14, 2] = -7.0, -8.0
    line, lags = fit(logs), np.arange(21.0)
    for k, kept in enumerate((logs[:, 0] > -np.inf, logs[:, 1] > -np.inf, lags >= 10)):
        kept = kept & (logs[:, k] > -np.inf)
        assert line.slopes[k] == pytest.approx(np.polyfit(lags[kept], logs[kept, k], 1)[0])


@pytest.mark.parametrize("rate", [0.5, 0.25, 2.0, 1.0])
def test_after_a_half_life_half_of_a_line_is_left(rate):
    line = fit(np.log10(rate) * np.arange(30.0)[:, None])
    assert line.half_life == pytest.approx({0.5: 1.0, 0.25: 0.5, 2.0: 1.0, 1.0: math.inf}[rate])


@pytest.mark.parametrize("loss", ["all", "last"])
def test_the_lag_counts_the_calls_of_a_cell_back_whichever_way_it_runs(loss):
    """A reverse direction is, lag by lag, the same cell running forwards over the sequence turned round."""
    both, x = tg.RNN(2, 3, bidirectional=True, rng=0), np.random.default_rng(0).normal(size=(6, 2, 2))
    alone = tg.RNNCell(2, 3, rng=0)
    for name, p in alone.parameters().items():
        p.data = both.parameters()[f"{name}_l0_reverse"].data
    (outputs, last), (turned, end) = both(x), tg.unroll(alone, x[::-1].copy())
    found = gradient_through_time(tg.sum(outputs if loss == "all" else last))
    wanted = gradient_through_time(tg.sum(turned if loss == "all" else end))["h"]
    forwards, reverse = found["h layer 0"].table, found["h layer 0 reverse"].table
    assert [(t, lag) for t, lag, _ in forwards] == [(6 - lag, lag) for lag in range(6)]
    assert [(t, lag) for t, lag, _ in reverse] == [(1 + lag, lag) for lag in range(6)]
    assert [size for *_, size in reverse] == pytest.approx([size for *_, size in wanted.table])
    assert found["h layer 0 reverse"].slope == pytest.approx(wanted.slope)


@pytest.mark.parametrize("share", [0.0, 1e-30, 9.99e-4, 1e-3, 0.25, 1.0, 9.99, 10.0, 4e7])
def test_what_is_left_in_the_line_of_a_command_is_the_share_of_the_last_step(share):
    """In per cent where that can be read, else as a factor; of several states that which keeps most."""

    def decay(name, left):
        table = tuple((9 - lag, lag, 2.0 * left ** (lag / 8)) for lag in range(9))
        return Decay("", name, table, 0.0)

    told = left_of([decay("less", share / 2), decay("most", share)])
    number, unit = re.fullmatch(r"∂L/∂most at t=1 is (\S+) (% of|times) that at t=9(?:, on average .*)?", told).groups()
    assert float(number) / (100 if unit == "% of" else 1) == pytest.approx(share, rel=0.06)
    assert (unit == "% of") == (1e-3 <= share < 10)
    factor = re.search(r"on average × (\S+) a step", told)
    assert (factor is None) == (share == 0.0)
    assert factor is None or float(factor[1]) == pytest.approx(share ** (1 / 8), rel=6e-3)


def test_misuse_is_named(tmp_path):
    x = tg.Tensor(1.0, requires_grad=True)
    with pytest.raises(ValueError, match="no time steps"):
        gradient_through_time(x * x)
    with pytest.raises(TypeError, match="loss Tensor"):
        gradient_through_time(3.0)
    with pytest.raises(ValueError, match="svg"):
        gradient_through_time(chain(0.5), tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_the_chart_is_a_picture_of_the_same_numbers(tmp_path):
    losses = {"a $b$ <c>": chain(0.5), "b": chain(0.0)}
    measured = gradient_through_time(losses, tmp_path / "a.svg", title="$ 1")
    measured.save(tmp_path / "b.svg", title="$ 1")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert ">a $b$ &lt;c&gt; h:  × 0.5 per step back<" in text and ">$ 1<" in text
    assert all(f"= {number(size)}" in text for size in (measured["a $b$ <c>", "h"].table[k][2] for k in (0, -1)))


@pytest.mark.parametrize(
    "kind, steps, batch",
    [("RNN", 3, 1), ("RNN", 15, 3), ("LSTM", 20, 1), ("LSTM", 3, 3), ("GRU", 30, 1), ("GRU", 15, 1)],
)
def test_one_loss_has_one_rate_everywhere(kind, steps, batch, tmp_path, capsys):
    """In the picture, in the chart, in the report and on the command line."""
    net = getattr(tg, kind)(4, 8, rng=0)
    x = np.random.default_rng(0).normal(size=(batch, steps, 4))
    np.save(tmp_path / "x.npy", x)
    tg.nn.save(tmp_path / "net.npz", net.state_dict())
    flow = gradient_flow(net, x.transpose(1, 0, 2))
    loss = tg.sum(net(x.transpose(1, 0, 2))[0][-1] * flow.direction)
    words = ["flow", "--weights", str(tmp_path / "net.npz"), "--data", str(tmp_path / "x.npy")]
    main([*words, *(["--nonlinearity", "tanh"] * (kind == "RNN"))])
    (printed,) = re.findall(r"∂L/∂h +([+-][\d.]+)", capsys.readouterr().out)
    rates = [10 ** gradient_through_time(loss)["h"].slope, 10 ** gradient_flow(loss).slope, 10**flow.slope]
    assert rates == pytest.approx(rates[:1] * 3, rel=1e-9) and float(printed) == round(flow.slope, 4)
    drawn = re.findall(r">h:  × ([0-9.e-]+) per step back<", tg.draw(loss).svg())
    assert drawn == [f"{rates[0]:.3g}"] * (steps > 3)
