"""The textbook's small experiments, as the literature has their numbers."""

import doctest

import blog_post_experiments
import numpy as np
import pytest
from blog_post_experiments import first_lag, hump, latch, sigmoid_chain
from cliff import cliff, cliff_plane, descend
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg


def test_what_their_docstrings_say():
    done = doctest.testmod(blog_post_experiments)
    assert (done.failed, done.attempted > 4) == (0, True)


@pytest.mark.parametrize("weight, multiplier", [(1.5, 0.394), (2.0, 0.166), (3.0, 0.0305), (5.0, 0.00091)])
def test_a_unit_that_holds_a_bit_contracts(weight, multiplier):
    assert latch(weight) == latch(weight, start=-0.5) == pytest.approx(multiplier, abs=6e-4 if weight < 3 else 3e-5)
    h = 1.0  # the fixed point by iteration, and w (1 - h²) there
    for _ in range(1000):
        h = np.tanh(weight * h)
    assert latch(weight) == pytest.approx(weight * (1 - h * h), abs=1e-12)


def test_a_spectral_radius_below_one_is_no_norm_below_one():
    norms = hump([[0.9, 10.0], [0.0, 0.9]], 100)
    assert (norms.argmax(), np.flatnonzero(norms[1:] < 1)[0] + 1) == (9, 63)
    assert norms[[9, 100]] == pytest.approx([38.746, 0.0295], rel=1e-3)


@given(seed=st.integers(0, 100), n=st.integers(1, 5))
def test_the_hump_is_the_norm_of_the_power(seed, n):
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    powers = [np.linalg.norm(np.linalg.matrix_power(matrix, k), 2) for k in range(8)]
    np.testing.assert_allclose(hump(matrix, 7), powers, rtol=1e-9)


def test_four_sigmoids():
    gradients, slopes = sigmoid_chain([1.0] * 4)
    assert gradients[::-1] == pytest.approx([0.148726, 0.033870, 0.008046, 0.002164], abs=5e-7)
    assert max(slopes) < 0.25
    larger, _ = sigmoid_chain([5.0] * 4)
    assert larger[::-1] == pytest.approx([6.8e-3, 2.35e-4, 8.07e-6, 2.7e-7], rel=0.01)


def test_over_the_cliff_and_held_back():
    thrown, held = descend(), descend(clip=1.0)
    assert (thrown.losses[0], thrown.norms[0]) == pytest.approx((0.1287, 156.77), rel=1e-3)
    assert np.linalg.norm(thrown.points[1] - thrown.points[0]) == pytest.approx(7.84, abs=0.005)
    assert thrown.points[1] == pytest.approx([8.58, 4.39], abs=0.005)
    assert thrown.losses[[1, -1]] == pytest.approx(0.0900, abs=5e-5) and thrown.norms[1] == pytest.approx(
        2e-6, rel=0.05
    )
    assert held.losses[-10:].mean() == pytest.approx(0.0015, abs=2e-4)
    assert np.linalg.norm(np.diff(held.points, axis=0), axis=1).max() <= 0.05 + 1e-12


def test_a_walk_over_a_sequence_of_any_length():
    assert descend(steps=50).losses[0] == descend().losses[0]
    for steps in (10, 30):
        walk = descend(steps=steps, updates=1)
        losses, norms = cliff_plane(4.5, -2.303, steps)
        assert (walk.losses[0], walk.norms[0]) == pytest.approx((float(losses), float(norms)), rel=1e-12)


def test_the_plane_is_the_loss_at_each_of_its_points_and_higher_walls_take_longer():
    _, norms = cliff_plane(5.0, -2.6123)
    assert norms == pytest.approx(1026, rel=0.01)
    w, b = np.array([[3.0], [6.0]]), np.array([-3.0, -1.0, 0.5])
    losses, norms = cliff_plane(w, b)
    for i, j in np.ndindex(losses.shape):
        at = tg.Tensor([w[i, 0], b[j]], requires_grad=True)
        loss = cliff(at[0], at[1])
        assert losses[i, j] == pytest.approx(loss.item(), rel=1e-12)
        assert norms[i, j] == pytest.approx(np.linalg.norm(tg.grad(loss, at).data), rel=1e-10)
    fine = np.linspace(-2.7, -2.5, 20001)
    assert [cliff_plane(5.0, fine, steps)[1].max() for steps in (30, 50)] == pytest.approx([252, 6773], rel=0.05)


def test_where_floats_end():
    assert first_lag(np.float32, 1.5, 230, np.isinf) == 219
    with np.errstate(over="ignore"):
        assert first_lag(np.float32, 1.5, 230, lambda g: np.isinf(g * g)) == 110
    tiny = np.finfo(np.float32).tiny
    assert first_lag(np.float32, 0.25, 100, lambda g: g < tiny) == 64
    assert first_lag(np.float32, 0.25, 100, lambda g: g == 0) == 75
    assert first_lag(np.float64, 0.25, 600, lambda g: g == 0) == 538
    assert first_lag(np.float32, 0.25, 50, lambda g: np.linalg.norm(np.float32([g])) == 0) == 38
    assert first_lag(np.float32, 0.5, 10, np.isinf) == -1


# --- counter-examples to engines that recurse, overwrite or forget to clear ---


def test_shared_nodes_are_visited_after_all_their_uses():
    a = tg.Tensor(1.0, requires_grad=True)
    b = a + a
    assert tg.grad(b + b, a).item() == 4.0
    c = b + b
    assert tg.grad(c + c, a).item() == 8.0

    def recursing(tensor, found):  # what one is tempted to write: each visit of a node passes on all it has by then
        for operand in tensor._operands or ():
            found[operand] = found.get(operand, 0.0) + found[tensor]
        for operand in tensor._operands or ():
            recursing(operand, found)
        return found

    assert recursing(c, {c: 1.0})[a] == 8.0, "the mistake that this is about"
    d = c + c
    assert recursing(d, {d: 1.0})[a] == 48.0


def test_going_back_twice_adds_twice_and_no_more():
    a = x = tg.Tensor(1.0, requires_grad=True)
    for _ in range(10):
        x = x * 1.0
    x.backward()
    x.backward()
    assert a.grad.item() == 2.0


def test_three_steps_of_one_weight():
    w, x = tg.Tensor(0.2, requires_grad=True), 0.9
    for _ in range(3):
        x = w * x
    assert tg.grad(x, w).item() == pytest.approx(0.108)
