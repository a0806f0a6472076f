"""Several loops over the time steps in one graph, and parameters of one name: each is told apart from the other."""

import contextlib
import gc
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.graph.steps import loops_of, rows_of, states, steps_of


def one_after_the_other(steps=(3, 2), cell=tg.LSTMCell, scopes=(None, None)):
    """Two cells unrolled by hand, the second from the state of the first, in scopes of their own or in none."""
    state, found = None, []
    for k, (T, scope) in enumerate(zip(steps, scopes, strict=True)):
        with tg.scope(scope) if scope else contextlib.nullcontext():
            outputs, state = tg.unroll(cell(2, 3, rng=k), np.random.default_rng(k).normal(size=(T, 1, 2)), state)
        found.append(outputs)
    return found


@pytest.mark.parametrize("cell", [tg.RNNCell, tg.LSTMCell, tg.GRUCell])
def test_a_second_loop_in_the_same_scopes_is_another_sequence_of_steps(cell):
    first, second = one_after_the_other((3, 2), cell)
    graph = tg.gradient_graph(tg.sum(second[-1]) + tg.sum(first))
    found = states(graph)
    assert [list(found[name]) for name in ("h", "h run 2")] == [[1, 2, 3], [1, 2]]
    assert found["h run 2"][1].id > found["h"][3].id
    for level in ("gate", "step"):
        seen = graph.collapse(level)
        assert all(e.source < e.target for e in seen.edges if not e.internal), "a group needs what comes after it"
        groups = [n for n in seen.nodes if n.members and n.step]
        assert len([n for n in groups if n.step == "t=1"]) == 2 * len([n for n in groups if n.step == "t=3"])


@pytest.mark.parametrize("steps", [2, 3])
def test_a_loop_over_the_states_of_another_at_equal_steps_is_no_second_sequence(steps):
    cell, total, hs = tg.RNNCell(2, 3, rng=0), 0.0, []
    for t in range(1, steps + 1):
        with tg.scope(f"t={t}"):
            hs.append(cell(np.ones((1, 2)), hs[-1] if hs else cell.initial_state(1)))
    for t, h in enumerate(hs, 1):
        with tg.scope(f"t={t}"):
            total = total + tg.sum(h**2)
    graph = tg.gradient_graph(total)
    assert next(iter(states(graph))) == "h" and not any("run" in name for name in states(graph))
    assert len([n for n in graph.collapse("step").nodes if n.step]) == steps
    assert {loop for loop, _ in loops_of(graph.nodes, graph.edges).values()} == {0}


def test_a_loop_each_of_whose_steps_sees_all_of_another_is_a_later_one():
    seen, h = [], tg.Tensor(np.ones(2), requires_grad=True)
    for t in (1, 2, 3):
        with tg.scope(f"encoder/t={t}"):
            seen.append(tg.tanh(seen[-1] if seen else h))
    for t in (1, 2, 3):
        with tg.scope(f"decoder/t={t}"):
            h = tg.tanh(h + seen[0] + seen[1] + seen[2])
    graph = tg.gradient_graph(tg.sum(h))
    loops = loops_of(graph.nodes, graph.edges)
    found = {node.scope.split("/")[0]: loops[node.id] for node in graph.nodes if node.id in loops}
    assert found == {"encoder": (0, 0), "decoder": (1, 0)}


@pytest.mark.parametrize("steps", [(1, 3), (3, 1), (1, 1), (2, 3)])
def test_a_loop_that_begins_with_the_last_state_of_another_is_a_later_one(steps):
    """Also where that other is one step long, and hands its state to a step of its own number."""
    _, second = one_after_the_other(steps, tg.RNNCell, ("encoder", "decoder"))
    graph = tg.gradient_graph(tg.sum(second[-1]))
    loops = loops_of(graph.nodes, graph.edges)
    for node in graph.nodes:
        if node.id in loops:
            assert loops[node.id] == (("encoder", "decoder").index(node.scope.split("/")[0]), 0)
    assert len(set(loops.values())) == 2


class Two(tg.nn.Module):
    def __init__(self):
        self.encoder, self.decoder, self.head = (
            tg.RNNCell(2, 3, rng=0),
            tg.RNNCell(2, 3, rng=1),
            tg.nn.Linear(3, 1, rng=2),
        )

    def __call__(self, x):
        _, h = tg.unroll(self.encoder, x)
        return tg.sum(self.head(tg.unroll(self.decoder, x, h)[0][-1]))


def test_parameters_carry_their_module_s_name():
    def names(graph):
        return sorted(node.name for node in graph.nodes if node.kind == "parameter")

    model = Two()
    loss = model(np.ones((2, 1, 2)))
    graph = tg.gradient_graph(loss, names=model)
    assert names(graph) == sorted(model.parameters())
    for name, parameter in model.parameters().items():
        assert graph.node_of(parameter).name == name
    assert names(tg.gradient_graph(loss, names={"w": model.head.weight})).count("w") == 1
    assert "decoder.W_hh" in tg.draw(graph, level="op").svg()
    with pytest.raises(TypeError, match=r"names\['w'\] is no Tensor"):
        tg.gradient_graph(loss, names={"w": 1.0})
    with pytest.raises((TypeError, ValueError), match="names"):
        tg.gradient_graph(loss, names=[model.head.weight])


def test_parameters_of_one_name_are_told_apart_by_the_scope_that_uses_them():
    def names(*scopes):
        _, second = one_after_the_other((2, 2), tg.RNNCell, scopes)
        graph = tg.gradient_graph(tg.sum(second[-1]))
        return [node.name for node in graph.nodes if node.name and "weight_hh" in node.name]

    assert names("encoder", "decoder") == ["encoder.weight_hh", "decoder.weight_hh"]
    assert names("net/encoder", "net/decoder") == ["net.encoder.weight_hh", "net.decoder.weight_hh"]
    assert names(None, "decoder") == ["weight_hh", "decoder.weight_hh"]
    assert names(None, None) == ["weight_hh", "weight_hh"]  # nothing tells them apart: names= does
    first, last = (tg.nn.Linear(2, 2, rng=0) for _ in range(2))
    with tg.scope("first"):
        y = first(np.ones((1, 2)))
    with tg.scope("last"):
        graph = tg.gradient_graph(tg.sum(last(y)))
    assert graph.node_of(first.weight).name == "first.weight" and graph.node_of(last.bias).name == "last.bias"
    cell = tg.RNNCell(2, 3, rng=0)
    with tg.scope("encoder"):
        _, h = tg.unroll(cell, np.ones((2, 1, 2)))
    with tg.scope("decoder"):
        shared = tg.gradient_graph(tg.sum(tg.unroll(cell, np.ones((2, 1, 2)), h)[0]))
    assert shared.node_of(cell.weight_hh).name == "weight_hh"  # one array, used in both
    with tg.scope("decoder"):
        other = tg.unroll(tg.RNNCell(2, 3, rng=1), np.ones((2, 1, 2)), h)[0]
        both = tg.gradient_graph(tg.sum(tg.unroll(cell, np.ones((2, 1, 2)), h)[0]) + tg.sum(other))
    assert [n.name for n in both.nodes if n.name and "weight_hh" in n.name] == ["weight_hh"] * 2  # none is alone


@pytest.mark.parametrize("find", [steps_of, rows_of, states])
def test_what_is_found_of_a_graph_is_found_once_and_keeps_no_graph(find):
    graphs = []
    for steps in (2, 3):
        outputs, _ = nn.LSTM(2, 3, 2, rng=0)(np.ones((steps, 1, 2)))
        graphs.append(tg.gradient_graph(tg.sum(outputs)))
    found = [find(graph) for graph in graphs]
    assert found[0] is not found[1] and all(find(graph) is known for graph, known in zip(graphs, found, strict=True))
    alive = weakref.ref(graphs.pop())
    gc.collect()
    assert alive() is None and find(graphs[0]) is found[0]
