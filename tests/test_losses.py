"""Losses: reductions, class weights and ignored labels against closed forms and PyTorch, value and gradient."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.testing import InconclusiveError, gradcheck

REDUCTIONS = {"mean": np.mean, "sum": np.sum, "none": lambda x: x}
LEADING = st.sampled_from([(4,), (1,), (2, 3), ()])


def numbers(shape):
    return hnp.arrays(float, shape, elements=st.floats(-3, 3), fill=st.nothing())


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@st.composite
def classified(draw):
    """Logits and labels, weights of classes, and a label that is ignored but is not the only one."""
    shape = draw(LEADING)
    classes = draw(st.integers(1, 4))
    labels = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, classes - 1), fill=st.nothing()))
    ignored = draw(st.sampled_from([None, -100, 0]))
    if ignored is not None and labels.size > 1:
        labels.flat[0], labels.flat[1] = ignored, classes - 1
    weight = draw(st.none() | hnp.arrays(float, classes, elements=st.floats(0.25, 2.0), fill=st.nothing()))
    return draw(numbers((*shape, classes))), labels, weight, ignored


@pytest.mark.parametrize("reduction", REDUCTIONS)
@settings(max_examples=15)
@given(case=classified())
def test_cross_entropy_is_its_definition(reduction, case):
    logits, labels, weight, ignored = case
    counted = np.ones(labels.shape, bool) if ignored is None else labels != ignored
    classes = np.where(counted, labels, 0)
    used = counted * (np.ones(logits.shape[-1]) if weight is None else weight)[classes]
    if not used.sum():
        return
    losses = -used * np.take_along_axis(log_softmax(logits), classes[..., None], -1)[..., 0]
    expected = losses.sum() / used.sum() if reduction == "mean" else REDUCTIONS[reduction](losses)

    def f(x):
        return tg.cross_entropy(x, labels, reduction, weight=weight, ignore_index=ignored)

    found = f(tg.Tensor(logits, requires_grad=True))
    assert found.shape == np.shape(expected) and found.requires_grad
    plain = f(logits)
    assert isinstance(plain, tg.Tensor) and np.array_equal(plain.numpy(), found.numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)
    gradcheck(f, logits, rng=0)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@settings(max_examples=10)
@given(data=st.data(), shape=LEADING)
def test_the_other_losses_are_their_definitions(reduction, data, shape):
    x, y = data.draw(numbers(shape)), data.draw(numbers(shape))
    p = 1 / (1 + np.exp(-y))
    surprise = -(p * np.log(1 / (1 + np.exp(-x))) + (1 - p) * np.log(1 / (1 + np.exp(x))))
    for f, target, losses in (
        (tg.mse_loss, y, (x - y) ** 2),
        (nn.binary_cross_entropy_with_logits, p, surprise),
    ):
        found = f(tg.Tensor(x, requires_grad=True), target, reduction=reduction)
        assert found.shape == np.shape(REDUCTIONS[reduction](losses))
        plain = f(x, target, reduction=reduction)
        assert isinstance(plain, tg.Tensor) and np.array_equal(plain.numpy(), found.numpy())
        np.testing.assert_allclose(found.numpy(), REDUCTIONS[reduction](losses), rtol=1e-11, atol=1e-12)
        with suppress(InconclusiveError):  # a gradient of nothing but rounding, as where p = σ(x)
            gradcheck(lambda x, y, f=f: f(x, y, reduction), x, target, rng=0)


def test_float32_stays_float32():
    x = tg.Tensor(np.ones((3, 2), np.float32), requires_grad=True)
    weight = np.array([1.0, 2.0])
    for loss in (
        tg.cross_entropy(x, [0, 1, 1], weight=weight),
        tg.cross_entropy(x, [0, 1, 9], ignore_index=9),
        tg.mse_loss(x, np.zeros((3, 2), np.float32), "none"),
        nn.binary_cross_entropy_with_logits(x, np.zeros((3, 2), np.float32), "sum"),
    ):
        assert loss.dtype == np.float32 and tg.grad(tg.sum(loss), x).dtype == np.float32


def test_neither_overflows_nor_loses_its_digits_in_the_tails():
    x = tg.Tensor([-1000.0, -40.0, 40.0, 1000.0], requires_grad=True)
    losses = nn.binary_cross_entropy_with_logits(x, np.array([0.0, 0.0, 1.0, 1.0]), "none")
    np.testing.assert_allclose(losses.numpy(), [0.0, np.exp(-40.0), np.exp(-40.0), 0.0], rtol=1e-12)
    assert np.isfinite(tg.grad(tg.sum(losses), x).numpy()).all()


def test_what_is_ignored_may_hold_anything():
    logits = np.array([[1.0, 2.0], [np.nan, np.inf]])
    x = tg.Tensor(logits, requires_grad=True)
    loss = tg.cross_entropy(x, [1, -1], ignore_index=-1)
    np.testing.assert_allclose(loss.item(), -log_softmax(logits[0])[1])
    assert np.isfinite(tg.grad(loss, x).numpy()).all() and not tg.grad(loss, x).numpy()[1].any()
    with pytest.raises(ValueError, match=r"labels must lie in 0 ... 1, not in -1"):
        tg.cross_entropy(x, [1, -1])


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_of_the_weights_only_their_proportions_count_for_the_mean(size):
    """It is divided by the weights that were used, be they large or small; by none it is not known."""
    rng = np.random.default_rng(0)
    x, labels, w = tg.Tensor(rng.normal(size=(5, 3)), requires_grad=True), [0, 2, 9, 1, 2], np.array([0.5, 1.0, 2.0])
    each = -log_softmax(x.numpy())[np.arange(5), [0, 2, 0, 1, 2]]
    used = w[[0, 2, 0, 1, 2]] * [1, 1, 0, 1, 1]
    loss = tg.cross_entropy(x, labels, weight=size * w, ignore_index=9)
    assert loss.item() == pytest.approx(each @ used / used.sum(), rel=1e-12)
    with np.errstate(invalid="ignore"):
        assert np.isnan(tg.cross_entropy(x, [9] * 5, weight=size * w, ignore_index=9).item())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: tg.mse_loss(x, x, "average"), "reduction='average': give one of 'mean', 'sum', 'none'"),
        (lambda x: tg.cross_entropy(x, [0, 1], weight=[1.0]), "weight=.*of shape"),
        (lambda x: nn.binary_cross_entropy_with_logits(x, -np.ones((2, 2))), "from 0 to 1"),
        (lambda x: nn.binary_cross_entropy_with_logits(x, np.ones(2)), "must have the same shape"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(tg.Tensor(np.ones((2, 2)), requires_grad=True))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_losses_are_pytorchs(reduction):
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F

    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(5, 3)), rng.uniform(size=(5, 3)), rng.uniform(0.5, 2.0, 3)
    labels = np.array([0, 2, -100, 1, 2])
    ours, theirs = tg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    for mine, yours in (
        (tg.mse_loss(ours, y, reduction), F.mse_loss(theirs, torch.tensor(y), reduction=reduction)),
        (
            nn.binary_cross_entropy_with_logits(ours, y, reduction),
            F.binary_cross_entropy_with_logits(theirs, torch.tensor(y), reduction=reduction),
        ),
        (
            tg.cross_entropy(ours, labels, reduction, weight=w, ignore_index=-100),
            F.cross_entropy(theirs, torch.tensor(labels), torch.tensor(w), reduction=reduction),
        ),
    ):
        np.testing.assert_allclose(mine.numpy(), yours.detach().numpy(), rtol=1e-12)
        (expected,) = torch.autograd.grad(yours.sum(), theirs)
        np.testing.assert_allclose(tg.grad(tg.sum(mine), ours).numpy(), expected.numpy(), rtol=1e-11, atol=1e-14)
