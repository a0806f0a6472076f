"""The doctor finds what is broken, says nothing of the repaired twin, and nearly nothing of healthy networks."""

import copy
import subprocess
import sys
import warnings
from dataclasses import make_dataclass

import numpy as np
import pytest
from torch_oracle import torch
from torch_patients import PATIENTS, B, I, T, case, lstm
from torch_patients_network import healthy

from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import gradient_flow
from tinygrad_rnn.torch import doctor, record
from tinygrad_rnn.torch.__main__ import main
from tinygrad_rnn.torch.examination import CHECKS

F = torch.nn.functional
NAMES = [check.__name__ for check in CHECKS]


def check_of(name):
    return next(check for check in NAMES if name.startswith(check))


def seen(name, broken):
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using a target size")
        return doctor(*PATIENTS[name](broken))


@pytest.mark.parametrize("name", PATIENTS)
def test_broken_is_found_and_its_repaired_twin_is_not(name):
    report = seen(name, True)
    (found,) = [finding for finding in report if finding.check == check_of(name)]
    assert found.what and found.line and str(report).startswith(str(report.findings[0]))
    twin = seen(name, False)
    assert [str(finding) for finding in twin] == [] and not twin.untold, str(twin)


def test_every_check_has_a_patient_and_three_of_them_four():
    counts = {check: sum(check_of(name) == check for name in PATIENTS) for check in NAMES}
    assert min(counts.values()) >= 1
    assert min(counts[check] for check in ("target_scale", "depth", "dead_relu")) >= 4


@pytest.mark.full
def test_125_healthy_networks_get_one_remark_at_most():
    remarks = [(seed, str(finding)) for seed in range(125) for finding in doctor(*healthy(seed))]
    assert len(remarks) <= 1, remarks


def test_a_few_healthy_networks_get_none():
    assert [str(finding) for seed in (*range(1000, 1008), 1104) for finding in doctor(*healthy(seed))] == []


def test_nothing_of_the_user_s_is_changed():
    model = lstm()
    model.rnn.dropout = 0.0
    optimizer = torch.optim.Adam(model.parameters())
    _, loss_fn, x, y, _ = case(model)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    x_before = x.clone()
    doctor(model.eval(), loss_fn, x, y, optimizer)
    assert not model.training and all(p.grad is None for p in model.parameters())
    assert not optimizer.state and torch.equal(torch.get_rng_state(), random)
    assert torch.equal(x, x_before) and not x.requires_grad
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(m._forward_hooks for m in model.modules())


def test_an_empty_report_says_what_it_has_not_looked_at():
    report = doctor(*case(lstm()))
    assert not report and str(report) == (
        "20 checks, nothing found; this does not look at labels, shuffling, zero_grad, or how long a lag the task has;"
        "\nnor, with an output at every step, at which axis is time, or at targets turned round where both are as long"
    )


def test_a_check_that_cannot_be_made_is_told():
    class Single(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = torch.nn.GRUCell(I, 4), torch.nn.Linear(4, 1)

        def forward(self, x):
            assert x.dtype == torch.float32, "float32 only"
            h = torch.zeros(B, 4)
            for t in range(T):
                h = self.cell(x[:, t], h)
                h = h.detach() if t == 20 else h
            return self.head(h)

    report = doctor(*case(Single()))
    assert "cut" in report.untold and "not checked: cut (AssertionError: float32 only)" in str(report)
    assert str(report).count("19 checks") == 1


def test_the_verdict_comes_from_the_inputs_that_the_stack_got():
    torch.manual_seed(0)
    report = doctor(*case(lstm()))
    flow = report.flow()
    assert flow.verdict.word and np.isfinite(flow.slope)
    assert report.flow(lag=5).judgement.lag == 5
    with pytest.raises(ValueError, match=r"called no nn\.RNN, LSTM or GRU"):
        doctor(torch.nn.Linear(I, 1), torch.nn.functional.mse_loss, torch.randn(8, I), torch.randn(8, 1)).flow()


def test_a_model_with_several_inputs_and_outputs():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = torch.nn.GRU(I, 8, batch_first=True), torch.nn.Linear(8, 1)

        def forward(self, x, lengths):
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            _, h = self.rnn(packed)
            return self.head(h[-1]), h

    x, y = torch.randn(B, T, I), torch.randn(B, 1)
    lengths = torch.tensor([5, 10, 30] * 4)
    x[torch.arange(T)[None] >= lengths[:, None]] = 0.0
    report = doctor(Two(), lambda out, y: torch.nn.functional.mse_loss(out[0], y), (x, lengths), y)
    assert not report and not report.untold, str(report)


def test_the_verdict_of_packed_sequences_and_of_a_cell_in_a_loop():
    torch.manual_seed(0)
    model, loss_fn, (x, lengths), y, _ = PATIENTS["padding_read_after_the_end"](False)
    flow = doctor(model, loss_fn, (x, lengths), y).flow(lag=3)
    net, given = nn.from_torch(model.rnn), x.numpy()
    assert flow.slope == gradient_flow(net, given, lengths=lengths.numpy(), lag=3).slope
    model, loss_fn, x, y, _ = PATIENTS["one_step_from_zeros"](False)
    flow = doctor(model, loss_fn, x, y).flow()
    assert flow.slope == gradient_flow(nn.from_torch(model.cell), x.numpy().transpose(1, 0, 2)).slope


def test_a_loss_that_knows_of_the_model_leaves_no_gradient_in_it():
    model = lstm()
    model, _, x, y, _ = case(model)

    def loss(out, y):
        return torch.nn.functional.mse_loss(out, y) + 1e-4 * sum(p.square().sum() for p in model.parameters())

    assert not doctor(model, loss, x, y) and all(p.grad is None for p in model.parameters())


def test_what_this_loss_does_not_move_is_told_and_no_finding():
    model, loss_fn, x, y, _ = PATIENTS["padding_tokens"](False)
    model[0].weight.requires_grad_(False)
    model[1].unused = torch.nn.Linear(2, 2, bias=False)
    report = doctor(model, loss_fn, x, y)
    assert not report and not report.untold and report.untrained == ["0.weight (frozen)", "1.unused.weight"]
    assert str(report).endswith("not moved by this loss: 0.weight (frozen), 1.unused.weight")


def test_layers_above_the_one_that_is_read_are_not_moved():
    model = lstm(num_layers=2, read=lambda out, state: state[0][0])
    assert [name for name in doctor(*case(model)).untrained if "_l1" in name] == [
        f"rnn.{name}_l1" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]


def test_nan_in_the_inputs_is_one_finding():
    assert [finding.check for finding in seen("not_finite", True)] == ["not_finite"]


def test_lbfgs_is_told_and_keeps_the_rest_of_its_check():
    model = lstm()
    report = doctor(*case(model, optimizer=torch.optim.LBFGS(model.parameters())))
    assert not report and "LBFGS.step() missing 1 required positional argument" in report.untold["optimiser"]
    report = doctor(*case(model, optimizer=torch.optim.LBFGS(model.rnn.parameters())))
    assert "does not have 2 parameters, such as head.weight" in report.findings[0].what


@pytest.mark.slow  # compiles
def test_torchscript_is_refused_and_a_compiled_model_has_its_own_names():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(torch.nn.Linear(I, 1))
    for model in (scripted, torch.nn.Sequential(scripted)):
        with pytest.raises(TypeError, match="TorchScript lets nobody look inside: give the model that was scripted"):
            doctor(model, F.mse_loss, torch.randn(B, I), torch.randn(B, 1))
    model = lstm()
    compiled, optimizer = torch.compile(model, backend="eager"), torch.optim.Adam(model.rnn.parameters())
    assert "such as head.weight" in doctor(*case(compiled, optimizer=optimizer)).findings[0].what


def test_what_the_model_raises_is_raised():
    with pytest.raises(RuntimeError, match="Expected 3"):
        doctor(lstm(), torch.nn.functional.mse_loss, torch.randn(B, T, 7), torch.randn(B, 1))


def test_a_loss_of_pairs_is_no_broadcast():
    def ranking(out, y):
        return F.softplus((out - out.T) * (y.T - y).sign()).mean()

    assert [finding.check for finding in doctor(*case(lstm(), ranking))] == []


def masked(out, y, mask):
    return ((out - y).square().squeeze(-1) * mask).sum() / mask.sum()


def weighted(out, y, weights):
    return (F.cross_entropy(out[:, -1], y, reduction="none") * weights).mean()


def masked_classes(out, y, mask):
    return (F.cross_entropy(out.transpose(1, 2), y, reduction="none") * mask).sum() / mask.sum()


@pytest.mark.parametrize("loss", [masked, weighted, masked_classes])
def test_a_mask_or_weights_of_the_loss_s_own_are_no_targets_of_other_samples(loss):
    torch.manual_seed(0)
    mask = (torch.arange(T)[None] < torch.tensor([6, 10, 14, 18, 22, 26] * 2)[:, None]).float()
    model = lstm(1 if loss is masked else 3, read=lambda out, state: out)
    y = {"masked": torch.randn(B, T, 1), "weighted": torch.arange(B) % 3}.get(loss.__name__, torch.randint(3, (B, T)))
    own = torch.rand(B) if loss is weighted else mask
    assert [str(finding) for finding in doctor(*case(model, lambda out, y: loss(out, y, own), y=y))] == []


def test_samples_that_see_each_other_are_no_cut_graph():
    assert [finding.check for finding in seen("samples_mix_final_states", True)] == ["samples_mix"]


def test_an_empty_column_of_one_hot_tokens_is_no_finding():
    x = torch.nn.functional.one_hot(torch.randint(5, (B, T)), 40).float()
    model = torch.nn.Sequential(torch.nn.Linear(40, I), lstm())
    assert [finding.check for finding in doctor(*case(model, x=x))] == []


def test_inputs_that_are_no_tensor_are_refused():
    with pytest.raises(TypeError, match="not dict: wrap the model"):
        doctor(lstm(), torch.nn.functional.mse_loss, {"x": torch.ones(2)}, torch.ones(2))


# --- as people's models and batches are ---


class Packed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = torch.nn.LSTM(I, 8), torch.nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[1][0][-1])


def test_packed_sequences_are_looked_at_as_they_are():
    torch.manual_seed(0)
    rows = [torch.randn(length, I) for length in (9, 20, 15, 11)]
    x = torch.nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    model, y = Packed(), torch.randn(4, 1)
    for inputs in (x, (x,)):
        report = doctor(model, F.mse_loss, inputs, y)
        assert not report and not report.untold, str(report)
    expected = gradient_flow(nn.from_torch(model.rnn), [row.numpy() for row in rows], lag=4)
    assert report.flow(lag=4).slope == expected.slope
    rows[2][3, 1] = np.nan
    x = torch.nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    assert "1 of 240 numbers in the inputs are NaN" in doctor(model, F.mse_loss, x, y).findings[0].what


@pytest.mark.parametrize(
    "form", [lambda y: {"loss": None, "logits": y}, make_dataclass("Out", ["logits"])], ids=["dict", "dataclass"]
)
def test_outputs_in_a_dict_or_a_dataclass(form):
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = lstm()

        def forward(self, x):
            return form(self.net(x))

    def loss(out, y):
        return F.mse_loss(out["logits"] if isinstance(out, dict) else out.logits, y)

    report = doctor(*case(Wrapped(), loss))
    assert not report and not report.untold, str(report)


def test_a_model_without_a_tensor_in_its_output_is_refused():
    class Odd(torch.nn.Linear):
        def forward(self, x):
            return str(super().forward(x))

    with pytest.raises(TypeError, match="returns no tensor, but str"):
        doctor(Odd(I, 1), lambda out, y: torch.ones(()), torch.randn(B, I), torch.randn(B, 1))


def test_no_grad_around_the_doctor_is_no_fault_of_the_model():
    with torch.no_grad():
        assert not doctor(*case(lstm()))


def test_pruned_normalised_sparse_and_narrow_models_are_examined_whole():
    from torch.nn.utils import parametrizations, prune

    def sparse():
        return torch.nn.Sequential(torch.nn.Embedding(40, I, sparse=True), lstm())

    tokens = torch.randint(40, (B, T))
    pruned, normalised = lstm(), lstm()
    prune.l1_unstructured(pruned.rnn, "weight_hh_l0", 0.3)
    pruned(torch.randn(B, T, I))  # which leaves the weight as a tensor with a history
    parametrizations.weight_norm(normalised.rnn, "weight_hh_l0")
    _, loss_fn, x, y, _ = case(lstm())
    for model, given, target in (
        (pruned, x, y),
        (normalised, x, y),
        (sparse(), tokens, y),
        (lstm().bfloat16(), x, y.bfloat16()),
    ):
        report = doctor(model, loss_fn, given, target)
        assert not report and not report.untold, str(report)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, not function"):
        doctor(lambda x: x, F.mse_loss, torch.ones(2), torch.ones(2))
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, not Tensor"):
        record(torch.ones(2))


# --- the command ---


MINE = """
import torch
def make(outputs=1):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2), torch.nn.Softmax(-1))
    return model, torch.nn.CrossEntropyLoss(), torch.randn(16, 3), torch.arange(16) % 2
def recurrent():
    torch.manual_seed(0)
    class Net(torch.nn.GRU):
        def forward(self, x): return super().forward(x)[0][-1]
    # Targets that a state of a GRU can reach, or the doctor has a remark, and is right.
    return Net(3, 4), torch.nn.functional.mse_loss, torch.randn(9, 8, 3), torch.rand(8, 4)
def wrong(): return 1
"""


def test_the_command_reports_and_fails_for_a_finding(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    call = [sys.executable, "-m", "tinygrad_rnn.torch", "doctor", "mine:make"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and done.stdout.startswith("softmax is applied twice"), done.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    assert main(["doctor", "mine:recurrent", "--lag", "4"]) == 0
    shown = capsys.readouterr().out
    assert "nothing found" in shown and "decades" in shown and "4 steps" in shown
    del sys.modules["mine"]


HARDLY = """
import torch
net, x, y = torch.nn.Linear(3, 1), torch.ones(4, 3), torch.ones(4, 1)
mse = torch.nn.functional.mse_loss
def wrong(): return 1
def raises(): raise ValueError("my data\\nare missing")
def leaves(): raise SystemExit(0)
def needs(size): return net, mse, x, y
number = 5
def dictionary(): return net, mse, {"x": x}, y
def function(): return abs, mse, x, y
def shapes(): return net, mse, torch.ones(4, 5), y
def many(): return net, lambda o, y: (o - y) ** 2, x, y
def bare(): return net, lambda o, y: mse(o, y).item(), x, y
"""


@pytest.mark.parametrize(
    "where, says",
    [
        ("hardly", "is not module:function"),
        ("hardly:absent", "has no attribute 'absent'"),
        ("nowhere:make", "No module named 'nowhere'"),
        ("broken:make", "SyntaxError"),
        ("hardly:wrong", "must return"),
        ("hardly:raises", "ValueError: my data are missing"),
        ("hardly:leaves", "SystemExit: 0"),
        ("hardly:needs", "missing 1 required positional argument: 'size'"),
        ("hardly:number", "'int' object is not callable"),
        ("hardly:dictionary", "not dict: wrap the model"),
        ("hardly:function", "must be a torch.nn.Module, not builtin_function_or_method"),
        ("hardly:shapes", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("hardly:many", "the loss is a tensor of one number, such as a mean, not (4, 1)"),
        ("hardly:bare", "the loss is a tensor of one number, such as a mean, not float"),
    ],
)
def test_the_command_refuses_what_it_cannot_run(tmp_path, monkeypatch, capsys, where, says):
    (tmp_path / "hardly.py").write_text(HARDLY, encoding="utf-8")
    (tmp_path / "broken.py").write_text("def make(:", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "hardly", raising=False)
    with pytest.raises(SystemExit, match="2"):  # 1 is for a finding
        main(["doctor", where])
    _, error = capsys.readouterr().err.split("python -m tinygrad_rnn.torch: error: ")
    assert says in error and error.count("\n") == 1
