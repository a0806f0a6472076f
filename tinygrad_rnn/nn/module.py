"""Module: whatever has parameters, finds them by name, and takes them from PyTorch or gives them back.

After this file the reader knows that a model needs no registration: its parameters are the tensors among its
attributes, and those of its parts, under the dotted names that PyTorch gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from ..arguments import flag, mapping
from ..tensor import Tensor, as_array, unmasked

# What torch.nn takes and we do not, with the values that ask for nothing.
ASKS_FOR_NOTHING: dict[str, object] = {
    "proj_size": 0,
    "device": None,
    "padding_idx": None,
    "max_norm": None,
    "norm_type": 2.0,
    "scale_grad_by_freq": False,
    "sparse": False,
}


def refuse(owner: str, options: Mapping[str, object]) -> None:
    """Refuse what we do not have; a PyTorch option is let pass if its value asks for nothing."""
    for name, value in options.items():
        if name not in ASKS_FOR_NOTHING:
            raise TypeError(f"{owner} takes no option {name}=")
        if value != ASKS_FOR_NOTHING[name]:
            raise TypeError(f"{owner} has no {name}: PyTorch's {name}={value!r} would change what is computed")


class Module:
    """Whatever has parameters. Its tensors, and those of modules, lists and dicts among its attributes, are found.

    Attributes that begin with an underscore are not looked at.

    Examples
    --------
    >>> from tinygrad_rnn.nn import LSTM, Linear, Module
    >>> class Model(Module):
    ...     def __init__(self):
    ...         self.lstm = LSTM(3, 4, rng=0)
    ...         self.head = Linear(4, 1, rng=1)
    ...
    ...     def __call__(self, x):
    ...         outputs, _ = self.lstm(x)
    ...         return self.head(outputs[-1])
    >>> list(Model().parameters())[-3:]
    ['lstm.bias_hh_l0', 'head.weight', 'head.bias']
    """

    training = True

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter under every name that leads to it, in the order of the attributes."""
        for name, value in vars(self).items():
            if not name.startswith("_"):
                yield from _within(name, value)

    def parameters(self) -> dict[str, Tensor]:
        """The parameters by PyTorch's names; one that has two names, by its first."""
        return once(self.named_tensors())

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of the parameters' arrays by PyTorch's names."""
        return {name: np.array(tensor.data) for name, tensor in self.named_tensors()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Take over parameters, such as those of a `torch.nn` module; all of them or, if anything does not fit, none.

        Parameters
        ----------
        state_dict : mapping of str to array_like or torch.Tensor
            In PyTorch's names and shapes, on any device; converted to the dtype of each parameter.
        strict : bool
            Whether missing and unexpected names are errors, as in PyTorch; a wrong shape always is.

        Raises
        ------
        ValueError
            Listing every missing, unexpected and wrongly shaped entry, those that are no real numbers, and those that
            give one tensor of two names two values.

        Warns
        -----
        UserWarning
            Where half precision or bfloat16 was converted.
        """
        arrays, strict = arrays_of(state_dict), flag("strict", strict)
        own = dict(self.named_tensors())
        wrong = [f"missing {name} {p.shape}" for name, p in own.items() if name not in arrays] if strict else []
        wrong += [f"unexpected {name} {a.shape}" for name, a in arrays.items() if name not in own] if strict else []
        for name in own.keys() & arrays.keys():
            array, parameter = arrays[name], own[name]
            if array.shape != parameter.shape:
                wrong.append(f"{name} has shape {array.shape}, not {parameter.shape}")
            if array.dtype.kind not in "fiu":
                wrong.append(f"{name} holds {array.dtype}, not real numbers")
            if not parameter.is_leaf:
                wrong.append(f"{name} is no parameter here but a result that the module keeps")
        wrong = wrong or [
            f"{first} and {name} are one tensor here, and differ"
            for name, first in twice((name, own[name]) for name in arrays if name in own)
            if not np.array_equal(arrays[name], arrays[first], equal_nan=True)
        ]
        if wrong:
            raise ValueError(f"state dict does not fit {self!r}: " + "; ".join(sorted(wrong)))
        converted = {name: array.astype(own[name].dtype) for name, array in arrays.items() if name in own}
        for name, array in converted.items():
            own[name].data = array

    def train(self, mode: bool = True) -> Self:
        """Switch dropout on, here and in all parts; returns the module."""
        self.training = flag("mode", mode)
        for value in vars(self).values():
            for part in _parts(value):
                part.train(mode)
        return self

    def eval(self) -> Self:
        """Switch dropout off, here and in all parts; returns the module."""
        return self.train(False)


def twice(named: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, str]]:
    """Each name of a tensor that had a name before, and that first one."""
    first: dict[int, str] = {}
    for name, tensor in named:
        if first.setdefault(id(tensor), name) != name:
            yield name, first[id(tensor)]


def refuse_twice(named: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse a tensor under two names, for whoever would count it twice."""
    for name, first in twice(named):
        raise ValueError(
            f"parameters {first} and {name} are the same tensor, which would count twice: give it once, under one name "
            "(as the parameters() of a Module does with tied weights)"
        )


def once(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors by name; one that has two names, by its first."""
    tensors = dict(named)
    again = dict(twice(tensors.items()))
    return {name: tensor for name, tensor in tensors.items() if name not in again}


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """What a list, tuple or dict holds, by name."""
    if isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((str(k), item) for k, item in enumerate(value))


def _within(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The parameters in one attribute."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Module):
        yield from ((f"{name}.{rest}", tensor) for rest, tensor in value.named_tensors())
    elif callable(getattr(value, "parameters", None)) and not isinstance(value, type):  # a cell of one's own
        yield from ((f"{name}.{rest}", tensor) for rest, tensor in value.parameters().items())
    else:
        for rest, item in _items(value):
            yield from _within(f"{name}.{rest}", item)


def _parts(value: Any) -> Iterator[Module]:
    """The modules in one attribute."""
    if isinstance(value, Module):
        yield value
    for _, item in _items(value):
        yield from _parts(item)


def arrays_of(state_dict: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """A state dict as NumPy arrays: tensors detached and brought to the CPU, narrow floats widened with a warning.

    Raises
    ------
    TypeError, ValueError
        If it is no mapping, or an entry has no data that NumPy can hold.
    """
    narrow: dict[str, str] = {}
    arrays = {name: _array_of(name, value, narrow) for name, value in mapping("state_dict", state_dict).items()}
    if narrow:
        kinds = ", ".join(sorted(set(narrow.values())))
        warn(f"weights in {kinds} were converted; they keep its few digits: {', '.join(narrow)}", stacklevel=3)
    return arrays


def _array_of(name: str, value: Any, narrow: dict[str, str]) -> NDArray[Any]:
    """One entry as an array. A tensor of torch is known by its methods, so that torch need not be there."""
    try:
        if hasattr(value, "detach") and hasattr(value, "cpu"):
            value, kind = value.detach().cpu(), str(value.dtype).removeprefix("torch.")
            if "float" in kind and kind not in ("float32", "float64"):
                value, narrow[name] = value.float(), kind
            value = value.numpy()
        array = np.asarray(unmasked(value))
        if array.dtype == np.float16:
            array, narrow[name] = array.astype(np.float32), "float16"
        return as_array(array) if array.dtype.kind in "fiu" else array
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on torch's meta device, a ragged list
        raise ValueError(f"{name} cannot be read as an array of numbers: {error}") from error
