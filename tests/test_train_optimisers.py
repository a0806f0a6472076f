"""Optimisers and clipping: beside sums worked out by hand, option by option, and beside torch.optim step for step."""

import inspect
import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.train import (
    SGD,
    Adagrad,
    Adam,
    Optimiser,
    RMSprop,
    clip_grad_norm,
    clip_grad_value,
    grad_norm,
)
from tinygrad_rnn.train.optimisers import OPTIMISERS

SHAPES = {"weight": (3, 2), "bias": (3,), "scale": ()}
VARIANTS = [
    (SGD, {}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (Adagrad, {}),
    (Adagrad, {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.01}),
    (RMSprop, {}),
    (RMSprop, {"lr": 0.03, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.01}),
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


# --- by hand: what torch.optim documents, as sums over all gradients so far, which no step of ours computes ---


def weighted_sum(factor, terms):
    """Σ factor^(t - s) term_s."""
    return sum(factor ** (len(terms) - 1 - k) * term for k, term in enumerate(terms))


def sgd(gs, lr, momentum):
    return lr * weighted_sum(momentum, gs)


def adagrad(gs, lr, eps):
    return lr * gs[-1] / (np.sqrt(sum(g**2 for g in gs)) + eps)


def rmsprop(gs, lr, alpha, eps):
    return lr * gs[-1] / (np.sqrt((1 - alpha) * weighted_sum(alpha, [g**2 for g in gs])) + eps)


def adam(gs, lr, betas, eps):
    mean, square = (
        (1 - b) * weighted_sum(b, terms) / (1 - b ** len(gs))
        for b, terms in zip(betas, (gs, [g**2 for g in gs]), strict=True)
    )
    return lr * mean / (np.sqrt(square) + eps)


BY_HAND = {SGD: sgd, Adagrad: adagrad, RMSprop: rmsprop, Adam: adam}
OTHERS = {  # a value of each option that is not its default, and tells on gradients of size 1
    SGD: {"lr": 0.3, "momentum": 0.7, "weight_decay": 0.2},
    Adagrad: {"lr": 0.3, "eps": 0.2, "weight_decay": 0.2},
    RMSprop: {"lr": 0.3, "alpha": 0.6, "eps": 0.2, "weight_decay": 0.2},
    Adam: {"lr": 0.3, "betas": (0.6, 0.8), "eps": 0.2, "weight_decay": 0.2},
}
PYTORCH = {
    SGD: {"lr": 1e-3, "momentum": 0, "weight_decay": 0},
    Adagrad: {"lr": 1e-2, "eps": 1e-10, "weight_decay": 0},
    RMSprop: {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0},
    Adam: {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0},
}
CHOICES = [
    (kind, dict(chosen))
    for kind, options in OTHERS.items()
    for size in range(len(options) + 1)
    for chosen in itertools.combinations(options.items(), size)
]


def test_every_optimiser_has_a_formula_here():
    for kind in OPTIMISERS.values():
        for place in (BY_HAND, OTHERS, PYTORCH):
            assert kind in place, f"{kind.__name__}: a formula, other options and defaults in BY_HAND, OTHERS, PYTORCH"
        assert kind in dict(VARIANTS), f"{kind.__name__}: options in VARIANTS, to be compared with torch.optim"


@pytest.mark.parametrize("scale", [1.0, 1e-8], ids=["large", "tiny"])  # of the size of the usual eps
@pytest.mark.parametrize("kind", list(OTHERS))
def test_steps_are_the_formulas_of_the_books(kind, scale):
    rng = np.random.default_rng(0)
    gradients = scale * np.array([1.0, -0.7, 0.4, 0.9]).reshape(4, 1) * rng.uniform(0.5, 1.5, (4, 3))
    for options in [chosen for owner, chosen in CHOICES if owner is kind]:
        w = tg.Tensor(scale * rng.normal(size=3), requires_grad=True)
        optimiser, theta, seen = kind([w], **options), np.array(w.data), []
        chosen = PYTORCH[kind] | options
        decay = chosen.pop("weight_decay")
        for g in gradients:
            w.grad = g
            optimiser.step()
            seen.append(g + decay * theta)
            theta = theta - BY_HAND[kind](seen, **chosen)
            np.testing.assert_allclose(w.data, theta, rtol=1e-9, err_msg=f"{optimiser!r} after {len(seen)} steps")


@pytest.mark.parametrize("kind", list(PYTORCH))
def test_defaults_are_those_of_pytorch(kind):
    ours = {name: p.default for name, p in inspect.signature(kind).parameters.items() if name != "parameters"}
    assert ours == PYTORCH[kind]
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = inspect.signature(getattr(torch.optim, kind.__name__)).parameters
    assert ours == {name: theirs[name].default for name in ours}


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


@pytest.mark.parametrize("kind", OPTIMISERS.values())
def test_float32_stays_and_missing_gradients_are_left_alone(kind):
    parameters = fresh(np.random.default_rng(0), "float32")
    optimiser = kind(parameters, lr=0.1)
    before = np.array(parameters["bias"].data)
    parameters["weight"].grad = np.ones((3, 2), "float32")
    parameters["scale"].grad = np.float32(1)  # the one between has none
    optimiser.step()
    assert parameters["weight"].dtype == np.float32
    np.testing.assert_array_equal(parameters["bias"].data, before)
    assert set(optimiser.state) == {"weight", "scale"}
    other = kind(parameters, lr=0.1)
    other.load_state_dict(
        {name: array.astype(float) for name, array in optimiser.state_dict().items() if name != "kind"}
    )
    for name, own in optimiser.state.items():
        assert {s: a.dtype for s, a in other.state[name].items()} == {s: a.dtype for s, a in own.items()}
    optimiser.zero_grad()
    assert parameters["weight"].grad is None


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: SGD(p, lr=-1), ValueError, "lr=-1"),
        (lambda p: SGD(p, lr=np.nan), ValueError, "lr=nan"),
        (lambda p: SGD(p, nesterov=True), TypeError, "nesterov"),
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


UNIT, NATURAL = "give a number from 0 to 1$", "give a finite number, zero or more$"
OUTSIDE = {
    "lr": (-0.1, NATURAL),
    "weight_decay": (-0.1, NATURAL),
    "momentum": (1.1, UNIT),
    "alpha": (1.0, "give a number from 0 to below 1$"),
    "eps": (-1e-9, NATURAL),
    "betas": (0.9, "give two numbers from 0 to below 1$"),
}


@pytest.mark.parametrize("kind", list(PYTORCH))
def test_an_option_out_of_its_range_is_named(kind):
    for option in PYTORCH[kind]:
        wrong, words = OUTSIDE[option]
        with pytest.raises(ValueError, match=f"^{option}={wrong}: {words}"):
            kind([tg.Tensor(1.0, requires_grad=True)], **{option: wrong})
    for k, pair in enumerate([(1.0, 0.5), (0.5, 1.0)]):
        if kind is Adam:
            with pytest.raises(ValueError, match=rf"^betas\[{k}\]=1.0: give a number from 0 to below 1$"):
                kind([tg.Tensor(1.0, requires_grad=True)], betas=pair)


def test_a_learning_rate_is_checked_when_it_is_assigned():
    optimiser = Adam(fresh(np.random.default_rng(0)), lr=0.1)
    optimiser.lr *= 0.5
    for wrong in (np.nan, -1.0, "0.1", True, None, np.inf):
        with pytest.raises(ValueError, match=r"^lr=.*: give a finite number, zero or more$"):
            optimiser.lr = wrong
    assert optimiser.lr == 0.05


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


# --- what is saved ---


def stepped(kind, **options):
    """An optimiser after two steps."""
    optimiser = kind(fresh(np.random.default_rng(0)), **options)
    for _ in range(2):
        for p in optimiser.parameters.values():
            p.grad = np.full(p.shape, 0.5)
        optimiser.step()
    return optimiser


KINDS = list(OPTIMISERS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_another_kinds_state_is_refused_also_before_the_first_step(kind):
    for other, options in VARIANTS:
        for state in (
            other({"w": tg.Tensor(1.0, requires_grad=True)}, **options).state_dict(),
            stepped(other).state_dict(),
        ):
            optimiser = stepped(kind)
            before = told(optimiser)
            if other is kind:
                continue
            with pytest.raises(ValueError, match=f"state is that of {other.__name__}: it does not fit {kind.__name__}"):
                optimiser.load_state_dict(state)
            assert told(optimiser) == before


def told(optimiser):
    """Everything that an optimiser remembers, to be compared."""
    return optimiser.lr, {(n, s): a.tolist() for n, own in optimiser.state.items() for s, a in own.items()}


@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_a_state_that_does_not_fit_changes_nothing(kind, options):
    good = stepped(kind, **options).state_dict()
    slots = [key for key in good if key.startswith("weight/")]
    spoilt = [
        *(({k: v for k, v in good.items() if k != slot}, f"missing {slot}") for slot in ["lr", *slots] if slots[1:]),
        *((good | {slot: good[slot] * np.nan}, f"{slot} holds what is no finite number") for slot in [*slots, "lr"]),
        *((good | {slot: one_wrong(good[slot])}, f"{slot} holds what is no finite number") for slot in slots),
        *((good | {slot: np.ones((9, 9))}, rf"{slot} has shape \(9, 9\), not ") for slot in [*slots, "lr"]),
        *((good | {slot: np.full(good[slot].shape, "x")}, f"{slot} holds") for slot in slots),
        (good | {"weight/other": np.ones((3, 2))}, "unexpected weight/other"),
        (good | {"other/step": np.ones(())}, "unexpected other/step"),
        (good | {"weight": np.ones(())}, "unexpected weight"),
        (good | {"weight/step": np.array(2.5)}, "weight/step is 2.5, not a whole number of steps"),
        (good | {"weight/step": np.array(0.0)}, "weight/step is 0.0, not a whole number of steps"),
        (good | {"lr": np.array(-1.0)}, "lr is negative"),
        *(
            (good | {key: -good[key]}, f"{key} is negative")
            for key in slots
            if key.endswith(("sq", "sum", "square_avg"))
        ),
    ]
    optimiser = kind(fresh(np.random.default_rng(1)), **(options | {"lr": 0.7}))
    before = told(optimiser)
    for state, words in spoilt:
        with pytest.raises(ValueError, match=words):
            optimiser.load_state_dict(state)
        assert told(optimiser) == before, words
    for wrong in (None, 5, [1], "state"):
        with pytest.raises(ValueError, match="state_dict="):
            optimiser.load_state_dict(wrong)
    optimiser.load_state_dict(good)
    assert told(optimiser) == told(stepped(kind, **options))  # the learning rate among it


def one_wrong(array):
    """The same with an element that is infinite."""
    spoilt = np.array(array)
    spoilt[(0,) * spoilt.ndim] = np.inf
    return spoilt


@pytest.mark.parametrize(("one", "other"), [({}, {"momentum": 0.9}), ({"momentum": 0.9}, {})])
def test_a_state_with_and_one_without_momentum(one, other):
    with pytest.raises(ValueError, match=r"(missing|unexpected) weight/momentum_buffer"):
        stepped(SGD, **one).load_state_dict(stepped(SGD, **other).state_dict())


def test_a_state_of_before_there_was_a_kind_is_taken():
    state = stepped(Adam, lr=0.2).state_dict()
    assert bytes(state.pop("kind")) == b"Adam"
    optimiser = Adam(fresh(np.random.default_rng(0)))
    optimiser.load_state_dict(state)
    assert told(optimiser) == told(stepped(Adam, lr=0.2))


def test_a_parameter_that_never_had_a_gradient_has_no_memory():
    a, b = (tg.Tensor(np.ones(2), requires_grad=True) for _ in range(2))
    optimiser = Adam({"a": a, "b": b})
    a.grad = np.ones(2)
    optimiser.step()
    again = Adam({"a": a, "b": b})
    again.load_state_dict(optimiser.state_dict())
    assert set(again.state) == {"a"}


def test_a_kind_of_ones_own_is_saved_as_ours_are():
    class Signs(Optimiser):
        """The sign of the mean gradient."""

        def change(self, g, slots, **options):
            slots["mean"] = options["rate"] * slots.get("mean", np.zeros_like(g)) + g
            return self.lr * np.sign(slots["mean"])

    first = stepped(Signs, lr=0.1, rate=0.5)
    second = Signs(fresh(np.random.default_rng(0)), lr=0.3, rate=0.5)
    second.load_state_dict(first.state_dict())
    assert told(second) == told(first)
    with pytest.raises(ValueError, match="rate='fast': give a finite number"):
        Signs([tg.Tensor(1.0, requires_grad=True)], lr=0.1, rate="fast")
    with pytest.raises(ValueError, match="that of Adam: it does not fit Signs"):
        second.load_state_dict(stepped(Adam).state_dict())


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
