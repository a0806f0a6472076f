"""Kinds of PyTorch models, small, each as a function of a dtype that gives (model, inputs, loss of the model).

Importing this module skips the test file where PyTorch is missing.
"""

from collections.abc import Callable
from typing import Any

from torch_oracle import torch

nn, F = torch.nn, torch.nn.functional
rnn_utils = nn.utils.rnn
T, B, I, H = 5, 3, 4, 6  # noqa: E741

MODELS: dict[str, Callable[[Any], tuple[Any, Any, Callable[[Any, Any], Any]]]] = {}


def model(function):
    MODELS[function.__name__] = function
    return function


def simple(name, make, *shape, loss=lambda module, x: module(x).square().mean()):
    """A module that is given one array of numbers."""

    def build(dtype):
        return make().to(dtype), torch.randn(*shape).to(dtype), loss

    MODELS[name] = build


def first(module, x):
    return module(x)[0].square().mean()


def last_step(module, x):
    return module(x)[0][-1].square().sum()


def final_state(module, x):
    state = module(x)[1]
    return sum(part.square().mean() for part in (state if isinstance(state, tuple) else (state,)))


class Of(nn.Module):
    """A module whose forward is a function of itself and the input."""

    def __init__(self, forward, **parts):
        super().__init__()
        self._function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self._function(self, x)


# --- layers ---
simple("mlp", lambda: nn.Sequential(nn.Linear(I, H), nn.ReLU(), nn.Linear(H, 2)), B, I)
simple("deep", lambda: nn.Sequential(*[nn.Sequential(nn.Linear(I, I), nn.Tanh()) for _ in range(6)]), B, I)
simple("gelu_silu", lambda: nn.Sequential(nn.Linear(I, H), nn.GELU(), nn.Linear(H, H), nn.SiLU()), B, I)
simple("leaky_elu", lambda: nn.Sequential(nn.Linear(I, H), nn.LeakyReLU(), nn.ELU(), nn.Softplus()), B, I)
simple("prelu", lambda: nn.Sequential(nn.Linear(I, H), nn.PReLU()), B, I)
simple("glu", lambda: nn.Sequential(nn.Linear(I, 2 * H), nn.GLU()), B, I)
simple("no_bias", lambda: nn.Linear(I, H, bias=False), B, I)
simple("linear_3d", lambda: nn.Linear(I, H), T, B, I)
simple("bilinear", lambda: Of(lambda m, x: m.b(x, x), b=nn.Bilinear(I, I, H)), B, I)
simple("conv1d", lambda: nn.Sequential(nn.Conv1d(I, H, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2)), B, I, 8)
simple("conv2d", lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AvgPool2d(2)), B, 2, 6, 6)
simple("transposed_conv", lambda: nn.ConvTranspose1d(I, H, 3), B, I, 8)
simple("layer_norm", lambda: nn.Sequential(nn.Linear(I, H), nn.LayerNorm(H)), B, I)
simple("batch_norm", lambda: nn.Sequential(nn.Linear(I, H), nn.BatchNorm1d(H)), B, I)
simple("batch_norm_eval", lambda: nn.Sequential(nn.Linear(I, H), nn.BatchNorm1d(H)).eval(), B, I)
simple("group_norm", lambda: nn.Sequential(nn.Conv1d(I, H, 1), nn.GroupNorm(2, H)), B, I, 8)
simple("instance_norm", lambda: nn.InstanceNorm1d(I, affine=True), B, I, 8)
simple("dropout", lambda: nn.Sequential(nn.Linear(I, H), nn.Dropout(0.3), nn.Linear(H, 2)), B, I)
simple("attention", lambda: Of(lambda m, x: m.a(x, x, x)[0], a=nn.MultiheadAttention(I, 2)), T, B, I)
simple("encoder_layer", lambda: nn.TransformerEncoderLayer(I, 2, 8), T, B, I)
simple("decoder_layer", lambda: Of(lambda m, x: m.d(x, x), d=nn.TransformerDecoderLayer(I, 2, 8)), T, B, I)
simple(
    "sdpa",
    lambda: Of(lambda m, x: F.scaled_dot_product_attention(m.q(x), x, x, is_causal=True), q=nn.Linear(I, I)),
    *(B, 2, T, I),
)
# --- recurrent modules and cells ---
for _kind, _stack, _cell in [("rnn", nn.RNN, nn.RNNCell), ("lstm", nn.LSTM, nn.LSTMCell), ("gru", nn.GRU, nn.GRUCell)]:
    simple(_kind, lambda kind=_stack: kind(I, H), T, B, I, loss=last_step)
    simple(f"{_kind}_all_steps", lambda kind=_stack: kind(I, H), T, B, I, loss=first)
    simple(
        f"{_kind}_deep_both",
        lambda kind=_stack: kind(I, H, 2, bidirectional=True, batch_first=True),
        *(B, T, I),
        loss=final_state,
    )
    simple(
        f"{_kind}_cell",
        lambda kind=_cell: Of(cell_loop, cell=kind(I, H)),
        *(T, B, I),
    )
simple("rnn_relu", lambda: nn.RNN(I, H, nonlinearity="relu"), T, B, I, loss=last_step)
simple("lstm_unbatched", lambda: nn.LSTM(I, H), T, I, loss=last_step)
simple("lstm_no_bias", lambda: nn.LSTM(I, H, bias=False), T, B, I, loss=last_step)
simple("lstm_dropout", lambda: nn.LSTM(I, H, 2, dropout=0.4), T, B, I, loss=last_step)
simple("lstm_projected", lambda: nn.LSTM(I, H, 2, proj_size=2), T, B, I, loss=last_step)


def cell_loop(module, x):
    state = None
    for step in x:
        state = module.cell(step, state)
    return state[0] if isinstance(state, tuple) else state


@model
def stacked_cells(dtype):
    def forward(m, x):
        a = b = None
        for step in x:
            a = m.cells[0](step, a)
            b = m.cells[1](a, b)
        return b

    cells = nn.ModuleList([nn.GRUCell(I, H), nn.GRUCell(H, H)])
    return Of(forward, cells=cells).to(dtype), torch.randn(T, B, I, dtype=dtype), lambda m, x: m(x).square().mean()


@model
def encoder_decoder(dtype):
    def forward(m, x):
        _, state = m.encoder(x)
        h, outputs = state[0], []
        for _ in range(3):
            h = m.cell(m.read(h), h)
            outputs.append(h)
        return torch.stack(outputs)

    net = Of(forward, encoder=nn.GRU(I, H), cell=nn.GRUCell(I, H), read=nn.Linear(H, I))
    return net.to(dtype), torch.randn(T, B, I, dtype=dtype), lambda m, x: m(x).square().mean()


@model
def two_windows(dtype):
    def loss(m, x):
        first, state = m(x)
        return first.mean() + m(x, state)[0].square().mean()

    return nn.LSTM(I, H).to(dtype), torch.randn(T, B, I, dtype=dtype), loss


@model
def packed(dtype):
    def loss(m, x):
        together = rnn_utils.pack_padded_sequence(x, torch.tensor([2, 5, 3]), enforce_sorted=False)
        out, (h, _) = m(together)
        return rnn_utils.pad_packed_sequence(out)[0].square().mean() + h.square().mean()

    return nn.LSTM(I, H, 2, bidirectional=True).to(dtype), torch.randn(T, B, I, dtype=dtype), loss


@model
def given_state(dtype):
    h, c = (torch.randn(1, B, H, dtype=dtype, requires_grad=True) for _ in range(2))
    net = nn.LSTM(I, H).to(dtype)
    return net, torch.randn(T, B, I, dtype=dtype, requires_grad=True), lambda m, x: m(x, (h, c))[0].square().mean()


@model
def frozen_encoder(dtype):
    net = Of(lambda m, x: m.fc(m.rnn(x)[0][-1]), rnn=nn.LSTM(I, H), fc=nn.Linear(H, 2)).to(dtype)
    net.rnn.requires_grad_(False)
    return net, torch.randn(T, B, I, dtype=dtype), lambda m, x: m(x).square().mean()


@model
def detached_state(dtype):
    def loss(m, x):
        _, (h, c) = m(x)
        return m(x, (h.detach(), c.detach()))[0].square().mean()

    return nn.LSTM(I, H).to(dtype), torch.randn(T, B, I, dtype=dtype), loss


def parametrised(name, wrap):
    def build(dtype):
        net = nn.LSTM(I, H).to(dtype)
        wrap(net, "weight_hh_l0")
        return net, torch.randn(T, B, I, dtype=dtype), last_step

    MODELS[name] = build


def _prune(module, weight, amount):
    from torch.nn.utils import prune

    prune.l1_unstructured(module, weight, amount=amount)


parametrised("orthogonal", lambda m, w: nn.utils.parametrizations.orthogonal(m, w))
parametrised("weight_norm", lambda m, w: nn.utils.parametrizations.weight_norm(m, w))
parametrised("spectral_norm", lambda m, w: nn.utils.parametrizations.spectral_norm(m, w))
parametrised("pruned", lambda m, w: _prune(m, w, amount=0.3))


# --- tokens ---
def tokens(name, make, loss):
    MODELS[name] = lambda dtype: (make().to(dtype), torch.arange(T * B).reshape(T, B) % 7, loss)


def language_model(tied):
    net = Of(lambda m, x: m.out(m.rnn(m.e(x))[0]), e=nn.Embedding(7, H), rnn=nn.GRU(H, H), out=nn.Linear(H, 7))
    if tied:
        net.out.weight = net.e.weight
    return net


def next_token(module, x):
    return F.cross_entropy(module(x)[:-1].flatten(0, 1), x[1:].flatten())


tokens("language_model", lambda: language_model(False), next_token)
tokens("tied_language_model", lambda: language_model(True), next_token)
tokens("sparse_embedding", lambda: nn.Embedding(7, H, sparse=True), lambda m, x: m(x).square().mean())
tokens("embedding_bag", lambda: nn.EmbeddingBag(7, H), lambda m, x: m(x).square().mean())


# --- losses, and operations with several outputs, views, or in place ---
def operation(name, function, *shape):
    """A function of a linear layer's output."""
    net = lambda: Of(lambda m, x: function(m.fc(x)), fc=nn.Linear(I, H))  # noqa: E731
    simple(name, net, *(shape or (B, I)), loss=lambda m, x: m(x).square().sum())


operation("in_place", lambda y: y.mul_(2).add_(1).tanh_())
operation("views", lambda y: y.view(2, -1)[:, 1:].permute(1, 0).reshape(-1)[::2])
operation("split", lambda y: sum(p * k for k, p in enumerate(y.split(2, -1), 1)))
operation("unbind", lambda y: torch.stack(y.unbind(0)[::2]))
operation("chunk_unused", lambda y: y.chunk(3, -1)[1])
operation("topk", lambda y: y.topk(2, -1)[0])
operation("sort_cumsum", lambda y: y.sort(-1)[0].cumsum(-1))
operation("max_indices", lambda y: y.max(-1)[0] + y.logsumexp(-1))
operation("svd", lambda y: torch.linalg.svd(y, full_matrices=False)[1])
operation("qr_both", lambda y: torch.cat([p.flatten() for p in torch.linalg.qr(y)]))
operation("einsum", lambda y: torch.einsum("bi,bj->ij", y, y))
operation("masked", lambda y: y.masked_fill(torch.arange(H) % 2 == 0, 0.0) + torch.where(y > 0, y, 0.0))
operation("gather_index", lambda y: y.gather(1, torch.zeros(B, 2, dtype=torch.long)) + y[:, [1, 2]])
operation("cat_pad", lambda y: F.pad(torch.cat([y, y], -1), (1, 2)))
operation("zero_gradient", lambda y: y.relu() * 0)
operation("in_place_slice", lambda y: torch.zeros(B, 2 * H, dtype=y.dtype).index_copy(1, torch.arange(H), y))
operation("written_to", lambda y: _written(y))
operation("clamped", lambda y: y.clamp(-0.2, 0.2) + y.abs() + y.std(-1, keepdim=True))
operation("used_twice", lambda y: y * y + y)


def _written(y):
    buffer = y.new_zeros(B, 2 * H)
    buffer[:, :H] = y
    return buffer * buffer


@model
def ctc(dtype):
    def loss(m, x):
        scores = m(x).log_softmax(-1)
        lengths = torch.full((B,), T), torch.full((B,), 2)
        return F.ctc_loss(scores, torch.ones(B, 2, dtype=torch.long) + torch.arange(2), *lengths)

    return nn.Linear(I, H).to(dtype), torch.randn(T, B, I, dtype=dtype), loss


@model
def bce_pos_weight(dtype):
    weight = torch.full((2,), 3.0, dtype=dtype)
    target = torch.ones(B, 2, dtype=dtype)
    loss = lambda m, x: F.binary_cross_entropy_with_logits(m(x), target, pos_weight=weight)  # noqa: E731
    return nn.Linear(I, 2).to(dtype), torch.randn(B, I, dtype=dtype), loss


@model
def huber(dtype):
    target = torch.zeros(B, 2, dtype=dtype)
    return nn.Linear(I, 2).to(dtype), torch.randn(B, I, dtype=dtype), lambda m, x: F.smooth_l1_loss(m(x), target)


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return g * (s + x * s * (1 - s))


class TwoOutputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2, x * 3

    @staticmethod
    def backward(ctx, g, k):
        return 2 * g + 3 * k


class Clamped(TwoOutputs):
    @staticmethod
    def backward(ctx, g, k):
        return (2 * g + 3 * k).clamp(-0.1, 0.1)


operation("custom_function", lambda y: Swish.apply(y))
operation("custom_two_outputs", lambda y: sum(TwoOutputs.apply(y)))
operation("custom_not_linear", lambda y: sum(Clamped.apply(y)))


@model
def checkpointed(dtype):
    net = nn.Sequential(nn.Linear(I, H), nn.Tanh(), nn.Linear(H, 2)).to(dtype)
    save = torch.utils.checkpoint.checkpoint
    return net, torch.randn(B, I, dtype=dtype), lambda m, x: save(m, x, use_reentrant=False).square().mean()


@model
def checkpointed_rnn(dtype):
    save = torch.utils.checkpoint.checkpoint
    net = Of(lambda m, x: save(m.rnn, m.fc(x), use_reentrant=False)[0][-1], fc=nn.Linear(I, I), rnn=nn.GRU(I, H))
    return net.to(dtype), torch.randn(T, B, I, dtype=dtype), lambda m, x: m(x).square().mean()


@model
def gradient_penalty(dtype):
    def loss(m, x):
        x = x.clone().requires_grad_()
        y = m(x).square().sum()
        (g,) = torch.autograd.grad(y, x, create_graph=True)
        return y + g.square().sum()

    return nn.Sequential(nn.Linear(I, H), nn.Tanh(), nn.Linear(H, 1)).to(dtype), torch.randn(B, I, dtype=dtype), loss


@model
def tensor_hook(dtype):
    def loss(m, x):
        y = m(x)
        y.register_hook(lambda g: g * 3)
        return y.square().mean()

    return nn.Linear(I, H).to(dtype), torch.randn(B, I, dtype=dtype), loss


@model
def leaf_hook(dtype):
    net = nn.Linear(I, H).to(dtype)
    net.weight.register_hook(lambda g: g.clamp(-0.01, 0.01))
    return net, torch.randn(B, I, dtype=dtype), lambda m, x: m(x).square().mean()


@model
def module_backward_hook(dtype):
    net = nn.Sequential(nn.Linear(I, H), nn.Tanh()).to(dtype)
    net[1].register_full_backward_hook(lambda module, gi, go: (gi[0] * 2,))
    return net, torch.randn(B, I, dtype=dtype), lambda m, x: m(x).square().mean()


@model
def vector_loss_plain(dtype):
    return nn.LSTM(I, H).to(dtype), torch.randn(T, B, I, dtype=dtype, requires_grad=True), lambda m, x: m(x)[0].sum()


@model
def compiled(dtype):
    net = torch.compile(nn.Sequential(nn.Linear(I, H), nn.Tanh(), nn.Linear(H, 2)).to(dtype), backend="eager")
    return net, torch.randn(B, I, dtype=dtype), lambda m, x: m(x).square().mean()


@model
def data_parallel(dtype):
    net = nn.DataParallel(nn.Sequential(nn.Linear(I, H), nn.Tanh()).to(dtype))
    return net, torch.randn(B, I, dtype=dtype), lambda m, x: m(x).square().mean()


@model
def functional_call(dtype):
    def loss(m, x):
        weights = {name: p * 2 for name, p in m.named_parameters()}
        return torch.func.functional_call(m, weights, (x,)).square().mean()

    return nn.Linear(I, H).to(dtype), torch.randn(B, I, dtype=dtype), loss
