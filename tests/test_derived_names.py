"""Derived BPTT: text from outside is data in the source, whatever it says: none of it runs, the gradients are right.

Whoever reads weights from a file, or a class from a notebook, has its names from somebody else.
"""

import ast
import builtins
import io
import linecache
import tokenize

import numpy as np
import pytest
from derived_cells import assert_equal, by_engine

import tinygrad_rnn as tg
from tinygrad_rnn.bptt import draft

HOSTILE = [
    'w": [ran.append(1)], "z',
    "w': [ran.append(1)], 'z",
    *("len", "np", "range", "reversed", "float", "object", "T", "t", "x", "h", "h0", "loss", "gradients", "bptt"),
    *("g", "dh", "loss_of", "OPS", "lambda", "None", "self", "_", "__import__", "__debug__", "__builtins__", "print"),
    "two\nlines\n    ran.append(1)\n",
    '"""\n    ran.append(1)\n    """',
    "'''",
    "\\",
    '\\"',
    "a" * 2000,
    "ｌｅｎ",
    "σ",
    "\0",
    "\ud800",
    "",
    " ",
    "# ran.append(1)",
    "x  # \u2028ran.append(1)",
    "\rran.append(1)",
    "\x1b[31mred",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    *("a.b", "a_b", "a b", "a-b", "1", "1.5"),
    "{ran.append(1)}",
    "%s",
    "state_dict().pop",
    "__class__.__init__.__globals__",
]

FEW = [HOSTILE[0], "len", "two\nlines\n    ran.append(1)\n", ""]
ANY_NAME = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FEW else pytest.mark.slow, id=ascii(n)[:40]) for n in HOSTILE]
)

CALLED = {"len", "range", "reversed", "float", "slice"}
METHODS = {"reshape", "astype", "forward"}
NODES = (
    *(ast.Module, ast.Import, ast.ImportFrom, ast.alias, ast.FunctionDef, ast.arguments, ast.arg, ast.Return),
    *(ast.Assign, ast.AugAssign, ast.Expr, ast.For, ast.Pass, ast.Name, ast.Constant, ast.Attribute, ast.Subscript),
    *(ast.Slice, ast.Tuple, ast.List, ast.Dict, ast.Call, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare),
    *(ast.operator, ast.unaryop, ast.cmpop, ast.expr_context),
)


@pytest.fixture(autouse=True)
def ran(monkeypatch):
    """A canary: what runs appends to it."""
    canary = []
    monkeypatch.setattr(builtins, "ran", canary, raising=False)
    yield canary
    assert not canary


def assert_harmless(program):
    """Only what our own writer writes: calls of NumPy, of primitives by names of our making, arithmetic."""
    source = program.source
    assert all(line.isprintable() for line in source.split("\n"))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    assert not any("ran." in token.string for token in tokens if token.type == tokenize.COMMENT)
    tree = ast.parse(source)
    signature = source.partition("def bptt(")[2].partition("):\n")[0].strip("\n").split("\n")
    assert all(line.startswith("    ") and len(line) < 200 for line in signature[1:])
    assert signature[0] or signature[1:]
    defined = {a.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names}
    defined |= {t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets}
    for node in ast.walk(tree):
        assert isinstance(node, NODES), ast.dump(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or node.names[0].name, *(a.asname for a in node.names)]
            assert names[0] in ("numpy", "tinygrad_rnn", "tinygrad_rnn.ops") and set(names[1:]) <= {None, "np"}
        if isinstance(node, ast.Name | ast.arg):
            name = node.id if isinstance(node, ast.Name) else node.arg
            assert name.isascii() and len(name) < 80 and not name.startswith("__")
            if isinstance(node, ast.arg) or isinstance(node.ctx, ast.Store):
                assert name not in draft.RESERVED or name in ("x", "T", "t", "loss", "gradients", "loss_of")
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                assert called.id in CALLED | defined
            else:
                assert called.attr in METHODS or (isinstance(called.value, ast.Name) and called.value.id == "np")
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")
    alone = [type(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    assert set(alone) <= {ast.Call, ast.Constant} and alone.count(ast.Constant) == 1  # the docstring


class Cell:
    """h' = tanh(x + h Uᵀ + b) with parameters of any names, and a step that may do something more."""

    def __init__(self, names=("U", "b"), more=lambda cell, h: h):
        rng = np.random.default_rng(0)
        shapes = [(3, 3), *[(3,)] * (len(names) - 1)]
        self.weights = {
            name: tg.Tensor(rng.normal(size=s), requires_grad=True) for name, s in zip(names, shapes, strict=True)
        }
        self.more = more

    def parameters(self):
        return self.weights

    def __call__(self, x, h):
        U, *biases = self.weights.values()
        return self.more(self, tg.tanh(sum(biases, x + h @ U.T)))


def square(outputs):
    return tg.sum(outputs**2)


def derived(cell, loss=square):
    """The program, harmless and right, also for a loss that is given at the call."""
    rng = np.random.default_rng(1)
    x, h = rng.normal(size=(4, 2, 3)), rng.normal(size=(2, 3))
    example = tg.Tensor(x, requires_grad=True), h
    program, want = tg.derive_bptt(cell, loss, example), by_engine(cell, loss, x, h)
    assert_harmless(program)
    assert_equal(program(x, h, cell.parameters()), want, "f8")
    assert (
        not any(line.lstrip().startswith("```") for line in program.source.splitlines()) and repr(program).isprintable()
    )
    return program


@ANY_NAME
def test_parameters_of_any_name(name):
    program = derived(Cell((name, "other") if name != "other" else ("U", name)))
    assert ascii(name)[1:-1] in program.source and program.source.splitlines()


def test_all_names_at_once_and_names_that_become_the_same():
    """Of parameters and of what the step computes."""
    names = list(
        dict.fromkeys([*HOSTILE, "layer.weight", "layer_weight", "layer weight", "layer-weight", "layer_weight_2"])
    )

    def named(cell, h):
        for name in names:
            h = tg.sin(h) + 0.1
            h.name = name
        return h

    program = derived(Cell(tuple(names), named))
    assert list(Cell(tuple(names)).parameters()) == names and program.source.count("def bptt(") == 1


@ANY_NAME
def test_tensors_of_any_name(name):
    def named(cell, h):
        gate, fixed = tg.sigmoid(h), tg.Tensor(np.full(3, 0.5), name=name)
        gate.name = name
        h = gate * h + fixed
        h.name = name
        return h

    derived(Cell(more=named), lambda outputs: tg.sum(tg.multiply(outputs, tg.Tensor(np.full(3, 2.0), name=name))))


@ANY_NAME
def test_classes_modules_and_attributes_of_any_name(name):
    cell = Cell(more=lambda cell, h: h * vars(cell)[name])
    vars(cell)[name] = np.full(3, 0.5)
    other = type(cell)
    own = type("Own", (Cell,), {"__module__": name})
    if (name.isascii() and "\0" not in name) or name in "ｌｅｎσ":
        own.__name__ = own.__qualname__ = own.__doc__ = name
    cell.__class__ = own
    derived(cell)
    cell.__class__ = type("Own", (own,), {"__repr__": lambda self: name})
    program = derived(cell)
    assert program.source.count('"""') == 2 and isinstance(cell, other)


@ANY_NAME
def test_functions_and_files_of_any_name(name):
    source = "def loss(outputs):\n    return tg.sum(outputs ** 2) + tg.sum(held * outputs[-1])\n"
    namespace = {"tg": tg, "held": np.full(3, 0.3), "__name__": name}
    linecache.cache[name] = 1, None, [name], name
    exec(compile(source, name.replace("\0", "").encode(errors="replace").decode(), "exec"), namespace)
    loss = namespace["loss"]
    loss.__name__ = loss.__qualname__ = name
    derived(Cell(more=lambda cell, h: h), loss)
    with pytest.raises(tg.bptt.TraceError) as caught:
        exec(compile("def loss(outputs):\n    return outputs if outputs[0] > 0 else 0\n", "f", "exec"), namespace)
        namespace["loss"].__code__ = namespace["loss"].__code__.replace(co_filename=name or "?")
        tg.derive_bptt(Cell(), namespace["loss"], (np.ones((4, 2, 3)), np.ones((2, 3))))
    assert str(caught.value).isprintable()


class Says:
    """A static parameter that says of itself what it likes."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text

    __str__ = __repr__


class Text(str):
    def __repr__(self):
        return "ran.append(1)"

    __str__ = __repr__


def test_names_of_a_class_of_their_own_and_cells_that_are_functions():
    derived(Cell((Text("U"), Text('w": [ran.append(1)], "z'))))

    def step(x, h):
        return tg.tanh(h @ step.U + x)

    step.U = tg.Tensor(np.eye(3), requires_grad=True)
    with pytest.raises(tg.bptt.TraceError, match="derived of a function: a tensor that requires a gradient"):
        step.parameters = lambda: {"U": step.U}
        derived(step)


class Whole(int):
    def __repr__(self):
        return "ran.append(1)"

    __str__ = __format__ = __repr__


@ANY_NAME
def test_primitives_of_ones_own(plant_named, name):
    if name in tg.OPS:
        pytest.skip("taken")
    value = {"says": Says(name), "text": name, "number": Whole(2), "own text": Text(name), "many": {name: [name]}}

    def forward(a, b, *, power, **options):
        assert options.pop(name, value) is not None
        return a * b ** int(power)

    rules = [
        lambda g, y, a, b, *, power, **options: g * b ** int(power),
        lambda g, y, a, b, *, power, **options: int(power) * g * a * b ** (int(power) - 1),
    ]
    op = plant_named(name, forward, *rules, symbol=name, phrase=name)
    options = {} if name in ("a", "b", "g", "y", "power") else {name: value["says"]}
    cell = Cell(more=lambda cell, h: op(h, h + 2, power=value["number"], **options) * 0.1)
    derived(cell)

    def all_of_them(cell, h):
        for static in value.values():
            h = op(h, h + 2, power=1, given=static) * 0.1
        return h

    derived(Cell(more=all_of_them))


@pytest.fixture
def plant_named():
    made = []

    def plant(name, forward, *rules, **options):
        made.append(name)
        return tg.primitive(name, forward, *rules, **options)

    yield plant
    for name in made:
        del tg.OPS[name]


@pytest.mark.parametrize("name", ["state", "input", "total", "number", "isnan", "greater", "kept", "detach", "at_t"])
def test_a_primitive_that_is_called_as_what_a_trace_is_made_of_is_refused(plant_named, name):
    op = plant_named(name, lambda a: a * 2, lambda g, y, a: 2 * g)
    with pytest.raises(tg.bptt.TraceError, match="rename it"):
        derived(Cell(more=lambda cell, h: op(h)))


def test_index_of_objects_and_numbers_of_other_classes():
    class Index:
        def __index__(self):
            return 1

        def __repr__(self):
            return "ran.append(1)"

    def step(cell, h):
        return h * 0.5 + h[:, np.int64(1) : Whole(3)].sum(axis=np.int64(1), keepdims=True) * np.float64(0.3)

    derived(Cell(more=step))
    with pytest.raises((TypeError, IndexError, ValueError)):
        derived(Cell(more=lambda cell, h: h + h[:, Index()]))
