"""A graph read back: every number of its table and its JSON, at every level; what a group is, is called and holds."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.graph.collapse import collapse, total
from tinygrad_rnn.graph.contributions import Whole
from tinygrad_rnn.graph.parts import Edge
from tinygrad_rnn.graph.steps import layer_of, rows_of, states, step_number, steps_of
from tinygrad_rnn.norms import norm_of

LEVELS = ["op", "gate", "step", 1, 2]


def unrolled(make=tg.LSTMCell, steps=3, all_steps=True):
    cell = make(2, 3, rng=0)
    outputs, _ = tg.unroll(cell, np.random.default_rng(0).normal(size=(steps, 2, 2)))
    W = tg.Tensor(np.ones((3, 1)), requires_grad=True, name="W_head")
    y = (outputs if all_steps else outputs[-1]) @ W
    return tg.gradient_graph(tg.mean(y * y))


def statistics(array):
    return {"norm": norm_of(array), "min": array.min(), "max": array.max(), "mean": array.mean()}


@pytest.mark.parametrize("arrays", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_every_number_of_the_json_is_that_of_the_graph(level, arrays, tmp_path):
    graph = unrolled().collapse(level)
    graph.to_json(tmp_path / "a.json", arrays=arrays)
    read = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert read == json.loads(json.dumps(graph.to_dict(arrays))) and read["format"] == "tinygrad_rnn.GradientGraph/1"
    graph.to_json(tmp_path / "b.json")
    assert graph.to_dict() == graph.to_dict(False) == json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match=r"^arrays=2: give True or False$"):
        graph.to_dict(arrays=2)
    assert isinstance(graph.nodes, tuple) and isinstance(graph.edges, tuple)
    assert "origin" not in repr(graph) and "by_tensor" not in repr(graph)
    tensors = {e.tensor.id: e.tensor for e in graph.edges if e.tensor is not None}
    assert [n["id"] for n in read["nodes"]] == list(range(len(graph.nodes)))
    assert ("tensors" in read) is (level != "op") is bool(tensors)
    assert [n["id"] for n in read.get("tensors", [])] == sorted(tensors)
    pairs = [*zip(read["nodes"], graph.nodes, strict=True), *((n, tensors[n["id"]]) for n in read.get("tensors", []))]
    for told, node in pairs:
        plain = {key: told[key] for key in ("id", "kind", "name", "op", "scope", "dtype")}
        assert plain == {key: getattr(node, key) for key in plain} and told["shape"] == list(node.shape)
        assert told["value"] == pytest.approx(statistics(node.value))
        if node.gradient is None:
            assert told["gradient"] is None
        else:
            assert told["gradient"] == pytest.approx(statistics(node.gradient))
        assert ("gradient_array" in told) is (arrays and node.gradient is not None)
        if "gradient_array" in told:
            np.testing.assert_array_equal(told["gradient_array"], node.gradient)
    for told, edge in zip(read["edges"], graph.edges, strict=True):
        plain = {key: told[key] for key in ("source", "target", "operand", "state", "formula", "norm")}
        assert plain == {key: getattr(edge, key) for key in plain}
        assert ("contribution" in told) is (arrays and edge.contribution is not None)
        if "contribution" in told:
            np.testing.assert_array_equal(told["contribution"], edge.contribution)
        if level == "op":
            assert "tensor" not in told and "internal" not in told
        else:
            assert (told["tensor"], told["internal"]) == (edge.tensor.id, edge.source == edge.target)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_json_of_what_is_no_number_or_empty():
    x = tg.Tensor([0.0, 1.0], requires_grad=True)
    data = tg.gradient_graph(tg.sum(tg.sqrt(x)) + tg.sum(tg.sqrt(tg.Tensor(np.zeros((0, 2)), requires_grad=True))))
    read = json.loads(json.dumps(data.to_dict(arrays=True), allow_nan=False))
    node = read["nodes"][0]
    assert (
        node["gradient_array"] == ["inf", 0.5] and node["gradient"]["max"] == "inf" and node["gradient"]["min"] == 0.5
    )
    (empty,) = [n for n in read["nodes"] if n["shape"] == [0, 2] and n["kind"] == "parameter"]
    assert empty["value"] == {"norm": 0.0, "min": None, "max": None, "mean": None} and empty["gradient_array"] == []


@pytest.mark.parametrize("level", LEVELS)
def test_the_table_has_a_row_for_each_edge_newest_first(level):
    graph = unrolled(tg.RNNCell, 2).collapse(level)
    head, *rows = graph.table().splitlines()
    starts = [head.index(word) for word in ("from", "to", "operand", "gradient", "state", "formula")]
    assert starts[0] == 0 and all(row == row.rstrip() for row in rows)
    read = [[row[a:b].rstrip() for a, b in itertools.pairwise([*starts, None])] for row in rows]
    assert read == [
        [
            graph.nodes[edge.source].label,
            graph.nodes[edge.target].label,
            str(edge.operand),
            "" if edge.norm is None else f"{edge.norm:.3g}",
            edge.state,
            edge.formula,
        ]
        for edge in reversed(graph.edges)
    ]
    widest = [
        max(len(row[k]) for row in [["from", "to", "operand", "gradient", "state"], *(r[:5] for r in read)])
        for k in range(5)
    ]
    assert np.diff(starts).tolist() == [width + 2 for width in widest]  # as wide as it must be, and two spaces


# --- nodes and edges ---


def test_operands_without_a_tensor_have_nodes_of_their_own():
    x = tg.Tensor(np.ones(2), requires_grad=True, name="x")
    y = tg.where(np.array([True, False]), x * 2.0 * np.array([3.0, 4.0]), 5.0) + tg.Tensor([1.0, 1.0], name="b")
    z = tg.Tensor(np.float32(2.0)) * y.detach()
    graph = tg.gradient_graph(tg.sum(y * z))
    told = [(n.kind, n.name, n.op, n.shape, n.value.tolist()) for n in graph.nodes]
    assert told == [
        ("parameter", "x", None, (2,), [1.0, 1.0]),
        ("constant", None, None, (), 2.0),
        ("op", None, "multiply", (2,), [2.0, 2.0]),
        ("constant", None, None, (2,), [3.0, 4.0]),
        ("op", None, "multiply", (2,), [6.0, 8.0]),
        ("constant", None, None, (), 5.0),
        ("op", None, "where", (2,), [6.0, 5.0]),
        ("input", "b", None, (2,), [1.0, 1.0]),
        ("op", None, "add", (2,), [7.0, 6.0]),
        ("constant", None, None, (2,), [14.0, 12.0]),
        ("op", None, "multiply", (2,), [98.0, 72.0]),
        ("loss", None, "sum", (), 170.0),
    ]
    assert [(e.source, e.target, e.operand) for e in graph.edges] == [
        (0, 2, 0), (1, 2, 1), (2, 4, 0), (3, 4, 1), (4, 6, 0), (5, 6, 1),
        (6, 8, 0), (7, 8, 1), (8, 10, 0), (9, 10, 1), (10, 11, 0),
    ]  # fmt: skip
    assert all((e.norm is None) is (e.contribution is None) is (e.state == "none") for e in graph.edges)
    assert all(bool(e.formula) is (e.contribution is not None) for e in graph.edges)
    assert [n.label for n in graph.nodes[:3]] == ["x", "constant", "multiply"]
    assert not graph.nodes[0].value.flags.writeable and not graph.nodes[1].value.flags.writeable
    assert [list(graph.edges_from(n)) for n in graph.nodes[:1]] == [[graph.edges[0]]]
    assert graph.origin is None and all(n.members == () and n.step is None for n in graph.nodes)


def test_what_underflowed_once_is_an_underflow_further_back():
    """A zero further back is one only because of what was lost on the way, on that way alone."""
    x, y = (tg.Tensor(np.ones(2), requires_grad=True, name=name) for name in "xy")
    small = x * 1e-200 * 1e-120 * 1e-200
    graph = tg.gradient_graph(tg.sum(small) + tg.sum(y * 0.0) + tg.sum(y * 0.5))
    state = {(graph.nodes[e.source].label, k): e.state for k, e in enumerate(graph.edges) if e.contribution is not None}
    assert [s for (label, _), s in state.items() if label == "x"] == ["underflow"]
    assert [s for (label, _), s in state.items() if label == "y"] == ["zero", "finite"]
    assert [s for (label, _), s in state.items() if label == "multiply"].count("underflow") == 1
    tiny = np.finfo(float).tiny
    for value, expected in ((tiny, "finite"), (tiny / 2, "underflow"), (0.0, "zero"), (-tiny, "finite")):
        one = tg.Tensor(1.0, requires_grad=True)
        assert tg.gradient_graph(one * 1.0, np.array(value)).edges[0].state == expected
    one = tg.Tensor(np.ones(2), requires_grad=True)
    mixed = tg.gradient_graph(one * np.array([0.0, 1.0]), np.array([1.0, tiny / 2]))
    assert mixed.edges[0].state == "underflow"
    assert tg.gradient_graph((one * 0.0) * 1.0, np.array([tiny / 2, 0.0])).edges[0].state == "underflow"
    assert tg.gradient_graph((one * 0.0) * 1.0, np.array([tiny, 0.0])).edges[0].state == "zero"


# --- levels ---


def test_groups_have_the_name_value_and_gradient_of_what_leaves_them():
    graph = unrolled()
    seen = graph.collapse("step")
    found = {node.scope: node for node in seen.nodes if node.members}
    assert list(found) == ["t=1", "t=2", "t=3", ""]
    for t in (1, 2, 3):
        node = found[f"t={t}"]
        (h,) = [n for n in graph.nodes if n.name == "h" and n.step == f"t={t}"]
        assert (node.kind, node.op, node.symbol, node.shape) == ("op", h.op, h.symbol, h.shape)
        assert node.name == "c, h" and node.step == f"t={t}"
        np.testing.assert_array_equal(node.value, h.value)
        np.testing.assert_array_equal(node.gradient, h.gradient)
        assert list(node.members) == [n for n in graph.nodes if n.step == f"t={t}"]
    loss = found[""]
    assert (loss.kind, loss.id, loss.value) == ("loss", len(seen.nodes) - 1, graph.nodes[-1].value)
    assert all(n.scope == "" for n in loss.members) and {"stack", "matmul"} <= {n.op for n in loss.members}
    alone = {n.name for n in seen.nodes if not n.members}
    assert alone == {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "h0", "c0", "W_head"}
    for serial, node in graph.by_tensor.items():
        home = seen.by_tensor[serial]
        assert node in home.members or (not home.members and home.name == node.name and home.op == node.op)
    assert seen.origin is graph and seen.collapse("gate").origin is graph


def test_an_input_called_like_a_state_changes_no_name_of_a_step():
    cell, state = tg.LSTMCell(2, 3, rng=0), None
    for t in (1, 2, 3):
        with tg.scope(f"t={t}"):
            state = state or tuple(tg.Tensor(np.zeros((1, 3)), name=name) for name in "hc")
            state = cell(np.ones((1, 2)), state)
    seen = tg.gradient_graph(tg.sum(state[0])).collapse("step")
    assert [node.name for node in seen.nodes if node.members] == ["c, h"] * 3


def test_the_weight_of_a_head_stands_beside_the_loss():
    """Whoever has a gradient of his own is no part of what follows the last step."""
    for level in ("gate", "step"):
        seen = unrolled(all_steps=False).collapse(level)
        (head,) = [n for n in seen.nodes if n.name == "W_head"]
        assert head.kind == "parameter" and not head.members and head.gradient is not None
        (edge,) = seen.edges_from(head)
        assert seen.nodes[edge.target].kind == "loss" and not edge.internal and edge.norm > 0
        assert norm_of(head.gradient) == edge.norm


def test_a_loss_alone_is_no_group():
    with tg.scope("t=1"):
        x = tg.Tensor(np.ones(2), requires_grad=True, name="x")
        y = tg.tanh(x)
    graph = tg.gradient_graph(tg.sum(y))
    seen = graph.collapse("step")
    assert [(n.kind, n.scope, len(n.members)) for n in seen.nodes] == [("op", "t=1", 2), ("loss", "", 0)]
    assert [(e.source, e.target, e.operand, e.internal) for e in seen.edges] == [(0, 0, 0, True), (0, 1, 0, False)]
    assert [e.formula for e in seen.edges] == [e.formula for e in graph.edges]
    one = graph.collapse(1)
    assert [(n.kind, n.scope, len(n.members)) for n in one.nodes] == [("op", "t=1", 2), ("loss", "", 0)]
    assert len(graph.collapse(2).nodes) == 3 and all(not n.members for n in graph.collapse(2).nodes)


def test_uses_of_one_tensor_by_one_group_are_one_edge():
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name="x")
    with tg.scope("a"):
        y = x * x + tg.exp(x) * 2.0
    seen = tg.gradient_graph(tg.sum(y)).collapse(1)
    edges = list(seen.edges_from(seen.node_of(x)))
    assert [e.formula for e in edges] == ["sum over 3 uses"] and edges[0].operand == 0
    np.testing.assert_allclose(edges[0].contribution, 2 * x.data + 2 * np.exp(x.data))
    operands = [e.operand for e in seen.edges if e.target == edges[0].target]
    assert operands == list(range(len(operands)))  # numbered through, in the order of what consumes them


def edge(contribution, state="finite"):
    return Edge(0, 1, 0, None if contribution is None else Whole(contribution), state, "g")


def test_what_several_uses_come_to_and_mean():
    a, b = np.array([1.0, -2.0], np.float32), np.array([-1.0, 2.0], np.float32)
    none = edge(None, "none")
    assert total([none, none]) == (None, "none")
    one = edge(a, "underflow")
    assert total([one]) == (one.carried, "underflow")  # one use is as it was
    for parts, sum_of, state in (
        ([edge(a), edge(a), none], 2 * a, "finite"),
        ([edge(a), edge(b)], 0 * a, "zero"),
        ([edge(a), edge(b, "underflow")], 0 * a, "underflow"),
        ([edge(a), edge(np.array([np.inf, 0.0], np.float32), "inf")], [np.inf, -2.0], "inf"),
        ([edge(np.full(2, s * np.inf, np.float32), "inf") for s in (1, -1)], [np.nan, np.nan], "nan"),
        ([edge(np.full(2, 3e38, np.float32))] * 2, [np.inf, np.inf], "inf"),
    ):
        carried, found = total(parts)
        array = carried.array()
        np.testing.assert_array_equal(array, sum_of)
        assert (array.dtype, found) == (np.float32, state)


def test_a_group_that_holds_the_loss_is_the_loss():
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name="x")
    with tg.scope("a"):
        h = tg.exp(x)
    with tg.scope("b"):
        k = tg.sin(h)
    with tg.scope("a"):
        loss = tg.sum(h * k)
    seen = tg.gradient_graph(loss).collapse(1)
    assert [(n.kind, n.scope) for n in seen.nodes] == [("parameter", ""), ("op", "b"), ("loss", "a")]
    assert (seen.nodes[-1].op, seen.nodes[-1].value) == ("sum", loss.data) and seen.nodes[-1].gradient == 1.0


@pytest.mark.parametrize("level", ["op", "gate", "step"])
def test_what_stands_beside_the_layers_of_a_stack_is_a_group_of_its_own(level):
    net = nn.LSTM(2, 3, 2, rng=0)
    outputs, _ = net(np.ones((4, 1, 2)))
    with tg.scope("head"):
        y = tg.tanh(outputs[-1] * 2.0)
    graph = tg.gradient_graph(tg.sum(y))
    seen = collapse(graph, level)
    heads = [n for n in seen.nodes if n.scope == "head"]
    assert len(heads) == (1 if level == "step" else 3)
    assert sum(len(n.members) or 1 for n in seen.nodes) == len(graph.nodes)


@pytest.mark.parametrize("layers", [2, 3])
def test_every_layer_of_a_stack_has_its_own_gates_at_every_step(layers):
    outputs, _ = nn.LSTM(2, 3, layers, rng=0)(np.ones((2, 1, 2)))
    seen = tg.gradient_graph(tg.sum(outputs[-1])).collapse("gate")
    places = [tuple(n.scope.split("/")) for n in seen.nodes if n.members and n.step]
    gates = {"input": "i", "forget": "f", "candidate": "g", "output": "o"}
    assert sorted(places) == sorted(
        (f"layer {k}", f"t={t}", gate) for k in range(layers) for t in (1, 2) for gate in gates
    )
    assert all(n.name == gates[n.scope.split("/")[2]] for n in seen.nodes if n.members and n.step)


def test_what_was_not_kept_is_nothing_in_json():
    graph = tg.gradient_graph(tg.sum(tg.Tensor([1.0, 2.0], requires_grad=True)))
    leaf, loss = graph.nodes
    forgotten = replace(graph, nodes=(replace(leaf, value=None, gradient=None), loss))
    for arrays in (False, True):
        told = json.loads(forgotten.to_json(arrays=arrays))["nodes"]
        assert told[0]["value"] is None and told[0]["gradient"] is None and "gradient_array" not in told[0]
        assert told[1] == graph.to_dict(arrays)["nodes"][1]


# --- time ---


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("t=3", 3),
        ("t=0", 0),
        ("t=007", 7),
        ("t=4..47", None),
        ("t=", None),
        ("t=x", None),
        ("t=-1", None),
        ("t=1.5", None),
        ("t=²", None),
        ("t=٣", None),
        ("t=" + "9" * 18, 10**18 - 1),
        ("t=" + "9" * 19, None),
    ],
)
def test_numbers_of_steps(text, number):
    assert step_number(text) == number
    with tg.scope(text):
        y = tg.exp(tg.Tensor(1.0, requires_grad=True))
    assert steps_of(tg.gradient_graph(y)) == (() if number is None else (number,))


def scoped(path, f, *operands, name=None):
    with tg.scope(path):
        y = f(*operands)
    y.name = name
    return y


def test_one_step_without_a_number_leaves_none():
    x = tg.Tensor(1.0, requires_grad=True)
    y = scoped("t=2", tg.exp, scoped("t=1", tg.exp, x))
    assert steps_of(tg.gradient_graph(y)) == (1, 2)
    y = scoped("t=end", tg.exp, y)
    assert steps_of(tg.gradient_graph(y)) == () and states(tg.gradient_graph(y)) == {}


def test_the_outermost_scope_beside_the_step_is_the_layer():
    with tg.scope("t=3/layer 0/forget"):
        y = tg.exp(tg.Tensor(1.0, requires_grad=True))
    assert layer_of(tg.gradient_graph(y).nodes[-1]) == "layer 0"
    assert layer_of(tg.gradient_graph(scoped("t=3", tg.exp, y)).nodes[-1]) == ""
    assert layer_of(tg.gradient_graph(scoped("decoder/t=3/x", tg.exp, y)).nodes[-1]) == "decoder"


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_rows_and_states_of_a_stack(kind, both, layers):
    net = kind(2, 3, layers, bidirectional=both, rng=0)
    outputs, _ = net(np.random.default_rng(0).normal(size=(4, 2, 2)))
    graph = tg.gradient_graph(tg.mean(outputs * outputs))
    rows, names = rows_of(graph), [f"layer {k}{' reverse' * r}" for k in range(layers) for r in range(1 + both)]
    state = ["h", "c"] if kind is nn.LSTM else ["h"]
    if layers == 1 and not both:
        assert rows is None and list(states(graph)) == state
        return
    assert [name for name in rows.names if name] == names
    assert rows.backwards == tuple("reverse" in name for name in rows.names)
    between = ["" for k in range(len(rows.names)) if not rows.names[k]]
    assert len(between) == (layers if both else 0)  # where both directions are joined
    for node in graph.nodes:
        if node.step and layer_of(node):
            assert rows.names[rows.of[node.id]] == layer_of(node)
        elif node.step and node.op is None:  # inputs lie with the first that uses them
            users = [rows.of[e.target] for e in graph.edges_from(node) if e.target in rows.of]
            assert rows.of[node.id] == min(users)
        else:
            assert (node.id in rows.of) is bool(node.step)
    found = states(graph)
    assert list(found) == [f"{s} {name}" for name in names for s in state]
    for name, lane in found.items():
        assert list(lane) == ([4, 3, 2, 1] if "reverse" in name else [1, 2, 3, 4])
        for t, node in lane.items():
            assert (node.name, node.step) == (name[0], f"t={t}") and layer_of(node) == name[2:]
    assert list(states(graph.collapse("step"))) == list(found)


def layered(links, steps=(0, 1, 2)):
    """Layers a and b over some steps: links are (from, to, steps later) between their tensors."""
    x = tg.Tensor(np.ones(2), requires_grad=True)
    made = {}
    for t in steps:
        for layer in "ab":
            with tg.scope(f"t={t}/{layer}"):
                y = tg.tanh(x)
                for source, target, later in links:
                    if target == layer and (source, t - later) in made:
                        y = y * made[source, t - later]
                y.name = layer
                made[layer, t] = y
    return tg.gradient_graph(sum(tg.sum(made[layer, steps[-1]]) for layer in "ab"))


def test_layers_are_those_that_hand_their_states_on_to_themselves_alone():
    own = [("a", "a", 1), ("b", "b", 1)]
    for steps in ((0, 1, 2), (1, 2, 3), (0, 1)):
        rows = rows_of(layered([*own, ("a", "b", 0)], steps))
        assert rows.names == ("a", "b") and rows.backwards == (False, False)
        assert {k: list(v) for k, v in states(layered([*own, ("a", "b", 0)], steps)).items()} == {
            "a a": list(steps),
            "b b": list(steps),
        }
    assert rows_of(layered([*own, ("a", "b", 1)])) is None  # b is given a's state of the step before
    assert rows_of(layered([("a", "a", 1), ("a", "b", 0)])) is None  # one layer alone has a state

    x = tg.Tensor(np.ones(2), requires_grad=True)
    there, back = scoped("t=1/a", tg.exp, x), scoped("t=2/b", tg.exp, x)
    for t, path, source in ((2, "a", there), (1, "b", back)):
        y = scoped(f"t={t}/{path}", tg.sin, source)
        there, back = (y, back) if path == "a" else (there, y)
    rows = rows_of(tg.gradient_graph(tg.sum(there + back)))
    assert dict(zip(rows.names, rows.backwards, strict=True)) == {"a": False, "b": True}
    turned = scoped("t=1/a", tg.sin, there)  # a runs there and back again
    assert rows_of(tg.gradient_graph(tg.sum(turned + back))) is None

    a1 = scoped("t=1/a", tg.exp, x)
    b1 = scoped("t=1/b", tg.exp, a1)
    a1 = scoped("t=1/a", lambda p, q: p * q, a1, b1)  # each needs the other: neither lies below
    a2, b2 = scoped("t=2/a", tg.sin, a1), scoped("t=2/b", tg.sin, b1)
    assert rows_of(tg.gradient_graph(tg.sum(a2 * b2))) is None


def test_a_leaf_is_no_state():
    h, total = tg.Tensor(np.ones(2), requires_grad=True), 0.0
    for t in (1, 2, 3):
        with tg.scope(f"t={t}"):
            x = tg.Tensor(np.ones(2), name="x")
            if t == 1:
                w = tg.Tensor(np.ones(2), requires_grad=True, name="w")
            h = tg.tanh(x * h * w)
    assert {name: list(lane) for name, lane in states(tg.gradient_graph(tg.sum(h + total))).items()} == {
        "tanh#3": [1, 2, 3]
    }


def test_several_sequences_of_steps_are_told_apart_by_what_is_around_them():
    encoder, decoder = tg.GRUCell(2, 3, rng=0), tg.GRUCell(2, 3, rng=1)
    with tg.scope("encoder"):
        _, h = tg.unroll(encoder, np.ones((3, 1, 2)))
    with tg.scope("decoder"):
        outputs, _ = tg.unroll(decoder, np.ones((2, 1, 2)), h)
    found = states(tg.gradient_graph(tg.sum(outputs)))
    assert {name: list(lane) for name, lane in found.items()} == {"h encoder": [1, 2, 3], "h decoder": [1, 2]}
    with tg.scope("net"), tg.scope("decoder"):
        outputs, _ = tg.unroll(decoder, np.ones((2, 1, 2)), h)
    assert list(states(tg.gradient_graph(tg.sum(outputs)))) == ["h encoder", "h net/decoder"]


def test_states_without_names_are_called_after_their_place():
    x = tg.Tensor(np.ones(2), requires_grad=True)
    a, b = x, x
    for t in (1, 2, 3):
        with tg.scope(f"t={t}"):
            a = tg.tanh(a * 0.5)
            b = tg.sin(b + a)
            b.name = "h"
    found = states(tg.gradient_graph(tg.sum(a + b)))
    assert {name: list(lane) for name, lane in found.items()} == {"h": [1, 2, 3], "tanh#2": [1, 2, 3]}
    assert all(math.isfinite(norm_of(node.gradient)) for lane in found.values() for node in lane.values())


def test_a_jump_over_a_step_is_no_state():
    x = tg.Tensor(np.ones(2), requires_grad=True)
    first = scoped("t=1", tg.exp, x, name="early")
    second = scoped("t=2", tg.sin, x, name="h")
    third = scoped("t=3", lambda a, b: a * b, first, second, name="h")
    assert {name: list(lane) for name, lane in states(tg.gradient_graph(tg.sum(third))).items()} == {"h": [2, 3]}
