"""The gradient on every edge of a PyTorch model: sums are PyTorch's gradients, steps are our own engine's."""

import copy
import dataclasses
import gc
import json
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_models import MODELS, B, H, I, Of, T, language_model, next_token
from torch_oracle import torch

import tinygrad_rnn as tg
from tinygrad_rnn import nn as ours
from tinygrad_rnn.graph.steps import states
from tinygrad_rnn.torch import build, gradient_graph, record, unroll
from tinygrad_rnn.torch.unrolled import tensors_of

nn = torch.nn
TOLERANCE = {torch.float64: 1e-13, torch.float32: 5e-6, torch.float16: 2e-2, torch.bfloat16: 6e-2}


def recorded(name, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    model, x, loss_of = MODELS[name](dtype)
    with record(model, names={"x": x}) as run:
        loss = loss_of(model, x)
    return run, loss, model, x


def assert_sums(graph, tolerance):
    """At each node the contributions of the edges that leave it sum to its gradient."""
    total = {}
    for edge in graph.edges:
        if edge.contribution is not None:
            total[edge.source] = total.get(edge.source, 0.0) + np.asarray(edge.contribution, float)
    for node in graph.nodes:
        if node.gradient is not None and node.kind != "loss":
            want = np.asarray(node.gradient, float)
            off = np.abs(total[node.id] - want).max(initial=0.0)
            assert off <= tolerance * np.abs(want).max(initial=1e-300), (node.label, off)


@pytest.mark.parametrize("name", MODELS)
def test_contributions_sum_to_the_gradients_of_pytorch(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch says of some of these models
        run, loss, model, _ = recorded(name)
        graph = run.graph(loss)
        assert all(p.grad is None for p in model.parameters())
        again = run.graph(loss)
        loss.backward()
    tolerance = TOLERANCE[torch.float64]
    assert run.residual <= tolerance and run.unrolled <= 1e-12
    assert_sums(graph, tolerance)
    assert [n.id for n in graph.nodes] == list(range(len(graph.nodes))) and graph.nodes[-1].kind == "loss"
    assert all(edge.source < edge.target for edge in graph.edges)
    assert [e.norm for e in graph.edges] == [e.norm for e in again.edges]
    for parameter in {id(p): p for p in model.parameters() if p.requires_grad}.values():
        if parameter.grad is None:
            continue
        node = graph.node_of(parameter)
        grad = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
        if node.gradient is None:
            assert not grad.any()
            continue
        assert node.name, "a parameter has the name that it has in the model"
        np.testing.assert_allclose(
            node.gradient, grad.numpy(), rtol=tolerance, atol=tolerance * float(grad.abs().max())
        )


@pytest.mark.parametrize("name", MODELS)
def test_values_are_those_of_the_forward_pass_or_honestly_unknown(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run, loss, *_ = recorded(name)
        graph = run.graph(loss)
    for node in graph.nodes:
        if node.value is not None:
            assert node.value.shape == node.shape
    unknown = [node.label for node in graph.nodes if node.value is None]
    assert all(node.value is not None for node in graph.nodes if node.kind in ("op", "loss", "parameter")), unknown
    assert len(unknown) <= 4
    json.loads(graph.to_json())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["mlp", "lstm", "gru_deep_both", "layer_norm", "language_model", "used_twice"])
def test_narrow_numbers(name, dtype):
    run, loss, *_ = recorded(name, dtype)
    assert_sums(run.graph(loss), TOLERANCE[dtype])
    assert "hook" not in {node.op for node in run.graph(loss).nodes}
    assert run.residual <= TOLERANCE[dtype]


@pytest.mark.parametrize("kind", [nn.Linear, nn.RNN, nn.LSTM, nn.GRU])
def test_autocast(kind):
    torch.manual_seed(0)
    net = kind(I, 16)
    with torch.autocast("cpu", torch.bfloat16), record(net) as run:
        loss = tensors_of(net(torch.randn(5, 2, I)))[0].float().tanh().square().mean()
    assert_sums(run.graph(loss), TOLERANCE[torch.bfloat16])


# --- unrolled as the kernel ---


@given(data=st.data())
def test_unrolled_is_fused(data):
    kind = data.draw(st.sampled_from(["RNN", "relu", "LSTM", "GRU"]))
    draw_flag = lambda: data.draw(st.booleans())  # noqa: E731
    layers, both, first, bias, start = data.draw(st.integers(1, 3)), draw_flag(), draw_flag(), draw_flag(), draw_flag()
    form = data.draw(st.sampled_from(["batch", "packed", "one"]))
    projected = kind == "LSTM" and draw_flag()
    options = {"nonlinearity": "relu"} if kind == "relu" else {"proj_size": 2} if projected else {}
    dropout = 0.4 if layers > 1 and draw_flag() else 0.0
    torch.manual_seed(data.draw(st.integers(0, 99)))
    module = getattr(nn, "RNN" if kind == "relu" else kind)(
        I, H, layers, bias=bias, bidirectional=both, batch_first=first, dropout=dropout, **options
    ).double()
    shape = (T, I) if form == "one" else (B, T, I) if first else (T, B, I)
    x = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    given_x = x
    if form == "packed":
        lengths = torch.tensor(data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
        given_x = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
    rows = (layers * (1 + both), *(() if form == "one" else (B,)))
    sizes = [2 if projected else H, H][: 1 + (kind == "LSTM")]
    parts = [torch.randn(*rows, size, dtype=torch.float64, requires_grad=True) for size in sizes]
    hx = None if not start else tuple(parts) if kind == "LSTM" else parts[0]
    leaves = [x, *(parts if start else []), *module.parameters()]
    results = []
    for run in (module, lambda *given: unroll(module, *given)):
        torch.manual_seed(7)
        out, state = run(given_x, hx)
        seen = [out.data if form == "packed" else out, *(state if isinstance(state, tuple) else [state])]
        loss = sum((part * torch.linspace(1, 2, part.numel(), dtype=part.dtype).view_as(part)).sum() for part in seen)
        results.append([*seen, *torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)])
    for fused, steps in zip(*results, strict=True):
        assert (fused is None) == (steps is None)
        if fused is not None:
            torch.testing.assert_close(steps, fused, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("both", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_steps_are_those_of_our_own_engine(kind, layers, both):
    """Every state's gradient at every step, and each parameter's contribution by time step."""
    torch.manual_seed(3)
    module = getattr(nn, kind)(I, H, layers, bidirectional=both).double()
    x = torch.randn(T, B, I, dtype=torch.float64)
    with record(module, names={"x": x}) as run:
        loss = module(x)[0][-1].square().sum()
    theirs = run.graph(loss)
    net = ours.from_torch(module)
    mine = tg.gradient_graph(tg.sum(net(x.numpy())[0][-1] ** 2))
    found, wanted = states(theirs), states(mine)
    assert list(found) == list(wanted)
    for name, lane in wanted.items():
        assert list(found[name]) == list(lane)
        for t, node in lane.items():
            np.testing.assert_allclose(found[name][t].gradient, node.gradient, rtol=1e-10, atol=1e-14)
    for level in ("step", "gate"):
        assert {n.scope for n in theirs.collapse(level).nodes} == {n.scope for n in mine.collapse(level).nodes}
    for name, tensor in net.parameters().items():
        by_step = [by_scope(graph, graph.node_of(t)) for graph, t in ((theirs, getattr(module, name)), (mine, tensor))]
        assert by_step[0].keys() == by_step[1].keys()
        for t, contribution in by_step[1].items():
            np.testing.assert_allclose(by_step[0][t], contribution, rtol=1e-10, atol=1e-13)


def by_scope(graph, node):
    """Contributions of a parameter by time step; PyTorch transposes a weight first, in the same step."""
    found = {}
    for edge in graph.edges_from(node):
        step = graph.nodes[edge.target].step
        found[step] = found.get(step, 0.0) + edge.contribution
    return {step: array for step, array in found.items() if np.abs(array).max() > 0}


# --- names, steps and pictures ---


def test_tied_weights_are_one_node():
    net = language_model(tied=True)
    x = torch.arange(8).reshape(4, 2) % 7
    with record(net) as run:
        loss = next_token(net, x)
    graph = run.graph(loss)
    node = graph.node_of(net.out.weight)
    assert node.name == "e.weight = out.weight" and node is graph.node_of(net.e.weight)
    assert len(list(graph.edges_from(node))) == 2


def test_names_of_steps_gates_and_modules():
    net = Of(lambda m, x: m.head(m.rnn(x)[0][-1]), rnn=nn.LSTM(I, H), head=nn.Linear(H, 1))
    x = torch.ones(T, B, I)
    with record(net, names={"x": x}) as run:
        loss = net(x).mean()
    graph = run.graph(loss)
    labels = {node.label for node in graph.nodes}
    assert {
        "h (mul) t=5",
        "c (add) t=1",
        "f (sigmoid) t=2/forget",
        "x t=2",
        "rnn.weight_hh_l0",
        "linear head",
    } <= labels
    assert set(states(graph)) == {"h", "c"}
    formulas = {edge.formula for edge in graph.edges if graph.nodes[edge.target].name == "h"}
    assert formulas == {"g × other", "g × self"}
    assert graph.node_of(loss).kind == "loss"


@pytest.mark.parametrize(
    "name, scopes",
    [
        ("stacked_cells", {"t=1/cells.0", "t=5/cells.1"}),
        ("encoder_decoder", {"encoder/t=5", "cell/t=3"}),
        ("two_windows", {"t=1", "t=10"}),
        ("detached_state", {"t=6", "t=10"}),
        ("lstm_cell", {"t=1", "t=5"}),
        ("gru_deep_both", {"t=1/layer 0 reverse", "t=5/layer 1"}),
    ],
)
def test_scopes_of_several_modules(name, scopes):
    run, loss, *_ = recorded(name)
    found = {node.scope for node in run.graph(loss).nodes}
    assert scopes <= found, sorted(found)


def test_another_sequence_is_another_call():
    gru = nn.GRU(I, H)
    with record(gru) as run:
        loss = (gru(torch.ones(2, B, I))[0] - gru(torch.zeros(3, B, I))[0][:2]).square().sum()
    scopes = {node.scope for node in run.graph(loss).nodes}
    assert {"t=2", "call 2/t=2"} <= scopes and "t=3" not in scopes


def test_a_step_of_the_user_s_own():
    gru, x, state = nn.GRU(I, H), torch.ones(3, 1, B, I), None
    with record(gru) as run:
        for t, step in enumerate(x, 1):
            with tg.scope(f"t={t}"):
                out, state = gru(step, state)
        loss = out.sum()
    assert list(states(run.graph(loss))["h"]) == [1, 2, 3]


@pytest.mark.parametrize(
    "name, level", [("lstm", "op"), ("gru_deep_both", "step"), ("language_model", "gate"), ("mlp", 1)]
)
def test_everything_that_takes_a_graph_takes_this_one(name, level, tmp_path):
    run, loss, *_ = recorded(name)
    graph = run.graph(loss)
    tg.draw(graph, tmp_path / "a.svg", level=level)
    assert "<svg" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert graph.collapse("step").table() and json.loads(graph.to_json(arrays=True))["nodes"]
    assert graph.collapse("step").node_of(loss).kind == "loss"


def test_without_a_recording_edges_are_exact_and_values_unknown(tmp_path):
    lstm = nn.LSTM(I, H).double()
    loss = lstm(torch.randn(T, B, I, dtype=torch.float64))[0].square().mean()
    graph = gradient_graph(loss)
    assert_sums(graph, TOLERANCE[torch.float64])
    assert {n.value is None for n in graph.nodes if n.kind == "op"} == {True}
    assert json.loads(graph.to_json())["nodes"][-2]["value"] is None
    tg.draw(graph, tmp_path / "a.svg")
    assert graph.node_of(lstm.weight_ih_l0).kind == "parameter"


def test_a_seed_for_a_loss_of_any_shape():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    graph = gradient_graph(x * x, torch.tensor([1.0, 10.0]))
    np.testing.assert_allclose(graph.node_of(x).gradient, [2.0, 40.0])


def test_a_hook_of_the_user_s_is_a_node():
    run, loss, model, _ = recorded("leaf_hook")
    graph = run.graph(loss)
    (hook,) = [node for node in graph.nodes if node.op == "hook"]
    assert abs(graph.node_of(model.weight).gradient).max() <= 0.01 < abs(hook.gradient).max()
    assert run.residual < 1e-13


def test_nan_is_no_hook():
    x = torch.tensor([0.0, 1.0], requires_grad=True)
    graph = gradient_graph((x * torch.tensor([torch.nan, 1.0])).exp().sum())
    assert "hook" not in {node.op for node in graph.nodes}
    assert {edge.state for edge in graph.edges_from(graph.node_of(x))} == {"nan"}


def test_underflow_is_told_from_zero():
    x = torch.tensor([1.0], requires_grad=True)
    tiny = x * 1e-20 * 1e-20 * 1e-20
    graph = gradient_graph(tiny.sum())
    assert [e.state for e in graph.edges_from(graph.node_of(x))] == ["underflow"]


def test_what_the_loss_does_not_hang_on_has_no_node():
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    graph = gradient_graph(a(torch.ones(1, 2)).sum())
    with pytest.raises(KeyError, match=r"a tensor of shape \(2, 2\) is not among"):
        graph.node_of(b.weight)
    with pytest.raises(KeyError, match="is not among"):
        graph.node_of("weight")


def test_names_outlive_the_model():
    """No other tensor may be taken for a parameter that the graph knows."""
    run, loss, model, _ = recorded("mlp")
    graph = run.graph(loss)
    del model, loss, run
    gc.collect()
    assert not any(torch.nn.Parameter(torch.ones(1)) in graph.by_tensor for _ in range(2000))


# --- refusals ---


def no_history():
    with torch.no_grad():
        return nn.Linear(2, 1)(torch.ones(2)).sum()


def freed():
    loss = nn.Linear(2, 1)(torch.ones(2)).tanh().sum()
    loss.backward()
    return loss


def reentrant():
    x = torch.ones(2, requires_grad=True)
    return torch.utils.checkpoint.checkpoint(nn.Linear(2, 1), x, use_reentrant=True).sum()


def complex_loss():
    x = torch.ones(2, requires_grad=True)
    return torch.view_as_real(torch.fft.fft(x)).sum()


@pytest.mark.parametrize(
    "loss, error, says",
    [
        (no_history, ValueError, "the loss has no history"),
        (lambda: 3.0, ValueError, "the loss has no history"),
        (freed, RuntimeError, "ask for it before"),
        (reentrant, TypeError, "use_reentrant=False"),
        (complex_loss, TypeError, "a complex tensor"),
        (lambda: nn.Linear(2, 2)(torch.ones(2)), RuntimeError, "scalar outputs"),
    ],
)
def test_refusals(loss, error, says):
    with pytest.raises(error, match=says):
        gradient_graph(loss())


@pytest.mark.slow  # compiles
def test_a_compiled_model_is_recorded_as_it_was_and_stays_compiled():
    linear = nn.Linear(2, 1)
    net = torch.compile(linear, backend="aot_eager")
    with record(net) as run:
        loss = net(torch.ones(1, 2)).sum()
    assert run.graph(loss).node_of(linear.weight).name == "weight"
    with pytest.raises(TypeError, match=r"torch\.compile hides the graph"):
        gradient_graph(net(torch.ones(1, 2)).sum())


def test_a_kernel_that_computes_something_else_is_refused():
    class Odd(nn.LSTM):
        def forward(self, x, hx=None):
            return super().forward(x, hx)

    net = Odd(I, H)
    with record(net) as run:
        loss = net(torch.ones(T, B, I))[0].sum()
    assert_sums(run.graph(loss), TOLERANCE[torch.float32])
    with pytest.raises(ArithmeticError, match="gives another result"), record(net) as run:
        run._compare(net, [torch.ones(2)], [torch.ones(2) * 1.01])


# --- nothing is left behind ---


def test_nothing_is_left_after_an_exception():
    lstm, before = nn.LSTM(I, H), nn.LSTM.forward
    x = torch.ones(T, B, I)
    with pytest.raises(ZeroDivisionError), record(lstm):
        assert nn.LSTM.forward is not before
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match="Expected 4"), record(lstm):
        lstm(torch.ones(T, B, I + 1))
    assert nn.LSTM.forward is before
    hooks = torch.nn.modules.module
    assert not hooks._global_forward_hooks and not hooks._global_forward_pre_hooks
    assert len(gradient_graph(lstm(x)[0].sum()).nodes) < 20, "the kernel is fused again"
    with record(lstm) as run:
        loss = lstm(x)[0].sum()
    run.graph(loss)


def test_one_recording_at_a_time():
    with record(), pytest.raises(RuntimeError, match="one at a time"), record():
        pass
    with record() as run:
        loss = torch.ones(2, requires_grad=True).sum()
    assert run.graph(loss).nodes


def test_another_thread_is_left_alone():
    lstm, names = nn.LSTM(I, H), []

    def work():
        out, _ = lstm(torch.ones(T, B, I))
        names.append(len(gradient_graph(out.sum()).nodes))

    with record(lstm):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    work()
    assert names[0] == names[1] < 20


def test_the_model_trains_on_as_if_nothing_had_been():
    torch.manual_seed(0)
    nets = [nn.LSTM(I, H)]
    nets.append(copy.deepcopy(nets[0]))
    x = torch.randn(T, B, I)
    for net, watch in zip(nets, (False, True), strict=True):
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(3):
            if watch:
                with record(net) as run:
                    loss = net(x)[0].square().mean()
                run.graph(loss)
            else:
                loss = net(x)[0].square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_large_contributions_are_warned_about(monkeypatch):
    monkeypatch.setattr(build, "_LARGE", 1000)
    w = torch.ones(10, 10, requires_grad=True)
    gradient_graph((w * 2).sum())
    with pytest.warns(UserWarning, match=r"take 0 MB: a few sequences show the same, such as x\[:8\]") as caught:
        gradient_graph((w * 2).sum() + (w * 3).sum())
    assert caught[0].filename == __file__


# --- how much is kept ---


@pytest.mark.parametrize("loop", ["module", "indexing", "iterating"])
def test_memory_grows_with_the_steps_and_not_with_their_square(loop):
    """The input needs a gradient, as behind an embedding: a step that used a part of it keeps that part."""

    def kept(steps):
        x = torch.randn(steps, B, 50, requires_grad=True)
        lstm, cell, state = nn.LSTM(50, 4), nn.LSTMCell(50, 4), None
        with record() as run:
            if loop == "module":
                state = lstm(x)[1]
            for part in {"module": [], "indexing": (x[t] for t in range(steps)), "iterating": x}[loop]:
                state = cell(part, state)
            loss = state[0].sum()
        graph = run.graph(loss)
        assert_sums(graph, 1e-5)
        parts = [edge.carried for edge in graph.edges if edge.carried is not None]
        return sum(array.nbytes for part in parts for array in vars_of(part))

    assert kept(40) < 2.2 * kept(20)


def vars_of(part):
    """The arrays that a contribution is made of."""
    names = [field.name for field in dataclasses.fields(part)]
    return [array for name in names if isinstance(array := getattr(part, name), np.ndarray)]


def test_a_weight_s_contributions_are_kept_as_factors():
    run, loss, model, _ = recorded("lstm")
    graph = run.graph(loss)
    kinds = {type(edge.carried).__name__ for edge in graph.edges_from(graph.node_of(model.weight_hh_l0))}
    assert kinds == {"Outer"}
    assert {graph.nodes[edge.target].op for edge in graph.edges_from(graph.node_of(model.weight_hh_l0))} == {"linear"}
