"""Optimisers and clipping: beside torch.optim step for step, and beside what can be worked out with a pencil."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.train import SGD, Adagrad, Adam, Optimiser, RMSprop, clip_grad_norm, clip_grad_value, grad_norm

SHAPES = {"weight": (3, 2), "bias": (3,), "scale": ()}
VARIANTS = [
    (SGD, {}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (Adagrad, {}),
    (Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.01}),
    (RMSprop, {}),
    (RMSprop, {"lr": 0.03, "alpha": 0.9, "momentum": 0.8, "weight_decay": 0.01}),
    (RMSprop, {"lr": 0.03, "centered": True}),
    (Adam, {}),
    (Adam, {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.01}),
]


def fresh(rng, dtype="float64"):
    return {
        name: tg.Tensor(rng.normal(size=shape).astype(dtype), requires_grad=True, name=name)
        for name, shape in SHAPES.items()
    }


@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_as_torch(kind, options):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    ours = fresh(rng)
    theirs = {name: torch.tensor(np.array(p.data), requires_grad=True) for name, p in ours.items()}
    optimiser = kind(ours, **options)
    oracle = getattr(torch.optim, kind.__name__)(theirs.values(), **options)
    for _ in range(7):
        for name in ours:
            g = rng.normal(size=SHAPES[name])
            ours[name].grad, theirs[name].grad = g, torch.tensor(g)
        optimiser.step()
        oracle.step()
        for name, p in ours.items():
            np.testing.assert_allclose(p.data, theirs[name].detach().numpy(), rtol=1e-12, atol=1e-14)
    for name, slots in zip(ours, oracle.state_dict()["state"].values(), strict=False):
        for slot, value in slots.items():
            if value is not None:  # SGD without momentum keeps an empty place
                np.testing.assert_allclose(optimiser.state[name][slot], np.asarray(value), rtol=1e-6)


def descend(kind, gradient, steps, start=1.0, **options):
    """Where a single number gets to."""
    w = tg.Tensor(start, requires_grad=True)
    optimiser = kind([w], **options)
    for t in range(steps):
        w.grad = gradient(float(w.data), t)
        optimiser.step()
    return float(w.data)


def test_closed_forms():
    assert descend(SGD, lambda w, t: w, 10, lr=0.1) == pytest.approx(0.9**10, rel=1e-14)
    # With a constant gradient, momentum adds up a geometric series.
    run = sum((1 - 0.5**k) / (1 - 0.5) for k in range(1, 6))
    assert descend(SGD, lambda w, t: 1.0, 5, lr=0.1, momentum=0.5) == pytest.approx(1 - 0.1 * run, rel=1e-14)
    harmonic = sum(1 / np.sqrt(k) for k in range(1, 6))
    for scale in (1e-3, 1.0, 1e3):  # the size of the gradient does not matter to these
        constant = lambda w, t, s=scale: s  # noqa: E731
        assert descend(Adagrad, constant, 5, lr=0.1, eps=0.0) == pytest.approx(1 - 0.1 * harmonic, rel=1e-12)
        rms = sum(1 / np.sqrt(1 - 0.9**k) for k in range(1, 6))
        assert descend(RMSprop, constant, 5, lr=0.1, alpha=0.9, eps=0.0) == pytest.approx(1 - 0.1 * rms, rel=1e-12)
        assert descend(Adam, constant, 5, lr=0.1, eps=0.0) == pytest.approx(1 - 0.5, rel=1e-12)


@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_state_goes_out_and_in_and_the_steps_stay_the_same(kind, options):
    rng = np.random.default_rng(1)
    gradients = [{name: rng.normal(size=shape) for name, shape in SHAPES.items()} for _ in range(6)]

    def run(optimiser, some):
        for gradient in some:
            for name, g in gradient.items():
                optimiser.parameters[name].grad = g
            optimiser.step()
        return {name: np.array(p.data) for name, p in optimiser.parameters.items()}

    first = kind(fresh(np.random.default_rng(2)), **options)
    half = run(first, gradients[:3])
    saved = first.state_dict()
    whole = run(first, gradients[3:])
    again = kind({name: tg.Tensor(array, requires_grad=True) for name, array in half.items()}, **options)
    again.load_state_dict(saved)
    for name, array in run(again, gradients[3:]).items():
        np.testing.assert_array_equal(array, whole[name])
    with pytest.raises(ValueError, match="fit"):
        again.load_state_dict({"weight/exp_avg": np.ones((9, 9))})
    with pytest.raises(ValueError, match="fit"):
        again.load_state_dict({"other/step": np.ones(())})


@pytest.mark.parametrize("kind", [SGD, Adagrad, RMSprop, Adam])
def test_float32_stays_and_missing_gradients_are_left_alone(kind):
    parameters = fresh(np.random.default_rng(0), "float32")
    optimiser = kind(parameters, lr=0.1)
    before = np.array(parameters["bias"].data)
    parameters["weight"].grad = np.ones((3, 2), "float32")
    optimiser.step()
    assert parameters["weight"].dtype == np.float32
    np.testing.assert_array_equal(parameters["bias"].data, before)
    assert set(optimiser.state) == {"weight"}
    optimiser.zero_grad()
    assert parameters["weight"].grad is None


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: SGD(p, lr=-1), ValueError, "lr=-1"),
        (lambda p: SGD(p, lr=np.nan), ValueError, "lr=nan"),
        (lambda p: SGD(p, nesterov=True), ValueError, "momentum"),
        (lambda p: Adam(p, betas=(0.9, 1.0)), ValueError, "below 1"),
        (lambda p: Adam(p, amsgrad=True), TypeError, "amsgrad"),
        (lambda p: SGD([]), ValueError, "no parameters"),
        (lambda p: SGD([np.ones(2)]), TypeError, "requires_grad"),
        (lambda p: SGD([tg.Tensor(1.0)]), TypeError, "requires_grad"),
        (lambda p: SGD([p["scale"] * 2]), TypeError, "made by hand"),
        (lambda p: clip_grad_norm(p, 0), ValueError, "positive"),
        (lambda p: clip_grad_value(p, np.nan), ValueError, "positive"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make(fresh(np.random.default_rng(0)))


def test_parameters_of_anything():
    cell = tg.LSTMCell(2, 3, rng=0)
    for given_as in (cell, cell.parameters(), list(cell.parameters().values())):
        assert len(Optimiser(given_as, lr=0.1).parameters) == 4
    assert "lr=0.1" in repr(Adam(cell, lr=0.1))


# --- clipping ---


def with_gradients(arrays):
    tensors = [tg.Tensor(np.zeros_like(a), requires_grad=True) for a in arrays]
    for tensor, array in zip(tensors, arrays, strict=True):
        tensor.grad = array
    return tensors


@given(
    st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=4), min_size=1, max_size=3),
    st.floats(1e-3, 1e3),
    st.sampled_from([1.0, 1e-200, 1e250]),
)
@example([[2.0, 5e-324]], 1.0, 1e250)
def test_clipping_by_norm_keeps_the_direction(lists, limit, scale):
    arrays = [np.array(values) * scale for values in lists]
    tensors = with_gradients(arrays)
    joined = np.concatenate(arrays)
    largest = np.abs(joined).max()
    norm = largest * np.sqrt(np.sum((joined / largest) ** 2)) if largest > 1e-300 else 0.0
    assert clip_grad_norm(tensors, limit) == pytest.approx(norm, rel=1e-12, abs=1e-290)
    after = np.concatenate([t.grad.data for t in tensors])
    if norm <= limit:
        np.testing.assert_array_equal(after, joined)
    else:
        assert grad_norm(tensors) == pytest.approx(limit, rel=1e-12)
        least = 1e-323 * (norm / limit)  # what underflows in the clipped gradient was smaller than this before
        np.testing.assert_allclose(after * (norm / limit), joined, rtol=1e-11, atol=max(1e-290, least))


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), st.floats(1e-3, 1e3))
def test_clipping_by_value(values, limit):
    (tensor,) = with_gradients([np.array(values)])
    clip_grad_value([tensor], limit)
    np.testing.assert_array_equal(tensor.grad.data, np.clip(values, -limit, limit))


def test_clipping_leaves_parameters_without_gradient_alone():
    with_gradient, without = with_gradients([np.ones(2)])[0], tg.Tensor(1.0, requires_grad=True)
    clip_grad_norm([with_gradient, without], 0.1)
    clip_grad_value([with_gradient, without], 0.01)
    assert without.grad is None and float(np.abs(with_gradient.grad.data).max()) == 0.01


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_not_clipped(value):
    tensors = with_gradients([np.array([1.0, value]), np.ones(1)])
    with pytest.raises(FloatingPointError, match="no direction"):
        clip_grad_norm(tensors, 1.0)


def test_torch_clips_the_same():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    arrays = [np.arange(6.0).reshape(3, 2), np.ones(2)]
    theirs = [torch.zeros(a.shape, dtype=torch.float64, requires_grad=True) for a in arrays]
    for tensor, a in zip(theirs, arrays, strict=True):
        tensor.grad = torch.tensor(a)
    ours = with_gradients(arrays)
    total = torch.nn.utils.clip_grad_norm_(theirs, 1.5)
    assert clip_grad_norm(ours, 1.5) == pytest.approx(float(total), rel=1e-12)
    for mine, tensor in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.grad.data, tensor.grad.numpy(), rtol=1e-6)  # torch adds 1e-6 to the norm


def test_memory_that_lacks_an_entry_is_refused():
    a, b = (tg.Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    optimiser = Adam({"a": a, "b": b})
    tg.sum(a * b).backward()
    optimiser.step()
    told = optimiser.state_dict()
    before = {name: dict(own) for name, own in optimiser.state.items()}
    del told["b/exp_avg_sq"]
    with pytest.raises(ValueError, match="missing b/exp_avg_sq"):
        optimiser.load_state_dict(told)
    assert all(optimiser.state[name][slot] is kept for name, own in before.items() for slot, kept in own.items())
