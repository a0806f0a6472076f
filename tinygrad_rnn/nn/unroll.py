"""A cell repeated over a sequence: the computation graph that backpropagation through time walks.

After this file the reader knows what "unrolled" means: T calls of the same cell with the same parameters, one scope
each.
"""

from __future__ import annotations

from typing import Any, Protocol
from warnings import warn
from weakref import WeakValueDictionary

import numpy as np

from ..arguments import whole
from ..functions import stack
from ..scope import current, few_collections, scope
from ..tensor import OPS, SWEPT, Array, Tensor, as_array, constant, new_node
from .state import parts_of

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


def detach(state: State) -> State:
    """The same values without their history: no gradient passes here.

    Parameters
    ----------
    state : Tensor, or tuple or list of these, nested or not
        What is no Tensor, an array or None, has no history and stays.

    Returns
    -------
    state : as `state`

    Raises
    ------
    TypeError
        For anything else, which might keep its history.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> cell, state = tg.LSTMCell(3, 4, rng=0), None
    >>> for batch in np.ones((2, 5, 1, 3)):  # of one long sequence
    ...     outputs, state = tg.unroll(cell, batch, state)
    ...     tg.sum(outputs).backward()
    ...     state = tg.detach(state)
    """
    if hasattr(state, "detach"):
        return state.detach()
    if isinstance(state, (tuple, list)):
        parts = [detach(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    if state is None or isinstance(state, (np.ndarray, np.generic, float, int)):
        return state
    raise TypeError(f"a state is a Tensor, or a tuple or list of these, not {type(state).__name__}")


LOOKED_AT = 100
"""At how many tensors of a state's history is looked for the mark of `backward`: those of the last few steps."""

_told: WeakValueDictionary[int, Tensor] = WeakValueDictionary()  # the first parameter of whatever was warned of


def warn_if_swept(network: Any, state: State, stacklevel: int) -> None:
    """Warn, once for a network, of a state that is carried on with a graph that `backward` has been through."""
    found: list[Any] = [part for part in parts_of(state) if isinstance(part, Tensor) and part._op is not None]
    seen = {None, *found}
    for node in found:  # which grows while it is walked
        if node._grad is SWEPT or type(node._operands) is not tuple:  # marked, or freed
            break
        for operand in node._operands if len(found) < LOOKED_AT else ():
            if operand not in seen and operand._op is not None:
                seen.add(operand)
                found.append(operand)
    else:
        return
    first = next(iter(network.parameters().values()), None)
    if current()[1] and (first is None or id(first) not in _told):
        if first is not None:
            _told[id(first)] = first
        reason = "backward() has been through the graph of this state, and would go through it again and again"
        warn(f"{reason}: carry on its values alone, state = tg.detach(state)", stacklevel=stacklevel)


def window_starts(steps: int, window: int | None) -> frozenset[int]:
    """At which of the steps, counted from 0, truncated BPTT cuts the state: every `window` steps back from the end."""
    if window is None:
        return frozenset()
    window = whole("window", window, 1)
    return frozenset(range(steps - window, 0, -window))


@few_collections
def unroll(cell: CellLike, inputs: Any, state: State = None, window: int | None = None) -> tuple[Tensor, State]:
    """Run a cell over a sequence.

    Parameters
    ----------
    cell : callable ``cell(x, state) -> state`` with ``parameters()`` and ``initial_state(batch)``
    inputs : array_like or Tensor, shape (T, B, I) or (T, I)
        A plain array is converted to the dtype of the cell's parameters.
    state : Tensor or tuple of Tensors, optional
        h₀, or (h₀, c₀); the cell's initial state by default. To carry a state on from batch to batch, `detach` it after
        each ``backward()``: a warning says so if that was forgotten.
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
    else:
        warn_if_swept(cell, state, stacklevel=4)
    outputs, rows, starts = [], None, window_starts(len(inputs), window)
    for t in range(len(inputs)):
        if t in starts:
            state = detach(state)
        with scope(f"t={t + 1}"):
            x = inputs[t] if inputs.requires_grad else constant(inputs._value[t])
            x.name = "x"
            state = cell(x, state)
        h = state if isinstance(state, Tensor) else parts_of(state)[0]
        outputs.append(h)
        if t == 0 and isinstance(h, Tensor) and h._value.nbytes >= LARGE_OUTPUT:
            rows = np.empty((len(inputs), *h.shape), h.dtype)
        if rows is not None:
            rows = _moved(h, t, rows)
    if rows is None:
        return stack(outputs), state
    arrays, needs = tuple([h._value for h in outputs]), any([h.requires_grad for h in outputs])
    return new_node(OPS["stack"], rows, tuple(outputs), arrays, {"axis": 0}, needs), state


def _moved(h: Any, t: int, rows: Array) -> Array | None:
    """The outputs with h in their row t, where h now has its array too; None if it does not fit."""
    row = rows[t]
    if not isinstance(h, Tensor) or h.shape != row.shape or h.dtype != row.dtype:
        return None
    row[...] = h._value
    # A leaf may be rebound. The last one stays outside: whoever carries on with it does not keep all outputs.
    if h.op is not None and t + 1 < len(rows):
        h._value = row
    return rows
