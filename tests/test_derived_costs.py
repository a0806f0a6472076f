"""Derived BPTT: as few calls and arrays as a person would need, whatever the order of the gates."""

import importlib
import itertools
import re
from functools import cache

import numpy as np
import pytest
from derived_cells import MOVES, RandomCell, assert_equal, by_engine
from test_derived_strangers import STRANGERS, Cell, parts
from test_derived_strangers import derived as derived_stranger

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import history
from tinygrad_rnn.bptt import REWRITES
from tinygrad_rnn.bptt.emit import Source
from tinygrad_rnn.bptt.gates import cut_of, row_of, take
from tinygrad_rnn.bptt.passes import LARGE, SAVE_CALLS
from tinygrad_rnn.bptt.program import COMPILED
from tinygrad_rnn.symbolic.trace import Node

FEW, RNG = np.random.default_rng(0).normal(size=(3, 2, 3)), np.random.default_rng


def squares(outputs):
    return tg.mean(outputs**2)


def derived(cell, loss=squares, inputs=FEW, **options):
    return tg.derive_bptt(cell, loss, (tg.Tensor(inputs, requires_grad=True), cell.initial_state(2)), **options)


def assert_right(cell, program, loss=squares, steps=5):
    x, first = RNG(1).normal(size=(steps, 2, 3)), cell.initial_state(2)
    many = isinstance(first, tuple)
    start = [RNG(k).normal(size=s.shape) for k, s in enumerate(first if many else (first,))]
    start = tuple(start) if many else start[0]
    assert_equal(program(x, start, cell.parameters()), by_engine(cell, loss, x, start), "f8")


@cache
def program_of(name):
    return derived(OURS[name]()) if name in OURS else derived_stranger(name, squares)[1]


OURS = {
    "ours: RNN": lambda: tg.RNNCell(3, 4, rng=0),
    "ours: LSTM": lambda: tg.LSTMCell(3, 4, rng=0),
    "ours: GRU": lambda: tg.GRUCell(3, 4, rng=0),
}
COSTS = {
    "GRU": (11, 10, 11),
    "layer norm": (25, 33, 21),
    "peephole": (16, 15, 15),
    "highway": (18, 11, 13),
    "update gate": (9, 6, 9),
    "attention": (13, 12, 13),
    "einsum": (4, 6, 4),
    "three states": (12, 16, 13),
    "scalars": (3, 2, 3),
    "quasi": (3, 2, 3),
    "halting": (10, 13, 13),
    "swish": (7, 8, 8),
    "memory": (12, 10, 12),
    "mixture": (15, 17, 17),
    "indexed": (20, 29, 20),
    "letters": (7, 4, 7),
    "skip": (5, 4, 5),
    "powers": (5, 8, 7),
    "ours: RNN": (3, 3, 3),
    "ours: LSTM": (10, 9, 8),
    "ours: GRU": (11, 8, 11),
}
"""What a step costs: the statements of the loops forwards and backwards, and the arrays that stand before them."""


@pytest.mark.parametrize("name", COSTS)
def test_no_step_costs_more_than_it_did(name):
    program = program_of(name)
    lines = [[line for line in loop[1:] if line.strip() and "#" not in line] for loop in parts(program)]
    assert (*map(len, lines), program.source.count("np.empty(")) == COSTS[name], program.source
    assert {*STRANGERS, *OURS} == {*COSTS}


# --- gates ---


class Gates:
    """Functions of slices of one z, one after the other ("-" is left out), and the product of all as the new state."""

    def __init__(self, functions, operand, named=()):
        self.functions, self.operand, self.named = functions.split(), operand, named
        rng, n = RNG(0), len(self.functions)
        for name, shape in {"W": (4 * n, 3), "U": (4 * n, 4), "V": (4 * n, 4), "p": (n, 4), "a": (), "e": (1,)}.items():
            setattr(self, name, tg.Tensor(rng.normal(size=shape) / 2, requires_grad=True))

    def parameters(self):
        return {name: value for name, value in vars(self).items() if isinstance(value, tg.Tensor)}

    def initial_state(self, batch):
        return tg.Tensor(np.zeros((batch, 4)))

    def __call__(self, x, h):
        z, y, made = x @ self.W.T + h @ self.U.T, h @ self.V.T, []
        for k, function in enumerate(self.functions):
            if function != "-":
                cut = slice(4 * k, 4 * k + 4)
                made.append(getattr(tg, function)(OPERANDS[self.operand](self, z[..., cut], y[..., cut], k)))
                made[-1].name = self.named[k] if self.named else ""
        return sum(made[1:], made[0]) * made[-1] * 0.3


OPERANDS = {
    "alone": lambda cell, z, y, k: z,
    "times a number": lambda cell, z, y, k: 0.5 * z,
    "times a scalar": lambda cell, z, y, k: z * cell.a,
    "times one element": lambda cell, z, y, k: z * cell.e,
    "times vectors": lambda cell, z, y, k: z * cell.p[k],
    "plus another": lambda cell, z, y, k: z + y,
}
ORDERS = ["sin tanh tanh cos", "tanh tanh - sin", "- cos cos cos", "sin - sin sin", "cos sin cos"]


@pytest.mark.parametrize(
    "functions, operand", [*itertools.product(ORDERS[:1], OPERANDS), *itertools.product(ORDERS[1:], [*OPERANDS][::4])]
)
def test_equal_functions_of_adjacent_slices_are_one_call(functions, operand):
    cell = Gates(functions, operand)
    runs = [function for function, _ in itertools.groupby(functions.replace("-", "").split())]
    for rewrites in (REWRITES, ("merge",)):  # alone it knows equal numbers, too
        program = derived(cell, rewrites=rewrites)
        assert_right(cell, program)
        forward = "".join(parts(program)[0])
        for function in {*runs} if operand != "plus another" and (rewrites is REWRITES or len(runs) == 3) else ():
            assert forward.count(f"np.{function}(") == runs.count(function), program.source


GAPS = [((0, 1), (2, 4)), ((1, 3),), ((0, 2), (3, 4)), ((1, 2), (2, 4)), ((0, 2), (1, 3)), ((0, 2), (0, 2), (2, 4))]


@pytest.mark.parametrize("cuts", GAPS, ids=str)
def test_slices_that_leave_a_gap_or_overlap(cuts):
    """What is not taken has no gradient, what is taken twice has two."""

    def step(cell, x, h):
        v = tg.tanh(h @ cell.U + x @ cell.W)
        return 0.3 * h + sum(v[..., a:b] ** 2 @ cell.M[: b - a] for a, b in cuts)

    cell = Cell(step, {"U": "HH", "W": "IH", "M": "HH"})
    program = derived(cell)
    assert_right(cell, program)
    alone = len(cuts) == 1 or cuts == ((0, 2), (1, 3))  # a single one, or one that begins in another
    assert ("scatter(" in "".join(parts(program)[1])) == alone, program.source


@pytest.mark.parametrize("functions", ["sigmoid tanh", "tanh sigmoid sigmoid", "sigmoid sigmoid", "sigmoid - tanh"])
def test_gates_that_tile_a_sum_need_one_call(functions):
    cell = Gates(functions, "alone")
    program = derived(cell)
    assert_right(cell, program)
    loop = "".join(parts(program)[0])
    assert len(re.findall(r"\b(tanh|sigmoid)\(", loop)) == 1, program.source
    assert ("np.tanh(" in loop) == ("scales" in loop) == ("tanh" in functions), program.source
    assert len(re.findall(r"np\.dot\(h\[t\]", loop)) == 1


@pytest.mark.parametrize(
    "named, whole",
    [(("i", "o", "f"), "iof"), (("z_r", "z_z", "z_n"), "z_rzn"), (("in", "out", "f"), "gates"), (("r", "", "z"), None)],
)
def test_gates_that_are_one_have_a_name_of_all(named, whole):
    source = derived(Gates("sin sin sin", "alone", named)).source
    assert whole is None or re.search(rf"^ +np\.sin\(.*out={whole}\[t\]\)", source, re.M), source
    assert whole or "np.sin(" in source


ITEMS = [slice(None), slice(1, 3), slice(-2, None), slice(0, 1), slice(3, 1), slice(None, None, 2), 0, -1, None, ...]


def test_a_cut_is_what_numpy_takes():
    array = np.arange(60).reshape(3, 4, 5)
    for n in (1, 2, 3):
        for index in itertools.product(ITEMS, repeat=n):
            if index.count(...) > 1:
                continue
            cut, row, got = cut_of(index, array.shape), row_of(index, array.shape), array[index]
            if cut is not None:
                axis, start, stop = cut
                assert np.array_equal(array[(slice(None),) * axis + (slice(start, stop),)], got) and stop > start
            if row is not None:
                assert np.array_equal(np.take(array, row[1], row[0]), got)
            plain = [item for item in index if item not in (slice(None), ...)]
            one = len(plain) == 1 and None not in index
            assert (row is not None) == (one and type(plain[0]) is int)
            proper = one and plain[0] in (slice(1, 3), slice(-2, None), slice(0, 1))
            assert (cut is not None) == proper, index


def test_a_slice_of_a_slice_is_one_slice_and_all_of_an_array_is_the_array():
    node = Node("input", value=np.arange(20.0).reshape(2, 10))
    assert take(node, 0, 10) is node
    for (a, b), (c, d) in itertools.product([(0, 4), (3, 9), (2, 10)], [(0, 2), (1, 4), (2, 4)]):
        inner = take(node, a, b)
        assert np.array_equal(inner.value, node.value[:, a:b]) and inner.args == (node,)
        both = take(inner, c, d)
        assert both.args == (node,) and np.array_equal(both.value, node.value[:, a:b][:, c:d])


@pytest.mark.parametrize("functions", ["exp cos", "exp exp"])
def test_a_cell_that_overflows_at_other_values_warns_of_nothing(functions):
    """The program and the engine are compared at values that nobody asked for, where numbers need not be finite."""
    with np.errstate(over="raise", invalid="raise"):
        assert "np.exp" in derived(Gates(functions, "alone"), inputs=0.1 * FEW).source


@pytest.mark.parametrize("first", range(0, len(MOVES), 4))
def test_every_primitive_in_a_cell(first):
    """Random cells draw some of them; here each is once, on what came before."""
    names = sorted(MOVES)[first : first + 4]
    cell = RandomCell(tuple((name, k + 1, k) for k, name in enumerate(names)), 2)
    for rewrites in (tg.bptt.REWRITES, ()):
        program = derived(cell, rewrites=rewrites)
        assert_right(cell, program)


LAST = {
    "a column": lambda outputs: tg.sum(outputs[-1, :, 0] ** 2),
    "a row": lambda outputs: tg.sum(outputs[-1, 0] ** 2),
    "columns": lambda outputs: tg.sum(outputs[-1, ..., 1:] ** 2),
    "and the state": lambda outputs, state: tg.sum(outputs[-1, 0] ** 2) + tg.sum(state[0] * state[1]),
    "as one of many": lambda outputs: tg.sum(outputs[-1:] ** 2),
    "twice": lambda outputs: tg.sum(outputs[-1, 0] * outputs[-1, 1]),
    "the last but one": lambda outputs: tg.sum(outputs[-2, 0] ** 2),
}


@pytest.mark.parametrize("name", LAST)
def test_a_loss_of_a_part_of_the_last_output(name):
    cell = tg.LSTMCell(3, 4, rng=0)
    program = derived(cell, LAST[name])
    assert_right(cell, program, LAST[name])
    of_all = name in ("as one of many", "the last but one", "twice")
    assert ("d_outputs" in program.source) == of_all, program.source


# --- what is asked for, and what is not read ---


def test_a_state_that_nobody_reads_costs_nothing_on_the_way_back():
    def step(cell, x, h, unread):
        h = tg.tanh(h @ cell.U + x @ cell.W)
        return h, tg.sin(h) * unread if cell.reads else tg.sin(h)

    cell = Cell(step, {"U": "HH", "W": "IH"}, states=2)
    for cell.reads in (False, True):
        program = derived(cell)
        assert_right(cell, program)
        backward = "\n".join(parts(program)[1])
        assert ("cos" in program.source) == ("unread" in backward) == cell.reads or not cell.reads, program.source
        assert "np.cos" not in backward or cell.reads


def named_values(cell, x, h, c):
    """Values of many kinds: read once, twice or never, slices, stretched, reduced, reshaped."""
    made = {"z": h @ cell.U + x @ cell.W + cell.b}
    made |= {"i": tg.sigmoid(made["z"][..., :4]), "f": tg.sigmoid(made["z"][..., 4:8]), "g": made["z"][..., 8:]}
    made |= {"mean": tg.mean(made["g"], -1, keepdims=True), "peep": made["f"] * c, "x_part": tg.sin(x @ cell.V)}
    made |= {"new": made["peep"] + made["i"] * tg.tanh(made["g"] - made["mean"]), "turned": made["i"][..., ::-1]}
    made |= {"flat": tg.reshape(made["new"], (-1,)), "unread": tg.cos(made["i"])}
    made |= {"out": tg.reshape(made["flat"], h.shape) * made["turned"] + made["x_part"]}
    for name, value in made.items():
        value.name = name
    return tg.tanh(made["out"]), made["new"]


ASKED = "z i f g mean peep x_part new turned flat unread out".split()


@pytest.mark.parametrize("rewrites", [tg.bptt.REWRITES, (), ("buffers",), ("tiles", "merge", "one_tanh")], ids=str)
def test_values_that_are_asked_for_are_given_at_every_step(rewrites):
    """Each with its gradient, as the engine has them; also where the program would keep it for one step only."""
    cell = Cell(named_values, {"U": "H3", "W": "I3", "V": "IH", "b": "3"}, states=2)
    state, x = cell.initial_state(2), RNG(0).normal(size=(4, 2, 3))
    known, outputs, (h, c) = {name: [] for name in ASKED}, [], state
    for row in x:
        h, c = cell(tg.Tensor(row, requires_grad=True), (h, c))
        outputs.append(h)
    value = squares(tg.stack(outputs))
    for node in history([value]):
        if node.name in known:
            known[node.name].append(node)
    for names in (ASKED, ["z"], ["g"]):
        steps = derived(cell, rewrites=rewrites, steps=names)(x, state, cell.parameters())[1]["steps"]
        assert {*names} <= steps.keys()
        for name in set(names) - {"unread"}:
            after, gradient = steps[name]
            np.testing.assert_allclose(after, [t.data for t in known[name]], rtol=1e-10, err_msg=name)
            want = [g.data for g in tg.grad(value, known[name], allow_unused=True)]
            np.testing.assert_allclose(gradient, want, rtol=1e-9, atol=1e-12, err_msg=name)


def test_values_that_are_the_same_at_each_step_cannot_be_asked_for():
    step, shapes, states = STRANGERS["three states"]
    with pytest.raises(ValueError, match=r"no value is called keep: there are .*z"):
        derived(Cell(step, shapes, states=states), steps=("keep",))


def test_a_product_with_a_column_for_each_step():
    """A weight stands on the left where there is no batch."""
    cell = Cell(lambda cell, x, h: tg.tanh(cell.W @ x + cell.U @ h), {"W": "HI", "U": "HH"})
    for steps in (3, 5):
        x, h = RNG(steps).normal(size=(steps, 3)), RNG(0).normal(size=4)
        program = tg.derive_bptt(cell, squares, (tg.Tensor(x, requires_grad=True), h))
        assert_equal(program(x, h, cell.parameters()), by_engine(cell, squares, x, h), "f8")
        assert parts(program)[0][0].count("@") == 0 and "x @ W.T" in program.source


def test_a_target_of_another_precision_than_the_cell():
    """Rounding is that of the least precise, whichever comes first."""
    cell, rng = tg.LSTMCell(3, 4, dtype="f4", rng=0), RNG(0)
    loss = lambda outputs, target: tg.mse_loss(outputs, target) * 1e3  # noqa: E731
    x = rng.normal(size=(30, 2, 3)).astype("f4")
    target = rng.normal(size=(30, 2, 4))
    program = tg.derive_bptt(cell, loss, (x, cell.initial_state(2), target))
    got = program(x, cell.initial_state(2), cell.parameters(), target)
    want = by_engine(cell, loss, x, tuple(s.data for s in cell.initial_state(2)), (target,))
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)


def test_a_number_where_the_engine_has_none_is_wrong():
    """At more than twenty steps this loss is not a number: a program that gives one is not given out there."""
    cell = tg.RNNCell(3, 4, rng=0)
    program = derived(cell, lambda outputs: tg.sum(outputs**2) * (np.nan if len(outputs) > 20 else 1.0))
    assert np.isfinite(program(np.ones((9, 2, 3)), np.zeros((2, 4)), cell.parameters())[0])
    with pytest.raises(ValueError, match="the loss was derived for"):
        program(np.ones((40, 2, 3)), np.zeros((2, 4)), cell.parameters())


def test_compiled_is_what_its_writer_says(monkeypatch):
    """Which rewrites serve it, and who writes it."""
    pytest.importorskip("numba", reason="the extra [fast] is not installed")
    importlib.import_module("tinygrad_rnn.fast")  # which says who writes it

    class Own(Source):
        pass

    monkeypatch.setattr(COMPILED, "uses", ("share", "split"))
    monkeypatch.setattr(COMPILED, "source", Own)
    program = derived(tg.GRUCell(3, 4, rng=0), compiled=True)
    assert program.compiled and program.rewrites == ("share", "split")
    plain = derived(tg.GRUCell(3, 4, rng=0))
    assert not plain.compiled and plain.rewrites == tg.bptt.REWRITES


@pytest.mark.parametrize(("batch", "large"), [(63, False), (64, True)])
def test_where_the_state_is_large_what_only_saves_calls_is_left_out(batch, large):
    cell, x = tg.LSTMCell(3, 32, rng=0), RNG(0).normal(size=(2, batch, 3))  # 16 kB at a batch of 64
    example = x, cell.initial_state(batch)
    assert set(REWRITES) - {*tg.derive_bptt(cell, squares, example).rewrites} == (SAVE_CALLS if large else set())
    assert set(tg.derive_bptt(cell, squares, example, REWRITES).rewrites) == set(REWRITES)


@pytest.mark.parametrize("rewrites", [(), REWRITES, ("buffers",)])
@pytest.mark.parametrize(
    ("step", "numbers"),
    [(lambda x, h, a, b: x + (a + b) + 0 * h, (1e9, 0.7 - 1e9)), (lambda x, h, a, b: x * (a * b) + 0 * h, (0.1, 0.3))],
    ids=["sum", "product"],
)
def test_brackets_of_a_sum_or_product_are_kept(step, numbers, rewrites):
    class Apart:
        def __init__(self):
            self.a, self.b = (tg.Tensor(np.full((2, 4), n), requires_grad=True) for n in numbers)

        def parameters(self):
            return {"a": self.a, "b": self.b}

        def __call__(self, x, h):
            return step(x, h, self.a, self.b)

    cell, x, h = Apart(), np.random.default_rng(0).normal(size=(3, 2, 4)), np.zeros((2, 4))
    program = tg.derive_bptt(cell, lambda state: tg.sum(state), (x, h), rewrites)
    assert program(x, h, cell.parameters())[0] == tg.sum(tg.unroll(cell, x, h)[1]).item()


@pytest.mark.parametrize("kind", [tg.RNNCell, tg.LSTMCell, tg.GRUCell])
@pytest.mark.parametrize("more", [0, 1])
def test_a_large_weight_is_not_copied(kind, more):
    rows = {tg.RNNCell: 45, tg.LSTMCell: 22, tg.GRUCell: 26}[kind]  # the largest whose copy takes at most 16 kB
    cell, x = kind(3, rows + more, rng=0), RNG(0).normal(size=(2, 2, 3))
    assert (cell.weight_hh.data.nbytes > LARGE) == bool(more)
    program = tg.derive_bptt(cell, squares, (x, cell.initial_state(2)))
    assert ("np.ascontiguousarray(" in program.source) == (not more)


def test_an_array_that_is_held_is_named_once_and_another_has_a_name_of_its_own():
    held, other = np.linspace(-1, 1, 4), np.linspace(1, 2, 4)

    def step(cell, x, h):
        return tg.tanh(h * held + x @ cell.W * other) * held

    program = derived(Cell(step, {"W": "IH"}))
    constants = [*program.constants.values()]
    assert [sum(np.array_equal(c, a) for c in constants) for a in (held, other)] == [1, 1], program.constants


def test_the_input_that_is_the_next_state_has_a_gradient_at_each_step():
    """Of which the loop carries one only."""
    cell = Cell(lambda cell, x, h, c: (tg.tanh(c @ cell.U), x), {"U": "HH"}, inputs=4, states=2)
    for rewrites in (tg.bptt.REWRITES, ()):
        x, state = RNG(0).normal(size=(5, 2, 4)), cell.initial_state(2)
        program = derived(cell, inputs=x, rewrites=rewrites)
        want = by_engine(cell, squares, x, tuple(s.data for s in state))
        assert_equal(program(x, state, cell.parameters()), want, "f8")


def test_parts_of_an_array_that_is_joined_to_be_multiplied_have_its_name():
    step = lambda cell, x, h: tg.tanh(tg.concatenate([h * h, h - 0.5], -1) @ cell.M + x @ cell.W)  # noqa: E731
    source = derived(Cell(step, {"M": "2H", "W": "IH"}, hidden=2), rewrites=("buffers",)).source
    assert {"h_2_part", "h_2_part_2"} <= {*re.findall(r"^ +(\w+) = h_2\[", source, re.M)}, source


ODD = {
    "the input transposed": (lambda cell, x, h: tg.tanh((cell.U @ x.T).T + h @ cell.U), {"U": "HH"}),
    "the input in columns": (lambda cell, x, h: tg.tanh(tg.transpose(x.T * cell.d, (1, 0)) + h @ cell.U), {"U": "HH"}),
    "sums of numbers": (
        lambda cell, x, h: tg.tanh(tg.sum(tg.sum(x)) + tg.mean(tg.max(x)) + h @ cell.U),
        {"U": "HH"},
    ),
    "several matrices": (lambda cell, x, h: tg.tanh(tg.sum(h @ cell.M, axis=0) + x @ cell.U), {"M": "KHH", "U": "HH"}),
    "matrices of inputs": (
        lambda cell, x, h: tg.tanh(tg.sum(x @ cell.M, axis=0) + h @ cell.U),
        {"M": "KHH", "U": "HH"},
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_products_of_other_shapes(name):
    step, shapes = ODD[name]
    cell = Cell(step, shapes, inputs=4)
    cell.d = tg.Tensor(np.linspace(0.5, 1.5, 4)[:, None], requires_grad=True) if "columns" in name else None
    for rewrites in (tg.bptt.REWRITES, (), ("buffers",)):
        x, h = RNG(0).normal(size=(5, 2, 4)), RNG(1).normal(size=(2, 4))
        program = derived(cell, inputs=x[:3], rewrites=rewrites)
        assert_equal(program(x, h, cell.parameters()), by_engine(cell, squares, x, h), "f8")
    if name == "several matrices":
        part = derived(Gates("cos cos cos", "plus another"))
        assert re.search(r"\bpart\b", part.source)
