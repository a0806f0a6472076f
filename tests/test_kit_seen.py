"""What is seen of the kit where it is used: outcomes and sentences at the edges of what it is asked."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.testing import (
    CheckError,
    GradcheckError,
    InconclusiveError,
    battery,
    cells,
    check_cell,
    check_primitive,
    checker,
    comparison,
    gradcheck,
    primitives,
    special,
    subject,
)
from tinygrad_rnn.testing.command import check_file
from tinygrad_rnn.testing.operands import examples_of, spd, statics_of

X = np.array([0.3, -1.2, 0.7, 2.0, -0.4])


def failure(f, *inputs, **options):
    with np.errstate(all="ignore"), pytest.raises(GradcheckError) as caught:
        gradcheck(f, *inputs, **options)
    assert not isinstance(caught.value, InconclusiveError)
    return caught.value


def cause_of(f, *inputs, **options):
    error = failure(f, *inputs, **options)
    return error.cause, error.message.partition("likely cause: ")[2]


# The line to paste


@pytest.mark.parametrize("x", [[1.0, -1.0], [-1.0, 1.0], [2.0, 1.0, -1.0]])
def test_the_line_has_the_element_that_shows_it_wherever_it_was(plant, x):
    wrong = plant(np.sin, lambda g, y, x: g * np.cos(x) * np.where(x < 0, np.nan, 1.0))
    assert re.search(r"\n  again: gradcheck\(.*, np\.array\(\[-1\.0\]\)\)$", str(failure(wrong, np.array(x))))


# The traceback


class Cell:
    def __init__(self, wrong=None):
        self.W, self.wrong = tg.Tensor([[0.5, -0.3], [0.2, 0.4]], requires_grad=True), wrong

    def parameters(self):
        return {"W": self.W}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, 2)))

    def __call__(self, x, h):
        return (self.wrong or tg.tanh)(x[:, :2] @ self.W + 0.5 * h)


def test_a_failure_points_at_the_line_of_whoever_asked(plant):
    wrong = plant(np.tanh, lambda g, y, x: 2 * g * (1 - y * y))
    at_zero = plant(lambda x: np.where(x == 0, 0.0, x), lambda g, y, x: g * (x != 0))
    writes = plant(lambda x: 2 * x, lambda g, y, x: g.__imul__(2))
    shapes = plant(lambda x: 2 * x, lambda g, y, x: np.ones((7, 7)) @ g)
    nan = plant(np.sin, lambda g, y, x: g * np.nan)
    asked = [
        *(lambda op=op: gradcheck(op, X) for op in (wrong, at_zero, writes, shapes, nan, tg.abs)),
        lambda: gradcheck(wrong, X, mode="direction"), lambda: gradcheck(tg.abs, 0.0),
        lambda: gradcheck(lambda x: x * np.random.default_rng().normal(), X), lambda: check_primitive(wrong),
        lambda: check_primitive(at_zero), lambda: check_primitive(shapes),
        lambda: check_cell(Cell(wrong), input_size=2),
    ]  # fmt: skip
    seen = 0
    for ask in asked:
        try:
            ask()
        except AssertionError:
            info = pytest.ExceptionInfo.from_current()
            files = {Path(entry.path).name for entry in info.traceback.filter(info)}
            assert files == {Path(__file__).name}, files
            seen += 1
    assert seen == len(asked) - 2, "two pass"
    assert all(
        module.__tracebackhide__ for module in (battery, cells, checker, comparison, primitives, special, subject)
    )


# The battery


@pytest.mark.parametrize(("ticks", "shown"), [([0.0], False), ([0.0, 0.9], False), ([0.0, 1.1], True)])
def test_how_far_a_battery_is_is_said_after_a_second(monkeypatch, capsys, ticks, shown):
    clock = iter(ticks)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock, ticks[-1]))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    check_primitive("sin", shapes=[(3,)], order=1)
    assert ("check" in capsys.readouterr().err) == shown


@pytest.mark.parametrize("size", [64, 65])
def test_how_many_inputs_a_cell_takes_is_tried_up_to_64(size):
    class Wide(Cell):
        def __call__(self, x, h):
            if x.shape[1] != size:
                raise ValueError(f"{size} inputs")
            return super().__call__(x, h)

    if size == 64:
        assert "input size 64" in check_cell(Wide(), order=1, batch=1, steps=1).examples[0]
    else:
        with pytest.raises(ValueError, match=r"no input of 1 to 64 numbers is accepted"):
            check_cell(Wide())
        assert "input size 65" in check_cell(Wide(), input_size=65, order=1, batch=1, steps=1).examples[0]


def test_rounding_is_no_gap_between_an_operation_and_its_adjoint(plant):
    """The direction of a vector of one element does not change: two sums of rounding errors have no digit in common."""

    def length(x):
        return (x * x).sum(axis=-1, keepdims=True) ** 0.5

    op = plant(
        lambda x: x / length(x),
        lambda g, y, x: g / length(x) - x * (g * x).sum(axis=-1, keepdims=True) / length(x) ** 3,
    )
    skipped = ["float32", "first order", "order 2"]  # where nothing moves, differences confirm nothing
    assert "adjoint" in check_primitive(op, shapes=[(5, 1), (2, 7, 1)], domain=(0.3, 1.9), skip=skipped).passed


def test_operands_are_of_both_signs_where_it_can_be(plant):
    for op in (
        tg.OPS["matmul"],
        plant(np.matmul, lambda g, y, a, b: g @ b.T, lambda g, y, a, b: a.T @ g),
        tg.OPS["sin"],
    ):
        found = examples_of(op, None, None, statics_of(None), None, 0)
        assert all((a < 0).any() and (a > 0).any() for e in found for a in e.arrays if a.size > 5)


def test_what_is_finite_nowhere_says_what_to_pass(plant):
    never = plant(lambda x: np.log(x - 1e3), lambda g, y, x: g / x)
    with pytest.raises(
        ValueError, match=r"results are not finite anywhere that was tried: pass domain=\(lowest, h\w+\)$"
    ):
        check_primitive(never)
    with pytest.raises(ValueError, match=r"the results are not finite in its domain$"):
        check_primitive(never, domain=(1.0, 2.0))


def test_stacks_are_looked_at_where_a_rule_reads_its_result(plant):
    op = plant(
        lambda a, b: np.tanh(a @ b),
        lambda g, y, a, b: (g * (1 - y * y)) @ np.swapaxes(b, -1, -2),
        lambda g, y, a, b: np.swapaxes(a, -1, -2) @ (g * (1 - y * y)),
    )
    assert "shapes (2, 2, 3), (2, 3, 4)" in check_primitive(op, order=1).examples
    only = plant(np.matmul, lambda g, y, a, b: g @ b.T, lambda g, y, a, b: a.T @ g)
    assert not [e for e in examples_of(only, None, None, statics_of(None), None, 0) if e.arrays[0].ndim > 2]


def test_an_operand_that_is_kept_on_a_set_has_no_line_that_leaves_it(plant):
    wrong = plant(np.linalg.inv, lambda g, y, a: y.T @ g @ y.T)
    with pytest.raises(CheckError) as caught:
        check_primitive(wrong, operands=spd(3), order=1)
    assert caught.value.failed["first order"].cause == "sign" and "again:" not in str(caught.value)
    assert "guessed" not in str(caught.value)
    flat = plant(np.sin, lambda g, y, x: np.zeros(7) @ g)
    for options, guessed in (({}, True), ({"shapes": [(2, 2)]}, False), ({"operands": X}, False)):
        with pytest.raises(CheckError) as caught:
            check_primitive(flat, order=1, **options)
        assert ("the shapes were guessed: pass shapes= if the" in str(caught.value)) == guessed


# Outcomes


def test_a_kink_in_one_of_many_elements_is_no_pass():
    for size in (3, 30, 500):
        x = np.linspace(1.0, 2.0, size)
        assert gradcheck(tg.abs, x, mode="direction").compared == 4
        x[size // 2] = 0.0
        with pytest.raises(InconclusiveError) as caught:
            gradcheck(tg.abs, x, mode="direction")
        assert caught.value.cause == "kink"


def test_what_is_wrong_for_a_cotangent_of_zero_is_wrong_beside_a_kink_too(plant):
    wrong = plant(lambda x: np.abs(x), lambda g, y, x: g * np.sign(x) + (0 * g == g) * 1e-20)
    assert cause_of(wrong, np.array([0.0, 1.0]))[0] == "cotangent ignored"


def test_the_worst_element_is_explained_however_large_the_result_is(plant, monkeypatch):
    monkeypatch.setattr(checker, "MOST_NUMBERS", 40)
    last = np.arange(20) == 19
    wrong = plant(np.sin, lambda g, y, x: g * np.cos(x) * np.where(last[-len(x) :], 1.5, 1.0))
    error = failure(wrong, np.linspace(0.5, 1.5, 20))
    assert error.element == (19,) and "right but for few elements: (19,)" in error.message


AWKWARD = {
    "usual": (tg.sin, X),
    "beside a constant": (lambda x: 1e7 + tg.sin(x), X),
    "beside a larger one": (lambda x: 1e13 + tg.sin(x), X),
    "small beside large": (lambda x: x * x, np.array([1.0, 1e-7])),
    "two inputs": (lambda x, y: tg.tanh(x) * 1e8 + y, X, X),
    "kink": (tg.abs, np.array([0.0, 1.0])),
    "beside a kink": (tg.relu, np.array([1e-3, -1e-6, 1e-9])),
    "jump": (lambda x: tg.where(x.numpy() > 0, 1.0, 0.0) + 0 * x, np.zeros(1)),
    "cusp": (lambda x: tg.abs(x) ** 0.5, np.array([1e-4, 1e-12])),
    "too fast": (lambda x: tg.sin(1e9 * x), X),
    "fast": (lambda x: tg.sin(3e4 * x), X),
    "fast and slow": (lambda x: x + 1e-3 * tg.sin(1e3 * x), X),
    "edge": (tg.sqrt, np.array([0.0, 1.0])),
    "near the edge": (tg.log, np.array([1e-6, 1.0])),
    "nothing moves": (lambda x: 0 * x, X),
    "saturated": (lambda x: tg.tanh(20 * x), X),
    "many": (lambda x: tg.sin(x), np.linspace(0.5, 1.5, 500)),
    "float32": (tg.sin, X.astype(np.float32)),
    "rounded": (lambda x: tg.sin(x).astype(np.float32), X),
    "sign": (lambda x: x.detach() * x * 2 - x * x.detach() * 3, X),
    "lost": (lambda x: tg.sin(x.detach()) + 0 * x, X),
}


def outcome(f, *inputs, **options):
    try:
        with np.errstate(all="ignore"):
            found = gradcheck(f, *inputs, **options)
    except GradcheckError as error:
        return type(error).__name__, error.cause, error.element, error.relative_error
    return found.compared, found.worst, found.precision


@pytest.mark.parametrize("name", AWKWARD)
def test_what_is_said_does_not_depend_on_the_scale_of_the_results(name):
    """Powers of two leave all digits as they are, so that only constants that are no shares could tell."""
    f, *inputs = AWKWARD[name]
    for options in ({}, {"mode": "direction"}, {"noise": 1e-9}):
        found = {outcome(lambda *xs, k=k: 2.0**k * f(*xs), *inputs, **options) for k in (0, -50, 50)}
        assert len(found) == 1 or any(one[-1] != one[-1] for one in found), found


# Causes


@pytest.mark.parametrize("size", [2, 3, 6])
def test_a_number_that_is_added_everywhere_is_named_at_any_size(plant, size):
    wrong = plant(np.sin, lambda g, y, x: g * np.cos(x) + 0.25)
    cause, said = cause_of(wrong, np.linspace(0.3, 1.3, size))
    assert cause == "offset" and said.startswith("the same number, 0.25, is added to every element")


def test_where_nothing_can_be_drawn_anew_one_number_is_no_factor(plant):
    """Any number is some factor of another; several that all are by the same one are not by accident."""
    half = plant(np.sin, lambda g, y, x: 1.3 * g * np.cos(x))

    def picky(x):
        if np.abs(x.numpy() - X[: x.size]).max() > 0.03:
            raise ValueError("not defined")
        return half(x)

    assert cause_of(picky, X[:1])[0] == "unknown" and cause_of(picky, X)[0] == "factor"
    assert cause_of(half, X[:1])[0] == "factor"


def test_a_factor_of_vague_values_has_the_digits_that_are_known(plant):
    wrong = plant(np.sin, lambda g, y, x: 1.2371 * g * np.cos(x))
    said = [cause_of(lambda x, c=c: c + wrong(x), X)[1] for c in (0.0, 1e5, 3e8)]
    assert [one.removeprefix("off by a constant factor of ") for one in said] == ["1.2371", "1.2371", "1.24"]


@pytest.mark.parametrize(
    "rule",
    [
        lambda g, y, x: g @ np.ones(7),
        lambda g, y, x: np.zeros(7) + g[:2],
        lambda g, y, x: np.reshape(g, (7, 7)),
        lambda g, y, x: np.transpose(g, (1, 0)),
        lambda g, y, x: np.transpose(np.ones((2, 2)), (0, 0)),
        lambda g, y, x: g.sum(3),
        lambda g, y, x: np.concatenate([g, np.ones((2, 2))]),
        lambda g, y, x: np.stack([g, g[:2]]),
    ],
)
def test_a_rule_whose_shapes_do_not_fit_is_told_whatever_numpy_says(plant, rule):
    error = failure(plant(np.sin, rule), X)
    assert error.cause == "shape" and "in the derivative with respect to operand 0" in error.message


@pytest.mark.parametrize(("axes", "over"), [((1, 2), "0, 2"), ((0, 1), "1, 2"), ((0, 2), "1, 2")])
def test_a_cotangent_that_is_repeated_along_two_other_axes(plant, axes, over):
    others = tuple(map(int, over.split(", ")))
    wrong = plant(
        lambda x: np.sin(x).sum(axes), lambda g, y, x: np.broadcast_to(np.expand_dims(g, others), x.shape) * np.cos(x)
    )
    cause, said = cause_of(wrong, np.linspace(0.2, 1.4, 8).reshape(2, 2, 2))
    assert cause == "broadcast" and said.startswith(f"the cotangent g is repeated along axis {over} instead: is keep")


def slope_times(factor):
    return lambda g, y, x: g * np.cos(x) * factor


def test_a_tiny_factor_is_told_as_it_is(plant):
    for error in (1e-6, 3e-8, 1e-9, 4e-10, -7e-10):
        said = cause_of(plant(np.sin, slope_times(1 + error)), X)[1]
        assert said.startswith(f"off by a constant factor of 1 {error:+.2g}"), said


def test_what_a_rule_does_where_a_graph_is_made_is_held_against_what_it_does_without(plant):
    other = plant(np.sin, lambda g, y, x: g * tg.cos(x) * (2.0 if isinstance(x, tg.Tensor) else 1.0))
    assert failure(other, X, order=2).order == 2
    assert gradcheck(lambda x, y: tg.sin(x), X, X, order=2).compared == 25


SLIPS = {
    "sign": lambda g, y, x: -g * np.cos(x),
    "factor": lambda g, y, x: 1.5 * g * np.cos(x),
    "missing factor": lambda g, y, x: g * np.cos(x) * x,
    "few elements": lambda g, y, x: g * np.cos(x) * np.where(np.arange(len(x)) == 2, 1.01, 1.0),
    "permuted": lambda g, y, x: (g * np.cos(x))[::-1],
    "not float64": lambda g, y, x: g * np.cos(x) * (1 + 1e-3 * np.sin(50 * x)),
    "unknown": lambda g, y, x: g * np.cos(x) * (1.3 + np.sin(7 * x)),
}


@pytest.mark.parametrize("cause", SLIPS)
def test_a_cause_does_not_depend_on_the_scale_of_the_results(plant, cause):
    """Powers of two leave all digits as they are: only constants that are no shares can tell."""
    wrong = plant(np.sin, SLIPS[cause])
    said = {cause_of(lambda x, k=k: 2.0**k * wrong(x), X) for k in (0, -40, 40)}
    assert len(said) == 1 and said.pop()[0] == cause


# Files


def test_rules_of_other_libraries_and_cells_in_a_file(tmp_path, monkeypatch):
    def make_vjp(f):
        return lambda xs: (lambda g: tuple(2 * g for _ in xs), f(xs))

    monkeypatch.setitem(sys.modules, "autograd", types.SimpleNamespace(make_vjp=make_vjp))
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nimport tinygrad_rnn as tg\n"
        "def double(x):\n    return 2 * x\ndouble._is_autograd_primitive = True\n"
        "def half(x):\n    return x / 2\nhalf._is_autograd_primitive = True\n"
        "class Small(tg.RNNCell):\n    def __init__(self):\n        super().__init__(2, 2, rng=0)\n"
        'CHECK = {"double": {"shapes": [(3,)], "skip": ["float32"]}, "half": {"shapes": [(3,)]},\n'
        '         "Small": {"steps": 2, "order": 1}}\n'
    )
    said = []
    assert check_file(tmp_path / "mine.py", lambda *what: said.append(what)) == 1
    assert [one[:2] for one in said] == [("ok", "double"), ("FAILED", "half"), ("ok", "Small")]
    assert "off by a constant factor of 4" in said[1][2] and said[2][2].startswith("6 checks on 1 example")


@pytest.mark.parametrize("part", ["value", "rule"])
@pytest.mark.parametrize(("off", "right"), [(1e-6, True), (1e-2, False)])
def test_what_is_wrong_in_float32_alone_is_found_in_value_and_rule(part, off, right, declared):
    """To as many digits as float32 has; in float64 nothing is wrong, so that no other check has anything to say."""

    def factor(x, which):
        return x.dtype.type(1 + off * (which == part and x.dtype == np.float32))

    op = declared(
        f"square_{part}_{off:g}", lambda x: x * x * factor(x, "value"), lambda g, y, x: 2 * g * x * factor(x, "rule")
    )
    if right:
        assert "float32" in check_primitive(op, order=1).passed
        return
    with pytest.raises(CheckError) as caught:
        check_primitive(op, order=1)
    what = "gradients 0" if part == "rule" else "results"
    assert [*caught.value.failed] == ["float32"]
    assert f"{what} in float32 and in float64" in str(caught.value)
