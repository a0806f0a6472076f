"""The formula on an edge is true: evaluated as it is printed, it gives the contribution of that edge."""

import re

import numpy as np
import pytest
from hypothesis import given

import tinygrad_rnn as tg
from tinygrad_rnn.symbolic.explain import formula, mathematics, placeholders
from tinygrad_rnn.testing.strategies import programs

SIGNS = {"−": "-", "×": "*", "^": "**", "²": "**2", "ᵀ": ".T", "=": "==", "≠": "!=", "≥": ">=", "≤": "<="}


def split(text, by):
    """Where `by` stands outside of parentheses: before and after the first, or None."""
    for at in range(len(text)):
        if text.startswith(by, at) and text.count("(", 0, at) == text.count(")", 0, at):
            return text[:at], text[at + len(by) :]
    return None


def python(text):
    """A formula as an expression of Python."""
    if cut := split(text, ", else "):
        chosen, otherwise = cut
        yes, condition = split(chosen, " where ")
        return f"_where({python(condition)}, {python(yes)}, {python(otherwise)})"
    for word, sign in ((" or ", "|"), (" and ", "&")):
        if cut := split(text, word):
            return f"(({python(cut[0])}) {sign} ({python(cut[1])}))"
    pieces, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        if letter == "(":
            pieces, start = (pieces if depth else [*pieces, text[start:at]]), (start if depth else at + 1)
            depth += 1
        elif letter == ")":
            depth -= 1
            if not depth:
                inside = text[start:at]
                arguments = []
                while cut := (None if ", else " in inside else split(inside, ", ")):
                    arguments, inside = [*arguments, cut[0]], cut[1]
                pieces, start = [*pieces, f"({', '.join(map(python, [*arguments, inside]))})"], at + 1
    whole = [*pieces, text[start:]]
    return "".join(p if p.startswith("(") else "".join(SIGNS.get(c, c) for c in p) for p in whole)


FUNCTIONS = {name: op.forward for name, op in tg.OPS.items()} | {"_where": np.where}
FUNCTIONS |= {op.symbol: op.forward for op in tg.OPS.values() if not op.phrase}  # max(a, b) is no reduction


def value_of(text, shape, values):
    """What a printed formula comes to, for an operand of some shape."""
    text, _, axes = text.partition(", Σ over ")
    value = np.asarray(eval(python(text), FUNCTIONS | values))
    if axes:
        axes = eval(axes)
        full = np.broadcast_to(value, values["g"].shape) if value.ndim < max(axes) + 1 else value
        value = full.sum(axis=axes)
        return value.reshape(shape) if value.size == np.prod(shape, dtype=int) else value
    return np.broadcast_to(value, shape) if value.ndim <= len(shape) else value


A, B, P = np.array([[0.5, -1.25, 2.0], [0.75, 0.3, -0.6]]), np.array([0.4, 1.5, -0.7]), np.array([[1.5], [0.4]])
CALLS = {
    **{
        name: (getattr(tg, name), {"x": np.abs(A) if name in ("log", "sqrt", "log1p") else A})
        for name in "negative exp expm1 log log1p sqrt square sin cos tanh sigmoid softplus relu abs".split()
    },
    **{
        f"{name} {k}": (getattr(tg, name), {"a": np.abs(a) if name == "power" else a, "b": b})
        for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power")
        for k, (a, b) in enumerate([(A, B), (P, A), (B[:1], B), (A, A + 0.1), (P, B)])
    },
    "leaky_relu": (lambda x: tg.leaky_relu(x, slope=0.25), {"x": A}),
    "matmul": (tg.matmul, {"a": A, "b": A.T}),
    "linear": (tg.linear, {"x": A, "W": np.ones((4, 3)) * B, "b": np.arange(4.0)}),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_formula_comes_to_the_contribution(call):
    f, operands = CALLS[call]
    leaves = [tg.Tensor(array, requires_grad=True, name=name) for name, array in operands.items()]
    y = f(*leaves)
    g = np.random.default_rng(0).normal(size=y.shape)
    graph = tg.gradient_graph(y, g)
    assert len(graph.edges) == len(leaves)
    for edge, leaf in zip(graph.edges, leaves, strict=True):
        value = value_of(edge.formula, leaf.shape, operands | {"g": g, "y": y.numpy()})
        np.testing.assert_allclose(value, edge.contribution, rtol=1e-12, err_msg=edge.formula)


def test_sums_over_the_axes_along_which_an_operand_was_repeated():
    whole = np.ones((4, 2, 3))
    for shape, axes in (((), (0, 1, 2)), ((3,), (0, 1)), ((2, 1), (0, 2)), ((1, 2, 1), (0, 2)), ((4, 2, 3), None)):
        x = tg.Tensor(np.ones(shape), requires_grad=True)
        for y in (x * whole, whole * x, tg.broadcast_to(x, (4, 2, 3))):
            (edge,) = [e for e in tg.gradient_graph(y, whole).edges if e.contribution is not None]
            assert edge.formula.endswith(f", Σ over {axes}") if axes else "Σ" not in edge.formula
    x, flat = tg.Tensor(np.ones((2, 1, 1)), requires_grad=True), np.ones((4, 2, 1, 3))
    assert tg.gradient_graph(x * flat, flat).edges[0].formula == "g × b, Σ over (0, 3)"  # one axis of one stays one
    for shape, axes in (((1, 3), "(1,)"), ((3, 1), "(0,)"), ((2, 1, 3), "(0, 2)")):
        x = tg.Tensor(np.ones((1, 1)), requires_grad=True)
        assert tg.gradient_graph(x * np.ones(shape), np.ones(shape)).edges[0].formula == f"g × b, Σ over {axes}"


def test_a_formula_depends_on_the_shape_of_the_result_too():
    repeated = tg.primitive("repeated", lambda x, *, n: np.repeat(x, n, axis=0), lambda g, y, x, *, n: g)
    try:
        x = tg.Tensor(np.ones((1, 3)), requires_grad=True)
        graph = tg.gradient_graph(tg.sum(repeated(x, n=1)) + tg.sum(repeated(x, n=2)))
        assert [e.formula for e in graph.edges_from(graph.node_of(x))] == ["g", "g, Σ over (0,)"]
    finally:
        del tg.OPS["repeated"]


@given(programs(most=10))
def test_each_call_has_the_formula_that_it_would_have_alone(program):
    """Of the same primitive with other shapes, numbers or axes, the formula is another."""
    result = program(*[tg.Tensor(leaf, requires_grad=True) for leaf in program.leaves])
    if not (isinstance(result, tg.Tensor) and result.requires_grad):
        return
    graph, stack, calls = tg.gradient_graph(result, np.ones(result.shape)), [result], {}
    while stack:
        node = stack.pop()
        calls[graph.node_of(node).id] = node
        stack += [operand for operand in node._operands if operand is not None and operand._requires_grad]
    for edge in graph.edges:
        node = calls[edge.target]
        alone = formula(node._op, edge.operand, node._arrays, node.shape, node._static)
        assert edge.formula == ("" if edge.contribution is None else alone)


def test_the_axis_of_a_sum_and_the_number_of_a_power_are_those_of_their_own_call():
    x = tg.Tensor(np.eye(3), requires_grad=True)
    y = tg.sum(x, axis=0) + tg.sum(x, axis=1) + tg.mean(x, axis=0) + tg.mean(x, axis=1)
    words = [e.formula for e in tg.gradient_graph(tg.sum(y)).edges if e.source == 0]
    assert [re.findall(r"\(\d,\)", text) for text in words] == [["(0,)"], ["(1,)"], ["(0,)"], ["(1,)"]]
    graph = tg.gradient_graph(tg.sum(x**2 + x**3))
    assert [e.formula for e in graph.edges if e.source == 0] == ["g × 2 × a ^ 1", "g × 3 × a ^ 2"]


# --- the printer ---


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda x, y: (x + y) * x, "(x + y) × x"),
        (lambda x, y: x + y * x, "x + y × x"),
        (lambda x, y: x - (y - x), "x − (y − x)"),
        (lambda x, y: x - y - x, "x − y − x"),
        (lambda x, y: x + (y + x), "x + y + x"),
        (lambda x, y: x / (y / x), "x / (y / x)"),
        (lambda x, y: x / (y * x), "x / (y × x)"),
        (lambda x, y: x * y / x, "x × y / x"),
        (lambda x, y: -(x + y), "−(x + y)"),
        (lambda x, y: -x * y, "−x × y"),
        (lambda x, y: -(x * y), "−x × y"),
        (lambda x, y: (-x) ** 2, "(−x) ^ 2"),
        (lambda x, y: (x**y) ** x, "(x ^ y) ^ x"),
        (lambda x, y: x ** (y**x), "x ^ (y ^ x)"),
        (lambda x, y: (z := x + y) * z, "(x + y)²"),
        (lambda x, y: np.square(x - y), "(x − y)²"),
        (lambda x, y: x * (x @ y), "x × (x @ y)"),
        (lambda x, y: (x * y) @ y, "(x × y) @ y"),
        (lambda x, y: 2 - x, "2 − x"),
        (lambda x, y: -2.5 / x, "−2.5 / x"),
        (lambda x, y: x * np.ones(2), "x × const"),
        (lambda x, y: np.exp(x) + np.tanh(y), "exp(x) + tanh(y)"),
        (lambda x, y: x[0] * y[::-1], "x × y"),
        (lambda x, y: tg.broadcast_to(x, (2, 2)) * tg.reshape(y, (2, 2)), "x × y"),
        (lambda x, y: np.maximum(x, y + 1), "max(x, y + 1)"),
        (lambda x, y: np.sum(x, axis=0), "Σ x"),
        (lambda x, y: np.sum(x, axis=1, keepdims=True) * y, "Σ x × y"),
        (lambda x, y: (x @ y.T) @ y, "x @ yᵀ @ y"),
        (lambda x, y: x @ (y.T @ y), "x @ (yᵀ @ y)"),
        (lambda x, y: (x + y).T, "(x + y)ᵀ"),
        (lambda x, y: tg.where((x >= 0) & (y != 1), x, y), "x where x ≥ 0 and y ≠ 1, else y"),
        (lambda x, y: tg.where((x <= 0) | (y == 1), x, y), "x where x ≤ 0 or y = 1, else y"),
        (lambda x, y: tg.where(((x <= 0) | (y == 1)) & (x < y), x, y), "x where (x ≤ 0 or y = 1) and x < y, else y"),
        (lambda x, y: 2 * tg.where(x > 0, x, y), "2 × (x where x > 0, else y)"),
        (lambda x, y: tg.where(x < y, x, -y), "x where x < y, else −y"),
        (lambda x, y: tg.where(np.eye(2) > 0, x, y), "x where condition, else y"),
        (lambda x, y: tg.where(True, x, y), "x"),
        (lambda x, y: tg.where(False, x, y), "y"),
        (lambda x, y: tg.where((x > 0) & True, x, y), "x where x > 0, else y"),
        (lambda x, y: tg.where(True | (x > 0), x, y), "x"),
        (lambda x, y: tg.where(False & (x > 0), x, y), "y"),
        (lambda x, y: tg.where(False | (x > 0), x, y), "x where x > 0, else y"),
    ],
)
def test_parentheses_stand_where_they_are_needed_and_nowhere_else(write, text):
    """Evaluated as printed, an expression is what it was on numbers: to the left first, powers before products."""
    x, y = np.array([[0.5, 2.0], [-1.5, 1.0]]), np.array([[1.0, 3.0], [2.0, -0.5]])
    printed = write(*placeholders({"x": (2, 2), "y": (2, 2)}))
    assert mathematics(printed) == text
    if "Σ" not in text and "[" not in text and "const" not in text and "condition" not in text:
        x, y = (np.abs(x), np.abs(y)) if "^" in text and "(−x)" not in text else (x, y)
        value = eval(python(text), FUNCTIONS | {"x": x, "y": y})
        if text != "x × y":  # whose brackets move numbers and do not change them
            np.testing.assert_allclose(value, write(x, y))
    assert printed.shape == np.broadcast_shapes(np.shape(write(x, y)))


def test_a_condition_on_one_number_is_written_too():
    x, y = placeholders({"x": (), "y": ()})
    assert mathematics(tg.where(x > 0, x, y)) == "x where x > 0, else y"


def test_a_number_is_written_as_its_digits_and_an_array_by_no_name():
    assert [mathematics(v) for v in (2, -0.5, 1e-9, np.ones(3))] == ["2", "−0.5", "1e−09", "const"]
    (x,) = placeholders({"x": (2, 3)})
    assert (mathematics(x), x.ndim, x.T.shape, (x * np.ones((4, 1, 1))).shape) == ("x", 2, (3, 2), (4, 2, 3))
    assert (x > np.ones((4, 2, 1))).shape == (4, 2, 3)
