"""What a recording has seen of a forward pass, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Operation(NamedTuple):
    """One operation of the forward pass: where it ran, and its differentiable operands with what they held.

    An operand is (name, tensor or number, copy of its value); the copy is None where autograd knows the tensor.
    """

    scope: str
    operands: list[tuple[str, Any, Any]]
    plain: bool  # no keyword argument changes what it computes


@dataclass
class Seen:
    """What is known beside PyTorch's graph; without a recording, nothing.

    Attributes
    ----------
    operations : dict
        By the sequence number of PyTorch's node.
    values : dict
        By (node, output): what the forward pass computed.
    labels : dict
        By (node, output): what a step calls it, such as h or c.
    names : dict
        By the id of a tensor: its name in the model.
    scopes : dict
        By the id of an input of one step: where it belongs.
    kept : list
        What must live as long as its id is used.
    """

    operations: dict[int, Operation] = field(default_factory=dict)
    values: dict[tuple[Any, int], Any] = field(default_factory=dict)
    labels: dict[tuple[Any, int], str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    scopes: dict[int, str] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
