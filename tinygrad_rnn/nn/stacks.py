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

from ..arguments import FROM_0_TO_1, flag, float_type, generator, lengths_of, number, refusal, whole
from ..functions import concatenate, stack, transpose, where
from ..scope import few_collections, scope
from ..tensor import Tensor, as_array, constant, unmasked
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .module import Module, refuse
from .sequences import in_one_array
from .state import parts_of
from .unroll import detach, unroll, warn_if_swept, window_starts

Running = NDArray[np.bool_] | None  # (T, B, 1): which rows have each step; None if all have all
Parts = tuple[Tensor, ...]  # (h,) or (h, c): inside, a state has one form


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
    TypeError, ValueError
        For an option that is given a wrong value, naming it.

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
        self.input_size, self.hidden_size = whole("input_size", input_size, 1), whole("hidden_size", hidden_size, 1)
        self.num_layers, self.dtype = whole("num_layers", num_layers, 1), float_type("dtype", dtype)
        self.batch_first, self.bidirectional = flag("batch_first", batch_first), flag("bidirectional", bidirectional)
        self.dropout, self.rng = number("dropout", dropout, FROM_0_TO_1), generator("rng", rng)
        if self.dropout and self.num_layers == 1:
            warn("dropout acts between layers, so with one layer it does nothing", stacklevel=2)
        self._cells: dict[str, Any] = {}  # by PyTorch's suffix: l0, l0_reverse, l1, ...
        options = {name: value for name, value in options.items() if name in ("init", *self._options)}
        directions = ("", "_reverse") if self.bidirectional else ("",)
        for k in range(self.num_layers):
            size = self.hidden_size * len(directions) if k else self.input_size
            for direction in directions:
                cell: Any = self._cell
                made = cell(size, self.hidden_size, dtype=self.dtype, rng=self.rng, bias=bias, **options)
                self._cells[f"l{k}{direction}"] = made
        for name, tensor in self.named_tensors():
            tensor.name = name

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters by PyTorch's names: ``weight_ih_l0``, ``weight_hh_l0_reverse``."""
        for suffix, cell in self._cells.items():
            yield from ((f"{name}_{suffix}", tensor) for name, tensor in cell.named_tensors())

    def _cell_of(self, name: str) -> tuple[Any, str]:
        """The cell that has the parameter of a name such as ``weight_hh_l0_reverse``, and what it calls it; or None."""
        own, _, suffix = name.rpartition("_l")
        cell = vars(self).get("_cells", {}).get(f"l{suffix}")
        return cell if isinstance(vars(cell or self).get(own), Tensor) else None, own

    def __getattr__(self, name: str) -> Any:
        cell, own = self._cell_of(name)
        if cell is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return getattr(cell, own)

    def __setattr__(self, name: str, value: Any) -> None:
        cell, own = self._cell_of(name)
        if cell is None and any(isinstance(vars(c).get(own), Tensor) for c in vars(self).get("_cells", {}).values()):
            raise AttributeError(f"there is no {name}: there are {', '.join(f'{own}_{k}' for k in self._cells)}")
        if cell is None:
            super().__setattr__(name, value)
        elif isinstance(value, Tensor) and value.shape == getattr(cell, own).shape:
            setattr(cell, own, value)
        else:
            raise refusal(name, value, f"Tensor(array, requires_grad=True) of shape {getattr(cell, own).shape}")

    @few_collections
    def __call__(
        self, inputs: Any, state: Any = None, lengths: ArrayLike | None = None, window: int | None = None
    ) -> tuple[Tensor, Any]:
        """Run over a sequence.

        Parameters
        ----------
        inputs : array_like or Tensor, shape (T, B, I), or (B, T, I) if batch_first, or (T, I)
            Or B sequences of their own lengths: a list of arrays of shape (T, I), or PyTorch's PackedSequence; the
            outputs then are as for `lengths`, in the order given.
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
        inputs, own_lengths = in_one_array(inputs, self.batch_first)
        lengths = own_lengths if lengths is None else lengths
        inputs = self._checked(inputs)
        if self.batch_first and inputs.ndim == 3:
            inputs = transpose(inputs, (1, 0, 2))
        running = self._running(lengths, inputs)
        if running is not None:  # padding may hold anything, NaN included
            inputs = where(running, inputs, 0.0)
        warn_if_swept(self, state, stacklevel=4)
        states = self.states(state, inputs.shape[1] if inputs.ndim == 3 else None)
        xs = []
        for t in range(len(inputs)):
            with scope(f"t={t + 1}"):
                xs.append(inputs[t] if inputs.requires_grad else constant(inputs.data[t]))
                xs[-1].name = "x"
        finals = []
        for k in range(self.num_layers):
            xs, ends = self._layer(k, xs, states, running, window_starts(len(xs), window))
            finals += ends
        outputs = stack(xs)
        if self.batch_first and outputs.ndim == 3:
            outputs = transpose(outputs, (1, 0, 2))
        last = tuple(stack(parts) for parts in zip(*finals, strict=True))
        return outputs, last if self._cell is LSTMCell else last[0]

    def _layer(
        self, k: int, xs: list[Any], states: dict[str, Parts], running: Running, starts: frozenset[int]
    ) -> tuple[list[Any], list[Parts]]:
        """One layer in its directions: its output for each step, after dropout, and the final states."""
        outputs, finals = [], []
        for suffix in [suffix for suffix in self._cells if suffix in (f"l{k}", f"l{k}_reverse")]:
            reverse = suffix.endswith("reverse")
            path = f"/layer {k}{' reverse' * reverse}" if len(self._cells) > 1 else ""
            steps, final = _run(self._cells[suffix], xs, states[suffix], running, path, reverse, starts)
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

    def _running(self, lengths: ArrayLike | None, inputs: Tensor) -> Running:
        """Which rows have each step."""
        if lengths is None:
            return None
        if inputs.ndim != 3:
            raise refusal("lengths", lengths, "them for inputs with an axis of sequences")
        steps, count = inputs.shape[:2]
        running: NDArray[np.bool_] = (
            np.arange(steps)[:, None, None] < lengths_of(unmasked(lengths), count, steps)[:, None]
        )
        return None if running.all() else running

    def states(self, state: Any = None, batch: int | None = None) -> dict[str, Parts]:
        """The state before the first step for each cell, by its suffix, as the tuple of its parts.

        Raises
        ------
        ValueError
            If it is not one h, or for an LSTM (h, c), of shape (num_layers · directions, B, H), or without B.
        """
        zeros = {suffix: parts_of(cell.initial_state(batch)) for suffix, cell in self._cells.items()}
        if state is None:
            return zeros
        pair, given = self._cell is LSTMCell, parts_of(state)
        if len(given) != 1 + pair or (given[0] is state) is pair:
            raise ValueError(f"{self!r} takes {'a pair (h, c)' if pair else 'one tensor h'} as its state")
        parts = [s if isinstance(s, Tensor) else Tensor(as_array(s).astype(self.dtype)) for s in given]
        shape = (len(zeros), *zeros["l0"][0].shape)
        if any(part.shape != shape for part in parts):
            shapes = " and ".join(str(part.shape) for part in parts)
            raise ValueError(f"state of shape {shapes}: {self!r} takes (num_layers · directions, B, H) = {shape}")
        rows = {suffix: tuple(part[k] for part in parts) for k, suffix in enumerate(zeros)}
        for row in rows.values():
            for tensor, name in zip(row, ("h0", "c0"), strict=False):
                tensor.name = name
        return rows

    def __repr__(self) -> str:
        layers = f", num_layers={self.num_layers}" if self.num_layers > 1 else ""
        dropout = f", dropout={self.dropout:g}" if self.dropout else ""
        flags = "".join(f", {name}=True" for name in ("bidirectional", "batch_first") if getattr(self, name))
        told = self._cells["l0"].told()
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}{layers}{dropout}{flags}{told})"


def one_step(cell: Cell, x: Any, parts: Parts) -> Parts:
    """One of our cells on the parts of its state: only here does a single part travel bare."""
    step: Any = cell
    return step(x, parts) if isinstance(cell, LSTMCell) else (step(x, parts[0]),)


def _run(
    cell: Cell, xs: list[Any], state: Parts, running: Running, path: str, reverse: bool, starts: frozenset[int]
) -> tuple[list[Any], Parts]:
    """One cell over the steps, from either end: its output for each step, and the final state."""
    outputs: list[Any] = [None] * len(xs)
    for done, t in enumerate(reversed(range(len(xs))) if reverse else range(len(xs))):
        if done in starts:
            state = detach(state)
        with scope(f"t={t + 1}{path}"):
            mask = None if running is None else running[t]
            if mask is None or mask.all():
                state = one_step(cell, xs[t], state)
                outputs[t] = state[0]
            elif not mask.any():
                outputs[t] = constant(np.zeros_like(state[0].data))
            else:
                after = one_step(cell, xs[t], state)
                outputs[t] = where(mask, after[0], 0.0)
                state = where_running(mask, after, state)
    return outputs, state


def where_running(mask: NDArray[np.bool_], after: Parts, before: Parts) -> Parts:
    """The new state for the rows that have this step, the old one for the others."""
    parts = []
    for new, old in reversed(list(zip(after, before, strict=True))):  # c before h, as in the cell:
        parts.append(where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old))  # in a picture both keep their lanes
        parts[-1].name = new.name
    return tuple(reversed(parts))


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


def run_sequence(
    network: Any, inputs: Any, state: Any = None, window: int | None = None, lengths: ArrayLike | None = None
) -> tuple[Tensor, Tensor, Any]:
    """Run a cell or a stack over a sequence: what both put out, in one form.

    Parameters
    ----------
    network : cell or Stack
    inputs : array_like or Tensor, shape (T, B, I), or as the stack takes them
    state, window
        As in `unroll`.
    lengths : optional
        As a stack takes them.

    Returns
    -------
    outputs : Tensor, shape (T, B, K), or as the stack gives them
    last : Tensor, shape (B, K)
        What is known at the end: the last layer's h after the last step, of each direction at its own end.
    state : as `state`
    """
    if not isinstance(network, Stack):
        outputs, state = unroll(network, inputs, state, window)
        return outputs, parts_of(state)[0], state
    outputs, state = network(inputs, state, lengths, window)
    h = parts_of(state)[0]
    return outputs, concatenate([h[-2], h[-1]], axis=-1) if network.bidirectional else h[-1], state
