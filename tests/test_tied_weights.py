"""One tensor under two names: legitimate in a model, an error wherever it would count twice."""

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.diagnose import FlowProbe, gradient_flow
from tinygrad_rnn.diagnose.remedy import families
from tinygrad_rnn.testing import check_cell
from tinygrad_rnn.train import (
    SGD,
    Adam,
    Adding,
    SequenceModel,
    clip_grad_norm,
    clip_grad_value,
    every,
    fit,
    grad_norm,
)
from tinygrad_rnn.train.optimisers import OPTIMISERS


class Tied(nn.Module):
    """A cell whose two matrices are one tensor, under the names of both."""

    def __init__(self, both=True):
        self.input_size = self.hidden_size = 2
        self.dtype = np.dtype(float)
        self.weight_hh = tg.Tensor(np.random.default_rng(0).normal(size=(2, 2)), requires_grad=True)
        if both:
            self.weight_ih = self.weight_hh

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, 2)))

    def __call__(self, x, h):
        return tg.tanh(x @ self.weight_hh + h @ self.weight_hh)


class Bare:
    """A cell of one's own that is no Module, and gives its one tensor under two names."""

    def __init__(self, cell):
        self.cell, self.initial_state = cell, cell.initial_state

    def parameters(self):
        return {"encoder": self.cell.weight_hh, "decoder": self.cell.weight_hh}

    def __call__(self, x, h):
        return self.cell(x, h)


@pytest.mark.parametrize(
    "use",
    [*OPTIMISERS.values(), lambda p: clip_grad_norm(p, 1.0), lambda p: clip_grad_value(p, 1.0), grad_norm],
    ids=[*OPTIMISERS, "clip_grad_norm", "clip_grad_value", "grad_norm"],
)
def test_a_tensor_under_two_names_is_refused_with_both(use):
    w, v = (tg.Tensor([1.0], requires_grad=True) for _ in range(2))
    w.grad = v.grad = np.array([6.0])
    for twice, names in (
        ({"encoder": w, "head": v, "decoder": w}, "encoder and decoder"),
        ([w, v, w], "0 and 2"),
        ((v, w, w), "1 and 2"),
        (iter([w, w]), "0 and 1"),
        (Bare(Tied()), "encoder and decoder"),
    ):
        with pytest.raises(ValueError, match=f"parameters {names} are the same tensor.*: give it once, under one name"):
            use(twice)
    assert w.data == 1.0 and w.grad.data == 6.0
    use([w, v])
    use({"a": w, "b": tg.Tensor(w.data, requires_grad=True)})  # equal is not the same


def test_tied_weights_of_a_module_count_once():
    tied, single = Tied(), Tied(both=False)
    assert [name for name, _ in tied.named_tensors()] == ["weight_hh", "weight_ih"]
    assert list(tied.parameters()) == ["weight_hh"] and len(SGD(tied).parameters) == 1
    task = Adding(6)
    runs = []
    for cell in (tied, single):
        model = SequenceModel(cell, task, rng=0)
        probe = FlowProbe(task.batch(np.random.default_rng(1), 2)[0])
        options = {"clip_norm": 0.1, "progress": False, "batch_size": 4, "callbacks": [every(2, probe)]}
        runs.append(fit(model, task, Adam(model, lr=0.05), 4, **options))
    assert runs[0].to_dict() == runs[1].to_dict()


def test_a_model_of_ones_own_with_tied_weights_is_trained_by_an_optimiser_that_has_them_once():
    cell, task = Tied(), Adding(6)
    model = Bare(SequenceModel(cell, task, rng=0).network)
    head = nn.Linear(2, 1, rng=0)

    class Model:
        def parameters(self):
            return model.parameters() | head.parameters()

        def __call__(self, x, state=None):
            outputs, state = tg.unroll(cell, x, state)
            return head(outputs[-1]), state

    with pytest.raises(ValueError, match="encoder and decoder"):
        Adam(Model())
    once = {"w": cell.weight_hh, **head.parameters()}
    assert fit(Model(), task, Adam(once), 2, batch_size=2, progress=False).steps == 2


def test_tied_weights_count_once_in_a_diagnosis_and_are_named_by_checks():
    x = np.random.default_rng(2).normal(size=(20, 2, 2))
    flows = [gradient_flow(cell, x) for cell in (Bare(Tied()), Tied(both=False))]
    names = "encoder", "weight_hh"
    first, second = (
        list(flow.what_if(scale={name: 1.2}).flows.values())[1].main.logs
        for flow, name in zip(flows, names, strict=True)
    )
    np.testing.assert_allclose(first, second, rtol=1e-12)
    assert [family[0] for family in families(flows[0].experiment, 20)] == ["encoder"]  # tried once
    for check in (check_cell, lambda cell: tg.derive_bptt(cell, tg.mean, (x, np.zeros((2, 2))))):
        with pytest.raises(ValueError, match="encoder and decoder are the same tensor"):
            check(Bare(Tied()))


def test_a_state_dict_gives_tied_weights_one_value():
    tied = Tied()
    state = tied.state_dict()
    tied.load_state_dict(state)
    state["weight_ih"] = state["weight_ih"] + 1
    before = np.array(tied.weight_hh.data)
    with pytest.raises(ValueError, match="weight_hh and weight_ih are one tensor here, and differ"):
        tied.load_state_dict(state)
    np.testing.assert_array_equal(tied.weight_hh.data, before)
