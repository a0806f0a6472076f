"""Shapes, indices and choices beside PyTorch in float64: see `torch_oracle` for what is compared."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch_oracle import Cases, check, draw, torch

import tinygrad_rnn as tg

CASES = Cases()
case = CASES.add
CONSTANT = draw(3, 3)

SHAPE_CASES: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "reshape": (lambda x: tg.reshape(x, (3, 4)), lambda x: x.reshape(3, 4), (2, 6)),
    "reshape -1": (lambda x: tg.reshape(x, (-1, 2)), lambda x: x.reshape(-1, 2), (2, 6)),
    "reshape int": (lambda x: tg.reshape(x, -1), lambda x: x.reshape(-1), (2, 3)),
    "reshape number": (lambda x: tg.reshape(x, ()), lambda x: x.reshape(()), (1, 1)),
    "reshape of transpose": (lambda x: tg.reshape(x.T, 6), lambda x: x.T.reshape(6), (2, 3)),
    "transpose": (tg.transpose, lambda x: x.permute(2, 1, 0), (2, 3, 4)),
    "transpose axes": (lambda x: tg.transpose(x, (1, 2, 0)), lambda x: x.permute(1, 2, 0), (2, 3, 4)),
    "transpose cube": (lambda x: tg.transpose(x, (-1, 0, 1)), lambda x: x.permute(-1, 0, 1), (3, 3, 3)),
    "transpose vector": (tg.transpose, lambda x: x * 1, (3,)),
    "x.transpose": (lambda x: x.transpose(1, 0, 2), lambda x: x.permute(1, 0, 2), (2, 3, 4)),
    "broadcast_to": (lambda x: tg.broadcast_to(x, (4, 2, 3)), lambda x: x.broadcast_to(4, 2, 3), (2, 1)),
    "broadcast_to same": (lambda x: tg.broadcast_to(x, (2, 3)), lambda x: x * 1, (2, 3)),
    "broadcast_to number": (lambda x: tg.broadcast_to(x, (2, 3)), lambda x: x.broadcast_to(2, 3), ()),
    "squeeze": (tg.squeeze, lambda x: x.squeeze(), (1, 3, 1)),
    "squeeze 0": (lambda x: tg.squeeze(x, 0), lambda x: x.squeeze(0), (1, 3, 1)),
    "squeeze -1": (lambda x: tg.squeeze(x, axis=-1), lambda x: x.squeeze(-1), (1, 3, 1)),
    "squeeze tuple": (lambda x: tg.squeeze(x, (0, 2)), lambda x: x.squeeze((0, 2)), (1, 3, 1)),
    "expand_dims": (lambda x: tg.expand_dims(x, 1), lambda x: x.unsqueeze(1), (2, 3)),
    "expand_dims -1": (lambda x: tg.expand_dims(x, -1), lambda x: x.unsqueeze(-1), (2, 3)),
    "expand_dims tuple": (lambda x: tg.expand_dims(x, (0, 2)), lambda x: x[None, :, None], (2, 3)),
    "split": (lambda x: tg.split(x, 3)[1], lambda x: x[2:4], (6, 2)),
    "split axis": (lambda x: tg.split(x, 2, axis=1)[0] * 2, lambda x: x[:, :2] * 2, (3, 4)),
    "split at": (
        lambda x: tg.concatenate(tg.split(x, [1, 4])[::-1]),
        lambda x: torch.cat([x[4:], x[1:4], x[:1]]),
        (6,),
    ),
    "split -1": (lambda x: tg.split(x, 4, axis=-1)[3], lambda x: x[..., 6:], (2, 3, 8)),
    "concatenate itself": (lambda x: tg.concatenate([x, x * x, x]), lambda x: torch.cat([x, x * x, x]), (2, 3)),
    "stack itself": (lambda x: tg.stack([x, x * x], -1), lambda x: torch.stack([x, x * x], -1), (2, 3)),
    "stack one": (lambda x: tg.stack([x]), lambda x: x[None], (2,)),
    "np.concatenate": (
        lambda x: np.concatenate([x, CONSTANT]),
        lambda x: torch.cat([x, torch.tensor(CONSTANT)]),
        (2, 3),
    ),
    "np.stack": (lambda x: np.stack([x, x], axis=1), lambda x: torch.stack([x, x], 1), (2, 3)),
    "np.reshape": (lambda x: np.reshape(x, (3, 2)), lambda x: x.reshape(3, 2), (2, 3)),
    "np.transpose": (lambda x: np.transpose(x, (1, 0)), lambda x: x.T, (2, 3)),
    "np.squeeze": (np.squeeze, lambda x: x.squeeze(), (1, 3)),
    "np.expand_dims": (lambda x: np.expand_dims(x, 0), lambda x: x[None], (3,)),
    "np.broadcast_to": (lambda x: np.broadcast_to(x, (2, 3)), lambda x: x.broadcast_to(2, 3), (3,)),
    "np.cumsum": (lambda x: np.cumsum(x, axis=0), lambda x: x.cumsum(0), (2, 3)),
    "np.split": (lambda x: np.split(x, 2)[1], lambda x: x[2:], (4, 3)),
}
for name, (ours, theirs, shape) in SHAPE_CASES.items():
    case(name, ours, theirs, draw(*shape))
for axis in (0, 1, -1, -2):
    shapes = [(2, 3), (4, 3), (1, 3)] if axis % 2 == 0 else [(2, 3), (2, 1), (2, 4)]
    case(
        f"concatenate axis={axis}",
        lambda *xs, a=axis: tg.concatenate(xs, a),
        lambda *xs, a=axis: torch.cat(xs, a),
        *(draw(*s) for s in shapes),
    )
for axis in (0, 1, 2, -1, -3):
    case(
        f"stack axis={axis}",
        lambda *xs, a=axis: tg.stack(xs, axis=a),
        lambda *xs, a=axis: torch.stack(xs, a),
        draw(2, 3),
        draw(2, 3, low=0),
    )

MASK = draw(4, 3, 5) > 0.3
INDICES: dict[str, Any] = {
    "0": 0,
    "-1": -1,
    "1:3": slice(1, 3),
    "::-1": slice(None, None, -1),
    "3:0:-2": slice(3, 0, -2),
    "1:1": slice(1, 1),
    "1:99": slice(1, 99),
    "..., 0": (..., 0),
    "0, ...": (0, ...),
    "None": None,
    ":, None, 1": (slice(None), None, 1),
    "None, ..., None": (None, ..., None),
    "1, 2, 3": (1, 2, 3),
    "()": (),
    "...": ...,
    ":, ::-1, ::2": (slice(None), slice(None, None, -1), slice(None, None, 2)),
    "list": [0, 2, 2],
    "negative list": [-1, -1, 0],
    "table": [[0, 1], [2, 2]],
    "np.int64": np.int64(2),
    "0-d array": np.array(1),
    "array, slice": (np.array([3, 3]), slice(1, None)),
    "points": ([0, 1, 0], [1, 2, 1]),
    "points in all": ([0, 1, 0], [1, 2, 1], [4, 0, 4]),
    "slice, list": (slice(None), [0, 0, 2]),
    "slice, slice, list": (slice(None), slice(0, 2), [4, 4, -1]),
    "list, slice, list": ([0, 1, 1], slice(None), [0, 4, 4]),
    "int, slice, list": (0, slice(None), [1, 1]),
    "slice, int, list": (slice(None), 0, [1, 1]),
    "outer": ([[0], [3]], [0, 2, 2]),
    "None, list": (None, [0, 0], ...),
    "list, None": ([0, 3, 0], None),
    "list, ..., list": ([0, 1], ..., [2, 2]),
    "empty list": [],
    "mask": MASK,
    "mask of rows": np.array([True, False, True, True]),
    "list of bools": [True, False, True, True],
    "mask of the first two axes": MASK[:, :, 0],
    "slice, mask": (slice(None), np.array([True, False, True])),
    "slice, mask of two": (slice(1, 3), MASK[0]),
    "mask, int": (np.array([True, False, True, True]), 0),
    "mask, list": (np.array([True, False, True, False]), [0, 0]),
    "mask of none": np.zeros(4, dtype=bool),
    "True": True,
    "False": False,
    "True, list": (True, [0, 0]),
    "unsigned": np.array([3, 0, 3], dtype=np.uint8),
}


def by_position(index: Any, shape: tuple[int, ...] = (4, 3, 5)) -> Callable[[Any], Any]:
    """Let NumPy index the positions and PyTorch take them, so that every kind of index has an oracle."""
    positions = np.arange(int(np.prod(shape))).reshape(shape)[index]
    return lambda x: torch.take(x, torch.tensor(np.array(positions)))


for name, index in INDICES.items():
    case(f"x[{name}]", lambda x, i=index: x[i] * x[i], lambda x, i=index: by_position(i)(x) ** 2, draw(4, 3, 5))
for name in ("1:3", "list", "mask", "points"):
    case(f"getitem(x, {name})", lambda x, i=INDICES[name]: tg.getitem(x, i), by_position(INDICES[name]), draw(4, 3, 5))
for index in ((), ..., None, (None, ...)):
    case(f"number[{index}]", lambda x, i=index: x[i] * 2, lambda x, i=index: by_position(i, ())(x) * 2, 1.5)
case("overlapping slices", lambda x: x[1:] * x[:-1] + x[::-1][1:], lambda x: x[1:] * x[:-1] + x.flip(0)[1:], draw(5, 2))

CONDITION = draw(2, 3) > 0
for a, b in [((2, 3), (2, 3)), ((3,), (2, 1)), ((), (2, 3)), ((2, 3), ()), ((4, 1, 1), (3,))]:
    case(
        f"where {a} {b}",
        lambda x, y: tg.where(CONDITION, x, y),
        lambda x, y: torch.where(torch.tensor(CONDITION), x, y),
        draw(*a),
        draw(*b, low=0),
    )
case(
    "where number",
    lambda x: tg.where(CONDITION, x * x, 0.0),
    lambda x: torch.where(torch.tensor(CONDITION), x * x, 0.0),
    draw(2, 3),
)
case("where of comparison", lambda x: tg.where(x > 0, x * x, x), lambda x: torch.where(x > 0, x * x, x), draw(2, 3))
case(
    "where broadcast condition",
    lambda x: tg.where(CONDITION[:, :1], x, 2 * x),
    lambda x: torch.where(torch.tensor(CONDITION[:, :1]), x, 2 * x),
    draw(3),
)
case(
    "np.where",
    lambda x: np.where(CONDITION, x, 1.0),
    lambda x: torch.where(torch.tensor(CONDITION), x, 1.0),
    draw(2, 3),
)
BOUNDED = [-3.0, -1.0, -0.5, 0.0, 1.0, 2.0]  # -1 and 1 lie on the bounds, where both pass the gradient on
case("clip", lambda x: tg.clip(x, -1, 1) ** 2, lambda x: x.clamp(-1, 1) ** 2, BOUNDED)
case("clip below", lambda x: tg.clip(x, -1, None) ** 2, lambda x: x.clamp(min=-1) ** 2, BOUNDED)
case("clip above", lambda x: tg.clip(x, None, 1) ** 2, lambda x: x.clamp(max=1) ** 2, BOUNDED)
case("np.clip", lambda x: np.clip(x, -1, 1) ** 2, lambda x: x.clamp(-1, 1) ** 2, BOUNDED)


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    ours, theirs, arrays = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(ours, theirs, *arrays)
