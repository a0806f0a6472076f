"""Levels are exact: whatever is put together, the contributions that leave a tensor sum to its gradient, as arrays."""

import json
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.draw import draw
from tinygrad_rnn.graph.collapse import collapse
from tinygrad_rnn.graph.steps import states
from tinygrad_rnn.norms import norm_of
from tinygrad_rnn.testing.strategies import programs

LEVELS = ["op", "gate", "step", 1, 2, 3]
SCOPES = st.lists(st.sampled_from(["t=1", "t=2", "t=3", "a", "b", "a/t=1", "t=2/f", "t=2/f/x", ""]), min_size=12)


def scoped(program, scopes):
    """The program on Tensors, each step of it in a scope of its own choice: groups that even feed each other."""
    values = [tg.Tensor(leaf, requires_grad=True) for leaf in program.leaves]
    for k, step in enumerate(program.steps):
        path = scopes[k % len(scopes)]
        with tg.scope(path) if path else nullcontext():
            values.append(step.apply(values))
    return values[-1]


def unrolled(kind, steps, seed=0):
    rng = np.random.default_rng(seed)
    cell = (tg.LSTMCell if kind == "lstm" else tg.RNNCell)(3, 4, rng=seed)
    outputs, _ = tg.unroll(cell, rng.normal(size=(steps, 2, 3)))
    return tg.gradient_graph(tg.mse_loss(outputs, rng.normal(size=outputs.shape)))


def assert_exact(graph, seen):
    """Every tensor's contributions in `seen` sum to its gradient, and nothing but sums of the graph's is in there."""
    edges = {}
    for edge in seen.edges:
        tensor = edge.tensor or seen.nodes[edge.source]
        edges.setdefault(tensor.id, []).append(edge)
    for node in graph.nodes:
        if node.gradient is None or node.kind == "loss":
            continue
        scale = sum(np.abs(e.contribution).max(initial=0.0) for e in edges[node.id])
        np.testing.assert_allclose(
            sum(e.contribution for e in edges[node.id]), node.gradient, rtol=1e-12, atol=1e-12 * scale
        )


def assert_edges_are_sums(graph, seen):
    """An edge is (tensor, consuming group): its contribution the sum, its norm that of the sum."""
    home = {m.id: n.id for n in seen.nodes for m in n.members}
    alone = iter([n for n in graph.nodes if n.id not in home])
    for node in seen.nodes:
        if not node.members:
            home[next(alone).id] = node.id
    grouped = {n.id for n in seen.nodes if n.members}
    expected = {}
    for edge in graph.edges:
        target = home[edge.target]
        key = (edge.source, target, 0 if target in grouped else edge.operand)
        expected.setdefault(key, []).append(edge.contribution)
    found = {}
    for edge in seen.edges:
        key = (edge.tensor.id, edge.target, 0 if edge.target in grouped else edge.operand)
        assert key not in found
        found[key] = edge
        assert edge.source == home[edge.tensor.id] and edge.internal == (edge.source == edge.target)
    assert found.keys() == expected.keys()
    for key, parts in expected.items():
        if parts[0] is None:
            assert found[key].contribution is None and found[key].norm is None
            continue
        scale = sum(np.abs(part).max(initial=0.0) for part in parts)
        np.testing.assert_allclose(found[key].contribution, sum(parts), rtol=1e-12, atol=1e-12 * scale)
        for norm in ("l2", "rms", "max"):
            np.testing.assert_allclose(found[key].size(norm), norm_of(found[key].contribution, norm), rtol=1e-13)


@given(programs(most=12), SCOPES, st.sampled_from(LEVELS))
def test_every_level_of_a_random_program_is_exact(program, scopes, level):
    result = scoped(program, scopes)
    if not result.requires_grad:
        return
    graph = tg.gradient_graph(result, np.ones(result.shape))
    seen = collapse(graph, level)
    assert [node.id for node in seen.nodes] == list(range(len(seen.nodes)))
    assert seen.nodes[-1].kind == "loss"
    assert_exact(graph, seen)
    if level != "op":
        assert_edges_are_sums(graph, seen)
        # A picture of any level can be collapsed again, from where it came.
        assert [e.norm for e in seen.collapse("gate").edges] == [e.norm for e in graph.collapse("gate").edges]


@settings(max_examples=8)
@given(programs(most=8), SCOPES, st.sampled_from(LEVELS))
def test_every_level_of_a_random_program_can_be_drawn(program, scopes, level):
    result = scoped(program, scopes)
    if result.requires_grad:
        assert draw(tg.gradient_graph(result, np.ones(result.shape)), level=level).svg().rstrip().endswith("</svg>")


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_of_a_cell_is_exact(kind, level):
    graph = unrolled(kind, 4)
    seen = collapse(graph, level)
    assert_exact(graph, seen)
    if seen is not graph:
        assert_edges_are_sums(graph, seen)


def test_h_and_c_stay_two_edges():
    graph = unrolled("lstm", 3)
    for level in ("gate", "step", 1):
        between = [
            e.tensor.name
            for e in graph.collapse(level).edges
            if e.tensor.step == "t=1" and graph.collapse(level).nodes[e.target].step == "t=2"
        ]
        assert sorted(set(between)) == ["c", "h"] and len(between) == 2


def test_collapse_sums_arrays_not_norms():
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name="x")
    with tg.scope("t=1"):
        h, c = x * 3.0, x * 2.0
        h.name, c.name = "h", "c"
    with tg.scope("t=2"):
        y = (h - 0.75 * h) + c
    graph = tg.gradient_graph(tg.sum(y)).collapse("step")
    between = {e.tensor.name: e for e in graph.edges if graph.nodes[e.source].step == "t=1" and not e.internal}
    assert sorted(between) == ["c", "h"]
    np.testing.assert_allclose(between["h"].contribution, [0.25, 0.25])  # 1 − 0.75, where the norms add up to more


def test_step_is_found_below_other_scopes():
    with tg.scope("encoder"):
        outputs, _ = tg.unroll(tg.LSTMCell(2, 3, rng=0), np.ones((3, 1, 2)))
    graph = tg.gradient_graph(tg.sum(outputs))
    assert [n.scope for n in graph.collapse("step").nodes if n.members] == [
        *(f"encoder/t={t}" for t in (1, 2, 3)),
        "encoder",
    ]
    assert "encoder/t=2/forget" in {n.scope for n in graph.collapse("gate").nodes if n.members}
    assert [n.scope for n in graph.collapse(1).nodes if n.members] == ["encoder"]


def test_json_of_every_level_can_be_added_up_again(tmp_path):
    graph = unrolled("lstm", 3)
    for level in LEVELS:
        graph.collapse(level).to_json(tmp_path / "a.json", arrays=True)
        read = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
        tensors = read.get("tensors", read["nodes"])
        key = "tensor" if "tensors" in read else "source"
        checked = 0
        for tensor in tensors:
            sent = [
                np.array(e["contribution"]) for e in read["edges"] if e[key] == tensor["id"] and e["norm"] is not None
            ]
            if sent and "gradient_array" in tensor:
                np.testing.assert_allclose(sum(sent), tensor["gradient_array"], rtol=1e-12, atol=1e-15)
                checked += 1
        assert checked == len([n for n in graph.nodes if n.gradient is not None and n.kind != "loss"])


def test_collapse_is_pure():
    graph = unrolled("rnn", 3)
    before = json.dumps(graph.to_dict(arrays=True))
    graph.collapse("step")
    assert json.dumps(graph.to_dict(arrays=True)) == before
    assert graph.collapse("op") is graph and graph.collapse("step").origin is graph
    for wrong in ("layer", 0, -1, True, 1.5, None):
        with pytest.raises(ValueError, match="level"):
            graph.collapse(wrong)


def test_states_are_found_by_use_not_by_name():
    assert list(states(unrolled("lstm", 3))) == ["h", "c"] and list(states(unrolled("rnn", 3))) == ["h"]
    state = tg.Tensor(np.ones(2), requires_grad=True)
    for t in (1, 2, 3):
        with tg.scope(f"t={t}"):
            state = tg.tanh(state * 0.5)
    found = states(tg.gradient_graph(tg.sum(state)))
    assert list(found) == ["tanh#2"] and list(found["tanh#2"]) == [1, 2, 3]


# --- golden files ----------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "golden"


def assert_alike(found, expected, where="$"):
    """Equal, numbers to rounding: the last bits belong to the machine's BLAS."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            assert_alike(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for k, pair in enumerate(zip(found, expected, strict=True)):
            assert_alike(*pair, f"{where}[{k}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-15), where
    else:
        assert found == expected, where


@pytest.mark.golden
@pytest.mark.parametrize(("kind", "level"), [("rnn", "op"), ("lstm", "gate"), ("lstm", "step")])
def test_golden_json(kind, level):
    path = GOLDEN / f"{kind}_{level}.json"
    graph = unrolled(kind, 2).collapse(level)
    if os.environ.get("TINYGRAD_RNN_REGENERATE"):
        graph.to_json(path, arrays=True)
    expected = json.loads(path.read_text(encoding="utf-8"))
    assert_alike(graph.to_dict(arrays=True), expected)  # set TINYGRAD_RNN_REGENERATE=1 if the new graph is right
