"""Networks whose disease is known, drawn from seeds: the truth is a closed form, or what PyTorch's autograd says.

The slow test prints the confusion matrix of 60 random networks as docs/diagnosis.md quotes it.
"""

import math
from collections import Counter

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import gradient_flow
from tinygrad_rnn.diagnose.remedy import Search, causes_of
from tinygrad_rnn.diagnose.verdict import BLOCKED, HEALTHY, word_of
from tinygrad_rnn.nn import init
from tinygrad_rnn.train import Adam, clip_grad_norm

ZERO = init.constant(0.0)


def noise(T, B, size, scale=1.0, seed=0):
    return scale * np.random.default_rng(seed).standard_normal((T, B, size))


def tanh(size, H, weight_hh, weight_ih=None, seed=3):
    """A tanh cell without biases."""
    start = {"weight_hh": weight_hh, "weight_ih": weight_ih or init.gaussian(size**-0.5)}
    return tg.RNNCell(size, H, rng=seed, bias=False, init=start)


def put(model, name, change):
    """The model, with one parameter changed."""
    p = model.parameters()[name]
    p.data = np.asarray(change(np.array(p.data)), p.dtype)
    return model


def linear(factor, seed):
    """h' = factor Q h + U x: what is left of a gradient after k steps is factorᵏ, whatever comes in."""
    start = {"weight_hh": init.orthogonal(factor), "weight_ih": init.gaussian(1.0)}
    cell = tg.RNNCell(3, 12, "identity", bias=False, rng=seed, init=start)
    return gradient_flow(cell, noise(41, 4, 3, seed=seed))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("decades", [-9.0, -4.0, -1.0, 0.0, 1.0, 4.0, 9.0])
def test_a_linear_network_loses_what_its_factor_says(decades, seed):
    flow = linear(10 ** (-decades / 40), seed)
    lost = -np.median(flow.end.states["", "h"][-1])
    assert lost == pytest.approx(decades, abs=1e-9)
    # Which direction of the state an input moves is chance: up to a decade for twelve units and three inputs.
    assert flow.decades_lost == pytest.approx(decades, abs=0.99)
    assert flow.word == word_of(decades)


def test_a_latch_contracts_by_what_its_fixed_point_says():
    """h' = tanh(3 h): held at ±0.9949, so that each step multiplies by 3 (1 - h²) = 0.0305."""
    cell = tg.RNNCell(1, 1, rng=0, bias=False, init={"weight_hh": init.constant(3.0), "weight_ih": init.constant(0.01)})
    flow = gradient_flow(cell, noise(30, 4, 1), state=np.full((4, 1), 0.995))
    h = 1.0
    for _ in range(100):
        h = math.tanh(3 * h)
    expected = -28.5 * math.log10(3 * (1 - h * h))
    assert flow.word == "vanishing" and flow.decades_lost == pytest.approx(expected, rel=0.03)


def test_a_forget_gate_alone_is_its_bias():
    """W = 0: ∂c_t/∂c_{t-k} is σ(b)ᵏ."""
    cell = tg.LSTMCell(2, 6, forget_bias=1.0, rng=0)
    put(cell, "weight_hh", np.zeros_like)
    put(cell, "weight_ih", lambda w: np.r_[w[:6], 0 * w[6:12], w[12:]])
    flow = gradient_flow(cell, noise(41, 4, 2))
    rate = np.diff(np.median(flow.end.states["", "c"][1:], axis=1))
    assert rate == pytest.approx(np.full(39, math.log10(1 / (1 + math.exp(-1.0)))), abs=1e-9)
    assert flow.word == "fading"


# --- ten diseases, and the words, causes and changes that they must get ---


def reverse_direction_dies():
    """Bidirectional, W_hh of the reverse 0.3 Q."""
    start = {"weight_hh": init.orthogonal(), "weight_ih": init.gaussian(0.02), "bias_ih": ZERO, "bias_hh": ZERO}
    net = nn.RNN(3, 20, bidirectional=True, rng=1, init=start)
    return put(net, "weight_hh_l0_reverse", lambda w: 0.3 * w), noise(80, 4, 3)


def end_of_sequence_saturates():
    """The last 8 inputs saturate the state, and with it all that comes from before."""
    x = noise(100, 4, 3, 0.05)
    x[-8:] = 40.0
    return tanh(3, 32, init.orthogonal(), init.gaussian(0.3)), x


def output_gate_closed():
    """An LSTM whose output gate is σ(-18)."""
    cell = tg.LSTMCell(3, 24, init="chrono", t_max=100, rng=0)
    return put(cell, "bias_ih", lambda b: np.r_[b[:72], np.full(24, -18.0)]), noise(100, 4, 3)


def input_gate_closed():
    """An LSTM whose input gate is σ(-14)."""
    return tg.LSTMCell(3, 16, forget_bias=4.0, input_bias=-14.0, rng=0), noise(60, 8, 3, 0.1)


def lstm_without_recurrent_weights():
    """W_hh = 0 with chrono biases: nothing is wrong."""
    cell = tg.LSTMCell(3, 24, init="chrono", t_max=80, rng=0)
    return put(cell, "weight_hh", np.zeros_like), noise(80, 4, 3)


def nothing_can_be_written():
    """A GRU with update bias 40: z is exactly 1."""
    return tg.GRUCell(3, 20, update_bias=40.0, rng=0), noise(80, 4, 3)


def dead_sensor():
    """Inputs that never change."""
    return tg.LSTMCell(3, 16, rng=0), np.ones((60, 8, 3))


def unscaled_inputs():
    """Inputs around 900."""
    return tg.RNNCell(1, 32, rng=2), 900 + noise(100, 4, 1, 150.0)


def large_weights_latch():
    """tanh with W = 4 I."""
    return tanh(3, 32, init.identity(4.0), init.gaussian(0.5)), noise(60, 6, 3)


def chaos():
    """tanh with gain 3 and weak inputs."""
    return tanh(1, 80, init.gaussian(3 / 80**0.5), init.gaussian(0.05)), noise(150, 5, 1)


def loud_relu():
    """A relu network that doubles."""
    return tg.RNNCell(2, 16, "relu", rng=0, init={"weight_hh": init.orthogonal(2.4)}), noise(90, 4, 2)


def overflow():
    """A relu network that leaves float64."""
    return tg.RNNCell(2, 16, "relu", rng=0, init={"weight_hh": init.orthogonal(40.0)}), noise(400, 2, 2)


def a_wall_between_the_layers():
    """Two layers, the second with input weights times 1e-7."""
    net = nn.RNN(3, 16, 2, rng=0, init={"weight_hh": init.orthogonal(1.0)})
    return put(net, "weight_ih_l1", lambda w: 1e-7 * w), noise(30, 4, 3, 0.1)


def hump():
    """Spectral radius 0.5, and each unit hands twice what it has to the next: it grows before it dies."""
    matrix = 0.5 * np.eye(12) + 2.0 * np.eye(12, k=1)
    start = {"weight_hh": lambda rng, shape: matrix, "weight_ih": init.gaussian(1.0)}
    return tg.RNNCell(3, 12, "identity", bias=False, rng=0, init=start), noise(80, 4, 3)


DISEASES = {
    reverse_direction_dies: ("vanishing", "recurrent weights"),
    end_of_sequence_saturates: ("vanishing", None),
    output_gate_closed: ("nothing leaves", "biases"),
    input_gate_closed: ("nothing enters", "biases"),
    lstm_without_recurrent_weights: ("healthy", None),
    nothing_can_be_written: ("nothing enters", "biases"),
    dead_sensor: ("nothing enters", "the inputs are constant"),
    unscaled_inputs: ("nothing leaves", "size of the inputs"),
    large_weights_latch: ("vanishing", "recurrent weights"),
    chaos: ("exploding", "recurrent weights"),
    loud_relu: ("exploding", "recurrent weights"),
    overflow: ("exploding", "recurrent weights"),
    a_wall_between_the_layers: ("dies in depth", "input weights"),
    hump: ("grows then dies", None),
}


@pytest.mark.parametrize("disease", DISEASES, ids=lambda disease: disease.__name__)
def test_a_known_disease_gets_its_word(disease):
    flow = gradient_flow(*disease())
    assert flow.word == DISEASES[disease][0], flow.judgement


@pytest.mark.slow
@pytest.mark.parametrize("disease", DISEASES, ids=lambda disease: disease.__name__)
def test_a_known_disease_gets_its_cause_and_changes_that_hold(disease):
    flow = gradient_flow(*disease())
    cause = DISEASES[disease][1]
    if cause is None:
        assert flow.verdict.causes == ()
    else:
        assert cause in (*flow.verdict.causes, flow.verdict.cause)
    for trial in flow.verdict.trials[:3]:
        other = list(flow.what_if(**trial.changes).flows.values())[1]
        assert other.decades_lost == trial.decades and (other.word == "healthy") >= trial.heals


def test_a_loss_at_every_step_does_not_hide_it():
    class Text(nn.Module):
        def __init__(self):
            self.embed, self.rnn, self.head = nn.Embedding(30, 8, rng=0), nn.RNN(8, 32, rng=1), nn.Linear(32, 30, rng=2)

        def __call__(self, ids):
            return self.head(self.rnn(self.embed(ids))[0])

    ids = np.random.default_rng(0).integers(0, 30, (61, 4))
    flow = gradient_flow(Text(), ids[:-1], loss=lambda z: tg.cross_entropy(z, ids[1:]))
    assert flow.word == "vanishing" and flow.decades_lost > 10
    assert "the loss reads 60 steps; judged is what it sees from step 60" in flow.end.notes


# --- random networks, judged by PyTorch ---


def scaled(net, gain, drive, shift):
    """The network with its recurrent and its first input weights scaled, and the gate shifted that keeps."""
    n = net.hidden_size
    for name, p in net.parameters().items():
        array = np.array(p.data)
        if "weight_hh" in name:
            array *= gain
        elif name == "weight_ih_l0":
            array *= drive
        elif "bias_ih" in name and not isinstance(net, nn.RNN):
            array[n : 2 * n] += shift  # the forget gate, or the update gate
        p.data = array
    return net


def random_network(seed):
    """RNN, LSTM or GRU of one to three layers at some scale, with its inputs."""
    rng = np.random.default_rng([7, seed])
    kind, layers, steps = rng.choice(["RNN", "LSTM", "GRU"]), int(rng.integers(1, 4)), int(rng.integers(5, 120))
    hidden, size, batch = int(rng.integers(4, 33)), int(rng.integers(1, 6)), 4
    options = {"nonlinearity": str(rng.choice(["tanh", "relu"]))} if kind == "RNN" else {}
    net = getattr(nn, str(kind))(size, hidden, layers, rng=int(seed), **options)
    gain, drive, shift = 10 ** rng.uniform(-0.5, 0.7), 10 ** rng.uniform(-1.5, 1.0), rng.choice([0.0, 0.0, 2.0, 5.0])
    return scaled(net, gain, drive, shift), rng.standard_normal((steps, batch, size))


def by_torch(net, x, v):
    """The word that torch's own ∂L/∂x gives by the bounds of docs/diagnosis.md."""
    torch = pytest.importorskip("torch")
    kind = type(net).__name__
    options = {"nonlinearity": net.parameters() and net._cells["l0"].nonlinearity} if kind == "RNN" else {}
    theirs = getattr(torch.nn, kind)(net.input_size, net.hidden_size, net.num_layers, dtype=torch.float64, **options)
    theirs.load_state_dict({name: torch.tensor(array) for name, array in net.state_dict().items()})
    inputs = torch.tensor(x, requires_grad=True)
    outputs, _ = theirs(inputs)
    (outputs[-1] * torch.tensor(v)).sum().backward()
    with np.errstate(divide="ignore"):
        size = np.log10(np.linalg.norm(inputs.grad.numpy(), axis=-1))[::-1]
    dev = x - x.mean(axis=(0, 1))
    drive = np.sqrt(np.square(dev @ np.array(net.parameters()["weight_ih_l0"].data).T).mean())
    size = size + np.log10(np.sqrt(np.square(dev).mean()))
    newest, most, lag = size[:2].max(axis=0), size.max(axis=0), len(x) - 1
    oldest = np.median(size[-max(lag // 10, 1) :], axis=0)
    lost, blocked = np.sort(newest - oldest)[2], np.median(most) - min(np.log10(drive), 0.0) < BLOCKED
    return ("blocked" if blocked else word_of(lost)), lost


def confusion(seeds):
    """How often each word is given, by the word that PyTorch's gradient deserves; and D of the wrong all-clears."""
    counts, alarms = Counter(), []
    for seed in seeds:
        net, x = random_network(seed)
        flow = gradient_flow(net, x)
        truth, lost = by_torch(net, x, flow.direction)
        counts[truth, flow.word] += 1
        if flow.word == "healthy" and (truth == "blocked" or abs(lost) > HEALTHY + 0.1):
            alarms.append((seed, truth, lost))
    return counts, alarms


def table(counts):
    words = list(dict.fromkeys(word for _, word in sorted(counts)))
    rows = [f"| by PyTorch | {' | '.join(words)} |", "|---" * (len(words) + 1) + "|"]
    for truth in dict.fromkeys(truth for truth, _ in sorted(counts)):
        rows.append(f"| {truth} | {' | '.join(str(counts[truth, word]) for word in words)} |")
    return "\n".join(rows)


@pytest.mark.slow
def test_words_against_torch_on_sixty_random_networks():
    counts, alarms = confusion(range(60))
    print(table(counts))
    right = sum(
        n for (truth, word), n in counts.items() if truth == word or (truth, word[:7]) == ("blocked", "nothing")
    )
    told = sum(n for (_, word), n in counts.items() if word not in ("cannot tell", "grows then dies"))
    assert alarms == [] and right >= 54 and told >= 56, (counts, alarms)


def test_words_against_torch_on_a_few_random_networks():
    counts, alarms = confusion(range(6))
    assert alarms == [] and sum(counts.values()) == 6


# --- networks as they come ---


def default_networks(sizes):
    """18 of each size, and what they are fed with."""
    for kind in ("RNN", "LSTM", "GRU"):
        for layers in (1, 2, 3):
            for both in (False, True):
                for hidden in sizes:
                    net = getattr(nn, kind)(4, hidden, layers, bidirectional=both, rng=hidden + layers)
                    yield net, noise(60, 2, 4, seed=layers)


@pytest.mark.parametrize(
    "sizes", [pytest.param([8], marks=pytest.mark.slow), pytest.param([8, 16], marks=pytest.mark.full)]
)
def test_default_networks_have_no_cause_and_see_a_few_steps(sizes):
    near, words = Counter(), Counter()
    for net, x in default_networks(sizes):
        flow = gradient_flow(net, x)
        words[flow.word] += 1
        near[gradient_flow(net, x[:31], lag=5).word] += 1
        if flow.word != "healthy":
            assert causes_of(Search(flow.experiment, flow.judgement, flow.ends), trained=False)[0] == {}, net
    assert (
        words == {"vanishing": 18 * len(sizes)}
        and near["healthy"] >= 18 * len(sizes) - 2
        and near.keys() <= {"healthy", "fading"}
    )


# --- and which of them learn ---


def learnable(seed):
    """RNN, LSTM or GRU of one or two layers at some scale, and how far back it has to look."""
    rng = np.random.default_rng([11, seed])
    kind, steps = str(rng.choice(["RNN", "LSTM", "GRU"])), int(rng.integers(8, 50))
    options = {"nonlinearity": str(rng.choice(["tanh", "relu"]))} if kind == "RNN" else {}
    net = getattr(nn, kind)(1, 16, int(rng.integers(1, 3)), rng=seed, **options)
    gain, drive, shift = 10 ** rng.uniform(-0.5, 0.6), 10 ** rng.uniform(-1.5, 1.0), rng.choice([0, 0, 2.0, 4.0])
    return scaled(net, gain, drive, shift), steps


def learns(net, steps, seed, updates=300):
    """Whether it learns to say if the first input was positive: a squared error below 0.8, where 1 is chance."""
    head, rng, losses = nn.Linear(16, 1, rng=seed), np.random.default_rng([12, seed]), []
    parameters = {**net.parameters(), **{f"head.{name}": p for name, p in head.parameters().items()}}
    optimiser = Adam(parameters, lr=0.01)
    for _ in range(updates):
        x = rng.standard_normal((steps, 32, 1))
        loss = tg.mean((head(net(x)[0][-1]) - (2.0 * (x[0] > 0) - 1)) ** 2)
        if not math.isfinite(loss.item()):
            return False
        for p in parameters.values():
            p.grad = None
        loss.backward()
        clip_grad_norm(parameters, 1.0)
        optimiser.step()
        losses.append(loss.item())
    return bool(np.median(losses[-30:]) < 0.8)


@pytest.mark.full
def test_the_word_at_the_start_tells_which_networks_learn():
    counts = Counter()
    for seed in range(60):
        net, steps = learnable(seed)
        word = gradient_flow(net, np.random.default_rng([13, seed]).standard_normal((steps, 16, 1))).word
        counts[word, learns(net, steps, seed)] += 1
    told = {w: (counts[w, True], counts[w, True] + counts[w, False]) for w in {word for word, _ in counts}}
    print(told)
    assert told["healthy"][0] >= 0.8 * told["healthy"][1] and told["vanishing"][0] <= 0.2 * told["vanishing"][1]
