"""Cells, stacks, layers and modules without PyTorch: against derivatives by hand, and against what defines them."""

import copy
import pickle
from collections import Counter

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.stacks import run_sequence
from tinygrad_rnn.nn.state import parts_of
from tinygrad_rnn.testing import check_cell

T, B, INPUT, HIDDEN = 6, 3, 2, 4
STACKS = [nn.RNN, nn.LSTM, nn.GRU]


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def gru_by_hand(parameters, x, h, v):
    """Loss Σ v h and all its gradients; v has one cotangent per step."""
    W, U, b, d = parameters
    kept, outputs = [], []
    for t in range(T):
        a, m = np.split(x[t] @ W.T + b, 3, axis=1), np.split(h @ U.T + d, 3, axis=1)
        r, z = sigmoid(a[0] + m[0]), sigmoid(a[1] + m[1])
        n = np.tanh(a[2] + r * m[2])
        kept.append((h, r, z, n, m[2]))
        h = (1 - z) * n + z * h
        outputs.append(h)
    dW, dU, db, dd, dx = map(np.zeros_like, (W, U, b, d, x))
    dh = np.zeros_like(h)
    for t in reversed(range(T)):
        h, r, z, n, m = kept[t]
        dh = dh + v[t]
        dn = dh * (1 - z) * (1 - n * n)
        dz, dr = dh * (h - n) * z * (1 - z), dn * m * r * (1 - r)
        da, dm = np.concatenate([dr, dz, dn], axis=1), np.concatenate([dr, dz, dn * r], axis=1)
        dW, dU, db, dd = dW + da.T @ x[t], dU + dm.T @ h, db + da.sum(0), dd + dm.sum(0)
        dx[t], dh = da @ W, dm @ U + dh * z
    return np.stack(outputs), (dW, dU, db, dd), dx, dh


def test_gru_equals_bptt_by_hand():
    cell = nn.GRUCell(INPUT, HIDDEN, rng=1)
    x, h0, v = draw(T, B, INPUT), draw(B, HIDDEN), draw(T, B, HIDDEN, seed=1)
    inputs, state = tg.Tensor(x, requires_grad=True), tg.Tensor(h0, requires_grad=True)
    outputs, _ = tg.unroll(cell, inputs, state)
    tg.sum(outputs * v).backward()
    values, parameters, dx, dh = gru_by_hand(cell.state_dict().values(), x, h0, v)
    np.testing.assert_allclose(outputs.numpy(), values, rtol=1e-12)
    for tensor, expected in zip([*cell.parameters().values(), inputs, state], [*parameters, dx, dh], strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-10, atol=1e-13)


def test_gru_scopes_and_names():
    _, h = tg.unroll(nn.GRUCell(INPUT, HIDDEN, rng=0), draw(2, B, INPUT))
    named = {(node.name, node.scope) for node in tg.gradient_graph(tg.sum(h)).nodes if node.step == "t=2" and node.name}
    assert named == {("r", "t=2/reset"), ("z", "t=2/update"), ("n", "t=2/candidate"), ("h", "t=2"), ("x", "t=2")}


def test_lstm_of_1997_is_the_lstm_with_f_equal_to_1():
    old = nn.LSTMCell(INPUT, HIDDEN, forget_gate=False, rng=0)
    new = nn.LSTMCell(INPUT, HIDDEN, rng=0)
    state = {name: np.insert(a, [HIDDEN] * HIDDEN, 0.0, axis=0) for name, a in old.state_dict().items()}
    state["bias_ih"][HIDDEN : 2 * HIDDEN] = 50.0  # σ(50) is 1 to the last digit
    new.load_state_dict(state)
    x = draw(T, B, INPUT)
    np.testing.assert_allclose(tg.unroll(old, x)[0].numpy(), tg.unroll(new, x)[0].numpy(), rtol=1e-13)
    names = {node.name for node in tg.gradient_graph(tg.sum(tg.unroll(old, x)[0])).nodes}
    assert "f" not in names and {"i", "g", "o", "c", "h"} <= names


def test_constant_error_carousel_keeps_its_gradient():
    cell = nn.LSTMCell(INPUT, HIDDEN, forget_gate=False, rng=0)
    cell.load_state_dict({**cell.state_dict(), "weight_hh": np.zeros((3 * HIDDEN, HIDDEN))})
    c0 = tg.Tensor(draw(HIDDEN), requires_grad=True)
    _, (_, c) = tg.unroll(cell, draw(100, INPUT), (tg.Tensor(np.zeros(HIDDEN)), c0))
    np.testing.assert_array_equal(tg.grad(tg.sum(c), c0).numpy(), np.ones(HIDDEN))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "make",
    [nn.RNNCell, nn.LSTMCell, nn.GRUCell, lambda *sizes, **options: nn.LSTMCell(*sizes, forget_gate=False, **options)],
    ids=["rnn", "lstm", "gru", "1997"],
)
def test_cell_passes_every_check_of_a_cell(make, bias):
    assert check_cell(make(INPUT, 3, bias=bias, rng=0), order=1)


# --- stacks ---


def cells_of(stack):
    """One cell for each layer and direction, built from nothing but the stack's state dict."""
    kind = {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}[type(stack)]
    for k in range(stack.num_layers):
        for suffix in (f"_l{k}", f"_l{k}_reverse")[: 1 + stack.bidirectional]:
            state = {n.removesuffix(suffix): a for n, a in stack.state_dict().items() if n.endswith(suffix)}
            cell = kind(state["weight_ih"].shape[1], stack.hidden_size, bias="bias_ih" in state)
            cell.load_state_dict(state)
            yield suffix, cell


def alone(stack, x):
    """One sequence (T, I) through the layers, each direction unrolled by itself: outputs and final states."""
    finals = []
    for suffix, cell in cells_of(stack):
        reverse = suffix.endswith("reverse")
        if not reverse:
            below, joined = x, []
        y, final = tg.unroll(cell, below[::-1] if reverse else below)
        joined.append(y.numpy()[::-1] if reverse else y.numpy())
        finals.append([part.numpy() for part in (final if isinstance(final, tuple) else (final,))])
        x = np.concatenate(joined, axis=-1)
    return x, [np.stack(parts) for parts in zip(*finals, strict=True)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", STACKS)
def test_padded_batch_is_each_sequence_alone(kind, layers, bidirectional, bias):
    stack = kind(INPUT, HIDDEN, layers, bidirectional=bidirectional, bias=bias, rng=3)
    x, lengths = draw(T, B, INPUT), [4, 1, 5]  # nobody has the last step
    x[4:, 0], x[1:, 1], x[5:, 2] = np.nan, np.inf, 1e300  # padding may hold anything
    inputs = tg.Tensor(x, requires_grad=True)
    outputs, last = stack(inputs, lengths=lengths)
    finals = [part.numpy() for part in (last if isinstance(last, tuple) else (last,))]
    for b, n in enumerate(lengths):
        y, ends = alone(stack, x[:n, b])
        np.testing.assert_allclose(outputs.numpy()[:n, b], y, rtol=1e-12, atol=1e-14)
        assert not outputs.numpy()[n:, b].any()
        for part, end in zip(finals, ends, strict=True):
            np.testing.assert_allclose(part[:, b], end, rtol=1e-12, atol=1e-14)
    (
        tg.sum(outputs * outputs) + sum(tg.sum(part) for part in (last if isinstance(last, tuple) else (last,)))
    ).backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in stack.parameters().values())
    for b, n in enumerate(lengths):
        assert inputs.grad.numpy()[:n, b].all() and not inputs.grad.numpy()[n:, b].any()


@pytest.mark.parametrize("kind", STACKS)
def test_batch_first_transposes_and_state_goes_on(kind):
    x = draw(T, B, INPUT)
    first, second = (kind(INPUT, HIDDEN, 2, batch_first=flag, rng=0) for flag in (False, True))
    y, _ = first(x)
    z, _ = second(x.transpose(1, 0, 2))
    np.testing.assert_array_equal(z.numpy().transpose(1, 0, 2), y.numpy())
    head, state = first(x[:2])
    tail, _ = first(x[2:], state)
    np.testing.assert_allclose(np.concatenate([head.numpy(), tail.numpy()]), y.numpy(), rtol=1e-13)


def test_one_layer_is_unroll_and_has_the_same_scopes():
    stack, x = nn.LSTM(INPUT, HIDDEN, rng=0), draw(T, B, INPUT)
    cell = tg.LSTMCell(INPUT, HIDDEN, rng=0)
    (y, _), (z, _) = stack(x), tg.unroll(cell, x)
    np.testing.assert_array_equal(y.numpy(), z.numpy())
    ours, theirs = (tg.gradient_graph(tg.sum(a)) for a in (y, z))
    assert Counter((n.op, n.scope) for n in ours.nodes) == Counter((n.op, n.scope) for n in theirs.nodes)


def test_layers_have_scopes_within_the_step_and_can_be_drawn(tmp_path):
    stack = nn.LSTM(INPUT, HIDDEN, num_layers=2, rng=0)
    outputs, _ = stack(draw(3, B, INPUT))
    graph = tg.gradient_graph(tg.sum(outputs[-1]))
    assert {n.scope for n in graph.nodes if n.name == "c"} == {f"t={t}/layer {k}" for t in (1, 2, 3) for k in (0, 1)}
    assert {n.name for n in graph.nodes if n.name and n.name.startswith("weight")} == {
        f"weight_{kind}_l{k}" for kind in ("ih", "hh") for k in (0, 1)
    }
    tg.draw(graph, tmp_path / "stack.svg", level="gate")
    assert "weight_ih_l1" in (tmp_path / "stack.svg").read_text(encoding="utf-8")


def test_dropout_between_layers_only_while_training():
    stack, x = nn.GRU(INPUT, HIDDEN, num_layers=2, dropout=0.5, rng=0), draw(T, B, INPUT)
    dropped = [nn.GRU(INPUT, HIDDEN, num_layers=2, dropout=0.5, rng=0)(x)[0].numpy() for _ in range(2)]
    np.testing.assert_array_equal(*dropped)  # the seed decides
    assert not np.array_equal(stack(x)[0].numpy(), stack(x)[0].numpy())
    plain = nn.GRU(INPUT, HIDDEN, num_layers=2, rng=0)(x)[0].numpy()
    np.testing.assert_array_equal(stack.eval()(x)[0].numpy(), plain)
    assert not stack.training and stack.train().training


@pytest.mark.parametrize("window", [1, 3, 5, 6, 9])
@pytest.mark.parametrize("kind", STACKS)
def test_the_reverse_direction_is_the_sequence_read_backwards(kind, window):
    """Windows are counted from where each direction ends."""
    both = kind(INPUT, HIDDEN, bidirectional=True, rng=0)
    (_, first), (_, second) = cells_of(both)
    x = tg.Tensor(draw(8, B, INPUT), requires_grad=True)
    outputs, _ = both(x, window=window)
    for half, cell, order in ((outputs[..., :HIDDEN], first, 1), (outputs[..., HIDDEN:], second, -1)):
        other = tg.Tensor(x.numpy()[::order], requires_grad=True)
        alone, _ = tg.unroll(cell, other, window=window)
        np.testing.assert_allclose(half.numpy()[::order], alone.numpy(), rtol=1e-13)
        v = draw(8, B, HIDDEN)
        got, want = tg.grad(tg.sum(half[::order] * v), x), tg.grad(tg.sum(alone * v), other)
        np.testing.assert_allclose(got.numpy()[::order], want.numpy(), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("dropout", [0.0, 0.4, 1.0])
def test_dropout_in_all_layers_but_the_last_is_a_mask_on_what_they_put_out(dropout):
    stack = nn.LSTM(INPUT, HIDDEN, 3, dropout=dropout, bidirectional=True, rng=7)
    masks, x = np.random.default_rng(), draw(T, B, INPUT)
    masks.bit_generator.state = stack.rng.bit_generator.state
    outputs = stack(x)[0].numpy()
    cells = list(cells_of(stack))
    for k in range(3):
        parts = [
            tg.unroll(cell, x[::order])[0].numpy()[::order]
            for (_, cell), order in zip(cells[2 * k : 2 * k + 2], (1, -1), strict=True)
        ]
        x = np.concatenate(parts, axis=-1)
        if k < 2 and dropout:
            kept = masks.random((T, B, 2 * HIDDEN)) >= dropout
            x = np.where(kept, x / (1 - dropout if dropout < 1 else 1), 0.0)
    np.testing.assert_allclose(outputs, x, rtol=1e-12, atol=1e-14)
    assert stack.rng.bit_generator.state == masks.bit_generator.state  # without dropout, nothing is drawn


def test_the_shortest_inputs():
    stack = nn.GRU(1, 1, batch_first=True, rng=0)
    assert stack(np.ones((1, 1)))[0].shape == (1, 1) and stack(np.ones((1, 1, 1)))[0].shape == (1, 1, 1)
    for shape in ((0, 1), (1, 0, 1), (2, 1, 0), (1,), (1, 1, 1, 1)):
        with pytest.raises(ValueError, match=r"takes \(B, T, I\) or \(T, I\), with at least one step and I = 1"):
            stack(np.ones(shape))
    for make in (nn.Linear, nn.Embedding, nn.RNNCell, nn.LSTMCell, nn.GRUCell, nn.RNN, nn.LSTM, nn.GRU):
        assert make(1, 1, rng=0).state_dict()


@pytest.mark.parametrize("kind", STACKS)
def test_lengths_are_integers_of_any_kind(kind):
    stack, x = kind(INPUT, HIDDEN, rng=0), draw(4, 2, INPUT)
    want = stack(x, lengths=[4, 2])[0].numpy()
    for lengths in (np.array([4, 2], np.uint8), (4, 2), np.array([4, 2], np.int16)):
        np.testing.assert_array_equal(stack(x, lengths=lengths)[0].numpy(), want)
    for wrong in ([True, True], ["4", "2"], [[4, 2]], 4, [4.0, 2.0], [4, 2, 1], [[4], [2, 1]], [0, 4], [5, 1]):
        with pytest.raises(ValueError, match=r"lengths=.*: give 2 whole numbers from 1 to 4, one for each sequence"):
            stack(x, lengths=wrong)


@pytest.mark.parametrize("kind", STACKS)
def test_a_state_is_taken_in_its_own_form_only(kind):
    stack, x = kind(INPUT, HIDDEN, 2, rng=0), draw(T, B, INPUT)
    h, c, wrong = draw(2, B, HIDDEN), draw(2, B, HIDDEN, seed=1), draw(1, B, HIDDEN)
    good = (h, c) if kind is nn.LSTM else h
    bad = [h, (h,), (h, c, c), (h, wrong), (wrong, c)] if kind is nn.LSTM else [(h,), (h, c), wrong, ((h,),)]
    y, _ = stack(x, good)
    graph = tg.gradient_graph(tg.sum(y))
    names = {node.name for node in graph.nodes if node.name and node.name.endswith("0")}
    assert names >= ({"h0", "c0"} if kind is nn.LSTM else {"h0"})
    for state in bad:
        with pytest.raises(ValueError, match=r"as its state$|takes \(num_layers"):
            stack(x, state)
    if kind is nn.LSTM:
        np.testing.assert_array_equal(stack(x, [h, c])[0].numpy(), y.numpy())


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", STACKS)
def test_what_a_network_knows_at_the_end(kind, both, layers):
    """A cell's last h; of a stack the last layer's, each direction's at its own end."""
    x = draw(T, B, INPUT)
    stack = kind(INPUT, HIDDEN, layers, bidirectional=both, rng=0)
    outputs, last, state = run_sequence(stack, x)
    y, s = stack(x)
    np.testing.assert_array_equal(outputs.numpy(), y.numpy())
    ends = [y.numpy()[-1, :, :HIDDEN], *([y.numpy()[0, :, HIDDEN:]] if both else [])]
    np.testing.assert_array_equal(last.numpy(), np.concatenate(ends, axis=-1))
    np.testing.assert_array_equal(parts_of(state)[0].numpy(), parts_of(s)[0].numpy())
    cell = {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}[kind](INPUT, HIDDEN, rng=0)
    outputs, last, state = run_sequence(cell, x)
    np.testing.assert_array_equal(last.numpy(), outputs.numpy()[-1])
    assert isinstance(state, tuple) is (kind is nn.LSTM) and parts_of(state)[0] is last


def test_a_list_of_numbers_is_one_part_of_a_state():
    for numbers in ([1.0, 2], [[1, 2.0], [np.float64(3), np.int8(4)]], [np.float32(1.0)], []):
        assert parts_of(numbers) == (numbers,)
        assert parts_of((numbers, [np.ones(2), numbers]))[0] is numbers
        assert len(parts_of((numbers, [np.ones(2), numbers]))) == 3


# --- layers ---


def test_linear_is_a_product_and_a_sum_along_the_last_axis():
    with_bias, without = nn.Linear(INPUT, HIDDEN, rng=0), nn.Linear(INPUT, HIDDEN, bias=False, rng=0)
    W, b = with_bias.weight.numpy(), with_bias.bias.numpy()
    np.testing.assert_array_equal(without.weight.numpy(), W)
    assert without.bias is None and list(without.parameters()) == ["weight"]
    for shape in ((INPUT,), (B, INPUT), (T, B, INPUT)):
        x = draw(*shape)
        np.testing.assert_allclose(with_bias(x).numpy(), x @ W.T + b, rtol=1e-13)
        np.testing.assert_allclose(without(x).numpy(), x @ W.T, rtol=1e-13)
    assert [repr(layer) for layer in (nn.Linear(2, 5), nn.Embedding(7, 3))] == ["Linear(2, 5)", "Embedding(7, 3)"]
    narrow = nn.Linear(2, 3, dtype=np.float32), nn.Embedding(2, 3, dtype=np.float32)
    assert {p.dtype for layer in narrow for p in layer.parameters().values()} == {np.dtype(np.float32)}


def test_embedding_is_a_row_for_each_index():
    layer = nn.Embedding(4, 3, rng=0)
    for index in (2, [0, 3], [[0, 1], [1, 1]], np.zeros((2, 0), int), np.array([], np.uint8)):
        rows = layer(index)
        np.testing.assert_array_equal(rows.numpy(), layer.weight.numpy()[np.asarray(index)])
    rows = layer([1, 1, 3])
    tg.sum(rows * np.array([[1.0], [2.0], [4.0]])).backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), np.outer([0, 3, 0, 4], np.ones(3)))


# --- modules ---


class Model(nn.Module):
    def __init__(self):
        self.embed = nn.Embedding(5, INPUT, rng=0)
        self.layers = [nn.RNNCell(INPUT, HIDDEN, rng=1), nn.RNNCell(HIDDEN, HIDDEN, bias=False, rng=2)]
        self.heads = {"a": nn.Linear(HIDDEN, 1, rng=3)}
        self.scale = tg.Tensor(2.0, requires_grad=True)
        self.tied, self._hidden = self.embed.weight, tg.Tensor(1.0)


def test_parameters_are_found_by_dotted_names():
    model = Model()
    names = "embed.weight layers.0.weight_ih layers.0.weight_hh layers.0.bias_ih layers.0.bias_hh layers.1.weight_ih"
    names += " layers.1.weight_hh heads.a.weight heads.a.bias scale"
    assert list(model.parameters()) == names.split()
    assert list(model.state_dict()) == [*names.split(), "tied"]
    other = Model()
    other.load_state_dict({name: array + 1 for name, array in model.state_dict().items()})
    np.testing.assert_array_equal(other.layers[1].weight_hh.numpy(), model.layers[1].weight_hh.numpy() + 1)
    model.eval()
    assert not model.layers[1].training and not model.heads["a"].training


def test_a_parameter_of_a_stack_is_an_attribute_by_pytorchs_name():
    net = nn.LSTM(2, 3, 2, bidirectional=True, rng=0)
    for name, tensor in net.named_tensors():
        assert getattr(net, name) is tensor and name not in vars(net)
    twin, tied = copy.deepcopy(net), tg.Tensor(np.zeros((12, 3)), requires_grad=True)
    assert (
        pickle.loads(pickle.dumps(net)).bias_ih_l1_reverse.shape == (12,) and twin.weight_hh_l0 is not net.weight_hh_l0
    )
    net.weight_hh_l0 = net.weight_hh_l0_reverse = tied
    assert net.weight_hh_l0 is tied is net.weight_hh_l0_reverse and "weight_hh_l0_reverse" not in net.parameters()
    np.testing.assert_array_equal(net.state_dict()["weight_hh_l0"], 0 * twin.state_dict()["weight_hh_l0"])
    for name in ("weight_hh", "weight_hh_l2", "weight_hh_l0_", "gain", "_absent", "initial_state_l0"):
        with pytest.raises(AttributeError, match=f"'LSTM' object has no attribute '{name}'"):
            getattr(net, name)
    with pytest.raises(AttributeError, match="there is no weight_hh_l7: there are weight_hh_l0, weight_hh_l0_reverse"):
        net.weight_hh_l7 = tied
    with pytest.raises(AttributeError):
        _ = nn.LSTM(2, 3, bias=False, rng=0).bias_ih_l0
    for wrong in (np.zeros((12, 3)), tg.Tensor(np.zeros((3, 12))), None):
        with pytest.raises(
            TypeError, match=r"^weight_hh_l0=.*: give Tensor\(array, requires_grad=True\) of shape \(12, 3\)$"
        ):
            net.weight_hh_l0 = wrong


def test_state_dict_is_all_or_nothing():
    model, before = Model(), Model().state_dict()
    state = {name: array + 1 for name, array in before.items()}
    del state["scale"]
    state |= {"extra": np.ones(1), "heads.a.bias": np.ones(2), "heads.a.weight": np.ones((1, HIDDEN), complex)}
    with pytest.raises(ValueError) as caught:
        model.load_state_dict(state)
    words = ["missing scale ()", "unexpected extra (1,)", "heads.a.bias has shape (2,), not (1,)", "holds complex128"]
    assert all(word in str(caught.value) for word in words)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    model.load_state_dict({"scale": 7.0, "extra": np.ones(1)}, strict=False)
    assert model.scale.item() == 7.0
    with pytest.raises(ValueError, match="has shape"):
        model.load_state_dict({"scale": np.ones(2)}, strict=False)


def test_layers_train_end_to_end():
    embed, lstm, head = nn.Embedding(4, 3, rng=0), nn.LSTM(3, 5, rng=1), nn.Linear(5, 4, rng=2)
    symbols = np.array([[0, 1], [2, 3], [1, 1]])
    loss = tg.cross_entropy(head(lstm(embed(symbols))[0]), symbols)
    loss.backward()
    assert all(p.grad.numpy().any() for m in (embed, lstm, head) for p in m.parameters().values())


# --- what is refused ---


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda: nn.LSTM(2, 3, proj_size=2), TypeError, "LSTM has no proj_size"),
        (lambda: nn.LSTM(2, 3, device="cuda"), TypeError, "has no device"),
        (lambda: nn.GRU(2, 3, nonlinearity="tanh"), TypeError, "GRU takes no option nonlinearity="),
        (lambda: nn.GRUCell(2, 3, forget_bias=1), TypeError, "GRUCell takes no option forget_bias="),
        (lambda: nn.Embedding(2, 3, padding_idx=0), TypeError, "padding_idx"),
        (lambda: nn.RNN(2, 3, 0), ValueError, "num_layers=0: give a whole number, at least 1"),
        (lambda: nn.RNN(2, 3, 2, dropout=1.5), ValueError, "dropout=1.5: give a number from 0 to 1"),
        (lambda: nn.LSTMCell(2, 3, False), TypeError, "forget_bias=False: give a finite number"),
        (lambda: nn.LSTMCell(2, 3, bias=0.5), TypeError, "True or False"),
        (lambda: nn.LSTMCell(2, 3, forget_bias=1.0, bias=False), TypeError, "needs bias=True"),
        (lambda: nn.LSTMCell(2, 3, forget_bias=1.0, forget_gate=False), ValueError, "forget_gate=False"),
        (lambda: nn.Linear(0, 3), ValueError, "in_features=0"),
        (lambda: nn.Embedding(3, 0), ValueError, "embedding_dim=0"),
        (lambda: nn.Embedding(3, 2)([3]), ValueError, "outside of 0 ... 2"),
        (lambda: nn.Embedding(3, 2)([-1]), ValueError, "outside of 0 ... 2"),
        (lambda: nn.Embedding(3, 2)([0.5]), ValueError, "integers"),
        (lambda: nn.LSTM(2, 3)(np.ones((4, 1, 5))), ValueError, r"takes \(T, B, I\) or \(T, I\)"),
        (lambda: nn.LSTM(2, 3, batch_first=True)(np.ones((4, 0, 2))), ValueError, r"\(B, T, I\).*at least one step"),
        (lambda: nn.LSTM(2, 3)(np.ones((4, 1, 2)), np.zeros((1, 1, 3))), ValueError, r"pair \(h, c\)"),
        (lambda: nn.GRU(2, 3)(np.ones((4, 1, 2)), (np.zeros((1, 1, 3)),) * 2), ValueError, "one tensor h"),
        (lambda: nn.GRU(2, 3)(np.ones((4, 2, 2)), np.zeros((1, 1, 3))), ValueError, r"= \(1, 2, 3\)"),
        (
            lambda: nn.GRU(2, 3)(np.ones((4, 2, 2)), lengths=[4]),
            ValueError,
            "give 2 whole numbers from 1 to 4, one for each",
        ),
        (lambda: nn.GRU(2, 3)(np.ones((4, 2, 2)), lengths=[4.0, 1.0]), ValueError, "give 2 whole numbers"),
        (lambda: nn.GRU(2, 3)(np.ones((4, 2, 2)), lengths=[5, 1]), ValueError, "whole numbers from 1 to 4"),
        (lambda: nn.GRU(2, 3)(np.ones((4, 2, 2)), lengths=[4, 0]), ValueError, "whole numbers from 1 to 4"),
        (lambda: nn.GRU(2, 3)(np.ones((4, 2)), lengths=[4]), ValueError, "an axis of sequences"),
    ],
)
def test_what_does_not_fit_is_refused(ask, error, words):
    with pytest.raises(error, match=words):
        ask()


def test_linear_and_embedding_begin_as_in_pytorch():
    layer = nn.Linear(16, 1000, rng=0)
    for p in layer.parameters().values():
        assert 0.98 / 4 < np.abs(p.numpy()).max() <= 1 / 4 and abs(p.numpy().std() * np.sqrt(3) - 1 / 4) < 0.01
    rows = nn.Embedding(100, 200, rng=0).weight.numpy()
    assert abs(rows.std() - 1) < 0.02 and abs(rows.mean()) < 0.03 and 3 < np.abs(rows).max() < 6


def test_a_result_that_a_module_keeps_is_not_loaded_into():
    layer = nn.Linear(2, 1, rng=0)
    before = layer.state_dict()
    layer.kept = layer.weight * 2
    with pytest.raises(ValueError, match="kept is no parameter here but a result that the module keeps"):
        layer.load_state_dict({name: array + 1 for name, array in layer.state_dict().items()})
    for name, array in before.items():
        np.testing.assert_array_equal(layer.state_dict()[name], array)


def test_what_changes_the_numbers_is_told():
    """Reports print it, and a checkpoint is recognised by it."""
    assert repr(nn.RNNCell(2, 3)) == "RNNCell(2, 3)"
    assert repr(nn.RNNCell(2, 3, "relu", bias=False)) == "RNNCell(2, 3, nonlinearity='relu', bias=False)"
    assert repr(nn.LSTMCell(2, 3, forget_gate=False)) == "LSTMCell(2, 3, forget_gate=False)"
    stack = nn.RNN(2, 3, 2, dropout=0.25, bidirectional=True, nonlinearity="identity")
    assert repr(stack) == "RNN(2, 3, num_layers=2, dropout=0.25, bidirectional=True, nonlinearity='identity')"
    assert repr(nn.GRU(2, 3, bias=False)) == "GRU(2, 3, bias=False)"
    for module in (stack, nn.LSTM(2, 3, forget_gate=False), nn.GRUCell(2, 3)):
        assert repr(eval(repr(module), vars(nn))) == repr(module)


def test_values_that_ask_for_nothing_pass():
    assert repr(nn.LSTM(2, 3, proj_size=0, device=None, batch_first=True)) == "LSTM(2, 3, batch_first=True)"
    with pytest.warns(UserWarning, match="with one layer it does nothing"):
        nn.LSTM(2, 3, dropout=0.5)


def test_padded_step_makes_its_states_in_the_order_of_the_cell():
    """So that c and h keep their lanes in a picture, where steps with and without padding stand side by side."""
    _, (h, c) = nn.LSTM(2, 3, rng=0)(np.ones((4, 2, 2)), lengths=[4, 2])
    graph = tg.gradient_graph(tg.sum(h) + tg.sum(c))
    for t in range(1, 5):
        made = [node.name for node in graph.nodes if node.scope == f"t={t}" and node.name in ("c", "h")]
        assert made == ["c", "h"] * (1 if t <= 2 else 2)
