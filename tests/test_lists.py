"""What is added in one place is known in all others: each failure names the file to open."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, train
from tinygrad_rnn.cli import options
from tinygrad_rnn.diagnose.theory import mean_field
from tinygrad_rnn.nn.cells import NONLINEARITIES
from tinygrad_rnn.ops import ACTIVATIONS
from tinygrad_rnn.tensor import NUMPY
from tinygrad_rnn.train.optimisers import OPTIMISERS
from tinygrad_rnn.train.tasks import Task

API = Path(__file__).resolve().parent.parent / "docs" / "api"


def words_of(option):
    """The words that an option of the command line is one of."""
    return set(re.findall(r"[\w-]+", options.OPTIONS[option]["help"].partition(";")[0].rpartition(": ")[2])) - {"or"}


# --- primitives ---


def test_every_primitive_is_reached():
    """By a name of the package, or by NumPy's function of its name."""
    helpers = {"cast", "scatter"}  # which rules and the sweep use
    hidden = {name for name in tg.OPS if name not in tg.__all__ and getattr(np, name, None) not in NUMPY}
    assert hidden == helpers, "name it in __all__ at the top of tinygrad_rnn/ops.py"


# --- activations ---


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_largest_slope_of_an_activation(name):
    """By its rule, over a range in which the largest slope of all of them lies."""
    op, x = tg.OPS[name], np.linspace(-40.0, 40.0, 80_001)
    static = {"slope": 0.01} if name == "leaky_relu" else {}
    slope = np.abs(op.rules[0](np.ones_like(x), op.forward(x, **static), x, **static)).max()
    assert slope == pytest.approx(ACTIVATIONS[name], rel=1e-9), "ACTIVATIONS in tinygrad_rnn/ops.py"


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_what_must_know_of_a_nonlinearity(name):
    assert name in ACTIVATIONS or name == "identity", "give its largest slope: ACTIVATIONS in tinygrad_rnn/ops.py"
    assert name in words_of("nonlinearity"), "name it in OPTIONS['nonlinearity'] of tinygrad_rnn/cli/options.py"
    for function in (nn.RNNCell, nn.from_state_dict):
        listed = re.search(r"nonlinearity : \{(.*?)\}", inspect.getdoc(function))[1]
        assert f'"{name}"' in listed, f"name it in the docstring of {function.__name__}: tinygrad_rnn/nn/"
    try:
        assert np.isfinite(mean_field(name, 1.0, 0.5))
    except KeyError:
        pytest.fail("mean_field in tinygrad_rnn/diagnose/theory.py needs the function and its derivative")


def test_the_command_line_knows_no_other_nonlinearity():
    assert words_of("nonlinearity") == set(NONLINEARITIES), "OPTIONS['nonlinearity'] of tinygrad_rnn/cli/options.py"


# --- optimisers ---


@pytest.mark.parametrize("name", OPTIMISERS)
def test_what_must_know_of_an_optimiser(name):
    kind = OPTIMISERS[name].__name__
    assert kind in train.__all__, "export it from tinygrad_rnn/train/__init__.py"
    assert name in options.RATES, "give it a rate to begin with: RATES in tinygrad_rnn/cli/options.py"
    page = (API / "train.md").read_text(encoding="utf-8")
    assert f":: tinygrad_rnn.train.{kind}\n" in page, "describe it in docs/api/train.md"


def test_the_list_of_optimisers_has_every_one():
    kinds = {kind for kind in train.Optimiser.__subclasses__() if kind.__module__ == train.Optimiser.__module__}
    assert set(OPTIMISERS.values()) == kinds, "put it above OPTIMISERS in tinygrad_rnn/train/optimisers.py"


def test_the_command_line_knows_no_other_optimiser():
    assert list(options.RATES) == list(OPTIMISERS), "RATES in tinygrad_rnn/cli/options.py"


# --- tasks ---


def test_what_must_know_of_a_task():
    kinds = {kind.__name__ for kind in Task.__subclasses__() if kind.__module__.startswith("tinygrad_rnn.")}
    assert kinds <= set(train.__all__), "export it from tinygrad_rnn/train/__init__.py"
    page = (API / "train.md").read_text(encoding="utf-8")
    undescribed = {kind for kind in kinds if f":: tinygrad_rnn.train.{kind}\n" not in page}
    assert not undescribed, "describe it in docs/api/train.md"
    reached = {task.split("-minimal")[0].replace("-", "") for task in options.TASKS}
    assert reached == {kind.lower() for kind in kinds}, "TASKS in tinygrad_rnn/cli/options.py"
