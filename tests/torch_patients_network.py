"""Networks for the doctor whose sizes, states or optimisers are wrong, each with its repaired twin; and healthy ones.

Importing this module skips a test file without PyTorch.
"""

import numpy as np
from torch_oracle import torch
from torch_patients import B, H, I, Net, Stepped, T, batch, case, lstm, patient

nn, F = torch.nn, torch.nn.functional

# --- the network ---


@patient
def input_scale(broken):
    x, _ = batch()
    return case(lstm(), x=x * 30 + 100 if broken else x)


@patient
def input_scale_bytes(broken):
    x = torch.randint(0, 256, (B, T, I)).float()
    return case(lstm(), x=x if broken else x / 255)


@patient
def input_scale_of_a_cell(broken):
    x, _ = batch()
    return case(Stepped(lambda h: h), x=50 * x + 300 if broken else x)


@patient
def input_scale_before_a_layer(broken):
    x, _ = batch()
    model = nn.Sequential(nn.Linear(I, I), nn.Tanh(), lstm())
    return case(model, x=50 * x + 300 if broken else x)


@patient
def weight_size(broken):
    model = lstm()
    if broken:
        nn.init.normal_(model.rnn.weight_hh_l0)
    return case(model)


@patient
def weight_size_zero(broken):
    model = lstm()
    if broken:
        nn.init.zeros_(model.rnn.weight_hh_l0)
    return case(model)


@patient
def weight_size_constant(broken):
    model = lstm()
    for p in model.parameters() if broken else []:
        nn.init.constant_(p, 0.1)
    return case(model)


@patient
def closed_explodes(broken):
    model = lstm()
    model.rnn = nn.RNN(I, H, batch_first=True, nonlinearity="relu")
    nn.init.eye_(model.rnn.weight_hh_l0)
    with torch.no_grad():
        model.rnn.weight_hh_l0 *= 2 if broken else 1
    return case(model)


@patient
def closed_output_gate(broken):
    model = lstm()
    with torch.no_grad():
        model.rnn.bias_ih_l0[3 * H :] -= 25 if broken else 1
    return case(model)


@patient
def closed_input_gate(broken):
    model = lstm()
    with torch.no_grad():
        model.rnn.bias_ih_l0[:H] -= 25 if broken else 3
    return case(model)


@patient
def depth(broken):
    return case(lstm(num_layers=10 if broken else 2))


@patient
def depth_small_inputs(broken):
    model = lstm(num_layers=5)
    with torch.no_grad():
        for k in range(1, 5):
            getattr(model.rnn, f"weight_ih_l{k}").mul_(0.1 if broken else 1.5)
    return case(model)


@patient
def depth_rnn(broken):
    model = lstm()
    model.rnn = nn.RNN(I, H, 24 if broken else 3, batch_first=True)
    return case(model)


@patient
def depth_gru(broken):
    model = lstm()
    model.rnn = nn.GRU(I, H, 20 if broken else 2, batch_first=True)
    return case(model)


@patient
def dead_relu(broken):
    model = lstm()
    model.rnn = nn.RNN(I, H, batch_first=True, nonlinearity="relu")
    with torch.no_grad():
        model.rnn.bias_ih_l0 -= 20 * broken
    return case(model)


def layers(shift, sign=1.0, same_sign=False):
    model = nn.Sequential(nn.Linear(I, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    with torch.no_grad():
        model[0].bias.sub_(shift)
        if same_sign:
            model[2].weight.abs_().mul_(5 * sign)
    return model


@patient
def dead_relu_layers(broken):
    return case(layers(8.0 * broken), x=torch.randn(64, I), y=torch.randn(64, 1))


@patient
def dead_relu_second_layer(broken):
    return case(layers(0.0, -1.0 if broken else 1.0, broken), x=torch.randn(64, I), y=torch.randn(64, 1))


@patient
def dead_relu_positive_inputs(broken):
    x, model = 50 + torch.rand(64, I), layers(0.0)
    with torch.no_grad():
        model[0].weight.copy_(-model[0].weight.abs() if broken else model[0].weight)
    return case(model, x=x if broken else x - x.mean(0), y=torch.randn(64, 1))


@patient
def dead_relu_functional(broken):
    class Front(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.rest = nn.Linear(I, 16), lstm(inputs=16)
            self.first.bias.data -= 20.0 * broken

        def forward(self, x):
            return self.rest(F.relu(self.first(x)))

    return case(Front())


@patient
def dropout_leaves_nothing(broken):
    return case(lstm(squash=nn.Dropout(0.95 if broken else 0.3)))


@patient
def dropout_stays_on(broken):
    class Careless(Net):
        def forward(self, x):
            h = self.rnn(x)[0][:, -1]
            return self.head(F.dropout(h, 0.5, broken or self.training))

    return case(Careless(nn.LSTM(I, H, batch_first=True), nn.Linear(H, 1)))


@patient
def kept_history_given(broken):
    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(I, H, batch_first=True), nn.Linear(H, 1)

        def forward(self, x, h):
            out, h = self.rnn(x, h)
            return self.head(out[:, -1]), h

    model, (x, y) = Given(), batch()
    h = model(x, torch.zeros(1, B, H))[1]
    return model, lambda out, y: F.mse_loss(out[0], y), (x, h if broken else h.detach()), y, None


@patient
def kept_history(broken):
    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head, self.h = nn.GRU(I, H, batch_first=True), nn.Linear(H, 1), None

        def forward(self, x):
            out, h = self.rnn(x, self.h)
            self.h = h if broken else h.detach()
            return self.head(out[:, -1])

    return case(Stateful())


@patient
def kept_history_from_before(broken):
    model, loss_fn, x, y, optimizer = kept_history(broken)
    model(x)
    return model, loss_fn, x, y, optimizer


class Keeping(nn.Module):
    """A module whose `keep` puts the new state away, and whose `kept` finds it again."""

    def __init__(self, keep, kept):
        super().__init__()
        self.rnn, self.head, self.keep, self.kept = nn.GRU(I, H, batch_first=True), nn.Linear(H, 1), keep, kept
        self.states, self._h = {}, [None]
        self.register_buffer("b", torch.zeros(1, B, H))

    def forward(self, x):
        out, h = self.rnn(x, self.kept(self))
        self.keep(self, h)
        return self.head(out[:, -1])


def keeping(broken, keep, kept):
    model = Keeping(lambda m, h: keep(m, h if broken else h.detach()), kept)
    model(torch.randn(B, T, I))
    return case(model)


@patient
def kept_history_in_a_dictionary(broken):
    return keeping(broken, lambda m, h: m.states.update(h=h), lambda m: m.states.get("h"))


@patient
def kept_history_in_a_private_list(broken):
    return keeping(broken, lambda m, h: setattr(m, "_h", [h]), lambda m: m._h[0])


@patient
def kept_history_in_a_buffer(broken):
    return keeping(broken, lambda m, h: setattr(m, "b", h), lambda m: m.b)


@patient
def optimiser_missing(broken):
    model = lstm()
    which = model.rnn if broken else model
    return case(model, optimizer=torch.optim.Adam(which.parameters()))


@patient
def optimiser_too_large(broken):
    model = lstm()
    return case(model, optimizer=torch.optim.Adam(model.parameters(), 0.5 if broken else 1e-3))


@patient
def optimiser_too_small(broken):
    model = lstm()
    return case(model, optimizer=torch.optim.SGD(model.parameters(), 1e-9 if broken else 0.1))


@patient
def optimiser_weights_in_a_list(broken):
    class Stacked(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [nn.GRU(I, H, batch_first=True), nn.GRU(H, H, batch_first=True)]
            self.layers, self.head = layers if broken else nn.ModuleList(layers), nn.Linear(H, 1)

        def forward(self, x):
            for layer in self.layers:
                x, _ = layer(x)
            return self.head(x[:, -1])

    return case(Stacked())


@patient
def optimiser_decay(broken):
    model = lstm()
    return case(model, optimizer=torch.optim.Adam(model.parameters(), weight_decay=10.0 if broken else 1e-3))


# --- healthy ---


def healthy(seed):
    """A network that nothing is wrong with: kind, layers, sizes, head, loss, optimiser and batch at random."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    kind = rng.choice(["RNN", "LSTM", "GRU"])
    hidden, steps, rows = (int(rng.choice(sizes)) for sizes in ([8, 16, 32, 64], [10, 30, 60, 120], [4, 8, 32]))
    layers, both, first = int(rng.integers(1, 4)), bool(rng.integers(2)), bool(rng.integers(2))
    tokens, every = bool(rng.integers(2)), bool(rng.integers(2))
    classes = int(rng.choice([0, 2, 10]))
    rnn = getattr(nn, kind)(I, hidden, layers, bidirectional=both, batch_first=first)
    if rng.random() < 0.3:
        for name, p in rnn.named_parameters():
            if "weight_hh" in name:
                for block in p.data.chunk(p.shape[0] // hidden):
                    nn.init.orthogonal_(block)

    def read(out, state):
        h = state[0] if isinstance(state, tuple) else state
        return out if every else torch.cat([h[-2], h[-1]], -1) if both else h[-1]

    head = nn.Sequential(nn.Linear(hidden * (1 + both), classes or 1))
    if rng.random() < 0.3:
        head = nn.Sequential(nn.Linear(hidden * (1 + both), 16), nn.ReLU(), nn.Linear(16, classes or 1))
    model = Net(rnn, head, read)
    if tokens:
        model = nn.Sequential(nn.Embedding(50, I), model)
    shape = (rows, steps) if first else (steps, rows)
    x = torch.randint(50, shape) if tokens else torch.randn(*shape, I)
    wanted = shape if every else (rows,)
    y = torch.randint(classes, wanted) if classes else torch.randn(*wanted, 1)
    if classes:
        y.view(-1)[0] = (int(y.view(-1)[1]) + 1) % classes

    def loss(out, y):
        return F.cross_entropy(out.flatten(0, -2), y.flatten()) if classes else F.mse_loss(out, y)

    optimizer = [
        lambda p: torch.optim.Adam(p, 1e-3), lambda p: torch.optim.SGD(p, 0.05), lambda p: torch.optim.AdamW(p, 3e-3),
        lambda p: torch.optim.RMSprop(p, 1e-3),
    ][int(rng.integers(4))](model.parameters())  # fmt: skip
    for _ in range(int(rng.choice([0, 0, 20]))):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return model, loss, x, y, optimizer
