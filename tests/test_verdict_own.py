"""What is said of cells of one's own, whose states have no names and whose parameters are only scaled."""

import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.diagnose import change, gradient_flow
from tinygrad_rnn.diagnose.verdict import power


def noise(steps, batch, size):
    return np.random.default_rng(0).normal(size=(steps, batch, size))


class Leaky:
    """A cell of one's own, with a state that has no name, and that is also multiplied by a number."""

    def __init__(self, keep=0.5, handed=lambda h: h):
        rng = np.random.default_rng(0)
        self.W, self.U = (tg.Tensor(rng.normal(size=(n, 4)), requires_grad=True) for n in (3, 4))
        self.keep, self.handed = keep, handed

    def parameters(self):
        return {"W": self.W, "U": self.U}

    def initial_state(self, batch):
        return np.zeros((batch, 4))

    def __call__(self, x, h):
        h = self.handed(h)
        return self.keep * h + tg.tanh(x @ self.W + h @ self.U)


def test_a_state_without_a_name_is_one_from_the_first_step_on():
    """What the first step computes of a constant state alone is an operation, too."""
    flow = gradient_flow(Leaky(), noise(9, 2, 3))
    ((_, curve),) = flow.end.states.items()
    assert np.isfinite(curve).all() and len(curve) == 9


def test_a_state_that_is_not_handed_on_is_said_to_be_none():
    flow = gradient_flow(Leaky(0.0, lambda h: h.detach()), noise(9, 2, 3))
    assert flow.word == "cannot tell" and flow.judgement.reason.endswith("no state is handed on to it (a detach, say)")


class Linear(Leaky):
    """One in which input weights change nothing but a scale."""

    def __call__(self, x, h):
        return self.keep * (h @ self.U) + x @ self.W


def test_changes_that_are_printed_help_as_they_are_printed():
    flow = gradient_flow(Linear(1.0), noise(30, 2, 3))
    assert {name for trial in flow.verdict.trials for name in trial.changes["scale"]} == {"W", "U"}
    told = re.findall(r"^change    (.) .*D from (\S+) to (\S+),", flow.text(), re.M)
    assert [name for name, *_ in told] == ["U"] and all(before != after for _, before, after in told)


@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_a_state_may_count(keep):
    class Counting(Leaky):
        def initial_state(self, batch):
            return np.zeros((batch, 4)), np.zeros(batch, int)

        def __call__(self, x, state):
            return super().__call__(x, state[0]), state[1] + 1

    ways = [gradient_flow(cell(keep), noise(9, 2, 3)) for cell in (Leaky, Counting)]
    assert ways[0].decades_lost == ways[1].decades_lost


@pytest.mark.filterwarnings("error")
def test_what_is_beyond_float64_is_not_called_zero():
    rows = [line.split() for line in gradient_flow(Linear(4.0), noise(600, 1, 3)).text().split("\n")]
    (told,) = [row[1:4] for row in rows if row[:1] == ["U"] and "×" not in row]
    assert told[:2] == ["beyond", "float64"]
    assert [power(log) for log in (np.inf, -np.inf, -0.04, 2.0)] == ["beyond float64", "0", "10^0.0", "10^2.0"]


class Stacked(tg.nn.Module):
    """One network on top of another."""

    def __init__(self, lower, upper):
        self.lower, self.upper = lower, upper

    def __call__(self, x):
        return self.upper(self.lower(x)[0])[0]


@pytest.mark.parametrize("kinds", [(tg.GRU, tg.GRU), (tg.RNN, tg.LSTM)])
def test_a_factor_of_the_inputs_is_of_what_they_enter_alone(kinds):
    """Of two networks the upper one has weights of the same name, which no input enters."""
    lower, upper = (kind(5, 5, rng=k) for k, kind in enumerate(kinds))
    x = 0.05 * np.random.default_rng(0).normal(size=(30, 3, 5))
    flow = gradient_flow(Stacked(lower, upper), x)
    with pytest.raises(ValueError, match=r"which of lower\.weight_ih_l0, upper\.weight_ih_l0 the inputs enter"):
        flow.what_if(input_scale=10.0)
    assert not any("input_scale" in trial.changes for trial in flow.verdict.trials)
    for net in (lower, tg.GRU(5, 5, 2, bidirectional=True, rng=0)):  # of one network it is the inputs' own
        changed, _ = change(net, x, input_scale=10.0)
        np.testing.assert_allclose(changed(0.1 * x)[0].data, net(x)[0].data, rtol=1e-9)


@pytest.mark.parametrize("name", ["forget_bias", "update_bias", "bias", "nonlinearity"])
def test_a_change_that_does_not_fit_names_the_cell_that_it_does_not_fit(name):
    """Among others that it fits."""
    fits = {"forget_bias": tg.LSTM, "update_bias": tg.GRU}.get(name, tg.RNN)
    other = tg.LSTM if fits is tg.GRU else tg.GRU
    value = "relu" if name == "nonlinearity" else 1.0
    with pytest.raises(ValueError, match=rf"{name} is for .*: not for {other.__name__}Cell\(5, 5"):
        change(Stacked(fits(5, 5, rng=0), other(5, 5, rng=0)), np.ones((4, 2, 5)), **{name: value})
