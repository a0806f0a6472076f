"""What a failed check says: a line to paste that fails again, where something left the graph, and which formula."""

import copy
import math
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_kit import PLANTED, RNG, reported, slope

import tinygrad_rnn as tg
from tinygrad_rnn.testing import CheckError, GradcheckError, check_cell, check_primitive, gradcheck
from tinygrad_rnn.testing.ways_out import WaysOut

POINT = np.array([0.3, -0.7, 1.2])
WIDE = RNG.uniform(0.5, 1.5, (4, 3)) * RNG.choice([-1, 1], (4, 3))


# The line to paste


def line_of(error):
    """The line, and that it is the last thing said, once."""
    before, again, line = str(error).rpartition("\n  again: ")
    assert again and "again:" not in before and "\n" not in line and str(error).endswith(line)
    return line


def pasted(line, **known):
    """How it fails."""
    names = {"np": np, "tg": tg, "gradcheck": gradcheck, "partial": partial}
    with np.errstate(all="ignore"), pytest.raises(GradcheckError) as caught:
        eval(line, names | known)
    return caught.value


def facts(error):
    return error.order, error.input, error.cause


def twice_the_last(g, y, x):
    """The index of the last one on the way, and twice what it should be."""
    right = slope(g, y, x)
    right[..., -1] *= 2
    return right


def constant(g, y, x):
    """Right, and constant where it is differentiated again."""
    return g * (1 - (y.numpy() if isinstance(y, tg.Tensor) else y) ** 2)


def overwritten(g, y, x, *, index):
    out = np.zeros_like(x)
    out[index] = g
    return out


# (cause, forward, rules, operands, options, what is wrong there over what is right; None if that depends)
KINDS = [
    ("factor", lambda x: x**3, [lambda g, y, x: 2 * g * x * x], [WIDE], {}, 2 / 3),
    ("sign", np.cos, [lambda g, y, x: g * np.sin(x)], [WIDE], {}, -1.0),
    ("swapped", np.multiply, [lambda g, y, a, b: g * a, lambda g, y, a, b: g * b], [WIDE, WIDE + 1], {}, None),
    ("missing factor", np.exp, [lambda g, y, x: g + 0 * x], [np.array(0.7)], {}, None),
    ("few elements", np.tanh, [twice_the_last], [WIDE], {}, 2.0),
    ("detached", np.tanh, [constant], [WIDE], {"order": 2}, 0.0),
    ("factor", np.sin, [lambda g, y, x: 1.01 * g * np.cos(x)], [np.float32([0.5, 1.5])], {"rtol": 1e-4}, 1.01),
    ("mutation", np.exp, [lambda g, y, x: np.multiply(g, y, out=g)], [WIDE], {}, None),
]


@pytest.mark.parametrize("cause, forward, rules, operands, options, ratio", KINDS)
def test_a_line_that_is_pasted_fails_again_in_the_same_place_with_the_same_numbers(
    plant, cause, forward, rules, operands, options, ratio
):
    op = plant(forward, *rules)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(op, *operands, **options)
    first, line = caught.value, line_of(caught.value)
    again = pasted(line)
    assert facts(again) == facts(first) and first.cause == cause
    # From there on nothing becomes simpler: it is its own line, and what is said is the same to the last digit.
    assert line_of(again) == line
    third = pasted(line)
    assert (third.element, str(third)) == (again.element, str(again))
    np.testing.assert_array_equal([third.analytic, third.numeric], [again.analytic, again.numeric])
    assert line.count(",") <= 2 * len(operands) + len(options) and len(line) < 100, "it is short"
    if ratio is not None:
        assert again.analytic / again.numeric == pytest.approx(ratio, rel=1e-4)
        assert f"analytic {again.analytic:.10g}, numeric {again.numeric:.10g}" in str(again)
    assert ("rtol=0.0001" in line, "order=2" in line) == ("rtol" in options, "order" in options)


@pytest.mark.slow
def test_every_planted_mistake_has_a_line_that_fails_for_the_same_cause(plant):
    without = []
    for _, name, definition, inputs, *static in PLANTED:
        op = plant(*definition)
        with np.errstate(all="ignore"), pytest.raises(GradcheckError) as caught:
            gradcheck(partial(op, **static[0]) if static else op, *inputs)
        if "again: " not in str(caught.value):
            without.append(name)
            continue
        assert facts(pasted(line_of(caught.value), f=partial(op, **(static or [{}])[0]))) == facts(caught.value), name
    # What is inconclusive has no wrong number to show.
    assert without == ["forward", "abs at 0", "max at a tie"]


def test_a_function_is_called_by_its_name_and_a_battery_names_static_parameters(plant):
    wrong = plant(lambda x: x**3, lambda g, y, x: 2 * g * x * x)

    def mine(x, k):
        return tg.sin(x) * wrong(x) + k

    with pytest.raises(GradcheckError) as caught:
        gradcheck(mine, WIDE, 3, rng=5)
    line = line_of(caught.value)
    assert line.startswith("gradcheck(mine, np.array([[") and line.endswith(", 3)")
    assert facts(pasted(line, mine=mine)) == facts(caught.value)
    picks = plant(lambda x, *, index: x[index], overwritten)
    with pytest.raises(CheckError) as failed:
        check_primitive(picks, static={"index": [0, 0]}, order=1)
    (line,) = [row for row in str(failed.value).splitlines() if row.startswith("  again: ")]
    assert f"partial(tg.OPS[{picks.name!r}], index=[0, 0])" in line
    assert pasted(line.removeprefix("  again: ")).cause == failed.value.failed["first order"].cause


def test_a_special_point_is_in_the_line(plant):
    zero = plant(np.square, lambda g, y, x: g * np.where(x == 0, 1, 2 * x))
    with pytest.raises(CheckError) as caught:
        check_primitive(zero)
    (line,) = [row for row in str(caught.value).splitlines() if row.startswith("  again: ")]
    error = pasted(line.removeprefix("  again: "))
    assert set(caught.value.failed) >= {"special points"} and error.analytic != 0 and abs(error.numeric) < 1e-9


def where(holds):
    """Twice as large where something holds of the operand."""
    return lambda g, y, x: g * np.cos(x) * np.where(holds(np.asarray(x)), 2.0, 1.0)


@pytest.mark.parametrize(
    ("holds", "shape", "digits"),
    [
        (lambda x: x == x, (1, 1), 0),
        (lambda x: x.shape[0] > 1, (2, 2), 0),
        (lambda x: x.shape[1] > 2, (3, 3), 0),
        (lambda x: np.full(x.shape, x.size > 3), (2, 2), 0),
        (lambda x: x != np.round(x), (1, 1), 1),
        (lambda x: np.abs(x - np.round(x, 1)) > 1e-9, (1, 1), 2),
        (lambda x: np.abs(x - np.round(x, 2)) > 1e-9, (1, 1), 3),
        (lambda x: x.max() > 1.4, (1, 1), 0),
    ],
)
def test_the_operands_of_a_line_are_as_small_and_as_round_as_the_mistake_allows(plant, holds, shape, digits):
    x = np.array([[0.6123, 1.4987, 0.7891], [1.2345, 0.5432, 0.9876], [0.8765, 1.0321, 1.6543]])
    error = reported(plant(np.sin, where(holds)), [x])
    written = line_of(error).partition(", ")[2]
    found = eval(written.removesuffix(")"), {"np": np})
    assert found.size <= np.prod(shape) or found.shape == shape
    assert np.array_equal(found, np.round(found, digits)) and (
        digits == 0 or not np.array_equal(found, np.round(found, digits - 1))
    )


def test_operands_are_cut_together_and_written_as_they_were_given(plant):
    product = plant(np.matmul, lambda g, y, a, b: 2 * g @ b.T, lambda g, y, a, b: a.T @ g)
    line = line_of(reported(product, [np.ones((3, 4)), np.full((4, 2), 0.5)]))
    assert line.endswith("], np.array([[1.0]]), np.array([[0.5]]))") or line.count("[[") == 2
    wrong = plant(np.sin, where(lambda x: x == x))
    for given in (0.731, [0.731, 1.2], tg.Tensor([0.731]), np.float32([0.731])):
        with pytest.raises(GradcheckError) as caught:
            gradcheck(lambda x, k: wrong(x) * k[0], given, (2, "name"))
        line = line_of(caught.value)
        assert line.startswith("gradcheck(f, np.array(") and line.endswith(", (2, 'name', ))")
        assert ("np.float32" in line) == isinstance(given, np.ndarray)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(wrong, np.array([-1e-9]))
    assert "-0" not in line_of(caught.value)


def test_what_has_no_short_line_has_none(plant):
    """Operands that must be large, and a cell, which is no function that is called in a line."""
    large = plant(lambda x: x[:100] ** 2, lambda g, y, x: np.pad(g * x[:100], (0, len(x) - len(g))) * (len(x) > 99))
    assert "again:" not in str(reported(large, [np.arange(120.0) + 1]))


# Leaving the graph


def by_detach(x):
    h = tg.tanh(x)
    return h * x.detach()  # here


def by_a_copied_tensor(x):
    h = tg.Tensor(tg.tanh(x))  # here
    return h * x


def by_copy(x):
    return x * copy.copy(x)  # here


def by_deepcopy(x):
    return tg.sin(x) * tg.sum(copy.deepcopy(x))  # here


def by_float(x):
    s = float(tg.sum(x))  # here
    return tg.tanh(x) * s


def by_math(x):
    return x * math.exp(x[0])  # here


def by_item(x):
    s = tg.sum(x).item()  # here
    return -x * s


def by_tolist(x):
    return tg.Tensor(tg.tanh(x).tolist()) + 0 * x  # here


def by_numpy(x):
    half = x.numpy() / 2  # here
    return tg.sin(x) * half


def by_data(x):
    return x * x.data  # here


def by_an_assignment_in_place(x):
    out = np.zeros(3)
    out[0] = x[0] * x[1]  # here
    return x * out


def within(x):
    return x.detach() ** 2  # here


def by_a_function(x):
    return x + within(x)


def by_no_grad(x):
    with tg.no_grad():
        half = tg.cos(x)  # here
    return tg.sin(x) * half


WAYS = {name: way for name, way in globals().items() if name.startswith("by_")}


def here(*functions):
    """The lines that are marked, as a report says them."""
    path, text = Path(__file__), Path(__file__).read_text(encoding="utf-8").splitlines()
    for function in functions:
        first = function.__code__.co_firstlineno
        number = next(n for n in range(first, first + 5) if text[n - 1].endswith("# here"))
        yield f"{path.name}:{number}: {text[number - 1].strip()}"


def said_of(f, *inputs):
    with pytest.raises(GradcheckError) as caught:
        gradcheck(f, *(inputs or [POINT]))
    return caught.value.cause, str(caught.value).partition("\n  again: ")[0].partition("likely cause: ")[2]


@pytest.mark.filterwarnings("ignore::tinygrad_rnn.GraphLeftWarning")
@pytest.mark.parametrize("name", WAYS)
def test_the_line_where_something_left_the_graph_is_named(name):
    guilty, how = within if name == "by_a_function" else WAYS[name], " (no_grad)" * (name == "by_no_grad")
    assert said_of(WAYS[name]) == ("detached", f"something left the graph here: {next(here(guilty))}{how}")


@pytest.mark.parametrize("offset", [1e3, 1e7])
def test_a_line_is_named_beside_a_large_constant_too(offset):
    def f(x):
        return offset + x * x.detach()  # here

    assert said_of(f) == ("detached", f"something left the graph here: {next(here(f))}")


def test_other_threads_do_not_notice_that_a_function_is_watched():
    watched, looked, found = threading.Event(), threading.Event(), []

    def other():
        watched.wait(10)
        with tg.no_grad():
            copied = tg.Tensor(tg.Tensor([2.0]).detach(), requires_grad=True)
            found.extend([(3 * copied).tolist(), tg.Tensor(5.0).item()])
        looked.set()

    def f(x):
        watched.set()
        looked.wait(10)
        return x * x.detach()

    thread = threading.Thread(target=other)
    thread.start()
    out = WaysOut(f)
    for value in (2.0, 3.0):
        y = out(tg.Tensor(value, requires_grad=True))
    thread.join()
    assert found == [[6.0], 5.0] and len(out.first) == 1 and y.item() == 6.0


def test_every_line_that_is_to_blame_is_named_and_a_mask_beside_it_is_not():
    def several(x):
        mask = x.numpy() > 0
        count = len(x.tolist())
        scale = x.detach()  # here
        return by_item(x) * tg.where(mask, scale, 2.0) / count

    cause, said = said_of(several)
    assert cause == "detached"
    assert set(said.removeprefix("something left the graph here: ").split("; ")) == {*here(several, by_item)}


def test_a_mask_a_sign_and_a_length_are_no_fault(plant):
    def masked(f):
        def run(x):
            sign, mask, count = np.sign(x.numpy()), x.detach().numpy() > 0, len(x.tolist())
            return f(x) * mask * sign / count + f(x)

        return run

    assert gradcheck(masked(tg.sin), POINT).compared == 3
    flipped = plant(np.sin, lambda g, y, x: -g * np.cos(x))
    cause, said = said_of(masked(flipped))
    assert cause == "sign" and "left the graph" not in said
    # A wrong rule and something that left: neither explains all of it, and none is accused alone.
    cause, said = said_of(lambda x: flipped(x) * x.detach())
    assert cause != "detached" and "left the graph" not in said


def test_a_gradient_that_is_meant_to_be_zero_is_no_fault_where_the_function_is_constant():
    assert gradcheck(lambda x: x + tg.sum(x.detach() * 0), POINT).compared == 3


class Leaky(tg.RNNCell):
    """Ours, and a part of the state that forgets where it comes from."""

    def __call__(self, x, state):
        old = 0.9 * state.detach()  # here
        return old + 0.1 * super().__call__(x, state)


def constant_slope(g, y, x):
    y = y.numpy() if isinstance(y, tg.Tensor) else y  # here
    return g * (1 - y * y)


def test_the_line_is_named_in_a_cell_and_in_a_rule_that_is_differentiated(plant):
    with pytest.raises(CheckError) as caught:
        check_cell(Leaky(2, 3, rng=0))
    assert set(caught.value.failed) == {"first order", "order 2"} and "again:" not in str(caught.value)
    assert f"something left the graph here: {next(here(Leaky.__call__))}" in str(caught.value)
    with pytest.raises(CheckError) as caught:
        check_primitive(plant(np.tanh, constant_slope))
    assert set(caught.value.failed) == {"order 2"}
    assert f"something left the graph here: {next(here(constant_slope))}" in str(caught.value)
