"""Recurrent cells: one step of an RNN or LSTM, in the notation of the papers, with PyTorch's parameters.

After this file the reader knows that a cell is nothing but a function ``cell(x, state) -> state`` with parameters;
`unroll` repeats it. Parameter names, shapes, gate order (i, f, g, o) and both biases are those of `torch.nn`, so
weights go in and out unchanged. Whatever is a tensor attribute of a cell is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..ops import affine, relu, sigmoid, tanh
from ..scope import scope
from ..tensor import Tensor

NONLINEARITIES: dict[str, Callable[[Any], Any]] = {
    "tanh": tanh,
    "relu": relu,
    "sigmoid": sigmoid,
    "identity": lambda z: z,
}


INPUT, FORGET, CANDIDATE, OUTPUT = scope("input"), scope("forget"), scope("candidate"), scope("output")


class Cell:
    """What the cells share: parameters by name, in and out. A cell of your own need not inherit from it.

    Parameters
    ----------
    input_size, hidden_size : int
        Sizes I and H.
    rows : int
        Rows of the weights: H per gate.
    dtype : float32 or float64
    rng : numpy.random.Generator or int, optional
        Where the initial weights come from. All are U(-1/√H, 1/√H), PyTorch's default.
    """

    def __init__(
        self, input_size: int, hidden_size: int, rows: int, dtype: DTypeLike, rng: np.random.Generator | int | None
    ) -> None:
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"sizes must be positive, not input_size={input_size}, hidden_size={hidden_size}")
        self.input_size, self.hidden_size, self.dtype = input_size, hidden_size, np.dtype(dtype)
        rng = np.random.default_rng(rng)
        bound = 1 / np.sqrt(hidden_size)

        def uniform(name: str, *shape: int) -> Tensor:
            return Tensor(rng.uniform(-bound, bound, shape).astype(self.dtype), requires_grad=True, name=name)

        self.weight_ih = uniform("weight_ih", rows, input_size)
        self.weight_hh = uniform("weight_hh", rows, hidden_size)
        self.bias_ih = uniform("bias_ih", rows)
        self.bias_hh = uniform("bias_hh", rows)

    def parameters(self) -> dict[str, Tensor]:
        """The parameters by PyTorch's names."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of the parameters' arrays by PyTorch's names."""
        return {name: np.array(value.data) for name, value in self.parameters().items()}

    def load_state_dict(self, state_dict: Mapping[str, ArrayLike]) -> None:
        """Take over parameters, such as those of a `torch.nn` cell; all of them or, if anything does not fit, none.

        Parameters
        ----------
        state_dict : mapping of str to array_like
            Arrays, or anything that NumPy can read, in PyTorch's shapes; converted to the cell's dtype.

        Raises
        ------
        ValueError
            Listing every missing, unexpected and wrongly shaped entry.
        """
        parameters = self.parameters()
        arrays = {
            name: np.asarray(value.detach() if hasattr(value, "detach") else value)
            for name, value in state_dict.items()
        }
        wrong = [f"missing {name} {p.shape}" for name, p in parameters.items() if name not in arrays]
        wrong += [f"unexpected {name} {a.shape}" for name, a in arrays.items() if name not in parameters]
        wrong += [
            f"{name} has shape {a.shape}, not {parameters[name].shape}"
            for name, a in arrays.items()
            if name in parameters and a.shape != parameters[name].shape
        ]
        if wrong:
            raise ValueError(f"state dict does not fit {self!r}: " + "; ".join(wrong))
        for name, array in arrays.items():
            parameters[name].data = array

    def _zeros(self, name: str, batch: int | None) -> Tensor:
        shape = (self.hidden_size,) if batch is None else (batch, self.hidden_size)
        return Tensor(np.zeros(shape, self.dtype), name=name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size})"


class RNNCell(Cell):
    """Elman's simple recurrent network (1990): h' = φ(W_ih x + b_ih + W_hh h + b_hh).

    Parameters
    ----------
    input_size, hidden_size : int
    nonlinearity : {"tanh", "relu", "sigmoid", "identity"}
    dtype : float32 or float64
    rng : numpy.random.Generator or int, optional

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
        rng: np.random.Generator | int | None = None,
    ) -> None:
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity {nonlinearity!r} is none of {', '.join(NONLINEARITIES)}")
        super().__init__(input_size, hidden_size, hidden_size, dtype, rng)
        self.nonlinearity = nonlinearity

    def initial_state(self, batch: int | None = None) -> Tensor:
        """h₀: zeros of shape (batch, H), or (H,) without a batch."""
        return self._zeros("h0", batch)

    def __call__(self, x: Any, state: Tensor) -> Tensor:
        """One step: x of shape (B, I) and h of shape (B, H) give the next h; both may lack the batch axis."""
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
        What the gate's two biases add up to: b_ih is set to it and b_hh to zero. Default: both stay random, as in
        PyTorch.
    dtype : float32 or float64
    rng : numpy.random.Generator or int, optional

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
        rng: np.random.Generator | int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, 4 * hidden_size, dtype, rng)
        self._i, self._f, self._g, self._o = [(..., slice(k * hidden_size, (k + 1) * hidden_size)) for k in range(4)]
        for rows, bias in ((self._i, input_bias), (self._f, forget_bias)):
            if bias is not None:
                self._set_bias(rows, bias)

    def _set_bias(self, rows: tuple[Any, ...], bias: ArrayLike) -> None:
        for parameter, value in ((self.bias_ih, bias), (self.bias_hh, 0.0)):
            array = np.array(parameter.data)
            array[rows] = value
            parameter.data = array

    def initial_state(self, batch: int | None = None) -> tuple[Tensor, Tensor]:
        """(h₀, c₀): zeros of shape (batch, H), or (H,) without a batch."""
        return self._zeros("h0", batch), self._zeros("c0", batch)

    def __call__(self, x: Any, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One step: x of shape (B, I) and (h, c), each (B, H), give the next (h, c); all may lack the batch axis."""
        h, c = state
        z = affine(x, self.weight_ih, self.bias_ih, h, self.weight_hh, self.bias_hh)
        with INPUT:
            i = sigmoid(z[self._i])
        with FORGET:
            f = sigmoid(z[self._f])
        with CANDIDATE:
            g = tanh(z[self._g])
        with OUTPUT:
            o = sigmoid(z[self._o])
        c = f * c + i * g
        h = o * tanh(c)
        i.name, f.name, g.name, o.name, c.name, h.name = "i", "f", "g", "o", "c", "h"
        return h, c
