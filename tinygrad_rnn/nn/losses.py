"""Losses, under the names and with the options that PyTorch gives them.

After this file the reader knows what each loss is for one example, and that ``reduction`` is what becomes of these
numbers. Nothing here has a derivative of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import numbers, one_of, whole
from ..functions import getitem, log_softmax, mean, operand, reshape, sum, where
from ..ops import as_floats, softplus, square
from ..tensor import Tensor, unmasked


def _reduced(losses: Any, reduction: str) -> Any:
    """The losses of all examples as one, or as they are; a Tensor, even of plain arrays."""
    one_of("reduction", reduction, ("mean", "sum", "none"))
    if isinstance(losses, np.ndarray | np.generic):
        losses = Tensor(losses)
    return losses if reduction == "none" else sum(losses) if reduction == "sum" else mean(losses)


def _pair(prediction: Any, target: Any) -> tuple[Any, Any]:
    """Both with a shape, which is the same."""
    prediction, target = operand(prediction), operand(target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction {prediction.shape} and target {target.shape} must have the same shape: reshape one"
        )
    return as_floats(prediction), target


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """(prediction - target)², as the mean over all elements.

    Parameters
    ----------
    prediction, target : Tensor or array, of one shape
    reduction : "mean", "sum" or "none"

    Returns
    -------
    Tensor, a scalar; without reduction of the shape of both

    Raises
    ------
    ValueError
        If the shapes differ: (N, 1) against (N,) would silently average N² differences.
    """
    prediction, target = _pair(prediction, target)
    return _reduced(square(prediction - target), reduction)


def binary_cross_entropy_with_logits(logits: Any, target: Any, reduction: str = "mean") -> Any:
    """-y log σ(x) - (1 - y) log(1 - σ(x)) of logits x and probabilities y, in nats, without overflow.

    Parameters
    ----------
    logits, target : Tensor or array, of one shape
        Targets from 0 to 1.
    reduction : "mean", "sum" or "none"

    Returns
    -------
    Tensor, a scalar; without reduction of the shape of both

    Raises
    ------
    ValueError
        If the shapes differ, or a target lies outside of 0 ... 1.
    """
    logits, target = _pair(logits, target)
    if not ((target >= 0) & (target <= 1)).all():
        raise ValueError("targets are probabilities, from 0 to 1")
    return _reduced(target * softplus(-logits) + (1.0 - target) * softplus(logits), reduction)


def cross_entropy(
    logits: Any, labels: Any, reduction: str = "mean", *, weight: Any = None, ignore_index: int | None = None
) -> Any:
    """-log softmax(logits)[label], in nats, as the mean over all labels.

    Parameters
    ----------
    logits : Tensor or array, shape (..., C)
    labels : integer array, shape (...)
        Class indices from 0 to C - 1.
    reduction : "mean", "sum" or "none"
    weight : array_like, shape (C,), optional
        What the loss of each class counts; the mean is divided by the weights that were used, as in PyTorch.
    ignore_index : int, optional
        A label that stands for none, such as that of padding: its loss is 0 and counts for no mean.

    Returns
    -------
    Tensor, a scalar; without reduction of the shape of the labels

    Raises
    ------
    ValueError
        If the labels are not integers of the logits' leading shape, or lie outside of 0 ... C - 1.
    """
    logits, index = operand(logits), np.array(unmasked(labels))
    if index.shape != logits.shape[:-1] or index.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape {logits.shape[:-1]}, not {index.dtype} of shape {index.shape}"
        )
    counted = index != (None if ignore_index is None else whole("ignore_index", ignore_index, -(2**31)))
    index = np.where(counted, index, 0)
    classes = logits.shape[-1]
    if index.size and not (0 <= index.min() and index.max() < classes):
        raise ValueError(f"labels must lie in 0 ... {classes - 1}, not in {index.min()} ... {index.max()}")
    if not counted.all():  # padding may hold anything, NaN included
        logits = where(counted[..., None], logits, 0.0)
    rows = reshape(log_softmax(logits), (index.size, classes))
    logs = getitem(rows, (np.arange(index.size), index.reshape(-1)))
    if reduction == "none":
        logs = reshape(logs, index.shape)
    if weight is None and counted.all():
        return -_reduced(logs, reduction)
    of_class = np.ones(classes) if weight is None else np.broadcast_to(numbers("weight", weight, (classes,)), classes)
    used = np.reshape(counted * of_class[index], logs.shape)
    logs = logs * used.astype(logs.dtype)
    if reduction == "mean":
        return -_reduced(logs, "sum") / used.sum().item()
    return -_reduced(logs, reduction)
