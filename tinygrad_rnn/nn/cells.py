"""Recurrent cells: one step of an RNN, LSTM or GRU, in the notation of the papers, with PyTorch's parameters.

After this file the reader knows that a cell is nothing but a function ``cell(x, state) -> state`` with parameters;
`unroll` repeats it. Parameter names, shapes, gate order (i, f, g, o; r, z, n) and both biases are those of `torch.nn`,
so weights go in and out unchanged. Whatever is a tensor attribute of a cell is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..arguments import flag, float_type, generator, numbers, one_of, whole
from ..ops import affine, linear, relu, sigmoid, tanh
from ..scope import scope
from ..tensor import SWEPT, Tensor
from .init import WEIGHTS, Initialiser, chrono, initialisers
from .module import Module, refuse
from .unroll import warn_if_swept

NONLINEARITIES: dict[str, Callable[[Any], Any]] = {
    "tanh": tanh,
    "relu": relu,
    "sigmoid": sigmoid,
    "identity": lambda z: z,
}
"""What an `RNNCell` may be built with; what else must know of a name, `tests/test_lists.py` says."""

Rng: TypeAlias = "np.random.Generator | int | None"
Init = str | Mapping[str, Initialiser]

INPUT, FORGET, CANDIDATE, OUTPUT = scope("input"), scope("forget"), scope("candidate"), scope("output")
RESET, UPDATE = scope("reset"), scope("update")


class Cell(Module):
    """What the cells share: the parameters and how they are drawn. A cell of your own need not inherit from it.

    Parameters
    ----------
    input_size, hidden_size : int
        Sizes I and H.
    gates : int
        Blocks of H rows in the weights.
    bias : bool
        Whether there are biases.
    dtype : float32 or float64
    rng : numpy.random.Generator
        Where the initial parameters come from.
    init : {"pytorch", "keras", "chrono"} or dict of initialisers by parameter name
        "pytorch": all U(-1/√H, 1/√H).

    Raises
    ------
    TypeError, ValueError
        For an option that is given a wrong value, naming it.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Any  # without biases, zeros that are no Tensor and so no parameter
    bias_hh: Any

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        gates: int,
        bias: bool,
        dtype: DTypeLike,
        rng: np.random.Generator,
        init: Init,
    ) -> None:
        self.input_size = input_size = whole("input_size", input_size, 1)
        self.hidden_size = hidden_size = whole("hidden_size", hidden_size, 1)
        bias, self.dtype = flag("bias", bias), float_type("dtype", dtype)
        draw, rows = initialisers(init, hidden_size), gates * hidden_size
        for name, shape in zip(WEIGHTS, ((rows, input_size), (rows, hidden_size), (rows,), (rows,)), strict=True):
            if bias or name.startswith("weight"):
                drawn = numbers(f"init[{name!r}](rng, {shape})", draw[name](rng, shape), shape)
                array = np.broadcast_to(drawn, shape).astype(self.dtype)
                setattr(self, name, Tensor(array, requires_grad=True, name=name))
            else:
                setattr(self, name, np.zeros(shape, np.float32))  # the narrowest, so that it widens nothing

    def _gate(self, k: int) -> tuple[Any, ...]:
        """The index that cuts gate k out of what all gates have in common."""
        return ..., slice(k * self.hidden_size, (k + 1) * self.hidden_size)

    def _set_bias(self, name: str, gate: tuple[Any, ...], bias: ArrayLike | None) -> None:
        """Let a gate's two biases add up to something: b_ih is set to it and b_hh to zero."""
        if bias is None:
            return
        total = numbers(name, bias, (self.hidden_size,))
        if not isinstance(self.bias_ih, Tensor):
            raise TypeError(f"{name}= needs bias=True: {self!r} has no biases")
        for parameter, value in ((self.bias_ih, total), (self.bias_hh, 0.0)):
            array = np.array(parameter.data)
            array[gate] = value
            parameter.data = array

    def _zeros(self, name: str, batch: int | None) -> Tensor:
        shape = (self.hidden_size,) if batch is None else (whole("batch", batch), self.hidden_size)
        return Tensor(np.zeros(shape, self.dtype), name=name)

    def initial_state(self, batch: int | None = None) -> Any:
        """h₀: zeros of shape (batch, H), or (H,) without a batch."""
        return self._zeros("h0", batch)

    def told(self) -> str:
        """What its repr says beside the sizes: all that changes what is computed, where it is not the default."""
        said = {"nonlinearity": "tanh", "forget_gate": True}
        found = {name: getattr(self, name) for name, usual in said.items() if getattr(self, name, usual) != usual}
        found |= {} if isinstance(self.bias_ih, Tensor) else {"bias": False}
        return "".join(f", {name}={value!r}" for name, value in found.items())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}{self.told()})"


class RNNCell(Cell):
    """Elman's simple recurrent network (1990): h' = φ(W_ih x + b_ih + W_hh h + b_hh).

    Parameters
    ----------
    input_size, hidden_size : int
    nonlinearity : {"tanh", "relu", "sigmoid", "identity"}
    dtype : float32 or float64
    rng : numpy.random.Generator or int, optional
    bias : bool
    init : {"pytorch", "keras"} or dict of initialisers by parameter name

    Raises
    ------
    TypeError, ValueError
        For an option that is given a wrong value, naming it; for ``init="chrono"``, which needs gates.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> cell = tg.RNNCell(3, 4, rng=0)
    >>> h = cell(np.ones((2, 3)), cell.initial_state(2))
    >>> h.shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        nonlinearity: str = "tanh",
        dtype: DTypeLike = np.float64,
        rng: Rng = None,
        *,
        bias: bool = True,
        init: Init = "pytorch",
        **unknown: object,
    ) -> None:
        refuse("RNNCell", unknown)
        self.nonlinearity = one_of("nonlinearity", nonlinearity, NONLINEARITIES)
        super().__init__(input_size, hidden_size, 1, bias, dtype, generator("rng", rng), init)
        if init == "chrono":
            raise ValueError("chrono sets the biases of gates, and an RNNCell has none: use an LSTM or a GRU")

    def __call__(self, x: Any, state: Tensor) -> Tensor:
        """One step: x of shape (B, I) and h of shape (B, H) give the next h; both may lack the batch axis."""
        if type(state) is Tensor and state._grad is SWEPT:  # type: ignore[redundant-expr]  # or a tracer
            warn_if_swept(self, state, stacklevel=3)
        z = affine(x, self.weight_ih, self.bias_ih, state, self.weight_hh, self.bias_hh)
        h: Tensor = NONLINEARITIES[self.nonlinearity](z)
        h.name = "h"
        return h


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate (Gers et al. 2000).

    i, f, o = σ(...), g = tanh(...), c' = f × c + i × g, h' = o × tanh(c').

    Parameters
    ----------
    input_size, hidden_size : int
    forget_bias, input_bias : float or array of shape (H,), optional
        What the gate's two biases add up to: b_ih is set to it and b_hh to zero. Default: both as `init` draws them.
    dtype : float32 or float64
    rng : numpy.random.Generator or int, optional
    bias : bool
    forget_gate : bool
        Without it this is the LSTM of 1997, f = 1: c' = c + i × g. Its weights have 3 H rows (i, g, o).
    init : {"pytorch", "keras", "chrono"} or dict of initialisers by parameter name
        "keras" sets the forget bias to 1, "chrono" both gate biases to `init.chrono(rng, H, t_max)`.
    t_max : int
        For "chrono": the longest lag that the task needs.

    Raises
    ------
    TypeError, ValueError
        For an option that is given a wrong value, naming it; for a bias of a gate that has none.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> cell = tg.LSTMCell(3, 4, forget_bias=1.0, rng=0)
    >>> h, c = cell(np.ones((2, 3)), cell.initial_state(2))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        forget_bias: ArrayLike | None = None,
        input_bias: ArrayLike | None = None,
        dtype: DTypeLike = np.float64,
        rng: Rng = None,
        *,
        bias: bool = True,
        forget_gate: bool = True,
        init: Init = "pytorch",
        t_max: int = 100,
        **unknown: object,
    ) -> None:
        refuse("LSTMCell", unknown)
        self.forget_gate = forget_gate = flag("forget_gate", forget_gate)
        t_max, rng = whole("t_max", t_max, 2), generator("rng", rng)
        super().__init__(input_size, hidden_size, 4 if forget_gate else 3, bias, dtype, rng, init)
        if not forget_gate and (forget_bias is not None or init == "chrono"):
            raise ValueError("forget_gate=False leaves no forget bias to set")
        self._i, self._f = self._gate(0), self._gate(1)
        self._g, self._o = (self._gate(2), self._gate(3)) if forget_gate else (self._gate(1), self._gate(2))
        if init == "keras" and forget_gate and bias:
            forget_bias = 1.0 if forget_bias is None else forget_bias
        elif init == "chrono":
            forget, closed = chrono(rng, hidden_size, t_max)
            forget_bias = forget if forget_bias is None else forget_bias
            input_bias = closed if input_bias is None else input_bias
        self._set_bias("input_bias", self._i, input_bias)
        self._set_bias("forget_bias", self._f, forget_bias)

    def initial_state(self, batch: int | None = None) -> tuple[Tensor, Tensor]:
        """(h₀, c₀): zeros of shape (batch, H), or (H,) without a batch."""
        return self._zeros("h0", batch), self._zeros("c0", batch)

    def __call__(self, x: Any, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One step: x of shape (B, I) and (h, c), each (B, H), give the next (h, c); all may lack the batch axis."""
        h, c = state
        if type(h) is Tensor and h._grad is SWEPT:  # type: ignore[redundant-expr]  # or a tracer
            warn_if_swept(self, h, stacklevel=3)
        z = affine(x, self.weight_ih, self.bias_ih, h, self.weight_hh, self.bias_hh)
        with INPUT:
            i = sigmoid(z[self._i])
        if self.forget_gate:
            with FORGET:
                f = sigmoid(z[self._f])
        with CANDIDATE:
            g = tanh(z[self._g])
        with OUTPUT:
            o = sigmoid(z[self._o])
        if self.forget_gate:
            f.name, c = "f", f * c + i * g
        else:
            c = c + i * g
        h = o * tanh(c)
        i.name, g.name, o.name, c.name, h.name = "i", "g", "o", "c", "h"
        return h, c


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014), in PyTorch's form: the reset gate acts after the matrix product.

    r, z = σ(...), n = tanh(W_in x + b_in + r × (W_hn h + b_hn)), h' = (1 - z) × n + z × h. Here z = 1 remembers, as in
    PyTorch and Keras; Chung et al. 2014 swap z and 1 - z.

    Parameters
    ----------
    input_size, hidden_size : int
    update_bias : float or array of shape (H,), optional
        What the update gate's two biases add up to: b_ih is set to it and b_hh to zero; a high one remembers.
    dtype : float32 or float64
    rng : numpy.random.Generator or int, optional
    bias : bool
    init : {"pytorch", "keras", "chrono"} or dict of initialisers by parameter name
        "chrono" sets the update bias to log u, as an LSTM's forget bias.
    t_max : int
        For "chrono": the longest lag that the task needs.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.nn import GRUCell
    >>> cell = GRUCell(3, 4, rng=0)
    >>> cell(np.ones((2, 3)), cell.initial_state(2)).shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        update_bias: ArrayLike | None = None,
        dtype: DTypeLike = np.float64,
        rng: Rng = None,
        *,
        bias: bool = True,
        init: Init = "pytorch",
        t_max: int = 100,
        **unknown: object,
    ) -> None:
        refuse("GRUCell", unknown)
        t_max, rng = whole("t_max", t_max, 2), generator("rng", rng)
        super().__init__(input_size, hidden_size, 3, bias, dtype, rng, init)
        self._r, self._z, self._n = self._gate(0), self._gate(1), self._gate(2)
        if init == "chrono" and update_bias is None:
            update_bias, _ = chrono(rng, hidden_size, t_max)
        self._set_bias("update_bias", self._z, update_bias)

    def __call__(self, x: Any, state: Tensor) -> Tensor:
        """One step: x of shape (B, I) and h of shape (B, H) give the next h; both may lack the batch axis."""
        if type(state) is Tensor and state._grad is SWEPT:  # type: ignore[redundant-expr]  # or a tracer
            warn_if_swept(self, state, stacklevel=3)
        from_x = linear(x, self.weight_ih, self.bias_ih)
        from_h = linear(state, self.weight_hh, self.bias_hh)
        with RESET:
            r = sigmoid(from_x[self._r] + from_h[self._r])
        with UPDATE:
            z = sigmoid(from_x[self._z] + from_h[self._z])
        with CANDIDATE:
            n = tanh(from_x[self._n] + r * from_h[self._n])
        h: Tensor = (1 - z) * n + z * state
        r.name, z.name, n.name, h.name = "r", "z", "n", "h"
        return h


CELLS = (RNNCell, LSTMCell, GRUCell)
"""Those whose repr says all that they are but for their parameters."""
