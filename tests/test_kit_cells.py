"""`check_cell`, used as newcomers use it: what it says about wrong cells, and that right ones pass."""

import numpy as np
import pytest
from test_kit import constant_slope, drops_uses

import tinygrad_rnn as tg
from tinygrad_rnn.testing import CheckError, check_cell


class Cell:
    """h' = tanh(x Wᵀ + h Uᵀ + b), with a fault to be planted."""

    def __init__(self, **changes):
        rng = np.random.default_rng(3)
        self.layers = [{"W": tg.Tensor(rng.normal(size=(4, 2)) / 2, requires_grad=True)}]
        self.U = tg.Tensor(rng.normal(size=(4, 4)) / 2, requires_grad=True)
        self.b = tg.Tensor(rng.normal(size=4), requires_grad=True)
        self.__dict__.update(changes)

    def parameters(self):
        return {"W": self.layers[0]["W"], "U": self.U, "b": self.b}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, 4)))

    def __call__(self, x, h):
        return tg.tanh(tg.linear(x, self.layers[0]["W"], self.b) + h @ self.U.T)


def faulty(step, **changes):
    class Faulty(Cell):
        def __call__(self, x, h):
            return step(self, x, h, super().__call__(x, h))

    return Faulty(**changes)


EXTRA = tg.Tensor(np.ones(4), requires_grad=True)


class Forgotten(Cell):
    def __call__(self, x, h):
        return tg.tanh(x @ self.layers[0]["W"].T + h @ self.U.T)


class Growing(Cell):
    def __call__(self, x, h):
        return tg.concatenate([super().__call__(x, h[..., :4]), h], axis=-1)


class Counting(Cell):
    calls = 0

    def __call__(self, x, h):
        self.calls += 1
        return super().__call__(x, h) * (1 + self.calls)


class OfThree(Cell):
    """The batch is the last axis, and three by accident."""

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((3, batch)))

    def __call__(self, x, h):
        return tg.tanh(h + self.b[:3, None] * tg.sum(x @ self.layers[0]["W"].T @ self.U, axis=1))


CELL_FAULTS = [
    ("form", "parameter b has no influence: its gradient is zero (is it not used, or only", Forgotten()),
    ("form", "becomes one of shape", Growing()),
    ("form", "two calls with the same input and state differ: is there a random number", Counting()),
    (
        "form",
        "something that needs a gradient is used but is not in parameters(): a tensor of shape (4,)",
        faulty(lambda self, x, h, new: new * EXTRA),
    ),
    ("form", "a state of shape (3, 4) for a batch of 4: the batch is the first axis", OfThree()),
    ("form", "parameter b needs no gradient", Cell(b=tg.Tensor(np.ones(4)))),
    ("form", "another form", faulty(lambda self, x, h, new: (new, new))),
    ("unrolling", "in two parts", faulty(lambda self, x, h, new: new * (2.0 if x.scope == "t=1" else 1.0))),
    ("batch", "alone and in a batch", faulty(lambda self, x, h, new: new - tg.mean(new, axis=0, keepdims=True))),
    ("float32", "give float64", faulty(lambda self, x, h, new: new + np.ones(4))),
]


@pytest.mark.parametrize("cell", [Cell(), tg.RNNCell(2, 3, "relu", rng=0), tg.LSTMCell(2, 3, dtype="float32", rng=0)])
def test_right_cells_pass_and_stay_as_they_are(cell):
    before = dict(cell.parameters())
    report = check_cell(cell)
    assert len(report.passed) == 7 and report.compared > 50
    assert all(cell.parameters()[name] is p for name, p in before.items())


def test_the_battery_of_a_cell_is_the_same_every_time():
    cell = tg.RNNCell(1, 2, rng=0)
    assert check_cell(cell, batch=2, steps=2) == check_cell(cell, batch=2, steps=2)


@pytest.mark.parametrize("check, words, cell", CELL_FAULTS, ids=[f"{c}: {w}" for c, w, _ in CELL_FAULTS])
def test_each_check_of_a_cell_sees_what_it_is_for(check, words, cell):
    with pytest.raises(CheckError) as caught:
        check_cell(cell)
    assert words in str(caught.value.failed[check])
    if check in ("unrolling", "batch", "float32"):
        assert set(caught.value.failed) == {check}


@pytest.mark.parametrize(
    "check, rule",
    [("first order", lambda g, y, x: g * y), ("order 2", constant_slope), ("contributions", drops_uses())],
)
def test_a_wrong_rule_inside_a_cell_is_found(plant, check, rule):
    op = plant(np.sin if check == "contributions" else np.tanh, rule)
    # Used twice on the same tensor, so that gathered uses can be lost.
    cell = faulty(lambda self, x, h, new: new + op(h) * op(h))
    with pytest.raises(CheckError) as caught:
        check_cell(cell, batch=2, steps=2)
    assert check in caught.value.failed
    if check == "first order":
        assert "the gradient of the first state (shape (2, 4)) is wrong" in str(caught.value)
        assert f"the cell uses {op.name}: check" in str(caught.value)


def test_a_copy_inside_a_cell_is_named():
    with pytest.raises(CheckError) as caught:
        check_cell(faulty(lambda self, x, h, new: new + h.detach() * tg.sigmoid(new)), steps=2, order=1)
    assert "something left the graph here: test_kit_cells.py:" in str(caught.value)
    assert "h.detach() * tg.sigmoid(new)" in str(caught.value)
    listed = Cell()
    listed.parameters = lambda: [listed.U]
    with pytest.raises(ValueError, match=r"parameters\(\) gives a dict of name to Tensor, not a list"):
        check_cell(listed)


@pytest.mark.parametrize("seed", [0])
def test_a_cell_made_with_the_seed_of_the_check_has_no_accidental_ties(plant, seed):
    wrong = plant(lambda x: np.logaddexp(x, 0), lambda g, y, x: g * np.exp(x))
    rng = np.random.default_rng(seed)
    cell = faulty(lambda self, x, h, new: wrong(new), U=tg.Tensor(rng.normal(size=(4, 4)) / 2, requires_grad=True))
    with pytest.raises(CheckError) as caught:
        check_cell(cell, rng=seed)
    assert caught.value.failed["first order"].cause == "unknown"


def test_a_cell_whose_parameters_are_out_of_reach_is_refused():
    hidden = tg.Tensor(np.ones((4, 2)), requires_grad=True)
    cell = Cell()
    cell.parameters = lambda: {"hidden": hidden}
    cell.layers = []
    with pytest.raises(ValueError, match="parameters\\(\\) has hidden, but no attribute of the cell does"):
        check_cell(cell, input_size=2)
