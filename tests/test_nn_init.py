"""Initialisers against their formulas, and the slopes of the gradient that frameworks' defaults are known to give."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn import init


def rng():
    return np.random.default_rng(0)


def test_uniform_gaussian_constant_and_xavier():
    shape = (300, 200)
    drawn = init.uniform(0.5)(rng(), shape)
    assert np.abs(drawn).max() <= 0.5 and abs(drawn.std() - 0.5 / np.sqrt(3)) < 0.01
    assert abs(init.gaussian(0.1)(rng(), shape).std() - 0.1) < 0.002
    assert (init.constant(3.0)(rng(), (4,)) == 3).all()
    bound = 2 * np.sqrt(6 / 500)
    assert 0.999 * bound < np.abs(init.xavier(gain=2)(rng(), shape)).max() <= bound


@pytest.mark.parametrize("shape", [(5, 5), (12, 4), (4, 12)])
def test_orthogonal(shape):
    q = init.orthogonal(gain=1.5)(rng(), shape)
    small = q.T @ q if shape[0] >= shape[1] else q @ q.T
    assert q.shape == shape
    np.testing.assert_allclose(small, 1.5**2 * np.eye(min(shape)), atol=1e-12)


def test_each_gate_has_an_orthogonal_matrix_of_its_own():
    blocks = np.split(init.orthogonal(gain=1.5, each_gate=True)(rng(), (12, 3)), 4)
    for block in blocks:
        np.testing.assert_allclose(block.T @ block, 1.5**2 * np.eye(3), atol=1e-12)
    assert not np.allclose(blocks[0], blocks[1])
    with pytest.raises(ValueError, match="square matrices, one per gate"):
        init.orthogonal(each_gate=True)(rng(), (5, 3))


def test_an_array_stands_for_itself_and_bias_for_both():
    matrix = np.arange(12.0).reshape(4, 3)
    cell = nn.RNNCell(
        3, 4, init={"weight_ih": matrix, "bias": init.constant(0.0), "bias_hh": [1.0, 2.0, 3.0, 4.0]}, rng=0
    )
    np.testing.assert_array_equal(cell.weight_ih.numpy(), matrix)
    assert not cell.bias_ih.numpy().any() and cell.bias_hh.tolist() == [1.0, 2.0, 3.0, 4.0]
    matrix[:] = 7.0
    assert cell.weight_ih.numpy()[0, 1] == 1.0, "copied"
    with pytest.raises(ValueError, match=r"init\['weight_hh'\].*of shape \(4, 4\)"):
        nn.RNNCell(3, 4, init={"weight_hh": matrix})


def test_orthogonal_prefers_no_direction():
    signs = [np.sign(init.orthogonal()(np.random.default_rng(k), (3, 3))[0, 0]) for k in range(200)]
    assert abs(np.mean(signs)) < 0.25  # QR alone makes it -1 every time


def test_identity_and_spectral_radius_for_each_gate():
    np.testing.assert_array_equal(init.identity(2.0)(rng(), (6, 3)), 2 * np.concatenate([np.eye(3)] * 2))
    for block in np.split(init.spectral_radius(0.9)(rng(), (32, 8)), 4):
        assert np.isclose(np.abs(np.linalg.eigvals(block)).max(), 0.9)


def test_chrono_is_log_uniform_and_its_opposite():
    forget, closed = init.chrono(0, 20000, t_max=100)
    np.testing.assert_array_equal(closed, -forget)
    times = np.exp(forget)
    assert 1 <= times.min() and times.max() <= 99
    assert abs(times.mean() - 50) < 1 and abs(times.std() - 98 / np.sqrt(12)) < 0.5


# --- cells and stacks ---


def gate(cell, k):
    rows = slice(k * cell.hidden_size, (k + 1) * cell.hidden_size)
    return (np.asarray(cell.bias_ih.numpy()) + cell.bias_hh.numpy())[rows]


def test_presets():
    keras = nn.LSTMCell(3, 4, init="keras", rng=0)
    np.testing.assert_allclose(keras.weight_hh.numpy().T @ keras.weight_hh.numpy(), np.eye(4), atol=1e-12)
    assert np.abs(keras.weight_ih.numpy()).max() <= np.sqrt(6 / 19)
    np.testing.assert_array_equal(np.concatenate([gate(keras, k) for k in range(4)]), np.repeat([0, 1, 0, 0], 4))
    chrono, plain = (nn.LSTMCell(3, 4, init=preset, t_max=50, rng=0) for preset in ("chrono", "pytorch"))
    np.testing.assert_array_equal(chrono.weight_hh.numpy(), plain.weight_hh.numpy())
    np.testing.assert_array_equal(gate(chrono, 0), -gate(chrono, 1))
    assert (gate(chrono, 1) >= 0).all() and (gate(chrono, 1) <= np.log(49)).all()
    np.testing.assert_array_equal(gate(chrono, 2), gate(plain, 2))
    gru = nn.GRUCell(3, 4, init="chrono", rng=0)
    assert (gate(gru, 1) >= 0).all() and (gate(gru, 1) <= np.log(99)).all()
    assert (gate(nn.GRUCell(3, 4, update_bias=2.0, rng=0), 1) == 2).all()
    keras = nn.LSTMCell(3, 4, init="keras", forget_bias=3.0, rng=0)  # what is asked for wins
    np.testing.assert_array_equal(gate(keras, 1), 3)
    nn.LSTMCell(3, 4, init="keras", bias=False), nn.LSTMCell(3, 4, init="keras", forget_gate=False)


@pytest.mark.parametrize(
    "said", [{}, {"forget_bias": 5.0}, {"input_bias": 3.0}, {"forget_bias": 5.0, "input_bias": 3.0}]
)
@pytest.mark.parametrize("preset", ["pytorch", "keras", "chrono"])
def test_a_bias_that_is_asked_for_wins_over_the_preset(preset, said):
    cell, usual = (nn.LSTMCell(3, 4, init=preset, rng=0, **options) for options in (said, {}))
    for k, name in enumerate(("input_bias", "forget_bias")):
        np.testing.assert_array_equal(gate(cell, k), said.get(name, gate(usual, k)))
    for k in (2, 3):
        np.testing.assert_array_equal(gate(cell, k), gate(usual, k))
    if preset == "chrono":
        gru = nn.GRUCell(3, 4, init=preset, rng=0, t_max=9)
        np.testing.assert_array_equal(gate(gru, 1), init.chrono(drawn_past(gru), 4, 9)[0])
        assert (gate(nn.GRUCell(3, 4, init=preset, rng=0, update_bias=5.0), 1) == 5).all()
        lstm = nn.LSTMCell(3, 4, init=preset, rng=0, t_max=9)
        np.testing.assert_array_equal(gate(lstm, 1), init.chrono(drawn_past(lstm), 4, 9)[0])


def drawn_past(cell):
    """A generator that has drawn a cell's parameters, one after another, from U(-1/√H, 1/√H)."""
    rng, bound = np.random.default_rng(0), 1 / np.sqrt(cell.hidden_size)
    drawn = {name: rng.uniform(-bound, bound, p.shape) for name, p in cell.parameters().items()}
    np.testing.assert_array_equal(cell.weight_hh.numpy(), drawn["weight_hh"])
    return rng


def test_an_lstm_without_a_forget_gate_has_three_gates_and_no_bias_of_one():
    cell = nn.LSTMCell(3, 4, init="keras", forget_gate=False, input_bias=2.0, rng=0)
    assert cell.bias_ih.shape == (12,)
    np.testing.assert_array_equal(np.concatenate([gate(cell, k) for k in range(3)]), np.repeat([2, 0, 0], 4))


OPTIONS = {
    nn.RNN: {"nonlinearity": "relu", "init": "keras"},
    nn.LSTM: {"forget_bias": 3.0, "input_bias": -2.0, "forget_gate": False, "t_max": 7, "init": "chrono"},
    nn.GRU: {"update_bias": 3.0, "t_max": 7, "init": "chrono"},
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", OPTIONS)
def test_an_option_of_a_stack_is_that_of_its_cells(kind, bias):
    for option, value in OPTIONS[kind].items():
        options = {option: value} | ({"init": "chrono"} if option == "t_max" else {})
        if bias or not (option.endswith("bias") or "chrono" in options.values()):  # else there is no bias to set
            check_options(kind, bias, options)


def check_options(kind, bias, options):
    cell = {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}[kind]
    stack, one = kind(3, 4, rng=0, bias=bias, **options), cell(3, 4, rng=0, bias=bias, **options)
    plain = kind(3, 4, rng=0, bias=bias)
    for name, p in one.parameters().items():
        np.testing.assert_array_equal(stack.parameters()[f"{name}_l0"].numpy(), p.numpy())
    x = rng().normal(size=(5, 2, 3))
    np.testing.assert_array_equal(stack(x)[0].numpy(), tg.unroll(one, x)[0].numpy())
    assert not np.array_equal(stack(x)[0].numpy(), plain(x)[0].numpy())


def test_initialisers_by_name_in_every_layer():
    irnn = {"weight_hh": init.identity(), "weight_ih": init.gaussian(0.001), "bias_ih": init.constant(0.0)}
    stack = nn.RNN(3, 4, 2, nonlinearity="relu", init=irnn, bidirectional=True, rng=0)
    for name, p in stack.parameters().items():
        if name.startswith("weight_hh"):
            np.testing.assert_array_equal(p.numpy(), np.eye(4))
        assert p.numpy().any() is not name.startswith("bias_ih") or name.startswith("bias_hh")
    drawn = [nn.LSTM(3, 4, 2, init="chrono", rng=0).state_dict() for _ in range(2)]
    for name in drawn[0]:
        np.testing.assert_array_equal(drawn[0][name], drawn[1][name])
    assert not np.array_equal(drawn[0]["bias_ih_l0"], drawn[0]["bias_ih_l1"])  # each layer draws its own


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: nn.RNNCell(2, 3, init="he"), "one of 'pytorch', 'keras', 'chrono'"),
        (lambda: nn.RNNCell(2, 3, init="chrono"), "an RNNCell has none"),
        (lambda: nn.LSTMCell(2, 3, init="chrono", forget_gate=False), "no forget bias"),
        (lambda: nn.LSTMCell(2, 3, init="chrono", t_max=1), "at least 2"),
        (lambda: nn.RNNCell(2, 3, init={"W": init.identity()}), "init names W: a cell has weight_ih"),
        (lambda: nn.RNNCell(2, 3, init={"weight_ih": init.identity()}), "square"),
        (lambda: nn.RNNCell(2, 3, init={"bias_ih": init.xavier()}), "for matrices"),
        (
            lambda: nn.RNNCell(2, 3, init={"bias_ih": lambda rng, shape: np.ones(4)}),
            r"^init\['bias_ih'\]\(rng, \(3,\)\)=array.*of shape \(3,\)$",
        ),
    ],
)
def test_what_does_not_fit_is_refused(ask, words):
    with pytest.raises(ValueError, match=words):
        ask()


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (init.uniform, "bound"),
        (init.gaussian, "std"),
        (init.constant, "value"),
        (init.xavier, "gain"),
        (init.orthogonal, "gain"),
        (init.identity, "scale"),
        (init.spectral_radius, "radius"),
    ],
)
def test_an_initialiser_names_what_it_cannot_take(make, option):
    for wrong in ("x", None, np.nan, True):
        with pytest.raises(ValueError, match=f"^{option}={wrong!r}: give a"):
            make(wrong)
    with pytest.raises(ValueError, match=r"^input_size='2': give a whole number, at least 1$"):
        nn.LSTM("2", 3)
    with pytest.raises(ValueError, match=r"^strict=2: give True or False$"):
        nn.Linear(1, 1).load_state_dict({}, strict=2)


# --- what the defaults do to a gradient: decades per step, from the end back to the beginning ---

STEPS, SIZES = 100, (8, 64)


def slope(make, seed):
    rng = np.random.default_rng(seed)
    cell = make(rng)
    hs, state = [], cell.initial_state()
    for x in rng.normal(size=(STEPS, SIZES[0])):
        first = state[0] if isinstance(state, tuple) else state
        hs.append(first if first.requires_grad else tg.Tensor(first.data, requires_grad=True))
        state = cell(x, (hs[-1], *state[1:]) if isinstance(state, tuple) else hs[-1])
    last = state[0] if isinstance(state, tuple) else state
    v = rng.normal(size=SIZES[1])
    gradients = tg.grad(tg.sum(last * (v / np.linalg.norm(v))), hs)
    norms = np.log10([np.linalg.norm(g.numpy()) for g in gradients])
    lags = np.arange(STEPS, 0, -1)
    return np.polyfit(lags[:-10], norms[:-10], 1)[0]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda rng: nn.RNNCell(*SIZES, rng=rng), -0.241),
        (lambda rng: nn.RNNCell(*SIZES, init="keras", rng=rng), -0.112),
        (lambda rng: nn.LSTMCell(*SIZES, rng=rng), -0.203),
        (lambda rng: nn.LSTMCell(*SIZES, init="keras", rng=rng), -0.078),
        (lambda rng: nn.LSTMCell(*SIZES, init="chrono", rng=rng), -0.0064),
        (lambda rng: nn.GRUCell(*SIZES, rng=rng), -0.195),
        (lambda rng: nn.GRUCell(*SIZES, update_bias=2.0, rng=rng), -0.042),
    ],
    ids=["rnn", "rnn keras", "lstm", "lstm keras", "lstm chrono", "gru", "gru update 2"],
)
def test_slope_of_the_gradient_at_initialisation(make, expected):
    measured = np.mean([slope(make, seed) for seed in range(5)])
    assert abs(measured - expected) < 0.02, measured


def test_irnn_half_of_the_units_pass_the_gradient_on_unchanged():
    irnn = dict(zip(init.WEIGHTS, (init.gaussian(0.001), init.identity(), *[init.constant(0.0)] * 2), strict=True))
    passed = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        cell = nn.RNNCell(2, 100, "relu", init=irnn, rng=rng)
        h0 = tg.Tensor(np.zeros(100), requires_grad=True)
        x = np.stack([rng.uniform(size=150), np.isin(np.arange(150), [20, 100])], axis=1)  # the adding problem's input
        v = rng.normal(size=100)
        g = tg.grad(tg.sum(tg.unroll(cell, x, h0)[1] * v), h0).numpy()
        assert np.isin(g, [0, *v]).all()
        passed.append(np.sum(g * g) / np.sum(v * v))
    assert abs(np.mean(passed) - 0.482) < 0.05


def test_whether_each_gate_is_drawn_alone_is_yes_or_no():
    with pytest.raises(TypeError, match=r"^each_gate='yes': give True or False"):
        nn.init.orthogonal(each_gate="yes")
