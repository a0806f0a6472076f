"""What a placeholder refuses, and what it takes: a trace holds nothing that a program for other inputs could not."""

import copy

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.symbolic.explain import explain_primitive, mathematics
from tinygrad_rnn.symbolic.trace import Trace, TraceError, naming
from tinygrad_rnn.symbolic.values import TFloat, TInt, static_key


def traced(**shapes):
    trace = Trace("a cell", "is not there")
    return [trace.leaf("input", np.ones(shape), name) for name, shape in shapes.items()]


def test_a_rule_may_call_the_product_of_matrices_by_its_method(declared):
    rules = (lambda g, y, a, b: g.dot(b.T), lambda g, y, a, b: a.T.dot(g))
    op = declared("product", lambda a, b: a.dot(b), *rules, shapes="(N, K), (K, M) -> (N, M)")
    value, *_, first, second = explain_primitive(op).splitlines()
    assert value.startswith("product(a, b): y = a @ b, of shapes ")
    assert (first, second) == ("    dL/da = g @ bᵀ", "    dL/db = aᵀ @ g")


def test_a_primitive_that_was_replaced_and_one_that_is_called_as_a_mark_are_refused(declared):
    (x,) = traced(x=(2,))
    old = declared("twice", lambda v: v * 2, lambda g, y, v: 2 * g)
    assert mathematics(old(x)) == "twice(x)"
    new = tg.primitive("twice", lambda v: v + v, lambda g, y, v: 2 * g, replace=True)
    assert mathematics(new(x)) == "twice(x)"
    taken = declared("state", lambda v: v * 2, lambda g, y, v: 2 * g)
    for op, name in ((old, "twice"), (taken, "state")):
        with pytest.raises(TraceError, match=f"is called '{name}', as is another: rename it; at "):
            op(*traced(x=(2,)))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: np.add.reduce(x), "np.add with reduce or options has no derivative"),
        (lambda x: np.multiply.outer(x, x), "np.multiply with outer or options"),
        (lambda x: np.tanh(x, where=np.array([True, False])), "np.tanh with __call__ or options"),
        (lambda x: np.heaviside(x, 0.0), "np.heaviside of a traced value has no derivative rule"),
        (lambda x: np.unique(x), "np.unique of a traced value has no derivative rule"),
        (lambda x: x.__setitem__(0, 1.0), "tensors are values and are never changed in place"),
        (lambda x: x.item(), ".item() asks for the numbers of a traced value"),
        (lambda x: x.backward(), ".backward() asks for the numbers"),
        (lambda x: bool(x > 0), "a condition (if, while, and, or) asks for the numbers"),
        (lambda x: float(x), "float() asks for the numbers"),
        (lambda x: int(x), "int() asks for the numbers"),
        (lambda x: [1, 2][x], "an index asks for the numbers"),
        (lambda x: str(x), "str() or print() asks for the numbers"),
        (lambda x: f"{x:.2f}", "a format asks for the numbers"),
        (lambda x: np.asarray(x), "is used as a plain array, which would freeze the example's numbers"),
        (lambda x: x.argmax(), "a traced value has no attribute 'argmax'"),
        (lambda x: x + traced(y=(2,))[0], "a value of an earlier step or call was kept and is used again"),
    ],
)
def test_what_has_no_derivative_is_refused_at_the_line_that_asks_for_it(call, said):
    (x,) = traced(x=(2,))
    with pytest.raises(TraceError, match="no program can be derived of a cell: ") as caught:
        call(x)
    assert said in str(caught.value) and "test_trace.py:" in str(caught.value)
    with pytest.raises(TraceError, match="no program"):  # also where the cell has caught it
        x.trace.check()


def test_an_attribute_that_is_not_there_may_be_asked_for():
    (x,) = traced(x=(2,))
    assert not hasattr(x, "nothing")
    x.trace.check()
    with pytest.raises(TraceError, match="a traced value has no attribute 'nothing'"):
        _ = x.nothing


def test_a_placeholder_has_the_form_of_what_it_stands_for():
    x, scalar = traced(x=(2, 3), y=())
    assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((2, 3), 2, 6, np.float64, 2)
    assert x.astype(np.float64) is x and x.astype(np.float32).dtype == np.float32
    with pytest.raises(TypeError, match="of a traced scalar"):
        len(scalar)
    assert (x.detach().node.op, x.numpy().node.op, x.data.node.op) == ("detach",) * 3
    assert mathematics((x > 0) & (x < 1)) == "x > 0 and x < 1"
    assert mathematics(~(x > 0)) == "logical_not(x > 0)"


def test_a_truth_value_decides_a_question_without_the_numbers():
    (x,) = traced(x=(2,))
    asked = x > 0
    assert (asked & True) is asked and (asked & False) is False
    assert (asked | False) is asked and (asked | True) is True
    assert mathematics(np.bitwise_or(asked, x < 1)) == mathematics(asked | (x < 1)) == "x > 0 or x < 1"
    assert mathematics(np.bitwise_and(asked, x < 1)) == "x > 0 and x < 1"
    assert mathematics(np.invert(asked)) == "logical_not(x > 0)"


def test_a_value_takes_the_name_of_the_first_variable_that_holds_it_in_the_outermost_function():
    (x,) = traced(x=(2,))

    def helper(argument):
        inner = argument * 2
        return inner

    def cell(x):
        gate = helper(x + 1)
        _, again = gate, gate
        [ignored * 3 for ignored in [gate]]
        return again * gate

    with naming():
        made = cell(x)
    one, two = made.node.args
    assert one is two and one.name == "gate" and x.node.name == "x"
    assert [node.name for node in x.trace.nodes] == ["", "gate", "", "made"]


@pytest.mark.parametrize(
    "values",
    [
        (0.0, -0.0, 0, False),
        (1, 1.0, True, "1", b"1", np.int64(1), TInt.of(1, 1)),
        (TInt.of(5, 1), TInt.of(5, 2, -5), TFloat.of(5.0, TInt.of(1, 1))),
        (slice(1, 2, 3), slice(1, 3, 3), slice(2, 2, 3), slice(1, 2, 2), (1, 2, 3)),
        (np.zeros(2), np.zeros((2, 1)), np.zeros(2, np.float32), np.array([0.0, -0.0])),
        ({"a": 1}, {"a": 2}, {"b": 1}, (("a", 1),)),
        ((1, (2,)), (1, 2), (1, (3,))),
        (float("nan"), float("inf"), None),
    ],
    ids=str,
)
def test_what_differs_has_another_key_and_the_same_has_the_same(values):
    keys = [static_key(value) for value in values]
    assert keys == [static_key(copy.deepcopy(value)) for value in values]
    assert len({repr(key) for key in keys}) == len({*keys}) == len(values)
    one, other = object(), [].append
    assert static_key(one) == static_key(one) != static_key(object())
    assert hash(static_key(other)) and static_key([1]) == static_key((1,))
