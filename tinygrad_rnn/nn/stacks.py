"""RNN, LSTM and GRU: cells unrolled over a sequence, in layers and in both directions, as in `torch.nn`.

After this file the reader knows what a padded batch means: past the end of its sequence a row's state stands still and
its output is zero, and the reverse direction begins at each sequence's own end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..functions import concatenate, stack, transpose, where
from ..scope import scope
from ..tensor import Tensor, as_array, constant, raw
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .module import Module, refuse
from .unroll import cut, unroll, window_starts

Mask = NDArray[np.bool_] | None  # (B, 1): which rows have this step; None if all have


class Stack(Module):
    """What RNN, LSTM and GRU share.

    Calling it runs the sequence; the steps are in the scopes ``t=1`` to ``t=T``, and where there are several layers or
    directions, those in ``t=1/layer 0``, ``t=1/layer 0 reverse`` and so on, numbered as PyTorch's parameters.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
    bias : bool
    batch_first : bool
        Inputs and outputs of shape (B, T, ...) instead of (T, B, ...); states are not affected.
    dropout : float
        Probability with which each output of all layers but the last is dropped, while `training`.
    bidirectional : bool
        Each layer runs from both ends; its output is the two concatenated.
    dtype : float32 or float64
    rng : numpy.random.Generator or int, optional
        Draws the parameters, then what dropout drops.
    **options
        What the cell takes: `init` for all; ``nonlinearity`` for RNN; ``forget_bias``, ``input_bias``, ``forget_gate``
        and ``t_max`` for LSTM; ``update_bias`` and ``t_max`` for GRU.

    Raises
    ------
    ValueError
        If num_layers is not positive, or dropout no probability.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.nn import LSTM
    >>> lstm = LSTM(3, 4, num_layers=2, bidirectional=True, rng=0)
    >>> outputs, (h, c) = lstm(np.ones((5, 2, 3)), lengths=[5, 3])
    >>> outputs.shape, h.shape
    ((5, 2, 8), (4, 2, 4))
    """

    _cell: type[Cell]
    _options: tuple[str, ...]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
        **options: Any,
    ) -> None:
        refuse(type(self).__name__, {name: v for name, v in options.items() if name not in ("init", *self._options)})
        if num_layers < 1:
            raise ValueError(f"num_layers must be positive, not {num_layers}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability, not {dropout}")
        if dropout and num_layers == 1:
            warn("dropout acts between layers, so with one layer it does nothing", stacklevel=2)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.dtype = np.dtype(dtype)
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        self.rng = np.random.default_rng(rng)
        self._cells: dict[str, Any] = {}  # by PyTorch's suffix: l0, l0_reverse, l1, ...
        options = {name: value for name, value in options.items() if name in ("init", *self._options)}
        for k in range(num_layers):
            size = input_size if k == 0 else hidden_size * (2 if bidirectional else 1)
            for suffix in (f"l{k}", f"l{k}_reverse") if bidirectional else (f"l{k}",):
                cell: Any = self._cell
                self._cells[suffix] = cell(size, hidden_size, dtype=dtype, rng=self.rng, bias=bias, **options)
        for name, tensor in self.named_tensors():
            tensor.name = name

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters by PyTorch's names: ``weight_ih_l0``, ``weight_hh_l0_reverse``."""
        for suffix, cell in self._cells.items():
            yield from ((f"{name}_{suffix}", tensor) for name, tensor in cell.named_tensors())

    def __call__(
        self, inputs: Any, state: Any = None, lengths: ArrayLike | None = None, window: int | None = None
    ) -> tuple[Tensor, Any]:
        """Run over a sequence.

        Parameters
        ----------
        inputs : array_like or Tensor, shape (T, B, I), or (B, T, I) if batch_first, or (T, I)
        state : Tensor or, for LSTM, (h, c), shape (num_layers · directions, B, H), or without B; optional
            Before the first step; zeros by default.
        lengths : integers, shape (B,), optional
            How long each sequence is; what is beyond is padding, and has no effect.
        window : int, optional
            Truncated BPTT, as in `unroll`: each layer and direction is cut every so many steps back from where it ends.

        Returns
        -------
        outputs : Tensor, shape (T, B, H · directions), or as the inputs
            Of the last layer; zero past the end of a sequence.
        state : as `state`
            After the last step, of each sequence its own; for the reverse direction, after the first.

        Raises
        ------
        ValueError
            If a shape or length does not fit.
        """
        inputs = self._checked(inputs)
        if self.batch_first and inputs.ndim == 3:
            inputs = transpose(inputs, (1, 0, 2))
        masks = self._masks(lengths, inputs)
        if any(mask is not None for mask in masks):  # padding may hold anything, NaN included
            everywhere = np.ones(inputs.shape[1:2], bool)[:, None]
            inputs = where(np.stack([everywhere if mask is None else mask for mask in masks]), inputs, 0.0)
        states = self._states(state, inputs)
        xs = []
        for t in range(len(inputs)):
            with scope(f"t={t + 1}"):
                xs.append(inputs[t] if inputs.requires_grad else constant(inputs.data[t]))
                xs[-1].name = "x"
        finals = []
        for k in range(self.num_layers):
            xs, ends = self._layer(k, xs, states, masks, window_starts(len(xs), window))
            finals += ends
        outputs = stack(xs)
        if self.batch_first and outputs.ndim == 3:
            outputs = transpose(outputs, (1, 0, 2))
        last = tuple(stack(parts) for parts in zip(*map(_parts, finals), strict=True))
        return outputs, last if isinstance(finals[0], tuple) else last[0]

    def _layer(
        self, k: int, xs: list[Any], states: dict[str, Any], masks: list[Mask], starts: frozenset[int]
    ) -> tuple[list[Any], list[Any]]:
        """One layer in its directions: its output for each step, after dropout, and the final states."""
        outputs, finals = [], []
        for suffix in [suffix for suffix in self._cells if suffix in (f"l{k}", f"l{k}_reverse")]:
            reverse = suffix.endswith("reverse")
            path = f"/layer {k}{' reverse' * reverse}" if len(self._cells) > 1 else ""
            steps, final = _run(self._cells[suffix], xs, states[suffix], masks, path, reverse, starts)
            outputs.append(steps)
            finals.append(final)
        joined = []
        for t, parts in enumerate(zip(*outputs, strict=True)):
            with scope(f"t={t + 1}"):
                y = concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
                if self.training and self.dropout and k < self.num_layers - 1:
                    kept = self.rng.random(y.shape) >= self.dropout
                    y = y * (kept / (1 - self.dropout if self.dropout < 1 else 1)).astype(y.dtype)
                joined.append(y)
        return joined, finals

    def _checked(self, inputs: Any) -> Any:
        """The inputs as a Tensor of the right shape."""
        if not isinstance(inputs, Tensor):
            inputs = Tensor(as_array(inputs).astype(self.dtype, copy=False))
        layout = "(B, T, I)" if self.batch_first else "(T, B, I)"
        time = int(self.batch_first and inputs.ndim == 3)
        if inputs.ndim not in (2, 3) or inputs.shape[time] == 0 or inputs.shape[-1] != self.input_size:
            raise ValueError(
                f"inputs of shape {inputs.shape}: {self!r} takes {layout} or (T, I), with at least one step "
                f"and I = {self.input_size}"
            )
        return inputs

    def _masks(self, lengths: ArrayLike | None, inputs: Tensor) -> list[Mask]:
        """Which rows have each step."""
        steps = len(inputs)
        if lengths is None:
            return [None] * steps
        n = np.asarray(raw(lengths))
        if inputs.ndim != 3 or n.shape != (inputs.shape[1],) or n.dtype.kind not in "iu":
            raise ValueError(f"lengths are integers, one for each sequence of the batch: not {lengths!r}")
        if n.size and not (1 <= n.min() and n.max() <= steps):
            raise ValueError(f"lengths {n.min()} ... {n.max()} lie outside of 1 ... {steps}")
        return [None if (t < n).all() else (t < n)[:, None] for t in range(steps)]

    def _states(self, state: Any, inputs: Tensor) -> dict[str, Any]:
        """The state before the first step for each cell, by its suffix."""
        batch = inputs.shape[1] if inputs.ndim == 3 else None
        zeros = {suffix: cell.initial_state(batch) for suffix, cell in self._cells.items()}
        if state is None:
            return zeros
        pair = self._cell is LSTMCell
        if isinstance(state, (tuple, list)) is not pair or (pair and len(state) != 2):
            raise ValueError(f"{self!r} takes {'a pair (h, c)' if pair else 'one tensor h'} as its state")
        parts = [s if isinstance(s, Tensor) else Tensor(as_array(s).astype(self.dtype)) for s in _parts(state)]
        shape = (len(zeros), *_parts(zeros["l0"])[0].shape)
        if any(part.shape != shape for part in parts):
            shapes = " and ".join(str(part.shape) for part in parts)
            raise ValueError(f"state of shape {shapes}: {self!r} takes (num_layers · directions, B, H) = {shape}")
        rows = [tuple(part[k] for part in parts) for k in range(len(zeros))]
        for row in rows:
            for tensor, name in zip(row, ("h0", "c0"), strict=False):
                tensor.name = name
        return {suffix: row if pair else row[0] for suffix, row in zip(zeros, rows, strict=True)}

    def __repr__(self) -> str:
        layers = f", num_layers={self.num_layers}" if self.num_layers > 1 else ""
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}{layers}{self._flags()})"

    def _flags(self) -> str:
        return "".join(f", {name}=True" for name in ("bidirectional", "batch_first") if getattr(self, name))


def _parts(state: Any) -> tuple[Any, ...]:
    return tuple(state) if isinstance(state, (tuple, list)) else (state,)


def _run(
    cell: Any, xs: list[Any], state: Any, masks: list[Mask], path: str, reverse: bool, starts: frozenset[int]
) -> tuple[list[Any], Any]:
    """One cell over the steps, from either end: its output for each step, and the final state."""
    outputs: list[Any] = [None] * len(xs)
    for done, t in enumerate(reversed(range(len(xs))) if reverse else range(len(xs))):
        if done in starts:
            state = cut(state)
        with scope(f"t={t + 1}{path}"):
            mask = masks[t]
            if mask is None:
                state = cell(xs[t], state)
                outputs[t] = _parts(state)[0]
            elif not mask.any():
                outputs[t] = constant(np.zeros_like(_parts(state)[0].data))
            else:
                after = cell(xs[t], state)
                outputs[t] = where(mask, _parts(after)[0], 0.0)
                state = _where_running(mask, after, state)
    return outputs, state


def _where_running(mask: NDArray[np.bool_], after: Any, before: Any) -> Any:
    """The new state for the rows that have this step, the old one for the others."""
    parts = []
    for new, old in reversed(list(zip(_parts(after), _parts(before), strict=True))):  # c before h, as in the cell:
        parts.append(where(mask, new, old))  # in a picture both keep their lanes
        parts[-1].name = new.name
    return tuple(reversed(parts)) if isinstance(after, tuple) else parts[0]


class RNN(Stack):
    """Simple recurrent layers: `RNNCell` in a `Stack`, with its ``nonlinearity``, as `torch.nn.RNN`.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, rng, **options
        As in `Stack`.
    """

    _cell, _options = RNNCell, ("nonlinearity",)


class LSTM(Stack):
    """Long short-term memory layers: `LSTMCell` in a `Stack`, as `torch.nn.LSTM`; the state is (h, c).

    Its cell's ``forget_bias``, ``input_bias``, ``forget_gate`` and ``t_max`` are options, the same for all layers.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, rng, **options
        As in `Stack`.
    """

    _cell, _options = LSTMCell, ("forget_bias", "input_bias", "forget_gate", "t_max")


class GRU(Stack):
    """Gated recurrent layers: `GRUCell` in a `Stack`, with its ``update_bias`` and ``t_max``, as `torch.nn.GRU`.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, rng, **options
        As in `Stack`.
    """

    _cell, _options = GRUCell, ("update_bias", "t_max")


def run_sequence(network: Any, inputs: Any, state: Any = None, window: int | None = None) -> tuple[Tensor, Tensor, Any]:
    """Run a cell or a stack over a sequence: what both put out, in one form.

    Parameters
    ----------
    network : cell or Stack
    inputs : array_like or Tensor, shape (T, B, I), or as the stack takes them
    state, window
        As in `unroll`.

    Returns
    -------
    outputs : Tensor, shape (T, B, K), or as the stack gives them
    last : Tensor, shape (B, K)
        What is known at the end: the last layer's h after the last step, of each direction at its own end.
    state : as `state`
    """
    if not isinstance(network, Stack):
        outputs, state = unroll(network, inputs, state, window)
        return outputs, _parts(state)[0], state
    outputs, state = network(inputs, state, window=window)
    h = _parts(state)[0]
    return outputs, concatenate([h[-2], h[-1]], axis=-1) if network.bidirectional else h[-1], state
