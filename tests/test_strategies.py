"""The public strategies: every op is drawn, values are shared, and what is promised of the arrays holds."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.extras import how_to_install
from tinygrad_rnn.testing import GradcheckError, gradcheck
from tinygrad_rnn.testing.strategies import axes, broadcastable, cotangents, distinct, grid, indices, matrices, programs
from tinygrad_rnn.testing.strategies.arrays import SQUARES

GENERATE = settings(max_examples=40, database=None, derandomize=True, deadline=None, phases=[Phase.generate])
SHRINK = settings(
    max_examples=200, database=None, derandomize=True, deadline=None, phases=[Phase.generate, Phase.shrink]
)


@pytest.mark.parametrize("name", sorted(tg.OPS))
def test_programs_are_made_of_every_registered_op(name):
    enough = settings(GENERATE, max_examples=300)  # few numbers are larger than 1, as arccosh wants them
    found = find(programs(ops=[name]), lambda p: any(step.name == name for step in p.steps), settings=enough)
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

    @settings(max_examples=6, database=None, derandomize=True, deadline=None)
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


# What Hypothesis shows of a failure is the smallest example that it finds.

SMALLEST = [
    (grid((2,)), lambda a: True, [0.0, 0.0]),
    (cotangents((3,)), lambda a: True, [0.5, 0.5, 0.5]),
    (cotangents((3,)), lambda a: a[1] < 0, [0.5, -0.5, 0.5]),
    (cotangents((2,)), lambda a: a[1] > 1, [0.5, 65 / 64]),
    (matrices(3), lambda a: True, np.eye(3)),
    (matrices(2), lambda a: a[0, 0] < 1, [[63 / 64, 0.0], [0.0, 1.0]]),
    (distinct((2,)).map(lambda a: a[0]), lambda a: True, [-0.125, 0.125]),
    (st.tuples(axes(2)), lambda a: a[0] is not None, [0]),
    (indices((3,)).map(np.atleast_1d), lambda a: a.dtype.kind == "i" and len(a) > 1, [0, 0]),
]


@pytest.mark.parametrize("strategy, wanted, smallest", SMALLEST)
def test_what_is_drawn_shrinks(strategy, wanted, smallest):
    np.testing.assert_allclose(find(strategy, wanted, settings=SHRINK), smallest, atol=0.02 * (np.ndim(smallest) > 1))


@pytest.mark.slow
def test_a_program_shrinks_to_the_one_step_that_matters():
    smallest = find(programs(), lambda program: any(step.name == "exp" for step in program.steps), settings=SHRINK)
    assert [step.name for step in smallest.steps] == ["exp"]
    assert len(smallest.leaves) == 3 and not any(leaf.any() for leaf in smallest.leaves)


@pytest.mark.slow
def test_a_program_with_an_operation_of_two_operands_shrinks_to_two_steps_at_most():
    smallest = find(programs(), lambda program: any(step.name == "matmul" for step in program.steps), settings=SHRINK)
    assert len(smallest.steps) <= 2 and "matmul" in [step.name for step in smallest.steps]


@pytest.mark.slow
def test_a_wrong_rule_in_a_random_program_is_shown_alone(plant):
    wrong = plant(np.sin, lambda g, y, x: g * np.sin(x))

    def fails(program):
        try:
            gradcheck(program, *program.leaves)
        except GradcheckError as error:
            return error.cause != "kink"
        return False

    smallest = find(programs(ops=[wrong.name, "add", "multiply", "matmul"]), fails, settings=SHRINK)
    assert [step.name for step in smallest.steps] == [wrong.name]
    assert not any(leaf.any() for leaf in smallest.leaves)


def test_no_step_is_without_use_and_none_is_of_someone_elses(plant):
    """Not even while a test of theirs has its primitives registered."""
    theirs = {plant(np.sin, lambda g, y, x: g * np.cos(x)).name, plant(np.add, *[lambda g, y, a, b: g] * 2).name}
    before, names, lengths = set(tg.OPS) - theirs, set(), []

    @GENERATE
    @given(programs(most=12))
    def look(program):
        last = len(program.leaves) + len(program.steps) - 1
        used = {i for step in program.steps for i in step.operands}
        assert used | {last} >= {*range(len(program.leaves), last + 1)}, "a step that nothing depends on"
        for k, step in enumerate(program.steps):
            assert all(0 <= i < len(program.leaves) + k for i in step.operands), "an operand that is not there yet"
        names.update(step.name for step in program.steps)
        lengths.append(len(program.steps))

    look()
    assert names <= before and len(names) > len(before) / 2
    assert np.mean(lengths) > 4, "they are not made small by leaving out what is of no use"


def test_a_reduction_takes_several_axes_and_what_wants_one_gets_one():
    several = find(axes(3), lambda axis: isinstance(axis, tuple) and len(axis) > 1, settings=GENERATE)
    assert len({k % 3 for k in several}) == len(several)

    @GENERATE
    @given(axes(3, one=True))
    def look(axis):
        assert axis is None or -3 <= axis < 3

    look()
    assert find(axes(3, one=True), lambda axis: axis is not None, settings=SHRINK) == 0


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
    assert done.stderr.splitlines()[-1] == f"ImportError: strategies need Hypothesis: {how_to_install('test')}"


def test_programs_stay_where_differences_can_be_trusted():
    @GENERATE
    @given(programs(ops=["relu", "abs", "exp", "square", "multiply"]))
    def look(program):
        values = program.values(program.leaves)
        assert all(np.abs(v).max(initial=0) <= 30 for v in values)
        kinks = [values[step.operands[0]] for step in program.steps if step.name in ("relu", "abs")]
        assert all(np.abs(x).min(initial=1) > 0.01 for x in kinks)

    look()


def test_some_square_shapes_are_stacks_of_another_length():
    """Where all axes have the same length a gradient that is transposed along the wrong ones still fits."""
    assert all(shape[-1] == shape[-2] for shape in SQUARES) and len({*SQUARES}) == len(SQUARES)
    assert {shape[0] == shape[1] for shape in SQUARES if len(shape) == 3} == {True, False}
