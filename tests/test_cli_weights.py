"""``--weights``: a network from a file is drawn like one that begins here; what its shapes do not tell is asked for."""

import json

import numpy as np
import pytest
from test_cli import ran, refused

from tinygrad_rnn import nn
from tinygrad_rnn.cli import main
from tinygrad_rnn.data import load

STEPS = 4
FEW = ("--steps", str(STEPS), "--out", "x.dot", "--json", "x.json")
LSTM = nn.LSTM(1, 3, num_layers=2, bidirectional=True, rng=0)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(module, name="model.npz", prefix="", **others):
    nn.save(name, {prefix + key: array for key, array in module.state_dict().items()} | others)
    return "--weights", name


def last_of(module, inputs):
    outputs, state = module(inputs)
    h = state[0] if isinstance(state, tuple) else state
    return outputs, np.concatenate(h.numpy()[-2:], axis=-1) if module.bidirectional else h.numpy()[-1]


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (nn.RNN(1, 3, 2, nonlinearity="relu", rng=1), ("--nonlinearity", "relu")),
        (nn.LSTM(1, 3, rng=1), ()),
        (nn.LSTM(1, 3, 3, bidirectional=True, dtype=np.float32, rng=1), ("lstm",)),
        (nn.GRU(1, 3, 2, batch_first=True, rng=1), ()),
        (nn.GRU(1, 3, bidirectional=True, bias=False, rng=1), ("gru",)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("loss", ["last", "all"])
def test_numbers_are_those_of_the_module(module, options, loss, capsys, elsewhere):
    said = ran(capsys, *options, *put(module), *FEW, "--loss", loss, "--seed", "2")
    values, _ = load(steps=STEPS)
    outputs, last = last_of(module, values[None] if module.batch_first else values[:, None])
    width = last.shape[-1]
    v = np.random.default_rng([2, 1]).standard_normal(width)
    v /= np.linalg.norm(v)
    expected = np.mean(last @ v) if loss == "last" else np.sum(outputs.numpy() @ v)
    line = next(line for line in said.splitlines() if line.startswith("loss"))
    assert float(line.rpartition(" ")[2]) == pytest.approx(expected, rel=1e-4)
    assert str(module.dtype) in said and "weights of model.npz" in said
    kind = " (relu)" if isinstance(module, nn.RNN) else ""
    assert f"cell    {type(module).__name__}{kind}, hidden 3" in said
    drawn = {node["name"] for node in json.loads((elsewhere / "x.json").read_text("utf-8"))["nodes"]}
    assert set(module.parameters()) <= drawn


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_a_lone_cell_is_drawn_as_one_that_begins_here(kind, capsys, elsewhere):
    name = kind.removesuffix("Cell").lower()
    said = ["--nonlinearity", "tanh"] if name == "rnn" else []
    ran(capsys, name, "--hidden", "3", "--seed", "5", *FEW)
    fresh = (elsewhere / "x.json").read_bytes()
    ran(capsys, *put(getattr(nn, kind)(1, 3, rng=5)), "--seed", "5", *FEW, *said)
    assert (elsewhere / "x.json").read_bytes() == fresh


def test_picture_is_named_after_the_file(capsys, elsewhere):
    ran(capsys, *put(LSTM), "--steps", "2")
    picture = (elsewhere / "model.svg").read_text(encoding="utf-8")
    assert "LSTM, hidden 3, 2 layers, both ways" in picture and "weights of model.npz" in picture


def test_part_of_a_bigger_model(capsys, elsewhere):
    others = {"head.weight": np.ones((1, 6)), "head.bias": np.zeros(1)}
    weights = put(LSTM, prefix="encoder.lstm.", **others)
    only = ran(capsys, *weights, *FEW)  # the only recurrent part there is
    assert "weights of model.npz, encoder.lstm" in only
    for prefix in ("encoder.lstm", "encoder.lstm.", "encoder"):
        said = ran(capsys, *weights, *FEW, "--prefix", prefix)
        assert said == only.replace("--weights=model.npz", f"--weights=model.npz --prefix={prefix}")
    weights = put(nn.GRU(1, 2, rng=0), prefix="a.", **{f"b.{k}": v for k, v in LSTM.state_dict().items()})
    assert "under the prefix 'a', 'b'" in refused(capsys, "draw", *weights, *FEW)
    assert "GRU, hidden 2" in ran(capsys, *weights, *FEW, "--prefix", "a")
    assert "nothing under the prefix 'c.'; there is 'a', 'b'" in refused(capsys, "draw", *weights, "--prefix", "c")


def test_data_of_ones_own(capsys, elsewhere):
    (elsewhere / "mine.csv").write_text("x,y,z\n" + "".join(f"{i},{i * i},{i % 3}\n" for i in range(6)), "utf-8")
    weights = put(nn.LSTM(2, 3, rng=0))
    assert "takes 2 values a step, and the data has 3" in refused(capsys, "draw", *weights, *FEW, "--data", "mine.csv")
    said = ran(capsys, *weights, *FEW, "--data", "mine.csv", "--column", "x", "--column", "z")
    assert "mine.csv (x, z), as in the file; steps: 4, values a step: 2" in said


def test_dtype_is_that_of_the_file_unless_said(capsys):
    weights = put(nn.GRU(1, 2, dtype=np.float32, rng=0))
    assert "GRU, hidden 2, float32" in ran(capsys, *weights, *FEW)
    assert "GRU, hidden 2, float64" in ran(capsys, *weights, *FEW, "--dtype", "float64")


MISUSE = {
    "nonlinearity": (nn.RNN(1, 3, rng=0), (), "do not tell its nonlinearity: say --nonlinearity tanh or relu"),
    "no nonlinearity": (LSTM, ("--nonlinearity", "tanh"), "LSTM has no nonlinearity to choose"),
    "another kind": (LSTM, ("gru",), "model.npz is of the kind LSTM, not gru"),
    "hidden": (LSTM, ("--hidden", "8"), "--hidden is for a cell that begins here"),
    "init": (LSTM, ("--init", "pytorch"), "--init is for a cell that begins here"),
    "bias": (LSTM, ("--forget-bias", "1"), "--forget-bias is for a cell that begins here"),
    "no steps": (nn.Linear(1, 3, rng=0), (), "is a Linear, which has no steps to unroll"),
    "missing": (LSTM, ("--weights", "no.npz"), "no.npz: "),
    "kind of file": (LSTM, ("--weights", "model.h5"), "kept in .npz or .safetensors files"),
}


@pytest.mark.parametrize(("module", "options", "reason"), MISUSE.values(), ids=MISUSE)
def test_misuse(module, options, reason, capsys):
    assert reason in refused(capsys, "draw", *put(module), *options)


def test_what_belongs_to_weights(capsys):
    assert "--prefix belongs to --weights" in refused(capsys, "draw", "lstm", "--prefix", "a")


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_weights_of_a_diverged_network_are_said_to_be_so(bad, capsys):
    broken = nn.RNN(1, 3, rng=0)
    broken.parameters()["bias_ih_l0"].data = np.array([0.0, bad, 0.0])
    assert main(["draw", *put(broken), "--nonlinearity", "tanh", *FEW]) == 0
    assert "warning: NaN or infinity in the weights bias_ih_l0:" in capsys.readouterr().err


def test_damaged_file(capsys, elsewhere):
    put(LSTM)
    content = (elsewhere / "model.npz").read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        (elsewhere / "model.npz").write_bytes(content[:size])
        assert "model.npz is damaged" in refused(capsys, "draw", "--weights", "model.npz")
    assert not (elsewhere / "model.svg").exists()


def test_pickle_is_refused_with_the_lines_that_convert_it(capsys, elsewhere):
    (elsewhere / "model.pt").write_bytes(b"not even read")
    assert main(["draw", "--weights", "model.pt"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "model.pt is a pickle" in said[0] and len(said) == 5
    compile("\n".join(line.strip() for line in said[1:]), "the lines", "exec")


def test_the_lines_do_convert(capsys, elsewhere):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("safetensors", reason="the extra torch-weights is not installed")
    theirs = torch.nn.LSTM(1, 3, 2, bidirectional=True)
    torch.save({f"encoder.{name}": value for name, value in theirs.state_dict().items()}, "model.pt")
    with pytest.raises(ValueError, match="pickle") as refusal:
        nn.load("model.pt")
    exec("\n".join(line.strip() for line in str(refusal.value).splitlines()[1:]), {})
    assert "LSTM, hidden 3, 2 layers, both ways, float32" in ran(capsys, "--weights", "model.safetensors", *FEW)
