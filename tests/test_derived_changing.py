"""Derived BPTT: a cell or a loss that changes from call to call, or goes by the numbers, is refused, with the line."""

import collections
import contextlib
import itertools
import random
import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg

COUNT, NUMBERS, DRAW = [0], itertools.count(), np.random.default_rng(0)
STATEFUL = {"t": 0, "log": list, "deque": lambda: collections.deque([1, 1, 2]), "set": lambda: {1}}


class Slots:
    __slots__ = ("n",)

    def __init__(self):
        self.n = 0


class Cell:
    """tanh(x + h U), whose step does something more."""

    kept: int = 0

    def __init__(self, more):
        self.U = tg.Tensor(np.random.default_rng(0).normal(size=(3, 3)) / 2, requires_grad=True)
        self.more, self.t, self.log, self.deque, self.set = more, 0, [], collections.deque([1, 1, 2]), {1}
        self.slots, self.array, self.iterator = Slots(), np.zeros(2), iter([1.0] * 1000)
        self.draw, self.old, self.random = np.random.default_rng(0), np.random.RandomState(0), random.Random(0)
        self.cache = {}

    def parameters(self):
        return {"U": self.U}

    def __call__(self, x, h):
        return self.more(self, x, tg.tanh(h @ self.U + x))


def derive(more, loss=lambda outputs: tg.sum(outputs**2), steps=3):
    return tg.derive_bptt(Cell(more), loss, (np.ones((steps, 3)) * 0.3, np.zeros(3)))


def counts_globally(cell, x, h):
    COUNT[0] += 1
    return h * (2 if COUNT[0] % 1000 == 0 else 1)  # HERE


def counts_in_a_helper(cell, x, h):
    counts_globally(cell, x, h)
    return h


def counts_in_its_class(cell, x, h):
    Cell.kept += 1
    return h * (2 if Cell.kept % 1000 == 0 else 1)  # HERE


def counts_in_a_default(cell, x, h, seen=[]):  # noqa: B006
    seen.append(1)
    return h * (2 if len(seen) % 1000 == 0 else 1)


def counts_in_itself(cell, x, h):
    counts_in_itself.n = getattr(counts_in_itself, "n", 0) + 1
    return h * (2 if counts_in_itself.n % 1000 == 0 else 1)  # HERE


def counts_in_an_iterator(cell, x, h):
    return h * (2 if next(NUMBERS) % 1000 == 999 else 1)  # HERE


def closure():
    n = 0

    def counts_in_a_closure(cell, x, h):
        nonlocal n
        n += 1
        return h * (2 if n % 1000 == 0 else 1)  # HERE

    return counts_in_a_closure


def rotates(cell, x, h):
    cell.deque.rotate(1)
    return h * cell.deque[0]  # HERE


def grows(cell, x, h):
    cell.set.add(len(cell.set) + 1)
    return h * (2 if len(cell.set) > 40 else 1)  # HERE


def keeps_states(cell, x, h):
    cell.log.append(h)
    return h * (2 if len(cell.log) > 40 else 1)  # HERE


def in_slots(cell, x, h):
    cell.slots.n += 1
    return h * (2 if cell.slots.n > 40 else 1)  # HERE


def in_place(cell, x, h):
    cell.array += 1
    return h * (2 if cell.array[0] > 40 else 1)  # HERE


def iterates(cell, x, h):
    return h * next(cell.iterator)  # HERE


def fills_a_cache(cell, x, h):
    return h * cell.cache.setdefault(h.shape, np.full(3, 0.5))  # HERE


DRAWS = {
    "a generator": lambda cell, x, h: h * (2 if cell.draw.random() > 2 else 1),
    "an old generator": lambda cell, x, h: h * (2 if cell.old.rand() > 2 else 1),
    "Python's": lambda cell, x, h: h * (2 if cell.random.random() > 2 else 1),
    "a global generator": lambda cell, x, h: h * (2 if DRAW.random() > 2 else 1),
    "NumPy's global one": lambda cell, x, h: h * (2 if np.random.random() > 2 else 1),  # noqa: NPY002
    "Python's global one": lambda cell, x, h: h * (2 if random.random() > 2 else 1),
}
COUNTS = [
    *(counts_globally, counts_in_a_helper, counts_in_its_class, counts_in_a_default, counts_in_itself, closure()),
    *(
        counts_in_an_iterator,
        rotates,
        grows,
        keeps_states,
        in_slots,
        in_place,
        iterates,
        fills_a_cache,
        *DRAWS.values(),
    ),
]


@pytest.mark.parametrize("more", COUNTS, ids=lambda f: f.__name__)
def test_a_cell_that_changes_is_refused(more):
    with pytest.raises(tg.bptt.TraceError, match=r"changes from step|not its first over|draws random") as caught:
        derive(more)
    place = re.search(r"test_derived_changing.py:(\d+)", str(caught.value))
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    marked = [line for line in lines if line.endswith("# HERE")]
    assert place and str(caught.value).isprintable()
    if more.__name__ not in ("counts_in_a_helper", "counts_in_a_default", "counts_in_itself", "<lambda>"):
        assert lines[int(place[1]) - 1] in marked


def caught_float(cell, x, h):
    try:
        large = float(tg.sum(x)) > 1  # HERE
    except Exception:
        large = False
    return -h if large else h


def caught_condition(cell, x, h):
    try:
        large = bool(tg.sum(x) > 1)  # HERE
    except:  # noqa: E722
        large = False
    return -h if large else h


def suppressed(cell, x, h):
    large = False
    with contextlib.suppress(TypeError):
        large = tg.sum(x).item() > 1  # HERE
    return -h if large else h


def asks_whether(cell, x, h):
    return -h if hasattr(h, "tolist") and h.data.tolist()[0] > 1 else h  # HERE


def asks_by_default(cell, x, h):
    return getattr(h, "is_leaf", True) * h  # HERE


def is_a_tensor(cell, x, h):
    return -h if isinstance(x, tg.Tensor) and x.data[0] > 1 else h  # HERE


def is_an_array(cell, x, h):
    return -h if isinstance(h > 1, np.ndarray) and (h > 1)[0] else h  # HERE


def by_text(cell, x, h):
    return -h if str(x).startswith("Tensor([2") else h  # HERE


def by_format(cell, x, h):
    return -h if f"{x}".startswith("Tensor([2") else h  # HERE


def largest_of(cell, x, h):
    return max(h, 2 * h, key=lambda value: tg.sum(value))  # HERE


def within(cell, x, h):
    return h if x in [h] else -h  # HERE


def any_element(cell, x, h):
    return h if (h > 0).any() else -h  # HERE


@pytest.mark.parametrize(
    "more",
    [
        *(caught_float, caught_condition, suppressed, asks_whether, asks_by_default, is_a_tensor, is_an_array, by_text),
        *(by_format, largest_of, within, any_element),
    ],
    ids=lambda f: f.__name__,
)
def test_a_cell_that_goes_by_the_numbers_is_refused_even_if_it_catches_the_refusal(more):
    with pytest.raises(tg.bptt.TraceError) as caught:
        derive(more)
    place = re.search(r"test_derived_changing.py:(\d+)", str(caught.value))
    assert place and Path(__file__).read_text(encoding="utf-8").splitlines()[int(place[1]) - 1].endswith("# HERE")


def test_a_branch_that_the_trace_cannot_see_is_found_at_other_values():
    def by_class(cell, x, h):
        return -h if type(x) is tg.Tensor and x.data.sum() > 2 else h

    for steps in (1, 3):
        with pytest.raises(tg.GradientError, match="asks of what class a value is"):
            derive(by_class, steps=steps)
    with pytest.raises(tg.GradientError, match="does something else each time"):
        derive(lambda cell, x, h: h * (1 + (type(x) is tg.Tensor) * np.random.default_rng().random()))


def test_a_cell_that_checks_the_class_of_what_it_is_given_is_derived():
    def checks(cell, x, h):
        assert isinstance(h, tg.Tensor) and not isinstance(h, np.ndarray)
        return h if isinstance(x, tg.Tensor) else tg.Tensor(x)

    assert "tanh" in derive(checks).source


def test_an_entry_that_changes_is_named_as_it_is():
    def counts(cell, x, h):
        cell.cache["seen?"] = cell.cache.get("seen?", 0) + 1
        return h

    cell = Cell(counts)
    cell.cache = {"seen?": 0}
    with pytest.raises(tg.bptt.TraceError, match=re.escape("the cell's seen? changes from step to step")):
        tg.derive_bptt(cell, lambda outputs: tg.sum(outputs), (np.ones((3, 3)), np.zeros(3)))


# --- losses ---


def counting():
    calls = [0]

    def loss(outputs):
        calls[0] += 1
        return tg.sum(outputs) * (2 if calls[0] % 1000 == 0 else 1)

    return loss


def caught_by_the_loss(outputs):
    try:
        return tg.sum(outputs) if float(tg.sum(outputs)) > 0 else tg.sum(outputs**2)
    except TypeError:
        return tg.sum(outputs)


@pytest.mark.parametrize(
    "loss, why",
    [
        (counting(), "the loss's calls changes from call to call: pass it as an argument"),
        (lambda outputs: tg.sum(outputs * DRAW.normal(size=3)), "the loss's DRAW changes from call to call"),
        (lambda outputs: tg.sum(outputs) * random.random(), "the loss draws random numbers"),
        (lambda outputs: tg.sum(outputs) if hasattr(outputs, "grad") else 0, "no attribute 'grad'"),
        (caught_by_the_loss, "float() asks for the numbers"),
    ],
    ids=["counter", "noise", "random", "hasattr", "caught"],
)
def test_a_loss_that_changes_or_goes_by_the_numbers_is_refused(loss, why):
    with pytest.raises(tg.bptt.TraceError, match=re.escape(why)):
        derive(lambda cell, x, h: h, loss)


def test_a_loss_whose_surroundings_changed_is_refused_at_the_call():
    weight, weights, table = 1.0, np.ones(3), {"weight": 1.0}
    held, large = tg.Tensor(np.ones(3)), np.ones((40, 40, 3))

    class Trainer:
        factor, other = 1.0, 0

        def __init__(self):
            self.factor, self.other = 1.0, 0

        def loss(self, outputs):
            return tg.sum(outputs * (weight * weights * table["weight"] * self.factor * held)) + np.sum(large) * weight

    trainer = Trainer()
    x, h, U = np.ones((3, 3)), np.zeros(3), {"U": np.eye(3)}

    def refused(change, undo, named):
        program = derive(lambda cell, x, h: h, trainer.loss)
        before = program(x, h, U)[0]
        change()
        with pytest.raises(ValueError, match=f"{named}, which the loss takes from outside"):
            program(x, h, U)
        undo()
        assert program(x, h, U)[0] == before

    def rebind(value):
        nonlocal weight
        weight = value

    one = weight
    refused(lambda: rebind(2.0), lambda: rebind(one), "weight")
    refused(lambda: weights.__setitem__(1, 5), lambda: weights.__setitem__(1, 1), "weights")
    refused(lambda: large.fill(2), lambda: large.fill(1), "large")
    refused(lambda: table.update(weight=3.0), lambda: table.update(weight=one), "table")
    old = held._value
    refused(lambda: setattr(held, "data", np.zeros(3)), lambda: setattr(held, "_value", old), "held")
    old = trainer.factor
    refused(lambda: setattr(trainer, "factor", 3.0), lambda: setattr(trainer, "factor", old), "self")
    program = derive(lambda cell, x, h: h, trainer.loss)
    trainer.other = 5  # of which the loss does not speak
    assert program(x, h, U)[0]


def test_what_the_cell_holds_is_as_it_was_when_it_was_derived():
    cell = Cell(lambda cell, x, h: h * cell.array)
    cell.array = np.ones(3)
    program = tg.derive_bptt(cell, lambda outputs: tg.sum(outputs), (np.ones((3, 3)), np.zeros(3)))
    before = program(np.ones((3, 3)), np.zeros(3), cell.parameters())[0]
    cell.array *= 2
    assert program(np.ones((3, 3)), np.zeros(3), cell.parameters())[0] == before


# --- what is given ---


def test_parameters_and_states_of_other_kinds_are_refused():
    x, h, loss = np.ones((3, 3)), np.zeros(3), lambda outputs: tg.sum(outputs)

    class Twice(Cell):
        def parameters(self):
            return {"U": self.U, "V": self.U}

    class Arrays(Cell):
        def parameters(self):
            return {"U": np.eye(3)}

    class Counting(Cell):
        def __call__(self, x, state):
            return super().__call__(x, state[0]), state[1] + 1

    plain = lambda cell, x, h: h  # noqa: E731
    for cell, state, error, why in [
        (Twice(plain), h, ValueError, "parameters U and V are the same tensor"),
        (Arrays(plain), h, TypeError, "a dict of Tensors"),
        (Counting(plain), (h, 0), TypeError, "a state of float64, int64: make it of floats"),
        (Cell(plain), np.ma.masked_array(h, h > 0), TypeError, "a masked array would lose its mask"),
        (Cell(plain), None, TypeError, "give real numbers"),
    ]:
        with pytest.raises(error, match=re.escape(why)):
            tg.derive_bptt(cell, loss, (x, state))
    assert "+ 1" in tg.derive_bptt(Counting(plain), loss, (x, (h, 0.0))).source
    program = tg.derive_bptt(Cell(plain), loss, (x, h))
    with pytest.raises(TypeError, match="a masked array would lose its mask"):
        program(np.ma.masked_array(x, x > 0), h, {"U": np.eye(3)})
