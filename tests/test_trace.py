"""What a placeholder refuses, and what it takes: a trace holds nothing that a program for other inputs could not."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.symbolic.explain import explain_primitive, mathematics
from tinygrad_rnn.symbolic.trace import Trace, TraceError


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
