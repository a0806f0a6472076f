"""Networks for the doctor: for each check a broken one and its repaired twin; here, whose data, loss or axes are wrong.

A patient is (model, loss_fn, inputs, targets, optimizer). Importing this module skips a test file without PyTorch.
"""

from collections.abc import Callable
from typing import Any

from torch_oracle import torch

nn, F = torch.nn, torch.nn.functional
B, T, I, H = 12, 30, 3, 16  # noqa: E741

PATIENTS: dict[str, Callable[[bool], Any]] = {}


def patient(function):
    """A function of whether to break it; its name is that of the check, and what the check looks for."""
    PATIENTS[function.__name__] = function
    return function


class Net(nn.Module):
    """A recurrent module and a head on what `read` makes of its output and state."""

    def __init__(self, rnn, head, read=lambda out, state: out[:, -1], squash=lambda y: y, before=lambda x: x):
        super().__init__()
        self.rnn, self.head, self.read, self.squash, self.before = rnn, head, read, squash, before

    def forward(self, x):
        out, state = self.rnn(self.before(x))
        return self.squash(self.head(self.read(out, state)))


def lstm(outputs=1, inputs=I, **options):
    layers = {name: options.pop(name) for name in ("num_layers", "bidirectional") if name in options}
    rnn = nn.LSTM(inputs, H, batch_first=True, **layers)
    return Net(rnn, nn.Linear(H * (1 + rnn.bidirectional), outputs), **options)


def batch(inputs=I, classes=0):
    y = torch.arange(B) % classes if classes else torch.randn(B, 1)
    return torch.randn(B, T, inputs), y


def case(model, loss_fn=F.mse_loss, x=None, y=None, optimizer=None, classes=0):
    inputs, targets = batch(classes=classes)
    return model, loss_fn, inputs if x is None else x, targets if y is None else y, optimizer


def squeezed(output, y):
    return F.mse_loss(output.squeeze(-1), y)


# --- data and loss ---


@patient
def not_finite(broken):
    x, _ = batch()
    x[3, 4, 1] = torch.nan if broken else 0.0
    return case(lstm(), x=x)


@patient
def not_finite_targets(broken):
    y = torch.randn(B, 1)
    y[2] = torch.inf if broken else 0.0
    return case(lstm(), y=y)


@patient
def not_finite_gradient(broken):
    def loss(out, y):
        return F.mse_loss(out, y) + ((out * 0 + (not broken)) ** 2).sum().sqrt()

    return case(lstm(), loss)


@patient
def constant_data_same_sequences(broken):
    x, _ = batch()
    return case(lstm(), x=x[:1].expand(B, T, I).clone() if broken else x)


@patient
def constant_data(broken):
    x, _ = batch()
    x[..., 1] = 0.5 if broken else x[..., 1]
    return case(lstm(), x=x)


@patient
def constant_data_targets(broken):
    return case(lstm(2), F.cross_entropy, y=torch.ones(B, dtype=torch.long) if broken else torch.arange(B) % 2)


@patient
def twice_softmax(broken):
    return case(lstm(4, squash=lambda y: y.softmax(-1) if broken else y), F.cross_entropy, classes=4)


@patient
def twice_sigmoid(broken):
    loss = F.binary_cross_entropy_with_logits if broken else F.binary_cross_entropy
    return case(lstm(squash=torch.sigmoid), loss, y=(torch.arange(B)[:, None] % 2).float())


@patient
def twice_nll(broken):
    return case(lstm(4, squash=lambda y: y if broken else y.log_softmax(-1)), F.nll_loss, classes=4)


@patient
def twice_relu_on_logits(broken):
    return case(lstm(4, squash=lambda y: y.relu() if broken else y), F.cross_entropy, classes=4)


@patient
def twice_clamp_on_logits(broken):
    return case(lstm(4, squash=lambda y: y.clamp_min(0.0 if broken else -20.0)), F.cross_entropy, classes=4)


@patient
def twice_sigmoid_on_logits(broken):
    return case(lstm(4, squash=lambda y: y.sigmoid() if broken else y), F.cross_entropy, classes=4)


@patient
def twice_log_softmax_over_time(broken):
    model = lstm(3, read=lambda out, state: out, squash=lambda y: y.log_softmax(1 if broken else -1))
    y = torch.randint(3, (B, T))
    return case(model, lambda out, y: F.nll_loss(out.reshape(-1, 3), y.reshape(-1)), y=y)


@patient
def twice_probabilities_in_nll(broken):
    return case(lstm(4, squash=lambda y: y.softmax(-1) if broken else y.log_softmax(-1)), F.nll_loss, classes=4)


@patient
def twice_one_class(broken):
    y = torch.arange(B) % 2
    return case(lstm(1 if broken else 2), lambda out, y: F.cross_entropy(out, y[: len(out)] * (not broken)), y=y)


@patient
def broadcast_loss(broken):
    def loss(out, y):
        return F.mse_loss(*torch.broadcast_tensors(out, y)) if broken else F.mse_loss(out.squeeze(-1), y)

    return case(lstm(), loss, y=torch.randn(B))


@patient
def broadcast_loss_by_hand(broken):
    return case(lstm(), lambda out, y: ((out if broken else out.squeeze(-1)) - y).pow(2).mean(), y=torch.randn(B))


@patient
def broadcast_loss_both_ways(broken):
    y = torch.randn(B, 1)
    return case(lstm(), F.l1_loss, y=y.T if broken else y)


@patient
def broadcast_loss_of_a_squeezed_output(broken):
    return case(lstm(), lambda out, y: ((out.squeeze(-1) if broken else out) - y).pow(2).mean())


@patient
def target_scale(broken):
    return case(lstm(), y=torch.randn(B, 1) + 1000 if broken else torch.randn(B, 1))


@patient
def target_scale_by_hand(broken):
    y = 300 * torch.rand(B, 1)
    return case(lstm(), lambda out, y: (y - out).abs().mean(), y=y if broken else (y - y.mean()) / y.std())


@patient
def target_scale_small_head(broken):
    model = lstm()
    with torch.no_grad():
        model.head.weight.mul_(0.01 if broken else 1.0), model.head.bias.zero_()
    return case(model, F.smooth_l1_loss, y=torch.randn(B, 1) + (30 if broken else 0))


@patient
def target_scale_every_step(broken):
    model = lstm(read=lambda out, state: out)
    y = torch.cumsum(torch.randn(B, T, 1), 1)
    return case(model, F.l1_loss, y=1e4 + y if broken else y)


@patient
def target_scale_tiny(broken):
    return case(lstm(), y=torch.randn(B, 1) * (1e-5 if broken else 1))


@patient
def out_of_reach_tanh(broken):
    return case(lstm(squash=lambda y: y.tanh() if broken else y), y=3 * torch.randn(B, 1))


@patient
def out_of_reach_relu(broken):
    return case(lstm(squash=lambda y: y.relu() if broken else y), F.l1_loss)


@patient
def out_of_reach_clamp(broken):
    return case(lstm(squash=lambda y: y.clamp(min=0 if broken else -100)), F.l1_loss)


@patient
def out_of_reach_state(broken):
    model = lstm()
    if broken:
        model.rnn, model.head = nn.LSTM(I, 1, batch_first=True), nn.Identity()
    return case(model, y=5 * torch.randn(B, 1))


@patient
def out_of_reach_labels(broken):
    y = (torch.arange(B)[:, None] % 2).float()
    return case(lstm(), F.binary_cross_entropy_with_logits, y=2 * y - 1 if broken else y)


@patient
def pairs(broken):
    model = Net(nn.GRU(I, H), nn.Linear(H, 3), lambda out, state: out)  # outputs are (T, B, 3)

    def loss(out, y):
        return F.cross_entropy(out.reshape(-1, 3), (y if broken else y.T).reshape(-1))

    return case(model, loss, x=torch.randn(T, B, I), y=torch.randint(3, (B, T)))


@patient
def pairs_turned_outputs(broken):
    def loss(out, y):
        return F.cross_entropy((out.transpose(0, 1) if broken else out).reshape(-1, 3), y.reshape(-1))

    return case(lstm(3, read=lambda out, state: out), loss, y=torch.randint(3, (B, T)))


@patient
def pairs_classes_of_other_steps(broken):
    def loss(out, y):
        return F.cross_entropy(out.reshape(B, 3, T) if broken else out.transpose(1, 2), y)

    return case(lstm(3, read=lambda out, state: out), loss, y=torch.randint(3, (B, T)))


# --- axes and time ---


@patient
def samples_mix_axis(broken):
    model = lstm()
    model.rnn = nn.LSTM(I, H, batch_first=not broken)
    return case(model)


@patient
def samples_mix_view(broken):
    x = torch.randn(T, B, I)
    turn = (lambda x: x.reshape(B, T, I)) if broken else (lambda x: x.transpose(0, 1))
    return case(lstm(before=turn), x=x)


@patient
def samples_mix_final_states(broken):
    def read(out, state):
        return state[0].reshape(len(out), -1) if broken else torch.cat([*state[0]], -1)

    return case(lstm(bidirectional=True, read=read))


@patient
def samples_mix_equal_sizes(broken):
    model = lstm()
    model.rnn = nn.LSTM(I, H, batch_first=not broken)
    return case(model, x=torch.randn(T, T, I), y=torch.randn(T, 1))


class Loop(nn.Module):
    """A cell in a loop, with what is done to the state between steps."""

    def __init__(self, between):
        super().__init__()
        self.cell, self.head, self.between = nn.GRUCell(I, H), nn.Linear(H, 1), between

    def forward(self, x):
        h = x.new_zeros(len(x), H)
        for t in range(x.shape[1]):
            h = self.between(self.cell(x[:, t], h), t)
        return self.head(h)


@patient
def cut_detach(broken):
    return case(Loop(lambda h, t: h.detach() if broken and t == 20 else h))


@patient
def cut_every_step(broken):
    return case(Loop(lambda h, t: h.data if broken and t < T - 1 else h))


@patient
def cut_no_grad(broken):
    class Burn(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(I, H, batch_first=True), nn.Linear(H, 1)

        def forward(self, x):
            with torch.set_grad_enabled(not broken):
                _, h = self.rnn(x[:, :20])
            return self.head(self.rnn(x[:, 20:], h)[0][:, -1])

    return case(Burn())


@patient
def cut_tokens(broken):
    net = Loop(lambda h, t: h.detach() if broken and t == 20 else h)
    return case(nn.Sequential(nn.Embedding(9, I), net), x=torch.randint(9, (B, T)))


@patient
def cut_half_of_the_state(broken):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.LSTMCell(I, H), nn.Linear(H, 1)

        def forward(self, x):
            h = c = torch.zeros(len(x), H)
            for t in range(x.shape[1]):
                h, c = self.cell(x[:, t], (h.detach() if broken else h, c))
            return self.head(h)

    return case(Two())


@patient
def cut_everything_frozen(broken):
    model = lstm().requires_grad_(not broken)
    return case(model)


@patient
def cut_numbers(broken):
    def loss(out, y):
        value = F.mse_loss(out, y)
        return torch.tensor(value.item(), requires_grad=True) if broken else value

    return case(lstm(), loss)


@patient
def cut_without_history(broken):
    return case(
        lstm(4), lambda out, y: (out.argmax(1) != y).float().mean() if broken else F.cross_entropy(out, y), classes=4
    )


class Stepped(nn.Module):
    """A cell in a loop that is given a state made of the one before."""

    def __init__(self, state):
        super().__init__()
        self.cell, self.head, self.state = nn.GRUCell(I, H), nn.Linear(H, 1), state

    def forward(self, x):
        h = torch.zeros(len(x), H)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], self.state(h))
        return self.head(h)


@patient
def one_step_without_a_state(broken):
    return case(Stepped(lambda h: None if broken else h))


@patient
def one_step_from_zeros(broken):
    return case(Stepped(lambda h: torch.zeros_like(h) if broken else h))


@patient
def one_step_of_all_inputs(broken):
    turn = (lambda x: x.reshape(B, 1, -1)) if broken else (lambda x: x)
    return case(lstm(inputs=T * I if broken else I, before=turn))


@patient
def padding_read_after_the_end(broken):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(I, H, batch_first=True), nn.Linear(H, 1)

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            out, (h, _) = self.rnn(packed)
            out, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
            return self.head(out[:, -1] if broken else h[-1])

    lengths = torch.tensor([6, 10, 14, 18, 22, 26] * 2)
    x, y = batch()
    x[torch.arange(T)[None] >= lengths[:, None]] = 0.0
    return Packed(), F.mse_loss, (x, lengths), y, None


@patient
def padding(broken):
    lengths = torch.tensor([6, 10, 14, 18, 22, 26] * 2)
    x, _ = batch()
    x[torch.arange(T)[None] >= lengths[:, None]] = 0.0
    model = lstm(read=lambda out, state: out[:, -1] if broken else out[torch.arange(B), lengths - 1])
    return case(model, x=x)


@patient
def padding_tokens(broken):
    lengths = torch.tensor([6, 10, 14, 18, 22, 26] * 2)
    x = torch.randint(1, 9, (B, T))
    x[torch.arange(T)[None] >= lengths[:, None]] = 0
    model = lstm(read=lambda out, state: out[:, -1] if broken else out[torch.arange(B), lengths - 1])
    return case(nn.Sequential(nn.Embedding(9, I), model), x=x)


@patient
def read_too_early_both(broken):
    read = (
        (lambda out, state: out[:, -1]) if broken else (lambda out, state: torch.cat([state[0][-2], state[0][-1]], -1))
    )
    return case(lstm(bidirectional=True, read=read))


@patient
def read_too_early_first(broken):
    return case(lstm(read=lambda out, state: out[:, 0 if broken else -1]))
