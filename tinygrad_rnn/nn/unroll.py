"""A cell repeated over a sequence: the computation graph that backpropagation through time walks.

After this file the reader knows what "unrolled" means: T calls of the same cell with the same parameters, one scope
each.
"""

from __future__ import annotations

import operator
from typing import Any, Protocol

import numpy as np

from ..functions import stack
from ..scope import scope
from ..tensor import OPS, Array, Tensor, as_array, constant, new_node

# An unrolled graph is thousands of arrays that live and die together. glibc gives their memory back to the system each
# time, and the next forward pass pays for every page again: a third of the time at H = 128. Freeing one large block,
# never touched, tells it to keep up to 64 MB (mallopt(3), M_MMAP_THRESHOLD); other allocators take no notice.
np.empty(2**25 - 2**16, np.uint8)

LARGE_OUTPUT = 2**12
"""From how many bytes on an output is kept in the stack of all of them, not beside it. For less, a copy costs less."""

State = Any  # a Tensor, or a tuple of Tensors with h first


class CellLike(Protocol):
    """What `unroll` asks of a cell; ours and yours alike."""

    def __call__(self, x: Any, state: Any, /) -> Any:
        """One step: input and state to the next state."""

    def parameters(self) -> dict[str, Tensor]:
        """The parameters by name."""

    def initial_state(self, batch: int | None) -> Any:
        """The state before the first step."""


def cut(state: State) -> State:
    """The state with the same values and no history: no gradient passes here."""
    return tuple([part.detach() for part in state]) if isinstance(state, tuple) else state.detach()


def window_starts(steps: int, window: int | None) -> frozenset[int]:
    """At which of the steps, counted from 0, truncated BPTT cuts the state: every `window` steps back from the end."""
    if window is None:
        return frozenset()
    if type(window) is bool or operator.index(window) < 1:
        raise ValueError(f"window={window!r}: truncated BPTT goes back a whole number of steps, at least 1")
    return frozenset(range(steps - window, 0, -window))


def unroll(cell: CellLike, inputs: Any, state: State = None, window: int | None = None) -> tuple[Tensor, State]:
    """Run a cell over a sequence.

    Parameters
    ----------
    cell : callable ``cell(x, state) -> state`` with ``parameters()`` and ``initial_state(batch)``
    inputs : array_like or Tensor, shape (T, B, I) or (T, I)
        A plain array is converted to the dtype of the cell's parameters.
    state : Tensor or tuple of Tensors, optional
        h₀, or (h₀, c₀); the cell's initial state by default.
    window : int, optional
        Truncated BPTT: the sequence is cut into windows of so many steps, counted from its end, and no gradient passes
        from one to the one before. What the last step loses reaches back `window` steps exactly. There is one graph and
        one sweep, so nothing is counted twice.

    Returns
    -------
    outputs : Tensor, shape (T, B, H) or (T, H)
        h₁ ... h_T. Step t was computed in the scope ``t=t``.
    state : Tensor or tuple of Tensors
        After the last step.

    Raises
    ------
    ValueError
        If the inputs have another rank, or no steps, or the window is none.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> outputs, (h, c) = tg.unroll(tg.LSTMCell(3, 4, rng=0), np.ones((5, 2, 3)))
    >>> outputs.shape, h.scope
    ((5, 2, 4), 't=5')
    """
    if not isinstance(inputs, Tensor):
        array = as_array(inputs)
        dtype = next((p.dtype for p in cell.parameters().values()), array.dtype)
        inputs = constant(array.astype(dtype, copy=False))
    if inputs.ndim not in (2, 3) or len(inputs) == 0:
        raise ValueError(
            f"inputs of shape {inputs.shape}: a sequence has shape (T, B, I) or (T, I), with at least one step"
        )
    if state is None:
        state = cell.initial_state(inputs.shape[1] if inputs.ndim == 3 else None)
    outputs, rows, starts = [], None, window_starts(len(inputs), window)
    for t in range(len(inputs)):
        if t in starts:
            state = cut(state)
        with scope(f"t={t + 1}"):
            x = inputs[t] if inputs.requires_grad else constant(inputs._data[t])
            x.name = "x"
            state = cell(x, state)
        h = state[0] if isinstance(state, tuple) else state
        outputs.append(h)
        if t == 0 and isinstance(h, Tensor) and h._data.nbytes >= LARGE_OUTPUT:
            rows = np.empty((len(inputs), *h.shape), h.dtype)
        if rows is not None:
            rows = _moved(h, t, rows)
    if rows is None:
        return stack(outputs), state
    arrays, needs = tuple([h._data for h in outputs]), any([h._requires_grad for h in outputs])
    return new_node(OPS["stack"], rows, tuple(outputs), arrays, {"axis": 0}, needs), state


def _moved(h: Any, t: int, rows: Array) -> Array | None:
    """The outputs with h in their row t, where h now has its array too; None if it does not fit."""
    row = rows[t]
    if not isinstance(h, Tensor) or h.shape != row.shape or h.dtype != row.dtype:
        return None
    row[...] = h._data
    # A leaf may be rebound. The last one stays outside: whoever carries on with it does not keep all outputs.
    if h._op is not None and t + 1 < len(rows):
        h._data = row
    return rows
