"""The public strategies: every op is drawn, values are shared, and what is promised of the arrays holds."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.testing import GradcheckError, gradcheck
from tinygrad_rnn.testing.strategies import broadcastable, matrices, programs

GENERATE = settings(max_examples=100, database=None, derandomize=True, deadline=None, phases=[Phase.generate])


@pytest.mark.parametrize("name", sorted(tg.OPS))
def test_programs_are_made_of_every_registered_op(name):
    found = find(programs(ops=[name]), lambda p: any(step.name == name for step in p.steps), settings=GENERATE)
    assert np.isfinite(found(*found.leaves)).all()


def test_programs_share_their_values():
    shared, names = [], set()

    @GENERATE
    @given(programs())
    def look(program):
        used = [i for step in program.steps for i in step.operands]
        shared.append(len(used) > len(set(used)))
        names.update(step.name for step in program.steps)

    look()
    assert np.mean(shared) > 0.5 and len(names) > len(tg.OPS) / 2


def test_programs_take_in_ops_of_ones_own(plant):
    op = plant(lambda x: 1 / (1 + x * x), lambda g, y, x: -2 * g * x * y * y)
    wrong = plant(lambda x: np.arctan(x), lambda g, y, x: g * y)

    @settings(max_examples=20, database=None, derandomize=True, deadline=None)
    @given(programs(ops=[op.name, "add", "matmul"]))
    def right(program):
        assert {step.name for step in program.steps} <= {op.name, "add", "matmul", "tanh", "sin", "sigmoid"}
        gradcheck(program, *program.leaves)

    @settings(max_examples=20, database=None, derandomize=True, deadline=None, phases=[Phase.generate])
    @given(programs(ops=[wrong.name, "add"]))
    def caught(program):
        gradcheck(program, *program.leaves)

    right()
    with pytest.raises(GradcheckError):
        caught()


@given(st.integers(1, 5).flatmap(matrices))
def test_matrices_are_conditioned(a):
    assert np.linalg.cond(a) <= 10 * (1 + 1e-9)


@given(broadcastable(3))
def test_shapes_fit_each_other(shapes):
    np.broadcast_shapes(*shapes)


def test_strategies_without_hypothesis_say_what_to_install():
    code = "import sys; sys.modules['hypothesis'] = None; import tinygrad_rnn.testing as t; t.check_primitive('tanh')"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import tinygrad_rnn.testing.strategies"], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == 'ImportError: strategies need Hypothesis: pip install "tinygrad-rnn[test]"'


def test_programs_stay_where_differences_can_be_trusted():
    @settings(GENERATE, max_examples=150)
    @given(programs(ops=["relu", "abs", "exp", "square", "multiply"]))
    def look(program):
        values = program.values(program.leaves)
        assert all(np.abs(v).max(initial=0) <= 30 for v in values)
        kinks = [values[step.operands[0]] for step in program.steps if step.name in ("relu", "abs")]
        assert all(np.abs(x).min(initial=1) > 0.01 for x in kinks)

    look()
