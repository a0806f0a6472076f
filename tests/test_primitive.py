"""Primitives of one's own: what they are called, what is refused when they are declared or called, what they guard."""

import inspect
from functools import partial

import numpy as np
import pytest

import tinygrad_rnn as tg


def test_what_a_primitive_is_called_and_says(declared):
    def forward(x, y, *, k=1):
        """Twice this, and that.

        More.
        """
        return 2 * x + y

    rules = [lambda g, y, a, b, *, k=1: 2 * g, lambda g, y, a, b, *, k=1: g]
    op = declared("mine", forward, *rules)
    assert (op.name, op.__name__, op.__qualname__, op.symbol, op.phrase, op.nary) == ("mine",) * 4 + ("", False)
    assert op.__doc__.splitlines()[0] == "mine(a, b, k=1): y = 2 × a + b." and tg.OPS["mine"] is op
    other = declared("other", lambda x: x * 1.0, lambda g, y, x: g, symbol="∘", phrase="as it is")
    assert (other.symbol, other.phrase, other.__doc__[:8]) == ("∘", "as it is", "other(x)")
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    y = op(x, 1.0, k=3)
    assert y.tolist() == [3.0, 5.0] and tg.grad(tg.sum(y), x).tolist() == [2.0, 2.0]
    words = declared("words", lambda x, *, which: x + which, lambda g, y, x, *, which: g)
    assert str(inspect.signature(words)) == "(x, /, *, which)" and words(x, which=2.0).tolist() == [3.0, 4.0]
    by_place = declared("by place", lambda u, v, /: u + v, lambda g, y, u, v, /: g, lambda g, y, u, v, /: g)
    assert str(inspect.signature(by_place)) == "(u, v, /)" and by_place.operand_names == ("u", "v")
    for operands in ((x,), (x, x, x)):
        with pytest.raises(TypeError, match=f"takes 2 operands, not {len(operands)}"):
            op(*operands)
    assert op(np.ones(2), 1).tolist() == [3.0, 3.0] and type(op(1.0, 2.0)) in (float, np.float64, np.ndarray)


@pytest.mark.parametrize(
    ("rules", "options", "words"),
    [
        ([], {}, "one rule per operand, and exactly one where nary=True"),
        ([lambda g, y, *xs, which: g] * 2, {"nary": True}, "exactly one where nary=True"),
        ([lambda g, y, *xs: g], {"nary": True}, "takes .g, y, .operands, which, "),
        ([lambda g, y, x, which: g], {"nary": True}, "takes .g, y, .operands, which, "),
        ([lambda g, y: g], {}, "1 rules mean 1 operands, so a rule takes .g, y. and 1 more"),
        ([lambda g, y, a, b: g], {}, "1 rules mean 1 operands"),
        ([lambda g, y, a, b: g, lambda g, y, a: g], {}, "2 rules mean 2 operands, so a rule takes .g, y. and 2 more"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules, options, words, declared):
    with pytest.raises(ValueError, match=f"^wrong: .*{words}"):
        declared("wrong", lambda *xs: xs[0], *rules, **options)
    assert "wrong" not in tg.OPS
    with pytest.raises(ValueError, match="named 'exp' exists already"):
        declared("exp", np.exp, lambda g, y, x: g)


def test_a_primitive_of_any_number_of_operands(declared):
    op = declared("total", lambda *xs: np.sum(xs, axis=0), lambda g, y, *xs, which: g * (which + 1), nary=True)
    leaves = [tg.Tensor([1.0], requires_grad=True) for _ in range(3)]
    for n in (1, 2, 3):
        y = op(*leaves[:n])
        assert y.tolist() == [float(n)]
        assert [g.item() for g in tg.grad(tg.sum(y), leaves[:n])] == [float(k + 1) for k in range(n)]


@pytest.mark.parametrize("guarded", [True, False])
def test_each_rule_of_any_number_of_operands_can_be_asked_alone(guarded, declared):
    """With the static parameters of the call, which also stand in what is said of how it is called."""

    def forward(*xs, k=1.0):
        return k * np.sum(xs, axis=0)

    op = declared("weighed", forward, lambda g, y, *xs, which, k=1.0: g * k * (which + 1), nary=True, guarded=guarded)
    assert str(inspect.signature(op)) == "(*xs, k=1.0)" and op.__doc__.startswith("weighed(*xs, k=1.0)")
    leaves = [tg.Tensor([2.0], requires_grad=True) for _ in range(3)]
    y = op(*leaves, k=5.0)
    swept = [g.item() for g in tg.grad(tg.sum(y), leaves)]
    alone = [op.rules[i](np.ones(1), y.data, *[x.data for x in leaves], k=5.0).item() for i in range(3)]
    assert y.tolist() == [30.0] and alone == swept == [5.0, 10.0, 15.0]


@pytest.mark.parametrize("again", [False, True], ids=["once", "to be differentiated again"])
@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (1, 2, 3, 4)])
def test_every_leading_axis_counts_as_rows_of_a_batch(shape, again):
    rng = np.random.default_rng(0)
    x, layer = tg.Tensor(rng.normal(size=shape), requires_grad=True), tg.nn.Linear(4, 5, rng=0)
    y, (W, b) = layer(x), layer.parameters().values()
    seed = rng.normal(size=y.shape)
    by_x, by_W, by_b = tg.grad(y, [x, W, b], seed, create_graph=again)
    np.testing.assert_allclose(y.numpy(), x.numpy() @ W.numpy().T + b.numpy(), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(by_x.numpy(), seed @ W.numpy(), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(by_W.numpy(), seed.reshape(-1, 5).T @ x.numpy().reshape(-1, 4), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(by_b.numpy(), seed.reshape(-1, 5).sum(0), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("guarded", [True, False])
def test_a_sum_of_nothing_is_a_constant(guarded, declared):
    op = declared("total", lambda *xs: np.sum(xs), lambda g, y, *xs, which: g, nary=True, guarded=guarded)
    assert op().item() == 0.0 and not op().requires_grad


@pytest.mark.parametrize("needing", [{0}, {1}, {2}, {0, 2}, set()])
def test_a_result_needs_a_gradient_if_any_operand_does(needing, declared):
    product = declared(
        "product",
        lambda a, b, c: a * b * c,
        lambda g, y, a, b, c: g * b * c,
        lambda g, y, a, b, c: g * a * c,
        lambda g, y, a, b, c: g * a * b,
    )
    a, b, c = leaves = [tg.Tensor([float(k + 2)], requires_grad=k in needing) for k in range(3)]
    for y, slopes in ((product(a, b, c), (12.0, 8.0, 6.0)), (tg.where(a > 0, a + b, c) * 1.0, (1.0, 1.0, 0.0))):
        assert y.requires_grad is bool(needing)
        for k in needing:
            assert tg.grad(tg.sum(y), leaves[k]).item() == slopes[k]


@pytest.mark.parametrize(
    "result", [[1.0], 1, None, "text", np.int64(3), np.float16(1.0), np.ones(1, np.float16), np.ones(1, int), 1j]
)
def test_what_a_forward_function_may_not_return_where_a_gradient_is_to_flow(result, declared):
    op = declared("wrong", lambda x: result, lambda g, y, x: g)
    with pytest.raises(TypeError) as told:
        op(tg.Tensor([1.0], requires_grad=True))
    assert "wrong" in str(told.value) and "\n" not in str(told.value)
    if hasattr(result, "dtype"):
        with pytest.raises(TypeError) as told, tg.scope("t=1"):
            op(tg.Tensor([1.0], requires_grad=True))
        assert told.value.__notes__ == ["in wrong x (1,) at t=1"]


@pytest.mark.parametrize("result", [[1.0], 1, None, "text"])
def test_what_a_rule_may_not_return(result, declared):
    op = declared("wrong", lambda x: x * 1.0, lambda g, y, x: result)
    with pytest.raises(
        TypeError, match=f"the rule of wrong for operand 0 returned {type(result).__name__}: it must return"
    ):
        op(tg.Tensor(1.0, requires_grad=True)).backward()
    x = tg.Tensor(1.0, requires_grad=True)
    declared("number", lambda x: x * 1.0, lambda g, y, x: 2.5)(x).backward()
    assert x.grad.item() == 2.5


def test_nobody_writes_to_what_a_graph_keeps(declared):
    buffer = np.zeros(2)

    def forward(x):
        buffer[:] = x
        return buffer

    reused = declared("reused", forward, lambda g, y, x: g)
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    assert reused(x).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only") as told:
        reused(x)
    assert told.value.__notes__[0] == "what a graph keeps is not written to: compute a new array, each time"
    views = np.zeros((2, 2))
    whole = declared("whole", lambda x: np.add(views, x, out=views)[0], lambda g, y, x: g)
    first = whole(x)
    whole(x)
    assert first.tolist() == [1.0, 2.0], "a copy of the view that was returned"
    writes = declared("writes", lambda x: x * 1.0, lambda g, y, x: np.multiply(g, 2.0, out=g))
    with pytest.raises(ValueError, match="read-only"):
        tg.sum(writes(x)).backward()
    inside = declared("inside", lambda x: np.multiply(x, 2.0, out=x), lambda g, y, x: g)
    with pytest.raises(ValueError, match="read-only"):
        inside(tg.exp(x))
    back = declared("back", lambda x: x * 1.0, lambda g, y, x: np.multiply(x, 2.0, out=x))
    h = tg.exp(x)
    with pytest.raises(ValueError, match="read-only"):
        back(h).backward(np.ones(2))
    np.testing.assert_array_equal(h.numpy(), np.exp(x.numpy()))
    masks = declared("masks", lambda x: np.ma.masked_less(x, 0.0), lambda g, y, x: g)
    with pytest.raises(TypeError, match="would lose its mask"):
        masks(x)

    class Odd(np.ndarray):
        def __mul__(self, other):
            return self + other

    odd = declared("odd", lambda x: x.view(Odd), lambda g, y, x: g.view(Odd))
    y = odd(x) * 3.0
    assert type(odd(x)._value) is np.ndarray and y.tolist() == [3.0, 6.0]
    assert tg.grad(tg.sum(y), x).tolist() == [3.0, 3.0]


def test_a_view_of_an_operand_costs_no_copy(declared):
    """Of either operand, and where that is a view itself; only what might be a buffer is copied."""
    backwards = declared("backwards", lambda a, b: a[::-1], lambda g, y, a, b: g[::-1], lambda g, y, a, b: 0.0 * g)
    other = declared("other", lambda a, b: b[::-1], lambda g, y, a, b: 0.0 * g, lambda g, y, a, b: g[::-1])
    x, z = (tg.Tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    for op, mine in ((backwards, x), (other, z)):
        once = op(x, z)
        again = op(once, once)
        assert again.tolist() == mine.tolist() == once.tolist()[::-1]
        assert np.shares_memory(once.data, mine.data) and np.shares_memory(again.data, mine.data)
        assert tg.grad(tg.sum(again * np.array([3.0, 4.0])), mine).tolist() == [3.0, 4.0]


def test_an_error_says_in_which_operation_of_which_shapes_and_where(declared):
    a, b = np.ones(2), np.ones(3)
    signs = {"add": "+", "subtract": "-", "multiply": "×", "divide": "/", "matmul": "@"}
    for name, sign in {**signs, "maximum": None, "power": None}.items():
        joint = f" {tg.OPS[name].symbol} " if sign and tg.OPS[name].symbol in "@+-×/" else ", "
        for p, q in ((tg.Tensor(a), tg.Tensor(b)), (tg.Tensor(a, requires_grad=True), b), (a.tolist(), b)):
            with pytest.raises(ValueError) as told, tg.scope("t=1"):
                tg.OPS[name](p, q)
            shapes = f"(2,){joint}(3,)" if sign else "a (2,), b (3,)"  # a sign between them says which is which
            assert told.value.__notes__ == [f"in {name} {shapes} at t=1"]
    with pytest.raises(TypeError) as told, tg.scope("t=1"):
        tg.negative(tg.Tensor([True, False]))
    assert told.value.__notes__ == ["in negative (2,) at t=1"]
    whole = declared("whole", lambda x: x.reshape(-1).sum(), lambda g, y, x: g)
    assert float(whole(2.0)) == float(whole([[1.0, 1.0]])) == 2.0  # a number alone is an array too
    fails = declared("fails", lambda x: 1 / 0, lambda g, y, x: g)
    with pytest.raises(ZeroDivisionError) as told:
        fails(tg.Tensor(a))
    assert told.value.__notes__ == ["in fails x (2,)"]


def test_a_formula_that_doubles_with_each_step_of_a_loop_is_cut(declared):
    def map_(x):
        for _ in range(60):
            x = 3 * x * (1 - x)
        return x

    op = tg.primitive("logistic map", map_, lambda g, y, x: g * map_(x))
    assert "..." in op.__doc__ and len(op.__doc__) < 20_000


@pytest.mark.parametrize("replace", [False, True])
def test_a_primitive_of_the_package_is_replaced_by_nobody(replace):
    before = tg.OPS["tanh"]
    with pytest.raises(ValueError, match="tanh"):
        tg.primitive("tanh", np.tanh, lambda g, y, x: g, replace=replace)
    assert tg.OPS["tanh"] is before


def test_a_primitive_of_ones_own_is_replaced_only_where_that_is_said(declared):
    x = tg.Tensor(1.0, requires_grad=True)
    first = declared("mine", lambda x: 2.0 * x, lambda g, y, x: 2.0 * g)
    with pytest.raises(ValueError, match="a primitive named 'mine' exists already"):
        declared("mine", lambda x: 3.0 * x, lambda g, y, x: 3.0 * g)
    assert tg.OPS["mine"] is first and tg.OPS["mine"](x).item() == 2.0
    for factor in (3.0, 4.0):
        again = declared("mine", partial(np.multiply, factor), lambda g, y, x: g, replace=True)
        assert tg.OPS["mine"] is again and again(x).item() == factor
    assert first(x).item() == 2.0  # who holds it keeps it


@pytest.mark.parametrize("returned, said", [(3, "int"), (np.arange(3), "numbers of dtype int64"), ("g", "str")])
def test_a_rule_that_returns_no_floats_is_told_what_it_returned(returned, said):
    broken = tg.primitive("broken", lambda x: x * 1.0, lambda g, y, x: returned)
    try:
        with pytest.raises(
            TypeError, match=f"the rule of broken for operand 0 returned {said}: it must return an array"
        ):
            tg.sum(broken(tg.Tensor(np.ones(3), requires_grad=True))).backward()
    finally:
        del tg.OPS["broken"]


def test_an_affine_map_takes_one_bias_for_each_output():
    x, W, b = np.ones((2, 3)), np.ones((4, 3)), np.ones(4)
    with pytest.raises(ValueError, match="needs the shapes"):
        tg.affine(x, W, np.ones((2, 4)), x, W, b)
    with pytest.raises(ValueError, match="needs the shapes"):
        tg.affine(x, W, b, x[:1], W, b)
