"""Sequences of different lengths, as people have them, in one array.

After this file the reader knows that padding is only a place to keep them: what is beyond the end of a sequence has no
effect on anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tensor import Tensor, as_array

Lengths = NDArray[np.int64]


def in_one_array(inputs: Any, batch_first: bool) -> tuple[Any, Lengths | None]:
    """A list of sequences, or a PackedSequence of PyTorch's, padded with zeros, and their lengths; all else as it is.

    Parameters
    ----------
    inputs : list of array_like, each of shape (T, I), or PackedSequence, or anything else
    batch_first : bool
        Whether the array is (B, T, I) rather than (T, B, I).

    Returns
    -------
    inputs : as given, or ndarray
        The sequences in the order in which they were given.
    lengths : ndarray of int, or None

    Raises
    ------
    ValueError
        Of a list of arrays of one shape, which may be sequences or steps.
    """
    if hasattr(inputs, "batch_sizes"):
        data, sizes = as_array(inputs.data), as_array(inputs.batch_sizes)
        lengths = np.array([(sizes > row).sum() for row in range(sizes[0])], np.int64)
        starts = np.cumsum(sizes) - sizes
        rows = [data[starts[:length] + row] for row, length in enumerate(lengths)]
        order = range(len(rows)) if inputs.unsorted_indices is None else as_array(inputs.unsorted_indices)
        return _padded([rows[k] for k in order], batch_first)
    arrays = isinstance(inputs, (list, tuple)) and all(hasattr(item, "shape") for item in inputs)
    if not (arrays and inputs and all(len(item.shape) == 2 and not isinstance(item, Tensor) for item in inputs)):
        return inputs, None
    if len(inputs) > 1 and len({tuple(item.shape) for item in inputs}) == 1:
        axis = 0 if batch_first else 1
        raise ValueError(
            f"a list of arrays of one shape may be sequences or steps: give np.stack(sequences, axis={axis}) "
            f"or np.stack(steps, axis={1 - axis})"
        )
    return _padded([as_array(item) for item in inputs], batch_first)


def _padded(rows: list[NDArray[Any]], batch_first: bool) -> tuple[NDArray[Any], Lengths]:
    if len(widths := {row.shape[1] for row in rows}) > 1:
        raise ValueError(f"the sequences have {' and '.join(map(str, sorted(widths)))} inputs a step")
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.zeros((len(rows), lengths.max(), rows[0].shape[1]), np.result_type(*rows))
    for row, place in zip(rows, padded, strict=True):
        place[: len(row)] = row
    return padded if batch_first else padded.transpose(1, 0, 2), lengths
