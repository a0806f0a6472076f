"""Stacks and layers beside PyTorch in float64: outputs, final states and every gradient, with one state dict."""

from typing import Any

import numpy as np
import pytest
from torch_oracle import assert_same, draw, torch

import tinygrad_rnn as tg
from tinygrad_rnn import nn

KINDS = {"rnn": "RNN", "relu": "RNN", "lstm": "LSTM", "gru": "GRU"}
BATCH, INPUTS, HIDDEN = 3, 2, 4
TOLERANCE = 1e-10


def both(kind: str, layers: int = 1, scale: float = 1.0, dtype: str = "float64", **options: Any) -> tuple[Any, Any]:
    """Our stack and PyTorch's with the same parameters; `scale` times the usual ones, to saturate them."""
    name = KINDS[kind]
    if kind == "relu":
        options["nonlinearity"] = "relu"
    theirs = getattr(torch.nn, name)(INPUTS, HIDDEN, layers, dtype=getattr(torch, dtype), **options)
    ours = getattr(nn, name)(INPUTS, HIDDEN, layers, dtype=dtype, rng=7, **options)
    state = {key: scale * array for key, array in ours.state_dict().items()}
    theirs.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
    ours.load_state_dict(theirs.state_dict())  # the way back, tensors and all
    return ours, theirs


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def state_of(kind: str, arrays: list[Any]) -> Any:
    return tuple(arrays[:2]) if kind == "lstm" else arrays[0]


def compare(ours: Any, theirs: Any, kind: str, x: Any, lengths: list[int] | None = None, start: bool = True) -> None:
    """Outputs, final states, and the gradient of everything that went in."""
    directions = 1 + ours.bidirectional
    shape = (ours.num_layers * directions, x.shape[0 if ours.batch_first else 1], HIDDEN)
    arrays = [x, *([draw(*shape, low=-1.0), draw(*shape, low=-1.5)][: 1 + (kind == "lstm")] if start else [])]
    xs = [tg.Tensor(array, requires_grad=True) for array in arrays]
    ts = [torch.tensor(array, requires_grad=True) for array in arrays]
    y, last = ours(xs[0], state_of(kind, xs[1:]) if start else None, lengths)
    z, end = run_theirs(theirs, ts[0], state_of(kind, ts[1:]) if start else None, lengths)
    seen = [y, *parts(last)]
    wanted = [z, *parts(end)]
    for got, want, what in zip(seen, wanted, ["outputs", "h", "c"], strict=False):
        assert_same(got, want, what, TOLERANCE)
    weights = [draw(*got.shape, low=-1.0) for got in seen]
    sum(tg.sum(got * w) for got, w in zip(seen, weights, strict=True)).backward()
    sum((want * torch.tensor(w)).sum() for want, w in zip(wanted, weights, strict=True)).backward()
    parameters = dict(theirs.named_parameters())
    assert list(ours.parameters()) == list(parameters)
    for name, parameter in parameters.items():
        assert_same(ours.parameters()[name].grad, parameter.grad, name, TOLERANCE)
    for got, want, what in zip(xs, ts, ["x", "h0", "c0"], strict=False):
        assert_same(got.grad, want.grad, what, TOLERANCE)


def run_theirs(theirs: Any, x: Any, state: Any, lengths: list[int] | None) -> Any:
    if lengths is None:
        return theirs(x, state)
    options = {"batch_first": theirs.batch_first}
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False, **options)
    outputs, state = theirs(packed, state)
    steps = x.shape[1 if theirs.batch_first else 0]
    return torch.nn.utils.rnn.pad_packed_sequence(outputs, total_length=steps, **options)[0], state


@pytest.mark.parametrize("lengths", [None, [2, 5, 3]], ids=["whole", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_stack(kind: str, layers: int, bidirectional: bool, lengths: list[int] | None) -> None:
    ours, theirs = both(kind, layers, bidirectional=bidirectional)
    compare(ours, theirs, kind, draw(6, BATCH, INPUTS), lengths)


@pytest.mark.parametrize("lengths", [None, [4, 1, 4]], ids=["whole", "lengths"])
@pytest.mark.parametrize("kind", KINDS)
def test_batch_first_without_bias(kind: str, lengths: list[int] | None) -> None:
    ours, theirs = both(kind, 2, bidirectional=True, batch_first=True, bias=False)
    compare(ours, theirs, kind, draw(BATCH, 4, INPUTS), lengths, start=False)


@pytest.mark.parametrize("scale", [1.0, 12.0], ids=["usual", "saturated"])
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_steps(kind: str, scale: float) -> None:
    if kind == "relu" and scale > 1:
        scale = 4.0  # no nonlinearity holds it: this one explodes
    ours, theirs = both(kind, 3, scale, bidirectional=True)
    compare(ours, theirs, kind, draw(50, BATCH, INPUTS), [50, 7, 31])


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_batch(kind: str) -> None:
    ours, theirs = both(kind, 2, bidirectional=True)
    x = draw(5, INPUTS)
    y, last = ours(x)
    z, end = theirs(torch.tensor(x))
    for got, want in zip([y, *parts(last)], [z, *parts(end)], strict=True):
        assert_same(got, want, kind, TOLERANCE)
    again, _ = ours(x, last)
    assert_same(again, theirs(torch.tensor(x), end)[0], "second run", TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_float32(kind: str) -> None:
    ours, theirs = both(kind, 2, dtype="float32")
    x = draw(5, BATCH, INPUTS).astype("float32")
    outputs, _ = ours(x, lengths=[5, 2, 4])
    assert outputs.dtype == np.float32
    assert_same(outputs, run_theirs(theirs, torch.tensor(x), None, [5, 2, 4])[0], kind, 1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cell(name: str, bias: bool) -> None:
    theirs = getattr(torch.nn, name)(INPUTS, HIDDEN, bias=bias, dtype=torch.float64)
    ours = getattr(nn, name)(INPUTS, HIDDEN, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    x = draw(BATCH, INPUTS)
    state = [draw(BATCH, HIDDEN), draw(BATCH, HIDDEN, low=-1.0)]
    pair = name == "LSTMCell"
    ys = parts(ours(x, tuple(map(tg.Tensor, state)) if pair else tg.Tensor(state[0])))
    zs = parts(theirs(torch.tensor(x), tuple(map(torch.tensor, state)) if pair else torch.tensor(state[0])))
    sum(tg.sum(y * y) for y in ys).backward()
    sum((z * z).sum() for z in zs).backward()
    for got, want in zip(ys, zs, strict=True):
        assert_same(got, want, name)
    assert list(ours.parameters()) == [key for key, _ in theirs.named_parameters()]
    for key, parameter in theirs.named_parameters():
        assert_same(ours.parameters()[key].grad, parameter.grad, key, TOLERANCE)


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    theirs = torch.nn.Linear(INPUTS, HIDDEN, bias=bias, dtype=torch.float64)
    ours = nn.Linear(INPUTS, HIDDEN, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    for shape in [(INPUTS,), (BATCH, INPUTS), (5, BATCH, INPUTS)]:
        x = draw(*shape)
        y, z = ours(x), theirs(torch.tensor(x))
        assert_same(y, z, str(shape))
        got = tg.grad(tg.sum(y * y), list(ours.parameters().values()))
        for a, b in zip(got, torch.autograd.grad((z * z).sum(), list(theirs.parameters())), strict=True):
            assert_same(a, b, str(shape))


def test_embedding() -> None:
    theirs = torch.nn.Embedding(5, 3, dtype=torch.float64)
    ours = nn.Embedding(5, 3)
    ours.load_state_dict(theirs.state_dict())
    index = np.array([[0, 4, 4], [1, 4, 0]])
    y, z = ours(index), theirs(torch.tensor(index))
    assert_same(y, z, "rows")
    (got,) = tg.grad(tg.sum(y * y), [ours.weight])
    assert_same(got, torch.autograd.grad((z * z).sum(), theirs.weight)[0], "weight")


def test_planted_fault_is_seen() -> None:
    ours, theirs = both("gru")
    z_rows = np.array(ours.state_dict()["bias_hh_l0"])
    z_rows[HIDDEN] += 1e-8
    ours.load_state_dict({**ours.state_dict(), "bias_hh_l0": z_rows})
    with pytest.raises(AssertionError):
        compare(ours, theirs, "gru", draw(6, BATCH, INPUTS))


# --- modules of PyTorch's ---

N = torch.nn
THEIRS = {
    "rnn": N.RNN(2, 3, 2, nonlinearity="relu", batch_first=True),
    "lstm": N.LSTM(2, 3, 2, bidirectional=True, dropout=0.5, dtype=torch.float64).eval(),
    "gru": N.GRU(2, 3, bias=False),
    "rnn cell": N.RNNCell(2, 3, nonlinearity="relu"),
    "lstm cell": N.LSTMCell(2, 3, bias=False),
    "gru cell": N.GRUCell(2, 3),
    "linear": N.Linear(2, 3, bias=False),
    "embedding": N.Embedding(4, 3),
}


@pytest.mark.parametrize("name", THEIRS)
def test_from_torch(name: str) -> None:
    theirs = THEIRS[name]
    ours: Any = nn.from_torch(theirs)
    assert type(ours).__name__ == type(theirs).__name__ and ours.training == theirs.training
    for option in ("num_layers", "bidirectional", "batch_first", "dropout"):
        assert getattr(ours, option, None) == getattr(theirs, option, None)
    for key, tensor in theirs.state_dict().items():
        assert_same(ours.state_dict()[key], tensor, key)
    x = np.array([[0, 3]]) if name == "embedding" else draw(4, 2).astype(next(iter(ours.parameters().values())).dtype)
    x = draw(3, 5, 2).astype(ours.dtype) if name in ("rnn", "lstm", "gru") else x
    if "cell" in name:
        y, z = ours(x, ours.initial_state(4)), theirs(torch.tensor(x))
    else:
        y, z = ours(x), theirs(torch.tensor(x))
    for got, want in zip(parts(y), parts(z), strict=True):
        for a, b in zip(parts(got), parts(want), strict=True):
            assert_same(a, b, name, 1e-6 if a.dtype == np.float32 else 1e-12)
    theirs.load_state_dict({key: torch.tensor(a) for key, a in ours.state_dict().items()})  # and back


def test_subclass_is_known_and_other_modules_are_refused() -> None:
    class Mine(N.LSTM):
        pass

    assert type(nn.from_torch(Mine(2, 3))) is nn.LSTM
    with pytest.raises(TypeError, match="LSTM has no proj_size"):
        nn.from_torch(N.LSTM(2, 3, proj_size=2))
    with pytest.raises(TypeError, match="has no padding_idx"):
        nn.from_torch(N.Embedding(4, 3, padding_idx=0))
    with pytest.raises(TypeError, match=r"not Sequential; it has 0 \(Linear\), 1.0 \(GRU\)"):
        nn.from_torch(N.Sequential(N.Linear(2, 3), N.Sequential(N.GRU(3, 4))))
    with pytest.raises(TypeError, match="not int"):
        nn.from_torch(3)


def test_bfloat16_is_converted_and_said() -> None:
    with pytest.warns(UserWarning, match="bfloat16 were converted"):
        ours: Any = nn.from_torch(N.GRU(2, 3).bfloat16())
    assert ours.dtype == np.float32


def test_tensor_without_data_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="weight_ih_l0 cannot be read as an array"):
        nn.from_torch(N.GRU(2, 3, device="meta"))


def test_safetensors_written_by_torch(tmp_path: Any) -> None:
    save_file = pytest.importorskip("safetensors.torch", reason="the extra torch-weights is not installed").save_file
    model = N.Sequential(N.Linear(2, 2), N.LSTM(2, 3, 2, bidirectional=True, dtype=torch.float64))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    ours: Any = nn.from_state_dict(nn.load(tmp_path / "model.safetensors", prefix="1."))
    assert_same(ours(draw(20, BATCH, 2))[0], model[1](torch.tensor(draw(20, BATCH, 2)))[0], "outputs", TOLERANCE)
    nn.save(tmp_path / "back.safetensors", ours.state_dict())
    theirs = pytest.importorskip("safetensors.torch").load_file(tmp_path / "back.safetensors")
    model[1].load_state_dict(theirs)


def trained(kind: str, layers: int, bidirectional: bool) -> Any:
    """A stack of PyTorch's after some steps of Adam on next-step prediction."""
    torch.manual_seed(layers)
    options = {"nonlinearity": "relu"} if kind == "relu" else {}
    theirs = getattr(torch.nn, KINDS[kind])(INPUTS, HIDDEN, layers, bidirectional=bidirectional, **options).double()
    head = torch.nn.Linear(HIDDEN * (1 + bidirectional), INPUTS).double()
    optimiser = torch.optim.Adam([*theirs.parameters(), *head.parameters()], lr=0.02)
    x = torch.randn(20, 4, INPUTS, dtype=torch.float64)
    for _ in range(20):
        optimiser.zero_grad()
        ((head(theirs(x)[0]) - x.roll(1, 0)) ** 2).mean().backward()
        optimiser.step()
    optimiser.zero_grad()
    return theirs


@pytest.mark.parametrize(("layers", "bidirectional"), [(1, True), (2, False), (3, True)])
@pytest.mark.parametrize("kind", KINDS)
def test_trained_by_torch_over_two_hundred_steps(kind: str, layers: int, bidirectional: bool) -> None:
    theirs = trained(kind, layers, bidirectional)
    compare(nn.from_torch(theirs), theirs, kind, draw(200, 2, INPUTS), start=False)


def test_in_chaos_we_are_as_far_from_torch_as_torch_is_from_itself() -> None:
    """Weights so large that rounding errors grow with every step: there no two orders of summation agree to 1e-10."""
    torch.manual_seed(0)
    theirs = torch.nn.RNN(3, 16).double()
    with torch.no_grad():
        theirs.weight_hh_l0 *= 8
    x = np.random.default_rng(0).normal(size=(80, 2, 3))
    ours = nn.from_torch(theirs)(x)[0].data
    own, nudged = (theirs(torch.tensor(a))[0].detach().numpy() for a in (x, x * (1 + 2**-52)))
    sensitivity = np.abs(own - nudged).max(axis=(1, 2))
    assert sensitivity[-1] > 1e-8
    assert (np.abs(ours - own).max(axis=(1, 2)) <= 1e-13 + 100 * np.maximum.accumulate(sensitivity)).all()
