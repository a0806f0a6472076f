"""Linear and Embedding: what stands before and after a recurrent layer, with PyTorch's parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..arguments import flag, float_type, generator, whole
from ..functions import getitem
from ..ops import linear, matmul
from ..tensor import Tensor, unmasked
from .init import gaussian, uniform
from .module import Module, refuse


class Linear(Module):
    """y = x Wᵀ + b, applied to the last axis; parameters U(-1/√I, 1/√I), as in PyTorch.

    Parameters
    ----------
    in_features, out_features : int
        Sizes I and O; the weight has shape (O, I).
    bias : bool
    dtype : float32 or float64
    rng : numpy.random.Generator or int, optional

    Raises
    ------
    TypeError, ValueError
        For an option that is given a wrong value, naming it.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.nn import Linear
    >>> Linear(3, 2, rng=0)(np.ones((5, 4, 3))).shape
    (5, 4, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
        **unknown: object,
    ) -> None:
        refuse("Linear", unknown)
        self.in_features = whole("in_features", in_features, 1)
        self.out_features = whole("out_features", out_features, 1)
        bias, dtype, rng = flag("bias", bias), float_type("dtype", dtype), generator("rng", rng)
        draw = uniform(1 / np.sqrt(in_features))
        self.weight = Tensor(draw(rng, (out_features, in_features)).astype(dtype), requires_grad=True, name="weight")
        self.bias = Tensor(draw(rng, (out_features,)).astype(dtype), requires_grad=True, name="bias") if bias else None

    def __call__(self, x: Any) -> Any:
        """Inputs of shape (..., I) give (..., O)."""
        return matmul(x, self.weight.T) if self.bias is None else linear(x, self.weight, self.bias)

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features})"


class Embedding(Module):
    """A learnt vector for each of n symbols: row i of the weight for index i; rows N(0, 1), as in PyTorch.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        The weight has shape (num_embeddings, embedding_dim).
    dtype : float32 or float64
    rng : numpy.random.Generator or int, optional

    Raises
    ------
    TypeError, ValueError
        For an option that is given a wrong value, naming it.

    Examples
    --------
    >>> from tinygrad_rnn.nn import Embedding
    >>> Embedding(10, 3, rng=0)([[1, 2], [9, 1]]).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
        **unknown: object,
    ) -> None:
        refuse("Embedding", unknown)
        self.num_embeddings = whole("num_embeddings", num_embeddings, 1)
        self.embedding_dim = whole("embedding_dim", embedding_dim, 1)
        weight = gaussian(1.0)(generator("rng", rng), (num_embeddings, embedding_dim))
        self.weight = Tensor(weight.astype(float_type("dtype", dtype)), requires_grad=True, name="weight")

    def __call__(self, indices: Any) -> Any:
        """Integers of any shape, from 0 to n - 1, give that shape with the vectors as the last axis.

        Raises
        ------
        ValueError
            For anything else; a negative index counts from no end.
        """
        index = np.asarray(unmasked(indices))
        if index.dtype.kind not in "iu":
            raise ValueError(f"an embedding is looked up by integers, not {index.dtype}")
        if index.size and not (0 <= index.min() and index.max() < self.num_embeddings):
            raise ValueError(f"indices {index.min()} ... {index.max()} lie outside of 0 ... {self.num_embeddings - 1}")
        return getitem(self.weight, index)

    def __repr__(self) -> str:
        return f"Embedding({self.num_embeddings}, {self.embedding_dim})"
