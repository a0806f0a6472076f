"""Derived BPTT on cells that people write by hand: the engine's gradients, and a source that reads well."""

import re
from pathlib import Path

import numpy as np
import pytest
from derived_cells import LOSSES, assert_equal, by_engine

import tinygrad_rnn as tg
from tinygrad_rnn.bptt import passes, rewrites


def cross_entropy(outputs):
    return -tg.mean(tg.log_softmax(outputs)[..., 0])


class Cell:
    """A step as a function, and its parameters as shapes by name; the sizes are letters of the shape."""

    def __init__(self, step, shapes, inputs=3, hidden=4, states=1, dtype="f8"):
        rng = np.random.default_rng(0)
        self.step, self.hidden, self.states, self.dtype = step, hidden, states, np.dtype(dtype)
        for name, letters in shapes.items():
            shape = [
                {"I": inputs, "H": hidden, "J": inputs + hidden, "K": 2}.get(x) or int(x) * hidden for x in letters
            ]
            setattr(self, name, tg.Tensor(rng.normal(size=shape).astype(dtype) / 2, requires_grad=True))

    def parameters(self):
        return {name: value for name, value in vars(self).items() if isinstance(value, tg.Tensor)}

    def initial_state(self, batch):
        shape = (self.hidden,) if batch is None else (batch, self.hidden)
        first = tuple(tg.Tensor(np.zeros(shape, self.dtype)) for _ in range(self.states))
        return first if self.states > 1 else first[0]

    def __call__(self, x, state):
        return self.step(self, x, *(state if self.states > 1 else (state,)))


def gru(cell, x, h):
    r = tg.sigmoid(x @ cell.W_r.T + h @ cell.U_r.T + cell.b_r)
    z = tg.sigmoid(x @ cell.W_z.T + h @ cell.U_z.T + cell.b_z)
    n = tg.tanh(x @ cell.W_n.T + (r * h) @ cell.U_n.T)
    return (1 - z) * n + z * h


def normed(v):
    centred = v - tg.mean(v, -1, keepdims=True)
    return centred / tg.sqrt(tg.var(v, -1, keepdims=True) + 1e-5)


def layer_norm(cell, x, h, c):
    z = normed(x @ cell.W.T + h @ cell.U.T) * cell.gain + cell.b
    i, f, g, o = tg.split(z, 4, axis=-1)
    c = tg.sigmoid(f) * c + tg.sigmoid(i) * tg.tanh(g)
    return tg.sigmoid(o) * tg.tanh(normed(c)), c


def peephole(cell, x, h, c):
    i, f, g, o = tg.split(x @ cell.W.T + h @ cell.U.T + cell.b, 4, axis=-1)
    c = tg.sigmoid(f + cell.p * c) * c + tg.sigmoid(i + cell.p * c) * tg.tanh(g)
    return tg.sigmoid(o + cell.p * c) * tg.tanh(c), c


def highway(cell, x, h):
    for k, (R, b) in enumerate([(cell.R, cell.b), (cell.S, cell.b)]):
        z = h @ R.T + b + (0 if k else x @ cell.W.T)
        s, t = tg.tanh(z[..., : cell.hidden]), tg.sigmoid(z[..., cell.hidden :])
        h = s * t + h * (1 - t)
    return h


def update_gate(cell, x, h):
    g, c = tg.split(tg.concatenate([x, h], -1) @ cell.W + cell.b, 2, axis=-1)
    g = tg.sigmoid(g + 1.0)
    return g * h + (1 - g) * tg.tanh(c)


def attention(cell, x, h):
    q = x @ cell.W.T + h @ cell.U.T
    weights = tg.softmax(q @ cell.M.T / np.sqrt(4))
    return tg.tanh(q + weights @ cell.V)


def memory(cell, x, h):
    query = h @ cell.Q.T
    return tg.tanh(x @ cell.W.T + h @ cell.U.T + tg.softmax(query @ cell.M.T) @ cell.M)


def einsums(cell, x, h):
    both = tg.einsum("...i,hi->...h", x, cell.W) + tg.einsum("...j,jh->...h", h, cell.U)
    return tg.tanh(both + tg.einsum("...i,ji,...j->...j", x, cell.W, h))


def quasi(cell, x, _, c):
    f, o, z = tg.split(x @ cell.W.T, 3, axis=-1)
    c = tg.sigmoid(f) * c + (1 - tg.sigmoid(f)) * tg.tanh(z)
    return tg.sigmoid(o) * c, c


def indexed(cell, x, h):
    for k in range(2):
        h = h + tg.tanh(normed(h @ cell.R[k].T + (0 if k else x @ cell.W.T) + cell.b[k]))
    return h


def halting(cell, x, h):
    gate = tg.sigmoid(x @ cell.w + h @ cell.v)[..., None]
    return gate * tg.tanh(x @ cell.W.T + h @ cell.U.T) + (1 - gate) * h


def swish(cell, x, h):
    s = (x @ cell.W.T + h @ cell.U.T + cell.b)[..., : cell.hidden]
    return tg.sigmoid(s) * tg.tanh(s) + 0.5 * h


def mixture(cell, x, h):
    z = x @ cell.W.T + h @ cell.U.T
    p = tg.softmax(tg.reshape(z, (*z.shape[:-1], 3, cell.hidden)), axis=-2)
    return p[..., 0, :] * h + p[..., -1, :] * tg.tanh(x @ cell.V.T) + p[..., 1, :] * tg.maximum(h, 0)


def three(cell, x, h, c, m):
    keep = tg.sigmoid(cell.decay)
    c = keep * c + (1 - keep) * h
    m = tg.maximum(m * 0.9, abs(c))
    return tg.tanh(x @ cell.W.T + h @ cell.U.T + c / (1 + m)), c, m


STRANGERS = {
    "GRU": (gru, {**{f"{w}_{g}": s for g in "rzn" for w, s in (("W", "HI"), ("U", "HH"))}, "b_r": "H", "b_z": "H"}, 1),
    "layer norm": (layer_norm, {"W": "4I", "U": "4H", "gain": "4", "b": "4"}, 2),
    "peephole": (peephole, {"W": "4I", "U": "4H", "b": "4", "p": "H"}, 2),
    "highway": (highway, {"W": "2I", "R": "2H", "S": "2H", "b": "2"}, 1),
    "update gate": (update_gate, {"W": "J2", "b": "2"}, 1),
    "attention": (attention, {"M": "JH", "V": "JH", "W": "HI", "U": "HH"}, 1),
    "einsum": (einsums, {"W": "HI", "U": "HH"}, 1),
    "three states": (three, {"W": "HI", "U": "HH", "decay": "H"}, 3),
    "scalars": (lambda c, x, h: c.a * tg.sin(h) + c.b * (x @ c.W.T), {"a": "", "b": "", "W": "HI"}, 1),
    "quasi": (quasi, {"W": "3I"}, 2),
    "halting": (halting, {"W": "HI", "U": "HH", "w": "I", "v": "H"}, 1),
    "swish": (swish, {"W": "2I", "U": "2H", "b": "2"}, 1),
    "memory": (memory, {"W": "HI", "U": "HH", "Q": "HH", "M": "JH"}, 1),
    "mixture": (mixture, {"W": "3I", "U": "3H", "V": "HI"}, 1),
    "indexed": (indexed, {"W": "HI", "R": "KHH", "b": "KH"}, 1),
    "letters": (
        lambda c, x, h: tg.tanh(x @ c.T.T + (3 + tg.sin(h @ c.t)) ** -1 * c.x),
        {"T": "HI", "t": "HH", "x": "H"},
        1,
    ),
    "skip": (lambda c, x, h: h + 0.1 * tg.tanh(h @ c.U + x @ c.W.T), {"W": "HI", "U": "HH"}, 1),
    "powers": (lambda c, x, h: h / (1 + abs(h)) ** 1.5 + (x @ c.W) ** 3, {"W": "IH"}, 1),
}


def derived(name, loss, inputs=3, hidden=4, batch=2, steps=3, dtype="f8"):
    step, shapes, states = STRANGERS[name]
    cell = Cell(step, shapes, inputs, hidden, states, dtype)
    x = np.random.default_rng(1).normal(size=(steps, *(() if batch is None else (batch,)), inputs)).astype(dtype)
    return cell, tg.derive_bptt(cell, loss, (tg.Tensor(x, requires_grad=True), cell.initial_state(batch)))


@pytest.mark.parametrize("name", STRANGERS)
def test_gradients_are_the_engines_at_odd_sizes(name):
    last, every = list(LOSSES.values())[:2]
    single = (2, 5, 1, 4, "f4", every) if list(STRANGERS).index(name) % 2 else (1, 1, None, 1, "f8", last)
    for inputs, hidden, batch, steps, dtype, loss in [(3, 4, 2, 3, "f8", cross_entropy), single]:
        if name == "attention" and dtype == "f4":
            continue  # a float64 scalar of NumPy makes it float64: refused, as the next test says
        cell, program = derived(name, loss, inputs, hidden, batch, steps, dtype)
        rng, state = np.random.default_rng(2), cell.initial_state(batch)
        first = [rng.normal(size=s.shape).astype(dtype) for s in (state if isinstance(state, tuple) else (state,))]
        start = tuple(first) if isinstance(state, tuple) else first[0]
        x = rng.normal(size=(5, *program._step.x.shape)).astype(dtype)
        assert_equal(program(x, start, cell.parameters()), by_engine(cell, loss, x, start), dtype)


def test_a_dtype_that_widens_is_refused_where_it_does():
    with pytest.raises(tg.bptt.TraceError, match=r"float64.* from float32") as caught:
        derived("attention", cross_entropy, dtype="f4")
    place = re.search(r"test_derived_strangers.py:(\d+): ", str(caught.value))
    assert "np.sqrt(4)" in Path(__file__).read_text(encoding="utf-8").splitlines()[int(place[1]) - 1]


def parts(program):
    """The lines before, in and after both loops."""
    lines = program.source.partition("T = len(x)\n")[2].splitlines()
    forward, backward = (i for i, line in enumerate(lines) if line.startswith("    for t in "))
    loss = lines.index("    # Loss")
    after = lines.index("    # Gradients")
    return [line.partition("  # ")[0] for line in lines[forward:loss]], [
        line.partition("  # ")[0] for line in lines[backward:after]
    ]


@pytest.mark.parametrize(
    "name, products, names",
    [
        ("GRU", (2, 2), {"rh", "one_minus_z", "slope_n", "dz_r", "dz_z", "dz_n", "U"}),
        ("highway", (2, 2), {"s", "t_2", "z_2", "dz"}),
        ("update gate", (1, 1), {"g", "tanh_c", "slope_c"}),
        ("einsum", (1, 1), {"z", "slope", "U_T"}),
        ("halting", (2, 1), {"gate", "z_x", "dz"}),
        ("indexed", (2, 2), {"dR_part", "stack", "R_0", "R_1_T"}),
        ("mixture", (1, 1), {"p", "dp", "stack"}),
        ("skip", (1, 1), {"z", "tanh_z", "dz", "slope"}),
    ],
)
def test_few_products_no_copies_and_the_names_of_the_cell(name, products, names):
    _, program = derived(name, lambda outputs: tg.sum(outputs[-1]))
    loops = parts(program)
    assert tuple("".join(loop).count("np.dot(") for loop in loops) == products, program.source
    code = "\n".join([*loops[0], *loops[1]])
    assert "scatter(" not in program.source
    assert "broadcast_to" not in code and "concatenate" not in code
    assert not re.search(r"^ +(\w|\[|\]|:|,| )+ = \w+(\[[^\]]*\])?$", code, re.M), code  # no line only copies
    assert names <= set(re.findall(r"\w+", program.source)), program.source


def test_equations_have_the_brackets_that_they_need():
    source = derived("GRU", lambda outputs: tg.sum(outputs[-1]))[1].source
    for equation in ("z_n = x @ W_nᵀ + (r × h) @ U_nᵀ", "dz_r = (dz_n @ U_n) × h × r × (1 − r)", "Σₜ dz_nᵀ @ (r × h)"):
        assert equation in source


def test_a_difference_within_a_difference_keeps_its_brackets():
    cell = Cell(lambda cell, x, h: tg.tanh(h @ cell.U - (x @ cell.W - cell.b)), {"W": "IH", "U": "HH", "b": "H"})
    program = tg.derive_bptt(cell, LOSSES["all outputs"], (np.ones((3, 2, 3)), cell.initial_state(2)))
    assert "# z = h @ U − (x @ W − b)\n" in program.source and "z = h[t] @ U" not in program.source


def test_what_the_loss_sends_to_every_output_alike_is_no_array_of_all_steps():
    for loss in (lambda outputs: tg.sum(outputs), lambda outputs: tg.mean(outputs)):
        program = derived("skip", loss)[1]
        assert re.search(r"\n        dh \+= (1|1 / \(8 \* T\))\s", program.source), program.source
        assert "np.ones(" not in program.source and "np.full(" not in program.source


@pytest.mark.slow
def test_no_cell_needs_a_name_that_says_nothing():
    for name in STRANGERS:
        _, program = derived(name, cross_entropy)
        assigned = re.findall(r"^    (\w+) = ", program.source, re.M)
        assert not {n for n in assigned if re.fullmatch(r"(a|tmp)(_\d+)?|t\d+|\w*__\w*", n)}, program.source
        assert " object at 0x" not in program.source


FUNCTIONS = set("tanh relu sqrt exp mean max min sum einsum logsumexp sigmoid sin cos abs isfinite".split())
FUNCTIONS |= {"where", "else", "and", "or", "condition"}


@pytest.mark.slow
@pytest.mark.parametrize("name", STRANGERS)
def test_comments_speak_of_what_the_program_computes(name):
    _, program = derived(name, lambda outputs, target=None: tg.mean(outputs**2))
    lines = [line.partition("# ")[::2] for line in program.source.splitlines()]
    known = set(re.findall("[A-Za-z_][A-Za-z_0-9]*", "\n".join(code for code, _ in lines))) | FUNCTIONS
    equations = [e for _, comment in lines for e in comment.split("; ") if " = " in e and "σ(z) =" not in e]
    known |= {equation.partition(" = ")[0] for equation in equations}
    for equation in equations:
        words = re.findall("[A-Za-z_][A-Za-z_0-9]*", equation.partition(" = ")[2].replace("dL/dh", ""))
        assert known.issuperset(words), equation
    assert equations and max(len(line) for line in program.source.splitlines()) <= 120, program.source


def test_a_state_that_no_step_reads_is_in_no_loop():
    for loss in (lambda outputs: tg.mean(outputs**2), lambda outputs: tg.sum(outputs[-1] ** 2)):
        cell, program = derived("quasi", loss)
        assert [line.strip() for line in parts(program)[1][1:] if line.strip()] == [
            "np.add(dc_next, dc_part[t], out=dc[t])",
            "np.multiply(dc[t], sigmoid_f[t], out=dc_next)",
        ]
        assert "\n    h[1:] = sigmoid_o * c[1:]  # h' = sigmoid_o × c'\n" in program.source
        x, state = np.random.default_rng(3).normal(size=(4, 2, 3)), (np.ones((2, 4)), np.ones((2, 4)))
        assert_equal(program(x, state, cell.parameters()), by_engine(cell, loss, x, state), "f8")


def test_names_are_no_arguments_of_helpers_nor_underscores_nor_T():
    source = derived("quasi", LOSSES["all outputs"])[1].source
    assert "def bptt(x, h0, c0, W):" in source and not re.search(r"\b_+\b", source)
    source = derived("layer norm", LOSSES["all outputs"])[1].source
    assert not re.search(r"\bd?v(_\d)?\b", source), source
    source = derived("letters", LOSSES["all outputs"])[1].source
    assert "def bptt(x, h0, T_2, t_2, x_2):" in source and "# z = x @ T_2ᵀ + (3 + sin(h @ t_2)) ^ (−1) × x_2" in source


def test_every_gradient_is_an_array():
    cell, program = derived("scalars", LOSSES["all outputs"])
    gradients = program(np.ones((2, 2, 3)), np.ones((2, 4)), cell.parameters())[1]
    for gradient in gradients.values():
        assert type(gradient) is np.ndarray
        gradient *= 2


def test_a_parameter_may_not_be_called_as_another_gradient_is():
    cell = Cell(lambda cell, x, h: tg.tanh(x @ cell.state + h), {"state": "IH"})
    with pytest.raises(ValueError, match="a parameter is called 'state', as is a gradient of another kind"):
        tg.derive_bptt(cell, LOSSES["all outputs"], (np.ones((3, 2, 3)), np.zeros((2, 4))))


def test_a_chaotic_cell_is_no_wrong_one(monkeypatch):
    """Where a change by one rounding grows a thousandfold in a few steps, no two programs agree to rounding."""
    cell = Cell(
        lambda cell, x, h: tg.sin(50 * tg.sigmoid(h @ cell.U + x @ cell.W) * 0.7), {"U": "HH", "W": "IH"}, dtype="f4"
    )
    x = np.random.default_rng(0).normal(size=(8, 2, 3)).astype("f4")
    example = x, np.zeros((2, 4), "f4")
    loss = LOSSES["all outputs"]
    program = tg.derive_bptt(cell, loss, example)
    got, want = program(*example, cell.parameters())[1]["U"], by_engine(cell, loss, *example)[1]["U"]
    assert np.abs(got - want).max() > 1e-2 * np.abs(want).max()

    def fault(step):
        rewrites.rebuild(step, lambda node, old, new: node.args[0] if node.op == "cos" else node)

    monkeypatch.setitem(passes.STEP_REWRITES, "share", fault)
    with pytest.raises(tg.GradientError, match="does not agree with the engine on U"):
        tg.derive_bptt(cell, loss, example)


def test_minus_signs_meet_in_differences():
    """(1 − g) h' and g h: the slope of the gate is one product, not two and a negative."""
    _, program = derived("update gate", lambda outputs: tg.sum(outputs[-1]))
    assert "np.negative" not in program.source and "(h[:-1] - tanh_c) * " in program.source


LOSSES_OF_T = {
    "centred": lambda outputs: tg.sum((outputs - tg.mean(outputs, axis=0, keepdims=True)) ** 2 * outputs),
    "kept axis": lambda outputs: tg.sum(tg.sum(outputs, axis=0, keepdims=True) ** 2),
    "softmax over time": lambda outputs: tg.sum(tg.softmax(outputs, axis=0) ** 2),
    "differences": lambda outputs: tg.sum((outputs[1:] - outputs[:-1]) ** 2 * outputs[0]),
    "variance": lambda outputs: tg.var(outputs) / len(outputs) - tg.sum(outputs) * (len(outputs) - 1) / 7,
    "reshaped": lambda outputs: tg.sum(tg.reshape(outputs, (-1, 4)) ** 3),
    "largest": lambda outputs: tg.sum(tg.max(outputs, axis=0) ** 2),
    "second half": lambda outputs: tg.sum(outputs[len(outputs) // 2 :] ** 2),
    "a loop": lambda outputs: sum(tg.sum(h**2) for h in outputs),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOSSES_OF_T)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_no_length_of_the_example_makes_a_wrong_function_of_the_length(steps, kind):
    """T = 1 is also a batch of 1, T = 2 makes slices of 1, and 5 // 2 is 5 - 3: free is T only if none misleads."""
    cell, loss, rng = tg.RNNCell(3, 4, rng=0), LOSSES_OF_T[kind], np.random.default_rng(0)
    program = tg.derive_bptt(
        cell, loss, (tg.Tensor(rng.normal(size=(steps, 1, 3)), requires_grad=True), np.zeros((1, 4)))
    )
    for other in (steps, 2, 9):
        x = rng.normal(size=(other, 1, 3))
        if other != steps and kind in ("second half", "a loop"):
            with pytest.raises(ValueError, match=r"derived for \d step"):
                program(x, np.zeros((1, 4)), cell.parameters())
        else:
            assert_equal(
                program(x, np.zeros((1, 4)), cell.parameters()), by_engine(cell, loss, x, np.zeros((1, 4))), "f8"
            )


def test_weights_that_are_as_many_as_steps_by_accident():
    cell, weights, rng = tg.RNNCell(3, 4, rng=0), np.arange(4.0)[:, None], np.random.default_rng(0)

    def loss(outputs, weights):
        return tg.sum(outputs[-1] * weights)

    example = tg.Tensor(rng.normal(size=(4, 4, 3)), requires_grad=True), np.zeros((4, 4)), weights
    program, x = tg.derive_bptt(cell, loss, example), rng.normal(size=(6, 4, 3))
    want = by_engine(cell, loss, x, np.zeros((4, 4)), (weights,))
    assert_equal(program(x, np.zeros((4, 4)), cell.parameters(), weights), want, "f8")


def test_labels_are_held_by_the_loss_or_left_to_the_call():
    cell, rng = tg.RNNCell(3, 4, rng=0), np.random.default_rng(0)
    x, h, labels = rng.normal(size=(5, 2, 3)), np.zeros((2, 4)), rng.integers(0, 4, (5, 2))
    for loss in (
        lambda outputs: tg.cross_entropy(outputs, labels),
        lambda outputs: tg.cross_entropy(outputs[-1], labels[-1]),
    ):
        program = tg.derive_bptt(cell, loss, (tg.Tensor(x, requires_grad=True), h))
        assert_equal(program(x, h, cell.parameters()), by_engine(cell, loss, x, h), "f8")
    with pytest.raises(tg.bptt.TraceError, match="derive with loss=None, and pass such a loss, and its labels"):
        tg.derive_bptt(cell, lambda outputs, labels: tg.cross_entropy(outputs, labels), (x, h, labels))


@pytest.mark.parametrize(
    "loss, error",
    [
        (lambda outputs: outputs[-1], "the loss must be one number"),
        (lambda *everything: 0, "the loss takes named parameters"),
        (lambda outputs: float(tg.sum(outputs)), "asks for the numbers"),
        (lambda outputs: tg.sum(outputs) if tg.sum(outputs) > 0 else 0, "a condition"),
    ],
)
def test_losses_that_are_refused(loss, error):
    with pytest.raises(TypeError, match=re.escape(error)):
        tg.derive_bptt(tg.RNNCell(3, 4, rng=0), loss, (np.ones((2, 1, 3)), np.zeros((1, 4))))


def test_a_deep_cell_of_shared_values_is_derived():
    """Written out with all it comes from, a value used three times at each of 30 levels would fill a library."""

    def step(cell, x, h):
        values = [x @ cell.W + h @ cell.U]  # a list gives them no names
        for k in range(30):
            values.append(tg.sin(values[k]) - 0.5 * (values[k] - 0.1 * values[k]))
        return values[-1]

    cell, x, h = Cell(step, {"W": "IH", "U": "HH"}), np.ones((3, 2, 3)), np.zeros((2, 4))
    loss = lambda outputs: tg.sum(outputs)  # noqa: E731
    program = tg.derive_bptt(cell, loss, (tg.Tensor(x, requires_grad=True), h))
    assert_equal(program(x, h, cell.parameters()), by_engine(cell, loss, x, h), "f8")
    assert len(program.source) < 40_000
