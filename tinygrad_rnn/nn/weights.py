"""Parameters in files, and modules of PyTorch's: what people really hold when they ask why a network does not learn.

After this file the reader knows what a state dict tells about the network it came from (its kind, sizes, layers), and
what it does not (the nonlinearity), so that one has to say it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast
from warnings import warn

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..arguments import flag, mapping, one_of, refusal
from ..extras import how_to_install
from ..files import write_whole
from .cells import GRUCell, LSTMCell, RNNCell
from .layers import Embedding, Linear
from .module import ASKS_FOR_NOTHING, Module, arrays_of, refuse
from .stacks import GRU, LSTM, RNN, Stack

Arrays = dict[str, NDArray[Any]]

KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell, Linear, Embedding)
}
_PROJECTION = "tinygrad_rnn.torch.record draws PyTorch's as it is"
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}
_LIMIT = 2**30  # bytes that a small compressed file may unfold to


def save(path: str | PathLike[str], state_dict: Mapping[str, Any]) -> None:
    """Write parameters to a file, whole or not at all; the same parameters give the same bytes.

    Parameters
    ----------
    path : path
        Ending in .npz, or in .safetensors, which needs the extra ``[torch-weights]``.
    state_dict : mapping of str to array_like or torch.Tensor

    Raises
    ------
    ValueError
        For another ending, or entries that are no arrays of numbers.
    """
    arrays = arrays_of(state_dict)
    if wrong := [name for name, array in arrays.items() if array.dtype.kind not in "fiu"]:
        raise ValueError(f"not arrays of numbers: {', '.join(wrong)}")
    if wrong := [name for name in arrays if "\0" in name or name.encode("utf-8", "replace").decode() != name]:
        raise ValueError(f"a file can hold no name such as {', '.join(map(ascii, wrong))}: rename the parameter")
    kind = _kind_of(path)
    if kind == ".safetensors":
        # Its writer takes the bytes as they lie in memory.
        rows = {name: np.require(a, a.dtype.newbyteorder("<"), "C") for name, a in sorted(arrays.items())}
        content = _safetensors().numpy.save(rows)
    else:
        import zipfile

        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                member = io.BytesIO()
                np.lib.format.write_array(member, array)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())  # dated 1980, whenever it is
        content = buffer.getvalue()
    write_whole(path, content)


def load(path: str | PathLike[str], prefix: str = "") -> Arrays:
    """Read parameters from a file.

    Parameters
    ----------
    path : path
        Ending in .npz or .safetensors. Nothing in the file is ever executed.
    prefix : str
        Of a module inside a bigger model, such as "encoder.lstm": only its entries, without the prefix. Where
        names have no dots, ``enc`` is that of ``enc_w_ih``.

    Returns
    -------
    dict of str to array
        bfloat16 is widened to float32, with a warning.

    Raises
    ------
    ValueError
        If the file is damaged or of another kind, or has nothing under the prefix.
    OSError
        If the file cannot be read.
    """
    read = _read_npz if _kind_of(path) == ".npz" else _read_safetensors
    content = Path(path).read_bytes()
    try:
        arrays = read(content)
    except (ImportError, Warning):  # a warning where the user made them errors
        raise
    except Exception as error:  # whatever a reader says about bytes that somebody else wrote
        raise ValueError(f"{path} is damaged, or no file of plain arrays: {error}") from error
    return below(arrays, prefix)


def below(state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries under a prefix, without it; the final dot may be left out."""
    if not isinstance(prefix, str):
        raise refusal("prefix", prefix, "the name of a part, such as 'encoder.lstm'")
    entries = mapping("state_dict", state_dict)
    for start in (prefix.rstrip(".") + ".", prefix.rstrip("_") + "_") if prefix else ("",):
        if found := {name[len(start) :]: value for name, value in entries.items() if name.startswith(start)}:
            return found
    raise ValueError(
        f"nothing under the prefix {prefix and prefix.rstrip('.') + '.'!r}; there is {_places(state_dict)}"
    )


_SHORT = re.compile(r"([^.]*?)_?(weight|bias|[wWb])_([ih]h)((?:_l\d+)?(?:_reverse)?)")


def _full_names(arrays: Arrays) -> Arrays:
    """Arrays called ``enc_w_ih``, ``enc_b_hh_l0`` under PyTorch's names, if all are and have the same beginning."""
    parts = {name: _SHORT.fullmatch(name) for name in arrays}
    if not arrays or len({found and found[1] for found in parts.values()}) > 1 or None in parts.values():
        return arrays
    kinds = {"w": "weight", "W": "weight", "b": "bias"}
    return {f"{kinds.get(p[2], p[2])}_{p[3]}{p[4]}": arrays[name] for name, p in parts.items() if p}


def _places(state_dict: Mapping[str, Any]) -> str:
    """The prefixes that a state dict has, for a message."""
    return (
        ", ".join(repr(place) for place in dict.fromkeys(name.rpartition(".")[0] for name in state_dict)) or "nothing"
    )


_OTHERS = {
    **dict.fromkeys(
        (".h5", ".hdf5", ".keras"), "nn.from_keras(layer.get_weights(), layer.get_config()) takes a layer of it"
    ),
    ".onnx": "its gates are in another order (i, o, f, c): take the weights from the framework that exported it",
    ".msgpack": "numpy.savez('weights.npz', **arrays) writes the arrays that flax.serialization.msgpack_restore gives",
}


def _kind_of(path: str | PathLike[str]) -> str:
    kind = Path(path).suffix.lower()
    if kind in _PICKLES:
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is read. Where PyTorch is installed, convert it:\n"
            "    import torch, safetensors.torch\n"
            f"    state = torch.load({str(path)!r}, map_location='cpu', weights_only=True)"
            "  # of a whole model, if you trust it: weights_only=False, then .state_dict()\n"
            "    state = next((state[k] for k in ('state_dict', 'model_state_dict', 'model') if k in state), state)\n"
            "    safetensors.torch.save_file({k: torch.as_tensor(v).clone() for k, v in state.items()}, "
            f"{str(Path(path).with_suffix('.safetensors'))!r})"
        )
    if kind not in (".npz", ".safetensors"):
        remedy = f": {_OTHERS[kind]}" if kind in _OTHERS else ""
        raise ValueError(
            f"{path}: parameters are kept in .npz or .safetensors files, not {kind or 'without an ending'}{remedy}"
        )
    return kind


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(f".safetensors files need safetensors: {how_to_install('torch-weights')}") from error
    return safetensors


def _read_npz(content: bytes) -> Arrays:
    with cast(Any, np.lib.npyio.NpzFile(io.BytesIO(content), allow_pickle=False)) as archive:
        if sum(member.file_size for member in archive.zip.infolist()) > max(_LIMIT, 100 * len(content)):
            raise ValueError("it would unfold to more than 100 times its size")
        arrays = dict(archive)
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError("there is something else in it")
    return arrays


_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "|b1"}
_SAFETENSORS |= {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)}


def _read_safetensors(content: bytes) -> Arrays:
    """Through the library, but for bfloat16, which NumPy lacks: the upper half of a float32."""
    arrays: Arrays = {}
    narrow = []
    for name, entry in _safetensors().deserialize(content):
        if entry["dtype"] not in _SAFETENSORS:
            raise ValueError(f"{name} is stored as {entry['dtype']}, which NumPy lacks")
        array = np.frombuffer(bytes(entry["data"]), _SAFETENSORS[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            narrow.append(name)
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array
    if narrow:
        warn(f"weights in bfloat16 were converted; they keep its few digits: {', '.join(narrow)}", stacklevel=4)
    return arrays


def from_state_dict(
    state_dict: Mapping[str, Any],
    kind: str | None = None,
    *,
    prefix: str = "",
    nonlinearity: str | None = None,
    batch_first: bool = False,
    dtype: DTypeLike | None = None,
) -> Module:
    """Build the module that a state dict belongs to; kind, sizes, layers, directions, biases are read off the shapes.

    Parameters
    ----------
    state_dict : mapping of str to array_like or torch.Tensor
        Such as `load` gives it.
    kind : {"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "Linear", "Embedding"}, optional
        Needed only where the shapes leave it open: a lone weight is a Linear's without bias or an Embedding's.
    prefix : str
        Of the module inside a bigger model, such as "encoder.lstm".
    nonlinearity : {"tanh", "relu", "sigmoid", "identity"}
        Needed for an RNN: its parameters do not tell it.
    batch_first : bool
        Of a stack; not in its parameters either.
    dtype : float32 or float64, optional
        That of the parameters by default.

    Returns
    -------
    Module
        Of the kind and sizes found.

    Raises
    ------
    ValueError
        If these are no parameters of such a module, or leave open which.

    Warns
    -----
    UserWarning
        Where they hold NaN or infinity.

    Examples
    --------
    >>> from tinygrad_rnn.nn import LSTM, from_state_dict
    >>> from_state_dict(LSTM(3, 4, num_layers=2, bidirectional=True, rng=0).state_dict())
    LSTM(3, 4, num_layers=2, bidirectional=True)
    """
    arrays = _full_names(arrays_of(below(state_dict, prefix)))
    name = _kind(arrays) if kind is None else kind
    one_of("kind", name, KINDS)
    if name in ("RNN", "RNNCell") and nonlinearity is None:
        raise ValueError(f"the parameters of an {name} do not tell its nonlinearity: say nonlinearity='tanh' or 'relu'")
    if name not in ("RNN", "RNNCell") and nonlinearity is not None:
        raise ValueError(f"{name} has no nonlinearity to choose")
    sizes, options = _sizes_and_options(name, arrays)
    if nonlinearity is not None:
        options["nonlinearity"] = nonlinearity
    if flag("batch_first", batch_first):
        if not issubclass(KINDS[name], Stack):
            raise ValueError(f"batch_first is for RNN, LSTM and GRU, not for {name}")
        options["batch_first"] = True
    floats = [a.dtype for a in arrays.values() if a.dtype.kind == "f"]
    options["dtype"] = dtype if dtype is not None else (np.result_type(*floats) if floats else np.float64)
    options["rng"] = 0  # what it draws is replaced at once
    module: Module = KINDS[name](*sizes, **options)
    module.load_state_dict(arrays)
    if broken := [key for key, array in arrays.items() if not np.isfinite(array).all()]:
        warn(f"NaN or infinity in the weights {', '.join(broken)}: whatever trained them had diverged", stacklevel=2)
    return module


def _sizes_and_options(name: str, arrays: Mapping[str, NDArray[Any]]) -> tuple[tuple[int, ...], dict[str, Any]]:
    """What the constructor of a kind gets, as far as shapes tell it; whether all fits is seen when they are loaded."""
    stacked = issubclass(KINDS[name], Stack)
    recurrent = name.removesuffix("Cell") in _GATES
    first = arrays.get("weight_ih_l0" if stacked else "weight_ih" if recurrent else "weight")
    if first is None or first.ndim != 2:
        raise ValueError(f"these are no parameters of {name}: {', '.join(arrays)}")
    rows, columns = first.shape
    if stacked:
        layers = [int(found[1]) for key in arrays if (found := re.fullmatch(r"weight_ih_l(\d+)", key))]
        reverse, bias = "weight_ih_l0_reverse" in arrays, "bias_ih_l0" in arrays
        options: dict[str, Any] = {"num_layers": len(layers), "bidirectional": reverse, "bias": bias}
    else:
        options = {} if name == "Embedding" else {"bias": "bias_ih" in arrays or "bias" in arrays}
    if recurrent:
        return (columns, rows // _GATES[name.removesuffix("Cell")]), options
    return ((columns, rows) if name == "Linear" else (rows, columns)), options


_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def _kind(arrays: Mapping[str, NDArray[Any]]) -> str:
    """What the names and shapes of a state dict belong to."""
    for key, suffix in (("weight_hh_l0", ""), ("weight_hh", "Cell")):
        if key in arrays:
            shape = arrays[key].shape
            if "weight_hr_l0" in arrays:
                raise ValueError(f"an LSTM with a projection (proj_size) is not supported: {_PROJECTION}")
            for name, gates in _GATES.items():
                if len(shape) == 2 and shape[0] == gates * shape[1]:
                    return name + suffix
            raise ValueError(f"{key} of shape {shape} is no RNN's, GRU's or LSTM's: they have 1, 3 or 4 times H rows")
    if set(arrays) == {"weight", "bias"}:
        return "Linear"
    if set(arrays) == {"weight"}:
        raise ValueError("a lone weight is a Linear's without bias or an Embedding's: say kind='Linear' or 'Embedding'")
    places = recurrent_parts(arrays)
    where = f"; recurrent ones are under the prefix {', '.join(map(repr, places))}" if places else ""
    raise ValueError(f"not the parameters of one module of ours: {', '.join(arrays)}{where}")


def recurrent_parts(state_dict: Mapping[str, Any]) -> list[str]:
    """The prefixes of the recurrent modules inside a bigger model's state dict."""
    names = (name for name in state_dict if re.search(r"\.weight_hh(_l0)?$", name))
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))


def from_torch(module: Any) -> Module:
    """Our module with the parameters of one of PyTorch's, in its dtype; torch itself is not imported.

    Parameters
    ----------
    module : torch.nn.RNN, LSTM, GRU, RNNCell, LSTMCell, GRUCell, Linear or Embedding
        On any device; also parametrised, pruned, compiled, scripted or in a DataParallel: the weights that compute are
        read. Of a bigger model, give the part: ``from_torch(model.encoder.lstm)``.

    Returns
    -------
    Module

    Raises
    ------
    TypeError
        If it is another module, or has an option that we do not have.
    """
    module = _inside(module)
    name = _torch_kind(module)
    if name is None:
        kinds = {n: _torch_kind(m) for n, m in getattr(module, "named_modules", dict)() if n}
        parts = {n: kind for n, kind in kinds.items() if kind}
        inside = "; it has " + ", ".join(f"{n} ({kind})" for n, kind in parts.items()) if parts else ""
        line = f": give one, such as from_torch(model.get_submodule({next(iter(parts))!r}))" if parts else ""
        raise TypeError(
            f"from_torch takes one of torch.nn's {', '.join(KINDS)}, not {type(module).__name__}{inside}{line}"
        )
    if getattr(module, "proj_size", 0):
        raise TypeError(f"{name} has no proj_size here: {_PROJECTION}")
    refuse(name, {option: getattr(module, option) for option in ASKS_FOR_NOTHING if hasattr(module, option)})
    if issubclass(KINDS[name], Stack) and not hasattr(module, "batch_first"):
        line = "from_state_dict(module.state_dict(), batch_first=..., nonlinearity=...)"
        raise TypeError(f"a traced module does not tell its options: say them, {line}")
    ours = from_state_dict(
        _computing(module),
        name,
        nonlinearity=module.nonlinearity if name in ("RNN", "RNNCell") else None,
        batch_first=getattr(module, "batch_first", False),
    )
    if isinstance(ours, Stack):
        ours.dropout = float(module.dropout)
    return ours.train(module.training)


def _inside(module: Any) -> Any:
    """The module in what `torch.compile` or DataParallel has put around it."""
    while type(module).__name__ in ("OptimizedModule", "DataParallel", "DistributedDataParallel"):
        module = module._orig_mod if hasattr(module, "_orig_mod") else module.module
    return module


def _torch_kind(module: Any) -> str | None:
    """Which of ours one of PyTorch's modules is, also a subclass or a scripted one."""
    names = [base.__name__ for base in type(module).__mro__ if base.__module__.startswith("torch.nn.")]
    if hasattr(module, "original_name") and "__torch__.torch.nn." in module._c._type().qualified_name():
        names.append(module.original_name)
    return next((name for name in names if name in KINDS), None)


def _computing(module: Any) -> dict[str, Any]:
    """The parameters that compute, by their plain names, whatever they are made from: normalised, pruned."""
    state = module.state_dict()
    plain = [
        re.match(r"(?:parametrizations\.)?((?:weight|bias)(?:_[ih]h)?(?:_l\d+)?(?:_reverse)?)", key) for key in state
    ]
    names = list(dict.fromkeys(found[1] for found in plain if found))
    if set(names) == set(state):
        return dict(state)
    training = module.training
    module.eval()  # where a spectral norm does not go on
    try:
        for hook in module._forward_pre_hooks.values():  # older ones compute the weight before each pass
            if type(hook).__module__.startswith("torch.nn.utils."):
                hook(module, None)
        return {name: getattr(module, name) for name in names}
    finally:
        module.train(training)
