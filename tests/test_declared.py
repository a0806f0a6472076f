"""What the functions of a primitive may do and return: right, or refused with the remedy, where they are called."""

from fractions import Fraction

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import pullback
from tinygrad_rnn.primitive import Gathered
from tinygrad_rnn.testing import CheckError, check_primitive

VALUES = [0.6, 1.5, 2.7]


def leaf(values=VALUES, dtype=np.float64):
    return tg.Tensor(np.array(values, dtype), requires_grad=True)


# -- What a forward function returns -----------------------------------------------------------------------------------

OTHER_THAN_FLOATS = {
    "int": lambda x: np.round(x).astype(int),
    "bool": lambda x: x > 1,
    "float16": lambda x: x.astype(np.float16),
    "longdouble": lambda x: x.astype(np.longdouble),
    "complex": lambda x: x * 1j,
    "object": lambda x: np.array([Fraction(v) for v in x.ravel()], object),
    "the other byte order": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "int, of no axes": lambda x: np.int64(x.sum()),
    "list": lambda x: x.tolist(),
    "tuple": lambda x: (x, x),
    "None": lambda x: None,
    "text": lambda x: "0.5",
    "True": lambda x: True,
    "a Python int": lambda x: 1,
}


@pytest.mark.parametrize("forward", OTHER_THAN_FLOATS.values(), ids=OTHER_THAN_FLOATS)
def test_a_gradient_flows_through_floats_only(forward, plant):
    """Anything else would cut the gradient down to what it can hold."""
    one = plant(forward, lambda g, y, x: g)
    two = plant(lambda a, b, *, k: forward(a), lambda g, y, a, b, *, k: g, lambda g, y, a, b, *, k: g)
    many = plant(lambda *xs: forward(xs[0]), lambda g, y, *xs, which: g, nary=True)
    for op, call in ((one, lambda x: one(x)), (two, lambda x: two(x, 2.0, k=1)), (many, lambda x: many(x, x, 3.0))):
        with pytest.raises(TypeError, match=rf"{op.name} (gave|returned).*(\.astype|asarray).*x\.dtype"):
            call(leaf())
        with tg.no_grad():
            unrecorded = call(leaf())
        for constant in (unrecorded, call(leaf().detach())):
            assert not constant.requires_grad
            np.testing.assert_array_equal(constant._value, np.asarray(forward(np.array(VALUES))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_of_every_form_are_taken(dtype, plant):
    class Labelled(np.ndarray):
        pass

    forms = [
        np.sum,
        lambda x: float(x.sum()),
        lambda x: x.sum(keepdims=True),
        lambda x: x.sum().reshape(1).view(Labelled),
    ]
    for forward in forms:
        x = leaf(dtype=dtype)
        y = plant(forward, lambda g, y, x: g * np.ones_like(x))(x)
        assert type(y._value) is np.ndarray and y.item() == pytest.approx(4.8)
        (y * 2.0).backward()
        assert x.grad.dtype == dtype and x.grad.data.tolist() == [2.0, 2.0, 2.0]


def test_bounds_of_clip_do_not_change_what_a_gradient_flows_through():
    for bound in (np.longdouble(1), np.complex64(1), np.float16(1), "1"):
        with pytest.raises(TypeError, match="a Tensor holds"):
            tg.clip(leaf(), bound, 2.0)


# -- What it may write to ----------------------------------------------------------------------------------------------


def double(x):
    x *= 2
    return x


WRITERS = {
    "operand": double,
    "through a view": lambda x: double(x[::-1]),
    "sorted": lambda x: x.sort() or x,
}


@pytest.mark.parametrize("forward", WRITERS.values(), ids=WRITERS)
def test_a_forward_cannot_change_its_operand(forward, plant):
    op = plant(forward, lambda g, y, x: 2 * g)
    for x in (leaf(), leaf().detach(), tg.tanh(leaf()), leaf()[::-1]):
        before = x.data.copy()
        with pytest.raises(ValueError, match="read-only"):
            op(x)
        np.testing.assert_array_equal(x.data, before)


BUFFERS = {
    "whole": lambda out: out,
    "a part": lambda out: out[:2],
    "a view of all": lambda out: out[...],
    "repeated": lambda out: np.broadcast_to(out, (2, *out.shape)),
}


@pytest.mark.parametrize("view", BUFFERS.values(), ids=BUFFERS)
def test_a_forward_changes_no_result_that_it_has_returned(view, plant):
    kept = np.empty(3)
    op = plant(lambda x: view(np.multiply(x, x, out=kept)), lambda g, y, x: 2 * g * x)
    first = op(leaf())
    before = first.data.copy()
    try:
        op(leaf([7.0, 8.0, 9.0]))
    except ValueError as error:
        assert "read-only" in str(error) and any("compute a new array" in note for note in error.__notes__)
    else:
        assert first.data.base is not kept, "a copy of what it returned"
    np.testing.assert_array_equal(first.data, before)


@pytest.mark.parametrize("which", ["cotangent", "result", "operand"])
def test_a_rule_cannot_change_what_others_hold(which, plant):
    def rule(g, y, x):
        {"cotangent": g, "result": y, "operand": x}[which][...] = 0.0
        return g

    op, x, other = plant(lambda x: x + 0, rule), leaf(), leaf()
    y = op(x)
    loss = tg.sum((y + other) * y)
    before = x.data.copy(), y.data.copy()
    with pytest.raises(ValueError, match="read-only"):
        loss.backward()
    np.testing.assert_array_equal((x.data, y.data), before)


def test_what_is_given_may_be_returned_and_results_on_arrays_are_the_callers(plant):
    for forward, rule in [
        (lambda x: x, lambda g, y, x: g),
        (lambda x: x[::-1], lambda g, y, x: g[::-1]),
        (lambda x: np.broadcast_to(x, (2, 3)), lambda g, y, x: g.sum(axis=0)),
    ]:
        op, x = plant(forward, rule), leaf()
        (tg.sum(op(x) * op(x)) + tg.sum(x)).backward()
        np.testing.assert_allclose(x.grad.data, 1 + 2 * x.data * op(np.ones(3)).size / 3)
    bare = plant(lambda x: x + 1, lambda g, y, x: g)(np.ones(3))
    bare += 1
    shared = np.ones(3)
    double_of_bare = plant(double, lambda g, y, x: 2 * g)
    assert double_of_bare(shared) is shared, "a function of arrays does what it does"


def test_arrays_are_locked_only_while_a_function_of_others_runs(plant):
    """Neither a caller's seed stays read-only, nor what `unroll` keeps its outputs in, of which a state is a row."""
    turned = plant(lambda x: x[::-1], lambda g, y, x: g[::-1])
    same = plant(lambda x: x, lambda g, y, x: g)
    x, seed = leaf(), np.ones(3)
    pullback({same(turned(x)): seed})
    seed += 1
    turned.rules[0](seed, seed, seed)
    seed += 1
    w = tg.Tensor(0.5, requires_grad=True)

    def cell(x, h):
        return turned(w * turned(same(h)) + x)

    cell.parameters, cell.initial_state = dict, lambda batch: tg.Tensor(np.zeros((8, 128)))
    outputs, _ = tg.unroll(cell, np.ones((5, 8, 1)))  # so large that each state becomes a row of the outputs
    np.testing.assert_allclose(outputs.data[:, 0, 0], 2 - 0.5 ** np.arange(5))
    loose = np.zeros(3)
    assert turned(loose).base is loose and same(loose) is loose


def test_the_kit_finds_a_buffer_and_a_changed_operand_on_arrays_alone(plant):
    kept = {}

    def squares(x):
        return np.multiply(x, x, out=kept.setdefault(x.shape, np.empty(x.shape)))

    with pytest.raises(CheckError, match=r"value: .*a second result is written into the array of the first"):
        check_primitive(plant(squares, lambda g, y, x: 2 * g * x))
    with pytest.raises(CheckError, match=r"value: .*operand 0 is changed in place"):
        check_primitive(plant(double, lambda g, y, x: 2 * g))
    with pytest.raises(CheckError, match=r"value: .*operand 1 is changed in place"):
        add = plant(lambda a, b: a + double(b), lambda g, y, a, b: g, lambda g, y, a, b: 2 * g)
        check_primitive(add, shapes=[((3,), (3,))])
    for right in (lambda x: x, lambda x: x + 0, lambda x: x[...]):
        check_primitive(plant(right, lambda g, y, x: g))


def test_a_mask_is_not_lost(plant):
    masked = lambda x: np.ma.masked_less(x, 1)  # noqa: E731
    with pytest.raises(TypeError, match="lose its mask"):
        plant(masked, lambda g, y, x: g)(leaf())
    with pytest.raises(TypeError, match="lose its mask"):
        tg.sum(plant(lambda x: x + 0, lambda g, y, x: masked(g))(leaf())).backward()


# -- What a rule returns -----------------------------------------------------------------------------------------------

M = np.arange(6.0).reshape(2, 3) + 1
WRONG = {
    "transposed": lambda g: g.T,
    "flattened": lambda g: np.reshape(g, (-1,)),
    "other sizes": lambda g: np.reshape(g, (3, 2)),
    "other rank": lambda g: np.reshape(g, (2, 1, 3, 1))[0],
    "transposed under a new axis": lambda g: np.reshape(g.T, (1, 3, 2)),
    "transposed and repeated": lambda g: np.stack([g.T, g.T]),
    "a row": lambda g: g[0],
    "a column": lambda g: g[:, :1],
    "cut": lambda g: g[:, :2],
    "nothing": lambda g: g[:0],
    "a number": lambda g: np.sum(g),
    "a Python float": lambda g: 0.5,
}
NO_FLOATS = {
    "bool": lambda g: np.ones((2, 3), bool),
    "int": lambda g: np.ones((2, 3), int),
    "complex": lambda g: np.ones((2, 3)) * 1j,
    "object": lambda g: np.array(np.ones((2, 3)).tolist(), object),
    "text": lambda g: np.full((2, 3), "0.5"),
    "list": lambda g: [[0.5] * 3] * 2,
    "tuple": lambda g: (g, g),
    "None": lambda g: None,
    "0": lambda g: 0,
}


def gathered(rule):
    """A rule that computes for many uses together: their total, and each."""
    gs = lambda uses: [inputs[0] for inputs, *_ in uses]  # noqa: E731
    return Gathered(
        rule,
        lambda uses: rule(sum(gs(uses)), None, None),
        lambda uses: np.array([rule(g, None, None) for g in gs(uses)]),
    )


def one_of_two(rule, plant):
    return plant(lambda a, b: 0 * a + b, lambda g, y, a, b: g, lambda g, y, a, b: rule(g)), 1


FORMS = {
    "of one operand": lambda rule, plant: (plant(lambda x: x + 0, lambda g, y, x: rule(g)), 0),
    "of the second": one_of_two,
    "with a keyword": lambda rule, plant: (plant(lambda x, *, k=1: x + 0, lambda g, y, x, *, k=1: rule(g)), 0),
    "n-ary": lambda rule, plant: (
        plant(lambda *xs: xs[0] + xs[1], lambda g, y, *xs, which: rule(g) if which else g, nary=True),
        1,
    ),
    "gathered": lambda rule, plant: (plant(lambda x: x + 0, gathered(lambda g, y, x: rule(g))), 0),
}
SWEEPS = {
    "backward": lambda loss, x: loss.backward(),
    "freed": lambda loss, x: loss.backward(retain_graph=False),
    "grad": lambda loss, x: tg.grad(loss, x),
    "differentiable": lambda loss, x: tg.grad(loss, x, create_graph=True),
    "watched": lambda loss, x: pullback({loss: np.ones(())}, through=lambda node, i, g: g),
    "graph": lambda loss, x: tg.gradient_graph(loss),
}


def loss_of(op, x, more):
    operands = [tg.Tensor(M, requires_grad=True)] * more + [x]
    return tg.sum(op(*operands)) + tg.sum(op(*operands) * M)


@pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_contribution_of_a_wrong_shape_is_refused(form, sweep, plant):
    for name, rule in WRONG.items():
        if form is FORMS["gathered"] and name == "a Python float":
            continue  # a total is an array
        op, more = form(rule, plant)
        x = tg.Tensor(M, requires_grad=True)
        with pytest.raises(tg.GradientError) as raised:
            print(name, sweep(loss_of(op, x, more), x))
        said = str(raised.value)
        assert f"the rule of {op.name} for operand {more} returned shape (" in said, (name, said)
        assert "for an operand of shape (2, 3)" in said, (name, said)
        assert x.grad is None


@pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_contribution_that_is_not_made_of_floats_is_refused(form, sweep, plant):
    """A rule is linear in g, so it returns floats: where it does not, g was forgotten or cut."""
    for name, rule in NO_FLOATS.items():
        if form is FORMS["gathered"] and name in ("list", "tuple"):
            continue  # of several uses `np.array` makes an array
        op, more = form(rule, plant)
        x = tg.Tensor(M, requires_grad=True)
        with pytest.raises(TypeError) as raised:
            print(name, sweep(loss_of(op, x, more), x))
        assert f"the rule of {op.name} for operand {more} returned" in str(raised.value), name
        assert x.grad is None


RIGHT = {
    "itself": lambda g: g,
    "new axes of one": lambda g: np.reshape(g, (1, 2, 1, 3)),
    "an axis of one behind": lambda g: np.reshape(g, (2, 3, 1)),
    "repeated": lambda g: np.stack([g / 4, g / 4, g / 2]),
    "wider": lambda g: g.astype(np.longdouble) if isinstance(g, np.ndarray) else g,
    "narrower": lambda g: g.astype(np.float32) if isinstance(g, np.ndarray) else g,
}


@pytest.mark.parametrize("sweep", ["backward", "grad", "differentiable", "watched"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("rule", RIGHT.values(), ids=RIGHT)
def test_broadcasting_axes_of_one_and_the_cast_are_undone(rule, form, sweep, plant):
    op, more = form(rule, plant)
    x = tg.Tensor(M, requires_grad=True)
    found = SWEEPS[sweep](loss_of(op, x, more), x)
    g = x.grad if sweep == "backward" else found[x] if sweep == "watched" else found
    assert g.dtype == np.float64
    np.testing.assert_array_equal(g if sweep == "watched" else g.data, 1 + M)


def test_axes_of_one_that_the_operand_has_may_be_missing(plant):
    x = tg.Tensor(np.ones((1, 3, 1)), requires_grad=True)
    y = plant(lambda x: x + 0, lambda g, y, x: np.reshape(g, (3,)))(x)
    y.backward(np.array([1.0, np.nan, 3.0]).reshape(1, 3, 1))
    np.testing.assert_array_equal(x.grad.data.ravel(), [1.0, np.nan, 3.0])
    scalar = tg.Tensor(2.0, requires_grad=True)
    plant(lambda x: x * x, lambda g, y, x: 2.0 * float(x) * float(g))(scalar).backward()
    assert scalar.grad.item() == 4.0
    column = tg.Tensor(np.ones((3, 1)), requires_grad=True)
    tg.sum(plant(lambda x: x + 0, lambda g, y, x: g.T)(column)).backward()
    assert column.grad.shape == (3, 1)
    for shape, given in [((0, 1), (0, 3)), ((3,), (0, 3)), ((1,), (0,)), ((), (2, 0))]:
        empty = tg.Tensor(np.ones(shape), requires_grad=True)
        tg.sum(plant(lambda x, s=given: np.broadcast_to(x, s), lambda g, y, x: g)(empty)).backward()
        np.testing.assert_array_equal(empty.grad.data, np.zeros(shape))


def test_a_matrix_does_not_turn_products_into_matrix_products(plant):
    """What `scipy.sparse` gives as dense, for instance: * means another thing to it."""

    class Matrix(np.ndarray):
        def __mul__(self, other):
            return np.asarray(self) @ np.asarray(other)

        __rmul__ = __mul__

    op = plant(lambda x: x + 0, lambda g, y, x: (g + 0).view(Matrix))
    x = tg.Tensor(np.ones((2, 2)), requires_grad=True)
    tg.sum(op(x * [[1.0, 2.0], [3.0, 4.0]])).backward()
    np.testing.assert_array_equal(x.grad.data, [[1.0, 2.0], [3.0, 4.0]])
    assert type(op(x)._value) is np.ndarray
