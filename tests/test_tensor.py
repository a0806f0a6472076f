"""A Tensor as Python and NumPy see it: dtypes, operators, NumPy's functions, questions, conversions, copies."""

import copy
import operator
import pickle

import numpy as np
import pytest

import tinygrad_rnn as tg


def leaf(*shape, seed=0, dtype=np.float64, name=None):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True, name=name)


# -- Construction and dtypes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float64),
        ([1.0, 2.0], np.float64),
        (np.float32([1, 2]), np.float32),
        (np.arange(3), np.arange(3).dtype),
        (True, np.bool_),
        (np.array([1.0], dtype=">f8"), np.float64),
    ],
)
def test_dtype_of_data_is_numpys(data, dtype):
    assert tg.Tensor(data).dtype == dtype


@pytest.mark.parametrize("data", [[1, 2], 3, np.arange(2, dtype=np.uint8), True, [False]])
def test_integers_and_booleans_are_constants_only(data):
    assert not tg.Tensor(data).requires_grad
    with pytest.raises(TypeError, match=r"only floats can require a gradient.*astype"):
        tg.Tensor(data, requires_grad=True)


@pytest.mark.parametrize(
    "data",
    [
        np.float16([1]),
        np.longdouble([1]),
        1j,
        "text",
        [b"bytes"],
        None,
        object(),
        [[1.0], [1.0, 2.0]],
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        np.ma.masked_array([1.0, 2.0], mask=[True, False]),
    ],
)
def test_what_the_engine_does_not_compute_with_is_refused(data):
    with pytest.raises(TypeError):
        tg.Tensor(data)
    with pytest.raises(TypeError):
        leaf(1) * data


def test_python_numbers_do_not_upcast_float32():
    x = leaf(3, dtype=np.float32)
    results = [x * 2.0, 2 * x, x + True, x / 3, 1.0 - x, x**2, 2.0**x, tg.maximum(x, 0.5), tg.clip(x, -1.0, 1.0)]
    assert {y.dtype for y in results} == {np.dtype(np.float32)}
    tg.mean(tg.stack(results)).backward()
    assert x.grad.dtype == np.float32
    assert (x * np.ones(3)).dtype == np.float64  # but an array of doubles does, as in NumPy


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1,), ()])
def test_gradient_has_the_operands_dtype(shape):
    x, y = leaf(*shape, dtype=np.float32), leaf(3)
    (x * y).sum().backward()
    assert [tg.grad((x * y).sum(), v).dtype for v in (x, y)] == [np.float32, np.float64]
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)


# -- Python's and NumPy's protocols ------------------------------------------------------------------------------------


def test_operators_in_every_order():
    x, a = leaf(2, 2), np.array([[2.0, 1.0], [0.5, 3.0]])
    for both in (
        lambda p, q: p + q,
        lambda p, q: p - q,
        lambda p, q: p * q,
        lambda p, q: p / q,
        lambda p, q: p @ q,
        lambda p, q: abs(p) ** q,
    ):
        for p, q in ((x, a), (a, x), (x, x), (x, a.tolist()), (a.tolist(), x)):
            expected = both(*(np.asarray(v.numpy() if isinstance(v, tg.Tensor) else v) for v in (p, q)))
            result = both(p if not isinstance(p, list) else tg.Tensor(p), q)
            assert isinstance(result, tg.Tensor) and result.requires_grad
            np.testing.assert_allclose(result.numpy(), expected)
    assert isinstance(2**x, tg.Tensor) and isinstance(np.float64(2) * x, tg.Tensor)
    assert (+x) is x and np.array_equal((-x).numpy(), -x.numpy())


def test_numpy_functions_record():
    x = leaf(2, 3)
    for y, f in [
        (np.tanh(x), np.tanh),
        (np.sum(x, axis=0), lambda v: np.sum(v, axis=0)),
        (np.max(x, axis=1, keepdims=True), lambda v: np.max(v, axis=1, keepdims=True)),
        (np.ones(2) @ x, lambda v: np.ones(2) @ v),
        (np.concatenate([x, np.ones((1, 3))]), lambda v: np.concatenate([v, np.ones((1, 3))])),
        (np.stack([x, x]), lambda v: np.stack([v, v])),
        (np.where(x > 0, x, 0.0), lambda v: np.where(v > 0, v, 0.0)),
        (np.einsum("ij->ji", x), lambda v: np.einsum("ij->ji", v)),
        (np.var(x, ddof=1), lambda v: np.var(v, ddof=1)),
        (np.split(x, 3, axis=1)[1], lambda v: np.split(v, 3, axis=1)[1]),
    ]:
        assert isinstance(y, tg.Tensor) and y.requires_grad
        np.testing.assert_allclose(y.numpy(), f(x.numpy()))


def test_questions_about_values_are_answered_with_arrays():
    x = leaf(2, 3)
    assert type(x > 0) is np.ndarray and (x == x).all() and (x != x).sum() == 0
    assert np.shape(x) == (2, 3) and np.isfinite(x).all() and np.allclose(x, x.numpy())
    assert x in {x} and {x: 1}[x] == 1 and hash(x) != hash(x.detach())


def test_one_element_converts_and_more_does_not():
    x = tg.Tensor([2.5])
    assert (float(x), int(x), bool(x), x.item(), len(x)) == (2.5, 2, True, 2.5, 1)
    assert [row.item() for row in leaf(2)] == list(leaf(2).numpy())
    assert list(range(5))[tg.Tensor(3)] == 3
    for convert in (float, int, bool, tg.Tensor.item):
        with pytest.raises(ValueError):
            convert(leaf(2))
    with pytest.raises(TypeError):
        len(tg.Tensor(1.0))


def test_bare_arrays_stay_bare():
    assert type(tg.tanh(np.ones(2))) is np.ndarray
    np.testing.assert_array_equal(tg.add([1, 2], [3, 4]), [4, 6])
    np.testing.assert_allclose(tg.softmax([0.0, 0.0]), [0.5, 0.5])
    assert tg.sigmoid(0.0) == 0.5


def test_zero_d_results_are_arrays():
    x = tg.Tensor(0.5, requires_grad=True)
    for y in (tg.tanh(x), x * x, x + 1, tg.sum(leaf(2)), leaf(2) @ leaf(2), tg.max(leaf(3)), leaf(2)[0]):
        assert type(y._value) is np.ndarray and y.shape == ()


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}


@pytest.mark.parametrize("twin_of", COPIES.values(), ids=COPIES)
def test_leaves_are_copied_and_pickled_with_their_gradients(twin_of):
    for x in (leaf(2, name="x"), leaf(3, dtype=np.float32), tg.Tensor([1, 2], name="k"), leaf(2).detach()):
        twin = twin_of(x)
        assert twin is not x and (twin.name, twin.requires_grad, twin.dtype) == (x.name, x.requires_grad, x.dtype)
        assert twin.grad is None and np.array_equal(twin.numpy(), x.numpy())
        assert not np.shares_memory(x._value, twin._value)
    x = leaf(2, name="x")
    tg.sum(x * x).backward()
    twin = twin_of(x)
    np.testing.assert_array_equal(twin.grad.numpy(), x.grad.numpy())
    tg.sum(twin).backward()  # adds to its own gradient
    np.testing.assert_array_equal(twin.grad.numpy(), 2 * x.numpy() + 1)
    np.testing.assert_array_equal(x.grad.numpy(), 2 * x.numpy())


@pytest.mark.parametrize("twin_of", [copy.deepcopy, COPIES["pickle"]])
def test_what_was_one_tensor_is_one_in_the_copy(twin_of):
    x, y = leaf(2), leaf(3)
    tg.sum(x * x).backward()
    a, (b, c), d = twin_of([x, (x, y), x.grad])
    assert a is b and a is not x and c is not y and a.grad is d
    net = tg.RNN(2, 2, rng=0)
    (cell,) = net._cells.values()
    cell.bias_hh = cell.bias_ih  # one bias for both
    (twin,) = twin_of(net)._cells.values()
    assert twin.bias_hh is twin.bias_ih and twin.bias_hh is not cell.bias_ih


def test_a_gradient_that_is_part_of_a_graph_is_not_copied_without_it():
    x = leaf(2)
    tg.sum(x**3).backward(create_graph=True)
    with pytest.raises(TypeError, match="detach"):
        copy.deepcopy(x)
    x.grad = x.grad.detach()
    np.testing.assert_array_equal(copy.deepcopy(x).grad.numpy(), 3 * x.numpy() ** 2)


# -- What is assigned --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        (np.int64, [1.5, 2.0]),
        (np.int64, [1.0, 2.0]),  # a float that happens to be whole would be cut at the next step
        (np.int64, [np.nan, 1.0]),
        (np.uint8, np.float32([1, 2])),
        (np.uint8, [-1, 2]),
        (np.uint8, [256, 2]),
        (np.int8, np.array([128, 0], np.uint8)),
        (np.int64, np.array([2**63, 0], np.uint64)),
        (np.bool_, [2, 0]),
        (np.bool_, [0.5, 0.0]),
        (np.float64, [1j, 0]),
        (np.float64, ["a", "b"]),
        (np.float64, np.float16([1, 2])),
        (np.float64, np.ma.array([1.0, 2.0], mask=[0, 1])),
    ],
)
def test_new_data_is_never_cut_to_fit(dtype, data):
    t = tg.Tensor(np.array([1, 0], dtype))
    with pytest.raises(TypeError, match=r"make a new Tensor|real numbers|astype|mask"):
        t.data = data
    assert t.dtype == dtype and t.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        (np.float64, [1, 2]),
        (np.float64, [True, False]),
        (np.float32, [0.1, 2.0]),  # rounded, as everywhere
        (np.float32, np.array([2**40, 1])),
        (np.uint8, [255, 0]),
        (np.int8, np.array([127, 0], np.uint64)),
        (np.int64, [True, False]),
        (np.bool_, [1, 0]),
        (np.int64, tg.Tensor([5, 6])),
    ],
)
def test_new_data_keeps_the_dtype(dtype, data):
    t = tg.Tensor(np.array([1, 0], dtype))
    t.data = data
    assert t.dtype == dtype
    np.testing.assert_array_equal(t.numpy(), np.array(data.numpy() if isinstance(data, tg.Tensor) else data, dtype))


def test_an_assigned_gradient_has_the_shape_and_dtype_of_its_leaf():
    x = leaf(2, dtype=np.float32)
    for value in ([1, 2], np.array([1.0, 2.0]), (True, 2.0), np.uint8([1, 2]), tg.Tensor(np.float32([1, 2]))):
        x.grad = value
        assert isinstance(x.grad, tg.Tensor) and x.grad.dtype == np.float32
        tg.sum(x).backward()
        np.testing.assert_array_equal(
            x.grad.numpy(), np.add(value.numpy() if isinstance(value, tg.Tensor) else value, 1)
        )
    held = np.float32([1.0, 2.0])
    x.grad = held
    held[:] = 9.0
    assert x.grad.tolist() == [1.0, 2.0]
    for value in ([1.0], [1j, 2], ["a", "b"], [np.ma.masked, 1.0], tg.Tensor([1.0, 2.0]), tg.Tensor([1, 2]), [[1, 2]]):
        with pytest.raises((TypeError, ValueError)):
            x.grad = value
    assert x.grad.tolist() == [1.0, 2.0]
    x.grad = None
    assert x.grad is None
    with pytest.raises(TypeError):
        tg.Tensor([1, 2]).grad = [0.5, 0.5]


@pytest.mark.parametrize("wrong", ["x", b"x", None, {}, {1.0}, object(), 1j, np.float16(1), [None, 1.0, 2.0], tg])
def test_an_operand_that_is_no_number_is_refused_by_a_line_about_operands(wrong):
    x = leaf(3)
    for f in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul):
        for a, b in ((x, wrong), (wrong, x)):
            with pytest.raises(TypeError, match=r"a Tensor holds|cannot make a Tensor") as caught:
                f(a, b)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("f", [tg.sigmoid, tg.softplus, tg.logsumexp, tg.tanh, tg.log_softmax, tg.softmax, tg.relu])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes_neither_overflow_nor_warn(f, dtype):
    x = tg.Tensor(np.array([-1e3, 0.0, 1e3], dtype=dtype), requires_grad=True)
    y = f(x)
    (g,) = tg.grad(tg.sum(y), [x])
    assert np.isfinite(y.numpy()).all() and np.isfinite(g.numpy()).all()
    loss = tg.cross_entropy(tg.reshape(x, (1, 3)), [0])
    np.testing.assert_allclose(loss.item(), 2000.0)


def test_sigmoid_keeps_its_digits_in_both_tails():
    x = np.array([-700.0, -40.0, -1.0, 1.0, 40.0, 700.0])
    np.testing.assert_allclose(
        tg.sigmoid(x), [9.859676543759770e-305, 4.248354255291589e-18, *1 / (1 + np.exp(-x[2:]))], rtol=1e-14
    )


def test_what_it_was_computed_from_can_be_read_and_not_changed():
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    y = tg.leaky_relu(x * np.array([3.0, 4.0]))
    product = y.operands[0]
    assert (y.op.name, product.op.name, x.op) == ("leaky_relu", "multiply", None)
    assert product.operands == (x, None) and x.operands == () and dict(y.static) == {"slope": 0.01}
    assert [array.tolist() for array in product.arrays] == [[1.0, 2.0], [3.0, 4.0]] and x.arrays == ()
    assert x.serial < product.serial < y.serial
    assert (x * 2.0).arrays[1] == 2.0
    for name in ("op", "operands", "arrays", "static", "serial"):
        with pytest.raises(AttributeError):
            setattr(y, name, None)
    with pytest.raises(TypeError):
        y.static["slope"] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        product.arrays[0][0] = 9.0
    y.backward(np.ones(2), retain_graph=False)
    with pytest.raises(tg.GradientError, match="freed"):
        list(y.operands)


def test_what_is_detached_has_the_name_and_the_numbers_and_no_history():
    h = tg.tanh(tg.Tensor([0.5, -1.0], requires_grad=True))
    h.name = "h"
    alone = h.detach()
    assert alone.name == "h" and alone.is_leaf and not alone.requires_grad
    np.testing.assert_array_equal(alone.numpy(), h.numpy())


@pytest.mark.parametrize(
    "x, shown",
    [
        (lambda: tg.Tensor([1.0, 2.5]), "Tensor([1. , 2.5])"),
        (lambda: tg.Tensor([1.0], requires_grad=True, name="W"), "Tensor([1.], requires_grad=True, name='W')"),
        (lambda: tg.Tensor(np.float32([1.0])), "Tensor([1.], dtype=float32)"),
        (lambda: tg.tanh(tg.Tensor(0.0, requires_grad=True)), "Tensor(0., op=tanh)"),
        (lambda: tg.Tensor(np.zeros(99)), "Tensor([0., 0., 0., ..., 0., 0., 0.])"),
        (lambda: tg.Tensor([[1.0, 2.0], [3.0, 4.0]]), "Tensor([[1., 2.],\n        [3., 4.]])"),  # rows below each other
    ],
)
def test_what_a_tensor_shows_of_itself(x, shown):
    assert repr(x()) == shown


@pytest.mark.parametrize("name", [name for name, what in vars(tg.Tensor).items() if name[0] != "_" and what.__doc__])
def test_everything_public_of_a_tensor_says_in_a_sentence_what_it_is(name):
    assert vars(tg.Tensor)[name].__doc__.partition("\n")[0].endswith(".")


def test_an_option_that_no_rule_knows_is_refused_by_its_name():
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    options = {"where": [True, False], "dtype": np.float32, "casting": "safe", "out": np.ones(2)}
    for ufunc, operands in ((np.add, [x, x]), (np.exp, [x]), (np.maximum, [x, x])):
        for name, value in options.items():
            with pytest.raises(
                TypeError, match=rf"^np\.{ufunc.__name__} on a Tensor takes no {name}=($|: .* a = a \+ x)"
            ):
                ufunc(*operands, **{name: value})
        with pytest.raises(TypeError, match=rf"^np\.{ufunc.__name__}\.at has no derivative here: use sum"):
            ufunc.at(x, [0], *operands[1:])
        np.testing.assert_array_equal(ufunc(*operands, where=True).numpy(), ufunc(*[x.numpy() for _ in operands]))


def test_a_result_has_no_gradient_before_backward_nor_after_it():
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    h = tg.tanh(x)
    for backward in (lambda: None, lambda: tg.sum(h).backward()):
        backward()
        with pytest.warns(UserWarning, match=r"only leaves keep a \.grad"):
            assert h.grad is None
    assert x.grad.shape == (2,)


@pytest.mark.parametrize("function", [np.linspace, np.geomspace, np.fft.fft, np.sinc, np.linalg.det])
def test_a_function_without_a_rule_is_refused_by_its_name_and_takes_what_needs_none(function):
    operands = [1.0, np.eye(2) + 1.0] if function in (np.linspace, np.geomspace) else [np.eye(2) + 1.0]
    with pytest.raises(TypeError, match=rf"^np\.([a-z]+\.)?{function.__name__} has no derivative( rule)?: "):
        function(*operands[:-1], tg.Tensor(operands[-1], requires_grad=True))
    np.testing.assert_array_equal(function(*operands[:-1], tg.Tensor(operands[-1])), function(*operands))


@pytest.mark.parametrize("around", [lambda x: x, lambda x: [x], lambda x: (x,), lambda x: ([x], (x,))])
def test_a_mask_is_refused_wherever_it_lies(around):
    with pytest.raises(TypeError, match="would lose its mask"):
        tg.Tensor(around(np.ma.masked_less([1.0, 2.0], 1.5)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "power", "divide"])
def test_a_number_beside_a_bare_array_does_not_decide_the_dtype_either(name, dtype):
    x = np.array([1.0, 2.0], dtype)
    for a, b in ((x, 2.0), (2.0, x), (x, 2), (x, x)):
        bare, recorded = tg.OPS[name](a, b), tg.OPS[name](*[tg.Tensor(v) if v is x else v for v in (a, b)])
        assert bare.dtype == recorded.dtype == dtype
        np.testing.assert_array_equal(bare, recorded.numpy())


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16", "torch.float16"])
def test_a_tensor_of_another_library_is_taken_from_its_graph_and_its_device(dtype):
    """As PyTorch's are: no array before they are detached and on the CPU, and none of sixteen bits."""

    class Theirs:
        def __init__(self, done=()):
            self.dtype, self.done = (dtype if "float" not in done else "torch.float32"), {*done}

        def detach(self):
            return Theirs({*self.done, "detach"})

        def cpu(self):
            return Theirs({*self.done, "cpu"})

        def float(self):
            return Theirs({*self.done, "float"})

        def numpy(self):
            assert {"detach", "cpu"} <= self.done and self.dtype == "torch.float32"
            return np.float32([1.0, 2.5])

    x = tg.Tensor(Theirs(), requires_grad=True)
    assert x.tolist() == [1.0, 2.5] and x.dtype == np.float32


@pytest.mark.parametrize("value", [2, 2.0, True, [2], [[2]], [1, 2], np.int8(3)], ids=repr)
def test_what_is_an_index_to_numpy_is_one_here(value):
    def index(x):
        try:
            return operator.index(x)
        except TypeError:
            return "refused"

    assert index(tg.Tensor(value)) == index(np.array(value))


def test_sixty_numbers_are_shown_and_more_are_cut():
    assert "..." not in repr(tg.Tensor(np.zeros(60))) and "..." in repr(tg.Tensor(np.zeros(61)))


@pytest.mark.parametrize("around", [list, tuple])
def test_tensors_in_a_list_are_arrays_to_a_function_without_a_rule(around):
    a, b = 3.0 * np.eye(2), np.arange(4.0).reshape(2, 2)
    product = np.linalg.multi_dot(around([tg.Tensor(a), tg.Tensor(b)]))
    assert type(product) is np.ndarray and np.array_equal(product, a @ b)
    with pytest.raises(TypeError, match=r"^np\.linalg\.multi_dot has no derivative rule"):
        np.linalg.multi_dot(around([a, tg.Tensor(b, requires_grad=True)]))
