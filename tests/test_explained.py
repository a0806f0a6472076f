"""Primitives say what they compute: signature, names of operands, formulas, all read off the declaration."""

import inspect
import pydoc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.ops import ACTIVATIONS
from tinygrad_rnn.symbolic.explain import explain_primitive, is_elementwise, placeholders

PYTHON = {"×": "*", "−": "-", "²": "**2", "^": "**", " where ": " if ", ", else ": " else ", "≥": ">=", "≤": "<="}
PYTHON |= {" = ": " == ", "≠": "!="}
ELEMENTWISE = sorted(name for name, op in tg.OPS.items() if is_elementwise(op))


def evaluated(formula, **values):
    """What a formula says of numbers. `A where C, else B` is Python's conditional expression."""
    for sign, written in PYTHON.items():
        formula = formula.replace(sign, written)
    ops = {name: op for name, op in tg.OPS.items() if not op.phrase}
    functions = {key: getattr(np, name, op.forward) for name, op in ops.items() for key in (name, op.symbol)}
    return eval(formula, functions | values)


def formulas(op):
    """The value, and the derivative in each operand by name."""
    lines = explain_primitive(op).splitlines()
    value = lines[0].partition(": y = ")[2].removesuffix(", elementwise.")
    return value, dict(line.strip().removeprefix("dL/d").split(" = ", 1) for line in lines if line.startswith("    dL"))


SYMBOLS = {"add": "+", "subtract": "-", "multiply": "×", "divide": "/", "power": "^", "matmul": "@", "negative": "-"}
SYMBOLS |= {"maximum": "max", "minimum": "min", "sqrt": "√", "square": "x²", "sigmoid": "σ", "sum": "Σ"}
SYMBOLS |= {"transpose": "ᵀ", "getitem": "[ ]", "remainder": "%"}
PHRASES = {
    "sum": "g spread over axis (1,)",
    "mean": "g / n spread over axis (1,)",
    "max": "g to the largest, ties share equally",
    "min": "g to the smallest, ties share equally",
    "logsumexp": "g × softmax(x) over axis (1,)",
    "cumsum": "g summed from the end of axis 1",
    "reshape": "g reshaped back",
    "transpose": "g with its axes back in order",
    "broadcast_to": "g, Σ over (0,)",
    "cast": "g in the operand's dtype",
    "scatter": "g picked from its place",
    "getitem": "g in its place among zeros",
    "concatenate": "this operand's part of g",
    "stack": "this operand's part of g",
    "einsum": "g for this operand in ij->i",
}


@pytest.mark.parametrize("name", tg.OPS)
def test_every_primitive_explains_itself(name):
    op = tg.OPS[name]
    parameters = inspect.signature(op).parameters.values()
    operands = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
    text = explain_primitive(op)
    assert op.__doc__.startswith(f"{name}(")
    first, empty, heading, *rest = text.splitlines()
    assert first.startswith(f"{name}(") and not empty
    assert heading.startswith("Derivatives of a loss L, where g = dL/dy:")
    assert f"{name}(" in pydoc.render_doc(op)
    assert "rule 0 of" not in text, "a rule cannot be traced: give it a phrase"
    if op.nary:
        assert not operands and any(p.kind is p.VAR_POSITIONAL for p in parameters)
    else:
        assert len(operands) == len(op.rules) and operands == list(op.operand_names)
        assert op.phrase or (list(formulas(op)[1]) == operands and formulas(op)[0])
    if op.nary or op.phrase:
        phrase = op.phrase.replace("{", "`").replace("}", "`")
        assert heading.endswith(f": each operand receives {phrase}.") and not rest
    else:
        assert rest[0] == "" and [line.partition(" = ")[0] for line in rest[1:]] == [f"    dL/d{o}" for o in operands]
        kind = f", of shapes {op.shapes}." if op.shapes else ", elementwise." if is_elementwise(op) else "."
        assert first.endswith(kind) and first.count(", elementwise") == (kind == ", elementwise.")
    accepted = inspect.signature(op.forward if op.nary else op.rules[0]).parameters.values()
    static = [p.name for p in accepted if p.kind is p.KEYWORD_ONLY]
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == static


CALLS = {
    **{
        "add": "x + y",
        "subtract": "x - y",
        "multiply": "x * y",
        "divide": "x / y",
        "power": "x ** y",
        "matmul": "x @ y.T",
    },
    **{"negative": "-x", "remainder": "x % y", "transpose": "x.T", "getitem": "x[0]", "cast": "x.astype('f4')"},
    **{name: f"np.{name}(x, y)" for name in "maximum minimum logaddexp arctan2".split()},
    **{
        name: f"tg.{name}(x)"
        for name in "exp expm1 log log1p sqrt square sin cos tanh sigmoid softplus relu abs".split()
    },
    **{name: f"np.{name}(x)" for name in "tan sinh cosh arcsin arctan arccos arcsinh arctanh log2 log10".split()},
    **{"leaky_relu": "tg.leaky_relu(x, 0.1)", "clip": "tg.clip(x, 0.2, 0.6)", "where": "tg.where(x > y, x, y)"},
    **{name: f"tg.{name}(x, axis=1)" for name in "sum mean max min logsumexp cumsum".split()},
    **{name: f"tg.{name}([x, y])" for name in ("concatenate", "stack")},
    **{
        "reshape": "tg.reshape(x, (3, 2))",
        "broadcast_to": "tg.broadcast_to(x, (4, 2, 3))",
        "arccosh": "np.arccosh(x + 1)",
    },
    **{"scatter": "tg.OPS['scatter'](x, index=(0,), shape=(4, 2, 3))", "einsum": "tg.einsum('ij->i', x)"},
    **{"linear": "tg.linear(x, y, x[:, 0])", "affine": "tg.affine(x, y, x[:, 0], x, y, x[:, 0])"},
}


@pytest.mark.parametrize("name", CALLS)
def test_an_operation_stands_in_a_graph_by_the_sign_that_a_textbook_has_or_by_its_name(name):
    """And what no formula of elements says is said in words."""
    x, y = (tg.Tensor(a, requires_grad=True) for a in np.random.default_rng(0).uniform(0.1, 0.9, (2, 2, 3)))
    made = eval(CALLS[name], {"np": np, "tg": tg, "x": x, "y": y})
    made.name = "made"
    graph = tg.gradient_graph(tg.sum(made) if made.shape else made)
    (node,) = [node for node in graph.nodes if node.name == "made"]
    assert (node.op, node.symbol) == (name, SYMBOLS.get(name, name))
    said = {edge.formula for edge in graph.edges if edge.target == node.id}
    assert name not in PHRASES or said == {PHRASES[name]}


def test_signs_that_are_no_names():
    assert [op.symbol for op in (tg.maximum, tg.minimum, tg.ops.max, tg.ops.min)] == ["max", "min", "max", "min"]
    assert [op.symbol for op in (tg.sqrt, tg.square, tg.sigmoid)] == ["√", "x²", "σ"]
    assert [op.name for op in (tg.sqrt, tg.square, tg.sigmoid)] == ["sqrt", "square", "sigmoid"]
    assert [op.name for op in (tg.relu, tg.softplus, tg.log1p)] == ["relu", "softplus", "log1p"]


def test_every_operation_is_called_as_the_variable_that_holds_it():
    held = {name: op.name for name, op in vars(tg.ops).items() if hasattr(op, "rules") and hasattr(op, "forward")}
    assert len(held) > 40 and all(name == of and tg.OPS[of] is vars(tg.ops)[name] for name, of in held.items())


def test_every_operation_is_called_above():
    assert CALLS.keys() == tg.OPS.keys()


def test_most_of_the_table_is_element_by_element():
    assert len(ELEMENTWISE) >= 24 and {"tanh", "add", "where"} <= set(ELEMENTWISE)


@pytest.mark.parametrize("name", ELEMENTWISE)
@settings(max_examples=8)
@given(data=st.data())
def test_the_formulas_are_what_is_computed(name, data):
    """Both the value and each derivative, on numbers: what is printed is not typed, and not another formula."""
    op, numbers = tg.OPS[name], st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0]) | st.floats(0.125, 3)
    if name in ("abs", "clip", "leaky_relu", "relu", "sigmoid", "sin", "tanh"):
        numbers |= st.floats(-3, 3)
    if name in ("arcsin", "arccos", "arctanh", "arccosh"):
        numbers = st.floats(0.125, 0.875).map(lambda x: x + 1 if name == "arccosh" else x)
    xs = {x: np.float64(data.draw(numbers, x)) for x in op.operand_names}
    g = np.float64(data.draw(st.floats(-3, 3), "g"))
    options = {"clip": {"lo": 0.5, "hi": 1.5}, "leaky_relu": {"slope": 0.1}, "where": {"condition": xs.get("a", 0) > 1}}
    static = options.get(name, {})
    value, derivatives = formulas(op)
    y = op.forward(*xs.values(), **static)
    np.testing.assert_allclose(evaluated(value, **xs, **static), y, rtol=1e-5, atol=1e-12)
    for rule, derivative in zip(op.rules, derivatives.values(), strict=True):
        expected = rule(g, y, *xs.values(), **static)
        np.testing.assert_allclose(evaluated(derivative, g=g, y=y, **xs, **static), expected, rtol=1e-5, atol=1e-12)


def test_a_matrix_product_shows_its_shapes():
    value, derivatives = formulas(tg.affine)
    assert str(inspect.signature(tg.affine)) == "(x, W, b, h, U, d, /)"
    assert value == "x @ Wᵀ + h @ Uᵀ + b + d, of shapes (..., I), (O, I), (O,), (..., H), (O, H), (O,) -> (..., O)."
    assert formulas(tg.matmul)[0] == "a @ b, of shapes (..., N, K), (..., K, M) -> (..., N, M)."
    assert formulas(tg.linear)[0] == "x @ Wᵀ + b, of shapes (..., I), (O, I), (O,) -> (..., O)."
    assert derivatives["h"] == "g @ U" and derivatives["U"] == "gᵀ @ h" and derivatives["d"] == "g, Σ over (0, 1)"


def test_a_primitive_of_ones_own_explains_itself(declared):
    op = declared("gauss", lambda u, *, s=1.0: np.exp(-u * u / s), lambda g, y, u, *, s=1.0: -2 * g * u * y / s)
    assert str(inspect.signature(op)) == "(u, /, *, s=1.0)"
    assert op.__doc__.splitlines()[0] == "gauss(u, s=1.0): y = exp(−u × u / s)." and op.__doc__ == explain_primitive(op)
    assert formulas(op)[1] == {"u": "−2 × g × u × y / s"}


def test_what_cannot_be_traced_is_not_made_up(declared):
    """A branch on a value has no one formula."""
    op = declared("half", lambda v, *, k: v if k > 1 else v / 2, lambda g, y, v, *, k: g if k > 1 else g / 2)
    value, derivatives = formulas(op)
    assert value == "half(v, k)." and derivatives == {"v": "rule 0 of half"}
    with pytest.raises(TypeError, match="asks for the numbers of a traced value"):
        bool(placeholders({"x": ()})[0] > 0)


def test_a_value_of_another_shape_than_was_declared_is_not_written_out(declared):
    op = declared("longer", lambda v: v * 2, lambda g, y, v: 2 * g, shapes="(I) -> (O)")
    assert explain_primitive(op).splitlines()[0] == "longer(v): y = longer(v), of shapes (I) -> (O)."


def test_a_rule_with_any_number_of_operands_names_them(declared):
    op = declared("first", lambda *xs: xs[0] * xs[1], lambda g, y, *xs: g * xs[1], lambda g, y, *xs: g * xs[0])
    assert str(inspect.signature(op)) == "(x0, x1, /)" and formulas(op)[1] == {"x0": "g × x1", "x1": "g × x0"}


def test_an_error_names_the_operands():
    with pytest.raises(ValueError) as caught:
        tg.affine(*[tg.Tensor(np.ones(shape)) for shape in [(4, 2), (8, 3), (8,), (4, 8), (8, 8), (8,)]])
    assert caught.value.__notes__ == ["in affine x (4, 2), W (8, 3), b (8,), h (4, 8), U (8, 8), d (8,)"]


def test_a_call_with_too_few_operands_shows_the_signature(declared):
    declared("both", lambda u, v: u * v, lambda g, y, u, v: g * v, lambda g, y, u, v: g * u)
    for op, said in [
        (tg.affine, r"affine\(x, W, b, h, U, d, /\) takes 6 operands, not 2"),
        (tg.OPS["both"], r"both\(u, v, /\)"),
    ]:
        with pytest.raises(TypeError, match=said):
            op(*[tg.Tensor(1.0)] * (2 if op is tg.affine else 3))


@pytest.mark.parametrize("x, h", [((), ()), ((3,), (1, 4)), ((2, 3), (3, 4)), ((2, 1, 3), (2, 4))])
def test_operands_whose_leading_axes_differ_are_refused_with_the_shapes(x, h):
    with pytest.raises(ValueError, match="needs the shapes") as caught:
        tg.affine(*map(np.ones, [x, (5, 3), (5,), h, (5, 4), (5,)]))
    assert "shapes (..., I), (O, I), (O,), (..., H), (O, H), (O,), with the same leading" in str(caught.value)


def test_the_largest_slope_of_an_activation_is_what_is_said_of_it():
    x = tg.Tensor(np.linspace(-40.0, 40.0, 8001), requires_grad=True)
    steepest = {name: np.abs(tg.grad(tg.sum(getattr(tg, name)(x)), x).numpy()).max() for name in ACTIVATIONS}
    assert set(steepest) == {"tanh", "sigmoid", "relu", "leaky_relu", "softplus"}
    assert steepest == pytest.approx(ACTIVATIONS, rel=1e-9)
