"""What is written of a traced value is its value: as NumPy to the last bit, as mathematics to rounding."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.symbolic.explain import LONGEST, mathematics
from tinygrad_rnn.symbolic.notation import ATOM, in_brackets, index_text, number_level, step_text, value_text
from tinygrad_rnn.symbolic.trace import Node, Trace, Tracer
from tinygrad_rnn.symbolic.values import TFloat, TInt, at_steps

A, B, V = np.array([[0.5, -1.25], [2.0, 0.75]]), np.array([[1.5, 0.25], [-0.5, 3.0]]), np.array([0.125, 2.5])
NAMES = {"A": A, "B": B, "v": V}
OPERATIONS = {name: op.forward for name, op in tg.OPS.items()}


def traced():
    """The arrays above, each by its name."""
    trace = Trace("a test", "is not there")
    return [trace.leaf("input", value, name) for name, value in NAMES.items()]


def as_numpy(value):
    """A traced value as one expression, and the constants in it."""
    constants = {}

    def write(x, level):
        if isinstance(x, str):
            return x
        if not isinstance(x, Node):
            name = f"k{len(constants)}"
            constants[name] = x
            return name
        if x.name:
            return x.name
        if x.op == "number":
            return in_brackets(repr(x.value), number_level(repr(x.value)), level)
        if not x.args:
            constants[f"k{len(constants)}"] = x.value
            return f"k{len(constants) - 1}"
        return in_brackets(*step_text(x, write), level)

    return write(value.node, 0), constants


def computed(text, constants=()):
    return eval(text, {"np": np, **OPERATIONS, **NAMES, **dict(constants)})


binary = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / b,
    lambda a, b: a @ b,
    np.maximum,
    lambda a, b: tg.where(a > b, a, b),
    lambda a, b: tg.where((a >= b) | (b < 0), a, -b),
    lambda a, b: tg.where(np.logical_and(a <= b, a != b), b, a * 2),
]
unary = [
    lambda a: -a,
    lambda a: a * a,
    lambda a: tg.square(a),
    lambda a: a**3,
    lambda a: a.T,
    lambda a: -(a**2),
    lambda a: 2 - a,
    lambda a: a - -1.5,
    lambda a: tg.tanh(a),
    lambda a: tg.relu(a),
    lambda a: a + tg.sum(a, axis=0),
    lambda a: a * tg.mean(a, axis=1, keepdims=True),
    lambda a: a - tg.max(a),
    lambda a: tg.concatenate([a[:1], a[1:] * 2]),
    lambda a: tg.reshape(a, (4,))[[3, 1]] + a,
    lambda a: tg.clip(a, -1.0, 1.5),
    lambda a: tg.einsum("ij,jk->ik", a, a),
    lambda a: tg.sigmoid(a),
    lambda a: tg.leaky_relu(a, 0.25),
]


def trees(binary, unary):
    """Expressions of two arrays by some functions of two and of one: each is a function of the two."""
    return st.recursive(
        st.sampled_from([lambda a, b: a, lambda a, b: b]),
        lambda some: (
            st.tuples(st.sampled_from(binary), some, some).map(lambda t: lambda a, b: t[0](t[1](a, b), t[2](a, b)))
            | st.tuples(st.sampled_from(unary), some).map(lambda t: lambda a, b: t[0](t[1](a, b)))
        ),
        max_leaves=6,
    )


@settings(max_examples=150)
@given(trees(binary, unary))
def test_numpy_for_a_value_computes_it(build):
    a, b, _ = traced()
    made = build(a, b)
    text, constants = as_numpy(made)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error", SyntaxWarning)
        np.testing.assert_array_equal(computed(text, constants), made.node.value)


SIGNS = {"−": "-", "×": "*", "^": "**", "²": "**2", "ᵀ": ".T", "≠": "!=", "≥": ">=", "≤": "<="}


@settings(max_examples=150)
@given(trees(binary[:5], unary[:8]))
def test_mathematics_for_a_value_reads_as_it(build):
    a, b, _ = traced()
    made = build(a, b)
    text = mathematics(made)
    for sign, typed in SIGNS.items():
        text = text.replace(sign, typed)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(computed(text), made.node.value, rtol=1e-9, atol=1e-12)


CASES = {
    "A - (A + B)": lambda a, b, v: a - (a + b),
    "A - B + A": lambda a, b, v: a - b + a,
    "A / (B * A)": lambda a, b, v: a / (b * a),
    "(A + B) ** 2": lambda a, b, v: tg.square(a + b),
    "A**2": lambda a, b, v: a * a,
    "-(A + B)": lambda a, b, v: -(a + b),
    "(-A) ** 2": lambda a, b, v: tg.square(-a),
    "A @ B.T": lambda a, b, v: a @ b.T,
    "np.transpose(A, (0, 1))": lambda a, b, v: tg.ops.transpose(a, axes=(0, 1)),
    "A[0, ::2]": lambda a, b, v: a[0, ::2],
    "A[1:]": lambda a, b, v: a[1:],
    "A[..., None]": lambda a, b, v: a[..., None],
    "A[()]": lambda a, b, v: a[()],
    "np.sum(A)": lambda a, b, v: tg.sum(a),
    "np.sum(A, axis=0)": lambda a, b, v: tg.sum(a, axis=0),
    "np.mean(A, axis=1, keepdims=True)": lambda a, b, v: tg.mean(a, axis=1, keepdims=True),
    "np.max(A, keepdims=True)": lambda a, b, v: tg.max(a, keepdims=True),
    "np.maximum(A, 0.0)": lambda a, b, v: tg.relu(a),
    "np.stack([A, B], axis=1)": lambda a, b, v: tg.stack([a, b], axis=1),
    'np.einsum("ij,j->i", A, v)': lambda a, b, v: tg.einsum("ij,j->i", a, v),
    "np.where(A > B, A, B)": lambda a, b, v: tg.where(a > b, a, b),
    "np.where(np.logical_or(A > B, np.logical_not(A < 0)), A, B)": lambda a, b, v: tg.where((a > b) | ~(a < 0), a, b),
    "A.astype(np.float32)": lambda a, b, v: a.astype(np.float32),
    "np.cumsum(A, 1)": lambda a, b, v: tg.cumsum(a, axis=1),
    "leaky_relu(A, slope=0.25)": lambda a, b, v: tg.leaky_relu(a, 0.25),
    "np.zeros((2, 2), np.float64)": lambda a, b, v: tg.ops.broadcast_to(_number(a, 0.0), shape=(2, 2)),
    "np.ones((2,), np.float64)": lambda a, b, v: tg.ops.broadcast_to(_number(a, 1.0), shape=(2,)),
    "np.full((2,), 2.5, np.float64)": lambda a, b, v: tg.ops.broadcast_to(_number(a, 2.5), shape=(2,)),
    "np.full((2,), T, np.int64)": lambda a, b, v: tg.ops.broadcast_to(_number(a, TInt.of(5, 1)), shape=(2,)),
    "np.full((3,), 0.75, np.float64)": lambda a, b, v: tg.ops.broadcast_to(_constant(a, 0.75), shape=(3,)),
    "np.broadcast_to(v, (3, 2))": lambda a, b, v: tg.ops.broadcast_to(v, shape=(3, 2)),
    "np.tanh(A.T)": lambda a, b, v: np.tanh(a.T),
    "A": lambda a, b, v: a.detach(),
}


def _number(beside, value):
    return Tracer(beside.trace, Node("number", value=value))


def _constant(beside, value):
    return Tracer(beside.trace, Node("constant", value=np.array(value)))


@pytest.mark.parametrize("text", CASES)
def test_numpy_is_typed_as_a_person_would(text):
    a, b, v = traced()
    assert as_numpy(CASES[text](a, b, v)) == (text, {})


MATHEMATICS = {
    "A − (A − B)": lambda a, b, v: a - (a - b),
    "A + B + A": lambda a, b, v: a + (b + a),
    "A × (B @ A)": lambda a, b, v: a * (b @ a),
    "(A × B) @ A": lambda a, b, v: (a * b) @ a,
    "A @ B @ A": lambda a, b, v: (a @ b) @ a,
    "A @ (B @ A)": lambda a, b, v: a @ (b @ a),
    "(A + B)²": lambda a, b, v: tg.square(a + b),
    "A²": lambda a, b, v: a * a,
    "A": lambda a, b, v: tg.reshape(a.T.T, (2, 2)).detach(),
    "Aᵀ": lambda a, b, v: a.T,
    "(A + B) × v": lambda a, b, v: (a + b).detach() * v,
    "Σ (A + B)": lambda a, b, v: tg.sum(a + b),
    "Σ A × B": lambda a, b, v: tg.sum(a * b),
    "−A × B": lambda a, b, v: -(a * b),
    "−2.5 × A": lambda a, b, v: -2.5 * a,
    "A − −2.5": lambda a, b, v: a - -2.5,
    "1e−09 × A": lambda a, b, v: 1e-9 * a,
    "A where A > B, else B": lambda a, b, v: tg.where(a > b, a, b),
    "A where A = B, else 1": lambda a, b, v: tg.where(np.equal(a, b), a, 1.0),
    "(A where A ≥ 0, else B) + A": lambda a, b, v: tg.where(a >= 0, a, b) + a,
    "A where condition, else B": lambda a, b, v: tg.where(np.array([[True, False]] * 2), a, b),
    "[A, B + A]": lambda a, b, v: tg.concatenate([a, b + a]),
    "stack(A, B)": lambda a, b, v: tg.stack([a, b]),
    "A + B": lambda a, b, v: (a + b)[0],
    "σ(A + B)": lambda a, b, v: tg.sigmoid(a + b),
    "max(A, B)": lambda a, b, v: tg.maximum(a, b),
    "tanh(Aᵀ)": lambda a, b, v: tg.tanh(a.T),
    "A + const": lambda a, b, v: a + np.ones((2, 2)),
}


@pytest.mark.parametrize("text", MATHEMATICS)
def test_mathematics_is_written_as_a_textbook_does(text):
    a, b, v = traced()
    assert mathematics(MATHEMATICS[text](a, b, v)) == text


def test_a_node_shows_its_operation_its_shape_and_its_name():
    a, b, _ = traced()
    made = a * b
    assert (repr(made.node), repr(a.node)) == ("multiply(2, 2)", "input(2, 2) A")
    made.name = "gate"
    assert repr(made.node) == "multiply(2, 2) gate"


def test_a_where_that_is_decided_is_what_was_chosen():
    a, b, _ = traced()
    for chosen, name in ((True, "A"), (False, "B")):
        assert mathematics(tg.where(chosen, a, b)) == name


def test_a_formula_that_doubles_with_each_step_has_an_end():
    a, _, _ = traced()
    for _ in range(60):
        a = tg.tanh(a) + tg.sigmoid(a)
    assert "..." in mathematics(a) and len(mathematics(a)) < 3 * LONGEST


VALUES = {
    "True": True,
    "None": None,
    "(1,)": (1,),
    "(1, 2.5)": (1, 2.5),
    '"it\'s"': "it's",
    "'say \"no\"'": 'say "no"',
    '"\\xe4"': "ä",
    "b'x'": b"x",
    'float("inf")': float("inf"),
    'float("-inf")': -float("inf"),
    'float("nan")': float("nan"),
    "np.bool_": np.dtype(bool),
    "np.float32": np.dtype("f4"),
    "np.int64": np.dtype("i8"),
    "np.uint8": np.dtype("u1"),
    "np.int32(7)": np.int32(7),
    "np.bool_(True)": np.bool_(True),
    "np.float32(0.5)": np.float32(0.5),
    "slice(1, None, 2)": slice(1, None, 2),
    "...": Ellipsis,
    "T": TInt.of(5, 1),
    "2 * T - 1": TInt.of(9, 2, -1),
    "1 / (3 * T)": TFloat.of(1.0, TInt.of(15, 3)),
    "0.5 / T": TFloat.of(0.5, TInt.of(5, 1)),
}


@pytest.mark.parametrize("text", VALUES)
def test_a_static_parameter_is_typed_so_that_it_is_what_it_was(text):
    value = VALUES[text]
    assert value_text(value) == text
    again = eval(text, {"np": np, "T": 5})
    if isinstance(value, np.dtype):
        assert np.dtype(again) == value
    else:
        assert repr(again) == repr(value) or again == value
        assert isinstance(value, again.__class__)


@pytest.mark.parametrize("value", [np.dtype(complex), np.complex64(1), object(), [1], {}])
def test_what_cannot_be_typed_is_given_a_name(value):
    with pytest.raises(TypeError, match=f"a {type(value).__name__} cannot be typed"):
        value_text(value)
    asked = []
    assert value_text(value, lambda v, level: asked.append((v, level)) or "k") == "k" and asked == [(value, 0)]


@pytest.mark.parametrize(
    "text, index", [("1:", (slice(1, None),)), (":2", (slice(None, 2),)), ("::-1, 0", (slice(None, None, -1), 0))]
)
def test_an_index_is_typed_as_it_was(text, index):
    assert index_text(index, None) == text
    assert index_text((), None) == "()"


def test_a_number_that_goes_by_the_steps_binds_as_it_is_written():
    a, _, _ = traced()
    for number, text in [
        (TInt.of(5, 1), "T × A"),
        (TInt.of(4, 1, -1), "(T − 1) × A"),
        (TInt.of(6, 1, 1), "(T + 1) × A"),
        (TFloat.of(1.0, TInt.of(5, 1)), "1 / T × A"),
    ]:
        node = Node("number", value=number)
        assert mathematics(Tracer(a.trace, node) * a) == text
        for steps in (1, 7):
            assert at_steps(number, steps) == pytest.approx(eval(repr(number), {"T": steps}))


def test_levels_are_those_of_the_written_signs():
    assert [number_level(text) for text in ("5", "T")] == [ATOM, ATOM]
    assert number_level("T - 1") == number_level("T + 1") < number_level("8 * T") == number_level("1 / T")
    assert number_level("8 * T") < number_level("-2") < ATOM
