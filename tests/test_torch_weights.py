"""Weights of real PyTorch modules: whatever they are wrapped in, the weights that compute are read."""

import re
import warnings

import numpy as np
import pytest
from torch_oracle import torch

from tinygrad_rnn import nn

T, B, I, H = 5, 3, 4, 6  # noqa: E741
utils = torch.nn.utils


def prune_first(module, name):
    from torch.nn.utils import prune

    prune.l1_unstructured(module, name, amount=0.3)


WRAPPED = {
    "orthogonal": utils.parametrizations.orthogonal,
    "weight norm": utils.parametrizations.weight_norm,
    "spectral norm": utils.parametrizations.spectral_norm,
    "old weight norm": utils.weight_norm,
    "old spectral norm": utils.spectral_norm,
    "pruned": prune_first,
}


def same(ours, theirs, x=None):
    x = torch.randn(T, B, I) if x is None else x
    with torch.no_grad():
        want = theirs(x)[0].numpy()
    np.testing.assert_allclose(ours(x.numpy())[0].numpy(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_parametrised(kind, wrap, training):
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(I, H).train(training)
    WRAPPED[wrap](module, "weight_hh_l0")
    with torch.no_grad():  # as an optimiser does, after the last forward pass
        for parameter in module.parameters():
            parameter.mul_(1.5)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    ours = nn.from_torch(module)
    assert module.training is training and ours.training is training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} was changed"
    same(ours, module.eval())


@pytest.mark.filterwarnings("ignore")
def test_a_cell_and_a_layer_that_are_parametrised():
    cell, layer = torch.nn.GRUCell(I, H), torch.nn.Linear(I, H)
    utils.parametrizations.orthogonal(cell, "weight_hh")
    utils.parametrizations.weight_norm(layer)
    x = torch.randn(B, I)
    with torch.no_grad():
        np.testing.assert_allclose(nn.from_torch(layer)(x.numpy()).numpy(), layer(x).numpy(), rtol=1e-5, atol=1e-6)
        want = cell(x, torch.zeros(B, H)).numpy()
    np.testing.assert_allclose(nn.from_torch(cell)(x.numpy(), np.zeros((B, H))).numpy(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "wrap",
    [lambda m: torch.compile(m, backend="eager"), torch.nn.DataParallel, torch.jit.script],
    ids=["compiled", "DataParallel", "scripted"],
)
def test_wrapped(wrap):
    for module in (torch.nn.LSTM(I, H, 2, bidirectional=True), torch.nn.RNN(I, H, nonlinearity="relu")):
        ours = nn.from_torch(wrap(module))
        assert type(ours).__name__ == type(module).__name__
        same(ours, module)
    with pytest.raises(
        TypeError, match=r"it has 0 \(LSTM\): give one, such as from_torch\(model.get_submodule\('0'\)\)"
    ):
        nn.from_torch(wrap(torch.nn.Sequential(torch.nn.LSTM(I, H))))


@pytest.mark.filterwarnings("ignore")
def test_the_line_that_a_refusal_gives_works():
    model = torch.nn.Sequential(torch.nn.GRU(I, H), torch.nn.Identity())
    with pytest.raises(TypeError, match="get_submodule") as told:
        nn.from_torch(model)
    line = re.search(r"from_torch\(model.get_submodule\('0'\)\)", str(told.value))[0]
    same(eval(line, {"from_torch": nn.from_torch, "model": model}), model[0])
    with pytest.raises(TypeError, match=r"from_state_dict\(module.state_dict\(\), batch_first="):
        nn.from_torch(torch.jit.trace(torch.nn.LSTM(I, H), torch.ones(T, B, I)))
    with pytest.raises(TypeError, match=r"tinygrad_rnn\.torch\.record draws"):
        nn.from_torch(torch.nn.LSTM(I, H, proj_size=2))
    with pytest.raises(ValueError, match=r"tinygrad_rnn\.torch\.record draws"):
        nn.from_state_dict(torch.nn.LSTM(I, H, proj_size=2).state_dict())


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_module_of_the_user_s_that_is_only_called_so_is_refused():
    with pytest.raises(TypeError, match="from_torch takes one of"):
        nn.from_torch(torch.jit.script(Linear()))


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


# --- files ---


def forms(model):
    """What people keep in a .pt file."""
    state = model.state_dict()
    return {
        "state dict": state,
        "lightning": {"state_dict": state, "epoch": 3, "hyper_parameters": {"lr": 0.1}},
        "checkpoint": {"model_state_dict": state, "optimizer_state_dict": {}, "epoch": 1},
        "model": {"model": state, "step": 2},
    }


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.rnn, self.out = torch.nn.Embedding(9, H), torch.nn.GRU(H, H), torch.nn.Linear(H, 9, bias=False)
        self.out.weight = self.e.weight


@pytest.mark.parametrize("ending", [".pt", ".ckpt"])
@pytest.mark.parametrize("form", ["state dict", "lightning", "checkpoint", "model"])
def test_the_lines_for_a_pickle_convert_it(form, ending, tmp_path):
    pytest.importorskip("safetensors")
    torch.manual_seed(0)
    model = Tied()
    path = tmp_path / f"model{ending}"
    torch.save(forms(model)[form], path)
    with pytest.raises(ValueError, match="is a pickle") as told:
        nn.load(path)
    program = "\n".join(line.strip() for line in str(told.value).splitlines()[1:])
    exec(program, {})
    arrays = nn.load(path.with_suffix(".safetensors"))
    same(nn.from_state_dict(arrays, prefix="rnn"), model.rnn, torch.randn(T, B, H))
    np.testing.assert_array_equal(arrays["e.weight"], arrays["out.weight"])


@pytest.mark.parametrize(
    "ending, says", [(".h5", "from_keras"), (".keras", "from_keras"), (".onnx", "i, o, f, c"), (".msgpack", "savez")]
)
def test_other_files_are_refused_with_a_way(ending, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        nn.load(tmp_path / f"model{ending}")


def test_names_without_dots(tmp_path):
    torch.manual_seed(0)
    module = torch.nn.LSTM(I, H)
    state = {name.replace("weight", "w").replace("bias", "b"): t for name, t in module.state_dict().items()}
    for start in ("enc_", "", "my_lstm_"):
        nn.save(tmp_path / "w.npz", {f"{start}{name}": value for name, value in state.items()})
        same(nn.from_state_dict(nn.load(tmp_path / "w.npz")), module)
    both = {f"{start}_{name}": value for start in ("enc", "dec") for name, value in state.items()}
    nn.save(tmp_path / "w.npz", both)
    same(nn.from_state_dict(nn.load(tmp_path / "w.npz", prefix="dec")), module)
    with pytest.raises(ValueError, match="not the parameters of one module"):
        nn.from_state_dict(nn.load(tmp_path / "w.npz"))
    cell = {name.removesuffix("_l0"): value for name, value in state.items()}
    assert isinstance(nn.from_state_dict({f"enc_{name}": value for name, value in cell.items()}), nn.LSTMCell)


def test_nothing_is_warned_about_on_the_way():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nn.from_torch(torch.nn.LSTM(I, H))
