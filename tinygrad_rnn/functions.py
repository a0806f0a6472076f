"""What is composed of primitives: variance, product, split, the softmax family, losses.

After this file the reader knows that a function needs no derivative of its own when its parts have one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .ops import _axes, _operand, concatenate, exp, getitem, logsumexp, mean, multiply, reshape, square, sum, transpose
from .tensor import NUMPY, raw

__all__ = ["cross_entropy", "log_softmax", "mse_loss", "prod", "softmax", "split", "var"]


def var(x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Variance, Σ (x - mean)² / (n - ddof), as `numpy.var`."""
    x = _operand(x)
    axes = _axes(x, axis)
    count = int(np.prod([x.shape[i] for i in axes]))
    return sum(square(x - mean(x, axes, keepdims=True)), axes, keepdims) / (count - ddof)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Product of elements, as `numpy.prod`: a balanced tree of products, so that zeros are no special case."""
    x = _operand(x)
    axes = _axes(x, axis)
    rest = [i for i in range(x.ndim) if i not in axes]
    shape = tuple([x.shape[i] for i in rest])
    y = reshape(transpose(x, (*rest, *axes)), (*shape, int(np.prod([x.shape[i] for i in axes]))))
    if y.shape[-1] == 0:  # the empty product; `sum` keeps it in the graph
        return sum(x, axes, keepdims) + 1
    while (n := y.shape[-1]) > 1:
        pairs = multiply(getitem(y, (..., slice(0, n - n % 2, 2))), getitem(y, (..., slice(1, n, 2))))
        y = concatenate([pairs, getitem(y, (..., slice(n - 1, n)))], axis=-1) if n % 2 else pairs
    return reshape(y, tuple([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else shape)


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """Parts along an axis: so many equal ones, or cut at the given indices, as `numpy.split`."""
    x = _operand(x)
    (axis,) = _axes(x, axis)
    n = x.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        if n % int(indices_or_sections):
            raise ValueError("array split does not result in an equal division")
        size = n // int(indices_or_sections)
        cuts = [size * i for i in range(1, int(indices_or_sections))]
    else:
        cuts = [int(i) for i in indices_or_sections]
    return [getitem(x, (slice(None),) * axis + (slice(a, b),)) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


def log_softmax(x: Any, axis: Any = -1) -> Any:
    """x - log Σ exp x along an axis, without overflow."""
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x: Any, axis: Any = -1) -> Any:
    """exp x / Σ exp x along an axis, without overflow."""
    return exp(log_softmax(x, axis))


def mse_loss(prediction: Any, target: Any) -> Any:
    """Mean of (prediction - target)² over all elements; both of the same shape.

    Raises
    ------
    ValueError
        If the shapes differ: (N, 1) against (N,) would silently average N² differences.
    """
    prediction, target = _operand(prediction), _operand(target)
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} must have the same shape: reshape one")
    return mean(square(prediction - target))


def cross_entropy(logits: Any, labels: Any) -> Any:
    """Mean of -log softmax(logits)[label], in nats.

    Parameters
    ----------
    logits : Tensor or array, shape (..., C)
    labels : integer array, shape (...)
        Class indices from 0 to C - 1.

    Raises
    ------
    ValueError
        If the labels are not integers of the logits' leading shape, or lie outside of 0 ... C - 1.
    """
    logits = _operand(logits)
    index = np.array(raw(labels))
    if index.shape != logits.shape[:-1] or index.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers of shape {logits.shape[:-1]}, not {index.dtype} of shape {index.shape}")
    classes = logits.shape[-1]
    if index.size and not (0 <= index.min() and index.max() < classes):
        raise ValueError(f"labels must lie in 0 ... {classes - 1}, not in {index.min()} ... {index.max()}")
    rows = reshape(log_softmax(logits), (index.size, classes))
    return -mean(getitem(rows, (np.arange(index.size), index.reshape(-1))))


NUMPY.update({np.var: var, np.prod: prod, np.split: split})
