"""Parameters in files and out of them: whole or not at all, prefixes, kinds read off shapes, files that are damaged."""

import io
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest

from tinygrad_rnn import nn

MODULES = {
    "RNN": lambda: nn.RNN(2, 3, 2, nonlinearity="relu", rng=0),
    "LSTM": lambda: nn.LSTM(2, 3, 3, bidirectional=True, rng=0),
    "GRU": lambda: nn.GRU(3, 3, bias=False, dtype=np.float32, rng=0),
    "RNNCell": lambda: nn.RNNCell(2, 3, nonlinearity="relu", bias=False, rng=0),
    "LSTMCell": lambda: nn.LSTMCell(2, 3, rng=0),
    "GRUCell": lambda: nn.GRUCell(2, 3, rng=0),
    "Linear": lambda: nn.Linear(2, 3, rng=0),
    "Embedding": lambda: nn.Embedding(2, 3, rng=0),
}
ENDINGS = [".npz", ".safetensors"]


def path_of(folder, ending):
    if ending == ".safetensors":
        pytest.importorskip("safetensors", reason="the extra torch-weights is not installed")
    return folder / f"weights{ending}"


def same(a, b):
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
        assert a[name].dtype == b[name].dtype


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", MODULES)
def test_there_and_back(kind, ending, tmp_path):
    module, path = MODULES[kind](), path_of(tmp_path, ending)
    nn.save(path, module.state_dict())
    loaded = nn.load(path)
    same(dict(sorted(loaded.items())), dict(sorted(module.state_dict().items())))
    said = {"nonlinearity": "relu"} if kind.startswith("RNN") else {}
    again = nn.from_state_dict(loaded, "Embedding" if kind == "Embedding" else None, **said)
    assert type(again) is type(module) and repr(again) == repr(module)
    same(again.state_dict(), module.state_dict())
    content = path.read_bytes()
    nn.save(path, module.state_dict())
    assert path.read_bytes() == content and [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_module_inside_a_bigger_model(ending, tmp_path):
    path, lstm = path_of(tmp_path, ending), MODULES["LSTM"]()
    big = {f"encoder.lstm.{name}": array for name, array in lstm.state_dict().items()}
    nn.save(path, big | {"head.weight": np.ones((1, 6)), "file": np.ones(2)})
    for prefix in ("encoder.lstm", "encoder.lstm."):
        same(nn.from_state_dict(nn.load(path, prefix)).state_dict(), lstm.state_dict())
        same(nn.from_state_dict(nn.load(path), prefix=prefix).state_dict(), lstm.state_dict())
    with pytest.raises(ValueError, match=r"nothing under the prefix 'decoder\.'; there is .*'encoder\.lstm'"):
        nn.load(path, "decoder")
    with pytest.raises(ValueError, match=r"nothing under the prefix ''; there is nothing$"):
        nn.from_state_dict({})
    with pytest.raises(ValueError, match=r"under the prefix 'encoder\.lstm'"):
        nn.from_state_dict(nn.load(path))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "LSTMCell"])
@pytest.mark.parametrize("matrix", ["w", "W", "weight"])
def test_short_names_without_dots_are_those_of_pytorch(kind, matrix, tmp_path):
    """``enc_w_ih_l0`` is ``weight_ih_l0`` under the prefix ``enc``, with its line below or without; or of itself."""
    state = MODULES[kind]().state_dict()
    plain = {name.replace("weight", matrix).replace("bias", "b"): array for name, array in state.items()}
    short = {f"enc_{name}": array for name, array in plain.items()}
    nn.save(tmp_path / "w.npz", short | {"dec_w_ih": np.ones((1, 1))})
    said = {"nonlinearity": "relu"} if kind == "RNN" else {}
    for given in (plain, short, nn.load(tmp_path / "w.npz", "enc"), nn.load(tmp_path / "w.npz", "enc_")):
        same(nn.from_state_dict(given, **said).state_dict(), state)
    same(nn.from_state_dict(nn.load(tmp_path / "w.npz"), prefix="enc", **said).state_dict(), state)


def test_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.npz"
    nn.save(path, {"w": np.ones(2)})
    for state in ({"w": np.array(["a"])}, {"w": np.array([None])}, {"w": np.ones(2, complex)}):
        with pytest.raises(ValueError):
            nn.save(path, state)
    np.testing.assert_array_equal(nn.load(path)["w"], np.ones(2))


# --- what is read off the shapes, and what has to be said ---


@pytest.mark.parametrize(
    ("state", "said", "words"),
    [
        (
            MODULES["RNN"]().state_dict(),
            {},
            "of an RNN do not tell its nonlinearity: say nonlinearity='tanh' or 'relu'",
        ),
        (MODULES["RNNCell"]().state_dict(), {}, "of an RNNCell do not tell its nonlinearity"),
        (MODULES["GRUCell"]().state_dict(), {"nonlinearity": "tanh"}, "GRUCell has no nonlinearity to choose"),
        (MODULES["LSTM"]().state_dict(), {"nonlinearity": "tanh"}, "no nonlinearity to choose"),
        (MODULES["LSTM"]().state_dict(), {"kind": "Transformer"}, "one of 'RNN', 'LSTM'"),
        (MODULES["LSTM"]().state_dict(), {"kind": "GRU"}, "does not fit GRU"),
        (MODULES["LSTM"]().state_dict(), {"kind": "LSTMCell"}, "no parameters of LSTMCell"),
        (MODULES["LSTMCell"]().state_dict(), {"batch_first": True}, "batch_first is for RNN"),
        (MODULES["Embedding"]().state_dict(), {}, "kind='Linear' or 'Embedding'"),
        ({"weight_hh_l0": np.ones((8, 2)), "weight_hr_l0": np.ones((2, 2))}, {}, "proj_size"),
        ({"weight_hh_l0": np.ones((5, 2))}, {}, "1, 3 or 4 times H rows"),
        ({"conv.weight": np.ones((5, 2))}, {}, "not the parameters of one module"),
        ({}, {}, "nothing"),
    ],
)
def test_what_shapes_do_not_tell_is_asked_for(state, said, words):
    with pytest.raises(ValueError, match=words):
        nn.from_state_dict(state, **said)


def test_what_is_said_is_used():
    stack = nn.from_state_dict(MODULES["RNN"]().state_dict(), nonlinearity="relu", batch_first=True, dtype=np.float32)
    assert stack.batch_first and stack.dtype == np.float32 and stack(np.ones((4, 5, 2)))[0].shape == (4, 5, 3)
    incomplete = MODULES["LSTM"]().state_dict()
    del incomplete["weight_ih_l1"]
    with pytest.raises(ValueError, match="unexpected weight_ih_l2"):
        nn.from_state_dict(incomplete)


def test_weights_of_a_training_that_diverged_are_taken_and_told():
    state = MODULES["GRUCell"]().state_dict()
    state["weight_hh"][1, 0], state["bias_ih"][2] = np.nan, np.inf
    with pytest.warns(UserWarning, match=r"^NaN or infinity in the weights weight_hh, bias_ih: whatever trained them"):
        cell = nn.from_state_dict(state)
    same(cell.state_dict(), state)


def test_half_precision_is_converted_and_said():
    state = {name: array.astype(np.float16) for name, array in MODULES["GRUCell"]().state_dict().items()}
    with pytest.warns(UserWarning, match=r"float16 were converted.*weight_hh"):
        cell = nn.from_state_dict(state)
    assert cell.dtype == np.float32


# --- files that are no files of ours ---


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code in the file was run')",)


def archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


GOOD = npy(np.arange(1000.0))
HUGE = GOOD.replace(b"(1000,), }    ", b"(10000000,), }")
assert len(HUGE) == len(GOOD) and HUGE != GOOD
HOSTILE = {
    "empty": b"",
    "text": b"weights",
    "no zip inside": pickle.dumps(Evil()),
    "object array": archive(w=npy(np.array([Evil()], dtype=object), allow_pickle=True)),
    "pickle as member": archive(w=pickle.dumps(Evil())),
    "shape beyond the data": archive(w=HUGE),
    "no header": archive(w=b"\x93NUMPY\x01\x00"),
    "bomb": archive(w=npy(np.zeros(2**17))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_npz_is_a_clear_error(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tinygrad_rnn.nn.weights._LIMIT", 2**18)
    path = tmp_path / "w.npz"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match=r"w\.npz is damaged, or no file of plain arrays") as caught:
        nn.load(path)
    assert "unsafe" not in str(caught.value) and "\n" not in str(caught.value)  # no advice to trust it


@pytest.mark.parametrize("ending", ENDINGS)
def test_truncated_or_altered_file_is_a_clear_error(ending, tmp_path):
    path = path_of(tmp_path, ending)
    nn.save(path, MODULES["GRUCell"]().state_dict())
    content = path.read_bytes()
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="damaged"):
            nn.load(path)
    path.write_bytes(content)
    nn.load(path)


def test_altered_bytes_are_seen_by_the_checksum(tmp_path):
    path = tmp_path / "w.npz"
    nn.save(path, {"w": np.ones(100)})
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="CRC"):
        nn.load(path)


@pytest.mark.parametrize("header", [b"{", b'{"w":{"dtype":"F64","shape":[9],"data_offsets":[0,8]}}', b"[]"])
def test_hostile_safetensors_is_a_clear_error(header, tmp_path):
    path = path_of(tmp_path, ".safetensors")
    for size in (len(header), 2**60):
        path.write_bytes(struct.pack("<Q", size) + header + bytes(8))
        with pytest.raises(ValueError, match="damaged"):
            nn.load(path)


def test_bfloat16_in_safetensors_is_widened(tmp_path):
    path = path_of(tmp_path, ".safetensors")
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + np.array([0x3FC0, 0xC000], "<u2").tobytes())
    with pytest.warns(UserWarning, match=r"bfloat16 were converted.*: w"):
        w = nn.load(path)["w"]
    np.testing.assert_array_equal(w, np.array([1.5, -2.0], np.float32))
    path.write_bytes(path.read_bytes().replace(b"BF16", b"F8_E4M3"))
    with pytest.raises(ValueError, match="damaged"):
        nn.load(path)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".PT"])
def test_no_pickle_is_ever_opened(ending, tmp_path):
    path = tmp_path / f"model{ending}"
    path.write_bytes(pickle.dumps(Evil()))
    for ask in (nn.load, lambda path: nn.save(path, {"w": np.ones(2)})):
        with pytest.raises(
            ValueError, match=r"is a pickle, which can run any code .*\n(.*\n){3}.*model\.safetensors'\)$"
        ):
            ask(path)
    assert path.read_bytes() == pickle.dumps(Evil())


def test_what_a_file_may_unfold_to(tmp_path, monkeypatch):
    """A gigabyte, or a hundred times its own size if that is more."""
    path, noise = tmp_path / "w.npz", np.random.default_rng(0).random(1000)
    path.write_bytes(HOSTILE["bomb"])  # a megabyte from a kilobyte: little enough
    assert nn.load(path)["w"].shape == (2**17,)
    monkeypatch.setattr("tinygrad_rnn.nn.weights._LIMIT", 100)
    path.write_bytes(archive(w=npy(noise)))
    np.testing.assert_array_equal(nn.load(path)["w"], noise)


def test_other_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"(?s)pickle.*import torch.*torch\.load\(.*weights_only=True.*save_file\("):
        nn.load("model.pt")
    with pytest.raises(ValueError, match=r"kept in \.npz or \.safetensors"):
        nn.save(tmp_path / "model.h5", {})
    with pytest.raises(FileNotFoundError):
        nn.load(tmp_path / "missing.npz")
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(ImportError, match=r"\[torch-weights\]"):
        nn.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "ending, says",
    [
        (".h5", "from_keras"),
        (".keras", "from_keras"),
        (".hdf5", "from_keras"),
        (".onnx", "i, o, f, c"),
        (".msgpack", "savez"),
        ("", "not without an ending$"),
        (".xyz", r"not \.xyz$"),
    ],
)
def test_another_kind_of_file_is_refused_with_the_way_if_there_is_one(ending, says, tmp_path):
    with pytest.raises(ValueError, match=rf"are kept in \.npz or \.safetensors files, .*{says}"):
        nn.load(tmp_path / f"model{ending}")


@pytest.mark.parametrize("name", ["a\0b", "\0", "\ud800"])
def test_a_name_that_no_file_can_hold_is_refused_before_anything_is_written(name, tmp_path):
    with pytest.raises(ValueError, match="name"):
        nn.save(tmp_path / "w.npz", {"weight": np.ones(2), name: np.ones(2)})
    assert not list(tmp_path.iterdir())
