"""Leaving the graph: what takes numbers out of a Tensor, and whether it says so, warns or is refused."""

import array
import cmath
import math
import operator
import random
import statistics
import struct
import warnings

import numpy as np
import pytest

import tinygrad_rnn as tg

VALUES = np.array([1.5, -2.0, 3.0])


def leaf():
    return tg.Tensor(VALUES, requires_grad=True)


def written(index, value, shape=(3,), dtype=float):
    """NumPy's array after something was written into it."""
    buffer = np.zeros(shape, dtype)
    buffer[index] = value
    return buffer


def called(method, *arguments):
    """NumPy's array after a method that changes it."""
    buffer = np.ones(3)
    getattr(buffer, method)(*arguments)
    return buffer


def changed(function, *arguments, **options):
    """NumPy's array after a function that changes it."""
    buffer = np.ones(3)
    function(buffer, *arguments, **options)
    return buffer


SILENT = {  # they say what they do
    ".item()": lambda x: x[0].item(),
    ".tolist()": lambda x: x.tolist(),
    ".tolist() of one": lambda x: x[0].tolist(),
    ".numpy()": lambda x: x.numpy(),
    ".data": lambda x: x.data,
    ".detach()": lambda x: x.detach().numpy(),
    "Tensor(x)": lambda x: tg.Tensor(x).numpy(),
    "repr": lambda x: repr(x.detach()),
    "f-string": lambda x: f"{x[0]:.3f} {x[1]:+08.2e}",
    "str.format": lambda x: "{:.1f}".format(x[2]),  # noqa: UP032
    "format": lambda x: format(x[1], "7.2f"),
    "round": lambda x: (round(x[0]), round(x[0], 1), round(x[:1])),
    "floor, ceil, trunc": lambda x: (math.floor(x[1]), math.ceil(x[0]), math.trunc(x[0])),
    "bool": lambda x: bool(x[0]) and not x[0] - x[0],
    "if": lambda x: 1 if x[0] > 0 else 2,
    "comparisons": lambda x: [(x < 1).tolist(), (x == x).tolist(), (1.0 >= x).tolist(), (VALUES != x).tolist()],
    "in": lambda x: (3.0 in x, 4.0 in x),
    "len, shape": lambda x: (len(x), x.shape, np.shape(x), np.ndim(x), np.size(x)),
    "argmax": lambda x: (np.argmax(x), np.argmin(x, axis=0), np.argsort(x).tolist()),
    "sign, floor": lambda x: (np.sign(x).tolist(), np.floor(x).tolist(), np.ceil(x).tolist(), np.rint(x).tolist()),
    "round of NumPy": lambda x: (np.round(x, 1).tolist(), np.around(x).tolist(), np.trunc(x).tolist()),
    "any, all": lambda x: (np.any(x > 2), np.all(x), np.any(x), np.count_nonzero(x), np.nonzero(x)[0].tolist()),
    "isnan": lambda x: (np.isnan(x).tolist(), np.isfinite(x).tolist(), np.signbit(x).tolist()),
    "allclose": lambda x: (np.allclose(x, VALUES), np.isclose(VALUES, x).tolist(), np.array_equal(x, x)),
    "by keyword": lambda x: (np.argmax(a=x), np.allclose(VALUES, b=x), np.argsort(a=x).tolist()),
    "zeros_like": lambda x: (np.zeros_like(x).tolist(), np.ones_like(a=x).tolist()),
    "DLPack": lambda x: np.from_dlpack(x),
    "element of an array of booleans": lambda x: written(0, x[0], dtype=bool),
    "sorted": lambda x: [y.item() for y in sorted(x)],
}
WARNS = {  # Python asks for a number, and nothing tells that one is meant
    "float": lambda x: float(x[0]),
    "float of one element": lambda x: float(x[:1]),
    "int": lambda x: int(x[0]),
    "complex": lambda x: complex(x[0]),
    "math.exp": lambda x: math.exp(x[0]),
    "cmath.exp": lambda x: cmath.exp(x[0]),
    "math.hypot": lambda x: math.hypot(x[0], 1.0),
    "math.isnan": lambda x: math.isnan(x[0]),
    "math.fsum": lambda x: math.fsum(x),
    "% formatting": lambda x: "%.3f" % x[0],  # noqa: UP031
    "element": lambda x: written(0, x[0]),
    "element of a matrix": lambda x: written((0, 1), x[0], (2, 2)),
    "element of float32": lambda x: written(0, x[0], dtype=np.float32),
    "element of integers": lambda x: written(0, x[0], dtype=int),
    "element of complex": lambda x: written(0, x[0], dtype=complex),
    "element of records": lambda x: written(0, x[0], dtype=[("a", float)])["a"],
    "element by one element": lambda x: written(0, x[:1]),
    "fill": lambda x: called("fill", x[0]),
    "fromiter": lambda x: np.fromiter([x[0], x[1]], float),
    "fromiter of a Tensor": lambda x: np.fromiter(x, float),
    "np.float64": lambda x: np.float64(x[0]),
    "list of floats": lambda x: sum([float(y) for y in x]),
    "array.array": lambda x: array.array("d", [x[0]]),
    "array.array of a Tensor": lambda x: array.array("d", x),
    "struct.pack": lambda x: struct.pack("d", x[0]),
    "fmean": lambda x: statistics.fmean(x),
    "astype of objects": lambda x: written(0, x[0], dtype=object).astype(float),
}
BUFFER = np.ones(3)
REFUSED = {  # an array would come out without its gradient
    "np.array": lambda x: np.array(x),
    "np.array, dtype": lambda x: np.array(x, np.float32),
    "np.asarray": lambda x: np.asarray(x),
    "np.asanyarray": lambda x: np.asanyarray(x),
    "np.asarray, no copy": lambda x: np.asarray(x, copy=False),
    "np.array of one": lambda x: np.array(x[0]),
    "np.array of a list": lambda x: np.array([x[0], x[1]]),
    "np.array of a list with numbers": lambda x: np.array([x[0], 1.0]),
    "np.array of a tuple": lambda x: np.array((x, x)),
    "np.array of a nested list": lambda x: np.array([[x[0], 1.0], [2.0, 3.0]]),
    "np.array of objects": lambda x: np.array([x[0], x[1]], dtype=object).astype(float),
    "Tensor of a list": lambda x: tg.Tensor([x[0], x[1]]).numpy(),
    "Tensor of a nested list": lambda x: tg.Tensor([[x[0], x[1]], [1.0, 2.0]]).numpy(),
    "Tensor of a tuple": lambda x: tg.Tensor((x, x)).numpy(),
    "np.mean of a list": lambda x: np.mean([x, x]),
    "operand in a list": lambda x: BUFFER * tg.Tensor(1.0) * [x[0], x[1], 1.0],
    "condition in a list": lambda x: tg.where([x[0], 0.0, 1.0], BUFFER, 2 * BUFFER),
    "whole array": lambda x: written(slice(None), x),
    "row": lambda x: written((1, slice(None)), x, (2, 3)),
    "whole array by one number": lambda x: written(..., x[0]),
    "elements by a mask": lambda x: written(BUFFER > 0, x[0]),
    "np.float64 of an array": lambda x: np.float64(x),
    "np.float32": lambda x: np.float32(x[0]),
    "np.complex128": lambda x: np.complex128(x[0]),
    "np.full": lambda x: np.full(3, x[0]),
    "np.full_like": lambda x: np.full_like(BUFFER, x[0]),
    "np.copyto": lambda x: changed(np.copyto, x),
    "np.put": lambda x: changed(np.put, [0, 1], x[:2]),
    "np.place": lambda x: changed(np.place, BUFFER > 0, x),
    "np.putmask": lambda x: changed(np.putmask, BUFFER > 0, x),
    "np.add.at": lambda x: changed(np.add.at, [0, 0, 1], x),
    "np.fill_diagonal": lambda x: changed(lambda b: np.fill_diagonal(b.reshape(3, 1), x[0])),
    ".put": lambda x: called("put", [0], x[0]),
    "a += x": lambda x: operator.iadd(BUFFER.copy(), x),
    "a *= x": lambda x: operator.imul(BUFFER.copy(), x),
    "a -= x[0]": lambda x: operator.isub(BUFFER.copy(), x[0]),
    "np.add, out": lambda x: np.add(BUFFER, x, out=np.zeros(3)),
    "np.exp, out": lambda x: np.exp(x, np.zeros(3)),
    "np.sum, out": lambda x: np.sum(x, axis=0, out=np.zeros(())),
    "a.dot": lambda x: BUFFER.dot(x),
    "a.clip": lambda x: BUFFER.clip(x, 5.0),
    "a.searchsorted": lambda x: BUFFER.searchsorted(x),
    "np.vectorize": lambda x: np.vectorize(lambda v: v * v)(x),
    "np.frompyfunc": lambda x: np.frompyfunc(lambda v: v * 2, 1, 1)(x).astype(float),
    "np.add.reduce": lambda x: np.add.reduce(x),
    "np.multiply.outer": lambda x: np.multiply.outer(x, x),
    "np.nanprod": lambda x: np.nanprod(x),
    "np.linspace": lambda x: np.linspace(0.0, x[0], 3),
    "np.interp": lambda x: np.interp(0.5, [0.0, 1.0, 2.0], x),
    "np.random.normal": lambda x: np.random.default_rng(0).normal(x),
    "np.r_": lambda x: np.r_[x, x],
    "np.ma.array": lambda x: np.ma.array(x).data,
}
REFUSED_ALWAYS = {  # by Python itself, or since it has no meaning
    "index of a list": lambda x: [1, 2, 3][x[0]],
    "index of an array": lambda x: np.arange(3)[x],
    "operator.index": lambda x: operator.index(x[0]),
    "range": lambda x: range(x[0]),
    "np.zeros": lambda x: np.zeros(x[0]),
    "float of several": lambda x: float(x),
    "format of several": lambda x: f"{x:.3f}",
    "statistics.mean": lambda x: statistics.mean(x),
    "memoryview": lambda x: memoryview(x),
    "assignment": lambda x: operator.setitem(x, 0, 1.0),
    "np.copyto into it": lambda x: np.copyto(x, 1.0),
    "np.add into it": lambda x: np.add(1.0, 2.0, out=x),
    "np.put into it": lambda x: np.put(x, [0], 5.0),
    "floor division": lambda x: x // 2.0,
    "divmod": lambda x: divmod(x, 2.0),
}
KEPT = {  # they compute with Tensors, so that nothing is lost
    "sum": lambda x: sum(x),
    "sum of a list": lambda x: tg.sum([x, x]),
    "mean of a nested list": lambda x: tg.mean([[x[0], 1.0], [2.0, x[1]]]),
    "dot of a list": lambda x: np.dot([1.0, 2.0, 3.0], x),
    "math.prod": lambda x: math.prod(x),
    "max": lambda x: max(x),
    "random.gauss": lambda x: random.Random(0).gauss(x[0], 1.0),
    "random.uniform": lambda x: random.Random(0).uniform(x[0], 3.0),
    "float + x": lambda x: 1.0 + x[0],
    "np.float64 * x": lambda x: np.float64(2.0) * x[0],
    "array of objects": lambda x: written(0, x[0], dtype=object)[0] * 2.0,
    "0 ** x": lambda x: 2 ** x[0],
}
WAYS = {
    **{f"{name}: silent": (f, "silent") for name, f in SILENT.items()},
    **{f"{name}: warns": (f, "warns") for name, f in WARNS.items()},
    **{f"{name}: refused": (f, "refused") for name, f in REFUSED.items()},
    **{f"{name}: refused always": (f, "refused always") for name, f in REFUSED_ALWAYS.items()},
    **{f"{name}: kept": (f, "kept") for name, f in KEPT.items()},
}


def outcome(f, x):
    """What came out, and the warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            return f(x), said
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            return error, said


@pytest.mark.parametrize("f, answer", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("make", [leaf, lambda: leaf() * 1.0], ids=["leaf", "computed"])
def test_a_way_out_says_so_warns_or_is_refused(f, answer, make):
    found, said = outcome(f, make())
    assert isinstance(found, Exception) == answer.startswith("refused"), found
    if answer == "warns":
        assert {w.category for w in said} == {tg.GraphLeftWarning} and ".item()" in str(said[0].message)
        here = {(__file__, f.__code__.co_firstlineno), (__file__, written.__code__.co_firstlineno + 3)}
        here |= {(__file__, called.__code__.co_firstlineno + 3)}
        assert {(w.filename, w.lineno) for w in said} <= here
    else:
        assert not said
    if answer == "refused":
        assert str(found).count("\n") == 0 and any(word in str(found) for word in ("numpy()", "=", "use "))
    if answer == "kept":
        assert isinstance(found, tg.Tensor) and found.requires_grad


@pytest.mark.parametrize("f, answer", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("recording", [True, False], ids=["constant", "no_grad"])
def test_where_no_gradient_is_needed_a_tensor_is_an_array(f, answer, recording):
    if recording:
        found, said = outcome(f, tg.Tensor(VALUES))
    else:
        with tg.no_grad():
            found, said = outcome(f, leaf())
    assert not said
    if answer == "refused always":
        assert isinstance(found, Exception)
        return
    assert not isinstance(found, Exception), found
    assert not (isinstance(found, tg.Tensor) and found.requires_grad)
    try:
        with warnings.catch_warnings():  # such as NumPy's own of float(array), before 2.4
            warnings.simplefilter("ignore", DeprecationWarning)
            expected = f(VALUES)
    except (AttributeError, TypeError, ValueError):  # what a Tensor can and an array cannot
        return
    same = found.numpy() if isinstance(found, tg.Tensor) else found
    assert isinstance(same, str | bytes) or type(same) in (tuple, list) or np.array_equal(same, expected)
    assert not isinstance(same, str | bytes) or same == expected or "Tensor" in same


def test_without_recording_a_bound_or_a_slope_may_be_a_parameter():
    bound, x = tg.Tensor([0.5, -1.0, 2.0], requires_grad=True), leaf()
    with tg.no_grad():
        np.testing.assert_array_equal(tg.clip(x, None, bound).numpy(), np.minimum(VALUES, bound.numpy()))
        np.testing.assert_array_equal(tg.leaky_relu(x, bound[0]).numpy(), np.where(VALUES > 0, VALUES, 0.5 * VALUES))


@pytest.mark.parametrize("action, times", [("default", 2), ("always", 6)])
def test_warnings_come_once_for_each_line(action, times):
    x = leaf()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter(action)
        for _ in range(3):
            float(x[0])
            statistics.fmean([x[0]])  # asks in a file of Python's
    assert len(said) == times and {w.filename for w in said} == {__file__}
    assert len({w.lineno for w in said}) == 2


def test_a_warning_names_the_line_that_called_this_package():
    def cell(x, state):
        return state + math.exp(x[0, 0])

    cell.parameters, cell.initial_state = dict, lambda batch: tg.Tensor(np.zeros(batch))
    with pytest.warns(tg.GraphLeftWarning) as said:
        tg.unroll(cell, tg.Tensor(np.ones((2, 1, 1)), requires_grad=True))
    assert {(w.filename, w.lineno) for w in said} == {(__file__, cell.__code__.co_firstlineno + 1)}


def test_a_warning_becomes_an_error_where_the_user_wants_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error", tg.GraphLeftWarning)
        with pytest.raises(tg.GraphLeftWarning):
            float(leaf()[0])
    assert issubclass(tg.GraphLeftWarning, UserWarning)


def test_a_consumer_of_dlpack_gets_numbers_of_its_own():
    x = leaf()
    y = x * x
    taken = np.from_dlpack(x)
    assert not np.shares_memory(taken, x.data)
    if taken.flags.writeable:  # from NumPy 2.1 on
        taken[:] = 7.0
    assert x.tolist() == VALUES.tolist()
    np.testing.assert_array_equal(tg.grad(tg.sum(y), x).numpy(), 2 * VALUES)
    assert x.__dlpack_device__() == VALUES.__dlpack_device__()
    with pytest.raises(BufferError, match="copy"):
        x.__dlpack__(copy=False)


def test_what_has_only_dlpack_comes_in():
    class Foreign:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    array = VALUES.copy()
    x = tg.Tensor(Foreign(array), requires_grad=True)
    y = tg.sum(x * Foreign(array))
    array[:] = 0.0
    assert x.tolist() == VALUES.tolist() and tg.grad(y, x).tolist() == VALUES.tolist()


# -- Masked arrays, and matrices ---------------------------------------------------------------------------------------

MASKED = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])
LABELS = np.ma.array([0, 1, 2], mask=[0, 1, 0])
CHOICE = np.ma.array([True, True, False], mask=[0, 1, 0])
SQUARE = tg.Tensor(np.eye(3), requires_grad=True)
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul]
MEETINGS = {
    **{f"{f.__name__}, left": lambda x, f=f: f(MASKED, x) for f in BINARY},
    **{f"{f.__name__}, right": lambda x, f=f: f(x, MASKED) for f in BINARY},
    "np.multiply": lambda x: np.multiply(MASKED, x),
    "np.ma.multiply": lambda x: np.ma.multiply(x, MASKED),
    "np.ma.exp": lambda x: np.ma.exp(x),
    "np.ma.where": lambda x: np.ma.where(CHOICE, x, x),
    "np.ma.masked": lambda x: x + np.ma.masked,
    "in place": lambda x: operator.iadd(MASKED.copy(), x),
    "maximum": lambda x: tg.maximum(x, MASKED),
    "where": lambda x: tg.where(x > 0, x, MASKED),
    "condition": lambda x: tg.where(CHOICE, x, 0.0),
    "condition of NumPy's": lambda x: np.where(CHOICE, x, 0.0),
    "condition from a comparison": lambda x: tg.where(x > MASKED, x, 0.0),
    "bound": lambda x: tg.clip(x, MASKED, 5.0),
    "upper bound": lambda x: np.clip(x, 0.0, MASKED),
    "index": lambda x: x[LABELS],
    "index in a tuple": lambda x: SQUARE[:, LABELS],
    "mask": lambda x: x[CHOICE],
    "labels": lambda x: tg.cross_entropy(SQUARE, LABELS),
    "target": lambda x: tg.mse_loss(x, MASKED),
    "stack": lambda x: tg.stack([x, MASKED]),
    "concatenate": lambda x: np.concatenate([MASKED, x]),
    "einsum": lambda x: tg.einsum("i,i->", x, MASKED),
    "linear": lambda x: tg.linear(x, np.ones((2, 3)), np.ma.array([0.0, 1.0])),
    "inputs of unroll": lambda x: tg.unroll(tg.RNNCell(3, 2, rng=0), np.ma.array(np.ones((2, 3)))),
    "inputs of a stack": lambda x: tg.LSTM(3, 2, rng=0)(np.ma.array(np.ones((2, 1, 3)))),
    "lengths": lambda x: tg.LSTM(3, 2, rng=0)(np.ones((2, 3, 3)), lengths=np.ma.array([1, 2, 2])),
    "indices of an embedding": lambda x: tg.Embedding(3, 2, rng=0)(LABELS),
    "seed": lambda x: (x * 2.0).backward(MASKED),
    "tangent": lambda x: tg.jvp(tg.sin, (VALUES,), (MASKED,)),
    "primal": lambda x: tg.vjp(tg.sin, MASKED),
    "Tensor": lambda x: tg.Tensor(MASKED),
    "Tensor of a list": lambda x: tg.Tensor([MASKED, MASKED]),
    "Tensor of a nested list": lambda x: tg.Tensor([[[1.0, np.ma.masked]]]),
    "data": lambda x: setattr(x, "data", MASKED),
    "grad": lambda x: setattr(x, "grad", MASKED),
    "a function of an array alone": lambda x: tg.exp(MASKED),
    "a reduction of an array alone": lambda x: tg.sum(MASKED),
    "softmax of an array alone": lambda x: tg.softmax(MASKED),
    "bare index": lambda x: tg.getitem(VALUES, LABELS),
}


@pytest.mark.parametrize("meet", MEETINGS.values(), ids=MEETINGS)
def test_a_masked_array_is_refused_wherever_it_meets_a_tensor(meet):
    with pytest.raises((TypeError, ValueError), match=r"mask|plain array|out="):
        meet(leaf())


def test_a_masked_array_takes_a_constant_as_it_takes_an_array():
    for f in BINARY[:5]:
        found, expected = f(MASKED, tg.Tensor(VALUES)), f(MASKED, VALUES)
        assert isinstance(found, np.ma.MaskedArray)
        np.testing.assert_array_equal(found.mask, expected.mask)
        np.testing.assert_array_equal(found.compressed(), expected.compressed())


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_matrix_is_refused_since_its_product_is_another():
    matrix, x = np.matrix([[1.0, 2.0], [3.0, 4.0]]), tg.Tensor(np.eye(2), requires_grad=True)
    for f in (lambda: x * matrix, lambda: matrix * x, lambda: x**matrix, lambda: tg.Tensor(matrix)):
        with pytest.raises((TypeError, ValueError), match=r"np\.asarray|plain array"):
            f()
    np.testing.assert_array_equal(x[np.matrix([[0, 1]])].numpy(), [np.eye(2)])


# -- Subclasses --------------------------------------------------------------------------------------------------------


def test_a_subclass_is_refused_when_it_is_made():
    for make in (
        lambda: type("Parameter", (tg.Tensor,), {}),
        lambda: type("Parameter", (tg.Tensor,), {"__slots__": ()}),
        lambda: type("Parameter", (dict, tg.Tensor), {}),
    ):
        with pytest.raises(TypeError):
            make()
    with pytest.raises(TypeError, match=r"requires_grad=True"):

        class Parameter(tg.Tensor):
            pass


@pytest.mark.parametrize(
    "through",
    [
        lambda x: np.interp(VALUES, [0.0, 1.0], [0.0, 1.0], left=x),
        np.format_float_positional,
        lambda x: statistics.fmean([x]),
        float,
    ],
    ids=["NumPy", "NumPy's text", "Python's library", "at once"],
)
def test_the_line_that_is_warned_of_is_the_users(through):
    """However many functions of NumPy or of Python's library stand between it and the number."""
    with pytest.warns(tg.GraphLeftWarning) as told:
        through(leaf()[0])
    assert {warning.filename for warning in told} == {__file__}


def test_python_keeps_what_it_warned_of_where_it_keeps_any_warning():
    """So that whatever makes it forget, as `unittest` does before `assertWarns`, makes it warn again."""
    left, usual = {"x": leaf()[0]}, {"warn": warnings.warn}
    with pytest.warns(UserWarning):
        exec("float(x)", left)
        exec("warn('of anything')", usual)
    assert set(left) - {"x"} == set(usual) - {"warn"}
