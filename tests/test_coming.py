"""The page for those who come from NumPy, autograd or PyTorch: its tables are the package's, and each call is made."""

import coming
import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, train
from tinygrad_rnn.tensor import NUMPY
from tinygrad_rnn.testing import gradcheck

pytestmark = pytest.mark.golden


def test_the_tables_are_those_of_the_package():
    page = coming.PAGE.read_text(encoding="utf-8")
    assert not coming.stale(page), "run python docs/ext/coming.py"
    assert coming.stale(page.replace("`hstack`", "`hstuck`"))


def test_every_name_is_listed_once_and_none_is_left_out():
    listed = [name for names in coming.names().values() for name in names]
    assert len(set(listed)) == len(listed) and len(listed) > 150
    told = {eval(f"np.{name}", {"np": np}) for name in listed}
    assert {function.__name__ for function in NUMPY.keys() - told} <= {"amax", "amin"}


@pytest.mark.parametrize("call", [ours for _, ours, _ in [*coming.AUTOGRAD, *coming.PYTORCH]])
def test_each_call_on_the_page_works(call):
    v = np.array([3.0, 1.0, 2.0])
    names = {"np": np, "tg": tg, "nn": nn, "train": train, "gradcheck": gradcheck, "v": v}
    names |= {"x": tg.Tensor(v, requires_grad=True), "y": tg.Tensor(v, requires_grad=True), "net": nn.LSTM(3, 4, rng=0)}
    names |= {"f": lambda x: tg.sum(x * x)}
    names["y"].grad = np.ones(3)
    if call.startswith("import"):
        exec(call, names)
    elif call == "tg.no_grad()":
        with eval(call, names):
            assert not (names["x"] * 2.0).requires_grad
    else:
        assert (eval(call, names) is None) == ("load_state_dict" in call)


def test_a_call_gives_what_the_other_library_gives():
    v, d = np.array([3.0, 1.0, 2.0]), 2 * np.array([3.0, 1.0, 2.0])
    f, g = (lambda x: tg.sum(x * x)), (lambda x: x * x)
    values = {
        "grad(f)(x)": d,
        "jacobian(f)(x)": d,
        "hessian(f)(x)": 2 * np.eye(3),
        "hessian_vector_product(f)(x, v)": 2 * v,
        "value_and_grad(f)(x)": (14.0, d),
        "make_jvp(f)(x)(v)": (14.0, d @ v),
    }
    table = {theirs: ours for theirs, ours, _ in coming.AUTOGRAD}
    for theirs, expected in values.items():
        found = eval(table[theirs], {"tg": tg, "np": np, "x": v, "v": v, "f": f})
        for part, want in zip(*([q] if not isinstance(q, tuple) else q for q in (found, expected)), strict=True):
            np.testing.assert_allclose(part.numpy(), want)
    found = eval(table["elementwise_grad(f)(x)"], {"tg": tg, "np": np, "x": v, "f": g})
    np.testing.assert_allclose(found.numpy(), d)


def test_what_is_missing_is_missing():
    text = " ".join(coming.WHY)
    assert all(word in text for word in ("complex", "fft", "linalg.solve", "x[0] = 1.0", "x // y"))
    x = tg.Tensor([3.0, 1.0], requires_grad=True)
    for call in (np.fft.fft, np.linalg.det, np.real, np.add.reduce, np.angle):
        with pytest.raises(TypeError, match="no derivative"):
            call(x)
