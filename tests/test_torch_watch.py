"""Watching a training loop: exact gradients by time step, alarms before NaN, and nothing left behind."""

import csv
import html
import math
import re

import numpy as np
import pytest
from torch_oracle import torch

from tinygrad_rnn.draw.film import Film
from tinygrad_rnn.draw.style import number
from tinygrad_rnn.torch import record, watch

nn, F = torch.nn, torch.nn.functional
T, B, I, H = 7, 4, 3, 8  # noqa: E741


class Net(nn.Module):
    def __init__(self, rnn, call=lambda rnn, x: rnn(x)):
        super().__init__()
        self.rnn, self.head, self.call = rnn, nn.Linear(H, 1), call

    def forward(self, x):
        return self.head(self.call(self.rnn, x)[0][-1])


def train(model, x, steps=3, optimizer=None, loss=lambda out: out.square().mean(), **options):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer, **options) as w:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model(x)).backward()
            optimizer.step()
    return w


def by_hand(model, x, loss=lambda out: out.square().mean()):
    """‖∂L/∂x_t‖, mean over the batch."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(model(x)), x)[0].norm(dim=-1).mean(1)


def test_by_step_is_the_gradient_of_the_user_s_own_loss():
    torch.manual_seed(0)
    for kind in (nn.RNN, nn.LSTM, nn.GRU):
        model, x = Net(kind(I, H, 2)), torch.randn(T, B, I)
        right = by_hand(model, x)
        w = train(model, x, steps=2)
        np.testing.assert_allclose(w.records[0]["rnn/by step"], right, rtol=1e-5)
        lost = math.log10(float(right.max() / right[0]))
        assert w.records[0]["rnn/decades lost"] == pytest.approx(lost, abs=1e-5)
        assert w.records[0]["rnn/steps at zero"] == 0


def test_by_keyword_and_batch_first():
    torch.manual_seed(0)
    turned = lambda rnn, x: (rnn(x.transpose(0, 1))[0].transpose(0, 1),)  # noqa: E731
    x = torch.randn(T, B, I)
    for model in (Net(nn.LSTM(I, H), lambda rnn, x: rnn(input=x)), Net(nn.LSTM(I, H, batch_first=True), turned)):
        right = by_hand(model, x)
        np.testing.assert_allclose(train(model, x, 1).records[0]["rnn/by step"], right, rtol=1e-5)


def test_other_uses_of_an_input_that_needs_a_gradient_do_not_count():
    class Skip(nn.Module):
        def __init__(self, share):
            super().__init__()
            torch.manual_seed(0)
            self.e, self.rnn, self.share = nn.Embedding(9, I), nn.LSTM(I, I), share

        def forward(self, x):
            x = self.e(x)
            return self.rnn(x)[0] + self.share * x

    tokens = torch.arange(T * B).reshape(T, B) % 9
    found = [train(Skip(share), tokens, 1, loss=torch.sum, weights=0).records[0] for share in (0, 100)]
    np.testing.assert_allclose(found[0]["rnn/by step"], found[1]["rnn/by step"], rtol=1e-6)


def test_cells_in_a_loop_and_packed():
    torch.manual_seed(0)

    def loop(cell, x):
        h = None
        for t in range(T):
            h = cell(x[t], h)
        return (h.unsqueeze(0),)

    model, x = Net(nn.GRUCell(I, H), loop), torch.randn(T, B, I)
    right = by_hand(model, x)
    np.testing.assert_allclose(train(model, x, 2).records[0]["rnn/by step"], right, rtol=1e-5)
    lengths = torch.tensor([3, 7, 5, 7])

    def packed(rnn, x):
        together = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        return (rnn(together)[1][None, -1],)

    model = Net(nn.GRU(I, H), packed)
    x0 = x.clone().requires_grad_()
    norms = torch.autograd.grad(model(x0).square().mean(), x0)[0].norm(dim=-1)
    right = [norms[t][lengths > t].mean() for t in range(T)]
    np.testing.assert_allclose(train(model, x, 1).records[0]["rnn/by step"], right, rtol=1e-5)


def test_several_modules_truncation_and_accumulation():
    torch.manual_seed(0)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.LSTM(I, H), nn.GRU(H, H)

        def forward(self, x):
            return self.b(self.a(x)[0].detach())[0][-1]

    w = train(Two(), torch.randn(T, B, I), 1)
    assert len(w.records[0]["b/by step"]) == T and "a/by step" not in w.records[0], "a detach lets nothing through"
    model = Net(nn.LSTM(I, H))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer) as w:
        for _ in range(2):
            model(torch.randn(T, B, I)).mean().backward()
        with torch.no_grad():
            model(torch.randn(T, B, I))
        optimizer.step()
    assert len(w.records[0]["rnn/by step"]) == T


def test_of_several_passes_for_one_update_the_last_is_shown():
    torch.manual_seed(0)
    model, xs = Net(nn.LSTM(I, H)), [torch.randn(length, B, I) for length in (T, T + 3, T - 2)]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    right = by_hand(model, xs[-1])
    with watch(model, optimizer) as w:
        for x in xs:
            model(x).square().mean().backward()
        optimizer.step()
    np.testing.assert_allclose(w.records[0]["rnn/by step"], right, rtol=1e-5)


def test_training_is_what_it_was():
    results = []
    for watched in (False, True):
        torch.manual_seed(3)
        model, x = Net(nn.LSTM(I, H, 2, dropout=0.3)), torch.randn(T, B, I)
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(4):
            if watched:
                train(model, x, 1, optimizer, gates=1, weights=1)
            else:
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()
        results.append([p.detach().clone() for p in model.parameters()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_updates_gates_and_norm():
    torch.manual_seed(0)
    model, x = Net(nn.LSTM(I, H)), torch.randn(T, B, I)
    before = model.rnn.weight_hh_l0.detach().clone()
    w = train(model, x, 1, weights=1, gates=1)
    after, record = model.rnn.weight_hh_l0.detach(), w.records[0]
    assert record["rnn.weight_hh_l0/update"] == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert record["gradient"] == pytest.approx(float(norm), rel=1e-5)
    assert 0.3 < record["rnn/f mean"] < 0.7 and record["rnn/f saturated"] == 0
    with torch.no_grad():
        model.rnn.bias_ih_l0[H : 2 * H] = 20.0
    assert train(model, x, 1, gates=1).records[0]["rnn/f saturated"] == 1


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU], ids=["RNN", "GRU"])
def test_gates_of_other_kinds(kind):
    record = train(Net(kind(I, H)), torch.randn(T, B, I), 1, gates=1).records[0]
    names = {key.split("/")[1] for key in record if key.endswith("mean")}
    assert names == ({"h mean"} if kind is nn.RNN else {"r mean", "z mean", "n mean"})


def test_how_often():
    w = train(Net(nn.LSTM(I, H)), torch.randn(T, B, I), 6, every=2, weights=3, gates=0)
    assert ["gradient" in r for r in w.records] == [True, False] * 3
    assert ["head.weight/update" in r for r in w.records] == [True, False, False] * 2
    assert not any("mean" in key for r in w.records for key in r)


def test_alarm_for_an_explosion_comes_before_nan():
    torch.manual_seed(0)
    model, x = Net(nn.RNN(I, H, nonlinearity="relu")), torch.randn(T, B, I)
    optimizer, said = torch.optim.SGD(model.parameters(), 1e-2), []
    with watch(model, optimizer, alarm=said.append, weights=1) as w:
        for step in range(120):
            optimizer.param_groups[0]["lr"] *= 1.3 if step > 15 else 1
            optimizer.zero_grad()
            F.mse_loss(model(x), torch.ones(B, 1)).backward()
            optimizer.step()
            if not all(p.isfinite().all() for p in model.parameters()):
                break
    first = int(re.match(r"step (\d+): ", said[0])[1])
    assert first < step < 119 and said == w.alarms


def test_alarms_name_the_place_and_the_remedy():
    model, x = Net(nn.LSTM(I, H)), torch.randn(T, B, I)
    optimizer, scale, said = torch.optim.SGD(model.parameters(), 1e-6), 1.0, []
    with watch(model, optimizer, alarm=said.append) as w:
        for step in range(14):
            scale = {12: 1e4, 13: math.nan}.get(step, 1.0)
            optimizer.zero_grad()
            (scale * model(x).square().mean()).backward()
            optimizer.step()
    assert [r["step"] for r in w.records][-1] == 13
    assert re.match(r"step 12: the gradient's norm is \S+, 10000 times its usual \S+: clip_grad_norm_\(", said[0])
    assert said[1].startswith("step 13: the gradient is not finite, first in rnn.weight_ih_l0")
    said.clear()
    model = Net(nn.LSTM(I, H))
    train(model, x, 1, torch.optim.SGD(model.parameters(), 1e5), alarm=said.append)
    assert re.match(r"step 0: one update changes \S+ by \d+% of its size: a smaller lr", said[0])


def test_gradients_that_are_never_set_to_zero_are_told_once():
    model, x, said = Net(nn.LSTM(I, H)), torch.randn(T, B, I), []
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for forgotten in (True, False):
        said.clear()
        with watch(model, optimizer, alarm=said.append):
            for _ in range(3):
                for _ in range(2):  # two passes an update are meant
                    model(x).square().mean().backward()
                optimizer.step()
                if not forgotten:
                    optimizer.zero_grad(set_to_none=False)
        line = "the gradients of the update before are added to these: optimizer.zero_grad()"
        assert said == ([f"step 2: {line}"] if forgotten else [])


def test_a_recording_on_the_way_is_no_pass_of_the_training():
    model, x, film = Net(nn.LSTM(I, H)), torch.randn(T, B, I), Film(level="step")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer) as w:
        for update in range(3):
            with record(model) as run:
                loss = model(x).square().mean()
            film.add(update, run.graph(loss))
            loss = model(x).square().mean()
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
    assert w.alarms == [] and [len(r["rnn/by step"]) for r in w.records] == [T] * 3 and len(film.labels) == 3


def test_an_optimiser_of_frozen_parameters_is_watched_too():
    model = Net(nn.LSTM(I, H)).requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer) as w:
        optimizer.step()
    assert w.records == [{"step": 0}] and w.alarms == []


def test_a_model_that_does_not_move_is_told():
    model, x, said = Net(nn.LSTM(I, H)), torch.randn(T, B, I), []
    train(model, x, 5, torch.optim.SGD(model.parameters(), 1e-9), weights=2, alarm=said.append)
    assert said == ["step 2: no update has changed any matrix by a millionth: lr, clipping, or what is frozen"]


def test_an_update_in_evaluation_mode_is_told_once_where_it_matters():
    for dropout in (0.0, 0.3):
        model, said = Net(nn.LSTM(I, H, 2, dropout=dropout)).eval(), []
        train(model, torch.randn(T, B, I), 3, alarm=said.append)
        assert [text.startswith("step 0: dropout is off while the model trains") for text in said] == [True] * bool(
            dropout
        )


def test_nan_is_told_once_and_not_blamed_on_the_learning_rate():
    model, x, said = Net(nn.LSTM(I, H)), torch.randn(T, B, I), []
    train(model, x, 3, loss=lambda out: out.mean() * math.nan, weights=1, alarm=said.append)
    assert len(said) == 1 and said[0].startswith("step 0: the gradient is not finite")


def test_a_norm_that_overflows_is_no_gradient_that_is_not_finite():
    model, said = Net(nn.LSTM(I, H)), []
    train(model, torch.randn(T, B, I), 1, loss=lambda out: 1e30 * out.mean(), weights=0, alarm=said.append)
    assert said == ["step 0: the gradient is so large that its norm overflows"]


def test_healthy_training_raises_no_alarm():
    torch.manual_seed(0)
    for kind in (nn.LSTM, nn.GRU):
        model = Net(kind(I, H))
        w = train(model, torch.randn(T, B, I), 60, torch.optim.Adam(model.parameters(), 1e-2), weights=5)
        assert w.alarms == []


def test_a_bump_after_convergence_raises_no_alarm():
    model, x = Net(nn.LSTM(I, H)), torch.randn(T, B, I)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    with watch(model, optimizer) as w:
        for step in range(40):
            optimizer.zero_grad()
            ({0: 1.0, 39: 1.0}.get(step, 1e-3) * model(x).square().mean()).backward()
            optimizer.step()
    assert w.records[39]["gradient"] > 100 * w.records[38]["gradient"]


# --- where it goes ---


def test_to_a_file_a_writer_a_logger_and_a_function(tmp_path):
    model, x = Net(nn.LSTM(I, H)), torch.randn(T, B, I)
    train(model, x, 3, to=tmp_path / "run.csv")
    with open(tmp_path / "run.csv", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "key", "value"] and {row[0] for row in rows[1:]} == {"0", "1", "2"}
    assert all(math.isfinite(float(row[2])) for row in rows[1:])

    class Writer:
        def __init__(self):
            self.got = []

        def add_scalar(self, tag, value, step):
            self.got.append((tag, value, step))

    class Logger:
        def __init__(self):
            self.got = []

        def log(self, values, step):
            self.got.append((values, step))

    writer, logger, records = Writer(), Logger(), []
    train(model, x, 2, to=writer)
    train(model, x, 2, to=logger)
    w = train(model, x, 2, to=records.append)
    assert {step for *_, step in writer.got} == {0, 1} and "gradient" in {tag for tag, *_ in writer.got}
    assert [step for _, step in logger.got] == [0, 1] and records == w.records


def test_options_are_refused_where_they_are_given():
    model = Net(nn.LSTM(I, H))
    optimizer = torch.optim.SGD(model.parameters(), 1)
    for to in ("run.txt", 5, [], True):
        with pytest.raises(ValueError, match=r"^to=.*: give a path that ends in \.csv, a callable, or what has add_"):
            watch(model, optimizer, to)
    for name in ("every", "weights", "gates"):
        for wrong in (-1, 2.5, True, "1"):
            with pytest.raises(ValueError, match=rf"^{name}=.*: give a whole number, at least 0$"):
                watch(model, optimizer, **{name: wrong})


def test_the_page_has_alarms_film_charts_and_numbers(tmp_path):
    model = Net(nn.LSTM(I, H))
    w = train(model, torch.randn(T, B, I), 3, gates=1, weights=1)
    w.alarms.append("step 1: <b> & more")
    w.records[0]["gradient"] = math.nan
    w.records[1]["</script>/update"] = 1.0
    w.page(tmp_path / "run.html", film=Shown())
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "<script" not in text and "</script" not in text and "<p>a film</p>" in text
    assert html.escape("step 1: <b> & more") in text
    numbers = [line.split() for line in re.search("<pre>(.*)</pre>", text, re.DOTALL)[1].splitlines()]
    assert numbers[0][-4:] == ["step", "0", "1", "2"]
    (gradient,) = [row[1:] for row in numbers if row[0] == "gradient"]
    assert gradient == ["nan", *(f"{record['gradient']:.6g}" for record in w.records[1:])]
    sizes = w.records[2]["rnn/by step"]
    assert all(f"update {k}" in text for k in range(3)) and f"‖∂L/∂x‖ = {number(sizes[0])}" in html.unescape(text)


def test_a_page_of_a_long_run_shows_a_few_updates_from_the_first_to_the_last(tmp_path):
    w = train(Net(nn.LSTM(I, H)), torch.randn(T, B, I), 1, gates=1)
    later = {k: v for k, v in w.records[0].items() if "mean" not in k}
    w.records.extend(later | {"step": step} for step in range(1, 999))
    w.page(tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    rows = {line.split()[0]: line.split()[1:] for line in text.partition("<pre>")[2].splitlines()}
    assert rows["step"] == [str(round(k * 998 / 9)) for k in range(10)] and len(rows["gradient"]) == 10
    assert len(set(re.findall(r"update (\d+)", text))) == 5 and "update 998" in text
    assert "rnn/f mean" in text and len(text) < 100_000


def test_a_page_of_nothing(tmp_path):
    model = Net(nn.LSTM(I, H))
    watch(model, torch.optim.SGD(model.parameters(), 0.1)).page(tmp_path / "run.html")
    assert "<svg" not in (tmp_path / "run.html").read_text(encoding="utf-8")


class Shown:
    def _repr_html_(self):
        return "<p>a film</p>"


# --- nothing is left behind ---


def test_nothing_is_left_after_an_exception():
    model = Net(nn.LSTM(I, H))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ZeroDivisionError), watch(model, optimizer):
        model(torch.randn(T, B, I))
        raise ZeroDivisionError
    assert not model.rnn._forward_pre_hooks and not model.rnn._forward_pre_hooks_with_kwargs
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_what_cannot_be_watched_is_refused_and_leaves_nothing_behind():
    model = Net(nn.LSTM(I, H))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for wrong, says in (((model, None), "optimizer must be"), ((optimizer, optimizer), "must be a torch.nn.Module")):
        with pytest.raises(TypeError, match=says), watch(*wrong):
            pass
    assert not model.rnn._forward_pre_hooks and not optimizer._optimizer_step_pre_hooks


def test_evaluation_is_not_watched():
    model, x = Net(nn.LSTM(I, H)), torch.randn(T, B, I)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with watch(model, optimizer) as w:
        model.eval()(x)
        model.train()
        with torch.no_grad():
            model(x)
        assert not w._calls


@pytest.mark.slow  # compiles
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # which PyTorch reads itself
def test_a_compiled_model_has_its_own_names_and_one_that_ran_before_is_told():
    def loop(cell, x):
        h = None
        for t in range(T):
            h = cell(x[t], h)
        return (h.unsqueeze(0),)

    x, said = torch.randn(T, B, I), []
    for early in (True, False):
        torch._dynamo.reset()
        model = Net(nn.GRUCell(I, H), loop)
        compiled, right = torch.compile(model, backend="eager"), by_hand(model, x)
        if not early:
            compiled(x)
        w = train(compiled, x, 2, weights=1, alarm=said.append)
        assert {"gradient", "rnn.weight_hh/update"} <= w.records[0].keys()
        if early:
            np.testing.assert_allclose(w.records[0]["rnn/by step"], right, rtol=1e-5)
    assert said == [
        "step 0: no call of rnn was seen before this update: "
        "what is compiled runs as it first did, so enter watch before that"
    ]


@pytest.mark.parametrize("kind", ["SGD", "LBFGS"])
def test_with_a_closure_the_gradient_is_the_one_that_it_has_made(kind):
    torch.manual_seed(0)
    model, x = Net(nn.LSTM(I, H)), torch.randn(T, B, I)
    optimizer, seen = getattr(torch.optim, kind)(model.parameters(), 0.1), []

    def closure():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        seen.append(math.hypot(*[float(p.grad.norm()) for p in model.parameters()]))
        return loss

    with watch(model, optimizer) as w:
        for k in range(3):
            optimizer.step(closure)
            assert w.records[k]["gradient"] == pytest.approx(seen[-1], rel=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_model_in_which_no_recurrent_module_is_seen_is_told():
    model = torch.jit.script(nn.Sequential(nn.Linear(I, H), nn.Linear(H, 1)))
    w = train(model, torch.randn(T, B, I), alarm=lambda text: None)
    (alarm,) = w.alarms
    assert alarm.startswith("step 0: no call of a recurrent module (TorchScript hides its own) was seen before")
