"""Small programs at the edges beside PyTorch: integers, odd indices, nothing, numbers that left the graph, copies.

Each program is written once, for both: what differs between the two stands in a small namespace. Compared are the value
and the gradients of all leaves.
"""

import copy
import math
import warnings
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from torch_oracle import assert_same, draw, torch

import tinygrad_rnn as tg

OURS = SimpleNamespace(
    constant=np.asarray,
    where=tg.where,
    maximum=tg.maximum,
    minimum=tg.minimum,
    clip=tg.clip,
    stack=tg.stack,
    softmax=tg.softmax,
    log_softmax=tg.log_softmax,
    logsumexp=tg.logsumexp,
    sum=tg.sum,
    prod=tg.prod,
    mean=tg.mean,
    cross_entropy=tg.cross_entropy,
    argmax=np.argmax,
    sign=np.sign,
    floor=np.floor,
    any=np.any,
)
THEIRS = SimpleNamespace(
    constant=torch.as_tensor,
    where=lambda c, a, b: torch.where(torch.as_tensor(c), a, b),
    maximum=lambda a, b: torch.maximum(a, torch.as_tensor(b, dtype=a.dtype)),
    minimum=lambda a, b: torch.minimum(a, torch.as_tensor(b, dtype=a.dtype)),
    clip=torch.clip,
    stack=torch.stack,
    softmax=torch.softmax,
    log_softmax=torch.log_softmax,
    logsumexp=torch.logsumexp,
    sum=torch.sum,
    prod=torch.prod,
    mean=torch.mean,
    cross_entropy=lambda x, labels: torch.nn.functional.cross_entropy(x, torch.as_tensor(labels).long()),
    argmax=torch.argmax,
    sign=torch.sign,
    floor=torch.floor,
    any=torch.any,
)
PROGRAMS = {}


def program(name, f, *arrays):
    assert name not in PROGRAMS
    PROGRAMS[name] = f, arrays


INTEGERS = ("bool", "uint8", "int8", "int16", "int32", "int64")
for dtype in INTEGERS:
    top = {"bool": 1, "uint8": 255, "int8": 127}.get(dtype, 200)
    k = np.array([[0, 1, top], [1, top, 0]]).astype(dtype)
    few = np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype)
    for name, f in {
        "x + k": lambda m, x, k=k: x + m.constant(k),
        "k - x": lambda m, x, k=k: m.constant(k) - x,
        "x * k": lambda m, x, k=k: x * m.constant(k) * x,
        "k / x": lambda m, x, k=k: m.constant(k) / x,
        "x / k": lambda m, x, k=k: x / m.constant(np.maximum(k, k[0, 1])),
        "x ** k": lambda m, x, k=few: x ** m.constant(k),
        "(-x) ** k": lambda m, x, k=few: (-x) ** m.constant(k),
        "k ** x": lambda m, x, k=few: m.constant(np.maximum(k, k[0, 1])) ** x,
        "maximum": lambda m, x, k=few: m.maximum(x, k),
        "minimum": lambda m, x, k=few: m.minimum(x * x, k),
        "where": lambda m, x, k=k: m.where(
            k > 0, x, m.constant(k).astype(float) if m is OURS else m.constant(k).double()
        ),
        "condition": lambda m, x, k=few: m.where((k % 2).astype(bool), x, x * x),
    }.items():
        if dtype != "bool" or name not in ("k - x", "x ** k", "(-x) ** k"):  # PyTorch does not subtract booleans
            program(f"{name}, {dtype}", f, draw(2, 3, low=0.4))
for dtype in INTEGERS[1:]:
    labels = np.array([2, 0]).astype(dtype)
    program(f"labels, {dtype}", lambda m, x, labels=labels: m.cross_entropy(x, labels), draw(2, 3))
    program(f"indices, {dtype}", lambda m, x, i=labels: x[np.asarray(i, int) if m is THEIRS else i] * 2.0, draw(3, 2))

At = namedtuple("At", "row column")
for name, index in {
    "named tuple": At(0, 1),
    "named tuple of slices": At(slice(None), 1),
    "named tuple of lists": At([0, 2, 0], [1, 1, 1]),
    "int64": np.int64(-1),
    "tuple of int8": (np.int8(1), np.int8(-1)),
    "list": [0, 0, 2],
    "list of booleans": [True, False, True],
    "0-d array": np.array(2),
    "boolean": True,
    "empty list": [],
    "None and Ellipsis": (None, ..., 1),
}.items():
    program(f"x[{name}]", lambda m, x, i=index: x[i] * x[i] * 3.0, draw(3, 4))

for shape in ((0,), (2, 0), (0, 3), (5, 0, 0)):
    for axis in (0, -1):
        for name in ("softmax", "log_softmax", "logsumexp", "sum", "prod"):
            program(f"{name} {shape} {axis}", lambda m, x, n=name, a=axis: getattr(m, n)(x, a) * 2.0, np.zeros(shape))

for name, f in {
    "item": lambda m, x: x * x[0].item(),
    "tolist": lambda m, x: x * x.tolist()[1],
    "detach": lambda m, x: x * x.detach(),
    "float": lambda m, x: x * float(x[0]),
    "int": lambda m, x: x * int(x[0] * 5.0),
    "bool": lambda m, x: x * 2.0 if x[0] > 0 else x * 3.0,
    "round": lambda m, x: x * float(f"{x[1]:.2f}"),
    "math.exp": lambda m, x: x[0] * math.exp(x[0]),
    "math.floor": lambda m, x: x * math.floor(x[0].item() * 7),
    "argmax": lambda m, x: x[int(m.argmax(x))] * x,
    "sign": lambda m, x: x * m.sign(x),
    "floor": lambda m, x: x * m.floor(x * 3.0),
    "any": lambda m, x: x * (2.0 if m.any(x > 1.5) else 1.0),
    "comparison": lambda m, x: x * m.constant(np.asarray(x.detach().numpy() > 1.0)),
    "sum of rows": lambda m, x: sum(row * k for k, row in enumerate(x)) * 1.0,
    "largest of rows": lambda m, x: max(x) * min(x),
    "list": lambda m, x: m.stack([x[0], x[1] * x[0], x[0].detach()]),
    "deepcopy": lambda m, x: x * copy.deepcopy(x.detach()),
    "numbers": lambda m, x: 2 * x + True - x / np.float64(3.0) if m is OURS else 2 * x + 1 - x / 3.0,
    "square of an integer": lambda m, x: x**2 * 2**x,
    "zeroth power": lambda m, x: x**0 + x**1 * x,
}.items():
    program(name, f, draw(3, low=0.3))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_small_program_is_pytorchs(name):
    f, arrays = PROGRAMS[name]
    xs = [tg.Tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both warn of numbers that leave the graph
        y, z = f(OURS, *xs), f(THEIRS, *ts)
    assert_same(y, z, "value")
    tg.sum(y).backward()
    z.sum().backward()
    for x, t in zip(xs, ts, strict=True):
        assert_same(x.grad, t.grad, "gradient")
    (twin, other) = copy.deepcopy((xs[0], ts[0]))
    assert_same(twin.grad, other.grad, "gradient of the copy")


def test_there_are_many_programs():
    assert len(PROGRAMS) > 100


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("convert", [torch.as_tensor, torch.tensor, torch.asarray, torch.from_dlpack])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)])
def test_pytorch_takes_a_tensor_as_numbers_of_its_own(convert, dtype, shape):
    values = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 3).astype(dtype)
    for x in (tg.Tensor(values, requires_grad=dtype.startswith("f")), tg.Tensor(values.T).T):
        y = x * 1 if dtype.startswith("f") else x
        for given in (x, y):
            t = convert(given)
            assert str(t.dtype) == f"torch.{dtype}" and not t.requires_grad
            np.testing.assert_array_equal(t.numpy(), values)
            t[...] = 0
            np.testing.assert_array_equal(given.numpy(), values)


def test_an_operand_of_pytorchs_never_loses_its_gradient_in_silence():
    x, theirs = tg.Tensor([1.0, 2.0], requires_grad=True), torch.ones(2, requires_grad=True)
    for f in (tg.add, np.arctan2, np.dot, np.outer, tg.nn.mse_loss, lambda a, b: np.concatenate([a, b])):
        for t in (theirs, theirs * 2):
            for a, b in ((x, t), (t, x), (x.detach(), t)):
                with pytest.raises(RuntimeError, match=r"would lose it|that requires grad"):  # ours, or theirs
                    f(a, b)
            for a, b in ((x, t.detach()), (t.detach(), x)):
                assert f(a, b).requires_grad
    assert not tg.Tensor(theirs).requires_grad  # a copy, as of a Tensor


def test_pytorch_and_we_refuse_the_same():
    for f in (lambda x: x @ 2.0, lambda x: x + None, lambda x: x * "a", lambda x: x["a"], lambda x: x[0.5]):
        for x in (tg.Tensor([1.0, 2.0], requires_grad=True), torch.ones(2, requires_grad=True)):
            with pytest.raises((TypeError, ValueError, IndexError)):
                f(x)
    integers, whole = tg.Tensor([1, 2]), torch.tensor([1, 2])
    with pytest.raises(TypeError):
        integers.data = [1.5, 2.0]
    whole.data = torch.tensor([1, 3])
    integers.data = [1, 3]
    assert integers.tolist() == whole.tolist()
