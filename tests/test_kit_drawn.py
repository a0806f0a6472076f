"""What the strategies draw: nothing that they promise is left out, and nothing else is drawn."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.testing.strategies import (
    Program,
    Step,
    axes,
    broadcastable,
    cotangents,
    distinct,
    grid,
    indices,
    matrices,
    programs,
    shapes,
)


def drawn(strategy, count=150):
    found = []

    @settings(max_examples=count, database=None, derandomize=True, deadline=None, phases=[Phase.generate])
    @given(strategy)
    def look(value):
        found.append(value)

    look()
    return found


def test_a_grid_has_every_sixty_fourth_between_its_bounds_and_nothing_else():
    every = np.concatenate([a.ravel() for a in drawn(grid((3, 4)))])
    assert (every * 64 % 1 == 0).all() and every.min() == -2 and every.max() == 2 and len(set(every)) > 150
    part = np.concatenate(drawn(grid((5,), 0.25, 0.5)))
    assert {*part} == {k / 64 for k in range(16, 33)}
    assert drawn(grid(()), 3)[0].shape == () and grid((2,)) is grid((2,))


def test_cotangents_are_of_both_signs_and_none_is_small():
    every = np.concatenate(drawn(cotangents((6,))))
    assert np.abs(every).min() == 0.5 and every.max() == 95 / 64 and every.min() == -95 / 64
    assert (every * 64 % 1 == 0).all() and np.mean(every > 0) == pytest.approx(0.5, abs=0.1)


def test_distinct_numbers_keep_their_distance():
    for a, b in drawn(distinct((2, 3), (3,)), 40):
        assert (a.shape, b.shape) == ((2, 3), (3,))
        every = np.sort(np.concatenate([a.ravel(), b]))
        assert np.diff(every).min() == 0.25 and np.abs(every).min() == 0.125 and len(every) == 9
        assert every[0] == -0.875 and every[-1] == 1.125
    assert len({tuple(a) for (a,) in drawn(distinct((3,)), 60)}) == 6, "in any order"


def test_matrices_have_the_singular_values_that_were_asked_for():
    for condition in (10.0, 100.0):
        values = np.array([np.linalg.svd(a, compute_uv=False) for a in drawn(matrices(2, condition), 60)])
        assert values.max() <= 1 + 1e-9 and values.min() >= (1 - 1e-9) / condition
        assert values.min() < 1.5 / condition and values.max() > 0.9
    assert any(np.abs(a - a.T).max() > 0.1 for a in drawn(matrices(3), 20))


def test_shapes_are_of_all_ranks_with_shares_of_square_and_empty_ones():
    found = drawn(shapes(), 300)
    assert {len(s) for s in found} == {0, 1, 2, 3} and all(0 <= n <= 3 for s in found for n in s)
    assert {(2, 2), (3, 3), (2, 3, 3), (2, 2, 2)} <= {*found} and {(0,), (2, 0), (0, 3), (1, 0, 2)} <= {*found}
    square, empty = (np.mean([bool(of(s)) for s in found]) for of in (
        lambda s: len(s) > 1 and s[-1] == s[-2] > 1, lambda s: 0 in s))  # fmt: skip
    assert square > 0.2 and 0.05 < empty < 0.5
    assert not any(0 in s for s in drawn(shapes(empty=False)))
    assert {len(s) for s in drawn(shapes(1, 2), 100)} == {1, 2} and {len(s) for s in drawn(shapes(3, 3), 60)} == {3}
    assert {len(s) for s in drawn(shapes(1, 1, empty=False), 60)} == {1}


def test_shapes_that_fit_each_other_are_stretched_both_ways_equal_or_empty():
    found = drawn(broadcastable(), 250)
    for pair in found:
        assert len(pair) == 2 and len(np.broadcast_shapes(*pair)) <= 3
    assert any(a == b and len(a) > 1 and a[-1] == a[-2] > 1 for a, b in found)
    assert any(len(a) > len(b) == 2 and b == a[1:] for a, b in found) and any(0 in a + b for a, b in found)
    assert any(1 in a and 1 not in b and len(b) >= len(a) for a, b in found)
    assert any(1 in b and 1 not in a for a, b in found) and {len(a) - len(b) for a, b in found} >= {-2, -1, 0, 1, 2}
    assert {len(three) for three in drawn(broadcastable(3), 20)} == {3}
    assert 0.05 < np.mean([0 in a + b for a, b in found]) < 0.4


def test_axes_are_none_one_or_several_and_of_either_sign():
    found = drawn(axes(2), 200)
    assert {None, -2, -1, 0, 1} <= {a for a in found if not isinstance(a, tuple)}
    several = [a for a in found if isinstance(a, tuple)]
    assert any(len(a) == 2 for a in several) and () in several and all(-2 <= k < 2 for a in several for k in a)
    assert {*drawn(axes(3, one=True), 200)} == {None, -3, -2, -1, 0, 1, 2}
    assert {*drawn(axes(0), 30)} == {None, ()} and {*drawn(axes(0, one=True), 10)} == {None}


def test_indices_are_of_every_kind_and_fit():
    array, kinds = np.arange(6.0).reshape(2, 3), defaultdict(list)
    for index in drawn(indices((2, 3)), 250):
        array[index]
        parts = index if isinstance(index, tuple) else (index,)
        kinds["list"] += [index] * isinstance(index, list)
        kinds["mask"] += [p for p in parts if isinstance(p, np.ndarray) and p.dtype.kind == "b"]
        kinds["mask and slice"] += [parts] * (
            len(parts) == 2 and isinstance(parts[0], np.ndarray) and parts[0].dtype.kind == "b"
        )
        kinds["integers"] += [p for p in parts if getattr(p, "dtype", np.dtype(bool)).kind == "i"]
        kinds["slice"] += [p for p in parts if isinstance(p, slice)]
        kinds["new axis"] += [p for p in parts if p is None]
    assert all(kinds[k] for k in ("list", "mask", "mask and slice", "integers", "slice", "new axis")), kinds.keys()
    assert {m.ndim for m in kinds["mask"]} == {1, 2} and {len(i) for i in kinds["list"]} == {1, 2, 3, 4}
    assert {k for i in kinds["list"] for k in i} == {-2, -1, 0, 1}
    assert any(len({k % 2 for k in i}) < len(i) for i in kinds["list"]), "with repeats"
    assert {i.ndim for i in kinds["integers"]} == {1, 2} and all(max(i.shape) <= 3 for i in kinds["integers"])
    for shape in ((), (0, 2)):
        assert all(np.zeros(shape)[i].size <= 1 for i in drawn(indices(shape), 30))


# Programs


def static_of(name, key=None, count=40):
    """The steps of that operation in programs made of it, and the values that they are applied to."""
    for program in drawn(programs(most=3, ops=[name]), count):
        values = program.values(program.leaves)
        for step in program.steps:
            if step.name == name:
                yield step.static[key] if key else step, [values[i] for i in step.operands]


def test_static_parameters_take_all_that_they_may():
    slopes = {s for s, _ in static_of("leaky_relu", "slope", 15)}
    assert slopes == {0.25, -0.5} and {s for s, _ in static_of("clip", "hi", 25)} == {0.5, 1.25}
    assert {s for s, _ in static_of("clip", "lo", 8)} == {-0.75}
    reductions = [(s.static["axis"], s.static["keepdims"], x.ndim) for s, (x,) in static_of("sum")]
    assert {(len(a), k) for a, k, n in reductions if n == 2} >= {(a, k) for a in (0, 1, 2) for k in (True, False)}
    assert {a for a, _, n in reductions if n == 2} >= {(0,), (1,), (0, 1)} and all(
        max(a, default=-1) < n for a, _, n in reductions
    )
    turned = [(s, x.shape) for s, (x,) in static_of("reshape", "shape")]
    assert any(len(s) == 1 for s, x in turned if len(x) == 2) and any(s == (1, *x) for s, x in turned)
    assert any(s == x[::-1] != x for s, x in turned)
    assert {s for s, (x,) in static_of("transpose", "axes") if x.ndim == 2} == {(0, 1), (1, 0)}
    assert all(s == (2, *x.shape) for s, (x,) in static_of("broadcast_to", "shape", 8))
    assert {s for s, (x,) in static_of("cumsum", "axis") if x.ndim == 2} == {0, 1}


def test_what_is_picked_and_placed_repeats_itself():
    picked = [(s[0], s, x) for s, (x,) in static_of("getitem", "index", 110)]
    lists = [(i, x) for i, _, x in picked if isinstance(i, np.ndarray)]
    assert {len(i) for i, _ in lists} == {1, 2, 3} and any(len({*i}) < len(i) for i, _ in lists)
    assert any((i < 0).any() for i, _ in lists) and any(i.min() == -len(x) for i, x in lists)
    assert any(i.max() == len(x) - 1 for i, x in lists)
    whole = [s for _, s, _ in picked if not isinstance(s[0], np.ndarray)]
    assert (slice(None, None, -1),) in whole and (Ellipsis, 0) in whole
    starts = {s[0].start for s in whole if isinstance(s[0], slice) and s[0].step is None}
    assert {0, 1} <= starts and len(whole) < 0.75 * len(picked)
    placed = [(s.static["index"][0], s.static["shape"], x) for s, (x,) in static_of("scatter")]
    assert {int(k) for i, _, _ in placed for k in i} == {0, 1, 2} and any(len({*i}) < len(i) for i, _, _ in placed)
    assert all(shape == (3, *x.shape[1:]) and len(i) == len(x) for i, shape, x in placed)


def test_what_takes_several_operands_gets_any_that_fit():
    conditions = [(s.static["condition"], xs) for s, xs in static_of("where")]
    assert {bool(b) for c, _ in conditions for b in c.ravel()} == {True, False}
    assert all(c.shape == xs[0].shape for c, xs in conditions)
    for name in ("concatenate", "stack"):
        found = [(len(xs), s.static["axis"], xs[0].ndim) for s, xs in static_of(name)]
        assert {count for count, _, _ in found} == {2, 3}
        assert {axis for _, axis, n in found if n == 2} == ({0, 1} if name == "concatenate" else {0, 1, 2})
    terms = [s.partition("->") for s, _ in static_of("einsum", "subscripts", 110)]
    assert {left.count(",") for left, _, _ in terms} == {0, 1}
    assert {len(right) for left, _, right in terms if len(left) in (2, 5)} == {0, 1, 2}
    assert any(right == left[::-1] for left, _, right in terms if len(left) == 2), "in any order"
    products = {(xs[0].shape, xs[1].shape) for _, xs in static_of("matmul")}
    assert len(products) > 4 and any(a != b for a, b in products)
    affine = [xs for _, xs in static_of("affine", count=15)]
    assert affine and any(x.shape != h.shape for x, _, _, h, *_ in affine) | any(
        len({id(x) for x in xs}) < 6 for xs in affine
    )


def test_leaves_fit_each_other_and_steps_are_as_many_as_were_asked_for():
    found = drawn(programs(most=5), 100)
    assert {p.leaves[0].shape for p in found} == {(2, 2), (2, 3)}
    for p in found:
        (n, m), square, row = (leaf.shape for leaf in p.leaves[:3])
        assert square == (m, m) and row == (m,) and 3 <= len(p.leaves) <= 5 and p.steps
        assert {leaf.shape for leaf in p.leaves[3:]} <= {(), (n,), (1, m), (n, m), (m, n)}
        assert all(np.abs(leaf).max(initial=0) <= 1.5 and (leaf * 64 % 1 == 0).all() for leaf in p.leaves)
    extra = {leaf.shape for p in found for leaf in p.leaves[3:] if p.leaves[0].shape == (2, 3)}
    assert (
        extra <= {(), (2,), (1, 3), (2, 3), (3, 2)} and len(extra) >= 3 and {len(p.leaves) for p in found} == {3, 4, 5}
    )
    assert max(len(p.steps) for p in found) >= 5 and np.mean([len(p.steps) for p in found]) > 3
    assert {len([s for s in p.steps if s.name == "exp"]) for p in drawn(programs(most=2, ops=["exp"]), 40)} >= {1, 2}
    values = [v for p in found for v in p.values(p.leaves)]
    assert max(v.size for v in values) <= 36 and max(v.ndim for v in values) <= 3
    assert max(np.abs(v).max(initial=0) for v in values) <= 30 < 10 * max(np.abs(v).max(initial=0) for v in values)


def test_a_step_and_a_program_compute_what_they_say():
    program = Program(
        (np.array([1.0, 2.0]),),
        (Step("exp", (0,)), Step("multiply", (0, 1)), Step("sum", (2,), {"axis": (0,), "keepdims": True})),
    )
    right = np.array([np.e + 2 * np.e**2])
    assert np.allclose(program(*program.leaves), right) and len(program.values(program.leaves)) == 4
    assert np.allclose(program(tg.Tensor([1.0, 2.0])).numpy(), right)


@given(st.data())
def test_every_step_can_be_trusted(data):
    """A little to either side the result is where the slope says, up to the jump of a kink that is not there."""
    program = data.draw(programs(most=4))
    values = program.values(program.leaves)
    for step in program.steps:
        xs = [np.asarray(values[i]) for i in step.operands]
        for k, x in enumerate(xs):
            near = [tg.OPS[step.name].forward(*xs[:k], x + h, *xs[k + 1 :], **step.static) for h in (-1e-3, 0, 1e-3)]
            assert np.abs(near[0] - 2 * near[1] + near[2]).max(initial=0) < 1e-3
