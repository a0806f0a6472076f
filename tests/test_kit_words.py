"""What the batteries say: every check of a primitive and of a cell in its own words, and what a report counts."""

import re

import numpy as np
import pytest
from test_kit_cells import EXTRA, Cell, faulty

import tinygrad_rnn as tg
from tinygrad_rnn.primitive import Gathered
from tinygrad_rnn.testing import (
    CheckError,
    GradcheckError,
    InconclusiveError,
    check_cell,
    check_primitive,
    gradcheck,
)
from tinygrad_rnn.testing.battery import LAYOUTS, laid_out, require_close

X = np.array([0.3, -1.2, 0.7])
DIFFER = r": they differ by (\S+), more than (\S+) \(for shapes "


def slope(g, y, x):
    return g * np.cos(x)


def failing(plant, forward, *rules, **options):
    with pytest.raises(CheckError) as caught:
        check_primitive(plant(forward, *rules), **options)
    return caught.value


def numbers_differ(said):
    found = re.search(DIFFER, said)
    assert found and float(found[1]) > float(found[2]) > 0
    return float(found[1])


# A primitive


class Counting:
    """Another value at each call, or an array that is used again."""

    def __init__(self, reuse):
        self.calls, self.reuse, self.kept = 0, reuse, {}

    def __call__(self, x):
        self.calls += 1
        y = np.sin(x) + (0 if self.reuse else self.calls)
        out = self.kept.setdefault(x.shape, np.empty(x.shape)) if self.reuse else y
        out[...] = y
        return out


def in_layout(x):
    """As it lies in memory."""
    return np.reshape(np.asarray(x).ravel("K"), np.shape(x))


CASES = [
    ("value", "operand 0 is changed in place", lambda x: np.sin(np.multiply(x, 2, out=x)), [slope]),
    ("value", "a second result is written into the array of the first: return a new one each", Counting(True), [slope]),
    ("value", "two calls with the same operands: they differ by ", Counting(False), [slope]),
    ("value", "the result on Tensors and that on arrays: they differ by ", Counting(False), [slope]),
    ("memory", "rule 0 with a cotangent of stride 0: they differ by ", np.sin,
     [lambda g, y, x: slope(g, y, x) * (1 + (isinstance(g, np.ndarray) and 0 in g.strides))]),
    ("linearity", "the gradient of operand 0 is not linear in the cotangent", np.sin, [lambda g, y, x: g * g]),
    ("adjoint", "<u, J v> and <Jᵀ u, v> differ by ", np.sin, [lambda g, y, x: g * g * np.cos(x)]),
    ("contributions", "the contributions to operand 0 and its gradient", np.sin,
     [Gathered(slope, lambda uses: uses[-1][0][0] * np.cos(uses[-1][0][2]))]),
    ("memory", "the result with read-only arrays of layout 'F'", lambda x: np.sin(in_layout(x)), [slope]),
    ("memory", "rule 0 with read-only arrays of layout 'F'", np.sin, [lambda g, y, x: slope(g, y, in_layout(x))]),
    ("first order", "a rule changes in place what it is given: output array is read-only", np.sin,
     [lambda g, y, x: np.multiply(g, np.cos(x), out=g)]),
    ("float32", "numbers of float32 give float64", lambda x: np.sin(x) * np.ones(1), [slope]),
]  # fmt: skip


@pytest.mark.parametrize("check, said, forward, rules", CASES, ids=[f"{c}: {s}" for c, s, *_ in CASES])
def test_a_check_says_what_it_saw_and_on_which_example(plant, check, said, forward, rules):
    error = failing(plant, forward, *rules, shapes=[(2, 3)])
    text = str(error.failed[check])
    assert said in text or (check == "value" and "they differ" in said), error
    assert [*getattr(error.failed[check], "__notes__", [])][-1] == "for shapes (2, 3)"
    if said in ("the gradient of operand 0 is not linear", "the contributions to operand 0 and its gradient"):
        assert re.search(r": they differ by \S+, more than \S+$", text)


def test_broadcasting_by_the_operation_is_compared_with_broadcasting_before_it(plant):
    def rule(g, y, a, b):
        return g if a.shape == b.shape else 2 * g

    error = failing(plant, lambda a, b: (a + b) * (1 if a.shape == b.shape else 2), rule, rule, order=1)
    assert {*error.failed} == {"broadcasting"}
    said = "broadcasting: results with broadcasting done by the operation and before it"
    assert said in str(error) and numbers_differ(str(error)) > 0.1
    tiny = failing(plant, lambda a, b: (a + b) * (1 + 1e-10 * (a.shape != b.shape)), rule_of_one, rule_of_one, order=1)
    assert "broadcasting" in tiny.failed


def rule_of_one(g, y, a, b):
    return g + 0 * y


@pytest.mark.parametrize(("error", "found"), [(1e-9, True), (1e-14, False)])
def test_what_needs_no_differences_is_held_to_rounding(plant, error, found):
    def more(g, y, x):
        return slope(g, y, x) * (1 + error * (g.strides != np.ascontiguousarray(g).strides))

    def square(g, y, x):
        return slope(g, y, x) + error * g * g

    for rule, check in ((more, "memory"), (square, "linearity")):
        op = plant(np.sin, rule)
        if found:
            assert check in failing(plant, np.sin, rule, order=1, shapes=[(2, 3)]).failed
            assert check_primitive(op, order=1, shapes=[(2, 3)], rtol=1e-3)
        else:
            assert check_primitive(op, order=1, shapes=[(2, 3)])


def test_a_report_counts_checks_examples_and_derivatives():
    one, two = (check_primitive("sin", shapes=s) for s in ([(3,)], [(3,), (2, 2)]))
    assert str(one) == f"sin: ok, 10 checks on 1 example, {one.compared} derivatives compared"
    assert str(two) == f"sin: ok, 10 checks on 2 examples, {two.compared} derivatives compared"
    assert one.examples == ("shapes (3,)",) and two.examples == ("shapes (3,)", "shapes (2, 2)")
    assert one.passed == ("value", "first order", "order 2", "special points", "linearity", "adjoint", "contributions",
                          "broadcasting", "memory", "float32")  # fmt: skip
    first, both, third = (check_primitive("sin", shapes=[(3,)], order=k).compared for k in (1, 2, 3))
    assert both - first == gradcheck(tg.sin, X, order=2).compared == 3 + 6 and third - both == 3 + 6 + 9
    special = check_primitive("sin", shapes=[(3,)], skip=["first order", "order 2"])
    assert len(special.passed) == 8 and special.compared == one.compared - 12 > 50


def test_what_a_hint_is_for(plant):
    """Guessed shapes are the reason only where something was raised, or shapes do not fit."""
    hint = "the shapes were guessed: pass shapes= if the operation is meant for others"

    def short(g, y, x):
        return g.reshape(-1)[:1] if x.ndim == 2 else g

    assert hint in str(failing(plant, np.positive, short, order=1))
    assert hint not in str(failing(plant, np.positive, short, order=1, shapes=[(2, 2)]))
    assert hint not in str(failing(plant, np.sin, lambda g, y, x: g, order=1))


def test_nearby_operands_are_tried_where_a_kink_is_in_the_way_and_no_others(plant):
    """Eight times, and what is still in doubt then is said."""
    op = plant(lambda x: np.abs(x - 0.5), lambda g, y, x: g * np.sign(x - 0.5))
    assert check_primitive(op, operands=np.array([0.5, 0.2]), order=1).compared > 0
    jagged = plant(lambda x: np.abs(np.sin(1e7 * x)) / 1e7, lambda g, y, x: g * np.cos(1e7 * x))
    error = failing(plant, jagged.forward, *[lambda g, y, x: g * 0.1], operands=np.array([0.5]), order=1)
    assert isinstance(error.failed["first order"], GradcheckError)


# Memory


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_array_in_another_layout_has_the_same_numbers_and_is_read_only(layout):
    wide, same = np.arange(6.0).reshape(2, 3), np.full((2, 3), 1.5)
    for array in (wide, same, np.array(2.0), np.zeros((0, 2))):
        found = laid_out(array, layout)
        assert np.array_equal(found, array) and found.shape == array.shape and found.dtype == array.dtype
        assert not found.flags.writeable and array.flags.writeable and not np.shares_memory(found, array)
    strides = laid_out(same if layout == "stride 0" else wide, layout).strides
    assert (
        strides == {"C": (24, 8), "F": (8, 16), "strided": (96, 16), "reversed": (-24, -8), "stride 0": (0, 0)}[layout]
    )
    assert laid_out(wide, "stride 0").strides == (24, 8), "where values differ it cannot be"
    assert laid_out(np.asfortranarray(wide), "C").strides == (24, 8)


def test_closeness_is_relative_to_the_largest_number_or_to_one():
    require_close(np.array([1e6, 1.0]), np.array([1e6 + 0.9, 1.0]), 1e-6, "they")
    require_close(1e-9, 0.0, 1e-8, "they")
    with pytest.raises(AssertionError, match=r"^they: they differ by 2, more than 1$"):
        require_close(np.array([1e6, 1.0]), np.array([1e6, 3.0]), 1e-6, "they")
    with pytest.raises(AssertionError, match=r"^they: shape \(1, 2\) for \(2,\)$"):
        require_close(np.ones((1, 2)), np.ones(2), 1.0, "they")
    with pytest.raises(AssertionError, match=r"differ by 0\.5, more than 0\.1$"):
        require_close(0.25, 0.75, 0.1, "they")


# What is wrong before any number is compared


@pytest.mark.parametrize(
    ("cause", "said", "forward", "rule"),
    [
        ("mutation", "f changes in place what it is given: ", lambda x: np.sin(np.multiply(x, 2, out=x)), slope),
        ("mutation", "a rule changes in place what it is given: ", np.sin, lambda g, y, x: np.multiply(x, g, out=x)),
        ("shape", "a rule's shapes do not fit: ", np.sin, lambda g, y, x: (g * np.cos(x))[:2]),
        (
            "random",
            "two calls of f with the same inputs differ: fix what is random or kept in it",
            Counting(False),
            slope,
        ),
    ],
)
def test_a_fault_of_another_kind_has_a_name_of_its_own(plant, cause, said, forward, rule):
    with pytest.raises(GradcheckError) as caught:
        gradcheck(plant(forward, rule), X)
    assert caught.value.cause == cause and caught.value.message.startswith(said)


def test_what_other_errors_a_function_or_a_rule_raises_are_its_own(plant):
    def refuses(*_):
        raise ValueError("only on Sundays")

    for f in (plant(refuses, slope), plant(np.sin, refuses)):
        with pytest.raises(ValueError, match="only on Sundays"):
            gradcheck(f, X)


def test_a_cotangent_of_zero_must_give_zero(plant):
    with pytest.raises(GradcheckError) as caught:
        gradcheck(plant(np.sin, lambda g, y, x: slope(g, y, x) + 1e-12 * np.array([0, 1, 0])), X)
    error = caught.value
    assert (error.cause, error.element, error.numeric) == ("cotangent ignored", (1,), 0.0) and error.analytic == 1e-12
    assert error.message == (
        "the gradient of input 0 (shape (3,)) for a cotangent of zero is not zero at element (1,)")  # fmt: skip


def test_order_two_says_so_and_counts_cotangents_after_inputs(plant):
    wrong = plant(np.sin, lambda g, y, x: g * np.cos(x.numpy() if isinstance(x, tg.Tensor) else x))
    with pytest.raises(GradcheckError) as caught:
        gradcheck(wrong, X, order=2)
    assert str(caught.value).startswith("order 2: the gradient of input 0 ") and caught.value.order == 2
    assert caught.value.input == 0 and caught.value.cause == "detached"


def test_a_rule_on_arrays_alone_is_in_doubt_and_says_what_to_write(plant):
    error = failing(plant, np.arctan, lambda g, y, x: np.asarray(g) / np.hypot(1, x) ** 2)
    said = str(error.failed["order 2"])
    assert said.startswith("order 2: not checked: the rule computes with arrays only (") and said.endswith(
        "). If first derivatives are all you need, pass order=1; for higher ones write it with operators, "
        "functions of tinygrad_rnn and primitives"
    )
    assert error.inconclusive and {*error.failed} == {"order 2", "adjoint"}


# A cell


class Loose(Cell):
    """What is learned hangs in a list; the batch is first."""

    input_size = 2


def failing_cell(cell, **options):
    with pytest.raises(CheckError) as caught:
        check_cell(cell, **options)
    return caught.value


def test_a_cell_is_checked_on_the_batch_steps_and_size_that_are_asked_for():
    seen = []

    class Watched(Cell):
        def __call__(self, x, h):
            seen.append(x.shape)
            return super().__call__(x, h)

    report = check_cell(Watched(), batch=5, steps=4, order=1)
    assert report.examples == ("batch 5, 4 steps, input size 2",) and report.name == "Watched"
    assert {n for n, _ in seen} == {1, 5} and report.passed == (
        "form", "unrolling", "batch", "first order", "contributions", "float32")  # fmt: skip
    default = check_cell(Watched(), order=1)
    assert default.examples == ("batch 3, 3 steps, input size 2",) and default.compared < report.compared
    assert check_cell(Watched(), input_size=2, steps=1, batch=1, order=1).compared > 0
    assert check_cell(Loose(), order=1).examples == default.examples
    assert check_cell(tg.RNNCell(2, 3, rng=0), order=1).name == "RNNCell(2, 3)"
    one = check_cell(Cell(), order=1)
    sizes = 3 * 4 + 3 * 3 * 2 + 4 * 2 + 4 * 4 + 4  # first states, inputs, parameters
    assert one.compared == sizes
    for size in (1, 3):
        layers = [{"W": tg.Tensor(np.ones((4, size)) / 2, requires_grad=True)}]
        assert check_cell(Cell(layers=layers), order=1).examples == (f"batch 3, 3 steps, input size {size}",)
    with pytest.raises(ValueError, match=r"Narrow: no input of 1 to 64 numbers is accepted: pass input_size="):
        check_cell(Narrow())


class Narrow(Cell):
    def __call__(self, x, h):
        raise ValueError("never")


CELLS = [
    ("form", r"a state is a float, not a Tensor", lambda self, x, h, new: 3.0),
    ("form", r"a state of shape \(2, 4\) becomes one of shape \(2, 2\)", lambda self, x, h, new: new[:, :2]),
    ("form", r"a state of float64 becomes one of float32", lambda self, x, h, new: new.astype(np.float32)),
    ("form", r"another form than the initial one: 2 tensors for 1", lambda self, x, h, new: (new, new)),
    ("batch", r"outputs of example 0 alone and in a batch \(if they are meant to, pass skip=\('batch',\)\): they ",
     lambda self, x, h, new: new - tg.mean(new, axis=0, keepdims=True)),
    ("unrolling", r"outputs of a sequence in one and in two parts: they differ by",
     lambda self, x, h, new: new * (2.0 if x.scope == "t=1" else 1.0)),
]  # fmt: skip


def test_a_cell_that_remembers_or_forgets_is_asked_how():
    calls = []
    counting = faulty(lambda self, x, h, new: calls.append(1) or new * (1 + len(calls)))
    assert str(failing_cell(counting, order=1).failed["form"]).endswith(
        "is there a random number in the cell, or does it remember something beside the state?"
    )
    blind = faulty(lambda self, x, h, new: tg.tanh(x @ self.layers[0]["W"].T + h @ self.U.T))
    assert str(failing_cell(blind, order=1).failed["form"]) == (
        "parameter b has no influence: its gradient is zero (is it not used, or only through .detach() or .numpy()?)"
    )
    more = tg.Tensor(EXTRA.numpy(), requires_grad=True, name="extra")
    used = str(failing_cell(faulty(lambda self, x, h, new: new * more), order=1).failed["form"])
    assert used == "something that needs a gradient is used but is not in parameters(): extra"


@pytest.mark.parametrize("check, said, step", CELLS, ids=[said for _, said, _ in CELLS])
def test_what_is_wrong_with_a_cell_is_said(check, said, step):
    assert re.search(said, str(failing_cell(faulty(step), order=1, batch=2, steps=2).failed[check]))


def test_whose_gradient_of_a_cell_is_wrong_is_named(plant):
    wrong = plant(np.tanh, lambda g, y, x: g * y)
    for where, step in [
        ("the first state (shape (2, 4))", lambda self, x, h, new: new + wrong(h)),
        ("b (shape (4,))", lambda self, x, h, new: new + wrong(self.b)),
        ("U (shape (4, 4))", lambda self, x, h, new: new + tg.sum(wrong(self.U), axis=0)),
    ]:
        error = failing_cell(faulty(step), order=1, batch=2, steps=2)
        assert f"the gradient of {where} is wrong" in str(error), where
        assert "again:" not in str(error) and f"(the cell uses {wrong.name}: check with check_primitive first)" in str(
            error
        )
    skipped = check_cell(faulty(lambda self, x, h, new: new - tg.mean(new, axis=0)), skip=("batch",), order=1)
    assert "batch" not in skipped.passed


@pytest.mark.parametrize("how", [{"rtol": 1e-3}, {"noise": 1e-6}])
def test_a_vague_cell_is_compared_as_vaguely(how):
    """Each example of a batch, and each part of a sequence, may then differ by that much."""
    vague = faulty(lambda self, x, h, new: new * (1 + 1e-6 * len(x)))
    assert "batch" in failing_cell(vague, order=1, batch=2, steps=2).failed
    assert "batch" in check_cell(vague, order=1, batch=2, steps=2, **how).passed


# Doubt


def test_doubt_is_no_failure_and_no_pass():
    error = failing_cell(faulty(lambda self, x, h, new: tg.Tensor(new.numpy().astype("f4").astype(float)) * 0 + new))
    assert not error.inconclusive and not isinstance(error.failed.get("first order"), InconclusiveError)
