"""Optimisers: how a gradient becomes a step, with PyTorch's formulas, defaults and state.

After this file the reader knows each update as a few lines of arithmetic on arrays: no graph is involved any more.
Clipping, which acts on the gradients before the step, stands at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import BELOW_1, FROM_0_TO_1, NOT_NEGATIVE, POSITIVE, mapping, number, refusal
from ..nn.module import arrays_of, refuse_twice
from ..norms import norm_of
from ..tensor import Tensor

Array = NDArray[Any]
Slots = dict[str, Array]  # what an optimiser remembers of one parameter


def named(parameters: Any) -> dict[str, Tensor]:
    """Parameters by name: those of a module or cell, of a mapping, or of a sequence, by position.

    Raises
    ------
    TypeError
        For anything that is no leaf with a gradient.
    ValueError
        If there are none, or one is there twice.
    """
    if callable(getattr(parameters, "parameters", None)):
        parameters = parameters.parameters()
    if not isinstance(parameters, Mapping):
        try:
            tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        except TypeError:
            raise refusal("parameters", parameters, "a module, a mapping of names to Tensors, or a list") from None
        parameters = {str(k): tensor for k, tensor in enumerate(tensors)}
    if not parameters:
        raise ValueError("there are no parameters to train")
    for name, tensor in parameters.items():
        if not (isinstance(tensor, Tensor) and tensor.requires_grad and tensor.is_leaf):
            raise TypeError(f"parameter {name} is no Tensor with requires_grad=True that was made by hand")
    refuse_twice(parameters.items())
    return dict(parameters)


RANGES = {"momentum": FROM_0_TO_1, "alpha": BELOW_1}  # any other: zero or more


def _checked(name: str, value: Any) -> Any:
    """An option as Python's own number, or pair of numbers."""
    if name != "betas":
        return number(name, value, RANGES.get(name, NOT_NEGATIVE))
    try:
        one, two = value[:]  # in their order: a set has none
    except (KeyError, TypeError, ValueError):
        raise refusal(name, value, "two numbers from 0 to below 1") from None
    return number("betas[0]", one, BELOW_1), number("betas[1]", two, BELOW_1)


class Optimiser:
    """What the optimisers share: the parameters, what is remembered of each, and how that is saved.

    Parameters
    ----------
    parameters : module, cell, mapping of str to Tensor, or sequence of Tensor
    lr : float
        Learning rate; may be assigned during training.
    weight_decay : float
        Adds weight_decay · θ to the gradient.

    Attributes
    ----------
    state : dict of str to dict of str to array
        By parameter, under the names that `torch.optim` uses.

    Raises
    ------
    TypeError, ValueError
        For a setting that is given a wrong value, naming it; for a tensor that has two names, naming both.
    """

    def __init__(self, parameters: Any, lr: float, weight_decay: float = 0.0, **options: Any) -> None:
        self.parameters = named(parameters)
        self.lr, self.weight_decay = lr, _checked("weight_decay", weight_decay)
        self.options = {name: _checked(name, value) for name, value in options.items()}
        self.state: dict[str, Slots] = {}

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = number("lr", value, NOT_NEGATIVE)

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            g = parameter.grad.data
            if self.weight_decay:
                g = g + self.weight_decay * parameter.data
            slots = self.state.setdefault(name, {})
            slots["step"] = np.asarray(slots.get("step", 0.0) + 1.0)
            parameter.data = parameter.data - self.change(g, slots, **self.options)

    def change(self, g: Array, slots: Slots, **options: Any) -> Array:
        """What is subtracted from a parameter whose gradient is g; updates the slots, all of them from the first on."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Forget the gradients, which otherwise add up."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def state_dict(self) -> dict[str, Array]:
        """Everything that is remembered, as ``"parameter/slot"`` to array, ``"lr"``, and the ``"kind"`` in letters."""
        slots = {f"{name}/{slot}": array.copy() for name, own in self.state.items() for slot, array in own.items()}
        return slots | {"lr": np.array(self.lr), "kind": np.array(list(type(self).__name__.encode()), np.uint8)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what another optimiser of the same kind, for the same parameters, remembers; all of it or nothing.

        Raises
        ------
        ValueError
            If it is another kind's, listing every entry that is missing, belongs to no parameter, has another shape or
            holds what cannot be.
        """
        given = dict(mapping("state_dict", state_dict))
        kind = np.asarray(given.pop("kind", [])).tobytes().decode(errors="replace")
        if kind not in ("", type(self).__name__):  # "": saved before there was such an entry
            raise ValueError(f"this state is that of {kind}: it does not fit {self!r}, which is another kind")
        begun = {key.rpartition("/")[0] for key in given}
        own = {name: self._slots_of(p) for name, p in self.parameters.items() if name in begun}
        wanted = {"lr": np.array(0.0)} | {
            f"{name}/{slot}": a for name, slots in own.items() for slot, a in slots.items()
        }
        wrong = [f"missing {key}" for key in wanted.keys() - given.keys()]
        wrong += [f"unexpected {key}" for key in given.keys() - wanted.keys()]
        arrays = arrays_of({key: given[key] for key in wanted if key in given})
        wrong += [f"{key} {fault}" for key, array in arrays.items() if (fault := _fault(key, array, wanted[key].shape))]
        if wrong:
            raise ValueError(f"state dict does not fit {self!r}: {'; '.join(sorted(wrong))}")
        self.lr = float(arrays["lr"])
        self.state = {
            name: {slot: arrays[f"{name}/{slot}"].astype(like.dtype) for slot, like in slots.items()}
            for name, slots in own.items()
        }

    def _slots_of(self, parameter: Tensor) -> Slots:
        """What this kind remembers of a parameter, as a first step would make it."""
        slots = {"step": np.array(1.0)}
        with np.errstate(all="ignore"):
            self.change(np.zeros_like(parameter.data), slots, **self.options)
        return slots

    def __repr__(self) -> str:
        options = {"lr": self.lr, **self.options, "weight_decay": self.weight_decay}
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in options.items())})"


def _fault(key: str, array: Array, shape: tuple[int, ...]) -> str:
    """What is wrong with an entry of a state dict; "" if nothing is."""
    slot = key.rpartition("/")[2]
    if array.shape != shape:
        return f"has shape {array.shape}, not {shape}"
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        return "holds what is no finite number"
    if slot == "step" and (array < 1 or array % 1):
        return f"is {array}, not a whole number of steps"
    return "is negative" if slot in ("lr", "sum", "square_avg", "exp_avg_sq") and (array < 0).any() else ""


class SGD(Optimiser):
    """Gradient descent: θ ← θ - lr g. With momentum μ, v ← μ v + g takes the place of g.

    Parameters
    ----------
    parameters : module, cell, mapping of str to Tensor, or sequence of Tensor
    lr, momentum, weight_decay : float

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.train import SGD
    >>> w = tg.Tensor(3.0, requires_grad=True)
    >>> optimiser = SGD([w], lr=0.1)
    >>> (w * w).backward()
    >>> optimiser.step()
    >>> round(float(w.data), 12)
    2.4
    """

    def __init__(self, parameters: Any, lr: float = 1e-3, momentum: float = 0.0, *, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, lr, weight_decay, momentum=momentum)

    def change(self, g: Array, slots: Slots, **options: Any) -> Array:
        """The learning rate times the gradient, or times its running sum."""
        if options["momentum"]:
            slots["momentum_buffer"] = g = options["momentum"] * slots.get("momentum_buffer", np.zeros_like(g)) + g
        return self.lr * g


class Adagrad(Optimiser):
    """θ ← θ - lr g / (√Σg² + ε), the sum over all steps so far (Duchi, Hazan and Singer 2011).

    Parameters
    ----------
    parameters : module, cell, mapping of str to Tensor, or sequence of Tensor
    lr, weight_decay, eps : float
    """

    def __init__(self, parameters: Any, lr: float = 1e-2, *, weight_decay: float = 0.0, eps: float = 1e-10) -> None:
        super().__init__(parameters, lr, weight_decay, eps=eps)

    def change(self, g: Array, slots: Slots, **options: Any) -> Array:
        """The learning rate times the gradient over the root of all its squares."""
        slots["sum"] = slots.get("sum", np.zeros_like(g)) + g * g
        return np.asarray(self.lr * g / (np.sqrt(slots["sum"]) + options["eps"]))


class RMSprop(Optimiser):
    """θ ← θ - lr g / (√v + ε), v a running mean of g² (Tieleman and Hinton 2012).

    Parameters
    ----------
    parameters : module, cell, mapping of str to Tensor, or sequence of Tensor
    lr, alpha, eps, weight_decay : float
        v ← alpha v + (1 - alpha) g².
    """

    def __init__(
        self, parameters: Any, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, *, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, lr, weight_decay, alpha=alpha, eps=eps)

    def change(self, g: Array, slots: Slots, **options: Any) -> Array:
        """The learning rate times the gradient over its usual size."""
        alpha = options["alpha"]
        slots["square_avg"] = v = alpha * slots.get("square_avg", np.zeros_like(g)) + (1 - alpha) * g * g
        return np.asarray(self.lr * g / (np.sqrt(v) + options["eps"]))


class Adam(Optimiser):
    """θ ← θ - lr m̂ / (√v̂ + ε), running means of g and g², each corrected for its start at zero (Kingma and Ba 2015).

    Parameters
    ----------
    parameters : module, cell, mapping of str to Tensor, or sequence of Tensor
    lr : float
    betas : (float, float)
        m ← β₁ m + (1 - β₁) g, v ← β₂ v + (1 - β₂) g².
    eps, weight_decay : float
    """

    def __init__(
        self,
        parameters: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay, betas=betas, eps=eps)

    def change(self, g: Array, slots: Slots, **options: Any) -> Array:
        """The learning rate times the mean gradient over its usual size."""
        (b1, b2), t = options["betas"], float(slots["step"])
        slots["exp_avg"] = m = b1 * slots.get("exp_avg", np.zeros_like(g)) + (1 - b1) * g
        slots["exp_avg_sq"] = v = b2 * slots.get("exp_avg_sq", np.zeros_like(g)) + (1 - b2) * g * g
        change: Array = self.lr / (1 - b1**t) * m / (np.sqrt(v) / np.sqrt(1 - b2**t) + options["eps"])
        return change


OPTIMISERS: dict[str, type[Optimiser]] = {kind.__name__.lower(): kind for kind in Optimiser.__subclasses__()}
"""Every optimiser of this file, by its name on the command line; `tests/test_lists.py` says what else must know it."""


# --- clipping ---


def grad_norm(parameters: Any) -> float:
    """The L2 norm of all gradients taken as one long vector, without overflow on the way.

    Parameters
    ----------
    parameters : module, cell, mapping of str to Tensor, or sequence of Tensor

    Returns
    -------
    float
        Zero if no parameter has a gradient.
    """
    sizes = [norm_of(p.grad.data) for p in named(parameters).values() if p.grad is not None]
    return norm_of(np.array(sizes))


def clip_grad_norm(parameters: Any, max_norm: float) -> float:
    """Shorten the gradient, taken as one vector over all parameters, to `max_norm` where it is longer.

    Its direction stays (Pascanu, Mikolov and Bengio 2013: g ← g · max_norm / ‖g‖).

    Parameters
    ----------
    parameters : module, cell, mapping of str to Tensor, or sequence of Tensor
    max_norm : float
        Positive.

    Returns
    -------
    float
        The norm before.

    Raises
    ------
    FloatingPointError
        If a gradient is infinite or NaN: it has no direction left.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.train import clip_grad_norm
    >>> w = tg.Tensor([3.0, 4.0], requires_grad=True)
    >>> tg.sum(w * w).backward()
    >>> clip_grad_norm([w], 1.0)
    10.0
    >>> w.grad
    Tensor([0.6, 0.8])
    """
    max_norm = number("max_norm", max_norm, POSITIVE)
    tensors = named(parameters)
    norm = grad_norm(tensors)
    if not np.isfinite(norm):
        raise FloatingPointError(f"the gradient's norm is {norm}: clipping cannot mend what has no direction")
    if norm > max_norm:
        for tensor in tensors.values():
            if tensor.grad is not None:
                tensor.grad = Tensor(tensor.grad.data * (max_norm / norm))
    return norm


def clip_grad_value(parameters: Any, limit: float) -> None:
    """Bring every element of the gradients into ±limit; the direction may change (`clip_grad_norm` keeps it).

    Parameters
    ----------
    parameters : module, cell, mapping of str to Tensor, or sequence of Tensor
    limit : float
        Positive.

    Raises
    ------
    ValueError
        If the limit is not positive.
    """
    limit = number("limit", limit, POSITIVE)
    for tensor in named(parameters).values():
        if tensor.grad is not None:
            tensor.grad = Tensor(np.clip(tensor.grad.data, -limit, limit))
