"""What is said of cells of one's own, whose states have no names and whose parameters are only scaled."""

import re

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.diagnose import gradient_flow
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
