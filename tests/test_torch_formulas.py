"""The typed table of PyTorch's rules: each formula is evaluated on numbers."""

import re

import numpy as np
import pytest
from torch_oracle import torch

from tinygrad_rnn.torch import record
from tinygrad_rnn.torch.formulas import FORMULAS


def evaluated(formula, **values):
    """A formula of the table, on numbers."""
    text = formula.replace("gᵀ", "g.T").replace("ᵀ", ".T").replace("²", "**2").replace("×", "*").replace("−", "-")
    if " where " in text:
        yes, condition, no = re.fullmatch("(.*) where (.*), else (.*)", text).groups()
        text = f"np.where({condition}, {yes}, {no})"
    return eval(text, {"np": np}, values)


@pytest.mark.parametrize("op, operand", [(op, operand) for op, rules in FORMULAS.items() for operand in rules])
def test_formulas_of_the_table_hold_on_numbers(op, operand):
    torch.manual_seed(0)
    names, overload = ["bias", "input", "weight"], lambda bias, x, w: torch.nn.functional.linear(x, w, bias)
    if op != "linear":
        overload = getattr(torch.ops.aten, op)
        overload = getattr(overload, next(n for n in ("Tensor", "default") if n in overload.overloads()))
        names = [a.name for a in overload._schema.arguments if "Tensor" in str(a.type)]
    shapes = {
        "addmm": {"mat1": (2, 3), "mat2": (3, 4)},
        "mm": {"self": (2, 3), "mat2": (3, 4)},
        "linear": {"input": (2, 3), "weight": (4, 3)},
    }.get(op, {})
    tensors = {
        name: (torch.rand(shapes.get(name, (2, 4)), dtype=torch.float64) + (op in ("log", "sqrt", "div")) - 0.4)
        for name in names
    }
    for name in names if op == "linear" else [operand]:
        tensors[name].requires_grad_()
    leaf = tensors[operand]
    with record() as run:
        y = overload(*tensors.values())
        g = torch.rand(y.shape, dtype=torch.float64)
    graph = run.graph(y, g)
    (edge,) = graph.edges_from(graph.node_of(leaf))
    assert edge.formula == FORMULAS[op][operand]
    values = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    right = evaluated(edge.formula, g=g.numpy(), y=y.detach().numpy(), **values)
    np.testing.assert_allclose(np.broadcast_to(right, edge.contribution.shape), edge.contribution, rtol=1e-12)


def test_a_wrong_formula_is_noticed(monkeypatch):
    monkeypatch.setitem(FORMULAS["tanh"], "self", "g × (1 − y)")
    with pytest.raises(AssertionError):
        test_formulas_of_the_table_hold_on_numbers("tanh", "self")


def test_a_keyword_that_changes_an_operation_hides_the_formula():
    x = torch.ones(2, requires_grad=True)
    with record() as run:
        loss = torch.sub(x, torch.ones(2), alpha=2).sum() + torch.add(torch.ones(2), x, alpha=3).sum()
    texts = {edge.formula for edge in run.graph(loss).edges if edge.operand == 1 and "other" in edge.formula}
    assert "∂add/∂other" in texts


@pytest.mark.parametrize(
    "call", [lambda x: torch.div(x, 2, rounding_mode="floor"), lambda x: torch.addmm(x, x, x, beta=2)]
)
def test_a_variant_of_an_operation_hides_the_formula(call):
    x = torch.eye(3, requires_grad=True)
    with record() as run:
        y = call(x)
    (edge, *_) = run.graph(y.sum()).edges_from(run.graph(y.sum()).node_of(x))
    assert edge.formula.startswith("∂")
