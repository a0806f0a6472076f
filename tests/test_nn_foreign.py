"""What comes from elsewhere: modules and tensors of PyTorch's, files of safetensors, by what they are known by.

Neither library is needed here. What stands for them gives what they give, and refuses what they refuse.
"""

import json
import struct
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import weights


class TorchTensor:
    """A tensor as PyTorch has them: no array before it is detached and on the CPU, and bfloat16 never."""

    def __init__(self, values, dtype="float32", ready=()):
        self.values, self.name, self.ready = np.asarray(values), dtype, frozenset(ready)
        self.dtype = f"torch.{dtype}"

    def detach(self):
        return TorchTensor(self.values, self.name, {*self.ready, "detached"})

    def cpu(self):
        return TorchTensor(self.values, self.name, {*self.ready, "on the CPU"})

    def float(self):
        return TorchTensor(self.values.astype(np.float32), "float32", {*self.ready, "made float"})

    def numpy(self):
        if not {"detached", "on the CPU"} <= self.ready or self.name in ("bfloat16", "float8_e5m2"):
            raise RuntimeError("Can't call numpy() on this tensor")
        if "made float" not in self.ready:
            return self.values.astype(self.name)
        return self.values


VALUES = np.array([[0.5, -1.25], [3.0, 2.0]])


@pytest.mark.parametrize(
    ("kind", "becomes", "said"),
    [
        ("float64", "float64", ""),
        ("float32", "float32", ""),
        ("int64", "int64", ""),
        ("uint8", "uint8", ""),
        ("float16", "float32", "float16"),
        ("bfloat16", "float32", "bfloat16"),
        ("float8_e5m2", "float32", "float8_e5m2"),
    ],
)
def test_a_tensor_of_torch_is_known_by_its_methods(kind, becomes, said):
    values = np.abs(VALUES).round() if "int" in kind else VALUES
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        arrays = nn.module.arrays_of({"w": TorchTensor(values, kind)})
    np.testing.assert_array_equal(arrays["w"], values)
    assert arrays["w"].dtype == becomes
    assert [str(w.message) for w in caught] == [
        f"weights in {kind} were converted; they keep its few digits: w" for kind in [said] if kind
    ]


def test_all_that_was_converted_is_named_once():
    state = {"a": TorchTensor(VALUES, "float16"), "b": TorchTensor(VALUES, "bfloat16"), "c": np.float16(1.5)}
    words = "weights in bfloat16, float16 were converted; they keep its few digits: a, b, c"
    with pytest.warns(UserWarning, match=f"^{words}$"):
        nn.module.arrays_of(state | {"d": VALUES})


def test_what_has_only_one_of_the_methods_is_no_tensor_of_torch():
    class Cpu:
        def cpu(self):
            raise AssertionError

        def __array__(self, dtype=None, copy=None):
            return VALUES

    class Detach(Cpu):
        cpu = property()
        detach = Cpu.cpu

    assert hasattr(Detach(), "detach") and not hasattr(Detach(), "cpu")
    for value in (Cpu(), Detach(), tg.Tensor(VALUES, requires_grad=True), VALUES.tolist()):
        np.testing.assert_array_equal(nn.module.arrays_of({"w": value})["w"], VALUES)


# --- modules of PyTorch's ---

OPTIONS = {"device": None, "proj_size": 0, "training": True}


def torch_module(name, ours, place="torch.nn.modules.rnn", bases=(), **options):
    """What from_torch looks at."""
    state = {key: TorchTensor(array, array.dtype.name) for key, array in ours.state_dict().items()}
    members = {"__module__": place, "state_dict": lambda self: state}
    module = type(name, bases, members)()
    vars(module).update(OPTIONS | options)
    return module


MODULES = {
    "RNN": (lambda: nn.RNN(2, 3, 2, nonlinearity="relu", rng=5), {"nonlinearity": "relu"}),
    "LSTM": (lambda: nn.LSTM(2, 3, 2, bidirectional=True, rng=5), {}),
    "GRU": (lambda: nn.GRU(2, 3, bias=False, dtype=np.float32, rng=5), {}),
    "RNNCell": (lambda: nn.RNNCell(2, 3, "relu", rng=5), {"nonlinearity": "relu"}),
    "LSTMCell": (lambda: nn.LSTMCell(2, 3, bias=False, rng=5), {}),
    "GRUCell": (lambda: nn.GRUCell(2, 3, rng=5), {}),
    "Linear": (lambda: nn.Linear(2, 3, bias=False, rng=5), {}),
    "Embedding": (lambda: nn.Embedding(4, 3, rng=5), {"padding_idx": None, "norm_type": 2.0, "sparse": False}),
}


@pytest.mark.parametrize("name", MODULES)
def test_from_torch(name):
    make, options = MODULES[name]
    module, stacked = make(), name in ("RNN", "LSTM", "GRU")
    if stacked:
        options = options | {"batch_first": False, "dropout": 0.0}
    ours = nn.from_torch(torch_module(name, module, **options))
    assert type(ours) is type(module) and repr(ours) == repr(module) and ours.training
    assert ours.state_dict().keys() == module.state_dict().keys()
    for key, array in module.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key], array)
        assert ours.state_dict()[key].dtype == array.dtype
    assert not nn.from_torch(torch_module(name, module, **(options | {"training": False}))).training
    if stacked:
        other = nn.from_torch(torch_module(name, module, **(options | {"batch_first": True, "dropout": 0.25})))
        assert other.batch_first and other.dropout == 0.25


def test_a_subclass_is_known_and_what_is_built_of_it_drops_the_same_each_time():
    lstm = nn.LSTM(2, 3, 2, rng=0)
    options = {"batch_first": False, "dropout": 0.5}
    parent = type(torch_module("LSTM", lstm, **options))
    module = torch_module("Mine", lstm, "my.models", (parent,), **options)
    x = np.ones((4, 5, 2))
    one, other = (nn.from_torch(module)(x)[0].numpy() for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, lstm(x)[0].numpy())


def test_other_modules_are_refused_with_what_they_hold():
    cell = nn.GRUCell(2, 3, rng=0)
    known = "from_torch takes one of torch.nn's RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell, Linear, Embedding, not "
    for name, place in (
        ("Conv1d", "torch.nn.modules.conv"),
        ("GRUCell", "elsewhere.torch.nn."),
        ("GRUCell", "torch.nn"),
    ):
        with pytest.raises(TypeError) as told:
            nn.from_torch(torch_module(name, cell, place))
        assert str(told.value) == known + name
    inner = torch_module("GRUCell", cell)
    outer = torch_module("Model", cell, "my.models")
    outer.named_modules = lambda: [("", outer), ("encoder.gru", inner), ("act", SimpleNamespace()), ("b", inner)]
    with pytest.raises(TypeError) as told:
        nn.from_torch(outer)
    line = "give one, such as from_torch(model.get_submodule('encoder.gru'))"
    assert str(told.value) == f"{known}Model; it has encoder.gru (GRUCell), b (GRUCell): {line}"


@pytest.mark.parametrize(
    ("option", "neutral", "other"),
    [
        ("proj_size", 0, 2),
        ("device", None, "cuda"),
        ("padding_idx", None, 0),
        ("max_norm", None, 1.0),
        ("norm_type", 2.0, 1.0),
        ("scale_grad_by_freq", False, True),
        ("sparse", False, True),
    ],
)
def test_options_of_torch_are_taken_only_where_they_ask_for_nothing(option, neutral, other):
    makers = {"RNN": (2, 3), "LSTM": (2, 3), "GRU": (2, 3), "RNNCell": (2, 3), "LSTMCell": (2, 3), "GRUCell": (2, 3)}
    for name, sizes in (makers | {"Linear": (2, 3), "Embedding": (2, 3)}).items():
        kind = getattr(nn, name)
        assert repr(kind(*sizes, **{option: neutral})) == repr(kind(*sizes))
        with pytest.raises(TypeError, match=f"^{name} has no {option}: PyTorch's {option}={other!r} would change"):
            kind(*sizes, **{option: other})
        with pytest.raises(TypeError, match=f"^{name} takes no option colour=$"):
            kind(*sizes, colour=None)
    with pytest.raises(TypeError, match=f"Embedding has no {option}"):
        nn.from_torch(torch_module("Embedding", MODULES["Embedding"][0](), **{option: other}))


# --- safetensors ---

FORMAT = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "|b1"}
FORMAT |= {"I8": "|i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "|u1", "U16": "<u2", "U32": "<u4", "U64": "<u8"}


def file_of(arrays):
    """The bytes of a safetensors file: the header's length, the header, the data. Entries: (name of dtype, array)."""
    header, data = {}, b""
    for name, (kind, array) in arrays.items():
        ends = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": ends}
        data += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def deserialize(content):
    (size,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    return [(name, entry | {"data": bytearray(data[slice(*entry["data_offsets"])])}) for name, entry in header.items()]


def save_rows(arrays):
    for array in arrays.values():  # the library takes the bytes as they lie in memory, in the order of the names
        assert array.flags.c_contiguous and array.dtype.newbyteorder("<") == array.dtype
    assert list(arrays) == sorted(arrays)
    names = {np.dtype(kind): name for name, kind in FORMAT.items() if name != "BF16"}
    return file_of({name: (names[a.dtype], a) for name, a in arrays.items()})


@pytest.fixture
def library(monkeypatch):
    """Stands for safetensors."""
    stand_in = SimpleNamespace(deserialize=deserialize, numpy=SimpleNamespace(save=save_rows))
    monkeypatch.setattr(weights, "_safetensors", lambda: stand_in)


@pytest.mark.parametrize("kind", sorted(set(FORMAT) - {"F16", "BF16"}))
def test_every_kind_of_number_is_read(kind, library, tmp_path):
    array = np.array([[0, 1, 1], [1, 0, 0]]).astype(FORMAT[kind])
    if kind[0] == "I":
        array[0, 2] = -array[0, 2]
    (tmp_path / "w.safetensors").write_bytes(file_of({"a.w": (kind, array), "a.b": ("F64", np.ones(()))}))
    arrays = nn.load(tmp_path / "w.safetensors", "a")
    np.testing.assert_array_equal(arrays["w"], array)
    assert arrays["w"].dtype == array.dtype and arrays["b"].shape == ()


def test_bfloat16_is_the_upper_half_of_a_float32(library, tmp_path):
    values = np.array([1.5, -2.0, 0.0], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2")
    path = tmp_path / "w.safetensors"
    path.write_bytes(file_of({"w": ("BF16", upper), "v": ("F32", values), "u": ("BF16", upper)}))
    with pytest.warns(UserWarning, match=r"^weights in bfloat16 were converted; they keep its few digits: w, u$"):
        arrays = nn.load(path)
    for name in "uvw":
        np.testing.assert_array_equal(arrays[name], values)
        assert arrays[name].dtype == np.float32
    path.write_bytes(file_of({"w": ("F8_E4M3", values.astype("u1"))}))
    with pytest.raises(ValueError, match="is damaged, or no file of plain arrays: w is stored as F8_E4M3"):
        nn.load(path)


def test_arrays_go_into_a_safetensors_file_and_out_again(library, tmp_path):
    state = {"w": np.arange(6.0).reshape(2, 3).T, "b": np.arange(3, dtype=">f4"), "n": np.array([1, -2], np.int16)}
    nn.save(tmp_path / "w.safetensors", state)
    loaded = nn.load(tmp_path / "w.safetensors")
    assert loaded.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype.newbyteorder("=")
