"""The gradient graph: what its nodes and edges are, when a zero is an underflow, formulas, JSON, table."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.graph.dot import digraph
from tinygrad_rnn.norms import norm_of, state_of


def graph_of(f, *arrays):
    """The graph of Σ f(...) and the leaves."""
    leaves = [tg.Tensor(a, requires_grad=True, name=f"x{i}") for i, a in enumerate(arrays)]
    return tg.gradient_graph(tg.sum(f(*leaves))), leaves


def assert_edges_sum_to_gradients(graph):
    for node in graph.nodes:
        if node.gradient is not None and node.kind != "loss":
            total = sum(edge.contribution for edge in graph.edges_from(node))
            np.testing.assert_allclose(total, node.gradient, rtol=1e-12, atol=1e-300)


def test_an_operand_used_twice_has_two_edges_with_their_own_contributions():
    x = tg.Tensor(3.0, requires_grad=True)
    y = tg.Tensor(5.0, requires_grad=True)
    graph = tg.gradient_graph(x * x + x * y)
    edges = list(graph.edges_from(graph.node_of(x)))
    assert [float(edge.contribution) for edge in edges] == [3.0, 3.0, 5.0]
    assert float(graph.node_of(x).gradient) == 11.0
    assert float(graph.node_of(y).gradient) == 3.0


@pytest.mark.parametrize("make", [tg.RNNCell, tg.LSTMCell])
def test_contributions_of_a_cell_sum_to_the_gradients(make):
    cell = make(2, 3, rng=0)
    outputs, _ = tg.unroll(cell, np.random.default_rng(0).normal(size=(5, 2, 2)))
    loss = tg.mean(outputs * outputs)
    graph = tg.gradient_graph(loss)
    assert_edges_sum_to_gradients(graph)
    assert all(p.grad is None for p in cell.parameters().values())
    loss.backward()
    for p in cell.parameters().values():
        np.testing.assert_allclose(graph.node_of(p).gradient, p.grad.numpy(), rtol=1e-11, atol=1e-15)
        assert len(list(graph.edges_from(graph.node_of(p)))) == 5


def test_nodes_are_ranked_and_described():
    with tg.scope("t=1"):
        x = tg.Tensor(np.ones((2, 2)), name="x")
        w = tg.Tensor(np.ones((2, 2)), requires_grad=True, name="W")
        y = (x @ w) * 2.0
        y.name = "y"
    loss = tg.sum(y)
    graph = tg.gradient_graph(loss)
    assert [(n.id, n.kind, n.name, n.op, n.symbol, n.scope, n.shape) for n in graph.nodes] == [
        (0, "input", "x", None, None, "t=1", (2, 2)),
        (1, "parameter", "W", None, None, "t=1", (2, 2)),
        (2, "op", None, "matmul", "@", "t=1", (2, 2)),
        (3, "constant", None, None, None, "", ()),
        (4, "op", "y", "multiply", "×", "t=1", (2, 2)),
        (5, "loss", None, "sum", "Σ", "", ()),
    ]
    assert [(e.source, e.target, e.operand, e.norm, e.state) for e in graph.edges] == [
        (0, 2, 0, None, "none"),
        (1, 2, 1, 8.0, "finite"),
        (2, 4, 0, 4.0, "finite"),
        (3, 4, 1, None, "none"),
        (4, 5, 0, 2.0, "finite"),
    ]
    assert graph.node_of(y).label == "y (multiply) t=1"
    assert graph.node_of(x) is graph.nodes[0]
    with pytest.raises(KeyError, match="not among"):
        graph.node_of(tg.Tensor(1.0))


def test_a_graph_is_one_line_in_a_notebook():
    _, h = tg.unroll(tg.LSTMCell(2, 16, rng=0), np.ones((50, 1, 2)))
    graph = tg.gradient_graph(tg.mean(h[0]))
    assert repr(graph) == f"GradientGraph({len(graph.nodes)} nodes, {len(graph.edges)} edges, loss: mean)"
    assert len(repr(graph.collapse("step"))) < 200


def test_a_cotangent_scales_every_edge():
    x = tg.Tensor(np.ones(3), requires_grad=True)
    y = tg.tanh(x) * x
    one, three = tg.gradient_graph(y, np.ones(3)), tg.gradient_graph(y, 3 * np.ones(3))
    for a, b in zip(one.edges, three.edges, strict=True):
        np.testing.assert_allclose(3 * a.contribution, b.contribution, rtol=1e-15)


def test_values_are_those_of_the_forward_pass():
    w = tg.Tensor(3.0, requires_grad=True)
    loss = w * w
    w.data = 100.0
    graph = tg.gradient_graph(loss)
    assert float(graph.nodes[0].value) == 3.0 and float(graph.nodes[0].gradient) == 6.0


# -- Exactly zero, underflown, not a number ----------------------------------------------------------------------------


def chain(factor, steps, dtype=np.float32):
    x = tg.Tensor(np.ones(2, dtype), requires_grad=True)
    y = x
    for _ in range(steps):
        y = y * factor
    return tg.gradient_graph(tg.sum(y))


def test_underflow_is_told_from_zero():
    # Facts, P7: a factor of 1/4 per step is subnormal in float32 from step 64 on and reads zero from step 75 on.
    graph = chain(0.25, 80)
    states = [e.state for e in reversed(graph.edges) if e.contribution is not None][1:]  # newest first, less the sum
    assert states == ["finite"] * 63 + ["underflow"] * 17
    zero = [not e.contribution.any() for e in reversed(graph.edges) if e.contribution is not None][1:]
    assert zero.index(True) + 1 == 75
    assert {e.state for e in chain(0.25, 80, np.float64).edges} == {"finite", "none"}
    assert {e.state for e in chain(0.0, 3).edges if e.contribution is not None} == {"zero", "finite"}


def test_exact_zeros_of_an_unrolled_net():
    cell = tg.RNNCell(2, 3, rng=0)
    _, h = tg.unroll(cell, np.ones((3, 1, 2)))
    graph = tg.gradient_graph(tg.sum(h))
    edges = list(graph.edges_from(graph.node_of(cell.weight_hh)))
    assert [e.state for e in edges] == ["zero", "finite", "finite"]  # h0 = 0, so W_hh gets nothing at t = 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinity_and_nan_have_states_of_their_own():
    graph, _ = graph_of(lambda x: tg.sqrt(x) * 0.0, [0.0])
    assert [e.state for e in graph.edges if e.target == 1] == ["nan"]  # 0 / 0
    graph, _ = graph_of(tg.sqrt, [0.0])
    assert graph.edges[0].state == "inf"


def test_what_a_graph_holds_is_its_own():
    """A contribution that is changed changes no other, no gradient, and nothing of the engine's."""
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    y = x + x
    graph = tg.gradient_graph(y, np.ones(2))
    held = [e.contribution for e in graph.edges] + [n.gradient for n in graph.nodes]
    assert len(held) == 4
    assert not any(np.shares_memory(a, b) for i, a in enumerate([*held, x._value]) for b in held[:i])


@pytest.mark.parametrize("way", [lambda x: x, tg.transpose, lambda x: tg.reshape(x, (3, 2))])
def test_two_weights_that_are_handed_the_same_array_hold_one_each(way):
    V, W = (tg.Tensor(np.ones((2, 3)), requires_grad=True) for _ in range(2))
    y = way(V) + way(W)
    graph = tg.gradient_graph(tg.sum(y * np.arange(6.0).reshape(y.shape)))
    a, b = (graph.node_of(x).gradient for x in (V, W))
    assert np.array_equal(a, b) and not np.shares_memory(a, b)


@pytest.mark.parametrize(
    ("array", "norm", "size"),
    [
        ([3.0, 4.0], "l2", 5.0),
        ([3.0, 4.0], "rms", 5 / np.sqrt(2)),
        ([3.0, -4.0], "max", 4.0),
        ([1e-200, 0.0], "l2", 1e-200),
        ([1e200, 1e200], "l2", np.sqrt(2) * 1e200),
        ([5e-324], "l2", 5e-324),
        ([0.0, 0.0], "l2", 0.0),
        ([], "l2", 0.0),
        ([np.inf, 1.0], "l2", np.inf),
        (np.float32([1e-30, 1e-30]), "l2", np.sqrt(2) * float(np.float32(1e-30))),
        (np.full((30, 40), 0.1, np.float32), "l2", np.sqrt(1200) * float(np.float32(0.1))),
        (np.full((30, 40), 0.1, np.float32), "rms", float(np.float32(0.1))),
    ],
)
def test_norms_neither_underflow_nor_overflow(array, norm, size):
    np.testing.assert_allclose(norm_of(np.array(array), norm), size, rtol=1e-14)
    assert np.isnan(norm_of(np.array([np.nan, 1.0]), norm))


SMALL = np.finfo(np.float32).tiny
STATES = [
    ([0.0, 0.0], False, "zero"),
    ([0.0, -0.0], True, "underflow"),
    ([], False, "zero"),
    ([SMALL, 0.0], False, "finite"),
    ([SMALL / 2, -SMALL / 2], False, "underflow"),
    ([0.0, -1.0], True, "finite"),
    ([1e30, 1e30], True, "finite"),
    ([1.0, -np.inf], False, "inf"),
    ([np.inf, np.nan], True, "nan"),
]


@pytest.mark.parametrize("array, lost, state", STATES)
def test_what_a_size_means(array, lost, state):
    """Of float32: in float64, what is half the smallest there is nothing special."""
    assert state_of(np.float32(array), lost) == state
    assert state_of(np.array([float(SMALL) / 2]), lost) == "finite"


@given(dtype=st.sampled_from([np.float16, np.float32, np.float64]), size=st.integers(1, 10**5), above=st.floats(-3, 3))
def test_many_numbers_that_are_too_small_are_no_large_one(dtype, size, above):
    tiny = np.finfo(dtype).tiny
    for power in (1, 0.5):  # also where the squares are as small
        array = np.full(size, float(tiny) ** power * 2.0**above).astype(dtype)
        assert state_of(array, False) == ("finite" if array[0] >= tiny else "underflow" if array[0] else "zero")


def test_what_json_has_no_number_for_is_told_in_words_and_of_no_elements_there_is_no_mean():
    x = tg.Tensor([np.inf, -np.inf, 1.0], requires_grad=True, name="x")
    empty = tg.Tensor(np.ones((0, 2)), requires_grad=True, name="empty")
    told = tg.gradient_graph(tg.sum(tg.tanh(x)) + tg.sum(empty)).to_dict()
    values = {node["name"]: node["value"] for node in json.loads(json.dumps(told, allow_nan=False))["nodes"]}
    assert values["x"] == {"norm": "inf", "min": "-inf", "max": "inf", "mean": "nan"}
    assert values["empty"] == {"norm": 0.0, "min": None, "max": None, "mean": None}
    large = tg.Tensor([1e308, 1e308, 1e308], requires_grad=True, name="x")
    (value,) = [n["value"] for n in tg.gradient_graph(tg.sum(large * 1e-300)).to_dict()["nodes"] if n["name"] == "x"]
    assert value == {"norm": pytest.approx(math.sqrt(3) * 1e308), "min": 1e308, "max": 1e308, "mean": "inf"}


# -- Formulas are read off the rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "formulas"),
    [
        (tg.tanh, ["g × (1 − y²)"]),
        (tg.sigmoid, ["g × y × (1 − y)"]),
        (tg.exp, ["g × y"]),
        (tg.relu, ["g where x > 0, else 0"]),
        (tg.abs, ["g where x > 0, else −g where x < 0, else 0"]),
        (tg.softplus, ["g × σ(x)"]),
        (lambda x: x**2, ["g × 2 × a ^ 1", ""]),
        (lambda x: x / np.ones((5, 2, 3)), ["g / b, Σ over (0,)", ""]),
        (lambda x: x @ np.ones((3, 4)), ["g @ bᵀ", ""]),
        (lambda x: x[0], ["g in its place among zeros"]),
        (lambda x: tg.sum(x, axis=1), ["g spread over axis (1,)"]),
        (lambda x: tg.where(np.eye(2, 3) > 0, x, 0.0), ["g where condition, else 0", ""]),
        (lambda x: tg.linear(x, tg.Tensor(np.ones((4, 3))), tg.Tensor(np.ones(4))), ["g @ W", "", ""]),
    ],
)
def test_formulas(f, formulas):
    graph, _ = graph_of(f, np.ones((2, 3)))
    assert [edge.formula for edge in graph.edges[: len(formulas)]] == formulas


def test_a_users_primitive_gets_its_formula_too():
    gauss = tg.primitive("gauss", lambda x: np.exp(-x * x), lambda g, y, x: -2 * g * x * y)
    try:
        graph, _ = graph_of(gauss, [1.0])
        assert graph.edges[0].formula == "−2 × g × x × y"
    finally:
        del tg.OPS["gauss"]


def test_a_rule_that_a_symbol_cannot_follow_has_a_phrase_and_the_right_number():
    odd = tg.primitive("odd", lambda x: x * 2.0, lambda g, y, x: g * np.floor(2.5) if g.sum() > 0 else g)
    try:
        graph, _ = graph_of(odd, [1.0])
        assert graph.edges[0].formula == "rule 0 of odd" and graph.edges[0].norm == 2.0
    finally:
        del tg.OPS["odd"]


# -- Files -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_json_can_be_added_up_again(tmp_path):
    graph, _ = graph_of(lambda x, w: tg.tanh(x @ w) * x, np.eye(2), np.ones((2, 2)))
    graph.to_json(tmp_path / "graph.json", arrays=True)
    read = json.loads((tmp_path / "graph.json").read_text(encoding="utf-8"))
    for node in read["nodes"]:
        sent = [np.array(e["contribution"]) for e in read["edges"] if e["source"] == node["id"]]
        if sent:
            np.testing.assert_allclose(sum(sent), node["gradient_array"], rtol=1e-12)
    graph.to_json(tmp_path / "again.json", arrays=True)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "graph.json").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["again.json", "graph.json"]
    assert "contribution" not in graph.to_dict()["edges"][0]
    broken, _ = graph_of(tg.sqrt, [0.0, 1.0])
    text = broken.to_json(arrays=True)
    assert text == broken.to_json(tmp_path / "broken.json", arrays=True)
    assert json.loads(text) == json.loads((tmp_path / "broken.json").read_text("utf-8")) == broken.to_dict(arrays=True)
    assert '"inf"' in text


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    graph, _ = graph_of(tg.tanh, [1.0])
    path = tmp_path / "graph.json"
    path.write_text("old", encoding="utf-8")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        graph.to_json(path)
    assert path.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [path]


def test_table_reads_in_the_direction_of_the_gradient():
    graph, _ = graph_of(tg.tanh, [0.0])
    assert graph.table().splitlines() == [
        "from  to    operand  gradient  state   formula",
        "tanh  sum   0        1         finite  g spread over axis (0,)",
        "x0    tanh  0        1         finite  g × (1 − y²)",
    ]


def test_the_simplest_picture_has_the_gradient_on_every_edge():
    """`graph.dot` is for whoever writes a picture of their own: as short as it is, its numbers are the engine's."""
    _, h = tg.unroll(tg.RNNCell(2, 3, rng=0), np.ones((2, 1, 2)))
    for graph in (tg.gradient_graph(tg.sum(h)), tg.gradient_graph(tg.sum(h)).collapse("step")):
        rows = [row.strip() for row in digraph(graph).body if "->" in row]
        drawn = [edge for edge in graph.edges if not edge.internal]
        assert len(rows) == len(drawn)
        for row, edge in zip(rows, drawn, strict=True):
            assert row.startswith(f"{edge.source} -> {edge.target} ["), row
            if edge.norm is None:
                assert 'label="" dir=forward' in row
            else:
                assert "dir=back" in row and f"{edge.norm if edge.signed is None else edge.signed:.2g}" in row


@pytest.mark.parametrize(
    ("size", "width"),
    [(1.0, 2.0), (100.0, 3.0), (0.1, 1.5), (1e-200, 0.5), (1e200, 5.0), (0.0, 0.5), (np.inf, 0.5)],
)
def test_a_line_of_the_simplest_picture_is_half_a_point_wider_for_each_decade(size, width):
    graph, _ = graph_of(lambda x: x * size, [1.0])
    assert f"penwidth={width:.1f}" in digraph(graph).source
