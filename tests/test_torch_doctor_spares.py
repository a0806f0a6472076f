"""The doctor spares what only looks broken: several embeddings, targets that the loss transforms, ends that repeat."""

import pytest
from torch_oracle import torch
from torch_patients import B, I, Loop, T, case, lstm

from tinygrad_rnn.torch import doctor

F = torch.nn.functional


# --- several embeddings: the batch enters in one of them ---


class Embedding(torch.nn.Module):
    """Two embeddings, what is made of them by `join`, and a cell in a loop."""

    def __init__(self, join, between=lambda h, t: h):
        super().__init__()
        self.one, self.two = torch.nn.Embedding(50, I), torch.nn.Embedding(50, I)
        self.join, self.rest = join, Loop(between)

    def forward(self, *inputs):
        return self.rest(self.join(self, *inputs))


def positions(x):
    return torch.arange(x.shape[1]).expand_as(x)


JOINS = {
    "positions": lambda m, x: m.one(x) + m.two(positions(x)),
    "positions first": lambda m, x: m.two(positions(x)[:1]) + m.one(x),
    "twice": lambda m, x: m.one(x) + m.one(x.flip(1)),
    "two of the same": lambda m, x: m.one(x) + m.two(input=x),
    "made of it": lambda m, x: m.two(x % 7) + m.one(x.T).transpose(0, 1),
    "two inputs": lambda m, x, z: m.two(z) * m.one(x),
    "one after the other": lambda m, x, z: torch.cat([m.one(x[:, :15]), m.one(z[:, 15:])], 1),
    "two columns": lambda m, x: m.one(x[:, ::2]) + m.two(x[:, 1::2]),
}


@pytest.mark.parametrize("name", JOINS)
def test_embeddings_beside_that_of_the_batch_are_no_fault_and_hide_none(name):
    torch.manual_seed(0)
    x = torch.stack([torch.randint(50, (B, T)) for _ in range(1 + JOINS[name].__code__.co_argcount - 2)]).unbind()
    _, loss_fn, _, y, _ = case(lstm())
    report = doctor(Embedding(JOINS[name]), loss_fn, x, y)
    assert not report and not report.untold, str(report)
    cut = doctor(Embedding(JOINS[name], lambda h, t: h.detach() if t == 12 else h), loss_fn, x, y)
    assert [finding.check for finding in cut] == ["cut"]


def test_tokens_that_no_embedding_takes_as_they_are_leave_checks_unmade_and_told():
    report = doctor(*case(Embedding(lambda m, x: m.one(x + 1)), x=torch.randint(40, (B, T))))
    assert not report and set(report.untold) == {"samples_mix", "cut"}
    assert "not checked: cut (LookupError: the inputs are whole numbers, and no nn.Embedding takes" in str(report)


# --- what the loss compares, which need not be the targets ---


def every_step(out, y):
    return F.mse_loss(out, y, reduction="none")


def bits():
    return (torch.arange(B)[:, None] % 2).float()


def large():
    return 5000 * torch.rand(B, 1) + 1


def with_gaps(gap, shift=0.0):
    y = torch.randn(B, T, 1) + shift
    y[:, 20:] = gap
    return y


bce, sentinel = F.binary_cross_entropy_with_logits, -1000.0
TRANSFORMED = {
    "logarithm": (large, lambda o, y: F.mse_loss(o, y.log1p())),
    "by hand": (large, lambda o, y: (o - y.log1p()).abs().mean()),
    "standardised": (large, lambda o, y: F.l1_loss(o, (y - 2500) / 1400)),
    "only moved": (lambda: 2500 + torch.randn(B, 1), lambda o, y: F.l1_loss(o, y - 2500)),
    "output turned back": (large, lambda o, y: F.mse_loss(1400 * o + 2500, y) / 1e6),
    "in a dictionary": (large, lambda o, y: F.mse_loss(o.sigmoid(), y / 5000)),
    "differences": (lambda: 1e4 + torch.randn(B, T, 1), lambda o, y: F.mse_loss(o.diff(dim=1), y.diff(dim=1))),
    "signs": (lambda: 2 * bits() - 1, lambda o, y: bce(o, (y + 1) / 2)),
    "threshold": (large, lambda o, y: bce(o, (y > 2500).float())),
    "masked labels": (lambda: bits() - 2 * (torch.arange(B)[:, None] > 8), lambda o, y: (
        bce(o, y, reduction="none") * (y >= 0)).mean()),
    "sentinel": (lambda: with_gaps(sentinel), lambda o, y: (every_step(o, y) * (y > sentinel)).mean()),
    "gaps": (lambda: with_gaps(torch.nan), lambda o, y: F.mse_loss(o[~y.isnan()], y[~y.isnan()])),
}  # fmt: skip


def with_output_like(y, **options):
    return lstm(**options) if y.dim() == 2 else lstm(read=lambda out, state: out, **options)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_targets_are_judged_as_the_loss_compares_them(name):
    torch.manual_seed(0)
    y, loss_fn = TRANSFORMED[name][0](), TRANSFORMED[name][1]
    report = doctor(*case(with_output_like(y), loss_fn, y=y))
    assert not report and not report.untold, str(report)


def test_two_targets_are_enough_to_see_that_the_loss_moves_them():
    for seed in range(6):  # numbers drawn to one side of both would agree with it, so they are put to the other too
        torch.manual_seed(seed)
        x, y = torch.randn(2, T, I), 2500 + torch.randn(2, 1)
        assert [str(f) for f in doctor(lstm(), lambda o, y: F.l1_loss(o, y - 2500), x, y)] == []


def test_a_squashed_output_reaches_targets_that_the_loss_squeezes():
    for scale, found in ((5000, []), (1, ["target_scale", "out_of_reach"])):
        model = lstm(squash=torch.sigmoid)
        report = doctor(*case(model, lambda o, y, scale=scale: F.mse_loss(o, y / scale), y=large()))
        assert [finding.check for finding in report] == found and not report.untold


def test_of_masked_targets_those_that_count_are_judged():
    y = with_gaps(torch.nan, 1000)
    report = doctor(*case(with_output_like(y), lambda o, y: F.mse_loss(o[~y.isnan()], y[~y.isnan()]), y=y))
    (found,) = report
    assert found.check == "target_scale" and "targets of size 1e+03" in found.what


def test_a_loss_without_history_is_one_finding():
    report = doctor(*case(lstm(), lambda o, y: F.mse_loss(o.detach(), y)))
    assert [finding.check for finding in report] == ["cut"] and not report.untold, str(report)


def test_the_outputs_are_theirs_again_after_they_were_set_beside_the_targets():
    seen = []

    def loss(out, y):
        seen.append(out.detach().clone())
        return F.mse_loss(out, y)

    report = doctor(*case(lstm(), loss))
    assert not report and torch.equal(seen[0], report._case.output)
    assert any(not torch.equal(seen[0], other) for other in seen)


# --- rows that repeat at the end, and are no padding ---


def after(lengths, x, value):
    x[torch.arange(T)[None] >= lengths[:, None]] = value
    return x


UNEVEN = torch.tensor([6, 10, 14, 18, 22, 26] * 2)
ENDS = {
    "a cue and silence": lambda: after(torch.ones(B), torch.randn(B, T, I), 0.0),
    "all as long": lambda: after(torch.full((B,), 20), torch.randn(B, T, I), 0.0),
    "steps": lambda: after(UNEVEN, torch.zeros(B, T, I), 1.0),
    "the last value goes on": lambda: torch.randn(B, T, I)[
        torch.arange(B)[:, None], torch.arange(T).minimum(UNEVEN[:, None])
    ],
    "rare events": lambda: torch.randn(B, T, I) * (torch.rand(B, T, 1) > 0.85),
}


@pytest.mark.parametrize("name", ENDS)
def test_rows_that_repeat_are_no_padding_where_data_are_so(name):
    torch.manual_seed(0)
    assert [str(finding) for finding in doctor(*case(lstm(), x=ENDS[name]()))] == []


def test_the_copying_task_has_no_padding():
    torch.manual_seed(0)
    symbols, blank = torch.randint(8, (B, 10)), torch.full((B, 10), 8)
    x = torch.cat([symbols, blank, blank], 1)
    model = torch.nn.Sequential(
        torch.nn.Embedding(9, I), lstm(9, read=lambda out, state: out, squash=lambda y: y.transpose(1, 2))
    )
    y = torch.cat([blank, blank, symbols], 1)
    assert [str(finding) for finding in doctor(*case(model, F.cross_entropy, x, y))] == []
